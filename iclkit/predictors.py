"""Predictors: what a model may answer, given a context and a query, for any risk or figure.

A predictor is called as ``predictor(x, y, x_query)`` and sees nothing else: its signature has
no place for the task or the query's label.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from iclkit._checks import border, finite_array, instance, keep, locked, scalar
from iclkit.features import attention_features
from iclkit.prompts import TaskPool
from iclkit.solvers import ridge

__all__ = [
    "ContextRidge",
    "GaussianBayes",
    "GradientStep",
    "LinearAttention",
    "PoolBayes",
    "Predictor",
    "Zero",
    "linear_attention",
    "pool_posterior",
]

Floats = NDArray[np.float64]

_CHUNK = 1 << 21  # numbers per temporary of `pool_posterior`


class Predictor(Protocol):
    """Anything that answers the queries of a batch of prompts."""

    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return one prediction per prompt.

        Parameters
        ----------
        x : (batch, n_context, dim) array_like
        y : (batch, n_context) array_like
        x_query : (batch, dim) array_like

        Returns
        -------
        (batch,) array
        """


def _prompt_arrays(x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> tuple[Floats, ...]:
    x, y = finite_array("x", x, ndim=3), finite_array("y", y, ndim=2)
    x_query = finite_array("x_query", x_query, ndim=2)
    if x.shape[:2] != y.shape or (x.shape[0], x.shape[2]) != x_query.shape:
        raise ValueError(
            "x, y, x_query must have shapes (batch, n, d), (batch, n), (batch, d), "
            f"got {x.shape}, {y.shape}, {x_query.shape}"
        )
    return x, y, x_query


def _answer(weights: Floats, x_query: Floats) -> Floats:
    return np.einsum("bd,bd->b", weights, x_query)


@dataclass(frozen=True)
class Zero:
    """Answers 0: its risk is the variance of a label, ``1 + noise_var``."""

    @border
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return zeros, (batch,)."""
        return np.zeros(len(_prompt_arrays(x, y, x_query)[0]))


@dataclass(frozen=True)
class ContextRidge:
    """Ridge regression on the context, applied to the query.

    Parameters
    ----------
    penalty : float
        Coefficient of ``|w|^2``, >= 0; at 0 minimum-norm least squares.

    Examples
    --------
    >>> ContextRidge(1.0)([[[1, 0], [0, 1]]], [[2, 4]], [[1, 1]])
    array([3.])
    """

    penalty: float

    def __post_init__(self) -> None:
        keep(self, penalty=scalar("penalty", self.penalty))

    @border
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `Predictor`."""
        x, y, x_query = _prompt_arrays(x, y, x_query)
        return _answer(ridge(x, y, self.penalty), x_query)


@dataclass(frozen=True)
class GaussianBayes:
    """The Bayes predictor for tasks from ``N(0, task_var I)``: ridge with the right penalty.

    Parameters
    ----------
    noise_var : float
        Variance of the label noise, >= 0.
    task_var : float
        Prior variance of a task's coordinates, > 0.

    Notes
    -----
    The posterior mean of the task is ``(X^T X + rho/s)^{-1} X^T y`` for noise variance rho and
    task variance s.
    """

    noise_var: float
    task_var: float = 1.0

    def __post_init__(self) -> None:
        keep(self, noise_var=scalar("noise_var", self.noise_var))
        keep(self, task_var=scalar("task_var", self.task_var, open_=True))

    @border
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `Predictor`."""
        return ContextRidge(self.noise_var / self.task_var)(x, y, x_query)


@dataclass(frozen=True)
class PoolBayes:
    """The Bayes predictor for tasks from a finite pool ("discrete MMSE").

    Parameters
    ----------
    pool : TaskPool
        The tasks that the predictor believes in, equally likely.
    noise_var : float
        Variance of the label noise, > 0.

    References
    ----------
    Raventos et al. 2023; compared with linear attention in Lu et al. 2025.

    Examples
    --------
    >>> predictor = PoolBayes(TaskPool([[1, 0], [-1, 0]]), noise_var=0.01)
    >>> predictor([[[1, 0], [0, 1]]], [[1, 0]], [[3, 5]])
    array([3.])
    """

    pool: TaskPool
    noise_var: float

    def __post_init__(self) -> None:
        instance("pool", self.pool, TaskPool, "make one with TaskPool(tasks)")
        keep(self, noise_var=scalar("noise_var", self.noise_var, open_=True))

    @border
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `Predictor`."""
        x, y, x_query = _prompt_arrays(x, y, x_query)
        posterior = pool_posterior(x, y, self.pool, noise_var=self.noise_var)
        return _answer(posterior @ self.pool.tasks, x_query)


@border
def pool_posterior(x: ArrayLike, y: ArrayLike, pool: TaskPool, *, noise_var: float) -> Floats:
    """Return the posterior probability of each task of a pool, given each context.

    Parameters
    ----------
    x : (batch, n_context, dim) array_like
    y : (batch, n_context) array_like
    pool : TaskPool
    noise_var : float
        Variance of the label noise, > 0.

    Returns
    -------
    (batch, n_tasks) array
        Rows sum to 1.

    Raises
    ------
    ValueError
        If the shapes do not match or `noise_var` is not positive.

    Notes
    -----
    ``p_j ~ exp(-|y - X w_j|^2 / (2 rho))``, normalised after the largest exponent is taken out.

    References
    ----------
    Raventos et al. 2023.

    Examples
    --------
    >>> pool_posterior([[[1.0]]], [[0.0]], TaskPool([[1], [-1]]), noise_var=0.1)
    array([[0.5, 0.5]])
    """
    x, y = finite_array("x", x, ndim=3), finite_array("y", y, ndim=2)
    noise_var = scalar("noise_var", noise_var, open_=True)
    pool = instance("pool", pool, TaskPool, "make one with TaskPool(tasks)")
    if x.shape != (*y.shape, pool.dim):
        raise ValueError(
            f"x must have the shape of y and the pool's dimension, {(*y.shape, pool.dim)}, "
            f"got {x.shape}"
        )
    misfit = np.empty((len(x), pool.n_tasks))
    step = max(1, _CHUNK // (y.shape[1] * pool.n_tasks))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        residual = x[rows] @ pool.tasks.T - y[rows, :, None]  # (rows, n_context, n_tasks)
        misfit[rows] = np.einsum("bnk,bnk->bk", residual, residual)
    return softmax(-misfit / (2.0 * noise_var), axis=1)


@dataclass(frozen=True, eq=False)
class LinearAttention:
    """Linear attention with reduced weights: ``x_query^T gamma v``.

    Parameters
    ----------
    gamma : (dim, dim + 1) array_like
        The reduced weights, from pretraining (`iclkit.solvers.bilinear_ridge`) or by hand.

    Notes
    -----
    ``v`` are the context's `iclkit.features.attention_features`.

    References
    ----------
    Lu et al. 2025.
    """

    gamma: Floats = field(repr=False)

    def __post_init__(self) -> None:
        gamma = finite_array("gamma", self.gamma, ndim=2)
        if gamma.shape[1] != gamma.shape[0] + 1:
            raise ValueError(f"gamma must have shape (dim, dim + 1), got {gamma.shape}")
        keep(self, gamma=locked(gamma))

    @border
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `Predictor`."""
        x, y, x_query = _prompt_arrays(x, y, x_query)
        if x.shape[2] != len(self.gamma):
            raise ValueError(f"gamma is for dimension {len(self.gamma)}, got x of {x.shape}")
        return linear_attention(self.gamma, x_query, attention_features(x, y))


@border
def linear_attention(gamma: Floats, x_query: Floats, v: Floats) -> Floats:
    """Return ``x_query^T gamma v`` for each prompt.

    Parameters
    ----------
    gamma : (dim, m) array
    x_query : (batch, dim) array
    v : (batch, m) array
        Context features.

    Returns
    -------
    (batch,) array
    """
    gamma, v = finite_array("gamma", gamma, ndim=2), finite_array("v", v, ndim=2)
    x_query = finite_array("x_query", x_query, ndim=2)
    if (len(x_query), *gamma.shape) != (len(v), x_query.shape[1], v.shape[1]):
        raise ValueError(
            "gamma, x_query, v must have shapes (dim, m), (batch, dim), (batch, m), "
            f"got {gamma.shape}, {x_query.shape}, {v.shape}"
        )
    return np.einsum("bm,bm->b", x_query @ gamma, v)


@dataclass(frozen=True)
class GradientStep:
    """One step of gradient descent on the context's mean squared error, from zero weights.

    Parameters
    ----------
    step_size : float
        Step size, >= 0.

    Notes
    -----
    The loss is ``(1/2l) sum_i (y_i - <w, x_i>)^2``, so the step leads to
    ``w = (step_size/l) sum_i y_i x_i``: linear attention with
    ``gamma = (step_size/d) [I, 0]``.

    Examples
    --------
    >>> GradientStep(2.0)([[[1, 0], [0, 1]]], [[2, 4]], [[1, 1]])
    array([6.])
    """

    step_size: float

    def __post_init__(self) -> None:
        keep(self, step_size=scalar("step_size", self.step_size))

    @border
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `Predictor`."""
        x, y, x_query = _prompt_arrays(x, y, x_query)
        weights = np.einsum("bn,bnd->bd", y, x) * (self.step_size / x.shape[1])
        return _answer(weights, x_query)
