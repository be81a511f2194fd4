import numpy as np
import pytest

from iclkit.prompts import (
    Gaussian,
    IsotropicLinear,
    Sphere,
    TaskPool,
    gaussian_tasks,
    sample_query,
    sphere_tasks,
)
from iclkit.rng import stream
from tests.tolerances import IDENTITY, SIGMAS

POOL = TaskPool(np.arange(12.0).reshape(4, 3))
PRIORS = [Sphere(3), Gaussian(3), POOL]


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
class TestContractOfLaws:
    def sample(self, prior, seed=0, n_prompts=5):
        law = IsotropicLinear(prior, noise_var=0.1)
        return law.sample(n_prompts, 7, rng=stream(seed, "law"))

    def test_shapes_and_types(self, prior):
        prompts = self.sample(prior)
        shapes = [part.shape for part in prompts]
        assert shapes == [(5, 7, 3), (5, 7), (5, 3), (5,), (5, 3)]
        assert all(part.dtype == np.float64 and np.isfinite(part).all() for part in prompts)

    def test_same_seed_same_draws(self, prior):
        for one, other in zip(self.sample(prior), self.sample(prior), strict=True):
            assert np.array_equal(one, other)

    def test_other_seed_other_draws(self, prior):
        for one, other in zip(self.sample(prior)[:4], self.sample(prior, seed=1)[:4], strict=True):
            assert not np.isin(one, other).any()

    def test_moments(self, prior):
        prompts = self.sample(prior, n_prompts=20_000)
        noise = prompts.y - np.einsum("bnd,bd->bn", prompts.x, prompts.task)
        query_noise = prompts.y_query - np.einsum("bd,bd->b", prompts.x_query, prompts.task)
        for values, variance in [
            (prompts.x, 1 / 3),
            (prompts.x_query, 1 / 3),
            (noise, 0.1),
            (query_noise, 0.1),
        ]:
            stderr = variance * np.sqrt(2 / values.size)
            assert abs(np.mean(values**2) - variance) < SIGMAS * stderr
            assert abs(values.mean()) < SIGMAS * np.sqrt(variance / values.size)


def test_without_noise_labels_are_linear(rng):
    prompts = IsotropicLinear(Sphere(4), noise_var=0).sample(6, 5, rng=rng)
    np.testing.assert_allclose(
        prompts.y, (prompts.x @ prompts.task[..., None])[..., 0], rtol=0, atol=IDENTITY
    )


def test_prompts_of_one_batch_are_independent(rng):
    prompts = IsotropicLinear(Sphere(2), noise_var=0.1).sample(20_000, 1, rng=rng)
    products = prompts.y_query[::2] * prompts.y_query[1::2]
    assert abs(products.mean()) < SIGMAS * products.std() / 100


def test_sphere_and_gaussian_tasks(rng):
    sphere, gauss = sphere_tasks(2000, 5, rng=rng), gaussian_tasks(2000, 5, rng=rng)
    np.testing.assert_allclose((sphere.tasks**2).sum(axis=1), 5, rtol=IDENTITY)
    for pool in (sphere, gauss):
        assert (pool.n_tasks, pool.dim) == (2000, 5)
        assert np.abs(pool.mean).max() < SIGMAS / np.sqrt(2000)
        assert np.abs(pool.second_moment - np.eye(5)).max() < SIGMAS * np.sqrt(2 / 2000)


def test_pool_moments_by_loops():
    mean, moment = np.zeros(3), np.zeros((3, 3))
    for task in POOL.tasks:
        mean += task / 4
        moment += np.outer(task, task) / 4
    np.testing.assert_allclose(POOL.mean, mean, rtol=IDENTITY)
    np.testing.assert_allclose(POOL.second_moment, moment, rtol=IDENTITY)


def test_assignment_is_balanced_and_draws_are_random(rng):
    counts = np.unique(POOL.assign(10)[:, 0], return_counts=True)[1]
    assert sorted(counts) == [2, 2, 3, 3]
    drawn = np.unique(POOL.draw(4000, rng=rng)[:, 0], return_counts=True)[1]
    assert np.abs(drawn - 1000).max() < SIGMAS * np.sqrt(4000 * 3 / 16)
    assert len(set(drawn)) > 1


def test_a_pool_keeps_its_own_read_only_tasks():
    tasks = np.ones((2, 2))
    pool = TaskPool(tasks)
    tasks[:] = 0
    assert (pool.tasks == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        pool.tasks[0, 0] = 3


def test_queries_have_their_tasks(rng):
    tasks = np.array([[1e6, 0.0], [0.0, 1e6]])
    x_query, y = sample_query(tasks, noise_var=0.01, rng=rng)
    np.testing.assert_allclose(y / 1e6, np.diag(x_query), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Sphere(0), ValueError, "dim must be >= 1, got 0"),
        (lambda: Gaussian(2.0), TypeError, "dim must be an integer"),
        (lambda: TaskPool([1.0, 2.0]), ValueError, "tasks must have 2 axes"),
        (lambda: TaskPool([[np.nan]]), ValueError, "tasks must be finite"),
        (lambda: IsotropicLinear(Sphere(2), -0.1), ValueError, "noise_var must be .* >= 0"),
        (lambda: sphere_tasks(0, 3, rng=stream(0)), ValueError, "n_tasks must be >= 1"),
        (lambda: sphere_tasks(3, 3, rng=0), TypeError, "rng must be a numpy.random.Generator"),
        (lambda: POOL.assign(0), ValueError, "n_prompts must be >= 1"),
        (lambda: POOL.draw(2, rng=None), TypeError, "rng must be"),
        (lambda: IsotropicLinear(POOL, 0.1).sample(3, 0, rng=stream(0)), ValueError, "n_context"),
        (lambda: IsotropicLinear(POOL, 0.1).sample(0, 3, rng=stream(0)), ValueError, "n_prompts"),
        (lambda: sample_query([[1.0]], noise_var=-1, rng=stream(0)), ValueError, "noise_var"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
