"""The gap between attention and block: values, bounds, limits, the steps of the proof."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.papers.linear_block import (
    RegressionPrior,
    gd_zero,
    isotropic_prior,
    optimal_gd,
    reduced_risk,
    whiten,
)
from iclkit.papers.linear_block.gap import (
    approximation_gap,
    gap_bounds,
    gap_ratio_search,
    large_mean_gap,
    long_context_gap,
    small_mean_gap,
    tight_prior,
)
from iclkit.rng import stream
from tests.instances import PRIORS
from tests.tolerances import IDENTITY, PRINTED

GAPS = {  # gap, |w|^2/(M+1), what the paper's proof gives
    "FIG1": (1.829305917991, 0.833333333, 0.689655172),
    "TAB1": (107.2644889, 48.7804878, 41.9580420),
    "DIAG4": (1.130428429835, 0.454545455, 0.386064030),
    "GEN3": (1.092460566016, 0.465625, 0.414176908),
    "RANKDEF": (0.440511941341, 0.214285714, 0.190601504),
    "POW20": (0.328680924077, 0.103365813, 0.090631238),
}
ISOTROPIC = [  # dim, n_context, noise_var, |w|^2, gap / |w|^2
    (5, 5, 0, 0.01, 0.364204),
    (5, 5, 0, 500, 0.288812),
    (2, 5, 5, 4, 0.255502),
    (2, 5, 5, 2, 0.243553),
    (20, 4, 0, 1, 0.368513),
    (20, 4, 0, 1e4, 0.333586),
    (10, 10, 1, 10, 0.233363),
    (10, 100, 1, 10, 0.065728),
    (10, 1000, 1, 10, 0.010113),
    (1, 1, 10, 1, 0.561238),
    (1, 1, 0, 1, 2 / 3),
]
POSITIVE = st.floats(-2, 1)


def _isotropic(dim, n_context, noise_var, norm2):
    mean = np.sqrt(norm2) * np.eye(dim)[0]
    return isotropic_prior(dim, n_context=n_context, mean=mean, noise_var=noise_var)


@st.composite
def priors(draw):
    dim = draw(st.integers(1, 4))
    values = 10.0 ** np.array([draw(POSITIVE) for _ in range(dim)])
    mean = np.array([draw(st.floats(-3, 3)) for _ in range(dim)])
    mean[0] += 0.1 if abs(mean[0]) < 0.1 else 0.0
    noise_var, n_context = 10.0 ** draw(POSITIVE), draw(st.integers(1, 50))
    return RegressionPrior(np.eye(dim), mean, np.diag(values), noise_var, n_context)


# ------------------------------------------------------------------ reference values


@pytest.mark.parametrize("name", GAPS)
def test_reference_gaps_and_lower_bounds(name):
    gap, corrected, proved = GAPS[name]
    bounds = gap_bounds(PRIORS[name])
    assert approximation_gap(PRIORS[name]) == pytest.approx(gap, rel=PRINTED)
    assert bounds.corrected == pytest.approx(corrected, rel=PRINTED, abs=5e-10)
    assert bounds.proved == pytest.approx(proved, rel=PRINTED, abs=5e-10)


@pytest.mark.parametrize("case", ISOTROPIC)
def test_reference_gaps_of_isotropic_priors(case):
    ratio = approximation_gap(_isotropic(*case[:4])) / case[3]
    assert ratio == pytest.approx(case[4], abs=5e-7)


def test_gap_is_the_difference_of_the_risks_and_ignores_what_both_share():
    quiet, loud = (
        RegressionPrior(np.eye(2), [1, 2], np.diag([1, 0.5]), noise, 10**7) for noise in (0, 1e6)
    )
    assert approximation_gap(quiet) == pytest.approx(long_context_gap(quiet) / 1e7, rel=1e-5)
    assert approximation_gap(loud) > gap_bounds(loud).corrected


@pytest.mark.parametrize("mean", [[0, 0, 0], [0, 0, 7]])
def test_no_gap_where_the_mean_is_not_seen(mean):
    prior = RegressionPrior(np.diag([1, 0.5, 0]), mean, np.eye(3), 0.25, 6)
    assert approximation_gap(prior) == 0.0
    assert gap_bounds(prior).corrected == gap_bounds(prior).second_as_printed == 0.0


# ------------------------------------------------------------------ bounds


@settings(max_examples=40, deadline=None)
@given(priors())
def test_bounds_hold_and_are_ordered(prior):
    gap, bounds = approximation_gap(prior), gap_bounds(prior)
    assert bounds.first < bounds.corrected < gap <= bounds.upper * (1 + IDENTITY)
    assert bounds.proved < bounds.corrected
    assert bounds.upper == min(bounds.upper_trivial, bounds.upper_residual, bounds.upper_zero)


@pytest.mark.parametrize("name", GAPS)
def test_upper_bounds_are_risks_of_simple_weights(name):
    prior, block = PRIORS[name], optimal_gd(PRIORS[name]).risk
    bounds, zero = gap_bounds(prior), np.zeros((prior.dim, prior.dim))
    nothing = reduced_risk(prior, u=zero[0], u0=0.0, U=zero, v=zero[0])
    assert bounds.upper_trivial == pytest.approx(nothing - block, rel=IDENTITY)
    assert bounds.upper_zero == pytest.approx(gd_zero(prior).risk - block, rel=1e-9)
    white = whiten(prior)
    kappa, square, M = white.level, white.square, white.n_context
    w, omega = white.mean, white.curvature
    pinv = white.inverse.T  # b = 0, with the best A and v
    v = w * M / (M + 2) * kappa / (kappa**2 + 2 * square)
    A, v = pinv @ np.diag(white.values / omega) @ pinv.T, pinv @ v
    mean = prior.task_mean
    centred = reduced_risk(prior, u=-mean, u0=1.0, U=A - np.outer(mean, v), v=v)
    assert bounds.upper_residual == pytest.approx(centred - block, rel=1e-9)


@pytest.mark.parametrize(
    ("dim", "n_context", "noise_var", "norm2", "printed"),
    [(1, 1, 10, 1, 30.25), (2, 5, 5, 2, 0.680556), (20, 4, 0, 1, 0.8)],
)
def test_the_second_branch_as_printed_exceeds_the_gap(dim, n_context, noise_var, norm2, printed):
    prior = _isotropic(dim, n_context, noise_var, norm2)
    bounds = gap_bounds(prior)
    assert bounds.second_as_printed / norm2 == pytest.approx(printed, abs=5e-7)
    assert bounds.second_as_printed > approximation_gap(prior)


def test_large_noise_refutes_the_second_branch_without_any_search():
    quiet, loud = (gap_bounds(_isotropic(1, 1, noise, 1.0)) for noise in (0.0, 10.0))
    assert loud.refuted
    assert not quiet.refuted
    assert loud.upper < loud.second_as_printed


def test_tasks_without_variance():
    bounds = gap_bounds(RegressionPrior(np.eye(2), [1, 1], np.zeros((2, 2)), 1.0, 3))
    assert bounds.second_as_printed == np.inf
    exact = gap_bounds(RegressionPrior(np.eye(2), [1, 1], np.zeros((2, 2)), 0.0, 3))
    assert exact.second_as_printed == 0.0
    assert exact.upper_zero == pytest.approx(2 * 2 / 5, rel=IDENTITY)


# ------------------------------------------------------------------ the proof, step by step


def _draw(rng):
    dim, M = int(rng.integers(1, 5)), int(rng.integers(1, 30))
    values, noise_var = rng.gamma(1.0, size=dim), rng.gamma(1.0)
    prior = RegressionPrior(np.eye(dim), rng.standard_normal(dim), np.diag(values), noise_var, M)
    b, v, A = rng.standard_normal(dim), rng.standard_normal(dim), rng.standard_normal((dim, dim))
    return prior, b, rng.standard_normal(), A, v


def _two_sums(prior, b, u0, A, v):
    w, phi, M = prior.task_mean, np.diag(prior.task_cov), prior.n_context
    kappa = phi.sum() + prior.noise_var
    omega = ((M + 1) * phi + kappa) / M
    q, z, T = A.T @ b, u0 * v, np.outer(v, b) + u0 * A.T
    first = np.sum((T - np.diag(phi / omega)) ** 2 * omega)
    ripple = q @ q + 2 * kappa**2 * z @ z + b @ b * np.sum(A**2) + 4 * b @ (phi * (A @ z))
    missed = np.sum((w - q - kappa * z) ** 2)
    return first, missed + ripple / M + (2 + 4 / M) * (phi @ phi) * (z @ z)


def _lower(prior, b, u0, A, v):
    w, phi, M = prior.task_mean, np.diag(prior.task_cov), prior.n_context
    kappa, f, q, z = phi.sum() + prior.noise_var, b @ (phi * b) / (b @ b), A.T @ b, u0 * v
    inner = q @ q + kappa**2 * z @ z + 2 * f * q @ z
    missed = np.sum((w - q - kappa * z) ** 2)
    return missed + 2 / M * inner + (2 + 4 / M) * f**2 * z @ z


@pytest.mark.parametrize("seed", range(30))
def test_the_excess_over_the_block_is_two_sums_and_the_second_is_bounded(seed):
    prior, b, u0, A, v = draw = _draw(np.random.default_rng(seed))
    U = A - np.outer(prior.task_mean, v)
    risk = reduced_risk(prior, u=b - u0 * prior.task_mean, u0=u0, U=U, v=v)
    first, second = _two_sums(*draw)
    assert first + second == pytest.approx(risk - optimal_gd(prior).risk, rel=IDENTITY)
    assert second >= _lower(*draw) * (1 - IDENTITY)


def test_the_last_steps_of_the_proof(rng):
    t, M = rng.uniform(size=1000), rng.integers(1, 100, size=1000)
    p, r = 1 + 2 / M, 1 + 2 * t / M
    N, D = p * (1 + 2 * t**2) - 2 * r + p, p**2 * (1 + 2 * t**2) - r**2
    form = np.array([[p, r], [r, p * (1 + 2 * t**2)]]).T
    best = np.linalg.solve(form, np.ones((1000, 2, 1)))[..., 0]
    assert (D > 0).all()
    assert best.sum(axis=1) == pytest.approx(N / D, rel=IDENTITY)
    left = M**2 * D - (M + 1) * M * N
    assert left == pytest.approx(4 * t + 2 * M * t**2, rel=IDENTITY, abs=1e-9)


@pytest.mark.parametrize("n_context", [1, 5, 45])
@pytest.mark.parametrize("t", [0.5, 1e-2, 1e-4])
def test_the_constant_is_sharp_for_every_context(n_context, t):
    prior = tight_prior(n_context, t)
    ratio = approximation_gap(prior) / gap_bounds(prior).corrected
    assert 1 < ratio < 1 + t + (n_context + 1) * t**2 / 2


def test_random_search_finds_no_violation():
    found = gap_ratio_search(60, rng=stream(0, "violations"), max_dim=3)
    assert 1 < found.ratio == found.ratios.min()
    again = approximation_gap(found.prior) / gap_bounds(found.prior).corrected
    assert again == found.ratio
    assert gap_ratio_search(60, rng=stream(0, "violations"), max_dim=3).ratio == found.ratio


# ------------------------------------------------------------------ limits


def test_long_contexts():
    prior = isotropic_prior(6, n_context=100_000, mean=1 / np.sqrt(6), noise_var=1.0)
    assert long_context_gap(prior) == pytest.approx(7.0, rel=IDENTITY)
    assert 1e5 * approximation_gap(prior) == pytest.approx(7.0, rel=2e-3)


@pytest.mark.parametrize(
    ("variances", "mean"),
    [
        ([0, 1, 0.5], [1, 2, 0.5]),
        ([0, 1, 0.5], [0, 2, 5]),
        ([0, 1, 0.5, 2], [0, 0.1, 0.2, 0.1]),
        ([0, 0, 1], [1, 0.5, 3]),
        ([0, 0, 0], [1, 0.5, 3]),
    ],
)
def test_long_contexts_where_tasks_have_lower_rank_than_inputs(variances, mean):
    prior = RegressionPrior(np.eye(len(mean)), mean, np.diag(variances), 0.5, 10**6)
    assert 1e6 * approximation_gap(prior) == pytest.approx(long_context_gap(prior), rel=1e-4)


@pytest.mark.parametrize("n_context", [1, 10])
def test_large_means(n_context):
    H, Psi = np.diag([2.0, 1.0, 0.5]), np.diag([1.0, 0.3, 0.0])
    prior = RegressionPrior(H, [1e4, -2e4, 1e4], Psi, 1.0, n_context)
    ratio = approximation_gap(prior) / whiten(prior).norm2
    assert large_mean_gap(prior) == 2 / (n_context + 2)
    assert ratio == pytest.approx(large_mean_gap(prior), abs=1e-6)


@pytest.mark.parametrize("name", ["FIG1", "DIAG4", "GEN3", "RANKDEF"])
def test_small_means(name):
    prior = replace(PRIORS[name], task_mean=1e-4 * PRIORS[name].task_mean)
    ratio = approximation_gap(prior) / whiten(prior).norm2
    assert ratio == pytest.approx(small_mean_gap(prior), rel=1e-5)
    assert small_mean_gap(PRIORS[name]) == pytest.approx(small_mean_gap(prior), rel=IDENTITY)


@pytest.mark.parametrize("mean", [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 2.0, -3.0]])
def test_small_means_where_tasks_do_not_vary(mean):
    """The third direction has no task variance; the best attention still recites its mean."""
    prior = RegressionPrior(np.eye(3), 1e-4 * np.array(mean), np.diag([2.0, 1.0, 0.0]), 0.7, 6)
    ratio = approximation_gap(prior) / whiten(prior).norm2
    assert ratio == pytest.approx(small_mean_gap(prior), rel=1e-5)


def test_small_means_in_one_dimension_and_without_variance():
    line = isotropic_prior(1, n_context=4, mean=1e-4, noise_var=0.5)
    assert approximation_gap(line) / 1e-8 == pytest.approx(small_mean_gap(line), rel=1e-5)
    known = isotropic_prior(3, n_context=4, mean=1.0, noise_var=0.5, task_var=0)
    assert small_mean_gap(known) == approximation_gap(known) / 3 == 2 / 6


def test_the_small_mean_limit_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="task_mean must not vanish"):
        small_mean_gap(isotropic_prior(2, n_context=3))
    with pytest.raises(ValueError, match="rank 2 or more where there are inputs, got rank 1"):
        small_mean_gap(RegressionPrior(np.eye(2), [1, 1], np.diag([1, 0]), 1.0, 3))


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    "function", [approximation_gap, gap_bounds, large_mean_gap, long_context_gap, small_mean_gap]
)
def test_a_prior_is_required(function):
    with pytest.raises(TypeError, match="prior must be a RegressionPrior"):
        function(np.eye(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0.1), "n_context must be >= 1"), ((3, 0.0), "signal must be"), ((3, 1.5), "signal")],
)
def test_tight_prior_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        tight_prior(*arguments)


def test_search_says_what_is_wrong():
    with pytest.raises(ValueError, match="n must be >= 1"):
        gap_ratio_search(0, rng=stream(0))
    with pytest.raises(ValueError, match="max_dim must be >= 1"):
        gap_ratio_search(1, rng=stream(0), max_dim=0)
