"""The exact risk of a linear block, against Monte Carlo and against differences."""

from benchmarks.rows import Compared
from benchmarks.timing import interleaved
from iclkit.papers.linear_block import (
    BlockPredictor,
    RegressionPrior,
    Weights,
    gd_to_block,
    network_gradient,
    network_risk,
    optimal_gd,
)
from iclkit.risk import monte_carlo_risk
from iclkit.rng import stream

ACCURACY = 1e-3  # relative standard error that Monte Carlo is asked for


def problem(dim: int) -> tuple[RegressionPrior, Weights]:
    """Return a prior with dense covariances and a block near its optimum, as training ends."""
    rng = stream(0, "block", dim)
    H, Psi = (factor @ factor.T / dim for factor in rng.standard_normal((2, dim, dim)))
    prior = RegressionPrior(H, rng.standard_normal(dim), Psi / dim, 0.1, 2 * dim)
    best = optimal_gd(prior)
    exact = gd_to_block(best.beta, best.gamma)
    noise = rng.standard_normal((6, dim + 1, dim + 1)) * 1e-3
    return prior, Weights(*(w + e for w, e in zip(exact, noise, strict=True)))


def risk_against_sampling(dim: int, n_prompts: int, repeats: int) -> Compared:
    """Compare the exact risk with the Monte Carlo that reaches `ACCURACY`.

    Monte Carlo is timed at `n_prompts` and scaled by the square of its error over the one asked
    for.
    """
    prior, weights = problem(dim)
    network, rng = BlockPredictor(weights), stream(0, "sampling", dim)
    sizes = {"n_prompts": n_prompts, "batch": 256}
    calls = {
        "ours": lambda: network_risk(prior, *weights),
        "obvious": lambda: monte_carlo_risk(network, prior, prior.n_context, rng=rng, **sizes),
    }
    times = interleaved(calls, repeats=repeats, warm_up=calls["ours"])
    exact, (value, stderr) = times["ours"].result, times["obvious"].result
    scaled = times["obvious"].seconds * (stderr / (ACCURACY * exact)) ** 2
    return Compared(times["ours"].seconds, scaled, sigmas=float(abs(value - exact) / stderr))


def gradient_against_differences(dim: int, repeats: int) -> Compared:
    """Compare the gradient in all weights with two exact risks for each weight.

    Differences are timed for one weight, which is compared, and scaled to all.
    """
    prior, weights = problem(dim)

    def differences() -> float:
        risks = [network_risk(prior, *_moved(weights, step)) for step in (0.5, -0.5)]
        return risks[0] - risks[1]

    calls = {"ours": lambda: network_gradient(prior, weights)[1], "obvious": differences}
    times = interleaved(calls, repeats=repeats, warm_up=calls["ours"])
    slope, expected = times["ours"].result.W_Q[0, 0], times["obvious"].result
    scaled = times["obvious"].seconds * sum(matrix.size for matrix in weights)
    return Compared(times["ours"].seconds, scaled, float(abs(slope / expected - 1.0)))


def _moved(weights: Weights, step: float) -> Weights:
    matrix = weights.W_Q.copy()
    matrix[0, 0] += step
    return weights._replace(W_Q=matrix)
