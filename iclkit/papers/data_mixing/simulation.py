"""Whole experiments: draw prompts and weights once, then train under many mixtures.

Everything random is drawn by `draw`: a pool of prompts per source for each stage, test prompts
per source, and the weights. `run` is then deterministic in the mixture, the step size, the ridge
and the feature map, so that differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, generator, instance, scalar
from iclkit.hermite import Function, activation, checked
from iclkit.papers.data_mixing.head import (
    Head,
    PreActivations,
    draw_head,
    linear_path,
    norm_scale,
    readout_path,
    take_step,
)
from iclkit.papers.data_mixing.sources import (
    Contexts,
    MixturePools,
    Source,
    draw_pools,
    join,
    row,
    source_list,
)

__all__ = ["Draw", "FeatureMap", "Setup", "draw", "run", "simulate"]

Floats = NDArray[Any]
FeatureMap = Callable[[Floats, Floats], Floats]
_OWN_NAMES = frozenset({"linear", "linear_intercept", "constant", "spread", "tail"})


class Setup(NamedTuple):
    """Sizes and laws of an experiment.

    Attributes
    ----------
    sources : sequence of Source
    n_context, n_prompts, width : int
        Examples a prompt; prompts a stage; neurons.
    activation : str or callable
    n_test : int
        Test prompts per source.
    single : bool
        float32 for the large products.
    """

    sources: Sequence[Source]
    n_context: int
    n_prompts: int
    width: int
    activation: str | Function = "relu"
    n_test: int = 1500
    single: bool = False


class Draw(NamedTuple):
    """Everything random of an experiment.

    Attributes
    ----------
    setup : Setup
    stage_one, train : MixturePools
        Prompts of the gradient step and of the ridge regression, a pool per source.
    test : Contexts
        Test prompts, ``n_test`` of each source.
    head : Head
    """

    setup: Setup
    stage_one: MixturePools
    train: MixturePools
    test: Contexts
    head: Head


@border
def draw(setup: Setup, *, rng: np.random.Generator) -> Draw:
    """Return the random part of an experiment.

    Parameters
    ----------
    setup : Setup
    rng : numpy.random.Generator

    Returns
    -------
    Draw

    Raises
    ------
    TypeError, ValueError
        If an entry of the setup is out of range; the message names it.
    """
    instance("setup", setup, Setup, "make one with Setup(sources, n_context, ...)")
    sources = source_list(setup.sources)
    activation(setup.activation)
    sizes = {name: count(name, getattr(setup, name)) for name in ("n_prompts", "n_context")}
    stage_one = draw_pools(sources, *sizes.values(), rng=generator(rng))
    train = draw_pools(sources, *sizes.values(), rng=rng)
    test = draw_pools(sources, count("n_test", setup.n_test), sizes["n_context"], rng=rng)
    head = draw_head(sources[0].d, setup.width, rng=rng, single=setup.single)
    return Draw(setup, stage_one, train, join(test.pools), head)


@border
def run(
    drawn: Draw,
    weights: ArrayLike,
    *,
    step_sizes: ArrayLike = (0.0,),
    ridges: ArrayLike = (1e-3,),
    feature_maps: Mapping[str, FeatureMap] | None = None,
) -> dict[str, Floats]:
    """Return the errors of all models of one mixture, per source.

    Parameters
    ----------
    drawn : Draw
    weights : (n_sources,) array_like
        Shares of the sources in both stages of training.
    step_sizes : (n_steps,) array_like
        eta.
    ridges : (n_ridges,) array_like
        lambda, > 0; the same for all models.
    feature_maps : mapping of str to callable, optional
        What the second layer reads: functions of pre-activations (n, width) and radius (n,).
        The default is the network itself, under the name ``network``.

    Returns
    -------
    dict
        Mean squared errors on fresh prompts of each source: each feature map's name to an array
        (n_steps, n_ridges, n_sources); ``linear`` and ``linear_intercept`` to (n_ridges,
        n_sources); ``constant`` (the best constant of the training mixture) to (n_sources,).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it.

    Notes
    -----
    The paper's error under the uniform mixture is the mean over the last axis.

    References
    ----------
    Demir and Dogan 2025, experiments; per source their appendix.
    """
    setup = instance("drawn", drawn, Draw, "make one with draw(setup, rng=...)").setup
    steps = row("step_sizes", step_sizes)
    stage_one, train = drawn.stage_one.mix(weights), drawn.train.mix(weights)
    moved = take_step(
        drawn.head, norm_scale(stage_one), stage_one, [train, drawn.test], setup.activation
    )
    score = _scorer(drawn.test, len(drawn.train.pools))
    maps = checked_maps(feature_maps) or {"network": network_features(setup.activation)}
    table = {
        name: np.array([score(_answers(feature, moved, step, train, ridges)) for step in steps])
        for name, feature in maps.items()
    }
    for name, intercept in (("linear", False), ("linear_intercept", True)):
        table[name] = score(linear_path(train, ridges, intercept=intercept).predict(drawn.test))
    table["constant"] = score(np.full((1, len(drawn.test)), train.y.mean()))[0]
    return table


def network_features(function: str | Function) -> FeatureMap:
    """Return the feature map of the network itself: the activation of the pre-activations."""
    sigma = checked(function)
    return lambda z, _: sigma(z)


def checked_maps(maps: Mapping[str, FeatureMap] | None) -> Mapping[str, FeatureMap]:
    """Return feature maps if they are callables under names that are free, {} for None."""
    table = {} if maps is None else maps
    if not isinstance(table, Mapping) or not all(callable(f) for f in table.values()):
        raise TypeError(f"feature_maps must map names to callables, got {type(maps).__name__}")
    if taken := set(table) & _OWN_NAMES:
        raise ValueError(f"feature_maps must leave the name {sorted(taken)[0]!r} to its model")
    return table


def _answers(
    feature: FeatureMap,
    moved: Sequence[PreActivations],
    step: float,
    train: Contexts,
    ridges: ArrayLike,
) -> Floats:
    seen, fresh = (feature(part.at(step), part.radius) for part in moved)
    return readout_path(seen, train.y, ridges).predict(fresh)


def _scorer(test: Contexts, n_sources: int) -> Callable[[Floats], Floats]:
    """Return the function from answers (..., n) to mean squared errors (..., n_sources)."""

    def score(answers: Floats) -> Floats:
        missed = (test.y - answers) ** 2
        return np.stack(
            [missed[..., test.source == s].mean(axis=-1) for s in range(n_sources)], axis=-1
        )

    return score


@border
def simulate(
    *,
    sources: Sequence[Source],
    weights: ArrayLike,
    n_context: int,
    n_prompts: int,
    width: int,
    ridge: float,
    rng: np.random.Generator,
    activation: str | Function = "relu",
    step_sizes: ArrayLike = (0.0,),
    n_test: int = 1500,
    single: bool = False,
) -> dict[str, Floats]:
    """Return the errors of one random instance: MLP head and linear attention, per source.

    Parameters
    ----------
    sources : sequence of Source
    weights : (n_sources,) array_like
        Shares of the sources in training, summing to one.
    n_context, n_prompts, width : int
        Examples a prompt, prompts a stage, neurons.
    ridge : float
        lambda, > 0.
    rng : numpy.random.Generator
    activation : str or callable
    step_sizes : (n_steps,) array_like
        eta; 0 is the random head.
    n_test : int
        Test prompts per source.
    single : bool
        float32 for the large products.

    Returns
    -------
    dict
        ``network`` (n_steps, n_sources), ``linear``, ``linear_intercept`` and ``constant``
        (n_sources,): mean squared errors, the label noise included.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it.

    References
    ----------
    Demir and Dogan 2025, experiments.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> errors = simulate(
    ...     sources=[Source(8), Source(8, theta_xi=64.0)], weights=[0.5, 0.5], n_context=8,
    ...     n_prompts=64, width=32, ridge=1e-2, step_sizes=[0.0, 64.0], rng=stream(0, "example"),
    ... )
    >>> errors["network"].shape, errors["linear"].shape
    ((2, 2), (2,))
    """
    setup = Setup(sources, n_context, n_prompts, width, activation, n_test, single)
    ridge = scalar("ridge", ridge, open_=True)
    table = run(draw(setup, rng=rng), weights, step_sizes=step_sizes, ridges=[ridge])
    return {
        "network": table["network"][:, 0],
        "linear": table["linear"][0],
        "linear_intercept": table["linear_intercept"][0],
        "constant": table["constant"],
    }
