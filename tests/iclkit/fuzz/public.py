"""The public names of the science side and the calls that the fuzz tests make of them.

Public is what a reader imports: the names in `__all__` of the shared modules and of the packages
of papers and corpora. What only a submodule lists is for its siblings, which have checked.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

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
    """Return everything public that can be called, by key."""
    found: dict[str, Call] = {}
    seen: set[int] = set()
    for module in MODULES:
        section = module.removeprefix("papers.")
        package = importlib.import_module(f"iclkit.{module}")
        for name in package.__all__:
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
