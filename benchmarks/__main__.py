"""Command line: print the table, write ``_build/bench.json``, fail if a target is missed."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import scipy

from benchmarks.cases import FULL, QUICK, Row, all_rows

OUTPUT = Path("_build/bench.json")
HEADER = ("case", "threads", "ours [s]", "obvious [s]", "result", "target", "difference", "")
WIDTHS = (44, 7, 9, 11, 14, 12, 10, 6)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, no targets")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file to write")
    options = parser.parse_args(arguments)
    threads = (1,) if options.quick or os.cpu_count() == 1 else (1, 2)
    rows = show(all_rows(QUICK if options.quick else FULL, threads))
    write(options.output, rows)
    return 0 if all(row.ok for row in rows) else 1


def show(rows: Iterable[Row]) -> list[Row]:
    """Print the rows as they come and return them."""
    _print_line(HEADER)
    done = []
    for row in rows:
        _print_line(cells(row))
        done.append(row)
    return done


def cells(row: Row) -> tuple[str, ...]:
    """Return the texts of one line of the table."""
    return (
        row.case,
        str(row.threads),
        f"{row.ours:.2g}",
        "" if row.obvious is None else f"{row.obvious:.2g}",
        f"{row.value:.3g} {row.unit}",
        "" if row.target is None else f"{row.side} {row.target:g}",
        "" if row.difference is None else f"{row.difference:.0e}",
        "ok" if row.ok else "MISSED",
    )


def write(path: Path, rows: list[Row]) -> None:
    """Write the rows and what they were measured with as JSON."""
    machine = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    content = {"machine": machine, "rows": [asdict(row) | {"ok": row.ok} for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _print_line(texts: tuple[str, ...]) -> None:
    aligned = (text.ljust(width) for text, width in zip(texts, WIDTHS, strict=True))
    print(" ".join(aligned).rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
