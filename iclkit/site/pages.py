"""Pages and cells that the build writes: claims, the ledger page, provenance.

The sentences come from the claims file, the numbers from the rows of the runs, and nothing is typed
twice. Everything is MyST Markdown, so that links, formulas and search work as on other pages.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from iclkit.bench.archive import SINCE, KeptRun
from iclkit.bench.claims import (
    DIFFERS,
    FAILS,
    HOLDS,
    ICONS,
    NOT_ATTEMPTED,
    NOT_RUN,
    Entry,
    Row,
    merge,
    not_claimed,
)
from iclkit.bench.drift import Record
from iclkit.bench.runner import Manifest
from iclkit.site.swept import seeds_line, seeds_part

__all__ = [
    "BuildError",
    "Chapter",
    "claim_cell",
    "entries_of",
    "ledger_page",
    "ledger_text",
    "markdown_cell",
    "outputs_label",
    "provenance_cell",
    "sentence",
    "table",
]

VERDICTS = (HOLDS, DIFFERS, FAILS, NOT_ATTEMPTED, NOT_RUN)
ORIGINS = {
    "released code": "seen in the authors' released code",
    "released data": "seen in the authors' released data",
    "derived here": "derived and checked here",
    "new here": "new here, not in the paper",
    "recalled": "recalled, not checked against the paper's text",
}
LEDGER_HEAD = f"""\
# Claims ledger

Every row is a sentence that a computer can check.
Rows that hold or differ were measured when this book was built.
The build fails when one of them stops coming out as it says.
The other rows say why they were not attempted: at all, or in this build, for want of data.
*Resolution* is the smallest relative error that a check would notice in each of its comparisons;
a check that could not notice 100 % fails, unless its claim is a bound with a stated margin.
A score must stay within its limit.
Runs at the papers' own sizes take too long for every build: where one was kept, its result stands
in the row with its commit, date and machine, and rows without one have not been run at that size.
A result of a claim that was changed since is left out.
{SINCE}
The runs behind the rows are on the page {{doc}}`health`.

"""
FILTERS = """\
```{{raw}} html
<form class="ledger-filters" hidden aria-label="Filter the claims">
<fieldset><legend>Verdict</legend>{verdicts}</fieldset>
<fieldset><legend>Chapter</legend>{chapters}</fieldset>
<label for="ledger-words">Words</label>
<input type="search" id="ledger-words" name="words" placeholder="claim id or word">
<p role="status" aria-live="polite"></p>
</form>
<script src="../_static/ledger.js"></script>
```

"""


class BuildError(RuntimeError):
    """The book could not be built; the message says which page and why."""


@dataclass(frozen=True)
class Chapter:
    """A chapter as the ledger names it."""

    name: str

    @property
    def title(self) -> str:
        """The name for people: ``04_phase_transition`` is ``4 Phase transition``."""
        words = self.name.partition("_")[2]
        return f"{self.number} {words.replace('_', ' ').capitalize()}"

    @property
    def number(self) -> int:
        """The number that its notebooks share."""
        return int(self.name.partition("_")[0])

    @property
    def css(self) -> str:
        """A class name that survives HTML's rules."""
        return f"chapter-{self.name.replace('_', '-')}"

    @property
    def label(self) -> str:
        """The target of links to the chapter's part of the ledger."""
        return f"ledger-{self.css}"


def entries_of(rows: Mapping[str, Iterable[Row]]) -> list[Entry]:
    """Return every claim beside its row, from the rows of all chapters."""
    return merge([row for chapter in rows.values() for row in chapter])


def claim_cell(entry: Entry) -> dict[str, Any]:
    """Return the cell that shows a claim in its chapter, where links to the claim lead."""
    name = entry.claim.id
    link = f"[{name} in the ledger](#ledger-{name.lower()})."
    text = target(entry) + box(entry, [f"{source_of(entry)} {limit_of(entry)} {link}"])
    return markdown_cell(text, f"claim-{name.lower()}")


def provenance_cell(manifest: Manifest) -> dict[str, Any]:
    """Return the cell that says how the outputs of a page were made."""
    versions = ", ".join(f"{name} {number}" for name, number in manifest.versions.items())
    text = (
        f"({outputs_label(manifest.notebook)})=\n"
        "```{admonition} How these outputs were made\n:class: note dropdown\n\n"
        f"Profile `{manifest.profile}`, seed {manifest.seed}, commit `{manifest.commit}`, "
        f"{manifest.date}.\n"
        f"{manifest.seconds:.0f} s and {manifest.peak_memory_mb:.0f} MB at the peak, on "
        f"{manifest.machine}.\n{versions}.\n```\n"
    )
    return markdown_cell(text, "provenance")


def outputs_label(name: str) -> str:
    """Return the target of links to how the outputs of a notebook were made."""
    return f"outputs-{name.replace('_', '-')}"


def ledger_page(
    rows: Mapping[str, Iterable[Row]],
    kept: Sequence[KeptRun] = (),
    *,
    order: Sequence[str] = (),
    swept: Record | None = None,
) -> str:
    """Return the ledger page as MyST Markdown.

    Parameters
    ----------
    rows : dict of lists of Row
        By notebook.
    kept : sequence of KeptRun
        Runs at paper size whose results stand beside those of this build.
    order : sequence of str
        Notebooks as the table of contents has them; those that it lacks come last.
    swept : Record, optional
        What a sweep over seeds found.
    """
    entries = entries_of(rows)
    chapters = [Chapter(name) for name in in_order(entries, order)]
    shown = [v for v in VERDICTS if any(e.verdict == v for e in entries)]
    parts = [LEDGER_HEAD, score_table(entries, chapters, shown), exceptions(entries)]
    large = {row.id: at_paper_size(row, run) for run in kept for row in run.rows}
    more = {e.claim.id: [large.get(e.claim.id), seeds_line(e, swept)] for e in entries}
    parts += [seeds_part(entries, swept), filters(chapters, shown)]
    return "".join([*parts, *(chapter_section(c, entries, more) for c in chapters)])


def in_order(entries: list[Entry], order: Sequence[str] = ()) -> list[str]:
    """Return the notebooks: measured ones first, by chapter, then as in `order` or the claims."""
    measured = {entry.claim.notebook for entry in entries if entry.row}
    names = dict.fromkeys(entry.claim.notebook for entry in entries)  # an ordered set
    rank = {name: number for number, name in enumerate(order)}

    def key(name: str) -> tuple[bool, str, int]:
        return name not in measured, name.partition("_")[0], rank.get(name, len(rank))

    return sorted(names, key=key)


def ledger_text(rows: Mapping[str, Iterable[Row]]) -> str:
    """Return the ledger for a terminal: one line per claim, then the totals."""
    entries = entries_of(rows)
    lines = [f"{e.claim.id:<8} {e.verdict:<14} {e.row.detail if e.row else ''}" for e in entries]
    counts = Counter(e.verdict for e in entries)
    return "\n".join([*lines, ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])])


def score_table(entries: list[Entry], chapters: list[Chapter], shown: list[str]) -> str:
    """Return the table of verdicts: one row per page, one per chapter of several, one for all."""
    count = Counter((e.claim.notebook, e.verdict) for e in entries)
    heads = ["Chapter", *(f"{ICONS[v]} {v}" for v in shown), "all"]
    rows = []
    for number, group in groupby(chapters, key=lambda chapter: chapter.number):
        pages = list(group)
        rows += [score_row(f"[{p.title}](#{p.label})", [p], shown, count) for p in pages]
        if len(pages) > 1:
            rows.append(score_row(f"**{number} all pages**", pages, shown, count))
    rows.append(score_row("**The book**", chapters, shown, count))
    return table(heads, ["---", *["---:"] * (len(shown) + 1)], rows) + "\n"


def score_row(
    name: str, chapters: list[Chapter], shown: list[str], count: Mapping[tuple[str, str], int]
) -> list[str]:
    """Return one row of the table of verdicts."""
    numbers = [sum(count[c.name, verdict] for c in chapters) for verdict in shown]
    return [name, *(str(n) for n in [*numbers, sum(numbers)])]


def exceptions(entries: list[Entry]) -> str:
    """Return the claims that did not hold or were not attempted, one line each."""
    lines = [
        f"- {ICONS[e.verdict]} [{e.claim.id}](#ledger-{e.claim.id.lower()}) {e.verdict}: "
        f"{e.claim.text}\n"
        for verdict in VERDICTS
        for e in entries
        if e.verdict == verdict != HOLDS
    ]
    return "## What does not hold, or was not tried\n\n" + "".join(lines) + "\n" if lines else ""


def index_of(entries: list[Entry]) -> str:
    """Return links to claims, each with its verdict's icon, in one line."""
    links = (f"{ICONS[e.verdict]} [{e.claim.id}](#ledger-{e.claim.id.lower()})" for e in entries)
    return f":::{{container}} claim-index\n{', '.join(links)}\n:::"


def filters(chapters: list[Chapter], shown: list[str]) -> str:
    """Return the form that filters the page; everything is shown until the reader chooses."""
    verdicts = [(v.replace(" ", "-"), f"{ICONS[v]} {v}") for v in shown]
    return FILTERS.format(
        verdicts=boxes("verdict", verdicts),
        chapters=boxes("chapter", [(c.css, c.title) for c in chapters]),
    )


def boxes(name: str, choices: list[tuple[str, str]]) -> str:
    """Return ticked check boxes."""
    template = '<label><input type="checkbox" name="{}" value="{}" checked> {}</label>'
    return "".join(template.format(name, value, text) for value, text in choices)


def at_paper_size(row: Row, run: KeptRun) -> str:
    """Return what a kept run found for a claim, and where it was made."""
    made = run.manifest
    where = f"seed {made['seed']}, commit `{made['commit']}`, {made['date']}, {made['machine']}"
    where += f"; {run.since}" if run.since else ""
    return f"*At paper size.* {row.verdict.capitalize()}: {row.detail} ({where})."


def chapter_section(
    chapter: Chapter, entries: list[Entry], more: Mapping[str, Iterable[str | None]]
) -> str:
    """Return the claims of a chapter, then what its paper does not claim."""
    own = [entry for entry in entries if entry.claim.notebook == chapter.name]
    boxed = [ledger_entry(entry, more.get(entry.claim.id, ())) for entry in own]
    text = f"({chapter.label})=\n## {chapter.title}\n\n{index_of(own)}\n\n" + "".join(boxed)
    denied = "".join(f"- {sentence}\n" for sentence in not_claimed(chapter.name))
    return text + (f"### Not claimed by the paper\n\n{denied}\n" if denied else "")


def ledger_entry(entry: Entry, more: Iterable[str | None] = ()) -> str:
    """Return one claim of the ledger page; one without a row is also the target of links to it."""
    name = entry.claim.id
    label = f"(ledger-{name.lower()})=\n"
    if entry.row is None:
        return target(entry) + label + box(entry, [source_of(entry)])
    where = f"{{claim}}`{name} in the chapter <{name}>`; check: {entry.row.check}."
    return label + box(entry, [source_of(entry), f"{where} {limit_of(entry)}"], more)


def box(entry: Entry, small: list[str], more: Iterable[str | None] = ()) -> str:
    """Return a claim as a box: verdict and sentence, numbers, those of other runs, note, print."""
    claim = entry.claim
    classes = f"claim {entry.verdict.replace(' ', '-')} {Chapter(claim.notebook).css}"
    lines = [f"**{ICONS[entry.verdict]} {claim.id} {entry.verdict}.** {claim.text}"]
    lines += [sentence(entry.row.detail)] if entry.row else []
    lines += filter(None, more)
    lines += [f"*Note.* {claim.note}"] if claim.note else []
    fine = [f":::{{container}} claim-small\n{line}\n:::" for line in small]
    return f"::::{{container}} {classes}\n" + "\n\n".join(lines + fine) + "\n::::\n\n"


def target(entry: Entry) -> str:
    """Return the directive that links to a claim lead to."""
    return f"```{{claim}} {entry.claim.id}\n```\n\n"


def source_of(entry: Entry) -> str:
    """Return where the claim stands and how well we know it."""
    unchecked = entry.verdict == NOT_ATTEMPTED and entry.claim.origin == "derived here"
    missing = "the book yet" if entry.row is None else "this build"
    origin = f"derived here, its check is not in {missing}" if unchecked else None
    return f"Source: {entry.claim.source}; {origin or ORIGINS[entry.claim.origin]}."


def limit_of(entry: Entry) -> str:
    """Return where the limit of a claim's score comes from."""
    return f"Limit: {entry.claim.why or 'sampling error, family-wise over the comparisons'}."


def sentence(text: str) -> str:
    """Return `text` with a capital letter and a full stop."""
    return text[:1].upper() + text[1:] + "."


def table(heads: Sequence[str], align: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, whose short cells stay on one line."""
    lines = "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, align, *rows))
    return f":::{{container}} plain-table\n{lines}:::\n"


def markdown_cell(text: str, name: str) -> dict[str, Any]:
    """Return a Markdown cell."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}
