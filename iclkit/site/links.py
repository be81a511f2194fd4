"""Check a built site: every link and fragment leads somewhere, every figure has its text."""

import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from iclkit.bench.records import MIN_ALT

__all__ = ["external_problems", "problems"]

REFUSES_PROGRAMS = {401, 403, 405, 418, 429}  # the address exists, but only for browsers
TIMEOUT = 20  # seconds for one address


def problems(site: Path) -> list[str]:
    """Return one line per broken local link, missing file or figure without alternative text."""
    found = pages_of(site)
    return [line for page in found.values() for line in page.problems(site, found)]


def external_problems(site: Path) -> list[str]:
    """Return one line per external address of the site that does not answer."""
    pages = pages_of(site).values()
    addresses = sorted({link for page in pages for link in page.links if link.startswith("http")})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(no_answer, addresses))
    return [f"{address}: {why}" for address, why in zip(addresses, answers, strict=True) if why]


def no_answer(address: str) -> str | None:
    """Return why an address cannot be read, or None when it can."""
    request = Request(address.partition("#")[0], headers={"User-Agent": "link check"})
    try:
        with urlopen(request, timeout=TIMEOUT):
            return None
    except HTTPError as error:
        return None if error.code in REFUSES_PROGRAMS else str(error)
    except (OSError, HTTPException, ValueError) as error:
        return str(error)


def pages_of(site: Path) -> "dict[Path, Page]":
    """Return the parsed pages of a site; what a theme keeps in ``_static`` is no page."""
    files = [f for f in sorted(site.rglob("*.html")) if "_static" not in f.relative_to(site).parts]
    return {file.resolve(): Page(file) for file in files}


def is_prose(alt: str) -> bool:
    """Return whether an alternative text can be one: long enough, and no file name."""
    return len(alt) >= MIN_ALT and not re.search(r"\.(svg|png|jpe?g|gif)$", alt)


class Page(HTMLParser):
    """The links, anchors and images of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.bad_images: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what a start tag names."""
        given = {key: value or "" for key, value in attrs}
        self.ids |= {given[key] for key in ("id", "name") if given.get(key)}
        for key in ("href", "src"):
            if given.get(key):
                self.links.append(given[key])
        figure = tag == "img" and "_images" in given.get("src", "")
        if figure and not is_prose(given.get("alt", "")):
            self.bad_images.append(given["src"])

    def problems(self, site: Path, pages: "dict[Path, Page]") -> list[str]:
        """Return one line per problem on this page."""
        name = self.path.relative_to(site)
        lines = [f"{name}: figure {src} has no alternative text" for src in self.bad_images]
        broken = {link for link in self.links if not self.leads_somewhere(link, site, pages)}
        return lines + [f"{name}: link to {link} leads nowhere" for link in sorted(broken)]

    def leads_somewhere(self, link: str, site: Path, pages: "dict[Path, Page]") -> bool:
        """Return whether a local link names a file of the site, and an anchor in it, that exist."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return True
        target = (self.path.parent / unquote(parts.path)).resolve() if parts.path else self.path
        if not (target.exists() and target.resolve().is_relative_to(site.resolve())):
            return False
        page = pages.get(target.resolve())
        return not parts.fragment or page is None or unquote(parts.fragment) in page.ids
