"""Values that do not belong where they stand, made from one that does.

Each is labelled with what must happen: "error" (one clear line), "same" (the result of the valid
call: only the container differs), or "either" (a clear line, or a result that keeps its promise).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np


class Variant(NamedTuple):
    """A value, what it is called, and what must happen with it."""

    label: str
    value: Any
    outcome: str
    like: Any = None  # the plain value that "same" compares with, if not the valid one


class Framed:
    """A table in the manner of pandas: no array, but it turns into one."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=True if copy is None else copy)


HUGE_TEXT = "x" * 5_000
ANYTHING: tuple[tuple[str, Any], ...] = (
    ("none", None),
    ("text", "hostile"),
    ("long text", HUGE_TEXT),
    ("two lines", "a\nb"),
    ("dict", {"a": 1}),
    ("object", object()),
    ("complex", 1j),
)


def variants(value: Any) -> list[Variant]:
    """Return hostile versions of a valid argument, by what it is."""
    return list(_variants(value))


def _variants(value: Any) -> Iterator[Variant]:
    for kinds, make in _MAKERS:
        if isinstance(value, kinds):
            yield from make(value)
            return
    if hasattr(value, "_fields") or dataclasses.is_dataclass(value):
        yield from _of_record(value)
    elif isinstance(value, list | tuple):
        yield from _of_sequence(value)
    elif callable(value):
        yield from _of_function(value)
    else:
        yield from _wrong(*ANYTHING)


def _wrong(*pairs: tuple[str, Any]) -> Iterator[Variant]:
    return (Variant(label, value, "error") for label, value in pairs)


def _of_flag(value: bool) -> Iterator[Variant]:
    yield from _wrong(*ANYTHING, ("two", 2), ("half", 0.5), ("array", np.array([True, False])))
    yield Variant("numpy bool", np.bool_(value), "same")


def _of_integer(value: int) -> Iterator[Variant]:
    yield from _wrong(*ANYTHING, ("half", 1.5), ("nan", np.nan), ("true", True))
    yield from _wrong(
        ("array", np.array([value, value])), ("beyond", 10**400), ("below", -(10**400))
    )
    for other in (0, -1, -(10**5000), 10**15, 2**62, 2**63, float(value), np.inf):
        yield Variant(f"{other:.3g}" if abs(other) < 1e300 else "vast", other, "either")
    for kind in (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64):
        if np.iinfo(kind).min <= value <= np.iinfo(kind).max:
            yield Variant(kind.__name__, kind(value), "same")


def _of_number(value: float) -> Iterator[Variant]:
    yield from _wrong(*ANYTHING, ("nan", np.nan), ("true", True), ("beyond", 10**400))
    yield from _wrong(("array", np.full(7, value)), ("decimal", Decimal(1)), ("minus inf", -np.inf))
    for other in (np.inf, -1.0, 0.0, -0.0, 1e308, 1e155, 1e-155, 1e-308, 5e-324, 1.0, -1e-12):
        yield Variant(f"{other:g}", other, "either")
    yield from (
        Variant(kind.__name__, kind(value), "same") for kind in (np.array, np.float64, Fraction)
    )
    for kind in (np.float32, np.float16):
        short = kind(value)
        yield Variant(kind.__name__, short, "same", like=float(short))


def _of_text(value: str) -> Iterator[Variant]:
    yield from _wrong(*ANYTHING, ("number", 3), ("empty", ""), ("bytes", value.encode()))
    yield from _wrong(("list", [value]), ("array", np.array([value, value])))
    yield Variant("numpy text", np.str_(value), "same")


def _of_generator(_: np.random.Generator) -> Iterator[Variant]:
    yield from _wrong(*ANYTHING, ("seed", 0), ("kind", np.random.Generator), ("module", np.random))


def _of_function(value: Callable[..., Any]) -> Iterator[Variant]:
    yield from _wrong(("none", None), ("number", 3), ("long text", HUGE_TEXT), ("list", [value]))
    yield from _wrong(
        ("to text", lambda *_: "text"),
        ("to none", lambda *_: None),
        ("to nan", lambda z, *_: np.nan * z),
        ("to complex", lambda z, *_: 1j * z),
        ("to a longer", lambda z, *_: np.concatenate([z, z], axis=-1)),
    )


def _of_mapping(value: Mapping[Any, Any]) -> Iterator[Variant]:
    yield from _wrong(*(pair for pair in ANYTHING if pair[0] != "dict"), ("number", 3))
    yield from _wrong(("values", dict.fromkeys(value)), ("list", list(value)))
    yield Variant("empty", {}, "either")


def _of_sequence(value: Sequence[Any]) -> Iterator[Variant]:
    yield from _wrong(*ANYTHING, ("number", 3), ("nones", [None] * len(value)))
    yield Variant("empty", [], "either")
    yield Variant("twice", [*value, *value], "either")
    for inner in variants(value[0]) if len(value) else ():
        outcome = "either" if inner.outcome == "same" else inner.outcome
        yield Variant(f"first: {inner.label}", [inner.value, *value[1:]], outcome)


def _of_record(value: Any) -> Iterator[Variant]:
    yield from _wrong(*ANYTHING, ("number", 3), ("kind", type(value)))
    if hasattr(value, "_fields"):
        yield Variant("plain tuple", tuple(value), "either")
    for field in value._fields if type(value).__name__ in BY_HAND else ():
        for inner in variants(getattr(value, field)):
            if inner.label in FIELDS:
                changed = value._replace(**{field: inner.value})
                yield Variant(f"{field}: {inner.label}", changed, "either")


BY_HAND = ("AttentionMoments", "FeedForward", "Head", "Pool", "Reduced", "Setup", "Weights")
FIELDS = ("none", "text", "nan", "longer", "no axis", "times 1e+200", "empty", "object")


def _of_array(value: np.ndarray) -> Iterator[Variant]:
    yield from _wrong(*ANYTHING)
    if value.size == 0 or value.dtype.kind in "SUO":
        return
    yield from _wrong(
        ("nan", _with_first(value, np.nan)),
        ("complex array", value + 1j),
        ("texts", value.astype(str)),
        ("nones", np.full(value.shape, None)),
        ("dates", np.zeros(value.shape, "M8[s]")),
        ("masked", np.ma.array(value, mask=value == value.flat[0])),
        ("list of masked", [np.ma.array(value, mask=value == value.flat[0])]),
        ("ragged", [[1.0, 2.0], [3.0]]),
        ("beyond", [10**400]),
    )
    yield from (Variant(label, other, "either") for label, other in _changed(value))
    yield from (Variant(label, other, "same") for label, other in _wrapped(value))


def _changed(value: np.ndarray) -> Iterator[tuple[str, Any]]:
    yield "inf", _with_first(value, np.inf)
    yield "minus inf", _with_first(value, -np.inf)
    yield "empty", value[:0] if value.ndim else np.zeros(0)
    yield "empty last", value[..., :0] if value.ndim else np.zeros((0, 3))
    yield "no axis", np.array(1.0)
    yield "more axes", value[None]
    yield "many axes", np.ones((1,) * 40)
    yield "fewer axes", value[0] if value.ndim else np.ones((2, 2))
    yield "turned", value.T.copy()
    yield "longer", np.concatenate([value, value]) if value.ndim else np.ones(7)
    yield "wider", np.concatenate([value, value], axis=-1) if value.ndim else np.ones(7)
    yield "shorter", value[:-1] if value.ndim else np.ones(7)
    yield "zero", np.zeros_like(value)
    yield "negative", -1 * value
    yield "constant", np.ones_like(value)
    yield "bool", value > 0
    yield "whole", np.rint(value).astype(int)
    yield "short floats", value.astype(np.float32)
    yield "shorter floats", value.astype(np.float16)
    yield "huge entry", _with_first(value, 1e300)
    yield "tiny entry", _with_first(value, 1e-300)
    for factor in (1e200, 1e154, 1e80, 1e16, 1e-16, 1e-80, 1e-154, 1e-200, 1e-310):
        yield f"times {factor:g}", value * factor
    if value.ndim == 2 and value.shape[0] == value.shape[1]:
        yield from _changed_square(value)


def _changed_square(value: np.ndarray) -> Iterator[tuple[str, Any]]:
    d = len(value)
    yield "not symmetric", value + np.triu(np.ones((d, d)), 1)
    yield "rounded", value * (1 + 1e-14 * np.arange(d))
    yield "rank one", np.outer(value[0], value[0])
    yield "identity", np.eye(d)
    for power in (4, 8, 100, 150):
        scale = np.logspace(-power, power, d)
        yield f"scaled by 1e{power}", value * scale * scale[:, None]
        yield f"diagonal to 1e{power}", np.diag(scale)


def _wrapped(value: np.ndarray) -> Iterator[tuple[str, Any]]:
    locked = value.copy()
    locked.flags.writeable = False
    yield "read-only", locked
    yield "list", value.tolist()
    yield "by columns", np.asfortranarray(value)
    yield "strided", np.repeat(value, 2, axis=-1)[..., ::2] if value.ndim else value
    yield "reversed", value[::-1].copy()[::-1] if value.ndim else value
    yield "other bytes", value.astype(value.dtype.newbyteorder(">"))
    yield "long floats", value.astype(np.longdouble) if value.dtype.kind == "f" else value
    yield "framed", Framed(value)
    yield "unmasked", np.ma.array(value)


def _with_first(value: np.ndarray, entry: float) -> np.ndarray:
    changed = np.array(value, dtype=float)
    changed.flat[0] = entry
    return changed


_MAKERS: tuple[tuple[Any, Callable[[Any], Iterator[Variant]]], ...] = (
    ((bool, np.bool_), _of_flag),
    (int, _of_integer),
    (float, _of_number),
    (str, _of_text),
    (np.ndarray, _of_array),
    (np.random.Generator, _of_generator),
    (Mapping, _of_mapping),
)
