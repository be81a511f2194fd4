"""Gradient flow against the printed equation, finite differences, bounds and printed values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from iclkit.papers.linear_block import (
    Reduced,
    RegressionPrior,
    Weights,
    block_flow,
    flow,
    flow_bounds,
    flow_field,
    gd_risk,
    gd_to_block,
    gradient_flow,
    isotropic_prior,
    local_rates,
    loss_hessian,
    network_gradient,
    network_risk,
    optimal_gd,
    reduced_gradient,
    saddle_excess,
    step_hessian,
    trapped_block,
)
from tests.instances import PRIORS
from tests.oracles import flow_velocity_as_printed
from tests.tolerances import IDENTITY, PRINTED

NAMES = sorted(PRIORS)
SMALL = ["DIAG4", "FIG1", "GEN3", "RANKDEF"]


def random_prior(rng, dim, *, rank=None):
    """A prior in general position; of H the given rank."""
    left, right = rng.standard_normal((dim, rank or dim)), rng.standard_normal((dim, dim))
    mean, noise_var = rng.standard_normal(dim), float(rng.exponential())
    n_context = int(rng.integers(1, 12))
    return RegressionPrior(left @ left.T, mean, right @ right.T / dim, noise_var, n_context)


def random_start(prior, rng, size=1.0):
    return {
        "beta0": size * rng.standard_normal(prior.dim),
        "gamma0": size * rng.standard_normal((prior.dim, prior.dim)),
    }


def five_points(function, at, direction):
    """Derivative along a direction; exact for polynomials of degree 4."""
    values = [np.asarray(function(at + step * direction)) for step in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / 12


def derivatives(function, at):
    return np.array([five_points(function, at, e) for e in np.eye(len(at))])


def split(point, dim):
    return point[:dim], point[dim:].reshape(dim, dim)


# ------------------------------------------------------------------ the path


@pytest.mark.parametrize(
    ("name", "times", "expected"),
    [
        (
            "FIG1",
            [0.5, 1, 2, 5, 10],
            [4.2797565542, 3.7911732457, 3.2180750239, 2.7542654418, 2.7273914079],
        ),
        (
            "DIAG4",
            [1, 5, 20, 50, 100],
            [3.3570300848, 2.4629675285, 2.1659927771, 2.1410612559, 2.1403527516],
        ),
    ],
)
def test_reference_values(name, times, expected):
    assert gradient_flow(PRIORS[name], times).risk == pytest.approx(expected, rel=PRINTED / 10)


def test_reference_distances():
    path = gradient_flow(PRIORS["FIG1"], [1, 5])
    assert path.beta_error == pytest.approx([1.5082694979, 0.2228007094], rel=PRINTED)
    path = gradient_flow(PRIORS["DIAG4"], [20])
    assert path.gamma_error == pytest.approx([0.64945328924], rel=PRINTED)


@pytest.mark.parametrize("name", SMALL)
def test_velocity_is_the_printed_equation(name, rng):
    prior = PRIORS[name]
    beta, gamma = random_start(prior, rng, 2.0).values()
    for found, expected in zip(
        flow_field(prior, beta, gamma), flow_velocity_as_printed(prior, beta, gamma), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=IDENTITY, atol=IDENTITY)


@pytest.mark.parametrize("name", SMALL)
def test_velocity_is_minus_half_the_gradient(name, rng):
    prior, dim = PRIORS[name], PRIORS[name].dim
    at = rng.standard_normal(dim + dim**2)
    slope = derivatives(lambda point: gd_risk(prior, *split(point, dim)), at)
    found = np.concatenate([part.ravel() for part in flow_field(prior, *split(at, dim))])
    np.testing.assert_allclose(found, -slope / 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_hessian_is_the_derivative_of_the_gradient(name, rng):
    prior, dim = PRIORS[name], PRIORS[name].dim
    at = rng.standard_normal(dim + dim**2)
    slope = derivatives(
        lambda point: np.concatenate([v.ravel() for v in flow_field(prior, *split(point, dim))]), at
    )
    np.testing.assert_allclose(
        loss_hessian(prior, *split(at, dim)), -2 * slope, rtol=IDENTITY, atol=1e-10
    )


def test_path_is_that_of_small_steps():
    prior = PRIORS["GEN3"]
    beta, gamma, step = np.zeros(3), np.zeros((3, 3)), 0.002

    def moved(by, velocity):
        return beta + by * velocity[0], gamma + by * velocity[1]

    for _ in range(500):  # the classical Runge-Kutta method
        a = flow_velocity_as_printed(prior, beta, gamma)
        b = flow_velocity_as_printed(prior, *moved(step / 2, a))
        c = flow_velocity_as_printed(prior, *moved(step / 2, b))
        d = flow_velocity_as_printed(prior, *moved(step, c))
        beta, gamma = (
            w + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            for w, k1, k2, k3, k4 in zip((beta, gamma), a, b, c, d, strict=True)
        )
    path = gradient_flow(prior, [0.3, 1])
    np.testing.assert_allclose(path.beta[1], beta, rtol=1e-8)  # (step times rate)^4 is 1e-6
    np.testing.assert_allclose(path.gamma[1], gamma, rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_fields_belong_together(name, rng):
    prior, best = PRIORS[name], optimal_gd(PRIORS[name])
    path = gradient_flow(prior, [0.0, 0.5, 3.0], **random_start(prior, rng))
    for i in range(3):
        risk = gd_risk(prior, path.beta[i], path.gamma[i])
        assert path.risk[i] == pytest.approx(risk, rel=IDENTITY)
        assert path.excess[i] == pytest.approx(risk - best.risk, rel=1e-9)
        H = prior.input_cov
        inside = np.linalg.pinv(H) @ H
        e, shift = inside @ (path.beta[i] - best.beta), inside @ (path.gamma[i] - best.gamma)
        assert path.beta_error[i] == pytest.approx(np.linalg.norm(e), rel=IDENTITY)
        assert path.gamma_error[i] == pytest.approx(np.linalg.norm(shift @ inside), rel=1e-9)


@pytest.mark.parametrize("name", ["DIAG4", "RANKDEF"])
def test_random_starts_end_in_the_optimum(name, rng):  # ZH-T63a
    prior, best = PRIORS[name], optimal_gd(PRIORS[name])
    for _ in range(3):
        path = gradient_flow(prior, [0, 600], **random_start(prior, rng, 3.0))
        assert path.risk[-1] == pytest.approx(best.risk, rel=IDENTITY)
        assert path.beta_error[-1] < 1e-9 > path.gamma_error[-1]


def test_null_components_never_move(rng):
    prior = PRIORS["RANKDEF"]  # the third input is always 0
    start = random_start(prior, rng)
    path = gradient_flow(prior, [0, 1, 100], **start)
    assert np.ptp(path.beta[:, 2]) == 0
    assert np.ptp(path.gamma[:, 2], axis=0).max() == 0
    assert np.ptp(path.gamma[:, :, 2], axis=0).max() == 0
    assert path.beta[-1, 2] == start["beta0"][2]


def test_null_components_never_move_in_any_basis(rng):
    prior = random_prior(rng, 4, rank=2)
    start = random_start(prior, rng)
    path = gradient_flow(prior, [0.1, 5], **start)
    null = np.linalg.svd(prior.input_cov)[0][:, 2:]
    for i in range(2):
        np.testing.assert_allclose(null.T @ path.beta[i], null.T @ start["beta0"], atol=1e-12)
        np.testing.assert_allclose(null.T @ path.gamma[i], null.T @ start["gamma0"], atol=1e-12)
        np.testing.assert_allclose(path.gamma[i] @ null, start["gamma0"] @ null, atol=1e-12)


def test_without_inputs_nothing_moves():
    prior = RegressionPrior(np.zeros((2, 2)), [1, 2], np.eye(2), 0.5, 3)
    path = gradient_flow(prior, [0, 7], beta0=[3, 4])
    assert path.risk == pytest.approx([0.5, 0.5])
    assert (path.beta == [3, 4]).all()
    with pytest.raises(ValueError, match="input_cov must not be zero"):
        local_rates(prior)


def test_a_known_task_without_noise():
    prior = RegressionPrior(np.eye(2), [1, 2], np.zeros((2, 2)), 0.0, 3)
    path = gradient_flow(prior, [0, 40])
    assert path.risk == pytest.approx([5, 0], abs=1e-12)


@pytest.mark.parametrize("name", ["GEN3", "POW20"])
def test_the_explicit_solver_gives_the_same_path(name, monkeypatch):
    times = [0.5, 20.0]
    stiff = gradient_flow(PRIORS[name], times)
    monkeypatch.setattr(flow, "_STIFF_RANK", 0)
    explicit = gradient_flow(PRIORS[name], times)
    assert explicit.risk == pytest.approx(stiff.risk, rel=1e-10)
    assert explicit.gamma_error == pytest.approx(stiff.gamma_error, rel=1e-8)


def test_times_need_not_start_at_zero_and_may_be_single_or_integer():
    prior = PRIORS["FIG1"]
    whole = gradient_flow(prior, [0, 1, 2])
    assert gradient_flow(prior, [2]).risk[0] == pytest.approx(whole.risk[2], rel=1e-10)
    assert gradient_flow(prior, [0]).risk[0] == pytest.approx(whole.risk[0], rel=IDENTITY)
    assert whole.beta.shape == (3, 5)
    assert whole.gamma.shape == (3, 5, 5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"times": [1, 1]}, ValueError, "times must .* increase"),
        ({"times": [-1, 1]}, ValueError, "times must start at 0 or later"),
        ({"times": [0, np.nan]}, ValueError, "times must be finite"),
        ({"times": 3.0}, ValueError, "times must have 1 axes"),
        ({"beta0": [1, 2]}, ValueError, r"beta must have shape \(5,\), got \(2,\)"),
        ({"gamma0": np.eye(4)}, ValueError, r"gamma must have shape \(5, 5\)"),
        ({"gamma0": np.full((5, 5), np.inf)}, ValueError, "gamma must be finite"),
        ({"prior": "FIG1"}, TypeError, "prior must be a RegressionPrior"),
    ],
)
def test_bad_input_is_named(changes, error, message):
    for function in (gradient_flow, flow_bounds):
        arguments = {"prior": PRIORS["FIG1"], "times": [0, 1]} | changes
        with pytest.raises(error, match=message):
            function(**arguments)


def test_a_solver_that_gives_up_says_when(monkeypatch):
    class Failed:
        success, message = False, "too stiff"

    monkeypatch.setattr(flow, "solve_ivp", lambda *_, **__: Failed)
    with pytest.raises(flow.ConvergenceError, match="up to time 3: too stiff"):
        gradient_flow(PRIORS["FIG1"], [3])


@pytest.mark.parametrize("start", [{"beta0": np.full(5, 1e80)}, {"gamma0": np.full((5, 5), 1e80)}])
def test_weights_out_of_range_are_named(start):
    for function in (gradient_flow, flow_bounds):
        with pytest.raises(ValueError, match=r"must be at most 1e\+70, got 1e\+80"):
            function(PRIORS["FIG1"], [0, 1], **start)


def test_a_path_that_gets_nowhere_ends_in_one_line(monkeypatch):
    monkeypatch.setattr(flow, "_PATIENCE", 2000)
    monkeypatch.setattr(flow, "_SOONEST", 0.0)  # such times are refused otherwise
    with pytest.raises(flow.ConvergenceError, match="does not get beyond time"):
        gradient_flow(PRIORS["FIG1"], [1e-300])


def test_speeds_that_are_no_numbers_end_in_one_line():
    watched = flow._watched(lambda _, state: state * np.inf)
    with pytest.raises(flow.ConvergenceError, match=r"does not get beyond time 2, .* has size 3"):
        watched(2.0, np.array([1.0, -3.0]))


# ------------------------------------------------------------------ bounds and rates


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([0.1, 1.0, 5.0]))
def test_bounds_are_never_violated(seed, dim, size):  # ZH-T63b, ZH-T63c
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, dim)
    start, times = random_start(prior, rng, size), np.geomspace(1e-2, 30, 25)
    path = gradient_flow(prior, times, **start)
    bounds = flow_bounds(prior, times, **start)
    slack = 1 + 1e-9  # the sharp bound can be reached; errors below 1e-12 are the solver's
    assert (path.beta_error <= slack * bounds.beta_sharp + 1e-12).all()
    assert (path.gamma_error <= slack * bounds.gamma_sharp + 1e-12).all()
    assert (bounds.beta_sharp <= bounds.beta).all()
    assert (bounds.gamma_sharp <= slack * bounds.gamma).all()


def test_bounds_have_the_stated_form():
    prior, t = PRIORS["DIAG4"], 7.0
    bounds = flow_bounds(prior, [t], beta0=[3, 0, 0, 1])
    low, high, start = 0.25, 2.0, np.sqrt(4 + 1 + 4 + 1)
    omega = min(1.1 * phi + 0.4 for phi in (1, 1, 0.5, 0.5))
    own, c, drive = low**2 * omega, 2 * low / 11, 2.2 * high**2 * start**2
    best = np.linalg.norm(optimal_gd(prior).gamma)
    assert bounds.beta[0] == pytest.approx(np.exp(-low * t / 11) * start, rel=IDENTITY)
    expected = np.exp(-own * t) * best + drive * (np.exp(-c * t) - np.exp(-own * t)) / (own - c)
    assert bounds.gamma[0] == pytest.approx(expected, rel=IDENTITY)


def test_a_bound_with_equal_rates_is_a_limit():
    # H = 1, M = 1: c = 1 and a = 2 phi + kappa = 3 phi + noise.
    def at(noise_var):
        prior = RegressionPrior([[1.0]], [1.0], [[0.25]], noise_var, 1)
        return flow_bounds(prior, [0, 2.0]).gamma

    assert np.isfinite(at(0.25)).all()
    assert at(0.25) == pytest.approx(at(0.25 + 1e-9), rel=1e-7)


@pytest.mark.parametrize("name", SMALL)
def test_curvature_of_the_start_has_a_sharp_floor(name, rng):
    prior, m = PRIORS[name], PRIORS[name].n_context
    H = prior.input_cov
    for _ in range(50):
        gamma = rng.standard_normal(H.shape) * rng.exponential()
        excess = step_hessian(prior, gamma) - 2 * H / (m + 2)
        assert np.linalg.eigvalsh(excess)[0] > -1e-10
    n = rng.standard_normal(len(H)) @ H  # in the range of H
    n /= np.sqrt(n @ np.linalg.pinv(H) @ n)  # H^{1/2} times a unit vector
    worst = m / (m + 2) * np.outer(*[np.linalg.pinv(H) @ n] * 2)
    direction = np.linalg.pinv(H) @ n
    found = direction @ step_hessian(prior, worst) @ direction
    assert found == pytest.approx(2 / (m + 2), rel=1e-10)


@pytest.mark.parametrize(
    ("name", "beta", "gamma"),
    [("FIG1", 6 / 11, 12 / 11), ("DIAG4", 0.09909, 0.059375), ("TAB1", 21 / 61, 42 / 61)],
)
def test_local_rates_have_their_reference_values(name, beta, gamma):
    rates = local_rates(PRIORS[name])
    assert rates.beta == pytest.approx(beta, rel=3e-5)
    assert rates.gamma == pytest.approx(gamma, rel=3e-5)


@pytest.mark.parametrize(("name", "time"), [("FIG1", 20), ("DIAG4", 300), ("GEN3", 150)])
def test_the_flow_has_its_local_rates(name, time, rng):  # ZH-T63d
    prior = PRIORS[name]
    path = gradient_flow(prior, [time, 1.2 * time], **random_start(prior, rng))
    rates = local_rates(prior)
    for error, rate in ((path.beta_error, rates.beta), (path.gamma_error, rates.gamma)):
        assert np.log(error[0] / error[1]) / (0.2 * time) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("name", [*SMALL, "POW20"])
def test_local_rates_are_the_spectrum_at_the_optimum(name):
    prior, best, rates = PRIORS[name], optimal_gd(PRIORS[name]), local_rates(PRIORS[name])
    spectrum = np.linalg.eigvalsh(loss_hessian(prior, best.beta, best.gamma)) / 2
    modes = np.sort(np.concatenate([rates.beta_modes, rates.gamma_modes]))
    moving = spectrum[len(spectrum) - len(modes) :]
    np.testing.assert_allclose(moving, modes, rtol=1e-9, atol=1e-14)
    assert np.abs(spectrum[: -len(modes)]).max(initial=0) < 1e-12
    assert rates.beta == pytest.approx(rates.beta_modes[0])


@pytest.mark.parametrize("m", [1, 5, 100])
def test_the_sharp_rate_is_reached_in_one_dimension_without_noise(m):
    assert local_rates(isotropic_prior(1, n_context=m)).beta == pytest.approx(2 / (m + 2))
    rate = local_rates(isotropic_prior(4, n_context=m)).beta
    assert rate == pytest.approx(5 / (m + 5))


@pytest.mark.parametrize(("task_var", "noise_var"), [([1], 0.0), ([1, 0], 0.0), ([1], 1.0)])
def test_one_direction_without_noise_exerts_no_force(task_var, noise_var, rng):
    dim = len(task_var)
    prior = RegressionPrior(np.eye(dim), np.ones(dim), np.diag(task_var), noise_var, 5)
    rates = local_rates(prior)
    forced = min(rates.gamma_modes[0], 2 * rates.beta)
    assert (rates.gamma > forced + 1e-3) == (dim == 1 and not noise_var)
    window = np.array([14, 17])
    errors = gradient_flow(prior, window, **random_start(prior, rng)).gamma_error
    assert np.log(errors[0] / errors[1]) / np.ptp(window) == pytest.approx(rates.gamma, rel=1e-2)


# ------------------------------------------------------------------ not convex


def test_hessian_at_zero_has_its_reference_eigenvalues():  # ZH-T63e
    hessian = loss_hessian(isotropic_prior(1, n_context=5, mean=1), [0], [[0]])
    assert np.linalg.eigvalsh(hessian) == pytest.approx([-0.586, 8.186], abs=5e-4)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("factor", "sign"), [(0.99, 1), (1.01, -1)])
def test_the_risk_is_not_convex_beyond_the_stated_distance(seed, factor, sign):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, 3)
    m, values = prior.n_context, np.linalg.eigh(prior.input_cov)
    root = values[1] * np.sqrt(values[0]) @ values[1].T
    n = rng.standard_normal(3)
    n /= np.linalg.norm(n)
    phi = root @ prior.task_cov @ root
    limit = (m + 1) * n @ phi @ n + np.trace(phi) + prior.noise_var
    h = n * np.sqrt(factor * limit / (3 * m - 2))
    whitened = np.linalg.inv(root)
    hessian = loss_hessian(prior, prior.task_mean + whitened @ h, np.zeros((3, 3)))
    # The slice spanned by beta along n and gamma along n n^T, in whitened coordinates.
    span = np.zeros((12, 2))
    span[:3, 0], span[3:, 1] = whitened @ n, np.kron(whitened @ n, whitened @ n)
    assert np.sign(np.linalg.eigvalsh(span.T @ hessian @ span)[0]) == sign


# ------------------------------------------------------------------ the block's own weights


def small_block(prior, rng, size):
    shape = (prior.dim + 1, prior.dim + 1)
    return Weights(*(size * rng.standard_normal(shape) for _ in range(6)))


def test_block_flow_starts_along_the_gradient_and_descends(rng):
    prior = RegressionPrior(np.diag([2.0, 0.5]), [1, -1], np.eye(2), 0.1, 4)
    start = small_block(prior, rng, 0.5)
    path = block_flow(prior, [0.0, 1e-5, 1.0, 50.0], start)
    slope = network_gradient(prior, start)[1]
    for before, after, part in zip(path.weights[0], path.weights[1], slope, strict=True):
        np.testing.assert_allclose((after - before) / 1e-5, -part / 2, rtol=2e-3, atol=1e-3)
    assert (np.diff(path.risk) < 0).all()
    for risk, weights in zip(path.risk, path.weights, strict=True):
        assert risk == pytest.approx(network_risk(prior, *weights), rel=IDENTITY)


def test_the_explicit_solver_follows_the_same_block(rng, monkeypatch):
    prior = isotropic_prior(2, n_context=4, mean=1.0)
    start = small_block(prior, rng, 0.5)
    stiff = block_flow(prior, [1, 10], start)
    monkeypatch.setattr(flow, "_STIFF_SIZE", 0)
    assert block_flow(prior, [1, 10], start).risk == pytest.approx(stiff.risk, rel=1e-6)


def test_attention_alone_flows_too(rng):
    prior = isotropic_prior(2, n_context=4, mean=1.0)
    start = small_block(prior, rng, 0.3)._replace(W_1=None, W_2=None)
    path = block_flow(prior, [0, 30], start)
    assert path.weights[-1].W_1 is None
    assert optimal_gd(prior).risk < path.risk[-1] < path.risk[0]


def test_block_flow_names_bad_input(rng):
    prior = isotropic_prior(2, n_context=4)
    start = small_block(prior, rng, 0.3)
    with pytest.raises(ValueError, match="times must start at 0"):
        block_flow(prior, [-1, 2], start)
    with pytest.raises(TypeError, match="weights must be Weights, got tuple"):
        block_flow(prior, [0, 2], tuple(start))
    with pytest.raises(ValueError, match="W_Q"):
        block_flow(prior, [0, 2], start._replace(W_Q=np.eye(2)))


@pytest.mark.parametrize("learned", [(True, True, False), (True, False, False), (False,) * 3])
def test_rungs_of_the_ladder_are_saddles(learned, rng):
    prior = RegressionPrior(np.eye(3), [2, 0, 0], np.diag([4, 1, 0.25]), 0.0, 10)
    best = optimal_gd(prior)
    block = gd_to_block(best.beta, best.gamma)
    keys = np.diag([*learned, 0]) * np.sqrt(np.diag([*np.diag(best.gamma), 0]))
    rung = block._replace(W_K=keys, W_Q=keys)
    risk, slope = network_gradient(prior, rung)
    assert risk - best.risk == pytest.approx(saddle_excess(prior, learned), rel=1e-10)
    assert max(np.abs(part).max() for part in slope) < 1e-12
    lost = np.flatnonzero(~np.array(learned))[0]
    move = np.zeros((4, 4))
    move[lost, lost] = 1e-3
    better = rung._replace(W_K=keys + move, W_Q=keys + move)
    assert network_risk(prior, *better) < risk - 1e-7


# ------------------------------------------------------------------ a local minimum of the block


def flat_gradient(prior, x):
    dim = prior.dim
    u, u0, U, v, gamma = np.split(x, np.cumsum([dim, 1, dim**2, dim]))
    slope = reduced_gradient(prior, Reduced(u, u0[0], U.reshape(dim, dim), v, gamma))[1]
    return np.concatenate([np.ravel(part) for part in slope])


@pytest.mark.parametrize("seed", range(12))
def test_the_trap_is_a_minimum_exactly_where_its_margin_exceeds_one(seed):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, int(rng.integers(2, 4)))
    trap = trapped_block(prior)
    x = np.concatenate([np.ravel(part) for part in trap.weights])
    assert np.abs(flat_gradient(prior, x)).max() < 1e-9
    # The gradient is cubic, so five points give the Hessian without error.
    eigenvalues = np.linalg.eigvalsh(derivatives(lambda at: flat_gradient(prior, at), x))
    smallest = eigenvalues / eigenvalues[-1]
    assert np.abs(smallest).min() < 1e-9  # the scale of (b, v)
    assert (smallest[0] > -1e-9) == (trap.margin > 1)


@pytest.mark.parametrize(("n_context", "noise_var"), [(1, 0.0), (2, 3.0), (9, 0.0), (9, 9.0)])
def test_the_trap_of_equal_directions_is_free_to_rotate_only(n_context, noise_var):
    prior = isotropic_prior(3, n_context=n_context, mean=1.0, noise_var=noise_var)
    trap = trapped_block(prior)
    x = np.concatenate([np.ravel(part) for part in trap.weights])
    eigenvalues = np.linalg.eigvalsh(derivatives(lambda at: flat_gradient(prior, at), x))
    flat = np.abs(eigenvalues) < 1e-9 * eigenvalues[-1]
    assert flat.sum() == 3  # the scale and two rotations
    assert (eigenvalues[~flat].min() > 0) == (trap.margin > 1)


@pytest.mark.parametrize(("side", "sign"), [(0.99, -1), (1.01, 1)])
def test_the_trap_opens_where_its_margin_is_one(side, sign):
    def prior(noise_var):
        return RegressionPrior(np.eye(2), [1, 2], np.diag([1.0, 0.9]), noise_var, 6)

    noise_var = brentq(lambda s: trapped_block(prior(s)).margin - side, 0.0, 50.0)
    x = np.concatenate([np.ravel(part) for part in trapped_block(prior(noise_var)).weights])
    slopes = derivatives(lambda at: flat_gradient(prior(noise_var), at), x)
    values = np.linalg.eigvalsh(slopes)
    nearest = values[np.abs(values) > 1e-9 * values[-1]][0]
    assert np.sign(nearest) == sign


def test_the_margin_does_not_depend_on_units():
    def margin(unit):
        cov = unit * np.diag([2.0, 1.0, 0.3])
        return trapped_block(RegressionPrior(cov, [1, 2, 3], np.eye(3), unit / 3, 4)).margin

    assert [margin(1e-200), margin(1e90)] == pytest.approx([margin(1.0)] * 2)


@pytest.mark.parametrize("name", ["DIAG4", "GEN3", "RANKDEF"])
def test_the_trap_lies_above_the_optimum_by_its_excess(name):
    trap = trapped_block(PRIORS[name])
    risk = reduced_gradient(PRIORS[name], trap.weights)[0]
    assert risk - optimal_gd(PRIORS[name]).risk == pytest.approx(trap.excess, rel=1e-10)


def test_with_one_direction_the_trap_is_the_optimum():
    prior = isotropic_prior(1, n_context=3, mean=2.0, noise_var=0.1)
    assert trapped_block(prior)[1:] == (0.0, np.inf)
    with pytest.raises(ValueError, match="task_cov must not be zero"):
        trapped_block(isotropic_prior(2, n_context=3, task_var=0.0))


def test_gradient_flow_on_the_weights_can_end_in_the_trap():
    prior = RegressionPrior(np.eye(3), [2, 0, 0], np.diag([4, 1, 0.25]), 0.0, 10)
    u, _, U, v, gamma = trapped_block(prior).weights
    nudge = 0.05 * np.random.default_rng(0).standard_normal((6, 4, 4))
    values, keys = np.eye(4), np.eye(4)
    values[3], keys[:3, :3], keys[3, :3], keys[3, 3] = [*u, 0.0], U, v, 0.0
    read = np.zeros((4, 4))
    read[3] = [*gamma, 1.0]
    start = Weights(
        *(
            w + n
            for w, n in zip(
                (np.eye(4), values, np.eye(4), keys, read, np.eye(4)), nudge, strict=True
            )
        )
    )
    path = block_flow(prior, [0, 400], start)
    assert path.risk[0] > path.risk[1] + 1e-3
    excess = path.risk[1] - optimal_gd(prior).risk
    assert excess == pytest.approx(trapped_block(prior).excess, rel=1e-6)
