"""Where a result comes from: the commit, the machine and the versions behind it."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

from iclkit.bench.sources import installed_version

__all__ = ["commit", "machine", "versions"]

REPORTED = ("numpy", "scipy", "torch", "pandas", "matplotlib", "papermill")


def commit(root: Path) -> str:
    """Return the commit that the sources stand at, with ``+changes`` when they were edited.

    A copy without history, in whose parent folders there may be another repository, has none.
    """
    if not ask_git(root, "ls-files", "pyproject.toml"):
        return "unknown"
    describe = ["describe", "--always", "--exclude=*", "--dirty=+changes", "--abbrev=10"]  # no tags
    return ask_git(root, *describe) or "unknown"


def ask_git(root: Path, *words: str) -> str:
    """Return what git says of a repository, nothing where it is missing or refuses."""
    git = shutil.which("git")
    if git is None:
        return ""
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}  # as hooks set them
    call = [git, "-C", str(root), *words]
    done = subprocess.run(call, capture_output=True, encoding="utf-8", errors="replace", env=own)
    return done.stdout.strip()


def machine() -> str:
    """Return the machine in a few words, without its name."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"


def versions() -> dict[str, str]:
    """Return the versions that a result depends on, of the packages that are there."""
    found = {name: installed_version(name) for name in REPORTED}
    return {"python": platform.python_version()} | {k: v for k, v in found.items() if v}
