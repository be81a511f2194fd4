"""MLP heads of chapter 3: Gram matrices and the two matrices A, B against explicit features."""

import time

import numpy as np

from benchmarks.rows import Compared, sample_deviation
from benchmarks.timing import Calls, interleaved
from iclkit.papers import data_mixing as dm
from iclkit.rng import stream
from tests.oracles import prompts_in_full

STEPS = 8  # step sizes of a sweep
RIDGE = 5e-5


def sources(d: int) -> list[dm.Source]:
    """Return the paper's pair: isotropic tasks, and tasks with a strong spike."""
    return [dm.Source(d), dm.Source(d, theta_xi=float(d * d))]


def prompts(d: int, part: str) -> dm.Contexts:
    """Return d^2 / 2 prompts of the even mixture."""
    rng = stream(0, "mixing", d, part)
    return dm.draw_mixture(sources(d), [0.5, 0.5], d * d // 2, d, rng=rng)


def linear_against_features(d: int) -> Calls:
    """Return ridge-pretrained linear attention in dual form, and by its explicit features."""
    train, test = prompts(d, "train"), prompts(d, "test")

    def explicit() -> np.ndarray:
        h = dm.features(train)
        gram = h.T @ h + len(h) * RIDGE * np.eye(h.shape[1])
        return dm.features(test) @ np.linalg.solve(gram, h.T @ train.y)

    return {
        "ours": lambda: dm.linear_path(train, [RIDGE]).predict(test)[0],
        "obvious": explicit,
    }


def steps_against_features(d: int) -> Calls:
    """Return pre-activations for a sweep of step sizes: from A and B, and from H, G and F."""
    stage_one, train = prompts(d, "stage one"), prompts(d, "train")
    head = dm.draw_head(d, d * d // 2, rng=stream(0, "mixing", d, "head"))
    scale, steps = dm.norm_scale(stage_one), d * d * np.linspace(0, 4, STEPS)

    def ours() -> np.ndarray:
        (moved,) = dm.take_step(head, scale, stage_one, [train], "relu")
        return np.array([moved.at(step)[:, 0] for step in steps])

    def explicit() -> np.ndarray:
        hidden, h = head.hidden / np.sqrt(scale), dm.features(train)
        gradient = dm.first_gradient(hidden, head.readout, stage_one, "relu")
        return np.array([(h @ (hidden + step * gradient).T)[:, 0] for step in steps])

    return {"ours": ours, "obvious": explicit}


def gram_against_features(d: int) -> Calls:
    """Return the Gram matrix of attention features, without forming them and by forming them."""
    train, test = prompts(d, "train"), prompts(d, "test")
    return {
        "ours": lambda: dm.feature_gram(train, test),
        "obvious": lambda: dm.features(train) @ dm.features(test).T,
    }


def prompts_against_inputs(d: int, n_prompts: int, repeats: int) -> Compared:
    """Compare prompts drawn compressed with prompts drawn with every input of their contexts.

    Both are random: means of moments of the summaries must agree.
    """
    source = sources(d)[0]

    def explicit() -> dm.Contexts:
        return dm.summarise(*prompts_in_full(source, n_prompts, d, rng=stream(0, "inputs")))

    calls: Calls = {
        "ours": lambda: source.sample(n_prompts, d, rng=stream(0, "compressed")),
        "obvious": explicit,
    }
    times = interleaved(calls, repeats=repeats, warm_up=calls["ours"])
    ours, obvious = times["ours"], times["obvious"]
    sigmas = sample_deviation(context_moments(ours.result), context_moments(obvious.result))
    return Compared(ours.seconds, obvious.seconds, sigmas=sigmas)


def context_moments(drawn: dm.Contexts) -> np.ndarray:
    """Return statistics of each prompt: labels, summaries, and how they go together, (n, 5)."""
    h, labels = drawn.b[:, :-1], drawn.b[:, -1]
    answer = np.einsum("nd,nd->n", drawn.x, h)
    size = np.einsum("nd,nd->n", h, h)
    return np.column_stack([drawn.y, drawn.y**2, labels, size, drawn.y * answer])


def full_point(d: int) -> float:
    """Return CPU seconds of a full point: prompts, three step sizes, linear baselines, errors."""
    start = time.process_time()
    dm.simulate(
        sources=sources(d),
        weights=[0.5, 0.5],
        n_context=d,
        n_prompts=d * d // 2,
        width=d * d // 2,
        ridge=0.32 / d**2,
        step_sizes=[0.0, d * d, 4.0 * d * d],
        rng=stream(0, "point"),
        single=True,
    )
    return time.process_time() - start
