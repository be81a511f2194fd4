"""A page of a book that nobody wrote: its table, its run, its claims, its card."""

from iclkit.bench.claims import Claim, Entry, Row
from iclkit.bench.runner import Manifest
from iclkit.site.cards import Citation, Page
from iclkit.site.downloads import Download
from iclkit.site.frontmatter import CHAPTER, FrontMatter, Place
from iclkit.site.history import Change, History

FIELDS = {
    "Paper": "*A title*, {cite:t}`key2024`",
    "Authors": "A. One, B. Two",
    "Venue": "A journal (2024)",
    "Identifiers": "DOI [10.1/x](https://doi.org/10.1/x)",
    "Official code": "none found",
    "You will learn to": "**add** one; **see** why",
    "Before you start": "counting",
    "Reading time": "one hour",
}
FRONT = FrontMatter("04_name", Place(CHAPTER, "04_name"), "A title: *of* 100 %", FIELDS)
MADE = Manifest(
    notebook="04_name",
    key="k",
    profile="book",
    seed=7,
    commit="abc+changes",
    date="2026-01-02",
    seconds=208.4,
    peak_memory_mb=1028,
    machine="2 cores",
    versions={"numpy": "2.0"},
)
BOOK = Citation("The Book", "{The authors}", "2026")
CHANGES = tuple(Change(f"c{i}", f"2026-01-0{9 - i}", f"Change {i}") for i in range(7))


def entry(name, verdict):
    claim = Claim(
        name, "04_name", "Section 1", "One.", "new here", expect="not attempted", note="no"
    )
    numbers = dict.fromkeys(("score", "limit", "resolution", "measured", "expected", "stderr"), 0.0)
    row = Row(name, "04_name", "book", "close", verdict, unit="", comparisons=1, **numbers)
    return Entry(claim, None if verdict == "not attempted" else row)


ENTRIES = tuple(
    entry(f"T-{i}", verdict)
    for i, verdict in enumerate(["holds", "holds", "differs", "not attempted", "not attempted"])
)
PAGE = Page(
    front=FRONT,
    manifest=MADE,
    entries=ENTRIES,
    chapter_entries=ENTRIES,
    reading="about 5 minutes",
    at_paper_size=None,
    downloads=(Download("downloads/04_name.ipynb", ".ipynb"),),
    launch={},
    history=History(CHANGES),
    place=None,
    bibtex=("@article{a}", "@incollection{b}"),
)
