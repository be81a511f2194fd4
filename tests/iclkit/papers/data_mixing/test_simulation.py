import numpy as np
import pytest

from iclkit.hermite import activation
from iclkit.papers import data_mixing as dm
from iclkit.rng import stream
from tests.tolerances import ROUTES

D = 6
SOURCES = [dm.Source(D), dm.Source(D, theta_xi=36.0, noise=0.3)]
SETUP = dm.Setup(SOURCES, n_context=8, n_prompts=50, width=20, n_test=40)


def by_hand(drawn, weights, step, ridge):
    """The same errors with features and gradient in full."""
    stage_one, train, test = drawn.stage_one.mix(weights), drawn.train.mix(weights), drawn.test
    hidden = drawn.head.hidden / np.sqrt(dm.norm_scale(stage_one))
    hidden = hidden + step * dm.first_gradient(hidden, drawn.head.readout, stage_one, "relu")
    r, fresh = (
        activation("relu")(dm.features(part) @ hidden.T) / np.sqrt(len(hidden))
        for part in (train, test)
    )
    gram = r.T @ r / len(r) + ridge * np.eye(r.shape[1])
    answers = fresh @ np.linalg.solve(gram, r.T @ train.y / len(r))
    missed = (test.y - answers) ** 2
    return [missed[test.source == s].mean() for s in range(2)]


def test_run_is_the_paper_by_hand(rng):
    drawn = dm.draw(SETUP, rng=rng)
    steps, ridges = [0.0, 36.0], [1e-2, 0.3]
    found = dm.run(drawn, [0.3, 0.7], step_sizes=steps, ridges=ridges)["network"]
    expected = [[by_hand(drawn, [0.3, 0.7], step, ridge) for ridge in ridges] for step in steps]
    np.testing.assert_allclose(found, expected, rtol=ROUTES)


def test_simulate_is_one_draw_and_one_run():
    sizes = {"n_context": 8, "n_prompts": 50, "width": 20, "n_test": 40}
    found = dm.simulate(
        sources=SOURCES,
        weights=[0.5, 0.5],
        ridge=0.1,
        step_sizes=[0.0, 9.0],
        rng=stream(3, "same"),
        **sizes,
    )
    drawn = dm.draw(SETUP, rng=stream(3, "same"))
    table = dm.run(drawn, [0.5, 0.5], step_sizes=[0.0, 9.0], ridges=[0.1])
    np.testing.assert_array_equal(found["network"], table["network"][:, 0])
    np.testing.assert_array_equal(found["linear"], table["linear"][0])
    assert {key: value.shape for key, value in found.items()} == {
        "network": (2, 2),
        "linear": (2,),
        "linear_intercept": (2,),
        "constant": (2,),
    }


def test_feature_maps_share_everything_else(rng):
    drawn = dm.draw(SETUP, rng=rng)
    relu = activation("relu")
    maps = {"network": lambda z, _: relu(z), "twice": lambda z, _: 2 * relu(z)}
    table = dm.run(drawn, [1.0, 0.0], ridges=[1e-9], feature_maps=maps)
    np.testing.assert_allclose(table["network"], table["twice"], rtol=1e-3)


def test_constant_is_the_training_mean(rng):
    drawn = dm.draw(SETUP, rng=rng)
    found = dm.run(drawn, [0.0, 1.0])["constant"]
    mean = drawn.train.mix([0.0, 1.0]).y.mean()
    test = drawn.test
    expected = [((test.y[test.source == s] - mean) ** 2).mean() for s in range(2)]
    np.testing.assert_allclose(found, expected)


def test_float32_changes_little(rng):
    wide = dm.draw(SETUP, rng=rng)
    head = dm.Head(*(part.astype(np.float32) for part in wide.head))
    for step in (0.0, 36.0):
        one, other = (
            dm.run(drawn, [0.5, 0.5], step_sizes=[step])["network"]
            for drawn in (wide, wide._replace(head=head))
        )
        np.testing.assert_allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"n_prompts": 0}, ValueError, "n_prompts must be >= 1"),
        ({"width": 2.5}, TypeError, "width must be an integer"),
        ({"n_test": -1}, ValueError, "n_test must be >= 1"),
        ({"activation": "swish"}, ValueError, "activation must be one of"),
        ({"sources": []}, ValueError, "sources must share one dimension d, got no source"),
    ],
)
def test_bad_sizes_get_one_clear_line(change, error, words, rng):
    with pytest.raises(error, match=words) as caught:
        dm.draw(SETUP._replace(**change), rng=rng)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "options", "words"),
    [
        ([0.5, 0.4], {}, "sum to 1"),
        ([1.0], {}, "one entry per source"),
        ([0.5, 0.5], {"ridges": [0.0]}, "ridges must be > 0"),
        ([0.5, 0.5], {"step_sizes": [np.nan]}, "step_sizes must be finite"),
        ([0.5, 0.5], {"step_sizes": 1e300}, "largest of step_sizes must be at most"),
        ([0.5, 0.5], {"feature_maps": {"linear": lambda z, _: z}}, "leave the name 'linear'"),
        ([0.5, 0.5], {"feature_maps": {"a": lambda z, _: z[:1]}}, "rows must agree"),
    ],
)
def test_bad_runs_get_one_clear_line(weights, options, words, rng):
    with pytest.raises(ValueError, match=words):
        dm.run(dm.draw(SETUP, rng=rng), weights, **options)


def test_what_is_no_draw_and_no_map_gets_one_clear_line(rng):
    with pytest.raises(TypeError, match="drawn must be a Draw, got NoneType"):
        dm.run(None, [0.5, 0.5])
    with pytest.raises(TypeError, match="feature_maps must map names to callables, got list"):
        dm.run(dm.draw(SETUP, rng=rng), [0.5, 0.5], feature_maps=[1])
