"""The figure of the benchmarks' growth: time against size, beside the power that theory gives.

One small panel per kernel, all with the same axes, so that slopes can be compared: size and time
are shares of the largest. Two panels in a row leave letters of 9 pixels on a page 360 pixels wide.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from textwrap import fill
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, StrMethodFormatter

from iclkit.bench import plots

__all__ = ["NAME", "draw_growth", "finding", "growth_figure"]

#: Under which the figure is referred to; its file has the same name.
NAME: Final = "benchmark-growth"

Row = Mapping[str, Any]

NCOLS = 2
WIDTH, HEIGHT, AROUND = 4.6, 1.4, 0.9  # of the figure, of a row of panels, of what is around them
LETTERS = 23  # of a title, in a line
NEAR = 0.25  # from an exponent to that of theory
LOOKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "d": {"color": "#0072B2", "marker": "o", "markersize": 5},
    "n": {"color": "#D55E00", "marker": "s", "markersize": 5},
}
THEORY: Final[Mapping[str, Any]] = {"color": "#000000", "linestyle": (0, (4, 3)), "linewidth": 1.1}
CAPTION = """\
Time of each kernel on one thread against its size, both as shares of the largest; logarithmic axes.
Circles: against the dimension d. Squares: against the number n.
A dashed line has the power of theory, which is written at its end.
Where points lie above it, time grows more slowly than theory says; where they lie below it, faster.
"""
FIGURE = """\
```{{figure}} {name}.svg
:name: {name}
:alt: {alt}
:align: center

{caption}```
"""


def growth_figure(rows: Sequence[Row], folder: Path) -> str:
    """Draw the growth of all kernels into a folder, and return the figure as a page shows it.

    Parameters
    ----------
    rows : sequence of dict
        What a record of the benchmarks has under ``growth``.
    folder : Path
        Where the page is.

    Returns
    -------
    str
        A directive of MyST; empty without rows.
    """
    if not rows:
        return ""
    bundle = plots.figure_bundle(draw_growth(rows), name=NAME, caption=CAPTION, alt=finding(rows))
    (folder / f"{NAME}.svg").write_text(bundle["image/svg+xml"], encoding="utf-8")
    alt = json.dumps(bundle["text/plain"], ensure_ascii=False)  # quoted: it may hold a colon
    return FIGURE.format(name=NAME, alt=alt, caption=CAPTION)


def finding(rows: Sequence[Row]) -> str:
    """Return what the figure shows, in words: how many exponents are near theory, and the worst.

    Parameters
    ----------
    rows : sequence of dict
        As in `growth_figure`; at least one.
    """
    beyond = [float(row["exponent"]) - float(row["theory"]) for row in rows]
    below, above = sum(gap < -NEAR for gap in beyond), sum(gap > NEAR for gap in beyond)
    worst = rows[max(range(len(rows)), key=lambda i: abs(beyond[i]))]
    return (
        "Time against size, as shares of the largest on logarithmic axes, a plot for each kernel, "
        f"with dashed lines of theory. Of {len(rows)} measured exponents "
        f"{len(rows) - below - above} lie within {NEAR:g} of theory, {below or 'none'} below that, "
        f"{above or 'none'} above. The furthest "
        f"is {float(worst['exponent']):.2f} where theory has {float(worst['theory']):g}, in "
        f"{worst['letter']}, for {worst['kernel']}."
    )


def draw_growth(rows: Sequence[Row]) -> Figure:
    """Return the figure.

    Parameters
    ----------
    rows : sequence of dict
        As in `growth_figure`; at least one.
    """
    kernels = list(dict.fromkeys(str(row["kernel"]) for row in rows))
    nrows = -(-len(kernels) // NCOLS)
    with plots.style():
        size = (WIDTH, HEIGHT * nrows + AROUND)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(nrows, NCOLS, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, kernel in zip_longest(grid, kernels):
            draw_kernel(axes, kernel, [row for row in rows if row["kernel"] == kernel])
        for axes in grid[: len(kernels)][-NCOLS:]:  # the last of each column
            axes.tick_params(labelbottom=True)
        figure.supxlabel("size, share of the largest", fontsize=11)
        figure.supylabel("time, share of the longest", fontsize=11)
        figure.legend(handles=handles(), loc="outside upper center", ncols=3)
    return figure


def draw_kernel(axes: Axes, kernel: str | None, rows: Sequence[Row]) -> None:
    """Draw one kernel along its sizes; axes that are left over stay empty."""
    if kernel is None:
        axes.set_axis_off()
        return
    axes.set(xscale="log", yscale="log", ymargin=0.25)
    axes.set_title(fill(kernel, LETTERS), fontsize=10)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set(major_locator=LogLocator(), major_formatter=StrMethodFormatter("{x:g}"))
    for row in rows:
        draw_row(axes, row)


def draw_row(axes: Axes, row: Row) -> None:
    """Draw one kernel along one size, and the power of theory through the largest size."""
    sizes, times = (np.array(row[name]) / row[name][-1] for name in ("sizes", "seconds"))
    letter, theory = str(row["letter"]), float(row["theory"])
    axes.plot(sizes, times, **LOOKS[letter])
    guide = sizes**theory
    axes.plot(sizes, guide, **THEORY, zorder=3)
    power = f"${letter}$" if theory == 1 else f"${letter}^{{{theory:g}}}$"
    at_end: Any = {"xytext": (0, -4), "textcoords": "offset points", "ha": "center", "va": "top"}
    axes.annotate(power, (sizes[0], guide[0]), fontsize=11.5, **at_end)


def handles() -> list[Line2D]:
    """Return the entries of the legend."""
    lines = [Line2D([], [], label=f"in {letter}", **look) for letter, look in LOOKS.items()]
    return [*lines, Line2D([], [], label="theory", **THEORY)]
