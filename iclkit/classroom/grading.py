"""Grading a class: every submission by itself, kept as soon as it is done, the same every time.

The order is fixed: what the folder holds is looked through, each notebook is graded unless its
result is kept already, then gradebook, feedback, summary and table are written from the results.
"""

import ast
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, Final

from iclkit.classroom import marking, sandbox, submissions
from iclkit.classroom.course import Course, student_id
from iclkit.classroom.handout import NOBODY, STUB, STUB_OUTSIDE, STUB_TEXT, STUDENT_CELL
from iclkit.classroom.results import EMPTY, Part, Result, digest, keep, kept
from iclkit.classroom.source import Assignment, Item
from iclkit.classroom.submissions import NO_IDS, Notebook, Submission, UnreadableError

__all__ = ["Desk", "Handed", "grade", "grade_all", "look", "place"]

UNMARKED: Final = "the answer could not be judged; ask your instructor"
MISSING: Final = "the answer cell is missing"
OTHER_SEED: Final = "made with another seed, so that its parameters are not this course's"
LIBRARY: Final = Path(__file__).resolve().parents[1]
NOT_GRADING: Final = ("bench", "site", "corpora", "data")  # folders whose change regrades nothing


@dataclass(frozen=True)
class Desk:
    """What all gradings of a run share: the course, and how students' cells are kept apart."""

    course: Course
    isolation: Any
    lock: Any = field(default_factory=Lock, repr=False)  # the parent's own work is for one thread


@dataclass(frozen=True)
class Handed:
    """A submission with what it is graded by, and what is in it (None if it cannot be read)."""

    submission: Submission
    assignment: Assignment | None
    notebook: Notebook | None
    remarks: tuple[str, ...]
    handed_in: str = ""
    digest: str = ""
    key: str = ""


# ------------------------------------------------------------------ looking through the folder


def look(folder: Path, assignments: Sequence[Assignment], only: str | None) -> list[Submission]:
    """Return the submissions in a folder; `only` names the one assignment to grade.

    Raises
    ------
    ValueError
        If there is no such assignment, no student, or nothing of these assignments.
    """
    names = [one.name for one in assignments]
    if not names:
        raise ValueError("there is no assignment in notebooks/assignments")
    if only is not None and only not in names:
        raise ValueError(f"there is no assignment {only!r}; known: {', '.join(names)}")
    wanted = names if only is None else [only]
    found = submissions.find(folder, wanted, names)
    if not any(one.path and one.known for one in found):
        known = ", ".join(f"{name}.ipynb" for name in wanted)
        raise ValueError(f"{folder} holds no notebook to grade; looked in each folder for {known}")
    return found


def opened(submission: Submission, assignment: Assignment | None, desk: Desk) -> Handed:
    """Return a submission with its cells, or with the reason why there are none."""
    if submission.path is None or assignment is None:
        return Handed(submission, assignment, None, submission.remarks)
    try:
        _refuse_name(submission.student)
        data = submissions.read(submission.path)
        notebook = submissions.parse(data)
    except UnreadableError as error:
        return Handed(submission, assignment, None, (*submission.remarks, str(error)))
    remarks = (*submission.remarks, *notebook.remarks, *_about(notebook, submission, desk))
    when = _handed_in(submission.path)
    instructor = json.dumps(assignment.notebook, sort_keys=True)
    who = (submission.student, str(desk.course.seed), str(desk.isolation), when, *remarks)
    key = digest(data, instructor, grader(), *who)
    return Handed(submission, assignment, notebook, remarks, when, digest(data), key)


def _refuse_name(student: str) -> None:
    try:
        student_id(student)
    except ValueError as error:
        raise UnreadableError(f"not graded until the folder is renamed: {error}") from error


@cache
def grader() -> str:
    """Return the digest of all that decides on points: the library's sources, the versions."""
    paths = sorted(LIBRARY.rglob("*.py"))
    ours = [p for p in paths if p.relative_to(LIBRARY).parts[0] not in NOT_GRADING]
    packages = [f"{name} {version(name)}" for name in ("numpy", "scipy")]
    return digest(*(path.read_bytes() for path in ours), *packages, sys.version)


def _about(notebook: Notebook, submission: Submission, desk: Desk) -> Iterator[str]:
    """Yield what an instructor should know of a notebook."""
    if other_seed(notebook, desk.course):
        yield OTHER_SEED
    written = _written_id(notebook)
    if written == NOBODY:
        yield "the student id was not filled in, so its parameters are not the student's"
    elif written and written != student_id(submission.student):
        yield f"made for the student id {written!r}: the parameters are those of the folder's name"


def other_seed(notebook: Notebook, course: Course) -> bool:
    """Return whether a notebook was made with another seed than the course's."""
    return notebook.classroom.get("salt", course.salt) != course.salt


def _written_id(notebook: Notebook) -> str:
    """Return the student id that stands in the notebook, "" if none can be read."""
    try:
        (line,) = ast.parse(notebook.sources.get(STUDENT_CELL, "")).body
        return student_id(ast.literal_eval(line.value))  # type: ignore[attr-defined]
    except (ValueError, TypeError, SyntaxError, AttributeError, RecursionError, MemoryError):
        return ""


def _handed_in(path: Path) -> str:
    """Return what nbgrader's time stamp beside a notebook says."""
    try:
        return submissions.read(path.with_name("timestamp.txt"))[:40].decode("ascii").strip()
    except (UnreadableError, UnicodeDecodeError):
        return ""


# ------------------------------------------------------------------ grading one


def graded(handed: Handed, desk: Desk) -> Result:
    """Return the result of one submission, whatever it holds."""
    one, assignment = handed.submission, handed.assignment
    result = Result(
        one.student,
        one.assignment,
        remarks=handed.remarks,
        handed_in=handed.handed_in,
        graded=handed.notebook is not None,
        submission=handed.digest,
        key=handed.key,
    )
    if assignment is None:
        return result
    if handed.notebook is None:
        return replace(result, parts=tuple(_blank(item) for item in assignment.items))
    parts = grade(handed.notebook, assignment, one.student, desk)
    more = (*_troubles(parts), *_pictures(handed.notebook, assignment))
    return replace(result, parts=parts, remarks=(*handed.remarks, *more))


def _troubles(parts: Sequence[Part]) -> list[str]:
    """Return the remarks on answers that did not run; their own words are left out."""
    if all(part.problem == MISSING for part in parts):
        return [NO_IDS]
    return [f"{p.key}: {_kind(p.problem)}" for p in parts if p.problem not in ("", EMPTY)]


def _pictures(notebook: Notebook, assignment: Assignment) -> list[str]:
    """Return the remarks on texts with a pasted picture, which the form grader does not show."""
    texts = {
        item.key: notebook.sources.get(f"{item.key}-derivation", "") for item in assignment.items
    }
    return [
        f"{key}: the text has a picture, which only the notebook itself shows"
        for key, text in texts.items()
        if "](attachment:" in text
    ]


def _kind(problem: str) -> str:
    return problem.partition(": ")[0]


def grade(handed: Notebook, assignment: Assignment, student: str, desk: Desk) -> tuple[Part, ...]:
    """Return the points of each exercise of one notebook.

    Student code runs in processes of its own, one per exercise; here its outputs are compared.
    """
    return tuple(
        _part(item, handed.sources, desk, student=student, assignment=assignment.name)
        for item in assignment.items
    )


def _part(item: Item, sources: Mapping[str, str], desk: Desk, **who: str) -> Part:
    part = replace(_blank(item), text=_text(item, sources))
    answer = sources.get(f"{item.key}-answer")
    if answer is None:
        return replace(part, problem=MISSING)
    return replace(part, **_tested(item, answer, desk, **who))


def _blank(item: Item) -> Part:
    by_hand = sum(criterion.points for criterion in item.tests.rubric)
    return Part(item.key, item.title, item.tests.points - by_hand, by_hand)


def _text(item: Item, sources: Mapping[str, str]) -> str:
    """Return the digest of the text for a person, "" if nothing was written."""
    text = sources.get(f"{item.key}-derivation", "").replace(STUB_TEXT, "").strip()
    return digest(text) if text and item.tests.rubric else ""


def _tested(
    item: Item, answer: str, desk: Desk, *, student: str, assignment: str
) -> dict[str, Any]:
    """Return the marks of an answer, and what kept it from running."""
    with desk.lock:
        given = marking.given(item, course=desk.course, student=student)
        calls = marking.calls(item, course=desk.course, student=student, assignment=assignment)
    replies = sandbox.run(
        [item.setup, answer],
        calls,
        given=given,
        uses=item.tests.uses,
        limits=sandbox.Limits(seconds=item.tests.seconds, megabytes=item.tests.megabytes),
        isolation=desk.isolation,
    )
    problem = next((reply.problem for reply in replies if reply.problem), "")
    if _nothing(answer) or (_stub(answer) and all(reply.problem for reply in replies)):
        problem = EMPTY
    with desk.lock:
        return _marked(item, replies, problem, desk, student=student, assignment=assignment)


def _marked(
    item: Item, replies: Sequence[sandbox.Reply], problem: str, desk: Desk, **who: str
) -> dict[str, Any]:
    try:
        marks = tuple(marking.marks(item, replies, course=desk.course, **who))
    except Exception:  # a verdict met what nobody thought of; the other exercises count
        return {"problem": UNMARKED}
    if problem == EMPTY:
        marks = tuple(replace(mark, hint=mark.hint and EMPTY) for mark in marks)
    return {"marks": marks, "problem": problem}


def _stub(answer: str) -> bool:
    return STUB in answer or STUB_OUTSIDE in answer


def _nothing(answer: str) -> bool:
    """Return whether an answer says nothing: no statement but ``pass``, ``...`` and texts."""
    try:
        body = ast.parse(answer).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    words = [line.value if isinstance(line, ast.Expr) else line for line in body]
    return all(isinstance(word, ast.Constant | ast.Pass) for word in words)


# ------------------------------------------------------------------ grading all


def place(out: Path, submission: Submission) -> Path:
    """Return where the result of a submission is kept."""
    return out / "results" / submission.student / f"{submission.assignment}.json"


def grade_all(
    handed: Sequence[Handed],
    out: Path,
    desk: Desk,
    *,
    jobs: int,
    done: Callable[[Result, str], None],
) -> list[Result]:
    """Return the results of all submissions, in their order; kept ones are not graded again.

    Parameters
    ----------
    handed : sequence of Handed
    out : path
        Keeps one file per result, written as soon as it is there.
    desk : Desk
    jobs : int
        Submissions at once.
    done : callable
        Told of every result: "graded" now, graded "again" as another one was handed in, "kept"
        from before, or "nothing" to grade.
    """
    results: dict[int, Result] = {}
    with _pool(jobs) as pool:
        futures = {pool.submit(_one, one, out, desk): i for i, one in enumerate(handed)}
        for future in as_completed(futures):
            results[futures[future]], how = future.result()
            done(results[futures[future]], how)
    return [results[index] for index in range(len(handed))]


@contextmanager
def _pool(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads; after an error or Ctrl-C nothing new begins."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one(handed: Handed, out: Path, desk: Desk) -> tuple[Result, str]:
    if not handed.key:
        return graded(handed, desk), "nothing"
    path = place(out, handed.submission)
    if before := kept(path, handed.key):
        return before, "kept"
    result = graded(handed, desk)
    return result, "again" if keep(path, result) else "graded"


def wrong_seed(handed: Sequence[Handed], course: Course) -> str:
    """Return one line if the seed cannot be the one that the notebooks were made with, else "".

    One foreign notebook is its student's own mistake; several, and none that fits, are not.
    """
    made = Counter(
        other_seed(one.notebook, course)
        for one in handed
        if one.notebook and "salt" in one.notebook.classroom
    )
    if made[True] < 2 or made[False]:
        return ""
    return f"all {made[True]} notebooks were made with another seed than this one; name that file"
