"""Under a figure stands what made it; its report and its files carry the same facts."""

import json
import re
import subprocess
import sys
from contextlib import ExitStack
from urllib.parse import parse_qs, urlsplit

import pytest
from py_mini_racer import mini_racer

from iclkit import __version__
from iclkit.bench import plots
from iclkit.bench.records import FIGURE_MIME
from iclkit.bench.runner import Manifest, Run, notebook_names, read_notebook
from iclkit.site import provenance, slices
from iclkit.site.provenance import KINDS, Place, kind, origin
from tests.book.figures import FIGURES

SETUP = """import pandas as pd
from iclkit.bench import plots
from iclkit.bench.sweep import grid
from iclkit.papers import phase_transition as pt

sizes = {"n": {"quick": 3, "book": (4, 5)}, "m": {"quick": 1, "book": 2}}
size = {part: choices[profile] for part, choices in sizes.items()}"""
WORK = """alpha = [1, 2, 4.5]
table = pd.DataFrame(grid(alpha=alpha, n=size["n"]))
table["icl"] = pt.learning_curve(table.alpha, 0.5, 2.0, 0.01).icl
look = {"x": "alpha", "y": "icl"}"""
SHOW = """plots.show(
    plots.curves(table, **look, hue="n"),
    name="a-figure",
    caption=r"Figure 2 A of the paper: error, $\\alpha=1:2$. Lines: theory.",
    alt="A line that falls from the left to the right.",
    data=table,
)"""
LIVE = '```{raw} html\n<div class="phase-diagram"><p>No script.</p></div>\n```'
MADE = Manifest(
    notebook="04_toy",
    key="k",
    profile="book",
    seed=3,
    commit="abc1234567",
    date="2026-11-23",
    seconds=9.0,
    peak_memory_mb=100,
    machine="2 cores",
    versions={},
)
HERE = Place(
    MADE,
    frozenset({"iclkit.bench.sweep.grid", "iclkit.papers.phase_transition.learning_curve"}),
)


def code_cell(name, source, duration=None, outputs=()):
    metadata = {"papermill": {"duration": duration}} if duration is not None else {}
    return {
        "cell_type": "code",
        "id": name,
        "metadata": metadata,
        "source": source,
        "outputs": list(outputs),
    }


@pytest.fixture(scope="module")
def bundle():
    """What the notebook of these cells leaves in its outputs."""
    found = []
    source = "\n".join(['profile = "book"', SETUP, WORK, SHOW])
    space = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "show", lambda *a, **k: found.append(plots.figure_bundle(*a, **k)))
        exec(source, space)  # noqa: S102 - the text above
    return found[0]


@pytest.fixture
def cells(bundle):
    return [
        code_cell("parameters", 'profile = "book"\nseed = 3', 0.01),
        code_cell("setup", SETUP, 0.2),
        code_cell("work", WORK, 12.3),
        code_cell("other", "unused = 5", 99.0),
        code_cell("figure", SHOW, 0.04, [{"output_type": "display_data", "data": dict(bundle)}]),
        {"cell_type": "markdown", "id": "live", "metadata": {}, "source": LIVE},
    ]


@pytest.fixture
def below(cells, tmp_path):
    return provenance.under_figures(cells, {"cells": cells}, HERE, tmp_path)


@pytest.fixture
def text(below):
    return below["figure"][0]["source"]


def field(text, name):
    return re.search(rf"^:{name}: (.*?)(?=^:\w|\n\n)", text, re.DOTALL | re.MULTILINE)[1].strip()


def test_line_stands_under_each_figure_and_the_script_once(below):
    assert [cell["id"] for cell in below["figure"]] == ["made-a-figure"]
    assert [cell["id"] for cell in below["live"]] == ["made-live-phase", "report-script"]
    assert set(below) == {"figure", "live"}


def test_summary_has_a_name_of_its_own_and_an_anchor(text):
    assert '<details class="provenance" id="a-figure-provenance">' in text
    assert "<summary>Provenance of <code>a-figure</code></summary>" in text
    assert text.count("</details>") == 1


def test_figure_names_what_it_repeats(text):
    assert field(text, "Shows") == "Figure 2 A of the paper."
    assert "{numref}`a-figure`" in field(text, "Figure")


def test_calls_are_linked_where_they_are_described(text):
    calls = field(text, "Library calls")
    assert "{py:obj}`grid <iclkit.bench.sweep.grid>` `(alpha=alpha, n=size['n'])`" in calls
    assert (
        "{py:obj}`learning_curve <iclkit.papers.phase_transition.learning_curve>` "
        "`(table.alpha, 0.5, 2.0, 0.01)`"
    ) in calls
    assert "curves" not in calls  # it draws
    assert "DataFrame" not in calls


def test_call_without_a_description_is_no_link(cells, tmp_path):
    bare = Place(MADE)
    below = provenance.under_figures(cells, {"cells": cells}, bare, tmp_path)
    calls = field(below["figure"][0]["source"], "Library calls")
    assert "py:obj" not in calls
    assert "`grid` `(alpha=alpha, n=size['n'])`" in calls


def test_settings_are_the_sizes_of_the_profile_and_numbers(text):
    assert field(text, "Settings").splitlines() == [
        "- `size['n'] = (4, 5)`",
        "  - `alpha = [1, 2, 4.5]`",
    ]


def test_sizes_of_the_other_shape_are_read_too():
    source = 'size = {"quick": {"n": 1}, "book": {"n": 2}}[profile]'
    code = slices.statements([code_cell("a", source)])
    assert provenance.sizes_of(code, "book") == {"n": "2"}
    assert provenance.sizes_of(code, "paper") == {}


def test_run_says_seed_profile_version_commit_and_seconds(text):
    assert field(text, "Run") == (
        f"Profile `book`, seed 3, iclkit {__version__}, commit `abc1234567`. "
        "Its cell took under 0.1 s, the 3 earlier cells that it needs 13 s."
    )


def test_seconds_are_unsaid_where_nobody_measured(cells, tmp_path):
    for cell in cells:
        cell["metadata"] = {}
    below = provenance.under_figures(cells, {"cells": cells}, HERE, tmp_path)
    assert field(below["figure"][0]["source"], "Run").endswith("commit `abc1234567`.")


def test_files_are_the_data_the_picture_and_a_program(below, bundle, tmp_path):
    files = field(below["figure"][0]["source"], "Files")
    for ending in ("csv", "svg", "py"):
        assert f"<data/04_toy/a-figure.{ending}>" in files
    assert (tmp_path / "a-figure.csv").read_bytes().decode() == bundle[FIGURE_MIME]["csv"]
    assert (tmp_path / "a-figure.svg").read_bytes().decode() == bundle["image/svg+xml"]


def test_program_makes_the_same_bytes_alone(below, tmp_path):
    program = tmp_path / "a-figure.py"
    assert "unused" not in program.read_text()
    assert "seed" not in program.read_text().split('"""')[2]
    place = tmp_path / "alone"
    place.mkdir()
    done = subprocess.run([sys.executable, program], cwd=place, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for name in ("a-figure.csv", "a-figure.svg"):
        assert (place / name).read_bytes() == (tmp_path / name).read_bytes()


def test_figure_without_data_or_call_has_fewer_files(cells, tmp_path):
    record = cells[4]["outputs"][0]["data"][FIGURE_MIME]
    cells[4]["outputs"][0]["data"][FIGURE_MIME] = record | {"csv": None, "name": "made-by-hand"}
    below = provenance.under_figures(cells, {"cells": cells}, HERE, tmp_path)
    text = below["figure"][0]["source"]
    assert field(text, "Files") == ("{download}`figure (SVG) <data/04_toy/made-by-hand.svg>`.")
    assert "Library calls" not in text
    assert [f.name for f in tmp_path.iterdir()] == ["made-by-hand.svg"]


def test_report_without_an_address_is_lines_to_read(text):
    for line in (
        "Figure: a-figure",
        "Page: notebooks/04_toy",
        f"Version: iclkit {__version__}, commit abc1234567",
        "Run: profile book, seed 3, 2026-11-23, 2 cores",
    ):
        assert line in text
    assert "<a href" not in text


def test_report_with_an_address_is_a_link_that_carries_the_lines(cells, tmp_path):
    place = HERE._replace(address="https://example.org/a/b")
    below = provenance.under_figures(cells, {"cells": cells}, place, tmp_path)
    link = re.search(r'<a href="([^"]+)">Report a problem', below["figure"][0]["source"])[1]
    parts = urlsplit(link.replace("&amp;", "&"))
    query = parse_qs(parts.query, keep_blank_values=True)
    assert parts.path == "/a/b/issues/new"
    assert query["title"] == ["Figure a-figure"]
    assert query["body"][0].splitlines()[:2] == ["Figure: a-figure", "Page: notebooks/04_toy"]
    assert "seed 3" in query["body"][0]


def test_interactive_figure_names_script_and_library(below):
    text = below["live"][0]["source"]
    assert "{download}`phase_theory.js <../book/_static/phase_theory.js>`" in text
    assert "{py:obj}`learning_curve <iclkit.papers.phase_transition.learning_curve>`" in text
    assert 'id="live-phase-provenance"' in text
    assert "Figure: phase-diagram" in text


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_functions_named_under_interactive_figures_are_those_of_their_tests(figure, root):
    module, functions = provenance.LIVE[figure.name]
    test = (root / f"tests/book/test_{figure.name}_diagram.py").read_text()
    assert module.rpartition(".")[2] in test
    for function in functions:
        assert re.search(rf"\b{function}\b", test), function
    assert {f"{module}.{f}" for f in functions} <= provenance.documented(root)
    assert (root / "book/_static" / figure.theory).exists()


@pytest.mark.parametrize(
    ("caption", "said", "of"),
    [
        ("Figure 1 A, B of the paper: errors.", "Figure 1 A, B of the paper", "of the paper"),
        ("Theorem 6.3 of the paper beside the flow. Top: x.", None, "of the paper"),
        ("The experiment of the paper's Figure 3 c on other data: e.", None, "of the paper"),
        ("New here: the gap.", "New here", "new here"),
        ("New here, after a figure of the paper: d.", None, "new here"),
        ("Figure 6 of the paper for another model (new here): e.", None, "new here"),
        ("Theorem 6.3 of the paper (the bounds are new here). Top: x.", None, "of the paper"),
        ("Illustration of Corollary 6.2: excess.", "Illustration of Corollary 6.2", "illustration"),
        ("After the paper's maps: x. Illustration.", None, "illustration"),
        (r"Illustration: $a=1. 2: 3$ and more.", "Illustration", "illustration"),
        ("A line.", "", "illustration"),
    ],
)
def test_caption_says_what_a_figure_repeats(caption, said, of):
    assert kind(caption) == of
    assert said is None or origin(caption) == said


def captions(root):
    """Yield the captions in the notebooks, with what only a run knows left out."""
    for name in notebook_names(root):
        code = slices.statements(read_notebook(root / f"notebooks/{name}.ipynb")["cells"])
        for show in slices.shows(code):
            node = next(k.value for k in show.call.keywords if k.arg == "caption")
            parts = [n.value for n in slices.ast.walk(node) if type(n) is slices.ast.Constant]
            yield show.name, "".join(map(str, parts))


def test_every_figure_says_what_it_repeats(root):
    found = dict(captions(root))
    assert len(found) > 100
    assert [name for name, caption in found.items() if not origin(caption)] == []
    assert {kind(caption) for caption in found.values()} == set(KINDS)


def test_api_pages_describe_what_is_linked(root):
    found = provenance.documented(root)
    assert "iclkit.rng.stream" in found
    assert "iclkit.papers.phase_transition.learning_curve" in found
    assert "iclkit.papers.data_mixing.RIDGES" not in found  # no function
    assert provenance.documented(root / "nowhere") == frozenset()


def test_list_of_figures_has_number_sentence_and_files(cells, tmp_path):
    path = tmp_path / "04_toy.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    page = provenance.figures_page([Run(path, MADE, fresh=False)])
    assert "## 4 Toy" in page
    assert (
        r"- {numref}`a-figure`. Figure 2 A of the paper: error, $\alpha=1:2$. "
        "{download}`data <../notebooks/data/04_toy/a-figure.csv>`, "
        "{download}`SVG <../notebooks/data/04_toy/a-figure.svg>`, "
        "{download}`program <../notebooks/data/04_toy/a-figure.py>`"
    ) in page
    assert "| {doc}`../notebooks/04_toy` | 1 | 0 | 0 |" in page
    assert "| all | 1 | 0 | 0 |" in page
    assert "- Interactive: the phase diagram in {doc}`../notebooks/04_toy`." in page


SCRIPT_PAGE = """
const made = (tag) => ({ tag, hidden: false, textContent: "", attributes: {}, listeners: {},
  setAttribute(k, v) { this.attributes[k] = v; },
  addEventListener(k, f) { this.listeners[k] = f; },
  focus() { this.focused = true; }, select() { this.selected = true; },
  append(...x) { this.children = x; }, replaceChildren(...x) { this.children = x; },
  replaceWith(...x) { place.inside = x; place.lines = null; } });
const lines = Object.assign(made("pre"), { textContent: "Figure: a-figure\\nProblem: " });
const link = made("a");
const span = Object.assign(made("span"), { textContent: "Report a problem; these lines" });
const head = Object.assign(made("p"), {
  querySelector: (s) => (s === "a" ? (linked ? link : null) : span) });
const box = Object.assign(made("details"), { open: false });
const place = { lines, closest: () => box,
  querySelector: (s) => (s === "pre" ? place.lines : head) };
const document = { querySelectorAll: () => [place], createElement: made,
  execCommand: (word) => { commands.push(word); return allowed; } };
const commands = [], navigator = {};
"""


@pytest.fixture
def script(root):
    """Run the script of the page; linked: an address is known, allowed: copying is."""
    stack = ExitStack()

    def start(*, linked=False, allowed=True, opened=True):
        engine = stack.enter_context(mini_racer())
        engine.eval(f"const linked = {json.dumps(linked)}, allowed = {json.dumps(allowed)};")
        engine.eval(SCRIPT_PAGE)
        engine.eval((root / "book/_static/report.js").read_text("ascii"))
        if opened:
            engine.eval("box.listeners.toggle()")
        return engine

    with stack:
        yield start


def test_button_shows_and_copies_the_lines_without_the_clipboard(script):
    page = script()
    assert page.eval("head.children[0].textContent") == "Report a problem"
    assert page.eval("place.inside[0].hidden") is True
    page.eval("head.children[0].listeners.click()")
    assert page.eval("place.inside[0].hidden") is False
    assert page.eval("place.inside[0].value") == "Figure: a-figure\nProblem: "
    assert page.eval("place.inside[0].selected && commands[0]") == "copy"
    assert page.eval("place.inside[1].textContent").startswith("Copied.")
    assert page.eval("place.inside[0].attributes['aria-label']") == "Report, Figure: a-figure"


def test_no_field_is_made_before_the_box_is_opened(script):
    page = script(opened=False)
    assert page.eval("place.lines === lines && place.inside === undefined")


def test_page_says_how_to_copy_where_it_may_not(script):
    page = script(allowed=False)
    page.eval("head.children[0].listeners.click()")
    assert page.eval("place.inside[1].textContent").startswith("Press Ctrl+C")


def test_link_stays_where_an_address_is_known(script):
    page = script(linked=True)
    assert page.eval("head.children[1].textContent") == "Copy the report"


def test_script_can_run_twice(script, root):
    page = script()
    page.eval((root / "book/_static/report.js").read_text("ascii"))
    assert page.eval("place.inside.length") == 2
