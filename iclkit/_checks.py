"""Checks of arguments at the border: one clear line per mistake.

For the authors of the library: every public function passes its arguments through these
helpers once, and computes without further checks after that.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import numbers
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")
P = ParamSpec("P")

__all__ = [
    "ImmoderateError",
    "border",
    "broadcast",
    "choice",
    "count",
    "finite_array",
    "flag",
    "function_of",
    "generator",
    "instance",
    "keep",
    "locked",
    "plain_scalar",
    "real_array",
    "same_length",
    "scalar",
    "shown",
    "unmasked",
]

_MOST = 10**15  # no array of so many numbers fits into a machine
_AXES = 32  # the most that NumPy broadcasts
_WIDTH = 60  # characters of a value in a message


def finite_array(
    name: str, values: ArrayLike, *, ndim: int | None, single: bool = False
) -> NDArray[np.float64]:
    """Return `values` as a float64 array of `ndim` axes, or say what is wrong with it.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    values : array_like of real numbers
    ndim : int or None
        Required number of axes, None for any; none of them may be empty.
    single : bool
        Keep float32 where the input has it.

    Returns
    -------
    ndarray of float64
        The input itself where it already is one (no copy).

    Raises
    ------
    TypeError
        If the entries are not real numbers.
    ValueError
        If rows differ in length, the number of axes is wrong, an axis is empty, or an entry is
        not finite.
    """
    array = _real(name, values, "biuf")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    if not (single and array.dtype == np.float32):
        array = _double(array)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def real_array(name: str, values: ArrayLike, *, kinds: str = "biuf") -> NDArray[np.float64]:
    """Return `values` as a float64 array of any shape, NaN allowed; `kinds` are NumPy's letters."""
    return _double(_real(name, values, kinds))


def _real(name: str, values: ArrayLike, kinds: str) -> NDArray[Any]:
    unmasked(name, values)
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length, got a ragged list") from None
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim > _AXES:
        raise ValueError(f"{name} must have at most {_AXES} axes, got {array.ndim}")
    return array


def unmasked(name: str, values: T) -> T:
    """Return `values` if no entry is masked, in lists of lists neither, where NumPy drops masks."""
    if type(values) is np.ndarray:
        return values
    level: list[Any] = [values]
    for _ in range(_AXES + 1):
        # by kinds first, so that long lists of floats are passed through in C
        kinds = set(map(type, level))
        if any(issubclass(kind, np.ma.MaskedArray) for kind in kinds):
            masked = (part for part in level if isinstance(part, np.ma.MaskedArray))
            if any(map(np.ma.is_masked, masked)):
                raise ValueError(f"{name} must have no masked entries; fill them or drop them")
        if not any(issubclass(kind, list | tuple) for kind in kinds):
            break
        lists = (part for part in level if isinstance(part, list | tuple))
        level = list(itertools.chain.from_iterable(lists))
    return values


def _double(array: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # long floats beyond float64 become infinite
        return array.astype(np.float64, copy=False)


def scalar(
    name: str, value: float, *, low: float = 0.0, open_: bool = False, infinite: bool = False
) -> float:
    """Return `value` as a float that is at least `low` (above it if `open_`); finite as a rule."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be finite, got an integer beyond float64") from None
    in_range = number > low if open_ else number >= low
    if not (in_range and (infinite or np.isfinite(number))):
        bound = [f"{'>' if open_ else '>='} {low:g}"] if low > -np.inf else []
        rule = " and ".join(([] if infinite else ["finite"]) + bound)
        raise ValueError(f"{name} must be {rule}, got {number}")
    return number


def locked(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only copy, for records that keep what the caller may write into."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def plain_scalar(name: str, value: float, *, low: float = 0.0, open_: bool = False) -> float:
    """Return `value` as `scalar` does, but an int as it is: fingerprints tell 1 from 1.0."""
    number = scalar(name, value, low=low, open_=open_)
    return value if type(value) is int else number


def keep(record: object, **values: object) -> None:
    """Set fields of a frozen record to what was found of them, in its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(record, name, value)


def count(name: str, value: int, *, low: int = 1, high: float = _MOST) -> int:
    """Return `value` as an int from `low` to `high`; a float is a `TypeError`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    if value < low:
        raise ValueError(f"{name} must be >= {low}, got {shown(value)}")
    if value > high:
        raise ValueError(f"{name} must be at most {high}, got a larger integer")
    return int(value)


def flag(name: str, value: bool) -> bool:
    """Return `value` if it is True or False; a word like "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def choice(name: str, value: str, options: Sequence[str]) -> str:
    """Return `value` if it is one of some words."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {shown(value)}")
    return value


def shown(value: object) -> str:
    """Return a value as one short line for a message."""
    if isinstance(value, int) and abs(value) > _MOST:
        return "an integer of many digits"
    text = " ".join(repr(value).split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def instance(name: str, value: T, kind: type[T], remedy: str) -> T:
    """Return `value` if it is a `kind`; the remedy says where to get one."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}; {remedy}")
    return value


def function_of(name: str, value: Callable[P, T]) -> Callable[P, T]:
    """Return `value` if it can be called."""
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be a function, got {shown(value)}")
    return value


def generator(rng: np.random.Generator) -> np.random.Generator:
    """Return `rng` if it is a numpy Generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng must be a numpy.random.Generator, got {type(rng).__name__}; "
            "make one with iclkit.rng.stream"
        )
    return rng


def same_length(**arrays: NDArray[np.float64]) -> None:
    """Raise unless all named arrays have as many rows as the first one."""
    lengths = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"numbers of rows must agree, got {listed}")


def broadcast(**arrays: NDArray[Any]) -> tuple[int, ...]:
    """Return the shape to which the named arrays broadcast, or say that they do not."""
    try:
        return np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"arguments must broadcast together, got shapes {shapes}") from None


# ------------------------------------------------------------------ the whole call


class ImmoderateError(ValueError):
    """A call that overflowed; the outermost public function names its own argument."""


@overload
def border(function: Callable[P, T], /) -> Callable[P, T]: ...


@overload
def border(
    *, finite: bool = False, **renamed: str
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...


def border(
    function: Callable[P, T] | None = None, /, *, finite: bool = False, **renamed: str
) -> Callable[P, T] | Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a public function whose overflows, flags and complaints end in one clear line.

    Where NumPy would warn of an overflow, a division by zero or an invalid value, and where a
    matrix is singular or the memory ends, the call raises a `ValueError` that names the argument
    of the most extreme size. Keywords that are annotated as bool must be True or False. An error
    of an inner function that names none of the arguments gets their names.

    Parameters
    ----------
    function : callable
        What it does for valid input stays the same, to the bit.
    finite : bool
        Whether a NaN or an infinity in the result is an overflow that NumPy did not see.
    **renamed : str
        What inner functions call an argument, and its name here: ``border(dim="d")``.

    Returns
    -------
    callable

    Examples
    --------
    >>> border(lambda x: np.square(x))(np.array([1.0, 1e200]))
    Traceback (most recent call last):
    iclkit._checks.ImmoderateError: x must be of moderate size, got 1e+200; rescale it
    """
    if function is None:
        return functools.partial(_bordered, finite, renamed)
    return _bordered(finite, renamed, function)


def _bordered(finite: bool, renamed: dict[str, str], function: Callable[P, T]) -> Callable[P, T]:
    declared = inspect.signature(function).parameters
    flags = tuple(name for name in declared if declared[name].annotation in ("bool", bool))

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        for name in flags:
            if name in kwargs:
                flag(name, kwargs[name])  # type: ignore[arg-type]  # it checks any value
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                value = function(*args, **kwargs)
                if finite and not all(np.isfinite(part).all() for part in _numbers(value)):
                    raise OverflowError
                return value
        except (ArithmeticError, MemoryError, np.linalg.LinAlgError, ImmoderateError) as error:
            given = inspect.signature(function).bind(*args, **kwargs).arguments
            raise ImmoderateError(_complaint(given, error)) from error
        except (TypeError, ValueError) as error:
            text = _named(str(error), renamed, declared)
            if text == str(error) or type(error) not in (TypeError, ValueError):
                raise
            raise type(error)(text) from error

    return guarded


def _named(text: str, renamed: dict[str, str], declared: Iterable[str]) -> str:
    """Return a message with the names of this call's arguments."""
    for inner, outer in renamed.items():
        text = re.sub(rf"\b{inner}\b", outer, text)
    names = [name for name in declared if name != "self"]
    if not names or set(re.findall(r"\w+", text)) & {*names, "self"}:
        return text
    return f"{text}; see {', '.join(names)}"


def _complaint(given: dict[str, Any], error: Exception) -> str:
    """Return the line for a call that ended in an arithmetic error, from its arguments."""
    if isinstance(error, MemoryError):
        sizes = {name: value for name, value in given.items() if isinstance(value, int)}
        name = max(sizes, key=lambda name: sizes[name], default=", ".join(given))
        return f"{name} must be smaller, got more numbers than fit into memory"
    extremes = {name: _extreme(value) for name, value in given.items()}
    name = max(extremes, key=lambda name: abs(np.log10(extremes[name])))
    if isinstance(error, np.linalg.LinAlgError):
        return f"{name} must be better conditioned, got a matrix that is singular in float64"
    if "invalid" in str(error):
        return f"{name} must lead to real numbers, got no number at entries of {extremes[name]:.3g}"
    return f"{name} must be of moderate size, got {extremes[name]:.3g}; rescale it"


def _extreme(value: object) -> float:
    """Return the size, of all numbers in an argument, that is the furthest from 1."""
    parts = [np.abs(part[np.isfinite(part) & (part != 0)]).ravel() for part in _numbers(value)]
    sizes = np.concatenate([np.ones(1), *parts])
    return float(sizes[np.abs(np.log10(sizes)).argmax()])


def _numbers(value: object) -> Iterator[NDArray[np.float64]]:
    """Return the arrays of numbers inside an argument: arrays, records, lists of them."""
    if dataclasses.is_dataclass(value):
        value = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    if isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, numbers.Real | np.ndarray):
        array = np.asarray(value)
        if array.dtype.kind in "iuf":
            yield _double(np.atleast_1d(array))
