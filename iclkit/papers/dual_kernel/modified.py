"""The three modified attention layers in closed form: signed weights on the same values.

For the page on the modifications. A changed dual loss changes one gradient step, and with it the
layer. Weight decay and negative samples leave keys and values alone and change their weights,
which may then be negative and need not sum to one; nonlinear views (the options of `look_up`)
leave the weights' form alone and change keys and values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from iclkit._checks import border, count, finite_array, scalar
from iclkit.papers.dual_kernel.attention import Lookup, attend, checked_lookup, scores_of

__all__ = ["modified_output", "ridge_steps", "signed_weights"]

Floats = NDArray[np.float64]


@border
def signed_weights(
    scores: ArrayLike,
    n_demo: int,
    *,
    ridge: float = 0.0,
    negative_weight: float = 0.0,
    negative_ratio: float = 0.0,
    masked: bool = False,
) -> Floats:
    """Return the weights that a modified layer gives to the values of its tokens.

    Parameters
    ----------
    scores : (..., n) array_like
        Attention scores of one query or of many, demonstrations first, the query's own last.
    n_demo : int
        How many of the n tokens are demonstrations, 1 to n.
    ridge : float
        Weight alpha of the squared norm in the dual loss.
    negative_weight : float
        Weight beta of the negative samples, >= 0.
    negative_ratio : float
        Share r of the demonstrations with the lowest scores that are negative samples; in (0, 1]
        if the weight is not zero.
    masked : bool
        Whether the last token, which asks, is no key. Its weight is then 0.

    Returns
    -------
    (..., n) array
        The layer's output is the sum of the values times these weights.

    Raises
    ------
    TypeError
        If an entry or an option is not a real number.
    ValueError
        If an option is out of its range, or no token is left to attend to.

    Notes
    -----
    With the softmax weights a, their sum lambda over the demonstrations, and the set N of negative
    samples: ``(1 - alpha) a_t`` for a query token and
    ``a_i - beta lambda [i in N] / |N|`` for a demonstration. They sum to
    ``1 - alpha (1 - lambda) - beta lambda``.

    References
    ----------
    The form of the modifications of Ren and Liu 2024 is recalled; these weights are derived here.
    The mask is a control of ours.

    Examples
    --------
    >>> signed_weights([0, 0, 0, 0], 2, ridge=1)
    array([0.25, 0.25, 0.  , 0.  ])
    >>> signed_weights([1, 0, 0, 0], 2, negative_weight=1, negative_ratio=0.5).round(3)
    array([ 0.475, -0.475,  0.175,  0.175])
    """
    scores = finite_array("scores", scores, ndim=None)
    n_demo, masked = count("n_demo", n_demo), bool(masked)
    if scores.ndim == 0 or n_demo > scores.shape[-1] - masked:
        raise ValueError(
            f"n_demo must be at most the number of keys, got {n_demo} for scores of shape "
            f"{scores.shape}" + (" with the last masked" if masked else "")
        )
    weights = softmax(np.where(_last(scores) & masked, -np.inf, scores), axis=-1)
    negative = _negative_share(scores[..., :n_demo], negative_weight, negative_ratio)
    weights[..., n_demo:] *= 1 - scalar("ridge", ridge, low=-np.inf)
    weights[..., :n_demo] -= negative * weights[..., :n_demo].sum(axis=-1, keepdims=True)
    return weights


def _last(scores: Floats) -> NDArray[np.bool_]:
    """Return which of the tokens is the last, (n,)."""
    return np.arange(scores.shape[-1]) == scores.shape[-1] - 1


def _negative_share(scores: Floats, weight: float, ratio: float) -> Floats:
    """Return ``beta [i in N] / |N|`` for the lowest of the demonstrations' scores."""
    weight, ratio = scalar("negative_weight", weight), scalar("negative_ratio", ratio)
    share = np.zeros_like(scores)
    if weight == 0:
        return share
    if not 0 < ratio <= 1:
        raise ValueError(
            f"negative_ratio must be in (0, 1] with negative samples, got {ratio}; "
            "for none set negative_weight=0"
        )
    size = max(1, round(ratio * scores.shape[-1]))
    chosen = np.argsort(scores, axis=-1, kind="stable")[..., :size]
    np.put_along_axis(share, chosen, weight / size, axis=-1)
    return share


@border
def modified_output(
    lookup: Lookup,
    *,
    ridge: float = 0.0,
    negative_weight: float = 0.0,
    negative_ratio: float = 0.0,
    masked: bool = False,
) -> Floats:
    """Return the output of a modified attention layer for one query.

    Parameters
    ----------
    lookup : Lookup
        With views, if wanted: the options `value_view` and `key_view` of `look_up`.
    ridge, negative_weight, negative_ratio, masked
        As for `signed_weights`.

    Returns
    -------
    (d_v,) array

    Raises
    ------
    TypeError, ValueError
        As for `signed_weights`.

    Notes
    -----
    `dual_output` takes the gradient step; this is the layer that the step turns out to be.

    References
    ----------
    Ren and Liu 2024, in a form that is recalled; derived here.

    Examples
    --------
    >>> from iclkit.papers.dual_kernel import look_up
    >>> lookup = look_up([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 9]])
    >>> modified_output(lookup), modified_output(lookup, negative_weight=1, negative_ratio=1)
    (array([4.]), array([0.]))
    """
    return checked_lookup(lookup).values @ signed_weights(
        scores_of(lookup),
        lookup.n_demo,
        ridge=ridge,
        negative_weight=negative_weight,
        negative_ratio=negative_ratio,
        masked=masked,
    )


@border
def ridge_steps(lookup: Lookup, ridge: float, n_steps: int) -> Floats:
    """Return the output after several gradient steps of the dual model with weight decay.

    Parameters
    ----------
    lookup : Lookup
    ridge : float
        Weight alpha of the squared norm; any finite number.
    n_steps : int
        Number of steps t, >= 0.

    Returns
    -------
    (d_v,) array

    Raises
    ------
    ValueError
        If `n_steps` is negative, `ridge` is not finite, or the steps diverge beyond all numbers.

    Notes
    -----
    ``W_{t+1} = (1 - alpha) W_t + G`` with ``G = (1/D) sum_i v_i phi(y_i)^T`` of the demonstrations,
    so that ``W_t = (1 - alpha)^t W_0 + (1 + (1 - alpha) + ... + (1 - alpha)^(t-1)) G``: the
    zero-shot part is forgotten. For ``0 < alpha < 2`` the limit is ``G / alpha``.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.dual_kernel import look_up
    >>> lookup = look_up([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 9]])
    >>> ridge_steps(lookup, 0.5, 1), ridge_steps(lookup, 0.5, 60)
    (array([4.]), array([8.]))
    """
    ridge, n_steps = scalar("ridge", ridge, low=-np.inf), count("n_steps", n_steps, low=0)
    parts = checked_lookup(lookup).values * attend(lookup).weights
    zero_shot = parts[:, lookup.n_demo :].sum(axis=1)
    taught = parts[:, : lookup.n_demo].sum(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        powers = (1 - ridge) ** np.arange(n_steps + 1)
        output = powers[-1] * zero_shot + powers[:-1].sum() * taught
    if not np.isfinite(output).all():
        raise ValueError(
            f"ridge must be in [0, 2] for so many steps, got {ridge} and {n_steps}: they diverge"
        )
    return np.asarray(output)
