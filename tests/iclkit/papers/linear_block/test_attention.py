"""The best linear attention: profile, slope, minima, literal search, reference values."""

import numpy as np
import pytest

from iclkit.papers.linear_block import (
    RegressionPrior,
    gap_bounds,
    gd_zero,
    isotropic_prior,
    network_risk,
    optimal_gd,
    optimality,
    reduced_gradient,
    reduced_risk,
    whiten,
)
from iclkit.papers.linear_block.attention import (
    attention_minima,
    attention_profile,
    optimal_attention,
    profile_slope,
    profile_weights,
)
from iclkit.papers.linear_block.search import search_weights
from iclkit.rng import stream
from tests.instances import PRIORS
from tests.oracles import attention_profile_dense
from tests.tolerances import IDENTITY, MINIMUM, PRINTED

RISKS = {
    "FIG1": 4.556578645264,
    "TAB1": 114.1497348,
    "DIAG4": 3.270779307028,
    "GEN3": 2.584327550220,
    "RANKDEF": 1.219083369912,
    "POW20": 2.173730200895,
}
TWOMIN = RegressionPrior(np.eye(2), [2, 0], np.diag([0.2, 1]), 1, 4)
SIXMAT = RegressionPrior(np.diag([1.5, 0.5]), [2, -1], [[1, 0.3], [0.3, 0.6]], 0.4, 3)
SINGULAR = RegressionPrior(np.diag([2, 1, 0.5, 0]), [1, -1, 2, 0], np.diag([0.5, 1, 0, 2]), 0, 1)
DEGENERATE = {  # prior, risk of the best attention
    "no mean": (isotropic_prior(3, n_context=2), 2.0),
    "mean out of sight": (RegressionPrior(np.diag([1, 0]), [0, 3], np.eye(2), 0, 2), 1 - 1 / 2),
    "no inputs": (RegressionPrior(np.zeros((2, 2)), [1, 2], np.eye(2), 0.3, 3), 0.3),
    "no tasks, no noise": (RegressionPrior(np.eye(2), [1, 2], np.zeros((2, 2)), 0, 3), 2.0),
    "nothing at all": (RegressionPrior(np.zeros((1, 1)), [0], np.zeros((1, 1)), 0, 1), 0.0),
    "one example": (isotropic_prior(1, n_context=1, mean=1), 4 / 3),
}


def _random_prior(rng, max_dim=5):
    dim = int(rng.integers(1, max_dim + 1))
    H, Psi = (factor @ factor.T for factor in rng.standard_normal((2, dim, dim)))
    noise_var, n_context = rng.gamma(1.0), int(rng.integers(1, 20))
    return RegressionPrior(H, 2 * rng.standard_normal(dim), Psi, noise_var, n_context)


def _risk(prior, found):
    return reduced_risk(prior, u=found.u, u0=found.u0, U=found.U, v=found.v)


# ------------------------------------------------------------------ profile


@pytest.mark.parametrize("seed", range(6))
def test_profile_is_that_of_a_dense_solve(seed):
    rng = np.random.default_rng(seed)
    prior = _random_prior(rng)
    white = whiten(prior)
    b, u0 = rng.standard_normal((7, prior.dim)), rng.standard_normal(7)
    u0[0], b[1] = 0.0, 0.0
    law = white.values, white.mean, prior.noise_var, prior.n_context
    dense = [
        attention_profile_dense(*law, white.root.T @ one, label)
        for one, label in zip(b, u0, strict=True)
    ]
    risk = attention_profile(prior, b, u0)
    assert risk == pytest.approx(np.array(dense) + prior.noise_var, rel=IDENTITY)


@pytest.mark.parametrize("name", ["DIAG4", "GEN3", "RANKDEF"])
def test_weights_of_the_profile_attain_it_and_are_stationary(name, rng):
    prior = PRIORS[name]
    b, u0 = rng.standard_normal(prior.dim), rng.standard_normal()
    found = profile_weights(prior, b, u0)
    assert found.risk == pytest.approx(attention_profile(prior, b, u0), rel=IDENTITY)
    moved = prior.input_cov @ (found.u + found.u0 * prior.task_mean)
    assert moved == pytest.approx(prior.input_cov @ b, rel=IDENTITY)
    _, slope = reduced_gradient(prior, found.reduced)
    assert np.abs(slope.U).max() < IDENTITY * 100
    assert np.abs(slope.v).max() < IDENTITY * 100
    nudge = 1e-3 * rng.standard_normal(found.U.shape)
    worse = found._replace(U=found.U + nudge)
    assert _risk(prior, worse) > found.risk


@pytest.mark.parametrize("seed", range(5))
def test_slope_is_that_of_the_profile(seed):
    rng = np.random.default_rng(seed)
    prior = _random_prior(rng)
    b, u0, step = rng.standard_normal(prior.dim), rng.standard_normal(), 1e-5
    slope = profile_slope(prior, b, u0)
    moves = step * np.eye(prior.dim)
    ends = attention_profile(prior, b + moves, u0) - attention_profile(prior, b - moves, u0)
    label = attention_profile(prior, b, u0 + step) - attention_profile(prior, b, u0 - step)
    scale = slope.risk
    assert ends / (2 * step) == pytest.approx(slope.b, abs=MINIMUM * scale)
    assert label / (2 * step) == pytest.approx(slope.u0, abs=MINIMUM * scale)
    assert slope.b @ b + slope.u0 * u0 == pytest.approx(0.0, abs=IDENTITY * scale)


@pytest.mark.parametrize("factor", [-1.0, 1e-6, 1e7])
def test_profile_does_not_change_along_rays(factor, rng):
    prior = PRIORS["GEN3"]
    b, u0 = rng.standard_normal((4, 3)), rng.standard_normal(4)
    scaled = attention_profile(prior, factor * b, factor * u0)
    assert scaled == pytest.approx(attention_profile(prior, b, u0), rel=IDENTITY)


def test_profile_broadcasts_and_returns_scalars():
    prior = PRIORS["FIG1"]
    assert attention_profile(prior, np.ones((2, 1, 5)), np.ones(3)).shape == (2, 3)
    slope = profile_slope(prior, np.ones((2, 1, 5)), np.ones(3))
    assert slope.b.shape == (2, 3, 5)
    assert slope.u0.shape == (2, 3)
    assert np.ndim(attention_profile(prior, [1, 1, 1, 1, 1], 1)) == 0
    assert attention_profile(prior, [1] * 5, 1) == attention_profile(prior, np.ones(5), 1.0)


@pytest.mark.parametrize(
    ("b", "u0", "message"),
    [
        (np.zeros(5), 0, "must not both be 0"),
        ([np.ones(5), np.zeros(5)], 0, "must not both be 0"),
        (np.ones(4), 1, "b must have 5 entries"),
        (np.ones((2, 5)), np.ones(3), "must broadcast"),
        (np.full(5, np.nan), 1, "b must be finite"),
        (np.ones(5), np.inf, "u0 must be finite"),
    ],
)
def test_profile_says_what_is_wrong(b, u0, message):
    with pytest.raises(ValueError, match=message):
        attention_profile(PRIORS["FIG1"], b, u0)


def test_weights_of_the_profile_take_one_label_weight():
    with pytest.raises(TypeError, match="u0 must be a number, got list"):
        profile_weights(PRIORS["FIG1"], np.ones(5), [1, 2])
    with pytest.raises(ValueError, match="b must have rows of one length"):
        attention_profile(PRIORS["FIG1"], [[1, 2], [3]], 1)


def test_a_mean_whose_square_underflows_is_no_mean():
    prior = RegressionPrior(np.eye(2), [1e-160, 1e-161], np.diag([1, 2]), 0.1, 3)
    assert optimal_attention(prior).risk == pytest.approx(optimal_gd(prior).risk, rel=IDENTITY)


def test_value_weights_where_inputs_do_not_vary_read_nothing():
    H = np.ones((3, 3))
    prior = RegressionPrior(H, [1, 2, 3], np.eye(3), 0.1, 2)
    with pytest.raises(ValueError, match="nothing would be read"):
        attention_profile(prior, [1, -1, 0], 0)
    blind, zero = attention_profile(prior, [[1, -1, 0], [0, 0, 0]], 1)
    assert blind == pytest.approx(zero, rel=IDENTITY)


def test_a_prior_is_required():
    for function in (optimal_attention, attention_minima):
        with pytest.raises(TypeError, match="prior must be a RegressionPrior"):
            function(3.0)


def test_best_value_without_reading_the_label_is_closed():
    white = whiten(PRIORS["DIAG4"])
    norm2, M = white.norm2, white.n_context
    best = 2 / (M + 2) * norm2 + white.trace - np.max(white.values**2 / white.curvature) + 1.0
    grid = np.random.default_rng(0).standard_normal((2000, 4))
    assert attention_profile(PRIORS["DIAG4"], grid, 0.0).min() == pytest.approx(best, rel=1e-2)
    top = white.inverse[np.argmax(white.values)]
    assert attention_profile(PRIORS["DIAG4"], top, 0.0) == pytest.approx(best, rel=IDENTITY)


# ------------------------------------------------------------------ the global minimum


@pytest.mark.parametrize("name", RISKS)
def test_optimal_risks(name):
    assert optimal_attention(PRIORS[name]).risk == pytest.approx(RISKS[name], rel=PRINTED)


@pytest.mark.parametrize("name", [*RISKS, "TWOMIN", "SINGULAR"])
def test_weights_have_the_risk_and_the_gap_and_are_stationary(name):
    prior = {**PRIORS, "TWOMIN": TWOMIN, "SINGULAR": SINGULAR}[name]
    best = optimal_attention(prior)
    assert _risk(prior, best) == pytest.approx(best.risk, rel=IDENTITY)
    assert best.gap == pytest.approx(best.risk - optimal_gd(prior).risk, rel=IDENTITY)
    assert best.u0 in (0.0, 1.0)
    _, slope = reduced_gradient(prior, best.reduced)
    assert all(np.abs(part).max() < MINIMUM * best.risk for part in slope[:4])


def test_weights_of_figure_1():
    best, e = optimal_attention(PRIORS["FIG1"]), np.ones(5) / np.sqrt(5)
    A = best.U + np.outer(np.ones(5), best.v)
    shape = 0.378904 * np.eye(5) + (0.570388 - 0.378904) * np.outer(e, e)
    assert best.u0 == 1.0
    assert best.u + np.ones(5) == pytest.approx(1.481873 * e, abs=MINIMUM)
    assert best.v == pytest.approx(0.115888 * e, abs=MINIMUM)
    assert pytest.approx(shape, abs=MINIMUM) == A


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_priors(name):
    prior, risk = DEGENERATE[name]
    best = optimal_attention(prior)
    assert best.risk == pytest.approx(risk, rel=IDENTITY, abs=1e-15)
    assert _risk(prior, best) == pytest.approx(risk, rel=IDENTITY, abs=1e-15)
    assert all(np.isfinite(part).all() for part in best)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_units_of_inputs_and_labels_do_not_matter(scale):
    prior = PRIORS["GEN3"]
    moved = RegressionPrior(
        prior.input_cov / scale,
        scale * prior.task_mean,
        prior.task_cov * scale**2,
        prior.noise_var * scale,
        prior.n_context,
    )
    assert optimal_attention(moved).risk == pytest.approx(scale * RISKS["GEN3"], rel=PRINTED)


@pytest.mark.parametrize("seed", range(12))
def test_no_random_weights_are_better(seed):
    rng = np.random.default_rng(seed)
    prior = _random_prior(rng, max_dim=3)
    best = optimal_attention(prior)
    directions = rng.standard_normal((20_000, prior.dim + 1))
    spread = 10.0 ** rng.uniform(-3, 2, (20_000, 1))
    risks = attention_profile(prior, spread * directions[:, :-1], directions[:, -1])
    assert best.risk <= risks.min() * (1 + IDENTITY)
    assert risks.min() <= best.risk * 1.1  # the cloud comes close, so it could have come lower


@pytest.mark.parametrize("variances", [[0.2, 1.0], [1.0, 1.0], [3.0, 0.0], [0.05, 0.04]])
@pytest.mark.parametrize("mean", [[2, 0], [0.3, -0.7], [0, 5]])
def test_the_minimum_is_that_of_a_dense_grid(variances, mean):
    prior = RegressionPrior(np.eye(2), mean, np.diag(variances), 0.3, 4)
    angle, height = np.meshgrid(np.linspace(0, np.pi, 361), np.linspace(0, np.pi, 361))
    b = 3 * np.stack([np.sin(height) * np.cos(angle), np.sin(height) * np.sin(angle)], axis=-1)
    lowest = attention_profile(prior, b, np.cos(height)).min()
    best = optimal_attention(prior).risk
    assert best * (1 - IDENTITY) <= lowest <= best * 1.001


def test_in_isotropic_cases_b_is_along_the_mean(rng):
    mean = rng.standard_normal(6)
    best = optimal_attention(isotropic_prior(6, n_context=4, mean=mean, noise_var=0.5))
    b = best.u + best.u0 * mean
    assert b / b[0] == pytest.approx(mean / mean[0], rel=IDENTITY)


# ------------------------------------------------------------------ local minima


def test_two_minima():
    first, second = attention_minima(TWOMIN)
    assert first.risk == pytest.approx(2.9777777778, rel=PRINTED)
    assert second.risk == pytest.approx(3.1279484698, rel=PRINTED)
    assert (first.u0, second.u0) == (0.0, 1.0)
    assert first.risk == pytest.approx(1 + 4 / 3 + 1.2 - 1 / 1.8, rel=IDENTITY)


@pytest.mark.parametrize("name", ["FIG1", "DIAG4", "GEN3"])
def test_minima_are_sorted_stationary_and_start_with_the_best(name):
    prior = PRIORS[name]
    minima = attention_minima(prior)
    risks = [found.risk for found in minima]
    assert risks == sorted(risks)
    assert risks[0] == pytest.approx(optimal_attention(prior).risk, rel=IDENTITY)
    for found in minima:
        slope = reduced_gradient(prior, found.reduced)[1]
        assert np.abs(np.concatenate([slope.u, [slope.u0]])).max() < MINIMUM * found.risk


@pytest.mark.parametrize("variance", [0.0, 1e-6, 1e-3])
@pytest.mark.parametrize("length", [1e-4, 1e-2, 1.0, 3.0])
def test_a_mean_along_which_tasks_hardly_vary(length, variance):
    """The minimum has b near 0 there: all other starts end in the branch of u0 = 0."""
    task_cov = np.diag([2.0, 1.0, variance])
    prior = RegressionPrior(np.eye(3), [0, 0, length], task_cov, 0.7, 6)
    best = optimal_attention(prior)
    assert best.risk <= gd_zero(prior).risk
    assert best.gap <= gap_bounds(prior).upper * (1 + IDENTITY)
    assert best.gap >= length**2 / 7
    plain = RegressionPrior(np.eye(3), [0, 0, length], np.diag([2.0, 1.0, 0.0]), 0.7, 6)
    assert best.gap == pytest.approx(optimal_attention(plain).gap, rel=2 * variance + 1e-9)


def test_no_random_prior_breaks_a_bound():
    """Means and variances of all sizes, many of them zero."""
    rng = stream(0, "bounds")
    for _ in range(60):
        dim, n_context = int(rng.integers(1, 6)), int(10 ** rng.uniform(0, 4))
        phi = 10.0 ** rng.uniform(-6, 1, dim) * (rng.random(dim) < 0.8)
        mean = rng.standard_normal(dim) * 10.0 ** rng.uniform(-4, 3, dim) * (rng.random(dim) < 0.6)
        noise_var = float(rng.choice([0.0, 10.0 ** rng.uniform(-4, 3)]))
        prior = RegressionPrior(np.eye(dim), mean, np.diag(phi), noise_var, n_context)
        gap, bounds = optimal_attention(prior).gap, gap_bounds(prior)
        rounding = 1e-13 * (mean @ mean + phi.sum())
        assert bounds.corrected * (1 - 1e-9) - rounding <= gap
        assert gap <= bounds.upper * (1 + 1e-9) + rounding


# ------------------------------------------------------------------ search over the matrices


def test_search_finds_no_block_below_the_optimum():
    found = search_weights(SIXMAT, mlp=True, n_starts=4, rng=stream(0, "search"))
    assert found.risk == pytest.approx(optimal_gd(SIXMAT).risk, rel=PRINTED)
    assert max(np.abs(part).max() for part in optimality(SIXMAT, found.reduced)) < 1e-5
    assert found.risks.min() == found.risk
    assert network_risk(SIXMAT, *found.weights) == pytest.approx(found.risk, rel=IDENTITY)


@pytest.mark.parametrize("prior", [PRIORS["FIG1"], SIXMAT, TWOMIN], ids=["FIG1", "SIX", "TWO"])
def test_search_over_attention_ends_in_the_minima(prior):
    found = search_weights(prior, mlp=False, n_starts=6, rng=stream(1, "search"))
    minima = np.array([minimum.risk for minimum in attention_minima(prior)])
    nearest = np.abs(found.risks[:, None] / minima - 1.0).min(axis=1)
    assert np.sort(nearest)[:4].max() < 1e-8  # some may rest at a saddle
    assert found.risk >= minima[0] * (1 - IDENTITY)
    assert found.weights.W_1 is None


def test_search_is_reproducible_and_checks_its_arguments():
    prior = isotropic_prior(1, n_context=2, mean=1, noise_var=0.1)
    runs = [search_weights(prior, mlp=True, n_starts=2, rng=stream(0, "same")) for _ in range(2)]
    assert np.array_equal(runs[0].risks, runs[1].risks)
    assert runs[0].weights.W_1.shape == (8, 2)
    with pytest.raises(ValueError, match="n_starts must be >= 1"):
        search_weights(prior, mlp=True, n_starts=0, rng=stream(0))
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator"):
        search_weights(prior, mlp=True, n_starts=1, rng=0)
