"""Many steps of the dual model: one eigendecomposition against the loop, and what a step buys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.papers.dual_kernel.attention import attention_output
from iclkit.papers.dual_kernel.steps import (
    chebyshev_filter,
    descent_filter,
    direction_price,
    equivalent_penalty,
    filter_weights,
    flow_filter,
    kernel_spectrum,
    linear_risk,
    multi_step,
    polynomial_price,
    ridge_filter,
    softmax_spectrum,
    step_price,
    step_weights,
    stopping_bracket,
)
from iclkit.rng import stream
from tests.instances import det
from tests.tolerances import IDENTITY, MINIMUM, PRINTED, ROOT, SIGMAS

REFERENCE = {  # steps, predictions at three points
    1: [-0.0622113183, -0.19808902, 0.0366572528],
    4: [-0.5029244111, -0.8211071299, -0.2228472031],
    16: [-0.7765252613, -1.12882015, -0.2826659666],
    64: [-0.7412497303, -1.081368784, -0.2090870646],
}


def prompt(seed, d_k=3, n=7, d_v=2, n_queries=4):
    rng = stream(seed, "steps")
    shapes = [(d_k, n), (d_v, n), (d_k, n_queries)]
    return [rng.standard_normal(shape) for shape in shapes]


def descend(gram, cross, targets, steps, rate, decay=0.0):
    """Gradient descent on the squared loss, step by step, from zero."""
    coefficients = np.zeros_like(targets)
    for _ in range(steps):
        coefficients = coefficients + rate * (targets - coefficients @ gram - decay * coefficients)
    return coefficients @ cross


def attend_to_residuals(keys, values, queries, steps):
    """Softmax attention to what earlier steps left of the values, step by step."""
    left, output = values, 0.0
    for _ in range(steps):
        output = output + attention_output(queries, keys, left)
        left = left - attention_output(keys, keys, left)
    return output


# ------------------------------------------------------------------ filters and the loop


def test_reference_values():
    x, w, points = det(4, 8, 0), det(1, 4, 1)[0], det(4, 3, 2)
    assert w @ points == pytest.approx([-0.7363511882, -0.8927485687, -0.1266108692], rel=PRINTED)
    spectrum = kernel_spectrum(np.exp(0.3 * x.T @ x))
    assert spectrum.values[-1] == pytest.approx(8.740803786, rel=PRINTED)
    scaled = np.sqrt(0.3) * x, (w @ x)[None], np.sqrt(0.3) * points
    found = multi_step(*scaled, list(REFERENCE))[:, 0]
    assert found == pytest.approx(np.array(list(REFERENCE.values())), rel=PRINTED)


@pytest.mark.parametrize("decay", [0.0, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_one_eigendecomposition_replaces_the_loop(seed, decay):
    keys, values, queries = prompt(seed)
    gram, cross = np.exp(keys.T @ keys), np.exp(keys.T @ queries)
    rate = 1.3 / (np.linalg.eigvalsh(gram)[-1] + decay)
    steps = [0, 1, 2, 17, 100]
    found = multi_step(keys, values, queries, steps, rate=rate, decay=decay)
    loops = np.array([descend(gram, cross, values, t, rate, decay) for t in steps])
    assert np.abs(found - loops).max() < ROOT * max(np.abs(loops).max(), 1)


@pytest.mark.parametrize("seed", range(5))
def test_normalised_steps_are_softmax_attention_to_residuals(seed):
    keys, values, queries = prompt(seed)
    found = multi_step(keys, values, queries, [0, 1, 2, 30], normalised=True)
    loops = [attend_to_residuals(keys, values, queries, t) for t in (1, 2, 30)]
    assert np.all(found[0] == 0)
    assert found[1:] == pytest.approx(np.array(loops), rel=1e-9, abs=1e-9)


def test_the_first_steps_are_attention():
    keys, values, queries = prompt(9)
    plain = multi_step(keys, values, queries, 1, rate=0.25)[0]
    assert plain == pytest.approx(0.25 * values @ np.exp(keys.T @ queries), rel=1e-10)
    softmax = multi_step(keys, values, queries, 1, normalised=True)[0]
    assert softmax == pytest.approx(attention_output(queries, keys, values), rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_softmax_weights_sum_to_one_after_every_step_and_have_stable_eigenvalues(seed):
    keys, _, queries = prompt(seed, n=12)
    weights = step_weights(keys, queries, [1, 3, 50], normalised=True)
    assert weights.sum(axis=1) == pytest.approx(1.0, abs=1e-9)
    shares = np.exp(keys.T @ keys)
    direct = np.sort(np.linalg.eigvals(shares / shares.sum(axis=1, keepdims=True)).real)
    values = softmax_spectrum(keys).values
    assert values == pytest.approx(direct, abs=ROOT)
    assert values[0] >= 0
    assert values[-1] == pytest.approx(1.0, abs=IDENTITY)


def test_many_steps_interpolate():
    keys, values, _ = prompt(2, n=5)
    for normalised in (False, True):
        found = multi_step(keys, values, keys, 10**9, normalised=normalised)[0]
        assert found == pytest.approx(values, abs=1e-6)


def test_decayed_steps_tend_to_ridge():
    keys, values, queries = prompt(4)
    gram, cross = np.exp(keys.T @ keys), np.exp(keys.T @ queries)
    ridge = values @ np.linalg.solve(gram + 0.5 * np.eye(7), cross)
    found = multi_step(keys, values, queries, 10**6, decay=0.5)[0]
    assert found == pytest.approx(ridge, rel=1e-9, abs=1e-9)
    spectrum = kernel_spectrum(gram)
    direct = filter_weights(spectrum, cross, ridge_filter(spectrum.values, 0.5))
    assert values @ direct[0] == pytest.approx(ridge, rel=1e-9, abs=1e-9)


def test_softmax_steps_do_not_overflow():
    keys = 40 * np.array([[0.6, 0.8, 1.0, 0.0], [0.8, 0.6, 0.0, 1.0]])  # scores up to 1600
    values, queries = np.array([[1.0, 2.0, 3.0, 4.0]]), keys[:, :2] + 0.1
    found = multi_step(keys, values, queries, [1, 5], normalised=True)
    assert found[0] == pytest.approx(attention_output(queries, keys, values), abs=ROOT)
    with pytest.raises(ValueError, match="take normalised=True"):
        multi_step(keys, values, queries, 1)
    with pytest.raises(ValueError, match="log normalisers within 40"):
        multi_step(keys * [1, 0.9, 1, 1], values, queries, 1, normalised=True)


def test_flow_is_the_limit_of_small_steps():
    values = np.array([0.0, 1e-9, 0.3, 4.0])
    flow = flow_filter(values, [0.0, 2.0])
    steps = descent_filter(values, 10**7, rate=2.0 / 10**7)
    assert np.all(flow[0] == 0)
    assert flow[1] == pytest.approx(steps[0], rel=1e-6)
    assert flow[1, 0] == 2.0


@pytest.mark.parametrize("learned", [0.0, 1e-14, 1e-6, 0.3, 0.5, 0.9, 1.0, 1.7, 2.0])
def test_descent_filter_is_a_geometric_series(learned):
    found = descent_filter([learned], [0, 1, 2, 9], rate=1.0)[:, 0]
    sums = [sum((1 - learned) ** s for s in range(t)) for t in (0, 1, 2, 9)]
    assert found == pytest.approx(sums, rel=1e-13)


def test_equivalent_penalty_is_that_ridge_in_each_direction():
    values, rate = np.array([0.0, 0.1, 1.0, 2.5]), 0.4
    penalty = equivalent_penalty(values, 7, rate=rate)
    steps = descent_filter(values, 7, rate=rate)[0]
    assert 1 / (values + penalty) == pytest.approx(steps, rel=IDENTITY)
    assert penalty[0] == pytest.approx(1 / (7 * rate), rel=IDENTITY)
    assert np.all(np.diff(penalty) < 0)


# ------------------------------------------------------------------ risks


def test_linear_risk_is_the_mean_over_tasks():
    rng = stream(0, "risk")
    x, points, noise_var = rng.uniform(-1, 1, (3, 6)), rng.uniform(-1, 1, (3, 2)), 0.4
    weights = rng.standard_normal((6, 2))
    risk = linear_risk(
        weights, x.T @ x + noise_var * np.eye(6), x.T @ points, (points**2).sum(axis=0)
    )
    tasks = rng.standard_normal((100_000, 3))
    labels = tasks @ x + np.sqrt(noise_var) * rng.standard_normal((100_000, 6))
    losses = (labels @ weights - tasks @ points) ** 2
    stderr = losses.std(axis=0) / np.sqrt(len(losses))
    assert np.all(np.abs(losses.mean(axis=0) - risk) < SIGMAS * stderr)


@pytest.mark.parametrize("seed", range(4))
def test_risk_of_kernel_tasks_is_a_sum_over_directions(seed):
    keys, _, queries = prompt(seed, n=6)
    gram, cross, own = (
        np.exp(keys.T @ keys),
        np.exp(keys.T @ queries),
        np.exp((queries**2).sum(axis=0)),
    )
    noise_var, spectrum = 0.8, kernel_spectrum(gram)
    u = spectrum.values / noise_var
    filters = descent_filter(spectrum.values, [1, 3, 20], rate=1 / spectrum.values[-1])
    risk = linear_risk(
        filter_weights(spectrum, cross, filters), gram + noise_var * np.eye(6), cross, own
    )
    share = (spectrum.vectors.T @ cross) ** 2 / spectrum.values[:, None]
    bayes = share / (1 + u[:, None])
    unseen = own - share.sum(axis=0)
    assert unseen.min() > 0
    price = direction_price(u, filters * spectrum.values)
    assert risk == pytest.approx(unseen + price @ bayes, rel=1e-8)
    best = np.linalg.solve(gram + noise_var * np.eye(6), cross)
    exact = linear_risk(best, gram + noise_var * np.eye(6), cross, own)
    assert unseen + bayes.sum(axis=0) == pytest.approx(exact, rel=1e-8)


def test_price_is_one_plus_a_square():
    u, h = np.meshgrid([0.01, 1.0, 50.0], [-0.5, 0.0, 0.3, 1.0, 1.7])
    square = (1 - (1 + u) * (1 - h)) ** 2 / u
    assert direction_price(u, h) == pytest.approx(1 + square, rel=IDENTITY)


def test_one_step_of_the_noise_misses_bayes_by_a_cube():
    u = np.geomspace(1e-3, 10, 7)
    assert direction_price(u, u) == pytest.approx(1 + u**3, rel=IDENTITY)
    for steps in (1, 2, 5):
        rate = 0.3 / (1 + u.max())
        decayed = u * descent_filter(u, steps, rate=rate, decay=1.0)[0]
        missed = u * (1 - rate * (1 + u)) ** (2 * steps)
        assert direction_price(u, decayed) == pytest.approx(1 + missed, rel=IDENTITY)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e4), st.integers(1, 12))
def test_no_scheme_of_some_steps_is_cheaper_than_the_chebyshev_filter(ceiling, steps):
    u = ceiling * np.sin(np.linspace(1e-4, np.pi / 2, 4_001)) ** 2
    price = polynomial_price(steps, ceiling)
    worst = direction_price(u, u * chebyshev_filter(u, steps, noise_var=1.0)).max()
    assert worst <= price * (1 + IDENTITY)
    assert worst - 1 == pytest.approx(price - 1, rel=1e-3, abs=1e-9)
    for other in (step_price(steps, ceiling), step_price(steps, ceiling, decayed=True)):
        assert other.price - 1 >= (price - 1) * (1 - 1e-3) - 1e-9


def test_the_best_filter_is_an_equioscillating_polynomial():
    u, steps = 30.0 * np.sin(np.linspace(1e-3, np.pi / 2, 20_001)) ** 2, 3
    filters = chebyshev_filter(u, steps, noise_var=1.0, top=30.0)
    fit = np.polynomial.Polynomial.fit(u, filters, steps - 1)
    assert fit(u) == pytest.approx(filters, rel=1e-10)
    error = (u * filters - u / (1 + u)) * (1 + u) / np.sqrt(u)
    turns = np.abs(error) > (1 - 1e-6) * np.sqrt(polynomial_price(steps, 30.0) - 1)
    signs = np.sign(error[turns])
    assert np.count_nonzero(np.diff(signs)) == steps  # steps + 1 extrema of alternating sign


def test_price_of_one_step_and_of_the_flow():
    for ceiling in (0.3, 1.0, 8.0, 100.0):
        found = step_price(1, ceiling)
        exact = 1 + ceiling**3 / (3 * ceiling + 4) ** 2
        assert found.price == pytest.approx(exact, rel=1e-5)
        assert polynomial_price(1, ceiling) == pytest.approx(exact, rel=IDENTITY)
        assert found.rate == pytest.approx(4 / (3 * ceiling + 4), rel=1e-3)
    assert polynomial_price(0, 8.0) == pytest.approx(9.0, rel=IDENTITY)
    flow = step_price()
    u = np.geomspace(1e-4, 1e4, 100_001)
    assert flow.price == pytest.approx(1.078583, abs=2e-6)
    at_best = direction_price(u, -np.expm1(-flow.rate * u)).max()
    at_one = direction_price(u, -np.expm1(-u)).max()
    assert at_best == pytest.approx(flow.price, rel=MINIMUM)
    assert at_one == pytest.approx(
        1.21466, abs=1e-5
    )  # recalled from Ali, Kolter and Tibshirani 2019


@pytest.mark.parametrize("seed", range(6))
def test_the_best_number_of_steps_lies_in_the_bracket(seed):
    keys, _, queries = prompt(seed, n=10)
    gram, cross = np.exp(keys.T @ keys), np.exp(keys.T @ queries)
    noise_var, spectrum = 0.3, kernel_spectrum(gram)
    low, high = stopping_bracket(spectrum.values, noise_var)
    steps = np.arange(1, high + 50)
    rate = 1 / spectrum.values[-1]
    weights = step_weights(keys, queries, steps, rate=rate)
    own = np.exp((queries**2).sum(axis=0))
    risk = linear_risk(weights, gram + noise_var * np.eye(10), cross, own)
    best = steps[np.argmin(risk, axis=0)]
    assert np.all((low <= best) & (best <= high))
    assert high <= np.ceil(spectrum.values[-1] / noise_var)
    late = np.diff(risk[steps >= high], axis=0)
    assert late.min() > -ROOT * risk.max()


def test_noise_is_amplified_by_every_step():
    keys, _, queries = prompt(3)
    weights = step_weights(keys, queries, np.arange(200))
    assert np.all(np.diff((weights**2).sum(axis=1), axis=0) > 0)


# ------------------------------------------------------------------ wrong input


KEYS, VALUES, QUERIES = [[0, 1]], [[1, 2]], [[3]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: multi_step(KEYS, [[1]], QUERIES, 1), "keys and values must have as many columns"),
        (lambda: multi_step(KEYS, VALUES, [[1], [2]], 1), "keys and queries must have one length"),
        (lambda: multi_step(KEYS, VALUES, QUERIES, -1), "steps must be >= 0, got -1"),
        (lambda: multi_step(KEYS, VALUES, QUERIES, 1.5), "steps must be whole numbers, got 1.5"),
        (lambda: multi_step(KEYS, VALUES, QUERIES, 2, rate=9.0), "rate must be <= "),
        (lambda: multi_step(KEYS, VALUES, QUERIES, 1, decay=-1.0), "decay must be finite and >= 0"),
        (lambda: multi_step([[np.nan, 1]], VALUES, QUERIES, 1), "keys must be finite"),
        (lambda: multi_step(1e200 * np.ones((1, 2)), VALUES, QUERIES, 1), "finite scores"),
        (lambda: kernel_spectrum([[1, 2]]), "gram must be square"),
        (lambda: kernel_spectrum([[1, 2], [0, 1]]), "gram must be symmetric"),
        (lambda: kernel_spectrum([[1, 2], [2, 1]]), "positive semi-definite"),
        (lambda: kernel_spectrum([[0]]), "positive semi-definite"),
        (lambda: descent_filter([-1.0], 1, rate=1.0), "values must be >= 0"),
        (lambda: ridge_filter([1.0], -1.0), "penalties must be >= 0"),
        (lambda: equivalent_penalty([1.0], 0, rate=1.0), "n_steps must be >= 1"),
        (lambda: equivalent_penalty([1.0], 1, rate=1.5), "rate must be <= 1"),
        (lambda: filter_weights(kernel_spectrum([[1]]), [[1], [1]], [[1]]), "cross must have 1"),
        (lambda: linear_risk([[1.0]], [[1.0]], [[1.0, 2.0]], [1.0]), "must have shapes"),
        (lambda: direction_price(0.0, 1.0), "snr must be > 0"),
        (lambda: step_price(3), "ceiling must be < 1e"),
        (lambda: step_price(0, 1.0), "n_steps must be >= 1"),
        (lambda: step_price(1.5, 1.0), "steps must be whole numbers"),
        (lambda: step_price(1, -1.0), "ceiling must be finite and > 0"),
        (lambda: polynomial_price(1, 0.0), "ceiling must be finite and > 0"),
        (lambda: chebyshev_filter([2.0], 1, noise_var=1.0, top=1.0), "top must be >= the largest"),
        (lambda: chebyshev_filter([2.0], 1, noise_var=0.0), "noise_var must be finite and > 0"),
        (lambda: stopping_bracket([0.0], 1.0), "values must not all be 0"),
        (lambda: stopping_bracket([1.0], 0.0), "noise_var must be finite and > 0"),
        (lambda: stopping_bracket([1.0], 1.0, rate=1.5), "rate must be <= 1"),
    ],
)
def test_wrong_input_gets_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_integer_input_works():
    assert multi_step(KEYS, VALUES, QUERIES, 1, normalised=True).dtype == np.float64
    assert descent_filter([1], 2, rate=1).tolist() == [[1.0]]
