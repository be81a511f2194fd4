"""Wishart traces and attention moments against draws, identities and limits."""

import numpy as np
import pytest

from iclkit import moments
from tests.oracles import sample_features_brute
from tests.tolerances import IDENTITY, PRINTED, SIGMAS

Z = np.logspace(-12, 12, 49)[:, None]
KAPPA = np.array([1e-3, 0.2, 0.999999, 1, 1.000001, 3, 1e4, np.inf])
DRAWS = 20_000


@pytest.mark.parametrize(
    ("z", "kappa", "expected"),
    [
        (0.101, 0.5, 5.37202708423),
        (0.101, 1, 2.68606184796),
        (0.101, 2, 1.47987314677),
        (5, 0.25, 0.179128784748),
        (1e-6, 1, 999.500125),
        (1e-6, 0.5, 500000.499999),
        (1e-12, 0.5, 5e11 + 0.5),
    ],
)
def test_resolvent_takes_its_reference_values(z, kappa, expected):
    assert moments.mp_resolvent(z, kappa) == pytest.approx(expected, rel=PRINTED)


def test_resolvent_solves_its_equation_for_small_and_large_arguments():
    m = moments.mp_resolvent(Z, KAPPA)
    filtered = 1 / (1 + m / KAPPA)  # kappa / (kappa + m), also at kappa = inf
    assert m * (Z + filtered) == pytest.approx(np.ones(m.shape), rel=IDENTITY)


def test_traces_obey_the_identities_between_them():
    at = moments.mp_traces(Z, KAPPA)
    whole = at.signal + Z * at.resolvent
    square = at.signal_square + 2 * Z * at.signal_resolvent + Z**2 * at.resolvent_square
    assert whole == pytest.approx(np.ones(whole.shape), rel=IDENTITY)
    assert square == pytest.approx(np.ones(whole.shape), rel=IDENTITY)
    parts = at.signal_square + Z * at.signal_resolvent
    assert parts == pytest.approx(at.signal, rel=IDENTITY)


def test_resolvent_square_is_minus_the_slope():
    z, kappa, step = np.array([0.01, 0.3, 5.0])[:, None], KAPPA[1:], 1e-5
    rise = moments.mp_resolvent(z * (1 + step), kappa) - moments.mp_resolvent(z * (1 - step), kappa)
    slope = moments.mp_traces(z, kappa).resolvent_square
    # A central difference errs by step^2 and by rounding over step.
    assert -rise / (2 * z * step) == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize("kappa", [0.4, 1.0, 2.5])
def test_traces_are_those_of_a_large_wishart_matrix(kappa, rng):
    d, z = 500, 0.2
    sample = rng.standard_normal((round(kappa * d), d))
    a = np.linalg.eigvalsh(sample.T @ sample / len(sample))
    spectral = [1 / (a + z), (a + z) ** -2.0, a / (a + z), a / (a + z) ** 2, (a / (a + z)) ** 2]
    # Traces of linear statistics fluctuate by O(1/d) around their limit.
    expected = moments.mp_traces(z, kappa)
    assert [part.mean() for part in spectral] == pytest.approx(list(expected), rel=10 / d)


@pytest.mark.parametrize(
    ("kappa", "resolvent", "signal"), [(0.3, np.inf, 0.3), (1, np.inf, 1), (3, 1.5, 1)]
)
def test_traces_at_zero_are_those_of_a_projector(kappa, resolvent, signal):
    at = moments.mp_traces(0, kappa)
    assert moments.mp_resolvent(0, kappa) == pytest.approx(resolvent)
    assert (at.resolvent, at.signal) == pytest.approx((resolvent, signal))
    assert at.signal_square == pytest.approx(signal)


def test_traces_at_infinite_kappa_are_those_of_the_identity():
    at = moments.mp_traces(Z, np.inf)
    assert at.signal == pytest.approx(1 / (1 + Z), rel=IDENTITY)
    assert at.signal_square == pytest.approx((1 + Z) ** -2.0, rel=IDENTITY)


def test_positive_root_does_not_cancel():
    b, c = np.array([-1e8, -1.0, 0.0, 2.0, 1e8]), np.array([1e-8, 2.0, 4.0, 0.0, 1.0])
    assert moments.positive_root(b, c) == pytest.approx([1e-16, 1, 2, 2, 1e8], rel=IDENTITY)


# ------------------------------------------------------------------ attention


def _z(samples, expected):
    """Largest deviation of a mean from its expectation in standard errors."""
    stderr = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    return np.max(np.abs(samples.mean(axis=0) - expected) / stderr)


def _sphere(n, rng):
    tasks = rng.standard_normal((n, 3))
    return tasks * np.sqrt(3) / np.linalg.norm(tasks, axis=1, keepdims=True)


def _draws(tasks, rng, n_context=4, noise_var=0.25):
    features = sample_features_brute(tasks, n_context=n_context, noise_var=noise_var, rng=rng)
    return features, np.einsum("ni,nj->nij", features, features)


def test_moments_on_the_sphere_are_those_of_drawn_contexts(rng):
    tasks = _sphere(DRAWS, rng)
    features, squares = _draws(tasks, rng)
    exact = moments.attention_moments(np.zeros(3), np.eye(3), n_context=4, noise_var=0.25)
    assert _z(squares, exact.gram) < SIGMAS
    assert _z(np.einsum("ni,nj->nij", tasks, features), exact.cross) < SIGMAS


def test_a_wrong_corner_is_noticed(rng):
    _, squares = _draws(_sphere(DRAWS, rng), rng)
    exact = moments.attention_moments(np.zeros(3), np.eye(3), n_context=4, noise_var=0.25)
    wrong = exact.gram.copy()
    wrong[-1, -1] *= (1 + 0.25**2) / (1 + 0.25) ** 2
    assert _z(squares, wrong) > SIGMAS


def test_moments_of_normal_tasks_with_a_mean_are_those_of_drawn_contexts(rng):
    mean = np.array([0.5, -0.3, 0.2])
    root = np.array([[0.8, 0, 0], [0.3, 0.9, 0], [0, -0.2, 0.7]])
    tasks = mean + rng.standard_normal((DRAWS, 3)) @ root.T
    features, squares = _draws(tasks, rng)
    exact = moments.attention_moments(
        mean, root @ root.T + np.outer(mean, mean), n_context=4, noise_var=0.25, gaussian=True
    )
    assert _z(squares, exact.gram) < SIGMAS
    assert _z(np.einsum("ni,nj->nij", tasks, features), exact.cross) < SIGMAS


def test_moments_of_a_pool_of_any_norm_are_those_of_drawn_contexts(rng):
    pool = np.array([[2.0, 0.5, 0.0], [0.1, -0.4, 1.0]])
    tasks = pool[np.arange(DRAWS) % 2]
    features, squares = _draws(tasks, rng)
    exact = moments.pool_moments(pool, n_context=4, noise_var=0.25)
    assert _z(squares, exact.gram) < SIGMAS
    assert _z(np.einsum("ni,nj->nij", tasks, features), exact.cross) < SIGMAS


def test_the_moments_of_a_pool_on_the_sphere_need_two_moments_only(rng):
    tasks = _sphere(5, rng)
    by_tasks = moments.pool_moments(tasks, n_context=7, noise_var=0.3)
    two = (tasks.mean(axis=0), tasks.T @ tasks / 5)
    by_moments = moments.attention_moments(*two, n_context=7, noise_var=0.3)
    for one, other in zip(by_tasks, by_moments, strict=True):
        assert one == pytest.approx(other, rel=IDENTITY, abs=IDENTITY)


def test_readout_error_is_that_of_drawn_prompts(rng):
    gamma = np.array([[0.5, 0.1, 0, 0.05], [0, 0.4, -0.1, 0], [0.2, 0, 0.3, 0.1]])
    tasks = _sphere(DRAWS, rng)
    features, _ = _draws(tasks, rng)
    x = rng.standard_normal((DRAWS, 3)) / np.sqrt(3)
    y = np.einsum("nd,nd->n", x, tasks) + np.sqrt(0.25) * rng.standard_normal(DRAWS)
    loss = (y - np.einsum("nd,de,ne->n", x, gamma, features)) ** 2
    exact = moments.attention_moments(np.zeros(3), np.eye(3), n_context=4, noise_var=0.25)
    value = moments.readout_error(gamma, exact)
    assert _z(loss, value) < SIGMAS
    assert _z(loss, 1.15 * value) > SIGMAS  # about 13 standard errors


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: moments.mp_resolvent(-1, 1), ValueError, r"z must be .*>= 0, got -1"),
        (lambda: moments.mp_resolvent(1, 0), ValueError, r"kappa must be > 0, got 0"),
        (lambda: moments.mp_traces(np.nan, 1), ValueError, r"z must be .*got nan"),
        (lambda: moments.mp_traces("a", 1), TypeError, r"z must hold real numbers"),
        (
            lambda: moments.attention_moments([0, 0], np.eye(3), n_context=2, noise_var=0.1),
            ValueError,
            r"task_moment must have shape \(2, 2\)",
        ),
        (
            lambda: moments.attention_moments([0, 0], np.eye(2), n_context=2, noise_var=-0.1),
            ValueError,
            r"noise_var must be .*>= 0, got -0.1",
        ),
        (
            lambda: moments.pool_moments(np.eye(2), n_context=0, noise_var=0.1),
            ValueError,
            r"n_context must be .*> 0, got 0",
        ),
        (
            lambda: moments.readout_error(
                np.eye(2), moments.pool_moments(np.eye(2), n_context=1, noise_var=0)
            ),
            ValueError,
            r"gamma must have shape \(2, 3\)",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
