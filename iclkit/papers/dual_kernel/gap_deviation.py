"""High-probability bounds of the generalisation gap, with constants, and how fast it falls.

For the page on generalisation. The textbook's bound, by bounded differences, stands beside two
that use variances; all are meant to be compared with the exact gap.
"""

from __future__ import annotations

from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, finite_array, scalar
from iclkit.papers.dual_kernel._laws import (
    Law,
    Layer,
    checked_law,
    checked_layer,
    dot_columns,
    finite_kernel,
    largest_key_value,
)
from iclkit.papers.dual_kernel.gap_limit import covariance_spectrum
from iclkit.papers.dual_kernel.gap_population import GapMoments, gap_moments

__all__ = [
    "CubeRadii",
    "GapBounds",
    "cube_radii",
    "gap_bounds",
    "gap_exponent",
    "probability",
]

Floats = NDArray[np.float64]

_MOST_CORNERS: Final = 16  # 2^16 of them


class GapBounds(NamedTuple):
    """What can be said of the gap of n demonstrations before they are seen.

    Attributes
    ----------
    mean_low, mean_high : float
        Bounds of the mean gap; the upper one is its root mean square.
    mcdiarmid : float
        Exceeded with probability at most delta: bounded differences. Infinite for Gaussian tokens.
    bousquet : float
        Likewise, with the largest variance in the place of the range.
    cantelli : float
        Likewise, from the exact mean and variance of the squared gap; for long Gaussian tokens
        infinite, and then `mean_low` is 0.
    """

    mean_low: float
    mean_high: float
    mcdiarmid: float
    bousquet: float
    cantelli: float


class CubeRadii(NamedTuple):
    """The largest sizes that uniform tokens can have.

    Attributes
    ----------
    value : float
        Largest ``|v|``, rho_v.
    feature : float
        Largest ``|phi(k)| = exp(|k|^2/(2 sqrt(d_k)))``, rho_phi.
    """

    value: float
    feature: float


@border
def gap_bounds(
    W_K: ArrayLike,
    W_V: ArrayLike,
    n_demo: int,
    *,
    law: Law,
    radius: float = 1.0,
    delta: float = 0.05,
) -> GapBounds:
    """Return bounds of the mean gap, and bounds that hold with probability ``1 - delta``.

    Parameters
    ----------
    W_K : (d_k, d) array_like
    W_V : (d_v, d) array_like
    n_demo : int
        Demonstrations, >= 1.
    law : {"gaussian", "uniform"}
    radius : float
        Radius w of the Frobenius ball, >= 0.
    delta : float
        Probability of an exception, in (0, 1).

    Returns
    -------
    GapBounds

    Raises
    ------
    ValueError
        If an argument is out of its range, or as `gap_law`.

    Notes
    -----
    With ``Z = v phi(k)^T`` of mean C, spread ``s = E|Z - C|^2``, largest variance l of a unit
    direction, ``b = rho_v rho_phi + |C|`` and ``t = log(1/delta)``:
    ``rms = sqrt(s/n)``, ``mcdiarmid = rms + 2 rho_v rho_phi sqrt(t/(2n))``,
    ``bousquet = rms + sqrt(2 t (l + 2 b rms)/n) + b t/(3n)`` and
    ``cantelli^2 = rms^2 + sd sqrt(1/delta - 1)``, where sd is the exact standard deviation of the
    squared gap; all times w.

    References
    ----------
    McDiarmid (1989), Bousquet (2002), Cantelli's inequality; their use here is ours.

    Examples
    --------
    >>> bounds = gap_bounds([[0.5]], [[1.0]], 100, law="uniform")
    >>> np.round(bounds, 4)
    array([0.0362, 0.06  , 0.3374, 0.2449, 0.1561])
    """
    n, level, radius = count("n_demo", n_demo), probability(delta), scalar("radius", radius)
    layer, moments = checked_layer(W_K, W_V), gap_moments(W_K, W_V, law=law)
    values = covariance_spectrum(W_K, W_V, law=law)
    rms, deviation = np.sqrt(moments.spread / n), np.sqrt(_variance(moments, values, n)) / n
    low = rms / np.sqrt(1 + (deviation / rms**2) ** 2) if rms > 0 else 0.0
    range_, weak = np.inf, np.inf
    if checked_law(law) == "uniform":
        size, t = float(np.prod(_radii(layer))), np.log(1 / level)
        range_ = rms + 2 * size * np.sqrt(t / (2 * n))
        weak = _bousquet(rms, float(values[0]), size + np.sqrt(moments.signal), t / n)
    cantelli = np.sqrt(rms**2 + deviation * np.sqrt(1 / level - 1))
    bounds = np.array([low, rms, range_, weak, cantelli])
    return GapBounds(*(radius * bounds if radius > 0 else np.zeros(5)).tolist())


def _variance(moments: GapMoments, values: Floats, n: int) -> float:
    """Return ``n^2`` times the variance of the squared gap."""
    square = float(values @ values)
    return 2 * (1 - 1 / n) * square + (moments.fourth - moments.spread**2) / n


def _bousquet(mean: float, variance: float, size: float, t: float) -> float:
    return float(mean + np.sqrt(2 * t * (variance + 2 * size * mean)) + size * t / 3)


@border
def cube_radii(W_K: ArrayLike, W_V: ArrayLike) -> CubeRadii:
    """Return the largest norms of values and features over the cube ``[-1, 1]^d``.

    Parameters
    ----------
    W_K : (d_k, d) array_like
    W_V : (d_v, d) array_like

    Returns
    -------
    CubeRadii

    Raises
    ------
    ValueError
        If shapes disagree or there are more than 16 coordinates.

    Notes
    -----
    Both norms are convex, so each is largest at a corner; all corners are visited.

    Examples
    --------
    >>> cube_radii([[0.0, 0.0]], [[1.0, -2.0]])
    CubeRadii(value=3.0, feature=1.0)
    """
    return _radii(checked_layer(W_K, W_V))


def _radii(layer: Layer) -> CubeRadii:
    dim = len(layer.kernel)
    if dim > _MOST_CORNERS:
        raise ValueError(f"W_K must have at most {_MOST_CORNERS} columns, got {dim}")
    corners = np.array(list(product((-1.0, 1.0), repeat=dim))).T
    value, key = layer.value @ corners, dot_columns(corners, layer.kernel @ corners)
    size = np.sqrt(dot_columns(value, value).max())
    return CubeRadii(float(size), float(finite_kernel(key.max() / 2, 1.0)))


def probability(delta: float) -> float:
    """Return `delta` if it lies in (0, 1)."""
    if not 0 < scalar("delta", delta) < 1:
        raise ValueError(f"delta must be > 0 and < 1, got {delta}")
    return float(delta)


# ------------------------------------------------------------------ how fast


@border
def gap_exponent(W_K: ArrayLike, *, law: Law) -> float:
    """Return e such that the mean gap falls as ``n^-e``, up to logarithms, for any values but 0.

    Parameters
    ----------
    W_K : (d_k, d) array_like
    law : {"gaussian", "uniform"}

    Returns
    -------
    float
        1/2 for uniform tokens; ``min(1/2, 1 - a)`` for Gaussian ones, where a is the largest
        eigenvalue of ``W_K^T W_K / sqrt(d_k)``.

    Raises
    ------
    ValueError
        If ``a >= 1``: then the gap is infinite.

    References
    ----------
    New here; proved on the page on generalisation.

    Examples
    --------
    >>> [gap_exponent([[scale]], law="gaussian") for scale in (0.5, 0.875)]
    [0.5, 0.234375]
    """
    key = finite_array("W_K", W_K, ndim=2)
    if checked_law(law) == "uniform":
        return 0.5
    largest = largest_key_value(checked_layer(key, np.zeros((1, key.shape[1]))))
    if largest >= 1:
        raise ValueError(
            "the largest eigenvalue of W_K^T W_K / sqrt(d_k) must be < 1 for a finite gap of "
            f"Gaussian tokens, got {largest:.6g}; scale W_K down"
        )
    return min(0.5, 1 - largest)
