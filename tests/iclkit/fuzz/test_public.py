"""Every public name of the science side has valid arguments here, and a border of its own."""

import inspect

import pytest

from tests.iclkit.fuzz import registry
from tests.iclkit.fuzz.contract import outcome_of
from tests.iclkit.fuzz.public import calls
from tests.iclkit.fuzz.world import World

WITHOUT_BORDER = {  # they compute nothing
    "rng.stream",
    "hermite.activation",
    "hermite.checked",
    "hermite.derivative",
    "moments.positive_array",  # its name argument is the caller's
}


def test_every_public_call_has_valid_arguments():
    lost = {call.key: names for call in calls().values() if (names := registry.missing(call))}
    assert not lost, f"say in tests/iclkit/fuzz/*_arguments.py what is valid for {lost}"


def test_nothing_is_registered_that_is_not_public():
    known = calls()
    assert set(registry.OVERRIDES) <= set(known)
    assert {key for key, *_ in registry.FREE | registry.ALLOWED} <= set(known)
    owners = {key.rpartition(".")[0] for key, call in known.items() if call.method}
    assert set(registry.SELVES) == owners


def test_every_public_function_has_its_border():
    bare = {
        key
        for key, call in calls().items()
        if not inspect.isclass(call.target) and not hasattr(call.target, "__wrapped__")
    }
    assert bare == WITHOUT_BORDER


@pytest.mark.parametrize("key", calls())
def test_the_valid_arguments_are_valid(key):
    call, world = calls()[key], World(0)
    given = registry.valid(call, world, options=False)
    outcome = outcome_of(call, given, registry.owner(call, world))
    assert outcome.refusal is None
