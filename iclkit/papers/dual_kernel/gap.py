"""How far the dual loss of one prompt is from its mean over prompts: exactly, without sampling.

For the page on generalisation. The dual loss is linear in the weights, so its largest deviation
over a ball of weights is a norm of ``C - C_hat``, the cross-covariance of values and features less
its average over the demonstrations. Kernels give that norm, and laws of tokens its moments.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, choice, count, finite_array, generator, scalar
from iclkit.papers.dual_kernel._laws import (
    Law,
    Layer,
    checked_law,
    checked_layer,
    dot_columns,
    finite_kernel,
    mean_values,
)
from iclkit.papers.dual_kernel.gap_population import gram_of_layer

__all__ = [
    "BALLS",
    "Ball",
    "draw_tokens",
    "gap_gram",
    "sample_gaps",
    "sample_spread",
    "uniform_gap",
    "uniform_gaps",
]

Floats = NDArray[np.float64]
Ball = Literal["frobenius", "operator", "nuclear"]

BALLS: Final = ("frobenius", "operator", "nuclear")
_ENTRIES = 2_000_000  # kernel entries held at once


@border
def uniform_gap(
    tokens: ArrayLike,
    W_K: ArrayLike,
    W_V: ArrayLike,
    *,
    law: Law,
    radius: float = 1.0,
    ball: Ball = "frobenius",
) -> float:
    """Return the largest excess of the population's dual loss over the sample's in a ball.

    Parameters
    ----------
    tokens : (d, n) array_like
        Demonstrations, one per column.
    W_K : (d_k, d) array_like
    W_V : (d_v, d) array_like
    law : {"gaussian", "uniform"}
        The population: independent tokens with entries N(0, 1) or uniform on [-1, 1].
    radius : float
        Radius w of the ball of weights, >= 0.
    ball : {"frobenius", "operator", "nuclear"}
        The norm of weights that is bounded.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes disagree, an option is unknown, or for Gaussian tokens the population loss is
        unbounded on the ball: the largest eigenvalue of ``W_K^T W_K / sqrt(d_k)`` must be < 1.

    Notes
    -----
    The loss of one token is ``-<v, W phi(k)>`` with ``<phi(k), phi(k')> = exp(<k, k'>/sqrt(d_k))``.
    Then ``sup (L - L_hat) = sup |L - L_hat|`` over the ball is w times the dual norm of
    ``C - C_hat``: Frobenius, nuclear and operator norm for the three balls, all of them functions
    of the (d_v, d_v) matrix `gap_gram`. The population enters by its closed form. An error of
    about 1e-16 of ``tr C C^T + max |v|^2 exp(|k|^2)`` remains in the *square* of the gap.

    References
    ----------
    The quantity that the generalisation bound of Ren and Liu 2024, as we recall it, controls; its
    exact value is derived here. For the Frobenius ball it is w times the maximum mean discrepancy
    of sample and population for the kernel ``<v, v'> exp(<k, k'>/sqrt(d_k))``.

    Examples
    --------
    >>> tokens = np.array([[0.5, -0.5, 1.0], [1.0, 0.0, -1.0]])
    >>> W_K, W_V = np.eye(2) / 2, np.eye(2)
    >>> gaps = [uniform_gap(tokens, W_K, W_V, law="uniform", ball=ball) for ball in BALLS]
    >>> np.round(gaps, 4)
    array([0.404 , 0.5379, 0.3652])
    """
    gram = gap_gram(tokens, W_K, W_V, law=law)
    return scalar("radius", radius) * float(_dual_norm(gram, _checked_ball(ball)))


@border
def uniform_gaps(
    samples: ArrayLike,
    W_K: ArrayLike,
    W_V: ArrayLike,
    *,
    law: Law,
    radius: float = 1.0,
    ball: Ball = "frobenius",
) -> Floats:
    """Return `uniform_gap` of several samples of tokens, at the cost of one population.

    Parameters
    ----------
    samples : (b, d, n) array_like
        Samples of n demonstrations each.
    W_K, W_V, law, radius, ball
        As in `uniform_gap`.

    Returns
    -------
    (b,) ndarray

    Raises
    ------
    ValueError
        As `uniform_gap`.

    Examples
    --------
    >>> samples = np.ones((2, 1, 3))  # no keys: the mean value is 0, the sample's is 1
    >>> uniform_gaps(samples, [[0.0]], [[1.0]], law="uniform")
    array([1., 1.])
    """
    layer, ball = checked_layer(W_K, W_V), _checked_ball(ball)
    tokens = _fitting(layer, finite_array("samples", samples, ndim=3), "samples")
    population, step = gram_of_layer(layer, checked_law(law)), _step(tokens)
    gaps = [
        _dual_norm(_gap_grams(layer, law, population, tokens[start : start + step]), ball)
        for start in range(0, len(tokens), step)
    ]
    return scalar("radius", radius) * np.concatenate(gaps)


@border
def gap_gram(tokens: ArrayLike, W_K: ArrayLike, W_V: ArrayLike, *, law: Law) -> Floats:
    """Return ``(C - C_hat)(C - C_hat)^T``, (d_v, d_v).

    Parameters
    ----------
    tokens, W_K, W_V, law
        As in `uniform_gap`.

    Returns
    -------
    (d_v, d_v) ndarray
        Symmetric; its trace is the squared gap of the unit Frobenius ball.

    Raises
    ------
    ValueError
        As `uniform_gap`.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> gap_gram([[1.0, -1.0]], [[0.0]], [[2.0]], law="gaussian")  # k = 0: the mean value is 0
    array([[0.]])
    """
    layer = checked_layer(W_K, W_V)
    batch = _tokens_of(layer, tokens)[None]
    return _gap_grams(layer, law, gram_of_layer(layer, checked_law(law)), batch)[0]


@border
def sample_gaps(
    n_samples: int,
    n_demo: int,
    W_K: ArrayLike,
    W_V: ArrayLike,
    *,
    law: Law,
    rng: np.random.Generator,
    radius: float = 1.0,
    ball: Ball = "frobenius",
) -> Floats:
    """Return `uniform_gap` of independent samples of tokens.

    Parameters
    ----------
    n_samples, n_demo : int
        Samples, and demonstrations in each; >= 1.
    W_K, W_V, law, radius, ball
        As in `uniform_gap`.
    rng : numpy.random.Generator

    Returns
    -------
    (n_samples,) ndarray

    Raises
    ------
    ValueError
        As `uniform_gap`.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> gaps = sample_gaps(4, 9, [[0.5]], [[1.0]], law="uniform", rng=stream(0, "example"))
    >>> gaps.shape, bool((gaps > 0).all())
    ((4,), True)
    """
    dim = checked_layer(W_K, W_V).value.shape[1]
    shape = (count("n_samples", n_samples), dim, count("n_demo", n_demo))
    tokens = draw_tokens(shape, law=law, rng=rng)
    return uniform_gaps(tokens, W_K, W_V, law=law, radius=radius, ball=ball)


@border
def draw_tokens(shape: tuple[int, ...], *, law: Law, rng: np.random.Generator) -> Floats:
    """Return tokens with independent coordinates of a law.

    Parameters
    ----------
    shape : tuple of int
        Usually ``(d, n)``, or ``(samples, d, n)``.
    law : {"gaussian", "uniform"}
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of that shape

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> draw_tokens((2, 5), law="uniform", rng=stream(0, "example")).shape
    (2, 5)
    """
    if not isinstance(shape, tuple):
        raise TypeError(f"shape must be a tuple, got {type(shape).__name__}")
    sizes = tuple(count("shape", size) for size in shape)
    if checked_law(law) == "gaussian":
        return generator(rng).standard_normal(sizes)
    return generator(rng).uniform(-1.0, 1.0, sizes)


@border
def sample_spread(tokens: ArrayLike, W_K: ArrayLike, W_V: ArrayLike) -> float:
    """Return an unbiased estimate of n times the mean squared gap, from the sample alone.

    Parameters
    ----------
    tokens : (d, n) array_like
        At least two demonstrations, of any law.
    W_K, W_V
        As in `uniform_gap`.

    Returns
    -------
    float
        Its root over ``sqrt(n)`` is the error bar of ``C_hat``.

    Raises
    ------
    ValueError
        If shapes disagree, there is one token only, or the kernel overflows.

    Notes
    -----
    The variance of ``v phi(k)^T`` over the sample, ``sum_i |Z_i - mean Z|^2 / (n - 1)``.

    References
    ----------
    New here.

    Examples
    --------
    >>> sample_spread([[1.0, 3.0]], [[0.0]], [[1.0]])  # the variance of 1 and 3
    2.0
    """
    layer = checked_layer(W_K, W_V)
    columns = _tokens_of(layer, tokens)
    n = columns.shape[1]
    if n < 2:
        raise ValueError(f"tokens must hold at least 2 columns for a variance, got {n}")
    with np.errstate(over="ignore", invalid="ignore"):
        value, scores = layer.value @ columns, dot_columns(columns, layer.kernel @ columns)
    squares = dot_columns(value, value)
    diagonal = squares * finite_kernel(scores, squares.max())
    mean = np.trace(_sample_grams(layer, columns[None])[0])
    return float((diagonal.sum() - n * mean) / (n - 1))


def _tokens_of(layer: Layer, tokens: ArrayLike) -> Floats:
    return _fitting(layer, finite_array("tokens", tokens, ndim=2), "tokens")


def _fitting(layer: Layer, tokens: Floats, name: str) -> Floats:
    """Return (..., d, n) tokens that have as many coordinates as the weights have columns."""
    dim = len(layer.kernel)
    if tokens.shape[-2] != dim:
        raise ValueError(
            f"{name} must have {dim} rows, like W_K has columns, got shape {tokens.shape}"
        )
    return tokens


def _step(samples: Floats) -> int:
    """Return how many samples to take at once, so that their kernels fit into memory."""
    return max(1, _ENTRIES // samples.shape[2] ** 2)


def _checked_ball(ball: Ball) -> Ball:
    choice("ball", ball, BALLS)
    return ball


def _gap_grams(layer: Layer, law: str, population: Floats, tokens: Floats) -> Floats:
    """Return the matrices of `gap_gram`, (b, d, n) to (b, d_v, d_v), given ``C C^T``."""
    with np.errstate(over="ignore", invalid="ignore"):
        value = layer.value @ tokens
        cross = value @ mean_values(layer, law, tokens).swapaxes(1, 2) / tokens.shape[2]
        half = (population + _sample_grams(layer, tokens)) / 2 - cross
        grams = half + half.swapaxes(1, 2)
    return _finite(grams, tokens)


def _sample_grams(layer: Layer, tokens: Floats) -> Floats:
    """Return ``C_hat C_hat^T``, (b, d, n) to (b, d_v, d_v)."""
    value = layer.value @ tokens
    scores = tokens.swapaxes(1, 2) @ (layer.kernel @ tokens)
    return value @ np.exp(scores, out=scores) @ value.swapaxes(1, 2) / tokens.shape[2] ** 2


def _finite(grams: Floats, tokens: Floats) -> Floats:
    if np.isfinite(grams).all():
        return grams
    longest = np.max(np.hypot.reduce(tokens, axis=1))
    raise ValueError(
        "tokens must be short enough for exp(|k|^2) to be a number, "
        f"got one of length {longest:.4g}; scale the tokens or W_K down"
    )


def _dual_norm(grams: Floats, ball: str) -> Floats:
    """Return the norm dual to that of a ball, from ``M M^T`` (..., d_v, d_v)."""
    if ball == "frobenius":
        return np.sqrt(np.maximum(np.trace(grams, axis1=-2, axis2=-1), 0.0))
    sizes = np.sqrt(np.maximum(np.linalg.eigvalsh(grams), 0.0))
    return sizes.sum(axis=-1) if ball == "operator" else sizes.max(axis=-1)
