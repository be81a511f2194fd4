"""The PDF of the book: every page and figure of the site is in it, whole and for everyone."""

import io
import re
import zlib
from collections import Counter
from functools import cache

import pypdf
import pytest

from iclkit.site import pdf, printing
from iclkit.site.downloads import PDF
from tests.site.conftest import need

MAX_BYTES = 40_000_000
ENOUGH_PAGES = 150
PACKED = re.compile(rb"/Type /ObjStm [^>]*/Length (\d+)>>\nstream\n")
FIGURE = re.compile(rb"/S\s*/Figure\b")
TEX = re.compile(r"\\(frac|begin|mathbb|operatorname|sum|Gamma)\b")
IN_CODE = re.compile(r'r"\$[^"]*\$"')  # labels of axes in the programs under figures


@pytest.fixture(scope="session")
def document(site):
    if not (site / PDF).exists():
        need("no PDF of the book; run `python3 run.py pdf` first")
    return pypdf.PdfReader(site / PDF, strict=True)


@pytest.fixture(scope="session")
def texts(document):
    return [page.extract_text() for page in document.pages]


@pytest.fixture(scope="session")
def words(texts):
    """The text of the book without spaces: a line may end anywhere."""
    return squeezed("".join(texts))


def squeezed(text):
    return re.sub(r"[\s\u00ad]+", "", text)


def flat(outline):
    return [each for item in outline for each in (flat(item) if isinstance(item, list) else [item])]


@cache
def articles(site):
    return {
        name: printing.soup_of(site / name).select_one("article")
        for name in printing.reading_order(site)
    }


def test_it_is_whole_and_not_too_large(texts, site):
    assert (site / PDF).stat().st_size < MAX_BYTES
    assert len(texts) > ENOUGH_PAGES
    assert all(text.strip() for text in texts)


def test_start_page_offers_it(document, page, site_url, site):
    page.goto(site_url + printing.START)
    with page.expect_download() as begun:
        page.locator(".printed-book a").click()
    assert begun.value.path().read_bytes() == (site / PDF).read_bytes()


def test_outline_has_every_page_of_the_book(document, site):
    titles = [item.title for item in flat(document.outline)]
    wanted = [article.h1.get_text().rstrip("#").strip() for article in articles(site).values()]
    assert [squeezed(each) for each in wanted if squeezed(each) not in map(squeezed, titles)] == []
    assert all(squeezed(title) for title in titles)


def test_every_figure_is_in_it_with_its_caption(words, site):
    captions = [
        squeezed(caption.select_one(".caption-number").get_text())
        for article in articles(site).values()
        for caption in article.select("figcaption")
        if caption.select_one(".caption-number")
    ]
    assert len(captions) > 50
    assert [caption for caption in captions if caption not in words] == []
    assert figures_of((site / PDF).read_bytes()) >= len(captions)


def figures_of(data):
    """The number of marks of figures, counted in the packed streams: the tree has 100,000 marks."""
    streams = (
        zlib.decompress(data[at.end() : at.end() + int(at[1])]) for at in PACKED.finditer(data)
    )
    return sum(len(FIGURE.findall(stream)) for stream in streams)


def kinds_of(document):
    """The kinds of all marks for screen readers."""
    waiting = [document.trailer["/Root"]["/StructTreeRoot"]]
    while waiting:
        mark = waiting.pop().get_object()
        if isinstance(mark, list):
            waiting += mark
        elif isinstance(mark, dict):
            yield mark.get("/S")
            waiting += [mark.raw_get("/K")] if "/K" in mark else []


def test_it_is_tagged_and_says_its_language(document):
    root = document.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en"
    assert document.metadata.title
    assert document.metadata.creation_date is None


def test_fonts_are_embedded(document):
    fonts = {
        str(font.get_object()["/BaseFont"]): font.get_object()
        for page in document.pages[::10]
        for font in (page["/Resources"].get("/Font") or {}).values()
        if "/BaseFont" in font.get_object()
    }
    assert len(fonts) > 2
    for name, font in fonts.items():
        [inner] = font.get("/DescendantFonts", [font])
        described = inner.get_object().get("/FontDescriptor")
        kind = inner.get_object()["/Subtype"]
        assert kind == "/Type3" or any("/FontFile" in key for key in described.get_object()), name


def test_formulas_are_drawn_and_references_resolved(words):
    assert not TEX.search(IN_CODE.sub("", words))
    assert "undefined" not in words.replace("isundefined", "")
    assert "??" not in words


def test_every_link_inside_leads_somewhere(document):
    """Named places that links use are places of the document."""
    named = set(document.named_destinations)
    used = [
        str(mark.get_object()["/Dest"]).removeprefix("/")
        for page in document.pages
        for mark in page.get("/Annots") or []
        if isinstance(mark.get_object().get("/Dest"), (str, pypdf.generic.NameObject))
    ]
    assert len(used) > 100
    assert {name for name in used if name not in named and f"/{name}" not in named} == set()


# ------------------------------------------------------------------ a small book, printed here


@pytest.fixture(scope="module")
def small(browser, tmp_path_factory):
    """A small document as Chromium prints it."""
    page = browser.new_page()
    sections = "".join(
        f"<h1 style='break-before:page'>Part {i} \u03b1</h1><p>x</p>" for i in range(3)
    )
    page.set_content(f"<html lang=en><title>T</title>{sections}</html>")
    printed = page.pdf(tagged=True, outline=True)
    page.close()
    return printed


def test_packed_pdf_says_the_same_in_fewer_bytes(small):
    titles = ["One", "Zwei \u03b2", "(Three"]
    tidied = pdf.tidy(small, titles)
    before, after = (pypdf.PdfReader(io.BytesIO(each), strict=True) for each in (small, tidied))
    texts = [[page.extract_text() for page in each.pages] for each in (before, after)]
    assert texts[0] == texts[1]
    assert Counter(kinds_of(before)) == Counter(kinds_of(after))
    assert [item.title for item in flat(after.outline)] == titles
    assert len(tidied) < 0.9 * len(small)
    assert b"CreationDate" not in tidied
    assert pdf.tidy(small, titles) == tidied


def test_outline_that_does_not_fit_is_refused(small):
    with pytest.raises(ValueError, match="has 3 entries, the book 2 headings"):
        pdf.tidy(small, ["One", "Two"])
