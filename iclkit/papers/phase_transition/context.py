"""Test-time context: a model pretrained at one context length and tested at another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, finite_array
from iclkit.moments import (
    AttentionMoments,
    attention_moments,
    mp_traces,
    positive_array,
    readout_error,
)
from iclkit.papers.phase_transition.finite import finite_readout, pretrain
from iclkit.papers.phase_transition.limits import Errors
from iclkit.papers.phase_transition.theory import (
    check_broadcast,
    check_threshold,
    checked_ratios,
    curve_at,
    effective_ridge,
    kept_share,
)

__all__ = [
    "ContextLine",
    "context_line",
    "context_transfer",
    "simulate_contexts",
    "transfer_at",
]

Floats = NDArray[np.float64]

_ENDLESS = 1e300  # labelled examples: 1 + 1/l is 1 and d/l is 0, up to rounding


class ContextLine(NamedTuple):
    """The error of one readout at every test-time context: ``limit + slope/alpha``.

    Attributes
    ----------
    limit : float
        Error with an endless context.
    slope : float
        Non-negative: more context at test time never hurts.
    """

    limit: float
    slope: float


@border
def context_line(
    gamma: ArrayLike, *, rho: float, task_mean: ArrayLike, task_moment: ArrayLike
) -> ContextLine:
    """Return the exact error of a trained gamma as a function of the test-time context.

    Parameters
    ----------
    gamma : (dim, dim + 1) array_like
        Readout matrix.
    rho : float
        Label-noise variance, >= 0.
    task_mean : (dim,) array_like
        Mean test task: zero for new tasks, the pool's mean for pretraining tasks.
    task_moment : (dim, dim) array_like
        Mean of ``w w^T``; tasks lie on the sphere ``|w|^2 = dim``.

    Returns
    -------
    ContextLine
        The error at ``alpha = n_context/dim`` is ``limit + slope/alpha``, at every dim.

    Raises
    ------
    ValueError
        If shapes do not match or an argument is out of its range.

    Notes
    -----
    Given its task, a context's features v are the mean of l independent vectors
    ``(d y_i x_i, y_i^2)``, and the prediction is linear in v. So
    ``E[v v^T] = E[m m^T] + E[S]/l`` with their mean m and covariance S, and
    ``slope = tr gamma E[S] gamma^T / d^2``. Nothing but the independence of the examples is
    used; the numbers are those of Gaussian inputs.

    References
    ----------
    New here.

    Examples
    --------
    >>> import numpy as np
    >>> new = {"task_mean": np.zeros(3), "task_moment": np.eye(3)}
    >>> line = context_line(np.eye(3, 4) / 2, rho=0.25, **new)
    >>> round(line.limit, 6), round(line.slope, 6)
    (0.5, 0.395833)
    """
    gamma = finite_array("gamma", gamma, ndim=2)
    tasks = finite_array("task_mean", task_mean, ndim=1), task_moment
    return _line(partial(readout_error, gamma), *tasks, rho=rho)


def _line(
    error: Callable[[AttentionMoments], float],
    task_mean: Floats,
    task_moment: ArrayLike,
    *,
    rho: float,
) -> ContextLine:
    """Return the line of any error that is affine in the features' second moment."""
    one, endless = (
        attention_moments(task_mean, task_moment, n_context=n_context, noise_var=rho)
        for n_context in (1.0, _ENDLESS)
    )
    # Both errors subtracted would leave no digit of the slope where gamma is small.
    spread = AttentionMoments(np.zeros_like(one.cross), one.gram - endless.gram, 0.0)
    return ContextLine(error(endless), error(spread) / len(task_mean))


@border
def simulate_contexts(
    *,
    d: int,
    alpha: float,
    kappa: float,
    tau: float,
    rho: float,
    penalty: float,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return the errors at every test-time context of one model, pretrained once.

    Parameters
    ----------
    d, alpha, kappa, tau, rho, penalty, rng
        As in `simulate`; alpha is the context length of pretraining.

    Returns
    -------
    dict of float
        ``icl_limit, icl_slope, idg_limit, idg_slope``: the `context_line` on new tasks and on
        the realised pretraining tasks; ``icl_equivalent_limit`` and so on: those of
        `finite_readout` for the same pool.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    A cell for sweeps. Two numbers per kind of task give the exact error at every length, so
    errors at different lengths are those of the same model.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> lines = simulate_contexts(
    ...     d=10, alpha=5, kappa=2, tau=3, rho=0.01, penalty=0.1, rng=stream(0)
    ... )
    >>> 0 < lines["idg_limit"] < lines["icl_limit"] < lines["icl_slope"]
    True
    """
    model = pretrain(d=d, alpha=alpha, kappa=kappa, tau=tau, rho=rho, penalty=penalty, rng=rng)
    law = finite_readout(
        model.pool.mean,
        model.pool.second_moment,
        n_prompts=model.size.n_prompts,
        n_context=model.size.n_context,
        rho=rho,
        penalty=penalty,
    )
    dim = model.pool.dim
    new, old = (np.zeros(dim), np.eye(dim)), (model.pool.mean, model.pool.second_moment)
    found: dict[str, float] = {}
    for ending, error in (("", partial(readout_error, model.gamma)), ("_equivalent", law.error)):
        for name, tasks in (("icl", new), ("idg", old)):
            line = _line(error, *tasks, rho=rho)
            found |= {f"{name}{ending}_{part}": value for part, value in line._asdict().items()}
    return found


@border
def context_transfer(
    alpha: ArrayLike,
    kappa: ArrayLike,
    tau: ArrayLike,
    rho: ArrayLike,
    penalty: ArrayLike = 0.0,
    *,
    alpha_test: ArrayLike,
) -> Errors:
    """Return the asymptotic errors of a model that is tested at another context length.

    Parameters
    ----------
    alpha, kappa, tau, rho, penalty : array_like
        As in `learning_curve`; alpha is the context length of pretraining.
    alpha_test : array_like
        Context length of the test, > 0; infinity allowed. All arguments broadcast together.

    Returns
    -------
    Errors
        On new tasks and on pretraining tasks.

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes do not broadcast, or tau = 1 where the
        penalty is 0.

    Notes
    -----
    With ``x' = (1 + rho)/alpha_test`` and the quantities of `learning_curve`::

        icl = rho + nu^2 tr (R+nu)^-2 + x' tr R^2 (R+nu)^-2 + (1 + x') u e/tau
        idg = rho + nu^2 tr R (R+nu)^-2 + x' tr R^2 (R+nu)^-2
              + tr (R+x)(R+x')(R+nu)^-2 e/tau

    where e is the error on pretraining tasks at alpha itself. Both are affine in 1/alpha_test
    with the same slope ``(1 + rho) (tr R^2 (R+nu)^-2 + u e/tau)``, so their difference does not
    depend on the test-time context.

    References
    ----------
    Derived here; that the authors treat other test-time contexts in later work is recalled.

    Examples
    --------
    >>> context_transfer(5, 2, 3, 0.01, alpha_test=[1, 5, 1000]).icl.round(3)
    array([0.892, 0.332, 0.193])
    """
    x, kappa, tau, rho, penalty = checked_ratios(alpha, kappa, tau, rho, penalty)
    check_threshold(tau, penalty)
    alpha_test = positive_array("alpha_test", alpha_test, infinite=True)
    check_broadcast(alpha=x, kappa=kappa, tau=tau, rho=rho, penalty=penalty, alpha_test=alpha_test)
    x_test = (1.0 + rho) / alpha_test
    xi = np.asarray(effective_ridge(alpha, kappa, tau, rho, penalty))
    kept = kept_share(xi, tau, penalty)
    errors = transfer_at(xi, kept, (x, x_test), kappa, tau, rho)
    return Errors(*(part[()] for part in errors))


def transfer_at(
    xi: Floats,
    kept: Floats,
    noise: tuple[Floats, Floats],
    kappa: Floats,
    tau: Floats,
    rho: Floats,
) -> Errors:
    """Return the errors at another context, for callers that know the effective ridge.

    Parameters
    ----------
    xi : array
        Effective ridge.
    kept : array
        lambda/xi, the share of the errors that survives on the pretraining prompts.
    noise : (array, array)
        Context noise ``(1 + rho)/alpha`` of pretraining and of the test.
    kappa, tau, rho : array
        Ratios of `learning_curve`.

    Returns
    -------
    Errors
    """
    x, x_test = noise
    nu, passed_on = x + xi, curve_at(xi, kept, x, kappa, tau, rho).idg / tau
    at = mp_traces(nu, kappa)
    signal, mixed, plain = at.signal_square, at.signal_resolvent, at.resolvent_square
    kernel = signal + (x + x_test) * mixed + x * x_test * plain
    filtered = rho + x_test * signal
    icl = filtered + nu**2 * plain + (1.0 + x_test) * (mixed + x * plain) * passed_on
    return Errors(icl, filtered + nu**2 * mixed + kernel * passed_on)
