"""The kinds of check: each passes, fails, refuses NaN, keeps its boundary, and has power."""

import math

import numpy as np
import pytest

from iclkit.bench.checks import KINDS, Data, family_limit, perform, power

SIZES = np.array([10.0, 20.0, 40.0])
X = np.array([1.0, 2.0, 4.0, 8.0])
GRID = np.linspace(0, 2, 21)
BUMP = -((GRID - 0.7) ** 2)

# kind: (tolerance, data that hold, data that do not)
CASES = {
    "close": (
        1e-3,
        Data([1.0005, -2.0], expected=[1.0, -2.0]),
        Data([1.002, -2.0], expected=[1.0, -2.0]),
    ),
    "sigmas": (
        "family",
        Data([1.02, 0.97], expected=1.0, stderr=0.01),
        Data([1.02, 0.95], expected=1.0, stderr=0.01),
    ),
    "limit": (
        3.5,
        Data(2 + 3 / SIZES, expected=2.0, stderr=[0.01, 0.01, 0.01], size=SIZES),
        Data(2 + 3 / SIZES, expected=2.1, stderr=[0.01, 0.01, 0.01], size=SIZES),
    ),
    "below": (
        4,
        Data([0.5, 0.7], expected=1.0, stderr=0.05),
        Data([0.5, 0.9], expected=1.0, stderr=0.05),
    ),
    "above": (
        4,
        Data([1.5, 1.3], expected=1.0, stderr=0.05),
        Data([1.5, 1.1], expected=1.0, stderr=0.05),
    ),
    "order": (
        2,
        Data([1.0, 1.5, 1.49, 2.0], expected="increasing", x=X, stderr=0.05),
        Data([1.0, 1.5, 1.2, 2.0], expected="increasing", x=X, stderr=0.05),
    ),
    "peak": (0.1, Data(BUMP, x=GRID, at=0.75), Data(BUMP, x=GRID, at=0.85)),
    "slope": (0.05, Data(3 * X**-0.52, expected=-0.5, x=X), Data(3 * X**-0.6, expected=-0.5, x=X)),
    "ratio": (0.1, Data([2.1, 1.9], expected=2.0), Data([2.1, 1.7], expected=2.0)),
}


@pytest.mark.parametrize("kind", CASES)
def test_holds(kind):
    tolerance, good, _ = CASES[kind]
    outcome = perform(kind, tolerance, good)
    assert outcome.passed
    assert outcome.resolution > 0


@pytest.mark.parametrize("kind", CASES)
def test_fails(kind):
    tolerance, _, bad = CASES[kind]
    outcome = perform(kind, tolerance, bad)
    assert not outcome.passed
    assert math.isfinite(outcome.score)


def test_every_kind_is_tested():
    assert CASES.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("field", ["measured", "expected", "stderr", "at"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_never_pass(kind, field, bad):
    tolerance, good, _ = CASES[kind]
    value = getattr(good, field)
    if value is None or isinstance(value, str) or (field == "stderr" and bad < 0):
        return
    broken = np.array(value, dtype=float)
    broken.flat[-1] = bad
    assert not perform(kind, tolerance, good._replace(**{field: broken})).passed


@pytest.mark.parametrize("kind", ["close", "sigmas", "limit", "below", "above", "slope", "ratio"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_unknown_or_infinite_error_excuses_nothing(kind, bad):
    tolerance, good, _ = CASES[kind]
    shape = np.shape(good.measured)
    assert not perform(kind, tolerance, good._replace(stderr=np.full(shape, bad))).passed


@pytest.mark.parametrize("kind", ["sigmas", "below", "above"])
def test_a_standard_error_of_zero_never_passes(kind):
    tolerance, good, _ = CASES[kind]
    assert not perform(kind, tolerance, good._replace(stderr=0.0)).passed


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "order"])
def test_power(kind):
    tolerance, good, _ = CASES[kind]
    assert power(kind, tolerance, good)
    assert not power(kind, tolerance, good, factor=0.9)


@pytest.mark.parametrize("kind", ["close", "slope", "ratio"])
def test_power_with_sampling_error(kind):
    tolerance, good, _ = CASES[kind]
    noisy = good._replace(stderr=0.01 * np.abs(good.measured))
    assert perform(kind, tolerance, noisy).resolution > perform(kind, tolerance, good).resolution
    assert power(kind, tolerance, noisy)


def test_power_of_an_order_is_a_step_back_beyond_its_resolution():
    tolerance, good, _ = CASES["order"]
    resolution = perform("order", tolerance, good).resolution
    values = np.array(good.measured)
    values[2] -= 1.5 * resolution * values[2]
    assert not perform("order", tolerance, good._replace(measured=values)).passed
    with pytest.raises(ValueError, match="no number to shift"):
        power("order", tolerance, good)


@pytest.mark.parametrize(
    ("kind", "tolerance", "data", "passed"),
    [
        ("close", 0.5, Data(1.5, expected=1.0), True),
        ("close", 0, Data(0, expected=0), True),
        ("close", 0, Data(1, expected=0), False),
        ("sigmas", 2, Data(1.5, expected=1.0, stderr=0.25), True),
        ("below", 2, Data(0.5, expected=1.0, stderr=0.25), False),
        ("below", 0, Data(1.0, expected=1.0), False),
        ("above", 0, Data(1.0, expected=1.0), False),
        ("above", 0, Data(np.nextafter(1.0, 2), expected=1.0), True),
        ("order", 0, Data([1.0, 1.0], expected="increasing", x=[1, 2]), True),
        ("peak", 0.25, Data(1.25, at=1.0), True),
    ],
)
def test_boundaries(kind, tolerance, data, passed):
    assert perform(kind, tolerance, data).passed is passed


def test_integers_just_work():
    assert perform("close", 0, Data(np.array([1, 2]), expected=[1, 2])).passed


def test_family_limit_is_bonferroni():
    assert [round(family_limit(m), 2) for m in (50, 200, 1000)] == [4.26, 4.56, 4.89]
    with pytest.raises(ValueError, match="comparisons must be >= 1, got 0"):
        family_limit(0)


def test_family_limit_keeps_its_error_rate():
    # 4,000 families of 20 true statements at level 0.2: false alarms are binomial.
    z = np.random.default_rng(0).normal(size=(4000, 20))
    alarms = np.mean(np.abs(z).max(axis=1) > family_limit(20, level=0.2))
    assert abs(alarms - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 4000)


def test_family_needs_standard_errors():
    with pytest.raises(ValueError, match="needs standard errors"):
        perform("close", "family", Data(1.0, expected=1.0))


def test_the_worst_comparison_is_reported():
    outcome = perform("close", 0.1, Data([1.0, 2.2, 3.0], expected=[1.0, 2.0, 3.0]))
    assert (outcome.measured, outcome.expected, outcome.comparisons) == (2.2, 2.0, 3)


def test_sampling_error_is_allowed_on_top_of_a_tolerance():
    data = Data(1.05, expected=1.0)
    assert not perform("close", 0.03, data).passed
    assert perform("close", 0.03, data._replace(stderr=0.01)).passed
    assert not perform("close", 0.03, data._replace(stderr=0.001)).passed


def test_limit_removes_a_bias_in_one_over_size():
    stderr = np.full(3, 0.01)
    raw = Data(2 + 3 / SIZES, expected=2.0, stderr=stderr)
    assert not perform("sigmas", "family", raw).passed
    assert perform("limit", "family", raw._replace(size=SIZES)).passed


def test_limit_has_the_error_of_the_weighted_fit():
    stderr = np.array([0.01, 0.02, 0.05])
    rng = np.random.default_rng(3)
    values = 2 + 3 / SIZES + stderr * rng.normal(size=(4000, 3))
    outcome = perform("limit", 1e9, Data(values, expected=2.0, stderr=stderr, size=SIZES))
    design = np.column_stack([np.ones(3), 1 / SIZES]) / stderr[:, None]
    assert outcome.stderr == pytest.approx(np.sqrt(np.linalg.inv(design.T @ design)[0, 0]))
    assert outcome.score < family_limit(4000)


def test_limit_needs_two_sizes():
    with pytest.raises(ValueError, match="two different values"):
        perform("limit", 3, Data([1.0, 1.0], expected=1.0, stderr=0.1, size=[10, 10]))


def test_order_compares_all_pairs_so_that_a_slow_drift_is_seen():
    drift = Data(np.linspace(1.0, 0.8, 11), expected="increasing", x=np.arange(11), stderr=0.02)
    assert not perform("order", 4, drift).passed


def test_order_sorts_by_x_and_knows_both_directions():
    data = Data([3.0, 1.0, 2.0], expected="decreasing", x=[1, 3, 2])
    assert perform("order", 0, data).passed
    assert not perform("order", 0, data._replace(expected="increasing")).passed
    with pytest.raises(ValueError, match="increasing"):
        perform("order", 0, data._replace(expected="up"))


def test_peak_finds_minima_and_crossings():
    assert perform("peak", 1e-9, Data(-BUMP, x=GRID, at=0.7, expected="minimum")).passed
    assert perform("peak", 1e-9, Data(GRID**1, x=GRID, at=0.55, expected=0.55)).passed


@pytest.mark.parametrize(
    ("curve", "expected"),
    [(GRID, "maximum"), (GRID, "minimum"), (GRID, 5.0), (np.sin(9 * GRID), 0.5)],
)
def test_a_peak_at_the_edge_or_an_unclear_crossing_is_not_found(curve, expected):
    outcome = perform("peak", 100.0, Data(curve, x=GRID, at=1.0, expected=expected))
    assert not outcome.passed


def test_slope_is_weighted_by_the_errors():
    values = 3 * X**-0.5
    values[-1] *= 2
    stderr = np.array([1e-4, 1e-4, 1e-4, 10.0]) * values
    assert perform("slope", 0.01, Data(values, expected=-0.5, x=X, stderr=stderr)).passed
    assert not perform("slope", 0.01, Data(values, expected=-0.5, x=X)).passed


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("sigmas", Data(1.0, expected=1.0), "needs stderr"),
        ("close", Data(1.0, expected=1.0, size=3), "does not use size"),
        ("close", Data([1.0, 2.0], expected=[1.0, 2.0, 3.0]), "must fit, got shapes"),
        ("close", Data([], expected=1.0), "measured must not be empty"),
        ("close", Data(1.0, expected=1.0, stderr=-1.0), "stderr must be >= 0, got -1.0"),
        ("slope", Data([1.0, 2.0], expected=1.0, x=[0.0, 1.0]), "x must be > 0"),
        ("slope", Data([1.0, 2.0], expected=1.0, x=[1.0, 2.0, 3.0]), "x must be 1-d"),
        ("peak", Data(BUMP, x=GRID, at=1.0, expected="top"), "expected must be"),
    ],
)
def test_bad_arguments(kind, data, message):
    with pytest.raises(ValueError, match=message):
        perform(kind, 1.0, data)


def test_words_are_not_numbers():
    with pytest.raises(TypeError, match="measured must be numbers, got 'a'"):
        perform("close", 1.0, Data("a", expected=1.0))
