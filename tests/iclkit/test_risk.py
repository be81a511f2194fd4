import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.predictors import GradientStep, Zero
from iclkit.prompts import IsotropicLinear, Sphere
from iclkit.risk import Estimate, extrapolate, monte_carlo_risk
from iclkit.rng import stream
from tests.tolerances import IDENTITY, SIGMAS

LAW = IsotropicLinear(Sphere(5), noise_var=0.25)


def risk(predictor=None, *, law=LAW, seed=0, **options):
    options = {"n_prompts": 3000, "rng": stream(seed, "risk")} | options
    return monte_carlo_risk(predictor or Zero(), law, 4, **options)


def test_zero_costs_signal_and_noise():
    estimate = risk()
    assert abs(estimate.value - 1.25) < SIGMAS * estimate.stderr


def test_a_gradient_step_costs_what_the_moments_say():
    """1 + rho - 2 c + c^2 ((1 + 1/l) + (d/l)(1 + rho)), where gamma is c times the identity."""
    estimate = risk(GradientStep(5 * 0.4), n_prompts=20_000)
    exact = 1.25 - 2 * 0.4 + 0.4**2 * (1 + 1 / 4 + 5 / 4 * 1.25)
    assert abs(estimate.value - exact) < SIGMAS * estimate.stderr


def test_the_standard_error_is_the_scatter_of_repetitions():
    repeats = [risk(seed=seed, n_prompts=400) for seed in range(200)]
    scatter = np.std([estimate.value for estimate in repeats], ddof=1)
    stated = np.mean([estimate.stderr for estimate in repeats])
    assert abs(np.log(scatter / stated)) < SIGMAS / np.sqrt(2 * 199) * 1.1


def test_batches_cover_all_prompts():
    class Recorder:
        def sample(self, n_prompts, n_context, *, rng):
            sizes.append(n_prompts)
            return LAW.sample(n_prompts, n_context, rng=rng)

    sizes = []
    risk(law=Recorder(), n_prompts=10, batch=4)
    assert sizes == [4, 4, 2]


def test_same_seed_same_risk():
    assert risk() == risk()
    assert risk() != risk(seed=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_prompts": 1}, ValueError, "n_prompts must be >= 2, got 1"),
        ({"n_prompts": 10.0}, TypeError, "n_prompts must be an integer"),
        ({"batch": 0}, ValueError, "batch must be >= 1"),
        ({"rng": 3}, TypeError, "rng must be a numpy.random.Generator"),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        risk(**options)


# ---------------------------------------------------------------- extrapolation

DIMS = np.array([10, 20, 40, 80])


@settings(max_examples=50, deadline=None)
@given(
    limit=st.floats(-10, 10), slope=st.floats(-10, 10), bend=st.floats(-10, 10), seed=st.integers(0)
)
def test_polynomials_in_1_over_d_are_recovered(limit, slope, bend, seed):
    stderrs = stream(seed, "stderr").uniform(0.1, 1, 4)
    line = limit + slope / DIMS
    assert extrapolate(DIMS, line, stderrs).value == pytest.approx(limit, abs=1e-10)
    curve = line + bend / DIMS**2
    assert extrapolate(DIMS, curve, stderrs, order=2).value == pytest.approx(limit, abs=1e-9)


def test_two_points_by_hand():
    """The line through (1/10, a) and (1/20, b) meets 0 at 2 b - a."""
    estimate = extrapolate([10, 20], [3, 2], [0.3, 0.4])
    assert estimate == pytest.approx(Estimate(1.0, np.hypot(0.3, 0.8)), rel=IDENTITY)


def test_the_standard_error_is_right(rng):
    stderrs = np.array([0.3, 0.2, 0.1, 0.4])
    draws = 2.0 + 5.0 / DIMS + stderrs * rng.standard_normal((4000, 4))
    estimates = np.array([extrapolate(DIMS, values, stderrs) for values in draws])
    stated = estimates[0, 1]
    assert (estimates[:, 1] == stated).all()
    assert abs(estimates[:, 0].mean() - 2.0) < SIGMAS * stated / np.sqrt(4000)
    assert abs(np.log(estimates[:, 0].std() / stated)) < SIGMAS / np.sqrt(8000)


def test_poor_points_weigh_little():
    estimate = extrapolate([10, 20, 40], [1, 1, 99], [0.01, 0.01, 1e6])
    assert estimate.value == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([10, 20], [1, 2], [0, 1]), {}, r"stderrs must be > 0, got 0\.0"),
        (([0, 20], [1, 2], [1, 1]), {}, r"dims must be > 0, got 0\.0"),
        (([10, 10], [1, 2], [1, 1]), {}, "order 1 needs 2 different dims"),
        (([10, 20], [1, 2], [1, 1]), {"order": 2}, "order 2 needs 3 different dims"),
        (([10, 20], [1, 2, 3], [1, 1]), {}, "must agree, got dims 2, values 3, stderrs 2"),
        (([10, 20], [1, np.nan], [1, 1]), {}, "values must be finite"),
        (([10, 20], [1, 2], [1, 1]), {"order": 0}, "order must be >= 1"),
    ],
)
def test_extrapolation_bad_input(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        extrapolate(*arguments, **options)
