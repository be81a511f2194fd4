"""What the browser tests share: the pages of a site, and a watch over a browser page."""

import pytest

from_both = pytest.mark.parametrize("site_url", ["localhost", "folder"], indirect=True)
NO_PAGES = ("_static", "_downloads", "index.html")
# Leaving the page ended the request; scripts are switched off.
MEANT = ("net::ERR_ABORTED", "csp")


def pages_of(site):
    """The pages of a built book, as addresses relative to it.

    The root only leads to the start page, and what themes ship is no page.
    """
    found = sorted(file.relative_to(site) for file in site.rglob("*.html"))
    return [file.as_posix() for file in found if file.parts[0] not in NO_PAGES]


class Watch:
    """All that a browser page complains about, and all it asks for outside its site."""

    def __init__(self, page, site_url):
        self.page, self.site_url, self.found = page, site_url, []
        page.on("console", self.console)
        page.on("pageerror", lambda error: self.found.append(f"raised: {error}"))
        page.on("request", self.request)
        page.on("requestfailed", self.failed)
        page.on("response", self.response)

    def console(self, message):
        if message.type == "error":
            self.found.append(f"console: {message.text}")

    def request(self, request):
        if not request.url.startswith((self.site_url, "data:", "blob:", "about:")):
            self.found.append(f"asks outside: {request.url}")

    def failed(self, request):
        if request.failure not in MEANT:
            self.found.append(f"failed: {request.url} {request.failure}")

    def response(self, response):
        if response.status >= 400:
            self.found.append(f"answered {response.status}: {response.url}")
