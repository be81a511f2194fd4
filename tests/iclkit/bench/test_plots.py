"""Figures: nothing global changes, bytes repeat, words are required, hues differ without colour."""

import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from iclkit.bench import plots
from iclkit.bench.records import FIGURE_MIME

ALT = "Two curves fall until tau is one and rise again after it."
WORDS = {"name": "double-descent", "caption": "Error against `tau`.", "alt": ALT}
TAU = np.linspace(0.2, 2, 30)
THEORY = pd.concat(
    [pd.DataFrame({"tau": TAU, "icl": a + TAU, "idg": a * TAU, "alpha": a}) for a in (1.0, 10.0)]
)
RUNS = pd.DataFrame(
    {"tau": [0.5, 1.5] * 2, "icl": [1.4, 2.6, 10.4, 11.6], "alpha": [1.0, 1.0, 10.0, 10.0]}
).assign(icl_stderr=0.1, idg=lambda t: t["icl"])
AXES = {"x": "tau", "y": "icl", "hue": "alpha"}


def figure(**options):
    return plots.curves(THEORY, RUNS, RUNS.head(2), **{**AXES, **options})


def svg(fig=None, **words):
    return plots.figure_bundle(fig or figure(), **{**WORDS, **words})["image/svg+xml"]


def map_table():
    kappa, rho = np.meshgrid(np.linspace(0.1, 2, 40), np.linspace(0, 1, 30))
    value = np.where(kappa < 0.5 + rho, kappa + rho, np.nan)
    return pd.DataFrame({"kappa": kappa.ravel(), "rho": rho.ravel(), "best": value.ravel()})


def test_the_same_figure_gives_the_same_bytes():
    assert svg() == svg()


def test_svg_has_no_date_and_no_version():
    text = svg()
    assert "<dc:date>" not in text
    assert mpl.__version__ not in text


def test_svg_is_well_formed_and_says_what_it_shows():
    root = ET.fromstring(svg(alt='A curve with "quotes" & an ampersand falls < 1.'))
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'A curve with "quotes" & an ampersand falls < 1.'


def test_no_global_setting_changes():
    before = dict(mpl.rcParams)
    svg()
    plots.heatmap(map_table(), x="kappa", y="rho", value="best")
    assert dict(mpl.rcParams) == before


def test_figures_stay_out_of_pyplot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure()
    assert pyplot.get_fignums() == []


def test_the_record_has_name_caption_alt_and_data():
    bundle = plots.figure_bundle(figure(), **WORDS, data={"theory": THEORY, "runs": RUNS})
    record = bundle[FIGURE_MIME]
    assert bundle["text/plain"] == ALT
    assert {k: record[k] for k in WORDS} == WORDS
    lines = record["csv"].splitlines()
    assert len(lines) == 1 + len(THEORY) + len(RUNS)
    assert "table" in lines[0].split(",")
    assert plots.figure_bundle(figure(), **WORDS)[FIGURE_MIME]["csv"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"alt": ""}, "alt must be a sentence"),
        ({"alt": "figure1.png"}, "alt must be a sentence"),
        ({"alt": "Two curves fall until tau is one"}, "full stop"),
        ({"alt": "x" * 40 + "."}, "alt must be a sentence"),
        ({"name": "Double descent"}, "name must be lower-case words"),
        ({"caption": " "}, "caption must not be empty"),
    ],
)
def test_words_are_required(words, message):
    with pytest.raises(ValueError, match=message):
        svg(**words)


def test_alt_is_a_required_argument():
    with pytest.raises(TypeError, match="alt"):
        plots.show(figure(), name="a", caption="b")


def test_hues_differ_in_colour_marker_and_line_style():
    legend = figure().legends[0]
    first, second = legend.legend_handles[:2]
    assert first.get_color() != second.get_color()
    assert first.get_marker() != second.get_marker()
    assert first.get_linestyle() != second.get_linestyle()
    looks = plots._LOOKS
    assert len({k.marker for k in looks}) == len({str(k.dash) for k in looks}) == len(looks)


def test_the_legend_names_levels_and_kinds_once():
    fig = figure(y=["icl", "idg"], hue_label=r"$\alpha$")
    (legend,) = fig.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [r"$\alpha$ = 1", r"$\alpha$ = 10", "theory", "simulation", "published"]
    assert all(axes.get_legend() is None for axes in fig.axes)


def test_a_single_kind_is_not_named():
    fig = plots.curves(THEORY, **AXES)
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert names
    assert "theory" not in names


def test_published_markers_are_open_and_runs_filled():
    axes = figure().axes[0]
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert "none" in faces
    assert any(face != "none" for face in faces)


def test_paper_size_is_drawn_as_crosses_under_its_own_name():
    fig = plots.curves(THEORY, RUNS, None, RUNS, labels=("formula",), **AXES)
    names = [text.get_text() for text in fig.legends[0].get_texts()]
    assert names[-3:] == ["formula", "simulation", "paper size"]
    assert sum(line.get_marker() == "x" for line in fig.axes[0].lines) == 2


def test_error_bars_have_the_length_of_the_standard_error():
    (bars, *_) = figure().axes[0].collections
    spans = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(spans, 0.2, rtol=1e-12)


def test_fonts_are_readable_on_a_narrow_screen():
    fig = figure(y=["icl", "idg"])
    pixels_per_point = 360 / (72 * fig.get_size_inches()[0])
    smallest = min(plots.STYLE[k] for k in ("font.size", "legend.fontsize", "xtick.labelsize"))
    assert smallest >= 9
    assert smallest * pixels_per_point >= 9
    assert fig.get_size_inches()[0] <= 6.5


def test_panels_take_any_drawing_and_remove_spare_axes():
    part = plots.panel(plots.draw_curves, THEORY, **AXES)
    fig = plots.panels(part, part, part, ncols=2)
    assert len(fig.axes) == 3


def test_options_given_as_lists_go_to_their_panels():
    fig = figure(y=["icl", "idg"], ylabel=["ICL", "IDG"], logy=True)
    assert [axes.get_ylabel() for axes in fig.axes] == ["ICL", "IDG"]
    assert all(axes.get_yscale() == "log" for axes in fig.axes)
    with pytest.raises(ValueError, match="ylabel must have 2 entries, got 1"):
        figure(y=["icl", "idg"], ylabel=["ICL"])


@pytest.mark.parametrize(
    ("tables", "options", "message"),
    [
        ((None,), {}, "theory, runs, published, large: nothing to draw"),
        ((THEORY,), {"y": "gap"}, "y: the theory table has no column 'gap'"),
        (
            (THEORY, RUNS.drop(columns="alpha")),
            {},
            "hue: the simulation table has no column 'alpha'",
        ),
        ((THEORY.assign(alpha=range(60)),), {}, "alpha must have at most 7 levels, got 60"),
        ((THEORY.assign(icl="high"),), {}, "y: column 'icl' must hold numbers: Unable to parse"),
        ((THEORY.assign(tau=["a", 1.0] * 30),), {}, "x: column 'tau' must hold numbers: Unable"),
        ((RUNS.assign(icl_stderr="wide"),), {}, "y: column 'icl_stderr' must hold numbers"),
        (([[1, 2]],), {}, "theory must be a DataFrame, got list; make one with pandas"),
        ((THEORY,), {"x": []}, "x must be a str, got list; give text"),
        ((THEORY,), {"y": []}, "y must name at least one column, got none"),
        ((THEORY,), {"y": 3}, "y must be a column or a list of columns, got 3"),
        ((THEORY,), {"ylim": (0, 1, 2)}, "ylim must be two numbers"),
        ((THEORY,), {"labels": "theory"}, "labels must be a list of at most 4, got 'theory'"),
    ],
)
def test_bad_tables_are_refused(tables, options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        plots.curves(*tables, **{**AXES, **options})


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (3, {}, "table must be a DataFrame, got int"),
        (map_table(), {"value": "gap"}, "value: the given table has no column 'gap'"),
        (pd.concat([map_table()] * 2), {}, "x, y: the table must have one row per place"),
        (map_table(), {"points": {"A": 1}}, "points must be two numbers, got 1"),
        (map_table(), {"points": "A"}, "points must be a dict of letters to places, got 'A'"),
    ],
)
def test_bad_maps_are_refused(table, options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        plots.heatmap(table, **{"x": "kappa", "y": "rho", "value": "best", **options})


def test_words_may_be_places_and_numbers_missing():
    table = pd.DataFrame({"tau": ["a", "b"], "icl": [None, 1.0]})
    (line,) = plots.curves(table, x="tau", y="icl").axes[0].lines
    assert len(line.get_xdata()) == 2


def test_panels_have_a_sensible_size():
    with pytest.raises(ValueError, match="height must be at most 100 inches, got 1e"):
        plots.panels(len, height=1e9)


def test_infinite_levels_and_single_runs_are_drawn():
    table = THEORY.assign(alpha=np.inf)
    alone = RUNS.assign(alpha=np.inf, icl_stderr=np.nan)
    fig = plots.curves(table, alone, **AXES)
    assert fig.legends[0].get_texts()[0].get_text() == r"alpha = $\infty$"
    assert svg(fig).startswith("<?xml")


def test_maps_are_rasterised_and_repeat():
    options = {"x": "kappa", "y": "rho", "value": "best", "vline": 0.5, "points": {"A": (1, 0.2)}}
    first, second = (svg(plots.heatmap(map_table(), **options)) for _ in range(2))
    assert first == second
    assert "<image" in first
    assert first.count("<path") < 200


def test_show_without_a_notebook_is_silent(capsys):
    assert plots.show(figure(), **WORDS) is None
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------ contours


def bowl():
    x, y = np.meshgrid(np.linspace(-2, 2, 21), np.linspace(-1, 1, 11))
    height = x**2 + 4 * y**2
    return pd.DataFrame({"a": x.ravel(), "b": y.ravel(), "height": height.ravel()})


def contours(paths=None, **options):
    drawn = {"x": "a", "y": "b", "value": "height", "levels": [0.5, 1, 2], **options}
    figure = plots.panels(plots.panel(plots.draw_contours, bowl(), paths, **drawn))
    return figure.axes[0]


def test_contours_have_the_levels_asked_for_and_the_shape_of_the_table():
    (lines,) = contours().collections
    assert list(lines.levels) == [0.5, 1, 2]
    outer = lines.get_paths()[-1].vertices
    assert outer.max(axis=0) == pytest.approx([np.sqrt(2), np.sqrt(0.5)], abs=0.03)


def test_paths_are_drawn_in_their_own_order_from_a_marker():
    there = pd.DataFrame({"a": [1.0, 0.0, 0.5], "b": [0.5, 0.2, 0.0], "start": "there"})
    back = pd.DataFrame({"a": [-1.0, 0.0], "b": [0.5, 0.0], "start": "back"})
    first, marker, *_ = contours(pd.concat([there, back]), hue="start").lines[2:]
    assert list(first.get_xdata()) == [1.0, 0.0, 0.5]
    assert list(marker.get_xdata()) == [1.0]
    assert marker.get_marker() not in ("", "None")


def test_the_shaded_region_is_where_the_column_is_negative():
    table = bowl().assign(sign=lambda t: t.height - 1)
    look = {"x": "a", "y": "b", "value": "height", "shade": "sign"}
    axes = plots.panels(plots.panel(plots.draw_contours, table, **look)).axes[0]
    inside = axes.collections[0].get_paths()[0]
    assert inside.contains_point((0, 0))
    assert not inside.contains_point((1.5, 0))
