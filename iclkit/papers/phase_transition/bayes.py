"""Bayes baselines: the best predictors for a task pool and for normal tasks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from iclkit._checks import border, count, generator, scalar
from iclkit.features import wishart_factor
from iclkit.moments import mp_resolvent, positive_array
from iclkit.papers.phase_transition.theory import check_broadcast
from iclkit.prompts import Gaussian, Sphere, TaskPool

__all__ = ["gaussian_bayes", "pool_bayes"]

Floats = NDArray[np.float64]


@border
def gaussian_bayes(alpha: ArrayLike, rho: ArrayLike) -> Floats:
    """Return the asymptotic error of the Bayes predictor for normal tasks.

    Parameters
    ----------
    alpha : array_like
        Context length n_context / d, > 0 and finite.
    rho : array_like
        Label-noise variance, >= 0.

    Returns
    -------
    array
        The same on new tasks and on pool tasks: the predictor does not know the pool.

    Raises
    ------
    ValueError
        If an argument is out of its range or the shapes do not broadcast.

    Notes
    -----
    Ridge regression on the context with penalty rho has the error
    ``rho (1 + M_alpha(rho/alpha)/alpha)``; at rho = 0 this is ``max(0, 1 - alpha)``.

    References
    ----------
    Classical; derived here.

    Examples
    --------
    >>> round(float(gaussian_bayes(10, 0.01)), 10)
    0.0111097412
    """
    alpha = positive_array("alpha", alpha)
    rho = positive_array("rho", rho, open_=False)
    check_broadcast(alpha=alpha, rho=rho)
    z = rho / alpha
    with np.errstate(invalid="ignore"):
        missed = np.where(z > 0, z * mp_resolvent(z, alpha), np.maximum(0.0, 1.0 - alpha))
    return (rho + missed)[()]


@border
def pool_bayes(
    *,
    d: int,
    alpha: float,
    kappa: float,
    rho: float,
    n_contexts: int = 1000,
    contexts_per_pool: int = 25,
    gaussian: bool = False,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return the errors of the Bayes predictor for a task pool, on new and on pool tasks.

    Parameters
    ----------
    d : int
        Token dimension, >= 1.
    alpha, kappa : float
        Context length and number of pool tasks over d, > 0 and finite; rounded to whole
        numbers.
    rho : float
        Label-noise variance, > 0, known to the predictor.
    n_contexts : int, optional
        Contexts to average over.
    contexts_per_pool : int, optional
        The pool is drawn afresh after so many contexts.
    gaussian : bool, optional
        Tasks are uniform on the sphere of radius sqrt(d), or N(0, I).
    rng : numpy.random.Generator

    Returns
    -------
    dict of float
        ``icl, idg``: mean error of the prediction for a noisy query label.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    A cell for sweeps. The posterior mean is ``sum_j p_j w_j`` with
    ``p_j ~ exp(-|y - X w_j|^2/(2 rho))``. Up to a constant in j this needs of a context only
    ``S = X^T X`` and ``X^T y``. With ``S = F F^T/d``, F a Bartlett factor, d pseudo-examples
    ``F^T/sqrt(d)`` with labels ``F^T w/sqrt(d) + noise`` have the same posterior as the l
    examples, so no context is drawn. The error given the context, ``|w - w_hat|^2/d + rho``,
    replaces a noisy test label. Both errors use the same inputs.

    References
    ----------
    Raventos et al. 2023 for the predictor (dMMSE), Lu et al. 2025 for the comparison; the
    computation is new here.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> errors = pool_bayes(d=20, alpha=10, kappa=1, rho=0.01, n_contexts=50, rng=stream(0))
    >>> errors["idg"] < 0.0101 < 1 < errors["icl"]
    True
    """
    d = count("d", d)
    n_context = max(1, round(scalar("alpha", alpha, open_=True) * d))
    n_tasks = max(1, round(scalar("kappa", kappa, open_=True) * d))
    rho = scalar("rho", rho, open_=True)
    prior, rng = (Gaussian if gaussian else Sphere)(d), generator(rng)
    per_pool = count("contexts_per_pool", contexts_per_pool)
    losses = np.empty((count("n_contexts", n_contexts), 2))
    for start in range(0, n_contexts, per_pool):
        pool = TaskPool(prior.draw(n_tasks, rng=rng))
        for row in losses[start : start + per_pool]:
            tasks = np.stack([prior.draw(1, rng=rng)[0], pool.draw(1, rng=rng)[0]])
            row[:] = _pool_losses(tasks, pool.tasks, n_context, rho, rng)
    icl, idg = losses.mean(axis=0) + rho
    return {"icl": float(icl), "idg": float(idg)}


def _pool_losses(
    tasks: Floats, pool: Floats, n_context: int, rho: float, rng: np.random.Generator
) -> Floats:
    """Return ``|w - w_hat|^2/d`` for each of the (m, d) tasks, all with the same inputs."""
    dim = pool.shape[1]
    factor = wishart_factor(n_context, dim, rng=rng) / np.sqrt(dim)  # (d, r), pseudo-examples
    noise = np.sqrt(rho) * rng.standard_normal((len(tasks), factor.shape[1]))
    labels = tasks @ factor + noise
    guesses = pool @ factor  # (k, r)
    fit = labels @ guesses.T - 0.5 * np.einsum("kr,kr->k", guesses, guesses)
    guess = softmax(fit / rho, axis=1) @ pool
    return np.sum((tasks - guess) ** 2, axis=1) / dim
