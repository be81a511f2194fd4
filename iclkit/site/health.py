"""The health page: which notebook ran, when, for how long, with what, and how its claims came out.

Everything comes from manifests and ledger rows; a table for readers and a file for programs.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from iclkit import __version__
from iclkit.bench.archive import SINCE, KeptRun
from iclkit.bench.claims import DIFFERS, FAILS, HOLDS, ICONS, NOT_ATTEMPTED, Entry
from iclkit.bench.runner import BUDGETS
from iclkit.site.cards import Page, duration, memory, score
from iclkit.site.history import commit_link
from iclkit.site.pages import Chapter, table

__all__ = ["SITE_FACTS", "health_page", "site_facts"]

#: Where the site keeps its facts for programs, seen from its root.
SITE_FACTS: Final = "_static/site.json"

COLUMNS = (HOLDS, DIFFERS, FAILS, NOT_ATTEMPTED)
KEPT_HEAD = f"Claims that were changed since, or moved to another page, are not counted.\n{SINCE}"
HEAD = """\
# Health

Each notebook below was executed from its first cell to its last, in a process and an empty folder
of its own, before these pages were made.
The build stops at an error, a warning, a cell that did not run, a claim that was not checked or did
not come out as entered, a run over twice its time or over its memory, a broken link, and a figure
without a text.
So a page that you can read has passed; the table says what that took.

"""


def health_page(pages: Sequence[Page], entries: Sequence[Entry], kept: Sequence[KeptRun]) -> str:
    """Return the health page as MyST Markdown.

    Parameters
    ----------
    pages : sequence of Page
        Every notebook of the book, in order; all of one profile and seed.
    entries : sequence of Entry
        Every claim.
    kept : sequence of KeptRun
        Runs at paper size.
    """
    parts = [HEAD, totals(pages, entries), runs_table(pages), kept_table(pages, kept)]
    return "\n".join([*parts, environment(pages), budgets(), programs()])


def totals(pages: Sequence[Page], entries: Sequence[Entry]) -> str:
    """Return the sums, as a list."""
    made = [page.manifest for page in pages]
    seconds, peak = sum(m.seconds for m in made), max(m.peak_memory_mb for m in made)
    days = sorted({m.date for m in made})
    lines = [
        f"**Notebooks** {ICONS[HOLDS]} all {len(made)} ran to the end",
        f"**Claims** {score(entries)}; one by one in the {{doc}}`ledger <ledger>`",
        f"**Time** {duration(seconds)}, summed; notebooks may run side by side",
        f"**Memory** {memory(peak)} at the most",
        f"**Profile** `{made[0].profile}`, **seed** {made[0].seed}, **version** {__version__}",
        f"**Dates** {' to '.join(dict.fromkeys([days[0], days[-1]]))}; a notebook runs again when "
        "its code, the library that it uses, its data or the locked packages change",
    ]
    return "".join(f"- {line}\n" for line in lines)


def runs_table(pages: Sequence[Page]) -> str:
    """Return the table of the notebooks."""
    heads = ["Page", "Status", "Time", "Memory", "Claims", "Last run"]
    align = ["---", "---", "---:", "---:", "---", "---"]
    legend = ", ".join(f"{ICONS[verdict]} {verdict}" for verdict in COLUMNS)
    words = f"Time with its share of the budget. Claims: {legend}.\n\n"
    return "## Notebooks\n\n" + words + table(heads, align, [run_row(page) for page in pages])


def run_row(page: Page) -> list[str]:
    """Return the row of one notebook."""
    made = page.manifest
    share = made.seconds / BUDGETS[made.profile].seconds
    return [
        page_link(page.name),
        f"{ICONS[HOLDS]} ran" if share <= 1 else f"{ICONS[DIFFERS]} slow",
        f"{made.seconds:.0f} s ({share:.0%})",
        memory(made.peak_memory_mb),
        counted(entry.verdict for entry in page.entries),
        f"{made.date} {commit_link(made.commit, page.place)}",
    ]


def page_link(name: str) -> str:
    """Return a link to a notebook's page by its short name."""
    return f"{{doc}}`{Chapter(name).title} </notebooks/{name}>`"


def counted(verdicts: Iterable[str]) -> str:
    """Return how often each verdict came out, by icons."""
    count = Counter(verdicts)
    return ", ".join(f"{ICONS[v]} {count[v]}" for v in COLUMNS if count[v]) or "none"


def kept_table(pages: Sequence[Page], kept: Sequence[KeptRun]) -> str:
    """Return the table of the runs at paper size that the repository keeps, and what has none."""
    title, there = "## Kept runs at paper size\n\n", {run.manifest["notebook"] for run in kept}
    without = ", ".join(page_link(page.name) for page in pages if page.name not in there)
    last = f"\nWithout such a run: {without}; {{doc}}`running` says why.\n" if without else ""
    if not kept:
        return f"{title}None.\n"
    machines = {run.manifest["machine"] for run in kept}
    alike = len(machines) == 1
    heads = ["Page", "Seed", "Claims", "Time", "Memory", "Run", "Machine"]
    align = ["---", "---:", "---", "---:", "---:", "---", "---"]
    shown = len(heads) - alike  # the last column would repeat itself
    rows = [kept_row(run, pages[0].place)[:shown] for run in kept]
    above = f"{KEPT_HEAD}{f' All on {machines.pop()}.' if alike else ''}\n\n"
    return title + above + table(heads[:shown], align[:shown], rows) + last


def kept_row(run: KeptRun, place: str | None) -> list[str]:
    """Return the row of one kept run."""
    made = run.manifest
    return [
        page_link(made["notebook"]),
        str(made["seed"]),
        counted(row.verdict for row in run.rows),
        duration(made["seconds"]),
        memory(made["peak_memory_mb"]),
        f"{made['date']} {commit_link(made['commit'], place)}"
        + (f"; {run.since}" if run.since else ""),
        made["machine"],
    ]


def environment(pages: Sequence[Page]) -> str:
    """Return the versions behind the pages; where they differ, which page had which."""
    names = dict.fromkeys(name for page in pages for name in page.manifest.versions)
    rows = [[name, found(name, pages)] for name in names]
    rows.append(["machine", told_apart({p.name: p.manifest.machine for p in pages})])
    return "## Environment\n\n" + table(["What", "Version"], ["---", "---"], rows)


def found(package: str, pages: Sequence[Page]) -> str:
    """Return the version of a package in the runs."""
    return told_apart({p.name: p.manifest.versions.get(package, "not there") for p in pages})


def told_apart(values: Mapping[str, str]) -> str:
    """Return the one value of all pages, or each with its pages."""
    pages: dict[str, list[str]] = {}
    for name, value in values.items():
        pages.setdefault(value, []).append(name)
    if len(pages) == 1:
        return next(iter(pages))
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in pages.items())


def budgets() -> str:
    """Return the table of budgets."""
    rows = [
        [f"`{name}`", duration(budget.seconds), f"{budget.memory_gb:g} GB"]
        for name, budget in BUDGETS.items()
    ]
    words = (
        "A run over its time is reported, over twice its time or over its memory it is ended.\n\n"
    )
    heads = ["Profile", "Time per notebook", "Memory"]
    return "## Budgets\n\n" + words + table(heads, ["---", "---:", "---:"], rows)


def programs() -> str:
    """Return the words on the facts for programs."""
    link = f'<a href="../{SITE_FACTS}">site.json</a>'
    return f"## For programs\n\nThe same facts and every claim's verdict, as JSON: {link}.\n"


def site_facts(pages: Sequence[Page], entries: Sequence[Entry], commit: str) -> str:
    """Return what a program may want to know of the site, as JSON.

    Parameters
    ----------
    pages, entries
        See `health_page`.
    commit : str
        The commit that the pages were made from.
    """
    facts = {
        "book": "In-Context Learning, Reproduced",
        "version": __version__,
        "commit": commit,
        "repository": pages[0].place,
        "pages": [page_facts(page) for page in pages],
        "claims": [claim_facts(entry) for entry in entries],
    }
    return json.dumps(facts, indent=1, ensure_ascii=True) + "\n"


def page_facts(page: Page) -> dict[str, Any]:
    """Return the facts of one page."""
    made = page.manifest
    kept = ("profile", "seed", "seconds", "peak_memory_mb", "date", "commit", "machine", "versions")
    return {
        "notebook": page.name,
        "page": f"notebooks/{page.name}.html",
        "title": page.front.title,
        "kind": page.front.place.kind,
        "chapter": page.front.place.chapter,
        "claims": dict(Counter(entry.verdict for entry in page.entries)),
        "run": {name: getattr(made, name) for name in kept},
    }


def claim_facts(entry: Entry) -> dict[str, Any]:
    """Return the facts of one claim."""
    claim = entry.claim
    return {
        "id": claim.id,
        "notebook": claim.notebook,
        "verdict": entry.verdict,
        "text": claim.text,
        "source": claim.source,
        "result": entry.row.detail if entry.row else None,
        "ledger": f"book/ledger.html#ledger-{claim.id.lower()}",
    }
