"""The benchmarks run, compare like with like, and fail when a target is missed."""

import json
import time

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks.cases import FULL, QUICK, Row, all_rows
from benchmarks.timing import interleaved

ROW = Row("case", 1, 0.1, 1.0, 10.0, "x", target=5.0, difference=1e-9)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "new" / "bench.json"
    return command.main(["--quick", "--output", str(path)]), json.loads(path.read_text())


def test_the_quick_version_ends_well(quick):
    code, content = quick
    assert code == 0
    assert {"python", "numpy", "scipy"} <= set(content["machine"])
    assert all(row["ok"] for row in content["rows"])
    assert all(np.isfinite(row["value"]) and row["ours"] > 0 for row in content["rows"])


def test_solver_theory_and_networks_are_compared_with_equal_answers(quick):
    differences = [row["difference"] for row in quick[1]["rows"]]
    assert sum(difference is not None for difference in differences) == 5
    assert all(difference < 1e-6 for difference in differences if difference is not None)


def test_the_full_version_has_the_stated_targets():
    small = QUICK.__class__(**(vars(QUICK) | {"targets": True}))
    targets = [(row.side, row.target) for row in all_rows(small, (1,))]
    assert targets == [
        ("at least", 15.0),
        ("at least", 10.0),
        ("at least", None),
        ("below", 10.0),
        ("at least", 20.0),
        ("at least", 3.0),
        ("below", 30.0),
        ("below", 2.0),
    ]
    assert (FULL.dim, FULL.large, FULL.targets) == (80, (100, 20.0), True)
    assert FULL.n_points >= 10_000


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        ({}, True),
        ({"value": 4.9}, False),
        ({"value": np.nan}, False),
        ({"difference": 1e-5}, False),
        ({"difference": np.nan}, False),
        ({"difference": None}, True),
        ({"target": None, "value": 0.1}, True),
        ({"target": None, "difference": 1.0}, False),
        ({"side": "below"}, False),
        ({"side": "below", "value": 4.9}, True),
    ],
)
def test_a_row_is_ok_only_if_fast_and_right(change, ok):
    assert Row(**(vars(ROW) | change)).ok is ok


def test_a_missed_target_fails_the_command(monkeypatch, tmp_path, capsys):
    missed = Row(**(vars(ROW) | {"value": 4.9}))
    monkeypatch.setattr(command, "all_rows", lambda *_: iter([ROW, missed]))
    assert command.main(["--quick", "--output", str(tmp_path / "bench.json")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["ok", "MISSED"]


def test_calls_are_interleaved_and_the_median_is_taken():
    order, pauses = [], iter([0.0, 0.2, 0.0])

    def slow():
        order.append("slow")
        time.sleep(next(pauses))

    times = interleaved(
        {"slow": slow, "fast": lambda: order.append("fast") or 3},
        repeats=3,
        warm_up=lambda: order.append("warm"),
    )
    assert order == ["warm", *["slow", "fast"] * 3]
    assert times["fast"].result == 3
    assert times["slow"].seconds < 0.1
