"""Order parameters: definition, theory, limits, simulation."""

import numpy as np
import pytest

from iclkit.papers import phase_transition as pt
from iclkit.prompts import sphere_tasks
from tests.tolerances import IDENTITY, SIGMAS

CELL = {"d": 20, "alpha": 10, "tau": 3, "rho": 0.01, "penalty": 1e-6}


def test_definition_by_loops(rng):
    d = 5
    gamma, pool = rng.standard_normal((d, d + 1)), sphere_tasks(3, d, rng=rng)
    order = pt.alignment(gamma, pool.second_moment, n_context=15, rho=0.2)
    filtered = np.zeros((d, d))
    for value, axis in zip(*_eigen(pool.second_moment), strict=True):
        filtered += value / (value + 1.2 * d / 15) * np.outer(axis, axis)
    for name, ideal in (("memory", filtered), ("learning", np.eye(d))):
        overlap = sum(gamma[i, j] * ideal[i, j] for i in range(d) for j in range(d))
        lengths = np.linalg.norm(gamma[:, :d]) * np.linalg.norm(ideal)
        assert getattr(order, name) == pytest.approx(overlap / lengths, rel=IDENTITY)
    assert order.power == pytest.approx(np.sum(gamma[:, :d] ** 2) / d, rel=IDENTITY)


def _eigen(moment):
    values, axes = np.linalg.eigh(moment)
    return values, axes.T


def test_the_two_ideals_have_cosine_one(rng):
    moment = sphere_tasks(3, 6, rng=rng).second_moment
    x = 1.1 * 6 / 20
    memorised = np.column_stack([moment @ np.linalg.inv(moment + x * np.eye(6)), np.ones(6)])
    at = {"n_context": 20, "rho": 0.1}
    assert pt.alignment(memorised, moment, **at).memory == pytest.approx(1, rel=IDENTITY)
    assert pt.alignment(3 * np.eye(6, 7), moment, **at).learning == pytest.approx(1, rel=IDENTITY)


def test_with_fresh_tasks_both_order_parameters_agree():
    order = pt.alignment_curve([1, 10], np.inf, [0.5, 2], 0.1)
    assert order.memory == pytest.approx(order.learning, rel=IDENTITY)


def test_with_endless_data_memory_is_perfect():
    order = pt.alignment_curve(10, [0.3, 1, 3], np.inf, 0.1)
    assert order.memory == pytest.approx([1, 1, 1], rel=IDENTITY)


def test_learning_tends_to_the_root_of_the_diversity():
    kappa = np.array([0.2, 0.5, 0.9, 1.1, 3])
    order = pt.alignment_curve(1e6, kappa, np.inf, 0.1)
    assert order.learning**2 == pytest.approx(np.minimum(kappa, 1), abs=1e-5)


@pytest.mark.parametrize(("tau", "penalty"), [(0.5, 0.0), (2, 0.0), (1, 0.1)])
def test_learning_is_the_error_of_the_best_multiple(tau, penalty):
    x, kappa, rho = 1.1 / 10, 0.7, 0.1
    order = pt.alignment_curve(10, kappa, tau, rho, penalty)
    kept = order.learning * np.sqrt(order.power)  # (1/d) tr gamma
    scales = np.linspace(0, 3, 30001)
    errors = 1 + rho - 2 * scales * kept + scales**2 * (1 + x) * order.power
    assert errors.min() == pytest.approx(1 + rho - order.learning**2 / (1 + x), abs=1e-8)
    icl = pt.learning_curve(10, kappa, tau, rho, penalty).icl
    assert 1 + rho - 2 * kept + (1 + x) * order.power == pytest.approx(icl, rel=IDENTITY)


@pytest.mark.parametrize(("kappa", "tau", "penalty"), [(0.5, 3, 0.0), (2, 0.5, 0.0), (1, 1, 0.2)])
def test_the_finite_equivalent_tends_to_the_theory(kappa, tau, penalty, rng):
    theory, d = pt.alignment_curve(10, kappa, tau, 0.1, penalty), 400
    pool = sphere_tasks(int(kappa * d), d, rng=rng)
    sizes = {"n_prompts": tau * d**2, "n_context": 10 * d}
    found = pt.finite_alignment(pool.mean, pool.second_moment, **sizes, rho=0.1, penalty=penalty)
    assert found == pytest.approx(tuple(theory), rel=0.02)  # terms of order 1/d, up to 6/d


def test_the_finite_power_leaves_out_the_last_column(rng):
    pool = sphere_tasks(3, 5, rng=rng)
    at = {"n_prompts": 40, "n_context": 15, "rho": 0.1, "penalty": 0.1}
    order = pt.finite_alignment(pool.mean, pool.second_moment, **at)
    law = pt.finite_readout(pool.mean, pool.second_moment, **at)
    power = sum(law.spread[j, j] + sum(law.mean[i, j] ** 2 for i in range(5)) / 5 for j in range(5))
    assert order.power == pytest.approx(power, rel=IDENTITY)
    assert order.learning == pytest.approx(np.trace(law.mean) / 5 / power**0.5, rel=IDENTITY)


@pytest.mark.parametrize(("kappa", "memory", "learning"), [(0.5, 0.82, 0.57), (2, 0.95, 0.94)])
def test_simulation_has_its_reference_values(kappa, memory, learning, rng):  # LU-X4
    cell = CELL | {"d": 40, "kappa": kappa}
    found = np.array([_simulated(cell, rng)[0] for _ in range(10)])[:, :2]
    error = found.std(axis=0, ddof=1) / np.sqrt(10)
    # Two printed digits, from few repetitions of another run.
    assert np.all(np.abs(found.mean(axis=0) - [memory, learning]) < 0.005 + SIGMAS * 1.5 * error)


@pytest.mark.parametrize("kappa", [0.2, 1, 5])
def test_simulation_is_near_the_finite_size_equivalent(kappa, rng):  # LU-X4
    runs = np.array([_simulated(CELL | {"kappa": kappa}, rng) for _ in range(40)])
    ratio = (runs[:, 0] / runs[:, 1] - 1)[:, :2]
    error = ratio.std(axis=0, ddof=1) / np.sqrt(len(ratio))
    assert np.all(np.abs(ratio.mean(axis=0)) < 0.03 + SIGMAS * error)  # 0.6/d, as in the ledger


def _simulated(cell, rng):
    model = pt.pretrain(**cell, rng=rng)
    moment, at = model.pool.second_moment, {"n_context": model.size.n_context, "rho": cell["rho"]}
    found = pt.alignment(model.gamma, moment, **at)
    at |= {"n_prompts": model.size.n_prompts, "penalty": cell["penalty"]}
    return found, pt.finite_alignment(model.pool.mean, moment, **at)


# ------------------------------------------------------------------ bad input


def test_integer_arrays_work():
    whole = pt.alignment(np.eye(2, 3, dtype=int), [[2, 0], [0, 0]], n_context=4, rho=0)
    assert whole.memory == pytest.approx(np.sqrt(0.5), rel=IDENTITY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pt.alignment(np.eye(2), np.eye(2), n_context=4, rho=0), r"shape \(2, 3\), got"),
        (lambda: pt.alignment(np.zeros((2, 3)), np.eye(2), n_context=4, rho=0), "not be zero"),
        (lambda: pt.alignment(np.eye(2, 3), np.ones((2, 3)), n_context=4, rho=0), "must be square"),
        (
            lambda: pt.alignment(np.eye(2, 3), np.zeros((2, 2)), n_context=4, rho=0),
            "task_moment must not be zero",
        ),
        (lambda: pt.alignment(np.eye(2, 3), np.eye(2), n_context=0, rho=0), "n_context must be"),
        (lambda: pt.alignment(np.eye(2, 3), np.eye(2), n_context=4, rho=-1), "rho must be"),
        (lambda: pt.alignment_curve(1, 0, 2, 0.1), "kappa must be > 0"),
        (lambda: pt.alignment_curve(1, 1, 1, 0.1), "tau must not be 1"),
        (
            lambda: pt.finite_alignment(np.zeros(2), np.eye(2), n_prompts=6, n_context=4, rho=0),
            r"n_prompts must differ from d \(d \+ 1\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
