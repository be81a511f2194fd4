"""Literal networks and their exact risk: cubature, loops, gradients, symmetries, bad input."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.papers.linear_block import (
    BlockPredictor,
    GDPredictor,
    Reduced,
    RegressionPrior,
    Weights,
    gd_to_block,
    guess_slot_predictor,
    network_gradient,
    network_risk,
    optimal_gd,
    reduce_network,
    reduced_gradient,
    reduced_risk,
    whiten,
)
from iclkit.risk import monte_carlo_risk
from iclkit.rng import stream
from tests.instances import PRIORS
from tests.oracles import block_by_loops, block_risk_by_cubature, linear_block_by_matrices
from tests.random_blocks import random_prior, random_weights
from tests.tolerances import IDENTITY, SIGMAS

SIZES = [(1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1)]
CASES = st.fixed_dictionaries(
    {"dim": st.integers(1, 5), "n_context": st.integers(1, 9), "seed": st.integers(0, 999)}
)


def draw(case, *, mlp=True, **options):
    """A random prior and the reduced numbers of a random network."""
    rng = stream(case["seed"], "network")
    prior = random_prior(rng, case["dim"], case["n_context"], **options)
    return prior, reduce_network(*random_weights(rng, case["dim"], mlp=mlp))


def risk_of(prior, reduced):
    return reduced_risk(prior, **reduced._asdict())


# ------------------------------------------------------------------ the polynomial


@pytest.mark.parametrize("mlp", [True, False])
@pytest.mark.parametrize(("dim", "n_context"), SIZES)
def test_risk_is_that_of_the_literal_network(dim, n_context, mlp, rng):
    prior, weights = random_prior(rng, dim, n_context), random_weights(rng, dim, mlp=mlp)
    expected = block_risk_by_cubature(prior, *weights)
    assert np.isclose(network_risk(prior, *weights), expected, rtol=IDENTITY)


@pytest.mark.parametrize(
    ("ranks", "noise_var"),
    [((1, 2), 0.3), ((2, 1), 0.0), ((1, 1), 0.0), ((2, 0), 0.3), ((0, 2), 0)],
)
def test_singular_covariances_and_no_noise(ranks, noise_var, rng):
    prior = random_prior(rng, 2, 2, ranks=ranks, noise_var=noise_var)
    weights = random_weights(rng, 2)
    expected = block_risk_by_cubature(prior, *weights)
    found = network_risk(prior, *weights)
    assert np.isclose(found, expected, rtol=IDENTITY, atol=0), (found, expected)


def test_risk_in_many_dimensions_is_what_prompts_show(rng):
    prior, weights = random_prior(rng, 6, 12), random_weights(rng, 6, scale=0.5)
    sampled = monte_carlo_risk(BlockPredictor(weights), prior, 12, n_prompts=200_000, rng=rng)
    assert abs(sampled.value - network_risk(prior, *weights)) < SIGMAS * sampled.stderr


def test_a_different_constant_would_be_seen(rng):
    """The cubature is sharp: one more example in the context is another risk."""
    prior, weights = random_prior(rng, 2, 2), random_weights(rng, 2)
    other = dataclasses.replace(prior, n_context=3)
    expected = block_risk_by_cubature(prior, *weights)
    assert not np.isclose(network_risk(other, *weights), expected, rtol=1e-3)


def test_weights_of_zero_predict_zero():
    prior = PRIORS["GEN3"]
    label = prior.task_cov + np.outer(prior.task_mean, prior.task_mean)
    expected = prior.noise_var + np.vdot(prior.input_cov, label)
    found = reduced_risk(prior, u=[0, 0, 0], u0=0, U=np.zeros((3, 3)), v=[0, 0, 0])
    assert np.isclose(found, expected, rtol=IDENTITY)


def test_one_dimension_by_hand():
    """With u = v = gamma = 0 and U = c: variance, shrinkage and context error of a slope."""
    c, M, mean, psi, noise_var = 0.7, 4, 1.5, 0.8, 0.3
    prior = RegressionPrior([[1]], [mean], [[psi]], noise_var, M)
    s = mean**2 + psi
    expected = noise_var + s * (1 - 2 * c) + c**2 * ((1 + 2 / M) * s + noise_var / M)
    found = reduced_risk(prior, u=[0], u0=1, U=[[c]], v=[0])
    assert np.isclose(found, expected, rtol=IDENTITY)


def test_integers_are_numbers():
    prior = PRIORS["GEN3"]
    given = {"u": [1, 0, 2], "u0": 1, "U": np.eye(3, dtype=int), "v": [0, 1, 0], "gamma": [1, 1, 1]}
    floats = {name: np.asarray(value, dtype=float) for name, value in given.items()}
    assert reduced_risk(prior, **given) == reduced_risk(prior, **floats)


# ------------------------------------------------------------------ symmetries


@settings(max_examples=60, deadline=None)
@given(case=CASES, log_c=st.floats(-90, 90), sign=st.sampled_from([-1, 1]))
def test_values_and_keys_share_one_scale(case, log_c, sign):
    prior, (u, u0, U, v, gamma) = draw(case)
    c = sign * 10.0**log_c
    scaled = Reduced(c * u, c * u0, U / c, v / c, gamma)
    expected = risk_of(prior, Reduced(u, u0, U, v, gamma))
    assert np.isclose(risk_of(prior, scaled), expected, rtol=IDENTITY)


@settings(max_examples=60, deadline=None)
@given(case=CASES)
def test_rotations_change_nothing(case):
    prior, (u, u0, U, v, gamma) = draw(case)
    Q = np.linalg.qr(stream(case["seed"], "turn").standard_normal((prior.dim, prior.dim)))[0]
    turned = dataclasses.replace(
        prior,
        input_cov=Q @ prior.input_cov @ Q.T,
        task_mean=Q @ prior.task_mean,
        task_cov=Q @ prior.task_cov @ Q.T,
    )
    there = Reduced(Q @ u, u0, Q @ U @ Q.T, Q @ v, Q @ gamma)
    expected = risk_of(prior, Reduced(u, u0, U, v, gamma))
    assert np.isclose(risk_of(turned, there), expected, rtol=1e-10)


@settings(max_examples=60, deadline=None)
@given(case=CASES, drop=st.integers(0, 2))
def test_whitened_coordinates_have_the_same_risk(case, drop):
    ranks = max(1, case["dim"] - drop), case["dim"]
    prior, (u, u0, U, v, gamma) = draw(case, ranks=ranks)
    values, mean, noise_var, n_context, L, _ = whiten(prior)
    white = RegressionPrior(np.eye(len(mean)), mean, np.diag(values), noise_var, n_context)
    there = Reduced(L.T @ u, u0, L.T @ U @ L, L.T @ v, L.T @ gamma)
    expected = risk_of(prior, Reduced(u, u0, U, v, gamma))
    assert np.isclose(risk_of(white, there), expected, rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(case=CASES, mlp=st.booleans(), noise_var=st.sampled_from([0.0, 1e-3, 10.0]))
def test_nothing_beats_the_optimum(case, mlp, noise_var):
    prior, reduced = draw(case, mlp=mlp, noise_var=noise_var)
    assert risk_of(prior, reduced) >= optimal_gd(prior).risk * (1 - IDENTITY)


@settings(max_examples=60, deadline=None)
@given(case=CASES)
def test_the_perceptron_moves_the_target_alone(case):
    """A block with gamma is attention whose target mean is the rest of the mean task."""
    prior, (u, u0, U, v, gamma) = draw(case)
    moved = dataclasses.replace(prior, task_mean=prior.task_mean - gamma)
    there = Reduced(u + u0 * gamma, u0, U + np.outer(gamma, v), v)
    expected = risk_of(prior, Reduced(u, u0, U, v, gamma))
    assert np.isclose(risk_of(moved, there), expected, rtol=1e-10)


@pytest.mark.parametrize("inputs", [1e-200, 1e-30, 1.0, 1e150])
@pytest.mark.parametrize("labels", [1e-150, 1e-30, 1e80])
def test_any_units_of_inputs_and_labels(inputs, labels, rng):
    """Variances of inputs and labels times a constant: the risk follows the labels."""
    prior, (u, u0, U, v, gamma) = PRIORS["GEN3"], reduce_network(*random_weights(rng, 3))
    p, q = np.sqrt(inputs), np.sqrt(labels)
    other = RegressionPrior(
        inputs * prior.input_cov,
        q / p * prior.task_mean,
        q / p * prior.task_cov * (q / p),
        labels * prior.noise_var,
        prior.n_context,
    )
    there = Reduced(u / p, u0 / q, U / p * (q / p), v / p, gamma * (q / p))
    risk, slope = reduced_gradient(prior, Reduced(u, u0, U, v, gamma))
    other_risk, other_slope = reduced_gradient(other, there)
    assert np.isclose(other_risk / labels, risk, rtol=IDENTITY, atol=0)
    assert np.isclose(other_slope.u0 / q / labels, slope.u0, rtol=1e-9, atol=0)
    np.testing.assert_allclose(other_slope.gamma / q / p, slope.gamma, rtol=1e-9)


# ------------------------------------------------------------------ the gradient


@pytest.mark.parametrize("mlp", [True, False])
@pytest.mark.parametrize(("dim", "n_context"), [(1, 1), (2, 5), (4, 2)])
def test_gradient_in_the_matrices(dim, n_context, mlp, rng):
    """The risk is quadratic in each single entry, so that differences are exact."""
    prior, weights = random_prior(rng, dim, n_context), random_weights(rng, dim, mlp=mlp)
    risk, gradient = network_gradient(prior, weights)
    assert risk == network_risk(prior, *weights)
    for name, matrix in weights._asdict().items():
        slope = getattr(gradient, name)
        if matrix is None:
            assert slope is None
            continue
        expected = [entry_slope(prior, weights, name, at) for at in np.ndindex(matrix.shape)]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(slope.ravel(), expected, rtol=1e-9, atol=1e-9 * scale)


def entry_slope(prior, weights, name, at):
    risks = []
    for step in (0.5, -0.5):
        moved = getattr(weights, name).copy()
        moved[at] += step
        risks.append(network_risk(prior, *weights._replace(**{name: moved})))
    return risks[0] - risks[1]


@settings(max_examples=60, deadline=None)
@given(case=CASES, drop=st.integers(0, 2), noise_var=st.sampled_from([0.0, 0.4]))
def test_gradient_along_random_directions(case, drop, noise_var):
    """A quadratic in (u, u0) and in (U, v, gamma): differences are exact in either."""
    ranks = case["dim"], max(0, case["dim"] - drop)
    prior, reduced = draw(case, ranks=ranks, noise_var=noise_var)
    rng = stream(case["seed"], "direction")
    _, slope = reduced_gradient(prior, reduced)
    for names in (("u", "u0"), ("U", "v", "gamma")):
        step = {name: rng.standard_normal(np.shape(getattr(reduced, name))) for name in names}
        ahead, back = (
            risk_of(prior, moved(reduced, {name: sign * part for name, part in step.items()}))
            for sign in (0.5, -0.5)
        )
        found = sum(np.vdot(getattr(slope, name), part) for name, part in step.items())
        assert np.isclose(found, ahead - back, rtol=1e-9, atol=1e-10 * (ahead + back))


def moved(reduced, step):
    return reduced._replace(
        **{
            name: getattr(reduced, name) + (part if part.ndim else float(part))
            for name, part in step.items()
        }
    )


def test_no_gamma_is_a_gamma_of_zero(rng):
    prior, reduced = PRIORS["GEN3"], reduce_network(*random_weights(rng, 3, mlp=False))
    assert (reduced.gamma == 0).all()
    one, other = (reduced_gradient(prior, reduced._replace(gamma=g)) for g in (None, np.zeros(3)))
    assert one[0] == other[0]
    assert all(np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True))


# ------------------------------------------------------------------ networks


@pytest.mark.parametrize("mlp", [True, False])
def test_predictor_is_the_network_by_loops(mlp, rng):
    weights, prior = random_weights(rng, 3, mlp=mlp), PRIORS["GEN3"]
    prompts = prior.sample(6, rng=rng)
    found = BlockPredictor(weights)(*prompts[:3])
    for answer, x, y, x_query in zip(found, *prompts[:3], strict=True):
        tokens = np.vstack([np.column_stack([x, y]), np.append(x_query, 0)])
        named = {name: w for name, w in weights._asdict().items() if w is not None}
        assert np.isclose(answer, block_by_loops(*weights, tokens), rtol=IDENTITY)
        assert np.isclose(answer, linear_block_by_matrices(named, tokens), rtol=IDENTITY)


@pytest.mark.parametrize("mlp", [True, False])
def test_a_guess_sits_in_the_label_slot_of_the_query(mlp, rng):
    weights, guess = random_weights(rng, 3, mlp=mlp), rng.standard_normal(3)
    x, y, x_query, *_ = PRIORS["GEN3"].sample(1, rng=rng)
    found = BlockPredictor(weights, guess)(x, y, x_query)
    tokens = np.vstack([np.column_stack([x[0], y[0]]), np.append(x_query[0], x_query[0] @ guess)])
    assert np.isclose(found[0], block_by_loops(*weights, tokens), rtol=IDENTITY)


@pytest.mark.parametrize("mlp", [True, False])
def test_reduced_numbers_answer_like_the_network(mlp, rng):
    weights = random_weights(rng, 3, mlp=mlp)
    u, u0, U, v, gamma = reduce_network(*weights)
    x, y, x_query, *_ = PRIORS["GEN3"].sample(1, rng=rng)
    tokens = np.column_stack([x[0], y[0]])
    G, B = tokens.T @ tokens / len(tokens), np.vstack([U, v])
    expected = x_query[0] @ (gamma + B.T @ G @ np.append(u, u0))
    assert np.isclose(BlockPredictor(weights)(x, y, x_query)[0], expected, rtol=IDENTITY)


@pytest.mark.parametrize("minimal", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_blocks_take_gradient_steps(dim, minimal, rng):
    prior, beta, gamma = random_prior(rng, dim, 7), *steps(rng, dim)
    prompts = prior.sample(200, rng=rng)[:3]
    found = BlockPredictor(gd_to_block(beta, gamma, minimal=minimal))(*prompts)
    expected = GDPredictor(beta, gamma)(*prompts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=IDENTITY * np.abs(expected).max())


def steps(rng, dim):
    return rng.standard_normal(dim), rng.standard_normal((dim, dim))


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_smallest_widths(rank, rng):
    left, right = rng.standard_normal((2, 4, rank))
    gamma = left @ right.T
    block = gd_to_block(np.ones(4), gamma, minimal=True)
    assert [len(matrix) for matrix in block] == [1, 1, max(rank, 1), max(rank, 1), 1, 1]
    reduced = reduce_network(*block)
    np.testing.assert_allclose(reduced.U, gamma.T, rtol=0, atol=IDENTITY)
    np.testing.assert_array_equal(reduced.u, -np.ones(4))


def test_full_widths_are_those_of_the_lemma():
    block = gd_to_block([1, 2], [[3, 4], [5, 6]])
    assert [matrix.shape for matrix in block] == [(3, 3)] * 6
    perceptron, value = block.W_2.T @ block.W_1, block.W_P.T @ block.W_V
    assert perceptron[-1].tolist() == [1, 2, 1]
    assert value.tolist() == np.diag([-1, -1, 1]).tolist()
    assert (block.W_K.T @ block.W_Q)[:, :2].tolist() == [[3, 5], [4, 6], [0, 0]]


@pytest.mark.parametrize("dim", [1, 4])
def test_a_guessed_label_replaces_the_perceptron(dim, rng):
    prior, beta, gamma = random_prior(rng, dim, 5), *steps(rng, dim)
    prompts = prior.sample(200, rng=rng)[:3]
    found = guess_slot_predictor(beta, gamma)(*prompts)
    expected = GDPredictor(beta, gamma)(*prompts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=IDENTITY * np.abs(expected).max())
    assert guess_slot_predictor(beta, gamma).weights.W_1 is None


PREDICTORS = {
    "block": lambda rng: BlockPredictor(random_weights(rng, 3)),
    "attention": lambda rng: BlockPredictor(random_weights(rng, 3, mlp=False)),
    "guess": lambda rng: guess_slot_predictor(*steps(rng, 3)),
    "step": lambda rng: GDPredictor(*steps(rng, 3)),
}


@pytest.mark.parametrize("name", PREDICTORS)
class TestContract:
    def test_shapes_order_and_independence(self, name, rng):
        predictor = PREDICTORS[name](rng)
        x, y, x_query, *_ = PRIORS["GEN3"].sample(5, rng=rng)
        before = [part.copy() for part in (x, y, x_query)]
        found = predictor(x, y, x_query)
        assert found.shape == (5,)
        assert all((a == b).all() for a, b in zip(before, (x, y, x_query), strict=True))
        np.testing.assert_allclose(predictor(x[:, ::-1], y[:, ::-1], x_query), found, rtol=1e-9)
        np.testing.assert_allclose(predictor(x[2:3], y[2:3], x_query[2:3])[0], found[2], rtol=1e-9)

    def test_other_context_lengths(self, name, rng):
        x, y, x_query, *_ = PRIORS["GEN3"].sample(2, 1, rng=rng)
        assert np.isfinite(PREDICTORS[name](rng)(x, y, x_query)).all()

    def test_integers(self, name, rng):
        predictor = PREDICTORS[name](rng)
        x, y, x_query = np.ones((2, 4, 3), int), np.ones((2, 4), int), np.ones((2, 3), int)
        assert (predictor(x, y, x_query) == predictor(1.0 * x, 1.0 * y, 1.0 * x_query)).all()

    @pytest.mark.parametrize(
        ("shapes", "message"),
        [
            (((2, 4, 2), (2, 4), (2, 3)), r"x must have shape \(2, 4, 3\), got \(2, 4, 2\)"),
            (((2, 4, 3), (2, 5), (2, 3)), r"x must have shape \(2, 5, 3\), got \(2, 4, 3\)"),
            (((2, 4, 3), (2, 4), (1, 3)), r"x_query must have shape \(2, 3\), got \(1, 3\)"),
            (((2, 0, 3), (2, 0), (2, 3)), "y must not be empty"),
            (((4, 3), (4,), (3,)), "y must have 2 axes"),
        ],
    )
    def test_bad_prompts(self, name, shapes, message, rng):
        with pytest.raises(ValueError, match=message):
            PREDICTORS[name](rng)(*map(np.ones, shapes))


def test_predictors_keep_their_own_weights(rng):
    weights, gamma = random_weights(rng, 3), np.eye(3)
    block, step = BlockPredictor(weights), GDPredictor(np.ones(3), gamma)
    weights.W_P[:], gamma[:] = 0.0, 0.0
    assert block.weights.W_P.all()
    assert (step.gamma == np.eye(3)).all()
    with pytest.raises(ValueError, match="read-only"):
        step.gamma[0, 0] = 2.0


# ------------------------------------------------------------------ bad input

WIDE = dict(zip(Weights._fields, [np.ones((2, 3))] * 6, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"W_P": np.ones((3, 3))}, ValueError, r"W_V must have shape \(3, 3\), got \(2, 3\)"),
        ({"W_Q": np.ones((2, 4))}, ValueError, r"W_Q must have shape \(2, 3\), got \(2, 4\)"),
        ({"W_1": np.ones((2, 4))}, ValueError, r"W_1 must have shape \(2, 3\), got \(2, 4\)"),
        ({"W_1": None}, ValueError, "W_1 must be given, got None; leave out W_1 and W_2 for"),
        ({"W_2": None}, ValueError, "W_2 must be given, got None"),
        ({"W_V": None}, TypeError, "W_V must hold real numbers, got dtype object"),
        ({"W_K": np.ones(3)}, ValueError, "W_K must have 2 axes"),
        ({"W_K": np.ones((0, 3))}, ValueError, "W_K must not be empty"),
        ({"W_2": np.full((2, 3), np.nan)}, ValueError, "W_2 must be finite"),
        ({"W_2": [["a"]]}, TypeError, "W_2 must hold real numbers"),
    ],
)
def test_bad_weights(change, error, message):
    for call in (reduce_network, lambda **w: BlockPredictor(Weights(**w))):
        with pytest.raises(error, match=message) as caught:
            call(**(WIDE | change))
        assert "\n" not in str(caught.value)


def test_weights_must_fit_the_prior():
    with pytest.raises(ValueError, match=r"W_P must have shape \(2, 4\), got \(2, 3\)"):
        network_risk(PRIORS["GEN3"], **WIDE)
    with pytest.raises(ValueError, match=r"W_P must have shape \(2, 4\), got \(2, 3\)"):
        network_gradient(PRIORS["GEN3"], Weights(**WIDE))
    with pytest.raises(
        ValueError, match=r"W_P must have dim \+ 1 >= 2 columns, got shape \(2, 1\)"
    ):
        reduce_network(*[np.ones((2, 1))] * 4)
    with pytest.raises(ValueError, match=r"guess must have shape \(2,\), got \(3,\)"):
        BlockPredictor(Weights(**WIDE), np.ones(3))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"u": [1, 2]}, ValueError, r"u must have shape \(3,\), got \(2,\)"),
        ({"U": np.eye(2)}, ValueError, r"U must have shape \(3, 3\), got \(2, 2\)"),
        ({"U": np.ones(3)}, ValueError, "U must have 2 axes"),
        ({"v": [[1, 2, 3]]}, ValueError, "v must have 1 axes"),
        ({"v": [1, np.nan, 3]}, ValueError, "v must be finite"),
        ({"gamma": [1]}, ValueError, r"gamma must have shape \(3,\), got \(1,\)"),
        ({"u0": np.nan}, ValueError, "u0 must be finite"),
        ({"u0": [1.0]}, TypeError, "u0 must be a number, got list"),
    ],
)
def test_bad_reduced_numbers(change, error, message):
    good = {"u": np.ones(3), "u0": 1.0, "U": np.eye(3), "v": np.ones(3), "gamma": np.ones(3)}
    for call in (reduced_risk, lambda prior, **r: reduced_gradient(prior, Reduced(**r))):
        with pytest.raises(error, match=message):
            call(PRIORS["GEN3"], **(good | change))


def test_a_prior_is_a_prior():
    with pytest.raises(TypeError, match="prior must be a RegressionPrior, got dict"):
        network_risk({}, **WIDE)
    with pytest.raises(TypeError, match="prior must be a RegressionPrior, got ndarray"):
        reduced_risk(np.eye(2), u=[0, 0], u0=1, U=np.eye(2), v=[0, 0])


@pytest.mark.parametrize(
    ("beta", "gamma", "message"),
    [
        ([1, 2], [[1]], r"gamma must have shape \(2, 2\), got \(1, 1\)"),
        ([1, 2], [1, 2], "gamma must have 2 axes"),
        ([[1, 2]], np.eye(2), "beta must have 1 axes"),
        ([np.inf, 2], np.eye(2), "beta must be finite"),
    ],
)
@pytest.mark.parametrize("call", [gd_to_block, guess_slot_predictor, GDPredictor])
def test_bad_steps(call, beta, gamma, message):
    with pytest.raises(ValueError, match=message):
        call(beta, gamma)
