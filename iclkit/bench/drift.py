"""How far verdicts drift: what every claim gave at several seeds and with more threads.

A verdict at one seed may be luck, and a verdict with one thread may hang on the order of a sum. A
sweep of the seeds, see `iclkit.bench.seeds`, is kept in one small file of the package, which the
ledger shows.
"""

import json
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from types import UnionType
from typing import Any, NamedTuple

from iclkit.bench.cache import Manifest
from iclkit.bench.claims import (
    DIFFERS,
    FAILS,
    NOT_ATTEMPTED,
    PROFILES,
    Claim,
    Row,
    load_claims,
)
from iclkit.bench.origin import RECORD
from iclkit.bench.sources import digest

__all__ = [
    "Record",
    "Result",
    "Swept",
    "Trial",
    "keep_record",
    "read_record",
    "record_of",
    "refuse_profile",
    "report_lines",
]

PLACE = Path(RECORD)
UNDO = f"`git restore {RECORD}` takes them back"
TIGHT = 0.8  # of the limit
SAME = 0.01  # of score or limit: less is no change
ROUNDING = 10  # times what threads change: what another machine may change


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: how it was made, the rows that it left, or the problem that ended it."""

    made: Manifest
    rows: tuple[Row, ...]
    problem: str = ""

    @property
    def sound(self) -> bool:
        """Whether the run ended and every claim came out as it says."""
        return not self.problem and all(row.verdict != FAILS for row in self.rows)


class Result(NamedTuple):
    """What one run gave for one claim."""

    seed: int
    threads: int
    verdict: str
    score: float
    limit: float
    unit: str


@dataclass(frozen=True)
class Swept:
    """The results of one claim, and the digest of the claim as it was.

    Parameters
    ----------
    notebook : str
        The one that checks it.
    digest : str
        Of the claim's sentence, check, limit and expectation.
    results : tuple of Result
        One per run.

    Examples
    --------
    >>> swept = Swept("01_toy", "", tuple(Result(s, 1, "holds", s / 4, 4.0, "") for s in range(3)))
    >>> swept.stochastic, swept.came_out, swept.quartet
    (True, 3, (0.0, 0.25, 0.5, 4.0))
    """

    notebook: str
    digest: str
    results: tuple[Result, ...]

    @property
    def tried(self) -> tuple[Result, ...]:
        """The results of runs that could check the claim."""
        return tuple(result for result in self.results if result.verdict != NOT_ATTEMPTED)

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results that did not come out as the claim says."""
        return tuple(result for result in self.tried if result.verdict == FAILS)

    @property
    def came_out(self) -> int:
        """How many runs came out as the claim says."""
        return len(self.tried) - len(self.failed)

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores of the runs with one thread, by seed."""
        return tuple(result.score for result in self.tried if result.threads == 1)

    @property
    def stochastic(self) -> bool:
        """Whether the score depends on the seed; NaN at every seed does not."""
        return len({repr(score) for score in self.scores}) > 1

    @property
    def quartet(self) -> tuple[float, float, float, float]:
        """The least, median and largest score over the seeds, and the limit."""
        limit = self.tried[-1].limit
        if not self.scores or any(math.isnan(score) for score in self.scores):
            return math.nan, math.nan, math.nan, limit
        return min(self.scores), median(self.scores), max(self.scores), limit

    @property
    def used(self) -> float:
        """The largest share of its limit that a result used without failing; NaN without a share.

        A deviation has to stay beyond its limit: the limit is then a share of the score.
        """
        shares = [share(result) for result in self.tried if result.verdict != FAILS]
        return max((one for one in shares if math.isfinite(one)), default=math.nan)


def share(result: Result) -> float:
    """Return the score as a share of its limit, or the limit as one of a deviation's score."""
    parts = (result.score, result.limit)
    part, whole = reversed(parts) if result.verdict == DIFFERS else parts
    return part / whole if whole > 0 else math.nan


@dataclass(frozen=True)
class Record:
    """What a sweep found, for each claim, and how each of its runs was made.

    Parameters
    ----------
    profile : {"quick", "book", "paper"}
        The sizes of all runs.
    runs : tuple of dict
        The manifest of each run, with the `problem` of one that did not end.
    claims : dict of Swept
        By id.
    """

    profile: str
    runs: tuple[Mapping[str, Any], ...]
    claims: Mapping[str, Swept]

    def of(self, claim: Claim) -> Swept | None:
        """Return the results of a claim, or None if it was changed since, or has fewer than two."""
        swept = self.claims.get(claim.id)
        if swept is None or len(swept.tried) < 2:
            return None
        return swept if swept.digest == digest_of(claim, self.profile) else None

    def without_moved(self, rows: Iterable[Row], seed: int) -> "Record":
        """Return the record without the claims whose numbers have moved since the sweep.

        Parameters
        ----------
        rows : iterable of Row
            Of today; those of another profile than the sweep's say nothing.
        seed : int
            Theirs; a seed that was not swept says nothing.
        """
        same = [row for row in rows if row.profile == self.profile and row.id in self.claims]
        moved = {row.id for row in same if has_moved(row, self.claims[row.id], seed)}
        claims = {name: one for name, one in self.claims.items() if name not in moved}
        return Record(self.profile, self.runs, claims)


def has_moved(row: Row | Result, swept: Swept, seed: int) -> bool:
    """Return whether a row is another than the sweep's at its seed, by more than rounding.

    What another number of threads changed is taken as a measure of rounding.
    """
    there = [result for result in swept.tried if result.seed == seed]
    before = [result for result in there if result.threads == 1]
    if not before or row.verdict == NOT_ATTEMPTED:
        return False
    then = before[0]
    rounding = max(abs(result.score - then.score) for result in there)
    allowed = SAME * max(abs(row.score), abs(row.limit)) + ROUNDING * rounding
    steady = abs(row.limit - then.limit) <= SAME * abs(row.limit)
    return not (steady and abs(row.score - then.score) <= allowed)


def record_of(trials: Iterable[Trial], claims: Iterable[Claim]) -> Record:
    """Return what trials found, for each claim that one of them has a row for.

    Parameters
    ----------
    trials : iterable of Trial
        All of one profile.
    claims : iterable of Claim
        As they were when the trials ran.

    Raises
    ------
    ValueError
        If there is no trial, or they have several profiles.
    """
    trials = sorted(trials, key=lambda t: (t.made.notebook, t.made.threads, t.made.seed))
    profiles = sorted({trial.made.profile for trial in trials})
    if len(profiles) != 1:
        raise ValueError(f"trials must have one profile, got {profiles}")
    swept = {claim.id: swept_of(claim, trials) for claim in claims}
    return Record(
        profile=profiles[0],
        runs=tuple(facts(trial) for trial in trials),
        claims={name: one for name, one in swept.items() if one.results},
    )


def facts(trial: Trial) -> dict[str, Any]:
    """Return how a run was made, as it is stored."""
    made = asdict(trial.made) | {"problem": trial.problem}
    return {name: value for name, value in made.items() if name != "checksum"}


def swept_of(claim: Claim, trials: Sequence[Trial]) -> Swept:
    """Return what trials of one profile gave for a claim."""
    digested = digest_of(claim, trials[0].made.profile)
    return Swept(claim.notebook, digested, results(trials, claim))


def results(trials: Iterable[Trial], claim: Claim) -> tuple[Result, ...]:
    """Return what trials gave for a claim."""
    return tuple(
        Result(t.made.seed, t.made.threads, row.verdict, row.score, row.limit, row.unit)
        for t in trials
        if t.made.notebook == claim.notebook
        for row in t.rows
        if row.id == claim.id
    )


def digest_of(claim: Claim, profile: str) -> str:
    """Return what of a claim its results belong to, as a digest."""
    limit = claim.limit_in(profile) if claim.runnable else None
    return digest(json.dumps([claim.text, claim.check, claim.expect, limit]).encode())


def keep_record(
    trials: Sequence[Trial],
    root: Path,
    *,
    replacing: bool = False,
    report: Callable[[str], object] = str,
) -> Record:
    """Store what trials found, and return it with what is stored and still true.

    What was stored of another notebook stays. Of the same notebook it stays if seeds that both have
    give every claim the same numbers, but for rounding: so a sweep can be extended by seeds. A run
    that ended without a result takes the place of none that has one.

    Parameters
    ----------
    trials : sequence of Trial
    root : Path
        The repository to store it in.
    replacing : bool
        Whether a record of another profile may go.
    report : callable
        Receives one line for each notebook whose stored runs go or stay against the new ones.

    Raises
    ------
    ValueError
        As `record_of` and `refuse_profile`.
    """
    new = record_of(trials, load_claims(root / "iclkit" / "data" / "claims.toml"))
    if not replacing:
        refuse_profile(new.profile, root)
    old = read_record(root)
    whole = merged(old, new)
    beside = (root / PLACE).with_name(".drift.json")
    beside.write_text(as_text(whole), encoding="utf-8")
    beside.replace(root / PLACE)  # whole or not at all
    for line in losses(old, new):
        report(line)
    return whole


def refuse_profile(profile: str, root: Path) -> None:
    """Raise ValueError if what is stored is of another profile: it would be lost."""
    old = read_record(root)
    if old is not None and old.profile != profile:
        there = f"{len(old.runs)} runs of profile {old.profile} are kept"
        remedy = "add --no-keep to leave them, or --replace to drop them"
        raise ValueError(f"profile must be {old.profile}, got {profile}: {there}; {remedy}")


def merged(old: Record | None, new: Record) -> Record:
    """Return `new` with what `old` holds beside it, if it is of the same profile and still true."""
    if old is None or old.profile != new.profile:
        return new
    gone = dropped(old, new)
    stay = [run for run in old.runs if run["notebook"] not in gone]
    vain = {place_of(run) for run in in_vain(old, new, gone)}
    runs = [run for run in new.runs if place_of(run) not in vain]
    anew = {place_of(run) for run in runs}
    stay = [run for run in stay if place_of(run) not in anew]
    places = {place_of(run) for run in stay}
    kept = {name: within(one, places) for name, one in old.claims.items()}
    again = {run["notebook"] for run in runs if not run["problem"]}
    claims = {name: one for name, one in kept.items() if one.notebook not in again}
    claims |= {name: joined(kept.get(name), one) for name, one in new.claims.items()}
    return Record(new.profile, tuple(sorted([*stay, *runs], key=place_of)), claims)


def dropped(old: Record, new: Record) -> dict[str, str]:
    """Return the notebooks whose old runs go, each with the reason and what would help."""
    again = sorted({run["notebook"] for run in new.runs if not run["problem"]})
    gone = {}
    for notebook in again:
        same = alike(old, new, notebook)
        if not same:
            seeds = [r["seed"] for r in sound_runs(old, notebook) if r["threads"] == 1]
            first = f"add --seed {min(seeds)} to go on from them" if seeds else "nothing to go on"
            gone[notebook] = f"no seed of theirs ran again with a result; {first}"
        elif not all(same):
            gone[notebook] = "their numbers or claims are others today; sweep their seeds again"
    return gone


def sound_runs(record: Record, notebook: str) -> list[Mapping[str, Any]]:
    """Return the runs of a notebook that ended with a result."""
    return [run for run in record.runs if run["notebook"] == notebook and not run["problem"]]


def in_vain(old: Record, new: Record, gone: Container[str]) -> list[Mapping[str, Any]]:
    """Return the new runs without a result in the place of old ones that have one and stay."""
    sound = {place_of(r) for r in old.runs if not r["problem"] and r["notebook"] not in gone}
    return [run for run in new.runs if run["problem"] and place_of(run) in sound]


def losses(old: Record | None, new: Record) -> list[str]:
    """Return what a person must know of stored runs that go, and of those that stay instead."""
    if old is None:
        return []
    if old.profile != new.profile:
        return [f"{len(old.runs)} runs of profile {old.profile} are dropped; {UNDO}"]
    anew = {place_of(run) for run in new.runs}
    gone = dropped(old, new)
    lines = []
    for notebook, why in gone.items():
        lost = [run for run in sound_runs(old, notebook) if place_of(run) not in anew]
        if lost:
            lines.append(f"{notebook}: drops {len(lost)} of its kept runs, {why}; {UNDO}")
    stay = [
        f"{told(run)}: {run['problem']}; the kept result stays" for run in in_vain(old, new, gone)
    ]
    return [*lines, *stay]


def told(run: Mapping[str, Any]) -> str:
    """Return notebook, seed and threads of a run in words."""
    threads = "" if run["threads"] == 1 else f" with {run['threads']} threads"
    return f"{run['notebook']} at seed {run['seed']}{threads}"


def place_of(run: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return the notebook, number of threads and seed of a run."""
    return run["notebook"], run["threads"], run["seed"]


def alike(old: Record, new: Record, notebook: str) -> list[bool]:
    """Return, for each result of a notebook that the records share, whether it came out alike."""
    claims = [name for name, one in new.claims.items() if one.notebook == notebook]
    both = [(old.claims[name], new.claims[name]) for name in claims if name in old.claims]
    return [
        before.digest == after.digest and not has_moved(result, before, result.seed)
        for before, after in both
        for result in after.tried
        if result.threads == 1 and any(r[:2] == result[:2] for r in before.tried)
    ]


def within(swept: Swept, places: Container[tuple[str, int, int]]) -> Swept:
    """Return the results of a claim whose runs are among `places`."""
    of = swept.notebook
    stay = tuple(r for r in swept.results if (of, r.threads, r.seed) in places)
    return replace(swept, results=stay)


def joined(old: Swept | None, new: Swept) -> Swept:
    """Return the results of both, in the order of a record's runs."""
    results = [*(old.results if old else ()), *new.results]
    return replace(new, results=tuple(sorted(results, key=lambda r: (r.threads, r.seed))))


def as_text(record: Record) -> str:
    """Return a record as JSON with one line per run and one per claim."""
    runs = ",\n".join(f"  {json.dumps(run)}" for run in record.runs)
    lines = [f"  {json.dumps(name)}: {line(one)}" for name, one in sorted(record.claims.items())]
    claims = ",\n".join(lines)
    return (
        f'{{\n "profile": {json.dumps(record.profile)},\n "runs": [\n{runs}\n ],\n'
        f' "claims": {{\n{claims}\n }}\n}}\n'
    )


def line(swept: Swept) -> str:
    """Return the results of a claim as JSON; a number that is not finite is null."""
    plain = [[*r[:3], finite(r.score), finite(r.limit), r.unit] for r in swept.results]
    return json.dumps({"notebook": swept.notebook, "digest": swept.digest, "results": plain})


def finite(value: float) -> float | None:
    """Return a number, or None in the place of one that JSON does not have."""
    return value if math.isfinite(value) else None


def read_record(root: Path) -> Record | None:
    """Return what is stored of the last sweep, or None.

    Parameters
    ----------
    root : Path
        The repository.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    path = root / PLACE
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        claims = {name: swept_from(one) for name, one in stored["claims"].items()}
        runs = tuple(run_from(run) for run in typed(stored["runs"], list))
        if stored["profile"] not in PROFILES:
            raise ValueError(f"profile {stored['profile']!r}")
        return Record(stored["profile"], runs, claims)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        remedy = "take it from the repository again, or sweep anew"
        raise ValueError(f"{PLACE.as_posix()} is damaged ({error!r}); {remedy}") from error


def run_from(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how a run was made, as `facts` gave it."""
    made = {name: value for name, value in stored.items() if name != "problem"}
    Manifest(**made)  # a TypeError names what is missing
    for name, kind in {"notebook": str, "seed": int, "threads": int, "problem": str}.items():
        typed(stored[name], kind)
    return stored


def typed(value: Any, kind: type | UnionType) -> Any:
    """Return a value that is of a kind, or raise TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of the kind {kind}")
    return value


def swept_from(stored: Mapping[str, Any]) -> Swept:
    """Return the results that `line` wrote."""
    results = tuple(map(result_from, typed(stored["results"], list)))
    return Swept(typed(stored["notebook"], str), typed(stored["digest"], str), results)


def result_from(row: Sequence[Any]) -> Result:
    """Return one result that `line` wrote."""
    seed, threads, verdict, score, limit, unit = row
    seed, threads = typed(seed, int), typed(threads, int)
    numbers = [math.nan if n is None else typed(n, int | float) for n in (score, limit)]
    return Result(seed, threads, typed(verdict, str), numbers[0], numbers[1], typed(unit, str))


def report_lines(record: Record) -> list[str]:
    """Return what a person must know of a sweep: problems, failures, close calls, counts."""
    claims = record.claims.items()
    ended = [run for run in record.runs if run["problem"]]
    problems = [f"{told(run)}: {run['problem']}" for run in ended]
    failures = [f"{name}: {words(result)}" for name, one in claims for result in one.failed]
    close = [
        f"{name}: close, uses {one.used:.0%} of its limit"
        for name, one in claims
        if one.used > TIGHT and not one.failed
    ]
    moving = sum(one.stochastic for _, one in claims)
    sums = f"{moving} of {len(claims)} scores depend on the seed"
    total = f"{sums}; runs: {len(record.runs)}, results that fail: {len(failures)}"
    return [*problems, *failures, *close, total]


def words(result: Result) -> str:
    """Return one result in words."""
    threads = "" if result.threads == 1 else f" with {result.threads} threads"
    return (
        f"{result.verdict} at seed {result.seed}{threads}, score {result.score:.4g} {result.unit}, "
        f"limit {result.limit:.4g}"
    )
