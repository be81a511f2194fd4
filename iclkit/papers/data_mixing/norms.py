"""How much the length of the attention feature varies: exactly, and as the dimension grows.

For the page on theory. Pre-activations are Gaussian given the length, so its variance is their
excess kurtosis: the finite-size effect behind the chapter's corrections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import perm

import numpy as np
from numpy.typing import NDArray

from iclkit import hermite
from iclkit._checks import border, count, instance, scalar
from iclkit.papers.data_mixing.moments import Link, label_moments
from iclkit.papers.data_mixing.sources import Source

__all__ = ["norm_fluctuation", "norm_variance"]

Floats = NDArray[np.float64]
_NOISE_NODES = 8  # of Gauss-Hermite quadrature: exact for the eighth power of a label


@border
def norm_fluctuation(link: Link, noise: float, context_ratio: float) -> float:
    """Return the limit of d times the relative variance of the squared feature norm.

    Parameters
    ----------
    link : str or callable
        phi.
    noise : float
        Standard deviation of the label noise, >= 0.
    context_ratio : float
        n_context / d, > 0.

    Returns
    -------
    float
        ``lim d Var(|h|^2) / t^2`` for isotropic inputs; the law of the tasks does not matter.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or labels vanish.

    Notes
    -----
    With ``A = d / n_context``, ``e = A m2 + c1^2 + m2^2``, ``a1 = A + 2 m2`` and ``a2 = 2 c1``:
    ``2 + A (a1^2 Var(y^2) + a2^2 Var(y u) + 2 a1 a2 Cov(y^2, y u) + 2 A m2^2) / e^2``.

    References
    ----------
    Derived here; the rate behind Lemma 4.9 of Demir and Dogan 2025.

    Examples
    --------
    >>> round(norm_fluctuation("relu", 0.01, 1), 6)
    13.7483
    """
    law = label_moments(link, noise)
    ratio = 1 / scalar("context_ratio", context_ratio, open_=True)
    scale = ratio * law.square + law.slope**2 + law.square**2
    if not scale > 0:
        raise ValueError("link must not vanish where there is no noise")
    own, other = ratio + 2 * law.square, 2 * law.slope
    spread = own**2 * (law.fourth - law.square**2)
    spread += other**2 * (law.square + law.curvature - law.slope**2)
    spread += 2 * own * other * (law.third_slope - law.square * law.slope)
    return float(2 + ratio * (spread + 2 * ratio * law.square**2) / scale**2)


@border
def norm_variance(source: Source, *, n_context: int) -> float:
    """Return the relative variance of the squared feature norm at a finite dimension, exactly.

    Parameters
    ----------
    source : Source
        Inputs isotropic, without mean; the law of its tasks does not matter.
    n_context : int
        Labelled examples in a prompt, >= 1.

    Returns
    -------
    float
        ``Var(|h|^2) / t^2``; a third of the excess kurtosis of a pre-activation.

    Raises
    ------
    ValueError, TypeError
        If inputs have a spike or a mean, labels vanish, or an argument is out of range.

    Notes
    -----
    Given the labels, ``|b|^2 = Y chi / l + U^2 + Y^2`` with the means Y of ``y_i^2`` and U of
    ``y_i u_i`` over the context, and an independent chi-square variable of d - 1 degrees. So
    ``E |b|^4`` takes moments up to the fourth of two sample means: sums over set partitions.

    References
    ----------
    New here; `norm_fluctuation` is the limit of d times this.

    Examples
    --------
    >>> round(32 * norm_variance(Source(32), n_context=32), 4)
    15.3109
    """
    instance("source", source, Source, "make one with Source(d, ...)")
    if source.theta_x > 0 or np.any(source.mu_x):
        raise ValueError("source must have isotropic inputs without mean, got another law")
    d, size = source.d, count("n_context", n_context)
    table = _label_table(hermite.checked(source.link, name="link"), source.noise)

    def mean(factors: str) -> float:
        return _mean_of_means(factors, table, size)

    share = (d - 1) / size
    first = share * mean("Y") + mean("UU") + mean("YY")
    second = share * (d + 1) / size * mean("YY") + 2 * share * (mean("YUU") + mean("YYY"))
    second += mean("UUUU") + 2 * mean("UUYY") + mean("YYYY")
    if not first > 0:
        raise ValueError("source must have labels other than zero, got a link that vanishes")
    return float((1 + 2 / d) * second / first**2 - 1)


def _label_table(phi: Callable[[Floats], Floats], noise: float) -> Floats:
    """Return ``E y^(2a) (y u)^b`` at (a, b), for all a + b <= 4."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NOISE_NODES)
    weights = weights / weights.sum()

    def moment(a: int, b: int) -> float:
        power = 2 * a + b
        return hermite.gaussian_mean(
            lambda u: u**b * ((phi(u)[:, None] + noise * nodes) ** power @ weights)
        )

    return np.array([[moment(a, b) if a + b <= 4 else 0.0 for b in range(5)] for a in range(5)])


def _mean_of_means(factors: str, table: Floats, size: int) -> float:
    """Return the mean of a product of sample means Y of y^2 and U of y u."""
    total = 0.0
    for blocks in _partitions(range(len(factors))):
        groups = ["".join(factors[i] for i in block) for block in blocks]
        product = np.prod([table[group.count("Y"), group.count("U")] for group in groups])
        total += perm(size, len(groups)) * float(product)
    return total / size ** len(factors)


def _partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """Yield all ways to split some items into blocks."""
    if not items:
        yield []
        return
    for blocks in _partitions(items[1:]):
        yield [[items[0]], *blocks]
        for place, block in enumerate(blocks):
            yield [*blocks[:place], [items[0], *block], *blocks[place + 1 :]]
