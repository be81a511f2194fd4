"""The cache of executed notebooks: pairs of a copy and its manifest, used only when whole.

A manifest holds a checksum of itself and of the copy beside it. Whatever does not fit - a flipped
bit, a cut file, a pair of another run - is not used: the notebook runs again and the user reads
why. A result enters by two renames, so that a full disk or a killed process leaves no half of it.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

__all__ = [
    "DamagedError",
    "Manifest",
    "Run",
    "RunError",
    "end_family",
    "end_orphans",
    "load_run",
    "read_notebook",
    "remove_leftovers",
    "store_run",
]


class RunError(RuntimeError):
    """A notebook did not end well; the message names notebook, cell and cause."""


class DamagedError(Exception):
    """A pair of the cache is not what was put there; the message says in which way."""


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
    threads: int = 1
    checksum: str = ""


@dataclass(frozen=True)
class Run:
    """One executed notebook: its copy in the cache, its manifest, and whether it ran just now."""

    path: Path
    manifest: Manifest
    fresh: bool


def load_run(cached: Path, asked: Mapping[str, Any]) -> Run | None:
    """Return a run from the cache, or None when there is none.

    Parameters
    ----------
    cached : Path
        The executed notebook; its manifest has the same name with the ending ``.json``.
    asked : dict
        Fields of the manifest that the run must have.

    Raises
    ------
    DamagedError
        If there is something, but not the whole pair that was put there for this request.
    RunError
        If a folder stands where the result belongs: better now than after the run.
    """
    pair = (cached, cached.with_suffix(".json"))
    for path in pair:
        if path.is_dir():
            raise RunError(f"{path} is in the way of a result; delete or rename it")
    if not any(path.exists() for path in pair):
        return None
    record = read_record(pair[1])
    if checksum(read_bytes(cached), record) != record.get("checksum"):
        raise DamagedError("its checksum does not fit")
    other = [name for name, value in asked.items() if record[name] != value]
    if other:
        raise DamagedError(f"it is of another run: other {', '.join(other)}")
    return Run(cached, Manifest(**record), fresh=False)


def read_record(path: Path) -> dict[str, Any]:
    """Return a manifest of the cache as a dict; raise DamagedError when it is none."""
    try:
        record: dict[str, Any] = json.loads(read_bytes(path))
        Manifest(**record)
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedError("its manifest cannot be read") from error
    return record


def read_bytes(path: Path) -> bytes:
    """Return the content of a file of the cache; raise DamagedError when there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path.name}: {error.strerror}") from error


def checksum(notebook: bytes, record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a notebook and of its manifest without checksum."""
    bare = {name: value for name, value in record.items() if name != "checksum"}
    parts = [hashlib.sha256(notebook).hexdigest(), bare]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def store_run(output: Path, manifest: Manifest, cached: Path) -> Run:
    """Move an executed notebook into the cache, its manifest before it; return the run.

    Parameters
    ----------
    output : Path
        The executed notebook, in a folder of the cache.
    manifest : Manifest
        Its provenance, yet without checksum.
    cached : Path
        Its place.

    Raises
    ------
    RunError
        If it cannot be kept, such as on a full disk.
    """
    made = replace(manifest, checksum=checksum(output.read_bytes(), asdict(manifest)))
    try:
        beside = output.with_suffix(".json")
        beside.write_text(json.dumps(asdict(made), indent=1), encoding="utf-8")
        beside.replace(cached.with_suffix(".json"))
        output.replace(cached)
    except OSError as error:
        where = f"{manifest.notebook}: its result cannot be kept as {cached}"
        raise RunError(f"{where}: {error.strerror}; mend that and run it again") from error
    return Run(cached, made, fresh=True)


def remove_leftovers(cache: Path) -> None:
    """Delete the folders of runs whose driver was killed, after ending what they left running."""
    for folder in cache.glob("run-*-*"):
        pid = folder.name.split("-")[1]
        if not (pid.isdigit() and psutil.pid_exists(int(pid))):
            end_orphans(folder)
            shutil.rmtree(folder, ignore_errors=True)


def end_orphans(folder: Path) -> None:
    """End the Python processes that still work for the run of a folder, wherever they hang."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid != os.getpid() and works_in(process, folder):
            end_family(process.pid)


def works_in(process: psutil.Process, folder: Path) -> bool:
    """Return whether a process is papermill, a kernel or a worker of the run of a folder."""
    words = process.info["cmdline"] or [""]
    if "python" not in Path(words[0]).name:
        return False
    with contextlib.suppress(psutil.Error, OSError):
        words = [*words, process.cwd()]
    return any(str(folder) in word for word in words)


def end_family(pid: int) -> None:
    """End a process and all that it started: a kernel has a session of its own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        for member in [first, *first.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook as parsed JSON; raise RunError with one line when it is none."""
    try:
        notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
        cells[0]["source"]
        wrong = [n for n, cell in enumerate(cells, 1) if not is_cell(cell)]
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise RunError(f"{path.name} is not a readable notebook: {error!r}") from error
    if wrong:
        raise RunError(f"{path.name} is not a readable notebook: cell {wrong[0]} is damaged")
    return notebook


def is_cell(cell: Any) -> bool:
    """Return whether a cell has what every cell needs: kind, metadata, text."""
    text = cell["source"]
    lines = [text] if isinstance(text, str) else text
    outputs = cell.get("outputs", [])
    return (
        isinstance(cell["cell_type"], str)
        and isinstance(cell["metadata"].get("tags", []), list)
        and all(isinstance(line, str) for line in lines)
        and all("output_type" in output for output in outputs)
    )
