"""Asymptotic errors: reference values, 60-digit arithmetic, uniqueness, contracts, bad input."""

import time

import numpy as np
import pytest

from iclkit.papers.phase_transition import (
    authors_ridgeless,
    effective_ridge,
    fresh_task_error,
    learning_curve,
    theory,
)
from tests.oracles import exact_curve
from tests.tolerances import IDENTITY, PRINTED, ROOT, SIXTY_DIGITS

# (alpha, kappa, tau, rho, penalty) -> effective ridge, icl, idg
REFERENCE = [
    ((10, 0.5, 0.5, 0.01, 0), 0.3722922466, 0.8208492721, 0.2463433637),
    ((10, 0.5, 2, 0.01, 0), 0, 0.8911638627, 0.1123999034),
    ((1, 2, 1.5, 0.01, 0), 0, 1.598338452, 1.352085211),
    ((100, 0.5, 1.15, 0.01, 0), 0, 5.565055158, 0.1149999631),
    ((10, np.inf, 0.5, 0.01, 0), 1.101, 0.6576021798, 0.6576021798),
    ((10, np.inf, 2, 0.01, 0), 0, 0.2034695731, 0.2034695731),
    ((10, 0.5, 0.85, 0.01, 0.1), 0.2797118276, 0.6767950065, 0.1285520401),
    ((10, 0.5, 1, 0.01, 0.1), 0.2350565698, 0.6633603504, 0.1137236066),
    ((10, np.inf, 1, 0.01, 1), 1.662325256, 0.5116431535, 0.5116431535),
    ((2.35, 0.2, 0.5, 0.1, 0), 0.6825519828, 1.389694209, 0.4554246306),
    ((5.6, 0.3, 0.5, 0.5, 0), 0.4978690943, 2.761727667, 1.497130348),
    ((22.7, 0.25, 20, 0.5, 0), 0, 1.597034716, 0.5433329064),
    ((1, 1, 5, 0.01, 0), 0, 0.7921237985, 0.4925867066),
    ((10, 0.5, 1, 0.01, 1e-6), 0.0004323108825, 71.9807171, 12.17213484),
    ((1000, 1, 200, 0.01, 0), 0, 0.02856136971, 0.01103357557),
]
FIGURE_1 = {  # icl, idg at kappa = 0.5, rho = 0.01, tau = 0.2, 0.5, 0.85, 1.15, 1.5, 2
    1: (
        [1.0385, 1.2611, 3.1790, 3.6679, 1.6635, 1.2340],
        [0.8012, 0.8018, 2.1165, 2.3367, 0.9143, 0.6096],
    ),
    10: (
        [0.8643, 0.8208, 2.2279, 2.7748, 1.2236, 0.8912],
        [0.5507, 0.2463, 0.4265, 0.4309, 0.1686, 0.1124],
    ),
    100: (
        [0.8202, 0.7016, 4.0872, 5.5651, 2.0300, 1.2725],
        [0.5047, 0.1221, 0.1201, 0.1150, 0.0450, 0.0300],
    ),
}
LONG = [2.35, 5.5, 9.62, 22.7, 100, 1000]
FIGURE_2 = [  # error, tau, rho, the context lengths, the errors by kappa
    (
        "idg",
        0.5,
        0.5,
        [1, 5.6, 6.15, 7.4, 100, 1000],
        {
            0.1: [1.36743, 1.16664, 1.16278, 1.15618, 1.12721, 1.12522],
            0.5: [1.99143, 1.66125, 1.66226, 1.67064, 2.87399, 7.22905],
            2: [2.28412, 1.77951, 1.76173, 1.72978, 1.55761, 1.54328],
        },
    ),
    (
        "icl",
        0.5,
        0.1,
        LONG,
        {
            0.2: [1.38969, 1.48171, 1.67641, 2.36472, 6.56584, 55.6526],
            0.5: [1.30091, 1.19620, 1.17595, 1.22781, 1.61474, 3.60143],
            1.5: [1.22104, 1.01395, 0.91950, 0.82996, 0.76949, 0.75199],
        },
    ),
    (
        "icl",
        20,
        0.5,
        LONG,
        {
            0.25: [1.43768, 1.41621, 1.44579, 1.59703, 2.60144, 14.4401],
            1: [1.11315, 0.93991, 0.85527, 0.77793, 0.78417, 1.19014],
            2: [1.01112, 0.80991, 0.71320, 0.62281, 0.56764, 0.55406],
        },
    ),
]
FIGURE_1C = {
    1e-5: [0.853781, 0.657598, 0.814076, 16.930766, 0.779244, 0.305171, 0.203462],
    0.1: [0.852517, 0.635927, 0.427863, 0.360683, 0.309355, 0.236614, 0.189353],
    1: [0.850913, 0.665226, 0.543959, 0.511643, 0.486475, 0.445561, 0.410870],
}


def random_ratios(rng, n, spread=1.0):
    """alpha, kappa, tau, rho and penalty, log-uniform around 1."""
    spans = np.array([[-1, 3], [-1, 1], [-1, 1], [-2, 0], [-6, 0]]) * spread
    return [10 ** rng.uniform(low, high, n) for low, high in spans]


@pytest.mark.parametrize(("ratios", "ridge", "icl", "idg"), REFERENCE)
def test_reference_values(ratios, ridge, icl, idg):
    curve = learning_curve(*ratios)
    assert effective_ridge(*ratios) == pytest.approx(ridge, rel=PRINTED)
    assert (curve.icl, curve.idg) == pytest.approx((icl, idg), rel=PRINTED)


def test_reference_values_of_the_training_error():
    assert learning_curve(10, 0.5, 2, 0.01).train == pytest.approx(0.02809997586, rel=PRINTED)
    with_ridge = learning_curve(10, 0.5, 0.85, 0.01, 0.1)
    assert with_ridge.train == pytest.approx(0.01643074711, rel=PRINTED)
    assert learning_curve(10, 0.5, 0.5, 0.01).train == 0


@pytest.mark.parametrize("alpha", FIGURE_1)
def test_theory_of_figure_1(alpha):
    curve = learning_curve(alpha, 0.5, [0.2, 0.5, 0.85, 1.15, 1.5, 2], 0.01)
    icl, idg = FIGURE_1[alpha]
    assert curve.icl == pytest.approx(icl, abs=6e-5)  # printed to 4 decimals
    assert curve.idg == pytest.approx(idg, abs=6e-5)


@pytest.mark.parametrize(("error", "tau", "rho", "alphas", "by_kappa"), FIGURE_2)
def test_theory_of_figure_2(error, tau, rho, alphas, by_kappa):
    for kappa, expected in by_kappa.items():
        curve = learning_curve(alphas, kappa, tau, rho)
        assert getattr(curve, error) == pytest.approx(expected, rel=8e-6)  # six printed figures


@pytest.mark.parametrize("penalty", FIGURE_1C)
def test_theory_of_figure_1c(penalty):
    curve = learning_curve(10, np.inf, [0.2, 0.5, 0.85, 1, 1.15, 1.5, 2], 0.01, penalty)
    assert curve.icl == pytest.approx(FIGURE_1C[penalty], abs=6e-7)  # printed to 6 decimals


@pytest.mark.parametrize("ridge", [0, 1])
def test_errors_against_sixty_digits(ridge, rng):
    spans = [(-8, 10), (-2, 3), (-2, 3), (-4, 1), (-8, 2)]
    points = np.array([10 ** rng.uniform(low, high, 60) for low, high in spans])
    points[-1] *= ridge
    exact = np.array([exact_curve(*map(float, point)) for point in points.T]).T
    assert effective_ridge(*points) == pytest.approx(exact[0], rel=SIXTY_DIGITS)
    curve = learning_curve(*points)
    assert curve.icl == pytest.approx(exact[1], rel=SIXTY_DIGITS)
    assert curve.idg == pytest.approx(exact[2], rel=SIXTY_DIGITS)


@pytest.mark.parametrize(
    "ratios", [(1e10, 1, 5, 0.01, 0), (1e10, 1, 0.5, 0.01, 1e-8), (10, 0.5, 1, 0.01, 1e-12)]
)
def test_errors_against_sixty_digits_at_the_transitions(ratios):
    exact = exact_curve(*ratios)
    assert learning_curve(*ratios)[:2] == pytest.approx(exact[1:], rel=SIXTY_DIGITS)


def test_errors_are_the_authors_ridgeless_formulas(rng):  # LU-T1
    alpha, kappa, tau, rho, _ = random_ratios(rng, 2000)
    curve, authors = (
        learning_curve(alpha, kappa, tau, rho),
        authors_ridgeless(alpha, kappa, tau, rho),
    )
    assert curve.icl == pytest.approx(authors.icl, rel=ROOT)
    assert curve.idg == pytest.approx(authors.idg, rel=ROOT)


def test_the_ridgeless_root_is_the_limit_of_the_equation(rng):  # LU-T2
    alpha, kappa, tau, rho, _ = random_ratios(rng, 1000)
    few = tau < 1
    x, xi = (1 + rho) / alpha, effective_ridge(alpha, kappa, tau, rho)
    closed = theory.solve_ridge(
        lambda s: theory.task_traces(s, x[few], kappa[few]),
        1 + x[few],
        tau=tau[few],
        penalty=0.0,
        size=1.0,
    )
    assert xi[few] == pytest.approx(closed, rel=ROOT)
    assert np.all(xi[~few] == 0)


def test_the_equation_for_the_ridge_falls_and_its_root_is_bracketed(rng):  # LU-T2
    alpha, kappa, tau, rho, penalty = random_ratios(rng, 1000)
    x = (1 + rho) / alpha
    xi = effective_ridge(alpha, kappa, tau, rho, penalty)
    top = effective_ridge(alpha, np.inf, tau, rho, penalty)
    assert np.all((penalty <= xi) & (xi <= top * (1 + IDENTITY)))
    grid = np.logspace(-6, 3, 200)[:, None]
    residual = 1 - tau + tau * penalty / grid - theory.task_traces(grid, x, kappa).lost
    assert np.all(np.diff(residual, axis=0) < 0)
    at_root = 1 - tau + tau * penalty / xi - theory.task_traces(xi, x, kappa).lost
    assert np.max(np.abs(at_root) / (1 + tau)) < ROOT


def test_fresh_tasks_have_closed_forms(rng):  # LU-T3
    alpha, _, tau, rho, penalty = random_ratios(rng, 1000)
    for ridge in (0.0, penalty):
        curve = learning_curve(alpha, np.inf, tau, rho, ridge)
        closed = fresh_task_error(alpha, tau, rho, ridge)
        assert curve.icl == pytest.approx(closed, rel=ROOT)
        assert curve.idg == pytest.approx(closed, rel=ROOT)


def test_the_training_error_vanishes_with_the_penalty_and_rises_with_it():
    train = learning_curve(10, 0.5, 0.5, 0.01, [0, 1e-12, 1e-3, 1e-1, 10]).train
    assert train[0] == 0
    assert np.all(np.diff(train) > 0)


def test_errors_approach_the_ridgeless_and_the_null_error():
    for tau in (0.5, 2.0):
        tiny, none = learning_curve(10, 0.5, tau, 0.01, 1e-12), learning_curve(10, 0.5, tau, 0.01)
        assert list(tiny) == pytest.approx(list(none), rel=1e-9, abs=1e-9)
        assert learning_curve(10, 0.5, tau, 0.01, 1e12).icl == pytest.approx(1.01, rel=1e-9)


def test_a_slightly_wrong_formula_is_noticed():
    (ratios, _, icl, _) = REFERENCE[6]
    assert learning_curve(*ratios).icl * (1 + 1e-8) != pytest.approx(icl, rel=PRINTED)


# ------------------------------------------------------------------ contracts


def test_arrays_give_what_scalars_give(rng):
    ratios = random_ratios(rng, 20)
    ratios[4][::3] = 0
    curve = learning_curve(*ratios)
    loop = np.array([learning_curve(*point) for point in zip(*ratios, strict=True)]).T
    assert np.array(curve) == pytest.approx(loop, rel=IDENTITY)


def test_arguments_broadcast_and_integers_work():
    curve = learning_curve(np.array([[1], [10]]), 1, np.array([2, 3, 4]), 0)
    assert curve.icl.shape == (2, 3)
    assert curve.icl[1, 2] == learning_curve(10.0, 1.0, 4.0, 0.0).icl
    assert curve.icl.dtype == np.float64


def test_scalars_give_scalars():
    assert [np.ndim(part) for part in learning_curve(10, 0.5, 2, 0.01, 0.1)] == [0, 0, 0]
    assert isinstance(learning_curve(10, 0.5, 2, 0.01).icl, float)
    assert isinstance(effective_ridge(10, 0.5, 2, 0.01, 0.1), float)


def test_arguments_are_not_changed():
    tau = np.array([0.5, 2.0])
    learning_curve(10, 0.5, tau, 0.01, 0.1)
    assert tau.tolist() == [0.5, 2.0]


def test_ten_thousand_points_take_under_ten_microseconds_each(rng):
    ratios = random_ratios(rng, 10_000)
    start = time.process_time()
    learning_curve(*ratios)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ((10, 0, 2, 0.01), "kappa must be > 0, got 0.0"),
        ((10, -1, 2, 0.01), "kappa must be > 0, got -1.0"),
        ((0, 1, 2, 0.01), "alpha must be finite and > 0, got 0.0"),
        ((np.inf, 1, 2, 0.01), "alpha must be finite and > 0, got inf"),
        ((10, 1, 2, -0.1), "rho must be finite and >= 0, got -0.1"),
        ((10, 1, 2, 0.1, -1), "penalty must be finite and >= 0, got -1.0"),
        ((10, 1, np.nan, 0.1), "tau must be > 0, got nan"),
        ((10, 1, [0.5, np.nan], 0.1), "tau must be > 0, got nan"),
        ((10, 1, 1, 0.1), "tau must not be 1 .* diverge there; use a penalty > 0"),
        ((10, 1, [0.5, 1], 0.1, [0.1, 0]), "tau must not be 1 .* diverge there"),
        (([1, 2], 1, [1, 2, 3], 0.1, 1), r"broadcast together, got shapes alpha \(2,\)"),
    ],
)
def test_bad_input_is_named(ratios, message):
    with pytest.raises(ValueError, match=message):
        learning_curve(*ratios)


def test_text_is_no_number():
    with pytest.raises(TypeError, match="tau must hold real numbers"):
        learning_curve(10, 1, "two", 0.1)


def test_an_unsolvable_ridge_is_reported():
    def unsettled(xi):
        return theory.Traces(xi * 0 + 0.4 * rng.random(), xi * 0, xi * 0 + 1)

    rng = np.random.default_rng(0)
    with pytest.raises(theory.ConvergenceError, match=r"no effective ridge for tau = 0\.5"):
        theory.solve_ridge(unsettled, 1.0, tau=0.5, penalty=0.1, size=1.0)
