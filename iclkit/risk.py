"""Risks with their uncertainty: Monte Carlo estimates and their limit as d grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, finite_array, function_of, generator, same_length, shown
from iclkit.predictors import Predictor
from iclkit.prompts import Law

__all__ = ["Estimate", "extrapolate", "monte_carlo_risk"]


class Estimate(NamedTuple):
    """A number and its standard error.

    Attributes
    ----------
    value : float
    stderr : float
        0 for exact and asymptotic values.
    """

    value: float
    stderr: float = 0.0


@border
def monte_carlo_risk(
    predictor: Predictor,
    law: Law,
    n_context: int,
    *,
    n_prompts: int,
    rng: np.random.Generator,
    batch: int = 2048,
) -> Estimate:
    """Return the mean squared error of a predictor on fresh prompts, with its standard error.

    Parameters
    ----------
    predictor : Predictor
    law : Law
        Where the prompts come from.
    n_context : int
        Labelled examples in each prompt.
    n_prompts : int
        Number of prompts, >= 2.
    rng : numpy.random.Generator
    batch : int
        Prompts held in memory at once. It changes the order of the draws.

    Returns
    -------
    Estimate

    Notes
    -----
    The mean of ``(y_query - y_hat)^2``; its standard error is the sample standard deviation
    over the square root of `n_prompts`.

    Examples
    --------
    >>> from iclkit.predictors import Zero
    >>> from iclkit.prompts import IsotropicLinear, Sphere
    >>> from iclkit.rng import stream
    >>> law = IsotropicLinear(Sphere(5), noise_var=0.25)
    >>> risk = monte_carlo_risk(Zero(), law, 3, n_prompts=10_000, rng=stream(0, "example"))
    >>> bool(abs(risk.value - 1.25) < 4 * risk.stderr)
    True
    """
    n_prompts, rng = count("n_prompts", n_prompts, low=2), generator(rng)
    predictor = function_of("predictor", predictor)
    if isinstance(law, type) or not callable(getattr(law, "sample", None)):
        raise TypeError(f"law must have a method sample, got {shown(law)}; try IsotropicLinear")
    losses = []
    for size in _batches(n_prompts, count("batch", batch)):
        prompts = law.sample(size, n_context, rng=rng)
        y_hat = _predictions(predictor(prompts.x, prompts.y, prompts.x_query), size)
        losses.append((prompts.y_query - y_hat) ** 2)
    loss = np.concatenate(losses)
    return Estimate(float(loss.mean()), float(loss.std(ddof=1) / np.sqrt(n_prompts)))


def _predictions(y_hat: ArrayLike, size: int) -> NDArray[np.float64]:
    """Return predictions if there is one finite number per prompt."""
    values = finite_array("predictions of predictor", y_hat, ndim=1)
    if len(values) != size:
        raise ValueError(f"predictor must return one number per prompt, {size}, got {len(values)}")
    return values


def _batches(total: int, size: int) -> Iterator[int]:
    return (min(size, total - start) for start in range(0, total, size))


@border
def extrapolate(
    dims: ArrayLike, values: ArrayLike, stderrs: ArrayLike, *, order: int = 1
) -> Estimate:
    """Return the limit of measured values as the dimension grows, with its standard error.

    Parameters
    ----------
    dims : (n,) array_like
        Dimensions d > 0, at least ``order + 1`` different ones.
    values : (n,) array_like
        A quantity measured at each dimension.
    stderrs : (n,) array_like
        Standard errors of the values, > 0, independent of each other.
    order : int
        Degree of the polynomial in 1/d, >= 1.

    Returns
    -------
    Estimate
        The intercept at 1/d = 0 and its standard error.

    Raises
    ------
    ValueError
        If the arrays do not match, an entry is out of its range, or there are too few
        dimensions.

    Notes
    -----
    Least squares of ``values = c_0 + c_1/d + ...`` with weights ``1/stderr^2``; the standard
    error follows from the stated ones, not from the scatter.

    Examples
    --------
    >>> limit = extrapolate([10, 20, 40], [1.1, 1.05, 1.025], [0.01, 0.01, 0.01])
    >>> round(limit.value, 12), round(limit.stderr, 4)
    (1.0, 0.0122)
    """
    order = count("order", order)
    arrays = {"dims": dims, "values": values, "stderrs": stderrs}
    checked = {name: finite_array(name, array, ndim=1) for name, array in arrays.items()}
    same_length(**checked)
    return _weighted_intercept(*_positive(checked), order=order)


def _positive(arrays: dict[str, NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    for name in ("dims", "stderrs"):
        if (arrays[name] <= 0).any():
            raise ValueError(f"{name} must be > 0, got {arrays[name].min()}")
    return iter(arrays.values())


def _weighted_intercept(
    dims: NDArray[np.float64],
    values: NDArray[np.float64],
    stderrs: NDArray[np.float64],
    *,
    order: int,
) -> Estimate:
    if len(np.unique(dims)) <= order:
        raise ValueError(f"order {order} needs {order + 1} different dims, got {np.unique(dims)}")
    design = np.vander(1.0 / dims, order + 1, increasing=True) / stderrs[:, None]
    inverse = np.linalg.pinv(design)
    return Estimate(float(inverse[0] @ (values / stderrs)), float(np.linalg.norm(inverse[0])))
