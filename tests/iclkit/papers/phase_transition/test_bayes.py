"""Bayes baselines against brute force, direct draws and limits."""

import numpy as np
import pytest

from iclkit.papers.phase_transition import bayes, gaussian_bayes, pool_bayes
from tests.oracles import pool_posterior_by_loops
from tests.tolerances import PRINTED, SIGMAS


@pytest.mark.parametrize(
    ("alpha", "rho", "expected"),
    [(10, 0.01, 0.0111097412), (1, 0.25, 0.640388203), (2, 0.5, 0.780776406)],
)
def test_gaussian_bayes_has_its_reference_values(alpha, rho, expected):
    assert gaussian_bayes(alpha, rho) == pytest.approx(expected, rel=5 * PRINTED)


def test_gaussian_bayes_is_the_ridge_error_at_large_d(rng):  # LU-B3
    d, rho = 200, 0.25
    for alpha in (0.5, 1.0, 3.0):
        x = rng.standard_normal((round(alpha * d), d)) / np.sqrt(d)
        posterior = rho * np.trace(np.linalg.inv(x.T @ x + rho * np.eye(d))) / d
        assert gaussian_bayes(alpha, rho) == pytest.approx(rho + posterior, rel=0.02)


def test_gaussian_bayes_without_noise_misses_what_it_has_not_seen():
    assert gaussian_bayes([0.25, 1, 4], 0) == pytest.approx([0.75, 0, 0])
    assert gaussian_bayes(0.25, 1e-12) == pytest.approx(0.75)


def test_losses_without_contexts_are_those_of_drawn_contexts(rng):
    d, n_context, rho, n = 3, 5, 0.3, 4000
    pool = rng.standard_normal((4, d))
    tasks = np.stack([rng.standard_normal(d), pool[1]])
    fast = [bayes._pool_losses(tasks, pool, n_context, rho, rng) for _ in range(n)]
    slow = np.empty((n, 2))
    for row in slow:
        x = rng.standard_normal((n_context, d)) / np.sqrt(d)
        for j, task in enumerate(tasks):
            y = x @ task + np.sqrt(rho) * rng.standard_normal(n_context)
            row[j] = np.sum((task - pool_posterior_by_loops(x, y, pool, rho) @ pool) ** 2) / d
    gap = np.mean(fast, axis=0) - slow.mean(axis=0)
    stderr = np.sqrt((np.var(fast, axis=0) + slow.var(axis=0)) / n)
    assert np.max(np.abs(gap) / stderr) < SIGMAS
    assert np.max(np.abs(gap + 0.1) / stderr) > SIGMAS


def _mean(rng, **cell):
    rows = [pool_bayes(alpha=10, rho=0.01, n_contexts=60, rng=rng, **cell) for _ in range(10)]
    icl = np.array([row["icl"] for row in rows])
    return icl.mean(), icl.std(ddof=1) / np.sqrt(10), rows


@pytest.mark.parametrize(
    ("kappa", "gaussian", "measured", "stderr"),
    [(1, True, 1.382, 0.006), (4, True, 1.259, 0.005), (1, False, 1.457, 0.003)],
)
def test_the_pool_is_memorised(kappa, gaussian, measured, stderr, rng):  # LU-B1
    icl, spread, rows = _mean(rng, d=64, kappa=kappa, gaussian=gaussian)
    assert abs(icl - measured) < SIGMAS * np.hypot(spread, stderr)
    assert max(row["idg"] for row in rows) == pytest.approx(0.01, rel=1e-6)


def test_memorising_gets_worse_on_new_tasks_as_d_grows(rng):  # LU-B2
    small, large = (_mean(rng, d=d, kappa=1, gaussian=True)[:2] for d in (16, 64))
    assert large[0] - small[0] > SIGMAS * np.hypot(large[1], small[1])


def test_one_task_is_known_without_looking(rng):
    errors = pool_bayes(d=4, alpha=1, kappa=0.25, rho=0.2, n_contexts=3, rng=rng)
    assert errors["idg"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rho": 0}, ValueError, "rho must be .*> 0, got 0"),
        ({"kappa": np.inf}, ValueError, "kappa must be finite"),
        ({"alpha": -1}, ValueError, "alpha must be .*> 0"),
        ({"n_contexts": 0}, ValueError, "n_contexts must be >= 1"),
        ({"rng": None}, TypeError, "rng must be"),
    ],
)
def test_bad_input_is_named(changes, error, message):
    cell = {"d": 4, "alpha": 2, "kappa": 1, "rho": 0.1, "rng": np.random.default_rng(0)}
    with pytest.raises(error, match=message):
        pool_bayes(**(cell | changes))


def test_gaussian_bayes_names_bad_input():
    with pytest.raises(ValueError, match=r"rho must be .*>= 0"):
        gaussian_bayes(1, -1)
    with pytest.raises(ValueError, match="broadcast together"):
        gaussian_bayes([1, 2], [1, 2, 3])
