import base64
import json
import subprocess
import sys
import zlib
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from iclkit.classroom.course import numbers
from iclkit.classroom.desk import MARGIN, OFFSETS, SHIFTS, Desk, Grid, fingerprint, margin, pack
from iclkit.classroom.source import assignment, executed, first_numbers, solved
from iclkit.classroom.spec import Exercise, Mistake
from tests.toy_assignment import written

FLOATS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
GRIDS = st.builds(Grid, st.sampled_from(SHIFTS), st.sampled_from(OFFSETS))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return assignment(written(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="module")
def desk(toy):
    return Desk(pack(toy, salt="open"), "ada")


def content(packed):
    return json.loads(zlib.decompress(base64.b85decode(packed)))


def one(answer, *practice, mistakes=()):
    """Return an assignment of one exercise `f`."""
    tests = Exercise(tests=(), mistakes=mistakes, practice=practice)
    item = SimpleNamespace(key="f", setup="import numpy as np", answer=answer, tests=tests)
    return SimpleNamespace(items=(item,))


class TestFingerprint:
    @hypothesis.settings(max_examples=50)
    @hypothesis.given(values=st.lists(FLOATS, min_size=1, max_size=5), grid=GRIDS)
    def test_small_deviations_do_not_show_away_from_turning_points(self, values, grid):
        array = np.array(values)
        hypothesis.assume(margin(array, grid) > MARGIN)
        other = array + 3e-10 * np.abs(array).max() * np.cos(np.arange(array.size))
        assert fingerprint(array, grid, salt="") == fingerprint(other, grid, salt="")

    @hypothesis.settings(max_examples=50)
    @hypothesis.given(values=st.lists(FLOATS, min_size=1, max_size=5), grid=GRIDS)
    def test_large_ones_do(self, values, grid):
        array = np.array(values)
        largest = np.abs(array).max()
        hypothesis.assume(largest > 0)
        other = np.append(array[:-1], array[-1] + 5e-5 * largest)
        assert fingerprint(array, grid, salt="") != fingerprint(other, grid, salt="")

    @pytest.mark.parametrize(
        "alike",
        [
            [2.0, 2, np.float64(2), np.array(2), np.float32(2)],
            [[1.0, 2.0], (1, 2), np.array([1, 2]), np.array([1.0, 2.0])],
            ["left", np.str_("left")],
            [0.0, -0.0, 1e-17, np.array(0)],
            [[np.nan, 1.0], np.array([np.nan, 1.0])],
            [[np.inf, -np.inf, 1.0], np.array([np.inf, -np.inf, 1.0])],
            [1e308, np.float64(1e308)],
            [[[1.0], [2.0, 3.0]], ([1], np.array([2, 3]))],
        ],
    )
    def test_clothes_do_not_matter(self, alike):
        for grid in (Grid(0.13, 0.1), Grid(0.13, 0.1, parted=True)):
            assert len({fingerprint(value, grid, salt="") for value in alike}) == 1

    def test_build_and_special_values_do_matter(self):
        values = [
            1.0, [1.0], [[1.0]], "1", None, [1.0, 1.0], [np.nan], [np.inf], [-np.inf], 10.0, -1.0,
            [], [[]], [1.0, np.nan], [np.nan, 1.0], 0.0,
        ]  # fmt: skip
        grid = Grid(0.13, 0.0)
        assert len({fingerprint(value, grid, salt="") for value in values}) == len(values)

    def test_parts_of_a_tuple_have_their_own_scale(self):
        pair = [(1e6, 1e-3), (1e6, 2e-3)]
        assert len({fingerprint(p, Grid(0.13, 0.0), salt="") for p in pair}) == 1
        assert len({fingerprint(p, Grid(0.13, 0.0, parted=True), salt="") for p in pair}) == 2

    def test_salts_make_other_prints(self):
        assert len({fingerprint(1.0, Grid(0.13, 0.0), salt=f"{i}") for i in range(10)}) == 10

    def test_powers_of_ten_are_turning_points_only_without_a_shift(self):
        assert margin(1.0, Grid(0.0, 0.0)) == 0
        assert margin(1.0, Grid(0.13, 0.0)) == 0.5


class TestPack:
    def test_holds_no_output_of_reference_or_mistake(self, toy):
        kept = content(pack(toy, salt="open"))
        for packed in kept["exercises"].values():
            for call in packed["calls"]:
                del call["arguments"], call["grid"]  # inputs, and where the rounding begins
        text = json.dumps(kept)
        item = toy.item("share")
        for mistake in (None, *item.tests.mistakes):
            names = solved(item, {}, mistake)
            for value in names["share"](*item.tests.practice[0][1]).ravel():
                assert f"{value:.5g}" not in text or value == round(value)
        assert "return" not in text
        assert not any(m.old in text or m.new in text for m in item.tests.mistakes[1:])

    def test_is_plain_text_and_short(self, toy):
        packed = pack(toy, salt="open")
        assert packed.isascii()
        assert "\n" not in packed
        assert len(packed) < 4000

    def test_is_the_same_every_time(self, toy):
        assert pack(toy, salt="open") == pack(toy, salt="open")

    def test_values_at_turning_points_get_a_grid_that_avoids_them(self):
        for value in (0.1234565, 1.0, 10.0, 9.9999995, 1e-5, 0.5, 123456.5, 2 / 3):
            answer = f"def f():\n    return {value!r}"
            desk = Desk(pack(one(answer, ("f", ())), salt=""), "ada")
            for near in (value * (1 - 1e-12), value * (1 + 1e-12), value * (1 + 1e-10)):
                assert "right" in desk.remark("f", {"f": lambda v=near: v})

    def test_random_arrays_have_a_grid(self, rng):
        values = [rng.normal(size=size) * 10.0**p for p in (-3, 0, 5) for size in (1, 10, 1000)]
        for array in values:
            answer = f"def f():\n    return np.array({array.tolist()})"
            desk = Desk(pack(one(answer, ("f", ())), salt=""), "ada")
            noise = 3e-10 * np.abs(array).max() * rng.uniform(-1, 1, size=array.size)
            assert "right" in desk.remark("f", {"f": lambda v=array + noise: v})

    def test_without_such_a_grid_packing_fails(self):
        answer = "def f():\n    return np.random.default_rng(0).normal(size=100_000)"
        with pytest.raises(ValueError, match=r"f: practice call 1 \(f\) is near a turning point"):
            pack(one(answer, ("f", ())), salt="")

    def test_outputs_too_small_to_compare_are_refused(self):
        for value, fine in ((1e-8, True), (1e-10, False), (1e-13, True), (0.0, True)):
            packing = one(f"def f():\n    return {value}", ("f", ()))
            if fine:
                pack(packing, salt="")
            else:
                with pytest.raises(ValueError, match="below 1e-09"):
                    pack(packing, salt="")

    def test_a_failing_reference_is_refused(self):
        with pytest.raises(ValueError, match=r"practice call 1 .* raises ZeroDivisionError"):
            pack(one("def f():\n    return 1 / 0", ("f", ())), salt="")

    def test_an_answer_that_writes_into_its_inputs_spoils_no_other(self):
        answer = "def f(a):\n    total = a.sum()\n    a[:] = 0\n    return total"
        mistakes = [Mistake("mean", "a.sum()", "a.mean()", 1, "A mean.")]
        desk = Desk(pack(one(answer, ("f", (np.ones(3),)), mistakes=mistakes), salt=""), "ada")
        assert desk.remark("f", {"f": np.mean}) == "f: A mean."
        assert "right on" in desk.remark("f", {"f": np.sum})

    def test_mistakes_near_a_turning_point_get_a_grid_as_well(self):
        values = (0.1234565, 0.7654325, 3.3333335, 1e20, 5e-15)
        mistakes = [Mistake(f"m{v}", "1.0", f"{v!r}", 1, f"h{v}") for v in values]
        desk = Desk(
            pack(one("def f():\n    return 1.0", ("f", ()), mistakes=mistakes), salt=""), "a"
        )
        for mistake in mistakes:
            value = float(mistake.new) * (1 + 1e-14)
            assert desk.remark("f", {"f": lambda v=value: v}) == f"f: {mistake.hint}"


class TestDesk:
    def test_the_reference_is_right(self, toy, desk):
        for item in toy.items:
            line = desk.remark(item.key, item.reference)
            assert line.startswith(f"{item.key}: right on the practice call.")

    def test_each_mistake_that_shows_is_named(self, toy, desk):
        silent = set()
        for item in toy.items:
            for mistake in item.tests.mistakes:
                names = solved(item, first_numbers(item.tests.numbers), mistake)
                line = desk.remark(item.key, names)
                if "right on" in line:
                    silent.add(mistake.name)
                else:
                    assert line == f"{item.key}: {mistake.hint}"
        assert silent == {"other", "practice", "deviation", "variance", "abs", "scale"}

    @pytest.mark.parametrize(
        ("answer", "line"),
        [
            ("-v / (v + 3 * p)", "`share` has the wrong sign."),
            ("v[:2]", "`share` has another shape than the text asks for."),
            ("0.5", "`share` has another shape than the text asks for."),
            ("'text'", "`share` has another shape than the text asks for."),
            ("v * np.nan", "`share` has NaN or infinite entries."),
            ("None", "`share` is None: is a `return` missing?"),
            ("v.fill(0)", "`share` is None: is a `return` missing?"),
            ("v**2", "`share` is not right on the practice inputs yet."),
            ("1 / 0", "`share` raises ZeroDivisionError on the practice inputs."),
            ("w", "`share` uses a name that is not defined."),
            ("v(1)", "`share` raises TypeError on the practice inputs."),
            ("{1}", "`share` is of type set; return numbers, text, lists or arrays."),
            ("object()", "`share` is of type object; return numbers, text, lists or arrays."),
            ("1j * v", "`share` is complex; real numbers are asked for."),
        ],
    )
    def test_other_answers_get_one_line(self, desk, answer, line):
        cell = f"def share(p, v):\n    return {answer}"
        names = executed(["import numpy as np", cell], {})
        assert desk.remark("share", names) == f"share: {line}"

    def test_no_answer_yet(self, desk):
        def share(penalty, values):
            raise NotImplementedError

        assert desk.remark("share", {"share": share}) == "share: not answered yet."
        line = "share: there is no `share` yet; fill in the cell above, and run it."
        assert desk.remark("share", {}) == line

    def test_a_variable_of_another_exercise_is_no_answer(self):
        items = [one(f"practice = {v}", ("practice", ())).items[0] for v in (1.5, 2.5)]
        items[1].key = "g"
        desk = Desk(pack(SimpleNamespace(items=items), salt=""), "ada")
        names = {"practice": float("1.5")}
        assert "right on" in desk.remark("f", names)
        for _ in range(2):
            line = "g: not answered yet; `practice` is still that of f."
            assert desk.remark("g", names) == line
        assert "is not right" in desk.remark("g", {"practice": float("1.5")})
        names["practice"] = 2.5
        assert "right on" in desk.remark("g", names)
        assert "still that of g" in desk.remark("f", names)

    def test_practice_inputs_are_copies(self, toy, desk):
        share = toy.item("share").reference["share"]

        def writes(penalty, values):
            result = share(penalty, values)
            values[:] = 0
            return result

        assert "right on" in desk.remark("share", {"share": writes})
        assert "right on" in desk.remark("share", {"share": share})

    def test_inputs_arrive_as_they_were_written(self):
        arguments = (
            1,
            0.1,
            "a",
            [1, 2.5],
            (1, (2,)),
            np.arange(6.0).reshape(2, 3),
            np.arange(2),
            None,
        )
        seen = []
        packed = pack(one("def f(*a):\n    return 1.0", ("f", arguments)), salt="")
        Desk(packed, "ada").remark("f", {"f": lambda *a: seen.extend(a)})
        for got, sent in zip(seen, arguments, strict=True):
            assert type(got) is type(sent)
            np.testing.assert_array_equal(np.array(got, object), np.array(sent, object))
        assert [a.dtype for a in seen[5:7]] == [a.dtype for a in arguments[5:7]]

    def test_numbers_are_those_of_the_grading(self, toy, desk):
        choices = toy.item("power").tests.numbers
        own = numbers(choices, salt="open", student="ada", exercise="power")
        assert desk.numbers("power") == own
        assert desk.numbers("share") == {}

    def test_check_prints_one_line(self, toy, desk, capsys):
        desk.check("share", toy.item("share").reference)
        desk.check("share", {})
        assert len(capsys.readouterr().out.splitlines()) == 2

    def test_without_practice_calls_it_says_so(self):
        desk = Desk(pack(one("f = 1"), salt=""), "ada")
        assert desk.remark("f", {}) == "f: no practice call; the grading looks at it."

    def test_a_bad_id_is_one_line(self, toy):
        with pytest.raises(ValueError, match="a student id must be"):
            Desk(pack(toy, salt="open"), "")

    def test_another_version_is_one_line(self, toy):
        other = content(pack(toy, salt="open")) | {"format": 99}
        packed = base64.b85encode(zlib.compress(json.dumps(other).encode())).decode()
        with pytest.raises(ValueError, match="another version of iclkit"):
            Desk(packed, "ada")

    @pytest.mark.parametrize("cut", [0, 1, 50, -1])
    def test_a_changed_cell_is_one_line(self, toy, cut):
        packed = pack(toy, salt="open")[:cut]
        with pytest.raises(ValueError, match="copy it from a fresh notebook"):
            Desk(packed, "ada")

    def test_works_where_only_numpy_is(self, toy):
        """A student's machine may have the wheel and NumPy, and nothing else."""
        code = (
            "import sys\n"
            "for name in ('scipy', 'pandas', 'nbformat', 'nbgrader', 'matplotlib', 'click'):\n"
            "    sys.modules[name] = None\n"
            "from iclkit.classroom.desk import Desk\n"
            "desk = Desk(sys.argv[1], 'ada')\n"
            "desk.check('share', {'share': lambda p, v: v / (v + p * len(v))})\n"
        )
        command = [sys.executable, "-c", code, pack(toy, salt="open")]
        made = subprocess.run(command, capture_output=True, text=True)
        assert made.stdout.startswith("share: right on"), made.stderr
