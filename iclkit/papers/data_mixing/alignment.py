"""When the first gradient sees the structure of the tasks: an eigenvalue transition, solved.

For the page on theory. The gradient of the hidden layer is nearly of rank one, along the mean of
label times feature. Read as a matrix over query and context that mean is a spike in noise; its
leading eigenvector finds the direction of the task spike above a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from iclkit._checks import border, count, finite_array, instance, scalar
from iclkit.papers.data_mixing.moments import Link, label_moments, spike_overlap
from iclkit.papers.data_mixing.sources import (
    Contexts,
    Source,
    magnitude,
    mixture_weights,
    prompts,
    source_list,
)

__all__ = [
    "Alignment",
    "alignment",
    "alignment_curve",
    "alignment_threshold",
    "finite_threshold",
    "gradient_matrix",
    "measured_alignment",
]

Floats = NDArray[np.float64]
_NO_SIGNAL = 1e-20  # squared slopes below are rounding
_LARGEST = 1e12  # spike strength beyond which no threshold is searched


class Alignment(NamedTuple):
    """What the leading eigenvector of the first gradient knows of the task spike.

    Attributes
    ----------
    overlap_squared : float
        Squared cosine between eigenvector and spike; 0 below the threshold.
    detected : bool
        Whether the spike's eigenvalue leaves the bulk.
    eigenvalue : float
        That eigenvalue; the edge of the bulk below the threshold.
    edge : float
        Upper edge of the bulk.
    signal : float
        Mean of the matrix on the spike minus that off it.
    bulk_variance, row_variance : float
        Summed variances of a row of noise: off the spike, and of the spike's own row.
    """

    overlap_squared: float
    detected: bool
    eigenvalue: float
    edge: float
    signal: float
    bulk_variance: float
    row_variance: float


class _Noise(NamedTuple):
    """Signal on and off the spike, and the two variances of the noise."""

    on: float
    off: float
    bulk: float
    row: float


@border
def alignment(
    sources: Sequence[Source] | Source,
    weights: ArrayLike = (1.0,),
    *,
    n_context: int,
    n_prompts: int,
    direction: ArrayLike | None = None,
) -> Alignment:
    """Return how well the first gradient's leading eigenvector finds a spike of the tasks.

    Parameters
    ----------
    sources : sequence of Source, or Source
        Inputs isotropic, means zero.
    weights : (n_sources,) array_like
        Shares of the sources, summing to one.
    n_context, n_prompts : int
        Labelled examples in a prompt, and prompts of the gradient step; >= 1.
    direction : (d,) array_like, optional
        The spike to look for; the default is that of the first source with one.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, a source has an input spike or a mean, or a spike is
        neither along `direction` nor orthogonal to it.

    Notes
    -----
    The symmetric part M of ``V = mean y x b_1^T`` has the mean ``s`` on the spike and noise:
    a bulk of row variance v, and the spike's own row, of variance tau^2. With the semicircle's
    transform ``G(l) = (l - sqrt(l^2 - 4v)) / (2v)`` the eigenvalue solves
    ``l = s + tau^2 G(l)``, and ``overlap^2 = 1/(1 - tau^2 G'(l))``; it leaves the bulk iff
    ``s + tau^2/sqrt(v) > 2 sqrt(v)``. Other spikes, orthogonal to this one, have eigenvectors of
    their own.

    References
    ----------
    New here; not in Demir and Dogan 2025. The tool is the deformed semicircle law.

    Examples
    --------
    >>> found = alignment(Source(64, theta_xi=6.0), n_context=64, n_prompts=2048)
    >>> round(found.overlap_squared, 9), found.detected
    (0.699856613, True)
    """
    listed = source_list(sources)
    shares = mixture_weights(weights, len(listed))
    axis = _direction(listed, direction)
    sizes = count("n_context", n_context), count("n_prompts", n_prompts)
    return _outlier(_noise(listed, shares, axis, *sizes))


def _direction(sources: Sequence[Source], direction: ArrayLike | None) -> Floats:
    if direction is not None:
        return _unit(direction, sources[0].d)
    spiked = [source for source in sources if source.theta_xi > 0]
    return (spiked or list(sources))[0].gamma_xi


def _unit(direction: ArrayLike, d: int) -> Floats:
    vector = finite_array("direction", direction, ndim=1)
    if vector.shape != (d,) or not vector.any():
        raise ValueError(
            f"direction must be a vector other than zero of length {d}, got shape {vector.shape}"
        )
    vector = vector / np.abs(vector).max()  # first, so that no square overflows or vanishes
    return vector / np.linalg.norm(vector)


def _noise(
    sources: Sequence[Source], shares: Floats, axis: Floats, n_context: int, n_prompts: int
) -> _Noise:
    parts = [_noise_of(source, axis, n_context, n_prompts) for source in sources]
    return _Noise(*(float(part) for part in shares @ np.array(parts)))


def _noise_of(source: Source, axis: Floats, n_context: int, n_prompts: int) -> _Noise:
    """Return signal and noise of one source; in a mixture all four numbers are averaged."""
    if source.theta_x > 0 or np.any(source.mu_x) or np.any(source.mu_xi):
        raise ValueError("sources must have isotropic inputs and no means, got another law")
    law, rest = label_moments(source.link, source.noise), source.d - 1
    on, off = _overlaps(source, axis)
    gain = law.curvature / n_context + (1 - 1 / n_context) * law.slope**2
    plain, spiked = (law.square / n_context + gain * part for part in (off, on))
    row = (law.square + law.curvature * on) * plain + law.square * spiked
    return _Noise(
        on=float(law.slope**2 * on),
        off=float(law.slope**2 * off),
        bulk=float(rest * law.square * plain / (2 * n_prompts)),
        row=float(rest * row / (4 * n_prompts)),
    )


def _overlaps(source: Source, axis: Floats) -> tuple[float, float]:
    """Return the mean squared entries of the task direction on an axis and off it."""
    if source.d == 1:
        return 1.0, 0.0
    cosine = abs(float(source.gamma_xi @ axis))
    q = float(spike_overlap(source.theta_xi, source.d))
    other = (1 - q) / (source.d - 1)
    if source.theta_xi == 0 or cosine > 1 - 1e-12:
        return q, other
    if cosine > 1e-6:
        raise ValueError(
            f"direction must be along each spike or orthogonal to it, got the cosine {cosine:.3g}"
        )
    return other, other


def _outlier(noise: _Noise) -> Alignment:
    signal, root = noise.on - noise.off, np.sqrt(noise.bulk)
    edge = 2 * root
    if root == 0:  # one dimension: no bulk, the spike is all there is
        return Alignment(1.0, True, noise.on, 0.0, noise.on, 0.0, noise.row)
    detected = signal + noise.row / root > edge
    place, overlap = _place_and_overlap(signal, noise) if detected else (edge, 0.0)
    return Alignment(
        overlap_squared=overlap,
        detected=bool(detected),
        eigenvalue=float(noise.off + place),
        edge=float(noise.off + edge),
        signal=signal,
        bulk_variance=noise.bulk,
        row_variance=noise.row,
    )


def _place_and_overlap(signal: float, noise: _Noise) -> tuple[float, float]:
    """Return the outlier's place and squared overlap, solved in the transform G.

    ``l = v G + 1/G`` turns the equation for l into a quadratic one for G:
    ``(v - tau^2) G^2 - s G + 1 = 0``, of which the smaller positive root is the outlier.
    """
    v, row = noise.bulk, noise.row
    root = np.sqrt(signal**2 - 4 * (v - row))
    transform = 2 / (signal + root)
    slope = -(transform**2) / (1 - v * transform**2)
    return float(v * transform + 1 / transform), float(1 / (1 - row * slope))


# ------------------------------------------------------------------ thresholds


@border(finite=True)
def alignment_threshold(
    link: Link, noise: float, prompt_ratio: float, context_ratio: float
) -> float:
    """Return the spike strength above which the first gradient sees the tasks, as d grows.

    Parameters
    ----------
    link : str or callable
        phi, with ``E phi'(z) != 0``.
    noise : float
        Standard deviation of the label noise, >= 0.
    prompt_ratio : float
        n_prompts / d^2 of the gradient step, > 0.
    context_ratio : float
        n_context / d, > 0.

    Returns
    -------
    float
        ``theta_c``: detection takes a spike of order one, not one that grows with d.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or the link has no linear part: then the gradient's mean
        carries no trace of the tasks.

    Notes
    -----
    ``v = m2 (m2/context_ratio + c1^2) / (2 prompt_ratio)`` and
    ``theta_c = sqrt(v) / (c1^2 (1 + m2 / (4 prompt_ratio sqrt(v))))``.

    References
    ----------
    New here; the text of Demir and Dogan 2025 that we read gives no threshold.

    Examples
    --------
    >>> round(alignment_threshold("relu", 0.01, 0.5, 1), 8)
    1.73966078
    """
    limit = _limit(link, noise, prompt_ratio, context_ratio)
    root = np.sqrt(limit.bulk)
    return float(root / (limit.signal + limit.row / root))


@border
def alignment_curve(
    theta: ArrayLike, link: Link, noise: float, *, prompt_ratio: float, context_ratio: float
) -> Floats:
    """Return the squared overlap of `alignment` for spikes of order one, as d grows.

    Parameters
    ----------
    theta : array_like
        Strengths of the spike, >= 0.
    link, noise, prompt_ratio, context_ratio
        As in `alignment_threshold`.

    Returns
    -------
    array
        Of the shape of `theta`; 0 up to the threshold.

    Raises
    ------
    ValueError, TypeError
        As `alignment_threshold`, or if a spike is negative.

    Notes
    -----
    In units of 1/d the signal is ``s = c1^2 theta`` and the row of the spike has the variance
    ``tau^2 = v + m2 c1^2 theta / (4 prompt_ratio)``. So
    ``G = 2 / (s + sqrt(s^2 + 4 (tau^2 - v)))`` and
    ``overlap^2 = (1 - v G^2) / (1 + (tau^2 - v) G^2)``.

    References
    ----------
    New here.

    Examples
    --------
    >>> curve = {"prompt_ratio": 0.5, "context_ratio": 1.0}
    >>> alignment_curve([1.0, 4.0, 16.0], "relu", 0.0, **curve).round(4)
    array([0.    , 0.6339, 0.9274])
    """
    strengths = finite_array("theta", theta, ndim=None)
    if (strengths < 0).any():
        raise ValueError(f"theta must be >= 0, got {strengths.min():g}")
    magnitude("theta", float(strengths.max()))
    limit = _limit(link, noise, prompt_ratio, context_ratio)
    threshold = alignment_threshold(link, noise, prompt_ratio, context_ratio)
    signal, extra = limit.signal * strengths, limit.row * strengths
    transform = 2 / np.maximum(signal + np.sqrt(signal**2 + 4 * extra), np.finfo(float).tiny)
    with np.errstate(over="ignore", invalid="ignore"):  # far below the threshold
        square = transform**2
        overlap = (1 - limit.bulk * square) / (1 + extra * square)
    return np.where(strengths > threshold, overlap, 0.0)[()]


class _Limit(NamedTuple):
    """Signal and extra variance of its row per unit of theta, and the bulk; in units of 1/d."""

    signal: float
    row: float
    bulk: float


def _limit(link: Link, noise: float, prompt_ratio: float, context_ratio: float) -> _Limit:
    prompts = scalar("prompt_ratio", prompt_ratio, open_=True)
    examples = scalar("context_ratio", context_ratio, open_=True)
    law = label_moments(link, noise)
    signal, square = float(law.slope) ** 2, float(law.square)
    if signal < _NO_SIGNAL:
        raise ValueError("link must have a linear part, E phi'(z) != 0, got none: no threshold")
    bulk = square * (square / examples + signal) / (2 * prompts)
    return _Limit(signal, square * signal / (4 * prompts), bulk)


@border
def finite_threshold(source: Source, *, n_context: int, n_prompts: int) -> float:
    """Return the spike strength at which `alignment` starts, at a finite dimension.

    Parameters
    ----------
    source : Source
        Its own spike strength does not matter.
    n_context, n_prompts : int
        As in `alignment`.

    Returns
    -------
    float
        Infinity where no spike is strong enough.

    Raises
    ------
    ValueError, TypeError
        As `alignment`.

    References
    ----------
    New here.

    Examples
    --------
    >>> round(finite_threshold(Source(64), n_context=64, n_prompts=2048), 7)
    1.8262606
    """
    instance("source", source, Source, "make one with Source(d, ...)")
    sizes = count("n_context", n_context), count("n_prompts", n_prompts)

    def lead(theta: float) -> float:
        noise = _noise_of(replace(source, theta_xi=theta), source.gamma_xi, *sizes)
        root = np.sqrt(noise.bulk)
        return float(noise.on - noise.off + (noise.row / root - 2 * root if root else 0.0))

    if lead(0.0) >= 0:
        return 0.0
    if lead(_LARGEST) <= 0:
        return float("inf")
    return float(np.expm1(optimize.brentq(lambda v: lead(np.expm1(v)), 0, np.log1p(_LARGEST))))


# ------------------------------------------------------------------ measured


@border
def gradient_matrix(contexts: Contexts) -> Floats:
    """Return the direction of the first gradient as a matrix over query and context, symmetrised.

    Parameters
    ----------
    contexts : Contexts
        Prompts of the gradient step.

    Returns
    -------
    (d, d) array
        The symmetric part of ``mean y x b_1^T``.

    References
    ----------
    Demir and Dogan 2025, Lemma 4.11: the gradient is nearly this vector times the second layer;
    read as a matrix it is used here.
    """
    prompts("contexts", contexts)
    first = (contexts.x * contexts.y[:, None]).T @ contexts.b[:, :-1] / len(contexts)
    return (first + first.T) / 2


@border
def measured_alignment(contexts: Contexts, direction: ArrayLike, *, rank: int = 1) -> float:
    """Return the squared overlap of sampled leading eigenvectors with a direction.

    Parameters
    ----------
    contexts : Contexts
        Prompts of the gradient step; no hidden weights are needed.
    direction : (d,) array_like
    rank : int
        How many leading eigenvectors span the space that the direction is projected on.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError, TypeError
        If the direction does not fit the prompts or the rank is out of range.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> strong = Source(8, theta_xi=64.0).sample(2000, 16, rng=stream(0, "example"))
    >>> measured_alignment(strong, [1, 0, 0, 0, 0, 0, 0, 0]) > 0.9
    True
    """
    matrix = gradient_matrix(contexts)
    leading = np.linalg.eigh(matrix)[1][:, -count("rank", rank, high=contexts.d) :]
    return float(np.sum((_unit(direction, contexts.d) @ leading) ** 2))
