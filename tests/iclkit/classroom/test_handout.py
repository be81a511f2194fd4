"""Cells of a student's notebook: what waits for the student, and long texts in short lines."""

import ast

import pytest

from iclkit.classroom import handout

FUNCTION = f'def f(x):\n    """Return it."""\n    {handout.STUB}\n'
CALLS = [
    ("answer = f(2)", {"answer"}),
    ("first, second = f(2)", {"first", "second"}),
    ("def g(x):\n    return f(x)\n\n\nanswer = g(1)", {"answer"}),
    ("half = f(1)\nanswer = half / 2", {"half", "answer"}),
    ("answer = f(\n    2,\n)", {"answer"}),
]


def names_set(source):
    names = {}
    exec(source, names)  # noqa: S102 - the cell under test
    return set(names)


@pytest.mark.parametrize(("call", "missing"), CALLS)
def test_what_needs_a_stub_waits(call, missing):
    quiet = handout.without_raising(f"{FUNCTION}\n\nready = 1\n{call}")
    assert {"f", "ready"} <= names_set(quiet)
    assert not missing & names_set(quiet)
    assert quiet.count(handout.WAITING) == 1


@pytest.mark.parametrize(("call", "missing"), CALLS)
def test_it_works_again_once_the_function_is_there_and_the_sign_is_away(call, missing):
    quiet = handout.without_raising(f"{FUNCTION}\n\n{call}")
    done = quiet.replace(handout.STUB, "return (x, x)[: x + 1][0] if False else np.array([x, x])")
    lines = [line.removeprefix("# ") for line in done.replace(handout.WAITING, "").splitlines()]
    assert missing <= names_set("\n".join(["import numpy as np", *lines]))


def test_a_cell_of_functions_stays_as_it_is():
    source = f"from itertools import product\n\n\n{FUNCTION}\n\n{FUNCTION.replace('f(x)', 'g(x)')}"
    assert handout.without_raising(source) == source


def test_solution_outside_of_functions_raises_nothing():
    source = f"practice = None\n{handout.STUB}"
    assert names_set(handout.without_raising(source)) >= {"practice"}
    assert "nothing here yet" in handout.without_raising(source)


def test_long_text_is_quoted_in_short_lines():
    packed = "".join(chr(33 + i % 90) for i in range(1000)).replace('"', "").replace("\\", "")
    quoted = handout.quoted(packed)
    assert ast.literal_eval(f"(\n{quoted}\n)") == packed
    assert max(map(len, quoted.splitlines())) < 100


def test_help_is_folded_and_numbered():
    one, two = handout.folded(["a", "b"])
    assert one == "<details><summary>First help</summary>\n\na\n\n</details>"
    assert "Second help" in two
