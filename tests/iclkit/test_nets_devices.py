"""Devices and precisions: errors as large as roundings make them, and the same draws everywhere."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from iclkit.nets import (
    BasicTransformer,
    LinearBlock,
    Recipe,
    SoftmaxHeads,
    init_weights,
    linear_attention,
    train,
    transformer,
)
from iclkit.nets.devices import Place
from iclkit.nets.training import _Run
from iclkit.papers.dual_kernel import CubeRegression
from iclkit.prompts import Gaussian, IsotropicLinear
from iclkit.rng import stream
from tests.iclkit.test_nets import NETWORKS
from tests.iclkit.test_nets_blocks import ALL as BLOCKS
from tests.iclkit.test_nets_heads import ALL as HEADS
from tests.tolerances import IDENTITY, SIGMAS

HAS_CUDA = torch.cuda.is_available()
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device here")),
]
ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
EVERY = (
    {f"lu, {name}": network for name, network in NETWORKS.items()}
    | {f"zhang, {name}": network for name, network in BLOCKS.items()}
    | {f"ren, {name}": network for name, network in HEADS.items()}
)
MODELS, BATCH, LENGTH = 4, 32, 6
DRAWS = 4  # of random roundings

DIM, N_CONTEXT, SEEDS = 4, 6, 12
LAW = IsotropicLinear(Gaussian(DIM), 0.01)
RECIPE = Recipe(steps=120, rate=0.01, batch=16)
TRAININGS = {
    "linear": (linear_attention(DIM), LAW, [200] * SEEDS),
    "transformer": (transformer(DIM), LAW, [200] * SEEDS),
    "block": (LinearBlock(DIM, mlp_width=8), [LAW] * SEEDS, None),
    "norms": (BasicTransformer(DIM, mlp_width=8, norm=True, readout=True), [LAW] * SEEDS, None),
    "heads": (SoftmaxHeads(DIM, heads=2, value_units=4), [CubeRegression(DIM)] * SEEDS, None),
}


# ------------------------------------------------------------------------ one gradient


class Rough(TorchDispatchMode):
    """Arithmetic whose every result is off by the unit roundoff, up or down at random.

    It says how large the errors of a precision are at most, for any network and any weights,
    without a look at that precision: roundings are never larger than this, and average out
    likewise.
    """

    def __init__(self, roundoff, seed):
        super().__init__()
        self.roundoff, self.coins = roundoff, torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        views = func._schema.is_mutable or any(r.alias_info for r in func._schema.returns)
        return out if views else tree_map(self.off, out)

    def off(self, number):
        if not isinstance(number, torch.Tensor) or number.dtype != torch.float64:
            return number
        signs = 2 * torch.randint(0, 2, number.shape, generator=self.coins).double() - 1
        return number * (1 + self.roundoff * signs)


def problem(network, rng):
    """Return weights, tokens and targets of several models, generic ones, in float64."""
    starts = [init_weights(network, rng=rng, generic=True) for _ in range(MODELS)]
    weights = {name: torch.from_numpy(np.stack([s[name] for s in starts])) for name in starts[0]}
    tokens = rng.standard_normal((MODELS, BATCH, LENGTH, network.dim + 1))
    tokens[:, :, -1, -1] = 0
    target = torch.from_numpy(rng.standard_normal((MODELS, BATCH)))
    return weights, torch.from_numpy(tokens), target


def slopes(network, weights, tokens, target, place):
    """Return the answers and the gradient of the loss, as training computes them, in float64."""
    weights = {name: place.put(weight).requires_grad_() for name, weight in weights.items()}
    inputs = tuple(place.put(part) for part in network.inputs(tokens))
    with place.arithmetic():
        guess = network.answers(weights, inputs)
    assert guess.dtype == place.kept  # what follows the last product is not in bfloat16
    loss = (guess - place.put(target)).square().mean(1).sum()
    gradient = torch.autograd.grad(loss, list(weights.values()))
    found = dict(zip(weights, gradient, strict=True)) | {"answers": guess.detach()}
    return {name: part.double().cpu() for name, part in found.items()}


def root_mean_square(tensor):
    return float(tensor.square().mean().sqrt())


def predicted_errors(network, weights, tokens, target, roundoff):
    """Return the root mean square of the errors that `Rough` arithmetic makes."""
    exact = Place.at("cpu", "float64")
    want = slopes(network, weights, tokens, target, exact)
    squares = dict.fromkeys(want, 0.0)
    for draw in range(DRAWS):
        rough = Rough(roundoff, draw)
        moved = {name: rough.off(weight) for name, weight in weights.items()}
        with rough:
            found = slopes(network, moved, rough.off(tokens), target, exact)
        for name, part in found.items():
            squares[name] += root_mean_square(part - want[name]) ** 2 / DRAWS
    return want, {name: math.sqrt(square) for name, square in squares.items()}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ROUNDOFF)
@pytest.mark.parametrize("network", EVERY.values(), ids=EVERY)
def test_errors_are_those_of_the_precision(network, dtype, device, rng):
    parts = problem(network, rng)
    want, predicted = predicted_errors(network, *parts, ROUNDOFF[dtype])
    found = slopes(network, *parts, Place.at(device, dtype))
    # sums within a product: of bfloat16 in float32, of float32 in itself, over the batch's tokens
    most = 1.0 if dtype == "bfloat16" else math.sqrt(BATCH * LENGTH)
    for name, part in found.items():
        error = root_mean_square(part - want[name])
        assert error <= most * predicted[name], name
        # the other precision is off by 2^16: the products are in the one asked for
        assert name != "answers" or error >= 2.0**-8 * predicted[name]


def test_the_prediction_is_proportional_to_the_roundoff(rng):
    parts = problem(transformer(DIM), rng)
    fine, coarse = (predicted_errors(transformer(DIM), *parts, u)[1] for u in (1e-9, 1e-7))
    for name, error in fine.items():
        assert coarse[name] == pytest.approx(100 * error, rel=1e-3)


def test_the_prediction_of_one_product_is_known():
    ones = torch.ones(10_000, dtype=torch.float64)
    with Rough(1e-3, 0):
        tripled = ones * 3.0
    off = tripled.numpy() - 3
    np.testing.assert_allclose(abs(off), 3e-3, rtol=IDENTITY)
    assert abs(off.mean()) < SIGMAS * 3e-3 / math.sqrt(len(off))


# ------------------------------------------------------------------------ a whole training


def run(name, **options):
    network, laws, n_prompts = TRAININGS[name]
    at = {"n_context": N_CONTEXT, "recipe": RECIPE, "rng": stream(0, name)}
    return train(network, laws, n_prompts, **(at | options))


def final_errors(name, **options):
    """Return each seed's error on the same new prompts."""
    _, laws, _ = TRAININGS[name]
    law = laws[0] if isinstance(laws, list) else laws
    at = {"n_context": N_CONTEXT, "n_prompts": 2000, "rng": stream(1, name)}
    return run(name, **options).errors(law, **at).value


def shift(errors, exact):
    """Return by how many standard errors over seeds a mean is off."""
    return abs(errors.mean() - exact.mean()) / (exact.std(ddof=1) / math.sqrt(SEEDS))


@pytest.fixture(scope="module")
def exact_errors():
    return {name: final_errors(name, dtype="float64") for name in TRAININGS}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ROUNDOFF)
@pytest.mark.parametrize("name", TRAININGS)
def test_no_figure_would_look_different(name, dtype, device, exact_errors):
    # Prompts, starts and batches are the same, so a mean over seeds may be off by less than what
    # other seeds do to it: within the bar of one standard error that figures draw.
    errors = final_errors(name, dtype=dtype, device=device)
    assert not np.array_equal(errors, exact_errors[name])
    assert shift(errors, exact_errors[name]) < 1


def test_weights_in_bfloat16_would_be_seen(monkeypatch, exact_errors):
    move = _Run.move

    def coarse(self, gradient):
        move(self, gradient)
        with torch.no_grad():
            self.values.copy_(self.values.bfloat16())

    monkeypatch.setattr(_Run, "move", coarse)
    assert shift(final_errors("heads", dtype="bfloat16"), exact_errors["heads"]) > 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ["transformer", "heads"])
def test_the_same_request_gives_the_same_bits(name, dtype, device):
    options = {"dtype": dtype, "device": device, "recipe": Recipe(20, 0.01, 8)}
    one, other = run(name, **options), run(name, **options)
    assert all(torch.equal(one.weights[part], other.weights[part]) for part in one.weights)
    np.testing.assert_array_equal(one.history, other.history)


# ------------------------------------------------------------------------ draws


class Recorder:
    """A network that keeps what it is asked."""

    def __init__(self, network):
        self.network, self.asked = network, []

    def __getattr__(self, name):
        return getattr(self.network, name)

    def answers(self, weights, inputs):
        self.asked.append([part.clone() for part in inputs])
        return self.network.answers(weights, inputs)


def asked(dtype, device, n_prompts):
    recorder, starts = Recorder(linear_attention(DIM)), []
    train(
        recorder,
        [LAW, LAW],
        n_prompts,
        n_context=N_CONTEXT,
        recipe=Recipe(60, 0.01, 8),
        rng=stream(0),
        dtype=dtype,
        device=device,
        watch=lambda weights: starts.append(weights) or 0.0,
    )
    return recorder.asked[:60], starts[:2]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ROUNDOFF)
@pytest.mark.parametrize("n_prompts", [30, None])
def test_draws_are_the_same_in_every_precision_and_on_every_device(dtype, device, n_prompts):
    want, want_starts = asked("float64", "cpu", n_prompts)
    found, starts = asked(dtype, device, n_prompts)
    assert len(found) == len(want) == 60
    for parts, exact in zip(found, want, strict=True):
        for part, other in zip(parts, exact, strict=True):
            assert torch.equal(part.cpu(), other.float())
    for weights, exact in zip(starts, want_starts, strict=True):
        for name, weight in weights.items():
            np.testing.assert_array_equal(weight, exact[name].astype(np.float32))


# ------------------------------------------------------------------------ what is kept


def test_bfloat16_keeps_weights_moments_and_losses_in_float32(monkeypatch):
    kept, move = [], _Run.move
    monkeypatch.setattr(
        _Run, "move", lambda self, g: kept.append((self.values, *self.moments, g)) or move(self, g)
    )
    trained = run("heads", dtype="bfloat16", recipe=Recipe(2, 0.01, 8))
    assert {part.dtype for parts in kept for part in parts} == {torch.float32}
    assert {weight.dtype for weight in trained.weights.values()} == {torch.float32}
    assert not np.array_equal(trained.history, torch.tensor(trained.history).bfloat16().double())


def test_small_moves_are_not_lost_in_bfloat16():
    recipe = Recipe(50, 1e-5, 8, weight_decay=0, schedule="constant")
    looks = []
    run("heads", dtype="bfloat16", recipe=recipe, watch=lambda w: looks.append(w["W_Q"]) or 0.0)
    first = np.array(looks[:SEEDS])[..., :-1]  # the last column meets the query's label, which is 0
    moved = np.abs(np.array(looks[-SEEDS:])[..., :-1] - first)
    assert np.mean(moved > 0) > 0.99
    assert np.median(moved / np.abs(first)) < 2.0**-9  # 50 steps, and bfloat16 would see none


def test_a_model_trained_in_bfloat16_answers_in_float32():
    trained = run("transformer", dtype="bfloat16", recipe=Recipe(2, 0.01, 8))
    prompts = LAW.sample(50, N_CONTEXT, rng=stream(0))
    answers = torch.from_numpy(trained.predictor(0)(*prompts[:3]))
    assert not torch.equal(answers, answers.bfloat16().double())


def test_autocast_ends_with_the_forward_pass():
    inside = []
    run(
        "linear",
        dtype="bfloat16",
        watch=lambda _: inside.append(torch.is_autocast_enabled("cpu")) or 0.0,
    )
    assert inside
    assert not any(inside)
    assert not torch.is_autocast_enabled("cpu")


# ------------------------------------------------------------------------ what cannot be


@pytest.mark.parametrize(
    ("device", "line"),
    [
        ("toaster", 'device must be one such as "cpu" or "cuda", got \'toaster\''),
        ("", 'device must be one such as "cpu" or "cuda", got \'\''),
        ("mkldnn", 'device must be one such as "cpu" or "cuda", got \'mkldnn\''),
        ("cpu:-1", 'device must be one such as "cpu" or "cuda", got \'cpu:-1\''),
        ("meta", 'device meta is not available here; take "cpu"'),
        ("privateuseone", 'device privateuseone is not available here; take "cpu"'),
        ("cuda:99", 'device cuda:99 is not available here; take "cpu"'),
    ],
)
def test_a_device_that_is_not_there_is_one_line(device, line):
    with pytest.raises(ValueError, match=r"^device ") as caught:
        run("linear", device=device)
    assert str(caught.value) == line


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")
def test_mps_elsewhere_is_one_line():
    with pytest.raises(ValueError, match=r'^device mps is not available here; take "cpu"$'):
        run("linear", device="mps")


@pytest.mark.parametrize("device", [None, 0, 1.5, ["cpu"]])
def test_a_device_has_a_name(device):
    with pytest.raises(TypeError, match=r'^device must be a name such as "cpu", got \w+$'):
        run("linear", device=device)


@pytest.mark.parametrize("dtype", ["float16", "bf16", "", None, torch.bfloat16, ["float32"]])
def test_a_dtype_that_is_not_offered_is_one_line(dtype):
    with pytest.raises(ValueError, match=r"^dtype must be one of bfloat16, float32, float64, got "):
        run("linear", dtype=dtype)


@pytest.mark.parametrize("error", [RuntimeError, TypeError, UserWarning])
def test_a_device_without_bfloat16_is_one_line(error, monkeypatch):
    def refuse(*_args):
        raise error("nothing here\nin two lines")

    monkeypatch.setattr(torch, "autocast", refuse)
    with pytest.raises(ValueError, match=r"^dtype bfloat16 cannot be trained in on device cpu; .*"):
        run("linear", dtype="bfloat16")
    assert run("linear", dtype="float32", recipe=Recipe(1, 0.1)).n_models == SEEDS


def test_autocast_that_does_nothing_is_no_bfloat16(monkeypatch):
    monkeypatch.setattr(Place, "arithmetic", lambda _: nullcontext())
    with pytest.raises(ValueError, match=r"^dtype bfloat16 cannot be trained in"):
        run("linear", dtype="bfloat16")
