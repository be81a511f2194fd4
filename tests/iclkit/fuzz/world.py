"""A small world of sizes and a seed, from which all arguments of one call are made.

Arguments of one world fit each other: every matrix with `d` columns has as many as the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from iclkit.rng import stream

Make = Callable[["World"], Any]


@dataclass(frozen=True)
class World:
    """Sizes of one call; everything else is drawn under the seed, each argument by its name."""

    seed: int
    d: int = 3
    n: int = 5
    k: int = 2

    def rng(self, *name: object) -> np.random.Generator:
        """Return the stream of one argument."""
        return stream(self.seed, "fuzz", *name)

    def normal(self, name: str, *shape: int) -> np.ndarray:
        """Return standard normal entries."""
        return self.rng(name).standard_normal(shape)

    def positive(self, name: str, *shape: int) -> np.ndarray:
        """Return positive entries within a factor of about ten."""
        return np.exp(self.rng(name).uniform(-1, 1, shape))

    def number(self, name: str, low: float = 0.1, high: float = 2.0) -> float:
        """Return a number between two others."""
        return float(self.rng(name).uniform(low, high))

    def whole(self, name: str, low: int, high: int) -> int:
        """Return an integer from `low` to `high`."""
        return int(self.rng(name).integers(low, high + 1))

    def pick(self, name: str, options: Sequence[Any]) -> Any:
        """Return one of several values."""
        return options[self.whole(name, 0, len(options) - 1)]

    def covariance(self, name: str, d: int) -> np.ndarray:
        """Return a symmetric, positive definite matrix."""
        root = self.normal(name, d, d + 2)
        return root @ root.T / d

    def shares(self, name: str, size: int) -> np.ndarray:
        """Return non-negative numbers that sum to one."""
        return self.rng(name).dirichlet(np.ones(size))


def normal(name: str, shape: str) -> Make:
    """Return the maker of a normal array whose shape is written like "d n"."""
    return lambda w: w.normal(name, *_sizes(w, shape))


def positive(name: str, shape: str) -> Make:
    """Return the maker of a positive array whose shape is written like "d n"."""
    return lambda w: w.positive(name, *_sizes(w, shape))


def _sizes(world: World, shape: str) -> list[int]:
    known = {"d": world.d, "n": world.n, "k": world.k, "e": world.d + 1}
    return [known.get(size) or int(size) for size in shape.split()]
