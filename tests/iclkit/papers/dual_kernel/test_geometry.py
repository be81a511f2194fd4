"""Products of updates, their law, and what a single demonstration does to an output."""

from itertools import product

import numpy as np
import pytest

from iclkit.papers.dual_kernel import geometry
from iclkit.papers.dual_kernel.attention import Lookup, attend, attention_output, look_up
from iclkit.papers.dual_kernel.dual import inner, leave_one_out, task_update
from iclkit.papers.dual_kernel.geometry import (
    ProductLaw,
    attribution,
    cosine_auc,
    influence,
    product_law,
    same_task_auc,
    update_cosine,
    update_product,
    worst_corruption,
)
from iclkit.rng import stream
from tests.instances import tokens_and_weights
from tests.tolerances import IDENTITY, MINIMUM, PRINTED, SIGMAS

LOOKUP = look_up(*tokens_and_weights())
SETTINGS = [  # dim, n_context, sharpness, noise_var, tokens
    (10, 15, 0.3, 0.0, "uniform"),
    (3, 2, 0.5, 0.7, "uniform"),
    (1, 3, 1.0, 0.2, "uniform"),
    (4, 6, 0.1, 0.3, "gaussian"),
]


def random_pairs(n, dim, n_context, *, sharpness, noise_var, tokens, same, rng):
    """Return keys and labels of two prompts each, of one task or of two."""
    draw = rng.standard_normal if tokens == "gaussian" else lambda size: rng.uniform(-1, 1, size)
    tasks = [rng.standard_normal((n, dim, 1)) for _ in range(2)]
    parts = []
    for task in (tasks[0], tasks[0 if same else 1]):
        x = draw((n, n_context, dim))
        y = x @ task + np.sqrt(noise_var) * rng.standard_normal((n, n_context, 1))
        parts += [np.sqrt(sharpness) * x.swapaxes(1, 2), y.swapaxes(1, 2)]
    return parts


# ------------------------------------------------------------------ products of updates


def test_product_is_that_of_the_dual_models():
    rng = stream(0, "product")
    prompts = [rng.standard_normal((3, 2, n)) for n in (5, 5, 4, 4)]
    found = update_product(*prompts)
    for pair in range(3):
        keys, values, others, targets = (part[pair] for part in prompts)
        loops = sum(
            (values[:, i] @ targets[:, j]) * np.exp(keys[:, i] @ others[:, j])
            for i, j in product(range(5), range(4))
        )
        assert found[pair] == pytest.approx(loops, rel=IDENTITY)
    update = task_update(LOOKUP)
    own = update_product(update.keys, update.coefficients, update.keys, update.coefficients)
    assert own * np.exp(2 * update.log_scale) == pytest.approx(inner(update, update), rel=IDENTITY)


def test_centred_product_ignores_an_offset_of_the_labels():
    rng = stream(1, "offset")
    keys, others = rng.standard_normal((2, 2, 6))
    values, targets = rng.standard_normal((2, 1, 6))
    moved = update_product(keys, values + 5, others, targets - 3, centred=True)
    assert moved == pytest.approx(update_product(keys, values, others, targets, centred=True))
    by_hand = update_product(keys, values - values.mean(), others, targets - targets.mean())
    assert moved == pytest.approx(by_hand, rel=1e-10)


def test_cosine_is_the_normalised_product_and_does_not_overflow():
    rng = stream(2, "cosine")
    prompts = [rng.standard_normal((2, 4)) for _ in range(4)]
    first, second = prompts[:2], prompts[2:]
    norms = update_product(*first, *first) * update_product(*second, *second)
    plain = update_product(*prompts) / np.sqrt(norms)
    assert update_cosine(*prompts) == pytest.approx(plain, rel=IDENTITY)
    keys, values = np.array([[40.0, 39.0]]), np.array([[1.0, 2.0]])
    assert update_cosine(keys, values, keys, values) == pytest.approx(1.0, rel=IDENTITY)
    with pytest.raises(ValueError, match="take update_cosine"):
        update_product(keys, values, keys, values)


def test_auc_counts_pairs_and_knows_its_error():
    rng = stream(3, "auc")
    same, different = rng.integers(0, 6, 40), rng.integers(0, 5, 30)
    wins = [float(a > b) + 0.5 * float(a == b) for a in same for b in different]
    assert same_task_auc(same, different).value == pytest.approx(np.mean(wins), rel=IDENTITY)
    samples = [same_task_auc(rng.normal(1, 1, 60), rng.normal(0, 1, 50)) for _ in range(400)]
    values, errors = np.transpose(samples)
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=SIGMAS / np.sqrt(2 * 400))


# ------------------------------------------------------------------ the law of a product


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_mean_and_variance_of_products(setting, centred):
    dim, n_context, sharpness, noise_var, tokens = setting
    options = {"sharpness": sharpness, "noise_var": noise_var, "tokens": tokens}
    law = product_law(dim, n_context, **options, centred=centred)
    for same, moments in ((True, law.same), (False, law.different)):
        rng = stream(0, "law", list(setting), same)
        pairs = random_pairs(20_000, dim, n_context, **options, same=same, rng=rng)
        sample = update_product(*pairs, centred=centred)
        z = (sample.mean() - moments.mean) / np.sqrt(moments.variance / len(sample))
        assert abs(z) < SIGMAS
        squares = (sample - moments.mean) ** 2
        stderr = squares.std() / np.sqrt(len(sample))
        assert abs(squares.mean() - moments.variance) < SIGMAS * stderr


THREE_POINTS = np.array([-1.3, 0.0, 1.3]), np.array([0.3, 0.4, 0.3])


def every_prompt(dim, n_context):
    """Return all inputs (n_context, dim) with coordinates of three values, and their chances."""
    places = list(product(range(3), repeat=dim * n_context))
    inputs = [THREE_POINTS[0][list(place)].reshape(n_context, dim) for place in places]
    return inputs, [THREE_POINTS[1][list(place)].prod() for place in places]


def moments_given_inputs(kernel, x, z, noise_var):
    """Return mean and mean square of the product, of one task, and mean square, of two tasks."""
    own, other = x @ x.T + noise_var * np.eye(len(x)), z @ z.T + noise_var * np.eye(len(z))
    paired = kernel @ z @ x.T  # Wick's formula, for labels that are normal given the inputs
    independent = np.trace(kernel @ other @ kernel.T @ own)
    mean = np.trace(paired)
    return mean, independent + mean**2 + np.trace(paired @ paired), independent


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (1, 3), (2, 2)])
def test_law_of_products_by_enumeration(shape, centred, monkeypatch):
    monkeypatch.setattr(geometry, "_coordinate", lambda _: THREE_POINTS)
    law = product_law(*shape, sharpness=0.5, noise_var=0.6, centred=centred)
    prompts = list(zip(*every_prompt(*shape), strict=True))
    centre = np.eye(shape[1]) - (np.ones(2 * shape[1:]) / shape[1] if centred else 0.0)
    exact = np.zeros(3)
    for (x, p), (z, q) in product(prompts, prompts):
        kernel = centre @ np.exp(0.5 * x @ z.T) @ centre
        exact += p * q * np.array(moments_given_inputs(kernel, x, z, 0.6))
    found = law.same.mean, law.same.variance + law.same.mean**2, law.different.variance
    assert found == pytest.approx(exact, rel=1e-11)


def test_gaussian_closed_forms():
    d, n, c = 5, 7, 0.3
    law = product_law(d, n, sharpness=c, tokens="gaussian")
    slope = c * (1 - c * c) ** (-d / 2 - 1)
    assert law.same.mean == pytest.approx(n**2 * d * slope, rel=IDENTITY)
    s, s2 = 1 - 4 * c * c, 1 - 2 * c * c
    single = s ** (-d / 2) * (d**2 / s + 4 * c * c * d * (d + 2) / s**2)
    double = c * c * s2 ** (-d / 2) * d * (d + 2) / s2**2
    variance = n**2 * (single + 2 * (n - 1) * double + (n - 1) ** 2 * d * slope**2)
    assert law.different.variance == pytest.approx(variance, rel=1e-10)


def test_uniform_mean_is_a_derivative():
    d, c, step = 4, 0.8, 1e-4

    def moment(sharpness):  # E exp(c <x, x'>), coordinate by coordinate
        nodes, weights = np.polynomial.legendre.leggauss(30)
        return (weights @ np.exp(sharpness * np.outer(nodes, nodes)) @ weights / 4) ** d

    slope = (moment(c + step) - moment(c - step)) / (2 * step)
    assert product_law(d, 3, sharpness=c).same.mean == pytest.approx(9 * slope, rel=MINIMUM)


@pytest.mark.parametrize("centred", [False, True])
def test_separation_has_the_limit_of_known_tasks(centred):
    dim = 12
    far = product_law(dim, 10**7, sharpness=0.3, centred=centred)
    assert far.separation == pytest.approx(np.sqrt(dim / 3), rel=1e-3)
    spread = product_law(dim, 2, sharpness=0.3, centred=centred)
    assert 0 < spread.separation < far.separation


def test_centring_wins_for_linear_tasks_and_plain_labels_need_sharpness():
    plain, centred = (
        [product_law(10, 15, sharpness=c, centred=own).separation for c in (0.01, 0.1, 0.6)]
        for own in (False, True)
    )
    assert all(a < b for a, b in zip(plain, centred, strict=True))
    assert plain[0] < plain[1] < plain[2]
    assert centred[0] > centred[1] > centred[2]


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("dim", "n_context"), [(3, 2), (4, 5), (10, 15), (40, 10)])
def test_exact_auc_of_linear_attention(dim, n_context, centred):
    rng = stream(0, "linear", dim, n_context, centred)
    scores = []
    for same in (True, False):
        options = {
            "sharpness": 1.0,
            "noise_var": 0.0,
            "tokens": "gaussian",
            "same": same,
            "rng": rng,
        }
        keys, y, others, z = random_pairs(20_000, dim, n_context, **options)
        y, z = (v - v.mean(axis=-1, keepdims=True) if centred else v for v in (y, z))
        first, second = ((x * v).sum(axis=-1) for x, v in ((keys, y), (others, z)))
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        scores.append((first * second).sum(axis=1) / norms)
    found, exact = same_task_auc(*scores), cosine_auc(dim, n_context, centred=centred)
    assert abs(found.value - exact) < SIGMAS * found.stderr


def test_auc_in_three_dimensions_is_elementary():
    for n in (1, 2, 5, 50):  # cos t has the density n z^(n-1), and cosines are uniform
        exact = 0.5 + 0.5 * (n / (n + 1)) ** 2
        assert cosine_auc(3, n, centred=False) == pytest.approx(exact, rel=IDENTITY)
        assert cosine_auc(3, n + 1) == pytest.approx(exact, rel=IDENTITY)
    assert cosine_auc(1000, 3) < cosine_auc(100, 3) < cosine_auc(100, 300) <= 1.0


def test_flat_kernel_with_centred_labels_is_linear_attention():
    rng = stream(5, "flat")
    options = {"noise_var": 0.0, "tokens": "gaussian", "same": True, "rng": rng}
    keys, y, others, z = random_pairs(50, 4, 6, sharpness=1e-7, **options)
    first, second = (
        (k * (v - v.mean(axis=-1, keepdims=True))).sum(-1) for k, v in ((keys, y), (others, z))
    )
    linear = (first * second).sum(axis=1)
    assert update_product(keys, y, others, z, centred=True) == pytest.approx(linear, rel=1e-4)


# ------------------------------------------------------------------ single demonstrations


def random_lookup(seed, n=6, n_demo=5, d_v=2, scale=1.0):
    rng = stream(seed, "lookup")
    keys, values = scale * rng.standard_normal((3, n)), rng.standard_normal((d_v, n))
    return Lookup(rng.standard_normal(3), keys, values, n_demo)


def test_contributions_sum_to_the_output():
    for seed in range(5):
        lookup = random_lookup(seed)
        total = attribution(lookup).sum(axis=1)
        assert total == pytest.approx(attend(lookup).output, rel=IDENTITY, abs=IDENTITY)


def test_influence_against_the_prompt_without_the_demonstration():
    assert leave_one_out(LOOKUP)[:, 0] == pytest.approx([1.061183971, -0.7394978445], rel=PRINTED)
    for lookup in (LOOKUP, random_lookup(0), random_lookup(1, scale=6.0)):
        output, found = attend(lookup).output, influence(lookup)
        for i in range(lookup.n_demo):
            keys, values = (np.delete(part, i, axis=1) for part in (lookup.keys, lookup.values))
            without = attention_output(lookup.query[:, None], keys, values)[:, 0]
            assert found[i] == pytest.approx(np.linalg.norm(output - without), rel=1e-9, abs=1e-14)
        weights = attend(lookup).weights[: lookup.n_demo]
        gap = np.linalg.norm(lookup.values[:, : lookup.n_demo] - output[:, None], axis=0)
        light = weights < 0.9
        formula = weights / (1 - weights) * gap
        assert found[light] == pytest.approx(formula[light], rel=1e-9)


def test_influence_ignores_an_offset_that_attribution_follows():
    lookup = random_lookup(3)
    moved = lookup._replace(values=lookup.values + 1e4)
    assert influence(moved) == pytest.approx(influence(lookup), rel=1e-6)
    order = np.argsort(np.linalg.norm(attribution(moved), axis=0))
    assert order.tolist() == np.argsort(attend(lookup).weights).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_worst_corruption_is_attained_and_never_exceeded(seed):
    lookup, rng = random_lookup(seed, n=4, n_demo=3), stream(seed, "corrupt")
    reach, rho = 1.5, 2.0
    worst, output = worst_corruption(lookup, key_norm=reach, value_norm=rho), attend(lookup).output

    def moved(i, key, value):
        keys, values = lookup.keys.copy(), lookup.values.copy()
        keys[:, i], values[:, i] = key, value
        return np.linalg.norm(attend(lookup._replace(keys=keys, values=values)).output - output)

    unit = lookup.query / np.linalg.norm(lookup.query)
    for i in range(3):
        angles = np.linspace(0, 2 * np.pi, 401)
        circle = rho * np.array([np.cos(angles), np.sin(angles)]).T
        best = max(moved(i, sign * reach * unit, v) for sign in (-1, 1) for v in circle)
        assert best == pytest.approx(worst[i], rel=1e-4)  # the angle is a grid
        for _ in range(200):
            key, value = rng.standard_normal(3), rng.standard_normal(2)
            key *= reach / np.linalg.norm(key) * rng.uniform()
            value *= rho / np.linalg.norm(value) * rng.uniform() ** 0.5
            assert moved(i, key, value) <= worst[i] * (1 + IDENTITY)


# ------------------------------------------------------------------ wrong input


ALONE = Lookup(np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1)), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: update_product([[0, 1]], [[1]], [[0]], [[1]]), "keys and values must have shapes"),
        (lambda: update_product([[0]], [[1]], [[0], [1]], [[1]]), "keys of one length"),
        (lambda: update_product([[np.nan]], [[1]], [[0]], [[1]]), "keys must be finite"),
        (lambda: update_cosine([[0]], [[0]], [[0]], [[1]]), "a zero update has no direction"),
        (lambda: same_task_auc([1.0], [1.0, 2.0]), "at least two scores"),
        (lambda: product_law(0, 5, sharpness=0.3), "dim must be >= 1"),
        (lambda: product_law(2, 1, sharpness=0.3, centred=True), "n_context must be >= 2"),
        (lambda: product_law(2, 5, sharpness=0.0), "sharpness must be finite and > 0"),
        (
            lambda: product_law(2, 5, sharpness=0.3, noise_var=-1.0),
            "noise_var must be finite and >= 0",
        ),
        (lambda: product_law(2, 5, sharpness=0.5, tokens="gaussian"), "sharpness must be <= 0.45"),
        (lambda: product_law(2, 5, sharpness=0.5, tokens="cube"), "tokens must be one of uniform"),
        (lambda: cosine_auc(2, 5), "dim must be >= 3"),
        (lambda: cosine_auc(3, 1), "n_context must be >= 2"),
        (lambda: influence(ALONE), "at least two tokens"),
        (lambda: worst_corruption(LOOKUP, key_norm=-1, value_norm=1), "key_norm must be finite"),
        (lambda: worst_corruption(LOOKUP, key_norm=1, value_norm=-1), "value_norm must be finite"),
    ],
)
def test_wrong_input_gets_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_integer_input_works_and_a_law_knows_its_separation():
    assert update_product([[0]], [[1]], [[0]], [[1]]).dtype == np.float64
    law = product_law(2, 3, sharpness=1)
    assert isinstance(law, ProductLaw)
    spread = np.sqrt(law.same.variance + law.different.variance)
    assert law.separation == pytest.approx(law.same.mean / spread, rel=IDENTITY)
