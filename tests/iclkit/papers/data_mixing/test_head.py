import numpy as np
import pytest

from iclkit.hermite import activation
from iclkit.nets.gradient import gradient_step
from iclkit.papers import data_mixing as dm
from iclkit.solvers import bilinear_ridge
from tests.instances import golden_head, golden_prompts
from tests.tolerances import FLOAT32, IDENTITY, PRINTED, ROUTES

STAGE_ONE, TRAIN, TEST = golden_prompts(0), golden_prompts(0.05), golden_prompts(0.11)
SCALE = 4.414790307608177
GOLDEN = {
    "relu": {
        "loss": 0.31650562064180066,
        "norm": 0.1383700278160958,
        "answers": [-0.15856676, 0.70953298, 0.16019297, 0.75991684, -0.17725315],
        "mse": 0.5267263090778309,
    },
    "tanh": {
        "loss": 0.38558248882587465,
        "norm": 0.1948598570029481,
        "answers": [-0.10470155, 0.07646303, -0.41444952, 0.26838022, -0.00426607],
        "mse": 0.608535652572051,
    },
}
STEP = 50.0


def answers_of(name, step=STEP, ridge=0.01):
    sigma = activation(name)
    train, test = dm.take_step(golden_head(), SCALE, STAGE_ONE, [TRAIN, TEST], name)
    readout = dm.readout_path(sigma(train.at(step)), TRAIN.y, [ridge])
    return readout.predict(sigma(test.at(step)))[0]


def test_golden_features_and_scale():
    assert dm.norm_scale(STAGE_ONE) == pytest.approx(SCALE, rel=IDENTITY)
    expected = [-1.19350506, -0.8262526, 0.04070907, -1.50470994]
    np.testing.assert_allclose(dm.features(STAGE_ONE)[0, :4], expected, atol=1e-8)


@pytest.mark.parametrize(("name", "golden"), GOLDEN.items())
def test_golden_gradient(name, golden):
    head = golden_head()
    hidden = head.hidden / np.sqrt(SCALE)
    loss = dm.stage_one_loss(hidden, head.readout, STAGE_ONE, name)
    assert loss == pytest.approx(golden["loss"], rel=IDENTITY)
    gradient = dm.first_gradient(hidden, head.readout, STAGE_ONE, name)
    assert np.linalg.norm(gradient) == pytest.approx(golden["norm"], rel=IDENTITY)
    if name == "relu":
        assert gradient[0, 0] == pytest.approx(-9.403243092e-4, rel=PRINTED)


@pytest.mark.parametrize(("name", "golden"), GOLDEN.items())
def test_golden_answers(name, golden):
    answers = answers_of(name)
    np.testing.assert_allclose(answers, golden["answers"], atol=1e-8)
    assert np.mean((TEST.y - answers) ** 2) == pytest.approx(golden["mse"], rel=IDENTITY)


def test_golden_linear_attention():
    expected = [-0.01884336, -0.40735515, 0.12140367, 0.97126569, -1.46871593]
    np.testing.assert_allclose(dm.linear_path(TRAIN, [0.1]).predict(TEST)[0], expected, atol=1e-8)


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu", "softplus", "erf", "sigmoid", "silu"])
def test_gradient_is_that_of_the_loss(name):
    torch = pytest.importorskip("torch")
    head = golden_head()
    hidden = head.hidden / np.sqrt(SCALE)
    sigmas = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "gelu": torch.nn.functional.gelu,
        "softplus": torch.nn.functional.softplus,
        "erf": torch.erf,
        "sigmoid": torch.sigmoid,
        "silu": torch.nn.functional.silu,
    }

    def loss(weights, h, y, w):
        answer = sigmas[name](h @ weights.T) @ w / len(w) ** 0.5
        return ((y - answer) ** 2).mean() / 2

    moved = gradient_step(loss, hidden, dm.features(STAGE_ONE), STAGE_ONE.y, head.readout, rate=1.0)
    found = dm.first_gradient(hidden, head.readout, STAGE_ONE, name)
    np.testing.assert_allclose(found, moved - hidden, atol=1e-13)


def instance(d=6, n=40, width=30, *, rng):
    sources = [dm.Source(d), dm.Source(d, theta_xi=36.0, noise=0.2)]
    parts = [dm.draw_mixture(sources, [0.5, 0.5], n, 8, rng=rng) for _ in range(3)]
    return parts, dm.draw_head(d, width, rng=rng)


@pytest.mark.parametrize("step", [0.0, 3.0, 400.0])
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_step_equals_forming_the_gradient(name, step, rng):
    (stage_one, train, _), head = instance(rng=rng)
    scale = dm.norm_scale(stage_one)
    hidden = head.hidden / np.sqrt(scale)
    moved = hidden + step * dm.first_gradient(hidden, head.readout, stage_one, name)
    (found,) = dm.take_step(head, scale, stage_one, [train], name)
    expected = dm.features(train) @ moved.T
    np.testing.assert_allclose(found.at(step), expected, atol=1e-11 * max(1, step))


def test_blocks_leave_no_seam(rng):
    d = 2
    many = dm.Source(d).sample(700, 4, rng=rng)
    head = dm.draw_head(d, 5, rng=rng)
    (whole,) = dm.take_step(head, 1.0, many, [many], "relu")
    (part,) = dm.take_step(head, 1.0, many, [many.take(np.arange(300, 520))], "relu")
    np.testing.assert_allclose(whole.start[300:520], part.start, atol=1e-12)
    np.testing.assert_allclose(whole.shift[300:520], part.shift, atol=1e-12)


def test_single_precision_is_close_and_kept(rng):
    (stage_one, train, _), head = instance(rng=rng)
    scale = dm.norm_scale(stage_one)
    single = dm.Head(*(part.astype(np.float32) for part in head))
    (wide,) = dm.take_step(head, scale, stage_one, [train], "relu")
    (narrow,) = dm.take_step(single, scale, stage_one, [train], "relu")
    assert narrow.at(2.0).dtype == np.float32
    np.testing.assert_allclose(narrow.at(2.0), wide.at(2.0), atol=FLOAT32)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
@pytest.mark.parametrize("ridges", [[0.03], [1e-4, 0.03, 2.0]])
def test_readout_minimises_its_objective(shape, ridges, intercept, rng):
    features, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
    path = dm.readout_path(features, y, ridges, intercept=intercept)
    r = features / np.sqrt(shape[1])
    centred = r - r.mean(axis=0) * intercept
    for ridge, weights, constant in zip(ridges, *path, strict=True):
        gram = centred.T @ centred / shape[0] + ridge * np.eye(shape[1])
        expected = np.linalg.solve(gram, centred.T @ (y - y.mean() * intercept) / shape[0])
        np.testing.assert_allclose(weights, expected, rtol=ROUTES, atol=ROUTES)
        missed = (y - r @ weights - constant).mean()
        assert not intercept or abs(missed) < IDENTITY


@pytest.mark.parametrize("intercept", [False, True])
def test_linear_path_is_ridge_in_the_features(intercept, rng):
    (train, test, _), _ = instance(rng=rng)
    h, fresh = dm.features(train), dm.features(test)
    mean = h.mean(axis=0) * intercept
    ridges = [1e-3, 0.2]
    path = dm.linear_path(train, ridges, intercept=intercept)
    for row, ridge in zip(path.predict(test), ridges, strict=True):
        gram = (h - mean).T @ (h - mean) + len(h) * ridge * np.eye(h.shape[1])
        centre = train.y.mean() * intercept
        gamma = np.linalg.solve(gram, (h - mean).T @ (train.y - centre))
        np.testing.assert_allclose(row, (fresh - mean) @ gamma + centre, rtol=ROUTES, atol=ROUTES)


def test_linear_path_is_the_shared_solver_at_one_ridge(rng):
    (train, _, _), _ = instance(rng=rng)
    shared = bilinear_ridge(train.x, train.b, train.y, len(train) * 0.1)
    np.testing.assert_allclose(
        dm.linear_path(train, [0.1]).matrix()[0], shared, rtol=ROUTES, atol=ROUTES
    )


def test_linear_path_gives_its_matrix(rng):
    (train, test, _), _ = instance(rng=rng)
    path = dm.linear_path(train, [0.1])
    by_matrix = np.einsum("de,nd,ne->n", path.matrix()[0], test.x, test.b)
    np.testing.assert_allclose(path.predict(test)[0], by_matrix, atol=1e-12)


def test_one_ridge_and_many_take_different_roads_to_one_answer(rng):
    (train, test, _), _ = instance(rng=rng)
    alone = dm.linear_path(train, [0.1]).predict(test)[0]
    among = dm.linear_path(train, [0.01, 0.1]).predict(test)[1]
    np.testing.assert_allclose(alone, among, rtol=ROUTES)


def test_odd_activations_give_odd_answers(rng):
    (stage_one, train, test), head = instance(rng=rng)
    mirrored = dm.Contexts(-test.x, test.b, test.y, test.source)
    moved = dm.take_step(head, 1.0, stage_one, [train, test, mirrored], "tanh")
    seen, plain, back = (np.tanh(part.at(20.0)) for part in moved)
    readout = dm.readout_path(seen, train.y, [1e-3])
    np.testing.assert_allclose(readout.predict(back), -readout.predict(plain), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: dm.linear_path(TRAIN, [0.0]), ValueError, "ridges must be > 0, got 0"),
        (lambda: dm.linear_path(TRAIN, [-1.0]), ValueError, "ridges must be > 0"),
        (lambda: dm.linear_path(TRAIN.x, [1.0]), TypeError, "train must be a Contexts"),
        (lambda: dm.readout_path(np.ones((3, 2)), np.ones(4), [1.0]), ValueError, "must agree"),
        (lambda: dm.readout_path([[np.nan]], [1.0], [1.0]), ValueError, "features must be finite"),
        (
            lambda: dm.take_step(golden_head(), 0.0, STAGE_ONE, [], "relu"),
            ValueError,
            "scale must be finite and > 0",
        ),
        (
            lambda: dm.take_step(golden_head(width=6, d=4), 1.0, STAGE_ONE, [], "relu"),
            ValueError,
            "hidden must be",
        ),
        (lambda: dm.draw_head(3, 0, rng=None), ValueError, "width must be >= 1"),
        (
            lambda: dm.feature_gram(TRAIN, golden_prompts(0, d=2)),
            ValueError,
            "share one dimension, got 3 and 2",
        ),
        (lambda: dm.features(None), TypeError, "contexts must be a Contexts, got NoneType"),
        (lambda: dm.norm_scale(TRAIN.take([])), ValueError, "contexts must hold prompts"),
        (lambda: dm.feature_gram(TRAIN, 5), TypeError, "right must be a Contexts"),
        (lambda: dm.linear_path(TRAIN, [1e99]), ValueError, "largest of ridges must be at most"),
        (
            lambda: dm.readout_path(np.ones((3, 2)), np.ones(3), [1e-300]),
            ValueError,
            "ridges must be above the rounding errors",
        ),
        (
            lambda: dm.readout_path(np.ones((3, 2)), np.ones(3), [1e-300, 1e-299]),
            ValueError,
            "ridges must be above the rounding errors",
        ),
        (
            lambda: dm.readout_path(np.full((3, 2), 1e200), np.ones(3), [1.0]),
            ValueError,
            "features must be at most .*, got 1e.200",
        ),
        (
            lambda: dm.readout_path(np.ones((3, 2)), np.ones(3), [1.0]).predict(np.ones((1, 3))),
            ValueError,
            "features must have 2 columns as in training, got 3",
        ),
        (
            lambda: dm.take_step((1, 2, 3), 1.0, STAGE_ONE, [], "relu"),
            TypeError,
            "head must be a Head, got tuple",
        ),
        (
            lambda: dm.take_step(golden_head(), 1.0, STAGE_ONE, [golden_prompts(0, d=2)], "relu"),
            ValueError,
            "others must have dimension 3, got 2",
        ),
        (
            lambda: dm.take_step(golden_head(), 1.0, STAGE_ONE, [], lambda _: None),
            TypeError,
            "values of activation must hold real numbers",
        ),
        (
            lambda: dm.take_step(golden_head(), 1.0, STAGE_ONE, [TEST], "relu")[0].at(np.nan),
            ValueError,
            "step_size must be finite",
        ),
    ],
)
def test_bad_input_gets_one_clear_line(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
