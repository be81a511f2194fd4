"""Beyond one layer: several attention layers, and attention followed by a feed-forward layer.

Every token of every layer has a dual model of its own, trained on the tokens that it sees. A
feed-forward layer is linear near its input, and then it moves into the targets. For the chapter's
main page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from iclkit._checks import border, finite_array, instance
from iclkit.papers.dual_kernel.attention import Lookup, attend, checked_lookup, image
from iclkit.papers.dual_kernel.dual import DualModel, descend, dual_gradient, zero_shot_model
from iclkit.papers.dual_kernel.kernels import Features, features_of
from iclkit.papers.dual_kernel.maps import FeatureMap, balanced

__all__ = [
    "DualStack",
    "FeedForward",
    "FeedForwardDual",
    "dual_stack",
    "feed_forward_dual",
    "stack",
]

Floats = NDArray[np.float64]
Layer = Sequence[ArrayLike]


class _Parts(NamedTuple):
    """Scaled queries and keys (d_k, n), and values (d_v, n), of all tokens of a layer."""

    queries: Floats
    keys: Floats
    values: Floats


@border
def stack(
    layers: Sequence[Layer],
    tokens: ArrayLike,
    *,
    causal: bool = False,
    residual: bool = False,
    features: Features | None = None,
) -> Floats:
    """Return all tokens after several attention layers.

    Parameters
    ----------
    layers : sequence of (W_Q, W_K, W_V)
        Matrices of each layer, first layer first: (d_k, d), (d_k, d) and (d_v, d), where d is
        the number of rows of what the layer before returns.
    tokens : (d, n) array_like
        One token per column.
    causal : bool
        Whether a token sees only itself and the tokens to its left.
    residual : bool
        Whether each layer adds its output to its input; then d_v = d.
    features : callable, optional
        Maps columns (d_k, n) to (m, n); their inner products replace the softmax kernel. Those of
        a `FeatureMap` cannot overflow, and without a mask no token loses all its weights.

    Returns
    -------
    (d_v, n) array
        With d_v of the last layer.

    Raises
    ------
    TypeError
        If an entry is not a real number, or `features` is no function.
    ValueError
        If shapes do not fit together, an entry or a feature is not finite, a score overflows, or
        the features of a layer give a token weights whose sum is not positive.

    Notes
    -----
    ``h_j <- sum_i a_ij v_i (+ h_j)`` with ``a_ij = exp(<y_i, x_j>) / D_j`` over the tokens i that
    token j sees.

    References
    ----------
    Several layers: Ren and Liu 2024, whose text on them we have not read.

    Examples
    --------
    >>> W = [[1.0]]
    >>> stack([(W, W, W), (W, W, W)], [[0, 1]], causal=True).round(3)
    array([[0.   , 0.461]])
    """
    state = finite_array("tokens", tokens, ndim=2).copy()
    for number, layer in enumerate(_listed(layers)):
        parts = _project(number, layer, state, residual)
        output = parts.values @ _shares(parts, features, causal)
        state = state + output if residual else output
    return state


def _shares(parts: _Parts, features: Features | None, causal: bool) -> Floats:
    """Return the attention weights, (n keys, n queries); columns sum to one."""
    hidden = np.tri(parts.keys.shape[1], k=-1, dtype=bool) if causal else False
    if features is None:
        return softmax(np.where(hidden, -np.inf, _scores(parts)), axis=0)
    if isinstance(features, FeatureMap):  # a factor per query cancels; plain features underflow
        of_keys, of_queries, _ = balanced(features, parts.queries, parts.keys)
    else:
        of_keys, of_queries = (features_of(features, x) for x in (parts.keys, parts.queries))
    kernel = np.where(hidden, 0.0, of_keys.T @ of_queries)
    total = kernel.sum(axis=0)
    if not (total > 0).all():
        raise ValueError(f"the sum of the features' weights must be > 0, got {total.min():g}")
    return kernel / total


def _scores(parts: _Parts) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        scores = parts.keys.T @ parts.queries
    if not np.isfinite(scores).all():
        raise ValueError("attention scores must be finite, got an overflow; scale W_Q or W_K down")
    return scores


def _listed(layers: Sequence[Layer]) -> Sequence[Layer]:
    """Return layers if they are a list of lists."""
    if not isinstance(layers, Sequence) or not all(isinstance(x, Sequence) for x in layers):
        raise TypeError("layers must be a list of (W_Q, W_K, W_V), one per layer")
    return layers


def _project(number: int, layer: Layer, state: Floats, residual: bool) -> _Parts:
    if len(layer) != 3:
        raise ValueError(f"layer {number} must be (W_Q, W_K, W_V), got {len(layer)} entries")
    names = (f"{name} of layer {number}" for name in ("W_Q", "W_K", "W_V"))
    matrices = [finite_array(name, part, ndim=2) for name, part in zip(names, layer, strict=True)]
    shapes = [matrix.shape for matrix in matrices]
    width, listed = len(state), ", ".join(map(str, shapes))
    if shapes[0] != shapes[1] or any(shape[1] != width for shape in shapes):
        raise ValueError(
            f"layer {number} must have W_Q and W_K of one shape, and {width} columns, got {listed}"
        )
    if residual and len(matrices[2]) != width:
        raise ValueError(f"W_V of layer {number} must be square with residual=True, got {listed}")
    scale = shapes[0][0] ** -0.25
    W_Q, W_K, W_V = matrices
    query, key, value = (
        image(f"{name} of layer {number}", matrix, state)
        for name, matrix in (("W_Q", W_Q), ("W_K", W_K), ("W_V", W_V))
    )
    return _Parts(scale * query, scale * key, value)


# ------------------------------------------------------------------ the dual models


class DualStack(NamedTuple):
    """A sequence of dual models that does what several attention layers do.

    Attributes
    ----------
    tokens : (d_v, n) array
        All tokens after the last layer.
    models : tuple of tuples of DualModel
        ``models[layer][token]``, each after its one gradient step.
    """

    tokens: Floats
    models: tuple[tuple[DualModel, ...], ...]


@border
def dual_stack(
    layers: Sequence[Layer], tokens: ArrayLike, *, causal: bool = False, residual: bool = False
) -> DualStack:
    """Return the sequence of dual models that equals several attention layers.

    Parameters
    ----------
    layers, tokens, causal, residual
        As for `stack`.

    Returns
    -------
    DualStack
        Its `tokens` are those of `stack`.

    Raises
    ------
    TypeError, ValueError
        As for `stack`.

    Notes
    -----
    In each layer token j has a model that starts from itself, ``W_0 = v_j phi(y_j)^T / D_j``,
    takes one step on the pairs ``(phi(y_i), v_i)`` of all other tokens that it sees, and answers
    at ``x_j``. The pairs of the next layer are made from the answers. One model per token and
    layer, because each has its own normaliser and its own start.

    References
    ----------
    Ren and Liu 2024 for the statement; this form is derived and checked here.

    Examples
    --------
    >>> W = [[1.0]]
    >>> found = dual_stack([(W, W, W), (W, W, W)], [[0, 1]], causal=True)
    >>> found.tokens.round(3), [len(models) for models in found.models]
    (array([[0.   , 0.461]]), [2, 2])
    """
    state, models = finite_array("tokens", tokens, ndim=2).copy(), []
    for number, layer in enumerate(_listed(layers)):
        lookups = _lookups(_project(number, layer, state, residual), causal)
        models.append(tuple(_one_step(lookup) for lookup in lookups))
        pairs = zip(models[-1], lookups, strict=True)
        output = np.stack([model(lookup.query) for model, lookup in pairs], axis=1)
        state = state + output if residual else output
    return DualStack(state, tuple(models))


def _lookups(parts: _Parts, causal: bool) -> list[Lookup]:
    """Return one lookup per token: the others that it sees first, itself last."""
    n = parts.keys.shape[1]
    orders = [[*range(j), *([] if causal else range(j + 1, n)), j] for j in range(n)]
    return [
        Lookup(parts.queries[:, j], parts.keys[:, order], parts.values[:, order], len(order) - 1)
        for j, order in enumerate(orders)
    ]


def _one_step(lookup: Lookup) -> DualModel:
    start = zero_shot_model(lookup)
    return descend(start, dual_gradient(lookup, start))


# ------------------------------------------------------------------ feed-forward layer


class FeedForward(NamedTuple):
    """A feed-forward layer with one hidden layer of rectified units.

    Attributes
    ----------
    W_1 : (width, d_v) array
    b_1 : (width,) array
    W_2 : (d_out, width) array
    b_2 : (d_out,) array

    Notes
    -----
    ``FFN(h) = W_2 max(W_1 h + b_1, 0) + b_2``.

    Examples
    --------
    >>> import numpy as np
    >>> layer = FeedForward(np.eye(2), np.zeros(2), np.ones((1, 2)), np.ones(1))
    >>> layer(np.array([3.0, -1.0]))
    array([4.])
    """

    W_1: Floats
    b_1: Floats
    W_2: Floats
    b_2: Floats

    @border
    def __call__(self, h: ArrayLike) -> Floats:
        """Return the output for one input (d_v,); a `ValueError` if shapes do not fit."""
        h = finite_array("h", h, ndim=1)
        layer = _checked(self, len(h))
        return layer.W_2 @ np.maximum(layer.W_1 @ h + layer.b_1, 0.0) + layer.b_2


class FeedForwardDual(NamedTuple):
    """The dual model of attention followed by a feed-forward layer.

    Attributes
    ----------
    model : DualModel
        ``W phi(z)`` after its one step; its targets are ``W_F v_i``.
    offset : (d_out,) array
        ``b_F = W_2 S b_1 + b_2``, not trained.
    pattern : (width,) array of bool
        Which hidden units are active at the attention output: the diagonal of S.
    slope : (d_out, d_v) array
        ``W_F = W_2 S W_1``.
    radius : float
        Distance from the attention output to the nearest one at which a unit switches; the same
        offset and slope serve for all attention outputs up to there. Infinite if no unit can.
    """

    model: DualModel
    offset: Floats
    pattern: NDArray[np.bool_]
    slope: Floats
    radius: float

    @border
    def __call__(self, points: ArrayLike) -> Floats:
        """Return ``W phi(z) + b_F`` at one point (d_k,), as (d_out,)."""
        return self.model(points) + self.offset


@border
def feed_forward_dual(lookup: Lookup, layer: FeedForward) -> FeedForwardDual:
    """Return the dual model of attention followed by a feed-forward layer.

    Parameters
    ----------
    lookup : Lookup
    layer : FeedForward

    Returns
    -------
    FeedForwardDual
        Its value at ``lookup.query`` is the output of the feed-forward layer.

    Raises
    ------
    TypeError
        If an entry is not a real number.
    ValueError
        If shapes do not fit together or an entry is not finite.

    Notes
    -----
    With the activation pattern S at the attention output h the layer is ``W_F h + b_F``. The loss
    is ``-1/(eta D) sum_i <W_F v_i, W phi(y_i)>`` and ``W_0 = (1/D) W_F V_T Phi_T^T``. The pattern
    depends on h, so the model is that of one query; see `radius` for how far it reaches.

    References
    ----------
    Ren and Liu 2024 for the statement; recalled, derived and checked here; `radius` is new here.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.papers.dual_kernel.attention import look_up
    >>> lookup = look_up([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 9]])
    >>> layer = FeedForward(np.array([[1.0], [-1.0]]), np.ones(2), np.ones((1, 2)), np.zeros(1))
    >>> dual = feed_forward_dual(lookup, layer)
    >>> dual(lookup.query), layer(attend(lookup).output), dual.pattern, round(dual.radius, 9)
    (array([5.]), array([5.]), array([ True, False]), 3.0)
    """
    instance("layer", layer, FeedForward, "it holds W_1, b_1, W_2, b_2")
    layer = _checked(layer, len(checked_lookup(lookup).values))
    before = layer.W_1 @ attend(lookup).output + layer.b_1
    pattern = before > 0
    active = layer.W_2 * pattern
    slope = active @ layer.W_1
    model = _one_step(lookup._replace(values=slope @ lookup.values))
    radius = _distance(before, np.linalg.norm(layer.W_1, axis=1))
    return FeedForwardDual(model, active @ layer.b_1 + layer.b_2, pattern, slope, radius)


def _distance(before: Floats, lengths: Floats) -> float:
    """Return the distance to the nearest hyperplane ``W_1 h + b_1 = 0`` of a unit."""
    can_switch = lengths > 0
    return float(np.min(np.abs(before[can_switch]) / lengths[can_switch], initial=np.inf))


def _checked(layer: FeedForward, width: int) -> FeedForward:
    axes = {"W_1": 2, "b_1": 1, "W_2": 2, "b_2": 1}
    parts = zip(axes.items(), layer, strict=True)
    layer = FeedForward(*(finite_array(name, part, ndim=n) for (name, n), part in parts))
    hidden, outputs = len(layer.b_1), len(layer.b_2)
    wanted = ((hidden, width), (hidden,), (outputs, hidden), (outputs,))
    given = tuple(part.shape for part in layer)
    if given != wanted:
        raise ValueError(f"W_1, b_1, W_2, b_2 must have shapes {wanted}, got {given}")
    return layer
