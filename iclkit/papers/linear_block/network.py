"""Linear attention and the linear transformer block: literal networks and their exact risk.

A block is six weight matrices; attention alone has four. Of all entries only a few numbers reach
the answer (`reduce_network`), and the population risk is a polynomial in them (`reduced_risk`),
so that nothing here samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, finite_array, instance, keep, locked
from iclkit.papers.linear_block.arrays import (
    checked_prior,
    checked_prompts,
    checked_step,
    of_shape,
    sized_vector,
)
from iclkit.papers.linear_block.polynomial import (
    Reduced,
    checked_reduced,
    exact_gradient,
    exact_risk,
)
from iclkit.papers.linear_block.prior import RegressionPrior

__all__ = [
    "BlockPredictor",
    "Reduced",
    "Weights",
    "gd_to_block",
    "guess_slot_predictor",
    "network_gradient",
    "network_risk",
    "reduce_network",
    "reduced_gradient",
    "reduced_risk",
]

Floats = NDArray[np.float64]

_PAIRS = (("W_P", "W_V"), ("W_K", "W_Q"), ("W_1", "W_2"))  # matrices of the same shape


class Weights(NamedTuple):
    """The matrices of a linear transformer block, tokens being columns ``(x_i, y_i)``.

    Attributes
    ----------
    W_P, W_V : (d_v, dim + 1) array
        Projection and value.
    W_K, W_Q : (d_k, dim + 1) array
        Key and query.
    W_1, W_2 : (d_f, dim + 1) array or None
        The linear multilayer perceptron; both None for attention alone.

    Notes
    -----
    ``W_2^T W_1 (E + W_P^T W_V E mask (W_K E)^T (W_Q E)/M)``, bottom right entry.
    """

    W_P: Floats
    W_V: Floats
    W_K: Floats
    W_Q: Floats
    W_1: Floats | None = None
    W_2: Floats | None = None


# ------------------------------------------------------------------ from matrices to numbers


@border
def reduce_network(
    W_P: ArrayLike,
    W_V: ArrayLike,
    W_K: ArrayLike,
    W_Q: ArrayLike,
    W_1: ArrayLike | None = None,
    W_2: ArrayLike | None = None,
) -> Reduced:
    """Return the numbers of a network that its answer depends on.

    Parameters
    ----------
    W_P, W_V : (d_v, dim + 1) array_like
        Projection and value weights, any width d_v >= 1.
    W_K, W_Q : (d_k, dim + 1) array_like
        Key and query weights, any width d_k >= 1.
    W_1, W_2 : (d_f, dim + 1) array_like, optional
        The linear multilayer perceptron, any width d_f >= 1; leave both out for attention alone.

    Returns
    -------
    Reduced
        With gamma = 0 for attention alone.

    Raises
    ------
    ValueError
        If shapes disagree, an entry is not finite, or only one of W_1 and W_2 is given.

    Notes
    -----
    With r the last row of ``W_2^T W_1`` (the last unit vector without perceptron):
    ``gamma = r[:dim]``, ``(u, u0) = r W_P^T W_V``, and ``[U; v^T]`` are the first dim columns of
    ``W_K^T W_Q``.

    References
    ----------
    Section 3 and Appendix B of Zhang, Wu and Bartlett 2024.

    Examples
    --------
    >>> identity = [[1, 0], [0, 1]]
    >>> reduced = reduce_network(identity, identity, identity, [[3, 0], [4, 0]])
    >>> reduced.u, reduced.u0, reduced.U, reduced.v
    (array([0.]), 1.0, array([[3.]]), array([4.]))
    """
    return _reduce(_checked_weights(W_P, W_V, W_K, W_Q, W_1, W_2))


def _reduce(weights: Weights) -> Reduced:
    row = _readout(weights)
    value = row @ weights.W_P.T @ weights.W_V
    B = weights.W_K.T @ weights.W_Q[:, :-1]
    return Reduced(value[:-1], float(value[-1]), B[:-1], B[-1], row[:-1])


def _readout(weights: Weights) -> Floats:
    """Return the last row of ``W_2^T W_1``."""
    if weights.W_1 is None or weights.W_2 is None:
        return np.eye(weights.W_P.shape[1])[-1]
    return weights.W_2[:, -1] @ weights.W_1


# ------------------------------------------------------------------ exact risk


@border(finite=True)
def reduced_risk(
    prior: RegressionPrior,
    *,
    u: ArrayLike,
    u0: float,
    U: ArrayLike,
    v: ArrayLike,
    gamma: ArrayLike | None = None,
) -> float:
    """Return the exact risk of a network, noise included, from its reduced numbers.

    Parameters
    ----------
    prior : RegressionPrior
    u : (dim,) array_like
        Value weights of the inputs.
    u0 : float
        Value weight of the label.
    U : (dim, dim) array_like
        Product of key and query weights, inputs by inputs.
    v : (dim,) array_like
        The same, label by inputs.
    gamma : (dim,) array_like, optional
        What the multilayer perceptron reads off the query. Default: 0, attention alone.

    Returns
    -------
    float
        ``E (answer - y_query)^2``.

    Raises
    ------
    ValueError
        If a shape does not fit the prior or an entry is not finite.

    Notes
    -----
    With ``b = u + u0 task_mean``, ``A = U + task_mean v^T``, ``T = A^T H``,
    ``K = u0 T + v (H b)^T``, ``m = T b + u0 kappa v``, ``e = m + gamma - task_mean``,
    ``eta = v^T H v``, the risk is noise plus bias plus the context's sampling error::

        noise_var + |e|_H^2 + tr H (K-I) Psi (K-I)^T + 2 u0^2 tau2 eta
        + (1/M) [ |m|_H^2 + tr H K Psi K^T + (|b|_H^2 + u0^2 kappa) (tr T A H + kappa eta)
                  + 4 u0 (H b)^T Psi T^T H v + 4 u0^2 tau2 eta ]

    No large terms cancel: near the optimum the excess is accurate even where it is tiny.

    References
    ----------
    Derived here, an ordering of the polynomial in Appendices B and D of Zhang, Wu and Bartlett
    2024.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(1, n_context=2, noise_var=0.5)
    >>> reduced_risk(prior, u=[0], u0=1, U=[[0.4]], v=[0])  # one step of size 0.4 from zero
    1.06
    """
    dim = checked_prior(prior).dim
    return exact_risk(prior, checked_reduced((u, u0, U, v, gamma), dim))


@border
def network_risk(
    prior: RegressionPrior,
    W_P: ArrayLike,
    W_V: ArrayLike,
    W_K: ArrayLike,
    W_Q: ArrayLike,
    W_1: ArrayLike | None = None,
    W_2: ArrayLike | None = None,
) -> float:
    """Return the exact risk of a network, noise included, from its weight matrices.

    Parameters
    ----------
    prior : RegressionPrior
    W_P, W_V, W_K, W_Q, W_1, W_2 : array_like
        As in `reduce_network`; without W_1 and W_2 attention alone.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes disagree or an entry is not finite.

    References
    ----------
    See `reduced_risk`.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(5, n_context=5, mean=1)
    >>> round(network_risk(prior, *gd_to_block([1] * 5, np.eye(5) / 2.2)), 9)
    2.727272727
    """
    weights = _checked_weights(W_P, W_V, W_K, W_Q, W_1, W_2, dim=checked_prior(prior).dim)
    return exact_risk(prior, _reduce(weights))


@border
def reduced_gradient(prior: RegressionPrior, reduced: Reduced) -> tuple[float, Reduced]:
    """Return the exact risk of a network and its gradient in the reduced numbers.

    Parameters
    ----------
    prior : RegressionPrior
    reduced : Reduced
        Where to differentiate; gamma = None stands for 0.

    Returns
    -------
    risk : float
    gradient : Reduced
        Derivatives by u, u0, U, v and gamma.

    Raises
    ------
    ValueError
        If a shape does not fit the prior or an entry is not finite.

    Notes
    -----
    The chain rule through the Notes of `reduced_risk`; the cost is that of a few products of
    (dim, dim) matrices.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(1, n_context=2)
    >>> risk, gradient = reduced_gradient(prior, Reduced([0], 1, [[0.4]], [0]))
    >>> round(risk, 12), gradient.U.round(12)
    (0.52, array([[-0.4]]))
    """
    return exact_gradient(checked_prior(prior), checked_reduced(reduced, prior.dim))


@border
def network_gradient(prior: RegressionPrior, weights: Weights) -> tuple[float, Weights]:
    """Return the exact risk of a network and its gradient in the weight matrices.

    Parameters
    ----------
    prior : RegressionPrior
    weights : Weights
        Where to differentiate; with W_1 and W_2 None attention alone.

    Returns
    -------
    risk : float
    gradient : Weights
        Derivatives, None where a matrix is None.

    Raises
    ------
    ValueError
        If shapes disagree or an entry is not finite.

    References
    ----------
    Derived here, for training and searches without sampling.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> block = gd_to_block([1, 1], np.eye(2) / 2)  # the optimal one
    >>> _, gradient = network_gradient(isotropic_prior(2, n_context=3, mean=1), block)
    >>> all((abs(part) < 1e-14).all() for part in gradient)
    True
    """
    checked = _checked_weights(*weights, dim=checked_prior(prior).dim)
    risk, slope = exact_gradient(prior, _reduce(checked))
    return risk, _chain(checked, slope)


def _chain(weights: Weights, slope: Reduced) -> Weights:
    """From derivatives in the reduced numbers to those in the matrices."""
    row, d_value = _readout(weights), np.append(slope.u, slope.u0)
    d_keys = np.column_stack([np.vstack([slope.U, slope.v]), np.zeros(len(d_value))])
    attention = (
        np.outer(weights.W_V @ d_value, row),
        np.outer(weights.W_P @ row, d_value),
        weights.W_Q @ d_keys.T,
        weights.W_K @ d_keys,
    )
    if weights.W_1 is None or weights.W_2 is None:
        return Weights(*attention)
    d_row = np.append(slope.gamma, 0.0) + weights.W_P.T @ (weights.W_V @ d_value)
    d_last = np.zeros_like(weights.W_2)
    d_last[:, -1] = weights.W_1 @ d_row
    return Weights(*attention, np.outer(weights.W_2[:, -1], d_row), d_last)


# ------------------------------------------------------------------ literal networks


@dataclass(frozen=True, eq=False)
class BlockPredictor:
    """A linear transformer block, or linear attention alone, that answers prompts.

    Parameters
    ----------
    weights : Weights
        The matrices; with W_1 and W_2 None attention alone.
    guess : (dim,) array_like, optional
        If given, the label slot of the query holds ``<guess, x_query>``. Default: it holds 0.

    Raises
    ------
    ValueError
        If shapes disagree or an entry is not finite.

    Notes
    -----
    The tokens are ``(x_i, y_i)`` and the query ``(x_query, 0)``, which asks but is not asked. The
    answer is the label entry of the query's token after attention, skip connection and perceptron.
    The guess in the label slot follows an idea of Xie et al. (arXiv 2512.04268).

    References
    ----------
    Equations 3.3 and 3.4 of Zhang, Wu and Bartlett 2024.

    Examples
    --------
    >>> BlockPredictor(gd_to_block([1], [[0.5]]))([[[2], [0]]], [[6, 0]], [[1]])
    array([3.])
    """

    weights: Weights = field(repr=False)
    guess: Floats | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        weights = instance("weights", self.weights, Weights, "it holds W_P, W_V, W_K, W_Q")
        checked = _checked_weights(*weights)
        kept = Weights._make(None if w is None else locked(w) for w in checked)
        keep(self, weights=kept)
        if self.guess is not None:
            guess = sized_vector("guess", self.guess, checked.W_P.shape[1] - 1)
            keep(self, guess=locked(guess))

    @border
    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `iclkit.predictors.Predictor`."""
        x, y, x_query = checked_prompts(x, y, x_query, dim=self.weights.W_P.shape[1] - 1)
        context = np.concatenate([x, y[..., None]], axis=2)  # (batch, n, dim + 1)
        slot = np.zeros(len(x)) if self.guess is None else x_query @ self.guess
        query = np.column_stack([x_query, slot])
        return (query + self._attend(context, query)) @ _readout(self.weights)

    def _attend(self, context: Floats, query: Floats) -> Floats:
        W = self.weights
        scores = np.einsum("bnk,bk->bn", context @ W.W_K.T, query @ W.W_Q.T) / context.shape[1]
        return np.einsum("bn,bnv->bv", scores, context @ W.W_V.T) @ W.W_P


@border
def gd_to_block(beta: ArrayLike, gamma: ArrayLike, *, minimal: bool = False) -> Weights:
    """Return the weights of a block that takes one gradient step from `beta`.

    Parameters
    ----------
    beta : (dim,) array_like
        Where the step starts.
    gamma : (dim, dim) array_like
        The step size, a matrix.
    minimal : bool, optional
        Whether to use the smallest widths: d_v = d_f = 1 and d_k the rank of gamma.

    Returns
    -------
    Weights
        Six matrices in the order W_P, W_V, W_K, W_Q, W_1, W_2, of width dim + 1 unless `minimal`.

    Raises
    ------
    ValueError
        If shapes disagree or an entry is not finite.

    Notes
    -----
    The block computes `iclkit.papers.linear_block.GDPredictor` for every prompt. The value matrix
    turns a label into its residual, the keys carry the step, the perceptron adds ``<beta, x>``.

    References
    ----------
    Lemma 5.1 of Zhang, Wu and Bartlett 2024; the smallest widths are derived here.

    Examples
    --------
    >>> [matrix.shape for matrix in gd_to_block([1, 2], [[1, 0], [0, 0]], minimal=True)]
    [(1, 3), (1, 3), (1, 3), (1, 3), (1, 3), (1, 3)]
    """
    beta, gamma = checked_step(beta, gamma)
    row = np.append(beta, 1.0)
    if minimal:
        return _smallest_block(row, gamma)
    dim = len(beta)
    identity, query, first = np.eye(dim + 1), np.zeros((dim + 1, dim + 1)), np.eye(dim + 1)
    query[:dim, :dim] = gamma.T
    first[:dim] = 0.0
    first[dim] = row
    value = np.diag(np.append(-np.ones(dim), 1.0))
    return Weights(identity, value, identity.copy(), query, first, identity.copy())


def _smallest_block(row: Floats, gamma: Floats) -> Weights:
    last, value = np.eye(len(row))[-1:], np.append(-row[:-1], 1.0)[None]
    keys, queries = _thin_factors(gamma.T)
    return Weights(last, value, keys, queries, row[None], last.copy())


def _thin_factors(matrix: Floats) -> tuple[Floats, Floats]:
    """Return key and query weights of the smallest width whose product starts with the matrix."""
    left, values, right = np.linalg.svd(matrix)
    rank = max(1, int((values > len(values) * np.finfo(float).eps * values[0]).sum()))
    root, slot = np.sqrt(values[:rank, None]), np.zeros((rank, 1))
    keys, queries = root * left.T[:rank], root * right[:rank]
    return np.hstack([keys, slot]), np.hstack([queries, slot])


@border
def guess_slot_predictor(beta: ArrayLike, gamma: ArrayLike) -> BlockPredictor:
    """Return attention alone whose query holds a guessed label, which makes it a gradient step.

    Parameters
    ----------
    beta : (dim,) array_like
        Where the step starts; the query's label slot holds ``<beta, x_query>``.
    gamma : (dim, dim) array_like
        The step size, a matrix.

    Returns
    -------
    BlockPredictor

    Raises
    ------
    ValueError
        If shapes disagree or an entry is not finite.

    Notes
    -----
    The skip connection carries the guess to the answer, where attention alone otherwise finds 0;
    attention adds the step. No perceptron is needed.

    References
    ----------
    The slot is an idea of Xie et al. (arXiv 2512.04268); the weights are derived here.

    Examples
    --------
    >>> guess_slot_predictor([1], [[0.5]])([[[2], [0]]], [[6, 0]], [[1]])
    array([3.])
    """
    beta, gamma = checked_step(beta, gamma)
    attention = _smallest_block(np.append(beta, 1.0), gamma)[:4]
    return BlockPredictor(Weights(*attention), beta)


def _checked_weights(*matrices: ArrayLike | None, dim: int | None = None) -> Weights:
    given = Weights._make(matrices)
    if (given.W_1 is None) != (given.W_2 is None):
        missing = "W_1" if given.W_1 is None else "W_2"
        raise ValueError(f"{missing} must be given, got None; leave out W_1 and W_2 for attention")
    width = _width(finite_array("W_P", given.W_P, ndim=2)) if dim is None else dim + 1
    pairs = _PAIRS[:2] if given.W_1 is None else _PAIRS
    return Weights(**{name: w for pair in pairs for name, w in _pair(given, pair, width)})


def _width(matrix: Floats) -> int:
    if matrix.shape[1] < 2:
        raise ValueError(f"W_P must have dim + 1 >= 2 columns, got shape {matrix.shape}")
    return matrix.shape[1]


def _pair(given: Weights, names: Sequence[str], width: int) -> Iterator[tuple[str, Floats]]:
    """Yield two matrices of as many rows as the first one has."""
    rows = None
    for name in names:
        matrix = finite_array(name, getattr(given, name), ndim=2)
        rows = len(matrix) if rows is None else rows
        yield name, of_shape(name, matrix, (rows, width))
