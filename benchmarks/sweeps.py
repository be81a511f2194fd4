"""What a sweep adds to a cell: seconds a cell at growing counts, with and without a store."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np

from iclkit.bench.sweep import grid, sweep

__all__ = ["Overhead", "Remeasured", "overhead"]


class Overhead(NamedTuple):
    """Seconds of sweeps of trivial cells, the best of some runs, and how they grow.

    ``per_cell`` is at the largest count. The exponent is between the first and the last: 1 is
    linear growth, less means a constant part.
    """

    counts: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def per_cell(self) -> float:
        """Seconds a cell."""
        return self.seconds[-1] / self.counts[-1]

    @property
    def exponent(self) -> float:
        """Of the growth with the number of cells."""
        growth = np.log(self.seconds[-1] / self.seconds[0])
        return float(growth / np.log(self.counts[-1] / self.counts[0]))

    def with_more(self, other: "Overhead") -> "Overhead":
        """Return both measurements put together: the least seconds at each count."""
        return Overhead(self.counts, tuple(map(min, self.seconds, other.seconds)))


class Remeasured:
    """A measurement that several rows share; whoever asks again gets another one put to it.

    Parameters
    ----------
    measure : callable
        Returns an `Overhead`.
    """

    def __init__(self, measure: Callable[[], Overhead]) -> None:
        self.measure = measure
        self.found: Overhead | None = None
        self.asked: set[str] = set()

    def __call__(self, row: str) -> Overhead:
        """Return what was found, measured once more if this row knows it already."""
        if self.found is None:
            self.found = self.measure()
        elif row in self.asked:
            self.found, self.asked = self.found.with_more(self.measure()), set()
        self.asked.add(row)
        return self.found


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
    """
    _seconds(10, store, n_jobs)
    seconds = tuple(min(_seconds(n, store, n_jobs) for _ in range(repeats)) for n in counts)
    return Overhead(tuple(counts), seconds)


def _seconds(count: int, store: bool, n_jobs: int | None) -> float:
    cells = grid(i=range(count))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory()) if store else None
        start = time.perf_counter()
        sweep(trivial, cells, seed=0, n_jobs=n_jobs, store=folder)
        return time.perf_counter() - start
