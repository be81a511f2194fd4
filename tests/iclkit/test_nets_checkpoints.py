"""Checkpoints under kills, damage, full disks and two runs at once: right numbers or one line."""

import errno
import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from iclkit.nets import Recipe, checkpoint, train, transformer
from iclkit.prompts import Gaussian, IsotropicLinear
from iclkit.rng import stream

DIM = 3
LAW = IsotropicLinear(Gaussian(DIM), 0.01)
LONG, SHORT = Recipe(steps=430, rate=0.01, batch=8), Recipe(steps=180, rate=0.01, batch=8)
TRAINED = """
import os, signal, sys
from tests.iclkit.test_nets_checkpoints import LONG, run

saves, kept = [], os.fsync

def kill_in_the_middle_of_a_save(file):
    saves.append(file)
    if len(saves) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    kept(file)

os.fsync = kill_in_the_middle_of_a_save
run(sys.argv[1], recipe=LONG, progress=lambda step, *_: print(step, flush=True))
"""


def run(path=None, **options):
    """Train two models; what is drawn comes from sets, whose batches need a random state."""
    at = {"n_context": 4, "recipe": SHORT, "rng": stream(0), "checkpoint": path, "save_every": 50}
    return train(transformer(DIM), LAW, [5, 9], **(at | options))


def start(root, path, *, kill_in_save=0):
    """Return a process that trains and says how far it is."""
    command = [sys.executable, "-c", TRAINED, str(path), str(kill_in_save)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def saved(tmp_path):
    """A good checkpoint, stopped on the way."""
    path = tmp_path / "run.pt"

    def stop(step, *_):
        if step >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, progress=stop)
    assert path.exists()
    return path


# ------------------------------------------------------------------------ kills


def test_a_run_killed_twice_ends_with_the_same_bits(root, tmp_path):
    path = tmp_path / "run.pt"
    first = start(root, path)
    with first.stdout:
        assert [next(first.stdout) for _ in range(3)] == ["50\n", "100\n", "150\n"]
        first.kill()  # SIGKILL, wherever it is
    assert first.wait() == -signal.SIGKILL
    second = start(root, path, kill_in_save=2)
    said = second.communicate()[0].split()
    assert second.returncode == -signal.SIGKILL
    assert said  # it went on for at least one save
    assert int(said[0]) > 150 - 50  # from where the first stopped, at most one save back
    steps = []
    resumed = run(path, recipe=LONG, progress=lambda step, *_: steps.append(step))
    whole = run(recipe=LONG)
    assert steps[0] == int(said[-1]) + 50  # the save that was cut short counts for nothing
    assert steps[-1] == LONG.steps
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)
    np.testing.assert_array_equal(resumed.history, whole.history)
    np.testing.assert_array_equal(resumed.train_loss, whole.train_loss)


# ------------------------------------------------------------------------ damage


def test_every_flipped_bit_is_seen(saved):
    good, unseen = saved.read_bytes(), 0
    for place in np.linspace(0, len(good) - 1, 60).astype(int):
        bad = bytearray(good)
        bad[place] ^= 4
        saved.write_bytes(bad)
        with pytest.raises(ValueError, match=r"run\.pt is damaged; delete it to start anew$"):
            checkpoint.read(saved)
        unseen += can_load(bytes(bad)[16:])
    assert unseen > 20  # what torch would take for good, and the run for its state
    saved.write_bytes(good)
    assert checkpoint.read(saved)["step"] == 100


def can_load(content):
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("content", [b"", b"nonsense", "half", "longer", "of old"])
def test_a_damaged_checkpoint_stops_the_run_in_one_line(content, saved):
    good = saved.read_bytes()
    if content == "of old":
        torch.save({"key": "", "step": 7}, saved)
    else:
        parts = {"half": good[: len(good) // 2], "longer": good + b"\0"}
        saved.write_bytes(parts.get(content, content))
    with pytest.raises(ValueError, match=r"^checkpoint .*run\.pt is damaged; delete it") as caught:
        run(saved)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_one_line(saved, monkeypatch):
    def refuse(_path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError, match=r"run\.pt cannot be read: Permission denied"):
        run(saved)


# ------------------------------------------------------------------------ full disks


def fail(number):
    def full(*_args):
        raise OSError(number, os.strerror(number))

    return full


def to_full_device(path, mode, **options):
    """Open what is written as a device that takes nothing."""
    writes = mode == "xb"
    path, mode = ("/dev/full", "wb") if writes else (path, mode)
    return open(path, mode, **options)  # noqa: PTH123  (Path.open is what is replaced)


@pytest.mark.parametrize(
    ("target", "replacement"),
    [
        ("os.fsync", fail(errno.ENOSPC)),
        ("pathlib.Path.replace", fail(errno.EROFS)),
        pytest.param(
            "pathlib.Path.open",
            to_full_device,
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here"),
        ),
    ],
    ids=["sync", "replace", "write"],
)
def test_a_full_disk_leaves_the_last_good_checkpoint(target, replacement, saved, monkeypatch):
    good = saved.read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(target, replacement)
        with pytest.raises(OSError, match=r"run\.pt cannot be written: .*; an older one stays"):
            run(saved)
    assert saved.read_bytes() == good
    assert [file.name for file in saved.parent.iterdir()] == ["run.pt"]
    resumed, whole = run(saved), run()
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


# ------------------------------------------------------------------------ paths, two runs


def test_two_runs_may_write_one_file(tmp_path):
    path = tmp_path / "run.pt"
    states = [{"key": str(number), "values": torch.full((1000,), number)} for number in range(2)]
    checkpoint.write(path, states[0])

    def write_often(state):
        for _ in range(30):
            checkpoint.write(path, state)
            found = checkpoint.read(path)
            assert torch.equal(found["values"], states[int(found["key"])]["values"])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_often, states))
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("name", ["with space", "k\u00e4ltetod", "\u6a21\u578b"])
def test_any_name_will_do(name, tmp_path):
    path = tmp_path / name / f"{name}.pt"
    checkpoint.write(checkpoint.prepare(path), {"step": 1})
    assert checkpoint.read(path) == {"step": 1}


def test_a_folder_that_cannot_be_made_is_known_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    steps = []
    for bad in (tmp_path / "file" / "run.pt", "a\0b/run.pt"):
        with pytest.raises(ValueError, match=r"^checkpoint must be in a folder that can be made"):
            run(bad, progress=lambda step, *_: steps.append(step))
    assert not steps


@pytest.mark.parametrize("path", [3, b"run.pt", ["run.pt"]])
def test_a_checkpoint_is_a_path(path):
    with pytest.raises(TypeError, match=r"^checkpoint must be a path, got \w+$"):
        run(path)


def test_a_run_in_bfloat16_goes_on_with_the_same_bits(tmp_path):
    path = tmp_path / "run.pt"

    def stop(step, *_):
        if step >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, progress=stop, dtype="bfloat16")
    resumed, whole = run(path, dtype="bfloat16"), run(dtype="bfloat16")
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)
    with pytest.raises(ValueError, match="belongs to another request; give another file, or del"):
        run(path)  # in float32
