"""The lock and its hashes: they agree, a refresh keeps what it should, a changed file stops."""

import subprocess
import sys
import zipfile
from hashlib import sha256

import pytest

import run
from tools import lock
from tools.lock import Pin

SIX = Pin("six==1.17.0", ("sha256:" + "4" * 64, "sha256:" + "5" * 64))
TORCH = Pin("torch==2.13.0", ("sha256:" + "6" * 64,))


# ------------------------------------------------------------------ the files agree


def test_hashes_repeat_the_lock():
    pins = lock.read_pins(lock.HASHES)
    assert [pin.line for pin in pins] == lock.LOCK.read_text().splitlines()


@pytest.mark.parametrize("path", [lock.HASHES, lock.CPU_HASHES, lock.CUDA_HASHES, lock.DATA])
def test_every_pin_has_hashes(path):
    pins = lock.read_pins(path)
    assert pins
    for pin in pins:
        assert pin.hashes, pin.line
        assert len(set(pin.hashes)) == len(pin.hashes), pin.line
        assert all(run_of_hex(each.removeprefix("sha256:")) for each in pin.hashes), pin.line


def run_of_hex(digest):
    return len(digest) == 64 and set(digest) <= set("0123456789abcdef")


def test_builds_of_torch_are_those_of_the_lock():
    versions = lock.locked_versions(lock.LOCK.read_text())
    (cpu,) = lock.read_pins(lock.CPU_HASHES)
    assert cpu.line == f"torch=={versions['torch']}+cpu"
    public = next(pin for pin in lock.read_pins(lock.HASHES) if pin.name == "torch")
    assert not set(cpu.hashes) & set(public.hashes)


def test_what_only_cuda_needs_stands_apart():
    assert all(pin.cuda for pin in lock.read_pins(lock.CUDA_HASHES))
    assert not any(pin.cuda for pin in lock.read_pins(lock.HASHES))


def test_pins_read_back_as_written():
    pins = [SIX, Pin("tzdata==2026.6 ; sys_platform == 'win32'", SIX.hashes[:1]), Pin("a==1", ())]
    assert lock.parsed("# a comment\n\n" + lock.written(pins)) == pins


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_pins_that_cannot_be_read_are_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "pins.txt").write_bytes(content)
    with pytest.raises(
        SystemExit, match=r"^run.py: [^\n]*pins.txt cannot be read: [^\n]+; restore it$"
    ):
        lock.read_pins(tmp_path / "pins.txt")


# ------------------------------------------------------------------ a refresh


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The lock's files in a folder of their own; the index offers SIX, TORCH and one for CUDA."""
    asked = []
    cuda = Pin("nvidia-nvtx==1", SIX.hashes)
    for name in ("LOCK", "HASHES", "CPU_HASHES", "CUDA_HASHES", "DATA", "ENVIRONMENT"):
        target = tmp_path / getattr(lock, name).relative_to(lock.ROOT)
        target.parent.mkdir(exist_ok=True)
        monkeypatch.setattr(lock, name, target)
    lock.DATA.write_text("# ours\nsix==1.17.0\n")
    monkeypatch.setattr(
        lock, "compiled", lambda _, kept, *__: asked.append(kept) or [cuda, SIX, TORCH]
    )
    monkeypatch.setattr(lock, "hashes_taken", lambda *_: ["sha256:cpu"])
    monkeypatch.setattr(lock, "environment_yml", lambda _: "")
    return asked


def test_refresh_writes_files_that_agree(place):
    lock.main([])
    assert lock.LOCK.read_text() == "six==1.17.0\ntorch==2.13.0\n"
    assert lock.read_pins(lock.HASHES) == [SIX, TORCH]
    assert [pin.name for pin in lock.read_pins(lock.CUDA_HASHES)] == ["nvidia-nvtx"]
    assert lock.DATA.read_text().startswith("# ours\n")


def test_only_keep_hands_on_what_is_known(place):
    lock.main([])
    lock.main([])
    assert place[-2] == []
    lock.main(["--keep"])
    assert place[-2][:2] == [SIX, TORCH]


def test_builds_known_before_stay_while_the_version_does(place, monkeypatch):
    monkeypatch.setattr(lock, "hashes_taken", lambda *_: ["sha256:here"])
    lock.main([])
    monkeypatch.setattr(lock, "hashes_taken", lambda *_: ["sha256:there"])
    assert lock.cpu_builds(TORCH).hashes == ("sha256:here", "sha256:there")
    assert lock.cpu_builds(Pin("torch==2.14.0", ())).hashes == ("sha256:there",)


def test_builds_that_nobody_offers_are_told(place, capsys):
    lock.cpu_builds(TORCH)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "5 builds of torch==2.13.0+cpu are offered by no index here" in said


def test_a_build_without_any_hash_is_not_locked(place, monkeypatch):
    """pip would refuse it, and only at somebody's next set-up."""
    lock.main([])
    before = {path: path.read_bytes() for path in lock.LOCK.parent.rglob("*") if path.is_file()}
    newer = TORCH._replace(line="torch==2.14.0")
    monkeypatch.setattr(lock, "compiled", lambda *_: [SIX, newer])
    monkeypatch.setattr(lock, "hashes_taken", lambda *_: [])
    with pytest.raises(SystemExit, match=r"no index here offers torch==2\.14\.0\+cpu"):
        lock.main([])
    assert all(path.read_bytes() == content for path, content in before.items())


def test_what_cannot_be_resolved_is_one_line(tmp_path):
    source = tmp_path / "asked.txt"
    source.write_text("numpy<1\nnumpy>2\n")
    with pytest.raises(SystemExit) as stopped:
        lock.compiled(source, [], "--offline")
    assert "asked.txt cannot be resolved" in str(stopped.value)
    assert "\n" not in str(stopped.value)


# ------------------------------------------------------------------ the installation


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with one package, as an index would have it, and nothing else to install from."""
    wheel = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("toy.py", "")
        packed.writestr(
            "toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
        )
        packed.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        packed.writestr("toy-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return wheel


def installed(wheel, digest):
    """Install the toy as the door would; return pip's exit code and the door's line."""
    asked = wheel.parent / "asked.txt"
    asked.write_text(lock.written([Pin("toy==1.0", (f"sha256:{digest}",))]))
    call = [sys.executable, "-m", "pip", "install", "--target", str(wheel.parent / "there")]
    done = subprocess.run([*call, *run.hashed(asked)], capture_output=True, text=True)
    return done.returncode, run.pip_problem(done.stdout + done.stderr)


def test_the_file_of_the_lock_is_installed(shelf):
    code, _ = installed(shelf, sha256(shelf.read_bytes()).hexdigest())
    assert code == 0
    assert (shelf.parent / "there" / "toy.py").exists()


def test_another_file_stops_the_installation_with_one_line(shelf):
    code, line = installed(shelf, "0" * 64)
    assert code != 0
    assert "the index sent another file than the lock expects" in line
    assert "\n" not in line
    assert not (shelf.parent / "there").exists()


def test_nothing_is_installed_without_a_hash(shelf):
    asked = shelf.parent / "asked.txt"
    asked.write_text("toy==1.0\n")
    call = [sys.executable, "-m", "pip", "install", "--target", str(shelf.parent / "there")]
    assert subprocess.run([*call, *run.hashed(asked)], capture_output=True).returncode != 0


@pytest.fixture
def steps(monkeypatch):
    """The requirements that the door hands to pip, by name; `says` decides what pip answers."""

    def ask(system, says=lambda _: None):
        asked = []

        def pip_install(lists):
            names = [arguments[-1].rpartition("/")[2] for arguments in lists]
            asked.extend(names)
            return says(names)

        monkeypatch.setattr(run.sys, "platform", system)
        monkeypatch.setattr(run, "pip_install", pip_install)
        return run.install(), asked

    return ask


def test_build_without_cuda_goes_first(steps):
    problem, asked = steps("linux")
    assert (problem, asked) == (None, ["torch-cpu.txt", "lock.txt", run.ROOT.name])


def test_where_it_is_not_offered_cuda_gets_what_it_needs(steps):
    missing = f"installation stopped: {run.NOT_OFFERED}"
    problem, asked = steps("linux", lambda names: missing if names == ["torch-cpu.txt"] else None)
    assert (problem, asked[1:]) == (None, ["lock.txt", "torch-cuda.txt", run.ROOT.name])


def test_a_changed_build_stops(steps):
    assert steps("linux", lambda _: run.WRONG_FILE) == (run.WRONG_FILE, ["torch-cpu.txt"])


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_elsewhere_the_public_build_is_the_one_without_cuda(steps, system):
    assert steps(system) == (None, ["lock.txt", run.ROOT.name])
