"""Print the built book as one PDF: its pages in their order, in one document, by Chromium.

The document is put together from the pages that readers see, so that numbers, figures and
formulas are those of the site. Links between pages become links inside the document.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from iclkit import __version__
from iclkit.site.downloads import PDF
from iclkit.site.pdf import tidy

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from playwright.sync_api import Browser, Page, ViewportSize

__all__ = [
    "NO_BROWSER",
    "find_browser",
    "launched",
    "offer",
    "one_document",
    "print_book",
    "without_offer",
]

ENVIRONMENT = "ICLKIT_CHROMIUM"  # names a browser that is not on the search path
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = (  # where macOS and Windows keep it
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
NO_BROWSER = (
    "no Chromium or Chrome found; install one (Debian: apt-get install chromium) "
    f"or name it in {ENVIRONMENT}"
)
# No sandbox: containers lack what it needs, and only own pages are opened. No name but this
# machine's resolves: what needs a network fails and is seen.
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
PAPER = (673, 993)  # A4 without its margins, in CSS pixels
MINUTES = 10 * 60 * 1000  # milliseconds until a print counts as stuck
START = "book/index.html"
REFERENCE = "book/api"  # the pages of the library's functions
OFFER = (
    '<p class="printed-book"><a href="../{path}" download>The whole book as PDF</a> ({size})</p>'
)
OFFERED = re.compile(r'<!-- pdf -->(<p class="printed-book">.*?</p>)?')  # the page's place for it
LINKED_IDS = ("id", "for", "aria-labelledby", "aria-describedby", "aria-controls")
UNPRINTED = (  # nothing to press on paper; scripts of the page's furniture
    "a.headerlink",
    "script:not([src])",
    "script[type]",
    "details.hide > summary",
    "button",
    "noscript",
    ".printed-book",
)
FOOTER = (
    '<div style="width:100%;font:8px sans-serif;text-align:center;color:#555">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)
STYLE = """
html { font-size: 12.5px; }
* { box-shadow: none !important; text-shadow: none !important; }
.printed { break-before: page; }
.printed article { padding: 0; }
.front { break-after: page; padding-top: 6cm; text-align: center; }
.contents { text-align: start; }
.contents li.deep { margin-left: 2em; }
h1, h2, h3, h4, h5, h6 { break-after: avoid; }
div.math { display: block; overflow: visible; }
div.math .eqno { float: right; }
figure, .proof, .math, tr, .admonition-title { break-inside: avoid; }
pre, code { font-size: 10.5px; overflow-wrap: anywhere; white-space: pre-wrap; }
details.hide { display: none; }
"""
TITLES = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6, [role=heading]")]
  .filter((e) => e.getClientRects().length)
  .map((e) => e.textContent.replace(/\\s+/g, " ").trim())"""
READY = """async () => {
  await document.fonts.ready;
  const pictures = [...document.images];
  await Promise.allSettled(pictures.map((i) => i.decode()));
  return pictures.filter((i) => !(i.complete && i.naturalWidth)).map((i) => i.src);
}"""


def find_browser() -> str | None:
    """Return the path of the Chromium or Chrome to use, or None.

    Returns
    -------
    str or None
        What ``ICLKIT_CHROMIUM`` names, else the first that the system has.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        return shutil.which(named)
    found = [shutil.which(program) for program in PROGRAMS + PLACES]
    return next((path for path in found if path), None)


@contextmanager
def launched(**options: Any) -> "Iterator[Browser]":
    """Give a running browser that reaches nothing outside this machine.

    Raises
    ------
    ValueError
        When there is none.
    """
    from playwright.sync_api import sync_playwright

    program = find_browser()
    if program is None:
        raise ValueError(NO_BROWSER)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=list(OPTIONS), **options)
        yield browser
        browser.close()


def print_book(site: Path, target: Path) -> Path:
    """Return `target`, the built book at `site` as one PDF.

    Parameters
    ----------
    site : Path
        The built book, ``_build/html``.
    target : Path
        The file to write; an older one stays when printing fails.

    Raises
    ------
    ValueError
        When there is no browser, no built book, or a figure that does not load.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "book.html"
        source.write_text(one_document(site), encoding="utf-8")
        with launched() as browser:
            size: ViewportSize = {"width": PAPER[0], "height": PAPER[1]}
            printed = print_page(browser.new_page(color_scheme="light", viewport=size), source)
    put(target, printed)
    return target


def put(target: Path, data: bytes) -> None:
    """Write a file; an older one stays until the new one is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(target.name + ".new")
    new.write_bytes(data)
    new.replace(target)


def offer(site: Path, printed: Path) -> None:
    """Put the printed book into the site, and a link to it on the start page.

    The link stands after the line ``<!-- pdf -->`` of the page; a page without it gets none.

    Parameters
    ----------
    site : Path
        The built book.
    printed : Path
        The PDF.
    """
    data = printed.read_bytes()
    put(site / PDF, data)
    start = site / START
    link = OFFER.format(path=PDF, size=f"{max(1, round(len(data) / 1e6))} MB")
    text = start.read_text(encoding="utf-8")
    put(start, OFFERED.sub(f"<!-- pdf -->{link}", text).encode())


def without_offer(start: bytes) -> bytes:
    """Return the start page as it was before `offer`."""
    return re.sub(OFFERED.pattern.encode(), b"<!-- pdf -->", start)


def print_page(page: "Page", source: Path) -> bytes:
    """Return a document as PDF, printed when its letters and its figures are there."""
    page.set_default_timeout(MINUTES)
    page.emulate_media(media="print")
    page.goto(source.as_uri())
    if lost := page.evaluate(READY):
        raise ValueError(f"figures that do not load: {', '.join(lost)}; build the book again")
    printed = page.pdf(
        format="A4",
        tagged=True,
        outline=True,
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOTER,
        margin={"top": "16mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
    )
    return tidy(printed, page.evaluate(TITLES))


# ------------------------------------------------------------------ one document of all pages


def one_document(site: Path) -> str:
    """Return one HTML document of all pages of a site, in their order.

    Parameters
    ----------
    site : Path
        The built book.

    Raises
    ------
    ValueError
        When there is no built book.
    """
    if not (site / START).exists():
        raise ValueError(f"no built book in {site}; run `python3 run.py book` first")
    order = reading_order(site)
    pages = {name: soup_of(site / name) for name in order}
    first = front(order, pages)
    body = "".join(section(name, depth, pages, site) for name, depth in order.items())
    return "".join(
        [
            '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light">',
            head(pages[START], site),
            f"<body>{first}<main>{body}</main></body></html>",
        ]
    )


def soup_of(path: Path) -> "BeautifulSoup":
    """Return a parsed page."""
    from bs4 import BeautifulSoup

    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def reading_order(site: Path) -> dict[str, int]:
    """Return the pages in the order of the sidebar, with their depth, but for the API reference.

    The reference is looked up on the screen; on paper it would be a third of the book. The search
    page stands at the root: its links are relative to the site.
    """
    order = {START: 0}
    for link in soup_of(site / "search.html").select("nav.bd-docs-nav li > a.reference.internal"):
        if not str(link["href"]).startswith(REFERENCE):
            order.setdefault(str(link["href"]), len(link.find_parents("ul")) - 1)
    return order


def head(first: "BeautifulSoup", site: Path) -> str:
    """Return the head of the document: the site's styles and its own."""
    kept = [str(absolute(tag, START, site)) for tag in first.select("link[rel=stylesheet]")]
    title = first.title.string if first.title else ""
    return f'<head><meta charset="utf-8"><title>{title}</title>{"".join(kept)}' + (
        f"<style>{STYLE}</style></head>"
    )


def absolute(tag: "Tag", name: str, site: Path) -> "Tag":
    """Return a tag with its file named by its full address."""
    for key in ("src", "href"):
        given = urlsplit(str(tag.get(key, "")))
        if given.path and not given.scheme:
            tag[key] = ((site / name).parent / unquote(given.path)).resolve().as_uri()
    return tag


def front(order: dict[str, int], pages: "dict[str, BeautifulSoup]") -> str:
    """Return the title page and the contents."""
    lines = []
    for name, depth in order.items():
        heading = pages[name].h1
        text = heading.get_text().rstrip("#") if heading else name
        lines.append(f'<li{" class=deep" if depth else ""}><a href="#{slug(name)}">{text}</a></li>')
    title = pages[START].h1
    name = title.get_text().rstrip("#") if title else ""
    return (
        f'<div class="front"><p style="font-size:2.4rem">{name}</p><p>Version {__version__}</p>'
        f'</div><nav class="contents" aria-label="Contents"><p>Contents</p><ul>{"".join(lines)}'
        "</ul><p>The reference of the library's functions is in the online book.</p></nav>"
    )


def section(name: str, depth: int, pages: "dict[str, BeautifulSoup]", site: Path) -> str:
    """Return one page as a section of the document."""
    article = pages[name].select_one("article")
    if article is None:
        return ""
    for tag in article.select(", ".join(UNPRINTED)):
        tag.decompose()
    for tag in article.find_all(True):
        lower(tag, depth)
        renew(tag, name, pages, site)
    return f'<div class="printed" id="{slug(name)}">{article}</div>'


def lower(tag: "Tag", depth: int) -> None:
    """Move a heading down by the depth of its page; open what is folded, but for code."""
    if re.fullmatch(r"h[1-6]", tag.name):
        tag.name = f"h{min(6, int(tag.name[1]) + depth)}"
    if tag.name == "details" and "hide" not in (tag.get("class") or []):
        tag["open"] = ""


def renew(tag: "Tag", name: str, pages: "dict[str, BeautifulSoup]", site: Path) -> None:
    """Give a tag names that no other page has, and addresses that hold in the document."""
    if tag.name == "img":
        del tag["loading"]  # nobody scrolls to it
    for key in LINKED_IDS:
        if tag.get(key):
            tag[key] = " ".join(slug(name, each) for each in str(tag[key]).split())
    if tag.name != "a":
        absolute(tag, name, site)
    elif tag.get("href"):
        link_inside(tag, name, pages, site)


def link_inside(tag: "Tag", name: str, pages: "dict[str, BeautifulSoup]", site: Path) -> None:
    """Turn a link to a page into one inside the document; a link to a file becomes plain text."""
    given = urlsplit(str(tag["href"]))
    if given.scheme:
        return
    path = ((site / name).parent / unquote(given.path)).resolve() if given.path else site / name
    target = path.relative_to(site.resolve()).as_posix() if given.path else name
    if target in pages:
        tag["href"] = "#" + slug(target, unquote(given.fragment))
    else:
        del tag["href"]


def slug(name: str, anchor: str = "") -> str:
    """Return the name inside the document of a page, or of an anchor on it."""
    page = re.sub(r"\W+", "-", name.removesuffix(".html"))
    return f"{page}--{anchor}" if anchor else page
