"""Old names that still work: each warns for one minor release and then goes.

A renamed name leaves its module's ``__all__`` and enters `RENAMED`. Its old module, or what is left
of it, ends with ``__getattr__ = old_names(__name__)``. A function with a renamed argument gets
`old_arguments`.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, ParamSpec, TypeVar

__all__ = [
    "OLD_ARGUMENTS",
    "RENAMED",
    "RenamedWarning",
    "old_arguments",
    "old_names",
    "overdue",
    "removal",
]

P = ParamSpec("P")
T = TypeVar("T")

#: Old dotted name: its new dotted name, and the first version that warns.
RENAMED: Final[dict[str, tuple[str, str]]] = {}

#: The same for arguments, such as "iclkit.rng.stream.names"; `old_arguments` fills it.
OLD_ARGUMENTS: Final[dict[str, tuple[str, str]]] = {}


class RenamedWarning(FutureWarning):
    """A name of `iclkit` has a new one; shown wherever the old one is used, notebooks included."""


def old_names(
    module: str, renamed: Mapping[str, tuple[str, str]] = RENAMED
) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module that answers to old names, with a warning.

    Parameters
    ----------
    module : str
        Its dotted name.
    renamed : dict, optional
        In the form of `RENAMED`.

    Examples
    --------
    >>> find = old_names("iclkit.rng", {"iclkit.rng.flow": ("iclkit.rng.stream", "0.1.0")})
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     print(find("flow").__name__, "--", seen[0].message)
    stream -- iclkit.rng.flow is now iclkit.rng.stream; the old name goes in 0.2.0
    """

    def find(name: str) -> Any:
        old = f"{module}.{name}"
        if old not in renamed:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new, since = renamed[old]
        text = f"{old} is now {new}; the old name goes in {removal(since)}"
        warnings.warn(text, RenamedWarning, stacklevel=2)
        place, _, target = new.rpartition(".")
        return getattr(import_module(place), target)

    return find


def old_arguments(since: str, **renamed: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator by which a function still takes keywords by their old names.

    Parameters
    ----------
    since : str
        The first version that warns.
    **renamed : str
        The new name of each old one.

    Raises
    ------
    TypeError
        By the function, if an argument is given by both names.

    Examples
    --------
    >>> @old_arguments("0.1.0", times="n")
    ... def repeat(text, n):
    ...     return n * text
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.simplefilter("always")
    ...     print(repeat("a", times=2), str(seen[0].message).partition("repeat")[2])
    aa .times is now n; the old name goes in 0.2.0
    """

    def decorated(function: Callable[P, T]) -> Callable[P, T]:
        place = f"{function.__module__}.{function.__qualname__}"
        OLD_ARGUMENTS.update({f"{place}.{old}": (new, since) for old, new in renamed.items()})

        @functools.wraps(function)
        def renaming(*args: P.args, **kwargs: P.kwargs) -> T:
            for old in kwargs.keys() & renamed.keys():
                new = renamed[old]
                if new in kwargs:
                    raise TypeError(f"{new} must be given once, got it as {old} too, its old name")
                text = f"{place}.{old} is now {new}; the old name goes in {removal(since)}"
                warnings.warn(text, RenamedWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renaming

    return decorated


def removal(since: str) -> str:
    """Return the version without a name that warns since `since`: the next minor one.

    Examples
    --------
    >>> removal("0.2.1")
    '0.3.0'
    """
    major, minor = since.split(".")[:2]
    return f"{major}.{int(minor) + 1}.0"


def overdue(version: str, renamed: Mapping[str, tuple[str, str]] = RENAMED) -> list[str]:
    """Return the old names that `version` should not have any more.

    Examples
    --------
    >>> overdue("0.10.0", {"iclkit.a.b": ("iclkit.a.c", "0.8.0"), "iclkit.a.d": ("x.y", "0.10.0")})
    ['iclkit.a.b']
    """
    reached = parts(version)
    return [old for old, (_, since) in renamed.items() if parts(removal(since)) <= reached]


def parts(version: str) -> tuple[int, ...]:
    """Return the numbers of a version."""
    return tuple(int(part) for part in version.split("."))
