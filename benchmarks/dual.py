"""Dual models of softmax attention: in function space, by features, step by step."""

import numpy as np

from benchmarks.rows import Compared
from benchmarks.timing import Calls, interleaved
from iclkit.papers.dual_kernel import (
    DualModel,
    Lookup,
    attend,
    attention_output,
    look_up,
    task_update,
    token_by_token,
    zero_shot_model,
)
from iclkit.papers.dual_kernel.errors import output_variance
from iclkit.papers.dual_kernel.maps import FeatureMap, feature_attention, feature_map
from iclkit.papers.dual_kernel.projections import normal_projections
from iclkit.rng import stream

DIM = 16  # of keys, queries and values
FEW_DIM = 4  # of keys where all features are formed
DRAWS = 2000  # of projections, to compare with that formula: squared errors have long tails
FEW = 512  # tokens in that comparison: the formula sums over pairs


def problem(n_tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return queries, keys and values of many tokens, at norms that few features can serve."""
    rng = stream(0, "dual", n_tokens)
    queries, keys = 0.2 * rng.standard_normal((2, DIM, n_tokens))
    return queries, keys, rng.standard_normal((DIM, n_tokens))


def positive_map(n_projections: int, draw: int = 0) -> FeatureMap:
    """Return positive features with normal projections."""
    rng = stream(0, "projections", draw)
    return feature_map("positive", normal_projections(n_projections, DIM, rng=rng))


def features_against_exact(n_tokens: int, n_projections: int, repeats: int) -> Compared:
    """Compare attention of all tokens by features with exact attention.

    Answers differ by the error of the features. What must agree is the mean square of that error,
    over draws of the projections, with the formula that predicts it.
    """
    parts, phi = problem(n_tokens), positive_map(n_projections)
    calls = {
        "ours": lambda: feature_attention(*parts, feature_map=phi),
        "obvious": lambda: attention_output(*parts),
    }
    times = interleaved(calls, repeats=repeats, warm_up=calls["ours"])
    sigmas = abs(error_in_sigmas(min(n_tokens, FEW), n_projections))
    return Compared(times["ours"].seconds, times["obvious"].seconds, sigmas=sigmas)


def error_in_sigmas(n_tokens: int, n_projections: int) -> float:
    """Return how far the squared error of a query's output is from its formula."""
    queries, keys, values = problem(n_tokens)
    x, exact = queries[:, 0], attention_output(queries[:, :1], keys, values)[:, 0]
    maps = (positive_map(n_projections, draw) for draw in range(1, DRAWS + 1))
    outputs = (
        feature_attention(x, keys, values, feature_map=phi, normaliser="exact") for phi in maps
    )
    errors = np.array([np.sum((output - exact) ** 2) for output in outputs])
    expected = output_variance("positive", x, keys, values, normalised=False) / n_projections
    return float((errors.mean() - expected) / (errors.std(ddof=1) / np.sqrt(DRAWS)))


def features_against_matrix(n_tokens: int, n_projections: int) -> Calls:
    """Return attention by features as one trained model, and through all pairs of tokens."""
    queries, keys, values = problem(n_tokens)
    phi = positive_map(n_projections)

    def pairs() -> np.ndarray:
        kernel = phi(keys).T @ phi(queries)
        return values @ (kernel / kernel.sum(axis=0))

    return {
        "ours": lambda: feature_attention(queries, keys, values, feature_map=phi),
        "obvious": pairs,
    }


def model_against_taylor(n_tokens: int, degree: int) -> Calls:
    """Return the dual model's answer in function space, and from weights on explicit features.

    The features are those of the kernel itself: products of up to `degree` coordinates, over the
    roots of factorials. Keys and query are short, so that higher degrees are below rounding.
    """
    rng = stream(0, "taylor", n_tokens)
    keys, query = 0.1 * rng.standard_normal((FEW_DIM, n_tokens)), 0.1 * np.ones(FEW_DIM)
    model = task_update(Lookup(query, keys, rng.standard_normal((DIM, n_tokens)), n_tokens))

    def explicit() -> np.ndarray:
        weights = np.exp(model.log_scale) * model.coefficients @ monomials(keys, degree).T
        return weights @ monomials(query[:, None], degree)[:, 0]

    return {"ours": lambda: model(query), "obvious": explicit}


def monomials(points: np.ndarray, degree: int) -> np.ndarray:
    """Return features (D, n) of points (d, n) whose inner products are ``exp(<x, y>)``."""
    powers = [np.ones((1, points.shape[1]))]
    for order in range(1, degree + 1):
        last = powers[-1] / np.sqrt(order)
        powers.append(np.einsum("in,jn->ijn", last, points).reshape(-1, points.shape[1]))
    return np.concatenate(powers)


def curve_against_steps(n_tokens: int) -> Calls:
    """Return the token-by-token curve from one sum, and from an optimiser that takes the steps."""
    rng = stream(0, "curve", n_tokens)
    tokens, weights = rng.standard_normal((DIM, n_tokens + 1)), rng.standard_normal((3, DIM, DIM))
    given = (tokens[:, :-1], tokens[:, -1], *(weights / DIM))
    return {
        "ours": lambda: token_by_token(*given),
        "obvious": lambda: step_by_step(look_up(*given)),
    }


def step_by_step(lookup: Lookup) -> np.ndarray:
    """Return the distances to the attention output as steps on single demonstrations are taken."""
    found, start = attend(lookup), zero_shot_model(lookup)
    distances = [np.linalg.norm(start(lookup.query) - found.output)]
    for seen in range(1, lookup.n_demo + 1):
        keys = np.concatenate([start.keys, lookup.keys[:, :seen]], axis=1)
        coefficients = np.concatenate([start.coefficients, lookup.values[:, :seen]], axis=1)
        answer = DualModel(keys, coefficients, start.log_scale)(lookup.query)
        distances.append(np.linalg.norm(answer - found.output))
    return np.array(distances)
