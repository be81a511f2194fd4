"""A slice runs alone and gives what the whole program gives, for toys and for real figures."""

import builtins
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.bench import plots
from iclkit.bench.records import FIGURE_MIME
from iclkit.bench.runner import notebook_names, read_notebook
from iclkit.site import slices


def cells(*sources):
    return [
        {"id": f"c{i}", "cell_type": "code", "metadata": {}, "source": source}
        for i, source in enumerate(sources)
    ]


def sliced(source, *names):
    code = slices.statements(cells(source))
    return code.program(code.slice(names, len(code.statements))).strip().splitlines()


def run(source):
    space = {}
    exec(source, space)  # noqa: S102 - programs of this test and of the notebooks
    return space


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("a = 1\na = 2\nb = a", "a = 2|b = a"),
        ("a = []\na.append(1)\nc = 3\nb = a", "a = []|a.append(1)|b = a"),
        ("a = {}\na['x'] = 1\nb = a", "a = {}|a['x'] = 1|b = a"),
        ("a = 1\na += 2\nb = a", "a = 1|a += 2|b = a"),
        ("a = [1]\na[0] += 2\nb = a", "a = [1]|a[0] += 2|b = a"),
        ("a, c = 1, 2\nd = c\nb = a", "a, c = 1, 2|b = a"),
        ("x = 1\nb = [x for x in (1, 2)]", "b = [x for x in (1, 2)]"),
        ("x = 1\nb = [x + y for y in (1, 2)]", "x = 1|b = [x + y for y in (1, 2)]"),
        ("x = 1\nx = 2\nb = (lambda: x)()", "x = 2|b = (lambda: x)()"),
        ("x, y = [0], 5\nz = x\nz.append(1)\nb = z", "x, y = [0], 5|z = x|z.append(1)|b = z"),
        ("a = 1\nb = 2\nassert a == 1", "b = 2"),
        ("a = 1\nif a:\n    b = 2\nb = 3", "b = 3"),
    ],
)
def test_slice_holds_what_is_needed_and_no_more(source, kept):
    assert sliced(source, "b") == kept.split("|")


def test_choice_keeps_what_stood_before_it():
    source = "b = 1\nif unknown:\n    b = 2"
    assert sliced(source, "b") == source.splitlines()


def test_choice_that_binds_in_both_branches_hides_what_stood_before_it():
    source = "t = True\nb = 1\nif t:\n    b = 2\nelse:\n    b = 3"
    assert "b = 1" not in sliced(source, "b")


def test_loop_reads_its_own_names_from_itself():
    source = "x = 9\ny = 8\nb = []\nfor x in (1, 2):\n    y = x\n    b.append(y)"
    kept = sliced(source, "b")
    assert kept == ["b = []", "for x in (1, 2):", "    y = x", "    b.append(y)"]


def test_loop_that_adds_up_reads_the_start():
    source = "b = 5\nfor x in (1, 2):\n    b = b + x"
    assert sliced(source, "b") == source.splitlines()


def test_function_reads_names_where_it_is_called():
    source = "k = 1\ndef f():\n    return g() + k\ndef g():\n    return 1\nk = 2\nb = f()"
    kept = sliced(source, "b")
    assert "k = 2" in kept
    assert "k = 1" not in kept
    assert run("\n".join(kept))["b"] == 3


def test_lambda_in_a_table_finds_what_comes_later():
    source = "t = {'x': lambda: f()}\ndef f():\n    return 4\nb = t['x']()"
    assert run("\n".join(sliced(source, "b")))["b"] == 4


def test_draws_between_keep_the_generator_in_step():
    source = (
        "from iclkit.rng import stream\nseed = 1\ndraw = stream(seed, 'a').normal\n"
        "unused = draw(size=3)\nb = draw()"
    )
    assert run("\n".join(sliced(source, "b")))["b"] == run(source)["b"]
    assert "unused = draw(size=3)" in sliced(source, "b")


def test_changes_of_a_part_change_the_whole():
    source = "figure = make()\naxes = figure.axes[0]\naxes.contour(1)\nother = 2\nb = figure"
    kept = sliced(source, "b")
    assert "axes.contour(1)" in kept
    assert "other = 2" not in kept


@pytest.mark.parametrize("binding", ["a = box.axes[0]", "a = box.subplots()", "a, c = box.parts"])
def test_part_bound_again_is_no_part(binding):
    source = f"box = make()\n{binding}\na = []\na.append(1)\nb = box"
    assert "a.append(1)" not in sliced(source, "b")


def test_loop_over_parts_changes_the_whole():
    source = "figure = make()\nfor axes in figure.axes:\n    axes.set(x=1)\nb = figure"
    assert "for axes in figure.axes:" in sliced(source, "b")


def test_methods_for_effect_of_modules_are_no_changes():
    source = "import matplotlib.pyplot as plt\nplt.show(3)\nb = plt"
    assert sliced(source, "b") == ["import matplotlib.pyplot as plt", "", "b = plt"]


def test_imports_are_reduced_to_what_is_used():
    source = "from iclkit.prompts import Sphere, Gaussian\nimport numpy as np\nb = Gaussian"
    assert sliced(source, "b")[0] == "from iclkit.prompts import Gaussian"


def test_cells_that_install_are_no_part_and_magics_do_not_stop():
    code = cells("%pip install x\nb = 1", "b = 2")
    code[0]["metadata"] = {"tags": ["remove-cell"]}
    assert [s.text for s in slices.statements(code).statements] == ["b = 2"]
    assert len(slices.statements(cells("%matplotlib inline\nb = 1")).statements) == 2


def test_program_keeps_decorators_and_texts():
    source = "import functools\n\n@functools.cache\ndef f():  # why\n    return 1_000\n\nb = f()"
    text = "\n".join(sliced(source, "b"))
    assert "@functools.cache\ndef f():  # why\n    return 1_000" in text
    assert run(text)["b"] == 1000


NAMES = st.sampled_from("abcd")
LINES = st.one_of(
    st.builds("{} = [{}]".format, NAMES, st.integers(0, 9)),
    st.builds("{} = {}[:]".format, NAMES, NAMES),
    st.builds("{}.append(len({}))".format, NAMES, NAMES),
    st.builds("{}[0] += {}[-1]".format, NAMES, NAMES),
    st.builds("{} += [1]".format, NAMES),
    st.builds("{0} = {0} + {1}".format, NAMES, NAMES),
    st.builds("for {0} in ([1], [2]):\n    {1}.append({0}[0])".format, NAMES, NAMES),
    st.builds("for i in (1, 2):\n    {0} = {1}[:]\n    {0}.append(i)".format, NAMES, NAMES),
    st.builds("if sum({}) % 2:\n    {} = [0]\nelse:\n    e = 1".format, NAMES, NAMES),
    st.builds("if sum({}) % 2:\n    {}.append(7)".format, NAMES, NAMES),
    st.builds("def f():\n    return [*{}, 3]".format, NAMES),
    st.builds("{} = f()".format, NAMES),
    st.builds("{} = [x + {}[0] for x in {}]".format, NAMES, NAMES, NAMES),
)


@settings(deadline=None)
@given(st.lists(LINES, min_size=1, max_size=14), NAMES)
def test_any_program_and_its_slice_agree(lines, name):
    start = [f"{n} = [{i}]" for i, n in enumerate("abcd")]
    source = "\n".join([*start, "def f():\n    return [5]", *lines])
    assert run("\n".join(sliced(source, name)))[name] == run(source)[name]


def test_library_calls_have_full_names_and_arguments():
    code = slices.statements(
        cells("from iclkit.papers import dual_kernel as dk\nfrom iclkit.bench.sweep import sweep")
    )
    tree = slices.statements(cells("x = sweep(dk.attend, [1], seed=0)")).statements[0].node
    assert slices.library_calls([tree], code) == [
        ("iclkit.bench.sweep.sweep", "dk.attend, [1], seed=0"),
        ("iclkit.papers.dual_kernel.attend", None),
        ("iclkit.papers.dual_kernel", None),
    ]


@pytest.fixture(scope="module")
def codes():
    root = Path(__file__).resolve().parents[3]
    found = {}
    for name in notebook_names(root):
        found[name] = slices.statements(read_notebook(root / f"notebooks/{name}.ipynb")["cells"])
    return found


def test_slices_of_all_figures_are_whole_and_small(codes):
    shares = []
    for page, code in codes.items():
        for name, at, _ in slices.shows(code):
            show = code.statements[at]
            chosen = [code.statements[p] for p in code.slice(show.names.reads, at)]
            bound = frozenset().union(*(s.names.may_bind for s in chosen))
            read = frozenset().union(show.names.reads, *(s.names.reads | s.late for s in chosen))
            lost = {n for n in read - bound if not hasattr(builtins, n)}
            assert not lost, f"{page}, {name}: nothing in its program binds {lost}"
            shares.append(len(chosen) / len(code.statements))
    assert len(shares) > 100
    assert sum(shares) / len(shares) < 0.25  # a slice that takes all would also be whole


@pytest.mark.parametrize(
    ("page", "name"),
    [("04_phase_transition", "lu-headline"), ("01_dual_kernel", "re-headline")],
)
def test_program_of_a_figure_makes_the_bytes_of_the_notebook(codes, page, name, monkeypatch):
    code = codes[page]
    at = next(show.at for show in slices.shows(code) if show.name == name)
    found = []
    monkeypatch.setattr(plots, "show", lambda *a, **k: found.append(plots.figure_bundle(*a, **k)))
    whole = "\n".join(s.text for s in code.statements[: at + 1])
    places = code.slice(code.statements[at].names.reads, at)
    run(whole)
    run(f"{code.program(places)}\n{code.statements[at].text}")
    before, alone = found[-2:]
    assert alone[FIGURE_MIME]["name"] == name
    assert alone == before
