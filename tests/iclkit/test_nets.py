"""Trained networks: equal to literal ones, independent of each other, resumable, of known rank."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from iclkit.nets import (
    Network,
    Recipe,
    init_weights,
    jacobian_rank,
    linear_attention,
    n_parameters,
    predict,
    softmax_block,
    train,
    transformer,
)
from iclkit.prompts import Gaussian, IsotropicLinear, TaskPool
from iclkit.risk import monte_carlo_risk
from iclkit.rng import stream
from tests.oracles import (
    linear_network_all_tokens,
    linear_network_by_tokens,
    linear_network_without_biases,
    softmax_network_by_tokens,
)
from tests.tolerances import FLOAT32, IDENTITY, TRAINING

DIM, N_CONTEXT, RHO = 3, 4, 0.01
LAW = IsotropicLinear(Gaussian(DIM), RHO)
SHORT = Recipe(steps=60, rate=0.01, batch=8)
NETWORKS = {
    "linear": linear_attention(DIM),
    "wide linear": linear_attention(DIM, 7),
    "narrow linear": linear_attention(DIM, 1),
    "linear without biases": linear_attention(DIM, bias=False),
    "softmax": softmax_block(DIM),
    "wide softmax": softmax_block(DIM, 5),
    "transformer": transformer(DIM),
    "three blocks": transformer(DIM, blocks=3, width=4),
    "two blocks without mlp": Network(DIM, DIM, 2, "softmax", mlp=False),
}
KINDS = ["linear", "softmax", "transformer"]


def literal(network, weights, tokens):
    if network.attention == "softmax":
        return softmax_network_by_tokens(weights, network.blocks, tokens)
    return (linear_network_by_tokens if network.bias else linear_network_without_biases)(
        weights, tokens
    )


def some_tokens(rng, models, batch):
    tokens = rng.standard_normal((models, batch, N_CONTEXT + 1, DIM + 1))
    tokens[:, :, -1, -1] = 0
    return tokens


def stacked(network, rng, models):
    starts = [init_weights(network, rng=rng, generic=True) for _ in range(models)]
    weights = {name: torch.from_numpy(np.stack([s[name] for s in starts])) for name in starts[0]}
    return starts, weights


def trained(network, rng, n_prompts=(5, 9), *, recipe=SHORT, **options):
    return train(network, LAW, n_prompts, n_context=N_CONTEXT, recipe=recipe, rng=rng, **options)


def same_bits(one, other):
    names = one.weights.keys()
    return names == other.weights.keys() and all(
        torch.equal(one.weights[name], other.weights[name]) for name in names
    )


# ------------------------------------------------------------------------ the forward pass


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_answers_are_those_of_the_literal_network(network, rng):
    starts, weights = stacked(network, rng, 3)
    tokens = some_tokens(rng, 3, 2)
    got = predict(network, weights, torch.from_numpy(tokens)).numpy()
    want = [
        [literal(network, w, t) for t in prompts] for w, prompts in zip(starts, tokens, strict=True)
    ]
    np.testing.assert_allclose(got, want, rtol=IDENTITY, atol=IDENTITY)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
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
            got, want = weights[name].grad[model], weight.grad
            torch.testing.assert_close(got, want, rtol=IDENTITY, atol=IDENTITY)


@pytest.mark.parametrize("name", KINDS)
def test_one_batch_of_prompts_serves_all_models(name, rng):
    network = NETWORKS[name]
    _, weights = stacked(network, rng, 3)
    shared = torch.from_numpy(some_tokens(rng, 1, 4))
    got = predict(network, weights, shared)
    want = predict(network, weights, shared.expand(3, -1, -1, -1))
    torch.testing.assert_close(got, want, rtol=IDENTITY, atol=IDENTITY)


def test_the_batched_oracle_of_the_benchmark_is_the_literal_network(rng):
    weights = init_weights(linear_attention(DIM), rng=rng, generic=True)
    tokens = some_tokens(rng, 1, 3)[0]
    want = [linear_network_by_tokens(weights, prompt) for prompt in tokens]
    np.testing.assert_allclose(linear_network_all_tokens(weights, tokens), want, rtol=IDENTITY)


@pytest.mark.parametrize("name", KINDS)
def test_single_precision_is_close_to_double(name, rng):
    network = NETWORKS[name]
    _, weights = stacked(network, rng, 2)
    tokens = torch.from_numpy(some_tokens(rng, 2, 20))
    single = predict(network, {n: w.float() for n, w in weights.items()}, tokens.float())
    want = predict(network, weights, tokens)
    torch.testing.assert_close(single.double(), want, rtol=FLOAT32, atol=FLOAT32)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_number_of_weights_is_counted(network, rng):
    weights = init_weights(network, rng=rng)
    assert n_parameters(network) == sum(weight.size for weight in weights.values())


def test_biases_start_at_zero_and_norms_as_the_identity(rng):
    weights = init_weights(transformer(DIM), rng=rng)
    assert not weights["embed"][:, 0].any()
    assert not weights["mlp1"][:, 0].any()
    assert weights["readout"][0] == 0
    assert (weights["scale0"] == 1).all()
    assert not weights["shift1"].any()
    assert weights["query0"].all()
    without = init_weights(linear_attention(DIM, bias=False), rng=rng)
    assert without["query"].all()


def test_matrices_start_with_variance_one_over_inputs(rng):
    weights = init_weights(linear_attention(99), rng=rng)
    assert np.var(weights["key"][:, 1:]) * 100 == pytest.approx(1, abs=0.06)  # 4 s.e. of 9,900
    block = init_weights(softmax_block(99), rng=rng)
    assert np.var(block["value0"]) * 99 == pytest.approx(1, abs=0.06)


# ------------------------------------------------------------------------ training


@pytest.mark.parametrize("name", KINDS)
def test_a_model_is_the_same_alone_and_in_company(name):
    network = NETWORKS[name]
    alone = trained(network, stream(0, name), 9, dtype="float64")
    company = trained(network, stream(0, name), [9, 5, 12], dtype="float64")
    assert company.n_models == 3
    for part, weight in alone.weights.items():
        torch.testing.assert_close(
            weight[0], company.weights[part][0], rtol=TRAINING, atol=TRAINING
        )
    np.testing.assert_allclose(alone.train_loss[0], company.train_loss[0], rtol=TRAINING)


def test_models_differ_from_each_other():
    result = trained(linear_attention(DIM), stream(0), [9, 9])
    assert result.train_loss[0] != result.train_loss[1]


def test_the_first_step_is_that_of_adamw():
    recipe = Recipe(  # with a warm-up, so that the rate of this step is not that of the next
        steps=1, rate=0.02, batch=4, weight_decay=0.5, warmup=1, schedule="constant"
    )
    result = trained(linear_attention(DIM), stream(0), 9, recipe=recipe, dtype="float64")
    child = stream(0).spawn(1)[0]
    LAW.sample(9, N_CONTEXT, rng=child)
    start = init_weights(linear_attention(DIM), rng=child)
    for name, weight in start.items():
        move = np.abs(result.weights[name][0].numpy() - weight * (1 - 0.01 * 0.5))
        want = np.full_like(move, 0.01)  # the rate times g / (|g| + 1e-8)
        if name == "query":
            want[:, -1] = 0  # meets the query's label, which is 0
        np.testing.assert_allclose(move, want, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("make", [linear_attention, softmax_block, transformer])
def test_a_few_prompts_are_learnt_by_heart(make):
    recipe = Recipe(steps=400, rate=0.01, batch=8)
    result = trained(make(DIM, width=8), stream(0), 4, recipe=recipe)
    assert result.history[0, 0] > 0.05
    assert result.train_loss[0] < 0.01 * result.history[0, 0]


def test_the_training_loss_is_that_of_the_whole_set():
    result = trained(softmax_block(DIM), stream(0), [9, 5], dtype="float64")
    child = stream(0).spawn(2)[1]
    prompts = LAW.sample(5, N_CONTEXT, rng=child)
    guess = result.predictor(1)(prompts.x, prompts.y, prompts.x_query)
    loss = np.mean((prompts.y_query - guess) ** 2)
    np.testing.assert_allclose(result.train_loss[1], loss, rtol=IDENTITY)


def test_history_and_progress_follow_the_run():
    calls = []
    recipe = Recipe(steps=120, rate=0.01, batch=4)

    def report(*call):
        calls.append(call)

    result = trained(linear_attention(DIM), stream(0), recipe=recipe, progress=report)
    assert [step for step, _, _ in calls] == [50, 100, 120] == list(result.history_steps)
    assert {steps for _, steps, _ in calls} == {120}
    np.testing.assert_allclose([loss for _, _, loss in calls], result.history.mean(axis=1))
    assert result.history.shape == (3, 2)


def test_each_model_may_have_its_own_law():
    task = np.full((1, DIM), 1.0)
    laws = [IsotropicLinear(TaskPool(sign * task), RHO) for sign in (1, -1)]
    at = {"n_context": N_CONTEXT, "rng": stream(0)}
    result = train(softmax_block(DIM, 8), laws, 100, recipe=Recipe(250, 0.01, 32), **at)
    at = {"n_context": N_CONTEXT, "n_prompts": 200, "rng": stream(1)}
    assert (result.errors(laws, **at).value < 0.2).all()
    assert (result.errors(laws[::-1], **at).value > 3).all()  # the other task costs 4


def test_the_rate_rises_and_falls():
    cosine = Recipe(steps=100, rate=2.0, warmup=9)
    rates = [cosine.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) < 2.0
    assert rates[50] == pytest.approx(1.0)
    assert rates[-1] < 0.01
    constant = dataclasses.replace(cosine, schedule="constant")
    assert [constant.rate_at(step) for step in (0, 9, 99)] == pytest.approx([0.2, 2.0, 2.0])


# ------------------------------------------------------------------------ errors


def test_errors_are_those_of_the_predictor():
    result = trained(transformer(DIM), stream(0), dtype="float64")
    found = result.errors(LAW, n_context=N_CONTEXT, n_prompts=300, rng=stream(1))
    for model in range(2):
        options = {"n_prompts": 300, "rng": stream(1)}
        risk = monte_carlo_risk(result.predictor(model), LAW, N_CONTEXT, **options)
        np.testing.assert_allclose(found.value[model], risk.value, rtol=IDENTITY)
        np.testing.assert_allclose(found.stderr[model], risk.stderr, rtol=IDENTITY)


def test_errors_do_not_depend_on_the_size_of_blocks(monkeypatch):
    result = trained(softmax_block(DIM), stream(0), dtype="float64")
    at = {"n_context": N_CONTEXT, "n_prompts": 100}
    want = result.errors(LAW, **at, rng=stream(1)).value
    monkeypatch.setattr("iclkit.nets.data._NUMBERS", 1)
    got = result.errors(LAW, **at, rng=stream(1)).value
    np.testing.assert_allclose(got, want, rtol=IDENTITY)


def test_a_predictor_is_a_function_of_its_prompt(rng):
    predictor = trained(linear_attention(DIM), stream(0)).predictor(1)
    prompts = LAW.sample(6, N_CONTEXT, rng=rng)
    x, y, x_query = (part.copy() for part in prompts[:3])
    answer = predictor(x, y, x_query)
    assert answer.shape == (6,)
    assert answer.dtype == np.float64
    for before, after in zip(prompts[:3], (x, y, x_query), strict=True):
        np.testing.assert_array_equal(before, after)
    order = rng.permutation(N_CONTEXT)
    np.testing.assert_allclose(predictor(x[:, order], y[:, order], x_query), answer, rtol=FLOAT32)
    np.testing.assert_allclose(predictor(x[2:3], y[2:3], x_query[2:3]), answer[2:3], rtol=FLOAT32)


def test_integers_make_a_prompt():
    law, at = IsotropicLinear(Gaussian(2), RHO), {"n_context": 2, "recipe": SHORT}
    predictor = train(linear_attention(2), law, 5, rng=stream(0), **at).predictor(0)
    assert np.isfinite(predictor([[[1, 0], [0, 1]]], [[2, 4]], [[1, 1]])).all()


# ------------------------------------------------------------------------ checkpoints


class StopError(Exception):
    """Raised by a progress callback to interrupt a run."""


def stop_at(step):
    def report(done, _steps, _loss):
        if done >= step:
            raise StopError

    return report


LONG = Recipe(steps=230, rate=0.01, batch=8, warmup=20)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("stop", [100, 150])
def test_a_resumed_run_ends_with_the_same_bits(name, stop, tmp_path):
    network, path = NETWORKS[name], tmp_path / "new" / "run.pt"
    options = {"recipe": LONG, "checkpoint": path, "save_every": 100}
    with pytest.raises(StopError):
        trained(network, stream(0), progress=stop_at(stop), **options)
    steps = []
    resumed = trained(network, stream(0), progress=lambda *c: steps.append(c[0]), **options)
    whole = trained(network, stream(0), recipe=LONG)
    assert steps == [150, 200, 230]
    assert same_bits(resumed, whole)
    np.testing.assert_array_equal(resumed.history, whole.history)
    np.testing.assert_array_equal(resumed.history_steps, whole.history_steps)
    np.testing.assert_array_equal(resumed.train_loss, whole.train_loss)
    assert [file.name for file in path.parent.iterdir()] == ["run.pt"]


def test_a_finished_run_returns_at_once(tmp_path):
    path = tmp_path / "run.pt"
    first = trained(linear_attention(DIM), stream(0), checkpoint=path)
    again = trained(linear_attention(DIM), stream(0), checkpoint=path, progress=stop_at(0))
    assert same_bits(first, again)
    np.testing.assert_array_equal(first.history, again.history)


@pytest.mark.parametrize(
    "change",
    [
        {"rng": stream(1)},
        {"recipe": dataclasses.replace(SHORT, rate=0.02)},
        {"n_prompts": (5, 10)},
        {"network": linear_attention(DIM, 4)},
        {"dtype": "float64"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_checkpoint_of_another_request_is_refused(change, tmp_path):
    request = {"network": linear_attention(DIM), "rng": stream(0)}
    trained(**request, checkpoint=tmp_path / "run.pt")
    request["rng"] = stream(0)
    with pytest.raises(ValueError, match=r"run\.pt belongs to another request; give"):
        trained(**(request | change), checkpoint=tmp_path / "run.pt")


# ------------------------------------------------------------------------ rank


@pytest.mark.parametrize("dim", [3, 4, 5, 6])
def test_the_rank_with_biases(dim):
    found = jacobian_rank(linear_attention(dim), rng=stream(0, dim))
    assert found.rank == {3: 23, 4: 34, 5: 47, 6: 62}[dim] == dim**2 + 4 * dim + 2
    assert found.kept > 1e-4
    assert found.dropped < 1e-14


@pytest.mark.parametrize("dim", [3, 4, 5, 6])
def test_the_rank_without_biases(dim):
    found = jacobian_rank(linear_attention(dim, bias=False), rng=stream(0, dim))
    assert found.rank == dim * (dim + 2)
    assert found.dropped < 1e-14 < 1e-5 < found.kept


@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("width", [1, 2, 5, 6, 9])
def test_the_rank_of_any_width(dim, width):
    r = min(width, dim + 1)
    found = jacobian_rank(linear_attention(dim, width), n_context=7, rng=stream(0, dim, width))
    assert found.rank == r * (2 * dim + 3 - r) + dim + 2
    r = min(width, dim)
    bare = jacobian_rank(linear_attention(dim, width, bias=False), rng=stream(0, dim, width))
    assert bare.rank == r * (2 * dim + 1 - r) + dim


def test_few_prompts_bound_the_rank():
    found = jacobian_rank(linear_attention(3), n_prompts=7, rng=stream(0))
    assert (found.rank, found.dropped) == (7, 0.0)


# ------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: linear_attention(0), "dim must be >= 1, got 0"),
        (lambda: softmax_block(3, 0), "width must be >= 1, got 0"),
        (lambda: transformer(3, blocks=0), "blocks must be >= 1, got 0"),
        (lambda: Network(3, 3, 2, "linear", mlp=False), "linear attention has one block"),
        (
            lambda: Network(3, 3, 1, "hard", mlp=False),
            "attention must be one of linear, softmax, got",
        ),
        (lambda: Recipe(0, 0.1), "steps must be >= 1, got 0"),
        (lambda: Recipe(1, 0.0), "rate must be finite and > 0, got 0"),
        (lambda: Recipe(1, math.nan), "rate must be finite and > 0, got nan"),
        (lambda: Recipe(1, 0.1, batch=0), "batch must be >= 1, got 0"),
        (lambda: Recipe(1, 0.1, weight_decay=-1), "weight_decay must be finite and >= 0"),
        (lambda: Recipe(1, 0.1, warmup=-1), "warmup must be >= 0, got -1"),
        (lambda: Recipe(1, 0.1, schedule="step"), "schedule must be one of cosine, constant, got"),
    ],
)
def test_a_wrong_architecture_or_recipe_is_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_prompts": 0}, "n_prompts must be >= 1, got 0"),
        ({"n_prompts": []}, "n_prompts must be one or"),
        ({"laws": [LAW] * 3, "n_prompts": [4, 5]}, "n_prompts must be one or 3 values, got 2"),
        ({"laws": [LAW] * 2, "n_prompts": [4, 5, 6]}, "laws must be one or 3 values, got 2"),
        ({"laws": IsotropicLinear(Gaussian(4), 0.1)}, "laws must have the network's dimension 3"),
        ({"n_context": 0}, "n_context must be >= 1, got 0"),
        ({"dtype": "float16"}, "dtype must be one of bfloat16, float32, float64"),
        ({"device": "toaster"}, "device must be one such as"),
        ({"device": "cuda"}, 'device cuda is not available here; take "cpu"'),
        ({"save_every": 0}, "save_every must be >= 1, got 0"),
    ],
)
def test_a_wrong_request_is_one_line(change, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    request = {"laws": LAW, "n_prompts": 5, "n_context": 4, "recipe": SHORT, "rng": stream(0)}
    with pytest.raises(ValueError, match=message) as caught:
        train(linear_attention(3), **(request | change))
    assert "\n" not in str(caught.value)


def test_a_wrong_type_is_a_type_error():
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator"):
        trained(linear_attention(DIM), 0)
    with pytest.raises(TypeError, match=r"n_prompts must be an integer, got 2\.5"):
        trained(linear_attention(DIM), stream(0), 2.5)


def test_wrong_prompts_are_one_line():
    result = trained(linear_attention(DIM), stream(0))
    with pytest.raises(ValueError, match="model must be < 2, got 2"):
        result.predictor(2)
    with pytest.raises(ValueError, match="laws must be one or 2, got 3"):
        result.errors([LAW] * 3, n_context=4, n_prompts=10, rng=stream(0))
    predictor = result.predictor(0)
    with pytest.raises(ValueError, match="the model is for dimension 3, got x of"):
        predictor(np.zeros((1, 4, 2)), np.zeros((1, 4)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="x, y, x_query must have shapes"):
        predictor(np.zeros((1, 4, 3)), np.zeros((1, 5)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="y must be finite"):
        predictor(np.zeros((1, 1, 3)), [[np.nan]], np.zeros((1, 3)))


def test_a_run_that_diverges_says_so():
    wild = Recipe(steps=200, rate=1e9, batch=4)
    with pytest.raises(FloatingPointError, match=r"the loss of model 0 is not finite .* lower"):
        trained(linear_attention(DIM), stream(0), 9, recipe=wild)


def test_tasks_of_a_pool_are_a_law():
    law = IsotropicLinear(TaskPool(np.eye(DIM)), RHO)
    result = train(linear_attention(DIM), law, 9, n_context=2, recipe=SHORT, rng=stream(0))
    assert result.errors(law, n_context=5, n_prompts=10, rng=stream(0)).value.shape == (1,)
