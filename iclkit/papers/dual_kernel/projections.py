"""Random directions to project keys and queries on: independent, orthogonal, low discrepancy.

For `maps`. Every row of every kind is a standard normal vector, so that all of them estimate the
softmax kernel without bias; they differ in how rows depend on each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import border, count, generator

__all__ = ["normal_projections", "orthogonal_projections", "sobol_projections"]

Floats = NDArray[np.float64]

_BITS = 30  # of a Sobol point; half a step is added, so that no coordinate is 0
_MOST_DIMS = 21_201  # dimensions of SciPy's direction numbers


@border
def normal_projections(n_projections: int, dim: int, *, rng: np.random.Generator) -> Floats:
    """Return independent standard normal projections, one per row.

    Parameters
    ----------
    n_projections, dim : int
        Numbers of rows and columns, >= 1; `dim` is the length d_k of a key.
    rng : numpy.random.Generator

    Returns
    -------
    (n_projections, dim) array

    Raises
    ------
    ValueError
        If a number is below 1.

    References
    ----------
    Rahimi and Recht 2007; Choromanski et al. 2021.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> normal_projections(6, 2, rng=stream(0, "example")).shape
    (6, 2)
    """
    shape = count("n_projections", n_projections), count("dim", dim)
    return generator(rng).standard_normal(shape)


@border
def orthogonal_projections(n_projections: int, dim: int, *, rng: np.random.Generator) -> Floats:
    """Return standard normal projections that are orthogonal in blocks of `dim` rows.

    Parameters
    ----------
    n_projections, dim : int
        Numbers of rows and columns, >= 1. The last block is cut where `dim` does not divide
        `n_projections`.
    rng : numpy.random.Generator

    Returns
    -------
    (n_projections, dim) array

    Raises
    ------
    ValueError
        If a number is below 1.

    Notes
    -----
    A block is a Haar orthogonal matrix whose rows are multiplied by independent lengths, each
    distributed as that of a normal vector.

    References
    ----------
    Yu et al. 2016, orthogonal random features; Choromanski et al. 2021.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> rows = orthogonal_projections(5, 3, rng=stream(0, "example"))
    >>> bool(np.abs(rows[0] @ rows[1]) < 1e-12), bool(np.abs(rows[0] @ rows[3]) < 1e-12)
    (True, False)
    """
    n_projections, dim = count("n_projections", n_projections), count("dim", dim)
    blocks = -(-n_projections // dim)
    normal = generator(rng).standard_normal((blocks, dim, dim))
    basis, triangle = np.linalg.qr(normal)
    # QR alone is not Haar: its signs follow the algorithm, not the matrix
    basis *= np.sign(np.einsum("bii->bi", triangle))[:, None, :]
    lengths = np.sqrt(rng.chisquare(dim, (blocks, dim)))
    return (lengths[..., None] * basis).reshape(-1, dim)[:n_projections]


@border
def sobol_projections(n_projections: int, dim: int, *, rng: np.random.Generator) -> Floats:
    """Return normal projections that fill the space evenly: a scrambled Sobol sequence.

    Parameters
    ----------
    n_projections, dim : int
        Numbers of rows and columns, >= 1. A power of two of rows is filled most evenly.
    rng : numpy.random.Generator

    Returns
    -------
    (n_projections, dim) array

    Raises
    ------
    ValueError
        If a number is below 1, or above 2^30 rows or 21,201 columns.

    Notes
    -----
    Points of a Sobol sequence, scrambled by a random matrix and a random shift, are uniform on the
    cube one by one; the normal quantile of each coordinate makes them normal. Coordinates are
    multiples of ``2^-30`` plus ``2^-31``.

    References
    ----------
    Owen 1998, scrambled nets; used for features by Yang et al. 2014.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> rows = sobol_projections(1024, 3, rng=stream(0, "example"))
    >>> bool(np.all(np.abs(rows.mean(axis=0)) < 0.005))  # independent rows: about 0.03
    True
    """
    # here, because it takes half a second to import
    from scipy.special import ndtri
    from scipy.stats import qmc

    n_projections, dim = count("n_projections", n_projections), count("dim", dim)
    if n_projections > 2**_BITS or dim > _MOST_DIMS:
        raise ValueError(
            f"a Sobol sequence must have at most 2^{_BITS} rows and {_MOST_DIMS} columns, "
            f"got {n_projections} and {dim}"
        )
    sequence = qmc.Sobol(dim, scramble=True, bits=_BITS, rng=generator(rng))
    cube = sequence.random_base2((n_projections - 1).bit_length())[:n_projections]
    normal: Floats = ndtri(cube + 2.0 ** -(_BITS + 1))
    return normal
