"""Laws of tokens and what the formulas of the generalisation gap need to know of them.

For the modules on the gap. Tokens are independent, with standard normal coordinates or uniform ones
on [-1, 1]. Another Gaussian law, or a cube of another size, is another pair of weights.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import choice, finite_array

__all__ = [
    "LAWS",
    "Law",
    "Layer",
    "Rule",
    "checked_law",
    "checked_layer",
    "cube_nodes",
    "cube_rule",
    "dot_columns",
    "finite_kernel",
    "gaussian_rule",
    "langevin",
    "largest_key_value",
    "log_mean",
    "log_sinhc",
    "mean_values",
    "require_moment",
    "tilted_mean",
]

Floats = NDArray[np.float64]
Law = Literal["gaussian", "uniform"]

LAWS: Final = ("gaussian", "uniform")
_NODES = 60_000  # of a product rule
_PER_AXIS = 32  # integrates exp(b x) on [-1, 1] to rounding up to |b| = 30
_ROUNDING = 1e-15


class Layer(NamedTuple):
    """What the gap depends on of one attention layer: not its query weights.

    Attributes
    ----------
    kernel : (d, d) array
        ``A = W_K^T W_K / sqrt(d_k)``, so that the softmax kernel of keys is ``exp(x^T A x')``.
    value : (d_v, d) array
        ``W_V``.
    """

    kernel: Floats
    value: Floats


class Rule(NamedTuple):
    """A quadrature rule for means over the law of a token.

    Attributes
    ----------
    nodes : (d, n) array
    weights : (n,) array
        Positive; they sum to 1 up to the rule's error.
    """

    nodes: Floats
    weights: Floats


def checked_layer(W_K: ArrayLike, W_V: ArrayLike) -> Layer:
    """Return the layer of key and value weights, or say what is wrong with them."""
    key, value = finite_array("W_K", W_K, ndim=2), finite_array("W_V", W_V, ndim=2)
    if key.shape[1] != value.shape[1]:
        raise ValueError(
            f"W_K and W_V must have one column per token coordinate, "
            f"got shapes {key.shape} and {value.shape}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        kernel, size = key.T @ key / np.sqrt(len(key)), (value**2).sum()
    for name, square in (("W_K", kernel), ("W_V", size)):
        if not np.isfinite(square).all():
            raise ValueError(f"{name} must have finite squares, got an overflow; scale it down")
    return Layer(kernel, value)


def checked_law(law: str) -> str:
    """Return `law` if it is one of `LAWS`."""
    return choice("law", law, LAWS)


def dot_columns(left: Floats, right: Floats) -> Floats:
    """Return the inner products of columns, (..., d, n) and (..., d, n) to (..., n)."""
    return np.einsum("...dn,...dn->...n", left, right)


def finite_kernel(scores: Floats, size: float) -> Floats:
    """Return ``exp(scores)``; a `ValueError` if it, or `size` times it, overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        kernel = np.exp(scores)
        finite = np.isfinite(kernel.max() * size * kernel.size)
    if not finite:
        raise ValueError(
            "tokens must be short enough for |v|^2 exp(|k|^2) to be a number, got an overflow; "
            "scale the tokens, W_K or W_V down"
        )
    return np.asarray(kernel)


def largest_key_value(layer: Layer) -> float:
    """Return the largest eigenvalue of A."""
    return float(np.linalg.eigvalsh(layer.kernel)[-1])


def require_moment(layer: Layer, order: int) -> None:
    """Raise unless ``v phi(k)^T`` of a Gaussian token has a norm with this moment."""
    largest = largest_key_value(layer)
    if largest * order >= 1:
        limit = f"1/{order}" if order > 1 else "1"
        raise ValueError(
            f"Gaussian tokens need a largest eigenvalue of W_K^T W_K / sqrt(d_k) below {limit} for "
            f"a moment of order {order} of their features, got {largest:.6g}; scale W_K down"
        )


# ------------------------------------------------------------------ the mean over a token


def mean_values(layer: Layer, law: str, tokens: Floats) -> Floats:
    """Return ``E' v' K(k', k)`` at each token, (..., d, n) to (..., d_v, n).

    Notes
    -----
    With ``b = A x``: ``W_V b exp(|b|^2/2)`` for Gaussian tokens, and for uniform ones ``W_V``
    times the Langevin functions of the entries of b, times the product of their ``sinh(b)/b``.
    """
    shift = layer.kernel @ tokens
    return layer.value @ tilted_mean(law, shift) * np.exp(log_mean(law, shift))[..., None, :]


def tilted_mean(law: str, shift: Floats) -> Floats:
    """Return ``E x exp(<b, x>) / E exp(<b, x>)`` for the columns b of `shift`."""
    return shift if law == "gaussian" else langevin(shift)


def log_mean(law: str, shift: Floats) -> Floats:
    """Return ``log E exp(<b, x>)`` for the columns b of `shift`."""
    if law == "gaussian":
        return dot_columns(shift, shift) / 2
    return log_sinhc(shift).sum(axis=-2)


def langevin(b: Floats) -> Floats:
    """Return ``coth(b) - 1/b``, entry by entry; a continued fraction keeps digits for small b."""
    small = np.abs(b) < 1
    square = np.where(small, b, 0.0) ** 2
    near = np.full_like(b, 21.0)
    for odd in range(19, 1, -2):
        near = odd + square / near
    safe = np.where(small, 1.0, b)
    return np.where(small, b / near, 1 / np.tanh(safe) - 1 / safe)


def log_sinhc(b: Floats) -> Floats:
    """Return ``log(sinh(b)/b)``, entry by entry, without overflow."""
    size = np.maximum(np.abs(b), 1e-300)
    return size + np.log(-np.expm1(-2 * size) / (2 * size))


# ------------------------------------------------------------------ quadrature


def cube_rule(dim: int, nodes: int | None = None) -> Rule:
    """Return the product of Gauss-Legendre rules on the cube ``[-1, 1]^dim``."""
    per_axis = cube_nodes(dim) if nodes is None else nodes
    x, weight = leggauss(per_axis)
    return _product([(x, weight / 2)] * dim)


def cube_nodes(dim: int) -> int:
    """Return how many nodes per axis a cube of this dimension gets."""
    per_axis = min(_PER_AXIS, int(_NODES ** (1 / dim)))
    if per_axis < 6:
        raise ValueError(
            f"uniform tokens must have at most 6 coordinates for quadrature, got {dim}; if labels "
            "or other coordinates are linear in few of them, multiply the weights by that map"
        )
    return per_axis


def gaussian_rule(layer: Layer) -> Rule:
    """Return a rule for Gaussian tokens that is exact on the leading eigenfunctions of the kernel.

    Notes
    -----
    In an eigenvector of A with eigenvalue ``a < 1/2`` the kernel ``exp(a x y)`` has, under the
    normal law, the eigenfunctions ``h_n(s x) exp(rho a x^2/2)`` with ``s^2 = sqrt(1 - 4 a^2)`` and
    eigenvalues falling like ``rho^n``, ``rho = (1 - s^2)/(2a)`` (Mehler). Gauss-Hermite nodes
    divided by s integrate products of them exactly. Directions that A does not see enter linearly,
    through at most d_v combinations, and get two nodes each.
    """
    basis, values = _directions(layer)
    _require_few([_normal_nodes(value) for value in values])
    rule = _product([_normal_axis(value) for value in values])
    return Rule(basis @ rule.nodes, rule.weights)


def _directions(layer: Layer) -> tuple[Floats, Floats]:
    """Return an orthonormal basis of what the layer sees, (d, m), and eigenvalues of A, (m,)."""
    values, vectors = np.linalg.eigh(layer.kernel)
    seen = values > _ROUNDING * len(values) * max(values[-1], 1e-300)
    hidden = vectors[:, ~seen] @ _row_space(layer.value @ vectors[:, ~seen]).T
    basis = np.hstack([vectors[:, seen], hidden])
    if basis.shape[1] == 0:  # nothing is seen: any direction will do
        return vectors[:, :1], np.zeros(1)
    return basis, np.append(values[seen], np.zeros(hidden.shape[1]))


def _row_space(matrix: Floats) -> Floats:
    """Return an orthonormal basis of the row space, as rows."""
    if matrix.shape[1] == 0:
        return matrix[:0]
    _, sizes, rows = np.linalg.svd(matrix, full_matrices=False)
    return rows[sizes > _ROUNDING * max(matrix.shape) * max(sizes[0], 1e-300)]


def _ratio(a: float) -> float:
    """Return rho, the ratio of successive eigenvalues of ``exp(a x y)`` under the normal law."""
    return 2 * a / (1 + np.sqrt((1 - 2 * a) * (1 + 2 * a)))


def _normal_nodes(a: float) -> int:
    """Return how many nodes a direction with eigenvalue a of A gets."""
    return 2 if a == 0 else 4 + int(np.ceil(np.log(_ROUNDING) / np.log(_ratio(a))))


def _normal_axis(a: float) -> tuple[Floats, Floats]:
    """Return nodes and weights for one direction with eigenvalue a of A."""
    s2 = np.sqrt((1 - 2 * a) * (1 + 2 * a))
    z, weight = hermegauss(_normal_nodes(a))
    flat = np.exp(-_ratio(a) * a * z**2 / s2) / np.sqrt(2 * np.pi * s2)
    return z / np.sqrt(s2), weight * flat


def _require_few(n_nodes: list[int]) -> None:
    total = float(np.prod(np.array(n_nodes, dtype=np.float64)))
    if total > _NODES or max(n_nodes, default=0) > 180:
        raise ValueError(
            "Gaussian tokens must have few key directions and a largest eigenvalue of "
            f"W_K^T W_K / sqrt(d_k) well below 1/2 for quadrature, got a rule of {total:.3g} nodes"
        )


def _product(axes: list[tuple[Floats, Floats]]) -> Rule:
    nodes = np.meshgrid(*[x for x, _ in axes], indexing="ij")
    weights = np.meshgrid(*[w for _, w in axes], indexing="ij")
    return Rule(np.stack(nodes).reshape(len(axes), -1), np.prod(np.stack(weights), axis=0).ravel())
