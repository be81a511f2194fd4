"""The page of the benchmarks, filled from the record that the repository keeps.

A line ``<!-- bench: growth -->`` of the page turns into a table, ``<!-- bench: growth_figure -->``
into a figure beside the page. The record is a file of another program: what it lacks is said on the
page, and the book is built without it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from iclkit.site.history import commit_link
from iclkit.site.pages import BuildError, table

__all__ = ["RECORD", "Here", "benchmarks_page", "put_benchmarks"]

#: Where the record lies, seen from the root of the repository.
RECORD: Final = "benchmarks/last.json"

ASKED = re.compile(r"^<!-- bench: (\w+) -->$", re.MULTILINE)
SCHEMA = 1
RATIO = "x"
POWERS = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "\u00b5s"))


class Here(NamedTuple):
    """Where the page is: its folder, and the public address of the repository."""

    folder: Path
    place: str | None = None


Record = Mapping[str, Any]
Part = Callable[[Record, Here], str]


def put_benchmarks(root: Path, staging: Path, place: str | None) -> None:
    """Fill the staged page of the benchmarks, if the book has one.

    Parameters
    ----------
    root : Path
        The repository, with the record.
    staging : Path
        Where the sources of the book are laid out.
    place : str or None
        Public address of the repository.
    """
    page = staging / "book" / "benchmarks.md"
    if not page.exists():
        return
    here = Here(page.parent, place)
    filled = benchmarks_page(page.read_text(encoding="utf-8"), root / RECORD, here)
    page.write_text(filled, encoding="utf-8")


def benchmarks_page(text: str, record: Path, here: Here) -> str:
    """Return the page of the benchmarks with its parts, or with the reason why it has none.

    Parameters
    ----------
    text : str
        The page in Markdown.
    record : Path
        What ``python3 run.py bench --keep`` wrote.
    here : Here
        Its folder takes the figures.

    Returns
    -------
    str
        Without a usable record, what comes before the first part, and one sentence.

    Raises
    ------
    BuildError
        If the page asks for a part that does not exist.
    """
    for name in ASKED.findall(text):
        if name not in PARTS:
            raise BuildError(
                f"benchmarks.md: bench must be one of {', '.join(PARTS)}, got {name!r}"
            )
    try:
        found = read_record(record)
        return ASKED.sub(lambda mark: PARTS[mark[1]](found, here), text)
    except FileNotFoundError:
        return without(text, "No run is kept yet")
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError):
        return without(text, f"The kept record, `{RECORD}`, cannot be read")


def without(text: str, reason: str) -> str:
    """Return the start of the page, and why there is no more."""
    start = text[: mark.start()] if (mark := ASKED.search(text)) else text
    return f"{start}{reason}: `python3 run.py bench --keep` writes one.\n"


def read_record(path: Path) -> Record:
    """Return the record.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is of another version.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["schema"] != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA}, got {content['schema']!r}")
    return dict(content)


def facts(record: Record, here: Here) -> str:
    """Return where, when and from what the numbers come, as a list."""
    machine, seconds = record["machine"], float(record["seconds"])
    versions = ", ".join(f"{name} {plain(value)}" for name, value in record["versions"].items())
    commit = commit_link(str(record["commit"]), here.place)
    lines = [
        f"**Machine** {plain(machine['cpu'])}, {int(machine['cores'])} cores, "
        f"{plain(machine['architecture'])}, {plain(machine['system'])}",
        f"**Date** {plain(record['date'])}, **commit** {commit}",
        f"**Versions** {versions}",
        f"**Run** {seconds / 60:.1f} minutes; one thread got {float(record['share']):.0%} of a "
        "processor (less than all where other work ran at the same time)",
    ]
    return "".join(f"- {line}\n" for line in lines)


def ratios(record: Record, _: Here) -> str:
    """Return the table of ratios."""
    heads = ["What", "Ratio", "Asked", "Answers", "Threads", "Ours", "Obvious", "Obvious method"]
    return aligned(heads, (ratio_row(row) for row in record["rows"] if row["unit"] == RATIO))


def ratio_row(row: Record) -> list[str]:
    """Return the row of one comparison."""
    asked = "" if row["target"] is None else counted(row["target"])
    times = str(int(row["threads"])), short(row["ours"]), short(row["obvious"])
    ratio = f"**{counted(row['value'])}**"
    return [plain(row["case"]), ratio, asked, answers(row), *times, plain(row["against"])]


def answers(row: Record) -> str:
    """Return how the answers differ."""
    if row["sigmas"] is not None:
        return f"{float(row['sigmas']):.1f} s.e."
    return "" if row["difference"] is None else f"{float(row['difference']):.0e}"


def amounts(record: Record, _: Here) -> str:
    """Return the table of what is promised as an amount."""
    rows = [row for row in record["rows"] if row["unit"] != RATIO]
    cells = ([plain(row["case"]), amount(row, "value"), below(row)] for row in rows)
    return aligned(["What", "Measured", "Asked"], cells)


def below(row: Record) -> str:
    """Return the bound of an amount."""
    return "" if row["target"] is None else f"below {amount(row, 'target')}"


def amount(row: Record, name: str) -> str:
    """Return a number with its unit."""
    unit = plain(row["unit"]).replace("us/", "\u00b5s/")
    return f"{float(row[name]):.3g} {unit}"


def rates(record: Record, _: Here) -> str:
    """Return the table of what the machine reaches."""
    heads = [
        "Threads",
        "GEMM",
        "in single precision",
        "Bandwidth",
        "Normal numbers",
        "Exponentials",
    ]
    return aligned(heads, (rates_row(row) for row in record["rates"]))


def rates_row(row: Record) -> list[str]:
    """Return the rates on some number of threads."""
    units = (
        ("flops", 1e9, "GFlop/s"),
        ("single_flops", 1e9, "GFlop/s"),
        ("bytes", 1e9, "GB/s"),
        ("normals", 1e6, "M/s"),
        ("exps", 1e6, "M/s"),
    )
    return [
        str(int(row["threads"])),
        *(f"{float(f'{float(row[name]) / one:.3g}'):,g} {unit}" for name, one, unit in units),
    ]


def limits(record: Record, _: Here) -> str:
    """Return the table of the kernels' distances from the machine."""
    heads = ["Kernel", "Reached", "Limited by", "Threads", "Time", "GFlop/s", "GB/s", "d", "n"]
    return aligned([*heads, "Operations"], (limits_row(row) for row in record["limits"]))


def limits_row(row: Record) -> list[str]:
    """Return the row of one kernel on some number of threads."""
    seconds = float(row["seconds"])
    return [
        plain(row["kernel"]),
        f"**{float(row['share']):.0%}**",
        plain(row["bound"]),
        str(int(row["threads"])),
        short(seconds),
        *(f"{float(row[name]) / seconds / 1e9:.3g}" for name in ("flops", "bytes")),
        *(f"{int(row[name]):,}" for name in ("d", "n")),
        plain(row["counted"]),
    ]


def figure_of_growth(record: Record, here: Here) -> str:
    """Return the figure of times against sizes."""
    # Here, because matplotlib takes seconds to import and every command imports this module.
    from iclkit.site.growth import growth_figure

    return growth_figure(record["growth"], here.folder)


def growth(record: Record, _: Here) -> str:
    """Return the table of exponents."""
    heads = ["Kernel", "In", "Measured", "Count", "Theory", "Sizes", "Times", "Other size"]
    return aligned(heads, (growth_row(row) for row in record["growth"]))


def growth_row(row: Record) -> list[str]:
    """Return the row of one kernel along one size."""
    sizes, seconds = row["sizes"], row["seconds"]
    return [
        *(plain(row[name]) for name in ("kernel", "letter")),
        f"**{float(row['exponent']):.2f}** \u00b1 {float(row['stderr']):.2f}",
        f"{float(row['counted']):.2f}",
        f"{float(row['theory']):g}",
        f"{int(sizes[0]):,} to {int(sizes[-1]):,}",
        f"{short(seconds[0])} to {short(seconds[-1])}",
        plain(row["held"]),
    ]


def aligned(heads: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table whose words stand at the left, and its numbers at the right."""
    align = ["---" if head in WORDS else "---:" for head in heads]
    return table(heads, align, list(rows))


def plain(value: object) -> str:
    """Return a text that is not read as Markdown; powers are raised."""
    value = re.sub(r"\^(\d)", lambda power: POWERS[int(power[1])], str(value))
    return re.sub(r"([\\`*_{}\[\]<>|$^])", r"\\\1", " ".join(value.split()))


def short(seconds: float) -> str:
    """Return a time in two digits with its unit."""
    if seconds >= 60:
        return f"{seconds / 60:,.0f} min"
    unit, name = next((t for t in TIMES if seconds >= t[0]), TIMES[-1])
    return f"{float(f'{seconds / unit:.2g}'):g} {name}"


def counted(ratio: float) -> str:
    """Return a ratio in two digits, in three from 100 on."""
    if ratio >= 100:
        return f"{float(f'{float(ratio):.3g}'):,.0f}"
    return f"{float(f'{float(ratio):.2g}'):g}"


WORDS: Final = {"What", "Kernel", "In", "Limited by", "Obvious method", "Operations", "Other size"}
PARTS: Final[Mapping[str, Part]] = {
    "facts": facts,
    "ratios": ratios,
    "amounts": amounts,
    "rates": rates,
    "limits": limits,
    "growth": growth,
    "growth_figure": figure_of_growth,
}
