"""Whatever the public functions of the networks are given: what they promise, or one clear line."""

import functools
import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iclkit import nets
from iclkit.prompts import Gaussian, IsotropicLinear
from tests.iclkit.fuzz.contract import (
    BrokenPromiseError,
    check_refusal,
    check_same,
    check_value,
    leaves,
    outcome_of,
)
from tests.iclkit.fuzz.hostile import variants
from tests.iclkit.fuzz.profile import examples
from tests.iclkit.fuzz.public import Call
from tests.iclkit.fuzz.world import World

RECIPE = nets.Recipe(2, 0.01, 3)
VAST = {"steps", "batch", "warmup", "n_prompts", "n_context", "blocks", "layers", "heads"}
ARCHITECTURES = (
    lambda w: nets.linear_attention(w.d, w.pick("width", (None, 1, 5))),
    lambda w: nets.softmax_block(w.d),
    lambda w: nets.transformer(w.d, blocks=2),
    lambda w: nets.LinearBlock(w.d, mlp_width=w.pick("mlp", (None, 4))),
    lambda w: nets.BasicTransformer(w.d, layers=2, mlp_width=3, norm=True),
    lambda w: nets.SoftmaxHeads(w.d, negative_weight=0.5, negative_ratio=0.4, key_units=2),
)


def network(w):
    return w.pick("network", ARCHITECTURES)(w)


def law(w):
    return IsotropicLinear(Gaussian(w.d), 0.1)


def stacked(w, models=2):
    starts = [nets.init_weights(network(w), rng=w.rng("w", m)) for m in range(models)]
    return {name: torch.from_numpy(np.stack([s[name] for s in starts])) for name in starts[0]}


@functools.cache
def trained(w):
    at = {"n_context": w.n, "recipe": RECIPE, "rng": w.rng("trained")}
    return nets.train(network(w), law(w), [4, 6], **at)


def squares(weights, *data):
    return (weights * weights).sum() * sum(part.sum() for part in data)


def slices(w):
    return w.pick("models", (slice(None), slice(1), slice(-1, None)))


VALUES = {
    "network": network,
    "laws": law,
    "n_prompts": lambda w: w.pick("n_prompts", (4, [3, 5])),
    "n_context": lambda w: w.n,
    "recipe": lambda _: RECIPE,
    "rng": lambda w: w.rng("call"),
    "device": lambda _: "cpu",
    "dtype": lambda w: w.pick("dtype", ("float32", "float64", "bfloat16")),
    "watch": lambda _: len,
    "watch_every": lambda w: w.k,
    "progress": lambda _: lambda *_: None,
    "save_every": lambda w: w.k,
    "generic": lambda w: w.pick("generic", (True, False)),
    "weights": stacked,
    "tokens": lambda w: torch.from_numpy(w.normal("tokens", 2, 3, w.n + 1, w.d + 1)),
    "loss": lambda _: squares,
    "start": lambda w: w.normal("start", w.d),
    "data": lambda w: w.normal("data", w.d),
    "rate": lambda w: w.number("rate", 0.01, 0.1),
    "dim": lambda w: w.d,
    **dict.fromkeys(("width", "key_width", "value_width", "mlp_width"), lambda w: w.k),
    **dict.fromkeys(("head_width", "layers", "heads", "blocks"), lambda w: w.k),
    "spread": lambda w: w.number("spread"),
    **dict.fromkeys(
        ("bias", "residual", "query_as_key", "norm", "softmax", "readout"), lambda _: True
    ),
    "attention": lambda _: "softmax",
    "mlp": lambda _: True,
    **dict.fromkeys(("ridge", "negative_weight", "negative_ratio", "sign"), lambda _: 0.5),
    **dict.fromkeys(("value_units", "key_units"), lambda w: w.k),
    **dict.fromkeys(("steps", "batch", "warmup"), lambda w: w.k),
    "weight_decay": lambda w: w.number("decay"),
    "schedule": lambda _: "cosine",
    "clip": lambda w: w.number("clip"),
    "model": lambda _: 1,
    "models": slices,
    "prompts": lambda w: law(w).sample(4, w.n, rng=w.rng("prompts")),
    "x": lambda w: w.normal("x", 4, w.n, w.d),
    "y": lambda w: w.normal("y", 4, w.n),
    "x_query": lambda w: w.normal("x_query", 4, w.d),
}
OWNERS = {"Trained": trained, "TrainedPredictor": lambda w: trained(w).predictor(0)}
SPECIAL = {
    "Trained.errors": {"n_prompts": lambda _: 5},
    "jacobian_rank": {"n_prompts": lambda _: 9},
    "TrainedPredictor": {"weights": lambda w: stacked(w, 1)},
}
UNTRIED = {("train", "checkpoint"), ("Recipe.rate_at", "step")}  # files; a step of a run
MADE = ["init_weights", "jacobian_rank", "linear_attention", "n_parameters", "predict", "train"]
MADE += ["gradient_step", "softmax_block", "transformer"]
CLASSES = ["BasicTransformer", "LinearBlock", "Network", "Recipe", "SoftmaxHeads"]
METHODS = [("Trained", name) for name in ("errors", "losses", "predictor", "arrays")]


def calls():
    found = [(name, getattr(nets, name), False) for name in (*MADE, *CLASSES, "TrainedPredictor")]
    found += [(f"{k}.{name}", getattr(getattr(nets, k), name), True) for k, name in METHODS]
    found.append(("TrainedPredictor.__call__", nets.TrainedPredictor.__call__, True))
    return {name: Call("nets", name, target, method) for name, target, method in found}


CALLS = calls()
PAIRS = [
    (key, name)
    for key, call in CALLS.items()
    for name in call.parameters
    if not name.startswith("_") and (key, name) not in UNTRIED
]


def valid(key, w, *, options=True):
    call = CALLS[key]
    makers = VALUES | SPECIAL.get(key, {})
    return {
        name: makers[name](w)
        for name, parameter in call.parameters.items()
        if name in makers and (options or parameter.default is inspect.Parameter.empty)
    }


def owner(key, w):
    return OWNERS[key.split(".")[0]](w) if CALLS[key].method else None


def attempt(key, arguments, w):
    """Return the outcome of a call, where a run that diverges counts as refused."""
    call = CALLS[key]

    @functools.wraps(call.target)
    def target(*args, **kwargs):
        try:
            return call.target(*args, **kwargs)
        except FloatingPointError as error:
            assert key == "train"
            raise ValueError(f"recipe: {error}") from error

    return outcome_of(call._replace(target=target), arguments, owner(key, w))


def hostile(key, name, value):
    """Return hostile versions of an argument, without those that only mean much work."""
    if isinstance(value, torch.Tensor):
        return tensors(value)
    if isinstance(value, slice):
        return [slice("a"), slice(0, 0), slice(None, None, -1), slice(0.5), 1, None, "all"]
    few = name not in VAST or key in CLASSES
    found = [v for v in variants(value) if few or not is_vast(v.value)]
    found = [v.value for v in found if v.outcome != "same"]
    if not callable(value):
        return found
    # what a user's own function raises is the user's: of functions only those that return
    return [v for v in found if not callable(v)] + RETURNING


RETURNING = [
    lambda *_: "text",
    lambda *_: None,
    lambda *_: np.nan,
    lambda *_: 1j,
    lambda *_: [[1], [2, 3]],
    lambda *_: torch.tensor([1.0, 2.0]),
    lambda *parts: torch.nan * sum(torch.as_tensor(p).sum() for p in parts[:1] if is_number(p)),
    lambda *parts: 1j * sum(torch.as_tensor(p).sum() for p in parts[:1] if is_number(p)),
    lambda *parts: 1e300 * sum(1e300 * torch.as_tensor(p).sum() for p in parts if is_number(p)),
]


def is_number(part):
    return isinstance(part, int | float | torch.Tensor)


def is_vast(value):
    return isinstance(value, int) and abs(value) > 10**6


def tensors(value):
    changed = [value[..., :-1], value[:0], value[0], value.float(), value.to(torch.int64)]
    return [*changed, value.numpy(), value.tolist(), None, "tokens", value.transpose(0, 2)]


WORLDS = st.builds(World, st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 5))


def judge(key, outcome, arguments, w):
    if outcome.refusal is not None:
        check_refusal(CALLS[key], outcome.refusal, arguments, owner(key, w))
    else:
        check_value(CALLS[key], outcome.value)
        check_tensors(outcome.value)


def check_tensors(value):
    for leaf in leaves(value):
        if isinstance(leaf, torch.Tensor) and not leaf.isfinite().all():
            raise BrokenPromiseError("a tensor that is not finite")


def test_everything_public_is_called():
    called = {key.split(".")[0] for key in CALLS}
    records = {"Architecture", "JacobianRank", "ModelErrors"}
    assert called | records == set(nets.__all__)


@pytest.mark.parametrize("key", CALLS)
@examples(4)
@given(w=WORLDS, options=st.booleans())
def test_what_fits_is_not_refused(key, w, options):
    outcome = attempt(key, valid(key, w, options=options), w)
    assert outcome.refusal is None, outcome.refusal
    check_value(CALLS[key], outcome.value)
    check_tensors(outcome.value)


@pytest.mark.parametrize(("key", "name"), PAIRS)
@examples(4)
@given(w=WORLDS, data=st.data())
def test_one_hostile_argument_ends_in_a_promise_or_a_line(key, name, w, data):
    arguments = valid(key, w)
    choices = hostile(key, name, arguments[name])
    for place in data.draw(st.permutations(range(len(choices)))):
        changed = arguments | {name: choices[place]}
        judge(key, attempt(key, changed, w), changed, w)


@pytest.mark.parametrize(("key", "name"), PAIRS)
def test_another_container_changes_nothing(key, name):
    w = World(seed=3, d=2, n=4)
    arguments = valid(key, w)
    for variant in variants(arguments[name]):
        if variant.outcome != "same":
            continue
        like = arguments if variant.like is None else arguments | {name: variant.like}
        wanted = attempt(key, valid(key, w) | {name: like[name]}, w)
        found = attempt(key, valid(key, w) | {name: variant.value}, w)
        assert (found.refusal is None) == (wanted.refusal is None), (variant.label, found.refusal)
        check_same(tensors_as_arrays(wanted.value), tensors_as_arrays(found.value))


def tensors_as_arrays(value):
    return [leaf.numpy() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves(value)]
