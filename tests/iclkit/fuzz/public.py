"""The public names of the library and the calls that the fuzz tests make of them.

Public is what a reader imports: the names in `__all__` of the shared modules and of the packages
of papers (`calls`), and of the corpora and the modules of the bench (`apart`, for `test_apart`).
What only a submodule lists is for its siblings, which have checked.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import iclkit

MODULES = (
    "rng",
    "hermite",
    "prompts",
    "features",
    "moments",
    "solvers",
    "predictors",
    "risk",
    "papers.phase_transition",
    "papers.linear_block",
    "papers.dual_kernel",
    "papers.data_mixing",
)

BENCH = sorted(p.stem for p in Path(iclkit.__file__).parent.glob("bench/[a-z]*.py"))
APART = ("corpora", *(f"bench.{name}" for name in BENCH))


class Call(NamedTuple):
    """Something public that can be called: a function, a class with checks, or a method."""

    section: str
    name: str
    target: Callable[..., object]
    method: bool = False

    @property
    def key(self) -> str:
        """Name for the registry and for pytest."""
        return f"{self.section}.{self.name}"

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Parameters by name, without `self`."""
        found = dict(inspect.signature(self.target).parameters)
        if self.method:
            found.pop("self")
        return found


@cache
def calls() -> dict[str, Call]:
    """Return everything public of the science side that can be called, by key."""
    return _found(MODULES)


@cache
def apart() -> dict[str, Call]:
    """Return everything public of the corpora and the bench that can be called, by key."""
    return _found(APART)


def _found(modules: tuple[str, ...]) -> dict[str, Call]:
    found: dict[str, Call] = {}
    seen: set[int] = set()
    for module in modules:
        section = module.removeprefix("papers.")
        package = importlib.import_module(f"iclkit.{module}")
        for name in getattr(package, "__all__", ()):
            value = getattr(package, name)
            if id(value) not in seen:
                seen.add(id(value))
                found.update((call.key, call) for call in _calls_of(section, name, value))
    return found


def _calls_of(section: str, name: str, value: object) -> Iterator[Call]:
    if inspect.isclass(value):
        yield from _of_class(section, name, value)
    elif inspect.isfunction(value) or hasattr(value, "__wrapped__"):
        yield Call(section, name, value)


def _of_class(section: str, name: str, kind: type) -> Iterator[Call]:
    if getattr(kind, "_is_protocol", False) or issubclass(kind, Exception):
        return
    if hasattr(kind, "__post_init__"):
        yield Call(section, name, kind)
    for member, value in vars(kind).items():
        if inspect.isfunction(value) and _is_public(member):
            yield Call(section, f"{name}.{member}", value, method=True)


def _is_public(member: str) -> bool:
    return member == "__call__" or not member.startswith("_")
