"""Sentiment lexicons in English, French (PDDL) and German (Apache-2.0), polarity -1 to 1.

The XML files lie in the packages textblob, textblob-fr and textblob-de, which are opened as
folders and never imported.
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from iclkit.corpora.entries import Entries, fold, one_per_key, unique
from iclkit.corpora.origins import LEXICONS
from iclkit.corpora.packages import CorpusError, Origin, read

__all__ = ["lexicon_entries", "parse_lexicon"]

_STEM = 6  # letters


def lexicon_entries(language: str) -> Entries:
    """Return words of a language with their polarity, one per stem of six letters.

    Parameters
    ----------
    language : str
        One of ``LANGUAGES["lexicons"]``.

    Returns
    -------
    Entries
        Senses of one form are averaged. Of the inflections of a word only the first stays, so
        that a split of these words does not put one form into each half.

    Raises
    ------
    CorpusError
        If the package is missing or the file is not the pinned one.
    """
    origin = LEXICONS[language]
    (file,) = origin.files
    entries = unique(parse_lexicon(read(origin, file), origin))
    return one_per_key(entries, [fold(text)[:_STEM] for text in entries.texts])


def parse_lexicon(content: bytes, origin: Origin) -> Entries:
    """Return the forms and polarities of a lexicon.

    Parameters
    ----------
    content : bytes
        XML with elements ``<word form="..." polarity="..."/>``.
    origin : Origin
        Where it comes from, for messages.

    Returns
    -------
    Entries
        One entry per element.

    Raises
    ------
    CorpusError
        If the content is not such XML, has no word, or a polarity is not in [-1, 1].
    """
    try:
        words = list(ElementTree.fromstring(content).iter("word"))
    except ElementTree.ParseError as error:
        raise CorpusError(f"{origin.name}: must be XML, got {error}; {origin.remedy}") from None
    if not words:
        raise CorpusError(f"{origin.name}: must hold words, got none; {origin.remedy}")
    forms, polarities = zip(*(_word(word, origin) for word in words), strict=True)
    return Entries(forms, np.array(polarities))


def _word(word: ElementTree.Element, origin: Origin) -> tuple[str, float]:
    """Return form and polarity of an element."""
    form = word.get("form", "").strip()
    try:
        polarity = float(word.get("polarity", "nan"))
    except ValueError:
        polarity = float("nan")
    if not form or not -1 <= polarity <= 1:
        raise CorpusError(
            f"{origin.name}: a word must have a form and a polarity in [-1, 1], "
            f"got {dict(word.attrib)}; {origin.remedy}"
        )
    return form, polarity
