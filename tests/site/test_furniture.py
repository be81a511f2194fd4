"""The book as a site: reading on and back, contents, search, themes, and all without JavaScript."""

import json
import re

import pytest

from iclkit.bench.claims import load_claims
from tests.site import checks
from tests.site.watching import from_both, pages_of

CHAPTER = "notebooks/04_phase_transition.html"
NEXT = "notebooks/04_trained_models.html"
# What a reader types, the page that must be among the first hits, and how many of them count.
FIRST_HITS = 5
SEARCHES = [
    ("LU-A1", CHAPTER),
    ("learning_curve", "book/api_phase_transition.html"),
    ("double descent", "notebooks/04"),
    ("Bayes", "notebooks/02"),
]
IN_VIEW = """(id) => {
  const { top } = document.querySelector(id).getBoundingClientRect();
  return top > -5 && top < 300;
}"""
WITHOUT = {"java_script_enabled": False}


def path(page, site_url):
    return page.url.removeprefix(site_url).partition("#")[0].partition("?")[0]


# ------------------------------------------------------------------ navigation


@from_both
def test_reading_on_and_back(page, site_url):
    page.goto(site_url + CHAPTER)
    page.click("a.right-next")
    assert path(page, site_url) == NEXT
    page.click("a.left-prev")
    assert path(page, site_url) == CHAPTER


def test_next_leads_through_the_whole_book(site):
    """Each page once, from the start page to the last one."""
    seen, name = [], "book/index.html"
    while name and name not in seen:
        seen.append(name)
        found = re.search(r'<link rel="next"[^>]*href="([^"]+)"', (site / name).read_text("utf-8"))
        target = found and (site / name).parent / found[1]
        name = target and target.resolve().relative_to(site).as_posix()
    in_folders = [page for page in pages_of(site) if "/" in page]
    assert sorted(seen) == sorted(in_folders)


@from_both
def test_sidebar_leads_to_the_chapters(page, site_url):
    page.goto(site_url + "book/index.html")
    page.click(f'nav.bd-docs-nav a[href="../{CHAPTER}"]')
    assert path(page, site_url) == CHAPTER
    assert page.locator("nav.bd-docs-nav li.current.active > a").count() == 1


def test_contents_of_the_page_lead_to_its_sections(page, site_url):
    page.goto(site_url + CHAPTER)
    links = page.locator("#pst-page-toc-nav a:visible")
    assert links.count() > 5
    target = links.nth(3).get_attribute("href")
    links.nth(3).click()
    page.wait_for_function(IN_VIEW, arg=target, timeout=5000)
    page.wait_for_timeout(300)
    assert page.evaluate(IN_VIEW, target)
    assert page.url.endswith(target)


def test_keyboard_reaches_the_content_first(page, site_url):
    page.goto(site_url + CHAPTER)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("Boolean(document.activeElement.closest('#main-content'))")


def test_sidebar_opens_on_a_phone(open_page, site_url):
    page = open_page(viewport=checks.NARROW, has_touch=True, is_mobile=True)
    page.goto(site_url + CHAPTER)
    link = page.locator('nav.bd-docs-nav a[href="../book/ledger.html"]')
    assert not link.is_visible()
    page.locator(".primary-toggle:visible").first.tap()
    link.tap()
    page.wait_for_url(site_url + "book/ledger.html")


# ------------------------------------------------------------------ search


@from_both
@pytest.mark.parametrize(("words", "target"), SEARCHES)
def test_search_finds(page, site_url, words, target):
    page.goto(site_url + "book/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    hits = page.locator("#search-results li a")
    hits.first.wait_for()
    page.wait_for_timeout(300)
    found = [a.get_attribute("href") for a in hits.all()[:FIRST_HITS]]
    assert any(target in href for href in found), found
    page.locator(f"#search-results li a[href*='{target}']").first.click()
    page.wait_for_load_state()
    assert target in page.url


def test_search_for_nonsense_says_so(page, site_url):
    page.goto(site_url + "search.html?q=xyzzyplugh")
    page.get_by_text(re.compile("did not match|no .*found", re.IGNORECASE)).first.wait_for()


# ------------------------------------------------------------------ themes


@pytest.mark.parametrize("system", ["light", "dark"])
def test_theme_follows_the_system_then_the_reader(open_page, site_url, system):
    page = open_page(color_scheme=system)
    page.goto(site_url + CHAPTER)

    def shown():
        return page.evaluate("document.documentElement.dataset.theme")

    assert shown() == system
    seen = set()
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        seen.add((page.evaluate("document.documentElement.dataset.mode"), shown()))
    assert seen == {("light", "light"), ("dark", "dark"), ("auto", system)}
    other = {"light": "dark", "dark": "light"}[system]
    while shown() != other:
        page.locator(".theme-switch-button:visible").first.click()
    page.goto(site_url + NEXT)
    assert shown() == other
    page.reload()
    assert shown() == other


def test_themes_differ(page, site_url):
    page.goto(site_url + CHAPTER)
    colours = []
    for name in ("light", "dark"):
        checks.theme(page, name)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]


# ------------------------------------------------------------------ without JavaScript


def test_without_javascript_everything_can_be_read(open_page, site_url):
    """All claims, all figures, all solutions, and the figure that would be moved says so."""
    page = open_page(**WITHOUT)
    page.goto(site_url + CHAPTER)
    text = page.locator("article").text_content()
    claims = [claim.id for claim in load_claims() if claim.notebook == "04_phase_transition"]
    assert len(claims) >= 8
    assert [name for name in claims if name not in text] == []
    figures = page.locator("article figure img")
    assert figures.count() >= 8
    assert all(box.bounding_box()["height"] > 50 for box in figures.all())
    solutions = page.locator("article .solution p")
    assert solutions.count() > 5
    assert all(paragraph.text_content() for paragraph in solutions.all())


def test_without_javascript_the_ledger_shows_every_claim(open_page, site_url):
    page = open_page(**WITHOUT)
    page.goto(site_url + "book/ledger.html")
    text = page.locator("article").text_content()
    assert [claim.id for claim in load_claims() if claim.id not in text] == []


def test_search_index_is_whole(site):
    """It is a script, so that a page can load it from a folder too."""
    text = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))
    assert set(index["docnames"]) >= {CHAPTER.removesuffix(".html"), "book/ledger"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_names_in_code_have_the_colour_of_their_block(site, theme):
    """The pages write names, brackets and blanks of code without an element of their own."""
    styles = (site / "_static" / "pygments.css").read_text(encoding="utf-8")
    place = re.escape(f'html[data-theme="{theme}"] .highlight')
    block = re.search(place + r" \{[^}]*; color: (#\w+) \}", styles)[1]
    for kind in "npw":
        own = re.search(place + rf" \.{kind} \{{([^}}]*)\}}", styles)
        assert own is None or own[1].strip() == f"color: {block}", kind
