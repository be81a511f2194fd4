"""Minimisation from many starting points at once, for searches over few parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLAT", "Found", "descend"]

Floats = NDArray[np.float64]
Objective = Callable[[Floats, Floats], tuple[Floats, Floats]]

_SUFFICIENT = 1e-4  # share of the linear decrease that a step must reach
_ROUNDING = 1e-15  # a relative increase below this one is rounding
_SHORTEST = 1e-3  # a step cut to this share of its length starts again down the slope
_HOPELESS = 1e-9  # a step down the slope cut to this share ends the search
FLAT = 1e-5  # slopes below this share of the value are no slopes
_LEVEL = 1e-14  # and below this one they are rounding
_REACH = 0.5  # longest step; the points have norm 1
_TINY = np.finfo(np.float64).tiny


class Found(NamedTuple):
    """Where the searches ended.

    Attributes
    ----------
    points : (n_starts, n) array
        Of unit norm.
    values : (n_starts,) array
    slopes : (n_starts, n) array
        Gradients there; zero up to rounding where the search converged.
    """

    points: Floats
    values: Floats
    slopes: Floats


class _State(NamedTuple):
    """Searches in progress; one row each."""

    row: NDArray[np.intp]
    unit: Floats
    point: Floats
    value: Floats
    slope: Floats
    metric: Floats  # approximate inverse Hessians
    fresh: NDArray[np.bool_]  # metric still the identity
    step: Floats
    length: Floats  # share of the step to try next


def descend(
    objective: Objective,
    starts: Floats,
    units: Floats,
    *,
    tolerance: float = 1e-11,
    max_steps: int = 400,
) -> Found:
    """Return local minima of a positive function that does not change along rays.

    Parameters
    ----------
    objective : callable
        ``(points, units) -> (values, slopes)`` for any number of rows.
    starts : (n_starts, n) array
        None at the origin.
    units : (n_starts,) array
        Passed on to the objective row by row: a scale of its own for each search.
    tolerance : float
        A search ends where the next step promises less than this share of the value.
    max_steps : int
        Most evaluations of each search.

    Returns
    -------
    Found

    Notes
    -----
    The method of Broyden, Fletcher, Goldfarb and Shanno for all rows together, one evaluation a
    step: a row whose step decreased the value enough takes a new one, another row shortens its
    step. Memory and time of a step grow with ``n_starts n^2``.
    """
    points = starts / np.sqrt(_dot(starts, starts))[:, None]
    found = Found(points, *objective(points, units))
    state = _begin(found, units)
    for _ in range(max_steps):
        state = _advance(state, objective)
        _store(found, state)
        state = _unfinished(state, tolerance)
        if not len(state.row):
            break
    return found


def _begin(found: Found, units: Floats) -> _State:
    points, values, slopes = (part.copy() for part in found)
    n_starts, n = points.shape
    rows, ones = np.arange(n_starts), np.ones(n_starts)
    metric, fresh = np.tile(np.eye(n), (n_starts, 1, 1)), np.ones(n_starts, dtype=bool)
    step = _downhill(slopes)
    return _State(rows, units, points, values, slopes, metric, fresh, step, ones)


def _advance(old: _State, objective: Objective) -> _State:
    """Evaluate the next point of every search and choose the steps after it."""
    move = old.length[:, None] * old.step
    value, slope = objective(old.point + move, old.unit)
    asked = _SUFFICIENT * old.length * _dot(old.slope, old.step)
    good = value <= old.value * (1.0 + _ROUNDING) + asked
    metric, fresh = _updated(old, move, slope - old.slope, good)
    kept = good[:, None]
    point, slope = np.where(kept, old.point + move, old.point), np.where(kept, slope, old.slope)
    length = np.where(good, 1.0, 0.3 * old.length)
    restart = (length < _SHORTEST) & ~fresh
    metric[restart], fresh, length = np.eye(point.shape[1]), fresh | restart, length + restart
    point, slope, metric = _on_sphere(point, slope, metric)
    step = np.where((good | restart)[:, None], _step(metric, fresh, slope), old.step)
    value = np.where(good, value, old.value)
    return _State(old.row, old.unit, point, value, slope, metric, fresh, step, length)


def _on_sphere(point: Floats, slope: Floats, metric: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the same search at a point of unit norm, where the value is the same."""
    norm = np.sqrt(_dot(point, point))[:, None]
    return point / norm, slope * norm, metric / norm[:, :, None] ** 2


def _updated(
    old: _State, move: Floats, change: Floats, good: NDArray[np.bool_]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the inverse Hessians after steps that saw positive curvature."""
    curvature, square = _dot(move, change), _dot(change, change)
    use = good & (curvature > 1e-8 * np.sqrt(_dot(move, move) * square)) & (square > 0)
    first = use & old.fresh
    metric = old.metric
    metric[first] *= (curvature[first] / square[first])[:, None, None]
    rate = np.divide(1.0, curvature, out=np.zeros_like(curvature), where=use)
    pulled = _times(metric, change)
    weight = rate * (1.0 + rate * _dot(change, pulled))
    half = 0.5 * weight[:, None] * move - rate[:, None] * pulled
    outer = half[:, :, None] * move[:, None, :]
    metric += outer + outer.swapaxes(1, 2)
    return metric, old.fresh & ~use


def _step(metric: Floats, fresh: NDArray[np.bool_], slope: Floats) -> Floats:
    newton = -_times(metric, slope)
    newton /= np.maximum(np.sqrt(_dot(newton, newton)) / _REACH, 1.0)[:, None]
    return np.where(fresh[:, None], _downhill(slope), newton)


def _downhill(slope: Floats) -> Floats:
    """Return first steps down the slope, a tenth of the distance from the origin long."""
    return -0.1 * slope / np.sqrt(np.maximum(_dot(slope, slope), _TINY))[:, None]


def _unfinished(state: _State, tolerance: float) -> _State:
    """Drop searches that cannot gain, and start those down the slope that seem so on a slope."""
    steepness = np.sqrt(_dot(state.slope, state.slope))
    promise = -_dot(state.slope, state.step)
    idle = (promise <= tolerance * state.value) & ~state.fresh & (steepness <= FLAT * state.value)
    misled = (promise <= tolerance * state.value) & ~state.fresh & ~idle
    state.metric[misled], state.fresh[misled] = np.eye(state.point.shape[1]), True
    state.step[misled] = _downhill(state.slope)[misled]
    level = steepness <= _LEVEL * state.value
    going = ~idle & ~level & (state.length > _HOPELESS)
    return _State._make(part[going] for part in state)


def _store(found: Found, state: _State) -> None:
    for kept, current in zip(found, (state.point, state.value, state.slope), strict=True):
        kept[state.row] = current


def _dot(left: Floats, right: Floats) -> Floats:
    return np.einsum("bi,bi->b", left, right)


def _times(matrices: Floats, vectors: Floats) -> Floats:
    return np.einsum("bij,bj->bi", matrices, vectors)
