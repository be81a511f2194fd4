"""Modified layers: reference values, gradient steps by autograd and in function space, limits."""

import numpy as np
import pytest
import torch

from iclkit.nets.gradient import gradient_step
from iclkit.papers.dual_kernel import (
    attend,
    descend,
    dual_gradient,
    dual_output,
    look_up,
    modified_output,
    negative_samples,
    ridge_steps,
    signed_weights,
    zero_shot_model,
)
from iclkit.papers.dual_kernel.attention import scores_of
from tests.instances import tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED

CORE = tokens_and_weights()
NEGATIVES = {"negative_weight": 0.5, "negative_ratio": 0.4}
OPTIONS = {
    "plain": {},
    "ridge": {"ridge": 0.3},
    "negative ridge": {"ridge": -1.0},
    "negatives": NEGATIVES,
    "all negatives": {"negative_weight": 1.0, "negative_ratio": 1.0},
    "both": {"ridge": 0.3, **NEGATIVES},
}


def value_view(z):
    return z + 0.5 * np.tanh(z)


def key_view(z):
    return z + 0.5 * np.maximum(z, 0)


def random_tokens(rng):
    """Return (demo, query, W_Q, W_K, W_V) of random sizes."""
    d, d_k, d_v, n, t = rng.integers(1, 9, size=5)
    shapes = [(d, n), (d, t), (d_k, d), (d_k, d), (d_v, d)]
    return [rng.standard_normal(shape) for shape in shapes]


# ------------------------------------------------------------------------ the layers


def test_reference_values_of_the_core_instance():
    lookup = look_up(*CORE)
    regularised = modified_output(lookup, ridge=0.3)
    np.testing.assert_allclose(regularised, [0.8525437696, -0.5763536944], rtol=PRINTED)
    contrasted = modified_output(lookup, **NEGATIVES)
    np.testing.assert_allclose(contrasted, [1.103449863, -0.5792452517], rtol=PRINTED)
    viewed = modified_output(look_up(*CORE, value_view=value_view, key_view=key_view))
    np.testing.assert_allclose(viewed, [1.226494529, -0.7996318835], rtol=PRINTED)
    np.testing.assert_array_equal(negative_samples(lookup, 0.4), [0, 1])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_layer_is_one_step_of_the_dual_model(options, rng):
    for _ in range(20):
        tokens = random_tokens(rng)
        layer = modified_output(look_up(*tokens), **options)
        step = dual_output(*tokens, **options, learning_rate=rng.uniform(0.1, 3))
        np.testing.assert_allclose(layer, step, rtol=IDENTITY, atol=IDENTITY)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_layer_is_one_step_by_autograd(options, rng):
    """With finite positive features, whose inner products take the place of the kernel."""
    n, n_demo, n_features, rate = 9, 6, 40, 0.7
    features = np.exp(rng.standard_normal((n_features, n + 1)))
    values, keys, query = rng.standard_normal((3, n)), features[:, :n], features[:, n]
    weights = signed_weights(np.log(keys.T @ query), n_demo, **options)
    total = (keys.T @ query).sum()
    order = np.argsort(keys[:, :n_demo].T @ query)
    beta, share = options.get("negative_weight", 0), options.get("negative_ratio", 0)
    chosen = order[: max(1, round(share * n_demo))]
    targets = values[:, :n_demo] - beta * values[:, chosen].mean(axis=1, keepdims=True)
    start = values[:, n_demo:] @ keys[:, n_demo:].T / total
    ridge = options.get("ridge", 0.0)

    def loss(W, phi, target):
        match = (target * (W @ phi)).sum() / total
        return (0.5 * ridge * torch.sum(W * W) - match) / rate

    trained = gradient_step(loss, start, keys[:, :n_demo], targets, rate=rate)
    np.testing.assert_allclose(trained @ query, values @ weights, rtol=IDENTITY, atol=IDENTITY)


def test_views_change_keys_and_values_and_nothing_else(rng):
    tokens = random_tokens(rng)
    views = {"value_view": value_view, "key_view": key_view}
    layer = modified_output(look_up(*tokens, **views), **OPTIONS["both"])
    step = dual_output(*tokens, **views, **OPTIONS["both"])
    np.testing.assert_allclose(layer, step, rtol=IDENTITY, atol=IDENTITY)


def test_without_options_the_layer_is_attention(rng):
    lookup = look_up(*random_tokens(rng))
    np.testing.assert_allclose(modified_output(lookup), attend(lookup).output, rtol=IDENTITY)


# ------------------------------------------------------------------------ the weights


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_weights_of_many_queries_are_those_of_each(options, rng):
    scores = rng.standard_normal((4, 2, 8))
    together = signed_weights(scores, 5, **options)
    for index in np.ndindex(4, 2):
        alone = signed_weights(scores[index], 5, **options)
        np.testing.assert_allclose(together[index], alone, rtol=IDENTITY)


def test_what_the_weights_sum_to(rng):
    scores = rng.standard_normal(9)
    demo_share = signed_weights(scores, 6)[:6].sum()
    total = signed_weights(scores, 6, ridge=0.3, negative_weight=0.5, negative_ratio=0.5).sum()
    assert total == pytest.approx(1 - 0.3 * (1 - demo_share) - 0.5 * demo_share, rel=IDENTITY)


def test_a_masked_query_is_no_key(rng):
    scores = rng.standard_normal((3, 7))
    masked = signed_weights(scores, 6, masked=True, **NEGATIVES)
    np.testing.assert_array_equal(masked[:, -1], 0)
    np.testing.assert_allclose(masked[:, :-1], signed_weights(scores[:, :-1], 6, **NEGATIVES))


def test_negative_samples_remove_a_common_value_shift(rng):
    lookup = look_up(*random_tokens(rng))
    shift = lookup.values + (np.arange(len(scores_of(lookup))) < lookup.n_demo)
    options = OPTIONS["all negatives"]
    np.testing.assert_allclose(
        modified_output(lookup._replace(values=shift), **options),
        modified_output(lookup, **options),
        rtol=IDENTITY,
        atol=IDENTITY,
    )


def test_ties_take_the_earlier_token_as_the_dual_model_does():
    weights = signed_weights([0, 0, 0, 0], 3, negative_weight=1, negative_ratio=0.3)
    np.testing.assert_allclose(weights, [-0.5, 0.25, 0.25, 0.25], rtol=IDENTITY)


def test_huge_scores_do_not_overflow():
    weights = signed_weights([1e4, -1e4, 0], 2, **NEGATIVES)
    np.testing.assert_allclose(weights, [1, -0.5, 0], atol=IDENTITY)


# ------------------------------------------------------------------------ several steps


@pytest.mark.parametrize("ridge", [0.0, 0.3, 1.0, -0.2])
def test_several_steps_with_weight_decay(ridge, rng):
    lookup = look_up(*random_tokens(rng))
    model = zero_shot_model(lookup)
    for n_steps in range(5):
        want = model(lookup.query)
        got = ridge_steps(lookup, ridge, n_steps)
        np.testing.assert_allclose(got, want, rtol=IDENTITY, atol=IDENTITY)
        model = descend(model, dual_gradient(lookup, model, ridge=ridge))


def test_many_steps_forget_the_zero_shot_part():
    lookup = look_up(*CORE)
    taught = modified_output(lookup, ridge=1.0)
    np.testing.assert_allclose(ridge_steps(lookup, 0.3, 200), taught / 0.3, rtol=IDENTITY)


# ------------------------------------------------------------------------ wrong input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ridge": np.nan}, "ridge must be finite"),
        ({"negative_weight": -1}, "negative_weight must be finite and >= 0, got -1.0"),
        ({"negative_weight": 1}, "negative_ratio must be in .* set negative_weight=0"),
        ({"negative_weight": 1, "negative_ratio": 1.5}, "negative_ratio must be in .* got 1.5"),
        ({"masked": True}, "n_demo must be at most the number of keys, got 3 .* last masked"),
    ],
)
def test_wrong_options_say_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        signed_weights([1, 2, 3], 3, **options)


def test_wrong_scores_say_what_is_wrong():
    with pytest.raises(ValueError, match="scores must be finite"):
        signed_weights([0, np.nan], 1)
    with pytest.raises(ValueError, match="n_demo must be at most the number of keys, got 3"):
        signed_weights([1, 2], 3)
    with pytest.raises(TypeError, match="n_demo must be an integer"):
        signed_weights([1, 2], 1.0)
    with pytest.raises(ValueError, match="n_steps must be >= 0"):
        ridge_steps(look_up(*CORE), 0.1, -1)


def test_the_input_stays_as_it_was(rng):
    scores = rng.standard_normal(5)
    before = scores.copy()
    signed_weights(scores, 3, ridge=1, masked=True, **NEGATIVES)
    np.testing.assert_array_equal(scores, before)
