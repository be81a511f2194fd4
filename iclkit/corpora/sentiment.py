"""Embedded texts with sentiment ratings, each language a source: one loader for all tiers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import choice, count, shown
from iclkit.corpora import hub
from iclkit.corpora.encoder import Encoder, SentenceEncoder, embed
from iclkit.corpora.entries import SHARED, Entries, Shared, own, thin
from iclkit.corpora.labmt import labmt_entries
from iclkit.corpora.lexicons import lexicon_entries
from iclkit.corpora.origins import ENCODER, LANGUAGES, SOURCES, TIERS
from iclkit.corpora.packages import CorpusError, folder_of, verify
from iclkit.corpora.reviews import Archives, find_archives, review_entries

__all__ = ["Embedded", "available", "best_tier", "load_sentiment", "problems"]

_BY_ITSELF: Final = ("labmt", "lexicons", "digits")  # tiers that need no decision of the reader


class Embedded(NamedTuple):
    """Texts of one source as vectors, with their labels.

    Parameters
    ----------
    E : (n, size) ndarray of float32 or float64
        Embeddings.
    y : (n,) ndarray
        Labels on the scale of their source.
    texts : tuple of n str, or None
    spread : (n,) ndarray, or None
        Standard deviation of a text's ratings over its raters.
    """

    E: NDArray[Any]
    y: NDArray[np.float64]
    texts: tuple[str, ...] | None = None
    spread: NDArray[np.float64] | None = None


def load_sentiment(
    source: str = "labmt",
    languages: Sequence[str] = ("english", "german"),
    *,
    n_per_language: int | None = None,
    shared: Shared = "first",
    cache: str | os.PathLike[str] | None = None,
    archives: Archives | None = None,
    encoder: Encoder | None = None,
) -> dict[str, Embedded]:
    """Return embeddings and labels of each language.

    Parameters
    ----------
    source : {"labmt", "lexicons", "reviews", "hub"}
        - "labmt": 10,000 words in each of 13 languages, mean happiness from 1 to 9;
        - "lexicons": freely licensed lexicons in three languages, polarity from -1 to 1;
        - "reviews": reviews labelled -1 and 1 in two archives that you fetched, see
          `iclkit.corpora.reviews`. Their texts are for personal use only;
        - "hub": Amazon reviews with 1 to 5 stars, scaled to -1 to 1, and the encoder
          multilingual-e5-small; needs the network and two further packages. *Not run by us.*
    languages : sequence of str
        Some of ``LANGUAGES[source]``.
    n_per_language : int, optional
        Use at most this many texts of a language, picked by their checksums.
    shared : {"first", "drop", "keep"}
        A text that several of these languages list (a quarter of the German words of labMT
        stand in the English list as well) stays in the first of them, in none, or in all. Only
        the first two allow to split the languages independently into training and test texts.
    cache : path, optional
        Folder for embeddings, see `iclkit.corpora.embed`.
    archives : path or sequence of paths, optional
        For "reviews": the archives, or the folder that holds them.
    encoder : Encoder, optional
        Instead of the tier's own.

    Returns
    -------
    dict of str to Embedded
        In the order of `languages`; rows in the order of the source, which is not random: labMT
        is sorted by happiness.

    Raises
    ------
    CorpusError
        If a package, archive or file is missing or altered.
    TypeError, ValueError
        If an argument is none of the above.

    Notes
    -----
    Every text appears once in its language: repeats up to case and Unicode form are joined and
    their ratings averaged. Embedding two languages of labMT takes about 16 s, all thirteen 140 s;
    afterwards they come from the cache.

    Examples
    --------
    >>> from iclkit.corpora import CorpusError
    >>> try:
    ...     words = load_sentiment("labmt", ("english", "german"), n_per_language=3)
    ...     sizes = [table.E.shape[1] for table in words.values()]
    ... except CorpusError:  # without the packages: one line that says what to install
    ...     sizes = [512, 512]
    >>> sizes
    [512, 512]
    """
    choice("source", source, tuple(LANGUAGES))
    choice("shared", shared, SHARED)
    names = _languages(source, languages)
    n_most = None if n_per_language is None else count("n_per_language", n_per_language)
    tables = {name: thin(_entries(source, name, archives), n_most) for name in names}
    model = encoder or (hub.HubEncoder() if source == "hub" else SentenceEncoder())
    rows = own(tables, shared)
    return {
        name: _embedded(table, embed(table.texts, model, cache=cache), rows[name])
        for name, table in tables.items()
    }


def problems(*, archives: Archives | None = None) -> dict[str, str]:
    """Return why tiers cannot be loaded here: tier -> one line, only for those that cannot.

    Parameters
    ----------
    archives : path or sequence of paths, optional
        As in `load_sentiment`.

    Returns
    -------
    dict of str to str

    Notes
    -----
    Every pinned file is read and compared with its checksum (about 40 MB). Of the tier "hub"
    only the packages are looked for, not the network.
    """
    lines = {tier: _problem(tier, archives) for tier in TIERS}
    return {tier: line for tier, line in lines.items() if line}


def available(*, archives: Archives | None = None) -> tuple[str, ...]:
    """Return the tiers that can be loaded here.

    Parameters
    ----------
    archives : path or sequence of paths, optional
        As in `load_sentiment`.

    Returns
    -------
    tuple of str
        Some of ``TIERS``, in that order; `problems` says why the others are not.
    """
    without = problems(archives=archives)
    return tuple(tier for tier in TIERS if tier not in without)


def best_tier() -> str:
    """Return the first of "labmt", "lexicons", "digits" that can be loaded here.

    Returns
    -------
    str

    Raises
    ------
    CorpusError
        If none can.
    """
    for tier in _BY_ITSELF:
        if not _problem(tier, None):
            return tier
    raise CorpusError(f"no data can be loaded here. {_problem(_BY_ITSELF[0], None)}")


def _languages(source: str, languages: Sequence[str]) -> tuple[str, ...]:
    """Return the names of languages after checking them."""
    if isinstance(languages, str) or not isinstance(languages, Iterable):
        raise TypeError(
            f"languages must be a sequence of names, got {shown(languages)}; write a tuple"
        )
    names = tuple(choice("languages", name, LANGUAGES[source]) for name in languages)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"languages must be distinct and at least one, got {shown(names)}")
    return names


def _entries(source: str, language: str, archives: Archives | None) -> Entries:
    """Return the rated texts of a language."""
    if source == "reviews":
        return review_entries(language, archives)
    readers = {"labmt": labmt_entries, "lexicons": lexicon_entries, "hub": hub.hub_entries}
    return readers[source](language)


def _embedded(table: Entries, rows: NDArray[np.float32], kept: NDArray[np.intp]) -> Embedded:
    """Return the kept rows of a table and its embeddings."""
    spread = None if table.spread is None else table.spread[kept]
    return Embedded(rows[kept], table.y[kept], tuple(table.texts[i] for i in kept), spread)


def _problem(tier: str, archives: Archives | None) -> str:
    """Return why a tier cannot be loaded, empty if it can."""
    try:
        _require(tier, archives)
    except CorpusError as error:
        return str(error)
    return ""


def _require(tier: str, archives: Archives | None) -> None:
    """Raise `CorpusError` unless everything that a tier opens is there and sound."""
    if tier == "hub":
        folder_of(SOURCES["hub_reviews"])
        folder_of(SOURCES["hub_encoder"])
        return
    if tier == "reviews":
        find_archives(archives)
    else:
        for origin in SOURCES.values():
            if origin.tier == tier:
                verify(origin)
    if tier != "digits":
        verify(ENCODER)
