"""Sums of attention heads, exactly: the best of them, and how many heads are worth having.

A head answers ``<B^T G a, x_query>`` with the context's second moments G, so any sum of heads is
a linear map of G, and given the values a the best keys B solve a least-squares problem whose
moments are known. The same holds for tokens with a constant entry (`scratchpad`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from iclkit._checks import border, count, finite_array, generator
from iclkit.papers.linear_block.arrays import checked_prior
from iclkit.papers.linear_block.gd import optimal_gd
from iclkit.papers.linear_block.prior import RegressionPrior, Whitened, whiten

__all__ = [
    "BestHeads",
    "ContextMoments",
    "best_heads",
    "context_moments",
    "enough_heads",
    "heads_gap",
    "heads_risk",
    "unlimited_heads_gap",
]

Floats = NDArray[np.float64]

_SINGULAR = 1e-12  # eigenvalues below this share of the largest: products of heads that repeat
_ROUNDS = 3  # searches in a row, each from the last one's end


class BestHeads(NamedTuple):
    """A sum of heads.

    Attributes
    ----------
    values : (n_heads, tokens) array
        Value weights a of each head, over the entries ``(x, y)`` of a token, or ``(x, 1, y)``
        with a scratchpad.
    keys : (n_heads, tokens, dim) array
        Products B of its key and query weights.
    risk : float
        The exact risk of the sum, noise included.
    """

    values: Floats
    keys: Floats
    risk: float


class ContextMoments(NamedTuple):
    """Moments of a context's second-moment matrix G, in whitened and centred tokens.

    Attributes
    ----------
    second : (tokens, tokens, tokens, tokens) array
        ``E[G_ij G_kl]``.
    cross : (tokens, tokens, rank) array
        ``E[G_ij t_c]`` with the whitened task t.
    power : float
        ``E |t|^2``, the risk of answering 0 less the noise.
    unit : float
        Labels are centred at the mean task and divided by this number, so that their variance
        is 1.
    """

    second: Floats
    cross: Floats
    power: float
    unit: float


def context_moments(white: Whitened, *, scratchpad: bool = False) -> ContextMoments:
    """Return the moments that every sum of heads depends on.

    Parameters
    ----------
    white : Whitened
    scratchpad : bool
        Whether tokens have a constant entry 1 before the label.

    Returns
    -------
    ContextMoments
        Four axes of ``rank + 1`` entries each (one more with a scratchpad).

    Notes
    -----
    Given the task the tokens are independent, zero-mean Gaussian but for the constant, with
    second moments C, so with M examples::

        E[G_ij G_kl] = E[C_ij C_kl] + (1/M) E[C_ik C_jl + C_il C_jk]

    less 2/M where all four indices are the constant. In centred tokens C is linear in
    ``(1, g, |g|^2)`` with g ~ N(0, Phi), and the mean task enters `cross` only.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior, whiten
    >>> moments = context_moments(whiten(isotropic_prior(2, n_context=4)))
    >>> moments.second[0, 0, 0, 0], moments.second[0, 0, 1, 1]
    (np.float64(1.5), np.float64(1.0))
    """
    rank, level = len(white.values), white.level
    unit = float(np.sqrt(level)) if level > 0 else 1.0
    linear = _token_map(rank, unit, scratchpad)
    powers = np.diag(np.concatenate([[1.0], white.values, [level**2 + 2.0 * white.square]]))
    powers[0, -1] = powers[-1, 0] = level  # E of products of (1, g, |g|^2 + noise_var)
    pairs = np.tensordot(linear @ powers, linear, axes=(2, 2))  # E[C_ij C_kl], (i, j, k, l)
    swapped = pairs.transpose(0, 2, 1, 3) + pairs.transpose(0, 2, 3, 1)
    second = pairs + swapped / white.n_context
    if scratchpad:
        second[rank, rank, rank, rank] = 1.0
    cross = np.vstack([white.mean, np.diag(white.values), level * white.mean])
    return ContextMoments(second, linear @ cross, white.norm2 + white.trace, unit)


def _token_map(rank: int, unit: float, scratchpad: bool) -> Floats:
    """Coefficients of the token covariance C in ``(1, g, |g|^2 + noise_var)``."""
    label, inputs = rank + int(scratchpad), np.arange(rank)
    out = np.zeros((label + 1, label + 1, rank + 2))
    out[inputs, inputs, 0] = 1.0
    out[inputs, label, inputs + 1] = out[label, inputs, inputs + 1] = 1.0 / unit
    out[label, label, -1] = 1.0 / unit**2
    if scratchpad:
        out[rank, rank, 0] = 1.0
    return out


# ------------------------------------------------------------------ given heads


@border
def heads_risk(
    prior: RegressionPrior, values: ArrayLike, keys: ArrayLike, *, scratchpad: bool = False
) -> float:
    """Return the exact risk of a sum of heads, noise included.

    Parameters
    ----------
    prior : RegressionPrior
    values : (n_heads, tokens) array_like
        Value weights a of each head; tokens is ``dim + 1``, or ``dim + 2`` with a scratchpad.
    keys : (n_heads, tokens, dim) array_like
        Products B of key and query weights.
    scratchpad : bool
        Whether tokens are ``(x, 1, y)`` instead of ``(x, y)``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a shape does not fit or an entry is not finite.

    Notes
    -----
    The answer is ``sum_h <B_h^T G a_h, x_query>``; with the moments of `context_moments` its
    mean squared error is a quadratic form in the B's.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> prior = isotropic_prior(1, n_context=2, noise_var=0.5)
    >>> round(heads_risk(prior, [[0, 1]], [[[0.4], [0]]]), 12)  # one step of size 0.4 from zero
    1.06
    """
    tokens = checked_prior(prior).dim + 1 + int(scratchpad)
    values, keys = finite_array("values", values, ndim=2), finite_array("keys", keys, ndim=3)
    if keys.shape != (len(values), tokens, prior.dim) or values.shape[1] != tokens:
        raise ValueError(
            f"values and keys must have shapes (n_heads, {tokens}) and (n_heads, {tokens}, "
            f"{prior.dim}), got {values.shape} and {keys.shape}"
        )
    white = whiten(prior)
    moments = context_moments(white, scratchpad=scratchpad)
    into = _to_white(prior, white, moments)
    rotated = into @ keys @ white.root
    gram, cross = _normal_equations(moments, values @ into.T)
    flat = rotated.reshape(len(gram), -1)
    return prior.noise_var + moments.power + float(np.sum(flat * (gram @ flat - 2.0 * cross)))


def _to_white(prior: RegressionPrior, white: Whitened, moments: ContextMoments) -> Floats:
    """Map of value weights into whitened, centred tokens, (white tokens, tokens)."""
    out = np.eye(len(moments.second), prior.dim + len(moments.second) - len(white.values))
    rank = len(white.values)
    out[:rank] = 0.0
    out[:rank, : prior.dim], out[:rank, -1] = white.root.T, white.mean
    out[rank:, prior.dim :] = np.eye(len(out) - rank)
    out[rank:, : prior.dim], out[-1, -1] = 0.0, moments.unit
    return out


def _from_white(prior: RegressionPrior, white: Whitened, moments: ContextMoments) -> Floats:
    """Map of value weights back to the tokens of the network, (tokens, white tokens)."""
    rank, dim = len(white.values), prior.dim
    out = np.zeros((dim + len(moments.second) - rank, len(moments.second)))
    out[:dim, :rank] = white.inverse.T
    out[dim:, rank:] = np.eye(len(out) - dim)
    out[:, -1] /= moments.unit
    out[:dim, -1] = -white.inverse.T @ white.mean / moments.unit
    return out


def _normal_equations(moments: ContextMoments, values: Floats) -> tuple[Floats, Floats]:
    """Gram matrix of the features ``(G a_h)_i``, and their moments with the task."""
    size = values.size
    half = np.tensordot(moments.second, values, axes=(3, 1))  # (i, j, k, g)
    gram = np.tensordot(values, half, axes=(1, 1)).transpose(0, 1, 3, 2)  # (h, i, g, k)
    cross = np.tensordot(values, moments.cross, axes=(1, 1))  # (h, i, c)
    return gram.reshape(size, size), cross.reshape(size, -1)


# ------------------------------------------------------------------ the best heads


@border
def best_heads(
    prior: RegressionPrior,
    n_heads: int,
    *,
    scratchpad: bool = False,
    n_starts: int = 16,
    rng: np.random.Generator,
) -> BestHeads:
    """Return the best sum of heads that a search finds.

    Parameters
    ----------
    prior : RegressionPrior
    n_heads : int
        Number of heads, >= 1. One head is linear attention.
    scratchpad : bool
        Whether tokens have a constant entry 1.
    n_starts : int
        Starting points of the search, >= 1.
    rng : numpy.random.Generator

    Returns
    -------
    BestHeads
        Its risk is exact. That no other sum does better is certain only with as many heads as
        tokens have entries; below, it is an upper bound of the infimum, the best of several
        local minima.

    Raises
    ------
    ValueError
        If there is no head or no starting point.

    Notes
    -----
    Given the values the best keys are closed form, and what remains depends on the span of the
    values alone. It is minimised by BFGS with the exact gradient; the cost of a step grows like
    the fourth power of the dimension, so dimensions up to about 20 are comfortable.
    The excess is a difference from ``E |t|^2``, so for a large mean task its absolute error is
    about 1e-15 of the squared norm.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> from iclkit.rng import stream
    >>> prior = isotropic_prior(2, n_context=3, mean=1)
    >>> risks = [best_heads(prior, n, rng=stream(0, "example")).risk for n in (1, 2, 3)]
    >>> [round(risk, 6) for risk in risks]
    [1.903294, 1.5, 1.5]
    """
    n_heads, n_starts = count("n_heads", n_heads), count("n_starts", n_starts)
    white, rng = whiten(checked_prior(prior)), generator(rng)
    moments = context_moments(white, scratchpad=scratchpad)
    tokens = len(moments.second)
    order = np.eye(tokens)[::-1]  # the label, the constant, then the inputs
    if n_heads >= tokens:
        values = np.vstack([order, np.zeros((n_heads - tokens, tokens))])
    else:
        starts = rng.standard_normal((n_starts, n_heads, tokens))
        starts[0] = order[:n_heads] + 0.1 * starts[0]
        starts[1:2] = order[:n_heads] + order[1 : n_heads + 1] + 0.1 * starts[1:2]
        unit = _in_units(moments)
        values = min((_descend(unit, start) for start in starts), key=lambda end: end[0])[1]
    excess, keys = _best_keys(moments, values)
    back = _from_white(prior, white, moments)
    return BestHeads(values @ back.T, back @ keys @ white.inverse, prior.noise_var + excess)


def _in_units(moments: ContextMoments) -> ContextMoments:
    """Tasks of mean square 1, so that the search stops at the same place in every unit."""
    size = np.sqrt(moments.power) if moments.power > 0 else 1.0
    return moments._replace(cross=moments.cross / size, power=moments.power / size**2)


def _descend(moments: ContextMoments, values: Floats) -> tuple[float, Floats]:
    """Excess and values at the local minimum that BFGS reaches."""
    excess = np.inf
    for _ in range(_ROUNDS):
        values = np.linalg.qr(values.T)[0].T  # the span is what counts
        end = minimize(
            lambda flat, shape: _excess_and_slope(moments, flat.reshape(shape)),
            values.ravel(),
            args=(values.shape,),
            jac=True,
            method="BFGS",
            options={"gtol": 1e-10, "maxiter": 1000},
        )
        values, excess = end.x.reshape(values.shape), float(end.fun)
    return excess, values


def _excess_and_slope(moments: ContextMoments, values: Floats) -> tuple[float, Floats]:
    """Smallest excess over all keys, and its gradient in the values (envelope theorem)."""
    excess, keys = _best_keys(moments, values)
    kernel = np.tensordot(keys, keys, axes=(2, 2))  # (h, i, g, k)
    half = np.tensordot(moments.second, values, axes=(3, 1))  # (i, j, k, g)
    slope = np.einsum("higk,ijkg->hj", kernel, half, optimize=True)
    slope -= np.tensordot(keys, moments.cross, axes=([1, 2], [0, 2]))
    return excess, 2.0 * slope.ravel()


def _best_keys(moments: ContextMoments, values: Floats) -> tuple[float, Floats]:
    gram, cross = _normal_equations(moments, values)
    spectrum, basis = np.linalg.eigh((gram + gram.T) / 2)
    kept = spectrum > _SINGULAR * spectrum[-1]
    part = basis[:, kept].T @ cross
    keys = basis[:, kept] @ (part / spectrum[kept, None])
    return moments.power - float(np.sum(keys * cross)), keys.reshape(*values.shape, -1)


@border
def heads_gap(
    prior: RegressionPrior,
    n_heads: int,
    *,
    scratchpad: bool = False,
    n_starts: int = 16,
    rng: np.random.Generator,
) -> float:
    """Return how much a sum of heads loses against the best block, as far as a search finds.

    Parameters
    ----------
    prior, n_heads, scratchpad, n_starts, rng
        As in `best_heads`.

    Returns
    -------
    float
        Excess of its risk over that of `optimal_gd`: exact where `best_heads` is, else an upper
        bound.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> from iclkit.rng import stream
    >>> prior = isotropic_prior(3, n_context=10, mean=3**0.5)
    >>> [round(heads_gap(prior, n, rng=stream(0, "example")), 6) for n in (1, 2, 3, 4)]
    [2.01445, 0.931185, 0.5625, 0.5625]
    """
    best = best_heads(prior, n_heads, scratchpad=scratchpad, n_starts=n_starts, rng=rng)
    return best.risk - optimal_gd(prior).risk


# ------------------------------------------------------------------ unlimited heads


class _Constant(NamedTuple):
    """The best imitation of the constant 1: ``sum_i inputs_i S_ii + label s``."""

    inputs: Floats
    label: float
    share: float  # of the constant that is missed, E (1 - imitation)^2


def _constant(white: Whitened) -> _Constant:
    """Solve for the imitation from inputs' moments S and the mean s of squared residuals."""
    half = white.n_context / 2.0
    spread = (white.level**2 + white.square) / half + 2.0 * white.square
    label = white.noise_var / spread if spread > 0 else 0.0
    inputs = half - label * white.values
    total = 1.0 + len(white.values) * half + white.noise_var * label
    return _Constant(inputs / total, label / total, 1.0 / total)


def step_filter(white: Whitened) -> Floats:
    """Return the eigenvalues phi/omega of the best step ``Phi Omega^{-1}``, 0 where phi is."""
    curvature = np.where(white.values > 0, white.curvature, 1.0)
    return white.values / curvature


@border
def unlimited_heads_gap(prior: RegressionPrior) -> float:
    """Return how much linear attention with any number of heads loses against the best block.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    float
        Exact.

    Notes
    -----
    With r the rank of H and the whitened quantities of the chapter::

        norm2 / (1 + r M/2 + noise_var^2 / (2 [(kappa^2 + tau2)/M + tau2]))

    Heads lack the constant 1 by which a block adds the mean task's answer. They imitate it by
    the context's second moments, and the fraction is the share of the constant that the best
    linear imitation misses. Without noise it is ``2/(r M + 2)``.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> round(unlimited_heads_gap(isotropic_prior(3, n_context=10, mean=3**0.5)), 12)
    0.5625
    """
    white = whiten(checked_prior(prior))
    return white.norm2 * _constant(white).share


@border
def enough_heads(prior: RegressionPrior) -> int:
    """Return the smallest number of heads that does as well as any number.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    int
        The rank of the input covariance, or one more; 1 if the mean task is invisible.

    Notes
    -----
    The best linear map of G is unique: in whitened, centred tokens answer i is
    ``r_i h_i + w_i (sum_j D_j S_jj + b s)`` with ``h = X^T y/M``, ``r_i = phi_i/omega_i`` and the
    imitation ``(D, b)`` of the constant. Heads whose values span a subspace can make it exactly
    if its matrices vanish on the orthogonal complement. For one missing direction this asks for
    a real root of ``q z^2 - z + b = 0``, ``q = sum_i D_i w_i^2/r_i^2``, that is ``4 q b <= 1``;
    two missing directions are never possible, because D > 0.

    References
    ----------
    New here.

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> [enough_heads(isotropic_prior(3, n_context=4, mean=m, noise_var=0.3)) for m in (1, 9)]
    [3, 4]
    """
    white = whiten(checked_prior(prior))
    rank, seen = len(white.values), white.mean != 0.0
    if not seen.any():
        return 1
    inputs, label, _ = _constant(white)
    phi, mean = white.values[seen], white.mean[seen]
    if label == 0.0:
        return rank
    if not phi.all():
        return rank + 1
    size = inputs[seen] @ (mean / step_filter(white)[seen]) ** 2
    return rank if 4.0 * size * label <= 1.0 else rank + 1
