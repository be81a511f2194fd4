"""The printed book: one document of all pages, in their order, with links inside it."""

import re

import pytest

from iclkit.site import printing

NAV = """<nav class="bd-docs-nav"><ul><li><a class="reference internal" href="{0}book/index.html">S
</a></li></ul><ul><li><a class="reference internal" href="{0}notebooks/b.html">B</a>
<details><ul><li class="toctree-l2"><a class="reference internal" href="{0}notebooks/a.html">A</a>
</li></ul></details></li></ul></nav>"""
PAGE = """<!DOCTYPE html><html><head><title>T</title>
<link rel="stylesheet" href="../_static/style.css?v=1"></head><body>{nav}
<article class="bd-article"><section id="top">
<h1>{title}<a class="headerlink" href="#top">#</a></h1>{body}</section></article></body></html>"""
BODIES = {
    "book/index.html": """<p>See <a href="../notebooks/a.html#part">A</a>,
<a href="#top">here</a>.</p>""",
    "notebooks/b.html": """<h2>Part</h2><img alt="a line" src="../_images/f.svg">
<a href="../_sources/b">s</a>""",
    "notebooks/a.html": """<h2 id="part">Part</h2><p aria-labelledby="part top">x</p>
<details class="hide above-input"><summary>Show code</summary><pre>secret = 1</pre></details>
<details><summary>Solution</summary><p>forty-two</p></details><button>Copy</button>
<a href="https://example.org/x">out</a> <a href="b.html">B</a>
<script src="../_static/figure.js"></script><script>alert(1)</script>""",
}


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "the site"
    for name, body in BODIES.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        text = PAGE.format(nav=NAV.format("../"), title=f"Title of {name}", body=body)
        (site / name).write_text(text, encoding="utf-8")
    (site / "search.html").write_text(NAV.format(""), encoding="utf-8")
    return site


@pytest.fixture
def document(site):
    return printing.one_document(site)


def test_pages_follow_in_the_order_of_the_sidebar(document):
    order = re.findall(r'<div class="printed" id="([\w-]+)">', document)
    assert order == ["book-index", "notebooks-b", "notebooks-a"]


def test_headings_of_a_page_below_another_are_lower(document):
    assert "<h1>Title of notebooks/b.html</h1>" in document
    assert "<h2>Title of notebooks/a.html</h2>" in document
    assert '<h3 id="notebooks-a--part">' in document


def test_names_are_unique_and_links_lead_to_them(document):
    names = re.findall(r'\bid="([^"]+)"', document)
    assert len(names) == len(set(names))
    inside = re.findall(r'href="#([^"]+)"', document)
    assert set(inside) <= set(names)
    assert {"notebooks-a--part", "book-index--top", "notebooks-b"} <= set(inside)
    assert 'aria-labelledby="notebooks-a--part notebooks-a--top"' in document


def test_links_to_files_become_text_and_links_out_stay(document):
    assert "_sources" not in document
    assert '<a href="https://example.org/x">out</a>' in document


def test_files_are_named_in_full(document, site):
    for name in ("_images/f.svg", "_static/figure.js", "_static/style.css"):
        assert f'"{(site / name).as_uri()}' in document


def test_what_is_folded_is_open_but_for_code(document):
    assert re.search(r"<details open=.*?forty-two", document, re.DOTALL)
    assert '<details class="hide above-input"><pre>' in document


def test_what_cannot_be_pressed_on_paper_is_left_out(document):
    for left_out in ("<button", "alert(1)", "headerlink", "Show code"):
        assert left_out not in document


def test_contents_name_every_page(document):
    contents = document.split('<nav class="contents"')[1].split("</nav>")[0]
    assert contents.count("<li") == len(BODIES)
    assert '<li class=deep><a href="#notebooks-a">Title of notebooks/a.html</a>' in contents


def test_same_site_same_document(document, site):
    assert printing.one_document(site) == document


def test_without_a_book_it_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"no built book in .*; run `python3 run.py book` first"):
        printing.print_book(tmp_path, tmp_path / "book.pdf")


def test_without_a_browser_it_says_what_to_do(site, tmp_path, monkeypatch):
    monkeypatch.setenv("ICLKIT_CHROMIUM", "/nowhere/chromium")
    with pytest.raises(ValueError, match=r"install one .* or name it in ICLKIT_CHROMIUM"):
        printing.print_book(site, tmp_path / "book.pdf")
    assert not (tmp_path / "book.pdf").exists()


# ------------------------------------------------------------------ the link to it


@pytest.fixture
def printed(site, tmp_path):
    start = site / printing.START
    start.write_text(start.read_text("utf-8").replace("<p>See", "<!-- pdf -->\n<p>See"), "utf-8")
    (tmp_path / "book.pdf").write_bytes(b"%" * 12_300_000)
    return tmp_path / "book.pdf"


def test_start_page_offers_the_printed_book_once(site, printed):
    printing.offer(site, printed)
    page = printing.soup_of(site / printing.START)
    [link] = page.select(".printed-book a")
    target = (site / printing.START).parent / link["href"]
    assert target.read_bytes() == printed.read_bytes()
    assert "12 MB" in link.parent.get_text()
    assert page.select_one("article p a[href='#top']")
    printed.write_bytes(b"%" * 3_100_000)
    printing.offer(site, printed)
    [offered] = printing.soup_of(site / printing.START).select(".printed-book")
    assert "3 MB" in offered.get_text()
    assert not list(site.rglob("*.new"))


def test_the_offer_is_not_printed(site, printed):
    before = printing.one_document(site)
    printing.offer(site, printed)
    assert printing.one_document(site) == before


def test_a_page_without_a_place_for_it_stays_as_it_is(site, tmp_path):
    (tmp_path / "book.pdf").write_bytes(b"%")
    before = (site / printing.START).read_bytes()
    printing.offer(site, tmp_path / "book.pdf")
    assert (site / printing.START).read_bytes() == before
