"""What the pages about long runs say of notebooks and limits is so."""

import ast
import json
import re

import pytest

from iclkit.bench.runner import BUDGETS


def code_of(path):
    """The code of a notebook's cells that sweep or set options."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return "\n".join(source for source in sources if re.search(r"\bsweep\(|n_jobs", source))


def local_options(tree):
    """The names of options that ask for one process, in themselves or through another name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            text = ast.unparse(node.value)
            names = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
            if re.search(r"'n_jobs': 1\b", text) or names & found:
                found |= {ast.unparse(target) for target in node.targets}
    return found


def uses_a_cluster(path):
    """Whether a notebook has a sweep that may leave its process."""
    tree = ast.parse(code_of(path))
    local = local_options(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    sweeps = [call for call in calls if ast.unparse(call.func) == "sweep"]
    words = [{(k.arg, ast.unparse(k.value)) for k in call.keywords} for call in sweeps]
    stay = {("n_jobs", "1")} | {(None, name) for name in local}
    return any(not stay & given for given in words)


def test_the_page_names_the_notebooks_that_use_a_cluster(root):
    page = (root / "book/clusters.md").read_text(encoding="utf-8")
    sentence = page[page.index("Of the notebooks") : page.index("The other notebooks")]
    able = {path.stem for path in (root / "notebooks").glob("*.ipynb") if uses_a_cluster(path)}
    assert set(re.findall(r"notebooks/(\w+)`", sentence)) == able


@pytest.mark.parametrize("profile", BUDGETS)
def test_the_page_states_what_a_run_takes(root, profile):
    page = (root / "book/running.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{profile}` \|.*$", page, re.MULTILINE)
    budget = BUDGETS[profile]
    hours = budget.seconds / 3600
    time = f"{hours:g} h" if hours >= 1 else f"{budget.seconds / 60:g} min"
    stated = [cell.strip() for cell in row.strip("|").split("|")]
    assert stated[3] == f"{budget.peak_gb:g} GB"
    assert stated[2] in (time, f"{budget.seconds:g} s")
    if hours >= 1:
        assert f"at `{profile}` above {budget.memory_gb:g} GB" in page
