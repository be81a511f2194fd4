"""Figures from tidy tables: theory as lines, simulation as markers, published numbers as open ones.

Nothing here computes, and no global setting of matplotlib is touched: figures are made outside
pyplot, inside `style`. Hues are told apart by colour, marker and line style at once, so a figure
also reads in grey; sizes are chosen for a page 360 pixels wide.
"""

import html
import io
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from iclkit._checks import (
    count,
    finite_array,
    flag,
    function_of,
    instance,
    real_array,
    scalar,
    shown,
)
from iclkit.bench.records import CAPTION_MIME, FIGURE_MIME, FIGURE_NAME, MIN_ALT

__all__ = [
    "STYLE",
    "curves",
    "draw_contours",
    "draw_curves",
    "draw_heatmap",
    "figure_bundle",
    "heatmap",
    "panel",
    "panels",
    "show",
    "style",
]

Draw = Callable[[Axes], None]
Points = Mapping[str, tuple[float, float]]

#: Settings of every figure; `style` puts them in place for a block only.
STYLE: Final[Any] = {
    # seaborn's ticks, without its fonts: they differ from machine to machine
    **{k: v for k, v in sns.axes_style("ticks").items() if not k.startswith("font")},
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.5,
    "errorbar.capsize": 2.5,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 150,
    "svg.fonttype": "path",
    "path.simplify": True,
}

#: What is drawn, in the order of the tables of `curves`.
LABELS: Final = ("theory", "simulation", "published", "paper size")

WIDTH: Final = 5.2  # inches: 11 points stay 10 pixels on a page 360 pixels wide
PANEL_HEIGHT: Final = 3.1
MOST_PANELS: Final = 100  # in a row
TALLEST: Final = 100.0  # inches

# Colours of Okabe and Ito (2008), told apart with any colour vision; yellow is too light on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (9, 2, 3, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 4)),
)
_GREY = "#555555"


class Look(NamedTuple):
    """How one level of the hue is drawn."""

    color: str
    marker: str
    dash: Any


_LOOKS = [Look(*look) for look in zip(_COLOURS, _MARKERS, _DASHES, strict=True)]


@contextmanager
def style() -> Iterator[None]:
    """Put the book's figure settings in place for a block, and take them back after it."""
    with mpl.rc_context(STYLE):
        yield


def curves(
    theory: pd.DataFrame | None,
    runs: pd.DataFrame | None = None,
    published: pd.DataFrame | None = None,
    large: pd.DataFrame | None = None,
    *,
    x: str,
    y: str | Sequence[str],
    hue: str | None = None,
    **options: Any,
) -> Figure:
    """Return a figure of lines for theory, filled markers for runs, open ones for published points.

    Parameters
    ----------
    theory, runs, published, large : pandas.DataFrame, optional
        Tidy tables; `large` holds runs at the paper's size, drawn as crosses. ``<y>_stderr``, where
        there is such a column, becomes an error bar of one standard error.
    x : str
        Column on the horizontal axis.
    y : str or sequence of str
        Column on the vertical axis; several make one panel each, below each other.
    hue : str, optional
        Column whose levels get their own colour, marker and line style.
    **options
        `xlabel`, `ylabel` (one per panel where there are several), `hue_label`, `logx`, `logy`,
        `ylim`, `title` (likewise one per panel), `labels` (names of the kinds), as in
        `draw_curves`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError, TypeError
        As `draw_curves`; also if no column is named, or lists of options have another length.
    """
    names = _names("y", y)
    per_panel = [_panel_options(options, i, len(names)) for i in range(len(names))]
    parts = [
        panel(draw_curves, theory, runs, published, large, x=x, y=name, hue=hue, **chosen)
        for name, chosen in zip(names, per_panel, strict=True)
    ]
    return panels(*parts)


def heatmap(
    table: pd.DataFrame, *, x: str, y: str, value: str | Sequence[str], **options: Any
) -> Figure:
    """Return a figure with one map of `value` over x and y; several values, several panels.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per point of a full grid.
    x, y : str
        Columns of the axes.
    value : str or sequence of str
        Columns of the colour.
    **options
        As in `draw_heatmap`; `title`, `vline`, `points` may be sequences, one per panel.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError, TypeError
        As `draw_heatmap`; also if no column is named, or lists of options have another length.
    """
    names = _names("value", value)
    per_panel = [_panel_options(options, i, len(names)) for i in range(len(names))]
    parts = [
        panel(draw_heatmap, table, x=x, y=y, value=name, **chosen)
        for name, chosen in zip(names, per_panel, strict=True)
    ]
    return panels(*parts, height=3.4)


def panel(draw: Callable[..., None], *tables: pd.DataFrame | None, **options: Any) -> Draw:
    """Return a part for `panels`: ``draw`` with its tables and options, waiting for its axes.

    Parameters
    ----------
    draw : callable
        `draw_curves`, `draw_heatmap`, `draw_contours`, or anything else that takes axes first.
    *tables : pandas.DataFrame, optional
    **options

    Raises
    ------
    TypeError
        If `draw` is no function.
    """
    function_of("draw", draw)
    return lambda axes: draw(axes, *tables, **options)


def panels(*parts: Draw, ncols: int = 1, height: float = PANEL_HEIGHT) -> Figure:
    """Return a figure with one panel per part, each drawn by a function of its axes.

    Parameters
    ----------
    *parts : callable
        For example ``panel(draw_curves, theory, runs, x="tau", y="icl")``.
    ncols : int
        Panels per row. The default stacks them, which a narrow screen can show.
    height : float
        Of one panel, in inches.

    Returns
    -------
    matplotlib.figure.Figure
        Legends that are alike in all panels are shown once, above them.

    Raises
    ------
    ValueError
        If there are no parts, or no columns, or the panels have no height.
    TypeError
        If a part is no function.
    """
    if not parts:
        raise ValueError("parts must hold at least one panel, got none")
    parts = tuple(function_of("parts", part) for part in parts)
    ncols, height = count("ncols", ncols, high=MOST_PANELS), scalar("height", height, open_=True)
    if height > TALLEST:
        raise ValueError(f"height must be at most {TALLEST:g} inches, got {height:g}")
    nrows = -(-len(parts) // ncols)
    with style():
        size = (min(WIDTH * ncols, 6.5), height * nrows + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(nrows, ncols, squeeze=False).ravel()
        for axes, part in itertools.zip_longest(grid, parts):
            axes.remove() if part is None else part(axes)
        _share_legend(figure)
    return figure


def draw_curves(
    axes: Axes,
    theory: pd.DataFrame | None,
    runs: pd.DataFrame | None = None,
    published: pd.DataFrame | None = None,
    large: pd.DataFrame | None = None,
    *,
    x: str,
    y: str,
    hue: str | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    hue_label: str | None = None,
    title: str | None = None,
    logx: bool = False,
    logy: bool = False,
    ylim: tuple[float, float] | None = None,
    labels: Sequence[str] = LABELS,
) -> None:
    """Draw into `axes` what `curves` shows in one panel.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    theory, runs, published, large : pandas.DataFrame, optional
    x, y, hue : str
        Columns.
    xlabel, ylabel, hue_label, title : str, optional
        Default: the column's name; `hue_label` may contain LaTeX.
    logx, logy : bool
        Logarithmic axes.
    ylim : (float, float), optional
        Range of the vertical axis, where the curves diverge.
    labels : sequence of str
        Names of the kinds in the legend, in the order of the tables; those left out keep their
        default.

    Raises
    ------
    ValueError
        If there is nothing to draw, a column is missing, or the hue has too many levels.
    TypeError
        If a table is no DataFrame, a column holds no numbers, or another argument is of a wrong
        kind.
    """
    _check_axes(axes, xlabel=xlabel, ylabel=ylabel, title=title, hue_label=hue_label)
    labels = _kinds(labels)
    tables = _frames(theory=theory, runs=runs, published=published, large=large)
    given = {label: t for label, t in zip(labels, tables, strict=True) if t is not None}
    _check_tables(given, x=x, y=y, hue=hue)
    for table in given.values():
        _check_places(table, x)
        _check_numbers(table, y=y)
        if (error := f"{y}_stderr") in table:
            _check_numbers(table, y=error)
    looks = _looks(list(given.values()), hue)
    for draw, table in zip(_KINDS, tables, strict=True):
        for level, rows in [] if table is None else _levels(table, hue):
            draw(axes, rows.sort_values(x), (x, y), looks[level])
    _scales(axes, logx=logx, logy=logy, ylim=ylim)
    axes.set(xlabel=xlabel or x, ylabel=ylabel or y, title=title or "")
    entries = _hue_handles(looks, hue_label or hue, tables) + _kind_handles(labels, tables)
    axes.legend(handles=entries, handlelength=2.8)


def draw_heatmap(
    axes: Axes,
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    value: str,
    xlabel: str | None = None,
    ylabel: str | None = None,
    value_label: str | None = None,
    title: str | None = None,
    log: bool = False,
    vline: float | None = None,
    points: Points | None = None,
) -> None:
    """Draw into `axes` a map of `value`; cells without a value stay hatched.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    table : pandas.DataFrame
        One row per point of a full grid.
    x, y, value : str
        Columns.
    xlabel, ylabel, value_label, title : str, optional
    log : bool
        Logarithmic colours.
    vline : float, optional
        Place of a dashed vertical line.
    points : dict of str to (float, float), optional
        Letters to put at places of the map.

    Raises
    ------
    ValueError
        If a column is missing or two rows have one place.
    TypeError
        If the table is no DataFrame, a column holds no numbers, or another argument is of a wrong
        kind.
    """
    _check_axes(axes, xlabel=xlabel, ylabel=ylabel, title=title, value_label=value_label)
    wide = _wide(table, x=x, y=y, value=value)
    cells = np.ma.masked_invalid(wide.to_numpy(dtype=np.float64))
    axes.set(facecolor="#f2f2f2", xlabel=xlabel or x, ylabel=ylabel or y, title=title or "")
    axes.patch.set(hatch="///", edgecolor="#bbbbbb")
    axes.grid(visible=False)
    look: Any = {
        "cmap": "cividis",
        "norm": "log" if flag("log", log) else "linear",
        "rasterized": True,
    }
    mesh = axes.pcolormesh(wide.columns, wide.index, cells, shading="nearest", **look)
    axes.figure.colorbar(mesh, ax=axes, label=value_label or value)
    if vline is not None:
        vline = scalar("vline", vline, low=-np.inf)
        axes.axvline(vline, color="white", linewidth=3)
        axes.axvline(vline, color="#B00000", linestyle="--")
    _letters(axes, points or {})


def draw_contours(
    axes: Axes,
    table: pd.DataFrame,
    paths: pd.DataFrame | None = None,
    *,
    x: str,
    y: str,
    value: str,
    hue: str | None = None,
    shade: str | None = None,
    levels: Sequence[float] | int = 10,
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str | None = None,
    points: Points | None = None,
) -> None:
    """Draw into `axes` lines of equal `value`, and paths over them.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    table : pandas.DataFrame
        One row per point of a full grid.
    paths : pandas.DataFrame, optional
        Points of paths in the order in which they are walked; each begins at its marker.
    x, y, value : str
        Columns; the paths need x and y.
    hue : str, optional
        Column of `paths` that tells one path from another.
    shade : str, optional
        Column of `table`; the region where it is negative is shaded.
    levels : sequence of float or int
        Values of the lines, or how many.
    xlabel, ylabel, title : str, optional
    points : dict of str to (float, float), optional
        Letters to put at places of the map.

    Raises
    ------
    ValueError
        If a column is missing, two rows have one place, or there are no levels.
    TypeError
        If a table is no DataFrame, a column holds no numbers, or another argument is of a wrong
        kind.
    """
    _check_axes(axes, xlabel=xlabel, ylabel=ylabel, title=title)
    levels = _contour_levels(levels)
    axes.set(xlabel=xlabel or x, ylabel=ylabel or y, title=title or "")
    axes.grid(visible=False)
    if shade is not None:
        region = _wide(table, x=x, y=y, shade=shade)
        dull: Any = {"levels": [-np.inf, 0.0], "colors": ["#d9d9d9"]}
        axes.contourf(region.columns, region.index, region.to_numpy(dtype=np.float64), **dull)
    wide = _wide(table, x=x, y=y, value=value)
    thin: Any = {"levels": levels, "colors": "#888888", "linewidths": 0.8}
    axes.contour(wide.columns, wide.index, wide.to_numpy(dtype=np.float64), **thin)
    if paths is not None:
        _check_tables({"paths": _frame("paths", paths)}, x=x, y=y, hue=hue)
        _check_numbers(paths, x=x, y=y)
    looks = {} if paths is None else _looks([paths], hue)
    for level, rows in [] if paths is None else _levels(paths, hue):
        _draw_path(axes, rows, (x, y), looks[level])
    _letters(axes, points or {})


def _draw_path(axes: Axes, rows: pd.DataFrame, xy: tuple[str, str], look: Look) -> None:
    axes.plot(rows[xy[0]], rows[xy[1]], color=look.color, linestyle=look.dash, zorder=3)
    start = rows.iloc[:1]
    axes.plot(start[xy[0]], start[xy[1]], color=look.color, marker=look.marker, zorder=4)


def show(
    fig: Figure,
    *,
    name: str,
    caption: str,
    alt: str,
    data: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
) -> None:
    """Display `fig` with its caption, and leave both in the outputs for the book.

    Parameters
    ----------
    fig, name, caption, alt, data
        See `figure_bundle`.

    Notes
    -----
    The caption is an output of its own, marked with `CAPTION_MIME`; a page that numbers its
    figures drops it.
    """
    bundle = figure_bundle(fig, name=name, caption=caption, alt=alt, data=data)
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display(bundle, raw=True)
        words = {"text/markdown": caption, "text/plain": caption, CAPTION_MIME: {"name": name}}
        ipython.display.display(words, raw=True)


def figure_bundle(
    fig: Figure,
    *,
    name: str,
    caption: str,
    alt: str,
    data: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
) -> dict[str, Any]:
    """Return the mime bundle of a figure: SVG, alternative text, record.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    name : str
        Lower-case words joined by hyphens; the figure is referred to by it.
    caption : str
        MyST Markdown: what is shown, parameters, which part of the paper or "illustration".
    alt : str
        A sentence of at least 30 characters for readers who do not see the figure.
    data : pandas.DataFrame or dict of these, optional
        The plotted numbers, for download; several tables are stacked, named in column
        ``table``.

    Returns
    -------
    dict
        Keys ``image/svg+xml``, ``text/plain``, `FIGURE_MIME`.

    Raises
    ------
    ValueError
        If the name is not a slug, the caption is empty, or the alternative text no sentence.
    TypeError
        If the figure, a word or the data are of another kind.

    Notes
    -----
    The same figure gives the same bytes: no date, no version, ids from the name.
    """
    instance("fig", fig, Figure, "make one with curves, heatmap or panels")
    name, caption, alt = _text("name", name), _text("caption", caption), _text("alt", alt)
    _check_words(name, caption, alt)
    record = {"name": name, "caption": caption, "alt": alt, "csv": _csv(data)}
    return {"image/svg+xml": _svg(fig, name, alt), "text/plain": alt, FIGURE_MIME: record}


def _panel_options(options: Mapping[str, Any], panel: int, n_panels: int) -> dict[str, Any]:
    """Return the options of one panel: those given as a list hold one entry per panel."""
    for key, value in options.items():
        if isinstance(value, list) and len(value) != n_panels:
            raise ValueError(f"{key} must have {n_panels} entries, got {len(value)}")
    return {k: v[panel] if isinstance(v, list) else v for k, v in options.items()}


def _names(argument: str, given: str | Sequence[str]) -> list[str]:
    """Return the columns to draw, one per panel."""
    if not isinstance(given, str | list | tuple):
        raise TypeError(f"{argument} must be a column or a list of columns, got {shown(given)}")
    if not len(given):
        raise ValueError(f"{argument} must name at least one column, got none")
    return [given] if isinstance(given, str) else list(given)


def _kinds(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all kinds, those that are not given by default."""
    if not isinstance(labels, list | tuple) or len(labels) > len(LABELS):
        raise TypeError(f"labels must be a list of at most {len(LABELS)}, got {shown(labels)}")
    return (*(_text("labels", label) for label in labels), *LABELS[len(labels) :])


def _check_axes(axes: Axes, **words: str | None) -> None:
    instance("axes", axes, Axes, "panels passes them")
    for name, word in words.items():
        if word is not None:
            _text(name, word)


def _text(name: str, value: str) -> str:
    return str(instance(name, value, str, "give text"))


def _frames(**tables: pd.DataFrame | None) -> list[pd.DataFrame | None]:
    if all(table is None for table in tables.values()):
        raise ValueError(f"{', '.join(tables)}: nothing to draw, give at least one")
    return [None if table is None else _frame(name, table) for name, table in tables.items()]


def _frame(name: str, table: pd.DataFrame) -> pd.DataFrame:
    return instance(name, table, pd.DataFrame, "make one with pandas")


def _check_tables(
    given: Mapping[str, pd.DataFrame], *, hue: str | None = None, **columns: str
) -> None:
    """Raise unless all tables have the columns that the arguments name."""
    wanted = {name: _text(name, column) for name, column in columns.items()}
    if hue is not None:
        wanted["hue"] = _text("hue", hue)
    for label, table in given.items():
        for name, column in wanted.items():
            if column not in table:
                raise ValueError(f"{name}: the {label} table has no column {shown(column)}")


def _check_numbers(table: pd.DataFrame, **columns: str) -> None:
    """Raise unless columns hold numbers; what is missing may be None or NaN."""
    for name, column in columns.items():
        try:
            real_array(name, pd.to_numeric(table[column]).to_numpy())
        except (TypeError, ValueError) as error:
            line = f"{name}: column {shown(column)} must hold numbers: {error}"
            raise TypeError(line) from error


def _check_places(table: pd.DataFrame, x: str) -> None:
    """Raise unless a horizontal axis has numbers, or words."""
    if not all(isinstance(place, str) for place in table[x]):
        _check_numbers(table, x=x)


def _wide(table: pd.DataFrame, **columns: str) -> pd.DataFrame:
    """Return the last of the columns over the first two, as a grid of numbers."""
    _check_tables({"given": _frame("table", table)}, **columns)
    _check_numbers(table, **columns)
    x, y, value = columns.values()
    if table.duplicated([x, y]).any():
        raise ValueError("x, y: the table must have one row per place, got several")
    return table.pivot(index=y, columns=x, values=value)


def _contour_levels(levels: Sequence[float] | int) -> Any:
    """Return the values of contour lines in increasing order, or how many to choose."""
    if isinstance(levels, int):
        return count("levels", levels, high=MOST_PANELS)
    values = finite_array("levels", levels, ndim=1)
    if not len(values) or (np.diff(values) <= 0).any():
        raise ValueError(f"levels must be numbers in increasing order, got {shown(levels)}")
    return values


def _pair(name: str, value: tuple[float, float]) -> tuple[float, float]:
    """Return two finite numbers."""
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != 2:
        raise TypeError(f"{name} must be two numbers, got {shown(value)}")
    return scalar(name, value[0], low=-np.inf), scalar(name, value[1], low=-np.inf)


def _letters(axes: Axes, points: Points) -> None:
    if not isinstance(points, Mapping):
        raise TypeError(f"points must be a dict of letters to places, got {shown(points)}")
    box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"}
    for letter, place in points.items():
        axes.annotate(
            _text("points", letter),
            _pair("points", place),
            ha="center",
            va="center",
            bbox=box,
            fontsize=10,
        )


def _looks(tables: Sequence[pd.DataFrame], hue: str | None) -> dict[Any, Look]:
    """Return the look of every level of the hue, the same in all tables."""
    levels = sorted({level for table in tables for level, _ in _levels(table, hue)}, key=_sort_key)
    if len(levels) > len(_LOOKS):
        raise ValueError(f"{hue} must have at most {len(_LOOKS)} levels, got {len(levels)}")
    return dict(zip(levels, _LOOKS, strict=False))


def _sort_key(level: Any) -> tuple[bool, Any]:
    return isinstance(level, str), level if level is not None else 0


def _levels(table: pd.DataFrame, hue: str | None) -> list[tuple[Any, pd.DataFrame]]:
    return [(None, table)] if hue is None else list(table.groupby(hue, sort=True))


def _draw_line(axes: Axes, rows: pd.DataFrame, xy: tuple[str, str], look: Look) -> None:
    axes.plot(rows[xy[0]], rows[xy[1]], color=look.color, linestyle=look.dash, zorder=2)


def _draw_filled(axes: Axes, rows: pd.DataFrame, xy: tuple[str, str], look: Look) -> None:
    _draw_points(axes, rows, xy, look, {"zorder": 3})


def _draw_open(axes: Axes, rows: pd.DataFrame, xy: tuple[str, str], look: Look) -> None:
    wide = {"markerfacecolor": "none", "markersize": 10.5, "markeredgewidth": 1.3, "zorder": 4}
    _draw_points(axes, rows, xy, look, wide)


def _draw_points(
    axes: Axes, rows: pd.DataFrame, xy: tuple[str, str], look: Look, extra: Mapping[str, Any]
) -> None:
    error = rows.get(f"{xy[1]}_stderr")
    options = {"color": look.color, "fmt": look.marker, "elinewidth": 1.2, **extra}
    axes.errorbar(rows[xy[0]], rows[xy[1]], yerr=error, **options)


def _draw_cross(axes: Axes, rows: pd.DataFrame, xy: tuple[str, str], look: Look) -> None:
    thick = {"fmt": "x", "markersize": 7.5, "markeredgewidth": 2.0, "zorder": 5}
    _draw_points(axes, rows, xy, look, thick)


_KINDS = (_draw_line, _draw_filled, _draw_open, _draw_cross)


def _scales(axes: Axes, *, logx: bool, logy: bool, ylim: tuple[float, float] | None) -> None:
    if flag("logx", logx):
        axes.set_xscale("log")
    if flag("logy", logy):
        axes.set_yscale("log")
    for axis, log in ((axes.xaxis, logx), (axes.yaxis, logy)):
        if log:  # below one decade the minor ticks are named, shortly: 0.4, not 4 x 10^-1
            axis.set_minor_formatter(_PlainNumbers(minor_thresholds=(1, 0.3)))
    if ylim is not None:
        axes.set_ylim(*_pair("ylim", ylim))


class _PlainNumbers(LogFormatter):
    """Names the ticks that `LogFormatter` chooses, 0.4 where that writes 4e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _hue_handles(
    looks: Mapping[Any, Look], label: str | None, tables: Sequence[pd.DataFrame | None]
) -> list[Line2D]:
    """Return one legend entry per level, with the line and the marker where they are drawn."""
    if label is None:
        return []
    lines, points = tables[0] is not None, any(table is not None for table in tables[1:])
    return [
        Line2D(
            [],
            [],
            color=look.color,
            marker=look.marker if points else "",
            linestyle=look.dash if lines else "",
            label=_level(label, level),
        )
        for level, look in looks.items()
    ]


def _level(label: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{label} = " + (r"$\infty$" if value == np.inf else f"{value:g}")


def _kind_handles(labels: Sequence[str], tables: Sequence[pd.DataFrame | None]) -> list[Line2D]:
    marks: Any = (
        {"linestyle": "-"},
        {"linestyle": "", "marker": "o"},
        {"linestyle": "", "marker": "o", "markerfacecolor": "none", "markersize": 10.5},
        {"linestyle": "", "marker": "x", "markersize": 7.5, "markeredgewidth": 2.0},
    )
    shown = [
        Line2D([], [], color=_GREY, label=kind, **mark)
        for kind, table, mark in zip(labels, tables, marks, strict=True)
        if table is not None
    ]
    return shown if len(shown) > 1 else []  # a single kind needs no name


def _share_legend(figure: Figure) -> None:
    """Put the panels' legends, where they are alike, into one above the panels."""
    legends = [legend for axes in figure.axes if (legend := axes.get_legend()) is not None]
    texts = {tuple(text.get_text() for text in legend.get_texts()) for legend in legends}
    if len(texts) != 1:
        return
    names = next(iter(texts))
    options: Any = {"loc": "outside upper center", "ncols": min(len(names), 3), "handlelength": 2.8}
    handles: Any = legends[0].legend_handles
    figure.legend(handles, names, **options)
    for legend in legends:
        legend.remove()


def _check_words(name: str, caption: str, alt: str) -> None:
    if not re.fullmatch(FIGURE_NAME, name):
        raise ValueError(f"name must be lower-case words joined by hyphens, got {shown(name)}")
    if not caption.strip():
        raise ValueError("caption must not be empty")
    sentence = alt.strip()
    if len(sentence) < MIN_ALT or len(sentence.split()) < 5 or sentence[-1] not in ".!?":
        raise ValueError(
            f"alt must be a sentence of at least {MIN_ALT} characters that ends with a full stop, "
            f"got {shown(alt)}"
        )


def _csv(data: pd.DataFrame | Mapping[str, pd.DataFrame] | None) -> str | None:
    if data is None:
        return None
    if isinstance(data, pd.DataFrame):
        return str(data.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    if not isinstance(data, Mapping) or not data:
        raise TypeError(f"data must be a DataFrame or a dict of some, got {shown(data)}")
    for name, table in data.items():
        instance("data", table, pd.DataFrame, f"mend its table {shown(name)}")
    named = [table.assign(table=name) for name, table in data.items()]
    return _csv(pd.concat(named, ignore_index=True))


def _svg(fig: Figure, name: str, alt: str) -> str:
    out = io.StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": name}):
        fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Title": name})
    label = html.escape(alt, quote=True)
    return out.getvalue().replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
