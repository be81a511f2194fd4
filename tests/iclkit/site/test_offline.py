"""The zip of the site: whole, the same bytes for the same site, nothing of the day."""

import os
import zipfile

import pytest

from iclkit.site import offline


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "html"
    for name in ("book/index.html", "_static/a.js", "_downloads/x.pdf", ".buildinfo", "index.html"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(f"this is {name}" * 50, encoding="utf-8")
    return site


def test_every_file_is_there_in_one_folder(site, tmp_path):
    packed = offline.pack(site, tmp_path, "1.2.3")
    assert packed.name == "in-context-learning-reproduced-1.2.3.zip"
    with zipfile.ZipFile(packed) as found:
        assert found.testzip() is None
        folder = packed.stem + "/"
        names = [name.removeprefix(folder) for name in found.namelist()]
        assert names == ["_downloads/x.pdf", "_static/a.js", "book/index.html", "index.html"]
        assert found.read(folder + "book/index.html") == (site / "book/index.html").read_bytes()


def test_same_site_same_bytes_on_another_day_by_another_person(site, tmp_path):
    first = offline.pack(site, tmp_path, "1").read_bytes()
    for path in site.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700)
    assert offline.pack(site, tmp_path, "1").read_bytes() == first
    (site / "index.html").write_text("changed")
    assert offline.pack(site, tmp_path, "1").read_bytes() != first


def test_what_is_packed_already_is_not_packed_again(site, tmp_path):
    with zipfile.ZipFile(offline.pack(site, tmp_path, "1")) as found:
        kinds = {entry.filename.split(".")[-1]: entry.compress_type for entry in found.infolist()}
    assert kinds["pdf"] == zipfile.ZIP_STORED
    assert kinds["html"] == zipfile.ZIP_DEFLATED


def test_without_a_book_it_says_so_and_keeps_the_old_file(site, tmp_path):
    old = offline.pack(site, tmp_path, "1")
    (site / "book/index.html").unlink()
    with pytest.raises(ValueError, match=r"no built book in .*html; run `python3 run.py book`"):
        offline.pack(site, tmp_path, "1")
    assert old.exists()
    assert not list(tmp_path.glob("*.new"))
