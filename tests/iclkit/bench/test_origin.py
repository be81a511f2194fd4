"""A commit is called clean only if git knows every file that a run can read."""

import subprocess

import pytest

from iclkit.bench import origin


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    return tmp_path


def git(place, *words):
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(place), *who, *words], check=True)


@pytest.mark.parametrize(
    ("path", "edited"),
    [
        ("iclkit/untracked.py", True),
        ("iclkit/data/more.csv", True),
        ("notebooks/05_new.ipynb", True),
        ("constraints.txt", True),
        ("iclkit/data/paper/01_toy/run.json", False),
        (origin.RECORD, False),
        ("iclkit/__pycache__/a.pyc", False),
        ("notes.txt", False),
    ],
)
def test_a_file_that_git_does_not_know(repository, path, edited):
    file = repository / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("new")
    assert origin.commit(repository).endswith("+changes") is edited
