"""Best context lengths and best ridges of the asymptotic errors, and the map of the former.

The best context to train on for a given context of the test is here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import elementwise

from iclkit._checks import border, choice, scalar
from iclkit.moments import positive_array
from iclkit.papers.phase_transition.context import transfer_at
from iclkit.papers.phase_transition.limits import Errors, long_context, short_context
from iclkit.papers.phase_transition.theory import (
    check_broadcast,
    check_threshold,
    checked_ratios,
    curve_at,
    ridgeless_ridge,
    task_traces,
)
from iclkit.solvers import ConvergenceError

__all__ = [
    "BestContext",
    "BestPenalty",
    "best_context",
    "best_penalty",
    "best_training",
    "context_map",
]

Floats = NDArray[np.float64]

_ALPHAS = np.logspace(-3, 9, 601)  # where best_context looks for a minimum
_SHIFTS = np.linspace(-30, 5, 141)  # log of (xi - ridgeless xi) in units of its scale
_ROUNDING = 1e-13  # a smaller relative rise is rounding
_BLOCK = 40_000  # numbers per block of the map: a few of them fit in the cache


class BestContext(NamedTuple):
    """The context length with the least error nearby, and that error."""

    alpha: Floats
    value: Floats


class BestPenalty(NamedTuple):
    """The penalty with the least error, and that error."""

    penalty: Floats
    value: Floats


def _field(error: str) -> int:
    """Return the position of an error in `LearningCurve`, or say which names exist."""
    names = ("icl", "idg")
    return names.index(choice("error", error, names))


# ------------------------------------------------------------------ context length


@border
def best_context(
    kappa: ArrayLike, tau: ArrayLike, rho: ArrayLike, error: str = "icl"
) -> BestContext:
    """Return the first local minimum of a ridgeless error over the context length.

    Parameters
    ----------
    kappa, tau, rho : array_like
        As in `learning_curve`; they broadcast together.
    error : {"icl", "idg"}, optional
        Error on new or on pretraining tasks.

    Returns
    -------
    BestContext
        ``(alpha, value)``. Where no fall is followed by a rise up to alpha = 1e9, alpha is
        the better end, infinity (the usual case: a falling error) or 0, and the value is the
        limit of the error there.

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes do not broadcast, tau = 1, or `error`
        is unknown.

    Notes
    -----
    A grid of 50 points per factor of 10 in alpha finds the first rise; Chandrupatla's method
    refines the minimum between its neighbours, to about 1e-7 of alpha.

    References
    ----------
    The minima that Lu et al. 2025 show; the search is ours.

    Examples
    --------
    >>> alpha, value = best_context(0.2, 0.5, 0.1)
    >>> round(float(alpha), 5), round(float(value), 5)
    (2.30835, 1.38966)
    """
    which = _field(error)
    cells, shape = _cells(kappa, tau, rho)
    curves = _ridgeless_error(_ALPHAS, *(part[:, None] for part in cells), which=which)
    first = _first_minimum(curves)
    alpha, value = _better_end(*cells, which=which)
    found = first >= 0
    args = tuple(part[found] for part in cells)
    place, value[found] = _refine(
        lambda log_alpha, *cell: _ridgeless_error(np.exp(log_alpha), *cell, which=which),
        np.log(_ALPHAS),
        first[found],
        args,
    )
    alpha[found] = np.exp(place)
    return BestContext(alpha.reshape(shape)[()], value.reshape(shape)[()])


def _better_end(kappa: Floats, tau: Floats, rho: Floats, *, which: int) -> tuple[Floats, Floats]:
    """Return alpha = 0 or infinity, whichever has the smaller error, and that error."""
    none, endless = short_context(tau, rho), long_context(kappa, tau, rho)[which]
    return np.where(endless < none, np.inf, 0.0), np.minimum(endless, none)


@border
def best_training(
    alpha_test: ArrayLike, kappa: ArrayLike, tau: ArrayLike, rho: ArrayLike, error: str = "icl"
) -> BestContext:
    """Return the context to train on without ridge, for a given context of the test.

    Parameters
    ----------
    alpha_test : array_like
        Context length of the test, > 0; infinity allowed.
    kappa, tau, rho : array_like
        As in `learning_curve`; all arguments broadcast together.
    error : {"icl", "idg"}, optional
        Error on new or on pretraining tasks.

    Returns
    -------
    BestContext
        ``(alpha, value)`` of the least error over all alpha. At the ends alpha is 0, which
        stands for contexts below 0.001 and for a model that predicts nothing at the price of
        ``1 + rho``, or infinity, with the value at 1e9.

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes do not broadcast, tau = 1, or `error`
        is unknown.

    Notes
    -----
    A grid of 50 points per factor of 10 in alpha, refined by Chandrupatla's method. At
    tau = inf the best training context for pretraining tasks is that of the test; for new tasks
    their ratio tends to ``kappa^2/(kappa - 1)^2`` for kappa > 1, to ``kappa/(1 - kappa)^2``
    for kappa < 1, as the context grows. A flat minimum is located to the square root of
    rounding only.

    References
    ----------
    New here.

    Examples
    --------
    >>> best = best_training(1e4, [0.5, 2], float("inf"), 0.01)
    >>> (best.alpha / 1e4).round(2)
    array([2., 4.])
    """
    which = _field(error)
    _, kappa, tau, rho, penalty = checked_ratios(1.0, kappa, tau, rho, 0.0)
    check_threshold(tau, penalty)
    alpha_test = positive_array("alpha_test", alpha_test, infinite=True)
    check_broadcast(alpha_test=alpha_test, kappa=kappa, tau=tau, rho=rho)
    grids = np.broadcast_arrays((1.0 + rho) / alpha_test, kappa, tau, rho)
    cells = tuple(part.ravel() for part in grids)
    alpha, value = np.empty(cells[0].shape), np.empty(cells[0].shape)
    for rows in _blocks(len(alpha), max(1, _BLOCK // len(_ALPHAS))):
        alpha[rows], value[rows] = _train(tuple(part[rows] for part in cells), which=which)
    shape = grids[0].shape
    return BestContext(alpha.reshape(shape)[()], value.reshape(shape)[()])


def _train(cells: tuple[Floats, ...], which: int) -> tuple[Floats, Floats]:
    """Return the training contexts of least error, and the errors, one per row."""

    def error(log_alpha: Floats, *cell: Floats) -> Floats:
        return _transferred_error(np.exp(log_alpha), *cell, which=which)

    scan = error(np.log(_ALPHAS), *(part[:, None] for part in cells))
    index, value = scan.argmin(axis=1), scan.min(axis=1)
    alpha = np.where(index == 0, 0.0, np.inf)
    inner = (index > 0) & (index < len(_ALPHAS) - 1)
    args = tuple(part[inner] for part in cells)
    place, value[inner] = _refine(error, np.log(_ALPHAS), index[inner], args)
    alpha[inner] = np.exp(place)
    silent = 1.0 + cells[-1]
    return np.where(value < silent, alpha, 0.0), np.minimum(value, silent)


def _transferred_error(
    alpha: Floats, x_test: Floats, kappa: Floats, tau: Floats, rho: Floats, *, which: int
) -> Floats:
    """Return one error at penalty 0 and another context of the test, without checks."""
    x = (1.0 + rho) / alpha
    xi, kept = ridgeless_ridge(x, kappa, tau), np.maximum(0.0, 1.0 - 1.0 / tau)
    return transfer_at(xi, kept, (x, x_test), kappa, tau, rho)[which]


@border
def context_map(
    kappa: ArrayLike,
    tau: ArrayLike,
    rho: ArrayLike,
    error: str = "icl",
    *,
    alphas: ArrayLike | None = None,
    flat: float = 1e-5,
) -> Floats:
    """Return, on a grid of context lengths, where a ridgeless error stops falling.

    Parameters
    ----------
    kappa, tau, rho : array_like
        As in `learning_curve`; they broadcast together.
    error : {"icl", "idg"}, optional
        Error on new or on pretraining tasks.
    alphas : (n,) array_like, optional
        Increasing context lengths; 500 from 0.01 to 1000 in equal ratios if left out.
    flat : float, optional
        A rise between neighbours that does not exceed this number is ignored.

    Returns
    -------
    array
        The alpha of the first local minimum on the grid, NaN where there is none.

    Raises
    ------
    ValueError
        As `best_context`, or if `alphas` is not an increasing vector.

    Notes
    -----
    Works in blocks, so memory stays bounded for any number of cells.

    References
    ----------
    Figure 3 of Lu et al. 2025, with its grid of alpha and its tolerance as defaults.

    Examples
    --------
    >>> context_map([0.2, 1.5], 0.5, 0.1).round(2)
    array([2.32,  nan])
    """
    which, flat = _field(error), scalar("flat", flat)
    alphas = np.logspace(-2, 3, 500) if alphas is None else positive_array("alphas", alphas)
    if alphas.ndim != 1 or len(alphas) < 2 or not np.all(np.diff(alphas) > 0):
        raise ValueError(f"alphas must be an increasing vector, got shape {alphas.shape}")
    cells, shape = _cells(kappa, tau, rho)
    found = np.empty(len(cells[0]))
    for rows in _blocks(len(found), max(1, _BLOCK // len(alphas))):
        block = (part[rows, None] for part in cells)
        first = _first_minimum(_ridgeless_error(alphas, *block, which=which), flat)
        found[rows] = np.where(first >= 0, alphas[first], np.nan)
    return found.reshape(shape)[()]


def _cells(
    kappa: ArrayLike, tau: ArrayLike, rho: ArrayLike
) -> tuple[tuple[Floats, ...], tuple[int, ...]]:
    """Return kappa, tau and rho as checked vectors of equal length, and their common shape."""
    _, kappa, tau, rho, penalty = checked_ratios(1.0, kappa, tau, rho, 0.0)
    check_threshold(tau, penalty)
    grids = np.broadcast_arrays(kappa, tau, rho)
    return tuple(part.ravel() for part in grids), grids[0].shape


def _blocks(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))


def _ridgeless_error(
    alpha: Floats, kappa: Floats, tau: Floats, rho: Floats, *, which: int
) -> Floats:
    """Return one error at penalty 0, without checks."""
    x = (1.0 + rho) / alpha
    xi = ridgeless_ridge(x, kappa, tau)
    return curve_at(xi, np.maximum(0.0, 1.0 - 1.0 / tau), x, kappa, tau, rho)[which]


def _first_minimum(curves: Floats, flat: float = 0.0) -> NDArray[np.intp]:
    """Return the index of the first minimum of each row, a fall before a rise; -1 without."""
    before, after = curves[:, :-1], curves[:, 1:]
    step = np.arange(before.shape[1])
    margin = before * _ROUNDING + flat
    fallen = step >= _first(after < before - margin)[:, None]
    rises = (after > before + margin) & fallen
    reached = fallen & (step <= _first(rises)[:, None])
    return np.where(rises.any(axis=1), np.where(reached, before, np.inf).argmin(axis=1), -1)


def _first(marks: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the position of each row's first mark; the row's length without one."""
    return np.where(marks.any(axis=1), marks.argmax(axis=1), marks.shape[1])


def _refine(
    error: Callable[..., Floats], grid: Floats, index: NDArray[np.intp], args: tuple[Floats, ...]
) -> tuple[Floats, Floats]:
    """Return the place and value of the minima near ``grid[index]``, one per row of `args`."""
    if len(index) == 0:
        return np.empty(0), np.empty(0)
    bracket = tuple(grid[np.clip(index + step, 0, len(grid) - 1)] for step in (-1, 0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):  # parabolas through equal values
        found = elementwise.find_minimum(error, bracket, args=args)
    if not np.all(found.success):
        worst = [float(part[~found.success][0]) for part in args]
        raise ConvergenceError(f"no minimum found between neighbours, for the ratios {worst}")
    return found.x, found.f_x


# ------------------------------------------------------------------ ridge


@border
def best_penalty(
    alpha: ArrayLike,
    kappa: ArrayLike,
    tau: ArrayLike,
    rho: ArrayLike,
    error: str = "icl",
    *,
    alpha_test: ArrayLike | None = None,
) -> BestPenalty:
    """Return the penalty with the least asymptotic error, and that error.

    Parameters
    ----------
    alpha, kappa, tau, rho : array_like
        As in `learning_curve`; they broadcast together.
    error : {"icl", "idg"}, optional
        Error on new or on pretraining tasks.
    alpha_test : array_like, optional
        Context length of the test, > 0, infinity allowed; as in pretraining if left out.

    Returns
    -------
    BestPenalty
        ``(penalty, value)``; the penalty is 0 where no positive one does better.

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes do not broadcast, or `error` is unknown.

    Notes
    -----
    The penalty that belongs to an effective ridge xi is explicit,
    ``lambda = xi (1 - tr A (A + xi)^-1 / tau)``, so the search runs over xi and solves no
    equation: a grid for the basin, Chandrupatla's method inside it. The error found falls with
    tau, with the context of pretraining and with that of the test.

    References
    ----------
    New here; at kappa = inf equal to `fresh_task_penalty`.

    Examples
    --------
    >>> penalty, value = best_penalty(10, 0.5, 1, 0.01)
    >>> round(float(penalty), 6), round(float(value), 9)
    (0.229608, 0.643367468)
    """
    which = _field(error)
    x, kappa, tau, rho, _ = checked_ratios(alpha, kappa, tau, rho, 0.0)
    x_test = _test_noise(alpha_test, x, kappa, tau, rho)
    grids = np.broadcast_arrays(x, x_test, kappa, tau, rho)
    cells = tuple(part.ravel() for part in grids)
    penalty, value = np.empty(cells[0].shape), np.empty(cells[0].shape)
    for rows in _blocks(len(penalty), max(1, _BLOCK // len(_SHIFTS))):
        penalty[rows], value[rows] = _tune(tuple(part[rows] for part in cells), which=which)
    shape = grids[0].shape
    return BestPenalty(penalty.reshape(shape)[()], value.reshape(shape)[()])


def _test_noise(
    alpha_test: ArrayLike | None, x: Floats, kappa: Floats, tau: Floats, rho: Floats
) -> Floats:
    """Return the context noise of the test: x itself unless another length is given."""
    if alpha_test is None:
        return x
    alpha_test = positive_array("alpha_test", alpha_test, infinite=True)
    check_broadcast(alpha=x, kappa=kappa, tau=tau, rho=rho, alpha_test=alpha_test)
    return (1.0 + rho) / alpha_test


def _tune(cells: tuple[Floats, ...], which: int) -> tuple[Floats, Floats]:
    """Return best penalties and errors, one per row; penalty 0 where it is as good."""

    def error(shift: Floats, *cell: Floats) -> Floats:
        return _shifted(shift, *cell)[1][which]

    with np.errstate(divide="ignore", invalid="ignore"):  # diverges at tau = 1
        value = error(np.full(len(cells[0]), -np.inf), *cells)
    scan = error(_SHIFTS, *(part[:, None] for part in cells))
    gains = scan.min(axis=1) < value * (1.0 - _ROUNDING)
    inner, index = tuple(part[gains] for part in cells), scan[gains].argmin(axis=1)
    penalty = np.zeros(len(value))
    place, value[gains] = _refine(error, _SHIFTS, index, inner)
    penalty[gains] = _shifted(place, *inner)[0]
    return penalty, value


def _shifted(
    shift: Floats, x: Floats, x_test: Floats, kappa: Floats, tau: Floats, rho: Floats
) -> tuple[Floats, Errors]:
    """Return penalty and errors where xi exceeds its ridgeless value by exp(shift) of a scale."""
    most = 1.0 + np.maximum(x, x_test)
    scale = most * (1.0 + most * (1.0 + rho) / tau)
    xi = ridgeless_ridge(x, kappa, tau) + scale * np.exp(shift)
    kept = np.maximum(0.0, 1.0 - task_traces(xi, x, kappa).kept / tau)
    return xi * kept, transfer_at(xi, kept, (x, x_test), kappa, tau, rho)
