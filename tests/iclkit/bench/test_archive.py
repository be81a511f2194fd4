"""Kept results come from whole paper-size runs, and say where they were made."""

import math
import platform
import re
from dataclasses import replace

import pandas as pd
import pytest

from iclkit.bench import archive, kept, plots
from iclkit.bench.claims import Claim, LedgerError, Row, load_claims
from iclkit.bench.runner import Manifest
from tests import toy

MANIFEST = {
    "notebook": "01_toy",
    "key": "0",
    "profile": "paper",
    "seed": 0,
    "commit": "abc",
    "date": "2026-01-01",
    "seconds": 1.0,
    "peak_memory_mb": 1,
    "machine": "2 cores",
    "versions": {"python": platform.python_version()},
}
CLAIM = Claim(
    "LU-S1", "01_a", "a toy", "One is $1$.", "new here", check="close", tolerance=0.1, why="a toy"
)
ROW = Row("LU-S1", "01_a", "paper", "close", "holds", 0.5, 1, "%", 0.1, 1, 1.5, 2, 0.1)
SMALL = replace(ROW, notebook="01_toy", profile="book", score=0.4)
POINTS = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0], "y_stderr": [0.1, 0.2], "n": [5, 5]})
CELLS = {
    "parameters": 'profile = "quick"\nseed = 0',
    "imports": "from iclkit.bench import claims\nfrom iclkit import sums",
    "sum": "# add up\nsums.add(1, 2)",
}
SUMS = 'def add(a, b):\n    """Return the sum."""\n    return a + b\n'
LINE = pd.DataFrame({"x": [0.0, 9.0], "y": [0.0, 9.0]})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A package folder of its own, so that keeping touches nothing real."""
    monkeypatch.setattr(kept.resources, "files", lambda _: tmp_path / "iclkit")
    monkeypatch.setattr(archive, "collect", lambda *_, **__: [])
    monkeypatch.setattr(archive, "load_claims", lambda: [CLAIM])
    return tmp_path


def keep(manifest, notebook, root):
    return archive.keep(manifest, notebook, root, witness=[SMALL])


def executed(**tables):
    alt = "Points that rise along a straight line."
    figure, data = plots.curves(LINE, x="x", y="y"), tables or None
    bundle = plots.figure_bundle(figure, name="fig-toy", caption="A.", alt=alt, data=data)
    return {"cells": [cell("", outputs=[{"data": bundle}, {"text": "no bundle"}])]}


def cell(source, *, outputs=(), tags=()):
    metadata = {"tags": list(tags)}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": list(outputs)}


def test_points_survive_with_their_table_and_formulas_do_not(place):
    keep(MANIFEST, executed(theory=LINE.assign(slope=1.0), runs=POINTS), place)
    found = kept.kept_points("fig-toy", "book")
    assert found.drop(columns="table").to_dict() == POINTS.to_dict()
    assert set(found["table"]) == {"runs"}
    assert kept.kept_points("fig-toy", "book", "runs").equals(found)
    assert kept.kept_points("fig-toy", "book", "theory").empty


def test_provenance_survives(place):
    keep(MANIFEST, executed(runs=POINTS), place)
    (run,) = archive.kept_runs()
    assert Manifest(**run.manifest) == Manifest(**MANIFEST)


def test_runs_come_in_the_order_of_the_notebooks_with_their_rows(place, monkeypatch):
    monkeypatch.setattr(archive, "collect", lambda *_, **__: [ROW])
    names = ["03_c", "01_a", "10_d", "02_b"]
    for name in names:
        keep(MANIFEST | {"notebook": name}, executed(runs=POINTS), place)
    found = archive.kept_runs()
    assert [run.manifest["notebook"] for run in found] == sorted(names)
    assert found[0].rows == (ROW,)


@pytest.mark.parametrize(
    "change",
    [{"text": "One is not $1$."}, {"tolerance": 0.2}, {"notebook": "01_b"}, {"id": "LU-S2"}],
    ids=["says the opposite", "another limit", "moved to another page", "gone"],
)
def test_a_row_of_another_claim_than_today_s_is_left_out(place, monkeypatch, change):
    monkeypatch.setattr(archive, "collect", lambda *_, **__: [ROW])
    keep(MANIFEST | {"notebook": "01_a"}, executed(), place)
    assert archive.kept_runs()[0].rows == (ROW,)
    monkeypatch.setattr(archive, "load_claims", lambda: [replace(CLAIM, **change)])
    assert archive.kept_runs()[0].rows == ()


class TestSources:
    """A kept run says when what computes its numbers was edited since."""

    @pytest.fixture
    def root(self, place):
        for name, text in {"__init__": "", "sums": SUMS, "bench/claims": "X = 1\n"}.items():
            path = place / "iclkit" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (place / "notebooks").mkdir()
        toy.write(place, "01_toy", CELLS)
        ran = [cell(source) for source in CELLS.values()]
        injected = cell('profile = "paper"', tags=["injected-parameters"])
        keep(MANIFEST, {"cells": [ran[0], injected, *ran[1:]]}, place)
        return place

    def since(self, *today):
        (run,) = archive.kept_runs({"01_toy": today})
        return run.since

    @pytest.mark.usefixtures("root")
    def test_nothing_happened(self):
        assert self.since() == ""

    def test_prose_and_what_checks_may_change(self, root):
        (root / "iclkit/sums.py").write_text("# a comment\n" + SUMS.replace("the sum", "it"))
        (root / "iclkit/bench/claims.py").write_text("X = 2\n")
        toy.write(root, "01_toy", CELLS | {"sum": "sums.add(1, 2)  # three", "title": "# A"})
        assert self.since() == ""

    def test_an_edit_of_a_module(self, root):
        (root / "iclkit/sums.py").write_text(SUMS.replace("+", "-"))
        assert self.since() == "edited since"

    def test_an_edit_of_a_cell(self, root):
        toy.write(root, "01_toy", CELLS | {"sum": "sums.add(1, 3)"})
        assert self.since() == "edited since"

    def test_an_edit_that_moved_no_score_at_the_size_of_the_book(self, root):
        (root / "iclkit/sums.py").write_text(SUMS.replace("a + b", "b + a"))
        words = "edited since, same scores"
        new = replace(SMALL, id="LU-S2", score=9.0)
        rounded = replace(SMALL, score=SMALL.score * (1 + 1e-9))
        assert self.since(SMALL) == self.since(new, rounded) == words

    @pytest.mark.parametrize(
        "today",
        [
            (),
            (replace(SMALL, id="LU-S2"),),
            (replace(SMALL, score=0.4001),),
            (replace(SMALL, limit=2.0),),
            (replace(SMALL, score=math.nan),),
            (replace(SMALL, verdict="fails"),),
            (replace(SMALL, profile="quick"),),
        ],
    )
    def test_an_edit_that_did_or_may_have(self, root, today):
        (root / "iclkit/sums.py").write_text(SUMS.replace("+", "-"))
        assert self.since(*today) == "edited since"

    def test_what_was_not_attempted_has_no_score_to_move(self):
        lacking = replace(SMALL, score=math.nan, limit=math.nan, verdict="not attempted")
        assert archive._same(lacking, lacking)

    def test_a_notebook_that_went(self, root):
        (root / "notebooks/01_toy.ipynb").unlink()
        assert self.since() == "edited since"

    @pytest.mark.usefixtures("root")
    def test_another_python_reads_sources_in_its_own_way(self, monkeypatch):
        monkeypatch.setattr(archive, "computing_digest", lambda *_: "of another tree")
        monkeypatch.setattr(archive.platform, "python_version", lambda: "4.0.1")
        assert self.since().endswith("cannot be told with Python 4.0.1")


def test_a_new_run_replaces_the_old_one(place):
    folder = keep(MANIFEST, executed(runs=POINTS), place)
    (folder / "leftover.csv").write_text("x\n")
    keep(MANIFEST, executed(theory=LINE), place)
    assert [path.name for path in folder.iterdir()] == ["run.json"]


@pytest.mark.parametrize("tables", [{}, {"runs": POINTS.assign(n=float("nan"))}])
def test_a_figure_without_simulated_points_keeps_none(tables, place):
    folder = keep(MANIFEST, executed(**tables), place)
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert kept.kept_points("fig-toy", "book") is None


def test_a_paper_run_does_not_draw_its_predecessor(place):
    keep(MANIFEST, executed(runs=POINTS), place)
    assert kept.kept_points("fig-toy", "paper") is None


def test_nothing_kept_is_none(place):
    assert kept.kept_points("fig-toy", "book") is None
    assert archive.kept_runs() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"profile": "book"}, "profile must be paper"),
        ({"commit": "abc+changes"}, "uncommitted"),
        ({"commit": "unknown"}, "uncommitted"),
    ],
)
def test_other_runs_are_refused(place, change, words):
    with pytest.raises(ValueError, match=words):
        keep(MANIFEST | change, executed(runs=POINTS), place)
    assert archive.kept_runs() == []


def test_a_run_whose_claims_do_not_fit_is_refused(tmp_path):
    manifest = MANIFEST | {"notebook": "04_phase_transition"}
    with pytest.raises(LedgerError, match="not checked"):
        keep(manifest, executed(runs=POINTS), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_package_belongs_to_the_ledger_of_today():
    claims = {claim.id: claim for claim in load_claims()}
    for run in archive.kept_runs():
        Manifest(**run.manifest)
        assert re.fullmatch(r"[0-9a-f]{10,}", run.manifest["commit"])
        for row in run.rows:
            assert row.check == claims[row.id].check
            assert row.notebook == claims[row.id].notebook
            assert row.verdict == claims[row.id].expect
