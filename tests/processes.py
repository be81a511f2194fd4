"""For tests of sweeps: wait for facts, start drivers and clusters, leave no process behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
DEADLINE = 150  # seconds; a busy machine may take long to start a process


def wait_for(fact, seconds=DEADLINE):
    """Return the fact once it is true; fail at the deadline."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, f"not within {seconds} s: {fact}"
        time.sleep(0.01)
    return found


def gone(pid):
    """Whether a process has ended; one that nobody waited for yet has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def started(arguments, folder, **environment):
    """Run Python with the arguments in a session of its own; end it with all its children."""
    space = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    log = (folder / f"{len(list(folder.glob('*.log')))}.log").open("w+")
    options = {"stdout": log, "stderr": subprocess.STDOUT, "cwd": folder, "env": space}
    with log, subprocess.Popen([sys.executable, *arguments], **options) as process:
        try:
            yield process
        finally:
            end(process)


def end(process):
    """Kill a process and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


def lines(path):
    """Return the whole lines of a file that grows, none if it is not there."""
    if not path.exists():
        return []
    text = path.read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def stored(folder):
    """Return the keys in the files of a store that grows."""
    found = [line.partition(" ")[2] for path in folder.glob("*.jsonl") for line in lines(path)]
    return {json.loads(text)[0] for text in found} - {None}


@contextlib.contextmanager
def cluster(folder, n_workers, nanny=True, **environment):
    """Start a Dask scheduler and workers of one thread on loopback; give its file and processes."""
    file = folder / "scheduler.json"
    quiet = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": str(ROOT)}
    quiet |= environment
    local = ["--host", "127.0.0.1", "--dashboard-address", ":0", "--scheduler-file", str(file)]
    scheduler = ["-m", "distributed.cli.dask_scheduler", "--port", "0", *local]
    worker = ["-m", "distributed.cli.dask_worker", "--nthreads", "1", *local]
    worker += [] if nanny else ["--no-nanny"]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(started(scheduler, folder, **quiet))]
        wait_for(file.exists)
        more = (started(worker, folder, **quiet) for _ in range(n_workers))
        yield file, processes + [stack.enter_context(process) for process in more]


def interrupt(process):
    """Press Ctrl-C."""
    process.send_signal(signal.SIGINT)
