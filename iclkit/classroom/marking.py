"""Marks: from the outputs of an answer to points and hints, in the grader's own process.

The answer's code never runs here. It gets the hidden inputs of `calls` elsewhere and its replies
come back as plain values, which are compared with what the reference returns on the same inputs.

Whatever a reply holds, a test gives all of its points or none. A hint says what kind of mistake
it looks like; it holds no expected value and no hidden input.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import ndtri

from iclkit.classroom.course import Course
from iclkit.classroom.course import numbers as own_numbers
from iclkit.classroom.sandbox import Call, Reply
from iclkit.classroom.source import Item, solved
from iclkit.classroom.spec import Estimate, Holds, Mistake, Number, Test, Values
from iclkit.classroom.values import (
    Fit,
    UnfitError,
    difference,
    finite,
    fitted,
    read,
    room,
    structured,
)
from iclkit.rng import stream

__all__ = [
    "TAIL",
    "Mark",
    "calls",
    "given",
    "here",
    "limit",
    "marks",
    "replies_of",
    "unfit_calls",
]

#: A mean of independent draws has longer tails than a Gaussian: at z errors by a factor of about
#: exp(z**3 s / 6), with s the skewness of the mean. A thousandth of the budget goes to the
#: Gaussian tail, so that s up to 0.2 (a mean of 200 draws of a squared Gaussian) is covered.
TAIL = 1e-3

#: Deviation of a mean without variance that counts as rounding.
EXACT = 1e-9


@dataclass(frozen=True)
class Mark:
    """What one test gives.

    Parameters
    ----------
    points, out_of : int
    about : str
        What is tested.
    hint : str
        "" if all points are given.
    mistake : str
        Name of the documented mistake whose outputs the answer has, "" if none.
    """

    points: int
    out_of: int
    about: str
    hint: str
    mistake: str = ""


# ------------------------------------------------------------------ hidden inputs


def given(item: Item, *, course: Course, student: str) -> dict[str, Any]:
    """Return the names that the answer finds besides its own: the student's numbers."""
    numbers = _own(item, course, student)
    return {"numbers": numbers} if numbers else {}


def _own(item: Item, course: Course, student: str) -> dict[str, Any]:
    choices = item.tests.numbers
    return own_numbers(choices, salt=course.salt, student=student, exercise=item.key)


def calls(item: Item, *, course: Course, student: str, assignment: str) -> list[Call]:
    """Return the hidden calls of all tests, in order; all students get the same inputs.

    Parameters
    ----------
    item : Item
    course : Course
        Its seed determines the inputs.
    student : str
        Whose numbers apply.
    assignment : str
        Its name.
    """
    return [call for part in _sheet(item, course, student, assignment).parts for call in part.calls]


@dataclass(frozen=True)
class Part:
    """One test with its hidden calls, and what the reference returns to them."""

    test: Test
    calls: tuple[Call, ...]
    right: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """An exercise's tests with hidden inputs, the reference's and the mistakes' outputs."""

    numbers: dict[str, Any]
    parts: tuple[Part, ...]
    mistakes: Callable[[], dict[str, list[list[Reply]]]]


def _sheet(item: Item, course: Course, student: str, assignment: str) -> Sheet:
    numbers = _own(item, course, student)
    return _kept_sheets(item)(course.seed, assignment, tuple(numbers.items()))


@cache
def _kept_sheets(item: Item) -> Callable[..., Sheet]:
    """Return `_made_sheet` of an item with its latest results: few, for inputs can be large."""
    most = 32 if item.tests.numbers else 2
    return lru_cache(maxsize=most)(partial(_made_sheet, item))


def _made_sheet(
    item: Item, seed: int, assignment: str, numbers: tuple[tuple[str, Any], ...]
) -> Sheet:
    names = solved(item, dict(numbers))
    parts = tuple(
        _part(test, names, dict(numbers), stream(seed, "hidden", assignment, item.key, index))
        for index, test in enumerate(item.tests.tests)
    )
    wanted = [call for part in parts for call in part.calls]

    @lru_cache(maxsize=1)
    def mistakes() -> dict[str, list[list[Reply]]]:
        made = item.tests.mistakes
        replies = {m.name: replies_of(item, wanted, dict(numbers), mistake=m) for m in made}
        return {name: _read(parts, got) for name, got in replies.items()}

    return Sheet(dict(numbers), parts, mistakes)


def _part(
    test: Test, names: dict[str, Any], numbers: dict[str, Any], rng: np.random.Generator
) -> Part:
    if isinstance(test, Number):
        return Part(test, (Call(test.name, None),), (structured(test.expected(dict(numbers))),))
    cases = [tuple(case) for case in _quietly(test.cases, rng)]
    if not cases:
        raise ValueError(f"a test of `{test.name}` has no case: every answer would pass")
    if isinstance(test, Estimate):
        right = tuple(_quietly(test.expected, *copy.deepcopy(case)) for case in cases)
        seeded = tuple(Call(test.name, (*case, int(rng.integers(2**31)))) for case in cases)
        return Part(test, seeded, right)
    made = tuple(Call(test.name, case) for case in cases)
    return Part(test, made, tuple(_right(reply) for reply in here(names, made)))


def _right(reply: Reply) -> Any:
    if reply.problem:
        raise ValueError(f"the reference fails: {reply.problem}")
    return structured(reply.value)


# ------------------------------------------------------------------ trusted answers


def here(names: Mapping[str, Any], wanted: Sequence[Call]) -> list[Reply]:
    """Return the replies of trusted code: the reference, or a documented mistake.

    Every call gets arguments of its own, so that an answer that writes into them spoils no other.
    """
    return [_quietly(_reply, names, call) for call in wanted]


def replies_of(
    item: Item,
    wanted: Sequence[Call],
    numbers: Mapping[str, Any],
    *,
    mistake: Mistake | None = None,
) -> list[Reply]:
    """Return the replies of the reference solution, or of a documented mistake."""
    try:
        names = solved(item, numbers, mistake)
    except Exception as error:
        return [Reply(problem=_raises(error))] * len(wanted)
    return here(names, wanted)


def _reply(names: Mapping[str, Any], call: Call) -> Reply:
    if call.name not in names:
        return Reply(problem=f"`{call.name}` is not defined")
    if call.arguments is None:
        return Reply(copy.deepcopy(names[call.name]))
    try:
        return Reply(names[call.name](*copy.deepcopy(call.arguments)))
    except Exception as error:
        return Reply(problem=_raises(error))


def unfit_calls(wanted: Sequence[Call]) -> list[str]:
    """Return one line for each call whose arguments cannot be handed to a student's process."""
    return [f"{c.name}: {line}" for c in wanted if (line := _unfit_argument(c.arguments or ()))]


def _unfit_argument(value: object) -> str:
    if isinstance(value, list | tuple):
        return next((line for part in value if (line := _unfit_argument(part))), "")
    if isinstance(value, np.ndarray):
        return "" if value.dtype.kind in "bif" else f"an array of type {value.dtype}"
    plain_kinds = (bool, int, float, str, type(None))
    return "" if type(value) in plain_kinds else f"an argument is a {type(value).__name__}"


def _raises(error: Exception) -> str:
    return f"your cell raises {type(error).__name__}: {error}"


def _quietly(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what work returns, without warnings: wrong answers overflow and divide by zero."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return work(*arguments)


# ------------------------------------------------------------------ points


def marks(
    item: Item, replies: Sequence[Reply], *, course: Course, student: str, assignment: str
) -> list[Mark]:
    """Return one mark per test from the replies to `calls`, in their order.

    A missing reply counts as a failed call. A test whose answers are wrong has the hint of the
    documented mistake with the same outputs, if there is one; that of the mistake with the most
    tests in common, if there are several.
    """
    sheet = _sheet(item, course, student, assignment)
    by_part = _read(sheet.parts, replies)
    pairs = list(zip(sheet.parts, by_part, strict=True))
    lines = [_quietly(_judged, part, got) for part, got in pairs]
    if not any(lines):
        return [_full(part.test) for part in sheet.parts]
    names = _quietly(_resembled, sheet, by_part)
    hints = {mistake.name: mistake.hint for mistake in item.tests.mistakes}
    return [
        _none(part.test, hints.get(name, line), name) if line else _full(part.test)
        for part, line, name in zip(sheet.parts, lines, names, strict=True)
    ]


def _full(test: Test) -> Mark:
    return Mark(test.points, test.points, test.about, "")


def _none(test: Test, hint: str, mistake: str) -> Mark:
    return Mark(0, test.points, test.about, hint, mistake)


def _read(parts: Sequence[Part], replies: Sequence[Reply]) -> list[list[Reply]]:
    """Return the replies to each part, with each value in its one form or its `UnfitError`."""
    most = [[room(right) for right in part.right] for part in parts]
    return [
        [
            Reply(read(reply.value, most=n), reply.problem)
            for reply, n in zip(got, rooms, strict=True)
        ]
        for got, rooms in zip(_split(replies, [len(row) for row in most]), most, strict=True)
    ]


def _split(replies: Sequence[Reply], counts: Sequence[int]) -> list[list[Reply]]:
    lacking = max(sum(counts) - len(replies), 0)
    all_ = [*replies, *[Reply(problem="there is no reply")] * lacking]
    return [all_[a:b] for a, b in pairwise(np.cumsum([0, *counts]))]


def _judged(part: Part, replies: Sequence[Reply]) -> str:
    """Return "" for a test that holds, else one line on why it does not."""
    problem = next((reply.problem for reply in replies if reply.problem), "")
    if problem:
        return problem
    try:
        if isinstance(part.test, Estimate):
            return _estimate_line(part, replies)
        fits = [fitted(right, r.value) for right, r in zip(part.right, replies, strict=True)]
    except UnfitError as error:
        return f"`{part.test.name}` {error}."
    if isinstance(part.test, Holds):
        return _property_line(part.test, part, fits)
    return _values_line(part.test, fits)


def _values_line(test: Values | Number, fits: list[Fit]) -> str:
    if all(fit.close(test.rtol, test.atol) for fit in fits):
        return ""
    return difference(fits, test.rtol) or _other(test)


def _other(test: Values | Number) -> str:
    if isinstance(test, Number):
        return "The number is wrong: check the formula on the practice parameters first."
    return "The values differ from the definition: work one small case by hand and compare."


# ------------------------------------------------------------------ properties


def _property_line(test: Holds, part: Part, fits: list[Fit]) -> str:
    """Judge a property of outputs that have the reference's build and are finite where it is.

    So no property holds for want of entries, or because NaN compares as false.
    """
    if not all(finite(fit) for fit in fits):
        return difference(fits, 0.0)
    outputs = [_rebuilt(right, fit) for right, fit in zip(part.right, fits, strict=True)]
    cases = [copy.deepcopy(call.arguments or ()) for call in part.calls]
    try:
        holds = bool(test.verdict(list(zip(cases, outputs, strict=True))))
    except Exception:
        holds = False  # the verdict could not read it: this is not what was asked for
    return "" if holds else test.hint


def _rebuilt(right: Any, fit: Fit) -> Any:
    """Return the answer in the reference's build: floats, float64 arrays, text, tuples of these."""
    got = iter(fit.pairs)
    return _build(right, got)


def _build(right: Any, got: Any) -> Any:
    if isinstance(right, tuple):
        return tuple(_build(part, got) for part in right)
    value = next(got)[1]
    return value.item() if isinstance(value, np.ndarray) and not value.ndim else value


# ------------------------------------------------------------------ estimates


def _estimate_line(part: Part, replies: Sequence[Reply]) -> str:
    test = part.test
    assert isinstance(test, Estimate)
    pairs = zip(part.right, replies, strict=True)
    lines = [_one_estimate(test, right, _pair(r.value), len(replies)) for right, r in pairs]
    return next((line for line in lines if line), "")


def _pair(value: Any) -> tuple[float, float]:
    try:
        (_, mean), (_, error) = fitted(_PAIR, value).pairs
    except UnfitError:
        raise UnfitError("must return two numbers: the mean and its standard error") from None
    return float(mean), float(error)


_PAIR = structured((0.0, 0.0))


def limit(failure: float, cases: int) -> float:
    """Return how many standard errors a mean may be off, so that right answers fail so rarely.

    Notes
    -----
    The budget is shared evenly by the cases, and both tails; `TAIL` of it is the Gaussian's.
    """
    return float(-ndtri(failure * TAIL / cases / 2))


def _one_estimate(
    test: Estimate, right: tuple[float, float], got: tuple[float, float], cases: int
) -> str:
    exact, error = (float(value) for value in right)
    if not np.isfinite(got).all():
        return "The mean or its standard error is NaN or infinite."
    rounding = EXACT * max(abs(exact), 1.0)
    if abs(got[0] - exact) > limit(test.failure, cases) * error + rounding:
        return "The mean is off by more than chance explains."
    if got[1] > error * test.slack + rounding:
        return "The standard error is larger than that many draws give."
    if got[1] < error / test.slack - rounding:
        return "The standard error is smaller than that many draws give."
    return ""


# ------------------------------------------------------------------ documented mistakes


def _resembled(sheet: Sheet, by_part: Sequence[Sequence[Reply]]) -> list[str]:
    """Return for each test the mistake that fails it with the answer's outputs, "" if none."""
    made = sheet.mistakes()
    alike = {
        name: [_alike(*three) for three in zip(sheet.parts, replies, by_part, strict=True)]
        for name, replies in made.items()
    }
    order = sorted(alike, key=lambda name: -sum(alike[name]))
    return [
        next((n for n in order if alike[n][i] and _judged(part, made[n][i])), "")
        for i, part in enumerate(sheet.parts)
    ]


def _alike(part: Part, made: Sequence[Reply], got: Sequence[Reply]) -> bool:
    pairs = list(zip(made, got, strict=True))
    return all(_same(part.test, mistake, reply) for mistake, reply in pairs)


def _same(test: Test, mistake: Reply, reply: Reply) -> bool:
    kinds = {_no_value(mistake), _no_value(reply)}
    if kinds != {""}:
        return len(kinds) == 1 and "?" not in kinds
    try:
        if isinstance(test, Estimate):
            return _near(_pair(mistake.value), _pair(reply.value), test.slack)
        rtol = test.rtol if isinstance(test, Values | Number) else 1e-6
        return fitted(mistake.value, reply.value).close(rtol, 1e-12)
    except UnfitError:
        both = isinstance(mistake.value, UnfitError) and isinstance(reply.value, UnfitError)
        return both and str(mistake.value) == str(reply.value)


def _no_value(reply: Reply) -> str:
    """Return why there is no value: the exception's name, "None", or "?"; "" if there is one."""
    if reply.problem:
        found = re.search(r"raises (\w+)|nothing \((None)\)", reply.problem)
        return (found[1] or found[2]) if found else "?"
    return "None" if reply.value is None else ""


def _near(one: tuple[float, float], other: tuple[float, float], slack: float) -> bool:
    """Return whether two estimates are of one mean, with the same error."""
    if not np.isfinite([*one, *other]).all():
        return bool(np.array_equal(one, other, equal_nan=True))
    error = np.hypot(one[1], other[1])
    low, high = sorted((one[1], other[1]))
    rounding = EXACT * max(abs(one[0]), 1.0)
    return bool(abs(one[0] - other[0]) <= 5 * error + rounding and high <= low * slack + rounding)
