"""Sources of prompts, and prompts compressed to what linear attention sees of them.

A source fixes the laws of inputs, tasks and noise and the link between them. Attention reads a
prompt only through its query ``x`` and the summary ``b`` of its context; so a prompt is drawn
and kept in O(n_context + d) numbers, and the context itself is never made.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit import hermite
from iclkit._checks import (
    border,
    count,
    finite_array,
    generator,
    instance,
    keep,
    locked,
    same_length,
    scalar,
    shown,
)

__all__ = [
    "Contexts",
    "MixturePools",
    "Source",
    "draw_mixture",
    "draw_pools",
    "join",
    "magnitude",
    "mixture_weights",
    "prompts",
    "row",
    "source_list",
    "summarise",
]

Floats = NDArray[Any]
_SUM_SLACK = 1e-9  # by which weights may miss one
_LARGEST = 1e30  # of ridges and the like
_LOUDEST = 1e15  # of noises, spikes and means: eighth powers of labels stay finite
_LONGEST = {"float64": 1e35, "float32": 1e8}  # of entries of contexts: so do squared features
_WIDEST = 10**7  # dimension
_PROBES = np.array([-1.5, -0.5, 0.5, 1.5])  # where a link is tried before it is used


@dataclass(frozen=True, eq=False)
class Contexts:
    """Prompts as attention sees them: one row per prompt; the arrays are read-only copies.

    Attributes
    ----------
    x : (n, d) array
        Queries.
    b : (n, d + 1) array
        Summaries of the contexts, ``[mean of y_i x_i; mean of y_i^2]``.
    y : (n,) array
        Labels of the queries.
    source : (n,) array of int
        Which source each prompt is from.
    """

    x: Floats
    b: Floats
    y: Floats
    source: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("x", "b", "y", "source"):
            keep(self, **{name: locked(_real(name, getattr(self, name)))})
        n, d = self.x.shape if self.x.ndim == 2 else (0, 0)
        shapes = [part.shape for part in (self.x, self.b, self.y, self.source)]
        if d == 0 or shapes != [(n, d), (n, d + 1), (n,), (n,)]:
            raise ValueError(
                "contexts must have x (n, d), b (n, d + 1), y (n,) and source (n,), got "
                + ", ".join(map(str, shapes))
            )

    def __len__(self) -> int:
        return self.y.shape[0]

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.x.shape[1]

    @border
    def take(self, index: ArrayLike) -> Contexts:
        """Return the prompts at some positions, or where a mask is true."""
        rows = _positions(index, len(self))
        return Contexts(self.x[rows], self.b[rows], self.y[rows], self.source[rows])


def _positions(index: ArrayLike, n: int) -> NDArray[Any]:
    """Return positions among n prompts, or a mask of them."""
    rows = np.asarray(index) if np.ma.is_masked(index) is False else np.zeros(0, dtype=object)
    rows = rows.astype(np.int64) if rows.shape == (0,) and rows.dtype == float else rows
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise TypeError(f"index must be a vector of integers or a mask, got {shown(index)}")
    if rows.dtype.kind == "b" and len(rows) != n:
        raise ValueError(f"index must have one entry per prompt if a mask, {n}, got {len(rows)}")
    if rows.dtype.kind != "b" and rows.size and not -n <= rows.min() <= rows.max() < n:
        raise ValueError(f"index must be from {-n} to {n - 1}, got {rows.min()} to {rows.max()}")
    return rows


def _real(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return finite numbers as an array: float32 and the integers of `source` stay."""
    if isinstance(values, np.ndarray) and values.size == 0:
        return values
    array = finite_array(name, values, ndim=None, single=True)
    if name != "source":
        bound = _LONGEST[array.dtype.name]
        magnitude(f"largest entry of {name}", float(np.abs(array).max()), high=bound)
        return array
    whole = np.asarray(values)
    if whole.dtype.kind not in "iu":
        raise TypeError(f"source must hold integers, got dtype {whole.dtype}")
    return whole.astype(whole.dtype.newbyteorder("="), copy=False)


def prompts(name: str, value: Contexts) -> Contexts:
    """Return `value` if it holds prompts; the name is for the message."""
    instance(name, value, Contexts, "draw it with draw_mixture or make it with summarise")
    if len(value) == 0:
        raise ValueError(f"{name} must hold prompts, got none")
    return value


def row(name: str, values: ArrayLike) -> Floats:
    """Return a row of finite, moderate numbers; one number is a row of one."""
    table = [values] if isinstance(values, numbers.Real) else values
    checked = np.atleast_1d(finite_array(name, table, ndim=None))
    if checked.ndim != 1:
        raise ValueError(f"{name} must have 1 axes, got shape {checked.shape}")
    magnitude(f"largest of {name}", float(np.abs(checked).max()))
    return checked


def magnitude(name: str, value: float, *, high: float = _LARGEST) -> float:
    """Return `value` as a float from 0 to a size whose powers do not overflow."""
    number = scalar(name, value)
    if number > high:
        raise ValueError(f"{name} must be at most {high:g}, got {number:g}; change units")
    return number


@border
def join(parts: Sequence[Contexts]) -> Contexts:
    """Return the prompts of several sets as one set, in order.

    Parameters
    ----------
    parts : sequence of Contexts
        At least one, all of the same dimension.

    Returns
    -------
    Contexts

    Raises
    ------
    TypeError, ValueError
        If there is none, one is no Contexts or the dimensions differ.
    """
    parts = list(parts) if np.iterable(parts) else [parts]
    for part in parts:
        instance("parts", part, Contexts, "draw them with draw_mixture")
    dims = {part.d for part in parts}
    if len(dims) != 1:
        raise ValueError(f"parts must share one dimension, got {sorted(dims) or 'no part'}")
    columns = zip(*((p.x, p.b, p.y, p.source) for p in parts), strict=True)
    return Contexts(*(np.concatenate(column) for column in columns))


@border
def summarise(
    x: ArrayLike, y: ArrayLike, x_query: ArrayLike, y_query: ArrayLike, *, source: int = 0
) -> Contexts:
    """Return prompts given in full, compressed to query and summary.

    Parameters
    ----------
    x : (n, n_context, d) array_like
        Inputs of the labelled examples.
    y : (n, n_context) array_like
        Their labels.
    x_query : (n, d) array_like
    y_query : (n,) array_like
    source : int
        The number to mark them with.

    Returns
    -------
    Contexts

    Raises
    ------
    ValueError
        If shapes disagree or a value is not finite.

    Notes
    -----
    ``b = [(1/l) sum_i y_i x_i ; (1/l) sum_i y_i^2]``.

    References
    ----------
    Demir and Dogan 2025, Lemma B.1.

    Examples
    --------
    >>> summarise([[[1.0, 0.0], [0.0, 2.0]]], [[1.0, 3.0]], [[1.0, 1.0]], [0.0]).b
    array([[0.5, 3. , 5. ]])
    """
    x = finite_array("x", x, ndim=3, single=True)
    y = finite_array("y", y, ndim=2, single=True)
    x_query = finite_array("x_query", x_query, ndim=2, single=True)
    y_query = finite_array("y_query", y_query, ndim=1, single=True)
    same_length(x=x, y=y, x_query=x_query, y_query=y_query)
    if x.shape[1] != y.shape[1] or x.shape[2] != x_query.shape[1]:
        raise ValueError(
            "x must be (n, n_context, d) with y (n, n_context) and x_query (n, d), "
            f"got {x.shape}, {y.shape}, {x_query.shape}"
        )
    marked = count("source", source, low=0)
    with np.errstate(over="ignore", invalid="ignore"):  # then b is not finite, and refused
        first = np.einsum("nl,nld->nd", y, x) / x.dtype.type(y.shape[1])
        b = np.column_stack([first, (y * y).mean(axis=1)])
    return Contexts(x_query, b, y_query, np.full(len(y), marked))


@dataclass(frozen=True, eq=False)
class Source:
    """One source of prompts: laws of inputs, tasks and noise, and the link.

    Parameters
    ----------
    d : int
        Input dimension, >= 1.
    link : str or callable
        phi: ``relu, tanh, linear, sigmoid`` and the other names of `iclkit.hermite.activation`,
        or a function of an array.
    noise : float
        Standard deviation of the label noise, >= 0.
    theta_xi, theta_x : float
        Strengths of the task spike and of the input spike, >= 0.
    gamma_xi, gamma_x : (d,) array_like, optional
        Their directions, of any length but zero; the first axis by default.
    mu_xi, mu_x : (d,) array_like, optional
        Means of tasks and inputs; zero by default.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it.

    Notes
    -----
    ``xi ~ N(mu_xi, I + theta_xi g g^T)`` once per prompt, ``x_i ~ N(mu_x, I + theta_x g' g'^T)``,
    ``y_i = phi(xi^T x_i / (|xi| (1 + theta_x)^(1/2))) + noise e_i`` with normal ``e_i``.

    References
    ----------
    Demir and Dogan 2025, setting and experiments; the display is missing in the text that we
    could read, and rebuilt from its inline statements.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> source = Source(4, theta_xi=9.0, noise=0.1)
    >>> prompts = source.sample(3, 8, rng=stream(0, "example"))
    >>> len(prompts), prompts.x.shape, prompts.b.shape
    (3, (3, 4), (3, 5))
    """

    d: int
    link: str | Callable[[Floats], Floats] = field(default="relu", kw_only=True)
    noise: float = field(default=0.01, kw_only=True)
    theta_xi: float = field(default=0.0, kw_only=True)
    gamma_xi: Any = field(default=None, kw_only=True)
    mu_xi: Any = field(default=None, kw_only=True)
    theta_x: float = field(default=0.0, kw_only=True)
    gamma_x: Any = field(default=None, kw_only=True)
    mu_x: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        keep(self, d=count("d", self.d, high=_WIDEST))
        hermite.checked(self.link, name="link")(_PROBES)
        for name in ("noise", "theta_xi", "theta_x"):
            keep(self, **{name: magnitude(name, getattr(self, name), high=_LOUDEST)})
        for name in ("gamma_xi", "gamma_x"):
            keep(self, **{name: _direction(name, getattr(self, name), self.d)})
        for name in ("mu_xi", "mu_x"):
            keep(self, **{name: _vector(name, getattr(self, name), self.d, at=None)})

    @border
    def tasks(self, n_prompts: int, *, rng: np.random.Generator) -> Floats:
        """Return one task direction ``xi / |xi|`` per prompt, (n_prompts, d)."""
        shape = (count("n_prompts", n_prompts), self.d)
        xi = _spiked(generator(rng).standard_normal(shape), self.theta_xi, self.gamma_xi)
        xi += self.mu_xi
        return xi / np.linalg.norm(xi, axis=1, keepdims=True)

    @border
    def inputs(self, n_inputs: int, *, rng: np.random.Generator) -> Floats:
        """Return independent inputs, (n_inputs, d)."""
        shape = (count("n_inputs", n_inputs), self.d)
        centred = _spiked(generator(rng).standard_normal(shape), self.theta_x, self.gamma_x)
        return centred + self.mu_x

    @border
    def sample(
        self, n_prompts: int, n_context: int, *, rng: np.random.Generator, marked: int = 0
    ) -> Contexts:
        """Return prompts of this source, compressed to query and summary.

        Parameters
        ----------
        n_prompts, n_context : int
            Numbers of prompts and of labelled examples in each, >= 1.
        rng : numpy.random.Generator
        marked : int
            The number of this source, for `Contexts.source`.

        Returns
        -------
        Contexts

        Notes
        -----
        Exact in law without drawing the context's inputs: given the labels, which depend on
        ``u_i = a^T x_i`` alone, ``sum_i y_i x_i`` is Gaussian around its regression on the
        ``u_i``. The cost is O(n_context + d) a prompt instead of O(n_context d).
        """
        n_context, marked = count("n_context", n_context), count("marked", marked, low=0)
        task = self.tasks(n_prompts, rng=rng)
        x = self.inputs(n_prompts, rng=rng)
        y = self._labels(np.einsum("nd,nd->n", task, x), rng)
        b = self._summaries(task, n_context, rng)
        return Contexts(x, b, y, np.full(n_prompts, marked))

    def _labels(self, products: Floats, rng: np.random.Generator) -> Floats:
        argument = products / np.sqrt(1 + self.theta_x)
        noise = self.noise * rng.standard_normal(products.shape)
        return hermite.checked(self.link, name="link")(argument) + noise

    def _summaries(self, task: Floats, n_context: int, rng: np.random.Generator) -> Floats:
        image = task + self.theta_x * (task @ self.gamma_x)[:, None] * self.gamma_x
        spread = np.einsum("nd,nd->n", task, image)
        u = np.sqrt(spread)[:, None] * rng.standard_normal((len(task), n_context))
        y = self._labels(u + (task @ self.mu_x)[:, None], rng)
        rest = _spiked(rng.standard_normal(task.shape), self.theta_x, self.gamma_x)
        rest -= image * (np.einsum("nd,nd->n", task, rest) / spread)[:, None]
        first = image * ((y * u).mean(axis=1) / spread)[:, None]
        first += rest * (np.linalg.norm(y, axis=1) / n_context)[:, None]
        first += y.mean(axis=1)[:, None] * self.mu_x
        return np.column_stack([first, (y * y).mean(axis=1)])


def _spiked(normal: Floats, theta: float, gamma: Floats) -> Floats:
    """Return rows of N(0, I + theta gamma gamma^T) made from standard normal rows."""
    if theta == 0:
        return normal
    return normal + ((np.sqrt(1 + theta) - 1) * (normal @ gamma))[:, None] * gamma


def _vector(name: str, value: ArrayLike | None, d: int, *, at: int | None) -> Floats:
    """Return a vector of length d; the default is zero, or the axis `at`."""
    if value is None:
        return np.eye(1, d, at)[0] if at is not None else np.zeros(d)
    vector = finite_array(name, value, ndim=1)
    if vector.shape != (d,):
        raise ValueError(f"{name} must have the source's dimension {d}, got shape {vector.shape}")
    if at is None:
        magnitude(f"largest entry of {name}", float(np.abs(vector).max()), high=_LOUDEST)
    return locked(vector)


def _direction(name: str, value: ArrayLike | None, d: int) -> Floats:
    vector = _vector(name, value, d, at=0)
    largest = np.abs(vector).max()
    if largest == 0:
        raise ValueError(f"{name} must not be zero; leave it out for the first axis")
    vector = vector / largest  # first, so that no square overflows or vanishes
    return locked(vector / np.linalg.norm(vector))


def source_list(sources: Sequence[Source] | Source) -> tuple[Source, ...]:
    """Return one or several sources as a tuple, all of the same dimension."""
    if not isinstance(sources, Source) and not np.iterable(sources):
        kind = type(sources).__name__
        raise TypeError(f"sources must be a sequence of Source, got {kind}; write [Source(d, ...)]")
    listed = (sources,) if isinstance(sources, Source) else tuple(sources)
    for source in listed:
        instance("sources", source, Source, "make one with Source(d, ...)")
    dims = sorted({source.d for source in listed})
    if len(dims) != 1:
        raise ValueError(f"sources must share one dimension d, got {dims or 'no source'}")
    return listed


@border
def mixture_weights(weights: ArrayLike, n_sources: int) -> Floats:
    """Return the shares of the sources in the mixture: non-negative, summing to one."""
    shares = finite_array("weights", weights, ndim=1)
    if len(shares) != count("n_sources", n_sources):
        raise ValueError(f"weights must have one entry per source, {n_sources}, got {len(shares)}")
    if (shares < 0).any() or (shares > 2).any() or abs(shares.sum() - 1) > _SUM_SLACK:
        raise ValueError(f"weights must be >= 0 and sum to 1, got {shares.tolist()}")
    return shares


class MixturePools(NamedTuple):
    """One pool of prompts per source and the uniforms that choose between them.

    Attributes
    ----------
    pools : tuple of Contexts
        All of the same length.
    uniforms : (n,) array
        Prompt j comes from the source whose stretch of cumulated weights holds ``uniforms[j]``.
    """

    pools: tuple[Contexts, ...]
    uniforms: Floats

    @border
    def choose(self, weights: ArrayLike) -> NDArray[np.int64]:
        """Return the source of each prompt under some weights, (n,)."""
        edges = np.cumsum(mixture_weights(weights, len(self.pools)))[:-1]
        return np.searchsorted(edges, self.uniforms, side="right")

    @border
    def mix(self, weights: ArrayLike) -> Contexts:
        """Return the mixture: for other weights, only prompts that change source change.

        Parameters
        ----------
        weights : (n_sources,) array_like
            Shares of the sources, summing to one.

        Returns
        -------
        Contexts
        """
        chosen = self.choose(weights)
        rows = np.arange(len(chosen))
        every = join(self.pools)
        return every.take(chosen * len(chosen) + rows)


@border
def draw_pools(
    sources: Sequence[Source], n_prompts: int, n_context: int, *, rng: np.random.Generator
) -> MixturePools:
    """Return pools with which mixtures of several weights share their random numbers.

    Parameters
    ----------
    sources : sequence of Source
        All of the same dimension.
    n_prompts, n_context : int
        Prompts a pool and labelled examples a prompt, >= 1.
    rng : numpy.random.Generator

    Returns
    -------
    MixturePools
    """
    listed = source_list(sources)
    pools = tuple(
        source.sample(n_prompts, n_context, rng=rng, marked=number)
        for number, source in enumerate(listed)
    )
    return MixturePools(pools, rng.uniform(size=n_prompts))


@border
def draw_mixture(
    sources: Sequence[Source],
    weights: ArrayLike,
    n_prompts: int,
    n_context: int,
    *,
    rng: np.random.Generator,
) -> Contexts:
    """Return independent prompts, each from a source drawn with some weights.

    Parameters
    ----------
    sources : sequence of Source
        All of the same dimension.
    weights : (n_sources,) array_like
        Shares of the sources, summing to one.
    n_prompts, n_context : int
        Numbers of prompts and of labelled examples in each, >= 1.
    rng : numpy.random.Generator

    Returns
    -------
    Contexts
        In random order of the sources.
    """
    listed = source_list(sources)
    shares = mixture_weights(weights, len(listed))
    size = count("n_prompts", n_prompts)
    chosen = generator(rng).choice(len(listed), size=size, p=shares / shares.sum())
    parts = [
        source.sample(int((chosen == number).sum()), n_context, rng=rng, marked=number)
        for number, source in enumerate(listed)
        if (chosen == number).any()
    ]
    return join(parts).take(np.argsort(np.argsort(chosen, kind="stable"), kind="stable"))
