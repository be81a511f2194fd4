"""What git knows of the book: its public address, its commit, the changes of each page.

Nothing here fails where git, its history or a public address is missing: the pages say so.
"""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Change", "History", "Log", "address", "commit_link", "launch_ref", "read_log"]

ADDRESS = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w.-]+)+")
START = "\x01"  # begins a commit in the log that we ask for
SHOWN = 5  # changes listed on a page
NO_GIT = "git has no record of it here"
SHALLOW = "this copy of the repository holds its latest commit only"


class Change(NamedTuple):
    """One commit that changed a page."""

    commit: str
    date: str
    subject: str


@dataclass(frozen=True)
class History:
    """The changes of one file, newest first.

    Parameters
    ----------
    changes : tuple of Change
        Every commit that changed it.
    edited : bool
        Whether it was edited since the last of them.
    problem : str
        Why the changes are not known; empty when they are.
    """

    changes: tuple[Change, ...] = ()
    edited: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Log:
    """The changes of many files, newest first, and which were edited since; or why not known."""

    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    edited: frozenset[str] = frozenset()
    problem: str = ""

    def of(self, path: str) -> History:
        """Return the history of one file."""
        if path not in self.changes:
            return History(problem=self.problem or NO_GIT)
        return History(self.changes[path], path in self.edited)


def address(root: Path, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the public address of the repository, without a slash at its end, or None.

    Parameters
    ----------
    root : Path
        The repository.
    environ : dict of str
        The variables in which a continuous integration may give it.

    Raises
    ------
    ValueError
        If pyproject.toml gives something that is no address.

    Notes
    -----
    It stands in one place, ``[project.urls] Repository`` of pyproject.toml. Without it, the
    variables ``GITHUB_SERVER_URL`` and ``GITHUB_REPOSITORY`` count.
    """
    given = in_pyproject(root)
    if given is not None and not ADDRESS.fullmatch(given):
        raise ValueError(f"project.urls.Repository must be like https://..., got {given}")
    server, name = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    found = given or f"{server}/{name}"
    return found.rstrip("/").removesuffix(".git") if ADDRESS.fullmatch(found) else None


def in_pyproject(root: Path) -> str | None:
    """Return the address that pyproject.toml gives, or None."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    given = project.get("urls", {}).get("Repository")
    return None if given is None else str(given).rstrip("/")


def read_log(root: Path, folder: str) -> Log:
    """Return the changes of the files in `folder` of the repository `root`."""
    if git(root, "rev-parse", "--is-shallow-repository") == "true":
        return Log(problem=SHALLOW)
    shape = [f"--format={START}%h%x09%cs%x09%s", "--abbrev=10", "--name-only", "--relative"]
    text = git(root, "log", *shape, "--", folder)
    if not text:
        return Log(problem=NO_GIT)
    changes: dict[str, list[Change]] = {}
    for block in text.split(START)[1:]:
        head, *names = block.split("\n")
        for name in filter(None, names):
            changes.setdefault(name, []).append(Change(*head.split("\t", 2)))
    status = git(root, "diff", "--name-only", "--relative", "HEAD", "--", folder) or ""
    return Log({k: tuple(v) for k, v in changes.items()}, frozenset(status.splitlines()))


def launch_ref(root: Path, version: str) -> str | None:
    """Return the tag or commit that others can open: the tag ``v{version}`` where it is here."""
    tags = (git(root, "tag", "--points-at", "HEAD") or "").split()
    tag = f"v{version}"
    return tag if tag in tags else git(root, "rev-parse", "HEAD")


def paths_at(root: Path, ref: str, folder: str) -> frozenset[str]:
    """Return the files of `folder` that others find under a tag or commit."""
    listed = git(root, "ls-tree", "-r", "--name-only", ref, "--", f"{folder}/") or ""
    return frozenset(listed.splitlines())


def commit_link(commit: str, place: str | None) -> str:
    """Return a commit as MyST Markdown: a link where the repository has an address.

    Examples
    --------
    >>> commit_link("0123abc", None)
    '`0123abc`'
    >>> commit_link("0123abc+changes", "https://example.org/a/b")
    '[`0123abc+changes`](https://example.org/a/b/commit/0123abc)'
    """
    bare = commit.partition("+")[0]
    return f"[`{commit}`]({place}/commit/{bare})" if place and bare != "unknown" else f"`{commit}`"


def git(root: Path, *words: str) -> str | None:
    """Return what git says, or None where it is missing or refuses."""
    program = shutil.which("git")
    if program is None:
        return None
    done = subprocess.run(
        [program, "-C", str(root), "-c", "core.quotePath=false", *words],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    return None if done.returncode else done.stdout.strip()
