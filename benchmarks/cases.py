"""What is compared: solver, sampler, theory, networks, risks, dual models, mixing, a large run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.attention import profile_against_dense
from benchmarks.blocks import Compared, gradient_against_differences, risk_against_sampling
from benchmarks.dual import curve_against_steps, features_against_exact, features_against_matrix
from benchmarks.large import pretraining_data
from benchmarks.mixing import (
    full_point,
    linear_against_features,
    prompts_against_inputs,
    steps_against_features,
)
from benchmarks.timing import interleaved
from benchmarks.trained import Calls, stacked_against_loop, structured_against_literal
from iclkit.features import sample_attention_features
from iclkit.papers.phase_transition import effective_ridge, learning_curve
from iclkit.prompts import sphere_tasks
from iclkit.rng import stream
from iclkit.solvers import bilinear_ridge
from tests.oracles import bilinear_ridge_obvious, effective_ridge_scalar, sample_features_brute

AGREEMENT = 1e-6  # largest relative difference of answers that count as equal


@dataclass(frozen=True)
class Row:
    """One line of the table. `target` bounds `value` from `side`; None asks for nothing."""

    case: str
    threads: int
    ours: float
    obvious: float | None
    value: float
    unit: str
    target: float | None = None
    side: str = "at least"
    difference: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the target is met and the answers agree; NaN never does."""
        agrees = self.difference is None or self.difference <= AGREEMENT
        if self.target is None:
            return agrees
        reached = self.value >= self.target if self.side == "at least" else self.value < self.target
        return agrees and reached


@dataclass(frozen=True)
class Sizes:
    """How large the comparison is; the targets belong to the full size."""

    dim: int
    repeats: int
    n_points: int
    n_roots: int
    large: tuple[int, float]
    network: tuple[int, int]
    block: tuple[int, int]
    profile: tuple[int, int]
    dual: tuple[int, int]
    mixing: tuple[int, int]
    targets: bool


FULL = Sizes(
    dim=80,
    repeats=3,
    n_points=20_000,
    n_roots=500,
    large=(100, 20.0),
    network=(20, 12),
    block=(100, 1_000),
    profile=(1_000, 4),
    dual=(4_096, 64),
    mixing=(48, 80),
    targets=True,
)
QUICK = Sizes(
    dim=16,
    repeats=1,
    n_points=2_000,
    n_roots=20,
    large=(20, 4.0),
    network=(6, 3),
    block=(10, 200),
    profile=(30, 4),
    dual=(256, 32),
    mixing=(10, 12),
    targets=False,
)


def all_rows(sizes: Sizes, threads: tuple[int, ...]) -> Iterator[Row]:
    """Yield the rows of the table, one by one as they are measured."""
    for count in threads:
        with threadpool_limits(count):
            yield solver_row(sizes, tau=1.5, target=15.0, threads=count)
            yield solver_row(sizes, tau=0.5, target=10.0, threads=count)
    with threadpool_limits(1):
        yield sampler_row(sizes)
        yield theory_row(sizes)
        yield from network_rows(sizes)
        yield from block_rows(sizes)
        yield from dual_rows(sizes)
        yield from mixing_rows(sizes)
    yield from large_rows(sizes)


def solver_row(sizes: Sizes, *, tau: float, target: float, threads: int) -> Row:
    """Compare the ridge solver with forming all features and their Gram matrix."""
    data, warm_data = pretraining_data(sizes.dim, tau), pretraining_data(12, tau)

    def warm_up() -> None:
        for solve in (bilinear_ridge, bilinear_ridge_obvious):
            solve(*warm_data)

    times = interleaved(
        {
            "ours": lambda: bilinear_ridge(*data),
            "obvious": lambda: bilinear_ridge_obvious(*data),
        },
        repeats=sizes.repeats,
        warm_up=warm_up,
    )
    ours, obvious = times["ours"], times["obvious"]
    return Row(
        f"ridge pretraining, d = {sizes.dim}, tau = {tau}",
        threads,
        ours.seconds,
        obvious.seconds,
        obvious.seconds / ours.seconds,
        "x",
        target if sizes.targets else None,
        difference=_difference(ours.result, obvious.result),
    )


def sampler_row(sizes: Sizes) -> Row:
    """Compare the features' sampler with drawing every context."""
    dim, n_prompts = sizes.dim, 20 * sizes.dim
    tasks = sphere_tasks(n_prompts, dim, rng=stream(0, "sampler")).tasks

    def run(sample: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: sample(tasks, n_context=10 * dim, noise_var=0.01, rng=stream(0, "draws"))

    calls = {"ours": run(sample_attention_features), "obvious": run(sample_features_brute)}
    times = interleaved(calls, repeats=sizes.repeats, warm_up=calls["ours"])
    seconds = times["ours"].seconds, times["obvious"].seconds
    label = f"features of {n_prompts} contexts, d = {dim}"
    return Row(label, 1, *seconds, seconds[1] / seconds[0], "x")


def theory_row(sizes: Sizes) -> Row:
    """Time the asymptotic errors per point, against a loop of scalar root searches."""
    points = _points(sizes.n_points)
    few = [axis[: sizes.n_roots] for axis in points]
    calls = {
        "ours": lambda: learning_curve(*points),
        "obvious": lambda: [effective_ridge_scalar(*point) for point in zip(*few, strict=True)],
    }
    times = interleaved(calls, repeats=max(sizes.repeats, 3), warm_up=calls["ours"])
    per_point = times["ours"].seconds / sizes.n_points
    return Row(
        f"theory, {sizes.n_points} points",
        1,
        per_point,
        times["obvious"].seconds / sizes.n_roots,
        per_point * 1e6,
        "us/point",
        10.0 if sizes.targets else None,
        side="below",
        difference=_difference(effective_ridge(*few), np.array(times["obvious"].result)),
    )


def network_rows(sizes: Sizes) -> Iterator[Row]:
    """Compare gradients of trained networks with those of the literal network and of a loop."""
    dim, models = sizes.network
    literal = structured_against_literal(dim, n_context=4 * dim, batch=256)
    yield _compared(sizes, f"gradient of linear attention, d = {dim}", literal, target=20.0)
    loop = stacked_against_loop(8, models, batch=64)
    yield _compared(sizes, f"gradients of {models} transformers, d = 8", loop, target=3.0)


def _compared(sizes: Sizes, label: str, calls: Calls, *, target: float) -> Row:
    times = interleaved(calls, repeats=max(sizes.repeats, 5), warm_up=calls["ours"])
    ours, obvious = times["ours"], times["obvious"]
    return Row(
        label,
        1,
        ours.seconds,
        obvious.seconds,
        obvious.seconds / ours.seconds,
        "x",
        target if sizes.targets else None,
        difference=_difference(ours.result, obvious.result),
    )


def block_rows(sizes: Sizes) -> Iterator[Row]:
    """Compare exact risks of a block from its matrices with sampling and with differences."""
    dim, n_prompts = sizes.block
    sampling = risk_against_sampling(dim, n_prompts, sizes.repeats)
    yield _scaled(sizes, f"risk, d = {dim}, sampling scaled to 0.1 %", sampling, target=100_000.0)
    slopes = gradient_against_differences(dim, max(sizes.repeats, 5))
    yield _scaled(sizes, f"gradient, d = {dim}, differences scaled", slopes, target=10_000.0)
    calls, label = profile_against_dense(*sizes.profile), f"profile, d = {sizes.profile[0]}"
    yield _compared(sizes, label, calls, target=100.0)


def _scaled(sizes: Sizes, label: str, times: Compared, *, target: float) -> Row:
    ratio = times.obvious / times.ours
    goal = target if sizes.targets else None
    return Row(label, 1, times.ours, times.obvious, ratio, "x", goal, difference=times.difference)


def dual_rows(sizes: Sizes) -> Iterator[Row]:
    """Compare dual models of attention: features with exact, one sum with many steps."""
    n_tokens, n_projections = sizes.dual
    label = f"attention, {n_tokens} tokens, {n_projections} features"
    exact = features_against_exact(n_tokens, n_projections, max(sizes.repeats, 5))
    yield _scaled(sizes, f"{label}, exact", exact, target=5.0)
    matrix = features_against_matrix(n_tokens, n_projections)
    yield _compared(sizes, f"{label}, pairs", matrix, target=8.0)
    steps = curve_against_steps(n_tokens)
    yield _compared(sizes, f"curve of {n_tokens} steps", steps, target=50.0)


def mixing_rows(sizes: Sizes) -> Iterator[Row]:
    """Compare MLP heads from Gram matrices with heads from explicit features."""
    d, paper_d = sizes.mixing
    linear = linear_against_features(d)
    yield _compared(sizes, f"linear attention in dual form, d = {d}", linear, target=5.0)
    steps = steps_against_features(d)
    yield _compared(sizes, f"MLP head, sweep of steps, d = {d}", steps, target=2.0)
    calls = prompts_against_inputs(paper_d, 1_000)
    times = interleaved(calls, repeats=max(sizes.repeats, 3), warm_up=calls["ours"])
    seconds = times["ours"].seconds, times["obvious"].seconds
    label = f"1000 prompts, d = {paper_d}, without their inputs"
    yield Row(label, 1, *seconds, seconds[1] / seconds[0], "x")
    point = full_point(paper_d)
    goal = 60.0 if sizes.targets else None
    label = f"MLP head, full point, d = {paper_d}"
    yield Row(label, 1, point, None, point, "CPU s", goal, side="below")


def large_rows(sizes: Sizes) -> Iterator[Row]:
    """Yield time and peak memory of one large pretraining run, in a process of its own."""
    dim, tau = sizes.large
    command = [sys.executable, "-m", "benchmarks.large", str(dim), str(tau)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | one_thread
    )
    measured = json.loads(done.stdout)
    label = f"sample and pretrain, d = {dim}, tau = {tau:g}"
    seconds, memory = measured["seconds"], measured["peak_bytes"] / 1e9
    targets = (30.0, 2.0) if sizes.targets else (None, None)
    yield Row(label, 1, seconds, None, seconds, "s", targets[0], side="below")
    yield Row(label, 1, seconds, None, memory, "GB peak", targets[1], side="below")


def _points(n_points: int) -> list[np.ndarray]:
    """Draw alpha, kappa, tau, rho, penalty over many orders of magnitude."""
    rng = stream(0, "theory")
    ranges = [(-1, 3), (-1, 2), (-1, 2), (-3, 0), (-6, 1)]
    return [10 ** rng.uniform(*ends, n_points) for ends in ranges]


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
