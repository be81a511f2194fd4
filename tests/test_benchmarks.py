"""The benchmarks run, compare like with like, and fail when a target is missed."""

import json
import time

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import blocks, dual
from benchmarks.cases import FULL, QUICK, Row, all_rows
from benchmarks.timing import Timed, interleaved

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
    assert sum(difference is not None for difference in differences) == 11
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
        ("at least", 100_000.0),
        ("at least", 10_000.0),
        ("at least", 100.0),
        ("at least", 5.0),
        ("at least", 8.0),
        ("at least", 50.0),
        ("at least", 5.0),
        ("at least", 2.0),
        ("at least", None),
        ("below", 60.0),
        ("below", 30.0),
        ("below", 2.0),
    ]
    assert (FULL.dim, FULL.large, FULL.targets) == (80, (100, 20.0), True)
    assert FULL.block[0] == 100
    assert FULL.dual[0] == 4096
    assert FULL.mixing[1] == 80
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


def test_sampling_is_scaled_to_the_accuracy_asked_for(monkeypatch):
    """Half the error takes four times as long."""

    def in_a_second(calls, **_):
        return {name: Timed(1.0, call()) for name, call in calls.items()}

    monkeypatch.setattr(blocks, "interleaved", in_a_second)
    one = blocks.risk_against_sampling(3, 200, 1)
    monkeypatch.setattr(blocks, "ACCURACY", blocks.ACCURACY / 2)
    half = blocks.risk_against_sampling(3, 200, 1)
    assert half.obvious / one.obvious == pytest.approx(4)
    # squared errors of Gaussian size need 2/accuracy^2 prompts, heavier tails more
    assert 1e4 < one.obvious < 1e6
    assert (one.ours, one.difference) == (1.0, None)


def test_a_wrong_risk_spoils_the_row(monkeypatch):
    right = blocks.network_risk
    monkeypatch.setattr(blocks, "network_risk", lambda *given: 2 * right(*given))
    assert np.isnan(blocks.risk_against_sampling(3, 2_000, 1).difference)
    assert blocks.gradient_against_differences(3, 1).difference > 0.1


def test_a_wrong_error_of_features_spoils_the_row(monkeypatch):
    assert dual.features_against_exact(64, 32, 1).difference is None
    right = dual.output_variance
    monkeypatch.setattr(dual, "output_variance", lambda *a, **k: 9 * right(*a, **k))
    assert np.isnan(dual.features_against_exact(64, 32, 1).difference)


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
