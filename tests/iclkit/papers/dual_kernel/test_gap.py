"""The exact uniform gap: explicit features, attained by weights, moments, invariances, errors."""

import numpy as np
import pytest

from iclkit.papers.dual_kernel.gap import (
    BALLS,
    draw_tokens,
    gap_gram,
    sample_gaps,
    sample_spread,
    uniform_gap,
    uniform_gaps,
)
from iclkit.papers.dual_kernel.gap_population import gap_moment, gap_moments
from iclkit.rng import stream
from tests.iclkit.papers.dual_kernel.explicit import (
    SHORT,
    TOKENS,
    W_K,
    W_V,
    explicit_terms,
    token_rule,
)
from tests.tolerances import IDENTITY, PRINTED, SIGMAS

LAWS = ["uniform", "gaussian"]
SMALL = 0.4 * W_K[:2, :2], W_V[:, :2]  # two coordinates: cheap to do explicitly
FEW = TOKENS[:2, :5]


def explicit_difference(law):
    """C - C_hat as a matrix, for the small layer and the few tokens."""
    nodes, weights = token_rule(law, 2, 24)
    terms = explicit_terms(nodes, *SMALL)
    population = sum(w * term for w, term in zip(weights, terms, strict=True))
    return population - np.mean(explicit_terms(FEW, *SMALL), axis=0)


class TestUniformGap:
    def test_reference_value(self):
        gap = uniform_gap(TOKENS, W_K, W_V, law="uniform")
        assert gap == pytest.approx(0.07399283103, rel=PRINTED)

    @pytest.mark.parametrize("law", LAWS)
    @pytest.mark.parametrize(("ball", "order"), [("frobenius", "fro"), ("operator", "nuc")])
    def test_is_the_dual_norm_of_an_explicit_matrix(self, law, ball, order):
        expected = 2.5 * np.linalg.norm(explicit_difference(law), order)
        gap = uniform_gap(FEW, *SMALL, law=law, radius=2.5, ball=ball)
        assert gap == pytest.approx(expected, rel=1e-8)  # the Taylor polynomial ends at degree 10

    def test_nuclear_ball(self):
        expected = np.linalg.norm(explicit_difference("uniform"), 2)
        gap = uniform_gap(FEW, *SMALL, law="uniform", ball="nuclear")
        assert gap == pytest.approx(expected, rel=1e-8)

    @pytest.mark.parametrize("ball", BALLS)
    def test_is_attained_and_not_exceeded(self, ball):
        difference = explicit_difference("uniform")  # L(W) - L_hat(W) = -<W, difference>
        left, sizes, right = np.linalg.svd(difference, full_matrices=False)
        norms = {"frobenius": "fro", "operator": 2, "nuclear": "nuc"}
        best = {"frobenius": sizes, "operator": np.ones(2), "nuclear": np.array([1.0, 0.0])}
        W = (left * best[ball]) @ right
        gap = uniform_gap(FEW, *SMALL, law="uniform", ball=ball)
        attained = np.vdot(W, difference) / np.linalg.norm(W, norms[ball])
        assert attained == pytest.approx(gap, rel=1e-8)
        for other in stream(0, "weights").normal(size=(50, *W.shape)):
            assert abs(np.vdot(other, difference)) < gap * np.linalg.norm(other, norms[ball])

    def test_balls_are_nested(self):
        nuclear, frobenius, operator = (
            uniform_gap(TOKENS, W_K, W_V, law="uniform", ball=ball)
            for ball in ("nuclear", "frobenius", "operator")
        )
        assert nuclear < frobenius < operator < np.sqrt(2) * frobenius

    @pytest.mark.parametrize("law", LAWS)
    def test_order_and_rotations_of_keys_and_values_play_no_role(self, law):
        turn = np.linalg.qr(stream(0, "turn").normal(size=(3, 3)))[0]
        mirror = np.diag([1.0, -1.0])
        gap = uniform_gap(TOKENS, W_K, W_V, law=law)
        other = uniform_gap(TOKENS[:, ::-1], turn @ W_K, mirror @ W_V, law=law)
        assert other == pytest.approx(gap, rel=IDENTITY)

    def test_gaussian_tokens_turn_with_the_weights(self):
        turn = np.linalg.qr(stream(0, "turn").normal(size=(4, 4)))[0]
        gap = uniform_gap(TOKENS, W_K, W_V, law="gaussian")
        other = uniform_gap(turn @ TOKENS, W_K @ turn.T, W_V @ turn.T, law="gaussian")
        assert other == pytest.approx(gap, rel=IDENTITY)

    def test_keys_of_zero_leave_the_mean_value(self):
        gap = uniform_gap(TOKENS, np.zeros((3, 4)), W_V, law="uniform")
        assert gap == pytest.approx(np.linalg.norm((W_V @ TOKENS).mean(axis=1)), rel=IDENTITY)

    def test_values_of_zero_have_no_gap(self):
        assert uniform_gap(TOKENS, W_K, np.zeros((1, 4)), law="uniform") == 0.0

    def test_integers_and_float32_will_do(self):
        whole = np.array([[1, 0], [0, -1], [1, 1], [0, 0]])
        gap = uniform_gap(whole, W_K, W_V, law="uniform")
        assert gap == uniform_gap(whole.astype(np.float32), W_K, W_V, law="uniform") > 0

    def test_gram_is_symmetric_and_its_trace_the_squared_gap(self):
        gram = gap_gram(TOKENS, W_K, W_V, law="uniform")
        gap = uniform_gap(TOKENS, W_K, W_V, law="uniform", radius=3)
        assert np.array_equal(gram, gram.T)
        assert 9 * np.trace(gram) == pytest.approx(gap**2, rel=IDENTITY)


class TestSamples:
    @pytest.mark.parametrize(("law", "key"), [("uniform", W_K), ("gaussian", SHORT)])
    @pytest.mark.parametrize("n_demo", [1, 7, 60])
    def test_mean_square_is_exact(self, law, key, n_demo):
        draws, moments = 4000, gap_moments(key, W_V, law=law)
        gaps = sample_gaps(
            draws, n_demo, key, W_V, law=law, rng=stream(0, "second", law, n_demo), radius=2
        )
        expected = gap_moment(key, W_V, n_demo, law=law, radius=2)
        assert expected == pytest.approx(4 * moments.spread / n_demo, rel=IDENTITY)
        error = np.std(gaps**2) / np.sqrt(draws)
        assert abs(np.mean(gaps**2) - expected) < SIGMAS * error

    def test_agrees_with_one_sample_and_does_not_depend_on_batches(self, monkeypatch):
        rng = stream(0, "same")
        tokens = draw_tokens((3, 4, 9), law="uniform", rng=rng)
        singles = [uniform_gap(one, W_K, W_V, law="uniform", ball="operator") for one in tokens]
        settings = {"law": "uniform", "ball": "operator"}
        at_once = sample_gaps(3, 9, W_K, W_V, rng=stream(0, "same"), **settings)
        assert np.array_equal(at_once, uniform_gaps(tokens, W_K, W_V, **settings))
        monkeypatch.setattr("iclkit.papers.dual_kernel.gap._ENTRIES", 1)
        one_by_one = sample_gaps(3, 9, W_K, W_V, rng=stream(0, "same"), **settings)
        assert np.allclose(at_once, singles, rtol=IDENTITY)
        assert np.allclose(one_by_one, singles, rtol=IDENTITY)

    def test_tokens_follow_their_law(self):
        uniform = draw_tokens((200_000,), law="uniform", rng=stream(0, "law"))
        gaussian = draw_tokens((200_000,), law="gaussian", rng=stream(0, "law"))
        assert np.abs(uniform).max() <= 1
        for sample, variance, kurtosis in ((uniform, 1 / 3, 4 / 45), (gaussian, 1.0, 2.0)):
            assert abs(sample.mean()) < SIGMAS * np.sqrt(variance / 200_000)
            assert abs(np.mean(sample**2) - variance) < SIGMAS * np.sqrt(kurtosis / 200_000)


class TestSpread:
    def test_is_the_variance_of_explicit_terms(self):
        terms = np.array(explicit_terms(FEW, *SMALL))
        expected = np.sum((terms - terms.mean(axis=0)) ** 2) / (len(terms) - 1)
        assert sample_spread(FEW, *SMALL) == pytest.approx(expected, rel=1e-8)

    def test_is_unbiased(self):
        rng, exact = stream(0, "spread"), gap_moments(W_K, W_V, law="uniform").spread
        tokens = draw_tokens((3000, 4, 5), law="uniform", rng=rng)
        found = np.array([sample_spread(one, W_K, W_V) for one in tokens])
        assert abs(found.mean() - exact) < SIGMAS * found.std() / np.sqrt(len(found))

    def test_one_token_has_no_variance(self):
        with pytest.raises(ValueError, match="tokens must hold at least 2 columns"):
            sample_spread(TOKENS[:, :1], W_K, W_V)


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tokens": TOKENS[:3]}, "tokens must have 4 rows"),
            ({"tokens": TOKENS[0]}, "tokens must have 2 axes"),
            ({"tokens": np.full((4, 2), np.nan)}, "tokens must be finite"),
            ({"tokens": np.zeros((4, 0))}, "tokens must not be empty"),
            ({"W_V": W_V[:, :3]}, "W_K and W_V must have one column per token coordinate"),
            ({"law": "normal"}, "law must be one of gaussian, uniform, got 'normal'"),
            ({"ball": "max"}, "ball must be one of frobenius, operator, nuclear, got 'max'"),
            ({"radius": -1.0}, "radius must be finite and >= 0, got -1.0"),
            ({"tokens": 100 * TOKENS}, "tokens must be short enough"),
            ({"W_K": 4 * W_K, "law": "gaussian"}, "largest eigenvalue .* below 1 .* scale W_K"),
        ],
    )
    def test_one_clear_line(self, change, message):
        given = {"tokens": TOKENS, "W_K": W_K, "W_V": W_V, "law": "uniform"} | change
        tokens, key, value = given.pop("tokens"), given.pop("W_K"), given.pop("W_V")
        with pytest.raises(ValueError, match=message):
            uniform_gap(tokens, key, value, **given)

    def test_samples_check_their_arguments(self):
        rng = stream(0, "errors")
        with pytest.raises(ValueError, match="n_demo must be >= 1, got 0"):
            sample_gaps(2, 0, W_K, W_V, law="uniform", rng=rng)
        with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator"):
            sample_gaps(2, 3, W_K, W_V, law="uniform", rng=0)
        with pytest.raises(ValueError, match="samples must have 4 rows, like W_K has columns"):
            uniform_gaps(np.ones((2, 3, 5)), W_K, W_V, law="uniform")
        with pytest.raises(ValueError, match="samples must have 3 axes"):
            uniform_gaps(TOKENS, W_K, W_V, law="uniform")
        with pytest.raises(ValueError, match="ball must be one of"):
            sample_gaps(2, 3, W_K, W_V, law="uniform", rng=rng, ball="max")
