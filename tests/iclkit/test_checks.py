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
