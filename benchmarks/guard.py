"""The guard against slow decay: ratios of this run beside those of a record.

What is fair to compare?

- Ratios, never seconds: both sides of a ratio ran on one machine, within one run.
- Rows with equal sizes and equally many threads.
- On one machine. A ratio still depends on the processor: on how much faster its matrix products
  are than its interpreter. Where the record is of another machine or of other versions, its commit
  is taken out of git and measured here first. Then only the library differs between both sides,
  and no record of a runner needs to be carried from one scheduled run to the next.
- After another look. A row that fell is measured again, with all measurements put together (see
  `benchmarks.rows.pooled`), before it fails.

The record stays the same until somebody keeps another one, so that many small losses add up to one
that is seen.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.rows import RATIO, Row

FALL = 0.3  # part of a ratio that may be lost
SAME = ("numpy", "scipy", "torch", "BLAS")  # versions that a ratio depends on

Values = Mapping[tuple[str, int], float]


def fell(row: Row, base: Values) -> bool:
    """Return whether a ratio fell by more than `FALL`; NaN did."""
    if row.unit != RATIO or row.name not in base:
        return False
    return not row.value >= (1 - FALL) * base[row.name]


def complaints(rows: Iterable[Row], base: Values, threads: Iterable[int]) -> list[str]:
    """Return one line for each ratio that fell, and for each that is no longer measured.

    Rows on more threads than this machine has are not missed.
    """
    measured = {row.name: row for row in rows}
    lines = [told(row, base[row.name]) for row in measured.values() if fell(row, base)]
    known = set(threads)
    lost = [name for name in base if name not in measured and name[1] in known]
    return lines + [f"{labelled(*name)}: in the record, but no longer measured" for name in lost]


def unguarded(rows: Iterable[Row], base: Values) -> list[str]:
    """Return the ratios that a record does not have; without a record, none is missed."""
    new = [row.name for row in rows if row.unit == RATIO and row.name not in base]
    return [labelled(*name) for name in new] if base else []


def told(row: Row, before: float) -> str:
    """Return what happened to a ratio."""
    change = f"{1 - row.value / before:.0%} less, at most {FALL:.0%} is allowed"
    return f"{labelled(*row.name)}: the ratio fell from {before:.3g} to {row.value:.3g}, {change}"


def labelled(case: str, threads: int) -> str:
    """Return a row's name in words."""
    return case if threads == 1 else f"{case}, {threads} threads"


def comparable(content: Mapping[str, Any]) -> bool:
    """Return whether a record is of this machine and of these versions."""
    here = record.Record().content()
    versions = all(content["versions"].get(name) == here["versions"].get(name) for name in SAME)
    return versions and content["machine"] == here["machine"]


def measured_here(commit: str, root: Path = record.ROOT) -> Values:
    """Return the ratios of the library as it was at a commit, measured on this machine now.

    Raises
    ------
    RecordError
        If git does not have the commit, or its benchmarks do not run here.
    """
    place = root / "_build"
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix="bench-base-") as folder:
        sources = Path(folder)
        check_out(commit, root, sources)
        if not (sources / "benchmarks" / "__init__.py").exists():  # the present ones would run
            raise record.RecordError(f"commit {commit} of the record has no benchmarks")
        output = sources / "base.json"
        command = [sys.executable, "-m", "benchmarks", "--parts", "ratios", "--output", str(output)]
        # In the folder of these sources, Python finds them before the installed ones.
        done = subprocess.run(
            command, cwd=sources, env=os.environ | {"PYTHONPATH": str(sources)}, stdout=sys.stderr
        )
        if not output.exists():
            raise record.RecordError(f"benchmarks of {commit} ended with {done.returncode} here")
        return record.values(record.read(output))


def check_out(commit: str, root: Path, folder: Path) -> None:
    """Lay out the sources of a commit.

    Raises
    ------
    RecordError
        If git does not have it.
    """
    try:
        archive = ["git", "-C", str(root), "archive", "--format=tar", "--end-of-options", commit]
        done = subprocess.run(archive, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise record.RecordError(
            f"commit {commit} of the record is not in this checkout; fetch the whole history"
        ) from None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as packed:
        packed.extractall(folder, filter="data")
