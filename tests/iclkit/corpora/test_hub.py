import sys
from types import SimpleNamespace

import numpy as np
import pytest

from iclkit.corpora import CorpusError, hub, load_sentiment

TEXTS = [f"Bewertung {i} von zehn" for i in range(10)]


@pytest.fixture
def network(monkeypatch):
    """Stand-ins for the two optional packages: a table of ten lines, an encoder of numbers."""
    asked = []

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        return {"text": [f"{config} {text}" for text in TEXTS], "label": [0, 1, 2, 3, 4] * 2}

    def encode(texts, *, normalize_embeddings):
        asked.append(texts[0])
        rows = np.ones((len(texts), 384), dtype=np.float32)
        return rows / np.sqrt(384) if normalize_embeddings else rows

    datasets = SimpleNamespace(load_dataset=load_dataset)
    model = SimpleNamespace(encode=encode)
    package = SimpleNamespace(SentenceTransformer=lambda name: asked.append(name) or model)
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    monkeypatch.setitem(sys.modules, "sentence_transformers", package)
    return asked


def test_ten_reviews_come_as_vectors_and_scaled_stars(network, tmp_path):
    sources = load_sentiment("hub", ("german", "english"), cache=tmp_path)
    assert list(sources) == ["german", "english"]
    np.testing.assert_array_equal(sources["german"].y, [-1, -0.5, 0, 0.5, 1] * 2)
    assert sources["english"].E.shape == (10, 384)
    assert sources["english"].texts[0] == "en Bewertung 0 von zehn"
    assert ("mteb/AmazonReviewsClassification", "de", "train") in network
    assert "query: de Bewertung 0 von zehn" in network
    assert network.count("intfloat/multilingual-e5-small") == 1


def test_a_second_time_no_encoder_is_needed(network, tmp_path, monkeypatch):
    first = load_sentiment("hub", ("german",), cache=tmp_path, n_per_language=4)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    again = load_sentiment("hub", ("german",), cache=tmp_path, n_per_language=4)
    np.testing.assert_array_equal(first["german"].E, again["german"].E)


def message(function, *args, **kwargs):
    with pytest.raises(CorpusError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["datasets", "sentence-transformers"])
def test_an_absent_package_is_named(network, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    text = message(load_sentiment, "hub", ("german",), cache=tmp_path)
    assert f"package {name} cannot be imported" in text
    assert text.endswith(f"pip install {name}")


def test_no_network_is_named(network, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset", offline)
    text = message(load_sentiment, "hub", ("german",), cache=tmp_path)
    assert "cannot be fetched (ConnectionError: no route); check the network" in text
    monkeypatch.undo()


def test_no_model_is_named(network, tmp_path, monkeypatch):
    def offline(name):
        raise OSError

    monkeypatch.setattr(sys.modules["sentence_transformers"], "SentenceTransformer", offline)
    text = message(load_sentiment, "hub", ("german",), cache=tmp_path)
    assert text.startswith("multilingual-e5-small: cannot be fetched (OSError: no message)")


@pytest.mark.parametrize(
    ("texts", "labels"),
    [([], []), (["a"], [5]), (["a"], [0, 1]), ([None], [1]), (["a"], ["1"]), (["a"], [None])],
)
def test_a_table_of_other_things_is_refused(texts, labels):
    assert "must be texts with labels 0 to 4, got" in message(hub.parse_stars, texts, labels)
