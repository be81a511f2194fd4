"""One argument does not belong: one clear line that names it, or a result that keeps its promise.

Records that the library itself makes are hostile only by their kind. Those that people fill in
by hand (`hostile.BY_HAND`) are also hostile in each field.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.iclkit.fuzz import registry
from tests.iclkit.fuzz.contract import (
    BrokenPromiseError,
    check_refusal,
    check_value,
    leaves,
    outcome_of,
)
from tests.iclkit.fuzz.hostile import variants
from tests.iclkit.fuzz.profile import examples
from tests.iclkit.fuzz.public import calls
from tests.iclkit.fuzz.world import World
from tests.tolerances import ROUTES

WORLDS = st.builds(World, seed=st.integers(0, 10**6), d=st.integers(2, 3), n=st.integers(4, 5))


def _check(key, world, data):
    call = calls()[key]
    arguments, owner = registry.valid(call, world), registry.owner(call, world)
    found = [
        (name, variant)
        for name, value in arguments.items()
        for variant in variants(value)
        if not registry.allowed(call, name, variant)
    ]
    if not found:
        return
    name, variant = data.draw(st.sampled_from(found), label="argument and variant")
    changed = arguments | {name: variant.value}
    outcome = outcome_of(call, changed, owner)
    if outcome.refusal is not None:
        check_refusal(call, outcome.refusal, changed, owner)
        if variant.outcome == "same" and _plain(call, world).refusal is None:
            raise BrokenPromiseError(f"{name} is fine as {variant.label}: {outcome.refusal}")
        return
    check_value(call, outcome.value)
    if variant.outcome == "error":
        raise BrokenPromiseError(f"{name} is accepted as {variant.label}")
    if variant.outcome == "same":
        _compare(_plain(call, world).value, outcome.value)


def _plain(call, world):
    """Return the outcome of the valid call, with generators that nobody has used."""
    return outcome_of(call, registry.valid(call, world), registry.owner(call, world))


def _compare(wanted, found):
    for one, other in zip(leaves(wanted), leaves(found), strict=True):
        if isinstance(one, float | np.ndarray) and np.asarray(one).dtype.kind == "f":
            size = np.abs(one)[np.isfinite(one)].max(initial=0) if np.ndim(one) else abs(one)
            np.testing.assert_allclose(other, one, rtol=ROUTES, atol=ROUTES * min(size, 1e300))


QUICK = [key for key in calls() if key not in registry.SLOW]


@pytest.mark.parametrize("key", QUICK)
@examples(4)
@given(world=WORLDS, data=st.data())
def test_a_hostile_argument(key, world, data):
    _check(key, world, data)


@pytest.mark.parametrize("key", sorted(registry.SLOW))
@examples(2)
@given(world=WORLDS, data=st.data())
def test_a_hostile_argument_of_a_search(key, world, data):
    _check(key, world, data)
