"""The infinitely wide head: kernels against quadrature and against heads of growing width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from iclkit import hermite
from iclkit.papers.data_mixing import (
    Contexts,
    Head,
    Source,
    draw_head,
    norm_scale,
    take_step,
)
from iclkit.papers.data_mixing.head import feature_gram, features, readout_path, squared_norms
from iclkit.papers.data_mixing.kernel_head import (
    WideLayer,
    gaussian_product,
    gradient_signal,
    information_exponent,
    kernel_path,
    wide_layer,
)
from iclkit.rng import stream
from tests.tolerances import IDENTITY, SIGMAS

CLOSED = ("relu", "abs", "erf", "linear")


def prompts(n=40, d=4, *, name="prompts", **law):
    return Source(d, **law).sample(n, 2 * d, rng=stream(0, "kernel head", name))


def product_by_integration(function, cosine, left, right):
    """E sigma(left u) sigma(right v) by adaptive integration, kink by kink."""
    spread = np.sqrt(1 - cosine**2)

    def inner(u):
        kink = np.clip(-cosine * u / spread, -9, 9)
        return integrate.quad(
            lambda w: float(function(np.array(right * (cosine * u + spread * w)))) * density(w),
            -9,
            9,
            points=[kink],
            epsabs=1e-11,
        )[0]

    def outer(u):
        return float(function(np.array(left * u))) * density(u) * inner(u)

    return sum(integrate.quad(outer, *ends, epsabs=1e-10)[0] for ends in ((-9, 0), (0, 9)))


def density(z):
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


class TestGaussianProduct:
    @pytest.mark.parametrize("name", [*CLOSED, "tanh", "softplus"])
    def test_against_integration(self, name):
        for cosine in (-0.7, 0.2, 0.95):
            found = gaussian_product([[cosine * 1.2 * 0.5]], [1.44], [0.25], activation=name)
            expected = product_by_integration(hermite.activation(name), cosine, 1.2, 0.5)
            assert found[0, 0] == pytest.approx(expected, abs=1e-8)

    @pytest.mark.parametrize("name", CLOSED)
    def test_closed_form_and_series_agree(self, name):
        rng = stream(0, "series")
        left, right = rng.uniform(0.1, 4, 12), rng.uniform(0.1, 4, 15)
        cosine = rng.uniform(-0.99, 0.99, (12, 15))
        cosine[0] = np.sign(cosine[0])  # parallel and opposite
        covariance = cosine * np.sqrt(np.outer(left, right))
        closed = gaussian_product(covariance, left, right, activation=name)
        function = hermite.activation(name)
        series = gaussian_product(covariance, left, right, activation=lambda z: function(z))
        # Quadrature across the kink of a nearly parallel pair keeps six digits.
        assert np.allclose(closed, series, atol=1e-6)

    @pytest.mark.parametrize("name", ["erf", "linear"])
    def test_slopes_closed_and_series(self, name):
        covariance, left = [[0.5, -0.2], [0.0, 1.0]], [1.0, 4.0]
        closed = gaussian_product(covariance, left, left, activation=name, slope=True)
        slope = hermite.derivative(name)
        series = gaussian_product(covariance, left, left, activation=lambda z: slope(z))
        assert np.allclose(closed, series, atol=1e-9)

    @pytest.mark.parametrize("name", ["relu", "abs"])
    def test_slopes_of_kinks_are_orthant_probabilities(self, name):
        # relu: both positive; abs: E sign sign = 4 P(both positive) - 1
        cosine = np.array([[-1.0, -0.5, 0.0, 0.5, 1.0]])
        both = 0.25 + np.arcsin(cosine) / (2 * np.pi)
        expected = both if name == "relu" else 4 * both - 1
        found = gaussian_product(cosine, [1.0], np.ones(5), activation=name, slope=True)
        assert np.allclose(found, expected, atol=IDENTITY)

    @pytest.mark.parametrize("name", hermite.ACTIVATIONS)
    def test_diagonal_is_the_mean_square(self, name):
        variances = np.array([0.0, 0.3, 1.0, 6.0])
        found = gaussian_product(
            np.diag(variances), variances, variances, activation=name
        ).diagonal()
        sigma = hermite.activation(name)
        expected = [hermite.gaussian_mean(lambda z, r=r: sigma(r * z) ** 2) for r in variances**0.5]
        assert np.allclose(found, expected, atol=1e-6)

    def test_independent_means_multiply(self):
        found = gaussian_product([[0.0]], [1.0], [1.0], activation="softplus")
        assert found[0, 0] == pytest.approx(hermite.coefficients("softplus", 0)[0] ** 2, rel=1e-10)

    @given(st.integers(0, 2**31), st.sampled_from(["relu", "erf", "tanh", "abs"]))
    def test_kernels_are_positive_semidefinite(self, seed, name):
        points = np.random.default_rng(seed).normal(size=(8, 3))
        gram = points @ points.T
        kernel = gaussian_product(gram, gram.diagonal(), gram.diagonal(), activation=name)
        assert np.allclose(kernel, kernel.T, atol=1e-9)
        assert np.linalg.eigvalsh(kernel).min() > -1e-7 * np.trace(kernel)

    def test_integers_will_do_and_inputs_stay(self):
        covariance = np.array([[1, 0]])
        found = gaussian_product(covariance, [1], [1, 4])
        assert np.allclose(found, [[0.5, 1 / np.pi]])
        assert covariance.tolist() == [[1, 0]]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([[2.0]], [1.0], [1.0]), "covariance must be at most"),
            (([[0.0]], [-1.0], [1.0]), "left must hold variances >= 0, got -1"),
            (([[0.0]], [1.0], [-2.0]), "right must hold variances"),
            (([[0.0, 0.0]], [1.0], [1.0]), r"covariance must be \(n, m\) = \(1, 1\)"),
            (([[np.nan]], [1.0], [1.0]), "covariance must be finite"),
        ],
    )
    def test_border(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            gaussian_product(*arguments)

    def test_unknown_activation(self):
        with pytest.raises(ValueError, match="activation must be one of"):
            gaussian_product([[0.0]], [1.0], [1.0], activation="rellu")


class TestWideLayer:
    def test_covariance_at_the_start_is_the_gram_matrix(self):
        some, other = prompts(), prompts(7, name="other")
        layer = wide_layer(some)
        assert np.allclose(layer.covariance(some, other), feature_gram(some, other) / layer.scale)
        assert np.mean(layer.variance(some)) == pytest.approx(1.0)
        assert layer.scale == norm_scale(some)

    @pytest.mark.parametrize("name", ["relu", "tanh"])
    def test_covariance_after_the_step_by_loops(self, name):
        some, other, step = prompts(9), prompts(3, name="other"), 4.0
        layer = wide_layer(some, activation=name, step=step)
        h, g = features(some), features(other)
        gram = h @ h.T / layer.scale
        slopes = gaussian_product(
            gram, gram.diagonal(), gram.diagonal(), activation=name, slope=True
        )
        expected = g @ g.T / layer.scale
        for a in range(3):
            for c in range(3):
                for j in range(9):
                    for k in range(9):
                        pair = some.y[j] * some.y[k] * slopes[j, k] / 81
                        expected[a, c] += step**2 * pair * (g[a] @ h[j]) * (g[c] @ h[k])
        assert np.allclose(layer.covariance(other, other), expected, rtol=1e-9)
        assert np.allclose(layer.variance(other), expected.diagonal(), rtol=1e-9)

    @pytest.mark.parametrize("name", ["relu", "tanh", "abs"])
    def test_covariance_is_that_of_very_many_neurons(self, name):
        some, other, step, pairs = prompts(30), prompts(5, name="other"), 10.0, 30_000
        half = draw_head(4, pairs, rng=stream(0, "many", name))
        # Every neuron once with each sign of its read-out: the head's own answer is then zero, as
        # for infinitely many neurons. The read-outs of 2 pairs are N(0, 1 / (2 pairs)).
        hidden = np.concatenate([half.hidden, half.hidden])
        readout = np.concatenate([half.readout, -half.readout]) / np.sqrt(2)
        head = Head(hidden, readout)
        (moved,) = take_step(head, norm_scale(some), some, [other], name)
        z = moved.at(step * 2 * pairs)
        products = (z[:, None] * z[None]).reshape(5, 5, 2, pairs).mean(axis=2)
        error = products.std(axis=2) / np.sqrt(pairs)
        exact, coarse = (
            wide_layer(some, activation=name, step=step, rank_one=rank_one)
            for rank_one in (False, True)
        )
        missed = (products.mean(axis=2) - exact.covariance(other, other)) / error
        assert np.abs(missed).max() < SIGMAS
        missed = (products.mean(axis=2) - coarse.covariance(other, other)) / error
        assert np.abs(missed).max() > 2 * SIGMAS  # one coordinate is not all that is learned

    def test_rank_one_step_appends_one_coordinate(self):
        some, other, step = prompts(30), prompts(5, name="other"), 3.0
        layer = wide_layer(some, step=step, rank_one=True)
        learned = 0.5 * feature_gram(other, some) @ some.y / len(some)  # alpha V, alpha = 1/2
        assert layer.learned(other).shape == (5, 1)
        assert np.allclose(layer.learned(other)[:, 0], step * learned)
        longer = np.column_stack([features(other) / np.sqrt(layer.scale), step * learned])
        assert np.allclose(layer.covariance(other, other), longer @ longer.T)

    def test_kernel_before_the_step_is_the_arc_cosine_kernel(self):
        some = prompts(6)
        h = features(some) / np.sqrt(norm_scale(some))
        length = np.linalg.norm(h, axis=1)
        angle = np.arccos(np.clip(h @ h.T / np.outer(length, length), -1, 1))
        arc = np.sin(angle) + (np.pi - angle) * np.cos(angle)
        expected = np.outer(length, length) * arc / (2 * np.pi)
        assert np.allclose(wide_layer(some).kernel(some, some), expected, atol=1e-9)

    def test_scale_can_be_given(self):
        some = prompts(6)
        assert np.allclose(wide_layer(some, scale=2.0).variance(some), squared_norms(some) / 2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"step": -1.0}, "step must be finite and >= 0"),
            ({"step": np.nan}, "step must be finite"),
            ({"scale": 0.0}, "scale must be finite and > 0"),
            ({"activation": "rellu"}, "activation must be one of"),
        ],
    )
    def test_border(self, options, message):
        with pytest.raises(ValueError, match=message):
            wide_layer(prompts(5), **options)

    def test_wants_contexts(self):
        with pytest.raises(TypeError, match="stage_one must be a Contexts"):
            wide_layer(np.ones((3, 4)))


class TestKernelPath:
    def test_solves_the_ridge_equations(self):
        train, fresh = prompts(20), prompts(6, name="fresh")
        layer = wide_layer(train, step=2.0)
        path = kernel_path(layer, train, [0.1, 1e-3])
        kernel = layer.kernel(train, train)
        for row, ridge in zip(path.predict(fresh), (0.1, 1e-3), strict=True):
            dual = np.linalg.solve(kernel + 20 * ridge * np.eye(20), train.y)
            assert np.allclose(row, layer.kernel(fresh, train) @ dual, atol=1e-9)

    def test_is_the_limit_of_wide_heads(self):
        one, train, test = prompts(30), prompts(40, name="train"), prompts(50, name="test")
        expected = kernel_path(wide_layer(one), train, [0.01]).predict(test)[0]
        distance = []
        for width in (400, 6400):
            head = draw_head(4, width, rng=stream(0, "wide", width))
            seen, fresh = take_step(head, norm_scale(one), one, [train, test], "relu")
            path = readout_path(np.maximum(seen.start, 0), train.y, [0.01])
            found = path.predict(np.maximum(fresh.start, 0))[0]
            distance.append(np.sqrt(np.mean((found - expected) ** 2)))
        assert distance[1] < 0.5 * distance[0] < 0.25 * expected.std()

    def test_a_large_ridge_silences_it(self):
        some = prompts(10)
        assert np.abs(kernel_path(wide_layer(some), some, [1e9]).predict(some)).max() < 1e-8

    @pytest.mark.parametrize("ridge", [0.0, -1.0])
    def test_border(self, ridge):
        some = prompts(5)
        with pytest.raises(ValueError, match="ridges must be > 0"):
            kernel_path(wide_layer(some), some, [ridge])

    def test_wants_its_kinds(self):
        some = prompts(5)
        with pytest.raises(TypeError, match="layer must be a WideLayer"):
            kernel_path(some, some, [1.0])
        with pytest.raises(TypeError, match="train must be a Contexts"):
            kernel_path(wide_layer(some), some.x, [1.0])
        assert isinstance(wide_layer(some), WideLayer)
        assert isinstance(some, Contexts)


class TestInformationExponent:
    @pytest.mark.parametrize(
        ("link", "order"),
        [
            ("relu", 1),
            ("tanh", 1),
            ("abs", 2),
            (np.square, 2),
            (lambda z: z**2 - 1, 2),
            (lambda z: z**3 - 3 * z, 3),
            (lambda z: z**4 - 6 * z**2 + 3, 4),
            (lambda z: z**3, 1),
        ],
    )
    def test_known_links(self, link, order):
        assert information_exponent(link) == order

    def test_does_not_depend_on_scale_or_constant(self):
        assert information_exponent(lambda z: 100 + 0.01 * np.abs(z), degree=4) == 2

    def test_constant_has_none(self):
        with pytest.raises(ValueError, match="that is not zero, got none of degree 1 to 20"):
            information_exponent(np.ones_like)

    @pytest.mark.parametrize("degree", [0, 61])
    def test_border(self, degree):
        with pytest.raises(ValueError, match="degree must be"):
            information_exponent("relu", degree=degree)


class TestGradientSignal:
    @pytest.mark.parametrize("link", ["relu", "abs"])
    def test_is_the_mean_of_labels_times_features(self, link):
        d, law = 4, {"link": link, "noise": 0.2, "theta_xi": 20.0, "mu_xi": [0.0, 1.0, 0.0, 0.0]}
        n, rng = 200_000, stream(0, "signal", link)
        source = Source(d, **law)
        tasks = source.tasks(n, rng=rng)
        some = source.sample(n, 6, rng=rng)
        products = some.y[:, None] * features(some)
        found, error = products.mean(axis=0), products.std(axis=0) / np.sqrt(n)
        moment = tasks.T @ tasks / n
        signal = gradient_signal(link, moment, noise=0.2, task_mean=tasks.mean(axis=0))
        error += 3 / np.sqrt(n) * 0.25  # the moments are sampled, too; entries below c_1^2 = 1/4
        assert np.abs((found - signal.ravel()) / error).max() < SIGMAS

    def test_isotropic_relu(self):
        assert np.allclose(gradient_signal("relu", np.eye(20) / 20)[:, :20], 0.0125 * np.eye(20))

    def test_vanishes_beyond_exponent_one(self):
        found = gradient_signal(lambda z: z**3 - 3 * z, np.eye(3), task_mean=np.ones(3))
        assert np.abs(found).max() < 1e-10

    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            (("relu", np.ones((2, 3))), {}, "task_moment must be square"),
            (("relu", np.eye(2)), {"task_mean": np.ones(3)}, "numbers of rows must agree"),
            (("relu", np.eye(2)), {"noise": -0.1}, "noise must be finite and >= 0"),
            (("relu", np.eye(2) * np.nan), {}, "task_moment must be finite"),
        ],
    )
    def test_border(self, arguments, options, message):
        with pytest.raises(ValueError, match=message):
            gradient_signal(*arguments, **options)
