"""Self-check questions on a page: what is rendered, what a defect says, how numbers are judged."""

import json

import pytest
from bs4 import BeautifulSoup
from py_mini_racer import mini_racer

from tests.book.small_book import build, built

QUESTIONS = """\
- id: peak
  question: Where does $e$ peak, see {doc}`index`?
  choices:
    - {text: at $n=1$, right: true, because: "There *numbers* meet, see {ref}`here`."}
    - {text: "at [0](#here)", because: There is nothing.}
- id: primes
  question: Which are prime?
  several: true
  choices:
    - {text: "2", right: true, because: Even.}
    - {text: "3", right: true, because: Odd.}
    - {text: "4", because: It is two squared.}
- id: ratio
  question: "How much is it?\\n\\nGive two digits."
  answer: -2.5
  tolerance: 1 %
  unit: bits
  because: $-5/2$.
  wrong:
    - {when: -0.4, because: The inverse.}
"""
ASKS = "```{selfcheck} toy\n```\n"
PAGE = f"(here)=\n# Title\n\nText.\n\n{ASKS}\n```{{toctree}}\nother\n```\n"
PAGES = {
    "index.md": PAGE,
    "other.md": "# Other\n\nText.\n",
    "book/selfchecks/toy.yml": QUESTIONS,
}
DEFECTS = {
    "none": (
        QUESTIONS.replace('right: true, because: "There', 'because: "There'),
        "book/selfchecks/none.yml: line 1, question peak: exactly one choice must be right",
    ),
    "long": (
        QUESTIONS.replace("at $n=1$", '"one\\n\\ntwo"'),
        "long.yml: line 1, question peak: a choice or unit must be one paragraph",
    ),
    "link": (QUESTIONS.replace("{ref}`here`", "{ref}`gone`"), "link.yml:1: WARNING: undefined"),
    "missing": (None, "book/selfchecks/missing.yml: cannot be read"),
}


def page_of(site):
    return BeautifulSoup((site / "index.html").read_text("utf-8"), "html.parser")


@pytest.fixture(scope="module", params=["html", "singlehtml"])
def site(request, tmp_path_factory):
    return built(tmp_path_factory.mktemp("book"), PAGES, "selfcheck", builder=request.param)


@pytest.fixture(scope="module")
def page(site):
    return page_of(site)


def texts(tags):
    return [" ".join(tag.get_text(" ", strip=True).split()) for tag in tags]


# ------------------------------------------------------------------ on the page


def test_every_choice_opens_to_a_verdict_without_a_script(page):
    choices = page.select(".selfcheck details:is(.selfcheck-right, .selfcheck-wrong)")
    assert [c.has_attr("open") for c in choices] == [False] * 5
    said = texts(c.select_one("div") for c in choices)
    right = [text.startswith("Right. ") for text in said]
    assert right == [True, False, True, True, False]
    assert all(text.startswith("Not right. ") for text, r in zip(said, right, strict=True) if not r)
    kinds = ["selfcheck-right" in c["class"] for c in choices]
    assert kinds == right


def test_texts_are_markdown_with_links_and_formulas(page):
    first = page.select_one(".selfcheck details")
    assert first.select_one("summary .math").get_text() == r"\(n=1\)"
    assert texts([first.select_one("summary")])[0].startswith("(a) at")
    assert first.select_one("div em").get_text() == "numbers"
    assert first.select_one("div a")["href"].endswith("#here")
    assert page.select_one(".selfcheck summary a")["href"].endswith("#here")


def test_a_number_has_a_hidden_form_and_an_open_answer(page):
    item = page.select_one("#check-toy-ratio")
    form = item.select_one("form")
    assert form.has_attr("hidden")
    assert (form["data-answer"], float(form["data-tolerance"])) == ("-2.5", pytest.approx(0.025))
    assert form.select_one("label")["for"] == form.select_one("input")["id"]
    assert "bits" in texts([form])[0]
    assert texts(item.select("details summary")) == ["If you found -0.4", "Show the answer"]
    assert texts([item.select_one(".selfcheck-solution div")])[0].startswith("-2.5 bits. ")
    assert item.select_one(".selfcheck-remark")["data-when"] == "-0.4"


def test_what_opens_is_announced(page):
    for details in page.select(".selfcheck details"):
        assert details.find_parent(attrs={"aria-live": "polite"})


def test_questions_are_named_groups_in_a_list(page):
    for item in page.select(".selfcheck-questions > li"):
        group = item.select_one(":scope > [role=group]")
        assert page.find(id=group["aria-labelledby"]).get_text(strip=True)
    ids = [tag["id"] for tag in page.select(".selfcheck [id]")]
    assert len(set(ids)) == len(ids)


def test_paper_gets_the_answers_at_the_end(page):
    answers = texts(page.select(".selfcheck-answers li"))
    assert answers[0].startswith("(a) There numbers meet")
    assert answers[1] == "(a) Even. (b) Odd."
    assert answers[2].startswith("-2.5 bits. ")


def test_only_pages_that_ask_load_the_script(site):
    assert "selfcheck.js" in (site / "index.html").read_text("utf-8")
    other = site / "other.html"  # there is none where all pages are one
    assert not other.exists() or "selfcheck.js" not in other.read_text("utf-8")


# ------------------------------------------------------------------ defects


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What a build says of pages with a defect each; it fails."""
    pages = {f"{name}.md": PAGE.split("\n```{toc")[0].replace("toy", name) for name in DEFECTS}
    pages = {name: "---\norphan: true\n---\n" + text for name, text in pages.items()}
    files = {f"book/selfchecks/{n}.yml": text for n, (text, _) in DEFECTS.items() if text}
    index = {"index.md": "(here)=\n# Title\n\nText.\n"}
    pages = {name: text.replace("(here)=\n", "") for name, text in pages.items()}
    _, status, said = build(tmp_path_factory.mktemp("bad"), index | pages | files, "selfcheck")
    assert status == 1
    return said


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_stops_the_build_and_is_named(complaints, name):
    assert DEFECTS[name][1] in complaints
    assert "Traceback" not in complaints


def test_nothing_else_is_complained_about(complaints):
    assert complaints.count("WARNING") == len(DEFECTS) + 1  # the link stands in the answers, too


# ------------------------------------------------------------------ the script


@pytest.fixture(scope="module")
def js():
    from tests.book.small_book import ROOT

    with mini_racer() as engine:
        engine.eval((ROOT / "book/_static/selfcheck.js").read_text("ascii"))
        yield engine


def parsed(js, text):
    found = js.eval(f"String(selfCheck.parse({json.dumps(text)}))")
    return None if found == "NaN" else float(found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2.5", 2.5),
        (" 2,5 ", 2.5),
        (".5", 0.5),
        ("+3.", 3),
        ("-1/4", -0.25),
        ("\u22121/4", -0.25),
        ("1e-3", 1e-3),
        ("1.5E3", 1500),
        ("2*10^-4", 2e-4),
        ("2 \u00b7 10\u207b\u2074", 2e-4),
        ("3\u00d710\u00b2", 300),
        ("10^2", 100),
        ("-10^2", -100),
        ("10\u00b2", 100),
    ],
)
def test_numbers_are_read_as_people_write_them(js, text, value):
    assert parsed(js, text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", "x", "1/2/3", "1..2", "2.5.1", "1,000,000", "1e", "--1", "0x10", "Infinity", "1+1"]
)
def test_what_is_no_number_is_refused(js, text):
    assert parsed(js, text) is None


def judged(js, value, *, answer=2.5, tolerance=0.01, remarks=()):
    call = f"selfCheck.judge({value}, {answer}, {tolerance}, {json.dumps(list(remarks))})"
    return json.loads(js.eval(f"JSON.stringify({call})"))


@pytest.mark.parametrize("value", [2.5, 2.49, 2.51])
def test_the_tolerance_belongs_to_the_answer(js, value):
    said = judged(js, value, remarks=[2.52])
    assert (said["right"], said["text"], said["remark"]) == (True, "Right.", -1)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (3, "too large"),
        (-3, "too small"),
        (-2.5, "sign"),
        (2.54, "more digits"),
        (25, "power of ten"),
        (0.025, "power of ten"),
        ("NaN", "Write a number"),
        ("Infinity", "Write a number"),
    ],
)
def test_a_wrong_number_gets_a_hint(js, value, hint):
    said = judged(js, value)
    assert not said["right"]
    assert hint in said["text"]
    assert "2.5" not in said["text"].removeprefix("Write a number")


def test_the_nearest_remark_wins(js):
    assert judged(js, 1.004, remarks=[1.01, 1.0, 7])["remark"] == 1
    assert judged(js, 1.009, remarks=[1.01, 1.0, 7])["remark"] == 0
    assert judged(js, 4, remarks=[1.01, 1.0, 7])["remark"] == -1
    assert judged(js, 7, remarks=[1.01, 1.0, 7])["text"] == "Not right."


def test_an_answer_of_zero_has_hints_too(js):
    assert judged(js, 0, answer=0)["right"]
    assert "too large" in judged(js, 1, answer=0)["text"]


def test_the_script_is_small_and_asks_for_nothing():
    from tests.book.small_book import ROOT

    text = (ROOT / "book/_static/selfcheck.js").read_text("ascii")
    assert len(text) < 7_000
    assert "http" not in text
    assert "localStorage" not in text
    assert text.count("\nconst ") == 1
