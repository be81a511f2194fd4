"""Data of training: fixed pretraining sets or fresh prompts, for all models of a sweep at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from iclkit._checks import count
from iclkit.nets.devices import Place
from iclkit.nets.networks import Architecture, Floats, Weights
from iclkit.prompts import Law, Prompts

__all__ = [
    "CHUNK",
    "Data",
    "FixedSets",
    "FreshPrompts",
    "law_list",
    "law_pairs",
    "sample_inputs",
    "squared_errors",
    "token_array",
]

Batch = tuple[tuple[Tensor, ...], Tensor]

#: Steps between two draws of batches.
CHUNK = 50

_NUMBERS = 1 << 22  # bound on the numbers of one evaluation block


class Data(Protocol):
    """Where the batches of a run come from."""

    def batches(self, step: int, steps: int, batch: int) -> Iterator[Batch]:
        """Yield inputs and targets (models, batch) of some steps, from step number `step` on."""

    def losses(self, network: Architecture, weights: Weights) -> Floats | None:
        """Return the mean squared error of each model on all of its data, where they end."""

    def state(self) -> list[Tensor]:
        """Return what a resumed run needs."""

    def restore(self, state: list[Tensor]) -> None:
        """Take over what `state` has returned."""


class FixedSets(NamedTuple):
    """Pretraining sets, one per model; batches are drawn from them with replacement.

    Attributes
    ----------
    inputs : list of (prompts, numbers) tensors
        All models' inputs below each other, one part of the inputs after the other.
    shapes : list of torch.Size
        Of each part, for one prompt.
    target : (prompts,) tensor
    sizes : list of int
        Prompts of each model.
    generators : list of torch.Generator
        The source of each model's batches.
    """

    inputs: list[Tensor]
    shapes: list[torch.Size]
    target: Tensor
    sizes: list[int]
    generators: list[torch.Generator]

    @classmethod
    def stacked(
        cls,
        inputs: Sequence[tuple[Tensor, ...]],
        targets: Sequence[Floats],
        seeds: Sequence[int],
        place: Place,
    ) -> FixedSets:
        """Return the sets of several models, each with its inputs, targets and seed."""
        parts = zip(*inputs, strict=True)
        return cls(
            inputs=[torch.cat([one.flatten(1) for one in part]) for part in parts],
            shapes=[part.shape[1:] for part in inputs[0]],
            target=place.put(torch.as_tensor(np.concatenate(targets))),
            sizes=[len(target) for target in targets],
            generators=[torch.Generator().manual_seed(seed) for seed in seeds],
        )

    def batches(
        self,
        step: int,  # noqa: ARG002  (the generators know where they are)
        steps: int,
        batch: int,
    ) -> Iterator[Batch]:
        """Yield batches, the same on every device; see `Data`."""
        shape, ends = (steps, batch), np.cumsum([0, *self.sizes])
        rows = [
            int(start) + torch.randint(size, shape, generator=stream)
            for size, start, stream in zip(self.sizes, ends, self.generators, strict=False)
        ]
        for chosen in torch.cat(rows, dim=1).to(self.target.device):  # (models * batch,)
            inputs = tuple(
                part.index_select(0, chosen).view(len(self.sizes), -1, *shape)
                for part, shape in zip(self.inputs, self.shapes, strict=True)
            )
            yield inputs, self.target.index_select(0, chosen).view(len(self.sizes), -1)

    def losses(self, network: Architecture, weights: Weights) -> Floats:
        """Return the mean squared error of each model on its whole set."""
        losses, start = [], 0
        for model, size in enumerate(self.sizes):
            rows = slice(start, start + size)
            one = {name: weight[model : model + 1] for name, weight in weights.items()}
            inputs = tuple(
                part[rows].view(1, size, *shape)
                for part, shape in zip(self.inputs, self.shapes, strict=True)
            )
            losses.append(squared_errors(network, one, inputs, self.target[None, rows]).mean())
            start += size
        return np.array(losses)

    def state(self) -> list[Tensor]:
        """Return the states of the generators."""
        return [stream.get_state() for stream in self.generators]

    def restore(self, state: list[Tensor]) -> None:
        """Take over the states of the generators."""
        for stream, saved in zip(self.generators, state, strict=True):
            stream.set_state(saved)


@dataclass(frozen=True, eq=False)
class FreshPrompts:
    """New prompts in every step. They depend on the seed and the step alone, so there is no state.

    Parameters
    ----------
    network : Architecture
    laws : list of Law
        One per model.
    seeds : list of int
        One per model.
    n_context : int
        Labelled examples in each prompt.
    place : Place
    """

    network: Architecture
    laws: list[Law]
    seeds: list[int]
    n_context: int
    place: Place

    def batches(self, step: int, steps: int, batch: int) -> Iterator[Batch]:
        """Yield batches; see `Data`."""
        drawn = [self._draw(model, step, steps * batch) for model in range(len(self.laws))]
        parts = [
            torch.stack([one.unflatten(0, (steps, batch)) for one in part], dim=1)
            for part in zip(*drawn, strict=True)
        ]
        for now in zip(*parts, strict=True):  # (models, batch, ...) each
            yield now[:-1], now[-1]

    def _draw(self, model: int, step: int, size: int) -> list[Tensor]:
        """Return the inputs and the targets of a model's next prompts, where the run needs them."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seeds[model], spawn_key=(step,)))
        inputs, target = sample_inputs(self.network, self.laws[model], size, self.n_context, rng)
        return [self.place.put(part) for part in (*inputs, target)]

    def losses(self, network: Architecture, weights: Weights) -> None:
        """Return nothing: there is no set to be learnt by heart."""

    def state(self) -> list[Tensor]:
        """Return nothing; see the class."""
        return []

    def restore(self, state: list[Tensor]) -> None:
        """Do nothing; see the class."""


def law_pairs(
    laws: Law | Sequence[Law], n_prompts: int | Sequence[int] | None
) -> list[tuple[Law, int | None]]:
    """Return one (law, size of the set or None) per model."""
    several = law_list(laws)
    if n_prompts is None:
        if not several:
            raise ValueError("laws must be at least one, got none")
        return [(law, None) for law in several]
    sizes = list(n_prompts) if np.iterable(n_prompts) else [n_prompts]
    models = max(len(several), len(sizes))
    for name, values in (("laws", several), ("n_prompts", sizes)):
        if len(values) not in (1, models) or not values:
            raise ValueError(f"{name} must be one or {models} values, got {len(values)}")
    sizes = [count("n_prompts", size) for size in sizes]
    pairs = zip(several * (models // len(several)), sizes * (models // len(sizes)), strict=True)
    return list(pairs)


def law_list(laws: Law | Sequence[Law]) -> list[Law]:
    """Return one law or several as a list, each of them able to sample."""
    several = list(laws) if isinstance(laws, Sequence) else [laws]
    for law in several:
        if isinstance(law, type) or not callable(getattr(law, "sample", None)):
            raise TypeError(f"laws must have a method sample, got {type(law).__name__}")
    return several


def sample_inputs(
    network: Architecture, law: Law, n_prompts: int, n_context: int, rng: np.random.Generator
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the network's inputs (n, ...) and the targets (n,) of fresh prompts, in float64."""
    prompts = law.sample(n_prompts, n_context, rng=rng)
    if not isinstance(prompts, Prompts):
        raise TypeError(f"laws must return Prompts, got {type(prompts).__name__}")
    if prompts.x_query.shape[1] != network.dim:
        raise ValueError(
            f"laws must have the network's dimension {network.dim}, got {prompts.x_query.shape[1]}"
        )
    if prompts.y.shape != (n_prompts, n_context):
        raise ValueError(
            f"laws must give labels of shape {(n_prompts, n_context)}, got {prompts.y.shape}"
        )
    tokens = torch.from_numpy(token_array(prompts.x, prompts.y, prompts.x_query))[None]
    inputs = tuple(part[0].contiguous() for part in network.inputs(tokens))
    return inputs, torch.from_numpy(prompts.y_query)


def token_array(x: Floats, y: Floats, x_query: Floats) -> Floats:
    """Return tokens (x_i, y_i) and (x_query, 0), (batch, n_context + 1, dim + 1)."""
    if x.shape[:2] != y.shape or (x.shape[0], x.shape[2]) != x_query.shape:
        raise ValueError(
            "x, y, x_query must have shapes (batch, n, d), (batch, n), (batch, d), "
            f"got {x.shape}, {y.shape}, {x_query.shape}"
        )
    tokens = np.zeros((x.shape[0], x.shape[1] + 1, x.shape[2] + 1))
    tokens[:, :-1, :-1], tokens[:, :-1, -1], tokens[:, -1, :-1] = x, y, x_query
    return tokens


def squared_errors(
    network: Architecture, weights: Weights, inputs: tuple[Tensor, ...], target: Tensor
) -> Floats:
    """Return squared errors (models, prompts), computed in blocks of bounded memory."""
    models, n_prompts = len(next(iter(weights.values()))), target.shape[1]
    size = max(1, _NUMBERS // (8 * models * math.prod(inputs[0].shape[2:])))
    out = []
    with torch.no_grad():
        for start in range(0, n_prompts, size):
            rows = slice(start, start + size)
            guess = network.answers(weights, tuple(part[:, rows] for part in inputs))
            out.append((guess - target[:, rows]).square().double().cpu())
    return torch.cat(out, dim=1).numpy()
