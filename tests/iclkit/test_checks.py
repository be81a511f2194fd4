import numpy as np
import pytest

from iclkit import _checks


def test_arrays_become_float64_and_float64_is_not_copied():
    values = np.ones(3)
    assert _checks.finite_array("x", values, ndim=1) is values
    assert _checks.finite_array("x", [1, 2], ndim=1).dtype == np.float64


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([[1.0]], ValueError, r"x must have 1 axes, got shape \(1, 1\)"),
        ([], ValueError, "x must not be empty"),
        ([1.0, np.nan], ValueError, "x must be finite, got NaN or infinity"),
        ([1.0, np.inf], ValueError, "x must be finite, got NaN or infinity"),
        ([1j], TypeError, "x must hold real numbers, got dtype complex128"),
        (["a"], TypeError, "x must hold real numbers"),
        (None, TypeError, "x must hold real numbers, got dtype object"),
    ],
)
def test_bad_arrays(values, error, message):
    with pytest.raises(error, match=message):
        _checks.finite_array("x", values, ndim=1)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1), np.array(1.0)])
def test_scalars_become_floats(value):
    assert type(_checks.scalar("p", value)) is float


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1.0, ValueError, "p must be finite and >= 0, got -1.0"),
        (np.nan, ValueError, "p must be finite and >= 0, got nan"),
        (np.inf, ValueError, "p must be finite and >= 0, got inf"),
        ("1", TypeError, "p must be a number, got str"),
        (True, TypeError, "p must be a number, got bool"),
        (None, TypeError, "p must be a number, got NoneType"),
    ],
)
def test_bad_scalars(value, error, message):
    with pytest.raises(error, match=message):
        _checks.scalar("p", value)


def test_an_open_bound_excludes_itself():
    with pytest.raises(ValueError, match="p must be finite and > 0, got 0"):
        _checks.scalar("p", 0.0, open_=True)


@pytest.mark.parametrize("value", [1.0, True, "1", None])
def test_counts_are_integers(value):
    with pytest.raises(TypeError, match="n must be an integer"):
        _checks.count("n", value)


def test_counts_have_a_bound():
    assert _checks.count("n", np.int32(1)) == 1
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        _checks.count("n", 0)


def test_generator_names_the_remedy():
    with pytest.raises(TypeError, match=r"got int; make one with iclkit\.rng\.stream"):
        _checks.generator(0)


def test_same_length_lists_all():
    with pytest.raises(ValueError, match="got x 2, y 3"):
        _checks.same_length(x=np.ones(2), y=np.ones(3))


def test_ragged_lists_are_named():
    with pytest.raises(ValueError, match="x must have rows of one length, got a ragged list"):
        _checks.finite_array("x", [[1, 2], [3]], ndim=2)


def test_a_number_without_bound_is_only_required_to_be_finite():
    with pytest.raises(ValueError, match=r"^u0 must be finite, got nan$"):
        _checks.scalar("u0", float("nan"), low=-np.inf)


def test_integers_beyond_all_numbers():
    with pytest.raises(ValueError, match="x must be finite, got an integer beyond float64"):
        _checks.scalar("x", 10**400)
    with pytest.raises(ValueError, match=r"n must be at most \d+, got a larger integer"):
        _checks.count("n", 2**63)


@pytest.mark.parametrize("value", ["c", None, ["a"], np.array(["a", "b"])])
def test_choices_are_listed(value):
    assert _checks.choice("x", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match="x must be one of a, b, got"):
        _checks.choice("x", value, ("a", "b"))


def test_instances_name_kind_and_remedy():
    assert _checks.instance("x", 3, int, "count") == 3
    with pytest.raises(TypeError, match="x must be a int, got str; count"):
        _checks.instance("x", "3", int, "count")


def test_values_in_messages_are_short_and_on_one_line():
    assert _checks.shown("a\nb") == r"'a\nb'"
    assert len(_checks.shown("x" * 5000)) == 60
    assert _checks.shown(10**5000) == "an integer of many digits"


def test_flags_are_no_words():
    assert _checks.flag("f", np.True_) is True
    with pytest.raises(TypeError, match="f must be True or False, got 'no'"):
        _checks.flag("f", "no")


def test_masked_entries_are_no_numbers():
    with pytest.raises(ValueError, match="x must have no masked entries"):
        _checks.finite_array("x", np.ma.array([1.0, 2.0], mask=[False, True]), ndim=1)


@pytest.mark.parametrize("wrap", [lambda m: [m], lambda m: [[3.0, 4.0], m], lambda m: ([m, m],)])
def test_masked_entries_in_lists_are_no_numbers(wrap):
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    with pytest.raises(ValueError, match="x must have no masked entries"):
        _checks.finite_array("x", wrap(masked), ndim=None)
    assert _checks.finite_array("x", wrap(np.ma.array([1.0, 2.0])), ndim=None).max() >= 2


def test_a_list_that_holds_itself_is_no_array():
    endless = []
    endless.append(endless)
    with pytest.raises((TypeError, ValueError), match="x must"):
        _checks.finite_array("x", endless, ndim=None)


@_checks.border
def _square(x, scale=1.0, *, gaussian: bool = False):
    return scale * np.square(x) + gaussian


@_checks.border(x="values", finite=True)
def _outer(values):
    return np.einsum("i,j->ij", _square(values), _square(values))


def test_a_border_names_the_most_extreme_argument():
    with pytest.raises(ValueError, match=r"^x must be of moderate size, got 1e\+200; rescale it$"):
        _square(np.array([1.0, 1e200]), 3.0)
    with pytest.raises(ValueError, match=r"^scale must be of moderate size, got 1e\+308"):
        _square(np.array([7.0]), 1e308)


def test_a_border_speaks_of_the_outermost_arguments_and_sees_silent_overflows():
    with pytest.raises(ValueError, match=r"^values must be of moderate size"):
        _outer(np.array([1e200]))
    with pytest.raises(ValueError, match=r"^values must be of moderate size"):
        _outer(np.array([1e100]))
    assert _outer(np.array([2.0])) == 16


def test_a_border_asks_for_flags_and_keeps_other_errors():
    with pytest.raises(TypeError, match="gaussian must be True or False, got 'no'"):
        _square(1.0, gaussian="no")
    with pytest.raises(TypeError, match=r"; see x, scale, gaussian$"):
        _square("text")


def test_a_locked_copy_does_not_follow_its_original():
    array = np.ones(2)
    copy = _checks.locked(array)
    array[0] = 5
    assert copy[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        copy[0] = 5


@pytest.mark.parametrize(("value", "kind"), [(1, int), (1.0, float), (np.int8(1), float)])
def test_plain_scalars_keep_whole_numbers_whole(value, kind):
    assert type(_checks.plain_scalar("p", value)) is kind
