"""The nine ways to compare a number with a statement: arrays in, one score out.

Each kind of check turns its data into scores, one per comparison, such that the statement holds
when every score stays within a limit. Nothing here knows about ledgers or notebooks.

====== =================================== ====================================================
kind   question                            score
====== =================================== ====================================================
close  equal up to a relative tolerance?   relative error (beyond the sampling error, if given)
sigmas equal up to sampling error?         distance in standard errors
limit  equal as the size grows?            the same for the intercept of a fit in 1/size
below  strictly smaller?                   minus the margin, in standard errors (or relative)
above  strictly larger?                    minus the margin, in standard errors (or relative)
order  monotone along a parameter?         largest step in the wrong direction, same units
peak   where is the extremum or crossing?  distance from the stated place
slope  power law?                          distance of the log-log slope from the stated one
ratio  factor between two quantities?      distance of the logarithms
====== =================================== ====================================================

Sampling error excuses deviations, so a check with too much of it would excuse everything. Such a
check is powerless, see `Kind.powerless`, and does not pass.
"""

import numbers
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import choice, count, instance, real_array, scalar, shown, unmasked

__all__ = [
    "FAMILY",
    "KINDS",
    "Data",
    "Kind",
    "Outcome",
    "Scores",
    "family_limit",
    "perform",
]

#: Tolerance that stands for "the family-wise limit of this number of comparisons".
FAMILY: Final = "family"

#: Probability of any false alarm among the comparisons of one check.
FAMILY_LEVEL: Final = 1e-3


class Data(NamedTuple):
    """What a check is given; each kind says which fields it needs.

    `replicates` counts the repetitions behind each `stderr`; of several counts the smallest
    matters. Without it the standard errors are taken as known.
    """

    measured: Any
    expected: Any = None
    stderr: Any = None
    size: Any = None
    x: Any = None
    at: Any = None
    replicates: Any = None


class Scores(NamedTuple):
    """Comparisons side by side: arrays of one shape.

    A score is a deviation divided by `scale`; `noise` is the standard error in the same units,
    0 where the comparison is exact or where the scale is the standard error itself.
    """

    score: NDArray[np.float64]
    scale: NDArray[np.float64]
    noise: NDArray[np.float64]
    measured: NDArray[np.float64]
    expected: NDArray[np.float64]
    stderr: NDArray[np.float64]


class Outcome(NamedTuple):
    """Result of a check: the worst comparison and whether it stays within the limit.

    `resolution` is the smallest relative error of the expectation (absolute where that is 0) that
    the check notices in every one of its comparisons; for ``below`` and ``above`` the smallest
    margin that counts.
    """

    passed: bool
    score: float
    limit: float
    unit: str
    resolution: float
    comparisons: int
    measured: float
    expected: float
    stderr: float


class Kind(NamedTuple):
    """One way to compare: the scoring function, the arguments it takes, how it is limited."""

    scores: Callable[[Data], Scores]
    needs: frozenset[str]
    allows: frozenset[str]
    unit: str
    in_sigmas: bool = False
    one_sided: bool = False
    margin: bool = False

    def powerless(self, resolution: float) -> bool:
        """Return whether a check of this kind would excuse an error as large as the expectation.

        Checks that demand a margin excuse nothing and are never powerless.
        """
        return not self.margin and not resolution < 1


def family_limit(
    comparisons: int, level: float = FAMILY_LEVEL, *, replicates: float | None = None
) -> float:
    """Return the limit in standard errors for `comparisons` two-sided comparisons at once.

    Parameters
    ----------
    comparisons : int
        How many numbers are compared, at least 1.
    level : float
        Probability that any of them is further off by chance alone.
    replicates : int, optional
        Number of repetitions, at least 2, that each standard error is estimated from. Default:
        the standard errors are known.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is no comparison, there are fewer than two repetitions, or `level` is no
        probability.

    Notes
    -----
    ``z = Phi^-1(1 - level / (2 comparisons))``, Bonferroni's bound. A mean over its estimated
    standard error follows Student's t with ``replicates - 1`` degrees of freedom, whose quantile
    takes the place of the normal one. For a combination of independent means, each with its own
    standard error, that is on the safe side.

    Examples
    --------
    >>> [round(family_limit(m), 2) for m in (50, 200, 1000)]
    [4.26, 4.56, 4.89]
    >>> [round(family_limit(1, replicates=n), 2) for n in (4, 10, 40)]
    [12.92, 4.78, 3.56]
    """
    level = scalar("level", level, open_=True)
    tail = level / (2 * count("comparisons", comparisons))
    if level > 1 or tail == 0:
        raise ValueError(f"level must be a probability of at most 1 and not tiny, got {level:g}")
    return -(NormalDist().inv_cdf(tail) if replicates is None else _student(tail, replicates))


def perform(kind: str, tolerance: float | str, data: Data) -> Outcome:
    """Return the outcome of the check `kind` of `data` at `tolerance`.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    tolerance : float or "family"
        Largest score allowed, or for ``below`` and ``above`` the least margin. ``"family"``
        asks for `family_limit` of the number of comparisons.
    data : Data
        Arrays or scalars; see the functions of this module for their meaning.

    Returns
    -------
    Outcome
        Of the worst comparison. A score that is not finite never passes, and neither does a
        check without power.

    Raises
    ------
    ValueError
        If the kind is unknown, an argument is missing, not used by this kind, of the wrong shape
        or masked, or `x` or `size` is not finite.
    TypeError
        If an argument holds truth values, text, or what else is no real number.

    Notes
    -----
    For the kinds limited by a tolerance (``close``, ``slope``, ``ratio``) the family-wise
    multiple of the standard error is taken off the score, so the tolerance need only say what
    the mathematics allows. With `limit` and `noise` in units of `scale`, the resolution is the
    largest ``(|limit| + z noise) scale / |expected|`` among the comparisons.

    Examples
    --------
    >>> perform("sigmas", "family", Data([1.02, 0.97], expected=1.0, stderr=0.02)).passed
    True
    >>> perform("close", 1e-9, Data(1.0, expected=1.01)).passed
    False
    >>> perform("close", 0.1, Data(5.0, expected=1.0, stderr=3.0)).passed  # excuses anything
    False
    """
    rule = KINDS[choice("kind", kind, tuple(KINDS))]
    _check_arguments(kind, rule, instance("data", data, Data, "put the arguments into a Data"))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scores = rule.scores(data)
        z = family_limit(scores.score.size, replicates=data.replicates)
        rule = rule._replace(unit=_unit(rule, data))
        return _judge(rule, scores, _limit(rule, tolerance, z), z)


def close(data: Data) -> Scores:
    """Score the relative error ``|measured - expected| / |expected|``.

    Where the expectation is 0 the absolute error counts. A `stderr` is the sampling error of
    the difference.
    """
    measured, expected, stderr = _aligned(data)
    scale = _scale_of(expected)
    score = np.abs(measured - expected) / scale
    return Scores(score, scale, stderr / scale, measured, expected, stderr)


def sigmas(data: Data) -> Scores:
    """Score the distance in standard errors ``|measured - expected| / stderr``."""
    measured, expected, stderr = _aligned(data)
    score = np.abs(measured - expected) / stderr
    return Scores(score, stderr, np.zeros_like(score), measured, expected, stderr)


def limit(data: Data) -> Scores:
    """Score the intercept of a weighted straight line in 1/size against `expected`.

    `measured` and `stderr` have shape (..., sizes), `size` (sizes,), `expected` (...).
    """
    value, stderr = _intercept(data)
    return sigmas(Data(value, expected=data.expected, stderr=stderr))


def below(data: Data) -> Scores:
    """Score ``(measured - expected) / stderr``: negative when smaller, the more the clearer.

    Without `stderr` the unit is the expectation itself (1 where that is 0).
    """
    return _ordering(data, sign=1.0)


def above(data: Data) -> Scores:
    """Score ``(expected - measured) / stderr``: negative when larger, the more the clearer."""
    return _ordering(data, sign=-1.0)


def order(data: Data) -> Scores:
    """Score every pair along the last axis by its step in the wrong direction.

    `expected` is ``"increasing"`` or ``"decreasing"``; the values are sorted by `x` first. The
    unit is the standard error of the difference, or the later value without `stderr`.
    """
    sign = _direction(data.expected)
    _, measured, stderr = _curve(data)
    first, second = np.triu_indices(measured.shape[-1], k=1)
    before, after = measured[..., first], measured[..., second]
    error = np.hypot(stderr[..., first], stderr[..., second])
    scale = error if data.stderr is not None else _scale_of(after)
    score = sign * (before - after) / scale
    return Scores(score, scale, np.zeros_like(score), after, before, error)


def peak(data: Data) -> Scores:
    """Score the distance of an extremum or crossing from the stated place `at`.

    `measured` is a curve over `x` (or several, shape (..., len(x))), `expected` is
    ``"maximum"`` (default), ``"minimum"`` or the level that is crossed. An extremum at the end
    of the grid, no crossing, or several crossings count as not found. Without `x`, `measured`
    is the place itself.
    """
    place = _array("measured", data.measured) if data.x is None else _places(data)
    found, stated = _broadcast(place, _array("at", data.at))
    one = np.ones_like(found)
    return Scores(np.abs(found - stated), one, 0 * one, found, stated, 0 * one)


def slope(data: Data) -> Scores:
    """Score the distance of the log-log slope of `measured` over `x` from `expected`.

    A point that its standard error does not tell from 0 has no logarithm to speak of: the score
    is then NaN. Standard errors count relative to the power law of the stated slope that fits
    best, not to the point itself, so that a point far too low is not excused by being small.
    """
    x, measured, stderr = _curve(data)
    if np.any(x <= 0):
        raise ValueError(f"x must be > 0 for a power law, got {x.min()}")
    expected = _array("expected", data.expected)
    _broadcast(measured[..., 0], expected)
    z = family_limit(measured.size, replicates=data.replicates)
    logs = np.log(np.where(measured > z * stderr, measured, np.nan))
    fitted, error = _line(np.log(x), logs, stderr / _power_law(x, measured, stderr, expected))
    found, stated, noise = _broadcast(fitted, expected, error)
    return Scores(np.abs(found - stated), np.ones_like(found), noise, found, stated, noise)


def ratio(data: Data) -> Scores:
    """Score ``|log measured - log expected|`` of a factor against the stated one.

    The standard error counts relative to the expectation: relative to a measured value close to
    0 it would excuse every distance.
    """
    measured, expected, stderr = _aligned(data)
    score, scale = np.abs(np.log(measured) - np.log(expected)), _scale_of(expected)
    return Scores(score, scale, stderr / scale, measured, expected, stderr)


_NUMBERS = frozenset({"measured", "expected"})
_SAMPLED = frozenset({"stderr", "replicates"})
_SIGMAS = "standard errors"

#: Every kind of check by its name in the claims file.
KINDS: Final[dict[str, Kind]] = {
    "close": Kind(close, _NUMBERS, _SAMPLED, "relative"),
    "sigmas": Kind(sigmas, _NUMBERS | {"stderr"}, _SAMPLED, _SIGMAS, in_sigmas=True),
    "limit": Kind(limit, _NUMBERS | {"stderr", "size"}, _SAMPLED, _SIGMAS, in_sigmas=True),
    "below": Kind(below, _NUMBERS, _SAMPLED, "relative", one_sided=True, margin=True),
    "above": Kind(above, _NUMBERS, _SAMPLED, "relative", one_sided=True, margin=True),
    "order": Kind(order, _NUMBERS | {"x"}, _SAMPLED, "relative", one_sided=True),
    "peak": Kind(peak, frozenset({"measured", "at"}), frozenset({"x", "expected"}), "distance"),
    "slope": Kind(slope, _NUMBERS | {"x"}, _SAMPLED, "slope"),
    "ratio": Kind(ratio, _NUMBERS, _SAMPLED, "log ratio"),
}


def _check_arguments(kind: str, rule: Kind, data: Data) -> None:
    given = {name for name, value in data._asdict().items() if value is not None}
    if missing := sorted(rule.needs - given):
        raise ValueError(f"a {kind!r} check needs {', '.join(missing)}")
    if unused := sorted(given - rule.needs - rule.allows):
        raise ValueError(f"a {kind!r} check does not use {', '.join(unused)}")
    if "replicates" in given and "stderr" not in given:
        raise ValueError("replicates count the repetitions behind stderr: give both or neither")


def _student(tail: float, replicates: ArrayLike) -> float:
    """Return the lower quantile `tail` of Student's t for the smallest of `replicates`."""
    from scipy.special import stdtrit  # here, because most ledgers need no scipy

    fewest = _array("replicates", replicates).min()
    if not fewest >= 2:
        raise ValueError(f"replicates must be >= 2 to have a standard error, got {fewest:g}")
    return float(stdtrit(fewest - 1, tail))


def _unit(rule: Kind, data: Data) -> str:
    return _SIGMAS if rule.one_sided and data.stderr is not None else rule.unit


def _limit(rule: Kind, tolerance: float | str, z: float) -> float:
    family = isinstance(tolerance, str) and tolerance == FAMILY
    if family and rule.unit != _SIGMAS:
        raise ValueError(f'the tolerance "family" needs standard errors, not {rule.unit}')
    size = z if family else scalar("tolerance", tolerance, infinite=True)  # type: ignore[arg-type]
    return 0.0 - size if rule.margin else size


def _judge(rule: Kind, scores: Scores, limit: float, z: float) -> Outcome:
    net = _net(rule, scores, z)
    worst = _worst(net, scores.score, limit)
    score, resolution = float(net[worst]), _resolution(scores, limit, z)
    within = score < limit if rule.margin else score <= limit
    return Outcome(
        passed=bool(np.isfinite(score) and within and not rule.powerless(resolution)),
        score=score,
        limit=limit,
        unit=rule.unit,
        resolution=resolution,
        comparisons=int(net.size),
        measured=float(scores.measured[worst]),
        expected=float(scores.expected[worst]),
        stderr=float(scores.stderr[worst]),
    )


def _worst(net: NDArray[np.float64], raw: NDArray[np.float64], limit: float) -> tuple[np.intp, ...]:
    """Return the place of the largest net score, NaN first; raw scores break ties.

    Net scores within a billionth of the limit are rounding, hence ties.
    """
    rank, second = (np.where(np.isfinite(values), values, np.inf) for values in (net, raw))
    rank = np.round(rank / limit, 9) if limit > 0 else rank
    tied = np.where(rank == rank.max(), second, -np.inf)
    return np.unravel_index(np.argmax(tied), net.shape)


def _net(rule: Kind, scores: Scores, z: float) -> NDArray[np.float64]:
    """Return the scores less what sampling explains, NaN where they are not finite."""
    net = scores.score if rule.one_sided else np.maximum(scores.score - z * scores.noise, 0)
    return np.where(np.isfinite(scores.score), net, np.nan)


def _resolution(scores: Scores, limit: float, z: float) -> float:
    """Return the largest relative error of an expectation that the check would still excuse."""
    room = (abs(limit) + z * scores.noise) * scores.scale
    return float(np.max(room / _scale_of(scores.expected)))


def _ordering(data: Data, *, sign: float) -> Scores:
    measured, expected, stderr = _aligned(data)
    scale = stderr if data.stderr is not None else _scale_of(expected)
    score = sign * (measured - expected) / scale
    return Scores(score, scale, np.zeros_like(score), measured, expected, stderr)


def _intercept(data: Data) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    size, measured, stderr = _curve(data._replace(x=data.size), name="size")
    if np.any(size <= 0) or np.unique(size).size < 2:
        raise ValueError(f"size must hold at least two different values > 0, got {size.tolist()}")
    u, weight = 1 / size, 1 / stderr**2
    w, wu, wuu = weight.sum(-1), (weight * u).sum(-1), (weight * u * u).sum(-1)
    wy, wuy = (weight * measured).sum(-1), (weight * u * measured).sum(-1)
    determinant = w * wuu - wu**2
    return (wuu * wy - wu * wuy) / determinant, np.sqrt(wuu / determinant)


def _line(
    u: NDArray[np.float64], v: NDArray[np.float64], error: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return slope and its standard error of the least-squares line of v (..., n) over u (n,)."""
    sampled = bool(np.any(error != 0))
    weight = 1 / error**2 if sampled else np.ones_like(v)
    weight = weight / weight.sum(-1, keepdims=True)
    centred = u - (weight * u).sum(-1, keepdims=True)
    share = weight * centred / (weight * centred**2).sum(-1, keepdims=True)
    return (share * v).sum(-1), np.sqrt(((share * error) ** 2).sum(-1))


def _power_law(
    x: NDArray[np.float64],
    measured: NDArray[np.float64],
    stderr: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the multiple of x**slope that is closest to `measured` in standard errors."""
    shape, weight = x ** slope[..., None], 1 / np.where(stderr == 0, 1, stderr) ** 2
    amplitude = (weight * measured * shape).sum(-1) / (weight * shape**2).sum(-1)
    return amplitude[..., None] * shape


def _places(data: Data) -> NDArray[np.float64]:
    x, measured, _ = _curve(data)
    wanted = _wanted(data.expected)
    rows = measured.reshape(-1, x.size)
    found = [_place(x, row, wanted) for row in rows]
    return np.asarray(found).reshape(measured.shape[:-1])


def _wanted(expected: Any) -> str | float:
    """Return which extremum is looked for, or the level that is crossed."""
    if expected is None or isinstance(expected, str):
        return "maximum" if expected is None else expected
    level = _array("expected", expected)
    if level.size != 1:
        raise ValueError(f"expected must be one level, got shape {level.shape}")
    return float(level.item())


def _place(x: NDArray[np.float64], y: NDArray[np.float64], wanted: str | float) -> float:
    if not np.all(np.isfinite(y)):
        return float("nan")
    if isinstance(wanted, str):
        return _extremum(x, y, wanted)
    return _crossing(x, y - wanted)


def _extremum(x: NDArray[np.float64], y: NDArray[np.float64], wanted: str) -> float:
    if wanted not in ("maximum", "minimum"):
        raise ValueError(f'expected must be "maximum", "minimum" or a level, got {shown(wanted)}')
    best = int(np.argmax(y) if wanted == "maximum" else np.argmin(y))
    return float(x[best]) if 0 < best < x.size - 1 else float("nan")


def _crossing(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    change = np.flatnonzero((y[:-1] < 0) != (y[1:] < 0))
    if change.size != 1:
        return float("nan")
    i = change[0]
    return float(x[i] - y[i] * (x[i + 1] - x[i]) / (y[i + 1] - y[i]))


def _direction(expected: Any) -> float:
    if not isinstance(expected, str) or expected not in ("increasing", "decreasing"):
        raise ValueError(f'expected must be "increasing" or "decreasing", got {shown(expected)}')
    return 1.0 if expected == "increasing" else -1.0


def _curve(
    data: Data, name: str = "x"
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return x (n,), measured and stderr (..., n), sorted by x."""
    x, measured = _array(name, data.x), np.atleast_1d(_array("measured", data.measured))
    if x.ndim != 1 or x.size < 2 or measured.shape[-1] != x.size:
        raise ValueError(
            f"{name} must be 1-d with one value (at least two) per entry of measured along its "
            f"last axis, got shapes {x.shape} and {measured.shape}"
        )
    if not np.isfinite(x).all():  # sorted last, or 0 as 1/size: it would be compared in silence
        raise ValueError(f"{name} must be finite, got {shown(data.x)}; leave out such entries")
    measured, stderr = _broadcast(measured, _stderr(data))
    by = np.argsort(x, kind="stable")
    return x[by], measured[..., by], stderr[..., by]


def _aligned(
    data: Data,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    measured, expected = _array("measured", data.measured), _array("expected", data.expected)
    return _broadcast(measured, expected, _stderr(data))


def _stderr(data: Data) -> NDArray[np.float64]:
    stderr = _array("stderr", 0.0 if data.stderr is None else data.stderr)
    if np.any(stderr < 0):
        raise ValueError(f"stderr must be >= 0, got {stderr.min()}")
    return np.where(np.isinf(stderr), np.nan, stderr)  # an infinite error would excuse anything


def _array(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return real numbers, NaN allowed; what only turns into numbers is refused."""
    try:
        array = real_array(name, _unboxed(unmasked(name, value)), kinds="iuf")
    except (TypeError, OverflowError):
        raise TypeError(f"{name} must be numbers, got {shown(value)}") from None
    if array.size == 0:
        raise ValueError(f"{name} must not be empty")
    return array


def _unboxed(value: ArrayLike) -> ArrayLike:
    """Return as floats the numbers that a column of pandas may hold as objects."""
    try:
        array = np.asanyarray(value)
    except ValueError:  # ragged, which the check of the border says
        return value
    if array.dtype != object or isinstance(array, np.ma.MaskedArray):
        return value
    real = all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in array.flat)
    return array.astype(np.float64) if real else value


def _broadcast(*arrays: NDArray[np.float64]) -> Any:
    """Return the arrays at their common shape."""
    try:
        return np.broadcast_arrays(*arrays)
    except ValueError as error:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"measured, expected and stderr must fit, got shapes {shapes}") from error


def _scale_of(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(value == 0, 1.0, np.abs(value))
