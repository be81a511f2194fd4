"""Self-check questions: formulas give the answers, references exist, no pattern betrays the answer.

`iclkit.site.selfchecks` refuses a file of the wrong form; these tests are about what the files of
the book say.
"""

import importlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from iclkit.bench.claims import load_claims
from iclkit.bench.runner import notebook_names, read_notebook
from iclkit.site.selfchecks import load_questions

ROOT = Path(__file__).resolve().parents[1]
NAMES = notebook_names(ROOT)
MAIN = ("00_primer", "01_dual_kernel", "02_linear_block", "03_data_mixing", "04_phase_transition")
#: What a formula may use: numpy, the papers by their initials, the other modules by name.
PAPERS = {"dk": "dual_kernel", "lb": "linear_block", "dm": "data_mixing", "pt": "phase_transition"}
MODULES = ("rng", "prompts", "features", "hermite", "moments", "solvers", "predictors", "risk")
ELSEWHERE = {"nets": "iclkit.nets", "checks": "iclkit.bench.checks"}
ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
#: How the target of each role is declared in the source of a notebook.
DECLARED = {
    "eq": re.compile(r"\$\$ \(([^)\s]+)\)"),
    "numref": re.compile(r"\bname=\"([^\"\s]+)\",\s*caption="),
    "prf:ref": re.compile(r"\{prf:(?!proof|ref)[a-z]+\}[^\n]*\n:label: (\S+)"),
    "ref": re.compile(r"\{exercise\}[^\n]*\n:label: (\S+)"),
    "glue:text": re.compile(r"\{glue:text\}`(\w+)"),  # a number that the page shows as well
}
#: Choices that test how a list is made, not what a page says.
EVASIVE = re.compile(r"(?i)\b(all|none|both|any) of the (above|below|others)\b")


def questions_of(name):
    return load_questions(ROOT / f"book/selfchecks/{name}.yml")


PAGES = {name: questions_of(name) for name in NAMES}
EVERY = [pytest.param(name, q, id=f"{name}-{q.id}") for name in NAMES for q in PAGES[name]]
CHOICES = [p for p in EVERY if p.values[1].choices]
NUMBERS = [p for p in EVERY if not p.values[1].choices]


def texts_of(q):
    """All texts of a question that a reader may see."""
    choices = [part for c in q.choices for part in (c.text, c.because)]
    return [q.question, q.because, *choices, *(w.because for w in q.wrong)]


def right(q):
    """The place of the right choice."""
    return [c.right for c in q.choices].index(True)


def widths(q):
    """About how wide the choices are in print: markup of formulas does not count."""
    plain = (re.sub(r"\\[a-zA-Z]+", "x", c.text) for c in q.choices)
    return [len(re.sub(r"[\\${}^_*`]", "", text)) for text in plain]


def longest(q):
    """Whether the right choice is longer than all others."""
    rest = widths(q)
    return rest.pop(right(q)) > max(rest)


@pytest.fixture(scope="module")
def names():
    """What a formula may use."""
    papers = {k: importlib.import_module(f"iclkit.papers.{v}") for k, v in PAPERS.items()}
    modules = {k: importlib.import_module(f"iclkit.{k}") for k in MODULES}
    others = {k: importlib.import_module(v) for k, v in ELSEWHERE.items()}
    return {"np": np, **papers, **modules, **others}


def test_every_notebook_has_questions_and_no_file_is_left_over():
    assert sorted(p.stem for p in (ROOT / "book/selfchecks").iterdir()) == sorted(NAMES)
    assert set(MAIN) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_asks_a_few_questions_of_both_kinds(name):
    least, most = (4, 6) if name in MAIN else (3, 4)
    kinds = Counter(bool(q.choices) for q in PAGES[name])
    assert least <= kinds.total() <= most
    assert kinds[True] >= 2
    assert kinds[False] >= 1


@pytest.mark.parametrize(("_", "q"), EVERY)
def test_one_choice_is_right_and_every_answer_has_its_own_reason(_, q):
    assert 3 <= len(q.choices) <= 4 if q.choices else len(q.wrong) >= 2
    assert sum(c.right for c in q.choices) == bool(q.choices)
    reasons = [r for r in (q.because, *(c.because for c in (*q.choices, *q.wrong))) if r]
    assert len(set(reasons)) == len(reasons)
    assert min(map(len, reasons)) >= 25
    assert not any(EVASIVE.search(text) for text in texts_of(q))


@pytest.mark.parametrize(("_", "q"), NUMBERS)
def test_the_formula_gives_the_answer_to_its_last_digit(names, _, q):
    value = float(eval(q.formula, dict(names)))  # noqa: S307 - a file of this repository
    digits = len(f"{q.answer:.12g}".partition(".")[2])
    assert abs(value - q.answer) <= 0.5 * 10.0**-digits * (1 + 1e-9)
    assert q.accepts(value)
    assert not any(q.accepts(w.when) for w in q.wrong)


@pytest.mark.parametrize(("_", "q"), NUMBERS)
def test_a_formula_uses_the_library(_, q):
    used = set(re.findall(r"\b([a-z_]+)\.", q.formula))
    assert used & {*PAPERS, *MODULES, *ELSEWHERE}
    assert not re.search(r"\._", q.formula)


def declared(name):
    """Targets of references on a page, by role."""
    cells = read_notebook(ROOT / f"notebooks/{name}.ipynb")["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    targets = {role: set(pattern.findall(source)) for role, pattern in DECLARED.items()}
    return targets | {"claim": {c.id for c in load_claims() if c.notebook == name}}


@pytest.mark.parametrize("name", NAMES)
def test_references_lead_to_what_stands_on_the_page(name):
    targets = declared(name)
    for q in PAGES[name]:
        text = "\n".join(texts_of(q))
        assert "({eq}" not in text, f"{q.id}: a number in brackets would stand in brackets"
        for role, target in ROLE.findall(text):
            if role == "glue:text":
                assert target.partition(":")[0] in targets[role], (q.id, target)
            elif role == "doc":
                assert target in NAMES, (q.id, target)
                assert target != name, (q.id, target)
            else:
                assert target in targets[role], (q.id, role, target)


@pytest.mark.parametrize("name", NAMES)
def test_every_question_says_where_to_look(name):
    """At least two of three questions point at the page: the rest can be answered by sense."""
    pointing = [bool(ROLE.search("\n".join(texts_of(q)[1:]))) for q in PAGES[name]]
    assert np.mean(pointing) >= 2 / 3


def test_the_place_of_the_right_choice_tells_nothing():
    """With 4 choices a reader who always takes one place is right in less than 4 of 10 cases."""
    for number in (3, 4):
        asked = [p.values[1] for p in CHOICES if len(p.values[1].choices) == number]
        places = Counter(map(right, asked))
        assert set(places) == set(range(number))
        assert max(places.values()) < (1.6 / number) * len(asked)
    for name in NAMES:
        assert len({right(q) for q in PAGES[name] if q.choices}) > 1, name


def test_the_length_of_the_right_choice_tells_nothing():
    asked = [p.values[1] for p in CHOICES]
    assert np.mean([longest(q) for q in asked]) < 0.4
    for name in NAMES:
        assert not all(longest(q) for q in PAGES[name] if q.choices), name


@pytest.mark.parametrize(("_", "q"), CHOICES)
def test_choices_are_about_equally_long(_, q):
    assert max(widths(q)) <= 2 * min(widths(q))
