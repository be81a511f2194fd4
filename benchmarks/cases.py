"""What is compared, with what, and by how much the library should win."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from benchmarks import blocks, dual, mixing, pretraining, trained
from benchmarks.attention import profile_against_dense
from benchmarks.devices import device_cases
from benchmarks.rows import EXPONENT, RATIO, Case, Compared, Row, side_by_side
from benchmarks.sweeps import Remeasured, overhead
from benchmarks.timing import Calls


@dataclass(frozen=True)
class Sizes:
    """How large the comparison is; the targets belong to the full size."""

    dim: int
    small_dim: int
    repeats: int
    solver_repeats: int
    n_points: int
    n_roots: int
    sweep: tuple[int, int]
    large: tuple[int, float]
    network: tuple[int, int]
    block: tuple[int, int]
    profile: tuple[int, int]
    dual: tuple[int, int]
    taylor: tuple[int, int]
    mixing: tuple[int, int]
    targets: bool


FULL = Sizes(
    dim=80,
    small_dim=32,
    repeats=3,
    solver_repeats=2,
    n_points=20_000,
    n_roots=500,
    sweep=(1_000, 10_000),
    large=(100, 20.0),
    network=(20, 12),
    block=(100, 1_000),
    profile=(1_000, 4),
    dual=(4_096, 64),
    taylor=(1_024, 6),
    mixing=(48, 80),
    targets=True,
)
QUICK = Sizes(
    dim=16,
    small_dim=8,
    repeats=1,
    solver_repeats=1,
    n_points=2_000,
    n_roots=20,
    sweep=(100, 400),
    large=(20, 4.0),
    network=(6, 3),
    block=(10, 200),
    profile=(30, 4),
    dual=(256, 32),
    taylor=(64, 5),
    mixing=(10, 12),
    targets=False,
)


class Comparison(NamedTuple):
    """A case, the obvious method that it is compared with, and the least ratio."""

    case: str
    against: str
    measure: Callable[[], Compared]
    target: float
    threads: int = 1


class Amount(NamedTuple):
    """A case without an obvious method: an amount that stays below a target."""

    case: str
    measure: Callable[[], float]
    unit: str
    target: float


def all_cases(sizes: Sizes, threads: tuple[int, ...]) -> Iterator[Case]:
    """Yield what is measured, one row each; rows on one thread first."""
    for comparison in comparisons(sizes, threads):
        yield partial(compare, comparison, targets=sizes.targets)
    yield from device_cases(quick=not sizes.targets)
    for amount in amounts(sizes):
        yield partial(take, amount, targets=sizes.targets)


def comparisons(sizes: Sizes, threads: tuple[int, ...]) -> list[Comparison]:
    """Return what is compared with an obvious method."""
    return [
        *solver_cases(sizes, 1),
        *pretraining_cases(sizes),
        *network_cases(sizes),
        *block_cases(sizes),
        *dual_cases(sizes),
        *mixing_cases(sizes),
        *(case for count in threads if count > 1 for case in solver_cases(sizes, count)),
    ]


def compare(comparison: Comparison, *, targets: bool) -> Row:
    """Return the row of a comparison."""
    case, against, measure, target, threads = comparison
    with threadpool_limits(threads):
        ours, obvious, difference, sigmas = measure()
    return Row(
        case,
        threads,
        ours,
        obvious,
        obvious / ours,
        RATIO,
        target if targets else None,
        difference=difference,
        sigmas=sigmas,
        against=against,
    )


def take(amount: Amount, *, targets: bool) -> Row:
    """Return the row of an amount."""
    with threadpool_limits(1):
        value = amount.measure()
    goal = amount.target if targets else None
    return Row(amount.case, 1, value, None, value, amount.unit, goal, side="below")


def paired(calls: Callable[[], Calls], repeats: int) -> Callable[[], Compared]:
    """Return the measurement of two calls that give the same numbers."""
    return lambda: side_by_side(calls(), repeats=repeats)


def solver_cases(sizes: Sizes, threads: int) -> Iterator[Comparison]:
    """Yield ridge pretraining with more prompts than parameters, and with fewer.

    On more than one thread the clock on the wall counts, which needs more looks.
    """
    repeats = sizes.solver_repeats * min(threads, 2)
    for tau, target in ((1.5, 15.0), (0.5, 10.0)):
        measure = partial(
            pretraining.solver_against_features,
            sizes.dim,
            tau,
            repeats=repeats,
            threads=threads,
        )
        label = f"ridge pretraining, d = {sizes.dim}, tau = {tau}"
        yield Comparison(label, "all features, their Gram matrix, LU", measure, target, threads)


def pretraining_cases(sizes: Sizes) -> Iterator[Comparison]:
    """Yield the middle route of the solver, the sampler, leaving out, and the theory."""
    d, often = sizes.small_dim, max(sizes.repeats, 3)
    solver = partial(pretraining.solver_against_features, d, 1.0, repeats=often, threads=1)
    label = f"ridge pretraining, d = {d}, tau = 1.0"
    yield Comparison(label, "all features, their Gram matrix, LU", solver, 1.5)
    sampler = partial(pretraining.sampler_against_contexts, sizes.dim, sizes.repeats)
    label = f"features of {20 * sizes.dim} contexts, d = {sizes.dim}"
    yield Comparison(label, "every input of every context", sampler, 100.0)
    left_out = partial(pretraining.left_out_against_refits, d, often)
    yield Comparison(
        f"leaving out each prompt, d = {d}", "a fit without it, scaled", left_out, 50.0
    )
    theory = partial(
        pretraining.theory_against_searches, sizes.n_points, sizes.n_roots, max(sizes.repeats, 3)
    )
    label = f"theory, {sizes.n_points} points, each"
    yield Comparison(label, "a root search for each point", theory, 20.0)


def network_cases(sizes: Sizes) -> Iterator[Comparison]:
    """Yield gradients of trained networks."""
    (dim, models), often = sizes.network, max(sizes.repeats, 5)
    literal = paired(partial(trained.structured_against_literal, dim, 4 * dim, 256), often)
    label = f"gradient of linear attention, d = {dim}"
    yield Comparison(label, "every token asks all others", literal, 20.0)
    loop = paired(partial(trained.stacked_against_loop, 8, models, 64), often)
    yield Comparison(f"gradients of {models} transformers, d = 8", "one by one", loop, 3.0)


def block_cases(sizes: Sizes) -> Iterator[Comparison]:
    """Yield exact risks of a block from its matrices."""
    (dim, n_prompts), often = sizes.block, max(sizes.repeats, 5)
    sampling = partial(blocks.risk_against_sampling, dim, n_prompts, sizes.repeats)
    yield Comparison(f"exact risk, d = {dim}", "Monte Carlo to 0.1 %, scaled", sampling, 1e5)
    slopes = partial(blocks.gradient_against_differences, dim, often)
    label = f"gradient of the risk, d = {dim}"
    yield Comparison(label, "differences for each weight, scaled", slopes, 1e4)
    profile = paired(partial(profile_against_dense, *sizes.profile), often)
    label = f"best keys and queries, d = {sizes.profile[0]}"
    yield Comparison(label, "a dense solve", profile, 100.0)


def dual_cases(sizes: Sizes) -> Iterator[Comparison]:
    """Yield dual models of attention: in function space, by features, step by step."""
    (n_tokens, n_projections), often = sizes.dual, max(sizes.repeats, 5)
    taylor = paired(partial(dual.model_against_taylor, *sizes.taylor), often)
    label = f"dual model of {sizes.taylor[0]} tokens at a query"
    yield Comparison(label, f"features up to degree {sizes.taylor[1]}", taylor, 100.0)
    label = f"attention of {n_tokens} tokens, {n_projections} features"
    exact = partial(dual.features_against_exact, n_tokens, n_projections, often)
    yield Comparison(label, "exact attention", exact, 5.0)
    matrix = paired(partial(dual.features_against_matrix, n_tokens, n_projections), often)
    yield Comparison(f"{label}, grouped", "all pairs of tokens", matrix, 8.0)
    steps = paired(partial(dual.curve_against_steps, n_tokens), often)
    yield Comparison(f"curve of {n_tokens} steps", "an optimiser that takes them", steps, 50.0)


def mixing_cases(sizes: Sizes) -> Iterator[Comparison]:
    """Yield MLP heads and linear attention from Gram matrices."""
    (d, paper_d), often = sizes.mixing, max(sizes.repeats, 5)
    gram = paired(partial(mixing.gram_against_features, d), often)
    yield Comparison(f"Gram matrix of features, d = {d}", "explicit features", gram, 5.0)
    linear = paired(partial(mixing.linear_against_features, d), often)
    label = f"linear attention in dual form, d = {d}"
    yield Comparison(label, "explicit features", linear, 5.0)
    steps = paired(partial(mixing.steps_against_features, d), often)
    label = f"MLP head, {mixing.STEPS} step sizes, d = {d}"
    yield Comparison(label, "the gradient and explicit features", steps, 2.0)
    drawn = partial(mixing.prompts_against_inputs, paper_d, 1_000, max(sizes.repeats, 3))
    label = f"1000 prompts, d = {paper_d}"
    yield Comparison(label, "every input of every context", drawn, 10.0)


def amounts(sizes: Sizes) -> Iterator[Amount]:
    """Yield times and memory that are promised, whatever they are compared with."""
    theory = partial(
        pretraining.theory_against_searches, sizes.n_points, sizes.n_roots, sizes.repeats
    )
    label = f"theory, {sizes.n_points} points"
    yield Amount(label, lambda: theory().ours * 1e6, "us/point", 10.0)
    few, many = sizes.sweep
    swept = Remeasured(partial(overhead, sizes.sweep, store=True))
    label = f"sweep of {many:,} cells, stored"
    yield Amount(label, lambda: 1e3 * swept("cost").per_cell, "ms per cell", 5.0)
    label = f"sweep, growth from {few:,} to {many:,} cells"
    yield Amount(label, lambda: swept("growth").exponent, EXPONENT, 1.1)
    d = sizes.mixing[1]
    point = partial(mixing.full_point, d)
    yield Amount(f"MLP head, full point, d = {d}", point, "CPU s", 60.0)
    label = f"sample and pretrain, d = {sizes.large[0]}, tau = {sizes.large[1]:g}"
    large = partial(large_run, *sizes.large)
    yield Amount(label, lambda: large()["seconds"], "CPU s", 30.0)
    yield Amount(f"{label}, memory", lambda: large()["peak_bytes"] / 1e9, "GB peak", 2.0)


def large_run(dim: int, tau: float) -> dict[str, float]:
    """Return processor seconds and peak memory of a large run in a process of its own.

    Raises
    ------
    ChildProcessError
        If it ends early.
    """
    command = [sys.executable, "-m", "benchmarks.large", str(dim), str(tau)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | one_thread)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        ended = f"the large run ended early with {done.returncode}: {last}"
        raise ChildProcessError(ended)
    return dict(json.loads(done.stdout))
