import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from iclkit.classroom.values import (
    DEEPEST,
    MOST,
    UnfitError,
    difference,
    finite,
    plain,
    shaped,
    structured,
)

FLOATS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
ARRAYS = arrays(float, array_shapes(max_dims=3, max_side=4), elements=FLOATS)


def nested(depth, value=1.0):
    for _ in range(depth):
        value = [value]
    return value


class Sneaky:
    """Says that it is equal to everything, and an array of anything."""

    def __eq__(self, other):
        return True

    def __array__(self, dtype=None, copy=None):
        return np.zeros(3)

    def __float__(self):
        return 0.0

    __hash__ = None


class TestPlain:
    @given(array=ARRAYS)
    def test_lists_and_arrays_are_one_value(self, array):
        np.testing.assert_array_equal(plain(array.tolist()), plain(array))
        np.testing.assert_array_equal(plain(tuple(array)), plain(array))

    @pytest.mark.parametrize("three", [3, 3.0, np.int8(3), np.float32(3), np.array(3), 3 + 0j])
    def test_numbers_are_arrays_without_axes(self, three):
        assert plain(three).dtype == np.float64
        assert plain(three).shape == ()
        assert plain(three) == 3

    def test_rows_of_different_length_stay_apart(self):
        short, long = plain([[1], [2, 3]])
        assert short.shape == (1,)
        assert long.shape == (2,)

    def test_text_and_nothing_stay(self):
        assert plain(["a", np.str_("b"), None]) == ("a", "b", None)
        assert plain(np.array(["a", "b"])) == ("a", "b")

    def test_empty_is_an_array(self):
        assert plain([]).shape == (0,)

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ({1, 2}, "is of type set"),
            ({"a": 1}, "is of type dict"),
            (b"1", "is of type bytes"),
            (Sneaky(), "is of type Sneaky"),
            ([1.0, Sneaky()], "is of type Sneaky"),
            (1j, "complex"),
            (np.array([1, 1j]), "complex"),
            (np.array(["2020-01-01"], dtype="datetime64[D]"), "of type datetime64"),
            (np.array([Sneaky()], dtype=object), "of type object"),
            (10**400, "beyond the largest float"),
            ([1, 10**400], "beyond the largest float"),
            (nested(DEEPEST + 2, None), "too deeply"),
            ([None, nested(5000)], "too deeply"),
        ],
        ids=range(13),
    )
    def test_refuses_the_rest_with_one_line(self, value, reason):
        with pytest.raises(UnfitError, match=reason) as caught:
            plain(value)
        assert "\n" not in str(caught.value)


class TestShaped:
    @given(array=ARRAYS)
    def test_a_value_fits_itself(self, array):
        assert shaped(structured(array), array.tolist()).close(0.0, 0.0)

    @pytest.mark.parametrize("right", [2.0, np.array(2.0), 2])
    @pytest.mark.parametrize("got", [2.0, np.array(2.0), 2, np.float32(2)])
    def test_scalars_fit_arrays_without_axes(self, right, got):
        assert shaped(structured(right), got).close(1e-6, 0.0)

    @pytest.mark.parametrize("got", [[2.0], np.array([2.0]), np.array([[2.0]]), [], "2.0", None])
    def test_scalars_fit_nothing_else(self, got):
        with pytest.raises(UnfitError):
            shaped(structured(2.0), got)

    def test_parts_of_a_tuple_have_their_own_scale(self):
        right = structured((1e9, 1.0))
        assert shaped(right, [1e9 + 1, 1.0]).close(1e-6, 0.0)
        assert not shaped(right, np.array([1e9, 1.1])).close(1e-6, 0.0)

    @pytest.mark.parametrize("got", [(1.0,), (1.0, 2.0, 3.0), 1.0, None, "ab", [[1.0, 2.0]]])
    def test_tuples_need_all_parts(self, got):
        with pytest.raises(UnfitError):
            shaped(structured((1.0, 2.0)), got)

    def test_text_is_compared_as_text(self):
        assert shaped("left", "left").close(0, 0)
        assert not shaped("left", "Left").close(0, 0)
        for got in (1.0, ("left",), None):
            with pytest.raises(UnfitError):
                shaped("left", got)

    def test_says_that_rows_and_columns_are_exchanged(self):
        with pytest.raises(UnfitError, match="rows and columns"):
            shaped(np.zeros((2, 3)), np.zeros((3, 2)))

    def test_far_too_many_entries_cost_no_time(self):
        start = time.process_time()
        for got in ([None] * 300_000, [[None] * 1000] * 300):
            with pytest.raises(UnfitError, match="far larger"):
                shaped(structured(1.0), got)
        assert time.process_time() - start < 5
        assert shaped(np.zeros(2 * MOST), [0.0] * (2 * MOST)).close(0, 0)


class TestClose:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.7e308, -1.7e308])
    def test_nothing_infinite_is_close(self, bad):
        right = structured([1.0, 2.0])
        assert not shaped(right, [1.0, bad]).close(1e6, 1e6)

    def test_infinities_and_nan_must_be_where_the_reference_has_them(self):
        right = structured([1.0, np.inf, -np.inf, np.nan])
        assert shaped(right, [1.0, np.inf, -np.inf, np.nan]).close(1e-6, 0)
        for got in ([1, np.inf, np.inf, np.nan], [1, np.inf, -np.inf, 0], [np.nan] * 4):
            assert not shaped(right, got).close(1e6, 1e6)

    @given(array=ARRAYS, index=st.integers(0, 10**6), rtol=st.sampled_from([1e-9, 1e-6, 1e-3]))
    def test_tolerance_is_relative_to_the_largest_entry(self, array, index, rtol):
        scale = np.abs(array).max()
        got = array.copy()
        got.flat[index % got.size] += 2 * rtol * scale
        assert shaped(structured(array), got).close(rtol, 1e-300) == (scale == 0)

    def test_empty_fits_only_empty(self):
        assert shaped(structured([]), []).close(0, 0)
        with pytest.raises(UnfitError):
            shaped(structured([]), [0.0])


class TestDifference:
    RIGHT = structured(np.array([[1.0, 2.0], [-4.0, 3.5]]))

    def line(self, change, rtol=1e-6):
        return difference([shaped(self.RIGHT, change(self.RIGHT))], rtol)

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda a: -a, "sign"),
            (lambda a: a.T, "transposed"),
            (lambda a: 3 * a, "one and the same factor"),
            (lambda a: a + 0.5, "one and the same number"),
            (lambda a: a * (1 + 1e-4 * a), "less precise"),
            (lambda a: a * np.nan, "NaN"),
            (lambda a: a / np.array([[0.0, 1], [1, 1]]), "NaN"),
        ],
    )
    def test_names_the_kind(self, change, word):
        with np.errstate(all="ignore"):
            assert word in self.line(change)

    def test_is_silent_where_it_knows_nothing(self):
        assert self.line(np.exp) == ""

    def test_a_factor_may_depend_on_the_inputs(self):
        fits = [shaped(c * self.RIGHT, c**2 * self.RIGHT) for c in (2.0, 3.0)]
        assert "depends on the inputs" in difference(fits, 1e-6)

    def test_one_number_is_no_pattern(self):
        assert difference([shaped(structured(2.0), 3.0)], 1e-6) == ""

    def test_numbers_in_two_cases_show_a_factor(self):
        fits = [shaped(structured(r), 3 * r) for r in (2.0, 5.0)]
        assert "one and the same factor" in difference(fits, 1e-6)

    @given(right=ARRAYS, got=ARRAYS)
    def test_never_fails_nor_shows_a_number(self, right, got):
        got = np.resize(got, right.shape)
        line = difference([shaped(right, got)], 1e-6)
        assert not any(sign.isdigit() for sign in line)

    def test_finite_is_asked_only_where_the_reference_is(self):
        assert finite(shaped(structured([np.inf, 1.0]), [0.0, 1.0]))
        assert not finite(shaped(structured([np.inf, 1.0]), [0.0, np.inf]))
