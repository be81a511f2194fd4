"""Heads that do not look at the labels: closed forms against quadrature, search and sampling."""

import itertools

import numpy as np
import pytest

from iclkit.papers.dual_kernel import (
    CubeRegression,
    best_linear_attention_loss,
    best_readout,
    best_scale,
    blind_task,
    centred_attention_loss,
    label_kernel,
    label_moments,
    signed_weights,
)
from iclkit.papers.dual_kernel.tokens import LINKS
from tests.tolerances import PRINTED, ROOT, SIGMAS

links = pytest.mark.parametrize("link", LINKS)


def cube(dim, nodes=16):
    """Nodes (n, dim) and probabilities that stand for a uniform input."""
    x, p = np.polynomial.legendre.leggauss(nodes)
    points = np.array(list(itertools.product(x, repeat=dim)))
    return points, np.prod(list(itertools.product(p / 2, repeat=dim)), axis=1)


def tasks(dim, nodes=40):
    """Nodes (n, dim) and probabilities that stand for a normal task."""
    w, p = np.polynomial.hermite_e.hermegauss(nodes)
    points = np.array(list(itertools.product(w, repeat=dim)))
    return points, np.prod(list(itertools.product(p / p.sum(), repeat=dim)), axis=1)


def prompts(law, batch, n_context, rng):
    sample = law.sample(batch, n_context, rng=rng)
    return blind_task(law, sample.x, sample.x_query)


# ------------------------------------------------------------------------ labels


@links
def test_label_kernel_is_the_average_over_tasks(link, rng):
    law, (w, p) = CubeRegression(2, link), tasks(2)
    x, z = rng.uniform(-1, 1, (2, 3, 2))
    want = p @ (law.label(w @ x.T) * law.label(w @ z.T))
    np.testing.assert_allclose(label_kernel(law, x, z), want, rtol=ROOT)


@links
def test_label_moments_are_averages_over_inputs_and_tasks(link):
    law, (x, q), (w, p) = CubeRegression(2, link), cube(2), tasks(2)
    labels = law.label(w @ x.T)
    moments = label_moments(law)
    np.testing.assert_allclose(moments.mean, p @ labels @ q, rtol=ROOT, atol=ROOT)
    np.testing.assert_allclose(moments.square, p @ labels**2 @ q, rtol=ROOT)
    assert moments.variance == pytest.approx(moments.square - moments.mean**2)


# ------------------------------------------------------------------------ closed forms


def test_reference_values_of_linear_attention():
    got = [best_linear_attention_loss(d, n) for d, n in [(10, 15), (5, 20), (8, 30)]]
    np.testing.assert_allclose(got, [0.3951612903, 0.1935483871, 0.2063492063], rtol=PRINTED)
    assert best_linear_attention_loss(np.int64(10), 15) == got[0]


@links
@pytest.mark.parametrize("n_context", [1, 4])
def test_linear_attention_by_quadrature(link, n_context):
    """The best multiple of ``x^T sum_i y_i x_i``, all averages on a grid of inputs."""
    law, (x, q) = CubeRegression(2, link), cube(2, 12)
    kernel, products = label_kernel(law, x[:, None], x), x @ x.T
    match = n_context * q @ (kernel * products) @ q
    size = n_context * q @ (np.diag(kernel) * np.diag(products))
    size = (size + n_context * (n_context - 1) * q @ (kernel * products) @ q) / 3
    square, mean = q @ np.diag(kernel), label_moments(law).mean
    want = (square - match**2 / size) / (square - mean**2)
    got = best_linear_attention_loss(2, n_context, link=link)
    np.testing.assert_allclose(got, want, rtol=ROOT)


@links
def test_no_matrix_beats_a_multiple_of_the_identity(link, rng):
    """Least squares over all matrices in ``x^T A sum_i y_i x_i`` gains what fitting noise gains."""
    law = CubeRegression(3, link)
    sample = law.sample(20_000, 5, rng=rng)
    pulled = np.einsum("bn,bnd->bd", sample.y, sample.x)
    every = np.einsum("bd,be->bde", sample.x_query, pulled).reshape(-1, 9)
    one = every[:, ::4].sum(axis=1, keepdims=True)
    error = [np.linalg.lstsq(part, sample.y_query)[1][0] for part in (every, one)]
    noise = error[1] / 20_000  # each of 8 more coefficients removes about one such share
    assert 0 <= error[1] - error[0] < 40 * noise
    worse = np.linalg.lstsq(every[:, :1], sample.y_query)[1][0]
    assert link == "cos" or worse - error[1] > 400 * noise  # the check can see a poor matrix


@links
def test_linear_attention_by_sampling(link, rng):
    task = prompts(CubeRegression(10, link), 4000, 15, rng)
    found = best_readout(task, task.scores[:, :-1])
    z = (found.loss - best_linear_attention_loss(10, 15, link=link)) / found.stderr
    assert abs(z) < SIGMAS


def test_linear_attention_learns_everything_from_long_contexts():
    losses = [best_linear_attention_loss(5, n) for n in (1, 10, 100, 10_000)]
    assert (np.diff(losses) < 0).all()
    assert losses[-1] == pytest.approx(24 / 5 / 10_000, rel=1e-3)


@pytest.mark.parametrize(("d", "n_context"), [(1, 2), (4, 3), (10, 15)])
def test_centred_attention_by_sampling(d, n_context, rng):
    task = prompts(CubeRegression(d), 6000, n_context, rng)
    scores = task.scores[:, :-1]
    found = best_readout(task, scores - scores.mean(axis=1, keepdims=True))
    assert abs(found.loss - centred_attention_loss(d, n_context)) < SIGMAS * found.stderr


def test_negatives_with_small_scores_are_centred_linear_attention(rng):
    """The distance is of first order in the scores: a tenth of the scores, a tenth of it."""
    task = prompts(CubeRegression(4), 500, 6, rng)
    scores = task.scores
    limit = best_readout(task, scores[:, :-1] - scores[:, :-1].mean(axis=1, keepdims=True)).loss
    options = {"negative_weight": 1, "negative_ratio": 1}
    for scale in (1e-4, -1e-5):
        weights = signed_weights(scale * scores, 6, **options)[:, :6]
        assert abs(best_readout(task, weights).loss - limit) < 10 * abs(scale)


# ------------------------------------------------------------------------ families of heads


@links
def test_readout_and_loss_by_summing_over_tasks(link, rng):
    law, (w, p) = CubeRegression(2, link), tasks(2)
    x, weights = rng.uniform(-1, 1, (3, 5, 2)), rng.standard_normal((3, 2, 4))
    found = best_readout(blind_task(law, x[:, :-1], x[:, -1]), weights)
    labels = law.label(np.einsum("bnd,td->tbn", x, w))
    heads = np.einsum("bhn,tbn->tbh", weights, labels[..., :-1])
    root = np.sqrt(np.repeat(p, 3))
    design, target = heads.reshape(-1, 2) * root[:, None], labels[..., -1].ravel() * root
    readout, (rest,), *_ = np.linalg.lstsq(design, target)
    np.testing.assert_allclose(found.readout, readout, rtol=ROOT)
    np.testing.assert_allclose(found.loss, rest / 3 / label_moments(law).variance, rtol=ROOT)
    squares = p @ (heads @ readout - labels[..., -1]) ** 2 / label_moments(law).variance
    np.testing.assert_allclose(found.errors, squares, rtol=ROOT)


def test_one_head_with_or_without_an_axis_for_heads(rng):
    task = prompts(CubeRegression(2), 5, 3, rng)
    weights = rng.standard_normal((5, 3))
    one, other = best_readout(task, weights), best_readout(task, weights[:, None])
    assert one.loss == other.loss
    assert np.isnan(one.scale)


@pytest.mark.parametrize("sign", [1, -1])
def test_no_scale_on_a_fine_grid_is_better(sign, rng):
    task = prompts(CubeRegression(3, "exp"), 200, 5, rng)

    def weigh(scores):
        return signed_weights(scores, 5)[:, :5]

    found = best_scale(task, weigh, sign=sign)
    grid = sign * np.geomspace(0.011, 15, 400)
    losses = [best_readout(task, weigh(scale * task.scores)).loss for scale in grid]
    assert found.loss <= min(losses) * (1 + 1e-6)
    assert np.sign(found.scale) == sign


def test_one_prompt_has_no_standard_error(rng):
    task = prompts(CubeRegression(2), 1, 3, rng)
    assert np.isnan(best_readout(task, np.ones((1, 3))).stderr)


# ------------------------------------------------------------------------ wrong input


def test_wrong_sizes_say_what_is_wrong():
    with pytest.raises(ValueError, match="d must be >= 1, got 0"):
        best_linear_attention_loss(0, 5)
    with pytest.raises(TypeError, match="n_context must be an integer"):
        best_linear_attention_loss(3, 5.0)
    with pytest.raises(ValueError, match="link must be one of"):
        best_linear_attention_loss(3, 5, link="tan")
    with pytest.raises(ValueError, match="n_context must be >= 2"):
        centred_attention_loss(3, 1)


def test_wrong_laws_and_inputs_say_what_is_wrong():
    law = CubeRegression(2)
    with pytest.raises(TypeError, match="law must be a CubeRegression, got str"):
        label_moments("linear")
    with pytest.raises(ValueError, match="must have the law's dimension 2, got shapes"):
        label_kernel(law, [1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="one batch, got 2 and 1"):
        blind_task(law, np.zeros((2, 3, 2)), [[0, 0]])
    with pytest.raises(ValueError, match="one dimension"):
        blind_task(law, np.zeros((1, 3, 2)), [[0, 0, 0]])
    with pytest.raises(ValueError, match="x must have the law's dimension 2"):
        blind_task(law, np.zeros((1, 3, 4)), np.zeros((1, 4)))


def test_wrong_weights_and_signs_say_what_is_wrong(rng):
    task = prompts(CubeRegression(2), 5, 3, rng)
    with pytest.raises(ValueError, match="weights must be for 5 prompts of 3 labels"):
        best_readout(task, np.ones((5, 4)))
    with pytest.raises(ValueError, match="weights must have 3 axes"):
        best_readout(task, np.ones(5))
    with pytest.raises(ValueError, match="weights must be finite"):
        best_readout(task, np.full((5, 3), np.nan))
    with pytest.raises(ValueError, match="sign must be 1 or -1, got 0"):
        best_scale(task, np.tanh, sign=0)
