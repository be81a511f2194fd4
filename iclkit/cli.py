"""The command line: thin commands over the runner, the book and the ledger."""

import os
import shutil
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from iclkit import __version__

EXPECTED = 1  # exit code of a failed run, build or claim

profile_option = click.option(
    "--profile",
    type=click.Choice(["quick", "book", "paper"]),
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
    """Turn expected failures into a message and exit code 1, Ctrl-C into exit code 130."""
    from iclkit.bench.book import BuildError
    from iclkit.bench.claims import LedgerError
    from iclkit.bench.runner import RunError

    @wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except (BuildError, LedgerError, RunError, ValueError) as error:
            click.echo(f"iclkit: {error}", err=True)
            sys.exit(EXPECTED)
        except KeyboardInterrupt:
            click.echo("iclkit: stopped; finished notebooks are kept", err=True)
            sys.exit(130)

    return guarded


def repository() -> Path:
    """Return the repository that holds the working folder."""
    for place in (Path.cwd(), *Path.cwd().parents):
        if (place / "_config.yml").exists() and (place / "notebooks").is_dir():
            return place
    raise ValueError(f"no book in {Path.cwd()}; run from the repository (with _config.yml)")


def say(line: str) -> None:
    """Print one progress line on stderr."""
    click.echo(line, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="iclkit")
def main() -> None:
    """In-Context Learning, Reproduced: run notebooks, check claims, build the book."""


@main.command()
@click.argument("names", nargs=-1)
@profile_option
@seed_option
@jobs_option
@one_line_errors
def run(names: tuple[str, ...], profile: str, seed: int, jobs: int) -> None:
    """Execute notebooks (all, or those named) and keep their results."""
    from iclkit.bench.runner import notebook_names, run_notebooks

    root = repository()
    wanted = names or tuple(notebook_names(root))
    runs = run_notebooks(wanted, root=root, profile=profile, seed=seed, jobs=jobs, report=say)
    for done in runs:
        click.echo(done.path.relative_to(root))


@main.command()
@profile_option
@seed_option
@jobs_option
@one_line_errors
def book(profile: str, seed: int, jobs: int) -> None:
    """Execute what changed, check the claims and build the book into _build/html."""
    from iclkit.bench.book import build_book
    from iclkit.bench.runner import notebook_names, run_notebooks

    root = repository()
    names = notebook_names(root)
    runs = run_notebooks(names, root=root, profile=profile, seed=seed, jobs=jobs, report=say)
    say("book: building the pages ...")
    start_page = build_book(root, runs)
    click.echo(f"open {start_page.relative_to(root)}")


@main.command()
@profile_option
@seed_option
@jobs_option
@one_line_errors
def ledger(profile: str, seed: int, jobs: int) -> None:
    """Print every claim with its verdict, running notebooks that are not up to date."""
    from iclkit.bench.claims import collect
    from iclkit.bench.pages import ledger_text
    from iclkit.bench.runner import notebook_names, read_notebook, run_notebooks

    root = repository()
    names = notebook_names(root)
    runs = run_notebooks(names, root=root, profile=profile, seed=seed, jobs=jobs, report=say)
    rows = {r.manifest.notebook: collect(r.manifest.notebook, read_notebook(r.path)) for r in runs}
    click.echo(ledger_text(rows))


@main.command()
@one_line_errors
def links() -> None:
    """Check that the external links of the built book answer."""
    from iclkit.bench.book import BuildError
    from iclkit.bench.links import external_problems

    site = repository() / "_build" / "html"
    if not site.exists():
        raise BuildError("there is no built book; run `python3 run.py book` first")
    problems = external_problems(site)
    if problems:
        raise BuildError("external links that do not answer:\n  " + "\n  ".join(problems))


@main.command()
@one_line_errors
def info() -> None:
    """Print versions, the machine and the notebooks."""
    from iclkit.bench.runner import machine, notebook_names, versions

    click.echo(f"iclkit {__version__} on {machine()}")
    click.echo(", ".join(f"{name} {number}" for name, number in versions().items()))
    click.echo("notebooks: " + ", ".join(notebook_names(repository())))


@main.command()
@one_line_errors
def clean() -> None:
    """Delete everything built: _build with its cache of executed notebooks."""
    shutil.rmtree(repository() / "_build", ignore_errors=True)


if __name__ == "__main__":
    main()
