"""Attention with kernels that have features, and its dual model with explicit weights.

Nothing in the dual model is special to softmax: weights ``phi(k)^T phi(q)`` with any features phi
have one, whose weights are a matrix that can be written down. For the chapter's main page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from iclkit._checks import border, choice, count, finite_array, keep
from iclkit.papers.dual_kernel.attention import Lookup, checked_lookup

__all__ = [
    "KERNELS",
    "FeatureDual",
    "Features",
    "KernelMap",
    "feature_dual",
    "features_of",
    "kernel_attention",
    "unscaled",
]

Floats = NDArray[np.float64]
Features = Callable[[Floats], ArrayLike]

_MOST_FEATURES = 200_000  # beyond it the table of exponents would fill the memory


def _elu_plus_one(x: Floats) -> Floats:
    return np.where(x > 0, x + 1.0, np.exp(np.minimum(x, 0.0)))


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0.0)


def _relu_squared(x: Floats) -> Floats:
    return np.maximum(x, 0.0) ** 2


_ENTRYWISE: dict[str, Callable[[Floats], Floats]] = {
    "linear": np.array,
    "relu": _relu,
    "elu1": _elu_plus_one,
    "squared_relu": _relu_squared,
    "exp": np.exp,
}

#: Kinds of `KernelMap`.
KERNELS = (*_ENTRYWISE, "polynomial", "taylor")


@dataclass(frozen=True)
class KernelMap:
    """Features of a kernel, as a function of keys or queries.

    Parameters
    ----------
    kind : {"linear", "relu", "elu1", "squared_relu", "exp", "polynomial", "taylor"}
        The first five act on each entry; the last two are all monomials up to `degree`.
    degree : int
        Of the last two, >= 1; the others ignore it.

    Raises
    ------
    ValueError
        If `kind` is unknown or `degree` is out of range.

    Notes
    -----
    ==============  ========================  ==========================================
    kind            feature of an entry x     kernel of vectors x and y
    ==============  ========================  ==========================================
    linear          x                         ``<x, y>``
    relu            max(x, 0)
    elu1            x + 1 or exp(x), x <= 0
    squared_relu    max(x, 0)^2
    exp             exp(x)                    sum of ``exp(x_j + y_j)``
    polynomial      monomials                 ``(1 + <x, y>)^degree``
    taylor          monomials                 ``sum_{n <= degree} <x, y>^n / n!``
    ==============  ========================  ==========================================

    There are ``C(d_k + degree, degree)`` monomials. With growing degree the last kernel becomes
    ``exp(<x, y>)``, that of softmax attention; it is positive for every even degree, and off by
    at most ``|s|^(degree+1) / (degree+1)! exp(max(s, 0))`` at ``s = <x, y>``.

    References
    ----------
    elu1: Katharopoulos et al. 2020. Their dual models extend Ren and Liu 2024; derived here.

    Examples
    --------
    >>> phi = KernelMap("taylor", degree=8)
    >>> x, y = phi([0.3, -0.5]), phi([1.0, 0.2])
    >>> len(x), round(float(x @ y), 9), round(float(np.exp(0.2)), 9)
    (45, 1.221402758, 1.221402758)
    """

    kind: str
    degree: int = 2

    def __post_init__(self) -> None:
        choice("kind", self.kind, KERNELS)
        keep(self, degree=count("degree", self.degree))

    @border
    def __call__(self, columns: ArrayLike) -> Floats:
        """Return the features (m,) of one vector (d_k,), or (m, n) of n columns (d_k, n)."""
        x = finite_array("columns", columns, ndim=None)
        if x.ndim not in (1, 2):
            raise ValueError(f"columns must have 1 or 2 axes, got shape {x.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            features = self._of(x)
        return finite_array("features", features, ndim=None)

    def _of(self, x: Floats) -> Floats:
        if self.kind in _ENTRYWISE:
            return _ENTRYWISE[self.kind](x)
        exponents = _exponents(len(x), self.degree)
        weights = np.exp(0.5 * self._log_weights(exponents))
        return (weights * _monomials(x.reshape(len(x), -1), exponents).T).T.reshape(
            -1, *x.shape[1:]
        )

    def _log_weights(self, exponents: NDArray[np.int64]) -> Floats:
        """Return the logarithm of each monomial's coefficient in the kernel."""
        taylor = -gammaln(exponents + 1.0).sum(axis=1)
        if self.kind == "taylor":
            return taylor
        left = self.degree - exponents.sum(axis=1)
        return taylor + gammaln(self.degree + 1.0) - gammaln(left + 1.0)


def _exponents(dim: int, degree: int) -> NDArray[np.int64]:
    """Return the exponents of all monomials up to a degree, (m, dim)."""
    size = comb(dim + degree, degree)
    if size > _MOST_FEATURES:
        raise ValueError(f"degree must leave at most {_MOST_FEATURES} monomials, got {size}")
    chosen = np.array(list(combinations_with_replacement(range(dim + 1), degree)))
    return np.stack([(chosen == j).sum(axis=1) for j in range(dim)], axis=1)


def _monomials(x: Floats, exponents: NDArray[np.int64]) -> Floats:
    """Return the monomials of columns (d_k, n), (m, n)."""
    powers = (row ** exponents[:, [j]] for j, row in enumerate(x))
    product = np.ones((len(exponents), x.shape[1]))
    for power in powers:
        product *= power
    return product


class FeatureDual(NamedTuple):
    """A dual model with explicit weights, before and after its one gradient step.

    Attributes
    ----------
    features : callable
        phi.
    zero_shot : (d_v, m) array
        ``W_0 = V_T Phi_T^T / D``, from the query tokens alone.
    trained : (d_v, m) array
        ``W_1 = W_0 + V_D Phi_D^T / D``.
    normaliser : float
        D.
    """

    features: Features
    zero_shot: Floats
    trained: Floats
    normaliser: float

    @border(columns="queries")
    def __call__(self, queries: ArrayLike) -> Floats:
        """Return ``W_1 phi(z)`` for one z (d_k,) or for columns (d_k, n)."""
        phi = features_of(self.features, queries)
        if len(phi) != self.trained.shape[1]:
            raise ValueError(
                f"queries must have the length of the keys, got {len(phi)} features of them "
                f"instead of {self.trained.shape[1]}"
            )
        return self.trained @ phi


@border
def feature_dual(lookup: Lookup, features: Features, *, normalised: bool = True) -> FeatureDual:
    """Return the dual model of attention with features, as matrices.

    Parameters
    ----------
    lookup : Lookup
        Its keys and query go into the features as they are; see `unscaled`.
    features : callable
        Maps (d_k,) to (m,) and (d_k, n) to (m, n): a `KernelMap`, random features, or your own.
    normalised : bool
        Whether D is the sum of the kernel's values; otherwise D = 1.

    Returns
    -------
    FeatureDual

    Raises
    ------
    ValueError
        If a feature is not finite, or the sum of the kernel's values is not positive.

    Notes
    -----
    One gradient step at rate eta on ``L(W) = -1/(eta D) sum_{i <= N} <v_i, W phi(y_i)>`` takes
    W_0 to W_1, and ``W_1 phi(x)`` is `kernel_attention`. Features of the softmax kernel itself
    are infinitely many; `KernelMap` of kind "taylor" has as many of them as rounding can see.

    References
    ----------
    Ren and Liu 2024 for random features of softmax; derived here for all others.

    Examples
    --------
    >>> from iclkit.papers.dual_kernel.attention import look_up
    >>> lookup = look_up([[1, 0], [0, 1]], [1, 1], [[1, 0]], [[0, 2]], [[3, 3]])
    >>> model = feature_dual(lookup, KernelMap("elu1"))
    >>> model.zero_shot.round(3), model.trained.round(3), model(lookup.query).round(3)
    (array([[1.286]]), array([[2.143]]), array([4.286]))
    """
    phi = features_of(features, checked_lookup(lookup).keys)
    normaliser = _sum_of_kernel(lookup, features) if normalised else 1.0
    weighted = lookup.values / normaliser
    n = lookup.n_demo
    zero_shot = weighted[:, n:] @ phi[:, n:].T
    return FeatureDual(features, zero_shot, zero_shot + weighted[:, :n] @ phi[:, :n].T, normaliser)


@border
def kernel_attention(lookup: Lookup, features: Features, *, normalised: bool = True) -> Floats:
    """Return the attention output with the kernel of some features, token by token.

    Parameters
    ----------
    lookup : Lookup
        Its keys and query go into the features as they are; see `unscaled`.
    features : callable
        Maps (d_k,) to (m,) and (d_k, n) to (m, n).
    normalised : bool
        Whether the weights are divided by their sum.

    Returns
    -------
    (d_v,) array

    Raises
    ------
    ValueError
        If a feature is not finite, or the sum of the weights is not positive.

    Notes
    -----
    ``sum_i K_i v_i / sum_i K_i`` with ``K_i = phi(y_i)^T phi(x)``; without normalising the plain
    sum. Weights may be negative; a sum that is not positive has no meaning as a normaliser.

    References
    ----------
    Katharopoulos et al. 2020.

    Examples
    --------
    >>> from iclkit.papers.dual_kernel.attention import look_up
    >>> lookup = look_up([[1, 0], [0, 1]], [1, 1], [[1, 0]], [[0, 2]], [[3, 3]])
    >>> kernel_attention(lookup, KernelMap("linear"), normalised=False)
    array([18.])
    """
    weights = _kernel_values(lookup, features)
    total = _positive(weights) if normalised else 1.0
    return lookup.values @ weights / total


@border
def unscaled(lookup: Lookup) -> Lookup:
    """Return the same query and keys without the factor ``d_k^(-1/4)`` of softmax attention.

    Parameters
    ----------
    lookup : Lookup

    Returns
    -------
    Lookup

    Examples
    --------
    >>> from iclkit.papers.dual_kernel.attention import look_up
    >>> demo, W = [[1, 0], [0, 1], [0, 0], [0, 0]], [[2, 0, 0, 0]] * 4
    >>> unscaled(look_up(demo, [1, 0, 0, 0], W, W, W)).query.round(12)
    array([2., 2., 2., 2.])
    """
    scale = len(checked_lookup(lookup).query) ** 0.25
    return lookup._replace(query=scale * lookup.query, keys=scale * lookup.keys)


def _kernel_values(lookup: Lookup, features: Features) -> Floats:
    query = features_of(features, checked_lookup(lookup).query)
    return features_of(features, lookup.keys).T @ query


def _sum_of_kernel(lookup: Lookup, features: Features) -> float:
    return _positive(_kernel_values(lookup, features))


def _positive(weights: Floats) -> float:
    total = float(weights.sum())
    if not total > 0:
        raise ValueError(
            f"the sum of the kernel's values must be > 0, got {total:g}; "
            "use normalised=False or features that are positive"
        )
    return total


def features_of(features: Features, columns: ArrayLike) -> Floats:
    """Return the features of columns, or say that they are no function or not finite."""
    if not callable(features):
        raise TypeError(f"features must be a function, got {type(features).__name__}")
    with np.errstate(over="ignore"):
        x = finite_array("columns", columns, ndim=None)
        values = finite_array("features", features(x), ndim=None)
    if x.ndim not in (1, 2) or values.ndim != x.ndim or values.shape[1:] != x.shape[1:]:
        raise ValueError(
            "features must map (d_k,) to (m,) and (d_k, n) to (m, n), "
            f"got {x.shape} to {values.shape}"
        )
    return values
