import os
import stat
import subprocess
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit.classroom.course import (
    LEAST_SEED,
    OPEN,
    course_of,
    make_seed,
    new_seed,
    numbers,
    read_seed,
    student_id,
)

SEED = LEAST_SEED + 12345
CHOICES = {"alpha": (1.5, 2, 3, 5), "rho": (0.05, 0.1, 0.2, 0.4, 0.5)}


def own(student, salt="open", exercise="ridge", choices=CHOICES):
    return numbers(choices, salt=salt, student=student, exercise=exercise)


def tried(text):
    """Return (id, "") or ("", why there is none)."""
    try:
        return student_id(text), ""
    except ValueError as error:
        return "", str(error)


class TestSeed:
    def seed_file(self, folder, text):
        path = folder / "seed.txt"
        path.write_text(text, encoding="utf-8")
        return path

    def test_a_new_seed_can_be_read(self, tmp_path, root):
        course = read_seed(self.seed_file(tmp_path, new_seed()), root)
        assert course.seed >= LEAST_SEED
        assert course == course_of(course.seed)

    def test_new_seeds_differ(self):
        assert len({new_seed() for _ in range(100)}) == 100

    def test_a_file_inside_the_repository_is_refused(self, tmp_path):
        inside = tmp_path / "repository" / "private"
        inside.mkdir(parents=True)
        path = self.seed_file(inside, f"{SEED}")
        with pytest.raises(ValueError, match="outside the repository"):
            read_seed(path, tmp_path / "repository")
        assert read_seed(path, tmp_path / "elsewhere").seed == SEED

    def test_nor_by_a_detour(self, tmp_path):
        inside = tmp_path / "repository"
        inside.mkdir()
        path = self.seed_file(inside, f"{SEED}")
        (tmp_path / "link").symlink_to(path)
        for detour in (tmp_path / "link", tmp_path / "x" / ".." / "repository" / "seed.txt"):
            with pytest.raises(ValueError, match="outside the repository"):
                read_seed(detour, inside)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "one whole number"),
            ("abc", "one whole number"),
            ("-5", "one whole number"),
            ("1.5", "one whole number"),
            ("1 2", "one whole number"),
            ("9" * 5000, "one whole number"),
            ("42", "too short"),
            (str(LEAST_SEED - 1), "too short"),
            ("\u0661" * 40, "no seed could be read"),
        ],
    )
    def test_the_rest_is_refused_in_one_line_without_the_seed(self, text, reason, tmp_path, root):
        with pytest.raises(ValueError, match=reason) as caught:
            read_seed(self.seed_file(tmp_path, text), root)
        assert "run.py assignments --seed" in str(caught.value)
        assert not text or text not in str(caught.value).replace(str(tmp_path), "")

    def test_a_missing_file_is_one_line(self, tmp_path, root):
        with pytest.raises(ValueError, match="no seed could be read"):
            read_seed(tmp_path / "none", root)

    def test_a_seed_is_made_once_for_its_owner_alone(self, tmp_path, root):
        path = tmp_path / "seed.txt"
        assert make_seed(path, root)
        course, mode = read_seed(path, root), stat.S_IMODE(path.stat().st_mode)
        assert mode == 0o600
        assert not make_seed(path, root)
        assert read_seed(path, root) == course

    def test_a_seed_is_not_made_where_it_may_not_lie(self, tmp_path):
        with pytest.raises(ValueError, match="outside the repository"):
            make_seed(tmp_path / "repository" / "seed.txt", tmp_path / "repository")
        assert not (tmp_path / "repository").exists()

    def test_a_place_that_cannot_be_written_is_one_line(self, tmp_path, root):
        with pytest.raises(ValueError, match=r"no seed could be written to .*seed\.txt: No such"):
            make_seed(tmp_path / "none" / "seed.txt", root)

    def test_the_seed_shows_nowhere(self):
        course = course_of(SEED)
        assert str(SEED) not in f"{course} {course!r} {course.salt}"

    def test_salts_differ_between_courses(self):
        assert len({course_of(SEED + i).salt for i in range(1000)} | {OPEN.salt}) == 1001


class TestStudentId:
    @given(st.text(max_size=30))
    def test_is_one_form_or_one_line(self, text):
        name, line = tried(text)
        assert bool(name) != bool(line)
        assert "\n" not in name + line
        assert not {"/", "\\", "\0"} & set(name)
        assert not name or student_id(name) == name == name.lower().strip()

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("  Ada ", "ada"),
            ("ADA.Lovelace@uni.example", "ada.lovelace@uni.example"),
            ("Ada   Lovelace", "ada lovelace"),
            (unicodedata.normalize("NFD", "Zo\u00eb"), "zo\u00eb"),
            ("\uff21\uff44\uff41", "ada"),  # full width
            ("J\u030cena", "\u01f0ena"),  # a sign of its own only when it is small
            ("12345", "12345"),
            (12345, "12345"),
        ],
    )
    def test_spellings_of_one_name_agree(self, text, name):
        assert student_id(text) == name

    @pytest.mark.parametrize(
        "text",
        ["", "  ", "../ada", "a/b", "a\\b", ".ada", "=1+1", "-x", "@x", "a\x00b", "a;b", "x" * 65],
    )
    def test_refuses_what_is_no_name(self, text):
        with pytest.raises(ValueError, match="a student id must be"):
            student_id(text)


class TestNumbers:
    def test_are_the_students_own_and_stay(self):
        assert own("ada") == own(" ADA ")
        # Written down once: a change would give every student other numbers.
        assert own("ada") == {"alpha": 5, "rho": 0.5}

    def test_neighbours_differ(self):
        drawn = [tuple(own(f"student{i:03}").values()) for i in range(300)]
        same = np.mean([a == b for a, b in pairwise(drawn)])
        assert same < 0.12  # one in twenty on average, and 0.12 is 5.6 standard deviations above

    def test_all_choices_occur_equally(self):
        drawn = [own(f"student{i}")["rho"] for i in range(2000)]
        counts = [drawn.count(value) for value in CHOICES["rho"]]
        assert ((np.array(counts) - 400) ** 2 / 400).sum() < 31  # chi-squared of 4: 3e-6

    def test_depend_on_course_and_exercise(self):
        students = [f"student{i}" for i in range(20)]
        here = [own(name) for name in students]
        assert here != [own(name, salt=course_of(SEED).salt) for name in students]
        assert here != [own(name, exercise="other") for name in students]

    def test_a_new_parameter_changes_no_other(self):
        more = {"kappa": (1, 2), **CHOICES}
        assert own("ada", choices=more)["rho"] == own("ada")["rho"]

    def test_no_choices_no_student_needed(self):
        assert own("", choices={}) == {}

    def test_do_not_depend_on_the_process(self):
        code = "from iclkit.classroom.course import numbers as n;"
        code += f"print(n({CHOICES!r}, salt='open', student='ada', exercise='ridge'))"
        environment = {**os.environ, "PYTHONHASHSEED": "7"}
        made = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        assert made.stdout.strip() == str(own("ada"))
