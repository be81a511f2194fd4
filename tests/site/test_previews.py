"""Previews of references: shown on hover and focus, dismissible, and in nobody's way."""

import pytest

from tests.site import checks

PAGE = "notebooks/04_phase_transition.html"
EQUATION = 'article p a[href="#equation-lu-filter"]'


@pytest.fixture
def reading(page, site_url):
    page.goto(site_url + PAGE)
    checks.lay_out(page)  # else a jump moves it once more, away from the pointer
    return page


def box(page):
    return page.locator("#preview")


def settled(page, selector):
    """The first visible link, brought into sight, when what is above it has its final size."""
    link = page.locator(selector).locator("visible=true").first
    link.scroll_into_view_if_needed()
    before, now = None, link.bounding_box()
    while before != now:
        page.wait_for_timeout(300)
        before, now = now, link.bounding_box()
    return link


def hover(page, selector):
    link = settled(page, selector)
    page.mouse.move(2, 2)
    link.hover()
    box(page).and_(page.locator(":not([style*=hidden])")).wait_for()
    return link


@pytest.mark.parametrize("site_url", ["localhost", "folder"], indirect=True)
def test_a_formula_is_shown_and_typeset(reading):
    link = hover(reading, EQUATION)
    assert box(reading).locator("math").count() >= 1
    assert "\\Gamma" not in box(reading).inner_text()
    assert link.get_attribute("aria-describedby") == "preview"
    assert box(reading).get_attribute("role") == "tooltip"


def test_the_box_is_in_the_window_beside_its_link(reading):
    link = hover(reading, EQUATION).bounding_box()
    shown = box(reading).bounding_box()
    assert 0 <= shown["x"] <= shown["x"] + shown["width"] <= 1280
    below, above = shown["y"] - link["y"] - link["height"], link["y"] - shown["y"] - shown["height"]
    assert 0 <= max(below, above) < 20


def test_escape_closes_and_the_pointer_may_rest(reading):
    hover(reading, EQUATION)
    reading.keyboard.press("Escape")
    assert not box(reading).is_visible()
    reading.wait_for_timeout(600)
    assert not box(reading).is_visible()


def test_it_stays_while_the_pointer_is_on_it(reading):
    hover(reading, EQUATION)
    shown = box(reading).bounding_box()
    reading.mouse.move(shown["x"] + 20, shown["y"] + shown["height"] / 2, steps=5)
    reading.wait_for_timeout(700)
    assert box(reading).is_visible()
    reading.mouse.move(2, 2)
    box(reading).wait_for(state="hidden")


def test_keyboard_focus_shows_and_leaving_hides(reading):
    link = settled(reading, EQUATION)
    reading.keyboard.press("Shift")  # so that focus counts as coming from the keyboard
    link.focus()
    box(reading).and_(reading.locator(":not([style*=hidden])")).wait_for()
    link.blur()
    box(reading).wait_for(state="hidden")


def test_a_click_still_follows_the_link(reading):
    link = hover(reading, EQUATION)
    link.click()
    assert reading.url.endswith("#equation-lu-filter")
    assert not box(reading).is_visible()


def test_a_tap_follows_the_link_and_shows_nothing(open_page, site_url):
    page = open_page(has_touch=True, viewport={"width": 360, "height": 740})
    page.goto(site_url + PAGE)
    link = settled(page, EQUATION)
    link.tap()
    page.wait_for_timeout(600)
    assert page.url.endswith("#equation-lu-filter")
    assert not box(page).is_visible()


def test_every_kind_of_target_is_shown(reading):
    for selector, words in {
        'article p a[href="#lu-ridge"]': "effective ridge",
        'article p a[href="#lu-headline"]': "Fig.",
        'article p a[href*="bibliography.html#"]': "Asymptotic theory",
        'article p a[href*="glossary.html#term-task-gap"]': "ICL error less IDG error",
    }.items():
        hover(reading, selector)
        reading.wait_for_function(
            "words => document.querySelector('#preview').textContent.includes(words)", arg=words
        )
        reading.keyboard.press("Escape")


def test_a_target_in_sight_is_marked_and_not_covered(open_page, site_url):
    page = open_page(viewport={"width": 1280, "height": 40_000})
    page.goto(site_url + PAGE)
    settled(page, EQUATION).hover()
    page.locator("#equation-lu-filter.preview-target").wait_for()
    assert not box(page).is_visible()
    page.mouse.move(2, 2)
    page.locator(".preview-target").wait_for(state="detached")


def test_figures_keep_their_text(reading):
    hover(reading, 'article p a[href="#lu-headline"]')
    image = box(reading).locator("img")
    assert len(image.get_attribute("alt")) > 40
    assert image.evaluate("image => image.naturalWidth") > 0


def test_previews_are_small(site):
    for path in sorted(site.glob("*/*.html")):
        _, found, data = path.read_text("utf-8").partition('id="previews-data">')
        size = len(data.partition("</script>")[0].encode()) if found else 0
        assert size < 100_000, (path.name, size)
