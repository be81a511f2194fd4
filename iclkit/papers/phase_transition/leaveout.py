"""Errors estimated from the pretraining prompts alone, by leaving some of them out.

Nothing is refitted: the residuals of all refits follow from one factorisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotri

from iclkit._checks import border, finite_array, same_length, scalar

__all__ = ["LeftOut", "leave_out"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_BLOCK = 512  # prompts whose products of query and features are held at once
_SINGULAR = 1e-13  # squared pivots below this share of the diagonal are rounding


class LeftOut(NamedTuple):
    """What ridge pretraining predicts for prompts that it did not see.

    Attributes
    ----------
    residual : (n,) array
        Label of each prompt minus the prediction of the fit without its group.
    gcv : float
        Generalised cross-validation: the mean squared residual of the fit to all prompts over
        the squared mean of what the fit leaves of a label. No groups.
    """

    residual: Floats
    gcv: float

    @property
    def error(self) -> float:
        """Mean squared residual."""
        return float(self.residual @ self.residual) / len(self.residual)


@border
def leave_out(
    x_query: ArrayLike,
    v: ArrayLike,
    y: ArrayLike,
    penalty: float,
    *,
    groups: ArrayLike | None = None,
) -> LeftOut:
    """Return the residual of each pretraining prompt under the fit without it.

    Parameters
    ----------
    x_query : (n, d) array_like
        Query inputs.
    v : (n, m) array_like
        Context features.
    y : (n,) array_like
        Query labels.
    penalty : float
        Coefficient of the squared Frobenius norm, >= 0, as in `iclkit.solvers.bilinear_ridge`.
        It stays the same in every refit.
    groups : (n,) array_like of int, optional
        Prompts with equal numbers are left out together, for example all prompts of one task;
        each prompt alone if not given.

    Returns
    -------
    LeftOut

    Raises
    ------
    ValueError
        If the shapes do not match, an entry is not finite, `penalty` is negative, there is only
        one group or prompt, or a refit is not determined (then a penalty > 0 helps).

    Notes
    -----
    For n <= d m, with the kernel K of `iclkit.solvers.bilinear_ridge`, ``J = (K + penalty)^-1``
    and ``a = J y``: a group g has the residuals ``J[g, g]^-1 a[g]``, for single prompts
    ``a_i/J_ii``. The products of queries and features are not formed. For n > d m, with the
    Gram matrix G of the products, residuals r of the fit and the hat matrix
    ``H = F (G + penalty)^-1 F^T``: ``(1 - H[g, g])^-1 r[g]``. The products F are formed in
    blocks, and of H only what is needed.

    If tasks are drawn independently from a pool, the expected ``error`` is exactly that of a
    fit to n - 1 prompts, on a fresh prompt of the pool. If all prompts of a task are left out
    together, and tasks are drawn independently, it is that of a fit without one of the tasks,
    on new tasks.

    References
    ----------
    Classical for single rows; the form for products is derived here, and leaving out tasks is
    new here.

    Examples
    --------
    >>> leave_out([[1], [1]], [[1], [1]], [1, 3], 1.0).residual  # refits predict 3/2 and 1/2
    array([-0.5,  2.5])
    """
    x, features = finite_array("x_query", x_query, ndim=2), finite_array("v", v, ndim=2)
    labels, penalty = finite_array("y", y, ndim=1), scalar("penalty", penalty)
    same_length(x_query=x, v=features, y=labels)
    parts = _parts(groups, len(labels))
    few = len(labels) <= x.shape[1] * features.shape[1]
    return (_dual if few else _primal)(x, features, labels, penalty, parts)


def _parts(groups: ArrayLike | None, n: int) -> list[Rows] | None:
    """Return the rows of each group; None for single rows."""
    if n < 2:
        raise ValueError("prompts must be at least two, got one: no prompt is left to fit")
    if groups is None:
        return None
    found = len(finite_array("groups", groups, ndim=1))
    if found != n:
        raise ValueError(f"groups must have one number per prompt, {n}, got {found}")
    names, member = np.unique(np.asarray(groups), return_inverse=True)  # no floats: all digits
    if len(names) < 2:
        raise ValueError("groups must be at least two, got one: no prompt is left to fit")
    rows = np.argsort(member, kind="stable")
    return np.split(rows, np.cumsum(np.bincount(member))[:-1])


# ------------------------------------------------------------------ few prompts


def _dual(x: Floats, v: Floats, y: Floats, penalty: float, parts: list[Rows] | None) -> LeftOut:
    """Return the residuals from the inverse of the kernel matrix."""
    kernel = (x @ x.T) * (v @ v.T)
    kernel.flat[:: len(y) + 1] += penalty
    inverse = _inverse(kernel)
    weights, diagonal = inverse @ y, inverse.diagonal()
    gcv = float(weights @ weights) * len(y) / float(diagonal.sum()) ** 2
    if parts is None:
        return LeftOut(weights / diagonal, gcv)
    residual = np.empty_like(y)
    for rows in parts:
        residual[rows] = cho_solve((_root(inverse[np.ix_(rows, rows)]), True), weights[rows])
    return LeftOut(residual, gcv)


def _inverse(matrix: Floats) -> Floats:
    """Return the inverse of a positive definite matrix."""
    lower = np.tril(dpotri(_root(matrix), lower=1)[0])
    return lower + np.tril(lower, -1).T


def _root(matrix: Floats) -> Floats:
    """Return the Cholesky factor of a matrix that must not be singular to rounding."""
    try:
        factor = np.asarray(cholesky(matrix, lower=True))
    except np.linalg.LinAlgError:
        factor = np.zeros_like(matrix)
    _demand(factor.diagonal() ** 2, matrix.diagonal())
    return factor


def _demand(pivots: Floats, scale: Floats | float) -> None:
    if not np.all(pivots > _SINGULAR * scale):
        raise ValueError(
            "penalty must be > 0 here: without some of the prompts a refit is not determined; "
            "use a larger penalty or leave out fewer prompts at once"
        )


# ------------------------------------------------------------------ many prompts


def _primal(x: Floats, v: Floats, y: Floats, penalty: float, parts: list[Rows] | None) -> LeftOut:
    """Return the residuals from the factorised Gram matrix of the products."""
    size = x.shape[1] * v.shape[1]
    gram, moment = penalty * np.eye(size), np.zeros(size)
    for rows in _blocks(len(y)):
        products = _products(x[rows], v[rows])
        gram += products.T @ products
        moment += products.T @ y[rows]
    root = _root(gram)
    gamma = cho_solve((root, True), moment).reshape(x.shape[1], -1)
    fitted = y - np.einsum("nm,nm->n", x @ gamma, v)
    residual, left = np.empty_like(y), np.empty_like(y)
    for rows in _blocks(len(y)) if parts is None else parts:
        half = solve_triangular(root, _products(x[rows], v[rows]).T, lower=True)
        left[rows] = 1.0 - np.einsum("fn,fn->n", half, half)
        residual[rows] = _enlarge(half, left[rows], fitted[rows], alone=parts is None)
    return LeftOut(residual, float(fitted @ fitted) * len(y) / float(left.sum()) ** 2)


def _enlarge(half: Floats, left: Floats, fitted: Floats, *, alone: bool) -> Floats:
    """Return the residuals without the prompts: each on its own, or all of them together."""
    if alone:
        _demand(left, 1.0)
        return fitted / left
    hat = half.T @ half
    return np.asarray(cho_solve((_root(np.eye(len(hat)) - hat), True), fitted))


def _products(x: Floats, v: Floats) -> Floats:
    """Return the products of query and features, one prompt per row."""
    return np.einsum("ni,nj->nij", x, v).reshape(len(x), -1)


def _blocks(n: int) -> Iterator[Rows]:
    return (np.arange(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))
