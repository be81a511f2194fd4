"""The zip of the site, unpacked where a reader may unpack it, is read without network."""

import zipfile

import pytest

from iclkit.site.downloads import PDF
from iclkit.site.offline import pack
from tests.site import checks
from tests.site.conftest import need

PAGES = (
    "index.html",
    "notebooks/04_phase_transition.html",
    "book/ledger.html",
    "search.html?q=LU-A1",
)


@pytest.fixture(scope="module")
def unpacked(site, tmp_path_factory):
    """The zip in a folder whose name has a space and letters that are not ASCII."""
    place = tmp_path_factory.mktemp("zip") / "my b\u00fccher #1"
    place.mkdir()
    packed = pack(site, place, "0")
    with zipfile.ZipFile(packed) as found:
        found.extractall(place)
    return place / packed.stem


@pytest.mark.parametrize("page_of_zip", PAGES)
def test_unpacked_book_is_read_from_its_folder(open_page, unpacked, page_of_zip):
    address = unpacked.as_uri()
    page = open_page(base=address)
    page.goto(f"{address}/{page_of_zip}")
    page.locator("main h1:visible").first.wait_for()
    checks.settle(page)
    assert checks.content(page) == []


def test_a_figure_moves_there(open_page, unpacked):
    page = open_page(base=unpacked.as_uri())
    page.goto(f"{unpacked.as_uri()}/notebooks/04_past_the_paper.html")
    numbers = page.locator(".phase-diagram .pd-numbers")
    before = numbers.inner_text()
    page.locator(".phase-diagram .pd-presets button").nth(1).click()
    assert numbers.inner_text() != before


def test_it_holds_the_printed_book(site, unpacked):
    if not (site / PDF).exists():
        need("no PDF of the book; run `python3 run.py pdf` first")
    assert (unpacked / PDF).read_bytes() == (site / PDF).read_bytes()
