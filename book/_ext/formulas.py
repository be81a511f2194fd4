"""Formulas as MathML, written when the book is built.

Browsers lay MathML out themselves: pages need no script for their formulas, which can be searched,
read aloud and printed at once. MathJax, as shipped by a package, only reads the TeX.
"""

import json
from functools import cache
from importlib.metadata import files
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

MATHJAX = ("loader.js", "core.js", "input/tex-full.js", "adaptors/liteDOM.js")
BARE = "var window = globalThis, self = globalThis, MathJax = {}; var console = {warn() {}};"


class Typesetter:
    """Turns TeX into MathML, each formula once; `close` ends its engine."""

    def __init__(self, macros: dict[str, str]):
        self.engine = MiniRacer()
        here = Path(__file__).with_name("mathml.js")
        for source in (BARE, *map(read, MATHJAX), here.read_text(encoding="ascii")):
            self.engine.eval(source + ";0")
        self.engine.eval(f"const convert = mathml({json.dumps(macros)}); 0")
        self.convert = cache(self.converted)

    def converted(self, tex: str, display: bool) -> str:
        """Return the MathML of a formula, or raise ValueError with what MathJax says of it."""
        try:
            return str(self.engine.eval(f"convert({json.dumps(tex)}, {json.dumps(display)})"))
        except JSEvalException as problem:
            raise ValueError(str(problem).split("Error: ")[-1].splitlines()[0]) from problem

    def close(self) -> None:
        """End the engine; without it the process would wait for the engine's threads."""
        self.engine.close()


def read(name: str) -> str:
    """Return a file of MathJax from the package that ships it."""
    found = [f for f in files("sphinx-mathjax-offline") or [] if str(f).endswith("mathjax/" + name)]
    return Path(str(found[0].locate())).read_text(encoding="utf-8")


def typeset(translator, node, tex: str, display: bool) -> str:
    """Return the formula of a node; TeX that MathJax does not understand is a warning."""
    app = translator.builder.app
    if not hasattr(app, "typesetter"):
        app.typesetter = Typesetter(app.config.formula_macros)
    try:
        return app.typesetter.convert(tex, display)
    except ValueError as problem:
        logger.warning("formula %r: %s", tex, problem, location=node)
        return translator.encode(tex)


def visit_math(translator, node):
    """Write a formula within a line."""
    body = typeset(translator, node, node.astext(), display=False)
    tag = translator.starttag(node, "span", "", CLASS="math notranslate nohighlight")
    translator.body.append(f"{tag}{body}</span>")
    raise nodes.SkipNode


def visit_math_block(translator, node):
    """Write a displayed formula with its number, if it has one."""
    tex = node.astext() if node["nowrap"] else aligned(node.astext())
    body = typeset(translator, node, tex, display=True)
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(f"{body}</div>\n")
    raise nodes.SkipNode


def aligned(tex: str) -> str:
    """Return displayed TeX as one formula: paragraphs are lines, each may have more lines."""
    parts = [part for part in tex.split("\n\n") if part.strip()]
    split = [rf"\begin{{split}}{p}\end{{split}}" if r"\\" in p else p for p in parts]
    lines = r" \\ ".join(split)
    return lines if len(split) == 1 else rf"\begin{{aligned}}{lines}\end{{aligned}}"


def close(app, problem) -> None:
    """End the engine with the build."""
    if hasattr(app, "typesetter"):
        app.typesetter.close()
        del app.typesetter


def setup(app: Sphinx):
    """Register the renderer under the name `mathml`."""
    app.add_config_value("formula_macros", {}, "html")
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("build-finished", close)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
