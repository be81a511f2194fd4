"""One gradient step with a matrix step size: the predictor, its risk and its optimum.

The linear transformer block can do no better than this step from the best start
(`optimal_gd`), and attention alone includes the step from zero (`gd_zero`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, keep, locked
from iclkit.papers.linear_block.arrays import (
    checked_prior,
    checked_prompts,
    checked_step,
    sized_matrix,
)
from iclkit.papers.linear_block.polynomial import Reduced, checked_reduced, exact_risk, in_units
from iclkit.papers.linear_block.prior import RegressionPrior, covariance_root, product_cut, whiten

__all__ = [
    "GDPredictor",
    "OptimalGD",
    "Optimality",
    "gd_risk",
    "gd_zero",
    "optimal_gd",
    "optimality",
    "saddle_excess",
    "step_hessian",
]

Floats = NDArray[np.float64]


class OptimalGD(NamedTuple):
    """The best gradient step for a prior.

    Attributes
    ----------
    beta : (dim,) array
        Where the step starts.
    gamma : (dim, dim) array
        The step size, symmetric and positive semi-definite.
    risk : float
        Its risk, noise included.
    """

    beta: Floats
    gamma: Floats
    risk: float


class Optimality(NamedTuple):
    """How far reduced numbers are from the five conditions for an optimal block; all 0 at one.

    Attributes
    ----------
    weight : float
        0 if the label's value weight u0 is not 0, else infinity.
    label : float
        ``|u0 v|_H``: labels do not enter the keys.
    value : float
        ``|u/u0 + task_mean|_H``: values are residuals at the mean; infinity where u0 = 0.
    skip : float
        ``|gamma - task_mean|_H``: the perceptron adds the mean's answer.
    step : float
        ``|H^{1/2} (u0 A - Gamma) H^{1/2}|_F`` with ``A = U + task_mean v^T`` and the best step
        size Gamma.
    """

    weight: float
    label: float
    value: float
    skip: float
    step: float


@dataclass(frozen=True, eq=False)
class GDPredictor:
    """One gradient step on the context's squared error from `beta`, with a matrix step size.

    Parameters
    ----------
    beta : (dim,) array_like
        Where the step starts.
    gamma : (dim, dim) array_like
        The step size.

    Raises
    ------
    ValueError
        If shapes disagree or an entry is not finite.

    Notes
    -----
    ``<beta + gamma X^T (y - X beta)/M, x_query>``.

    References
    ----------
    Equation 5.1 of Zhang, Wu and Bartlett 2024.

    Examples
    --------
    >>> GDPredictor([1], [[0.5]])([[[2], [0]]], [[6, 0]], [[1]])
    array([3.])
    """

    beta: Floats = field(repr=False)
    gamma: Floats = field(repr=False)

    def __post_init__(self) -> None:
        beta, gamma = checked_step(self.beta, self.gamma)
        keep(self, beta=locked(beta), gamma=locked(gamma))

    @border(finite=True)
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `iclkit.predictors.Predictor`."""
        x, y, x_query = checked_prompts(x, y, x_query, dim=len(self.beta))
        slope = np.einsum("bn,bnd->bd", y - x @ self.beta, x) / x.shape[1]
        return np.einsum("bd,bd->b", x_query, self.beta + slope @ self.gamma.T)


@border
def gd_risk(
    prior: RegressionPrior, beta: ArrayLike, gamma: ArrayLike, n_context: float | None = None
) -> float:
    """Return the exact risk of one gradient step, noise included.

    Parameters
    ----------
    prior : RegressionPrior
    beta : (dim,) array_like
        Where the step starts.
    gamma : (dim, dim) array_like
        The step size.
    n_context : int, optional
        Labelled examples in a prompt of the test, >= 1; infinity allowed. Default: the prior's.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a shape does not fit the prior, an entry is not finite, or the context is empty.

    Notes
    -----
    With ``e = beta - task_mean`` and `step_hessian` H_Gamma::

        noise_var + e^T H_Gamma e + tr H (Gamma H - I) Psi (Gamma H - I)^T
        + (1/M) [ tr H Gamma H Psi (Gamma H)^T + kappa tr H Gamma^T H Gamma ]

    which is affine in 1/M for fixed weights.

    References
    ----------
    Theorem 5.2 of Zhang, Wu and Bartlett 2024 in another order of terms, in which nothing
    cancels; other contexts are new here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(5, n_context=5, mean=1)
    >>> [round(gd_risk(prior, [1] * 5, np.eye(5) / 2.2, m), 6) for m in (1, 5, float("inf"))]
    [7.68595, 2.727273, 1.487603]
    """
    beta, gamma = checked_step(beta, gamma, checked_prior(prior).dim)
    n_context = prior.n_context if n_context is None else _length(n_context)
    step = Reduced(-beta, 1.0, gamma.T, np.zeros_like(beta), beta)
    return exact_risk(prior, step, n_context)


def _length(n_context: float) -> float:
    if isinstance(n_context, float) and n_context == np.inf:
        return n_context
    return count("n_context", n_context)  # type: ignore[arg-type]  # `count` refuses other floats


@border
def optimal_gd(prior: RegressionPrior) -> OptimalGD:
    """Return the best gradient step, which is also the best linear transformer block.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    OptimalGD
        It starts at the prior's mean; its risk does not depend on it.

    Notes
    -----
    ``Gamma = ((M+1) Psi H + kappa I)^{-1} M Psi`` and, with the eigenvalues phi_i of
    ``H^{1/2} Psi H^{1/2}``::

        risk = noise_var + sum_i phi_i (phi_i + kappa) / ((M+1) phi_i + kappa)

    a sum in which nothing cancels. For ``Psi = S S^T`` the step size is computed as
    ``M S ((M+1) S^T H S + kappa I)^{-1} S^T``, which is symmetric and takes singular covariances.
    Where H is singular other step sizes do the same; where H Psi = 0 and there is no noise the
    step size is 0.

    References
    ----------
    Theorem 5.2 of Zhang, Wu and Bartlett 2024; the form without roots of H is derived here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> best = optimal_gd(isotropic_prior(5, n_context=5, mean=1))
    >>> best.beta, best.gamma[0, :2].round(8), round(best.risk, 9)
    (array([1., 1., 1., 1., 1.]), array([0.45454545, 0.        ]), 2.727272727)
    """
    gamma, risk = _best_step(checked_prior(prior), centred=True)
    return OptimalGD(prior.task_mean.copy(), gamma, risk)


@border
def gd_zero(prior: RegressionPrior) -> OptimalGD:
    """Return the best gradient step that starts at zero.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    OptimalGD
        With beta = 0.

    Notes
    -----
    Only the second moment of the task matters: `optimal_gd` of the prior without mean whose task
    covariance is ``Psi + task_mean task_mean^T``. Attention alone contains this step, and does
    better.

    References
    ----------
    The step from zero is in Zhang, Wu and Bartlett 2024; this form is derived here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> round(gd_zero(isotropic_prior(5, n_context=5, mean=1)).risk, 9)
    4.836956522
    """
    gamma, risk = _best_step(checked_prior(prior), centred=False)
    return OptimalGD(np.zeros(prior.dim), gamma, risk)


def _best_step(prior: RegressionPrior, *, centred: bool) -> tuple[Floats, float]:
    """Return the best step size from the mean, or from zero, and its risk."""
    law, (p, q) = in_units(prior)
    root = covariance_root(law.Psi)
    root = root if centred else np.column_stack([root, law.mean])
    phi, turn = np.linalg.eigh(root.T @ law.H @ root)
    phi = np.maximum(phi, 0.0)
    kappa = float(phi.sum()) + prior.noise_var / q / q
    if kappa <= product_cut(root, law.H):
        return np.zeros_like(law.H), prior.noise_var
    curvature = (1.0 + law.share) * phi + law.share * kappa
    half = root @ turn / np.sqrt(curvature) / p
    excess = law.share * float(phi @ ((phi + kappa) / curvature))
    return half @ half.T, prior.noise_var + q * (q * excess)


@border
def step_hessian(prior: RegressionPrior, gamma: ArrayLike) -> Floats:
    """Return the matrix of the risk's quadratic growth in the start of the step.

    Parameters
    ----------
    prior : RegressionPrior
    gamma : (dim, dim) array_like
        The step size.

    Returns
    -------
    (dim, dim) array
        Symmetric, at least ``2/(M+2) H`` whatever the step size.

    Raises
    ------
    ValueError
        If the shape does not fit the prior or an entry is not finite.

    Notes
    -----
    ``(I - Gamma H)^T H (I - Gamma H) + tr(H Gamma^T H Gamma)/M H + (1/M) H Gamma^T H Gamma H``:
    the risk of the start `beta` is that of the mean plus this form of ``beta - task_mean``. For
    ``e = H^{1/2} x`` and ``G = H^{1/2} Gamma H^{1/2}`` the form is ``|e - G e|^2 + |G e|^2/M +
    |G|_F^2 |e|^2/M``, at least ``|e - G e|^2 + 2 |G e|^2/M``, hence the bound; a step of
    ``M/(M+2)`` along e attains it.

    References
    ----------
    The matrix is in Theorem 5.2 of Zhang, Wu and Bartlett 2024, with the bound ``H/(M+1)``; the
    sharp bound is new here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> step_hessian(isotropic_prior(1, n_context=2), [[0.5]])
    array([[0.5]])
    """
    H, share = checked_prior(prior).input_cov, 1.0 / prior.n_context
    gamma = sized_matrix("gamma", gamma, prior.dim)
    rest, turned = np.eye(prior.dim) - gamma @ H, gamma.T @ H @ gamma
    total = rest.T @ H @ rest + share * (np.vdot(H, turned) * H + H @ turned @ H)
    return (total + total.T) / 2


@border
def optimality(prior: RegressionPrior, reduced: Reduced) -> Optimality:
    """Return how far a block is from each of the five conditions for an optimal one.

    Parameters
    ----------
    prior : RegressionPrior
    reduced : Reduced
        The block's numbers, from `reduce_network`.

    Returns
    -------
    Optimality
        Five residuals >= 0, unchanged by ``(c a, B/c)``.

    Raises
    ------
    ValueError
        If a shape does not fit the prior or an entry is not finite.

    Notes
    -----
    The conditions are sufficient, and necessary if ``H^{1/2} Psi^{1/2}`` has rank 2 or more.

    References
    ----------
    Theorem 5.3 of Zhang, Wu and Bartlett 2024.

    Examples
    --------
    >>> from iclkit.papers.linear_block import gd_to_block, isotropic_prior, reduce_network
    >>> prior = isotropic_prior(3, n_context=4, mean=2)
    >>> beta, gamma, _ = optimal_gd(prior)
    >>> max(optimality(prior, reduce_network(*gd_to_block(beta, gamma)))) < 1e-12
    True
    """
    u, u0, U, v, gamma = checked_reduced(reduced, checked_prior(prior).dim)
    mean, root = prior.task_mean, covariance_root(prior.input_cov)
    off = u0 * (U + np.outer(mean, v)) - optimal_gd(prior).gamma.T
    return Optimality(
        0.0 if u0 else np.inf,
        _norm(root.T @ (u0 * v)),
        _norm(root.T @ (u / u0 + mean)) if u0 else np.inf,
        _norm(root.T @ (gamma - mean)),
        _norm(root.T @ off @ root),
    )


def _norm(values: Floats) -> float:
    return float(np.linalg.norm(values))


@border
def saddle_excess(prior: RegressionPrior, learned: ArrayLike) -> float:
    """Return how far above the optimum a block rests that has learned only some directions.

    Parameters
    ----------
    prior : RegressionPrior
    learned : (rank,) array_like of bool
        Which of the directions of `whiten` the step size covers; the mean is learned.

    Returns
    -------
    float
        Excess over the risk of `optimal_gd`, >= 0.

    Raises
    ------
    ValueError
        If there is not one entry per direction.

    Notes
    -----
    ``sum_i phi_i^2/omega_i`` over the directions that are not learned: one rung of a ladder of
    saddles for every subset.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> round(saddle_excess(isotropic_prior(2, n_context=3), [True, False]), 9)
    0.5
    """
    white = whiten(checked_prior(prior))
    if np.ma.is_masked(learned):
        raise ValueError("learned must have no masked entries; fill them or drop them")
    mask = np.asarray(learned)
    if mask.dtype != bool or mask.shape != white.values.shape:
        raise ValueError(
            f"learned must be {len(white.values)} booleans, one for each value of whiten, "
            f"got shape {mask.shape} of {mask.dtype}"
        )
    left = white.values[~mask & (white.values > 0)]
    return float((left / white.curvature[~mask & (white.values > 0)]) @ left)
