"""One grading from the folder of submissions to everything that is read afterwards."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tqdm import tqdm

from iclkit.classroom import feedback as pages
from iclkit.classroom.grading import Desk, Handed, grade_all, look, opened, wrong_seed
from iclkit.classroom.results import UNFINISHED, Result, table, write
from iclkit.classroom.sandbox import Isolation, SandboxError, problem, remark, strongest
from iclkit.classroom.source import Assignment
from iclkit.classroom.submissions import loose
from iclkit.classroom.summary import summary

__all__ = ["TABLE", "grade_folder", "level"]

TABLE: Final = "grades.csv"
SUMMARY: Final = "summary.html"
OURS: Final = ("results", "feedback", "autograded")  # folders that a grading writes into


def grade_folder(
    folder: Path,
    out: Path,
    assignments: Sequence[Assignment],
    desk: Desk,
    *,
    only: str | None = None,
    jobs: int = 1,
    say: Callable[[str], None],
) -> Path:
    """Grade all submissions of a folder; return the table of points.

    Parameters
    ----------
    folder : path
        One folder per student.
    out : path
        Gets ``grades.csv``, ``summary.html``, ``feedback``, nbgrader's ``gradebook.db`` and
        ``autograded``, and ``results``, from which an interrupted grading goes on.
    assignments : sequence of Assignment
    desk : Desk
        The course and the isolation.
    only : str, optional
        The one assignment to grade.
    jobs : int
        Submissions at once.
    say : callable
        Told what a person should know, in lines.

    Raises
    ------
    ValueError
        With one line on what is in the way; whatever was graded before is kept.
    """
    _apart(folder, out)
    found = look(folder, assignments, only)
    by_name = {one.name: one for one in assignments}
    handed = [opened(one, by_name.get(one.assignment), desk) for one in found]
    if line := wrong_seed(handed, desk.course):
        raise ValueError(line)
    notes = loose(folder)
    for note in notes:
        say(note)
    with _plain_errors(out), _alone(out):
        results = _graded(handed, out, desk, jobs=jobs, say=say)
        return _reported(results, handed, out, assignments, notes)


def level(name: str | None, say: Callable[[str], None]) -> Isolation:
    """Return the isolation of that name, or the strongest that works here.

    Raises
    ------
    ValueError
        If it does not work here.
    """
    try:
        found = strongest() if name is None else Isolation(name)
    except SandboxError as error:
        raise ValueError(str(error)) from error
    if reason := problem(found):
        raise ValueError(f"isolation {name!r} does not work here: {reason}")
    if line := remark(found):
        say(f"grade: {line}")
    return found


def _apart(folder: Path, out: Path) -> None:
    """Raise ValueError where results would be taken for submissions, or the reverse."""
    inner, outer = out.resolve(), folder.resolve()
    if inner == outer or inner.is_relative_to(outer):
        raise ValueError(f"--out {out} lies in {folder}, among the submissions; name another place")
    if any(outer.is_relative_to(inner / name) for name in OURS):
        raise ValueError(f"{folder} lies among the results in {out}; name the submissions' folder")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")


@contextmanager
def _plain_errors(out: Path) -> Iterator[None]:
    """Turn a full disk, missing rights or a sandbox that does not start into one line."""
    kept = "what is graded is kept, run again to go on"
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write into {out}: {error.strerror or error}; {kept}") from error
    except SandboxError as error:
        raise ValueError(f"{error}; {kept}") from error


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the results' folder for this process; the system lets go however it ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another grading is writing into {out}; wait for it") from None
        for piece in out.rglob(f"{UNFINISHED}*"):  # of a grading that was killed
            piece.unlink(missing_ok=True)
        yield


def _graded(
    handed: Sequence[Handed], out: Path, desk: Desk, *, jobs: int, say: Callable[[str], None]
) -> list[Result]:
    """Return the results, with a bar while they come and a line at the end."""
    counts = {"graded": 0, "again": 0, "kept": 0, "nothing": 0}
    with tqdm(total=len(handed), unit="notebook", file=sys.stderr, disable=None) as bar:

        def done(result: Result, how: str) -> None:
            counts[how] += 1
            bar.update()
            if how == "again":
                say(f"{result.student}: {result.assignment} was handed in again and counts now")

        results = grade_all(handed, out, desk, jobs=jobs, done=done)
    now = counts["graded"] + counts["again"]
    say(
        f"grade: {now} graded, {counts['kept']} kept from before, "
        f"{counts['nothing']} without a readable notebook"
    )
    return results


def _reported(
    results: Sequence[Result],
    handed: Sequence[Handed],
    out: Path,
    assignments: Sequence[Assignment],
    notes: Sequence[str],
) -> Path:
    """Write gradebook, feedback, summary and, last, the table; return where it lies."""
    sources = {
        (one.submission.student, one.submission.assignment): one.notebook.sources
        for one in handed
        if one.notebook
    }
    from iclkit.classroom import gradebook  # nbgrader takes seconds to import

    titles = {one.name: one.title for one in assignments}
    final = gradebook.enter(out, results, assignments, sources)
    _write_feedback(final, out, titles, sources)
    write(out / SUMMARY, summary(final, titles, notes))
    write(out / TABLE, table(final))
    return out / TABLE


def _write_feedback(
    results: Sequence[Result],
    out: Path,
    titles: Mapping[str, str],
    sources: Mapping[tuple[str, str], Mapping[str, str]],
) -> None:
    for one in results:
        if one.parts:
            own = sources.get((one.student, one.assignment), {})
            place = out / pages.place(one.student, one.assignment)
            write(place, pages.feedback(one, titles[one.assignment], own))
