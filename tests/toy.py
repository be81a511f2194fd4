"""A repository of two toy notebooks around the real library, to break on purpose."""

import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLAIM = """
[TOY-1]
notebook  = "01_toy"
origin    = "new here"
source    = "a toy"
text      = "One half plus one half is $1$."
check     = "close"
tolerance = 1e-12
why       = "rounding"
"""
IMPORTS = "from iclkit.bench import claims, plots\nfrom iclkit.prompts import Prompts"
FIGURE = """import pandas as pd
from matplotlib.figure import Figure

table = pd.DataFrame({"x": [0, 1], "y": [0, 1]})
figure = Figure()
figure.add_subplot().plot([0, 1], [0, 1])
alt = "A straight line that rises from zero to one."
plots.show(figure, name="fig-toy", caption="A line.", alt=alt, data=table)"""
CARD = r"""
| Paper | *On toys*, with $\|x\|$ |
| --- | --- |
| Authors | A. Nobody |
| Venue | nowhere |
| Identifiers | arXiv [0000.00000](https://arxiv.org/abs/0000.00000) |
| Official code | none found |
| You will learn to | **add** halves; **draw** a line and **look** at it |
| Before you start | counting |
| Reading time | one minute |
"""
TOY = {
    "title": f"# A toy\n{CARD}\nProse with a link to {{claim}}`TOY-1` and {{numref}}`fig-toy`.",
    "parameters": 'profile = "quick"\nseed = 0',
    "imports": IMPORTS,
    "figure": FIGURE,
    "claim": 'ledger = claims.Ledger.load("01_toy", profile)\n'
    'ledger.check("TOY-1", measured=0.5 + 0.5, expected=1.0)',
    "close": "ledger.close()",
}
OTHER = {
    "title": "# Another\n\nThis one uses streams only.",
    "parameters": 'profile = "quick"\nseed = 0',
    "draw": "from iclkit.rng import stream\n\nstream(seed, profile).normal()",
}
PAGES = (
    "notebooks/01_toy",
    "notebooks/02_other",
    "book/ledger",
    "book/figures",
    "book/health",
    "book/running",
)


def make(place, *, book=False):
    """Lay out the toy repository in `place` and return it."""
    shutil.copytree(ROOT / "iclkit", place / "iclkit", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "iclkit/data/claims.toml").write_text(CLAIM)
    for name in ("pyproject.toml", "constraints.txt", "_config.yml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / name)
    (place / "notebooks").mkdir()
    write(place, "01_toy", TOY)
    write(place, "02_other", OTHER)
    if book:
        add_pages(place)
    return place


def add_pages(place):
    """Add the least that a book needs."""
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / "book" / name, place / "book" / name)
    shutil.copy(ROOT / "book/references.bib", place / "book")
    shutil.copy(ROOT / "CITATION.cff", place)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "book/running.md"):
        (place / name).write_text("# A page\n")
    toc = ["format: jb-book", "root: book/index", "chapters:"]
    (place / "book/_toc.yml").write_text(
        "\n".join([*toc, *(f"  - file: {page}" for page in PAGES)])
    )
    (place / "book/index.md").write_text("# The toy book\n\nSee {doc}`ledger`.\n")


def write(place, name, cells):
    """Write a notebook from `{cell id: source}`; the ids tell the kind of cell."""
    notebook = {
        "cells": [cell(key, source) for key, source in cells.items()],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (place / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))


def cell(key, source):
    """Return one cell: Markdown for titles, else code."""
    if key.startswith("title"):
        return {"cell_type": "markdown", "id": key, "metadata": {}, "source": source}
    tags = {"tags": ["parameters"]} if key == "parameters" else {}
    return {
        "cell_type": "code",
        "id": key,
        "metadata": tags,
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
