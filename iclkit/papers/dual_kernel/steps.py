"""More than one step of the dual model, for the chapter's page past the paper.

With the squared loss in place of the linear one, the first step from zero is still attention, and
further steps move on to kernel interpolation. Every number of steps is a *spectral filter* of the
kernel matrix of the keys: one eigendecomposition serves all of them, and ridge regression and the
gradient flow as well. Keys and queries are columns, scaled as in a `Lookup`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from iclkit._checks import border, finite_array, instance, scalar

__all__ = [
    "Spectrum",
    "StepPrice",
    "chebyshev_filter",
    "descent_filter",
    "direction_price",
    "equivalent_penalty",
    "filter_weights",
    "flow_filter",
    "kernel_spectrum",
    "linear_risk",
    "multi_step",
    "polynomial_price",
    "ridge_filter",
    "softmax_spectrum",
    "step_price",
    "step_weights",
    "stopping_bracket",
]

Floats = NDArray[np.float64]

_ROUNDING = 1e-9  # asymmetry and negative eigenvalues below this share of the largest are rounding
_SPREAD = 40.0  # of log normalisers: exp(20) times rounding leaves seven digits
_FAR = 1e6  # signal-to-noise ratio that stands for infinity: beyond it a price changes by 1e-6
_POINTS = 4_000  # of a logarithmic grid of signal-to-noise ratios
_RATES = 60  # of a logarithmic grid of step sizes, before its refinement


class Spectrum(NamedTuple):
    """The eigendecomposition on which all numbers of steps depend.

    Attributes
    ----------
    values : (n,) array
        Eigenvalues, smallest first, none of them negative.
    vectors : (n, n) array
        Eigenvectors as columns.
    scale : (n,) array
        Square roots of the normalisers of the keys, up to a common factor; ones without normaliser.

    Notes
    -----
    Of the kernel matrix K itself or, with the normalisers D on a diagonal, of
    ``D^{-1/2} K D^{-1/2}``, which has the eigenvalues of the softmax weights ``D^{-1} K``.
    """

    values: Floats
    vectors: Floats
    scale: Floats


class StepPrice(NamedTuple):
    """What stopping after some number of steps costs against the Bayes predictor, at worst.

    Attributes
    ----------
    price : float
        Largest ratio of risks over all signal-to-noise ratios up to the ceiling.
    rate : float
        The step size with that price, in units of 1/noise_var; for the flow, its time.
    """

    price: float
    rate: float


# ------------------------------------------------------------------ spectra


@border
def kernel_spectrum(gram: ArrayLike) -> Spectrum:
    """Return the eigendecomposition of a kernel matrix, for steps without normaliser.

    Parameters
    ----------
    gram : (n, n) array_like
        Kernel matrix of the keys, of any kernel; symmetric, positive semi-definite.

    Returns
    -------
    Spectrum

    Raises
    ------
    ValueError
        If the matrix is not square, not symmetric, zero, or has a negative eigenvalue.

    Examples
    --------
    >>> kernel_spectrum([[2, 0], [0, 1]]).values
    array([1., 2.])
    """
    gram = finite_array("gram", gram, ndim=2)
    if gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must be square, got shape {gram.shape}")
    size, skew = np.abs(gram).max(), np.abs(gram - gram.T).max()
    if skew > _ROUNDING * size:
        raise ValueError(f"gram must be symmetric, got entries that differ by {skew:.3g}")
    values, vectors = np.linalg.eigh(gram)
    if values[0] < -_ROUNDING * size or not values[-1] > 0:
        raise ValueError(
            f"gram must be positive semi-definite and not zero, got an eigenvalue {values[0]:.3g}"
        )
    return Spectrum(np.maximum(values, 0.0), vectors, np.ones(len(gram)))


@border
def softmax_spectrum(keys: ArrayLike) -> Spectrum:
    """Return the eigendecomposition of the softmax weights among keys.

    Parameters
    ----------
    keys : (d_k, n) array_like
        Scaled keys, one per column; each attends to all of them, itself included.

    Returns
    -------
    Spectrum
        Its eigenvalues lie in [0, 1], and the largest is 1; none is 0 if all keys differ.

    Raises
    ------
    ValueError
        If an entry is not finite, a score overflows, or the normalisers D differ by more than a
        factor of exp(40).

    Notes
    -----
    ``D^{-1} K`` with ``K_ij = exp(<y_i, y_j>)`` and ``D_i = sum_j K_ij`` has rows that sum to one
    and, being similar to ``D^{-1/2} K D^{-1/2}``, no eigenvalue below zero. Evaluated from the
    logarithms. What is computed from it has an error of rounding times ``(max D / min D)^{1/2}``.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> softmax_spectrum([[0, 1, 2]]).values.round(3)
    array([0.064, 0.381, 1.   ])
    """
    scores = _scores("keys", finite_array("keys", keys, ndim=2))
    half = 0.5 * logsumexp(scores, axis=1)
    if (spread := 2.0 * np.ptp(half)) > _SPREAD:
        raise ValueError(
            f"keys must have log normalisers within {_SPREAD:g} of each other, got {spread:.3g}; "
            "scale the keys down, or attend to the residuals step by step"
        )
    values, vectors = np.linalg.eigh(np.exp(scores - half[:, None] - half))
    return Spectrum(np.clip(values, 0.0, 1.0), vectors, np.exp(half - half.mean()))


def _scores(name: str, keys: Floats, queries: Floats | None = None) -> Floats:
    """Return the scores of queries (by default the keys) against keys, (n, n_queries)."""
    with np.errstate(over="ignore", invalid="ignore"):
        scores = keys.T @ (keys if queries is None else queries)
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} must have finite scores, got an overflow; scale them down")
    return scores


# ------------------------------------------------------------------ filters


@border
def descent_filter(
    values: ArrayLike, steps: ArrayLike, *, rate: float, decay: float = 0.0
) -> Floats:
    """Return the filters that gradient descent from zero applies after given numbers of steps.

    Parameters
    ----------
    values : (n,) array_like
        Eigenvalues of the kernel matrix, >= 0.
    steps : (n_steps,) or () array_like of int
        Numbers of steps, >= 0.
    rate : float
        Step size eta, > 0; for more than one step ``eta (lambda + decay) <= 2``, else some
        direction diverges.
    decay : float
        Weight of half the squared norm in the loss, >= 0.

    Returns
    -------
    (n_steps, n) array
        One filter per row; a single number of steps makes one row.

    Raises
    ------
    ValueError
        If a number of steps is negative or not whole, or the step size too large.

    Notes
    -----
    ``g(lambda) = (1 - (1 - eta (lambda + mu))^t)/(lambda + mu)``; at zero ``eta t``.

    References
    ----------
    Derived here; the filters of Landweber's iteration.

    Examples
    --------
    >>> descent_filter([0, 0.5, 1], [1, 2], rate=1.0)
    array([[1. , 1. , 1. ],
           [2. , 1.5, 1. ]])
    """
    values, steps = _values(values), _steps(steps)
    rate, decay = scalar("rate", rate, open_=True), scalar("decay", decay)
    loss = rate * (values + decay)
    if loss.max() > 2.0 + _ROUNDING and steps.max() > 1:
        limit = 2.0 / (values.max() + decay)
        raise ValueError(
            f"rate must be <= {limit:.6g} for these eigenvalues and this decay, got {rate}; "
            "beyond it steps diverge"
        )
    return rate * _geometric(loss, steps[:, None])


def _geometric(loss: Floats, steps: Floats) -> Floats:
    """Return ``(1 - (1 - loss)^steps)/loss``, the sum of a geometric series, without cancelling."""
    small = np.minimum(loss, 0.5)
    with np.errstate(divide="ignore", invalid="ignore"):
        gentle = -np.expm1(steps * np.log1p(-small)) / small
        steep = (1.0 - (1.0 - loss) ** steps) / loss
    return np.where(loss == 0, steps, np.where(loss <= 0.5, gentle, steep))


@border
def flow_filter(values: ArrayLike, times: ArrayLike) -> Floats:
    """Return the filters of the gradient flow from zero at given times.

    Parameters
    ----------
    values : (n,) array_like
        Eigenvalues of the kernel matrix, >= 0.
    times : (n_times,) or () array_like
        Times s, >= 0: the limit of ``t`` steps of size ``s/t``.

    Returns
    -------
    (n_times, n) array

    Notes
    -----
    ``g(lambda) = (1 - exp(-s lambda))/lambda``; at zero ``s``.

    Examples
    --------
    >>> flow_filter([0, 1], 2.0).round(4)
    array([[2.    , 0.8647]])
    """
    values, times = _values(values), _nonnegative("times", times)[:, None]
    safe = np.where(values > 0, values, 1.0)
    return np.where(values > 0, -np.expm1(-times * values) / safe, times)


@border
def ridge_filter(values: ArrayLike, penalties: ArrayLike) -> Floats:
    """Return the filters of kernel ridge regression with given penalties.

    Parameters
    ----------
    values : (n,) array_like
        Eigenvalues of the kernel matrix, >= 0.
    penalties : (n_penalties,) or () array_like
        Coefficients mu of the squared norm, >= 0; 0 interpolates, with filter 0 at zero.

    Returns
    -------
    (n_penalties, n) array

    Notes
    -----
    ``g(lambda) = 1/(lambda + mu)``.

    Examples
    --------
    >>> ridge_filter([0, 1], [0, 1])
    array([[0. , 1. ],
           [1. , 0.5]])
    """
    total = _values(values) + _nonnegative("penalties", penalties)[:, None]
    return np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)


@border(steps="n_steps")
def equivalent_penalty(values: ArrayLike, n_steps: int, *, rate: float) -> Floats:
    """Return, direction by direction, the ridge penalty that equals some number of steps.

    Parameters
    ----------
    values : (n,) array_like
        Eigenvalues lambda, >= 0.
    n_steps : int
        Number of steps t, >= 1.
    rate : float
        Step size eta, > 0, with ``eta lambda <= 1``.

    Returns
    -------
    (n,) array

    Raises
    ------
    ValueError
        If the step size is too large or an argument out of its range.

    Notes
    -----
    ``mu(lambda) = lambda (1 - eta lambda)^t / (1 - (1 - eta lambda)^t)``. It is ``1/(eta t)`` at
    zero and falls with lambda, to 0 at ``1/eta``: a number of steps is *no* ridge, it is a weaker
    one where the data speak louder.

    References
    ----------
    Derived here; known in another form, see Ali, Kolter and Tibshirani 2019.

    Examples
    --------
    >>> equivalent_penalty([0, 0.5, 1], 2, rate=1.0).round(4)
    array([0.5   , 0.1667, 0.    ])
    """
    values, rate = _values(values), scalar("rate", rate, open_=True)
    if values.max() * rate > 1.0 + _ROUNDING:
        raise ValueError(f"rate must be <= {1 / values.max():.6g}, got {rate}")
    shrink = descent_filter(values, _positive_steps(n_steps), rate=rate)[0]
    return (1.0 - np.minimum(values * shrink, 1.0)) / shrink


def _values(values: ArrayLike) -> Floats:
    values = finite_array("values", values, ndim=1)
    if values.min() < 0:
        raise ValueError(f"values must be >= 0, got {values.min():g}")
    return values


def _nonnegative(name: str, numbers: ArrayLike) -> Floats:
    """Return numbers >= 0 as one axis; a single one has length 1."""
    array = finite_array(name, numbers, ndim=None)
    array = finite_array(name, np.atleast_1d(array), ndim=1)
    if array.min() < 0:
        raise ValueError(f"{name} must be >= 0, got {array.min():g}")
    return array


def _steps(steps: ArrayLike) -> Floats:
    array = _nonnegative("steps", steps)
    if np.any(array != np.floor(array)):
        raise ValueError(f"steps must be whole numbers, got {array[array != np.floor(array)][0]:g}")
    return array


def _one_number(n_steps: float) -> Floats:
    return _steps(scalar("n_steps", n_steps, low=-np.inf))


def _positive_steps(n_steps: float) -> Floats:
    steps = _one_number(n_steps)
    if steps.min() < 1:
        raise ValueError(f"n_steps must be >= 1, got {steps.min():g}; no step predicts 0")
    return steps


# ------------------------------------------------------------------ what is predicted


@border
def filter_weights(spectrum: Spectrum, cross: ArrayLike, filters: ArrayLike) -> Floats:
    """Return the weights that filtered regression gives to the values.

    Parameters
    ----------
    spectrum : Spectrum
    cross : (n, n_queries) array_like
        Kernel between keys and queries; with `softmax_spectrum` the softmax weights of the queries.
    filters : (n_filters, n) array_like

    Returns
    -------
    (n_filters, n, n_queries) array
        The prediction is ``values @ weights``.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Notes
    -----
    ``S U g(Lambda) U^T S^{-1} k`` with the scale S of the spectrum.
    """
    cross, filters = finite_array("cross", cross, ndim=2), finite_array("filters", filters, ndim=2)
    n = len(instance("spectrum", spectrum, Spectrum, "make one with kernel_spectrum").values)
    if len(cross) != n or filters.shape[1] != n:
        raise ValueError(
            f"cross must have {n} rows and filters {n} columns, got {cross.shape} and "
            f"{filters.shape}"
        )
    turned = spectrum.vectors.T @ (cross / spectrum.scale[:, None])
    moved = filters[:, :, None] * turned  # (n_filters, n, n_queries)
    return np.asarray(spectrum.scale[:, None] * (spectrum.vectors @ moved), dtype=np.float64)


@border
def step_weights(
    keys: ArrayLike,
    queries: ArrayLike,
    steps: ArrayLike,
    *,
    normalised: bool = False,
    rate: float | None = None,
    decay: float = 0.0,
) -> Floats:
    """Return the weights that the dual model gives to the values after given numbers of steps.

    Parameters
    ----------
    keys : (d_k, n) array_like
        Scaled keys of the demonstrations.
    queries : (d_k, n_queries) array_like
        Scaled queries.
    steps : (n_steps,) or () array_like of int
    normalised : bool
        Whether the first step is softmax attention; without, it is attention without normaliser.
    rate : float, optional
        Step size. Default: one over the largest eigenvalue, which is 1 for `normalised`.
    decay : float
        Weight of half the squared norm in the loss, >= 0.

    Returns
    -------
    (n_steps, n, n_queries) array

    Raises
    ------
    ValueError
        If an argument is out of its range or the kernel overflows.

    Notes
    -----
    Without normaliser, coefficients ``c_{t+1} = c_t + eta (v - K c_t)`` and ``f = <c, k(q)>``. With
    it, ``b_{t+1} = b_t + eta (v - D^{-1} K b_t)`` and ``f = sum_i softmax_i(q) b_i``: each step is
    softmax attention to the residuals, and from the first step of size 1 on weights sum to one.

    References
    ----------
    Derived here; in statistics such an iteration is called twicing or boosting of a smoother.

    Examples
    --------
    >>> step_weights([[0, 1]], [[1]], [1, 2], normalised=True)[:, :, 0].round(4)
    array([[0.2689, 0.7311],
           [0.2068, 0.7932]])
    """
    arrays = {"keys": keys, "queries": queries}
    keys, queries = (finite_array(name, a, ndim=2) for name, a in arrays.items())
    if len(keys) != len(queries):
        raise ValueError(
            f"keys and queries must have one length, got shapes {keys.shape} and {queries.shape}"
        )
    decay, scores = scalar("decay", decay), _scores("queries", keys, queries)
    if normalised:
        spectrum, cross = softmax_spectrum(keys), softmax(scores, axis=0)
    else:
        spectrum, cross = kernel_spectrum(_kernel(_scores("keys", keys))), _kernel(scores)
    rate = 1.0 / (spectrum.values[-1] + decay) if rate is None else rate
    filters = descent_filter(spectrum.values, steps, rate=rate, decay=decay)
    return filter_weights(spectrum, cross, filters)


def _kernel(scores: Floats) -> Floats:
    with np.errstate(over="ignore"):
        kernel = np.exp(scores)
    if not np.isfinite(kernel).all():
        raise ValueError(
            "the kernel must be finite, got an overflow; scale keys and queries down, or take "
            "normalised=True"
        )
    return kernel


@border
def multi_step(
    keys: ArrayLike,
    values: ArrayLike,
    queries: ArrayLike,
    steps: ArrayLike,
    *,
    normalised: bool = False,
    rate: float | None = None,
    decay: float = 0.0,
) -> Floats:
    """Return what the dual model of the squared loss predicts after given numbers of steps.

    Parameters
    ----------
    keys : (d_k, n) array_like
        Scaled keys of the demonstrations.
    values : (d_v, n) array_like
    queries : (d_k, n_queries) array_like
        Scaled queries.
    steps : (n_steps,) or () array_like of int
    normalised, rate, decay
        As for `step_weights`.

    Returns
    -------
    (n_steps, d_v, n_queries) array

    Raises
    ------
    ValueError
        As for `step_weights`.

    References
    ----------
    Past the paper, which takes one step of a linear loss; derived here.

    Examples
    --------
    >>> multi_step([[0, 1]], [[0, 1]], [[1]], [1, 4, 64], normalised=True).ravel().round(3)
    array([0.731, 0.878, 1.   ])
    """
    keys, values = (finite_array(n, a, ndim=2) for n, a in (("keys", keys), ("values", values)))
    if keys.shape[1] != values.shape[1]:
        raise ValueError(
            f"keys and values must have as many columns, got {keys.shape} and {values.shape}"
        )
    weights = step_weights(keys, queries, steps, normalised=normalised, rate=rate, decay=decay)
    return np.asarray(values @ weights, dtype=np.float64)


# ------------------------------------------------------------------ what it costs


@border
def linear_risk(
    weights: ArrayLike, label_cov: ArrayLike, cross_cov: ArrayLike, query_var: ArrayLike
) -> Floats:
    """Return the exact risk of weighted sums of labels, over tasks and noise.

    Parameters
    ----------
    weights : (..., n, n_queries) array_like
    label_cov : (n, n) array_like
        Covariance C of the labels, noise included, given the inputs.
    cross_cov : (n, n_queries) array_like
        Covariances c of labels and targets.
    query_var : (n_queries,) array_like
        Variances of the targets.

    Returns
    -------
    (..., n_queries) array
        ``var - 2 <a, c> + a^T C a``.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Notes
    -----
    For a linear task ``w ~ N(0, I)``: ``C = X^T X + noise_var``, ``c = X^T x``, ``|x|^2``. The
    smallest risk, that of Bayes, has ``a = C^{-1} c``.

    Examples
    --------
    >>> linear_risk([[1.0], [0.0]], [[1, 0], [0, 2]], [[1], [0]], [3])
    array([2.])
    """
    weights = finite_array("weights", weights, ndim=None)
    matrices = {"label_cov": label_cov, "cross_cov": cross_cov}
    C, c = (finite_array(name, matrix, ndim=2) for name, matrix in matrices.items())
    var = finite_array("query_var", query_var, ndim=1)
    n, n_queries = c.shape
    if weights.shape[-2:] != (n, n_queries) or C.shape != (n, n) or var.shape != (n_queries,):
        raise ValueError(
            "weights, label_cov, cross_cov, query_var must have shapes (..., n, q), (n, n), (n, q) "
            f"and (q,), got {weights.shape}, {C.shape}, {c.shape} and {var.shape}"
        )
    return np.asarray(var + (weights * (C @ weights - 2.0 * c)).sum(axis=-2), dtype=np.float64)


@border
def direction_price(snr: ArrayLike, shrinkage: ArrayLike) -> Floats:
    """Return the risk of shrinking one direction over that of Bayes.

    Parameters
    ----------
    snr : array_like
        Signal-to-noise ratio ``u = lambda/noise_var`` of the direction, > 0.
    shrinkage : array_like
        ``h = lambda g(lambda)``, the share of the label that the filter keeps.

    Returns
    -------
    array
        ``(1 + u) ((1 - h)^2 + h^2/u) = 1 + (1 - (1 + u)(1 - h))^2/u``, at least 1, and 1 for
        ``h = u/(1 + u)``.

    Raises
    ------
    ValueError
        If a ratio is not positive.

    References
    ----------
    Derived here, and proved in the chapter; the split into bias and variance is classical.

    Examples
    --------
    >>> direction_price([0.5, 1, 2], [0.5, 1, 2])  # one step of size 1/noise_var: 1 + u^3
    array([1.125, 2.   , 9.   ])
    """
    u, h = finite_array("snr", snr, ndim=None), finite_array("shrinkage", shrinkage, ndim=None)
    if u.min() <= 0:
        raise ValueError(f"snr must be > 0, got {u.min():g}")
    try:
        u, h = np.broadcast_arrays(u, h)
    except ValueError:
        raise ValueError(
            f"snr and shrinkage must have one shape, got {u.shape} and {h.shape}"
        ) from None
    return (1.0 + u) * ((1.0 - h) ** 2 + h * h / u)


@border
def step_price(
    n_steps: float = np.inf, ceiling: float = np.inf, *, decayed: bool = False
) -> StepPrice:
    """Return the price of stopping after some equal steps of the best size, for kernel tasks.

    Parameters
    ----------
    n_steps : int or inf
        Number of equal steps, >= 1; infinity stands for the flow, stopped at the best time.
    ceiling : float
        Largest signal-to-noise ratio ``lambda_max/noise_var``, > 0; infinity only for the flow.
    decayed : bool
        Whether the loss has the weight decay ``noise_var``, whose minimiser is Bayes.

    Returns
    -------
    StepPrice

    Raises
    ------
    ValueError
        If an argument is out of its range, or finitely many steps shall serve all ratios.

    Notes
    -----
    The least over the rate of the largest `direction_price` over ``0 < u <= ceiling``, with
    ``h = 1 - (1 - rate u)^n_steps``, ``h = 1 - exp(-rate u)`` for the flow, and with decay
    ``u/(1+u)`` times the same in ``1 + u``. Risks given the inputs are sums over directions, so
    that no prompt pays more. One step costs ``1 + U^3/(3U + 4)^2`` for the ceiling U. The maximum
    is over a grid of ratios, and low by some 1e-6 of itself at most.

    References
    ----------
    New here. For the flow at rate 1 the price is 1.2147, recalled from Ali, Kolter and
    Tibshirani 2019.

    Examples
    --------
    >>> round(step_price().price, 4), round(step_price(1, 1.0).price, 4)
    (1.0786, 1.0204)
    """
    endless = isinstance(n_steps, float) and n_steps == np.inf
    n_steps = np.inf if endless else _positive_steps(n_steps).item()
    unbounded = isinstance(ceiling, float) and ceiling == np.inf
    ceiling = _FAR if unbounded else scalar("ceiling", ceiling, open_=True)
    if ceiling > _FAR or (ceiling == _FAR and not endless):
        raise ValueError(
            f"ceiling must be < {_FAR:g}, or inf with n_steps=inf, got {ceiling:g}; no number of "
            "equal steps serves all ratios"
        )
    return _best_rate(_worst_price(n_steps, ceiling, decayed), n_steps, ceiling)


def _worst_price(n_steps: float, ceiling: float, decayed: bool) -> Callable[[float], float]:
    """Return the largest price over all ratios, as a function of the logarithm of the rate."""
    u = ceiling * np.geomspace(min(1e-6, 1e-3 / ceiling), 1.0, _POINTS)
    aim = u / (1.0 + u) if decayed else 1.0

    def worst(log_rate: float) -> float:
        learned = np.exp(log_rate) * (1.0 + u if decayed else u)
        left = np.exp(-learned) if n_steps == np.inf else (1.0 - learned) ** n_steps
        return float(direction_price(u, aim * (1.0 - left)).max())

    return worst


def _best_rate(worst: Callable[[float], float], n_steps: float, ceiling: float) -> StepPrice:
    endless = n_steps == np.inf
    low = 0.1 if endless else 0.1 / max(n_steps, 1.0 + ceiling)
    high = 2.0 if endless else min(2.0, 2.0 / ceiling)  # beyond it a direction diverges
    rates = np.linspace(np.log(low), np.log(high), _RATES)
    best = int(np.argmin([worst(rate) for rate in rates]))
    ends = rates[max(best - 1, 0)], rates[min(best + 1, _RATES - 1)]
    found = minimize_scalar(worst, bounds=ends, method="bounded", options={"xatol": 1e-9})
    return StepPrice(float(found.fun), float(np.exp(found.x)))


@border(steps="n_steps")
def polynomial_price(n_steps: int, ceiling: float) -> float:
    """Return the least price, in the worst direction, of any scheme of some steps.

    Parameters
    ----------
    n_steps : int
        Number of steps t, >= 0; each multiplies by the kernel matrix once.
    ceiling : float
        Largest signal-to-noise ratio ``U = lambda_max/noise_var``, > 0.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    ``coth((2t + 1) a)^2`` with ``coth(a)^2 = 1 + U``, the price of no step. Step sizes may differ,
    with momentum and decay, as long as they are fixed before the prompt is seen: then the filter is
    a polynomial of degree ``t - 1``, and `chebyshev_filter` is the best one. Conjugate gradients
    see the prompt first and are not covered. For large U the price is near ``1 + U/(2t + 1)^2``.
    Evaluated as ``1 + 1/sinh((2t + 1) arsinh(U^{-1/2}))^2``.

    References
    ----------
    New here; proved in the chapter.

    Examples
    --------
    >>> [round(polynomial_price(t, 8), 6) for t in (0, 1, 2, 3)]
    [9.0, 1.653061, 1.133195, 1.031744]
    """
    steps = float(_one_number(n_steps)[0])
    ceiling = scalar("ceiling", ceiling, open_=True)
    angle = (2.0 * steps + 1.0) * np.arcsinh(ceiling**-0.5)
    return float(1.0 + np.sinh(min(angle, 350.0)) ** -2.0)


@border(steps="n_steps")
def chebyshev_filter(
    values: ArrayLike, n_steps: int, *, noise_var: float, top: float | None = None
) -> Floats:
    """Return the filter of the best scheme of some steps, whose price is `polynomial_price`.

    Parameters
    ----------
    values : (n,) array_like
        Eigenvalues lambda of the kernel matrix, >= 0.
    n_steps : int
        Number of steps t, >= 0.
    noise_var : float
        Variance of the label noise, > 0.
    top : float, optional
        Largest eigenvalue that the scheme must serve. Default: the largest of `values`.

    Returns
    -------
    (n,) array

    Raises
    ------
    ValueError
        If an argument is out of its range, or an eigenvalue exceeds `top`.

    Notes
    -----
    With ``u = lambda/noise_var``, ``U = top/noise_var`` and ``S = sinh((2t+1) arsinh(U^{-1/2}))``,
    ``lambda g = (u - (-1)^t u^{1/2} T_{2t+1}((u/U)^{1/2})/S)/(1 + u)``: a polynomial of degree t
    in lambda, zero at 0.

    References
    ----------
    New here.

    Examples
    --------
    >>> chebyshev_filter([1, 2, 4], 1, noise_var=1.0)  # one step of size 4/(3U + 4)
    array([0.25, 0.25, 0.25])
    """
    values, order = _values(values), 2.0 * float(_one_number(n_steps)[0]) + 1.0
    noise_var = scalar("noise_var", noise_var, open_=True)
    top = scalar("top", float(values.max()) if top is None else top, open_=True)
    if values.max() > top * (1.0 + _ROUNDING):
        raise ValueError(f"top must be >= the largest of values, {values.max():.6g}, got {top}")
    angle = np.arcsin(np.minimum(np.sqrt(values / top), 1.0))
    height = np.sinh(min(order * np.arcsinh(np.sqrt(noise_var / top)), 350.0))
    # (-1)^t T_n(sin a) = sin(n a) for n = 2t + 1; near 0 both are n a
    wave = np.divide(np.sin(order * angle), np.sin(angle), where=angle > 0, out=order + 0 * angle)
    return (1.0 - wave * np.sqrt(noise_var / top) / height) / (values + noise_var)


@border
def stopping_bracket(
    values: ArrayLike, noise_var: float, *, rate: float | None = None
) -> tuple[int, int]:
    """Return two numbers of steps between which the best one lies, for tasks of the kernel.

    Parameters
    ----------
    values : (n,) array_like
        Eigenvalues of the kernel matrix, >= 0, not all zero.
    noise_var : float
        Variance of the label noise, > 0.
    rate : float, optional
        Step size, at most one over the largest eigenvalue, the default.

    Returns
    -------
    tuple of int
        The best number >= 1 is in between at every query: the risk falls up to the first and does
        not fall after the second.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Direction by direction the best real number of steps is
    ``log(1 + lambda/noise_var) / -log(1 - rate lambda)``. It falls with lambda, from
    ``1/(rate noise_var)`` at zero. The bracket holds the best of the directions at hand.

    References
    ----------
    New here; proved in the chapter.

    Examples
    --------
    >>> stopping_bracket([0.5, 1, 10], 0.5)
    (1, 14)
    """
    values, noise_var = _values(values), scalar("noise_var", noise_var, open_=True)
    largest = values.max()
    if not largest > 0:
        raise ValueError("values must not all be 0")
    rate = 1.0 / largest if rate is None else scalar("rate", rate, open_=True)
    if rate * largest > 1.0 + _ROUNDING:
        raise ValueError(f"rate must be <= {1 / largest:.6g}, got {rate}")
    seen = values[values > 0]
    with np.errstate(divide="ignore"):
        best = -np.log1p(seen / noise_var) / np.log1p(-np.minimum(rate * seen, 1.0))
    return max(int(np.floor(best.min())), 1), max(int(np.ceil(best.max())), 1)
