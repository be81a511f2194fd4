"""The lowest and the highest versions: what is asked for, and what is said."""

import re
import sys

import pytest

from iclkit.bench.alone import alone
from tools import lock, versions


@pytest.fixture
def world(tmp_path):
    return versions.World("lowest", sys.executable, tmp_path / "env")


def test_floors_of_the_library_and_its_experiments_are_asked_for():
    asked = versions.requirements()
    assert any(line.startswith("numpy>=") for line in asked)
    assert any(line.startswith("distributed>=") for line in asked)
    assert not any(line.startswith(("jupyter-book", "ruff")) for line in asked)


@pytest.mark.parametrize("kind", versions.FLAGS)
def test_what_is_resolved(kind, world, monkeypatch):
    said = {}

    def called(call, problem, *, text=""):
        said.update(call=call, text=text)
        return "numpy==2.0.0\nnvidia-nvtx==1\ntriton==3\n" if text else "Python 3.11.7\n"

    monkeypatch.setattr(versions, "called", called)
    assert versions.resolved(world._replace(kind=kind)) == ["numpy==2.0.0"]
    assert versions.FLAGS[kind] in said["call"]
    pinned = lock.locked_versions(lock.LOCK.read_text())
    assert f"torch=={pinned['torch']}" in said["text"].splitlines()


def test_oldest_and_newest_python_that_starts(tmp_path, monkeypatch):
    for name, code in (("python3.13", 127), ("python3.12", 0), ("python3.11", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=None)
    assert versions.python_for("highest") == str(tmp_path / "python3.12")
    assert versions.python_for("lowest") == str(tmp_path / "python3.11")


def test_no_other_python_means_this_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {versions.python_for(kind) for kind in versions.FLAGS} == {sys.executable}


def test_a_program_that_fails_is_one_line():
    code = "import sys; sys.exit('first\\nthe reason')"
    with pytest.raises(SystemExit) as stopped:
        versions.called([sys.executable, "-c", code], "cannot be resolved")
    assert str(stopped.value) == "run.py versions: cannot be resolved: the reason"


def test_the_same_versions_twice_at_once_are_one_line(world, monkeypatch):
    monkeypatch.setattr(versions, "make", lambda _: pytest.fail("the second one began"))
    monkeypatch.setattr(versions, "World", lambda *_: world)
    with alone(lock.ROOT, "env-lowest.lock"), pytest.raises(SystemExit) as stopped:
        versions.main(["lowest"])
    assert re.fullmatch(r"run.py versions: process \d+ .* builds in .*", str(stopped.value))


@pytest.mark.parametrize(("passes", "code"), [("True", 0), ("False", 1)])
def test_outcome_of_the_tests_is_said_in_one_line(
    world, monkeypatch, tmp_path, capsys, passes, code
):
    program = world.program
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    test = tmp_path / "test_toy.py"
    test.write_text(f"def test_toy():\n    assert {passes}\n")
    monkeypatch.setattr(versions, "TESTS", (str(test), "-n0"))
    monkeypatch.setattr(versions, "make", lambda _: None)
    monkeypatch.setattr(versions, "World", lambda *_: world)
    assert versions.main(["lowest"]) == code
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith("lowest versions, Python 3.")
    assert ("1 passed" if code == 0 else "1 failed") in said
