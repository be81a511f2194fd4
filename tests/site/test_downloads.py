"""What pages offer for download is there and opens: notebooks, scripts, data, pictures, bundles."""

import ast
import io
import json
import re
import zipfile
from xml.etree import ElementTree

import pandas as pd
import pytest

from iclkit.site import printing
from tests.site.watching import pages_of

LINKS = 'a[href*="_downloads/"], a[href*="_sources/"]'
IN_EVERY_CHAPTER = (".ipynb", ".py", "-bundle.zip")


def offered(site, name):
    """The files that a page offers, by name."""
    hrefs = [link["href"] for link in printing.soup_of(site / name).select(LINKS)]
    paths = {((site / name).parent / href).resolve() for href in hrefs}
    return {path.name: path for path in sorted(paths)}


def opened(name, data):
    """Return how much a file holds; raise when it is not what its name says."""
    kind = name.rpartition(".")[2]
    return OPENERS[kind](data)


def notebook(data):
    found = json.loads(data)
    assert found["nbformat"] == 4
    for cell in found["cells"]:
        assert not cell.get("outputs"), cell["id"]
    return len(found["cells"])


def archive(data):
    """A wheel is one too; what is inside must open as well."""
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        inner = [n for n in found.namelist() if n.rpartition(".")[2] in OPENERS]
        assert all(opened(n, found.read(n)) for n in inner if not n.endswith("__init__.py"))
    return len(inner)


OPENERS = {
    "ipynb": notebook,
    "py": lambda data: len(ast.parse(data.decode()).body),
    "csv": lambda data: len(pd.read_csv(io.BytesIO(data))),
    "svg": lambda data: len(ElementTree.fromstring(data)),
    "zip": archive,
    "whl": archive,
    "pdf": lambda data: data.startswith(b"%PDF-1."),
    "json": lambda data: len(json.loads(data)),
    "md": len,
    "js": len,
}


def test_every_file_on_offer_opens(site, name):
    for file, path in offered(site, name).items():
        assert opened(file, path.read_bytes()) > 0, file


def test_every_chapter_offers_itself(site):
    for name in pages_of(site):
        folder, _, page = name.removesuffix(".html").rpartition("/")
        if folder == "notebooks":
            wanted = {page + ending for ending in IN_EVERY_CHAPTER}
            assert wanted - set(offered(site, name)) == set(), name


def test_every_figure_offers_its_data_and_its_code(site):
    """The figure in the file is the figure on the page."""
    total = 0
    for name in pages_of(site):
        files = offered(site, name)
        for file in (f for f in files if f.endswith(".svg")):
            stem = file.removesuffix(".svg")
            assert {f"{stem}.csv", f"{stem}.py"} <= set(files), (name, stem)
            total += 1
    assert total > 50


def test_a_wheel_in_a_bundle_is_the_whole_library(site):
    path = offered(site, "notebooks/04_phase_transition.html")["04_phase_transition-bundle.zip"]
    with zipfile.ZipFile(path) as bundle:
        [wheel] = [name for name in bundle.namelist() if name.endswith(".whl")]
        with zipfile.ZipFile(io.BytesIO(bundle.read(wheel))) as library:
            names = library.namelist()
    assert {"iclkit/risk.py", "iclkit/papers/phase_transition/__init__.py"} <= set(names)
    assert any(re.fullmatch(r"iclkit-[\d.]+\S*\.dist-info/METADATA", name) for name in names)


def test_a_click_downloads(page, site_url):
    page.goto(site_url + "notebooks/04_phase_transition.html")
    link = page.locator('article a[href$="/04_phase_transition.ipynb"]').first
    with page.expect_download() as begun:
        link.click()
    assert notebook(begun.value.path().read_bytes()) > 10


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.ipynb", b"{}"),
        ("a.py", b"def"),
        ("a.csv", b""),
        ("a.svg", b"<svg>"),
        ("a.zip", b"PK"),
    ],
)
def test_a_broken_file_is_seen(name, data):
    with pytest.raises((KeyError, SyntaxError, pd.errors.EmptyDataError, zipfile.BadZipFile)):
        opened(name, data)
