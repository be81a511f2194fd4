"""What surrounds the text of a page: mended where the theme is slow, or closed to some readers.

The theme's templates are taken as they come; their output is mended here, page by page, when all
pages are written. Each repair names what it replaces and stops the build when that is not found, so
that another release of the theme cannot lose a repair unnoticed.
"""

import re
from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path
from typing import NamedTuple

from sphinx.application import Sphinx
from sphinx.util import logging

from iclkit import __version__
from iclkit.bench.runner import commit

ROOT = Path(__file__).resolve().parents[2]

logger = logging.getLogger(__name__)

# The colours are known before the first drawing: no page flashes, nothing is styled twice. A page
# that is opened at its beginning lays out what is far when the reader comes near; one that is
# opened at an anchor, or again, is laid out whole, so that the anchor is where it will stay.
COLOURS = """<script>
    (() => {
      const data = document.documentElement.dataset;
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      let mode = "auto";
      try { mode = localStorage.getItem("mode") || mode; } catch { /* nothing is kept */ }
      data.mode = mode;
      data.theme = mode === "auto" ? (dark ? "dark" : "light") : mode;
      const [opened] = performance.getEntriesByType("navigation");
      if (!location.hash && (!opened || opened.type === "navigate")) data.near = "";
    })();
  </script>"""


class Repair(NamedTuple):
    """A pattern of the theme's output and what takes its place."""

    pattern: str
    replacement: str | Callable[[re.Match[str]], str]
    required: bool = True


# Long patterns stay on one line.
# ruff: noqa: E501
REPAIRS = (
    Repair(r'<script data-cfasync="false">.*?</script>', lambda _: COLOURS),
    # Icons come from the font that the theme has besides; the script would rewrite each of them.
    Repair(r'\s*<script src="[^"]*/scripts/fontawesome\.js[^"]*"></script>', ""),
    Repair(r'<(i|span) class="((?:[\w-]+ )?fa[srb]? |[^"]*\bfa-solid )', r'<\1 aria-hidden="true" class="\2'),
    Repair(r'(?<=initial-scale=1.0" />)<meta name="viewport"[^>]*>', "", required=False),
    Repair(r'\s*<meta name="viewport" content="width=device-width, initial-scale=1"/>', "", required=False),
    # Names, brackets, dots and blanks of code have the colour of their block, and a text in quotes is
    # one thing: most of the elements of code go.
    Repair(r'<span class="(?:n|p|w)">([^<]*)</span>', r"\1", required=False),
    Repair(r'<span class="o">([.=])</span>', r"\1", required=False),
    Repair(r'(?<=<span class="s2">)([^<]*)((?:</span><span class="s2">[^<]*)+)(?=</span>)', lambda found: found[1] + TAG.sub("", found[2]), required=False),
    # A drawing in a file of its own is opened like a page of its own, and the theme has it twice.
    Repair(r'<img src="[^"]*/logo\.svg" class="[^"]*only-light" alt="([^"]*)"/>\s*<img [^>]*only-dark[^>]*/>', lambda found: logo(found[1])),
    # The page's own script marks the reader's place without laying out every section.
    Repair(r' data-bs-spy="scroll" data-bs-target="[^"]*" data-offset="\d+" data-bs-root-margin="[^"]*"', ""),
    Repair(r'\s*<link rel="stylesheet"[^>]*/sphinx-thebe\.css[^>]*>', ""),
    Repair(r'<div id="pst-primary-sidebar"', '<div id="pst-primary-sidebar" role="complementary" aria-label="The book"'),
    # Buttons that unfold say what; what unfolds code has its own words.
    Repair(r'(<a class="(?:current )?reference internal" href="[^"]*">([^<]*)</a><details[^>]*><summary)>', r'\1 aria-label="Pages of \2">', required=False),
    Repair(r'<summary aria-label="Toggle hidden content">', "<summary>", required=False),
    Repair(r"<title>([^<]+) &#8212; \1</title>", r"<title>\1</title>", required=False),
    Repair(r"<th( [^>]*)?>(<p></p>)?</th>", r"<td\1></td>", required=False),
    Repair(' role="doc-biblioentry"', ' role="listitem"', required=False),
    # What unfolds leads nowhere else.
    Repair(r"(?<=<summary>)(?:(?!</summary>).)*", lambda found: re.sub(r"</?a\b[^>]*>", "", found[0]), required=False),
    # The lines of a signature are no list of definitions.
    Repair(r'<dl>\n((?:<dd><em class="sig-param">(?:(?!</dd>).)*</dd>\n)+)</dl>', lambda found: lines(found[1]), required=False),
    Repair(r'\s*<div id="ethical-ad-placement".*?</div>', "", required=False),
)  # fmt: skip
# The theme's own scripts and styles, repaired in the same way.
ASSETS = {
    "_static/scripts/pydata-sphinx-theme.js": (
        Repair(r'\["pre","\.nboutput > \.output_area".*?\]\.join\(", "\)', '"pst-none"'),
    ),
}
SEARCH = (
    Repair(
        r'<script src="searchindex\.js"></script>',
        r'\g<0>\n  <script src="_static/search.js"></script>',
    ),
)
TAG = re.compile(r"<[^>]*>")
LOGO = ROOT / "book" / "_static" / "logo.svg"
FOOTER = re.compile(r'(<div class="extra_footer">\s*.*?)(\s*</div>)', re.DOTALL)
FOOT_LINKS = {"book/changelog.html": "Changelog", "book/health.html": "Health of the book"}
# The first page of the site leads on; the page of a wrong address finds the site's beginning
# wherever it is shown.
FIRST = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1.0" />
    <meta http-equiv="refresh" content="0; url={start}" />
    <title>{title}</title>
    <link rel="icon" href="_static/logo.svg" />
  </head>
  <body>
    <main>
      <h1>{title}</h1>
      <p><a href="{start}">Open the book</a></p>
    </main>
  </body>
</html>
"""
LOST = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1.0" />
    <title>Page not found - {title}</title>
    <link rel="icon" href="data:," />
    <style>
      :root {{ color-scheme: light dark; }}
      body {{ max-width: 40rem; margin: 4rem auto; padding: 0 1rem; font: 1.1rem/1.5 sans-serif; }}
      a {{ color: light-dark(#0b55b8, #8cc0ff); }}
    </style>
  </head>
  <body>
    <main>
      <h1>Page not found</h1>
      <p>{title} has no page at this address. It may have moved when the book was rebuilt.</p>
      <ul>
        <li><a href="{start}">Start page</a></li>
        <li><a href="search.html">Search the book</a></li>
        <li><a href="genindex.html">Index</a></li>
      </ul>
    </main>
    <script>
      const root = location.pathname.replace(/[^/]*$/, "").replace(/(book|notebooks|_[a-z]+)\\/.*$/, "");
      for (const link of document.links) link.href = root + link.getAttribute("href");
    </script>
  </body>
</html>
"""
IMAGE = re.compile(r'<img ([^>]*?)src="([^"]+/_images/[^"]+\.svg)"([^>]*?)/?>')
LENGTH = re.compile(r'<svg[^>]*? (width|height)="([\d.]+)(pt|px)?"[^>]*? (width|height)="([\d.]+)')


def repaired(text: str, repairs: tuple[Repair, ...]) -> str:
    """Return a text of the theme with repairs done."""
    for pattern, replacement, required in repairs:
        text, count = re.subn(pattern, replacement, text, flags=re.DOTALL)
        if required and not count:
            logger.warning("the theme no longer writes what a repair expects: %s", pattern)
    return text


def lines(parameters: str) -> str:
    """Return the lines of a signature as what they are in the middle of it: words."""
    return parameters.replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")


@cache
def logo(label: str) -> str:
    """Return the logo as a part of the page."""
    drawing = LOGO.read_text(encoding="utf-8").replace("\n", "")
    inside = drawing.removesuffix("</svg>").partition(">")[2]
    about = f'class="logo__image" viewBox="0 0 96 96" role="img" aria-label="{label}"'
    return f"<svg {about}>{inside}</svg>"


def mend(page: str, text: str, site: Path, made: str) -> str:
    """Return the text of a page with all repairs done and what it was made from in its footer."""
    text = repaired(text, REPAIRS + (SEARCH if page == "search.html" else ()))
    text = FOOTER.sub(lambda found: found[1] + " " + foot(page, site, made) + found[2], text)
    return IMAGE.sub(lambda found: lazy(found, (site / page).parent), text)


def foot(page: str, site: Path, made: str) -> str:
    """Return the end of a page's footer: what the book was made from, and where that is told."""
    to = "../" * page.count("/")
    there = {name: words for name, words in FOOT_LINKS.items() if (site / name).exists()}
    links = [f'<a href="{to}{name}">{words}</a>' for name, words in there.items()]
    return " &middot; ".join([escape(made), *links])


def made_from() -> str:
    """Return version and commit of the library that the book is made with."""
    return f"iclkit {__version__}, commit {commit(ROOT)}."


def lazy(found: re.Match[str], folder: Path) -> str:
    """Return an image that is loaded when the reader comes near, in the place kept for it."""
    before, source, after = found.groups()
    width, height = size_of((folder / source).resolve())
    return f'<img {before}src="{source}"{after}width="{width}" height="{height}" loading="lazy" />'


@cache
def size_of(image: Path) -> tuple[int, int]:
    """Return width and height of a drawing, in pixels."""
    with image.open(encoding="utf-8") as file:
        found = LENGTH.search(file.read(2000))
    if not found:
        raise ValueError(f"{image.name} must begin with its width and height")
    sizes = {found[1]: float(found[2]), found[4]: float(found[5])}
    scale = 4 / 3 if found[3] == "pt" else 1
    return round(scale * sizes["width"]), round(scale * sizes["height"])


def finish(app, problem) -> None:
    """Mend every page of a finished build."""
    if problem or app.builder.name not in ("html", "dirhtml"):
        return
    site, made = Path(app.outdir), made_from()
    for name, repairs in ASSETS.items():
        asset = site / name
        asset.write_text(repaired(asset.read_text("utf-8"), repairs), encoding="utf-8")
    for path in sorted(site.rglob("*.html")):
        page = path.relative_to(site)
        if not page.parts[0].startswith("_") and "<body" in (text := path.read_text("utf-8")):
            path.write_text(mend(page.as_posix(), text, site, made), encoding="utf-8")
    start = app.config.root_doc + ".html"
    for name, text in {"index.html": FIRST, "404.html": LOST}.items():
        if name != start:
            whole = text.format(title=escape(app.config.html_title or "Book"), start=start)
            (site / name).write_text(whole, encoding="utf-8")


def setup(app: Sphinx):
    """Mend the pages after all else is written."""
    app.connect("build-finished", finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
