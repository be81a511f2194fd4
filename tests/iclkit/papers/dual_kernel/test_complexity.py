"""Rademacher complexity: all signs, explicit features, bounds from both sides, printed values."""

from itertools import product

import numpy as np
import pytest

from iclkit.papers.dual_kernel.complexity import (
    empirical_bound,
    rademacher,
    rademacher_bounds,
    sample_rademacher,
)
from iclkit.papers.dual_kernel.gap import draw_tokens, sample_gaps
from iclkit.papers.dual_kernel.gap_deviation import cube_radii
from iclkit.rng import stream
from tests.iclkit.papers.dual_kernel.explicit import TOKENS, W_K, W_V, explicit_terms
from tests.tolerances import IDENTITY, PRINTED, SIGMAS

SMALL = 0.4 * W_K[:2, :2], W_V[:, :2]
FEW = TOKENS[:2, :6]


def test_is_the_mean_over_signs_of_explicit_norms():
    terms = np.array(explicit_terms(FEW, *SMALL))
    norms = [np.linalg.norm(np.tensordot(signs, terms, 1)) for signs in product((-1, 1), repeat=6)]
    found = rademacher(FEW, *SMALL, radius=3)
    assert found == pytest.approx(3 * np.mean(norms) / 6, rel=1e-8)


def test_bounds_written_out():
    terms = np.array(explicit_terms(FEW, *SMALL))
    upper = np.sqrt(np.sum(terms**2)) / 6
    bounds = rademacher_bounds(FEW, *SMALL)
    assert bounds.upper == pytest.approx(upper, rel=1e-8)
    assert bounds.lower == pytest.approx(upper / np.sqrt(2), rel=1e-8)
    sizes = np.linalg.norm(terms, axis=(1, 2)) / np.linalg.norm(SMALL[1] @ FEW, axis=0)
    longest = np.linalg.norm(SMALL[1] @ FEW, axis=0).max()
    assert bounds.trace == pytest.approx(longest * np.linalg.norm(sizes) / 6, rel=1e-8)


def test_reference_values():
    radii = cube_radii(W_K, W_V)
    trace = rademacher_bounds(TOKENS, W_K, W_V, value_bound=radii.value).trace
    assert (16 * trace / radii.value) ** 2 == pytest.approx(18.64082949, rel=PRINTED)
    assert empirical_bound(trace, 16, W_K, W_V) == pytest.approx(12.62940955, rel=PRINTED)


def test_signs_lie_between_their_bounds():
    bounds, exact = rademacher_bounds(TOKENS, W_K, W_V), rademacher(TOKENS, W_K, W_V)
    assert bounds.lower < exact < bounds.upper < bounds.trace


def test_lower_bound_is_attained_by_two_equal_tokens():
    twice = np.repeat(TOKENS[:, :1], 2, axis=1)
    bounds, exact = rademacher_bounds(twice, W_K, W_V), rademacher(twice, W_K, W_V)
    assert exact == pytest.approx(bounds.lower, rel=IDENTITY)


def test_sampled_signs():
    drawn = sample_rademacher(TOKENS, W_K, W_V, n_draws=20_000, rng=stream(0, "signs"))
    assert abs(drawn.value - rademacher(TOKENS, W_K, W_V)) < SIGMAS * drawn.stderr


def test_bound_holds_on_samples():
    delta, rng = 0.2, stream(0, "hold")
    tokens = draw_tokens((200, 4, 10), law="uniform", rng=stream(0, "hold"))
    gaps = sample_gaps(200, 10, W_K, W_V, law="uniform", rng=rng)
    complexities = [rademacher_bounds(one, W_K, W_V).lower for one in tokens]  # the least it can be
    bounds = [empirical_bound(r, 10, W_K, W_V, delta=delta) for r in complexities]
    assert np.mean(gaps > bounds) <= delta


class TestErrors:
    def test_too_many_tokens_for_all_signs(self):
        with pytest.raises(
            ValueError, match=r"at most 20 columns .* got 21; use sample_rademacher"
        ):
            rademacher(np.zeros((4, 21)), W_K, W_V)

    def test_tokens_must_fit(self):
        for call in (rademacher, rademacher_bounds):
            with pytest.raises(ValueError, match="tokens must have 4 rows"):
                call(TOKENS[:2], W_K, W_V)

    def test_value_bound_must_be_one(self):
        with pytest.raises(ValueError, match="value_bound must be >= the largest"):
            rademacher_bounds(TOKENS, W_K, W_V, value_bound=0.1)

    def test_draws(self):
        with pytest.raises(ValueError, match="n_draws must be >= 2, got 1"):
            sample_rademacher(TOKENS, W_K, W_V, n_draws=1, rng=stream(0, "draws"))

    @pytest.mark.parametrize(("complexity", "delta"), [(-1.0, 0.1), (1.0, 0.0), (np.nan, 0.1)])
    def test_numbers(self, complexity, delta):
        with pytest.raises(ValueError, match=r"complexity must|delta must"):
            empirical_bound(complexity, 5, W_K, W_V, delta=delta)
