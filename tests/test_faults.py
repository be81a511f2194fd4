"""What is damaged, half-written, locked or of another run is never published."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from random import Random

import psutil
import pytest
from click.testing import CliRunner

from iclkit import cli
from iclkit.bench import alone as locks
from iclkit.bench import archive, cache
from iclkit.bench.alone import BusyError, alone
from iclkit.bench.cache import DamagedError, RunError, load_run
from iclkit.bench.runner import read_notebook, run_notebooks
from tests import faulty, toy

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return faulty.finished(tmp_path_factory.mktemp("built"))


@pytest.fixture
def place(built, tmp_path):
    return faulty.copy_of(built, tmp_path / "copy")


def run(place, *names):
    lines = []
    options = {"root": place, "profile": "quick", "report": lines.append}
    return run_notebooks(names or faulty.KEPT, **options), lines


def call(place, monkeypatch, *words):
    monkeypatch.chdir(place)
    monkeypatch.setattr(cli, "PACKAGE", place / "iclkit")
    return CliRunner().invoke(cli.main, words)


def pair(place, name="02_other"):
    (path,) = (place / "_build/cache").glob(f"{name}-*.ipynb")
    return path, path.with_suffix(".json")


def refuses(path, **asked):
    """Return the reason for which a kept run is not used; there must be one."""
    with pytest.raises(DamagedError) as caught:
        load_run(path, asked)
    return str(caught.value)


# ------------------------------------------------------------------ the cache


class TestDamagedCache:
    def test_every_flipped_bit_of_a_manifest_is_noticed(self, place):
        path, beside = pair(place)
        whole = beside.read_bytes()
        assert load_run(path, {}).manifest.notebook == "02_other"
        for position in range(len(whole)):
            for bit in range(8):
                beside.write_bytes(flipped(whole, position, bit))
                refuses(path)

    def test_a_flipped_bit_anywhere_in_a_notebook_is_noticed(self, place):
        path, _ = pair(place)
        whole, draw = path.read_bytes(), Random(0)
        for position in range(len(whole)):
            path.write_bytes(flipped(whole, position, draw.randrange(8)))
            assert refuses(path) == "its checksum does not fit"

    def test_a_flipped_digit_is_told_and_not_published(self, place):
        path, _ = pair(place, "01_toy")
        before = measured(path)
        path.write_text(path.read_text().replace('"measured": 1.0', '"measured": 1.1'))
        assert measured(path) != before
        runs, lines = run(place)
        assert [r.fresh for r in runs] == [True, False]
        assert "01_toy: the kept run is damaged, its checksum does not fit; it is not used" in lines
        assert measured(path) == before
        assert not run(place, "01_toy")[0][0].fresh

    @pytest.mark.parametrize("share", [0, 0.3, 0.99])
    @pytest.mark.parametrize("which", [0, 1])
    def test_cut_file(self, place, which, share):
        path = pair(place)[which]
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        refuses(pair(place)[0])

    @pytest.mark.parametrize("text", ["[]", "3", "null", '{"notebook": 1}', "{" * 50_000])
    def test_manifest_that_is_something_else(self, place, text):
        path, beside = pair(place)
        beside.write_text(text)
        assert refuses(path) == "its manifest cannot be read"

    @pytest.mark.parametrize("which", [0, 1])
    def test_half_of_a_pair(self, place, which):
        path = pair(place)[0]
        pair(place)[which].unlink()
        assert "No such file" in refuses(path)

    def test_manifest_without_checksum(self, place):
        path, beside = pair(place)
        record = json.loads(beside.read_text())
        del record["checksum"]
        beside.write_text(json.dumps(record))
        assert refuses(path) == "its checksum does not fit"

    def test_manifest_of_another_notebook(self, place):
        path, beside = pair(place)
        beside.write_bytes(pair(place, "01_toy")[1].read_bytes())
        assert refuses(path) == "its checksum does not fit"

    def test_whole_pair_of_another_notebook_or_key(self, place):
        path, beside = pair(place)
        for mine, theirs in zip((path, beside), pair(place, "01_toy"), strict=True):
            mine.write_bytes(theirs.read_bytes())
        assert load_run(path, {}), "the pair itself is whole"
        assert refuses(path, notebook="02_other") == "it is of another run: other notebook"
        assert refuses(path, key="0", seed=0) == "it is of another run: other key"

    @pytest.mark.parametrize("which", [0, 1])
    def test_folder_in_the_place_of_a_result_is_told_before_the_run(self, place, which):
        path = pair(place)[which]
        path.unlink()
        path.mkdir()
        with pytest.raises(RunError, match=r"is in the way of a result; delete or rename it"):
            run(place, "02_other")


def flipped(whole, position, bit):
    return whole[:position] + bytes([whole[position] ^ (1 << bit)]) + whole[position + 1 :]


def measured(path):
    bundles = [
        o.get("data", {}) for c in read_notebook(path)["cells"] for o in c.get("outputs", ())
    ]
    return [b[cache_mime]["measured"] for b in bundles for cache_mime in b if "claim" in cache_mime]


@pytest.mark.parametrize("name", ["_build", "_build/cache", "_build/lock"])
def test_something_else_in_the_place_of_what_is_built(tmp_path, monkeypatch, name):
    place = faulty.make(tmp_path)
    (place / name).parent.mkdir(exist_ok=True)
    if name == "_build/lock":
        (place / name).mkdir()
    else:
        (place / name).touch()
    done = call(place, monkeypatch, "run", "02_other")
    assert done.exit_code == 1
    assert done.output.strip().splitlines()[-1].endswith(f"{place / name}; delete or rename it")
    assert "Traceback" not in done.output


def test_what_is_built_on_another_disk_is_not_deleted(tmp_path, monkeypatch):
    place = faulty.make(tmp_path / "place")
    (tmp_path / "disk").mkdir()
    (place / "_build").symlink_to(tmp_path / "disk")
    done = call(place, monkeypatch, "clean")
    assert done.exit_code == 1
    assert done.output.startswith(f"iclkit: {place / '_build'} is a link to {tmp_path / 'disk'}; ")
    assert done.output.count("\n") == 1


# ------------------------------------------------------------------ sources


class TestDamagedSource:
    @pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.9, 0.999])
    def test_half_written_notebook(self, place, share):
        source = place / "notebooks/01_toy.ipynb"
        source.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
        with pytest.raises(RunError, match=r"01_toy.ipynb is not a readable notebook: [^\n]+$"):
            run(place, "01_toy")

    @pytest.mark.parametrize(
        "cell",
        [
            3,
            {},
            {"source": 1},
            {"source": "", "cell_type": "code"},
            {"source": "", "cell_type": "code", "metadata": {"tags": 3}},
            {"source": [3], "cell_type": "code", "metadata": {}},
            {"source": "", "cell_type": None, "metadata": {}},
            {"source": "", "cell_type": "code", "metadata": {}, "outputs": [3]},
        ],
    )
    def test_cell_that_is_none(self, place, cell):
        source = place / "notebooks/01_toy.ipynb"
        notebook = json.loads(source.read_text())
        source.write_text(json.dumps(notebook | {"cells": [*notebook["cells"], cell]}))
        with pytest.raises(RunError, match=r"01_toy.ipynb is not a readable notebook: [^\n]+$"):
            run(place, "01_toy")

    @pytest.mark.parametrize(
        ("bytes_", "words"), [(b"\xff", "is not UTF-8 text"), (b"\0", "holds a null byte")]
    )
    def test_module_with_a_damaged_byte(self, place, bytes_, words):
        module = place / "iclkit/rng.py"
        module.write_bytes(module.read_bytes() + bytes_)
        with pytest.raises(ValueError, match=f"rng.py {words}"):
            run(place, "02_other")

    def test_claims_cut_anywhere_end_in_one_line(self, place, monkeypatch):
        path = place / "iclkit/data/claims.toml"
        whole = path.read_bytes()
        for end in range(2, len(whole) - 1, 9):
            path.write_bytes(whole[:end])
            done = call(place, monkeypatch, "run", "01_toy", "--profile", "quick")
            assert done.exit_code == 1, whole[:end]
            assert last_line(done).startswith("iclkit: ")
            assert "claim" in last_line(done) or "TOY-1" in last_line(done)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("\0", "claims.toml cannot be read"),
            ("X = 3", "claim X: must be a table, got 3"),
            (toy.CLAIM.replace('"a toy"', "3"), "claim TOY-1: source must be text, got 3"),
            (toy.CLAIM.replace('"close"', "[]"), "claim TOY-1: check must be text, got"),
        ],
    )
    def test_claims_of_another_shape(self, place, monkeypatch, text, words):
        (place / "iclkit/data/claims.toml").write_text(text)
        done = call(place, monkeypatch, "run", "01_toy", "--profile", "quick")
        assert done.output.startswith(f"iclkit: {words}")
        assert done.output.count("\n") == 1

    def test_claims_missing(self, place, monkeypatch):
        (place / "iclkit/data/claims.toml").unlink()
        done = call(place, monkeypatch, "ledger", "--profile", "quick")
        assert done.output.startswith("iclkit: claims.toml cannot be read: ")
        assert done.output.count("\n") == 1

    def test_lock_missing(self, place, monkeypatch):
        (place / "constraints.txt").unlink()
        done = call(place, monkeypatch, "run", "02_other", "--profile", "quick")
        assert last_line(done).endswith("/constraints.txt; restore it")


def last_line(done):
    assert "Traceback" not in done.output
    assert not isinstance(done.exception, Exception), done.exception
    return done.output.strip().splitlines()[-1]


class TestKeptResults:
    def test_stopped_in_the_middle_the_results_before_stay(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archive, "collect", lambda *_, **__: [])
        made = {"notebook": "01_toy", "profile": "paper", "commit": "abc"}
        folder = archive.keep(made, {"cells": []}, tmp_path, witness=[])
        before = (folder / "run.json").read_bytes()
        figure = {"data": {archive.FIGURE_MIME: FIGURE}}
        cell = {"cell_type": "code", "metadata": {}, "source": "1", "outputs": [figure]}
        unwritable = {"cells": [cell]}
        with pytest.raises(OSError, match="name"):
            archive.keep(made | {"commit": "def"}, unwritable, tmp_path, witness=[])
        assert (folder / "run.json").read_bytes() == before
        assert archive.keep(made | {"commit": "def"}, {"cells": []}, tmp_path, witness=[]) == folder
        assert [f.name for f in folder.parent.iterdir()] == ["01_toy"]

    @pytest.mark.parametrize("text", ["", "{", "3", "{}", '{"manifest": {}, "rows": [{}]}'])
    def test_damaged_record_is_named(self, tmp_path, monkeypatch, text):
        monkeypatch.setattr(archive.resources, "files", lambda _: tmp_path)
        (tmp_path / "data/paper/01_toy").mkdir(parents=True)
        (tmp_path / "data/paper/01_toy/run.json").write_text(text)
        with pytest.raises(ValueError, match=r"^data/paper/01_toy/run.json is damaged: [^\n]+$"):
            archive.kept_runs()


FIGURE = {"name": "a" * 300, "csv": "x,n\n1,2\n"}  # no disk takes a name of that length


# ------------------------------------------------------------------ two builds at once

HOLD = "from iclkit.bench.alone import alone\nfrom pathlib import Path\nimport time\n"
HOLD += "with alone(Path('.')):\n    print('held', flush=True)\n    time.sleep(100)\n"


@pytest.fixture
def holder(place):
    """Another process that builds in the place."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], cwd=place, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


class TestTwoBuilds:
    @pytest.mark.parametrize(
        "words",
        [
            *(["run"], ["book"], ["ledger"], ["keep", "01_toy"], ["drift"]),
            *(["clean"], ["zip"], ["pdf"]),
        ],
    )
    def test_second_one_is_told_who_builds(self, place, monkeypatch, holder, words):
        done = call(place, monkeypatch, *words)
        assert done.exit_code == 1
        told = f"iclkit: process {holder.pid} (-c) builds in this checkout; wait until it ends, or "
        assert done.output == f"{told}end it\n"
        assert pair(place)

    def test_a_lock_that_is_a_pipe_is_one_line(self, place, monkeypatch):
        (place / "_build/lock").unlink(missing_ok=True)
        os.mkfifo(place / "_build/lock")
        done = call(place, monkeypatch, "run", "--profile", "quick")
        assert done.exit_code == 1
        pipe = place / "_build/lock"
        assert done.output == f"iclkit: Is a pipe: {pipe}; delete or rename it\n"
        pipe.unlink()

    @pytest.mark.parametrize("words", [["run"], ["book"], ["drift"]])
    def test_no_notebooks_is_one_line(self, tmp_path, place, monkeypatch, words):
        copy = tmp_path / "bare"
        shutil.copytree(place, copy, symlinks=True)
        for notebook in (copy / "notebooks").glob("*.ipynb"):
            notebook.unlink()
        done = call(copy, monkeypatch, *words)
        assert done.exit_code == 1
        assert done.output == (
            f"iclkit: no notebook of a chapter in {copy / 'notebooks'}; restore them\n"
        )

    @pytest.mark.usefixtures("holder")
    def test_reading_needs_no_lock(self, place, monkeypatch):
        assert call(place, monkeypatch, "info").exit_code == 0

    @pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
    def test_lock_is_free_however_its_holder_ends(self, place, monkeypatch, holder, sent):
        holder.send_signal(sent)
        holder.wait(timeout=30)
        assert (place / "_build/lock").read_text().startswith(f"process {holder.pid} ")
        assert call(place, monkeypatch, "run", "--profile", "quick").exit_code == 0

    def test_lock_that_was_deleted_between_opening_and_locking_does_not_count(
        self, tmp_path, monkeypatch
    ):
        taken = []

        def take(file):
            if not taken:
                (tmp_path / "_build/lock").unlink()
            taken.append(file)
            real(file)

        real = locks.take
        monkeypatch.setattr(locks, "take", take)
        with alone(tmp_path):
            assert len(taken) == 2
            monkeypatch.setattr(locks, "take", real)
            with pytest.raises(BusyError), alone(tmp_path):
                pytest.fail("held twice")

    def test_disk_without_locks_builds_all_the_same(self, tmp_path, monkeypatch):
        def flock(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(locks.fcntl, "flock", flock)
        with alone(tmp_path):
            pass


# ------------------------------------------------------------------ killed


def test_driver_killed_in_the_middle_goes_on_where_it_was(place):
    marker = place / "began"
    sleep = f"import pathlib, time\n\np = pathlib.Path({str(marker)!r})\nbegan = p.exists()\n"
    faulty.other(place, f"{sleep}p.touch()\ntime.sleep(0 if began else 200)")
    command = [sys.executable, "-m", "iclkit.cli", "run", "--profile", "quick", "--jobs", "1"]
    driver = subprocess.Popen(command, cwd=place, stderr=subprocess.DEVNULL)
    wait_for(marker.exists)
    orphans = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    assert len(orphans) >= 2, "papermill and its kernel"
    with alone(place):
        assert any(o.is_running() for o in orphans), "they go on, but hold no lock"
    runs, _ = run(place)
    assert [r.fresh for r in runs] == [False, True], "what was finished is kept"
    wait_for(lambda: not any(o.is_running() and o.status() != "zombie" for o in orphans))
    assert not list((place / "_build/cache").glob("run-*"))


def test_leftovers_of_a_strange_name_are_deleted_and_living_ones_stay(tmp_path):
    for name in ("run-x-y", "run-999999999-a", f"run-{os.getpid()}-b"):
        (tmp_path / name).mkdir()
    cache.remove_leftovers(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [f"run-{os.getpid()}-b"]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
