"""A toy assignment, in the instructor's format, and what simulated students hand in for it.

Three short exercises: a function, two numbers with parameters of one's own, a derivation.
"""

import copy
import json
import re
from pathlib import Path

from iclkit.classroom import marking
from iclkit.classroom.course import course_of
from iclkit.classroom.handout import STUB, STUB_TEXT, without_raising
from iclkit.classroom.sandbox import Reply
from iclkit.classroom.source import executed

COURSE = course_of(2**100 + 1)
NAME = "0_toy"
CHAPTER = "01_toy"
SETUP = "import numpy as np"
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.MULTILINE | re.DOTALL)

SLOPE = '''def ridge_slope(x, y, penalty):
    """Return the slope w of the line through zero, ridge loss with this penalty."""
    ### BEGIN SOLUTION
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return np.sum(x * y) / (np.sum(x**2) + penalty)
    ### END SOLUTION
'''
SLOPE_TESTS = """### BEGIN HIDDEN TESTS
from iclkit.classroom.spec import *


def samples(rng):
    x = rng.normal(size=(4, 8))
    return [*((row, rng.normal(size=8), rng.uniform(1, 3)) for row in x), (x[0], -x[0], 1.0)]


def scaled(rng):
    x, y = rng.normal(size=8), rng.normal(size=8)
    return [(x, y, 0.7), (x, -2 * y, 0.7)]


def is_linear(pairs):
    (_, first), (_, second) = pairs
    return bool(first != 0 and np.isclose(second, -2 * first, rtol=1e-9))


exercise = Exercise(
    tests=[
        Values("ridge_slope", samples, points=3),
        Holds("ridge_slope", scaled, is_linear, points=2, about="is linear in y",
              hint="Doubling every y doubles the slope, whatever the signs."),
        Values("ridge_slope", lambda rng: [(x := rng.uniform(1, 2, size=5), 2 * x, 0.0)], points=1,
               about="is the line itself without a penalty"),
    ],
    mistakes=[
        Mistake("no-penalty", " + penalty", "", 3, "Where does the penalty enter?"),
        Mistake("minus-penalty", "+ penalty", "- penalty", 3, "Check the sign of the penalty."),
        Mistake("mean-above", "np.sum(x * y)", "np.mean(x * y)", 4, "A sum became a mean."),
        Mistake("squared-target", "x * y)", "x * y**2)", 6, "The slope is linear in y."),
        Mistake("absolute", "np.sum(x * y)", "abs(np.sum(x * y))", 5, "A slope has a sign."),
    ],
    practice=[("ridge_slope", ([1.0, 2.0], [-2.0, 0.5], 0.5))],
    seconds=5,
    megabytes=200,
)
### END HIDDEN TESTS
"""
SHARE = """### BEGIN SOLUTION
def share(alpha, rho):
    return rho / (alpha * (1 + rho))


practice = share(2.0, 0.5)
answer = share(**numbers)
rest = 1 - answer
### END SOLUTION
"""
SHARE_TESTS = """### BEGIN HIDDEN TESTS
from iclkit.classroom.spec import *


def exact(numbers):
    return numbers["rho"] / (numbers["alpha"] * (1 + numbers["rho"]))


exercise = Exercise(
    tests=[
        Number("answer", expected=exact, points=2),
        Number("rest", expected=lambda numbers: 1 - exact(numbers), points=1, about="is the rest"),
    ],
    mistakes=[
        Mistake("no-rho", "rho / (", "1 / (", 3, "The share vanishes without noise."),
        Mistake("minus-rho", "(1 + rho)", "(1 - rho)", 3, "Signal and noise add up."),
        Mistake("no-alpha", "alpha * ", "", 3, "The share falls with alpha."),
        Mistake("inverse", "return rho", "return 1 / rho", 3, "Is that upside down?"),
        Mistake("swapped", "1 - answer", "answer - 1", 1, "The rest is positive."),
    ],
    practice=[("practice", ())],
    numbers={"alpha": (1.5, 2.5, 3.0, 4.0, 5.0), "rho": (0.05, 0.1, 0.2, 0.3, 0.4)},
)
### END HIDDEN TESTS
"""
LIMIT = '''def squared_bias(n_context, penalty):
    """Return the squared bias of the slope, for n_context inputs of length one and w = 1."""
    ### BEGIN SOLUTION
    kept = n_context / (n_context + penalty)
    return (1 - kept) ** 2
    ### END SOLUTION
'''
LIMIT_TEXT = """### BEGIN SOLUTION
The slope is $n/(n + \\lambda)$ times the true one, so it misses $\\lambda/(n + \\lambda)$ of it.
### END SOLUTION
"""
LIMIT_TESTS = """### BEGIN HIDDEN TESTS
from iclkit.classroom.spec import *


def falls(pairs):
    outputs = [float(output) for _, output in pairs]
    return outputs == sorted(outputs, reverse=True) and outputs[-1] < 1e-6


exercise = Exercise(
    tests=[
        Values("squared_bias", lambda rng: [(int(rng.integers(2, 9)), rng.uniform(1, 2))
                                            for _ in range(3)], points=2),
        Holds("squared_bias", lambda rng: [(n, 1.0) for n in (1, 10, 10_000)], falls, points=1,
              about="vanishes for long contexts", hint="The penalty stays, n grows."),
    ],
    mistakes=[
        Mistake("not-squared", "** 2", "** 1", 3, "The bias itself is not asked for."),
        Mistake("kept", "(1 - kept)", "kept", 3, "That is what is kept."),
        Mistake("one-more", "(n_context + penalty)", "(n_context + 1 + penalty)", 2, "Off by one."),
        Mistake("penalty-squared", "+ penalty)", "+ penalty**2)", 2, "Once too often squared."),
        Mistake("no-context", "n_context /", "1 /", 3, "All n examples count above, too."),
    ],
    practice=[("squared_bias", (3, 2.0))],
    rubric=[
        Criterion(2, "the expectation of the slope is written down"),
        Criterion(1, "the limit is named", not_for="a limit without a reason"),
    ],
)
### END HIDDEN TESTS
"""
ABOUT = {
    "kind": "code",
    "difficulty": "easy",
    "importance": 2,
    "minutes": 10,
    "prerequisites": ["sums"],
    "prepares": "the toy's figure",
    "goals": [[CHAPTER, 1]],
    "help": ["Write down the loss.", "Set its derivative to zero."],
}
EXERCISES = {
    "ridge-slope": ("A slope with a penalty", "code", SLOPE, "", SLOPE_TESTS, 6, 0),
    "noise-share": ("The share of the noise", "number", SHARE, "", SHARE_TESTS, 3, 0),
    "long-context": ("Long contexts", "derivation", LIMIT, LIMIT_TEXT, LIMIT_TESTS, 3, 3),
}
POINTS = 15  # of which a person gives 3


def cell(grade_id, source, kind="code", about=None, **nbgrader):
    """Return a cell of the instructor's notebook."""
    flags = {"grade": False, "solution": False, "locked": False, "task": False}
    data = {**flags, "schema_version": 3, "grade_id": grade_id, **nbgrader}
    made = {"cell_type": kind, "id": grade_id, "metadata": {"nbgrader": data}, "source": source}
    if about:
        made["metadata"]["exercise"] = about
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def exercise_cells(key, title, kind, answer, derivation, tests, points, by_hand):
    """Return the cells of one exercise."""
    statement = f"## {title}\n\nCompute it."
    cells = [
        cell(key, statement, "markdown", ABOUT | {"kind": kind}, locked=True),
        cell(f"{key}-answer", answer, solution=True),
        cell(f"{key}-tests", tests, grade=True, locked=True, points=points),
    ]
    if derivation:
        flags = {"solution": True, "grade": True, "points": by_hand}
        cells.insert(2, cell(f"{key}-derivation", derivation, "markdown", **flags))
    return cells


def notebook(exercises=None):
    """Return the instructor's notebook."""
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# A toy assignment"},
        cell("setup", SETUP, locked=True),
    ]
    for key, parts in (EXERCISES if exercises is None else exercises).items():
        cells += exercise_cells(key, *parts)
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"classroom": {"chapter": CHAPTER}, "kernelspec": kernel}
    return {
        "cells": cells,
        "metadata": metadata | {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write(root, name=NAME, exercises=None):
    """Write the instructor's notebook into the repository `root`; return its path."""
    path = Path(root) / "notebooks" / "assignments" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook(exercises), indent=1) + "\n", encoding="utf-8")
    return path


def open_solutions(text):
    """Return a cell with its solution, without the marks around it."""
    return re.sub(r"^ *### (?:BEGIN|END) SOLUTION\n?", "", text, flags=re.MULTILINE)


def handed_out(source=None):
    """Return a student's notebook without answers, much as the release makes it."""
    out = copy.deepcopy(source or notebook())
    out["cells"] = [c for c in out["cells"] if not c["id"].endswith("-tests")]
    for one in out["cells"]:
        one["source"] = "".join(one["source"])
        if one["cell_type"] == "markdown":
            one["source"] = SOLUTION.sub(STUB_TEXT, one["source"])
        else:
            one["source"] = without_raising(SOLUTION.sub(rf"\1{STUB}", one["source"]))
    return out


def submission(changes, source=None):
    """Return a student's notebook in which the sources of some cells, by id, are replaced."""
    out = handed_out(source)
    for one in out["cells"]:
        one["source"] = changes.get(one["id"], one["source"])
    return out


def reference():
    """Return the right answers, by cell."""
    return {
        "ridge-slope-answer": open_solutions(SLOPE),
        "noise-share-answer": open_solutions(SHARE),
        "long-context-answer": open_solutions(LIMIT),
        "long-context-derivation": open_solutions(LIMIT_TEXT),
    }


def with_mistake(key, mistake):
    """Return the right answers but for one documented mistake in exercise `key`."""
    answers = reference()
    name = f"{key}-answer"
    if answers[name].count(mistake.old) != 1:
        raise AssertionError(f"{key}: {mistake.old!r} must occur once")
    return answers | {name: answers[name].replace(mistake.old, mistake.new)}


def seed_file(place):
    """Write the course's seed; return its path."""
    path = Path(place) / "seed.txt"
    path.write_text(f"{COURSE.seed}\n")
    return path


def run_here(cells, calls, *, given, **_):
    """Stand in for the sandbox where the cells are the tests' own: no process, the same replies."""
    try:
        names = executed(cells, given)
    except Exception as error:
        return [Reply(problem=f"your cell raises {type(error).__name__} in line 1")] * len(calls)
    return marking.here(names, calls)


def hand_in(folder, student, content, name=NAME):
    """Write a student's notebook (a dict, text or bytes) into the folder; return its path."""
    path = Path(folder) / student / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
