"""Run the notebooks of the last release with the library of today, and say what became of them.

    python tools/released.py              the newest tag v* that is an ancestor of this commit
    python tools/released.py v0.1.0       that one
    python tools/released.py --profile book

Notebooks and claims come from the tag, the library and the locked packages from the working tree.
A reader who kept a notebook should still be able to run it; a name that was renamed is listed.
"""

import ast
import io
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from packaging.version import InvalidVersion, Version

from iclkit.bench import claims, runner

ROOT = Path(__file__).resolve().parents[1]
RELEASED = ("notebooks", "iclkit/data/claims.toml")
CURRENT = ("pyproject.toml", "constraints.txt", "data-packages.txt")
RENAMED = re.compile(r"^.*RenamedWarning: (iclkit\.[\w.]+ is now [\w.]+; .*)\n(  .*\n?)?", re.M)


@click.command()
@click.argument("tag", required=False)
@click.option("--profile", type=click.Choice(claims.PROFILES), default="quick", show_default=True)
def main(tag: str | None, profile: str) -> None:
    """Run the notebooks of the release TAG, else of the last one, with the library of today."""
    try:
        tag = tag or last_release(ROOT)
    except ValueError as error:
        click.echo(f"released: {error}", err=True)
        sys.exit(1)
    if tag is None:
        click.echo("released: no tag v* before this commit, so there is no release to try")
        return
    try:
        outcomes = tried(ROOT, tag, profile)
    except (runner.RunError, ValueError) as error:
        click.echo(f"released: {error}", err=True)
        sys.exit(1)
    for name, (good, words) in outcomes.items():
        click.echo(f"{tag} {name}: {'ok' if good else 'FAILS'}{words}")
    sys.exit(not all(good for good, _ in outcomes.values()))


def last_release(root: Path) -> str | None:
    """Return the tag of the newest version among the ancestors of HEAD, or None.

    Raises
    ------
    ValueError
        If git cannot tell: it is missing, this is no clone, or one without its history.
    """
    listed = git(root, "tag", "--merged", "HEAD", "--list", "v*")
    if listed is None:
        raise ValueError(f"git cannot be asked for the releases in {root}; clone it with git")
    if (git(root, "rev-parse", "--is-shallow-repository") or b"").strip() == b"true":
        raise ValueError(
            "this clone has no history to look for releases; git fetch --unshallow --tags"
        )
    found = {version_of(tag): tag for tag in listed.decode().split()}
    found.pop(None, None)
    return found[max(found)] if found else None


def version_of(tag: str) -> Version | None:
    """Return the version that a tag names, or None if it names none."""
    try:
        return Version(tag.removeprefix("v"))
    except InvalidVersion:
        return None


def tried(root: Path, tag: str, profile: str) -> dict[str, tuple[bool, str]]:
    """Return for each notebook of a release whether it runs, and what to say of it."""
    with TemporaryDirectory(prefix="released-") as folder:
        place = lay_out(root, tag, Path(folder))
        failed: dict[str, str] = {}
        runs = runner.run_notebooks(
            runner.notebook_names(place),
            root=place,
            profile=profile,
            report=lambda line: click.echo(line, err=True),
            failed=lambda name, error: failed.update({name: str(error).splitlines()[0]}),
        )
        good = {run.manifest.notebook: (True, f", {run.manifest.seconds:.0f} s") for run in runs}
        bad = {name: judged(place, name, profile, why) for name, why in failed.items()}
    return dict(sorted((good | bad).items()))


def lay_out(root: Path, tag: str, place: Path) -> Path:
    """Put the release's notebooks and the library of today side by side; return where."""
    code = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "iclkit", place / "iclkit", ignore=code)
    for name in CURRENT:
        if (root / name).exists():
            shutil.copy(root / name, place / name)
    packed = git(root, "archive", "--format=tar", tag, *RELEASED)
    if packed is None:
        raise ValueError(f"{tag} is no tag of a release with {' and '.join(RELEASED)}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(place, filter="data")
    return place


def judged(place: Path, name: str, profile: str, why: str) -> tuple[bool, str]:
    """Return whether a run that the runner refused has nothing but old names against it."""
    partial = place / "_build" / "failed" / f"{name}.ipynb"
    if not partial.exists():
        return False, f": {why}"
    executed = runner.read_notebook(partial)
    renamed = without_renamed(executed)
    problem = first_problem(place, name, executed, profile)
    listed = "; ".join(renamed)
    if problem is None and renamed:
        return True, f", but deprecated: {listed}"
    return False, f": {why}" + (f"; deprecated: {listed}" if listed else "")


def without_renamed(executed: dict[str, Any]) -> list[str]:
    """Return the warnings of renamed names, after taking them out of the outputs."""
    found: dict[str, None] = {}  # an ordered set
    for cell in executed["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream" and output["name"] == "stderr":
                text = "".join(output["text"])
                found |= dict.fromkeys(words for words, _ in RENAMED.findall(text))
                output["text"] = RENAMED.sub("", text)
        cell["outputs"] = [o for o in cell.get("outputs", []) if o.get("text", "-")]
    return list(found)


def first_problem(place: Path, name: str, executed: dict[str, Any], profile: str) -> str | None:
    """Return what is wrong with an executed notebook, or None."""
    for look in (runner.error_in, runner.warning_in, runner.skipped_in):
        if problem := look(name, executed):
            return problem
    path = place / "iclkit" / "data" / "claims.toml"
    try:
        claims.collect(name, executed, profile=profile, path=path)
    except claims.LedgerError as error:
        return str(error)
    return None


# ------------------------------------------------------------------ names


def public_names(sources: Mapping[str, str]) -> set[str]:
    """Return the dotted names in ``__all__`` of the modules, by path below the repository."""
    names = set()
    for path, text in sources.items():
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if not any(part.startswith("_") for part in module.split(".")):
            names |= {f"{module}.{name}" for name in literal(text, "__all__") or ()}
    return names


def public_arguments(sources: Mapping[str, str]) -> set[str]:
    """Return the arguments of public functions that can be given by name, with dots before them."""
    names, found = public_names(sources), set()
    for path, text in sources.items():
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and (name := f"{module}.{node.name}") in names:
                given = [*node.args.args, *node.args.kwonlyargs]
                found |= {f"{name}.{argument.arg}" for argument in given}
    return found


def literal(text: str, name: str) -> Any:
    """Return the literal that a module assigns to `name`, or None."""
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return ast.literal_eval(node.value)
    return None


def vanished(before: set[str], now: set[str], renamed: Mapping[str, Any]) -> list[str]:
    """Return the public names that went without a warning."""
    return sorted(before - now - set(renamed))


def sources_at(root: Path, tag: str) -> dict[str, str]:
    """Return the modules of the library as a release had them, by path."""
    packed = git(root, "archive", "--format=tar", tag, "iclkit") or b""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        modules = [m for m in archive.getmembers() if m.isfile() and m.name.endswith(".py")]
        return {m.name: archive.extractfile(m).read().decode() for m in modules}


def sources_now(root: Path) -> dict[str, str]:
    """Return the modules of the library as they are, by path."""
    modules = sorted((root / "iclkit").rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in modules}


def git(root: Path, *words: str) -> bytes | None:
    """Return what git says, or None where it is missing or refuses."""
    program = shutil.which("git")
    done = program and subprocess.run([program, "-C", str(root), *words], capture_output=True)
    return done.stdout if done and done.returncode == 0 else None


if __name__ == "__main__":
    main()
