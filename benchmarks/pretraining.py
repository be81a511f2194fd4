"""Pretraining of linear attention: the solver, the sampler, leaving prompts out, the theory."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.large import pretraining_data
from benchmarks.rows import Compared, relative_difference, sample_deviation, side_by_side
from benchmarks.timing import Calls, interleaved
from iclkit.features import sample_attention_features
from iclkit.papers.phase_transition import effective_ridge, learning_curve, leave_out
from iclkit.prompts import sphere_tasks
from iclkit.rng import stream
from iclkit.solvers import bilinear_ridge
from tests.oracles import bilinear_ridge_obvious, effective_ridge_scalar, sample_features_brute

REFITS = 5  # refits without a prompt that are compared and timed; all are what is asked for


def solver_against_features(dim: int, tau: float, *, repeats: int, threads: int) -> Compared:
    """Compare the ridge solver with forming all features and their Gram matrix."""
    data = pretraining_data(dim, tau)
    calls: Calls = {
        "ours": lambda: bilinear_ridge(*data),
        "obvious": lambda: bilinear_ridge_obvious(*data),
    }
    return side_by_side(calls, repeats=repeats, threads=threads)


def sampler_against_contexts(dim: int, repeats: int) -> Compared:
    """Compare the features' sampler with drawing every context, whose moments must agree."""
    tasks = sphere_tasks(20 * dim, dim, rng=stream(0, "sampler")).tasks

    def run(sample: Callable[..., Any], name: str) -> Callable[[], Any]:
        return lambda: sample(tasks, n_context=10 * dim, noise_var=0.01, rng=stream(0, name))

    calls = {
        "ours": run(sample_attention_features, "features"),
        "obvious": run(sample_features_brute, "contexts"),
    }
    times = interleaved(calls, repeats=repeats, warm_up=calls["ours"])
    moments = [feature_moments(times[name].result, tasks) for name in ("ours", "obvious")]
    return Compared(
        times["ours"].seconds, times["obvious"].seconds, sigmas=sample_deviation(*moments)
    )


def feature_moments(features: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    """Return statistics of the features of each prompt, (n, 4)."""
    h, s = features[:, :-1], features[:, -1]
    along = np.einsum("nd,nd->n", h, tasks)
    return np.column_stack([along, np.einsum("nd,nd->n", h, h), s, s**2])


def left_out_against_refits(dim: int, repeats: int) -> Compared:
    """Compare all residuals of prompts left out with refits, timed for `REFITS` and scaled."""
    x, v, y, penalty = pretraining_data(dim, 0.5)

    def refits() -> np.ndarray:
        rows = [np.arange(len(y)) != out for out in range(REFITS)]
        gammas = [bilinear_ridge(x[kept], v[kept], y[kept], penalty) for kept in rows]
        fitted = [x[out] @ gamma @ v[out] for out, gamma in enumerate(gammas)]
        return y[:REFITS] - np.array(fitted)

    calls: Calls = {
        "ours": lambda: leave_out(x, v, y, penalty).residual,
        "obvious": refits,
    }
    times = interleaved(calls, repeats=repeats, warm_up=calls["ours"])
    scaled = times["obvious"].seconds * len(y) / REFITS
    difference = relative_difference(times["ours"].result[:REFITS], times["obvious"].result)
    return Compared(times["ours"].seconds, scaled, difference)


def theory_against_searches(n_points: int, n_roots: int, repeats: int) -> Compared:
    """Compare the asymptotic errors with a loop of scalar root searches, both per point."""
    points = theory_points(n_points)
    few = [axis[:n_roots] for axis in points]
    calls: Calls = {
        "ours": lambda: learning_curve(*points),
        "obvious": lambda: [effective_ridge_scalar(*point) for point in zip(*few, strict=True)],
    }
    times = interleaved(calls, repeats=repeats, warm_up=calls["ours"])
    difference = relative_difference(effective_ridge(*few), np.array(times["obvious"].result))
    ours, obvious = times["ours"].seconds / n_points, times["obvious"].seconds / n_roots
    return Compared(ours, obvious, difference)


def theory_points(n_points: int) -> list[np.ndarray]:
    """Return alpha, kappa, tau, rho, penalty over many orders of magnitude."""
    rng = stream(0, "theory")
    ranges = [(-1, 3), (-1, 2), (-1, 2), (-3, 0), (-6, 1)]
    return [10 ** rng.uniform(*ends, n_points) for ends in ranges]
