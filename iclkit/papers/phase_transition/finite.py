"""Linear attention at finite size: reduction, exact risk, equivalent, and simulation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, finite_array, generator, scalar
from iclkit.features import sample_attention_features
from iclkit.moments import (
    AttentionMoments,
    attention_moments,
    readout_error,
)
from iclkit.papers.phase_transition.theory import Traces, solve_ridge
from iclkit.prompts import TaskPool, sample_query, sphere_tasks
from iclkit.solvers import bilinear_ridge

__all__ = [
    "FiniteErrors",
    "Pretrained",
    "ReadoutLaw",
    "Sizes",
    "finite_readout",
    "finite_size",
    "population_error",
    "pretrain",
    "reduce_attention",
    "simulate",
    "sizes",
]

Floats = NDArray[np.float64]


class FiniteErrors(NamedTuple):
    """Two errors of one pretrained model: on new tasks (icl) and on pretraining tasks (idg)."""

    icl: float
    idg: float


# ------------------------------------------------------------------ one trained model


@border
def reduce_attention(value: ArrayLike, key: ArrayLike, query: ArrayLike) -> Floats:
    """Return the matrix gamma with which linear attention predicts ``x_query^T gamma v``.

    Parameters
    ----------
    value, key, query : (dim + 1, dim + 1) array_like
        Weights of ``Z + (1/l) V Z (K Z)^T (Q Z)``, where the columns of Z are the tokens
        ``(x_i, y_i)`` and ``(x_query, 0)`` and the prediction is the last entry. The last row
        of `value` must be zero up to its last entry.

    Returns
    -------
    (dim, dim + 1) array

    Raises
    ------
    ValueError
        If shapes do not match or the last row of `value` is not of that form.

    Notes
    -----
    ``gamma = V22 [M11^T / d, m21]`` with ``M = K^T Q`` in blocks; v is that of
    `iclkit.features.attention_features`.

    References
    ----------
    Lu et al. 2025.

    Examples
    --------
    >>> import numpy as np
    >>> reduce_attention(2 * np.eye(3), np.eye(3), np.eye(3))
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """
    value, key, query = (
        finite_array(name, weights, ndim=2)
        for name, weights in (("value", value), ("key", key), ("query", query))
    )
    size = len(value)
    if not value.shape == key.shape == query.shape == (size, size) or size < 2:
        raise ValueError(
            "value, key and query must be square, of equal size >= 2, "
            f"got shapes {value.shape}, {key.shape}, {query.shape}"
        )
    if np.any(value[-1, :-1] != 0):
        raise ValueError("the last row of value must be zero up to its last entry")
    scores = (key.T @ query)[:, :-1]  # (dim + 1, dim)
    scores[:-1] /= size - 1
    return value[-1, -1] * scores.T


@border
def population_error(
    gamma: ArrayLike,
    *,
    n_context: float,
    rho: float,
    task_mean: ArrayLike,
    task_moment: ArrayLike,
    gaussian: bool = False,
) -> float:
    """Return the exact error of a trained gamma on tasks with given first two moments.

    Parameters
    ----------
    gamma : (dim, dim + 1) array_like
        Readout matrix.
    n_context : float
        Labelled examples per test prompt, > 0.
    rho : float
        Label-noise variance, >= 0.
    task_mean : (dim,) array_like
        Mean test task: zero for new tasks, the pool's mean for pretraining tasks.
    task_moment : (dim, dim) array_like
        Mean of ``w w^T``: the identity for new tasks, the pool's for pretraining tasks.
    gaussian : bool, optional
        False: tasks on the sphere ``|w|^2 = dim``. True: normal tasks with these moments.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes do not match or an argument is out of its range.

    Notes
    -----
    `iclkit.moments.readout_error` of `iclkit.moments.attention_moments`. For a pool of tasks of
    different norms use `iclkit.moments.pool_moments`.

    References
    ----------
    Lu et al. 2025; normal tasks are derived here.

    Examples
    --------
    >>> import numpy as np
    >>> zero, one = np.zeros(3), np.eye(3)
    >>> population_error(one[:, :3] @ np.eye(3, 4) / 2, n_context=6, rho=0.25,
    ...                  task_mean=zero, task_moment=one)
    0.6979166666666667
    """
    rho = scalar("rho", rho)
    moments = attention_moments(
        task_mean, task_moment, n_context=n_context, noise_var=rho, gaussian=gaussian
    )
    return readout_error(gamma, moments)


# ------------------------------------------------------------------ equivalent at finite d


class ReadoutLaw(NamedTuple):
    """What ridge pretraining makes of gamma, as far as errors can tell: a mean and a spread.

    Attributes
    ----------
    mean : (dim, dim + 1) array
        The filter that pretraining is after.
    spread : (dim + 1, dim + 1) array
        Noise on top: for any fixed matrix M, ``tr gamma M gamma^T / d`` is about
        ``tr mean M mean^T / d + tr spread M``.
    idg : float
        Error on the pretraining tasks.
    kept : float
        ``penalty/xi``, the share of the residuals that survives on the pretraining prompts:
        their mean squared error is ``idg kept^2``.
    """

    mean: Floats
    spread: Floats
    idg: float
    kept: float

    @border
    def error(self, moments: AttentionMoments) -> float:
        """Return the expected error on tasks and contexts with other moments."""
        return readout_error(self.mean, moments) + float(np.sum(self.spread * moments.gram))


@border
def finite_readout(
    task_mean: ArrayLike,
    task_moment: ArrayLike,
    *,
    n_prompts: float,
    n_context: float,
    rho: float,
    penalty: float = 0.0,
) -> ReadoutLaw:
    """Return the law of gamma that a given task pool leads to at finite dimension.

    Parameters
    ----------
    task_mean : (dim,) array_like
        Mean of the pretraining tasks.
    task_moment : (dim, dim) array_like
        Their mean of ``w w^T``; tasks lie on the sphere ``|w|^2 = dim``.
    n_prompts, n_context : float
        Pretraining prompts and labelled examples in each, > 0.
    rho : float
        Label-noise variance, >= 0.
    penalty : float, optional
        Ridge lambda, >= 0; the fit adds ``(n/d) lambda |gamma|^2``.

    Returns
    -------
    ReadoutLaw

    Raises
    ------
    ValueError
        If shapes do not match, an argument is out of its range, or there are as many prompts as
        parameters, ``n_prompts = d (d + 1)``, at penalty 0 (there the errors diverge).

    Notes
    -----
    The deterministic equivalent of ridge regression on the features ``x_query (x) v``, with the
    exact moments A and C of the realised pool: with the positive eigenvalues a of A (all d + 1,
    or d for a single task without label noise, where ``w^T h = d s``),
    ``lambda = xi (1 - (d/n) sum a/(a + xi))``, ``mean = C (A + xi)^-1``,
    ``idg = e(mean) / (1 - (d/n) sum a^2/(a + xi)^2)``, ``spread = idg (d/n) A (A + xi)^-2``;
    the denominator is computed as ``lambda/xi + xi (d/n) sum a/(a + xi)^2``, without cancellation.

    References
    ----------
    New here.

    Examples
    --------
    >>> import numpy as np
    >>> law = finite_readout(np.zeros(8), np.eye(8), n_prompts=200, n_context=24, rho=0.1)
    >>> law.mean.shape, law.spread.shape
    ((8, 9), (9, 9))
    """
    n_prompts = scalar("n_prompts", n_prompts, open_=True)
    penalty, rho = scalar("penalty", penalty), scalar("rho", rho)
    pool = attention_moments(task_mean, task_moment, n_context=n_context, noise_var=rho)
    dim, (spectrum, basis) = len(pool.cross), _directions(pool.gram)
    if penalty == 0 and n_prompts == dim * len(spectrum):
        raise ValueError(
            "n_prompts must differ from d (d + 1) where penalty is 0 (from d^2 for a single task "
            f"without noise), got {n_prompts:g}: the errors diverge there; use a penalty > 0"
        )
    tau = n_prompts / dim**2
    xi = _finite_ridge(spectrum, dim, tau, penalty)
    inverse = 1.0 / (spectrum + xi)
    mean = (pool.cross @ basis * inverse) @ basis.T
    at = _spectral_traces(np.asarray(xi), spectrum, dim)
    kept = penalty / xi if penalty > 0 else max(0.0, 1.0 - len(spectrum) / n_prompts * dim)
    idg = readout_error(mean, pool) / (kept + xi * float(at.slope) / tau)
    noise = idg / (tau * dim) * spectrum * inverse**2
    return ReadoutLaw(mean, (basis * noise) @ basis.T, idg, kept)


def _directions(gram: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues and eigenvectors of the features, without directions that none has.

    What lies below ``2e-16 (d + 1)`` of the largest eigenvalue is rounding and counts as none.
    """
    spectrum, basis = np.linalg.eigh(gram)
    seen = spectrum > len(gram) * np.finfo(np.float64).eps * spectrum[-1]
    return spectrum[seen], basis[:, seen]


@border
def finite_size(
    task_mean: ArrayLike,
    task_moment: ArrayLike,
    *,
    n_prompts: float,
    n_context: float,
    rho: float,
    penalty: float = 0.0,
    n_context_test: float | None = None,
) -> FiniteErrors:
    """Return the errors that a given task pool leads to at finite dimension.

    Parameters
    ----------
    task_mean, task_moment, n_prompts, n_context, rho, penalty
        As in `finite_readout`.
    n_context_test : float, optional
        Labelled examples in each test prompt, > 0; as in pretraining if left out.

    Returns
    -------
    FiniteErrors
        On new tasks (uniform on the sphere) and on the pretraining tasks.

    Raises
    ------
    ValueError
        As `finite_readout`.

    Notes
    -----
    The errors of `finite_readout`: ``idg`` on the pool at its own context length, and anywhere
    else ``e(mean) + tr spread A_test``. Errors of order 1/d remain; those of the asymptotic
    curve are larger.

    References
    ----------
    New here.

    Examples
    --------
    >>> import numpy as np
    >>> errors = finite_size(np.zeros(8), np.eye(8), n_prompts=200, n_context=24, rho=0.1)
    >>> round(errors.idg, 6) == round(errors.icl, 6)
    True
    """
    law = finite_readout(
        task_mean, task_moment, n_prompts=n_prompts, n_context=n_context, rho=rho, penalty=penalty
    )
    length = n_context if n_context_test is None else n_context_test
    icl = law.error(_new_task_moments(len(law.mean), n_context=length, noise_var=rho))
    if n_context_test is None:
        return FiniteErrors(icl, law.idg)
    pool = attention_moments(task_mean, task_moment, n_context=length, noise_var=rho)
    return FiniteErrors(icl, law.error(pool))


def _new_task_moments(dim: int, *, n_context: float, noise_var: float) -> AttentionMoments:
    """Return the exact moments of the features for new tasks, uniform on the sphere."""
    return attention_moments(np.zeros(dim), np.eye(dim), n_context=n_context, noise_var=noise_var)


def _finite_ridge(spectrum: Floats, dim: int, tau: float, penalty: float) -> float:
    """Return the effective ridge for features with these eigenvalues."""
    size = len(spectrum) / dim
    if penalty == 0 and tau > size:
        return 0.0
    mean = float(spectrum.mean())
    return float(
        solve_ridge(
            lambda xi: _spectral_traces(xi, spectrum, dim),
            mean,
            tau=tau,
            penalty=penalty,
            size=size,
        )
    )


def _spectral_traces(xi: Floats, spectrum: Floats, dim: int) -> Traces:
    """Return the traces, divided by d, at xi."""
    inverse = 1.0 / (spectrum + xi)
    kept = spectrum * inverse
    sums = (kept.sum(), np.sum(xi * inverse), np.sum(kept * inverse))
    return Traces(*(np.asarray(part / dim) for part in sums))


# ------------------------------------------------------------------ simulation


class Sizes(NamedTuple):
    """Whole numbers behind the ratios, and the ratios that they amount to.

    Attributes
    ----------
    n_context, n_tasks, n_prompts : int
        Labelled examples per prompt, pretraining tasks, pretraining prompts.
    alpha, kappa, tau : float
        ``n_context/d``, ``n_tasks/d`` (infinite for fresh tasks) and ``n_prompts/d^2``.
    """

    n_context: int
    n_tasks: int
    n_prompts: int
    alpha: float
    kappa: float
    tau: float


@border
def sizes(d: int, alpha: float, kappa: float, tau: float) -> Sizes:
    """Return whole numbers of examples, tasks and prompts for given ratios.

    Parameters
    ----------
    d : int
        Token dimension, >= 1.
    alpha, kappa, tau : float
        Ratios, > 0; `kappa` may be infinite.

    Returns
    -------
    Sizes
        Every pool task occurs in equally many prompts, at least one.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> sizes(10, 1, 0.5, 0.52)
    Sizes(n_context=10, n_tasks=5, n_prompts=50, alpha=1.0, kappa=0.5, tau=0.5)
    """
    d = count("d", d)
    alpha = scalar("alpha", alpha, open_=True)
    tau = scalar("tau", tau, open_=True)
    kappa = scalar("kappa", kappa, open_=True, infinite=True)
    n_context, fresh = max(1, round(alpha * d)), np.isinf(kappa)
    wanted = tau * d**2
    n_tasks = max(1, round(wanted if fresh else kappa * d))
    n_prompts = n_tasks * max(1, round(wanted / n_tasks))
    effective = np.inf if fresh else n_tasks / d
    return Sizes(n_context, n_tasks, n_prompts, n_context / d, effective, n_prompts / d**2)


class Pretrained(NamedTuple):
    """A readout with everything that it was pretrained on.

    Attributes
    ----------
    gamma : (dim, dim + 1) array
        The readout.
    pool : TaskPool
        The pretraining tasks; prompt i has task number ``i % pool.n_tasks``.
    size : Sizes
        Whole numbers and the ratios that they amount to.
    x_query : (n_prompts, dim) array
        Query of each pretraining prompt.
    v : (n_prompts, dim + 1) array
        Features of its context.
    y : (n_prompts,) array
        Label of its query.
    """

    gamma: Floats
    pool: TaskPool
    size: Sizes
    x_query: Floats
    v: Floats
    y: Floats


@border
def pretrain(
    *,
    d: int,
    alpha: float,
    kappa: float,
    tau: float,
    rho: float,
    penalty: float,
    rng: np.random.Generator,
) -> Pretrained:
    """Return linear attention pretrained at finite dimension, with its tasks and prompts.

    Parameters
    ----------
    d, alpha, kappa, tau, rho, penalty, rng
        As in `simulate`; ``kappa = inf``, infinitely many tasks, draws a fresh one a prompt.

    Returns
    -------
    Pretrained

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Each pool task, uniform on the sphere of radius sqrt(d), serves equally many prompts.
    Contexts are never drawn: their features are, in O(d) per prompt.

    References
    ----------
    The pretraining of Lu et al. 2025.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> model = pretrain(d=4, alpha=5, kappa=1, tau=2, rho=0.1, penalty=0.1, rng=stream(0))
    >>> model.gamma.shape, model.v.shape, model.pool.n_tasks
    ((4, 5), (32, 5), 4)
    """
    d, size = count("d", d), sizes(d, alpha, kappa, tau)
    rho, penalty = scalar("rho", rho), scalar("penalty", penalty)
    pool = sphere_tasks(size.n_tasks, d, rng=generator(rng))
    tasks = pool.assign(size.n_prompts)
    v = sample_attention_features(tasks, n_context=size.n_context, noise_var=rho, rng=rng)
    x_query, y = sample_query(tasks, noise_var=rho, rng=rng)
    del tasks  # as large as v: makes room for the solver
    gamma = bilinear_ridge(x_query, v, y, size.n_prompts / d * penalty)
    return Pretrained(gamma, pool, size, x_query, v, y)


@border
def simulate(
    *,
    d: int,
    alpha: float,
    kappa: float,
    tau: float,
    rho: float,
    penalty: float,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return the errors of linear attention pretrained once at finite dimension.

    Parameters
    ----------
    d : int
        Token dimension, >= 1.
    alpha, kappa, tau : float
        Ratios, > 0, rounded to whole numbers by `sizes`; ``kappa = inf`` draws a fresh task for
        every prompt.
    rho : float
        Label-noise variance, >= 0.
    penalty : float
        Ridge lambda, >= 0: the fit adds ``(n/d) lambda |gamma|^2``; 0 is the minimum-norm fit.
    rng : numpy.random.Generator

    Returns
    -------
    dict of float
        ``icl, idg, train``: exact errors on new tasks and on the realised pretraining tasks,
        and the mean squared error on the pretraining prompts; ``icl_equivalent,
        idg_equivalent``: `finite_size` of the same pool; ``alpha_effective, kappa_effective,
        tau_effective``: the ratios of the whole numbers.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    A cell for sweeps: `pretrain`, then the exact `population_error` on both kinds of tasks.

    References
    ----------
    The experiment behind figures 1, 2 and 4 of Lu et al. 2025.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> errors = simulate(d=10, alpha=10, kappa=0.5, tau=2, rho=0.01, penalty=0.1, rng=stream(0))
    >>> errors["train"] < errors["idg"] < errors["icl"]
    True
    """
    model = pretrain(d=d, alpha=alpha, kappa=kappa, tau=tau, rho=rho, penalty=penalty, rng=rng)
    pool, size = model.pool, model.size
    equivalent = _pool_equivalent(pool, size, rho, penalty)
    icl, idg = _tested(model.gamma, pool, size, rho)
    residual = model.y - np.einsum("nd,nd->n", model.x_query @ model.gamma, model.v)
    return {
        "icl": icl,
        "idg": idg,
        "train": float(residual @ residual) / len(residual),
        "icl_equivalent": equivalent.icl,
        "idg_equivalent": equivalent.idg,
        "alpha_effective": size.alpha,
        "kappa_effective": size.kappa,
        "tau_effective": size.tau,
    }


def _pool_equivalent(pool: TaskPool, size: Sizes, rho: float, penalty: float) -> FiniteErrors:
    """Return the finite-size equivalent of a realised pool."""
    return finite_size(
        pool.mean,
        pool.second_moment,
        n_prompts=size.n_prompts,
        n_context=size.n_context,
        rho=rho,
        penalty=penalty,
    )


def _tested(gamma: Floats, pool: TaskPool, size: Sizes, rho: float) -> tuple[float, float]:
    """Return the exact errors on new tasks and on the pool."""
    dim = pool.dim
    icl, idg = (
        population_error(
            gamma, n_context=size.n_context, rho=rho, task_mean=mean, task_moment=moment
        )
        for mean, moment in ((np.zeros(dim), np.eye(dim)), (pool.mean, pool.second_moment))
    )
    return icl, idg
