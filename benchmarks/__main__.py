"""Measure the library against the obvious methods, against the machine, and against theory.

Prints the tables, writes a record, and fails if a target is missed or, with --against, if a ratio
fell by more than 30 % against another record.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import guard, record, tables
from benchmarks.cases import FULL, QUICK, all_cases
from benchmarks.growth import all_growth
from benchmarks.kernels import kernels, small
from benchmarks.limits import all_reached, measured_rates
from benchmarks.record import KEPT, Record, RecordError
from benchmarks.rows import Case, Row, settled
from benchmarks.timing import cores, keep_memory
from iclkit.bench.memory import free_gb

OUTPUT = Path("_build/bench.json")
PARTS = ("ratios", "limits", "growth")
NEED = "the benchmarks need 4 GB"  # of memory; the largest one has a process of its own
QUIET = 0.9  # share of the processor below which a run says that the machine was busy

Item = TypeVar("Item")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks and return the exit code: 0, 1 for a bad row, 2 for a bad call."""
    try:
        return run(options(arguments))
    except RecordError as error:
        return told(str(error))
    except (MemoryError, ChildProcessError) as error:
        problem = str(error) or "the memory does not suffice"
        return told(f"{problem}; {NEED}, {free_gb():.1f} GB are free")
    except OSError as error:
        return told(f"{error.filename}: {error.strerror}")


def told(problem: str) -> int:
    """Print one line on stderr and return exit code 2."""
    print(f"bench: {problem}", file=sys.stderr)
    return 2


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, no targets")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="record to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--keep", action="store_true", help=f"store the record as {KEPT.name}")
    parser.add_argument("--against", type=Path, metavar="FILE", help="record to compare with")
    parser.add_argument(
        "--accept", action="store_true", help="keep a record with a ratio that fell"
    )
    found = parser.parse_args(arguments)
    if found.quick and (found.keep or found.against):
        parser.error("--keep and --against need the full sizes, got --quick")
    if found.keep and set(found.parts) != set(PARTS):
        parser.error(f"--keep needs all parts, got --parts {' '.join(found.parts)}")
    if found.against and "ratios" not in found.parts:
        parser.error(f"--against needs the ratios, got --parts {' '.join(found.parts)}")
    if found.accept and not found.keep:
        parser.error("--accept is for --keep")
    if found.keep and not found.against and KEPT.exists():
        found.against = KEPT  # else many small losses would pass, one record after the other
    return found


def run(asked: argparse.Namespace) -> int:
    """Measure, print, write, compare; return the exit code."""
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    base = base_of(asked.against) if asked.against else {}
    threads = (1,) if asked.quick or cores() == 1 else (1, 2)
    keep_memory()
    done, start = Record(), time.perf_counter()
    if "ratios" in asked.parts:
        cases = list(all_cases(QUICK if asked.quick else FULL, threads))
        done.rows = ratios(cases, base)
    if {"limits", "growth"} & set(asked.parts):
        measure_kernels(done, asked)
    done.seconds = time.perf_counter() - start
    content = done.content()
    record.write(asked.output, content)
    complaints = guard.complaints(done.rows, base, threads)
    code = summed_up(done, complaints, guard.unguarded(done.rows, base), asked)
    if asked.keep:
        record.refuse_to_keep(content, done.rows, [] if asked.accept else complaints)
        record.write(KEPT, content)
    return 0 if asked.accept and all(row.ok for row in done.rows) else code


def base_of(path: Path) -> guard.Values:
    """Return the ratios to compare with, measured anew where the record is of another machine."""
    content = record.read(path)
    commit, day = content["commit"], content.get("date", "an unknown day")
    if guard.comparable(content):
        print(f"Compared with {path}: commit {commit}, {day}, this machine.")
        return record.values(content)
    print(f"{path} is of another machine or other versions.")
    print(f"So its commit {commit} is measured here first.", flush=True)
    return guard.measured_here(commit)


def ratios(cases: Sequence[Case], base: guard.Values) -> list[Row]:
    """Print and return the rows; one that is bad or fell is measured again first."""

    def wanted(row: Row) -> bool:
        return row.ok and not guard.fell(row, base)

    rows = (settled(case, wanted) for case in cases)
    return printed(tables.ROWS, rows, len(cases), tables.row_texts)


def measure_kernels(done: Record, asked: argparse.Namespace) -> None:
    """Print and store the machine's rates, the distance of each kernel, and its growth."""
    hot = small(kernels()) if asked.quick else kernels()
    counts = sorted({1, cores()})
    found = (measured_rates(count, quick=asked.quick) for count in counts)
    done.rates = printed(tables.RATES, found, len(counts), tables.rates_texts)
    if "limits" in asked.parts:
        total = sum(1 for k in hot for count in counts if count == 1 or k.threaded)
        reached = all_reached(hot, tuple(done.rates))
        done.limits = printed(tables.LIMITS, reached, total, tables.limit_texts)
    if "growth" in asked.parts:
        total, before = sum(len(k.axes) for k in hot), clocks()
        grown = all_growth(hot, done.rates[0])
        done.growth = printed(tables.GROWTH, grown, total, tables.growth_texts)
        processor, wall = (now - then for now, then in zip(clocks(), before, strict=True))
        done.share = round(min(1.0, processor / wall), 3)


def clocks() -> tuple[float, float]:
    """Return processor time and wall time."""
    return time.process_time(), time.perf_counter()


def printed(
    columns: Sequence[tables.Column],
    items: Iterable[Item],
    total: int,
    texts: Callable[[Item], Iterable[str]],
) -> list[Item]:
    """Print a table as its items come, and return them."""
    tables.head(columns)
    done = []
    for number, item in zip(tables.numbered(total), items, strict=True):
        tables.line(columns, [number, *texts(item)])
        done.append(item)
    return done


def summed_up(done: Record, complaints: list[str], new: list[str], asked: Any) -> int:
    """Print what came out and return the exit code."""
    print(f"\nMeasured in {done.seconds:.0f} s; written to {asked.output}.")
    if done.share is not None and done.share < QUIET:
        print(f"The machine was busy: one thread got {done.share:.0%} of a processor.")
    for line in complaints:
        print(line)
    if new:
        print(f"Not in the record, so compared with nothing: {'; '.join(new)}.")
    return 0 if all(row.ok for row in done.rows) and not complaints else 1


if __name__ == "__main__":
    sys.exit(main())
