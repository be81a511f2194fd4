import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit import solvers
from iclkit.features import sample_attention_features
from iclkit.prompts import sample_query, sphere_tasks
from iclkit.rng import stream
from iclkit.solvers import METHODS, ConvergenceError, bilinear_ridge, min_norm, ridge
from tests.oracles import bilinear_min_norm, bilinear_ridge_obvious, ridge_obvious
from tests.tolerances import IDENTITY, ROUTES

DIRECT = ("auto", "dual", "primal")


def pretraining_data(dim, tau, *, strength=1e-6, seed=0):
    """Return data of the phase transition chapter: context 10 d, d/2 tasks, noise 0.01."""
    rng = stream(seed, "solvers", dim, tau)
    n_prompts = int(tau * dim**2)
    tasks = sphere_tasks(dim // 2, dim, rng=rng).assign(n_prompts)
    v = sample_attention_features(tasks, n_context=10 * dim, noise_var=0.01, rng=rng)
    x_query, y = sample_query(tasks, noise_var=0.01, rng=rng)
    return x_query, v, y, n_prompts / dim * strength


def random_data(n, d, m, seed=0):
    rng = stream(seed, "random", n, d, m)
    return rng.standard_normal((n, d)), rng.standard_normal((n, m)), rng.standard_normal(n)


def difference(gamma, expected):
    return np.linalg.norm(gamma - expected) / np.linalg.norm(expected)


# ---------------------------------------------------------------- agreement of routes


def test_reference_value():
    """Solved once in high precision."""
    x, y = [[1, 0], [0, 1], [1, 1]], (1, -1, 0.5)
    v = [[1, 0, 1], [0, 2, 1], [1, 1, 1]]
    expected = [
        [0.443734418431384, 0.0686305413072757, 0.443734418431384],
        [0.0686305413072757, -0.386422901682093, -0.158896180187409],
    ]
    for method in ("auto", "dual", "cg", "primal"):
        gamma = bilinear_ridge(x, v, y, 1.5 * 0.2, method=method)
        np.testing.assert_allclose(gamma, expected, rtol=1e-13)


ROUTES_AND_SIZES = [
    (method, tau)
    for method in METHODS
    for tau in (0.3, 0.9, 1.08, 1.3, 3)
    if method != "pcg" or tau > 1.1  # "pcg" is refused below the interpolation threshold
]


@pytest.mark.parametrize(("method", "tau"), ROUTES_AND_SIZES)
def test_all_routes_give_the_obvious_answer(method, tau):
    data = pretraining_data(12, tau)
    gamma = bilinear_ridge(*data, method=method)
    assert difference(gamma, bilinear_ridge_obvious(*data)) < ROUTES


@pytest.mark.parametrize("tau", [1.15, 1.5, 4])
def test_preconditioned_route_at_a_size_where_it_is_chosen(tau):
    data = pretraining_data(32, tau)
    gamma = bilinear_ridge(*data)
    assert difference(gamma, bilinear_ridge(*data, method="primal")) < ROUTES
    assert np.array_equal(gamma, bilinear_ridge(*data, method="pcg"))


@pytest.mark.parametrize("method", ["auto", "dual", "cg", "primal"])
def test_without_penalty_too_few_prompts_give_the_minimum_norm(method):
    *data, _ = pretraining_data(12, 0.6)
    gamma = bilinear_ridge(*data, 0, method=method)
    assert difference(gamma, bilinear_min_norm(*data)) < ROUTES


@pytest.mark.parametrize("method", METHODS)
def test_without_penalty_enough_prompts_give_least_squares(method):
    *data, _ = pretraining_data(12, 2)
    gamma = bilinear_ridge(*data, 0, method=method)
    assert difference(gamma, bilinear_min_norm(*data)) < ROUTES


@pytest.mark.parametrize(("n", "d", "m"), [(1, 1, 1), (4, 1, 1), (5, 1, 3), (5, 3, 1), (600, 2, 3)])
@pytest.mark.parametrize("penalty", [0, 0.3])
@pytest.mark.parametrize("method", ["auto", "dual", "cg", "primal"])
def test_small_shapes(n, d, m, penalty, method):
    data = random_data(n, d, m)
    expected = bilinear_ridge_obvious(*data, penalty) if penalty else bilinear_min_norm(*data)
    assert difference(bilinear_ridge(*data, penalty, method=method), expected) < ROUTES


def test_rows_of_the_last_block_count():
    """More prompts than one block of each kind, not a multiple of it."""
    data = random_data(2 * solvers._ROWS + 17, 2, 3)
    expected = bilinear_ridge_obvious(*data, 1.0)
    for method in ("cg", "primal", "pcg"):
        assert difference(bilinear_ridge(*data, 1.0, method=method), expected) < ROUTES
    data = random_data(solvers._TILE + 3, 30, 40)
    expected = bilinear_min_norm(*data)
    assert difference(bilinear_ridge(*data, 0, method="dual"), expected) < ROUTES


# ---------------------------------------------------------------- singular and awkward data


def spoil(kind):
    """Return data whose feature matrix has not full rank, although prompts are many."""
    x, v, y = random_data(90, 4, 5)
    if kind == "duplicates":
        x, v, y = x[:15].repeat(6, axis=0), v[:15].repeat(6, axis=0), y
    elif kind == "zero column":
        x[:, 1] = v[:, 2] = 0
    elif kind == "collinear":
        v[:, 4], x[:, 0] = v[:, 0] - 2 * v[:, 1], 3 * x[:, 1]
    elif kind == "one query direction at a time":
        x = np.eye(4)[np.arange(90) % 4]
        v[::4, :2] = 0
        v[1::4, 3] = 0
    elif kind == "two subspaces":
        x[:45, :2] = v[:45, :2] = x[45:, 2:] = 0
    return x, v, y


SPOILED = ["duplicates", "zero column", "collinear", "one query direction at a time"]


@pytest.mark.parametrize("kind", [*SPOILED, "two subspaces"])
@pytest.mark.parametrize("method", ["auto", "dual", "cg", "primal"])
def test_singular_data_give_the_minimum_norm(kind, method):
    data = spoil(kind)
    gamma = bilinear_ridge(*data, 0, method=method)
    assert difference(gamma, bilinear_min_norm(*data)) < ROUTES


@pytest.mark.parametrize("kind", ["zero column", "collinear"])
def test_preconditioning_keeps_directions_without_data_at_zero(kind):
    data = spoil(kind)
    gamma = bilinear_ridge(*data, 0, method="pcg")
    assert difference(gamma, bilinear_min_norm(*data)) < ROUTES


@pytest.mark.parametrize("kind", [*SPOILED, "two subspaces"])
@pytest.mark.parametrize("method", ["auto", "dual", "cg", "primal"])
def test_a_penalty_makes_singular_data_regular(kind, method):
    data = spoil(kind)
    gamma = bilinear_ridge(*data, 1e-3, method=method)
    assert difference(gamma, bilinear_ridge_obvious(*data, 1e-3)) < ROUTES


def test_repeated_prompts_do_not_lead_to_preconditioning():
    """2,000 prompts, 500 of them distinct, for 1,056 weights: still underdetermined."""
    *parts, _ = pretraining_data(32, 0.5)
    once = [part[:500] for part in parts]
    often = [np.concatenate([part] * 4) for part in once]
    assert difference(bilinear_ridge(*often, 0), bilinear_ridge(*once, 0)) < ROUTES


@pytest.mark.parametrize("method", METHODS)
def test_zeros_give_zeros(method):
    x, v, y = random_data(20, 2, 3)
    for data in [(0 * x, v, y), (x, 0 * v, y), (x, v, 0 * y)]:
        for penalty in (0, 0.1):
            gamma = bilinear_ridge(*data, penalty, method=method)
            assert gamma.shape == (2, 3)
            assert (gamma == 0).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("method", METHODS)
def test_units_do_not_matter(scale, method):
    """Single precision within "pcg" ends at 1e38; the scaling must keep it away from there."""
    x, v, y = random_data(60, 3, 4)
    gamma = bilinear_ridge(scale * x, v * 1e3, y * scale, 0.5 * scale**2 * 1e6, method=method)
    assert difference(gamma * 1e3, bilinear_ridge_obvious(x, v, y, 0.5)) < ROUTES


def test_prompts_of_very_different_size():
    """Where single precision fails, double takes over."""
    x, v, y = random_data(4000, 6, 7)
    x *= 10.0 ** np.linspace(-4, 2, 4000)[:, None]
    gamma = bilinear_ridge(x, v, y, 1e-3, method="pcg")
    assert difference(gamma, bilinear_ridge(x, v, y, 1e-3, method="primal")) < ROUTES


def test_a_huge_penalty_gives_the_gradient():
    x, v, y = random_data(30, 2, 3)
    gradient = np.einsum("ni,nj,n->ij", x, v, y)
    for method in METHODS:
        np.testing.assert_allclose(1e12 * bilinear_ridge(x, v, y, 1e12, method=method), gradient)


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("n", "dim", "method"),
    [
        (3200, 80, "dual"),
        (6480, 80, "dual"),
        (6481, 80, "primal"),
        (7100, 80, "primal"),
        (7200, 80, "pcg"),
        (9600, 80, "pcg"),
        (200, 10, "primal"),
        (13_000, 120, "cg"),
    ],
)
def test_the_method_follows_from_the_sizes(n, dim, method):
    rows = np.arange(1.0, n + 1)
    x, v = np.ones((n, 1)) * rows[:, None], np.broadcast_to(1.0, (n, dim * (dim + 1)))
    assert solvers._choose(solvers._Problem(x, v, rows, 0.0)) == method


def test_preconditioning_below_the_threshold_is_refused():
    message = "method pcg needs at least 12 distinct prompts, got 11; use dual or cg"
    with pytest.raises(ValueError, match=message):
        bilinear_ridge(*random_data(11, 3, 4), 0.1, method="pcg")
    often = (np.tile(part, (3, 1)[: part.ndim]) for part in random_data(11, 3, 4))
    with pytest.raises(ValueError, match=message):
        bilinear_ridge(*often, 0.1, method="pcg")


@pytest.mark.parametrize("method", ["cg", "pcg"])
def test_an_unfinished_iteration_says_so(method, monkeypatch):
    monkeypatch.setattr(solvers, "_STEPS", 1)
    data = pretraining_data(12, 1.2)
    with pytest.raises(ConvergenceError, match=r"relative residual of .*, not 1e-9.* use method"):
        bilinear_ridge(*data, method=method)


# ---------------------------------------------------------------- properties

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 5))


@settings(max_examples=60, deadline=None)
@given(shape=SHAPES, penalty=st.floats(1e-4, 1e4), seed=st.integers(0, 9))
def test_the_gradient_vanishes(shape, penalty, seed):
    x, v, y = random_data(*shape, seed=seed)
    gamma = bilinear_ridge(x, v, y, penalty)
    residual = y - np.einsum("ni,ij,nj->n", x, gamma, v)
    downhill = np.einsum("ni,nj,n->ij", x, v, residual)
    np.testing.assert_allclose(downhill, penalty * gamma, atol=IDENTITY * 1e3, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 9))
def test_a_larger_penalty_shrinks(shape, seed):
    data = random_data(*shape, seed=seed)
    norms = [np.linalg.norm(bilinear_ridge(*data, penalty)) for penalty in (0, 0.01, 1, 100)]
    assert (np.diff(norms) <= IDENTITY * norms[0]).all()


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 9), scale=st.floats(-1e3, 1e3))
def test_the_answer_is_linear_in_the_labels(shape, seed, scale):
    x, v, y = random_data(*shape, seed=seed)
    np.testing.assert_allclose(
        bilinear_ridge(x, v, scale * y, 0.1), scale * bilinear_ridge(x, v, y, 0.1), atol=1e-9
    )


def test_the_order_of_prompts_does_not_matter():
    x, v, y, penalty = pretraining_data(12, 1.5)
    backwards = bilinear_ridge(x[::-1], v[::-1], y[::-1], penalty)
    assert difference(backwards, bilinear_ridge(x, v, y, penalty)) < ROUTES


def test_inputs_are_left_alone_and_the_answer_is_deterministic():
    for tau in (0.5, 1.05, 2):
        data = pretraining_data(12, tau)
        kept = [np.copy(part) for part in data]
        for method in METHODS[:-1]:
            answers = [bilinear_ridge(*data, method=method) for _ in range(2)]
            assert np.array_equal(*answers)
        assert all(map(np.array_equal, data, kept))


@pytest.mark.parametrize("kind", [int, np.float32, np.int8])
def test_other_number_types_just_work(kind):
    x, v, y = (np.round(part * 3).astype(kind) for part in random_data(9, 2, 3))
    gamma = bilinear_ridge(x, v, y, 1)
    assert gamma.dtype == np.float64
    assert difference(gamma, bilinear_ridge_obvious(*map(np.float64, (x, v, y)), 1)) < ROUTES


def test_memory_layout_does_not_matter():
    x, v, y = random_data(50, 3, 4)
    for method in METHODS:
        plain = bilinear_ridge(x, v, y, 0.1, method=method)
        strided = np.asfortranarray(x), np.repeat(v, 2, axis=0)[::2], np.repeat(y, 2)[::2]
        assert difference(bilinear_ridge(*strided, 0.1, method=method), plain) < ROUTES


# ---------------------------------------------------------------- bad input

GOOD = {"x_query": np.ones((4, 2)), "v": np.ones((4, 3)), "y": np.ones(4), "penalty": 0.1}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"penalty": -1.0}, ValueError, r"penalty must be finite and >= 0, got -1\.0"),
        ({"penalty": np.nan}, ValueError, "penalty must be finite"),
        ({"penalty": np.inf}, ValueError, "penalty must be finite"),
        ({"penalty": [0.1]}, TypeError, "penalty must be a number, got list"),
        ({"x_query": np.ones(4)}, ValueError, "x_query must have 2 axes"),
        ({"v": np.ones((4, 3, 1))}, ValueError, "v must have 2 axes"),
        ({"y": np.ones((4, 1))}, ValueError, "y must have 1 axes"),
        ({"y": np.ones(5)}, ValueError, "must agree, got x_query 4, v 4, y 5"),
        ({"v": np.full((4, 3), np.nan)}, ValueError, "v must be finite"),
        ({"y": [1, 2, np.inf, 4]}, ValueError, "y must be finite"),
        ({"x_query": np.ones((4, 0))}, ValueError, "x_query must not be empty"),
        ({"x_query": np.ones((4, 2)) * 1j}, TypeError, "x_query must hold real numbers"),
        ({"method": "lu"}, ValueError, "method must be one of auto, dual, cg, primal, pcg"),
        ({"method": None}, ValueError, "method must be one of"),
    ],
)
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message) as caught:
        bilinear_ridge(**(GOOD | change))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- ridge on a context


@pytest.mark.parametrize(("n", "d"), [(9, 3), (3, 3), (3, 9), (1, 1), (1, 4)])
@pytest.mark.parametrize("penalty", [0.0, 1e-14, 0.2, 30])
def test_ridge_is_least_squares_with_more_rows(n, d, penalty, rng):
    x, y = rng.standard_normal((5, n, d)), rng.standard_normal((5, n))
    expected = [ridge_obvious(*prompt, penalty) for prompt in zip(x, y, strict=True)]
    np.testing.assert_allclose(ridge(x, y, penalty), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ridge(x[0], y[0], penalty), ridge(x, y, penalty)[0])


def test_minimum_norm_is_the_pseudoinverse(rng):
    x, y = rng.standard_normal((6, 4)) @ rng.standard_normal((4, 5)), rng.standard_normal(6)
    np.testing.assert_allclose(min_norm(x, y), np.linalg.pinv(x, rcond=1e-12) @ y)
    assert (min_norm(np.zeros((3, 2)), np.ones(3)) == 0).all()


@pytest.mark.parametrize("penalty", [0.0, 1e-20, 1e-14])
def test_ridge_survives_repeated_examples(penalty, rng):
    x, y = rng.standard_normal((2, 5)), rng.standard_normal(2)
    often = ridge(np.tile(x, (3, 1)), np.tile(y, 3), penalty)
    np.testing.assert_allclose(often, min_norm(x, y), rtol=1e-9)


def test_data_sets_of_one_batch_do_not_meet(rng):
    x, y = rng.standard_normal((4, 6, 3)), rng.standard_normal((4, 6))
    alone = ridge(x[1], y[1], 0.1)
    x[0] *= 1e9
    np.testing.assert_array_equal(ridge(x, y, 0.1)[1], alone)


@pytest.mark.parametrize(
    ("x", "y", "penalty", "message"),
    [
        (np.ones((3, 2)), np.ones(2), 0.1, "x must have one row per label in y"),
        (np.ones(3), np.ones(3), 0.1, "x must have rows and columns"),
        (np.ones((3, 2)), np.ones((3, 1)), 0.1, "y must have 1 axes"),
        (np.ones((3, 2)), np.ones(3), -1, "penalty must be finite and >= 0, got -1"),
        (np.full((3, 2), np.nan), np.ones(3), 1, "x must be finite"),
    ],
)
def test_ridge_bad_input(x, y, penalty, message):
    with pytest.raises(ValueError, match=message):
        ridge(x, y, penalty)
