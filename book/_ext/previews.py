"""Previews of what a page refers to: short copies of the targets, stored in the page itself.

When the pages are written, the target of every link in an article - a formula, a figure, a theorem,
an exercise, a claim, a section, a citation, a term, a function, a page - is cut out of its page,
made small and free of links, and kept as JSON at the end of the page that refers to it.
``previews.js`` shows it beside the link. Of a target on the same page only the selector is kept:
the script copies it from there. Nothing is fetched, so it works from a local folder, and without
a script the links lead where they always led.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath, relpath
from urllib.parse import unquote, urldefrag

from bs4 import BeautifulSoup, SoupStrainer, Tag
from sphinx.application import Sphinx

SCRIPT = "previews.js"
DATA_ID = "previews-data"
MAX_PAGE = 90_000  # bytes of previews on a page; beyond, the largest are left out
MAX_TEXT = 700  # characters; what is longer is cut between blocks
BLOCKS = ("p", "ul", "ol", "dl", "div", "table", "pre", "blockquote", "figure", "section")
WHOLE = ("math", "admonition", "claim", "citation")  # classes of targets that are shown whole
DROPPED = (
    ".headerlink, .citation > .label, .download, .copybtn, .selfcheck, .toctree-wrapper, script, "
    "style, form, button, details, noscript, input, select, canvas, iframe, .no-preview"
)
DROPPED_IN_MATH = ("id", "href", "tabindex", "role", "title", "aria-", "on", "data-")
KEPT_ATTRIBUTES = {"class", "src", "alt", "lang", "colspan", "rowspan", "width", "height"}
OUTSIDE = ("http:", "https:", "mailto:", "data:")


Preview = str | list[str]  # HTML, or the selectors of elements on the same page


class Site:
    """The articles of a built site, by address."""

    def __init__(self, root: Path):
        """Read the articles of all pages under a folder."""
        pages = [p for p in sorted(root.rglob("*.html")) if not is_internal(p.relative_to(root))]
        self.articles = {p.relative_to(root).as_posix(): article_of(p) for p in pages}
        self.ids = {name: ids_of(article) for name, article in self.articles.items()}

    def previews(self, page: str) -> dict[str, Preview]:
        """Return the preview of each link of a page, by the link's address as it stands there."""
        found: dict[str, Preview] = {}
        for link in self.articles[page].select("a[href]"):
            address = link["href"]
            if address not in found and is_reference(link):
                found[address] = self.preview(page, address, link)
        return within_budget({address: shown for address, shown in sorted(found.items()) if shown})

    def preview(self, page: str, address: str, link: Tag) -> Preview:
        """Return the preview of one link, or nothing."""
        there, name = resolve(page, address)
        article = self.articles.get(there)
        target = self.ids.get(there, {}).get(name) if name else article
        if article is None or target is None or repeats(link, name):
            return ""
        parts = list(shown(target))
        if there == page and all(selectors := [selector_of(p, self.ids[page]) for p in parts]):
            return selectors
        small = [cleaned(part, page, there) for part in parts]
        title = "" if there == page or not name else where(article)
        return title + "".join(cut(small))


def is_internal(path: Path) -> bool:
    """Return whether a file belongs to the machinery of the site."""
    return any(part.startswith("_") for part in path.parts)


def article_of(path: Path) -> BeautifulSoup:
    """Return the article of a page."""
    only = SoupStrainer("article")
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser", parse_only=only)


def ids_of(article: BeautifulSoup) -> dict[str, Tag]:
    """Return the elements with a name; the first of a name counts, as in a browser."""
    found: dict[str, Tag] = {}
    for tag in article.find_all(id=True):
        found.setdefault(tag["id"], tag)
    return found


def is_reference(link: Tag) -> bool:
    """Return whether a link refers to something in the book, from running text."""
    address, kinds = link["href"], link.get("class", [])
    local = not address.startswith(OUTSIDE) and address not in ("", "#")
    listed = link.find_parent(class_=["toctree-wrapper", "admonition-title"])
    return local and not listed and not {"headerlink", "download", "image-reference"} & set(kinds)


def resolve(page: str, address: str) -> tuple[str, str]:
    """Return the page and the name that an address on a page leads to."""
    path, name = urldefrag(address)
    there = normpath(f"{page}/../{unquote(path)}") if path else page
    return there, unquote(name)


def repeats(link: Tag, name: str) -> bool:
    """Return whether the reader has the target before the eyes already.

    This is so inside of the target, and between the two places of one claim.
    """
    box = link.find_parent(class_="claim")
    around = any(parent.get("id") == name for parent in link.parents if name)
    return around or (box is not None and name.startswith(("std-claim-", "ledger-")))


def shown(target: Tag) -> Iterator[Tag]:
    """Yield the elements that show a target."""
    kinds = set(target.get("class", []))
    if target.name == "dt":
        yield from definition(target)
    elif target.name == "figure" or kinds & set(WHOLE):
        yield target
    elif target.name in ("section", "article", "[document]"):
        yield from opening(target)
    elif not target.get_text(strip=True) and (after := target.find_next_sibling()):
        yield from shown(after)
    else:
        yield block_around(target)


def definition(term: Tag) -> Iterator[Tag]:
    """Yield a term, or a signature, and the first paragraph about it."""
    yield term
    about = term.find_next_sibling("dd")
    if about and (first := about.find("p")):
        yield first


def opening(section: Tag) -> Iterator[Tag]:
    """Yield the heading of a section and its first paragraph."""
    heading = section.find(["h1", "h2", "h3", "h4", "h5", "h6"])
    if heading is None:
        return
    yield heading
    texts = [p for p in heading.find_all_next("p") if is_prose(p)]
    yield from texts[:1]


def is_prose(paragraph: Tag) -> bool:
    """Return whether a paragraph is text of the page and not of a box in it."""
    boxed = paragraph.find_parent(class_=["admonition", "claim", "cell", "card", "no-preview"])
    listed = paragraph.find_parent(["figure", "table", "details", "li"])
    return not boxed and not listed and len(paragraph.get_text(strip=True)) > 30


def block_around(tag: Tag) -> Tag:
    """Return the box, or else the paragraph or row, that an element stands in."""
    box = tag.find_parent(class_=WHOLE) or tag.find_parent("figure")
    return box or tag.find_parent(["li", "p", "tr", "dd"]) or tag


def selector_of(part: Tag, ids: dict[str, Tag]) -> str:
    """Return a selector by which a browser finds an element on its page, or nothing."""
    if ids.get(part.get("id", "")) is part:
        return f'[id="{part["id"]}"]'
    about = part.parent
    term = about.find_previous_sibling("dt") if about is not None and about.name == "dd" else None
    return f'[id="{term["id"]}"] ~ dd p' if term is not None and term.get("id") else ""


def within_budget(previews: dict[str, Preview]) -> dict[str, Preview]:
    """Return the previews that a page can afford; the largest are left out first."""
    kept = dict(previews)
    for address in sorted(previews, key=lambda name: (-len(str(previews[name])), name)):
        if len(as_script(kept).encode()) <= MAX_PAGE:
            break
        del kept[address]
    return kept


def cleaned(target: Tag, page: str, there: str) -> Tag:
    """Return a copy without links, names and controls, with pictures addressed from the page."""
    tag = copy.copy(target)
    for extra in tag.select(DROPPED):
        extra.decompose()
    for link in tag.find_all(["a", "label"]):
        link.unwrap()
    for part in [tag, *tag.find_all(True)]:
        if "src" in part.attrs:
            part["src"] = rebased(part["src"], page, there)
        part.attrs = {k: v for k, v in part.attrs.items() if is_kept(part, k)}
    if tag.name in ("h1", "h2", "h3", "h4", "h5", "h6", "dt"):
        tag.name, tag["class"] = "p", ["preview-name"]
    return tag


def is_kept(part: Tag, name: str) -> bool:
    """Return whether a copy keeps an attribute; a formula needs all that shape it."""
    if part.name == "math" or part.find_parent("math"):
        return not name.startswith(DROPPED_IN_MATH)
    return name in KEPT_ATTRIBUTES


def rebased(source: str, page: str, there: str) -> str:
    """Return the address of a picture of another page."""
    if source.startswith(OUTSIDE):
        return source
    return relpath(normpath(f"{there}/../{source}"), normpath(f"{page}/.."))


def cut(parts: list[Tag]) -> Iterator[str]:
    """Yield the parts as HTML; the last blocks of what is too long give way to dots."""
    for part in parts:
        shortened = False
        while len(part.get_text()) > MAX_TEXT and (last := last_block(part)):
            last.decompose()
            shortened = True
        yield str(part).strip() + ("<p>\u2026</p>" if shortened else "")


def last_block(part: Tag) -> Tag | None:
    """Return the last block that can be left out, never the first."""
    inner = part.find("section", recursive=False) or part
    blocks = inner.find_all(BLOCKS, recursive=False)
    return blocks[-1] if len(blocks) > 1 else None


def where(article: Tag) -> str:
    """Return a line that names the page of a target."""
    heading = article.find("h1")
    if heading is None:
        return ""
    name = cleaned(heading, "", "")
    return f'<p class="preview-page">{name.get_text(strip=True)}</p>'


def as_script(previews: dict[str, Preview]) -> str:
    """Return the element that keeps the previews in a page."""
    text = json.dumps(previews, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return f'<script type="application/json" id="{DATA_ID}">{text}</script>\n'


def store(path: Path, previews: dict[str, Preview]) -> None:
    """Put the previews at the end of a page."""
    before, end, after = path.read_text(encoding="utf-8").rpartition("</body>")
    if previews and end:
        path.write_text(before + as_script(previews) + end + after, encoding="utf-8")


def add_previews(app: Sphinx, exception: Exception | None) -> None:
    """Give every page of the site its previews."""
    if exception or app.builder.name != "html":
        return
    site = Site(Path(app.outdir))
    written = {f"{name}{app.builder.out_suffix}" for name in app.env.found_docs}
    for page in sorted(written & site.articles.keys()):  # not the indices, which are all links
        store(Path(app.outdir) / page, site.previews(page))


def setup(app: Sphinx):
    """Register the previews."""
    app.add_js_file(SCRIPT, loading_method="defer")
    app.connect("build-finished", add_previews)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
