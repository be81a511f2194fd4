"""The limit law of the gap: its spectrum by three routes, its numbers, agreement with samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from iclkit.papers.dual_kernel.gap import sample_gaps
from iclkit.papers.dual_kernel.gap_limit import GapLaw, covariance_spectrum, gap_law
from iclkit.papers.dual_kernel.gap_population import gap_moments
from iclkit.rng import stream
from tests.iclkit.papers.dual_kernel.explicit import (
    SHORT,
    W_K,
    W_V,
    explicit_terms,
    token_rule,
)
from tests.tolerances import IDENTITY, KS_P, ROOT, SIGMAS

SMALL = 0.4 * W_K[:2, :2], W_V[:, :2]


@pytest.fixture(scope="module")
def limit():
    return gap_law(W_K, W_V, law="uniform")


class TestSpectrum:
    @pytest.mark.parametrize("law", ["uniform", "gaussian"])
    def test_is_that_of_explicit_features(self, law):
        nodes, weights = token_rule(law, 2, 20)
        terms = np.array([term.ravel() for term in explicit_terms(nodes, *SMALL, degree=6)])
        terms -= weights @ terms
        expected = np.linalg.eigvalsh((terms.T * weights) @ terms)[::-1]
        values = covariance_spectrum(*SMALL, law=law)
        assert np.allclose(values[:8], expected[:8], rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize(
        ("law", "key"), [("uniform", W_K), ("uniform", 3 * W_K[:, :2]), ("gaussian", SHORT)]
    )
    def test_sums_to_the_spread(self, law, key):
        value = W_V[:, : key.shape[1]]
        values = covariance_spectrum(key, value, law=law)
        assert values.sum() == pytest.approx(gap_moments(key, value, law=law).spread, rel=ROOT)
        assert (np.diff(values) <= 0).all()
        assert values.min() > 0

    def test_squares_sum_to_a_double_mean(self):
        a, b = 0.3, 2.0  # one coordinate: kernel b x y exp(a x y), and all means are Gaussian
        key, value = [[np.sqrt(a)]], [[np.sqrt(b)]]
        raw = b**2 * (1 + 8 * a**2) / (1 - 4 * a**2) ** 2.5  # E (b x y exp(a x y))^2
        third = 3 * b**2 * a**2 / (1 - 2 * a**2) ** 2.5  # E m^2, m = a b x^2 exp(a^2 x^2/2)
        signal = gap_moments(key, value, law="gaussian").signal
        values = covariance_spectrum(key, value, law="gaussian")
        assert values @ values == pytest.approx(raw - 2 * third + signal**2, rel=ROOT)

    def test_directions_without_key_add_the_variance_of_their_values(self):
        key, value = np.array([[0.5, 0.0, 0.0]]), np.array([[0.0, 2.0, 0.0]])
        values = covariance_spectrum(key, value, law="gaussian")
        a = 0.25  # kernel 4 y y' exp(a x x'): 4 times the spectrum of exp(a x x'), see Mehler
        s2 = np.sqrt(1 - 4 * a**2)
        rho = (1 - s2) / (2 * a)
        mehler = 4 * np.sqrt((1 - rho**2) / s2) * rho ** np.arange(6)
        assert np.allclose(values[:6], mehler, rtol=1e-9)

    @pytest.mark.parametrize("law", ["uniform", "gaussian"])
    def test_nothing_to_see(self, law):
        assert covariance_spectrum(np.zeros((1, 2)), np.zeros((1, 2)), law=law).tolist() == [0]
        variance = 1 / 3 if law == "uniform" else 1
        values = covariance_spectrum(np.zeros((1, 3)), 2 * np.eye(3), law=law)
        assert values == pytest.approx([4 * variance] * 3, rel=IDENTITY)

    def test_errors(self):
        with pytest.raises(ValueError, match="below 1/2 for a moment of order 2"):
            covariance_spectrum(2 * W_K, W_V, law="gaussian")
        with pytest.raises(ValueError, match="well below 1/2 for quadrature"):
            covariance_spectrum([[np.sqrt(0.4999)]], [[1.0]], law="gaussian")
        with pytest.raises(ValueError, match="well below 1/2 for quadrature"):
            covariance_spectrum(0.3 * np.eye(8), np.eye(8), law="gaussian")


class TestLaw:
    @pytest.mark.parametrize("df", [1, 2, 7])
    def test_equal_weights_are_a_chi_law(self, df):
        law, x = GapLaw(np.full(df, 4.0)), np.array([-1, 0, 1e-8, 1e-3, 0.3, 1, 2, 5, 20])
        assert np.allclose(law.cdf(x), np.where(x > 0, chi2.cdf(x**2 / 4, df), 0), atol=1e-12)
        levels = [0.001, 0.5, 0.95, 0.999999]
        assert np.allclose(law.quantile(levels), 2 * np.sqrt(chi2.ppf(levels, df)), rtol=1e-8)
        assert law.mean == pytest.approx(2 * chi2.expect(np.sqrt, (df,)), rel=1e-7)

    def test_follows_samples(self):
        values = np.array([3.0, 1.0, 0.3, 0.1, 0.03])
        draws = stream(0, "sums").normal(size=(20_000, 5)) ** 2 @ values
        assert kstest(np.sqrt(draws), GapLaw(values).cdf).pvalue > KS_P
        off = values * [1.1, 1, 1, 1, 1]
        assert kstest(np.sqrt(draws), GapLaw(off).cdf).pvalue < KS_P  # and it can tell

    @given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8), st.floats(0.001, 0.999))
    @settings(max_examples=40, deadline=None)
    def test_quantile_inverts_cdf(self, values, level):
        law = GapLaw(values)
        assert law.cdf(law.quantile(level)) == pytest.approx(level, abs=1e-9)
        assert law.mean**2 <= law.mean_square * (1 + IDENTITY)
        assert law.mean**2 >= law.mean_square / np.pi * 2 * (1 - IDENTITY)  # one weight is worst

    def test_scales_and_keeps_shapes(self):
        law = GapLaw([1, 2, 3])
        assert law.cdf(np.ones((2, 3))).shape == (2, 3)
        assert law.quantile(0.5).shape == ()
        double = GapLaw(4 * law.values)
        assert double.quantile(0.9) == pytest.approx(2 * law.quantile(0.9), rel=1e-10)
        assert double.mean == pytest.approx(2 * law.mean, rel=IDENTITY)
        assert law.variance_of_square == 28

    def test_weights_of_zero(self):
        law = GapLaw([0.0])
        assert (law.mean, float(law.quantile(0.5))) == (0.0, 0.0)
        assert law.cdf([-1.0, 0.0, 1.0]).tolist() == [0, 1, 1]

    def test_errors(self):
        with pytest.raises(ValueError, match="values must be >= 0, got -1"):
            GapLaw([1.0, -1.0])
        with pytest.raises(ValueError, match="values must not be empty"):
            GapLaw([])
        with pytest.raises(ValueError, match=r"level must be > 0 and < 1, got 1\.0"):
            GapLaw([1.0]).quantile(1.0)
        with pytest.raises(ValueError, match="radius must be finite and >= 0"):
            gap_law(W_K, W_V, law="uniform", radius=np.inf)


class TestLongPrompts:
    def test_mean_and_radius(self, limit):
        assert limit.mean < np.sqrt(limit.mean_square)
        double = gap_law(W_K, W_V, law="uniform", radius=2)
        assert double.mean == pytest.approx(2 * limit.mean, rel=IDENTITY)

    def test_samples_follow_it(self, limit):
        n_demo, draws = 400, 2000  # the law of 400 tokens is off by about 1/400
        gaps = sample_gaps(draws, n_demo, W_K, W_V, law="uniform", rng=stream(0, "long"))
        levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
        below = np.array([np.mean(np.sqrt(n_demo) * gaps <= q) for q in limit.quantile(levels)])
        error = np.sqrt(levels * (1 - levels) / draws)
        assert np.all(abs(below - levels) < SIGMAS * error)
