"""The best linear attention without a multilayer perceptron: profile, minima, literal search.

For given value weights the best key and query weights have a closed form, so that only a search
over as many numbers as there are distinct task variances remains (`optimal_attention`). The page
on the gap uses it; `search` holds the check that knows nothing of it.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, finite_array, scalar
from iclkit.papers.linear_block._descent import FLAT, descend
from iclkit.papers.linear_block.arrays import checked_prior, of_shape
from iclkit.papers.linear_block.polynomial import Reduced, exact_risk
from iclkit.papers.linear_block.prior import RegressionPrior, Whitened, whiten_moderate
from iclkit.papers.linear_block.profile import (
    Best,
    Spectrum,
    block_excess,
    gap_and_slope,
    inner_optimum,
)

__all__ = [
    "OptimalAttention",
    "ProfileSlope",
    "attention_minima",
    "attention_profile",
    "optimal_attention",
    "profile_slope",
    "profile_weights",
]

Floats = NDArray[np.float64]

_EQUAL = 1e-12  # shares of a number below this one are rounding
_SAME = 1e-6  # minima whose gaps differ by less than this share are one minimum
_COARSE, _FINE = 1e-11, 1e-16  # promised gain at which a search ends, as a share of the gap
_TILT = 1e-3  # start beside symmetric points, most of which are saddles
_SMALL = 0.03  # start with so little of the mean in b
_N_AXES = 6  # starts along axes, the lowest ones
_FAINT = 1e-150  # a mean task below this share of the labels has a square that underflows
_PROBE = 1e-4  # step of the differences that tell minima from saddles


class OptimalAttention(NamedTuple):
    """Weights of linear attention at a minimum of its risk.

    Attributes
    ----------
    u : (dim,) array
        Value weights of the inputs.
    u0 : float
        Value weight of the label: 1, or 0 where the minimum does not read labels through it.
    U : (dim, dim) array
        Product of key and query weights, inputs by inputs.
    v : (dim,) array
        The same, label by inputs.
    risk : float
        Risk of these weights, noise included.
    gap : float
        Risk less that of the best linear transformer block, without the loss of digits of a
        difference.
    """

    u: Floats
    u0: float
    U: Floats
    v: Floats
    risk: float
    gap: float

    @property
    def reduced(self) -> Reduced:
        """The weights as the functions on networks take them."""
        return Reduced(self.u, self.u0, self.U, self.v)


class ProfileSlope(NamedTuple):
    """The profile and its derivatives.

    Attributes
    ----------
    risk : array
    b : (..., dim) array
        Derivatives by b.
    u0 : array
        Derivatives by u0.
    """

    risk: Floats
    b: Floats
    u0: Floats


# ------------------------------------------------------------------ profile


@border
def attention_profile(prior: RegressionPrior, b: ArrayLike, u0: ArrayLike) -> Floats:
    """Return the least risk of linear attention with given value weights, noise included.

    Parameters
    ----------
    prior : RegressionPrior
    b : (..., dim) array_like
        Value weights of the inputs, moved by the mean task: ``b = u + u0 task_mean``.
    u0 : (...) array_like
        Value weight of the label; not 0 where b is 0. Broadcasts with b.

    Returns
    -------
    array
        Of the shape of the batch; scalar for one pair.

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite, or all value weights are 0.

    Notes
    -----
    The minimum over U and v for given value weights. It does not change when (b, u0) is scaled,
    so that a search stays on the unit sphere. The matrix of that least-squares problem is
    diagonal plus rank one in the eigenbasis of the task covariance: a pair costs O(dim) there,
    and O(dim^2) for the change of basis.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(5, n_context=5, mean=1)
    >>> attention_profile(prior, b=[[0] * 5, [1] * 5], u0=1).round(4)  # centred, from zero
    array([5.1763, 4.6467])
    """
    return profile_slope(prior, b, u0).risk


@border
def profile_slope(prior: RegressionPrior, b: ArrayLike, u0: ArrayLike) -> ProfileSlope:
    """Return the profile with its derivatives by the value weights.

    Parameters
    ----------
    prior : RegressionPrior
    b : (..., dim) array_like
        As in `attention_profile`.
    u0 : (...) array_like

    Returns
    -------
    ProfileSlope

    Raises
    ------
    ValueError
        As `attention_profile`.

    Notes
    -----
    At the best U and v the derivatives by them vanish, so those of the minimum are the partial
    derivatives of the risk there: O(dim) as well.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> slope = profile_slope(isotropic_prior(1, n_context=1, mean=1), b=[1], u0=1)
    >>> bool(abs(slope.b[0] + slope.u0) < 1e-12)  # no change along (b, u0)
    True
    """
    white = whiten_moderate(checked_prior(prior))
    flat, label, shape = _checked_pairs(prior, white, b, u0)
    gap, slope_b, slope_u0 = gap_and_slope(_spectrum(white), flat, label)
    risk = gap + block_excess(white.values, white.level, white.n_context) + white.noise_var
    slopes = (slope_b @ white.root.T).reshape(*shape, prior.dim), slope_u0.reshape(shape)
    return ProfileSlope(risk.reshape(shape)[()], slopes[0], slopes[1][()])


@border
def profile_weights(prior: RegressionPrior, b: ArrayLike, u0: float) -> OptimalAttention:
    """Return the best linear attention with given value weights.

    Parameters
    ----------
    prior : RegressionPrior
    b : (dim,) array_like
        As in `attention_profile`.
    u0 : float

    Returns
    -------
    OptimalAttention
        With ``u = b - u0 task_mean`` and this u0, not rescaled. The part of b where inputs do
        not vary does nothing and is dropped.

    Raises
    ------
    ValueError
        As `attention_profile`.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> weights = profile_weights(isotropic_prior(1, n_context=2, noise_var=0.5), [0], 1)
    >>> weights.U, round(weights.risk, 9)  # the best step from zero
    (array([[0.44444444]]), 1.055555556)
    """
    white, u0 = whiten_moderate(checked_prior(prior)), scalar("u0", u0, low=-np.inf)
    b = of_shape("b", finite_array("b", b, ndim=1), (prior.dim,))
    flat, label, _ = _checked_pairs(prior, white, b, u0)
    return _weights(prior, white, flat, label)


def _checked_pairs(
    prior: RegressionPrior, white: Whitened, b: ArrayLike, u0: ArrayLike
) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Return whitened b as (batch, rank), u0 as (batch, 1) and the shape of the batch."""
    b, u0 = finite_array("b", b, ndim=None), finite_array("u0", u0, ndim=None)
    if b.shape[-1:] != (prior.dim,):
        raise ValueError(f"b must have {prior.dim} entries on its last axis, got shape {b.shape}")
    try:
        shape = np.broadcast_shapes(b.shape[:-1], u0.shape)
    except ValueError:
        shapes = f"{b.shape} and {u0.shape}"
        raise ValueError(f"b and u0 must broadcast but for b's last axis, got {shapes}") from None
    flat = np.broadcast_to(b, (*shape, prior.dim)).reshape(-1, prior.dim)
    label = np.broadcast_to(u0, shape).reshape(-1, 1)
    seen = flat @ white.root
    blind = np.abs(seen) <= _EQUAL * np.abs(flat) @ np.abs(white.root)
    if np.any((label[:, 0] == 0) & blind.all(axis=1)):
        raise ValueError("b and u0 must not both be 0 where inputs vary: nothing would be read")
    return seen, label, shape


def _spectrum(white: Whitened) -> Spectrum:
    nothing = np.zeros_like(white.values)
    return Spectrum(white.values, white.mean, nothing, white.noise_var, white.n_context)


def _weights(prior: RegressionPrior, white: Whitened, b: Floats, u0: Floats) -> OptimalAttention:
    """Return the best weights for one whitened pair, (1, rank) and (1, 1), on the old axes."""
    law = _spectrum(white)
    best, gap = inner_optimum(law, b, u0), gap_and_slope(law, b, u0)[0]
    back, mean, label = white.inverse.T, prior.task_mean, float(u0[0, 0])
    v = back @ best.v[0]
    U = back @ _matrix(best) @ back.T - np.outer(mean, v)
    reduced = Reduced(back @ b[0] - label * mean, label, U, v, np.zeros(prior.dim))
    return OptimalAttention(*reduced[:4], exact_risk(prior, reduced), float(gap[0]))


def _matrix(best: Best) -> Floats:
    """Return A of the first row."""
    v, diagonal, left, right, bent = (part[0] for part in best)
    return np.diag(diagonal) + np.outer(left, right) - np.outer(bent, v)


# ------------------------------------------------------------------ minima


@border
def optimal_attention(prior: RegressionPrior) -> OptimalAttention:
    """Return the linear attention of least risk: the global minimum, both branches searched.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    OptimalAttention
        Scaled to ``u0 = 1``; where the minimum has ``u0 = 0``, to ``u`` of largest entry 1. Its
        `risk` is that of the weights, which attain the infimum up to rounding.

    Raises
    ------
    TypeError
        If `prior` is no `RegressionPrior`.
    ValueError
        If the scale of labels is beyond 1e-70 to 1e70.

    Notes
    -----
    The minimum of `attention_profile` over value weights. The profile is constant along rays, so
    the infimum is attained; but where it is attained at ``u0 = 0``, weights with ``u0 = 1`` only
    approach it as they grow. For given ``b_i^2`` the profile is linear in the products
    ``w_i b_i`` with the whitened mean w: in the eigenspace of one task variance the best b is
    parallel to the mean there, which leaves one number for each distinct variance (one in all for
    an isotropic prior). In those the profile can have several local minima. One branch, u0 of the
    order of b, resembles a gradient step; on the other u0 is near 0, ``U^T S u`` with the second
    moments S of the context's inputs stands in for a constant, and one direction of the tasks is
    learned. Starts on both: the lowest points along rays to the mean, weighted by powers of the
    task variance, and along every axis. In 439 random instances of dimension 1 to 8, descents
    from 150 random starts each found nothing lower, up to 1e-9: checked, not proven.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import RegressionPrior, isotropic_prior
    >>> round(optimal_attention(isotropic_prior(5, n_context=5, mean=1)).risk, 9)
    4.556578645
    >>> twofold = RegressionPrior([[1, 0], [0, 1]], [2, 0], [[0.2, 0], [0, 1]], 1, 4)
    >>> best = optimal_attention(twofold)
    >>> round(best.risk, 9), best.u0
    (2.977777778, 0.0)
    """
    white = whiten_moderate(checked_prior(prior))
    ends = _searched(white)
    return _restored(prior, white, ends, int(np.argmin(ends.values)))


@border
def attention_minima(prior: RegressionPrior) -> tuple[OptimalAttention, ...]:
    """Return the local minima of the risk of linear attention that the search meets, best first.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    tuple of OptimalAttention
        One for each value of the risk; the first is `optimal_attention`. Those of one value are
        images of each other or, for equal task variances, a continuum.

    Raises
    ------
    TypeError
        If `prior` is no `RegressionPrior`.
    ValueError
        If the scale of labels is beyond 1e-70 to 1e70.

    Notes
    -----
    Points with a direction of negative curvature are left out. That all minima other than the
    global one are met is not claimed.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import RegressionPrior
    >>> twofold = RegressionPrior([[1, 0], [0, 1]], [2, 0], [[0.2, 0], [0, 1]], 1, 4)
    >>> [round(weights.risk, 9) for weights in attention_minima(twofold)]
    [2.977777778, 3.12794847]
    """
    white = whiten_moderate(checked_prior(prior))
    ends = _searched(white)
    order = np.argsort(ends.values, kind="stable")
    new = np.diff(ends.values[order], prepend=-np.inf) > _SAME * ends.values[order]
    new[0] = True
    rows = [row for row in order[new] if row == order[0] or _is_minimum(ends, int(row))]
    return tuple(_restored(prior, white, ends, int(row)) for row in rows)


class _Ends(NamedTuple):
    """Where the searches ended: rows (b, u0) of unit norm, with b in its row's own unit."""

    law: Spectrum
    points: Floats
    units: Floats
    values: Floats
    slopes: Floats


def _searched(white: Whitened) -> _Ends:
    law = _grouped(white)
    return _ended(law, *_starts(law), tolerance=_COARSE)


def _polished(ends: _Ends, row: int) -> _Ends:
    """Return one row to all digits."""
    return _ended(ends.law, ends.points[[row]], ends.units[[row]], tolerance=_FINE)


def _ended(law: Spectrum, starts: Floats, units: Floats, *, tolerance: float) -> _Ends:
    found = descend(partial(_objective, law), starts, units, tolerance=tolerance)
    return _Ends(law, found.points, units, found.values, found.slopes)


def _objective(law: Spectrum, points: Floats, units: Floats) -> tuple[Floats, Floats]:
    gap, slope_b, slope_u0 = gap_and_slope(law, units * points[:, :-1], points[:, -1:])
    return gap, np.column_stack([units * slope_b, slope_u0])


def _is_minimum(ends: _Ends, row: int) -> bool:
    """Return whether the search converged to a point without a direction of negative curvature."""
    if np.linalg.norm(ends.slopes[row]) > FLAT * ends.values[row]:
        return False
    point, moves = ends.points[row], _PROBE * np.eye(ends.points.shape[1])
    units = np.tile(ends.units[row], (len(moves), 1))
    slopes = [_objective(ends.law, point + move, units)[1] for move in (moves, -moves)]
    curvature = np.linalg.eigvalsh(slopes[0] - slopes[1] + (slopes[0] - slopes[1]).T)
    return bool(curvature[0] >= -1e-5 * curvature[-1])


# ------------------------------------------------------------------ one number for each variance


def _unit(white: Whitened) -> float:
    """Return the square of the unit of labels: the effective noise if there is any."""
    return white.level or white.norm2 or 1.0


def _group(white: Whitened) -> NDArray[np.intp]:
    """Return the number of each direction's task variance, in descending order."""
    drops = np.diff(white.values) < -_EQUAL * white.values[0]
    return np.concatenate([[0], np.cumsum(drops)])


def _grouped(white: Whitened) -> Spectrum:
    """Return the distinct variances and the mean's norm in their eigenspaces, in our unit."""
    group, unit = _group(white), _unit(white)
    sizes = np.bincount(group)
    values = np.bincount(group, white.values) / sizes
    mean = np.asarray(np.sqrt(np.bincount(group, white.mean**2) / unit), dtype=np.float64)
    mean[mean < _FAINT] = 0.0
    noise_var, n_context = white.noise_var / unit, white.n_context
    return Spectrum(values / unit, mean, sizes.astype(np.float64) - 1.0, noise_var, n_context)


def _lifted(white: Whitened, ends: _Ends) -> tuple[Floats, Floats]:
    """Return b of the only row, (1, rank), and u0, (1, 1): in eigenspaces b is along the mean."""
    group = _group(white)
    norm = np.sqrt(np.bincount(group, white.mean**2))[group]
    first = np.diff(group, prepend=-1) > 0
    along = np.divide(white.mean, norm, out=first.astype(np.float64), where=norm > 0)
    b = (ends.points[0, :-1] * ends.units[0])[group] * along * np.sqrt(_unit(white))
    return b[None], ends.points[:, -1:]


def _restored(prior: RegressionPrior, white: Whitened, ends: _Ends, row: int) -> OptimalAttention:
    """Return the weights at a minimum, in the scale that `optimal_attention` promises."""
    b, u0 = _lifted(white, _polished(ends, row))
    unread, law = np.zeros((1, 1)), _spectrum(white)
    gaps = [gap_and_slope(law, b, label)[0][0] for label in (u0, unread)]
    if not b.any() or gaps[1] > gaps[0] * (1.0 + _EQUAL):
        return _weights(prior, white, b / u0, np.ones((1, 1)))
    u = white.inverse.T @ b[0]
    return _weights(prior, white, b / u[np.argmax(np.abs(u))], unread)


# ------------------------------------------------------------------ starts


def _starts(law: Spectrum) -> tuple[Floats, Floats]:
    """Return starts (b in its units, 1) and the units."""
    if not law.mean.any():  # the best block, which attention can then be
        return np.eye(len(law.mean) + 1)[-1:], np.ones((1, 1))
    if law.level == 0:  # the gap is the same everywhere
        return np.append(law.mean, 0.0)[None], np.ones((1, 1))
    centred = _SMALL * law.mean[None]  # the minimum is near b = 0 if tasks hardly vary along it
    b = np.vstack([centred, _lows(law, _mixed(law)), _lows(law, _axes(law))[:_N_AXES]])
    units = np.linalg.norm(b, axis=1, keepdims=True)
    return np.column_stack([b / units, np.ones(len(b))]), units


def _mixed(law: Spectrum) -> Floats:
    """Return directions to the mean, weighted by powers of the curvature."""
    scale = law.curvature / law.curvature.max() if law.level > 0 else np.ones_like(law.mean)
    rays = _unit_rows(law.mean * scale ** np.arange(-2.0, 3.0)[:, None])
    return np.unique(_unit_rows(rays + _TILT).round(12), axis=0)


def _axes(law: Spectrum) -> Floats:
    """Return both directions along each axis, a little tilted towards the mean."""
    axes = np.eye(len(law.mean))
    tilt = _TILT * law.mean / np.linalg.norm(law.mean)
    return _unit_rows(np.vstack([axes + tilt, tilt - axes]))


def _lows(law: Spectrum, directions: Floats) -> Floats:
    """Return b at the minima of the gap along rays with u0 = 1, the lowest first."""
    ends = [np.sqrt(law.n_context * law.curvature.max()), np.linalg.norm(law.mean)]
    sizes = np.unique(np.outer(ends, np.geomspace(0.03, 30.0, 15)))
    sizes = sizes[sizes > 0]
    b = (directions[:, None] * sizes[:, None]).reshape(-1, directions.shape[1])
    gap = gap_and_slope(law, b, np.ones((len(b), 1)))[0].reshape(len(directions), -1)
    falls = np.pad(np.diff(gap) <= 0, ((0, 0), (1, 1)))  # to the left of each size, and at the end
    row, column = np.nonzero(falls[:, :-1] & ~falls[:, 1:])
    order = np.argsort(gap[row, column], kind="stable")
    return directions[row[order]] * sizes[column[order], None]


def _unit_rows(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
