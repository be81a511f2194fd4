"""What linear attention loses without a multilayer perceptron: exact gap, bounds, limits.

The gap is the least risk of linear attention less that of linear transformer blocks. For the
page on the gap, with the printed lower bounds, the corrected one and instances that show which of
them can hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from iclkit._checks import border, count, generator, scalar
from iclkit.papers.linear_block.arrays import checked_prior
from iclkit.papers.linear_block.attention import optimal_attention
from iclkit.papers.linear_block.prior import (
    RegressionPrior,
    Whitened,
    isotropic_prior,
    whiten,
    whiten_moderate,
)
from iclkit.papers.linear_block.profile import block_excess

__all__ = [
    "GapBounds",
    "RatioSearch",
    "approximation_gap",
    "gap_bounds",
    "gap_ratio_search",
    "large_mean_gap",
    "long_context_gap",
    "small_mean_gap",
    "tight_prior",
]

Floats = NDArray[np.float64]

_SHARES = np.linspace(0.0, 1.0, 257)  # grid of a search in one variable, before its refinement


class GapBounds(NamedTuple):
    """Bounds of the gap that are functions of the prior alone.

    Attributes
    ----------
    first : float
        ``2/(3(M+1)) |w|^2``, a lower bound; first branch of the paper's theorem.
    second_as_printed : float
        ``kappa^2/((M+1)^2 tau2) |w|^2``, its second branch as we read it: no bound, see
        `refuted`. Infinite for tasks without variance.
    proved : float
        The lower bound that the steps of the paper's proof do give, before the last one.
    corrected : float
        ``|w|^2/(M+1)``, a lower bound and the largest multiple of ``|w|^2`` for which that holds.
    upper_trivial : float
        The gap of answering 0 to everything.
    upper_residual : float
        The gap of the best attention whose values are residuals about the mean task.
    upper_zero : float
        The gap of the best gradient step from zero.
    """

    first: float
    second_as_printed: float
    proved: float
    corrected: float
    upper_trivial: float
    upper_residual: float
    upper_zero: float

    @property
    def upper(self) -> float:
        """The lowest of the upper bounds."""
        return min(self.upper_trivial, self.upper_residual, self.upper_zero)

    @property
    def refuted(self) -> bool:
        """Whether the second branch as printed exceeds what answering 0 attains."""
        return self.second_as_printed > self.upper_trivial


class RatioSearch(NamedTuple):
    """Gaps of random instances over the lower bound.

    Attributes
    ----------
    ratio : float
        The smallest gap over ``|w|^2/(M+1)``; the bound says at least 1.
    prior : RegressionPrior
        Where it was found.
    ratios : (n,) array
        All of them.
    """

    ratio: float
    prior: RegressionPrior
    ratios: Floats


@border
def approximation_gap(prior: RegressionPrior) -> float:
    """Return the least risk of linear attention less that of linear transformer blocks.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    float
        Zero exactly where the mean task is invisible, ``task_mean^T H task_mean = 0``.

    Raises
    ------
    TypeError
        If `prior` is no `RegressionPrior`.

    Notes
    -----
    Computed without subtracting risks, so that it keeps its digits under large noise and at long
    contexts. Its error is about 1e-16 of ``|w|^2 + sum phi^2/omega``.

    References
    ----------
    The quantity of Theorem 4.1 of Zhang, Wu and Bartlett 2024; its exact value is new here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> round(approximation_gap(isotropic_prior(5, n_context=5, mean=1)), 9)
    1.829305918
    """
    return optimal_attention(prior).gap


@border
def gap_bounds(prior: RegressionPrior) -> GapBounds:
    """Return lower and upper bounds of the gap.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    GapBounds

    Raises
    ------
    TypeError
        If `prior` is no `RegressionPrior`.
    ValueError
        If the scale of labels is beyond 1e-70 to 1e70.

    Notes
    -----
    With ``tau2 = tr (H Psi)^2``, ``kappa = tr(H Psi) + noise_var``, ``|w|^2 = task_mean^T H
    task_mean``, phi and omega as in `whiten`::

        proved         = [1/(M+1) - (kappa/(M+1))^2 / (2 tau2 + (3M+2)/(M(M+1)) kappa^2)] |w|^2
        upper_trivial  = |w|^2 + sum phi^2/omega
        upper_residual = [1 - M kappa^2 / ((M+2)(kappa^2 + 2 tau2))] |w|^2

    and `upper_zero` is the block's excess risk for the prior of mean zero with the same second
    moment, less that for the prior.

    References
    ----------
    `first` and `second_as_printed`: Theorem 4.1 of Zhang, Wu and Bartlett 2024, camera-ready
    version; `proved`: its proof; the others are new here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> bounds = gap_bounds(isotropic_prior(1, n_context=1, mean=1, noise_var=10))
    >>> bounds.second_as_printed, bounds.corrected, bounds.refuted
    (30.25, 0.5, True)
    """
    white = whiten_moderate(checked_prior(prior))
    M, kappa, square, norm2 = white.n_context, white.level, white.square, white.norm2
    loose = _ratio(kappa**2, (M + 1) ** 2 * (2 * square + (3 * M + 2) / (M * (M + 1)) * kappa**2))
    seen = _ratio(M * kappa**2, (M + 2) * (kappa**2 + 2 * square))
    return GapBounds(
        first=2.0 / (3.0 * (M + 1)) * norm2,
        second_as_printed=norm2 * _ratio(kappa**2, (M + 1) ** 2 * square) if norm2 else 0.0,
        proved=norm2 * (1.0 / (M + 1) - loose),
        corrected=norm2 / (M + 1),
        upper_trivial=norm2 + white.trace - _excess(white),
        upper_residual=norm2 * (1.0 - seen),
        upper_zero=_zero_excess(white) - _excess(white),
    )


def _ratio(top: float, bottom: float) -> float:
    """Return the ratio; infinity over 0, and 0 for 0 over 0."""
    if bottom > 0:
        return top / bottom
    return np.inf if top > 0 else 0.0


def _excess(white: Whitened) -> float:
    return block_excess(white.values, white.level, white.n_context)


def _zero_excess(white: Whitened) -> float:
    """Return the excess risk of the best gradient step from zero."""
    moment = np.diag(white.values) + np.outer(white.mean, white.mean)
    values = np.maximum(np.linalg.eigvalsh(moment), 0.0)
    return block_excess(values, white.level + white.norm2, white.n_context)


# ------------------------------------------------------------------ limits


@border
def small_mean_gap(prior: RegressionPrior) -> float:
    """Return the limit of the gap over ``|w|^2`` as the mean task shrinks in its direction.

    Parameters
    ----------
    prior : RegressionPrior
        Only the direction of its mean counts.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `prior` is no `RegressionPrior`.
    ValueError
        If the mean is 0 where there are inputs, or if tasks vary in one direction of several:
        then the best attention for small means can have ``u0 = 0``, and the limit is not known.

    Notes
    -----
    ``sum c_i w_i^2 / |w|^2`` with ``c_i = 1/(1 + l^T N_i^{-1} l)``, ``l = (1, kappa)`` and
    ``N_i = [[1 + sum_j G_j^2/G_i^2, 2 phi_i], [2 phi_i, 2 kappa^2 + 2 (M+2) tau2]] / M`` with
    ``G_i = phi_i/omega_i``. Without variance among tasks the gap is ``2/(M+2) |w|^2`` at any
    length.

    References
    ----------
    New here; proved in chapter 2.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(5, n_context=5, mean=1e-4)
    >>> round(small_mean_gap(prior), 7), round(approximation_gap(prior) / 5e-8, 7)
    (0.3641913, 0.3641913)
    """
    white = whiten(checked_prior(prior))
    if not white.norm2 > 0:
        raise ValueError(
            "task_mean must not vanish where there are inputs: the limit depends on it"
        )
    if not white.trace > 0:
        return large_mean_gap(prior)
    if 1 == np.count_nonzero(white.values) < len(white.values):
        raise ValueError("task_cov must have rank 2 or more where there are inputs, got rank 1")
    phi, step = white.values / white.level, white.values / white.curvature
    last = 2 + 2 * (white.n_context + 2) * (phi @ phi)
    share = step**2 / (step**2 + step @ step)  # 1/n of the matrix [[n, 2 phi], [2 phi, last]]
    gain = white.n_context * (share * (last - 4 * phi) + 1) / (last - 4 * phi**2 * share)
    unit = white.mean / np.sqrt(white.norm2)
    return float(unit**2 @ (1 / (1 + gain)))


@border
def large_mean_gap(prior: RegressionPrior) -> float:
    """Return the limit of the gap over ``|w|^2`` as the mean task grows: ``2/(M+2)``.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `prior` is no `RegressionPrior`.

    Notes
    -----
    Reached from above or below. The limit does not depend on the covariances or the noise.

    References
    ----------
    New here; proved in chapter 2.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(2, n_context=2, mean=1e4)
    >>> large_mean_gap(prior), round(approximation_gap(prior) / 2e8, 6)
    (0.5, 0.5)
    """
    return 2.0 / (checked_prior(prior).n_context + 2)


@border
def long_context_gap(prior: RegressionPrior) -> float:
    """Return the limit of the gap times the context length, all else fixed.

    Parameters
    ----------
    prior : RegressionPrior
        Its context length plays no role.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `prior` is no `RegressionPrior`.

    Notes
    -----
    ``(d + 1) |w|^2`` where the task covariance has full rank d on the range of the inputs. Where
    its rank r is smaller, value weights outside the tasks' range can help: with w1 and w2 the
    mean within and outside it, and ``e^2 = (1-s)^2 |w1|^2 + |w2|^2``, the limit is
    ``|w|^2 + min_s [r s^2 |w1|^2 + e^2 + 2 e sqrt(r (s^2 |w1|^2 + kappa))]``, and at most
    ``2 |w|^2`` for r = 1.

    References
    ----------
    New here: what remains at order 1/M of the risk among weights whose risk tends to the noise.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> round(long_context_gap(isotropic_prior(5, n_context=1, mean=1)), 9)
    30.0
    """
    white = whiten(checked_prior(prior))
    inside = white.values > 0
    rank, norm2 = int(inside.sum()), white.norm2
    if inside.all():
        return (rank + 1) * norm2
    seen, unseen = float(white.mean[inside] @ white.mean[inside]), white.mean[~inside]
    limit = norm2 + _lowest(_outside(rank, seen, float(unseen @ unseen), white.level))
    return min(limit, 2.0 * norm2) if rank == 1 else limit


def _outside(rank: int, seen: float, unseen: float, level: float) -> Callable[[Floats], Floats]:
    """Return what value weights outside the tasks' range cost, by the share of the mean in it."""

    def cost(share: Floats) -> Floats:
        missed = (1.0 - share) ** 2 * seen + unseen
        inner = rank * (share**2 * seen + level)
        return rank * share**2 * seen + missed + 2.0 * np.sqrt(missed * inner)

    return cost


def _lowest(cost: Callable[[Floats], Floats]) -> float:
    """Return the minimum over [0, 1]."""
    values = cost(_SHARES)
    at = int(np.argmin(values))
    ends = _SHARES[max(at - 1, 0)], _SHARES[min(at + 1, len(_SHARES) - 1)]
    inside = minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-10}).fun
    return float(min(values[at], inside))


# ------------------------------------------------------------------ is the bound sharp?


@border
def tight_prior(n_context: int, signal: float) -> RegressionPrior:
    """Return a prior of dimension one whose gap is close to ``|w|^2/(M+1)``.

    Parameters
    ----------
    n_context : int
        Labelled examples M, >= 1.
    signal : float
        Task variance t in (0, 1]; the noise has variance ``1 - t``.

    Returns
    -------
    RegressionPrior
        With mean task ``(M+1) t/((M+1) t + 1)``.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Its gap is at most ``|w|^2/(M+1) (1 + t + (M+1) t^2/2)``: for every context length the
    constant of the lower bound is the largest possible.

    References
    ----------
    New here.

    Examples
    --------
    >>> prior = tight_prior(5, 0.001)
    >>> round(approximation_gap(prior) / gap_bounds(prior).corrected, 4)
    1.0008
    """
    n_context, signal = count("n_context", n_context), scalar("signal", signal, open_=True)
    if signal > 1:
        raise ValueError(f"signal must be <= 1, got {signal}")
    learned = (n_context + 1) * signal
    noise = {"noise_var": 1.0 - signal, "task_var": signal}
    return isotropic_prior(1, n_context=n_context, mean=learned / (learned + 1.0), **noise)


@border
def gap_ratio_search(n: int, *, rng: np.random.Generator, max_dim: int = 4) -> RatioSearch:
    """Return gaps of random instances over the lower bound ``|w|^2/(M+1)``.

    Parameters
    ----------
    n : int
        Instances, >= 1.
    rng : numpy.random.Generator
    max_dim : int
        Largest dimension, >= 1.

    Returns
    -------
    RatioSearch

    Raises
    ------
    ValueError
        If n or max_dim is below 1.

    Notes
    -----
    Task variances, noise and the mean's length are drawn over orders of magnitude, a quarter of
    the instances without noise; contexts have 1 to 100 examples.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> found = gap_ratio_search(20, rng=stream(0, "search"))
    >>> bool(found.ratio > 1), found.ratios.shape
    (True, (20,))
    """
    n, max_dim, rng = count("n", n), count("max_dim", max_dim), generator(rng)
    priors = [_random_prior(max_dim, rng) for _ in range(n)]
    ratios = np.array([approximation_gap(one) / gap_bounds(one).corrected for one in priors])
    best = int(np.argmin(ratios))
    return RatioSearch(float(ratios[best]), priors[best], ratios)


def _random_prior(max_dim: int, rng: np.random.Generator) -> RegressionPrior:
    """Return an instance in whitened coordinates, in which all of them can be written."""
    dim = int(rng.integers(1, max_dim, endpoint=True))
    values = 10.0 ** rng.uniform(-3, 1, dim)
    direction = rng.standard_normal(dim)
    mean = 10.0 ** rng.uniform(-1, 1) * direction / np.linalg.norm(direction)
    noise_var = 10.0 ** rng.uniform(-2, 1.5) if rng.random() < 0.75 else 0.0
    n_context = int(np.ceil(10.0 ** rng.uniform(0, 2)))
    return RegressionPrior(np.eye(dim), mean, np.diag(values), noise_var, n_context)
