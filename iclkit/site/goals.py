"""The matrix of learning goals: where each is taught, what trains it, what tests it.

Everything is read from where it stands already: the goals from the table under a page's title, the
sections from ``<!-- goals: 1, 3 -->`` under their headings, the exercises from "trains goal 2" in
their cards and from the assignments' metadata. A claim or a self-check question tests the goals of
the section that it belongs to. A goal with an empty cell stops the build.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from iclkit.bench.runner import read_notebook
from iclkit.classroom.source import Assignment
from iclkit.site.frontmatter import FrontMatter
from iclkit.site.pages import BuildError
from iclkit.site.selfchecks import Question, load_questions

__all__ = ["NOTEBOOKS_OFFERED", "PLACE", "Row", "offer", "rows_of", "with_anchors"]

#: The line of a page of the book that becomes the matrix.
PLACE: Final = "<!-- goals -->"
#: The target of the list of students' notebooks, on the teaching page.
NOTEBOOKS_OFFERED: Final = "student-notebooks"

HEADING = re.compile(r"^(#{2,4}) +[^\n]+$", re.MULTILINE)
TAUGHT = re.compile(r"^(#{2,4} +[^\n]+)\n+<!-- goals?: ([\d, ]+) -->$", re.MULTILINE)
EXERCISE = re.compile(r"^`{3,}\{exercise\}[^\n]*\n:label: (\S+)\n+(?:\*([^\n]*)\*$)?", re.MULTILINE)
TRAINS = re.compile(r"; trains goals? ([\d, and]+)\.")
NUMBER = re.compile(r"\d+")
ROLE = re.compile(r"\{[a-z:]+\}`(?:[^`<]*<)?([^`>]+)>?`")
NAMED = re.compile(r"^:label: (\S+)|\$\$ \(([\w-]+)\)", re.MULTILINE)
MADE = re.compile(r"\bcheck\(\s*\"([\w-]+)\"|\bname=\"([\w-]+)\"")
CLAIM = re.compile(r"[A-Z]+-\w+")
#: What each column needs, and how it gets it.
REMEDIES: Final = {
    "taught": "section; write <!-- goals: {number} --> under a heading of the page",
    "exercises": "exercise; write 'trains goal {number}' in a card, or in an assignment's metadata",
    "tests": "test; its sections have no claim, self-check question or assignment",
}
HEAD = "| Goal | Taught in | Exercises | Tested by |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True)
class Row:
    """A learning goal of a page with where it is taught, trained and tested, in MyST Markdown."""

    page: str
    number: int
    goal: str
    taught: tuple[str, ...]
    exercises: tuple[str, ...]
    tests: tuple[str, ...]


class Section(NamedTuple):
    """A section that teaches goals: its target, and what it states, shows and claims."""

    label: str
    goals: frozenset[int]
    holds: set[str]
    depth: int


Cells = Sequence[Mapping[str, Any]]


def offer(
    root: Path, staging: Path, fronts: Iterable[FrontMatter], given: Sequence[Assignment]
) -> None:
    """Write the matrix into the page of the staging folder that asks for it.

    Raises
    ------
    BuildError
        When a goal is not taught, not trained or not tested, or a number names no goal.
    """
    pages = [page for page in (staging / "book").glob("*.md") if PLACE in page.read_text("utf-8")]
    if not pages:
        return
    rows = [(front, rows_of(front, *stored(root, front.name), given)) for front in fronts]
    refuse_unknown([(item.key, goal) for one in given for item, goal in trained(one)], rows)
    refuse_empty([row for _, own in rows for row in own])
    matrix = "\n".join(table(front, own) for front, own in rows if own)
    for page in pages:
        page.write_text(page.read_text("utf-8").replace(PLACE, matrix), "utf-8")


def stored(root: Path, name: str) -> tuple[Cells, list[Question]]:
    """Return the cells of a page and the questions of its self-check."""
    path = root / "book" / "selfchecks" / f"{name}.yml"
    cells = read_notebook(root / "notebooks" / f"{name}.ipynb")["cells"]
    return cells, load_questions(path) if path.exists() else []


# ------------------------------------------------------------------ the sections


def with_anchors(name: str, cells: Iterable[dict[str, Any]]) -> None:
    """Turn the marks under the headings of a page into targets above them.

    Raises
    ------
    BuildError
        When a mark does not stand under a heading.
    """
    number = count()
    for cell in cells:
        if cell["cell_type"] == "markdown" and "<!-- goal" in (text := "".join(cell["source"])):
            text = TAUGHT.sub(lambda found: f"({anchor(name, next(number))})=\n{found[1]}", text)
            if "<!-- goal" in text:
                raise BuildError(
                    f"{name}, cell {cell['id']}: write <!-- goals: 1, 2 --> under a heading"
                )
            cell["source"] = text


def anchor(name: str, number: int) -> str:
    """Return the target of the marked section with that number."""
    return f"taught-{name}-{number}"


def sections_of(name: str, cells: Cells) -> list[Section]:
    """Return the marked sections of a page; each goes on to the next heading of its depth."""
    found: list[Section] = []
    opened: list[Section] = []
    for text, code in ((piece, c["cell_type"] == "code") for c in cells for piece in pieces(c)):
        if not code and (heading := HEADING.match(text)):
            opened = [section for section in opened if section.depth < len(heading[1])]
            if marked := TAUGHT.match(text):
                label, goals = anchor(name, len(found)), frozenset(numbers(marked[2]))
                found.append(Section(label, goals, set(), len(heading[1])))
                opened.append(found[-1])
        names = {one or other for one, other in (MADE if code else NAMED).findall(text)}
        for section in opened:
            section.holds.update(names)
    return found


def pieces(cell: Mapping[str, Any]) -> list[str]:
    """Return the text of a cell, a Markdown cell cut before its headings."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "code":
        return [text]
    starts = [0, *(found.start() for found in HEADING.finditer(text)), len(text)]
    return [text[a:b] for a, b in pairwise(starts)]


def numbers(text: str) -> list[int]:
    """Return the whole numbers in a text."""
    return [int(number) for number in NUMBER.findall(text)]


# ------------------------------------------------------------------ the rows


def rows_of(
    front: FrontMatter, cells: Cells, questions: Sequence[Question], given: Sequence[Assignment]
) -> list[Row]:
    """Return the rows of a page, one for each of its goals.

    Parameters
    ----------
    front : FrontMatter
        With the goals.
    cells : sequence of dict
        The notebook as the repository has it.
    questions : sequence of Question
        The page's self-check.
    given : sequence of Assignment

    Raises
    ------
    BuildError
        When a number names no goal.
    """
    sections, own = sections_of(front.name, cells), exercises_of(cells)
    named = [(s.label, (front.name, g)) for s in sections for g in s.goals]
    named += [(label, (front.name, g)) for label, goals in own.items() for g in goals]
    goals = range(1, len(front.goals) + 1)
    if lost := [f"{where} names goal {g}" for where, (_, g) in named if g not in goals]:
        raise BuildError(f"{front.name} has {len(goals)} learning goals, but {lost[0]}")
    return [row(front, number, sections, own, (questions, given)) for number in goals]


def row(
    front: FrontMatter,
    number: int,
    sections: Sequence[Section],
    own: Mapping[str, set[int]],
    beside: tuple[Sequence[Question], Sequence[Assignment]],
) -> Row:
    """Return the row of one goal."""
    questions, given = beside
    here = [section for section in sections if number in section.goals]
    labels = [label for label, goals in own.items() if number in goals]
    holds = {name for section in here for name in section.holds}
    set_ = [(one, i) for one in given for i, g in trained(one) if g == (front.name, number)]
    hidden = sum(len(item.tests.tests) for _, item in set_)
    return Row(
        front.name,
        number,
        front.goals[number - 1],
        tuple(f"{{ref}}`{section.label}`" for section in here),
        (*(f"{{ref}}`{label}`" for label in labels), *(set_exercise(*one) for one in set_)),
        tuple(tested(front.name, holds | set(labels), questions, hidden)),
    )


def exercises_of(cells: Cells) -> dict[str, set[int]]:
    """Return the exercises of a page with the goals that their cards name."""
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    found = [match for text in texts for match in EXERCISE.finditer(text)]
    return {match[1]: trains(match[2] or "") for match in found}


def trains(card: str) -> set[int]:
    """Return the goals that the card of an exercise names.

    Examples
    --------
    >>> sorted(trains("Easy, 10 minutes; prepares Step 3; trains goals 1 and 4."))
    [1, 4]
    """
    found = TRAINS.search(card)
    return set(numbers(found[1])) if found else set()


def trained(one: Assignment) -> Iterator[tuple[Any, tuple[str, int]]]:
    """Yield the exercises of an assignment with each goal that they train."""
    for item in one.items:
        for page, number in item.about["goals"]:
            yield item, (page, number)


def set_exercise(one: Assignment, item: Any) -> str:
    """Return an exercise of an assignment, with a link to where the notebooks are."""
    number = one.name.partition("_")[0]
    return f"*{item.title}* ({{ref}}`assignment {number} <{NOTEBOOKS_OFFERED}>`)"


def tested(page: str, holds: set[str], questions: Sequence[Question], hidden: int) -> Iterator[str]:
    """Yield the tests of a goal: claims, self-check questions, tests of the assignments."""
    yield from (f"{{claim}}`{name}`" for name in sorted(filter(CLAIM.fullmatch, holds)))
    asked = [str(i) for i, question in enumerate(questions, 1) if refers(question) & holds]
    if asked:
        word = "question" if len(asked) == 1 else "questions"
        yield f"{{ref}}`{word} <selfcheck-{page}>` {', '.join(asked)}"
    if hidden:
        yield f"{hidden} hidden test{'s' * (hidden > 1)}"


def refers(question: Question) -> set[str]:
    """Return the targets that the texts of a question refer to."""
    texts = [question.question, question.because, *(wrong.because for wrong in question.wrong)]
    texts += [part for choice in question.choices for part in (choice.text, choice.because)]
    return {target for text in texts for target in ROLE.findall(text)}


# ------------------------------------------------------------------ the page


def refuse_unknown(
    named: Iterable[tuple[str, tuple[str, int]]], rows: Iterable[tuple[FrontMatter, list[Row]]]
) -> None:
    """Raise BuildError for an exercise of an assignment that names no goal of the book."""
    known = {(row.page, row.number) for _, own in rows for row in own}
    for key, (page, number) in named:
        if (page, number) not in known:
            raise BuildError(f"the exercise {key} trains goal {number} of {page}; there is none")


def refuse_empty(rows: Iterable[Row]) -> None:
    """Raise BuildError with a line for every empty cell."""
    lines = [
        f"goal {row.number} of {row.page} ({row.goal}) has no {remedy.format(number=row.number)}"
        for row in rows
        for column, remedy in REMEDIES.items()
        if not getattr(row, column)
    ]
    if lines:
        raise BuildError("learning goals: " + "\n  ".join(lines))


def table(front: FrontMatter, rows: Sequence[Row]) -> str:
    """Return the part of a page in the matrix."""
    lines = "".join(map(line, rows))
    return f"## {front.title}\n\n{{doc}}`Read the page </notebooks/{front.name}>`\n\n{HEAD}{lines}"


def line(row: Row) -> str:
    """Return a row as a line of a table."""
    cells = [f"{row.number}. {row.goal}", *map("; ".join, (row.taught, row.exercises, row.tests))]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"
