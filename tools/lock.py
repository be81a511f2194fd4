"""Resolve the dependencies of pyproject.toml; write the lock, its hashes and environment.yml.

    python3 run.py lock           upgrade every package to the newest version that fits
    python3 run.py lock --keep    move nothing but what pyproject.toml asks anew

pyproject.toml is the one source. The lock, constraints.txt, holds no address and no build tag, so
it serves every index. hashes/lock.txt repeats its pins with the hash of every file that the index
offers, so that an index cannot hand out another file under the same name. Apart stand the CPU
builds of torch and what its build with CUDA needs; data-packages.txt carries its own hashes.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
HASHES = ROOT / "hashes" / "lock.txt"
CPU_HASHES = ROOT / "hashes" / "torch-cpu.txt"
CUDA_HASHES = ROOT / "hashes" / "torch-cuda.txt"
DATA = ROOT / "data-packages.txt"
ENVIRONMENT = ROOT / "environment.yml"
PYTHON = "3.11"
PYTHONS = (PYTHON, "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
CUDA_ONLY = re.compile(r"^(nvidia-|cuda-|triton)")
# Compiled packages come from conda-forge; its name where it differs. Everything else from PyPI.
CONDA = {
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "matplotlib": "matplotlib-base",
    "seaborn": "seaborn-base",
    "scikit-learn": "scikit-learn",
    "torch": "pytorch-cpu",
}
BINDER_EXTRAS = ("bench", "data", "nets", "book", "lab")
HEADER = """\
# Made by `python3 run.py lock` from pyproject.toml and constraints.txt; do not edit.
# Binder and conda read it. `python3 run.py` does not need it.
"""
MADE = "# Made by `python3 run.py lock`; do not edit. "
HASHES_HEADER = (
    MADE
    + """The pins of constraints.txt with the hash of every
# file that the index offers.
"""
)
CPU_HEADER = (
    MADE
    + """The builds of torch for Linux without CUDA. They
# stand on an index of their own, so a lock adds those that it is offered to those known before.
# `python3 run.py` takes one of them where pip finds it, else the file of lock.txt.
"""
)
CUDA_HEADER = (
    MADE
    + """What the build of torch with CUDA needs besides
# constraints.txt. `python3 run.py` installs it where pip found no build without.
"""
)


class Pin(NamedTuple):
    """A line of the lock, such as ``tzdata==2026.6 ; sys_platform == 'win32'``, and its files."""

    line: str
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the package's name."""
        return self.line.partition("==")[0]

    @property
    def cuda(self) -> bool:
        """Return whether only the CUDA build of torch needs the package."""
        return bool(CUDA_ONLY.match(self.line))


def main(argv: list[str] | None = None) -> None:
    """Write the lock, its hashes, and the conda environment."""
    parser = argparse.ArgumentParser(prog="run.py lock", description="Resolve the dependencies.")
    parser.add_argument("--keep", action="store_true", help="keep every pin that still fits")
    keep = parser.parse_args(argv).keep
    known = [pin for path in (HASHES, CUDA_HASHES) if path.exists() for pin in read_pins(path)]
    pins = resolved(known if keep else [])
    torch = cpu_builds(next(pin for pin in pins if pin.name == "torch"))
    data = compiled(DATA, read_pins(DATA), "--no-deps")
    write(pins, torch, comments(DATA.read_text()) + written(data))


def write(pins: list[Pin], torch: Pin, data: str) -> None:
    """Write the files that follow from the pins."""
    common = [pin for pin in pins if not pin.cuda]
    LOCK.write_text("".join(f"{pin.line}\n" for pin in common))
    HASHES.parent.mkdir(exist_ok=True)
    HASHES.write_text(HASHES_HEADER + written(common))
    CPU_HASHES.write_text(CPU_HEADER + written([torch]))
    CUDA_HASHES.write_text(CUDA_HEADER + written([pin for pin in pins if pin.cuda]))
    DATA.write_text(data)
    ENVIRONMENT.write_text(environment_yml(LOCK.read_text()))


def resolved(kept: list[Pin]) -> list[Pin]:
    """Return every package at one version, for Python 3.11 and later.

    Versions and hashes of `kept` stay unless pyproject.toml forbids them.
    """
    return compiled(ROOT / "pyproject.toml", kept, "--all-extras", "--fork-strategy", "fewest")


def compiled(source: Path, kept: list[Pin], *options: str) -> list[Pin]:
    """Return the pins that uv resolves `source` to; it moves none of `kept` without need."""
    common = ["--universal", "--python-version", f"{PYTHON}.0", "--generate-hashes"]
    quiet = ["--no-annotate", "--no-header", "--quiet"]
    with TemporaryDirectory() as folder:
        result = Path(folder) / "pins.txt"
        result.write_text(written(kept))
        call = [sys.executable, "-m", "uv", "pip", "compile", str(source), "-o", str(result)]
        done = subprocess.run(
            [*call, *common, *quiet, *options], capture_output=True, text=True, cwd=ROOT
        )
        if done.returncode:
            last = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise SystemExit(f"run.py lock: {source.name} cannot be resolved: {last}")
        return read_pins(result)


def read_pins(path: Path) -> list[Pin]:
    """Return the pins of a file of requirements with hashes."""
    return parsed(text_of(path))


def text_of(path: Path) -> str:
    """Return the text of a file of the project; stop with one line where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SystemExit(f"run.py: {path} cannot be read: {why}; restore it") from error


def parsed(text: str) -> list[Pin]:
    r"""Return the pins of a text of requirements with hashes.

    Examples
    --------
    >>> parsed("six==1.17.0 \\\n    --hash=sha256:47\n")
    [Pin(line='six==1.17.0', hashes=('sha256:47',))]
    """
    logical = text.replace("\\\n", " ").splitlines()
    parts = [line.split(" --hash=") for line in logical if line.strip() and line[0] != "#"]
    return [Pin(line.strip(), tuple(h.strip() for h in hashes)) for line, *hashes in parts]


def written(pins: list[Pin]) -> str:
    """Return pins as a file of requirements."""
    return "".join(" \\\n    --hash=".join([pin.line, *pin.hashes]) + "\n" for pin in pins)


def comments(text: str) -> str:
    """Return the leading comment of a file."""
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))


def cpu_builds(torch: Pin) -> Pin:
    """Return the pin of the build without CUDA with all hashes known of it."""
    line = f"{torch.line}+cpu"
    known = read_pins(CPU_HASHES) if CPU_HASHES.exists() else []
    hashes = {each for pin in known if pin.line == line for each in pin.hashes}
    for python, machine in product(PYTHONS, MACHINES):
        hashes.update(hashes_taken(line, python, machine))
    if not hashes:
        raise SystemExit(
            f"run.py lock: no index here offers {line}, so its hash is unknown; nothing was "
            "written. Name PyTorch's CPU index to pip, or keep the old torch with --keep"
        )
    lacking = len(PYTHONS) * len(MACHINES) - len(hashes)
    if lacking > 0:
        sys.stderr.write(f"run.py lock: {lacking} builds of {line} are offered by no index here\n")
    return Pin(line, tuple(sorted(hashes)))


def hashes_taken(requirement: str, python: str, machine: str) -> list[str]:
    """Return the hash of the file that pip would take for a requirement, if it finds one."""
    files = ["--only-binary", ":all:", "--python-version", python]
    for tag in ("manylinux_2_28", "linux"):
        files += ["--platform", f"{tag}_{machine}"]
    call = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", *files]
    with TemporaryDirectory() as unused:
        report = ["--report", "-", "--target", unused, requirement]
        done = subprocess.run([*call, *report], capture_output=True, text=True)
    found = json.loads(done.stdout)["install"] if done.returncode == 0 else []
    digests = [entry["download_info"]["archive_info"]["hashes"]["sha256"] for entry in found]
    return [f"sha256:{digest}" for digest in digests]


def environment_yml(lock: str) -> str:
    """Return the conda environment that follows from the lock."""
    versions = locked_versions(lock)
    wanted = direct_requirements()
    conda = [f"{CONDA[name]}={versions[name]}" for name in wanted if name in CONDA]
    pip = [f"{name}=={versions[name]}" for name in wanted if name not in CONDA]
    content = {
        "name": "iclkit",
        "channels": ["conda-forge"],
        "dependencies": [f"python={PYTHON}", "pip", *conda, {"pip": [*pip, "-e ."]}],
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False)


def locked_versions(lock: str) -> dict[str, str]:
    """Return the version of each package in the lock, names in lower case with dashes."""
    pins = [line.split(";")[0].strip() for line in lock.splitlines() if "==" in line]
    pairs = [pin.split("==") for pin in pins]
    return {canonical(name): pinned for name, pinned in pairs}


def direct_requirements() -> list[str]:
    """Return the names that pyproject.toml asks for, for running and for the book."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][extra] for extra in BINDER_EXTRAS]
    lines = project["dependencies"] + [line for extra in extras for line in extra]
    names = [canonical(re.split(r"[<>=!~\[; ]", line)[0]) for line in lines]
    return sorted(set(names) | {"flit-core"})


def canonical(name: str) -> str:
    """Return a package name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
