"""The expansion around the shift: against integrals, at its limits, where the other explodes."""

from math import factorial

import numpy as np
import pytest
from scipy import integrate

from iclkit import hermite
from iclkit.papers.data_mixing import PreActivations, Source, draw_head, norm_scale, take_step
from iclkit.papers.data_mixing.conditional import (
    conditional_features,
    inflation,
    shifted_expansion,
)
from iclkit.papers.data_mixing.surrogate import adapted
from iclkit.rng import stream
from tests.tolerances import IDENTITY, SIGMAS

KINKED = ("relu", "abs")


def coefficient(name, shift, radius, j):
    sigma, kink = hermite.activation(name), np.clip(-shift / radius, -12, 12)

    def integrand(g):
        he = np.polynomial.hermite_e.hermeval(g, np.eye(j + 1)[j])
        value = float(sigma(np.array(shift + radius * g)))
        return value * he * np.exp(-g * g / 2) / np.sqrt(2 * np.pi)

    return integrate.quad(integrand, -12, 12, points=[kink], epsabs=1e-11, limit=200)[0]


class TestShiftedExpansion:
    @pytest.mark.parametrize("name", [*KINKED, "tanh", "gelu", "linear"])
    def test_coefficients_are_the_integrals(self, name):
        shift, radius = np.array([[-1.3, 0.0, 0.4], [2.5, -0.1, 1.0]]), np.array([0.7, 1.2])
        table = shifted_expansion(shift, radius, 4, activation=name).coefficients
        for row in range(2):
            for column in range(3):
                for j in range(5):
                    expected = coefficient(name, shift[row, column], radius[row], j)
                    assert table[j, row, column] == pytest.approx(expected, abs=1e-7)

    @pytest.mark.parametrize("name", hermite.ACTIVATIONS)
    def test_without_shift_it_is_the_usual_expansion(self, name):
        found = shifted_expansion(np.zeros((2, 1)), [0.6, 1.0], 5, activation=name)
        scales = [0.6, 1.0]
        expected = hermite.scaled_coefficients(name, scales, 5)
        assert np.allclose(found.coefficients[:, :, 0].T, expected, atol=1e-9)
        rest = hermite.scaled_residual(name, scales, 5)
        assert np.allclose(found.residual[:, 0], rest, atol=1e-7)  # a root of a difference

    @pytest.mark.parametrize("name", [*KINKED, "tanh"])
    def test_power_is_kept(self, name):
        parts = shifted_expansion([[0.8, -2.0]], [1.1], 3, activation=name)
        power = sum(c**2 / factorial(j) for j, c in enumerate(parts.coefficients))
        power = power + parts.residual**2
        sigma = hermite.activation(name)
        for column, shift in enumerate((0.8, -2.0)):
            points = [-shift / 1.1]
            exact = integrate.quad(
                lambda g, s=shift: (
                    float(sigma(np.array(s + 1.1 * g))) ** 2
                    * np.exp(-g * g / 2)
                    / np.sqrt(2 * np.pi)
                ),
                -12,
                12,
                points=points,
                limit=200,
            )[0]
            assert power[0, column] == pytest.approx(exact, rel=1e-8)

    def test_far_from_the_kink_relu_is_linear(self):
        parts = shifted_expansion([[30.0, -30.0]], [1.0], 3)
        expected = [[30, 0], [1, 0], [0, 0], [0, 0]]
        assert np.allclose(parts.coefficients[:, 0], expected, atol=IDENTITY)
        assert np.allclose(parts.residual, 0, atol=1e-6)

    @pytest.mark.parametrize("name", KINKED)
    def test_no_radius_no_randomness(self, name):
        parts = shifted_expansion([[2.0, -3.0, 0.0]], [0.0], 2, activation=name)
        expected = hermite.activation(name)(np.array([2.0, -3.0, 0.0]))
        assert np.allclose(parts.coefficients[:, 0], [expected, [0] * 3, [0] * 3], atol=IDENTITY)
        assert np.allclose(parts.residual, 0)

    def test_keeps_single_precision_and_takes_integers(self):
        found = shifted_expansion(np.ones((2, 2), np.float32), [1, 2], 2)
        assert found.coefficients.dtype == found.residual.dtype == np.float32
        assert shifted_expansion([[1, 2]], [1], 1, activation="tanh").residual.dtype == np.float64

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([[0.0]], [1.0, 1.0], 1), "radius must hold one value per row, 1, got 2"),
            (([[0.0]], [-1.0], 1), "radius must be >= 0, got -1"),
            (([[np.nan]], [1.0], 1), "shift must be finite"),
            (([0.0], [1.0], 1), "shift must have 2 axes"),
            (([[0.0]], [1.0], -1), "degree must be >= 0"),
            (([[0.0]], [1.0], 21), "degree must be at most 20"),
        ],
    )
    def test_border(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            shifted_expansion(*arguments)


def moved_prompts(step_two=2.0):
    source, rng = Source(6, theta_xi=36.0), stream(0, "conditional")
    one, two = (source.sample(60, 6, rng=rng) for _ in range(2))
    (moved,) = take_step(
        draw_head(6, 4000, rng=rng), norm_scale(one), one, [two.take(range(20))], "relu"
    )
    return moved, step_two * 4000


class TestConditionalFeatures:
    @pytest.mark.parametrize("name", ["relu", "tanh", "abs"])
    @pytest.mark.parametrize("eta", [0.0, 2.0, 50.0])
    def test_power_over_neurons_is_that_of_the_network(self, name, eta):
        # As in the limit: shifts independent of what the neurons receive besides.
        rng, radius = stream(0, "power", name), np.array([0.5, 1.0, 2.0])
        start = radius[:, None] * rng.normal(size=(3, 20_000))
        moved = PreActivations(start, np.outer([0.1, 1.0, -3.0], rng.normal(size=20_000)), radius)
        found = conditional_features(moved, eta, 2, rng=rng, activation=name) ** 2
        difference = hermite.activation(name)(moved.at(eta)) ** 2 - found
        error = difference.std(axis=1) / np.sqrt(20_000)
        assert np.abs(difference.mean(axis=1) / error).max() < SIGMAS

    def test_the_polynomial_has_too_much_power_there(self):
        moved, _ = moved_prompts()
        eta = 50.0 * 4000
        exploded = adapted("relu", 4, rng=stream(0, "noise"))(moved.at(eta), moved.radius)
        assert np.mean(exploded**2) > 100 * np.mean(np.maximum(moved.at(eta), 0) ** 2)

    def test_without_step_it_is_the_adapted_polynomial_less_noise(self):
        moved, _ = moved_prompts()
        features = [
            conditional_features(moved, 0.0, 20, rng=stream(0, "noise")),
            adapted("relu", 20, rng=stream(0, "noise"))(moved.start, moved.radius),
        ]
        assert np.allclose(*features, atol=1e-5)  # the other one interpolates by splines

    def test_high_degree_approaches_the_network(self):
        moved, eta = moved_prompts()
        network = np.tanh(moved.at(eta))
        distance = []
        for degree in (1, 3, 9):
            found = conditional_features(
                moved, eta, degree, rng=stream(0, "noise"), activation="tanh"
            )
            distance.append(np.mean((found - network) ** 2))
        assert distance[0] > 2 * distance[1] > 4 * distance[2]

    def test_same_stream_same_noise(self):
        moved, eta = moved_prompts()
        first, second, other = (
            conditional_features(moved, eta, 1, rng=stream(seed, "noise")) for seed in (0, 0, 1)
        )
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)

    def test_border(self):
        moved, eta = moved_prompts()
        with pytest.raises(TypeError, match="moved must be a PreActivations"):
            conditional_features(moved.start, eta, 1, rng=stream(0, "noise"))
        with pytest.raises(ValueError, match="step_size must be finite and >= 0"):
            conditional_features(moved, -1.0, 1, rng=stream(0, "noise"))
        with pytest.raises(TypeError, match="rng must be"):
            conditional_features(moved, eta, 1, rng=0)
        with pytest.raises(ValueError, match="activation must be one of"):
            conditional_features(moved, eta, 1, rng=stream(0, "noise"), activation="rellu")


class TestInflation:
    @pytest.mark.parametrize("name", ["relu", "tanh", "softplus"])
    def test_is_one_where_the_polynomial_was_made(self, name):
        assert inflation(4, [1.0], activation=name, radius=0.8) == pytest.approx(1.0, abs=1e-6)

    def test_relu_of_degree_two_by_hand(self):
        # P = c_0 + z / 2 + (c_0 / 2)(z^2 - 1) at z = tau g, with c_0^2 = 1 / (2 pi)
        tau2 = np.array([0.5, 1.0, 2.0, 9.0])
        quadratic = (1 + 2 * tau2 + 3 * tau2**2) / 4
        rest = 0.5 - 0.25 - 1.5 / (2 * np.pi)
        power = tau2 / 4 + quadratic / (2 * np.pi) + rest
        assert np.allclose(inflation(2, tau2), power / (tau2 / 2), rtol=1e-8)

    def test_radius_does_not_matter_for_relu(self):
        assert np.allclose(inflation(4, [3.0], radius=0.3), inflation(4, [3.0], radius=2.0))

    @pytest.mark.parametrize("degree", [2, 4, 6])
    def test_growth(self, degree):
        low, high = inflation(degree, [1e4, 1e6])
        assert np.log(high / low) / np.log(100) == pytest.approx(degree - 1, abs=0.02)

    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            ((4, [-1.0]), {}, "variances must be >= 0, got -1"),
            ((4, [np.inf]), {}, "variances must be finite"),
            ((61, [1.0]), {}, "degree must be at most 60"),
            ((4, [1.0]), {"radius": 0.0}, "radius must be finite and > 0"),
            ((4, [0.0]), {}, "variances must be > 0 where the activation vanishes"),
            ((4, [1e300]), {}, "variances must be at most"),
        ],
    )
    def test_border(self, arguments, options, message):
        with pytest.raises(ValueError, match=message):
            inflation(*arguments, **options)
