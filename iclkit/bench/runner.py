"""Run notebooks with papermill: checked parameters, budgets, a cache, a manifest per run.

A run happens in a process of its own, in an empty folder, and its result moves into the cache
only when it is whole. A failing cell, a dead kernel, a time-out, a full disk or a warning ends in
a `RunError` that names notebook, cell and cause; the partial copy is kept in ``_build/failed``.
Nothing that the user's shell or settings say can change what a run computes.
"""

import ast
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from iclkit.bench import claims, memory
from iclkit.bench.cache import (
    DamagedError,
    Manifest,
    Run,
    RunError,
    end_family,
    end_orphans,
    load_run,
    read_notebook,
    remove_leftovers,
    store_run,
)
from iclkit.bench.origin import commit, machine, versions
from iclkit.bench.quiet import environment, private_folder
from iclkit.bench.sources import cache_key, code_cells, imported_sources
from iclkit.bench.store import FOLDER
from iclkit.bench.sweep import PROGRESS

__all__ = [
    "BUDGETS",
    "Budget",
    "Manifest",
    "Run",
    "RunError",
    "is_current",
    "notebook_names",
    "own_cells",
    "run_notebooks",
]

PARAMETERS = {"profile", "seed"}
ADDED = {"injected-parameters", "papermill-error-cell-tag"}  # cells that papermill puts in
PARSING = threading.Lock()  # two threads that parse at once can break CPython 3.11's parser
ANSI = re.compile(r"\x1b\[[0-9;]*m")
MEMORY_ERROR = re.compile(
    r": (_?\w*MemoryError|TerminatedWorkerError|RuntimeError.*can't allocate)"
)
TELL_SECONDS = 600.0  # between words on a long run, where no terminal shows a bar
NOTE_SECONDS = 10.0  # what a driver that is killed forgets of the time
PROBE_BYTES = 1 << 16
STARTED = re.compile(r"Executing Cell (\d+)-")


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
    peak_gb : float
        The memory that the largest notebook was measured to take, rounded up. Where less is free
        fewer notebooks run at once; one that takes more is reported.
    """

    seconds: float
    memory_gb: float = 6.0
    peak_gb: float = 2.0


SIZES = (Budget(90, peak_gb=1.5), Budget(600), Budget(12 * 3600, 20, peak_gb=14.0))
BUDGETS = dict(zip(claims.PROFILES, SIZES, strict=True))


def notebook_names(root: Path) -> list[str]:
    """Return the names of the chapter notebooks, without ending, in order."""
    return sorted(path.stem for path in (root / "notebooks").glob("[0-9]*.ipynb"))


def run_notebooks(
    names: Iterable[str],
    *,
    root: Path,
    profile: str = "book",
    seed: int = 0,
    threads: int = 1,
    jobs: int = 2,
    budget: Budget | None = None,
    report: Callable[[str], object] = str,
    failed: Callable[[str, RunError], object] | None = None,
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
    threads : int
        Threads of the linear algebra in each notebook, at least 1.
    jobs : int
        Notebooks at once.
    budget : Budget, optional
        Overrides the profile's.
    report : callable
        Receives one line per notebook and event.
    failed : callable, optional
        Receives the name and the error of each notebook that did not end well; the others then go
        on, and the runs returned are those that did.

    Raises
    ------
    ValueError
        For an unknown notebook or profile, a negative seed or no thread.
    RunError
        When a notebook did not end well and nobody asked to be told.
    """
    names = list(names)
    check_request(names, profile, seed, root, threads)
    budget = budget or BUDGETS[profile]
    jobs = fitting(jobs, budget, profile, report)
    about = (profile, seed, root, budget, report)
    tasks = [Task(name, *about, threading.Event(), threads) for name in names]
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        futures = {pool.submit(task.run): task.name for task in tasks}
        try:
            wait_for_all(futures, failed)
        finally:
            for task in tasks:
                task.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in futures if future.exception() is None]


def is_current(made: Manifest, root: Path) -> bool:
    """Return whether the sources of a run are still the same.

    Parameters
    ----------
    made : Manifest
        Of the run.
    root : Path
        The repository.
    """
    about = (made.profile, made.seed, root, BUDGETS[made.profile], str, threading.Event())
    return Task(made.notebook, *about, made.threads).changed_since(made.key) is None


def check_request(names: list[str], profile: str, seed: int, root: Path, threads: int = 1) -> None:
    """Raise ValueError for a notebook, profile, seed or thread count that cannot be run."""
    known = notebook_names(root)
    for name in names:
        if name not in known:
            raise ValueError(f"notebook must be one of {', '.join(known)}, got {name}")
    if profile not in BUDGETS:
        raise ValueError(f"profile must be one of {', '.join(BUDGETS)}, got {profile}")
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}")
    if threads < 1:
        raise ValueError(f"threads must be >= 1, got {threads}")


def fitting(jobs: int, budget: Budget, profile: str, report: Callable[[str], object]) -> int:
    """Return how many notebooks run at once in the memory that is free; tell of a shortage."""
    free = memory.free_gb()
    fit = memory.fitting_jobs(jobs, budget.peak_gb, free)
    if fit < jobs or free < budget.peak_gb:
        takes = f"a notebook at {profile} takes up to {budget.peak_gb} GB"
        report(f"memory: {free:.1f} GB are free and {takes}; {fit} at once")
    return fit


def wait_for_all(
    futures: dict[Future[Run], str], failed: Callable[[str, RunError], object] | None = None
) -> None:
    """Wait for the runs; tell of each that fails, or raise the first, which stops the others."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
        for future in done:
            error = future.exception()
            if failed and isinstance(error, RunError):
                failed(futures[future], error)
            else:
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
    threads: int = 1

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

    @property
    def request(self) -> dict[str, Any]:
        """What tells this run from others of the notebook; one thread is not worth a word."""
        return self.parameters | ({} if self.threads == 1 else {"threads": self.threads})

    def run(self) -> Run:
        """Return the finished run, from the cache where it is there."""
        key = self.key(self.notebook)
        cached = self.root / "_build" / "cache" / f"{self.name}-{self.profile}-{key}.ipynb"
        run = self.kept_run(cached, key)
        if run:
            self.report(f"{self.name}: unchanged ({self.profile}, seed {self.seed})")
            return run
        self.report(f"{self.name}: running ({self.profile}, seed {self.seed}) ...")
        return self.execute(cached, key)

    def kept_run(self, cached: Path, key: str) -> Run | None:
        """Return the run that the cache holds, or None, telling of a damaged one."""
        asked = self.parameters | {"notebook": self.name, "key": key}
        try:
            return load_run(cached, asked)
        except DamagedError as error:
            self.report(f"{self.name}: the kept run is damaged, {error}; it is not used")
        return None

    def key(self, notebook: dict[str, Any]) -> str:
        """Return the key of a run of `notebook` with the sources as they are now."""
        try:
            with PARSING:
                check_parameters(self.name, notebook)
                return cache_key(self.name, notebook, self.request, self.root)
        except SyntaxError as error:
            where = f"{self.name}: {error.filename}, line {error.lineno}"
            raise RunError(f"{where}: {error.msg}") from error

    def execute(self, cached: Path, key: str) -> Run:
        """Run the notebook in an empty folder and move the result into the cache."""
        cached.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(cached.parent)
        self.forget_bytecode()
        finished = self.root / "_build" / "store" / cached.stem  # cells and checkpoints, if stopped
        with private_folder(cached.parent) as place:
            try:
                usage = self.watch(place, finished)
            finally:
                changed = self.changed_since(key)
                if changed:  # its checkpoints are of mixed code
                    shutil.rmtree(finished, ignore_errors=True)
            output = place / "out.ipynb"
            problem = usage.problem or self.problem_in(output, usage) or changed
            if problem:
                raise RunError(f"{problem}{self.keep(output, self.manifest(key, usage))}")
            run = store_run(output, self.manifest(key, usage), cached)
        shutil.rmtree(finished, ignore_errors=True)
        self.report(f"{self.name}: {describe(run.manifest)}")
        self.warn_if_slow(usage.seconds)
        self.warn_if_large(usage.peak_mb)
        return run

    def forget_bytecode(self) -> None:
        """Delete the compiled sources, which Python tells from newer ones by second and size."""
        with PARSING:
            files = imported_sources("\n".join(code_cells(self.notebook)), self.root)
        for path in files:
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
                with contextlib.suppress(OSError):
                    compiled.unlink()

    def changed_since(self, key: str) -> str | None:
        """Return the words for a source edited during the run, or None: nobody knows what ran."""
        with contextlib.suppress(RunError, ValueError, OSError):  # edited into what cannot be read
            if self.key(read_notebook(self.source)) == key:
                return None
        return f"{self.name}: a source changed while it ran; run it again"

    def watch(self, place: Path, store: Path) -> "Usage":
        """Start papermill and follow it to its end, its budget or the stop flag."""
        ours = {FOLDER: str(store), PROGRESS: str(place / "progress")}
        with (place / "log").open("w") as log:
            process = subprocess.Popen(
                self.command(place),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(place, self.root, self.threads) | ours,
                cwd=place,
                start_new_session=True,
            )
            try:
                return self.follow(process, place / "log", store)
            finally:
                end_tree(process)
                end_orphans(place)

    def follow(self, process: "subprocess.Popen[bytes]", log: Path, store: Path) -> "Usage":
        """Return time, peak memory and the reason of an early end; show progress on a terminal.

        Time and peak include the earlier parts of a run that goes on; its limits are of this part.
        """
        meter = Meter(store)
        try:
            problem = self.followed(process, log, meter)
        finally:
            meter.note()
        return Usage(meter.seconds, meter.peak_mb, process.poll(), log, problem)

    def followed(self, process: "subprocess.Popen[bytes]", log: Path, meter: "Meter") -> str | None:
        """Wait for the process; return the reason of an early end, or None."""
        problem, told = None, meter.part
        with tqdm(total=len(self.cells), desc=self.name, unit="cell", disable=None) as bar:
            while process.poll() is None and problem is None:
                if self.stop.is_set():
                    raise StoppedError
                time.sleep(0.1)
                used = memory.used_mb(process.pid)
                meter.read(used)
                problem = self.over_budget(meter.part, used, log)
                bar.set_postfix_str(sweep_words(log), refresh=False)
                bar.update(cells_begun(log) - bar.n)
                if bar.disable and meter.part - told > TELL_SECONDS:
                    told = meter.part
                    self.report(self.words(told, log))
        return problem

    def words(self, seconds: float, log: Path) -> str:
        """Return the words on a run that has not ended."""
        sweep = f"; {words}" if (words := sweep_words(log)) else ""
        return f"{self.cell_begun(log)}: {seconds / 60:.0f} min so far{sweep}"

    def over_budget(self, seconds: float, used_mb: float, log: Path) -> str | None:
        """Return why the run must end, or None."""
        if seconds > 2 * self.budget.seconds:
            return f"{self.cell_begun(log)}: time-out after {seconds:.0f} s, twice its budget"
        if used_mb > 1000 * self.budget.memory_gb:
            used, given = used_mb / 1000, self.budget.memory_gb
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
            why = usage.disk_problem or usage.last_line
            return f"{self.name}: papermill did not start (exit code {usage.code}): {why}"
        try:
            executed = read_notebook(output)
        except RunError:  # half-written
            return self.broken_off(usage)
        problem = error_in(self.name, executed) or warning_in(self.name, executed)
        if problem and MEMORY_ERROR.search(problem.partition("\n")[0]):
            return f"{problem.partition(chr(10))[0]}; {self.need}"
        if problem is None and usage.code:
            return self.broken_off(usage)
        return problem or skipped_in(self.name, executed) or self.ledger_problem(executed)

    def broken_off(self, usage: "Usage") -> str:
        """Return where and why papermill ended before the notebook did."""
        where = self.cell_begun(usage.log)
        if usage.disk_problem:
            return f"{where}: {usage.disk_problem}"
        if usage.killed:
            return f"{where}: its process was killed, by hand or for want of memory; {self.need}"
        return f"{where}: {usage.last_line} (exit code {usage.code})"

    @property
    def need(self) -> str:
        """The words that say what memory is needed and what is free."""
        takes = f"profile {self.profile} takes up to {self.budget.peak_gb} GB a notebook"
        return f"{takes}, {memory.free_gb():.1f} GB are free; make room or use --jobs 1"

    def ledger_problem(self, executed: dict[str, Any]) -> str | None:
        """Return why the executed notebook's claims are not in order, or None."""
        path = self.root / "iclkit" / "data" / "claims.toml"
        try:
            claims.collect(self.name, executed, profile=self.profile, path=path)
        except claims.LedgerError as error:
            return f"{self.name}: {error}"
        return None

    def keep(self, output: Path, manifest: Manifest) -> str:
        """Move a partial copy to ``_build/failed``, its manifest beside it; return words for it."""
        if not output.exists():
            return ""
        kept = self.root / "_build" / "failed" / f"{self.name}.ipynb"
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            output.replace(kept)
            kept.with_suffix(".json").write_text(json.dumps(asdict(manifest), indent=1))
        except OSError as error:
            return f"\n  partial output not kept: {error.strerror}"
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
            threads=self.threads,
        )

    def warn_if_slow(self, seconds: float) -> None:
        """Report a run over its time budget."""
        if seconds > self.budget.seconds:
            self.report(
                f"{self.name}: slow, {seconds:.0f} s for a budget of {self.budget.seconds} s"
            )

    def warn_if_large(self, peak_mb: float) -> None:
        """Report a run that took more memory than its profile is said to take."""
        if peak_mb > 1000 * self.budget.peak_gb:
            taken, stated = peak_mb / 1000, self.budget.peak_gb
            self.report(f"{self.name}: large, {taken:.1f} GB where {stated} GB are stated")


class Meter:
    """Time and peak memory of a run, kept beside its checkpoints for the part that goes on.

    Without checkpoints a run begins anew, and so does its meter.

    Parameters
    ----------
    store : Path
        The folder of the run's checkpoints, once there are some.
    """

    def __init__(self, store: Path) -> None:
        self.file = store / "spent.json"
        self.start = self.noted = time.monotonic()
        self.before, self.peak_mb = spent_before(self.file)

    @property
    def part(self) -> float:
        """The seconds of this part of the run."""
        return time.monotonic() - self.start

    @property
    def seconds(self) -> float:
        """The seconds of all parts."""
        return self.before + self.part

    def read(self, used_mb: float) -> None:
        """Take in the memory that is used now; note it from time to time."""
        self.peak_mb = max(self.peak_mb, used_mb)
        if time.monotonic() - self.noted > NOTE_SECONDS:
            self.note()

    def note(self) -> None:
        """Write what was spent, whole or not at all; a full disk is told of elsewhere."""
        self.noted = time.monotonic()
        beside = self.file.with_suffix(".new")
        with contextlib.suppress(OSError):
            if self.file.parent.is_dir():
                beside.write_text(json.dumps([self.seconds, self.peak_mb]))
                beside.replace(self.file)


def spent_before(file: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory that a run's earlier parts noted, or zeros."""
    try:
        seconds, peak_mb = json.loads(file.read_text())
        return float(seconds), float(peak_mb)
    except (OSError, ValueError, TypeError):
        return 0.0, 0.0


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

    @property
    def killed(self) -> bool:
        """Whether the kernel or papermill itself was ended from outside."""
        return self.code == -signal.SIGKILL or "DeadKernelError" in self.last_line

    @property
    def disk_problem(self) -> str | None:
        """Why a file cannot be written beside the log, such as a full disk, or None."""
        try:
            with tempfile.TemporaryFile(dir=self.log.parent) as probe:
                probe.write(bytes(PROBE_BYTES))
                probe.flush()
        except OSError as error:
            return f"cannot write into _build: {error.strerror}; mend that and run it again"
        return None


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


def end_tree(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        end_family(process.pid)
        process.wait()


def cell_names(cells: list[dict[str, Any]]) -> list[str]:
    """Return the words that name each cell: its number and its id."""
    return [f"cell {n} ({cell.get('id', 'no id')})" for n, cell in enumerate(cells, 1)]


def sweep_words(log: Path) -> str:
    """Return how far the last sweep is, as it left the words beside the log, or nothing."""
    with contextlib.suppress(OSError, ValueError):
        return log.with_name("progress").read_text(encoding="utf-8")
    return ""


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


def own_cells(executed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of an executed notebook without those that papermill put in."""
    return [c for c in executed["cells"] if not ADDED & set(c["metadata"].get("tags", []))]


def outputs(executed: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield every output with the words that name its cell."""
    cells = own_cells(executed)
    for name, cell in zip(cell_names(cells), cells, strict=True):
        for output in cell.get("outputs", []):
            yield name, output


def describe(manifest: Manifest) -> str:
    """Return time and memory of a run in a few words."""
    return f"done in {manifest.seconds:.0f} s, {manifest.peak_memory_mb:.0f} MB at its peak"
