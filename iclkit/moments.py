"""Exact moments: task spectra of Wishart matrices and the risk of a bilinear readout.

For the paper modules and for readers who check a formula: nothing here samples. Inputs are
N(0, I/d) and labels ``<x, w> + noise``, as in `iclkit.prompts`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, broadcast, finite_array, flag, instance, real_array, scalar

__all__ = [
    "AttentionMoments",
    "WishartTraces",
    "attention_moments",
    "mp_resolvent",
    "mp_traces",
    "pool_moments",
    "positive_array",
    "positive_root",
    "readout_error",
]

Floats = NDArray[np.float64]


class WishartTraces(NamedTuple):
    """Normalised traces ``tr = (1/d) trace`` of functions of a Wishart matrix R, at z.

    Attributes
    ----------
    resolvent : array
        ``tr (R + z)^-1``.
    resolvent_square : array
        ``tr (R + z)^-2``, minus the slope of the resolvent in z.
    signal : array
        ``tr R (R + z)^-1``.
    signal_resolvent : array
        ``tr R (R + z)^-2``.
    signal_square : array
        ``tr R^2 (R + z)^-2``.
    """

    resolvent: Floats
    resolvent_square: Floats
    signal: Floats
    signal_resolvent: Floats
    signal_square: Floats


class AttentionMoments(NamedTuple):
    """Second moments of the features v of linear attention and of the task w.

    Attributes
    ----------
    cross : (dim, dim + 1) array
        ``E[w v^T]``.
    gram : (dim + 1, dim + 1) array
        ``E[v v^T]``.
    label : float
        ``E[y^2]``, the error of predicting zero.
    """

    cross: Floats
    gram: Floats
    label: float


def positive_array(
    name: str, values: ArrayLike, *, open_: bool = True, infinite: bool = False
) -> Floats:
    """Return `values` as a float64 array of any shape, or say which requirement fails.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    values : array_like of real numbers
    open_ : bool, optional
        Whether 0 is excluded.
    infinite : bool, optional
        Whether infinity is allowed.

    Returns
    -------
    array of float64

    Raises
    ------
    TypeError
        If the entries are not real numbers.
    ValueError
        If an entry is NaN, negative, zero (if `open_`) or infinite (unless `infinite`).

    Examples
    --------
    >>> positive_array("penalty", [0, 1], open_=False)
    array([0., 1.])
    >>> positive_array("kappa", 0)
    Traceback (most recent call last):
    ValueError: kappa must be finite and > 0, got 0.0
    """
    open_, infinite = flag("open_", open_), flag("infinite", infinite)
    array = real_array(name, values, kinds="iuf")
    valid = (array > 0 if open_ else array >= 0) & (infinite | (array < np.inf))
    if not valid.all():
        rule = ("" if infinite else "finite and ") + ("> 0" if open_ else ">= 0")
        raise ValueError(f"{name} must be {rule}, got {array[~valid].flat[0]}")
    return array


@border
def positive_root(b: ArrayLike, c: ArrayLike) -> Floats:
    """Return the non-negative root of ``y^2 - b y - c = 0``, for c >= 0 and any b.

    Parameters
    ----------
    b, c : array_like
        Coefficients, broadcast together; b may be infinite.

    Returns
    -------
    array

    Raises
    ------
    TypeError, ValueError
        If an entry is not a number, c is negative, or the shapes do not broadcast.

    Notes
    -----
    ``(b + sqrt(b^2 + 4 c)) / 2``; for b < 0 in the equal form ``2 c / (sqrt(b^2 + 4 c) - b)``,
    which does not cancel.

    Examples
    --------
    >>> float(positive_root(-1e9, 1.0))
    1e-09
    """
    b, c = real_array("b", b, kinds="iuf"), real_array("c", c, kinds="iuf")
    broadcast(b=b, c=c)
    if np.isnan(b).any() or not (c >= 0).all():
        raise ValueError("b and c must be numbers with c >= 0, got NaN or a negative c")
    return _root(b, c)


def _root(b: Floats, c: Floats) -> Floats:
    large = 0.5 * (np.abs(b) + np.sqrt(b * b + 4.0 * c))
    return np.where(b >= 0, large, c / np.where(large > 0, large, 1.0))


@border
def mp_traces(z: ArrayLike, kappa: ArrayLike) -> WishartTraces:
    """Return the limits of five normalised traces of a Wishart matrix at z >= 0.

    Parameters
    ----------
    z : array_like
        Shift, >= 0 and finite.
    kappa : array_like
        Aspect ratio, > 0: R is the second-moment matrix of ``kappa d`` standard vectors in d
        dimensions; ``kappa = inf`` means R = I. Broadcasts with `z`.

    Returns
    -------
    WishartTraces
        At z = 0 and kappa <= 1 the two traces of inverses are infinite.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    With ``c = 1/kappa`` the inverse resolvent g is the positive root of
    ``g^2 - (z + 1 - c) g - c z = 0``. Then ``tr (R+z)^-1 = 1/g``, ``tr R (R+z)^-1 = 1/(g + c)``,
    ``tr R (R+z)^-2 = 1/(g^2 + 2 c g + c (c - 1))`` and
    ``tr (R+z)^-2 = ((g + c)/g)^2 tr R (R+z)^-2``. Nothing cancels, for small or large z.

    References
    ----------
    Marchenko-Pastur law; these forms are derived here.

    Examples
    --------
    >>> traces = mp_traces(0.5, 2.0)
    >>> round(float(traces.signal_square + 0.5 * traces.signal_resolvent - traces.signal), 12)
    0.0
    """
    z = positive_array("z", z, open_=False)
    c, surplus = _aspect(kappa)
    broadcast(z=z, kappa=c)
    g = _root(z + surplus, z * c)
    signal = 1.0 / (g + c)
    with np.errstate(divide="ignore"):
        resolvent = 1.0 / g
        mixed = 1.0 / (g * (g + 2.0 * c) - c * surplus)
        square = ((g + c) / g) ** 2 * mixed
    shrunk = z * (g + c) / np.where(g > 0, g, np.inf)
    spread = np.where(g > 0, c * mixed, 0.0) * shrunk**2
    signal_square = np.where(g > 0, signal**2 * (1.0 + spread), signal)  # z = 0: a projector
    return WishartTraces(resolvent, square, signal, mixed, signal_square[()])


@border
def mp_resolvent(z: ArrayLike, kappa: ArrayLike) -> Floats:
    """Return ``M_kappa(z)``, the limit of ``(1/d) trace (R + z)^-1`` for a Wishart matrix R.

    Parameters
    ----------
    z : array_like
        Shift, >= 0 and finite.
    kappa : array_like
        Aspect ratio, > 0; infinity allowed. Broadcasts with `z`.

    Returns
    -------
    array
        Infinite at z = 0 where kappa <= 1.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The positive solution of ``m (z + kappa/(kappa + m)) = 1``; ``M_inf(z) = 1/(1 + z)``.

    References
    ----------
    Marchenko-Pastur law; used by Lu et al. 2025. The stable form is derived here.

    Examples
    --------
    >>> round(float(mp_resolvent(0.101, 0.5)), 10)
    5.3720270842
    """
    z = positive_array("z", z, open_=False)
    c, surplus = _aspect(kappa)
    broadcast(z=z, kappa=c)
    with np.errstate(divide="ignore"):
        return 1.0 / _root(z + surplus, z * c)


def _aspect(kappa: ArrayLike) -> tuple[Floats, Floats]:
    """Return 1/kappa and 1 - 1/kappa, the latter without cancellation near kappa = 1."""
    kappa = positive_array("kappa", kappa, infinite=True)
    finite = np.where(np.isinf(kappa), 1.0, kappa)
    return 1.0 / kappa, np.where(np.isinf(kappa), 1.0, (finite - 1.0) / finite)


@border(finite=True)
def attention_moments(
    task_mean: ArrayLike,
    task_moment: ArrayLike,
    *,
    n_context: float,
    noise_var: float,
    gaussian: bool = False,
) -> AttentionMoments:
    """Return the exact moments of linear attention's features, from two moments of the tasks.

    Parameters
    ----------
    task_mean : (dim,) array_like
        Mean task.
    task_moment : (dim, dim) array_like
        Mean of ``w w^T``.
    n_context : float
        Labelled examples per prompt, > 0.
    noise_var : float
        Variance of the label noise, >= 0.
    gaussian : bool, optional
        False: every task has ``|w|^2 = dim`` (then the trace of `task_moment` is dim).
        True: tasks are normal with these two moments.

    Returns
    -------
    AttentionMoments

    Raises
    ------
    ValueError
        If shapes do not match or an argument is out of its range.

    Notes
    -----
    With ``th = |w|^2/d + rho`` and l labelled examples, ``v = (h, s)`` has for a given task
    ``E[h h^T] = (d/l) th I + (1 + 1/l) w w^T``, ``E[h s] = (1 + 2/l) th w``,
    ``E[s^2] = (1 + 2/l) th^2``. Averaged over tasks; exact at every d and l.

    References
    ----------
    Lu et al. 2025 for tasks on the sphere; general normal tasks are derived here.

    Examples
    --------
    >>> import numpy as np
    >>> moments = attention_moments(np.zeros(2), np.eye(2), n_context=4, noise_var=0.5)
    >>> moments.gram.diagonal()
    array([2.   , 2.   , 3.375])
    """
    mean = finite_array("task_mean", task_mean, ndim=1)
    moment = finite_array("task_moment", task_moment, ndim=2)
    if moment.shape != (len(mean), len(mean)):
        raise ValueError(
            f"task_moment must have shape {(len(mean), len(mean))} to match task_mean, "
            f"got {moment.shape}"
        )
    noise_var = scalar("noise_var", noise_var)
    label = 1.0 + noise_var
    powers = (label, label * mean, label**2)
    if gaussian:
        powers = _gaussian_powers(mean, moment, noise_var)
    return _assemble(moment, powers, scalar("n_context", n_context, open_=True))


@border(finite=True)
def pool_moments(tasks: ArrayLike, *, n_context: float, noise_var: float) -> AttentionMoments:
    """Return the exact moments of linear attention's features for a pool of tasks of any norm.

    Parameters
    ----------
    tasks : (n_tasks, dim) array_like
        The pool, one task per row, all equally likely.
    n_context : float
        Labelled examples per prompt, > 0.
    noise_var : float
        Variance of the label noise, >= 0.

    Returns
    -------
    AttentionMoments

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The per-task moments of `attention_moments`, averaged over the rows.

    References
    ----------
    Derived here; for tasks on the sphere the moments of Lu et al. 2025.

    Examples
    --------
    >>> pool_moments([[1, 1], [1, -1]], n_context=4, noise_var=0.5).cross
    array([[1. , 0. , 1.5],
           [0. , 1. , 0. ]])
    """
    tasks = finite_array("tasks", tasks, ndim=2)
    n_tasks, dim = tasks.shape
    label = np.einsum("kd,kd->k", tasks, tasks) / dim + scalar("noise_var", noise_var)
    powers = (float(label.mean()), label @ tasks / n_tasks, float(label @ label) / n_tasks)
    return _assemble(tasks.T @ tasks / n_tasks, powers, scalar("n_context", n_context, open_=True))


def _gaussian_powers(mean: Floats, moment: Floats, noise_var: float) -> tuple[float, Floats, float]:
    """Return E[th], E[th w] and E[th^2] of normal tasks, th = |w|^2/d + noise_var."""
    dim = len(mean)
    cov = moment - np.outer(mean, mean)
    label = float(np.trace(moment)) / dim + noise_var
    spread = 2.0 * float(np.sum(cov * cov)) + 4.0 * float(mean @ cov @ mean)
    return label, label * mean + 2.0 * cov @ mean / dim, label**2 + spread / dim**2


def _assemble(
    moment: Floats, powers: tuple[float, Floats, float], n_context: float
) -> AttentionMoments:
    """Return the moments of v from E[w w^T] and (E[th], E[th w], E[th^2])."""
    label, cross, square = powers
    dim = len(moment)
    gram = np.empty((dim + 1, dim + 1))
    gram[:dim, :dim] = (1.0 + 1.0 / n_context) * moment
    gram[np.arange(dim), np.arange(dim)] += dim / n_context * label
    gram[:dim, dim] = gram[dim, :dim] = (1.0 + 2.0 / n_context) * cross
    gram[dim, dim] = (1.0 + 2.0 / n_context) * square
    return AttentionMoments(np.column_stack([moment, cross]), gram, label)


@border
def readout_error(gamma: ArrayLike, moments: AttentionMoments) -> float:
    """Return the exact mean squared error of the prediction ``x_query^T gamma v``.

    Parameters
    ----------
    gamma : (dim, dim + 1) array_like
        Readout matrix.
    moments : AttentionMoments
        Of the tasks and contexts to be tested on.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `gamma` has the wrong shape or is not finite.

    Notes
    -----
    ``E[y^2] - (2/d) tr(gamma C^T) + (1/d) tr(gamma A gamma^T)`` with ``C = E[w v^T]`` and
    ``A = E[v v^T]``, because the query is isotropic and independent of the context.

    References
    ----------
    Lu et al. 2025.

    Examples
    --------
    >>> import numpy as np
    >>> moments = attention_moments(np.zeros(2), np.eye(2), n_context=4, noise_var=0.5)
    >>> readout_error(np.zeros((2, 3)), moments)
    1.5
    """
    gamma = finite_array("gamma", gamma, ndim=2)
    moments = _checked(moments)
    if gamma.shape != moments.cross.shape:
        raise ValueError(f"gamma must have shape {moments.cross.shape}, got {gamma.shape}")
    gain = np.sum(gamma * (gamma @ moments.gram - 2.0 * moments.cross))
    return moments.label + float(gain) / len(gamma)


def _checked(moments: AttentionMoments) -> AttentionMoments:
    """Return moments if they are some, all finite and of matching shapes."""
    moments = instance("moments", moments, AttentionMoments, "make some with attention_moments")
    cross = finite_array("cross", moments.cross, ndim=2)
    gram = finite_array("gram", moments.gram, ndim=2)
    if gram.shape != 2 * (cross.shape[1],):
        raise ValueError(f"moments must have gram (m, m) for cross (d, m), got {gram.shape}")
    return AttentionMoments(cross, gram, scalar("label", moments.label, low=-np.inf))
