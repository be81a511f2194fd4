import numpy as np
import pytest
from scipy import stats

from iclkit.features import attention_features, sample_attention_features, wishart_factor
from iclkit.rng import stream
from tests.oracles import features_by_loops, sample_features_brute
from tests.tolerances import IDENTITY, KS_P, SIGMAS

TASK = np.array([1.0, -2.0, 0.5, 0.3, 0.0, 0.7])
DRAWS = 20_000
# length of the task, noise variance, context
SETTINGS = [(1.0, 0.1, 7), (1.0, 0.0, 3), (3.0, 0.5, 1), (0.1, 2.0, 20), (0.0, 0.5, 4)]


def test_features_are_the_definition(rng):
    x, y = rng.standard_normal((3, 5, 4)), rng.standard_normal((3, 5))
    expected = [features_by_loops(*prompt) for prompt in zip(x, y, strict=True)]
    np.testing.assert_allclose(attention_features(x, y), expected, rtol=IDENTITY)


def test_features_ignore_the_order_of_the_context(rng):
    x, y = rng.standard_normal((3, 5, 4)), rng.standard_normal((3, 5))
    np.testing.assert_allclose(
        attention_features(x[:, ::-1], y[:, ::-1]), attention_features(x, y), rtol=IDENTITY
    )


def views(v, task):
    """Projections of the features in which a wrong sampler would show."""
    h, s = v[:, :-1], v[:, -1]
    across = np.array([task[1], -task[0], 0, 0, 0, 0])
    return {
        "s": s,
        "along": h @ task,
        "across": h @ across,
        "fifth": h[:, 4],
        "square": (h**2).sum(axis=1),
        "share": (h**2).sum(axis=1) / s,
        "mixed": h[:, 0] * h[:, 1] + s,
    }


def smallest_p(one, other):
    return min(stats.ks_2samp(one[key], other[key]).pvalue for key in one)


@pytest.mark.parametrize(("length", "noise_var", "n_context"), SETTINGS)
def test_sampler_has_the_law_of_drawn_contexts(length, noise_var, n_context, rng):
    tasks = np.tile(length * TASK, (DRAWS, 1))
    size = {"n_context": n_context, "noise_var": noise_var, "rng": rng}
    fast = views(sample_attention_features(tasks, **size), TASK)
    slow = views(sample_features_brute(tasks, **size), TASK)
    assert smallest_p(fast, slow) > KS_P


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_var": 0.2},  # 10 % more label variance
        {"n_context": 8},  # off by one
    ],
)
def test_the_comparison_has_power(wrong, rng):
    tasks = np.tile(TASK, (DRAWS, 1))
    right = {"n_context": 7, "noise_var": 0.1}
    fast = views(sample_attention_features(tasks, **(right | wrong), rng=rng), TASK)
    slow = views(sample_features_brute(tasks, **right, rng=rng), TASK)
    assert smallest_p(fast, slow) < KS_P


@pytest.mark.parametrize("n_context", [0.7, 2.5, 33])
def test_sampler_has_the_exact_moments_for_any_real_context(n_context, rng):
    """E v v^T of one task, from Wick's theorem."""
    tasks, noise_var, dim = np.tile(TASK, (200_000, 1)), 0.3, len(TASK)
    v = sample_attention_features(tasks, n_context=n_context, noise_var=noise_var, rng=rng)
    power = TASK @ TASK / dim + noise_var
    more = 1 + 2 / n_context
    moment = np.empty((dim + 1, dim + 1))
    moment[:-1, :-1] = dim / n_context * power * np.eye(dim)
    moment[:-1, :-1] += (1 + 1 / n_context) * np.outer(TASK, TASK)
    moment[:-1, -1] = moment[-1, :-1] = more * power * TASK
    moment[-1, -1] = more * power**2
    products = np.einsum("bi,bj->bij", v, v)
    stderr = products.std(axis=0) / np.sqrt(len(v))
    assert (np.abs(products.mean(axis=0) - moment) < SIGMAS * stderr).all()
    first = np.append(TASK, power)
    assert (np.abs(v.mean(axis=0) - first) < SIGMAS * v.std(axis=0) / np.sqrt(len(v))).all()


def test_without_noise_h_along_the_task_is_s(rng):
    """If every y_i = <x_i, w>, then <h, w> = d s exactly."""
    tasks = rng.standard_normal((50, 6))
    v = sample_attention_features(tasks, n_context=4, noise_var=0, rng=rng)
    np.testing.assert_allclose((v[:, :-1] * tasks).sum(axis=1), 6 * v[:, -1], rtol=IDENTITY)


def test_long_contexts_show_the_task(rng):
    tasks = rng.standard_normal((5, 6))
    v = sample_attention_features(tasks, n_context=1e12, noise_var=0.1, rng=rng)
    np.testing.assert_allclose(v[:, :-1], tasks, atol=1e-4)


def test_no_task_and_no_noise_give_zero(rng):
    v = sample_attention_features(np.zeros((3, 2)), n_context=5, noise_var=0, rng=rng)
    assert (v == 0).all()


def test_draws_belong_to_the_seed_and_inputs_stay(rng):
    tasks = rng.standard_normal((10_000, 2))
    kept = tasks.copy()
    draws = [
        sample_attention_features(tasks, n_context=3, noise_var=0.1, rng=stream(seed))
        for seed in (0, 0, 1)
    ]
    assert np.array_equal(draws[0], draws[1])
    assert not np.isin(draws[0], draws[2]).any()
    assert np.array_equal(tasks, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_context": 0}, "n_context must be finite and > 0, got 0"),
        ({"n_context": np.inf}, "n_context must be finite and > 0, got inf"),
        ({"noise_var": -0.1}, "noise_var must be finite and >= 0, got -0.1"),
        ({"noise_var": np.nan}, "noise_var must be finite"),
        ({"tasks": [1.0, 2.0]}, "tasks must have 2 axes"),
        ({"tasks": [[np.nan]]}, "tasks must be finite"),
    ],
)
def test_bad_input(change, message, rng):
    arguments = {"tasks": [[1, 2]], "n_context": 3, "noise_var": 0.1, "rng": rng} | change
    with pytest.raises(ValueError, match=message):
        sample_attention_features(arguments.pop("tasks"), **arguments)


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"x and y must agree on \(batch, n_context\)"):
        attention_features(np.ones((2, 3, 4)), np.ones((2, 4)))


def test_integers_just_work(rng):
    assert attention_features([[[1, 2]]], [[3]]).tolist() == [[6.0, 12.0, 9.0]]
    assert sample_attention_features([[1, 2]], n_context=3, noise_var=1, rng=rng).shape == (1, 3)


@pytest.mark.parametrize("n_context", [2, 4, 9])
def test_wishart_factors_have_the_moments_of_drawn_inputs(n_context, rng):
    factors = wishart_factor(n_context, 4, size=DRAWS, rng=rng)
    s = np.einsum("bik,bjk->bij", factors, factors)
    low, high, off = s[:, 0, 0], s[:, 3, 3], s[:, 0, 3]
    pairs, n = np.array([low, high, off, low**2, high**2, off**2, low * high]), n_context
    exact = np.array([n, n, 0, n * (n + 2), n * (n + 2), n, n * n])
    stderr = pairs.std(axis=1, ddof=1) / np.sqrt(DRAWS)
    assert np.max(np.abs(pairs.mean(axis=1) - exact) / stderr) < SIGMAS


def test_one_wishart_factor_is_a_stack_of_one():
    alone = wishart_factor(3, 5, rng=stream(0, "factor"))
    assert np.array_equal(alone, wishart_factor(3, 5, size=1, rng=stream(0, "factor"))[0])
