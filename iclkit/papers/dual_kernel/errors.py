"""Exact errors of attention with random features: one kernel entry, one output, how many features.

Keys and queries are columns, scaled so that the kernel is ``exp(<x, y>)`` (see `attention`). All
variances are *times the number of projections*; divide by it. Projections are standard normal,
independent or orthogonal in whole blocks of d_k.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from iclkit._checks import border, choice, finite_array, scalar
from iclkit.papers.dual_kernel.maps import (
    checked_kind,
    checked_pair,
    checked_parts,
    checked_shift,
    paired,
    squared_norms,
)
from iclkit.papers.dual_kernel.orthogonal import block_covariance, block_variance

__all__ = [
    "SAMPLINGS",
    "OutputExpansion",
    "output_error_bound",
    "output_expansion",
    "output_variance",
    "projections_needed",
    "relative_covariance",
    "relative_variance",
]

Floats = NDArray[np.float64]

#: How projections are drawn.
SAMPLINGS = ("independent", "orthogonal")

_LARGE = 500.0  # exponents beyond it are shifted before they are summed


class OutputExpansion(NamedTuple):
    """Error of an attention output that is divided by the sum of its own features.

    Attributes
    ----------
    first, second : float
        ``E|h^ - h|^2 = first/m + second/m^2 + O(1/m^3)``.
    bias : (d_v,) array
        ``E h^ - h = bias/m + O(1/m^2)``.
    """

    first: float
    second: float
    bias: Floats


# ------------------------------------------------------------------ one entry of the kernel


@border
def relative_variance(
    kind: str,
    x: ArrayLike,
    y: ArrayLike,
    *,
    rho: float = 1.0,
    sampling: str = "independent",
) -> float | Floats:
    """Return the relative mean square error of a kernel entry, times the number of projections.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
    x : (d_k,) array_like
        Scaled query.
    y : (d_k,) or (d_k, n) array_like
        One scaled key, or several as columns.
    rho : float
        Concentration of the map, > 0.
    sampling : {"independent", "orthogonal"}
        Law of the projections.

    Returns
    -------
    float or (n,) array
        One number per key. Infinity where it overflows.

    Raises
    ------
    ValueError
        If a name is unknown, shapes do not fit, an entry is not finite, or rho is not positive.

    Notes
    -----
    With ``s = |x + y|^2`` (``|x - y|^2`` for trigonometric features), ``rho = 1`` and independent
    projections: ``exp(s) - 1`` for positive features, ``cosh(s) - 1`` for the others. With
    ``p = ((1 + rho)/2)^d rho^(-d/2)`` and any rho: ``p exp(rho s) - 1``,
    ``p (exp(rho s) + exp(-s))/2 - 1`` and ``p (exp(s) + exp(-rho s))/2 - 1``. Orthogonal blocks
    add ``(d - 1) R`` with R of `block_variance`.

    References
    ----------
    Choromanski et al. 2021 for rho = 1; Likhosherstov et al. 2022 for positive features with rho;
    derived and checked here.

    Examples
    --------
    >>> [round(relative_variance(kind, [1, 0], [0, 0.5]), 4) for kind in ("positive", "hyperbolic")]
    [2.4903, 0.8884]
    """
    x, y = _double_pair("x", finite_array("x", x, ndim=1), "y", y)
    columns = y[:, None] if y.ndim == 1 else y
    rho = _checked_law(kind, rho, sampling)
    squares = squared_norms(paired(kind, x, columns))
    variance = _excess(*_exponents(kind, squares, squares, len(x) * _penalty(rho), rho))
    if sampling == "orthogonal" and len(x) > 1:
        variance = _joined(variance, (len(x) - 1) * block_variance(kind, squares, len(x)))
    return float(variance[0]) if y.ndim == 1 else variance


@border
def relative_covariance(
    kind: str,
    query: ArrayLike,
    keys: ArrayLike,
    *,
    rho: float = 1.0,
    sampling: str = "independent",
) -> Floats:
    """Return relative covariances of kernel entries, times the number of projections.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
    query : (d_k,) or (d_k, n_queries) array_like
    keys : (d_k, n) array_like
    rho : float
        Concentration of the map, > 0.
    sampling : {"independent", "orthogonal"}

    Returns
    -------
    (n, n) or (n_queries, n, n) array
        ``C_ij`` with ``Cov(K_i^, K_j^) = C_ij K_i K_j / m`` for the entries of one query.

    Raises
    ------
    ValueError
        If a name is unknown, shapes do not fit, an entry is not finite, or rho is not positive.

    Notes
    -----
    What exceeds float64 is infinite.

    With ``z_i = x + y_i`` and ``u_i = x - y_i``, ``rho = 1`` and independent projections:
    ``exp(<z_i, z_j>) - 1``, ``cosh <z_i, z_j> - 1`` and ``cosh <u_i, u_j> - 1``. Orthogonal blocks
    add ``(d_k - 1) R_ij`` with R of `block_covariance`.

    References
    ----------
    Derived here; the diagonal for rho = 1 is that of Choromanski et al. 2021.

    Examples
    --------
    >>> relative_covariance("hyperbolic", [1, 0], [[0, 0], [1, -2]]).round(4)
    array([[ 2.7622,  0.5431],
           [ 0.5431, 73.2099]])
    """
    x, y = _double_pair("query", query, "keys", finite_array("keys", keys, ndim=2))
    rho = _checked_law(kind, rho, sampling)
    points = _by_query(kind, x, y)
    covariance = _excess(*_pair_exponents(kind, points, rho))
    return _joined(covariance, _block_part(kind, points, sampling))


def _joined(independent: Floats, blocks: Floats) -> Floats:
    """Return the sum; where blocks overflow, they are far below what is independent.

    A block grows like the root of the independent part, so there it is 1e-300 of it.
    """
    with np.errstate(invalid="ignore"):
        both = np.isfinite(independent) & np.isfinite(blocks)
        return np.where(both, independent + blocks, independent)


def _double_pair(first: str, x: ArrayLike, second: str, y: ArrayLike) -> tuple[Floats, Floats]:
    left, right = checked_pair(first, x, second, y)
    return left.astype(np.float64, copy=False), right.astype(np.float64, copy=False)


def _checked_law(kind: str, rho: float, sampling: str) -> float:
    """Return rho as a float, or say what is wrong with the law of the features."""
    checked_kind(kind)
    choice("sampling", sampling, SAMPLINGS)
    return scalar("rho", rho, open_=True)


def _penalty(rho: float) -> float:
    """Return what a concentration other than 1 costs per dimension, in the exponent."""
    return float(np.log1p(0.5 * (rho - 1.0)) - 0.5 * np.log(rho))


def _by_query(kind: str, x: Floats, y: Floats) -> Floats:
    """Return z or u as (d_k, n), or for several queries as (n_queries, d_k, n)."""
    points = paired(kind, x, y)
    squared_norms(points)  # says so where they overflow
    return points if x.ndim == 1 else points.transpose(1, 0, 2)


def _pair_exponents(kind: str, points: Floats, rho: float) -> tuple[Floats, Floats | None]:
    """Return the exponents of all pairs of columns, see `_exponents`."""
    products = np.swapaxes(points, -1, -2) @ points
    squares = np.einsum("...ii->...i", products)
    mean = 0.5 * (squares[..., :, None] + squares[..., None, :])
    return _exponents(kind, mean, products, points.shape[-2] * _penalty(rho), rho)


def _exponents(
    kind: str, mean: Floats, product: Floats, penalty: float, rho: float
) -> tuple[Floats, Floats | None]:
    """Return (base, side): second moments are exp(base), or exp(base) cosh(side).

    `mean` is the mean of the two squared norms, `product` the inner product.
    """
    base = penalty + 0.5 * (rho - 1.0) * (-mean if kind == "trigonometric" else mean)
    side = 0.5 * (1.0 + rho) * product
    return (base + side, None) if kind == "positive" else (base, side)


def _excess(base: Floats, side: Floats | None) -> Floats:
    """Return the second moments less 1, with all digits where they are small."""
    with np.errstate(over="ignore"):
        if side is None:
            return np.expm1(base)
        half = np.sinh(0.5 * np.clip(side, -1.0, 1.0))
        near = 2.0 * np.exp(base) * half**2 + np.expm1(base)
        far = 0.5 * (np.expm1(base + side) + np.expm1(base - side))
        return np.where(np.abs(side) <= 1.0, near, far)


def _block_part(kind: str, points: Floats, sampling: str) -> Floats:
    """Return what orthogonal blocks add to the covariances of one projection."""
    dim = points.shape[-2]
    if sampling == "independent" or dim == 1:
        return np.zeros(1)
    return (dim - 1) * block_covariance(kind, points)


# ------------------------------------------------------------------ the output


@border
def output_variance(
    kind: str,
    query: ArrayLike,
    keys: ArrayLike,
    values: ArrayLike,
    *,
    normalised: bool = True,
    rho: float = 1.0,
    sampling: str = "independent",
    shift: ArrayLike | None = None,
) -> float | Floats:
    """Return the mean square error of attention outputs, times the number of projections.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
    query : (d_k,) or (d_k, n_queries) array_like
        Scaled query, or several.
    keys : (d_k, n) array_like
        Scaled keys.
    values : (d_v, n) array_like
        With the identity matrix the output is the row of attention weights itself.
    normalised : bool
        Divide by the sum of the features themselves; the error is then that for many projections,
        see `output_expansion` for the next order. With False divide by the exact sum; the error
        is then exact at every number of projections.
    rho : float
        Concentration of the map, > 0.
    sampling : {"independent", "orthogonal"}
    shift : (d_k,) array_like, optional
        Vector subtracted from all keys first; it changes the error, not the output.

    Returns
    -------
    float or (n_queries,) array
        Infinity where it overflows.

    Raises
    ------
    ValueError
        If a name is unknown, shapes do not fit, an entry is not finite, or rho is not positive.

    Notes
    -----
    ``sum_ij a_i a_j <v_i - h, v_j - h> C_ij`` with C of `relative_covariance` and softmax weights
    a; without ``- h`` for the exact sum. In the first case the ``-1`` in C drops out.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> case = [1, 0], [[0, -0.5], [1, -1]], [[1, 2]]
    >>> [round(output_variance(kind, *case), 4) for kind in ("positive", "trigonometric")]
    [0.5338, 0.7965]
    >>> round(output_variance("positive", *case, normalised=False), 4)
    3.5255
    """
    x, y, v = checked_parts(query, keys, values)
    rho = _checked_law(kind, rho, sampling)
    x, y, v = (array.astype(np.float64) for array in (x, y, v))
    y = y if shift is None else y - checked_shift(shift, y)
    size = max(float(np.abs(v).max()), np.finfo(float).tiny)  # squares of values may overflow
    pairs = _value_pairs(x, y, v / size, centred=normalised)
    points = _by_query(kind, x, y)
    total = _weighted(pairs, *_pair_exponents(kind, points, rho))
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = np.sum(pairs * _block_part(kind, points, sampling), axis=(-1, -2))
        total = _joined(total, blocks) * size * size
    return float(total) if x.ndim == 1 else total


def _weights(x: Floats, y: Floats) -> Floats:
    """Return softmax weights (n,), or (n_queries, n)."""
    return np.asarray(softmax(x.T @ y, axis=-1))


def _value_pairs(x: Floats, y: Floats, v: Floats, *, centred: bool) -> Floats:
    """Return ``a_i a_j <v_i, v_j>``, or that of ``v_i - h``; (n, n) or (n_queries, n, n)."""
    weighted = _weights(x, y)[..., None, :] * (_away(x, y, v) if centred else v)
    return np.swapaxes(weighted, -1, -2) @ weighted


def _away(x: Floats, y: Floats, v: Floats) -> Floats:
    """Return ``v_i - h``, (d_v, n) or (n_queries, d_v, n).

    Counted from the value of the heaviest token it keeps its digits where that has nearly all
    the weight.
    """
    weights = _weights(x, y)
    moved = v - v.T[weights.argmax(axis=-1)][..., None]
    return np.asarray(moved - moved @ weights[..., None])


def _weighted(pairs: Floats, base: Floats, side: Floats | None) -> Floats:
    """Return the sum of the second moments less 1 of all pairs, weighted; it may be infinite."""
    top = np.max(base if side is None else base + np.abs(side))
    if top < _LARGE:
        return np.asarray(np.sum(pairs * _excess(base, side), axis=(-1, -2)))
    moments = np.exp(base - top) if side is None else _shifted_cosh(base - top, side)
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(pairs * moments, axis=(-1, -2))
        return np.where(total > 0, np.exp(top) * total, 0.0)


def _shifted_cosh(base: Floats, side: Floats) -> Floats:
    return 0.5 * (np.exp(base + side) + np.exp(base - side))


@border
def output_expansion(
    kind: str, query: ArrayLike, keys: ArrayLike, values: ArrayLike
) -> OutputExpansion:
    """Return error and bias of a self-normalised attention output, to second order.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
        Plain maps, rho = 1, with independent projections.
    query : (d_k,) array_like
    keys : (d_k, n) array_like
        Takes time and memory of order n^3.
    values : (d_v, n) array_like

    Returns
    -------
    OutputExpansion

    Raises
    ------
    ValueError
        If the kind is unknown, shapes do not fit, an entry is not finite, or a moment overflows.

    Notes
    -----
    One projection has ``F = sum_i a_i (v_i - h) g_i`` and ``G = sum_i a_i g_i - 1`` with ratios g
    of `kernel_ratios`, and ``h^ - h = mean F / (1 + mean G)``. So ``first = E|F|^2``,
    ``bias = -E F G`` and ``second = 3 (E|F|^2 E G^2 + 2 |E F G|^2) - 2 E |F|^2 G``. The first order
    alone can be trusted where m is well above ``|second| / first``.

    For trigonometric features this is an expansion of the law, not of the mean: as soon as the
    sum of features can vanish, the mean square error is infinite at every m.

    References
    ----------
    New here.

    Examples
    --------
    >>> found = output_expansion("hyperbolic", [0.5, 0], [[0, 0.5], [1, -1]], [[1, 2]])
    >>> round(found.first, 3), round(found.second, 3), found.bias.round(3)
    (0.206, -5.292, array([-0.283]))
    """
    x, y, v = checked_parts(finite_array("query", query, ndim=1), keys, values)
    points = _by_query(checked_kind(kind), x.astype(np.float64), y)
    with np.errstate(over="ignore", invalid="ignore"):
        found = _expansion(kind, points, (x, y, v))
    if not np.isfinite(np.array([found.first, found.second, *found.bias])).all():
        raise ValueError(
            "keys and queries must be short enough for exp(3 |x + y|^2) to be a number, "
            "got an overflow; scale them down"
        )
    return found


def _expansion(kind: str, points: Floats, parts: tuple[Floats, Floats, Floats]) -> OutputExpansion:
    x, y, v = parts
    weights = _weights(x, y)
    pairs = _value_pairs(x, y, v, centred=True)
    moments = 1.0 + relative_covariance(kind, x, y)
    first = float(np.sum(pairs * moments))
    spread = float(weights @ moments @ weights) - 1.0  # E G^2
    cross = (weights * _away(x, y, v)) @ moments @ weights  # E F G
    third = np.einsum("ij,ijk,k->", pairs, _third_moments(kind, points), weights) - first
    second = 3.0 * (first * spread + 2.0 * float(cross @ cross)) - 2.0 * float(third)
    return OutputExpansion(first, second, -cross)


def _third_moments(kind: str, points: Floats) -> Floats:
    """Return the means of products of three ratios, (n, n, n)."""
    dots = points.T @ points
    ij, ik, jk = dots[:, :, None], dots[:, None, :], dots[None]
    if kind == "positive":
        return np.exp(ij + ik + jk)
    sign = -1.0 if kind == "trigonometric" else 1.0
    turns = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
    return np.mean([np.exp(sign * (a * ij + b * ik + c * jk)) for a, b, c in turns], axis=0)


@border
def output_error_bound(query: ArrayLike, keys: ArrayLike, values: ArrayLike, error: float) -> float:
    """Return a bound of the output's error where every kernel entry errs by at most `error`.

    Parameters
    ----------
    query : (d_k,) array_like
    keys : (d_k, n) array_like
    values : (d_v, n) array_like
    error : float
        Largest relative error e of an entry, 0 <= e < 1.

    Returns
    -------
    float
        Bound of ``|h^ - h|``, whatever the features.

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite, or the error is not in [0, 1).

    Notes
    -----
    The smaller one of ``e/(1-e) sum_i a_i |v_i - h|`` and ``e/sqrt(1-e^2) sigma``, where
    ``sigma^2`` is the largest eigenvalue of the covariance of the values under the weights a. The
    second is attained by two tokens with weights ``(1 +- e)/2``.

    References
    ----------
    New here.

    Examples
    --------
    >>> round(output_error_bound([1, 0], [[0, 0.5], [1, -2]], [[1, 2]], 0.1), 4)
    0.0487
    """
    x, y, v = checked_parts(finite_array("query", query, ndim=1), keys, values)
    e = scalar("error", error)
    if e >= 1:
        raise ValueError(f"error must be < 1, got {e}")
    weights = _weights(x, y)
    away = _away(x, y, v)
    mean = float(weights @ np.linalg.norm(away, axis=0))
    largest = float(np.linalg.norm(away * np.sqrt(weights), ord=2))
    return float(min(e / (1.0 - e) * mean, e / np.sqrt(1.0 - e**2) * largest))


# ------------------------------------------------------------------ how many


@border
def projections_needed(
    kind: str,
    x: ArrayLike,
    y: ArrayLike,
    *,
    error: float,
    failure: float | None = None,
    rho: float = 1.0,
    sampling: str = "independent",
) -> float:
    """Return the number of projections that keeps the relative error of kernel entries small.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
    x : (d_k,) array_like
        Scaled query.
    y : (d_k,) or (d_k, n) array_like
        One scaled key, or several.
    error : float
        Relative error, > 0.
    failure : float, optional
        Probability, in (0, 1], that any entry may be further off. Default: the error is the
        root mean square error of the worst entry.
    rho : float
        Concentration of the map, > 0.
    sampling : {"independent", "orthogonal"}

    Returns
    -------
    float
        Round it up, for orthogonal projections to whole blocks.

    Raises
    ------
    ValueError
        If an argument is out of its range or shapes do not fit.

    Notes
    -----
    What exceeds float64 is infinite.

    ``max_j C_jj / error^2``, and with a probability ``sum_j C_jj / (failure error^2)`` by
    Chebyshev's inequality for each key, where C is that of `relative_variance`.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> x, y = [0.5, 0.5], [0.5, 0.5]
    >>> [round(projections_needed(k, x, y, error=0.1), 3) for k in ("positive", "hyperbolic")]
    [638.906, 276.22]
    """
    e = scalar("error", error, open_=True)
    variances = np.atleast_1d(relative_variance(kind, x, y, rho=rho, sampling=sampling))
    if failure is None:
        return float(variances.max() / e / e)
    chance = scalar("failure", failure, open_=True)
    if chance > 1:
        raise ValueError(f"failure must be <= 1, got {chance}")
    return float(variances.sum() / chance / e / e)
