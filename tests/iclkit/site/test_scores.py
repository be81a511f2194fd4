"""Scores in prose: counted, linked, and never left as a comment."""

import pytest

from iclkit.site.pages import BuildError
from iclkit.site.scores import put_scores, with_scores
from tests.toy_page import ENTRIES

ASKED = "One.\n\n<!-- score: 04 -->\n\nTwo <!-- score: 99 -->.\n"


def test_a_line_of_its_own_becomes_the_score():
    text = with_scores(ASKED, ENTRIES)
    assert "\n[Ledger](#ledger-chapter-04-name): \u2713 2 of 5 hold, \u2260 1 differs, " in text
    assert text.startswith("One.\n\n[")
    assert text.endswith("2 not attempted.\n\nTwo <!-- score: 99 -->.\n")


@pytest.mark.parametrize("chapter", [": 05", ": 4", ": name", "", ":", ": 04 05"])
def test_a_chapter_without_claims_is_refused(chapter):
    with pytest.raises(BuildError, match=r"index.md: score must name a chapter .* got '"):
        with_scores(f"<!-- score{chapter} -->", ENTRIES, "index.md")


def test_only_pages_that_ask_are_written(tmp_path):
    pages = {"a.md": ASKED, "b.md": "<!-- scores -->\n", "c.txt": ASKED}
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    before = (tmp_path / "b.md").stat().st_mtime_ns
    put_scores(tmp_path, ENTRIES)
    assert (tmp_path / "a.md").read_text() == with_scores(ASKED, ENTRIES)
    assert (tmp_path / "b.md").stat().st_mtime_ns == before
    assert (tmp_path / "c.txt").read_text() == ASKED
