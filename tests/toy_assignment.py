"""A small assignment in the instructor's format, with every kind of test and no theory."""

import json

LOCKED = {"grade": False, "solution": False, "locked": True}
ANSWER = {"grade": False, "solution": True, "locked": False}
READ = {"grade": True, "solution": True, "locked": False}
TESTS = {"grade": True, "solution": False, "locked": True}

SHARE_ANSWER = '''def share(penalty, values):
    """Return the share that ridge keeps of each eigenvalue."""
    ### BEGIN SOLUTION
    count = len(values)
    return values / (values + penalty * count)
    ### END SOLUTION
'''
SHARE_TESTS = """### BEGIN HIDDEN TESTS
from iclkit.classroom.spec import *


def random_cases(rng):
    return [(float(rng.uniform(0.5, 2)), rng.uniform(1, 3, size=n)) for n in (2, 4, 7)]


def without_penalty(rng):
    return [(0.0, rng.uniform(1, 3, size=5))]


exercise = Exercise(
    tests=[
        Values("share", random_cases, 3),
        Holds(
            "share",
            without_penalty,
            lambda pairs: all(np.allclose(out, 1) for _, out in pairs),
            2,
            "has the right limit without a penalty",
            "Without a penalty nothing is shrunk.",
        ),
    ],
    mistakes=[
        Mistake("no-count", "penalty * count", "penalty", 3, "Is the penalty per entry?"),
        Mistake("sign", "values + penalty", "values - penalty", 3, "A penalty never enlarges."),
        Mistake("complement", "return values /", "return 1 - values /", 5, "This part is lost."),
        Mistake("sum", "count = len(values)", "count = values.sum()", 3, "Count, do not add."),
        Mistake("column", "+ penalty * count)", "+ penalty * count)[:, None]", 5, "Keep one axis."),
    ],
    practice=[("share", (0.5, np.array([1.0, 2.5, 3.0])))],
)
### END HIDDEN TESTS"""

POWER_ANSWER = '''def power(base, exponent):
    """Return base to the exponent."""
    ### BEGIN SOLUTION
    return base**exponent
    ### END SOLUTION


### BEGIN SOLUTION
practice = power(1.5, 3)
answer = power(numbers["base"], numbers["exponent"])
### END SOLUTION
'''
POWER_TESTS = """### BEGIN HIDDEN TESTS
from iclkit.classroom.spec import *

exercise = Exercise(
    tests=[
        Number("answer", lambda numbers: numbers["base"] ** numbers["exponent"], 2),
        Values("power", lambda rng: [(float(rng.uniform(1, 2)), 4.5)], 1),
    ],
    mistakes=[
        Mistake("product", "return base**exponent", "return base * exponent", 3, "Not a product."),
        Mistake("swap", "return base**exponent", "return exponent**base", 3, "Which is the base?"),
        Mistake("inverse", "return base**exponent", "return base**-exponent", 3, "Mind the sign."),
        Mistake("other", 'power(numbers["base"]', 'power(1 + numbers["base"]', 2, "Whose base?"),
        Mistake("practice", 'numbers["exponent"]', "3", 2, "Use your own exponent."),
    ],
    practice=[("practice", ())],
    numbers={"base": (1.1, 1.3, 1.7, 1.9), "exponent": (2, 4, 5, 6, 7)},
)
### END HIDDEN TESTS"""

MEAN_ANSWER = '''def mean(scale, n_draws, seed):
    """Return the mean of squared Gaussians of a scale, and its standard error."""
    ### BEGIN SOLUTION
    draws = scale * np.random.default_rng(seed).normal(size=n_draws)
    squares = draws**2
    return squares.mean(), squares.std(ddof=1) / np.sqrt(n_draws)
    ### END SOLUTION
'''
MEAN_TESTS = """### BEGIN HIDDEN TESTS
from iclkit.classroom.spec import *


def cases(rng):
    return [(float(rng.uniform(2, 3)), 4000)]


exercise = Exercise(
    tests=[
        Estimate(
            "mean", cases, lambda scale, n: (scale**2, scale**2 * np.sqrt(2 / n)), 4
        ),
        Values("mean", lambda rng: [(0.0, 10, 1)], 1),
    ],
    mistakes=[
        Mistake("deviation", " / np.sqrt(n_draws)", "", 4, "Deviation or error of the mean?"),
        Mistake("variance", " / np.sqrt(n_draws)", " / n_draws", 4, "The square root is missing."),
        Mistake("abs", "draws**2", "np.abs(draws)", 4, "Square it."),
        Mistake("scale", "scale * np", "np.sqrt(scale) * np", 4, "A scale is no variance."),
        Mistake("shift", "draws**2", "draws**2 + 1", 5, "Where does the constant come from?"),
    ],
    practice=[("mean", (0.0, 10, 1))],
    rubric=[Criterion(2, "says why the error falls as one over the root", "only quotes it")],
)
### END HIDDEN TESTS"""


def cell(kind, name, source, role=None, **metadata):
    """Return a cell; `role` is what nbgrader is told of it."""
    if role:
        grade = {"grade_id": name, "schema_version": 3, "task": False, **role}
        metadata["nbgrader"] = grade
    made = {"cell_type": kind, "id": name, "metadata": metadata, "source": source}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def about(**changes):
    """Return the metadata of an exercise."""
    return {
        "kind": "code",
        "difficulty": "easy",
        "importance": 2,
        "minutes": 10,
        "prerequisites": ["nothing"],
        "prepares": "the next one",
        "goals": [["04_phase_transition", 1]],
        "help": ["Look again.", "And again."],
    } | changes


def exercise(key, answer, tests, points, derivation=0):
    """Return the cells of an exercise."""
    cells = [
        cell("markdown", key, f"## {key.title()}\n\nDo it.", LOCKED, exercise=about()),
        cell("code", f"{key}-answer", answer, ANSWER),
        cell("code", f"{key}-tests", tests, TESTS | {"points": points}),
    ]
    text = "### BEGIN SOLUTION\nBecause variances add.\n### END SOLUTION"
    if derivation:
        cells.append(cell("markdown", f"{key}-derivation", text, READ | {"points": derivation}))
    return cells


def notebook():
    """Return the instructor's notebook."""
    cells = [
        cell("markdown", "title", "# A toy assignment\n\nThree small questions."),
        cell("code", "setup", "import numpy as np", LOCKED),
        *exercise("share", SHARE_ANSWER, SHARE_TESTS, 5),
        *exercise("power", POWER_ANSWER, POWER_TESTS, 3),
        *exercise("mean-square", MEAN_ANSWER, MEAN_TESTS, 5, derivation=2),
    ]
    metadata = {
        "classroom": {"chapter": "04_phase_transition"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    }
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def written(folder, made=None, name="toy"):
    """Write a notebook into a folder and return its path."""
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps(made or notebook()), encoding="utf-8")
    return path
