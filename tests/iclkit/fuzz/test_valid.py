"""Random valid calls: the promised shape, finite numbers, untouched input, the same again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.iclkit.fuzz import registry
from tests.iclkit.fuzz.contract import check_refusal, check_value, leaves, outcome_of
from tests.iclkit.fuzz.profile import examples
from tests.iclkit.fuzz.public import calls
from tests.iclkit.fuzz.shapes import promised
from tests.iclkit.fuzz.world import World

WORLDS = st.builds(
    World,
    seed=st.integers(0, 10**6),
    d=st.integers(1, 4),
    n=st.integers(2, 6),
    k=st.integers(1, 3),
)


def _check(key, world, options):
    call = calls()[key]
    arguments = registry.valid(call, world, options=options)
    first = outcome_of(call, arguments, registry.owner(call, world))
    if first.refusal is not None:  # some worlds are too small for some formulas
        check_refusal(call, first.refusal, arguments, registry.owner(call, world))
        return
    check_value(call, first.value)
    shape = promised(call, arguments)
    if shape is not None:
        found = np.shape(first.value)
        assert len(found) == len(shape)
        assert all(size in (None, axis) for size, axis in zip(shape, found, strict=True))
    again = outcome_of(
        call, registry.valid(call, world, options=options), registry.owner(call, world)
    )
    pairs = zip(leaves(first.value), leaves(again.value), strict=True)
    assert all(_equal(one, other) for one, other in pairs)


def _equal(one, other):
    if isinstance(one, float | np.ndarray) and np.asarray(one).dtype.kind == "f":
        return np.array_equal(one, other, equal_nan=True)
    return type(one) is type(other)


@pytest.mark.parametrize("key", registry.QUICK)
@examples(2)
@given(world=WORLDS, options=st.booleans())
def test_results_keep_their_promise(key, world, options):
    _check(key, world, options)


@pytest.mark.parametrize("key", sorted(registry.SLOW))
@examples(1)
@given(world=WORLDS, options=st.booleans())
def test_results_of_searches_keep_their_promise(key, world, options):
    _check(key, world, options)
