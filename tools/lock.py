"""Resolve the dependencies of pyproject.toml into constraints.txt and environment.yml.

pyproject.toml is the one source. The lock holds no address and no build tag, so it serves every
index; packages that only the CUDA build of torch needs are left out.
"""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
ENVIRONMENT = ROOT / "environment.yml"
PYTHON = "3.11"
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


def main() -> None:
    """Write the lock, then the conda environment."""
    LOCK.write_text(resolved())
    ENVIRONMENT.write_text(environment_yml(LOCK.read_text()))


def resolved() -> str:
    """Return the lock: every package at one version, for Python 3.11 and later."""
    options = [
        "--all-extras",
        "--universal",
        "--python-version",
        f"{PYTHON}.0",
        "--upgrade",
        "--fork-strategy",
        "fewest",
    ]
    quiet = ["--no-annotate", "--no-header", "--quiet"]
    done = subprocess.run(
        ["uv", "pip", "compile", "pyproject.toml", *options, *quiet],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    lines = [line for line in done.stdout.splitlines() if not CUDA_ONLY.match(line)]
    return "\n".join(lines) + "\n"


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
