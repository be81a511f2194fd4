"""The best predictor of all and its risk, for the question how near one gradient step comes to it.

Nothing that reads a prompt can beat the posterior mean; GD-beta and the linear block are measured
against it (Zhang, Wu and Bartlett 2024, Section 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from iclkit._checks import border, count, generator
from iclkit.features import wishart_factor
from iclkit.papers.linear_block.arrays import checked_prior, checked_prompts
from iclkit.papers.linear_block.prior import (
    RegressionPrior,
    covariance_root,
    whiten,
    whiten_moderate,
)
from iclkit.predictors import ContextRidge
from iclkit.risk import Estimate

__all__ = [
    "BayesPredictor",
    "bayes_equivalent",
    "bayes_lower_bound",
    "bayes_risk",
    "near_bayes_factor",
    "threshold_sum",
]

Floats = NDArray[np.float64]

_NUMBERS = 1 << 20  # per temporary of `bayes_risk`: 8 MB


@dataclass(frozen=True, eq=False)
class BayesPredictor:
    """The Bayes predictor: ridge regression centred at the mean task.

    Parameters
    ----------
    prior : RegressionPrior
        Its `n_context` does not matter: the posterior mean is right at every length.

    Notes
    -----
    With ``Psi = R R^T`` the task is ``task_mean + R z`` for a standard normal z, so the posterior
    mean of z is ridge regression of ``y - X task_mean`` on ``X R`` with penalty `noise_var`. The
    smaller of the two linear systems is solved, at cost ``min(dim, n_context)^3`` a prompt; without
    noise the answer is the limit, least squares of the smallest norm.

    References
    ----------
    Lemma 6.1 of Zhang, Wu and Bartlett 2024, in a form that allows singular covariances and
    noise 0.

    Examples
    --------
    >>> prior = RegressionPrior([[1, 0], [0, 1]], [3, 0], [[0, 0], [0, 1]], 1.0, 2)
    >>> BayesPredictor(prior)([[[1, 0], [0, 1]]], [[9, 4]], [[1, 1]])
    array([5.])
    """

    prior: RegressionPrior

    def __post_init__(self) -> None:
        checked_prior(self.prior)

    @border
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `iclkit.predictors.Predictor`."""
        x, y, x_query = checked_prompts(x, y, x_query, dim=self.prior.dim)
        mean, root = self.prior.task_mean, covariance_root(self.prior.task_cov)
        ridge = ContextRidge(self.prior.noise_var)
        return x_query @ mean + ridge(x @ root, y - x @ mean, x_query @ root)


@border
def bayes_risk(prior: RegressionPrior, *, n_draws: int, rng: np.random.Generator) -> Estimate:
    """Return the risk of the Bayes predictor, averaged over the inputs of the context alone.

    Parameters
    ----------
    prior : RegressionPrior
    n_draws : int
        Contexts to average over, >= 2.
    rng : numpy.random.Generator

    Returns
    -------
    Estimate
        Risk, noise included, and its standard error; this is 0 up to rounding where every context
        teaches the same amount, as without noise and with ``n_context >= rank``.

    Raises
    ------
    ValueError
        If there are fewer than two draws.

    Notes
    -----
    Given the inputs X the expected loss is known: the noise plus the trace of H times the
    posterior covariance of the task. So tasks, labels and queries need not be drawn, which saves
    about 200 times as many draws (GEN3 of the tests). In whitened coordinates, with W the Wishart
    matrix of the context and ``W = F F^T``, the trace is one of::

        noise_var tr (noise_var Phi^{-1} + W)^{-1}                       n_context >= rank
        tr Phi - tr (F^T Phi F + noise_var)^{-1} F^T Phi^2 F             n_context <  rank

    Both are right at noise 0. F is drawn directly, a Bartlett factor of ``min(rank, n_context)``
    columns, so that long contexts cost nothing.

    References
    ----------
    The risk: Lemma 6.1 of Zhang, Wu and Bartlett 2024; its average over X alone: derived here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> from iclkit.rng import stream
    >>> risk = bayes_risk(isotropic_prior(5, n_context=2), n_draws=10, rng=stream(0, "example"))
    >>> round(risk.value, 12)  # without noise a context of 2 inputs explains 2 of 5 directions
    3.0
    """
    n_draws, rng = count("n_draws", n_draws, low=2), generator(rng)
    white = whiten_moderate(checked_prior(prior))
    phi = white.values[white.values > 0]
    if not phi.size:
        return Estimate(white.noise_var)
    parts = _wishart_blocks(n_draws, len(phi), white.n_context, rng=rng)
    excess = np.concatenate([_missed_variance(phi, part, white.noise_var) for part in parts])
    stderr = float(excess.std(ddof=1) / np.sqrt(n_draws))
    return Estimate(white.noise_var + float(excess.mean()), stderr)


def _missed_variance(phi: Floats, factors: Floats, noise_var: float) -> Floats:
    """Return the posterior variance of the query's signal given each context, (draws,)."""
    rank, length = factors.shape[1:]
    flipped = factors.transpose(0, 2, 1)
    if length == rank:
        precision = factors @ flipped + noise_var * np.diag(1.0 / phi)
        return noise_var * np.trace(np.linalg.inv(precision), axis1=1, axis2=2)
    weighted = phi[:, None] * factors
    gram = flipped @ weighted + noise_var * np.eye(length)
    seen = np.linalg.solve(gram, weighted.transpose(0, 2, 1))  # (draws, length, rank)
    return phi.sum() - np.einsum("bdn,bnd->b", weighted, seen)


def _wishart_blocks(
    n_draws: int, rank: int, n_context: int, *, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield blocks of Wishart factors, (block, rank, min(rank, n_context))."""
    block = max(1, _NUMBERS // (rank * rank))
    for start in range(0, n_draws, block):
        yield wishart_factor(n_context, rank, size=min(block, n_draws - start), rng=rng)


@border
def bayes_equivalent(prior: RegressionPrior) -> float:
    """Return the deterministic equivalent of the Bayes risk, close to it for long contexts.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    float
        Noise included.

    Notes
    -----
    The solution R of ``R = noise_var + sum_i phi_i k/(phi_i + k)`` at ``k = R/M``: ridge regression
    sees each direction through the ridge k, and k is the risk itself, shared among M examples.
    (GD-beta has the same shape with ``k = kappa/M``, the variance of the labels in place of the
    risk.) The relative error is of order 1/M. The largest solution is meant; without noise it is 0
    if ``M >= rank``, and if ``M < rank`` the one in ``(0, tau)``, where
    ``sum_i phi_i/(phi_i + k) = M``.

    References
    ----------
    Derived here; standard for ridge regression.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> round(bayes_equivalent(isotropic_prior(10, n_context=100, noise_var=10)), 6)
    10.990195
    """
    white = whiten_moderate(checked_prior(prior))
    phi, noise_var, n_context = white.values[white.values > 0], white.noise_var, white.n_context
    unseen = len(phi) - n_context
    if not phi.size or (noise_var == 0 and unseen <= 0):
        return noise_var

    def excess_of(risk: float) -> float:
        return risk - noise_var - float(np.sum(phi * (risk / (n_context * phi + risk))))

    low = max(noise_var, unseen * float(phi.min()))  # at most the root, which is at most kappa
    return float(brentq(excess_of, low / 2, 2 * white.level, xtol=1e-300, rtol=1e-15))


@border
def bayes_lower_bound(prior: RegressionPrior) -> float:
    """Return a number that the Bayes risk cannot fall below.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    float
        Noise included; the noise alone if that is 0.

    Notes
    -----
    ``noise_var + sum_i phi_i noise_var/(noise_var + M phi_i)``: the risk if the context's second
    moments were known to be exactly H. The inverse is operator convex, so by Jensen's inequality
    chance can only add to it.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> bayes_lower_bound(isotropic_prior(2, n_context=3, noise_var=1.0))
    1.5
    """
    white = whiten(checked_prior(prior))
    noise_var, phi = white.noise_var, white.values[white.values > 0]
    return noise_var + float(np.sum(noise_var * (phi / (noise_var + white.n_context * phi))))


@border
def near_bayes_factor(prior: RegressionPrior) -> float:
    """Return a factor that bounds the excess risk of the best GD-beta over that of Bayes.

    Parameters
    ----------
    prior : RegressionPrior
        With `noise_var` > 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is no noise: then no factor exists, for Bayes may have no excess at all.

    Notes
    -----
    ``1 + (tau + phi_max)/noise_var``, where both excess risks leave out the noise. Term by term
    the excess of GD-beta is ``(phi_i + kappa)/noise_var`` times that of `bayes_lower_bound`, at
    most.

    References
    ----------
    Sharpens Corollary 6.2 of Zhang, Wu and Bartlett 2024, which has no explicit constant; new
    here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> near_bayes_factor(isotropic_prior(10, n_context=5, noise_var=10))
    2.1
    """
    white = whiten(checked_prior(prior))
    if white.noise_var == 0:
        raise ValueError(
            "noise_var must be > 0 for a factor between GD-beta and Bayes, got 0.0; "
            "compare the two risks instead"
        )
    return 1.0 + (white.trace + float(white.values.max())) / white.noise_var


@border
def threshold_sum(prior: RegressionPrior) -> float:
    """Return the sum of the smaller of each eigenvalue and the noise level of one context.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    float

    Notes
    -----
    ``sum_i min(phi_i, kappa/M)``. The excess risk of the best GD-beta lies between half of it and
    twice it.

    References
    ----------
    Corollary 6.2 of Zhang, Wu and Bartlett 2024; the constants 1/2 and 2 are new here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> threshold_sum(isotropic_prior(2, n_context=3))
    1.3333333333333333
    """
    white = whiten(checked_prior(prior))
    return float(np.minimum(white.values, white.level / white.n_context).sum())
