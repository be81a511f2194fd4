"""What a grading gave: points and hints per exercise, kept file by file, and the table of all."""

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from iclkit.classroom.marking import Mark

__all__ = ["EMPTY", "UNFINISHED", "Part", "Result", "digest", "keep", "kept", "table", "write"]

EMPTY: Final = "nothing was filled in"  # the problem of an answer that is not there
UNFINISHED: Final = ".part-"  # starts the names of files that are being written
SHAPE: Final = 1  # of the kept files; another one is graded anew
LEADS: Final = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")  # a spreadsheet would calculate


@dataclass(frozen=True)
class Part:
    """One exercise of one submission.

    Parameters
    ----------
    key, title : str
    out_of, by_hand_of : int
        Points of the tests, and of the text that a person reads.
    marks : sequence of Mark
        One per test; none if there was nothing to test.
    problem : str
        What kept the answer from running, in one line, if anything did.
    text : str
        Digest of the text that a person reads; empty if nothing was written.
    by_hand, changed : float or None
        Points that a person gave for the text, and instead of those of the tests.
    comments : sequence of str
        What that person wrote to the student.
    """

    key: str
    title: str
    out_of: int
    by_hand_of: int = 0
    marks: tuple[Mark, ...] = ()
    problem: str = ""
    text: str = ""
    by_hand: float | None = None
    changed: float | None = None
    comments: tuple[str, ...] = ()

    @property
    def tested(self) -> float:
        """Points of the tests."""
        return sum(mark.points for mark in self.marks)

    @property
    def points(self) -> float:
        """All points so far; text that nobody has read yet counts nothing."""
        tested = self.tested if self.changed is None else self.changed
        return tested + (self.by_hand or 0.0)

    @property
    def pending(self) -> int:
        """Points that wait for a person."""
        return self.by_hand_of if self.text and self.by_hand is None else 0


@dataclass(frozen=True)
class Result:
    """One submission, graded.

    Parameters
    ----------
    student, assignment : str
    parts : sequence of Part
        Empty if there is no such assignment.
    remarks : sequence of str
        What a person should know.
    handed_in : str
        When, if the folder says so.
    graded : bool
        Whether there was a notebook that could be read.
    submission, key : str
        Digests of what was handed in, and of all that decides on the points.
    """

    student: str
    assignment: str
    parts: tuple[Part, ...] = ()
    remarks: tuple[str, ...] = ()
    handed_in: str = ""
    graded: bool = True
    submission: str = ""
    key: str = ""

    @property
    def points(self) -> float:
        """All points so far."""
        return sum(part.points for part in self.parts)

    @property
    def out_of(self) -> int:
        """All points of the assignment."""
        return sum(part.out_of + part.by_hand_of for part in self.parts)

    @property
    def pending(self) -> int:
        """Points that wait for a person."""
        return sum(part.pending for part in self.parts)


def digest(*parts: bytes | str) -> str:
    """Return what differs as soon as one of `parts` does.

    >>> digest("a", "bc") == digest("ab", "c")
    False
    """
    total = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        total.update(hashlib.sha256(data).digest())
    return total.hexdigest()


def write(path: Path, data: bytes | str) -> None:
    """Write a file in one step: after a crash there is the old one or the new one.

    Raises
    ------
    OSError
        If it cannot be written; then there is no piece of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data.encode("utf-8", "replace") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def keep(path: Path, result: Result) -> bool:
    """Write a result; return whether one of another submission lay there.

    A file that is replaced is kept in ``earlier``.
    """
    before = path.read_bytes() if path.exists() else b""
    now = (json.dumps({"shape": SHAPE, "result": asdict(result)}, indent=1) + "\n").encode()
    if before and before != now:
        write(path.parent / "earlier" / f"{path.stem}-{digest(before)[:12]}.json", before)
    write(path, now)
    return bool(before) and _field(before, "submission") != result.submission


def _field(content: bytes, name: str) -> Any:
    with suppress(ValueError, KeyError, TypeError):
        return json.loads(content)["result"][name]
    return None


def kept(path: Path, key: str) -> Result | None:
    """Return the result that lies there if it belongs to `key`, else None."""
    try:
        content = json.loads(path.read_bytes())
        result = content["result"]
        return _result(result) if (content["shape"], result["key"]) == (SHAPE, key) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _result(data: dict[str, Any]) -> Result:
    parts = tuple(_part(part) for part in data.pop("parts"))
    return Result(parts=parts, remarks=tuple(data.pop("remarks")), **data)


def _part(data: dict[str, Any]) -> Part:
    marks = tuple(Mark(**mark) for mark in data.pop("marks"))
    return Part(marks=marks, comments=tuple(data.pop("comments")), **data)


def table(results: Sequence[Result]) -> str:
    """Return all results as CSV, one line per student and assignment.

    Returns
    -------
    str
        The columns are student, assignment, handed in, one per exercise (points so far), to be
        read (points that wait for a person), total, out of, remark. No field starts a formula.
    """
    keys = list(dict.fromkeys(part.key for result in results for part in result.parts))
    head = ["student", "assignment", "handed in", *keys]
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow([*head, "to be read", "total", "out of", "remark"])
    lines.writerows([safe(field) for field in _fields(result, keys)] for result in results)
    return out.getvalue()


def _fields(result: Result, keys: Iterable[str]) -> list[str]:
    points = {part.key: plain(part.points) for part in result.parts}
    sums = [str(result.pending), plain(result.points), str(result.out_of)]
    return [
        result.student,
        result.assignment,
        result.handed_in,
        *(points.get(key, "") for key in keys),
        *(sums if result.parts else ["", "", ""]),
        "; ".join(result.remarks),
    ]


def plain(points: float) -> str:
    """Return points as a person writes them.

    >>> plain(3.0), plain(2.5)
    ('3', '2.5')
    """
    return f"{points:.6g}"


def safe(text: str) -> str:
    r"""Return text for one field: printable, one line, and no formula.

    >>> safe("=1+1"), safe("two\nlines"), safe("-2")
    ("'=1+1", 'two lines', '-2')
    """
    line = "".join(c if c.isprintable() else " " for c in text)
    return f"'{line}" if line.lstrip().startswith(LEADS) and not _is_number(line) else line


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return text.isascii()
    return False
