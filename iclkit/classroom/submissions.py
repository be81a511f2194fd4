"""What students handed in: the notebooks of a folder, and the answers in them.

Everything here was written by somebody else. A notebook is data: nothing of it runs, of its cells
only the sources are taken, by id, and a broken one becomes a line of text.
"""

import difflib
import json
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = [
    "NO_IDS",
    "Notebook",
    "Submission",
    "UnreadableError",
    "find",
    "loose",
    "parse",
    "read",
    "students",
]

LARGE: Final = 8 * 2**20  # bytes; larger notebooks are slimmed in a process of their own
LARGEST: Final = 200 * 2**20
MEMORY: Final = 4 * 2**30  # bytes of that process
LONGEST: Final = 60  # seconds of that process
SLIM: Final = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
book = json.load(sys.stdin.buffer)
cells = [{k: c.get(k) for k in ("id", "metadata", "source")} for c in book["cells"]]
json.dump({"metadata": book.get("metadata"), "cells": cells}, sys.stdout)
"""
NOT_JSON: Final = "the file is not a notebook (its JSON is broken)"
NO_IDS: Final = (
    "no cell carries its id (was the notebook saved by a program that drops metadata?): "
    "no answer could be found"
)


class UnreadableError(ValueError):
    """A file that cannot be graded, with the reason in one line."""


@dataclass(frozen=True)
class Submission:
    """One notebook of one student, or that there is none (`path` is None)."""

    student: str
    assignment: str
    path: Path | None = None
    remarks: tuple[str, ...] = ()
    known: bool = True


@dataclass(frozen=True)
class Notebook:
    """What counts of a student's notebook: the sources of the cells by id, and its metadata."""

    sources: Mapping[str, str]
    classroom: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def students(folder: Path) -> list[str]:
    """Return the names of the students' folders, or say why there are none.

    Raises
    ------
    ValueError
        If `folder` does not exist or holds no folder of a student.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; name the one with a folder per student")
    names = sorted(path.name for path in folder.iterdir() if _is_plain_folder(path))
    if not names:
        raise ValueError(f"{folder} holds no student; lay it out as STUDENT/ASSIGNMENT.ipynb")
    return names


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".")


def loose(folder: Path) -> list[str]:
    """Return a line if notebooks lie beside the students' folders, where nobody's they are."""
    names = sorted(path.name for path in folder.glob("*.ipynb"))
    if not names:
        return []
    listed = ", ".join(_clean(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return [f"not graded, as in no student's folder: {listed}; lay out STUDENT/ASSIGNMENT.ipynb"]


def find(folder: Path, names: Collection[str], others: Collection[str] = ()) -> list[Submission]:
    """Return what there is to grade, in the order of students and assignments.

    Parameters
    ----------
    folder : path
        With ``STUDENT/ASSIGNMENT.ipynb`` or ``STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb``.
    names : collection of str
        Assignments to grade, in order.
    others : collection of str
        Assignments that exist but are not graded now.

    Returns
    -------
    list of Submission
        One per student and assignment that anybody handed in, also for who did not; and one per
        notebook of another name.
    """
    found = {student: _notebooks(folder / student) for student in students(folder)}
    wanted = [name for name in names if any(name in stems for stems in found.values())]
    return [
        one
        for student, stems in found.items()
        for one in (
            *(_chosen(folder, student, name, stems.get(name, [])) for name in wanted),
            *_strays(student, stems, {*names, *others}),
        )
    ]


def _notebooks(place: Path) -> dict[str, list[Path]]:
    """Return a student's notebooks by name; of equal names the one to grade comes first."""
    inner = [path for path in sorted(place.iterdir()) if _is_plain_folder(path)]
    found: dict[str, list[Path]] = {}
    for level in (place, *inner):
        for path in sorted(level.glob("*.ipynb")):
            if not path.name.startswith("."):
                found.setdefault(path.stem, []).append(path)
    for stem, paths in found.items():  # stable: own place, then own folder, then others
        paths.sort(key=lambda path: (path.parent != place, path.parent.name != stem))
    return found


def _chosen(folder: Path, student: str, name: str, paths: list[Path]) -> Submission:
    if not paths:
        return Submission(student, name, None, ("nothing handed in",))
    first, *more = (path.relative_to(folder / student) for path in paths)
    aside = tuple(f"two notebooks: {first} is graded, {other} is not" for other in more)
    return Submission(student, name, paths[0], aside)


def _strays(
    student: str, stems: Mapping[str, list[Path]], known: Collection[str]
) -> Iterator[Submission]:
    for stem in sorted(set(stems) - set(known)):
        near = difflib.get_close_matches(stem, sorted(known), n=1, cutoff=0.5)
        advice = f"if it is {near[0]}, rename it" if near else f"known: {', '.join(sorted(known))}"
        line = f"there is no assignment of this name, so it was not graded; {advice}"
        yield Submission(student, stem, stems[stem][0], (line,), known=False)


def read(path: Path) -> bytes:
    """Return the bytes of a plain file, never those behind a link, a pipe or a device.

    Raises
    ------
    UnreadableError
        If it is something else, too large, or not to be read.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK)
    except OSError as error:
        raise UnreadableError("the file cannot be read, or is a link") from error
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("this is not a plain file")
        if status.st_size > LARGEST:
            raise UnreadableError(f"larger than {LARGEST >> 20} MB; clear the outputs")
        with os.fdopen(number, "rb", closefd=False) as file:
            return file.read(LARGEST)
    finally:
        os.close(number)


def parse(data: bytes) -> Notebook:
    """Return the sources of a notebook's cells by id; the first of equal ids counts.

    Raises
    ------
    UnreadableError
        If the bytes are no notebook.
    """
    if not data.strip():
        raise UnreadableError("the file is empty")
    book = _loaded(data if len(data) <= LARGE else _slim(data))
    cells = book.get("cells") if isinstance(book, dict) else None
    if not isinstance(cells, list):
        raise UnreadableError("the file is JSON but not a notebook: it has no list of cells")
    pairs = [(_grade_id(cell), _source(cell)) for cell in cells if isinstance(cell, dict)]
    sources = {name: source for name, source in reversed(pairs) if name}
    counts = Counter(name for name, _ in pairs if name)
    often = [name for name, count in counts.items() if count > 1]
    remarks = [f"several cells `{_clean(name)}`: the first counts" for name in sorted(often)]
    return Notebook(sources, _mapping(_mapping(book, "metadata"), "classroom"), tuple(remarks))


def _loaded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError, MemoryError) as error:
        raise UnreadableError(NOT_JSON) from error


def _slim(data: bytes) -> bytes:
    """Return a large notebook without its outputs; what needs too much memory ends elsewhere."""
    program = [sys.executable, "-I", "-c", SLIM, str(MEMORY)]
    try:
        done = subprocess.run(program, input=data, capture_output=True, timeout=LONGEST, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise UnreadableError(NOT_JSON) from error
    if len(done.stdout) > LARGE:
        raise UnreadableError("the text of its cells is too large")
    return done.stdout


def _mapping(value: Any, key: str) -> dict[str, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _grade_id(cell: dict[str, Any]) -> str:
    """Return the id of a cell: nbgrader's, or else the cell's own, which is made equal."""
    name = _mapping(_mapping(cell, "metadata"), "nbgrader").get("grade_id") or cell.get("id")
    return name if isinstance(name, str) else ""


def _source(cell: dict[str, Any]) -> str:
    """Return a cell's text, whichever of the two forms it has; no lone surrogates."""
    source = cell.get("source")
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return source.encode("utf-8", "replace").decode() if isinstance(source, str) else ""


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:60]
