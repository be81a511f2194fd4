"""The bridges of the page that maps the four theories onto each other, one test for each.

Identities hold to rounding at every size. A limit is shown by what is left, times the power of
the size with which it should vanish.
"""

import re

import numpy as np
import pytest

from iclkit import hermite
from iclkit.features import attention_features
from iclkit.moments import attention_moments, mp_resolvent, readout_error
from iclkit.papers import data_mixing as dm
from iclkit.papers import dual_kernel as dk
from iclkit.papers import linear_block as lb
from iclkit.papers import phase_transition as pt
from iclkit.predictors import GaussianBayes, GradientStep, LinearAttention
from iclkit.prompts import Gaussian, IsotropicLinear, Sphere, sphere_tasks
from iclkit.rng import stream
from iclkit.solvers import bilinear_ridge
from tests.tolerances import IDENTITY, ROOT

SIZES = [(3, 5, 0.2), (8, 40, 0.01), (20, 3, 1.5)]  # dimension, context, noise


def prompt(rng, d=4, n_context=7):
    law = IsotropicLinear(Gaussian(d), 0.2)
    x, y, query, *_ = law.sample(1, n_context, rng=rng)
    return x[0], y[0], query[0]


def softmax_answer(x, y, query, scale):
    return dk.attend(dk.Lookup(scale * query, x.T, y[None], len(y))).output[0]


def prior_of(d, n_context, rho, *, mean=None, moment=None):
    """The prior of chapter 2 with inputs as in chapter 4 and tasks of given moments."""
    mean = np.zeros(d) if mean is None else np.asarray(mean)
    moment = np.eye(d) if moment is None else moment
    return lb.RegressionPrior(np.eye(d) / d, mean, moment - np.outer(mean, mean), rho, n_context)


def best_readout(moments):
    """The least error of ``x^T gamma (h; s)``: linear attention whose values read labels only."""
    return readout_error(np.linalg.solve(moments.gram, moments.cross.T).T, moments)


def random_moment(rng, d):
    root = rng.standard_normal((d, d))
    return root @ root.T * (d / np.sum(root**2))


# ------------------------------------------------------------------ from a smoother to one step


def test_the_linear_kernel_is_one_gradient_step(rng):
    x, y, query = prompt(rng)
    lookup = dk.Lookup(query, x.T, y[None], len(y))
    smoothed = dk.kernel_attention(lookup, dk.KernelMap("linear"), normalised=False)[0]
    assert GradientStep(1.0)(x[None], y[None], query[None]) * len(y) == pytest.approx(
        smoothed, rel=IDENTITY
    )


def test_hot_softmax_is_a_step_on_centred_labels(rng):
    """What is left over falls with the square of the scale; without centring, with the first."""
    x, y, query = prompt(rng)
    h, centre = y @ x / len(y), y.mean() * x.mean(axis=0)
    scales = np.array([1e-1, 1e-2, 1e-3])
    answers = np.array([softmax_answer(x, y, query, c) for c in scales])
    left = (answers - y.mean() - scales * (query @ (h - centre))) / scales**2
    assert np.ptp(left[1:]) < 0.1 * abs(left[2])
    plain = (answers - y.mean() - scales * (query @ h)) / scales
    assert plain[2] == pytest.approx(-query @ centre, rel=0.02)
    assert abs(query @ centre) > 0.01


def test_one_step_and_bayes_are_two_filters(rng):
    x, y, query = prompt(rng)
    spectrum = dk.kernel_spectrum(x @ x.T)
    filters = [np.full(len(y), 0.7), dk.ridge_filter(spectrum.values, [0.2])[0]]
    assert np.allclose(dk.descent_filter(spectrum.values, [1], rate=0.7)[0], filters[0])
    weights = dk.filter_weights(spectrum, (x @ query)[:, None], np.array(filters))
    models = GradientStep(0.7 * len(y)), GaussianBayes(0.2)
    answers = [model(x[None], y[None], query[None])[0] for model in models]
    assert y @ weights[:, :, 0].T == pytest.approx(answers, rel=IDENTITY)


def test_second_steps_differ(rng):
    """Twice a step on a loss that is linear in the weights is one step of twice the size."""
    x, y, query = prompt(rng)
    rate = 0.5 / np.linalg.norm(x @ x.T, 2)  # half the largest stable step
    twice = dk.step_weights(x.T, query[:, None], [2], rate=rate)[0, :, 0] @ y
    assert abs(twice / (2 * rate * (y @ (x @ query))) - 1) > 0.01


# ------------------------------------------------------------------ the best matrix


def test_four_chapters_have_one_function(rng):
    d, n_context = 4, 7
    x, y, query = prompt(rng, d, n_context)
    gamma = rng.standard_normal((d, d))
    wanted = query @ gamma @ (y @ x) / n_context
    one = x[None], y[None], query[None]
    lookup = dk.Lookup(gamma.T @ query, x.T, y[None], n_context)
    smoothed = dk.kernel_attention(lookup, dk.KernelMap("linear"), normalised=False)[0]
    block = lb.BlockPredictor(lb.gd_to_block(np.zeros(d), gamma))(*one)[0]
    padded = np.column_stack([gamma, np.zeros(d)])
    read = dm.features(dm.summarise(*one, [0.0]))[0] @ padded.ravel()
    reduced = LinearAttention(padded / d)(*one)[0]
    found = [smoothed / n_context, block, read, reduced]
    assert found == pytest.approx([wanted] * 4, rel=IDENTITY)


@pytest.mark.parametrize(("d", "n_context", "rho"), SIZES)
def test_three_chapters_have_one_best_step(d, n_context, rho):
    prior = prior_of(d, n_context, rho)
    new = attention_moments(np.zeros(d), np.eye(d), n_context=n_context, noise_var=rho)
    a = 1 + 1 / n_context + d / n_context * (1 + rho)
    found = [lb.optimal_gd(prior).risk, lb.gd_zero(prior).risk, best_readout(new)]
    assert found == pytest.approx([rho + 1 - 1 / a] * 3, rel=IDENTITY)


@pytest.mark.parametrize(("d", "n_context", "rho"), SIZES)
def test_risks_of_any_step_are_the_same_in_both_chapters(rng, d, n_context, rho):
    gamma, moment = rng.standard_normal((d, d)), random_moment(rng, d)
    mean = 0.3 * np.linalg.eigh(moment)[1][:, -1]
    weights = np.column_stack([gamma / d, np.zeros(d)])
    at = {"n_context": n_context, "rho": rho, "task_mean": mean, "task_moment": moment}
    prior = prior_of(d, n_context, rho, mean=mean, moment=moment)
    risk = lb.gd_risk(prior, np.zeros(d), gamma)
    assert pt.population_error(weights, **at) == pytest.approx(risk, rel=IDENTITY)


@pytest.mark.parametrize(("d", "n_context"), [(1, 1), (10, 15), (3, 4)])
def test_kurtosis_separates_the_cube_from_the_normal_law(d, n_context):
    def formula(q):
        return (d + q - 2) / (n_context + d + q - 2)

    normal = lb.optimal_gd(prior_of(d, n_context, 0.0)).risk
    cube = dk.best_linear_attention_loss(d, n_context)
    assert [normal, cube] == pytest.approx([formula(3), formula(1.8)], rel=IDENTITY)


# ------------------------------------------------------------------ with a linear MLP


def test_without_a_mean_the_mlp_is_idle():
    prior = prior_of(4, 6, 0.3)
    assert lb.optimal_attention(prior).risk == pytest.approx(lb.optimal_gd(prior).risk, rel=ROOT)


@pytest.mark.parametrize("mean", [(0.5, 0.3, 0.0), (2.0, 0.0, 0.0)])
def test_with_a_mean_four_models_are_in_order(mean):
    prior = prior_of(3, 5, 0.2, mean=mean, moment=np.eye(3) + np.outer(mean, mean))
    at = {"n_context": 5, "noise_var": 0.2, "gaussian": True}
    labels_only = best_readout(attention_moments(mean, np.eye(3) + np.outer(mean, mean), **at))
    block, attention = lb.optimal_gd(prior).risk, lb.optimal_attention(prior).risk
    chain = [block, attention, labels_only, lb.gd_zero(prior).risk]
    assert (np.diff(chain) > 1e-4 * block).all()
    assert attention - block >= np.dot(mean, mean) / 3 / 6


# ------------------------------------------------------------------ with finite data and tasks


@pytest.mark.parametrize("kappa", [0.3, 0.5, 2.0])
def test_infinite_data_is_the_optimum_for_the_second_moment_of_the_pool(kappa):
    alpha, rho = 10, 0.01
    limit = pt.infinite_data(alpha, kappa, rho)
    z = (1 + rho) / alpha
    assert limit.idg == pytest.approx(rho + z - z**2 * mp_resolvent(z, kappa), rel=ROOT)
    for d in (40, 160):
        tasks = sphere_tasks(int(kappa * d), d, rng=stream(0, "pool", d, kappa)).tasks
        pool = prior_of(d, alpha * d, rho, moment=tasks.T @ tasks / len(tasks))
        best = lb.optimal_gd(pool)
        new = lb.gd_risk(prior_of(d, alpha * d, rho), np.zeros(d), best.gamma)
        assert abs(best.risk - limit.idg) < 0.5 / d
        assert abs(new - limit.icl) < 2 / d


def test_with_fresh_tasks_the_limit_is_that_of_the_best_step():
    for alpha, rho in ((10, 0.01), (1.0, 0.5)):
        z = (1 + rho) / alpha
        found = pt.infinite_data(alpha, np.inf, rho)
        assert np.allclose(found, rho + z / (1 + z), rtol=ROOT, atol=0)
        d = 10**6
        a = 1 + 1 / (alpha * d) + (1 + rho) / alpha
        assert rho + 1 - 1 / a == pytest.approx(found.icl, abs=1 / d)


# ------------------------------------------------------------------ an MLP head, and mixtures


def test_chapters_three_and_four_fit_the_same_matrix(rng):
    d, n_context, n, penalty = 3, 6, 30, 0.3
    x, y, query, label, _ = IsotropicLinear(Sphere(d), 0.1).sample(n, n_context, rng=rng)
    whole = dm.summarise(np.sqrt(d) * x, y, np.sqrt(d) * query, label)
    summary = whole.b / np.append(np.ones(d), np.sqrt(d))
    contexts = dm.Contexts(whole.x, summary, whole.y, whole.source)
    gamma = bilinear_ridge(query, attention_features(x, y), label, n / d * penalty)
    answers = dm.linear_path(contexts, [penalty / d]).predict(contexts)[0]
    assert LinearAttention(gamma)(x, y, query) == pytest.approx(answers, rel=1e-9)


@pytest.mark.parametrize(
    ("alpha", "tau", "rho", "penalty"), [(2, 0.5, 0.1, 0.05), (10, 1, 0.01, 0.2)]
)
def test_one_isotropic_linear_source_is_infinite_diversity(alpha, tau, rho, penalty):
    limit = pt.fresh_task_error(alpha, tau, rho, penalty)
    left = []
    for d in (80, 320):
        source = dm.Source(d, link="linear", noise=np.sqrt(rho))
        sizes = {"n_context": alpha * d, "n_prompts": int(tau * d**2), "ridge": penalty / d}
        left.append(d * (dm.linear_equivalent(source, **sizes).error - limit))
    assert left[1] == pytest.approx(left[0], rel=0.05)


def test_a_pool_is_a_mixture_of_one_task_sources():
    """The difference is what chapter 4 knows of signs: the mean of the pool, of order 1/d."""
    alpha, tau, rho, penalty = 3, 1.5, 0.1, 0.05
    left = []
    for d in (16, 32, 64):
        tasks = sphere_tasks(3 * d // 8, d, rng=stream(2, "pool", d)).tasks
        one = {"link": "linear", "noise": np.sqrt(rho), "theta_xi": 1e14}
        pool = [dm.Source(d, gamma_xi=task, **one) for task in tasks]
        n = int(tau * d**2)
        shares = np.full(len(pool), 1 / len(pool))
        sizes = {"n_context": alpha * d, "n_prompts": n, "ridge": penalty / d}
        mixed = dm.linear_equivalent(pool, shares, **sizes).training_mixture
        moments = tasks.mean(axis=0), tasks.T @ tasks / len(tasks)
        at = {"n_prompts": n, "n_context": alpha * d, "rho": rho, "penalty": penalty}
        left.append(d * (mixed - pt.finite_size(*moments, **at).idg))
    assert np.ptp(left) < 0.1 * np.mean(left)


@pytest.mark.parametrize(
    ("activation", "intercept"), [("tanh", False), ("erf", False), ("relu", True)]
)
def test_an_infinitely_wide_random_head_is_linear_attention(activation, intercept):
    pair = [dm.Source(20, link="tanh"), dm.Source(20, link="tanh", theta_xi=400.0)]
    law, n, ridge = dm.moments(pair, [0.5, 0.5], n_context=40), 300, 1e-3
    slope, tail = hermite.coefficients(activation, 1)[1], hermite.residual(activation, 1) ** 2
    at = {"n_context": 40, "n_prompts": n, "intercept": intercept}
    wide = dm.random_mlp_equivalent(
        pair, [0.5, 0.5], width=10**15, ridge=ridge, activation=activation, **at
    )
    ridge = law.trace / slope**2 * (ridge + tail / n)
    linear = dm.linear_equivalent(pair, [0.5, 0.5], ridge=ridge, **at)
    assert np.allclose(wide.source_errors, linear.source_errors, rtol=ROOT, atol=0)


# ------------------------------------------------------------------ the page


def test_every_bridge_of_the_page_says_what_it_is(root):
    text = (root / "book" / "map.md").read_text(encoding="utf-8")
    assert len(text.split()) < 1500
    sections = re.split(r"^\(map-[a-e]\)=$", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 5
    assert all(re.search(r"\*(Identity|Limit)", section) for section in sections)
