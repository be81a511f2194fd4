"""A class as an instructor grades it: one command, honest and hostile students, a killed run."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from iclkit import cli
from iclkit.classroom import grading
from iclkit.classroom.sandbox import strongest
from iclkit.classroom.source import assignment
from tests.iclkit.classroom import hostile
from tests.iclkit.classroom import toy_course as toy

MINUTES = 10  # for 30 students on two cores
WORST = ["", "=cmd|' /C calc'!A0", "\u202eevil", "a\\b"]
CHOSEN = {  # of each kind; all of them, one by one, are in test_hostile
    "PRETENDING": ("silenced errors", "printed score", "patched numpy", "always equal"),
    "ENDING": ("exit in the cell",),
    "ENDLESS": ("loop that swallows everything",),
    "LARGE": ("memory", "large array"),
}
ACTIONS = {  # here the cell does something, and returns what it found
    "PROCESSES": ("fork bomb", "kill the parent"),
    "WRITING": ("remove all",),
    "NETWORK": ("connect",),
    "READING": ("open", "marking by import"),
    "MACHINERY": ("changed builtins",),
}
ATTACKS = {
    "forged reply": hostile.forged(hostile.FRAMES["right answers"]),
    **{name: getattr(hostile, kind)[name] for kind, names in CHOSEN.items() for name in names},
    **{
        f"{kind.lower()} - {name}": hostile.cell_of({name: getattr(hostile, kind)[name]})
        for kind, names in ACTIONS.items()
        for name in names
    },
}
CALLED = """
def ridge_slope(x, y, penalty):
    return globals().get("double", globals().get("action_0"))(float(x[0]))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository with one assignment, one submission, and the working folder in it."""
    made = repository(tmp_path)
    monkeypatch.chdir(made / "repository")
    return made


def repository(folder):
    (folder / "repository").mkdir()
    toy.write(folder / "repository")
    (folder / "repository/_config.yml").write_text("")
    toy.seed_file(folder)
    toy.hand_in(folder / "submitted", "ada", toy.submission(toy.reference()))
    return folder


def call(place, *more, out="out", folder="submitted", options=()):
    options = ["--seed", place / "seed.txt", "--out", place / out, *more, *options]
    return CliRunner().invoke(cli.main, ["grade", *map(str, [place / folder, *options])])


def rows(place, out="out"):
    with (place / out / "grades.csv").open(encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


# ------------------------------------------------------------------ the command


def test_one_command_makes_everything(place):
    done = call(place, "--jobs", "1")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{place / 'out/grades.csv'}\n"
    assert "grade: 1 graded, 0 kept from before, 0 without a readable notebook" in done.stderr
    assert rows(place)["ada"]["total"] == "12"
    for name in ("summary.html", "gradebook.db", "feedback/ada/0_toy.html"):
        assert (place / "out" / name).stat().st_size > 1000
    assert "0 graded, 1 kept" in call(place).stderr


def test_nothing_secret_is_in_the_results(place):
    call(place)
    for path in (place / "out").rglob("*"):
        if path.is_file():
            assert str(toy.COURSE.seed).encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("call_with", "words"),
    [
        ({"folder": "missing"}, "there is no folder"),
        ({"folder": "empty"}, "holds no notebook to grade"),
        ({"out": "submitted/ada/out"}, "lies in"),
        ({"out": "submitted"}, "lies in"),
        ({"out": "seed.txt"}, "is a file; name a folder"),
        ({"options": ["--assignment", "toy"]}, "no assignment 'toy'; known: 0_toy"),
        ({"options": ["--seed", "../missing"]}, "no seed could be read"),
        ({"options": ["--seed", "_config.yml"]}, "the seed must lie outside the repository"),
    ],
)
def test_what_is_in_the_way_is_one_line(place, call_with, words):
    (place / "empty/ada").mkdir(parents=True)
    done = call(place, **call_with)
    assert done.exit_code == 1
    assert done.stderr.startswith("iclkit: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (place / "submitted/grades.csv").exists()


def test_results_among_the_submissions_are_not_graded(place):
    call(place)
    done = call(place, folder="out/autograded", out="out")
    assert "lies among the results" in done.stderr


def test_another_grading_is_waited_for(place):
    import fcntl

    (place / "out").mkdir()
    with (place / "out/.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another grading is writing into" in call(place).stderr
    assert call(place).exit_code == 0


def test_a_full_disk_is_one_line_and_loses_nothing(place, monkeypatch):
    monkeypatch.setattr(grading.sandbox, "run", toy.run_here)
    for name in ("bob", "carl"):
        toy.hand_in(place / "submitted", name, toy.handed_out())
    written, sync = [], os.fsync

    def full(number):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(number)
        sync(number)

    monkeypatch.setattr(os, "fsync", full)
    done = call(place, "--jobs", "1")
    assert done.exit_code == 1
    assert "No space left on device; what is graded is kept, run again to go on" in done.stderr
    monkeypatch.setattr(os, "fsync", sync)
    (place / "out/results/ada/.part-of-a-killed-run").write_text("{")
    done = call(place)
    assert not list((place / "out").rglob(".part-*"))
    assert "1 graded, 2 kept from before" in done.stderr
    assert len(rows(place)) == 3


def test_loose_notebooks_and_odd_names_are_said_and_the_rest_is_graded(place, monkeypatch):
    monkeypatch.setattr(grading.sandbox, "run", toy.run_here)
    (place / "submitted/0_toy.ipynb").write_text("{}")
    for name in WORST[1:]:
        toy.hand_in(place / "submitted", name, toy.submission(toy.reference()))
    done = call(place)
    assert "not graded, as in no student's folder: 0_toy.ipynb" in done.stderr
    got = rows(place)
    assert len(got) == len(WORST)
    assert got["ada"]["total"] == "12"
    assert all("folder is renamed" in row["remark"] for name, row in got.items() if name != "ada")
    assert "0_toy.ipynb" in (place / "out/summary.html").read_text(encoding="utf-8")


# ------------------------------------------------------------------ a class of thirty


def mistakes(folder):
    """Yield a student per documented mistake, and the points that are left."""
    for item in assignment(folder / "repository/notebooks/assignments/0_toy.ipynb").items:
        for mistake in item.tests.mistakes:
            yield f"{item.key}.{mistake.name}", toy.with_mistake(item.key, mistake), mistake.loses


def honest(folder):
    """Hand in right, wrong and empty notebooks; return the points that they must have."""
    given = folder / "submitted"
    points = {"ada": 12, "Grace Hopper": 12, "\u0141ukasz": 12, "untouched": 0}
    for name in points:
        toy.hand_in(given, name, toy.submission(toy.reference()))
    toy.hand_in(given, "untouched", toy.handed_out())
    for name, answers, loses in mistakes(folder):
        toy.hand_in(given, name, toy.submission(answers))
        points[name] = 12 - loses
    return points


def attackers(folder, root):
    """Hand in notebooks that attack; return the points that they must have."""
    given, scratch = folder / "submitted", folder / "scratch"
    scratch.mkdir()
    (scratch / "kept").write_text("kept")
    names = {"SECRET": folder / "seed.txt", "LIBRARY": root, "PORT": 9}
    names = {"SCRATCHNAME": "harm", "SCRATCH": scratch} | names
    for name, cell in ATTACKS.items():
        for word, value in names.items():
            cell = cell.replace(word, str(value))
        answers = toy.reference() | {"ridge-slope-answer": textwrap.dedent(cell) + CALLED}
        toy.hand_in(given, f"x {name}", toy.submission(answers))
    files = attacking_files(given)
    return {f"x {name}": 6 for name in ATTACKS} | files


def attacking_files(given):
    """Hand in files that attack the reader of notebooks."""
    large = toy.submission(toy.reference())
    large["cells"][1]["outputs"] = [{"output_type": "stream", "text": "x" * 50_000_000}]
    toy.hand_in(given, "y large", large)
    toy.hand_in(given, "y broken", b'{"cells": [')
    marked = toy.handed_out()
    for cell in marked["cells"]:
        cell["metadata"] = {"nbgrader": {"grade": True, "points": 99, "grade_id": cell["id"]}}
    toy.hand_in(given, "y marked", marked)
    (given / "y thief").mkdir()
    (given / "y thief/0_toy.ipynb").symlink_to(given / "ada/0_toy.ipynb")
    return {"y large": 12, "y broken": 0, "y marked": 0, "y thief": 0}


def command(folder, out):
    """The grading of a class as a process of its own, the way a person starts it."""
    options = [folder / "submitted", "--seed", folder / "seed.txt", "--out", folder / out]
    program = [sys.executable, "-m", "iclkit.cli", "grade", *map(str, options), "--jobs", "2"]
    where = folder / "repository"
    return subprocess.Popen(program, cwd=where, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The class, graded once without interruption: folder, points, seconds."""
    folder = repository(tmp_path_factory.mktemp("class"))
    points = honest(folder) | attackers(folder, Path(__file__).resolve().parents[3])
    start = time.monotonic()
    process = command(folder, "out")
    _, error = process.communicate()
    assert process.returncode == 0, error.decode()
    return folder, points, time.monotonic() - start


@pytest.mark.pipeline
@pytest.mark.timeout(900)
def test_a_class_has_the_points_that_it_deserves(graded):
    folder, points, seconds = graded
    assert len(points) >= 30
    got = rows(folder)
    assert {name: float(row["total"]) for name, row in got.items()} == points
    assert seconds < 60 * MINUTES


@pytest.mark.pipeline
@pytest.mark.timeout(900)
def test_attacks_harm_nothing_and_reach_no_secret(graded):
    folder, points, _ = graded
    assert [path.name for path in (folder / "scratch").iterdir()] == ["kept"]
    assert {path.parent.name for path in (folder / "submitted").glob("*/0_toy.ipynb")} == set(
        points
    )
    for path in (folder / "out").rglob("*"):
        assert path.is_dir() or str(toy.COURSE.seed).encode() not in path.read_bytes()
    remarks = {name: row["remark"] for name, row in rows(folder).items() if points[name] == 12}
    assert set(remarks.values()) == {""}


@pytest.mark.pipeline
@pytest.mark.timeout(900)
def test_a_killed_grading_goes_on_and_gives_the_same_table(graded):
    folder, points, _ = graded
    killed = command(folder, "again")
    results = folder / "again/results"
    while len(list(results.glob("*/*.json"))) < 8:
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = {path: path.stat().st_mtime_ns for path in results.glob("*/*.json")}
    assert not (folder / "again/grades.csv").exists()
    _, error = (resumed := command(folder, "again")).communicate()
    assert resumed.returncode == 0
    assert f"{len(before)} kept from before" in error.decode()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name in ("grades.csv", "summary.html"):
        assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes()
    for name in points:
        pages = [folder / out / f"feedback/{name}/0_toy.html" for out in ("out", "again")]
        assert pages[0].read_bytes() == pages[1].read_bytes()


def test_the_level_of_isolation_can_be_named(place):
    done = call(place, "--isolation", strongest().value)
    assert done.exit_code == 0
    kept = json.loads((place / "out/results/ada/0_toy.json").read_bytes())
    assert kept["result"]["parts"][0]["marks"][0]["points"] == 3
