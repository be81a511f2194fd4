"""One large pretraining run in a fresh process: ``python -m benchmarks.large 100 20``."""

import json
import os
import resource
import sys
import time
from pathlib import Path

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
    """Print processor seconds and peak resident memory as JSON."""
    start = time.process_time()
    bilinear_ridge(*pretraining_data(dim, tau))
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far.

    Linux counts the process that started this one into `getrusage`, hence its own file first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
