"""Descent on the weight matrices themselves: a search that knows nothing of the theory.

For the claims on optimal networks in chapter 2, as their independent check.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from iclkit._checks import border, count, generator
from iclkit.papers.linear_block.arrays import checked_prior
from iclkit.papers.linear_block.network import Weights, network_gradient, reduce_network
from iclkit.papers.linear_block.polynomial import Reduced
from iclkit.papers.linear_block.prior import RegressionPrior

__all__ = ["Search", "search_weights"]

Floats = NDArray[np.float64]


class Search(NamedTuple):
    """What a search over the weight matrices found.

    Attributes
    ----------
    weights : Weights
        The best network.
    reduced : Reduced
        The numbers of it that matter.
    risk : float
        Its risk, noise included.
    risks : (n_starts,) array
        Where each start ended.
    """

    weights: Weights
    reduced: Reduced
    risk: float
    risks: Floats


@border
def search_weights(
    prior: RegressionPrior, *, mlp: bool, n_starts: int, rng: np.random.Generator
) -> Search:
    """Return the best network that descent on all entries of its weight matrices finds.

    Parameters
    ----------
    prior : RegressionPrior
        Of small dimension: the search is over all ``4 (dim + 1)^2`` or ``12 (dim + 1)^2`` entries.
    mlp : bool
        Whether the network has the multilayer perceptron, of width ``4 (dim + 1)``.
    n_starts : int
        Random starts, >= 1; entries of variance 0.16.
    rng : numpy.random.Generator

    Returns
    -------
    Search

    Raises
    ------
    TypeError
        If `prior` or `rng` is of another type.
    ValueError
        If n_starts < 1.

    Notes
    -----
    Quasi-Newton descent (L-BFGS) on the exact risk with its exact gradient; nothing else of the
    theory enters. Without perceptron it often ends in a local minimum that is not the global one;
    with it, it may rest for long at saddles, or end in a local minimum (see
    `trapped_block`).

    References
    ----------
    New here, as an independent check.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior, optimal_gd
    >>> from iclkit.rng import stream
    >>> prior = isotropic_prior(2, n_context=3, mean=1)
    >>> found = search_weights(prior, mlp=True, n_starts=3, rng=stream(0, "search"))
    >>> abs(found.risk - optimal_gd(prior).risk) < 1e-9
    True
    """
    dim, rng = checked_prior(prior).dim, generator(rng)
    shapes = _shapes(dim, mlp=mlp)
    draws = [_draw(shapes, rng) for _ in range(count("n_starts", n_starts))]
    ends = [_descended(prior, start, shapes) for start in draws]
    risks = np.array([end.fun for end in ends])
    weights = _unpacked(ends[int(np.argmin(risks))].x, shapes)
    return Search(weights, reduce_network(*weights), float(risks.min()), risks)


def _shapes(dim: int, *, mlp: bool) -> list[tuple[int, int]]:
    return [(dim + 1, dim + 1)] * 4 + [(4 * (dim + 1), dim + 1)] * (2 if mlp else 0)


def _draw(shapes: list[tuple[int, int]], rng: np.random.Generator) -> Floats:
    return 0.4 * rng.standard_normal(sum(rows * columns for rows, columns in shapes))


def _unpacked(flat: Floats, shapes: list[tuple[int, int]]) -> Weights:
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    parts = np.split(flat, ends)
    return Weights(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def _descended(
    prior: RegressionPrior, start: Floats, shapes: list[tuple[int, int]]
) -> OptimizeResult:
    def objective(flat: Floats) -> tuple[float, Floats]:
        risk, slope = network_gradient(prior, _unpacked(flat, shapes))
        return risk, np.concatenate([part.ravel() for part in slope if part is not None])

    options = {"maxiter": 5000, "maxfun": 10_000, "maxcor": 30, "ftol": 0.0, "gtol": 1e-9}
    return minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
