import json
from dataclasses import replace

import pytest

from iclkit.classroom import grading
from iclkit.classroom.course import OPEN
from iclkit.classroom.grading import Desk, grade_all, look, opened, wrong_seed
from iclkit.classroom.handout import NOBODY
from iclkit.classroom.results import EMPTY
from iclkit.classroom.source import assignment
from tests.iclkit.classroom import toy_course as toy

RIGHT = {"ridge-slope": 6, "noise-share": 3, "long-context": 3}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return assignment(toy.write(tmp_path_factory.mktemp("repository")))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(grading.sandbox, "run", toy.run_here)
    (tmp_path / "submitted").mkdir()
    return tmp_path / "submitted"


def run(folder, given, *, course=toy.COURSE, told=None):
    """Grade the folder; `told` gets what happened to each student."""
    desk, told = Desk(course, "none"), {} if told is None else told
    handed = [opened(one, given, desk) for one in look(folder, [given], None)]

    def done(result, how):
        told[result.student] = how

    return grade_all(handed, folder.parent / "out", desk, jobs=2, done=done)


def one(folder, given, content, student="ada", **options):
    toy.hand_in(folder, student, content)
    (result,) = run(folder, given, **options)
    return result


def points(result):
    return {part.key: part.points for part in result.parts}


def test_the_reference_has_all_points_of_the_tests(folder, given):
    result = one(folder, given, toy.submission(toy.reference()))
    assert points(result) == RIGHT
    assert (result.pending, result.remarks, result.graded) == (3, (), True)


MISTAKES = [
    (key, index)
    for key, parts in toy.EXERCISES.items()
    for index in range(parts[4].count("Mistake("))
]


@pytest.mark.parametrize(("key", "index"), MISTAKES)
def test_a_mistake_loses_its_points_and_gets_its_hint(folder, given, key, index):
    mistake = next(item for item in given.items if item.key == key).tests.mistakes[index]
    result = one(folder, given, toy.submission(toy.with_mistake(key, mistake)))
    assert points(result) == RIGHT | {key: RIGHT[key] - mistake.loses}
    (part,) = (part for part in result.parts if part.key == key)
    assert {mark.hint for mark in part.marks if mark.hint} == {mistake.hint}


def test_an_untouched_notebook_has_nothing_and_nothing_to_read(folder, given):
    result = one(folder, given, toy.handed_out())
    assert (result.points, result.pending, result.remarks) == (0, 0, ())
    assert {part.problem for part in result.parts} == {EMPTY}


def test_a_missing_cell_costs_its_own_points_and_is_said(folder, given):
    book = toy.submission(toy.reference())
    book["cells"] = [cell for cell in book["cells"] if cell["id"] != "noise-share-answer"]
    result = one(folder, given, book)
    assert points(result) == RIGHT | {"noise-share": 0}
    assert result.remarks == ("noise-share: the answer cell is missing",)


def test_the_order_of_the_cells_does_not_matter(folder, given):
    book = toy.submission(toy.reference())
    book["cells"].reverse()
    assert points(one(folder, given, book)) == RIGHT


def test_changed_setup_tests_and_points_have_no_effect(folder, given):
    book = toy.submission({"setup": "import numpy as np\nnp.sum = None"})
    for cell in book["cells"]:
        cell["metadata"].setdefault("nbgrader", {}).update({"points": 1000, "locked": False})
    tests = toy.cell("ridge-slope-tests", "exercise = None", grade=True, points=1000)
    book["cells"].insert(0, tests)
    result = one(folder, given, book)
    assert (result.points, result.out_of) == (0, toy.POINTS)


def test_cells_without_ids_are_said(folder, given):
    book = toy.submission(toy.reference())
    book["cells"] = [{**cell, "id": "", "metadata": {}} for cell in book["cells"]]
    result = one(folder, given, book)
    assert result.points == 0
    assert "no cell carries its id" in result.remarks[0]


def test_ids_of_the_cells_serve_where_the_metadata_is_gone(folder, given):
    book = toy.submission(toy.reference())
    book["cells"] = [{**cell, "metadata": {}} for cell in book["cells"]]
    assert points(one(folder, given, book)) == RIGHT


def test_a_broken_notebook_is_a_row_with_a_remark(folder, given):
    result = one(folder, given, b"{")
    assert (result.points, result.out_of, result.graded) == (0, toy.POINTS, False)
    assert result.remarks == ("the file is not a notebook (its JSON is broken)",)


def test_an_answer_that_raises_is_a_remark_without_its_own_words(folder, given):
    answers = toy.reference() | {"ridge-slope-answer": "raise ValueError('=cmd')"}
    result = one(folder, given, toy.submission(answers))
    assert result.remarks == ("ridge-slope: your cell raises ValueError in line 1",)


def test_a_grader_that_fails_costs_one_exercise_only(folder, given, monkeypatch):
    marks = grading.marking.marks

    def failing(item, *rest, **who):
        if item.key == "noise-share":
            raise RuntimeError("nobody thought of this")
        return marks(item, *rest, **who)

    monkeypatch.setattr(grading.marking, "marks", failing)
    result = one(folder, given, toy.submission(toy.reference()))
    assert points(result) == RIGHT | {"noise-share": 0}
    assert result.remarks == (f"noise-share: {grading.UNMARKED}",)


@pytest.mark.parametrize(
    "student", ["Ada Lovelace", "\u0141ukasz Br\u00e4u", "x@example.org", "a.b-c+d"]
)
def test_names_with_spaces_and_signs_are_graded(folder, given, student):
    assert points(one(folder, given, toy.submission(toy.reference()), student)) == RIGHT


@pytest.mark.parametrize("student", ["=1+1", "-x", "a,b", "x" * 80])
def test_a_folder_that_is_no_student_id_is_one_clear_line(folder, given, student):
    result = one(folder, given, toy.submission(toy.reference()), student)
    assert result.graded is False
    assert result.remarks[0].startswith("not graded until the folder is renamed")


def test_students_have_numbers_of_their_own(folder, given):
    answers = toy.submission(toy.reference())
    for student in ("ada", "bob", "carl", "dora"):
        toy.hand_in(folder, student, answers)
    copied = toy.reference() | {"noise-share-answer": "answer, rest = 0.02, 0.98"}
    toy.hand_in(folder, "eve", toy.submission(copied))
    got = {result.student: points(result)["noise-share"] for result in run(folder, given)}
    assert got == {"ada": 3, "bob": 3, "carl": 3, "dora": 3, "eve": 0}


def test_another_id_in_the_notebook_is_said(folder, given):
    book = toy.submission(toy.reference())
    cell = {"id": "student", "cell_type": "code", "metadata": {}}
    book["cells"].append(cell | {"source": "# your id\nstudent = ' Bob '"})
    assert "made for the student id 'bob'" in one(folder, given, book).remarks[0]
    book["cells"][-1]["source"] = f"student = {NOBODY!r}"
    assert "the student id was not filled in" in one(folder, given, book).remarks[0]
    book["cells"][-1]["source"] = "student = 'ADA'"
    assert one(folder, given, book).remarks == ()


@pytest.mark.parametrize(
    "source", ["student = 1 + ", "student", "x = y = [", "student = open('a')", ""]
)
def test_an_unreadable_id_in_the_notebook_is_passed_over(folder, given, source):
    book = toy.submission(toy.reference())
    book["cells"].append({"id": "student", "cell_type": "code", "metadata": {}, "source": source})
    assert one(folder, given, book).remarks == ()


def test_a_notebook_of_another_seed_is_said(folder, given):
    book = toy.submission(toy.reference())
    book["metadata"]["classroom"]["salt"] = toy.COURSE.salt
    toy.hand_in(folder, "ada", book)
    book["metadata"]["classroom"]["salt"] = "other"
    toy.hand_in(folder, "bob", book)
    ada, bob = run(folder, given)
    assert (ada.remarks, bob.remarks) == ((), (grading.OTHER_SEED,))


def test_a_class_of_another_seed_is_an_error_before_anything_is_graded(folder, given):
    book = toy.submission(toy.reference())
    book["metadata"]["classroom"]["salt"] = OPEN.salt
    desk = Desk(toy.COURSE, "none")

    def said():
        handed = [opened(one, given, desk) for one in look(folder, [given], None)]
        return wrong_seed(handed, desk.course)

    toy.hand_in(folder, "ada", book)
    assert said() == ""  # one alone may have changed it
    toy.hand_in(folder, "bob", book)
    assert "all 2 notebooks were made with another seed" in said()
    book["metadata"]["classroom"]["salt"] = toy.COURSE.salt
    toy.hand_in(folder, "carl", book)
    assert said() == ""


def test_the_time_stamp_of_nbgrader_is_kept(folder, given):
    path = toy.hand_in(folder / "ada", "0_toy", toy.submission(toy.reference()))
    path.with_name("timestamp.txt").write_text("2026-11-23 05:00:00 UTC\n")
    (result,) = run(folder, given)
    assert result.handed_in == "2026-11-23 05:00:00 UTC"


def test_an_unknown_assignment_is_one_line(folder, given):
    toy.hand_in(folder, "ada", "{}")
    with pytest.raises(ValueError, match="there is no assignment '9_x'; known: 0_toy"):
        look(folder, [given], "9_x")


def test_a_repository_without_assignments_is_one_line(folder):
    toy.hand_in(folder, "ada", "{}")
    with pytest.raises(ValueError, match="there is no assignment in"):
        look(folder, [], None)


def test_a_picture_in_a_text_is_said(folder, given):
    answers = toy.reference() | {"long-context-derivation": "So ![proof](attachment:a.png)"}
    result = one(folder, given, toy.submission(answers))
    assert "the text has a picture" in result.remarks[0]
    assert result.pending == 3


def test_a_folder_without_notebooks_is_one_line(folder, given):
    (folder / "ada").mkdir()
    with pytest.raises(ValueError, match=r"holds no notebook to grade; .* 0_toy\.ipynb"):
        look(folder, [given], None)


def test_a_second_run_grades_only_what_is_new(folder, given):
    for student in ("ada", "bob"):
        toy.hand_in(folder, student, toy.submission(toy.reference()))
    first = run(folder, given)
    toy.hand_in(folder, "bob", toy.handed_out())
    toy.hand_in(folder, "carl", toy.handed_out())
    told = {}
    second = run(folder, given, told=told)
    assert told == {"ada": "kept", "bob": "again", "carl": "graded"}
    assert second[0] == first[0]
    assert [result.points for result in second] == [12, 0, 0]
    assert len(list((folder.parent / "out/results/bob/earlier").iterdir())) == 1


@pytest.mark.parametrize("change", ["seed", "notebook", "grader"])
def test_whatever_decides_on_points_is_part_of_the_key(folder, given, change, monkeypatch):
    toy.hand_in(folder, "ada", toy.submission(toy.reference()))
    run(folder, given)
    course = toy.COURSE
    if change == "seed":
        course = OPEN
    elif change == "notebook":
        given = replace(given, notebook=given.notebook | {"nbformat_minor": 6})
    else:
        monkeypatch.setattr(grading, "grader", lambda: "another version")
    told = {}
    run(folder, given, course=course, told=told)
    assert told == {"ada": "graded"}


def test_results_come_in_the_order_of_the_folder(folder, given):
    names = [f"student{number}" for number in range(7)]
    for name in names:
        toy.hand_in(folder, name, toy.handed_out())
    assert [result.student for result in run(folder, given)] == names


def test_a_stop_keeps_what_is_graded(folder, given, tmp_path):
    for number in range(6):
        toy.hand_in(folder, f"student{number}", toy.handed_out())

    class Stop(dict):
        def __setitem__(self, key, value):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, given, told=Stop())
    files = list((tmp_path / "out/results").glob("*/*.json"))
    assert 1 <= len(files) <= 6
    assert all(json.loads(file.read_bytes())["result"]["parts"] for file in files)
