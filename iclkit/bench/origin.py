"""Where a result comes from: the commit, the machine and the versions behind it."""

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Final

from iclkit.bench.sources import installed_version

__all__ = ["RECORD", "commit", "machine", "versions"]

#: The record of a sweep of seeds, seen from the root: what a sweep writes is no edit of sources.
RECORD: Final = "iclkit/data/drift.json"

READ = ("iclkit", "notebooks", "pyproject.toml", "constraints.txt")
RESULTS = (f":!{RECORD}", ":!iclkit/data/paper")
REPORTED = ("numpy", "scipy", "torch", "pandas", "matplotlib", "papermill")


def commit(root: Path) -> str:
    """Return the commit that the sources stand at, with ``+changes`` when they were edited.

    A file that a run can read and git does not know is an edit, too; a run that was kept and is
    not yet committed is none. A copy without history, in whose parent folders there may be another
    repository, has none.
    """
    if not ask_git(root, "ls-files", "pyproject.toml"):
        return "unknown"
    known = ask_git(root, "rev-parse", "--short=10", "HEAD")
    edited = ask_git(root, "diff", "--name-only", "HEAD", "--", ".", f":!{RECORD}")
    edited += ask_git(root, "ls-files", "--others", "--exclude-standard", "--", *READ, *RESULTS)
    return known + ("+changes" if edited else "") if known else "unknown"


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
