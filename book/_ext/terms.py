"""Links from the chapters to the glossary: the first time that a page uses a term.

Notebooks stay free of roles for it. Only terms that cannot be mistaken for everyday words are
linked; the others stand in the glossary for who looks them up.
"""

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

CHAPTERS = "notebooks/"
PLAIN = {"pool", "ridgeless", "readout", "dMMSE", "spike", "mixture", "pretraining"}
BOXES = {"claim", "page-card", "cell_output"}
OUTSIDE = (  # text that is a title, a link, or says something of another kind already
    nodes.title,
    nodes.caption,
    nodes.reference,
    nodes.literal,
    nodes.strong,
    nodes.emphasis,
    nodes.table,
    nodes.figure,
    nodes.field_list,
)


def is_distinct(term: str) -> bool:
    """Return whether a term means only one thing wherever it stands."""
    return " " in term or "-" in term or term in PLAIN


def glossary_terms(app: Sphinx) -> dict[str, tuple[str, str, str]]:
    """Return page, anchor and spelling of each term that may be linked, by its small letters."""
    objects = app.env.get_domain("std").get_objects()
    return {
        name.lower(): (page, anchor, name)
        for name, _, kind, page, anchor, _ in objects
        if kind == "term" and is_distinct(name)
    }


def pattern_of(terms: list[str]) -> re.Pattern[str]:
    """Return what finds the terms, longer ones first, in the plural too."""
    longest_first = sorted(terms, key=lambda term: (-len(term), term))
    words = "|".join(map(re.escape, longest_first))
    plural = "(?:(?<!flow)s)?"  # a gradient flow is a noun; what a gradient flows through is not
    return re.compile(rf"\b({words}){plural}\b", re.IGNORECASE)


def running_texts(doctree: nodes.document) -> Iterator[nodes.Text]:
    """Yield the texts of a page's paragraphs in which a term may be linked."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if not is_inside(paragraph, OUTSIDE) and not in_box(paragraph):
            for text in list(paragraph.findall(nodes.Text)):
                if not is_inside(text, OUTSIDE) and not isinstance(text.parent, nodes.math):
                    yield text


def is_inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    """Return whether a node stands within a node of some kinds."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def in_box(node: nodes.Node) -> bool:
    """Return whether a node stands in a claim, a self-check, a card or the output of a cell."""
    while node.parent is not None:
        node = node.parent
        if type(node).__name__ == "html_element" or BOXES & set(node["classes"]):
            return True
    return False


def link_terms(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Link the first use of each term on a chapter's page."""
    terms = glossary_terms(app) if docname.startswith(CHAPTERS) else {}
    if not terms:
        return
    pattern, seen = pattern_of(list(terms)), set()
    for text in running_texts(doctree):
        pieces, end = [], 0
        for found in pattern.finditer(text):
            page, anchor, name = terms[found[1].lower()]
            if anchor not in seen:
                seen.add(anchor)
                words = nodes.inline("", found[0], classes=["term"])
                link = make_refnode(app.builder, docname, page, anchor, words, name)
                pieces += [nodes.Text(text[end : found.start()]), link]
                end = found.end()
        if pieces:
            text.parent.replace(text, [*pieces, nodes.Text(text[end:])])


def setup(app: Sphinx):
    """Register the links."""
    app.connect("doctree-resolved", link_terms)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
