"""Pretraining on finitely many tasks, its 1/n law, and fixed steps at other context lengths."""

import numpy as np
import pytest

from iclkit.papers.linear_block import (
    GDPredictor,
    RegressionPrior,
    gd_risk,
    isotropic_prior,
    optimal_gd,
    step_hessian,
)
from iclkit.papers.linear_block.pretraining import (
    fit_gd,
    pretraining_constant,
    simulate_pretraining,
    step_line,
)
from iclkit.solvers import ConvergenceError
from tests.instances import PRIORS
from tests.tolerances import IDENTITY, SIGMAS

SPREAD = np.array([2, 1, 0.5, 0.25, 0.1])


def spread_prior(n_context):
    return RegressionPrior(np.eye(5), np.zeros(5), np.diag(SPREAD), 0.5, n_context)


def loss(prompts, beta, gamma):
    return np.mean((prompts.y_query - GDPredictor(beta, gamma)(*prompts[:3])) ** 2)


def curvature(prior):
    """Half the Hessian of the risk at its minimum, in beta and in the rows of gamma."""
    H, Psi, M, best = prior.input_cov, prior.task_cov, prior.n_context, optimal_gd(prior)
    kappa = np.trace(H @ Psi) + prior.noise_var
    inner = (M + 1) / M * H @ Psi @ H + kappa / M * H
    return step_hessian(prior, best.gamma), np.kron(H, inner)


# ------------------------------------------------------------------ the fit


def test_a_planted_step_is_found(rng):
    prompts = PRIORS["GEN3"].sample(60, rng=rng)
    beta, gamma = rng.normal(size=3), 0.4 * rng.normal(size=(3, 3))
    planted = prompts._replace(y_query=GDPredictor(beta, gamma)(*prompts[:3]))
    fitted = fit_gd(planted)
    np.testing.assert_allclose(fitted.beta, beta, atol=1e-6)
    np.testing.assert_allclose(fitted.gamma, gamma, atol=1e-6)
    assert fitted.loss < 1e-12


def test_no_neighbour_fits_better(rng):
    prompts = PRIORS["GEN3"].sample(400, rng=rng)
    beta, gamma, least, _ = fit_gd(prompts)
    assert loss(prompts, beta, gamma) == pytest.approx(least, rel=IDENTITY)
    for _ in range(50):
        other = loss(prompts, beta + 1e-3 * rng.normal(size=3), gamma + 1e-3 * rng.normal(size=3))
        assert other > least


def test_more_prompts_take_fewer_sweeps_and_come_closer(rng):
    prior = isotropic_prior(3, n_context=10, mean=2, noise_var=0.5)
    few, many = (fit_gd(prior.sample(n, rng=rng)) for n in (100, 20_000))
    risks = [gd_risk(prior, fit.beta, fit.gamma) for fit in (few, many)]
    assert optimal_gd(prior).risk < risks[1] < risks[0]
    assert many.sweeps < few.sweeps


def test_too_few_prompts_and_too_few_sweeps_say_so(rng):
    prompts = PRIORS["GEN3"].sample(11, rng=rng)
    with pytest.raises(ValueError, match="at least as many as parameters, 12, got 11"):
        fit_gd(prompts)
    with pytest.raises(ValueError, match="y_query must be finite"):
        fit_gd(prompts._replace(y_query=np.full(11, np.nan)))
    with pytest.raises(ValueError, match=r"y_query must have shape \(11,\), got \(9,\)"):
        fit_gd(prompts._replace(y_query=prompts.y_query[:9]))
    with pytest.raises(ValueError, match=r"x must have shape \(11, 2, 3\), got \(11, 7, 3\)"):
        fit_gd(prompts._replace(y=prompts.y[:, :2]))
    with pytest.raises(ConvergenceError, match="still moves after 1 sweeps"):
        fit_gd(PRIORS["GEN3"].sample(50, rng=rng), max_sweeps=1)


# ------------------------------------------------------------------ the 1/n law


def test_the_curvature_is_that_of_the_exact_risk(rng):
    prior = PRIORS["GEN3"]
    best, (start, step) = optimal_gd(prior), curvature(prior)
    e, Z = rng.normal(size=3), rng.normal(size=(3, 3))
    for size in (1e-3, 1e-2):
        moved = gd_risk(prior, best.beta + size * e, best.gamma + size**2 * Z)
        assert (moved - best.risk) / size**2 == pytest.approx(e @ start @ e, rel=10 * size)
    grown = gd_risk(prior, best.beta, best.gamma + Z) - best.risk
    assert grown == pytest.approx(Z.ravel() @ step @ Z.ravel(), rel=1e-9)


@pytest.mark.parametrize("name", ["GEN3", "DIAG4"])
def test_the_constant_is_the_leverage_of_the_errors(name, rng):
    prior = PRIORS[name]
    best, (start, step) = optimal_gd(prior), curvature(prior)
    x, y, x_query, target, _ = prior.sample(100_000, rng=rng)
    S, h = x.swapaxes(1, 2) @ x / x.shape[1], np.einsum("nld,nl->nd", x, y) / x.shape[1]
    pull = h - S @ best.beta
    by_start = x_query - np.einsum("nij,nj->ni", S, x_query @ best.gamma)
    by_step = np.einsum("ni,nj->nij", x_query, pull).reshape(len(x), -1)
    error = target - x_query @ best.beta - np.sum((x_query @ best.gamma) * pull, axis=1)
    leverage = np.sum(by_start * np.linalg.solve(start, by_start.T).T, axis=1)
    leverage += np.sum(by_step * np.linalg.solve(step, by_step.T).T, axis=1)
    direct, stderr = np.mean(error**2 * leverage), np.std(error**2 * leverage) / np.sqrt(len(x))
    found = pretraining_constant(prior, n_draws=50_000, rng=rng)
    assert abs(found.value - direct) < SIGMAS * np.hypot(stderr, found.stderr)


def cubature(n_variables, degrees):
    """Nodes (n, variables) and weights of Gauss-Hermite rules that are exact up to `degrees`."""
    rules = [np.polynomial.hermite_e.hermegauss(degree // 2 + 1) for degree in degrees]
    nodes = np.stack(np.meshgrid(*(rule[0] for rule in rules)), axis=-1).reshape(-1, n_variables)
    shares = np.stack(np.meshgrid(*(rule[1] / rule[1].sum() for rule in rules)), axis=-1)
    return nodes, np.prod(shares.reshape(-1, n_variables), axis=1)


def exact_constant(phi, noise_var, length):
    """Mean leverage of the best step's squared error, integrated over all that is random."""
    rank = len(phi)
    prior = RegressionPrior(np.eye(rank), np.zeros(rank), np.diag(phi), noise_var, length)
    best, (start, step) = optimal_gd(prior), curvature(prior)
    degrees = [4] * rank + [8] * rank * length + [4] * (length + rank + 1)
    z, weight = cubature(len(degrees), degrees)
    g, x, noise, query, last = np.split(z, np.cumsum([rank, rank * length, length, rank]), axis=1)
    g, x = g * np.sqrt(phi), x.reshape(-1, length, rank)
    y = np.einsum("nld,nd->nl", x, g) + np.sqrt(noise_var) * noise
    h, S = np.einsum("nld,nl->nd", x, y) / length, x.swapaxes(1, 2) @ x / length
    error = np.sum(query * (g - h @ best.gamma.T), axis=1) + np.sqrt(noise_var) * last[:, 0]
    by_start = query - np.einsum("nij,nj->ni", S, query @ best.gamma)
    by_step = np.einsum("ni,nj->nij", query, h).reshape(len(z), -1)
    leverage = np.sum(by_start @ np.linalg.inv(start) * by_start, axis=1)
    leverage += np.sum(by_step @ np.linalg.inv(step) * by_step, axis=1)
    return weight @ (error**2 * leverage)


@pytest.mark.parametrize(("phi", "noise_var", "length"), [([1.0], 4.0, 2), ([2.0, 0.5], 3.0, 1)])
def test_the_constant_is_the_exact_integral(phi, noise_var, length, rng):
    phi = np.array(phi)
    prior = RegressionPrior(np.eye(len(phi)), np.ones(len(phi)), np.diag(phi), noise_var, length)
    found = pretraining_constant(prior, n_draws=1_000_000, rng=rng)
    expected = exact_constant(phi, noise_var, length)
    assert found.stderr < 0.01 * expected
    assert abs(found.value - expected) < SIGMAS * found.stderr


def test_excess_times_prompts_is_scaled(rng):
    point = {"d": 2, "n_context": 5, "noise_var": 0.5, "mean": 1.0, "n_prompts": 500}
    run = simulate_pretraining(**point, rng=rng)
    assert run["scaled"] == pytest.approx(500 * run["excess"], rel=IDENTITY)


def test_excess_times_prompts_approaches_the_constant(rng):  # ZH-X8
    point = {"d": 2, "n_context": 5, "noise_var": 0.5, "mean": 1.0, "n_prompts": 5000}
    runs = [simulate_pretraining(**point, rng=rng)["scaled"] for _ in range(60)]
    prior = isotropic_prior(2, n_context=5, noise_var=0.5)
    constant = pretraining_constant(prior, n_draws=20_000, rng=rng)
    error = np.hypot(np.std(runs, ddof=1) / np.sqrt(len(runs)), constant.stderr)
    assert abs(np.mean(runs) - constant.value) < SIGMAS * error


def test_the_constant_does_not_see_the_mean_or_blind_directions(rng):
    seeds = [np.random.default_rng(1) for _ in range(2)]
    wide = RegressionPrior(np.diag([1.0, 2, 0]), [5, -3, 7], np.eye(3), 0.5, 4)
    flat = RegressionPrior(np.diag([1.0, 2]), [0, 0], np.eye(2), 0.5, 4)
    one, two = (
        pretraining_constant(prior, n_draws=100, rng=seed)
        for prior, seed in zip((wide, flat), seeds, strict=True)
    )
    assert one == pytest.approx(two, rel=IDENTITY)


def test_inputs_that_are_zero_cost_nothing(rng):
    blind = RegressionPrior(np.zeros((2, 2)), [1, 2], np.eye(2), 0.5, 3)
    assert pretraining_constant(blind, n_draws=10, rng=rng) == (0.0, 0.0)


@pytest.mark.parametrize("function", [step_line, pretraining_constant])
def test_no_prior_says_so(function, rng):
    options = {} if function is step_line else {"n_draws": 2, "rng": rng}
    with pytest.raises(TypeError, match="prior must be a RegressionPrior, got NoneType"):
        function(None, **options)


def test_a_known_task_without_noise_is_learned_at_once(rng):
    known = isotropic_prior(2, n_context=3, mean=1, task_var=0)
    assert pretraining_constant(known, n_draws=10, rng=rng) == (0.0, 0.0)
    with pytest.raises(ValueError, match="n_draws must be >= 2, got 1"):
        pretraining_constant(known, n_draws=1, rng=rng)


# ------------------------------------------------------------------ another context length


def test_reference_values_of_a_fixed_step():  # ZH-X9
    prior = spread_prior(10)
    line, best = step_line(prior), optimal_gd(prior)
    lengths = [2, 5, 10, 20, 40, 1000]
    fixed = [4.479794143, 2.110191338, 1.320323737, 0.925389936, 0.727923036, 0.538354812]
    tuned = [2.690663332, 1.910078782, 1.320323737, 0.837131100, 0.494062546, 0.025232140]
    exact = [gd_risk(prior, best.beta, best.gamma, n_context=m) - 0.5 for m in lengths]
    assert [line.floor - 0.5 + line.slope / m for m in lengths] == pytest.approx(fixed, abs=1e-9)
    assert exact == pytest.approx(fixed, abs=1e-9)
    assert [optimal_gd(spread_prior(m)).risk - 0.5 for m in lengths] == pytest.approx(
        tuned, abs=1e-9
    )
    assert line.floor - 0.5 == pytest.approx(0.530456, abs=1e-6)


@pytest.mark.parametrize("name", sorted(PRIORS))
def test_the_line_is_the_exact_risk(name):
    prior = PRIORS[name]
    best, line = optimal_gd(prior), step_line(prior)
    for length in (1, prior.n_context, 3 * prior.n_context, np.inf):
        exact = gd_risk(prior, best.beta, best.gamma, n_context=length)
        assert line.floor + line.slope / length == pytest.approx(exact, rel=IDENTITY)
    assert line.slope > 0


def test_degenerate_lines():
    assert step_line(isotropic_prior(2, n_context=1, task_var=0)) == (0.0, 0.0)
    zero = RegressionPrior(np.zeros((2, 2)), [1, 2], np.eye(2), 0.25, 3)
    assert step_line(zero) == (0.25, 0.0)
