"""The tables that a run prints, line by line as it measures."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.growth import Growth
from benchmarks.limits import Rates, Reached
from benchmarks.rows import Row


class Column(NamedTuple):
    """Head and width of a column."""

    head: str
    width: int


ROWS = (
    Column("", 6),
    Column("case", 50),
    Column("threads", 7),
    Column("ours [s]", 9),
    Column("obvious [s]", 11),
    Column("result", 14),
    Column("target", 12),
    Column("difference", 10),
    Column("", 6),
)
RATES = (
    Column("", 6),
    Column("threads", 7),
    Column("GEMM [GF/s]", 11),
    Column("in single", 9),
    Column("memory [GB/s]", 13),
    Column("normals [M/s]", 13),
    Column("exp [M/s]", 9),
)
LIMITS = (
    Column("", 6),
    Column("kernel", 46),
    Column("threads", 7),
    Column("time [s]", 9),
    Column("GF/s", 7),
    Column("GB/s", 7),
    Column("limited by", 14),
    Column("of it", 6),
)
GROWTH = (
    Column("", 6),
    Column("kernel", 46),
    Column("in", 2),
    Column("sizes", 14),
    Column("exponent", 15),
    Column("count", 6),
    Column("theory", 6),
)


def head(columns: Sequence[Column]) -> None:
    """Print the heads of a table."""
    print()
    line(columns, [column.head for column in columns])


def line(columns: Sequence[Column], texts: Sequence[str]) -> None:
    """Print a line of a table."""
    pairs = zip(texts, columns, strict=True)
    print(" ".join(text.ljust(column.width) for text, column in pairs).rstrip(), flush=True)


def numbered(total: int) -> Iterator[str]:
    """Yield how far a table is: 1/9, 2/9 and so on."""
    return (f"{done}/{total}" for done in range(1, total + 1))


def row_texts(row: Row) -> Iterable[str]:
    """Return the texts of a row."""
    return (
        row.case,
        str(row.threads),
        f"{row.ours:.2g}",
        "" if row.obvious is None else f"{row.obvious:.2g}",
        f"{row.value:.3g} {row.unit}",
        "" if row.target is None else f"{row.side} {row.target:g}",
        difference(row),
        "ok" if row.ok else "MISSED",
    )


def difference(row: Row) -> str:
    """Return how the answers differ, in words."""
    if row.sigmas is not None:
        return f"{row.sigmas:.1f} s.e."
    return "" if row.difference is None else f"{row.difference:.0e}"


def rates_texts(rates: Rates) -> Iterable[str]:
    """Return the texts of the machine's rates."""
    amounts = (rates.flops / 1e9, rates.single_flops / 1e9, rates.bytes / 1e9)
    return str(rates.threads), *(
        f"{x:.3g}" for x in (*amounts, rates.normals / 1e6, rates.exps / 1e6)
    )


def limit_texts(found: Reached) -> Iterable[str]:
    """Return the texts of a kernel's distance from the machine."""
    return (
        found.kernel,
        str(found.threads),
        f"{found.seconds:.2g}",
        f"{found.flops / found.seconds / 1e9:.3g}",
        f"{found.bytes / found.seconds / 1e9:.3g}",
        found.bound,
        f"{found.share:.0%}",
    )


def growth_texts(found: Growth) -> Iterable[str]:
    """Return the texts of a kernel's growth."""
    return (
        found.kernel,
        found.letter,
        f"{found.sizes[0]}..{found.sizes[-1]}",
        f"{found.exponent:.2f} +- {found.stderr:.2f}",
        f"{found.counted:.2f}",
        f"{found.theory:g}",
    )
