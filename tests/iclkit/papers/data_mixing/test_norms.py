"""How the feature norm fluctuates: reference values, sampled prompts, the limit."""

import numpy as np
import pytest

from iclkit.papers import data_mixing as dm
from tests.tolerances import IDENTITY, PRINTED, SIGMAS


@pytest.mark.parametrize(
    ("link", "noise", "context_ratio", "limit"),
    [
        ("relu", 0.01, 1, 13.74830032),
        ("relu", 0.01, 2, 9.165755678),
        ("linear", 0.1, 1, 7.782193033),
        ("tanh", 0.1, 1, 4.462116935),
    ],
)
def test_norm_fluctuation_has_its_reference_values(link, noise, context_ratio, limit):
    assert dm.norm_fluctuation(link, noise, context_ratio) == pytest.approx(limit, rel=PRINTED)


@pytest.mark.parametrize(
    ("source", "n_context"),
    [
        (dm.Source(6, link="tanh", noise=0.5, theta_xi=9.0), 4),
        (dm.Source(5, noise=0.3, mu_xi=[1.0, 0, 0, 2.0, 0]), 8),
        (dm.Source(1, link="sigmoid", noise=0.1), 3),
    ],
)
def test_norm_variance_is_that_of_sampled_prompts(source, n_context, rng):
    squares = dm.squared_norms(source.sample(300_000, n_context, rng=rng)).reshape(100, -1)
    batch = squares.var(axis=1, ddof=1) / squares.mean() ** 2
    error = batch.std(ddof=1) / 10
    assert abs(batch.mean() - dm.norm_variance(source, n_context=n_context)) < SIGMAS * error


def test_norm_variance_by_hand():  # linear labels without noise, d = l = 1: h = x x1 |x1|^.. of b
    # b = (u^2, u^2) with labels u, so |h|^2 = 2 x^2 u^4: moments of normal variables
    exact = (3 * 105 * 4) / (1 * 3 * 2) ** 2 - 1
    source = dm.Source(1, link="linear", noise=0)
    assert dm.norm_variance(source, n_context=1) == pytest.approx(exact, rel=IDENTITY)


def test_norm_variance_tends_to_its_limit_as_one_over_d():
    limit = dm.norm_fluctuation("relu", 0.3, 0.5)
    gaps = [
        d * dm.norm_variance(dm.Source(d, noise=0.3), n_context=d // 2) / limit - 1
        for d in (1000, 10_000)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.02)  # the next order is 1/d smaller
    assert abs(gaps[1]) < 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dm.norm_fluctuation("relu", 0.1, 0.0), "context_ratio must be"),
        (lambda: dm.norm_fluctuation("relu", -1.0, 1.0), "noise must be"),
        (lambda: dm.norm_fluctuation(np.zeros_like, 0.0, 1.0), "link must not vanish"),
        (lambda: dm.norm_variance(dm.Source(3, theta_x=1.0), n_context=2), "isotropic inputs"),
        (lambda: dm.norm_variance(dm.Source(3), n_context=0), "n_context must be"),
        (lambda: dm.norm_variance(dm.Source(2, link=np.zeros_like, noise=0), n_context=2), "zero"),
    ],
)
def test_mistakes_have_clear_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
