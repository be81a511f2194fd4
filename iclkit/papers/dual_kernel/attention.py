"""Softmax attention of one query, for everything else in the package.

Tokens, keys, queries and values are columns. Keys and queries are divided by ``tau^(1/2)`` once,
here, with the usual temperature ``tau = sqrt(d_k)``: after that the attention score of a key y for
a query x is ``exp(<x, y>)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, softmax

from iclkit._checks import border, finite_array, instance

__all__ = [
    "Attended",
    "Lookup",
    "View",
    "attend",
    "attention_output",
    "checked_lookup",
    "image",
    "look_up",
    "scores_of",
]

Floats = NDArray[np.float64]
View = Callable[[Floats], ArrayLike]

_BLOCK = 1024  # queries per block: bounds the memory of the scores


class Lookup(NamedTuple):
    """One query and what it attends to, demonstrations first.

    Attributes
    ----------
    query : (d_k,) array
        ``x = W_Q x' / tau^(1/2)``.
    keys : (d_k, n) array
        ``y_i = W_K x_i / tau^(1/2)``, one column per token.
    values : (d_v, n) array
        ``v_i = W_V x_i``.
    n_demo : int
        How many of the n tokens are demonstrations; the others are query tokens.
    """

    query: Floats
    keys: Floats
    values: Floats
    n_demo: int


class Attended(NamedTuple):
    """What attention makes of a query.

    Attributes
    ----------
    output : (d_v,) array
        ``h = sum_i a_i v_i``.
    weights : (n,) array
        Softmax weights ``a_i = exp(<x, y_i>) / D``; they sum to one.
    log_normaliser : float
        ``log D`` with ``D = sum_i exp(<x, y_i>)``.
    demo_share : float
        Weight of all demonstrations together, lambda.
    """

    output: Floats
    weights: Floats
    log_normaliser: float
    demo_share: float


@border
def look_up(
    demo: ArrayLike,
    query: ArrayLike,
    W_Q: ArrayLike,
    W_K: ArrayLike,
    W_V: ArrayLike,
    *,
    value_view: View | None = None,
    key_view: View | None = None,
) -> Lookup:
    """Return the scaled query, keys and values of one attention layer.

    Parameters
    ----------
    demo : (d, N) array_like
        Demonstration tokens, one per column.
    query : (d, T) or (d,) array_like
        Query tokens; the last one asks, and all are keys, too.
    W_Q, W_K : (d_k, d) array_like
    W_V : (d_v, d) array_like
    value_view, key_view : callable, optional
        Maps applied to the (d_v, n) values and to the (d_k, n) keys before scaling; they return
        arrays of the same shape.

    Returns
    -------
    Lookup

    Raises
    ------
    TypeError
        If an entry is not a real number or a view is not callable.
    ValueError
        If shapes do not fit together, an entry is not finite, or a key or a value overflows.

    Notes
    -----
    ``x = W_Q x' / d_k^(1/4)`` and ``y_i = W_K x_i / d_k^(1/4)``, so that ``<x, y_i>`` is the usual
    score ``q^T k_i / sqrt(d_k)``.

    Examples
    --------
    >>> look_up([[1, 0], [0, 1]], [1, 1], [[1, 0]], [[0, 2]], [[3, 3]]).keys
    array([[0., 2., 2.]])
    """
    demo, query = finite_array("demo", demo, ndim=2), _columns("query", query)
    if demo.shape[0] != query.shape[0]:
        raise ValueError(
            f"demo and query must have tokens of one length, got {demo.shape} and {query.shape}"
        )
    maps = {"W_Q": W_Q, "W_K": W_K, "W_V": W_V}
    W_Q, W_K, W_V = (_matrix(name, values, len(demo)) for name, values in maps.items())
    if W_Q.shape != W_K.shape:
        raise ValueError(f"W_Q and W_K must have one shape, got {W_Q.shape} and {W_K.shape}")
    tokens = np.concatenate([demo, query], axis=1)
    scale = len(W_K) ** -0.25
    keys = _viewed("key_view", image("W_K", W_K, tokens), key_view)
    values = _viewed("value_view", image("W_V", W_V, tokens), value_view)
    return Lookup(scale * image("W_Q", W_Q, query[:, -1]), scale * keys, values, demo.shape[1])


def image(name: str, matrix: Floats, tokens: Floats) -> Floats:
    """Return ``matrix @ tokens``; a `ValueError` if it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        product = matrix @ tokens
    if not np.isfinite(product).all():
        raise ValueError(f"{name} times the tokens must be finite, got an overflow; scale one down")
    return np.asarray(product)


def checked_lookup(lookup: Lookup) -> Lookup:
    """Return `lookup` if it is one."""
    return instance("lookup", lookup, Lookup, "make one with look_up")


@border
def attend(lookup: Lookup) -> Attended:
    """Return the attention output for a query, its weights and its normaliser.

    Parameters
    ----------
    lookup : Lookup

    Returns
    -------
    Attended

    Raises
    ------
    ValueError
        If a score overflows.

    Notes
    -----
    ``h = sum_i a_i v_i``, ``a = softmax(Y^T x)``, evaluated after subtracting the largest score.

    References
    ----------
    Standard softmax attention, in the notation of Ren and Liu 2024.

    Examples
    --------
    >>> found = attend(look_up([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 3]]))
    >>> found.output, found.weights.round(3), round(found.demo_share, 3)
    (array([2.]), array([0.333, 0.333, 0.333]), 0.667)
    """
    scores = scores_of(lookup)
    weights = softmax(scores)
    share = float(weights[: lookup.n_demo].sum())
    return Attended(lookup.values @ weights, weights, float(logsumexp(scores)), share)


def scores_of(lookup: Lookup) -> Floats:
    """Return the scores ``<x, y_i>`` of all tokens, (n,); a `ValueError` if one overflows."""
    checked_lookup(lookup)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = lookup.keys.T @ lookup.query
    if not np.isfinite(scores).all():
        raise ValueError("attention scores must be finite, got an overflow; scale W_Q or W_K down")
    return scores


@border
def attention_output(queries: ArrayLike, keys: ArrayLike, values: ArrayLike) -> Floats:
    """Return the exact attention outputs of many queries.

    Parameters
    ----------
    queries : (d_k, n_queries) array_like
        Scaled queries, as in a `Lookup`.
    keys : (d_k, n) array_like
        Scaled keys.
    values : (d_v, n) array_like

    Returns
    -------
    (d_v, n_queries) array
        In float32 if all three arrays are, else in float64.

    Raises
    ------
    ValueError
        If shapes do not fit together, an entry is not finite, or a score overflows.

    Notes
    -----
    Blocks of queries share two matrix products; the largest score of each query is subtracted
    first, so that nothing overflows, in float32 neither.

    Examples
    --------
    >>> attention_output([[0, 1]], [[0, 1]], [[0, 1]]).round(3)
    array([[0.5  , 0.731]])
    """
    arrays = {"queries": queries, "keys": keys, "values": values}
    x, y, v = (finite_array(name, a, ndim=2, single=True) for name, a in arrays.items())
    if len({array.dtype for array in (x, y, v)}) > 1:
        x, y, v = (array.astype(np.float64) for array in (x, y, v))
    _check_parts(x, y, v)
    output = np.empty((len(v), x.shape[1]), dtype=v.dtype)
    for start in range(0, x.shape[1], _BLOCK):
        columns = slice(start, start + _BLOCK)
        shares = _shares(x[:, columns], y)
        output[:, columns] = (v @ shares) / shares.sum(axis=0)
    return output


def _shares(queries: Floats, keys: Floats) -> Floats:
    """Return the weights of keys, (n, n_queries), the largest of each query being 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        shares = keys.T @ queries
        top = shares.max(axis=0)
        if not np.isfinite(top).all():
            raise ValueError("scores must be finite, got an overflow; scale queries or keys down")
        shares -= top
    return np.exp(shares, out=shares)


def _check_parts(queries: Floats, keys: Floats, values: Floats) -> None:
    if len(queries) != len(keys):
        raise ValueError(
            f"queries and keys must have one length, got shapes {queries.shape} and {keys.shape}"
        )
    if keys.shape[1] != values.shape[1]:
        raise ValueError(
            f"keys and values must have as many columns, got {keys.shape} and {values.shape}"
        )


def _columns(name: str, tokens: ArrayLike) -> Floats:
    """Return tokens as columns; one vector is one column."""
    array = finite_array(name, tokens, ndim=None)
    return finite_array(name, array[:, None] if array.ndim == 1 else array, ndim=2)


def _matrix(name: str, values: ArrayLike, dim: int) -> Floats:
    matrix = finite_array(name, values, ndim=2)
    if matrix.shape[1] != dim:
        raise ValueError(
            f"{name} must have one column per token coordinate, {dim}, got shape {matrix.shape}"
        )
    return matrix


def _viewed(name: str, columns: Floats, view: View | None) -> Floats:
    """Return a view of the columns, which must keep their shape."""
    if view is None:
        return columns
    if not callable(view):
        raise TypeError(f"{name} must be a function or None, got {type(view).__name__}")
    seen = finite_array(f"the result of {name}", view(columns), ndim=2)
    if seen.shape != columns.shape:
        raise ValueError(f"{name} must keep the shape {columns.shape}, got {seen.shape}")
    return seen
