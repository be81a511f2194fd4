"""Architectures: what training asks of any of them, and the networks of Lu et al. 2025.

Every weight has a leading model axis, so that all models of a sweep answer at once. The networks
here take tokens (x_i, y_i) and (x_query, 0), no positional code, and a read-out on the last
token; those of Zhang, Wu and Bartlett 2024 are in `iclkit.nets.blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iclkit._checks import border, choice, count, flag, generator, keep

__all__ = [
    "Architecture",
    "Network",
    "init_weights",
    "linear_attention",
    "n_parameters",
    "predict",
    "softmax_block",
    "transformer",
]

Floats = NDArray[np.float64]
Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

_EPS = 1e-6  # of the layer norms, as in the released code's framework


class Architecture(Protocol):
    """What training and testing ask of an architecture.

    Anything with these methods can be trained by `iclkit.nets.train`: `Network` and the blocks of
    `iclkit.nets.blocks` are examples.
    """

    @property
    def dim(self) -> int:
        """Token dimension."""

    def shapes(self) -> Shapes:
        """Return the shape of each weight of one model, by name."""

    def start(self, rng: np.random.Generator, *, generic: bool = False) -> dict[str, Floats]:
        """Return the starting weights of one model; see `init_weights`."""

    def inputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return what the network needs of tokens (models or 1, batch, n_context + 1, dim + 1)."""

    def answers(self, weights: Weights, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return predictions (models, batch) from stacked weights and such inputs."""


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
            keep(self, **{name: count(name, getattr(self, name))})
        for name in ("mlp", "bias"):
            keep(self, **{name: flag(name, getattr(self, name))})
        choice("attention", self.attention, ("linear", "softmax"))
        if self.attention == "linear" and (self.blocks > 1 or self.mlp):
            raise ValueError("linear attention has one block and no MLP; take a transformer")

    def shapes(self) -> Shapes:
        """Return the shape of each weight of one model; see `Architecture`."""
        return {name: shape for name, (shape, _) in _shapes(self).items()}

    def start(self, rng: np.random.Generator, *, generic: bool = False) -> dict[str, Floats]:
        """Return the starting weights of one model; see `init_weights`."""
        weights = {}
        for name, (shape, spread) in _shapes(self).items():
            draw = rng.standard_normal(shape)
            if name.startswith(("scale", "shift")):
                start = float(name.startswith("scale"))
                weights[name] = start + (0.3 * draw if generic else 0.0 * draw)
                continue
            weights[name] = spread * draw
            if _has_bias(self, name) and not generic:
                weights[name][..., 0] = 0.0
        return weights

    def inputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return what the network needs of prompts: second moment and query, or tokens."""
        if self.attention == "softmax":
            return (tokens.transpose(-1, -2),)
        if self.bias:
            tokens = torch.cat([torch.ones_like(tokens[..., :1]), tokens], dim=-1)
        return tokens.mT @ tokens, tokens[..., -1, :]

    def answers(self, weights: Weights, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return predictions (models, batch); see `Architecture`."""
        if self.attention == "linear":
            return _linear(self, weights, *inputs)
        return _softmax(self, weights, inputs[0].movedim(1, -1).contiguous())


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


# ------------------------------------------------------------------------------ weights


def architecture(network: Architecture) -> Architecture:
    """Return `network` if it has what an architecture has."""
    parts = ("dim", "shapes", "start", "inputs", "answers")
    if isinstance(network, type) or not all(hasattr(network, part) for part in parts):
        raise TypeError(
            f"network must be an architecture, got {type(network).__name__}; "
            "make one with linear_attention"
        )
    return network


def n_parameters(network: Architecture) -> int:
    """Return the number of weights of one model.

    Parameters
    ----------
    network : Architecture

    Returns
    -------
    int

    Examples
    --------
    >>> n_parameters(linear_attention(3))
    49
    """
    return sum(math.prod(shape) for shape in architecture(network).shapes().values())


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


@border
def init_weights(
    network: Architecture, *, rng: np.random.Generator, generic: bool = False
) -> dict[str, Floats]:
    """Return the starting weights of one model.

    Parameters
    ----------
    network : Architecture
    rng : numpy.random.Generator
    generic : bool
        Perturb biases and layer norms, too, so that nothing is special about the point.

    Returns
    -------
    dict of str to array
        For a `Network` matrices are N(0, 1/inputs), biases 0, layer norms the identity; a bias is
        the first column (entry, for the read-out) of its matrix.

    Raises
    ------
    TypeError
        If the network is no architecture or `rng` no generator.
    ValueError
        If there are more weights than fit into memory, or they are too large for float64.
    """
    return architecture(network).start(generator(rng), generic=generic)


# ------------------------------------------------------------------------------ the forward pass
#
# Inside, prompts are the last axis: hidden tokens are (models, width, tokens, prompts). With short
# contexts and small widths the other orders spend their time on rows of ten numbers.


def predict(network: Architecture, weights: Weights, tokens: Tensor) -> Tensor:
    """Return the predictions of stacked models for stacked prompts.

    Parameters
    ----------
    network : Architecture
    weights : dict of str to tensor
        As from `init_weights`, with a leading model axis.
    tokens : (models or 1, batch, n_context + 1, dim + 1) tensor
        Columns x and y; the last token is the query with label 0.

    Returns
    -------
    (models, batch) tensor

    Raises
    ------
    TypeError
        If the network is no architecture, or weights and tokens are no tensors of one dtype.
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Linear attention sees a context through the second moment of its tokens alone; softmax
    attention of the last block is computed for the last token alone.
    """
    models = n_models(network, weights)
    like = next(iter(weights.values()))
    if not isinstance(tokens, Tensor) or tokens.dtype != like.dtype:
        raise TypeError(f"tokens must be a tensor of {like.dtype}, got {_kind(tokens)}")
    shape = tuple(tokens.shape)
    if len(shape) != 4 or shape[0] not in (1, models) or shape[3] != network.dim + 1 or 0 in shape:
        raise ValueError(
            f"tokens must have shape ({models} or 1, batch, n_context + 1, {network.dim + 1}), "
            f"got {shape}"
        )
    return network.answers(weights, network.inputs(tokens))


def n_models(network: Architecture, weights: Weights) -> int:
    """Return for how many models there are weights, all of the network's names and shapes."""
    shapes = architecture(network).shapes()
    if not isinstance(weights, Mapping) or weights.keys() != shapes.keys():
        raise TypeError(f"weights must be tensors by the names {', '.join(shapes)}")
    first = next(iter(weights.values()))
    for name, weight in weights.items():
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            raise TypeError(f"weights must be tensors of floats, got {_kind(weight)} for {name}")
        models = len(first) if first.ndim else 0
        if tuple(weight.shape) != (models, *shapes[name]) or not models:
            raise ValueError(
                f"weights must have shapes (models, ...) with {name} (models, "
                f"{', '.join(map(str, shapes[name]))}), got {tuple(weight.shape)}"
            )
        if (weight.dtype, weight.device) != (first.dtype, first.device):
            raise ValueError(f"weights must be of one dtype and device, got another for {name}")
    return len(first)


def _kind(value: object) -> str:
    return f"one of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _linear(network: Network, weights: Weights, moment: Tensor, query: Tensor) -> Tensor:
    """Return ``c + a^T S B t / sqrt(width)`` for moments S (m, b, D, D) and queries t (m, b, D)."""
    one = int(network.bias)
    pair = weights["key"].mT @ weights["query"] / math.sqrt(network.width)  # (m, D, D)
    summed = weights["readout"][:, None, one:] @ weights["value"]  # (m, 1, D)
    looked = raised(query @ pair.mT)  # (m, b, D)
    answer = (apply_moment(moment, summed) * looked).sum(-1)
    return answer + weights["readout"][:, :1] if one else answer


def apply_moment(moment: Tensor, vector: Tensor) -> Tensor:
    """Return S a for every prompt: (m, b, D, D), (m, 1, D) -> (m, b, D)."""
    models, batch, size = moment.shape[:3]
    if models == 1:  # the same prompts for all models
        return raised(vector[:, 0] @ moment.reshape(batch * size, size).T).view(-1, batch, size)
    flat = moment.reshape(models, batch * size, size)
    return raised(flat @ vector.mT).view(models, batch, size)


def _softmax(network: Network, weights: Weights, tokens: Tensor) -> Tensor:
    """Return the predictions of softmax blocks for tokens (m or 1, d + 1, l, b)."""
    embed, last = weights["embed"], network.blocks - 1
    if last == 0:  # the embedding is affine: attend to the raw tokens, embed their mean
        query = affine(embed, tokens[:, :, -1:])
        pull = linear_map(embed[..., 1:].mT, _pull(weights, 0, query))
        mean = affine(embed, _attend(tokens, pull))
        return _read(weights, _finish(network, weights, 0, query, mean))
    hidden = affine(embed, tokens)
    for block in range(last):
        mean = _attend_all(hidden, _pull(weights, block, hidden))
        hidden = _finish(network, weights, block, hidden, mean)
    query = hidden[:, :, -1:]
    mean = _attend(hidden, _pull(weights, last, query))
    return _read(weights, _finish(network, weights, last, query, mean))


def raised(product: Tensor) -> Tensor:
    """Return a product of bfloat16 matrices in float32, any other as it is.

    Sums, norms, softmax and activations between products are never in bfloat16.
    """
    return product.float() if product.dtype == torch.bfloat16 else product


def affine(weight: Tensor, tokens: Tensor) -> Tensor:
    """Return ``W z + b`` for matrices (m, h, 1 + e) and tokens (m or 1, e, l, b)."""
    flat = tokens.flatten(2).expand(len(weight), -1, -1)
    out = raised(torch.baddbmm(weight[..., :1], weight[..., 1:], flat))
    return out.view(*out.shape[:2], *tokens.shape[2:])


def linear_map(weight: Tensor, hidden: Tensor) -> Tensor:
    """Return ``W u`` for matrices (m, h, e) and vectors (m, e, l, b)."""
    out = raised(weight @ hidden.flatten(2))
    return out.view(*out.shape[:2], *hidden.shape[2:])


def _pull(weights: Weights, block: int, query: Tensor) -> Tensor:
    """Return the vectors whose products with the hidden tokens are the attention scores."""
    pair = weights[f"key{block}"].mT @ weights[f"query{block}"]
    return linear_map(pair / math.sqrt(pair.shape[-1]), query)


def _attend(tokens: Tensor, pull: Tensor) -> Tensor:
    """Return the mean token under the weights ``softmax(<token, pull>)`` for one query a prompt."""
    scores = (tokens * pull).sum(1, keepdim=True)  # (m, 1, l, b)
    return (scores.softmax(2) * tokens).sum(2, keepdim=True)


def _attend_all(hidden: Tensor, pull: Tensor) -> Tensor:
    """Return the causal mean tokens of every position of hidden tokens (m, h, l, b)."""
    length = hidden.shape[2]
    scores = raised(torch.einsum("mhib,mhjb->mijb", pull, hidden))
    future = torch.full((length, length), -math.inf, dtype=scores.dtype, device=scores.device)
    share = (scores + future.triu(1)[..., None]).softmax(2)
    return raised(torch.einsum("mijb,mhjb->mhib", share, hidden))


def _finish(network: Network, weights: Weights, block: int, hidden: Tensor, mean: Tensor) -> Tensor:
    """Return a block's output from its input and the attended mean: values, norms, linear layer."""
    hidden = layer_norm(weights, block, 0, hidden + linear_map(weights[f"value{block}"], mean))
    # without a linear layer the released code adds the norm's output to itself
    more = affine(weights[f"mlp{block}"], hidden) if network.mlp else hidden
    return layer_norm(weights, block, 1, hidden + more)


def layer_norm(weights: Weights, block: int | str, which: int, hidden: Tensor) -> Tensor:
    """Return the layer norm over the hidden axis."""
    centred = hidden - hidden.mean(1, keepdim=True)
    spread = (centred * centred).mean(1, keepdim=True)
    scale, shift = (
        weights[f"{name}{block}"][:, which, :, None, None] for name in ("scale", "shift")
    )
    return torch.addcmul(shift, centred * (spread + _EPS).rsqrt(), scale)


def _read(weights: Weights, hidden: Tensor) -> Tensor:
    return affine(weights["readout"][:, None], hidden)[:, 0, 0]
