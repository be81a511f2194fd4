"""Bounds of the gap: printed values, formulas written out, validity on samples, exponents."""

import numpy as np
import pytest

from iclkit.papers.dual_kernel.gap import draw_tokens, sample_gaps
from iclkit.papers.dual_kernel.gap_deviation import cube_radii, gap_bounds, gap_exponent
from iclkit.papers.dual_kernel.gap_limit import covariance_spectrum
from iclkit.papers.dual_kernel.gap_population import gap_moments
from iclkit.rng import stream
from tests.iclkit.papers.dual_kernel.explicit import SHORT, W_K, W_V
from tests.tolerances import IDENTITY, PRINTED, SIGMAS


class TestBounds:
    def test_reference_values(self):
        bounds = gap_bounds(W_K, W_V, 16, law="uniform")
        assert bounds.mcdiarmid == pytest.approx(3.548821557, rel=PRINTED)
        radii = cube_radii(W_K, W_V)
        assert radii == pytest.approx((3.334533287, 1.594270412), rel=PRINTED)

    def test_written_out(self):
        n, t = 40, np.log(1 / 0.02)
        moments = gap_moments(W_K, W_V, law="uniform")
        values = covariance_spectrum(W_K, W_V, law="uniform")
        rms, size = np.sqrt(moments.spread / n), 3.334533287135478 * 1.5942704120453175
        b = size + np.sqrt(moments.signal)
        bousquet = rms + np.sqrt(2 * t / n * (values[0] + 2 * b * rms)) + b * t / (3 * n)
        found = gap_bounds(W_K, W_V, n, law="uniform", delta=0.02)
        assert found.bousquet == pytest.approx(bousquet, rel=IDENTITY)
        assert found.mean_high == pytest.approx(rms, rel=IDENTITY)

    @pytest.mark.parametrize(("law", "key"), [("uniform", W_K), ("gaussian", 0.6 * SHORT)])
    def test_variance_of_the_squared_gap_is_exact(self, law, key):
        n, draws = 12, 20_000
        square = sample_gaps(draws, n, key, W_V, law=law, rng=stream(0, "square", law)) ** 2
        bounds = gap_bounds(key, W_V, n, law=law, delta=0.5)  # cantelli^2 = mean + sd
        variance = (bounds.cantelli**2 - bounds.mean_high**2) ** 2
        off = (square - bounds.mean_high**2) ** 2
        assert abs(off.mean() - variance) < SIGMAS * off.std() / np.sqrt(draws)

    @pytest.mark.parametrize("n_demo", [1, 8, 100])
    @pytest.mark.parametrize(("law", "key"), [("uniform", W_K), ("gaussian", SHORT)])
    def test_hold_on_samples(self, law, key, n_demo):
        draws, delta = 2000, 0.2
        gaps = sample_gaps(draws, n_demo, key, W_V, law=law, rng=stream(0, "hold", law, n_demo))
        bounds = gap_bounds(key, W_V, n_demo, law=law, delta=delta)
        error = gaps.std() / np.sqrt(draws)
        assert bounds.mean_low - SIGMAS * error < gaps.mean() < bounds.mean_high + SIGMAS * error
        for bound in (bounds.mcdiarmid, bounds.bousquet, bounds.cantelli):
            assert np.mean(gaps > bound) < delta + SIGMAS * np.sqrt(delta / draws)

    def test_fall_as_the_root(self):
        first, second = (gap_bounds(W_K, W_V, n, law="uniform") for n in (10**6, 4 * 10**6))
        assert np.allclose(np.array(first) / np.array(second), 2, rtol=1e-2)

    def test_gaussian_tokens_have_no_range(self):
        bounds = gap_bounds(SHORT, W_V, 10, law="gaussian")
        assert bounds.mcdiarmid == bounds.bousquet == np.inf
        assert np.isfinite(bounds.cantelli)

    def test_long_gaussian_tokens_leave_the_mean_only(self):
        bounds = gap_bounds([[np.sqrt(0.3)]], [[1.0]], 10, law="gaussian")
        assert bounds.cantelli == np.inf
        assert bounds.mean_low == 0
        assert np.isfinite(bounds.mean_high)

    def test_scale_with_the_radius_and_vanish_with_the_values(self):
        one, two = (gap_bounds(W_K, W_V, 9, law="uniform", radius=r) for r in (1, 2))
        assert np.allclose(two, 2 * np.array(one), rtol=IDENTITY)
        assert gap_bounds(W_K, np.zeros((1, 4)), 9, law="uniform") == (0, 0, 0, 0, 0)

    @pytest.mark.parametrize("delta", [0.0, 1.0, 2.0])
    def test_delta_is_a_probability(self, delta):
        with pytest.raises(ValueError, match=f"delta must be > 0 and < 1, got {delta}"):
            gap_bounds(W_K, W_V, 4, law="uniform", delta=delta)

    def test_other_errors(self):
        with pytest.raises(ValueError, match="n_demo must be >= 1"):
            gap_bounds(W_K, W_V, 0, law="uniform")
        with pytest.raises(ValueError, match="law must be one of"):
            gap_bounds(W_K, W_V, 4, law="cube")


class TestRadii:
    def test_nothing_in_the_cube_is_larger(self):
        tokens = draw_tokens((4, 5000), law="uniform", rng=stream(0, "radii"))
        radii = cube_radii(W_K, W_V)
        sizes = np.linalg.norm(W_V @ tokens, axis=0)
        features = np.exp(np.sum((W_K @ tokens) ** 2, axis=0) / np.sqrt(3) / 2)
        assert 0.7 * radii.value < sizes.max() < radii.value
        assert 0.9 * radii.feature < features.max() < radii.feature

    def test_too_many_corners(self):
        with pytest.raises(ValueError, match="W_K must have at most 16 columns, got 17"):
            cube_radii(np.zeros((1, 17)), np.zeros((1, 17)))


class TestExponent:
    def test_of_the_largest_eigenvalue(self):
        scale = np.diag([0.1, 1.0])
        found = [gap_exponent(np.sqrt(a * np.sqrt(2)) * scale, law="gaussian") for a in (0.4, 0.7)]
        assert found == pytest.approx([0.5, 0.3], rel=IDENTITY)
        assert gap_exponent(10 * scale, law="uniform") == 0.5

    def test_no_gap_from_one_on(self):
        with pytest.raises(ValueError, match="must be < 1 for a finite gap of Gaussian tokens"):
            gap_exponent([[1.0]], law="gaussian")
