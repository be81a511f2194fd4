"""Sweeps on a real Dask cluster: a scheduler and worker processes on loopback."""

import ast
import asyncio
import gc
import importlib
import json
import os
import re
import shutil
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iclkit.bench import backends
from iclkit.bench.backends import SweepError
from iclkit.bench.sweep import grid, sweep
from tests.processes import ROOT, cluster, lines, stored, wait_for

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


def linear(*, d, folder, rng):
    """Linear algebra whose last bits depend on the number of threads."""
    with Path(folder, "calls").open("a") as log:
        log.write(f"{d} {os.getpid()}\n")
    a = rng.normal(size=(d, d))
    return {
        "trace": np.trace(np.linalg.solve(a @ a.T + np.eye(d), a)),
        "size": d,
        "small": np.float32(rng.normal()),
        "odd": d % 2 == 1,
    }


def waiting(*, i, folder, rng):
    """Cell 3 waits until it may go on; whoever runs it first says who that is."""
    with Path(folder, "calls").open("a") as log:
        log.write(f"{i} {os.getpid()}\n")
    while i == 3 and not Path(folder, "go").exists():
        os.sched_yield()
    return {"value": rng.normal()}


NOTEBOOK = """
size = {"n": 5}
worlds = {"one": lambda d: d + 1}

def cell(*, d, rng):
    return {"value": rng.normal(size=size["n"]).sum() * worlds["one"](d)}
"""


def of_a_notebook():
    """Return a cell that exists in this process alone, with what it reads."""
    space = {"__name__": "__main__"}
    exec(NOTEBOOK, space)  # noqa: S102
    return space["cell"]


def same_bits(one, two):
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    for name in one.select_dtypes("float"):
        assert one[name].to_numpy().tobytes() == two[name].to_numpy().tobytes()


def runs_cell_3(folder):
    found = [line.split()[1] for line in lines(folder / "calls") if line.startswith("3 ")]
    return [int(pid) for pid in found]


def kill_when_it_runs(folder):
    """Kill the worker that runs cell 3, then let the cell go on wherever it runs next."""
    (pid,) = wait_for(lambda: runs_cell_3(folder))
    os.kill(pid, signal.SIGKILL)
    (folder / "go").touch()


def test_a_cluster_gives_the_same_bits_also_when_a_worker_is_killed(tmp_path, monkeypatch, capfd):
    from distributed import Client

    notebook = of_a_notebook()
    sizes, options = grid(d=[40, 61, 80], folder=str(tmp_path)), {"seed": 0, "replicates": 4}
    waits = grid(i=range(40), folder=str(tmp_path))
    with cluster(tmp_path, 2) as (file, _), ThreadPoolExecutor(1) as other:
        by_file = sweep(linear, sizes, cluster=file, **options)
        killer = other.submit(kill_when_it_runs, tmp_path)
        after_death = sweep(waiting, waits, seed=0, cluster=str(file), store=tmp_path / "store")
        killer.result()
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            by_client = sweep(linear, sizes[::-1], cluster=client, **options)
            monkeypatch.setenv("ICLKIT_CLUSTER", client.scheduler.address)
            by_environment = sweep(notebook, grid(d=range(30)), seed=0)
            assert client.status == "running"
    assert capfd.readouterr() == ("", "")
    workers = {line.split()[1] for line in lines(tmp_path / "calls")}
    assert str(os.getpid()) not in workers
    assert len(runs_cell_3(tmp_path)) == 2
    assert len(stored(tmp_path / "store")) == 40
    local = sweep(linear, sizes, n_jobs=1, **options)
    for table in (by_file, by_client.sort_values(["d", "replicate"], ignore_index=True)):
        same_bits(table, local)
    same_bits(by_environment, sweep(notebook, grid(d=range(30)), seed=0, n_jobs=1))
    same_bits(after_death, sweep(waiting, waits, seed=0, n_jobs=1))


def test_a_killed_scheduler_is_one_line_and_the_rest_runs_elsewhere(tmp_path, capfd):
    cells = grid(i=range(12), folder=str(tmp_path))
    store, options = tmp_path / "store", {"seed": 0, "store": tmp_path / "store"}

    def kill(scheduler):
        wait_for(lambda: len(stored(store)) >= 3)
        scheduler.kill()

    with cluster(tmp_path, 1, nanny=False) as (file, processes), ThreadPoolExecutor(1) as other:
        killer = other.submit(kill, processes[0])
        with pytest.raises(SweepError) as caught:
            sweep(waiting, cells, cluster=file, **options)
        killer.result()
    kept = len(stored(store))
    expected = (
        f"the connection to the Dask scheduler was lost; {kept} of 12 cells are kept in {store}"
    )
    assert str(caught.value) == f"{expected}; the same call goes on from there"
    assert kept >= 3
    (tmp_path / "go").touch()
    (tmp_path / "calls").unlink()
    rest = sweep(waiting, cells, n_jobs=1, **options)
    assert len(lines(tmp_path / "calls")) == 12 - kept
    same_bits(rest, sweep(waiting, cells, seed=0, n_jobs=1))
    assert capfd.readouterr().err == ""


def deadly(*, i, folder, rng):
    with Path(folder, "calls").open("a") as log:
        log.write(f"{i} {os.getpid()}\n")
    if i == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": rng.normal()}


def test_a_call_that_kills_its_workers_ends_soon_and_the_deaths_are_counted(tmp_path):
    cells = grid(i=range(9), folder=str(tmp_path))
    # a scheduler by itself allows 3, which takes the longer
    allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    with cluster(tmp_path, 2, **allowed) as (file, _), pytest.raises(SweepError) as caught:
        sweep(deadly, cells, seed=0, cluster=file)
    begun = [line for line in lines(tmp_path / "calls") if line.startswith("4 ")]
    assert len(set(begun)) == 4
    assert "'i': 4" in str(caught.value)
    assert "killed its worker 4 times; it may need more memory" in str(caught.value)


def test_a_worker_with_another_file_of_the_users_own_is_one_line(tmp_path, monkeypatch):
    """The worker keeps what it has loaded; the driver loads the file again after an edit."""
    text = "seen = []\ndef cell(*, d, rng):\n    seen.append(d)\n    return {'value': d + 0}\n"
    (tmp_path / "my_own.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    my_own = importlib.import_module("my_own")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with cluster(tmp_path, 1, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1") as (file, _):
        for seed in (0, 1):  # what it has seen makes the worker's no other
            assert sweep(my_own.cell, grid(d=3), seed=seed, cluster=file)["value"][0] == 3
        (tmp_path / "my_own.py").write_text(text.replace("d + 0", "d + 40"))
        importlib.reload(my_own)
        said = r"^the worker on .* has another my_own\.cell than the driver; give all the same"
        with pytest.raises(SweepError, match=said):
            sweep(my_own.cell, grid(d=3), seed=0, cluster=file)


def other_library(folder, root, edit):
    """Make an `iclkit` that a worker takes in place of ours."""
    place = folder / "other" / "iclkit"
    if edit:
        shutil.copytree(root / "iclkit", place, ignore=shutil.ignore_patterns("data"))
        with (place / "rng.py").open("a") as file:
            file.write(edit)
    else:
        place.mkdir(parents=True)
        (place / "__init__.py").touch()
    return str(place.parent)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("SHIFT = 1\n", r"the worker on .* has iclkit .*, the driver .*; install the same on all"),
        ("", r"a worker has no iclkit\.bench; install this version of iclkit on all workers"),
    ],
    ids=["edited", "missing"],
)
def test_a_worker_with_another_library_is_one_line(tmp_path, root, edit, message):
    path = other_library(tmp_path, root, edit)
    said, cells = pytest.raises(SweepError, match=message), grid(d=3, folder=str(tmp_path))
    with cluster(tmp_path, 1, nanny=False, PYTHONPATH=path) as (file, _), said:
        sweep(linear, cells, seed=0, cluster=file)
    assert not (tmp_path / "calls").exists()


def free_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_no_scheduler_is_one_line(monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_SECONDS", 0.2)
    with pytest.raises(SweepError, match=r"no Dask scheduler answers at 'tcp://.*'; start one"):
        sweep(linear, grid(d=3), seed=0, cluster=f"tcp://127.0.0.1:{free_port()}")


def test_a_stale_scheduler_file_shows_its_address(tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_SECONDS", 0.2)
    file, address = tmp_path / "stale.json", f"tcp://127.0.0.1:{free_port()}"
    file.write_text(json.dumps({"address": address}))
    with pytest.raises(SweepError) as caught:
        sweep(linear, grid(d=3), seed=0, cluster=file)
    assert f"no Dask scheduler answers at '{address}', which {file} names; " in str(caught.value)


def test_a_scheduler_file_must_exist(tmp_path):
    with pytest.raises(SweepError, match=r"must name a scheduler file that exists, got .*none"):
        sweep(linear, grid(d=3), seed=0, cluster=tmp_path / "none.json")


@pytest.mark.parametrize("text", ["{damaged", "[1]", "{}", '{"address": 3}', "\ud800"])
def test_a_damaged_scheduler_file_is_one_line(tmp_path, text, capfd):
    file = tmp_path / "scheduler.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = f"^cluster: {re.escape(str(file))} is no scheduler file; let `dask scheduler"
    with pytest.raises(SweepError, match=said):
        sweep(linear, grid(d=3), seed=0, cluster=str(file))
    gc.collect()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cluster", [3, True, [1], {"address": 1}])
def test_a_cluster_is_an_address_a_file_or_a_client(cluster):
    with pytest.raises(TypeError, match="cluster must be an address, a scheduler file or a client"):
        sweep(linear, grid(d=3), seed=0, cluster=cluster)


@pytest.mark.parametrize(
    "address", ["", "tcp://", "tcp://x:y", "127.0.0.1:99999", "\0", "a" * 5000]
)
def test_an_address_that_is_none_is_one_short_line(address, monkeypatch, capfd):
    monkeypatch.setattr(backends, "CONNECT_SECONDS", 0.2)
    with pytest.raises(SweepError, match=r"^no Dask scheduler answers at '") as caught:
        sweep(linear, grid(d=3), seed=0, cluster=address)
    assert len(str(caught.value)) < 200
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_one_process_stays_one_process_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLKIT_CLUSTER", "tcp://127.0.0.1:1")
    sweep(linear, grid(d=3, folder=str(tmp_path)), seed=0, n_jobs=1)
    assert lines(tmp_path / "calls") == [f"3 {os.getpid()}"]


def test_a_cluster_gets_no_large_data():
    data = np.zeros(2**21)
    with pytest.raises(SweepError, match=r"at most 8 MB .* got 16 MB; load or make them in the"):
        backends._packed_small(lambda i: data[i])


class Gone:
    """A client whose scheduler is gone, in the ways that it is used."""

    status = "finished"

    def nthreads(self):
        raise OSError("Timed out")

    def submit(self, *_arguments, **_options):
        raise RuntimeError("Client is closed")

    async def gather(self, *_arguments, **_options):
        raise OSError("Stream is closed")

    cancel = submit


def test_a_client_that_lost_its_scheduler_is_one_line():
    said, near = f"^{backends.LOST}$", Future()
    with pytest.raises(SweepError, match=said):
        backends._twice_the_threads(Gone())()
    with pytest.raises(SweepError, match=said):
        backends._submit(Gone(), set(), len, [1])
    backends._cancel(Gone(), {1})
    asyncio.run(backends._carry(Gone(), Gone(), near))
    with pytest.raises(SweepError, match=said):
        near.result(timeout=0)


def test_the_library_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    remedy = "needs distributed; in the repository's folder: python -m pip install"
    with pytest.raises(SweepError, match=re.escape(remedy)):
        sweep(linear, grid(d=3), seed=0, cluster="tcp://127.0.0.1:1")


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_page_prints_the_script_that_its_recipe_gives(root):
    from dask_jobqueue.slurm import SLURMJob

    page = (root / "book/clusters.md").read_text()
    (recipe,) = (code for code in blocks(page, "python") if "SLURMCluster(" in code)
    (call,) = (
        node
        for node in ast.walk(ast.parse(recipe))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "SLURMCluster"
    )
    options = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    job = SLURMJob(scheduler="tcp://login:8786", name="iclkit", **options)
    assert job.job_script().strip() in [code.strip() for code in blocks(page, "bash")]
