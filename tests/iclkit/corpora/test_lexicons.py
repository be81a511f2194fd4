import numpy as np
import pytest

from iclkit.corpora import CorpusError, lexicons
from iclkit.corpora.origins import LEXICONS

ORIGIN = LEXICONS["english"]


def xml(*words):
    return f'<sentiment language="en">{"".join(words)}</sentiment>'.encode()


def word(form, polarity):
    return f'<word form="{form}" pos="JJ" polarity="{polarity}" />'


def test_forms_and_polarities_are_read_and_comments_are_not():
    comment = f"<!-- {word('schön', 1)} -->"
    table = lexicons.parse_lexicon(xml(comment, word("salt &amp; pepper", "-0.5")), ORIGIN)
    assert table.texts == ("salt & pepper",)
    np.testing.assert_array_equal(table.y, [-0.5])


def test_senses_are_averaged_and_inflections_left_out(monkeypatch):
    content = xml(word("fine", 1.0), word("joyeux", 0.5), word("Fine", 0.0), word("joyeuxs", -1.0))
    monkeypatch.setattr(lexicons, "read", lambda *_: content)
    table = lexicons.lexicon_entries("english")
    assert table.texts == ("fine", "joyeux")
    np.testing.assert_array_equal(table.y, [0.5, 0.5])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<sentiment>",
        xml(),
        xml(word("good", "high")),
        xml(word("good", 1.5)),
        xml(word("good", "nan")),
        xml(word(" ", 1)),
        xml('<word form="good"/>'),
        xml('<word polarity="1"/>'),
        xml(word("schön", 1)).decode().encode("latin-1"),
    ],
)
def test_content_that_is_no_lexicon_ends_in_one_line(content):
    with pytest.raises(CorpusError) as caught:
        lexicons.parse_lexicon(content, ORIGIN)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(ORIGIN.name)
    assert "textblob==0.19.0" in str(caught.value)
