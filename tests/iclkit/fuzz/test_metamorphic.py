"""What must not change, or change in a known way, when the input is turned, scaled or shuffled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit import features, predictors, prompts, solvers
from iclkit.papers import data_mixing as dm
from iclkit.papers import dual_kernel as dk
from iclkit.papers import linear_block as lb
from iclkit.papers import phase_transition as pt
from tests.iclkit.fuzz.block_arguments import prior as prior_of
from tests.iclkit.fuzz.block_arguments import weights as weights_of
from tests.iclkit.fuzz.dual_arguments import look_up
from tests.iclkit.fuzz.mixing_arguments import source as source_of
from tests.iclkit.fuzz.profile import examples
from tests.iclkit.fuzz.world import World
from tests.tolerances import IDENTITY

EPS = np.finfo(float).eps
WORLDS = st.builds(
    World,
    seed=st.integers(0, 10**6),
    d=st.integers(1, 4),
    n=st.integers(2, 9),
    k=st.integers(1, 3),
)
PREDICTORS = {
    "ridge": lambda w: predictors.ContextRidge(w.number("penalty")),
    "bayes": lambda w: predictors.GaussianBayes(w.number("noise_var")),
    "step": lambda w: predictors.GradientStep(w.number("step_size")),
    "linear": lambda w: predictors.LinearAttention(w.normal("gamma", w.d, w.d + 1)),
    "pool": lambda w: predictors.PoolBayes(prompts.TaskPool(w.normal("pool", w.k, w.d)), 0.5),
    "block": lambda w: lb.BlockPredictor(weights_of(w)),
    "task": lambda w: lb.BayesPredictor(prior_of(w)),
}


def _prompt(w):
    return w.normal("x", 3, w.n, w.d), w.normal("y", 3, w.n), w.normal("x_query", 3, w.d)


def _close(found, wanted, bound=IDENTITY):
    size = max(np.abs(wanted).max(initial=0), np.abs(found).max(initial=0), 1e-300)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=bound * size)


@pytest.mark.parametrize("kind", PREDICTORS)
@examples(8)
@given(w=WORLDS)
def test_the_order_of_the_context_does_not_matter(kind, w):
    x, y, x_query = _prompt(w)
    order = w.rng("order").permutation(w.n)
    predictor = PREDICTORS[kind](w)
    wanted = predictor(x, y, x_query)
    bound = IDENTITY * (1 + np.abs(x).max() * np.abs(y).max() / max(np.abs(wanted).max(), 1e-9))
    _close(predictor(x[:, order], y[:, order], x_query), wanted, bound)


@pytest.mark.parametrize("kind", ["ridge", "bayes", "step"])
@examples(8)
@given(w=WORLDS, power=st.integers(-60, 60))
def test_predictions_scale_with_the_labels(kind, w, power):
    x, y, x_query = _prompt(w)
    predictor, factor = PREDICTORS[kind](w), 2.0**power
    _close(predictor(x, factor * y, x_query), factor * predictor(x, y, x_query))


@examples(15)
@given(w=WORLDS, power=st.integers(-40, 40))
def test_features_of_scaled_labels(w, power):
    x, y, _ = _prompt(w)
    factor = 2.0**power
    plain, scaled = features.attention_features(x, y), features.attention_features(x, factor * y)
    _close(scaled[:, :-1], factor * plain[:, :-1])
    _close(scaled[:, -1], factor**2 * plain[:, -1])


@examples(25)
@given(w=WORLDS, spread=st.integers(0, 5), penalty=st.sampled_from([1e-6, 1e-3, 1.0]))
def test_all_routes_solve_one_problem(w, spread, penalty):
    """Each is as far off as the condition number of the problem allows, and no further."""
    n = 3 * w.d * (w.d + 1) + 4
    scale = np.logspace(0, -spread, w.d)
    x, v = w.normal("x", n, w.d) * scale, w.normal("v", n, w.d + 1)
    y = w.normal("y", n)
    table = np.einsum("ni,nm->nim", x, v).reshape(n, -1)
    exact = np.linalg.lstsq(
        np.vstack([table, np.sqrt(penalty) * np.eye(table.shape[1])]),
        np.append(y, np.zeros(table.shape[1])),
        rcond=None,
    )[0].reshape(w.d, w.d + 1)
    values = np.linalg.svd(table, compute_uv=False)
    condition = (values[0] ** 2 + penalty) / (values[-1] ** 2 + penalty)
    of_kernel = (values[0] ** 2 + penalty) / penalty  # more prompts than parameters
    for method, number in (("primal", condition), ("dual", of_kernel)):
        found = solvers.bilinear_ridge(x, v, y, penalty, method=method)
        _close(found, exact, 1e3 * EPS * number + IDENTITY)
    for method in ("cg", "pcg"):
        try:
            found = solvers.bilinear_ridge(x, v, y, penalty, method=method)
        except solvers.ConvergenceError:
            continue
        _close(found, exact, 1e-8 * condition + IDENTITY)  # they stop at 1e-9 of the right side


@examples(25)
@given(w=WORLDS, spread=st.integers(0, 12), penalty=st.sampled_from([0.0, 1e-8, 1e-3, 1.0]))
def test_ridge_against_least_squares(w, spread, penalty):
    n = w.d + w.n
    x = w.normal("x", n, w.d) * np.logspace(0, -spread, w.d)
    y = w.normal("y", n)
    rows = np.vstack([x, np.sqrt(penalty) * np.eye(w.d)])
    exact = np.linalg.lstsq(rows, np.append(y, np.zeros(w.d)), rcond=None)[0]
    values = np.linalg.svd(x, compute_uv=False)
    condition = (values[0] ** 2 + penalty) / (values[-1] ** 2 + penalty)
    direct = values[0] / values[-1] * (1 + np.linalg.norm(y) / (values[-1] * np.abs(exact).max()))
    bound = condition if penalty > 1e-10 * (x**2).sum() else direct
    if bound * EPS < 1e-4:
        _close(solvers.ridge(x, y, penalty), exact, 1e3 * EPS * bound + IDENTITY)


@examples(15)
@given(w=WORLDS)
def test_ridge_scales(w):
    x, y, factor = w.normal("x", w.n, w.d), w.normal("y", w.n), 2.0 ** w.whole("power", -30, 30)
    one = solvers.ridge(x, y, 0.3)
    _close(factor * solvers.ridge(factor * x, y, 0.3 * factor**2), one)


@examples(15)
@given(w=WORLDS)
def test_a_batch_is_its_members(w):
    x, y, x_query = _prompt(w)
    for make in PREDICTORS.values():
        predictor = make(w)
        alone = [predictor(x[i : i + 1], y[i : i + 1], x_query[i : i + 1])[0] for i in range(3)]
        bound = IDENTITY * (1 + 1e3 / max(np.abs(alone).max(), 1e-9))
        _close(predictor(x, y, x_query), np.array(alone), bound)


@examples(15)
@given(w=WORLDS)
def test_attention_and_its_dual_agree(w):
    lookup = look_up(w)
    _close(
        (dk.zero_shot_model(lookup)(lookup.query) + dk.task_update(lookup)(lookup.query)),
        dk.attend(lookup).output,
    )


@examples(15)
@given(w=WORLDS)
def test_attention_does_not_see_the_order_of_the_keys(w):
    keys, values = w.normal("keys", w.d, w.n), w.normal("values", w.k, w.n)
    order, queries = w.rng("order").permutation(w.n), w.normal("queries", w.d, 2)
    wanted = dk.attention_output(queries, keys, values)
    bound = IDENTITY * np.abs(values).max() / max(np.abs(wanted).max(), 1e-9)
    _close(dk.attention_output(queries, keys[:, order], values[:, order]), wanted, bound)


@examples(15)
@given(w=WORLDS)
def test_a_turned_prior_has_the_same_risks(w):
    prior = prior_of(w)
    turn = np.linalg.qr(w.normal("turn", w.d, w.d))[0]
    parts = (turn @ prior.input_cov @ turn.T, turn @ prior.task_mean)
    parts = (_even(parts[0]), parts[1], _even(turn @ prior.task_cov @ turn.T))
    turned = lb.RegressionPrior(*parts, prior.noise_var, prior.n_context)
    condition = np.linalg.cond(prior.input_cov)
    for risk in (lambda p: lb.optimal_gd(p).risk, lb.bayes_lower_bound, lb.approximation_gap):
        _close(np.array(risk(turned)), np.array(risk(prior)), 1e3 * IDENTITY * condition)


def _even(matrix):
    return (matrix + matrix.T) / 2


@examples(15)
@given(w=WORLDS)
def test_a_curve_does_not_see_the_order_of_its_points(w):
    parts = [w.positive(name, w.n) for name in ("alpha", "kappa", "tau", "rho", "penalty")]
    whole = pt.learning_curve(*parts)
    for i in range(w.n):
        alone = pt.learning_curve(*(part[i] for part in parts))
        _close(np.array(alone), np.array([part[i] for part in whole]))


@examples(10)
@given(w=WORLDS)
def test_equal_sources_are_one_source(w):
    source, sizes = source_of(w), {"n_context": 4, "n_prompts": 12, "ridge": 0.2}
    alone = dm.linear_equivalent([source], [1.0], **sizes).error
    twice = dm.linear_equivalent([source, source], [0.3, 0.7], **sizes).error
    _close(np.array(twice), np.array(alone), 1e-9)  # a root search ends at 1e-14 of its argument


@examples(10)
@given(w=WORLDS)
def test_joined_prompts_are_the_prompts(w):
    parts = [source_of(w).sample(w.n, 4, rng=w.rng(name)) for name in "ab"]
    joined = dm.join(parts)
    _close(dm.features(joined), np.vstack([dm.features(part) for part in parts]))
    _close(dm.feature_gram(*parts), dm.features(parts[0]) @ dm.features(parts[1]).T)
