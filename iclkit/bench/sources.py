"""What an executed notebook depends on: the key under which its result is kept.

Stock notebook caches look at the code cells only and would publish stale numbers after an edit
of the library. This key covers the code cells, the parameters, the ``iclkit`` sources that the
notebook imports (with everything that those import), the data that they can read, the data
packages that are installed, the claims it must check, the locked versions of the packages that a
run can use, and the Python version. Markdown, and docstrings and comments of the library, are
prose: they leave it unchanged. So do packages that only build pages, grade or check.
"""

import ast
import hashlib
import json
import re
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from iclkit.bench import claims
from iclkit.bench.fingerprint import APART

__all__ = [
    "cache_key",
    "computing_digest",
    "imported_sources",
    "installed_version",
    "modules_named",
]

PACKAGE = "iclkit"
NOT_READ = ("claims.toml", "drift.json", "run.json")  # of the data files, by notebooks
READERS = {"claims.py": (), "kept.py": ("paper",)}  # modules with data of their own, its folders
RUNNING = ("bench", "data", "nets")  # the extras that a run can use, besides the core


def cache_key(name: str, notebook: dict[str, Any], parameters: dict[str, Any], root: Path) -> str:
    """Return the key of one run of a notebook, 20 hexadecimal digits.

    Parameters
    ----------
    name : str
        The notebook's name without ending, as in the claims file.
    notebook : dict
        The notebook, as parsed JSON.
    parameters : dict
        What tells the run from others; the profile among it chooses the tolerances.
    root : Path
        The repository.
    """
    sources = imported_sources("\n".join(code_cells(notebook)), root)
    parts = {
        "cells": [cell_parts(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"],
        "parameters": parameters,
        "sources": {path.relative_to(root).as_posix(): without_prose(path) for path in sources},
        "data": {
            path.relative_to(root).as_posix(): digest(path.read_bytes())
            for path in data_read(sources, root)
        },
        "claims": claims.profile_slice(
            name, parameters["profile"], root / PACKAGE / "data" / "claims.toml"
        ),
        "lock": pins(root),
        "corpora": corpora_there(sources, root),
        "python": sys.version,
    }
    return digest(json.dumps(parts, sort_keys=True).encode())


def computing_digest(notebook: dict[str, Any], root: Path) -> str:
    """Return a digest of what computes a notebook's numbers, without prose.

    These are its code cells and the modules of ``iclkit`` that they import, but for those that only
    check, show or grade. It is for telling an edit, and says nothing of versions and data.

    Parameters
    ----------
    notebook : dict
        The notebook, as parsed JSON.
    root : Path
        The repository with the modules.
    """
    cells = code_cells(notebook)
    found = {p.relative_to(root / PACKAGE): p for p in imported_sources("\n".join(cells), root)}
    modules = {
        name.as_posix(): without_prose(path)
        for name, path in found.items()
        if name.parts[0] not in APART
    }
    parts = [[digest_of_code(magics_out(cell)) for cell in cells], modules]
    return digest(json.dumps(parts, sort_keys=True).encode())


def cell_parts(cell: dict[str, Any]) -> list[Any]:
    """Return what of a code cell a run and its page depend on; a tag can keep it from running."""
    return [cell.get("id"), sorted(cell["metadata"].get("tags", [])), "".join(cell["source"])]


def code_cells(notebook: dict[str, Any]) -> list[str]:
    """Return the sources of the code cells."""
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def imported_sources(code: str, root: Path) -> list[Path]:
    """Return the files of ``iclkit`` that `code` imports, directly or not, sorted."""
    found: set[Path] = set()
    waiting = [path for name in modules_named(code) for path in files_of(name, root)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        text = text_of(path)
        package = path.relative_to(root).parent.as_posix().replace("/", ".")
        named = modules_named(text, package, path.name)
        waiting += [file for name in named for file in files_of(name, root)]
    return sorted(found)


def modules_named(code: str, package: str = "", file: str = "notebook") -> list[str]:
    """Return the dotted names below ``iclkit`` that `code` imports anywhere, functions included."""
    return list(names_imported(code, package, file))


@cache  # all notebooks import the same modules
def names_imported(code: str, package: str, file: str) -> tuple[str, ...]:
    """Return the names of `modules_named`, sorted."""
    names: list[str] = []
    for node in ast.walk(ast.parse(magics_out(code), file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(sorted({name for name in names if name.split(".")[0] == PACKAGE}))


def absolute(node: ast.ImportFrom, package: str) -> str:
    """Return the module that a ``from`` import reads, relative dots resolved."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def magics_out(code: str) -> str:
    """Return the code with ``pass`` for IPython's ``%`` and ``!`` lines, unknown to Python."""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)


def files_of(name: str, root: Path) -> list[Path]:
    """Return the files that importing the dotted `name` runs: its packages and itself."""
    parts = name.split(".")
    files = []
    for i in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:i])
        files += [place / "__init__.py", place.with_suffix(".py")]
    return [file for file in files if file.is_file()]


def data_read(sources: list[Path], root: Path) -> list[Path]:
    """Return the data files that the sources read; the claims have a part of their own.

    What a sweep of the seeds found, and verdicts at paper size, are read by pages alone, and would
    rerun what they tell of. Points of runs at paper size are read through one module.
    """
    data = root / PACKAGE / "data"
    readers = {path.name for path in sources if "resources" in text_of(path)}
    folders = {folder for name in readers for folder in READERS.get(name, ())}
    found = [path for folder in folders for path in (data / folder).rglob("*")]
    if readers - set(READERS):
        found += data.glob("*")
    return sorted(file for file in found if file.is_file() and file.name not in NOT_READ)


def corpora_there(sources: list[Path], root: Path) -> dict[str, str | None]:
    """Return the installed versions of the data packages, if a source can open them."""
    if not any((root / PACKAGE / "corpora") in path.parents for path in sources):
        return {}
    lines = text_of(root / "data-packages.txt").splitlines()
    names = [line.partition("==")[0] for line in lines if "==" in line]
    return {name: installed_version(name) for name in names}


def pins(root: Path) -> list[str]:
    """Return the lines of the lock for the packages that a run can use, with all that they need.

    A line says so where another version is installed, as after a ``pip install`` by hand.
    """
    lock = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {})
    asked = [*project["dependencies"], *(line for name in RUNNING for line in extras.get(name, []))]
    used = needed(frozenset(canonicalize_name(Requirement(line).name) for line in asked))
    own = [line for line in lock if canonicalize_name(line.partition("==")[0]) in used]
    return [line + otherwise(line) for line in own]


def otherwise(line: str) -> str:
    """Return the words for a package that is not installed as a line of the lock has it.

    The label of a build, such as the end of ``2.0+cpu``, is no part of the version.
    """
    name, _, pinned = line.partition(";")[0].strip().partition("==")
    there = installed_version(name)
    return "" if there and there.partition("+")[0] == pinned else f" ({there} is installed)"


@cache
def needed(names: frozenset[str]) -> frozenset[str]:
    """Return the names of installed packages with those of all that they need."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= requirements(name) - found
    return frozenset(found)


def requirements(name: str) -> set[str]:
    """Return what an installed package needs on this machine; nothing where it is missing."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return set()
    asked = [Requirement(line) for line in lines]
    here = [r for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]
    return {canonicalize_name(r.name) for r in here}


def installed_version(name: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def without_prose(path: Path) -> str:
    """Return a digest of what a source does: its syntax tree without docstrings."""
    return digest_of_code(text_of(path))


def text_of(path: Path) -> str:
    """Return the text of a source; raise ValueError with its name when it is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}; restore it") from error
    if "\0" in text:
        raise ValueError(f"{path} holds a null byte; restore it")
    return text


@cache
def digest_of_code(text: str) -> str:
    """Return the digest of a syntax tree without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return digest(ast.dump(tree).encode())


def digest(data: bytes) -> str:
    """Return 20 hexadecimal digits of the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()[:20]
