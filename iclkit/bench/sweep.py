"""Run a function over a grid, with named random streams, and gather a tidy table.

The function is a *cell*: keyword parameters and a generator in, a dict of numbers out. Each
cell draws from a stream named after the function, its parameters and the replicate, so its
numbers do not depend on the other cells, on their order, or on the workers: in this process, on
local cores, or on a Dask cluster. With a store, a sweep goes on where an earlier one ended.
"""

import contextlib
import functools
import itertools
import json
import numbers
import os
import sys
import types
from collections.abc import (
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from iclkit._checks import count, instance, shown
from iclkit.bench.backends import SweepError, cell_threads, pool_of
from iclkit.bench.batches import outcomes
from iclkit.bench.fingerprint import describe, fingerprint, versions
from iclkit.bench.store import FOLDER, Store, StoreError, check_unedited, opened
from iclkit.rng import stream

__all__ = ["grid", "summarize", "sweep"]

CLUSTER = "ICLKIT_CLUSTER"  # environment variable
PROGRESS = "ICLKIT_PROGRESS"  # environment variable: a file for words on how far a sweep is
OFTEN = 0.5  # seconds between words
OURS = frozenset({"replicate", "rng"})  # names that a cell's call and the table have of their own
Params = Mapping[str, Any]
Cell = Callable[..., Mapping[str, float]]


class _Task(NamedTuple):
    """One call of the cell: what it is given, and the name of its stream."""

    name: str
    params: Params
    shared: frozenset[str]
    replicate: int

    def __str__(self) -> str:
        return f"{self.name}({self.params}), replicate {self.replicate}"

    @property
    def key(self) -> str:
        """What a stored result belongs to, types of the parameters included."""
        params = {name: describe(value) for name, value in sorted(self.params.items())}
        return json.dumps([params, sorted(self.shared), self.replicate])


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
    cell: Cell,
    cells: Iterable[Params],
    *,
    seed: int,
    replicates: int = 1,
    n_jobs: int | None = None,
    shared: Sequence[str] = (),
    cluster: Any = None,
    store: str | Path | None = None,
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
        Worker processes; None means all cores, 1 this process. Each uses one BLAS thread.
    shared : sequence of str
        Parameters left out of the stream's name: sets that differ only in these see the same
        draws, which makes differences between them precise.
    cluster : str, Path or distributed.Client, optional
        Address of a Dask scheduler, the scheduler file that it wrote, or a client; `n_jobs` is
        then not used. None means ``ICLKIT_CLUSTER`` of the environment, unless `n_jobs` is 1.
    store : str or Path, optional
        Folder that keeps each finished set and replicate. The same call computes only what is not
        there, whatever ended the one before. None means ``ICLKIT_STORE`` of the environment, or
        no store.

    Returns
    -------
    pandas.DataFrame
        In the order of `cells`, replicates within. The numbers are the same for any `n_jobs` or
        cluster, any order of the sets, an extended grid, more replicates, and a sweep that was
        interrupted.

    Raises
    ------
    ValueError
        If sets repeat or differ in their names, a parameter is called ``rng`` or ``replicate``,
        a result has a parameter's name, results differ in their names, or `seed` is negative.
    TypeError
        If `cell` is no function, `cells` or `shared` are of another type, a parameter's value
        cannot be hashed, a cell returns no dict with names of text, or workers or a store are
        asked for and the cell cannot be sent or named.
    iclkit.bench.backends.SweepError
        If the cluster does not answer or is lost, a worker has other versions or another file of
        yours than this process, or a set kills its worker each time.
    iclkit.bench.store.StoreError
        If the store cannot be written, another run writes it, or the library was edited since it
        was imported.

    Notes
    -----
    The file of the store is named after the cell, the seed, and a fingerprint of the cell's code,
    of what it reads, and of the versions, so an edit starts afresh: `iclkit.bench.fingerprint`.

    Examples
    --------
    >>> def dice(*, sides, rng):
    ...     return {"points": rng.integers(1, sides, endpoint=True)}
    >>> sweep(dice, grid(sides=[6, 20]), seed=0, replicates=2, n_jobs=1).shape
    (4, 3)
    """
    sets = _checked_sets(cells)
    _check_cell(cell)
    count("seed", seed, low=0, high=np.inf)  # seeds have no largest value
    _check_store(store)
    points, left_out = itertools.product(sets, _replicates(replicates)), _shared(shared, sets)
    tasks = [_Task(cell.__name__, params, left_out, r) for params, r in points]
    where = _place(n_jobs, cluster)
    with _kept(cell, seed, store) as kept:
        results = _collect(functools.partial(_call, cell, seed, _kinds(sets)), tasks, where, kept)
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
        If a parameter varies within a group: the mean would mix different settings. Or if `by`
        names no column, or the same twice.
    TypeError
        If `table` is no DataFrame, `by` is neither a name nor names, or a column holds
        complex numbers, or other objects beside numbers.

    Examples
    --------
    >>> table = pd.DataFrame({"tau": [1, 1, 2, 2], "error": [1.0, 3.0, 5.0, 5.0]})
    >>> summarize(table, "tau").values.tolist()
    [[1.0, 2.0, 1.0, 2.0], [2.0, 5.0, 0.0, 2.0]]
    """
    instance("table", table, pd.DataFrame, "give what sweep returned")
    keys = _keys(table, by)
    parameters = [name for name in table.attrs.get("parameters", ()) if name in table.columns]
    fixed = [name for name in parameters if name not in keys]
    table = _numeric(table, [*keys, *fixed, "replicate"])
    grouped = table.groupby(keys, sort=False, dropna=False)
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
    return [
        v.item() if isinstance(v, np.generic | np.ndarray) and v.ndim == 0 else v for v in values
    ]


def _checked_sets(cells: Iterable[Params]) -> list[dict[str, Any]]:
    if isinstance(cells, str | Mapping) or not isinstance(cells, Iterable):
        raise TypeError(f"cells must be a list of dicts, such as of grid, got {shown(cells)}")
    listed = list(cells)
    if wrong := [s for s in listed if not isinstance(s, Mapping) or not all(map(_is_text, s))]:
        raise TypeError(f"cells must hold dicts with names of text, got {shown(wrong[0])}")
    sets = [dict(params) for params in listed]
    if not sets:
        raise ValueError("cells must hold at least one parameter set, got none")
    if any(params.keys() != sets[0].keys() for params in sets):
        raise ValueError("cells must all have the same parameter names")
    if taken := sorted(OURS & sets[0].keys()):
        raise ValueError(f"cells must not have a parameter called {taken[0]}; rename it")
    for name, value in (pair for params in sets for pair in params.items()):
        _check_value(name, value)
    if len({tuple(params[k] for k in sets[0]) for params in sets}) < len(sets):
        raise ValueError("cells must differ; use replicates to repeat one")
    return sets


def _check_value(name: str, value: Any) -> None:
    try:
        hash(value)
    except TypeError:
        kinds = "numbers, text or tuples, or objects that can be hashed"
        raise TypeError(f"values of {name} must be {kinds}; got {shown(value)}") from None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _shared(shared: Sequence[str], sets: Sequence[Params]) -> frozenset[str]:
    shared = list(shared) if np.iterable(shared) and not isinstance(shared, str) else [shared]
    if wrong := [name for name in shared if not isinstance(name, str)]:
        raise TypeError(f"shared must hold names of parameters, got {shown(wrong[0])}")
    if unknown := sorted(set(shared) - sets[0].keys()):
        raise ValueError(f"shared must name parameters of the cells, got {shown(unknown[0])}")
    return frozenset(shared)


def _replicates(replicates: int) -> range:
    return range(count("replicates", replicates))


def _check_cell(cell: Callable[..., Any]) -> None:
    if getattr(cell, "__name__", "<lambda>") == "<lambda>":
        raise ValueError("cell must be a named function: its name is part of its random stream")
    if not callable(cell):
        raise TypeError(f"cell must be a function, got {shown(cell)}")


def _check_store(store: str | Path | None) -> None:
    if store is not None and not isinstance(store, str | os.PathLike):
        raise TypeError(f"store must be the path of a folder, got {shown(store)}")


def _place(n_jobs: int | None, cluster: Any) -> tuple[int | None, Any]:
    named = os.environ.get(CLUSTER) or None
    n_jobs = None if n_jobs is None else count("n_jobs", n_jobs, low=-(10**6))
    return n_jobs, named if cluster is None and n_jobs != 1 else cluster


@contextlib.contextmanager
def _kept(cell: Cell, seed: int, folder: str | Path | None) -> Iterator[Store | None]:
    """Open the store of the cell's results, if there is to be one."""
    folder = folder if folder is not None else os.environ.get(FOLDER) or None
    if folder is None:
        yield None
        return
    check_unedited()
    threads = {} if cell_threads() == 1 else {"threads": str(cell_threads())}
    about = {"cell": cell.__name__, "seed": str(seed)} | versions() | threads
    name = f"{cell.__name__}-{seed}-{fingerprint(cell, about)}"
    with opened(Path(folder), name, about) as store:
        yield store


def _collect(
    call: Callable[[_Task], dict[str, float]],
    tasks: Sequence[_Task],
    where: tuple[int | None, Any],
    store: Store | None,
) -> list[dict[str, float]]:
    """Return the results in the order of the tasks, with progress where somebody sees it."""
    found: dict[int, dict[str, float]] = {}
    keys = [task.key for task in tasks] if store else []
    for i, key in enumerate(keys):
        if store and key in store.records:
            found[i] = _checked(store.records[key], tasks[i], found)
    missing = [i for i in range(len(tasks)) if i not in found]
    bar = {"total": len(tasks), "initial": len(found), "desc": tasks[0].name, **_audience()}
    arrivals = _arrivals(call, [tasks[i] for i in missing], where)
    with _telling(found, tasks, store), tqdm(**bar) as bar, closing(arrivals):
        for results in arrivals:
            new: dict[int, dict[str, float]] = {}
            for i, result in results:
                new[missing[i]] = _checked(result, tasks[0], found or new)
            if store:
                store.add((keys[i], result) for i, result in new.items())
            found |= new  # only now: a message counts what is kept
            bar.update(len(results))
    return [found[i] for i in range(len(tasks))]


def _audience() -> dict[str, Any]:
    """Return who sees the progress: the runner of a notebook, a terminal, or nobody."""
    if not (place := os.environ.get(PROGRESS)):
        return {"file": sys.stderr, "disable": None}
    words = "{desc} {n_fmt} of {total_fmt}, {remaining} left"
    quick = {"mininterval": OFTEN, "miniters": 1}
    return {"file": _Words(Path(place)), "bar_format": words, "leave": False, **quick}


class _Words:
    """Keeps the last words that are written to it in a file, for who looks at it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def write(self, text: str) -> None:
        """Replace the file's words, at the end by none; a full disk does not matter."""
        if text:
            with contextlib.suppress(OSError):
                self.place.write_text(text.strip(), encoding="utf-8")

    def flush(self) -> None:
        """Do nothing: the file is written."""


def _arrivals(
    call: Callable[[_Task], Any], tasks: list[_Task], where: tuple[int | None, Any]
) -> Generator[list[tuple[int, Any]], None, None]:
    if tasks:
        with pool_of(*where) as pool:
            yield from outcomes(pool, call, tasks)


@contextlib.contextmanager
def _telling(found: Sized, tasks: Sized, store: Store | None) -> Iterator[None]:
    """Say at the end by a failure what is kept."""
    try:
        yield
    except SweepError as error:
        raise SweepError(f"{error}{_kept_words(found, tasks, store)}") from error.__cause__
    except StoreError:
        raise
    except BaseException as error:
        if store:
            error.add_note(_kept_words(found, tasks, store).removeprefix("; "))
        raise


def _kept_words(found: Sized, tasks: Sized, store: Store | None) -> str:
    finished = f"; {len(found)} of {len(tasks)} cells are"
    if store is None:
        return f"{finished} lost, which store=FOLDER would keep" if found else ""
    return f"{finished} kept in {store.path.parent}; the same call goes on from there"


def _kinds(sets: Iterable[Params]) -> tuple[Any, ...]:
    """Return the functions among the parameters, and the classes of the others."""
    values = [value for params in sets for value in params.values()]
    found = [v if isinstance(v, types.FunctionType | type) else type(v) for v in values]
    return tuple(dict.fromkeys(found))


def _call(cell: Cell, seed: int, _kinds: tuple[Any, ...], task: _Task) -> dict[str, float]:
    # The kinds travel along so that a worker compares its versions of them with the driver's.
    named = {k: v for k, v in task.params.items() if k not in task.shared}
    rng = stream(seed, task.name, named, task.replicate)
    try:
        result = cell(**task.params, rng=rng)
        if not isinstance(result, Mapping):
            raise TypeError(f"{task.name} must return a dict of numbers, got {shown(result)}")
        return dict(result)
    except Exception as error:  # whatever the cell raises goes on, with its place
        error.add_note(f"in {task}")
        raise


def _checked(
    result: dict[str, float], task: _Task, found: Mapping[int, dict[str, float]]
) -> dict[str, float]:
    if bad := [name for name in result if not isinstance(name, str)]:
        raise TypeError(f"names of results must be text, got {shown(bad[0])}")
    if clash := sorted(result.keys() & {*task.params, "replicate"}):
        raise ValueError(f"a result must not have a parameter's name, got {', '.join(clash)}")
    if result.keys() != next(iter(found.values()), result).keys():
        raise ValueError(f"{task.name} must return the same names for every parameter set")
    return result


def _check_fixed(grouped: Any, fixed: Sequence[str]) -> None:
    for name in fixed:
        if (grouped[name].nunique(dropna=False) > 1).any():
            raise ValueError(f"{name} varies within a group: add it to by")


def _keys(table: pd.DataFrame, by: str | Sequence[str]) -> list[str]:
    """Return the names of the columns that define a group."""
    if not isinstance(by, str) and not np.iterable(by):
        raise TypeError(f"by must be the name of a column or several, got {shown(by)}")
    keys = [by] if isinstance(by, str) else list(by)
    known = list(table.columns)
    if len(set(known)) < len(known):
        raise ValueError("table must have columns of different names; rename those that are equal")
    if unknown := [n for n in keys if not isinstance(n, Hashable) or n not in known]:
        names = ", ".join(map(str, known))
        raise ValueError(f"by must name columns, got {shown(unknown[0])}; there are {names}")
    if not keys or len(set(keys)) < len(keys):
        raise ValueError(f"by must name at least one column and none twice, got {shown(by)}")
    return keys


def _numeric(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return the table with numbers that stand as objects as floats; columns of text are labels."""
    changed = table.copy(deep=False)
    for name in (name for name in table.columns if name not in keys):
        column = table[name]
        if column.dtype.kind == "c":
            raise TypeError(f"table must hold real numbers, got complex ones in column {name}")
        if column.dtype == object and _counts(column):
            changed[name] = _floats(name, column)
    return changed


def _counts(column: pd.Series) -> bool:
    """Whether objects are meant as numbers: some are, and none is text, as in labels."""
    there = column.dropna()
    return any(isinstance(v, numbers.Number) for v in there) and not any(map(_is_text, there))


def _floats(name: str, column: pd.Series) -> pd.Series:
    """Return a column of objects as floats, None and NA as missing."""
    column = column.map(lambda value: np.nan if value is None or value is pd.NA else value)
    real = column.map(lambda value: isinstance(value, numbers.Real | np.bool_))
    if not real.all():
        bad = shown(column[~real].iloc[0])
        raise TypeError(f"table must hold real numbers in column {name}, got {bad}")
    try:
        return column.astype(np.float64)
    except OverflowError:
        raise ValueError(f"table must hold numbers within float64 in column {name}") from None


def _value_columns(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    numeric = table.select_dtypes(include=["number", "bool"]).columns
    return [name for name in numeric if name not in keys]
