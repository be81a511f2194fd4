import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from iclkit.classroom import grading, layout, marking
from iclkit.classroom.feedback import feedback, link
from iclkit.classroom.grading import Desk, grade
from iclkit.classroom.marking import Mark
from iclkit.classroom.results import Part, Result
from iclkit.classroom.source import assignment
from iclkit.classroom.submissions import Notebook
from tests.iclkit.classroom import toy_course as toy

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">&amp; \u202e'
VOID = {"meta", "br", "rect", "line"}


class Outline(HTMLParser):
    """What a page is made of; complains of tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.ids, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.seen.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def names(self):
        return [tag for tag, _ in self.seen]


def outline(page):
    """Return the outline of a page that must hold together and stand alone."""
    made = Outline()
    made.feed(page)
    assert made.open == []
    assert len(set(made.ids)) == len(made.ids)
    named = {value for _, attrs in made.seen for value in [attrs.get("aria-labelledby")] if value}
    assert named <= set(made.ids)
    names = made.names()
    assert not {"script", "link", "img", "iframe", "form"} & set(names)
    assert names.count("h1") == names.count("main") == 1
    assert names.count("table") == names.count("caption")
    assert not re.search(r"https?:|//", page.replace("<!DOCTYPE html>", ""))
    return made


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return assignment(toy.write(tmp_path_factory.mktemp("repository")))


def graded(given, answers, monkeypatch):
    monkeypatch.setattr(grading.sandbox, "run", toy.run_here)
    parts = grade(Notebook(answers, {}), given, "ada", Desk(toy.COURSE, "none"))
    return Result("ada", given.name, parts)


def page_for(given, answers, monkeypatch):
    return feedback(graded(given, answers, monkeypatch), given.title, answers)


def test_the_page_holds_together_and_needs_nothing_else(given, monkeypatch):
    page = page_for(given, toy.reference(), monkeypatch)
    made = outline(page)
    assert "12 of 15 points" in page
    assert "3 more points wait for a person" in page
    assert made.names().count("h2") == 3
    assert {target.lstrip("#") for target in made.links} <= set(made.ids)


def hidden(given):
    """Yield all hidden inputs and expected values of one student, as they would be printed."""
    who = {"course": toy.COURSE, "student": "ada", "assignment": given.name}
    for item in given.items:
        calls = marking.calls(item, **who)
        own = marking.given(item, course=toy.COURSE, student="ada")
        right = marking.replies_of(item, calls, own.get("numbers", {}))
        for call, reply in zip(calls, right, strict=True):
            values = [
                *np.hstack([np.ravel(x) for x in (call.arguments or ())] or [[]]),
                reply.value,
            ]
            for value in values:
                text = f"{float(value):.15g}"
                if len(text) > 5:  # shorter ones, such as 0.7, are public
                    yield text[:6]


def test_no_page_tells_an_expected_value_or_a_hidden_input(given, monkeypatch):
    secret = set(hidden(given))
    assert len(secret) > 50
    for item in given.items:
        for mistake in item.tests.mistakes:
            page = page_for(given, toy.with_mistake(item.key, mistake), monkeypatch)
            assert mistake.hint in page.replace("&#39;", "'")
            assert not [text for text in secret if text in page]
            assert "Traceback" not in page


def test_what_a_student_wrote_is_only_text(given, monkeypatch):
    answers = dict.fromkeys(toy.reference(), f"'''{HOSTILE}'''")
    page = page_for(given, answers, monkeypatch)
    outline(page)
    assert "&lt;script&gt;alert(1)" in page
    assert "\\u202e" in page


def test_names_remarks_problems_and_comments_are_only_text():
    part = Part("a", HOSTILE, 2, 1, marks=(Mark(0, 2, HOSTILE, HOSTILE),), problem=HOSTILE)
    part = replace(part, comments=(HOSTILE,), by_hand=1.0, changed=2.0, text="x")
    result = Result(HOSTILE, "0_toy", (part,), (HOSTILE,), handed_in=HOSTILE)
    outline(feedback(result, HOSTILE, {"a-answer": HOSTILE, "a-derivation": HOSTILE}))


def test_a_page_without_points_says_why():
    page = feedback(Result("ada", "x", (), ("there is no assignment",)), "x", {})
    outline(page)
    assert "there is no assignment" in page


def test_points_that_a_person_gave_are_shown_with_the_comment(given, monkeypatch):
    result = graded(given, toy.reference(), monkeypatch)
    parts = [replace(result.parts[-1], by_hand=2.5, comments=("Well argued.",))]
    page = feedback(replace(result, parts=(*result.parts[:-1], *parts)), given.title, {})
    assert "2.5 of 3" in page
    assert "Well argued." in page
    assert "wait" not in page


def test_a_name_from_another_cell_is_explained(given, monkeypatch):
    def missing(cells, calls, **options):
        problem = "`ridge_slope` raises NameError in line 2: name 'helper' is not defined"
        return [marking.Reply(problem=problem)] * len(calls)

    monkeypatch.setattr(grading.sandbox, "run", missing)
    parts = grade(Notebook(toy.reference(), {}), given, "ada", Desk(toy.COURSE, "none"))
    page = feedback(Result("ada", given.name, parts), given.title, {})
    assert "Define it here." in page
    assert page.count("NameError") == 3  # once per exercise, not once per test


def test_a_hint_is_not_repeated(given, monkeypatch):
    item = given.items[0]
    page = page_for(given, toy.with_mistake(item.key, item.tests.mistakes[3]), monkeypatch)
    assert page.count(item.tests.mistakes[3].hint) == 1
    assert page.count("The hint above holds here, too.") == 2


def test_links_of_odd_names_lead_to_the_file():
    assert link("a b/../#?\u00e4", "0_toy") == "feedback/a%20b/../%23%3F%C3%A4/0_toy.html"


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_enough_contrast(theme):
    light, dark = re.findall(r":root \{.*?\}", layout.STYLE, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", {"light": light, "dark": dark}[theme]))
    for text in ("text", "muted", "link", "good", "open"):
        for ground in ("paper", "card"):
            pair = sorted(luminance(colours[name]) for name in (text, ground))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (text, ground)
    pair = sorted(luminance(colours[name]) for name in ("fill", "paper"))
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 3


def test_long_answers_are_shortened():
    assert len(layout.visible("x" * 10**6)) < 21_000
