"""Feedback while working: a student's own numbers, and one hint on the practice calls.

A student's notebook holds a packed text with what this needs: practice inputs, fingerprints of
the right outputs and of documented mistakes, and the hints. A fingerprint is a hash of the output
rounded to five or six digits; it holds no value.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iclkit.classroom.course import numbers as own_numbers
from iclkit.classroom.course import student_id
from iclkit.classroom.values import UnfitError, plain

if TYPE_CHECKING:
    from iclkit.classroom.source import Assignment, Item

__all__ = ["Desk", "Grid", "fingerprint", "margin", "pack"]

FORMAT = 1
DIGITS = 6
#: Largest entries below this count as zero; a reference between the two bounds is refused.
NOTHING, LEAST = 1e-12, 1e-9
#: A right output's distance from where rounding turns over, in units of the last digit kept.
MARGIN = 1e-3
#: The same for a mistake's, which runs the same operations on another machine.
MISTAKE_MARGIN = 1e-6
SHIFTS = (0.13, -0.13, 0.37, -0.37)
OFFSETS = tuple(float(offset) for offset in np.arange(-20, 21) / 41)
SPECIAL = 2**62


@dataclass(frozen=True)
class Grid:
    """Where a practice call rounds: shifts of the exponent and of the last digit.

    Both are chosen at packing so that no entry of the right output is near a turning point.
    """

    shift: float
    offset: float
    parted: bool = False


# ------------------------------------------------------------------ fingerprints


def fingerprint(value: object, grid: Grid, *, salt: str) -> str:
    """Return a hash of a value rounded to five or six digits, relative to its largest entry.

    Examples
    --------
    >>> grid = Grid(shift=0.13, offset=0.0)
    >>> fingerprint([1.0, 2.0], grid, salt="a") == fingerprint((1, 2 + 1e-9), grid, salt="a")
    True
    >>> fingerprint([1.0, 2.0], grid, salt="a") == fingerprint([1.0, 2.001], grid, salt="a")
    False
    """
    parts = [_rounded(part, grid) for part in _parts(value, grid)]
    return _hash([salt, grid.parted, parts])


def _hash(content: object) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=9).hexdigest()


def _parts(value: object, grid: Grid) -> list[Any]:
    """Return what is rounded on its own: the parts of a tuple, or the whole."""
    one = plain(value)
    several = isinstance(one, tuple) or (isinstance(one, np.ndarray) and one.ndim > 0)
    return [plain(part) for part in one] if grid.parted and several else [one]


def _rounded(part: Any, grid: Grid) -> object:
    if isinstance(part, tuple):
        return [_rounded(inner, grid) for inner in part]
    if not isinstance(part, np.ndarray):
        return part
    exponent, scaled = _scaled(part, grid)
    digits = np.where(np.isfinite(part), np.round(scaled), SPECIAL).astype(np.int64)
    digits = digits + np.where(np.isnan(part), 1, 0) + np.where(part == np.inf, 2, 0)
    return [list(part.shape), exponent, digits.ravel().tolist()]


def _scaled(part: NDArray[np.float64], grid: Grid) -> tuple[int, NDArray[np.float64]]:
    """Return the exponent and the entries in units of the last digit kept."""
    known = np.where(np.isfinite(part), part, 0.0)
    largest = np.abs(known).max(initial=0.0)
    if largest < NOTHING:
        return 0, np.zeros_like(part)
    exponent = int(np.floor(np.log10(largest) + grid.shift))
    return exponent, known / largest * 10.0 ** (_power(largest, exponent)) + grid.offset


def _power(largest: float, exponent: int) -> float:
    """Return the digits of the largest entry before the point; no power under- or overflows."""
    return float(np.log10(largest) - exponent + DIGITS - 1)


def margin(value: object, grid: Grid) -> float:
    """Return how far a value is from where its fingerprint turns over, in units of a digit."""
    return min((_part_margin(part, grid) for part in _parts(value, grid)), default=np.inf)


def _part_margin(part: Any, grid: Grid) -> float:
    if isinstance(part, tuple):
        return min((_part_margin(inner, grid) for inner in part), default=np.inf)
    if not isinstance(part, np.ndarray) or not np.isfinite(part).any():
        return np.inf
    largest = float(np.abs(part[np.isfinite(part)]).max(initial=0.0))
    if largest < NOTHING:
        return np.inf
    scaled = _scaled(part, grid)[1]
    exponent = np.log10(largest) + grid.shift
    digit = np.abs(scaled - np.floor(scaled) - 0.5).min()
    return float(min(digit, 1e4 * abs(exponent - np.round(exponent))))


# ------------------------------------------------------------------ packing


def pack(assignment: Assignment, *, salt: str) -> str:
    """Return the text that a student's notebook gives to `Desk`.

    Parameters
    ----------
    assignment : Assignment
    salt : str
        The course's; it decides the students' numbers.

    Raises
    ------
    ValueError
        If a practice output is near a turning point of the rounding, or too small to compare.
    """
    content = {
        "format": FORMAT,
        "salt": salt,
        "exercises": {item.key: _packed_item(item, salt) for item in assignment.items},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode("ascii")


def _packed_item(item: Item, salt: str) -> dict[str, Any]:
    outputs = _practice_outputs(item)
    calls = [
        _packed_call(item, index, {name: made[index] for name, made in outputs.items()}, salt)
        for index in range(len(item.tests.practice))
    ]
    hints = {mistake.name: mistake.hint for mistake in item.tests.mistakes}
    numbers = {name: list(values) for name, values in item.tests.numbers.items()}
    return {"calls": calls, "hints": hints, "numbers": numbers}


def _practice_outputs(item: Item) -> dict[str, list[Any]]:
    """Return outputs of the reference (under "") and of each mistake; an exception as text."""
    from iclkit.classroom.source import changed, executed, first_numbers

    sources = {"": item.answer}
    sources |= {m.name: changed(item.answer, m) for m in item.tests.mistakes}
    given = {"numbers": first_numbers(item.tests.numbers)} if item.tests.numbers else {}
    found = {}
    for name, source in sources.items():
        names = _tried(executed, [item.setup, source], given)
        found[name] = [_output(names, *call) for call in item.tests.practice]
    return found


@dataclass(frozen=True)
class _Raised:
    """The name of an exception in place of an output; "" if there is nothing to call."""

    name: str


def _tried(work: Callable[..., Any], *arguments: Any) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return work(*arguments)
        except Exception as error:
            return _Raised(type(error).__name__)


def _output(names: Mapping[str, Any] | _Raised, name: str, arguments: Sequence[Any]) -> Any:
    if isinstance(names, _Raised):
        return names
    if name not in names:
        return _Raised("")
    target = names[name]
    return _tried(target, *copy.deepcopy(tuple(arguments))) if callable(target) else target


def _packed_call(item: Item, index: int, outputs: dict[str, Any], salt: str) -> dict[str, Any]:
    name, arguments = item.tests.practice[index]
    where = f"{item.key}: practice call {index + 1} ({name})"
    right = outputs.pop("")
    if isinstance(right, _Raised):
        raise ValueError(f"{where} raises {right.name}")
    _large_enough(where, right)
    wrong = outputs
    grid = _grid(where, right, list(wrong.values()), isinstance(right, tuple))
    prints = {name: _print(value, grid, salt) for name, value in wrong.items()}
    own = _print(right, grid, salt)
    return {
        "name": name,
        "arguments": _encoded(tuple(arguments)),
        "grid": [grid.shift, grid.offset, grid.parted],
        "right": own,
        "shape": _hash([salt, _shapes(right)]),
        "mistakes": {name: print_ for name, print_ in prints.items() if print_ != own},
    }


def _large_enough(where: str, right: object) -> None:
    for part in _leaves(plain(right)):
        largest = float(np.abs(part[np.isfinite(part)]).max(initial=0.0))
        if NOTHING <= largest < LEAST:
            raise ValueError(f"{where} has a largest entry below {LEAST:g}; choose another case")


def _leaves(value: Any) -> list[NDArray[np.float64]]:
    if isinstance(value, tuple):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value] if isinstance(value, np.ndarray) else []


def _grid(where: str, right: object, wrong: Sequence[object], parted: bool) -> Grid:
    grids = [Grid(shift, offset, parted) for shift in SHIFTS for offset in OFFSETS]
    others = [value for value in wrong if not isinstance(value, _Raised)]

    def score(grid: Grid) -> float:
        least = min((_safe_margin(value, grid) for value in others), default=np.inf)
        return min(margin(right, grid), least * MARGIN / MISTAKE_MARGIN)

    best = max(grids, key=score)
    if score(best) < MARGIN:
        raise ValueError(
            f"{where} is near a turning point of the rounding to {DIGITS} digits: "
            "choose other arguments, or a smaller output"
        )
    return best


def _safe_margin(value: object, grid: Grid) -> float:
    try:
        return margin(value, grid)
    except UnfitError:
        return np.inf


def _print(value: object, grid: Grid, salt: str) -> str:
    """Return the fingerprint of an output, of the exception, or of what is not comparable."""
    if isinstance(value, _Raised):
        return _hash([salt, "raises", value.name])
    try:
        return fingerprint(value, grid, salt=salt)
    except UnfitError as error:
        return _hash([salt, "unfit", str(error)])


def _shapes(value: object) -> object:
    one = plain(value)
    if isinstance(one, tuple):
        return [_shapes(part) for part in one]
    return list(one.shape) if isinstance(one, np.ndarray) else "text"


def _negative(value: object) -> Any:
    one = plain(value)
    if isinstance(one, tuple):
        return tuple(_negative(part) for part in one)
    return -one if isinstance(one, np.ndarray) else one


def _encoded(value: Any) -> Any:
    """Return arguments as JSON: arrays and tuples are marked, numbers keep all digits."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "type": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(part) for part in value]}
    if isinstance(value, list):
        return [_encoded(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict) and "array" in value:
        return np.array(value["array"], dtype=value["type"]).reshape(value["shape"])
    if isinstance(value, dict):
        return tuple(_decoded(part) for part in value["tuple"])
    return [_decoded(part) for part in value] if isinstance(value, list) else value


# ------------------------------------------------------------------ in the student's notebook


def _unpacked(packed: str) -> dict[str, Any]:
    try:
        return dict(json.loads(zlib.decompress(base64.b85decode(packed))))
    except (ValueError, zlib.error):
        raise ValueError("this cell was changed; copy it from a fresh notebook") from None


class Desk:
    """A student's desk: the own numbers, and checks of answers.

    Parameters
    ----------
    packed : str
        From `pack`, as it stands in the notebook.
    student : str
        The student's id, as the instructor knows it.
    """

    def __init__(self, packed: str, student: str) -> None:
        content = _unpacked(packed)
        if content.get("format") != FORMAT:
            raise ValueError("this notebook belongs to another version of iclkit; install that one")
        self._salt: str = content["salt"]
        self._exercises: dict[str, Any] = content["exercises"]
        self._student = student_id(student)
        self._looked_at: dict[str, tuple[str, object]] = {}  # name: (exercise, its object)

    def numbers(self, key: str) -> dict[str, Any]:
        """Return the student's own parameters of an exercise."""
        choices = self._exercises[key]["numbers"]
        return own_numbers(choices, salt=self._salt, student=self._student, exercise=key)

    def check(self, key: str, namespace: Mapping[str, Any]) -> None:
        """Print one line: that the practice calls are right, or one hint."""
        print(self.remark(key, namespace))  # noqa: T201  (this is what a student reads)

    def remark(self, key: str, namespace: Mapping[str, Any]) -> str:
        """Return the line that `check` prints."""
        exercise = self._exercises[key]
        calls = exercise["calls"]
        if not calls:
            return f"{key}: no practice call; the grading looks at it."
        outputs = [_output(namespace, c["name"], _decoded(c["arguments"])) for c in calls]
        prints = [self._prints(call, out) for call, out in zip(calls, outputs, strict=True)]
        wrong = [i for i, call in enumerate(calls) if prints[i] != call["right"]]
        before = self._left_over(key, calls, namespace)
        if not wrong:
            return f"{key}: right on {_count(len(calls))}. The grading uses other inputs as well."
        if before:
            return f"{key}: not answered yet; `{calls[0]['name']}` is still that of {before}."
        named = _named(calls, prints, wrong)
        hint = exercise["hints"][named] if named else self._generic(calls, outputs, wrong[0])
        return f"{key}: {hint}"

    def _left_over(
        self, key: str, calls: Sequence[Mapping[str, Any]], namespace: Mapping[str, Any]
    ) -> str:
        """Return the other exercise whose variable this still is, "" if it is a new one."""
        name = calls[0]["name"]
        owner, value = self._looked_at.get(name, (key, None))
        same = owner != key and name in namespace and namespace[name] is value
        if not same and name in namespace:
            self._looked_at[name] = (key, namespace[name])
        return owner if same else ""

    def _prints(self, call: Mapping[str, Any], output: object) -> str:
        return _print(output, Grid(*call["grid"]), self._salt)

    def _generic(self, calls: Sequence[Mapping[str, Any]], outputs: list[Any], at: int) -> str:
        call, output = calls[at], outputs[at]
        name = call["name"]
        if isinstance(output, _Raised):
            return _raised_line(name, output.name)
        try:
            return self._kind(call, output) or f"`{name}` is not right on the practice inputs yet."
        except UnfitError as error:
            return f"`{name}` {error}."

    def _kind(self, call: Mapping[str, Any], output: object) -> str:
        name, one = call["name"], plain(output)
        if one is None:
            return f"`{name}` is None: is a `return` missing?"
        if any(not np.isfinite(leaf).all() for leaf in _leaves(one)):
            return f"`{name}` has NaN or infinite entries."
        if _hash([self._salt, _shapes(one)]) != call["shape"]:
            return f"`{name}` has another shape than the text asks for."
        negative = self._prints(call, _negative(one)) == call["right"]
        return f"`{name}` has the wrong sign." if negative else ""


def _count(number: int) -> str:
    return "the practice call" if number == 1 else f"all {number} practice calls"


def _named(calls: Sequence[Mapping[str, Any]], prints: list[str], wrong: list[int]) -> str:
    """Return the mistake with the same outputs: on all practice calls, else on the first wrong."""

    def same(name: str, index: int) -> bool:
        call = calls[index]
        return bool(call["mistakes"].get(name, call["right"]) == prints[index])

    at = wrong[0]
    close = [name for name in calls[at]["mistakes"] if same(name, at)]
    order = sorted(close, key=lambda name: -sum(same(name, i) for i in range(len(calls))))
    return order[0] if order else ""


def _raised_line(name: str, error: str) -> str:
    if error == "NotImplementedError":
        return "not answered yet."
    if not error:
        return f"there is no `{name}` yet; fill in the cell above, and run it."
    if error == "NameError":
        return f"`{name}` uses a name that is not defined."
    return f"`{name}` raises {error} on the practice inputs."
