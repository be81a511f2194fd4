import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit.rng import stream

PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def first(*name, seed=0):
    return stream(seed, *name).integers(2**63)


@given(PARTS)
def test_same_name_same_stream(part):
    assert first("cell", part) == first("cell", part)


def test_a_name_is_a_value_not_a_type():
    assert first({"tau": 0.5, "d": 20}) == first({"d": np.int64(20), "tau": np.float64(0.5)})
    assert first(1) == first(1.0) == first(np.float32(1))
    assert first((1, 2)) == first([1, 2]) == first(np.array([1, 2]))
    assert first(0.0) == first(-0.0)
    assert first(np.inf) == first(float("inf"))


def test_different_names_and_seeds_differ():
    names = [(), ("a",), ("b",), ("a", "b"), ("ab",), (1,), ("1",), (True,), (None,), (0.5,)]
    draws = [first(*name, seed=seed) for name in names for seed in (0, 1, 2**70)]
    assert len(set(draws)) == len(draws)


def test_names_of_many_digits():
    assert first(10**4300 - 1) != first(10**4300 - 2)


def test_streams_look_independent():
    draws = np.array([stream(0, "cell", i).standard_normal(50) for i in range(200)])
    correlations = draws @ draws.T / 50
    off = correlations[np.triu_indices(200, 1)]
    assert abs(off.mean()) < 4.5 / np.sqrt(50 * off.size)


def test_streams_do_not_depend_on_the_process():
    code = "from iclkit.rng import stream; print(stream(3, 'a', {'k': 2}).integers(2**63))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == first("a", {"k": 2}, seed=3)


def test_the_first_draw_is_pinned():
    """Published numbers rest on these streams: changing them is a decision, not an accident."""
    assert stream(0, "pin", {"d": 20}).integers(10**6) == 246549


@pytest.mark.parametrize(
    ("seed", "name", "error", "message"),
    [
        (-1, (), ValueError, "seed must be >= 0, got -1"),
        (0.5, (), TypeError, "seed must be an integer"),
        (0, (np.nan,), ValueError, "must not contain NaN"),
        (0, (object(),), TypeError, "must be made of plain values, got object"),
        (0, (10**4300,), ValueError, "must hold integers of at most 4300 digits, got a longer"),
        (0, ([-(10**5000)],), ValueError, "must hold integers of at most 4300 digits"),
        (0, ({1: 2},), TypeError, "keys in a stream's name must be strings, got 1"),
    ],
)
def test_bad_input(seed, name, error, message):
    with pytest.raises(error, match=message):
        stream(seed, *name)
