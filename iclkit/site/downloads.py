"""What a page offers for download: the notebook, a script, its data, a bundle that runs alone.

The same sources give the same bytes: archives carry no date of today.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from iclkit.site.pages import BuildError

__all__ = ["PDF", "Download", "bundle", "offer", "script_of", "wheel", "zipped"]

#: Where the site keeps the printed book, seen from its root.
PDF: Final = "_downloads/in-context-learning-reproduced.pdf"

FOLDER = "downloads"  # beside the notebooks, in the staging folder only
EPOCH = 315532800  # 1980-01-01, the oldest date that a zip archive can hold
DATE = (1980, 1, 1, 0, 0, 0)
BUILD = "import sys; from flit_core.buildapi import build_wheel; print(build_wheel(sys.argv[1]))"
LICENSES = ("LICENSE", "LICENSE-text.md")
MAGIC = re.compile(r"^([ \t]*)([%!].*)$", re.MULTILINE)
READ_ME = """\
{title}
A chapter of the book "In-Context Learning, Reproduced" that runs by itself.

1. Python 3.11 to 3.13 with JupyterLab: python -m pip install jupyterlab
2. In this folder: python -m jupyter lab {name}.ipynb
3. Run all cells. The first one installs {wheel}, which lies beside the notebook, and the
   packages that it needs, from your package index; an installed numpy or torch stays as it is.

Text: CC BY 4.0. Code: BSD-3-Clause.
"""


class Download(NamedTuple):
    """A file on offer: its path seen from the page, and the words on its button."""

    path: str
    label: str


class Wheel(NamedTuple):
    """The library as a package: the name of its file, and the file."""

    name: str
    data: bytes


def offer(root: Path, name: str, staging: Path, library: Wheel, title: str) -> list[Download]:
    """Write the downloads of a page into the staging folder; return them.

    Parameters
    ----------
    root : Path
        The repository.
    name : str
        The notebook.
    staging : Path
        Holds ``notebooks``, where the data of the page's figures stand already.
    library : Wheel
        Goes into the bundle.
    title : str
        The page's title, for the bundle's instructions.
    """
    stored = (root / "notebooks" / f"{name}.ipynb").read_bytes()
    data = {f.name: f.read_bytes() for f in (staging / "notebooks" / "data" / name).glob("*.csv")}
    files = {
        f"{name}.ipynb": (".ipynb", stored),
        f"{name}.py": (".py", script_of(json.loads(stored)).encode()),
        f"{name}-data.zip": ("data", zipped({f"{name}/{k}": v for k, v in data.items()})),
        f"{name}-bundle.zip": ("bundle", bundle(root, name, stored, library, title)),
    }
    if not data:
        del files[f"{name}-data.zip"]
    place = staging / "notebooks" / FOLDER
    place.mkdir(exist_ok=True)
    for file, (_, content) in files.items():
        (place / file).write_bytes(content)
    return [Download(f"{FOLDER}/{file}", label) for file, (label, _) in files.items()]


def script_of(notebook: Mapping[str, Any]) -> str:
    """Return a notebook as a script in cells, which editors and plain Python can run.

    Prose stands in comments. Lines for IPython become comments, each with a ``pass``.

    Examples
    --------
    >>> code = {"cell_type": "code", "source": "x = 1"}
    >>> print(script_of({"cells": [{"cell_type": "markdown", "source": "# One"}, code]}))
    # %% [markdown]
    # # One
    <BLANKLINE>
    # %%
    x = 1
    <BLANKLINE>
    """
    return "\n".join(scripted(cell["cell_type"], cell["source"]) for cell in notebook["cells"])


def scripted(kind: str, source: str | list[str]) -> str:
    """Return one cell of the script."""
    text = "".join(source).rstrip()
    if kind == "code":
        return "# %%\n" + MAGIC.sub(r"\1pass  # in a notebook: \2", text) + "\n"
    lines = [f"# {line}".rstrip() for line in text.splitlines()]
    return "\n".join(["# %% [markdown]", *lines]) + "\n"


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of named files: sorted, with one fixed date, readable by all."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # the same on every system
            packed = name.endswith(".whl")  # already
            archive.writestr(entry, files[name], None if packed else zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def bundle(root: Path, name: str, notebook: bytes, library: Wheel, title: str) -> bytes:
    """Return an archive with which a page runs anywhere: notebook, library, what to do."""
    words = READ_ME.format(title=title, name=name, wheel=library.name)
    files = {f"{name}.ipynb": notebook, library.name: library.data, "README.txt": words.encode()}
    files |= {file: (root / file).read_bytes() for file in LICENSES if (root / file).is_file()}
    return zipped({f"{name}/{file}": content for file, content in files.items()})


def wheel(root: Path) -> Wheel:
    """Return the book's library as a wheel, built from the repository.

    Raises
    ------
    BuildError
        When it cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", BUILD, folder],
            cwd=root,
            env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise BuildError(f"the library's wheel cannot be built:\n{done.stderr.strip()}")
        name = done.stdout.split()[-1]
        return Wheel(name, (Path(folder) / name).read_bytes())
