"""Gradients of trained networks: structured against literal, stacked against one by one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.timing import Calls
from iclkit.nets import Network, init_weights, linear_attention, predict, transformer
from iclkit.rng import stream
from tests.oracles import linear_network_all_tokens


def structured_against_literal(dim: int, n_context: int, batch: int) -> Calls:
    """Return the gradient of full linear attention by both ways, for one model.

    Ours starts from the second moments of the contexts, which a run computes once.
    """
    network = linear_attention(dim)
    weights, tokens = problem(network, 1, n_context, batch)
    inputs = network.inputs(tokens)
    alone = {name: w.detach()[0].requires_grad_() for name, w in weights.items()}
    return {
        # what a step of training runs
        "ours": lambda: gradient(lambda: network.answers(weights, inputs), weights),
        "obvious": lambda: gradient(lambda: linear_network_all_tokens(alone, tokens[0]), alone),
    }


def stacked_against_loop(dim: int, models: int, batch: int) -> Calls:
    """Return the gradients of several transformers, together and one after the other."""
    network = transformer(dim)
    weights, tokens = problem(network, models, dim, batch)
    singles = [
        ({name: w.detach()[m : m + 1].requires_grad_() for name, w in weights.items()}, m)
        for m in range(models)
    ]

    def loop() -> np.ndarray:
        parts = [
            gradient(lambda own=own, m=m: predict(network, own, tokens[[m]]), own)
            for own, m in singles
        ]
        return np.concatenate(parts)

    def together() -> np.ndarray:
        return gradient(lambda: predict(network, weights, tokens), weights, models)

    return {"ours": together, "obvious": loop}


def problem(network: Network, models: int, n_context: int, batch: int) -> tuple[Any, torch.Tensor]:
    """Return stacked weights with gradients, and tokens, in double precision."""
    rng = stream(0, "trained", network.attention)
    starts = [init_weights(network, rng=rng) for _ in range(models)]
    weights = {
        name: torch.from_numpy(np.stack([start[name] for start in starts])).requires_grad_()
        for name in starts[0]
    }
    tokens = rng.standard_normal((models, batch, n_context + 1, network.dim + 1))
    tokens[..., :-1] /= np.sqrt(network.dim)
    tokens[:, :, -1, -1] = 0
    return weights, torch.from_numpy(tokens)


def gradient(
    answer: Callable[[], torch.Tensor], weights: dict[str, torch.Tensor], models: int = 1
) -> np.ndarray:
    """Return the gradient of the summed squares of the answers, one model after the other."""
    for weight in weights.values():
        weight.grad = None
    answer().square().sum().backward()
    parts = [weight.grad.numpy().reshape(models, -1) for weight in weights.values()]
    return np.concatenate(parts, axis=1).ravel()
