"""The polynomial equivalents: reference values, explicit sums, moments, noise, errors."""

from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit import hermite
from iclkit.papers.data_mixing.surrogate import adapted, expansion, plain
from iclkit.rng import stream
from tests.tolerances import IDENTITY, PRINTED, SIGMAS

NAMED = [name for name in hermite.ACTIVATIONS if name not in ("linear", "abs")]
SPLINE = 1e-6  # absolute: the promise of the docstring; the worst found is 1.5e-7
MAPS = [plain, adapted]


def pre_activations(n_prompts=5, width=4):
    """Return z and the radius of each prompt."""
    radius = np.linspace(0.4, 1.7, n_prompts)
    z = stream(3, "pre-activations").standard_normal((n_prompts, width))
    return radius[:, None] * z, radius


def explicit(activation, degree, z, scale):
    """Return the polynomial of one number at one scale, from its definition, term by term."""
    sigma, total = hermite.activation(activation), 0.0
    for j in range(degree + 1):
        he = np.polynomial.hermite_e.HermiteE.basis(j)
        c = hermite.gaussian_mean(lambda g, he=he: sigma(scale * g) * he(g))
        total += c / factorial(j) * he(z / scale)
    return total


class TestReferenceValues:
    def test_scaled_tanh(self):
        found = expansion("tanh", 4, [0.6, 1.5])
        first = [0.466232815, 0, -0.1751599742 / 6]
        assert found.polynomial[0, 1:4] == pytest.approx(first, abs=SPLINE)
        second = [0.6890274286, 0, -0.5219674205 / 6]
        assert found.polynomial[1, 1:4] == pytest.approx(second, abs=SPLINE)
        assert found.residual == pytest.approx([0.021418866, 0.14311273], abs=SPLINE)

    def test_scaled_gelu(self):
        expected = [0.123152466, 0.3, 0.2137057497 / 2, 0, -0.1045091428 / 24]
        assert expansion("gelu", 4, [0.6]).polynomial[0] == pytest.approx(expected, abs=SPLINE)

    @pytest.mark.parametrize(
        ("name", "residuals"),
        [
            ("relu", [0.30140514, 0.10614888, 0.10614888, 0.068089128, 0.068089128]),
            ("tanh", [0.16557574, 0.16557574, 0.073360251, 0.073360251, 0.038334498]),
            ("softplus", [0.14667823, 0.012976532, 0.012976532, 0.0024836811, 0.0024836811]),
        ],
    )
    def test_residuals_at_scale_one(self, name, residuals):
        found = [expansion(name, p, [1.0]).residual[0] for p in range(1, 6)]
        assert found == pytest.approx(residuals, abs=1e-8)  # a knot: as exact as the quadrature


class TestExpansion:
    @pytest.mark.parametrize("name", NAMED)
    @pytest.mark.parametrize("degree", [0, 1, 4])
    def test_splines_keep_their_promise(self, name, degree):
        radii = np.linspace(0, 4.5, 301) * 0.999
        scale = [factorial(j) for j in range(degree + 1)]
        found = expansion(name, degree, radii)
        exact = hermite.scaled_coefficients(name, radii, degree) / scale
        assert np.abs(found.polynomial - exact).max() < SPLINE
        exact = hermite.scaled_residual(name, radii, degree)
        assert np.abs(found.residual - exact).max() < SPLINE

    def test_relu_scales_with_the_radius(self):
        radii = [0.0, 0.3, 1.0, 4.4, 30.0]  # the last is beyond the splines
        found, at_one = expansion("relu", 4, radii), expansion("relu", 4, [1.0])
        assert np.allclose(found.polynomial, np.outer(radii, at_one.polynomial[0]), atol=IDENTITY)
        assert np.allclose(found.residual, radii * at_one.residual, atol=IDENTITY)

    def test_nothing_is_left_of_a_polynomial(self):
        found = expansion(lambda z: z**3 - 2 * z, 3, [0.5, 2.0, 6.0])
        assert np.abs(found.residual).max() < 1e-9  # rounding of values up to 14^3 in the tails
        # (r z)^3 - 2 r z = r^3 He_3 + (3 r^3 - 2 r) He_1
        assert found.polynomial[:, 1] == pytest.approx([-0.625, 20, 636], rel=PRINTED)
        assert found.polynomial[:, 3] == pytest.approx([0.125, 8, 216], rel=PRINTED)

    @given(st.floats(0, 8), st.sampled_from(NAMED), st.integers(0, 6))
    def test_polynomial_and_residual_add_up_to_the_whole(self, radius, name, degree):
        found = expansion(name, degree, [radius])
        sigma = hermite.activation(name)
        whole = hermite.gaussian_mean(lambda z: sigma(radius * z) ** 2)
        parts = sum(factorial(j) * c**2 for j, c in enumerate(found.polynomial[0]))
        assert parts + found.residual[0] ** 2 == pytest.approx(whole, abs=10 * SPLINE)

    @pytest.mark.parametrize(("activation", "error"), [("cube", ValueError), (3, TypeError)])
    def test_unknown_activation(self, activation, error):
        with pytest.raises(error, match="activation must be"):
            expansion(activation, 1, [1.0])

    @pytest.mark.parametrize("radii", [[-0.1], [np.nan], [], [[1.0]]])
    def test_wrong_radii(self, radii):
        with pytest.raises(ValueError, match="radius must"):
            expansion("relu", 1, radii)


class TestFeatureMaps:
    @pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
    @pytest.mark.parametrize("degree", [0, 1, 2, 4])
    def test_is_the_explicit_sum_plus_noise(self, name, degree):
        z, radius = pre_activations()
        noise = stream(0, "noise").standard_normal(z.shape)
        for feature_map, scale in ((plain, np.ones(5)), (adapted, radius)):
            found = feature_map(name, degree, rng=stream(0, "noise"))(z, radius)
            rest = hermite.scaled_residual(name, scale, degree)[:, None]
            rows = [
                [explicit(name, degree, one, r) for one in row]
                for row, r in zip(z, scale, strict=True)
            ]
            assert np.allclose(found, rows + rest * noise, atol=100 * SPLINE)

    @pytest.mark.parametrize("name", NAMED)
    def test_both_agree_at_radius_one(self, name):
        z, radius = pre_activations()
        one, two = (make(name, 3, rng=stream(1, "noise"))(z, radius * 0 + 1) for make in MAPS)
        assert np.allclose(one, two, rtol=0, atol=1e-9)

    def test_plain_ignores_the_radius_and_adapted_does_not(self):
        z, radius = pre_activations()
        for make, same in ((plain, True), (adapted, False)):
            one, two = (make("relu", 2, rng=stream(1, "noise"))(z, r) for r in (radius, radius / 2))
            assert np.array_equal(one, two) is same

    @pytest.mark.parametrize("make", MAPS)
    def test_a_linear_neuron_is_kept(self, make):
        z, radius = pre_activations()
        assert np.allclose(make("linear", 1, rng=stream(0, "noise"))(z, radius), z, atol=1e-8)

    @pytest.mark.parametrize("make", MAPS)
    def test_noise_is_standard_and_fresh(self, make):
        # degree 0 of an odd function: nothing but noise of variance E tanh^2
        feature_map = make("tanh", 0, rng=stream(5, "noise"))
        z, radius = np.zeros((400, 50)), np.ones(400)
        first, second = feature_map(z, radius), feature_map(z, radius)
        scale = hermite.residual("tanh", 0)
        n = first.size
        assert abs(np.mean(first**2) / scale**2 - 1) < SIGMAS * np.sqrt(2 / n)
        for other in (second, np.roll(first, 1, axis=0), np.roll(first, 1, axis=1)):
            assert abs(np.mean(first * other) / scale**2) < SIGMAS / np.sqrt(n)

    @pytest.mark.parametrize("make", MAPS)
    def test_features_have_the_moments_of_the_activation(self, make):
        # at scale 1: mean c_0, second moment E sigma^2, product with z equal to c_1
        z = stream(6, "z").standard_normal((500, 100))
        found = make("softplus", 2, rng=stream(7, "noise"))(z, np.ones(500))
        sigma, c = hermite.activation("softplus"), hermite.coefficients("softplus", 1)
        second = hermite.gaussian_mean(lambda g: sigma(g) ** 2)
        for values, expected in ((found, c[0]), (found**2, second), (found * z, c[1])):
            error = values.std() / np.sqrt(values.size)
            assert abs(values.mean() - expected) < SIGMAS * error

    @pytest.mark.parametrize("make", MAPS)
    def test_single_precision_is_kept_and_integers_work(self, make):
        z, radius = pre_activations()
        found = make("gelu", 3, rng=stream(0, "noise"))(z.astype(np.float32), radius)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        whole = make("gelu", 3, rng=stream(0, "noise"))(np.ones((2, 3), dtype=int), [1, 1])
        real = make("gelu", 3, rng=stream(0, "noise"))(np.ones((2, 3)), [1.0, 1.0])
        assert whole.dtype == np.float64
        assert np.array_equal(whole, real)

    def test_radius_zero(self):
        found = adapted("softplus", 2, rng=stream(0, "noise"))(np.zeros((1, 3)), [0.0])
        assert found == pytest.approx(np.log(2) * np.ones((1, 3)), abs=SPLINE)

    def test_inputs_are_not_changed(self):
        z, radius = pre_activations()
        copies = z.copy(), radius.copy()
        for make in MAPS:
            make("relu", 4, rng=stream(0, "noise"))(z, radius)
        assert np.array_equal(z, copies[0])
        assert np.array_equal(radius, copies[1])


@pytest.mark.parametrize("make", MAPS)
class TestErrors:
    def test_unknown_activation(self, make):
        with pytest.raises(ValueError, match="activation must be one of"):
            make("cube", 2, rng=stream(0, "noise"))

    @pytest.mark.parametrize(
        ("degree", "error"), [(-1, ValueError), (61, ValueError), (2.0, TypeError)]
    )
    def test_degree(self, make, degree, error):
        with pytest.raises(error, match="degree must be"):
            make("relu", degree, rng=stream(0, "noise"))

    def test_rng(self, make):
        with pytest.raises(TypeError, match="rng must be"):
            make("relu", 2, rng=0)

    @pytest.mark.parametrize(
        ("z", "radius", "message"),
        [
            ([[1.0]], [1.0, 1.0], "one value per row of z, 1, got 2"),
            ([[1.0]], [-1.0], "radius must be >= 0, got -1"),
            ([[np.nan]], [1.0], "z must be finite"),
            ([1.0], [1.0], "z must have 2 axes"),
        ],
    )
    def test_arrays(self, make, z, radius, message):
        with pytest.raises(ValueError, match=message):
            make("relu", 2, rng=stream(0, "noise"))(z, radius)
