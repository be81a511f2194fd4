"""Inputs at which reference values are known: of chapter 1 tokens, 2 priors, 3 prompts."""

import numpy as np
from scipy.stats import norm

from iclkit.papers.data_mixing import Head, summarise
from iclkit.papers.linear_block.prior import RegressionPrior, isotropic_prior

POWER = np.diag(np.arange(1.0, 21.0) ** -1.5)

PRIORS = {
    "FIG1": isotropic_prior(5, n_context=5, mean=1.0),
    "TAB1": isotropic_prior(20, n_context=40, mean=10.0),
    "DIAG4": RegressionPrior(
        np.diag([2, 1, 0.5, 0.25]), [1, -1, 2, 0], np.diag([0.5, 1, 1, 2]), 1.0, 10
    ),
    "GEN3": RegressionPrior(
        [[2, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 0.5]],
        [1, -2, 0.5],
        [[1, -0.3, 0], [-0.3, 0.6, 0.1], [0, 0.1, 0.8]],
        0.5,
        7,
    ),
    "RANKDEF": RegressionPrior(np.diag([1, 0.5, 0]), [1, 1, 5], np.eye(3), 0.25, 6),
    "POW20": RegressionPrior(POWER, np.ones(20), np.eye(20), 1.0, 20),
}


def det(rows, columns, offset):
    """Return a deterministic matrix of generic entries in [-1, 1]."""
    i, j = np.arange(1, rows + 1)[:, None], np.arange(1, columns + 1)
    return np.sin((1 + 0.37 * offset) * i + (0.61 + 0.11 * offset) * j + 0.13 * i * j)


def tokens_and_weights(dim=4, d_k=3, d_v=2, n_demo=5, n_query=2, *, scale=0.5, offset=0):
    """Return (demo, query, W_Q, W_K, W_V); with the defaults, the instance `core`."""
    shapes = [(dim, n_demo), (dim, n_query), (d_k, dim), (d_k, dim), (d_v, dim)]
    parts = [det(*shape, offset + step) for step, shape in enumerate(shapes)]
    return parts[0], parts[1], scale * parts[2], scale * parts[3], parts[4]


def quasi_projections(n_projections, dim):
    """Return deterministic normal projections, one per row, from square roots of primes."""
    roots = np.sqrt([2, 3, 5, 7, 11, 13, 17, 19][:dim]) % 1
    return norm.ppf((0.5 + np.arange(1, n_projections + 1)[:, None] * roots) % 1)


def chirp(shape, linear, quadratic):
    """Return a deterministic array of entries sin(a i + b i^2), row by row."""
    i = np.arange(1.0, np.prod(shape) + 1)
    return np.sin(linear * i + quadratic * i**2).reshape(shape)


def golden_prompts(shift, *, d=3, n_context=4, n=5):
    """Return deterministic prompts of chapter 3 with a ReLU link."""
    x = 1.5 * chirp((n, n_context + 1, d), 0.7 + shift, 0.013)
    task = chirp((n, d), 1.1 + shift, 0.021)
    task /= np.linalg.norm(task, axis=1, keepdims=True)
    y = np.maximum(np.einsum("nd,nld->nl", task, x), 0)
    y += 0.1 * chirp((n, n_context + 1), 0.3 + shift, 0.017)
    return summarise(x[:, :-1], y[:, :-1], x[:, -1], y[:, -1])


def golden_head(*, d=3, width=6):
    """Return the deterministic MLP head that goes with `golden_prompts`."""
    hidden = chirp((width, d * (d + 1)), 0.9, 0.007)
    return Head(hidden, chirp((width,), 0.5, 0.03) / np.sqrt(width))
