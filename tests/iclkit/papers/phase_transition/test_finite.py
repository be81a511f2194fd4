"""Linear attention at finite size: reduction, exact risk, equivalent, simulation."""

import numpy as np
import pytest

from iclkit.features import attention_features
from iclkit.moments import attention_moments
from iclkit.papers import phase_transition as pt
from iclkit.prompts import sphere_tasks
from tests.oracles import bilinear_ridge_obvious, linear_attention_readout
from tests.tolerances import IDENTITY, PRINTED, ROUTES, SIGMAS

GAMMA = [[0.5, 0.1, 0, 0.05], [0, 0.4, -0.1, 0], [0.2, 0, 0.3, 0.1]]
ISOTROPIC = {"task_mean": [0, 0, 0], "task_moment": np.eye(3)}
SKEW = {
    "task_mean": [0.2, -0.1, 0.3],
    "task_moment": [[1.2, 0.1, 0], [0.1, 0.9, 0.2], [0, 0.2, 0.9]],
}


def test_linear_attention_is_a_bilinear_readout(rng):  # LU-A1
    d, n_context = 4, 6
    value, key, query = rng.standard_normal((3, d + 1, d + 1))
    value[-1, :-1] = 0
    tokens = rng.standard_normal((d + 1, n_context + 1))
    tokens[-1, -1] = 0
    v = attention_features(tokens[None, :-1, :-1].swapaxes(1, 2), tokens[None, -1, :-1])[0]
    predicted = tokens[:-1, -1] @ pt.reduce_attention(value, key, query) @ v
    assert predicted == pytest.approx(
        linear_attention_readout(tokens, value, key, query), rel=1e-12
    )


@pytest.mark.parametrize(
    ("moments", "gaussian", "expected"),
    [(SKEW, False, 0.775625), (ISOTROPIC, False, 0.793125), (ISOTROPIC, True, 0.796828703704)],
)
def test_population_error_has_its_reference_values(moments, gaussian, expected):  # LU-A3
    error = pt.population_error(GAMMA, n_context=6, rho=0.25, **moments, gaussian=gaussian)
    assert error == pytest.approx(expected, rel=PRINTED)


@pytest.mark.parametrize(
    ("n_prompts", "penalty", "icl", "idg"),
    [
        (36, 0, 1.19010981003, 0.988397550142),
        (200, 0, 0.870768329585, 0.520816151962),
        (64, 0.2, 0.973742940085, 0.722482266191),
    ],
)
def test_finite_size_has_its_reference_values(n_prompts, penalty, icl, idg):
    moment = np.diag([2, 1.5, 1, 1, 0.5, 0, 0, 2])
    errors = pt.finite_size(
        np.zeros(8), moment, n_prompts=n_prompts, n_context=24, rho=0.1, penalty=penalty
    )
    assert errors == pytest.approx((icl, idg), rel=PRINTED)


@pytest.mark.parametrize(("tau", "penalty"), [(0.5, 0.0), (2.0, 0.0), (0.9, 0.1)])
def test_finite_size_tends_to_the_asymptotic_curve(tau, penalty):
    curve, excess = pt.fresh_task_error(10, tau, 0.01, penalty), []
    for d in (50, 100, 200):
        errors = pt.finite_size(
            np.zeros(d),
            np.eye(d),
            n_prompts=tau * d**2,
            n_context=10 * d,
            rho=0.01,
            penalty=penalty,
        )
        excess.append(errors.icl / curve - 1)
    ratios = np.divide(excess[:-1], excess[1:])
    assert ratios == pytest.approx([2, 2], rel=0.15)  # of order 1/d


def test_finite_size_is_exact_in_the_limits_of_the_penalty():
    sizes = {"n_prompts": 100, "n_context": 24, "rho": 0.1}
    none = pt.finite_size(np.zeros(8), np.eye(8), **sizes)
    tiny = pt.finite_size(np.zeros(8), np.eye(8), **sizes, penalty=1e-10)
    assert tiny == pytest.approx(none, rel=1e-6)
    assert pt.finite_size(np.zeros(8), np.eye(8), **sizes, penalty=1e9) == pytest.approx((1.1, 1.1))


def test_the_law_of_the_readout_contains_its_own_error(rng):
    pool = sphere_tasks(5, 8, rng=rng)
    at = {"n_prompts": 60, "n_context": 24, "rho": 0.1, "penalty": 0.1}
    law = pt.finite_readout(pool.mean, pool.second_moment, **at)
    moments = attention_moments(pool.mean, pool.second_moment, n_context=24, noise_var=0.1)
    assert law.error(moments) == pytest.approx(law.idg, rel=IDENTITY)
    assert law.idg == pt.finite_size(pool.mean, pool.second_moment, **at).idg
    assert law.spread == pytest.approx(law.spread.T, rel=IDENTITY)
    assert np.all(np.linalg.eigvalsh(law.spread) > 0)


def test_what_is_kept_keeps_its_digits():
    """For few prompts and little ridge it is proportional to the ridge."""
    at = {"n_prompts": 36, "n_context": 24, "rho": 0.1}
    kept = [
        pt.finite_readout(np.zeros(8), np.eye(8), **at, penalty=penalty).kept / penalty
        for penalty in (1e-13, 1e-15)
    ]
    assert kept[0] == pytest.approx(kept[1], rel=IDENTITY)
    assert pt.finite_readout(np.zeros(8), np.eye(8), **at).kept == 0


@pytest.mark.parametrize("n_prompts", [10, 18, 20, 60])  # fewer and more than d^2 and d (d + 1)
def test_one_task_without_noise_is_continuous_in_the_penalty(n_prompts, rng):
    """There w^T h = d s: one direction of the features is missing."""
    pool, at = sphere_tasks(1, 4, rng=rng), {"n_prompts": n_prompts, "n_context": 8, "rho": 0}
    none = pt.finite_size(pool.mean, pool.second_moment, **at)
    tiny = pt.finite_size(pool.mean, pool.second_moment, **at, penalty=1e-10)
    assert none == pytest.approx(tiny, rel=1e-6)


def test_one_task_with_little_noise_has_all_directions(rng):
    """The one that noise brings is fitted from hardly any signal, and new tasks use it."""
    pool = sphere_tasks(1, 4, rng=rng)
    noisy = pt.finite_size(pool.mean, pool.second_moment, n_prompts=60, n_context=8, rho=1e-10)
    assert noisy.icl > 1e6


def test_one_task_without_noise_has_the_errors_of_simulation(rng):
    cell = {"d": 20, "alpha": 5, "kappa": 0.05, "tau": 2, "penalty": 0}
    rows = [pt.simulate(**cell, rho=0, rng=rng) for _ in range(20)]
    runs = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for error in ("icl", "idg"):
        excess, stderr = _excess(runs, error)
        assert abs(excess) < 2 / 20 + SIGMAS * stderr  # terms of order 1/d
    alone = pt.finite_size([1], [[1]], n_prompts=5, n_context=4, rho=0)
    assert np.isfinite(alone).all()


def test_with_endless_data_the_readout_is_the_best_filter(rng):
    pool = sphere_tasks(5, 8, rng=rng)
    at = {"n_prompts": 1e15, "n_context": 24, "rho": 0.1}
    law = pt.finite_readout(pool.mean, pool.second_moment, **at)
    moments = attention_moments(pool.mean, pool.second_moment, n_context=24, noise_var=0.1)
    best = moments.cross @ np.linalg.inv(moments.gram)
    assert law.mean == pytest.approx(best, rel=1e-9, abs=1e-11)
    assert np.trace(law.spread) < 1e-10
    assert law.kept == pytest.approx(1)


# ------------------------------------------------------------------ simulation


@pytest.mark.parametrize("kappa", [0.5, np.inf])
def test_a_simulation_tests_a_pretrained_model(kappa):
    cell = {"d": 8, "alpha": 3, "kappa": kappa, "tau": 2, "rho": 0.1, "penalty": 0.01}
    errors = pt.simulate(**cell, rng=np.random.default_rng(1))
    model = pt.pretrain(**cell, rng=np.random.default_rng(1))
    new = pt.population_error(
        model.gamma, n_context=24, rho=0.1, task_mean=np.zeros(8), task_moment=np.eye(8)
    )
    assert errors["icl"] == new
    assert len(model.y) == model.size.n_prompts == 128
    residual = model.y - np.einsum("ni,ij,nj->n", model.x_query, model.gamma, model.v)
    assert errors["train"] == pytest.approx(np.mean(residual**2), rel=IDENTITY)


def test_pretraining_is_ridge_on_noisy_contexts_and_labels(rng):
    cell = {"d": 5, "alpha": 4, "kappa": 2, "tau": 40, "rho": 1.5, "penalty": 0.3}
    model = pt.pretrain(**cell, rng=rng)
    want = bilinear_ridge_obvious(model.x_query, model.v, model.y, 1000 / 5 * 0.3)
    assert model.gamma == pytest.approx(want, rel=ROUTES)
    # labels are N(0, 1 + rho), and the last feature is the mean square of 20 of them
    for squares, n in ((model.v[:, -1], 20 * 1000), (model.y**2, 1000)):
        assert abs(squares.mean() / 2.5 - 1) < SIGMAS * np.sqrt(2 / n)


def test_the_mean_and_the_spread_of_trained_readouts_are_those_of_the_law(rng):
    cell = {"d": 20, "alpha": 10, "kappa": 1, "tau": 3, "rho": 0.1, "penalty": 0.05}
    sizes = {"n_context": 200, "n_prompts": 1200, "rho": 0.1, "penalty": 0.05}
    along, power = [], []
    for _ in range(30):
        model = pt.pretrain(**cell, rng=rng)
        law = pt.finite_readout(model.pool.mean, model.pool.second_moment, **sizes)
        along.append(np.sum(model.gamma * law.mean) / np.sum(law.mean**2) - 1)
        expected = np.sum(law.mean**2) / 20 + np.trace(law.spread)
        power.append(np.sum(model.gamma**2) / 20 / expected - 1)
    for off in (along, power):
        error = np.std(off, ddof=1) / np.sqrt(len(off))
        assert abs(np.mean(off)) < 0.05 + SIGMAS * error  # terms of order 1/d, as for the errors


def _runs(rng, n, **cell):
    rows = [pt.simulate(**cell, rho=0.01, rng=rng) for _ in range(n)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _excess(runs, error):
    """Relative excess of simulation over the finite-size equivalent, and its standard error."""
    ratio = runs[error] / runs[f"{error}_equivalent"] - 1
    return ratio.mean(), ratio.std(ddof=1) / np.sqrt(len(ratio))


@pytest.mark.parametrize(
    ("kappa", "tau", "penalty"),
    [(0.5, 0.5, 1e-6), (0.5, 0.9, 0.1), (2, 3, 0.05), (np.inf, 0.5, 1e-6)],
)
@pytest.mark.parametrize("error", ["icl", "idg"])
def test_simulation_is_near_the_finite_size_equivalent(error, kappa, tau, penalty, rng):
    runs = _runs(rng, 40, d=20, alpha=10, kappa=kappa, tau=tau, penalty=penalty)
    excess, stderr = _excess(runs, error)
    # The equivalent leaves out terms of order 1/d and 1/n_context: 5 % are left at d = 20.
    assert abs(excess) < 0.05 + SIGMAS * stderr


def test_the_excess_over_the_equivalent_vanishes_with_d(rng):
    excess, stderr, sizes = [], [], np.array([12, 16, 24, 32])
    for d, n in zip(sizes, (160, 120, 60, 40), strict=True):
        runs = _runs(rng, n, d=int(d), alpha=10, kappa=1, tau=3, penalty=0.02)
        value, error = _excess(runs, "idg")
        excess.append(value)
        stderr.append(error)
    design = np.column_stack([np.ones(4), 1 / sizes]) / np.array(stderr)[:, None]
    cov = np.linalg.inv(design.T @ design)
    intercept = (cov @ design.T @ (np.array(excess) / stderr))[0]
    assert abs(intercept) / np.sqrt(cov[0, 0]) < SIGMAS
    assert SIGMAS * np.sqrt(cov[0, 0]) < 0.1  # a 10 % error in the formula would be noticed


def test_the_training_error_is_the_squared_shrinkage_of_the_test_error(rng):  # LU-T5
    runs = _runs(rng, 10, d=40, alpha=10, kappa=0.5, tau=2, penalty=0.1)
    theory = pt.learning_curve(10, 0.5, 2, 0.01, 0.1).train
    assert runs["train"].mean() == pytest.approx(theory, rel=0.08)


def test_simulation_depends_on_its_stream_only():
    cell = {"d": 8, "alpha": 3, "kappa": 1, "tau": 2, "rho": 0.1, "penalty": 0.01}
    one, same, other = (pt.simulate(**cell, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one["icl"] != other["icl"]
    assert all(isinstance(value, float) for value in one.values())


def test_without_ridge_few_prompts_are_fitted_exactly(rng):
    errors = pt.simulate(d=10, alpha=5, kappa=1, tau=0.5, rho=0.1, penalty=0, rng=rng)
    assert errors["train"] < 1e-12


def test_sizes_are_whole_and_balanced():
    size = pt.sizes(32, 10, 0.5, 0.9)
    assert size == (320, 16, 928, 10.0, 0.5, 928 / 1024)
    assert pt.sizes(10, 0.01, 0.01, 0.001)[:3] == (1, 1, 1)
    fresh = pt.sizes(10, 1, np.inf, 0.5)
    assert (fresh.n_tasks, fresh.n_prompts, fresh.kappa) == (50, 50, np.inf)


# ------------------------------------------------------------------ bad input


def _simulate(**changes):
    cell = {"d": 5, "alpha": 2, "kappa": 1, "tau": 2, "rho": 0.1, "penalty": 0.1}
    return pt.simulate(**(cell | {"rng": np.random.default_rng(0)} | changes))


def _finite(**changes):
    sizes = {"n_prompts": 5, "n_context": 3, "rho": 0.1}
    return pt.finite_size(np.zeros(2), np.eye(2), **(sizes | changes))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: _simulate(kappa=0), ValueError, "kappa must be > 0, got 0"),
        (lambda: _simulate(rho=-0.1), ValueError, "rho must be .*>= 0, got -0.1"),
        (lambda: _simulate(penalty=-1), ValueError, "penalty must be .*>= 0, got -1"),
        (lambda: _simulate(tau=np.nan), ValueError, "tau must be .*> 0, got nan"),
        (lambda: _simulate(d=2.5), TypeError, "d must be an integer, got 2.5"),
        (lambda: _simulate(rng=0), TypeError, "rng must be a numpy.random.Generator"),
        (lambda: _finite(n_prompts=6), ValueError, r"n_prompts must differ from d \(d \+ 1\)"),
        (
            lambda: pt.finite_size([1, 1], np.ones((2, 2)), n_prompts=4, n_context=3, rho=0),
            ValueError,
            r"\(from d\^2 for a single task without noise\), got 4",
        ),
        (lambda: _finite(n_prompts=0), ValueError, "n_prompts must be .*> 0"),
        (
            lambda: pt.population_error(np.eye(3), n_context=6, rho=0.1, **ISOTROPIC),
            ValueError,
            r"gamma must have shape \(3, 4\), got \(3, 3\)",
        ),
        (
            lambda: pt.reduce_attention(np.ones((3, 3)), np.eye(3), np.eye(3)),
            ValueError,
            "last row of value must be zero",
        ),
        (
            lambda: pt.reduce_attention(np.eye(3), np.eye(2), np.eye(3)),
            ValueError,
            "must be square, of equal size",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_integer_arrays_work():
    assert pt.population_error(
        np.ones((2, 3), dtype=int),
        n_context=2,
        rho=0,
        task_mean=[0, 0],
        task_moment=[[1, 0], [0, 1]],
    ) == pytest.approx(
        pt.population_error(
            np.ones((2, 3)), n_context=2, rho=0, task_mean=np.zeros(2), task_moment=np.eye(2)
        ),
        rel=IDENTITY,
    )
