"""The law of the chapter's prompts and its whitened form, for everything else in the package.

Tasks have a mean, and inputs and tasks have general covariances (Zhang, Wu and Bartlett 2024,
Assumption 3.1): ``x ~ N(0, H)``, ``task ~ N(task_mean, Psi)``, ``y = <task, x> + noise``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, finite_array, generator, instance, keep, locked, scalar
from iclkit.prompts import Prompts

__all__ = [
    "RANK_CUT",
    "RegressionPrior",
    "Whitened",
    "covariance_root",
    "isotropic_prior",
    "product_cut",
    "whiten",
    "whiten_moderate",
]

Floats = NDArray[np.float64]

_ROUNDING = 1e-10  # asymmetry and negative eigenvalues below this share of the largest are rounding
_HUGE = 1e300  # variances beyond this one overflow
_MODERATE = 1e70  # standard deviations up to this one have a fourth power
RANK_CUT = 1e-13  # eigenvalues below this share of the largest, per dimension, count as zero


@dataclass(frozen=True, eq=False)
class RegressionPrior:
    """The law of a linear regression prompt whose task has a mean.

    Parameters
    ----------
    input_cov : (dim, dim) array_like
        Covariance H of an input; symmetric, positive semi-definite, may be singular.
    task_mean : (dim,) array_like
        Mean task, the paper's beta*.
    task_cov : (dim, dim) array_like
        Covariance Psi of a task; symmetric, positive semi-definite, may be singular or zero.
    noise_var : float
        Variance sigma^2 of the label noise, >= 0.
    n_context : int
        Labelled examples in a prompt, the paper's M, >= 1.

    Raises
    ------
    ValueError
        If shapes disagree, a covariance is not symmetric or has a negative eigenvalue, the noise
        is negative, the context is empty, or the variance of a label overflows.

    Notes
    -----
    ``x_i ~ N(0, H)``, ``task ~ N(task_mean, Psi)``, ``y_i = <x_i, task> + N(0, noise_var)``, all
    independent. Arrays are stored as read-only copies.

    References
    ----------
    Assumption 3.1 of Zhang, Wu and Bartlett 2024.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> prior = RegressionPrior([[2, 0], [0, 1]], [1, -1], [[1, 0], [0, 0]], 0.5, 4)
    >>> [part.shape for part in prior.sample(3, rng=stream(0, "example"))]
    [(3, 4, 2), (3, 4), (3, 2), (3,), (3, 2)]
    """

    input_cov: Floats
    task_mean: Floats
    task_cov: Floats
    noise_var: float
    n_context: int

    def __post_init__(self) -> None:
        mean = finite_array("task_mean", self.task_mean, ndim=1)
        checked = {
            "task_mean": locked(mean),
            "input_cov": locked(_covariance("input_cov", self.input_cov, len(mean))),
            "task_cov": locked(_covariance("task_cov", self.task_cov, len(mean))),
            "noise_var": scalar("noise_var", self.noise_var),
            "n_context": count("n_context", self.n_context),
        }
        keep(self, **checked)
        _check_labels(self)

    @property
    def dim(self) -> int:
        """Dimension d of inputs and tasks."""
        return len(self.task_mean)

    @border
    def sample(
        self, n_prompts: int, n_context: int | None = None, *, rng: np.random.Generator
    ) -> Prompts:
        """Return `n_prompts` prompts.

        Parameters
        ----------
        n_prompts : int
            How many, >= 1.
        n_context : int, optional
            Labelled examples in each. Default: those of the prior.
        rng : numpy.random.Generator

        Returns
        -------
        Prompts
        """
        n_prompts, rng = count("n_prompts", n_prompts), generator(rng)
        length = self.n_context if n_context is None else count("n_context", n_context)
        spread = rng.standard_normal((n_prompts, self.dim)) @ covariance_root(self.task_cov).T
        task = self.task_mean + spread
        x = (
            rng.standard_normal((n_prompts, length + 1, self.dim))
            @ covariance_root(self.input_cov).T
        )
        noise = np.sqrt(self.noise_var) * rng.standard_normal((n_prompts, length + 1))
        y = np.einsum("bnd,bd->bn", x, task) + noise
        return Prompts(x[:, :-1], y[:, :-1], x[:, -1], y[:, -1], task)


@border
def isotropic_prior(
    dim: int,
    *,
    n_context: int,
    mean: ArrayLike = 0.0,
    noise_var: float = 0.0,
    task_var: float = 1.0,
) -> RegressionPrior:
    """Return the prior with ``H = I`` and ``Psi = task_var I``.

    Parameters
    ----------
    dim : int
        Dimension, >= 1.
    n_context : int
        Labelled examples in a prompt, >= 1.
    mean : float or (dim,) array_like
        Mean task; one number stands for a vector of equal entries.
    noise_var : float
        Variance of the label noise, >= 0.
    task_var : float
        Variance of a task's coordinates, >= 0.

    Returns
    -------
    RegressionPrior

    Examples
    --------
    >>> isotropic_prior(3, n_context=5, mean=2).task_mean
    array([2., 2., 2.])
    """
    identity = np.eye(count("dim", dim))
    vector = np.asarray(
        scalar("mean", cast(float, mean), low=-np.inf) if np.ndim(mean) == 0 else mean
    )
    vector = np.full(dim, vector) if vector.ndim == 0 else vector
    task_cov = scalar("task_var", task_var) * identity
    return RegressionPrior(identity, vector, task_cov, noise_var, n_context)


class Whitened(NamedTuple):
    """A prior in coordinates in which inputs are white and the task covariance is diagonal.

    Attributes
    ----------
    values : (rank,) array
        Eigenvalues phi_i of ``Phi = H^{1/2} Psi H^{1/2}`` on the range of H, largest first.
    mean : (rank,) array
        Coordinates w_i of ``H^{1/2} task_mean`` in its eigenbasis.
    noise_var : float
    n_context : int
    root : (dim, rank) array
        Map L with ``H = L L^T``, ``mean = L^T task_mean`` and ``L^T Psi L = diag(values)``.
    inverse : (rank, dim) array
        Its pseudo-inverse: whitened inputs are ``inverse @ x``.

    Notes
    -----
    Reduced weights map as ``u -> L^T u``, ``v -> L^T v``, ``U -> L^T U L``, and back with the
    transposed pseudo-inverse. An input covariance of zero keeps one direction of value 0.
    """

    values: Floats
    mean: Floats
    noise_var: float
    n_context: int
    root: Floats
    inverse: Floats

    @property
    def trace(self) -> float:
        """The signal's variance about the mean, ``tau = tr(H Psi)``."""
        return float(self.values.sum())

    @property
    def square(self) -> float:
        """The second trace ``tau2 = tr((H Psi)^2)``."""
        return float(self.values @ self.values)

    @property
    def level(self) -> float:
        """The effective noise ``kappa = tau + noise_var``."""
        return self.trace + self.noise_var

    @property
    def norm2(self) -> float:
        """The squared norm of the mean task, ``task_mean^T H task_mean``."""
        return float(self.mean @ self.mean)

    @property
    def curvature(self) -> Floats:
        """Eigenvalues ``omega_i = ((M+1) phi_i + kappa)/M`` of Omega, (rank,)."""
        return ((self.n_context + 1) * self.values + self.level) / self.n_context


@border
def whiten(prior: RegressionPrior) -> Whitened:
    """Return the numbers on which every population quantity of the chapter depends.

    Parameters
    ----------
    prior : RegressionPrior

    Returns
    -------
    Whitened

    Raises
    ------
    TypeError
        If `prior` is no RegressionPrior.

    Notes
    -----
    float64 cannot tell a small eigenvalue of H from the rounding of its largest one. So directions
    below ``1e-13 rank`` times the largest count as directions in which no input lies, and
    eigenvalues phi_i below the same share as 0. Where such directions carry a mean task that is
    1e6 times longer than the rest, rescale the inputs first.

    References
    ----------
    Derived here; the paper keeps H, Psi and the mean task throughout.

    Examples
    --------
    >>> prior = RegressionPrior([[4, 0], [0, 0]], [1, 5], [[3, 0], [0, 1]], 0.0, 2)
    >>> white = whiten(prior)
    >>> white.values.round(12), abs(white.mean).round(12)
    (array([12.]), array([2.]))
    """
    instance("prior", prior, RegressionPrior, "make one with isotropic_prior")
    values, vectors = np.linalg.eigh(prior.input_cov)
    kept = values > RANK_CUT * len(values) * values[-1]
    if not kept.any():
        zero = np.zeros((prior.dim, 1))
        return Whitened(zero[0], zero[0], prior.noise_var, prior.n_context, zero, zero.T)
    scale, basis = np.sqrt(values[kept]), vectors[:, kept]
    white = basis * scale
    phi, turn = np.linalg.eigh(white.T @ prior.task_cov @ white)
    phi, turn = np.maximum(phi[::-1], 0.0), turn[:, ::-1]
    phi = np.where(
        phi > max(RANK_CUT * len(phi) * phi[0], product_cut(white, prior.task_cov)), phi, 0.0
    )
    root, inverse = white @ turn, turn.T @ (basis / scale).T
    mean = root.T @ prior.task_mean
    return Whitened(phi, mean, prior.noise_var, prior.n_context, root, inverse)


def _check_labels(prior: RegressionPrior) -> None:
    """Raise unless the variance of a label is a number that can be computed with."""
    H, mean = prior.input_cov, prior.task_mean
    with np.errstate(over="ignore", invalid="ignore"):
        size = float(np.vdot(H, prior.task_cov) + mean @ H @ mean) + prior.noise_var
    if not size < _HUGE:
        raise ValueError(
            f"labels must have a variance below {_HUGE:g}, got {size:g}; "
            "rescale input_cov, task_mean, task_cov or noise_var"
        )


def whiten_moderate(prior: RegressionPrior) -> Whitened:
    """Return `whiten` of a prior whose label variance has a square, for formulas of degree 4."""
    white = whiten(prior)
    size = max(np.sqrt(white.level), np.abs(white.mean).max())
    if size and not 1.0 / _MODERATE <= size <= _MODERATE:
        raise ValueError(
            f"labels must have a standard deviation between {1 / _MODERATE:g} and {_MODERATE:g}, "
            f"got {size:.3g}; rescale them"
        )
    return white


def covariance_root(cov: Floats) -> Floats:
    """Return R with ``cov = R R^T``, exact on the null space."""
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def product_cut(root: Floats, cov: Floats) -> float:
    """Return the size below which eigenvalues of ``root^T cov root`` are rounding."""
    size = np.abs(root)
    return RANK_CUT * len(cov) * float(np.vecdot(size.T, size.T @ np.abs(cov)).max())


def _covariance(name: str, values: ArrayLike, dim: int) -> Floats:
    matrix = finite_array(name, values, ndim=2)
    if matrix.shape != (dim, dim):
        shape = f"({dim}, {dim})"
        raise ValueError(f"{name} must have shape {shape} like task_mean, got {matrix.shape}")
    scale, skew = np.abs(matrix).max(), np.abs(matrix - matrix.T).max()
    if skew > _ROUNDING * scale:
        raise ValueError(
            f"{name} must be symmetric, got entries that differ by {skew:.3g} from the transpose; "
            f"take ({name} + {name}.T) / 2 if that is meant"
        )
    matrix = matrix / 2 + matrix.T / 2
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest < -_ROUNDING * scale:
        raise ValueError(
            f"{name} must have no negative eigenvalue, got {smallest:.3g}; a covariance has none"
        )
    return _without_negative(matrix) if smallest < -RANK_CUT * len(matrix) * scale else matrix


def _without_negative(matrix: Floats) -> Floats:
    """Return the matrix with its negative eigenvalues set to 0: no risk may fall below 0."""
    root = covariance_root(matrix)
    return root @ root.T
