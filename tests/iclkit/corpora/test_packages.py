import hashlib
import sys

import pytest

from iclkit.corpora import CorpusError, Origin, packages

CONTENT = b"word\t1\t5.0\t1.0\n"
FILE = "data/words.txt"


@pytest.fixture
def origin(tmp_path, monkeypatch):
    folder = tmp_path / "only_for_this_test"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / FILE).write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    return Origin(
        name="some words",
        tier="none",
        languages=("english",),
        licence="none",
        attribution="nobody",
        package="some-words",
        version="1.2.3",
        module=folder.name,
        files={FILE: hashlib.sha256(CONTENT).hexdigest()},
    )


def message(function, *args):
    with pytest.raises(CorpusError) as caught:
        function(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_pinned_file_is_read_without_importing_its_package(origin):
    assert packages.read(origin, FILE) == CONTENT
    packages.verify(origin)
    assert origin.module not in sys.modules


def test_an_altered_file_is_refused(origin):
    (packages.folder_of(origin) / FILE).write_bytes(CONTENT + b"\n")
    text = message(packages.read, origin, FILE)
    assert text == message(packages.verify, origin)
    assert text.startswith("some words: data/words.txt of some-words==1.2.3 must have SHA-256 ")
    assert "pip install --no-deps --force-reinstall some-words==1.2.3" in text


def test_a_missing_file_is_named(origin):
    (packages.folder_of(origin) / FILE).unlink()
    assert "cannot read data/words.txt of some-words==1.2.3 (No such file" in message(
        packages.read, origin, FILE
    )


def test_a_folder_in_the_place_of_a_file_is_named(origin):
    (packages.folder_of(origin) / FILE).unlink()
    (packages.folder_of(origin) / FILE).mkdir()
    assert "cannot read data/words.txt" in message(packages.read, origin, FILE)


def test_a_missing_package_is_named_with_the_command_that_installs_it(origin, monkeypatch):
    monkeypatch.setattr(packages, "_spec", lambda _: None)
    assert message(packages.folder_of, origin) == (
        "some words: package some-words==1.2.3 is not installed; `python3 run.py` installs it"
    )


def test_a_single_module_is_no_package(origin, tmp_path):
    (tmp_path / "single_for_this_test.py").write_text("")
    single = Origin("x", "t", (), "l", "a", "single", module="single_for_this_test")
    assert "package single is not installed" in message(packages.folder_of, single)


@pytest.mark.parametrize("module", ["surely_not_installed_anywhere", "__main__", ""])
def test_names_that_python_cannot_place_count_as_missing(module):
    nothing = Origin("x", "t", (), "l", "a", "nothing", module=module)
    assert "is not installed; pip install nothing" in message(packages.folder_of, nothing)


def test_a_module_without_record_counts_as_missing(origin, monkeypatch):
    monkeypatch.setitem(sys.modules, origin.module, None)
    assert "is not installed" in message(packages.folder_of, origin)
