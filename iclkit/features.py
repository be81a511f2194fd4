"""What linear attention sees of a context, for the linear-attention predictor and its training.

The prediction of linear attention is ``x_query^T gamma v``: the context enters through the
d + 1 numbers ``v = (h, s)`` alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, finite_array, generator, scalar

__all__ = ["attention_features", "sample_attention_features", "wishart_factor"]

Floats = NDArray[np.float64]

_BLOCK = 4096  # rows per block: bounds the memory of the sampler's temporaries


@border(finite=True)
def attention_features(x: ArrayLike, y: ArrayLike) -> Floats:
    """Return the features ``v = (h, s)`` that linear attention computes from each context.

    Parameters
    ----------
    x : (batch, n_context, dim) array_like
        Inputs.
    y : (batch, n_context) array_like
        Labels.

    Returns
    -------
    (batch, dim + 1) array

    Raises
    ------
    ValueError
        If the shapes do not match or an entry is not finite.

    Notes
    -----
    ``h = (d/l) sum_i y_i x_i`` and ``s = (1/l) sum_i y_i^2`` for l labelled examples.

    References
    ----------
    Lu et al. 2025.

    Examples
    --------
    >>> attention_features([[[1, 0], [0, 1]]], [[3, 4]])
    array([[ 3. ,  4. , 12.5]])
    """
    x, y = finite_array("x", x, ndim=3), finite_array("y", y, ndim=2)
    if x.shape[:2] != y.shape:
        raise ValueError(f"x and y must agree on (batch, n_context), got {x.shape} and {y.shape}")
    n_context, dim = x.shape[1:]
    h = np.einsum("bn,bnd->bd", y, x) * (dim / n_context)
    s = np.einsum("bn,bn->b", y, y) / n_context
    return np.column_stack([h, s])


@border
def sample_attention_features(
    tasks: ArrayLike, *, n_context: float, noise_var: float, rng: np.random.Generator
) -> Floats:
    """Return draws of the features of a random context, without drawing the context.

    Parameters
    ----------
    tasks : (batch, dim) array_like
        The task of each prompt, of any length ``|w|``.
    n_context : float
        Number of labelled examples, any real number > 0.
    noise_var : float
        Variance of the label noise, >= 0.
    rng : numpy.random.Generator

    Returns
    -------
    (batch, dim + 1) array
        Distributed exactly as `attention_features` of contexts with inputs N(0, I/d).

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Labels are independent N(0, t + rho) with ``t = |w|^2/d``, so ``S = sum y_i^2`` is a scaled
    chi-square variable. Given the labels, each input is Gaussian: its mean is
    ``y_i w / (d (t + rho))``, and its variance is 1/d across w and
    ``rho / (d (t + rho))`` along w. Hence, with ``g ~ N(0, I)`` and the unit vector u of w,
    ``h = S w / (l (t + rho)) + sqrt(S d)/l (g - u <u, g> (1 - sqrt(rho / (t + rho))))``.
    The cost is O(d) per prompt, whatever the length of the context.

    References
    ----------
    Derived here; the setting is that of Lu et al. 2025.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> tasks = [[1.0, 1.0]] * 4000
    >>> v = sample_attention_features(tasks, n_context=20, noise_var=0.1, rng=stream(0))
    >>> bool(abs(v[:, 2].mean() - 1.1) < 0.03)
    True
    """
    tasks = finite_array("tasks", tasks, ndim=2)
    n_context = scalar("n_context", n_context, open_=True)
    noise_var, rng = scalar("noise_var", noise_var), generator(rng)
    features = np.empty((tasks.shape[0], tasks.shape[1] + 1))
    for start in range(0, len(tasks), _BLOCK):
        rows = slice(start, start + _BLOCK)
        features[rows] = _sample_block(tasks[rows], n_context, noise_var, rng)
    return features


def _sample_block(
    tasks: Floats, n_context: float, noise_var: float, rng: np.random.Generator
) -> Floats:
    dim = tasks.shape[1]
    length = np.linalg.norm(tasks, axis=1)
    label_var = length**2 / dim + noise_var
    unit = tasks / np.where(length > 0, length, 1.0)[:, None]
    squares = rng.chisquare(n_context, len(tasks)) / n_context  # S / (l (t + rho))
    spread = rng.standard_normal(tasks.shape)
    noise_share = noise_var / np.where(label_var > 0, label_var, 1.0)
    along = np.einsum("bd,bd->b", unit, spread) * (1.0 - np.sqrt(noise_share))
    spread -= along[:, None] * unit
    spread *= np.sqrt(squares * label_var * dim / n_context)[:, None]
    h = squares[:, None] * tasks + spread
    return np.column_stack([h, squares * label_var])


@border
def wishart_factor(
    n_context: int, dim: int, *, size: int | None = None, rng: np.random.Generator
) -> Floats:
    """Return F with ``F F^T`` distributed as ``X^T X`` for n_context standard normal rows.

    Parameters
    ----------
    n_context, dim : int
        Rows and columns of X, >= 1.
    size : int, optional
        Number of independent factors, stacked along a first axis. Default: one, without that axis.
    rng : numpy.random.Generator

    Returns
    -------
    (dim, r) or (size, dim, r) array
        ``r = min(n_context, dim)``: Bartlett's lower triangle, cut after n_context columns.

    Notes
    -----
    The QR decomposition of X: the diagonal entries are independent chi variables with
    n_context, n_context - 1, ... degrees of freedom, the entries below are standard normal.

    References
    ----------
    Bartlett's decomposition.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> wishart_factor(2, 3, size=5, rng=stream(0)).shape
    (5, 3, 2)
    """
    n_context, dim = count("n_context", n_context), count("dim", dim)
    axes = () if size is None else (count("size", size),)
    rank = min(n_context, dim)
    factor = np.tril(generator(rng).standard_normal((*axes, dim, rank)), -1)
    freedom, diagonal = n_context - np.arange(rank), np.arange(rank)
    factor[..., diagonal, diagonal] = np.sqrt(rng.chisquare(freedom, (*axes, rank)))
    return factor
