"""Errors of random features: reference values, definitions by loops, simulation, limits."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.papers.dual_kernel.attention import attend, look_up
from iclkit.papers.dual_kernel.errors import (
    output_error_bound,
    output_expansion,
    output_variance,
    projections_needed,
    relative_covariance,
    relative_variance,
)
from iclkit.papers.dual_kernel.maps import KINDS, centre, feature_map, kernel_ratios
from iclkit.papers.dual_kernel.orthogonal import block_covariance
from iclkit.papers.dual_kernel.projections import normal_projections, orthogonal_projections
from iclkit.rng import stream
from tests.instances import det, tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED, SIGMAS

CORE = look_up(*tokens_and_weights())[:3]
SHORT = look_up(*tokens_and_weights(scale=0.35))[:3]
SAMPLERS = {"independent": normal_projections, "orthogonal": orthogonal_projections}

REFERENCE = {
    "positive": [
        [0.1151899499, 0.2260229104, 2.890287864, 22.15323909, 19.89047735, 0.2540537805],
        3.660803136,
        9.267133474,
        1.893519278,
    ],
    "hyperbolic": [
        [0.005949087225, 0.02083417674, 1.073669125, 10.5982148, 9.469173025, 0.02573387377],
        1.437679217,
        4.049596682,
        0.9280128942,
    ],
    "trigonometric": [
        [22.93184547, 7.071270839, 0.2973952006, 0.003163516472, 0.002665364396, 4.959612376],
        0.1372058895,
        0.3394522926,
        0.3773381862,
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_reference_values(kind):
    tokens, last, exact, own = REFERENCE[kind]
    x, y, v = CORE
    assert np.allclose(relative_variance(kind, x, y), [*tokens, last], rtol=PRINTED)
    assert output_variance(kind, x, y, v, normalised=False) == pytest.approx(exact, rel=PRINTED)
    assert output_variance(kind, x, y, v) == pytest.approx(own, rel=PRINTED)


def test_reference_value_of_centred_keys():
    shifted = output_variance("positive", *CORE, shift=centre(*CORE[:2]))
    assert shifted == pytest.approx(0.3433004624, rel=PRINTED)


def test_values_of_the_exercise():
    x, y = pair_with(1.5, 0.2)
    expected = {"positive": 3.48169, "hyperbolic": 1.35241, "trigonometric": 0.0200668}
    for kind, value in expected.items():
        assert relative_variance(kind, x, y) == pytest.approx(value, rel=5e-6)
    needed = [projections_needed(k, x, y, error=0.05) for k in ("positive", "hyperbolic")]
    assert np.ceil(needed).tolist() == [1393, 541]


def pair_with(plus, minus):
    """Return two vectors with |x + y|^2 = plus and |x - y|^2 = minus."""
    total, difference = np.array([np.sqrt(plus), 0.0]), np.array([0.0, np.sqrt(minus)])
    return (total + difference) / 2, (total - difference) / 2


def test_numbers_of_projections():
    x, y = pair_with(2.0, 0.0)
    found = [projections_needed(k, x, y, error=0.1) for k in ("positive", "hyperbolic")]
    assert np.round(found, 3).tolist() == [638.906, 276.220]
    wide = np.append(x, np.zeros(6))
    best = projections_needed("positive", wide, wide, error=0.1, rho=0.5615528128)
    assert round(best, 3) == 326.982


def test_many_keys_share_the_failure():
    x, y, _ = CORE
    worst = relative_variance("positive", x, y).max()
    assert projections_needed("positive", x, y, error=0.1) == pytest.approx(100 * worst)
    total = relative_variance("positive", x, y).sum()
    found = projections_needed("positive", x, y, error=0.1, failure=0.02)
    assert found == pytest.approx(100 * total / 0.02)


# ------------------------------------------------------------------ definitions


def moment_by_quadrature(kind, first, second, rho):
    """The mean of two ratios by Gauss-Hermite nodes, from the definition of the features."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    A = (1 - 1 / rho) / 8
    total = 0.0
    for (u, p), (w, q) in product(zip(nodes, weights, strict=True), repeat=2):
        omega = np.array([u, w])
        scale = (1 - 4 * A) ** 1.0 * np.exp(2 * A * (omega @ omega))
        parts = []
        for z in (first, second):
            angle, half = np.sqrt(1 - 4 * A) * (omega @ z), (z @ z) / 2
            if kind == "trigonometric":
                parts.append(scale * np.cos(angle) * np.exp(half))
            elif kind == "hyperbolic":
                parts.append(scale * np.cosh(angle) * np.exp(-half))
            else:
                parts.append(scale * np.exp(angle - half))
        total += p * q / (2 * np.pi) * parts[0] * parts[1]
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rho", [1.0, 0.5, 1.4])
def test_covariance_is_the_integral(kind, rho):
    x, keys = np.array([0.4, -0.3]), np.array([[0.5, 0.1, -0.7], [0.2, -0.6, 0.3]])
    found = relative_covariance(kind, x, keys, rho=rho)
    sign = -1 if kind == "trigonometric" else 1
    points = (x[:, None] + sign * keys).T
    by_hand = [[moment_by_quadrature(kind, p, q, rho) - 1 for q in points] for p in points]
    assert np.allclose(found, by_hand, rtol=1e-9, atol=1e-11)
    assert np.allclose(np.diag(found), relative_variance(kind, x, keys, rho=rho), rtol=IDENTITY)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("sampling", SAMPLERS)
@pytest.mark.parametrize("kind", KINDS)
def test_output_variance_by_loops(kind, sampling, normalised):
    x, y, v = CORE
    shift = np.array([0.1, -0.3, 0.2])
    options = {"rho": 0.8, "sampling": sampling}
    covariance = relative_covariance(kind, x, y - shift[:, None], **options)
    weights = np.exp(x @ y) / np.exp(x @ y).sum()
    away = v - (v @ weights)[:, None] if normalised else v
    total = 0.0
    for i, j in product(range(7), repeat=2):
        total += weights[i] * weights[j] * (away[:, i] @ away[:, j]) * covariance[i, j]
    found = output_variance(kind, *CORE, normalised=normalised, shift=shift, **options)
    assert found == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("sampling", SAMPLERS)
@pytest.mark.parametrize("kind", KINDS)
def test_many_queries_are_many_single_ones(kind, sampling):
    _, y, v = CORE
    queries = 0.7 * y[:, :4]
    together = output_variance(kind, queries, y, v, sampling=sampling)
    alone = [output_variance(kind, q, y, v, sampling=sampling) for q in queries.T]
    assert np.allclose(together, alone, rtol=1e-10)
    stacked = relative_covariance(kind, queries, y, sampling=sampling)
    single = relative_covariance(kind, queries[:, 2], y, sampling=sampling)
    assert np.allclose(stacked[2], single, rtol=1e-9, atol=IDENTITY)


def test_orthogonal_covariance_adds_the_block():
    x, y, _ = CORE
    more = relative_covariance("positive", x, y, sampling="orthogonal")
    plain = relative_covariance("positive", x, y)
    assert np.allclose(more - plain, 2 * block_covariance("positive", x[:, None] + y), atol=1e-12)
    variances = relative_variance("positive", x, y, sampling="orthogonal")
    assert np.allclose(variances, np.diag(more), rtol=1e-9)


def test_one_dimension_has_no_blocks():
    args = "hyperbolic", [0.5], [[0.2, -0.4]]
    both = [relative_covariance(*args, sampling=s) for s in SAMPLERS]
    assert np.array_equal(*both)


# ------------------------------------------------------------------ simulation


@pytest.mark.parametrize("rho", [1.0, 0.7])
@pytest.mark.parametrize("sampling", SAMPLERS)
@pytest.mark.parametrize("kind", KINDS)
def test_exact_normaliser_at_any_number(kind, sampling, rho, rng):
    """Six projections: the error of the output is that of the formula, not only for many."""
    x, y, v = SHORT
    weights = attend(look_up(*tokens_and_weights(scale=0.35))).weights
    rows = SAMPLERS[sampling](6 * 100_000, 3, rng=rng)
    ratios = kernel_ratios(feature_map(kind, rows, rho=rho), x, y).reshape(-1, 6, 7).mean(axis=1)
    squares = np.sum(((ratios - 1) * weights @ v.T) ** 2, axis=1)
    error = squares.std() / np.sqrt(len(squares))
    options = {"normalised": False, "rho": rho, "sampling": sampling}
    assert abs(squares.mean() - output_variance(kind, x, y, v, **options) / 6) < SIGMAS * error


@pytest.mark.parametrize("kind", ["positive", "hyperbolic"])
def test_expansion_of_the_own_normaliser(kind, rng):
    """At 50 projections the second order counts, and first plus second is right."""
    x, y, v = (0.7 * part for part in SHORT)
    weights = np.exp(x @ y) / np.exp(x @ y).sum()
    phi = feature_map(kind, normal_projections(50 * 60_000, 3, rng=rng))
    ratios = kernel_ratios(phi, x, y).reshape(-1, 50, 7).mean(axis=1) * weights
    errors = (ratios @ v.T) / ratios.sum(axis=1, keepdims=True) - v @ weights
    found = output_expansion(kind, x, y, v)
    squares = np.sum(errors**2, axis=1)
    error = squares.std() / np.sqrt(len(squares))
    second = abs(found.second) / 50**2
    # what the third order may be: the ratio of two orders is that of the two before
    rest = second**2 / (found.first / 50)
    predicted = found.first / 50 + found.second / 50**2
    assert abs(squares.mean() - predicted) < SIGMAS * error + 3 * rest
    bias = errors.mean(axis=0) - found.bias / 50
    spread = errors.std(axis=0) / np.sqrt(len(errors))
    assert np.all(np.abs(bias) < SIGMAS * spread + np.abs(found.bias) * second / found.first)
    assert np.any(np.abs(found.bias / 50) > 5 * spread)


def test_expansion_by_loops():
    """The moments of the expansion, one triple at a time, by simulation-free sums."""
    x, y, v = SHORT
    weights = np.exp(x @ y) / np.exp(x @ y).sum()
    z, away = x[:, None] + y, v - (v @ weights)[:, None]
    n = range(y.shape[1])
    pair = np.array([[np.exp(z[:, i] @ z[:, j]) for j in n] for i in n])
    first = sum(weights[i] * weights[j] * (away[:, i] @ away[:, j]) * pair[i, j]
                for i, j in product(n, n))  # fmt: skip
    third = -first
    for i, j, k in product(n, n, n):
        moment = pair[i, j] * pair[i, k] * pair[j, k]
        third += weights[i] * weights[j] * weights[k] * (away[:, i] @ away[:, j]) * moment
    cross = sum(weights[i] * weights[j] * pair[i, j] * away[:, i] for i, j in product(n, n))
    spread = weights @ pair @ weights - 1
    found = output_expansion("positive", x, y, v)
    assert found.first == pytest.approx(first, rel=IDENTITY)
    assert found.second == pytest.approx(3 * (first * spread + 2 * cross @ cross) - 2 * third)
    assert found.bias == pytest.approx(-cross)
    assert found.first == pytest.approx(output_variance("positive", x, y, v), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_third_moments_are_integrals(kind):
    """One dimension, three ratios, Gauss-Hermite."""
    nodes, probabilities = np.polynomial.hermite_e.hermegauss(100)
    phi = feature_map(kind, nodes[:, None])
    x, y, v = np.array([0.3]), np.array([[0.4, -0.8, 0.1]]), np.array([[1.0, 2.0, -1.0]])
    ratios = kernel_ratios(phi, x, y)
    weights = np.exp(x @ y) / np.exp(x @ y).sum()
    F, G = ratios @ (weights * (v - v @ weights[:, None])[0]), ratios @ weights - 1
    p = probabilities / probabilities.sum()
    first, spread, cross, third = (p @ part for part in (F**2, G**2, F * G, F**2 * G))
    found = output_expansion(kind, x, y, v)
    assert found.second == pytest.approx(3 * (first * spread + 2 * cross**2) - 2 * third, rel=1e-8)
    assert found.bias == pytest.approx([-cross], rel=1e-8)


# ------------------------------------------------------------------ identities and limits


def test_hyperbolic_and_trigonometric_meet_at_the_same_centre():
    """For one query both see the keys about a centre: x + y - c and x - y + c'."""
    x = CORE[0]
    c = np.array([0.4, 0.1, -0.2])
    hyperbolic = output_variance("hyperbolic", *CORE, shift=c)
    trigonometric = output_variance("trigonometric", *CORE, shift=c - 2 * x)
    assert hyperbolic == pytest.approx(trigonometric, rel=IDENTITY)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), scale=st.floats(0.01, 3), seed=st.integers(0, 10_000))
def test_properties(kind, scale, seed):
    draw = stream(seed, "errors")
    x, y, v = (
        scale * draw.normal(size=4),
        scale * draw.normal(size=(4, 6)),
        draw.normal(size=(2, 6)),
    )
    covariance = relative_covariance(kind, x, y)
    values = np.linalg.eigvalsh(covariance)
    assert values.min() > -1e-10 * values.max()
    value = output_variance(kind, x, y, v)
    assert value >= 0
    assert output_variance(kind, x, y, 3 * v + 1) == pytest.approx(9 * value, rel=1e-6)
    same = output_variance(kind, x, y, np.ones((1, 6)))
    assert abs(same) < IDENTITY * (1 + covariance.max())


def test_equal_values_err_only_with_the_exact_normaliser():
    x, y, _ = CORE
    ones = np.ones((1, 7))
    assert output_variance("positive", x, y, ones) == pytest.approx(0, abs=1e-12)
    assert output_variance("positive", x, y, ones, normalised=False) > 1


@pytest.mark.parametrize("sampling", SAMPLERS)
@pytest.mark.parametrize("kind", KINDS)
def test_long_tokens_do_not_overflow_to_nan(kind, sampling):
    x = np.array([30.0, 0.0])
    y = np.array([[30.0, 29.9, -30.0], [0.0, 0.1, 1.0]])
    value = output_variance(kind, x, y, np.eye(3), sampling=sampling)
    assert value >= 0
    assert not np.isnan(value)
    variances = relative_variance(kind, x, y, sampling=sampling)
    assert np.isinf(variances).any()
    assert not np.isnan(variances).any()


def test_small_norms_keep_their_digits():
    x, y = np.array([1e-5, 0.0]), np.array([0.0, 1e-5])
    s = 2e-10
    assert relative_variance("positive", x, y) == pytest.approx(s, rel=1e-9)
    assert relative_variance("hyperbolic", x, y) == pytest.approx(s**2 / 2, rel=1e-9)


def test_integers_work():
    assert relative_variance("positive", [1, 0], [0, 1]) == pytest.approx(np.expm1(2.0))


# ------------------------------------------------------------------ the deterministic bound


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), e=st.floats(0.01, 0.95))
def test_bound_holds_for_the_worst_signs(seed, e):
    draw = stream(seed, "bound")
    n = int(draw.integers(2, 9))
    x, y, v = draw.normal(size=3), draw.normal(size=(3, n)), draw.normal(size=(2, n))
    weights = np.exp(x @ y) / np.exp(x @ y).sum()
    signs = np.array(list(product((1 - e, 1 + e), repeat=n)))
    estimates = (signs * weights) @ v.T / (signs @ weights)[:, None]
    worst = np.linalg.norm(estimates - v @ weights, axis=1).max()
    assert worst <= output_error_bound(x, y, v, e) * (1 + IDENTITY)


@pytest.mark.parametrize("e", [0.1, 0.5, 0.9])
def test_bound_is_attained(e):
    """Two tokens with weights (1 +- e)/2 whose entries err in opposite directions."""
    weights = np.array([(1 + e) / 2, (1 - e) / 2])
    x, y, v = np.ones(1), np.log(weights)[None], np.array([[1.0, -1.0]])
    wrong = weights * [1 - e, 1 + e]
    error = abs(v @ wrong / wrong.sum() - v @ weights)[0]
    assert output_error_bound(x, y, v, e) == pytest.approx(error, rel=IDENTITY)


# ------------------------------------------------------------------ bad input

GOOD = {"query": CORE[0], "keys": CORE[1], "values": CORE[2]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "cosine"}, "kind must be one of"),
        ({"rho": 0.0}, "rho must be finite and > 0, got 0.0"),
        ({"sampling": "sobol"}, "sampling must be one of independent, orthogonal, got 'sobol'"),
        ({"query": [1.0]}, "queries and keys must have one length"),
        ({"keys": np.full((3, 7), np.nan)}, "keys must be finite"),
        ({"values": np.ones((2, 3))}, "keys and values must have as many columns"),
        ({"shift": [1.0]}, "shift must have length 3"),
    ],
)
def test_output_variance_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        output_variance(**{"kind": "positive", **GOOD, **change})


def test_others_reject():
    with pytest.raises(ValueError, match="kind must be one of"):
        relative_variance("cosine", [1.0], [1.0])
    with pytest.raises(ValueError, match="x and y must have one length"):
        relative_variance("positive", [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="y must be a vector or a matrix of columns"):
        relative_variance("positive", [1.0], 2.0)
    with pytest.raises(ValueError, match="keys must have 2 axes"):
        relative_covariance("positive", [1.0], 2.0)
    with pytest.raises(ValueError, match="query and keys must have one length"):
        relative_covariance("positive", [1.0], [[1.0], [2.0]])
    with pytest.raises(TypeError, match="y must hold real numbers"):
        relative_variance("positive", [1.0], ["a"])
    with pytest.raises(ValueError, match=r"error must be finite and > 0, got 0\.0"):
        projections_needed("positive", [1.0], [1.0], error=0.0)
    with pytest.raises(ValueError, match=r"failure must be <= 1, got 2\.0"):
        projections_needed("positive", [1.0], [1.0], error=0.1, failure=2)
    with pytest.raises(ValueError, match=r"error must be < 1, got 1\.0"):
        output_error_bound(*CORE, 1.0)
    with pytest.raises(ValueError, match="query must have 1 axes"):
        output_expansion("positive", CORE[1], CORE[1], CORE[2])


def test_monte_carlo_reference_of_the_specification():
    """200,000 draws at 16 projections, stored with their standard errors."""
    x, y = 0.6 * det(4, 1, 0)[:, 0], 0.6 * det(4, 1, 3)[:, 0]
    stored = {
        ("positive", "independent"): (0.12599, 0.00092),
        ("hyperbolic", "independent"): (0.04222, 0.00037),
        ("trigonometric", "independent"): (0.15449, 0.00049),
        ("positive", "orthogonal"): (0.11172, 0.00086),
        ("hyperbolic", "orthogonal"): (0.02776, 0.00024),
        ("trigonometric", "orthogonal"): (0.06265, 0.00020),
    }
    for (kind, sampling), (value, error) in stored.items():
        exact = relative_variance(kind, x, y, sampling=sampling) / 16
        assert abs(exact - value) < SIGMAS * error
