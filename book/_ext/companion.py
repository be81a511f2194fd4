"""What the book adds to Sphinx: claims as referable objects, cures for its extensions' defects."""

import re
from html import escape
from textwrap import shorten

from docutils import nodes
from sphinx.application import Sphinx

ASIDE = {"page-card", "claim", "home-doors"}
THEBE = re.compile(r"thebe", re.IGNORECASE)


def drop_thebe(app, pagename, templatename, context, doctree):
    """Leave out the live-code scripts: loaded twice they raise an error on every page."""
    if "script_files" in context:
        kept = [s for s in context["script_files"] if not THEBE.search(script_text(s))]
        context["script_files"] = kept


def script_text(script):
    """Return what a script entry holds: its address and its inline body."""
    attributes = getattr(script, "attributes", {}) or {}
    return f"{getattr(script, 'filename', script)} {attributes.get('body', '')}"


def describe(app, pagename, templatename, context, doctree):
    """Tell search engines and previews of links what a page is about: its first paragraph."""
    if doctree is None:
        return
    words = [p.astext() for p in doctree.findall(nodes.paragraph) if not is_aside(p)]
    about = escape(shorten(" ".join(words[:2]), 200, placeholder=" ..."), quote=True)
    title = escape(re.sub("<[^>]+>", "", context.get("title", "")), quote=True)
    facts = {"og:title": title, "og:type": "article", "og:site_name": app.config.html_title}
    tags = [f'<meta name="description" content="{about}" />']
    tags += [f'<meta property="{name}" content="{value}" />' for name, value in facts.items()]
    tags.append(f'<meta property="og:description" content="{about}" />')
    context["metatags"] = context.get("metatags", "") + "\n    ".join(["", *tags])


def is_aside(node):
    """Return whether a paragraph stands in a table, or in the card that names a page's paper."""
    while (node := node.parent) is not None:
        if isinstance(node, nodes.table) or ASIDE & set(node.get("classes", ())):
            return True
    return False


def skip_fields(app, what, name, obj, skip, options):
    """Leave out the fields of a named tuple: its docstring lists them with their meaning."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx):
    """Register the claim directive and role, and the cures."""
    app.add_crossref_type("claim", "claim", objname="claim")
    app.add_js_file("companion.js", loading_method="defer")
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", describe)
    app.connect("autodoc-skip-member", skip_fields)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
