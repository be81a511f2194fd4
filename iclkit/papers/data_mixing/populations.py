"""Ridge regression on a mixture of populations: the equivalent that keeps sources apart.

For the page on theory. Prompts of a noisy or structured source pull harder on the fit than
others. Each source has its own leverage; with equal leverages the equations are those of
`iclkit.papers.data_mixing.equivalents`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from iclkit import hermite
from iclkit.papers.data_mixing.moments import Cell, Moments
from iclkit.solvers import ConvergenceError

__all__ = [
    "Block",
    "Populations",
    "Resolved",
    "head_populations",
    "linear_populations",
    "resolve",
]

Floats = NDArray[np.float64]
_CLOSE = 1e-9  # residual of the logarithms of the equations


class Block(NamedTuple):
    """A block of modes, with what each source makes of it.

    Attributes
    ----------
    seconds : (n_sources, m, m) array
        Second moments of the features.
    targets : (n_sources, n_rows, m) array
        Mean of label times feature.
    multiplicity, copies : int
        How often the block occurs, and in how many of these the target has these rows.
    penalty : (m, m) array
        Identity; zero for a feature without penalty.
    """

    seconds: Floats
    targets: Floats
    multiplicity: int
    copies: int
    penalty: Floats


class Populations(NamedTuple):
    """What ridge regression sees of a mixture, source by source.

    Attributes
    ----------
    shares : (n_sources,) array
        Of the training prompts.
    blocks : tuple
        Second moments of the features, in any common coordinates.
    squares, tails : (n_sources,) arrays
        ``E y^2``, and the variance of the features' part that looks like noise.
    width : float
        Number of neurons; infinite where the features are read directly.
    free : int
        Number of parameters without a penalty.
    """

    shares: Floats
    blocks: tuple[Block, ...]
    squares: Floats
    tails: Floats
    width: float
    free: int


class Resolved(NamedTuple):
    """Errors per source, under the training mixture, and what solved the equations.

    Attributes
    ----------
    errors : (n_sources,) array
    mixture : float
    leverages : (n_sources,) array
        ``delta_s``: a training prompt of source s keeps ``1/(1 + delta_s)`` of its error.
    gamma : float
    """

    errors: Floats
    mixture: float
    leverages: Floats
    gamma: float


def linear_populations(law: Moments, *, intercept: bool) -> Populations:
    """Return what linear attention sees."""
    blocks = [_block(cell, np.ones(len(law.weights))) for cell in law.cells]
    if intercept:
        blocks.append(_constant_block(law, np.empty((len(law.weights), 0)), intercept=True))
    nothing = np.zeros(len(law.weights))
    free = int(intercept)
    return Populations(law.weights, tuple(blocks), law.label_squares, nothing, np.inf, free)


def head_populations(
    law: Moments,
    activation: str | Callable[[Floats], Floats],
    width: int,
    *,
    intercept: bool,
) -> Populations:
    """Return what the second layer of a random head sees.

    Prompts of source s have pre-activations of variance ``r_s^2 = t_s / t``, and the activation is
    expanded at that scale: ``c0(r) + (c1(r)/r) <f, h>/sqrt(t) + c*_1(r) zeta``.
    """
    radii = np.sqrt(law.source_traces / law.trace)
    first = hermite.scaled_coefficients(activation, radii, 1)
    slopes = first[:, 1] / (radii * np.sqrt(law.trace))
    blocks = [_block(cell, slopes) for cell in law.cells]
    blocks.append(_constant_block(law, first[:, :1], intercept=intercept))
    tails = hermite.scaled_residual(activation, radii, 1) ** 2
    free = int(intercept)
    return Populations(law.weights, tuple(blocks), law.label_squares, tails, float(width), free)


def _block(cell: Cell, slopes: Floats) -> Block:
    return Block(
        seconds=cell.seconds * slopes[:, None, None] ** 2,
        targets=cell.targets * slopes[:, None, None],
        multiplicity=cell.multiplicity,
        copies=cell.copies,
        penalty=np.eye(len(cell.eigenvalues)),
    )


def _constant_block(law: Moments, values: Floats, *, intercept: bool) -> Block:
    """Return the block of features that are constant in a source: (n_sources, 0 or 1) values."""
    ones = np.ones((len(values), int(intercept)))
    table = np.column_stack([ones, values])
    return Block(
        seconds=table[:, :, None] * table[:, None, :],
        targets=(table * law.label_means[:, None])[:, None, :],
        multiplicity=1,
        copies=1,
        penalty=np.diag(np.append(np.zeros(int(intercept)), np.ones(values.shape[1]))),
    )


# ------------------------------------------------------------------ the equations


class _State(NamedTuple):
    """Resolvents of all blocks at given leverages and effective ridge."""

    kept: Floats
    gamma: float
    resolvents: tuple[Floats, ...]


def resolve(parts: Populations, n: int, ridge: float, start: tuple[float, float]) -> Resolved:
    """Return the errors per source of a ridge regression on n prompts.

    Parameters
    ----------
    parts : Populations
    n : int
    ridge : float
        lambda, > 0.
    start : (leverage, gamma)
        Where to start the search.

    Returns
    -------
    Resolved

    Raises
    ------
    ConvergenceError
        If the equations are not solved.

    Notes
    -----
    With ``M = sum_s rho_s C_s / (1 + delta_s)`` and ``R = (M + gamma P)^-1``:
    ``delta_s = tr(C_s R) / n`` and ``tr(M R) + k lambda/gamma = k``. The errors solve
    ``E_s = b_s + (1/n) sum_u rho_u E_u tr<C_s R C_u R> / (1 + delta_u)^2``, where b_s is the error
    of the mean read-out and ``<.>`` adds the fluctuation of the hidden weights.

    References
    ----------
    Known theory of ridge regression on mixtures; the second average is derived in the chapter.
    """
    state = _solve(parts, n, ridge, start)
    pulls = _pulls(parts, state)
    degrees = _squared_degrees(parts, state)
    moves = state.gamma**2 * pulls / (parts.width - degrees)  # of gamma, per unit of C_s
    base = _mean_errors(parts, state, moves)
    table = _two_point(parts, state) + np.outer(pulls, moves)
    influence = table * parts.shares * state.kept**2 / n
    errors = np.asarray(np.linalg.solve(np.eye(len(base)) - influence, base))
    return Resolved(errors, float(parts.shares @ errors), 1 / state.kept - 1, state.gamma)


def _state(parts: Populations, leverages: Floats, gamma: float) -> _State:
    kept = 1 / (1 + leverages)
    resolvents = tuple(
        np.linalg.inv(np.einsum("s,sij->ij", parts.shares * kept, b.seconds) + gamma * b.penalty)
        for b in parts.blocks
    )
    return _State(kept, gamma, resolvents)


def _solve(parts: Populations, n: int, ridge: float, start: tuple[float, float]) -> _State:
    def unpack(logs: Floats) -> _State:
        return _state(parts, np.exp(logs[:-1]), float(np.exp(logs[-1])))

    def residual(logs: Floats) -> Floats:
        state = unpack(logs)
        wanted = _traces(parts, state) / n
        share = (1 - _degrees(parts, state) / parts.width) * state.gamma
        return np.append(logs[:-1] - np.log(wanted), np.log(max(share, 1e-300) / ridge))

    first = np.log(np.append(np.full(len(parts.shares), start[0]), start[1]))
    found = optimize.root(residual, first, method="hybr", tol=1e-13)
    worst = np.max(np.abs(residual(found.x)))
    if not worst < _CLOSE:
        raise ConvergenceError(
            f"leverages at n_prompts {n}, width {parts.width:g}, ridge {ridge:g} did not converge: "
            f"residual {worst:.2g}"
        )
    return unpack(found.x)


def _each(parts: Populations, state: _State) -> list[tuple[Block, Floats]]:
    return list(zip(parts.blocks, state.resolvents, strict=True))


def _traces(parts: Populations, state: _State) -> Floats:
    """Return ``tr(C_s R)``, one per source."""
    blocks = (b.multiplicity * np.einsum("sij,ji->s", b.seconds, r) for b, r in _each(parts, state))
    return sum(blocks) + parts.tails / state.gamma


def _degrees(parts: Populations, state: _State) -> float:
    """Return ``tr(M R)`` without the free parameters."""
    modes = sum(
        b.multiplicity * (len(r) - state.gamma * np.trace(b.penalty @ r))
        for b, r in _each(parts, state)
    )
    return float(modes - parts.free + (parts.shares * state.kept) @ parts.tails / state.gamma)


def _squared_degrees(parts: Populations, state: _State) -> float:
    """Return ``tr (M R)^2`` without the free parameters."""
    total = 0.0
    for block, resolvent in _each(parts, state):
        learnt = np.eye(len(resolvent)) - state.gamma * block.penalty @ resolvent
        total += block.multiplicity * np.sum(learnt * learnt.T)
    return float(total - parts.free)


def _pulls(parts: Populations, state: _State) -> Floats:
    """Return ``tr(P R C_s R)``, one per source."""
    blocks = (
        b.multiplicity * np.einsum("sij,ji->s", b.seconds, r @ b.penalty @ r)
        for b, r in _each(parts, state)
    )
    return sum(blocks) + parts.tails / state.gamma**2


def _two_point(parts: Populations, state: _State) -> Floats:
    """Return ``tr(C_s R C_u R)`` for all pairs, hidden weights fixed."""
    total = np.zeros((len(parts.shares),) * 2)
    for block, resolvent in _each(parts, state):
        turned = block.seconds @ resolvent
        total += block.multiplicity * np.einsum("sij,uji->su", turned, turned)
    return total


def _mean_errors(parts: Populations, state: _State, moves: Floats) -> Floats:
    """Return the error per source of the read-out averaged over prompts."""
    errors = parts.squares.copy()
    for block, resolvent in _each(parts, state):
        best = np.einsum("s,sri->ri", parts.shares * state.kept, block.targets) @ resolvent
        own = np.einsum("ri,sij,rj->s", best, block.seconds, best)
        own += moves * np.einsum("ri,ij,rj->", best, block.penalty, best)
        errors += block.copies * (own - 2 * np.einsum("ri,sri->s", best, block.targets))
    return errors
