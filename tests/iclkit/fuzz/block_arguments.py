"""Valid arguments of linear_block, by name."""

from functools import partial
from typing import Any

import numpy as np

from iclkit.papers import linear_block as lb
from tests.iclkit.fuzz.world import Make, World, normal


def prior(w: World) -> lb.RegressionPrior:
    """Return a prior with generic covariances."""
    return lb.RegressionPrior(
        w.covariance("input_cov", w.d),
        w.normal("task_mean", w.d),
        w.covariance("task_cov", w.d),
        w.number("noise_var"),
        w.whole("n_context", 1, 6),
    )


def isotropic(w: World) -> lb.RegressionPrior:
    """Return a prior of the kind that some formulas ask for."""
    return lb.isotropic_prior(w.d, n_context=w.n, mean=w.normal("mean", w.d), noise_var=0.4)


def weights(w: World) -> lb.Weights:
    """Return a block's matrices."""
    names = ("W_P", "W_V", "W_K", "W_Q", "W_1", "W_2")
    return lb.Weights(*(w.normal(name, w.k, w.d + 1) for name in names))


def reduced(w: World) -> lb.Reduced:
    """Return a block's numbers."""
    return lb.reduce_network(*weights(w))


def prompts(w: World, n_prompts: int = 40) -> Any:
    """Return prompts of the prior."""
    return prior(w).sample(n_prompts, w.n, rng=w.rng("prompts"))


BLOCK: dict[str, Make] = {
    "prior": prior,
    "input_cov": lambda w: w.covariance("input_cov", w.d),
    "task_cov": lambda w: w.covariance("task_cov", w.d),
    "task_mean": normal("task_mean", "d"),
    "beta": normal("beta", "d"),
    "gamma": normal("gamma", "d d"),
    "beta0": normal("beta0", "d"),
    "gamma0": lambda w: 0.1 * w.normal("gamma0", w.d, w.d),
    "guess": normal("guess", "d"),
    "weights": weights,
    "reduced": reduced,
    "prompts": prompts,
    "times": lambda w: np.sort(w.positive("times", w.n)),
    "b": normal("b", "n d"),
    "u0": normal("u0", "n"),
    "u": normal("u", "d"),
    "U": normal("U", "d d"),
    "v": normal("v", "d"),
    "constant": lambda w: w.number("constant"),
    "offset": normal("offset", "d"),
    "n_heads": lambda w: w.k,
    "n_starts": lambda _: 2,
    "scratchpad": lambda w: w.pick("scratchpad", (True, False)),
    "minimal": lambda w: w.pick("minimal", (True, False)),
    "mlp": lambda w: w.pick("mlp", (True, False)),
    "mean": lambda w: w.number("mean"),
    "task_var": lambda w: w.number("task_var"),
    "signal": lambda w: w.number("signal", 0.1, 1.0),
    "learned": lambda w: w.rng("learned").integers(0, 2, w.d).astype(bool),
    "max_sweeps": lambda _: 2000,
    "max_dim": lambda w: w.k,
    "n": lambda _: 3,
    **{name: normal(name, "k e") for name in ("W_P", "W_V", "W_K", "W_Q", "W_1", "W_2")},
}

_ONE: dict[str, Make] = {"b": normal("b", "d"), "u0": lambda w: w.number("u0")}
_HEADS: dict[str, Make] = {
    "values": normal("values", "k e"),
    "keys": lambda w: w.normal("keys", w.k, w.d + 1, w.d),
    "scratchpad": lambda _: False,
}
_REDUCED: dict[str, Make] = {"u0": lambda w: w.number("u0"), "gamma": normal("gamma", "d")}

BLOCK_CALLS: dict[str, dict[str, Make]] = {
    "linear_block.profile_weights": _ONE,
    "linear_block.heads_risk": _HEADS,
    "linear_block.reduced_risk": _REDUCED,
    "linear_block.scratchpad_risk": _REDUCED,
    "linear_block.simulate_pretraining": {"n_prompts": lambda _: 60},
    "linear_block.bayes_exact": {"prior": isotropic},
}

BLOCK_SELVES: dict[str, Make] = {
    "linear_block.RegressionPrior": prior,
    "linear_block.BayesPredictor": lambda w: lb.BayesPredictor(prior(w)),
    "linear_block.BlockPredictor": lambda w: lb.BlockPredictor(weights(w)),
    "linear_block.GDPredictor": lambda w: lb.GDPredictor(
        w.normal("beta", w.d), w.normal("gamma", w.d, w.d)
    ),
}

SMALL = partial(World, d=2, n=3)
