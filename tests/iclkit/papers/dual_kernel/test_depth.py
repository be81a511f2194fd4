"""Several layers and a feed-forward layer, against loops and against reference values."""

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp, softmax

from iclkit.papers.dual_kernel.attention import attend, look_up
from iclkit.papers.dual_kernel.depth import FeedForward, dual_stack, feed_forward_dual, stack
from iclkit.papers.dual_kernel.dual import inner
from iclkit.papers.dual_kernel.kernels import KernelMap, feature_dual
from iclkit.papers.dual_kernel.maps import feature_map
from iclkit.papers.dual_kernel.projections import normal_projections
from iclkit.rng import stream
from tests.instances import det, tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED

TOKENS = np.hstack([det(4, 5, 0), det(4, 1, 1)])
LAYERS = [
    (0.5 * det(4, 4, 10 + 3 * n), 0.5 * det(4, 4, 11 + 3 * n), det(4, 4, 12 + 3 * n))
    for n in range(3)
]
REFERENCE = {
    (False, False): [0.02488470829, -0.08359160153, 0.03119079108, 0.06885014298],
    (False, True): [0.9740732792, -1.127772837, -0.6753800149, 0.3628127238],
    (True, False): [0.05652805653, -0.1714131311, 0.06011673934, 0.1403822785],
    (True, True): [1.003604313, -1.312559349, -0.6807119459, 0.3651959011],
}
OPTIONS = [pytest.param(*key, id=f"causal={key[0]}-residual={key[1]}") for key in REFERENCE]


def stack_by_loops(layers, tokens, *, causal, residual):
    """Attention of every token to every visible one, a number at a time."""
    state = [list(token) for token in np.asarray(tokens).T]
    for W_Q, W_K, W_V in layers:
        new = []
        for j, query in enumerate(state):
            visible = state[: j + 1] if causal else state
            scores = [float((W_K @ key) @ (W_Q @ query)) / math.sqrt(len(W_K)) for key in visible]
            total = sum(math.exp(score) for score in scores)
            pairs = zip(scores, visible, strict=True)
            output = sum(math.exp(score) / total * (W_V @ np.array(key)) for score, key in pairs)
            new.append(output + np.array(query) if residual else output)
        state = new
    return np.stack(state, axis=1)


def random_stack(seed, residual):
    """Layers whose widths change, unless there is a residual connection."""
    rng = stream(seed, "stack")
    n, widths = rng.integers(2, 7), rng.integers(1, 6, size=4)
    widths = np.full(4, widths[0]) if residual else widths
    layers = []
    for width, after in pairwise(widths):
        d_k = rng.integers(1, 5)
        layers.append(tuple(rng.normal(size=(rows, width)) for rows in (d_k, d_k, after)))
    return layers, rng.normal(size=(widths[0], n))


@pytest.mark.parametrize(("causal", "residual"), OPTIONS)
class TestStack:
    def test_reference_values(self, causal, residual):
        options = {"causal": causal, "residual": residual}
        expected = REFERENCE[causal, residual]
        assert stack(LAYERS, TOKENS, **options)[:, -1] == pytest.approx(expected, rel=PRINTED)
        duals = dual_stack(LAYERS, TOKENS, **options)
        assert duals.tokens[:, -1] == pytest.approx(expected, rel=PRINTED)

    @pytest.mark.parametrize("seed", range(5))
    def test_loops(self, causal, residual, seed):
        layers, tokens = random_stack(seed, residual)
        options = {"causal": causal, "residual": residual}
        expected = stack_by_loops(layers, tokens, **options)
        assert np.allclose(stack(layers, tokens, **options), expected, IDENTITY, IDENTITY)
        assert np.allclose(dual_stack(layers, tokens, **options).tokens, expected, 1e-10, IDENTITY)

    def test_what_a_token_sees(self, causal, residual):
        moved = TOKENS.copy()
        moved[:, 3] += 1
        before, after = (
            stack(LAYERS, tokens, causal=causal, residual=residual) for tokens in (TOKENS, moved)
        )
        changed = np.abs(after - before).max(axis=0) > 1e-6
        assert changed.tolist() == [not causal] * 3 + [True] * 3

    def test_kernel_with_all_its_features(self, causal, residual):
        options = {"causal": causal, "residual": residual}
        taylor = stack(LAYERS, TOKENS, features=KernelMap("taylor", 14), **options)
        assert np.allclose(taylor, stack(LAYERS, TOKENS, **options), rtol=1e-9, atol=1e-10)


class TestStackAlone:
    def test_one_layer_is_attention_of_the_last_token(self):
        lookup = look_up(TOKENS[:, :-1], TOKENS[:, -1], *LAYERS[0])
        output = stack(LAYERS[:1], TOKENS)[:, -1]
        assert output == pytest.approx(attend(lookup).output, rel=IDENTITY)

    def test_no_layer(self):
        assert np.array_equal(stack([], TOKENS), TOKENS)
        assert dual_stack([], TOKENS).models == ()

    def test_large_scores(self):
        W = 40.0 * np.eye(4)
        assert np.isfinite(stack([(W, W, W)] * 2, TOKENS)).all()

    def test_integer_tokens(self):
        whole = np.arange(8).reshape(4, 2)
        assert np.array_equal(stack(LAYERS, whole), stack(LAYERS, whole.astype(float)))

    def test_input_is_not_changed(self):
        before = TOKENS.copy()
        stack(LAYERS, TOKENS, residual=True)
        assert np.array_equal(TOKENS, before)

    @pytest.mark.parametrize("use", [stack, dual_stack])
    @pytest.mark.parametrize(
        ("layers", "options", "message"),
        [
            ([LAYERS[0][:2]], {}, r"layer 0 must be \(W_Q, W_K, W_V\), got 2 entries"),
            ([LAYERS[0], (*LAYERS[1][:2], np.ones(4))], {}, "W_V of layer 1 must have 2 axes"),
            ([(np.eye(3), np.eye(3), np.eye(3))], {}, "layer 0 must have .* 4 columns"),
            ([(np.eye(4), np.ones((2, 4)), np.eye(4))], {}, "W_Q and W_K of one shape"),
            ([(np.eye(4), np.eye(4), np.ones((2, 4)))], {"residual": True}, "must be square"),
            ([(np.eye(4), np.eye(4), np.ones((2, 4))), LAYERS[0]], {}, "layer 1 .* 2 columns"),
            ([(np.full((4, 4), np.nan), *LAYERS[0][1:])], {}, "W_Q of layer 0 must be finite"),
            ([(1e200 * np.eye(4), 1e200 * np.eye(4), np.eye(4))], {}, "scores must be finite"),
        ],
    )
    def test_wrong_input(self, use, layers, options, message):
        with pytest.raises(ValueError, match=message):
            use(layers, TOKENS, **options)

    @pytest.mark.parametrize("kind", ["positive", "hyperbolic", "trigonometric"])
    @pytest.mark.parametrize("causal", [False, True])
    def test_feature_maps_are_used_in_their_stable_form(self, kind, causal, rng):
        phi = feature_map(kind, normal_projections(400, 4, rng=rng))
        options = {"causal": causal, "residual": True}
        plain = stack(LAYERS, 0.3 * TOKENS, features=lambda x: phi(x), **options)
        assert_allclose(stack(LAYERS, 0.3 * TOKENS, features=phi, **options), plain, rtol=1e-11)

    def test_long_tokens_keep_their_weights(self, rng):
        phi, W = feature_map("positive", normal_projections(16, 2, rng=rng)), np.eye(2)
        tokens = [[60.0, 0.0, 40.0], [0.0, 50.0, 10.0]]
        with pytest.raises(ValueError, match="weights must be > 0, got 0"):
            stack([(W, W, W)], tokens, features=lambda x: phi(x))
        logs = phi.log_features(np.array(tokens) / 2**0.25)
        shares = softmax(logsumexp(logs[:, :, None] + logs[:, None, :], axis=0), axis=0)
        assert_allclose(stack([(W, W, W)], tokens, features=phi), tokens @ shares, rtol=1e-11)

    def test_features_that_will_not_do(self):
        with pytest.raises(ValueError, match="the sum of the features' weights must be > 0"):
            stack(LAYERS, TOKENS, features=KernelMap("linear"))
        with pytest.raises(ValueError, match="features must be finite"):
            stack(LAYERS, 1e4 * TOKENS, features=KernelMap("exp"))
        with pytest.raises(TypeError, match="features must be a function, got str"):
            stack(LAYERS, TOKENS, features="relu")


class TestDualStack:
    @pytest.mark.parametrize("causal", [False, True])
    def test_one_model_per_token_and_layer(self, causal):
        models = dual_stack(LAYERS, TOKENS, causal=causal).models
        assert [len(layer) for layer in models] == [6, 6, 6]
        seen = [len({tuple(key) for key in model.keys.T}) for model in models[1]]
        assert seen == (list(range(1, 7)) if causal else [6] * 6)

    def test_models_differ_only_by_their_scale_without_a_mask(self):
        """All see the same pairs; only the normaliser is their own."""
        first, second = dual_stack(LAYERS, TOKENS).models[0][:2]
        cosine = inner(first, second) / math.sqrt(inner(first, first) * inner(second, second))
        assert cosine == pytest.approx(1, rel=IDENTITY)
        assert first.log_scale != pytest.approx(second.log_scale, rel=1e-6)


class TestFeedForward:
    LOOKUP = look_up(*tokens_and_weights())
    LAYER = FeedForward(det(6, 2, 6), det(6, 1, 7)[:, 0], det(2, 6, 8), det(2, 1, 9)[:, 0])

    def test_reference_values(self):
        dual = feed_forward_dual(self.LOOKUP, self.LAYER)
        expected = pytest.approx([0.5861881548, -1.873721039], rel=PRINTED)
        assert dual(self.LOOKUP.query) == expected
        assert self.LAYER(attend(self.LOOKUP).output) == expected
        assert dual.pattern.astype(int).tolist() == [0, 1, 0, 1, 0, 1]

    def test_linearisation(self):
        h = attend(self.LOOKUP).output
        dual = feed_forward_dual(self.LOOKUP, self.LAYER)
        slope = np.zeros((2, 2))
        for j in range(2):
            step = 1e-6 * np.eye(2)[j]
            slope[:, j] = (self.LAYER(h + step) - self.LAYER(h - step)) / 2e-6
        assert np.allclose(dual.slope, slope, rtol=1e-8)  # differences of a linear function
        assert np.allclose(dual.slope @ h + dual.offset, self.LAYER(h), rtol=IDENTITY)

    def test_radius_is_the_first_place_where_a_unit_switches(self):
        h, dual = attend(self.LOOKUP).output, feed_forward_dual(self.LOOKUP, self.LAYER)
        angles = np.linspace(0, 2 * np.pi, 20_000)
        directions = np.array([np.cos(angles), np.sin(angles)])

        def unchanged(radius):
            moved = h[:, None] + radius * directions
            active = self.LAYER.W_1 @ moved + self.LAYER.b_1[:, None] > 0
            return (active == dual.pattern[:, None]).all()

        assert unchanged(dual.radius * (1 - 1e-9))
        assert not unchanged(dual.radius * (1 + 1e-6))

    def test_targets_are_values_through_the_slope(self):
        """The same model, from matrices with all features that rounding can see."""
        dual = feed_forward_dual(self.LOOKUP, self.LAYER)
        explicit = feature_dual(
            self.LOOKUP._replace(values=dual.slope @ self.LOOKUP.values), KernelMap("taylor", 18)
        )
        points = det(3, 5, 3)
        assert np.allclose(dual.model(points), explicit(points), rtol=1e-9, atol=IDENTITY)

    def test_a_layer_that_cannot_switch(self):
        fixed = self.LAYER._replace(W_1=np.zeros((6, 2)))
        dual = feed_forward_dual(self.LOOKUP, fixed)
        assert dual.radius == math.inf
        assert np.array_equal(dual.slope, np.zeros((2, 2)))
        assert np.allclose(dual(self.LOOKUP.query), fixed(np.zeros(2)), rtol=IDENTITY)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"W_1": np.ones((6, 3))}, "must have shapes"),
            ({"b_1": np.ones((6, 1))}, "b_1 must have 1 axes"),
            ({"W_2": np.ones((2, 5))}, "must have shapes"),
            ({"b_2": np.array([np.inf, 0])}, "b_2 must be finite"),
        ],
    )
    def test_wrong_input(self, change, message):
        with pytest.raises(ValueError, match=message):
            feed_forward_dual(self.LOOKUP, self.LAYER._replace(**change))
