"""Ridge regression: for context predictors (`ridge`) and for pretraining (`bilinear_ridge`).

Pretraining linear attention is ridge regression on the d(d+1) products of query and features.
Neither those products nor their Gram matrix need to be formed unless the number of prompts
is close to the number of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack
from scipy.sparse.linalg import LinearOperator, cg

from iclkit._checks import border, choice, finite_array, same_length, scalar

__all__ = ["METHODS", "ConvergenceError", "bilinear_ridge", "min_norm", "ridge"]

Floats = NDArray[np.float64]
Solver = Callable[[Floats], Floats]

METHODS = ("auto", "dual", "cg", "primal", "pcg")

_ROWS = 4096  # prompts per block of a product: few calls, temporaries of a few MB
_TILE = 512  # prompts per block where the temporaries are as wide as the answer
_STEPS = 5_000  # conjugate gradient steps before giving up
_EPS = float(np.finfo(np.float64).eps)


class ConvergenceError(RuntimeError):
    """An iteration ended before it reached its residual."""


# ------------------------------------------------------------------ ridge on a context


@border
def ridge(x: ArrayLike, y: ArrayLike, penalty: float) -> Floats:
    """Return the weights of ridge regression, for one data set or a batch of them.

    Parameters
    ----------
    x : (..., n, d) array_like
        Inputs.
    y : (..., n) array_like
        Labels.
    penalty : float
        Coefficient of ``|w|^2``, >= 0; at 0 the minimum-norm least-squares solution.

    Returns
    -------
    (..., d) array
        The minimiser of ``|y - x w|^2 + penalty |w|^2``.

    Raises
    ------
    ValueError
        If the shapes do not match, an entry is not finite, or `penalty` is negative.

    Notes
    -----
    ``w = (X^T X + penalty)^{-1} X^T y = X^T (X X^T + penalty)^{-1} y``: the smaller of the two
    systems is solved. Where the penalty is too small to keep it regular, the singular value
    decomposition of X is used instead.

    Examples
    --------
    >>> ridge([[1, 0], [0, 1]], [2, 4], 1.0)
    array([1., 2.])
    """
    x, y = _regression_data(x, y)
    penalty = scalar("penalty", penalty)
    flat_x, flat_y = x.reshape(-1, *x.shape[-2:]), y.reshape(-1, y.shape[-1])
    safe = penalty > 1e-10 * np.einsum("bnd,bnd->b", flat_x, flat_x)
    weights = np.empty((len(flat_x), x.shape[-1]))
    weights[safe] = _regular_ridge(flat_x[safe], flat_y[safe], penalty)
    weights[~safe] = _spectral_ridge(flat_x[~safe], flat_y[~safe], penalty)
    return weights.reshape(*x.shape[:-2], x.shape[-1])


@border
def min_norm(x: ArrayLike, y: ArrayLike) -> Floats:
    """Return the least-squares weights of the smallest norm: `ridge` without penalty.

    Parameters
    ----------
    x : (..., n, d) array_like
    y : (..., n) array_like

    Returns
    -------
    (..., d) array

    Examples
    --------
    >>> min_norm([[1, 1]], [2])
    array([1., 1.])
    """
    return ridge(x, y, 0.0)


def _regression_data(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    x = finite_array("x", x, ndim=None)
    if x.ndim < 2:
        raise ValueError(f"x must have rows and columns, got shape {x.shape}")
    y = finite_array("y", y, ndim=x.ndim - 1)
    if x.shape[:-1] != y.shape:
        raise ValueError(f"x must have one row per label in y, got {x.shape} and {y.shape}")
    return x, y


def _regular_ridge(x: Floats, y: Floats, penalty: float) -> Floats:
    n, d = x.shape[1:]
    xt, labels = x.transpose(0, 2, 1), y[..., None]
    gram = xt @ x if n >= d else x @ xt
    gram += penalty * np.eye(min(n, d))
    if n >= d:
        return np.asarray(np.linalg.solve(gram, xt @ labels)[..., 0], dtype=np.float64)
    return np.asarray((xt @ np.linalg.solve(gram, labels))[..., 0], dtype=np.float64)


def _spectral_ridge(x: Floats, y: Floats, penalty: float) -> Floats:
    left, values, right = np.linalg.svd(x, full_matrices=False)
    rank_limit = max(x.shape[1:]) * _EPS * values.max(axis=1, keepdims=True)
    kept = values > rank_limit
    safe = np.where(kept, values, 1.0)
    filters = np.where(kept, safe / (safe**2 + penalty), 0.0)
    projected = np.einsum("bns,bn->bs", left, y)
    return np.einsum("bsd,bs->bd", right, filters * projected)


# ------------------------------------------------------------------ ridge pretraining


class _Problem(NamedTuple):
    """Checked data of `bilinear_ridge`; row i of the feature matrix is ``outer(x_i, v_i)``."""

    x: Floats
    v: Floats
    y: Floats
    penalty: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape[1], self.v.shape[1]


@border
def bilinear_ridge(
    x_query: ArrayLike, v: ArrayLike, y: ArrayLike, penalty: float, *, method: str = "auto"
) -> Floats:
    """Return the ridge-pretrained weights gamma of the predictor ``x^T gamma v``.

    Parameters
    ----------
    x_query : (n, d) array_like
        Query inputs.
    v : (n, m) array_like
        Context features; m = d + 1 for linear attention.
    y : (n,) array_like
        Query labels.
    penalty : float
        Coefficient of the squared Frobenius norm, >= 0. At 0 the least-squares solution of
        the smallest norm. A paper's ridge strength may be scaled: ``(n/d) lambda`` in
        Lu et al. 2025.
    method : {"auto", "dual", "cg", "primal", "pcg"}
        All give the same answer up to rounding. "auto" takes "dual" up to n = d m prompts ("cg"
        where its n x n matrix would be too large), "pcg" from 1.1 d m on, and "primal" between
        and for small problems.

    Returns
    -------
    (d, m) array
        The minimiser of ``sum_i (y_i - x_i^T gamma v_i)^2 + penalty |gamma|^2``.

    Raises
    ------
    ValueError
        If the shapes do not match, an entry is not finite, `penalty` is negative, `method` is
        unknown, or "pcg" is asked for with fewer distinct prompts than parameters.
    ConvergenceError
        If "cg" or "pcg" does not reach its residual (at most 1e-9 of the right-hand side).

    Notes
    -----
    With feature rows ``phi_i = outer(x_i, v_i)``, the kernel matrix is the Hadamard product
    ``K = (X X^T) o (V V^T)`` and ``gamma = X^T diag(a) V`` with ``(K + penalty) a = y``.
    The iterations apply ``P -> X^T diag(rowsum((X P) o V)) V + penalty P`` instead, 4 n d m
    operations. Started at 0 they stay in the span of the features, hence reach the
    minimum-norm solution. The preconditioner of "pcg" is the inverse of
    ``n (X^T X/n) (x) (V^T V/n) + penalty``, in the eigenbases of both factors. It leaves the
    span where the prompts do not determine gamma. Below d m distinct prompts it is refused; for
    more prompts whose queries and features lie in subspaces that depend on each other, choose
    "primal". "primal" and "dual" end with a step of iterative refinement; a matrix that is
    singular to rounding is replaced by its numerical range.

    References
    ----------
    Problem: Lu et al. 2025. The preconditioner and the choice of method are new here.

    Examples
    --------
    >>> bilinear_ridge([[1], [2]], [[1], [1]], [1, 2], 5.0)
    array([[0.5]])
    """
    problem = _checked(x_query, v, y, penalty)
    method = choice("method", method, METHODS)
    return _ROUTES[_choose(problem) if method == "auto" else method](problem)


def _checked(x_query: ArrayLike, v: ArrayLike, y: ArrayLike, penalty: float) -> _Problem:
    x = finite_array("x_query", x_query, ndim=2)
    features, labels = finite_array("v", v, ndim=2), finite_array("y", y, ndim=1)
    same_length(x_query=x, v=features, y=labels)
    return _Problem(x, features, labels, scalar("penalty", penalty))


def _choose(problem: _Problem) -> str:
    n, size = len(problem.y), np.prod(problem.shape)
    if n <= size:
        return "dual" if n <= 12_000 else "cg"
    if n < 1.1 * size or n * size**2 < 5e8 or _n_distinct(problem) < 1.1 * size:
        return "primal"
    return "pcg"


def _n_distinct(problem: _Problem) -> int:
    """Count the distinct rows (x, v), told apart by one fixed projection."""
    d, m = problem.shape
    signature = problem.x @ np.sqrt(np.arange(2.0, d + 2))
    signature += problem.v @ np.sqrt(np.arange(d + 2.0, d + m + 2))
    scale = np.abs(signature).max() or 1.0
    return len(np.unique(np.round(signature / scale, 9)))  # equal rows may differ by rounding


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n, size))


def _predict(problem: _Problem, gamma: Floats) -> Floats:
    """Predictions ``x_i^T gamma v_i``, (n,)."""
    out = np.empty(len(problem.y))
    for rows in _blocks(len(out), _ROWS):
        np.einsum("bm,bm->b", problem.x[rows] @ gamma, problem.v[rows], out=out[rows])
    return out


def _adjoint(problem: _Problem, weights: Floats) -> Floats:
    """Weighted sum of features ``X^T diag(weights) V``, (d, m)."""
    out = np.zeros(problem.shape)
    for rows in _blocks(len(weights), _ROWS):
        out += problem.x[rows].T @ (weights[rows, None] * problem.v[rows])
    return out


def _gradient(problem: _Problem, gamma: Floats) -> Floats:
    """Residual of the normal equations, (d, m): half the downhill gradient."""
    return _adjoint(problem, problem.y - _predict(problem, gamma)) - problem.penalty * gamma


def _hessian_times(problem: _Problem, gamma: Floats) -> Floats:
    """``X^T diag(rowsum((X gamma) o V)) V + penalty gamma`` in one pass over the rows."""
    out = problem.penalty * gamma
    gamma = gamma.astype(problem.x.dtype, copy=False)
    for rows in _blocks(len(problem.y), _ROWS):
        x, v = problem.x[rows], problem.v[rows]
        fitted = np.einsum("bm,bm->b", x @ gamma, v)
        out += x.T @ (fitted[:, None] * v)
    return out


# ------------------------------------------------------------------ direct routes


def _dual(problem: _Problem) -> Floats:
    solve = _psd_solver(lambda: _kernel(problem), problem.penalty)
    weights = solve(problem.y)
    fitted = _predict(problem, _adjoint(problem, weights))
    weights += solve(problem.y - fitted - problem.penalty * weights)
    return _adjoint(problem, weights)


def _primal(problem: _Problem) -> Floats:
    solve = _psd_solver(lambda: _gram(problem), problem.penalty)
    gamma = np.zeros(problem.shape)
    for _ in range(2):  # the second round refines the first
        gamma += solve(_gradient(problem, gamma).ravel()).reshape(gamma.shape)
    return gamma


def _kernel(problem: _Problem) -> Floats:
    """Lower triangle of ``(X X^T) o (V V^T)``, (n, n); what lies above is not meant."""
    n = len(problem.y)
    out = np.empty((n, n))
    for rows in _blocks(n, _TILE):
        seen = slice(0, rows.stop)
        np.matmul(problem.x[rows], problem.x[seen].T, out=out[rows, seen])
        out[rows, seen] *= problem.v[rows] @ problem.v[seen].T
    return out


def _gram(problem: _Problem) -> Floats:
    """Gram matrix of the features, (d m, d m), from products of distinct pairs only."""
    d, m = problem.shape
    pairs = _pair_moments(problem)
    x_pair, v_pair = _pair_index(d), _pair_index(m)
    out = np.empty((d, m, d, m))
    for i in range(d):
        # axes (j, a, b) -> (a, j, b)
        out[i] = pairs[x_pair[i]][:, v_pair].transpose(1, 0, 2)
    return out.reshape(d * m, d * m)


def _pair_moments(problem: _Problem) -> Floats:
    """Sum over prompts of ``x_i x_j v_a v_b`` for i <= j and a <= b, one row per (i, j)."""
    (i, j), (a, b) = (np.triu_indices(size) for size in problem.shape)
    out = np.zeros((len(i), len(a)))
    for rows in _blocks(len(problem.y), _TILE):
        x, v = problem.x[rows], problem.v[rows]
        out += (x[:, i] * x[:, j]).T @ (v[:, a] * v[:, b])
    return out


def _pair_index(size: int) -> NDArray[np.intp]:
    """Position of the pair (i, j) among the pairs with i <= j, (size, size)."""
    out = np.empty((size, size), dtype=np.intp)
    i, j = np.triu_indices(size)
    out[i, j] = out[j, i] = np.arange(len(i))
    return out


def _psd_solver(build: Callable[[], Floats], shift: float) -> Solver:
    """Return the solver of ``(build() + shift) a = b``; only lower triangles are read.

    Cholesky unless the matrix is singular to rounding, relative to its trace.
    """
    matrix = build()
    matrix.flat[:: len(matrix) + 1] += shift
    trace = matrix.trace()
    # LAPACK counts by columns: the transpose's upper triangle is this lower one.
    factor, failed = lapack.dpotrf(matrix.T, lower=0, clean=0, overwrite_a=1)
    if failed or lapack.dpocon(factor, trace, uplo="U")[0] < _EPS:
        return _range_solver(build(), shift)
    return lambda rhs: lapack.dpotrs(factor, rhs, lower=0)[0]


def _range_solver(matrix: Floats, shift: float) -> Solver:
    """Return the solver on the numerical range of `matrix`: the minimum-norm solution."""
    values, vectors, _ = lapack.dsyevd(matrix.T, lower=0, overwrite_a=1)
    kept = values > _EPS * max(values.sum(), 0.0)
    basis = vectors[:, kept]
    return lambda rhs: basis @ ((basis.T @ rhs) / (values[kept] + shift))


# ------------------------------------------------------------------ iterative routes


def _cg(problem: _Problem) -> Floats:
    rhs = _adjoint(problem, problem.y)
    gamma = _descend(problem, rhs, None, tolerance=1e-12)
    _demand(_norm(_gradient(problem, gamma)), _norm(rhs))
    return gamma


def _pcg(problem: _Problem) -> Floats:
    distinct, size = _n_distinct(problem), int(np.prod(problem.shape))
    if distinct < size:
        raise ValueError(
            f"method pcg needs at least {size} distinct prompts, got {distinct}; use dual or cg"
        )
    rhs = _adjoint(problem, problem.y)
    if not rhs.any():
        return rhs
    gamma, residual = _refined(problem, rhs)
    _demand(residual, _norm(rhs))
    return gamma


def _refined(problem: _Problem, rhs: Floats) -> tuple[Floats, float]:
    """Return gamma and its residual: corrections in single precision, residuals in double."""
    precondition, (working, unit) = _preconditioner(problem), _single(problem)
    gamma, residual = np.zeros_like(rhs), rhs
    size, target = _norm(rhs), 1e-10 * _norm(rhs)
    for _ in range(8):
        goal = max(1e-5, 0.5 * target / size)  # two rounds, as a rule
        step = _descend(working, residual / size, precondition, tolerance=goal)
        gamma += step * (size / unit)
        residual = _gradient(problem, gamma)
        size, last = _norm(residual), size
        if size <= target:
            break
        if size > 0.01 * last:  # single precision does not resolve this problem
            working, unit = problem, 1.0
    return gamma, size


def _single(problem: _Problem) -> tuple[_Problem, float]:
    """Return the problem in single precision, entries scaled to 1, and its Hessian's unit."""
    scales = [max(part.max(), -part.min()) for part in problem[:2]]
    x, v = (
        np.divide(part, scale, out=np.empty(part.shape, np.float32), casting="same_kind")
        for part, scale in zip(problem[:2], scales, strict=True)
    )
    unit = float(np.prod(scales)) ** 2
    return _Problem(x, v, problem.y, problem.penalty / unit), unit


def _preconditioner(problem: _Problem) -> Solver:
    """Return the inverse, up to a factor, of the Hessian if queries and features were independent.

    Both factors act in their eigenbases; directions without data stay at 0.
    """
    x_values, x_basis = np.linalg.eigh(problem.x.T @ problem.x)
    v_values, v_basis = np.linalg.eigh(problem.v.T @ problem.v)
    mean = np.outer(x_values, v_values) / len(problem.y)
    kept = mean > _EPS * mean.max()
    inverse = kept / np.where(kept, mean + problem.penalty, 1.0)
    inverse /= inverse.max()

    def apply(flat: Floats) -> Floats:
        rotated = x_basis.T @ flat.reshape(problem.shape) @ v_basis
        return (x_basis @ (inverse * rotated) @ v_basis.T).ravel()

    return apply


def _descend(
    problem: _Problem, rhs: Floats, precondition: Solver | None, *, tolerance: float
) -> Floats:
    """Solve for the step with Hessian times step = `rhs`, by conjugate gradients from 0."""
    size = int(np.prod(problem.shape))

    def hessian_times(flat: Floats) -> Floats:
        return _hessian_times(problem, flat.reshape(problem.shape)).ravel()

    flat, _ = cg(
        LinearOperator((size, size), hessian_times, dtype=np.float64),
        rhs.ravel(),
        rtol=tolerance,
        maxiter=_STEPS,
        M=precondition and LinearOperator((size, size), precondition, dtype=np.float64),
    )
    return flat.reshape(problem.shape)


def _norm(matrix: Floats) -> float:
    return float(np.linalg.norm(matrix))


def _demand(residual: float, scale: float) -> None:
    if not residual <= 1e-9 * scale:
        raise ConvergenceError(
            f"conjugate gradients reached a relative residual of {residual / scale:.1e}, "
            f"not 1e-9, in rounds of {_STEPS} steps; use method dual or primal, "
            "or a larger penalty"
        )


_ROUTES: dict[str, Callable[[_Problem], Floats]] = {
    "dual": _dual,
    "cg": _cg,
    "primal": _primal,
    "pcg": _pcg,
}
