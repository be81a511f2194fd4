"""The best risk of linear attention for given value weights: closed form, linear in dim.

For `attention`, which minimises it. All in whitened coordinates (see `whiten`), where the weights
are ``b = u + u0 w``, ``A = U + w v^T`` with the mean w; a batch of pairs (b, u0) at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Best", "Spectrum", "block_excess", "gap_and_slope", "inner_optimum"]

Floats = NDArray[np.float64]


class Spectrum(NamedTuple):
    """A whitened prior, one entry for each direction that b may use.

    Attributes
    ----------
    values : (k,) array
        Task variances phi_i.
    mean : (k,) array
        Coordinates w_i of the mean task.
    extra : (k,) array
        Further directions of the same variance, in which b and the mean task vanish.
    noise_var : float
    n_context : int
    """

    values: Floats
    mean: Floats
    extra: Floats
    noise_var: float
    n_context: int

    @property
    def square(self) -> float:
        """The sum of squared variances, ``tau2``."""
        return float((1.0 + self.extra) @ self.values**2)

    @property
    def level(self) -> float:
        """The effective noise ``kappa``."""
        return float((1.0 + self.extra) @ self.values) + self.noise_var

    @property
    def curvature(self) -> Floats:
        """The eigenvalues ``omega_i``, (k,)."""
        return ((self.n_context + 1) * self.values + self.level) / self.n_context


class Best(NamedTuple):
    """The best key and query weights for each pair (b, u0).

    Attributes
    ----------
    v : (batch, k) array
    diagonal, left, right, bent : (batch, k) array
        ``A = diag(diagonal) + left right^T - bent v^T``; in the further directions of a spectrum
        A is diagonal with the same entries.
    """

    v: Floats
    diagonal: Floats
    left: Floats
    right: Floats
    bent: Floats


def block_excess(values: Floats, level: float, n_context: int) -> float:
    """Return the excess risk of the best block, ``sum phi (phi + kappa)/((M+1) phi + kappa)``."""
    return float(np.sum(_over(values * (values + level), (n_context + 1) * values + level)))


def inner_optimum(law: Spectrum, b: Floats, u0: Floats) -> Best:
    """Return the best A and v for given (b, u0), by the formula of Sherman and Morrison.

    Parameters
    ----------
    law : Spectrum
    b : (batch, k) array
    u0 : (batch, 1) array

    Returns
    -------
    Best

    Notes
    -----
    With ``D_i = (1+1/M) u0^2 phi_i + (|b|^2 + u0^2 kappa)/M``, ``K = diag(D) + (1+1/M) b b^T``,
    ``n_i = u0 ((1+1/M) kappa + (1+3/M) phi_i) b_i`` and ``R = u0 Phi + b w^T``, the risk is
    quadratic in (A, v) with the minimum ``v = p/rho``, ``A = K^-1 (R - n v^T)``, where
    ``p = u0 kappa w + Phi b - R^T K^-1 n`` and rho is what `_pivot` returns.
    """
    phi, w, M, more = law.values, law.mean, law.n_context, 1.0 + 1.0 / law.n_context
    D = more * u0**2 * phi + (_dot(b, b) + u0**2 * law.level) / M
    n = u0 * (more * law.level + (1.0 + 3.0 / M) * phi) * b
    scaled = _over(b, D)
    left = scaled / (1.0 + more * _dot(b, scaled))  # K^-1 b
    bent = _over(n, D) - more * left * _dot(scaled, n)  # K^-1 n
    p = u0 * law.level * w + phi * (b - u0 * bent) - w * _dot(b, bent)
    v = _over(p, _pivot(law, b, u0) - _dot(n, bent))
    return Best(v, u0 * _over(phi, D), left, w - more * u0 * phi * scaled, bent)


def _pivot(law: Spectrum, b: Floats, u0: Floats) -> Floats:
    """Return the coefficient of ``|v|^2`` in the risk, before A is eliminated."""
    M, kappa, quartic = law.n_context, law.level, 2.0 * u0**2 * law.square
    square = u0**2 * kappa**2 + _dot(b * law.values, b) + quartic
    return (1.0 + 1.0 / M) * square + (kappa * (_dot(b, b) + u0**2 * kappa) + quartic) / M


class _Parts(NamedTuple):
    """Products that the gap and its slope share, (batch, k) and (batch, 1)."""

    Av: Floats
    q: Floats  # A^T b
    missed: Floats  # mean task less what is answered on average
    vv: Floats
    power: Floats  # |A|^2
    cross: Floats  # b^T Phi A v


def gap_and_slope(law: Spectrum, b: Floats, u0: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the least gap to the best block for given (b, u0), and its derivatives.

    Parameters
    ----------
    law : Spectrum
    b : (batch, k) array
    u0 : (batch, 1) array

    Returns
    -------
    gap : (batch,) array
    slope_b : (batch, k) array
    slope_u0 : (batch, 1) array

    Notes
    -----
    With ``T = v b^T + u0 A^T``, ``q = A^T b``, ``z = u0 v``, the gap is
    ``tr (T - Phi/Omega) Omega (T - Phi/Omega)^T + |w - q - kappa z|^2 + (2 + 4/M) tau2 |z|^2 +
    (|q|^2 + 2 kappa^2 |z|^2 + |b|^2 |A|^2 + 4 b^T Phi A z)/M``: no risks cancel. At the best
    (A, v) its derivatives by b and u0 alone are those of the minimum.
    """
    best = inner_optimum(law, b, u0)
    parts = _parts(law, best, b, u0)
    gap = _square_gap(law, best, b, u0) + _mean_gap(law, parts, b, u0)
    return gap[:, 0], _slope_b(law, best, parts, b, u0), _slope_u0(law, best, parts, u0)


def _parts(law: Spectrum, best: Best, b: Floats, u0: Floats) -> _Parts:
    vv, Av = _dot(best.v, best.v), _apply(best, best.v)
    q = best.diagonal * b + best.right * _dot(best.left, b) - best.v * _dot(best.bent, b)
    power = _weighted_square(best, np.ones_like(law.values), law.extra)
    missed = law.mean - q - law.level * u0 * best.v
    return _Parts(Av, q, missed, vv, power, _dot(b * law.values, Av))


def _square_gap(law: Spectrum, best: Best, b: Floats, u0: Floats) -> Floats:
    """Return ``tr (T - Phi/Omega) Omega (T - Phi/Omega)^T``, by the parts of T."""
    phi, omega, spread = law.values, law.curvature, _dot(b, b) / law.n_context
    flat = -_over(phi * spread, omega * (u0**2 * omega + spread))  # u0 diagonal - phi/omega
    turned = Best(best.v, flat, u0 * best.left, best.right, u0 * best.bent - b)
    return _weighted_square(turned, omega, law.extra)


def _mean_gap(law: Spectrum, parts: _Parts, b: Floats, u0: Floats) -> Floats:
    M, zz, quartic = law.n_context, u0**2 * parts.vv, law.square * u0**2 * parts.vv
    noise = _dot(parts.q, parts.q) + 2.0 * law.level**2 * zz + _dot(b, b) * parts.power
    ripple = noise + 4.0 * u0 * parts.cross + 4.0 * quartic
    return _dot(parts.missed, parts.missed) + 2.0 * quartic + ripple / M


def _slope_b(law: Spectrum, best: Best, parts: _Parts, b: Floats, u0: Floats) -> Floats:
    phi, M = law.values, law.n_context
    m = law.mean - parts.missed
    bias = phi * (u0 * parts.Av + parts.vv * b - best.v) - _apply(best, parts.missed)
    noise = (parts.power + law.level * parts.vv) * b + phi * (3.0 * u0 * parts.Av + parts.vv * b)
    return 2.0 * (bias + (noise + _apply(best, m)) / M)


def _slope_u0(law: Spectrum, best: Best, parts: _Parts, u0: Floats) -> Floats:
    phi, M, kappa, quartic = law.values, law.n_context, law.level, 2.0 * law.square * parts.vv
    lost = u0 * _weighted_square(best, phi, law.extra) + parts.cross
    known = best.diagonal @ (phi * (1.0 + law.extra))[:, None]
    known += _dot(phi * best.left, best.right) - _dot(phi * best.bent, best.v)
    answered = kappa * _dot(best.v, law.mean - parts.missed)
    bias = lost + u0 * quartic - known - kappa * _dot(best.v, parts.missed)
    power = u0 * kappa * (parts.power + kappa * parts.vv)
    noise = answered + lost + power + 2.0 * parts.cross + 2.0 * u0 * quartic
    return 2.0 * (bias + noise / M)


def _apply(best: Best, x: Floats) -> Floats:
    """Return ``A x``."""
    return best.diagonal * x + best.left * _dot(best.right, x) - best.bent * _dot(best.v, x)


def _weighted_square(best: Best, weight: Floats, extra: Floats) -> Floats:
    """Return ``sum_ij weight_i A_ij^2``, further directions included."""
    left, bent = weight * best.left, weight * best.bent
    flat, right, v = best.diagonal, best.right, best.v
    total = flat**2 @ (weight * (1.0 + extra))[:, None]
    total += _dot(left, best.left) * _dot(right, right) + _dot(bent, best.bent) * _dot(v, v)
    cross = _dot(flat * left, right) - _dot(flat * bent, v) - _dot(left, best.bent) * _dot(right, v)
    return total + 2.0 * cross


def _dot(left: Floats, right: Floats) -> Floats:
    return np.vecdot(left, right)[:, None]


def _over(top: Floats, bottom: Floats) -> Floats:
    """Return the ratio, 0 where the denominator is 0: what is divided vanishes there as well."""
    top, bottom = np.broadcast_arrays(top, bottom)
    return np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)
