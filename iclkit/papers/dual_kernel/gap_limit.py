"""The law of the generalisation gap for long prompts, from the spectrum of one operator.

For the page on generalisation, past the paper. The gap is the norm of a mean of independent terms
``Z - C``, so with sqrt(n) before it its law tends to that of the norm of a Gaussian element:
a weighted sum of squared normals whose weights are eigenvalues of the covariance operator of Z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import chi2

from iclkit._checks import border, finite_array, keep, locked, scalar
from iclkit.papers.dual_kernel._laws import (
    Law,
    Layer,
    Rule,
    checked_law,
    checked_layer,
    cube_nodes,
    cube_rule,
    dot_columns,
    gaussian_rule,
    require_moment,
)
from iclkit.papers.dual_kernel.gap_population import gap_moments

__all__ = ["GapLaw", "covariance_spectrum", "gap_law"]

Floats = NDArray[np.float64]

_RANK_CUT = 1e-11  # share of the trace that the factor of the kernel may miss
_MAX_RANK = 1500
_TRACE = 1e-7  # relative error of the spectrum's sum that counts as a failed quadrature
_CUBE_NODES = 12_000
_CONTOUR = 14  # nodes on half of it: more would add rounding, fewer truncation


@border
def covariance_spectrum(W_K: ArrayLike, W_V: ArrayLike, *, law: Law) -> Floats:
    """Return the eigenvalues of the covariance of one token's ``v phi(k)^T``, largest first.

    Parameters
    ----------
    W_K : (d_k, d) array_like
    W_V : (d_v, d) array_like
    law : {"gaussian", "uniform"}

    Returns
    -------
    (m,) ndarray
        Positive; what is left out adds up to about 1e-11 of the sum, which is `GapMoments.spread`.

    Raises
    ------
    ValueError
        If shapes disagree, Gaussian tokens have no second moment, or the tokens have too many or
        too long coordinates for quadrature.

    Notes
    -----
    They are the eigenvalues of the kernel ``<v, v'> exp(<k, k'>/sqrt(d_k))``, centred, under the
    law of a token. A quadrature rule turns the operator into a matrix, and a pivoted Cholesky
    factorisation keeps its numerical rank only.

    References
    ----------
    New here.

    Examples
    --------
    >>> values = covariance_spectrum([[0.5]], [[1.0]], law="gaussian")
    >>> moments = gap_moments([[0.5]], [[1.0]], law="gaussian")
    >>> bool(abs(values.sum() / moments.spread - 1) < 1e-10)
    True
    """
    layer = checked_layer(W_K, W_V)
    spread = gap_moments(W_K, W_V, law=law).spread
    values = _spectrum(layer, _rule_of(layer, checked_law(law)))
    if abs(values.sum() - spread) > _TRACE * spread:
        raise ValueError(
            "tokens must be short and have few coordinates for quadrature, got a spectrum whose "
            f"sum is {values.sum():.6g} instead of {spread:.6g}; scale W_K down"
        )
    return values


@border
def gap_law(W_K: ArrayLike, W_V: ArrayLike, *, law: Law, radius: float = 1.0) -> GapLaw:
    """Return the limit law of ``sqrt(n)`` times the gap of the Frobenius ball.

    Parameters
    ----------
    W_K, W_V, law
        As in `covariance_spectrum`.
    radius : float
        Radius of the ball, >= 0.

    Returns
    -------
    GapLaw

    Raises
    ------
    ValueError
        As `covariance_spectrum`.

    References
    ----------
    New here: the central limit theorem in Hilbert space, which needs a second moment only.

    Examples
    --------
    >>> limit = gap_law([[0.5]], [[1.0]], law="uniform")
    >>> limit.quantile(0.95).round(4), round(limit.mean, 4)
    (np.float64(1.1485), 0.4997)
    """
    radius = scalar("radius", radius)
    with np.errstate(over="ignore"):
        values = radius * (radius * covariance_spectrum(W_K, W_V, law=law))
    return GapLaw(values)


@dataclass(frozen=True, eq=False)
class GapLaw:
    """The law of ``sqrt(sum_i values_i z_i^2)`` for independent standard normal z.

    Parameters
    ----------
    values : (m,) array_like
        Weights, >= 0, at least one.

    Raises
    ------
    ValueError
        If a weight is negative or none is given.

    Notes
    -----
    The Laplace transform of the squared variable is ``prod (1 + 2 s values_i)^(-1/2)``. Its
    singularities lie on the negative real axis, so Talbot's contour inverts it, with errors of
    about 1e-13.

    References
    ----------
    Standard; the contour is that of Weideman (2006).

    Examples
    --------
    >>> law = GapLaw([1.0, 1.0])  # Rayleigh
    >>> bool(abs(law.cdf(2.0) - (1 - np.exp(-2))) < 1e-12), round(law.mean, 6)
    (True, 1.253314)
    """

    values: Floats

    def __post_init__(self) -> None:
        values = finite_array("values", self.values, ndim=1)
        if values.min() < 0:
            raise ValueError(f"values must be >= 0, got {values.min():.6g}")
        keep(self, values=locked(values))

    @property
    def mean_square(self) -> float:
        """Mean of the square."""
        return float(self.values.sum())

    @property
    def variance_of_square(self) -> float:
        """Variance of the square."""
        return 2.0 * float(self.values @ self.values)

    @property
    def mean(self) -> float:
        """Mean, ``(1/(2 sqrt(pi))) int_0^inf (1 - E exp(-t X^2)) t^(-3/2) dt``."""
        total = self.mean_square
        if total == 0:
            return 0.0
        log_t = np.arange(-60.0, 60.0, 0.25)
        laplace = -np.expm1(
            -0.5 * np.log1p(2 * np.outer(np.exp(log_t), self.values / total)).sum(1)
        )
        return float(np.sqrt(total / np.pi) / 8 * np.sum(laplace * np.exp(-log_t / 2)))

    @border
    def cdf(self, x: ArrayLike) -> Floats:
        """Return the probability of at most x, finite numbers, of the same shape as x."""
        x = finite_array("x", x, ndim=None)
        total = self.mean_square
        if total == 0:
            return np.where(x >= 0, 1.0, 0.0)
        square = np.square(np.clip(x, 0.0, 1e9 * np.sqrt(total))).ravel() / total
        inside = _invert(self.values / total, np.where(square > 0, square, 1.0))
        return np.where(square > 0, np.clip(inside, 0.0, 1.0), 0.0).reshape(x.shape)

    @border
    def quantile(self, level: ArrayLike) -> Floats:
        """Return the values that are exceeded with probability ``1 - level``.

        Parameters
        ----------
        level : array_like
            In (0, 1).

        Raises
        ------
        ValueError
            If a level is not in (0, 1).
        """
        levels = finite_array("level", level, ndim=None)
        if not np.all((levels > 0) & (levels < 1)):
            raise ValueError(f"level must be > 0 and < 1, got {levels}")
        return np.array([self._quantile(p) for p in levels.ravel()]).reshape(levels.shape)

    def _quantile(self, p: float) -> float:
        total, largest = self.mean_square, float(self.values.max())
        if total == 0:
            return 0.0
        low, high = np.sqrt(largest * chi2.ppf(p, 1)), np.sqrt(total / (1 - p))

        def shortfall(x: float) -> float:
            return float(self.cdf(x)) - p

        return float(
            low if shortfall(low) >= 0 else brentq(shortfall, low, high, xtol=1e-13 * high)
        )


def _invert(values: Floats, x: Floats) -> Floats:
    """Return ``P(sum values_i z_i^2 <= x)`` for x > 0 by Talbot's contour."""
    theta = np.pi * (2 * np.arange(_CONTOUR) + 1) / (2 * _CONTOUR)  # upper half of it
    angle = 0.6407 * theta
    s = 2 * _CONTOUR * (-0.6122 + 0.5017 * theta / np.tan(angle) + 0.2645j * theta)
    step = 0.5017 / np.tan(angle) - 0.5017 * theta * 0.6407 / np.sin(angle) ** 2 + 0.2645j
    log_laplace = -0.5 * np.log(1 + 2 * s[:, None, None] / x[:, None] * values).sum(axis=-1)
    terms = np.exp(s[:, None] + log_laplace) * (2 * _CONTOUR * step / s)[:, None]
    return np.imag(terms).sum(axis=0) / _CONTOUR


# ------------------------------------------------------------------ the spectrum


def _rule_of(layer: Layer, law: str) -> Rule:
    if law == "gaussian":
        require_moment(layer, 2)
        return gaussian_rule(layer)
    dim = len(layer.kernel)
    return cube_rule(dim, min(cube_nodes(dim), int(_CUBE_NODES ** (1 / dim))))


def _spectrum(layer: Layer, rule: Rule) -> Floats:
    """Return the positive eigenvalues of the centred kernel under a rule, largest first."""
    root = np.sqrt(rule.weights)
    factor = _factor(layer, rule.nodes, root)
    factor -= root[:, None] * (root @ factor)  # centring the kernel projects constants out
    values = np.asarray(np.linalg.eigvalsh(factor.T @ factor), dtype=np.float64)[::-1]
    return values[values > 0] if values[0] > 0 else np.zeros(1)


def _factor(layer: Layer, nodes: Floats, root: Floats) -> Floats:
    """Return F with ``F F^T`` the kernel between nodes, weighted, up to a small share of its trace.

    The largest remaining diagonal entry is the next pivot.
    """
    value, key = layer.value @ nodes, layer.kernel @ nodes
    left = dot_columns(value, value) * np.exp(dot_columns(nodes, key)) * root**2
    stop, columns = _RANK_CUT * left.sum(), np.empty((min(_MAX_RANK, len(root)), len(root)))
    for rank in range(len(columns)):
        if left.sum() <= stop:
            return columns[:rank].T.copy() if rank else np.zeros((len(root), 1))
        at = int(np.argmax(left))
        row = (value[:, at] @ value) * np.exp(nodes[:, at] @ key) * root * root[at]
        row -= columns[:rank, at] @ columns[:rank]
        columns[rank] = row / np.sqrt(left[at])
        left = np.maximum(left - columns[rank] ** 2, 0.0)
    return columns.T.copy()
