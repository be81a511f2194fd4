"""The built book in a real browser.

`site` is the folder of the built book, `_build/html`, or what ICLKIT_SITE names. Without a built
book or a browser these tests are skipped; where ICLKIT_REQUIRE_BROWSER is set they fail.

`page` is a browser page that is watched: at the end of the test it must have told no error and
asked for nothing outside. `open_page` makes more of them, with other settings. `site_url` is the
book served from localhost; `from_both` gives a test both origins, localhost and a local folder.
"""

import functools
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from iclkit.site import printing
from tests.site.watching import Watch, pages_of

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("ICLKIT_SITE", ROOT / "_build" / "html")).resolve()
REQUIRED = bool(os.environ.get("ICLKIT_REQUIRE_BROWSER"))
DESKTOP = {"width": 1280, "height": 900}


def pytest_generate_tests(metafunc):
    """Give a test that asks for `name` one run for each page of the book."""
    if "name" in metafunc.fixturenames and "name" not in marked(metafunc):
        metafunc.parametrize("name", pages_of(SITE))


def marked(metafunc):
    return ",".join(str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize"))


def need(what):
    """End a test that cannot run: as skipped, or as failed where it must run."""
    (pytest.fail if REQUIRED else pytest.skip)(what)


@pytest.fixture(scope="session")
def site():
    if not (SITE / "book" / "index.html").exists():
        need(f"no built book in {SITE.name}; run `python3 run.py book` first")
    return SITE


@pytest.fixture(scope="session")
def browser(site):
    if printing.find_browser() is None:
        need(printing.NO_BROWSER)
    with printing.launched() as browser:
        yield browser


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def served(site):
    """The address of the book on this machine."""
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def site_url(request, site, served):
    """The address of the book, with a slash at its end; see `from_both`."""
    return {"localhost": served, "folder": site.as_uri() + "/"}[
        getattr(request, "param", "localhost")
    ]


@pytest.fixture
def open_page(browser, site_url):
    """Return a function that opens a watched page in a fresh profile, with given settings.

    `base` is where it may load from.
    """
    watches = []

    def opened(base=site_url, **settings):
        page = browser.new_context(**{"viewport": DESKTOP} | settings).new_page()
        watches.append(Watch(page, base))
        return page

    yield opened
    found = [line for watch in watches for line in watch.found]
    for watch in watches:
        watch.page.context.close()
    assert found == []


@pytest.fixture
def page(open_page):
    return open_page()
