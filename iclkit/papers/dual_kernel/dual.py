"""The dual model in function space: exact, without features, for the chapter's main result.

A model ``f(z) = W phi(z)`` whose weights are a sum ``W = sum_j c_j phi(y_j)^T`` is a list of keys
and coefficients: ``f(z) = sum_j c_j exp(<y_j, z>)``. Gradients and steps add to the list, so that
the infinitely many features of the softmax kernel are never formed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from iclkit._checks import border, finite_array, instance, scalar
from iclkit.papers.dual_kernel.attention import (
    Lookup,
    View,
    attend,
    checked_lookup,
    look_up,
    scores_of,
)

__all__ = [
    "DualModel",
    "contrasted",
    "descend",
    "dual_gradient",
    "dual_loss",
    "dual_output",
    "inner",
    "leave_one_out",
    "negative_samples",
    "task_update",
    "token_by_token",
    "zero_shot_model",
]

Floats = NDArray[np.float64]

_HEAVY = 0.5  # above this weight, (h - a v)/(1 - a) loses digits and is computed the long way


class DualModel(NamedTuple):
    """A function of the reproducing-kernel space of the softmax kernel.

    Attributes
    ----------
    keys : (d_k, n) array
        Scaled keys y_j.
    coefficients : (d_v, n) array
        Their coefficients c_j.
    log_scale : float
        Logarithm of a common factor, usually ``-log D``.

    Notes
    -----
    ``f(z) = exp(log_scale) sum_j c_j exp(<y_j, z>) = W phi(z)`` with
    ``W = exp(log_scale) sum_j c_j phi(y_j)^T`` and ``<phi(y), phi(z)> = exp(<y, z>)``.

    References
    ----------
    The dual model of Ren and Liu 2024, in function space.

    Examples
    --------
    >>> import numpy as np
    >>> model = DualModel(np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]]))
    >>> model(np.array([0.0])), model(np.array([[0.0, 1.0]])).round(3)
    (array([3.]), array([[3.   , 6.437]]))
    """

    keys: Floats
    coefficients: Floats
    log_scale: float = 0.0

    @border
    def __call__(self, points: ArrayLike) -> Floats:
        """Return f at a point (d_k,) as (d_v,), or at columns (d_k, n_points) as (d_v, n_points).

        Raises
        ------
        ValueError
            If the shapes do not fit or the value overflows.
        """
        points = finite_array("points", points, ndim=None)
        if points.ndim not in (1, 2) or len(points) != len(self.keys):
            raise ValueError(
                f"points must have {len(self.keys)} rows and one or two axes, got {points.shape}"
            )
        return self.coefficients @ _kernel(self.keys, points, self.log_scale)


def _kernel(keys: Floats, points: Floats, log_scale: float) -> Floats:
    """Return ``exp(<y_i, z_j> + log_scale)``; a `ValueError` where it overflows."""
    with np.errstate(over="ignore"):
        kernel = np.exp(keys.T @ points + log_scale)
    if not np.isfinite(kernel).all():
        raise ValueError("the kernel must be finite, got an overflow; scale W_Q or W_K down")
    return kernel


@border
def zero_shot_model(lookup: Lookup) -> DualModel:
    """Return the dual model before any demonstration, with weights W_0.

    Parameters
    ----------
    lookup : Lookup

    Returns
    -------
    DualModel
        ``W_0 = (1/D) sum_t v'_t phi(y'_t)^T`` over the query tokens. Its value at the query is
        ``1 - lambda`` times the attention output without demonstrations.

    References
    ----------
    The starting weights of Ren and Liu 2024; form recalled, its identity checked here.
    """
    later = slice(checked_lookup(lookup).n_demo, None)
    return DualModel(lookup.keys[:, later], lookup.values[:, later], -attend(lookup).log_normaliser)


@border
def task_update(lookup: Lookup) -> DualModel:
    """Return what the demonstrations teach, ``W_1 - W_0``.

    Parameters
    ----------
    lookup : Lookup

    Returns
    -------
    DualModel
        ``W_1 - W_0 = (1/D) sum_i v_i phi(y_i)^T`` over the demonstrations.
    """
    first = slice(None, checked_lookup(lookup).n_demo)
    return DualModel(lookup.keys[:, first], lookup.values[:, first], -attend(lookup).log_normaliser)


@border(finite=True)
def dual_loss(
    lookup: Lookup,
    model: DualModel,
    *,
    learning_rate: float = 1.0,
    ridge: float = 0.0,
    targets: ArrayLike | None = None,
) -> float:
    """Return the loss of the dual model on the demonstrations.

    Parameters
    ----------
    lookup : Lookup
    model : DualModel
    learning_rate : float
        eta, > 0.
    ridge : float
        Weight alpha of the squared norm of W.
    targets : (d_v, n_demo) array_like, optional
        Default: the values of the demonstrations.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If `lookup` or `model` is none.
    ValueError
        If an option is out of its range, targets have the wrong shape, or the kernel overflows.

    Notes
    -----
    ``L(W) = -(1/(eta D)) sum_i <v_i, W phi(y_i)> + (alpha/(2 eta)) |W|^2``. D is that of the query,
    a constant of the loss.

    References
    ----------
    Ren and Liu 2024; the form of the loss is recalled, what follows from it derived here.
    """
    rate = scalar("learning_rate", learning_rate, open_=True)
    ridge = scalar("ridge", ridge, low=-np.inf)
    targets, model = _targets(lookup, targets), _checked("model", model)
    log_scale = model.log_scale - attend(lookup).log_normaliser
    fitted = model._replace(log_scale=log_scale)(lookup.keys[:, : lookup.n_demo])
    decay = 0.5 * ridge * inner(model, model) if ridge else 0.0
    return float(decay - np.sum(targets * fitted)) / rate


@border
def dual_gradient(
    lookup: Lookup,
    model: DualModel,
    *,
    learning_rate: float = 1.0,
    ridge: float = 0.0,
    targets: ArrayLike | None = None,
) -> DualModel:
    """Return the gradient of `dual_loss` at a model, itself a function of the space.

    Parameters
    ----------
    lookup, model, learning_rate, ridge, targets
        As for `dual_loss`.

    Returns
    -------
    DualModel
        ``-(1/(eta D)) sum_i v_i phi(y_i)^T + (alpha/eta) W``.

    Raises
    ------
    ValueError
        If an option is out of its range, targets have the wrong shape, or a coefficient overflows.

    References
    ----------
    Derived here.
    """
    rate = scalar("learning_rate", learning_rate, open_=True)
    ridge = scalar("ridge", ridge, low=-np.inf)
    targets, model = _targets(lookup, targets), _checked("model", model)
    log_scale = -attend(lookup).log_normaliser
    with np.errstate(over="ignore", invalid="ignore"):
        shrunk = ridge / rate * np.exp(model.log_scale - log_scale) * model.coefficients
        pull = targets / -rate
    keys = np.concatenate([lookup.keys[:, : lookup.n_demo], model.keys], axis=1)
    return _finite(DualModel(keys, np.concatenate([pull, shrunk], axis=1), log_scale))


@border
def descend(model: DualModel, gradient: DualModel, *, learning_rate: float = 1.0) -> DualModel:
    """Return the model after one gradient step, ``W - eta G``.

    Parameters
    ----------
    model, gradient : DualModel
    learning_rate : float
        eta, > 0.

    Returns
    -------
    DualModel
        Its keys are those of both.
    """
    rate = scalar("learning_rate", learning_rate, open_=True)
    model, gradient = _checked("model", model), _checked("gradient", gradient)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = -rate * np.exp(gradient.log_scale - model.log_scale) * gradient.coefficients
    return _finite(
        DualModel(
            np.concatenate([model.keys, gradient.keys], axis=1),
            np.concatenate([model.coefficients, moved], axis=1),
            model.log_scale,
        )
    )


def _finite(model: DualModel) -> DualModel:
    if not np.isfinite(model.coefficients).all():
        raise ValueError(
            "coefficients must be finite, got an overflow; bring learning_rate, ridge and W_V "
            "closer to 1"
        )
    return model


def _checked(name: str, model: DualModel) -> DualModel:
    return instance(name, model, DualModel, "make one with zero_shot_model")


@border(weight="negative_weight", ratio="negative_ratio")
def dual_output(
    demo: ArrayLike,
    query: ArrayLike,
    W_Q: ArrayLike,
    W_K: ArrayLike,
    W_V: ArrayLike,
    *,
    ridge: float = 0.0,
    negative_weight: float = 0.0,
    negative_ratio: float = 0.0,
    value_view: View | None = None,
    key_view: View | None = None,
    learning_rate: float = 1.0,
) -> Floats:
    """Return the dual model's output for the last query token after one gradient step.

    Parameters
    ----------
    demo : (d, N) array_like
        Demonstration tokens, one per column.
    query : (d, T) or (d,) array_like
        Query tokens; the last one asks, and all are keys, too.
    W_Q, W_K : (d_k, d) array_like
    W_V : (d_v, d) array_like
    ridge : float
        Weight alpha of the squared norm in the loss; any finite number.
    negative_weight : float
        Weight beta of the negative samples, >= 0.
    negative_ratio : float
        Share r of the demonstrations that serve as negative samples, those with the lowest scores;
        in (0, 1] if the weight is not zero.
    value_view, key_view : callable, optional
        Views g_1 of the (d_v, n) values and g_2 of the (d_k, n) keys, of the same shape.
    learning_rate : float
        eta, > 0. It cancels.

    Returns
    -------
    (d_v,) array
        With the default options, the output of softmax attention.

    Raises
    ------
    TypeError
        If an entry is not a real number or a view is not callable.
    ValueError
        If shapes do not fit together, an entry is not finite or an option is out of its range.

    Notes
    -----
    The loss is that of `dual_loss`, with targets ``v_i - beta mean_N(v)``; the start is W_0 of
    `zero_shot_model`. One step gives
    ``h = sum_T (1 - alpha) a_t v_t + sum_D a_i (v_i - beta mean_N(v))``.

    References
    ----------
    The main theorem and the three modifications of Ren and Liu 2024, whose form is recalled;
    derived and checked here.

    Examples
    --------
    >>> tokens = [[1, 0], [0, 1]], [0, 0]
    >>> dual_output(*tokens, [[1, 0]], [[0, 2]], [[3, 9]])
    array([4.])
    >>> dual_output(*tokens, [[1, 0]], [[0, 2]], [[3, 9]], negative_weight=1, negative_ratio=0.5)
    array([2.])
    """
    lookup = look_up(demo, query, W_Q, W_K, W_V, value_view=value_view, key_view=key_view)
    targets = contrasted(lookup, weight=negative_weight, ratio=negative_ratio)
    start = zero_shot_model(lookup)
    gradient = dual_gradient(
        lookup, start, learning_rate=learning_rate, ridge=ridge, targets=targets
    )
    return descend(start, gradient, learning_rate=learning_rate)(lookup.query)


@border(negative_weight="weight", negative_ratio="ratio")
def contrasted(lookup: Lookup, *, weight: float, ratio: float) -> Floats:
    """Return the demonstrations' targets less a multiple of the mean negative sample.

    Parameters
    ----------
    lookup : Lookup
    weight : float
        beta, >= 0; zero leaves the values alone.
    ratio : float
        Share of the demonstrations that are negative samples; see `negative_samples`.

    Returns
    -------
    (d_v, n_demo) array
        ``v_i - beta mean_{j in N}(v_j)``, with one set N for all i.

    References
    ----------
    Ren and Liu 2024; which samples are negative is recalled, not read.
    """
    values = _targets(lookup, None)
    weight, ratio = scalar("negative_weight", weight), scalar("negative_ratio", ratio)
    if weight == 0:
        return values
    chosen = values[:, negative_samples(lookup, ratio)]
    with np.errstate(over="ignore", invalid="ignore"):
        targets = values - weight * chosen.mean(axis=1, keepdims=True)
    if not np.isfinite(targets).all():
        raise ValueError("negative_weight times the values must be finite, got an overflow")
    return np.asarray(targets)


@border(negative_ratio="ratio")
def negative_samples(lookup: Lookup, ratio: float) -> NDArray[np.intp]:
    """Return the indices of the demonstrations with the lowest scores, in ascending order.

    Parameters
    ----------
    lookup : Lookup
    ratio : float
        Their share r, in (0, 1]: ``max(1, round(r N))`` of them. Of equal scores the earlier
        token is taken.

    Returns
    -------
    array of int

    Raises
    ------
    ValueError
        If the ratio is out of its range.
    """
    ratio = scalar("negative_ratio", ratio)
    if not 0 < ratio <= 1:
        raise ValueError(
            f"negative_ratio must be in (0, 1] with negative samples, got {ratio}; "
            "for none set negative_weight=0"
        )
    order = np.argsort(scores_of(lookup)[: lookup.n_demo], kind="stable")
    return np.sort(order[: max(1, round(ratio * lookup.n_demo))])


@border
def token_by_token(
    demo: ArrayLike, query: ArrayLike, W_Q: ArrayLike, W_K: ArrayLike, W_V: ArrayLike
) -> Floats:
    """Return the distance to the attention output after 0, 1, ..., N demonstrations.

    Parameters
    ----------
    demo, query, W_Q, W_K, W_V : array_like
        As for `dual_output`.

    Returns
    -------
    (N + 1,) array
        ``|f_t(x) - h|`` when the dual model has taken one step for each of the first t
        demonstrations. The last entry is 0.

    Raises
    ------
    TypeError, ValueError
        As for `dual_output`.

    Notes
    -----
    ``f_t(x) - h = -sum_{i>t} a_i v_i``: one cumulative sum gives the whole curve.

    References
    ----------
    After a figure of Ren and Liu 2024, of which only the caption was seen; derived here.

    Examples
    --------
    >>> token_by_token([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 9]])
    array([4., 3., 0.])
    """
    lookup = look_up(demo, query, W_Q, W_K, W_V)
    shares = (lookup.values * attend(lookup).weights)[:, : lookup.n_demo]
    missing = np.cumsum(shares[:, ::-1], axis=1)[:, ::-1]
    largest = np.abs(missing).max(axis=0)  # squares of long values would overflow
    unit = missing / np.where(largest > 0, largest, 1.0)
    return np.append(largest * np.linalg.norm(unit, axis=0), 0.0)


@border
def inner(first: DualModel, second: DualModel) -> float:
    """Return the Hilbert-Schmidt inner product of the weights of two models.

    Parameters
    ----------
    first, second : DualModel
        Of one space: keys of one length, coefficients of one length.

    Returns
    -------
    float
        ``<W, W'> = sum_ij <c_i, c'_j> exp(<y_i, y'_j>)``, without forming a feature.

    Raises
    ------
    ValueError
        If the lengths differ or the kernel overflows.

    References
    ----------
    Derived here.
    """
    first, second = _checked("first", first), _checked("second", second)
    pairs = [(first.keys, second.keys), (first.coefficients, second.coefficients)]
    if any(len(a) != len(b) for a, b in pairs):
        raise ValueError("both models must have keys of one length and outputs of one length")
    kernel = _kernel(first.keys, second.keys, first.log_scale + second.log_scale)
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.sum((first.coefficients.T @ second.coefficients) * kernel)
    if not np.isfinite(product):
        raise ValueError("the inner product must be finite, got an overflow; scale W_V down")
    return float(product)


@border
def leave_one_out(lookup: Lookup) -> Floats:
    """Return the attention outputs without each demonstration in turn.

    Parameters
    ----------
    lookup : Lookup

    Returns
    -------
    (d_v, n_demo) array
        Column i is the output when demonstration i is not in the prompt.

    Notes
    -----
    ``h_{-i} = (h - a_i v_i)/(1 - a_i)``; where ``a_i > 1/2``, of which there is one at most, the
    formula cancels and the output is computed anew.

    References
    ----------
    New here.

    Examples
    --------
    >>> leave_one_out(look_up([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 9]]))
    array([[4.5, 1.5]])
    """
    found = attend(lookup)
    weights = found.weights[: lookup.n_demo]
    contributions = weights * lookup.values[:, : lookup.n_demo]
    heavy = weights > _HEAVY
    left = (found.output[:, None] - contributions) / np.where(heavy, 1.0, 1.0 - weights)
    for index in np.flatnonzero(heavy):
        others = np.delete(scores_of(lookup), index)
        left[:, index] = np.delete(lookup.values, index, axis=1) @ softmax(others)
    return left


def _targets(lookup: Lookup, targets: ArrayLike | None) -> Floats:
    values = checked_lookup(lookup).values[:, : lookup.n_demo]
    if targets is None:
        return values
    targets = finite_array("targets", targets, ndim=2)
    if targets.shape != values.shape:
        raise ValueError(f"targets must have shape {values.shape}, got {targets.shape}")
    return targets
