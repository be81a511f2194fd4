"""The rank of a network's Jacobian: how many prompts it can fit to first order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from iclkit._checks import border, count, generator
from iclkit.nets.data import sample_inputs
from iclkit.nets.networks import (
    Architecture,
    Floats,
    Weights,
    architecture,
    init_weights,
    n_parameters,
)
from iclkit.prompts import Gaussian, IsotropicLinear

__all__ = ["JacobianRank", "jacobian_rank"]

_RANK_CUT = 1e-9  # singular values below this share of the largest count as zero


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


@border
def jacobian_rank(
    network: Architecture,
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
    network : Architecture
    n_context : int, optional
        Labelled examples in each prompt. Default: ``dim``.
    n_prompts : int, optional
        Rows of the Jacobian. Default: ten more than there are weights.
    rng : numpy.random.Generator

    Returns
    -------
    JacobianRank

    Raises
    ------
    TypeError
        If the network is no architecture or `rng` no generator.
    ValueError
        If a number is out of its range, or the derivatives overflow or vanish.

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
    >>> from iclkit.nets import linear_attention
    >>> from iclkit.rng import stream
    >>> jacobian_rank(linear_attention(3), rng=stream(0)).rank
    23
    """
    rng, network = generator(rng), architecture(network)
    n_context = network.dim if n_context is None else n_context
    rows = n_parameters(network) + 10 if n_prompts is None else count("n_prompts", n_prompts)
    law = IsotropicLinear(Gaussian(network.dim), noise_var=0.1)
    inputs, _ = sample_inputs(network, law, rows, count("n_context", n_context), rng)
    weights = _repeated(init_weights(network, rng=rng, generic=True), rows)
    # every prompt gets a copy of the model: the gradient of the sum has one row per prompt
    network.answers(weights, tuple(part[:, None] for part in inputs)).sum().backward()
    gradients = [weight.grad.flatten(1) for weight in weights.values() if weight.grad is not None]
    jacobian = torch.cat(gradients, dim=1)
    if not torch.isfinite(jacobian).all() or not jacobian.any():
        raise ValueError("network must start from weights of moderate size; its Jacobian is lost")
    singular = torch.linalg.svdvals(jacobian).numpy()
    singular = np.append(singular / singular[0], 0.0)
    rank = int((singular > _RANK_CUT).sum())
    return JacobianRank(rank, float(singular[rank - 1]), float(singular[rank]))


def _repeated(weights: dict[str, Floats], times: int) -> Weights:
    return {
        name: torch.from_numpy(np.repeat(weight[None], times, axis=0)).requires_grad_()
        for name, weight in weights.items()
    }
