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
import tempfile
from pathlib import Path
from typing import Any

from iclkit.bench import claims, kept, links, pages
from iclkit.bench.records import CAPTION_MIME, CLAIM_MIME, FIGURE_MIME
from iclkit.bench.runner import ANSI, Run, read_notebook
from iclkit.bench.sources import digest

__all__ = ["BuildError", "build_book"]

WRITTEN_ONCE = ("CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff")  # shown in the book as they are


class BuildError(RuntimeError):
    """The book could not be built; the message says which page and why."""


def build_book(root: Path, runs: list[Run]) -> Path:
    """Return the start page of the book built from `runs`, all of one profile and seed.

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
    place, record = root / "_build" / "html", root / "_build" / "html.made-from"
    place.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root / "_build", prefix="book-") as folder:
        staging = Path(folder) / "src"
        stage(root, staging, runs)
        made_from = fingerprint(root, staging)
        if place.exists() and record.exists() and record.read_text() == made_from:
            return place / "index.html"
        run_jupyter_book(root, staging, Path(folder))
        html = Path(folder) / "_build" / "html"
        if found := links.problems(html):
            raise BuildError("broken links or figures:\n  " + "\n  ".join(found))
        record.unlink(missing_ok=True)
        publish(html, place)
        record.write_text(made_from)
    return place / "index.html"


def publish(new: Path, place: Path) -> None:
    """Put the new book in its place; at every moment one whole book is on the disk."""
    if place.exists():
        place.rename(new.with_name("old"))
    new.rename(place)


def fingerprint(root: Path, staging: Path) -> str:
    """Return what the pages are made from: staged files, settings, lock, the library's words."""
    files = [root / "_config.yml", root / "constraints.txt", *(root / "iclkit").rglob("*.py")]
    staged = {f.relative_to(staging).as_posix(): f for f in staging.rglob("*") if f.is_file()}
    named = staged | {f.relative_to(root).as_posix(): f for f in files}
    return json.dumps({name: digest(named[name].read_bytes()) for name in sorted(named)})


def stage(root: Path, staging: Path, runs: list[Run]) -> None:
    """Lay out the sources of the book as the repository has them, notebooks with outputs."""
    if len({(run.manifest.profile, run.manifest.seed) for run in runs}) != 1:
        raise BuildError("a book needs runs of one profile and seed")
    shutil.copytree(root / "book", staging / "book")
    for name in WRITTEN_ONCE:
        shutil.copy(root / name, staging / name)
    (staging / "notebooks").mkdir()
    rows = {run.manifest.notebook: stage_chapter(root, staging, run) for run in runs}
    refuse_unchecked(pages.entries_of(rows))
    ledger = pages.ledger_page(rows, [run.manifest for run in runs], kept.kept_runs())
    (staging / "book" / "ledger.md").write_text(ledger, encoding="utf-8")


def stage_chapter(root: Path, staging: Path, run: Run) -> list[claims.Row]:
    """Write the page of one chapter; return its rows of the ledger."""
    name = run.manifest.notebook
    source = read_notebook(root / "notebooks" / f"{name}.ipynb")
    executed = read_notebook(run.path)
    rows = claims.collect(name, executed, profile=run.manifest.profile)
    entries = {entry.claim.id: entry for entry in claims.merge(rows)}
    page = graft(source, executed)
    cells = [[c, *after_cell(c, entries, staging / "notebooks" / "data" / name)] for c in page]
    cells.append([pages.provenance_cell(run.manifest)])
    notebook = source | {"cells": [cell for group in cells for cell in group]}
    (staging / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return rows


def refuse_unchecked(entries: list[claims.Entry]) -> None:
    """Raise LedgerError for a claim that should have been run and that no chapter checked."""
    lost = [e.claim for e in entries if e.verdict == claims.NOT_RUN]
    if lost:
        lines = [f"{c.id}: no run of {c.notebook} checked it" for c in lost]
        raise claims.LedgerError("\n".join(lines))


def graft(source: dict[str, Any], executed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of a page: prose of the source, outputs of the executed copy.

    papermill's cell with other parameters than the defaults is kept, so that the page shows what
    ran.
    """
    ran = {cell["id"]: cell for cell in executed["cells"] if cell["cell_type"] == "code"}
    cells = []
    for cell in copy.deepcopy(source["cells"]):
        cells.append(cell)
        if cell["cell_type"] == "code":
            take_outputs(cell, ran.get(cell["id"]))
            if "parameters" in cell["metadata"].get("tags", []):
                cells += injected(cell, executed)
    return cells


def take_outputs(cell: dict[str, Any], ran: dict[str, Any] | None) -> None:
    """Give a code cell the outputs of its executed copy, which must have the same code."""
    if ran is None or "".join(ran["source"]) != "".join(cell["source"]):
        raise BuildError(f"cell {cell['id']} was edited after it ran; build again")
    cell["outputs"] = ran["outputs"]
    cell["execution_count"] = ran["execution_count"]


def injected(defaults: dict[str, Any], executed: dict[str, Any]) -> list[dict[str, Any]]:
    """Return papermill's cell with the parameters of this run, unless they are the defaults."""
    tags = "injected-parameters"
    cells = [c for c in executed["cells"] if tags in c["metadata"].get("tags", [])]
    return [c for c in cells if assigned(c) != assigned(defaults)]


def assigned(cell: dict[str, Any]) -> str:
    """Return what a cell assigns, without comments and spacing."""
    return ast.dump(ast.parse("".join(cell["source"])))


def after_cell(
    cell: dict[str, Any], entries: dict[str, claims.Entry], data: Path
) -> list[dict[str, Any]]:
    """Turn a cell's figure records into numbered figures, its claims into cells that follow."""
    found, kept = [], []
    for output in cell.get("outputs", []):
        bundle = output.get("data", {})
        if CLAIM_MIME in bundle:
            found.append(entries[bundle[CLAIM_MIME]["id"]])
        elif FIGURE_MIME in bundle:
            number_figure(cell, bundle.pop(FIGURE_MIME), data)
        if not {CLAIM_MIME, CAPTION_MIME} & bundle.keys():
            kept.append(output)
    if cell["cell_type"] == "code":
        cell["outputs"] = kept
    return [pages.claim_cell(entry) for entry in found]


def number_figure(cell: dict[str, Any], record: dict[str, Any], data: Path) -> None:
    """Give the cell's image number, caption, alternative text and data; fold the code behind it."""
    caption = record["caption"]
    if record.get("csv"):
        data.mkdir(parents=True, exist_ok=True)
        (data / f"{record['name']}.csv").write_text(record["csv"], encoding="utf-8")
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
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
        raise BuildError(f"jupyter-book stopped ({log.relative_to(root)}):\n  {told(done.stderr)}")


def told(stderr: str) -> str:
    """Return the lines of Sphinx's output that name a cause."""
    lines = ANSI.sub("", stderr).splitlines()
    causes = [line for line in lines if "WARNING" in line or re.match(r"[\w.]+Error: ", line)]
    return "\n  ".join(causes or lines[-5:])
