"""Leaving out prompts and tasks: against brute-force refits, and what is estimated exactly."""

import numpy as np
import pytest

from iclkit.features import sample_attention_features
from iclkit.papers import phase_transition as pt
from iclkit.prompts import sample_query, sphere_tasks
from tests.oracles import bilinear_min_norm, bilinear_ridge_obvious
from tests.tolerances import IDENTITY, ROUTES, SIGMAS

CELL = {"d": 4, "alpha": 5, "kappa": 1.5, "rho": 0.1}


def _model(rng, **changes):
    model = pt.pretrain(**(CELL | changes), rng=rng)
    data = model.x_query, model.v, model.y
    return model, data, len(model.y) / 4 * changes["penalty"]


def _refits(x, v, y, penalty, groups):
    """Residuals of as many fits as there are groups."""
    out = np.empty(len(y))
    for group in np.unique(groups):
        hidden = groups == group
        kept = x[~hidden], v[~hidden], y[~hidden]
        gamma = bilinear_ridge_obvious(*kept, penalty) if penalty > 0 else bilinear_min_norm(*kept)
        for row in np.flatnonzero(hidden):
            out[row] = y[row] - x[row] @ gamma @ v[row]
    return out


@pytest.mark.parametrize("penalty", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("tau", [0.7, 2.5])  # 12 and 40 prompts for 20 parameters
@pytest.mark.parametrize("by", ["prompt", "task"])
def test_residuals_are_those_of_refits(by, tau, penalty, rng):
    model, data, coefficient = _model(rng, tau=tau, penalty=penalty)
    task = np.arange(len(model.y)) % model.pool.n_tasks
    groups = task if by == "task" else np.arange(len(model.y))
    found = pt.leave_out(*data, coefficient, groups=task if by == "task" else None)
    want = _refits(*data, coefficient, groups)
    assert found.residual == pytest.approx(want, rel=ROUTES, abs=ROUTES * np.abs(want).max())
    assert found.error == pytest.approx(np.mean(want**2), rel=ROUTES)


@pytest.mark.parametrize("tau", [0.7, 2.5])
def test_groups_of_one_prompt_are_prompts(tau, rng):
    model, data, coefficient = _model(rng, tau=tau, penalty=0.1)
    singly = pt.leave_out(*data, coefficient)
    grouped = pt.leave_out(*data, coefficient, groups=np.arange(len(model.y))[::-1])
    assert grouped.residual == pytest.approx(singly.residual, rel=1e-9)
    assert grouped.gcv == pytest.approx(singly.gcv, rel=IDENTITY)


@pytest.mark.parametrize("n", [12, 40])
def test_groups_are_told_apart_by_all_their_digits(n, rng):
    data = rng.standard_normal((n, 4)), rng.standard_normal((n, 5)), rng.standard_normal(n)
    task = rng.permutation(n) % 5
    want = _refits(*data, 0.5, task)
    for numbers in (task, 2**60 - 7 * task, task > 1):
        same = want if len(np.unique(numbers)) > 2 else _refits(*data, 0.5, numbers)
        found = pt.leave_out(*data, 0.5, groups=numbers).residual
        assert found == pytest.approx(same, rel=ROUTES)


@pytest.mark.parametrize("n", [19, 20, 21, 600])  # both routes, on both sides; several blocks
def test_both_routes_agree_with_the_hat_matrix(n, rng):
    x, v = rng.standard_normal((n, 4)), rng.standard_normal((n, 5))
    y, penalty = rng.standard_normal(n), 0.3
    H = np.einsum("ni,nj->nij", x, v).reshape(n, -1)
    hat = H @ np.linalg.solve(H.T @ H + penalty * np.eye(20), H.T)
    left, fitted = 1 - np.diag(hat), y - hat @ y
    found = pt.leave_out(x, v, y, penalty)
    assert found.residual == pytest.approx(fitted / left, rel=1e-9)
    assert found.gcv == pytest.approx(np.mean(fitted**2) / np.mean(left) ** 2, rel=1e-9)


@pytest.mark.parametrize("m", [2, 5])  # 3 prompts for 2 and for 5 parameters
def test_a_small_ridge_determines_a_refit(m):
    v = np.eye(m)[[0, 0, 1]]
    alone = pt.leave_out(np.ones((3, 1)), v, np.ones(3), 1e-10)
    assert alone.residual == pytest.approx([0, 0, 1], abs=1e-9)


def test_gcv_undoes_the_shrinkage_of_the_training_error(rng):
    cell = {"d": 30, "alpha": 10, "kappa": 2, "tau": 1.5, "rho": 0.1, "penalty": 0.1}
    model = pt.pretrain(**cell, rng=rng)
    law = pt.finite_readout(
        model.pool.mean,
        model.pool.second_moment,
        n_prompts=len(model.y),
        n_context=300,
        rho=0.1,
        penalty=0.1,
    )
    residual = model.y - np.einsum("nd,nd->n", model.x_query @ model.gamma, model.v)
    gcv = pt.leave_out(model.x_query, model.v, model.y, len(model.y) / 30 * 0.1).gcv
    # The trace of the hat matrix is that of the equivalent up to order 1/d.
    assert gcv == pytest.approx(np.mean(residual**2) / law.kept**2, rel=0.03)


# ------------------------------------------------------------------ what is estimated


def _draw(pool, n, rng, tasks=None):
    tasks = pool.draw(n, rng=rng) if tasks is None else tasks
    v = sample_attention_features(tasks, n_context=20, noise_var=0.1, rng=rng)
    x, y = sample_query(tasks, noise_var=0.1, rng=rng)
    return x, v, y


@pytest.mark.parametrize("n", [10, 40])
def test_leaving_out_a_prompt_is_unbiased_for_the_pool(n, rng):
    off = []
    for _ in range(600):
        pool = sphere_tasks(3, 4, rng=rng)
        data = _draw(pool, n, rng)
        rest = bilinear_ridge_obvious(*(part[1:] for part in data), 0.5)
        tasks = {"task_mean": pool.mean, "task_moment": pool.second_moment}
        exact = pt.population_error(rest, n_context=20, rho=0.1, **tasks)
        off.append(pt.leave_out(*data, 0.5).error - exact)
    assert abs(np.mean(off)) < SIGMAS * np.std(off, ddof=1) / np.sqrt(len(off))
    assert SIGMAS * np.std(off) / np.sqrt(len(off)) < 0.15  # the gap to new tasks is larger


@pytest.mark.parametrize("n", [12, 40])
def test_leaving_out_a_task_is_unbiased_for_new_tasks(n, rng):  # LU-X6
    off, gap = [], []
    new = {"task_mean": np.zeros(4), "task_moment": np.eye(4)}
    for _ in range(600):
        pool = sphere_tasks(4, 4, rng=rng)
        data = _draw(pool, n, rng, pool.assign(n))
        task = np.arange(n) % 4
        rest = bilinear_ridge_obvious(*(part[task > 0] for part in data), 0.5)
        exact = pt.population_error(rest, n_context=20, rho=0.1, **new)
        off.append(pt.leave_out(*data, 0.5, groups=task).error - exact)
        gap.append(exact - pt.leave_out(*data, 0.5).error)
    error = np.std(off, ddof=1) / np.sqrt(len(off))
    assert abs(np.mean(off)) < SIGMAS * error
    assert np.mean(gap) > 2 * SIGMAS * error  # leaving out prompts would not pass


# ------------------------------------------------------------------ bad input


def test_integer_arrays_work():
    found = pt.leave_out([[1], [2]], [[1], [1]], [1, 2], 1, groups=np.array([3, 7]))
    assert found.residual == pytest.approx([1 - 4 / 5, 2 - 1], rel=IDENTITY)


ONES = np.ones((4, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pt.leave_out(ONES, ONES, np.ones(3), 1), "numbers of rows must agree"),
        (lambda: pt.leave_out(ONES, ONES, np.ones(4), -1), "penalty must be .*>= 0, got -1"),
        (lambda: pt.leave_out(ONES, ONES, np.full(4, np.nan), 1), "y must be finite"),
        (lambda: pt.leave_out(ONES, ONES, np.ones(4), 1, groups=[0, 1]), "one number per prompt"),
        (lambda: pt.leave_out(ONES, ONES, np.ones(4), 1, groups=np.ones(4)), "at least two"),
        (lambda: pt.leave_out([[1]], [[1]], [1], 1), "no prompt is left to fit"),
        # equal prompts without ridge: the kernel is singular
        (
            lambda: pt.leave_out(np.ones((3, 2)), np.ones((3, 2)), np.ones(3), 0),
            "a refit is not determined",
        ),
        # two of three prompts hold the only information about a direction
        (
            lambda: pt.leave_out(
                np.ones((6, 1)),
                np.eye(2)[[0, 0, 0, 0, 1, 1]],
                np.ones(6),
                0,
                groups=[0, 0, 1, 1, 2, 2],
            ),
            "a refit is not determined",
        ),
        (
            lambda: pt.leave_out(np.ones((3, 1)), np.eye(2)[[0, 0, 1]], np.ones(3), 0),
            "a refit is not determined",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
