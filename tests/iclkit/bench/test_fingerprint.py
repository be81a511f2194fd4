"""Fingerprints: equal for what is the same, different for whatever could change a number."""

import functools
import io
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from iclkit.bench.fingerprint import describe, fingerprint, versions
from iclkit.papers import phase_transition

CELL = """
import numpy as np
from functools import partial
size = {"n": 3, "names": ["a", "b"]}
worlds = {"one": lambda d: d + 1}
shift = 5
class Law:
    scale = 2.0
    def draw(self, d):
        return d * self.scale
def helper(d, by=2):
    return worlds["one"](d) * by
def cell(*, d, rng, power=2):
    kinds = {"east", "west", "north"}
    inner = [x for x in size["names"] if x in {"a", "q"}]
    late = lambda: shift
    more = Law().draw(d) + len(inner) + len(kinds)
    return {"later": late(), "v": np.linalg.norm(helper(d)) ** power + more}
"""
EDITS = {
    "a constant": ("len(kinds)", "len(kinds) + 1"),
    "an operation": ("** power +", "** power -"),
    "a default": ("power=2", "power=3"),
    "a global": ('"n": 3', '"n": 4'),
    "a global of a function inside": ("shift = 5", "shift = 6"),
    "a type of a global": ('"n": 3', '"n": 3.0'),
    "a function that it calls": ("* by", "+ by"),
    "the default of that": ("by=2", "by=3"),
    "a function in a global": ("d + 1", "d + 2"),
    "a method": ("d * self.scale", "d + self.scale"),
    "an attribute of a class": ("scale = 2.0", "scale = 3.0"),
    "a name that it looks up": ("np.linalg.norm", "np.linalg.det"),
    "a nested function": ("if x in", "if x not in"),
    "a set": ('"west"', '"south"'),
    "a keyword's name": ("*, d, rng", "*, rng, d"),
}


def made(source):
    space = {"__name__": "__main__"}
    exec(compile(source, "cell", "exec"), space)  # noqa: S102
    return space["cell"]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_what_a_cell_reads_changes_its_fingerprint(edit):
    old, new = EDITS[edit]
    assert CELL.count(old) == 1
    assert fingerprint(made(CELL)) != fingerprint(made(CELL.replace(old, new)))


def test_comments_and_what_it_does_not_read_change_nothing():
    other = CELL.replace("kinds =", "# a remark\n    kinds =") + "\nother = 7\n"
    assert fingerprint(made(CELL)) == fingerprint(made(other))


def test_other_processes_find_the_same():
    code = f"from iclkit.bench.fingerprint import fingerprint\n{CELL}\nprint(fingerprint(cell))"
    for salt in ("1", "2"):
        space = {**os.environ, "PYTHONHASHSEED": salt}
        done = subprocess.run([sys.executable, "-c", code], env=space, capture_output=True)
        assert done.stdout.decode().strip() == fingerprint(made(CELL)), done.stderr


def closure_over(value):
    def cell(*, d, rng):
        return {"v": value}

    return cell


@pytest.mark.parametrize(
    ("one", "two"),
    [(1, 2), (1, 1.0), (1, True), (np.arange(3), np.arange(3.0)), ([1], (1,)), ({1: 2}, {2: 1})],
    ids=str,
)
def test_closures_count(one, two):
    assert fingerprint(closure_over(one)) == fingerprint(closure_over(one))
    assert fingerprint(closure_over(one)) != fingerprint(closure_over(two))


@dataclass(frozen=True)
class Law:
    d: int
    scale: float = 1.0


def test_objects_count_by_class_and_content():
    assert fingerprint(Law(3)) == fingerprint(Law(3))
    assert len({fingerprint(v) for v in (Law(3), Law(4), Law(3, 2.0), (3, 1.0))}) == 4
    first, second = (np.random.default_rng(seed) for seed in (0, 1))
    assert fingerprint(first) != fingerprint(second)


def test_wrapped_functions_count_by_what_they_wrap():
    one, two = closure_over(1), closure_over(2)
    assert fingerprint(functools.partial(one, d=1)) != fingerprint(functools.partial(one, d=2))
    assert fingerprint(functools.cache(one)) != fingerprint(functools.cache(two))


def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)


def test_a_function_may_call_itself():
    assert ["again"] in describe(factorial)[3]["globals"][1][0]


@pytest.mark.parametrize("value", [phase_transition.simulate, np.exp, np.linalg, len, Law.__init__])
def test_functions_of_libraries_have_a_name(value):
    assert describe(value)[0] in ("name", "function")
    assert len(str(describe(value))) < 2000


def test_what_has_no_fingerprint_is_named_with_its_reader():
    file = io.TextIOWrapper(io.BytesIO())
    with pytest.raises(TypeError, match=r"_io.TextIOWrapper has no fingerprint, read by .*cell"):
        fingerprint(closure_over(file))


def test_versions_cover_our_sources_and_what_computes():
    assert {"iclkit", "python", "numpy", "scipy"} <= versions().keys()
    assert "(" in versions()["iclkit"]
