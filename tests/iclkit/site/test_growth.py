"""The figure of growth: every kernel with its theory, words that follow from the record."""

import json
import re

import numpy as np
import pytest
from matplotlib.text import Text

from iclkit.site import benchmarks, growth
from iclkit.site.growth import draw_growth, finding, growth_figure
from tests.book.small_book import built
from tests.iclkit.site.test_benchmarks import RECORD

ROW = RECORD["growth"][0]
IN_D = ROW | {"letter": "d", "sizes": [8, 16, 32, 64], "exponent": 1.04, "theory": 1}
OTHER = ROW | {"kernel": "a step: of the # iteration", "exponent": 3.31}
SMALLEST = 9.0  # pixels of a letter on a page 360 pixels wide
ARTICLE = 312  # pixels of its text


@pytest.fixture
def kept(root):
    return json.loads((root / benchmarks.RECORD).read_text())["growth"]


def drawn(figure):
    """The panels of a figure that hold something, by title."""
    return {" ".join(a.get_title().split()): a for a in figure.axes if a.lines}


def test_every_row_of_the_record_is_drawn_once(kept):
    panels = drawn(draw_growth(kept))
    assert set(panels) == {row["kernel"] for row in kept}
    for name, axes in panels.items():
        rows = [row for row in kept if row["kernel"] == name]
        assert len(axes.lines) == 2 * len(rows)
        for row, line in zip(rows, axes.lines[::2], strict=True):
            shares = [np.array(row[name]) / row[name][-1] for name in ("sizes", "seconds")]
            np.testing.assert_array_equal(line.get_xydata().T, shares)


def test_theory_is_a_line_of_its_power_through_the_largest_size():
    axes = drawn(draw_growth([ROW]))["head"]
    x, y = axes.lines[1].get_xydata().T
    assert (x[-1], y[-1]) == (1, 1)
    np.testing.assert_allclose(np.diff(np.log(y)), 3 * np.diff(np.log(x)))
    assert [text.get_text() for text in axes.texts] == ["$n^{3}$"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_lines_are_told_apart_without_colour():
    measured, in_d = (look["marker"] for look in growth.LOOKS.values())
    assert measured != in_d
    lines = drawn(draw_growth([ROW, IN_D]))["head"].lines
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-", "--"]
    assert [line.get_marker() for line in lines] == ["s", "None", "o", "None"]


def test_letters_are_large_enough_on_a_narrow_page(kept):
    figure = draw_growth(kept)
    figure.draw_without_rendering()
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
    assert len(sizes) > len(kept)
    assert min(sizes) * ARTICLE / (72 * figure.get_figwidth()) >= SMALLEST


def test_titles_do_not_meet(kept):
    figure = draw_growth(kept)
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    letters = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    pairs = [(a, b) for i, a in enumerate(boxes) for b in [*boxes[i + 1 :], *letters]]
    assert not [1 for a, b in pairs if a.overlaps(b)]


def test_words_tell_the_finding():
    words = finding([ROW, IN_D, OTHER | {"exponent": 1.5}])
    assert "Of 3 measured exponents 2 lie within 0.25 of theory, 1 below that, none above." in words
    assert "The furthest is 1.50 where theory has 3, in n, for a step: of the # iteration." in words
    assert "none below that, 1 above" in finding([ROW, OTHER])


def test_the_same_record_gives_the_same_figure(tmp_path):
    files = [tmp_path / "one", tmp_path / "two"]
    for folder in files:
        folder.mkdir()
    assert len({growth_figure([ROW, IN_D], folder) for folder in files}) == 1
    one, two = ((folder / f"{growth.NAME}.svg").read_bytes() for folder in files)
    assert one == two


def test_a_page_shows_it_with_words_of_any_kernel(tmp_path):
    (tmp_path / "source").mkdir()
    figure = growth_figure([ROW, OTHER], tmp_path / "source")
    page = built(tmp_path, {"index.md": f"# Title\n\n{figure}\nEnd.\n"}) / "index.html"
    alt = re.search(r'<img[^>]* alt="([^"]*)"', page.read_text())[1]
    assert alt == finding([ROW, OTHER])
    assert 'id="benchmark-growth"' in page.read_text()
    assert "A dashed line" in page.read_text()


def test_without_rows_there_is_no_figure(tmp_path):
    assert growth_figure([], tmp_path) == ""
    assert not list(tmp_path.iterdir())
