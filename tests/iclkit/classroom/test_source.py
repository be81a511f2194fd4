import copy

import pytest

from iclkit.classroom.source import FOLDER, assignment, assignments, executed, solved, stub
from tests.toy_assignment import (
    ANSWER,
    LOCKED,
    TESTS,
    about,
    cell,
    notebook,
    written,
)


@pytest.fixture
def made():
    return notebook()


def at(made, name):
    return next(c for c in made["cells"] if c["id"] == name)


def lines(made, folder):
    """Return the violations that reading reports."""
    with pytest.raises(ValueError) as caught:
        assignment(written(folder, made))
    found = str(caught.value).splitlines()
    assert all(line.startswith("toy.ipynb: ") for line in found)
    return [line.removeprefix("toy.ipynb: ") for line in found]


class TestReading:
    def test_an_assignment_has_all_its_exercises(self, tmp_path):
        found = assignment(written(tmp_path))
        assert (found.name, found.title) == ("toy", "A toy assignment")
        assert found.chapter == "04_phase_transition"
        assert [item.key for item in found.items] == ["share", "power", "mean-square"]
        assert found.item("power").title == "Power"
        assert [item.tests.points for item in found.items] == [5, 3, 7]
        assert "variances add" in found.item("mean-square").derivation
        assert found.item("share").about["minutes"] == 10

    def test_sources_in_lines_are_read_as_well(self, tmp_path, made):
        for one in made["cells"]:
            one["source"] = one["source"].splitlines(keepends=True)
        assert assignment(written(tmp_path, made)).item("share").answer.startswith("def share")

    def test_all_of_a_folder_by_name(self, tmp_path):
        folder = tmp_path / FOLDER
        folder.mkdir(parents=True)
        for name in ("1_b", "0_a"):
            written(folder, name=name)
        assert [one.name for one in assignments(tmp_path)] == ["0_a", "1_b"]

    def test_a_repository_without_assignments_has_none(self, tmp_path):
        assert assignments(tmp_path) == []

    def test_a_stub_keeps_signature_and_text_and_no_solution(self, tmp_path):
        item = assignment(written(tmp_path)).item("power")
        names = executed([stub(item.answer).split("\n\n")[0]], {})
        assert names["power"].__doc__ == "Return base to the exponent."
        with pytest.raises(NotImplementedError):
            names["power"](1, 2)
        assert "base**exponent" not in stub(item.answer)
        assert stub(item.answer).count("NotImplementedError") == 2

    def test_the_reference_has_the_first_numbers(self, tmp_path):
        item = assignment(written(tmp_path)).item("power")
        assert item.reference["answer"] == pytest.approx(1.1**2)
        assert item.reference is item.reference

    def test_solved_uses_the_given_numbers_and_the_mistake(self, tmp_path):
        item = assignment(written(tmp_path)).item("power")
        numbers = {"base": 3.0, "exponent": 2}
        assert solved(item, numbers)["answer"] == 9
        product = item.tests.mistakes[0]
        assert solved(item, numbers, product)["answer"] == 6

    def test_read_only_text_between_exercises_is_fine(self, tmp_path, made):
        made["cells"].insert(3, cell("markdown", "between", "Some text.", LOCKED))
        assert len(assignment(written(tmp_path, made)).items) == 3

    def test_cells_run_without_warnings_or_traces_of_each_other(self):
        first = executed(["import numpy as np\nx = np.log(np.zeros(1))"], {"y": 1})
        assert first["y"] == 1
        assert "x" not in executed(["z = 1"], {})


# ------------------------------------------------------------------ violations


def change_source(name, old, new):
    def change(made):
        source = at(made, name)["source"]
        assert old in source
        at(made, name)["source"] = source.replace(old, new, 1)

    return change


def change_about(**changes):
    return lambda made: at(made, "share")["metadata"].update(exercise=about(**changes))


def change_grade(name, **changes):
    return lambda made: at(made, name)["metadata"]["nbgrader"].update(changes)


def drop(name):
    return lambda made: made["cells"].remove(at(made, name))


def lacking(word):
    return lambda made: at(made, "share")["metadata"]["exercise"].pop(word)


VIOLATIONS = {
    "nbformat": (lambda made: made.update(nbformat_minor=4), "needs nbformat 4.5, got 4.4"),
    "kernel": (lambda made: made["metadata"].pop("kernelspec"), "needs the kernelspec python3"),
    "chapter": (lambda made: made["metadata"].pop("classroom"), "needs the metadata classroom"),
    "title": (change_source("title", "# A", "A"), "needs a heading '# Title'"),
    "no id": (lambda made: made["cells"][1].pop("id"), "every cell needs an id"),
    "twice": (
        lambda made: made["cells"].append(copy.deepcopy(made["cells"][0])),
        "cell id title occurs twice",
    ),
    "setup": (drop("setup"), "the first code cell must be `setup`"),
    "outputs": (
        lambda made: at(made, "setup").update(outputs=[{"output_type": "stream"}]),
        "setup: has outputs",
    ),
    "stray": (
        lambda made: made["cells"].append(cell("code", "shar-tests", "1", TESTS)),
        "shar-tests: is an answer or a test of no exercise",
    ),
    "no answer": (drop("share-answer"), "share: needs the cell `share-answer`"),
    "no tests": (drop("share-tests"), "share: needs the cell `share-tests`"),
    "no exercise": (
        lambda made: [c["metadata"].pop("exercise", 0) for c in made["cells"]],
        "has no exercise",
    ),
    "kind of cell": (
        lambda made: at(made, "share-answer").update(cell_type="markdown"),
        "share-answer: must be a code cell",
    ),
    "grade id": (change_grade("share-tests", grade_id="x"), "grade_id must be the cell's id"),
    "role": (change_grade("share-answer", **TESTS), "share-answer: nbgrader's metadata must have"),
    "locked setup": (change_grade("setup", **ANSWER), "setup: nbgrader's metadata must have"),
    "points": (
        change_grade("share-tests", points=4),
        "`share-tests` must have 5 points in its metadata, got 4",
    ),
    "points of the rubric": (
        change_grade("mean-square-derivation", points=3),
        "`mean-square-derivation` must have 2 points in its metadata, got 3",
    ),
    "open solution": (
        change_source("share-answer", "### END SOLUTION", ""),
        "share-answer: needs the lines '### BEGIN SOLUTION' and '### END SOLUTION' in pairs",
    ),
    "nothing hidden": (
        change_source("share-tests", "### BEGIN HIDDEN TESTS", ""),
        "needs the lines '### BEGIN HIDDEN TESTS'",
    ),
    "seen tests": (
        lambda made: at(made, "share-tests").update(
            source="secret = 3\n" + at(made, "share-tests")["source"]
        ),
        "nothing may stand before",
    ),
    "solution in a statement": (
        change_source("share", "Do it.", "### BEGIN SOLUTION\nx\n### END SOLUTION"),
        "a statement holds no solution",
    ),
    "statement": (change_source("share", "## ", ""), "must begin with '## Title'"),
    "lacking": (lacking("minutes"), "lacks minutes"),
    "unknown": (change_about(author="x"), "`author` is not known"),
    "kind": (change_about(kind="essay"), "`kind` must be one of"),
    "difficulty": (change_about(difficulty="brutal"), "`difficulty` must be one of"),
    "importance": (change_about(importance=4), "`importance` must be 1, 2 or 3"),
    "minutes": (change_about(minutes=0), "`minutes` must be"),
    "prepares": (change_about(prepares=""), "`prepares` must be text"),
    "help": (change_about(help=[]), "`help` must be a list of texts"),
    "goals": (change_about(goals=[["04_phase_transition", "x"]]), "`goals` must be a list"),
    "broken": (
        change_source("share-tests", "without_penalty,", "with_penalty,"),
        "share: cells do not run: NameError",
    ),
    "no Exercise": (
        change_source("share-tests", "exercise = ", "execise = "),
        "share: cells do not run: ValueError: the tests must leave `exercise",
    ),
    "stub": (
        change_source("share-answer", "    ### BEGIN", "        ### BEGIN"),
        "share: without its solution the answer is no Python (line 3: unexpected indent)",
    ),
    "missing name": (
        change_source("share-tests", 'Values("share"', 'Values("shares"'),
        "share: `shares` is not left by the answer",
    ),
    "mistake not found": (
        change_source("share-tests", '"count = len(values)"', '"count = 0"'),
        "share: sum: 'count = 0' occurs 0 times in the answer, not once",
    ),
    "mistake twice": (
        change_source("share-tests", '"count = len(values)"', '"values"'),
        "share: sum: 'values' occurs 4 times",
    ),
    "loses too much": (
        change_source("share-tests", '"penalty", 3', '"penalty", 6'),
        "loses 6 of 5",
    ),
    "too few mistakes": (
        change_source("share-tests", "mistakes=[", "mistakes=[][:] and ["),
        "0 mistakes; at least 5",
    ),
    "same hints": (
        change_source("share-tests", "Count, do not add.", "Keep one axis."),
        "need different names and different hints",
    ),
    "few numbers": (
        change_source("power-tests", "(1.1, 1.3, 1.7, 1.9)", "(1.1, 1.3)"),
        "power: numbers: 10 combinations",
    ),
    "odd numbers": (
        change_source("power-tests", "(1.1, 1.3, 1.7, 1.9)", "(1.1, 1.1)"),
        "power: numbers: `base` needs at least two",
    ),
    "numbers changed later": (
        change_source(
            "power-tests",
            "### END HIDDEN",
            "exercise.numbers['base'] = (3.0, 4.0, 5.0, 6.0)\n### END HIDDEN",
        ),
        "power: cells do not run: ValueError: `numbers` must be written out",
    ),
    "rubric without text": (
        drop("mean-square-derivation"),
        "mean-square: a rubric and the cell for the derivation belong together",
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_one_line(name, made, tmp_path):
    change, expected = VIOLATIONS[name]
    change(made)
    found = lines(made, tmp_path)
    assert any(expected in line for line in found), found


def test_violations_are_reported_together(made, tmp_path):
    for name in ("kind", "points of the rubric", "statement"):
        VIOLATIONS[name][0](made)
    assert len(lines(made, tmp_path)) == 2  # points are looked at when the rest is in order
    VIOLATIONS["outputs"][0](made)
    VIOLATIONS["kernel"][0](made)
    assert len(lines(made, tmp_path)) == 2


def test_what_is_no_notebook_is_one_line(tmp_path):
    path = tmp_path / "toy.ipynb"
    for text in ("", "{", "[]", '{"cells": []}', '{"cells": 3}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"toy\.ipynb: ") as caught:
            assignment(path)
        assert "\n" not in str(caught.value)
