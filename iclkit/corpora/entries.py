"""Rated texts before they are embedded: repeats joined, samples drawn, shared forms dropped.

For the loaders of this package.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHARED", "Entries", "Shared", "fold", "one_per_key", "own", "select", "thin", "unique"]

Floats = NDArray[np.float64]
Shared = Literal["first", "drop", "keep"]

SHARED: Final = ("first", "drop", "keep")


class Entries(NamedTuple):
    """Texts of one language with their ratings."""

    texts: tuple[str, ...]
    y: Floats  # (n,)
    spread: Floats | None = None  # (n,) SD over raters


def fold(text: str) -> str:
    """Return what two spellings of one text share: no case, one Unicode form, single spaces.

    Parameters
    ----------
    text : str

    Returns
    -------
    str

    Examples
    --------
    >>> fold("  Strasse ") == fold("STRASSE")
    True
    """
    return unicodedata.normalize("NFC", " ".join(text.split()).casefold())


def unique(entries: Entries) -> Entries:
    """Return one entry per text up to `fold`: first spelling, mean rating, mean spread.

    Parameters
    ----------
    entries : Entries

    Returns
    -------
    Entries

    Examples
    --------
    >>> unique(Entries(("Yes", "no", "yes"), np.array([1.0, -1.0, 0.0])))
    Entries(texts=('Yes', 'no'), y=array([ 0.5, -1. ]), spread=None)
    """
    first, group = _groups([fold(text) for text in entries.texts])
    spread = None if entries.spread is None else _means(entries.spread, group)
    return Entries(tuple(entries.texts[i] for i in first), _means(entries.y, group), spread)


def one_per_key(entries: Entries, keys: Sequence[str]) -> Entries:
    """Return the first entry of every key."""
    return select(entries, np.array(_groups(keys)[0], dtype=np.intp))


def thin(entries: Entries, n_most: int | None) -> Entries:
    """Return at most `n_most` entries, the same on every machine and nested in `n_most`.

    Parameters
    ----------
    entries : Entries
    n_most : int or None
        None keeps all.

    Returns
    -------
    Entries
        Those whose folded texts have the smallest checksums, in the order given: a random
        sample for every purpose, without a generator.
    """
    if n_most is None or len(entries.texts) <= n_most:
        return entries
    order = sorted(range(len(entries.texts)), key=lambda i: _mark(entries.texts[i]))
    return select(entries, np.sort(np.array(order[:n_most], dtype=np.intp)))


def select(entries: Entries, rows: NDArray[np.intp]) -> Entries:
    """Return some rows."""
    spread = None if entries.spread is None else entries.spread[rows]
    return Entries(tuple(entries.texts[i] for i in rows), entries.y[rows], spread)


def own(tables: Mapping[str, Entries], shared: Shared) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each language that stay when forms in several languages are settled.

    Parameters
    ----------
    tables : mapping of language to Entries
    shared : {"first", "drop", "keep"}
        A form in several lists stays in the first of them, in none, or in all.

    Returns
    -------
    dict of language to (n_kept,) ndarray of int
    """
    forms = {language: [fold(text) for text in table.texts] for language, table in tables.items()}
    home = {form: language for language in reversed(forms) for form in forms[language]}
    lists = Counter(form for listed in forms.values() for form in set(listed))

    def stays(form: str, language: str) -> bool:
        if shared == "drop":
            return lists[form] == 1
        return shared == "keep" or home[form] == language

    return {
        language: np.flatnonzero([stays(form, language) for form in listed])
        for language, listed in forms.items()
    }


def _groups(keys: Sequence[str]) -> tuple[list[int], NDArray[np.intp]]:
    """Return the first position of every distinct key, and the number of each entry's key."""
    numbers: dict[str, int] = {}
    group = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)
    return list(np.unique(group, return_index=True)[1]), group


def _means(values: Floats, group: NDArray[np.intp]) -> Floats:
    """Return the mean of each group."""
    return np.bincount(group, weights=values) / np.bincount(group)


def _mark(text: str) -> bytes:
    """Return a text's checksum."""
    return hashlib.sha256(fold(text).encode("utf-8", "surrogatepass")).digest()
