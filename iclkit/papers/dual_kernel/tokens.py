"""Tokens and layers to experiment with, for the chapter's simulations.

The settings of the paper's experiments could not be read; these are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import border, choice, count, finite_array, generator, instance, keep, scalar
from iclkit.prompts import Prompts

__all__ = ["LINKS", "CubeRegression", "prompt_tokens", "random_layer"]

Floats = NDArray[np.float64]

LINKS = ("linear", "sin", "cos", "exp")


@dataclass(frozen=True)
class CubeRegression:
    """The law of regression prompts whose inputs are uniform on a cube.

    Parameters
    ----------
    dim : int
        Dimension of an input, >= 1.
    link : {"linear", "sin", "cos", "exp"}
        What is made of the linear signal.

    Raises
    ------
    ValueError
        If `dim` is out of its range or `link` is unknown.

    Notes
    -----
    ``x_i ~ U(-1, 1)^dim``, ``w ~ N(0, I)`` and ``y_i = g(<w, x_i>)`` without noise, where g is the
    identity, sine, cosine, or ``exp(sqrt(3/dim) t / 2)``, whose exponent has variance 1/4.

    References
    ----------
    Chosen here. That Ren and Liu 2024 have linear, trigonometric and exponential tasks is recalled,
    not read.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> prompts = CubeRegression(3).sample(2, 4, rng=stream(0, "example"))
    >>> [part.shape for part in prompts]
    [(2, 4, 3), (2, 4), (2, 3), (2,), (2, 3)]
    """

    dim: int
    link: str = "linear"

    def __post_init__(self) -> None:
        keep(self, dim=count("dim", self.dim))
        choice("link", self.link, LINKS)

    @border
    def sample(self, n_prompts: int, n_context: int, *, rng: np.random.Generator) -> Prompts:
        """Return `n_prompts` prompts with `n_context` labelled examples each.

        Parameters
        ----------
        n_prompts, n_context : int
            Numbers of prompts and of labelled examples in each, >= 1.
        rng : numpy.random.Generator

        Returns
        -------
        Prompts
        """
        shape = (count("n_prompts", n_prompts), count("n_context", n_context) + 1, self.dim)
        task = generator(rng).standard_normal((n_prompts, self.dim))
        x = rng.uniform(-1.0, 1.0, shape)
        y = self.label(np.einsum("bnd,bd->bn", x, task))
        return Prompts(x[:, :-1], y[:, :-1], x[:, -1], y[:, -1], task)

    @border
    def label(self, signal: Floats) -> Floats:
        """Return the labels ``g(t)`` of linear signals t, of the same shape."""
        signal = finite_array("signal", signal, ndim=None)
        if self.link == "linear":
            return signal
        if self.link == "exp":
            return np.exp(0.5 * np.sqrt(3.0 / self.dim) * signal)
        return np.sin(signal) if self.link == "sin" else np.cos(signal)


@border
def prompt_tokens(prompts: Prompts) -> Floats:
    """Return prompts as tokens: columns ``(x_i; y_i)``, and the query ``(x; 0)`` last.

    Parameters
    ----------
    prompts : Prompts

    Returns
    -------
    (batch, dim + 1, n_context + 1) array

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> tokens = prompt_tokens(CubeRegression(3).sample(2, 4, rng=stream(0, "example")))
    >>> tokens.shape, tokens[:, -1, -1]
    ((2, 4, 5), array([0., 0.]))
    """
    instance("prompts", prompts, Prompts, "a law's sample method makes them")
    x = np.concatenate([prompts.x, prompts.x_query[:, None]], axis=1)
    y = np.concatenate([prompts.y, np.zeros((len(prompts.y), 1))], axis=1)
    return np.concatenate([x, y[..., None]], axis=2).transpose(0, 2, 1)


@border
def random_layer(
    dim: int, *, scale: float = 1.0, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Return square matrices ``W_Q, W_K, W_V`` with independent normal entries.

    Parameters
    ----------
    dim : int
        Length of a token, >= 1.
    scale : float
        Factor of W_Q and W_K, >= 0; it does not touch W_V.
    rng : numpy.random.Generator

    Returns
    -------
    tuple of three (dim, dim) arrays
        Entries N(0, 1/dim), times `scale` for the first two.
    """
    dim, scale = count("dim", dim), scalar("scale", scale)
    W_Q, W_K, W_V = generator(rng).standard_normal((3, dim, dim)) / np.sqrt(dim)
    return scale * W_Q, scale * W_K, W_V
