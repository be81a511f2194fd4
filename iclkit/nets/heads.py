"""Softmax heads with the modifications of Ren and Liu 2024, and with the controls for them.

One layer on raw tokens: no residual, no norm, no MLP. Tokens are (x_i, y_i) for the context and
(x_query, 0) for the query, which is a key like the others unless it is masked. The answer is the
last entry of the query's attention output, the label's place.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import gelu

from iclkit._checks import count, flag, keep, plain_scalar
from iclkit.nets.networks import Floats, Shapes, Weights, affine, linear_map, raised

__all__ = ["SoftmaxHeads"]


@dataclass(frozen=True)
class SoftmaxHeads:
    """One layer of softmax attention, whose dual loss may be modified.

    Parameters
    ----------
    dim : int
        Dimension of the inputs, >= 1; tokens, keys and values have one entry more.
    heads : int
        Heads, whose outputs are added, >= 1.
    ridge : float
        Weight alpha of the squared norm in the dual loss; any finite number.
    negative_weight : float
        Weight beta of the negative samples, >= 0.
    negative_ratio : float
        Share r of the context that serves as negative samples, those with the lowest scores; in
        (0, 1] if the weight is not zero.
    value_units, key_units : int
        Hidden units of the nonlinear views of values and of keys; 0 for no view.
    query_as_key : bool
        Whether the query's token is among its own keys.
    softmax : bool
        Without it the weights are the scores themselves over the number of keys: linear attention.
    sign : float
        What the first head starts from: ``W_Q = |sign| I``, ``W_K = W_V = sign I``; the sign
        alternates from head to head. 0 for a start without structure.
    spread : float
        Standard deviation of the noise added to these matrices, times ``sqrt(dim + 1)``; > 0.

    Raises
    ------
    ValueError
        If a value is out of its range.

    Notes
    -----
    With the softmax weights a of the scores ``q^T g_2(k_j) / sqrt(dim + 1)`` and the values
    ``v_j = g_1(W_V z_j)``, a head gives
    ``(1 - alpha) a_q v_q + sum_i a_i (v_i - beta mean_N(v))``. A view is
    ``g(z) = z + C gelu(A z + b)`` and starts as the identity, ``C = 0``.

    All variants take the same noise and leave `rng` in the same state, so that `iclkit.nets.train`
    gives variants trained from one seed the same prompts.

    References
    ----------
    The three modifications of Ren and Liu 2024, whose form is recalled; the views' form, the start
    and the controls are chosen here.

    Examples
    --------
    >>> from iclkit.nets import n_parameters
    >>> n_parameters(SoftmaxHeads(10)), n_parameters(SoftmaxHeads(10, heads=2))
    (363, 726)
    """

    dim: int
    _: KW_ONLY
    heads: int = 1
    ridge: float = 0.0
    negative_weight: float = 0.0
    negative_ratio: float = 0.0
    value_units: int = 0
    key_units: int = 0
    query_as_key: bool = True
    softmax: bool = True
    sign: float = 1.0
    spread: float = 0.1

    def __post_init__(self) -> None:
        keep(self, dim=count("dim", self.dim), heads=count("heads", self.heads))
        for name in ("value_units", "key_units"):
            keep(self, **{name: count(name, getattr(self, name), low=0)})
        for name in ("ridge", "sign"):
            keep(self, **{name: plain_scalar(name, getattr(self, name), low=-math.inf)})
        for name in ("query_as_key", "softmax"):
            keep(self, **{name: flag(name, getattr(self, name))})
        keep(self, spread=plain_scalar("spread", self.spread, open_=True))
        for name in ("negative_ratio", "negative_weight"):
            keep(self, **{name: plain_scalar(name, getattr(self, name))})
        ratio = self.negative_ratio
        if self.negative_weight and not 0 < ratio <= 1:
            raise ValueError(
                f"negative_ratio must be in (0, 1] with negative samples, got {ratio}; "
                "for none set negative_weight=0"
            )

    def shapes(self) -> Shapes:
        """Return the shapes of the weights of one model; biases of views are first columns."""
        size, units = self.dim + 1, {"V": self.value_units, "K": self.key_units}
        shapes: Shapes = dict.fromkeys(("W_Q", "W_K", "W_V"), (self.heads, size, size))
        for name, width in units.items():
            if width:
                shapes[f"A_{name}"] = (self.heads, width, size + 1)
                shapes[f"C_{name}"] = (self.heads, size, width)
        return shapes

    def start(self, rng: np.random.Generator, *, generic: bool = False) -> dict[str, Floats]:
        """Return the starting weights of one model.

        If `generic`, the views are perturbed, too.
        """
        size = self.dim + 1
        parts = dict(
            zip(("W_Q", "W_K", "W_V", "A_V", "C_V", "A_K", "C_K"), rng.spawn(7), strict=True)
        )
        weights = {}
        for name, shape in self.shapes().items():
            draw = parts[name].standard_normal(shape) / math.sqrt(size)
            if name.startswith("W"):
                weights[name] = self._centre(name) + self.spread * draw
            else:
                weights[name] = draw if generic or name.startswith("A") else 0.0 * draw
        return weights

    def _centre(self, name: str) -> Floats:
        """Return what a matrix is without noise, (heads, dim + 1, dim + 1)."""
        signs = self.sign * (-1.0) ** np.arange(self.heads)
        scale = np.abs(signs) if name == "W_Q" else signs
        return scale[:, None, None] * np.eye(self.dim + 1)

    def inputs(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Return the tokens, (m, b, n_context + 1, dim + 1)."""
        return (tokens,)

    def answers(self, weights: Weights, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return predictions (models, batch); see `iclkit.nets.Architecture`."""
        tokens = inputs[0].permute(0, 3, 2, 1).contiguous()  # prompts last: (m, d + 1, l, b)
        scores, values = self._scores(weights, tokens), self._values(weights, tokens)
        if not self.query_as_key:
            return self._taught(scores, values, self._shares(scores[:, :, :-1])).sum(1)
        shares = self._shares(scores)
        own = (1 - self.ridge) * shares[:, :, -1] * values[:, :, -1]
        return (own + self._taught(scores, values, shares[:, :, :-1])).sum(1)

    def _shares(self, scores: Tensor) -> Tensor:
        """Return the attention weights of the keys, (m, h, keys, b)."""
        return scores.softmax(2) if self.softmax else scores / scores.shape[2]

    def _taught(self, scores: Tensor, values: Tensor, shares: Tensor) -> Tensor:
        """Return the context's part of the output (m, h, b) from its shares (m, h, l - 1, b)."""
        values = values[:, :, :-1]
        taught = (shares * values).sum(2)
        if not self.negative_weight:
            return taught
        n_chosen = max(1, round(self.negative_ratio * values.shape[2]))
        if n_chosen < values.shape[2]:
            chosen = scores[:, :, :-1].detach().topk(n_chosen, dim=2, largest=False, sorted=False)
            values = values.gather(2, chosen.indices)
        return taught - self.negative_weight * shares.sum(2) * values.mean(2)

    def _scores(self, weights: Weights, tokens: Tensor) -> Tensor:
        """Return the scores of all tokens, (m, h, l, b)."""
        query = _per_head(weights["W_Q"], tokens[:, :, -1:]) / math.sqrt(self.dim + 1)
        pull = raised(torch.einsum("mhde,mhdlb->mhelb", weights["W_K"], query))
        scores = (tokens[:, None] * pull).sum(2)
        if not self.key_units:
            return scores
        pulled = raised(torch.einsum("mhdu,mhdlb->mhulb", weights["C_K"], query))
        return scores + (_hidden(weights, "K", tokens) * pulled).sum(2)

    def _values(self, weights: Weights, tokens: Tensor) -> Tensor:
        """Return the label's place of the values of all tokens, (m, h, l, b)."""
        values = linear_map(weights["W_V"][:, :, -1], tokens)
        if not self.value_units:
            return values
        row = weights["C_V"][:, :, -1]  # (m, h, u)
        views = torch.einsum("mhu,mhulb->mhlb", row, _hidden(weights, "V", tokens))
        return values + raised(views)


def _per_head(weight: Tensor, tokens: Tensor) -> Tensor:
    """Return ``W z`` of all heads: (m, h, e, d), (m or 1, d, l, b) -> (m, h, e, l, b)."""
    return linear_map(weight.flatten(1, 2), tokens).unflatten(1, weight.shape[1:3])


def _hidden(weights: Weights, name: str, tokens: Tensor) -> Tensor:
    """Return the hidden units of a view of keys or values, (m, h, u, l, b)."""
    first, matrix = weights[f"A_{name}"], weights[f"W_{name}"]
    joined = torch.cat([first[..., :1], first[..., 1:] @ matrix], dim=-1)  # (m, h, u, 1 + d)
    return gelu(affine(joined.flatten(1, 2), tokens)).unflatten(1, first.shape[1:3])
