"""Closed forms and limits against the errors at extreme ratios."""

import numpy as np
import pytest

from iclkit.papers import phase_transition as pt
from tests.tolerances import IDENTITY, PRINTED

FAR = 1e7


def test_fresh_tasks_have_their_reference_values():
    tau, value = pt.fresh_task_dip(10, 0.01)
    assert (tau, value) == pytest.approx((0.665321049, 0.607954497), rel=PRINTED)
    penalty = pt.fresh_task_penalty(10, 0.9, 0.01)
    assert penalty == pytest.approx(0.137025567, rel=3e-9)  # printed to 9 digits
    assert pt.fresh_task_error(10, 0.9, 0.01, penalty) == pytest.approx(0.400306829, rel=PRINTED)


def test_the_dip_is_a_minimum_and_vanishes_where_noise_wins():
    tau, value = pt.fresh_task_dip([10, 1.0304, 1.03], 0.01)
    assert np.isnan(tau[2])
    assert np.isnan(value[2])
    around = pt.fresh_task_error(10, tau[0] + np.array([-1e-3, 0, 1e-3]), 0.01)
    assert around[1] == pytest.approx(value[0], rel=IDENTITY)
    assert around[1] < min(around[0], around[2])


def test_the_best_ridge_at_fresh_tasks_is_a_minimum():
    penalty = pt.fresh_task_penalty(5, 0.7, 0.2) * np.array([0.99, 1, 1.01])
    errors = pt.fresh_task_error(5, 0.7, 0.2, penalty)
    assert errors.argmin() == 1


@pytest.mark.parametrize("kappa", [0.3, 2, np.inf])
def test_short_contexts_cost_the_noise_of_fitting(kappa):
    tau = np.array([0.3, 0.8, 1.2, 5])
    curve = pt.learning_curve(1e-9, kappa, tau, 0.2)
    assert curve.icl == pytest.approx(pt.short_context(tau, 0.2), rel=1e-7)
    assert curve.idg == pytest.approx(pt.short_context(tau, 0.2), rel=1e-7)


@pytest.mark.parametrize("tau", [0.6, 3.0, np.inf])
@pytest.mark.parametrize("kappa", [0.3, 0.7, 2, np.inf])
@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_long_contexts_reach_their_limits(kappa, tau, rho):  # LU-N1
    limit, curve = pt.long_context(kappa, tau, rho), pt.learning_curve(FAR, kappa, tau, rho)
    assert curve.idg == pytest.approx(limit.idg, abs=1e-5)
    assert curve.icl / FAR == pytest.approx(limit.icl_slope, abs=1e-6, rel=1e-4)
    if np.isfinite(limit.icl):
        assert curve.icl == pytest.approx(limit.icl, abs=1e-5)


@pytest.mark.parametrize(("tau", "kappa"), [(0.6, 0.3), (0.6, 0.7), (3, 0.3), (3, 2)])
def test_the_error_on_new_tasks_grows_with_alpha_below_the_line_only(tau, kappa):  # LU-N1
    limit = pt.long_context(kappa, tau, 0.05)
    assert np.isinf(limit.icl) == (kappa < min(tau, 1)) == (limit.icl_slope > 0)


def test_the_slope_in_alpha_has_its_reference_value():
    assert pt.long_context(0.3, 0.6, 0.05).icl_slope == pytest.approx(0.0357142857, rel=PRINTED)


def test_on_the_line_the_error_diverges_more_slowly():
    limit, root = pt.long_context(1, 2, 0.1), np.sqrt([1e8, 1e10])
    assert (limit.icl, limit.icl_slope) == (np.inf, 0)
    growth = pt.learning_curve(root**2, 1, 2, 0.1).icl / root
    assert growth[0] == pytest.approx(growth[1], rel=1e-3)


def test_infinite_data_is_the_curve_at_infinite_tau():
    alpha, kappa = np.logspace(-2, 4, 13)[:, None], np.array([0.1, 1, 5, np.inf])
    errors = pt.infinite_data(alpha, kappa, 0.1)
    curve, late = (pt.learning_curve(alpha, kappa, tau, 0.1) for tau in (np.inf, 1e12))
    assert errors.icl == pytest.approx(curve.icl, rel=IDENTITY)
    assert errors.idg == pytest.approx(curve.idg, rel=IDENTITY)
    assert errors.icl == pytest.approx(late.icl, rel=1e-7)


def test_the_divergence_is_the_same_from_both_sides():
    strength = pt.peak_amplitude(10, 0.5, 0.01)
    for side in (-1e-7, 1e-7):
        curve = pt.learning_curve(10, 0.5, 1 + side, 0.01)
        assert curve.icl * abs(side) == pytest.approx(strength.icl, rel=1e-5)
        assert curve.idg * abs(side) == pytest.approx(strength.idg, rel=1e-5)


# ------------------------------------------------------------------ task diversity


@pytest.mark.parametrize(
    ("alpha", "kappa", "gap"),
    [
        (10, 0.5, 0.502563574),
        (10, 1, 0.145383323),
        (10, 2, 0.0234388940),
        (100, 1, 0.0497276242),
        (1000, 0.9, 0.100542610),
    ],
)
def test_the_task_gap_has_its_reference_values(alpha, kappa, gap):
    assert pt.task_gap(alpha, kappa, 0.01) == pytest.approx(gap, rel=5e-9)  # 9 digits printed
    assert pt.task_gap(alpha, kappa, 0.01) * (1 + 1e-7) != pytest.approx(gap, rel=5e-9)


@pytest.mark.parametrize(
    ("alpha", "gaps"),
    [
        (6, [1.774164, 1.720513, 0.985320, 0.063506, 0.012135]),
        (10, [1.030604, 0.778764, 0.309017, 0.010851, 0.002019]),
        (40, [0.867634, 0.563370, 0.099845, 0.000669, 0.000121]),
    ],
)
def test_theory_of_figure_4(alpha, gaps):
    curve = pt.learning_curve(alpha, [0.2, 0.5, 1, 10, 50], 0.2 * alpha, 0.01)
    assert curve.icl - curve.idg == pytest.approx(gaps, abs=6e-7)  # printed to 6 decimals


def test_the_task_gap_is_the_difference_of_the_errors(rng):  # LU-P1
    alpha, kappa, rho = (
        10 ** rng.uniform(low, high, 500) for low, high in [(-1, 3), (-1, 1), (-2, 0)]
    )
    errors = pt.infinite_data(alpha, kappa, rho)
    gap = pt.task_gap(alpha, kappa, rho)
    assert gap == pytest.approx(errors.icl - errors.idg, rel=1e-9, abs=1e-13)  # which cancels
    assert np.all(gap > 0)
    assert pt.task_gap(10, np.inf, 0.01) == 0


def test_the_task_gap_for_long_contexts_is_the_missing_share_of_tasks():  # LU-P1
    gap = pt.task_gap(1e6, [0.2, 0.5, 0.9, 1.5], 0.01)
    assert gap == pytest.approx([0.8, 0.5, 0.1, 0], abs=1e-6)


def test_the_task_gap_decays_as_the_square_of_alpha_above_the_transition():
    kappa, x = 2.0, 1.01e-5
    rate = kappa**3 / (kappa - 1) ** 3 - kappa / (kappa - 1)
    assert pt.task_gap(1e5, kappa, 0.01) == pytest.approx(x**2 * rate, rel=1e-3)


def test_the_task_gap_at_the_transition_scales():  # LU-P2
    x = 1.01e-6
    gap = pt.task_gap(1e6, 1, 0.01)
    assert gap == pytest.approx(0.000502493, abs=6e-10)
    assert gap == pytest.approx(np.sqrt(x) * pt.task_gap_scaling(0), rel=1e-4)


@pytest.mark.parametrize(("alpha", "worst"), [(1e3, 0.14), (1e4, 0.044), (1e6, 0.0044)])
def test_the_task_gap_collapses_on_the_scaling_function(alpha, worst):
    s, x = np.linspace(-2, 2, 41), 1.01 / alpha
    collapsed = pt.task_gap(alpha, 1 + s * np.sqrt(x), 0.01) / np.sqrt(x)
    deviation = np.abs(collapsed / pt.task_gap_scaling(s) - 1).max()
    assert deviation == pytest.approx(worst, rel=0.03)  # stated to two digits


def test_the_task_gap_when_contexts_grow_with_the_data():  # LU-P3
    curve = pt.learning_curve(1e6, [0.5, 2], 0.2e6, 0.01)
    limit = pt.long_context_gap([0.5, 2], 0.01, 0.2)
    assert limit == pytest.approx([0.5247524752, 0], rel=PRINTED)
    # For kappa > 1 the gap is of order 1/alpha.
    assert curve.icl - curve.idg == pytest.approx(limit, rel=1e-4, abs=1e-6)
    assert pt.long_context_gap(0.5, 0.01, np.inf) == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pt.task_gap(10, 0, 0.01), "kappa must be > 0, got 0"),
        (lambda: pt.task_gap(10, 1, -1), "rho must be .*>= 0, got -1"),
        (lambda: pt.task_gap([1, 2], [1, 2, 3], 0), "broadcast together"),
        (lambda: pt.task_gap_scaling(np.nan), "s must be finite"),
        (lambda: pt.long_context(1, 1, 0.1), "tau must not be 1"),
        (lambda: pt.short_context(1, 0.1), "tau must not be 1"),
        (lambda: pt.fresh_task_error(1, 1, 0.1), "tau must not be 1"),
        (lambda: pt.long_context_gap(0.5, 0.1, 0), "tau_per_alpha must be > 0"),
        (lambda: pt.authors_ridgeless(1, np.inf, 2, 0.1), "kappa must be finite"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
