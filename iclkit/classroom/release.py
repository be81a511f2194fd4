"""Hand out assignments: student notebooks, solution sheets, rubrics, nbgrader's course folder.

Everything is made from the instructors' notebooks. nbgrader takes the solutions and the hidden
tests out and writes its gradebook; before anything is published, the student's notebooks are
searched for what must not be in them.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from iclkit.classroom import handout, leaks
from iclkit.classroom.course import OPEN, Course
from iclkit.classroom.desk import pack
from iclkit.classroom.sheets import page, typesetting
from iclkit.classroom.source import Assignment, assignments

__all__ = ["FOLDERS", "Handout", "hand_out", "self_study"]

#: What is handed out: to students, and to those who teach.
FOLDERS: Final = ("student", "solutions", "rubrics", "autograder")

CONFIG = """\
# nbgrader's course folder, written by `python3 run.py assignments`.
# Points come from `iclkit grade`, which runs each student in a sandbox; see the teaching page.
# `nbgrader autograde` would run the students' code with your own rights, and gives no points.
c = get_config()
c.CourseDirectory.course_id = "iclkit"
c.ClearSolutions.code_stub = {{"python": {stub!r}}}
c.ClearSolutions.text_stub = {text!r}
"""
GENERATE = """\
import sys
from nbgrader.apps import GenerateAssignmentApp
for name in sys.argv[1:]:
    GenerateAssignmentApp.clear_instance()
    app = GenerateAssignmentApp.instance()
    app.initialize([name, "--force"])
    app.start()
"""
READ_ME = """\
For students: hand out the notebooks and {wheel}.

In JupyterLab: put both into one folder, open the notebook, run it from the top. On Colab: upload
the notebook, then the wheel beside it (the folder sign at the left). The first cell installs the
library where it is missing. Hand in the notebook under the name that it has.
"""
RAISED = re.compile(r"^\s*([\w.]+(?:Error|Exception): .+)$", re.MULTILINE)
IN_USE = ("submitted", "autograded", "feedback")


def hand_out(
    root: Path,
    out: Path,
    *,
    course: Course = OPEN,
    library: tuple[str, bytes] | None = None,
    address: str | None = None,
) -> Path:
    """Write all that assignments need into a folder; return it.

    Parameters
    ----------
    root : Path
        The repository, with ``notebooks/assignments``.
    out : Path
        Gets `FOLDERS`. Older ones are replaced as a whole, unless somebody has graded in them;
        other files in it stay.
    course : Course
        Makes the numbers of each student; without one those of self-study.
    library : (str, bytes), optional
        The wheel that is handed out with the notebooks: name and content.
    address : str, optional
        The public repository, from which the library can be installed.

    Raises
    ------
    ValueError
        When there is no assignment, when one is not in order, when a solution would be handed out,
        and when the folder holds submissions, or folders of these names from elsewhere.
    """
    refuse_used(out)
    refuse_foreign(out)
    given = assignments(root)
    if not given:
        raise ValueError(f"no assignment in {root / 'notebooks' / 'assignments'}")
    with inside(out) as new:
        write_autograder(new / "autograder", given, course, address=address)
        write_student(new, given, library)
        refuse_leaks(root, new / "student")
        write_sheets(root, new, given)
        replace(new, out)
    return out


class Handout(NamedTuple):
    """An assignment as a student gets it: the notebook's bytes, and what it is."""

    name: str
    title: str
    chapter: str
    exercises: int
    points: int
    minutes: int
    notebook: bytes


def self_study(root: Path, *, address: str | None = None) -> list[Handout]:
    """Return the students' notebooks for those who study by themselves.

    Raises
    ------
    ValueError
        When an assignment is not in order or a solution would be handed out.
    """
    given = assignments(root)
    if not given:
        return []
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder)
        write_autograder(
            new / "autograder", given, OPEN, address=address, student=handout.SELF_STUDY
        )
        write_student(new, given, None)
        refuse_leaks(root, new / "student")
        return [handed(one, new / "student" / f"{one.name}.ipynb") for one in given]


def handed(one: Assignment, path: Path) -> Handout:
    """Return what is handed out of an assignment."""
    points = sum(item.tests.points for item in one.items)
    minutes = sum(item.about["minutes"] for item in one.items)
    about = (one.name, one.title, one.chapter, len(one.items), points, minutes)
    return Handout(*about, path.read_bytes())


def refuse_used(out: Path) -> None:
    """Raise ValueError when a folder holds what people did, which nothing brings back."""
    for name in IN_USE:
        if any((out / "autograder" / name).glob("*")):
            raise ValueError(f"{out / 'autograder'} holds {name} work; move it or choose --out")


def refuse_foreign(out: Path) -> None:
    """Raise ValueError when a folder would be replaced that is not from here."""
    config = out / "autograder" / "nbgrader_config.py"
    ours = config.is_file() and config.read_text("utf-8").startswith(CONFIG.partition("\n")[0])
    found = [name for name in FOLDERS if (out / name).exists()]
    if found and not ours:
        raise ValueError(f"{out / found[0]} is there and not from here; move it or choose --out")


@contextmanager
def inside(out: Path) -> Iterator[Path]:
    """Give a new folder inside a folder, where it can be renamed; leave nothing of it behind."""
    there = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".new-") as folder:
            yield Path(folder)
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error}") from error
    finally:
        if not there and out.exists() and not any(out.iterdir()):
            out.rmdir()


def refuse_leaks(root: Path, folder: Path) -> None:
    """Raise ValueError when a folder holds something of a solution."""
    if found := leaks.problems(root, folder):
        raise ValueError("\n  ".join(["a student would get solutions:", *found]))


def replace(new: Path, out: Path) -> None:
    """Put new folders in the places of old ones."""
    for name in FOLDERS:
        if (out / name).exists():
            (out / name).rename(new / f"old-{name}")
        (new / name).rename(out / name)


def write_autograder(
    folder: Path,
    given: Sequence[Assignment],
    course: Course,
    *,
    address: str | None = None,
    student: str = handout.NOBODY,
) -> None:
    """Write nbgrader's course folder: sources, settings, gradebook, what is released."""
    for one in given:
        packed = pack(one, salt=course.salt)
        source = handout.for_nbgrader(one, packed, student=student, address=address)
        source["metadata"] |= {"classroom": {"chapter": one.chapter, "salt": course.salt}}
        write(folder / "source" / one.name / f"{one.name}.ipynb", source)
    config = CONFIG.format(stub=handout.STUB, text=handout.STUB_TEXT)
    (folder / "nbgrader_config.py").write_text(config, encoding="utf-8")
    generate(folder, [one.name for one in given])


def generate(folder: Path, names: Sequence[str]) -> None:
    """Run ``nbgrader generate_assignment`` for each name; raise ValueError when it stops."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", GENERATE, *names],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    written = [folder / "release" / name / f"{name}.ipynb" for name in names]
    if done.returncode or not all(path.exists() for path in written):
        causes = RAISED.findall(done.stderr) or ["it wrote no notebook"]
        raise ValueError(f"nbgrader stopped: {causes[-1]}")


def write_student(
    new: Path, given: Sequence[Assignment], library: tuple[str, bytes] | None
) -> None:
    """Write what students get: the released notebooks, and the library."""
    for one in given:
        path = new / "autograder" / "release" / one.name / f"{one.name}.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for place in (path, new / "student" / path.name):
            write(place, runnable(notebook, one))
    if library is not None:
        name, data = library
        (new / "student" / name).write_bytes(data)
        words = READ_ME.format(wheel=name)
        (new / "student" / "README.txt").write_text(words, encoding="utf-8")


def runnable(notebook: Mapping[str, Any], one: Assignment) -> dict[str, Any]:
    """Return a released notebook that runs from the top before anything is filled in."""
    cells = {cell["id"]: handout.bare(cell) for cell in notebook["cells"]}
    for item in one.items:
        cell = cells[f"{item.key}-answer"]
        cell["source"] = handout.without_raising(cell["source"])
    return dict(notebook) | {"cells": list(cells.values())}


def write_sheets(root: Path, new: Path, given: Sequence[Assignment]) -> None:
    """Write solution sheets and rubrics, each to edit and to read."""
    (new / "rubrics").mkdir()
    with typesetting(root) as typeset:
        for one in given:
            solved, rubric = handout.solved(one), handout.rubric(one)
            write(new / "solutions" / f"{one.name}.ipynb", solved)
            (new / "rubrics" / f"{one.name}.md").write_text(rubric, encoding="utf-8")
            words = {"solutions": solved, "rubrics": handout.as_notebook(rubric)}
            for folder, notebook in words.items():
                text = page(notebook, f"{one.title}: {folder}", typeset)
                (new / folder / f"{one.name}.html").write_text(text, encoding="utf-8")


def write(path: Path, notebook: Mapping[str, Any]) -> None:
    """Write a notebook."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
