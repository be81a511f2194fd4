"""Links and figures of a built site: what leads nowhere is named."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from iclkit.site import links

GOOD = (
    '<p id="here"></p><a href="#here">a</a><a href="b.html#there">b</a><a href="http://x.y">c</a>'
)
ALT = "A straight line that rises from zero to one."


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "outside.html").write_text("outside")
    (tmp_path / "site/_static").mkdir()
    (tmp_path / "site/_static/template.html").write_text('<a href="{{ nowhere }}">')
    (tmp_path / "site/a.html").write_text(GOOD)
    (tmp_path / "site/b.html").write_text('<p id="there"></p>')
    return tmp_path / "site"


def test_good_site(site):
    assert links.problems(site) == []


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ('<a href="c.html">', "link to c.html leads nowhere"),
        ('<a href="#gone">', "link to #gone leads nowhere"),
        ('<a href="b.html#gone">', "link to b.html#gone leads nowhere"),
        ('<a href="../outside.html">', "link to ../outside.html leads nowhere"),
        ('<script src="x.js"></script>', "link to x.js leads nowhere"),
        ('<img src="a.html?_images/f.svg">', "has no alternative text"),
        ('<img src="a.html?_images/f.svg" alt="short">', "has no alternative text"),
        (f'<img src="a.html?_images/f.svg" alt="../_images/{"0" * 40}.png">', "has no alternative"),
    ],
)
def test_planted_defect_is_named(site, planted, words):
    (site / "a.html").write_text(GOOD + planted)
    problems = links.problems(site)
    assert len(problems) == 1
    assert problems[0].startswith("a.html: ")
    assert words in problems[0]


def test_real_alternative_text_passes(site):
    (site / "a.html").write_text(f'<img src="a.html?_images/f.svg" alt="{ALT}">')
    assert links.problems(site) == []


class Answers(BaseHTTPRequestHandler):
    """Status codes by path; `/bad` breaks the protocol."""

    def do_GET(self):
        if self.path == "/bad":
            self.wfile.write(b"nonsense\r\n\r\n")
            return
        self.send_response(int(self.path[1:]))
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Answers) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_external_links(site, server):
    paths = ["200", "403", "404", "bad"]
    page = "".join(f'<a href="{server}/{path}#part">x</a>' for path in paths)
    (site / "a.html").write_text(page + '<a href="http://127.0.0.1:9/">x</a>')
    named = [line.split(": ")[0] for line in links.external_problems(site)]
    expected = ["http://127.0.0.1:9/", f"{server}/404#part", f"{server}/bad#part"]
    assert sorted(named) == sorted(expected)
