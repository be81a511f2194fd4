"""Linear blocks and basic transformers: the literal networks, fresh prompts, clipping, watching."""

import dataclasses

import numpy as np
import pytest
import torch

from iclkit.nets import (
    BasicTransformer,
    LinearBlock,
    Recipe,
    init_weights,
    n_parameters,
    predict,
    train,
)
from iclkit.papers.linear_block import isotropic_prior
from iclkit.risk import monte_carlo_risk
from iclkit.rng import stream
from tests.oracles import basic_transformer_by_tokens, linear_block_by_matrices
from tests.tolerances import FLOAT32, IDENTITY, TRAINING

DIM, N_CONTEXT = 3, 4
PRIOR = isotropic_prior(DIM, n_context=N_CONTEXT, mean=1.0, noise_var=0.1)
SHIFTED = isotropic_prior(DIM, n_context=N_CONTEXT, mean=-1.0, noise_var=0.1)
SHORT = Recipe(steps=60, rate=0.01, batch=8, weight_decay=0.0, clip=1.0)
LONG = dataclasses.replace(SHORT, steps=230)
LINEAR = {
    "attention": LinearBlock(DIM),
    "block": LinearBlock(DIM, mlp_width=7),
    "narrow block": LinearBlock(DIM, key_width=2, value_width=1, mlp_width=1),
    "narrow attention": LinearBlock(DIM, key_width=1, value_width=2),
}
SOFTMAX = {
    "one layer": BasicTransformer(DIM),
    "one layer with mlp": BasicTransformer(DIM, mlp_width=6),
    "one head": BasicTransformer(DIM, heads=1, head_width=2, mlp_width=5, residual=False),
    "two layers": BasicTransformer(DIM, layers=2),
    "three layers with mlp": BasicTransformer(DIM, layers=3, heads=3, mlp_width=4),
    "read-out": BasicTransformer(DIM, readout=True),
    "query as key": BasicTransformer(DIM, query_as_key=True),
    "query as key, two layers": BasicTransformer(DIM, layers=2, query_as_key=True, mlp_width=3),
    "read-in and norms": BasicTransformer(
        DIM, layers=2, head_width=3, mlp_width=9, width=6, norm=True, readout=True
    ),
    "norms alone": BasicTransformer(DIM, mlp_width=4, norm=True),
}
ALL = LINEAR | SOFTMAX
KINDS = ["block", "two layers", "read-in and norms"]


def literal(network, weights, tokens):
    if isinstance(network, LinearBlock):
        return linear_block_by_matrices(weights, tokens)
    options = {"residual": network.residual, "query_as_key": network.query_as_key}
    return basic_transformer_by_tokens(weights, tokens, layers=network.layers, **options)


def some_tokens(rng, models, batch):
    tokens = rng.standard_normal((models, batch, N_CONTEXT + 1, DIM + 1))
    tokens[:, :, -1, -1] = 0
    return tokens


def stacked(network, rng, models):
    starts = [init_weights(network, rng=rng, generic=True) for _ in range(models)]
    weights = {name: torch.from_numpy(np.stack([s[name] for s in starts])) for name in starts[0]}
    return starts, weights


def trained(network, rng, laws=PRIOR, *, recipe=SHORT, **options):
    return train(network, laws, None, n_context=N_CONTEXT, recipe=recipe, rng=rng, **options)


def same_bits(one, other):
    return all(torch.equal(w, other.weights[name]) for name, w in one.weights.items())


def label_gain(weights):
    """Something to watch: the last entry of the read matrix."""
    return float(weights["W_P"][:, -1] @ weights["W_V"][:, -1])


# ------------------------------------------------------------------------ the forward pass


@pytest.mark.parametrize("network", ALL.values(), ids=ALL)
def test_answers_are_those_of_the_literal_network(network, rng):
    starts, weights = stacked(network, rng, 3)
    tokens = some_tokens(rng, 3, 2)
    got = predict(network, weights, torch.from_numpy(tokens)).numpy()
    want = [
        [literal(network, w, t) for t in prompts] for w, prompts in zip(starts, tokens, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=IDENTITY, atol=IDENTITY)


@pytest.mark.parametrize("network", ALL.values(), ids=ALL)
def test_gradients_are_those_of_the_literal_network(network, rng):
    starts, weights = stacked(network, rng, 2)
    tokens = torch.from_numpy(some_tokens(rng, 2, 2))
    for weight in weights.values():
        weight.requires_grad_()
    predict(network, weights, tokens).square().sum().backward()
    for model, start in enumerate(starts):
        alone = {name: torch.from_numpy(w).requires_grad_() for name, w in start.items()}
        sum(literal(network, alone, prompt) ** 2 for prompt in tokens[model]).backward()
        for name, weight in alone.items():
            torch.testing.assert_close(
                weights[name].grad[model], weight.grad, rtol=IDENTITY, atol=IDENTITY
            )


@pytest.mark.parametrize("name", KINDS)
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


def test_a_plain_start_is_plain(rng):
    weights = init_weights(SOFTMAX["read-in and norms"], rng=rng)
    assert not weights["embed"][:, 0].any()
    assert not weights["W_1_1"][:, 0].any()
    assert not weights["shift0"].any()
    assert (weights["scale"] == 1).all()
    wide = init_weights(LinearBlock(99, spread=0.5), rng=rng)
    assert np.std(wide["W_K"]) == pytest.approx(0.5, abs=0.015)  # 4 s.e. of 10,000


def test_a_linear_read_out_is_a_relu_mlp_of_two_units(rng):
    read = init_weights(SOFTMAX["read-out"], rng=rng)
    row = read.pop("readout").copy()
    row[-1] -= 1  # the residual adds the label's place
    unit = np.eye(DIM + 1)[-1]
    block = read | {"W_1_0": np.insert([row, -row], 0, 0, axis=1), "W_2_0": np.array([unit, -unit])}
    tokens = torch.from_numpy(some_tokens(rng, 1, 5))

    def stack(weights):
        return {name: torch.from_numpy(array)[None] for name, array in weights.items()}

    row[-1] += 1
    got = predict(BasicTransformer(DIM, mlp_width=2), stack(block), tokens)
    want = predict(SOFTMAX["read-out"], stack(read | {"readout": row}), tokens)
    torch.testing.assert_close(got, want, rtol=IDENTITY, atol=IDENTITY)


# ------------------------------------------------------------------------ fresh prompts


@pytest.mark.parametrize("name", KINDS)
def test_a_model_is_the_same_alone_and_in_company(name):
    alone = trained(ALL[name], stream(0, name), dtype="float64")
    laws = [PRIOR, SHIFTED, PRIOR]
    company = trained(ALL[name], stream(0, name), laws, dtype="float64")
    assert company.n_models == 3
    for part, weight in alone.weights.items():
        torch.testing.assert_close(
            weight[0], company.weights[part][0], rtol=TRAINING, atol=TRAINING
        )
    first, third = company.train_loss[[0, 2]]
    assert first != third  # the same law, but prompts and weights of its own


def test_every_model_has_new_prompts_in_every_step():
    class Counting:
        def __init__(self):
            self.drawn = []

        def sample(self, n_prompts, n_context, *, rng):
            prompts = PRIOR.sample(n_prompts, n_context, rng=rng)
            self.drawn.append(prompts.y_query)
            return prompts

    law = Counting()
    trained(LINEAR["block"], stream(0), [law] * 2, recipe=dataclasses.replace(SHORT, steps=120))
    queries = np.concatenate(law.drawn[2:])  # each model's first draw only tells requests apart
    assert len(queries) == 2 * 120 * 8 == len(np.unique(queries))


def test_training_on_fresh_prompts_lowers_the_risk():
    recipe = Recipe(steps=600, rate=0.01, batch=32, weight_decay=0.0)
    result = trained(LINEAR["block"], stream(0), recipe=recipe)
    np.testing.assert_array_equal(result.train_loss, result.history[-1])
    at = {"n_context": N_CONTEXT, "n_prompts": 2000}
    found = result.errors(PRIOR, rng=stream(1), **at)
    assert found.value[0] + 4 * found.stderr[0] < 3.1  # predicting by the mean task alone
    risk = monte_carlo_risk(result.predictor(0), PRIOR, **at, rng=stream(1))
    np.testing.assert_allclose(found.value[0], risk.value, rtol=FLOAT32)


def test_what_is_watched_is_a_function_of_the_weights():
    result = trained(LINEAR["block"], stream(0), [PRIOR] * 2, watch=label_gain, watch_every=100)
    assert list(result.watched_steps) == [0, 60]
    assert result.watched.shape == (2, 2)
    want = [label_gain(result.arrays(model)) for model in range(2)]
    np.testing.assert_array_equal(result.watched[-1], want)
    child = stream(0).spawn(1)[0]
    PRIOR.sample(2, N_CONTEXT, rng=child)
    start = label_gain(init_weights(LINEAR["block"], rng=child))
    np.testing.assert_allclose(result.watched[0, 0], start, rtol=FLOAT32)


def test_watching_changes_nothing_and_each_model_may_have_its_watch():
    watched = trained(LINEAR["block"], stream(0), [PRIOR] * 2, watch=[label_gain, lambda _: 7.0])
    assert (watched.watched[:, 1] == 7).all()
    pair = trained(LINEAR["block"], stream(0), [PRIOR] * 2, watch=lambda w: w["W_P"][0, :2])
    assert pair.watched.shape == (2, 2, 2)
    plain = trained(LINEAR["block"], stream(0), [PRIOR] * 2)
    assert same_bits(watched, plain)
    assert plain.watched.shape == (0, 2)


def test_a_watch_cannot_change_the_weights():
    def spoil(weights):
        weights["W_P"][:] = 0
        return 1.0

    plain, watched = (
        trained(LINEAR["block"], stream(0), dtype="float64", watch=watch) for watch in (None, spoil)
    )
    assert same_bits(watched, plain)
    watched.arrays(0)["W_Q"][:] = 0
    assert same_bits(watched, plain)


def first_moves(clip):
    """All moves of each model in the first step; AdamW moves by rate * g / (|g| + 1e-8)."""
    recipe = dataclasses.replace(SHORT, clip=clip, steps=1, schedule="constant")
    result = trained(LINEAR["block"], stream(0), [PRIOR, SHIFTED], recipe=recipe, dtype="float64")
    moves = []
    for model, child in enumerate(stream(0).spawn(2)):
        PRIOR.sample(2, N_CONTEXT, rng=child)
        start, end = init_weights(LINEAR["block"], rng=child), result.arrays(model)
        moves.append(np.concatenate([(end[name] - start[name]).ravel() for name in start]))
    return np.abs(moves)


def test_gradients_are_clipped_model_by_model():
    free, loose, tight = first_moves(None), first_moves(1e9), first_moves(1e-9)
    np.testing.assert_array_equal(free, loose)
    np.testing.assert_allclose(np.median(free, axis=1), 0.01, rtol=1e-4)
    clipped = 1e-8 * tight / (0.01 - tight)  # the gradients behind the moves
    np.testing.assert_allclose(np.linalg.norm(clipped, axis=1), 1e-9, rtol=1e-4)


# ------------------------------------------------------------------------ checkpoints


class Short:
    """A law that forgets a prompt."""

    def sample(self, n_prompts, n_context, *, rng):
        return PRIOR.sample(n_prompts - 1, n_context, rng=rng)


def growing():
    seen = []
    return lambda _: seen.append(0) or seen[1:]


class StopError(Exception):
    """Raised by a progress callback to interrupt a run."""


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("stop", [100, 150])
def test_a_resumed_run_ends_with_the_same_bits(name, stop, tmp_path):
    def report(done, _steps, _loss):
        if done >= stop:
            raise StopError

    watch = {"watch": lambda w: np.ravel(next(iter(w.values())))[:3], "watch_every": 100}
    options = {"recipe": LONG, "checkpoint": tmp_path / "run.pt", "save_every": 100} | watch
    with pytest.raises(StopError):
        trained(ALL[name], stream(0), [PRIOR] * 2, progress=report, **options)
    resumed = trained(ALL[name], stream(0), [PRIOR] * 2, **options)
    whole = trained(ALL[name], stream(0), [PRIOR] * 2, recipe=LONG, **watch)
    assert same_bits(resumed, whole)
    for part in ("history", "history_steps", "train_loss", "watched", "watched_steps"):
        np.testing.assert_array_equal(getattr(resumed, part), getattr(whole, part))
    assert list(whole.watched_steps) == [0, 100, 200, 230]


@pytest.mark.parametrize(
    "change",
    [
        {"rng": stream(1)},
        {"laws": SHIFTED},
        {"recipe": dataclasses.replace(SHORT, clip=2.0)},
        {"network": LinearBlock(DIM, mlp_width=8)},
        {"watch": label_gain},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_checkpoint_of_another_request_is_refused(change, tmp_path):
    request = {"network": LINEAR["block"], "checkpoint": tmp_path / "run.pt"}
    trained(**request, rng=stream(0))
    with pytest.raises(ValueError, match=r"run\.pt belongs to another request; give"):
        trained(**(request | {"rng": stream(0)} | change))


# ------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearBlock(0), "dim must be >= 1, got 0"),
        (lambda: LinearBlock(3, key_width=0), "key_width must be >= 1, got 0"),
        (lambda: LinearBlock(3, value_width=-1), "value_width must be >= 1, got -1"),
        (lambda: LinearBlock(3, mlp_width=0), "mlp_width must be >= 1, got 0"),
        (lambda: LinearBlock(3, spread=0.0), "spread must be finite and > 0, got 0"),
        (lambda: BasicTransformer(3, layers=0), "layers must be >= 1, got 0"),
        (lambda: BasicTransformer(3, heads=0), "heads must be >= 1, got 0"),
        (lambda: BasicTransformer(3, head_width=0), "head_width must be >= 1, got 0"),
        (lambda: BasicTransformer(3, spread=np.nan), "spread must be finite and > 0, got nan"),
        (lambda: BasicTransformer(3, width=8), "width, a read-in, needs a read-out; give readout"),
        (lambda: Recipe(1, 0.1, clip=0.0), "clip must be finite and > 0, got 0"),
        (lambda: trained(LinearBlock(3), stream(0), []), "laws must be at least one, got none"),
        (lambda: trained(LinearBlock(4), stream(0)), "laws must have the network's dimension 4"),
        (lambda: trained(LinearBlock(3), stream(0), watch=[]), "watch must be one or 1, got 0"),
        (lambda: trained(LinearBlock(3), stream(0), watch_every=0), "watch_every must be >= 1"),
        (lambda: trained(LinearBlock(3), stream(0), device="meta"), "device meta is not available"),
        (lambda: trained(LinearBlock(3), stream(0), Short()), r"labels of shape \(2, 4\), got \(1"),
        (lambda: trained(LinearBlock(3), stream(0), watch=growing()), r"one shape, got \(1, 0\)"),
        (
            lambda: trained(LinearBlock(3), stream(0), [PRIOR] * 2, watch=[len, lambda _: [1, 2]]),
            r"watch must always return one shape, got \(\) and \(2,\)",
        ),
        (lambda: Recipe(1, 0.1, clip=-1), "clip must be finite and > 0, got -1"),
        (lambda: trained(LinearBlock(3), stream(0)).arrays(1), "model must be < 1, got 1"),
    ],
)
def test_a_wrong_request_is_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BasicTransformer(3, layers=1.5), r"layers must be an integer, got 1\.5"),
        (lambda: trained(LinearBlock(3), stream(0), 3), "laws must have a method sample, got int"),
        (lambda: trained(LinearBlock(3), stream(0), recipe=(60, 0.1)), "recipe must be a Recipe"),
        (lambda: trained(LinearBlock(3), stream(0), watch=3), "watch must be callable, got int"),
        (lambda: trained(LinearBlock(3), stream(0), watch=str), "watch must return a number"),
        (
            lambda: trained(LinearBlock(3), stream(0), watch=lambda _: [1, [2]]),
            "watch must return a number or an array, got list",
        ),
    ],
)
def test_a_wrong_type_is_a_type_error(make, message):
    with pytest.raises(TypeError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_not_a_folder(tmp_path):
    with pytest.raises(ValueError, match="checkpoint must be a file, got the folder"):
        trained(LINEAR["block"], stream(0), checkpoint=tmp_path)


def test_a_run_that_diverges_says_so():
    wild = Recipe(steps=200, rate=1e9, batch=4)
    with pytest.raises(FloatingPointError, match=r"the loss of model 0 is not finite .* lower"):
        trained(LINEAR["block"], stream(0), recipe=wild)
