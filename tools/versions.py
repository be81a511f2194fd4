"""Run the tests of the library with the lowest or the highest versions that pyproject.toml allows.

    python3 run.py versions lowest     the oldest Python that we support, the floors as they stand
    python3 run.py versions highest    the newest Python at hand, the newest of everything

Where that Python is not at hand, it is the one of `.venv`.

The environment is made in _build; `.venv` and the lock stay as they are. Tools of the tests and
torch, whose builds have gigabytes, keep the versions of the lock. Tests of the book, of the pages
and of the classroom need programs with pins of their own and do not run here.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from iclkit.bench.alone import BusyError, alone
from run import hashed
from tools import lock

EXTRAS = ("bench", "cluster", "data", "nets")
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
FLAGS = {"lowest": "lowest-direct", "highest": "highest"}
TESTS = ("tests/iclkit",)
LEFT_OUT = ("tests/iclkit/site", "tests/iclkit/classroom")
# What an old package says of a new one that it uses is not ours to mend; errors still are.
LENIENT = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")


class World(NamedTuple):
    """Which versions, for which Python, in which folder."""

    kind: str
    python: str
    place: Path

    @property
    def program(self) -> Path:
        """Return the Python of the environment."""
        return self.place / ("Scripts" if os.name == "nt" else "bin") / "python"


def main(argv: list[str] | None = None) -> int:
    """Make the environment, run the tests, print one line, and return the tests' exit code."""
    parser = argparse.ArgumentParser(prog="run.py versions", description="Test other versions.")
    parser.add_argument("kind", choices=FLAGS)
    kind = parser.parse_args(argv).kind
    world = World(kind, python_for(kind), lock.ROOT / "_build" / f"env-{kind}")
    try:
        with alone(lock.ROOT, f"env-{kind}.lock"):
            make(world)
            code, last = tested(world)
    except BusyError as error:
        raise SystemExit(f"run.py versions: {error}") from error
    sys.stdout.write(f"{kind} versions, {spoken_version(world)}: {last}\n")
    return code


def python_for(kind: str) -> str:
    """Return the oldest or the newest Python that this project allows, if this machine has it."""
    wanted = lock.PYTHONS[:1] if kind == "lowest" else reversed(lock.PYTHONS)
    names = [f"python{version}" for version in wanted]
    paths = [path for path in map(shutil.which, names) if path and works(path)]
    return paths[0] if paths else sys.executable


def works(python: str) -> bool:
    """Return whether a program that is called Python starts."""
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def make(world: World) -> None:
    """Install the versions of a world into an environment of its own."""
    shutil.rmtree(world.place, ignore_errors=True)
    called([world.python, "-m", "venv", str(world.place)], "no environment")
    pins = world.place / "pins.txt"
    pins.write_text("".join(f"{line}\n" for line in resolved(world)))
    pip = [str(world.program), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    uv = [sys.executable, "-m", "uv", "pip", "install", "--python", str(world.program), "-q"]
    folder = lock.HASHES.parent
    cpu = subprocess.run([*pip, *hashed(folder / "torch-cpu.txt")], capture_output=True)
    called([*uv, "--no-deps", "--only-binary", ":all:", "-r", str(pins)], "cannot be installed")
    if cpu.returncode:
        called([*pip, *hashed(folder / "torch-cuda.txt")], "torch cannot be installed")


def resolved(world: World) -> list[str]:
    """Return the pins of a world, without those that only CUDA needs."""
    locked = lock.locked_versions(lock.text_of(lock.LOCK))
    versions = spoken_version(world).removeprefix("Python ")
    options = ["--resolution", FLAGS[world.kind], "--python-version", versions]
    asked = [*requirements(), *(f"{name}=={locked[name]}" for name in (*TOOLS, "torch"))]
    quiet = ["--no-header", "--no-annotate", "--quiet"]
    call = [sys.executable, "-m", "uv", "pip", "compile", "-", *options, *quiet]
    said = called(call, "cannot be resolved", text="\n".join(asked))
    return [line for line in said.splitlines() if not lock.CUDA_ONLY.match(line)]


def requirements() -> list[str]:
    """Return what pyproject.toml asks for the library and its experiments."""
    project = tomllib.loads(lock.text_of(lock.ROOT / "pyproject.toml"))["project"]
    extras = [project["optional-dependencies"][extra] for extra in EXTRAS]
    lines = project["dependencies"] + [line for extra in extras for line in extra]
    return [str(Requirement(line)) for line in lines]


def spoken_version(world: World) -> str:
    """Return how a world's Python names itself, such as ``Python 3.11.7``."""
    return called([world.python, "--version"], "does not start").strip()


def called(call: list[str], problem: str, *, text: str = "") -> str:
    """Return what a program prints; stop with one line when it fails."""
    done = subprocess.run(call, input=text, capture_output=True, text=True, cwd=lock.ROOT)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SystemExit(f"run.py versions: {problem}: {last}")
    return done.stdout


def tested(world: World) -> tuple[int, str]:
    """Return pytest's exit code and its last line; its output stands beside the environment."""
    log = world.place / "tests.txt"
    lenient = [f"-Wdefault::{name}" for name in LENIENT]
    options = ["-q", "-n", "auto", "-m", "not pipeline", "-p", "no:cacheprovider", *lenient]
    ignored = [f"--ignore={path}" for path in LEFT_OUT]
    call = [str(world.program), "-m", "pytest", *options, *ignored, *TESTS]
    path = f"{world.program.parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w", encoding="utf-8") as said:
        code = subprocess.call(
            call, stdout=said, stderr=said, cwd=lock.ROOT, env=os.environ | {"PATH": path}
        )
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return code, " ".join(last).strip("= ") + f" (details: {log})"


if __name__ == "__main__":
    sys.exit(main())
