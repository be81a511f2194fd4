"""The Bayes predictor and its risk against loops, full prompts, limits and printed values."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.papers.linear_block import (
    BayesPredictor,
    RegressionPrior,
    bayes,
    bayes_equivalent,
    bayes_lower_bound,
    bayes_risk,
    isotropic_prior,
    near_bayes_factor,
    threshold_sum,
    whiten,
)
from iclkit.risk import monte_carlo_risk
from tests.instances import PRIORS
from tests.oracles import bayes_by_conditioning
from tests.tolerances import IDENTITY, PRINTED, SIGMAS

SINGULAR = RegressionPrior(np.diag([2, 1, 0.5, 0]), [1, -1, 2, 0], np.diag([0.5, 1, 0, 2]), 0, 1)
SPECTRA = st.lists(st.floats(-3, 2), min_size=1, max_size=12)


def prior_of(values, *, noise_var, n_context):
    dim = len(values)
    return RegressionPrior(np.eye(dim), np.zeros(dim), np.diag(values), noise_var, n_context)


def gd_excess(prior):
    """Excess risk of the best GD-beta, the closed form."""
    phi, level = whiten(prior).values, whiten(prior).level
    return np.sum(phi * (phi + level) / ((prior.n_context + 1) * phi + level))


def posterior_by_inverses(x, phi, noise_var):
    """Risk given whitened inputs, as the lemma reads."""
    return noise_var + np.trace(np.linalg.inv(np.diag(1 / phi) + x.T @ x / noise_var))


# ------------------------------------------------------------------ the predictor


@pytest.mark.parametrize("n_context", [1, 2, 7])
@pytest.mark.parametrize("name", ["DIAG4", "GEN3", "RANKDEF"])
def test_prediction_is_the_conditional_mean(name, n_context, rng):
    prior = PRIORS[name]
    prompts = prior.sample(4, n_context, rng=rng)
    found = BayesPredictor(prior)(*prompts[:3])
    expected = [bayes_by_conditioning(prior, *prompt) for prompt in zip(*prompts[:3], strict=True)]
    np.testing.assert_allclose(found, expected, rtol=IDENTITY)


@pytest.mark.parametrize("n_context", [2, 3, 9])
def test_without_noise_enough_examples_are_interpolated(n_context, rng):
    prompts = SINGULAR.sample(50, n_context, rng=rng)
    found = BayesPredictor(SINGULAR)(*prompts[:3])
    np.testing.assert_allclose(found, prompts.y_query, rtol=1e-9, atol=1e-9)


def test_a_known_task_needs_no_context(rng):
    prior = RegressionPrior(np.eye(3), [1, 2, 3], np.zeros((3, 3)), 0.0, 2)
    prompts = prior.sample(5, rng=rng)
    np.testing.assert_allclose(
        BayesPredictor(prior)(*prompts[:3]), prompts.x_query @ [1, 2, 3], rtol=IDENTITY
    )


@pytest.mark.parametrize(
    ("x", "y", "x_query", "message"),
    [
        (np.ones((2, 3, 3)), np.ones((2, 3)), np.ones((2, 3)), "x must have shape .2, 3, 5."),
        (np.ones((2, 3, 5)), np.ones((2, 3)), np.ones((2, 4)), "x_query must have shape .2, 5."),
        (np.ones((2, 3, 5)), np.ones((2, 4)), np.ones((2, 5)), "x must have shape .2, 4, 5."),
        (np.ones((3, 5)), np.ones((2, 3)), np.ones((3, 5)), "x must have 3 axes"),
        (np.ones((2, 3, 5)), np.full((2, 3), np.nan), np.ones((2, 5)), "y must be finite"),
    ],
)
def test_predictor_names_bad_input(x, y, x_query, message):
    with pytest.raises(ValueError, match=message):
        BayesPredictor(PRIORS["FIG1"])(x, y, x_query)


# ------------------------------------------------------------------ the risk


@pytest.mark.parametrize(
    ("name", "expected", "stderr"),
    [
        ("DIAG4", 1.529599, 3.9e-4),
        ("GEN3", 0.816272, 3.8e-4),
        ("RANKDEF", 0.382033, 2.3e-4),
        ("POW20", 1.578689, 1.2e-4),
    ],
)
def test_reference_values(name, expected, stderr, rng):
    risk = bayes_risk(PRIORS[name], n_draws=20_000, rng=rng)
    assert abs(risk.value - expected) < SIGMAS * np.hypot(risk.stderr, stderr)
    assert risk.stderr == pytest.approx(stderr * np.sqrt(5), rel=0.05)


@pytest.mark.parametrize(
    ("noise_var", "n_context", "expected", "stderr"),
    [(1, 10, 2.856921, 1060e-6), (10, 10, 6.251972, 875e-6), (10, 100, 0.998749, 139e-6)],
)
def test_isotropic_reference_values(noise_var, n_context, expected, stderr, rng):
    prior = isotropic_prior(10, n_context=n_context, noise_var=noise_var)
    risk = bayes_risk(prior, n_draws=20_000, rng=rng)
    error = risk.value - noise_var - expected
    assert abs(error) < SIGMAS * np.hypot(risk.stderr, stderr)


@pytest.mark.parametrize("name", ["GEN3", "RANKDEF"])
def test_risk_is_that_of_the_predictor_on_prompts(name, rng):
    prior = PRIORS[name]
    exact = bayes_risk(prior, n_draws=20_000, rng=rng)
    at = {"n_context": prior.n_context, "n_prompts": 40_000, "rng": rng}
    plain = monte_carlo_risk(BayesPredictor(prior), prior, **at)
    spread = np.hypot(exact.stderr, plain.stderr)
    assert abs(exact.value - plain.value) < SIGMAS * spread
    assert abs(exact.value - prior.noise_var / 2 - plain.value) > SIGMAS * spread


@pytest.mark.parametrize("n_context", [1, 3, 4, 9])
def test_loss_given_the_inputs_is_the_trace_of_the_lemma(n_context, rng):
    phi, noise_var = np.array([2.0, 1.0, 0.5, 0.1]), 0.3
    x = rng.standard_normal((n_context, 4))
    # Any F with F F^T = X^T X will do; here from the QR decomposition of X.
    factor = np.linalg.qr(x, mode="r").T if n_context > 4 else x.T
    found = noise_var + bayes._missed_variance(phi, factor[None], noise_var)[0]
    assert found == pytest.approx(posterior_by_inverses(x, phi, noise_var), rel=IDENTITY)


def test_draws_come_in_blocks_of_bounded_size(rng):
    blocks = [len(block) for block in bayes._wishart_blocks(3000, 40, 7, rng=rng)]
    assert sum(blocks) == 3000
    assert max(blocks) * 40 * 40 <= bayes._NUMBERS


@pytest.mark.parametrize("n_context", [1, 4, 5, 8])
def test_without_noise_an_isotropic_context_explains_its_share(n_context, rng):
    prior = isotropic_prior(5, n_context=n_context, task_var=2.0)
    risk = bayes_risk(prior, n_draws=2, rng=rng)
    assert risk.value == pytest.approx(2.0 * max(5 - n_context, 0), abs=IDENTITY)
    assert risk.stderr < IDENTITY


def test_two_draws_have_an_honest_error(rng):
    scores = []
    for _ in range(400):
        risk = bayes_risk(PRIORS["GEN3"], n_draws=2, rng=rng)
        scores.append((risk.value - 0.816272) / risk.stderr)
    assert (
        1.2 < np.median(np.abs(scores)) / 0.674 < 2.2
    )  # Student's t with 1 degree of freedom: 1.48
    with pytest.raises(ValueError, match="n_draws must be >= 2, got 1"):
        bayes_risk(PRIORS["GEN3"], n_draws=1, rng=rng)


@pytest.mark.parametrize("zero", ["input_cov", "task_cov"])
def test_nothing_to_learn_leaves_the_noise(zero, rng):
    arguments = {"input_cov": np.eye(3), "task_cov": np.eye(3), zero: np.zeros((3, 3))}
    prior = RegressionPrior(task_mean=[1, 2, 3], noise_var=0.25, n_context=1, **arguments)
    assert bayes_risk(prior, n_draws=5, rng=rng) == (0.25, 0.0)
    assert bayes_equivalent(prior) == bayes_lower_bound(prior) == 0.25
    assert threshold_sum(prior) == 0.0


def test_small_noise_joins_the_limit(rng):
    prior = prior_of([3, 1, 0.2], noise_var=1e-11, n_context=2)
    limit = prior_of([3, 1, 0.2], noise_var=0, n_context=2)
    draws = [bayes_risk(p, n_draws=50, rng=np.random.default_rng(1)).value for p in (prior, limit)]
    assert draws[0] == pytest.approx(draws[1], rel=1e-8)
    assert bayes_equivalent(prior) == pytest.approx(bayes_equivalent(limit), rel=1e-8)


def test_rng_is_required_to_be_a_generator():
    with pytest.raises(TypeError, match="rng must be"):
        bayes_risk(PRIORS["FIG1"], n_draws=5, rng=None)


# ------------------------------------------------------------------ the equivalent


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FIG1", 0.0),
        ("TAB1", 0.0),
        ("DIAG4", 1.488547369),
        ("GEN3", 0.777935001),
        ("RANKDEF", 0.360243737),
        ("POW20", 1.568504765),
    ],
)
def test_equivalent_has_its_reference_values(name, expected):
    assert bayes_equivalent(PRIORS[name]) == pytest.approx(expected, rel=PRINTED, abs=0)


@settings(max_examples=60, deadline=None)
@given(SPECTRA, st.sampled_from([0.0, 1e-9, 0.1, 10.0]), st.integers(1, 14))
def test_equivalent_solves_its_equation(logs, noise_var, n_context):
    phi = 10.0 ** np.array(logs)
    risk = bayes_equivalent(prior_of(phi, noise_var=noise_var, n_context=n_context))
    if noise_var == 0 and n_context >= len(phi):
        assert risk == 0
        return
    k = risk / n_context
    assert k > 0
    assert risk == pytest.approx(noise_var + k * np.sum(phi / (phi + k)), rel=IDENTITY)


@pytest.mark.parametrize("n_context", [1, 4])
def test_equivalent_of_an_isotropic_prior_without_noise_is_exact(n_context):
    prior = isotropic_prior(5, n_context=n_context, task_var=2.0)
    assert bayes_equivalent(prior) == pytest.approx(2.0 * (5 - n_context), rel=IDENTITY)


def test_equivalent_is_wrong_by_one_over_the_context(rng):
    errors = []
    for m in (10, 40, 160):
        prior = prior_of([2, 1, 0.5], noise_var=m / 10, n_context=m)
        risk = bayes_risk(prior, n_draws=40_000, rng=rng)
        errors.append((risk.value - bayes_equivalent(prior)) / (risk.value - prior.noise_var))
    assert all(first > 3 * second > 0 for first, second in pairwise(errors))


# ------------------------------------------------------------------ bounds


@settings(max_examples=60, deadline=None)
@given(SPECTRA, st.sampled_from([1e-3, 0.1, 1.0, 10.0]), st.integers(1, 50))
def test_gd_is_within_the_stated_factors(logs, noise_var, n_context):
    prior = prior_of(10.0 ** np.array(logs), noise_var=noise_var, n_context=n_context)
    share = gd_excess(prior) / threshold_sum(prior)
    assert 0.5 <= share <= 2
    lower = bayes_lower_bound(prior) - noise_var
    assert gd_excess(prior) <= near_bayes_factor(prior) * lower * (1 + IDENTITY)


@pytest.mark.parametrize("name", ["DIAG4", "GEN3", "RANKDEF", "POW20"])
def test_the_lower_bound_lies_below_the_risk(name, rng):
    risk = bayes_risk(PRIORS[name], n_draws=2000, rng=rng)
    assert risk.value - SIGMAS * risk.stderr > bayes_lower_bound(PRIORS[name])


def test_the_factor_is_reached_by_long_contexts():
    prior = isotropic_prior(10, n_context=1_000_000, noise_var=10)
    ratio = gd_excess(prior) / (bayes_lower_bound(prior) - 10)
    assert ratio == pytest.approx(near_bayes_factor(prior), rel=3e-5)
    assert near_bayes_factor(prior) == pytest.approx(2.1)


def test_without_noise_there_is_no_factor():
    with pytest.raises(ValueError, match=r"noise_var must be > 0 .*, got 0"):
        near_bayes_factor(PRIORS["FIG1"])
