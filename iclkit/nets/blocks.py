"""Blocks of Zhang, Wu and Bartlett 2024: linear ones by their matrices, softmax ones with an MLP.

Tokens are the columns of the paper's E: (x_i, y_i) for the context and (x_query, 0) for the
query, which is not a key. The answer is the bottom-right entry of the output: the label's place
in the query's token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from iclkit._checks import count, flag, keep, plain_scalar
from iclkit.nets.networks import (
    Floats,
    Shapes,
    Weights,
    affine,
    apply_moment,
    layer_norm,
    linear_map,
    raised,
)

__all__ = ["BasicTransformer", "LinearBlock"]

_SPREAD = 0.2  # of the initial weights, where none is asked for


@dataclass(frozen=True)
class LinearBlock:
    """Linear attention with a skip connection, with a linear MLP or without.

    Parameters
    ----------
    dim : int
        Token dimension d, >= 1.
    key_width, value_width : int, optional
        Rows d_k of ``W_K`` and ``W_Q``, rows d_v of ``W_V`` and ``W_P``. Default: ``dim + 1``.
    mlp_width : int, optional
        Rows d_f of ``W_1`` and ``W_2``. Without it there is no MLP.
    spread : float
        Standard deviation of the initial weights, > 0.

    Raises
    ------
    ValueError
        If a value is out of its range.

    Notes
    -----
    With the tokens as the columns of E, the keys' mask K = diag(1, ..., 1, 0) and n labelled
    examples, the answer is the bottom-right entry of
    ``W_2^T W_1 (E + W_P^T W_V E K (W_K E)^T (W_Q E) / n)``. With ``rho`` the last row of
    ``W_2^T W_1`` (without MLP the unit vector of the label), ``G = E K E^T / n`` and the query q,
    it is computed as ``<rho, q> + <W_V^T W_P rho, G W_K^T W_Q q>``: G once per prompt, E never.

    References
    ----------
    Equations 3.3 and 3.4 of Zhang, Wu and Bartlett 2024.

    Examples
    --------
    >>> from iclkit.nets import n_parameters
    >>> n_parameters(LinearBlock(5, mlp_width=24)), n_parameters(LinearBlock(5))
    (432, 144)
    """

    dim: int
    key_width: int | None = None
    value_width: int | None = None
    mlp_width: int | None = None
    spread: float = _SPREAD

    def __post_init__(self) -> None:
        keep(self, dim=count("dim", self.dim))
        for name in ("key_width", "value_width", "mlp_width"):
            if getattr(self, name) is not None:
                keep(self, **{name: count(name, getattr(self, name))})
        keep(self, spread=plain_scalar("spread", self.spread, open_=True))

    def shapes(self) -> Shapes:
        """Return the shapes of the matrices, by the paper's names."""
        size = self.dim + 1
        rows = {"W_P": self.value_width, "W_V": self.value_width}
        rows |= {"W_K": self.key_width, "W_Q": self.key_width}
        shapes: Shapes = {name: (width or size, size) for name, width in rows.items()}
        if self.mlp_width is not None:
            shapes |= dict.fromkeys(("W_1", "W_2"), (self.mlp_width, size))
        return shapes

    def start(
        self,
        rng: np.random.Generator,
        *,
        generic: bool = False,  # noqa: ARG002  (a random start is generic)
    ) -> dict[str, Floats]:
        """Return the starting weights of one model, all N(0, spread^2)."""
        return {
            name: self.spread * rng.standard_normal(shape) for name, shape in self.shapes().items()
        }

    def inputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return second moments G (m, b, d + 1, d + 1) and queries (m, b, d) of prompts."""
        context = tokens[..., :-1, :]
        return context.mT @ context / context.shape[-2], tokens[..., -1, :-1]

    def answers(self, weights: Weights, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return predictions (models, batch); see `iclkit.nets.Architecture`."""
        moment, query = inputs
        read = self._read(weights)  # (m, 1, d + 1)
        pair = weights["W_K"].mT @ weights["W_Q"][..., :-1]  # the query's label is 0: (m, d + 1, d)
        summed = read @ weights["W_P"].mT @ weights["W_V"]
        looked = raised(query @ pair.mT)  # (m, b, d + 1)
        answer = (apply_moment(moment, summed) * looked).sum(-1)
        return answer + raised(query @ read[..., :-1].mT)[..., 0]

    def _read(self, weights: Weights) -> Tensor:
        """Return the last row of ``W_2^T W_1``, (m, 1, d + 1)."""
        if self.mlp_width is not None:
            return weights["W_2"][..., -1:].mT @ weights["W_1"]
        unit = torch.zeros_like(weights["W_P"][:, :1])
        unit[..., -1] = 1
        return unit


@dataclass(frozen=True)
class BasicTransformer:
    """Layers of softmax attention and ReLU MLP on the raw tokens, or with the usual extras.

    Parameters
    ----------
    dim : int
        Token dimension d, >= 1.
    layers, heads : int
        Numbers of layers and of attention heads in each, >= 1.
    head_width : int, optional
        Length of keys, queries and values of a head. Default: that of the hidden tokens.
    mlp_width : int, optional
        Hidden units of each layer's MLP. Without it there is no MLP.
    residual : bool
        Whether the MLP's output is added to its input.
    query_as_key : bool
        Whether the query is a key, too, for itself and all others.
    readout : bool
        Read the answer off the query's last hidden token by a trained row, instead of taking
        the label's place.
    width : int, optional
        Embed tokens into so many dimensions by a trained affine map; needs `readout`. Without
        it the hidden tokens have the d + 1 entries of the tokens.
    norm : bool
        Whether attention, MLP and read-out see their input after a layer norm.
    spread : float
        Standard deviation of the initial weights, > 0.

    Raises
    ------
    ValueError
        If a value is out of its range, or a read-in comes without read-out.

    Notes
    -----
    A layer maps hidden tokens u_i to ``v_i = u_i + sum_h O_h sum_j s_hij u_j`` with the shares
    ``s_hij = softmax_j <K_h u_j, Q_h u_i> / sqrt(head_width)`` over the keys j and
    ``O_h = P_h^T V_h``, and v to ``v + W_2^T relu(W_1 v + b)``. Of the last layer only the query's
    token is computed.

    References
    ----------
    The basic block of Section 3 of Zhang, Wu and Bartlett 2024, without the options: they are
    here to compare with what larger models add.

    Examples
    --------
    >>> from iclkit.nets import n_parameters
    >>> n_parameters(BasicTransformer(5, mlp_width=24)) - n_parameters(BasicTransformer(5))
    312
    """

    dim: int
    layers: int = 1
    heads: int = 2
    head_width: int | None = None
    mlp_width: int | None = None
    residual: bool = True
    query_as_key: bool = False
    readout: bool = False
    width: int | None = None
    norm: bool = False
    spread: float = _SPREAD

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads"):
            keep(self, **{name: count(name, getattr(self, name))})
        for name in ("head_width", "mlp_width", "width"):
            if getattr(self, name) is not None:
                keep(self, **{name: count(name, getattr(self, name))})
        for name in ("residual", "query_as_key", "readout", "norm"):
            keep(self, **{name: flag(name, getattr(self, name))})
        keep(self, spread=plain_scalar("spread", self.spread, open_=True))
        if self.width is not None and not self.readout:
            raise ValueError("width, a read-in, needs a read-out; give readout=True")

    @property
    def hidden(self) -> int:
        """Length of a hidden token."""
        return self.width or self.dim + 1

    def shapes(self) -> Shapes:
        """Return the shapes of the weights of one model; biases are first columns."""
        size = self.hidden
        shapes: Shapes = {} if self.width is None else {"embed": (size, self.dim + 2)}
        for layer in range(self.layers):
            shapes |= {f"{name}{layer}": shape for name, shape in self._layer_shapes().items()}
        last: Shapes = {"scale": (1, size), "shift": (1, size)} if self.norm else {}
        return shapes | (last | {"readout": (size,)} if self.readout else {})

    def _layer_shapes(self) -> Shapes:
        size, f = self.hidden, self.mlp_width
        head = (self.heads, self.head_width or size, size)
        shapes: Shapes = dict.fromkeys(("P", "V", "K", "Q"), head)
        if self.norm:
            shapes |= dict.fromkeys(("scale", "shift"), (2, size))
        return shapes if f is None else shapes | {"W_1_": (f, size + 1), "W_2_": (f, size)}

    def start(self, rng: np.random.Generator, *, generic: bool = False) -> dict[str, Floats]:
        """Return the starting weights of one model, N(0, spread^2), biases 0, norms the identity.

        If `generic`, biases and norms are perturbed, too.
        """
        weights = {}
        for name, shape in self.shapes().items():
            draw = self.spread * rng.standard_normal(shape)
            if name.startswith(("scale", "shift")):
                draw = float(name.startswith("scale")) + generic * draw
            elif name.startswith(("embed", "W_1")) and not generic:
                draw[:, 0] = 0.0
            weights[name] = draw
        return weights

    def inputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return the tokens, (m, b, d + 1, n_context + 1)."""
        return (tokens.mT,)

    def answers(self, weights: Weights, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return predictions (models, batch); see `iclkit.nets.Architecture`."""
        hidden = inputs[0].movedim(1, -1).contiguous()  # prompts last: (m, d + 1, l, b)
        if self.width is not None:
            hidden = affine(weights["embed"], hidden)
        for layer in range(self.layers):
            hidden = self._layer(weights, layer, hidden)
        if not self.readout:
            return hidden[:, -1, -1]
        hidden = self._normed(weights, "", 0, hidden[:, :, -1:])
        return linear_map(weights["readout"][:, None], hidden)[:, 0, 0]

    def _layer(self, weights: Weights, layer: int, hidden: Tensor) -> Tensor:
        """Return the hidden tokens after a layer; after the last one, the query's alone."""
        normed = self._normed(weights, layer, 0, hidden)
        keys = normed if self.query_as_key else normed[:, :, :-1]
        if layer == self.layers - 1:
            hidden, normed = hidden[:, :, -1:], normed[:, :, -1:]
        out = hidden + _attend(weights, layer, normed, keys)
        if self.mlp_width is None:
            return out
        active = affine(weights[f"W_1_{layer}"], self._normed(weights, layer, 1, out)).relu()
        more = linear_map(weights[f"W_2_{layer}"].mT, active)
        return out + more if self.residual else more

    def _normed(self, weights: Weights, layer: int | str, which: int, hidden: Tensor) -> Tensor:
        return layer_norm(weights, layer, which, hidden) if self.norm else hidden


def _attend(weights: Weights, layer: int, queries: Tensor, keys: Tensor) -> Tensor:
    """Return what attention adds to queries (m, e, q, b) that look at keys (m, e, k, b)."""
    key, query, value, out = (weights[f"{name}{layer}"] for name in "KQVP")  # (m, h, w, e)
    models, heads, width, size = key.shape
    pair = (key.mT @ query / math.sqrt(width)).flatten(1, 2)  # (m, h e, e)
    pulls = linear_map(pair, queries).unflatten(1, (heads, size))  # (m, h, e, q, b)
    means = _means(keys, pulls)
    change = (out.mT @ value).transpose(1, 2).reshape(models, size, heads * size)
    return linear_map(change, means.flatten(1, 2))


def _means(keys: Tensor, pulls: Tensor) -> Tensor:
    """Return the mean keys (m, h, e, q, b) under the shares that the pulls (m, h, e, q, b) give."""
    if pulls.shape[3] == 1:
        scores = (keys[:, None] * pulls).sum(2, keepdim=True)  # (m, h, 1, k, b)
        return (scores.softmax(3) * keys[:, None]).sum(3, keepdim=True)
    shares = raised(torch.einsum("mekb,mheqb->mhqkb", keys, pulls)).softmax(3)
    return raised(torch.einsum("mhqkb,mekb->mheqb", shares, keys))
