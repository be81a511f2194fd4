import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from iclkit.corpora import CorpusError, SentenceEncoder, cache_folder, embed, encoder, problems

TEXTS = ["good", "schlecht", "愛", "with\tblank", ""]


@dataclass
class Stub:
    """Vectors that depend on the text alone; counts its calls."""

    name: str = "stub 1"
    size: int = 4
    calls: list = field(default_factory=list)

    def __call__(self, texts):
        self.calls.append(list(texts))
        rows = [[len(text), sum(map(ord, text)) % 97, 1 / 3, 0.1] for text in texts]
        return np.array(rows, dtype=np.float32)[:, : self.size]


def only_file(folder):
    (path,) = folder.glob("*")
    return path


def test_fresh_and_stored_embeddings_are_the_same_numbers(tmp_path):
    stub = Stub()
    fresh, stored = embed(TEXTS, stub, cache=tmp_path), embed(TEXTS, stub, cache=tmp_path)
    assert len(stub.calls) == 1
    assert fresh.dtype == stored.dtype == np.float32
    np.testing.assert_array_equal(fresh, stored)
    np.testing.assert_allclose(fresh, Stub()(TEXTS), rtol=2**-11)


@pytest.mark.parametrize(
    ("texts", "stub"),
    [
        (TEXTS[::-1], Stub()),
        (TEXTS[:-1], Stub()),
        (["goods", "chlecht", *TEXTS[2:]], Stub()),
        (TEXTS, Stub(name="stub 2")),
        (TEXTS, Stub(size=3)),
    ],
)
def test_other_texts_or_another_encoder_are_computed_anew(tmp_path, texts, stub):
    embed(TEXTS, Stub(), cache=tmp_path)
    rows = embed(texts, stub, cache=tmp_path)
    assert len(stub.calls) == 1
    np.testing.assert_allclose(rows, Stub(size=stub.size)(texts), rtol=2**-11)


def flip(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_cut_short_is_replaced(tmp_path, share):
    right = embed(TEXTS, Stub(), cache=tmp_path)
    path = only_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    np.testing.assert_array_equal(embed(TEXTS, Stub(), cache=tmp_path), right)
    again = Stub()
    np.testing.assert_array_equal(embed(TEXTS, again, cache=tmp_path), right)
    assert not again.calls


def test_no_flipped_bit_changes_a_number(tmp_path):
    right = embed(TEXTS, Stub(), cache=tmp_path)
    path = only_file(tmp_path)
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(flip(content, position))
        np.testing.assert_array_equal(embed(TEXTS, Stub(), cache=tmp_path), right)


def test_a_sound_file_of_other_texts_under_this_name_is_not_used(tmp_path):
    embed(TEXTS, Stub(), cache=tmp_path)
    mine = only_file(tmp_path)
    embed(TEXTS[::-1], Stub(), cache=tmp_path)
    (other,) = set(tmp_path.glob("*")) - {mine}
    other.replace(mine)
    np.testing.assert_allclose(embed(TEXTS, Stub(), cache=tmp_path), Stub()(TEXTS), rtol=2**-11)


def test_pickled_arrays_are_not_loaded(tmp_path):
    right = embed(TEXTS, Stub(), cache=tmp_path)
    with only_file(tmp_path).open("wb") as file:
        np.savez(file, rows=np.array([{}], dtype=object), seal=np.zeros(32, np.uint8))
    np.testing.assert_array_equal(embed(TEXTS, Stub(), cache=tmp_path), right)


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(encoder.tempfile, "mkstemp", refuse)
    stub = Stub()
    for _ in range(2):
        np.testing.assert_allclose(embed(TEXTS, stub, cache=tmp_path), Stub()(TEXTS), rtol=2**-11)
    assert len(stub.calls) == 2
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def fill(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoder.np, "savez", fill)
    np.testing.assert_allclose(embed(TEXTS, Stub(), cache=tmp_path), Stub()(TEXTS), rtol=2**-11)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x\0y", "n" * 300, "Überlänge 愛/two  words"])
def test_folders_with_odd_names_never_fail(tmp_path, name):
    folder = os.path.join(tmp_path, name)  # noqa: PTH118 -- as a string
    np.testing.assert_allclose(embed(TEXTS, Stub(), cache=folder), Stub()(TEXTS), rtol=2**-11)


def test_many_at_once_see_whole_files_only(tmp_path):
    texts = [f"word {i}" for i in range(3000)]
    right = embed(texts, Stub(), cache=tmp_path / "reference")
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(embed, texts, Stub(), cache=tmp_path / "shared") for _ in range(24)]
        for job in jobs:
            np.testing.assert_array_equal(job.result(), right)
    assert only_file(tmp_path / "shared").suffix == ".npz"


@pytest.mark.parametrize(
    "rows",
    [np.zeros((5, 3)), np.zeros(5), np.full((5, 4), np.nan), np.full((5, 4), 1e6)],
    ids=["narrow", "flat", "nan", "beyond float16"],
)
def test_an_encoder_that_returns_something_else_is_refused(tmp_path, rows):
    class Odd(Stub):
        def __call__(self, _):
            return rows

    with pytest.raises(CorpusError, match=r"encoder stub 1: must return finite numbers of shape"):
        embed(TEXTS, Odd(), cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_folder_is_the_argument_then_the_variable_then_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLKIT_CACHE", str(tmp_path / "variable"))
    assert cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert cache_folder() == tmp_path / "variable"
    monkeypatch.setenv("ICLKIT_CACHE", "")
    monkeypatch.setattr(encoder.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/iclkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/iclkit"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("platform", "folder"), [("darwin", "Library/Caches/iclkit"), ("win32", "AppData/Local/iclkit")]
)
def test_other_systems_have_other_folders(tmp_path, monkeypatch, platform, folder):
    monkeypatch.delenv("ICLKIT_CACHE", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(encoder.sys, "platform", platform)
    monkeypatch.setattr(encoder.Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / folder


def test_an_account_without_a_home_has_no_cache(monkeypatch):
    def homeless():
        raise RuntimeError("no home")

    monkeypatch.delenv("ICLKIT_CACHE", raising=False)
    monkeypatch.setattr(encoder.Path, "home", homeless)
    assert cache_folder() is None
    np.testing.assert_allclose(embed(TEXTS, Stub()), Stub()(TEXTS), rtol=2**-11)


def test_a_cache_that_is_a_file_or_no_path_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ValueError, match="cache must be a folder, got the file"):
        embed(TEXTS, Stub(), cache=path)
    with pytest.raises(TypeError, match="cache must be a path, got int"):
        cache_folder(3)
    assert cache_folder(str(tmp_path)) == Path(tmp_path)


def test_the_real_encoder_brings_translations_together(tmp_path):
    if "labmt" in problems():
        pytest.skip(problems()["labmt"])
    rows = embed(["happiness", "Glück", "table"], SentenceEncoder(), cache=tmp_path)
    assert rows.shape == (3, 512)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-3)  # float16
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.2


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("abc", "texts must be a sequence of str, got str"),
        (None, "texts must be a sequence of str, got NoneType"),
        (["a", b"b", 3], "texts must hold str, got bytes, int"),
    ],
)
def test_what_is_no_sequence_of_texts_is_refused(tmp_path, texts, message):
    with pytest.raises(TypeError, match=message):
        encoder.embed(texts, encoder.SentenceEncoder(), cache=tmp_path)


def test_what_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(TypeError, match="encoder must be a callable with name and size, got int"):
        encoder.embed(["a"], 5, cache=tmp_path)
    with pytest.raises(TypeError, match="cache must be a path, got list"):
        encoder.cache_folder([])
