"""What heads can do whose weights do not look at the labels: linear attention and others.

For the page on the modifications, as the theory beside its trained heads. If the weights of a
prompt depend on the inputs alone, then the average over tasks has a closed form, and so has the
best read-out. For linear attention the average over inputs has one, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from iclkit._checks import border, count, finite_array, instance
from iclkit.papers.dual_kernel.tokens import CubeRegression

__all__ = [
    "BlindHead",
    "BlindTask",
    "LabelMoments",
    "best_linear_attention_loss",
    "best_readout",
    "best_scale",
    "blind_task",
    "centred_attention_loss",
    "label_kernel",
    "label_moments",
]

Floats = NDArray[np.float64]
Weigh = Callable[[Floats], Floats]

_KURTOSIS = 1.8  # fourth moment of U(-1, 1) over its squared variance
_INPUT_VAR = 1 / 3
_NODES = 48  # of Gauss and Legendre; the integrands are entire functions
_SCALES = np.geomspace(0.02, 8.0, 13)  # where the search for a scale starts


class LabelMoments(NamedTuple):
    """Averages of a label over inputs and tasks.

    Attributes
    ----------
    mean : float
    square : float
        Second moment, ``E y^2``.
    """

    mean: float
    square: float

    @property
    def variance(self) -> float:
        """``E y^2 - (E y)^2``, by which losses are divided."""
        return self.square - self.mean**2


class BlindTask(NamedTuple):
    """What is needed of prompts to judge heads whose weights do not look at the labels.

    Attributes
    ----------
    kernel : (batch, n, n) array
        Averages ``E_w y_i y_j`` over tasks, the query's label last.
    scores : (batch, n) array
        Inner products of the query's input with all inputs, its own last.
    variance : float
        Variance of a label.
    """

    kernel: Floats
    scores: Floats
    variance: float


class BlindHead(NamedTuple):
    """The best of a family of heads.

    Attributes
    ----------
    loss : float
        Mean squared error over the variance of the labels.
    stderr : float
        Its standard error over contexts; the average over tasks is exact.
    readout : (heads,) array
        Factors of the heads' outputs.
    errors : (batch,) array
        Its mean squared error over tasks for each context, over the variance of the labels.
    scale : float
        Factor of the scores, NaN where none was sought.
    """

    loss: float
    stderr: float
    readout: Floats
    errors: Floats
    scale: float = math.nan


# ------------------------------------------------------------------------- closed forms


@border(dim="d")
def best_linear_attention_loss(d: int, n_context: int, *, link: str = "linear") -> float:
    """Return the least loss of one layer of linear attention on prompts from a cube.

    Parameters
    ----------
    d : int
        Dimension of an input, >= 1.
    n_context : int
        Labelled examples N in a prompt, >= 1.
    link : {"linear", "sin", "cos", "exp"}
        As in `CubeRegression`.

    Returns
    -------
    float
        Mean squared error over the variance of the labels. It exceeds 1 where the labels have a
        mean, which linear attention cannot answer with.

    Raises
    ------
    TypeError
        If `d` or `n_context` is not an integer.
    ValueError
        If one of them is smaller than 1, or `link` is unknown.

    Notes
    -----
    The best layer answers ``c x^T sum_i y_i x_i``. With ``K1 = E <x, x'> y y'`` and
    ``K2 = E |x|^2 y^2`` the least error is ``E y^2 - 3 N K1^2 / (K2 + (N - 1) K1)``; on linear
    tasks the loss is ``(5 d - 1) / (5 N + 5 d - 1)``.

    All other terms of the layer are uncorrelated with the label and with this one, because
    ``(x, w) -> (-x, -w)`` leaves the labels alone. That the best matrix between x and the sum is
    a multiple of the identity follows from convexity and from the symmetry of the cube.

    References
    ----------
    New here; a control for the experiments of Ren and Liu 2024.

    Examples
    --------
    >>> round(best_linear_attention_loss(10, 15), 10), 49 / 124
    (0.3951612903, 0.3951612903225806)
    """
    law, n_context = CubeRegression(d, link), count("n_context", n_context)
    cross, square = _input_moments(law)
    moments = label_moments(law)
    explained = n_context * cross**2 / (square + (n_context - 1) * cross) / _INPUT_VAR
    return (moments.square - explained) / moments.variance


@border
def centred_attention_loss(d: int, n_context: int) -> float:
    """Return the least loss on linear tasks of linear attention that subtracts the means.

    Parameters
    ----------
    d : int
        Dimension of an input, >= 1.
    n_context : int
        Labelled examples N in a prompt, >= 2.

    Returns
    -------
    float
        Mean squared error over the variance of the labels.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If `d` is smaller than 1 or `n_context` smaller than 2.

    Notes
    -----
    The layer answers ``c x^T sum_i (y_i - mean(y)) x_i``. The loss is
    ``1 - (N - 1) / (N + d - 1.2 (N - 1)/N)``. It is the limit of softmax attention with negative
    samples, beta = r = 1, for small scores and large values, on linear tasks.

    References
    ----------
    New here.

    Examples
    --------
    >>> round(centred_attention_loss(10, 15), 6)
    0.413735
    """
    d, n = count("d", d), count("n_context", n_context, low=2)
    return 1 - (n - 1) / (n + d + (_KURTOSIS - 3) * (n - 1) / n)


@border
def label_moments(law: CubeRegression) -> LabelMoments:
    """Return mean and second moment of a label.

    Parameters
    ----------
    law : CubeRegression

    Returns
    -------
    LabelMoments

    Raises
    ------
    TypeError
        If `law` is no `CubeRegression`.

    Notes
    -----
    Given x a signal is ``N(0, |x|^2)``, so both are means of exponentials of ``|x|^2``, products
    of one-dimensional integrals.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> label_moments(CubeRegression(9)).variance
    3.0
    """
    d, link = _checked(law).dim, law.link
    if link == "linear":
        return LabelMoments(0.0, d * _INPUT_VAR)
    a, weight = _nodes()
    rate = 0.375 / d if link == "exp" else -0.5  # E_w y = exp(rate |x|^2), but for the sine
    mean = 0.0 if link == "sin" else float(weight @ np.exp(rate * a**2)) ** d
    square = sum(factor * float(weight @ f(a, a)) ** d for factor, f in _factors(law))
    return LabelMoments(mean, square)


@border
def label_kernel(law: CubeRegression, x: ArrayLike, z: ArrayLike) -> Floats:
    """Return the average product of the labels of two inputs over all tasks.

    Parameters
    ----------
    law : CubeRegression
    x, z : (..., dim) array_like
        Inputs; leading axes broadcast.

    Returns
    -------
    (...) array
        ``E_w g(<w, x>) g(<w, z>)`` for ``w ~ N(0, I)``.

    Raises
    ------
    TypeError
        If `law` is no `CubeRegression` or an entry is not a real number.
    ValueError
        If the inputs do not have the law's dimension.

    Notes
    -----
    ``<x, z>``; ``exp(-(|x|^2 + |z|^2)/2)`` times the hyperbolic sine (sine) or cosine (cosine) of
    ``<x, z>``; or ``exp(3 |x + z|^2 / (8 dim))`` (exponential).

    References
    ----------
    Derived here.

    Examples
    --------
    >>> label_kernel(CubeRegression(2), [1, 2], [[3, 4], [0, 1]])
    array([11.,  2.])
    """
    law = _checked(law)
    x, z = (finite_array(name, a, ndim=None) for name, a in {"x": x, "z": z}.items())
    if not x.ndim or not z.ndim or {x.shape[-1], z.shape[-1]} != {law.dim}:
        raise ValueError(
            f"x and z must have the law's dimension {law.dim}, got shapes {x.shape}, {z.shape}"
        )
    return _kernel(law, (x * z).sum(axis=-1), (x**2).sum(axis=-1) + (z**2).sum(axis=-1))


def _kernel(law: CubeRegression, product: Floats, squares: Floats) -> Floats:
    """Return `label_kernel` from ``<x, z>`` and ``|x|^2 + |z|^2``."""
    if law.link == "linear":
        return np.asarray(product)
    together = squares + 2 * product
    if law.link == "exp":
        return np.asarray(np.exp(0.375 / law.dim * together))
    sign = -1 if law.link == "sin" else 1
    return np.asarray(0.5 * (np.exp(product - squares / 2) + sign * np.exp(-together / 2)))


# ------------------------------------------------------------------------- families of heads


@border
def blind_task(law: CubeRegression, x: ArrayLike, x_query: ArrayLike) -> BlindTask:
    """Return what is needed of prompts to judge heads whose weights do not look at the labels.

    Parameters
    ----------
    law : CubeRegression
    x : (batch, n_context, dim) array_like
        Inputs of the contexts.
    x_query : (batch, dim) array_like

    Returns
    -------
    BlindTask
        With ``n = n_context + 1``.

    Raises
    ------
    TypeError
        If `law` is no `CubeRegression` or an entry is not a real number.
    ValueError
        If shapes do not fit together.

    References
    ----------
    New here.
    """
    x, x_query = finite_array("x", x, ndim=3), finite_array("x_query", x_query, ndim=2)
    if len(x) != len(x_query):
        raise ValueError(f"x and x_query must have one batch, got {len(x)} and {len(x_query)}")
    if x.shape[2] != x_query.shape[1]:
        raise ValueError(
            f"x and x_query must have one dimension, got shapes {x.shape}, {x_query.shape}"
        )
    inputs = np.concatenate([x, x_query[:, None]], axis=1)
    if inputs.shape[2] != _checked(law).dim:
        raise ValueError(f"x must have the law's dimension {law.dim}, got shape {x.shape}")
    products = inputs @ inputs.mT
    norms = np.einsum("bii->bi", products)
    kernel = _kernel(law, products, norms[:, :, None] + norms[:, None])
    return BlindTask(kernel, products[:, -1], label_moments(law).variance)


@border
def best_readout(task: BlindTask, weights: ArrayLike) -> BlindHead:
    """Return the best linear combination of heads with given weights, and its loss.

    Parameters
    ----------
    task : BlindTask
        Of n tokens with the query.
    weights : (batch, n - 1) or (batch, heads, n - 1) array_like
        Weights that the heads give to the labels of the context; they may be negative.

    Returns
    -------
    BlindHead

    Raises
    ------
    TypeError
        If an entry is not a real number.
    ValueError
        If the weights do not fit the task.

    Notes
    -----
    The answer ``rho . A y`` has, averaged over tasks, the error
    ``k(x, x) - 2 rho . A k + rho^T A K A^T rho``: quadratic in rho. Of several best rho, as for
    heads with equal weights, the shortest is returned.

    References
    ----------
    New here.

    Examples
    --------
    One example, at the query itself: the label is copied.

    >>> task = blind_task(CubeRegression(2), [[[1, 1]]], [[1, 1]])
    >>> head = best_readout(task, [[0.5]])
    >>> head.loss, head.readout
    (0.0, array([2.]))
    """
    weights = finite_array("weights", weights, ndim=None)
    weights = weights[:, None] if weights.ndim == 2 else finite_array("weights", weights, ndim=3)
    batch, n = instance("task", task, BlindTask, "make one with blind_task").scores.shape
    if (len(weights), weights.shape[2]) != (batch, n - 1):
        raise ValueError(
            f"weights must be for {batch} prompts of {n - 1} labels, got shape {weights.shape}"
        )
    products = weights @ task.kernel[:, :-1, :-1] @ weights.mT  # (b, heads, heads)
    match = (weights @ task.kernel[:, :-1, -1:])[..., 0]  # (b, heads)
    # heads may be alike, or zero: then the smallest of the best read-outs
    readout = np.linalg.lstsq(products.mean(axis=0), match.mean(axis=0), rcond=None)[0]
    errors = task.kernel[:, -1, -1] - 2 * match @ readout + (products @ readout) @ readout
    errors = errors / task.variance
    stderr = errors.std(ddof=1) / math.sqrt(batch) if batch > 1 else math.nan
    return BlindHead(float(errors.mean()), float(stderr), readout, errors)


@border(weights="weigh")
def best_scale(task: BlindTask, weigh: Weigh, *, sign: int = 1) -> BlindHead:
    """Return the best head whose scores are a multiple of the inner products of the inputs.

    Parameters
    ----------
    task : BlindTask
    weigh : callable
        From scores (batch, n), the query's own last, to weights of the labels as for
        `best_readout`.
    sign : {1, -1}
        Whether the query attends to similar inputs or to dissimilar ones.

    Returns
    -------
    BlindHead
        Its scale is at least 0.01 and at most 16 in size; a limit of small scores is cut there.

    Raises
    ------
    ValueError
        If `sign` is neither 1 nor -1, or `weigh` returns the wrong shape.

    Notes
    -----
    One number is searched for, from a grid and then by Brent's method; the read-out is exact.
    A trained head has a matrix in place of the number, and may look at the labels.

    References
    ----------
    New here.
    """
    sign = count("sign", sign, low=-1, high=1)
    if sign == 0:
        raise ValueError("sign must be 1 or -1, got 0")
    if not callable(weigh):
        raise TypeError(f"weigh must be a function, got {type(weigh).__name__}")
    instance("task", task, BlindTask, "make one with blind_task")

    def head(log_scale: float) -> BlindHead:
        scale = sign * math.exp(log_scale)
        return best_readout(task, weigh(scale * task.scores))._replace(scale=scale)

    logs = np.log(_SCALES)
    best = logs[np.argmin([head(log).loss for log in logs])]
    near = (best - math.log(2), best + math.log(2))
    found = minimize_scalar(lambda log: head(log).loss, bounds=near, method="bounded")
    return head(float(found.x))


# ------------------------------------------------------------------------- averages over the cube


def _checked(law: CubeRegression) -> CubeRegression:
    if not isinstance(law, CubeRegression):
        raise TypeError(f"law must be a CubeRegression, got {type(law).__name__}")
    return law


def _nodes() -> tuple[Floats, Floats]:
    """Return nodes and probabilities that stand for U(-1, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights / 2


def _factors(law: CubeRegression) -> list[tuple[float, Callable[[Floats, Floats], Floats]]]:
    """Return the kernel of the labels as a sum of factors times products over coordinates."""
    if law.link == "exp":
        return [(1.0, lambda a, b: np.exp(0.375 / law.dim * (a + b) ** 2))]
    sign = -1.0 if law.link == "sin" else 1.0
    together = (0.5 * sign, lambda a, b: np.exp(-((a + b) ** 2) / 2))
    return [(0.5, lambda a, b: np.exp(-((a - b) ** 2) / 2)), together]


def _input_moments(law: CubeRegression) -> tuple[float, float]:
    """Return ``E <x, x'> y y'`` and ``E |x|^2 y^2``."""
    d = law.dim
    if law.link == "linear":
        return d * _INPUT_VAR**2, d * (d - 1 + _KURTOSIS) * _INPUT_VAR**2
    a, weight = _nodes()
    terms = [_moment_terms(f, d, a, weight) for _, f in _factors(law)]
    factors = [factor for factor, _ in _factors(law)]
    cross, square = d * np.asarray(factors) @ np.asarray(terms)
    return float(cross), float(square)


def _moment_terms(
    f: Callable[[Floats, Floats], Floats], d: int, a: Floats, weight: Floats
) -> tuple[float, float]:
    """Return one coordinate's share of both moments for a product over d coordinates."""
    both, one, first = f(a[:, None], a), f(a, a), weight * a
    cross = (weight @ both @ weight) ** (d - 1) * (first @ both @ first)
    square = (weight @ one) ** (d - 1) * ((first * a) @ one)
    return float(cross), float(square)
