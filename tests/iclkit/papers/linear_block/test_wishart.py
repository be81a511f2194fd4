"""The exact Bayes risk of equal task variances, against moments, quadrature and sampling."""

import itertools

import numpy as np
import pytest

from iclkit.papers.linear_block import bayes_equivalent, bayes_exact, bayes_risk, isotropic_prior
from iclkit.papers.linear_block.prior import RegressionPrior
from iclkit.papers.linear_block.wishart import _eigenvalue_density
from iclkit.rng import stream
from tests.tolerances import ROOT, SIGMAS

SHAPES = [
    (1, 0),
    (4, 2),
    (1, 7),
    (2, 0),
    (2, 5),
    (3, 1),
    (4, 0),
    (5, 20),
    (10, 90),
    (20, 3),
    (7, 900),
]


@pytest.mark.parametrize(("n", "extra"), SHAPES)
def test_moments_of_the_density(n, extra):
    """E tr W = nN, E tr W^2 = nN(n + N + 1), E tr W^3, E tr W^-1 = n/(N - n - 1), N = n + extra."""
    x, weight = _eigenvalue_density(n, extra, 1e-9)
    N = n + extra
    third = n * N * (n**2 + N**2 + 3 * n * N + 3 * n + 3 * N + 4)
    moments = {0: n, 1: n * N, 2: n * N * (n + N + 1), 3: third}
    if extra > 1:
        moments[-1] = n / (extra - 1)
    for power, expected in moments.items():
        assert np.sum(weight * x**power) == pytest.approx(expected, rel=ROOT)


@pytest.mark.parametrize(("n_context", "noise_var"), [(1, 0.3), (2, 1.0), (9, 20.0)])
def test_one_dimension_by_quadrature(n_context, noise_var):
    """E noise/(noise + chi^2) over the chi^2 law of M degrees of freedom, in y = sqrt(chi^2)."""
    node, weight = np.polynomial.legendre.leggauss(400)
    y = 10 * (1 + node)
    density = weight * y ** (n_context - 1) * np.exp(-(y**2) / 2)
    expected = np.sum(density * noise_var / (noise_var + y**2)) / density.sum()
    prior = isotropic_prior(1, n_context=n_context, noise_var=noise_var)
    assert bayes_exact(prior) - noise_var == pytest.approx(expected, rel=ROOT)


@pytest.mark.parametrize(("n_context", "noise_var"), [(3, 0.5), (5, 2.0), (12, 5.0)])
def test_two_dimensions_by_quadrature(n_context, noise_var):
    """The joint density of both eigenvalues: |a - b| (ab)^((M-3)/2) exp(-(a+b)/2)."""
    node, weight = np.polynomial.legendre.leggauss(200)
    top, share = 9 * (1 + node), (1 + node) / 2
    a = (top**2)[:, None]
    b = a * share[None] ** 2  # the smaller one, in squares so that roots are smooth
    jacobian = top[:, None] * a * share[None]
    shape = (a - b) * (a * b) ** ((n_context - 3) / 2) * np.exp(-(a + b) / 2)
    density = shape * jacobian * np.outer(weight, weight)
    value = noise_var / (noise_var + a) + noise_var / (noise_var + b)
    expected = np.sum(density * value) / density.sum()
    prior = isotropic_prior(2, n_context=n_context, noise_var=noise_var)
    assert bayes_exact(prior) - noise_var == pytest.approx(expected, rel=ROOT)


@pytest.mark.parametrize(
    ("dim", "n_context", "noise_var", "expected", "stderr"),
    [
        (10, 10, 1, 2.856921, 1060e-6),
        (10, 10, 10, 6.251972, 875e-6),
        (10, 100, 10, 0.998749, 139e-6),
    ],
)
def test_reference_values(dim, n_context, noise_var, expected, stderr):
    """Excess risks with their standard errors, 100,000 draws each, from an earlier run of ours."""
    exact = bayes_exact(isotropic_prior(dim, n_context=n_context, noise_var=noise_var))
    assert abs(exact - noise_var - expected) < SIGMAS * stderr


@pytest.mark.parametrize(("dim", "n_context", "noise_var"), [(6, 3, 0.5), (4, 9, 2.0), (3, 3, 0.1)])
def test_sampling_agrees(dim, n_context, noise_var):
    prior = isotropic_prior(dim, n_context=n_context, noise_var=noise_var, task_var=1.7)
    drawn = bayes_risk(prior, n_draws=20_000, rng=stream(0, "bayes", dim))
    assert abs(drawn.value - bayes_exact(prior)) < SIGMAS * drawn.stderr


def test_units_axes_and_null_directions_do_not_matter():
    """Only the common eigenvalue of Phi and its multiplicity count."""
    plain = bayes_exact(isotropic_prior(2, n_context=4, noise_var=1.0, task_var=3.0))
    turned = RegressionPrior(np.diag([4, 0.5, 1]), [1, 2, 3], np.diag([0.75, 6, 0]), 1.0, 4)
    assert bayes_exact(turned) == pytest.approx(plain, rel=ROOT)
    scaled = isotropic_prior(2, n_context=4, noise_var=1e-150, task_var=3e-150)
    assert bayes_exact(scaled) == pytest.approx(1e-150 * plain, rel=ROOT)


@pytest.mark.parametrize(("n_context", "excess"), [(1, 8.0), (3, 4.0), (5, 0.0), (9, 0.0)])
def test_without_noise_only_unseen_directions_cost(n_context, excess):
    prior = isotropic_prior(5, n_context=n_context, task_var=2.0)
    assert bayes_exact(prior) == excess


def test_known_tasks_cost_the_noise():
    assert bayes_exact(isotropic_prior(3, n_context=2, noise_var=0.7, task_var=0)) == 0.7


@pytest.mark.parametrize(("n_context", "share"), [(7, 5.0), (8, 2.5), (20, 5 / 14)])
def test_little_noise_costs_its_share_of_the_mean_inverse(n_context, share):
    """The excess tends to noise_var E tr W^-1."""
    prior = isotropic_prior(5, n_context=n_context, noise_var=1e-24)
    assert bayes_exact(prior) / 1e-24 - 1 == pytest.approx(share, rel=ROOT)


def test_noise_to_zero_and_to_infinity():
    for n_context in (3, 5, 7, 8):
        quiet = isotropic_prior(5, n_context=n_context, noise_var=1e-12)
        assert bayes_exact(quiet) == pytest.approx(max(5 - n_context, 0), abs=1e-5)
        loud = isotropic_prior(5, n_context=n_context, noise_var=1e9)
        assert bayes_exact(loud) - 1e9 == pytest.approx(5, rel=1e-6)


def test_the_equivalent_comes_closer_in_high_dimension():
    errors = []
    for dim, n_context in itertools.product([5, 20, 80], [2]):
        prior = isotropic_prior(dim, n_context=n_context * dim, noise_var=float(dim))
        errors.append(abs(bayes_equivalent(prior) / bayes_exact(prior) - 1))
    assert errors[0] > 3 * errors[1] > 9 * errors[2] > 0


def test_unequal_variances_are_refused():
    prior = RegressionPrior(np.eye(2), [0, 0], np.diag([1, 2]), 1.0, 3)
    with pytest.raises(ValueError, match=r"variances must be equal, got 1 to 2; use bayes_risk"):
        bayes_exact(prior)
    nearly = RegressionPrior(np.eye(2), [0, 0], np.diag([1, 1 + 1e-8]), 1.0, 3)
    with pytest.raises(ValueError, match="variances must be equal"):
        bayes_exact(nearly)
