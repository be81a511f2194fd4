"""Every page of the built book: complete, for everyone, on every screen, from both origins."""

import json
import re
from collections import Counter

import pytest

from iclkit.site import links
from tests.site import checks
from tests.site.watching import Watch, from_both, pages_of

DEFECTS = {
    "raw TeX": ("<p>the sum \\(a+b\\) of</p>", "TeX is not typeset"),
    "a formula that fails": (
        '<span class="math"><math><merror><mtext>x</mtext></merror></math></span>',
        "formula fails",
    ),
    "a formula that is not drawn": ('<span class="math">x</span>', "0 of 1 formulas are drawn"),
    "a lost picture": ('<img alt="a curve that rises" src="lost.svg">', "picture is not there"),
    "a picture without text": ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "alt"),
    "a table without headings": ("<table><thead><tr><th></th></tr></thead></table>", "table"),
    "a field without name": ("<input>", "label"),
    "pale text": ('<p style="color:#bbb;background:#fff">pale</p>', "color-contrast"),
    "text lost in the dark": ("<p class=dim>dark</p>", "dark: axe, color-contrast"),
    "what is too wide": ('<div style="width:400px">wide</div>', "400 wide on a screen of 360"),
    "a long table": (
        '<div style="overflow:auto;width:200px"><p style="width:900px">'
        + "word " * 90
        + "</p></div>",
        "scrollable",
    ),
}
PICTURE, ALT = re.compile(r'src="[^"]*/([^"/]+)"'), re.compile(r'alt="([^"]*)"')
BARE = """<!DOCTYPE html><html lang="en" data-theme="light"><head><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ margin: 0; }} [data-theme=dark] {{ color: #fff; background: #000; }}
[data-theme=dark] .dim {{ color: #222; }} </style></head>
<body><main><article><h1>A page</h1>{}</article></main></body></html>"""


def test_page_is_complete_and_for_everyone(page, site_url, name):
    page.goto(site_url + name)
    assert page.title()
    found = checks.look(page)
    assert not found, "\n".join(found)


def test_page_opens_from_a_folder(open_page, site, name):
    page = open_page(base=site.as_uri())
    page.goto(f"{site.as_uri()}/{name}")
    checks.settle(page)
    assert checks.content(page) == []


@from_both
def test_root_leads_to_the_start_page(page, site_url):
    page.goto(site_url + "index.html")
    page.wait_for_url(site_url + "book/index.html")
    assert page.locator("article h1").count() == 1


def test_links_inside_the_book_lead_somewhere(site):
    assert links.problems(site) == []


def test_no_two_figures_have_the_same_text(site):
    text = "".join((site / name).read_text("utf-8") for name in pages_of(site))
    figures = [tag for tag in re.findall(r"<img\b[^>\\]*>", text) if "_images/" in tag]
    found = {(PICTURE.search(tag)[1], ALT.search(tag)[1]) for tag in figures}
    texts = Counter(alt for _, alt in found)
    assert len(found) > 50
    assert min(map(len, texts)) > 40
    assert [alt for alt, times in texts.items() if times > 1] == []


# ------------------------------------------------------------------ the checks can fail


@pytest.mark.parametrize("defect", DEFECTS)
def test_check_sees_a_planted_defect(browser, tmp_path, defect):
    html, words = DEFECTS[defect]
    assert any(words in line for line in looked_at(browser, tmp_path, html))


def test_nothing_is_found_where_nothing_is_wrong(browser, tmp_path):
    assert looked_at(browser, tmp_path, "<p>All is well.</p>") == []


def looked_at(browser, place, html):
    (place / "page.html").write_text(BARE.format(html), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((place / "page.html").as_uri())
    found = checks.look(page)
    page.close()
    return found


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("console.error('trouble')", "console: trouble"),
        ("throw new Error('trouble')", "raised: trouble"),
        ("document.body.append(Object.assign(new Image(), { src: 'lost.png' }))", "lost.png"),
        ("fetch('http://example.org/').catch(() => 0)", "asks outside: http://example.org/"),
    ],
)
def test_watch_sees_planted_trouble(browser, site_url, script, words):
    page = browser.new_page()
    watch = Watch(page, site_url)
    page.goto(site_url + "_static/documentation_options.js")
    page.evaluate(f"setTimeout(() => {{ {script} }})")
    page.wait_for_timeout(300)
    page.close()
    assert any(words in line for line in watch.found), json.dumps(watch.found)
