"""What the hot kernels are called with at a size, and what they must at least do there.

Counts are those of the algorithm as it is written, with the terms that grow fastest and those
below them. Bytes are traffic of arrays that do not fit into a cache: each pass over one counts.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks import blocks, dual, mixing, trained
from benchmarks.large import pretraining_data
from benchmarks.pretraining import theory_points
from iclkit import solvers
from iclkit.features import sample_attention_features
from iclkit.papers import data_mixing as dm
from iclkit.papers.dual_kernel import attention_output
from iclkit.papers.dual_kernel.maps import feature_attention
from iclkit.papers.linear_block import network_gradient
from iclkit.papers.phase_transition import learning_curve
from iclkit.prompts import sphere_tasks
from iclkit.rng import stream

Call = Callable[[], Any]

FEATURES = 64  # random features of attention
BLOCK = 512  # rows that the Gram matrix of pairs is summed over at a time
STEPS = 10  # of Newton's method, that the slowest of many points takes
PASSES = 60  # array operations for each step, those before and after shared out
DOUBLE, SINGLE = 8, 4  # bytes


class Work(NamedTuple):
    """What a call must at least do: operations, traffic, random numbers, exponentials."""

    flops: float = 0.0
    single_flops: float = 0.0
    bytes: float = 0.0
    normals: float = 0.0
    exps: float = 0.0


class Size(NamedTuple):
    """Dimension and number (of prompts, contexts, points or tokens, whichever the kernel has)."""

    d: int
    n: int


# ------------------------------------------------------------------ ridge pretraining


def ridge_call(method: str, size: Size) -> Call:
    """Return the ridge solver by one route."""
    data = pretraining_data(size.d, size.n / size.d**2)
    return partial(solvers.bilinear_ridge, *data, method=method)


def dual_work(size: Size) -> Work:
    """``n^2 (2d + 3/2)`` for half of the kernel matrix, ``n^3 / 3`` to factor, ``8 n^2`` to solve.

    Half a matrix is written, read, multiplied; factored in place; read by four triangular solves.
    """
    d, n = size
    flops = n * (n + BLOCK) * (2 * d + 1.5) + n**3 / 3 + 8 * n**2
    return Work(flops=flops, bytes=DOUBLE * n**2 / 2 * (3 + 2 + 4))


def hessian_call(size: Size) -> Call:
    """Return one application of the Hessian, the inner loop of the iterations."""
    data = pretraining_data(size.d, size.n / size.d**2)
    problem = solvers._single(solvers._checked(*data))[0]
    gamma = stream(0, "gamma").standard_normal(problem.shape)
    return lambda: solvers._hessian_times(problem, gamma)


def hessian_work(size: Size) -> Work:
    """``4 n d (d + 1) + 3 n (d + 1)`` in single precision; the data are read once."""
    d, n = size
    flops = 4 * n * d * (d + 1) + 3 * n * (d + 1)
    return Work(single_flops=flops, bytes=SINGLE * n * (2 * d + 1))


def primal_work(size: Size) -> Work:
    """``2 n P Q`` for pairs ``P = d(d+1)/2``, ``Q = (d+1)(d+2)/2``; ``(d(d+1))^3 / 3`` to factor.

    The sum over prompts is written and read for each block of them, then spread to the matrix.
    """
    d, n = size
    p, q, m = d * (d + 1) / 2, (d + 1) * (d + 2) / 2, d * (d + 1)
    flops = 2 * n * p * q + n * (p + q) + m**3 / 3 + 8 * m**2
    return Work(flops=flops, bytes=DOUBLE * (3 * p * q * np.ceil(n / BLOCK) + 8 * m**2))


# ------------------------------------------------------------------ sampling and theory


def sampler_call(size: Size) -> Call:
    """Return the sampler of the features of n contexts."""
    tasks = sphere_tasks(size.n, size.d, rng=stream(0, "tasks")).tasks
    rng = stream(0, "growth")
    return lambda: sample_attention_features(tasks, n_context=10 * size.d, noise_var=0.01, rng=rng)


def sampler_work(size: Size) -> Work:
    """``n (d + 3)`` normal numbers, ``10 n d`` operations; tasks are read, features written."""
    d, n = size
    return Work(flops=10 * n * d, bytes=DOUBLE * n * (2 * d + 1), normals=n * (d + 3))


def theory_call(size: Size) -> Call:
    """Return the asymptotic errors at n points."""
    points = theory_points(size.n)
    return lambda: learning_curve(*points)


def theory_work(size: Size) -> Work:
    """Count `STEPS` steps of `PASSES` array operations, which read two arrays and write one."""
    operations = STEPS * PASSES * size.n
    return Work(flops=operations, bytes=3 * DOUBLE * operations)


# ------------------------------------------------------------------ exact risks


def gradient_call(size: Size) -> Call:
    """Return exact risk and gradient of a linear block."""
    prior, weights = blocks.problem(size.d)
    return lambda: network_gradient(prior, weights)


def gradient_work(size: Size) -> Work:
    """Twelve products of d x d matrices, ``24 d^3``; about forty passes over such a matrix."""
    return Work(flops=24 * size.d**3, bytes=40 * DOUBLE * size.d**2)


# ------------------------------------------------------------------ attention


def attention_parts(size: Size) -> tuple[np.ndarray, ...]:
    """Return queries, keys and values of n tokens of dimension d, d and `dual.DIM`."""
    rng = stream(0, "attention", size.d, size.n)
    queries, keys = 0.8 / np.sqrt(size.d) * rng.standard_normal((2, size.d, size.n))
    return queries, keys, rng.standard_normal((dual.DIM, size.n))


def exact_call(size: Size) -> Call:
    """Return exact attention of n tokens."""
    return partial(attention_output, *attention_parts(size))


def exact_work(size: Size) -> Work:
    """``2 n^2 (d + 16) + 4 n^2`` operations and n^2 exponentials; scores stay in a block."""
    d, n = size
    flops = 2 * n**2 * (d + dual.DIM) + 4 * n**2
    return Work(flops=flops, bytes=DOUBLE * n * (2 * d + 2 * dual.DIM), exps=n**2)


def features_call(size: Size) -> Call:
    """Return attention of n tokens by `FEATURES` positive features."""
    projections = dual.normal_projections(FEATURES, size.d, rng=stream(0, "projections"))
    phi = dual.feature_map("positive", projections)
    return partial(feature_attention, *attention_parts(size), feature_map=phi)


def features_work(size: Size) -> Work:
    """``4 m n (d + 16) + 14 m n`` for m features, ``2 m n`` exponentials.

    The features of keys and of queries, m x n each, are passed over about seven times.
    """
    d, n = size
    flops = 4 * FEATURES * n * (d + dual.DIM) + 14 * FEATURES * n
    return Work(flops=flops, bytes=14 * DOUBLE * FEATURES * n, exps=2 * FEATURES * n)


# ------------------------------------------------------------------ data mixing


def contexts(size: Size, part: str) -> dm.Contexts:
    """Return n prompts of the even mixture."""
    rng = stream(0, "growth", size.d, size.n, part)
    return dm.draw_mixture(mixing.sources(size.d), [0.5, 0.5], size.n, size.d, rng=rng)


def gram_call(size: Size) -> Call:
    """Return the Gram matrix of the features of n prompts with those of n others."""
    train, test = contexts(size, "train"), contexts(size, "test")
    return lambda: dm.feature_gram(train, test)


def gram_work(size: Size) -> Work:
    """``n^2 (4 d + 3)``; two n x n matrices are written, read and multiplied into one."""
    d, n = size
    return Work(flops=n**2 * (4 * d + 3), bytes=5 * DOUBLE * n**2)


def head_call(size: Size) -> Call:
    """Return the pre-activations of an MLP head of n neurons on n prompts, for all steps."""
    stage_one, train = contexts(size, "stage one"), contexts(size, "train")
    head = dm.draw_head(size.d, size.n, rng=stream(0, "growth", "head"))
    scale = dm.norm_scale(stage_one)
    return lambda: dm.take_step(head, scale, stage_one, [train], "relu")


def head_work(size: Size) -> Work:
    """``4 n^2 d(d+1)`` for the neurons on two sets of prompts; the step ``n^2 (4d + 3) + 2 n^3``.

    Six n x n matrices are passed over about twice, the first layer once for 256 prompts.
    """
    d, n = size
    features = d * (d + 1)
    flops = 4 * n**2 * features + n**2 * (4 * d + 3) + 2 * n**3
    layer = 2 * np.ceil(n / 256) * n * features
    return Work(flops=flops, bytes=DOUBLE * (12 * n**2 + layer))


# ------------------------------------------------------------------ trained networks


def training_call(size: Size) -> Call:
    """Return the gradient of linear attention for a batch of n prompts, as a step computes it."""
    network = trained.linear_attention(size.d)
    weights, tokens = trained.problem(network, 1, 2 * size.d, size.n)
    inputs = network.inputs(tokens)
    return lambda: trained.gradient(lambda: network.answers(weights, inputs), weights)


def training_work(size: Size) -> Work:
    """``8 n (d+1)^2`` forward, twice that back; the second moments are read once each way."""
    d, n = size
    return Work(flops=24 * n * (d + 1) ** 2, bytes=2 * DOUBLE * n * (d + 1) ** 2)
