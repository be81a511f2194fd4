"""The notebooks of the last release run with the library of today, or we know which do not."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tests import toy
from tools import released

pytestmark = pytest.mark.pipeline

IDENTITY = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
DRAW = "from iclkit.rng import stream\n\nstream(seed, profile).normal()"
OLD = "from iclkit.rng import flow\n\nflow(seed, profile).normal()"
RENAMED = """

from iclkit._deprecation import old_names

__getattr__ = old_names(__name__, {"iclkit.rng.flow": ("iclkit.rng.stream", "0.1.0")})
"""


def git(place, *words):
    subprocess.run(["git", "-C", str(place), *IDENTITY, *words], check=True, capture_output=True)


def commit(place, subject):
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", subject)


@pytest.fixture
def place(tmp_path):
    """A repository whose release has a notebook that keeps, one that warns, one that breaks."""
    place = toy.make(tmp_path / "repository")
    short = {"imports": "from iclkit.bench import claims", "figure": "1"}
    toy.write(place, "01_toy", toy.TOY | short)
    toy.write(place, "02_other", toy.OTHER | {"draw": OLD})
    toy.write(place, "03_gone", toy.OTHER | {"draw": "from iclkit.rng import brook"})
    git(place, "init", "-q")
    commit(place, "Release")
    git(place, "tag", "v0.1.0")
    (place / "notebooks/03_gone.ipynb").unlink()
    toy.write(place, "01_toy", toy.TOY | {"figure": "1 / 0"})
    claims = place / "iclkit/data/claims.toml"
    claims.write_text(claims.read_text().replace("TOY-1", "TOY-2"))
    with (place / "iclkit/rng.py").open("a") as file:
        file.write(RENAMED)
    commit(place, "After the release")
    return place


def call(monkeypatch, place, *words):
    monkeypatch.setattr(released, "ROOT", place)
    return CliRunner().invoke(released.main, words)


def test_released_notebooks_meet_the_library_of_today(place, monkeypatch):
    done = call(monkeypatch, place)
    lines = [line for line in done.output.splitlines() if line.startswith("v0.1.0 ")]
    kept, old, gone = lines
    assert kept.startswith("v0.1.0 01_toy: ok, "), "today's claims and notebooks do not matter"
    assert old == (
        "v0.1.0 02_other: ok, but deprecated: iclkit.rng.flow is now iclkit.rng.stream; "
        "the old name goes in 0.2.0"
    )
    assert gone.startswith("v0.1.0 03_gone: FAILS: 03_gone, cell 3 (draw): ImportError: cannot")
    assert done.exit_code == 1
    assert not (place / "_build").exists(), "it works elsewhere"


class TestTag:
    def test_the_newest_version_before_this_commit(self, place):
        git(place, "tag", "v0.10.0-rc1", "HEAD~1")
        git(place, "tag", "v0.9.0", "HEAD~1")
        git(place, "tag", "vain")
        assert released.last_release(place) == "v0.10.0-rc1"

    def test_a_tag_of_another_branch_does_not_count(self, place):
        git(place, "checkout", "-q", "-b", "other", "HEAD~1")
        commit_file = place / "other.txt"
        commit_file.write_text("")
        commit(place, "Elsewhere")
        git(place, "tag", "v9.0.0")
        git(place, "checkout", "-q", "-")
        assert released.last_release(place) == "v0.1.0"

    def test_no_release_is_one_line_and_no_failure(self, tmp_path, monkeypatch):
        git(tmp_path, "init", "-q")
        (tmp_path / "a").write_text("")
        commit(tmp_path, "First")
        done = call(monkeypatch, tmp_path)
        assert done.exit_code == 0
        assert done.output == (
            "released: no tag v* before this commit, so there is no release to try\n"
        )

    def test_a_folder_without_git_is_a_failure(self, tmp_path, monkeypatch):
        done = call(monkeypatch, tmp_path)
        assert done.exit_code == 1
        assert done.output.startswith("released: git cannot be asked for the releases in ")

    def test_a_clone_without_history_is_a_failure(self, place, tmp_path, monkeypatch):
        shallow = tmp_path / "shallow"
        git(tmp_path, "clone", "-q", "--depth", "1", place.as_uri(), str(shallow))
        done = call(monkeypatch, shallow)
        assert done.exit_code == 1
        assert done.output == (
            "released: this clone has no history to look for releases; "
            "git fetch --unshallow --tags\n"
        )

    def test_an_unknown_tag_is_one_line(self, place, monkeypatch):
        done = call(monkeypatch, place, "v7")
        assert done.exit_code == 1
        assert done.output.startswith("released: v7 is no tag of a release with notebooks")
        assert done.output.count("\n") == 1


def test_names_of_a_release(place):
    before = released.public_names(released.sources_at(place, "v0.1.0"))
    now = released.public_names(released.sources_now(place))
    assert "iclkit.rng.stream" in before
    assert released.vanished(before, now, {}) == []
    assert released.vanished(before, now - {"iclkit.rng.stream"}, {}) == ["iclkit.rng.stream"]


def test_only_warnings_of_old_names_are_taken_out():
    line = "/x.py:1: RenamedWarning: iclkit.a.b is now iclkit.a.c; the old name goes in 0.2.0\n"
    other = "/x.py:2: RuntimeWarning: divide by zero\n"
    cells = [
        {
            "outputs": [
                {"output_type": "stream", "name": "stderr", "text": [line, "  b()\n", other]},
                {"output_type": "stream", "name": "stderr", "text": line},
                {"output_type": "stream", "name": "stdout", "text": line},
            ]
        }
    ]
    executed = {"cells": cells}
    found = released.without_renamed(executed)
    assert found == ["iclkit.a.b is now iclkit.a.c; the old name goes in 0.2.0"]
    assert [o["text"] for o in cells[0]["outputs"]] == [other, line]


@pytest.mark.parametrize(("error", "good"), [(False, True), (True, False)])
def test_an_old_name_excuses_nothing_else(tmp_path, error, good):
    text = "/x.py:1: RenamedWarning: iclkit.a.b is now iclkit.a.c; the old name goes in 0.2.0\n"
    outputs = [{"output_type": "stream", "name": "stderr", "text": text}]
    died = {"output_type": "error", "ename": "OSError", "evalue": "no", "traceback": []}
    code = {"cell_type": "code", "id": "a", "metadata": {}, "source": "b()", "execution_count": 1}
    partial = tmp_path / "_build/failed/01_x.ipynb"
    partial.parent.mkdir(parents=True)
    partial.write_text(json.dumps({"cells": [code | {"outputs": outputs + [died] * error}]}))
    (tmp_path / "iclkit/data").mkdir(parents=True)
    (tmp_path / "iclkit/data/claims.toml").write_text("")
    found, words = released.judged(tmp_path, "01_x", "quick", "why")
    assert found is good
    assert words.endswith("deprecated: iclkit.a.b is now iclkit.a.c; the old name goes in 0.2.0")


def test_it_starts_as_a_program(root):
    call = [sys.executable, "tools/released.py", "--help"]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True)
    assert "with the library of today" in " ".join(done.stdout.split()), done.stderr
