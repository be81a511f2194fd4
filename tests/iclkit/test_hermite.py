from math import asin, factorial, pi, sqrt

import numpy as np
import pytest
from scipy import integrate, stats

from iclkit import hermite
from tests.tolerances import PRINTED, ROOT

COEFFICIENTS = {
    "relu": [0.3989422804, 0.5, 0.3989422804, 0, -0.3989422804, 0, 1.196826841],
    "tanh": [0, 0.6057055096, 0, -0.3635953763, 0, 0.6851737935, 0],
    "erf": [0, 0.6514700159, 0, -0.4343133439, 0, 0.8686266878, 0],
    "gelu": [0.2820947918, 0.5, 0.4231421877, 0, -0.3526184897, 0, 0.7404988284],
    "softplus": [0.8060591833, 0.5, 0.2066209641, 0, -0.06239648396, 0, 0.06437997325],
    "sigmoid": [0.5, 0.2066209641, 0, -0.06239648396, 0, 0.06437997325, 0],
}
SQUARES = {
    "relu": 0.5,
    "tanh": 0.3942944904,
    "erf": 0.4645590544,
    "gelu": 0.4252214826,
    "softplus": 0.9212459089,
    "sigmoid": 0.2933790359,
}
RESIDUALS = {
    "relu": [0.30140514, 0.10614888, 0.10614888, 0.068089128, 0.068089128],
    "tanh": [0.16557574, 0.16557574, 0.073360251, 0.073360251, 0.038334498],
    "erf": [0.20036435, 0.20036435, 0.093315912, 0.093315912, 0.049196104],
    "gelu": [0.30926366, 0.07822631, 0.07822631, 0.030635446, 0.030635446],
    "softplus": [0.14667823, 0.012976532, 0.012976532, 0.0024836811, 0.0024836811],
}
EIGHT_DIGITS = 1e-7


@pytest.mark.parametrize(("name", "values"), COEFFICIENTS.items())
def test_coefficients_have_their_printed_values(name, values):
    np.testing.assert_allclose(hermite.coefficients(name, 6), values, rtol=PRINTED, atol=1e-9)


@pytest.mark.parametrize(("name", "values"), RESIDUALS.items())
def test_residuals_have_their_printed_values(name, values):
    found = [hermite.residual(name, p) for p in range(1, 6)]
    np.testing.assert_allclose(found, values, rtol=EIGHT_DIGITS)


@pytest.mark.parametrize(("name", "value"), SQUARES.items())
def test_mean_squares_have_their_printed_values(name, value):
    sigma = hermite.activation(name)
    assert hermite.gaussian_mean(lambda z: sigma(z) ** 2) == pytest.approx(value, rel=PRINTED)


def test_closed_forms():
    first = 2 / sqrt(3 * pi)
    relu = [1 / sqrt(2 * pi), 0.5, 1 / sqrt(2 * pi), 0, -1 / sqrt(2 * pi), 0, 3 / sqrt(2 * pi)]
    gelu = [1 / (2 * sqrt(pi)), 0.5, 3 / (4 * sqrt(pi))]
    np.testing.assert_allclose(hermite.coefficients("relu", 6), relu, atol=1e-12)
    np.testing.assert_allclose(hermite.coefficients("gelu", 2), gelu, atol=1e-13)
    found = hermite.coefficients("erf", 3)
    np.testing.assert_allclose(found, [0, first, 0, -2 * first / 3], atol=1e-13)
    erf = hermite.activation("erf")
    square = hermite.gaussian_mean(lambda z: erf(z) ** 2)
    assert square == pytest.approx(2 / pi * asin(2 / 3), rel=ROOT)


def test_gauss_hermite_gets_kinks_wrong():
    node, weight = np.polynomial.hermite_e.hermegauss(100)
    plain = weight @ np.maximum(node, 0) / sqrt(2 * pi)
    assert abs(plain - 1 / sqrt(2 * pi)) > 1e-3  # why the quadrature is piecewise
    assert abs(hermite.coefficients("relu", 0)[0] - 1 / sqrt(2 * pi)) < 1e-12


@pytest.mark.parametrize("name", hermite.ACTIVATIONS)
def test_coefficients_are_integrals(name):
    sigma = hermite.activation(name)

    def moment(j):
        def integrand(z):
            z = np.array(z)
            return float(sigma(z) * hermite.polynomials(z, j)[j] * stats.norm.pdf(z))

        return sum(integrate.quad(integrand, *ends)[0] for ends in ((-12, 0), (0, 12)))

    np.testing.assert_allclose(
        hermite.coefficients(name, 4), [moment(j) for j in range(5)], atol=1e-9
    )


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu"])
def test_residual_is_what_the_squares_leave(name):
    c = hermite.coefficients(name, 4)
    kept = sum(c[j] ** 2 / factorial(j) for j in range(5))
    assert hermite.residual(name, 4) ** 2 == pytest.approx(SQUARES[name] - kept, rel=1e-6)


def test_scaled_coefficients_have_their_printed_values():
    tanh = hermite.scaled_coefficients("tanh", [0.6, 1.5], 3)
    np.testing.assert_allclose(tanh[:, 1], [0.466232815, 0.6890274286], rtol=PRINTED)
    np.testing.assert_allclose(tanh[:, 3], [-0.1751599742, -0.5219674205], rtol=PRINTED)
    rest = hermite.scaled_residual("tanh", [0.6, 1.5], 4)
    np.testing.assert_allclose(rest, [0.021418866, 0.14311273], rtol=EIGHT_DIGITS)
    gelu = hermite.scaled_coefficients("gelu", [0.6], 4)[0]
    expected = [0.123152466, 0.3, 0.2137057497, 0, -0.1045091428]
    np.testing.assert_allclose(gelu, expected, rtol=1e-8, atol=1e-12)


def test_relu_scales_with_its_argument():
    scaled = hermite.scaled_coefficients("relu", [0.0, 0.5, 2.0], 4)
    one = hermite.coefficients("relu", 4)
    np.testing.assert_allclose(scaled, np.outer([0.0, 0.5, 2.0], one), atol=1e-12)


def test_polynomials_are_orthogonal():
    def product(i, j):
        return hermite.gaussian_mean(lambda z: np.prod(hermite.polynomials(z, 6)[[i, j]], axis=0))

    gram = [[product(i, j) for j in range(6)] for i in range(6)]
    np.testing.assert_allclose(gram, np.diag([factorial(j) for j in range(6)]), atol=1e-9)


@pytest.mark.parametrize("name", hermite.ACTIVATIONS)
def test_derivatives_are_slopes(name):
    z = np.array([-3.0, -0.4, 0.3, 2.5])
    exact = hermite.derivative(name)(z)
    np.testing.assert_allclose(exact, hermite.derivative(hermite.activation(name))(z), atol=1e-9)


@pytest.mark.parametrize("name", hermite.ACTIVATIONS)
def test_single_precision_stays_single(name):
    z = np.array([-1.0, 0.5], dtype=np.float32)
    assert hermite.activation(name)(z).dtype == np.float32
    assert hermite.derivative(name)(z).dtype == np.float32
    assert hermite.derivative(hermite.activation(name))(z).dtype == np.float32
    assert hermite.polynomials(z, 3).dtype == np.float32


def test_a_callable_serves_as_well_as_a_name():
    np.testing.assert_array_equal(hermite.coefficients(np.tanh, 5), hermite.coefficients("tanh", 5))


@pytest.mark.parametrize("name", hermite.ACTIVATIONS)
def test_extreme_arguments_stay_finite(name):
    z = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    assert np.isfinite(hermite.activation(name)(z)).all()
    assert np.isfinite(hermite.derivative(name)(z)).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: hermite.coefficients("sine", 2), ValueError, "activation must be one of relu"),
        (lambda: hermite.coefficients(3, 2), TypeError, "a name or a callable, got int"),
        (lambda: hermite.coefficients("relu", -1), ValueError, "degree must be >= 0"),
        (lambda: hermite.coefficients("relu", 61), ValueError, "degree must be at most 60"),
        (lambda: hermite.coefficients("relu", 2.0), TypeError, "degree must be an integer"),
        (lambda: hermite.gaussian_mean(lambda z: z[:3]), ValueError, "keep the shape"),
        (lambda: hermite.gaussian_mean(lambda z: z * np.nan), ValueError, "must be finite"),
        (lambda: hermite.scaled_coefficients("relu", [-1.0], 2), ValueError, "scales must be >="),
        (lambda: hermite.polynomials([np.inf], 2), ValueError, "z must be finite"),
        (lambda: hermite.polynomials([1e300], 2), ValueError, "z must be moderate for degree 2"),
        (lambda: hermite.scaled_residual("relu", [1e308], 2), ValueError, "scales must be at most"),
        (lambda: hermite.gaussian_mean(None), TypeError, "function must be a function, got None"),
        (lambda: hermite.coefficients(lambda _: None, 2), TypeError, "values of activation"),
        (lambda: hermite.checked(lambda _: 1.0)(np.ones(2)), ValueError, "write it for arrays"),
        (lambda: hermite.derivative(lambda _: "x")(np.ones(2)), TypeError, "real numbers"),
        (lambda: hermite.activation(3, name="link"), TypeError, "link must be a name"),
    ],
)
def test_bad_input_gets_one_clear_line(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
