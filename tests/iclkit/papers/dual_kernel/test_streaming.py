"""One model for all queries: streaming, and forgetting, exactly and with features."""

import numpy as np
import pytest
from scipy.special import logsumexp

from iclkit.papers.dual_kernel.attention import attend, attention_output, look_up
from iclkit.papers.dual_kernel.dual import leave_one_out
from iclkit.papers.dual_kernel.maps import feature_attention, feature_map
from iclkit.papers.dual_kernel.streaming import exact_stream, feature_stream
from iclkit.rng import stream
from tests.instances import det, quasi_projections, tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED

LOOKUP = look_up(*tokens_and_weights())
QUERIES = det(3, 8, 7)
KINDS = ["positive", "hyperbolic"]


def maps(kind, m=64, dim=3):
    return feature_map(kind, quasi_projections(m, dim))


def resized(vectors, length):
    return length * vectors / np.linalg.norm(vectors, axis=0)


def tokens(seed, n, scale=1.0):
    rng = stream(seed, "streaming")
    return scale * rng.normal(size=(3, n)), rng.normal(size=(2, n))


class TestExactStream:
    def test_reference_value(self):
        output = exact_stream(LOOKUP.keys, LOOKUP.values)(LOOKUP.query[:, None])[:, 0]
        assert output == pytest.approx([0.949349607, -0.6804009251], rel=PRINTED)

    def test_one_model_serves_every_query(self):
        model = exact_stream(LOOKUP.keys, LOOKUP.values).model
        values = model(QUERIES)
        each = [attend(LOOKUP._replace(query=query)) for query in QUERIES.T]
        assert np.allclose((values[:-1] / values[-1]).T, [a.output for a in each], rtol=IDENTITY)
        assert np.allclose(np.log(values[-1]), [a.log_normaliser for a in each], rtol=IDENTITY)

    @pytest.mark.parametrize("seed", range(3))
    def test_token_by_token(self, seed):
        keys, values = tokens(seed, 6)
        growing = exact_stream(keys[:, :1], values[:, :1])
        for j in range(1, 6):
            growing = growing.learn(keys[:, [j]], values[:, [j]])
            expected = attention_output(QUERIES, keys[:, : j + 1], values[:, : j + 1])
            assert np.allclose(growing(QUERIES), expected, rtol=IDENTITY)

    def test_forgetting_is_leaving_out(self):
        whole = exact_stream(LOOKUP.keys, LOOKUP.values)
        query = LOOKUP.query[:, None]
        without = [whole.forget(i)(query)[:, 0] for i in range(LOOKUP.n_demo)]
        assert np.allclose(np.transpose(without), leave_one_out(LOOKUP), rtol=IDENTITY)
        assert without[0] == pytest.approx([1.061183971, -0.7394978445], rel=PRINTED)

    def test_long_keys(self):
        keys, values = tokens(0, 5, scale=30.0)
        out = exact_stream(keys, values)(30 * QUERIES)
        assert np.isfinite(out).all()

    def test_nothing_changes_in_place(self):
        keys, values = tokens(1, 4)
        first = exact_stream(keys, values)
        before = first(QUERIES)
        first.learn(keys, values)
        first.forget(0)
        assert np.array_equal(first(QUERIES), before)

    def test_nothing_left(self):
        empty = exact_stream([[1]], [[2]]).forget(0)
        with pytest.raises(ValueError, match="must have learned a token"):
            empty([[1.0]])
        assert empty.learn([[3]], [[4]])([[1]]) == pytest.approx(4)

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda s: s.forget(5), ValueError, "index must be < 5 tokens, got 5"),
            (lambda s: s.forget(-1), ValueError, "index must be >= 0, got -1"),
            (lambda s: s.forget(1.0), TypeError, "index must be an integer"),
            (lambda s: s.learn([[1], [2]], [[1], [2]]), ValueError, "3 and 2 rows like those"),
            (lambda s: s.learn(np.ones((3, 2)), np.ones((2, 1))), ValueError, "as many columns"),
            (lambda s: s.learn(np.full((3, 1), np.nan), np.ones((2, 1))), ValueError, "finite"),
            (lambda s: s.learn(np.ones(3), np.ones((2, 1))), ValueError, "2 axes"),
        ],
    )
    def test_wrong_input(self, call, error, message):
        with pytest.raises(error, match=message):
            call(exact_stream(*tokens(0, 5)))


@pytest.mark.parametrize("kind", KINDS)
class TestFeatureStream:
    def test_is_feature_attention(self, kind):
        phi = maps(kind)
        expected = feature_attention(QUERIES, LOOKUP.keys, LOOKUP.values, feature_map=phi)
        streamed = feature_stream(phi, LOOKUP.keys, LOOKUP.values)
        assert np.allclose(streamed(QUERIES), expected, rtol=IDENTITY)
        assert np.allclose(streamed.cancellation(QUERIES), 1, rtol=IDENTITY)

    def test_sums_are_those_of_the_formula(self, kind):
        phi = maps(kind)
        streamed = feature_stream(phi, LOOKUP.keys, LOOKUP.values)
        targets = np.vstack([LOOKUP.values, np.ones(LOOKUP.values.shape[1])])
        weights = streamed.sums * np.exp(streamed.log_shift)
        assert np.allclose(weights, targets @ phi(LOOKUP.keys).T, rtol=IDENTITY, atol=IDENTITY)

    @pytest.mark.parametrize("seed", range(3))
    def test_order_of_arrival_does_not_matter(self, kind, seed):
        keys, values = tokens(seed, 7)
        phi, order = maps(kind), stream(seed, "order").permutation(7)
        one_by_one = feature_stream(phi, keys[:, order[:1]], values[:, order[:1]])
        for j in order[1:]:
            one_by_one = one_by_one.learn(keys[:, [j]], values[:, [j]])
        together = feature_stream(phi, keys, values)
        assert np.allclose(one_by_one(QUERIES), together(QUERIES), rtol=IDENTITY, atol=IDENTITY)

    def test_forgetting_is_never_having_seen(self, kind):
        keys, values = tokens(4, 6)
        phi = maps(kind)
        streamed = feature_stream(phi, keys, values).forget(keys[:, [2, 4]], values[:, [2, 4]])
        left = [0, 1, 3, 5]
        fresh = feature_stream(phi, keys[:, left], values[:, left])
        assert np.allclose(streamed(QUERIES), fresh(QUERIES), rtol=1e-10, atol=IDENTITY)
        assert (streamed.cancellation(QUERIES) > 1).all()

    def test_rounding_after_forgetting_is_as_announced(self, kind):
        """Long keys have small features: a short one takes digits with it when it goes."""
        phi, q, seen = maps(kind, m=8), QUERIES, []
        short = np.zeros((3, 1)), np.ones((2, 1))
        for length in (3.0, 5.0, 7.0):
            directions, values = tokens(5, 4)
            fresh = feature_stream(phi, resized(directions, length), values)
            marked = fresh.learn(*short).forget(*short)
            error = np.abs(marked(q) - fresh(q)).max(axis=0) / np.abs(values).max()
            announced = 2.3e-16 * marked.cancellation(q)
            assert (error < 20 * announced).all()
            seen.append((announced.max(), error.max()))
        assert seen[0] < seen[1] < seen[2]
        assert seen[2][1] > 1e-13  # hundreds of roundings: there is something to announce

    def test_too_much_forgotten(self, kind):
        directions, values = tokens(6, 3)
        short = np.zeros((3, 1)), np.ones((2, 1))
        streamed = feature_stream(maps(kind), resized(directions, 20), values).learn(*short)
        assert np.isfinite(streamed(QUERIES)).all()
        with pytest.raises(ValueError, match="rebuild it from the remaining tokens"):
            streamed.forget(*short)(QUERIES)

    def test_everything_forgotten(self, kind):
        keys, values = tokens(8, 3)
        streamed = feature_stream(maps(kind), keys, values).forget(keys, values)
        with pytest.raises(ValueError, match="must keep more than rounding"):
            streamed(QUERIES)

    def test_long_keys_stay_exact_ratios(self, kind):
        """Squared norms of 2,500: plain features underflow, the stream does not."""
        phi, scale = maps(kind), 50 / np.sqrt(3)
        keys, values = scale * np.sign(det(3, 5, 1)) + det(3, 5, 2), det(2, 5, 4)
        queries = scale * np.sign(det(3, 4, 1))
        assert (phi(keys) == 0).any()
        streamed = feature_stream(phi, keys[:, :2], values[:, :2]).learn(keys[:, 2:], values[:, 2:])
        y, x = phi.log_features(keys), phi.log_features(queries)
        logs = logsumexp(y[:, :, None] + x[:, None, :], axis=0)
        weights = np.exp(logs - logs.max(axis=0))
        assert np.allclose(streamed(queries), values @ weights / weights.sum(axis=0), rtol=1e-9)

    def test_nothing_changes_in_place(self, kind):
        keys, values = tokens(1, 4)
        first = feature_stream(maps(kind), keys, values)
        before = first(QUERIES)
        first.learn(10 * keys, values)
        first.forget(keys[:, :1], values[:, :1])
        assert np.array_equal(first(QUERIES), before)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda s: s.forget(np.zeros((3, 1)), np.ones((2, 1))), "must have been learned"),
            (lambda s: s.learn(np.ones((3, 1)), np.ones((1, 1))), "3 and 2 rows like those before"),
            (lambda s: s.learn(np.ones((2, 1)), np.ones((2, 1))), "3 rows like the projections"),
            (lambda s: s.learn(np.ones((3, 2)), np.ones((2, 1))), "as many columns"),
            (lambda s: s(np.ones(3)), "queries must have 2 axes"),
            (lambda s: s(np.full((3, 1), np.inf)), "queries must be finite"),
        ],
    )
    def test_wrong_input(self, kind, call, message):
        with pytest.raises(ValueError, match=message):
            call(feature_stream(maps(kind), *tokens(0, 5, scale=5)))


class TestFeatureStreamMaps:
    def test_features_must_be_positive(self):
        with pytest.raises(ValueError, match="must be positive or hyperbolic"):
            feature_stream(maps("trigonometric"), *tokens(0, 5))

    def test_not_a_map(self):
        with pytest.raises(TypeError, match="feature_map must be a FeatureMap, got str"):
            feature_stream("positive", *tokens(0, 5))
