"""nbgrader's gradebook beside the results, so that its form grader serves for what people read.

The results' folder is an nbgrader course: ``gradebook.db`` with all points, and ``autograded`` with
the notebooks to read. Points, extra points and comments that a person enters there are read back.
"""

import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from alembic.script import ScriptDirectory
from nbgrader import api
from nbgrader.api import Base, Comment, Grade, Gradebook, InvalidEntry, MissingEntry
from nbgrader.dbutil import ALEMBIC_DIR
from nbgrader.utils import parse_utc
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SAWarning, SQLAlchemyError

from iclkit.classroom.results import Part, Result, digest, plain, write
from iclkit.classroom.source import Assignment

__all__ = ["FILE", "enter", "harmless", "read_back", "to_read"]

FILE: Final = "gradebook.db"
COURSE: Final = "iclkit"
CHANGED: Final = "The text changed after points were given for it: please read it again."
NOTHING: Final = "No response."
CONFIG: Final = """\
# nbgrader's course folder: open JupyterLab here and choose Nbgrader, Formgrader. Points for texts
# enter grades.csv when `iclkit grade` runs again. Do not autograde here: that would run students'
# code with your own rights.
c = get_config()
c.CourseDirectory.course_id = "iclkit"
"""
VERSION: Final = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"
TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")
LINK: Final = re.compile(r"\](?=[(:\[])")


# ------------------------------------------------------------------ entering


def enter(
    out: Path,
    results: Sequence[Result],
    assignments: Sequence[Assignment],
    sources: Mapping[tuple[str, str], Mapping[str, str]],
) -> list[Result]:
    """Enter results into the gradebook; return them with the points that people gave.

    Parameters
    ----------
    out : path
        The results' folder.
    results : sequence of Result
    assignments : sequence of Assignment
    sources : mapping
        From student and assignment to the sources of the student's cells.

    Raises
    ------
    ValueError
        If the gradebook cannot be used, for instance as another program holds it.
    """
    known = {one.name: one for one in assignments}
    done = {(one.student, one.assignment): one for one in results if one.graded and one.parts}
    with _open(out) as book:
        for name in sorted({name for _, name in done}):
            (out / "source" / name).mkdir(parents=True, exist_ok=True)  # by it nbgrader lists names
            _describe(book, known[name])
        for (student, name), result in done.items():
            notebook = to_read(known[name], result, sources[student, name])
            path = out / "autograded" / student / name / f"{name}.ipynb"
            _enter_one(book, result, changed=_changed(path, notebook))
            write(path, notebook)
        return [read_back(book, one) if one.graded and one.parts else one for one in results]


@contextmanager
def _open(out: Path) -> Iterator[Gradebook]:
    """Yield the gradebook, made where there is none; database errors become one line."""
    path = out / FILE
    try:
        if not path.exists():
            _create(path)
        with warnings.catch_warnings(), Gradebook(_address(path), course_id=COURSE) as book:
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's own, of an older interface
            with _silent(api.app_log):
                yield book
    except (SQLAlchemyError, InvalidEntry) as error:
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        remedy = "free some" if "full" in reason else "close what holds it, or move it away,"
        raise ValueError(
            f"{path} cannot be used ({reason}); {remedy} and run again: the results are kept"
        ) from error


@contextmanager
def _silent(log: logging.Logger) -> Iterator[None]:
    """Keep nbgrader from printing the traceback of an error that is told in one line."""
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


def _address(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"


def _create(path: Path) -> None:
    """Make an empty gradebook in one step, as nbgrader itself would by starting ``alembic``."""
    part = path.with_name(f".part-{os.getpid()}.db")
    version = ScriptDirectory(ALEMBIC_DIR).get_current_head()
    try:
        engine = create_engine(_address(part))
        with engine.begin() as link:
            Base.metadata.create_all(link)
            link.execute(text(VERSION))
            link.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": version})
        engine.dispose()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    config = path.with_name("nbgrader_config.py")
    if not config.exists():
        write(config, CONFIG)


def _describe(book: Gradebook, assignment: Assignment) -> None:
    """Enter an assignment: what is graded, and out of how many points."""
    name = assignment.name
    book.update_or_create_assignment(name)
    book.update_or_create_notebook(name, name)
    for item in assignment.items:
        by_hand = sum(criterion.points for criterion in item.tests.rubric)
        tests = item.tests.points - by_hand
        _cell(book, name, f"{item.key}-tests", "code", tests)
        book.update_or_create_solution_cell(f"{item.key}-answer", name, name)
        if by_hand:
            _cell(book, name, f"{item.key}-derivation", "markdown", by_hand)
            book.update_or_create_solution_cell(f"{item.key}-derivation", name, name)


def _cell(book: Gradebook, name: str, cell: str, kind: str, points: int) -> None:
    book.update_or_create_grade_cell(cell, name, name, max_score=float(points), cell_type=kind)


def _enter_one(book: Gradebook, result: Result, *, changed: frozenset[str]) -> None:
    name = result.assignment
    book.update_or_create_student(result.student)
    book.update_or_create_submission(name, result.student, timestamp=_time(result.handed_in))
    for part in result.parts:
        grade = _grade(book, result, f"{part.key}-tests")
        grade.auto_score = float(part.tested)
        grade.needs_manual_grade = False
        if part.by_hand_of:
            cell = f"{part.key}-derivation"
            _enter_text(
                part,
                _grade(book, result, cell),
                _comment(book, result, cell),
                changed=cell in changed,
            )
    book.db.commit()


def _time(written: str) -> datetime | None:
    """Return what a time stamp says, None if nbgrader cannot read it."""
    with suppress(ValueError, OverflowError):
        return parse_utc(written) if written else None
    return None


def _enter_text(part: Part, grade: Grade, comment: Comment, *, changed: bool) -> None:
    """Enter what there is to read: nothing, a new text, or one that changed since it was read."""
    grade.auto_score = None if part.text else 0.0
    if grade.manual_score is None:
        grade.needs_manual_grade = bool(part.text)
        comment.auto_comment = None if part.text else NOTHING
    elif changed:
        grade.needs_manual_grade, comment.auto_comment = True, CHANGED
    elif comment.auto_comment == CHANGED and not grade.needs_manual_grade:
        comment.auto_comment = None  # it was read again


def _grade(book: Gradebook, result: Result, cell: str) -> Grade:
    """Return the entry of a cell's points, made if the cell is new to an old submission."""
    name, student = result.assignment, result.student
    try:
        return book.find_grade(cell, name, name, student)
    except MissingEntry:
        place = book.find_submission_notebook(name, name, student)
        grade = Grade(cell_id=book.find_grade_cell(cell, name, name).id, notebook=place)
        book.db.add(grade)
        return grade


def _comment(book: Gradebook, result: Result, cell: str) -> Comment:
    """Return the entry of a cell's comment, made if the cell is new to an old submission."""
    name, student = result.assignment, result.student
    try:
        return book.find_comment(cell, name, name, student)
    except MissingEntry:
        place = book.find_submission_notebook(name, name, student)
        comment = Comment(cell_id=book.find_solution_cell(cell, name, name).id, notebook=place)
        book.db.add(comment)
        return comment


# ------------------------------------------------------------------ reading back


def read_back(book: Gradebook, result: Result) -> Result:
    """Return a result with points and comments that people entered."""
    parts, remarks = [], []
    for part in result.parts:
        tests = _grade(book, result, f"{part.key}-tests")
        written, words = None, [_comment(book, result, f"{part.key}-answer")]
        if part.by_hand_of:
            written = _grade(book, result, f"{part.key}-derivation")
            words.append(_comment(book, result, f"{part.key}-derivation"))
            remarks += [f"{part.key}: {CHANGED}"] * (words[-1].auto_comment == CHANGED)
        comments = tuple(one.manual_comment for one in words if one.manual_comment)
        by_hand = None if written is None else _given(written)
        parts.append(replace(part, changed=_given(tests), by_hand=by_hand, comments=comments))
    remarks += _late(book, result)
    remarks += [f"{p.key}: points of the tests set by hand" for p in parts if p.changed is not None]
    return replace(result, parts=tuple(parts), remarks=(*result.remarks, *remarks))


def _late(book: Gradebook, result: Result) -> list[str]:
    """Return a remark if the due date in the gradebook was missed; points stay as they are."""
    late = book.find_submission(result.assignment, result.student).total_seconds_late
    return [f"late by {late / 3600:.1f} hours"] if late > 0 else []


def _given(grade: Grade) -> float | None:
    """Return what a person gave, extra points included; None if nobody did."""
    if grade.manual_score is None and not grade.extra_credit:
        return None
    base = grade.auto_score if grade.manual_score is None else grade.manual_score
    return float(base or 0.0) + float(grade.extra_credit or 0.0)


# ------------------------------------------------------------------ what there is to read


def to_read(assignment: Assignment, result: Result, sources: Mapping[str, str]) -> str:
    """Return the notebook for the form grader: the instructor's, with the student's answers.

    Points and hints stand in place of the hidden tests. In the student's text nothing is a tag or
    a link, since it is shown in a page that may do what the instructor may.
    """
    notebook = deepcopy(assignment.notebook)
    parts = {f"{part.key}-tests": part for part in result.parts}
    for cell in notebook["cells"]:
        name = cell["id"]
        if name in parts:
            cell["source"] = _points(parts[name])
        elif cell["metadata"].get("nbgrader", {}).get("solution"):
            source = sources.get(name, "")
            cell["source"] = harmless(source) if cell["cell_type"] == "markdown" else source
        elif cell["cell_type"] == "markdown":
            cell["metadata"].pop("exercise", None)
    return json.dumps(notebook, indent=1) + "\n"


def harmless(words: str) -> str:
    """Return Markdown without tags, links and images; formulas stay as they are.

    >>> harmless("<b>$x<y$</b> [a](b)")
    '< b>$x< y$< /b> [a] (b)'
    """
    return LINK.sub("] ", TAG.sub("< ", words))


def _points(part: Part) -> str:
    lines = [f"{plain(part.tested)} of {part.out_of} points from the tests"]
    lines += [f"{part.problem}"] if part.problem else []
    lines += [
        f"{plain(mark.points)} of {mark.out_of}: {mark.about}"
        + (f" (hint: {mark.hint})" if mark.hint else "")
        for mark in part.marks
    ]
    return "\n".join(f"# {' '.join(line.split())}" for line in lines)


def _changed(path: Path, notebook: str) -> frozenset[str]:
    """Return the texts that differ from those in the notebook that lies there to be read."""
    before, now = _texts(path), _of_text(notebook)
    return frozenset(name for name, text in before.items() if now.get(name) != text)


def _texts(path: Path) -> dict[str, str]:
    try:
        return _of_text(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _of_text(notebook: str) -> dict[str, str]:
    cells: list[dict[str, Any]] = json.loads(notebook)["cells"]
    texts = [cell for cell in cells if cell["cell_type"] == "markdown"]
    return {c["id"]: digest(c["source"]) for c in texts if c["id"].endswith("-derivation")}
