"""Valid arguments of the shared modules and of phase_transition, by name."""

from typing import Any

import numpy as np

from iclkit import moments, predictors, prompts
from iclkit.papers import phase_transition as pt
from tests.iclkit.fuzz.world import Make, World, normal, positive

ACTIVATIONS = ("relu", "tanh", "gelu", "linear", np.tanh)


def rng(w: World) -> np.random.Generator:
    """Return a generator; every call of one world draws the same."""
    return w.rng("draws")


def tasks_on_sphere(w: World) -> np.ndarray:
    """Return a pool's tasks, of squared length d."""
    tasks = w.normal("tasks", w.n, w.d)
    return tasks * np.sqrt(w.d) / np.linalg.norm(tasks, axis=1, keepdims=True)


def task_moment(w: World) -> np.ndarray:
    """Return the second moment of a pool on the sphere."""
    tasks = tasks_on_sphere(w)
    return tasks.T @ tasks / w.n


def _moments(w: World) -> moments.AttentionMoments:
    return moments.pool_moments(tasks_on_sphere(w), n_context=4.0, noise_var=0.3)


COMMON: dict[str, Make] = {
    "rng": rng,
    "seed": lambda w: w.seed,
    "n_context": lambda w: w.whole("n_context", 1, 6),
    "n_prompts": lambda w: w.whole("n_prompts", 2, 6),
    "dim": lambda w: w.d,
    "d": lambda w: w.d,
    "n_draws": lambda w: w.whole("n_draws", 2, 9),
    "noise_var": lambda w: w.number("noise_var"),
    "penalty": lambda w: w.number("penalty"),
    "gaussian": lambda w: w.pick("gaussian", (True, False)),
    "activation": lambda w: w.pick("activation", ACTIVATIONS),
    "link": lambda w: w.pick("link", ACTIVATIONS),
    "degree": lambda w: w.whole("degree", 0, 6),
    "x": normal("x", "2 n d"),
    "y": normal("y", "2 n"),
    "x_query": normal("x_query", "2 d"),
}

SHARED: dict[str, dict[str, Make]] = {
    "rng": {"name": lambda w: w.pick("name", ("a", 1.5, {"d": 2}))},
    "hermite": {
        "function": lambda w: w.pick("function", ACTIVATIONS),
        "scales": positive("scales", "n"),
        "z": normal("z", "n k"),
    },
    "prompts": {
        "n_tasks": lambda w: w.n,
        "tasks": normal("tasks", "n d"),
        "prior": lambda w: w.pick(
            "prior", (prompts.Sphere(w.d), prompts.Gaussian(w.d), prompts.TaskPool(np.eye(w.d)))
        ),
    },
    "features": {"tasks": normal("tasks", "n d"), "size": lambda w: w.k},
    "moments": {
        "task_mean": lambda w: tasks_on_sphere(w).mean(axis=0),
        "task_moment": task_moment,
        "tasks": tasks_on_sphere,
        "z": positive("z", "n"),
        "kappa": positive("kappa", "n"),
        "b": normal("b", "n"),
        "c": positive("c", "n"),
        "gamma": normal("gamma", "d e"),
        "moments": _moments,
        "values": positive("values", "n"),
        "open_": lambda w: w.pick("open_", (True, False)),
        "infinite": lambda w: w.pick("infinite", (True, False)),
    },
    "solvers": {"method": lambda w: w.pick("method", ("auto", "dual", "primal", "cg"))},
    "predictors": {
        "gamma": normal("gamma", "d e"),
        "v": normal("v", "2 e"),
        "pool": lambda w: prompts.TaskPool(w.normal("pool", w.n, w.d)),
        "task_var": lambda w: w.number("task_var"),
        "step_size": lambda w: w.number("step_size"),
    },
    "risk": {
        "predictor": lambda _: predictors.Zero(),
        "law": lambda w: prompts.IsotropicLinear(prompts.Sphere(w.d), 0.3),
        "batch": lambda w: w.whole("batch", 1, 5),
        "dims": lambda w: 10.0 * 2.0 ** np.arange(w.n),
        "values": normal("values", "n"),
        "stderrs": positive("stderrs", "n"),
        "order": lambda w: w.whole("order", 1, w.n - 1),
    },
    "phase_transition": {
        "alpha": positive("alpha", "n"),
        "kappa": positive("kappa", "n"),
        "tau": positive("tau", "n"),
        "rho": positive("rho", "n"),
        "penalty": positive("penalty", "n"),
        "alpha_test": positive("alpha_test", "n"),
        "tau_per_alpha": positive("tau_per_alpha", "n"),
        "s": normal("s", "n"),
        "error": lambda w: w.pick("error", ("icl", "idg")),
        "gamma": normal("gamma", "d e"),
        "task_mean": lambda w: tasks_on_sphere(w).mean(axis=0),
        "task_moment": task_moment,
        "n_context_test": lambda w: w.number("n_context_test", 1, 9),
        "flat": lambda w: w.number("flat", 1e-6, 1e-4),
        "figure": lambda w: w.pick("figure", ("figure1", "figure5a")),
        "moments": _moments,
    },
}

_CONTEXT = {"n_context": lambda w: w.number("n_context", 1, 9)}
_NUMBERS: dict[str, Make] = {
    name: (lambda w, name=name: w.number(name)) for name in ("alpha", "kappa", "tau", "rho")
}
_FINITE: dict[str, Make] = {
    **_CONTEXT,
    "n_prompts": lambda w: w.number("n_prompts", 5, 30),
    "rho": lambda w: w.number("rho"),
    "penalty": lambda w: w.number("penalty"),
}
_CELL: dict[str, Make] = {**_NUMBERS, "penalty": lambda w: w.number("penalty")}
_READOUT: dict[str, Make] = {**_CONTEXT, "rho": lambda w: w.number("rho")}
_PAIRS: dict[str, Make] = {
    "x_query": normal("x_query", "n d"),
    "v": normal("v", "n e"),
    "y": normal("y", "n"),
    "penalty": lambda w: w.number("penalty"),
}


def _readout(w: World) -> pt.ReadoutLaw:
    sizes = {"n_prompts": 20.0, "n_context": 5.0, "rho": 0.3, "penalty": 0.1}
    return pt.finite_readout(tasks_on_sphere(w).mean(axis=0), task_moment(w), **sizes)


SHARED_CALLS: dict[str, dict[str, Any]] = {
    "features.sample_attention_features": _CONTEXT,
    "moments.attention_moments": _CONTEXT,
    "moments.pool_moments": _CONTEXT,
    "moments.positive_array": {"name": lambda _: "values"},
    **{
        f"hermite.{name}": {"name": lambda _: "function"}
        for name in ("activation", "checked", "derivative")
    },
    "hermite.gaussian_mean": {"function": lambda _: np.tanh},
    "solvers.bilinear_ridge": _PAIRS,
    "predictors.linear_attention": {},
    "phase_transition.alignment": _READOUT,
    "phase_transition.context_line": _READOUT,
    "phase_transition.population_error": _READOUT,
    "phase_transition.finite_alignment": _FINITE,
    "phase_transition.finite_readout": _FINITE,
    "phase_transition.finite_size": _FINITE,
    "phase_transition.leave_out": {
        **_PAIRS,
        "groups": lambda w: w.rng("groups").integers(0, 3, w.n),
    },
    "phase_transition.context_map": {"alphas": lambda _: np.logspace(-1, 1, 9)},
    "phase_transition.pool_bayes": {
        **_NUMBERS,
        "n_contexts": lambda _: 6,
        "contexts_per_pool": lambda _: 3,
    },
    "phase_transition.pretrain": _CELL,
    "phase_transition.simulate": _CELL,
    "phase_transition.simulate_contexts": _CELL,
    "phase_transition.sizes": _CELL,
    "phase_transition.reduce_attention": {
        "value": lambda w: np.vstack([w.normal("value", w.d, w.d + 1), np.eye(w.d + 1)[-1:]]),
        "key": normal("key", "e e"),
        "query": normal("query", "e e"),
    },
    "phase_transition.authors_ridgeless": {"tau": lambda w: 1.5 * w.positive("tau", w.n)},
}

SHARED_SELVES: dict[str, Make] = {
    "prompts.Gaussian": lambda w: prompts.Gaussian(w.d),
    "prompts.Sphere": lambda w: prompts.Sphere(w.d),
    "prompts.TaskPool": lambda w: prompts.TaskPool(w.normal("tasks", w.n, w.d)),
    "prompts.IsotropicLinear": lambda w: prompts.IsotropicLinear(prompts.Sphere(w.d), 0.2),
    "predictors.ContextRidge": lambda w: predictors.ContextRidge(w.number("penalty")),
    "predictors.GaussianBayes": lambda w: predictors.GaussianBayes(w.number("noise_var")),
    "predictors.GradientStep": lambda w: predictors.GradientStep(w.number("step_size")),
    "predictors.LinearAttention": lambda w: predictors.LinearAttention(
        w.normal("gamma", w.d, w.d + 1)
    ),
    "predictors.PoolBayes": lambda w: predictors.PoolBayes(
        prompts.TaskPool(w.normal("pool", w.n, w.d)), 0.3
    ),
    "predictors.Zero": lambda _: predictors.Zero(),
    "phase_transition.ReadoutLaw": _readout,
}
