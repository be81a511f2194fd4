"""Timing that is fair on a busy machine: warm, interleaved, medians."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Timed(NamedTuple):
    """Median wall seconds of a call, and what it returned last."""

    seconds: float
    result: Any


def interleaved(
    calls: dict[str, Callable[[], Any]], *, repeats: int, warm_up: Callable[[], Any]
) -> dict[str, Timed]:
    """Return the median time of each call, taken in turn after a warm-up."""
    warm_up()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    results = {}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            results[name] = call()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timed(float(np.median(seconds[name])), results[name]) for name in calls}
