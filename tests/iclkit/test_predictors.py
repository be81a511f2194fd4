import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.predictors import (
    ContextRidge,
    GaussianBayes,
    GradientStep,
    LinearAttention,
    PoolBayes,
    Zero,
    pool_posterior,
)
from iclkit.prompts import Gaussian, IsotropicLinear, TaskPool, sphere_tasks
from iclkit.rng import stream
from tests.oracles import features_by_loops, pool_posterior_by_loops, ridge_obvious
from tests.tolerances import IDENTITY, SIGMAS

DIM = 4
POOL = sphere_tasks(6, DIM, rng=stream(0, "pool"))
GAMMA = stream(0, "gamma").standard_normal((DIM, DIM + 1))
PREDICTORS = {
    "zero": Zero(),
    "ridge": ContextRidge(0.3),
    "ridgeless": ContextRidge(0.0),
    "gaussian bayes": GaussianBayes(0.1, task_var=2.0),
    "pool bayes": PoolBayes(POOL, noise_var=0.1),
    "linear attention": LinearAttention(GAMMA),
    "gradient step": GradientStep(3.0),
}


@pytest.fixture
def prompts():
    law = IsotropicLinear(Gaussian(DIM), noise_var=0.1)
    return law.sample(5, 7, rng=stream(0, "prompts"))[:3]


@pytest.mark.parametrize("predictor", PREDICTORS.values(), ids=PREDICTORS)
class TestContractOfPredictors:
    def test_one_finite_answer_per_prompt(self, predictor, prompts):
        y_hat = predictor(*prompts)
        assert y_hat.shape == (5,)
        assert y_hat.dtype == np.float64
        assert np.isfinite(y_hat).all()

    @pytest.mark.parametrize("n_context", [1, 2, 4, 30])
    def test_any_length_of_context(self, predictor, n_context, rng):
        law = IsotropicLinear(POOL, noise_var=0.1)
        assert np.isfinite(predictor(*law.sample(3, n_context, rng=rng)[:3])).all()

    def test_deterministic_and_without_traces(self, predictor, prompts):
        kept = [part.copy() for part in prompts]
        assert np.array_equal(predictor(*prompts), predictor(*prompts))
        assert all(map(np.array_equal, prompts, kept))

    def test_invariant_to_the_order_of_the_context(self, predictor, prompts):
        x, y, x_query = prompts
        shuffled = predictor(x[:, ::-1], y[:, ::-1], x_query)
        np.testing.assert_allclose(shuffled, predictor(x, y, x_query), rtol=IDENTITY)

    def test_prompts_of_a_batch_do_not_meet(self, predictor, prompts):
        together = predictor(*prompts)
        alone = [predictor(*(part[i : i + 1] for part in prompts))[0] for i in range(5)]
        np.testing.assert_allclose(alone, together, rtol=IDENTITY)
        others = [part.copy() for part in prompts]
        for part in others:
            part[1:] *= 1e3
        np.testing.assert_allclose(predictor(*others)[0], together[0], rtol=IDENTITY)

    def test_integers_just_work(self, predictor):
        x, y, x_query = np.ones((2, 3, DIM), int), np.ones((2, 3), int), np.ones((2, DIM), int)
        expected = predictor(x.astype(float), y.astype(float), x_query.astype(float))
        assert np.array_equal(predictor(x, y, x_query), expected)

    @pytest.mark.parametrize(
        ("x", "y", "x_query", "message"),
        [
            ((2, 3, DIM), (2, 4), (2, DIM), "must have shapes"),
            ((2, 3, DIM), (2, 3), (3, DIM), "must have shapes"),
            ((2, 3, DIM), (2, 3), (2, DIM + 1), "must have shapes"),
            ((3, DIM), (3,), (DIM,), "x must have 3 axes"),
            ((2, 0, DIM), (2, 0), (2, DIM), "x must not be empty"),
        ],
    )
    def test_shapes_must_match(self, predictor, x, y, x_query, message):
        with pytest.raises(ValueError, match=message):
            predictor(np.ones(x), np.ones(y), np.ones(x_query))

    @pytest.mark.parametrize("spoiled", range(3))
    def test_nan_is_refused(self, predictor, prompts, spoiled):
        prompts[spoiled].flat[0] = np.nan
        with pytest.raises(ValueError, match="must be finite"):
            predictor(*prompts)


# ---------------------------------------------------------------- oracles


def test_zero(prompts):
    assert (Zero()(*prompts) == 0).all()


@pytest.mark.parametrize(
    ("predictor", "penalty"),
    [(ContextRidge(0.3), 0.3), (ContextRidge(0), 0), (GaussianBayes(0.1, task_var=2.0), 0.05)],
)
def test_ridge_predictors(predictor, penalty, prompts):
    expected = [q @ ridge_obvious(x, y, penalty) for x, y, q in zip(*prompts, strict=True)]
    np.testing.assert_allclose(predictor(*prompts), expected, rtol=1e-9)


def test_pool_bayes(prompts):
    expected = []
    for x, y, x_query in zip(*prompts, strict=True):
        task = pool_posterior_by_loops(x, y, POOL.tasks, 0.1) @ POOL.tasks
        expected.append(task @ x_query)
    np.testing.assert_allclose(PREDICTORS["pool bayes"](*prompts), expected, rtol=IDENTITY)


def test_linear_attention(prompts):
    expected = [q @ GAMMA @ features_by_loops(x, y) for x, y, q in zip(*prompts, strict=True)]
    np.testing.assert_allclose(PREDICTORS["linear attention"](*prompts), expected, rtol=IDENTITY)


def test_linear_attention_is_a_gradient_step(prompts):
    gamma = np.hstack([np.eye(DIM), np.zeros((DIM, 1))]) * 3.0 / DIM
    np.testing.assert_allclose(
        LinearAttention(gamma)(*prompts), GradientStep(3.0)(*prompts), rtol=IDENTITY
    )


def test_gradient_step_by_finite_differences(prompts):
    """Downhill by automatic means: the loss changes along each axis as the step says."""
    x, y, _ = (part[0] for part in prompts)
    step = GradientStep(3.0)
    for axis, small in enumerate(1e-4 * np.eye(DIM)):
        loss = [np.mean((y - x @ w) ** 2) / 2 for w in (small, -small)]
        slope = (loss[0] - loss[1]) / 2e-4
        moved = step(x[None], y[None], np.eye(DIM)[[axis]])[0]
        assert moved == pytest.approx(-3.0 * slope, rel=1e-6)


# ---------------------------------------------------------------- limits


def test_ridge_answers_zero_for_a_huge_penalty(prompts):
    np.testing.assert_allclose(ContextRidge(1e15)(*prompts), 0, atol=1e-13)


def test_pool_bayes_finds_the_task_without_noise():
    prompts = IsotropicLinear(POOL, noise_var=0).sample(20, 8, rng=stream(1, "sharp"))
    y_hat = PoolBayes(POOL, noise_var=1e-12)(*prompts[:3])
    np.testing.assert_allclose(y_hat, prompts.y_query, atol=IDENTITY)


def test_pool_bayes_answers_the_mean_task_when_noise_drowns_all(prompts):
    y_hat = PoolBayes(POOL, noise_var=1e15)(*prompts)
    np.testing.assert_allclose(y_hat, prompts[2] @ POOL.mean, atol=1e-9)


def test_pool_of_one_task(prompts):
    task = POOL.tasks[:1]
    y_hat = PoolBayes(TaskPool(task), noise_var=0.1)(*prompts)
    np.testing.assert_allclose(y_hat, prompts[2] @ task[0], rtol=IDENTITY)


@settings(max_examples=50, deadline=None)
@given(noise_var=st.floats(1e-30, 1e30), size=st.floats(-1e100, 1e100), seed=st.integers(0, 9))
def test_posteriors_are_probabilities_however_far_the_data(noise_var, size, seed):
    rng = stream(seed, "posterior")
    x, y = rng.standard_normal((2, 3, DIM)), size * rng.standard_normal((2, 3))
    posterior = pool_posterior(x, y, POOL, noise_var=noise_var)
    assert (posterior >= 0).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1, rtol=IDENTITY)


def test_the_posterior_does_not_depend_on_the_chunk(prompts, monkeypatch):
    whole = pool_posterior(*prompts[:2], POOL, noise_var=0.1)
    monkeypatch.setattr("iclkit.predictors._CHUNK", 1)
    assert np.array_equal(pool_posterior(*prompts[:2], POOL, noise_var=0.1), whole)


# ---------------------------------------------------------------- optimality


def gain(better, worse, prior):
    """Paired risk difference of two predictors in standard errors."""
    law = IsotropicLinear(prior, noise_var=0.3)
    x, y, x_query, y_query, _ = law.sample(40_000, 6, rng=stream(0, "gain"))
    loss = [(y_query - predictor(x, y, x_query)) ** 2 for predictor in (better, worse)]
    gap = loss[1] - loss[0]
    return gap.mean() / gap.std() * np.sqrt(gap.size)


@pytest.mark.parametrize(
    "rival",
    [ContextRidge(0.15), ContextRidge(0.6), GradientStep(2.0), PoolBayes(POOL, 0.3)],
)
def test_gaussian_bayes_beats_the_others_on_gaussian_tasks(rival):
    assert gain(GaussianBayes(0.3), rival, Gaussian(DIM)) > SIGMAS


@pytest.mark.parametrize(
    "rival", [GaussianBayes(0.3), PoolBayes(POOL, 0.1), PoolBayes(TaskPool(POOL.tasks[:5]), 0.3)]
)
def test_pool_bayes_beats_the_others_on_its_pool(rival):
    assert gain(PoolBayes(POOL, 0.3), rival, POOL) > SIGMAS


# ---------------------------------------------------------------- bad parameters


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ContextRidge(-1), ValueError, "penalty must be finite and >= 0, got -1"),
        (lambda: GaussianBayes(-0.1), ValueError, "noise_var must be finite and >= 0"),
        (lambda: GaussianBayes(0.1, task_var=0), ValueError, "task_var must be finite and > 0"),
        (lambda: PoolBayes(POOL, 0), ValueError, "noise_var must be finite and > 0, got 0"),
        (lambda: PoolBayes(POOL, np.nan), ValueError, "noise_var must be finite and > 0"),
        (lambda: GradientStep(-1), ValueError, "step_size must be finite and >= 0"),
        (lambda: GradientStep("1"), TypeError, "step_size must be a number"),
        (lambda: LinearAttention(np.eye(3)), ValueError, r"gamma must have shape \(dim, dim \+ 1"),
        (lambda: LinearAttention([1.0]), ValueError, "gamma must have 2 axes"),
    ],
)
def test_bad_parameters(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_dimensions_must_match_the_parameters():
    x, y, x_query = np.ones((1, 2, 3)), np.ones((1, 2)), np.ones((1, 3))
    with pytest.raises(ValueError, match=r"gamma is for dimension 4, got x of \(1, 2, 3\)"):
        LinearAttention(GAMMA)(x, y, x_query)
    with pytest.raises(ValueError, match="x must have the shape of y and the pool's dimension"):
        PoolBayes(POOL, 0.1)(x, y, x_query)


def test_weights_are_kept_as_a_read_only_copy():
    gamma = GAMMA.copy()
    predictor = LinearAttention(gamma)
    gamma[:] = 0
    assert np.array_equal(predictor.gamma, GAMMA)
    with pytest.raises(ValueError, match="read-only"):
        predictor.gamma[0, 0] = 1
