"""One large pretraining run in a fresh process: ``python -m benchmarks.large 100 20``."""

import json
import os
import resource
import sys
import time

import numpy as np

from iclkit.features import sample_attention_features
from iclkit.prompts import sample_query, sphere_tasks
from iclkit.rng import stream
from iclkit.solvers import bilinear_ridge

Data = tuple[np.ndarray, np.ndarray, np.ndarray, float]


def pretraining_data(dim: int, tau: float) -> Data:
    """Return queries, features, labels, penalty for context 10 d, d/2 tasks, ridge 1e-6."""
    rng = stream(0, "benchmark", dim, tau)
    n_prompts = round(tau * dim**2)
    tasks = sphere_tasks(dim // 2, dim, rng=rng).assign(n_prompts)
    v = sample_attention_features(tasks, n_context=10 * dim, noise_var=0.01, rng=rng)
    x_query, y = sample_query(tasks, noise_var=0.01, rng=rng)
    return x_query, v, y, n_prompts / dim * 1e-6


def main(dim: int, tau: float) -> None:
    """Print seconds and peak resident memory as JSON."""
    start = time.perf_counter()
    bilinear_ridge(*pretraining_data(dim, tau))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if _counts_bytes() else 1024)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


def _counts_bytes() -> bool:
    return os.uname().sysname == "Darwin"


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
