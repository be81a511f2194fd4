"""Write the first cell of every notebook, which installs the book's library where it is missing.

Binder and `run.py` have the library. Colab, a downloaded notebook and an editor with another
environment do not. The cell takes the wheel beside the notebook if there is one, then the public
repository if pyproject.toml names it, then the clone that holds the notebook. The installed numpy
and torch are pinned to what they are: where the library could not work with them, pip says so.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

from iclkit import __version__
from iclkit.bench.runner import notebook_names, read_notebook
from iclkit.bench.sources import code_cells, modules_named

ROOT = Path(__file__).resolve().parents[1]
CELL_ID = "install"
CELL = """\
# Installs the book's library where it is missing; an installed numpy or torch stays as it is.
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

if find_spec("iclkit") is None:
    wheels = [path.resolve().as_uri() for path in Path().glob("iclkit-*.whl")]
    place = [*wheels, {otherwise}][0]
    kept = " ".join(f"{{p}}=={{version(p)}}" for p in ("numpy", "torch") if find_spec(p))
    %pip install --quiet "iclkit[{extras}] @ {{place}}" {{kept}}
"""
CLONE = 'Path("..").resolve().as_uri()'
NEEDS = {"iclkit.corpora": "data", "iclkit.nets": "nets"}  # besides "bench", which all need


def main() -> None:
    """Put the cell first in every notebook."""
    for name in notebook_names(ROOT):
        path = ROOT / "notebooks" / f"{name}.ipynb"
        notebook = read_notebook(path)
        notebook["cells"] = with_cell(notebook)
        path.write_text(stored(notebook), encoding="utf-8")


def with_cell(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of a notebook with the installing cell in front."""
    others = [cell for cell in notebook["cells"] if cell["id"] != CELL_ID]
    return [install_cell(others), *others]


def install_cell(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the cell that installs what `cells` need."""
    lines = source(cells).splitlines(keepends=True)
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": CELL_ID,
        "metadata": {"tags": ["remove-cell"]},
        "outputs": [],
        "source": [*lines[:-1], lines[-1].rstrip("\n")],
    }


def source(cells: list[dict[str, Any]]) -> str:
    """Return the code of the cell."""
    named = modules_named("\n".join(code_cells({"cells": cells})))
    extras = ["bench", *(extra for module, extra in NEEDS.items() if module in named)]
    return CELL.format(extras=",".join(extras), otherwise=public_place() or CLONE)


def public_place() -> str | None:
    """Return, quoted, where pip finds this version in public; None without a public address."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository")
    return f'"git+{address}@v{__version__}"' if address else None


def stored(notebook: dict[str, Any]) -> str:
    """Return a notebook as the repository stores it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
