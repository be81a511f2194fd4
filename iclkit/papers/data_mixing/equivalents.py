"""Deterministic equivalents: errors of linear attention and of a random MLP head, in milliseconds.

For the page on theory, for mixing optima and for the interactive figure. Ridge regression on many
prompts depends on the draw only through its moments; two scalar equations replace the draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from iclkit import hermite
from iclkit._checks import border, count
from iclkit.papers.data_mixing.moments import Cell, Moments, moments
from iclkit.papers.data_mixing.populations import (
    Populations,
    head_populations,
    linear_populations,
    resolve,
)
from iclkit.papers.data_mixing.sources import Source, magnitude, source_list

__all__ = [
    "BestMixture",
    "Equivalent",
    "best_mixture",
    "linear_equivalent",
    "random_mlp_equivalent",
]

Floats = NDArray[np.float64]
Activation = str | Callable[[Floats], Floats]

_GRID = 41  # mixtures of two sources that are compared before the best is refined
_NOTHING = 1e-10  # coefficients below are rounding
_POLE = 1e-9  # share of the prompts that must be left after the degrees of freedom


class Equivalent(NamedTuple):
    """Asymptotic errors of a model trained on one mixture and tested on each source.

    Attributes
    ----------
    error : float
        Under the uniform mixture of sources: the mean of `source_errors`.
    source_errors : (n_sources,) array
        ``E (y - answer)^2`` on prompts of each source, label noise included.
    training_mixture : float
        On fresh prompts of the training mixture.
    kappa : float
        Effective ridge of the regression on prompts.
    gamma : float
        Effective ridge after the average over hidden weights; `kappa` without a hidden layer.
    leverages : (n_sources,) array
        ``delta_s``: a training prompt of source s keeps ``1/(1 + delta_s)`` of its test error.
        Equal unless the sources are resolved; infinite without ridge while the fit is exact.
    """

    error: float
    source_errors: Floats
    training_mixture: float
    kappa: float
    gamma: float
    leverages: Floats


class BestMixture(NamedTuple):
    """The training mixture with the least error under the uniform mixture.

    Attributes
    ----------
    weights : (n_sources,) array
    error : float
    source_errors : (n_sources,) array
    """

    weights: Floats
    error: float
    source_errors: Floats


class _Kernel(NamedTuple):
    """What a kernel regression sees: modes of the mixture, and how each source differs.

    `values` (m,) are eigenvalues in kernel units, `repeats` their multiplicities, `energies` what
    they take from the error when learnt, `shares` (n_sources, m) the second moment of a mode in
    each source over that in the mixture. `tail` is the total of infinitely many modes too small
    to be learnt one by one, `width` the number of neurons (infinite for no hidden layer), `free`
    the number of parameters without ridge. A mode after those of `Moments` is the constant.
    """

    values: Floats
    repeats: Floats
    energies: Floats
    shares: Floats
    tail: float
    width: float
    free: int


# ------------------------------------------------------------------ the models


@border
def linear_equivalent(
    sources: Sequence[Source] | Source,
    weights: ArrayLike = (1.0,),
    *,
    n_context: int,
    n_prompts: int,
    ridge: float,
    intercept: bool = False,
    resolved: bool = False,
) -> Equivalent:
    """Return the asymptotic errors of linear attention, ridge-trained on a mixture.

    Parameters
    ----------
    sources : sequence of Source, or Source
    weights : (n_sources,) array_like
        Shares of the sources in training, summing to one.
    n_context, n_prompts : int
        Labelled examples in a prompt, and prompts to train on; >= 1.
    ridge : float
        lambda, >= 0, in ``mean (y - <Gamma, h>)^2 + lambda |Gamma|^2``; 0 is the limit of
        vanishing ridge.
    intercept : bool
        Add a constant that is not penalised.
    resolved : bool
        Give each source its own leverage in training, see `resolve`; by default the mixture
        trains like one source with its mean moments. That is exact to leading order where the
        sources' features have equal lengths; with unequal noise it can get even the sign of a
        difference wrong.

    Returns
    -------
    Equivalent

    Raises
    ------
    ValueError, TypeError
        As `moments`, or if without ridge the prompts are exactly as many as the parameters,
        where the error has no limit, or sources are resolved.

    Notes
    -----
    kappa solves ``sum_i lambda_i/(lambda_i + kappa) + n lambda/kappa = n`` over the spectrum of
    `moments`, and with ``s_i = lambda_i/(lambda_i + kappa)`` the error under the mixture is
    ``E = (sum_i e_i (1 - s_i)^2 + best_linear) / (1 - sum_i s_i^2 / n)``. On source s,
    ``E_s = E_s(mean read-out) + (E/n) sum_i (lambda_si/lambda_i) s_i^2``. The intercept is one
    more mode, of infinite eigenvalue.

    References
    ----------
    Known theory of ridge regression, applied; the versions per source are derived here.

    Examples
    --------
    >>> pair = [Source(80), Source(80, theta_xi=6400.0)]
    >>> law = linear_equivalent(pair, [0.5, 0.5], n_context=80, n_prompts=3200, ridge=5e-3)
    >>> round(law.error, 8), law.source_errors.round(8)
    (0.51556053, array([0.61159154, 0.41952952]))
    """
    law = moments(sources, weights, n_context=n_context)
    n, penalty, free = count("n_prompts", n_prompts), magnitude("ridge", ridge), bool(intercept)
    found = _equivalent(law, _linear_kernel(law, free=int(free)), n, penalty)
    if not resolved:
        return found
    _resolvable(law, penalty)
    return _resolved(linear_populations(law, intercept=free), found, n, penalty)


@border
def random_mlp_equivalent(
    sources: Sequence[Source] | Source,
    weights: ArrayLike = (1.0,),
    *,
    n_context: int,
    n_prompts: int,
    width: int,
    ridge: float,
    activation: Activation = "relu",
    intercept: bool = False,
    resolved: bool = False,
) -> Equivalent:
    """Return the asymptotic errors of the MLP head before its gradient step.

    Parameters
    ----------
    sources, weights, n_context, n_prompts, intercept
        As in `linear_equivalent`.
    resolved : bool
        As in `linear_equivalent`; then the activation is also expanded at the scale of each
        source, whose features may be longer or shorter than the mean.
    width : int
        Number of neurons k, >= 1.
    ridge : float
        lambda, >= 0, in ``mean (y - <w, sigma(F h)>/sqrt(k))^2 + lambda |w|^2``.
    activation : str or callable
        sigma.

    Returns
    -------
    Equivalent

    Raises
    ------
    ValueError, TypeError
        As `moments`, or if without ridge the prompts are as many as the neurons, or sources are
        resolved.

    Notes
    -----
    The head is a ridge regression on ``c0 + c1 <f, h>/sqrt(t) + c*_1 zeta``: modes
    ``mu_i = c1^2 lambda_i / t``, one constant mode ``c0^2``, and a tail of total ``T = c*_1^2``.
    With ``z = sum_i mu_i/(mu_i + gamma) + T/gamma`` the effective ridges solve
    ``z + n lambda/kappa = n`` and ``z + k kappa/gamma = k``. By default c0, c1 and c*_1 are those
    at the mixture's mean length t for every source: sources with longer or shorter features are
    expanded at the wrong scale, which `resolved` mends.

    References
    ----------
    The random-feature eigenframework, recalled; both equations and the error are derived in the
    chapter from the linear case, used twice. The version per source is new here.

    Examples
    --------
    >>> pair = [Source(80), Source(80, theta_xi=6400.0)]
    >>> law = random_mlp_equivalent(
    ...     pair, [0.5, 0.5], n_context=80, n_prompts=3200, width=3200, ridge=5e-5
    ... )
    >>> round(law.error, 8)
    0.32790672
    """
    law = moments(sources, weights, n_context=n_context)
    n, k, penalty = count("n_prompts", n_prompts), count("width", width), magnitude("ridge", ridge)
    free = bool(intercept)
    found = _equivalent(law, _head_kernel(law, activation, k, free=int(free)), n, penalty)
    if not resolved:
        return found
    _resolvable(law, penalty)
    return _resolved(head_populations(law, activation, k, intercept=free), found, n, penalty)


def _resolvable(law: Moments, ridge: float) -> None:
    """Raise where sources cannot be told apart by their leverages."""
    if ridge == 0:
        raise ValueError("ridge must be > 0 where sources are resolved, got 0; 1e-9 is near it")
    if not (law.label_squares > 0).all():
        raise ValueError("sources must have labels other than zero where they are resolved")


def _resolved(parts: Populations, start: Equivalent, n: int, ridge: float) -> Equivalent:
    """Return the equivalent with one leverage per source, searched from the one without."""
    found = resolve(parts, n, ridge, (start.leverages[0], start.gamma * ridge / start.kappa))
    kept = float(parts.shares @ (1 / (1 + found.leverages)))
    return Equivalent(
        error=float(found.errors.mean()),
        source_errors=found.errors,
        training_mixture=found.mixture,
        kappa=ridge / kept,
        gamma=found.gamma / kept,
        leverages=found.leverages,
    )


def _linear_kernel(law: Moments, *, free: int) -> _Kernel:
    diagonals = [np.einsum("sii->si", cell.seconds) for cell in law.cells]
    return _Kernel(
        values=law.eigenvalues,
        repeats=law.multiplicities.astype(float),
        energies=law.energies,
        shares=np.concatenate(diagonals, axis=1) / law.eigenvalues,
        tail=0.0,
        width=np.inf,
        free=free,
    )


def _head_kernel(law: Moments, activation: Activation, width: int, *, free: int) -> _Kernel:
    constant, slope = hermite.coefficients(activation, 1)
    tail = hermite.residual(activation, 1)
    linear = _linear_kernel(law, free=free)._replace(
        values=law.eigenvalues * (slope**2 / law.trace),
        tail=tail**2 if tail > _NOTHING else 0.0,
        width=float(width),
    )
    return linear if free or abs(constant) < _NOTHING else _with_constant(linear, constant**2, law)


def _with_constant(kernel: _Kernel, value: float, law: Moments) -> _Kernel:
    return kernel._replace(
        values=np.append(kernel.values, value),
        repeats=np.append(kernel.repeats, 1.0),
        energies=np.append(kernel.energies, (law.weights @ law.label_means) ** 2),
        shares=np.column_stack([kernel.shares, np.ones(len(kernel.shares))]),
    )


# ------------------------------------------------------------------ one core for both


def _equivalent(law: Moments, kernel: _Kernel, n: int, ridge: float) -> Equivalent:
    """Return all errors of a ridge regression, averaged over prompts and hidden weights."""
    kappa, gamma = _effective_ridges(kernel, n, ridge)
    values, repeats, shares = kernel.values, kernel.repeats, kernel.shares
    learnt, slope = values / (values + gamma), values / (values + gamma) ** 2
    tails = kernel.tail / gamma**2 if kernel.tail else 0.0
    degrees = repeats @ learnt**2
    room = shares @ (repeats * slope) + tails
    all_room = repeats @ slope + tails
    spill = gamma**2 / (kernel.width - degrees)  # what the draw of the hidden weights adds
    spread = shares @ (repeats * learnt**2) + spill * all_room * room + kernel.free
    factor = 1 - (degrees + spill * all_room**2 + kernel.free) / n
    if factor < _POLE:
        raise ValueError(
            f"ridge must be > 0 where prompts match parameters, got ridge {ridge:g} and n_prompts "
            f"{n}; the error has no limit there"
        )
    base = _readout_errors(law, kernel, learnt) + spill * room * (kernel.energies @ slope)
    mixture = float(law.weights @ base / factor)
    errors = base + mixture / n * spread
    leverages = np.full(len(errors), _leverage(kernel, n, ridge, kappa, gamma))
    return Equivalent(float(errors.mean()), errors, mixture, kappa, gamma, leverages)


def _leverage(kernel: _Kernel, n: int, ridge: float, kappa: float, gamma: float) -> float:
    """Return ``kappa / ridge - 1`` without its cancellations."""
    if ridge == 0:
        return np.inf if kappa else _exact_leverage(kernel, n)
    used = _degrees(kernel, gamma) + kernel.free
    return used / (n - used) if used < n / 2 else kappa / ridge - 1


def _exact_leverage(kernel: _Kernel, n: int) -> float:
    """Return the leverage without ridge, where prompts outnumber the parameters."""
    parameters = min(kernel.repeats.sum() + (np.inf if kernel.tail else 0), kernel.width)
    return float(1 / (1 - (parameters + kernel.free) / n) - 1)


def _readout_errors(law: Moments, kernel: _Kernel, learnt: Floats) -> Floats:
    """Return the error per source of the best read-out of the mixture, shrunk mode by mode."""
    mean = law.weights @ law.label_means
    constant = mean * (learnt[-1] if len(learnt) > len(law.energies) else kernel.free)
    errors = law.label_squares - 2 * constant * law.label_means + constant**2
    start = 0
    for cell in law.cells:
        stop = start + len(cell.eigenvalues)
        errors += cell.copies * _cell_errors(cell, law.weights, learnt[start:stop])
        start = stop
    return errors


def _cell_errors(cell: Cell, weights: Floats, learnt: Floats) -> Floats:
    best = np.einsum("s,sri->ri", weights, cell.targets) * (learnt / cell.eigenvalues)
    quadratic = np.einsum("ri,sij,rj->s", best, cell.seconds, best)
    return quadratic - 2 * np.einsum("ri,sri->s", best, cell.targets)


# ------------------------------------------------------------------ effective ridges


def _effective_ridges(kernel: _Kernel, n: int, ridge: float) -> tuple[float, float]:
    """Return ``(kappa, gamma)``: the roots of both equations for the degrees of freedom."""
    spare = n - kernel.free
    if spare < 1:
        raise ValueError(f"n_prompts must be >= 2 with an intercept, got {n}")
    low = _ridgeless_gamma(kernel, min(spare, kernel.width))
    if ridge == 0:
        return _kappa(kernel, low), low

    def excess(gamma: float) -> float:
        return n * ridge - (spare - _degrees(kernel, gamma)) * _kappa(kernel, gamma)

    high = max(2 * low, float(kernel.values @ kernel.repeats) + kernel.tail)
    while excess(high) > 0:
        high *= 4
    gamma = _root(excess, low, high)
    return _kappa(kernel, gamma), gamma


def _degrees(kernel: _Kernel, gamma: float) -> float:
    """Return z, the degrees of freedom at an effective ridge."""
    modes = kernel.repeats @ (kernel.values / (kernel.values + gamma))
    return float(modes + (kernel.tail / gamma if kernel.tail else 0.0))


def _kappa(kernel: _Kernel, gamma: float) -> float:
    """Return the effective ridge of the neurons, ``gamma (1 - z/k)``."""
    if np.isinf(kernel.width) or gamma == 0:
        return gamma
    return max(gamma * (1 - _degrees(kernel, gamma) / kernel.width), 0.0)


def _ridgeless_gamma(kernel: _Kernel, degrees: float) -> float:
    """Return where z equals some degrees of freedom; 0 if it never reaches them."""
    total = float(kernel.repeats.sum())
    if kernel.tail == 0 and total <= degrees:
        return 0.0
    low = max(kernel.tail / degrees, float(kernel.values.min()) * (total / degrees - 1)) / 2
    high = 2 * (float(kernel.values @ kernel.repeats) + kernel.tail) / degrees
    return _root(lambda gamma: _degrees(kernel, gamma) - degrees, low, high)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.brentq(function, low, high, xtol=1e-300, rtol=1e-14, maxiter=500))


# ------------------------------------------------------------------ the best mixture


@border
def best_mixture(
    sources: Sequence[Source],
    *,
    n_context: int,
    n_prompts: int,
    ridge: float,
    width: int | None = None,
    activation: Activation = "relu",
    intercept: bool = False,
    resolved: bool = False,
) -> BestMixture:
    """Return the training mixture with the least error on the uniform mixture.

    Parameters
    ----------
    sources : sequence of Source
    n_context, n_prompts, ridge, intercept, resolved
        As in `linear_equivalent`.
    width : int, optional
        Number of neurons of a random MLP head; the default is linear attention.
    activation : str or callable
        Of that head.

    Returns
    -------
    BestMixture

    Raises
    ------
    ValueError, TypeError
        As `linear_equivalent` and `random_mlp_equivalent`.

    Notes
    -----
    Two sources: the best of 41 equidistant mixtures, then bounded minimisation between its
    neighbours. More: sequential quadratic programming from the centre and from near each corner.

    References
    ----------
    New here.

    Examples
    --------
    >>> pair = [Source(40), Source(40, theta_xi=1600.0, noise=0.5)]
    >>> best = best_mixture(pair, n_context=80, n_prompts=3200, ridge=0.02)
    >>> best.weights.round(4), round(best.error, 6)
    (array([0.6234, 0.3766]), 0.544941)
    """
    listed = source_list(sources)
    sizes: dict[str, Any] = {"n_context": n_context, "n_prompts": n_prompts, "ridge": ridge}
    sizes |= {"intercept": intercept, "resolved": resolved}

    def model(weights: Floats) -> Equivalent:
        if width is None:
            return linear_equivalent(listed, weights, **sizes)
        return random_mlp_equivalent(listed, weights, width=width, activation=activation, **sizes)

    weights = _minimise(lambda part: model(part).error, len(listed))
    found = model(weights)
    return BestMixture(weights, found.error, found.source_errors)


def _minimise(error: Callable[[Floats], float], n_sources: int) -> Floats:
    if n_sources == 1:
        return np.ones(1)
    if n_sources == 2:
        return _best_pair(error)
    corners = 0.9 * np.eye(n_sources) + 0.1 / n_sources
    starts = [np.full(n_sources, 1 / n_sources), *corners]
    return min((_descend(error, start) for start in starts), key=error)


def _best_pair(error: Callable[[Floats], float]) -> Floats:
    """Return the weights (1 - rho, rho) of least error, by a grid and a bounded search."""

    def at(rho: float) -> float:
        return error(np.array([1 - rho, rho]))

    grid = np.linspace(0, 1, _GRID)
    values = [at(rho) for rho in grid]
    place = int(np.argmin(values))
    ends = (grid[max(place - 1, 0)], grid[min(place + 1, _GRID - 1)])
    found = optimize.minimize_scalar(at, bounds=ends, method="bounded", options={"xatol": 1e-9})
    rho = found.x if found.fun < values[place] else grid[place]
    return np.array([1 - rho, rho])


def _descend(error: Callable[[Floats], float], start: Floats) -> Floats:
    """Return a local minimum on the simplex, written in all weights but the last."""
    n_free = len(start) - 1

    def complete(free: Floats) -> Floats:
        weights = np.clip(np.append(free, 1 - free.sum()), 0, None)
        return weights / weights.sum()

    found = optimize.minimize(
        lambda free: error(complete(free)),
        start[:-1],
        method="SLSQP",
        bounds=[(0, 1)] * n_free,
        constraints={"type": "ineq", "fun": lambda free: 1 - free.sum()},
        options={"ftol": 1e-12},
    )
    return complete(found.x)
