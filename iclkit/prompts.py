"""Prompts and the laws that sample them, for predictors, pretraining and risks.

A prompt is a few labelled examples of one linear task and an unlabelled query:
``y_i = <x_i, w> + noise``. Inputs are N(0, I/d) and tasks have ``|w|^2`` near d, so that the
signal has variance 1 (the scaling of Lu et al. 2025).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import border, count, finite_array, generator, keep, locked, scalar, shown

__all__ = [
    "Gaussian",
    "IsotropicLinear",
    "Law",
    "Prompts",
    "Sphere",
    "TaskPool",
    "TaskPrior",
    "gaussian_tasks",
    "sample_query",
    "sphere_tasks",
]

Floats = NDArray[np.float64]


class Prompts(NamedTuple):
    """A batch of regression prompts. The task is latent: predictors never receive it.

    Attributes
    ----------
    x : (batch, n_context, dim) array
        Inputs of the labelled examples.
    y : (batch, n_context) array
        Their labels.
    x_query : (batch, dim) array
        The input to predict for.
    y_query : (batch,) array
        Its label, noise included.
    task : (batch, dim) array
        The task vector behind each prompt.
    """

    x: Floats
    y: Floats
    x_query: Floats
    y_query: Floats
    task: Floats


class TaskPrior(Protocol):
    """Where tasks come from: anything with a dimension that draws task vectors."""

    @property
    def dim(self) -> int:
        """Length of a task vector."""

    def draw(self, n_prompts: int, *, rng: np.random.Generator) -> Floats:
        """Return one task per prompt, (n_prompts, dim)."""


class Law(Protocol):
    """The joint law of a prompt: samples batches of them."""

    def sample(self, n_prompts: int, n_context: int, *, rng: np.random.Generator) -> Prompts:
        """Return `n_prompts` prompts with `n_context` labelled examples each."""


@dataclass(frozen=True)
class Sphere:
    """Fresh tasks, uniform on the sphere of radius sqrt(dim).

    Parameters
    ----------
    dim : int
        Dimension, >= 1.

    Examples
    --------
    >>> import numpy as np
    >>> tasks = Sphere(4).draw(2, rng=np.random.default_rng(0))
    >>> (tasks**2).sum(axis=1)
    array([4., 4.])
    """

    dim: int

    def __post_init__(self) -> None:
        keep(self, dim=count("dim", self.dim))

    @border
    def draw(self, n_prompts: int, *, rng: np.random.Generator) -> Floats:
        """Return independent tasks with ``|w|^2 = dim``, (n_prompts, dim)."""
        tasks = Gaussian(self.dim).draw(n_prompts, rng=rng)
        tasks *= np.sqrt(self.dim) / np.linalg.norm(tasks, axis=1, keepdims=True)
        return tasks


@dataclass(frozen=True)
class Gaussian:
    """Fresh tasks from N(0, I).

    Parameters
    ----------
    dim : int
        Dimension, >= 1.
    """

    dim: int

    def __post_init__(self) -> None:
        keep(self, dim=count("dim", self.dim))

    @border
    def draw(self, n_prompts: int, *, rng: np.random.Generator) -> Floats:
        """Return independent standard normal tasks, (n_prompts, dim)."""
        return generator(rng).standard_normal((count("n_prompts", n_prompts), self.dim))


@dataclass(frozen=True, eq=False)
class TaskPool:
    """A finite set of tasks, each as likely as the others.

    Parameters
    ----------
    tasks : (n_tasks, dim) array_like
        One task vector per row. The pool keeps a read-only copy.

    Raises
    ------
    ValueError
        If `tasks` is empty, not two-dimensional or not finite.

    Examples
    --------
    >>> pool = TaskPool([[1, 0], [0, 1]])
    >>> pool.mean, pool.second_moment.trace()
    (array([0.5, 0.5]), np.float64(1.0))
    >>> pool.assign(3)
    array([[1., 0.],
           [0., 1.],
           [1., 0.]])
    """

    tasks: Floats = field(repr=False)

    def __post_init__(self) -> None:
        keep(self, tasks=locked(finite_array("tasks", self.tasks, ndim=2)))

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return self.tasks.shape[0]

    @property
    def dim(self) -> int:
        """Length of a task vector."""
        return self.tasks.shape[1]

    @property
    def mean(self) -> Floats:
        """Mean task, (dim,)."""
        return self.tasks.mean(axis=0)

    @property
    def second_moment(self) -> Floats:
        """Mean of ``w w^T`` over the pool, (dim, dim)."""
        return self.tasks.T @ self.tasks / self.n_tasks

    @border
    def assign(self, n_prompts: int) -> Floats:
        """Return tasks in turn, so that their numbers differ by one at most, (n_prompts, dim)."""
        return self.tasks[np.arange(count("n_prompts", n_prompts)) % self.n_tasks]

    @border
    def draw(self, n_prompts: int, *, rng: np.random.Generator) -> Floats:
        """Return tasks drawn with replacement, (n_prompts, dim)."""
        size = count("n_prompts", n_prompts)
        return self.tasks[generator(rng).integers(self.n_tasks, size=size)]


@border
def sphere_tasks(n_tasks: int, dim: int, *, rng: np.random.Generator) -> TaskPool:
    """Return a pool of independent tasks, uniform on the sphere of radius sqrt(dim).

    Parameters
    ----------
    n_tasks, dim : int
        Size of the pool and dimension, >= 1.
    rng : numpy.random.Generator

    Returns
    -------
    TaskPool

    References
    ----------
    The pretraining tasks of Lu et al. 2025.
    """
    return TaskPool(Sphere(dim).draw(count("n_tasks", n_tasks), rng=rng))


@border
def gaussian_tasks(n_tasks: int, dim: int, *, rng: np.random.Generator) -> TaskPool:
    """Return a pool of independent tasks from N(0, I).

    Parameters
    ----------
    n_tasks, dim : int
        Size of the pool and dimension, >= 1.
    rng : numpy.random.Generator

    Returns
    -------
    TaskPool
    """
    return TaskPool(Gaussian(dim).draw(count("n_tasks", n_tasks), rng=rng))


@border
def sample_query(
    tasks: Floats, *, noise_var: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return one labelled input per task: ``x ~ N(0, I/d)`` and ``y = <x, w> + noise``.

    Parameters
    ----------
    tasks : (batch, dim) array_like
        The task of each prompt.
    noise_var : float
        Variance of the label noise, >= 0.
    rng : numpy.random.Generator

    Returns
    -------
    x_query : (batch, dim) array
    y_query : (batch,) array
    """
    tasks = finite_array("tasks", tasks, ndim=2)
    noise_var = scalar("noise_var", noise_var)
    x_query = generator(rng).standard_normal(tasks.shape)
    x_query /= np.sqrt(tasks.shape[1])
    noise = rng.standard_normal(tasks.shape[0])
    return x_query, np.einsum("bd,bd->b", x_query, tasks) + np.sqrt(noise_var) * noise


@dataclass(frozen=True)
class IsotropicLinear:
    """The law of linear regression prompts with inputs N(0, I/d).

    Parameters
    ----------
    prior : TaskPrior
        Where each prompt's task comes from: a `TaskPool`, `Sphere` or `Gaussian`.
    noise_var : float
        Variance of the label noise, >= 0. The signal's is ``|w|^2/d``.

    Notes
    -----
    ``x_i ~ N(0, I/d)``, ``y_i = <x_i, w> + eps_i``, ``eps_i ~ N(0, noise_var)``.

    References
    ----------
    Lu et al. 2025, setting.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> law = IsotropicLinear(Sphere(5), noise_var=0.1)
    >>> prompts = law.sample(3, 8, rng=stream(0, "example"))
    >>> [part.shape for part in prompts]
    [(3, 8, 5), (3, 8), (3, 5), (3,), (3, 5)]
    """

    prior: TaskPrior
    noise_var: float

    def __post_init__(self) -> None:
        if isinstance(self.prior, type) or not callable(getattr(self.prior, "draw", None)):
            raise TypeError(f"prior must be a TaskPrior, got {shown(self.prior)}; try Sphere(dim)")
        keep(self, noise_var=scalar("noise_var", self.noise_var))

    @property
    def dim(self) -> int:
        """Token dimension."""
        return self.prior.dim

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
        n_context = count("n_context", n_context)
        task = self.prior.draw(n_prompts, rng=rng)
        shape = (n_prompts, n_context)
        x = rng.standard_normal((*shape, self.dim)) / np.sqrt(self.dim)
        noise = np.sqrt(self.noise_var) * rng.standard_normal(shape)
        y = np.einsum("bnd,bd->bn", x, task) + noise
        return Prompts(x, y, *sample_query(task, noise_var=self.noise_var, rng=rng), task)
