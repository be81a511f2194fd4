"""The house: layers, light import, notebooks without outputs, pages that tell the truth."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from iclkit.bench import sources
from iclkit.bench.claims import load_claims
from iclkit.bench.runner import check_parameters, notebook_names, read_notebook
from tools import launch, lock

ROOT = Path(__file__).resolve().parents[1]
ASSIGNMENTS = sorted((ROOT / "notebooks" / "assignments").glob("*.ipynb"))
NOTEBOOKS = [ROOT / "notebooks" / f"{name}.ipynb" for name in notebook_names(ROOT)]
MODULES = sorted((ROOT / "iclkit").rglob("*.py"))
# A module imports only modules of lower rank.
SCIENCE = [
    "_deprecation",
    "_checks",
    "rng",
    "corpora",
    "hermite",
    "prompts",
    "features",
    "moments",
    "solvers",
    "predictors",
    "risk",
    "nets",
    "papers",
]
BENCH = [
    "records",
    "fingerprint",
    "store",
    "backends",
    "batches",
    "sweep",
    "checks",
    "claims",
    "kept",
    "plots",
    "sources",
    "alone",
    "memory",
    "cache",
    "quiet",
    "origin",
    "runner",
    "drift",
    "archive",
    "seeds",
]
SITE = [
    "selfchecks",
    "links",
    "swept",
    "pages",
    "history",
    "frontmatter",
    "downloads",
    "materials",
    "pdf",
    "printing",
    "offline",
    "cards",
    "health",
    "growth",
    "benchmarks",
    "catalogue",
    "slices",
    "provenance",
    "scores",
    "assignments",
    "goals",
    "teaching",
    "book",
]
CLASSROOM = [
    "spec",
    "course",
    "values",
    "source",
    "desk",
    "confine",
    "isolation",
    "child",
    "sandbox",
    "marking",
    "submissions",
    "handout",
    "results",
    "layout",
    "feedback",
    "summary",
    "gradebook",
    "grading",
    "reports",
    "sheets",
    "leaks",
    "release",
]
# The classroom knows the science; the book's pages offer what the classroom hands out.
ABOVE = {("classroom", "science"), ("site", "classroom")}
NEUTRAL = {"rng", "_checks", "_deprecation"}  # they know neither prompts nor tables
GLUED = re.compile(r"\{glue:[a-z]*\}`[a-z]\w*(:\+?[.,\d]*[a-z])?`")
BINARY = {ROOT / "book/_static/math.woff2"}  # the font of the formulas
MAX_CELL_LINES = 30
MAX_NOTEBOOK_FUNCTION_LINES = 10
MAX_FILE_BYTES = 500_000


def tracked():
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def place(dotted):
    """Return (layer, rank) of a module of the package, or None for the command line."""
    parts = dotted.split(".")[1:]
    if not parts or parts[0] == "cli":
        return None
    if parts[0] in ("bench", "site"):  # the site stands on the bench
        return ("bench", [*BENCH, *SITE].index(parts[1])) if len(parts) > 1 else None
    if parts[0] == "classroom":
        return ("classroom", CLASSROOM.index(parts[1])) if len(parts) > 1 else None
    return ("science", SCIENCE.index(parts[0]))


def imports_of(path):
    package = path.relative_to(ROOT).parent.as_posix().replace("/", ".")
    return sources.modules_named(path.read_text(encoding="utf-8"), package)


def module_imports(path):
    """Return the imported names that are modules or members of modules, shortened to modules."""
    names = set()
    for name in imports_of(path):
        while not sources.files_of(name, ROOT) or not is_module(name):
            name = name.rpartition(".")[0]
        names.add(name)
    return names


def is_module(name):
    base = ROOT.joinpath(*name.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_layers(path):
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    here = place(dotted)
    if here is None:
        return
    for name in module_imports(path):
        there = place(name)
        if there is None or name == dotted:
            continue
        depth = 3 if dotted.split(".")[1] == "papers" else 2
        inside_one_package = dotted.split(".")[:depth] == name.split(".")[:depth]
        if name.split(".")[1] in NEUTRAL or (inside_one_package and here[0] == "science"):
            continue
        if (dotted.split(".")[1], there[0]) in ABOVE:
            continue
        assert there[0] == here[0], f"{dotted} imports {name} of the other stack"
        assert there[1] < here[1], f"{dotted} imports {name}, which is not of lower rank"


def test_layer_check_sees_a_forbidden_import(tmp_path):
    module = tmp_path / "bad.py"
    module.write_text("from iclkit.bench import sweep\n")
    assert sources.modules_named(module.read_text()) == ["iclkit.bench", "iclkit.bench.sweep"]
    assert place("iclkit.bench.sweep")[0] != place("iclkit.prompts")[0]
    assert place("iclkit.classroom.desk")[0] not in (place("iclkit.site.book")[0], "science")


@pytest.mark.parametrize("library", ["scipy", "nbformat", "nbgrader", "matplotlib", "pandas"])
def test_what_runs_at_the_student_s_needs_numpy_alone(library):
    code = f"import sys, iclkit.classroom.desk; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("library", ["torch", "pandas", "matplotlib"])
@pytest.mark.parametrize("module", ["iclkit", "iclkit.papers.phase_transition", "iclkit.risk"])
def test_import_is_light(module, library):
    code = f"import sys, {module}; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_torch_stays_in_one_package_that_no_other_imports(path):
    if path.parent == ROOT / "iclkit/nets":
        return
    names = {alias for node in ast.walk(ast.parse(path.read_text())) for alias in roots(node)}
    assert "torch" not in names
    assert not [name for name in imports_of(path) if name.startswith("iclkit.nets")]


def roots(node):
    """Return the top packages that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    return [(node.module or "").split(".")[0]] if isinstance(node, ast.ImportFrom) else []


def test_light_import_check_can_fail():
    code = "import sys, pandas; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 1


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_hidden_randomness_or_device(path):
    text = path.read_text(encoding="utf-8")
    for forbidden in ("default_rng()", "torch.manual_seed", ".cuda()", "np.random.seed"):
        assert forbidden not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestNotebook:
    def test_is_stored_bare(self, path):
        notebook = json.loads(path.read_text())
        assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
        assert set(notebook["metadata"]["kernelspec"]) == {"display_name", "language", "name"}
        assert set(notebook["metadata"]["language_info"]) == {"name"}
        for cell in notebook["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None

    def test_cell_ids_are_unique(self, path):
        ids = [cell["id"] for cell in read_notebook(path)["cells"]]
        assert len(set(ids)) == len(ids)

    def test_parameters(self, path):
        check_parameters(path.stem, read_notebook(path))

    def test_cells_are_short(self, path):
        for code in sources.code_cells(read_notebook(path)):
            assert len(code.splitlines()) <= MAX_CELL_LINES, code
            for node in ast.walk(ast.parse(sources.magics_out(code))):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < MAX_NOTEBOOK_FUNCTION_LINES, node.name

    def test_every_number_in_prose_is_named_to_the_end(self, path):
        cells = read_notebook(path)["cells"]
        for text in ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]:
            assert text.count("{glue:") == len(GLUED.findall(text)), text

    def test_nothing_is_caught_in_silence(self, path):
        for code in sources.code_cells(read_notebook(path)):
            kinds = {type(node) for node in ast.walk(ast.parse(sources.magics_out(code)))}
            assert ast.Try not in kinds

    def test_captions_say_where_a_figure_belongs(self, path):
        for code in sources.code_cells(read_notebook(path)):
            for call in calls_named(code, "show"):
                given = {k.arg: ast.unparse(k.value) for k in call.keywords}
                name = given["name"].strip("'")
                own = re.search(r"Figure \d|[Ii]llustration|[Nn]ew here", given["caption"])
                assert own, f"{name}: which figure of the paper, or an illustration?"

    def test_figures_have_prose_as_alternative_text(self, path):
        for code in sources.code_cells(read_notebook(path)):
            for call in calls_named(code, "show"):
                given = {keyword.arg for keyword in call.keywords}
                assert {"name", "caption", "alt"} <= given

    def test_every_claim_of_the_chapter_is_checked_once(self, path):
        text = "\n".join(sources.code_cells(read_notebook(path)))
        called = [call.args[0].value for call in calls_named(text, "check") if call.args]
        assert len(called) == len(set(called))
        due = {c.id for c in load_claims() if c.notebook == path.stem and c.runnable}
        assert set(called) == due
        if due:
            assert "ledger.close()" in text

    def test_first_cell_installs_the_library_where_it_is_missing(self, path):
        cells = read_notebook(path)["cells"]
        assert cells == launch.with_cell({"cells": cells})


@pytest.mark.parametrize("path", ASSIGNMENTS, ids=lambda p: p.stem)
class TestAssignment:
    def test_is_stored_bare(self, path):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        assert set(notebook["metadata"]) == {"classroom", "kernelspec", "language_info"}
        assert set(notebook["metadata"]["classroom"]) == {"chapter"}
        for cell in notebook["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None
            assert set(cell["metadata"]) <= {"nbgrader", "exercise"}, cell["id"]
        assert text == launch.stored(notebook)

    def test_belongs_to_a_page_of_the_book(self, path):
        chapter = read_notebook(path)["metadata"]["classroom"]["chapter"]
        assert chapter in notebook_names(ROOT)

    def test_student_s_cells_import_nothing_but_numpy_and_scipy(self, path):
        for cell in read_notebook(path)["cells"]:
            answers = cell["id"] == "setup" or cell["id"].endswith("-answer")
            if cell["cell_type"] == "code" and answers:
                nodes = list(ast.walk(ast.parse("".join(cell["source"]))))
                names = {name for node in nodes for name in roots(node)}
                foreign = {n for n in names if n and n not in sys.stdlib_module_names}
                assert foreign <= {"numpy", "scipy"}, cell["id"]


def calls_named(code, name):
    return [
        node
        for node in ast.walk(ast.parse(sources.magics_out(code)))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == name
    ]


def test_no_cell_is_pasted_into_another_notebook():
    cells = {
        path: {
            "".join(code.split())
            for code in sources.code_cells({"cells": read_notebook(path)["cells"][1:]})
            if len(code.splitlines()) >= 6
        }
        for path in NOTEBOOKS
    }
    for first, second in combinations(NOTEBOOKS, 2):
        assert not cells[first] & cells[second]


def test_tracked_files_are_small_text():
    for path in tracked():
        assert path.suffix not in {".pyc", ".pkl", ".npy", ".npz", ".db"}, path
        assert path.stat().st_size < MAX_FILE_BYTES, path


def test_no_machine_paths_or_registry_addresses():
    pattern = re.compile(r"/(?:root|home)/\w+|/work/|\.\./shared|pypi\.org|files\.pythonhosted")
    for path in tracked():
        found = [] if path in BINARY else pattern.findall(path.read_text(encoding="utf-8"))
        assert not found or path == Path(__file__).resolve(), (path, found)


def test_environment_follows_the_lock():
    stored = (ROOT / "environment.yml").read_text()
    assert stored == lock.environment_yml((ROOT / "constraints.txt").read_text())


def test_environment_is_complete():
    parsed = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [entry for entry in parsed["dependencies"] if isinstance(entry, str)]
    pip = next(entry["pip"] for entry in parsed["dependencies"] if isinstance(entry, dict))
    asked = ["jupyter-book", "jupyterlab", "papermill"]
    assert all(any(line.startswith(f"{name}==") for line in pip) for name in asked)
    for name in ("python", "numpy", "pytorch-cpu", "seaborn-base"):
        assert sum(line.startswith(f"{name}=") for line in conda) == 1
    assert pip[-1] == "-e ."


def test_lock_satisfies_every_direct_requirement():
    versions = lock.locked_versions((ROOT / "constraints.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    for line in project["dependencies"] + [line for extra in extras for line in extra]:
        asked = Requirement(line)
        assert asked.specifier.contains(versions[lock.canonical(asked.name)]), line


def test_lock_holds_pins_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[\w.\-\[\]]+==[\w.]+( ; .+)?", line), line


def test_notation_names_exist():
    names = notation_names()
    assert len(names) >= 15
    code = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    missing = [name for name in names if not re.search(rf"\b{name}\b", code)]
    assert not missing


def notation_names():
    rows = [line for line in (ROOT / "book/notation.md").read_text().splitlines() if "|" in line]
    cells = [row.split("|")[2] for row in rows if row.count("|") >= 4]
    return [name for cell in cells for name in re.findall(r"(?<!\})`(\w+)`", cell)]


def test_every_command_is_documented():
    sys.path.insert(0, str(ROOT))
    import run

    page = (ROOT / "book/running.md").read_text()
    for name in run.COMMANDS:
        assert f"python3 run.py {name}" in page, name


def test_every_page_is_in_the_table_of_contents():
    toc = (ROOT / "book/_toc.yml").read_text().split()
    pages = [*(ROOT / "book").glob("*.md"), *NOTEBOOKS]
    for page in pages:
        assert page.relative_to(ROOT).with_suffix("").as_posix() in toc, page


def test_every_runnable_claim_belongs_to_a_notebook():
    names = {path.stem for path in NOTEBOOKS}
    assert {claim.notebook for claim in load_claims() if claim.runnable} <= names


def test_citation_names_the_four_papers():
    parsed = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert len(parsed["references"]) == 4
    assert {ref["year"] for ref in parsed["references"]} == {2024, 2025}


def test_functions_are_small():
    lengths = [length(node) for path in MODULES for node in functions(path)]
    assert sum(n <= 20 for n in lengths) >= 0.95 * len(lengths)
    assert sorted(lengths)[len(lengths) // 2] <= 6


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def length(function):
    """Return the lines of a function's statements, its docstring and signature not counted."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


# ------------------------------------------------------------------ continuous integration


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_workflows_trust_nothing_that_can_change(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    actions = [step for step in steps(workflow) if "uses" in step]
    assert actions
    assert [step["uses"] for step in actions if not PINNED.fullmatch(step["uses"])] == []
    kept = [s for s in actions if "checkout" in s["uses"] and s["with"]["persist-credentials"]]
    assert kept == [], "no later step needs the token"
    assert "secrets." not in path.read_text(encoding="utf-8")
