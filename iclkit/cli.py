"""The command line: thin commands over the runner, the book and the ledger."""

import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from iclkit import __version__
from iclkit.bench.alone import BusyError, alone
from iclkit.bench.archive import keep
from iclkit.bench.claims import PROFILES, LedgerError, load_claims
from iclkit.bench.drift import keep_record, record_of, refuse_profile, report_lines
from iclkit.bench.kept import PROFILE
from iclkit.bench.runner import (
    Run,
    RunError,
    is_current,
    machine,
    notebook_names,
    read_notebook,
    run_notebooks,
    versions,
)
from iclkit.bench.seeds import SEEDS, THREADS, sweep_seeds
from iclkit.classroom.course import OPEN, make_seed, read_seed
from iclkit.classroom.grading import Desk
from iclkit.classroom.release import hand_out
from iclkit.classroom.reports import grade_folder, level
from iclkit.classroom.sandbox import Isolation
from iclkit.classroom.source import assignments as assignments_of
from iclkit.site.book import BuildError, build_book, rows_of
from iclkit.site.downloads import PDF, wheel
from iclkit.site.history import address
from iclkit.site.links import external_problems
from iclkit.site.offline import pack
from iclkit.site.pages import ledger_text
from iclkit.site.printing import offer, print_book

PACKAGE = Path(__file__).resolve().parent
EXPECTED = 1  # exit code of a failed run, build or claim
NOT_WRITABLE = "it must be writable; use a copy of the repository that is"
IN_THE_WAY = "delete or rename it"
# What to do about an error of the system.
REMEDIES = {
    errno.ENOSPC: "free some disk and run again, finished notebooks are kept",
    errno.EDQUOT: "free some of your share of the disk and run again, finished notebooks are kept",
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), NOT_WRITABLE),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), IN_THE_WAY),
    errno.ENOENT: "restore it",
}

profile_option = click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="book",
    show_default=True,
    help="Sizes to run at.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The run's one seed."
)
jobs_option = click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=1),
    default=min(2, os.cpu_count() or 1),
    show_default=True,
    help="Notebooks at once.",
)


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn expected failures into a message and exit code 1, being stopped into exit code 130."""

    @wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        answer_signals(signal.default_int_handler)  # clean up as for Ctrl-C
        try:
            command(*args, **options)
        except BrokenPipeError:  # nobody reads on; click ends in silence
            raise
        except (BuildError, BusyError, LedgerError, RunError, ValueError, OSError) as error:
            click.echo(f"iclkit: {told(error)}", err=True)
            sys.exit(EXPECTED)
        except KeyboardInterrupt:
            answer_signals(signal.SIG_IGN)  # a second one finds us leaving
            click.echo("iclkit: stopped; finished notebooks are kept", err=True)
            sys.exit(130)

    return guarded


def answer_signals(how: Any) -> None:
    """Choose the answer to the signals that stop a command, unless it shall not hear them."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, how)


def told(error: Exception) -> str:
    """Return the message of an error; of the system's, what, where, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # of a whole tree
        _, place, cause = error.args[0][0]
        return f"{cause}: {place}"
    where = f": {error.filename}" if error.filename else ""
    remedy = f"; {REMEDIES[error.errno]}" if error.errno in REMEDIES else ""
    return f"{error.strerror or error}{where}{remedy}"


def repository() -> Path:
    """Return the repository that holds the working folder."""
    for place in (Path.cwd(), *Path.cwd().parents):
        if (place / "_config.yml").exists() and (place / "notebooks").is_dir():
            return place
    raise ValueError(f"no book in {Path.cwd()}; run from the repository (with _config.yml)")


@contextlib.contextmanager
def building() -> Iterator[Path]:
    """Give the repository that this program is of, while no other process builds in it."""
    root = repository()
    if (root / "iclkit").resolve() != PACKAGE:
        there = f"the book in {root} needs its own; use `python3 run.py` there"
        raise ValueError(f"this is the iclkit in {PACKAGE}; {there}")
    with alone(root):
        yield root


def built(root: Path) -> Path:
    """Return the built book."""
    site = root / "_build" / "html"
    if not site.exists():
        raise BuildError("there is no built book; run `python3 run.py book` first")
    return site


def say(line: str) -> None:
    """Print one progress line on stderr, above the bars of running notebooks."""
    tqdm.write(line, file=sys.stderr)


def run_all(names: tuple[str, ...], root: Path, options: dict[str, Any]) -> list[Run]:
    """Return the runs of the named notebooks, or of all, telling progress."""
    return run_notebooks(chapters(names, root), root=root, report=say, **options)


def chapters(names: tuple[str, ...], root: Path) -> list[str]:
    """Return the notebooks that were named, or all."""
    found = list(names) or notebook_names(root)
    if not found:
        raise ValueError(f"no notebook of a chapter in {root / 'notebooks'}; restore them")
    return found


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="iclkit")
def main() -> None:
    """In-Context Learning, Reproduced: run notebooks, check claims, build the book."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without check marks shows "?"
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@main.command()
@click.argument("names", nargs=-1)
@profile_option
@seed_option
@jobs_option
@one_line_errors
def run(names: tuple[str, ...], **options: Any) -> None:
    """Execute notebooks (all, or those named) and keep their results."""
    with building() as root:
        for done in run_all(names, root, options):
            click.echo(done.path.relative_to(root))


@main.command()
@profile_option
@seed_option
@jobs_option
@one_line_errors
def book(**options: Any) -> None:
    """Execute what changed, check the claims and build the book into _build/html."""
    with building() as root:
        runs = run_all((), root, options)
        say("book: building the pages ...")
        click.echo(f"open {build_book(root, runs).relative_to(root)}")


@main.command()
@one_line_errors
def pdf() -> None:
    """Print the built book as one PDF, and put it where the book's pages offer it."""
    with building() as root:
        site = built(root)
        say("pdf: typesetting and printing, some minutes ...")
        printed = print_book(site, root / "_build" / Path(PDF).name)
        offer(site, printed)
        click.echo(f"open {printed.relative_to(root)}")


@main.command("zip")
@one_line_errors
def zip_book() -> None:
    """Pack the built book into one file, to be read from a folder without network."""
    with building() as root:
        packed = pack(built(root), root / "_build", __version__)
        click.echo(packed.relative_to(root))


@main.command()
@click.option(
    "--seed",
    type=click.Path(path_type=Path),
    help="File with the course's seed, made if it is not there; else self-study.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder; else _build/assignments.")
@one_line_errors
def assignments(seed: Path | None, out: Path | None) -> None:
    """Make student notebooks, solution sheets, rubrics and nbgrader's course folder."""
    root = repository()
    if seed and make_seed(seed, root):
        say(f"assignments: new seed in {seed}; keep it, and keep it secret")
    course = read_seed(seed, root) if seed else OPEN
    place = out or root / "_build" / "assignments"
    say("assignments: nbgrader takes the solutions out, half a minute ...")
    click.echo(hand_out(root, place, course=course, library=wheel(root), address=address(root)))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--seed", type=click.Path(path_type=Path), required=True, help="File with the course's seed."
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for all results."
)
@click.option("--assignment", "only", help="The one assignment to grade; else all that are there.")
@jobs_option
@click.option(
    "--isolation",
    type=click.Choice([level.value for level in Isolation]),
    help="How students' code is kept apart; else the strongest that works here.",
)
@one_line_errors
def grade(folder: Path, seed: Path, out: Path, isolation: str | None, **options: Any) -> None:
    """Grade FOLDER/STUDENT/ASSIGNMENT.ipynb: points, feedback, summary.

    Run it again to go on after a stop, to grade what came late, or to take in the points that
    people gave in nbgrader's form grader.
    """
    root = repository()
    desk = Desk(read_seed(seed, root), level(isolation, say))
    click.echo(grade_folder(folder, out, assignments_of(root), desk, say=say, **options))


@main.command()
@profile_option
@seed_option
@jobs_option
@one_line_errors
def ledger(**options: Any) -> None:
    """Print every claim with its verdict, running notebooks that are not up to date."""
    with building() as root:
        runs = {run.manifest.notebook: run for run in run_all((), root, options)}
        rows = {name: rows_of(run) for name, run in runs.items()}
    click.echo(ledger_text(rows))


@main.command("keep")
@click.argument("names", nargs=-1, required=True)
@seed_option
@jobs_option
@one_line_errors
def keep_results(names: tuple[str, ...], **options: Any) -> None:
    """Run notebooks at paper size and keep their results.

    Each runs at the size of the book first: its scores there tell later whether an edit moved
    them. A notebook that fails does not stop the others, which may have hours behind them.
    """
    problems: list[str] = []

    def failed(name: str, error: RunError) -> None:
        say(f"{name}: failed; the others go on")
        problems.append(str(error))

    with building() as root:
        options |= {"profile": "book", "failed": failed}
        small = {run.manifest.notebook: rows_of(run) for run in run_all(names, root, options)}
        for done in run_all(tuple(small), root, options | {"profile": PROFILE}) if small else ():
            if not is_current(done.manifest, root):  # while others ran
                words = "a source changed after it ran; take the edit back, or run it again"
                problems.append(f"{done.manifest.notebook}: {words}")
                continue
            made, executed = done.manifest, read_notebook(done.path)
            folder = keep(asdict(made), executed, root, witness=small[made.notebook])
            click.echo(folder.relative_to(root))
    if problems:
        raise RunError("\n".join(problems))


@main.command()
@one_line_errors
def links() -> None:
    """Check that the external links of the built book answer."""
    site = built(repository())
    problems = external_problems(site)
    if problems:
        raise BuildError("external links that do not answer:\n  " + "\n  ".join(problems))


@main.command()
@one_line_errors
def info() -> None:
    """Print versions, the machine and the notebooks."""
    click.echo(f"iclkit {__version__} on {machine()}")
    click.echo(", ".join(f"{name} {number}" for name, number in versions().items()))
    click.echo("notebooks: " + ", ".join(notebook_names(repository())))


@main.command()
@one_line_errors
def clean() -> None:
    """Delete everything built: _build with its cache of executed notebooks."""
    with building() as root:
        build = root / "_build"
        if build.is_symlink():
            raise ValueError(f"{build} is a link to {build.resolve()}; delete both by hand")
        if build.exists():
            shutil.rmtree(build)


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(min=0),
    multiple=True,
    default=SEEDS,
    show_default=True,
    help="A seed; give it again for each further one.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=THREADS,
    show_default=True,
    help="Threads of one more run at the first seed; 1 leaves it out.",
)
@click.option(
    "--keep/--no-keep",
    "kept",
    default=True,
    show_default=True,
    help="Whether the ledger page shows this sweep from now on.",
)
@click.option(
    "--replace",
    "replacing",
    is_flag=True,
    help="Drop what is kept of another profile.",
)
@profile_option
@jobs_option
@one_line_errors
def drift(names: tuple[str, ...], kept: bool, replacing: bool, **options: Any) -> None:
    """Run notebooks at several seeds and keep how their claims came out.

    A claim that fails does not stop the others, but the command then ends with an error. Run it
    again to go on after a stop: what was run is not run again.
    """
    with building() as root:
        if kept and not replacing:  # before hours of work
            refuse_profile(options["profile"], root)
        found = sweep_seeds(chapters(names, root), root=root, report=say, **options)
        if kept:
            record = keep_record(found, root, replacing=replacing, report=say)
        else:
            record = record_of(found, load_claims())
    click.echo("\n".join(report_lines(record)))
    if not all(trial.sound for trial in found):
        raise RunError("not every claim came out at every seed")


if __name__ == "__main__":
    main()
