"""Linear attention with a scratchpad: tokens ``(x, 1, y)`` with a constant entry.

The constant is the paper's open question (its Appendix J): does one head then do without a
perceptron? Exact risk, bounds on what it still loses, its limit for a large mean task, and the
best weights that a search finds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, finite_array, scalar
from iclkit.papers.linear_block.arrays import checked_prior
from iclkit.papers.linear_block.heads import best_heads, step_filter
from iclkit.papers.linear_block.network import reduced_risk
from iclkit.papers.linear_block.prior import RegressionPrior, whiten

__all__ = [
    "BestScratchpad",
    "ScratchpadBound",
    "best_scratchpad",
    "scratchpad_bound",
    "scratchpad_limit",
    "scratchpad_risk",
]

Floats = NDArray[np.float64]


class BestScratchpad(NamedTuple):
    """One head on tokens ``(x, 1, y)``, by its numbers; `scratchpad_risk` names them.

    Attributes
    ----------
    u : (dim,) array
    u0 : float
    U : (dim, dim) array
    v : (dim,) array
    constant : float
    offset : (dim,) array
    risk : float
        Exact, noise included.
    """

    u: Floats
    u0: float
    U: Floats
    v: Floats
    constant: float
    offset: Floats
    risk: float


class ScratchpadBound(NamedTuple):
    """Two upper bounds on what the best scratchpad loses against the best block.

    Attributes
    ----------
    linear : float
        Proportional to the norm of the mean task.
    flat : float
        The same for every mean task: what the context is worth.
    """

    linear: float
    flat: float


@border
def scratchpad_risk(
    prior: RegressionPrior,
    *,
    u: ArrayLike,
    u0: float,
    U: ArrayLike,
    v: ArrayLike,
    constant: float,
    offset: ArrayLike,
) -> float:
    """Return the exact risk of one head on tokens with a constant entry, noise included.

    Parameters
    ----------
    prior : RegressionPrior
    u, u0, U, v
        Weights on inputs and labels, as in `reduced_risk`.
    constant : float
        Value weight of the constant entry.
    offset : (dim,) array_like
        Product of key and query weights, constant by inputs.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a shape does not fit the prior or an entry is not finite.

    Notes
    -----
    The constant acts as a perceptron with ``gamma = constant * offset``, at a price. With A, b, v
    of `reduced_risk`, ``P = |b|_H^2 + u0^2 kappa`` and ``Q = tr A^T H A H + kappa |v|_H^2`` the
    risk is that of a block plus::

        (2/M) (A^T H b + u0 kappa v)^T H gamma + (1/M) (constant^2 Q + P |offset|_H^2)

    A product of two means over the context carries its noise, a perceptron does not.

    References
    ----------
    The architecture: Appendix J of Zhang, Wu and Bartlett 2024. The risk: new here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(1, n_context=2, mean=3)
    >>> none = {"u": [0], "u0": 0, "U": [[0]], "v": [0]}
    >>> scratchpad_risk(prior, **none, constant=1, offset=[3])  # the mean's answer alone
    1.0
    """
    offset = finite_array("offset", offset, ndim=1)
    constant = scalar("constant", constant, low=-np.inf)
    gamma = constant * offset
    block = reduced_risk(prior, u=u, u0=u0, U=U, v=v, gamma=gamma)
    u0 = scalar("u0", u0, low=-np.inf)
    mean, H, kappa = prior.task_mean, prior.input_cov, whiten(prior).level
    u, v, U = np.asarray(u, float), np.asarray(v, float), np.asarray(U, float)
    b, A = u + u0 * mean, U + np.outer(mean, v)
    mixed = A.T @ H @ b + u0 * kappa * v
    value = b @ H @ b + u0**2 * kappa
    key = np.sum((H @ A) * (A @ H)) + kappa * v @ H @ v
    price = 2 * mixed @ H @ gamma + constant**2 * key + value * (offset @ H @ offset)
    return block + float(price) / prior.n_context


@border
def scratchpad_bound(prior: RegressionPrior) -> ScratchpadBound:
    """Return upper bounds on what the best scratchpad loses against the best block.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    ScratchpadBound

    Notes
    -----
    Linear: values are residuals at the mean task, the step is that of the block, and the
    constant carries the mean; ``(2/M) sqrt(kappa) |Phi Omega^{-1}|_F |task_mean|_H``.
    Flat: the constant carries the mean and nothing else happens, ``tr Phi^2 Omega^{-1}``. So the
    loss grows at most linearly, and not for ever. `scratchpad_limit` is a smaller bound than the
    flat one, for means of one direction.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> bound = scratchpad_bound(isotropic_prior(5, n_context=5, mean=1))
    >>> round(bound.linear, 6), round(bound.flat, 6)
    (2.032789, 2.272727)
    """
    white = whiten(checked_prior(prior))
    step = step_filter(white)
    size = np.sqrt(white.level * white.norm2 * (step @ step))
    return ScratchpadBound(2.0 * float(size) / white.n_context, float(step @ white.values))


@border
def scratchpad_limit(prior: RegressionPrior) -> float:
    """Return an upper bound on what the best scratchpad loses, which is its limit for large means.

    Parameters
    ----------
    prior : RegressionPrior
        Only the direction of its mean task matters.

    Returns
    -------
    float
        Bound of the gap to the best block for every mean task of this direction, and its limit as
        the mean grows; between 0 and the flat bound.

    Raises
    ------
    ValueError
        If the mean task is invisible, ``|task_mean|_H = 0``.

    Notes
    -----
    With n the mean's direction in whitened coordinates and ``rho = (kappa + sqrt(kappa^2 +
    (M+2) tau2))/M``::

        sum_i phi_i^2/omega_i - sum_i n_i^2 phi_i^2/(rho + (1 + 2/M) phi_i)

    Weights ``(A, v) = -c (b, u0) n^T`` make key and value of every example proportional, so that a
    constant of any size along n is free of charge. The head then regresses the task's part along n
    on one number, the mean square of the values; the second sum is what it explains with the best
    b, ``b ~ (rho + (1 + 2/M) Phi)^{-1} Phi n``. For large means other weights are too dear.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> round(scratchpad_limit(isotropic_prior(5, n_context=5, mean=1)), 6)
    2.019511
    """
    white = whiten(checked_prior(prior))
    if white.norm2 == 0.0:
        raise ValueError("task_mean must have a direction where inputs vary, got norm 0")
    phi, length, level = white.values, white.n_context, white.level
    ridge = (level + np.hypot(level, np.sqrt((length + 2.0) * white.square))) / length
    curvature = np.where(phi > 0, ridge + (1.0 + 2.0 / length) * phi, 1.0)
    share = (white.mean / np.sqrt(white.norm2)) ** 2
    return float((step_filter(white) - share * (phi / curvature)) @ phi)


@border
def best_scratchpad(
    prior: RegressionPrior, *, n_starts: int = 16, rng: np.random.Generator
) -> BestScratchpad:
    """Return the best single head with a scratchpad that a search finds.

    Parameters
    ----------
    prior : RegressionPrior
    n_starts : int
        Starting points, >= 1.
    rng : numpy.random.Generator

    Returns
    -------
    BestScratchpad
        Its risk is exact, and an upper bound of the infimum: the best of several local minima.

    Raises
    ------
    ValueError
        If there is no starting point.

    Notes
    -----
    `best_heads` with one head. Columns that would let the query's own constant reach the answer
    are left at 0, where they are best.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> from iclkit.rng import stream
    >>> best = best_scratchpad(isotropic_prior(5, n_context=5, mean=1), rng=stream(0, "example"))
    >>> round(best.risk - 30 / 11, 6)
    1.456796
    """
    values, keys, risk = best_heads(prior, 1, scratchpad=True, n_starts=n_starts, rng=rng)
    (*u, constant, u0), dim = values[0], prior.dim
    key = keys[0]
    found = (np.asarray(u), float(u0), key[:dim], key[-1], float(constant), key[dim])
    return BestScratchpad(*found, risk)
