"""What a law of tokens says of the generalisation gap: its moments, and the infinite prompt.

For the page on generalisation. One token contributes ``Z = v phi(k)^T`` to the cross-covariance of
values and features; its mean C is the population, its moments are those of the gap. None of this
is sampled: an error in the population would be a floor under every gap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, finite_array, scalar
from iclkit.papers.dual_kernel._laws import (
    Law,
    Layer,
    checked_law,
    checked_layer,
    cube_nodes,
    cube_rule,
    dot_columns,
    largest_key_value,
    mean_values,
    require_moment,
    tilted_mean,
)

__all__ = [
    "GapMoments",
    "gap_moment",
    "gap_moments",
    "gram_of_layer",
    "population_attention",
    "population_gram",
]

Floats = NDArray[np.float64]

_QUADRATURE = np.array([1e-9, 1e-9, 1e-6])  # most that two rules may disagree, by moment


class GapMoments(NamedTuple):
    """What the law of tokens says of ``Z = v phi(k)^T``, of mean C.

    Attributes
    ----------
    second : (d_v, d_v) array
        ``E Z Z^T = E v v^T exp(|k|^2/sqrt(d_k))``.
    mean : (d_v, d_v) array
        ``C C^T``.
    fourth : float
        ``E |Z - C|^4``; infinite for long Gaussian tokens.
    """

    second: Floats
    mean: Floats
    fourth: float

    @property
    def power(self) -> float:
        """``E |v|^2 exp(|k|^2/sqrt(d_k))``."""
        return float(np.trace(self.second))

    @property
    def signal(self) -> float:
        """``|C|^2``, the squared Frobenius norm of the cross-covariance."""
        return float(np.trace(self.mean))

    @property
    def spread(self) -> float:
        """``E |Z - C|^2``: n times the mean squared gap of the unit Frobenius ball."""
        return self.power - self.signal


@border
def gap_moments(W_K: ArrayLike, W_V: ArrayLike, *, law: Law) -> GapMoments:
    """Return the moments of one token's contribution to the cross-covariance.

    Parameters
    ----------
    W_K : (d_k, d) array_like
    W_V : (d_v, d) array_like
    law : {"gaussian", "uniform"}

    Returns
    -------
    GapMoments

    Raises
    ------
    ValueError
        If shapes disagree; if the second moment of Gaussian tokens is infinite, that is if the
        largest eigenvalue of ``A = W_K^T W_K / sqrt(d_k)`` is >= 1/2; if uniform tokens have so
        many or so long coordinates that the quadrature fails.

    Notes
    -----
    Gaussian tokens, with ``B = W_V^T W_V``: ``power = det(I-2A)^(-1/2) tr B (I-2A)^-1`` and
    ``signal = det(I-A^2)^(-1/2) tr B A (I-A^2)^-1``; the fourth moment is finite below 1/4.
    Uniform tokens: one mean is closed, the other is taken by a tensor Gauss-Legendre rule, good
    to rounding for short keys.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> moments = gap_moments([[0.5]], [[1.0]], law="gaussian")
    >>> np.allclose([moments.power, moments.signal], [2**1.5, (16 / 15) ** 1.5 / 4], rtol=1e-12)
    True
    """
    layer = checked_layer(W_K, W_V)
    if checked_law(law) == "uniform":
        return _cube_moments(layer)
    require_moment(layer, 2)
    finite = 4 * largest_key_value(layer) < 1
    fourth = _gaussian_fourth(layer) if finite else np.inf
    return GapMoments(_tilted_second(layer, layer.kernel), _gaussian_gram(layer), fourth)


@border(finite=True)
def gap_moment(
    W_K: ArrayLike, W_V: ArrayLike, n_demo: int, *, law: Law, radius: float = 1.0
) -> float:
    """Return the mean squared gap of the Frobenius ball over samples of `n_demo` tokens.

    Parameters
    ----------
    W_K, W_V, law
        As in `gap_moments`.
    n_demo : int
        Demonstrations, >= 1.
    radius : float
        Radius of the ball, >= 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `gap_moments`.

    Notes
    -----
    ``w^2 (E |v|^2 K(k, k) - |C|^2) / n``: exact for every n.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> round(gap_moment([[0.5]], [[1.0]], 100, law="gaussian"), 6)
    0.02553
    """
    spread = gap_moments(W_K, W_V, law=law).spread
    radius = scalar("radius", radius)
    return radius * spread / count("n_demo", n_demo) * radius


@border
def population_gram(W_K: ArrayLike, W_V: ArrayLike, *, law: Law) -> Floats:
    """Return ``C C^T``, (d_v, d_v), of the cross-covariance of values and features.

    Parameters
    ----------
    W_K, W_V, law
        As in `gap_moments`.

    Returns
    -------
    (d_v, d_v) ndarray

    Raises
    ------
    ValueError
        If shapes disagree, or C is not finite: for Gaussian tokens the largest eigenvalue of
        ``W_K^T W_K / sqrt(d_k)`` must be below 1.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> population_gram(np.zeros((1, 2)), np.eye(2), law="uniform")  # the mean value is 0
    array([[0., 0.],
           [0., 0.]])
    """
    return gram_of_layer(checked_layer(W_K, W_V), checked_law(law))


@border
def population_attention(queries: ArrayLike, W_K: ArrayLike, W_V: ArrayLike, *, law: Law) -> Floats:
    """Return what softmax attention answers when its demonstrations are the whole population.

    Parameters
    ----------
    queries : (d_k, n) array_like
        Queries ``W_Q x'``, not scaled, one per column.
    W_K, W_V, law
        As in `gap_moments`; there is no condition on W_K.

    Returns
    -------
    (d_v, n) ndarray

    Raises
    ------
    ValueError
        If shapes disagree or the law is unknown.

    Notes
    -----
    ``E v exp(<q, k>/sqrt(d_k)) / E exp(<q, k>/sqrt(d_k))``, which is ``W_V m(b)`` with
    ``b = W_K^T q / sqrt(d_k)``: ``m(b) = b`` for Gaussian tokens, and the Langevin function
    ``coth(b) - 1/b`` of each entry for uniform ones.

    References
    ----------
    New here.

    Examples
    --------
    >>> population_attention([[2.0]], [[3.0]], [[0.5]], law="gaussian")
    array([[3.]])
    """
    layer, columns = checked_layer(W_K, W_V), finite_array("queries", queries, ndim=2)
    key = finite_array("W_K", W_K, ndim=2)
    if len(columns) != len(key):
        raise ValueError(f"queries must have {len(key)} rows like W_K, got shape {columns.shape}")
    return layer.value @ tilted_mean(checked_law(law), key.T @ columns / np.sqrt(len(key)))


def gram_of_layer(layer: Layer, law: str) -> Floats:
    """Return `population_gram` of a layer that was checked before."""
    if law == "uniform":
        return _cube_moments(layer).mean
    require_moment(layer, 1)
    return _gaussian_gram(layer)


# ------------------------------------------------------------------ Gaussian tokens


def _tilted_second(layer: Layer, tilt: Floats) -> Floats:
    """Return ``E v v^T exp(x^T S x)`` for S = `tilt` with all eigenvalues below 1/2."""
    rest = np.eye(len(tilt)) - 2 * tilt
    return layer.value @ np.linalg.solve(rest, layer.value.T) / np.sqrt(np.linalg.det(rest))


def _gaussian_gram(layer: Layer) -> Floats:
    """Return ``C C^T``, which is ``E v (A x)^T W_V^T exp(|A x|^2/2)``."""
    A = layer.kernel
    rest = np.eye(len(A)) - A @ A
    inner = np.linalg.solve(rest, A @ layer.value.T)
    return layer.value @ inner / np.sqrt(np.linalg.det(rest))


def _gaussian_fourth(layer: Layer) -> float:
    """Return ``E |Z - C|^4 = E (H - 2m + c)^2`` with ``H = |Z|^2``, ``m = <Z, C>``."""
    A, B = layer.kernel, layer.value.T @ layer.value
    mixed, c = (B @ A + A @ B) / 2, float(np.trace(_gaussian_gram(layer)))
    squares = _quartic(B, B, 2 * A) + 4 * _quartic(mixed, mixed, A @ A)
    products = 4 * _quartic(B, mixed, A + A @ A / 2)
    power = float(np.trace(_tilted_second(layer, A)))
    return squares - products + 2 * c * power - 3 * c * c


def _quartic(P: Floats, Q: Floats, tilt: Floats) -> float:
    """Return ``E (x^T P x) (x^T Q x) exp(x^T S x)`` for symmetric P, Q and S = `tilt`."""
    rest = np.eye(len(tilt)) - 2 * tilt
    p, q = np.linalg.solve(rest, P), np.linalg.solve(rest, Q)
    scale = np.sqrt(np.linalg.det(rest))
    return float((np.trace(p) * np.trace(q) + 2 * np.trace(p @ q)) / scale)


# ------------------------------------------------------------------ uniform tokens


def _cube_moments(layer: Layer) -> GapMoments:
    """Return the moments for uniform tokens, unless two rules disagree about them."""
    nodes = cube_nodes(len(layer.kernel))
    with np.errstate(over="ignore", invalid="ignore"):
        fine, coarse = _cube_integrals(layer, nodes), _cube_integrals(layer, nodes - 2)
        found, less = (np.array([m.power, m.signal, m.fourth]) for m in (fine, coarse))
        close = np.abs(found - less) <= _QUADRATURE * np.abs(found)
    if not close.all():
        raise ValueError(
            "uniform tokens must have short keys for quadrature, got a largest eigenvalue "
            f"{largest_key_value(layer):.4g} of W_K^T W_K / sqrt(d_k); scale W_K down"
        )
    return fine


def _cube_integrals(layer: Layer, nodes: int) -> GapMoments:
    x, weights = cube_rule(len(layer.kernel), nodes)
    value, size = layer.value @ x, np.exp(dot_columns(x, layer.kernel @ x))
    means = mean_values(layer, "uniform", x)
    mean = (value * weights) @ means.T
    spreads = dot_columns(value, value) * size - 2 * dot_columns(value, means) + np.trace(mean)
    second = (value * (weights * size)) @ value.T
    return GapMoments(second, (mean + mean.T) / 2, float(weights @ spreads**2))
