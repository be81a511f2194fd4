"""The book offers assignments for self-study, and is not published with a solution in it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from iclkit.classroom.release import Handout
from iclkit.site import assignments, downloads
from iclkit.site.pages import BuildError
from tests import toy
from tests.book import small_book
from tests.iclkit.classroom import toy_course

ONE = Handout("0_toy", "A toy assignment", "01_toy", 3, 15, 30, b"{}")
LIBRARY = downloads.Wheel("iclkit-9-py3-none-any.whl", b"PK\x05\x06" + bytes(18))
TEACHING = f"# Teaching\n\n{assignments.PLACE}\n"
SOLUTION = toy_course.open_solutions(toy_course.SLOPE)
TESTS = toy_course.SLOPE_TESTS


@pytest.fixture
def staging(tmp_path):
    """A folder in which a book is laid out, with one page that asks for the list."""
    for name in ("book", "notebooks"):
        (tmp_path / "src" / name).mkdir(parents=True)
    (tmp_path / "src/book/teaching.md").write_text(TEACHING)
    (tmp_path / "src/book/other.md").write_text("# Other\n")
    return tmp_path / "src"


class TestOffer:
    def test_page_lists_what_can_be_downloaded(self, staging, monkeypatch):
        monkeypatch.setattr(assignments, "self_study", lambda *_, **__: [ONE])
        assignments.offer(staging.parent, staging, LIBRARY, None)
        page = (staging / "book/teaching.md").read_text()
        assert "**A toy assignment**, with {doc}`/notebooks/01_toy`" in page
        assert "3 exercises, 15 points, about 30 minutes" in page
        assert (staging / "notebooks/downloads/0_toy.ipynb").read_bytes() == b"{}"
        with zipfile.ZipFile(staging / "notebooks/downloads/0_toy-bundle.zip") as bundle:
            names = {Path(name).name for name in bundle.namelist()}
        assert {"0_toy.ipynb", LIBRARY.name, "README.txt"} <= names

    def test_without_the_line_nothing_is_made(self, staging, monkeypatch):
        (staging / "book/teaching.md").write_text("# Teaching\n")
        monkeypatch.setattr(assignments, "self_study", None)
        assignments.offer(staging.parent, staging, LIBRARY, None)
        assert not (staging / "notebooks/downloads").exists()

    def test_assignment_that_is_not_in_order_stops_the_build(self, staging):
        toy_course.write(staging.parent).write_text("{}")
        with pytest.raises(BuildError, match="assignments: "):
            assignments.offer(staging.parent, staging, LIBRARY, None)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    place = tmp_path_factory.mktemp("course")
    toy_course.write(place)
    return place


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A small book with a page that was never meant to be there."""
    folder = tmp_path_factory.mktemp("site")
    block = f"# Solved\n\n```python\n{SOLUTION}\n```\n\n```python\n{TESTS}\n```\n"
    pages = {"index.md": "# Start\n\n```{toctree}\nsolved\n```\n", "solved.md": block}
    return small_book.built(folder, pages)


class TestLeaks:
    def test_planted_solution_is_found_in_page_source_and_search_index(self, course, site):
        with pytest.raises(BuildError) as caught:
            assignments.refuse_leaks(course, site)
        said = str(caught.value)
        assert said.startswith("the book would publish solutions:\n")
        for name in ("solved.html", "_sources/solved.md.txt", "searchindex.js"):
            assert f"html/{name}: holds" in said
        assert "index.html" not in said
        assert "np.sum" not in said

    def test_clean_site_passes(self, course, tmp_path):
        site = small_book.built(tmp_path, {"index.md": "# Start\n\nThe slope of a line.\n"})
        assignments.refuse_leaks(course, site)

    def test_secrets_that_cannot_be_read_stop_the_build(self, tmp_path):
        toy_course.write(tmp_path).write_text("{")
        with pytest.raises(BuildError, match="cannot be searched"):
            assignments.refuse_leaks(tmp_path, tmp_path)


@pytest.mark.pipeline
def test_book_offers_assignments_and_keeps_the_last_good_one(tmp_path):
    place = toy.make(tmp_path / "toy", book=True)
    toy_course.write(place)
    index = place / "book/index.md"
    start = index.read_text() + "\n" + assignments.PLACE + "\n"
    index.write_text(start)
    assert (done := build(place)).returncode == 0, done.stderr
    page = place / "_build/html/book/index.html"
    assert "A toy assignment" in page.read_text()
    (student,) = (place / "_build/html/_downloads").rglob("0_toy.ipynb")
    assert 'student = \\"self-study\\"' in student.read_text()
    assert "for studying by yourself" in student.read_text()
    assert "np.sum(x * y)" not in json.dumps(json.loads(student.read_text()))

    before = page.read_text()
    index.write_text(start + f"\n```python\n{SOLUTION}\n```\n")
    refused = build(place)
    assert refused.returncode == 1
    assert "the book would publish solutions" in refused.stderr
    assert "book/index.html: holds a piece of 0_toy/ridge-slope-answer" in refused.stderr
    assert page.read_text() == before


def build(place):
    command = [sys.executable, "-m", "iclkit.cli", "book", "--profile", "quick"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)
