"""What the teaching page offers: the workload of the assignments, and all figures for slides.

The page says where: `WORKLOAD` becomes a table made from the instructors' notebooks, `SLIDES` the
link to one archive with every figure of the book as SVG on a white ground.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from iclkit import __version__
from iclkit.bench.runner import Run
from iclkit.classroom.source import Assignment, Item, assignments
from iclkit.site import provenance
from iclkit.site.cards import Citation
from iclkit.site.downloads import FOLDER, LICENSES, zipped
from iclkit.site.pages import BuildError, Chapter

__all__ = ["ARCHIVE", "SLIDES", "WORKLOAD", "offer", "on_white", "slides", "workload"]

#: The lines of a page of the book that become the table, and the link to the figures.
WORKLOAD: Final = "<!-- workload -->"
SLIDES: Final = "<!-- slides -->"
ARCHIVE: Final = "figures-svg.zip"

ROLE = re.compile(r"\{[a-z:]+\}`(?:([^`<]*?) *<[^`>]*>|([^`]*))`")
START = re.compile(r"<svg\b[^>]*>")
GROUND = re.compile(r'<g id="patch_1">\s*<path d="[^"]*" style="fill: #ffffff"/>')
SOURCES: Final = {
    "of the paper": "this book, repeating or following the paper as the caption says",
    "new here": "this book",
    "illustration": "this book, an illustration",
}
HEAD = """\
| Exercise | Kind | Difficulty | Minutes | Points by tests | Points by hand |
| --- | --- | --- | ---: | ---: | ---: |
"""
SUMS = """\
| Assignment | Exercises | Minutes | Points by tests | Points by hand |
| --- | ---: | ---: | ---: | ---: |
"""
READ_ME = """\
# Figures of "{title}"

The book has these figures as SVG ({count}), on a white ground, named as on its pages. They are of
version {version}, run with profile `{profile}` and seed {seed}. Formulas in the captions are
written in TeX; names such as `lu-figure1` point to figures, theorems and formulas of the book.

Cite a figure by its name, the page that it is on, and the book:

> {authors}: {title}. Version {version}, {year}.

Where a caption names a figure of a paper, cite the paper as well. Text and figures are under
CC BY 4.0: use and change them, name the source, and say what you changed.
"""


def offer(root: Path, staging: Path, runs: Sequence[Run], citation: Citation) -> list[Assignment]:
    """Fill in the pages of the staging folder that ask for it; return the assignments.

    Raises
    ------
    BuildError
        When an assignment is not in order.
    """
    try:
        given = assignments(root)
    except ValueError as error:
        raise BuildError(f"assignments: {error}") from error
    for page in sorted((staging / "book").glob("*.md")):
        text = page.read_text("utf-8")
        if WORKLOAD in text:
            text = text.replace(WORKLOAD, workload(given))
        if SLIDES in text:
            place = staging / "notebooks" / FOLDER
            place.mkdir(exist_ok=True)
            (place / ARCHIVE).write_bytes(slides(root, runs, citation))
            text = text.replace(SLIDES, slides_line(runs))
        page.write_text(text, "utf-8")
    return given


# ------------------------------------------------------------------ workload


def workload(given: Sequence[Assignment]) -> str:
    """Return the sums of all assignments as a table, then the folded exercises of each."""
    return SUMS + "".join(map(sums, given)) + "".join(map(folded, given))


def sums(one: Assignment) -> str:
    """Return the line of an assignment."""
    parts = [numbers_of(item) for item in one.items]
    totals = [str(sum(column)) for column in zip(*parts, strict=True)]
    return f"| {cell(one.title)} | {len(parts)} | {' | '.join(totals)} |\n"


def numbers_of(item: Item) -> tuple[int, int, int]:
    """Return the minutes of an exercise, and its points by tests and by hand."""
    by_hand = sum(criterion.points for criterion in item.tests.rubric)
    return item.about["minutes"], item.tests.points - by_hand, by_hand


def folded(one: Assignment) -> str:
    """Return the exercises of an assignment as a folded table."""
    lines = [
        f"| {cell(item.title)} | {item.about['kind']} | {item.about['difficulty']} | "
        f"{' | '.join(map(str, numbers_of(item)))} |\n"
        for item in one.items
    ]
    return f"\n::::{{dropdown}} {one.title}\n{HEAD}{''.join(lines)}::::\n"


def cell(text: str) -> str:
    """Return text for a cell of a table."""
    return text.replace("|", r"\|")


# ------------------------------------------------------------------ figures


def slides(root: Path, runs: Sequence[Run], citation: Citation) -> bytes:
    """Return the archive of all figures: an SVG each, what they show, and the licences.

    The same runs give the same bytes.
    """
    found = list(figures(runs))
    made = runs[0].manifest
    about = READ_ME.format(
        title=citation.title,
        authors=re.sub(r"[{}]", "", citation.authors),
        year=citation.year,
        count=len(found),
        version=__version__,
        profile=made.profile,
        seed=made.seed,
    )
    files = {f"{record['name']}.svg": on_white(svg).encode() for _, record, svg in found}
    files["README.md"] = (about + "".join(captions(found))).encode()
    files |= {name: (root / name).read_bytes() for name in LICENSES if (root / name).is_file()}
    return zipped({f"figures/{name}": content for name, content in files.items()})


def figures(runs: Iterable[Run]) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield notebook, record and picture of every figure that is there as SVG."""
    for run, notebook in provenance.read(runs):
        for record, svg, _ in provenance.records(notebook["cells"]):
            if svg:
                yield run.manifest.notebook, record, svg


def captions(found: Iterable[tuple[str, Mapping[str, Any], str]]) -> Iterator[str]:
    """Yield the description of each figure, under the title of its page."""
    last = ""
    for notebook, record, _ in found:
        if notebook != last:
            yield f"\n## {Chapter(notebook).title} (notebooks/{notebook}.ipynb)\n\n"
        last, source = notebook, SOURCES[provenance.kind(record["caption"])]
        yield f"- **{record['name']}.svg** {plain(record['caption'])}\n"
        yield f"  - Seen in it: {plain(record['alt'])}\n  - Source: {source}\n"


def plain(text: str) -> str:
    """Return MyST Markdown in which references are bare names.

    Examples
    --------
    >>> plain("Lines: {prf:ref}`re-gap-limit`, {doc}`here <page>`.")
    'Lines: re-gap-limit, here.'
    """
    return " ".join(ROLE.sub(lambda found: (found[1] or found[2]).lstrip("~"), text).split())


def on_white(svg: str) -> str:
    """Return a picture with a white ground under it, also where none was drawn."""
    if GROUND.search(svg):
        return svg
    white = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return START.sub(lambda found: f"{found[0]}\n {white}", svg, count=1)


def slides_line(runs: Sequence[Run]) -> str:
    """Return the link to the archive."""
    count = sum(1 for _ in figures(runs))
    return f"{{download}}`All {count} figures as SVG </notebooks/{FOLDER}/{ARCHIVE}>`"
