"""Moments of the attention feature in closed form: covariance and signal of ``vec(x b^T)``.

For the page on theory and for everything that replaces a simulation. Nothing here samples: label
moments are Gaussian quadratures, task directions one-dimensional integrals, and the rest is
algebra in the few directions that the sources single out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from iclkit import hermite
from iclkit._checks import border, count, finite_array, locked
from iclkit.papers.data_mixing.sources import Source, magnitude, mixture_weights, source_list

__all__ = [
    "Cell",
    "LabelMoments",
    "Link",
    "Moments",
    "label_moments",
    "moments",
    "spike_overlap",
]

Floats = NDArray[np.float64]
Link = str | Callable[[Floats], Floats]

_STEP = 0.25  # of the trapezoidal rules in a logarithm; their error is below exp(-2 pi^2 / step)
_REACH = 90.0  # the slowest integrand falls like exp(-|v| / 2)
_NEVER = 1e-25  # probability below which an overlap is left out
_SAME = 1e-9  # sine of the angle below which two directions are one


# ------------------------------------------------------------------ labels


class LabelMoments(NamedTuple):
    """Moments of a label ``y = phi(u) + noise`` whose argument u is N(0, scale^2).

    Attributes
    ----------
    mean, slope : array
        ``E phi(u)`` and ``E phi'(u)``.
    square, fourth : array
        ``E y^2`` and ``E y^4``.
    curvature : array
        ``E (phi^2)''(u)``.
    third_slope : array
        ``E y^3 u / scale^2``.
    """

    mean: Floats
    slope: Floats
    square: Floats
    fourth: Floats
    curvature: Floats
    third_slope: Floats


@border
def label_moments(link: Link, noise: float, *, scale: ArrayLike = 1.0) -> LabelMoments:
    """Return the moments of labels that all closed forms of the chapter need.

    Parameters
    ----------
    link : str or callable
        phi.
    noise : float
        Standard deviation of the label noise, >= 0.
    scale : array_like
        Standard deviations of the argument, > 0.

    Returns
    -------
    LabelMoments
        Each entry has the shape of `scale`.

    Raises
    ------
    ValueError, TypeError
        If the link is not known, the noise negative or a scale not positive.

    Notes
    -----
    Derivatives are never taken: ``E f'(u) = E u f(u) / scale^2`` and
    ``E f''(u) = E f(u) (u^2/scale^2 - 1) / scale^2``.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> law = label_moments("relu", 0.0)
    >>> round(float(law.slope), 9), round(float(law.square), 9)
    (0.5, 0.5)
    """
    phi, variance = hermite.checked(link, name="link"), magnitude("noise", noise) ** 2
    scales = finite_array("scale", scale, ndim=None)
    if (scales <= 0).any():
        raise ValueError(f"scale must be > 0, got {scales.min():g}")
    magnitude("scale", float(scales.max()))
    power = [_hermite_means(phi, order, scales) for order in (1, 2, 3, 4)]
    slope, square = power[0][1], power[1][0]
    return LabelMoments(
        mean=power[0][0],
        slope=slope,
        square=square + variance,
        fourth=power[3][0] + 6 * variance * square + 3 * variance**2,
        curvature=power[1][2],
        third_slope=power[2][1] + 3 * variance * slope,
    )


def _hermite_means(phi: Callable[[Floats], Floats], order: int, scales: Floats) -> list[Floats]:
    """Return ``E D^j phi^order (scale z)`` for j = 0, 1, 2."""
    flat = hermite.scaled_coefficients(lambda u: phi(u) ** order, scales.ravel(), 2)
    return [(flat[:, j] / scales.ravel() ** j).reshape(scales.shape)[()] for j in range(3)]


# ------------------------------------------------------------------ task directions


class _Directions(NamedTuple):
    """``E a`` (r,) and ``E a a^T`` of a task direction: (r, r), and once for all other axes."""

    mean: Floats
    block: Floats
    bulk: float


@border
def spike_overlap(theta: ArrayLike, d: int) -> Floats:
    """Return the mean squared overlap of a task direction with the spike of the task law.

    Parameters
    ----------
    theta : array_like
        Strength of the spike, >= 0: tasks are N(0, I + theta g g^T).
    d : int
        Dimension, >= 1.

    Returns
    -------
    array
        ``q = E (g^T xi / |xi|)^2``, of the shape of `theta`; 1/d without a spike.

    Raises
    ------
    ValueError, TypeError
        If theta is negative or not finite, or d is not a positive integer.

    Notes
    -----
    ``q = int_0^inf (1+theta) (1+2s(1+theta))^(-3/2) (1+2s)^(-(d-1)/2) ds``, from
    ``1/|xi|^2 = int exp(-s |xi|^2) ds``. In ``log s`` the integrand is analytic in a strip and
    the trapezoidal rule exact to rounding.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> spike_overlap([0.0, 400.0], 20).round(6)
    array([0.05    , 0.772163])
    """
    theta = finite_array("theta", theta, ndim=None)
    if (theta < 0).any():
        raise ValueError(f"theta must be >= 0, got {theta.min():g}")
    magnitude("theta", float(theta.max()))
    dim = count("d", d)
    if dim == 1:
        return np.ones(theta.shape)[()]
    s, weight = _log_rule(float(np.log1p(theta).max()))
    spread = 1 + theta[..., None]
    log_mass = -0.5 * (3 * np.log1p(2 * s * spread) + (dim - 1) * np.log1p(2 * s))
    return ((spread * np.exp(log_mass)) @ weight)[()]


def _log_rule(extra: float) -> tuple[Floats, Floats]:
    """Return nodes s and weights of ``int_0^inf f(s) ds``; `extra` widens the range downwards."""
    v = np.arange(-_REACH - extra, _REACH, _STEP)
    return np.exp(v), _STEP * np.exp(v)


def _directions(source: Source, basis: Floats) -> _Directions:
    """Return the first two moments of a source's task direction in a basis (d, r)."""
    g, mu = basis.T @ source.gamma_xi, basis.T @ source.mu_xi
    stretch = 1 + source.theta_xi
    s, weight = _log_rule(np.log(stretch + mu @ mu))
    plain, spiked = 1 / (1 + 2 * s), 1 / (1 + 2 * s * stretch)
    pull = plain[:, None] * mu + ((spiked - plain) * (g @ mu))[:, None] * g
    log_mass = 0.5 * (np.log(spiked) + (source.d - 1) * np.log(plain)) - s * (pull @ mu)
    mass = np.exp(log_mass) * weight
    bulk = float(mass @ plain)
    along = float(mass @ (stretch * spiked)) - bulk
    block = bulk * np.eye(len(g)) + along * np.outer(g, g) + (pull.T * mass) @ pull
    return _Directions((mass / np.sqrt(np.pi * s)) @ pull, block, bulk)


def _overlap_law(theta: float, d: int) -> tuple[Floats, Floats]:
    """Return nodes and probabilities of ``p = (g^T xi)^2 / |xi|^2``.

    ``log(p / (1-p)) - log(1 + theta)`` has the density ``exp(v/2) (1 + exp(v))^(-d/2)``, up to a
    factor: analytic, so that equidistant nodes integrate to rounding.
    """
    if d == 1:
        return np.ones(1), np.ones(1)
    v = np.arange(-_REACH, _REACH, _STEP)
    mass = np.exp(v / 2 - d / 2 * np.logaddexp(0, v))
    return special.expit(v + np.log1p(theta)), mass / mass.sum()


# ------------------------------------------------------------------ one source


class _Parts(NamedTuple):
    """Second moments of one source in the basis of all special directions, and in the bulk.

    `inputs` (r, r) is ``E x x^T``; `context` (r + 1, r + 1) is ``E b b^T`` with the last entry of
    b last; `cross` (r, r + 1) is ``E y x b^T``. In the bulk x has variance 1.
    """

    inputs: Floats
    context: Floats
    context_bulk: float
    cross: Floats
    cross_bulk: float
    square: float
    mean: float


def _parts(source: Source, basis: Floats, n_context: int) -> _Parts:
    if np.any(source.mu_x):
        raise ValueError("mu_x must be zero for closed-form moments, got another mean; simulate it")
    if source.theta_x == 0:
        return _isotropic_parts(source, basis, n_context)
    if np.any(source.mu_xi):
        raise ValueError("mu_xi must be zero where theta_x > 0 for closed-form moments; simulate")
    across = source.gamma_xi - (source.gamma_xi @ source.gamma_x) * source.gamma_x
    if source.theta_xi > 0 and np.linalg.norm(across) > _SAME:
        raise ValueError(
            "gamma_xi must be parallel to gamma_x for closed-form moments where both spikes are "
            "there, got another direction; simulate it"
        )
    return _spiked_parts(source, basis, n_context)


def _isotropic_parts(source: Source, basis: Floats, n_context: int) -> _Parts:
    law, task = label_moments(source.link, source.noise), _directions(source, basis)
    share, rest = 1 / n_context, 1 - 1 / n_context
    gain = law.curvature * share + rest * law.slope**2
    block = law.square * share * np.eye(len(task.mean)) + gain * task.block
    last = law.fourth * share + rest * law.square**2
    coupling = (law.third_slope * share + rest * law.slope * law.square) * task.mean
    return _Parts(
        inputs=np.eye(len(task.mean)),
        context=_bordered(block, coupling, float(last)),
        context_bulk=float(law.square * share + gain * task.bulk),
        cross=np.column_stack([law.slope**2 * task.block, law.slope * law.square * task.mean]),
        cross_bulk=float(law.slope**2 * task.bulk),
        square=float(law.square),
        mean=float(law.mean),
    )


def _spiked_parts(source: Source, basis: Floats, n_context: int) -> _Parts:
    """Return the moments for inputs with a spike: means over the overlap p of task and spike."""
    stretch, g = 1 + source.theta_x, basis.T @ source.gamma_x
    p, mass, law = _overlap_labels(source)
    share, rest = 1 / n_context, 1 - 1 / n_context
    along = stretch * p  # squared entries of Cov(x) a / sqrt(stretch), on the spike and off it
    off = (1 - p) / (stretch * max(source.d - 1, 1))
    gain = law.curvature * share + rest * law.slope**2
    plain = law.square * share
    one = np.zeros(len(g))
    return _Parts(
        inputs=_split(stretch, 1.0, g),
        context=_bordered(
            _split(mass @ (stretch * plain + gain * along), mass @ (plain + gain * off), g),
            one,
            float(mass @ (law.fourth * share + rest * law.square**2)),
        ),
        context_bulk=float(mass @ (plain + gain * off)),
        cross=np.column_stack(
            [_split(mass @ (law.slope**2 * along), mass @ (law.slope**2 * off), g), one]
        ),
        cross_bulk=float(mass @ (law.slope**2 * off)),
        square=float(mass @ law.square),
        mean=float(mass @ law.mean),
    )


@lru_cache(maxsize=16)  # the same for all mixtures; a source is frozen and hashed by identity
def _overlap_labels(source: Source) -> tuple[Floats, Floats, LabelMoments]:
    """Return overlaps of task and input spike, their probabilities and the label moments."""
    p, mass = _overlap_law(source.theta_xi, source.d)
    kept = mass > _NEVER
    p, mass = p[kept], mass[kept]
    spread = (1 + source.theta_x * p) / (1 + source.theta_x)
    return p, mass, label_moments(source.link, source.noise, scale=np.sqrt(spread))


def _split(along: Any, off: Any, g: Floats) -> Floats:
    """Return the matrix with one eigenvalue along g and another one on all other axes."""
    return off * np.eye(len(g)) + (along - off) * np.outer(g, g)


def _bordered(block: Floats, side: Floats, corner: float) -> Floats:
    return np.block([[block, side[:, None]], [side[None, :], np.array([[corner]])]])


def _special_basis(sources: Sequence[Source]) -> Floats:
    """Return an orthonormal basis (d, r) of all directions that the sources single out."""
    vectors = [s.gamma_xi for s in sources if s.theta_xi > 0]
    vectors += [s.gamma_x for s in sources if s.theta_x > 0] + [s.mu_xi for s in sources]
    basis = np.empty((sources[0].d, 0))
    for vector in vectors if np.any(vectors) else [sources[0].gamma_xi]:
        length = np.linalg.norm(vector)
        rest = vector - basis @ (basis.T @ vector)
        rest -= basis @ (basis.T @ rest)
        if np.linalg.norm(rest) > _SAME * length:
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return basis


# ------------------------------------------------------------------ the mixture


class Cell(NamedTuple):
    """A block of feature directions with equal moments, in the eigenbasis of the mixture.

    Attributes
    ----------
    eigenvalues : (m,) array
        Of the mixture's second moment.
    multiplicity, copies : int
        How often the block occurs, and in how many of these the target has the rows `targets`.
    seconds : (n_sources, m, m) array
        Second moment of the feature in each source.
    targets : (n_sources, n_rows, m) array
        ``E y h`` in each source.
    """

    eigenvalues: Floats
    multiplicity: int
    copies: int
    seconds: Floats
    targets: Floats


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of attention features and labels under a mixture of sources.

    Attributes
    ----------
    d, n_context : int
    weights : (n_sources,) array
    trace : float
        ``t = E |h|^2``.
    eigenvalues, multiplicities : (m,) arrays
        Of ``E h h^T``: spike directions first, then all others, then the last entry of b.
    energies : (m,) array
        What each eigenvalue's directions take from the error of the best linear read-out.
    best_linear : float
        Error of the best linear read-out under the mixture, without an intercept.
    label_squares, label_means, source_traces : (n_sources,) arrays
        ``E y^2``, ``E y`` and ``E |h|^2`` of each source.
    cells : tuple of Cell
        The same per source, for the deterministic equivalents.
    """

    d: int
    n_context: int
    weights: Floats
    trace: float
    eigenvalues: Floats
    multiplicities: NDArray[np.int64]
    energies: Floats
    best_linear: float
    label_squares: Floats
    label_means: Floats
    source_traces: Floats
    cells: tuple[Cell, ...]


@border
def moments(
    sources: Sequence[Source] | Source, weights: ArrayLike = (1.0,), *, n_context: int
) -> Moments:
    """Return the second moments of attention features and labels of a mixture.

    Parameters
    ----------
    sources : sequence of Source, or Source
        All of one dimension; links, noises and spikes may differ.
    weights : (n_sources,) array_like
        Shares of the sources, summing to one.
    n_context : int
        Labelled examples in a prompt, >= 1.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError, TypeError
        If weights or sizes are out of range, if inputs have a mean, or if inputs have a spike and
        tasks have a mean or a spike of another direction: these cases have no formula here.

    Notes
    -----
    For isotropic inputs and tasks without mean, with ``q_g`` and ``q_o`` the mean squared entries
    of the task direction on and off the spike and ``K = k2/l + (1 - 1/l) c1^2``:
    ``lambda_g = m2/l + K q_g``, ``lambda_o = m2/l + K q_o``, last
    ``m4/l + (1 - 1/l) m2^2``, and ``E y h`` is ``c1^2 q`` at the entries (j, j). A task mean
    couples the last entry of b to its direction. With an input spike all label moments depend on
    the overlap p of task and spike, and are averaged over its law.

    References
    ----------
    Derived here; the text of Demir and Dogan 2025 that we read states no moments.

    Examples
    --------
    >>> law = moments(Source(20, noise=0.2, theta_xi=20.0), n_context=40)
    >>> round(law.trace, 4), law.multiplicities.tolist(), round(law.best_linear, 6)
    (17.2736, [20, 380, 20], 0.406065)
    """
    listed = source_list(sources)
    shares, n_context = mixture_weights(weights, len(listed)), count("n_context", n_context)
    basis = _special_basis(listed)
    parts = [_parts(source, basis, n_context) for source in listed]
    squares = np.array([part.square for part in parts])
    if not shares @ squares > 0:
        raise ValueError("sources must have labels other than zero, got a link that vanishes")
    cells = _cells(parts, shares, listed[0].d)
    values, repeats, energies = _spectrum(cells, shares)
    return Moments(
        d=listed[0].d,
        n_context=n_context,
        weights=locked(shares),
        trace=float(values @ repeats),
        eigenvalues=values,
        multiplicities=repeats,
        energies=energies,
        best_linear=float(shares @ squares - energies.sum()),
        label_squares=squares,
        label_means=np.array([part.mean for part in parts]),
        source_traces=sum(c.multiplicity * np.einsum("sii->s", c.seconds) for c in cells),
        cells=cells,
    )


def _cells(parts: Sequence[_Parts], shares: Floats, d: int) -> tuple[Cell, ...]:
    r = len(parts[0].inputs)
    plain = all(np.array_equal(part.inputs, np.eye(r)) for part in parts)
    if not plain:
        raw = _kronecker_cells(parts, d - r)
    elif any(part.context[:r, r].any() for part in parts):
        raw = _coupled_cells(parts, d)
    else:
        raw = _plain_cells(parts, d)
    return tuple(_diagonal(cell, shares) for cell in raw if cell.multiplicity)


def _cell(seconds: list[Any], targets: list[Any], multiplicity: int, copies: int) -> Cell:
    stacked = np.array(seconds)
    return Cell(np.empty(0), multiplicity, copies, stacked, np.array(targets))


def _plain_cells(parts: Sequence[_Parts], d: int) -> list[Cell]:
    """Return spikes, bulk and last entry of b: isotropic inputs, tasks without mean."""
    r = len(parts[0].inputs)
    return [
        _cell([p.context[:r, :r] for p in parts], [p.cross[:, :r] for p in parts], d, 1),
        _bulk_cell(parts, d * (d - r), d - r),
        _cell([p.context[r:, r:] for p in parts], [np.empty((0, 1)) for _ in parts], d, 1),
    ]


def _coupled_cells(parts: Sequence[_Parts], d: int) -> list[Cell]:
    """Return one block for spikes and the last entry of b, and the bulk: tasks with a mean."""
    r = len(parts[0].inputs)
    first = _cell([p.context for p in parts], [p.cross for p in parts], d, 1)
    return [first, _bulk_cell(parts, d * (d - r), d - r)]


def _kronecker_cells(parts: Sequence[_Parts], rest: int) -> list[Cell]:
    """Return the four blocks of ``E x x^T (x) E b b^T``: inputs with spikes."""
    nothing = [np.empty((0, p.context.size)) for p in parts]
    r = len(parts[0].inputs)
    mixed = [np.kron(p.inputs, p.context) for p in parts]
    return [
        _cell(mixed, [p.cross.reshape(1, -1) for p in parts], 1, 1),
        _cell([p.inputs * p.context_bulk for p in parts], [n[:, :r] for n in nothing], rest, 0),
        _bulk_cell(parts, rest * rest, rest),
        _cell([p.context for p in parts], [n[:, : r + 1] for n in nothing], rest, 0),
    ]


def _bulk_cell(parts: Sequence[_Parts], multiplicity: int, copies: int) -> Cell:
    seconds = [np.full((1, 1), p.context_bulk) for p in parts]
    return _cell(seconds, [np.full((1, 1), p.cross_bulk) for p in parts], multiplicity, copies)


def _diagonal(cell: Cell, shares: Floats) -> Cell:
    """Return the cell in the eigenbasis of the mixture; a diagonal one stays as it is."""
    mixed = np.einsum("s,sij->ij", shares, cell.seconds)
    if np.array_equal(mixed, np.diag(np.diag(mixed))):
        return cell._replace(eigenvalues=np.diag(mixed).copy())
    values, vectors = np.linalg.eigh(mixed)
    values, vectors = values[::-1], vectors[:, ::-1]
    seconds = vectors.T @ cell.seconds @ vectors
    return cell._replace(eigenvalues=values, seconds=seconds, targets=cell.targets @ vectors)


def _spectrum(cells: Sequence[Cell], shares: Floats) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return eigenvalues, multiplicities and energies of the mixture."""
    values = np.concatenate([cell.eigenvalues for cell in cells])
    repeats = np.concatenate([np.full(len(c.eigenvalues), c.multiplicity) for c in cells])
    signal = [np.einsum("s,sri->ri", shares, cell.targets) for cell in cells]
    squares = [cell.copies * np.sum(g**2, axis=0) for cell, g in zip(cells, signal, strict=True)]
    return values, repeats, np.concatenate(squares) / values
