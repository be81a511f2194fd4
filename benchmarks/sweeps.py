"""What a sweep adds to a cell: seconds a cell at growing counts, with and without a store."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from iclkit.bench.sweep import grid, sweep

__all__ = ["Overhead", "overhead"]


class Overhead(NamedTuple):
    """Seconds of sweeps of trivial cells, the best of some runs, and how they grow."""

    counts: tuple[int, ...]
    seconds: tuple[float, ...]
    per_cell: float
    exponent: float


def trivial(*, i: int, rng: np.random.Generator) -> dict[str, float]:
    """Return two numbers at once: all that takes time is the sweep, and its stream."""
    return {"value": rng.random(), "index": i}


def overhead(
    counts: Sequence[int] = (1000, 10000),
    *,
    store: bool,
    n_jobs: int | None = 1,
    repeats: int = 3,
) -> Overhead:
    """Measure sweeps of trivial cells at each count.

    Parameters
    ----------
    counts : sequence of int
        Numbers of cells, growing.
    store : bool
        Whether finished cells are kept, in a new folder each time.
    n_jobs : int or None
        As for `iclkit.bench.sweep.sweep`; workers are started before the clock.
    repeats : int
        Runs at each count, of which the fastest counts.

    Returns
    -------
    Overhead
        ``per_cell`` at the largest count, and the exponent between the first and the last: 1 is
        linear growth, less means a constant part.
    """
    _seconds(10, store, n_jobs)
    seconds = tuple(min(_seconds(n, store, n_jobs) for _ in range(repeats)) for n in counts)
    growth = np.log(seconds[-1] / seconds[0]) / np.log(counts[-1] / counts[0])
    return Overhead(tuple(counts), seconds, seconds[-1] / counts[-1], float(growth))


def _seconds(count: int, store: bool, n_jobs: int | None) -> float:
    cells = grid(i=range(count))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if store else None
        start = time.perf_counter()
        sweep(trivial, cells, seed=0, n_jobs=n_jobs, store=folder)
        return time.perf_counter() - start
