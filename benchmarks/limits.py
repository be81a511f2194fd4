"""Distance from the machine: rates that it can reach, and how near each hot kernel comes.

The rates are measured in the same run. They are a product of large square matrices (GEMM), a pass
over arrays larger than any cache, normal random numbers, and exponentials. A call cannot be faster
than its operations at those rates one after the other, nor than its traffic at the bandwidth: the
larger of the two is the roofline.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.kernels import Kernel
from benchmarks.timing import interleaved
from benchmarks.work import Work
from iclkit.rng import stream

ARRAY = 2**24  # numbers in each array of the triad: 128 MB
SQUARE = 1536  # rows of the matrices
PART = 2**18  # random numbers, and exponentials, at a time: 2 MB
TRIAD = 40  # bytes moved for a number: two read, two written, one read again
REPEATS = 5


class Rates(NamedTuple):
    """What the machine reaches in a second, on so many threads."""

    threads: int
    flops: float
    single_flops: float
    bytes: float
    normals: float
    exps: float


@dataclass(frozen=True)
class Reached:
    """How near a kernel comes to the machine.

    Parameters
    ----------
    kernel, counted : str
        Its name, and its count of operations in words.
    d, n, threads : int
    seconds : float
    flops, bytes : float
        Operations (of both precisions) and traffic of a call.
    bound : str
        What limits it: "arithmetic", "memory", "random numbers" or "exponentials".
    share : float
        Least possible time over the measured one.
    """

    kernel: str
    counted: str
    d: int
    n: int
    threads: int
    seconds: float
    flops: float
    bytes: float
    bound: str
    share: float


def measured_rates(threads: int, *, quick: bool = False) -> Rates:
    """Return the rates on so many threads; random numbers and exponentials use one.

    Parameters
    ----------
    threads : int
    quick : bool
        Small arrays: to try the code, not the machine.
    """
    side, large = (64, PART) if quick else (SQUARE, ARRAY)
    rng = stream(0, "rates")
    square = rng.standard_normal((side, side))
    half, drawn = square.astype(np.float32), np.empty(PART)
    numbers, out = rng.standard_normal(PART), np.empty(PART)
    work: dict[str, tuple[float, Callable[[], Any]]] = {
        "flops": (2.0 * side**3, lambda: square @ square),
        "single_flops": (2.0 * side**3, lambda: half @ half),
        "bytes": (TRIAD * large, triad(large, threads)),
        "normals": (PART, lambda: rng.standard_normal(out=drawn)),
        "exps": (PART, lambda: np.exp(numbers, out=out)),
    }
    calls = {name: call for name, (_, call) in work.items()}
    with threadpool_limits(threads):
        times = interleaved(calls, repeats=REPEATS, warm_up=calls["flops"], threads=threads)
    found = {name: amount / times[name].seconds for name, (amount, _) in work.items()}
    return Rates(threads, **found)


def triad(size: int, threads: int) -> Callable[[], None]:
    """Return a call of ``a = b + 2 c`` over large arrays, shared out among threads."""
    a, b, c = (np.full(size, value) for value in (0.0, 1.0, 2.0))

    def part(rows: slice) -> None:
        np.multiply(c[rows], 2.0, out=a[rows])
        np.add(a[rows], b[rows], out=a[rows])

    ends = np.linspace(0, size, threads + 1).astype(int)
    parts = [slice(*pair) for pair in pairwise(ends)]

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, parts))

    return run if threads > 1 else lambda: part(parts[0])


def least_seconds(work: Work, rates: Rates) -> tuple[float, str]:
    """Return the least time that a call can take, and what limits it."""
    processor = {
        "arithmetic": work.flops / rates.flops + work.single_flops / rates.single_flops,
        "random numbers": work.normals / rates.normals,
        "exponentials": work.exps / rates.exps,
    }
    memory, busy = work.bytes / rates.bytes, sum(processor.values())
    if memory > busy:
        return memory, "memory"
    return busy, max(processor, key=lambda name: processor[name])


def all_reached(kernels: tuple[Kernel, ...], rates: tuple[Rates, ...]) -> Iterator[Reached]:
    """Yield each kernel on one thread, and on all where that helps."""
    for kernel in kernels:
        for known in rates:
            if known.threads == 1 or kernel.threaded:
                yield reached(kernel, known)


def reached(kernel: Kernel, rates: Rates) -> Reached:
    """Return how near a kernel comes to the machine."""
    threads = rates.threads
    with threadpool_limits(threads):
        call = kernel.prepare(kernel.at)
        best = interleaved({"it": call}, repeats=REPEATS, warm_up=call, threads=threads)["it"]
    work = kernel.work(kernel.at)
    least, bound = least_seconds(work, rates)
    return Reached(
        kernel.name,
        kernel.counted,
        *kernel.at,
        threads,
        best.seconds,
        work.flops + work.single_flops,
        work.bytes,
        bound,
        least / best.seconds,
    )
