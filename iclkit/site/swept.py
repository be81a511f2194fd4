"""What a sweep over seeds found, on the ledger page: one line per claim, one part for the page.

The numbers come from the record that `iclkit.bench.drift` keeps. A claim that was changed since the
sweep is called not swept: its old numbers would be those of another claim.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from iclkit.bench.claims import FAILS, ICONS, Entry
from iclkit.bench.drift import Record, Swept

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
    parts = [verdicts(swept), *gone(lost(swept, record)), *unmeasured(swept, record)]
    return "; ".join(part for part in [*parts, spread(swept)] if part) + "."


def verdicts(swept: Swept) -> str:
    """Return in how many runs a claim came out, failures first and in bold."""
    runs = len(swept.tried)
    if not swept.failed:
        return f"{swept.tried[0].verdict.capitalize()} in {in_all(swept)}"
    where = ", ".join(place_of(result.seed, result.threads) for result in swept.failed)
    return f"**{ICONS[FAILS]} Fails in {len(swept.failed)} of {runs} runs**, {where}"


def in_all(swept: Swept) -> str:
    """Return the number of runs in words, those with more threads apart."""
    count = Counter(result.threads for result in swept.tried)
    plain = count.pop(1, 0)
    first = [f"all {plain} runs" if plain > 1 else f"{plain} run"] if plain else []
    more = [f"{number} with {threads} threads" for threads, number in sorted(count.items())]
    return " and in ".join([*first, *more])


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


def unmeasured(swept: Swept, record: Record) -> list[str]:
    """Return the words for runs of the notebook from before it measured the claim."""
    runs = [run for run in record.runs if run["notebook"] == swept.notebook and not run["problem"]]
    tried = {(result.seed, result.threads) for result in swept.tried}
    places = [(run["seed"], run["threads"]) for run in runs]
    return [f"not measured {place_of(*place)}" for place in places if place not in tried]


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
    rest = [name for name in found if name not in swept]
    return f"{TITLE}{how(record, {e.claim.notebook for e in tried})}{outcome(swept, rest)}\n"


def how(record: Record, pages: set[str]) -> str:
    """Return how a sweep was made: its seeds and threads, where, when and from what."""
    commits, days, machines = (in_order(record, key) for key in ("commit", "date", "machine"))
    made = f"commit {', '.join(f'`{c}`' for c in commits)}; {' to '.join(ends(days))}"
    return (
        "A verdict at one seed may be luck, and one with one thread may hang on the order of a "
        f"sum.\nSo {notebooks(record, pages)}, with profile `{record.profile}` "
        f"({made}; {'; '.join(machines)}).\n"
        "Cells of a sweep compute with one thread everywhere, and with more only here, to see "
        "whether it\nmatters.\n"
    )


def notebooks(record: Record, pages: set[str]) -> str:
    """Return which of the notebooks were run at which seeds, and with more threads, in words."""
    made: dict[str, set[tuple[int, int]]] = {}
    for run in record.runs:
        made.setdefault(run["notebook"], set()).add((run["threads"], run["seed"]))
    plain = Counter(tuple(sorted(s for t, s in runs if t == 1)) for runs in made.values())
    at = [f"{number} at {listed(seeds)}" for seeds, number in plain.most_common() if seeds]
    number = f"{len(made)} notebook{'s were' if len(made) > 1 else ' was'} run"
    one = f" at {listed(next(iter(plain)))}" if len(plain) == 1 else f": {', '.join(at)}"
    whole = "all " if len(made) > 1 and pages <= made.keys() else ""
    return whole + number + one + with_threads(made.values())


def with_threads(made: Collection[set[tuple[int, int]]]) -> str:
    """Return the words for the runs with more threads, and for how many notebooks have them."""
    count = Counter(place for runs in made for place in runs if place[0] != 1)
    return "".join(
        f"{' and' if number == len(made) else f', {number} of them also'} {place_of(seed, threads)}"
        for (threads, seed), number in sorted(count.items())
    )


def in_order(record: Record, key: str) -> list[str]:
    """Return the different values of a field of the runs' manifests, sorted."""
    return sorted({str(run[key]) for run in record.runs})


def ends(days: Sequence[str]) -> list[str]:
    """Return the first and the last day, or the one that there is."""
    return list(dict.fromkeys([days[0], days[-1]]))


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


def outcome(swept: dict[str, Swept], rest: Sequence[str]) -> str:
    """Return how many claims a seed moves, and those that did not come out in every run."""
    moved = sum(one.stochastic for one in swept.values())
    failed = [name for name, one in swept.items() if one.failed]
    lines = [
        f"Scores that depend on the seed: {moved} of {len(swept)}. Their rows show the range; the "
        "others are the same at every seed.\n"
    ]
    if rest:
        links = ", ".join(f"[{name}](#ledger-{name.lower()})" for name in rest)
        lines.append(f"Claims of this build that were not swept: {len(rest)} ({links}).\n")
    if not failed:
        return "".join([*lines, "Every swept claim came out as it says in every run.\n"])
    rows = [f"- [{name}](#ledger-{name.lower()}): {verdicts(swept[name])}.\n" for name in failed]
    return "".join([*lines, "Not every run came out as its claim says:\n\n", *rows])
