"""Valid arguments of dual_kernel, by name."""

from typing import Any

import numpy as np

from iclkit.papers import dual_kernel as dk
from tests.iclkit.fuzz.world import Make, World, normal, positive

KINDS = ("positive", "hyperbolic", "trigonometric")
LAWS = ("gaussian", "uniform")


def layer(w: World, *name: object) -> tuple[np.ndarray, ...]:
    """Return (W_Q, W_K, W_V), moderate enough for every law of the population."""
    return tuple(0.3 * w.normal(f"{part}{name}", w.d, w.d) for part in "QKV")


def look_up(w: World) -> dk.Lookup:
    """Return a lookup of n demonstrations and two query tokens."""
    demo, query = w.normal("demo", w.d, w.n), w.normal("query", w.d, 2)
    return dk.look_up(demo, query, *layer(w))


def model(w: World) -> dk.DualModel:
    """Return a model of the lookup's shapes."""
    return dk.zero_shot_model(look_up(w))


def feed_forward(w: World) -> dk.FeedForward:
    """Return a perceptron that takes a lookup's output."""
    parts = (("W1", w.n, w.d), ("b1", w.n), ("W2", w.k, w.n), ("b2", w.k))
    return dk.FeedForward(*(w.normal(*part) for part in parts))


def gram(w: World) -> np.ndarray:
    """Return a kernel matrix."""
    return w.covariance("gram", w.n)


def cube(w: World) -> dk.CubeRegression:
    """Return a law of prompts."""
    return dk.CubeRegression(w.d, w.pick("link", ("linear", "sin", "cos", "exp")))


def blind_task(w: World) -> dk.BlindTask:
    """Return a task of blind heads."""
    x = w.rng("x").uniform(-1, 1, (3, w.n, w.d))
    return dk.blind_task(cube(w), x, x[:, 0] / 2)


def random_features(w: World, kind: str | None = None) -> dk.FeatureMap:
    """Return a feature map of eight projections."""
    return dk.feature_map(kind or w.pick("kind", KINDS), w.normal("projections", 8, w.d))


def _keys(w: World) -> np.ndarray:
    return 0.5 * w.normal("keys", w.d, w.n)


def _weigh(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores[..., :-1])


DUAL: dict[str, Make] = {
    "demo": normal("demo", "d n"),
    "query": normal("query", "d 2"),
    "W_Q": lambda w: layer(w)[0],
    "W_K": lambda w: layer(w)[1],
    "W_V": lambda w: layer(w)[2],
    "lookup": look_up,
    "model": model,
    "gradient": model,
    "first": model,
    "second": model,
    "keys": _keys,
    "queries": lambda w: 0.5 * w.normal("queries", w.d, w.k),
    "values": normal("values", "k n"),
    "other_keys": lambda w: 0.5 * w.normal("other_keys", w.d, w.n),
    "other_values": normal("other_values", "k n"),
    "targets": normal("targets", "d n"),
    "tokens": normal("tokens", "d n"),
    "samples": normal("samples", "3 d n"),
    "points": normal("points", "d n"),
    "law": lambda w: w.pick("law", LAWS),
    "ball": lambda w: w.pick("ball", ("frobenius", "operator", "nuclear")),
    "kind": lambda w: w.pick("kind", KINDS),
    "sampling": lambda w: w.pick("sampling", ("independent", "orthogonal")),
    "normaliser": lambda w: w.pick("normaliser", ("features", "exact")),
    "link": lambda w: w.pick("link", ("linear", "sin", "cos", "exp")),
    "feature_map": random_features,
    "features": lambda w: w.pick("features", (np.exp, dk.KernelMap("elu1"))),
    "projections": normal("projections", "4 d"),
    "layers": lambda w: [layer(w, number) for number in range(w.k)],
    "layer": feed_forward,
    "task": blind_task,
    "weigh": lambda _: _weigh,
    "sign": lambda w: w.pick("sign", (1, -1)),
    "value_view": lambda _: np.tanh,
    "key_view": lambda _: np.tanh,
    "shift": normal("shift", "d"),
    "shape": lambda w: (w.d, w.n),
    "gram": gram,
    "spectrum": lambda w: dk.kernel_spectrum(gram(w)),
    "cross": normal("cross", "n k"),
    "filters": positive("filters", "2 n"),
    "steps": lambda w: w.rng("steps").integers(0, 6, w.k),
    "times": positive("times", "k"),
    "penalties": positive("penalties", "k"),
    "scores": normal("scores", "n"),
    "n_demo": lambda w: w.whole("n_demo", 2, w.n),
    "n_steps": lambda w: w.whole("n_steps", 1, 6),
    "n_samples": lambda w: w.whole("n_samples", 1, 4),
    "n_projections": lambda w: w.whole("n_projections", 1, 9),
    "snr": positive("snr", "n"),
    "shrinkage": lambda w: w.rng("shrinkage").uniform(0, 1, w.n),
    "squared_norm": lambda w: w.number("squared_norm"),
    "same": normal("same", "n"),
    "different": normal("different", "n"),
    "label_cov": gram,
    "cross_cov": normal("cross_cov", "n k"),
    "query_var": positive("query_var", "k"),
    "z": normal("z", "2 n d"),
    **{
        name: (lambda w, name=name: w.number(name))
        for name in [
            "rho",
            "learning_rate",
            "ridge",
            "negative_weight",
            "weight",
            "radius",
            "scale",
            "value_bound",
            "complexity",
            "key_norm",
            "value_norm",
            "ceiling",
            "top",
        ]
    },
    **{
        name: (lambda w, name=name: w.number(name, 0.05, 0.4))
        for name in [
            "negative_ratio",
            "ratio",
            "delta",
            "error",
            "failure",
            "rate",
            "decay",
            "sharpness",
        ]
    },
    **{
        name: (lambda w, name=name: w.pick(name, (True, False)))
        for name in ["normalised", "masked", "centred", "causal", "residual", "decayed"]
    },
}

_BLIND: dict[str, Make] = {"law": cube, "x": normal("x", "2 n d"), "x_query": normal("q", "2 d")}
_LABELS: dict[str, Make] = {"law": cube, "x": normal("x", "2 n d")}
_FILTER: dict[str, Make] = {"values": positive("values", "n")}
_ONE_QUERY: dict[str, Make] = {"query": lambda w: 0.5 * w.normal("query", w.d)}
_PAIR: dict[str, Make] = {
    "x": lambda w: 0.5 * w.normal("x", w.d),
    "y": lambda w: 0.5 * w.normal("y", w.d, w.n),
}
_TOKENS: dict[str, Make] = {"tokens": lambda w: w.pick("tokens", ("uniform", "gaussian"))}
_POSITIVE: dict[str, Make] = {"feature_map": lambda w: random_features(w, "positive")}
_ONE_PAIR: dict[str, Make] = {"keys": normal("keys", "2 d n"), "values": normal("values", "2 k n")}

_RATE: dict[str, Make] = {"rate": lambda w: w.number("rate", 0.01, 0.05)}

DUAL_CALLS: dict[str, dict[str, Any]] = {
    # Long keys have thousands of eigenvalues, and cost seconds.
    "dual_kernel.covariance_spectrum": {"W_K": lambda w: layer(w)[1] / 2},
    "dual_kernel.gap_law": {"W_K": lambda w: layer(w)[1] / 2},
    "dual_kernel.KernelMap": {"kind": lambda w: w.pick("k", ("relu", "taylor"))},
    "dual_kernel.KernelMap.__call__": {"columns": normal("columns", "d n")},
    "dual_kernel.CubeRegression.label": {"signal": normal("signal", "n")},
    "dual_kernel.FeedForward.__call__": {"h": normal("h", "d")},
    "dual_kernel.FeedForwardDual.__call__": {"points": normal("points", "d")},
    "dual_kernel.step_weights": _RATE,
    "dual_kernel.multi_step": _RATE,
    "dual_kernel.rademacher_bounds": {"value_bound": lambda _: 100.0},
    "dual_kernel.GapLaw": {"values": positive("values", "n")},
    "dual_kernel.GapLaw.cdf": {"x": positive("x", "n")},
    "dual_kernel.GapLaw.quantile": {"level": lambda _: np.array([0.2, 0.7])},
    "dual_kernel.ExactStream.forget": {"index": lambda _: 0},
    "dual_kernel.best_readout": {"weights": lambda w: w.normal("weights", 3, w.n)},
    "dual_kernel.blind_task": _BLIND,
    "dual_kernel.block_variance": {"squared_norm": positive("squared_norm", "n")},
    "dual_kernel.chebyshev_filter": {**_FILTER, "top": lambda _: 3.0},
    "dual_kernel.descent_filter": _FILTER,
    "dual_kernel.equivalent_penalty": _FILTER,
    "dual_kernel.flow_filter": _FILTER,
    "dual_kernel.ridge_filter": _FILTER,
    "dual_kernel.stopping_bracket": _FILTER,
    "dual_kernel.cosine_auc": {"dim": lambda w: w.d + 1, "n_context": lambda w: w.n},
    "dual_kernel.product_law": {**_TOKENS, "n_context": lambda w: w.n},
    "dual_kernel.centred_attention_loss": {"n_context": lambda w: w.n},
    "dual_kernel.feature_stream": _POSITIVE,
    "dual_kernel.kernel_ratios": _ONE_QUERY,
    "dual_kernel.output_error_bound": _ONE_QUERY,
    "dual_kernel.output_expansion": _ONE_QUERY,
    "dual_kernel.output_variance": _ONE_QUERY,
    "dual_kernel.relative_covariance": _ONE_QUERY,
    "dual_kernel.relative_variance": _PAIR,
    "dual_kernel.projections_needed": _PAIR,
    "dual_kernel.label_kernel": _LABELS,
    "dual_kernel.label_moments": {"law": cube},
    "dual_kernel.linear_risk": {"weights": lambda w: w.normal("weights", w.n, w.k)},
    "dual_kernel.prompt_tokens": {
        "prompts": lambda w: cube(w).sample(2, w.n, rng=w.rng("prompts"))
    },
    "dual_kernel.rademacher": {"tokens": normal("tokens", "d 4")},
    "dual_kernel.sampled_attention": {"n_draws": lambda w: w.pick("n_draws", (1, 2, 4))},
    "dual_kernel.update_cosine": _ONE_PAIR,
    "dual_kernel.update_product": _ONE_PAIR,
    "dual_kernel.signed_weights": {"n_demo": lambda w: w.n - 1},
}


def _stream(w: World) -> dk.FeatureStream:
    keys, values = DUAL["keys"](w), DUAL["values"](w)
    return dk.feature_stream(random_features(w, "positive"), keys, values)


DUAL_SELVES: dict[str, Make] = {
    "dual_kernel.CubeRegression": cube,
    "dual_kernel.DualModel": model,
    "dual_kernel.ExactStream": lambda w: dk.exact_stream(DUAL["keys"](w), DUAL["values"](w)),
    "dual_kernel.FeatureDual": lambda w: dk.feature_dual(look_up(w), np.exp),
    "dual_kernel.FeatureMap": lambda w: random_features(w, w.pick("positive", KINDS[:2])),
    "dual_kernel.FeatureStream": _stream,
    "dual_kernel.FeedForward": feed_forward,
    "dual_kernel.FeedForwardDual": lambda w: dk.feed_forward_dual(look_up(w), feed_forward(w)),
    "dual_kernel.GapLaw": lambda w: dk.GapLaw(w.positive("values", w.n)),
    "dual_kernel.KernelMap": lambda w: dk.KernelMap(w.pick("k", ("relu", "exp", "taylor"))),
}
