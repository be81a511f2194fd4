"""Special cases and limits of the asymptotic errors, and the transition in task diversity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, real_array
from iclkit.moments import mp_resolvent, mp_traces, positive_array, positive_root
from iclkit.papers.phase_transition.theory import (
    check_broadcast,
    check_threshold,
    checked_ratios,
    curve_at,
    effective_ridge,
)

__all__ = [
    "Errors",
    "LongContext",
    "authors_ridgeless",
    "fresh_task_dip",
    "fresh_task_error",
    "fresh_task_penalty",
    "infinite_data",
    "long_context",
    "long_context_gap",
    "peak_amplitude",
    "short_context",
    "task_gap",
    "task_gap_scaling",
]

Floats = NDArray[np.float64]


class Errors(NamedTuple):
    """Two errors of one model: on new tasks (icl) and on pretraining tasks (idg)."""

    icl: Floats
    idg: Floats


class LongContext(NamedTuple):
    """What becomes of the ridgeless errors as alpha grows without bound.

    Attributes
    ----------
    icl, idg : array
        Limits of the errors; infinite where they diverge.
    icl_slope : array
        Limit of ``icl / alpha``.
    """

    icl: Floats
    idg: Floats
    icl_slope: Floats


# ------------------------------------------------------------------ fresh tasks, kappa = inf


@border
def fresh_task_error(
    alpha: ArrayLike, tau: ArrayLike, rho: ArrayLike, penalty: ArrayLike = 0.0
) -> Floats:
    """Return the error at infinite task diversity: isotropic ridge regression in closed form.

    Parameters
    ----------
    alpha, tau, rho, penalty : array_like
        As in `learning_curve`.

    Returns
    -------
    array
        The error on new and on pretraining tasks, which are equal.

    Raises
    ------
    ValueError
        As `learning_curve`.

    Notes
    -----
    With ``x = (1+rho)/alpha``, ``b = 1/(1+x)`` (learnable signal) and ``D = rho + x b`` (noise
    of the best predictor): ``D/(1-tau) + b (1-tau)`` for tau < 1 and ``D tau/(tau-1)`` for
    tau > 1. With ridge ``(D + b f^2)/(1 - (1-f)^2/tau)``, where ``f = xi/(1+x+xi)``.

    References
    ----------
    Lu et al. 2025; the closed forms are derived here.

    Examples
    --------
    >>> round(float(fresh_task_error(10, 2, 0.01)), 10)
    0.2034695731
    """
    x, _, tau, rho, penalty = checked_ratios(alpha, np.inf, tau, rho, penalty)
    check_threshold(tau, penalty)
    xi = effective_ridge(alpha, np.inf, tau, rho, penalty)
    noise, signal = _split(x, rho)
    shrunk = xi / (1.0 + x + xi)
    return ((noise + signal * shrunk**2) / (1.0 - (1.0 - shrunk) ** 2 / tau))[()]


@border
def fresh_task_dip(alpha: ArrayLike, rho: ArrayLike) -> tuple[Floats, Floats]:
    """Return where, below tau = 1, the ridgeless error at kappa = inf is least, and its value.

    Parameters
    ----------
    alpha, rho : array_like
        As in `learning_curve`.

    Returns
    -------
    tau, value : array
        NaN where the error has no such minimum (noise above signal).

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    ``tau = 1 - sqrt(D/b)`` and value ``2 sqrt(D b)`` where D < b, in the notation of
    `fresh_task_error`.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> tau, value = fresh_task_dip(10, 0.01)
    >>> round(float(tau), 9), round(float(value), 9)
    (0.665321049, 0.607954497)
    """
    x, _, _, rho, _ = checked_ratios(alpha, np.inf, 1.0, rho, 0.0)
    noise, signal = _split(x, rho)
    dips = noise < signal
    tau = np.where(dips, 1.0 - np.sqrt(noise / signal), np.nan)
    return tau[()], np.where(dips, 2.0 * np.sqrt(noise * signal), np.nan)[()]


@border
def fresh_task_penalty(alpha: ArrayLike, tau: ArrayLike, rho: ArrayLike) -> Floats:
    """Return the penalty with the least error at infinite task diversity.

    Parameters
    ----------
    alpha, tau, rho : array_like
        As in `learning_curve`.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    ``(1 + x) (rho (1 + x) + x) / tau`` with ``x = (1 + rho)/alpha``: noise over signal.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> round(float(fresh_task_penalty(10, 0.9, 0.01)), 9)
    0.137025567
    """
    x, _, tau, rho, _ = checked_ratios(alpha, np.inf, tau, rho, 0.0)
    return ((1.0 + x) * (rho * (1.0 + x) + x) / tau)[()]


def _split(x: Floats, rho: Floats) -> tuple[Floats, Floats]:
    """Return the noise of the best predictor for isotropic tasks and its signal."""
    return rho + x / (1.0 + x), 1.0 / (1.0 + x)


# ------------------------------------------------------------------ one ratio at its end


@border
def short_context(tau: ArrayLike, rho: ArrayLike) -> Floats:
    """Return the limit of both ridgeless errors as alpha goes to 0.

    Parameters
    ----------
    tau, rho : array_like
        As in `learning_curve`.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        If an argument is out of its range, or tau = 1.

    Notes
    -----
    ``(1+rho)/(1-tau)`` for tau < 1 and ``(1+rho) tau/(tau-1)`` for tau > 1: fitting noise.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> short_context([0.5, 2], 0.1)
    array([2.2, 2.2])
    """
    _, _, tau, rho, penalty = checked_ratios(1.0, np.inf, tau, rho, 0.0)
    check_threshold(tau, penalty)
    return ((1.0 + rho) / (1.0 - np.minimum(tau, 1.0 / tau)))[()]


@border
def long_context(kappa: ArrayLike, tau: ArrayLike, rho: ArrayLike) -> LongContext:
    """Return the limits of the ridgeless errors as alpha goes to infinity.

    Parameters
    ----------
    kappa, tau, rho : array_like
        As in `learning_curve`.

    Returns
    -------
    LongContext
        For kappa <= min(tau, 1), rho > 0 and finite tau the error on new tasks diverges;
        below that line in proportion to alpha.

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes do not broadcast, or tau = 1.

    Notes
    -----
    With ``q = min(tau, 1)`` and ``s = (q - kappa)/|1 - tau|``, for kappa < q:
    ``icl/alpha -> rho s/(1 + rho)``; without noise or at tau = inf,
    ``icl -> rho + 1 - kappa + kappa s``. On old tasks ``idg -> rho tau/(tau - 1)`` for tau > 1
    and ``rho tau (1 - kappa)/((1 - tau)(tau - kappa))`` for tau < 1. For kappa > q both are
    finite: the errors of `learning_curve` at x = 0.

    References
    ----------
    Derived here. That the error on new tasks can grow with the context: Lu et al. 2025.

    Examples
    --------
    >>> limits = long_context(0.3, 0.6, 0.05)
    >>> float(limits.icl), round(float(limits.icl_slope), 7)
    (inf, 0.0357143)
    """
    _, kappa, tau, rho, penalty = checked_ratios(1.0, kappa, tau, rho, 0.0)
    check_threshold(tau, penalty)
    kappa, tau, rho = np.broadcast_arrays(kappa, tau, rho)
    limits = np.empty((3, *kappa.shape))
    wide = kappa > np.minimum(tau, 1.0)
    for rows, side in ((wide, _wide_pool), (~wide, _narrow_pool)):
        limits[:, rows] = side(kappa[rows], tau[rows], rho[rows])
    return LongContext(*(part[()] for part in limits))


def _wide_pool(kappa: Floats, tau: Floats, rho: Floats) -> LongContext:
    """Return the limits for kappa > min(tau, 1), where context noise x = 0 does no harm."""
    few = np.minimum(tau, 1.0)
    xi = (1.0 / few - 1.0) * (1.0 - few / kappa)
    errors = curve_at(xi, np.maximum(0.0, 1.0 - 1.0 / tau), np.zeros(()), kappa, tau, rho)
    return LongContext(errors.icl, errors.idg, np.zeros(kappa.shape))


def _narrow_pool(kappa: Floats, tau: Floats, rho: Floats) -> LongContext:
    """Return the limits for kappa <= min(tau, 1), where the pool does not span all tasks."""
    few = np.minimum(tau, 1.0)
    tilt = (few - kappa) / np.abs(1.0 - tau)
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = (1.0 - kappa) / ((1.0 / tau - 1.0) * (tau - kappa))
        idg = rho * np.where(tau > 1, 1.0 / (1.0 - 1.0 / tau), shared)
    idg = np.where(rho > 0, idg, 0.0)
    diverges = (rho > 0) & np.isfinite(tau)
    icl = np.where(diverges, np.inf, rho + 1.0 - kappa + kappa * tilt)
    return LongContext(icl, idg, rho * tilt / (1.0 + rho))


@border
def infinite_data(alpha: ArrayLike, kappa: ArrayLike, rho: ArrayLike) -> Errors:
    """Return both ridgeless errors after pretraining on infinitely many prompts.

    Parameters
    ----------
    alpha, kappa, rho : array_like
        As in `learning_curve`.

    Returns
    -------
    Errors

    Raises
    ------
    ValueError
        If an argument is out of its range or the shapes do not broadcast.

    Notes
    -----
    The readout is the filter ``R (R + x)^-1``: it keeps what the pool spans.

    References
    ----------
    Lu et al. 2025; checked here against `learning_curve` at tau = inf.

    Examples
    --------
    >>> errors = infinite_data(10, 0.5, 0.01)
    >>> round(float(errors.icl - errors.idg), 9)
    0.502563574
    """
    x, kappa, _, rho, _ = checked_ratios(alpha, kappa, np.inf, rho, 0.0)
    at = mp_traces(x, kappa)
    icl = rho + x**2 * at.resolvent_square + x * at.signal_square
    return Errors(icl[()], (rho + x * at.signal)[()])


@border
def peak_amplitude(alpha: ArrayLike, kappa: ArrayLike, rho: ArrayLike) -> Errors:
    """Return the strength of the divergence of the ridgeless errors at tau = 1.

    Parameters
    ----------
    alpha, kappa, rho : array_like
        As in `learning_curve`.

    Returns
    -------
    Errors
        Limits of ``|tau - 1| icl`` and ``|tau - 1| idg``, the same from both sides.

    Raises
    ------
    ValueError
        If an argument is out of its range or the shapes do not broadcast.

    Notes
    -----
    ``B = rho + x tr R (R+x)^-1`` on old tasks and ``(1 + x) M_kappa(x) B`` on new ones.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> from iclkit.papers.phase_transition import learning_curve
    >>> strength = peak_amplitude(10, 0.5, 0.01)
    >>> near = 1e-6 * learning_curve(10, 0.5, 1 + 1e-6, 0.01).icl
    >>> round(float(near / strength.icl), 4)
    1.0
    """
    x, kappa, _, rho, _ = checked_ratios(alpha, kappa, np.inf, rho, 0.0)
    at = mp_traces(x, kappa)
    bias = rho + x * at.signal
    return Errors(((1.0 + x) * at.resolvent * bias)[()], bias[()])


# ------------------------------------------------------------------ task diversity


@border
def task_gap(alpha: ArrayLike, kappa: ArrayLike, rho: ArrayLike) -> Floats:
    """Return the error on new tasks minus that on old tasks, with infinite pretraining data.

    Parameters
    ----------
    alpha, kappa, rho : array_like
        As in `learning_curve`.

    Returns
    -------
    array
        Non-negative; 0 at kappa = inf.

    Raises
    ------
    ValueError
        If an argument is out of its range or the shapes do not broadcast.

    Notes
    -----
    ``x^2 m ((1 + x) m k - 1)`` with ``m = M_kappa(x)`` and
    ``k = 1/(1 - kappa m^2/(kappa + m)^2)``; equal to
    ``x^2 [tr (R+x)^-2 - tr R (R+x)^-2] = x^2 tr R (R+x)^-2 (m/kappa)(2 + m/kappa)``, which is
    computed because it does not cancel, also at large kappa.

    References
    ----------
    Lu et al. 2025; the form without cancellation is derived here.

    Examples
    --------
    >>> round(float(task_gap(10, 2, 0.01)), 10)
    0.023438894
    """
    x, kappa, _, _, _ = checked_ratios(alpha, kappa, np.inf, rho, 0.0)
    at = mp_traces(x, kappa)
    deficit = at.resolvent / kappa
    return (x**2 * at.signal_resolvent * deficit * (2.0 + deficit))[()]


@border
def task_gap_scaling(s: ArrayLike) -> Floats:
    """Return the crossover of the task gap around kappa = 1: gap / sqrt(x) for long contexts.

    Parameters
    ----------
    s : array_like
        Scaled distance ``(kappa - 1)/sqrt(x)`` from the transition, ``x = (1 + rho)/alpha``.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        If an entry is not finite.

    Notes
    -----
    ``M^3/(1 + M^2)`` with ``M = (sqrt(s^2 + 4) - s)/2``: the transition is rounded over a
    width sqrt(x), and the gap at kappa = 1 is ``sqrt(x)/2``.

    References
    ----------
    New here.

    Examples
    --------
    >>> float(task_gap_scaling(0))
    0.5
    """
    scaled = real_array("s", s)
    if not np.isfinite(scaled).all():
        raise ValueError("s must be finite, got NaN or infinity")
    resolvent = positive_root(-scaled, 1.0)
    return (resolvent**3 / (1.0 + resolvent**2))[()]


@border
def long_context_gap(kappa: ArrayLike, rho: ArrayLike, tau_per_alpha: ArrayLike) -> Floats:
    """Return the limit of the ridgeless task gap as alpha grows with ``tau = c alpha``.

    Parameters
    ----------
    kappa, rho : array_like
        As in `learning_curve`.
    tau_per_alpha : array_like
        The ratio c, > 0; infinity gives the limit of `task_gap`, ``max(1 - kappa, 0)``.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        If an argument is out of its range or the shapes do not broadcast.

    Notes
    -----
    ``(1 - kappa) (1 + rho/((1 + rho) c))`` for kappa < 1 and 0 above: the second factor is the
    price of a context that grows as fast as the pretraining data.

    References
    ----------
    Derived here; the phase transition at kappa = 1 is the result of Lu et al. 2025.

    Examples
    --------
    >>> round(float(long_context_gap(0.5, 0.01, 0.2)), 6)
    0.524752
    """
    _, kappa, _, rho, _ = checked_ratios(1.0, kappa, 1.0, rho, 0.0)
    ratio = positive_array("tau_per_alpha", tau_per_alpha, infinite=True)
    check_broadcast(kappa=kappa, rho=rho, tau_per_alpha=ratio)
    return (np.maximum(1.0 - kappa, 0.0) * (1.0 + rho / ((1.0 + rho) * ratio)))[()]


# ------------------------------------------------------------------ the paper's own form


@border
def authors_ridgeless(alpha: ArrayLike, kappa: ArrayLike, tau: ArrayLike, rho: ArrayLike) -> Errors:
    """Return the ridgeless errors from the expressions of Lu et al., for comparison.

    Parameters
    ----------
    alpha, tau : array_like
        As in `learning_curve`.
    kappa : array_like
        As in `learning_curve`, but finite.
    rho : array_like
        As in `learning_curve`.

    Returns
    -------
    Errors

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes do not broadcast, or tau = 1.

    Notes
    -----
    Equal to `learning_curve` at penalty 0, but loses digits at small alpha. Use that one.

    References
    ----------
    Lu et al. 2025, as in the authors' public code.

    Examples
    --------
    >>> errors = authors_ridgeless(10, 0.5, 2, 0.01)
    >>> round(float(errors.icl), 6), round(float(errors.idg), 6)
    (0.891164, 0.1124)
    """
    positive_array("kappa", kappa)
    x, kappa, tau, rho, penalty = checked_ratios(alpha, kappa, tau, rho, 0.0)
    check_threshold(tau, penalty)
    x, kappa, tau, rho = np.broadcast_arrays(x, kappa, tau, rho)
    errors = np.empty((2, *x.shape))
    few = tau < 1
    for rows, side in ((few, _authors_few_prompts), (~few, _authors_many_prompts)):
        errors[:, rows] = side(x[rows], kappa[rows], tau[rows], rho[rows])
    return Errors(*(part[()] for part in errors))


def _authors_few_prompts(x: Floats, kappa: Floats, tau: Floats, rho: Floats) -> Errors:
    """Return the expressions for tau < 1."""
    mu = x * mp_resolvent(x, kappa / tau)
    xi = (1 - tau) * x / (tau * mu)
    icl = tau * (1 + x) / (1 - tau) * (1 - tau * (1 - mu) ** 2 - (x - rho) / x * mu)
    icl += 1 + rho - 2 * tau * (1 - mu)
    c = 1 / (1 - kappa / (1 + kappa * xi / (1 - tau)) ** 2)
    inner = rho + x - 2 * x * (1 - tau) * (x / xi + 1)
    idg = tau * ((x + xi) ** 2 / xi + inner / (1 - tau - c * (1 - tau) ** 2))
    return Errors(icl, idg)


def _authors_many_prompts(x: Floats, kappa: Floats, tau: Floats, rho: Floats) -> Errors:
    """Return the expressions for tau > 1."""
    m = mp_resolvent(x, kappa)
    k = 1 / (1 - kappa * (m / (kappa + m)) ** 2)
    icl = (k - 1 / (tau - 1)) * (1 + x) * (x * m) ** 2
    icl += (3 - 2 * tau) / (tau - 1) * m * x**2 + ((1 + rho) * m / (tau - 1) + 1) * x
    icl += rho * m / (tau - 1) + rho
    return Errors(icl, tau / (tau - 1) * (rho + x * (1 - x * m)))
