"""Kept results come from whole paper-size runs, and say where they were made."""

import re

import pandas as pd
import pytest

from iclkit.bench import kept, plots
from iclkit.bench.claims import LedgerError, Row, load_claims
from iclkit.bench.runner import Manifest

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
    "versions": {},
}
POINTS = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0], "y_stderr": [0.1, 0.2], "n": [5, 5]})
LINE = pd.DataFrame({"x": [0.0, 9.0], "y": [0.0, 9.0]})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A package folder of its own, so that keeping touches nothing real."""
    monkeypatch.setattr(kept.resources, "files", lambda _: tmp_path / "iclkit")
    monkeypatch.setattr(kept, "collect", lambda *_, **__: [])
    return tmp_path


def executed(**tables):
    alt = "Points that rise along a straight line."
    figure, data = plots.curves(LINE, x="x", y="y"), tables or None
    bundle = plots.figure_bundle(figure, name="fig-toy", caption="A.", alt=alt, data=data)
    return {"cells": [{"outputs": [{"data": bundle}, {"text": "no bundle"}]}]}


def test_points_survive_with_their_table_and_formulas_do_not(place):
    kept.keep(MANIFEST, executed(theory=LINE.assign(slope=1.0), runs=POINTS), place)
    found = kept.kept_points("fig-toy", "book")
    assert found.drop(columns="table").to_dict() == POINTS.to_dict()
    assert set(found["table"]) == {"runs"}
    assert kept.kept_points("fig-toy", "book", "runs").equals(found)
    assert kept.kept_points("fig-toy", "book", "theory").empty


def test_provenance_survives(place):
    kept.keep(MANIFEST, executed(runs=POINTS), place)
    (run,) = kept.kept_runs()
    assert Manifest(**run.manifest) == Manifest(**MANIFEST)


def test_runs_come_in_the_order_of_the_notebooks_with_their_rows(place, monkeypatch):
    row = Row("LU-S1", "01_a", "paper", "close", "holds", 0.5, 1, "%", 0.1, 1, 1.5, 2, 0.1)
    monkeypatch.setattr(kept, "collect", lambda *_, **__: [row])
    names = ["03_c", "01_a", "10_d", "02_b"]
    for name in names:
        kept.keep(MANIFEST | {"notebook": name}, executed(runs=POINTS), place)
    found = kept.kept_runs()
    assert [run.manifest["notebook"] for run in found] == sorted(names)
    assert found[0].rows == (row,)


def test_a_new_run_replaces_the_old_one(place):
    folder = kept.keep(MANIFEST, executed(runs=POINTS), place)
    (folder / "leftover.csv").write_text("x\n")
    kept.keep(MANIFEST, executed(theory=LINE), place)
    assert [path.name for path in folder.iterdir()] == ["run.json"]


@pytest.mark.parametrize("tables", [{}, {"runs": POINTS.assign(n=float("nan"))}])
def test_a_figure_without_simulated_points_keeps_none(tables, place):
    folder = kept.keep(MANIFEST, executed(**tables), place)
    assert [path.name for path in folder.iterdir()] == ["run.json"]
    assert kept.kept_points("fig-toy", "book") is None


def test_a_paper_run_does_not_draw_its_predecessor(place):
    kept.keep(MANIFEST, executed(runs=POINTS), place)
    assert kept.kept_points("fig-toy", "paper") is None


def test_nothing_kept_is_none(place):
    assert kept.kept_points("fig-toy", "book") is None
    assert kept.kept_runs() == []


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
        kept.keep(MANIFEST | change, executed(runs=POINTS), place)
    assert kept.kept_runs() == []


def test_a_run_whose_claims_do_not_fit_is_refused(tmp_path):
    manifest = MANIFEST | {"notebook": "04_phase_transition"}
    with pytest.raises(LedgerError, match="not checked"):
        kept.keep(manifest, executed(runs=POINTS), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_package_belongs_to_the_ledger_of_today():
    claims = {claim.id: claim for claim in load_claims()}
    for run in kept.kept_runs():
        Manifest(**run.manifest)
        assert re.fullmatch(r"[0-9a-f]{10,}", run.manifest["commit"])
        for row in run.rows:
            assert row.check == claims[row.id].check, "another check now: run it again"
            assert row.verdict == claims[row.id].expect
