"""Run a function over a grid, with named random streams, and gather a tidy table.

The function is a *cell*: keyword parameters and a generator in, a dict of numbers out. Each
cell draws from a stream named after the function, its parameters and the replicate, so its
numbers do not depend on the other cells, on their order, or on the number of workers.
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from iclkit.rng import stream

__all__ = ["grid", "summarize", "sweep"]

Params = Mapping[str, Any]


class _Task(NamedTuple):
    """One call of the cell: what it is given, and the name of its stream."""

    params: Params
    shared: frozenset[str]
    replicate: int


def grid(**axes: Any) -> list[dict[str, Any]]:
    """Return every combination of the axes, the first axis slowest.

    Parameters
    ----------
    **axes : scalar or sequence
        Values of each parameter; a scalar is an axis of one value. NumPy scalars become
        Python numbers.

    Returns
    -------
    list of dict

    Raises
    ------
    ValueError
        If an axis is empty.

    Examples
    --------
    >>> grid(d=8, tau=[0.5, 2.0])
    [{'d': 8, 'tau': 0.5}, {'d': 8, 'tau': 2.0}]
    """
    values = {name: _axis(name, axis) for name, axis in axes.items()}
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def sweep(
    cell: Callable[..., Mapping[str, float]],
    cells: Iterable[Params],
    *,
    seed: int,
    replicates: int = 1,
    n_jobs: int | None = None,
    shared: Sequence[str] = (),
) -> pd.DataFrame:
    """Return one row per parameter set and replicate: parameters, ``replicate``, results.

    Parameters
    ----------
    cell : callable
        ``cell(**params, rng=generator) -> {name: number}``, a named function.
    cells : iterable of dict
        Parameter sets, all with the same names and no two alike; see `grid`.
    seed : int
        Seed of the run. Streams are named ``(cell name, parameters, replicate)`` under it.
    replicates : int
        Independent repetitions of each set, at least 1.
    n_jobs : int, optional
        Worker processes; None means all cores. Each worker uses one BLAS thread.
    shared : sequence of str
        Parameters left out of the stream's name: sets that differ only in these see the same
        draws, which makes differences between them precise.

    Returns
    -------
    pandas.DataFrame
        In the order of `cells`, replicates within. The numbers are the same for any `n_jobs`,
        any order of the sets, an extended grid, and more replicates.

    Raises
    ------
    ValueError
        If sets repeat or differ in their names, a result has a parameter's name, or results
        differ in their names.

    Examples
    --------
    >>> def dice(*, sides, rng):
    ...     return {"points": rng.integers(1, sides, endpoint=True)}
    >>> sweep(dice, grid(sides=[6, 20]), seed=0, replicates=2, n_jobs=1).shape
    (4, 3)
    """
    sets = _checked_sets(cells)
    tasks = [_Task(p, _shared(shared, sets), r) for p in sets for r in _replicates(replicates)]
    _check_cell(cell)
    jobs = joblib.cpu_count() if n_jobs is None else n_jobs
    results = _collect(cell, tasks, seed, jobs)
    table = pd.DataFrame(
        [{**t.params, "replicate": t.replicate, **r} for t, r in zip(tasks, results, strict=True)]
    )
    table.attrs["parameters"] = list(sets[0])
    return table


def summarize(table: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Return the mean and its standard error of each result, one row per group.

    Parameters
    ----------
    table : pandas.DataFrame
        What `sweep` returned, possibly with further columns.
    by : str or sequence of str
        Columns that define a group.

    Returns
    -------
    pandas.DataFrame
        The columns `by`; parameters that are constant in every group; for each numeric column
        ``name`` its mean and ``name_stderr``, the standard deviation (ddof 1) over ``sqrt(n)``;
        and ``n``. One missing value makes the mean missing; a group of one has no error.

    Raises
    ------
    ValueError
        If a parameter varies within a group: the mean would mix different settings.

    Examples
    --------
    >>> table = pd.DataFrame({"tau": [1, 1, 2, 2], "error": [1.0, 3.0, 5.0, 5.0]})
    >>> summarize(table, "tau").values.tolist()
    [[1.0, 2.0, 1.0, 2.0], [2.0, 5.0, 0.0, 2.0]]
    """
    keys = [by] if isinstance(by, str) else list(by)
    grouped = table.groupby(keys, sort=False, dropna=False)
    fixed = [name for name in table.attrs.get("parameters", ()) if name not in keys]
    _check_fixed(grouped, fixed)
    values = _value_columns(table, [*keys, *fixed, "replicate"])
    n = grouped.size()
    complete = grouped[values].count().eq(n, axis=0)
    mean = grouped[values].mean().where(complete)
    error = grouped[values].std(ddof=1).where(complete).div(np.sqrt(n), axis=0)
    columns = {c: s for v in values for c, s in ((v, mean[v]), (f"{v}_stderr", error[v]))}
    kept = {name: grouped[name].first() for name in fixed}
    out = pd.DataFrame({**kept, **columns, "n": n}).reset_index()
    out.attrs["parameters"] = [*keys, *fixed]
    return out


def _axis(name: str, axis: Any) -> list[Any]:
    values = list(axis) if np.iterable(axis) and not isinstance(axis, str) else [axis]
    if not values:
        raise ValueError(f"{name} must have at least one value, got none")
    return [v.item() if isinstance(v, np.generic | np.ndarray) else v for v in values]


def _checked_sets(cells: Iterable[Params]) -> list[dict[str, Any]]:
    sets = [dict(params) for params in cells]
    if not sets:
        raise ValueError("cells must hold at least one parameter set, got none")
    if any(params.keys() != sets[0].keys() for params in sets):
        raise ValueError("cells must all have the same parameter names")
    if len({tuple(params[k] for k in sets[0]) for params in sets}) < len(sets):
        raise ValueError("cells must differ; use replicates to repeat one")
    return sets


def _shared(shared: Sequence[str], sets: Sequence[Params]) -> frozenset[str]:
    if unknown := sorted(set(shared) - sets[0].keys()):
        raise ValueError(f"shared must name parameters of the cells, got {', '.join(unknown)}")
    return frozenset(shared)


def _replicates(replicates: int) -> range:
    if replicates < 1:
        raise ValueError(f"replicates must be >= 1, got {replicates}")
    return range(replicates)


def _check_cell(cell: Callable[..., Any]) -> None:
    if getattr(cell, "__name__", "<lambda>") == "<lambda>":
        raise ValueError("cell must be a named function: its name is part of its random stream")


def _collect(
    cell: Callable[..., Mapping[str, float]], tasks: Sequence[_Task], seed: int, n_jobs: int
) -> list[dict[str, float]]:
    """Run the tasks in order of the list, with progress on a terminal only."""
    workers = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    calls = (joblib.delayed(_call)(cell, task, seed) for task in tasks)
    quiet = {"total": len(tasks), "desc": cell.__name__, "disable": None, "file": sys.stderr}
    with threadpool_limits(1), joblib.parallel_config("loky", inner_max_num_threads=1):
        results = [_checked(r, tasks[0].params) for r in tqdm(workers(calls), **quiet)]
    if any(r.keys() != results[0].keys() for r in results):
        raise ValueError(f"{cell.__name__} must return the same names for every parameter set")
    return results


def _call(cell: Callable[..., Mapping[str, float]], task: _Task, seed: int) -> dict[str, float]:
    named = {k: v for k, v in task.params.items() if k not in task.shared}
    rng = stream(seed, cell.__name__, named, task.replicate)
    try:
        return dict(cell(**task.params, rng=rng))
    except Exception as error:
        error.add_note(f"in {cell.__name__}({task.params}), replicate {task.replicate}")
        raise


def _checked(result: dict[str, float], params: Params) -> dict[str, float]:
    if clash := sorted(result.keys() & {*params, "replicate"}):
        raise ValueError(f"a result must not have a parameter's name, got {', '.join(clash)}")
    return result


def _check_fixed(grouped: Any, fixed: Sequence[str]) -> None:
    for name in fixed:
        if (grouped[name].nunique(dropna=False) > 1).any():
            raise ValueError(f"{name} varies within a group: add it to by")


def _value_columns(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    numeric = table.select_dtypes(include=["number", "bool"]).columns
    return [name for name in numeric if name not in keys]
