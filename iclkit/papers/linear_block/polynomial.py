"""The risk of linear attention and of the block, a polynomial, with its gradient.

For `network` and `gd`: arguments arrive checked, in the reduced numbers of `Reduced`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import scalar
from iclkit.papers.linear_block.arrays import sized_matrix, sized_vector
from iclkit.papers.linear_block.prior import RegressionPrior

__all__ = ["Law", "Reduced", "checked_reduced", "exact_gradient", "exact_risk", "in_units"]

Floats = NDArray[np.float64]
Units = tuple[float, float]


class Reduced(NamedTuple):
    """The entries of a network that its answer depends on.

    Attributes
    ----------
    u : (dim,) array
        Value weights of the inputs.
    u0 : float
        Value weight of the label.
    U : (dim, dim) array
        Product of key and query weights, inputs by inputs.
    v : (dim,) array
        The same, label by inputs.
    gamma : (dim,) array, optional
        What the multilayer perceptron reads off the query. None, the default, stands for 0:
        attention alone.

    Notes
    -----
    The answer is ``<gamma + B^T G a, x_query>`` with ``a = (u, u0)``, ``B = [U; v^T]`` and G the
    mean of ``(x_i, y_i) (x_i, y_i)^T`` over the context, so ``(c a, B/c)`` answers like (a, B).
    """

    u: Floats
    u0: float
    U: Floats
    v: Floats
    gamma: Floats = None  # type: ignore[assignment]  # every function fills in the zeros


class Law(NamedTuple):
    """A prior's moments in units in which inputs and labels are of order one."""

    H: Floats
    Psi: Floats
    mean: Floats
    kappa: float
    tau2: float
    share: float  # 1/M


class _Terms(NamedTuple):
    """What the risk and its gradient share; the Notes of `reduced_risk` name most of them."""

    b: Floats
    T: Floats
    F: Floats  # H A^T
    K: Floats
    L: Floats  # K - I
    m: Floats
    e: Floats
    Hb: Floats
    Hv: Floats
    psi_b: Floats  # Psi H b
    turned: Floats  # T^T H v
    size: float  # |b|_H^2 + u0^2 kappa
    spread: float  # tr T A H + kappa eta
    eta: float


def checked_reduced(reduced: Sequence[Any], dim: int) -> Reduced:
    """Return reduced numbers as float64 arrays of dimension `dim`, with gamma = 0 for None."""
    u, u0, U, v, gamma = reduced
    gamma = np.zeros(dim) if gamma is None else gamma
    return Reduced(
        sized_vector("u", u, dim),
        scalar("u0", u0, low=-np.inf),
        sized_matrix("U", U, dim),
        sized_vector("v", v, dim),
        sized_vector("gamma", gamma, dim),
    )


def exact_risk(prior: RegressionPrior, reduced: Reduced, n_context: float | None = None) -> float:
    """Return the exact risk for arguments that are checked, at any context; infinity allowed."""
    law, (p, q) = in_units(prior, n_context)
    there = _scaled(reduced, _factors(reduced, p, q))
    return prior.noise_var + q * (q * _excess(law, there, _terms(law, there)))


def exact_gradient(prior: RegressionPrior, reduced: Reduced) -> tuple[float, Reduced]:
    """Return the exact risk and its gradient for arguments that are checked."""
    law, (p, q) = in_units(prior)
    factors = _factors(reduced, p, q)
    there = _scaled(reduced, factors)
    terms = _terms(law, there)
    slopes = _scaled(_slopes(law, there, terms), [q * (q * factor) for factor in factors])
    return prior.noise_var + q * (q * _excess(law, there, terms)), slopes


def _excess(law: Law, at: Reduced, t: _Terms) -> float:
    """Return the risk without noise, as in the Notes of `reduced_risk`."""
    quartic = 2.0 * at.u0**2 * law.tau2 * t.eta
    bias = t.e @ law.H @ t.e + _twisted(law, t.L) + quartic
    mixed = 4.0 * at.u0 * (t.psi_b @ t.turned)
    sampling = t.m @ law.H @ t.m + _twisted(law, t.K) + t.size * t.spread + mixed + 2.0 * quartic
    return float(bias + law.share * sampling)


def _twisted(law: Law, K: Floats) -> float:
    """Return ``tr H K Psi K^T``."""
    return float(np.vdot(law.H @ K, K @ law.Psi))


def _terms(law: Law, at: Reduced) -> _Terms:
    A, b = at.U + np.outer(law.mean, at.v), at.u + at.u0 * law.mean
    T, F, Hb, Hv = A.T @ law.H, law.H @ A.T, law.H @ b, law.H @ at.v
    K, m = at.u0 * T + np.outer(at.v, Hb), T @ b + at.u0 * law.kappa * at.v
    L, e, eta = K - np.eye(len(b)), m + (at.gamma - law.mean), float(at.v @ Hv)
    size, spread = float(b @ Hb) + at.u0**2 * law.kappa, float(np.vdot(T, F)) + law.kappa * eta
    return _Terms(b, T, F, K, L, m, e, Hb, Hv, law.Psi @ Hb, T.T @ Hv, size, spread, eta)


def _slopes(law: Law, at: Reduced, t: _Terms) -> Reduced:
    """Return the derivatives of `_excess`: by its parts, by (A, b, v, u0), by the numbers."""
    d_m = 2.0 * law.H @ (t.e + law.share * t.m)
    d_K = 2.0 * law.H @ (t.L + law.share * t.K) @ law.Psi
    far, quartic = 4.0 * law.share * at.u0, (4.0 + 8.0 * law.share) * at.u0 * law.tau2
    d_T = np.outer(d_m, t.b) + at.u0 * d_K + far * np.outer(t.Hv, t.psi_b)
    d_A = law.H @ (d_T + 2.0 * law.share * t.size * t.F).T
    d_b = t.T.T @ d_m + law.H @ (d_K.T @ at.v + far * (law.Psi @ t.turned))
    d_b += 2.0 * law.share * t.spread * t.Hb
    d_v = at.u0 * law.kappa * d_m + d_K @ t.Hb + far * (law.H @ (t.T @ t.psi_b))
    d_v += (at.u0 * quartic + 2.0 * law.share * t.size * law.kappa) * t.Hv
    d_u0 = law.kappa * (at.v @ d_m + 2.0 * law.share * at.u0 * t.spread) + np.vdot(d_K, t.T)
    d_u0 += quartic * t.eta + 4.0 * law.share * (t.psi_b @ t.turned)
    d_v, d_u0 = d_v + d_A.T @ law.mean, d_u0 + d_b @ law.mean  # b and A hold the mean
    return Reduced(d_b, float(d_u0), d_A, d_v, 2.0 * law.H @ t.e)


# ------------------------------------------------------------------ units
#
# With covariances of 1e-200 the terms of a polynomial leave the range of float64, although the
# risk itself does not. So do they with weights (c a, B/c) for a large c.


def in_units(prior: RegressionPrior, n_context: float | None = None) -> tuple[Law, Units]:
    """Return the moments where inputs and labels have variance near 1, and the two units.

    Parameters
    ----------
    prior : RegressionPrior
    n_context : float, optional
        Context length, infinity allowed. Default: the prior's.

    Returns
    -------
    Law
        Moments of inputs over p and labels over q.
    (p, q) : (float, float)
        Powers of two, so that changing units rounds nothing.
    """
    n_context = prior.n_context if n_context is None else n_context
    p = _unit(math.sqrt(prior.input_cov.diagonal().max()))
    H = prior.input_cov / p / p
    spread = p * math.sqrt(max(0.0, float(np.vdot(H, prior.task_cov))))  # p^2 might underflow
    q = _unit(math.hypot(spread, math.sqrt(prior.noise_var)))
    Psi, noise_var = prior.task_cov * (p / q) * (p / q), prior.noise_var / q / q
    product = H @ Psi
    tau, tau2 = float(product.trace()), float(np.vdot(product, product.T))
    return Law(H, Psi, prior.task_mean * (p / q), tau + noise_var, tau2, 1.0 / n_context), (p, q)


def _factors(reduced: Reduced, p: float, q: float) -> tuple[float, ...]:
    """Return factors of all numbers for inputs over p, labels over q and ``|a|`` near 1."""
    t = 1.0 / _unit(max(p * np.abs(reduced.u).max(), q * abs(reduced.u0)))
    return (t * p, t * q, p / q * p / t, p / t, p / q)


def _scaled(reduced: Reduced, factors: Sequence[float]) -> Reduced:
    return Reduced(*map(operator.mul, factors, reduced))


def _unit(size: float) -> float:
    """Return a power of two near `size`, 1 for 0."""
    return math.ldexp(1.0, math.frexp(size)[1]) if size > 0 else 1.0
