"""Softmax heads: the literal layers, equal starts and prompts, what the ridge cannot change."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import erf

from iclkit.nets import Recipe, SoftmaxHeads, init_weights, n_parameters, predict, train
from iclkit.papers.dual_kernel import (
    CubeRegression,
    best_linear_attention_loss,
    look_up,
    modified_output,
)
from iclkit.rng import stream
from tests.tolerances import FLOAT32, IDENTITY, SIGMAS, TRAINING

DIM, N_CONTEXT = 3, 5
LAW = CubeRegression(DIM)
SHORT = Recipe(steps=60, rate=0.01, batch=8, weight_decay=0.0)
ALL = {
    "plain": SoftmaxHeads(DIM),
    "two heads": SoftmaxHeads(DIM, heads=2, sign=-1),
    "ridge": SoftmaxHeads(DIM, ridge=0.5),
    "negatives": SoftmaxHeads(DIM, negative_weight=0.5, negative_ratio=0.4),
    "all negatives": SoftmaxHeads(DIM, negative_weight=1, negative_ratio=1),
    "value view": SoftmaxHeads(DIM, value_units=6),
    "key view": SoftmaxHeads(DIM, key_units=7),
    "masked": SoftmaxHeads(DIM, query_as_key=False),
    "masked with negatives": SoftmaxHeads(
        DIM, query_as_key=False, negative_weight=0.5, negative_ratio=0.4
    ),
    "linear": SoftmaxHeads(DIM, softmax=False),
    "everything": SoftmaxHeads(
        DIM, heads=3, ridge=-1, negative_weight=0.3, negative_ratio=0.6, value_units=4, key_units=2
    ),
}


def view(weights, name, head):
    """Return a head's nonlinear view of columns as a function of arrays, or nothing."""
    if f"A_{name}" not in weights:
        return None
    A, C = weights[f"A_{name}"][head], weights[f"C_{name}"][head]

    def seen(columns):
        u = A[:, :1] + A[:, 1:] @ columns
        return columns + C @ (u * (1 + erf(u / np.sqrt(2))) / 2)

    return seen


def literal(network, weights, tokens):
    """Return the answer for one prompt, token columns with the query last, head by head."""
    answer = 0.0
    for head in range(network.heads):
        maps = [weights[name][head] for name in ("W_Q", "W_K", "W_V")]
        views = {"value_view": view(weights, "V", head), "key_view": view(weights, "K", head)}
        lookup = look_up(tokens[:, :-1], tokens[:, -1], *maps, **views)
        if network.softmax:
            output = modified_output(
                lookup,
                ridge=network.ridge,
                negative_weight=network.negative_weight,
                negative_ratio=network.negative_ratio,
                masked=not network.query_as_key,
            )
        else:
            output = lookup.values @ (lookup.keys.T @ lookup.query) / tokens.shape[1]
        answer += output[-1]
    return answer


def some_tokens(rng, models, batch):
    tokens = rng.standard_normal((models, batch, N_CONTEXT + 1, DIM + 1))
    tokens[:, :, -1, -1] = 0
    return tokens


def stacked(network, rng, models):
    starts = [init_weights(network, rng=rng, generic=True) for _ in range(models)]
    weights = {name: torch.from_numpy(np.stack([s[name] for s in starts])) for name in starts[0]}
    return starts, weights


def trained(network, rng, laws=LAW, *, recipe=SHORT, **options):
    return train(network, laws, None, n_context=N_CONTEXT, recipe=recipe, rng=rng, **options)


class Recording:
    """A law that remembers the labels of all queries."""

    def __init__(self):
        self.drawn = []

    def sample(self, n_prompts, n_context, *, rng):
        prompts = LAW.sample(n_prompts, n_context, rng=rng)
        self.drawn.append(prompts.y_query)
        return prompts


# ------------------------------------------------------------------------ the forward pass


@pytest.mark.parametrize("network", ALL.values(), ids=ALL)
def test_answers_are_those_of_the_literal_layer(network, rng):
    starts, weights = stacked(network, rng, 3)
    tokens = some_tokens(rng, 3, 2)
    got = predict(network, weights, torch.from_numpy(tokens)).numpy()
    want = [
        [literal(network, start, prompt.T) for prompt in prompts]
        for start, prompts in zip(starts, tokens, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=IDENTITY, atol=IDENTITY)


@pytest.mark.parametrize("name", ["everything", "masked", "linear"])
def test_one_batch_of_prompts_serves_all_models(name, rng):
    _, weights = stacked(ALL[name], rng, 3)
    shared = torch.from_numpy(some_tokens(rng, 1, 4))
    got = predict(ALL[name], weights, shared)
    want = predict(ALL[name], weights, shared.expand(3, -1, -1, -1))
    torch.testing.assert_close(got, want, rtol=IDENTITY, atol=IDENTITY)


@pytest.mark.parametrize("network", ALL.values(), ids=ALL)
def test_the_number_of_weights_is_counted(network, rng):
    weights = init_weights(network, rng=rng)
    assert n_parameters(network) == sum(weight.size for weight in weights.values())


def test_the_ridge_does_nothing_where_the_values_do_not_read_the_inputs(rng):
    _, weights = stacked(ALL["plain"], rng, 2)
    weights["W_V"][:, :, -1, :-1] = 0
    tokens = torch.from_numpy(some_tokens(rng, 2, 3))
    plain = predict(ALL["plain"], weights, tokens)
    assert torch.equal(plain, predict(ALL["ridge"], weights, tokens))
    weights["W_V"][:, :, -1, :-1] = 1
    moved = predict(ALL["plain"], weights, tokens) - predict(ALL["ridge"], weights, tokens)
    assert moved.abs().min() > 0


# ------------------------------------------------------------------------ starts and training


def test_starts_are_signed_identities_with_common_noise():
    starts = {
        sign: init_weights(SoftmaxHeads(DIM, sign=sign), rng=stream(0, "start"))
        for sign in (1.0, -1.0, 0.0)
    }
    for name, factor in {"W_Q": 0, "W_K": 2, "W_V": 2}.items():
        difference = starts[1.0][name] - starts[-1.0][name]
        np.testing.assert_allclose(difference[0], factor * np.eye(DIM + 1), atol=IDENTITY)
    wide = init_weights(SoftmaxHeads(99, sign=0, spread=2.0), rng=stream(0, "start"))
    assert np.std(wide["W_K"]) == pytest.approx(0.2, abs=0.006)  # 4 s.e. of 10,000


def test_heads_start_with_alternating_signs(rng):
    weights = init_weights(SoftmaxHeads(20, heads=3, spread=0.01), rng=rng)
    np.testing.assert_allclose(np.einsum("hii->h", weights["W_K"]) / 21, [1, -1, 1], atol=0.01)
    np.testing.assert_allclose(np.einsum("hii->h", weights["W_Q"]) / 21, [1, 1, 1], atol=0.01)


def test_views_start_as_the_identity(rng):
    start = init_weights(ALL["everything"], rng=rng)
    assert not start["C_V"].any()
    assert not start["C_K"].any()
    assert start["A_V"].all()


@pytest.mark.parametrize("name", [name for name in ALL if name != "plain"])
def test_variants_of_one_seed_see_the_same_prompts(name):
    laws = Recording(), Recording()
    for network, law in zip((ALL["plain"], ALL[name]), laws, strict=True):
        trained(network, stream(0, "same"), law)
    np.testing.assert_array_equal(*(np.concatenate(law.drawn) for law in laws))


@pytest.mark.parametrize("name", ["everything", "two heads"])
def test_a_model_is_the_same_alone_and_in_company(name):
    alone = trained(ALL[name], stream(0, name), dtype="float64")
    company = trained(
        ALL[name], stream(0, name), [LAW, CubeRegression(DIM, "cos")], dtype="float64"
    )
    for part, weight in alone.weights.items():
        torch.testing.assert_close(
            weight[0], company.weights[part][0], rtol=TRAINING, atol=TRAINING
        )


def test_linear_attention_trains_to_its_limit():
    recipe = dataclasses.replace(SHORT, steps=600, rate=0.02, batch=64)
    models = trained(ALL["linear"], stream(0, "limit"), [LAW] * 4, recipe=recipe)
    prompts = LAW.sample(20_000, N_CONTEXT, rng=stream(1, "limit"))
    losses = models.losses(prompts).mean(axis=0)  # of all models, by prompt
    limit = best_linear_attention_loss(DIM, N_CONTEXT)
    excess = losses - limit  # inputs of variance 1/3 in three dimensions: labels of variance 1
    stderr = excess.std() / np.sqrt(len(excess))
    assert -SIGMAS * stderr < excess.mean() < 0.01 * limit + SIGMAS * stderr
    assert stderr < 0.02 * limit


# ------------------------------------------------------------------------ paired losses


def test_losses_are_those_of_each_prompt(rng):
    models = trained(ALL["plain"], rng, [LAW] * 3)
    prompts = LAW.sample(50, N_CONTEXT, rng=rng)
    losses = models.losses(prompts)
    for model in range(3):
        answers = models.predictor(model)(*prompts[:3])
        np.testing.assert_allclose(
            losses[model], (answers - prompts.y_query) ** 2, rtol=FLOAT32, atol=FLOAT32
        )
    np.testing.assert_allclose(
        models.losses(prompts, models=slice(1, None)), losses[1:], rtol=FLOAT32, atol=FLOAT32
    )


def test_losses_do_not_answer_for_nobody_or_another_dimension(rng):
    models = trained(ALL["plain"], rng)
    with pytest.raises(ValueError, match="models must choose some of 1"):
        models.losses(LAW.sample(2, N_CONTEXT, rng=rng), models=slice(1, 1))
    with pytest.raises(ValueError, match="the models are for dimension 3, got x of"):
        models.losses(CubeRegression(2).sample(2, N_CONTEXT, rng=rng))


# ------------------------------------------------------------------------ wrong input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, "heads must be >= 1"),
        ({"key_units": -1}, "key_units must be >= 0"),
        ({"ridge": np.inf}, "ridge must be finite"),
        ({"spread": 0}, "spread must be finite and > 0"),
        ({"negative_weight": -1.0}, "negative_weight must be finite and >= 0"),
        ({"negative_weight": 1.0}, "negative_ratio must be in .* set negative_weight=0"),
        ({"negative_weight": 1.0, "negative_ratio": 2}, "negative_ratio must be in .* got 2"),
    ],
)
def test_wrong_options_say_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxHeads(DIM, **options)
