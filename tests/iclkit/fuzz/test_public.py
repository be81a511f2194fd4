"""Every public name of the science side has valid arguments here, and a border of its own."""

import inspect
from pathlib import Path

import pytest

import iclkit
from tests.iclkit.fuzz import registry
from tests.iclkit.fuzz.contract import outcome_of
from tests.iclkit.fuzz.public import APART, MODULES, calls
from tests.iclkit.fuzz.world import World

WITHOUT_BORDER = {  # they compute nothing
    "rng.stream",
    "hermite.activation",
    "hermite.checked",
    "hermite.derivative",
    "moments.positive_array",  # its name argument is the caller's
}
ELSEWHERE = {  # by the place of their tests
    "nets": "test_nets_fuzz",
    "papers": "its packages, each by itself",
    "bench": "test_apart, module by module",
    "classroom": "classroom: what students hand in",
    "site": "site: the pages of a whole book",
    "cli": "test_cli",
    "data": "no code",
}


def test_every_module_is_fuzzed_or_its_tests_are_named():
    top = Path(iclkit.__file__).parent
    found = {path.stem for path in top.glob("[a-z]*") if path.suffix in ("", ".py")}
    found |= {f"papers.{path.stem}" for path in top.glob("papers/[a-z]*")}
    known = {*MODULES, *ELSEWHERE, *(name for name in APART if "." not in name)}
    assert found == known


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
