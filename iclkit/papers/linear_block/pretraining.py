"""Pretraining GD-beta on finitely many tasks, and using it at another context length.

The paper optimises the population risk. Here the start and the step size are fitted to n sampled
prompts, which costs an excess that falls like 1/n; its constant is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import border, count, finite_array, generator, instance
from iclkit.papers.linear_block.arrays import checked_prior, checked_prompts, of_shape
from iclkit.papers.linear_block.gd import gd_risk, optimal_gd
from iclkit.papers.linear_block.heads import step_filter
from iclkit.papers.linear_block.prior import RegressionPrior, Whitened, isotropic_prior, whiten
from iclkit.prompts import Prompts
from iclkit.risk import Estimate
from iclkit.solvers import ConvergenceError, bilinear_ridge, min_norm

__all__ = [
    "FittedGD",
    "StepLine",
    "fit_gd",
    "pretraining_constant",
    "simulate_pretraining",
    "step_line",
]

Floats = NDArray[np.float64]

_TOLERANCE = 1e-9  # relative change of the start of the step that ends the sweeps
_NUMBERS = 1 << 20  # per temporary of `pretraining_constant`: 8 MB


class FittedGD(NamedTuple):
    """A gradient step fitted to prompts.

    Attributes
    ----------
    beta : (dim,) array
        Where the step starts.
    gamma : (dim, dim) array
        The step size.
    loss : float
        Mean squared error on the prompts that it was fitted to.
    sweeps : int
        Rounds of the alternating fit.
    """

    beta: Floats
    gamma: Floats
    loss: float
    sweeps: int


@border
def fit_gd(prompts: Prompts, *, max_sweeps: int = 2000) -> FittedGD:
    """Return the start and the step size that fit sampled prompts best.

    Parameters
    ----------
    prompts : Prompts
        One query each; several times more than the ``dim (dim + 1)`` parameters.
    max_sweeps : int
        Rounds before giving up, >= 1.

    Returns
    -------
    FittedGD
        A point where neither part can be improved alone.

    Raises
    ------
    ValueError
        If there are fewer prompts than parameters, shapes disagree, or an entry is not finite.
    ConvergenceError
        If the start still moves after `max_sweeps` rounds.

    Notes
    -----
    The loss is quadratic in each part: given beta the step size is a bilinear least-squares
    problem with features ``outer(x_query, h - S beta)``, ``h = X^T y/M``, ``S = X^T X/M``, and
    given the step size beta is an ordinary one with features ``(I - gamma S)^T x_query``. Near
    the optimum both hardly depend on each other, so a handful of sweeps is enough for many
    prompts.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> from iclkit.rng import stream
    >>> prior = isotropic_prior(1, n_context=4, mean=2)
    >>> fitted = fit_gd(prior.sample(4000, rng=stream(0, "example")))
    >>> bool(abs(fitted.beta[0] - 2) < 0.1), bool(abs(fitted.gamma[0, 0] - 2 / 3) < 0.1)
    (True, True)
    """
    data = _queries(prompts)
    beta = min_norm(data.x_query, data.target)
    for sweep in range(1, count("max_sweeps", max_sweeps) + 1):
        before = beta
        beta, gamma, loss = _sweep(data, before)
        if np.abs(beta - before).max() <= _TOLERANCE * np.abs(beta).max():
            return FittedGD(beta, gamma, loss, sweep)
    raise ConvergenceError(
        f"the alternating fit of {len(data.target)} prompts still moves after {max_sweeps} "
        "sweeps; use more prompts or a larger max_sweeps"
    )


class _Queries(NamedTuple):
    """What a gradient step knows of each prompt."""

    moments: Floats  # X^T X / M, (n, dim, dim)
    labels: Floats  # X^T y / M, (n, dim)
    x_query: Floats
    target: Floats


def _queries(prompts: Prompts) -> _Queries:
    instance("prompts", prompts, Prompts, "sample them from a RegressionPrior")
    dim = finite_array("x", prompts.x, ndim=3).shape[-1]
    x, y, x_query = checked_prompts(*prompts[:3], dim=dim)
    n_prompts, length = y.shape
    target = of_shape("y_query", finite_array("y_query", prompts.y_query, ndim=1), (n_prompts,))
    if n_prompts < dim * (dim + 1):
        raise ValueError(
            f"prompts must be at least as many as parameters, {dim * (dim + 1)}, got {n_prompts}"
        )
    labels = np.einsum("nld,nl->nd", x, y) / length
    return _Queries(x.transpose(0, 2, 1) @ x / length, labels, x_query, target)


def _sweep(data: _Queries, beta: Floats) -> tuple[Floats, Floats, float]:
    """Best step size for a start, the best start for that step size, and their loss."""
    pull = data.labels - data.moments @ beta
    gamma = bilinear_ridge(data.x_query, pull, data.target - data.x_query @ beta, 0.0)
    turned = data.x_query @ gamma
    features = data.x_query - np.einsum("nij,nj->ni", data.moments, turned)
    rest = data.target - np.einsum("nd,nd->n", turned, data.labels)
    beta = min_norm(features, rest)
    return beta, gamma, float(np.mean((rest - features @ beta) ** 2))


# ------------------------------------------------------------------ the 1/n law


@border
def pretraining_constant(
    prior: RegressionPrior, *, n_draws: int, rng: np.random.Generator
) -> Estimate:
    """Return the limit of n times the mean excess risk of pretraining on n prompts.

    Parameters
    ----------
    prior : RegressionPrior
    n_draws : int
        Contexts to average over, >= 2.
    rng : numpy.random.Generator

    Returns
    -------
    Estimate
        The constant and its standard error.

    Raises
    ------
    ValueError
        If there are fewer than two draws.

    Notes
    -----
    Asymptotics of least squares: with half the Hessian K of the risk at the optimum and the
    answer's gradient f' in all parameters, ``n * excess`` has a limit law with the mean
    ``E[r^2 f'^T K^{-1} f']``, where r is the error of the best GD-beta. K is block diagonal,
    `step_hessian` for the start and ``H (x) W_0`` for the step size. The average over query and
    its noise is taken exactly, that over task and context by sampling. Parameters in the null
    space of H do not count.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> from iclkit.rng import stream
    >>> prior = isotropic_prior(5, n_context=10, noise_var=0.5)
    >>> constant = pretraining_constant(prior, n_draws=2000, rng=stream(0, "example"))
    >>> 100 < constant.value < 150
    True
    """
    n_draws, rng = count("n_draws", n_draws, low=2), generator(rng)
    white = whiten(checked_prior(prior))
    if not white.root.any():
        return Estimate(0.0)  # inputs are 0, and so is every answer
    block = max(1, _NUMBERS // (len(white.values) * (white.n_context + len(white.values))))
    sizes = [min(block, n_draws - start) for start in range(0, n_draws, block)]
    terms = np.concatenate([_leverage(white, size, rng=rng) for size in sizes])
    return Estimate(float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(n_draws)))


def _leverage(white: Whitened, n_draws: int, *, rng: np.random.Generator) -> Floats:
    """``E[r^2 f'^T K^{-1} f']`` over the query, for sampled tasks and contexts, (n_draws,)."""
    rank, length, noise_var = len(white.values), white.n_context, white.noise_var
    step = step_filter(white)
    task = rng.standard_normal((n_draws, rank)) * np.sqrt(white.values)
    x = rng.standard_normal((n_draws, length, rank))
    noise = np.sqrt(noise_var) * rng.standard_normal((n_draws, length))
    y = np.einsum("nld,nd->nl", x, task) + noise
    pull = np.einsum("nld,nl->nd", x, y) / length
    left = task - step * pull  # the error is <left, x_query> + noise
    power = np.sum(left**2, axis=1)
    keep = np.eye(rank) - step[:, None] * (x.transpose(0, 2, 1) @ x / length)
    growth = (1.0 - step) ** 2 + (step @ step + step**2) / length
    seen = np.einsum("nij,ni->nj", keep, left) ** 2 / growth
    start = (power + noise_var) * np.sum(keep**2 / growth, axis=(1, 2)) + 2.0 * seen.sum(axis=1)
    level = np.where(white.curvature > 0, white.curvature, 1.0)
    return start + (power * (rank + 2.0) + noise_var * rank) * np.sum(pull**2 / level, axis=1)


@border
def simulate_pretraining(
    *,
    d: int,
    n_context: int,
    noise_var: float,
    mean: float,
    n_prompts: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return the exact excess risk of one pretrained GD-beta, isotropic inputs and tasks.

    Parameters
    ----------
    d, n_context, noise_var, mean
        As in `isotropic_prior`.
    n_prompts : int
        Prompts to pretrain on, one task each.
    rng : numpy.random.Generator

    Returns
    -------
    dict of float
        ``excess``: over the best GD-beta; ``scaled``: times `n_prompts`; ``sweeps``.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    A cell for sweeps. The data are sampled, the risk of the fit is exact.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> point = {"d": 2, "n_context": 5, "noise_var": 0.5, "mean": 1, "n_prompts": 500}
    >>> 0 < simulate_pretraining(**point, rng=stream(0, "example"))["excess"] < 0.2
    True
    """
    prior = isotropic_prior(d, n_context=n_context, mean=mean, noise_var=noise_var)
    fitted = fit_gd(prior.sample(n_prompts, rng=rng))
    excess = gd_risk(prior, fitted.beta, fitted.gamma) - optimal_gd(prior).risk
    scaled = count("n_prompts", n_prompts) * excess
    return {"excess": excess, "scaled": scaled, "sweeps": float(fitted.sweeps)}


# ------------------------------------------------------------------ another context length


class StepLine(NamedTuple):
    """The risk of one fixed step at every context length: ``floor + slope/n_context``.

    Attributes
    ----------
    floor : float
        Risk with an endless context, noise included.
    slope : float
        Non-negative: a longer context never hurts.
    """

    floor: float
    slope: float


@border
def step_line(prior: RegressionPrior) -> StepLine:
    """Return the risk of the prior's best GD-beta as a function of the test's context length.

    Parameters
    ----------
    prior : RegressionPrior
        Its `n_context` is the length of pretraining.

    Returns
    -------
    StepLine

    Notes
    -----
    With the step ``g = Phi Omega^{-1}`` of the training length, at length M'::

        noise_var + tr (1-g) Phi (1-g)^T + (1/M') tr g (Phi + kappa) g^T

    A fixed step cannot follow the context: it leaves ``(phi_i + kappa)/((M+1) phi_i + kappa)``
    of each direction unexplained however much it is shown.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> floor, slope = step_line(isotropic_prior(1, n_context=2, noise_var=1))
    >>> round(floor, 12), round(slope, 12)
    (1.36, 0.48)
    """
    white = whiten(checked_prior(prior))
    step = step_filter(white)
    floor = float(white.values @ (1.0 - step) ** 2)
    return StepLine(prior.noise_var + floor, float((white.values + white.level) @ step**2))
