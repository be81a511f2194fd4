"""Ridge regression on several populations: the equations against regressions on drawn features."""

import numpy as np
import pytest

from iclkit.papers import data_mixing as dm
from iclkit.papers.data_mixing.populations import (
    Block,
    Populations,
    head_populations,
    linear_populations,
    resolve,
)
from iclkit.solvers import ConvergenceError
from tests.oracles import population_ridge_errors
from tests.tolerances import IDENTITY, SIGMAS

# The equations err by about 1/n relative (0.3 % here), well below the standard error of so many
# draws. Errors of one draw are skewed: the mean of 40 of them would have a longer lower tail than
# SIGMAS is made for.
DRAWS = 400
SHARES = np.array([0.25, 0.75])
SPECTRA = np.array([np.linspace(0.2, 3, 60), np.linspace(4, 0.1, 60)])
SLOPES = np.array([np.ones(60), np.linspace(0, 2, 60)]) / 8
NOISES = np.array([2.0, 0.3])


@pytest.mark.parametrize(("width", "free"), [(np.inf, 0), (240.0, 0), (np.inf, 1)])
def test_populations_against_regressions_on_drawn_features(width, free, rng):
    tails = np.array([90.0, 30.0]) if np.isfinite(width) else np.zeros(2)
    means = np.array([1.0, -2.0]) * free
    squares = np.sum(SLOPES**2 * SPECTRA, axis=1) + NOISES**2 + means**2
    modes = [
        Block(s[:, None, None], (g * s)[:, None, None], 1, 1, np.eye(1))
        for s, g in zip(SPECTRA.T, SLOPES.T, strict=True)
    ]  # one block per mode: multiplicities and copies are used by the other tests
    if free:
        modes.append(Block(np.ones((2, 1, 1)), means[:, None, None], 1, 1, np.zeros((1, 1))))
    parts = Populations(SHARES, tuple(modes), squares, tails, width, free)
    found = resolve(parts, 300, 0.2, (0.5, 1.0))
    truth = (SPECTRA, SLOPES, NOISES, tails, means)
    draws = np.array(
        [
            population_ridge_errors(truth, SHARES, 300, width, 0.2, intercept=bool(free), rng=rng)
            for _ in range(DRAWS)
        ]
    )
    z = (draws.mean(axis=0) - found.errors) / (draws.std(axis=0, ddof=1) / np.sqrt(DRAWS))
    assert np.abs(z).max() < SIGMAS
    assert np.ptp(found.leverages) > 0.05 * found.leverages.mean()


def test_blocks_and_repeated_modes_are_the_same():
    law = dm.moments([dm.Source(5), dm.Source(5, theta_xi=4.0, noise=1.0)], [0.5, 0.5], n_context=6)
    parts = linear_populations(law, intercept=False)
    single = []
    for block in parts.blocks:
        rows = block.targets.shape[1]
        for copy in range(block.multiplicity):
            has = copy < rows * block.copies
            target = block.targets[:, :1] if has else np.zeros_like(block.seconds[:, :1])
            single.append(Block(block.seconds, target, 1, 1, block.penalty))
    apart = parts._replace(blocks=tuple(single))
    one, other = (resolve(p, 40, 0.1, (0.5, 0.1)) for p in (parts, apart))
    assert other.errors == pytest.approx(one.errors, rel=1e-9)
    assert other.leverages == pytest.approx(one.leverages, rel=1e-9)


def test_a_head_rescales_what_longer_features_feed_it():
    law = dm.moments([dm.Source(5, noise=2.0), dm.Source(5)], [0.5, 0.5], n_context=6)
    parts = head_populations(law, "relu", 30, intercept=False)
    radii = np.sqrt(law.source_traces / law.trace)
    assert radii[0] > 1 > radii[1]
    # relu is homogeneous: its slope does not change, its mean grows with the radius
    assert parts.blocks[0].seconds == pytest.approx(law.cells[0].seconds / (4 * law.trace))
    constant = parts.blocks[-1].seconds[:, 0, 0]
    assert constant == pytest.approx(radii**2 / (2 * np.pi), rel=IDENTITY)


def test_equations_that_are_not_solved_are_an_error():
    nothing = Block(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), 1, 1, np.eye(1))
    parts = Populations(np.ones(1), (nothing,), np.ones(1), np.full(1, 1e-9), 3.0, 0)
    with pytest.raises(ConvergenceError, match="leverages at n_prompts 5"):
        resolve(parts, 5, 1e-300, (1e-300, 1e300))
