"""Instructor's notebooks: read them, check their format, and get their exercises.

Whatever breaks the format is reported as one line per violation, all at once.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from iclkit.classroom.spec import Criterion, Exercise, Mistake, Number

__all__ = [
    "FOLDER",
    "Assignment",
    "Item",
    "assignment",
    "assignments",
    "changed",
    "executed",
    "first_numbers",
    "solved",
    "stub",
]

#: Where the assignments of a repository are.
FOLDER = Path("notebooks") / "assignments"

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
HIDDEN_BEGIN, HIDDEN_END = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"
KEY = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
DIFFICULTIES = ("easy", "medium", "hard")
KINDS = ("code", "number", "derivation", "experiment")
ABOUT = (
    "kind",
    "difficulty",
    "importance",
    "minutes",
    "prerequisites",
    "prepares",
    "goals",
    "help",
)
LEAST_MISTAKES = 5
Cell = Mapping[str, Any]
Numbers = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Item:
    """One exercise of an assignment.

    Parameters
    ----------
    key, title : str
    about : mapping
        Metadata of the exercise: difficulty, minutes, goals, ...
    setup, answer : str
        The notebook's set-up, and the answer cell with its solution.
    tests : Exercise
        All that grades it.
    derivation : str
        The reference text that a person reads, "" if none is asked for.
    """

    key: str
    title: str
    about: Mapping[str, Any]
    setup: str
    answer: str
    tests: Exercise
    derivation: str = ""

    @cached_property
    def reference(self) -> Mapping[str, Any]:
        """The names that the reference solution leaves, with the first choice of each number."""
        return solved(self, first_numbers(self.tests.numbers))


@dataclass(frozen=True, eq=False)
class Assignment:
    """One instructor's notebook, read."""

    name: str
    title: str
    chapter: str
    items: tuple[Item, ...]
    notebook: dict[str, Any]

    def item(self, key: str) -> Item:
        """Return the exercise of a key."""
        return next(item for item in self.items if item.key == key)


def assignments(root: Path) -> list[Assignment]:
    """Return all assignments of a repository, by name."""
    return [assignment(path) for path in sorted((Path(root) / FOLDER).glob("*.ipynb"))]


def assignment(path: Path | str) -> Assignment:
    """Return the assignment of an instructor's notebook.

    Raises
    ------
    ValueError
        If the notebook breaks the format: one line per violation.
    """
    path = Path(path)
    notebook = _notebook(path)
    _refuse(path, _frame_problems(notebook))
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    keys = [name for name, cell in cells.items() if "exercise" in cell["metadata"]]
    _refuse(path, [line for key in keys for line in _cell_problems(key, cells)])
    items, found = [], []
    for key in keys:
        item, problems = _item(key, cells)
        found += [f"{key}: {line}" for line in problems]
        items += [item] if item else []
    _refuse(path, found)
    return Assignment(path.stem, _title(notebook), _chapter(notebook), tuple(items), notebook)


def _notebook(path: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        fine = {"cells", "metadata", "nbformat", "nbformat_minor"} <= notebook.keys()
    except (ValueError, AttributeError):
        fine = False
    _refuse(path, [] if fine else ["is not a notebook"])
    return dict(notebook)


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        raise ValueError("\n".join(f"{path.name}: {line}" for line in problems))


# ------------------------------------------------------------------ running trusted cells


def first_numbers(choices: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the first choice of each number."""
    return {name: values[0] for name, values in choices.items()}


def executed(cells: Sequence[str], given: Numbers) -> dict[str, Any]:
    """Return the names that trusted cells leave when they run in this process."""
    names: dict[str, Any] = {"__name__": "__answer__", **given}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for number, cell in enumerate(cells):
            exec(compile(cell, f"<cell {number}>", "exec"), names)  # noqa: S102  (the instructor's)
    return names


def solved(item: Item, numbers: Numbers, mistake: Mistake | None = None) -> dict[str, Any]:
    """Return the names that the reference solution, or a documented mistake, leaves."""
    answer = changed(item.answer, mistake) if mistake else item.answer
    return executed([item.setup, answer], _given(numbers))


def changed(answer: str, mistake: Mistake) -> str:
    """Return the answer with the mistake's piece of text in place of the right one."""
    return answer.replace(mistake.old, mistake.new, 1)


def _given(numbers: Numbers) -> dict[str, Any]:
    return {"numbers": dict(numbers)} if numbers else {}


# ------------------------------------------------------------------ the notebook's frame


def _source(cell: Cell) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _grade(cell: Cell) -> Mapping[str, Any]:
    return cell["metadata"].get("nbgrader", {})


def _title(notebook: Mapping[str, Any]) -> str:
    texts = [_source(c) for c in notebook["cells"] if c["cell_type"] == "markdown"]
    found = re.search(r"^# (.+)$", "\n\n".join(texts), re.MULTILINE)
    return found[1].strip() if found else ""


def _chapter(notebook: Mapping[str, Any]) -> str:
    return notebook["metadata"].get("classroom", {}).get("chapter", "")


def _frame_problems(notebook: Mapping[str, Any]) -> list[str]:
    if any("id" not in cell for cell in notebook.get("cells", [])):
        return ["every cell needs an id (nbformat 4.5)"]
    return [*_notebook_problems(notebook), *_id_problems(notebook["cells"])]


def _notebook_problems(notebook: Mapping[str, Any]) -> Iterator[str]:
    if (notebook["nbformat"], notebook["nbformat_minor"]) != (4, 5):
        yield f"needs nbformat 4.5, got {notebook['nbformat']}.{notebook['nbformat_minor']}"
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "needs the kernelspec python3"
    if not _chapter(notebook):
        yield 'needs the metadata classroom: {"chapter": "..."}'
    if not _title(notebook):
        yield "needs a heading '# Title' in a markdown cell"
    if not any("exercise" in cell["metadata"] for cell in notebook["cells"]):
        yield "has no exercise: no cell has the metadata `exercise`"


def _id_problems(cells: Sequence[Cell]) -> Iterator[str]:
    ids = [cell["id"] for cell in cells]
    yield from (
        f"cell id {name} occurs twice" for name in sorted({n for n in ids if ids.count(n) > 1})
    )
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    if not code or code[0]["id"] != "setup":
        yield "the first code cell must be `setup`"
    yield from (f"{c['id']}: has outputs; clear them" for c in code if c.get("outputs"))
    keys = [cell["id"] for cell in cells if "exercise" in cell["metadata"]]
    parts = {f"{key}{part}" for key in keys for part in ("", "-answer", "-derivation", "-tests")}
    asked = [c for c in cells if _grade(c).get("grade") or _grade(c).get("solution")]
    strays = [cell["id"] for cell in asked if cell["id"] not in {"setup", *parts}]
    yield from (f"{name}: is an answer or a test of no exercise" for name in strays)


# ------------------------------------------------------------------ the cells of an exercise

# What nbgrader is told of a cell: (grade, solution, locked).
_ROLES = {
    "": ("markdown", (False, False, True)),
    "-answer": ("code", (False, True, False)),
    "-derivation": ("markdown", (True, True, False)),
    "-tests": ("code", (True, False, True)),
}


def _cell_problems(key: str, cells: Mapping[str, Cell]) -> Iterator[str]:
    if not KEY.fullmatch(key):
        yield f"{key}: a key is made of small letters and digits, joined by dashes"
    yield from (f"{key}: needs the cell `{key}{part}`" for part in _missing(key, cells))
    if "setup" in cells:
        yield from _role_problems("setup", cells["setup"], "code", (False, False, True))
    for part, (kind, role) in _ROLES.items():
        if key + part in cells:
            yield from _role_problems(key + part, cells[key + part], kind, role)
            yield from _marker_problems(key + part, part, _source(cells[key + part]))
    yield from (f"{key}: {line}" for line in _about_problems(cells[key]["metadata"]["exercise"]))
    if not re.match(r"## \S", _source(cells[key])):
        yield f"{key}: the statement must begin with '## Title'"


def _missing(key: str, cells: Mapping[str, Cell]) -> list[str]:
    return [part for part in ("-answer", "-tests") if key + part not in cells]


def _role_problems(
    name: str, cell: Cell, kind: str, role: tuple[bool, bool, bool]
) -> Iterator[str]:
    grade = _grade(cell)
    if cell["cell_type"] != kind:
        yield f"{name}: must be a {kind} cell"
    if grade.get("grade_id") != name:
        yield f"{name}: nbgrader's grade_id must be the cell's id, got {grade.get('grade_id')!r}"
    got = tuple(grade.get(word) for word in ("grade", "solution", "locked"))
    if got != role or grade.get("task") or grade.get("schema_version") != 3:
        words = dict(zip(("grade", "solution", "locked"), role, strict=True))
        yield f"{name}: nbgrader's metadata must have {words}, task False, schema_version 3"


def _marker_problems(name: str, part: str, source: str) -> Iterator[str]:
    lines = [line.strip() for line in source.splitlines()]
    begin, end = (HIDDEN_BEGIN, HIDDEN_END) if part == "-tests" else (BEGIN, END)
    if part and (lines.count(begin) < 1 or lines.count(begin) != lines.count(end)):
        yield f"{name}: needs the lines {begin!r} and {end!r} in pairs"
    if part == "-tests" and lines and (lines[0] != begin or lines[-1] != end):
        yield f"{name}: nothing may stand before {begin!r} or after {end!r}"
    if not part and any(line in lines for line in (BEGIN, END)):
        yield f"{name}: a statement holds no solution"


def _about_problems(about: Mapping[str, Any]) -> Iterator[str]:
    absent = [word for word in ABOUT if word not in about]
    if absent:
        yield f"the metadata `exercise` lacks {', '.join(absent)}"
        return
    yield from (f"`{word}` is not known" for word in about if word not in ABOUT)
    yield from _wrong("kind", about["kind"] in KINDS, f"one of {', '.join(KINDS)}")
    rule = f"one of {', '.join(DIFFICULTIES)}"
    yield from _wrong("difficulty", about["difficulty"] in DIFFICULTIES, rule)
    yield from _wrong("importance", about["importance"] in (1, 2, 3), "1, 2 or 3")
    yield from _wrong("minutes", _whole(about["minutes"]), "a positive whole number")
    yield from _wrong("prepares", _text(about["prepares"]), "text")
    yield from _wrong("prerequisites", _texts(about["prerequisites"]), "a list of texts")
    yield from _wrong("help", _texts(about["help"]) and bool(about["help"]), "a list of texts")
    goals = about["goals"]
    fine = isinstance(goals, list) and goals and all(map(_goal, goals))
    yield from _wrong("goals", bool(fine), "a list of [page name, number of a goal]")


def _wrong(name: str, fine: bool, rule: str) -> list[str]:
    return [] if fine else [f"`{name}` must be {rule}"]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _goal(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and _text(value[0]) and _whole(value[1])


# ------------------------------------------------------------------ the exercise itself


def _item(key: str, cells: Mapping[str, Cell]) -> tuple[Item | None, list[str]]:
    """Return the exercise and what is wrong with it; no exercise if its cells do not run."""
    setup, answer = _source(cells["setup"]), _source(cells[f"{key}-answer"])
    try:
        tests = _exercise(setup, answer, _source(cells[f"{key}-tests"]))
    except Exception as error:  # whatever an author's cell raises is the report
        return None, [f"cells do not run: {type(error).__name__}: {error}"]
    text = _source(cells[f"{key}-derivation"]) if f"{key}-derivation" in cells else ""
    title = _source(cells[key]).splitlines()[0].removeprefix("##").strip()
    item = Item(key, title, cells[key]["metadata"]["exercise"], setup, answer, tests, text)
    return item, [*_exercise_problems(item), *_points_problems(item, cells)]


def _exercise(setup: str, answer: str, tests: str) -> Exercise:
    numbers = _written_numbers(setup, tests)
    names = executed([setup, answer, tests], _given(first_numbers(numbers)))
    exercise = names.get("exercise")
    if not isinstance(exercise, Exercise):
        raise ValueError("the tests must leave `exercise = Exercise(...)`")
    if dict(exercise.numbers) != dict(numbers):
        raise ValueError("`numbers` must be written out in the call of Exercise")
    return exercise


def _written_numbers(setup: str, tests: str) -> Mapping[str, Sequence[Any]]:
    """Return the number choices that the call ``Exercise(numbers=...)`` writes out.

    The answer needs them before the tests, which need the answer, can run.
    """
    calls = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Call)]
    made = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "Exercise"]
    found = [word.value for call in made for word in call.keywords if word.arg == "numbers"]
    if not found:
        return {}
    names = executed([setup, f"numbers = {ast.unparse(found[0])}"], {})
    choices: Mapping[str, Sequence[Any]] = names["numbers"]
    return choices


def stub(answer: str) -> str:
    """Return an answer with each solution replaced by an exception, as students get it."""
    return REGION.sub(r"\1raise NotImplementedError()", answer)


REGION = re.compile(rf"^( *){BEGIN}$.*?^ *{END}$", re.MULTILINE | re.DOTALL)


def _stub_problems(item: Item) -> Iterator[str]:
    try:
        ast.parse(stub(item.answer))
    except SyntaxError as error:
        yield f"without its solution the answer is no Python (line {error.lineno}: {error.msg})"


def _exercise_problems(item: Item) -> Iterator[str]:
    yield from _stub_problems(item)
    tests = item.tests
    if not tests.tests or any(part.points < 1 for part in (*tests.tests, *tests.rubric)):
        yield "needs tests, and each test and criterion at least 1 point"
    yield from (f"`{name}` is not left by the answer" for name in _absent(item))
    yield from _number_problems(item)
    yield from _mistake_problems(item)
    wrong = [c for c in tests.rubric if not isinstance(c, Criterion)]
    if wrong:
        yield "the rubric is a list of Criterion"
    if bool(tests.rubric) != bool(item.derivation):
        yield "a rubric and the cell for the derivation belong together"


def _absent(item: Item) -> list[str]:
    wanted = [test.name for test in item.tests.tests] + [name for name, _ in item.tests.practice]
    return sorted({name for name in wanted if name not in item.reference})


def _number_problems(item: Item) -> Iterator[str]:
    choices = item.tests.numbers
    kinds = (int, float, str)
    for name, values in choices.items():
        if len(set(values)) < 2 or not all(type(value) in kinds for value in values):
            yield f"numbers: `{name}` needs at least two different plain numbers"
    many = int(np.prod([len(values) for values in choices.values()]))
    if choices and many < 20:
        yield f"numbers: {many} combinations; at least 20 are needed for neighbours to differ"
    if any(isinstance(test, Number) for test in item.tests.tests) and not choices:
        yield "a test of a Number needs `numbers`"


def _mistake_problems(item: Item) -> Iterator[str]:
    mistakes = item.tests.mistakes
    total = sum(test.points for test in item.tests.tests)
    if len(mistakes) < LEAST_MISTAKES:
        yield f"{len(mistakes)} mistakes; at least {LEAST_MISTAKES} are needed"
    if min(len({m.name for m in mistakes}), len({m.hint for m in mistakes})) < len(mistakes):
        yield "mistakes need different names and different hints"
    for mistake in mistakes:
        count = item.answer.count(mistake.old)
        if count != 1:
            yield f"{mistake.name}: {mistake.old!r} occurs {count} times in the answer, not once"
        if not 1 <= mistake.loses <= total:
            yield f"{mistake.name}: loses {mistake.loses} of {total} points"


def _points_problems(item: Item, cells: Mapping[str, Cell]) -> Iterator[str]:
    hidden = sum(test.points for test in item.tests.tests)
    read = sum(criterion.points for criterion in item.tests.rubric)
    parts = [("-tests", hidden)] + ([("-derivation", read)] if item.derivation else [])
    for part, points in parts:
        written = _grade(cells[item.key + part]).get("points")
        if written != points:
            yield f"`{item.key}{part}` must have {points} points in its metadata, got {written}"
