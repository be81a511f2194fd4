"""The chapter's own laws of prompts and layers."""

import numpy as np
import pytest

from iclkit.papers import dual_kernel as dk
from iclkit.papers.dual_kernel.tokens import LINKS
from iclkit.rng import stream
from tests.tolerances import SIGMAS


@pytest.mark.parametrize("link", LINKS)
def test_labels_are_the_link_of_the_signal(link):
    prompts = dk.CubeRegression(4, link).sample(5, 3, rng=stream(0, "cube"))
    signal = np.einsum("bnd,bd->bn", prompts.x, prompts.task)
    by_hand = {
        "linear": signal,
        "sin": np.sin(signal),
        "cos": np.cos(signal),
        "exp": np.exp(np.sqrt(3 / 4) * signal / 2),
    }
    assert prompts.y == pytest.approx(by_hand[link])
    assert np.abs(prompts.x).max() <= 1


def test_the_exponent_has_variance_one_quarter():
    prompts = dk.CubeRegression(6, "exp").sample(20_000, 1, rng=stream(1, "cube"))
    squares = np.log(prompts.y_query) ** 2
    z = (squares.mean() - 0.25) / (squares.std() / np.sqrt(len(squares)))
    assert abs(z) < SIGMAS


def test_tokens_hold_inputs_and_labels_but_not_the_query_label():
    prompts = dk.CubeRegression(4).sample(5, 3, rng=stream(2, "cube"))
    tokens = dk.prompt_tokens(prompts)
    assert tokens.shape == (5, 5, 4)
    assert np.array_equal(tokens[:, :4, :3], prompts.x.transpose(0, 2, 1))
    assert np.array_equal(tokens[:, 4, :3], prompts.y)
    assert np.array_equal(tokens[:, :4, 3], prompts.x_query)
    assert (tokens[:, 4, 3] == 0).all()


def test_the_scale_touches_queries_and_keys_alone():
    plain = dk.random_layer(4, rng=stream(0, "layer"))
    scaled = dk.random_layer(4, scale=0.5, rng=stream(0, "layer"))
    for factor, one, other in zip([0.5, 0.5, 1.0], plain, scaled, strict=True):
        assert other == pytest.approx(factor * one)


def test_entries_have_variance_one_over_dim():
    entries = np.concatenate([np.ravel(w) for w in dk.random_layer(60, rng=stream(0, "layer"))])
    z = (np.mean(60 * entries**2) - 1) / np.sqrt(2 / entries.size)
    assert abs(z) < SIGMAS


def test_bad_laws_are_refused():
    with pytest.raises(ValueError, match="link must be one of linear, sin, cos, exp, got 'tanh'"):
        dk.CubeRegression(3, "tanh")
    with pytest.raises(ValueError, match="dim must be >= 1, got 0"):
        dk.CubeRegression(0)
    with pytest.raises(ValueError, match="scale must be"):
        dk.random_layer(3, scale=-1, rng=stream(0))
    with pytest.raises(TypeError, match="rng must be"):
        dk.random_layer(3, rng=0)
