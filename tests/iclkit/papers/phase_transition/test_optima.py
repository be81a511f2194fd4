"""Best context lengths and penalties: reference values, monotony under tuning, the map."""

import numpy as np
import pytest

from iclkit.papers import phase_transition as pt
from tests.tolerances import MINIMUM, PRINTED


@pytest.mark.parametrize(
    ("kappa", "tau", "rho", "error", "alpha", "value"),
    [
        (0.2, 0.5, 0.1, "icl", 2.3083545, 1.38966109),
        (0.4, 0.5, 0.1, "icl", 5.4655794, 1.26670395),
        (0.5, 0.5, 0.1, "icl", 9.60314, 1.17594718),
        (0.25, 20, 0.5, "icl", 4.6754529, 1.41478284),
        (0.75, 20, 0.5, "icl", 16.726222, 0.969170119),
        (1, 20, 0.5, "icl", 44.99839, 0.759680135),
        (0.3, 0.5, 0.5, "idg", 6.1524591, 1.49647595),
    ],
)
def test_best_context_has_its_reference_values(kappa, tau, rho, error, alpha, value):  # LU-N2
    best = pt.best_context(kappa, tau, rho, error)
    assert best.alpha == pytest.approx(alpha, rel=MINIMUM)
    assert best.value == pytest.approx(value, rel=1e-8)  # printed to 9 digits


def test_best_context_is_a_minimum_nearby(rng):
    kappa, tau, rho = rng.uniform(0.1, 0.9, 50), rng.uniform(1.1, 30, 50), rng.uniform(0.01, 1, 50)
    best = pt.best_context(kappa, tau, rho)
    assert np.all(np.isfinite(best.alpha))
    for factor in (0.99, 1.01):
        assert np.all(pt.learning_curve(best.alpha * factor, kappa, tau, rho).icl > best.value)


def test_best_context_of_a_falling_error_is_infinite():
    best = pt.best_context([0.2, 1.5, np.inf], 0.5, 0.1)
    assert best.alpha[1:].tolist() == [np.inf, np.inf]
    assert best.value[1:] == pytest.approx(pt.learning_curve(1e12, [1.5, np.inf], 0.5, 0.1).icl)
    assert best.alpha[0] == pt.best_context(0.2, 0.5, 0.1).alpha


def test_best_context_of_a_rising_error_is_zero():
    best = pt.best_context(0.334, 3.07, 9.67)
    assert best.alpha == 0
    assert best.value == pytest.approx(9.67 * (1 + 1 / 9.67) * 3.07 / 2.07)
    rise = np.diff(pt.learning_curve(np.logspace(-3, 6, 50), 0.334, 3.07, 9.67).icl)
    assert np.all(rise > 0)


def test_best_context_passes_over_a_first_rise():
    start = pt.learning_curve([1e-3, 1e-2], 0.25, 20, 0.5).icl
    assert start[1] > start[0]  # the error rises before it falls
    assert pt.best_context(0.25, 20, 0.5).alpha > 1


# ------------------------------------------------------------------ ridge


@pytest.mark.parametrize(
    ("kappa", "error", "penalty", "value"),
    [
        (0.5, "icl", 0.229608, 0.643367468),
        (0.5, "idg", 0.100742, 0.113722888),
        (2, "icl", 0.120038, 0.412258443),
        (2, "idg", 0.124982, 0.286763848),
    ],
)
def test_best_penalty_has_its_reference_values(kappa, error, penalty, value):
    best = pt.best_penalty(10, kappa, 1, 0.01, error)
    assert best.penalty == pytest.approx(penalty, abs=6e-7)  # printed to 6 decimals
    assert best.value == pytest.approx(value, abs=6e-10)


def test_best_penalty_at_fresh_tasks_is_the_closed_form():  # LU-T4
    # at tau = 100 the gain is 2e-5 of the error
    alpha, tau = np.array([10, 2, 50.0, 10]), np.array([0.9, 3, 0.3, 100])
    rho = np.array([0.01, 0.2, 0.05, 0.1])
    best = pt.best_penalty(alpha, np.inf, tau, rho)
    assert best.penalty == pytest.approx(pt.fresh_task_penalty(alpha, tau, rho), rel=MINIMUM)
    assert best.penalty * 1.001 != pytest.approx(
        pt.fresh_task_penalty(alpha, tau, rho), rel=MINIMUM
    )


@pytest.mark.parametrize("error", ["icl", "idg"])
def test_no_other_penalty_does_better(error, rng):
    spans = [(-2, 4), (-1, 1), (-1, 1), (-2, 0)]
    ratios = [10 ** rng.uniform(low, high, 300) for low, high in spans]
    best = pt.best_penalty(*ratios, error)
    assert getattr(pt.learning_curve(*ratios, best.penalty), error) == pytest.approx(best.value)
    for factor in (0, 0.01, 0.9, 1.1, 100):
        other = getattr(pt.learning_curve(*ratios, best.penalty * factor), error)
        assert np.all(other >= best.value * (1 - 1e-12))


def test_no_penalty_is_best_for_old_tasks_with_infinite_data():
    best = pt.best_penalty(10, 0.5, np.inf, 0.01, "idg")
    assert best.penalty == 0
    assert best.value == pytest.approx(pt.infinite_data(10, 0.5, 0.01).idg, rel=PRINTED)


@pytest.mark.parametrize("error", ["icl", "idg"])
def test_tuned_errors_fall_with_context_and_data(error):  # LU-N4, part of the grid
    kappa = np.array([0.1, 0.5, 1.1, 8])[:, None, None]
    other, rho = np.array([0.3, 1.5, 10])[:, None], 0.1
    along_alpha = pt.best_penalty(np.logspace(-1, 3, 24), kappa, other, rho, error).value
    along_tau = pt.best_penalty(other, kappa, np.logspace(-1.5, 1.5, 24), rho, error).value
    assert np.all(np.diff(along_alpha, axis=-1) < 0)
    assert np.all(np.diff(along_tau, axis=-1) < 0)


# ------------------------------------------------------------------ map


@pytest.mark.parametrize(
    ("tau", "error", "whole", "below", "above"),
    [
        (0.5, "icl", 0.4670, 1.0, 0.33),
        (0.5, "idg", 0.4957, 0.737, 0.43),
        (20.0, "icl", 0.5975, 1.0, 0.27),
    ],
)
def test_fractions_of_the_map(tau, error, whole, below, above):  # LU-N3 on every 8th row and column
    kappa, rho = np.linspace(0.1, 2.1, 401)[4::8], np.linspace(0.01, 1, 300)[4::8, None]
    found = np.isfinite(pt.context_map(kappa, tau, rho, error))
    left = np.broadcast_to(kappa < min(tau, 1), found.shape)
    # One column of the 50 is 2 %: a boundary is off by half of that at most.
    assert found.mean() == pytest.approx(whole, abs=0.01)
    assert found[left].mean() == pytest.approx(below, abs=0.02)
    assert found[~left].mean() == pytest.approx(above, abs=0.02)


def test_the_map_agrees_with_the_search_up_to_its_grid():
    kappa, rho = np.array([0.15, 0.3, 0.45]), np.array([[0.1], [0.5]])
    found, best = pt.context_map(kappa, 0.5, rho), pt.best_context(kappa, 0.5, rho)
    assert np.log(found) == pytest.approx(np.log(best.alpha), abs=np.log(1e5) / 499)


def test_the_map_finds_the_first_minimum_of_a_curve_by_loops():
    alphas = np.logspace(-2, 3, 500)
    for kappa, tau, rho in [(0.3, 0.5, 0.2), (0.25, 20, 0.5), (1.5, 0.5, 0.1)]:
        curve = pt.learning_curve(alphas, kappa, tau, rho).icl
        fallen, expected = False, np.nan
        for i in range(499):
            fallen = fallen or curve[i + 1] < curve[i] - 1e-5
            if fallen and curve[i + 1] > curve[i] + 1e-5:
                expected = alphas[i]
                break
        # Between the last clear fall and the first clear rise the least value may be earlier.
        assert pt.context_map(kappa, tau, rho) == pytest.approx(expected, rel=0.05, nan_ok=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pt.best_context(0.5, 1, 0.1), "tau must not be 1"),
        (lambda: pt.best_context(0, 2, 0.1), "kappa must be > 0"),
        (lambda: pt.best_context(0.5, 2, 0.1, "new"), "error must be one of icl, idg, got 'new'"),
        (lambda: pt.best_penalty(1, 0.5, 2, 0.1, "new"), "error must be one of icl, idg"),
        (lambda: pt.best_penalty(1, 0.5, 2, -0.1), "rho must be"),
        (lambda: pt.context_map(0.5, 2, 0.1, alphas=[2, 1]), "alphas must be an increasing"),
        (lambda: pt.context_map([1, 2], 2, [1, 2, 3]), "broadcast together"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
