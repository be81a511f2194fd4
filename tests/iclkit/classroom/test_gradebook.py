import csv
import json

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from iclkit.classroom import gradebook, grading, reports
from iclkit.classroom.gradebook import harmless
from iclkit.classroom.grading import Desk
from iclkit.classroom.source import assignments
from tests.iclkit.classroom import toy_course as toy

TEXT = "long-context-derivation"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(grading.sandbox, "run", toy.run_here)
    toy.write(tmp_path)
    toy.hand_in(tmp_path / "submitted", "ada", toy.submission(toy.reference()))
    toy.hand_in(tmp_path / "submitted", "bob", toy.handed_out())
    return tmp_path


def grade(place):
    """Grade the class; return the rows of the table by student."""
    desk, given = Desk(toy.COURSE, "none"), assignments(place)
    said = []
    table = reports.grade_folder(place / "submitted", place / "out", given, desk, say=said.append)
    with table.open(encoding="utf-8", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def opened(place):
    return Gradebook(f"sqlite:///{place}/out/gradebook.db", course_id=gradebook.COURSE)


def give(place, points, *, cell=TEXT, student="ada", comment=None, again=True):
    """Enter points as the form grader does."""
    with opened(place) as book:
        grade = book.find_grade(cell, toy.NAME, toy.NAME, student)
        grade.manual_score = points
        if again:
            grade.needs_manual_grade = False
        if comment:
            book.find_comment(cell, toy.NAME, toy.NAME, student).manual_comment = comment
        book.db.commit()


def state(place, student, cell=TEXT):
    with opened(place) as book:
        grade = book.find_grade(cell, toy.NAME, toy.NAME, student)
        return grade.auto_score, grade.max_score, grade.needs_manual_grade


def test_points_of_the_tests_and_texts_to_read_are_in_the_gradebook(place):
    grade(place)
    assert state(place, "ada", "ridge-slope-tests") == (6, 6, False)
    assert state(place, "bob", "ridge-slope-tests") == (0, 6, False)
    assert state(place, "ada") == (None, 3, True)
    assert state(place, "bob") == (0, 3, False)
    with opened(place) as book:
        assert book.find_submission(toy.NAME, "ada").score == 12
        assert book.find_assignment(toy.NAME).max_score == toy.POINTS


def test_points_and_comments_of_a_person_enter_table_and_feedback(place):
    assert grade(place)["ada"]["to be read"] == "3"
    give(place, 2.5, comment="Name <b>the</b> limit.")
    row = grade(place)["ada"]
    assert (row["long-context"], row["to be read"], row["total"]) == ("5.5", "0", "14.5")
    page = (place / "out/feedback/ada/0_toy.html").read_text(encoding="utf-8")
    assert "Name &lt;b&gt;the&lt;/b&gt; limit." in page


def test_points_entered_by_a_script_count_at_once(place):
    grade(place)
    give(place, 3, again=False)
    row = grade(place)["ada"]
    assert (row["total"], row["to be read"], row["remark"]) == ("15", "0", "")


def test_points_of_tests_can_be_changed_by_hand(place):
    grade(place)
    give(place, 2, cell="ridge-slope-tests", student="bob")
    row = grade(place)["bob"]
    assert (row["ridge-slope"], row["remark"]) == (
        "2",
        "ridge-slope: points of the tests set by hand",
    )


def test_a_text_that_changed_since_it_was_read_is_to_be_read_again(place):
    grade(place)
    give(place, 2)
    answers = toy.reference() | {TEXT: "Quite another argument."}
    toy.hand_in(place / "submitted", "ada", toy.submission(answers))
    for _ in range(2):  # it is said until somebody has read it
        row = grade(place)["ada"]
        assert row["total"] == "14"
        assert row["remark"] == f"long-context: {gradebook.CHANGED}"
    assert state(place, "ada")[2] is True
    give(place, 3)
    assert grade(place)["ada"]["remark"] == ""


def test_another_answer_beside_the_same_text_keeps_its_points(place):
    grade(place)
    give(place, 2)
    answers = toy.reference() | {"ridge-slope-answer": "pass"}
    toy.hand_in(place / "submitted", "ada", toy.submission(answers))
    row = grade(place)["ada"]
    assert (row["total"], row["remark"]) == ("8", "")
    assert state(place, "ada", "ridge-slope-tests")[0] == 0


def test_an_exercise_that_came_later_enters_old_submissions(place):
    late = dict(toy.EXERCISES)
    kept = late.pop("long-context")
    toy.write(place, exercises=late)
    grade(place)
    toy.write(place, exercises=late | {"long-context": kept})
    assert grade(place)["ada"]["total"] == "12"
    assert state(place, "ada") == (None, 3, True)


def test_a_notebook_that_is_broken_later_loses_no_points_that_were_given(place):
    grade(place)
    give(place, 2)
    right = toy.hand_in(place / "submitted", "ada", "{").with_suffix(".ipynb")
    assert grade(place)["ada"]["total"] == "0"
    right.write_text(json.dumps(toy.submission(toy.reference())))
    assert grade(place)["ada"]["total"] == "14"


def test_who_is_late_by_the_date_in_the_gradebook_has_a_remark(place):
    for student, hour in (("ada", 8), ("bob", 11)):
        path = place / f"submitted/{student}/timestamp.txt"
        path.write_text(f"2026-11-23 {hour:02d}:30:00 UTC\n")
    grade(place)
    with opened(place) as book:
        book.update_or_create_assignment(toy.NAME, duedate="2026-11-23 10:00:00 UTC")
    got = grade(place)
    assert (got["ada"]["remark"], got["bob"]["remark"]) == ("", "late by 1.5 hours")
    assert got["bob"]["handed in"] == "2026-11-23 11:30:00 UTC"


def test_the_form_grader_lists_what_there_is_to_read(place):
    grade(place)
    config = Config({"CourseDirectory": {"root": str(place / "out"), "course_id": "iclkit"}})
    api = NbGraderAPI(CourseDirectory(config=config), config=config)
    assert [one["name"] for one in api.get_assignments()] == [toy.NAME]
    listed = {one["student"]: one for one in api.get_notebook_submissions(toy.NAME, toy.NAME)}
    assert {name: one["needs_manual_grade"] for name, one in listed.items()} == {
        "ada": True,
        "bob": False,
    }
    assert listed["ada"]["max_score"] == toy.POINTS


def test_the_notebook_to_read_is_in_order_and_holds_no_hidden_tests(place):
    grade(place)
    path = place / "out/autograded/ada/0_toy/0_toy.ipynb"
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert "HIDDEN" not in path.read_text(encoding="utf-8")
    cells = {cell["id"]: cell["source"] for cell in book.cells}
    assert cells["ridge-slope-tests"].startswith("# 6 of 6 points from the tests\n# 3 of 3: agrees")
    assert cells["ridge-slope-answer"] == toy.reference()["ridge-slope-answer"]
    assert cells[TEXT] == toy.reference()[TEXT]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[a](javascript:alert(1)) ![b](http://x)",
        "[a][1]\n\n[1]: javascript:alert(1)",
        "<javascript:alert(1)>",
        "<!-- a --><?php?>",
        "<a\nhref='javascript:alert(1)'>b</a>",
        "<<b>script>alert(1)<</b>/script>",
    ],
)
def test_a_text_brings_no_tags_and_no_links_into_the_form_grader(text):
    from nbconvert.filters import markdown2html

    from tests.iclkit.classroom.test_feedback import Outline

    made = Outline()
    made.feed(markdown2html(harmless(text)))
    assert set(made.names()) <= {"p", "em", "code"}
    assert made.links == []


def test_formulas_stay_readable():
    assert harmless("$a < b$, $$f[x](y) \\le 2$$, 1<2") == "$a < b$, $$f[x] (y) \\le 2$$, 1<2"


def test_a_gradebook_that_cannot_be_used_is_one_line_and_loses_nothing(place):
    grade(place)
    path = place / "out/gradebook.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(ValueError, match=r"gradebook.db cannot be used .* the results are kept"):
        grade(place)
    path.unlink()
    assert grade(place)["ada"]["total"] == "12"


def test_a_full_disk_under_the_gradebook_is_one_line(place, monkeypatch, caplog):
    def full(*arguments, **options):
        raise gradebook.InvalidEntry("(sqlite3.OperationalError) database or disk is full\n[SQL]")

    grade(place)
    with monkeypatch.context() as broken:
        broken.setattr(Gradebook, "update_or_create_submission", full)
        with pytest.raises(ValueError, match=r"\A[^\n]*disk is full[^\n]*\Z"):
            grade(place)
    assert caplog.text == ""
    assert grade(place)["ada"]["total"] == "12"


@pytest.mark.parametrize("stamp", ["yesterday", "9" * 30, "2026-13-45", "\xff"])
def test_an_unreadable_time_stamp_does_not_matter(place, stamp):
    (place / "submitted/ada/timestamp.txt").write_text(stamp, encoding="latin-1")
    assert grade(place)["ada"]["total"] == "12"


def test_no_program_on_the_search_path_is_needed(place, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert grade(place)["ada"]["total"] == "12"


def test_settings_of_an_instructor_stay(place):
    (place / "out").mkdir()
    (place / "out/nbgrader_config.py").write_text("c = get_config()")
    grade(place)
    assert (place / "out/nbgrader_config.py").read_text() == "c = get_config()"
