import json
import os

import pytest

from iclkit.classroom import submissions
from iclkit.classroom.submissions import UnreadableError, find, loose, parse, read, students
from tests.iclkit.classroom import toy_course as toy

NAMES = ["0_toy", "1_more"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "submitted").mkdir()
    return tmp_path / "submitted"


def rows(found):
    return [(one.student, one.assignment, one.path is not None, one.remarks) for one in found]


def test_both_layouts_are_found(folder):
    toy.hand_in(folder, "ada", "{}")
    toy.hand_in(folder / "bob", "0_toy", "{}")
    assert [(one.student, one.path.parent.name) for one in find(folder, NAMES)] == [
        ("ada", "ada"),
        ("bob", "0_toy"),
    ]


def test_who_handed_in_nothing_has_a_row(folder):
    toy.hand_in(folder, "ada", "{}")
    (folder / "bob").mkdir()
    assert rows(find(folder, NAMES))[1] == ("bob", "0_toy", False, ("nothing handed in",))


def test_an_assignment_that_nobody_handed_in_has_no_rows(folder):
    toy.hand_in(folder, "ada", "{}")
    assert {one.assignment for one in find(folder, NAMES)} == {"0_toy"}


def test_of_two_notebooks_one_is_graded_and_the_other_named(folder):
    toy.hand_in(folder, "ada", "flat")
    toy.hand_in(folder / "ada", "0_toy", "inner")
    toy.hand_in(folder / "ada", "old", "older")
    (one,) = find(folder, NAMES)
    assert one.path.read_text() == "flat"
    assert one.remarks == (
        "two notebooks: 0_toy.ipynb is graded, 0_toy/0_toy.ipynb is not",
        "two notebooks: 0_toy.ipynb is graded, old/0_toy.ipynb is not",
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [("0_toy (1)", "if it is 0_toy, rename it"), ("essay", "known: 0_toy, 1_more")],
)
def test_a_notebook_of_another_name_is_listed(folder, name, said):
    toy.hand_in(folder, "ada", "{}")
    toy.hand_in(folder, "ada", "{}", name=name)
    stray = find(folder, NAMES)[-1]
    assert (stray.assignment, stray.known) == (name, False)
    assert said in stray.remarks[0]


def test_assignments_that_are_not_graded_now_are_no_strays(folder):
    toy.hand_in(folder, "ada", "{}")
    toy.hand_in(folder, "ada", "{}", name="1_more")
    assert [one.assignment for one in find(folder, ["0_toy"], NAMES)] == ["0_toy"]


def test_hidden_files_and_linked_folders_are_passed_over(folder, tmp_path):
    toy.hand_in(folder, "ada", "{}")
    toy.hand_in(folder, ".ipynb_checkpoints", "{}")
    toy.hand_in(folder / "ada", ".ipynb_checkpoints", "{}", name="0_toy-checkpoint")
    (folder / "eve").symlink_to(folder / "ada")
    assert [one.student for one in find(folder, NAMES)] == ["ada"]


def test_loose_notebooks_are_said(folder):
    assert loose(folder) == []
    (folder / "0_toy.ipynb").write_text("{}")
    assert "0_toy.ipynb; lay out STUDENT/ASSIGNMENT.ipynb" in loose(folder)[0]


def test_an_empty_and_a_missing_folder_are_one_line_each(folder):
    with pytest.raises(ValueError, match="holds no student; lay it out as"):
        students(folder)
    with pytest.raises(ValueError, match="there is no folder"):
        students(folder / "missing")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "missing"])
def test_only_plain_files_are_read(tmp_path, kind):
    path = tmp_path / "0_toy.ipynb"
    if kind == "link":
        (tmp_path / "secret").write_text("secret")
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(UnreadableError, match="file"):
        read(path)


def test_a_file_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "LARGEST", 3)
    (tmp_path / "a").write_bytes(b"1234")
    with pytest.raises(UnreadableError, match="clear the outputs"):
        read(tmp_path / "a")


BROKEN = {
    "empty": b"",
    "spaces": b" \n",
    "cut": b'{"cells": [',
    "not text": b"\xff\xfe\xfa",
    "list": b"[]",
    "number": b"1",
    "no cells": b"{}",
    "cells of another kind": b'{"cells": {"a": 1}}',
    "deep": b"[" * 200_000,
    "long number": b'{"cells": [' + b"1" * 10_000 + b"]}",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_notebook_is_one_line(kind):
    with pytest.raises(UnreadableError, match=r"\A[^\n]+\Z"):
        parse(BROKEN[kind])


@pytest.mark.parametrize(
    "cell",
    [
        None,
        7,
        [],
        {},
        {"source": 3, "id": "a"},
        {"source": [1, None], "metadata": [], "id": {}},
        {"source": "x", "metadata": {"nbgrader": 3}},
        {"source": "x", "metadata": {"nbgrader": {"grade_id": ["a"]}}},
    ],
)
def test_odd_cells_are_passed_over(cell):
    good = {"id": "b", "source": "right", "metadata": {}}
    assert parse(json.dumps({"cells": [cell, good]}).encode()).sources["b"] == "right"


def test_the_first_of_equal_ids_counts_and_this_is_said():
    cells = [{"id": "a", "source": "1"}, {"id": "a", "source": "2"}]
    made = parse(json.dumps({"cells": cells}).encode())
    assert made.sources == {"a": "1"}
    assert made.remarks == ("several cells `a`: the first counts",)


def test_a_copied_cell_with_an_id_of_its_own_does_not_come_first():
    role = {"nbgrader": {"grade_id": "a"}}
    cells = [{"id": "x1", "metadata": role, "source": ["1\n", "2"]}]
    cells += [{"id": "x2", "metadata": role, "source": "3"}]
    assert parse(json.dumps({"cells": cells}).encode()).sources == {"a": "1\n2"}


def test_half_characters_become_text_that_can_be_written():
    made = parse(b'{"cells": [{"id": "a", "source": "\\ud800"}]}')
    made.sources["a"].encode()


def test_large_outputs_do_not_matter(monkeypatch):
    monkeypatch.setattr(submissions, "LARGE", 20_000)
    book = toy.submission(toy.reference())
    small = parse(json.dumps(book).encode())
    book["cells"][-1]["outputs"] = [{"output_type": "stream", "text": "x" * 1_000_000}]
    assert parse(json.dumps(book).encode()) == small


def test_large_text_and_broken_large_files_are_one_line(monkeypatch):
    monkeypatch.setattr(submissions, "LARGE", 10_000)
    book = json.dumps({"cells": [{"id": "a", "source": "x" * 20_000}]}).encode()
    with pytest.raises(UnreadableError, match="text of its cells"):
        parse(book)
    with pytest.raises(UnreadableError, match="JSON is broken"):
        parse(b"[" * 20_000)


def test_a_large_file_that_swells_ends_in_its_own_process(monkeypatch):
    monkeypatch.setattr(submissions, "LARGE", 10_000)
    monkeypatch.setattr(submissions, "MEMORY", 200 * 2**20)
    swelling = b'{"cells": [' + b"[]," * 5_000_000 + b"[]]}"
    with pytest.raises(UnreadableError, match="JSON is broken"):
        parse(swelling)
