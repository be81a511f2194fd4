"""A notebook as one page: formulas written out, code as it stands, nothing from elsewhere."""

import html
from pathlib import Path

from bs4 import BeautifulSoup

from iclkit.classroom import sheets

ROOT = Path(__file__).resolve().parents[3]
TEXT = """# Title

Inline $a<b$, code `x = "$1"`, price \\$5, and

$$
\\frac{1}{2} \\begin{pmatrix} a & b \\end{pmatrix}
$$

| a | b |
| --- | --- |
| $x$ | 1 |
"""


def named(tex, display):
    return f"<math>{'block' if display else html.escape(tex)}</math>"


def page_of(text, typeset=named):
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": text},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": "y = '$z$'", "outputs": []},
    ]
    cells[1]["execution_count"] = None
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return BeautifulSoup(sheets.page(book, "A & B", typeset), "html.parser")


def test_formulas_are_typeset_and_code_is_not():
    page = page_of(TEXT)
    assert [formula.get_text() for formula in page.find_all("math")] == ["a<b", "block", "x"]
    assert page.find("code").get_text() == 'x = "$1"'
    assert "'$z$'" in page.find("pre").get_text()
    assert page.find("title").get_text() == "A & B"


def test_formulas_as_in_the_book():
    with sheets.typesetting(ROOT) as typeset:
        page = page_of(TEXT, typeset)
    assert page.find("mfrac")
    assert page.find("mtable")
    assert "\\" not in page.find("main").get_text().replace("\\$5", "")


def test_without_a_book_the_tex_stays(tmp_path):
    with sheets.typesetting(tmp_path) as typeset:
        assert typeset("a<b", False) == "<code>a&lt;b</code>"
