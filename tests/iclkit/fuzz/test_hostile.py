"""One argument does not belong: one clear line that names it, or a result that keeps its promise.

Records that the library itself makes are hostile only by their kind. Those that people fill in
by hand (`hostile.BY_HAND`) are also hostile in each field. What only comes in another container,
as an int8 or in a list, is tried whole; of the rest a push draws a few.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.iclkit.fuzz import registry
from tests.iclkit.fuzz.contract import (
    BrokenPromiseError,
    check_refusal,
    check_same,
    check_value,
    outcome_of,
)
from tests.iclkit.fuzz.hostile import variants
from tests.iclkit.fuzz.profile import examples
from tests.iclkit.fuzz.public import calls
from tests.iclkit.fuzz.world import World

WORLDS = st.builds(World, seed=st.integers(0, 10**6), d=st.integers(2, 3), n=st.integers(4, 5))


def _found(key, world):
    """Return each argument of a valid call with each of its variants."""
    call = calls()[key]
    return [
        (name, variant)
        for name, value in registry.valid(call, world).items()
        for variant in variants(value)
        if not registry.allowed(call, name, variant)
    ]


def _check(key, world, name, variant):
    call, owner = calls()[key], registry.owner(calls()[key], world)
    changed = registry.valid(call, world) | {name: variant.value}
    outcome = outcome_of(call, changed, owner)
    if outcome.refusal is not None:
        check_refusal(call, outcome.refusal, changed, owner)
    else:
        check_value(call, outcome.value)
    if variant.outcome == "error" and outcome.refusal is None:
        raise BrokenPromiseError(f"{name} is accepted as {variant.label}")
    if variant.outcome == "same":
        _check_same(call, world, name, variant, outcome)


def _check_same(call, world, name, variant, outcome):
    like = {} if variant.like is None else {name: variant.like}
    wanted = _plain(call, world, like)
    if wanted.refusal is None and outcome.refusal is not None:
        raise BrokenPromiseError(f"{name} is fine as {variant.label}: {outcome.refusal}")
    check_same(wanted.value, outcome.value)


def _plain(call, world, like):
    """Return the outcome of the valid call, with generators that nobody has used."""
    return outcome_of(call, registry.valid(call, world) | like, registry.owner(call, world))


@pytest.mark.parametrize("key", registry.QUICK)
def test_another_container_changes_nothing(key):
    world = World(seed=3, d=3, n=5)
    for name, variant in _found(key, world):
        if variant.outcome == "same":
            _check(key, world, name, variant)


def _draw(key, world, data):
    found = [pair for pair in _found(key, world) if pair[1].outcome != "same"]
    if found:
        _check(key, world, *data.draw(st.sampled_from(found), label="argument and variant"))


@pytest.mark.parametrize("key", registry.QUICK)
@examples(4)
@given(world=WORLDS, data=st.data())
def test_a_hostile_argument(key, world, data):
    _draw(key, world, data)


@pytest.mark.parametrize("key", sorted(registry.SLOW))
@examples(2)
@given(world=WORLDS, data=st.data())
def test_a_hostile_argument_of_a_search(key, world, data):
    _draw(key, world, data)
