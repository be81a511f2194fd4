"""Valid arguments of data_mixing and of the corpora, by name."""

from typing import Any

import numpy as np

from iclkit.papers import data_mixing as dm
from tests.iclkit.fuzz.world import Make, World, normal, positive

LANGUAGES = ("english", "german")


def source(w: World, number: int = 0) -> dm.Source:
    """Return a source with a task spike."""
    strength = w.number(f"theta{number}")
    return dm.Source(w.d, link="relu", noise=0.1, theta_xi=strength, gamma_xi=np.ones(w.d))


def sources(w: World) -> list[dm.Source]:
    """Return two sources."""
    return [source(w, 0), source(w, 1)]


def contexts(w: World, name: str = "contexts") -> dm.Contexts:
    """Return prompts."""
    return source(w).sample(w.n, 4, rng=w.rng(name))


def head(w: World) -> dm.Head:
    """Return a head of k neurons."""
    return dm.draw_head(w.d, w.k, rng=w.rng("head"))


def texts(w: World) -> dm.Texts:
    """Return embedded texts of two languages."""
    parts = {
        name: (w.normal(f"{name} x", 30, w.d + 1), w.normal(f"{name} y", 30)) for name in LANGUAGES
    }
    return dm.prepare_texts(parts, w.d, rng=w.rng("texts"))


def study(w: World) -> dm.Study:
    """Return the draws of a study."""
    plan = dm.Plan(3, 6, w.k, n_validation=5, n_test=4)
    return dm.draw_study(texts(w), plan, languages=LANGUAGES, rng=w.rng("study"))


def _setup(w: World) -> dm.Setup:
    return dm.Setup(sources(w), 3, 6, w.k, "relu", 4)


def _drawn(w: World) -> dm.Draw:
    return dm.draw(_setup(w), rng=w.rng("drawn"))


def _feature(z: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.tanh(z)


def _moved(w: World) -> dm.PreActivations:
    parts = (contexts(w), [contexts(w, "other")], "relu")
    return dm.take_step(head(w), 2.0, *parts)[0]


MIXING: dict[str, Make] = {
    "feature_maps": lambda _: {"network": _feature},
    "sources": sources,
    "source": source,
    "weights": lambda w: w.shares("weights", 2),
    "mixtures": lambda w: w.rng("mixtures").dirichlet(np.ones(2), 2),
    "contexts": contexts,
    "left": contexts,
    "right": lambda w: contexts(w, "right"),
    "train": lambda w: contexts(w, "train"),
    "stage_one": contexts,
    "others": lambda w: [contexts(w, "other")],
    "parts": lambda w: [contexts(w), contexts(w, "other")],
    "hidden": lambda w: w.normal("hidden", w.k, w.d * (w.d + 1)),
    "readout": normal("readout", "k"),
    "head": head,
    "setup": _setup,
    "drawn": _drawn,
    "study": study,
    "texts": texts,
    "moved": _moved,
    "pool": lambda w: dm.Pool(w.normal("pool", 12, w.d), w.normal("labels", 12)),
    "plan": lambda w: dm.Plan(3, 6, w.k, n_validation=5, n_test=4),
    "languages": lambda _: list(LANGUAGES),
    "tested": lambda _: ["german"],
    "only": lambda _: ["english"],
    "language": lambda _: "german",
    "reference": lambda _: "english",
    "layer": lambda w: dm.wide_layer(contexts(w), step=0.2),
    "direction": normal("direction", "d"),
    "task_moment": lambda w: w.covariance("task_moment", w.d),
    "task_mean": normal("task_mean", "d"),
    "theta": positive("theta", "n"),
    "radii": positive("radii", "n"),
    "variances": lambda w: 1 + w.positive("variances", w.n),
    "ridges": lambda w: np.sort(w.positive("ridges", 2)),
    "step_sizes": lambda w: w.positive("step_sizes", 2),
    "penalties": positive("penalties", "2"),
    "first": normal("first", "n"),
    "second": normal("second", "n"),
    "after": positive("after", "n"),
    "before": positive("before", "n"),
    "shift": normal("shift", "n k"),
    "features": normal("features", "n k"),
    "y": normal("y", "n"),
    "covariance": lambda w: 0.1 * w.normal("covariance", w.n, w.k),
    "width": lambda w: w.k,
    "n_test": lambda _: 4,
    "n_validation": lambda _: 4,
    "rank": lambda _: 1,
    "n_sources": lambda _: 2,
    "degree": lambda w: w.whole("degree", 1, 5),
    **{
        name: (lambda w, name=name: w.number(name))
        for name in [
            "ridge",
            "noise",
            "prompt_ratio",
            "context_ratio",
            "step_size",
            "step",
            "scale",
            "theta_xi",
            "theta_x",
            "deviation",
            "penalty",
        ]
    },
    **{
        name: (lambda w, name=name: w.pick(name, (True, False)))
        for name in [
            "intercept",
            "resolved",
            "single",
            "shuffled",
            "shuffle",
            "sign_flip",
            "slope",
            "rank_one",
            "aligned",
        ]
    },
    **{name: normal(name, "d") for name in ("gamma_xi", "mu_xi", "gamma_x", "mu_x")},
}

_NUMBER: dict[str, Make] = {"source": lambda _: 0}
MIXING_CALLS: dict[str, dict[str, Any]] = {
    "data_mixing.draw_contexts": _NUMBER,
    "data_mixing.summarise": {
        **_NUMBER,
        "x": normal("x", "n 4 d"),
        "y": normal("y", "n 4"),
        "x_query": normal("x_query", "n d"),
        "y_query": normal("y_query", "n"),
    },
    "data_mixing.error_rows": {
        "errors": lambda w: dm.linear_errors(study(w), [0.5, 0.5]),
        "step_sizes": lambda _: np.zeros(0),
        "labels": lambda _: None,
    },
    "data_mixing.gaussian_product": {
        "left": lambda w: 1 + w.positive("left", w.n),
        "right": lambda w: 1 + w.positive("right", w.k),
    },
    "data_mixing.inflation": {"radius": lambda w: w.number("radius")},
    "data_mixing.label_moments": {"scale": positive("scale", "n")},
    "data_mixing.shifted_expansion": {"radius": positive("radius", "n")},
    "data_mixing.prepare_texts": {
        "sources": lambda w: {"a": (w.normal("ax", 9, w.d), w.normal("ay", 9))},
        "train_share": lambda _: 0.6,
    },
    "data_mixing.alignment": {"direction": lambda w: np.ones(w.d)},
    "data_mixing.Contexts": {
        "x": normal("x_query", "n d"),
        "b": normal("b", "n e"),
        "y": normal("y", "n"),
        "source": lambda w: np.zeros(w.n, dtype=int),
    },
    "data_mixing.Contexts.take": {"index": lambda _: np.array([0, 1])},
    "data_mixing.PreActivations.at": {},
    "data_mixing.Source.inputs": {"n_inputs": lambda _: 4},
    "data_mixing.Source.sample": {"marked": lambda _: 0},
    **{
        f"data_mixing.{name}_errors": {"weights": lambda _: np.array([0.5, 0.5])}
        for name in ("linear", "network")
    },
    "data_mixing.pre_activations": {"weights": lambda _: np.array([0.5, 0.5])},
    "data_mixing.best_mixture": {"width": lambda w: w.k},
    "data_mixing.random_mlp_equivalent": {"width": lambda _: 7},
}

MIXING_SELVES: dict[str, Make] = {
    "data_mixing.Contexts": contexts,
    "data_mixing.KernelPath": lambda w: dm.kernel_path(
        dm.wide_layer(contexts(w)), contexts(w, "train"), [0.1]
    ),
    "data_mixing.LinearPath": lambda w: dm.linear_path(contexts(w), [0.1]),
    "data_mixing.MixturePools": lambda w: dm.draw_pools(sources(w), 5, 3, rng=w.rng("pools")),
    "data_mixing.PreActivations": _moved,
    "data_mixing.ReadoutPath": lambda w: dm.readout_path(
        w.normal("features", w.n, w.k), w.normal("y", w.n), [0.1]
    ),
    "data_mixing.Source": source,
    "data_mixing.WideLayer": lambda w: dm.wide_layer(contexts(w), step=0.2),
}
