"""Run notebooks with papermill: checked parameters, budgets, a cache, a manifest per run.

A run happens in a process of its own, in an empty folder, and its result moves into the cache
only when it is whole. A failing cell, a dead kernel, a time-out or a warning ends in a `RunError`
that names notebook, cell and cause; the partial copy is kept in ``_build/failed``.
"""

import ast
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from iclkit.bench import claims
from iclkit.bench.sources import cache_key, installed_version

__all__ = ["BUDGETS", "Budget", "Manifest", "Run", "RunError", "notebook_names", "run_notebooks"]

PARAMETERS = {"profile", "seed"}
REPORTED = ("numpy", "scipy", "torch", "pandas", "matplotlib", "papermill")
ADDED = {"injected-parameters", "papermill-error-cell-tag"}  # cells that papermill puts in
PARSING = threading.Lock()  # two threads that parse at once can break CPython 3.11's parser
ANSI = re.compile(r"\x1b\[[0-9;]*m")
STARTED = re.compile(r"Executing Cell (\d+)-")


class RunError(RuntimeError):
    """A notebook did not end well; the message names notebook, cell and cause."""


class StoppedError(Exception):
    """The run was given up because another failed or the user stopped it."""


@dataclass(frozen=True)
class Budget:
    """What a notebook may use: over `seconds` a warning, over twice that the end.

    Parameters
    ----------
    seconds : float
        Wall time of one run.
    memory_gb : float
        Resident memory of the kernel and its workers together; more ends the run.
    """

    seconds: float
    memory_gb: float = 6.0


BUDGETS = dict(zip(claims.PROFILES, (Budget(90), Budget(600), Budget(12 * 3600, 20)), strict=True))


@dataclass(frozen=True)
class Manifest:
    """Where a result comes from: enough to rerun it and to judge it."""

    notebook: str
    key: str
    profile: str
    seed: int
    commit: str
    date: str
    seconds: float
    peak_memory_mb: float
    machine: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Run:
    """One executed notebook: its copy in the cache, its manifest, and whether it ran just now."""

    path: Path
    manifest: Manifest
    fresh: bool


def notebook_names(root: Path) -> list[str]:
    """Return the names of the chapter notebooks, without ending, in order."""
    return sorted(path.stem for path in (root / "notebooks").glob("[0-9]*.ipynb"))


def run_notebooks(
    names: Iterable[str],
    *,
    root: Path,
    profile: str = "book",
    seed: int = 0,
    jobs: int = 2,
    budget: Budget | None = None,
    report: Callable[[str], object] = str,
) -> list[Run]:
    """Return the runs of the named notebooks, executing those that the cache does not hold.

    Parameters
    ----------
    names : iterable of str
        Notebook names without ending.
    root : Path
        The repository.
    profile : {"quick", "book", "paper"}
        Sizes to run at.
    seed : int
        The one seed of the run, at least 0.
    jobs : int
        Notebooks at once.
    budget : Budget, optional
        Overrides the profile's.
    report : callable
        Receives one line per notebook and event.

    Raises
    ------
    ValueError
        For an unknown notebook or profile or a negative seed.
    RunError
        When a notebook did not end well.
    """
    names = list(names)
    check_request(names, profile, seed, root)
    budget = budget or BUDGETS[profile]
    tasks = [Task(name, profile, seed, root, budget, report, threading.Event()) for name in names]
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = [pool.submit(task.run) for task in tasks]
        try:
            wait_for_all(futures)
        finally:
            for task in tasks:
                task.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in futures]


def check_request(names: list[str], profile: str, seed: int, root: Path) -> None:
    """Raise ValueError for a notebook, profile or seed that cannot be run."""
    known = notebook_names(root)
    for name in names:
        if name not in known:
            raise ValueError(f"notebook must be one of {', '.join(known)}, got {name}")
    if profile not in BUDGETS:
        raise ValueError(f"profile must be one of {', '.join(BUDGETS)}, got {profile}")
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")


def wait_for_all(futures: list[Future[Run]]) -> None:
    """Wait for the runs; raise the first failure, after which the others are stopped."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()


@dataclass(frozen=True)
class Task:
    """One notebook to run: its request, its budget, and the flag that ends it early."""

    name: str
    profile: str
    seed: int
    root: Path
    budget: Budget
    report: Callable[[str], object]
    stop: threading.Event

    @property
    def source(self) -> Path:
        """The notebook in the repository, which a run never touches."""
        return self.root / "notebooks" / f"{self.name}.ipynb"

    @cached_property
    def notebook(self) -> dict[str, Any]:
        """The notebook as it was when the run began."""
        return read_notebook(self.source)

    @property
    def parameters(self) -> dict[str, Any]:
        """What papermill injects."""
        return {"profile": self.profile, "seed": self.seed}

    def run(self) -> Run:
        """Return the finished run, from the cache where it is there."""
        key = self.key(self.notebook)
        cached = self.root / "_build" / "cache" / f"{self.name}-{self.profile}-{key}.ipynb"
        run = load_run(cached)
        if run:
            self.report(f"{self.name}: unchanged ({self.profile}, seed {self.seed})")
            return run
        self.report(f"{self.name}: running ({self.profile}, seed {self.seed}) ...")
        return self.execute(cached, key)

    def key(self, notebook: dict[str, Any]) -> str:
        """Return the key of a run of `notebook` with the sources as they are now."""
        try:
            with PARSING:
                check_parameters(self.name, notebook)
                return cache_key(self.name, notebook, self.parameters, self.root)
        except SyntaxError as error:
            where = f"{self.name}: {error.filename}, line {error.lineno}"
            raise RunError(f"{where}: {error.msg}") from error

    def execute(self, cached: Path, key: str) -> Run:
        """Run the notebook in an empty folder and move the result into the cache."""
        cached.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(cached.parent)
        with tempfile.TemporaryDirectory(dir=cached.parent, prefix=f"run-{os.getpid()}-") as folder:
            place = Path(folder)
            usage = self.watch(place)
            output = place / "out.ipynb"
            problem = usage.problem or self.problem_in(output, usage) or self.changed_since(key)
            if problem:
                raise RunError(f"{problem}{self.keep(output)}")
            manifest = self.manifest(key, usage)
            (place / "out.json").write_text(json.dumps(asdict(manifest), indent=1))
            (place / "out.json").replace(cached.with_suffix(".json"))
            output.replace(cached)
        self.report(f"{self.name}: {describe(manifest)}")
        self.warn_if_slow(usage.seconds)
        return Run(cached, manifest, fresh=True)

    def changed_since(self, key: str) -> str | None:
        """Return the words for a source edited during the run, or None: nobody knows what ran."""
        if self.key(read_notebook(self.source)) == key:
            return None
        return f"{self.name}: a source changed while it ran; run it again"

    def watch(self, place: Path) -> "Usage":
        """Start papermill and follow it to its end, its budget or the stop flag."""
        with (place / "log").open("w") as log:
            process = subprocess.Popen(
                self.command(place),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(place, self.root),
                cwd=place,
                start_new_session=True,
            )
            try:
                return self.follow(process, place / "log")
            finally:
                end_tree(process)

    def follow(self, process: "subprocess.Popen[bytes]", log: Path) -> "Usage":
        """Return time, peak memory and the reason of an early end; show progress on a terminal."""
        start, peak, problem = time.monotonic(), 0.0, None
        with tqdm(total=len(self.cells), desc=self.name, unit="cell", disable=None) as bar:
            while process.poll() is None and problem is None:
                if self.stop.is_set():
                    raise StoppedError
                time.sleep(0.1)
                peak = max(peak, memory_mb(process.pid))
                problem = self.over_budget(time.monotonic() - start, peak, log)
                bar.update(cells_begun(log) - bar.n)
        return Usage(time.monotonic() - start, peak, process.poll(), log, problem)

    def over_budget(self, seconds: float, peak: float, log: Path) -> str | None:
        """Return why the run must end, or None."""
        if seconds > 2 * self.budget.seconds:
            return f"{self.cell_begun(log)}: time-out after {seconds:.0f} s, twice its budget"
        if peak > 1000 * self.budget.memory_gb:
            used, given = peak / 1000, self.budget.memory_gb
            return f"{self.cell_begun(log)}: uses {used:.1f} GB, its budget is {given} GB"
        return None

    @property
    def cells(self) -> list[str]:
        """The cells' names in the order of the run, with papermill's own after the parameters."""
        names = cell_names(self.notebook["cells"])
        tagged = ["parameters" in c["metadata"].get("tags", []) for c in self.notebook["cells"]]
        first = tagged.index(True) + 1
        return [*names[:first], "injected cell", *names[first:]]

    def cell_begun(self, log: Path) -> str:
        """Return the words that name the last cell that papermill began."""
        number = cells_begun(log)
        return f"{self.name}, {self.cells[number - 1] if number else 'before the first cell'}"

    def command(self, place: Path) -> list[str]:
        """Return papermill's command line."""
        run = [sys.executable, "-m", "papermill", str(self.source), str(place / "out.ipynb")]
        given = [x for k, v in self.parameters.items() for x in ("-p", k, str(v))]
        empty = place / "empty"
        empty.mkdir()
        return [
            *run,
            *given,
            "--no-progress-bar",
            "--log-output",
            "-k",
            "python3",
            "--cwd",
            str(empty),
        ]

    def problem_in(self, output: Path, usage: "Usage") -> str | None:
        """Return what is wrong with an ended run, or None."""
        if not output.exists():
            return (
                f"{self.name}: papermill did not start (exit code {usage.code}): {usage.last_line}"
            )
        executed = read_notebook(output)
        problem = error_in(self.name, executed) or warning_in(self.name, executed)
        if problem is None and usage.code:
            return f"{self.cell_begun(usage.log)}: {usage.last_line} (exit code {usage.code})"
        return problem or skipped_in(self.name, executed) or self.ledger_problem(executed)

    def ledger_problem(self, executed: dict[str, Any]) -> str | None:
        """Return why the executed notebook's claims are not in order, or None."""
        path = self.root / "iclkit" / "data" / "claims.toml"
        try:
            claims.collect(self.name, executed, profile=self.profile, path=path)
        except claims.LedgerError as error:
            return f"{self.name}: {error}"
        return None

    def keep(self, output: Path) -> str:
        """Move a partial copy to ``_build/failed`` and return the words that say so."""
        if not output.exists():
            return ""
        kept = self.root / "_build" / "failed" / f"{self.name}.ipynb"
        kept.parent.mkdir(parents=True, exist_ok=True)
        output.replace(kept)
        return f"\n  partial output: {kept.relative_to(self.root)}"

    def manifest(self, key: str, usage: "Usage") -> Manifest:
        """Return the provenance of this run."""
        return Manifest(
            notebook=self.name,
            key=key,
            profile=self.profile,
            seed=self.seed,
            commit=commit(self.root),
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            seconds=round(usage.seconds, 1),
            peak_memory_mb=round(usage.peak_mb),
            machine=machine(),
            versions=versions(),
        )

    def warn_if_slow(self, seconds: float) -> None:
        """Report a run over its time budget."""
        if seconds > self.budget.seconds:
            self.report(
                f"{self.name}: slow, {seconds:.0f} s for a budget of {self.budget.seconds} s"
            )


@dataclass(frozen=True)
class Usage:
    """How a papermill process ended: time, memory, exit code, its log, why it was ended."""

    seconds: float
    peak_mb: float
    code: int | None
    log: Path
    problem: str | None

    @property
    def last_line(self) -> str:
        """The last thing that papermill said."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook as parsed JSON; raise RunError with one line when it is none."""
    try:
        notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        notebook["cells"][0]["source"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise RunError(f"{path.name} is not a readable notebook: {error!r}") from error
    return notebook


def check_parameters(name: str, notebook: dict[str, Any]) -> None:
    """Raise RunError unless exactly one parameters cell assigns exactly profile and seed."""
    tagged = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise RunError(f"{name}: needs exactly one cell tagged parameters, has {len(tagged)}")
    body = ast.parse("".join(tagged[0]["source"]), "parameters").body
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    assigned = sorted(t.id for t in targets if isinstance(t, ast.Name))
    if assigned != sorted(PARAMETERS) or len(body) != len(PARAMETERS):
        raise RunError(f"{name}: the parameters cell must assign profile and seed, has {assigned}")


def load_run(cached: Path) -> Run | None:
    """Return a run from the cache, or None when it is missing or damaged."""
    try:
        manifest = Manifest(**json.loads(cached.with_suffix(".json").read_text()))
        read_notebook(cached)
    except (OSError, ValueError, TypeError, RunError):
        return None
    return Run(cached, manifest, fresh=False)


def remove_leftovers(cache: Path) -> None:
    """Delete the folders of runs whose process was killed before it could."""
    for folder in cache.glob("run-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[1])):
            shutil.rmtree(folder, ignore_errors=True)


def environment(place: Path, root: Path) -> dict[str, str]:
    """Return the variables of a run: its own Jupyter folders, one thread, this repository."""
    own = {name: str(place / name.lower()) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(root), "JUPYTER_PREFER_ENV_PATH": "1"}
    kept = {"ICLKIT_CACHE": str(root / "_build" / "corpora")}
    return os.environ | own | dict.fromkeys(threads, "1") | fixed | kept


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants."""
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / 1e6


def end_tree(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started: the kernel has a session of its own."""
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def cell_names(cells: list[dict[str, Any]]) -> list[str]:
    """Return the words that name each cell: its number and its id."""
    return [f"cell {n} ({cell.get('id', 'no id')})" for n, cell in enumerate(cells, 1)]


def cells_begun(log: Path) -> int:
    """Return how many cells papermill has begun, as its log says."""
    begun = STARTED.findall(log.read_text(errors="replace"))
    return int(begun[-1]) if begun else 0


def error_in(name: str, executed: dict[str, Any]) -> str | None:
    """Return notebook, cell and traceback of a raising cell, or None."""
    for label, output in outputs(executed):
        if output["output_type"] == "error":
            trace = ANSI.sub("", "\n".join(output["traceback"]))
            return f"{name}, {label}: {output['ename']}: {output['evalue']}\n{trace}"
    return None


def warning_in(name: str, executed: dict[str, Any]) -> str | None:
    """Return notebook, cell and text of anything on stderr: a warning is a defect."""
    for label, output in outputs(executed):
        if output["output_type"] == "stream" and output["name"] == "stderr":
            return f"{name}, {label}: warning or message on stderr:\n{''.join(output['text'])}"
    return None


def skipped_in(name: str, executed: dict[str, Any]) -> str | None:
    """Return the first code cell that did not run, or None."""
    cells = own_cells(executed)
    for label, cell in zip(cell_names(cells), cells, strict=True):
        empty = not "".join(cell["source"]).strip()
        if cell["cell_type"] == "code" and cell["execution_count"] is None and not empty:
            return f"{name}, {label}: was not run"
    return None


def own_cells(executed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of an executed notebook without those that papermill put in."""
    return [c for c in executed["cells"] if not ADDED & set(c["metadata"].get("tags", []))]


def outputs(executed: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield every output with the words that name its cell."""
    cells = own_cells(executed)
    for name, cell in zip(cell_names(cells), cells, strict=True):
        for output in cell.get("outputs", []):
            yield name, output


def commit(root: Path) -> str:
    """Return the commit that the sources stand at, with ``+changes`` when they were edited."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    describe = ["describe", "--always", "--exclude=*", "--dirty=+changes", "--abbrev=10"]  # no tags
    done = subprocess.run(
        [git, "-C", str(root), *describe],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """Return the machine in a few words, without its name."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, of the packages that are there."""
    found = {name: installed_version(name) for name in REPORTED}
    return {"python": platform.python_version()} | {k: v for k, v in found.items() if v}


def describe(manifest: Manifest) -> str:
    """Return time and memory of a run in a few words."""
    return f"done in {manifest.seconds:.0f} s, {manifest.peak_memory_mb:.0f} MB at its peak"
