"""What the book adds to Sphinx: claims as referable objects, cures for its extensions' defects."""

import re

from sphinx.application import Sphinx

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


def skip_fields(app, what, name, obj, skip, options):
    """Leave out the fields of a named tuple: its docstring lists them with their meaning."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx):
    """Register the claim directive and role, and the cures."""
    app.add_crossref_type("claim", "claim", objname="claim")
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("autodoc-skip-member", skip_fields)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
