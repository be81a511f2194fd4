"""Self-checks as a reader meets them: with keys, without a script, on paper."""

import pytest

PAGE = "notebooks/00_primer.html"


@pytest.fixture
def asked(page, site_url):
    page.goto(site_url + PAGE)
    return page


def first(page, kind):
    return page.locator(f".selfcheck-questions > .selfcheck-{kind}").first


def test_a_choice_opens_with_the_keyboard_and_says_why(asked):
    item = first(asked, "choices")
    item.locator(".selfcheck-wrong summary").first.focus()
    asked.keyboard.press("Enter")
    opened = item.locator("details[open]")
    assert opened.count() == 1
    assert opened.locator("div").first.inner_text().startswith("Not right.")
    asked.locator(".selfcheck-score").wait_for()
    item.locator(".selfcheck-right summary").first.click()
    assert "0 at the first try" in solved(asked, 1)


def solved(page, count):
    score = page.locator(".selfcheck-score", has_text=f"{count} of ")
    score.wait_for()
    return score.inner_text()


def test_a_number_is_judged(asked):
    item = first(asked, "number")
    form = item.locator("form")
    answer = float(form.get_attribute("data-answer"))
    box, verdict = form.locator("input"), item.locator(".selfcheck-verdict")
    for text in ("what?", str(answer * 3), str(answer)):
        box.fill(text)
        box.press("Enter")
        assert verdict.inner_text().startswith("Right.") == (text == str(answer))
    assert item.locator(".selfcheck-solution[open]").count() == 1
    assert "0 at the first try" in solved(asked, 1)


def test_a_typical_wrong_number_gets_its_remark(asked):
    item = asked.locator(".selfcheck-number:has(.selfcheck-remark)").first
    remark = item.locator(".selfcheck-remark").first
    assert not remark.is_visible()
    item.locator("input").fill(remark.get_attribute("data-when"))
    item.locator("button").click()
    assert remark.locator("div").first.is_visible()
    assert item.locator(".selfcheck-solution[open]").count() == 0


def test_it_starts_again(asked):
    first(asked, "choices").locator(".selfcheck-right summary").first.click()
    assert "1 at the first try" in solved(asked, 1)
    asked.get_by_role("button", name="Start again").click()
    assert asked.locator(".selfcheck details[open]").count() == 0
    assert not asked.locator(".selfcheck-score").is_visible()


def test_without_a_script_everything_can_be_read(browser, site):
    page = browser.new_page(java_script_enabled=False)
    page.goto((site / PAGE).as_uri())
    item = first(page, "choices").locator("details").first
    item.locator("summary").click()
    assert "ight." in item.locator("div").first.inner_text()
    number = first(page, "number")
    assert not number.locator("form").is_visible()
    number.locator(".selfcheck-solution summary").click()
    assert number.locator(".selfcheck-solution div").first.is_visible()
    page.close()


def test_paper_has_questions_first_and_answers_last(asked):
    first(asked, "choices").locator("summary").first.click()
    asked.emulate_media(media="print")
    answers = asked.locator(".selfcheck-answers")
    assert answers.is_visible()
    shown = asked.locator(".selfcheck-questions details > div:visible, .selfcheck form:visible")
    assert shown.count() == 0
    count = asked.locator(".selfcheck-questions > li").count()
    assert answers.locator("> ol > li").count() == count


def test_answers_stay_closed_on_the_screen(asked):
    assert not asked.locator(".selfcheck-answers").is_visible()
    assert asked.locator(".selfcheck details[open]").count() == 0
