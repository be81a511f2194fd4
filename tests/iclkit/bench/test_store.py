"""The store of finished cells: exact, whole records only, one writer."""

import errno
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest

from iclkit.bench import fingerprint, store
from iclkit.bench.store import StoreError, kept_file, opened

ROW = {"a": 0.1, "b": 2}
NANS = [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8 << 48, 0xFFF8 << 48)]
VALUES = [
    *[1 / 3, -0.0, np.inf, 5e-324, *NANS, 2**62, 2**70, True, None, "tau = 1"],
    *[np.float64(1 / 3), np.float64(NANS[1]), np.float32(0.1), np.int64(-3), np.uint8(200)],
    *[np.bool_(True), np.complex128(1 + 2j), np.str_("a"), np.longdouble(1) / 3],
]


def records(folder, **options):
    with opened(folder, "draw", {}) as kept:
        return dict(kept.records)


def fill(folder, keys="xyz"):
    with opened(folder, "draw", {"seed": 0}) as kept:
        kept.add((key, ROW) for key in keys)
    return folder / "draw.jsonl"


def bits(value):
    return value if type(value) in (int, str) else np.asarray(value).tobytes()


@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{type(v).__name__} {v}")
def test_values_come_back_with_their_type_and_every_bit(tmp_path, value):
    with opened(tmp_path, "draw", {}) as kept:
        kept.add([("key", {"value": value})])
    found = records(tmp_path)["key"]["value"]
    assert type(found) is type(value)
    assert bits(found) == bits(value)


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.zeros((0, 2), dtype="f4")])
def test_arrays_come_back(tmp_path, array):
    with opened(tmp_path, "draw", {}) as kept:
        kept.add([("key", {"value": array})])
    found = records(tmp_path)["key"]["value"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_names_keep_their_order(tmp_path):
    with opened(tmp_path, "draw", {}) as kept:
        kept.add([("key", {"z": 1, "a": 2})])
    assert list(records(tmp_path)["key"]) == ["z", "a"]


@pytest.mark.parametrize("value", [[1.0], {"a": 1}, np.array([None])])
def test_what_is_no_number_is_refused(tmp_path, value):
    with opened(tmp_path, "draw", {}) as kept, pytest.raises(TypeError, match="trace must be"):
        kept.add([("key", {"trace": value})])
    assert records(tmp_path) == {}


def test_a_file_cut_at_any_byte_gives_whole_records_or_none(tmp_path):
    path = fill(tmp_path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n") - 1  # the first line says what the file is
        assert list(records(tmp_path).values()) == [ROW] * max(whole, 0), length


def test_a_file_damaged_at_any_byte_gives_no_wrong_number(tmp_path):
    path = fill(tmp_path)
    content = path.read_bytes()
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        path.write_bytes(altered)
        found = records(tmp_path)
        assert all(found[key] == ROW for key in found), place
        assert set(found) < set("xyz") or place < content.index(b"\n"), place


def test_what_a_cut_leaves_is_removed_before_more_is_written(tmp_path):
    path = fill(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    fill(tmp_path, "w")
    assert set(records(tmp_path)) == {"x", "y", "w"}


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that takes seven bytes more."""
    real = os.write

    def write(descriptor, content):
        monkeypatch.setattr(os, "write", fail)
        return real(descriptor, content[:7])

    def fail(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(os, "write", write)


def test_a_full_disk_is_one_line_and_leaves_whole_records(tmp_path, full_disk, monkeypatch):
    path = fill(tmp_path)
    before = path.read_bytes()
    with opened(tmp_path, "draw", {}) as kept:
        full_disk()
        with pytest.raises(StoreError) as caught:
            kept.add([("w", ROW)])
    assert "No space left on device; 3 cells are kept in" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_disk_that_is_full_from_the_start_is_one_line(tmp_path, full_disk):
    full_disk()
    with pytest.raises(StoreError, match="No space left on device; make room"):
        records(tmp_path)
    assert (tmp_path / "draw.jsonl").read_bytes() == b""


def test_a_second_writer_is_refused(tmp_path):
    with opened(tmp_path, "draw", {}), pytest.raises(StoreError, match="another run is writing"):
        records(tmp_path)
    records(tmp_path)


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_writer_that_was_killed_lets_go(tmp_path):
    path = fill(tmp_path)
    command = [sys.executable, "-c", HOLD, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="another run is writing"):
            records(tmp_path)
        other.kill()
    assert set(records(tmp_path)) == set("xyz")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Not a directory; name a folder that can be written"):
        records(tmp_path / "file" / "store")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_folder_without_permission_is_one_line(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):  # root may write anywhere: ask as nobody
        tmp_path.parent.parent.chmod(0o755), tmp_path.parent.chmod(0o755), tmp_path.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(StoreError, match="Permission denied; name a folder"):
            records(folder)
    finally:
        os.seteuid(os.getuid())


def test_names_with_odd_characters_stay_in_the_folder(tmp_path):
    with opened(tmp_path / "s", "../<locals>/ä", {}) as kept:
        kept.add([("x", ROW)])
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["..__locals___.jsonl"]


def test_records_reach_the_disk_at_intervals(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with opened(tmp_path, "draw", {}) as kept:
        kept.add([("x", ROW)])
        assert synced == []
        kept.synced[0] -= store.SYNC_SECONDS
        kept.add([("y", ROW)])
        kept.add([("z", ROW)])
    assert len(synced) == 1


def test_a_long_computation_keeps_its_state_in_the_folder_of_its_run(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLKIT_STORE", str(tmp_path))
    file = kept_file("d = 8, h = 1/2.pt")
    assert file.parent == tmp_path
    assert re.fullmatch(r"d___8__h___1_2-[0-9a-f]{20}\.pt", file.name)
    assert file == kept_file("d = 8, h = 1/2.pt") != kept_file("d = 8, h = 1_2.pt")
    monkeypatch.setenv("ICLKIT_STORE", "")
    assert kept_file("softmax.pt") is None


def test_a_long_computation_starts_afresh_after_an_edit_of_the_library(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLKIT_STORE", str(tmp_path))
    before = kept_file("softmax.pt")
    monkeypatch.setattr(store, "versions", lambda: {"iclkit": "0.1.0 (edited)"})
    assert kept_file("softmax.pt") != before
    monkeypatch.setattr(fingerprint, "_sources", lambda: "edited")
    with pytest.raises(StoreError, match="iclkit was edited since it was imported; start Python"):
        kept_file("softmax.pt")


@pytest.mark.parametrize("end", ["1", "2"])
def test_long_names_that_differ_at_their_end_have_files_of_their_own(tmp_path, end):
    name = 150 * "a"
    for last in "12":
        with opened(tmp_path, name + last, {}) as kept:
            kept.add([("x", {"value": last})])
    with opened(tmp_path, name + end, {}) as kept:
        assert kept.records == {"x": {"value": end}}
    assert all(len(path.name) <= 100 for path in tmp_path.iterdir())
