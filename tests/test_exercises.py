"""Exercises: each has a solution, and the code of a solution runs and passes its assertions.

A block of code is executed after the cells of its page that define the names it uses, at profile
quick, and after nothing else.
"""

import ast
import builtins
import re
import runpy
import symtable
from pathlib import Path

import pytest

from iclkit.bench.runner import notebook_names, read_notebook

ROOT = Path(__file__).resolve().parents[1]
DIRECTIVE = r"^(?P<fence>`{3,})\{%s\} (?P<head>[^\n]+)\n(?P<body>.*?)^(?P=fence)$"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABEL = re.compile(r"^:label: (\S+)$", re.MULTILINE)
#: Difficulty, time, and the statement, figure or step that an exercise prepares.
CARD = re.compile(r"^\*(Easy|Medium|Hard|Open), \d+ minutes; prepares \S.*\*$", re.MULTILINE)
#: Least number of solutions with code on a page; more may be added, none may drop out.
FLOOR = {
    "01_dual_kernel": 7,
    "01_softmax_features": 6,
    "01_generalisation": 5,
    "01_modifications": 4,
    "01_past_the_paper": 5,
    "02_linear_block": 10,
    "02_gradient_flow": 4,
    "02_trained_blocks": 3,
    "02_past_the_paper": 5,
    "03_data_mixing": 5,
    "03_good_sources": 3,
    "03_mixing_theory": 5,
    "03_past_the_paper": 3,
    "03_real_languages": 3,
    "04_phase_transition": 9,
    "04_trained_models": 4,
    "04_past_the_paper": 6,
}
#: Pages that promise that a solution needs only the first two cells.
SELF_CONTAINED = ("02_linear_block", "02_gradient_flow", "04_phase_transition")
#: Pages whose exercises say how hard they are, how long they take, and what for.
DESCRIBED = tuple(FLOOR)


def prose(notebook):
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"]


def code_cells(notebook):
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code" and c["id"] != "install"]
    return {c["id"]: "".join(c["source"]) for c in cells}


def directives(kind, texts):
    """Return (head, body) of each directive of a kind."""
    pattern = re.compile(DIRECTIVE % kind, re.MULTILINE | re.DOTALL)
    return [(m["head"].strip(), m["body"]) for text in texts for m in pattern.finditer(text)]


def blocks(texts):
    """Return (label, code) of each block of code in a solution."""
    found = directives("solution", texts)
    return [(label, code) for label, body in found for code in PYTHON.findall(body)]


def read(name):
    return read_notebook(ROOT / "notebooks" / f"{name}.ipynb")


PAGES = notebook_names(ROOT)
BLOCKS = [(name, *found) for name in PAGES for found in blocks(prose(read(name)))]


# ------------------------------------------------------------------ which cells a block needs


def tables(table):
    """Return the symbol table of a module and those of all functions and classes inside."""
    return [table, *(inner for child in table.get_children() for inner in tables(child))]


def binds(code):
    """Return the names that code leaves behind."""
    symbols = symtable.symtable(code, "cell", "exec").get_symbols()
    return {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}


def reads(code):
    """Return the names that code expects to exist."""
    top, *inner = tables(symtable.symtable(code, "cell", "exec"))
    used = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    used |= {s.get_name() for t in inner for s in t.get_symbols() if s.is_global()}
    return used - binds(code) - set(dir(builtins))


def needed(code, cells):
    """Return the ids of the cells that code needs, in the order of the page."""
    wanted, chosen = reads(code), []
    for cell, source in reversed(cells.items()):
        if wanted & binds(source) or cell == "parameters":
            wanted = (wanted - binds(source)) | reads(source)
            chosen.append(cell)
    return chosen[::-1]


def execute(code, cells, folder):
    """Run the cells that code needs, and then code; return all names."""
    before = [cells[cell] for cell in needed(code, cells)]
    before.insert(1, 'profile = "quick"')  # after the parameters
    path = folder / "solution.py"
    path.write_text("\n\n".join([*before, code]))
    return runpy.run_path(str(path))


# ------------------------------------------------------------------ the pages


@pytest.mark.parametrize(
    ("name", "code"),
    [(name, code) for name, _, code in BLOCKS],
    ids=[f"{name}-{label}" for name, label, _ in BLOCKS],
)
def test_solution_runs_and_ends_in_an_assertion(name, code, tmp_path):
    assert isinstance(ast.parse(code).body[-1], ast.Assert)
    execute(code, code_cells(read(name)), tmp_path)


@pytest.mark.parametrize("name", SELF_CONTAINED)
def test_solutions_need_only_the_first_two_cells(name):
    cells = code_cells(read(name))
    first = list(cells)[:2]
    assert first == ["parameters", "imports"]
    for page, label, code in BLOCKS:
        assert page != name or set(needed(code, cells)) <= set(first), label


@pytest.mark.parametrize("name", PAGES)
def test_no_code_of_a_solution_is_overlooked(name):
    found = [label for page, label, _ in BLOCKS if page == name]
    assert len(found) >= FLOOR.get(name, 0)
    bodies = [body for _, body in directives("solution", prose(read(name)))]
    assert "".join(bodies).count("```python") == len(found)


@pytest.mark.parametrize("name", PAGES)
def test_every_exercise_has_one_solution(name):
    texts = prose(read(name))
    exercises = [LABEL.search(body)[1] for _, body in directives("exercise", texts)]
    solutions = [head for head, _ in directives("solution", texts)]
    opened = sum(text.count("{exercise}") for text in texts)
    assert len(exercises) == len(set(exercises)) == opened
    assert sorted(exercises) == sorted(solutions)


@pytest.mark.parametrize("name", DESCRIBED)
def test_exercises_say_how_hard_and_what_for(name):
    for title, body in directives("exercise", prose(read(name))):
        assert CARD.search(body), title


class TestCheckItself:
    CELLS = {  # noqa: RUF012  (never changed)
        "parameters": 'profile = "book"',
        "imports": "import math\nsizes = {'quick': 2, 'book': 3}\nsize = sizes[profile]",
        "broken": "raise RuntimeError\nother = 1",
        "helper": "def area(r):\n    return math.pi * r**size",
    }

    def page(self, code):
        solution = f"{{solution}} a\n:class: dropdown\n\nBecause.\n\n```python\n{code}\n```"
        return [f"Before.\n\n````{solution}\n````\n\nAfter."]

    def test_finds_a_block(self):
        assert blocks(self.page("assert 1")) == [("a", "assert 1\n")]

    def test_runs_what_a_block_needs_and_no_more(self, tmp_path):
        code = "from math import isclose\n\n\nassert isclose(area(1), 3.141592653589793)"
        assert needed(code, self.CELLS) == ["parameters", "imports", "helper"]
        assert execute(code, self.CELLS, tmp_path)["size"] == 2

    def test_sees_a_wrong_number(self, tmp_path):
        (_, code), *_ = blocks(self.page("assert abs(area(1) - 3.15) < 1e-9"))
        with pytest.raises(AssertionError):
            execute(code, self.CELLS, tmp_path)

    def test_a_name_that_a_block_binds_is_not_looked_for(self):
        assert reads("x = [y for y in z]\nx.sort()\n\ndef f(a):\n    return a + b + x") == {
            "z",
            "b",
        }
