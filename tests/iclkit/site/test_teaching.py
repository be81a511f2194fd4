"""The teaching page: plans that add up, links that lead somewhere, numbers that nobody typed."""

import io
import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from iclkit.bench.records import FIGURE_MIME
from iclkit.bench.runner import Manifest, Run, notebook_names, read_notebook
from iclkit.classroom.source import assignments
from iclkit.site import teaching
from iclkit.site.cards import Citation
from iclkit.site.pages import BuildError

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "book/teaching.md").read_text(encoding="utf-8")
CITATION = Citation("A *book*", "{The authors}", "2026")
PLAN = re.compile(r"^### ([^\n]+), (50|90) minutes$(.*?)(?=^###? |\Z)", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^\| (\d+) \| (.*)$", re.MULTILINE)
EXERCISE = re.compile(r"\{exercise\}[^\n]*\n:label: (\S+)\n\n\*\w+, (\d+) minutes;")
TARGET = re.compile(r":label: (\S+)|\bname=\\?\"([\w-]+)\\?\"")
ROLE = re.compile(r"\{(?:prf:ref|numref|ref)\}`(?:[^`<]*<)?([^`>]+)>?`")
WHITE = '<g id="patch_1">\n<path d="M 0 1" style="fill: #ffffff"/></g>'


def sources():
    cells = [c for name in notebook_names(ROOT) for c in read(name)["cells"]]
    return "\n".join("".join(cell["source"]) for cell in cells)


def read(name):
    return read_notebook(ROOT / f"notebooks/{name}.ipynb")


class TestLessons:
    PLANS = PLAN.findall(PAGE)

    def test_primer_and_each_chapter_have_two(self):
        names = ["Primer", "Chapter 1", "Chapter 2", "Chapter 3", "Chapter 4"]
        assert [(name, length) for name, length, _ in self.PLANS] == [
            (name, length) for name in names for length in ("50", "90")
        ]

    @pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p[0]}-{p[1]}")
    def test_minutes_add_up(self, plan):
        assert sum(int(minutes) for minutes, _ in LINE.findall(plan[2])) == int(plan[1])

    def test_exercises_in_class_fit_into_their_minutes(self):
        needs = {label: int(minutes) for label, minutes in EXERCISE.findall(sources())}
        given = [
            (int(minutes), ROLE.findall(text)[0])
            for _, _, plan in self.PLANS
            for minutes, text in LINE.findall(plan)
            if text.startswith("In pairs:")
        ]
        assert len(given) >= len(self.PLANS)
        assert [(label, minutes) for minutes, label in given if minutes < needs[label]] == []

    def test_every_plan_shows_a_figure_asks_and_gives_homework(self):
        for name, length, plan in self.PLANS:
            where = (name, length)
            assert "{numref}" in plan, where
            assert plan.count("?") >= 4, where
            assert "Homework:" in plan, where

    def test_links_lead_to_what_there_is(self):
        known = {a or b for a, b in TARGET.findall(sources())} | {"student-notebooks"}
        known |= {f"selfcheck-{name}" for name in notebook_names(ROOT)}
        named = ROLE.findall(PAGE)
        assert len(named) > 60
        assert set(named) <= known


class TestWorkload:
    def one(self, **more):
        rubric = [SimpleNamespace(points=3)]
        about = {"minutes": 20, "kind": "code", "difficulty": "hard"}
        item = SimpleNamespace(title="A | b", about=about)
        item.tests = SimpleNamespace(points=8, rubric=rubric)
        return SimpleNamespace(title="Toys", items=[item, item], **more)

    def test_sums_minutes_and_points(self):
        text = teaching.workload([self.one()])
        assert "| Toys | 2 | 40 | 10 | 6 |" in text
        assert r"| A \| b | code | hard | 20 | 5 | 3 |" in text

    def test_book_says_as_much_as_the_assignments(self):
        given = assignments(ROOT)
        text = teaching.workload(given)
        assert text.count("{dropdown}") == len(given) == 5

    def test_assignment_that_is_not_in_order_stops_the_build(self, tmp_path):
        (tmp_path / "notebooks/assignments").mkdir(parents=True)
        (tmp_path / "notebooks/assignments/1_toy.ipynb").write_text("{}")
        with pytest.raises(BuildError, match="assignments: 1_toy"):
            teaching.offer(tmp_path, tmp_path, [], CITATION)


@pytest.fixture
def runs(tmp_path):
    """One run with two figures, of which one is there as SVG."""
    record = {"name": "toy-line", "caption": "New here: a line, {eq}`x`.", "alt": "It rises."}
    outputs = [
        {
            "output_type": "display_data",
            "data": {FIGURE_MIME: record, "image/svg+xml": ["<svg a='1'>", WHITE, "</svg>"]},
        },
        {"output_type": "display_data", "data": {FIGURE_MIME: record | {"name": "toy-none"}}},
    ]
    cell = {"cell_type": "code", "id": "x", "source": "", "metadata": {}, "outputs": outputs}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = tmp_path / "04_toy.ipynb"
    path.write_text(json.dumps(notebook))
    about = {"key": "k", "commit": "c", "date": "d", "seconds": 1, "peak_memory_mb": 1}
    more = {"machine": "m", "versions": {}, "profile": "book", "seed": 3}
    return [Run(path, Manifest(notebook="04_toy", **about, **more), fresh=False)]


class TestSlides:
    def unpacked(self, runs):
        with zipfile.ZipFile(io.BytesIO(teaching.slides(ROOT, runs, CITATION))) as archive:
            return {name: archive.read(name).decode() for name in archive.namelist()}

    def test_archive_holds_figures_captions_and_licences(self, runs):
        files = self.unpacked(runs)
        names = ("LICENSE", "LICENSE-text.md", "README.md", "toy-line.svg")
        assert sorted(files) == [f"figures/{name}" for name in names]
        words = files["figures/README.md"]
        assert "as SVG (1)" in words
        assert "**toy-line.svg** New here: a line, x." in words
        assert "The authors: A *book*." in words

    def test_same_runs_give_the_same_bytes(self, runs):
        assert teaching.slides(ROOT, runs, CITATION) == teaching.slides(ROOT, runs, CITATION)

    def test_ground_is_white_where_none_was_drawn(self):
        drawn = f"<svg>{WHITE}</svg>"
        assert teaching.on_white(drawn) == drawn
        assert '<svg role="img">\n <rect width="100%"' in teaching.on_white(
            '<svg role="img"></svg>'
        )

    def test_page_links_to_it(self, runs, tmp_path):
        (tmp_path / "src/book").mkdir(parents=True)
        (tmp_path / "src/notebooks").mkdir()
        (tmp_path / "src/book/teaching.md").write_text(f"# T\n\n{teaching.SLIDES}, and\n")
        teaching.offer(tmp_path, tmp_path / "src", runs, CITATION)
        text = (tmp_path / "src/book/teaching.md").read_text()
        link = re.search(r"\{download\}`[^<]+ </(.*)>`, and", text)
        assert zipfile.is_zipfile(tmp_path / "src" / link[1])
