"""Training: AdamW on all models of a sweep at once, from fixed sets or fresh prompts.

Every model has its own data, initial weights and batches, from a random stream of its own, and
the optimiser acts on every entry alone, so that no model influences another.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.optim.adamw import adamw

from iclkit._checks import choice, count, function_of, generator, keep, plain_scalar
from iclkit.nets import checkpoint as checkpoints
from iclkit.nets.data import CHUNK, Data, FixedSets, FreshPrompts, law_pairs, sample_inputs
from iclkit.nets.devices import Place
from iclkit.nets.networks import Architecture, Floats, Shapes, Weights, architecture, init_weights
from iclkit.nets.trained import Trained, to_array
from iclkit.prompts import Law

__all__ = ["Recipe", "train"]

Progress = Callable[[int, int, float], object]
Watch = Callable[[dict[str, Floats]], ArrayLike]

_BETAS = (0.9, 0.999)  # of AdamW, the usual ones
_ADAM_EPS = 1e-8
_PROBE = 2  # prompts that stand for a law in the digest of a request


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW on random batches, with a warm-up and a decaying rate.

    Parameters
    ----------
    steps : int
        Steps of the optimiser, >= 1.
    rate : float
        Largest learning rate, > 0.
    batch : int
        Prompts per model and step, drawn with replacement from the model's own set, >= 1.
    weight_decay : float
        Decoupled weight decay, >= 0.
    warmup : int
        Steps in which the rate rises linearly, >= 0.
    schedule : {"cosine", "constant"}
        What the rate does after the warm-up.
    clip : float, optional
        Longest gradient of a model, > 0; longer ones are shortened to it. Default: no limit.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    steps: int
    rate: float
    batch: int = 64
    weight_decay: float = 1e-4
    warmup: int = 0
    schedule: str = "cosine"
    clip: float | None = None

    def __post_init__(self) -> None:
        found = {
            "steps": count("steps", self.steps),
            "batch": count("batch", self.batch),
            "warmup": count("warmup", self.warmup, low=0),
            "rate": plain_scalar("rate", self.rate, open_=True),
            "weight_decay": plain_scalar("weight_decay", self.weight_decay),
        }
        if self.clip is not None:
            found["clip"] = plain_scalar("clip", self.clip, open_=True)
        keep(self, **found)
        choice("schedule", self.schedule, ("cosine", "constant"))

    def rate_at(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..., ``steps - 1``."""
        ramp = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return self.rate * ramp
        return self.rate * ramp * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def train(
    network: Architecture,
    laws: Law | Sequence[Law],
    n_prompts: int | Sequence[int] | None,
    *,
    n_context: int,
    recipe: Recipe,
    rng: np.random.Generator,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    watch: Watch | Sequence[Watch] | None = None,
    watch_every: int = 500,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    save_every: int = 1000,
) -> Trained:
    """Return one trained model per pair of a law and a number of prompts.

    Each model has its own data, its own initial weights and its own batches, all from a stream
    of its own: adding a model at the end changes no other.

    Parameters
    ----------
    network : Architecture
    laws : Law or sequence of Law
        Where the pretraining prompts come from; one for all, or one per model.
    n_prompts : int, sequence of int or None
        Size of the pretraining sets, >= 1; one for all, or one per model. None means that there
        are no sets: every step has fresh prompts.
    n_context : int
        Labelled examples in each prompt.
    recipe : Recipe
    rng : numpy.random.Generator
        The models' streams are spawned from it.
    device : str or torch.device
        Where to train. Everything random is drawn on the CPU in float64, whatever the device and
        the dtype; sets move there once, fresh prompts as they are drawn.
    dtype : {"float32", "bfloat16", "float64"}
        Of the arithmetic. In bfloat16 are the operands and results of the matrix products of the
        forward and the backward pass, and nothing else: weights, optimiser, losses, sums, norms
        and softmax stay in float32. The trained models hold float32 weights and answer in float32.
    watch : callable or sequence of callable, optional
        Something to follow during training, for example an exact risk: called with the weights
        of a model as float64 arrays, by name, and returns a number or an array, always of one
        shape. One for all, or one per model.
    watch_every : int
        Steps between two looks, rounded up to a multiple of 50.
    progress : callable, optional
        Called now and then with (steps done, steps in all, mean loss on the latest batches).
    checkpoint : Path, optional
        File that keeps the state of the run. If it exists the run goes on from there; a
        finished one returns at once. On one machine an interrupted and resumed run ends with
        the same bits as one without interruption. What is watched must be the same: a file
        cannot tell one function from another.
    save_every : int
        Steps between two saves, rounded up to a multiple of 50.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If the arguments do not fit each other, there is no such device, it cannot compute in the
        dtype, or the checkpoint is damaged or belongs to another request.
    TypeError
        If an argument is of the wrong type.
    OSError
        If a checkpoint cannot be written, say as the disk is full. The one before it stays.
    FloatingPointError
        If the loss of a model is no longer finite: the learning rate is too large, or a prompt
        holds a NaN.

    Notes
    -----
    The optimiser acts on every entry alone, so that stacking models changes nothing for any of
    them. Each model's loss is the mean squared error on its own batch, and a gradient is
    clipped model by model.

    Examples
    --------
    >>> from iclkit.nets import linear_attention
    >>> from iclkit.prompts import Gaussian, IsotropicLinear
    >>> from iclkit.rng import stream
    >>> law = IsotropicLinear(Gaussian(2), noise_var=0.01)
    >>> trained = train(
    ...     linear_attention(2), law, [4, 40], n_context=2, recipe=Recipe(50, 0.01), rng=stream(0)
    ... )
    >>> trained.errors(law, n_context=2, n_prompts=100, rng=stream(1)).value.shape
    (2,)
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe, got {type(recipe).__name__}")
    network, pairs = architecture(network), law_pairs(laws, n_prompts)
    progress = None if progress is None else function_of("progress", progress)
    n_context, save_every = count("n_context", n_context), count("save_every", save_every)
    looks = _Looks.at(watch, count("watch_every", watch_every), len(pairs))
    place = Place.at(device, dtype)
    path = None if checkpoint is None else checkpoints.prepare(checkpoint)
    streams = generator(rng).spawn(len(pairs))
    models = [_draw(network, p, n_context, s, place) for p, s in zip(pairs, streams, strict=True)]
    run = _start(network, recipe, models, looks, n_context=n_context, place=place)
    if path is not None and path.exists():
        run.load(path)
    while run.step < recipe.steps:
        run.advance(min(CHUNK, recipe.steps - run.step))
        if path is not None and run.due(save_every):
            run.save(path)
        if progress is not None:
            progress(run.step, recipe.steps, float(run.history[-1].mean()))
    return run.finish()


class _Looks(NamedTuple):
    """What to watch during training, and how often."""

    watches: list[Watch]
    every: int

    @property
    def rhythm(self) -> int:
        """Steps between two looks, 0 if there is nothing to watch."""
        return self.every if self.watches else 0

    @classmethod
    def at(cls, watch: Watch | Sequence[Watch] | None, every: int, models: int) -> _Looks:
        """Return one watch per model, or none at all."""
        if watch is None:
            return cls([], every)
        several = list(watch) if isinstance(watch, Sequence) else [watch] * models
        if len(several) != models:
            raise ValueError(f"watch must be one or {models}, got {len(several)}")
        if bad := [one for one in several if not callable(one)]:
            raise TypeError(f"watch must be callable, got {type(bad[0]).__name__}")
        return cls(several, every)

    def see(self, weights: Weights) -> Floats:
        """Return what each model shows."""
        arrays = {name: to_array(weight) for name, weight in weights.items()}
        seen = [
            watch({name: array[model] for name, array in arrays.items()})
            for model, watch in enumerate(self.watches)
        ]
        return _alike([_numbers(one) for one in seen])


def _numbers(seen: ArrayLike) -> Floats:
    """Return what one model has shown as an array."""
    try:
        array = np.asarray(seen)
    except ValueError:  # lists of different lengths
        array = np.empty((), dtype=object)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"watch must return a number or an array, got {type(seen).__name__}")
    return array.astype(np.float64)


def _alike(arrays: Sequence[Floats]) -> Floats:
    """Return stacked arrays of one shape."""
    for array in arrays:
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"watch must always return one shape, got {arrays[0].shape} and {array.shape}"
            )
    return np.array(arrays)


class _Start(NamedTuple):
    """One model before training: law, data as they will be used, first weights, seed of batches.

    With fresh prompts the data are a few, which only tell one request from another.
    """

    law: Law
    fresh: bool
    inputs: tuple[Tensor, ...]
    target: Floats
    weights: dict[str, Floats]
    seed: int


def _draw(
    network: Architecture,
    pair: tuple[Law, int | None],
    n_context: int,
    rng: np.random.Generator,
    place: Place,
) -> _Start:
    law, size = pair
    inputs, target = sample_inputs(network, law, size or _PROBE, n_context, rng)
    weights = init_weights(network, rng=rng)
    moved = tuple(place.put(part) for part in inputs)  # at once: only one model's are in float64
    seed = int(rng.integers(2**63))
    return _Start(law, size is None, moved, target.numpy(), weights, seed)


def _start(
    network: Architecture,
    recipe: Recipe,
    models: Sequence[_Start],
    looks: _Looks,
    *,
    n_context: int,
    place: Place,
) -> _Run:
    """Return a run at step 0, with everything stacked."""
    flat = [np.concatenate([w.ravel() for w in m.weights.values()]) for m in models]
    values = place.put(torch.as_tensor(np.stack(flat))).requires_grad_()
    return _Run(
        network=network,
        recipe=recipe,
        values=values,
        moments=(torch.zeros_like(values), torch.zeros_like(values)),
        data=_data(network, models, n_context, place),
        looks=looks,
        place=place,
        key=_key([repr(network), asdict(recipe), n_context, looks.rhythm], models, place),
    )


def _data(network: Architecture, models: Sequence[_Start], n_context: int, place: Place) -> Data:
    seeds = [m.seed for m in models]
    if models[0].fresh:
        return FreshPrompts(network, [m.law for m in models], seeds, n_context, place)
    return FixedSets.stacked([m.inputs for m in models], [m.target for m in models], seeds, place)


def _named(shapes: Shapes, values: Tensor) -> Weights:
    """Return views of the rows of `values` (models, weights) as named, shaped weights."""
    parts = values.split([math.prod(shape) for shape in shapes.values()], dim=1)
    named = zip(shapes.items(), parts, strict=True)
    return {name: part.unflatten(1, shape) for (name, shape), part in named}


def _key(request: list[Any], models: Sequence[_Start], place: Place) -> str:
    """Return a digest of all that decides how a run ends."""
    request = [*request, place.name, place.device.type, [m.fresh for m in models]]
    request.append([[list(part.shape) for part in m.inputs] for m in models])
    digest = hashlib.blake2b(json.dumps(request).encode(), digest_size=16)
    for m in models:
        digest.update(str(m.seed).encode())
        for array in (m.target, *m.weights.values()):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@dataclass
class _Run:
    """A training run: what is fixed, then what every step changes."""

    network: Architecture
    recipe: Recipe
    values: Tensor
    moments: tuple[Tensor, Tensor]
    data: Data
    looks: _Looks
    place: Place
    key: str
    step: int = 0
    history: list[Floats] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    watched: list[Floats] = field(default_factory=list)
    watched_steps: list[int] = field(default_factory=list)

    @property
    def weights(self) -> Weights:
        """The weights by name, as views."""
        return _named(self.network.shapes(), self.values)

    def due(self, every: int) -> bool:
        """Return whether something that happens every so many steps happens now."""
        return self.step % every < CHUNK or self.step == self.recipe.steps

    def advance(self, steps: int) -> None:
        """Take some steps, note the mean loss of each model, and look where it is time to."""
        if self.step == 0:
            self.look()
        total = torch.zeros(len(self.values), device=self.values.device, dtype=self.values.dtype)
        for inputs, target in self.data.batches(self.step, steps, self.recipe.batch):
            total += self.one_step(inputs, target)
        self.history.append(to_array(total / steps))
        self.marks.append(self.step)
        self.stop_if_lost(self.history[-1])
        if self.due(self.looks.every):
            self.look()

    def stop_if_lost(self, losses: Floats) -> None:
        """Raise if the loss of a model, or what stands for it, is not finite."""
        if not np.isfinite(losses).all():
            bad = int(np.flatnonzero(~np.isfinite(losses))[0])
            raise FloatingPointError(
                f"the loss of model {bad} is not finite at step {self.step}; "
                "lower the rate, or look for NaN in the prompts"
            )

    def look(self) -> None:
        """Note what there is to watch."""
        if self.looks.watches:
            seen = self.looks.see(self.weights)
            _alike([*self.watched[:1], seen])
            self.watched.append(seen)
            self.watched_steps.append(self.step)

    def one_step(self, inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        """Take one step on a batch per model and return the loss of each model before it."""
        with self.place.arithmetic():
            guess = self.network.answers(self.weights, inputs)
        loss = (guess - target).square().mean(1)
        (gradient,) = torch.autograd.grad(loss.sum(), self.values)
        if self.recipe.clip is not None:  # each row by itself
            gradient = torch.renorm(gradient, 2, 0, self.recipe.clip)
        self.move(gradient)
        self.step += 1
        return loss.detach()

    @torch.no_grad()
    def move(self, gradient: Tensor) -> None:
        """Move the weights by a step of AdamW.

        The function behind `torch.optim.AdamW`: making the class imports torch's compiler, which
        takes seconds.
        """
        done = torch.tensor(float(self.step))  # the function adds the step that it takes
        first, second = self.moments
        adamw(
            [self.values],
            [gradient],
            [first],
            [second],
            [],
            [done],
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=self.recipe.rate_at(self.step),
            weight_decay=self.recipe.weight_decay,
            eps=_ADAM_EPS,
            maximize=False,
        )

    def finish(self) -> Trained:
        """Return the trained models with their loss on all of their data."""
        weights = {name: weight.detach().clone() for name, weight in self.weights.items()}
        losses = self.data.losses(self.network, weights)
        self.stop_if_lost(to_array(self.values.sum(1)))
        self.stop_if_lost(self.history[-1] if losses is None else losses)
        return Trained(
            network=self.network,
            weights=weights,
            train_loss=self.history[-1] if losses is None else losses,
            history=np.array(self.history),
            history_steps=np.array(self.marks),
            watched=np.array(self.watched) if self.watched else np.empty((0, len(self.values))),
            watched_steps=np.array(self.watched_steps, dtype=np.int64),
        )

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        state = {
            "key": self.key,
            "step": self.step,
            "values": self.values.detach(),
            "moments": list(self.moments),
            "data": self.data.state(),
            "history": torch.as_tensor(np.array(self.history)),
            "marks": self.marks,
            "watched": torch.as_tensor(np.array(self.watched)),
            "watched_steps": self.watched_steps,
        }
        checkpoints.write(path, state)

    def load(self, path: Path) -> None:
        """Go on from a saved state of the same request."""
        state = checkpoints.read(path)
        if state["key"] != self.key:
            raise ValueError(
                f"checkpoint {path} belongs to another request; give another file, or delete it"
            )
        self.restore(state)

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `save` has written."""
        with torch.no_grad():
            self.values.copy_(state["values"])
            for moment, saved in zip(self.moments, state["moments"], strict=True):
                moment.copy_(saved)
        self.data.restore(state["data"])
        self.step, self.marks = state["step"], list(state["marks"])
        self.history = list(state["history"].numpy())
        self.watched = list(state["watched"].numpy())
        self.watched_steps = list(state["watched_steps"])
