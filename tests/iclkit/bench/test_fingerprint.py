"""Fingerprints: equal for what is the same, different for whatever could change a number."""

import functools
import importlib
import io
import os
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import pytest

from iclkit.bench import fingerprint as fingerprint_module
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
    try:
        late = lambda: shift
    except OSError:
        pass
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
    "what an exception covers": (
        "        late = lambda: shift\n    except OSError:\n        pass\n",
        "        pass\n    except OSError:\n        pass\n    else: late = lambda: shift\n",
    ),
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


HELPERS = {
    "helpers_a.py": "import helpers_b\nSIZE = 3\ndef f(d):\n    return helpers_b.g(d) * SIZE\n",
    "helpers_b.py": "from helpers_c import shift\ndef g(d):\n    return shift(d)\n",
    "helpers_c.py": "def shift(d):\n    return d + 1\n",
}
USES = {
    "a module": "import helpers_a\ndef cell(*, d, rng):\n    return {'v': helpers_a.f(d)}",
    "its function": "from helpers_a import f\ndef cell(*, d, rng):\n    return {'v': f(d)}",
    "by text": "import helpers_a as a\ndef cell(*, d, rng):\n  return {'v': getattr(a, 'f')(d)}",
    "an import inside": "def cell(*, d, rng):\n  import helpers_a\n  return {'v': helpers_a.f(d)}",
    "a name from inside": "def cell(*, d, rng):\n  from helpers_a import f\n  return {'v': f(d)}",
}
CHANGES = {
    "helpers_a.py": ("SIZE = 3", "SIZE = 4"),
    "helpers_b.py": ("return shift(d)", "return 2 * shift(d)"),
    "helpers_c.py": ("d + 1", "d + 2"),
}


def forget():
    for name in HELPERS:
        sys.modules.pop(name.removesuffix(".py"), None)
    importlib.invalidate_caches()


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """A folder of modules of the user's own; each use loads what is in it then."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it does not see two edits in a second
    for name, text in HELPERS.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    forget()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("file", CHANGES)
def test_modules_of_the_users_own_count_however_they_are_reached(helpers, use, file):
    before = fingerprint(made(USES[use]))
    forget()
    assert fingerprint(made(USES[use])) == before
    forget()
    (helpers / file).write_text(HELPERS[file].replace(*CHANGES[file]))
    assert fingerprint(made(USES[use])) != before


def test_what_is_loaded_counts_and_not_the_file_alone(helpers):
    cell = made(USES["a module"])
    (helpers / "helpers_a.py").write_text(HELPERS["helpers_a.py"].replace("SIZE = 3", "SIZE = 4"))
    stale = fingerprint(cell)
    forget()
    assert fingerprint(made(USES["a module"])) != stale


def test_an_import_that_fails_is_the_cells_matter():
    cell = made("def cell(*, d, rng):\n    import no_such_module_here\n    return {}")
    assert fingerprint(cell) == fingerprint(cell)


def test_a_package_without_a_version_counts_by_its_installed_one(monkeypatch):
    import click

    plain = types.ModuleType("click")  # as those that say no version
    monkeypatch.setitem(sys.modules, "click", plain)
    fingerprint_module._release.cache_clear()
    try:
        assert describe(click.Option)[-1] == f"click {metadata.version('click')}"
    finally:
        fingerprint_module._release.cache_clear()


EARLY = """
import os, sys, time
from pathlib import Path
import iclkit.rng
if sys.argv[1] != "leave":
    time.sleep(3)  # more than a start may be wrong by
    with open(iclkit.rng.__file__, "a") as file:
        print("# edited", file=file)
    shift = {"edit": 0, "ahead": 10**6, "behind": -(10**6)}[sys.argv[1]]
    os.utime(iclkit.rng.__file__, (time.time() + shift,) * 2)
from iclkit.bench.fingerprint import edited
print(edited())
"""


@pytest.mark.parametrize(
    ("word", "said"), [("edit", "True"), ("ahead", "True"), ("behind", "True"), ("leave", "False")]
)
def test_an_edit_before_this_module_was_loaded_is_seen(tmp_path, root, word, said):
    shutil.copytree(root / "iclkit", tmp_path / "iclkit", ignore=shutil.ignore_patterns("data"))
    os.utime(tmp_path / "iclkit/_checks.py", (4e9, 4e9))  # by a clock ahead, before the start
    (tmp_path / "early.py").write_text(EARLY)
    command = [sys.executable, "early.py", word]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == said, done.stderr


def test_what_an_exception_covers_counts():
    inside = "def cell(d):\n  try:\n    a = int(d)\n    b = abs(a)\n  except OSError:\n    b = 0\n"
    after = inside.replace("    b = abs(a)\n", "") + "  else:\n    b = abs(a)\n"
    one, two = (made(text + "  return b") for text in (inside, after))
    assert fingerprint(one) != fingerprint(two)
