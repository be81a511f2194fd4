"""The live figures of the start page in a real browser; their numbers are tested without one."""

import re

import pytest

from tests.book.figures import FIGURES
from tests.site import checks
from tests.site.watching import from_both

PAUSE = 600  # milliseconds, until readers of the screen are told


@pytest.fixture(params=FIGURES, ids=lambda figure: figure.name)
def figure(request):
    return request.param


def go(page, site_url, figure):
    page.goto(f"{site_url}book/index.html")
    found = page.locator(f".home-{figure.name}")
    found.locator(".home-plot .one").first.wait_for()
    return found


def everything(found):
    return found.locator(".home-says").inner_text(), found.locator(".home-plot").inner_html()


@from_both
def test_sliders_move_by_keyboard_and_say_so(page, site_url, figure):
    found = go(page, site_url, figure)
    for slider in found.locator("input[type=range]").all():
        slider.focus()
        page.keyboard.press("End")
        page.wait_for_timeout(PAUSE)
        before = everything(found)
        page.keyboard.press("Home")
        page.wait_for_timeout(PAUSE)
        assert slider.input_value() == "0"
        assert everything(found)[1] != before[1]
        assert found.locator("[role=status]").inner_text().strip() == everything(found)[0].strip()


@from_both
def test_the_whole_figure_opens_where_the_small_one_stood(page, site_url, figure):
    found = go(page, site_url, figure)
    found.locator("input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    sliders = found.locator("input[type=range]").all()
    values = {s.get_attribute("data-slider"): s.get_attribute("aria-valuetext") for s in sliders}
    found.locator(".home-whole").click()
    there = page.locator(f".{figure.name}-diagram")
    there.locator(".pd-numbers b").first.wait_for()
    assert page.url.partition("#")[0].endswith(f"/notebooks/{figure.page}.html")
    there.locator("summary").last.click()
    exact = there.locator("[data-exact]")
    exact.first.wait_for()
    shown = {box.get_attribute("data-exact"): box.input_value() for box in exact.all()}
    same = set(values) & set(shown)
    assert same
    assert {name: shown[name] for name in same} == {name: values[name] for name in same}


def test_on_a_phone_nothing_sticks_out(open_page, site_url, figure):
    page = open_page(viewport=checks.NARROW, has_touch=True)
    found = go(page, site_url, figure)
    box = found.locator(".home-plot").bounding_box()
    assert box["width"] > 300
    assert box["x"] + box["width"] <= checks.NARROW["width"]
    for slider in found.locator("input[type=range]").all():
        assert slider.bounding_box()["height"] >= 24


def test_without_javascript_a_picture_stands_there(open_page, site_url, figure):
    page = open_page(java_script_enabled=False)
    page.goto(f"{site_url}book/index.html")
    picture = page.locator(f".home-{figure.name} img")
    assert len(picture.get_attribute("alt")) > 80
    assert picture.bounding_box()["width"] > 250


def test_every_result_has_its_score(page, site_url):
    page.goto(f"{site_url}book/index.html")
    for text in page.locator(".home-words").all_text_contents():
        assert re.search(r"Ledger: \S+ \d+ of \d+ hold", text)
