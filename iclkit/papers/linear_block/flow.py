"""Gradient flow on the risk of GD-beta, for the question whether training finds the optimum.

The risk is not convex, yet from every starting point the flow ends in a global minimum (Zhang,
Wu and Bartlett 2024, Theorem 6.3). Here the flow is exact: no sampling, no step size. Time is that
of the paper's appendix, where the weights move by *half* the negative gradient; rates for the full
gradient are twice as large.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp
from scipy.special import exprel

from iclkit._checks import border, finite_array, locked
from iclkit.papers.linear_block.arrays import checked_prior, checked_step
from iclkit.papers.linear_block.network import Weights, network_gradient
from iclkit.papers.linear_block.polynomial import Reduced
from iclkit.papers.linear_block.prior import RegressionPrior, whiten
from iclkit.solvers import ConvergenceError

__all__ = [
    "BlockFlow",
    "Flow",
    "FlowBounds",
    "LocalRates",
    "TrappedBlock",
    "block_flow",
    "flow_bounds",
    "flow_field",
    "gradient_flow",
    "local_rates",
    "loss_hessian",
    "trapped_block",
]

Floats = NDArray[np.float64]

_RTOL = 1e-12  # of each step; the worst error of a distance in four settings was 3e-11 of it
_STIFF_RANK = 25  # beyond it implicit steps, of cost rank^6, lose against many explicit ones
_STIFF_SIZE = 1000  # likewise for the weights of a block, of cost size^3
_ATOL = 1e-16  # share of the scale below which a deviation from the optimum is lost
_SOONEST = 1e-100  # the solver does not move before
_PATIENCE = 500_000  # evaluations; the paths of the book take less than a hundredth of them
_LARGEST = 1e70  # weights whose fourth power is still a number
_NO_FORCE = 1e-12  # a force below this share of its size is the rounding of zero


class Flow(NamedTuple):
    """A path of gradient flow.

    Attributes
    ----------
    times : (T,) array
    risk : (T,) array
        Noise included.
    beta : (T, dim) array
        Starting points of the gradient step.
    gamma : (T, dim, dim) array
        Its step matrices.
    excess : (T,) array
        Risk above the minimum, without the rounding of a difference.
    beta_error, gamma_error : (T,) array
        Distances from the optimum (Euclid, Frobenius) within the range of H, likewise.
    """

    times: Floats
    risk: Floats
    beta: Floats
    gamma: Floats
    excess: Floats
    beta_error: Floats
    gamma_error: Floats


class BlockFlow(NamedTuple):
    """A path of gradient flow on the weights of a linear transformer block.

    Attributes
    ----------
    times : (T,) array
    risk : (T,) array
        Noise included.
    weights : list of Weights
        One per time.
    """

    times: Floats
    risk: Floats
    weights: list[Weights]


class TrappedBlock(NamedTuple):
    """A block that has learned one direction in a way that can keep it from learning others.

    Attributes
    ----------
    weights : Reduced
    excess : float
        Its risk above the optimum.
    margin : float
        A local minimum of the risk, as a function of the reduced numbers, if above 1; a saddle if
        below. Infinite where the excess is 0.
    """

    weights: Reduced
    excess: float
    margin: float


class FlowBounds(NamedTuple):
    """Upper bounds of `Flow.beta_error` and `Flow.gamma_error` at each time.

    Attributes
    ----------
    beta, gamma : (T,) array
        As in the paper.
    beta_sharp, gamma_sharp : (T,) array
        With the best constants of the same proof.
    """

    beta: Floats
    gamma: Floats
    beta_sharp: Floats
    gamma_sharp: Floats


class LocalRates(NamedTuple):
    """How fast the flow approaches the optimum once it is close.

    Attributes
    ----------
    beta, gamma : float
        Rates of the two distances, for a start in general position; 0 for the step matrix where
        labels carry neither signal nor noise.
    beta_modes : (rank,) array
        All rates of the starting point, smallest first: the eigenvalues of ``H_Gamma*``.
    gamma_modes : (rank^2,) array
        All rates of the step matrix alone.
    """

    beta: float
    gamma: float
    beta_modes: Floats
    gamma_modes: Floats


class _Frame(NamedTuple):
    """The prior in the eigenbasis of H, in which gradient flow keeps its form; range only."""

    basis: Floats  # (dim, rank)
    scale: Floats  # (rank,), square roots of the eigenvalues of H
    phi: Floats  # (rank, rank), whitened task covariance
    omega: Floats  # (rank, rank)
    best: Floats  # (rank, rank), whitened optimal step matrix
    share: float  # 1/M
    noise_var: float

    @property
    def areas(self) -> Floats:
        """Products of the scales: whitening multiplies a step matrix by them."""
        return np.outer(self.scale, self.scale)


def _frame(prior: RegressionPrior) -> _Frame:
    rank = len(whiten(checked_prior(prior)).values)  # 1 where H = 0, which has none
    values, vectors = np.linalg.eigh(prior.input_cov)
    kept = (np.arange(prior.dim) >= prior.dim - rank) & (values > 0)
    scale, basis = np.sqrt(values[kept]), vectors[:, kept]
    phi = np.outer(scale, scale) * (basis.T @ prior.task_cov @ basis)
    share = 1.0 / prior.n_context
    level = float(np.trace(phi)) + prior.noise_var
    omega = (1.0 + share) * phi + share * level * np.eye(len(scale))
    best = np.linalg.solve(omega, phi).T if level > 0 else np.zeros_like(phi)
    return _Frame(basis, scale, phi, omega, best, share, prior.noise_var)


# ------------------------------------------------------------------ the flow


@border
def gradient_flow(
    prior: RegressionPrior,
    times: ArrayLike,
    *,
    beta0: ArrayLike | None = None,
    gamma0: ArrayLike | None = None,
) -> Flow:
    """Return the path of gradient flow on the risk of GD-beta.

    Parameters
    ----------
    prior : RegressionPrior
    times : (T,) array_like
        Increasing, from 0 on; the flow starts at time 0 even where the first time is later.
    beta0 : (dim,) array_like, optional
        Where the starting point starts. Default: zero.
    gamma0 : (dim, dim) array_like, optional
        Where the step matrix starts. Default: zero.

    Returns
    -------
    Flow

    Raises
    ------
    ValueError
        If the times do not increase or are negative, or a start has the wrong shape or is out of
        range.
    ConvergenceError
        If the solver gives up.

    Notes
    -----
    The weights move by *half* the negative gradient, as in the paper's appendix: with
    ``e = beta - task_mean``::

        dbeta/dt  = - H_Gamma e
        dgamma/dt = - (H gamma W_0 - H Psi H) - (1 + 1/M) H gamma H e e^T H
                    - (e^T H e / M) H gamma H + H e e^T H

        W_0     = (1 + 1/M) H Psi H + (kappa/M) H
        H_Gamma = (I - gamma H)^T H (I - gamma H)
                  + (tr(H gamma^T H gamma) H + H gamma^T H gamma H)/M

    The equations are solved for the deviations from the optimum, in the eigenbasis of H, by LSODA
    with the exact Jacobian: they are stiff, with rates from the square of H's smallest eigenvalue
    to that of its largest. Above rank 25 an explicit solver takes over, whose cost grows with the
    last time and the largest rate. Components in the null space of H do not move.

    References
    ----------
    Equations (6.1) and (G.1) of Zhang, Wu and Bartlett 2024; (6.1) has the full gradient.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> flow = gradient_flow(isotropic_prior(5, n_context=5, mean=1), [0, 1, 10])
    >>> flow.risk.round(6)
    array([10.      ,  3.791173,  2.727391])
    """
    times, frame = _times(times), _frame(prior)
    beta, gamma = _weights(prior, beta0, gamma0)
    start = _deviation(frame, beta - prior.task_mean, gamma)
    e, shift = _solve(frame, times, *start)
    moved = np.einsum("di,tij,ej->tde", frame.basis, shift - start[1], frame.basis)
    excess = _excess(frame, e, shift)
    return Flow(
        times=times,
        risk=_minimum(frame) + excess,
        beta=beta + (e - start[0]) @ frame.basis.T,
        gamma=gamma + moved,
        excess=excess,
        beta_error=np.linalg.norm(e, axis=1),
        gamma_error=np.linalg.norm(shift, axis=(1, 2)),
    )


def _times(times: ArrayLike) -> Floats:
    times = finite_array("times", times, ndim=1)
    if times[0] < 0 or (np.diff(times) <= 0).any():
        raise ValueError(
            f"times must start at 0 or later and increase, got {times[0]:g} first and "
            f"{np.diff(times).min(initial=np.inf):g} as the smallest step"
        )
    if 0 < times[-1] < _SOONEST:
        raise ValueError(f"times must end at {_SOONEST:g} or later, got {times[-1]:g}")
    return locked(times)


def _weights(
    prior: RegressionPrior, beta: ArrayLike | None, gamma: ArrayLike | None
) -> tuple[Floats, Floats]:
    """Return checked weights of GD-beta, zero where they are not given."""
    dim = prior.dim
    start = np.zeros(dim) if beta is None else beta
    return checked_step(start, np.zeros((dim, dim)) if gamma is None else gamma, dim)


def _deviation(frame: _Frame, e: Floats, gamma: Floats) -> tuple[Floats, Floats]:
    """Return the distances of both weights from the optimum, in the frame."""
    sizes = [np.abs(part).max(initial=0.0) for part in (e, gamma, frame.best / frame.areas)]
    if max(sizes) > _LARGEST:
        raise ValueError(
            f"beta, gamma and the best step must be at most {_LARGEST:g}, got {max(sizes):.3g}; "
            "change units"
        )
    shift = frame.basis.T @ gamma @ frame.basis - frame.best / frame.areas
    return frame.basis.T @ e, shift


def _solve(frame: _Frame, times: Floats, e: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Return the deviations at each time, (T, rank) and (T, rank, rank)."""
    rank = len(e)
    if rank == 0:
        return np.zeros((len(times), 0)), np.zeros((len(times), 0, 0))

    def state_of(y: Floats) -> tuple[Floats, Floats]:
        return y[:rank], y[rank:].reshape(rank, rank)

    def velocity(_: float, y: Floats) -> Floats:
        return np.concatenate([part.ravel() for part in _velocity(frame, *state_of(y))])

    def jacobian(_: float, y: Floats) -> Floats:
        return _jacobian(frame, *state_of(y))

    natural = frame.scale.max() ** -2.0  # a step that undoes the largest eigenvalue of H
    size = np.linalg.norm(shift) + np.linalg.norm(frame.best / frame.areas) + natural
    atol = _ATOL * np.repeat([np.linalg.norm(e), size], [rank, rank**2]) + 1e-300
    path = _integrate(
        velocity,
        times,
        np.concatenate([e, shift.ravel()]),
        **({"method": "DOP853"} if rank > _STIFF_RANK else {"jac": jacobian}),
        rtol=_RTOL,
        atol=atol,
    )
    return path[:, :rank], path[:, rank:].reshape(-1, rank, rank)


def _integrate(
    velocity: Callable[[float, Floats], Floats], times: Floats, start: Floats, **options: Any
) -> Floats:
    """Return the state at each time, (T, size), by a solver for stiff equations."""
    if times[-1] == 0.0:
        return start[None]
    span = (0.0, float(times[-1]))
    options = {"method": "LSODA", "t_eval": times, **options}
    with np.errstate(over="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what the solver says is said below
        solution = solve_ivp(_watched(velocity), span, start, **options)
    if not solution.success:
        raise ConvergenceError(f"gradient flow up to time {times[-1]:g}: {solution.message}")
    return np.asarray(solution.y.T, dtype=np.float64)


def _watched(velocity: Callable[[float, Floats], Floats]) -> Callable[[float, Floats], Floats]:
    """Return the same function, which gives up where a solver would go on for ever."""
    calls = count()

    def watched(time: float, state: Floats) -> Floats:
        slope = velocity(time, state)
        if next(calls) > _PATIENCE or not np.isfinite(slope).all():
            raise ConvergenceError(
                f"gradient flow does not get beyond time {time:.3g}, where the largest weight has "
                f"size {np.abs(state).max():.3g}; start closer to the optimum"
            )
        return slope

    return watched


def _velocity(frame: _Frame, e: Floats, shift: Floats) -> tuple[Floats, Floats]:
    """Return the time derivatives of the deviations; small where the deviations are."""
    h, off = frame.scale * e, frame.areas * shift
    step = frame.best + off
    left = h - step @ h
    pull = left - step.T @ left + frame.share * (step.T @ (step @ h) + np.sum(step**2) * h)
    slope = off @ frame.omega - np.outer(left - frame.share * (step @ h), h)
    return -frame.scale * pull, -frame.areas * (slope + frame.share * (h @ h) * step)


def _jacobian(frame: _Frame, e: Floats, shift: Floats) -> Floats:
    """Return the symmetric matrix of derivatives of `_velocity`: minus half the Hessian."""
    rank, share = len(e), frame.share
    h, step = frame.scale * e, frame.best + frame.areas * shift
    eye, more = np.eye(rank), 1.0 + share
    rest = eye - step
    corner = rest.T @ rest + share * (step.T @ step + np.sum(step**2) * eye)
    block = frame.omega + more * np.outer(h, h) + share * (h @ h) * eye
    mixed = more * (np.einsum("ik,j->ijk", step, h) + np.einsum("i,jk->ijk", step @ h, eye))
    mixed += 2.0 * share * np.einsum("ij,k->ijk", step, h)
    mixed -= np.einsum("ik,j->ijk", eye, h) + np.einsum("i,jk->ijk", h, eye)
    mixed = mixed.reshape(rank**2, rank)
    whole = np.block([[corner, mixed.T], [mixed, np.kron(eye, block)]])
    scale = np.concatenate([frame.scale, frame.areas.ravel()])
    return -scale[:, None] * whole * scale


def _excess(frame: _Frame, e: Floats, shift: Floats) -> Floats:
    """Return the risk above the minimum at deviations (T, rank) and (T, rank, rank)."""
    h, off = frame.scale * e, frame.areas * shift
    step = frame.best + off
    moved = np.einsum("tij,tj->ti", step, h)
    size = np.einsum("tij,tij->t", step, step) * np.einsum("ti,ti->t", h, h)
    mean_part = np.sum((h - moved) ** 2 + frame.share * moved**2, axis=1) + frame.share * size
    return mean_part + np.einsum("tij,jk,tik->t", off, frame.omega, off)


def _minimum(frame: _Frame) -> float:
    return frame.noise_var + float(np.sum(frame.phi * (np.eye(len(frame.phi)) - frame.best)))


@border
def flow_field(prior: RegressionPrior, beta: ArrayLike, gamma: ArrayLike) -> tuple[Floats, Floats]:
    """Return the velocity of gradient flow: minus half the gradient of the risk of GD-beta.

    Parameters
    ----------
    prior : RegressionPrior
    beta : (dim,) array_like
    gamma : (dim, dim) array_like

    Returns
    -------
    ((dim,) array, (dim, dim) array)

    Raises
    ------
    ValueError
        If a shape is wrong.

    Notes
    -----
    The right sides of the equations of `gradient_flow`.

    References
    ----------
    Equation (G.1) of Zhang, Wu and Bartlett 2024.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> flow_field(isotropic_prior(1, n_context=5, mean=1), [0], [[0]])
    (array([1.]), array([[2.]]))
    """
    frame = _frame(prior)
    beta, gamma = checked_step(beta, gamma, prior.dim)
    e, shift = _velocity(frame, *_deviation(frame, beta - prior.task_mean, gamma))
    return frame.basis @ e, frame.basis @ shift @ frame.basis.T


@border
def loss_hessian(prior: RegressionPrior, beta: ArrayLike, gamma: ArrayLike) -> Floats:
    """Return the Hessian of the risk of GD-beta; a negative eigenvalue shows it is not convex.

    Parameters
    ----------
    prior : RegressionPrior
    beta : (dim,) array_like
    gamma : (dim, dim) array_like

    Returns
    -------
    (dim + dim^2, dim + dim^2) array
        Symmetric; beta first, then gamma row by row.

    Raises
    ------
    ValueError
        If a shape is wrong.

    Notes
    -----
    At ``gamma = 0`` it has a negative eigenvalue as soon as beta is far enough from the mean task:
    in whitened coordinates, with ``h = H^{1/2} (beta - task_mean)`` and the unit vector n along it,
    if ``(3 M - 2) |h|^2 > (M + 1) n^T Phi n + kappa``. So no prior with inputs has a convex risk.

    References
    ----------
    That the risk is not convex: Zhang, Wu and Bartlett 2024; the Hessian and the condition:
    derived here.

    Examples
    --------
    >>> import numpy as np
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> hessian = loss_hessian(isotropic_prior(1, n_context=5, mean=1), [0], [[0]])
    >>> np.linalg.eigvalsh(hessian).round(3)
    array([-0.586,  8.186])
    """
    frame = _frame(prior)
    beta, gamma = checked_step(beta, gamma, prior.dim)
    inner = -2.0 * _jacobian(frame, *_deviation(frame, beta - prior.task_mean, gamma))
    (dim, rank), size = frame.basis.shape, prior.dim
    turn = np.zeros((size + size**2, rank + rank**2))
    turn[:dim, :rank] = frame.basis
    turn[dim:, rank:] = np.kron(frame.basis, frame.basis)
    return turn @ inner @ turn.T


# ------------------------------------------------------------------ rates


@border
def flow_bounds(
    prior: RegressionPrior,
    times: ArrayLike,
    *,
    beta0: ArrayLike | None = None,
    gamma0: ArrayLike | None = None,
) -> FlowBounds:
    """Return bounds of both distances from the optimum at each time.

    Parameters
    ----------
    prior, times, beta0, gamma0
        As in `gradient_flow`.

    Returns
    -------
    FlowBounds

    Raises
    ------
    ValueError
        As in `gradient_flow`.

    Notes
    -----
    With the extreme positive eigenvalues ``l`` and ``L`` of H, ``a = l^2 lambda_min(Omega)`` and
    distances within the range of H::

        |beta - beta*|   <= exp(-c t/2) |beta - beta*|(0)
        |Gamma - Gamma*| <= exp(-a t) |Gamma - Gamma*|(0)
                            + A_2 (exp(-c t) - exp(-a t))/(a - c)

    The paper has ``c = 2 l/(M+1)`` and ``A_2 = (2 + 2/M) L^2 |beta - beta*|^2(0)``, with the norm
    of the whole vector where only its part in the range matters. The sharp constants are
    ``c = 4 l/(M+2)``, because ``H_Gamma >= 2 H/(M+2)`` with equality along a direction for a step
    matrix of rank one, and ``1 + |H^{1/2} Gamma* H^{1/2}|/M``, at most 2, in place of ``2 + 2/M``.

    References
    ----------
    Theorem 6.3 and Appendix G of Zhang, Wu and Bartlett 2024; the sharp constants: new here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> bounds = flow_bounds(isotropic_prior(4, n_context=5, mean=1), [0, 6])
    >>> bounds.beta.round(4), bounds.beta_sharp.round(4)
    (array([2.    , 0.7358]), array([2.    , 0.3602]))
    """
    times, frame = _times(times), _frame(prior)
    beta, gamma = _weights(prior, beta0, gamma0)
    e, shift = (
        float(np.linalg.norm(part)) for part in _deviation(frame, beta - prior.task_mean, gamma)
    )
    share = frame.share
    printed = 1.0 / (1.0 + 1.0 / share), 2.0 + 2.0 * share
    sharp = 2.0 / (2.0 + 1.0 / share), 1.0 + share * float(np.linalg.norm(frame.best))
    pairs = [_bounds(frame, times, e, shift, constants) for constants in (printed, sharp)]
    return FlowBounds(*pairs[0], *pairs[1])


def _bounds(
    frame: _Frame, times: Floats, e: float, shift: float, constants: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Return both bounds for one pair of constants."""
    if not frame.scale.size:
        return np.zeros_like(times), np.zeros_like(times)
    low, high = frame.scale.min() ** 2, frame.scale.max() ** 2
    fade, drive = 2.0 * constants[0] * low, constants[1] * high**2 * e**2
    own = low**2 * float(np.linalg.eigvalsh(frame.omega)[0])
    slow, gap = min(fade, own), abs(fade - own)
    forced = drive * times * np.exp(-slow * times) * exprel(-gap * times)
    return e * np.exp(-0.5 * fade * times), shift * np.exp(-own * times) + forced


@border
def local_rates(prior: RegressionPrior) -> LocalRates:
    """Return the rates at which gradient flow approaches the optimum in the end.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    LocalRates

    Raises
    ------
    ValueError
        If there are no inputs (``H = 0``): then nothing moves.

    Notes
    -----
    At the optimum the Hessian has two blocks. The starting point relaxes with the eigenvalues of
    ``H_Gamma*``, the step matrix with the products of those of H and of
    ``W_0 = H^{1/2} Omega H^{1/2}``. An error of the starting point also drives the step matrix,
    quadratically, so the distance of the latter falls with
    ``min(lambda_min(H) lambda_min(W_0), 2 lambda_min(H_Gamma*))``. One case is different: where
    tasks vary along one direction and there is no noise, an error along it exerts no force; if it
    is the slowest error, the next slower force counts, and in one dimension there is none. Null
    directions are left out.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> rates = local_rates(isotropic_prior(5, n_context=5, mean=1))
    >>> round(rates.beta, 6), round(rates.gamma, 6)
    (0.545455, 1.090909)
    """
    frame = _frame(prior)
    rank = len(frame.scale)
    if rank == 0:
        raise ValueError("input_cov must not be zero, got no direction in which anything moves")
    relax = -_jacobian(frame, np.zeros(rank), np.zeros((rank, rank)))
    beta, vectors = np.linalg.eigh(relax[:rank, :rank])
    fade = _force_rate(frame, beta, vectors)
    driven = np.linalg.eigvalsh(frame.areas * frame.omega)
    gamma = np.sort(np.outer(frame.scale**2, driven), axis=None)
    return LocalRates(float(beta[0]), float(min(gamma[0], fade)), beta, gamma)


def _force_rate(frame: _Frame, rates: Floats, modes: Floats) -> float:
    """Return the rate of the slowest force that errors of the start exert on the step matrix."""
    h = frame.scale * modes[:, 0]
    force = np.outer(h - (1.0 + frame.share) * frame.best @ h, h)
    force -= frame.share * (h @ h) * frame.best
    if np.linalg.norm(force) > _NO_FORCE * (h @ h):
        return 2.0 * float(rates[0])
    return float(rates[:2].sum()) if len(rates) > 1 else np.inf


# ------------------------------------------------------------------ the block's own weights


@border
def block_flow(prior: RegressionPrior, times: ArrayLike, weights: Weights) -> BlockFlow:
    """Return the path of gradient flow on the weight matrices of a block, or of attention alone.

    Parameters
    ----------
    prior : RegressionPrior
    times : (T,) array_like
        Increasing, from 0 on; the flow starts at time 0.
    weights : Weights
        Where it starts.

    Returns
    -------
    BlockFlow

    Raises
    ------
    TypeError
        If `weights` is of another type.
    ValueError
        If the times do not increase or are negative, or a matrix does not fit the prior.
    ConvergenceError
        If the solver gives up.

    Notes
    -----
    Half the negative gradient of the exact risk, by every matrix; like `gradient_flow`, but in the
    parametrisation that is trained in practice. Products of matrices have saddles, so this flow
    can rest for a long time above the minimum; no theorem covers it.

    References
    ----------
    New here; Zhang, Wu and Bartlett 2024 leave the block's own weights open.

    Examples
    --------
    >>> from iclkit.papers.linear_block import gd_to_block, isotropic_prior
    >>> prior = isotropic_prior(2, n_context=3, mean=1)
    >>> flow = block_flow(prior, [0, 20], gd_to_block([1, 0], [[0.1, 0], [0, 0.1]]))
    >>> flow.risk.round(6)  # the optimum is 1
    array([2.46, 1.  ])
    """
    times = _times(times)
    if not isinstance(weights, Weights):
        raise TypeError(f"weights must be Weights, got {type(weights).__name__}")
    network_gradient(prior, weights)  # names what does not fit
    given = [np.asarray(part, dtype=np.float64) for part in weights if part is not None]
    ends = np.cumsum([part.size for part in given])[:-1]

    def unpack(y: Floats) -> Weights:
        pieces = zip(np.split(y, ends), given, strict=True)
        return Weights(*(piece.reshape(part.shape) for piece, part in pieces))

    def velocity(_: float, y: Floats) -> Floats:
        _, slope = network_gradient(prior, unpack(y))
        return -0.5 * np.concatenate([part.ravel() for part in slope if part is not None])

    start = np.concatenate([part.ravel() for part in given])
    options = {"method": "DOP853"} if len(start) > _STIFF_SIZE else {}
    path = _integrate(velocity, times, start, **options, rtol=1e-9, atol=1e-12)
    found = [unpack(y) for y in path]
    return BlockFlow(times, np.array([network_gradient(prior, w)[0] for w in found]), found)


@border
def trapped_block(prior: RegressionPrior) -> TrappedBlock:
    """Return the critical point of the block's risk that uses the leading direction alone.

    Parameters
    ----------
    prior : RegressionPrior
        With a task covariance that is not zero on the range of the input covariance.

    Returns
    -------
    TrappedBlock

    Raises
    ------
    ValueError
        If the tasks do not vary: then there is no direction.

    Notes
    -----
    In whitened coordinates ``u0 = 0``, ``A = 0``, ``v b^T = (phi_1/omega_1) e_1 e_1^T`` and the
    mean is learned: the values read inputs, the keys read labels. The risk exceeds the optimum by
    ``sum_i phi_i^2/omega_i`` over ``i >= 2``. To learn more, u0 and A have to grow together; the
    quadratic form of the risk in both is positive if and only if the margin::

        2 (phi_1/omega_1)^2 (kappa^2 + (M+2) tau_2 - phi_1^2) / (M^2 sum_{i>=2} phi_i^2)

    exceeds 1. Then this is a strict local minimum up to what leaves the risk unchanged: the scale
    of ``(b, v)``, the null space of H and, where phi_1 is multiple, rotations of its eigenspace.
    Where phi_1 is the only positive value it is the optimum. As a function of the reduced numbers
    it is a saddle if the margin is below 1; at 1 the second order does not decide.

    References
    ----------
    New here.

    Examples
    --------
    >>> import numpy as np
    >>> prior = RegressionPrior(np.eye(3), [2, 0, 0], np.diag([4, 1, 0.25]), 0.0, 10)
    >>> trap = trapped_block(prior)
    >>> round(trap.excess, 4), round(trap.margin, 4)
    (0.6935, 2.6859)
    """
    white = whiten(checked_prior(prior))
    phi, omega, first = white.values, white.curvature, white.inverse[0]
    if phi[0] == 0.0:
        raise ValueError("task_cov must not be zero on the range of input_cov, got no direction")
    share, mean, M = phi[0] / omega[0], prior.task_mean, white.n_context
    part = phi / phi[0]  # squares of the values themselves might underflow
    rest = float(part[1:] @ part[1:])
    stiff = (white.level / phi[0]) ** 2 + (M + 2) * (1.0 + rest) - 1.0
    margin = 2.0 * (share / M) ** 2 * stiff / rest if rest else np.inf
    weights = Reduced(first, 0.0, -share * np.outer(mean, first), share * first, mean)
    return TrappedBlock(weights, float((phi[1:] / omega[1:]) @ phi[1:]), float(margin))
