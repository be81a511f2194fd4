"""The kinds of check: each passes, fails, refuses NaN, keeps its boundary, and has power."""

import math
from fractions import Fraction

import numpy as np
import pytest

from iclkit.bench.checks import KINDS, Data, family_limit, perform

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
MARGINS = ["below", "above"]
EQUALITIES = [kind for kind in CASES if kind not in ("order", *MARGINS)]
EXCUSING = ["close", "slope", "ratio"]  # these allow sampling error on top of their tolerance


def power(kind, tolerance, data, *, factor):
    """Return whether each comparison alone notices its expectation off by `factor` resolutions.

    The measured values are first set to the expected ones, so that only the shift counts. Both
    directions must be noticed.
    """
    shape = KINDS[kind].scores(data).score.shape
    data = ideal(kind, data)
    resolution = perform(kind, tolerance, data).resolution
    shifts = [sign * factor * resolution for sign in (-1, 1)]
    shifted = [moved(data, place, by, shape) for place in np.ndindex(shape) for by in shifts]
    return not any(perform(kind, tolerance, d).passed for d in shifted)


def ideal(kind, data):
    """Return the data with the measured values exactly as expected."""
    stated = np.asarray(data.at if kind == "peak" else data.expected, dtype=float)
    if kind == "peak":
        return data._replace(measured=stated, x=None, expected=None)
    if kind == "limit":
        return data._replace(measured=stated[..., None] + 0 * np.asarray(data.measured))
    if kind == "slope":
        return rescaled(data, np.asarray(data.x) ** stated[..., None])
    return rescaled(data, stated + 0 * np.asarray(data.measured))


def rescaled(data, measured):
    """Return the data with other measured values of the same relative errors."""
    if data.stderr is None:
        return data._replace(measured=measured)
    factor = np.abs(measured / np.asarray(data.measured))
    return data._replace(measured=measured, stderr=np.asarray(data.stderr) * factor)


def moved(data, place, by, shape):
    """Return the data with the expectation of one comparison moved by a relative amount."""
    name = "expected" if data.at is None else "at"
    stated = np.broadcast_to(getattr(data, name), shape).astype(float)
    stated[place] += by * np.abs(stated[place])
    return data._replace(**{name: stated})


@pytest.mark.parametrize("kind", CASES)
def test_holds(kind):
    tolerance, good, _ = CASES[kind]
    outcome = perform(kind, tolerance, good)
    assert outcome.passed
    assert 0 < outcome.resolution < 1


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


@pytest.mark.parametrize("kind", EQUALITIES)
def test_power(kind):
    tolerance, good, _ = CASES[kind]
    assert power(kind, tolerance, good, factor=1.5)
    assert not power(kind, tolerance, good, factor=0.9)


@pytest.mark.parametrize("kind", EXCUSING)
def test_power_with_sampling_error(kind):
    tolerance, good, _ = CASES[kind]
    noisy = good._replace(stderr=0.01 * np.abs(good.measured))
    assert perform(kind, tolerance, noisy).resolution > perform(kind, tolerance, good).resolution
    assert power(kind, tolerance, noisy, factor=1.5)


@pytest.mark.parametrize("kind", ["close", "sigmas", "ratio"])
def test_power_in_the_weakest_of_unequal_comparisons(kind):
    tolerance = "family" if kind == "sigmas" else 0.01
    data = Data([1.0, 1.0, 1.0], expected=1.0, stderr=[0.001, 0.05, 0.01])
    assert power(kind, tolerance, data, factor=1.5)
    assert perform(kind, tolerance, data).resolution >= 0.05 * family_limit(3)


@pytest.mark.parametrize(("kind", "sign"), [("below", -1), ("above", 1)])
def test_the_resolution_of_an_ordering_is_the_least_margin_that_counts(kind, sign):
    tolerance, good, _ = CASES[kind]
    resolution = perform(kind, tolerance, good).resolution
    assert resolution == pytest.approx(4 * 0.05)
    assert perform(kind, tolerance, good._replace(measured=1 + sign * 1.1 * resolution)).passed
    assert not perform(kind, tolerance, good._replace(measured=1 + sign * 0.9 * resolution)).passed


def test_power_of_an_order_is_a_step_back_beyond_its_resolution():
    tolerance, good, _ = CASES["order"]
    resolution = perform("order", tolerance, good).resolution
    values = np.array(good.measured)
    values[2] = values[1] * (1 - 1.5 * resolution)
    assert not perform("order", tolerance, good._replace(measured=values)).passed


@pytest.mark.parametrize("kind", ["close", "sigmas", "ratio"])
def test_a_check_that_would_excuse_anything_fails(kind):
    tolerance = "family" if kind == "sigmas" else 0.1
    outcome = perform(kind, tolerance, Data([5.0, 1.0], expected=1.0, stderr=[3.0, 0.001]))
    assert outcome.resolution >= 3 * family_limit(2)
    assert not outcome.passed


@pytest.mark.parametrize("kind", KINDS)
def test_a_tolerance_of_the_whole_expectation_fails_unless_it_is_a_margin(kind):
    _, good, _ = CASES[kind]
    unsampled = good if kind in ("sigmas", "limit") else good._replace(stderr=None)
    tolerance = 1000 if kind in ("sigmas", "limit") else 1
    outcome = perform(kind, tolerance, unsampled)
    assert outcome.resolution >= 1
    assert not outcome.passed
    assert KINDS[kind].powerless(outcome.resolution) is (kind not in MARGINS)


def test_an_order_with_large_errors_is_powerless():
    data = Data([1.0, 0.9], expected="increasing", x=[1, 2], stderr=3.0)
    outcome = perform("order", 2, data)
    assert outcome.score < outcome.limit
    assert not outcome.passed
    assert not KINDS["order"].powerless(perform("order", 0, data).resolution)


def test_a_margin_is_never_powerless_but_hard_to_reach_with_large_errors():
    assert perform("above", 4, Data(9.0, expected=1.0, stderr=1.0)).passed
    assert not perform("above", 4, Data(4.9, expected=1.0, stderr=1.0)).passed


@pytest.mark.parametrize("factor", [1e-6, 0.01, 0.5])
def test_a_ratio_near_zero_is_not_excused_by_its_error(factor):
    assert not perform("ratio", 0.05, Data(factor, expected=1.0, stderr=0.001)).passed


def test_the_error_of_a_ratio_is_relative_to_the_expectation():
    data = Data([1.02, 0.98], expected=1.0, stderr=0.01)
    assert perform("ratio", 0.0, data).passed
    assert perform("ratio", 0.0, data).resolution == pytest.approx(0.01 * family_limit(2))
    assert not perform("ratio", 0.0, data._replace(measured=[1.02, 0.96])).passed


def test_a_slope_needs_points_that_differ_from_zero():
    data = Data([0.1, 0.05, 1e-9], expected=-1.0, x=SIZES, stderr=0.001)
    outcome = perform("slope", 0.1, data)
    assert math.isnan(outcome.score)
    assert not outcome.passed
    assert perform("slope", 0.1, data._replace(measured=[0.1, 0.05, 0.025])).passed
    weak = data._replace(measured=[0.1, 0.05, 0.025], stderr=0.005)  # the last is 5 errors high
    assert math.isfinite(perform("slope", 0.1, weak).score)
    assert math.isnan(perform("slope", 0.1, weak._replace(replicates=4)).score)


def test_a_slope_does_not_excuse_a_low_point_for_being_small():
    low = 1.1 * 0.001 * family_limit(3)  # just usable, and 20 standard errors below the line
    data = Data([0.1, 0.05, low], expected=-1.0, x=SIZES, stderr=0.001)
    outcome = perform("slope", 0.1, data)
    assert math.isfinite(outcome.score)
    assert not outcome.passed


def test_curves_may_each_have_their_slope():
    slopes = np.array([-1.0, -0.5])
    data = Data(2 * X ** slopes[:, None], expected=slopes, x=X, stderr=0.001)
    outcome = perform("slope", 1e-9, data)
    assert outcome.passed
    assert outcome.comparisons == 2
    assert not perform("slope", 1e-9, data._replace(expected=slopes[::-1])).passed


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
    for level in (1.5, 1e-323):
        with pytest.raises(ValueError, match="level must be a probability of at most 1"):
            family_limit(10, level=level)


def test_family_limit_keeps_its_error_rate():
    # 4,000 families of 20 true statements at level 0.2: false alarms are binomial.
    z = np.random.default_rng(0).normal(size=(4000, 20))
    alarms = np.mean(np.abs(z).max(axis=1) > family_limit(20, level=0.2))
    assert abs(alarms - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 4000)


def test_family_limit_of_estimated_errors_is_students():
    # quantiles of Student's t as in printed tables, two-sided level 0.001
    found = [round(family_limit(1, replicates=n), 2) for n in (4, 6, 11, 41)]
    assert found == [12.92, 6.87, 4.59, 3.55]
    assert family_limit(50, replicates=np.inf) == pytest.approx(family_limit(50))
    for bad in (1, 0, np.nan):
        with pytest.raises(ValueError, match="replicates must be >= 2"):
            family_limit(1, replicates=bad)


def test_family_limit_keeps_its_error_rate_with_four_replicates():
    # 4,000 families of 20 true statements at level 0.2, each with its own estimated error.
    values = np.random.default_rng(1).normal(size=(4000, 20, 4))
    ratio = np.abs(values.mean(-1)) / (values.std(-1, ddof=1) / 2)
    alarms = [np.mean(ratio.max(1) > family_limit(20, 0.2, replicates=n)) for n in (4, None)]
    assert abs(alarms[0] - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 4000)
    assert alarms[1] > 0.5


@pytest.mark.parametrize("kind", ["close", "sigmas", "limit", "slope", "ratio"])
def test_few_replicates_lower_the_resolution(kind):
    _, good, _ = CASES[kind]
    tolerance = "family" if kind in ("sigmas", "limit") else 0.01
    noisy = good._replace(stderr=np.full(np.shape(good.measured), 1e-3))
    known, few = (perform(kind, tolerance, noisy._replace(replicates=n)) for n in (None, 6))
    assert few.resolution > 1.1 * known.resolution
    assert (few.limit > known.limit) is (tolerance == "family")


def test_a_deviation_that_four_replicates_do_not_show_is_no_alarm():
    data = Data([1.05, 1.0], expected=1.0, stderr=0.01)
    assert not perform("sigmas", "family", data).passed
    assert perform("sigmas", "family", data._replace(replicates=4)).passed
    assert perform("sigmas", "family", data._replace(replicates=[4, 400])).passed
    assert not perform("sigmas", "family", data._replace(replicates=40)).passed


def test_replicates_without_errors_are_refused():
    with pytest.raises(ValueError, match="replicates count the repetitions behind stderr"):
        perform("close", 0.1, Data(1.0, expected=1.0, replicates=4))
    with pytest.raises(ValueError, match="does not use replicates"):
        perform("peak", 0.1, Data(1.0, at=1.0, replicates=4))


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
    assert math.isnan(outcome.score)
    assert not outcome.passed


def test_slope_is_weighted_by_the_errors():
    values = 3 * X**-0.5
    values[-1] *= 1.3
    stderr = np.array([1e-4, 1e-4, 1e-4, 0.2]) * values
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


NO_NUMBERS = [
    np.array([1 + 5j]),
    True,
    np.bool_(True),
    [True, True],
    "1",
    ["1"],
    [None],
    np.array([1.0, True], dtype=object),
    np.array([1.0, "1"], dtype=object),
    np.array("2020", dtype="M8[s]"),
    [10**400],
]


@pytest.mark.parametrize("bad", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("field", ["measured", "expected", "stderr", "replicates"])
def test_what_only_turns_into_numbers_is_refused(field, bad):
    good = Data(1.0, expected=1.0, stderr=0.001, replicates=4)
    assert perform("close", 0.1, good).passed
    with pytest.raises(TypeError, match=f"^{field} must be numbers, got .{{1,60}}$"):
        perform("close", 0.1, good._replace(**{field: bad}))


@pytest.mark.parametrize("field", ["measured", "expected"])
def test_masked_entries_are_not_compared_in_silence(field):
    data = Data([1.0, 1.0], expected=[1.0, 1.0])
    masked = np.ma.array([1.0, 1.0], mask=[False, True])
    with pytest.raises(ValueError, match=f"^{field} must have no masked entries"):
        perform("close", 0.1, data._replace(**{field: masked}))
    objects = np.ma.array([1.0, Fraction(1, 2)], mask=[False, True], dtype=object)
    with pytest.raises(ValueError, match=f"^{field} must have no masked entries"):
        perform("close", 0.1, data._replace(**{field: [objects, np.ma.masked]}))
    assert perform("close", 0.1, data._replace(**{field: np.ma.array([1.0, 1.0])})).passed


def test_numbers_that_stand_as_objects_are_numbers():
    values = np.array([1, 2.5, Fraction(1, 2), np.float32(3)], dtype=object)
    assert perform("close", 0, Data(values, expected=[1, 2.5, 0.5, 3])).comparisons == 4
    assert not perform("close", 0.5, Data([np.nan, 1], expected=1)).passed


@pytest.mark.parametrize(
    ("kind", "field"), [("order", "x"), ("peak", "x"), ("slope", "x"), ("limit", "size")]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_place_that_is_not_finite_is_refused(kind, field, bad):
    tolerance, good, _ = CASES[kind]
    broken = np.array(getattr(good, field))
    broken[-1] = bad
    with pytest.raises(ValueError, match=f"^{field} must be finite, got .*; leave out"):
        perform(kind, tolerance, good._replace(**{field: broken}))


@pytest.mark.parametrize("kind", ["nope", None, ["close"]])
def test_an_unknown_kind_is_told_with_the_known_ones(kind):
    with pytest.raises(ValueError, match=r"^kind must be one of close, sigmas, .*, ratio, got "):
        perform(kind, 0.1, Data(1.0, expected=1.0))


@pytest.mark.parametrize("tolerance", ["wide", None, np.nan, -1.0, True, [1.0]])
def test_a_tolerance_is_family_or_a_number(tolerance):
    with pytest.raises((TypeError, ValueError), match=r"^tolerance must be"):
        perform("close", tolerance, Data(1.0, expected=1.0))


def test_expectations_of_another_kind_or_shape_are_refused():
    curves = Data(np.ones((2, 4)), expected=[1.0, 1.0, 1.0], x=X)
    with pytest.raises(ValueError, match="must fit, got shapes"):
        perform("slope", 0.1, curves)
    with pytest.raises(ValueError, match="expected must be one level"):
        perform("peak", 0.1, Data(BUMP, x=GRID, at=1.0, expected=[0.1, 0.2]))
    with pytest.raises(ValueError, match='expected must be "increasing"'):
        perform("order", 0.1, Data(X, x=X, expected=np.ones(2)))
    with pytest.raises(TypeError, match="data must be a Data, got tuple"):
        perform("close", 0.1, (1.0, 1.0))
