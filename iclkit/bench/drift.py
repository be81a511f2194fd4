"""How far verdicts drift: what every claim gave at several seeds and with more threads.

A verdict at one seed may be luck, and a verdict with one thread may hang on the order of a sum. A
sweep of the seeds, see `iclkit.bench.seeds`, is kept in one small file of the package, which the
ledger shows.
"""

import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from iclkit.bench.cache import Manifest
from iclkit.bench.claims import DIFFERS, FAILS, NOT_ATTEMPTED, Claim, Row, load_claims
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
    "report_lines",
]

PLACE = Path(RECORD)
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


def keep_record(trials: Sequence[Trial], root: Path) -> Record:
    """Store what trials found, and return it with what is stored and still true.

    What was stored of another notebook stays. Of the same notebook it stays if seeds that both have
    give every claim the same numbers, but for rounding: so a sweep can be extended by seeds.

    Parameters
    ----------
    trials : sequence of Trial
    root : Path
        The repository to store it in.

    Raises
    ------
    ValueError
        As `record_of`.
    """
    new = record_of(trials, load_claims(root / "iclkit" / "data" / "claims.toml"))
    whole = merged(read_record(root), new)
    beside = (root / PLACE).with_name(".drift.json")
    beside.write_text(as_text(whole), encoding="utf-8")
    beside.replace(root / PLACE)  # whole or not at all
    return whole


def merged(old: Record | None, new: Record) -> Record:
    """Return `new` with what `old` holds beside it, if it is of the same profile and still true."""
    if old is None or old.profile != new.profile:
        return new
    again = {run["notebook"] for run in new.runs}
    gone = {notebook for notebook in again if not goes_on(old, new, notebook)}
    anew = {place_of(run) for run in new.runs}
    stay = [r for r in old.runs if r["notebook"] not in gone and place_of(r) not in anew]
    places = {place_of(run) for run in stay}
    kept = {name: within(one, places) for name, one in old.claims.items()}
    claims = {name: one for name, one in kept.items() if one.notebook not in again}
    claims |= {name: joined(kept.get(name), one) for name, one in new.claims.items()}
    return Record(new.profile, tuple(sorted([*stay, *new.runs], key=place_of)), claims)


def place_of(run: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return the notebook, number of threads and seed of a run."""
    return run["notebook"], run["threads"], run["seed"]


def goes_on(old: Record, new: Record, notebook: str) -> bool:
    """Return whether the records share results of a notebook, and all of these came out alike."""
    claims = [name for name, one in new.claims.items() if one.notebook == notebook]
    both = [(old.claims[name], new.claims[name]) for name in claims if name in old.claims]
    alike = [
        before.digest == after.digest and not has_moved(result, before, result.seed)
        for before, after in both
        for result in after.tried
        if result.threads == 1 and any(r[:2] == result[:2] for r in before.tried)
    ]
    return bool(alike) and all(alike)


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
        return Record(stored["profile"], tuple(stored["runs"]), claims)
    except (ValueError, KeyError, TypeError) as error:
        remedy = "take it from the repository again, or sweep anew"
        raise ValueError(f"{PLACE.as_posix()} is damaged ({error!r}); {remedy}") from error


def swept_from(stored: Mapping[str, Any]) -> Swept:
    """Return the results that `line` wrote."""
    return Swept(stored["notebook"], stored["digest"], tuple(map(result_from, stored["results"])))


def result_from(row: Sequence[Any]) -> Result:
    """Return one result that `line` wrote."""
    seed, threads, verdict, score, limit, unit = row
    numbers = [math.nan if number is None else number for number in (score, limit)]
    return Result(seed, threads, verdict, numbers[0], numbers[1], unit)


def report_lines(record: Record) -> list[str]:
    """Return what a person must know of a sweep: problems, failures, close calls, counts."""
    claims = record.claims.items()
    ended = [run for run in record.runs if run["problem"]]
    problems = [f"{run['notebook']} at seed {run['seed']}: {run['problem']}" for run in ended]
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
