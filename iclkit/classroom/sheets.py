"""A notebook as one HTML page that needs nothing else: no network, no script, no file beside it."""

import html
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["page", "typesetting"]

Typeset = Callable[[str, bool], str]

CODE = re.compile(r"(<pre\b.*?</pre>|<code\b.*?</code>)", re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$(?!\s)([^$<]+?)(?<!\s)\$(?!\d)", re.DOTALL)
STYLE = """\
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5;
  font-family: system-ui, sans-serif; color: #1a1a1a; background: #fff; }
pre { padding: .6rem .8rem; overflow-x: auto; background: #f4f4f4; border-left: 3px solid #888; }
table { border-collapse: collapse; }
th, td { padding: .25rem .6rem; border: 1px solid #999; text-align: left; vertical-align: top; }
math[display="block"] { margin: .8rem 0; overflow-x: auto; }
.anchor-link, .prompt { display: none; }
.k, .kn, .kc, .ow { font-weight: bold; } .c1, .sd { color: #555; font-style: italic; }
"""
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


@contextmanager
def typesetting(root: Path) -> Iterator[Typeset]:
    """Give what turns TeX into MathML, as the book's pages do; without a book the TeX stays."""
    path = root / "book" / "_ext" / "formulas.py"
    spec = importlib.util.spec_from_file_location("formulas_of_the_book", path)
    if not path.exists() or spec is None or spec.loader is None:
        yield lambda tex, _: f"<code>{html.escape(tex)}</code>"
        return
    formulas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formulas)
    typesetter = formulas.Typesetter({})
    try:
        yield typesetter.convert
    finally:
        typesetter.close()


def page(notebook: Mapping[str, Any], title: str, typeset: Typeset) -> str:
    """Return a notebook as an HTML page, its formulas written by `typeset`."""
    import nbformat
    from nbconvert import HTMLExporter  # takes a second

    exporter = HTMLExporter(template_name="basic")
    body, _ = exporter.from_notebook_node(nbformat.from_dict(dict(notebook)))
    parts = [part if CODE.fullmatch(part) else formulas(part, typeset) for part in CODE.split(body)]
    return PAGE.format(title=html.escape(title), style=STYLE, body="".join(parts).strip())


def formulas(text: str, typeset: Typeset) -> str:
    """Return HTML with its formulas written out.

    Examples
    --------
    >>> formulas("so $x &lt; 1$.", lambda tex, display: f"[{tex}, {display}]")
    'so [x < 1, False].'
    """

    def written(found: re.Match[str]) -> str:
        tex = html.unescape(found[1] or found[2]).strip()
        return typeset(tex, bool(found[1]))

    return FORMULA.sub(written, text)
