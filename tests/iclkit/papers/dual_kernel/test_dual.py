"""The dual model in function space: one step is attention, and what changes with the loss."""

from itertools import pairwise, product
from math import factorial

import numpy as np
import pytest

from iclkit.nets import gradient_step
from iclkit.papers import dual_kernel as dk
from tests.iclkit.papers.dual_kernel.test_attention import plain_attention, random_case
from tests.instances import tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED

CORE = tokens_and_weights()
LOOKUP = dk.look_up(*CORE)


def taylor(points, degree=24):
    """Features whose inner products are exp(<x, y>), up to the remainder of a Taylor series."""
    rows = []
    for powers in product(range(degree + 1), repeat=len(points)):
        if sum(powers) <= degree:
            size = np.sqrt(np.prod([float(factorial(power)) for power in powers]))
            rows.append(np.prod(points ** np.array(powers)[:, None], axis=0) / size)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(40))
def test_one_step_is_attention(seed):
    case = random_case(seed)
    rate = 10.0 ** (seed % 7 - 3)
    assert dk.dual_output(*case, learning_rate=rate) == pytest.approx(
        plain_attention(*case), rel=IDENTITY, abs=IDENTITY
    )


def test_reference_values_of_the_step():
    start = dk.zero_shot_model(LOOKUP)
    after = dk.descend(start, dk.dual_gradient(LOOKUP, start))
    update = dk.task_update(LOOKUP)
    assert start(LOOKUP.query) == pytest.approx([0.3226861248, -0.3468241024], rel=PRINTED)
    assert dk.dual_loss(LOOKUP, start) == pytest.approx(-0.2750353892, rel=PRINTED)
    assert dk.dual_loss(LOOKUP, after) == pytest.approx(-0.7135494422, rel=PRINTED)
    assert dk.inner(update, update) ** 0.5 == pytest.approx(0.6622039361, rel=PRINTED)


def test_reference_values_of_the_modifications():
    views = {
        "value_view": lambda z: z + 0.5 * np.tanh(z),
        "key_view": lambda z: z + 0.5 * np.maximum(z, 0),
    }
    expected = [
        ({"ridge": 0.3}, [0.8525437696, -0.5763536944]),
        ({"negative_weight": 0.5, "negative_ratio": 0.4}, [1.103449863, -0.5792452517]),
        (views, [1.226494529, -0.7996318835]),
    ]
    for options, output in expected:
        assert dk.dual_output(*CORE, **options) == pytest.approx(output, rel=PRINTED)
    assert dk.negative_samples(LOOKUP, 0.4).tolist() == [0, 1]


def test_reference_values_of_the_token_curve():
    norms = [0.7099159222, 0.7751783719, 0.7186286604, 0.4026686041, 0.1891496911]
    assert dk.token_by_token(*CORE) == pytest.approx([*norms, 0.0], rel=PRINTED)
    assert dk.token_by_token(*CORE)[-1] == 0.0


def test_the_token_curve_is_what_the_optimiser_does():
    exact, start = dk.attend(LOOKUP), dk.zero_shot_model(LOOKUP)
    model, norms = start, [np.linalg.norm(start(LOOKUP.query) - exact.output)]
    for index in range(LOOKUP.n_demo):
        alone = np.zeros((2, LOOKUP.n_demo))
        alone[:, index] = LOOKUP.values[:, index]
        gradient = dk.dual_gradient(LOOKUP, model, learning_rate=0.3, targets=alone)
        model = dk.descend(model, gradient, learning_rate=0.3)
        norms.append(np.linalg.norm(model(LOOKUP.query) - exact.output))
    assert dk.token_by_token(*CORE) == pytest.approx(norms, abs=IDENTITY)


@pytest.mark.parametrize("ridge", [0.0, 0.3, -1.0])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_step_by_automatic_differentiation_in_feature_space(ridge, weight):
    """The explicit features are a long Taylor series of the kernel: no randomness, no sampling."""
    phi, scale = taylor(LOOKUP.keys), np.exp(-dk.attend(LOOKUP).log_normaliser)
    targets = dk.contrasted(LOOKUP, weight=weight, ratio=0.4)
    start = scale * LOOKUP.values[:, 5:] @ phi[:, 5:].T

    def loss(weights, targets, features):
        match = -scale * (targets * (weights @ features)).sum()
        return (match + 0.5 * ridge * (weights**2).sum()) / 0.7

    stepped = gradient_step(loss, start, targets, phi[:, :5], rate=0.7)
    options = {"ridge": ridge, "negative_weight": weight, "negative_ratio": 0.4}
    output = stepped @ taylor(LOOKUP.query[:, None])[:, 0]
    assert dk.dual_output(*CORE, learning_rate=0.7, **options) == pytest.approx(output, abs=1e-10)


def test_loss_falls_by_the_squared_norm_of_the_gradient():
    start = dk.zero_shot_model(LOOKUP)
    gradient = dk.dual_gradient(LOOKUP, start, learning_rate=0.2)
    after = dk.descend(start, gradient, learning_rate=0.2)
    fall = dk.dual_loss(LOOKUP, start, learning_rate=0.2) - dk.dual_loss(
        LOOKUP, after, learning_rate=0.2
    )
    update = dk.task_update(LOOKUP)  # the loss is linear: -eta <G, G> with G = -(W_1 - W_0)/eta
    assert fall == pytest.approx(dk.inner(update, update) / 0.2, rel=IDENTITY)


def test_weight_decay_repeated_converges_to_the_minimiser():
    model = dk.zero_shot_model(LOOKUP)
    distances = []
    for _ in range(3):
        gradient = dk.dual_gradient(LOOKUP, model, ridge=0.3)
        model = dk.descend(model, gradient)
        limit = dk.task_update(LOOKUP)(LOOKUP.query) / 0.3
        distances.append(np.linalg.norm(model(LOOKUP.query) - limit))
    assert [b / a for a, b in pairwise(distances)] == pytest.approx([0.7, 0.7], rel=IDENTITY)


def test_inner_product_is_that_of_explicit_weights():
    rng = np.random.default_rng(3)
    first = dk.DualModel(0.3 * rng.standard_normal((2, 4)), rng.standard_normal((3, 4)), 0.2)
    second = dk.DualModel(0.3 * rng.standard_normal((2, 5)), rng.standard_normal((3, 5)), -0.4)
    weights = [np.exp(m.log_scale) * m.coefficients @ taylor(m.keys).T for m in (first, second)]
    assert dk.inner(first, second) == pytest.approx(np.sum(weights[0] * weights[1]), rel=IDENTITY)


@pytest.mark.parametrize("scale", [0.5, 5.0, 60.0])
def test_leave_one_out_is_attention_without_the_token(scale):
    demo, *rest = tokens_and_weights(scale=scale)
    left = dk.leave_one_out(dk.look_up(demo, *rest))
    for index in range(demo.shape[1]):
        fewer = dk.attend(dk.look_up(np.delete(demo, index, axis=1), *rest))
        assert left[:, index] == pytest.approx(fewer.output, rel=1e-10)


def test_reference_value_of_leave_one_out():
    expected = [1.061183971, -0.7394978445]
    assert dk.leave_one_out(LOOKUP)[:, 0] == pytest.approx(expected, rel=PRINTED)


BAD = [
    ({"ridge": np.nan}, ValueError, "ridge must be finite"),
    ({"learning_rate": 0}, ValueError, "learning_rate must be finite and > 0"),
    ({"negative_weight": -1, "negative_ratio": 1}, ValueError, "negative_weight must be"),
    ({"negative_weight": 1}, ValueError, r"negative_ratio must be in \(0, 1\]"),
    ({"negative_weight": 1, "negative_ratio": 1.5}, ValueError, r"in \(0, 1\]"),
    ({"negative_ratio": -0.1}, ValueError, "negative_ratio must be"),
    ({"ridge": "a little"}, TypeError, "ridge must be a number"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_options_get_one_clear_line(options, error, message):
    with pytest.raises(error, match=message) as caught:
        dk.dual_output(*CORE, **options)
    assert "\n" not in str(caught.value)


def test_bad_points_and_targets_get_one_clear_line():
    model = dk.task_update(LOOKUP)
    with pytest.raises(ValueError, match="points must have 3 rows"):
        model(np.ones(4))
    with pytest.raises(ValueError, match=r"targets must have shape \(2, 5\)"):
        dk.dual_loss(LOOKUP, model, targets=np.ones((2, 4)))
    with pytest.raises(ValueError, match="of one length"):
        dk.inner(model, dk.DualModel(np.ones((2, 1)), np.ones((2, 1))))
    with pytest.raises(ValueError, match="overflow; scale W_Q or W_K down"):
        model(np.full(3, 1e6))


def test_extreme_scores_stay_finite():
    """The normaliser is kept as a logarithm: scores of thousands neither overflow nor vanish."""
    case = tokens_and_weights(scale=60.0)
    lookup = dk.look_up(*case)
    assert np.abs(lookup.keys.T @ lookup.query).max() > 2000
    assert dk.dual_output(*case) == pytest.approx(dk.attend(lookup).output, rel=IDENTITY)
