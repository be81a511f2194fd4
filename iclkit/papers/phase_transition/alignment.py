"""Order parameters: how much of a trained readout is memory, and how much is learning."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, finite_array, scalar
from iclkit.moments import mp_traces
from iclkit.papers.phase_transition.finite import finite_readout
from iclkit.papers.phase_transition.theory import (
    check_threshold,
    checked_ratios,
    curve_at,
    effective_ridge,
    kept_share,
)

__all__ = ["Alignment", "alignment", "alignment_curve", "finite_alignment"]

Floats = NDArray[np.float64]


class Alignment(NamedTuple):
    """Where a readout points, its last column left out.

    Attributes
    ----------
    memory : float or array
        Cosine with the memorising filter ``R (R + x)^-1``, the best readout for the pool.
    learning : float or array
        Cosine with the identity, the best readout for new tasks.
    power : float or array
        ``|gamma|^2/d``; times 1 + rho it is how fast errors fall with 1/alpha at test time.
    """

    memory: Floats | float
    learning: Floats | float
    power: Floats | float


@border
def alignment(
    gamma: ArrayLike, task_moment: ArrayLike, *, n_context: float, rho: float
) -> Alignment:
    """Return the order parameters of a trained gamma.

    Parameters
    ----------
    gamma : (dim, dim + 1) array_like
        Readout matrix, not zero.
    task_moment : (dim, dim) array_like
        Mean of ``w w^T`` over the pretraining tasks.
    n_context : float
        Labelled examples per pretraining prompt, > 0.
    rho : float
        Label-noise variance, >= 0.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        If shapes do not match, an argument is out of its range, or a matrix is zero.

    Notes
    -----
    The angle is that of matrices, ``<A, B> = tr A B^T``, and ``x = (1 + rho) d/n_context``.

    References
    ----------
    New here.

    Examples
    --------
    >>> import numpy as np
    >>> order = alignment(np.eye(2, 3), np.diag([2.0, 0.0]), n_context=4, rho=0.0)
    >>> round(order.memory, 6), round(order.learning, 6)
    (0.707107, 1.0)
    """
    gamma = finite_array("gamma", gamma, ndim=2)
    memory = _memory_filter(finite_array("task_moment", task_moment, ndim=2), n_context, rho)
    dim = len(memory)
    if gamma.shape != (dim, dim + 1):
        raise ValueError(f"gamma must have shape {(dim, dim + 1)}, got {gamma.shape}")
    gamma = gamma[:, :dim]
    if not gamma.any():
        raise ValueError("gamma must not be zero: it points nowhere")
    return _angles(gamma, memory, float(np.sum(gamma**2)) / dim)


def _memory_filter(task_moment: Floats, n_context: float, rho: float) -> Floats:
    """Return ``R (R + x)^-1``."""
    dim = len(task_moment)
    if task_moment.shape != (dim, dim):
        raise ValueError(f"task_moment must be square, got shape {task_moment.shape}")
    if not task_moment.any():
        raise ValueError("task_moment must not be zero: there is no task to memorise")
    x = (1.0 + scalar("rho", rho)) * dim / scalar("n_context", n_context, open_=True)
    return np.asarray(np.linalg.solve(task_moment + x * np.eye(dim), task_moment))


def _angles(mean: Floats, memory: Floats, power: float) -> Alignment:
    """Return the order parameters from the mean readout and its power, noise included."""
    dim = len(memory)
    overlap = float(np.sum(mean * memory)) / np.sqrt(np.sum(memory**2) * power * dim)
    return Alignment(float(overlap), float(np.trace(mean) / (dim * np.sqrt(power))), power)


@border
def finite_alignment(
    task_mean: ArrayLike,
    task_moment: ArrayLike,
    *,
    n_prompts: float,
    n_context: float,
    rho: float,
    penalty: float = 0.0,
) -> Alignment:
    """Return the order parameters that a given task pool leads to at finite dimension.

    Parameters
    ----------
    task_mean, task_moment, n_prompts, n_context, rho, penalty
        As in `finite_readout`.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        As `finite_readout`.

    Notes
    -----
    Overlaps with fixed matrices are those of the mean of `finite_readout`; the power adds its
    spread.

    References
    ----------
    New here.

    Examples
    --------
    >>> import numpy as np
    >>> order = finite_alignment(np.zeros(8), np.eye(8), n_prompts=200, n_context=24, rho=0.1)
    >>> round(order.memory, 6) == round(order.learning, 6)
    True
    """
    law = finite_readout(
        task_mean, task_moment, n_prompts=n_prompts, n_context=n_context, rho=rho, penalty=penalty
    )
    dim = len(law.mean)
    mean = law.mean[:, :dim]
    power = float(np.sum(mean**2)) / dim + float(np.trace(law.spread[:dim, :dim]))
    return _angles(mean, _memory_filter(np.asarray(task_moment, float), n_context, rho), power)


@border
def alignment_curve(
    alpha: ArrayLike,
    kappa: ArrayLike,
    tau: ArrayLike,
    rho: ArrayLike,
    penalty: ArrayLike = 0.0,
) -> Alignment:
    """Return the asymptotic order parameters of pretrained linear attention.

    Parameters
    ----------
    alpha, kappa, tau, rho, penalty : array_like
        As in `learning_curve`; they broadcast together.

    Returns
    -------
    Alignment
        Arrays (scalars for scalar input).

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes do not broadcast, or tau = 1 where the
        penalty is 0.

    Notes
    -----
    With ``s(z) = tr R (R + z)^-1``, the quantities of `learning_curve` and
    ``q = s(x) s(nu)/kappa``::

        power = tr R^2 (R+nu)^-2 + u idg/tau
        learning = s(nu) / sqrt(power)
        memory = tr R^2 (R+x)^-1 (R+nu)^-1 / sqrt(power tr R^2 (R+x)^-2)
        tr R^2 (R+x)^-1 (R+nu)^-1 = s(x) s(nu) + (1 - s(x)) (1 - s(nu)) q/(1 - q)

    As tau and then alpha grow, memory tends to 1 and learning to ``sqrt(min(kappa, 1))``.
    On new tasks the best multiple of gamma has the error
    ``1 + rho - learning^2/(1 + x)``.

    References
    ----------
    New here.

    Examples
    --------
    >>> order = alignment_curve(10, [0.5, 2], 3, 0.01)
    >>> order.memory.round(3), order.learning.round(3)
    (array([0.858, 0.955]), array([0.605, 0.947]))
    """
    x, kappa, tau, rho, penalty = checked_ratios(alpha, kappa, tau, rho, penalty)
    check_threshold(tau, penalty)
    xi = np.asarray(effective_ridge(alpha, kappa, tau, rho, penalty))
    idg = curve_at(xi, kept_share(xi, tau, penalty), x, kappa, tau, rho).idg
    pure, at = mp_traces(x, kappa), mp_traces(x + xi, kappa)
    power = at.signal_square + (at.signal_resolvent + x * at.resolvent_square) * idg / tau
    q = pure.signal * at.signal / kappa
    missed = x * pure.resolvent * (x + xi) * at.resolvent
    overlap = pure.signal * at.signal + missed * q / (1.0 - q)
    memory = overlap / np.sqrt(power * pure.signal_square)
    return Alignment(memory[()], (at.signal / np.sqrt(power))[()], power[()])
