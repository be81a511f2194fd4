"""Wrong and extreme input over the whole package: one clear line, or the right number."""

import math

import numpy as np
import pytest

from iclkit.papers import dual_kernel as dk
from iclkit.rng import stream
from tests.instances import det, tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED

CORE = tokens_and_weights()
LOOKUP = dk.look_up(*CORE)
START = dk.zero_shot_model(LOOKUP)
KEYS, VALUES = LOOKUP.keys, LOOKUP.values
ONE = np.ones((1, 1))
TASK = dk.blind_task(dk.CubeRegression(2), [[[1, 1], [1, -1]]], [[1, 1]])
FEED = dk.FeedForward(det(6, 2, 6), det(6, 1, 7)[:, 0], det(2, 6, 8), det(2, 1, 9)[:, 0])

OF_A_LOOKUP = {
    "attend": (),
    "attribution": (),
    "influence": (),
    "leave_one_out": (),
    "modified_output": (),
    "task_update": (),
    "unscaled": (),
    "zero_shot_model": (),
    "dual_gradient": (START,),
    "dual_loss": (START,),
    "feature_dual": (np.exp,),
    "feed_forward_dual": (FEED,),
    "kernel_attention": (np.exp,),
    "negative_samples": None,
    "contrasted": None,
    "ridge_steps": (0.5, 3),
    "worst_corruption": None,
}
OPTIONS = {
    "negative_samples": {"ratio": 0.5},
    "contrasted": {"weight": 1, "ratio": 0.5},
    "worst_corruption": {"key_norm": 1, "value_norm": 1},
}


@pytest.mark.parametrize("name", OF_A_LOOKUP)
@pytest.mark.parametrize("wrong", [None, (1, 2, 3, 4), np.ones((2, 2))])
def test_a_lookup_is_asked_for_by_name(name, wrong):
    with pytest.raises(TypeError, match=r"lookup must be a Lookup, got .*; make one with look_up"):
        getattr(dk, name)(wrong, *(OF_A_LOOKUP[name] or ()), **OPTIONS.get(name, {}))


SQUARES = "squared norms that are numbers, got an overflow"
MAP = dk.feature_map("hyperbolic", det(8, 3, 9))
TRIG = dk.feature_map("trigonometric", det(8, 3, 9))
LONG = 1e160 * np.ones(3)

WRONG = [
    (lambda: dk.dual_loss(LOOKUP, "f"), TypeError, "model must be a DualModel, got str"),
    (lambda: dk.dual_loss(LOOKUP, START, ridge=np.nan), ValueError, "ridge must be finite"),
    (lambda: dk.dual_gradient(LOOKUP, None), TypeError, "model must be a DualModel, got NoneType"),
    (lambda: dk.descend(START, 3), TypeError, "gradient must be a DualModel, got int"),
    (lambda: dk.inner(START, 3), TypeError, "second must be a DualModel, got int"),
    (lambda: START(3.0), ValueError, r"points must have 3 rows and one or two axes, got \(\)"),
    (lambda: dk.dual_output(*CORE, ridge=10**400), ValueError, "ridge must be finite"),
    (lambda: dk.dual_output(*CORE, learning_rate=1e-320), ValueError, "coefficients must be fin"),
    (
        lambda: dk.contrasted(LOOKUP._replace(values=1e9 * VALUES), weight=1e308, ratio=1),
        ValueError,
        "weight times the values must be finite",
    ),
    (
        lambda: dk.look_up(1e200 * CORE[0], *CORE[1:3], 1e200 * CORE[3], CORE[4]),
        ValueError,
        "W_K times the tokens must be finite, got an overflow; scale one down",
    ),
    (
        lambda: dk.attention_output([[1e200]], [[1e200, -1e200]], [[1, 2]]),
        ValueError,
        "scores must be finite, got an overflow",
    ),
    (
        lambda: dk.attention_output(*np.float32([[[1e20]], [[-1e20]], [[1]]])),
        ValueError,
        "scores must be finite, got an overflow",
    ),
    (lambda: dk.feature_attention(KEYS, KEYS, VALUES, feature_map=3), TypeError, "feature_map mus"),
    (lambda: dk.kernel_ratios(None, KEYS[:, 0], KEYS), TypeError, "feature_map must be a Featur"),
    (lambda: dk.sampled_attention("", KEYS, KEYS), TypeError, "feature_map must be a FeatureMap"),
    (lambda: MAP(LONG), ValueError, SQUARES),
    (lambda: TRIG(LONG), ValueError, SQUARES),
    (lambda: dk.feature_attention(LONG, KEYS, VALUES, feature_map=MAP), ValueError, SQUARES),
    (lambda: dk.kernel_ratios(MAP, LONG, KEYS), ValueError, SQUARES),
    (
        lambda: dk.feature_attention(
            60 * KEYS, 60 * KEYS, VALUES, feature_map=TRIG, normaliser="exact"
        ),
        ValueError,
        "the estimate must be finite, got an overflow",
    ),
    (lambda: dk.relative_variance("positive", LONG, KEYS, rho=0.9), ValueError, SQUARES),
    (lambda: dk.relative_covariance("positive", LONG, KEYS), ValueError, SQUARES),
    (lambda: dk.output_variance("positive", LONG, KEYS, VALUES), ValueError, SQUARES),
    (lambda: dk.relative_variance("positive", [1.0], 3.0), ValueError, "y must be a vector or a"),
    (
        lambda: dk.output_expansion("positive", 30 * KEYS[:, 0], 30 * KEYS, VALUES),
        ValueError,
        "must be short enough for exp",
    ),
    (lambda: dk.stack(3, CORE[0]), TypeError, "layers must be a list of"),
    (lambda: dk.stack([3], CORE[0]), TypeError, "layers must be a list of"),
    (lambda: FEED([np.nan, 1]), ValueError, "h must be finite"),
    (lambda: FEED([1, 2, 3]), ValueError, "W_1, b_1, W_2, b_2 must have shapes"),
    (lambda: dk.feed_forward_dual(LOOKUP, 3), TypeError, "layer must be a FeedForward, got int"),
    (lambda: dk.KernelMap("taylor")(3.0), ValueError, "columns must have 1 or 2 axes"),
    (lambda: dk.KernelMap("exp")([1000.0]), ValueError, "features must be finite"),
    (lambda: dk.kernel_attention(LOOKUP, np.transpose), ValueError, "features must map"),
    (lambda: dk.kernel_attention(LOOKUP, np.sum), ValueError, "features must map"),
    (
        lambda: dk.feature_dual(LOOKUP, np.exp)([1.0, 2.0]),
        ValueError,
        "queries must have the length of the keys",
    ),
    (lambda: dk.ridge_steps(LOOKUP, -1e10, 100), ValueError, "ridge must be in .* they diverge"),
    (lambda: dk.gap_moments(1e160 * ONE, ONE, law="gaussian"), ValueError, "W_K must have finite"),
    (lambda: dk.uniform_gap(ONE, ONE, 1e160 * ONE, law="uniform"), ValueError, "W_V must have fin"),
    (lambda: dk.uniform_gap(1e160 * ONE, ONE, ONE, law="uniform"), ValueError, "tokens must be sh"),
    (lambda: dk.uniform_gap(ONE, ONE, ONE, law=np.array(["a", "b"])), ValueError, "law must be on"),
    (lambda: dk.rademacher(40 * ONE, ONE, ONE), ValueError, "tokens must be short enough"),
    (lambda: dk.sample_spread([[1, 40]], ONE, ONE), ValueError, "tokens must be short enough"),
    (lambda: dk.cube_radii(100 * ONE, ONE), ValueError, "tokens must be short enough"),
    (
        lambda: dk.draw_tokens((2, -1), law="uniform", rng=stream(0, "x")),
        ValueError,
        "shape must be >= 1, got -1",
    ),
    (
        lambda: dk.draw_tokens("ab", law="uniform", rng=stream(0, "x")),
        TypeError,
        "shape must be a tuple, got str",
    ),
    (lambda: dk.GapLaw([1.0]).cdf(np.nan), ValueError, "x must be finite"),
    (lambda: dk.GapLaw([1.0]).cdf("a"), TypeError, "x must hold real numbers"),
    (lambda: dk.GapLaw([1.0]).quantile("a"), TypeError, "level must hold real numbers"),
    (lambda: dk.update_cosine(*[1e160 * ONE] * 4), ValueError, "squares of keys and values must"),
    (lambda: dk.best_readout("task", ONE), TypeError, "task must be a BlindTask, got str"),
    (lambda: dk.best_scale(TASK, 3), TypeError, "weigh must be a function, got int"),
    (lambda: dk.CubeRegression(2).label([np.nan]), ValueError, "signal must be finite"),
    (lambda: dk.prompt_tokens(3), TypeError, "prompts must be a Prompts, got int"),
    (lambda: dk.equivalent_penalty([1.0], 2, rate="a"), TypeError, "rate must be a number"),
    (
        lambda: dk.step_weights(KEYS, KEYS, 1, normalised=True, decay="a"),
        TypeError,
        "decay must be a number",
    ),
    (lambda: dk.step_weights(KEYS, KEYS, [[1], [1, 2]]), ValueError, "steps must have rows of one"),
    (lambda: dk.direction_price([1, 2], [1, 2, 3]), ValueError, "snr and shrinkage must have one"),
    (lambda: dk.polynomial_price([1, 2], 3), TypeError, "n_steps must be a number, got list"),
    (lambda: dk.filter_weights(3, ONE, ONE), TypeError, "spectrum must be a Spectrum, got int"),
]


@pytest.mark.parametrize(("call", "error", "line"), WRONG)
def test_wrong_input_gives_one_clear_line(call, error, line):
    with pytest.raises(error, match=line) as found:
        call()
    assert "\n" not in str(found.value)


def test_values_as_long_as_numbers_go():
    scaled = (*CORE[:4], 1e200 * CORE[4])
    assert dk.token_by_token(*scaled) / 1e200 == pytest.approx(dk.token_by_token(*CORE))
    assert dk.token_by_token(*CORE[:4], 1e-200 * CORE[4])[0] > 0
    found = dk.best_shift(LOOKUP.query, KEYS, 1e160 * VALUES)
    assert found.shift == pytest.approx(dk.best_shift(LOOKUP.query, KEYS, VALUES).shift, abs=1e-5)
    assert dk.output_variance("positive", LOOKUP.query, KEYS, 1e160 * VALUES) == np.inf
    shift = dk.small_norm_shift(LOOKUP.query, KEYS, VALUES)
    assert dk.small_norm_shift(LOOKUP.query, KEYS, 1e160 * VALUES) == pytest.approx(shift)


@pytest.mark.parametrize("squared", [800.0, 1600.0, 2000.0])
@pytest.mark.parametrize("rho", [0.5, 0.1, 0.0025])
def test_variance_of_long_keys_is_finite_where_it_is(squared, rho):
    x, dim = np.r_[math.sqrt(squared), np.zeros(7)], 8
    log = dim * (math.log1p((rho - 1) / 2) - math.log(rho) / 2) + rho * x[0] ** 2 - math.log(2)
    expected = math.exp(log) - 1 if log < 700 else np.inf
    assert dk.relative_variance("hyperbolic", x, 0 * x, rho=rho) == pytest.approx(
        expected, rel=1e-11
    ) or (log >= 700)
    covariance = dk.relative_covariance("hyperbolic", x, 0 * x[:, None], rho=rho)[0, 0]
    assert covariance == dk.relative_variance("hyperbolic", x, 0 * x, rho=rho)


def test_a_feature_that_is_zero_stays_zero_beside_an_overflow():
    phi = dk.feature_map("trigonometric", [[0.0, 1.0]])
    assert phi([40.0, 0.0]).tolist() == [np.inf, 0.0]


def test_the_loss_where_the_normaliser_is_tiny():
    lookup = dk.Lookup(np.array([-1e4]), np.array([[0.1, 0.1]]), np.ones((1, 2)), 1)
    model = dk.DualModel(np.array([[0.0]]), np.ones((1, 1)), -1000.0)
    log_normaliser = -1e3 + math.log(2)  # and the kernel between keys is 1
    assert dk.dual_loss(lookup, model) == pytest.approx(-math.exp(-1000 - log_normaliser))


def test_of_equal_scores_the_earlier_token_is_negative():
    demo = np.array([[1.0, 1.0, 0.0, 0.0, 0.0]])
    lookup = dk.look_up(demo, [1.0], ONE, ONE, ONE)
    assert dk.negative_samples(lookup, 0.4).tolist() == [2, 3]
    assert dk.signed_weights([0, 0, 0, 0], 3, negative_weight=1, negative_ratio=0.5).argmin() == 0


def test_equal_keys_cannot_err():
    x, keys = LOOKUP.query, np.tile(LOOKUP.query[:, None], 7)
    for found in (dk.best_shift(x, keys, VALUES), dk.best_design(x, keys, VALUES)):
        assert found.shift == pytest.approx(dk.centre(x, keys))
        assert abs(found.variance) < IDENTITY


def test_error_beside_one_heavy_token_keeps_its_digits():
    found = dk.output_variance("hyperbolic", [1.0], [[0.0, -20.0]], [[1.0, 0.0]])
    spread = math.exp(-20) / (1 + math.exp(-20)) ** 2  # a_0 (v_0 - h) = a_0 a_1
    expected = spread**2 * (math.cosh(1) - 2 * math.cosh(19) + math.cosh(361))
    assert found == pytest.approx(expected, rel=PRINTED)


def test_alike_heads_share_the_read_out():
    one = dk.best_readout(TASK, [[0.5, 0.1]])
    two = dk.best_readout(TASK, [[[0.5, 0.1], [0.5, 0.1]]])
    assert two.loss == pytest.approx(one.loss)
    assert two.readout == pytest.approx(np.repeat(one.readout / 2, 2))
    assert dk.best_readout(TASK, [[0.0, 0.0]]).readout == 0


def test_a_ball_of_radius_zero_has_no_gap():
    assert not np.any(dk.gap_bounds([[0.5]], [[1.0]], 9, law="gaussian", radius=0))


@pytest.mark.parametrize("ceiling", [0.5, 3.0, 30.0])
def test_decay_is_worth_nothing_for_one_step(ceiling):
    # with decay h = u/(1+u) (1 - (1 - r (1+u))) = r u, that of a step without decay
    plain, decayed = (dk.step_price(1, ceiling, decayed=flag) for flag in (False, True))
    assert plain.price == pytest.approx(1 + ceiling**3 / (3 * ceiling + 4) ** 2, rel=1e-6)
    assert decayed.price == pytest.approx(plain.price, rel=1e-6)


def test_no_layer_returns_a_copy():
    tokens = CORE[0].copy()
    assert not np.shares_memory(dk.stack([], tokens), tokens)


def test_forgetting_a_huge_value_leaves_its_rounding():
    stream_ = dk.feature_stream(MAP, KEYS, VALUES)
    big = 1e12 * np.ones((2, 1))
    again = stream_.learn(KEYS[:, :1], big).forget(KEYS[:, :1], big)
    error = np.abs(again(KEYS) - stream_(KEYS)).max()
    assert error <= 1e-15 * again.cancellation(KEYS).max() * 1e12
