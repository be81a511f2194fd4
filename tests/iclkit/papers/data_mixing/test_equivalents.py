"""Deterministic equivalents: reference values, reductions, limits, simulations."""

import numpy as np
import pytest

from iclkit.papers import data_mixing as dm
from tests.tolerances import IDENTITY, PRINTED, ROOT

PAIR = [dm.Source(80), dm.Source(80, theta_xi=6400)]
HALF = [0.5, 0.5]
SMALL = [dm.Source(12, noise=0.3), dm.Source(12, theta_xi=50.0, noise=0.8, link="tanh")]
SIZES = {"n_context": 10, "n_prompts": 300}


@pytest.mark.parametrize(
    ("n_prompts", "ridge", "error"),
    [
        (3200, 5e-5, 0.753046767),
        (3200, 5e-3, 0.5155605287),
        (6400, 5e-5, 2.566525838),
        (6400, 5e-3, 0.4908424692),
        (12800, 5e-5, 0.7286831786),
        (12800, 5e-3, 0.4440153715),
    ],
)
def test_linear_equivalent_has_its_reference_values(n_prompts, ridge, error):
    found = dm.linear_equivalent(PAIR, HALF, n_context=80, n_prompts=n_prompts, ridge=ridge)
    assert found.error == pytest.approx(error, rel=PRINTED)
    assert found.error == pytest.approx(found.training_mixture, rel=IDENTITY)


def test_linear_equivalent_per_source_has_its_reference_values():
    size = {"n_context": 80, "n_prompts": 3200, "ridge": 5e-3}
    expected = {
        0.0: [0.61517326, 0.61517326],
        0.5: [0.61159154, 0.41952952],
        1.0: [0.60701403, 0.38616548],
    }
    for rho, errors in expected.items():
        found = dm.linear_equivalent(PAIR, [1 - rho, rho], **size)
        assert found.source_errors == pytest.approx(errors, rel=2e-8)  # printed to 8 digits
    assert dm.linear_equivalent(PAIR, HALF, **size).kappa == pytest.approx(0.01645270343, rel=1e-9)


@pytest.mark.parametrize(
    ("activation", "width", "error"),
    [
        ("relu", 1600, 0.3500817191),
        ("relu", 3200, 0.3279067247),
        ("relu", 6400, 0.2991269063),
        ("tanh", 1600, 0.5456988),
        ("tanh", 3200, 0.5267768326),
        ("tanh", 6400, 0.4971532494),
    ],
)
def test_random_mlp_equivalent_has_its_reference_values(activation, width, error):
    size = {"n_context": 80, "n_prompts": 3200, "width": width, "ridge": 5e-5}
    found = dm.random_mlp_equivalent(PAIR, HALF, activation=activation, **size)
    assert found.error == pytest.approx(error, rel=2e-9 if len(str(error)) > 9 else 1e-7)
    if (activation, width) == ("relu", 3200):
        assert found.gamma == pytest.approx(1.6933064e-4, rel=1e-7)
        assert found.kappa == pytest.approx(9.201376e-5, rel=1e-7)


def test_best_mixture_has_its_reference_value():
    pair = [dm.Source(40), dm.Source(40, theta_xi=1600, noise=0.5)]
    best = dm.best_mixture(pair, n_context=80, n_prompts=3200, ridge=0.02)
    assert best.weights[1] == pytest.approx(0.376640, abs=1e-4)
    assert best.error == pytest.approx(0.5449413533, rel=PRINTED)


# ------------------------------------------------------------------ reductions and limits


@pytest.mark.parametrize("intercept", [False, True])
def test_resolved_sources_that_are_equal_are_one_source(intercept):
    same = [dm.Source(9, theta_xi=7.0)] * 2
    options = {"ridge": 1e-3, "intercept": intercept} | SIZES
    for model, extra in ((dm.linear_equivalent, {}), (dm.random_mlp_equivalent, {"width": 90})):
        plain = model(same, [0.2, 0.8], **options, **extra)
        resolved = model(same, [0.2, 0.8], resolved=True, **options, **extra)
        for one, other in zip(plain, resolved, strict=True):
            assert other == pytest.approx(one, rel=ROOT)


def test_order_of_sources_and_direction_of_spikes_do_not_matter():
    axes = np.eye(12)
    options = {"ridge": 1e-3, "width": 200, "resolved": True} | SIZES
    one = dm.random_mlp_equivalent(SMALL, [0.3, 0.7], **options)
    other = dm.random_mlp_equivalent(SMALL[::-1], [0.7, 0.3], **options)
    assert other.source_errors[::-1] == pytest.approx(one.source_errors, rel=ROOT)
    turned = dm.Source(12, theta_xi=50.0, noise=0.8, link="tanh", gamma_xi=axes[3] - axes[7])
    moved = dm.random_mlp_equivalent([SMALL[0], turned], [0.3, 0.7], **options)
    assert moved.source_errors == pytest.approx(one.source_errors, rel=ROOT)


def test_a_huge_ridge_predicts_zero_and_many_prompts_predict_best():
    law = dm.moments(SMALL, HALF, n_context=10)
    for resolved in (False, True):
        lazy = dm.linear_equivalent(SMALL, HALF, ridge=1e9, resolved=resolved, **SIZES)
        assert lazy.source_errors == pytest.approx(law.label_squares, rel=1e-6)
        many = {"n_context": 10, "n_prompts": 10**9, "ridge": 1e-12, "resolved": resolved}
        best = dm.linear_equivalent(SMALL, HALF, **many)
        assert best.training_mixture == pytest.approx(law.best_linear, rel=1e-6)


def test_vanishing_ridge_is_the_limit_of_small_ridges():
    for n_prompts in (100, 155, 157, 1000):  # parameters: 12 * 13 = 156
        size = {"n_context": 10, "n_prompts": n_prompts}
        exact = dm.linear_equivalent(SMALL, HALF, ridge=0, **size)
        near = dm.linear_equivalent(SMALL, HALF, ridge=1e-13, **size)
        assert near.error == pytest.approx(exact.error, rel=1e-6)
        assert near.leverages == pytest.approx(exact.leverages, rel=1e-6) or n_prompts < 156
        wide = {"width": 400, "activation": "tanh"} | size
        exact = dm.random_mlp_equivalent(SMALL, HALF, ridge=0, **wide)
        near = dm.random_mlp_equivalent(SMALL, HALF, ridge=1e-13, **wide)
        assert near.error == pytest.approx(exact.error, rel=1e-6)


def test_a_linear_head_of_infinite_width_is_linear_attention():
    law = dm.moments(SMALL, HALF, n_context=10)
    for resolved in (False, True):
        head = dm.random_mlp_equivalent(
            SMALL, HALF, width=10**9, ridge=1e-3, activation="linear", resolved=resolved, **SIZES
        )
        line = dm.linear_equivalent(SMALL, HALF, ridge=1e-3 * law.trace, resolved=resolved, **SIZES)
        assert head.source_errors == pytest.approx(line.source_errors, rel=1e-6)


def test_an_even_head_sees_no_signal():
    head = dm.random_mlp_equivalent(
        dm.Source(6, link="tanh", noise=0.5), width=50, ridge=1e-3, activation="abs", **SIZES
    )
    assert head.error > dm.moments(dm.Source(6, link="tanh", noise=0.5), n_context=10).label_squares


def test_an_intercept_learns_the_mean_and_costs_one_prompt():
    source, size = dm.Source(8), {"n_context": 8, "n_prompts": 10**7, "ridge": 1e-9}
    with_one = dm.linear_equivalent(source, intercept=True, **size).error
    mean = dm.moments(source, n_context=8).label_means[0]
    plain = dm.linear_equivalent(source, **size).error
    assert plain - with_one == pytest.approx(mean**2, rel=1e-4)
    odd = dm.Source(8, link="tanh")
    small = {"n_context": 8, "n_prompts": 40, "ridge": 0.1}
    assert dm.linear_equivalent(odd, intercept=True, **small).error > (
        dm.linear_equivalent(odd, **small).error
    )


def test_best_mixture_of_one_and_of_three_sources():
    sizes = {"n_context": 20, "n_prompts": 400, "ridge": 1e-2}
    one = dm.best_mixture([dm.Source(10)], **sizes)
    assert one.weights.tolist() == [1.0]
    axes = np.eye(10)
    three = [dm.Source(10, theta_xi=100.0, gamma_xi=axis) for axis in axes[:3]]
    best = dm.best_mixture(three, **sizes)
    assert best.weights == pytest.approx(np.full(3, 1 / 3), abs=1e-4)  # by symmetry
    shared = dm.linear_equivalent(three, best.weights, **sizes).error
    for rho in ([0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]):
        assert dm.linear_equivalent(three, rho, **sizes).error > shared


def test_best_mixture_may_be_pure():
    noisy = [dm.Source(10), dm.Source(10, noise=3.0, link=lambda u: 0 * u)]
    best = dm.best_mixture(noisy, n_context=20, n_prompts=400, ridge=10.0, resolved=True)
    assert best.weights.min() >= 0
    grid = [
        dm.linear_equivalent(
            noisy, [1 - r, r], n_context=20, n_prompts=400, ridge=10.0, resolved=True
        ).error
        for r in np.linspace(0, 1, 21)
    ]
    assert best.error <= min(grid)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": -1.0}, "ridge must be"),
        ({"ridge": np.nan}, "ridge must be"),
        ({"n_prompts": 0}, "n_prompts must be >= 1"),
        ({"n_prompts": 1, "intercept": True}, "n_prompts must be >= 2"),
        ({"n_prompts": 156, "ridge": 0.0}, "ridge must be > 0 where prompts match"),
        ({"ridge": 0.0, "resolved": True}, "ridge must be > 0 where sources are resolved"),
        ({"ridge": 1e300}, "ridge must be at most 1e.30"),
    ],
)
def test_mistakes_have_clear_messages(change, message):
    sizes = SIZES | {"ridge": 0.1} | change
    with pytest.raises(ValueError, match=message):
        dm.linear_equivalent(SMALL, HALF, **sizes)


def test_mistakes_of_heads_have_clear_messages():
    with pytest.raises(ValueError, match="width must be >= 1"):
        dm.random_mlp_equivalent(SMALL, HALF, width=0, ridge=0.1, **SIZES)
    with pytest.raises(ValueError, match="ridge must be > 0 where prompts match"):
        dm.random_mlp_equivalent(SMALL, HALF, width=300, ridge=0.0, **SIZES)
    with pytest.raises(ValueError, match="activation must be one of"):
        dm.random_mlp_equivalent(SMALL, HALF, width=30, ridge=0.1, activation="swish", **SIZES)


def test_a_source_without_labels_cannot_be_resolved():
    silent = [dm.Source(12, link=np.zeros_like, noise=0.0), dm.Source(12)]
    with pytest.raises(ValueError, match="sources must have labels other than zero"):
        dm.random_mlp_equivalent(silent, HALF, width=30, ridge=0.1, resolved=True, **SIZES)


@pytest.mark.parametrize("resolved", [False, True])
def test_a_huge_ridge_learns_nothing(resolved):
    found = dm.linear_equivalent(SMALL, HALF, ridge=1e20, resolved=resolved, **SIZES)
    squares = dm.moments(SMALL, HALF, n_context=SIZES["n_context"]).label_squares
    np.testing.assert_allclose(found.source_errors, squares, rtol=ROOT)
    assert (found.leverages >= 0).all()


@pytest.mark.parametrize("resolved", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_names_and_duplicates_of_sources_do_not_matter(resolved, intercept):
    spiked = dm.Source(12, theta_xi=50.0, link="tanh", noise=0.3)
    options = {"width": 40, "ridge": 0.1, "resolved": resolved, "intercept": intercept} | SIZES
    plain, twice, turned = (
        dm.random_mlp_equivalent(sources, weights, **options).source_errors
        for sources, weights in (
            ([SMALL[0], spiked], [0.4, 0.6]),
            ([SMALL[0], SMALL[0], spiked], [0.1, 0.3, 0.6]),
            ([spiked, SMALL[0]], [0.6, 0.4]),
        )
    )
    np.testing.assert_allclose(twice, plain[[0, 0, 1]], rtol=ROOT)
    np.testing.assert_allclose(turned, plain[::-1], rtol=ROOT)
    alone = dm.random_mlp_equivalent([SMALL[0], spiked], [0, 1], **options).source_errors[1]
    assert alone == pytest.approx(dm.random_mlp_equivalent(spiked, **options).error, rel=ROOT)
