"""Random instances: against the features in full, paired across mixtures, clear errors."""

import numpy as np
import pytest

from iclkit.papers import data_mixing as dm
from iclkit.rng import stream
from tests.tolerances import FLOAT32, ROUTES

PAIR = [dm.Source(4, noise=0.2), dm.Source(4, theta_xi=16.0, noise=0.5)]
SIZES = {"n_context": 5, "n_prompts": 60, "n_test": 50}


def drawn(rng):
    train = dm.draw_pools(PAIR, 60, 5, rng=rng)
    return train, dm.join(dm.draw_pools(PAIR, 50, 5, rng=rng).pools)


def test_linear_trial_in_full():
    found = dm.trial(PAIR, [[0.5, 0.5], [1, 0]], ridges=[0.1, 1], rng=stream(3, "t"), **SIZES)
    pools, test = drawn(stream(3, "t"))
    for row, weights in zip(found, ([0.5, 0.5], [1, 0]), strict=True):
        train = pools.mix(weights)
        h, fresh = dm.features(train), dm.features(test)
        for errors, ridge in zip(row, (0.1, 1), strict=True):
            gamma = np.linalg.solve(h.T @ h + 60 * ridge * np.eye(20), h.T @ train.y)
            missed = (test.y - fresh @ gamma) ** 2
            expected = [missed[test.source == s].mean() for s in (0, 1)]
            assert errors == pytest.approx(expected, rel=ROUTES)


@pytest.mark.parametrize("intercept", [False, True])
def test_head_trial_in_full(intercept):
    options = {"width": 7, "activation": "tanh", "ridges": [0.01, 0.1], "intercept": intercept}
    found = dm.trial(PAIR, [[0.5, 0.5]], rng=stream(3, "t"), **options, **SIZES)
    rng = stream(3, "t")
    pools, test = drawn(rng)
    head = dm.draw_head(4, 7, rng=rng, single=True)
    train, trace = pools.mix([0.5, 0.5]), dm.moments(PAIR, [0.5, 0.5], n_context=5).trace
    seen, fresh = (
        np.tanh(dm.features(part) @ head.hidden.T.astype(float) / np.sqrt(trace)) / np.sqrt(7)
        for part in (train, test)
    )
    if intercept:
        seen, fresh = (np.column_stack([part, np.ones(len(part))]) for part in (seen, fresh))
    for errors, ridge in zip(found[0], (0.01, 0.1), strict=True):
        penalty = 60 * ridge * np.diag([1.0] * 7 + [0.0] * intercept)
        weights = np.linalg.solve(seen.T @ seen + penalty, seen.T @ train.y)
        missed = (test.y - fresh @ weights) ** 2
        expected = [missed[test.source == s].mean() for s in (0, 1)]
        assert errors == pytest.approx(expected, rel=FLOAT32)


def test_a_mixture_does_not_depend_on_the_others():
    alone = dm.trial(PAIR, [[0.3, 0.7]], ridges=[0.1], rng=stream(1, "t"), **SIZES)
    among = dm.trial(PAIR, [[1, 0], [0.3, 0.7]], ridges=[0.1], rng=stream(1, "t"), **SIZES)
    assert np.array_equal(alone[0], among[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixtures": [0.5, 0.5]}, "mixtures must have 2 axes"),
        ({"mixtures": [[0.5, 0.6]]}, "weights must be >= 0 and sum to 1"),
        ({"ridges": [0.0]}, "ridges must be > 0"),
        ({"n_test": 0}, "n_test must be >= 1"),
        ({"width": 0}, "width must be >= 1"),
    ],
)
def test_mistakes_have_clear_messages(change, message):
    arguments = {"mixtures": [[0.5, 0.5]], "ridges": [0.1]} | SIZES | change
    with pytest.raises(ValueError, match=message):
        dm.trial(PAIR, rng=stream(0), **arguments)
