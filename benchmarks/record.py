"""The record of a run: what was measured, where, and with what."""

import json
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from benchmarks.growth import Growth
from benchmarks.limits import Rates, Reached
from benchmarks.rows import RATIO, Row
from benchmarks.timing import cores
from iclkit.bench.origin import commit, versions

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).with_name("last.json")  # the committed record
SCHEMA = 1  # of the file; another number asks for another reader


class RecordError(ValueError):
    """A record that cannot be read, or that must not be kept."""


@dataclass
class Record:
    """What a run measured so far.

    Parameters
    ----------
    rows : list of Row
    rates : list of Rates
    limits : list of Reached
    growth : list of Growth
    seconds : float
        Wall time of the run.
    share : float or None
        Processor time over wall time while one thread ran: 1 on a quiet machine.
    """

    rows: list[Row] = field(default_factory=list)
    rates: list[Rates] = field(default_factory=list)
    limits: list[Reached] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    seconds: float = 0.0
    share: float | None = None

    def content(self) -> dict[str, Any]:
        """Return everything with where it comes from, ready for JSON."""
        return {
            "schema": SCHEMA,
            "commit": commit(ROOT),
            "date": datetime.now(UTC).date().isoformat(),
            "seconds": round(self.seconds, 1),
            "share": self.share,
            "machine": machine(),
            "versions": versions() | {"BLAS": blas()},
            "rows": [asdict(row) | {"ok": row.ok} for row in self.rows],
            "rates": [rates._asdict() for rates in self.rates],
            "limits": [asdict(reached) for reached in self.limits],
            "growth": [asdict(growth) for growth in self.growth],
        }


def machine() -> dict[str, Any]:
    """Return the machine without its name."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "architecture": platform.machine(),
        "system": platform.system(),
    }


def cpu_model(listing: Path = Path("/proc/cpuinfo")) -> str:
    """Return what the processor calls itself, or what Python knows of it."""
    if listing.exists():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or "unknown"


def blas() -> str:
    """Return the library of matrix products that numpy uses, with the kernels that it chose."""
    found = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    if not found:
        return "unknown"
    names = ("internal_api", "version", "architecture")
    return " ".join(str(found[0][name]) for name in names if found[0].get(name))


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a record as JSON; at every moment the file is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Return a record.

    Raises
    ------
    RecordError
        If there is none, or not one of this format, or its ratios guard nothing; in one line.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        whole = content["schema"] == SCHEMA and all(
            isinstance(content[name], kind)
            for name, kind in (("commit", str), ("machine", dict), ("versions", dict))
        )
        ratios = values(content).values()
        whole &= bool(ratios) and all(0 < ratio < math.inf for ratio in ratios)
    except OSError as error:
        raise RecordError(f"record {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise RecordError(f"record {path} is damaged or of another version; write it with --keep")
    return dict(content)


def values(content: dict[str, Any]) -> dict[tuple[str, int], float]:
    """Return the ratios of a record by the names of their rows."""
    rows = [row for row in content["rows"] if row["unit"] == RATIO]
    return {(str(row["case"]), int(row["threads"])): float(row["value"]) for row in rows}


def refuse_to_keep(
    content: dict[str, Any], rows: Iterable[Row], complaints: Sequence[str] = ()
) -> None:
    """Raise RecordError unless a run is worth keeping.

    Raises
    ------
    RecordError
        If it ran from sources that nobody can check out, a row missed, or a ratio fell.
    """
    found = content["commit"]
    if "+" in found or found == "unknown":
        raise RecordError(
            f"a kept record needs committed sources, got {found}; commit them and run again"
        )
    missed = [row.case for row in rows if not row.ok]
    if missed:
        raise RecordError(f"a kept record needs all rows to pass, missed: {'; '.join(missed)}")
    if complaints:
        remedy = "the old record stays; add --accept if the loss is meant"
        raise RecordError(f"{'; '.join(complaints)}; {remedy}")
