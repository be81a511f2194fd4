"""Files of self-check questions: what is read, and how a defect is named."""

import pytest
import yaml

from iclkit.site.selfchecks import (
    Choice,
    SelfCheckError,
    Wrong,
    load_questions,
    parse_questions,
)

CHOICES = """\
- id: peak
  question: Where is the peak?
  choices:
    - {text: at 1, right: true, because: There the numbers meet.}
    - {text: at 0, because: There is nothing yet.}
"""
NUMBER = """\
- id: ratio
  question: How much?
  answer: 2.5
  tolerance: 0.01
  because: Five over two.
  unit: bits
  formula: 5 / 2
  wrong:
    - {when: 0.4, because: The inverse.}
"""


def changed(text, **keys):
    """The question of a text with some keys set, or left out where the value is None."""
    (question,) = yaml.safe_load(text)
    question |= keys
    return yaml.safe_dump([{k: v for k, v in question.items() if v is not None}])


def message(text):
    with pytest.raises(SelfCheckError) as caught:
        parse_questions(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_both_kinds_are_read():
    peak, ratio = parse_questions(CHOICES + NUMBER)
    assert peak.choices == (
        Choice("at 1", True, "There the numbers meet."),
        Choice("at 0", False, "There is nothing yet."),
    )
    assert (ratio.answer, ratio.tolerance, ratio.unit, ratio.formula) == (
        2.5,
        0.01,
        "bits",
        "5 / 2",
    )
    assert ratio.wrong == (Wrong(0.4, "The inverse."),)
    assert (peak.line, ratio.line) == (1, 6)
    assert not peak.several


@pytest.mark.parametrize("number", [2.5, 2.491, 2.509])
def test_numbers_within_the_tolerance_are_accepted(number):
    assert parse_questions(NUMBER)[0].accepts(number)
    assert not parse_questions(NUMBER)[0].accepts(number + 0.02)


@pytest.mark.parametrize(
    ("given", "absolute"), [("1 %", 0.025), ("0.4%", 0.01), (1, 1.0), (0.05, 0.05)]
)
def test_a_percentage_is_of_the_answer(given, absolute):
    assert parse_questions(changed(NUMBER, tolerance=given))[0].tolerance == pytest.approx(absolute)


def test_a_percentage_of_a_negative_answer_is_positive():
    text = changed(NUMBER, answer=-2.5, tolerance="2 %")
    assert parse_questions(text)[0].tolerance == pytest.approx(0.05)


def test_several_choices_may_be_right():
    choices = [{"text": t, "right": t < "c", "because": "So."} for t in "abc"]
    (question,) = parse_questions(changed(CHOICES, choices=choices, several=True))
    assert question.several


def pair(first, second):
    return [
        {"text": "x", "right": first, "because": "So."},
        {"text": "y", "right": second, "because": "So."},
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"choices": pair(False, False)}, "exactly one choice must be right, got 0; mark it"),
        ({"choices": pair(True, True)}, "got 2; mark it `right: true`, or add `several: true`"),
        ({"choices": pair(True, True), "several": True}, "a choice must be wrong"),
        ({"choices": pair(True, False), "several": True}, "several choices must be right, got 1"),
        ({"choices": pair("yes", False)}, "`right` must be true or false, got 'yes'"),
        ({"choices": [{"text": "x"}] * 2}, "`because` must be text, got None; write it"),
        (
            {"choices": [{"text": 3, "because": "So."}]},
            "`text` must be text, got 3; put it in quotes",
        ),
        ({"choices": pair(True, False)[:1] * 2}, "choice 'x' stands twice"),
        ({"choices": pair(True, False) * 5}, "at most 8 choices, got 10"),
        ({"choices": ["x"]}, "a choice must have keys, got 'x'"),
        ({"choices": "x"}, "`choices` must be a list, got 'x'"),
        ({"answer": 3}, "a question with choices has no key answer"),
        ({"question": " "}, "`question` must be text, got ' '"),
        ({"choices": None}, "needs `choices`, or an `answer`"),
    ],
)
def test_defects_of_choices_are_named(keys, words):
    told = message(changed(CHOICES, **keys))
    assert told.startswith("line 1, question peak: ")
    assert words in told


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"answer": "2.5"}, "`answer` must be a finite number such as 2.5 or 1.0e-3"),
        ({"answer": True}, "`answer` must be a finite number"),
        ({"answer": float("nan")}, "`answer` must be a finite number"),
        ({"tolerance": None}, "tolerance must be a number > 0 or a percentage such as '1 %'"),
        ({"tolerance": 0}, "tolerance must be a number > 0"),
        ({"tolerance": -1.0}, "got -1.0"),
        ({"tolerance": "a bit"}, "got 'a bit'"),
        ({"answer": 0, "tolerance": "1 %"}, "give an absolute one, since the answer is 0"),
        ({"because": None}, "`because` must be text"),
        ({"unit": 3}, "`unit` must be text, got 3; put it in quotes"),
        ({"wrong": [{"when": 2.505, "because": "So."}]}, "counts as the answer 2.5"),
        ({"wrong": [{"when": 1, "because": "So."}] * 2}, "`when` '1' stands twice"),
        ({"wrong": [{"when": "1", "because": "So."}]}, "`when` must be a finite number"),
        ({"hint": "x"}, "a question for a number has no key hint; it has answer, because,"),
    ],
)
def test_defects_of_numbers_are_named(keys, words):
    told = message(changed(NUMBER, **keys))
    assert told.startswith("line 1, question ratio: ")
    assert words in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a list of questions"),
        ("[]", "must be a list of questions"),
        ("id: x", "must be a list of questions"),
        ("- [", "not YAML: "),
        ("- x", "line 1: a question needs an id of small letters, digits and -, got None"),
        ("- {id: Peak}", "got 'Peak'"),
        (CHOICES + CHOICES, "id 'peak' stands twice in two questions; rename one"),
        (CHOICES + NUMBER + "  answer: 3\n", "line 6, question ratio: key 'answer' stands twice"),
        (CHOICES.replace("text: at 0", "text: a, text: b"), "key 'text' stands twice"),
    ],
)
def test_defects_of_a_file_are_named(text, words):
    assert words in message(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SelfCheckError, match="cannot be read"):
        load_questions(tmp_path / "none.yml")
