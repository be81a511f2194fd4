"""Task vectors and demonstrations, for the chapter's page past the paper.

The demonstrations of a prompt teach the dual model the update ``sum_i v_i phi(y_i)^T``. Inner
products of two updates are double sums of the kernel; this module has them, their exact mean and
variance for linear tasks, and what a single demonstration contributes to an attention output.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.special import betainc, betaln, expit, logsumexp

from iclkit._checks import border, choice, count, finite_array, scalar
from iclkit.papers.dual_kernel.attention import Lookup, attend, checked_lookup, scores_of
from iclkit.papers.dual_kernel.dual import leave_one_out
from iclkit.risk import Estimate

__all__ = [
    "TOKENS",
    "ProductLaw",
    "ProductMoments",
    "attribution",
    "cosine_auc",
    "influence",
    "product_law",
    "same_task_auc",
    "update_cosine",
    "update_product",
    "worst_corruption",
]

Floats = NDArray[np.float64]

TOKENS = ("uniform", "gaussian")

_HEAVY = 0.5  # above this weight, 1 - a loses digits and sums are computed the long way
_ANGLES = 60  # nodes for an angle: exact to 1e-10 from dimension 3 on
# Nodes of a quadrature in one coordinate: exact to rounding up to these sharpnesses.
_NODES = {"uniform": 60, "gaussian": 150}
_SHARPEST = {"uniform": 20.0, "gaussian": 0.45}


class ProductMoments(NamedTuple):
    """Mean and variance of the inner product of two updates.

    Attributes
    ----------
    mean : float
    variance : float
    """

    mean: float
    variance: float


class ProductLaw(NamedTuple):
    """The inner product of the updates of two prompts, of one task or of two.

    Attributes
    ----------
    same, different : ProductMoments
        For two prompts of one task, and for prompts of two independent tasks.
    """

    same: ProductMoments
    different: ProductMoments

    @property
    def separation(self) -> float:
        """Distance of the means over the root of the sum of variances; scale-free."""
        spread = self.same.variance + self.different.variance
        return float((self.same.mean - self.different.mean) / np.sqrt(spread))


# ------------------------------------------------------------------ products of updates


@border
def update_product(
    keys: ArrayLike,
    values: ArrayLike,
    other_keys: ArrayLike,
    other_values: ArrayLike,
    *,
    centred: bool = False,
) -> Floats:
    """Return the inner products of the updates that two prompts teach, for many pairs at once.

    Parameters
    ----------
    keys, other_keys : (..., d_k, n) and (..., d_k, m) array_like
        Scaled keys of both prompts; leading axes are pairs.
    values, other_values : (..., d_v, n) and (..., d_v, m) array_like
    centred : bool
        Whether each prompt's mean value is taken off its values first.

    Returns
    -------
    (...) array
        ``sum_ij <v_i, v'_j> exp(<y_i, y'_j>)``, without normalisers, which only scale.

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite, or the kernel overflows.

    References
    ----------
    Derived here; to compare prompts by it is new here.

    Examples
    --------
    >>> update_product([[0, 1]], [[1, 1]], [[0]], [[2]]), update_product(
    ...     [[0, 1]], [[1, 1]], [[0]], [[2]], centred=True
    ... )
    (array(4.), array(0.))
    """
    first, second = _prompt(keys, values, centred), _prompt(other_keys, other_values, centred)
    with np.errstate(over="ignore", invalid="ignore"):
        product = _shifted_product(first, second, 0.0)
    if not np.isfinite(product).all():
        raise ValueError("the kernel must be finite, got an overflow; take update_cosine")
    return product


@border
def update_cosine(
    keys: ArrayLike,
    values: ArrayLike,
    other_keys: ArrayLike,
    other_values: ArrayLike,
    *,
    centred: bool = False,
) -> Floats:
    """Return the cosines between the updates that two prompts teach; nothing overflows.

    Parameters
    ----------
    keys, values, other_keys, other_values, centred
        As for `update_product`.

    Returns
    -------
    (...) array
        In [-1, 1].

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite, or an update is zero.

    Examples
    --------
    >>> update_cosine([[[0, 1]]], [[[1, 1]]], [[[0, 1]]], [[[-3, -3]]])
    array([-1.])
    """
    first, second = _prompt(keys, values, centred), _prompt(other_keys, other_values, centred)
    with np.errstate(over="ignore", invalid="ignore"):
        highest = [(k * k).sum(axis=-2).max(axis=-1) for k, _ in (first, second)]
        product = _shifted_product(first, second, 0.5 * (highest[0] + highest[1]))
        norms = [_shifted_product(p, p, h) for p, h in zip((first, second), highest, strict=True)]
    if not all(np.isfinite(part).all() for part in (product, *norms)):
        raise ValueError("squares of keys and values must be finite, got an overflow; scale down")
    if not (np.all(norms[0] > 0) and np.all(norms[1] > 0)):
        raise ValueError("updates must not be zero: a zero update has no direction")
    return np.asarray(np.clip(product / np.sqrt(norms[0]) / np.sqrt(norms[1]), -1.0, 1.0))


def _prompt(keys: ArrayLike, values: ArrayLike, centred: bool) -> tuple[Floats, Floats]:
    """Return checked keys and values of one axis length, the values centred if wanted."""
    keys, values = (finite_array(n, a, ndim=None) for n, a in (("keys", keys), ("values", values)))
    if keys.ndim < 2 or values.ndim != keys.ndim or keys.shape[-1] != values.shape[-1]:
        raise ValueError(
            "keys and values must have shapes (..., d_k, n) and (..., d_v, n), "
            f"got {keys.shape} and {values.shape}"
        )
    return keys, values - values.mean(axis=-1, keepdims=True) if centred else values


def _shifted_product(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], shift: Floats | float
) -> Floats:
    """Return the inner products times ``exp(-shift)``."""
    (keys, values), (other_keys, other_values) = first, second
    if keys.shape[-2] != other_keys.shape[-2] or values.shape[-2] != other_values.shape[-2]:
        raise ValueError("both prompts must have keys of one length and values of one length")
    scores = keys.swapaxes(-1, -2) @ other_keys  # (..., n, m)
    pairs = values.swapaxes(-1, -2) @ other_values
    return np.asarray((pairs * np.exp(scores - np.asarray(shift)[..., None, None])).sum((-1, -2)))


@border
def same_task_auc(same: ArrayLike, different: ArrayLike) -> Estimate:
    """Return how often the score of a same-task pair exceeds that of a different-task pair.

    Parameters
    ----------
    same, different : (n,) and (m,) array_like
        Scores of independent pairs of prompts, at least two of each kind.

    Returns
    -------
    Estimate
        The area under the receiver operating characteristic, ties counted half, with its standard
        error.

    Raises
    ------
    ValueError
        If a sample has fewer than two scores or one is not finite.

    Notes
    -----
    The standard error is that of a two-sample U-statistic, ``var(p_i)/n + var(q_j)/m`` with the
    shares p_i of different-task scores below each same-task score, and q_j of same-task scores
    above each different-task score.

    Examples
    --------
    >>> same_task_auc([1, 2, 3, 4], [0, 0, 2, 1.5]).value
    0.84375
    """
    same, different = (
        finite_array(name, a, ndim=1) for name, a in (("same", same), ("different", different))
    )
    if min(len(same), len(different)) < 2:
        raise ValueError("same and different must have at least two scores each")
    above, below = _shares_below(same, different), _shares_below(-different, -same)
    variance = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)
    return Estimate(float(above.mean()), float(np.sqrt(variance)))


def _shares_below(scores: Floats, others: Floats) -> Floats:
    """Return the share of `others` below each score, ties counted half."""
    ordered = np.sort(others)
    counts = [np.searchsorted(ordered, scores, side=side) for side in ("left", "right")]
    return np.asarray(0.5 * (counts[0] + counts[1]) / len(others), dtype=np.float64)


@border
def cosine_auc(dim: int, n_context: int, *, centred: bool = True) -> float:
    """Return the exact `same_task_auc` of cosines for linear attention and Gaussian tokens.

    Parameters
    ----------
    dim : int
        Dimension d of the inputs, >= 3.
    n_context : int
        Demonstrations N in each prompt, >= 1; at least 2 if `centred`.
    centred : bool
        Whether each prompt's mean label is taken off its labels.

    Returns
    -------
    float
        For linear tasks without noise. With centred labels it is also the limit for the softmax
        kernel ``exp(c <x, x'>)`` as ``c -> 0``.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The task vector ``sum_i y_i x_i`` makes an angle t with the task w, ``cos(t)^2 ~ Beta(n/2,
    (d-1)/2)`` with ``n = N``, or ``N - 1`` if centred, and is uniform around w. Two of one task
    have the cosine ``cos t cos t' + sin t sin t' r`` with r the cosine of two uniform directions in
    ``d - 1`` dimensions; two of different tasks that in d dimensions.

    References
    ----------
    New here; proved in the chapter.

    Examples
    --------
    >>> round(cosine_auc(3, 2, centred=False), 9), round(cosine_auc(10, 15), 6)
    (0.722222222, 0.952693)
    """
    dim, n = count("dim", dim, low=3), count("n_context", n_context, low=2 if centred else 1)
    n = n - 1 if centred else n
    half = (dim - 1) / 2
    # nodes for the squares z^2 of cosines z, with their size as weight
    nodes, weight = _jacobi_rule(half - 1.0, (n - 1) / 2)
    cosine, sine = np.sqrt((1.0 + nodes) / 2), np.sqrt((1.0 - nodes) / 2)
    between, share = _jacobi_rule((dim - 4) / 2, (dim - 4) / 2)
    same = np.multiply.outer(np.outer(sine, sine), between) + np.outer(cosine, cosine)[..., None]
    gain = (betainc(half, half, np.clip((1.0 + same) / 2, 0.0, 1.0)) - 0.5) @ share
    size = np.exp(betaln((n + 1) / 2, half) - betaln(n / 2, half))  # the mean cosine
    return float(0.5 + (size * weight / cosine) @ gain @ (size * weight / cosine))


def _jacobi_rule(a: float, b: float) -> tuple[Floats, Floats]:
    """Return the Gauss rule of the density ``(1-x)^a (1+x)^b`` on [-1, 1], for any large a, b.

    SciPy's rule overflows for powers beyond a thousand; only its total weight does.
    """
    k, total = np.arange(1.0, _ANGLES), a + b
    twice = 2 * k + total
    centre = np.append((b - a) / (total + 2), (b - a) * total / (twice * (twice + 2)))
    square = 4 * k * (k + a) * (k + b) / twice**2 / (twice + 1)
    square[1:] *= (k[1:] + total) / (twice[1:] - 1)  # the first ratio is 1, and may read 0/0
    nodes, vectors = eigh_tridiagonal(centre, np.sqrt(square))
    return nodes, vectors[0] ** 2


# ------------------------------------------------------------------ the law of a product


@border
def product_law(
    dim: int,
    n_context: int,
    *,
    sharpness: float,
    noise_var: float = 0.0,
    tokens: str = "uniform",
    centred: bool = False,
) -> ProductLaw:
    """Return the exact mean and variance of `update_product` for linear tasks.

    Parameters
    ----------
    dim : int
        Dimension d of the inputs, >= 1.
    n_context : int
        Demonstrations N in each prompt, >= 1; at least 2 if `centred`.
    sharpness : float
        Factor c of the kernel ``exp(c <x, x'>)``: keys are ``sqrt(c) x``. In (0, 20] for uniform
        and (0, 0.45] for Gaussian tokens, whose variance is infinite from 1/2 on.
    noise_var : float
        Variance of the label noise, >= 0.
    tokens : {"uniform", "gaussian"}
        Inputs with independent coordinates U(-1, 1) or N(0, 1).
    centred : bool
        Whether each prompt's mean label is taken off its labels.

    Returns
    -------
    ProductLaw

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Values are labels ``y = <w, x> + noise`` with ``w ~ N(0, I)``. The second moment of an update is
    an operator ``alpha C (x) C + beta M + gamma S`` with ``C = E[y phi]``, ``M = E[y^2 phi (x)
    phi]`` and ``S = E[y^2] cov(phi)``; the mean square of the product is the trace of two such
    operators, and every trace is a sum of products of integrals in one coordinate.

    References
    ----------
    New here.

    Examples
    --------
    >>> plain = product_law(10, 15, sharpness=0.3)
    >>> round(plain.same.mean, 4), plain.different.mean, round(plain.separation, 4)
    (78.8774, 0.0, 0.7399)
    >>> round(product_law(10, 15, sharpness=0.3, centred=True).separation, 4)
    1.0744
    """
    centred = bool(centred)
    dim, n = count("dim", dim), count("n_context", n_context, low=2 if centred else 1)
    sharpness, noise_var = (
        scalar("sharpness", sharpness, open_=True),
        scalar("noise_var", noise_var),
    )
    choice("tokens", tokens, TOKENS)
    if sharpness > _SHARPEST[tokens]:
        raise ValueError(
            f"sharpness must be <= {_SHARPEST[tokens]:g} for {tokens} tokens, got {sharpness}"
        )
    integrals = _integrals(dim, sharpness, tokens, centred)
    shares = _centred_shares(n) if centred else (n * (n - 1.0), float(n), 0.0)
    mean = float((n - centred) ** 2 * dim * integrals.slope)
    same = _mean_square_same(integrals, shares, dim, noise_var)
    different = _mean_square_different(integrals, shares, dim, noise_var)
    return ProductLaw(ProductMoments(mean, same - mean**2), ProductMoments(0.0, different))


def _centred_shares(n: int) -> tuple[float, float, float]:
    """Return alpha, beta, gamma of the second moment of a centred update.

    With the unbiased sample covariance T of labels and features, the update is ``(n - 1) T``, and
    ``E[T (x) T] = C (x) C + (M - (n-2)/(n-1) C (x) C + S/(n-1))/n``.
    """
    return (n - 1.0) ** 2 - (n - 1.0) * (n - 2.0) / n, (n - 1.0) ** 2 / n, (n - 1.0) / n


def _coordinate(tokens: str) -> tuple[Floats, Floats]:
    """Return nodes and probabilities of a quadrature for one coordinate of a token."""
    if tokens == "uniform":
        nodes, weights = np.polynomial.legendre.leggauss(_NODES[tokens])
    else:
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES[tokens])
    return nodes, weights / weights.sum()


class _Integrals(NamedTuple):
    """Means over two tokens x, x'; K is the kernel, centred if the labels are; b = E'[x' K].

    Attributes
    ----------
    slope : float
        ``E[x b^T] = slope I``, so that ``<C, C'> = slope <w, w'>``.
    power : float
        Variance of a coordinate.
    b2, x2b2, xb2 : float
        ``E|b|^2``, ``E|x|^2 |b|^2`` and ``E<x, b>^2``.
    k2, x2k2, x2y2k2, xyk2 : float
        ``E K^2``, ``E|x|^2 K^2``, ``E|x|^2 |x'|^2 K^2`` and ``E<x, x'>^2 K^2``.
    """

    slope: float
    power: float
    b2: float
    x2b2: float
    xb2: float
    k2: float
    x2k2: float
    x2y2k2: float
    xyk2: float


def _integrals(dim: int, sharpness: float, tokens: str, centred: bool) -> _Integrals:
    x, p = _coordinate(tokens)
    kernel = np.exp(sharpness * np.outer(x, x))
    flat, tilt = kernel @ p, kernel @ (p * x)  # E'[K] and E'[x' K] of one coordinate
    mean, f2, t2 = float(p @ flat), float(p @ flat**2), float(p @ tilt**2)
    rest = dim * (dim - 1) * f2 ** (dim - 2) if dim > 1 else 0.0
    x2t2 = dim * float(p @ (x * tilt) ** 2) * f2 ** (dim - 1)
    return _Integrals(
        float(p @ (x * tilt)) * mean ** (dim - 1),
        float(p @ x**2),
        dim * t2 * f2 ** (dim - 1),
        x2t2 + rest * t2 * float(p @ (x * flat) ** 2),
        x2t2 + rest * float(p @ (x * tilt * flat)) ** 2,
        *_kernel_squares(dim, x, p, _kernel_terms(kernel, flat, mean, centred)),
    )


def _kernel_terms(
    kernel: Floats, flat: Floats, mean: float, centred: bool
) -> list[tuple[float, Floats]]:
    """Return the kernel as signed products over coordinates: its sign and one coordinate each."""
    if not centred:
        return [(1.0, kernel)]
    one = np.ones_like(kernel)
    return [(1.0, kernel), (-1.0, flat[:, None] * one), (-1.0, flat * one), (1.0, mean * one)]


def _kernel_squares(
    dim: int, x: Floats, p: Floats, terms: list[tuple[float, Floats]]
) -> tuple[float, ...]:
    """Return `_Integrals`'s four means of the squared kernel."""
    squares = np.zeros(4)
    for sign, first in terms:
        for other, second in terms:
            squares += sign * other * _weighted(dim, x, p, first * second)
    return tuple(float(square) for square in squares)


def _weighted(dim: int, x: Floats, p: Floats, product: Floats) -> Floats:
    """Return means of a product over coordinates, alone and times the three weights."""
    plain, left, right = (product * np.outer(a, b) for a, b in ((p, p), (p * x, p), (p, p * x)))
    h00, h20, h02 = plain.sum(), (x @ left).sum(), (right @ x).sum()
    h11, h22 = left.sum(axis=0) @ x, x @ (product * np.outer(p * x, p * x)) @ x
    rest = dim * (dim - 1) * h00 ** (dim - 2) if dim > 1 else 0.0
    own = dim * h22 * h00 ** (dim - 1)
    x2 = dim * h20 * h00 ** (dim - 1)
    return np.array([h00**dim, x2, own + rest * h20 * h02, own + rest * h11**2])


Shares = tuple[float, float, float]


def _mean_square_different(i: _Integrals, shares: Shares, d: int, noise_var: float) -> float:
    """Return the mean square of the product for two tasks."""
    alpha, beta, gamma = shares
    label = i.power * d + noise_var
    spread = i.x2k2 + noise_var * i.k2  # of M against S, per label variance
    return float(
        alpha**2 * i.slope**2 * d
        + 2 * alpha * beta * (i.x2b2 + noise_var * i.b2)
        + beta**2 * (i.x2y2k2 + 2 * noise_var * i.x2k2 + noise_var * noise_var * i.k2)
        + 2 * alpha * gamma * label * i.b2
        + 2 * beta * gamma * label * spread
        + gamma**2 * label * label * i.k2
    )


def _mean_square_same(i: _Integrals, shares: Shares, d: int, noise_var: float) -> float:
    """Return the mean square for one task: more by what Wick's formula pairs across prompts."""
    alpha, beta, gamma = shares
    return _mean_square_different(i, shares, d, noise_var) + float(
        alpha**2 * i.slope**2 * d * (d + 1)
        + 4 * alpha * beta * i.xb2
        + 2 * beta**2 * i.xyk2
        + 4 * alpha * gamma * i.power * i.b2
        + 4 * beta * gamma * i.power * i.x2k2
        + 2 * gamma**2 * i.power**2 * d * i.k2
    )


# ------------------------------------------------------------------ single demonstrations


@border
def attribution(lookup: Lookup) -> Floats:
    """Return what each token contributes to the attention output.

    Parameters
    ----------
    lookup : Lookup

    Returns
    -------
    (d_v, n) array
        Columns ``a_i v_i``; they sum to the output.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> from iclkit.papers.dual_kernel.attention import look_up
    >>> attribution(look_up([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 9]]))
    array([[1., 3., 0.]])
    """
    return checked_lookup(lookup).values * attend(lookup).weights


@border
def influence(lookup: Lookup) -> Floats:
    """Return how far the attention output moves when a demonstration is left out.

    Parameters
    ----------
    lookup : Lookup
        With at least two tokens.

    Returns
    -------
    (n_demo,) array
        ``|h - h_{-i}| = a_i/(1 - a_i) |v_i - h|``.

    Raises
    ------
    ValueError
        If there is only one token.

    Notes
    -----
    Evaluated as ``a_i |v_i - h_{-i}|``, which keeps its digits for weights close to one.

    References
    ----------
    Derived here; the leave-one-out of a weighted mean.

    Examples
    --------
    >>> from iclkit.papers.dual_kernel.attention import look_up
    >>> influence(look_up([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 9]]))
    array([0.5, 2.5])
    """
    left = _without_each(lookup)
    moved = lookup.values[:, : lookup.n_demo] - left
    return attend(lookup).weights[: lookup.n_demo] * np.linalg.norm(moved, axis=0)


@border
def worst_corruption(lookup: Lookup, *, key_norm: float, value_norm: float) -> Floats:
    """Return how far the worst replacement of each demonstration moves the attention output.

    Parameters
    ----------
    lookup : Lookup
        With at least two tokens.
    key_norm, value_norm : float
        Largest norms R and rho of the scaled key and the value that may be put in, >= 0.

    Returns
    -------
    (n_demo,) array
        ``max |h' - h|`` over all keys and values within the norms; attained.

    Raises
    ------
    ValueError
        If there is only one token or a norm is negative.

    Notes
    -----
    The replacement's weight s ranges over ``expit(+-R |x| - log D_{-i})``, the output over
    ``(1 - s) h_{-i} + s v'``. The distance is convex in s, so that one of the two ends is worst:
    ``max_s |(1 - s) h_{-i} - h| + s rho``.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.dual_kernel.attention import look_up
    >>> lookup = look_up([[1, 0], [0, 1]], [0, 0], [[1, 0]], [[0, 2]], [[3, 9]])
    >>> worst_corruption(lookup, key_norm=1, value_norm=9)
    array([4., 6.])
    """
    reach, rho = scalar("key_norm", key_norm), scalar("value_norm", value_norm)
    left, output = _without_each(lookup), attend(lookup).output
    span = reach * np.linalg.norm(lookup.query) * np.array([[-1.0], [1.0]])
    weight = expit(span - _log_normalisers_without(lookup))  # (2, n_demo)
    rest = (1.0 - weight)[:, None] * left - output[:, None]
    return np.asarray((np.linalg.norm(rest, axis=1) + weight * rho).max(axis=0))


def _without_each(lookup: Lookup) -> Floats:
    if checked_lookup(lookup).keys.shape[1] < 2:
        raise ValueError("lookup must have at least two tokens, got one: nothing remains without")
    return leave_one_out(lookup)


def _log_normalisers_without(lookup: Lookup) -> Floats:
    """Return ``log D`` without each demonstration: ``log D + log(1 - a_i)``, or anew if heavy."""
    _, weights, log_normaliser, _ = attend(lookup)
    weights = weights[: lookup.n_demo]
    heavy = weights > _HEAVY
    without = log_normaliser + np.log1p(-np.where(heavy, 0.0, weights))
    for index in np.flatnonzero(heavy):
        without[index] = logsumexp(np.delete(scores_of(lookup), index))
    return np.asarray(without, dtype=np.float64)
