"""Build the book: stage pages and executed notebooks, run jupyter-book, check every link.

The staging folder mirrors the repository, so that "edit this page" and launch links are right.
Prose comes from the repository, outputs from the executed copies: editing prose reruns nothing.
"""

import ast
import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from iclkit.bench import claims, links, pages
from iclkit.bench.records import CAPTION_MIME, CLAIM_MIME, FIGURE_MIME
from iclkit.bench.runner import ANSI, Run, read_notebook

__all__ = ["BuildError", "build_book"]

WRITTEN_ONCE = ("CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff")  # shown in the book as they are


class BuildError(RuntimeError):
    """The book could not be built; the message says which page and why."""


def build_book(root: Path, runs: list[Run]) -> Path:
    """Return the start page of the book built from `runs`.

    Parameters
    ----------
    root : Path
        The repository.
    runs : list of Run
        One executed notebook per chapter.

    Raises
    ------
    BuildError
        When a page has a warning, a broken reference, link or figure. The last good book stays.
    LedgerError
        When a claim did not come out as expected.
    """
    staging = root / "_build" / "src"
    stage(root, staging, runs)
    work = root / "_build" / "work"
    shutil.rmtree(work, ignore_errors=True)
    run_jupyter_book(root, staging, work)
    html = work / "_build" / "html"
    problems = links.problems(html)
    if problems:
        raise BuildError("broken links or figures:\n  " + "\n  ".join(problems))
    final = root / "_build" / "html"
    shutil.rmtree(final, ignore_errors=True)
    html.replace(final)
    shutil.rmtree(work)
    return final / "index.html"


def stage(root: Path, staging: Path, runs: list[Run]) -> None:
    """Lay out the sources of the book as the repository has them, notebooks with outputs."""
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(root / "book", staging / "book")
    for name in WRITTEN_ONCE:
        shutil.copy(root / name, staging / name)
    (staging / "notebooks").mkdir()
    rows = {}
    for run in runs:
        name = run.manifest.notebook
        source = read_notebook(root / "notebooks" / f"{name}.ipynb")
        executed = read_notebook(run.path)
        rows[name] = claims.collect(name, executed)
        page = graft(source, executed, staging / "notebooks" / "data" / name)
        page["cells"].append(pages.provenance_cell(run.manifest))
        (staging / "notebooks" / f"{name}.ipynb").write_text(json.dumps(page))
    manifests = [run.manifest for run in runs]
    (staging / "book" / "ledger.md").write_text(pages.ledger_page(rows, manifests))


def graft(source: dict[str, Any], executed: dict[str, Any], data: Path) -> dict[str, Any]:
    """Return the page of a chapter: prose of the source, outputs of the executed copy.

    The cache key guarantees that both have the same code cells; papermill's cell with other
    parameters than the defaults is kept, so that the page shows what ran.
    """
    outputs = {cell["id"]: cell for cell in executed["cells"] if cell["cell_type"] == "code"}
    page = copy.deepcopy(source)
    page["cells"] = []
    for cell in copy.deepcopy(source["cells"]):
        if cell["cell_type"] != "code":
            page["cells"].append(cell)
            continue
        cell["outputs"] = outputs[cell["id"]]["outputs"]
        cell["execution_count"] = outputs[cell["id"]]["execution_count"]
        page["cells"] += [cell, *after_cell(cell, data)]
        if "parameters" in cell["metadata"].get("tags", []):
            page["cells"] += injected(cell, executed)
    return page


def injected(defaults: dict[str, Any], executed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return papermill's cell with the parameters of this run, unless they are the defaults."""
    tags = "injected-parameters"
    cells = [c for c in executed["cells"] if tags in c["metadata"].get("tags", [])]
    return [c for c in cells if assigned(c) != assigned(defaults)]


def assigned(cell: dict[str, Any]) -> str:
    """Return what a cell assigns, without comments and spacing."""
    return ast.dump(ast.parse("".join(cell["source"])))


def after_cell(cell: dict[str, Any], data: Path) -> list[dict[str, Any]]:
    """Turn figure records into numbered figures and claim records into cells that follow."""
    found = []
    kept = []
    for output in cell["outputs"]:
        bundle = output.get("data", {})
        if CLAIM_MIME in bundle:
            found.append(claims.Row.from_json(bundle[CLAIM_MIME]))
        elif FIGURE_MIME in bundle:
            number_figure(cell, bundle.pop(FIGURE_MIME), data)
        if not {CLAIM_MIME, CAPTION_MIME} & bundle.keys():
            kept.append(output)
    cell["outputs"] = kept
    return [pages.claim_cell(entry) for entry in claims.merge(found) if entry.row]


def number_figure(cell: dict[str, Any], record: dict[str, Any], data: Path) -> None:
    """Give the cell's image number, caption, alternative text and data; fold the code behind it."""
    caption = record["caption"]
    if record.get("csv"):
        data.mkdir(parents=True, exist_ok=True)
        (data / f"{record['name']}.csv").write_text(record["csv"])
        caption += f" {{download}}`Data (CSV) <data/{data.name}/{record['name']}.csv>`"
    cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
    cell["metadata"]["mystnb"] = {
        "figure": {"name": record["name"], "caption": caption},
        "image": {"alt": record["alt"], "align": "center"},
    }


def run_jupyter_book(root: Path, staging: Path, work: Path) -> None:
    """Run jupyter-book on fresh doctrees: an incremental build would forget old warnings."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(staging)]
    files = ["--config", str(root / "_config.yml"), "--toc", str(staging / "book" / "_toc.yml")]
    strict = ["-W", "-n", "--keep-going", "-q", "--path-output", str(work)]
    done = subprocess.run([*command, *files, *strict], capture_output=True, text=True, cwd=staging)
    if done.returncode:
        log = root / "_build" / "book.log"
        log.write_text(done.stdout + done.stderr)
        raise BuildError(f"jupyter-book stopped ({log.relative_to(root)}):\n  {told(done.stderr)}")


def told(stderr: str) -> str:
    """Return the lines of Sphinx's output that name a cause."""
    lines = ANSI.sub("", stderr).splitlines()
    causes = [line for line in lines if "WARNING" in line or re.match(r"[\w.]+Error: ", line)]
    return "\n  ".join(causes or lines[-5:])
