"""Projections: each row standard normal, and what the kinds promise beyond that."""

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from iclkit.papers.dual_kernel.projections import (
    normal_projections,
    orthogonal_projections,
    sobol_projections,
)
from iclkit.rng import stream
from tests.tolerances import IDENTITY, KS_P, SIGMAS

KINDS = [normal_projections, orthogonal_projections, sobol_projections]


@pytest.mark.parametrize("draw", KINDS)
@pytest.mark.parametrize("n", [1, 2, 5, 64])
@pytest.mark.parametrize("dim", [1, 3, 8])
def test_shape_and_seed(draw, n, dim):
    first, again, other = (draw(n, dim, rng=stream(seed, "p")) for seed in (0, 0, 1))
    assert first.shape == (n, dim)
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("draw", KINDS)
def test_a_row_is_standard_normal(draw, rng):
    rows = np.array([draw(5, 3, rng=rng)[3] for _ in range(4000)])  # one row, of many draws
    direction = np.array([0.6, 0.0, 0.8])
    assert kstest(rows @ direction, "norm").pvalue > KS_P
    assert kstest(np.sum(rows**2, axis=1), chi2(3).cdf).pvalue > KS_P


def test_blocks_are_orthogonal_and_lengths_are_not_fixed(rng):
    rows = orthogonal_projections(12, 5, rng=rng)
    gram = rows @ rows.T
    for start in (0, 5, 10):
        block = gram[start : start + 5, start : start + 5]
        assert np.all(np.abs(block - np.diag(np.diag(block))) < IDENTITY * block.max())
    assert np.abs(gram[0, 5:]).min() > 1e-6
    assert np.ptp(np.diag(gram)) > 0.1


def test_blocks_are_haar(rng):
    """The first row of a block keeps no sign of the factorisation, and the last has none, too."""
    blocks = orthogonal_projections(3 * 20_000, 3, rng=rng).reshape(-1, 3, 3)
    signs = np.sign(blocks.reshape(-1, 9)).mean(axis=0)
    assert np.all(np.abs(signs) < SIGMAS / np.sqrt(20_000))
    handed = np.sign(np.linalg.det(blocks)).mean()
    assert abs(handed) < SIGMAS / np.sqrt(20_000)


def test_sobol_fills_evenly(rng):
    """Each half, quarter, ... of each axis holds its share exactly, for a power of two of rows."""
    rows = sobol_projections(256, 4, rng=rng)
    assert np.all((rows > 0).sum(axis=0) == 128)
    assert np.all((np.abs(rows) < 0.6744897501960817).sum(axis=0) == 128)
    independent = normal_projections(256, 4, rng=rng)
    assert np.linalg.norm(rows.mean(axis=0)) < 0.3 * np.linalg.norm(independent.mean(axis=0))


@pytest.mark.parametrize("draw", KINDS)
def test_rejects(draw, rng):
    with pytest.raises(ValueError, match="n_projections must be >= 1, got 0"):
        draw(0, 3, rng=rng)
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        draw(3, 0, rng=rng)
    with pytest.raises(TypeError, match="n_projections must be an integer"):
        draw(2.5, 3, rng=rng)
    with pytest.raises(TypeError, match="rng must be a numpy"):
        draw(2, 3, rng=0)


def test_sobol_has_limits(rng):
    with pytest.raises(ValueError, match="at most 2\\^30 rows and 21201 columns"):
        sobol_projections(2, 30_000, rng=rng)
