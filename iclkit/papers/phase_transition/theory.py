"""Asymptotic errors of ridge-pretrained linear attention: for any ridge, in a stable form.

Everything here is a function of the ratios alpha = n_context/d, kappa = n_tasks/d,
tau = n_prompts/d^2, the label noise rho and the penalty (lambda of Lu et al. 2025).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, broadcast
from iclkit.moments import mp_resolvent, mp_traces, positive_array, positive_root
from iclkit.solvers import ConvergenceError

__all__ = [
    "LearningCurve",
    "Traces",
    "check_broadcast",
    "check_threshold",
    "checked_ratios",
    "curve_at",
    "effective_ridge",
    "kept_share",
    "learning_curve",
    "ridgeless_ridge",
    "solve_ridge",
    "task_traces",
]

Floats = NDArray[np.float64]

_MAX_STEPS = 200
_STEP = 1e-12  # steps shrink quadratically: below this one the next is rounding


class LearningCurve(NamedTuple):
    """Errors of pretrained linear attention; predicting zero costs ``1 + rho``.

    Attributes
    ----------
    icl : array
        On tasks never seen in pretraining.
    idg : array
        On new prompts of the pretraining tasks.
    train : array
        On the pretraining prompts themselves.
    """

    icl: Floats
    idg: Floats
    train: Floats


class Traces(NamedTuple):
    """Normalised traces of a feature spectrum A at the effective ridge xi.

    Attributes
    ----------
    kept : array
        ``tr A (A + xi)^-1``.
    lost : array
        ``xi tr (A + xi)^-1``; adds to `kept` to the number of features per d^2.
    slope : array
        ``tr A (A + xi)^-2``.
    """

    kept: Floats
    lost: Floats
    slope: Floats


def checked_ratios(
    alpha: ArrayLike, kappa: ArrayLike, tau: ArrayLike, rho: ArrayLike, penalty: ArrayLike
) -> tuple[Floats, ...]:
    """Return the context noise x = (1 + rho)/alpha, kappa, tau, rho and penalty as arrays."""
    alpha = positive_array("alpha", alpha)
    kappa = positive_array("kappa", kappa, infinite=True)
    tau = positive_array("tau", tau, infinite=True)
    rho = positive_array("rho", rho, open_=False)
    penalty = positive_array("penalty", penalty, open_=False)
    named = {"alpha": alpha, "kappa": kappa, "tau": tau, "rho": rho, "penalty": penalty}
    check_broadcast(**named)
    return (1.0 + rho) / alpha, kappa, tau, rho, penalty


def check_broadcast(**arrays: Floats) -> None:
    """Raise unless the named arrays broadcast together."""
    broadcast(**arrays)


def check_threshold(tau: Floats, penalty: Floats) -> None:
    """Raise where the number of prompts meets the number of parameters without ridge."""
    if np.any((tau == 1.0) & (penalty == 0.0)):
        raise ValueError(
            "tau must not be 1 where penalty is 0, got tau = 1.0: the errors diverge there; "
            "use a penalty > 0, or peak_amplitude for the strength of the divergence"
        )


@border
def learning_curve(
    alpha: ArrayLike,
    kappa: ArrayLike,
    tau: ArrayLike,
    rho: ArrayLike,
    penalty: ArrayLike = 0.0,
) -> LearningCurve:
    """Return the asymptotic errors of pretrained linear attention on new and on old tasks.

    Parameters
    ----------
    alpha : array_like
        Context length n_context / d, > 0 and finite.
    kappa : array_like
        Task diversity n_tasks / d, > 0; infinity means a fresh task in every prompt.
    tau : array_like
        Pretraining prompts n_prompts / d^2, > 0; infinity allowed.
    rho : array_like
        Label-noise variance, >= 0.
    penalty : array_like, optional
        Ridge lambda, >= 0: the fit adds ``(n/d) lambda |gamma|^2`` to the squared errors.
        All arguments broadcast together.

    Returns
    -------
    LearningCurve
        Arrays (scalars for scalar input): errors on new tasks, on pretraining tasks, and on
        the pretraining prompts.

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes do not broadcast, or tau = 1 where the
        penalty is 0 (there the errors diverge).

    Notes
    -----
    With ``x = (1 + rho)/alpha``, the effective ridge xi, ``nu = x + xi``, Wishart traces at nu
    (`iclkit.moments.mp_traces`) and ``u = tr R (R+nu)^-2 + x tr (R+nu)^-2``::

        bias = rho + x tr R (R+nu)^-1 + xi nu tr R (R+nu)^-2
        idg  = bias / (lambda/xi + xi u/tau)
        icl  = rho + nu^2 tr (R+nu)^-2 + x tr R^2 (R+nu)^-2 + (1 + x) u idg/tau
        train = idg (lambda/xi)^2

    where lambda/xi means ``max(0, 1 - 1/tau)`` without ridge. Every term is non-negative, so
    nothing cancels.

    References
    ----------
    Lu et al. 2025 for the ridgeless errors and the error on new tasks; the error on old tasks
    with ridge and this form of the sums are derived here.

    Examples
    --------
    >>> curve = learning_curve(10, 0.5, 0.5, 0.01)
    >>> round(float(curve.icl), 6), round(float(curve.idg), 6)
    (0.820849, 0.246343)
    """
    x, kappa, tau, rho, penalty = checked_ratios(alpha, kappa, tau, rho, penalty)
    check_threshold(tau, penalty)
    xi = _ridge(x, kappa, tau, penalty)
    kept = kept_share(xi, tau, penalty)
    return LearningCurve(*(part[()] for part in curve_at(xi, kept, x, kappa, tau, rho)))


def kept_share(xi: Floats, tau: Floats, penalty: Floats) -> Floats:
    """Return lambda/xi, the share of residuals that survives on the pretraining prompts."""
    ratio = penalty / np.where(xi > 0, xi, 1.0)
    return np.where(penalty > 0, ratio, np.maximum(0.0, 1.0 - 1.0 / tau))


@border
def effective_ridge(
    alpha: ArrayLike,
    kappa: ArrayLike,
    tau: ArrayLike,
    rho: ArrayLike,
    penalty: ArrayLike = 0.0,
) -> Floats:
    """Return the effective ridge xi that finite pretraining data add up to.

    Parameters
    ----------
    alpha, kappa, tau, rho, penalty : array_like
        As in `learning_curve`.

    Returns
    -------
    array
        ``xi >= penalty``; scalar for scalar input.

    Raises
    ------
    ValueError
        If an argument is out of its range or the shapes do not broadcast.

    Notes
    -----
    The root of ``1 - tau + tau lambda/xi - xi M_kappa(xi + x) = 0``, ``x = (1 + rho)/alpha``.
    Without ridge: 0 for tau >= 1, and ``(1 - tau)/(tau M_{kappa/tau}(x))`` for tau < 1.
    With ridge: Newton's method from the root at kappa = inf, an upper bound from which it
    decreases monotonically.

    References
    ----------
    Lu et al. 2025; the monotone iteration is derived here.

    Examples
    --------
    >>> round(float(effective_ridge(10, 0.5, 0.85, 0.01, penalty=0.1)), 10)
    0.2797118276
    """
    x, kappa, tau, _, penalty = checked_ratios(alpha, kappa, tau, rho, penalty)
    return _ridge(x, kappa, tau, penalty)[()]


def _ridge(x: Floats, kappa: Floats, tau: Floats, penalty: Floats) -> Floats:
    """Return xi: in closed form where the penalty is 0, by Newton's method elsewhere."""
    x, kappa, tau, penalty = np.broadcast_arrays(x, kappa, tau, penalty)
    xi, ridge = np.empty(x.shape), penalty > 0
    xi[~ridge] = ridgeless_ridge(x[~ridge], kappa[~ridge], tau[~ridge])
    x, kappa, tau, penalty = (part[ridge] for part in (x, kappa, tau, penalty))
    xi[ridge] = solve_ridge(
        lambda xi: task_traces(xi, x, kappa), 1.0 + x, tau=tau, penalty=penalty, size=1.0
    )
    return xi


def ridgeless_ridge(x: Floats, kappa: Floats, tau: Floats) -> Floats:
    """Return the effective ridge at penalty 0; it is 0 for tau >= 1."""
    few = np.minimum(tau, 1.0)
    return (1.0 / few - 1.0) / mp_resolvent(x, kappa / few)


def task_traces(xi: Floats, x: Floats, kappa: Floats) -> Traces:
    """Return the traces of the feature spectrum ``A = R + x``, R Wishart, at xi."""
    wishart = mp_traces(x + xi, kappa)
    return Traces(
        wishart.signal + x * wishart.resolvent,
        xi * wishart.resolvent,
        wishart.signal_resolvent + x * wishart.resolvent_square,
    )


def solve_ridge(
    traces: Callable[[Floats], Traces],
    mean: ArrayLike,
    *,
    tau: ArrayLike,
    penalty: ArrayLike,
    size: float,
) -> Floats:
    """Return the effective ridge of ridge regression with a given feature spectrum.

    Parameters
    ----------
    traces : callable
        xi -> `Traces` of the spectrum A.
    mean : array_like
        Mean eigenvalue of A.
    tau : array_like
        Samples per d^2.
    penalty : array_like
        Ridge, >= 0; if 0, tau must be below `size`.
    size : float
        Features per d^2: 1, or 1 + 1/d at finite d.

    Returns
    -------
    array

    Raises
    ------
    ConvergenceError
        If 200 steps do not suffice.

    Notes
    -----
    Solves ``penalty = xi (1 - tr A (A + xi)^-1 / tau)``. Times tau, its difference is concave
    in xi and positive at 0, so Newton's method from any upper bound decreases to the root. The
    bound is the root for the spectrum with all eigenvalues at their mean (Jensen).
    """
    tau, penalty = np.asarray(tau, dtype=np.float64), np.asarray(penalty, dtype=np.float64)
    mean = np.asarray(mean, dtype=np.float64)
    xi = positive_root(penalty + (size / tau - 1.0) * mean, penalty * mean)
    for _ in range(_MAX_STEPS):
        last, xi = xi, np.maximum(_newton(xi, traces(xi), tau, penalty, size), penalty)
        if np.all(np.abs(last - xi) <= _STEP * last):
            return xi
    raise ConvergenceError(f"no effective ridge for tau = {tau}, penalty = {penalty}")


def _newton(xi: Floats, at: Traces, tau: Floats, penalty: Floats, size: float) -> Floats:
    """Return the next iterate; 1 - kept/tau in whichever form cancels less."""
    gap = np.where(tau > size / 2, (1.0 - size / tau) + at.lost / tau, 1.0 - at.kept / tau)
    pull = xi * at.slope / tau
    return (penalty + xi * pull) / (gap + pull)


def curve_at(
    xi: Floats, kept: Floats, x: Floats, kappa: Floats, tau: Floats, rho: Floats
) -> LearningCurve:
    """Return the errors at the effective ridge xi, for callers that know it already.

    Parameters
    ----------
    xi : array
        Effective ridge.
    kept : array
        lambda/xi, the share of the errors that survives on the pretraining prompts.
    x, kappa, tau, rho : array
        Context noise ``(1 + rho)/alpha`` and the ratios of `learning_curve`.

    Returns
    -------
    LearningCurve
    """
    nu = x + xi
    at = mp_traces(nu, kappa)
    slope = at.signal_resolvent + x * at.resolvent_square
    bias = rho + x * at.signal + xi * nu * at.signal_resolvent
    idg = bias / (kept + xi * slope / tau)
    noise = (1.0 + x) * slope * idg / tau
    icl = rho + nu**2 * at.resolvent_square + x * at.signal_square + noise
    return LearningCurve(icl, idg, idg * kept**2)
