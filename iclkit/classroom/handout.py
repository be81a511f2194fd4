"""What is made from an instructor's notebook, as cells and text: handed out, solved, explained.

`for_nbgrader` adds to the notebook what a student works with: the cell that installs the library,
the student's id, the desk with its public checks, badges and folded help. nbgrader then takes the
solutions and hidden tests out. `solved` and `rubric` are for those who teach.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from iclkit import __version__
from iclkit.classroom.source import Assignment, Item
from iclkit.classroom.spec import Number

__all__ = [
    "STUB",
    "STUB_TEXT",
    "as_notebook",
    "bare",
    "for_nbgrader",
    "rubric",
    "solved",
    "without_raising",
]

Cell = dict[str, Any]

#: What stands for a solution that was taken out: in a function, and in text.
STUB = 'raise NotImplementedError("nothing here yet")'
STUB_TEXT = "*Nothing here yet: write your argument in place of this line.*"
STUB_OUTSIDE = "pass  # nothing here yet"  # an error outside of a function would stop a run
WAITING = "# When the functions above are filled in, take the # away from the lines below:"
MARKS = re.compile(r"^[ \t]*#+ (?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS)[ \t]*\n?", re.MULTILINE)
PIECE = re.compile(".{1,88}")

INSTALL = """\
# Installs the book's library where it is missing; an installed numpy stays as it is.
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

if find_spec("iclkit") is None:
    places = [path.resolve().as_uri() for path in Path().glob("iclkit-*.whl")]{otherwise}
    if not places:
        raise FileNotFoundError("put the file iclkit-....whl beside this notebook and run again")
    kept = " ".join(f"{{p}}=={{version(p)}}" for p in ("numpy", "scipy") if find_spec(p))
    %pip install --quiet "iclkit @ {{places[0]}}" {{kept}}
"""
HOW = """\
{points} points, about {minutes} minutes.

1. Write your student id into the cell below, then run the notebook from the top.
2. Each exercise has a cell to fill in. Below it stands a check, which prints one line: that the
   public examples come out right, or what is probably wrong.
3. Points come from other inputs, after you have handed the notebook in. An answer is graded from
   the first code cell and its own cell alone: import and define there what it needs.
4. Hand in this notebook under the name that it has. Cells that you add are yours to try things in;
   only the cells to fill in are read.
"""
HOW_ALONE = """\
{points} points in a course, about {minutes} minutes. This copy is for studying by yourself.

1. Run the notebook from the top. Another name in the cell below gives you other numbers.
2. Each exercise has a cell to fill in. Below it stands a check, which prints one line: that the
   public examples come out right, or what is probably wrong.
3. In a course, points come from other inputs. So test your answers on limits and small cases, too.
"""
STUDENT = """\
# Your student id, between the quotes: it decides the numbers in your exercises.
student = "{student}"
"""
DESK = """\
# @title The desk: knows your numbers and checks the public examples. Nothing to do here.
from iclkit.classroom.desk import Desk

desk = Desk(
{packed},
    student,
)
print(f"Numbers and checks for {{student}}." + {reminder})
"""
#: Student ids to start with: one that asks for an own one, and that of a copy for self-study.
NOBODY = "your-id"
SELF_STUDY = "self-study"
REMINDER = f'(" Write your own id into the cell above." if student == "{NOBODY}" else "")'
NUMBERS = """\
numbers = desk.numbers("{key}")
numbers
"""
CHECK = 'desk.check("{key}", globals())'
TESTS = "# Graded on inputs drawn after you hand in: nothing to do here."
END_HIDDEN = "### END HIDDEN TESTS"
# nbgrader alone would take a cell without an error for right.
GUARD = 'raise RuntimeError("points come from `iclkit grade`, which runs answers in a sandbox")'
STUDENT_CELL = "student"


def for_nbgrader(
    assignment: Assignment, packed: str, *, student: str = NOBODY, address: str | None = None
) -> dict[str, Any]:
    """Return the notebook that nbgrader turns into the student's, solutions still inside.

    Parameters
    ----------
    assignment : Assignment
    packed : str
        What the desk knows, from `iclkit.classroom.desk.pack`.
    student : str
        The id to start with.
    address : str, optional
        The public repository, from which the library can be installed.

    Returns
    -------
    dict
    """
    notebook = deepcopy(assignment.notebook)
    items = {item.key: item for item in assignment.items}
    front = opening(assignment, packed, student, address)
    cells = [one for cell in notebook["cells"] for one in dressed(cell, items, front)]
    return notebook | {"cells": [bare(cell) for cell in cells]}


def opening(
    assignment: Assignment, packed: str, student: str, address: str | None
) -> tuple[list[Cell], list[Cell]]:
    """Return the cells that come before and after the assignment's first code cell."""
    minutes = sum(item.about["minutes"] for item in assignment.items)
    points = sum(item.tests.points for item in assignment.items)
    how = (HOW_ALONE if student == SELF_STUDY else HOW).format(points=points, minutes=minutes)
    otherwise = f'\n    places += ["git+{address}@v{__version__}"]' if address else ""
    before = [locked("how", "markdown", how), plain("install", INSTALL.format(otherwise=otherwise))]
    desk = locked("desk", "code", DESK.format(packed=quoted(packed), reminder=REMINDER))
    desk["metadata"] |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    return before, [plain(STUDENT_CELL, STUDENT.format(student=student)), desk]


def quoted(packed: str) -> str:
    """Return a long text as quoted pieces, one a line."""
    return "\n".join(f'    "{piece}"' for piece in PIECE.findall(packed))


def dressed(
    cell: Cell, items: Mapping[str, Item], front: tuple[list[Cell], list[Cell]]
) -> Iterator[Cell]:
    """Yield a cell of the instructor's notebook with what belongs around it."""
    name, _, part = cell["id"].rpartition("-")
    if cell["id"] == "setup":
        yield from (*front[0], cell, *front[1])
    elif cell["id"] in items:
        yield from statement(cell, items[cell["id"]])
    elif name in items and part == "answer":
        yield from (cell, locked(f"{name}-check", "code", CHECK.format(key=name)))
    elif name in items and part == "tests":
        guarded = text(cell).replace(END_HIDDEN, f"{GUARD}\n{END_HIDDEN}")
        yield cell | {"source": f"{TESTS}\n{guarded}"}
    else:
        yield cell


def statement(cell: Cell, item: Item) -> Iterator[Cell]:
    """Yield the statement of an exercise with badge and help, and the cell of its numbers."""
    head, _, rest = text(cell).partition("\n")
    parts = [head, badge(item), rest.strip("\n"), *folded(item.about.get("help", ()))]
    yield cell | {"source": "\n\n".join(parts)}
    if item.tests.numbers:
        yield locked(f"{item.key}-numbers", "code", NUMBERS.format(key=item.key))


def badge(item: Item) -> str:
    """Return the line under a title: what an exercise takes and gives."""
    about, by_hand = item.about, sum(part.points for part in item.tests.rubric)
    points = f"{item.tests.points} points"
    points += f" ({by_hand} of them for the argument, read by a person)" if by_hand else ""
    facts = [about["difficulty"], f"importance {about['importance']} of 3"]
    facts += [f"about {about['minutes']} minutes", points]
    lines = [" | ".join(f"**{fact}**" for fact in facts)]
    lines += [f"Needs: {', '.join(about['prerequisites'])}."] if about.get("prerequisites") else []
    lines += [f"Prepares: {about['prepares']}."] if about.get("prepares") else []
    return "  \n".join(lines)


def folded(helps: Sequence[str]) -> list[str]:
    """Return the helps, each behind a line that opens it."""
    names = ("First help", "Second help", "Third help", "Further help")
    named = [(names[min(i, len(names) - 1)], words) for i, words in enumerate(helps)]
    return [f"<details><summary>{n}</summary>\n\n{words}\n\n</details>" for n, words in named]


def bare(cell: Cell) -> Cell:
    """Return a cell without outputs, its source as one text."""
    ran: Cell = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
    return cell | ran | {"source": text(cell)}


def text(cell: Cell) -> str:
    """Return the source of a cell, which is stored as text or as lines."""
    return "".join(cell["source"])


def plain(name: str, source: str) -> Cell:
    """Return a code cell of which nbgrader takes no notice."""
    cell = {"cell_type": "code", "id": name, "metadata": {}, "source": source.rstrip("\n")}
    return bare(cell)


def locked(name: str, kind: str, source: str) -> Cell:
    """Return a cell that the student cannot change, and that grading restores."""
    flags = {"grade": False, "solution": False, "locked": True, "task": False}
    about = {"nbgrader": {**flags, "schema_version": 3, "grade_id": name}}
    cell = {"cell_type": kind, "id": name, "metadata": about, "source": source.rstrip("\n")}
    return bare(cell) if kind == "code" else cell


def without_raising(source: str) -> str:
    r"""Return a student's answer cell that can run before anything is filled in.

    Outside of functions nothing is raised, and what needs a function that is not there yet waits
    behind a ``#``.

    Examples
    --------
    >>> print(without_raising(f"def f():\n    {STUB}\n\nanswer = f()"))
    def f():
        raise NotImplementedError("nothing here yet")
    <BLANKLINE>
    # When the functions above are filled in, take the # away from the lines below:
    # answer = f()
    """
    lines = [STUB_OUTSIDE if line == STUB else line for line in source.split("\n")]
    parts = waiting(ast.parse("\n".join(lines)).body, lines)
    for part in parts:
        for number in range(part.lineno - 1, part.end_lineno or part.lineno):
            lines[number] = f"# {lines[number]}"
    if parts:
        lines.insert(parts[0].lineno - 1, WAITING)
    return "\n".join(lines)


def waiting(body: Sequence[ast.stmt], lines: Sequence[str]) -> list[ast.stmt]:
    """Return the statements that need a function of which only the stub is there."""
    missing: set[str] = set()
    found: list[ast.stmt] = []
    for part in body:
        text = "\n".join(lines[part.lineno - 1 : part.end_lineno])
        lacks = bool(missing & names_of(part, ast.Load))
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            missing |= {part.name} if lacks or STUB in text else set()
        elif lacks:
            missing |= names_of(part, ast.Store)
            found.append(part)
    return found


def names_of(part: ast.stmt, use: type[ast.expr_context]) -> set[str]:
    """Return the names that a statement reads, or those that it sets."""
    found = [node for node in ast.walk(part) if isinstance(node, ast.Name)]
    return {name.id for name in found if isinstance(name.ctx, use)}


def solved(assignment: Assignment) -> dict[str, Any]:
    """Return the solution sheet: statements, answers, arguments, rubrics; no hidden tests."""
    notebook = deepcopy(assignment.notebook)
    items = {item.key: item for item in assignment.items}
    cells = [one for cell in notebook["cells"] for one in worked(cell, items)]
    return notebook | {"cells": [bare(unlocked(cell)) for cell in cells]}


def worked(cell: Cell, items: Mapping[str, Item]) -> Iterator[Cell]:
    """Yield a cell of the solution sheet: no tests, but an example of a student's numbers."""
    name, _, part = cell["id"].rpartition("-")
    if cell["id"] in items:
        item = items[cell["id"]]
        yield next(statement(cell, item))
        if item.tests.numbers:
            example = {name: choices[0] for name, choices in item.tests.numbers.items()}
            yield plain(f"{item.key}-numbers", f"numbers = {example!r}  # of one student")
    elif not (name in items and part == "tests"):
        yield cell | {"source": MARKS.sub("", text(cell)).rstrip("\n")}
        if name in items and part == "answer":
            yield from results(items[name])


def results(item: Item) -> Iterator[Cell]:
    """Yield a line with the values of the variables that an answer sets."""
    asked = [name for name, _ in item.tests.practice]
    asked += [test.name for test in item.tests.tests if isinstance(test, Number)]
    values = {name: item.reference[name] for name in dict.fromkeys(asked)}
    lines = [f"`{k}` is {shown(v)}" for k, v in values.items() if not callable(v)]
    if lines:
        yield bare(
            {
                "cell_type": "markdown",
                "id": f"{item.key}-values",
                "metadata": {},
                "source": f"Here {', '.join(lines)}.",
            }
        )


def shown(value: Any) -> str:
    """Return a value as a person writes it: six digits.

    Examples
    --------
    >>> shown(1 / 3), shown([1, 2.5])
    ('0.333333', '[1, 2.5]')
    """
    whole = np.asarray(value)
    if whole.ndim:
        return f"[{', '.join(shown(part) for part in whole)}]"
    return f"{float(whole):.6g}" if whole.dtype.kind in "biuf" else str(value)


def unlocked(cell: Cell) -> Cell:
    """Return a cell that belongs to no grading."""
    return cell | {"metadata": {}}


def rubric(assignment: Assignment) -> str:
    """Return the rubric of an assignment as Markdown.

    Points of every test, criteria of what a person reads, documented mistakes with the points that
    they lose and the hints that they get.
    """
    points = sum(item.tests.points for item in assignment.items)
    rows = "\n".join(overview(item) for item in assignment.items)
    head = [f"# Rubric: {assignment.title}", f"{points} points. {FOR_TEACHERS}"]
    parts = [*head, f"{OVERVIEW}\n{rows}", *(criteria(item) for item in assignment.items)]
    return "\n\n".join(parts) + "\n"


def as_notebook(words: str) -> dict[str, Any]:
    """Return a text as a notebook of one cell."""
    cell = {"cell_type": "markdown", "id": "text", "metadata": {}, "source": words}
    return {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


FOR_TEACHERS = "Not for students before they hand in: it names what goes wrong."
OVERVIEW = "| Exercise | Kind | Difficulty | Minutes | Tests | By hand |\n" + "| --- " * 6 + "|"


def overview(item: Item) -> str:
    """Return an exercise's line of the table."""
    by_hand = sum(part.points for part in item.tests.rubric)
    facts = [item.title, item.about["kind"], item.about["difficulty"], item.about["minutes"]]
    return row(*facts, item.tests.points - by_hand, by_hand)


def criteria(item: Item) -> str:
    """Return how one exercise is graded."""
    tests = [row(test.points, f"`{test.name}` {test.about}") for test in item.tests.tests]
    parts = [f"## {item.title}\n\n`{item.key}`, {item.tests.points} points."]
    parts.append(table(("Points", "The answer"), tests))
    if item.tests.rubric:
        read = [row(c.points, c.given_for, c.not_for) for c in item.tests.rubric]
        parts.append(table(("Points", "Read by a person: given for", "Not for"), read))
    wrong = [row(m.name, m.loses, m.hint) for m in item.tests.mistakes]
    parts.append(table(("Documented mistake", "Loses", "Hint"), wrong))
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Sequence[str]) -> str:
    """Return a table."""
    return "\n".join([row(*head), "| --- " * len(head) + "|", *rows])


def row(*entries: Any) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(str(entry).replace("|", "\\|") for entry in entries) + " |"
