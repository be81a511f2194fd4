"""The bill of materials: complete, the same again, and offered where a page asks for it."""

import json

import numpy
import pytest

from iclkit.site import materials
from iclkit.site.pages import BuildError


@pytest.fixture
def staging(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book/other.md").write_text("# Other\n")
    (tmp_path / "book/page.md").write_text(f"# Page\n\n{materials.MARK}\n\nEnd.\n")
    return tmp_path


def test_a_page_that_asks_offers_all_packages(root, staging):
    materials.offer(root, staging)
    bill = json.loads((staging / "notebooks/downloads/sbom.json").read_text())
    page = (staging / "book/page.md").read_text()
    assert "{download}`Bill of materials </notebooks/downloads/sbom.json>`" in page
    assert f"the {len(bill['components'])} packages" in page
    assert page.endswith("\n\nEnd.\n")
    versions = {part["name"]: part["version"] for part in bill["components"]}
    assert versions["numpy"] == numpy.__version__


def test_nothing_is_made_for_a_book_that_does_not_ask(root, staging, monkeypatch):
    monkeypatch.setattr(materials, "bill_of_materials", lambda _: 1 / 0)
    (staging / "book/page.md").unlink()
    materials.offer(root, staging)
    assert not list((staging / "notebooks").iterdir())


def test_without_the_program_the_page_says_so(root, staging, monkeypatch):
    monkeypatch.setattr(materials, "PROGRAM", "no_such_program")
    materials.offer(root, staging)
    assert "`cyclonedx-bom` was missing" in (staging / "book/page.md").read_text()
    assert not list((staging / "notebooks").iterdir())


def test_a_program_that_fails_stops_the_build(tmp_path):
    with pytest.raises(BuildError, match=r"no bill of materials: .*pyproject"):
        materials.bill_of_materials(tmp_path)


def test_places_on_this_machine_stay_out_of_the_bill():
    links = [{"url": "file:///here"}, {"url": "https://example.org"}]
    bill = materials.without_paths({"components": [{"name": "toy", "externalReferences": links}]})
    assert bill["components"][0]["externalReferences"] == links[1:]


def test_the_book_asks_once(root):
    pages = [page.read_text("utf-8") for page in (root / "book").glob("*.md")]
    assert sum(page.count(materials.MARK) for page in pages) == 1
