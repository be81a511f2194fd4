"""Trained attention models: a whole sweep at once, for the figures that no formula covers.

The only module that needs PyTorch. Every weight has a leading model axis, so that all models of a
sweep take a training step together; no model influences another. The architectures are those of
the experiments of Lu et al. 2025: tokens (x_i, y_i) and (x_query, 0), no positional code, and a
read-out on the last token.
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
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from iclkit._checks import count, finite_array, generator, scalar
from iclkit.prompts import Gaussian, IsotropicLinear, Law

__all__ = [
    "JacobianRank",
    "ModelErrors",
    "Network",
    "Recipe",
    "Trained",
    "TrainedPredictor",
    "init_weights",
    "jacobian_rank",
    "linear_attention",
    "n_parameters",
    "predict",
    "softmax_block",
    "train",
    "transformer",
]

Floats = NDArray[np.float64]
Weights = dict[str, Tensor]
Progress = Callable[[int, int, float], object]

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_EPS = 1e-6  # of the layer norms, as in the released code's framework
_BETAS = (0.9, 0.999)  # of AdamW, the usual ones
_ADAM_EPS = 1e-8
_CHUNK = 50  # steps between two draws of batches
_TEST_BLOCK = 2048  # test prompts drawn at once
_NUMBERS = 1 << 22  # bound on the numbers of one evaluation block
_RANK_CUT = 1e-9  # singular values below this share of the largest count as zero


@dataclass(frozen=True)
class Network:
    """An architecture. Make one with `linear_attention`, `softmax_block` or `transformer`.

    Parameters
    ----------
    dim : int
        Token dimension, >= 1.
    width : int
        Hidden width, >= 1.
    blocks : int
        Number of attention blocks, >= 1; linear attention has one.
    attention : {"linear", "softmax"}
    mlp : bool
        Whether a block ends with a linear layer; not for linear attention.
    bias : bool
        Whether linear attention has biases; softmax attention has none, as in the released code.

    Raises
    ------
    ValueError
        If a value is out of its range or the options do not go together.
    """

    dim: int
    width: int
    blocks: int
    attention: str
    mlp: bool
    bias: bool = True

    def __post_init__(self) -> None:
        for name in ("dim", "width", "blocks"):
            count(name, getattr(self, name))
        if self.attention not in ("linear", "softmax"):
            raise ValueError(f'attention must be "linear" or "softmax", got {self.attention!r}')
        if self.attention == "linear" and (self.blocks > 1 or self.mlp):
            raise ValueError("linear attention has one block and no MLP; take a transformer")


def linear_attention(dim: int, width: int | None = None, *, bias: bool = True) -> Network:
    """Return full linear attention: every matrix trained, no mask, no residual.

    Parameters
    ----------
    dim : int
        Token dimension.
    width : int, optional
        Length of keys, queries and values. Default: `dim`.
    bias : bool
        Whether keys, queries, values and read-out have biases.

    Returns
    -------
    Network

    Notes
    -----
    With tokens z_i and the last one the query, ``y_hat = c + r . sum_i v_i <k_i, q> / sqrt(width)``
    where ``k_i``, ``v_i`` and ``q`` are affine in ``z_i`` and the query.

    References
    ----------
    Figure 5 A of Lu et al. 2025, as in the released code.
    """
    return Network(dim, dim if width is None else width, 1, "linear", mlp=False, bias=bias)


def softmax_block(dim: int, width: int | None = None) -> Network:
    """Return one block of softmax attention with layer norms (Figure 5 B of Lu et al. 2025).

    Parameters
    ----------
    dim : int
        Token dimension.
    width : int, optional
        Hidden width. Default: `dim`.

    Returns
    -------
    Network
    """
    return Network(dim, dim if width is None else width, 1, "softmax", mlp=False)


def transformer(dim: int, *, blocks: int = 2, width: int | None = None) -> Network:
    """Return blocks of softmax attention, layer norm and linear "MLP" (Figures 5 C and 6).

    Parameters
    ----------
    dim : int
        Token dimension.
    blocks : int
        Number of blocks.
    width : int, optional
        Hidden width. Default: `dim`.

    Returns
    -------
    Network

    Notes
    -----
    A block maps hidden tokens u to ``n + W n + b`` up to a second layer norm, with
    ``n = norm(u + attention(u))``. In the released code the "MLP" of these figures is this one
    linear layer, without an activation.
    """
    return Network(dim, dim if width is None else width, blocks, "softmax", mlp=True)


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

    def __post_init__(self) -> None:
        count("steps", self.steps)
        count("batch", self.batch)
        count("warmup", self.warmup, low=0)
        scalar("rate", self.rate, open_=True)
        scalar("weight_decay", self.weight_decay)
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f'schedule must be "cosine" or "constant", got {self.schedule!r}')

    def rate_at(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..., ``steps - 1``."""
        ramp = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "constant":
            return self.rate * ramp
        return self.rate * ramp * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class ModelErrors(NamedTuple):
    """Mean squared errors on fresh prompts, one per model.

    Attributes
    ----------
    value, stderr : (models,) array
        Means and their standard errors over the test prompts.
    """

    value: Floats
    stderr: Floats


# ------------------------------------------------------------------------------ weights


def n_parameters(network: Network) -> int:
    """Return the number of weights of one model.

    Parameters
    ----------
    network : Network

    Returns
    -------
    int

    Examples
    --------
    >>> n_parameters(linear_attention(3))
    49
    """
    return sum(math.prod(shape) for shape, _ in _shapes(network).values())


def _shapes(network: Network) -> dict[str, tuple[tuple[int, ...], float]]:
    """Return each weight's shape and the spread of its start; the first column is the bias."""
    if network.attention == "linear":
        return _linear_shapes(network)
    d, h = network.dim, network.width
    shapes: dict[str, tuple[tuple[int, ...], float]] = {"embed": ((h, d + 2), (d + 1) ** -0.5)}
    for block in range(network.blocks):
        parts = dict.fromkeys(("query", "key", "value"), ((h, h), h ** (-0.5)))
        norms = {"scale": ((2, h), 0.0), "shift": ((2, h), 0.0)}
        last = {"mlp": ((h, h + 1), h**-0.5)} if network.mlp else {}
        shapes |= {f"{name}{block}": shape for name, shape in (parts | norms | last).items()}
    return shapes | {"readout": ((h + 1,), h**-0.5)}


def _linear_shapes(network: Network) -> dict[str, tuple[tuple[int, ...], float]]:
    d, h, one = network.dim, network.width, int(network.bias)
    parts = dict.fromkeys(("query", "key", "value"), ((h, d + 1 + one), (d + 1) ** (-0.5)))
    return parts | {"readout": ((h + one,), h**-0.5)}


def _has_bias(network: Network, name: str) -> bool:
    if network.attention == "linear":
        return network.bias
    return name.startswith(("embed", "mlp", "readout"))


def init_weights(
    network: Network, *, rng: np.random.Generator, generic: bool = False
) -> dict[str, Floats]:
    """Return the starting weights of one model.

    Parameters
    ----------
    network : Network
    rng : numpy.random.Generator
    generic : bool
        Perturb biases and layer norms, too, so that nothing is special about the point.

    Returns
    -------
    dict of str to array
        Matrices are N(0, 1/inputs), biases 0, layer norms the identity. A bias is the first
        column (entry, for the read-out) of its matrix.
    """
    rng, weights = generator(rng), {}
    for name, (shape, spread) in _shapes(network).items():
        draw = rng.standard_normal(shape)
        if name.startswith(("scale", "shift")):
            start = float(name.startswith("scale"))
            weights[name] = start + (0.3 * draw if generic else 0.0 * draw)
            continue
        weights[name] = spread * draw
        if _has_bias(network, name) and not generic:
            weights[name][..., 0] = 0.0
    return weights


# ------------------------------------------------------------------------------ the forward pass
#
# Inside, prompts are the last axis: hidden tokens are (models, width, tokens, prompts). With short
# contexts and small widths the other orders spend their time on rows of ten numbers.


def predict(network: Network, weights: Weights, tokens: Tensor) -> Tensor:
    """Return the predictions of stacked models for stacked prompts.

    Parameters
    ----------
    network : Network
    weights : dict of str to tensor
        As from `init_weights`, with a leading model axis.
    tokens : (models or 1, batch, n_context + 1, dim + 1) tensor
        Columns x and y; the last token is the query with label 0.

    Returns
    -------
    (models, batch) tensor

    Notes
    -----
    Linear attention sees a context through the second moment of its tokens alone; softmax
    attention of the last block is computed for the last token alone.
    """
    return _forward(network, weights, _inputs(network, tokens))


def _inputs(network: Network, tokens: Tensor) -> tuple[Tensor, ...]:
    """Return what the network needs of prompts (m, b, l, e): second moment and query, or tokens."""
    if network.attention == "softmax":
        return (tokens.transpose(-1, -2),)
    if network.bias:
        tokens = torch.cat([torch.ones_like(tokens[..., :1]), tokens], dim=-1)
    return tokens.mT @ tokens, tokens[..., -1, :]


def _forward(network: Network, weights: Weights, inputs: tuple[Tensor, ...]) -> Tensor:
    if network.attention == "linear":
        return _linear(network, weights, *inputs)
    return _softmax(network, weights, inputs[0].movedim(1, -1).contiguous())


def _linear(network: Network, weights: Weights, moment: Tensor, query: Tensor) -> Tensor:
    """Return ``c + a^T S B t / sqrt(width)`` for moments S (m, b, D, D) and queries t (m, b, D)."""
    one = int(network.bias)
    pair = weights["key"].mT @ weights["query"] / math.sqrt(network.width)  # (m, D, D)
    summed = weights["readout"][:, None, one:] @ weights["value"]  # (m, 1, D)
    looked = query @ pair.mT  # (m, b, D)
    answer = (_apply(moment, summed) * looked).sum(-1)
    return answer + weights["readout"][:, :1] if one else answer


def _apply(moment: Tensor, vector: Tensor) -> Tensor:
    """Return S a for every prompt: (m, b, D, D), (m, 1, D) -> (m, b, D)."""
    models, batch, size = moment.shape[:3]
    if models == 1:  # the same prompts for all models
        return (vector[:, 0] @ moment.reshape(batch * size, size).T).view(-1, batch, size)
    flat = moment.reshape(models, batch * size, size)
    return (flat @ vector.mT).view(models, batch, size)


def _softmax(network: Network, weights: Weights, tokens: Tensor) -> Tensor:
    """Return the predictions of softmax blocks for tokens (m or 1, d + 1, l, b)."""
    embed, last = weights["embed"], network.blocks - 1
    if last == 0:  # the embedding is affine: attend to the raw tokens, embed their mean
        query = _affine(embed, tokens[:, :, -1:])
        pull = _matrix(embed[..., 1:].mT, _pull(weights, 0, query))
        mean = _affine(embed, _attend(tokens, pull))
        return _read(weights, _finish(network, weights, 0, query, mean))
    hidden = _affine(embed, tokens)
    for block in range(last):
        mean = _attend_all(hidden, _pull(weights, block, hidden))
        hidden = _finish(network, weights, block, hidden, mean)
    query = hidden[:, :, -1:]
    mean = _attend(hidden, _pull(weights, last, query))
    return _read(weights, _finish(network, weights, last, query, mean))


def _affine(weight: Tensor, tokens: Tensor) -> Tensor:
    """Return ``W z + b`` for matrices (m, h, 1 + e) and tokens (m or 1, e, l, b)."""
    flat = tokens.flatten(2).expand(len(weight), -1, -1)
    out = torch.baddbmm(weight[..., :1], weight[..., 1:], flat)
    return out.view(*out.shape[:2], *tokens.shape[2:])


def _matrix(weight: Tensor, hidden: Tensor) -> Tensor:
    """Return ``W u`` for matrices (m, h, e) and vectors (m, e, l, b)."""
    out = weight @ hidden.flatten(2)
    return out.view(*out.shape[:2], *hidden.shape[2:])


def _pull(weights: Weights, block: int, query: Tensor) -> Tensor:
    """Return the vectors whose products with the hidden tokens are the attention scores."""
    pair = weights[f"key{block}"].mT @ weights[f"query{block}"]
    return _matrix(pair / math.sqrt(pair.shape[-1]), query)


def _attend(tokens: Tensor, pull: Tensor) -> Tensor:
    """Return the mean token under the weights ``softmax(<token, pull>)`` for one query a prompt."""
    scores = (tokens * pull).sum(1, keepdim=True)  # (m, 1, l, b)
    return (scores.softmax(2) * tokens).sum(2, keepdim=True)


def _attend_all(hidden: Tensor, pull: Tensor) -> Tensor:
    """Return the causal mean tokens of every position of hidden tokens (m, h, l, b)."""
    length = hidden.shape[2]
    scores = torch.einsum("mhib,mhjb->mijb", pull, hidden)
    future = torch.full((length, length), -math.inf, dtype=scores.dtype, device=scores.device)
    share = (scores + future.triu(1)[..., None]).softmax(2)
    return torch.einsum("mijb,mhjb->mhib", share, hidden)


def _finish(network: Network, weights: Weights, block: int, hidden: Tensor, mean: Tensor) -> Tensor:
    """Return a block's output from its input and the attended mean: values, norms, linear layer."""
    hidden = _norm(weights, block, 0, hidden + _matrix(weights[f"value{block}"], mean))
    # without a linear layer the released code adds the norm's output to itself
    more = _affine(weights[f"mlp{block}"], hidden) if network.mlp else hidden
    return _norm(weights, block, 1, hidden + more)


def _norm(weights: Weights, block: int, which: int, hidden: Tensor) -> Tensor:
    """Return the layer norm over the hidden axis."""
    centred = hidden - hidden.mean(1, keepdim=True)
    spread = (centred * centred).mean(1, keepdim=True)
    scale, shift = (
        weights[f"{name}{block}"][:, which, :, None, None] for name in ("scale", "shift")
    )
    return torch.addcmul(shift, centred * (spread + _EPS).rsqrt(), scale)


def _read(weights: Weights, hidden: Tensor) -> Tensor:
    return _affine(weights["readout"][:, None], hidden)[:, 0, 0]


# ------------------------------------------------------------------------------ training


@dataclass(frozen=True, eq=False)
class Trained:
    """Models of one architecture after training; see `train`.

    Parameters
    ----------
    network : Network
    weights : dict of str to tensor
        With a leading model axis.
    train_loss : (models,) array
        Mean squared error of each model on its whole pretraining set, at the end.
    history : (records, models) array
        Mean loss on the batches since the record before, during training.
    history_steps : (records,) array
        The step at which each record was taken.
    """

    network: Network
    weights: Weights = field(repr=False)
    train_loss: Floats = field(repr=False)
    history: Floats = field(repr=False)
    history_steps: NDArray[np.int64] = field(repr=False)

    @property
    def n_models(self) -> int:
        """Number of models."""
        return len(self.weights["readout"])

    def errors(
        self, laws: Law | Sequence[Law], *, n_context: int, n_prompts: int, rng: np.random.Generator
    ) -> ModelErrors:
        """Return each model's mean squared error on fresh prompts, with its standard error.

        Parameters
        ----------
        laws : Law or sequence of Law
            One for all, and then all models answer the same prompts; or one per model.
        n_context : int
            Labelled examples in each prompt.
        n_prompts : int
            Test prompts per model, >= 2.
        rng : numpy.random.Generator

        Returns
        -------
        ModelErrors

        Raises
        ------
        ValueError
            If the number or the dimension of the laws does not fit.
        """
        laws = list(laws) if isinstance(laws, Sequence) else [laws]
        if len(laws) not in (1, self.n_models):
            raise ValueError(f"laws must be one or {self.n_models}, got {len(laws)}")
        n_prompts, rng = count("n_prompts", n_prompts, low=2), generator(rng)
        losses = []
        for start in range(0, n_prompts, _TEST_BLOCK):
            size = min(_TEST_BLOCK, n_prompts - start)
            drawn = [_sample(self.network, law, size, n_context, rng) for law in laws]
            losses.append(self._losses(drawn))
        loss = np.concatenate(losses, axis=1)
        return ModelErrors(loss.mean(axis=1), loss.std(axis=1, ddof=1) / math.sqrt(n_prompts))

    def _losses(self, drawn: list[tuple[tuple[Tensor, ...], Tensor]]) -> Floats:
        like = self.weights["readout"]
        inputs = zip(*(inputs for inputs, _ in drawn), strict=True)
        stacked = tuple(torch.stack(parts).to(like) for parts in inputs)
        target = torch.stack([target for _, target in drawn]).to(like)
        return _losses(self.network, self.weights, stacked, target)

    def predictor(self, model: int) -> TrainedPredictor:
        """Return one of the models as a predictor.

        Parameters
        ----------
        model : int
            Its place in the sweep, 0 to ``n_models - 1``.

        Returns
        -------
        TrainedPredictor
            For `iclkit.risk.monte_carlo_risk` and every other use of a predictor.
        """
        if count("model", model, low=0) >= self.n_models:
            raise ValueError(f"model must be < {self.n_models}, got {model}")
        one = {name: weight[model : model + 1] for name, weight in self.weights.items()}
        return TrainedPredictor(self.network, one)


@dataclass(frozen=True, eq=False)
class TrainedPredictor:
    """A trained model as an `iclkit.predictors.Predictor`.

    Parameters
    ----------
    network : Network
    weights : dict of str to tensor
        With a leading model axis of length one.
    """

    network: Network
    weights: Weights = field(repr=False)

    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `iclkit.predictors.Predictor`."""
        tokens = _tokens(
            finite_array("x", x, ndim=3),
            finite_array("y", y, ndim=2),
            finite_array("x_query", x_query, ndim=2),
        )
        if tokens.shape[2] != self.network.dim + 1:
            raise ValueError(
                f"the model is for dimension {self.network.dim}, got x of {np.shape(x)}"
            )
        stacked = torch.as_tensor(tokens[None]).to(self.weights["readout"])
        with torch.no_grad():
            return predict(self.network, self.weights, stacked)[0].double().cpu().numpy()


def train(
    network: Network,
    laws: Law | Sequence[Law],
    n_prompts: int | Sequence[int],
    *,
    n_context: int,
    recipe: Recipe,
    rng: np.random.Generator,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    save_every: int = 1000,
) -> Trained:
    """Return one trained model per pair of a law and a number of prompts.

    Each model has its own pretraining set, fixed at the start, its own initial weights and its
    own batches, all from a stream of its own: adding a model at the end changes no other.

    Parameters
    ----------
    network : Network
    laws : Law or sequence of Law
        Where the pretraining prompts come from; one for all, or one per model.
    n_prompts : int or sequence of int
        Size of the pretraining sets, >= 1; one for all, or one per model.
    n_context : int
        Labelled examples in each prompt.
    recipe : Recipe
    rng : numpy.random.Generator
        The models' streams are spawned from it.
    device : str or torch.device
        Where to train. Data move there once.
    dtype : {"float32", "float64"}
    progress : callable, optional
        Called now and then with (steps done, steps in all, mean loss on the latest batches).
    checkpoint : Path, optional
        File that keeps the state of the run. If it exists the run goes on from there; a
        finished one returns at once. On one machine an interrupted and resumed run ends with
        the same bits as one without interruption.
    save_every : int
        Steps between two saves, rounded up to a multiple of 50.

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If the arguments do not fit each other, or the checkpoint is damaged or belongs to
        another request.
    FloatingPointError
        If the loss of a model is no longer finite: the learning rate is too large.

    Notes
    -----
    AdamW acts on every entry alone, so that stacking models changes nothing for any of them.
    Each model's loss is the mean squared error on its own batch.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> law = IsotropicLinear(Gaussian(2), noise_var=0.01)
    >>> trained = train(
    ...     linear_attention(2), law, [4, 40], n_context=2, recipe=Recipe(50, 0.01), rng=stream(0)
    ... )
    >>> trained.errors(law, n_context=2, n_prompts=100, rng=stream(1)).value.shape
    (2,)
    """
    pairs = _pairs(laws, n_prompts)
    n_context, save_every = count("n_context", n_context), count("save_every", save_every)
    to = {"device": _device(device), "dtype": _dtype(dtype)}
    streams = generator(rng).spawn(len(pairs))
    run = _start(
        network,
        recipe,
        [_draw(network, pair, n_context, s, to) for pair, s in zip(pairs, streams, strict=True)],
        to=to,
    )
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        run.load(path)
    while run.step < recipe.steps:
        run.advance(min(_CHUNK, recipe.steps - run.step))
        if path is not None and (run.step % save_every < _CHUNK or run.step == recipe.steps):
            run.save(path)
        if progress is not None:
            progress(run.step, recipe.steps, float(run.history[-1].mean()))
    return run.finish()


class _Start(NamedTuple):
    """One model before training: data as they will be used, first weights, seed of the batches."""

    inputs: tuple[Tensor, ...]
    target: Floats
    weights: dict[str, Floats]
    seed: int


def _draw(
    network: Network, pair: tuple[Law, int], n_context: int, rng: np.random.Generator, to: Any
) -> _Start:
    inputs, target = _sample(network, *pair, n_context, rng)
    weights = init_weights(network, rng=rng)
    moved = tuple(part.to(**to) for part in inputs)  # at once: only one model's are in float64
    return _Start(moved, target.numpy(), weights, int(rng.integers(2**63)))


def _start(network: Network, recipe: Recipe, models: Sequence[_Start], *, to: Any) -> _Run:
    """Return a run at step 0, with everything stacked."""
    flat = [np.concatenate([w.ravel() for w in m.weights.values()]) for m in models]
    parts = zip(*(m.inputs for m in models), strict=True)
    return _Run(
        network=network,
        recipe=recipe,
        adam=_Adam.start(torch.as_tensor(np.stack(flat)).to(**to)),
        inputs=[torch.cat([one.flatten(1) for one in part]) for part in parts],
        shapes=[part.shape[1:] for part in models[0].inputs],
        target=torch.as_tensor(np.concatenate([m.target for m in models])).to(**to),
        sizes=[len(m.target) for m in models],
        generators=[torch.Generator(to["device"]).manual_seed(m.seed) for m in models],
        key=_key(network, recipe, models, to),
    )


def _named(network: Network, values: Tensor) -> Weights:
    """Return views of the rows of `values` (models, weights) as named, shaped weights."""
    shapes = {name: shape for name, (shape, _) in _shapes(network).items()}
    parts = values.split([math.prod(shape) for shape in shapes.values()], dim=1)
    named = zip(shapes.items(), parts, strict=True)
    return {name: part.unflatten(1, shape) for (name, shape), part in named}


class _Adam(NamedTuple):
    """AdamW on one tensor with all weights of all models: values and the two running means.

    PyTorch's own optimiser gives the same numbers. Its first step imports a compiler, which
    takes longer than many of our runs.
    """

    values: Tensor
    mean: Tensor
    square: Tensor

    @classmethod
    def start(cls, values: Tensor) -> _Adam:
        """Return the state before the first step."""
        return cls(values.requires_grad_(), torch.zeros_like(values), torch.zeros_like(values))

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float, decay: float, number: int) -> None:
        """Take step `number` = 1, 2, ... in place."""
        self.mean.lerp_(gradient, 1 - _BETAS[0])
        self.square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        size = (self.square / (1 - _BETAS[1] ** number)).sqrt_().add_(_ADAM_EPS)
        self.values.mul_(1 - rate * decay)
        self.values.addcdiv_(self.mean, size, value=-rate / (1 - _BETAS[0] ** number))


def _key(network: Network, recipe: Recipe, models: Sequence[_Start], to: Any) -> str:
    """Return a digest of all that decides how a run ends."""
    request = [asdict(network), asdict(recipe), str(to["dtype"]), to["device"].type]
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

    network: Network
    recipe: Recipe
    adam: _Adam
    inputs: list[Tensor]
    shapes: list[torch.Size]
    target: Tensor
    sizes: list[int]
    generators: list[torch.Generator]
    key: str
    step: int = 0
    history: list[Floats] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    def advance(self, steps: int) -> None:
        """Take some steps and note the mean loss of each model."""
        total = torch.zeros(len(self.sizes), device=self.target.device, dtype=self.target.dtype)
        for rows in self.batches(steps):
            total += self.one_step(rows)
        self.history.append((total / steps).double().cpu().numpy())
        self.marks.append(self.step)
        if not np.isfinite(self.history[-1]).all():
            bad = int(np.flatnonzero(~np.isfinite(self.history[-1]))[0])
            raise FloatingPointError(
                f"the loss of model {bad} is not finite at step {self.step}; lower the rate"
            )

    def batches(self, steps: int) -> Tensor:
        """Return the rows of the data for some steps, (steps, models * batch)."""
        shape = (steps, self.recipe.batch)
        ends = np.cumsum([0, *self.sizes])
        rows = [
            int(start) + torch.randint(size, shape, generator=stream, device=self.target.device)
            for size, start, stream in zip(self.sizes, ends, self.generators, strict=False)
        ]
        return torch.cat(rows, dim=1)

    def one_step(self, rows: Tensor) -> Tensor:
        """Take one step on the prompts `rows` and return the loss of each model before it."""
        models = len(self.sizes)
        inputs = tuple(
            part.index_select(0, rows).view(models, -1, *shape)
            for part, shape in zip(self.inputs, self.shapes, strict=True)
        )
        target = self.target.index_select(0, rows).view(models, -1)
        guess = _forward(self.network, _named(self.network, self.adam.values), inputs)
        loss = (guess - target).square().mean(1)
        (gradient,) = torch.autograd.grad(loss.sum(), self.adam.values)
        rate, decay = self.recipe.rate_at(self.step), self.recipe.weight_decay
        self.step += 1
        self.adam.step(gradient, rate, decay, self.step)
        return loss.detach()

    def finish(self) -> Trained:
        """Return the trained models with their loss on all of their data."""
        named = _named(self.network, self.adam.values.detach())
        weights = {name: weight.clone() for name, weight in named.items()}
        losses, start = [], 0
        for model, size in enumerate(self.sizes):
            rows = slice(start, start + size)
            one = {name: weight[model : model + 1] for name, weight in weights.items()}
            inputs = tuple(
                part[rows].view(1, size, *shape)
                for part, shape in zip(self.inputs, self.shapes, strict=True)
            )
            losses.append(_losses(self.network, one, inputs, self.target[None, rows]).mean())
            start += size
        history = np.array(self.history)
        return Trained(self.network, weights, np.array(losses), history, np.array(self.marks))

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        state = {
            "key": self.key,
            "step": self.step,
            "adam": [part.detach() for part in self.adam],
            "generators": [stream.get_state() for stream in self.generators],
            "history": torch.as_tensor(np.array(self.history)),
            "marks": self.marks,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a saved state of the same request."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            mine = state["key"] == self.key
            if mine:
                self.restore(state)
        except Exception as error:  # a damaged file can raise nearly anything
            raise ValueError(f"checkpoint {path} is damaged; delete it to start anew") from error
        if not mine:
            raise ValueError(f"checkpoint {path} belongs to another request; give another file")

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `save` has written."""
        with torch.no_grad():
            for part, saved in zip(self.adam, state["adam"], strict=True):
                part.copy_(saved)
        for stream, saved in zip(self.generators, state["generators"], strict=True):
            stream.set_state(saved)
        self.step, self.marks = state["step"], list(state["marks"])
        self.history = list(state["history"].numpy())


# ------------------------------------------------------------------------------ data


def _pairs(laws: Law | Sequence[Law], n_prompts: int | Sequence[int]) -> list[tuple[Law, int]]:
    """Return one (law, size) per model."""
    several = list(laws) if isinstance(laws, Sequence) else [laws]
    sizes = list(n_prompts) if np.iterable(n_prompts) else [n_prompts]
    models = max(len(several), len(sizes))
    for name, values in (("laws", several), ("n_prompts", sizes)):
        if len(values) not in (1, models) or not values:
            raise ValueError(f"{name} must be one or {models} values, got {len(values)}")
    sizes = [count("n_prompts", size) for size in sizes]
    pairs = zip(several * (models // len(several)), sizes * (models // len(sizes)), strict=True)
    return list(pairs)


def _sample(
    network: Network, law: Law, n_prompts: int, n_context: int, rng: np.random.Generator
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the network's inputs (n, ...) and the targets (n,) of fresh prompts, in float64."""
    prompts = law.sample(n_prompts, n_context, rng=rng)
    if prompts.x_query.shape[1] != network.dim:
        raise ValueError(
            f"laws must have the network's dimension {network.dim}, got {prompts.x_query.shape[1]}"
        )
    tokens = torch.from_numpy(_tokens(prompts.x, prompts.y, prompts.x_query))[None]
    inputs = tuple(part[0].contiguous() for part in _inputs(network, tokens))
    return inputs, torch.from_numpy(prompts.y_query)


def _tokens(x: Floats, y: Floats, x_query: Floats) -> Floats:
    """Return tokens (x_i, y_i) and (x_query, 0), (batch, n_context + 1, dim + 1)."""
    if x.shape[:2] != y.shape or (x.shape[0], x.shape[2]) != x_query.shape:
        raise ValueError(
            "x, y, x_query must have shapes (batch, n, d), (batch, n), (batch, d), "
            f"got {x.shape}, {y.shape}, {x_query.shape}"
        )
    tokens = np.zeros((x.shape[0], x.shape[1] + 1, x.shape[2] + 1))
    tokens[:, :-1, :-1], tokens[:, :-1, -1], tokens[:, -1, :-1] = x, y, x_query
    return tokens


def _losses(
    network: Network, weights: Weights, inputs: tuple[Tensor, ...], target: Tensor
) -> Floats:
    """Return squared errors (models, prompts), computed in blocks of bounded memory."""
    models, n_prompts = len(weights["readout"]), target.shape[1]
    shape = inputs[0].shape[2:]
    per_prompt = models * math.prod(shape) * (1 if network.attention == "linear" else 8)
    size = max(1, _NUMBERS // per_prompt)
    out = []
    with torch.no_grad():
        for start in range(0, n_prompts, size):
            rows = slice(start, start + size)
            guess = _forward(network, weights, tuple(part[:, rows] for part in inputs))
            out.append((guess - target[:, rows]).square().double().cpu())
    return torch.cat(out, dim=1).numpy()


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f'device must be one such as "cpu" or "cuda", got {device!r}') from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'device {found} is not available here; take "cpu"')
    return found


def _dtype(dtype: str) -> torch.dtype:
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    return _DTYPES[dtype]


# ------------------------------------------------------------------------------ rank


class JacobianRank(NamedTuple):
    """The numerical rank of a Jacobian and the gap that decides it.

    Attributes
    ----------
    rank : int
    kept, dropped : float
        The last singular value that counts and the first that does not (0 if there is none),
        relative to the largest.
    """

    rank: int
    kept: float
    dropped: float


def jacobian_rank(
    network: Network,
    *,
    n_context: int | None = None,
    n_prompts: int | None = None,
    rng: np.random.Generator,
) -> JacobianRank:
    """Return the rank of d prediction / d weights over random prompts, at random weights.

    It is the number of prompts that the network can fit to first order: with more prompts than
    that, labels at will cannot be met.

    Parameters
    ----------
    network : Network
    n_context : int, optional
        Labelled examples in each prompt. Default: ``dim``.
    n_prompts : int, optional
        Rows of the Jacobian. Default: ten more than there are weights.
    rng : numpy.random.Generator

    Returns
    -------
    JacobianRank

    Notes
    -----
    For linear attention of width h in dimension d the rank is ``r (2d + 3 - r) + d + 2`` with
    ``r = min(h, d + 1)`` and biases, ``r (2d + 1 - r) + d`` with ``r = min(h, d)`` without.
    At h = d that is ``d^2 + 4d + 2`` and ``d (d + 2)``.

    References
    ----------
    New here; it explains where Figure 5 A of Lu et al. 2025 has its peak.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> jacobian_rank(linear_attention(3), rng=stream(0)).rank
    23
    """
    rng, n_context = generator(rng), network.dim if n_context is None else n_context
    rows = n_parameters(network) + 10 if n_prompts is None else count("n_prompts", n_prompts)
    law = IsotropicLinear(Gaussian(network.dim), noise_var=0.1)
    inputs, _ = _sample(network, law, rows, count("n_context", n_context), rng)
    weights = _repeated(init_weights(network, rng=rng, generic=True), rows)
    # every prompt gets a copy of the model: the gradient of the sum has one row per prompt
    _forward(network, weights, tuple(part[:, None] for part in inputs)).sum().backward()
    gradients = [weight.grad.flatten(1) for weight in weights.values() if weight.grad is not None]
    singular = torch.linalg.svdvals(torch.cat(gradients, dim=1)).numpy()
    singular = np.append(singular / singular[0], 0.0)
    rank = int((singular > _RANK_CUT).sum())
    return JacobianRank(rank, float(singular[rank - 1]), float(singular[rank]))


def _repeated(weights: dict[str, Floats], times: int) -> Weights:
    return {
        name: torch.from_numpy(np.repeat(weight[None], times, axis=0)).requires_grad_()
        for name, weight in weights.items()
    }
