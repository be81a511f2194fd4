"""One random instance of what the deterministic equivalents describe, for comparison.

For the page on theory. Linear attention or a head with random hidden weights is trained on
several mixtures with common random numbers; there is no gradient step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit import hermite
from iclkit._checks import border, count, finite_array, generator
from iclkit.hermite import Function
from iclkit.papers.data_mixing.head import (
    Head,
    draw_head,
    features,
    linear_path,
    positive_ridges,
    readout_path,
)
from iclkit.papers.data_mixing.moments import moments
from iclkit.papers.data_mixing.sources import Contexts, Source, draw_pools, join, source_list

__all__ = ["trial"]

Floats = NDArray[Any]


@border
def trial(
    sources: Sequence[Source],
    mixtures: ArrayLike,
    *,
    n_context: int,
    n_prompts: int,
    ridges: ArrayLike,
    rng: np.random.Generator,
    width: int | None = None,
    activation: str | Function = "relu",
    intercept: bool = False,
    n_test: int = 2000,
) -> Floats:
    """Return the errors of one random instance, trained on several mixtures.

    Parameters
    ----------
    sources : sequence of Source
    mixtures : (n_mixtures, n_sources) array_like
        Training weights; each row sums to one. Prompts change only where they change source.
    n_context, n_prompts : int
        Labelled examples in a prompt, and prompts to train on; >= 1.
    ridges : (n_ridges,) array_like
        lambda, > 0.
    rng : numpy.random.Generator
    width : int, optional
        Neurons of a head with random hidden weights; the default is linear attention.
    activation : str or callable
        Of that head.
    intercept : bool
        Add a constant that is not penalised.
    n_test : int
        Fresh prompts of each source, >= 1.

    Returns
    -------
    (n_mixtures, n_ridges, n_sources) array
        Mean squared errors, label noise included.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; the message names it.

    Notes
    -----
    The hidden layer is divided by the root of the closed-form trace of the mixture. Products of
    the head are float32.

    References
    ----------
    Demir and Dogan 2025, models without the gradient step.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> pair = [Source(6), Source(6, theta_xi=36.0)]
    >>> sizes = {"n_context": 6, "n_prompts": 50, "ridges": [0.01, 1.0]}
    >>> trial(pair, [[1, 0], [0.5, 0.5]], rng=stream(0, "example"), **sizes).shape
    (2, 2, 2)
    """
    listed, table = source_list(sources), finite_array("mixtures", mixtures, ndim=2)
    size, penalties = count("n_prompts", n_prompts), positive_ridges(ridges)
    pools = draw_pools(listed, size, n_context, rng=generator(rng))
    test = join(draw_pools(listed, count("n_test", n_test), n_context, rng=rng).pools)
    head = None if width is None else draw_head(listed[0].d, width, rng=rng, single=True)

    def answers(weights: Floats) -> Floats:
        train = pools.mix(weights)
        if head is None:
            return linear_path(train, penalties, intercept=intercept).predict(test)
        trace = moments(listed, weights, n_context=n_context).trace
        seen, fresh = (_neurons(part, head, trace, activation) for part in (train, test))
        fits = (readout_path(seen, train.y, r, intercept=intercept) for r in penalties)
        return np.concatenate([fit.predict(fresh) for fit in fits])  # a few: no eigenvectors

    missed = np.array(
        [(test.y - answers(np.asarray(weights, dtype=np.float64))) ** 2 for weights in table]
    )
    return missed.reshape(*missed.shape[:2], len(listed), -1).mean(axis=-1)


def _neurons(prompts: Contexts, head: Head, trace: float, activation: str | Function) -> Floats:
    """Return what the second layer reads, (n, width) in float32."""
    rows = features(prompts).astype(np.float32)
    sigma: Any = hermite.checked(activation)
    return sigma(rows @ head.hidden.T / np.float32(np.sqrt(trace)))
