import numpy as np
import pytest

from iclkit.corpora.entries import Entries, fold, one_per_key, own, thin, unique


def numbered(texts):
    return Entries(tuple(texts), np.arange(float(len(texts))))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Straße", "STRASSE"),
        ("ma\u00f1ana", "man\u0303ana"),  # composed and decomposed
        (" two\n words ", "Two words"),
        ("Éducation", "éducation"),
    ],
)
def test_spellings_of_one_text_fold_to_one(left, right):
    assert fold(left) == fold(right)


def test_folding_keeps_accents():
    assert fold("más") != fold("mas")


def test_repeats_are_joined_and_their_ratings_averaged():
    table = Entries(("a", "B", "A", "b", "c"), np.arange(5.0), np.array([1.0, 2, 3, 4, 5]))
    joined = unique(table)
    assert joined.texts == ("a", "B", "c")
    np.testing.assert_array_equal(joined.y, [1, 2, 4])
    np.testing.assert_array_equal(joined.spread, [2, 3, 5])


def test_the_first_of_each_key_stays():
    kept = one_per_key(numbered(["p", "q", "r", "s"]), ["x", "y", "x", "z"])
    assert kept.texts == ("p", "q", "s")
    np.testing.assert_array_equal(kept.y, [0, 1, 3])


def test_samples_are_nested_keep_the_order_and_ignore_case():
    words = [f"word{i}" for i in range(300)]
    few, more = thin(numbered(words), 20), thin(numbered(words), 90)
    assert len(few.texts) == 20
    assert set(few.texts) < set(more.texts)
    assert list(few.y) == sorted(few.y)
    loud = thin(numbered([word.upper() for word in words]), 20)
    np.testing.assert_array_equal(loud.y, few.y)


def test_a_sample_is_no_head_of_a_sorted_list():
    kept = thin(numbered([f"word{i}" for i in range(1000)]), 100).y
    assert abs(kept.mean() - 499.5) < 4.5 * np.sqrt(1000**2 / 12 / 100)


@pytest.mark.parametrize("n_most", [None, 3, 4])
def test_a_sample_of_all_is_all(n_most):
    table = numbered("abc")
    assert thin(table, n_most) is table


@pytest.mark.parametrize(
    ("shared", "kept"),
    [
        ("first", {"english": [0, 1, 2], "german": [0, 2], "french": [1]}),
        ("drop", {"english": [0], "german": [0], "french": [1]}),
        ("keep", {"english": [0, 1, 2], "german": [0, 1, 2], "french": [0, 1]}),
    ],
)
def test_forms_of_several_lists_are_settled(shared, kept):
    tables = {
        "english": numbered(["love", "peace", "Taxi"]),
        "german": numbered(["liebe", "Peace", "klasse"]),
        "french": numbered(["taxi", "paix"]),
    }
    if shared == "drop":
        kept = kept | {"german": [0, 2]}
    rows = own(tables, shared)
    assert {language: list(found) for language, found in rows.items()} == kept


def test_a_list_may_lose_all():
    rows = own({"a": numbered(["x"]), "b": numbered(["x"])}, "first")
    assert rows["b"].shape == (0,)
    assert rows["b"].dtype.kind == "i"
