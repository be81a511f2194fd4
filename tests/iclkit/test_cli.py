"""The command line: help, one-line errors, exit codes."""

import errno
import shutil
import signal

import pytest
from click.testing import CliRunner

from iclkit import cli
from iclkit.bench.runner import Manifest, Run
from tests import toy

PDF_NAME = "in-context-learning-reproduced.pdf"


@pytest.fixture
def call(monkeypatch):
    def call(*arguments, place=None):
        if place is not None:
            monkeypatch.chdir(place)
            monkeypatch.setattr(cli, "PACKAGE", place / "iclkit")
        return CliRunner().invoke(cli.main, arguments)

    return call


@pytest.mark.parametrize("name", sorted(cli.main.commands))
def test_every_command_has_help(call, name):
    done = call(name, "--help")
    assert done.exit_code == 0
    assert cli.main.commands[name].help.split(".")[0] in done.output


def test_outside_a_repository(call, tmp_path):
    done = call("ledger", place=tmp_path)
    assert done.exit_code == 1
    assert done.output.startswith("iclkit: no book in ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nothing"], "notebook must be one of 01_toy, 02_other, got nothing"),
        (["links"], "there is no built book; run `python3 run.py book` first"),
        (["pdf"], "there is no built book; run `python3 run.py book` first"),
        (["zip"], "there is no built book; run `python3 run.py book` first"),
    ],
)
def test_expected_failures_are_one_line(call, tmp_path, arguments, words):
    done = call(*arguments, place=toy.make(tmp_path))
    assert done.exit_code == 1
    assert done.output == f"iclkit: {words}\n"


@pytest.mark.parametrize("command", ["run", "book", "ledger", "clean"])
def test_book_of_another_copy_is_not_built(call, tmp_path, monkeypatch, command):
    monkeypatch.chdir(toy.make(tmp_path))
    done = call(command)
    assert done.exit_code == 1
    assert done.output.startswith(f"iclkit: this is the iclkit in {cli.PACKAGE}; the book in ")
    assert done.output.count("\n") == 1


@pytest.mark.parametrize("arguments", [["run", "--profile", "huge"], ["run", "--seed", "-1"]])
def test_wrong_options(call, arguments):
    done = call(*arguments)
    assert done.exit_code == 2
    assert "Invalid value" in done.output


def test_info(call, root):
    done = call("info", place=root)
    assert done.exit_code == 0
    assert "04_phase_transition" in done.output
    assert "numpy" in done.output


def test_pdf_stands_where_the_book_offers_it(call, tmp_path, monkeypatch):
    place = toy.make(tmp_path)
    start = place / "_build/html/book/index.html"
    start.parent.mkdir(parents=True)
    start.write_text("<!-- pdf -->")
    monkeypatch.setattr(cli, "print_book", lambda _, target: target)
    (place / "_build" / PDF_NAME).write_bytes(b"%PDF")
    assert f"open _build/{PDF_NAME}\n" in call("pdf", place=place).output
    assert (place / "_build/html/_downloads" / PDF_NAME).read_bytes() == b"%PDF"
    assert PDF_NAME in start.read_text()


def test_a_notebook_that_fails_at_paper_size_does_not_stop_the_others(call, tmp_path, monkeypatch):
    place = toy.make(tmp_path)
    toy.write(place, "01_toy", toy.TOY | {"figure": "1 / 0"})
    kept = []

    def note(manifest, *_, witness):
        kept.append((manifest["profile"], witness))
        return place / manifest["notebook"]

    monkeypatch.setattr(cli, "keep", note)
    monkeypatch.setattr(cli, "rows_of", lambda run: [run.manifest.profile])
    done = call("keep", "01_toy", "02_other", place=place)
    assert done.exit_code == 1
    lines = done.output.splitlines()  # of both streams: the lowest click mixes them
    assert "02_other" in lines
    assert "01_toy" not in lines
    assert kept == [("paper", ["book"])], "with what the same sources give at the size of the book"
    assert "iclkit: 01_toy, cell " in done.output
    assert "01_toy: failed; the others go on" in done.output


def test_a_run_of_sources_edited_since_is_not_kept(call, tmp_path, monkeypatch):
    place = toy.make(tmp_path)
    made = Manifest("02_other", "an older key", "paper", 0, "abc", "today", 1, 1, "m", {})
    monkeypatch.setattr(cli, "run_all", lambda *_: [Run(place / "out.ipynb", made, fresh=True)])
    monkeypatch.setattr(cli, "rows_of", lambda _: [])
    monkeypatch.setattr(cli, "keep", lambda *_: pytest.fail("it was kept"))
    done = call("keep", "02_other", place=place)
    assert done.exit_code == 1
    assert "iclkit: 02_other: a source changed after it ran; take the edit back, or" in done.output


def test_clean_deletes_what_was_built(call, tmp_path):
    place = toy.make(tmp_path)
    (place / "_build/cache").mkdir(parents=True)
    assert call("clean", place=place).exit_code == 0
    assert not (place / "_build").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
@pytest.mark.parametrize("before", [signal.SIG_IGN, signal.SIG_DFL])
def test_a_command_started_with_nohup_survives_its_terminal(before):
    kept = signal.signal(signal.SIGHUP, before)
    try:
        cli.one_line_errors(lambda: None)()
        assert (signal.getsignal(signal.SIGHUP) is signal.SIG_IGN) is (before is signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, kept)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left", "/a/b"), "No space left: /a/b; free some disk and"),
        (OSError("odd"), "odd"),
        (shutil.Error([("/a", "/b", "No space"), ("/c", "/d", "No space")]), "No space: /b"),
        (shutil.Error("there is one"), "there is one"),
        (ValueError("wrong"), "wrong"),
    ],
)
def test_errors_are_told_in_one_line(capsys, error, words):
    def fail():
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.one_line_errors(fail)()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith(f"iclkit: {words}")
    assert told.count("\n") == 1


def test_a_reader_that_left_is_no_error():
    def fail():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):  # click ends in silence
        cli.one_line_errors(fail)()
