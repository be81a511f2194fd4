"""The law of the prompts: its moments, its whitened form, singular cases, bad input."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.papers.linear_block import (
    RegressionPrior,
    bayes_equivalent,
    gap_bounds,
    gd_risk,
    isotropic_prior,
    optimal_attention,
    optimal_gd,
    whiten,
)
from iclkit.rng import stream
from tests.instances import PRIORS
from tests.random_blocks import random_prior
from tests.tolerances import IDENTITY, SIGMAS

TWO = {
    "input_cov": [[2, 0.5], [0.5, 1]],
    "task_mean": [1, -2],
    "task_cov": [[1, 0], [0, 0]],
    "noise_var": 0.25,
    "n_context": 3,
}


def assert_mean(samples, expected):
    """Assert that the mean of independent draws, (draws, ...), is as expected."""
    samples = np.asarray(samples).reshape(len(samples), -1)
    stderr = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    off = np.abs(samples.mean(axis=0) - np.ravel(expected))
    assert (off <= SIGMAS * stderr + IDENTITY).all(), off / stderr


# ------------------------------------------------------------------ sampling


@pytest.mark.parametrize("name", ["GEN3", "RANKDEF"])
def test_samples_have_the_stated_moments(name, rng):
    prior = PRIORS[name]
    x, y, x_query, y_query, task = prior.sample(20_000, 2, rng=rng)
    assert_mean(task, prior.task_mean)
    spread = task - prior.task_mean
    assert_mean(np.einsum("bi,bj->bij", spread, spread), prior.task_cov)
    for inputs, labels in ((x[:, 0], y[:, 0]), (x[:, 1], y[:, 1]), (x_query, y_query)):
        assert_mean(np.einsum("bi,bj->bij", inputs, inputs), prior.input_cov)
        noise = labels - np.einsum("bi,bi->b", inputs, task)
        assert_mean(noise**2, prior.noise_var)
        assert_mean(noise[:, None] * inputs, np.zeros(prior.dim))
        assert_mean(np.einsum("bi,bj->bij", spread, inputs), np.zeros((prior.dim, prior.dim)))
    assert_mean(np.einsum("bi,bj->bij", x[:, 0], x_query), np.zeros((prior.dim, prior.dim)))


def test_inputs_stay_in_the_range_of_their_covariance(rng):
    prompts = PRIORS["RANKDEF"].sample(50, rng=rng)
    assert (prompts.x[..., 2] == 0).all()
    assert (prompts.x_query[:, 2] == 0).all()


def test_without_spread_and_noise_labels_are_the_mean_tasks(rng):
    prior = RegressionPrior(np.eye(2), [3, -1], np.zeros((2, 2)), 0, 4)
    prompts = prior.sample(5, rng=rng)
    np.testing.assert_array_equal(prompts.task, np.tile([3.0, -1.0], (5, 1)))
    np.testing.assert_allclose(prompts.y, prompts.x @ [3, -1], rtol=IDENTITY)


def test_the_prior_is_a_law_for_its_own_and_other_contexts():
    prior = RegressionPrior(**TWO)
    assert prior.sample(2, rng=stream(0)).x.shape == (2, 3, 2)
    assert prior.sample(2, 7, rng=stream(0)).x.shape == (2, 7, 2)
    one, same, other = (prior.sample(2, rng=stream(seed)) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert (one.x != other.x).all()


# ------------------------------------------------------------------ the object


def test_integers_become_floats_and_the_caller_keeps_its_arrays():
    mean = np.array([1.0, 2.0])
    prior = RegressionPrior([[2, 0], [0, 1]], mean, [[1, 0], [0, 1]], 1, 4)
    mean[0] = 9.0
    assert prior.task_mean.tolist() == [1.0, 2.0]
    assert {prior.input_cov.dtype, prior.task_cov.dtype} == {np.dtype(float)}
    assert isinstance(prior.noise_var, float)
    with pytest.raises(ValueError, match="read-only"):
        prior.task_cov[0, 0] = 2.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        prior.noise_var = 2.0


def test_rounding_of_a_covariance_is_no_mistake():
    root = stream(0).standard_normal((6, 3))
    skewed = root @ root.T
    skewed[0, 1] *= 1 + 1e-15
    prior = RegressionPrior(np.eye(6), np.zeros(6), skewed, 0, 1)
    assert (prior.task_cov == prior.task_cov.T).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"noise_var": -1}, ValueError, "noise_var must be finite and >= 0, got -1"),
        ({"noise_var": np.nan}, ValueError, "noise_var must be finite and >= 0, got nan"),
        ({"noise_var": "1"}, TypeError, "noise_var must be a number, got str"),
        ({"n_context": 0}, ValueError, "n_context must be >= 1, got 0"),
        ({"n_context": 2.5}, TypeError, "n_context must be an integer, got 2.5"),
        ({"task_mean": [1, np.nan]}, ValueError, "task_mean must be finite"),
        ({"task_mean": [1, 2, 3]}, ValueError, r"input_cov must have shape \(3, 3\)"),
        ({"task_mean": 1.0}, ValueError, "task_mean must have 1 axes"),
        ({"task_mean": []}, ValueError, "task_mean must not be empty"),
        ({"task_cov": [[1, 0]]}, ValueError, r"task_cov must have shape \(2, 2\)"),
        ({"task_cov": np.eye(3)}, ValueError, r"task_cov must have shape \(2, 2\).*got \(3, 3\)"),
        ({"task_cov": [[1, np.inf], [np.inf, 1]]}, ValueError, "task_cov must be finite"),
        ({"task_cov": [[1, 0.5], [0, 1]]}, ValueError, "task_cov must be symmetric, .* 0.5 "),
        ({"input_cov": [[1, 2], [2, 1]]}, ValueError, "input_cov must have no negative .* got -1"),
        ({"input_cov": [["a", 0], [0, 1]]}, TypeError, "input_cov must hold real numbers"),
    ],
)
def test_bad_input_is_named_in_one_line(change, error, message):
    with pytest.raises(error, match=message) as caught:
        RegressionPrior(**(TWO | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dim": 0}, ValueError, "dim must be >= 1, got 0"),
        ({"dim": 2.0}, TypeError, "dim must be an integer"),
        ({"task_var": -1}, ValueError, "task_var must be finite and >= 0, got -1"),
        ({"mean": [1, 2, 3]}, ValueError, r"must have shape \(3, 3\)"),
        ({"mean": np.nan}, ValueError, "^mean must be finite"),
    ],
)
def test_bad_isotropic_input(change, error, message):
    with pytest.raises(error, match=message):
        isotropic_prior(**({"dim": 2, "n_context": 3} | change))


def test_isotropic_priors():
    prior = isotropic_prior(3, n_context=4, mean=[1, 2, 3], noise_var=0.5, task_var=2)
    assert (prior.input_cov == np.eye(3)).all()
    assert (prior.task_cov == 2 * np.eye(3)).all()
    assert prior.task_mean.tolist() == [1, 2, 3]
    assert (prior.noise_var, prior.n_context, prior.dim) == (0.5, 4, 3)


@pytest.mark.parametrize(
    "call", [lambda p: p.sample(0, rng=stream(0)), lambda p: p.sample(2, 0, rng=stream(0))]
)
def test_empty_samples_are_refused(call):
    with pytest.raises(ValueError, match="must be >= 1, got 0"):
        call(RegressionPrior(**TWO))


def test_a_seed_is_no_generator():
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, got int"):
        RegressionPrior(**TWO).sample(2, rng=0)


# ------------------------------------------------------------------ whitening


@settings(max_examples=60, deadline=None)
@given(
    dim=st.integers(1, 6),
    drop=st.integers(0, 3),
    thin=st.integers(0, 3),
    seed=st.integers(0, 999),
)
def test_whitening_keeps_its_promises(dim, drop, thin, seed):
    ranks = max(1, dim - drop), max(1, dim - thin)
    prior = random_prior(stream(seed, "whiten"), dim, 3, ranks=ranks)
    white, H, Psi = whiten(prior), prior.input_cov, prior.task_cov
    rank = ranks[0]
    close = {"rtol": 0, "atol": IDENTITY}
    assert white.root.shape == (dim, rank)
    assert (np.diff(white.values) <= 0).all()
    assert (white.values >= 0).all()
    np.testing.assert_allclose(white.root @ white.root.T, H, **close)
    np.testing.assert_allclose(white.root.T @ Psi @ white.root, np.diag(white.values), **close)
    np.testing.assert_allclose(white.root.T @ prior.task_mean, white.mean, **close)
    np.testing.assert_allclose(white.trace, np.trace(H @ Psi), rtol=IDENTITY, atol=IDENTITY)
    np.testing.assert_allclose(white.square, np.trace(H @ Psi @ H @ Psi), rtol=1e-9, atol=IDENTITY)
    np.testing.assert_allclose(white.norm2, prior.task_mean @ H @ prior.task_mean, rtol=1e-9)
    assert white.level == white.trace + prior.noise_var
    omega = (1 + 1 / 3) * white.values + white.level / 3
    np.testing.assert_allclose(white.curvature, omega, rtol=IDENTITY)


@pytest.mark.parametrize("name", sorted(PRIORS))
def test_the_inverse_whitens(name):
    prior = PRIORS[name]
    white = whiten(prior)
    unit = white.inverse @ prior.input_cov @ white.inverse.T
    np.testing.assert_allclose(unit, np.eye(len(white.values)), atol=IDENTITY)


def test_a_prior_without_inputs_keeps_one_empty_direction():
    white = whiten(RegressionPrior(np.zeros((2, 2)), [1, 1], np.eye(2), 0.5, 2))
    assert white.values.tolist() == [0.0]
    assert (white.norm2, white.level) == (0.0, 0.5)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
def test_whitening_takes_any_units(scale):
    prior = PRIORS["GEN3"]
    other = dataclasses.replace(
        prior,
        input_cov=scale * prior.input_cov,
        task_mean=prior.task_mean / np.sqrt(scale),
        task_cov=prior.task_cov / scale,
    )
    np.testing.assert_allclose(whiten(other).values, whiten(prior).values, rtol=IDENTITY)
    assert np.isclose(whiten(other).norm2, whiten(prior).norm2, rtol=IDENTITY)
    assert np.isclose(optimal_gd(other).risk, optimal_gd(prior).risk, rtol=IDENTITY)


# ------------------------------------------------------------------ rounding and range


def test_a_negative_eigenvalue_of_rounding_size_is_zero():
    """Else a large mean in that direction makes the risk negative."""
    prior = RegressionPrior(np.diag([1, -1e-11]), [1, 1e6], np.eye(2), 0, 3)
    assert prior.input_cov.tolist() == [[1, 0], [0, 0]]
    with pytest.raises(ValueError, match="no negative eigenvalue, got -1e-09"):
        RegressionPrior(np.diag([1, -1e-9]), [1, 1], np.eye(2), 0, 3)
    with pytest.raises(ValueError, match="must be symmetric, got entries that differ by 1e-09"):
        RegressionPrior([[1, 1e-9], [0, 1]], [1, 1], np.eye(2), 0, 3)


def apart(*, noise_var):
    """Inputs and tasks in orthogonal planes, turned: their product is 0 up to rounding."""
    rng = stream(3, "apart")
    Q, left, right = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(3))
    one, two = Q[:, :2] @ left[:2, :2], Q[:, 2:] @ right[:2, :2]
    return RegressionPrior(one @ one.T, np.ones(4), two @ two.T, noise_var, 3)


@pytest.mark.parametrize("noise_var", [0.0, 0.1])
def test_a_product_that_is_rounding_is_zero(noise_var):
    prior = apart(noise_var=noise_var)
    assert (whiten(prior).values == 0).all()
    best = optimal_gd(prior)
    assert best.risk == pytest.approx(noise_var, abs=1e-14)
    assert gd_risk(prior, best.beta, best.gamma) == pytest.approx(noise_var, abs=1e-14)


def test_task_variances_below_rounding_are_zero(rng):
    factor = rng.standard_normal((6, 2))
    prior = RegressionPrior(np.eye(6), np.zeros(6), factor @ factor.T, 0.1, 3)
    assert (whiten(prior).values > 0).sum() == 2


@pytest.mark.parametrize(
    "change",
    [{"task_mean": [1e200, 0]}, {"input_cov": np.full((2, 2), 1e308)}, {"noise_var": 1e301}],
)
def test_labels_whose_variance_overflows_are_refused(change):
    with pytest.raises(ValueError, match=r"labels must have a variance below 1e\+300, got"):
        RegressionPrior(**(TWO | change))


@pytest.mark.parametrize("function", [optimal_attention, gap_bounds, bayes_equivalent])
def test_formulas_of_degree_four_refuse_labels_whose_fourth_power_is_lost(function):
    for size in (1e-160, 1e160):
        prior = isotropic_prior(2, n_context=3, noise_var=size, task_var=size)
        with pytest.raises(ValueError, match=r"labels must have a standard deviation between"):
            function(prior)
