"""Memory: what processes use, what is free, and how many notebooks fit."""

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["fitting_jobs", "free_gb", "used_mb"]

CGROUPS = Path("/sys/fs/cgroup")
# Of both versions of control groups: limit, use, and the part of the use that is given back.
GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def used_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants, in MB."""
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


def free_gb() -> float:
    """Return the memory that a new process can have, in GB.

    It is the least of what the machine has left, what the control groups of this process have
    left (a container, a batch system), and the limit of one process (``ulimit -v``).
    """
    return min(psutil.virtual_memory().available, process_limit(), *groups_left()) / 1e9


def process_limit() -> float:
    """Return the limit of the address space of one process, in bytes."""
    if sys.platform == "win32":
        return math.inf
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if limit == resource.RLIM_INFINITY else float(limit)


def groups_left(place: Path = CGROUPS) -> Iterator[float]:
    """Yield what the control groups of this process and those above them have left, in bytes."""
    for folder in group_folders(place):
        for names in GROUP_FILES:
            with contextlib.suppress(OSError, ValueError):  # no limit is the word "max"
                yield left_in(folder, *names)
    yield math.inf


def group_folders(place: Path) -> Iterator[Path]:
    """Yield the folders that may describe the control groups of this process."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            if kinds in ("", "memory"):
                top = place / kinds
                own = top / name.lstrip("/")
                yield from (own, *(up for up in own.parents if up.is_relative_to(top)))


def left_in(folder: Path, limit: str, used: str, given_back: str) -> float:
    """Return what one control group has left, in bytes."""
    lines = (folder / "memory.stat").read_text().splitlines()
    stat = {name: int(number) for name, _, number in (line.partition(" ") for line in lines)}
    taken = int((folder / used).read_text()) - stat.get(given_back, 0)
    return int((folder / limit).read_text()) - taken


def fitting_jobs(jobs: int, peak_gb: float, free: float) -> int:
    """Return how many of some jobs fit into the free memory, at least one.

    Examples
    --------
    >>> fitting_jobs(4, 2.0, 5.1)
    2
    >>> fitting_jobs(4, 2.0, 0.5)
    1
    """
    return max(1, min(jobs, int(free / peak_gb)))
