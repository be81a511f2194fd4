"""Runs end well or end with notebook, cell and cause; finished ones are not run again."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import psutil
import pytest

from iclkit.bench import origin, runner
from iclkit.bench.runner import Budget, RunError, Task, run_notebooks
from tests import toy

pytestmark = pytest.mark.pipeline


@pytest.fixture
def place(tmp_path):
    return toy.make(tmp_path)


SKIPPED = '"id": "figure", "metadata": {"tags": ["skip-execution"]}'


def run(place, *names, **options):
    lines = []
    runs = run_notebooks(
        names or ["01_toy", "02_other"], root=place, profile="quick", report=lines.append, **options
    )
    return runs, lines


def fresh(place):
    runs, _ = run(place)
    return [r.manifest.notebook for r in runs if r.fresh]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_versions_name_only_what_is_installed(monkeypatch):
    monkeypatch.setattr(origin, "REPORTED", ("numpy", "not-a-package"))
    assert list(origin.versions()) == ["python", "numpy"]


class TestWhole:
    def test_manifest_says_where_a_result_comes_from(self, place):
        before = (place / "notebooks/01_toy.ipynb").read_bytes()
        runs, lines = run(place)
        manifest = json.loads(runs[0].path.with_suffix(".json").read_text())
        assert manifest["notebook"] == "01_toy"
        assert manifest["profile"] == "quick"
        assert manifest["seed"] == 0
        assert 0.5 < manifest["seconds"] < 120
        assert 20 < manifest["peak_memory_mb"] < 3000
        assert {"python", "numpy", "scipy"} <= set(manifest["versions"])
        assert sum(line.startswith("01_toy: done in") for line in lines) == 1
        assert (place / "notebooks/01_toy.ipynb").read_bytes() == before

    def test_only_what_changed_runs_again(self, place):
        assert fresh(place) == ["01_toy", "02_other"]
        assert fresh(place) == []
        edit(place / "notebooks/01_toy.ipynb", "Prose with", "Other prose with")
        edit(place / "iclkit/data/claims.toml", "One half plus", "A half plus")
        edit(place / "iclkit/prompts.py", '"""', '"""Another first line. ')
        assert fresh(place) == [], "prose reruns nothing"
        with (place / "iclkit/prompts.py").open("a") as file:
            file.write("\n\ndef added():\n    return 1\n")
        assert fresh(place) == ["01_toy"], "only the notebook that imports the module"
        edit(place / "iclkit/data/claims.toml", "1e-12", "1e-13")
        assert fresh(place) == ["01_toy"], "a tolerance is code"
        edit(place / "notebooks/02_other.ipynb", '"id": "draw"', '"id": "drawn"')
        assert fresh(place) == ["02_other"], "outputs are found by the id of their cell"
        edit(place / "constraints.txt", "ruff==", "ruff==0")
        edit(place / "constraints.txt", "sphinx-book-theme==", "sphinx-book-theme==0")
        assert fresh(place) == [], "what lints or builds pages computes nothing"
        edit(place / "constraints.txt", "numpy==", "numpy==0")
        assert fresh(place) == ["01_toy", "02_other"]

    def test_damaged_cache_runs_again(self, place):
        runs, _ = run(place, "02_other")
        runs[0].path.write_text(runs[0].path.read_text()[:100])
        runs, _ = run(place, "02_other")
        assert runs[0].fresh

    @pytest.mark.parametrize(("seconds", "reports"), [(9.9, 0), (10.1, 1)])
    def test_slow_run_is_reported(self, place, seconds, reports):
        lines = []
        task = Task("x", "quick", 0, place, Budget(seconds=10), lines.append, threading.Event())
        task.warn_if_slow(seconds)
        assert len(lines) == reports


class TestBroken:
    def failure(self, place, cells, **options):
        toy.write(place, "01_toy", toy.TOY | cells)
        with pytest.raises(RunError) as caught:
            run(place, "01_toy", **options)
        assert not list((place / "_build/cache").glob("*"))
        return str(caught.value)

    def test_raising_cell(self, place):
        message = self.failure(place, {"claim": "def f():\n    return 1 / 0\n\nf()"})
        assert "01_toy, cell 5 (claim): ZeroDivisionError: division by zero" in message
        assert "in f()" in message
        assert "partial output: _build/failed/01_toy.ipynb" in message
        assert (place / "_build/failed/01_toy.ipynb").exists()

    def test_warning(self, place):
        message = self.failure(
            place, {"imports": f"{toy.IMPORTS}\nimport warnings\nwarnings.warn('old')"}
        )
        assert "01_toy, cell 3 (imports): warning or message on stderr" in message
        assert "old" in message

    def test_stale_claim(self, place):
        claim = toy.TOY["claim"].replace("+ 0.5,", "+ 0.501,")
        message = self.failure(place, {"claim": claim})
        assert "TOY-1: out of its limit" in message

    def test_claim_that_is_never_checked(self, place):
        message = self.failure(place, {"claim": "1", "close": "2"})
        assert "TOY-1: not checked" in message

    def test_ledger_that_is_never_closed_still_fails(self, place):
        claim = toy.TOY["claim"].replace("+ 0.5,", "+ 0.501,")
        message = self.failure(place, {"claim": claim, "close": "1"})
        assert "TOY-1: out of its limit" in message

    def test_skipped_cell(self, place):
        toy.write(place, "01_toy", toy.TOY)
        edit(place / "notebooks/01_toy.ipynb", '"id": "figure", "metadata": {}', SKIPPED)
        with pytest.raises(RunError, match=r"01_toy, cell 4 \(figure\): was not run"):
            run(place, "01_toy")

    def test_ledger_of_another_profile(self, place):
        claim = toy.TOY["claim"].replace("profile)", '"paper")')
        message = self.failure(place, {"claim": claim})
        assert "TOY-1" in message
        assert "profile" in message

    def test_source_edited_during_the_run(self, place):
        rng = str(place / "iclkit/prompts.py")
        cell = f"with open({rng!r}, 'a') as file:\n    file.write('EDITED = 1\\n')"
        message = self.failure(place, {"figure": cell})
        assert "01_toy: a source changed while it ran; run it again" in message

    def test_dead_kernel(self, place):
        message = self.failure(place, {"claim": "import os\nos.kill(os.getpid(), 9)"})
        assert "01_toy, cell 5 (claim): its process was killed, by hand or for want of" in message

    def test_time_out(self, place):
        sleeping = {"claim": "import time\ntime.sleep(60)"}
        message = self.failure(place, sleeping, budget=Budget(seconds=12))
        assert re.search(
            r"01_toy, cell 5 \(claim\): time-out after \d+ s, twice its budget", message
        )

    def test_memory(self, place):
        hungry = {"claim": "import time\nblock = bytearray(900_000_000)\ntime.sleep(60)"}
        message = self.failure(place, hungry, budget=Budget(60, memory_gb=0.8))
        assert re.search(r"01_toy, cell 5 \(claim\): uses [\d.]+ GB, its budget is 0.8 GB", message)


SWEEP = toy.OTHER | {
    "draw": """import os
import time
from pathlib import Path

from iclkit.bench.sweep import grid, sweep

def cell(*, k, rng):
    with open(log, "a") as done:
        done.write(f"{k} ")
    if k == 3 and not Path(log).with_name("mended").exists():
        os.kill(os.getpid(), 9)
    time.sleep(0.2)  # so that no two cells are kept together
    return {"y": rng.normal()}


log = os.environ["TOY_LOG"]
sweep(cell, grid(k=range(6)), seed=seed, n_jobs=1)"""
}


TRAINING = toy.OTHER | {
    "train": """import os
from pathlib import Path

from iclkit import nets
from iclkit.bench.store import kept_file
from iclkit.prompts import Gaussian, IsotropicLinear
from iclkit.rng import stream

log = Path(os.environ["TOY_LOG"])
steps = []


def follow(step, steps_in_all, loss):
    steps.append(step)
    if step == 150 and not log.with_name("mended").exists():
        os.kill(os.getpid(), 9)


law = IsotropicLinear(Gaussian(2), noise_var=0.1)
options = {"n_context": 2, "recipe": nets.Recipe(200, 0.01), "rng": stream(seed)}
options |= {"checkpoint": kept_file("toy.pt"), "save_every": 100, "progress": follow}
nets.train(nets.linear_attention(2), law, 40, **options)
log.write_text(str(steps))"""
}


@pytest.fixture
def killed_and_run_again(place, tmp_path, monkeypatch):
    """Run a notebook that is killed, then again; return the second run and what it logged."""

    def again(cells):
        log = tmp_path / "log"
        monkeypatch.setenv("TOY_LOG", str(log))
        toy.write(place, "02_other", cells)
        with pytest.raises(RunError, match="02_other"):
            run(place, "02_other")
        (tmp_path / "mended").touch()
        (second,), _ = run(place, "02_other")
        assert not list((place / "_build/store").iterdir())
        return second, log.read_text()

    return again


def test_a_training_goes_on_where_a_killed_run_stopped(killed_and_run_again):
    _, logged = killed_and_run_again(TRAINING)
    assert logged == "[150, 200]"  # the state of step 100 was kept


def test_a_sweep_goes_on_where_a_killed_run_stopped(killed_and_run_again):
    second, logged = killed_and_run_again(SWEEP)
    assert second.fresh
    assert logged.split() == [*"0123", *"345"]


def test_a_run_that_goes_on_tells_of_all_its_time_and_memory(place, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    toy.write(place, "02_other", SWEEP)
    with pytest.raises(RunError, match="02_other"):
        run(place, "02_other")
    (noted,) = (place / "_build/store").glob("*/spent.json")
    seconds, peak = json.loads(noted.read_text())
    assert seconds > 0.5
    assert peak > 20
    noted.write_text("[1000.0, 2500.0]")
    (tmp_path / "mended").touch()
    (second,), lines = run(place, "02_other")
    assert second.manifest.seconds > 1000.5
    assert second.manifest.peak_memory_mb == 2500
    assert any("02_other: slow, 100" in line for line in lines)
    assert "02_other: large, 2.5 GB where 1.5 GB are stated" in lines


def test_a_long_run_tells_how_far_it_is(place, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(runner, "TELL_SECONDS", 0.0)
    (tmp_path / "mended").touch()
    toy.write(place, "02_other", {**SWEEP, "draw": SWEEP["draw"].replace("0.2", "0.7")})
    _, lines = run(place, "02_other")
    told = r"02_other, cell 3 \(draw\): 0 min so far; cell [1-5] of 6, 00:0\d left"
    assert any(re.fullmatch(told, line) for line in lines)
    assert any(line == "02_other, before the first cell: 0 min so far" for line in lines)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[null, 1]"])
def test_a_damaged_note_of_what_was_spent_counts_as_none(tmp_path, text):
    note = tmp_path / "spent.json"
    assert runner.spent_before(note) == (0, 0)
    note.write_text(text)
    assert runner.spent_before(note) == (0, 0)


@pytest.mark.parametrize(
    ("edit", "end"), [("EDITED = 1", "raise ValueError"), ("def (", "os.kill(os.getpid(), 9)")]
)
def test_checkpoints_of_sources_that_changed_are_removed(place, monkeypatch, tmp_path, edit, end):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    (tmp_path / "mended").touch()
    edited = f"with open({str(place / 'iclkit/rng.py')!r}, 'a') as file:\n"
    edited += f"    file.write({edit + chr(10)!r})\n{end}"
    toy.write(place, "02_other", {**SWEEP, "draw": f"{SWEEP['draw']}\n{edited}"})
    with pytest.raises(RunError, match="02_other, cell 3"):
        run(place, "02_other")
    assert (tmp_path / "log").read_text().split() == [*"012345"]
    assert not list((place / "_build/store").iterdir())


class TestRequest:
    @pytest.mark.parametrize(
        ("cells", "words"),
        [
            ({"parameters": "profile = ="}, "parameters, line 1: invalid syntax"),
            ({"parameters": 'profile = "quick"'}, "must assign profile and seed"),
            (
                {"parameters": 'profile = "quick"\nseed = 0\nmore = 1'},
                "must assign profile and seed",
            ),
        ],
    )
    def test_wrong_parameters(self, place, cells, words):
        toy.write(place, "01_toy", toy.TOY | cells)
        with pytest.raises(RunError, match=words):
            run(place, "01_toy")

    def test_missing_parameters_cell(self, place):
        cells = {key: text for key, text in toy.TOY.items() if key != "parameters"}
        toy.write(place, "01_toy", cells)
        with pytest.raises(RunError, match="exactly one cell tagged parameters, has 0"):
            run(place, "01_toy")

    def test_unknown_notebook(self, place):
        with pytest.raises(ValueError, match="notebook must be one of 01_toy, 02_other, got 05_x"):
            run(place, "05_x")

    def test_negative_seed(self, place):
        with pytest.raises(ValueError, match="seed must be >= 0, got -1"):
            run(place, "01_toy", seed=-1)

    def test_source_that_does_not_parse(self, place):
        edit(place / "iclkit/prompts.py", "import", "imp ort")
        with pytest.raises(RunError, match=r"01_toy: .*prompts.py, line \d+: invalid syntax"):
            run(place, "01_toy")

    def test_unreadable_notebook(self, place):
        (place / "notebooks/01_toy.ipynb").write_text('{"cells": [')
        with pytest.raises(RunError, match=r"01_toy.ipynb is not a readable notebook"):
            run(place, "01_toy")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_being_stopped_leaves_nothing_half_written(place, sent):
    toy.write(place, "02_other", toy.OTHER | {"draw": "import time\ntime.sleep(120)"})
    (place / "_build/cache/run-999999999-left").mkdir(parents=True)
    command = [sys.executable, "-m", "iclkit.cli", "run", "02_other", "--profile", "quick"]
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job started by & is deaf
    options = {"cwd": place, "stderr": subprocess.PIPE, "text": True, "preexec_fn": listen}
    process = subprocess.Popen(command, **options)
    wait_for(lambda: kernels_of(process))
    family = psutil.Process(process.pid).children(recursive=True)
    for _ in range(3):  # people are impatient
        process.send_signal(sent)
        time.sleep(0.05)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in told.splitlines() if "running" not in line]
    assert lines == ["iclkit: stopped; finished notebooks are kept"]
    assert not list((place / "_build/cache").iterdir())
    wait_for(lambda: not any(member.is_running() for member in family))


def kernels_of(process):
    family = psutil.Process(process.pid).children(recursive=True)
    return [member for member in family if "ipykernel_launcher" in " ".join(member.cmdline())]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
