"""The MLP head with infinitely many neurons: ridge regression with a kernel in closed form.

For the page past the paper. Pre-activations of a wide layer are Gaussian over the neurons, before
the gradient step exactly and after it to a good approximation, so a wide head is a kernel of their
covariance. The step adds a term to that covariance and changes nothing else. Which part of the
term carries a signal is a matter of the link's first Hermite coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import factorial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from iclkit import hermite
from iclkit._checks import border, count, finite_array, instance, same_length, scalar
from iclkit.hermite import Function
from iclkit.papers.data_mixing.head import (
    feature_gram,
    norm_scale,
    positive_ridges,
    shifted_spectrum,
    squared_norms,
    stable_solve,
)
from iclkit.papers.data_mixing.sources import Contexts, magnitude, prompts

__all__ = [
    "KernelPath",
    "WideLayer",
    "gaussian_product",
    "gradient_signal",
    "information_exponent",
    "kernel_path",
    "wide_layer",
]

Floats = NDArray[Any]
Formula = Callable[[Floats, Floats, Floats], Floats]

_DEGREE = 40  # of the series in the correlation
_ACCURACY = 1e-10  # where the series may be further off, quadrature takes its place
_REACH = 9.0  # beyond it the normal density is below 1e-17
_NODES = 48
_BATCH = 512  # entries of quadrature at one time
_LARGEST = 1e100  # variance: products of two must not overflow
_FLAT = 1e-9  # size, relative to the link, below which a coefficient is zero by quadrature


# ------------------------------------------------------------------ means of products


@border
def gaussian_product(
    covariance: ArrayLike,
    left: ArrayLike,
    right: ArrayLike,
    *,
    activation: str | Function = "relu",
    slope: bool = False,
) -> Floats:
    """Return ``E sigma(u_i) sigma(v_j)`` for jointly normal variables of mean zero.

    Parameters
    ----------
    covariance : (n, m) array_like
        ``E u_i v_j``; what exceeds ``sqrt(left_i right_j)`` by rounding counts as that.
    left : (n,) array_like
        Variances of the ``u_i``, >= 0.
    right : (m,) array_like
        Variances of the ``v_j``, >= 0.
    activation : str or callable
        As in `iclkit.hermite.activation`; a callable must be smooth except perhaps at zero.
    slope : bool
        Take the derivative of the activation in its place; a callable must then be smooth.

    Returns
    -------
    (n, m) array

    Raises
    ------
    ValueError
        If shapes disagree, a variance is negative, or a covariance exceeds what the variances
        allow.
    TypeError, ValueError
        If the activation is not known.

    Notes
    -----
    Closed forms for ``relu``, ``abs``, ``erf`` and ``linear``; for relu, with correlation
    ``cos(phi)``, ``sqrt(left right) (sin(phi) + (pi - phi) cos(phi)) / (2 pi)``. Otherwise the
    series ``sum_j c_j(r) c_j(r') rho^j / j!`` of degree 40 in the correlation, and quadrature in
    two dimensions for those entries where the rest of the series may exceed 1e-10 of the result's
    scale.

    References
    ----------
    The relu formula is the arc-cosine kernel of Cho and Saul 2009, the erf formula is due to
    Williams 1997; the series is Mehler's.

    Examples
    --------
    >>> float(gaussian_product([[0.0]], [1.0], [4.0])[0, 0].round(6))  # independent: 1 * 2 / 2 pi
    0.31831
    >>> gaussian_product([[1.0]], [1.0], [1.0], activation="tanh").round(6)  # E tanh^2
    array([[0.394294]])
    """
    function = hermite.derivative(activation) if slope else hermite.checked(activation)
    variances = _variances(left, "left"), _variances(right, "right")
    cosine, left, right = _correlation(covariance, *variances)
    if isinstance(activation, str) and activation in _CLOSED:
        return _CLOSED[activation][bool(slope)](cosine, left, right)
    return _by_series(function, cosine, left, right)


def _variances(values: ArrayLike, name: str) -> Floats:
    checked = finite_array(name, values, ndim=1)
    if (checked < 0).any():
        raise ValueError(f"{name} must hold variances >= 0, got {checked.min():g}")
    if (checked > _LARGEST).any():
        raise ValueError(f"{name} must hold variances up to {_LARGEST:g}, got {checked.max():g}")
    return checked


def _correlation(
    covariance: ArrayLike, left: Floats, right: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return correlations (n, m) and standard deviations (n, 1), (1, m)."""
    matrix = finite_array("covariance", covariance, ndim=2)
    if matrix.shape != (len(left), len(right)):
        raise ValueError(
            f"covariance must be (n, m) = {(len(left), len(right))} for these variances, "
            f"got {matrix.shape}"
        )
    deviations = np.sqrt(left)[:, None], np.sqrt(right)[None, :]
    largest = deviations[0] * deviations[1]
    excess = np.abs(matrix) - largest * (1 + 1e-6)
    if (excess > 1e-12).any():
        raise ValueError("covariance must be at most the root of the variances' product")
    cosine = np.divide(matrix, largest, out=np.zeros_like(matrix), where=largest > 0)
    return np.clip(cosine, -1.0, 1.0), *deviations


def _relu_product(cosine: Floats, left: Floats, right: Floats) -> Floats:
    angle = np.arccos(cosine)
    return left * right * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)


def _relu_slopes(cosine: Floats, left: Floats, right: Floats) -> Floats:
    return (np.pi - np.arccos(cosine)) / (2 * np.pi) * ((left > 0) & (right > 0))


def _abs_product(cosine: Floats, left: Floats, right: Floats) -> Floats:
    angle = np.arcsin(cosine)
    return left * right * (np.cos(angle) + angle * cosine) * (2 / np.pi)


def _abs_slopes(cosine: Floats, left: Floats, right: Floats) -> Floats:
    return (2 / np.pi) * np.arcsin(cosine) * ((left > 0) & (right > 0))


def _erf_product(cosine: Floats, left: Floats, right: Floats) -> Floats:
    whole = np.sqrt((1 + 2 * left**2) * (1 + 2 * right**2))
    return (2 / np.pi) * np.arcsin(2 * left * right * cosine / whole)


def _erf_slopes(cosine: Floats, left: Floats, right: Floats) -> Floats:
    whole = (1 + 2 * left**2) * (1 + 2 * right**2) - (2 * left * right * cosine) ** 2
    return (4 / np.pi) / np.sqrt(whole)


def _linear_product(cosine: Floats, left: Floats, right: Floats) -> Floats:
    return left * right * cosine


def _linear_slopes(cosine: Floats, _left: Floats, _right: Floats) -> Floats:
    return np.ones_like(cosine)


_CLOSED: dict[str, tuple[Formula, Formula]] = {
    "relu": (_relu_product, _relu_slopes),
    "abs": (_abs_product, _abs_slopes),
    "erf": (_erf_product, _erf_slopes),
    "linear": (_linear_product, _linear_slopes),
}


def _by_series(function: Function, cosine: Floats, left: Floats, right: Floats) -> Floats:
    (first, first_rest), (second, second_rest) = (_expanded(function, s) for s in (left, right))
    total = np.zeros_like(cosine)
    for j in range(_DEGREE, -1, -1):  # Horner's rule, entry by entry
        total *= cosine
        total += np.outer(first[:, j], second[:, j])
    bound = np.abs(cosine) ** (_DEGREE + 1) * np.outer(first_rest, second_rest)
    scale = np.outer(*(np.linalg.norm(table, axis=1) for table in (first, second)))
    far = np.nonzero(bound > _ACCURACY * scale)
    total[far] = _by_quadrature(function, cosine[far], left[far[0], 0], right[0, far[1]])
    return total


def _expanded(function: Function, deviations: Floats) -> tuple[Floats, Floats]:
    """Return normalised coefficients (n, degree + 1) and the size of the rest (n,)."""
    root = np.sqrt([float(factorial(j)) for j in range(_DEGREE + 1)])
    scales = deviations.ravel()
    table = hermite.scaled_coefficients(function, scales, _DEGREE) / root
    return table, hermite.scaled_residual(function, scales, _DEGREE)


def _by_quadrature(function: Function, cosine: Floats, left: Floats, right: Floats) -> Floats:
    """Return ``E sigma(left u) sigma(right v)`` for pairs of a given correlation, (e,)."""
    out = np.empty(len(cosine))
    for rows in _stretches(len(out), _BATCH):
        out[rows] = _pairs(function, cosine[rows], left[rows], right[rows])
    return out


def _stretches(size: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, size, step))


def _pairs(function: Function, cosine: Floats, left: Floats, right: Floats) -> Floats:
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    half = _REACH * (node + 1) / 2
    u = np.concatenate([-half[::-1], half])
    outer = np.tile(weight, 2) * _density(u) * _REACH / 2
    mean, spread = cosine[:, None] * u, np.sqrt(1 - cosine**2)[:, None]
    # The argument of the second factor, mean + spread w, is zero at this w.
    kink = np.clip(np.divide(-mean, spread, out=-np.sign(mean) * _REACH, where=spread > 0), -9, 9)
    inner = np.zeros_like(mean)
    for low, high in ((-_REACH, kink), (kink, _REACH)):
        w = low + (high - low) * (node[:, None, None] + 1) / 2  # (nodes, e, 2 nodes)
        values = function(right[:, None] * (mean + spread * w)) * _density(w)
        inner += np.einsum("a,aeb->eb", weight, values) * (high - low) / 2
    return np.einsum("eb,eb,b->e", function(left[:, None] * u), inner, outer)


def _density(z: Floats) -> Floats:
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


# ------------------------------------------------------------------ wide layers


@dataclass(frozen=True, eq=False)
class WideLayer:
    """A first layer of infinitely many neurons, as the covariance of what they receive.

    Make one with `wide_layer`.

    Attributes
    ----------
    activation : str or callable
    scale : float
        t, the mean squared feature length at the start.
    stage_one : Contexts or None
        Prompts of the gradient step, None before it.
    pull : (n, r) array
        What the step adds to the covariance of h and h' is the inner product of their
        `learned` coordinates, ``sum_j <h, h_j> pull[j]``.
    """

    activation: str | Function
    scale: float
    stage_one: Contexts | None
    pull: Floats

    @border(left="contexts")
    def learned(self, contexts: Contexts) -> Floats:
        """Return the coordinates that the step appended to some prompts, (m, r)."""
        if self.stage_one is None:
            return np.zeros((len(contexts), 1))
        return feature_gram(contexts, self.stage_one) @ self.pull

    @border
    def covariance(self, left: Contexts, right: Contexts) -> Floats:
        """Return the covariance over neurons of what they receive from two sets, (n, m)."""
        start = feature_gram(left, right) / self.scale
        return start + self.learned(left) @ self.learned(right).T

    @border
    def variance(self, contexts: Contexts) -> Floats:
        """Return the variance over neurons of what they receive from each prompt, (m,)."""
        start = squared_norms(contexts) / self.scale
        return start + (self.learned(contexts) ** 2).sum(axis=1)

    @border
    def kernel(self, left: Contexts, right: Contexts) -> Floats:
        """Return the kernel of the head, ``E sigma(z) sigma(z')`` over neurons, (n, m).

        Parameters
        ----------
        left, right : Contexts
            n and m prompts.

        Returns
        -------
        (n, m) array
        """
        return gaussian_product(
            self.covariance(left, right),
            self.variance(left),
            self.variance(right),
            activation=self.activation,
        )


@border
def wide_layer(
    stage_one: Contexts,
    *,
    activation: str | Function = "relu",
    step: float = 0.0,
    rank_one: bool = False,
    scale: float | None = None,
) -> WideLayer:
    """Return the first layer of an infinitely wide head after one gradient step.

    Parameters
    ----------
    stage_one : Contexts
        Prompts of the gradient step; they also fix the scale t.
    activation : str or callable
        As in `gaussian_product`.
    step : float
        eta / width, held fixed as the width grows, >= 0; 0 is the random layer.
    rank_one : bool
        Keep of the gradient the part ``alpha w v^T`` only.
    scale : float, optional
        t if it is not the mean squared feature length of `stage_one`.

    Returns
    -------
    WideLayer

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it.

    Notes
    -----
    A neuron with weights f and read-out ``omega / sqrt(width)``, omega ~ N(0, 1), receives
    ``f . h + step omega U_f(h)`` with ``U_f(h) = (1/n) sum_j y_j sigma'(f . h_j) <h_j, h>``; its
    own answer vanishes as the width grows. omega is independent of f and of mean zero, so over
    neurons the covariance is exactly

    ``<h, h'> / t + step^2 (1/n^2) sum_jl y_j y_l K'_jl <h_j, h> <h_l, h'>``,

    K' being the mean product of slopes. With sigma' replaced by its mean alpha, what neurons
    receive is exactly Gaussian, and the trained wide head is an untrained one whose prompts have
    one more coordinate, ``step sqrt(t) alpha V``. Otherwise the kernel treats it as Gaussian.

    References
    ----------
    New here; the setting is that of Demir and Dogan 2025, first stage.

    Examples
    --------
    >>> from iclkit.papers.data_mixing.sources import Source
    >>> from iclkit.rng import stream
    >>> prompts = Source(4).sample(6, 8, rng=stream(0, "example"))
    >>> before, after = (wide_layer(prompts, step=s).variance(prompts) for s in (0.0, 5.0))
    >>> bool((after > before).all())
    True
    """
    prompts("stage_one", stage_one)
    hermite.activation(activation)
    scale = norm_scale(stage_one) if scale is None else scale
    start = WideLayer(activation, scalar("scale", scale, open_=True), None, np.zeros((1, 1)))
    step = scalar("step", step)
    if step == 0:
        return start
    pull = _mean_slope(activation) * stage_one.y[:, None] if rank_one else _pull(start, stage_one)
    return WideLayer(activation, start.scale, stage_one, step * pull / len(stage_one))


def _mean_slope(activation: str | Function) -> float:
    return float(hermite.coefficients(activation, 1)[1])


def _pull(layer: WideLayer, stage_one: Contexts) -> Floats:
    """Return a root of the matrix ``y_j y_l K'_jl``, (n, r)."""
    size = layer.variance(stage_one)
    slopes = gaussian_product(
        layer.covariance(stage_one, stage_one),
        size,
        size,
        activation=layer.activation,
        slope=True,
    )
    return _root(slopes * np.outer(stage_one.y, stage_one.y))


def _root(matrix: Floats) -> Floats:
    """Return R with ``R R^T`` equal to a positive semidefinite matrix up to rounding."""
    shift = 1e-13 * np.trace(matrix)
    factor, failed = linalg.lapack.dpotrf(matrix + shift * np.eye(len(matrix)), lower=1, clean=1)
    if not failed:
        return np.asarray(factor)
    values, vectors = linalg.eigh(matrix, check_finite=False)
    return vectors * np.sqrt(np.maximum(values, 0))


class KernelPath(NamedTuple):
    """Infinitely wide heads fitted by ridge regression, one per ridge.

    Attributes
    ----------
    layer : WideLayer
    train : Contexts
        Prompts of the ridge regression.
    dual : (n_ridges, n) array
        The answer is ``sum_j dual_j K(h, h_j)``.
    """

    layer: WideLayer
    train: Contexts
    dual: Floats

    @border(right="contexts")
    def predict(self, contexts: Contexts) -> Floats:
        """Return the answers to prompts, as (n_ridges, m)."""
        return self.dual @ self.layer.kernel(self.train, contexts)


@border
def kernel_path(layer: WideLayer, train: Contexts, ridges: ArrayLike) -> KernelPath:
    """Return the infinitely wide head that ridge regression fits, for several ridges at once.

    Parameters
    ----------
    layer : WideLayer
        See `wide_layer`.
    train : Contexts
        n prompts, other than those of the gradient step.
    ridges : (n_ridges,) array_like
        lambda, > 0, as in `readout_path`: the limit of infinite width has the same lambda.

    Returns
    -------
    KernelPath

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or a ridge is not positive.

    Notes
    -----
    ``(K + n lambda I) dual = y``. A head of finite width solves the same with the sample average
    over its neurons in place of K.

    References
    ----------
    The limit of infinite width is classical; its use here is new.

    Examples
    --------
    >>> from iclkit.papers.data_mixing.sources import Source
    >>> from iclkit.rng import stream
    >>> prompts = Source(4).sample(6, 8, rng=stream(0, "example"))
    >>> path = kernel_path(wide_layer(prompts), prompts, [1e-9, 1.0])
    >>> missed = np.abs(path.predict(prompts) - prompts.y).max(axis=1)
    >>> bool(missed[0] < 1e-5 < missed[1])
    True
    """
    instance("layer", layer, WideLayer, "make one with wide_layer")
    shifts = len(prompts("train", train)) * positive_ridges(ridges)
    return KernelPath(layer, train, _solves(layer.kernel(train, train), train.y, shifts))


def _solves(kernel: Floats, y: Floats, shifts: Floats) -> Floats:
    """Return ``(kernel + shift I)^-1 y`` for all shifts, (n_shifts, n)."""
    if len(shifts) == 1:
        kernel.flat[:: len(kernel) + 1] += shifts[0]
        return stable_solve(kernel, y)[None]
    values, vectors = linalg.eigh(kernel, check_finite=False)
    filters = 1 / shifted_spectrum(values, shifts)
    return (filters.T * (vectors.T @ y)) @ vectors.T


# ------------------------------------------------------------------ information exponent


@border
def information_exponent(link: str | Function, *, degree: int = 20) -> int:
    """Return the order of the first Hermite coefficient of a link that does not vanish.

    Parameters
    ----------
    link : str or callable
        As in `iclkit.hermite.activation`.
    degree : int
        How far to look, from 1 to 60.

    Returns
    -------
    int
        The least ``j >= 1`` with ``E phi(z) He_j(z) != 0``.

    Raises
    ------
    ValueError
        If all coefficients up to `degree` vanish, as for a constant link.

    Notes
    -----
    A coefficient counts as zero below 1e-9 of ``sqrt(j! E phi(z)^2)``, its largest possible size.

    References
    ----------
    The notion is due to Ben Arous, Gheissari and Jagannath 2021.

    Examples
    --------
    >>> information_exponent("relu"), information_exponent("abs")
    (1, 2)
    """
    degree = count("degree", degree, low=1, high=60)
    found = hermite.coefficients(link, degree)
    energy = hermite.gaussian_mean(lambda z: hermite.activation(link)(z) ** 2)
    largest = np.sqrt([energy * factorial(j) for j in range(degree + 1)])
    orders = 1 + np.flatnonzero(np.abs(found[1:]) > _FLAT * largest[1:])
    if len(orders) == 0:
        raise ValueError(
            f"link must have a Hermite coefficient that is not zero, got none of degree 1 "
            f"to {degree}; raise degree unless the link is constant"
        )
    return int(orders[0])


@border
def gradient_signal(
    link: str | Function,
    task_moment: ArrayLike,
    *,
    noise: float = 0.0,
    task_mean: ArrayLike | None = None,
) -> Floats:
    """Return the mean of ``y h``, the direction of the first gradient, as a matrix.

    Parameters
    ----------
    link : str or callable
    task_moment : (d, d) array_like
        ``E a a^T`` of the task directions ``a = xi / |xi|``.
    noise : float
        Standard deviation of the label noise, >= 0.
    task_mean : (d,) array_like, optional
        ``E a``, zero by default.

    Returns
    -------
    (d, d + 1) array
        ``E[y x b^T]`` for standard normal inputs. Zero for a link of information exponent above
        one, whatever the tasks.

    Raises
    ------
    ValueError
        If shapes disagree or a value is out of range.

    Notes
    -----
    By Stein's identity ``E[y x | a] = c_1 a``, twice: ``[c_1^2 E a a^T, c_1 E[y^2] E a]`` with
    ``c_1 = E[z phi(z)]``. Query and context are independent given the task.

    References
    ----------
    Derived here; the quantity is v of Demir and Dogan 2025, Lemma 4.11, times sqrt(width).

    Examples
    --------
    >>> gradient_signal("linear", [[1.0]]), gradient_signal("abs", [[1.0]]).round(12) + 0.0
    (array([[1., 0.]]), array([[0., 0.]]))
    """
    moment = finite_array("task_moment", task_moment, ndim=2)
    d = len(moment)
    mean = np.zeros(d) if task_mean is None else finite_array("task_mean", task_mean, ndim=1)
    same_length(task_moment=moment, task_mean=mean)
    if moment.shape != (d, d):
        raise ValueError(f"task_moment must be square, got shape {moment.shape}")
    slope = float(hermite.coefficients(link, 1)[1])
    energy = hermite.gaussian_mean(lambda z: hermite.activation(link)(z) ** 2)
    last = slope * (energy + magnitude("noise", noise) ** 2) * mean
    return np.column_stack([slope**2 * moment, last])
