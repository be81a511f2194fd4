"""Values that an answer may return, in one form, and what kind of difference they have.

A float and a 0-d array, a list and an array, a tuple and a list are one value here. Everything
else that a program may return is refused with one line; nothing here calls a method of a value
that is not a plain number, array, text, list or tuple.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Fit",
    "UnfitError",
    "difference",
    "finite",
    "fitted",
    "plain",
    "read",
    "room",
    "shaped",
    "structured",
]

DEEPEST = 6
#: Entries of nested lists that are read at all, and how many times the reference's.
MOST, TIMES = 10_000, 4
#: A value in one form: a float64 array (0-d for a number), text, None, or a tuple of these.
Plain = Any
Pair = tuple[Plain, Plain]


class UnfitError(ValueError):
    """A value that cannot be the answer whatever its numbers are; the text is for the student."""


def plain(value: object, *, depth: int = 0) -> Plain:
    """Return a value in one form: float64 array, text, None, or a tuple where rows differ.

    Raises
    ------
    UnfitError
        If there is something else in it than real numbers and text.

    Examples
    --------
    >>> plain([1, 2]), plain(np.float32(3))
    (array([1., 2.]), array(3.))
    >>> plain([1, [2, 3]])
    (array(1.), array([2., 3.]))
    """
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, bool | int | float | complex | np.generic | np.ndarray):
        return _array(value, depth)
    if isinstance(value, list | tuple):
        return _sequence(value, depth)
    raise UnfitError(f"is of type {type(value).__name__}; return numbers, text, lists or arrays")


def _array(value: Any, depth: int) -> Plain:
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return plain(array.tolist(), depth=depth + 1)
    if array.dtype.kind == "c" and not array.imag.any():
        array = array.real
    if array.dtype.kind == "O" and isinstance(value, int):
        raise UnfitError("is an integer beyond the largest float")
    if array.dtype.kind not in "biuf":
        kind = "complex" if array.dtype.kind == "c" else f"of type {array.dtype}"
        raise UnfitError(f"is {kind}; real numbers are asked for")
    with np.errstate(all="ignore"):
        return array.astype(np.float64)


def _sequence(value: list[Any] | tuple[Any, ...], depth: int) -> Plain:
    if depth == DEEPEST:
        raise UnfitError("is nested too deeply")
    fast = _as_numbers(value)
    if fast is not None:
        return fast
    parts = tuple(plain(part, depth=depth + 1) for part in value)
    shapes = {part.shape if isinstance(part, np.ndarray) else None for part in parts}
    alike = len(shapes) == 1 and None not in shapes
    return np.stack(parts) if alike else parts


def _as_numbers(value: list[Any] | tuple[Any, ...]) -> NDArray[np.float64] | None:
    """Return the array that a list of numbers or of like arrays is, None for any other list."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return array.astype(np.float64) if array.dtype.kind in "biuf" else None


def structured(value: object) -> Plain:
    """Return a reference's value in one form; the parts of a tuple stay apart.

    So each part is compared relative to its own largest entry.

    Examples
    --------
    >>> structured((1e6, 1e-3))
    (array(1000000.), array(0.001))
    """
    if isinstance(value, tuple):
        return tuple(structured(part) for part in value)
    return plain(value)


@dataclass(frozen=True)
class Fit:
    """A reference's value beside an answer of the same build: pairs of arrays or texts."""

    pairs: tuple[Pair, ...]

    def close(self, rtol: float, atol: float) -> bool:
        """Return whether every array is within the tolerance, relative to its largest entry."""
        return all(_close(right, got, rtol, atol) for right, got in self.pairs)


def read(value: object, *, most: int = MOST) -> Plain | UnfitError:
    """Return a value in one form, or the error that says why it has none.

    Lists with more than `most` entries are not looked at: reading them would take long.
    """
    try:
        if isinstance(value, list | tuple) and _entries(value) > most:
            return UnfitError("is far larger than what is asked for")
        return plain(value)
    except UnfitError as error:
        return error


def fitted(reference: Plain, got: Plain | UnfitError) -> Fit:
    """Return an answer in one form beside the reference, or raise `UnfitError` with the reason."""
    if isinstance(got, UnfitError):
        raise got
    return Fit(tuple(_pairs(reference, got)))


def shaped(reference: Plain, value: object) -> Fit:
    """Return any answer beside the reference, or raise `UnfitError` with the reason."""
    return fitted(reference, read(value, most=room(reference)))


def room(reference: Plain) -> int:
    """Return how many entries of an answer are read, next to this reference."""
    return max(MOST, TIMES * _entries(reference))


def _entries(value: object) -> int:
    """Return the number of entries of nested lists, as far down as they are read."""
    level, count = [value], 0
    for _ in range(DEEPEST + 1):
        count += sum(part.size for part in level if isinstance(part, np.ndarray))
        level = [inner for part in level if isinstance(part, list | tuple) for inner in part]
        count += sum(not isinstance(part, list | tuple | np.ndarray) for part in level)
    return count + len(level)


def _pairs(right: Plain, got: Plain) -> Iterator[Pair]:
    if got is None and right is not None:
        raise UnfitError("is None: is a `return` missing?")
    if isinstance(right, tuple):
        yield from _tuple_pairs(right, got)
    elif isinstance(right, np.ndarray):
        yield right, _array_like(right, got)
    elif isinstance(got, str) == isinstance(right, str) and not isinstance(got, tuple | np.ndarray):
        yield right, got
    else:
        raise UnfitError("is not of the type that the exercise asks for")


def _tuple_pairs(right: tuple[Plain, ...], got: Plain) -> Iterator[Pair]:
    parts = tuple(got) if isinstance(got, np.ndarray) and got.ndim else got
    if not isinstance(parts, tuple):
        raise UnfitError("is one value where several are asked for")
    if len(parts) != len(right):
        raise UnfitError(f"has {len(parts)} parts, which is not the number asked for")
    for one, other in zip(right, parts, strict=True):
        yield from _pairs(one, np.asarray(other) if isinstance(other, np.generic) else other)


def _array_like(right: NDArray[np.float64], got: Plain) -> NDArray[np.float64]:
    if isinstance(got, str):
        raise UnfitError("is text where numbers are asked for")
    if isinstance(got, tuple):
        raise UnfitError("is a list whose rows differ in length or type")
    if got.shape != right.shape:
        raise UnfitError(_shape_hint(right, got))
    return np.asarray(got)


def _shape_hint(right: NDArray[np.float64], got: NDArray[np.float64]) -> str:
    if got.ndim > 1 and got.shape == right.shape[::-1]:
        return f"has shape {got.shape}: rows and columns are exchanged"
    shape = f"shape {got.shape}" if got.ndim else "no axes (it is one number)"
    return f"has {shape}, which does not fit these inputs; see what the text asks to return"


def _close(right: Plain, got: Plain, rtol: float, atol: float) -> bool:
    if not isinstance(right, np.ndarray):
        return bool(right == got)
    known = np.isfinite(right)
    if not np.array_equal(right[~known], got[~known], equal_nan=True):
        return False
    scale = np.abs(right[known]).max(initial=0.0)
    with np.errstate(all="ignore"):
        return bool((np.abs(got[known] - right[known]) <= atol + rtol * scale).all())


def finite(fit: Fit) -> bool:
    """Return whether the answer is finite wherever the reference is."""
    arrays = [(r, g) for r, g in fit.pairs if isinstance(r, np.ndarray)]
    return all(bool(np.isfinite(got[np.isfinite(right)]).all()) for right, got in arrays)


# ------------------------------------------------------------------ kinds of differences


def difference(fits: list[Fit], rtol: float) -> str:
    """Return one line on how wrong answers differ from the reference; it says no value.

    Examples
    --------
    >>> difference([shaped(plain([1.0, 2.0]), [-1.0, -2.0])], 1e-6)
    'The sign is wrong.'
    """
    pairs = [(r, g) for fit in fits for r, g in fit.pairs if isinstance(r, np.ndarray)]
    if not all(finite(fit) for fit in fits):
        return "The result has NaN or infinite entries where it should be finite."
    with np.errstate(all="ignore"):
        found = (line for line, rule in _KINDS if pairs and rule(pairs, rtol))
        return next(found, "")


def _all_close(pairs: list[Pair], rtol: float) -> bool:
    return all(_close(right, got, rtol, 1e-12) for right, got in pairs)


def _sign(pairs: list[Pair], rtol: float) -> bool:
    return _all_close([(right, -got) for right, got in pairs], rtol)


def _transposed(pairs: list[Pair], rtol: float) -> bool:
    square = all(right.ndim == 2 and right.shape[0] == right.shape[1] for right, _ in pairs)
    return square and _all_close([(right, got.T) for right, got in pairs], rtol)


def _factors(pairs: list[Pair]) -> list[float]:
    """Return the factor between answer and reference of each pair, by least squares."""
    return [float((r * g).sum() / (r * r).sum()) if np.any(r) else np.nan for r, g in pairs]


def _one_factor(pairs: list[Pair], rtol: float) -> bool:
    factors = _factors(pairs)
    steady = np.ptp(factors) <= 1e-5 * abs(factors[0]) > 0
    return bool(_count(pairs) > 1 and steady) and _up_to(factors, pairs, rtol)


def _own_factor(pairs: list[Pair], rtol: float) -> bool:
    """Return whether each answer is its reference times a number, which depends on the case."""
    factors = _factors(pairs)
    telling = all(right.size > 1 for right, _ in pairs) and all(np.isfinite(factors))
    return telling and all(factors) and _up_to(factors, pairs, rtol)


def _up_to(factors: list[float], pairs: list[Pair], rtol: float) -> bool:
    scaled = [(right * f, got) for (right, got), f in zip(pairs, factors, strict=True)]
    return _all_close(scaled, max(rtol, 1e-6))


def _count(pairs: list[Pair]) -> int:
    return sum(right.size for right, _ in pairs)


def _offset(pairs: list[Pair], rtol: float) -> bool:
    offsets = np.concatenate([(got - right).ravel() for right, got in pairs])
    return bool(offsets.size > 1 and np.ptp(offsets) <= 10 * rtol * abs(offsets[0]))


def _almost(pairs: list[Pair], rtol: float) -> bool:
    return rtol < 1e-3 and _all_close(pairs, 1e-3)


_KINDS = (
    (
        "The result is close, but less precise than it can be: mind rounding and iterations.",
        _almost,
    ),
    ("The sign is wrong.", _sign),
    ("The matrix is transposed.", _transposed),
    ("Everything is wrong by one and the same factor.", _one_factor),
    ("The result is right up to a factor that depends on the inputs.", _own_factor),
    ("Everything is off by one and the same number.", _offset),
)
