"""The archive of paper-size runs: where each comes from, and what it still says.

Only `keep` writes to it. What a run found counts as long as the claim is the same, and a run whose
sources have changed since says so. To repeat it takes hours, so it keeps a witness beside its own
rows: the scores that the same sources gave at the size of the book, which every build gets anew.
"""

import io
import json
import math
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pandas as pd

from iclkit.bench.cache import read_notebook
from iclkit.bench.claims import Claim, LedgerError, Row, collect, load_claims
from iclkit.bench.drift import digest_of
from iclkit.bench.kept import PROFILE, kept_folders
from iclkit.bench.records import FIGURE_MIME
from iclkit.bench.runner import own_cells
from iclkit.bench.sources import computing_digest

__all__ = ["SINCE", "KeptRun", "keep", "kept_runs"]

EDITED = "edited since"
ALIKE = "edited since, same scores"
SAME = 1e-6  # of a score or of its limit, for scores that count as the same
UNKNOWN = "whether edited since cannot be told with Python {}"
#: What a page says of these words.
SINCE = (
    "*Edited since*: the notebook or the library has changed after the run; *same scores*: at the "
    "size of the book its scores have not."
)
REPLICATES = "n"  # the column that `summarize` adds: rows without it are formulas or citations


@dataclass(frozen=True)
class KeptRun:
    """One kept run as it counts today.

    Parameters
    ----------
    manifest : dict
        As the runner wrote it.
    rows : tuple of Row
        Of the ledger: those whose claims are still the same, in the same notebook.
    since : str
        What happened since to the sources that compute its numbers, in words; empty if nothing.
    """

    manifest: Mapping[str, Any]
    rows: tuple[Row, ...]
    since: str = ""


def kept_runs(today: Mapping[str, Iterable[Row]] | None = None) -> list[KeptRun]:
    """Return every kept run, in the order of the notebooks, with the rows that are still true.

    Parameters
    ----------
    today : mapping of str to iterable of Row, optional
        By notebook, the rows of this build, to compare with the witnesses of runs whose sources
        have changed.
    """
    claims = {claim.id: claim for claim in load_claims()}
    return [_read(folder, claims, today or {}) for folder in kept_folders()]


def keep(
    manifest: Mapping[str, Any], executed: Mapping[str, Any], root: Path, *, witness: Iterable[Row]
) -> Path:
    """Store the points and the ledger rows of a paper-size run; return their folder.

    Parameters
    ----------
    manifest : dict
        The run's manifest; its notebook names the folder.
    executed : dict
        The executed notebook, as parsed JSON.
    root : Path
        The repository to store them in.
    witness : iterable of Row
        What the same sources gave with profile ``book`` and the same seed.

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
    own = {row.id for row in rows}
    record = {
        "manifest": dict(manifest),
        "sources": computing_digest({"cells": own_cells(executed)}, root),
        "digests": {c.id: digest_of(c, PROFILE) for c in load_claims() if c.id in own},
        "rows": [row.to_json() for row in rows],
        "witness": [row.to_json() for row in witness],
    }
    (new / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _swap(new, folder)
    return folder


def _read(
    folder: Traversable, claims: Mapping[str, Claim], today: Mapping[str, Iterable[Row]]
) -> KeptRun:
    """Return the run that a folder keeps."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        made, digests = record["manifest"], record["digests"]
        rows = [Row.from_json(row) for row in record["rows"]]
        witness = [Row.from_json(row) for row in record["witness"]]
        own = {name: c for name, c in claims.items() if c.notebook == made["notebook"]}
        same = {name for name, c in own.items() if digests.get(name) == digest_of(c, PROFILE)}
        then, kept = record["sources"], tuple(row for row in rows if row.id in same)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LedgerError) as error:
        line = f"data/{PROFILE}/{folder.name}/run.json is damaged: {error!r}; restore the folder"
        raise ValueError(line) from error
    since = _since(made, then)
    if since and _alike(witness, today.get(made["notebook"], ())):
        since = ALIKE
    return KeptRun(made, kept, since)


def _since(made: Mapping[str, Any], then: str) -> str:
    """Return what happened to the sources of a run, whose digest was `then`."""
    root = Path(str(resources.files("iclkit"))).parent
    path = root / "notebooks" / f"{made['notebook']}.ipynb"
    now = computing_digest(read_notebook(path), root) if path.is_file() else ""
    if now == then:
        return ""
    # The digest is of a syntax tree, and each version of Python has trees of its own.
    then_python, python = made["versions"].get("python", ""), platform.python_version()
    same = then_python.split(".")[:2] == python.split(".")[:2]
    return EDITED if same or not now else UNKNOWN.format(python)


def _alike(witness: Iterable[Row], today: Iterable[Row]) -> bool:
    """Return whether rows of today have the scores of a witness, for every claim of both."""
    then, now = ({row.id: row for row in rows} for rows in (witness, today))
    both = then.keys() & now.keys()
    return bool(both) and all(_same(then[name], now[name]) for name in both)


def _same(one: Row, other: Row) -> bool:
    """Return whether two rows are of the same sizes and have one score, but for rounding."""
    pairs = ((one.score, other.score), (one.limit, other.limit))
    scale = max(abs(one.score), abs(one.limit))
    near = all(abs(a - b) <= SAME * scale or (math.isnan(a) and math.isnan(b)) for a, b in pairs)
    return near and (one.profile, one.verdict) == (other.profile, other.verdict)


def _swap(new: Path, place: Path) -> None:
    """Put a whole folder in the place of another, which stays until then."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _simulated(executed: Mapping[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each figure's name and those of its points that are means over replicates."""
    outputs = [o for cell in executed["cells"] for o in cell.get("outputs", ())]
    records = [o["data"][FIGURE_MIME] for o in outputs if FIGURE_MIME in o.get("data", {})]
    for record in records:
        table = pd.read_csv(io.StringIO(record["csv"])) if record["csv"] else pd.DataFrame()
        points = table.dropna(subset=[REPLICATES]) if REPLICATES in table else table[:0]
        if len(points):
            yield record["name"], points.dropna(axis="columns", how="all")
