"""One gradient step: predictor, risk, optimum, Hessian, the five conditions, saddles, bad input."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.papers.linear_block import (
    GDPredictor,
    Reduced,
    RegressionPrior,
    gd_risk,
    gd_to_block,
    gd_zero,
    isotropic_prior,
    network_risk,
    optimal_gd,
    optimality,
    reduce_network,
    reduced_gradient,
    reduced_risk,
    saddle_excess,
    step_hessian,
    whiten,
)
from iclkit.risk import monte_carlo_risk
from iclkit.rng import stream
from tests.instances import PRIORS
from tests.random_blocks import random_prior
from tests.tolerances import IDENTITY, SIGMAS

CASES = st.fixed_dictionaries(
    {"dim": st.integers(1, 5), "n_context": st.integers(1, 9), "seed": st.integers(0, 999)}
)
EMPTY = RegressionPrior(np.zeros((2, 2)), [1, 2], np.zeros((2, 2)), 0.0, 3)
APART = RegressionPrior(np.diag([1, 0]), [1, 2], np.diag([0, 1]), 0.0, 3)  # H Psi = 0
SINGULAR = {
    "no inputs": RegressionPrior(np.zeros((2, 2)), [1, 2], np.eye(2), 0.5, 3),
    "no spread": RegressionPrior(np.eye(2), [1, 2], np.zeros((2, 2)), 0.5, 3),
    "neither": RegressionPrior(np.zeros((2, 2)), [1, 2], np.zeros((2, 2)), 0.5, 3),
    "no noise, no inputs": RegressionPrior(np.zeros((2, 2)), [1, 2], np.eye(2), 0.0, 3),
    "no noise, no spread": RegressionPrior(np.eye(2), [1, 2], np.zeros((2, 2)), 0.0, 3),
    "nothing": EMPTY,
    "apart": APART,
}


def draw(case, **options):
    """A random prior and a random step."""
    rng, dim = stream(case["seed"], "gd"), case["dim"]
    prior = random_prior(rng, dim, case["n_context"], **options)
    return prior, rng.standard_normal(dim), rng.standard_normal((dim, dim))


def slopes(prior, beta, gamma):
    """Derivatives of the risk in the start and in the step size, by the chain rule."""
    step = Reduced(-beta, 1.0, gamma.T, np.zeros(prior.dim), beta)
    slope = reduced_gradient(prior, step)[1]
    return slope.gamma - slope.u, slope.U.T


def moved_mean(prior, mean):
    return dataclasses.replace(prior, task_mean=mean)


def as_printed(prior, beta, gamma):
    """Excess of a step as the theorem has it, with roots of H and Omega (invertible H)."""
    H, Psi, M = prior.input_cov, prior.task_cov, prior.n_context
    values, vectors = np.linalg.eigh(H)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    Phi, kappa = root @ Psi @ root, np.trace(H @ Psi) + prior.noise_var
    Omega = (M + 1) / M * Phi + kappa / M * np.eye(prior.dim)
    best = Phi @ np.linalg.inv(Omega)
    off, e = root @ gamma @ root - best, beta - prior.task_mean
    rest = np.trace(H @ Psi) - np.trace(Phi @ best)
    return e @ step_hessian(prior, gamma) @ e + np.trace(off @ Omega @ off.T) + rest


# ------------------------------------------------------------------ predictor and risk


def test_the_step_is_a_step_on_the_mean_squared_error(rng):
    beta, gamma = rng.standard_normal(3), rng.standard_normal((3, 3))
    x, y, x_query, *_ = PRIORS["GEN3"].sample(4, rng=rng)
    found = GDPredictor(beta, gamma)(x, y, x_query)
    for answer, inputs, labels, query in zip(found, x, y, x_query, strict=True):
        slope = np.zeros(3)
        for x_i, y_i in zip(inputs, labels, strict=True):
            slope += (x_i @ beta - y_i) * x_i / len(labels)
        assert np.isclose(answer, (beta - gamma @ slope) @ query, rtol=IDENTITY)


def test_risk_is_what_prompts_show(rng):
    prior = PRIORS["GEN3"]
    beta, gamma = np.array([0.5, -1.0, 1.0]), np.diag([0.3, 0.5, 0.7])
    for n_context in (2, 7, 30):
        sampled = monte_carlo_risk(
            GDPredictor(beta, gamma), prior, n_context, n_prompts=60_000, rng=rng
        )
        exact = gd_risk(prior, beta, gamma, n_context)
        assert abs(sampled.value - exact) < SIGMAS * sampled.stderr


@settings(max_examples=60, deadline=None)
@given(case=CASES, noise_var=st.sampled_from([0.0, 0.4]))
def test_risk_is_the_theorem_and_that_of_the_block(case, noise_var):
    prior, beta, gamma = draw(case, noise_var=noise_var)
    found = gd_risk(prior, beta, gamma)
    block = gd_to_block(beta, gamma)
    assert np.isclose(found, noise_var + as_printed(prior, beta, gamma), rtol=1e-9)
    assert np.isclose(found, network_risk(prior, *block), rtol=IDENTITY)
    assert np.isclose(found, reduced_risk(prior, **reduce_network(*block)._asdict()), rtol=IDENTITY)


@settings(max_examples=40, deadline=None)
@given(case=CASES, other=st.integers(1, 50))
def test_another_context_is_another_prior(case, other):
    prior, beta, gamma = draw(case)
    longer = dataclasses.replace(prior, n_context=other)
    assert gd_risk(prior, beta, gamma, other) == gd_risk(longer, beta, gamma)
    assert gd_risk(prior, beta, gamma, None) == gd_risk(prior, beta, gamma, prior.n_context)


@settings(max_examples=40, deadline=None)
@given(case=CASES)
def test_risk_is_affine_in_one_over_the_context(case):
    prior, beta, gamma = draw(case)
    endless = gd_risk(prior, beta, gamma, np.inf)
    slope = gd_risk(prior, beta, gamma, 1) - endless
    for n_context in (2, 10, 10**9):
        expected = endless + slope / n_context
        assert np.isclose(gd_risk(prior, beta, gamma, n_context), expected, rtol=1e-10)


def test_an_endless_context_leaves_what_the_step_does_not_reach():
    prior, beta, gamma = draw({"dim": 4, "n_context": 3, "seed": 0})
    rest = np.eye(4) - gamma @ prior.input_cov
    shift = rest @ (prior.task_mean - beta)
    expected = prior.noise_var + shift @ prior.input_cov @ shift
    expected += np.trace(prior.input_cov @ rest @ prior.task_cov @ rest.T)
    assert np.isclose(gd_risk(prior, beta, gamma, np.inf), expected, rtol=IDENTITY)


def test_integers_are_numbers():
    prior = isotropic_prior(2, n_context=3, mean=1, noise_var=1)
    eye = np.eye(2)
    assert gd_risk(prior, [0, 1], [[1, 0], [0, 1]]) == gd_risk(prior, np.array([0.0, 1.0]), eye)
    assert (step_hessian(prior, [[1, 0], [0, 1]]) == step_hessian(prior, eye)).all()


# ------------------------------------------------------------------ the optimum


@settings(max_examples=100, deadline=None)
@given(
    case=CASES,
    drop=st.integers(0, 2),
    thin=st.integers(0, 2),
    noise_var=st.sampled_from([0.0, 1e-6, 0.4]),
)
def test_the_optimum_is_stationary_symmetric_and_attained(case, drop, thin, noise_var):
    ranks = max(0, case["dim"] - drop), max(0, case["dim"] - thin)
    prior, *_ = draw(case, ranks=ranks, noise_var=noise_var)
    beta, gamma, risk = optimal_gd(prior)
    scale = 1 + np.abs(prior.input_cov).max() + np.abs(prior.task_cov).max()
    assert (gamma == gamma.T).all()
    assert np.linalg.eigvalsh(gamma)[0] >= -IDENTITY * max(1, np.abs(gamma).max())
    assert (beta == prior.task_mean).all()
    assert np.isclose(gd_risk(prior, beta, gamma), risk, rtol=1e-9, atol=IDENTITY)
    for slope in slopes(prior, beta, gamma):
        assert np.abs(slope).max() < 1e-10 * scale**3


@settings(max_examples=60, deadline=None)
@given(case=CASES, thin=st.integers(0, 2), size=st.floats(-3, 1))
def test_no_other_step_is_better(case, thin, size):
    prior, beta, gamma = draw(case, ranks=(case["dim"], max(0, case["dim"] - thin)))
    best = optimal_gd(prior)
    there = best.beta + 10**size * beta, best.gamma + 10**size * gamma
    assert gd_risk(prior, *there) > best.risk


@settings(max_examples=60, deadline=None)
@given(case=CASES, noise_var=st.sampled_from([0.0, 0.4]))
def test_three_forms_of_the_step_size(case, noise_var):
    """Without roots, with inverses of both covariances, and the paper's with roots of H."""
    prior, *_ = draw(case, noise_var=noise_var)
    H, Psi, M = prior.input_cov, prior.task_cov, prior.n_context
    found = H @ optimal_gd(prior).gamma @ H
    kappa = np.trace(H @ Psi) + noise_var
    rootless = np.linalg.solve((M + 1) * Psi @ H + kappa * np.eye(prior.dim), M * Psi)
    np.testing.assert_allclose(found, H @ rootless @ H, rtol=0, atol=1e-9 * np.abs(H).max())
    e = prior.task_mean
    assert np.isclose(as_printed(prior, e, rootless) + noise_var, optimal_gd(prior).risk, rtol=1e-9)


@pytest.mark.parametrize("name", SINGULAR)
def test_empty_covariances(name):
    prior = SINGULAR[name]
    beta, gamma, risk = optimal_gd(prior)
    assert risk == prior.noise_var  # nothing is left to learn beyond the mean
    assert np.isfinite(gamma).all()
    assert (gamma == gamma.T).all()
    assert gd_risk(prior, beta, gamma) == risk
    assert np.isfinite(gd_zero(prior).risk)


def test_without_any_signal_the_step_is_zero():
    for prior in (EMPTY, APART):
        assert (optimal_gd(prior).gamma == 0).all()
    assert (gd_zero(EMPTY).gamma == 0).all()
    assert gd_zero(EMPTY).risk == 0.0


def test_the_risk_does_not_depend_on_the_mean():
    prior = PRIORS["GEN3"]
    risks = {optimal_gd(moved_mean(prior, mean)).risk for mean in ([0, 0, 0], [1e6, -3, 7])}
    assert risks == {optimal_gd(prior).risk}


@pytest.mark.parametrize("n_context", [1, 10**4, 10**8, 10**15])
def test_tiny_excess_keeps_its_digits(n_context):
    """Isotropic and without noise: d (d+1)/(M + 1 + d), against sums of numbers of order d."""
    for mean in (0.0, 3.0):
        prior = isotropic_prior(5, n_context=n_context, mean=mean)
        best, expected = optimal_gd(prior), 30 / (n_context + 6)
        assert np.isclose(best.risk, expected, rtol=IDENTITY, atol=0)
        assert np.isclose(gd_risk(prior, best.beta, best.gamma), expected, rtol=1e-9, atol=0)
        block = gd_to_block(best.beta, best.gamma)
        assert np.isclose(network_risk(prior, *block), expected, rtol=1e-9, atol=0)


def test_long_contexts_cost_one_over_their_length():
    prior = dataclasses.replace(PRIORS["GEN3"], n_context=10**9)
    excess = optimal_gd(prior).risk - prior.noise_var
    limit = 4 * whiten(prior).trace + 3 * prior.noise_var
    assert np.isclose(1e9 * excess, limit, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e80])
def test_labels_in_any_unit(scale):
    prior = PRIORS["GEN3"]
    other = RegressionPrior(
        prior.input_cov,
        np.sqrt(scale) * prior.task_mean,
        scale * prior.task_cov,
        scale * prior.noise_var,
        prior.n_context,
    )
    for optimum in (optimal_gd, gd_zero):
        one, two = optimum(prior), optimum(other)
        np.testing.assert_allclose(two.gamma, one.gamma, rtol=0, atol=IDENTITY)
        assert np.isclose(two.risk / scale, one.risk, rtol=IDENTITY, atol=0)


def test_both_covariances_tiny():
    tiny = 1e-200 * np.eye(2)
    best = optimal_gd(RegressionPrior(tiny, [0, 0], tiny, 0.0, 4))
    np.testing.assert_allclose(best.gamma / 1e200, 4 / 7 * np.eye(2), rtol=IDENTITY)


# ------------------------------------------------------------------ from zero


@settings(max_examples=60, deadline=None)
@given(case=CASES, noise_var=st.sampled_from([0.0, 0.4]))
def test_from_zero_the_mean_is_one_more_direction(case, noise_var):
    prior, *_ = draw(case, noise_var=noise_var)
    mean = prior.task_mean
    around_zero = dataclasses.replace(
        prior, task_mean=np.zeros(prior.dim), task_cov=prior.task_cov + np.outer(mean, mean)
    )
    found, expected = gd_zero(prior), optimal_gd(around_zero)
    assert np.isclose(found.risk, expected.risk, rtol=IDENTITY)
    assert np.isclose(gd_risk(prior, found.beta, found.gamma), found.risk, rtol=1e-10)
    assert found.risk >= optimal_gd(prior).risk
    assert not found.beta.any()
    assert np.abs(slopes(prior, found.beta, found.gamma)[1]).max() < 1e-8


def test_without_a_mean_both_starts_are_one():
    prior = moved_mean(PRIORS["GEN3"], [0, 0, 0])
    assert np.isclose(gd_zero(prior).risk, optimal_gd(prior).risk, rtol=IDENTITY)


# ------------------------------------------------------------------ the Hessian


@settings(max_examples=60, deadline=None)
@given(case=CASES, drop=st.integers(0, 2))
def test_the_hessian_is_the_growth_in_the_start(case, drop):
    prior, beta, gamma = draw(case, ranks=(max(0, case["dim"] - drop), case["dim"]))
    H, e = step_hessian(prior, gamma), beta - prior.task_mean
    growth = gd_risk(prior, beta, gamma) - gd_risk(prior, prior.task_mean, gamma)
    assert np.isclose(e @ H @ e, growth, rtol=1e-9, atol=1e-9 * gd_risk(prior, beta, gamma))
    assert (H == H.T).all()


@settings(max_examples=60, deadline=None)
@given(case=CASES, size=st.floats(-2, 2))
def test_the_hessian_is_never_small(case, size):
    prior, _, gamma = draw(case)
    bound = 2 / (prior.n_context + 2) * prior.input_cov
    rest = step_hessian(prior, 10**size * gamma) - bound
    assert np.linalg.eigvalsh(rest)[0] >= -IDENTITY * max(1, np.abs(rest).max())


def test_the_bound_of_the_hessian_is_attained():
    """By a step of M/(M + 2) along one direction."""
    prior, step = isotropic_prior(3, n_context=4), np.diag([4 / 6, 0, 0])
    values = np.linalg.eigvalsh(step_hessian(prior, step))
    assert np.isclose(values[0], 2 / 6, rtol=IDENTITY)


# ------------------------------------------------------------------ the five conditions


@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("name", ["FIG1", "DIAG4", "GEN3", "RANKDEF"])
def test_the_optimal_block_meets_the_conditions(name, minimal):
    prior = PRIORS[name]
    beta, gamma, _ = optimal_gd(prior)
    reduced = reduce_network(*gd_to_block(beta, gamma, minimal=minimal))
    assert max(optimality(prior, reduced)) < IDENTITY


@pytest.mark.parametrize("c", [-3.0, 1e-6])
def test_the_conditions_allow_the_scale_and_the_null_space(c):
    prior = PRIORS["RANKDEF"]
    beta, gamma, risk = optimal_gd(prior)
    null, U = np.array([0, 0, 1.0]), gamma.T / c
    U[2] += 4.0
    U[:, 2] -= 7.0
    there = Reduced(c * (5 * null - beta), c, U, 2 * null, beta - 3 * null)
    assert max(optimality(prior, there)) < IDENTITY
    assert np.isclose(reduced_risk(prior, **there._asdict()), risk, rtol=IDENTITY)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"v": np.array([0.1, 0, 0])}, "label"),
        ({"u": np.array([0.1, 0, 0])}, "value"),
        ({"gamma": np.array([0.1, 0, 0])}, "skip"),
        ({"U": np.diag([0.1, 0, 0])}, "step"),
    ],
)
def test_each_condition_is_seen(change, field):
    prior = PRIORS["GEN3"]
    beta, gamma, risk = optimal_gd(prior)
    best = Reduced(-beta, 1.0, gamma.T, np.zeros(3), beta)
    moved = best._replace(**{name: getattr(best, name) + part for name, part in change.items()})
    residuals = optimality(prior, moved)
    assert getattr(residuals, field) > 0.01
    assert reduced_risk(prior, **moved._asdict()) > risk + 1e-4
    assert residuals.weight == 0.0


def test_no_label_weight_fails_outright():
    prior = PRIORS["GEN3"]
    reduced = Reduced(np.ones(3), 0.0, np.eye(3), np.ones(3))
    residuals = optimality(prior, reduced)
    assert (residuals.weight, residuals.value, residuals.label) == (np.inf, np.inf, 0.0)


def test_rank_one_has_another_optimum():
    """In one dimension labels may carry the step through the keys, with no weight of their own."""
    prior = RegressionPrior([[1.5]], [2.0], [[0.8]], 0.3, 4)
    step = optimal_gd(prior).gamma[0, 0]
    there = Reduced(np.ones(1), 0.0, -2.0 * step * np.ones((1, 1)), step * np.ones(1), [2.0])
    risk = reduced_risk(prior, **there._asdict())
    assert np.isclose(risk, optimal_gd(prior).risk, rtol=IDENTITY)
    assert optimality(prior, there).weight == np.inf


# ------------------------------------------------------------------ saddles


@pytest.mark.parametrize("learned", [[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
def test_partial_steps_are_stationary_at_the_stated_height(learned):
    prior, mask = PRIORS["GEN3"], np.array(learned, dtype=bool)
    white = whiten(prior)
    share = np.where(mask, white.values / white.curvature, 0.0)
    gamma = white.inverse.T @ np.diag(share) @ white.inverse
    expected = optimal_gd(prior).risk + saddle_excess(prior, mask)
    assert np.isclose(gd_risk(prior, prior.task_mean, gamma), expected, rtol=IDENTITY)


def test_the_block_that_learned_nothing_predicts_with_the_mean():
    for prior in PRIORS.values():
        white = whiten(prior)
        nothing = np.zeros(len(white.values), dtype=bool)
        expected = prior.noise_var + white.trace
        found = optimal_gd(prior).risk + saddle_excess(prior, nothing)
        assert np.isclose(found, expected, rtol=IDENTITY)
        assert saddle_excess(prior, ~nothing) == 0.0


def test_saddles_of_an_empty_prior():
    assert saddle_excess(EMPTY, [False]) == 0.0


# ------------------------------------------------------------------ bad input

GEN3 = PRIORS["GEN3"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gd_risk(GEN3, [1, 2], np.eye(2)), ValueError, r"beta must have shape \(3,\)"),
        (
            lambda: gd_risk(GEN3, [1, 2, 3], np.eye(2)),
            ValueError,
            r"gamma must have shape \(3, 3\)",
        ),
        (lambda: gd_risk(GEN3, [1, 2, np.nan], np.eye(3)), ValueError, "beta must be finite"),
        (lambda: gd_risk(GEN3, [1, 2, 3], 0.5), ValueError, "gamma must have 2 axes"),
        (
            lambda: gd_risk(GEN3, [1, 2, 3], np.eye(3), 0),
            ValueError,
            "n_context must be >= 1, got 0",
        ),
        (
            lambda: gd_risk(GEN3, [1, 2, 3], np.eye(3), 2.5),
            TypeError,
            "n_context must be an integer",
        ),
        (
            lambda: gd_risk(GEN3, [1, 2, 3], np.eye(3), np.nan),
            TypeError,
            "n_context must be an integer, got nan",
        ),
        (
            lambda: gd_risk(GEN3, [1, 2, 3], np.eye(3), np.array([3, 4])),
            TypeError,
            "n_context must be an integer",
        ),
        (lambda: gd_risk(GEN3, [1, [2], 3], np.eye(3)), ValueError, "beta must have rows of one"),
        (lambda: gd_risk(3, [1], [[1]]), TypeError, "prior must be a RegressionPrior, got int"),
        (lambda: optimal_gd(None), TypeError, "prior must be a RegressionPrior, got NoneType"),
        (lambda: gd_zero(None), TypeError, "prior must be a RegressionPrior"),
        (lambda: step_hessian(GEN3, np.eye(2)), ValueError, r"gamma must have shape \(3, 3\)"),
        (lambda: step_hessian(None, np.eye(2)), TypeError, "prior must be a RegressionPrior"),
        (
            lambda: optimality(GEN3, Reduced([1], 1, [[1]], [1])),
            ValueError,
            r"u must have shape \(3,\), got \(1,\)",
        ),
        (
            lambda: saddle_excess(GEN3, [True, False]),
            ValueError,
            r"learned must be 3 booleans, .* got shape \(2,\)",
        ),
        (lambda: saddle_excess(GEN3, [1, 0, 1]), ValueError, "learned must be 3 booleans"),
    ],
)
def test_bad_input_is_named_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
