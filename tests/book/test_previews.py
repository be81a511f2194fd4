"""Previews of references: what is cut out of a page, where it is kept, where the box goes."""

import json
import re
import sys

import pytest
from bs4 import BeautifulSoup
from py_mini_racer import mini_racer

from tests.book.small_book import ROOT, built

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import previews

THERE = """\
<html><body><article><h1 id="top">There<a class="headerlink" href="#top">#</a></h1>
<p>Short.</p><p>The first paragraph says <em>what</em> <a href="http://a.b">this</a> is about.</p>
<div class="math" id="equation-e"><span class="eqno">(1)<a class="headerlink" href="#e">#</a></span>
\\[ x &lt; y \\]</div>
<figure id="fig"><img src="../_images/f.svg" alt="A line that rises." onload="x()"><figcaption>
<p><span>Fig. 1</span> A line. <a class="download" href="../_downloads/f.csv">Data</a></p>
<details><summary>Provenance</summary>seed</details></figcaption></figure>
<div class="proof theorem admonition" id="thm"><p class="admonition-title">Theorem 1</p>
<section id="proof-content"><p>It holds.</p></section></div>
<section id="part"><h2>A part</h2><div class="admonition"><p>A remark that is no text of it.</p>
</div>
<p>The first text of the part, long enough to be one.</p></section>
<span id="std-claim-A-1"></span><div class="claim holds" id="ledger-a-1">
<p><b>A-1 holds.</b> So.</p>
<a href="../b/here.html#std-claim-A-1">A-1</a></div>
<dl><dt id="term-law">law<a class="headerlink" href="#term-law">#</a></dt>
<dd><p>How it is drawn.</p>
<p>More.</p></dd></dl>
<div class="citation" id="id1"><span>[A]</span><p>A. Author. <a href="http://a.b">doi</a>.</p></div>
<p>Some words with <span id="spot">a spot</span> in them.</p>
</article></body></html>
"""
LINKS = (
    "../a/there.html",
    "../a/there.html#equation-e",
    "../a/there.html#fig",
    "../a/there.html#thm",
    "../a/there.html#part",
    "../a/there.html#std-claim-A-1",
    "../a/there.html#term-law",
    "../a/there.html#id1",
    "../a/there.html#spot",
)
DEAD = ("http://a.b", "#", "../a/gone.html", "../a/there.html#gone", "../_downloads/f.csv")


def page_with(*addresses):
    links = " ".join(f'<a href="{address}">x</a>' for address in addresses)
    return f"<html><body><article><h1>Here</h1><p>{links}</p></article>{{}}</body></html>"


@pytest.fixture
def root(tmp_path):
    for name, text in {
        "a/there.html": THERE,
        "b/here.html": page_with(*LINKS, *DEAD),
        "_static/x.html": page_with("../a/there.html"),
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def found(root):
    return previews.Site(root).previews("b/here.html")


def text_of(html):
    return " ".join(BeautifulSoup(html, "html.parser").get_text(" ", strip=True).split())


def test_every_live_reference_has_a_preview_and_no_dead_one(found):
    assert list(found) == sorted(LINKS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "There The first paragraph says what this is about."),
        ("#equation-e", r"There (1) \[ x < y \]"),
        ("#fig", "There Fig. 1 A line."),
        ("#thm", "There Theorem 1 It holds."),
        ("#part", "There A part The first text of the part, long enough to be one."),
        ("#std-claim-A-1", "There A-1 holds. So. A-1"),
        ("#term-law", "There law How it is drawn."),
        ("#id1", "There [A] A. Author. doi."),
        ("#spot", "There Some words with a spot in them."),
    ],
)
def test_a_preview_shows_the_target_and_its_page(found, name, text):
    assert text_of(found[f"../a/there.html{name}"]) == text


def test_a_preview_has_no_links_names_or_handlers(found):
    for html in found.values():
        soup = BeautifulSoup(html, "html.parser")
        assert not soup.select("a, [id], [href], [onload], details, script")


def test_pictures_are_addressed_from_the_page_that_refers(found):
    image = BeautifulSoup(found["../a/there.html#fig"], "html.parser").img
    assert (image["src"], image["alt"]) == ("../_images/f.svg", "A line that rises.")


def test_the_root_of_the_site_addresses_pictures_too():
    assert previews.rebased("../_images/f.svg", "index.html", "a/there.html") == "_images/f.svg"
    assert previews.rebased("data:image/png;base64,x", "index.html", "a/b.html").startswith("data:")


def test_a_claim_does_not_preview_itself(root):
    (root / "b/here.html").write_text(
        '<article><div class="claim" id="std-claim-A-1"><a href="../a/there.html#ledger-a-1">x</a>'
        "</div></article>"
    )
    site = previews.Site(root)
    assert site.previews("b/here.html") == {}
    assert site.previews("a/there.html") == {}


def test_targets_on_the_same_page_are_named_and_not_copied(root):
    own = '<p><a href="#fig">x</a> <a href="#term-law">x</a> <a href="#spot">x</a></p></article>'
    (root / "a/there.html").write_text(THERE.replace("</article>", own))
    found = previews.Site(root).previews("a/there.html")
    assert found["#fig"] == ['[id="fig"]']
    assert found["#term-law"] == ['[id="term-law"]', '[id="term-law"] ~ dd p']
    assert text_of(found["#spot"]) == "Some words with a spot in them."


def test_a_formula_keeps_what_shapes_it(root):
    formula = '<math display="block" id="m" tabindex="0"><mo stretchy="false">(</mo></math>'
    (root / "a/there.html").write_text(THERE.replace("\\[ x &lt; y \\]", formula))
    html = previews.Site(root).previews("b/here.html")["../a/there.html#equation-e"]
    assert '<math display="block"><mo stretchy="false">(</mo></math>' in html


def test_a_page_stays_within_its_budget(found, monkeypatch):
    largest = max(found, key=lambda address: len(found[address]))
    size = len(previews.as_script(found).encode())
    monkeypatch.setattr(previews, "MAX_PAGE", size - 1)
    assert set(found) - set(previews.within_budget(found)) == {largest}
    monkeypatch.setattr(previews, "MAX_PAGE", size)
    assert previews.within_budget(found) == found


def test_the_script_leaves_out_what_the_build_leaves_out():
    text = (ROOT / "book/_static/previews.js").read_text("ascii")
    together = "".join(re.findall(r'"(.*?)"', text.split("DROPPED = ")[1].split(";")[0]))
    assert together == previews.DROPPED


def test_long_targets_end_in_dots(root):
    blocks = "".join(f"<p>{'word ' * 50}</p>" for _ in range(9))
    there = THERE.replace("<p>It holds.</p>", blocks)
    (root / "a/there.html").write_text(there)
    html = previews.Site(root).previews("b/here.html")["../a/there.html#thm"]
    assert html.endswith("<p>\u2026</p>")
    assert 0 < len(text_of(html)) < previews.MAX_TEXT + 50


def test_one_long_block_stays_whole(root):
    there = THERE.replace("<p>It holds.</p>", f"<p>{'word ' * 500}</p>")
    (root / "a/there.html").write_text(there)
    html = previews.Site(root).previews("b/here.html")["../a/there.html#thm"]
    assert "word" in html


def test_previews_are_kept_as_data_at_the_end_of_the_page(root, found):
    page = root / "b/here.html"
    previews.store(page, found)
    once = page.read_bytes()
    soup = BeautifulSoup(once.decode(), "html.parser")
    (kept,) = soup.select(f"script#{previews.DATA_ID}")
    assert kept["type"] == "application/json"
    assert json.loads(kept.string) == found
    assert once.decode().endswith("</script>\n</body></html>")
    page.write_text(page_with(*LINKS, *DEAD), encoding="utf-8")
    previews.store(page, previews.Site(root).previews("b/here.html"))
    assert page.read_bytes() == once  # the same pages give the same bytes


def test_data_cannot_end_the_script():
    text = previews.as_script({"a": "</script><script>alert(1)</script>"})
    assert text.count("</script>") == 1


def test_a_page_without_references_stays_as_it_is(root):
    page = root / "a/there.html"
    previews.store(page, {})
    assert page.read_text() == THERE


# ------------------------------------------------------------------ with Sphinx


def test_sphinx_calls_it_for_pages_of_the_book(tmp_path):
    index = """\
# Here

It is {doc}`there <there>`, and the law is {eq}`law`; see {term}`spike`.

```{toctree}
there
```
"""
    there = """\
# There

This is what the other page is about, in a sentence.

$$x=1$$ (law)

```{glossary}
spike
  One direction.
```
"""
    site = built(tmp_path, {"index.md": index, "there.md": there}, "previews")
    kept = BeautifulSoup((site / "index.html").read_text("utf-8"), "html.parser")
    found = json.loads(kept.find(id=previews.DATA_ID).string)
    assert set(found) == {"there.html", "there.html#equation-law", "there.html#term-spike"}
    assert "in a sentence" in found["there.html"]
    assert previews.DATA_ID not in (site / "genindex.html").read_text("utf-8")
    assert "previews.js" in (site / "index.html").read_text("utf-8")


# ------------------------------------------------------------------ the script


@pytest.fixture(scope="module")
def js():
    with mini_racer() as engine:
        engine.eval((ROOT / "book/_static/previews.js").read_text("ascii"))
        yield engine


def placed(js, link, size, view=(1000, 800)):
    """Left and top of the box for a link (left, top, bottom), all in px."""
    left, top, bottom = link
    at = {"left": left, "top": top, "bottom": bottom}
    box = dict(zip(("width", "height"), size, strict=True))
    seen = dict(zip(("width", "height"), view, strict=True))
    call = f"previews.place({json.dumps(at)}, {json.dumps(box)}, {json.dumps(seen)})"
    found = json.loads(js.eval(f"JSON.stringify({call})"))
    return found["left"], found["top"]


def test_the_box_stands_under_the_link_where_it_fits(js):
    assert placed(js, (100, 200, 220), (300, 200)) == (100, 226)


def test_the_box_stands_above_where_it_only_fits_there(js):
    assert placed(js, (100, 700, 720), (300, 200)) == (100, 494)


def test_the_box_stands_under_the_link_where_it_fits_nowhere(js):
    assert placed(js, (100, 300, 320), (300, 600)) == (100, 326)


@pytest.mark.parametrize(("left", "expected"), [(900, 692), (-20, 8), (690, 690)])
def test_the_box_stays_inside_the_window(js, left, expected):
    assert placed(js, (left, 200, 220), (300, 200))[0] == expected


def test_a_box_as_wide_as_the_window_starts_at_its_margin(js):
    assert placed(js, (100, 200, 220), (344, 200), view=(360, 640))[0] == 8


def test_the_script_is_small_and_fetches_nothing():
    text = (ROOT / "book/_static/previews.js").read_text("ascii")
    assert len(text) < 6_000
    assert "http" not in text
    assert "fetch" not in text
    assert text.count("\nconst ") == 1
