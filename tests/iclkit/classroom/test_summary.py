import re

import numpy as np
import pytest

from iclkit.classroom.marking import Mark
from iclkit.classroom.results import Part, Result
from iclkit.classroom.summary import discrimination, overview, summary
from tests.iclkit.classroom.test_feedback import HOSTILE, outline


def result(student, *points, hint="Mind the sign.", **options):
    parts = tuple(
        Part(f"e{i}", f"Exercise {i}", 4, marks=(Mark(p, 4, "agrees", "" if p == 4 else hint),))
        for i, p in enumerate(points)
    )
    return Result(student, "0_toy", parts, **options)


def test_discrimination_is_the_correlation_with_the_rest():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1.0]])
    rest = points[:, 1:].sum(axis=1)
    centred = [x - x.mean() for x in (points[:, 0], rest)]
    slow = (centred[0] @ centred[1]) / np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    assert discrimination(points[:, 0], rest) == pytest.approx(slow, rel=1e-12)


def test_discrimination_is_not_made_up():
    assert np.isnan(discrimination(np.arange(7.0), np.arange(7.0)))
    assert np.isnan(discrimination(np.ones(9), np.arange(9.0)))


def test_an_exercise_that_hardly_separates_is_marked():
    points = [(4 * (i % 2), i // 3, i // 3) for i in range(12)]
    made = overview([result(f"s{i}", *p) for i, p in enumerate(points)], "Toy")
    assert [one.note for one in made.exercises] == [
        "hardly separates: is it clear?",
        "nobody has all points",
        "nobody has all points",
    ]
    assert float(made.exercises[1].separates) > 0.5


def test_mean_median_and_bars_are_those_of_the_class():
    made = overview([result(f"s{i}", p, 4) for i, p in enumerate((0, 4, 4))], "Toy")
    assert (made.students, made.out_of, made.mean, made.median) == (3, 8, "6.7", "8")
    assert sum(bar.count for bar in made.plot.bars) == 3
    assert [bar.count for bar in made.plot.bars][-1] == 2
    assert [(one.mean, one.full, one.none) for one in made.exercises] == [
        ("2.7", 2, 1),
        ("4", 3, 0),
    ]


def test_unreadable_notebooks_do_not_count_as_zero():
    broken = result("eve", 0, graded=False, remarks=("the file is empty",))
    made = overview([result("ada", 4), broken], "Toy")
    assert (made.students, made.without, made.mean) == (1, 1, "4")


def test_a_hint_counts_once_per_student():
    made = overview([result("ada", 1, 1), result("bob", 2, 4), result("carl", 4, 4)], "Toy")
    assert [(hint.count, hint.title) for hint in made.hints] == [
        (2, "Exercise 0"),
        (1, "Exercise 1"),
    ]


def test_the_page_holds_together_and_its_plots_too():
    class_ = [result(f"s{i}", i % 5, (i * 3) % 5, remarks=("late",) * (i == 3)) for i in range(12)]
    page = summary([*class_, Result("eve", "essay", remarks=("no assignment",))], {"0_toy": "Toy"})
    made = outline(page)
    assert made.names().count("svg") == 3
    assert all(attrs.get("role") == "img" for tag, attrs in made.seen if tag == "svg")
    assert "essay" in page
    assert 'href="feedback/eve' not in page
    numbers = [float(x) for x in re.findall(r'(?:x|y|width|height)="([-\d.]+)"', page)]
    assert min(numbers) >= 0


def test_names_remarks_and_hints_are_only_text():
    odd = result(HOSTILE, 1, 2, hint=HOSTILE, remarks=(HOSTILE,))
    outline(summary([odd], {"0_toy": HOSTILE}, [HOSTILE]))


@pytest.mark.parametrize("graded", [True, False])
def test_a_class_of_one_and_a_class_of_none(graded):
    outline(summary([result("ada", 4, graded=graded)], {"0_toy": "Toy"}))
    outline(summary([], {"0_toy": "Toy"}))
