"""What surrounds the text of a page: the theme's output is mended, and nothing is lost unseen."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import furniture  # noqa: E402 - an extension of the book, found by its folder

SIGNATURE = (
    '<dl>\n<dd><em class="sig-param"><span>a</span></em>,</dd>\n'
    '<dd><em class="sig-param">b</em>,</dd>\n</dl>\n\n<span class="sig-paren">)</span>'
)


def optional():
    return tuple(repair for repair in furniture.REPAIRS if not repair.required)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            '<a class="reference internal" href="a.html">1 Dual kernel</a>'
            '<details open="open"><summary><span>v</span></summary>',
            '<summary aria-label="Pages of 1 Dual kernel"><span>',
        ),
        ('<summary aria-label="Toggle hidden content">', "<summary>"),
        ("<title>The Book &#8212; The Book</title>", "<title>The Book</title>"),
        ('<th class="head"><p></p></th>', '<td class="head"></td>'),
        ("<th></th>", "<td></td>"),
        ('<summary>See <a href="#b">(1)</a>.</summary>', "<summary>See (1).</summary>"),
        ('<div class="citation" role="doc-biblioentry">', 'class="citation" role="listitem"'),
        (
            '<span class="n">f</span><span class="p">(</span><span class="mi">2</span>',
            'f(<span class="mi">2</span>',
        ),
        ('np<span class="o">.</span>e <span class="o">+</span>', 'np.e <span class="o">+</span>'),
        (
            '<span class="s2">&quot;</span><span class="s2">a</span><span class="s2">.</span>+',
            '<span class="s2">&quot;a.</span>+',
        ),
        (SIGNATURE, '<span class="sig-line"><em class="sig-param"><span>a</span></em>,</span>'),
    ],
)
def test_repairs(written, expected):
    assert expected in furniture.repaired(written, optional())


def test_the_logo_is_a_part_of_the_page():
    images = '<img src="../_static/logo.svg" class="logo__image only-light" alt="Book - Home"/>'
    images += '\n <img src="../_static/logo.svg" class="logo__image only-dark" alt="Book - Home"/>'
    (repair,) = (one for one in furniture.REPAIRS if "only-light" in one.pattern)
    mended = furniture.repaired(f"<a>{images}</a>", (repair,))
    assert re.fullmatch(r"<a><svg [^>]*aria-label=\"Book - Home\"><rect.*></svg></a>", mended)


@pytest.mark.parametrize(
    "kept",
    [
        "<title>A page &#8212; The Book</title>",
        '<th class="head"><p>Claim</p></th>',
        '<span class="n"><span class="pre">name</span></span><span class="o">+</span>',
        '<dl>\n<dt>a</dt><dd><em class="sig-param">b</em>,</dd>\n</dl>',
    ],
)
def test_what_is_whole_stays(kept):
    assert furniture.repaired(kept, optional()) == kept


def test_a_repair_that_finds_nothing_is_told(monkeypatch):
    said = []
    monkeypatch.setattr(furniture.logger, "warning", lambda *words: said.append(words))
    repairs = (furniture.Repair("<old>", "<new>"), furniture.Repair("<x>", "", required=False))
    assert furniture.repaired("<old>", repairs) == "<new>"
    assert said == []
    assert furniture.repaired("<other>", repairs) == "<other>"
    assert [pattern for _, pattern in said] == ["<old>"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [('width="36pt" height="72pt"', (48, 96)), ('height="20px" width="10px"', (10, 20))],
)
def test_pictures_keep_their_place(tmp_path, size, expected):
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.svg").write_text(f'<svg xmlns="x" {size}></svg>')
    (tmp_path / "book").mkdir()
    found = furniture.IMAGE.sub(
        lambda image: furniture.lazy(image, tmp_path / "book"),
        '<img alt="A line." src="../_images/a.svg" />',
    )
    width, height = expected
    assert f'width="{width}" height="{height}" loading="lazy"' in found
    assert 'alt="A line."' in found


def test_pictures_without_size_are_refused(tmp_path):
    (tmp_path / "a.svg").write_text("<svg></svg>")
    with pytest.raises(ValueError, match=r"a\.svg must begin with its width and height"):
        furniture.size_of(tmp_path / "a.svg")


def test_footer_links_only_to_pages_that_are_there(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "health.html").write_text("")
    found = furniture.foot("notebooks/a.html", tmp_path, "made of <this>")
    assert found.startswith("made of &lt;this&gt;")
    assert re.findall('href="([^"]+)"', found) == ["../book/health.html"]


@pytest.mark.parametrize("text", [furniture.FIRST, furniture.LOST])
def test_pages_outside_the_book_are_whole(text):
    page = text.format(title="The Book", start="book/index.html")
    assert '<html lang="en">' in page
    assert re.search("<title>[^<]*The Book</title>", page)
    assert '<link rel="icon"' in page
    assert re.search(r'<a href="book/index\.html">\w', page)
    assert page.count("<h1>") == page.count("<main>") == 1
    assert "{{" not in page


def test_wrong_addresses_find_the_root():
    assert r"/(book|notebooks|_[a-z]+)\/.*$/" in furniture.LOST
