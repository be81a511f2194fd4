"""Rademacher complexity of the dual model on one prompt, and the bound of the gap that it gives.

For the page on generalisation. The complexity is a mean over random signs: over all of them, over
a sample of them, or bounded from both sides without any.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, finite_array, generator, scalar
from iclkit.papers.dual_kernel._laws import Layer, checked_layer, dot_columns, finite_kernel
from iclkit.papers.dual_kernel.gap_deviation import cube_radii, probability
from iclkit.risk import Estimate

__all__ = [
    "RademacherBounds",
    "empirical_bound",
    "rademacher",
    "rademacher_bounds",
    "sample_rademacher",
]

Floats = NDArray[np.float64]

_MOST_SIGNS: Final = 20  # 2^19 choices of them, up to a common sign


class RademacherBounds(NamedTuple):
    """Bounds of the empirical Rademacher complexity of a ball, from a sample.

    Attributes
    ----------
    lower : float
        ``upper/sqrt(2)``, by the inequality of Khinchin and Kahane with its best constant.
    upper : float
        ``(w/n) sqrt(sum_i |v_i|^2 K_ii)``, by Jensen's inequality.
    trace : float
        ``(w/n) rho_v sqrt(tr K)``.
    """

    lower: float
    upper: float
    trace: float


@border
def rademacher(tokens: ArrayLike, W_K: ArrayLike, W_V: ArrayLike, *, radius: float = 1.0) -> float:
    """Return the empirical Rademacher complexity of a Frobenius ball, over all signs.

    Parameters
    ----------
    tokens : (d, n) array_like
        At most 20 demonstrations.
    W_K : (d_k, d) array_like
    W_V : (d_v, d) array_like
    radius : float
        Radius w of the ball, >= 0.

    Returns
    -------
    float
        ``(w/n) E |sum_i s_i v_i phi(k_i)^T|`` over independent signs s.

    Raises
    ------
    ValueError
        If shapes disagree or there are more than 20 tokens; see `sample_rademacher`.

    References
    ----------
    Bartlett and Mendelson (2002).

    Examples
    --------
    >>> rademacher([[3.0, 4.0]], [[0.0]], [[1.0]])  # |3 + 4| and |3 - 4|, halved
    2.0
    """
    gram = _token_gram(tokens, W_K, W_V)
    n = len(gram)
    if n > _MOST_SIGNS:
        raise ValueError(
            f"tokens must have at most {_MOST_SIGNS} columns to go through all signs, got {n}; "
            "use sample_rademacher"
        )
    codes = np.arange(2 ** (n - 1))[:, None] >> np.arange(n - 1)
    signs = np.hstack([np.ones((len(codes), 1)), 1.0 - 2.0 * (codes & 1)])
    return scalar("radius", radius) * float(_signed_norms(gram, signs).mean()) / n


@border
def sample_rademacher(
    tokens: ArrayLike,
    W_K: ArrayLike,
    W_V: ArrayLike,
    *,
    n_draws: int,
    rng: np.random.Generator,
    radius: float = 1.0,
) -> Estimate:
    """Return the empirical Rademacher complexity from random signs, with its standard error.

    Parameters
    ----------
    tokens, W_K, W_V, radius
        As in `rademacher`, for any number of tokens.
    n_draws : int
        Draws of the signs, >= 2.
    rng : numpy.random.Generator

    Returns
    -------
    Estimate

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> rng = stream(0, "example")
    >>> drawn = sample_rademacher([[3.0, 4.0]], [[0.0]], [[1.0]], n_draws=1000, rng=rng)
    >>> bool(abs(drawn.value - 2.0) < 4 * drawn.stderr)
    True
    """
    gram, n_draws = _token_gram(tokens, W_K, W_V), count("n_draws", n_draws, low=2)
    signs = generator(rng).choice([-1.0, 1.0], size=(n_draws, len(gram)))
    norms = scalar("radius", radius) * _signed_norms(gram, signs) / len(gram)
    return Estimate(float(norms.mean()), float(norms.std(ddof=1) / np.sqrt(n_draws)))


@border(finite=True)
def rademacher_bounds(
    tokens: ArrayLike,
    W_K: ArrayLike,
    W_V: ArrayLike,
    *,
    radius: float = 1.0,
    value_bound: float | None = None,
) -> RademacherBounds:
    """Return bounds of the empirical Rademacher complexity that need no signs.

    Parameters
    ----------
    tokens, W_K, W_V, radius
        As in `rademacher`, for any number of tokens.
    value_bound : float, optional
        A bound of ``|v_i|`` for `RademacherBounds.trace`. Default: the largest in the sample.

    Returns
    -------
    RademacherBounds

    Raises
    ------
    ValueError
        If shapes disagree or `value_bound` is below a value's norm.

    References
    ----------
    Jensen's inequality; Latala and Oleszkiewicz (1994) for the lower bound.

    Examples
    --------
    >>> np.round(rademacher_bounds([[3.0, 4.0]], [[0.0]], [[1.0]]), 4)
    array([1.7678, 2.5   , 2.8284])
    """
    layer, columns = checked_layer(W_K, W_V), finite_array("tokens", tokens, ndim=2)
    value, scores = _values_and_keys(layer, columns)
    squares = dot_columns(value, value)
    kernel = finite_kernel(dot_columns(columns, scores), squares.max())
    longest = float(np.sqrt(squares.max()))
    bound = longest if value_bound is None else scalar("value_bound", value_bound)
    if bound < longest:
        raise ValueError(f"value_bound must be >= the largest |v_i| = {longest:.6g}, got {bound}")
    scale = scalar("radius", radius) / columns.shape[1]
    upper = scale * float(squares @ kernel) ** 0.5
    return RademacherBounds(upper / 2**0.5, upper, scale * bound * float(kernel.sum()) ** 0.5)


@border(finite=True)
def empirical_bound(
    complexity: float,
    n_demo: int,
    W_K: ArrayLike,
    W_V: ArrayLike,
    *,
    radius: float = 1.0,
    delta: float = 0.05,
) -> float:
    """Return the bound of the gap from a Rademacher complexity, for uniform tokens.

    Parameters
    ----------
    complexity : float
        Empirical Rademacher complexity of the ball, or an upper bound of it, >= 0.
    n_demo : int
        Demonstrations, >= 1.
    W_K, W_V
        As in `rademacher`.
    radius : float
        Radius w of the ball, >= 0.
    delta : float
        Probability of an exception, in (0, 1).

    Returns
    -------
    float
        ``2 complexity + 6 w rho_v rho_phi sqrt(log(2/delta)/(2n))``.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Bartlett and Mendelson (2002); the shape that we recall of the bound of Ren and Liu 2024, whose
    constants we do not know; these are ours.

    Examples
    --------
    >>> round(empirical_bound(0.1, 100, [[0.0]], [[1.0]]), 6)
    1.014861
    """
    n, t = count("n_demo", n_demo), np.log(2 / probability(delta))
    size = scalar("radius", radius) * float(np.prod(cube_radii(W_K, W_V)))
    return float(2 * scalar("complexity", complexity) + 6 * size * np.sqrt(t / (2 * n)))


def _token_gram(tokens: ArrayLike, W_K: ArrayLike, W_V: ArrayLike) -> Floats:
    """Return ``<v_i, v_j> exp(<k_i, k_j>/sqrt(d_k))``, (n, n)."""
    layer, columns = checked_layer(W_K, W_V), finite_array("tokens", tokens, ndim=2)
    value, scores = _values_and_keys(layer, columns)
    products = value.T @ value
    return products * finite_kernel(columns.T @ scores, np.abs(products).max())


def _values_and_keys(layer: Layer, columns: Floats) -> tuple[Floats, Floats]:
    """Return values and ``A x`` of tokens, once they are seen to fit the layer."""
    if len(columns) != len(layer.kernel):
        raise ValueError(
            f"tokens must have {len(layer.kernel)} rows, like W_K has columns, "
            f"got shape {columns.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return layer.value @ columns, layer.kernel @ columns


def _signed_norms(gram: Floats, signs: Floats) -> Floats:
    return np.sqrt(np.maximum(np.einsum("sn,sn->s", signs @ gram, signs), 0.0))
