"""Checks of arguments at the border: one clear line per mistake.

For the authors of the library: every public function passes its arguments through these
helpers once, and computes without further checks after that.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")

__all__ = ["choice", "count", "finite_array", "generator", "instance", "same_length", "scalar"]

_MOST = 2**63 - 1  # the largest size that NumPy can count


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
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length, got a ragged list") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    if not (single and array.dtype == np.float32):
        array = array.astype(np.float64, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def scalar(name: str, value: float, *, low: float = 0.0, open_: bool = False) -> float:
    """Return `value` as a finite float that is at least `low` (above it if `open_`)."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be finite, got an integer beyond float64") from None
    in_range = number > low if open_ else number >= low
    if not (in_range and np.isfinite(number)):
        bound = f" and {'>' if open_ else '>='} {low:g}" if low > -np.inf else ""
        raise ValueError(f"{name} must be finite{bound}, got {number}")
    return number


def count(name: str, value: int, *, low: int = 1, high: float = _MOST) -> int:
    """Return `value` as an int from `low` to `high`; a float is a `TypeError`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be >= {low}, got {value}")
    if value > high:
        raise ValueError(f"{name} must be at most {high}, got a larger integer")
    return int(value)


def choice(name: str, value: str, options: Sequence[str]) -> str:
    """Return `value` if it is one of some words."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}")
    return value


def instance(name: str, value: T, kind: type[T], remedy: str) -> T:
    """Return `value` if it is a `kind`; the remedy says where to get one."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}; {remedy}")
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
