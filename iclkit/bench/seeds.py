"""Run notebooks at several seeds, and with another number of threads, past claims that fail.

Everything goes through the runner and its cache, so that a stopped sweep goes on where it was. A
claim that fails at a seed is a result here and not an error: its run is kept beside the cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Final

from iclkit.bench.cache import (
    DamagedError,
    Manifest,
    Run,
    RunError,
    checksum,
    load_run,
    read_notebook,
    read_record,
    store_run,
)
from iclkit.bench.claims import Row, load_claims
from iclkit.bench.drift import Trial
from iclkit.bench.records import CLAIM_MIME
from iclkit.bench.runner import BUDGETS, Task, check_request, run_notebooks

__all__ = ["SEEDS", "THREADS", "sweep_seeds"]

#: The seeds of a sweep, and the number of threads of its last runs, at the first of them.
SEEDS: Final = (0, 1, 2, 3, 4)
THREADS: Final = 2


@dataclass(frozen=True)
class Round:
    """All notebooks at one seed and number of threads."""

    root: Path
    profile: str
    seed: int
    threads: int
    jobs: int
    report: Callable[[str], object]

    def trials(self, names: Sequence[str]) -> list[Trial]:
        """Return the trials of the named notebooks, running those that were not run before."""
        before = {name: self.failed_before(name) for name in names}
        found = {name: trial for name, trial in before.items() if trial}
        for name in found:
            self.report(f"{name}: failed before ({self.profile}, seed {self.seed})")

        def failed(name: str, error: RunError) -> None:
            self.report(f"{name}: failed; the sweep goes on")
            found[name] = self.failure(name, error)

        for run in self.runs([name for name in names if name not in found], failed):
            found[run.manifest.notebook] = trial_of(run.path, run.manifest)
        return [found[name] for name in names]

    def runs(self, names: list[str], failed: Callable[[str, RunError], None]) -> list[Run]:
        """Return the runs that ended well, telling of the others."""
        for name in names:
            self.partial(name).with_suffix(".json").unlink(missing_ok=True)
        return run_notebooks(
            names,
            root=self.root,
            profile=self.profile,
            seed=self.seed,
            threads=self.threads,
            jobs=self.jobs,
            report=self.report,
            failed=failed,
        )

    def partial(self, name: str) -> Path:
        """Return where the runner leaves the copy of a notebook that failed."""
        return self.root / "_build" / "failed" / f"{name}.ipynb"

    def kept(self, name: str, key: str) -> Path:
        """Return where a run whose claims failed is kept."""
        return self.root / "_build" / "drift" / f"{name}-{self.profile}-{key}.ipynb"

    def key(self, name: str) -> str:
        """Return the key of a run with the sources as they are now."""
        about = (self.profile, self.seed, self.root, BUDGETS[self.profile], self.report)
        task = Task(name, *about, Event(), self.threads)
        return task.key(task.notebook)

    def failed_before(self, name: str) -> Trial | None:
        """Return the trial of a run of these very sources whose claims failed, or None."""
        if not (self.root / "_build" / "drift").exists():
            return None
        key = self.key(name)
        try:
            run = load_run(self.kept(name, key), {"notebook": name, "key": key})
        except DamagedError as error:
            self.report(f"{name}: what failed before is damaged, {error}; it runs again")
            return None
        trial = trial_of(run.path, run.manifest) if run else None
        return trial if trial and self.complete(trial) else None

    def complete(self, trial: Trial) -> bool:
        """Return whether every claim that the notebook must check has a row."""
        claims = load_claims(self.root / "iclkit" / "data" / "claims.toml")
        due = {c.id for c in claims if c.notebook == trial.made.notebook and c.runnable}
        return due <= {row.id for row in trial.rows}

    def failure(self, name: str, error: RunError) -> Trial:
        """Return the trial of a run that failed; keep its copy if its claims are the reason.

        A crash after a claim that fails leaves claims without a row: it is a problem, no result.
        """
        partial = self.partial(name)
        made = manifest_beside(partial)
        if made is None:  # it did not begin
            raise error
        broken = Trial(made, (), str(error).splitlines()[0])
        try:
            trial = trial_of(partial, made)
        except RunError:  # half-written
            return broken
        if trial.sound or not self.complete(trial) or self.key(name) != made.key:
            return broken
        kept = self.kept(name, made.key)
        kept.parent.mkdir(parents=True, exist_ok=True)
        store_run(partial, made, kept)
        return trial


def sweep_seeds(
    names: Sequence[str],
    *,
    root: Path,
    profile: str = "book",
    seeds: Sequence[int] = SEEDS,
    threads: int = THREADS,
    jobs: int = 2,
    report: Callable[[str], object] = str,
) -> list[Trial]:
    """Return one trial per notebook and seed, and one per notebook with more threads.

    Parameters
    ----------
    names : sequence of str
        Notebook names without ending.
    root : Path
        The repository.
    profile : {"quick", "book", "paper"}
        Sizes to run at.
    seeds : sequence of int
        At least one; the runs with more threads are at the first.
    threads : int
        Threads of the last runs; 1 leaves them out.
    jobs : int
        Threads at once: so many notebooks, fewer where each has more threads. Threads that wait
        for a processor are many times slower than one.
    report : callable
        Receives one line per notebook and event.

    Raises
    ------
    ValueError
        For an unknown notebook or profile, a negative seed, no seed, or less than one thread.
    RunError
        If a notebook cannot begin.

    Notes
    -----
    What was run before is not run again, be it that its claims held or that they failed. A sweep
    that is stopped loses the notebooks in progress.
    """
    if not seeds:
        raise ValueError("seeds must not be empty; give at least one")
    asked = [(seed, 1) for seed in dict.fromkeys(seeds)]
    asked += [(seeds[0], threads)] if threads != 1 else []
    for seed, count in asked:  # all of it before the first, which may take an hour
        check_request([*names], profile, seed, root, count)
    rounds = [
        Round(root, profile, seed, count, max(1, jobs // count), report) for seed, count in asked
    ]
    return [trial for one in rounds for trial in one.trials(names)]


def manifest_beside(path: Path) -> Manifest | None:
    """Return the manifest of an executed notebook, or None where there is none that fits it."""
    try:
        made = Manifest(**read_record(path.with_suffix(".json")))
    except DamagedError:
        return None
    fits = made.checksum in ("", checksum(path.read_bytes(), asdict(made)))
    return made if fits else None


def trial_of(path: Path, made: Manifest) -> Trial:
    """Return the trial of an executed notebook, with every row that its outputs hold."""
    cells = read_notebook(path)["cells"]
    bundles = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    rows = [Row.from_json(bundle[CLAIM_MIME]) for bundle in bundles if CLAIM_MIME in bundle]
    return Trial(made, tuple(rows))
