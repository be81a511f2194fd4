"""The table under a title: read as Markdown reads it, and refused with the reason."""

import pytest
import yaml

from iclkit.bench.claims import load_claims
from iclkit.bench.runner import notebook_names, read_notebook
from iclkit.site import frontmatter
from iclkit.site.frontmatter import CHAPTER, INTRODUCTION, SECTION, Place
from iclkit.site.pages import BuildError

HERE = Place(SECTION, "01_first")
TABLE = """\
| Builds on | {doc}`01_first`, after {cite:t}`someone2024` and {cite:p}`other2025` |
| --- | --- |
| You will learn to | **add**; **see** and **say** so; **add** again |
| Before you start | counting |
"""


def front(text, place=HERE):
    return frontmatter.read("page", text, place)[0]


def test_rows_of_a_table():
    got = front(f"# A *title*\n\n{TABLE}\nProse.")
    assert got.title == "A *title*"
    assert got.fields["Before you start"] == "counting"
    assert got.goals == ("**add**", "**see** and **say** so", "**add** again")
    assert got.verbs == ("add", "see", "say")
    assert got.key == "someone2024"
    assert got.parent.startswith("{doc}`01_first`")


@pytest.mark.parametrize("gap", ["\n", "\n\n", "\n\n\n\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\nProse, with a | in it.\n"])
def test_what_stands_around_the_table_stays(gap, end):
    got, before, after = frontmatter.read(
        "page", f"(label)=\n# Title{gap}{TABLE.strip()}{end}", HERE
    )
    assert before == "(label)=\n# Title"
    assert after.strip() == end.strip()
    assert len(got.fields) == 3


def test_a_page_without_a_table_is_an_introduction_or_nothing():
    text = "# Title\n\nProse.\n\n| A | table |\n| --- | --- |\n| of its | own |\n"
    got, before, after = frontmatter.read("page", text, Place(INTRODUCTION, "page"))
    assert got.fields == {}
    assert got.key is None
    assert before + after == text
    with pytest.raises(BuildError, match=r"rows .*: You will learn to, Before you start"):
        front(text)


def test_pipes_are_written_with_a_backslash():
    got = front(f"# T\n\n{TABLE}| Status | $a \\| b$ and `c\\|d` |\n")
    assert got.fields["Status"] == "$a | b$ and `c|d`"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("| Status | $|x|$ |", r"must have 2 cells \(write a pipe as \\\|\)"),
        ("| Status |", "must have 2 cells"),
        ("| Colour | red |", "unknown rows: Colour; known are Paper, "),
        ("| Before you start | more |", "two rows 'Before you start'"),
    ],
)
def test_broken_rows_are_named(row, words):
    with pytest.raises(BuildError, match=words) as caught:
        front(f"# T\n\n{TABLE}{row}\n")
    assert str(caught.value).startswith("page: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Prose only.", "must begin with a title"),
        ("## Too deep\n", "must begin with a title"),
        (f"# T\n\n{TABLE.replace('**add**; ', 'add; ')}", "needs its .*verb.*, got 'add'"),
        (f"# T\n\n{TABLE.replace('counting', '')}", "needs these rows .* Before you start"),
        (f"# T\n\n{TABLE.replace('Builds on', 'Status')}", "Belongs to, Builds on and Paper"),
    ],
)
def test_what_a_page_must_have(text, words):
    with pytest.raises(BuildError, match=words):
        front(text)


def test_a_chapter_needs_more_than_a_section():
    front(f"# T\n\n{TABLE}")
    with pytest.raises(BuildError, match=r"a chapter needs .*: Paper, Authors, Venue, Identifiers"):
        front(f"# T\n\n{TABLE}", Place(CHAPTER, "page"))


def test_places_follow_the_table_of_contents():
    deep = {"file": "notebooks/c", "sections": [{"file": "notebooks/d"}]}
    chapter = {"file": "notebooks/b", "sections": [deep, {"file": "notebooks/e"}]}
    toc = {"parts": [{"chapters": [{"file": "notebooks/a"}, chapter]}, {"caption": "empty"}]}
    got = frontmatter.places(toc, {"b", "e"})
    assert got["a"] == Place(INTRODUCTION, "a")
    assert got["b"] == Place(CHAPTER, "b")
    assert [got[name] for name in "cde"] == [Place(SECTION, "b")] * 3


def test_reading_time_leaves_exercises_out():
    prose = "word " * 1500
    assert frontmatter.reading_time([prose]).startswith("about 20 minutes")
    exercise = "```{exercise}\n" + prose
    assert frontmatter.reading_time([prose, exercise]) == frontmatter.reading_time([prose])
    assert frontmatter.reading_time([]).startswith("about 5 minutes")


def test_every_notebook_of_the_book_is_in_order(root):
    toc = yaml.safe_load((root / "book/_toc.yml").read_text())
    found = frontmatter.places(toc, {claim.notebook for claim in load_claims()})
    kinds = {}
    for name in notebook_names(root):
        cells = read_notebook(root / f"notebooks/{name}.ipynb")["cells"]
        text = "".join(next(c["source"] for c in cells if c["cell_type"] == "markdown"))
        kinds[name] = front(text, found[name]).place.kind
    assert list(kinds.values()).count(CHAPTER) == 4
    assert kinds["00_primer"] == INTRODUCTION
