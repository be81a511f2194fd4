"""Sweeps under fire: killed workers, killed drivers, a full disk, Ctrl-C; the table is the same."""

import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iclkit.bench import fingerprint
from iclkit.bench.backends import SweepError
from iclkit.bench.store import StoreError
from iclkit.bench.sweep import grid, sweep
from tests.processes import gone, interrupt, lines, started, stored, wait_for

DRIVER = """
import os, resource, sys, time
from iclkit.bench.sweep import grid, sweep

def cell(*, i, rng):
    with open("calls", "a") as log:
        log.write(f"{i} {os.getpid()}\\n")
    time.sleep(float(os.environ["CELL_SECONDS"]))
    while i == 1 and os.path.exists("hold"):
        time.sleep(0.01)
    return {"value": rng.normal(), "double": 2 * i}

if limit := int(os.environ.get("FILE_BYTES", 0)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
n, jobs = map(int, sys.argv[1:3])
table = sweep(cell, grid(i=range(n)), seed=3, n_jobs=jobs, store="store")
table.to_pickle("table.pkl")
"""


def cell(*, i, rng):
    return {"value": rng.normal(), "double": 2 * i}


def undisturbed(n):
    return sweep(cell, grid(i=range(n)), seed=3, n_jobs=1)


def write(folder, i):
    with Path(folder, "calls").open("a") as log:
        log.write(f"{i} {os.getpid()}\n")


def calls(folder):
    """Return the cells that were begun, and the processes that ran them."""
    pairs = [line.split() for line in lines(folder / "calls")]
    return Counter(int(i) for i, _ in pairs), {int(pid) for _, pid in pairs}


def same_bits(one, two):
    """Compare values, types and order; NaN equals NaN of the same bits."""
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    for name in one.select_dtypes("float"):
        assert one[name].to_numpy().tobytes() == two[name].to_numpy().tobytes()


@pytest.fixture
def driver(tmp_path, root):
    """Return what runs the driver on a copy: an edit of the library would start afresh."""
    shutil.copytree(root / "iclkit", tmp_path / "iclkit", ignore=shutil.ignore_patterns("data"))
    (tmp_path / "driver.py").write_text(DRIVER)

    def start(n, jobs, *, seconds=0.0005, **environment):
        space = {"CELL_SECONDS": str(seconds), **{k: str(v) for k, v in environment.items()}}
        return started(["driver.py", str(n), str(jobs)], tmp_path, **space)

    return start


@pytest.mark.skipif(os.name != "posix", reason="workers notice the end of their parent on POSIX")
def test_a_driver_killed_twice_goes_on_and_computes_nothing_three_times(tmp_path, driver):
    n = 10_000
    for stage in (2500, 6000):
        due = {f'[{{"i": {i}}}, [], 0]' for i in calls(tmp_path)[0]}  # the last kill cut some off
        with driver(n, 2) as process:
            wait_for(lambda due=due: due <= stored(tmp_path / "store"))
            wait_for(lambda stage=stage: calls(tmp_path)[0].total() >= stage)
            assert process.poll() is None, "it ended before it was killed"
            process.kill()
            process.wait()
        wait_for(lambda: all(map(gone, calls(tmp_path)[1])))
    with driver(n, 2) as process:
        assert process.wait() == 0
    times, workers = calls(tmp_path)
    assert times.keys() == set(range(n))
    assert max(times.values()) <= 2
    same_bits(pd.read_pickle(tmp_path / "table.pkl"), undisturbed(n))
    wait_for(lambda: all(map(gone, workers)))


def test_ctrl_c_keeps_what_is_finished(tmp_path, driver):
    with driver(200, 2, seconds=0.02) as process:
        wait_for(lambda: len(stored(tmp_path / "store")) >= 20)
        interrupt(process)
        assert process.wait() != 0
    text = (tmp_path / "0.log").read_text()
    assert "KeyboardInterrupt" in text
    assert "of 200 cells are kept in store; the same call goes on from there" in text
    wait_for(lambda: all(map(gone, calls(tmp_path)[1])))
    kept = stored(tmp_path / "store")
    assert 20 <= len(kept) < 200
    with driver(200, 1, seconds=0) as process:
        assert process.wait() == 0
    assert calls(tmp_path)[0].total() <= 200 + 2 * 4 * 10
    same_bits(pd.read_pickle(tmp_path / "table.pkl"), undisturbed(200))


def test_a_full_disk_ends_in_one_line_and_the_rest_follows_later(tmp_path, driver):
    with driver(200, 1, seconds=0, FILE_BYTES=5000) as process:
        assert process.wait() == 1
    said = (tmp_path / "0.log").read_text().splitlines()[-1]
    kept = len(stored(tmp_path / "store"))
    assert f"File too large; {kept} cells are kept in store; make room and run it again" in said
    assert 0 < kept < 200
    assert all(path.read_bytes().endswith(b"\n") for path in (tmp_path / "store").iterdir())
    with driver(200, 1, seconds=0) as process:
        assert process.wait() == 0
    same_bits(pd.read_pickle(tmp_path / "table.pkl"), undisturbed(200))


def fragile(*, i, folder, rng):
    """Cell 7 kills its worker the first time."""
    write(folder, i)
    mark = Path(folder, "died")
    if i == 7 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": rng.normal(), "nan": -np.float64(np.nan), "double": 2 * i}


def test_a_killed_worker_changes_nothing(tmp_path):
    cells, options = grid(i=range(60), folder=str(tmp_path)), {"seed": 3, "replicates": 2}
    killed = sweep(fragile, cells, n_jobs=2, store=tmp_path / "store", **options)
    assert (tmp_path / "died").exists()
    (tmp_path / "calls").unlink()
    same_bits(killed, sweep(fragile, cells, n_jobs=1, **options))
    again = sweep(fragile, cells, n_jobs=2, store=tmp_path / "store", **options)
    assert calls(tmp_path)[0].total() == 120  # of the second call alone
    same_bits(killed, again)


def deadly(*, i, rng):
    if i == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": rng.normal()}


def test_a_cell_that_kills_its_worker_is_named(tmp_path):
    said = r"^deadly\(\{'i': 4\}\), replicate 0 killed its worker 3 times; .*\d of 9 cells are kept"
    with pytest.raises(SweepError, match=said):
        sweep(deadly, grid(i=range(9)), seed=0, n_jobs=2, store=tmp_path)


def test_two_drivers_at_once_are_refused_and_lose_nothing(tmp_path, driver):
    (tmp_path / "hold").touch()
    with driver(40, 1, seconds=0) as first:
        wait_for(lambda: stored(tmp_path / "store"))
        with driver(40, 1, seconds=0) as second:
            assert second.wait() == 1
        (tmp_path / "hold").unlink()
        assert first.wait() == 0
    said = (tmp_path / "1.log").read_text().splitlines()[-1]
    assert "another run is writing store/cell-3-" in said
    assert "wait for it, or name another store" in said
    same_bits(pd.read_pickle(tmp_path / "table.pkl"), undisturbed(40))


def test_a_damaged_store_is_computed_again_where_it_is_damaged(tmp_path):
    cells, options = grid(i=range(30), folder=str(tmp_path)), {"seed": 3, "n_jobs": 1}
    (tmp_path / "died").touch()
    whole = sweep(fragile, cells, store=tmp_path / "store", **options)
    (path,) = (tmp_path / "store").iterdir()
    content = path.read_text().splitlines(keepends=True)
    content[5] = content[5].replace('"double":', '"double":1')
    path.write_text("".join(content)[:-20])
    (tmp_path / "calls").unlink()
    same_bits(whole, sweep(fragile, cells, store=tmp_path / "store", **options))
    assert set(calls(tmp_path)[0]) == {4, 29}


def test_an_edited_cell_starts_afresh(tmp_path):
    def made(shift):
        def cell(*, i, rng):
            return {"value": i + shift}

        return cell

    tables = [sweep(made(s), grid(i=[1]), seed=0, n_jobs=1, store=tmp_path) for s in (0, 1, 0)]
    assert [table["value"][0] for table in tables] == [1, 2, 1]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_store_that_cannot_be_written_is_said_before_computing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="name a folder that can be written"):
        sweep(deadly, grid(i=[4]), seed=0, n_jobs=1, store=tmp_path / "file")


def test_an_edit_of_the_library_while_python_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "_sources", lambda: "edited")
    with pytest.raises(StoreError, match="iclkit was edited since it was imported; start Python"):
        sweep(cell, grid(i=[1]), seed=0, n_jobs=1, store=tmp_path)
    assert list(tmp_path.iterdir()) == []


MINE = """
SHIFT = {shift}
def shifted(d):
    return d + SHIFT
def cell(*, d, rng):
    return {{"value": shifted(d)}}
"""
RELOADS = """
import importlib, sys
from pathlib import Path
import mine
from iclkit.bench.sweep import grid, sweep

def notebook(*, d, rng):
    return {"value": mine.shifted(d)}

def write(shift):
    Path("mine.py").write_text(Path("template").read_text().format(shift=shift))

def values(name):
    cell = notebook if name == "notebook" else mine.cell
    return sweep(cell, grid(d=range(20)), seed=0, n_jobs=2, store=sys.argv[1] or None)["value"]

"""
RELOADED = """
for name in ("cell", "notebook"):
    for shift in (0, 1000):
        write(shift)
        importlib.reload(mine)
        assert values(name).tolist() == [d + shift for d in range(20)], (name, shift)
"""
FORGOTTEN = """
write(30)
for name in ("cell", "notebook"):
    try:
        print(values(name))
    except Exception as error:
        print(error)
"""


@pytest.fixture
def reloads(tmp_path, root):
    """Return what runs a driver with a cell in a file that is edited, and what it says."""

    def run(code, store):
        (tmp_path / "template").write_text(MINE)
        (tmp_path / "mine.py").write_text(MINE.format(shift=7))
        (tmp_path / "driver.py").write_text(RELOADS + code)
        # bytecode of a file that was edited twice in a second can be of the first edit
        space = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        with started(["driver.py", store], tmp_path, **space) as process:
            process.wait()
        return (tmp_path / "0.log").read_text().splitlines()

    return run


@pytest.mark.parametrize("store", ["", "store"])
def test_a_file_that_was_loaded_again_is_loaded_again_by_the_workers(reloads, store):
    assert reloads(RELOADED, store) == []


def test_a_file_that_was_not_loaded_again_is_said(reloads, tmp_path):
    said = reloads(FORGOTTEN, "store")
    remedy = "it, or what it reads, was changed since it was imported; start Python again"
    assert said[0].startswith(f"a worker loads another mine.cell: {remedy}"), said
    assert said[1].startswith(f"a worker loads another mine: {remedy}"), said
    assert len(said) == 2
    assert not stored(tmp_path / "store")
