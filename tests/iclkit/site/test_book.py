"""The build publishes what ran, and refuses what is broken: planted defects stop it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from iclkit.site import printing
from iclkit.site.book import mark
from tests import toy

pytestmark = pytest.mark.pipeline


def build(place):
    command = [sys.executable, "-m", "iclkit.cli", "book", "--profile", "quick"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A toy book that was built once; planted defects are taken back."""
    place = toy.make(tmp_path_factory.mktemp("toy") / "an odd pl\u00e4ce", book=True)
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


def test_chapter_begins_with_its_card(place):
    page = (place / "_build/html/notebooks/01_toy.html").read_text()
    card = page[page.index('class="page-card') :].partition("Prose with a link")[0]
    for words in ("On toys", "1 of 1 hold", "add, draw and look", "@incollection", "no record"):
        assert words in card, words
    assert "<table" not in card
    assert ">one minute<" not in page


def test_downloads_are_the_notebook_a_script_its_data_and_a_bundle(place):
    found = {f.name: f for f in (place / "_build/html/_downloads").rglob("01_toy*")}
    assert set(found) == {"01_toy.ipynb", "01_toy.py", "01_toy-data.zip", "01_toy-bundle.zip"}
    stored = (place / "notebooks/01_toy.ipynb").read_bytes()
    assert found["01_toy.ipynb"].read_bytes() == stored
    header = place / "_build/html/_sources/notebooks/01_toy.ipynb"  # behind the theme's own button
    assert header.read_bytes() == stored


def test_health_page_names_every_run(place):
    page = (place / "_build/html/book/health.html").read_text()
    assert page.count("\u2713 ran") == 2
    assert "1 of 1 hold" in page
    facts = json.loads((place / "_build/html/_static/site.json").read_text())
    assert {p["notebook"]: p["claims"] for p in facts["pages"]} == {
        "01_toy": {"holds": 1},
        "02_other": {},
    }


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
    assert "<math" in page
    assert "scripts/mathjax" not in page.lower()
    assert not list((place / "_build/html").rglob("tex-*.js"))


def test_second_build_makes_nothing_again(place):
    before = (place / "_build/html/index.html").stat().st_mtime_ns
    done = build(place)
    assert done.returncode == 0
    assert done.stderr.count("unchanged") == 2
    assert "running" not in done.stderr
    assert (place / "_build/html/index.html").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("html/notebooks/01_toy.html", lambda path: path.write_bytes(path.read_bytes()[:-9])),
        ("html/index.html", Path.unlink),
        ("html.made-from", lambda path: path.write_bytes(b"\xff\xfe")),
    ],
)
def test_a_damaged_book_is_made_again(place, name, damage):
    page = place / "_build/html/notebooks/01_toy.html"
    whole = page.read_bytes()
    damage(place / "_build" / name)
    done = build(place)
    assert done.returncode == 0, done.stderr
    assert (place / "_build/html/index.html").exists()
    assert len(page.read_bytes()) == len(whole)


def test_the_pdf_that_comes_later_is_no_damage(tmp_path):
    site = tmp_path / "html"
    (site / "book").mkdir(parents=True)
    (site / printing.START).write_text("before <!-- pdf --> after")
    (tmp_path / "book.pdf").write_bytes(b"%PDF")
    before = mark("sources", site)
    printing.offer(site, tmp_path / "book.pdf")
    assert mark("sources", site) == before
    (site / "book/page.html").touch()
    assert mark("sources", site) != before


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
        ("notebooks/01_toy.ipynb", "Prose", "#### Too deep\\n\\nProse", "header"),
        ("notebooks/01_toy.ipynb", "| Authors | A. Nobody |\\n", "", "Authors"),
        ("notebooks/01_toy.ipynb", "| Venue |", "| Colour |", "Colour"),
        ("notebooks/01_toy.ipynb", "*On toys*", "{cite:t}`nobody2020`", "nobody2020"),
        ("CITATION.cff", "title:", "name:", "CITATION.cff"),
        ("book/_toc.yml", "  - file: notebooks/02_other\n", "", "02_other"),
        ("pyproject.toml", "README.md", "LOST.md", "wheel"),
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
