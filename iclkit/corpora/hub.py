"""The paper's own kind of data and encoder, from the network: *not run by us*.

A mirror of the Multilingual Amazon Reviews Corpus (the original was withdrawn by its provider)
and multilingual-e5-small. Both need packages that are not dependencies of this library and the
network. What we tested is this code, with a table of ten lines and an encoder made of numbers.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from iclkit.corpora.entries import Entries, unique
from iclkit.corpora.origins import SOURCES
from iclkit.corpora.packages import CorpusError, Origin

__all__ = ["HubEncoder", "hub_entries", "parse_stars", "require"]

_REVIEWS: Final = "mteb/AmazonReviewsClassification"
_ENCODER: Final = "intfloat/multilingual-e5-small"
_CONFIGS: Final = {
    "chinese": "zh",
    "english": "en",
    "french": "fr",
    "german": "de",
    "japanese": "ja",
    "spanish": "es",
}


def hub_entries(language: str) -> Entries:
    """Return the training reviews of a language, stars 1 to 5 scaled to -1 to 1.

    Parameters
    ----------
    language : str
        One of ``LANGUAGES["hub"]``.

    Returns
    -------
    Entries

    Raises
    ------
    CorpusError
        If the package datasets is missing, or the table cannot be fetched or read.
    """
    origin = SOURCES["hub_reviews"]
    datasets = require(origin)
    try:
        table = datasets.load_dataset(_REVIEWS, _CONFIGS[language], split="train")
        texts, labels = list(table["text"]), list(table["label"])
    except Exception as error:  # network, service and format each have their own
        raise _failed(origin, error) from error
    return unique(parse_stars(texts, labels))


def parse_stars(texts: Sequence[str], labels: Sequence[int]) -> Entries:
    """Return texts with labels 0 to 4 scaled to -1 to 1.

    Parameters
    ----------
    texts : sequence of n str
    labels : sequence of n int

    Returns
    -------
    Entries

    Raises
    ------
    CorpusError
        If there are none, the numbers differ, a text is not a text or a label none of 0 to 4.
    """
    good = all(isinstance(text, str) for text in texts) and set(labels) <= {0, 1, 2, 3, 4}
    if not good or len(texts) != len(labels) or not texts:
        raise CorpusError(
            f"{SOURCES['hub_reviews'].name}: must be texts with labels 0 to 4, "
            f"got {len(texts)} texts and labels {sorted(set(labels), key=str)[:6]}"
        )
    return Entries(tuple(texts), (np.array(labels, dtype=np.float64) - 2) / 2)


@dataclass(frozen=True)
class HubEncoder:
    """The encoder multilingual-e5-small: (n, 384), unit rows; *not run by us*.

    Parameters
    ----------
    name : str
    size : int

    Raises
    ------
    CorpusError
        On first use, if the package sentence-transformers is missing or the model cannot be
        fetched.
    """

    name: str = _ENCODER
    size: int = 384

    def __call__(self, texts: Sequence[str]) -> NDArray[Any]:
        """Return the embeddings of some texts, each asked as a query."""
        queries = ["query: " + text for text in texts]
        return np.asarray(self._model.encode(queries, normalize_embeddings=True))

    @cached_property
    def _model(self) -> Any:
        origin = SOURCES["hub_encoder"]
        package = require(origin)
        try:
            return package.SentenceTransformer(self.name)
        except Exception as error:  # network, service and format each have their own
            raise _failed(origin, error) from error


def require(origin: Origin) -> Any:
    """Return the optional package of an origin, or raise `CorpusError` with what to install."""
    try:
        return importlib.import_module(origin.module)
    except ImportError as error:
        raise CorpusError(
            f"{origin.name}: package {origin.package} cannot be imported ({error}); "
            f"pip install {origin.package}"
        ) from None


def _failed(origin: Origin, error: Exception) -> CorpusError:
    """Return the one line about something that could not be fetched."""
    first = (str(error) or "no message").splitlines()[0]
    return CorpusError(
        f"{origin.name}: cannot be fetched ({type(error).__name__}: {first[:120]}); "
        'check the network, or use the source "labmt"'
    )
