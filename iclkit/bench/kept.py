"""Results of paper-size runs, kept in the package with where they come from.

A run at the papers' own sizes takes too long for every build. Its simulated points and its rows of
the ledger are small; they stay under ``iclkit/data/paper``, one folder per notebook, and are shown
beside what a build measures. Only `keep` writes there.
"""

import io
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pandas as pd

from iclkit.bench.claims import LedgerError, Row, collect
from iclkit.bench.records import FIGURE_MIME

__all__ = ["PROFILE", "KeptRun", "keep", "kept_points", "kept_runs"]

PROFILE = "paper"
REPLICATES = "n"  # the column that `summarize` adds: rows without it are formulas or citations


@dataclass(frozen=True)
class KeptRun:
    """One kept run: its manifest, as the runner wrote it, and its rows of the ledger."""

    manifest: Mapping[str, Any]
    rows: tuple[Row, ...]


def kept_points(figure: str, profile: str, table: str | None = None) -> pd.DataFrame | None:
    """Return the points that a paper-size run simulated for a figure, or None without such a run.

    Parameters
    ----------
    figure : str
        The figure's name, as in ``plots.show(..., name=figure)``.
    profile : str
        The profile of the asking run: a run at paper size draws its own points, so it gets None.
    table : str, optional
        Only the points of this one of the figure's tables.
    """
    if profile == PROFILE:
        return None
    for folder in _folders():
        file = folder / f"{figure}.csv"
        if file.is_file():
            points = pd.read_csv(io.StringIO(file.read_text(encoding="utf-8")))
            return points if table is None else points[points["table"] == table]
    return None


def kept_runs() -> list[KeptRun]:
    """Return every kept run, in the order of the notebooks."""
    return [_read(folder) for folder in _folders()]


def keep(manifest: Mapping[str, Any], executed: Mapping[str, Any], root: Path) -> Path:
    """Store the points and the ledger rows of a paper-size run; return their folder.

    Parameters
    ----------
    manifest : dict
        The run's manifest; its notebook names the folder.
    executed : dict
        The executed notebook, as parsed JSON.
    root : Path
        The repository to store them in.

    Raises
    ------
    ValueError
        If the run is of another profile, of edited, uncommitted sources or of an unknown commit.
    LedgerError
        If its rows are not those that the claims file asks for.
    """
    name = manifest["notebook"]
    if manifest["profile"] != PROFILE:
        raise ValueError(f"profile must be {PROFILE} to be kept, got {manifest['profile']}")
    if "+" in manifest["commit"] or manifest["commit"] == "unknown":
        raise ValueError(f"{name} ran from uncommitted sources; commit them and run it again")
    rows, simulated = collect(name, executed, profile=PROFILE), list(_simulated(executed))
    folder = root / "iclkit" / "data" / PROFILE / name
    new = folder.with_name(f".{name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for figure, points in simulated:
        points.to_csv(new / f"{figure}.csv", index=False, lineterminator="\n")
    record = {"manifest": dict(manifest), "rows": [row.to_json() for row in rows]}
    (new / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _swap(new, folder)
    return folder


def _read(folder: Traversable) -> KeptRun:
    """Return the run that a folder keeps."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return KeptRun(record["manifest"], tuple(Row.from_json(row) for row in record["rows"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LedgerError) as error:
        line = f"data/{PROFILE}/{folder.name}/run.json is damaged: {error!r}; restore the folder"
        raise ValueError(line) from error


def _swap(new: Path, place: Path) -> None:
    """Put a whole folder in the place of another, which stays until then."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _folders() -> list[Traversable]:
    place = resources.files("iclkit") / "data" / PROFILE
    if not place.is_dir():
        return []
    return sorted(
        (f for f in place.iterdir() if f.is_dir() and f.name[0] != "."),
        key=lambda folder: folder.name,
    )


def _simulated(executed: Mapping[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each figure's name and those of its points that are means over replicates."""
    outputs = [o for cell in executed["cells"] for o in cell.get("outputs", ())]
    records = [o["data"][FIGURE_MIME] for o in outputs if FIGURE_MIME in o.get("data", {})]
    for record in records:
        table = pd.read_csv(io.StringIO(record["csv"])) if record["csv"] else pd.DataFrame()
        points = table.dropna(subset=[REPLICATES]) if REPLICATES in table else table[:0]
        if len(points):
            yield record["name"], points.dropna(axis="columns", how="all")
