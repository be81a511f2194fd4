"""Assignments: every exercise of every instructor's notebook does what its author says.

The reference has all points under 50 seeds, each documented mistake loses exactly its points and
gets its own hint, in the grading and (where it shows there) from the public check, and right
statistical answers never fail.
"""

import re
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from iclkit.bench.runner import read_notebook
from iclkit.classroom import sandbox
from iclkit.classroom.course import Course, course_of
from iclkit.classroom.desk import Desk, pack
from iclkit.classroom.marking import calls, given, here, marks, replies_of, unfit_calls
from iclkit.classroom.sandbox import Reply
from iclkit.classroom.source import FOLDER, assignment, first_numbers, solved
from iclkit.classroom.spec import Estimate, Number

ROOT = Path(__file__).resolve().parents[1]
PATHS = sorted((ROOT / FOLDER).glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]
#: The warm-up and one for each chapter.
EXPECTED = ["0_warm_up", "1_dual_kernel", "2_linear_block", "3_data_mixing", "4_phase_transition"]
SEEDS = 50
#: Gradings of right statistical answers, in all exercises together.
GRADINGS = 1000
#: Seeds of the mistakes: their points are lost under each.
MISTAKE_SEEDS = 3
GOALS = re.compile(r"^\| You will learn[^|]*\| (.*) \|$", re.MULTILINE)
RANKS = ("easy", "medium", "hard")


@cache
def read(name):
    return assignment(ROOT / FOLDER / f"{name}.ipynb")


def keys():
    """Return (assignment, key) of every exercise; an unreadable notebook fails its own test."""
    found = []
    for path in PATHS:
        cells = read_notebook(path)["cells"]
        found += [(path.stem, c["id"]) for c in cells if "exercise" in c["metadata"]]
    return found


def who(seed, name):
    return {"course": course_of(2**100 + seed), "student": f"student{seed}", "assignment": name}


def own(item, seed, name):
    by = who(seed, name)
    return given(item, course=by["course"], student=by["student"]).get("numbers", {})


def replied(item, seed, name, mistake=None):
    wanted = calls(item, **who(seed, name))
    return replies_of(item, wanted, own(item, seed, name), mistake=mistake)


def marked(item, replies, seed, name):
    return marks(item, replies, **who(seed, name))


@pytest.fixture(params=keys(), ids="/".join)
def case(request):
    name, key = request.param
    return name, read(name).item(key)


# ------------------------------------------------------------------ assignments


def test_there_is_one_for_the_primer_and_for_each_chapter():
    assert NAMES == EXPECTED


@pytest.mark.parametrize("name", NAMES)
def test_the_format_is_kept(name):
    read(name)


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_takes_one_to_two_hours_and_grows_harder(name):
    about = [item.about for item in read(name).items]
    ranks = [RANKS.index(one["difficulty"]) for one in about]
    assert 5 <= len(about) <= 7
    assert 60 <= sum(one["minutes"] for one in about) <= 120
    assert ranks == sorted(ranks)
    assert len(set(ranks)) > 1


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_has_every_kind_of_exercise(name):
    found = {item.about["kind"] for item in read(name).items}
    assert found == {"code", "number", "derivation", "experiment"}


def goals(page):
    """Return the number of goals that a page's first table names."""
    cells = read_notebook(ROOT / "notebooks" / f"{page}.ipynb")["cells"]
    row = GOALS.search("\n".join("".join(cell["source"]) for cell in cells))
    return len(re.findall(r"\*\*[^*]+\*\*", row[1])) if row else 0


def test_goals_belong_to_pages(case):
    _, item = case
    for page, number in item.about["goals"]:
        assert 1 <= number <= goals(page), (page, number)


# ------------------------------------------------------------------ right answers


def test_the_reference_has_all_points_under_50_seeds(case):
    name, item = case
    for seed in range(SEEDS):
        got = marked(item, replied(item, seed, name), seed, name)
        lost = [(mark.about, mark.hint) for mark in got if mark.points < mark.out_of]
        assert not lost, seed


def test_the_reference_has_all_points_in_the_sandbox(case):
    name, item = case
    replies = sandbox.run(
        [item.setup, item.answer],
        calls(item, **who(0, name)),
        given=given(item, course=who(0, name)["course"], student="student0"),
        uses=item.tests.uses,
        limits=sandbox.Limits(seconds=item.tests.seconds, megabytes=item.tests.megabytes),
        isolation=sandbox.strongest(),
    )
    assert [reply.problem for reply in replies] == [""] * len(replies)
    assert all(mark.points == mark.out_of for mark in marked(item, replies, 0, name))


def test_rounding_of_another_algorithm_costs_nothing(case):
    name, item = case
    for seed in range(3):
        replies = [Reply(rounded(reply.value, seed)) for reply in replied(item, seed, name)]
        assert all(mark.points for mark in marked(item, replies, seed, name))


def rounded(value, seed):
    """Return a value with relative errors of 1e-11; counts and zeros and ones stay exact."""
    if isinstance(value, list | tuple):
        return [rounded(part, seed) for part in value]
    exact = isinstance(value, str) or (np.asarray(value) == np.round(value)).all()
    errors = np.random.default_rng(seed).uniform(-1, 1, size=np.shape(value))
    return value if exact else value * (1 + 1e-11 * errors)


def test_hidden_inputs_can_travel(case):
    name, item = case
    assert unfit_calls(calls(item, **who(0, name))) == []


def test_hidden_inputs_differ_between_courses(case):
    name, item = case
    inputs = [repr(calls(item, **who(seed, name))) for seed in range(3)]
    only_numbers = all(isinstance(test, Number) for test in item.tests.tests)
    assert only_numbers or len(set(inputs)) == 3


def test_every_students_number_is_what_the_reference_finds(case):
    _, item = case
    asked = [test for test in item.tests.tests if isinstance(test, Number)]
    choices = item.tests.numbers
    combinations = [dict(zip(choices, one, strict=True)) for one in product(*choices.values())]
    answers = set()
    for numbers in combinations if asked else ():
        names = solved(item, numbers)
        for test in asked:
            expected = test.expected(numbers)
            assert names[test.name] == pytest.approx(expected, rel=test.rtol, abs=test.atol)
        answers.add(tuple(f"{names[test.name]:.4g}" for test in asked))
    assert len(answers) > 0.8 * len(combinations) or not asked  # neighbours have other answers


# ------------------------------------------------------------------ wrong answers


def test_each_mistake_loses_its_points_and_gets_its_hint(case):
    name, item = case
    for mistake in item.tests.mistakes:
        for seed in range(MISTAKE_SEEDS):
            replies = replied(item, seed, name, mistake)
            got = [mark for mark in marked(item, replies, seed, name) if not mark.points]
            assert sum(mark.out_of for mark in got) == mistake.loses, mistake.name
            assert {mark.hint for mark in got} == {mistake.hint}


def test_mistakes_lose_different_amounts(case):
    _, item = case
    assert len({mistake.loses for mistake in item.tests.mistakes}) > 1


def test_hints_are_one_line_without_numbers(case):
    _, item = case
    for mistake in item.tests.mistakes:
        assert re.fullmatch(r"[A-Z0-9`$(][^\n]{10,240}[.?!]", mistake.hint), mistake.hint
        assert not re.search(r"\d\.\d", mistake.hint), mistake.hint


@pytest.mark.parametrize("constant", [0.0, 1.0, -1.0, float("nan"), None, "text", []])
def test_a_constant_earns_next_to_nothing(case, constant):
    name, item = case
    replies = [Reply(constant)] * len(calls(item, **who(0, name)))
    got = marked(item, replies, 0, name)
    assert sum(mark.points for mark in got) <= 0.2 * sum(mark.out_of for mark in got)


@pytest.mark.parametrize("factor", [0.0, 3.0, -1.0])
def test_little_is_earned_by_shape_alone(case, factor):
    name, item = case
    replies = [Reply(scaled(r.value, factor), r.problem) for r in replied(item, 0, name)]
    got = marked(item, replies, 0, name)
    assert sum(mark.points for mark in got) <= 0.35 * sum(mark.out_of for mark in got)


def scaled(value, factor):
    if isinstance(value, list | tuple):
        return [scaled(part, factor) for part in value]
    return value if isinstance(value, str) else np.asarray(value, dtype=float) * factor


# ------------------------------------------------------------------ the public check


def test_the_public_check_knows_the_reference_and_names_mistakes(case):
    name, item = case
    desk = Desk(pack(replace(read(name), items=(item,)), salt="open"), "ada")
    assert "right on" in desk.remark(item.key, item.reference)
    silent = set()
    for mistake in item.tests.mistakes:
        line = desk.remark(item.key, solved(item, first_numbers(item.tests.numbers), mistake))
        if "right on" in line:
            silent.add(mistake.name)
        else:
            assert line == f"{item.key}: {mistake.hint}"
    assert len(item.tests.mistakes) - len(silent) >= 2, silent


def test_practice_does_not_depend_on_the_students_numbers(case):
    _, item = case
    choices = item.tests.numbers
    last = {name: values[-1] for name, values in choices.items()}
    for name, arguments in item.tests.practice if choices else ():
        outputs = [solved(item, numbers)[name] for numbers in (first_numbers(choices), last)]
        first, second = (one(*arguments) if callable(one) else one for one in outputs)
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_student_gets_is_small(name):
    assert len(pack(read(name), salt="open")) < 50_000


# ------------------------------------------------------------------ statistical answers


def source_of_tests(name, key):
    cells = read_notebook(ROOT / FOLDER / f"{name}.ipynb")["cells"]
    return "".join(next((c["source"] for c in cells if c["id"] == f"{key}-tests"), ""))


ESTIMATES = [(name, key) for name, key in keys() if "Estimate(" in source_of_tests(name, key)]


@pytest.mark.parametrize(("name", "key"), ESTIMATES, ids=map("/".join, ESTIMATES))
def test_right_statistical_answers_never_fail(name, key):
    """1,000 gradings over all exercises, each with other inputs and other draws.

    They also say whether the bounds are honest: deviations in standard errors have variance one,
    and the reported standard error stays six of its own standard deviations within the slack.
    """
    item = read(name).item(key)
    tests = [test for test in item.tests.tests if isinstance(test, Estimate)]
    alone = replace(item, tests=replace(item.tests, tests=tests, mistakes=(), rubric=()))
    names = solved(item, first_numbers(item.tests.numbers))
    deviations, ratios = [], []
    for seed in range(-(-GRADINGS // len(ESTIMATES))):
        by = {"course": Course(seed, "open"), "student": "ada", "assignment": name}
        wanted = calls(alone, **by)
        replies = here(names, wanted)
        lost = [mark.hint for mark in marks(alone, replies, **by) if mark.hint]
        assert not lost, seed
        found = [_standard(tests, call, reply) for call, reply in zip(wanted, replies, strict=True)]
        deviations += [z for z, _ in found]
        ratios += [ratio for _, ratio in found]
    assert np.std(deviations) == pytest.approx(1, abs=6 / np.sqrt(len(deviations)))
    assert abs(np.mean(deviations)) < 5 / np.sqrt(len(deviations))
    logs = np.log(ratios)
    assert abs(logs.mean()) + 6 * logs.std() < np.log(min(test.slack for test in tests))


def _standard(tests, call, reply):
    """Return an estimate's deviation in standard errors, and the reported error over the exact."""
    test = next(test for test in tests if test.name == call.name)
    exact, error = test.expected(*call.arguments[:-1])
    mean, reported = reply.value
    return (mean - exact) / error, reported / error
