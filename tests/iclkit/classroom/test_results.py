import csv
import errno
import io
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit.classroom.marking import Mark
from iclkit.classroom.results import LEADS, Part, Result, keep, kept, safe, table, write

MARKS = (Mark(3, 3, "agrees", ""), Mark(0, 2, "is linear", "Mind the sign.", "absolute"))
PART = Part("slope", "A slope", 5, 3, marks=MARKS, text="abc")
RESULT = Result("ada", "0_toy", (PART, Part("share", "A share", 3)), ("late",), key="k1")


def test_points_so_far_and_points_to_be_read():
    assert (PART.points, PART.pending) == (3, 3)
    read = replace(PART, by_hand=2.5)
    assert (read.points, read.pending) == (5.5, 0)
    assert replace(read, changed=5.0).points == 7.5
    assert replace(PART, text="").pending == 0
    assert (RESULT.points, RESULT.out_of, RESULT.pending) == (3, 11, 3)


def test_a_kept_result_comes_back_whole(tmp_path):
    path = tmp_path / "ada" / "0_toy.json"
    assert keep(path, RESULT) is False
    assert kept(path, "k1") == RESULT


def test_a_result_of_something_else_is_not_taken(tmp_path):
    path = tmp_path / "a.json"
    assert kept(path, "k1") is None
    keep(path, RESULT)
    assert kept(path, "k2") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"shape": 1}', b"\xff"])
def test_a_damaged_file_is_graded_anew(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert kept(path, "k1") is None
    keep(path, RESULT)
    assert kept(path, "k1") == RESULT


def test_a_result_from_another_version_is_graded_anew(tmp_path):
    path = tmp_path / "a.json"
    keep(path, RESULT)
    content = json.loads(path.read_bytes())
    content["result"]["unknown"] = 1
    path.write_text(json.dumps(content))
    assert kept(path, "k1") is None


def test_what_is_replaced_is_kept_aside(tmp_path):
    path = tmp_path / "a.json"
    keep(path, RESULT)
    first = path.read_bytes()
    again = replace(RESULT, key="k2", submission="other")
    assert keep(path, again) is True
    assert [old.read_bytes() for old in (tmp_path / "earlier").iterdir()] == [first]


def test_a_full_disk_leaves_the_old_file_and_no_piece(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.csv"
    write(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_the_table_has_one_column_per_exercise():
    other = Result("bob", "1_more", (Part("other", "Other", 2, marks=(Mark(2, 2, "", ""),)),))
    lines = list(csv.DictReader(io.StringIO(table([RESULT, other]))))
    assert lines[0] == {
        "student": "ada",
        "assignment": "0_toy",
        "handed in": "",
        "slope": "3",
        "share": "0",
        "other": "",
        "to be read": "3",
        "total": "3",
        "out of": "11",
        "remark": "late",
    }
    assert (lines[1]["slope"], lines[1]["other"], lines[1]["total"]) == ("", "2", "2")


@pytest.mark.parametrize(
    "name", ["=1+1", "+1 a", "-a", "@sum", "\t=1", " =1", "\uff1d1", "=cmd|' /C x'!A0"]
)
def test_no_field_starts_a_formula(name):
    assert safe(name).startswith("'")


@given(st.text())
def test_any_name_is_one_plain_field(name):
    (_, line) = csv.reader(io.StringIO(table([Result(name, "0_toy")])))
    assert len(line) == 7
    assert line[0].isprintable()
    assert not line[0].lstrip().startswith(LEADS) or float(line[0])


def test_ordinary_names_stay_as_they_are():
    for name in ("Ada Lovelace", "\u0141ukasz", "o'neill", "3", "-2"):
        assert safe(name) == name
