"""Moments of the gap: printed values, quadrature against closed forms, where they end."""

import numpy as np
import pytest

from iclkit.papers.dual_kernel._laws import langevin, log_sinhc
from iclkit.papers.dual_kernel.attention import attention_output
from iclkit.papers.dual_kernel.gap import draw_tokens, gap_gram, sample_gaps
from iclkit.papers.dual_kernel.gap_population import (
    gap_moment,
    gap_moments,
    population_attention,
    population_gram,
)
from iclkit.rng import stream
from tests.iclkit.papers.dual_kernel.explicit import (
    SHORT,
    W_K,
    W_V,
    explicit_terms,
    token_rule,
)
from tests.tolerances import IDENTITY, PRINTED, SIGMAS

REFERENCE = {  # E |v|^2 K(k, k), |C|^2, n E gap^2 of the instance `gen`
    "gaussian": (8.283086429, 0.431395379, 7.85169105),
    "uniform": (1.443707983, 0.04492301305, 1.39878497),
}
LAWS = list(REFERENCE)
SMALL = 0.4 * W_K[:2, :2], W_V[:, :2]


@pytest.mark.parametrize("law", LAWS)
class TestMoments:
    def test_reference_values(self, law):
        moments = gap_moments(W_K, W_V, law=law)
        found = moments.power, moments.signal, moments.spread
        assert found == pytest.approx(REFERENCE[law], rel=PRINTED)
        assert gap_moment(W_K, W_V, 1, law=law) == pytest.approx(REFERENCE[law][2], rel=PRINTED)

    def test_against_explicit_features(self, law):
        nodes, weights = token_rule(law, 2, 24)
        terms = np.array(explicit_terms(nodes, *SMALL))
        mean = np.einsum("n,nvf->vf", weights, terms)
        second = np.einsum("n,nvf,nuf->vu", weights, terms, terms)
        fourth = weights @ np.sum((terms - mean) ** 2, axis=(1, 2)) ** 2
        moments = gap_moments(*SMALL, law=law)
        assert np.allclose(moments.second, second, rtol=1e-8)
        assert np.allclose(moments.mean, mean @ mean.T, rtol=1e-8, atol=1e-12)
        assert moments.fourth == pytest.approx(fourth, rel=1e-7)

    def test_population_gram_is_the_mean(self, law):
        gram = population_gram(W_K, W_V, law=law)
        assert np.allclose(gram, gap_moments(W_K, W_V, law=law).mean, rtol=IDENTITY)

    def test_mean_gram_of_samples(self, law):
        tokens = draw_tokens((200, 4, 3), law=law, rng=stream(0, "gram", law))
        grams = np.array([gap_gram(one, SHORT, W_V, law=law) for one in tokens])
        moments = gap_moments(SHORT, W_V, law=law)
        error = grams.std(axis=0) / np.sqrt(len(grams))
        assert np.all(abs(grams.mean(0) - (moments.second - moments.mean) / 3) < SIGMAS * error)

    def test_fourth_moment_gives_the_variance_for_one_token(self, law):
        draws, moments = 20_000, gap_moments(0.4 * W_K, W_V, law=law)
        square = sample_gaps(draws, 1, 0.4 * W_K, W_V, law=law, rng=stream(0, "fourth", law)) ** 2
        error = np.std(square**2) / np.sqrt(draws)
        assert abs(np.mean(square**2) - moments.fourth) < SIGMAS * error


class TestWhereTheyEnd:
    def test_fourth_moment_of_gaussian_tokens_is_infinite_from_a_quarter(self):
        values = np.array([[1.0]])
        inside = gap_moments([[np.sqrt(0.2499)]], values, law="gaussian")
        outside = gap_moments([[np.sqrt(0.2501)]], values, law="gaussian")
        assert np.isfinite(inside.fourth)
        assert inside.fourth > 1e3
        assert outside.fourth == np.inf
        assert gap_moments(W_K, W_V, law="gaussian").fourth == np.inf  # `gen` itself

    def test_second_moment_needs_an_eigenvalue_below_a_half(self):
        with pytest.raises(ValueError, match=r"below 1/2 for a moment of order 2 .* got 0.5;"):
            gap_moments([[np.sqrt(0.5)]], [[1.0]], law="gaussian")
        assert gap_moments([[np.sqrt(0.4999)]], [[1.0]], law="gaussian").power > 1e5

    def test_cross_covariance_needs_an_eigenvalue_below_one(self):
        assert population_gram([[np.sqrt(0.99)]], [[1.0]], law="gaussian") > 100
        with pytest.raises(ValueError, match="below 1 for a moment of order 1"):
            population_gram([[1.0]], [[1.0]], law="gaussian")

    def test_uniform_tokens_always_have_moments_but_quadrature_has_limits(self):
        assert np.isfinite(gap_moments([[2.0]], [[1.0]], law="uniform").fourth)
        with pytest.raises(ValueError, match="uniform tokens must have short keys"):
            gap_moments(20 * W_K, W_V, law="uniform")
        with pytest.raises(ValueError, match="at most 6 coordinates"):
            gap_moments(np.zeros((2, 7)), np.zeros((1, 7)), law="uniform")

    @pytest.mark.parametrize("law", LAWS)
    def test_no_keys_or_no_values(self, law):
        variance = 1.0 if law == "gaussian" else 1 / 3
        moments = gap_moments(np.zeros((3, 4)), W_V, law=law)
        assert moments.power == pytest.approx(variance * np.sum(W_V**2), rel=IDENTITY)
        assert moments.signal == pytest.approx(0, abs=IDENTITY)
        assert gap_moments(SHORT, np.zeros((2, 4)), law=law) == (
            pytest.approx(np.zeros((2, 2))),
            pytest.approx(np.zeros((2, 2))),
            0.0,
        )

    def test_arguments(self):
        with pytest.raises(ValueError, match="n_demo must be >= 1, got 0"):
            gap_moment(W_K, W_V, 0, law="uniform")
        with pytest.raises(TypeError, match="n_demo must be an integer"):
            gap_moment(W_K, W_V, 2.5, law="uniform")
        with pytest.raises(ValueError, match="law must be one of"):
            gap_moments(W_K, W_V, law="cube")


class TestInfinitePrompt:
    @pytest.mark.parametrize("law", LAWS)
    def test_is_what_attention_tends_to(self, law):
        rng = stream(0, "infinite", law)
        queries = rng.normal(size=(3, 4))
        tokens = draw_tokens((4, 40_000), law=law, rng=rng)
        halves = [
            attention_output(queries / 3**0.25, W_K @ part / 3**0.25, W_V @ part)
            for part in np.split(tokens, 40, axis=1)
        ]
        error = np.std(halves, axis=0) / np.sqrt(40)
        expected = population_attention(queries, W_K, W_V, law=law)
        bias = error**2 * 40 / np.abs(expected)  # of a ratio of means: of the order 1/1000
        assert np.all(np.abs(np.mean(halves, axis=0) - expected) < SIGMAS * error + bias)

    def test_gaussian_attention_is_linear_in_the_query(self):
        queries = stream(0, "linear").normal(size=(3, 4))
        found = population_attention(queries, W_K, W_V, law="gaussian")
        assert np.allclose(found, W_V @ W_K.T @ queries / np.sqrt(3), rtol=IDENTITY)

    def test_queries_must_fit(self):
        with pytest.raises(ValueError, match="queries must have 3 rows like W_K"):
            population_attention(np.zeros((4, 1)), W_K, W_V, law="uniform")


def test_langevin_and_its_logarithm():
    b = np.array([0.0, 1e-9, 0.3, 0.999999, 1.000001, 7.0, -7.0, 800.0])
    assert langevin(b) == pytest.approx(
        [0.0, 1e-9 / 3, 0.0994050970, 0.3130349, 0.3130354, 0.857144520, -0.857144520, 0.99875],
        rel=1e-6,
    )
    assert log_sinhc(b)[-1] == pytest.approx(800 - np.log(1600), rel=IDENTITY)
    assert np.abs(log_sinhc(b)[:2]).max() < 1e-15
    steps = (log_sinhc(b + 1e-6) - log_sinhc(b - 1e-6)) / 2e-6
    assert np.allclose(steps, langevin(b), atol=1e-6)  # one is the derivative of the other
