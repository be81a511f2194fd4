"""Build the book: stage pages and executed notebooks, run jupyter-book, check every link.

The staging folder mirrors the repository, so that "edit this page" and launch links are right.
Prose comes from the repository, outputs from the executed copies: editing prose reruns nothing.
"""

import ast
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from iclkit import __version__
from iclkit.bench import archive, claims, drift
from iclkit.bench.records import CAPTION_MIME, CLAIM_MIME, FIGURE_MIME
from iclkit.bench.runner import ANSI, Run, commit, read_notebook
from iclkit.bench.sources import digest
from iclkit.site import (
    assignments,
    benchmarks,
    cards,
    catalogue,
    goals,
    health,
    history,
    links,
    materials,
    pages,
    provenance,
    scores,
    teaching,
)
from iclkit.site.catalogue import Catalogue
from iclkit.site.downloads import PDF
from iclkit.site.pages import BuildError
from iclkit.site.printing import START, without_offer

__all__ = ["BuildError", "build_book", "rows_of"]

FOLDERS = ("book", "iclkit", "notebooks")  # and FILES: all that the pages are made from
FILES = (
    "_config.yml",
    "constraints.txt",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CITATION.cff",
    benchmarks.RECORD,
)
WRITTEN_ONCE = ("CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff")  # shown in the book as they are


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
        When a page has a warning, a broken reference, link or figure, or would give away the
        solution of an assignment. The last good book stays.
    LedgerError
        When a claim did not come out as expected.
    """
    place, record = root / "_build" / "html", root / "_build" / "html.made-from"
    place.parent.mkdir(exist_ok=True)
    made_from = fingerprint(root, runs)
    if record.is_file() and record.read_bytes() == mark(made_from, place):
        return place / "index.html"
    with tempfile.TemporaryDirectory(dir=root / "_build", prefix="book-") as folder:
        staging = Path(folder) / "src"
        stage(root, staging, runs)
        run_jupyter_book(root, staging, Path(folder))
        html = Path(folder) / "_build" / "html"
        put_bare_notebooks(root, html)
        if found := links.problems(html):
            raise BuildError("broken links or figures:\n  " + "\n  ".join(found))
        assignments.refuse_leaks(root, html)
        record.unlink(missing_ok=True)
        publish(html, place)
        record.write_bytes(mark(made_from, place))
    return place / "index.html"


def put_bare_notebooks(root: Path, html: Path) -> None:
    """Let the theme's own download button give a notebook as the repository has it."""
    for copied in (html / "_sources" / "notebooks").glob("*.ipynb"):
        shutil.copy(root / "notebooks" / copied.name, copied)


def publish(new: Path, place: Path) -> None:
    """Put the new book in its place; at every moment one whole book is on the disk."""
    if place.exists():
        place.rename(new.with_name("old"))
    new.rename(place)


def fingerprint(root: Path, runs: list[Run]) -> str:
    """Return what the pages are made from: sources, settings, lock, runs, and what git knows."""
    folders = [
        f for name in FOLDERS for f in (root / name).rglob("*") if "__pycache__" not in f.parts
    ]
    files = {f.relative_to(root).as_posix(): f for f in [*map(root.joinpath, FILES), *folders]}
    digests = {name: digest(f.read_bytes()) for name, f in files.items() if f.is_file()}
    known = [commit(root), history.address(root), history.launch_ref(root, __version__)]
    made = [asdict(run.manifest) for run in runs]
    return json.dumps([digests, known, made], sort_keys=True)


def mark(made_from: str, place: Path) -> bytes:
    """Return what tells a whole book of these sources from another one, or from a damaged one.

    The PDF comes later, and so does the link to it.
    """
    files = {f.relative_to(place).as_posix(): f for f in place.rglob("*") if f.is_file()}
    found = {name: f.read_bytes() for name, f in files.items() if name != PDF}
    if START in found:
        found[START] = without_offer(found[START])
    digests = sorted((name, digest(content)) for name, content in found.items())
    return f"{digest(json.dumps(digests).encode())} {made_from}".encode()


def stage(root: Path, staging: Path, runs: list[Run]) -> None:
    """Lay out the sources of the book as the repository has them, notebooks with outputs."""
    if len({(run.manifest.profile, run.manifest.seed) for run in runs}) != 1:
        raise BuildError("a book needs runs of one profile and seed")
    shutil.copytree(root / "book", staging / "book")
    for name in WRITTEN_ONCE:
        shutil.copy(root / name, staging / name)
    (staging / "notebooks").mkdir()
    rows = {run.manifest.notebook: rows_of(run) for run in runs}
    entries = pages.entries_of(rows)
    large = [run for run in archive.kept_runs(rows) if run.manifest["notebook"] in rows]
    refuse_unchecked(entries)
    shared = Catalogue.of(root, staging, entries, large)
    runs = sorted(runs, key=lambda run: shared.rank(run.manifest.notebook))
    made = [stage_chapter(shared, run) for run in runs]
    generated = {
        "book/ledger.md": pages.ledger_page(
            rows, large, order=list(shared.places), swept=swept(root, rows, runs)
        ),
        "book/figures.md": provenance.figures_page(runs),
        "book/health.md": health.health_page(made, entries, large),
        f"book/{health.SITE_FACTS}": health.site_facts(made, entries, shared.commit),
    }
    for name, text in generated.items():
        (staging / name).write_text(text, encoding="utf-8")
    scores.put_scores(staging / "book", entries)
    benchmarks.put_benchmarks(root, staging, shared.place)
    materials.offer(root, staging)
    assignments.offer(root, staging, shared.library, shared.place)
    given = teaching.offer(root, staging, runs, shared.citation)
    goals.offer(root, staging, [page.front for page in made], given)


def swept(root: Path, rows: dict[str, list[claims.Row]], runs: list[Run]) -> drift.Record | None:
    """Return what a sweep over seeds found for the claims whose numbers are still the same."""
    record = drift.read_record(root)
    found = [row for chapter in rows.values() for row in chapter]
    return record.without_moved(found, runs[0].manifest.seed) if record else None


def rows_of(run: Run) -> list[claims.Row]:
    """Return the rows of the ledger that a run left."""
    made = run.manifest
    return claims.collect(made.notebook, read_notebook(run.path), profile=made.profile)


def stage_chapter(shared: Catalogue, run: Run) -> cards.Page:
    """Write the page of one notebook and its downloads; return what is known of it."""
    name, notebooks = run.manifest.notebook, shared.staging / "notebooks"
    source = read_notebook(shared.root / "notebooks" / f"{name}.ipynb")
    entries = {entry.claim.id: entry for entry in shared.entries}
    executed = read_notebook(run.path)
    shown = graft(source, executed)
    here = provenance.Place(run.manifest, provenance.documented(shared.root), shared.place)
    below = provenance.under_figures(shown, executed, here, notebooks / "data" / name)
    groups = [[c, *below.get(c["id"], ()), *after_cell(c, entries)] for c in shown]
    cells = [cell for group in groups for cell in group]
    goals.with_anchors(name, cells)
    page = shared.page(run.manifest, source)
    catalogue.put_card(cells, page)
    if (shared.root / "book" / "selfchecks" / f"{name}.yml").exists():
        cells = cards.with_selfcheck(cells, name)
    notebook = source | {"cells": [*cells, pages.provenance_cell(run.manifest)]}
    (notebooks / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return page


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
                for parameters in cells[cells.index(cell) :]:
                    fold(parameters, "Profile and seed")
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


def after_cell(cell: dict[str, Any], entries: dict[str, claims.Entry]) -> list[dict[str, Any]]:
    """Turn a cell's figure records into numbered figures, its claims into cells that follow."""
    found, kept = [], []
    for output in cell.get("outputs", []):
        bundle = output.get("data", {})
        if CLAIM_MIME in bundle:
            found.append(entries[bundle[CLAIM_MIME]["id"]])
        elif FIGURE_MIME in bundle:
            number_figure(cell, bundle.pop(FIGURE_MIME))
        if not {CLAIM_MIME, CAPTION_MIME} & bundle.keys():
            kept.append(output)
    if cell["cell_type"] == "code":
        cell["outputs"] = kept
    return [pages.claim_cell(entry) for entry in found]


def number_figure(cell: dict[str, Any], record: dict[str, Any]) -> None:
    """Give the cell's image number, caption and alternative text; fold the code behind it."""
    cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
    cell["metadata"]["mystnb"] = {
        "figure": {"name": record["name"], "caption": record["caption"]},
        "image": {"alt": record["alt"], "align": "center"},
        **prompts("Code of this figure"),
    }


def fold(cell: dict[str, Any], words: str) -> None:
    """Fold the code of a cell behind some words."""
    cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
    cell["metadata"]["mystnb"] = prompts(words)


def prompts(words: str) -> dict[str, str]:
    """Return the settings of a cell whose code is folded behind some words, open or not."""
    return {"code_prompt_show": words, "code_prompt_hide": words}


def run_jupyter_book(root: Path, staging: Path, work: Path) -> None:
    """Run jupyter-book on fresh doctrees: an incremental build would forget old warnings."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(staging)]
    files = ["--config", str(root / "_config.yml"), "--toc", str(staging / "book" / "_toc.yml")]
    strict = ["-W", "-n", "--keep-going", "-q", "--path-output", str(work)]
    plain = os.environ | {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}  # whatever the locale is
    options: dict[str, Any] = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    done = subprocess.run([*command, *files, *strict], cwd=staging, env=plain, **options)
    if done.returncode:
        log = root / "_build" / "book.log"
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
        raise BuildError(f"jupyter-book stopped ({log.relative_to(root)}):\n  {told(done.stderr)}")


def told(stderr: str) -> str:
    """Return the lines of Sphinx's output that name a cause."""
    lines = ANSI.sub("", stderr).splitlines()
    causes = [line for line in lines if "WARNING" in line or re.match(r"[\w.]+Error: ", line)]
    return "\n  ".join(causes or lines[-5:])
