"""What a sweep over seeds found, on the ledger page: one line per claim, one part for the page.

The numbers come from the record that `iclkit.bench.drift` keeps. A claim that was changed since the
sweep is called not swept: its old numbers would be those of another claim.
"""

import math
from collections.abc import Iterable, Sequence

from iclkit.bench.claims import FAILS, ICONS, Entry
from iclkit.bench.drift import Record, Result, Swept

__all__ = ["seeds_line", "seeds_part"]

TITLE = "## At other seeds\n\n"
NO_SWEEP = "The claims were not swept over seeds: what stands here is of one seed.\n\n"
NOT_SWEPT = "*At other seeds.* Not swept since the claim or its numbers changed."


def seeds_line(entry: Entry, record: Record | None) -> str | None:
    """Return what a sweep found for a claim, or that it was not swept, as one line of Markdown.

    Parameters
    ----------
    entry : Entry
        The claim. One that this build did not attempt, and one whose score is the same at every
        seed, have nothing to tell.
    record : Record, optional
        The sweep; without one nothing is said claim by claim.
    """
    if record is None or entry.row is None:
        return None
    swept = record.of(entry.claim)
    if swept is None:
        return NOT_SWEPT
    silent = not (swept.stochastic or swept.failed or lost(swept, record))
    return None if silent else f"*At {counted(seeds_of(swept))}.* {told(swept, record)}"


def told(swept: Swept, record: Record) -> str:
    """Return how often a claim came out, where it did not, and the spread of its score."""
    parts = [verdicts(swept), *gone(lost(swept, record))]
    return "; ".join(part for part in [*parts, spread(swept)] if part) + "."


def verdicts(swept: Swept) -> str:
    """Return in how many runs a claim came out, failures first and in bold."""
    runs = len(swept.tried)
    if not swept.failed:
        return f"{swept.tried[0].verdict.capitalize()} in all {runs} runs"
    where = ", ".join(place_of(result.seed, result.threads) for result in swept.failed)
    return f"**{ICONS[FAILS]} Fails in {len(swept.failed)} of {runs} runs**, {where}"


def spread(swept: Swept) -> str:
    """Return the least, largest and median score over the seeds beside the limit."""
    least, middle, most, limit = swept.quartet
    if math.isnan(middle):
        return "its score is not a number at every seed"
    unit, low, high = swept.tried[0].unit, f"{least:.3g}", f"{most:.3g}"
    if low == high:
        return f"score {low} {unit} to three digits, limit {limit:.3g}"
    return f"score {low} to {high} {unit}, median {middle:.3g}, limit {limit:.3g}"


def lost(swept: Swept, record: Record) -> list[tuple[int, int]]:
    """Return the seeds and threads of the runs of a claim's notebook that ended early."""
    return [
        (run["seed"], run["threads"])
        for run in record.runs
        if run["problem"] and run["notebook"] == swept.notebook
    ]


def gone(places: Iterable[tuple[int, int]]) -> list[str]:
    """Return the words for runs without a result."""
    return [f"no result {place_of(*place)}" for place in places]


def place_of(seed: int, threads: int) -> str:
    """Return seed and threads in words."""
    return f"at seed {seed}" + ("" if threads == 1 else f" with {threads} threads")


def seeds_of(swept: Swept) -> list[int]:
    """Return the seeds of the runs with one thread."""
    return sorted({result.seed for result in swept.tried if result.threads == 1})


def counted(seeds: Sequence[int]) -> str:
    """Return how many seeds there are."""
    return "1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def seeds_part(entries: Iterable[Entry], record: Record | None) -> str:
    """Return the part of the ledger page on the sweep: how it was made, what did not come out.

    Parameters
    ----------
    entries : iterable of Entry
        Every claim; those that this build attempted count.
    record : Record, optional
        The sweep.
    """
    tried = [entry for entry in entries if entry.row is not None]
    found = {e.claim.id: record.of(e.claim) for e in tried} if record else {}
    swept = {name: one for name, one in found.items() if one is not None}
    if record is None or not swept:
        return TITLE + NO_SWEEP
    return f"{TITLE}{how(record, swept.values())}{outcome(swept, len(tried))}\n"


def how(record: Record, swept: Iterable[Swept]) -> str:
    """Return how a sweep was made: its seeds and threads, where, when and from what."""
    results = [result for one in swept for result in one.tried]
    commits, days, machines = (in_order(record, key) for key in ("commit", "date", "machine"))
    made = f"commit {', '.join(f'`{c}`' for c in commits)}; {' to '.join(ends(days))}"
    return (
        "A verdict at one seed may be luck, and one with one thread may hang on the order of a "
        f"sum.\nSo {notebooks(record)} run at {runs_of(results)}, with profile `{record.profile}` "
        f"({made}; {'; '.join(machines)}).\n"
    )


def notebooks(record: Record) -> str:
    """Return the words for what was run: each notebook, or with some runs still missing."""
    made: dict[str, set[tuple[int, int]]] = {}
    for run in record.runs:
        made.setdefault(run["notebook"], set()).add((run["seed"], run["threads"]))
    whole = len({frozenset(runs) for runs in made.values()}) == 1
    return "each notebook was" if whole else "the notebooks were, though not yet all of them,"


def in_order(record: Record, key: str) -> list[str]:
    """Return the different values of a field of the runs' manifests, sorted."""
    return sorted({str(run[key]) for run in record.runs})


def ends(days: Sequence[str]) -> list[str]:
    """Return the first and the last day, or the one that there is."""
    return list(dict.fromkeys([days[0], days[-1]]))


def runs_of(results: Iterable[Result]) -> str:
    """Return the seeds and threads of results in words."""
    asked = sorted({(result.threads, result.seed) for result in results})
    seeds = [seed for threads, seed in asked if threads == 1]
    more = [place_of(seed, threads) for threads, seed in asked if threads != 1]
    return " and ".join([listed(seeds), *more])


def listed(seeds: Sequence[int]) -> str:
    """Return seeds in words, those without a gap by the first and the last.

    Examples
    --------
    >>> listed([0, 1, 2]), listed([0, 2]), listed([7])
    ('seeds 0 to 2', 'seeds 0, 2', 'seed 7')
    """
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    gapless = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"seeds {seeds[0]} to {seeds[-1]}" if gapless else f"seeds {', '.join(map(str, seeds))}"


def outcome(swept: dict[str, Swept], tried: int) -> str:
    """Return how many claims a seed moves, and those that did not come out in every run."""
    moved = sum(one.stochastic for one in swept.values())
    failed = [name for name, one in swept.items() if one.failed]
    lines = [
        f"Scores that depend on the seed: {moved} of {len(swept)}. Their rows show the range; the "
        "others are the same at every seed.\n"
    ]
    if missing := tried - len(swept):
        lines.append(f"Claims of this build that were not swept: {missing}.\n")
    if not failed:
        return "".join([*lines, "Every swept claim came out as it says in every run.\n"])
    rows = [f"- [{name}](#ledger-{name.lower()}): {verdicts(swept[name])}.\n" for name in failed]
    return "".join([*lines, "Not every run came out as its claim says:\n\n", *rows])
