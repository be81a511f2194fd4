"""What orthogonal projections change in the error of random features, exactly.

For `errors`. Two projections of one orthogonal block are not independent, so products of what they
estimate have a mean other than the product of the means. That mean has a closed form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, hyp2f1

from iclkit._checks import border, count, finite_array
from iclkit.papers.dual_kernel.maps import checked_kind

__all__ = ["block_covariance", "block_variance"]

Floats = NDArray[np.float64]

_NODES = 24  # of half the contour
_DEPTH = 40.0  # the contour ends where the integrand has fallen by exp(-40)


@border
def block_variance(kind: str, squared_norm: ArrayLike, dim: int) -> Floats:
    """Return the relative covariance of two projections of one orthogonal block, for one key.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
    squared_norm : array_like
        ``s = |x + y|^2``, or ``|x - y|^2`` for trigonometric features; >= 0, any shape.
    dim : int
        Length d of keys, >= 2.

    Returns
    -------
    array
        R, of the shape of `squared_norm`. With B whole blocks of d projections the relative mean
        square error is ``(C + (d - 1) R) / (B d)``, where C is that of one projection.

    Raises
    ------
    ValueError
        If the kind is unknown, a squared norm is negative, or dim is below 2.

    Notes
    -----
    What exceeds float64 is infinite.

    ``R = exp(-s/2) M(-d/2; d/2; -s/2) - 1`` for positive and hyperbolic features and
    ``R = exp(s/2) M(-d/2; d/2; s/2) - 1`` for trigonometric ones, with Kummer's function M. The
    first is negative for all s > 0: orthogonal blocks always help. The second is not. Computed as
    in `block_covariance`, which does not overflow where M does.

    References
    ----------
    Derived here; the series behind the first one is that of Reid et al. 2023 (recalled).

    Examples
    --------
    >>> block_variance("positive", [2.0, 12.0], 4).round(3)
    array([-0.203, -0.968])
    >>> block_variance("trigonometric", [2.0, 12.0], 4).round(3)
    array([ -0.547, 402.429])
    """
    checked_kind(kind)
    dim = count("dim", dim, low=2)
    s = finite_array("squared_norm", squared_norm, ndim=None)
    if np.any(s < 0):
        raise ValueError(f"squared_norm must be >= 0, got {s.min()}")
    half = -0.5 * s if kind == "trigonometric" else 0.5 * s
    return _less_one(kind, 2.0 * half, _rotation_mean(half, half, np.zeros_like(half), dim))


@border
def block_covariance(kind: str, points: ArrayLike) -> Floats:
    """Return the relative covariance of two projections of one block, for all pairs of keys.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
    points : (..., d, n) array_like
        Columns ``x + y_i``, or ``x - y_i`` for trigonometric features; d >= 2.

    Returns
    -------
    (..., n, n) array
        ``E[g_i(omega) g_j(omega')] - 1`` for two rows omega, omega' of one block, where g_i is what
        one row estimates of entry i over its exact value. On the diagonal: `block_variance`.

    Raises
    ------
    ValueError
        If the kind is unknown or d is below 2.

    Notes
    -----
    What exceeds float64 is infinite.

    With ``a = |z_i|^2/2``, ``b = |z_j|^2/2``, ``c = <z_i, z_j>`` (a and b negative for
    trigonometric features), ``h = d/2`` and ``w = (ab - c^2/4) / ((t - a)(t - b))``, the mean of
    ``exp(<omega, z_i> + <omega', z_j>)`` is the contour integral about all singularities of ::

        Gamma(h) / (2 pi i)  exp(t) t^h ((t - a)(t - b))^(-h) 2F1(h, h; h - 1/2; w) dt .

    It is summed by the trapezoidal rule on a parabola, on which 24 nodes leave rounding.

    References
    ----------
    New here: from Muirhead's expansion of the hypergeometric function of a 2 x 2 matrix, averaged
    over the independent lengths of the rows.

    Examples
    --------
    >>> block_covariance("positive", [[1.0, 0.0], [0.0, 1.0]]).round(4)
    array([[-0.0902,  0.0914],
           [ 0.0914, -0.0902]])
    """
    sign = -1.0 if checked_kind(kind) == "trigonometric" else 1.0
    z = finite_array("points", points, ndim=None)
    if z.ndim < 2 or z.shape[-2] < 2:
        raise ValueError(f"points must have columns of length >= 2, got shape {z.shape}")
    products = np.swapaxes(z, -1, -2) @ z
    squares = np.einsum("...ii->...i", products)
    a, b = 0.5 * squares[..., :, None], 0.5 * squares[..., None, :]
    excess = np.maximum(a * b - 0.25 * products**2, 0.0)
    mean = _rotation_mean(sign * a, sign * b, excess, z.shape[-2])
    return _less_one(kind, -(a + b), mean)


def _less_one(kind: str, total: Floats, mean: Floats) -> Floats:
    """Return means of products of ratios, less 1; the contour leaves out ``exp(-total)``."""
    if kind != "trigonometric":
        return mean - 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(mean == 0, -1.0, np.exp(-total) * mean - 1.0)


def _rotation_mean(a: Floats, b: Floats, excess: Floats, dim: int) -> Floats:
    """Return the contour integral of `block_covariance` times ``exp(-(a + b))``, if positive.

    The parabola starts to the right of all singularities, which lie on the real axis.
    """
    a, b, excess = a[..., None], b[..., None], excess[..., None]
    half = 0.5 * dim
    apex = max(2.0 * np.pi, half)  # at the saddle point of exp(t) t^(-h), if that is far
    step = np.sqrt(_DEPTH / (apex + half)) / _NODES
    slope = 1.0 + 1j * step * (np.arange(_NODES) + 0.5)
    move = apex * slope**2
    t = np.maximum(a + b, 0.0) + move
    w = excess / ((t - a) * (t - b))
    logs = move + gammaln(half) + half * (np.log(t) - np.log(t - a) - np.log(t - b))
    # Euler's form of 2F1(h, h; h - 1/2; w), whose series is short
    logs = logs - (half + 0.5) * np.log1p(-w)
    values = np.exp(logs) * hyp2f1(-0.5, -0.5, half - 0.5, w) * slope
    mean: Floats = values.real.sum(axis=-1) * (2.0 * apex * step / np.pi)
    return mean
