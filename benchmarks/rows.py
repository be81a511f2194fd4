"""One row of the table: what was compared, how fast, and whether the answers are equal."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import Calls, interleaved

AGREEMENT = 1e-6  # largest relative difference of answers that count as equal
SIGMAS = 5.0  # largest deviation in standard errors of random answers that count as equal
ATTEMPTS = 3  # how often a row is measured before it fails

RATIO = "x"  # the unit of rows that compare with an obvious method
EXPONENT = "exponent"  # the unit of a growth, fitted to the least times of all measurements so far


@dataclass(frozen=True)
class Row:
    """One line of the table. `target` bounds `value` from `side`; None asks for nothing.

    Parameters
    ----------
    case : str
        What is computed; with the threads the name of the row.
    threads : int
        How many threads it may use.
    ours : float
        Seconds that the library takes.
    obvious : float or None
        Seconds that the obvious method takes, None where nothing is compared.
    value : float
        Obvious over ours, or an amount of `unit`.
    unit : str
        "x" for ratios.
    target : float or None
    side : {"at least", "below"}
    difference : float or None
        Relative difference of the answers, where both give the same numbers.
    sigmas : float or None
        Largest difference in standard errors, where both give random numbers of one law, or one
        estimates what the other computes.
    against : str
        The obvious method in a few words.
    """

    case: str
    threads: int
    ours: float
    obvious: float | None
    value: float
    unit: str
    target: float | None = None
    side: str = "at least"
    difference: float | None = None
    sigmas: float | None = None
    against: str = ""

    @property
    def name(self) -> tuple[str, int]:
        """What tells this row from others."""
        return self.case, self.threads

    @property
    def agrees(self) -> bool:
        """Whether the answers are equal; NaN never is."""
        equal = self.difference is None or self.difference <= AGREEMENT
        return equal and (self.sigmas is None or self.sigmas <= SIGMAS)

    @property
    def ok(self) -> bool:
        """Whether the target is met and the answers agree; NaN never does."""
        if self.target is None:
            return self.agrees
        reached = self.value >= self.target if self.side == "at least" else self.value < self.target
        return self.agrees and reached


class Compared(NamedTuple):
    """Seconds of ours, seconds of the obvious way for the same task, and how the answers differ."""

    ours: float
    obvious: float
    difference: float | None = None
    sigmas: float | None = None


def side_by_side(calls: Calls, *, repeats: int, threads: int = 1) -> Compared:
    """Return the times of "ours" and "obvious", taken in turn, and how the answers differ."""
    times = interleaved(calls, repeats=repeats, warm_up=calls["ours"], threads=threads)
    ours, obvious = times["ours"], times["obvious"]
    difference = relative_difference(ours.result, obvious.result)
    return Compared(ours.seconds, obvious.seconds, difference)


Case = Callable[[], Row]


def settled(case: Case, wanted: Callable[[Row], bool]) -> Row:
    """Return the row of a case; one that is not as wanted is measured again, `ATTEMPTS` in all.

    Measurements are put together, see `pooled`. Another measurement does not mend a wrong answer.
    """
    row = case()
    for _ in range(ATTEMPTS - 1):
        if wanted(row) or not row.agrees:
            break
        row = pooled(row, case())
    return row


def pooled(one: Row, other: Row) -> Row:
    """Return one row from two measurements: the least times, the largest disagreement.

    Other work can only add time, so that the least times are nearest to the truth on both sides:
    this does not choose the better ratio.
    """
    ours, value, obvious = min(one.ours, other.ours), min(one.value, other.value), one.obvious
    if one.unit == EXPONENT:
        value = other.value  # the least of several fits would choose the better one
    if obvious is not None and other.obvious is not None:
        obvious = min(obvious, other.obvious)
        value = obvious / ours
    return replace(
        one,
        ours=ours,
        obvious=obvious,
        value=value,
        difference=_worst(one.difference, other.difference),
        sigmas=_worst(one.sigmas, other.sigmas),
    )


def _worst(one: float | None, other: float | None) -> float | None:
    """Return the larger of two numbers, NaN if one is, None without numbers."""
    found = [number for number in (one, other) if number is not None]
    return float(np.max(found)) if found else None


def relative_difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the norm of the difference of two answers over that of the second one."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def sample_deviation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest difference of column means of two samples, in standard errors.

    Parameters
    ----------
    one, other : (n, k) array
        Independent rows of k statistics.
    """
    variance = sum(sample.var(axis=0, ddof=1) / len(sample) for sample in (one, other))
    return float(np.max(np.abs(one.mean(axis=0) - other.mean(axis=0)) / np.sqrt(variance)))
