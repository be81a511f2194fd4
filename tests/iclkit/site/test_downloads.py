"""Downloads: the same bytes every time, a script that runs, a bundle that is whole."""

import io
import json
import subprocess
import sys
import zipfile

import pytest
import yaml

from iclkit.site import downloads
from iclkit.site.pages import BuildError
from tests import toy

NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "Prose."]},
        {"cell_type": "code", "source": "if False:\n    %pip install x\n!ls\ny = 5 % 3"},
        {"cell_type": "raw", "source": "raw"},
        {"cell_type": "code", "source": ""},
        {"cell_type": "code", "source": "assert y == 2\n"},
    ]
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("toy"), book=True)


@pytest.fixture(scope="module")
def library(place):
    return downloads.wheel(place)


@pytest.fixture
def staging(tmp_path):
    data = tmp_path / "notebooks/data/01_toy"
    data.mkdir(parents=True)
    (data / "fig-b.csv").write_text("x\n1\n")
    (data / "fig-a.csv").write_text("x\n2\n")
    (data / "fig-a.svg").write_text("<svg/>")
    return tmp_path


def test_script_runs_and_keeps_the_prose():
    text = downloads.script_of(NOTEBOOK)
    assert text.startswith("# %% [markdown]\n# # Title\n#\n# Prose.\n")
    assert "    pass  # in a notebook: %pip install x\n" in text
    exec(compile(text, "script", "exec"), {})  # noqa: S102  # that it runs is the point


def test_every_notebook_of_the_book_makes_a_script(root):
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        compile(downloads.script_of(json.loads(path.read_text())), path.name, "exec")


def test_archives_have_one_date_one_order_and_plain_rights():
    first = downloads.zipped({"b": b"2", "a": b"1"})
    assert first == downloads.zipped({"a": b"1", "b": b"2"})
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == ["a", "b"]
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {i.external_attr >> 16 for i in archive.infolist()} == {0o644}


def test_wheel_is_the_library_and_the_same_every_time(place, library):
    assert library.name.startswith("iclkit-")
    assert library.name.endswith("-py3-none-any.whl")
    assert downloads.wheel(place) == library
    with zipfile.ZipFile(io.BytesIO(library.data)) as archive:
        names = set(archive.namelist())
    assert {"iclkit/__init__.py", "iclkit/data/claims.toml"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_a_wheel_that_cannot_be_built_says_why(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "nothing"\n')
    with pytest.raises(BuildError, match="the library's wheel cannot be built"):
        downloads.wheel(tmp_path)


def test_offer_writes_what_it_names(place, library, staging):
    offered = downloads.offer(place, "01_toy", staging, library, "A toy")
    assert [d.label for d in offered] == [".ipynb", ".py", "data", "bundle"]
    for download in offered:
        assert (staging / "notebooks" / download.path).stat().st_size > 0
    bare = (place / "notebooks/01_toy.ipynb").read_bytes()
    assert (staging / "notebooks/downloads/01_toy.ipynb").read_bytes() == bare
    with zipfile.ZipFile(staging / "notebooks/downloads/01_toy-data.zip") as archive:
        assert archive.namelist() == ["01_toy/fig-a.csv", "01_toy/fig-b.csv"]
        assert archive.read("01_toy/fig-a.csv") == b"x\n2\n"


def test_a_page_without_figures_offers_no_data(place, library, tmp_path):
    (tmp_path / "notebooks").mkdir()
    offered = downloads.offer(place, "02_other", tmp_path, library, "Another")
    assert [d.label for d in offered] == [".ipynb", ".py", "bundle"]
    assert not (tmp_path / "notebooks/downloads/02_other-data.zip").exists()


def test_bundle_holds_all_that_a_reader_needs(place, library):
    notebook = (place / "notebooks/01_toy.ipynb").read_bytes()
    made = downloads.bundle(place, "01_toy", notebook, library, "A toy")
    assert made == downloads.bundle(place, "01_toy", notebook, library, "A toy")
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        names = {name.removeprefix("01_toy/") for name in archive.namelist()}
        words = archive.read("01_toy/README.txt").decode()
    assert {"01_toy.ipynb", library.name, "README.txt", "LICENSE"} <= names
    assert "01_toy.ipynb" in words
    assert library.name in words


def test_the_wheel_of_a_bundle_imports(library, tmp_path):
    file = tmp_path / library.name
    file.write_bytes(library.data)
    code = f"import sys; sys.path.insert(0, {str(file)!r}); import iclkit; print(iclkit.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert library.name in done.stdout


def test_the_folder_is_no_page_in_whatever_path_the_book_lies(root):
    """Sphinx's search for what the contents lack finds nothing in a path with brackets."""
    settings = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    assert f"notebooks/{downloads.FOLDER}" in settings["exclude_patterns"]
