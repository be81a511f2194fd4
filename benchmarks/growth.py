"""Growth: time against d and n, with a fitted exponent beside that of theory.

Three exponents belong together. That of theory holds as the size goes to infinity. That of the
count fits the number of operations at the same sizes: it lacks only what has not yet died out of
the lower terms. That of the measurement lacks, in addition, what a call costs at any size, and the
rate that small matrices do not reach.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.kernels import Axis, Kernel
from benchmarks.limits import Rates, least_seconds
from benchmarks.timing import interleaved

REPEATS = 5


class Fit(NamedTuple):
    """Exponent of a power law, its standard error, and its slope between the last two sizes."""

    exponent: float
    stderr: float
    last: float


@dataclass(frozen=True)
class Growth:
    """Growth of one kernel along one axis, see `benchmarks.kernels.Axis`.

    Parameters
    ----------
    kernel, letter, held : str
    sizes : tuple of int
    seconds : tuple of float
        Least processor time at each size.
    exponent, stderr, last : float
        See `Fit`.
    counted : float
        Exponent of the least time by the count of operations, at the same sizes.
    theory : float
    """

    kernel: str
    letter: str
    held: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float
    stderr: float
    last: float
    counted: float
    theory: float


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> Fit:
    """Return the exponent of ``seconds = a sizes^p``, by least squares of the logarithms.

    The standard error is that of the residuals, so it covers noise and curvature alike.

    Raises
    ------
    ValueError
        If there are fewer than 4 sizes.
    """
    if len(sizes) < 4:
        raise ValueError(f"sizes must be at least 4 to fit an exponent, got {len(sizes)}")
    x, y = np.log(sizes), np.log(seconds)
    centred = x - x.mean()
    exponent = centred @ y / (centred @ centred)
    rest = y - y.mean() - exponent * centred
    stderr = np.sqrt(rest @ rest / (len(x) - 2) / (centred @ centred))
    return Fit(float(exponent), float(stderr), float((y[-1] - y[-2]) / (x[-1] - x[-2])))


def all_growth(kernels: tuple[Kernel, ...], rates: Rates) -> Iterator[Growth]:
    """Yield every kernel along every axis, on one thread."""
    for kernel in kernels:
        for axis in kernel.axes:
            yield growth(kernel, axis, rates)


def growth(kernel: Kernel, axis: Axis, rates: Rates, repeats: int = REPEATS) -> Growth:
    """Return the growth of a kernel along an axis; all sizes are measured in turn."""
    with threadpool_limits(1):
        calls = {str(size): kernel.prepare(size) for size in axis.sizes}
        for call in calls.values():
            call()
        best = interleaved(calls, repeats=repeats, warm_up=lambda: None)
    seconds = tuple(best[name].seconds for name in calls)
    least = [least_seconds(kernel.work(size), rates)[0] for size in axis.sizes]
    return Growth(
        kernel.name,
        axis.letter,
        axis.held,
        axis.values,
        seconds,
        *fit(axis.values, seconds),
        fit(axis.values, least).exponent,
        axis.theory,
    )
