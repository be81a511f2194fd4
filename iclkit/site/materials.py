"""The bill of materials: all packages of the environment in which the book is built.

A line ``<!-- bill of materials -->`` of a page turns into a link to it. It is made without network,
and the same environment gives the same bytes.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from iclkit.site.downloads import FOLDER
from iclkit.site.pages import BuildError

__all__ = ["FILE", "MARK", "bill_of_materials", "offer"]

#: The line of a page that becomes the link, and the name of the file.
MARK: Final = "<!-- bill of materials -->"
FILE: Final = "sbom.json"

PROGRAM = "cyclonedx_py"
OPTIONS = ("environment", "--output-reproducible", "--no-validate", "--short-PURLs", "--pyproject")
LINK = """\
{{download}}`Bill of materials </notebooks/{folder}/{file}>` (CycloneDX, JSON): the {count} packages
of the environment in which this book was built, with versions and the licences that they state."""
WITHOUT = "The package `cyclonedx-bom` was missing, so this book has no bill of materials."


def offer(root: Path, staging: Path) -> None:
    """Write the bill of materials into the staging folder, if a page of the book asks for it.

    Raises
    ------
    BuildError
        When it cannot be made.
    """
    texts = {page: page.read_text("utf-8") for page in sorted((staging / "book").glob("*.md"))}
    asked = {page: text for page, text in texts.items() if MARK in text}
    if not asked:
        return
    line = link(root, staging / "notebooks" / FOLDER) if find_spec(PROGRAM) else WITHOUT
    for page, text in asked.items():
        page.write_text(text.replace(MARK, line), "utf-8")


def link(root: Path, place: Path) -> str:
    """Write the bill of materials into a folder; return the line that offers it."""
    text = bill_of_materials(root)
    place.mkdir(exist_ok=True)
    (place / FILE).write_text(text, encoding="utf-8")
    return LINK.format(folder=FOLDER, file=FILE, count=len(json.loads(text)["components"]))


def bill_of_materials(root: Path) -> str:
    """Return the bill of materials of this environment (CycloneDX, JSON).

    Parameters
    ----------
    root : Path
        The repository; its ``pyproject.toml`` says what the packages are for.

    Raises
    ------
    BuildError
        When it cannot be made; the message says why.
    """
    call = [sys.executable, "-m", PROGRAM, *OPTIONS, str(root / "pyproject.toml")]
    done = subprocess.run(call, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise BuildError(f"no bill of materials: {done.stderr.strip()[-300:]}")
    return json.dumps(without_paths(json.loads(done.stdout)), indent=1, sort_keys=True) + "\n"


def without_paths(bill: dict[str, Any]) -> dict[str, Any]:
    """Return a bill of materials without places on this machine."""
    for part in bill["components"]:
        links = part.get("externalReferences", [])
        part["externalReferences"] = [e for e in links if not e["url"].startswith("file:")]
    return bill
