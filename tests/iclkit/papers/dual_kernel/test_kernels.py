"""Attention with features: kernels, dual models as matrices, the way to softmax."""

import math

import numpy as np
import pytest

from iclkit.nets import gradient_step
from iclkit.papers.dual_kernel.attention import attend, look_up
from iclkit.papers.dual_kernel.kernels import (
    KERNELS,
    KernelMap,
    feature_dual,
    kernel_attention,
    unscaled,
)
from iclkit.rng import stream
from tests.instances import tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED

POSITIVE = ["relu", "elu1", "squared_relu", "exp", "polynomial", "taylor"]


@pytest.fixture(scope="module")
def core():
    return unscaled(look_up(*tokens_and_weights()))


def random_lookup(seed, n_query=2):
    rng = stream(seed, "kernels")
    d, d_k, d_v, n_demo = rng.integers(2, 8, size=4)
    shapes = [(d, n_demo), (d, n_query), (d_k, d), (d_k, d), (d_v, d)]
    return look_up(*(0.5 * rng.normal(size=shape) for shape in shapes))


@pytest.mark.parametrize(
    ("kind", "normalised", "expected"),
    [
        ("linear", False, [4.117136804, 0.1507807111]),
        ("relu", True, [0.6773530123, 0.0003838115631]),
        ("elu1", True, [0.7710906185, -0.7423932924]),
        ("polynomial", True, [0.9673150332, -0.4743647362]),
    ],
)
class TestReferenceValues:
    def test_attention(self, core, kind, normalised, expected):
        output = kernel_attention(core, KernelMap(kind), normalised=normalised)
        assert output == pytest.approx(expected, rel=PRINTED)

    def test_dual(self, core, kind, normalised, expected):
        model = feature_dual(core, KernelMap(kind), normalised=normalised)
        assert model(core.query) == pytest.approx(expected, rel=PRINTED)


class TestKernelMap:
    X, Y = np.array([0.7, -1.2, 0.4]), np.array([[-0.3, 0.5], [0.9, 0.1], [2.0, -1.0]])

    @pytest.mark.parametrize(
        ("kind", "entry"),
        [
            ("linear", lambda x: x),
            ("relu", lambda x: max(x, 0)),
            ("elu1", lambda x: x + 1 if x > 0 else math.exp(x)),
            ("squared_relu", lambda x: max(x, 0) ** 2),
            ("exp", math.exp),
        ],
    )
    def test_entrywise(self, kind, entry):
        expected = [[entry(x) for x in row] for row in self.Y]
        assert np.allclose(KernelMap(kind)(self.Y), expected, rtol=IDENTITY)

    @pytest.mark.parametrize("degree", [1, 2, 3, 6])
    def test_polynomial_kernel(self, degree):
        phi = KernelMap("polynomial", degree)
        expected = (1 + self.Y.T @ self.X) ** degree
        assert np.allclose(phi(self.Y).T @ phi(self.X), expected, rtol=IDENTITY)

    @pytest.mark.parametrize("degree", [1, 2, 5, 12])
    def test_taylor_kernel(self, degree):
        phi, scores = KernelMap("taylor", degree), self.Y.T @ self.X
        expected = sum(scores**n / math.factorial(n) for n in range(degree + 1))
        assert np.allclose(phi(self.Y).T @ phi(self.X), expected, rtol=IDENTITY)

    def test_taylor_stays_within_its_remainder(self):
        phi, scale = KernelMap("taylor", 4), np.linspace(-3, 3, 61)
        y = np.outer([1.0, 0.0], scale)
        kernel = phi(y).T @ phi([1.0, 0.0])
        bound = np.abs(scale) ** 5 / math.factorial(5) * np.exp(np.maximum(scale, 0))
        assert (kernel > 0).all()
        assert (np.abs(kernel - np.exp(scale)) <= bound + 1e-12).all()
        assert np.abs(kernel - np.exp(scale)).max() > 0.1  # and there is an error to bound

    @pytest.mark.parametrize("kind", KERNELS)
    def test_one_vector_is_one_column(self, kind):
        phi = KernelMap(kind, 3)
        columns = np.stack([phi(y) for y in self.Y.T], axis=1)
        assert np.allclose(phi(self.Y), columns, rtol=IDENTITY)
        assert np.allclose(phi([1, -2, 3]), phi([1.0, -2.0, 3.0]), rtol=0)

    @pytest.mark.parametrize("kind", KERNELS)
    def test_input_is_not_changed_nor_shared(self, kind):
        y = self.Y.copy()
        phi = KernelMap(kind)(y)
        phi += 1
        assert np.array_equal(y, self.Y)

    def test_number_of_monomials(self):
        assert len(KernelMap("taylor", 4)(np.ones(3))) == math.comb(7, 4)

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: KernelMap("gauss"), ValueError, "kind must be one of linear, relu"),
            (lambda: KernelMap("taylor", 0), ValueError, "degree must be >= 1, got 0"),
            (lambda: KernelMap("taylor", 2.0), TypeError, "degree must be an integer"),
            (lambda: KernelMap("taylor", 12)(np.ones(20)), ValueError, "at most 200000 monomials"),
            (lambda: KernelMap("relu")(np.ones((1, 1, 1))), ValueError, "1 or 2 axes"),
            (lambda: KernelMap("relu")([np.nan]), ValueError, "columns must be finite"),
            (lambda: KernelMap("relu")(["a"]), TypeError, "columns must hold real numbers"),
        ],
    )
    def test_wrong_input(self, call, error, message):
        with pytest.raises(error, match=message):
            call()


class TestDual:
    @pytest.mark.parametrize("kind", POSITIVE)
    @pytest.mark.parametrize("seed", range(5))
    def test_equals_attention(self, kind, seed):
        lookup = random_lookup(seed)
        phi = KernelMap(kind, 4)
        expected = kernel_attention(lookup, phi)
        assert feature_dual(lookup, phi)(lookup.query) == pytest.approx(expected, rel=IDENTITY)

    @pytest.mark.parametrize("kind", KERNELS)
    def test_equals_attention_without_normaliser(self, kind):
        lookup = random_lookup(7)
        model = feature_dual(lookup, KernelMap(kind), normalised=False)
        expected = kernel_attention(lookup, KernelMap(kind), normalised=False)
        assert model.normaliser == 1
        assert model(lookup.query) == pytest.approx(expected, rel=IDENTITY)

    def test_attention_by_loops(self):
        lookup, phi = random_lookup(3), KernelMap("elu1")
        total, output = 0.0, 0.0
        for key, value in zip(lookup.keys.T, lookup.values.T, strict=True):
            weight = sum(a * b for a, b in zip(phi(key), phi(lookup.query), strict=True))
            total, output = total + weight, output + weight * value
        assert kernel_attention(lookup, phi) == pytest.approx(output / total, rel=IDENTITY)

    def test_linear_kernel_gives_fast_weights(self, core):
        model = feature_dual(core, KernelMap("linear"), normalised=False)
        assert np.allclose(model.trained, core.values @ core.keys.T, rtol=IDENTITY)

    @pytest.mark.parametrize("rate", [0.03, 1.0, 20.0])
    @pytest.mark.parametrize("kind", ["elu1", "taylor"])
    def test_is_one_step_of_automatic_differentiation(self, kind, rate):
        lookup = random_lookup(11)
        n, model = lookup.n_demo, feature_dual(lookup, KernelMap(kind, 6))

        def loss(W, phi, v):
            return -(v * (W @ phi)).sum() / (rate * model.normaliser)

        pairs = model.features(lookup.keys[:, :n]), lookup.values[:, :n]
        stepped = gradient_step(loss, model.zero_shot, *pairs, rate=rate)
        assert np.allclose(stepped, model.trained, rtol=IDENTITY, atol=IDENTITY)

    def test_zero_shot_part_knows_no_demonstration(self):
        lookup, phi = random_lookup(5, n_query=3), KernelMap("exp")
        n, model = lookup.n_demo, feature_dual(lookup, phi)
        alone = lookup._replace(keys=lookup.keys[:, n:], values=lookup.values[:, n:], n_demo=0)
        without = feature_dual(alone, phi)
        share = without.normaliser / model.normaliser
        assert np.allclose(model.zero_shot, share * without.trained, rtol=IDENTITY)

    def test_enough_monomials_are_softmax(self):
        lookup = look_up(*tokens_and_weights())
        exact = attend(lookup)
        model = feature_dual(lookup, KernelMap("taylor", 18))
        assert model(lookup.query) == pytest.approx(exact.output, rel=IDENTITY)
        assert math.log(model.normaliser) == pytest.approx(exact.log_normaliser, rel=IDENTITY)

    def test_columns_at_once(self):
        lookup = random_lookup(2)
        model = feature_dual(lookup, KernelMap("exp"))
        singly = np.stack([model(key) for key in lookup.keys.T], axis=1)
        assert np.allclose(model(lookup.keys), singly, rtol=IDENTITY)


class TestErrors:
    LOOKUP = look_up([[1.0, 2.0]], [3.0], [[-1.0]], [[1.0]], [[1.0]])

    @pytest.mark.parametrize("use", [feature_dual, kernel_attention])
    @pytest.mark.parametrize("kind", ["relu", "linear"])
    def test_a_sum_that_is_not_positive(self, use, kind):
        with pytest.raises(ValueError, match="the sum of the kernel's values must be > 0"):
            use(self.LOOKUP, KernelMap(kind))
        use(self.LOOKUP, KernelMap(kind), normalised=False)

    @pytest.mark.parametrize("use", [feature_dual, kernel_attention])
    def test_features_that_overflow(self, use):
        with pytest.raises(ValueError, match="features must be finite"):
            use(self.LOOKUP._replace(keys=np.full((1, 3), 1e3)), KernelMap("exp"))

    @pytest.mark.parametrize("use", [feature_dual, kernel_attention])
    def test_features_must_be_a_function(self, use):
        with pytest.raises(TypeError, match="features must be a function, got str"):
            use(self.LOOKUP, "relu")


def test_unscaled_undoes_the_temperature():
    lookup = random_lookup(1)
    raw = unscaled(lookup)
    factor = math.sqrt(len(lookup.query))
    assert np.allclose(raw.keys.T @ raw.query, factor * lookup.keys.T @ lookup.query)
    assert raw.n_demo == lookup.n_demo
