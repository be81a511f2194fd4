"""The best features: closed forms, minima that nothing near them undercuts, convexity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from iclkit.papers.dual_kernel import designs
from iclkit.papers.dual_kernel.attention import look_up
from iclkit.papers.dual_kernel.designs import (
    best_design,
    best_shift,
    optimal_positive,
    small_norm_shift,
)
from iclkit.papers.dual_kernel.errors import _value_pairs, output_variance, relative_variance
from iclkit.papers.dual_kernel.maps import KINDS, centre, feature_map, kernel_ratios
from iclkit.papers.dual_kernel.projections import normal_projections
from iclkit.rng import stream
from tests.instances import tokens_and_weights
from tests.tolerances import IDENTITY, MINIMUM, PRINTED, SIGMAS

CORE = look_up(*tokens_and_weights())[:3]


def test_reference_values_of_optimal_features():
    found = optimal_positive(2.0, 8)
    assert found == pytest.approx([0.5615528128, -0.0975970508, 3.269820306], rel=PRINTED)
    x = np.append(np.sqrt(2.0), np.zeros(7))
    assert relative_variance("positive", x, 0 * x) == pytest.approx(6.389056099, rel=PRINTED)
    assert relative_variance("hyperbolic", x, 0 * x) == pytest.approx(2.762195691, rel=PRINTED)


@settings(max_examples=80, deadline=None)
@given(s=st.floats(0, 200), dim=st.integers(1, 64))
def test_optimal_positive_is_the_minimum(s, dim):
    x = np.append(np.sqrt(s), np.zeros(dim - 1))
    found = optimal_positive(s, dim)

    def variance(log_rho):
        return np.log1p(relative_variance("positive", x, 0 * x, rho=np.exp(log_rho)))

    lowest = minimize_scalar(variance, bounds=(-8, 1), method="bounded").fun
    assert np.log1p(found.relative_variance) <= lowest + MINIMUM
    at = relative_variance("positive", x, 0 * x, rho=found.rho)
    assert found.relative_variance == pytest.approx(at, rel=1e-9, abs=1e-12)
    assert found.exponent == pytest.approx((1 - 1 / found.rho) / 8, abs=IDENTITY)


def test_optimal_positive_grows_like_a_power():
    """Doubling a long squared norm multiplies the variance by 2^(d/2), not by exp(s)."""
    first, second = (optimal_positive(s, 6).relative_variance for s in (1e5, 2e5))
    assert second / first == pytest.approx(8, rel=1e-3)
    assert optimal_positive(0, 3) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("kind", "minimum"), [("positive", 0.278158337), ("hyperbolic", 0.0720565935)]
)
def test_best_shift_of_core(kind, minimum):
    found = best_shift(*CORE, kind=kind)
    assert found.variance == pytest.approx(minimum, rel=1e-8)
    if kind == "positive":
        assert found.shift == pytest.approx([-0.03815, 0.66865, -0.74569], abs=1e-5)


def test_hyperbolic_and_trigonometric_features_have_one_minimum():
    x = CORE[0]
    one, other = (best_shift(*CORE, kind=kind) for kind in ("hyperbolic", "trigonometric"))
    assert one.variance == pytest.approx(other.variance, rel=1e-10)
    assert other.shift + 2 * x == pytest.approx(one.shift, abs=MINIMUM)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_queries", [1, 4])
@pytest.mark.parametrize("rho", [1.0, 0.6])
def test_nothing_near_undercuts_the_best_shift(kind, n_queries, rho, rng):
    _, y, v = CORE
    queries = y[:, :n_queries]
    found = best_shift(queries, y, v, kind=kind, rho=rho)

    def mean(shift):
        return np.mean(output_variance(kind, queries, y, v, shift=shift, rho=rho))

    assert mean(found.shift) == pytest.approx(found.variance, rel=IDENTITY)
    assert found.variance <= mean(centre(queries, y)) * (1 + IDENTITY)
    for _ in range(30):
        assert mean(found.shift + 0.02 * rng.standard_normal(3)) > found.variance


@pytest.mark.parametrize("n_queries", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_best_design_beats_shift_and_concentration_alone(kind, n_queries, rng):
    _, y, v = CORE
    queries = y[:, :n_queries]
    found = best_design(queries, y, v, kind=kind)
    assert found.variance < best_shift(queries, y, v, kind=kind).variance
    for _ in range(30):
        shift = found.shift + 0.02 * rng.standard_normal(3)
        rho = found.rho * np.exp(0.05 * rng.standard_normal())
        near = output_variance(kind, queries, y, v, shift=shift, rho=rho)
        assert np.mean(near) > found.variance


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_error_is_log_convex_in_natural_parameters(seed):
    """Precision l = 2 rho/(1 + rho) and l times the shift: on a line, no chord is undercut."""
    draw = stream(seed, "convex")
    x, y, v = draw.normal(size=3), draw.normal(size=(3, 6)), draw.normal(size=(2, 6))

    def log_error(precision, scaled):
        rho = precision / (2 - precision)
        value = output_variance("positive", x, y, v, rho=rho, shift=scaled / precision)
        return np.log(value)

    ends = [(draw.uniform(0.2, 1.8), draw.normal(size=3)) for _ in range(2)]
    middle = log_error(*(np.mean([one, other], axis=0) for one, other in zip(*ends, strict=True)))
    assert middle <= np.mean([log_error(*end) for end in ends]) + 1e-9


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_search_finds_one_minimum_from_everywhere(seed):
    draw = stream(seed, "starts")
    x, y, v = draw.normal(size=2), draw.normal(size=(2, 5)), draw.normal(size=(1, 5))
    best = best_shift(x, y, v)
    moved = 3 * draw.normal(size=2)
    again = best_shift(x, y - moved[:, None], v)  # keys moved: the same problem, another start
    assert again.variance == pytest.approx(best.variance, rel=1e-7)


@pytest.mark.parametrize("kind", ["positive", "hyperbolic"])
def test_short_keys_have_a_closed_form(kind):
    """The distance to the best shift falls at least in proportion to the size of keys."""
    x, y, v = CORE
    distances = []
    for size in (0.2, 0.05):
        parts = size * x, size * y, v
        found = best_shift(*parts, kind=kind).shift
        distances.append(np.linalg.norm(small_norm_shift(*parts) - found) / size)
    assert distances[1] < 0.5 * distances[0] < 0.05


def test_short_keys_by_least_squares():
    """The closed form minimises |T - M c^T - c M^T|^2, written out."""
    x, y, v = CORE
    weights = np.exp(x @ y) / np.exp(x @ y).sum()
    z, coefficients = x[:, None] + y, weights * (v - (v @ weights)[:, None])
    columns, target = [], []
    for w in coefficients:
        M, T = z @ w, (z * w) @ z.T
        target.append(T.ravel())
        columns.append([(np.outer(M, e) + np.outer(e, M)).ravel() for e in np.eye(3)])
    system = np.concatenate([np.transpose(part) for part in columns])
    expected = np.linalg.lstsq(system, np.concatenate(target), rcond=None)[0]
    assert small_norm_shift(x, y, v) == pytest.approx(expected, rel=1e-9)


def test_sampled_error_of_the_best_design(rng):
    """Predicted and sampled error of one projection's share, |F|^2, with its weights."""
    x, y, v = CORE
    found = best_design(x, y, v)
    phi = feature_map("positive", normal_projections(400_000, 3, rng=rng), rho=found.rho)
    weights = np.exp(x @ y) / np.exp(x @ y).sum()
    ratios = kernel_ratios(phi, x, y - found.shift[:, None])
    squares = np.sum((ratios * weights @ (v - (v @ weights)[:, None]).T) ** 2, axis=1)
    error = squares.std() / np.sqrt(len(squares))
    assert abs(squares.mean() - found.variance) < SIGMAS * error
    assert error < 0.01 * found.variance


@pytest.mark.parametrize("kind", KINDS)
def test_equal_values_have_nothing_to_choose(kind):
    x, y, _ = CORE
    found = best_shift(x, y, np.full((2, 7), 0.1), kind=kind)
    assert found.variance == 0
    assert found.shift == pytest.approx(centre(x, y))
    assert best_design(x, y, np.full((2, 7), 0.1)).variance == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("rho", [1.0, 0.7])
def test_slopes_are_those_of_the_error(kind, size, rho):
    """Central differences of the log error, for short keys as for long ones."""
    x, y, v = size * CORE[0][:, None], size * CORE[1], CORE[2]
    error = designs._Error(kind, x, y, _value_pairs(x, y, v, centred=True))
    shift, step = size * np.array([0.2, -0.3, 0.1]), 1e-4

    def difference(move, change):
        up, down = (error.at(shift + s * move, rho + s * change)[0] for s in (1, -1))
        return (up - down) / 2

    _, slope, by_rho = error.at(shift, rho)
    by_hand = [difference(step * size * e, 0.0) / (step * size) for e in np.eye(3)]
    scale = max(1.0 / size, np.abs(slope).max())  # by how much the log can change at all
    assert np.allclose(slope, by_hand, rtol=1e-5, atol=1e-7 * scale)
    assert by_rho == pytest.approx(difference(np.zeros(3), step) / step, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e-4, 5.0, 30.0])
def test_extreme_sizes(size):
    x, y, v = size * CORE[0], size * CORE[1], CORE[2]
    for found in (best_shift(x, y, v), best_design(x, y, v)):
        assert np.isfinite(found.shift).all()
        assert np.isfinite(found.variance)
        plain = output_variance("positive", x, y, v)
        assert found.variance <= plain * (1 + 1e-9) + 1e-16  # rounding of a sum of order 1


def test_rejects():
    with pytest.raises(ValueError, match="squared_norm must be finite and >= 0, got -1"):
        optimal_positive(-1.0, 3)
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        optimal_positive(1.0, 0)
    with pytest.raises(ValueError, match="kind must be one of"):
        best_shift(*CORE, kind="cosine")
    with pytest.raises(ValueError, match="rho must be finite and > 0"):
        best_shift(*CORE, rho=0.0)
    with pytest.raises(ValueError, match="queries and keys must have one length"):
        best_design([1.0], CORE[1], CORE[2])
    with pytest.raises(ValueError, match="values must be finite"):
        small_norm_shift(*CORE[:2], np.full((2, 7), np.inf))
