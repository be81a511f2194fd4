"""Fair comparisons: what labels vary by, paired differences, and models at their best ridge.

For the page on good sources. An error means little without a ruler: the variance of the labels
that it is about, the error of a constant, and the seed-to-seed spread of a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit import hermite
from iclkit._checks import border, finite_array, instance, same_length
from iclkit.papers.data_mixing.head import linear_path, norm_scale, readout_path, take_step
from iclkit.papers.data_mixing.moments import moments
from iclkit.papers.data_mixing.simulation import Draw
from iclkit.papers.data_mixing.sources import Contexts, Source, magnitude, row
from iclkit.risk import Estimate

__all__ = [
    "FairErrors",
    "fair_errors",
    "label_variance",
    "paired_difference",
    "relative_gain",
]

Floats = NDArray[Any]


@border
def label_variance(source: Source) -> float:
    """Return the variance of the labels of a source: the error of its best constant answer.

    Parameters
    ----------
    source : Source
        One whose `moments` are closed: centred inputs, and with an input spike centred tasks,
        isotropic or spiked along the same direction.

    Returns
    -------
    float
        The label noise included.

    Raises
    ------
    TypeError
        If `source` is not a Source.
    ValueError
        If its moments are not closed; take the variance of sampled labels then.

    Notes
    -----
    Given its task direction a, a label is ``phi(tau z) + noise`` with a standard normal z and
    ``tau^2 = (1 + theta_x s) / (1 + theta_x)``, ``s = (a . gamma_x)^2``. For isotropic tasks
    ``E tau^2 = (1 + theta_x/d) / (1 + theta_x)``: labels shrink as the input spike grows.

    References
    ----------
    Derived here, for the sources of Demir and Dogan 2025.

    Examples
    --------
    >>> flat, spiked = Source(40, noise=0.0), Source(40, theta_x=40.0, noise=0.0)
    >>> [round(label_variance(source), 6) for source in (flat, spiked)]
    [0.340845, 0.017246]
    """
    instance("source", source, Source, "make one with Source(d, ...)")
    found = moments([source], [1.0], n_context=1)
    return float(found.label_squares[0] - found.label_means[0] ** 2)


@border
def paired_difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Return the mean of ``first - second`` over seeds, with its standard error.

    Parameters
    ----------
    first, second : (n_seeds,) array_like
        Two errors per seed, measured with the same random numbers; at least two seeds.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If lengths differ, there is only one seed, or a value is not finite.

    Notes
    -----
    The error of a difference comes from the differences: what both errors share drops out.

    Examples
    --------
    >>> paired_difference([1.0, 2.0, 3.0], [0.5, 1.5, 2.5])
    Estimate(value=0.5, stderr=0.0)
    """
    left, right = _pair(first, second)
    return _mean(left - right)


@border
def relative_gain(after: ArrayLike, before: ArrayLike) -> Estimate:
    """Return by which share a paired error falls, with its standard error.

    Parameters
    ----------
    after, before : (n_seeds,) array_like
        Two errors per seed, measured with the same random numbers; at least two seeds.

    Returns
    -------
    Estimate
        ``1 - mean(after) / mean(before)``; positive when the error falls.

    Raises
    ------
    ValueError
        If lengths differ, there is only one seed, a value is not finite, or the mean of `before`
        is not positive.

    Notes
    -----
    The standard error of a ratio of means to first order: that of the mean of
    ``after - ratio * before``, over the mean of `before`.

    Examples
    --------
    >>> relative_gain([0.8, 1.6], [1.0, 2.0]).value.__round__(12)
    0.2
    """
    left, right = _pair(after, before, ("after", "before"))
    base = float(right.mean())
    if not base > 0:
        raise ValueError(f"before must have a positive mean, got {base:g}")
    ratio = float(left.mean()) / base
    return Estimate(1 - ratio, _mean(left - ratio * right).stderr / base)


def _pair(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str] = ("first", "second")
) -> tuple[Floats, Floats]:
    left, right = (finite_array(*pair, ndim=1) for pair in zip(names, (first, second), strict=True))
    same_length(**dict(zip(names, (left, right), strict=True)))
    magnitude("largest value", float(max(np.abs(left).max(), np.abs(right).max())))
    if len(left) < 2:
        raise ValueError(f"n_seeds must be >= 2 for a standard error, got {len(left)}")
    return left, right


def _mean(values: Floats) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


class FairErrors(NamedTuple):
    """Errors per source, each model at the ridge that validation prompts choose.

    Attributes
    ----------
    network : (n_steps, n_sources) array
        The MLP head with intercept, for each step size.
    linear_intercept, linear : (n_sources,) array
        Linear attention with and without intercept.
    constant : (n_sources,) array
        The mean label of the training prompts.
    """

    network: Floats
    linear_intercept: Floats
    linear: Floats
    constant: Floats


@border
def fair_errors(
    drawn: Draw, weights: ArrayLike, *, step_sizes: ArrayLike, ridges: ArrayLike
) -> FairErrors:
    """Return what MLP head and linear attention can do when both have intercept and best ridge.

    Parameters
    ----------
    drawn : Draw
        Every other test prompt serves as a validation prompt; so there must be two per source.
    weights : (n_sources,) array_like
        Shares of the sources in training.
    step_sizes : (n_steps,) array_like
        eta.
    ridges : (n_ridges,) array_like
        lambda, > 0; candidates for every model.

    Returns
    -------
    FairErrors
        Their means over the sources are the errors under the uniform mixture.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it.

    Notes
    -----
    The ridge with the least error under the uniform mixture is chosen for each model and step
    size. The models of the paper have no intercept and one fixed ridge. A ridge chosen on the
    prompts that also measure the error would flatter the model with more to choose.

    References
    ----------
    New here.
    """
    instance("drawn", drawn, Draw, "make one with draw(setup, rng=...)")
    steps = row("step_sizes", step_sizes)
    train, halves = drawn.train.mix(weights), _halves(drawn.test)
    fits = [linear_path(train, ridges, intercept=with_).predict for with_ in (True, False)]
    with_intercept, without = (_at_best(halves, [fit(half) for half in halves]) for fit in fits)
    heads = [_at_best(halves, answers) for answers in _heads(drawn, weights, steps, ridges)]
    guess = [np.full((1, len(half)), train.y.mean()) for half in halves]
    return FairErrors(np.array(heads), with_intercept, without, _at_best(halves, guess))


def _halves(test: Contexts) -> list[Contexts]:
    """Return validation and test prompts: every other prompt of each source."""
    half = np.empty(len(test), dtype=int)
    for source in np.unique(test.source):
        rows = np.flatnonzero(test.source == source)
        half[rows] = np.arange(len(rows)) % 2
    if not half.any():
        raise ValueError("n_test must be >= 2: half of the test prompts choose the ridge, got 1")
    return [test.take(half == 1), test.take(half == 0)]


def _at_best(halves: Sequence[Contexts], answers: Sequence[Floats]) -> Floats:
    """Return test errors per source at the ridge that is best on the validation prompts."""
    chosen, measured = (
        _source_errors(half, answer) for half, answer in zip(halves, answers, strict=True)
    )
    return measured[np.argmin(chosen.mean(axis=1))]


def _source_errors(part: Contexts, answers: Floats) -> Floats:
    """Return mean squared errors, answers (n_ridges, n) to (n_ridges, n_sources)."""
    missed = (part.y - answers) ** 2
    sources = np.unique(part.source)
    return np.column_stack([missed[:, part.source == s].mean(axis=1) for s in sources])


def _heads(drawn: Draw, weights: ArrayLike, steps: Floats, ridges: ArrayLike) -> list[list[Floats]]:
    """Return the answers of the head to validation and test prompts, per step size."""
    stage_one, train = drawn.stage_one.mix(weights), drawn.train.mix(weights)
    parts = [train, *_halves(drawn.test)]
    sigma = hermite.checked(drawn.setup.activation)
    moved = take_step(drawn.head, norm_scale(stage_one), stage_one, parts, drawn.setup.activation)
    answers = []
    for step in steps:
        seen, *fresh = (sigma(part.at(step)) for part in moved)
        path = readout_path(seen, train.y, ridges, intercept=True)
        answers.append([path.predict(part) for part in fresh])
    return answers
