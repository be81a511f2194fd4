"""Orthogonal blocks: closed forms against the series that they sum, and against simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, hyp1f1, loggamma

from iclkit.papers.dual_kernel.maps import KINDS, feature_map, kernel_ratios, paired
from iclkit.papers.dual_kernel.orthogonal import block_covariance, block_variance
from iclkit.papers.dual_kernel.projections import orthogonal_projections
from iclkit.rng import stream
from tests.tolerances import IDENTITY, SIGMAS


def rising(base, n):
    return loggamma(base + n) - loggamma(base)


def mean_by_series(kind, first, second, n_terms=50):
    """Muirhead's expansion, averaged over two independent lengths, term by term."""
    half = len(first) / 2
    sign = -1 if kind == "trigonometric" else 1
    a, b, c = sign * (first @ first) / 2, sign * (second @ second) / 2, first @ second
    p, q, k = np.ogrid[:n_terms, :n_terms, :n_terms]
    logs = rising(half, k + p) + rising(half, k + q) - rising(half, 2 * k + p + q)
    logs = logs - rising(half - 0.5, k) - gammaln(k + 1) - gammaln(p + 1) - gammaln(q + 1)
    with np.errstate(divide="ignore"):
        terms = np.exp(logs) * a**p * b**q * (max(a * b - c**2 / 4, 0)) ** k
    factor = np.exp(-(first @ first + second @ second) / 2 * sign)
    return terms.sum() * factor - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [2, 3, 4, 7, 16])
def test_contour_sums_the_series(kind, dim, rng):
    z = rng.standard_normal((dim, 3)) * np.sqrt(2 / dim)
    found = block_covariance(kind, z)
    by_series = [[mean_by_series(kind, *pair) for pair in rows] for rows in pairs(z)]
    scale = np.exp(np.max(np.sum(z**2, axis=0)))  # of terms that cancel in alternating series
    assert np.allclose(found, by_series, rtol=IDENTITY, atol=IDENTITY * scale)


def pairs(z):
    return [[(z[:, i], z[:, j]) for j in range(z.shape[1])] for i in range(z.shape[1])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [2, 3, 5, 8, 33, 100, 1000])
def test_diagonal_is_the_closed_form(kind, dim, rng):
    z = rng.standard_normal((dim, 6)) * np.linspace(0, 2, 6) / np.sqrt(dim)
    squares = np.sum(z**2, axis=0)
    diagonal = np.diag(block_covariance(kind, z))
    half = squares / 2 if kind == "trigonometric" else -squares / 2
    kummer = np.exp(half) * hyp1f1(-dim / 2, dim / 2, half) - 1
    scale = np.exp(squares.max()) if kind == "trigonometric" else 1
    assert np.allclose(diagonal, kummer, rtol=1e-9, atol=1e-11 * scale)
    found = block_variance(kind, squares, dim)
    assert np.allclose(found, kummer, rtol=1e-9, atol=1e-11 * scale)


@pytest.mark.parametrize("dim", [2, 8, 2000])
def test_long_keys(dim):
    """Positive ratios of one block then never meet; trigonometric ones may overflow, to no NaN."""
    assert block_variance("positive", 1e5, dim) == pytest.approx(-1)
    assert not np.isnan(block_variance("trigonometric", 1e5, dim))


def test_two_dimensions_by_hand():
    """In the plane Kummer's function ends after two terms: R = (1 + s/2) exp(-s/2) - 1."""
    s = np.array([0.1, 1.0, 5.0])
    assert np.allclose(block_variance("positive", s, 2), (1 + s / 2) * np.exp(-s / 2) - 1)
    assert np.allclose(block_variance("trigonometric", s, 2), (1 - s / 2) * np.exp(s / 2) - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_simulation(kind, rng):
    x, keys = np.array([0.3, -0.2, 0.4]), np.array([[0.4, 0.0, -0.5], [0.6, 0.3, 0.1], [0, 0.7, 0]])
    blocks = orthogonal_projections(3 * 200_000, 3, rng=rng)
    ratios = kernel_ratios(feature_map(kind, blocks), x, keys).reshape(-1, 3, 3) - 1
    products = ratios[:, 0, :, None] * ratios[:, 1, None, :]
    error = products.std(axis=0) / np.sqrt(len(products))
    exact = block_covariance(kind, paired(kind, x, keys))
    assert np.all(np.abs(products.mean(axis=0) - exact) < SIGMAS * error)
    assert np.any(np.abs(exact) > 20 * error)  # so a formula that gives 0 would fail


@settings(max_examples=100, deadline=None)
@given(s=st.floats(1e-3, 300), dim=st.integers(2, 200))
def test_blocks_always_help_positive_features(s, dim):
    for kind in ("positive", "hyperbolic"):
        assert -1 - IDENTITY <= block_variance(kind, s, dim) < 0


def test_blocks_can_hurt_trigonometric_features():
    """Dimension 4: worse than independent beyond |x - y|^2 = 9.5, better before."""
    near, far = block_variance("trigonometric", [9.3, 9.5], 4)
    assert near < 0 < far
    assert np.all(block_variance("trigonometric", np.linspace(0.1, 100, 50), 2) < 0)


def test_independence_is_the_limit_of_high_dimensions():
    z = np.array([[0.5, 0.2], [0.1, -0.6]])
    found = [
        np.abs(block_covariance("positive", np.vstack([z, np.zeros((d, 2))]))).max()
        for d in (8, 64, 512)
    ]
    assert found[0] > 4 * found[1] > 16 * found[2] > 0


def test_leading_axes_are_separate(rng):
    z = rng.standard_normal((4, 3, 5))
    together = block_covariance("hyperbolic", z)
    assert np.allclose(together[2], block_covariance("hyperbolic", z[2]), rtol=IDENTITY)
    assert np.allclose(together, np.swapaxes(together, 1, 2), rtol=1e-9, atol=IDENTITY)


def test_rotations_change_nothing():
    z = stream(0, "rotation").standard_normal((5, 4)) / 2
    turn = np.linalg.qr(stream(1, "rotation").standard_normal((5, 5)))[0]
    for kind in KINDS:
        before, after = block_covariance(kind, z), block_covariance(kind, turn @ z)
        assert np.allclose(before, after, rtol=1e-9, atol=IDENTITY)


def test_rejects():
    with pytest.raises(ValueError, match="kind must be one of"):
        block_variance("gaussian", 1.0, 3)
    with pytest.raises(ValueError, match="squared_norm must be >= 0, got -1"):
        block_variance("positive", -1.0, 3)
    with pytest.raises(ValueError, match="dim must be >= 2, got 1"):
        block_variance("positive", 1.0, 1)
    with pytest.raises(ValueError, match=r"columns of length >= 2, got shape \(1, 3\)"):
        block_covariance("positive", np.ones((1, 3)))
    with pytest.raises(ValueError, match="points must be finite"):
        block_covariance("positive", [[np.nan], [1.0]])
