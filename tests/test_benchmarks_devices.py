"""The benchmark of devices: every precision at hand is in it, and errors stand beside speeds."""

import json
import math

import pytest

from benchmarks import devices
from iclkit import nets
from iclkit.prompts import Gaussian, IsotropicLinear

TINY = devices.Training("tiny", 4, 2, 4, 60)


def test_the_table_has_every_precision_of_every_device(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(devices, "QUICK", (TINY,))
    path = tmp_path / "devices.json"
    assert devices.main(["--quick", "--output", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    want = [(device, dtype) for device in devices.devices() for dtype in devices.DTYPES]
    assert [(row["device"], row["dtype"]) for row in rows] == want
    assert all(row["steps_per_second"] > 0 and row["stderr"] > 0 for row in rows)
    assert len({row["error"] for row in rows}) == len(rows)  # each in its own arithmetic
    single, exact = rows[1], rows[0]  # float64 first
    assert single["error"] == pytest.approx(exact["error"], abs=exact["stderr"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + len(rows) + len(devices.devices())
    assert printed[-1] == f"{rows[-1]['device']}: {rows[-1]['hardware']}"


def test_rows_compare_with_double_precision_on_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "QUICK", (TINY,))
    cases = list(devices.device_cases(quick=True))
    assert len(cases) == 3 * len(devices.devices()) - 1
    row = cases[0]()
    assert row.case == "step of 2 transformers, d = 4, batch 4, cpu, float32"
    assert row.value == pytest.approx(row.obvious / row.ours)
    assert row.ok


def test_a_probe_takes_the_time_of_steps_alone():
    law, recipe = IsotropicLinear(Gaussian(2), 0.1), nets.Recipe(10**6, 0.01, 4)
    network = nets.linear_attention(2)
    for n_prompts in (5, None):
        seconds = devices.seconds_per_step(network, law, recipe, n_context=2, n_prompts=n_prompts)
        assert 0 < seconds < math.inf
