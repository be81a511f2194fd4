"""Assignments for self-study on the book's pages: notebooks to download, and the list of them.

The list takes the place of the line `PLACE` on the teaching page. A course hands out its own
notebooks, with numbers of its own: ``python3 run.py assignments --seed FILE``.
"""

from pathlib import Path
from typing import Final

from iclkit.classroom import leaks
from iclkit.classroom.release import Handout, self_study
from iclkit.site.downloads import FOLDER, LICENSES, Wheel, zipped
from iclkit.site.pages import BuildError

__all__ = ["PLACE", "offer", "refuse_leaks"]

#: The line of a page of the book that becomes the list.
PLACE: Final = "<!-- assignments -->"
READ_ME = """\
{title}
An assignment of the book "In-Context Learning, Reproduced", for self-study.

Put the notebook and {wheel} into one folder, in JupyterLab or on Colab, and run the notebook from
the top. The first cell installs the library where it is missing.

Text: CC BY 4.0. Code: BSD-3-Clause.
"""


def offer(root: Path, staging: Path, library: Wheel, address: str | None) -> None:
    """Write the notebooks into the staging folder, and the list into the page that asks for it.

    Raises
    ------
    BuildError
        When an assignment is not in order.
    """
    pages = [page for page in (staging / "book").glob("*.md") if PLACE in page.read_text("utf-8")]
    if not pages:
        return
    try:
        given = self_study(root, address=address)
    except ValueError as error:
        raise BuildError(f"assignments: {error}") from error
    place = staging / "notebooks" / FOLDER
    place.mkdir(exist_ok=True)
    for one in given:
        (place / f"{one.name}.ipynb").write_bytes(one.notebook)
        (place / f"{one.name}-bundle.zip").write_bytes(bundle(root, one, library))
    for page in pages:
        text = page.read_text("utf-8").replace(PLACE, "\n".join(map(line, given)))
        page.write_text(text, "utf-8")


def bundle(root: Path, one: Handout, library: Wheel) -> bytes:
    """Return an archive with which an assignment runs anywhere."""
    words = READ_ME.format(title=one.title, wheel=library.name).encode()
    files = {f"{one.name}.ipynb": one.notebook, library.name: library.data, "README.txt": words}
    files |= {name: (root / name).read_bytes() for name in LICENSES if (root / name).is_file()}
    return zipped({f"{one.name}/{name}": content for name, content in files.items()})


def line(one: Handout) -> str:
    """Return an assignment's line of the list."""
    at = f"/notebooks/{FOLDER}/{one.name}"
    return (
        f"- **{one.title}**, with {{doc}}`/notebooks/{one.chapter}`: {one.exercises} exercises, "
        f"{one.points} points, about {one.minutes} minutes. "
        f"{{download}}`Notebook <{at}.ipynb>`, {{download}}`bundle <{at}-bundle.zip>`"
    )


def refuse_leaks(root: Path, site: Path) -> None:
    """Raise BuildError when something of a solution stands in the built book."""
    try:
        found = leaks.problems(root, site)
    except ValueError as error:
        raise BuildError(str(error)) from error
    if found:
        raise BuildError("the book would publish solutions:\n  " + "\n  ".join(found))
