"""Checks of the arrays that the package's functions take, for the modules beside this one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import finite_array
from iclkit.papers.linear_block.prior import RegressionPrior

__all__ = [
    "checked_prior",
    "checked_prompts",
    "checked_step",
    "of_shape",
    "sized_matrix",
    "sized_vector",
]

Floats = NDArray[np.float64]


def checked_prior(prior: RegressionPrior) -> RegressionPrior:
    """Return `prior` if it is a `RegressionPrior`, for functions that take one."""
    if not isinstance(prior, RegressionPrior):
        raise TypeError(f"prior must be a RegressionPrior, got {type(prior).__name__}")
    return prior


def sized_vector(name: str, values: ArrayLike, dim: int) -> Floats:
    """Return `values` as a finite float64 vector of `dim` entries, or say what is wrong."""
    return of_shape(name, finite_array(name, values, ndim=1), (dim,))


def sized_matrix(name: str, values: ArrayLike, dim: int) -> Floats:
    """Return `values` as a finite float64 (dim, dim) matrix, or say what is wrong."""
    return of_shape(name, finite_array(name, values, ndim=2), (dim, dim))


def checked_step(
    beta: ArrayLike, gamma: ArrayLike, dim: int | None = None
) -> tuple[Floats, Floats]:
    """Return start and step size of one gradient step, of dimension `dim` if it is given."""
    start = finite_array("beta", beta, ndim=1)
    start = start if dim is None else of_shape("beta", start, (dim,))
    return start, sized_matrix("gamma", gamma, len(start))


def checked_prompts(
    x: ArrayLike, y: ArrayLike, x_query: ArrayLike, *, dim: int
) -> tuple[Floats, Floats, Floats]:
    """Return the arrays of a predictor's call, for inputs of dimension `dim`."""
    y = finite_array("y", y, ndim=2)
    x = of_shape("x", finite_array("x", x, ndim=3), (*y.shape, dim))
    return x, y, of_shape("x_query", finite_array("x_query", x_query, ndim=2), (len(y), dim))


def of_shape(name: str, array: Floats, shape: tuple[int, ...]) -> Floats:
    """Return `array` if it has the shape, for messages that name it."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array
