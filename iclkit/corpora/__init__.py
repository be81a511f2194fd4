"""Real data, each language a source: labelled texts as vectors, and digits as a stand-in.

Nothing of the data is part of this library: they are read from installed packages or from
archives that the reader fetched, verified by their checksums. `SOURCES` names their terms.
"""

from iclkit.corpora.encoder import Encoder, SentenceEncoder, cache_folder, embed
from iclkit.corpora.images import digits
from iclkit.corpora.origins import ENCODER, LANGUAGES, SOURCES, TIERS
from iclkit.corpora.packages import CorpusError, Origin
from iclkit.corpora.sentiment import Embedded, available, best_tier, load_sentiment, problems

__all__ = [
    "ENCODER",
    "LANGUAGES",
    "SOURCES",
    "TIERS",
    "CorpusError",
    "Embedded",
    "Encoder",
    "Origin",
    "SentenceEncoder",
    "available",
    "best_tier",
    "cache_folder",
    "digits",
    "embed",
    "load_sentiment",
    "problems",
]
