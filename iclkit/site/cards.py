"""The card of a page: what it is about, what it takes, how it came out, how to get and cite it.

A notebook has a table under its title; the book shows this card in its place. Words come from the
table and from the lists of references, numbers from the manifest of the run and from the ledger.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml

from iclkit import __version__
from iclkit.bench.claims import DIFFERS, FAILS, HOLDS, ICONS, NOT_ATTEMPTED, Entry
from iclkit.bench.runner import Manifest
from iclkit.site.downloads import Download
from iclkit.site.frontmatter import (
    AUTHORS,
    BEFORE,
    CODE,
    IDENTIFIERS,
    PAPER,
    READING,
    STATUS,
    VENUE,
    FrontMatter,
)
from iclkit.site.history import SHOWN, History, commit_link
from iclkit.site.pages import BuildError, Chapter, markdown_cell, outputs_label, sentence

__all__ = [
    "Citation",
    "Page",
    "card",
    "launch_links",
    "page_entry",
    "paper_entry",
    "score",
    "with_selfcheck",
]

SELFCHECK = "(selfcheck-{0})=\n## Check yourself\n\n```{{selfcheck}} {0}\n```\n"
EXERCISES = re.compile(r"^## Exercises\b", re.MULTILINE)
PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
SPECIAL = re.compile(r"([&%#_])")


class Citation(NamedTuple):
    """How to cite the book, as CITATION.cff says: title, authors, year."""

    title: str
    authors: str
    year: str

    @classmethod
    def of(cls, root: Path) -> "Citation":
        """Return the citation of the repository; raise BuildError when its file is not in order."""
        try:
            given = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
            authors = " and ".join(f"{{{author_name(a)}}}" for a in given["authors"])
            return cls(given["title"], authors, str(given["date-released"])[:4])
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise BuildError(
                f"CITATION.cff needs title, authors, date-released: {error!r}"
            ) from error


def author_name(author: Mapping[str, str]) -> str:
    """Return the name of an author of CITATION.cff, a person or a group."""
    if "name" in author:
        return author["name"]
    return f"{author['given-names']} {author['family-names']}"


@dataclass(frozen=True)
class Page:
    """What the build knows of a page.

    Parameters
    ----------
    front : FrontMatter
    manifest : Manifest
        The run behind the page.
    entries : tuple of Entry
        Its claims; those of a chapter's first page do not include its sections'.
    chapter_entries : tuple of Entry
        The claims of its chapter.
    reading : str
        Reading time, estimated, where the front matter gives none.
    at_paper_size : dict, optional
        The manifest of its kept run at paper size.
    downloads : tuple of Download
    launch : dict of str
        Addresses that open the page's notebook, by their names.
    history : History
    place : str, optional
        The public address of the repository.
    bibtex : tuple of str
        Entries for the paper, where there is one, and the page.
    """

    front: FrontMatter
    manifest: Manifest
    entries: tuple[Entry, ...]
    chapter_entries: tuple[Entry, ...]
    reading: str
    at_paper_size: Mapping[str, Any] | None
    downloads: tuple[Download, ...]
    launch: Mapping[str, str]
    history: History
    place: str | None
    bibtex: tuple[str, ...]

    @property
    def name(self) -> str:
        """The notebook's name."""
        return self.front.name


def card(page: Page) -> str:
    """Return the card of a page as MyST Markdown."""
    parts = [about(page.front), facts(page), buttons(page), goals(page.front)]
    parts += [running(page), citing(page), changes(page.history, page.place)]
    return container("page-card", "\n\n".join(part for part in parts if part), depth=6)


def about(front: FrontMatter) -> str:
    """Return the paper and where it stands, or what the page builds on."""
    given = front.fields
    first = [given[PAPER]] if PAPER in given else []
    first += [f"{row} {given[row]}" for row in ("Belongs to", "Builds on") if row in given]
    second = [given[row] for row in (AUTHORS, VENUE, IDENTIFIERS) if row in given]
    second += [f"Official code: {given[CODE]}"] if CODE in given else []
    lines = [sentence(line) for line in first]
    lines += (
        [container("page-source", ".\n".join([*second, ""]).strip(), depth=4)] if second else []
    )
    lines += [f"Status: {given[STATUS]}."] if STATUS in given else []
    return "\n\n".join(lines)


def facts(page: Page) -> str:
    """Return what the page takes and how it came out, as a list."""
    made = page.manifest
    commit = commit_link(made.commit, page.place)
    given = page.front.fields.get(READING, page.reading)
    lines = [
        f"**Reading** {given}",
        f"**Running** {cost(page)}",
        f"**Claims** {verdicts(page)}",
        f"**Last run** {made.date}, seed {made.seed}, commit {commit}; "
        f"[environment](#{outputs_label(page.name)})",
    ]
    return container("page-facts", "\n".join(f"- {line}" for line in lines), depth=4)


def cost(page: Page) -> str:
    """Return the measured time and memory of the run, and of the kept one at paper size."""
    made, kept = page.manifest, page.at_paper_size
    text = f"{duration(made.seconds)}, {memory(made.peak_memory_mb)} (profile `{made.profile}`)"
    if kept is None:
        return text
    return f"{text}; at paper size {duration(kept['seconds'])}, {memory(kept['peak_memory_mb'])}"


def verdicts(page: Page) -> str:
    """Return the score of a page, and of its chapter where that has more claims."""
    if not page.entries:
        return "this page checks no claims of a paper"
    text = f"{score(page.entries)}; [in the ledger](#{Chapter(page.name).label})"
    if len(page.chapter_entries) == len(page.entries):
        return text
    return f"{text}; whole chapter: {score(page.chapter_entries)}"


def score(entries: Sequence[Entry]) -> str:
    """Return how many of the claims hold, then what else there is, as plainly.

    A verdict that no claim has is left out, but for "hold".
    """
    count = Counter(entry.verdict for entry in entries)
    first = f"{ICONS[HOLDS]} {count.pop(HOLDS, 0)} of {len(entries)} hold"
    words = {DIFFERS: "differ", FAILS: "fail", NOT_ATTEMPTED: NOT_ATTEMPTED}
    rest = [f"{ICONS[v]} {n} {plural(words.get(v, v), n)}" for v, n in sorted(count.items())]
    return ", ".join([first, *rest])


def plural(verb: str, number: int) -> str:
    """Return a verb, with its s where it is one claim that does it."""
    return f"{verb}s" if number == 1 and verb in ("differ", "fail") else verb


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it.

    Examples
    --------
    >>> duration(41.6), duration(208), duration(6052.7), duration(9000)
    ('42 s', '3 min 28 s', '101 min', '2.5 h')
    """
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole / 60:.0f} min" if whole < 7200 else f"{whole / 3600:.1f} h"


def memory(megabytes: float) -> str:
    """Return an amount of memory in the unit that suits it."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def buttons(page: Page) -> str:
    """Return the links that download the page's files and those that open it elsewhere."""
    lines = [f"- {{download}}`{d.label} <{d.path}>`" for d in page.downloads]
    lines += [f"- [{label}]({link})" for label, link in page.launch.items()]
    return container("page-buttons", "\n".join(lines), depth=4)


def goals(front: FrontMatter) -> str:
    """Return the folded learning goals and prerequisites; the verbs stay visible."""
    before = front.fields.get(BEFORE)
    needed = f"**Before you start:** {before}." if before else ""
    if not front.goals:
        return needed
    verbs = front.verbs
    title = "You will learn to " + " and ".join([", ".join(verbs[:-1]), verbs[-1]][-len(verbs) :])
    lines = "\n".join(f"- {goal}" for goal in front.goals)
    return folded(title, f"{lines}\n\n{needed}")


def running(page: Page) -> str:
    """Return the folded ways to run the page."""
    lines = [
        "- **In a clone of the repository:** `python3 run.py lab`, then open "
        f"`{page.name}.ipynb`; or, without a browser, `python3 run.py run {page.name}`.",
        "- **Anywhere else:** unpack the bundle, which holds the notebook, the library as a wheel, "
        "and what to do. The script runs without Jupyter once that wheel is installed.",
    ]
    if not page.launch:
        lines.append("- **Binder and Colab:** this copy of the book names no public repository.")
    lines.append("- Sizes and budgets: {doc}`/book/running`. All runs: {doc}`/book/health`.")
    return folded("Run it yourself", "\n".join(lines))


def citing(page: Page) -> str:
    """Return the folded BibTeX entries."""
    words = ("The paper:", "This page:") if len(page.bibtex) == 2 else ("This page:",)
    blocks = [
        f"{word}\n\n```bibtex\n{entry}\n```" for word, entry in zip(words, page.bibtex, strict=True)
    ]
    return folded("Cite", "\n\n".join(blocks))


def changes(past: History, place: str | None) -> str:
    """Return the folded history of the page."""
    if past.problem:
        return folded("History", f"The changes of this page are not known: {past.problem}.")
    number = len(past.changes)
    head = f"History: {number} change{'s' * (number > 1)}, the last on {past.changes[0].date}"
    lines = [
        f"- {c.date} {commit_link(c.commit, place)} {plain(c.subject)}"
        for c in past.changes[:SHOWN]
    ]
    older = [f"- {number - SHOWN} older"] if number > SHOWN else []
    newer = ["- edited since, not committed"] if past.edited else []
    return folded(head, "\n".join([*newer, *lines, *older]))


def plain(text: str) -> str:
    """Return text in which no character means anything to Markdown."""
    return PUNCTUATION.sub(r"\\\1", text)


def folded(title: str, body: str) -> str:
    """Return a block that opens on its title."""
    return f":::::{{dropdown}} {title}\n{body}\n:::::"


def container(name: str, body: str, *, depth: int) -> str:
    """Return a block with a class; `depth` colons must be more than its content has."""
    fence = ":" * depth
    return f"{fence}{{container}} {name}\n{body}\n{fence}"


def launch_links(
    place: str | None, ref: str | None, name: str, *, alone: bool = True
) -> dict[str, str]:
    """Return the addresses that open a notebook on Binder and Colab.

    Both read GitHub only, so there are none for an address elsewhere, nor without a reference.
    Colab opens the notebook without the repository: there is no link to it unless the notebook
    installs the library when it is `alone`.

    Examples
    --------
    >>> links = launch_links("https://github.com/a/b", "v0.1.0", "00_primer")
    >>> links["Binder"]
    'https://mybinder.org/v2/gh/a/b/v0.1.0?urlpath=lab/tree/notebooks/00_primer.ipynb'
    >>> launch_links(None, None, "00_primer")
    {}
    """
    host, _, repository = (place or "").removeprefix("https://").partition("/")
    if host != "github.com" or not ref:
        return {}
    at, path = quote(ref, safe=""), f"notebooks/{quote(name)}.ipynb"
    links = {"Binder": f"https://mybinder.org/v2/gh/{repository}/{at}?urlpath=lab/tree/{path}"}
    colab = f"https://colab.research.google.com/github/{repository}/blob/{at}/{path}"
    return links | ({"Colab": colab} if alone else {})


def paper_entry(references: str, key: str) -> str:
    """Return the BibTeX entry of `key`; raise BuildError when there is none."""
    found = re.search(rf"^@\w+\{{{re.escape(key)},.*?^\}}", references, re.DOTALL | re.MULTILINE)
    if found is None:
        raise BuildError(f"references.bib has no entry {key}, which a page's table cites")
    return found[0]


def page_entry(front: FrontMatter, book: Citation, commit: str, place: str | None) -> str:
    """Return the BibTeX entry of a page of the book."""
    note = f"Version {__version__}, commit {commit}, notebook {front.name}"
    fields = {
        "author": book.authors,
        "title": latex(front.title.replace("*", "")),
        "booktitle": latex(book.title),
        "year": book.year,
        "note": latex(note),
    }
    fields |= {"url": place} if place else {}
    lines = "".join(f"  {name:<9} = {{{value}}},\n" for name, value in fields.items())
    return f"@incollection{{iclr-{front.name.replace('_', '-')},\n{lines}}}"


def latex(text: str) -> str:
    """Return text as a BibTeX value without meaning to LaTeX, its capitals kept."""
    return "{" + SPECIAL.sub(r"\\\1", text) + "}"


def with_selfcheck(cells: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return the cells of a page with its self-check before the exercises, or at the end."""
    starts = [
        i
        for i, cell in enumerate(cells)
        if cell["cell_type"] == "markdown" and EXERCISES.search("".join(cell["source"]))
    ]
    at = starts[-1] if starts else len(cells)
    return [*cells[:at], markdown_cell(SELFCHECK.format(name), "selfcheck"), *cells[at:]]
