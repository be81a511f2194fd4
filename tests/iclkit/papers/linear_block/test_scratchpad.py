"""One head with a scratchpad: exact risk by two routes, bounds, limit, printed searches."""

import numpy as np
import pytest
from scipy.optimize import minimize

from iclkit.papers.linear_block import (
    RegressionPrior,
    isotropic_prior,
    optimal_gd,
    reduced_risk,
    whiten,
)
from iclkit.papers.linear_block.heads import heads_gap, heads_risk
from iclkit.papers.linear_block.scratchpad import (
    best_scratchpad,
    scratchpad_bound,
    scratchpad_limit,
    scratchpad_risk,
)
from tests.instances import PRIORS
from tests.oracles import heads_risk_by_cubature
from tests.tolerances import IDENTITY, MINIMUM, ROOT

PLANE = RegressionPrior([[1.5, 0.4], [0.4, 0.8]], [1, -2], [[0.7, -0.2], [-0.2, 1.1]], 0.25, 2)
NAMES = ("u", "u0", "U", "v", "constant", "offset")


def random_weights(dim, rng):
    shapes = ((dim,), (), (dim, dim), (dim,), (), (dim,))
    return {name: rng.normal(size=shape) for name, shape in zip(NAMES, shapes, strict=True)}


def as_head(u, u0, U, v, constant, offset):
    return np.concatenate([u, [constant, u0]]), np.vstack([U, offset, v])


def gap(prior, rng, **options):
    return best_scratchpad(prior, rng=rng, **options).risk - optimal_gd(prior).risk


# ------------------------------------------------------------------ risk


def test_risk_is_that_of_the_literal_network(rng):
    weights = random_weights(2, rng)
    a, B = as_head(**weights)
    PV, KQ = np.zeros((2, 4, 4))
    PV[-1], KQ[:, :2] = a, B
    expected = heads_risk_by_cubature(PLANE, [(PV, KQ)], scratchpad=True)
    assert scratchpad_risk(PLANE, **weights) == pytest.approx(expected, rel=IDENTITY)


@pytest.mark.parametrize("name", ["FIG1", "GEN3", "RANKDEF", "DIAG4"])
def test_the_formula_agrees_with_the_moments(name, rng):
    prior = PRIORS[name]
    weights = random_weights(prior.dim, rng)
    a, B = as_head(**weights)
    expected = heads_risk(prior, [a], [B], scratchpad=True)
    assert scratchpad_risk(prior, **weights) == pytest.approx(expected, rel=IDENTITY)


def test_without_constant_it_is_attention(rng):
    weights = random_weights(3, rng) | {"constant": 0, "offset": [0, 0, 0]}
    attention = {name: weights[name] for name in ("u", "u0", "U", "v")}
    found = scratchpad_risk(PRIORS["GEN3"], **weights)
    assert found == pytest.approx(reduced_risk(PRIORS["GEN3"], **attention), rel=IDENTITY)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("offset", np.nan * np.ones(3), "offset must be finite"),
        ("offset", np.ones(2), "gamma must have shape"),
        ("constant", np.inf, "constant must be finite"),
        ("u", np.ones(4), "u must have shape"),
    ],
)
def test_bad_weights_say_so(name, value, message, rng):
    with pytest.raises(ValueError, match=message):
        scratchpad_risk(PRIORS["GEN3"], **(random_weights(3, rng) | {name: value}))


# ------------------------------------------------------------------ the search


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        (PRIORS["FIG1"], 1.456796),
        (PRIORS["GEN3"], 0.758752),
        (PRIORS["DIAG4"], 0.876118),
        (isotropic_prior(5, n_context=5, mean=10), 1.9776),
        (isotropic_prior(10, n_context=100, mean=1, noise_var=1), 0.511155),
        (isotropic_prior(10, n_context=100, mean=10, noise_var=1), 4.465272),
    ],
    ids=["FIG1", "GEN3", "DIAG4", "far", "long", "long and far"],
)
def test_best_found_gaps(prior, expected, rng):  # ZH-J
    assert gap(prior, rng, n_starts=6) == pytest.approx(
        expected, abs=2e-5 if expected < 2 else 1e-6
    )


@pytest.mark.parametrize("name", ["GEN3", "RANKDEF"])
def test_the_weights_found_have_the_risk_found(name, rng):
    best = best_scratchpad(PRIORS[name], n_starts=2, rng=rng)
    weights = {field: getattr(best, field) for field in NAMES}
    assert scratchpad_risk(PRIORS[name], **weights) == pytest.approx(best.risk, rel=ROOT)


def test_no_neighbour_is_better(rng):
    best = best_scratchpad(PLANE, rng=rng)
    weights = {field: getattr(best, field) for field in NAMES}
    for _ in range(100):
        other = random_weights(2, rng)
        near = {name: weights[name] + 1e-3 * other[name] for name in NAMES}
        assert scratchpad_risk(PLANE, **near) >= best.risk


# ------------------------------------------------------------------ bounds and limit


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("name", ["FIG1", "GEN3", "RANKDEF"])
def test_the_search_respects_both_bounds_and_attention(name, scale, rng):
    old = PRIORS[name]
    mean = scale * old.task_mean
    prior = RegressionPrior(old.input_cov, mean, old.task_cov, old.noise_var, old.n_context)
    found, bound = gap(prior, rng, n_starts=6), scratchpad_bound(prior)
    attention = heads_gap(prior, 1, n_starts=6, rng=rng)
    assert 0 < found <= min(bound.linear, bound.flat, attention) * (1 + MINIMUM)


def test_the_bounds_are_reached_by_their_weights():
    prior = PRIORS["GEN3"]
    white, best, bound = whiten(prior), optimal_gd(prior), scratchpad_bound(prior)
    step, mean = best.gamma, best.beta
    zero = {"u": np.zeros(3), "u0": 0.0, "U": np.zeros((3, 3)), "v": np.zeros(3)}
    flat = scratchpad_risk(prior, **zero, constant=1.0, offset=mean) - best.risk
    assert flat == pytest.approx(bound.flat, rel=ROOT)
    size = np.sqrt(np.sum((prior.input_cov @ step) * (step @ prior.input_cov)))
    constant = (white.level * white.norm2) ** 0.25 / np.sqrt(size)
    weights = zero | {"u": -mean, "u0": 1.0, "U": step}
    linear = scratchpad_risk(prior, **weights, constant=constant, offset=mean / constant)
    assert linear - best.risk == pytest.approx(bound.linear, rel=ROOT)


@pytest.mark.parametrize("noise_var", [0.0, 2.0])
@pytest.mark.parametrize(("dim", "n_context"), [(1, 1), (5, 5), (4, 50)])
def test_isotropic_limit_in_closed_form(dim, n_context, noise_var):
    prior = isotropic_prior(dim, n_context=n_context, mean=1, noise_var=noise_var)
    kappa, more = dim + noise_var, 1 + 2 / n_context
    root = np.sqrt(2 / n_context * (2 / n_context * kappa**2 + 2 * more * dim))
    explained = 4 / (4 * kappa / n_context + 4 * more + 2 * root)
    expected = scratchpad_bound(prior).flat - explained
    assert scratchpad_limit(prior) == pytest.approx(expected, rel=MINIMUM)


def explained(prior, b):
    """What a head with values ``b x + r`` and keys ``-c n`` times them explains, by definition."""
    white, n_context = whiten(prior), prior.n_context
    n = white.mean / np.linalg.norm(white.mean)
    square = b @ b + white.level  # mean square of a value
    spread = 4 * b @ (white.values * b) + 2 * white.square  # of that mean square over tasks
    variance = 2 / n_context * (square**2 + spread) + spread
    return (2 * b @ (white.values * n)) ** 2 / variance


@pytest.mark.parametrize("name", ["FIG1", "GEN3", "RANKDEF", "DIAG4"])
def test_the_limit_is_the_best_of_all_values(name, rng):
    prior, rank = PRIORS[name], len(whiten(PRIORS[name]).values)
    ends = [minimize(lambda b: -explained(prior, b), rng.normal(size=rank)) for _ in range(8)]
    expected = scratchpad_bound(prior).flat + min(end.fun for end in ends)
    assert scratchpad_limit(prior) == pytest.approx(expected, rel=MINIMUM)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("noise_var", [0.0, 0.7])
def test_the_limit_is_reached_by_weights_at_every_norm(scale, noise_var):
    phi, mean, M = np.array([2, 1, 0.2]), scale * np.array([1, -2, 0.5]), 4
    prior = RegressionPrior(np.eye(3), mean, np.diag(phi), noise_var, M)
    kappa, norm = phi.sum() + noise_var, np.linalg.norm(mean)
    n = mean / norm
    root = np.sqrt(kappa**2 + (M + 2) * phi @ phi)
    b = phi * n / ((kappa + root) / M + (1 + 2 / M) * phi)
    b = -b * np.sqrt(root / (b @ b))
    square, spread = b @ b + kappa, 4 * b @ (phi * b) + 2 * phi @ phi
    c = -2 * b @ (phi * n) / (2 / M * (square**2 + spread) + spread)
    size = np.sqrt((norm + c * square) / c)
    weights = {"u": b - mean, "u0": 1.0, "U": -c * np.outer(b - mean, n), "v": -c * n}
    risk = scratchpad_risk(prior, **weights, constant=size, offset=c * size * n)
    assert risk - optimal_gd(prior).risk == pytest.approx(scratchpad_limit(prior), rel=ROOT)


@pytest.mark.parametrize("name", ["FIG1", "GEN3", "RANKDEF"])
def test_far_means_approach_the_limit(name, rng):
    old, limit = PRIORS[name], scratchpad_limit(PRIORS[name])
    below = []
    for scale in (100.0, 1000.0):
        mean = scale * old.task_mean
        prior = RegressionPrior(old.input_cov, mean, old.task_cov, old.noise_var, old.n_context)
        below.append(limit - gap(prior, rng))
    assert 0 < below[1] < 0.2 * below[0] < 0.02  # falls like 1/|mean|


@pytest.mark.parametrize(("norm", "used"), [(1.0, False), (1.8, False), (1.9, True), (3.0, True)])
def test_the_constant_is_ignored_below_a_threshold(norm, used, rng):  # ZH-X18
    prior = isotropic_prior(5, n_context=5, mean=norm / 5**0.5)
    best, attention = best_scratchpad(prior, n_starts=4, rng=rng), heads_gap(prior, 1, rng=rng)
    carried = np.linalg.norm(best.constant * best.offset) / norm
    assert carried > 0.8 if used else carried < 1e-3
    loss = best.risk - optimal_gd(prior).risk
    assert loss < 0.995 * attention if used else loss == pytest.approx(attention, rel=MINIMUM)


def test_an_invisible_mean_has_no_limit():
    with pytest.raises(ValueError, match="task_mean must have a direction where inputs vary"):
        scratchpad_limit(isotropic_prior(2, n_context=3))


@pytest.mark.parametrize("function", [scratchpad_bound, scratchpad_limit])
def test_no_prior_says_so(function):
    with pytest.raises(TypeError, match="prior must be a RegressionPrior, got NoneType"):
        function(None)


@pytest.mark.parametrize("unit", [1e-100, 1e-3, 1e100])
def test_units_of_the_inputs_do_not_matter(unit):
    prior = isotropic_prior(2, n_context=3, mean=2, noise_var=0.5)
    scaled = RegressionPrior(unit * np.eye(2), [2, 2], np.eye(2), 0.5 * unit, 3)
    gaps = [gap(law, np.random.default_rng(1), n_starts=4) for law in (prior, scaled)]
    assert gaps[1] / unit == pytest.approx(gaps[0], rel=ROOT)
    assert scratchpad_limit(scaled) / unit == pytest.approx(scratchpad_limit(prior), rel=IDENTITY)


def test_a_known_task_costs_nothing(rng):
    prior = isotropic_prior(2, n_context=3, mean=1, task_var=0, noise_var=1)
    assert scratchpad_bound(prior) == (0.0, 0.0)
    assert scratchpad_limit(prior) == 0.0
    assert gap(prior, rng, n_starts=2) == pytest.approx(0.0, abs=1e-9)
