"""Sweeps: the same numbers whatever the workers, the order, or the rest of the grid."""

import io
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_info

from iclkit.bench import backends
from iclkit.bench.backends import SweepError
from iclkit.bench.quiet import environment
from iclkit.bench.sweep import grid, summarize, sweep

GRID = grid(d=[2, 3], tau=[0.5, 1.0])


def draw(*, d, tau, rng):
    return {"value": tau + rng.normal(size=d).sum(), "square": rng.normal() ** 2}


def matrix(*, d, rng):
    a = rng.normal(size=(d, d))
    return {"trace": np.trace(np.linalg.solve(a @ a.T + np.eye(d), a))}


def explode(*, d, rng):
    raise RuntimeError("boom")


def rows(table):
    """Return the table as a dict from (parameters, replicate) to numbers."""
    return table.set_index(["d", "tau", "replicate"]).sort_index()


def run(cells=GRID, **options):
    return sweep(draw, cells, **{"seed": 1, "replicates": 2, "n_jobs": 1, **options})


def test_grid_has_the_first_axis_slowest_and_takes_scalars():
    cells = grid(d=8, tau=np.array([0.5, 1.0]), name="a")
    assert cells == [{"d": 8, "tau": 0.5, "name": "a"}, {"d": 8, "tau": 1.0, "name": "a"}]
    assert type(cells[0]["tau"]) is float


def test_grid_refuses_an_empty_axis():
    with pytest.raises(ValueError, match="tau must have at least one value"):
        grid(d=1, tau=[])


def test_one_row_per_set_and_replicate_in_order():
    table = run()
    assert list(table.columns) == ["d", "tau", "replicate", "value", "square"]
    assert table["replicate"].tolist() == [0, 1] * 4
    assert table["value"].nunique() == 8


def test_workers_do_not_change_the_numbers():
    pd.testing.assert_frame_equal(run(), run(n_jobs=2))


def test_workers_do_not_change_linear_algebra():
    cells, options = grid(d=[40, 60]), {"seed": 0, "replicates": 2}
    one, two = (sweep(matrix, cells, n_jobs=n, **options) for n in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_order_does_not_change_the_numbers():
    pd.testing.assert_frame_equal(rows(run()), rows(run(GRID[::-1])))


def test_an_extended_grid_and_more_replicates_keep_the_numbers():
    more = rows(run(grid(d=[2, 3, 4], tau=[0.5, 1.0, 7.0]), replicates=3))
    few = rows(run())
    pd.testing.assert_frame_equal(more.loc[few.index], few)


def test_equal_values_of_other_types_are_the_same_point():
    cells = [{"tau": np.float64(p["tau"]), "d": np.int64(p["d"])} for p in GRID]
    np.testing.assert_array_equal(rows(run(cells))["value"], rows(run())["value"])


def test_seeds_replicates_and_cells_differ():
    assert not set(run(seed=1)["value"]) & set(run(seed=2)["value"])


def test_shared_parameters_share_the_draws():
    table = run(shared=["tau"])
    first = table[table["tau"] == 0.5].set_index(["d", "replicate"])["value"]
    second = table[table["tau"] == 1.0].set_index(["d", "replicate"])["value"]
    np.testing.assert_allclose(second - first, 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": []}, "at least one parameter set"),
        ({"cells": [GRID[0], GRID[0]]}, "cells must differ"),
        ({"cells": [GRID[0], {"d": 1}]}, "same parameter names"),
        ({"replicates": 0}, "replicates must be >= 1, got 0"),
        ({"shared": ["kappa"]}, "shared must name parameters"),
        ({"cells": grid(replicate=[5, 6])}, "not have a parameter called replicate; rename it"),
        ({"cells": grid(rng=1)}, "not have a parameter called rng; rename it"),
    ],
)
def test_bad_sweeps_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": grid(d=[[1, 2], [3]], tau=1)}, r"values of d must be numbers, .*got \[1, 2\]"),
        ({"cells": grid(d=np.ones((1, 2)), tau=1)}, r"values of d must be numbers, .*got array"),
        ({"replicates": "3"}, "replicates must be an integer, got '3'"),
        ({"replicates": 2.5}, r"replicates must be an integer, got 2\.5"),
        ({"n_jobs": "2"}, "n_jobs must be an integer, got '2'"),
        ({"n_jobs": 2.5}, r"n_jobs must be an integer, got 2\.5"),
    ],
)
def test_arguments_of_another_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (3.0, r"cell must return a dict of numbers, got 3\.0"),
        ({1: 3.0}, "names of results must be text, got 1"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_what_is_no_result_is_refused(tmp_path, result, message, kept):
    def cell(*, d, rng):
        return result

    with pytest.raises(TypeError, match=message):
        sweep(cell, grid(d=1), seed=0, n_jobs=1, store=tmp_path if kept else None)


def test_a_cell_needs_a_name():
    with pytest.raises(ValueError, match="named function"):
        sweep(lambda **given: {"a": given["d"]}, grid(d=1), seed=0, n_jobs=1)


def test_a_result_must_not_hide_a_parameter():
    def cell(*, d, rng):
        return {"d": 0.0}

    with pytest.raises(ValueError, match="a result must not have a parameter's name, got d"):
        sweep(cell, grid(d=1), seed=0, n_jobs=1)


def test_results_must_have_the_same_names():
    def cell(*, d, rng):
        return {f"value{d}": 0.0}

    with pytest.raises(ValueError, match="same names"):
        sweep(cell, grid(d=[1, 2]), seed=0, n_jobs=1)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_failing_cell_says_where(n_jobs):
    with pytest.raises(RuntimeError, match="boom") as caught:
        sweep(explode, grid(d=[3]), seed=0, n_jobs=n_jobs)
    assert any("explode({'d': 3}), replicate 0" in note for note in caught.value.__notes__)


def test_no_progress_bar_away_from_a_terminal(capfd):
    run()
    assert capfd.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_counts_what_is_kept(tmp_path, monkeypatch):
    run(GRID[:3], store=tmp_path)
    monkeypatch.setattr("sys.stderr", Terminal())
    run(store=tmp_path)
    first, *_, last = sys.stderr.getvalue().strip().split("\r")
    assert "6/8" in first
    assert "8/8" in last
    assert "draw" in last


def told(*, place, i, rng):
    said = re.fullmatch(rf"told [{min(i, 1)}-{i}] of 3, (00:\d\d|\?) left", Path(place).read_text())
    return {"said": float(said is not None)}


def test_progress_goes_where_the_runner_of_a_notebook_reads_it(tmp_path, monkeypatch, capfd):
    words = tmp_path / "words"
    monkeypatch.setenv("ICLKIT_PROGRESS", str(words))
    monkeypatch.setattr("iclkit.bench.sweep.OFTEN", 0)
    table = sweep(told, grid(place=str(words), i=range(3)), seed=0, n_jobs=1)
    assert table.said.tolist() == [1, 1, 1]
    assert words.read_text() == "", "nothing is said once it is done"
    monkeypatch.setenv("ICLKIT_PROGRESS", str(tmp_path / "no folder" / "words"))
    assert len(run()) == 8
    assert capfd.readouterr() == ("", "")


def noted(*, d, folder, rng):
    with Path(folder, "calls").open("a") as log:
        log.write(f"{d}\n")
    return {"value": rng.normal() + d}


def kept_run(folder, sizes, **options):
    """Return the table and the sizes that were computed for it."""
    calls = folder / "calls"
    calls.write_text("")
    cells = [{"d": d, "folder": str(folder)} for d in sizes]
    table = sweep(noted, cells, **{"seed": 1, "n_jobs": 1, "store": folder / "store", **options})
    return table.drop(columns="folder"), sorted(map(float, calls.read_text().split()))


def test_a_store_is_used_whatever_the_order_and_the_workers(tmp_path):
    first, computed = kept_run(tmp_path, [2, 3, 4])
    assert computed == [2, 3, 4]
    again, computed = kept_run(tmp_path, [5, 4, 3, 2], n_jobs=2)
    assert computed == [5]
    pd.testing.assert_frame_equal(again[:0:-1].reset_index(drop=True), first, check_exact=True)
    more, computed = kept_run(tmp_path, [2, 3, 4, 5], replicates=2)
    assert computed == [2, 3, 4, 5]
    assert more["value"][::2].tolist() == again["value"][::-1].tolist()


@pytest.mark.parametrize(
    ("sizes", "options"), [([2.0], {}), ([2], {"seed": 2}), ([2], {"shared": ["d"]})], ids=str
)
def test_what_can_change_a_number_is_computed_again(tmp_path, sizes, options):
    kept_run(tmp_path, [2])
    assert kept_run(tmp_path, sizes, **options)[1] == [2]


def test_a_store_may_be_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLKIT_STORE", str(tmp_path / "here"))
    kept_run(tmp_path, [2], store=None)
    assert len(list((tmp_path / "here").glob("noted-1-*.jsonl"))) == 1


def test_kept_results_are_checked_like_new_ones(tmp_path):
    def cell(*, d, rng):
        return {f"value{d}": 0.0}

    for d in (1, 2):
        sweep(cell, grid(d=d), seed=0, n_jobs=1, store=tmp_path)
    with pytest.raises(ValueError, match="same names"):
        sweep(cell, grid(d=[1, 2]), seed=0, n_jobs=1, store=tmp_path)


def test_a_failing_cell_keeps_the_others(tmp_path):
    def cell(*, d, rng):
        return {"value": 1 / d}

    with pytest.raises(ZeroDivisionError) as caught:
        sweep(cell, grid(d=[2, 0]), seed=0, n_jobs=1, store=tmp_path)
    kept = f"1 of 2 cells are kept in {tmp_path}; the same call goes on from there"
    assert caught.value.__notes__ == ["in cell({'d': 0}), replicate 0", kept]


def test_results_that_cannot_be_kept_are_named(tmp_path):
    def cell(*, d, rng):
        return {"trace": [1.0]}

    said = "trace must be a number, text or an array to be stored"
    with pytest.raises(TypeError, match=said) as caught:
        sweep(cell, grid(d=1), seed=0, n_jobs=1, store=tmp_path)
    assert caught.value.__notes__[0].startswith("0 of 1 cells are kept")


@pytest.mark.parametrize(("n_jobs", "expected"), [(None, 4), (1, 1), (7, 7), (-1, 4), (-9, 1)])
def test_number_of_workers(monkeypatch, n_jobs, expected):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    assert backends._jobs(n_jobs) == expected


def test_one_process_uses_one_thread_and_gives_the_others_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)

    def cell(*, d, rng):
        return {name: int(os.environ[name]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}

    table = sweep(cell, grid(d=1), seed=0, n_jobs=1)
    assert table.iloc[0, -2:].tolist() == [1, 1]
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def threads_of(*, d, rng):
    np.ones((d, d)) @ np.ones(d)
    return {"threads": max(library["num_threads"] for library in threadpool_info())}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_sweep_of_seeds_may_ask_for_more_threads_in_a_cell(tmp_path, monkeypatch, n_jobs):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    assert backends._jobs(None) == 4
    for name, value in environment(tmp_path, tmp_path, 2).items():
        monkeypatch.setenv(name, value)
    assert backends._jobs(None) == 2, "threads that wait for a processor are slow"
    table = sweep(threads_of, grid(d=1), seed=0, n_jobs=n_jobs)
    assert table.threads.tolist() == [2]


def test_no_cluster_takes_a_sweep_that_has_more_threads(tmp_path, monkeypatch):
    """Its workers have one thread, so that the sweep would show nothing."""
    monkeypatch.setenv("ICLKIT_CLUSTER", "tcp://10.0.0.5:8786")
    one, two = (environment(tmp_path / str(n), tmp_path, n) for n in (1, 2))
    assert one["ICLKIT_CLUSTER"] == "tcp://10.0.0.5:8786"
    assert "ICLKIT_CLUSTER" not in two


def test_a_scheduler_file_is_found_from_the_folder_of_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICLKIT_CLUSTER", "scheduler.json")
    found = environment(tmp_path / "run", tmp_path)["ICLKIT_CLUSTER"]
    assert found == str(tmp_path / "scheduler.json")


def test_a_store_keeps_numbers_of_other_threads_apart(tmp_path, monkeypatch):
    def threads():
        return sweep(threads_of, grid(d=1), seed=0, n_jobs=1, store=tmp_path).threads.tolist()

    assert threads() == [1]
    monkeypatch.setenv("ICLKIT_CELL_THREADS", "2")
    assert threads() == [2]
    monkeypatch.delenv("ICLKIT_CELL_THREADS")
    assert threads() == [1]


def test_shared_names_may_come_once():
    listed = sweep(draw, GRID, seed=0, n_jobs=1, shared=["tau"])
    once = sweep(draw, GRID, seed=0, n_jobs=1, shared=iter(["tau"]))
    pd.testing.assert_frame_equal(once, listed)


@pytest.mark.parametrize("wish", ["", "0", "-1", "1.5", "two", "²", "9" * 5000])
def test_threads_of_a_cell_are_a_number(monkeypatch, wish):
    monkeypatch.setenv("ICLKIT_CELL_THREADS", wish)
    with pytest.raises(SweepError, match=r"^ICLKIT_CELL_THREADS must be from 1 to 999, got '"):
        sweep(threads_of, grid(d=1), seed=0)


def test_summary_is_mean_and_standard_error():
    table = run(replicates=5)
    one = table[(table["d"] == 3) & (table["tau"] == 1.0)]["value"].to_numpy()
    row = summarize(table, ["d", "tau"]).set_index(["d", "tau"]).loc[(3, 1.0)]
    assert row["value"] == pytest.approx(one.mean(), rel=1e-12)
    assert row["value_stderr"] == pytest.approx(one.std(ddof=1) / np.sqrt(5), rel=1e-12)
    assert row["n"] == 5


def test_summary_keeps_constant_parameters_and_infinity():
    table = sweep(draw, grid(d=2, tau=[1.0, np.inf]), seed=0, replicates=3, n_jobs=1)
    summary = summarize(table, "tau")
    assert summary["d"].tolist() == [2, 2]
    assert summary["tau"].tolist() == [1.0, np.inf]


def test_summary_refuses_to_mix_settings():
    with pytest.raises(ValueError, match="d varies within a group"):
        summarize(run(), "tau")


def test_summary_does_not_hide_missing_values():
    table = pd.DataFrame({"tau": [1, 1, 2, 2], "a": [1.0, np.nan, 2.0, 4.0]})
    summary = summarize(table, "tau")
    assert np.isnan(summary["a"][0])
    assert np.isnan(summary["a_stderr"][0])
    assert summary["a"][1] == 3.0


def test_a_single_replicate_has_no_error():
    summary = summarize(run(replicates=1), ["d", "tau"])
    assert summary["value_stderr"].isna().all()


def results(**columns):
    return pd.DataFrame({"tau": [1, 1, 2, 2], **columns})


def test_summary_counts_numbers_that_stand_as_objects():
    values = np.array([1, 3, 5, 8], dtype=object)
    expected = summarize(results(a=[1.0, 3.0, 5.0, 8.0]), "tau")
    pd.testing.assert_frame_equal(summarize(results(a=values), "tau"), expected)
    for missing in (None, pd.NA):
        with_one = results(a=np.array([1, missing, 2, 4], dtype=object))
        assert np.isnan(summarize(with_one, "tau")["a"][0])
    for labels in (["x", "y", "x", 1.0], [None] * 4, [(1,), (2,), None, (3,)]):
        assert list(summarize(results(a=pd.Series(labels, dtype=object)), "tau")) == ["tau", "n"]


@pytest.mark.parametrize("kind", [complex, object])
def test_summary_refuses_what_has_no_order(kind):
    with pytest.raises(TypeError, match=r"table must hold real numbers.* column a"):
        summarize(results(a=np.array([1j, 2j, 3, 4], dtype=kind)), "tau")


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("nope", "by must name columns, got 'nope'; there are tau, a"),
        ([], "by must name at least one column and none twice"),
        (["tau", "tau"], "by must name at least one column and none twice"),
        ([["tau"]], "by must name columns"),
        (3, "by must be the name of a column or several, got 3"),
    ],
)
def test_summary_needs_columns(by, said):
    with pytest.raises((TypeError, ValueError), match=said):
        summarize(results(a=[1.0, 3.0, 5.0, 8.0]), by)


def test_summary_needs_a_table_of_columns():
    with pytest.raises(TypeError, match="table must be a DataFrame, got list; give what sweep"):
        summarize([1, 2], "a")
    with pytest.raises(ValueError, match="table must have columns of different names"):
        summarize(pd.DataFrame([[1, 2.0, 3.0]], columns=["tau", "a", "a"]), "tau")


def test_summary_without_a_parameter_that_was_dropped():
    table = run(grid(d=2, tau=[0.5, 1.0])).drop(columns="d")
    assert list(summarize(table, "tau"))[:2] == ["tau", "value"]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("abc", "cells must be a list of dicts, such as of grid, got 'abc'"),
        (None, "cells must be a list of dicts, such as of grid, got None"),
        ({"d": 2}, "cells must be a list of dicts"),
        ([3], "cells must hold dicts with names of text, got 3"),
        ([{1: 2}], "cells must hold dicts with names of text, got {1: 2}"),
    ],
)
def test_a_sweep_needs_parameter_sets(cells, said):
    with pytest.raises(TypeError, match=said):
        run(cells)


def test_a_sweep_says_what_else_it_needs():
    with pytest.raises(ValueError, match="cell must be a named function"):
        sweep(None, GRID, seed=0)
    with pytest.raises(TypeError, match="cell must be a function, got <module 'os'"):
        sweep(os, GRID, seed=0, n_jobs=1)
    with pytest.raises(TypeError, match="seed must be an integer, got None"):
        run(seed=None)
    with pytest.raises(TypeError, match="store must be the path of a folder, got 3"):
        run(store=3)
    with pytest.raises(TypeError, match="shared must hold names of parameters, got 3"):
        run(shared=3)
    pd.testing.assert_frame_equal(run(shared="tau"), run(shared=["tau"]))
