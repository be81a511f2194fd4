"""Links from the chapters to the glossary, and the glossary itself."""

import re

import pytest
from bs4 import BeautifulSoup

from tests.book.small_book import ROOT, built

GLOSSARY = """\
# Glossary

```{glossary}
dual model
  A model of a pool.

gradient flow
  Descent.

pool
  Tasks.

law
  A distribution.
```
"""
CHAPTER = """\
# The dual model as a title

No gradient flows here. **Dual models** in bold, *dual model* in a title, `dual model` in code.
Dual models of a law are in this [pool](#x) and in that pool; a dual model is linked once.

(x)=
## Pools

The pool again, whirlpools, and a gradient flow.
"""
INDEX = "# Index\n\nA dual model.\n\n```{toctree}\nbook/glossary\nnotebooks/one\n```\n"
PAGES = {"index.md": INDEX, "book/glossary.md": GLOSSARY, "notebooks/one.md": CHAPTER}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return built(tmp_path_factory.mktemp("book"), PAGES, "terms")


def linked(site, page):
    soup = BeautifulSoup((site / page).read_text("utf-8"), "html.parser")
    return [(a.get_text(), a["href"]) for a in soup.select("a:has(> .term)")]


def test_the_first_use_of_each_term_is_linked(site):
    assert linked(site, "notebooks/one.html") == [
        ("Dual models", "../book/glossary.html#term-dual-model"),
        ("pool", "../book/glossary.html#term-pool"),
        ("gradient flow", "../book/glossary.html#term-gradient-flow"),
    ]


def test_only_chapters_are_linked(site):
    assert linked(site, "index.html") == linked(site, "book/glossary.html") == []


def test_text_stays_as_it_was(site):
    soup = BeautifulSoup((site / "notebooks/one.html").read_text("utf-8"), "html.parser")
    text = " ".join(soup.get_text().split())
    assert "Dual models of a law are in this pool and in that pool; a dual model is linked" in text
    assert "The pool again, whirlpools, and a gradient flow." in text


# ------------------------------------------------------------------ the glossary of the book


def entries():
    """Terms and definitions; terms that share a definition stand together."""
    text = (ROOT / "book/glossary.md").read_text("utf-8")
    body = text.split(":sorted:\n\n")[1].rsplit("```", 1)[0]
    return [entry_of(text.split("\n")) for text in body.strip().split("\n\n")]


def entry_of(lines):
    terms = [line for line in lines if not line.startswith("  ")]
    return terms, " ".join(line.strip() for line in lines[len(terms) :])


def test_the_glossary_is_of_a_size_to_read():
    assert 40 <= len(entries()) <= 65


def test_terms_are_in_order_and_unique():
    terms = [term for terms, _ in entries() for term in terms]
    assert len({term.lower() for term in terms}) == len(terms)
    firsts = [terms[0].lower() for terms, _ in entries()]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry[0][0])
def test_a_definition_is_short_and_leads_to_where_the_word_is_defined(entry):
    _, text = entry
    assert text.endswith(".")
    assert 5 < len(text.split()) < 75
    assert re.search(r"\{(prf:ref|doc|eq|ref|term)\}`", text)


def test_code_names_exist():
    code = "\n".join(p.read_text("utf-8") for p in (ROOT / "iclkit").rglob("*.py"))
    text = " ".join(text for _, text in entries())
    names = [name.split(".")[-1] for name in re.findall(r"(?<!\})`([A-Za-z_.]+)`", text)]
    assert len(names) > 25
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []
