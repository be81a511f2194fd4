"""The build publishes what ran, and refuses what is broken: planted defects stop it."""

import subprocess
import sys

import pytest

from tests import toy

pytestmark = pytest.mark.pipeline


def build(place):
    command = [sys.executable, "-m", "iclkit.cli", "book", "--profile", "quick"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A toy book that was built once; planted defects are taken back."""
    place = toy.make(tmp_path_factory.mktemp("toy"), book=True)
    done = build(place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def planted(place):
    """Return a function that plants text in a file for one test."""
    kept = {}

    def plant(name, old, new):
        path = place / name
        kept.setdefault(path, path.read_text())
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    yield plant
    for path, text in kept.items():
        path.write_text(text)


def test_chapter_shows_figure_and_claim(place):
    page = (place / "_build/html/notebooks/01_toy.html").read_text()
    assert "A straight line that rises from zero to one." in page
    assert "Fig. 1" in page
    assert "A line." in page
    assert 'id="std-claim-TOY-1"' in page
    assert "TOY-1 holds" in page
    assert (place / "_build/html/notebooks/01_toy.html").exists()
    assert list((place / "_build/html/_downloads").rglob("fig-toy.csv"))


def test_ledger_page_has_every_claim(place):
    page = (place / "_build/html/book/ledger.html").read_text()
    assert "TOY-1 holds" in page
    assert 'href="../notebooks/01_toy.html#std-claim-TOY-1"' in page
    assert "new here, not in the paper" in page
    assert "01_toy" in page


def test_start_page_leads_into_the_book(place):
    assert "book/index.html" in (place / "_build/html/index.html").read_text()


def test_formulas_are_drawn_without_network(place):
    page = (place / "_build/html/book/ledger.html").read_text()
    assert "_static/mathjax" in page
    assert "cdn.jsdelivr.net/npm/mathjax" not in page


def test_second_build_makes_nothing_again(place):
    before = (place / "_build/html/index.html").stat().st_mtime_ns
    done = build(place)
    assert done.returncode == 0
    assert done.stderr.count("unchanged") == 2
    assert "running" not in done.stderr
    assert (place / "_build/html/index.html").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("book/index.md", "See", "Look at"),
        ("notebooks/01_toy.ipynb", "Prose", "More prose"),
        ("iclkit/data/claims.toml", "One half plus", "A half plus"),
        ("_config.yml", "title: ", "title: The "),
    ],
)
def test_edited_prose_makes_the_pages_again_and_runs_nothing(place, planted, file, old, new):
    before = (place / "_build/html/index.html").stat().st_mtime_ns
    planted(file, old, new)
    done = build(place)
    assert done.returncode == 0
    assert "running" not in done.stderr
    assert (place / "_build/html/index.html").stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("book/index.md", "{doc}`ledger`", "{doc}`nowhere`", "nowhere"),
        ("book/index.md", "See", "See {claim}`TOY-9`", "TOY-9"),
        ("book/index.md", "See", "See [this](#nowhere)", "nowhere"),
        ("book/index.md", "See", "{cite}`nobody2020`", "nobody2020"),
        ("book/index.md", "See", '<a href="missing.html">that</a>', "missing.html"),
        ("notebooks/01_toy.ipynb", "Prose", "{numref}`fig-lost`", "fig-lost"),
        ("notebooks/01_toy.ipynb", "# A toy\\n", "# A toy\\n\\n#### Too deep\\n", "header"),
        ("notebooks/01_toy.ipynb", "0.5", "0.6", "TOY-1"),
        ("notebooks/01_toy.ipynb", "seed = 0", "seed = 0; extra = 1", "profile and seed"),
        ("notebooks/02_other.ipynb", "stream(seed", "1 / 0; stream(seed", "ZeroDivisionError"),
        ("iclkit/data/claims.toml", 'why       = "rounding"', "", "why"),
    ],
)
def test_planted_defect_stops_the_build(place, planted, file, old, new, words):
    before = (place / "_build/html/index.html").stat().st_mtime_ns
    planted(file, old, new)
    done = build(place)
    assert done.returncode == 1
    assert words in done.stderr
    assert (place / "_build/html/index.html").stat().st_mtime_ns == before, "the last book stays"
