"""Cards: words from the table, numbers from the run, and nothing said that is not known."""

from dataclasses import replace

import pytest

from iclkit.site import cards
from iclkit.site.cards import Citation
from iclkit.site.frontmatter import INTRODUCTION, SECTION, FrontMatter, Place
from iclkit.site.history import Change, History
from iclkit.site.pages import BuildError
from tests.toy_page import BOOK, CHANGES, ENTRIES, FIELDS, FRONT, PAGE


def test_card_names_all_that_is_known():
    text = cards.card(PAGE)
    for words in FIELDS.values():
        assert words.split("; ")[0] in text
    for words in ("3 min 28 s, 1.0 GB", "profile `book`", "seed 7", "`abc+changes`", "2026-01-02"):
        assert words in text
    assert "You will learn to add and see" in text
    assert "{download}`.ipynb <downloads/04_name.ipynb>`" in text
    assert "The paper:\n\n```bibtex\n@article{a}\n```" in text
    assert "about 5 minutes" not in text


def test_fences_of_a_card_are_nested():
    depths = []
    for line in cards.card(PAGE).splitlines():
        if line.startswith(":::"):
            fence = line.partition("{")[0]
            if fence == line:
                assert depths.pop() == len(fence)
            else:
                assert not depths or len(fence) < depths[-1]
                depths.append(len(fence))
    assert depths == []


def test_score_names_what_does_not_hold_as_plainly():
    assert cards.score(ENTRIES) == "\u2713 2 of 5 hold, \u2260 1 differs, \u25cb 2 not attempted"
    assert cards.score(ENTRIES[:2]) == "\u2713 2 of 2 hold"
    assert cards.score(ENTRIES[3:]) == "\u2713 0 of 2 hold, \u25cb 2 not attempted"
    assert "2 differ" in cards.score([ENTRIES[2], ENTRIES[2]])


def test_a_chapter_with_sections_has_two_scores():
    page = replace(PAGE, entries=ENTRIES[:2])
    line = cards.verdicts(page)
    assert "2 of 2 hold; [in the ledger](#ledger-chapter-04-name)" in line
    assert line.endswith("whole chapter: " + cards.score(ENTRIES))
    assert "whole chapter" not in cards.verdicts(PAGE)


def test_a_run_at_paper_size_stands_beside():
    page = replace(PAGE, at_paper_size={"seconds": 6052.7, "peak_memory_mb": 2736})
    assert "at paper size 101 min, 2.7 GB" in cards.card(page)
    assert "paper size" not in cards.card(PAGE)


def test_an_introduction_needs_nothing():
    front = FrontMatter("00_x", Place(INTRODUCTION, "00_x"), "Hello", {})
    text = cards.card(replace(PAGE, front=front, entries=(), chapter_entries=(), bibtex=("@b{c}",)))
    assert "about 5 minutes" in text
    assert "no claims of a paper" in text
    assert "You will learn" not in text
    assert "The paper" not in text


def test_a_section_names_what_it_belongs_to():
    fields = {
        "Belongs to": "{doc}`04_name`",
        "Status": "all *ours*",
        **dict(list(FIELDS.items())[5:7]),
    }
    text = cards.about(FrontMatter("04_s", Place(SECTION, "04_name"), "S", fields))
    assert text == "Belongs to {doc}`04_name`.\n\nStatus: all *ours*."


@pytest.mark.parametrize(("number", "words"), [(1, "1 change,"), (7, "7 changes,")])
def test_history_lists_the_last_five(number, words):
    text = cards.changes(History(CHANGES[:number]), None)
    assert f"History: {words} the last on 2026-01-09" in text
    assert text.count("Change ") == min(number, 5)
    assert ("2 older" in text) == (number == 7)


def test_history_of_an_edited_page_and_of_none():
    assert "edited since, not committed" in cards.changes(History(CHANGES, edited=True), None)
    assert "not known: no git here." in cards.changes(History(problem="no git here"), None)


def test_subjects_of_commits_mean_nothing_to_markdown():
    odd = "`x` {role}`y` <b> [a](b) $z$ | #1 *s* _t_ \\"
    text = cards.changes(History((Change("c", "2026-01-01", odd),)), None)
    escaped = text[text.index("`c` ") + 4 : text.index("\n:::::")]
    assert "".join(escaped.split("\\")) == odd.replace("\\", "")
    assert all(escaped[i - 1] == "\\" for i, c in enumerate(escaped) if c in "`{<[$|#*_")


def test_commits_are_links_where_there_is_an_address():
    text = cards.card(replace(PAGE, place="https://example.org/a/b"))
    assert "[`abc+changes`](https://example.org/a/b/commit/abc)" in text
    assert "[`c0`](https://example.org/a/b/commit/c0)" in text
    assert "https://example.org" not in cards.card(PAGE)


class TestLaunch:
    def test_only_for_an_address_that_the_services_read(self):
        assert cards.launch_links("https://example.org/a/b", "v1", "x") == {}
        assert cards.launch_links("https://github.com.evil.org/a/b", "v1", "x") == {}
        assert cards.launch_links("https://github.com/a/b", None, "x") == {}
        assert cards.launch_links(None, "v1", "x") == {}

    def test_links_name_the_reference_and_the_file(self):
        links = cards.launch_links("https://github.com/a/b", "v1.0", "04_x")
        assert links["Colab"].endswith("/github/a/b/blob/v1.0/notebooks/04_x.ipynb")
        assert "/a/b/v1.0?urlpath=lab/tree/notebooks/04_x.ipynb" in links["Binder"]

    def test_a_card_without_them_says_how_to_start(self):
        assert "names no public repository" in cards.card(PAGE)
        assert "python3 run.py lab" in cards.card(PAGE)
        links = cards.launch_links("https://github.com/a/b", "v1.0", "04_name")
        text = cards.card(replace(PAGE, launch=links))
        assert "names no public repository" not in text
        assert f"- [Binder]({links['Binder']})" in text


class TestCite:
    REFERENCES = "@article{one,\n  title = {A {B}},\n}\n\n@misc{one2,\n  year = {2},\n}\n"

    def test_entry_by_its_key(self):
        assert cards.paper_entry(self.REFERENCES, "one") == "@article{one,\n  title = {A {B}},\n}"

    @pytest.mark.parametrize("key", ["on", "two", "one,", ".*"])
    def test_unknown_key(self, key):
        with pytest.raises(BuildError, match="has no entry"):
            cards.paper_entry(self.REFERENCES, key)

    def test_every_page_of_the_book_cites_what_there_is(self, root):
        text = (root / "book/references.bib").read_text()
        for key in ("ren2024", "zhang2024", "demir2025", "lu2025"):
            assert cards.paper_entry(text, key).count("{") == cards.paper_entry(text, key).count(
                "}"
            )

    def test_entry_of_a_page(self):
        got = cards.page_entry(FRONT, BOOK, "abc", None)
        assert got.startswith("@incollection{iclr-04-name,\n")
        assert r"{{A title: of 100 \%}}" in got
        assert r"commit abc, notebook 04\_name}}" in got
        assert "url" not in got
        assert "{https://x.org/a/b}" in cards.page_entry(FRONT, BOOK, "abc", "https://x.org/a/b")

    def test_citation_of_the_book(self, root):
        got = Citation.of(root)
        assert got.title == "In-Context Learning, Reproduced"
        assert got.year.isdigit()

    def test_people_and_groups(self, tmp_path):
        (tmp_path / "CITATION.cff").write_text(
            "title: T\ndate-released: 2026-01-02\nauthors:\n  - name: We\n"
            "  - {given-names: A. B., family-names: See}\n"
        )
        assert Citation.of(tmp_path) == ("T", "{We} and {A. B. See}", "2026")

    @pytest.mark.parametrize(
        "text", ["", "# A page", "title: T", "authors: [", "title: T\nauthors: 1"]
    )
    def test_a_broken_citation_is_named(self, tmp_path, text):
        (tmp_path / "CITATION.cff").write_text(text)
        with pytest.raises(BuildError, match=r"CITATION.cff needs title, authors"):
            Citation.of(tmp_path)


class TestSelfCheck:
    @staticmethod
    def place(*sources):
        cells = [
            {"cell_type": kind, "id": str(i), "source": text}
            for i, (kind, text) in enumerate(sources)
        ]
        return [cell["id"] for cell in cards.with_selfcheck(cells, "04_x")]

    def test_stands_before_the_last_exercises(self):
        cells = [
            ("markdown", "## Exercises 0"),
            ("code", "## Exercises"),
            ("markdown", ["x\n", "## Exercises"]),
        ]
        assert self.place(*cells, ("markdown", "end")) == ["0", "1", "selfcheck", "2", "3"]

    def test_else_at_the_end(self):
        assert self.place(("markdown", "### Exercises"), ("code", "x")) == ["0", "1", "selfcheck"]

    def test_names_its_file(self):
        text = cards.with_selfcheck([], "04_x")[0]["source"]
        assert text == "(selfcheck-04_x)=\n## Check yourself\n\n```{selfcheck} 04_x\n```\n"
