"""How feedback and summary look: one HTML file each, without script, network or files beside it.

Whatever a student wrote is escaped, and characters that do not show are written out.
"""

import re
from functools import cache
from typing import Final

import jinja2
from markupsafe import Markup, escape

from iclkit.classroom.results import plain

__all__ = ["page", "visible"]

LONGEST: Final = 20_000  # characters of one answer
BACKTICKS: Final = re.compile(r"`([^`]+)`")
STYLE: Final = """\
:root { color-scheme: light dark; --paper: #ffffff; --text: #1b1f24; --muted: #4a5562;
  --link: #0b55b8; --good: #1a6b3c; --open: #8a4b00; --card: #f4f6f9; --line: #b9c2cd;
  --fill: #2f6db5; --empty: #dbe2ea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --text: #e8ecf1;
  --muted: #b6c2d2; --link: #8cc0ff; --good: #7bd8a2; --open: #f5b461; --card: #1e242c;
  --line: #4a5564; --fill: #7fb2ef; --empty: #343d49; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 1.5rem 1rem 3rem; background: var(--paper);
  color: var(--text); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .4rem; }
h3 { font-size: 1rem; margin: 1.1rem 0 .3rem; }
p { margin: .4rem 0; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--link);
  outline-offset: 2px; }
.muted { color: var(--muted); }
.good { color: var(--good); font-weight: 600; }
.open { color: var(--open); font-weight: 600; }
.big { font-size: 1.35rem; font-weight: 600; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: 1rem; margin: 1.2rem 0; }
.note { border-left: .35rem solid var(--open); }
.bar { display: block; width: 100%; max-width: 24rem; height: .8rem; margin: .3rem 0 .6rem; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; font-weight: 600; padding: 0 0 .35rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .7rem .4rem 0;
  border-top: 1px solid var(--line); font-weight: 400; min-width: 3.5rem;
  overflow-wrap: break-word; }
thead th { border-top: 0; color: var(--muted); font-size: .9rem; }
tbody th { min-width: 7rem; }
.words-column { min-width: 9rem; }
.whole { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: .35rem;
  padding: .7rem; margin: .4rem 0; overflow-x: auto; font: .9rem/1.45 ui-monospace, monospace;
  overflow-wrap: normal; }
pre.words { white-space: pre-wrap; overflow-wrap: anywhere; font-family: inherit; font-size: 1rem; }
summary { cursor: pointer; font-weight: 600; padding: .2rem 0; }
blockquote { margin: .4rem 0; padding: .1rem 0 .1rem .8rem; border-left: .25rem solid var(--link);
  white-space: pre-wrap; }
ul { padding-left: 1.2rem; margin: .4rem 0; }
figure { margin: .8rem 0; }
figcaption { color: var(--muted); font-size: .95rem; }
svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
.fill { fill: var(--fill); } .empty { fill: var(--empty); } .axis { stroke: var(--line); }
.mean { fill: var(--open); }
@media print { body { max-width: none; } details > * { display: block; } }
"""
FRAME: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="robots" content="noindex">
<title>{% block title %}{% endblock %}</title>
<style>
{{ style }}</style>
</head>
<body>
<main>
{% block main %}{% endblock %}
</main>
</body>
</html>
"""
MACROS: Final = """\
{% macro bar(points, out_of) %}
<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
<rect class="empty" width="100" height="4" rx="1"/>
{% set width = (100 * points / out_of) | round(2) if out_of else 0 %}
<rect class="fill" width="{{ width }}" height="4" rx="1"/>
</svg>
{% endmacro %}
"""


def page(template: str, **content: object) -> str:
    """Return a page from a template that extends ``frame``; all content is escaped."""
    return _environment().from_string(template).render(**content) + "\n"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.DictLoader({"frame": FRAME, "macros": MACROS}),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"points": plain, "visible": visible, "coded": coded}
    environment.globals["style"] = Markup(STYLE)
    return environment


def coded(text: str) -> Markup:
    """Return escaped text in which words between backticks are code.

    >>> coded("`f` is <b>")
    Markup('<code>f</code> is &lt;b&gt;')
    """
    pieces = BACKTICKS.split(visible(text))
    code = Markup("<code>{}</code>")
    tagged = (code.format(p) if i % 2 else escape(p) for i, p in enumerate(pieces))
    return Markup().join(tagged)


def visible(text: str) -> str:
    r"""Return text in which every character shows: controls are written out, length is bounded.

    >>> visible("a\u202eb")
    'a\\u202eb'
    """
    shown = "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}\n[... shortened]"
