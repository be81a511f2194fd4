"""The best features: how to choose the law of the projections so that attention errs least.

For the page on softmax features. Drawing projections from another normal law and weighting them
back is the same as a concentration rho and a shift of the keys, so the choice is one of a normal
law, and the error is log-convex in its natural parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from iclkit._checks import border, count, scalar
from iclkit.papers.dual_kernel.errors import (
    _away,
    _by_query,
    _pair_exponents,
    _penalty,
    _value_pairs,
    _weights,
    output_variance,
)
from iclkit.papers.dual_kernel.maps import centre, checked_kind, checked_parts

__all__ = [
    "BestShift",
    "Design",
    "OptimalPositive",
    "best_design",
    "best_shift",
    "optimal_positive",
    "small_norm_shift",
]

Floats = NDArray[np.float64]

_TINY = float(np.finfo(float).tiny)
_EPS = 10.0 * float(np.finfo(float).eps)
_TIE = 1e-5  # keys that differ by less err by 1e-10 of the values; rounding would be searched
_FLAT = 1e-10  # gradient of the log error at which a search ends


class OptimalPositive(NamedTuple):
    """The positive map with the least variance at one kernel entry.

    Attributes
    ----------
    rho : float
        Its concentration, in (0, 1].
    exponent : float
        ``A = (1 - 1/rho)/8``, the factor of ``|omega|^2`` in its log features.
    relative_variance : float
        Relative mean square error times the number of projections.
    """

    rho: float
    exponent: float
    relative_variance: float


class BestShift(NamedTuple):
    """The shift of the keys with the least predicted error.

    Attributes
    ----------
    shift : (d_k,) array
    variance : float
        Mean square error of the output times the number of projections, its mean over queries.
    """

    shift: Floats
    variance: float


class Design(NamedTuple):
    """The isotropic normal law of projections with the least predicted error.

    Attributes
    ----------
    shift : (d_k,) array
        Mean of the law: what to subtract from the keys.
    rho : float
        Concentration of the map; the law has variance ``(1 + rho)/(2 rho)``.
    variance : float
        Mean square error of the output times the number of projections, its mean over queries.
    """

    shift: Floats
    rho: float
    variance: float


@border
def optimal_positive(squared_norm: float, dim: int) -> OptimalPositive:
    """Return the positive map that is best for a kernel entry with this ``|x + y|^2``.

    Parameters
    ----------
    squared_norm : float
        ``s = |x + y|^2``, >= 0.
    dim : int
        Length d of keys, >= 1.

    Returns
    -------
    OptimalPositive

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    ``((1 + rho)/2)^d rho^(-d/2) exp(rho s) - 1`` is least at
    ``rho = 2d / (2s + d + sqrt((2s + d)^2 + 8 s d))``. For long keys rho is about d/(2s), and the
    variance grows like ``s^(d/2)``, no longer like ``exp(s)``.

    References
    ----------
    Likhosherstov et al. 2022; derived and checked here.

    Examples
    --------
    >>> [round(part, 4) for part in optimal_positive(2, 8)]
    [0.5616, -0.0976, 3.2698]
    """
    s, dim = scalar("squared_norm", squared_norm), count("dim", dim)
    each = s / dim
    rho = 2.0 / (2.0 * each + 1.0 + np.hypot(2.0 * each + 1.0, np.sqrt(8.0 * each)))
    cost = dim * (np.log1p(0.5 * (rho - 1.0)) - 0.5 * np.log(rho)) + rho * s
    with np.errstate(over="ignore"):
        variance = float(np.expm1(cost))
    return OptimalPositive(float(rho), float((1.0 - 1.0 / rho) / 8.0), variance)


@border
def small_norm_shift(queries: ArrayLike, keys: ArrayLike, values: ArrayLike) -> Floats:
    """Return the best shift of short keys and queries, in closed form.

    Parameters
    ----------
    queries : (d_k,) or (d_k, n_queries) array_like
    keys : (d_k, n) array_like
    values : (d_v, n) array_like

    Returns
    -------
    (d_k,) array
        The best shift of positive and of hyperbolic features to leading order.

    Raises
    ------
    ValueError
        If shapes do not fit or an entry is not finite.

    Notes
    -----
    For each query and each coordinate of the values let ``M = sum_i w_i z_i`` and
    ``T = sum_i w_i z_i z_i^T`` with ``z_i = x + y_i`` and ``w_i`` that coordinate of
    ``a_i (v_i - h)``. The leading part of the error that a shift c changes is the sum of
    ``|T - M c^T - c M^T|^2 / 2``, least at
    ``c = (sum [M M^T + |M|^2 I])^(-1) sum T M``.

    References
    ----------
    New here.

    Examples
    --------
    >>> small_norm_shift([0.01], [[0.01, 0.03]], [[1.0, 0.0]]).round(4)
    array([0.03])
    """
    x, y, v = _doubles(queries, keys, values)
    points = _by_query("positive", x, y)  # (Q, d, n)
    away = _away(x, y, v)
    weighted = _weights(x, y)[:, None, :] * away / max(float(np.abs(away).max()), _TINY)
    mean = np.einsum("qan,qdn->qad", weighted, points)
    square = np.einsum("qan,qdn,qen->qade", weighted, points, points)
    gram = np.einsum("qad,qae->de", mean, mean)
    target = np.einsum("qade,qae->d", square, mean)
    system = gram + np.trace(gram) * np.eye(len(gram))
    return np.asarray(np.linalg.lstsq(system, target, rcond=None)[0])


@border
def best_shift(
    queries: ArrayLike,
    keys: ArrayLike,
    values: ArrayLike,
    *,
    kind: str = "positive",
    rho: float = 1.0,
) -> BestShift:
    """Return the shift of the keys with the least predicted error of attention outputs.

    Parameters
    ----------
    queries : (d_k,) or (d_k, n_queries) array_like
        One query, or several that share one shift.
    keys : (d_k, n) array_like
    values : (d_v, n) array_like
    kind : {"positive", "hyperbolic", "trigonometric"}
    rho : float
        Concentration of the map, > 0.

    Returns
    -------
    BestShift

    Raises
    ------
    ValueError
        If a name is unknown, shapes do not fit, an entry is not finite, or rho is not positive.

    Notes
    -----
    What exceeds float64 is infinite.

    For positive features the minimum is the only one: to shift keys by c is to draw projections
    around c, the variance is the integral of ``|F|^2 p^2 / q_c`` with normal densities p and q_c,
    and ``1/q_c`` is log-convex in c. For the other kinds it is a local minimum.

    References
    ----------
    New here.

    Examples
    --------
    >>> best_shift([0.0], [[0.0, 1.0]], [[1.0, 0.0]]).shift.round(4)
    array([0.5])
    """
    x, y, v = _doubles(queries, keys, values)
    rho = scalar("rho", rho, open_=True)
    error = _error(checked_kind(kind), x, y, v)
    start = centre(x, y)
    shift = start
    if not _cannot_err(y, v):
        shift = start + _least(lambda c: error.at(start + c, rho)[:2], np.zeros(len(y)))
    variance = output_variance(kind, x, y, v, rho=rho, shift=shift)
    return BestShift(shift, float(np.mean(variance)))


@border
def best_design(
    queries: ArrayLike, keys: ArrayLike, values: ArrayLike, *, kind: str = "positive"
) -> Design:
    """Return the best isotropic normal law of independent projections.

    Parameters
    ----------
    queries : (d_k,) or (d_k, n_queries) array_like
        One query, or several that share one law.
    keys : (d_k, n) array_like
    values : (d_v, n) array_like
        The identity matrix asks for the best attention weights.
    kind : {"positive", "hyperbolic", "trigonometric"}

    Returns
    -------
    Design

    Raises
    ------
    ValueError
        If the kind is unknown, shapes do not fit or an entry is not finite.

    Notes
    -----
    What exceeds float64 is infinite.

    Shift and concentration together. For positive features ``1/q`` is log-convex in the natural
    parameters of the normal law q, so this minimum, too, is the only one.

    References
    ----------
    New here.

    Examples
    --------
    >>> found = best_design([0.0], [[0.0, 1.0]], [[1.0, 0.0]])
    >>> found.shift.round(4), round(found.rho, 4), round(found.variance, 4)
    (array([0.5]), 0.2992, 0.0444)
    """
    x, y, v = _doubles(queries, keys, values)
    error = _error(checked_kind(kind), x, y, v)
    start = centre(x, y)
    if _cannot_err(y, v):
        return Design(start, 1.0, float(np.mean(output_variance(kind, x, y, v, shift=start))))

    def value(move: Floats) -> tuple[float, Floats]:
        rho = float(np.exp(move[-1]))
        log, slope, by_rho = error.at(start + move[:-1], rho)
        return log, np.append(slope, rho * by_rho)

    move = _least(value, np.zeros(len(y) + 1))
    shift, rho = start + move[:-1], float(np.exp(move[-1]))
    variance = output_variance(kind, x, y, v, rho=rho, shift=shift)
    return Design(shift, rho, float(np.mean(variance)))


def _cannot_err(keys: Floats, values: Floats) -> bool:
    """Return whether all values or all keys are equal: then features err alike for all tokens."""
    return bool(np.ptp(values, axis=1).max() == 0 or np.ptp(keys, axis=1).max() <= _TIE)


def _error(kind: str, x: Floats, y: Floats, v: Floats) -> _Error:
    """Return the error of values that are scaled to 1, so that their squares do not overflow."""
    size = max(float(np.abs(v).max()), _TINY)
    return _Error(kind, x, y, _value_pairs(x, y, v / size, centred=True))


class _Error(NamedTuple):
    """The predicted error as a function of shift and concentration."""

    kind: str
    queries: Floats
    keys: Floats
    pairs: Floats

    def at(self, shift: Floats, rho: float) -> tuple[float, Floats, float]:
        """Return the logarithm of the error and its derivatives in shift and rho.

        The rows of `pairs` add up to 0, so 1 may be taken off every second moment: short keys
        keep their digits. Where none are left the error counts as flat.
        """
        points = _by_query(self.kind, self.queries, self.keys - shift[:, None])
        dim, products = points.shape[-2], np.swapaxes(points, -1, -2) @ points
        base, side = _pair_exponents(self.kind, points, rho)
        base = base - dim * _penalty(rho)
        exponents = [base] if side is None else [base + side, base - side]
        top = float(np.max(exponents))  # at least 0: that of a point with itself
        terms = [self.pairs * _less_one(part, top) / len(exponents) for part in exponents]
        total, rounding = float(np.sum(terms)), _EPS * float(np.abs(terms).sum())
        if total <= rounding:
            return dim * _penalty(rho) + top + np.log(rounding + _TINY), np.zeros(len(shift)), 0.0
        change, by_rho = self._slopes(points, terms, rho)
        if side is None:  # the 1 that was taken off has a part in the derivative in rho
            by_rho += 0.5 * np.exp(-top) * float(np.sum(self.pairs * products))
        by_penalty = dim * (1.0 / (1.0 + rho) - 0.5 / rho)
        log = dim * _penalty(rho) + top + np.log(total)
        return float(log), change / total, by_rho / total + by_penalty

    def _slopes(self, points: Floats, terms: list[Floats], rho: float) -> tuple[Floats, float]:
        """Return the derivatives of the sum of the terms in shift and rho.

        The exponents are ``e (rho - 1) (|p|^2 + |q|^2)/4 +- (1 + rho) <p, q>/2`` for points p
        and q, with e = -1 for trigonometric features.
        """
        sign = -1.0 if self.kind == "trigonometric" else 1.0
        slopes = (-rho, 1.0) if sign > 0 else (1.0, -rho)  # of the two sides, in units of p + q
        change, by_rho = np.zeros(len(self.keys)), 0.0
        for slope, side, term in zip(slopes, (1.0, -1.0), terms, strict=False):
            change = change + slope * _moment(points, term)
            by_rho += sign * float(np.sum(term * _quarters(points, sign * side)))
        return change, by_rho


def _less_one(exponents: Floats, top: float) -> Floats:
    """Return ``(exp(exponents) - 1) exp(-top)``."""
    near = np.exp(-top) * np.expm1(np.minimum(exponents, 1.0))
    return np.where(exponents <= 1.0, near, np.exp(exponents - top) - np.exp(-top))


def _quarters(points: Floats, side: float) -> Floats:
    """Return ``|p_i + side p_j|^2 / 4`` for all pairs."""
    products = np.swapaxes(points, -1, -2) @ points
    squares = np.einsum("...ii->...i", products)
    return 0.25 * (squares[..., :, None] + squares[..., None, :]) + 0.5 * side * products


def _moment(points: Floats, terms: Floats) -> Floats:
    """Return the sum over queries and pairs of ``(p_i + p_j) terms_ij``."""
    sums: Floats = 2.0 * np.einsum("qdi,qij->d", points, terms)
    return sums


def _least(value: Callable[[Floats], tuple[float, Floats]], start: Floats) -> Floats:
    """Return where a smooth function of a few variables is least, downhill from the start."""
    found = minimize(value, start, jac=True, method="BFGS", options={"gtol": _FLAT})
    return np.asarray(found.x)


def _doubles(
    queries: ArrayLike, keys: ArrayLike, values: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Return float64 parts, the queries as columns."""
    x, y, v = (part.astype(np.float64) for part in checked_parts(queries, keys, values))
    return x[:, None] if x.ndim == 1 else x, y, v
