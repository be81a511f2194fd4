"""Shapes as the documentation states them: a result has the axes that its docstring promises.

The names in the documented shapes of the arguments get the sizes of the actual arguments, as do
the arguments that are integers; then the stated shape of the result is a statement to check.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tests.iclkit.fuzz.public import Call

_ARGUMENT = re.compile(r"^(\w[\w, ]*) : \(([^()]*)\) array", re.MULTILINE)
_RESULT = re.compile(r"^\(([^()]*)\) array")
_SHORT = re.compile(r"^Return [^\n]*, \(([^()]*)\)\.$", re.MULTILINE)


def promised(call: Call, arguments: Mapping[str, Any]) -> list[int | None] | None:
    """Return the documented shape of the result, None where an axis or all of it is open."""
    doc = inspect.cleandoc(call.target.__doc__ or "")
    returns = doc.partition("\nReturns\n-------\n")[2]
    stated = _RESULT.match(returns) or (None if returns else _SHORT.search(doc))
    if stated is None or "..." in stated[1]:
        return None
    known = dict(_sizes(doc, arguments))
    return [_size(axis, known) for axis in stated[1].split(",") if axis.strip()]


def _sizes(doc: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in arguments.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield name, value
    for names, shape in _ARGUMENT.findall(doc.partition("\nReturns\n")[0]):
        axes = [axis.strip() for axis in shape.split(",") if axis.strip()]
        for name in names.split(", "):
            given = np.shape(arguments.get(name, 0))
            if len(given) == len(axes):
                yield from ((axis, size) for axis, size in zip(axes, given, strict=True))


def _size(axis: str, known: Mapping[str, int]) -> int | None:
    """Return the size that an axis like `dim + 1` stands for."""
    terms = [term.strip() for term in axis.split("+")]
    sizes = [int(term) if term.isdigit() else known.get(term) for term in terms]
    return None if None in sizes else sum(size or 0 for size in sizes)
