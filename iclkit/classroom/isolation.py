"""Start a process that can reach nothing: what each level of isolation is made of.

:mod:`iclkit.classroom.sandbox` says what the levels hold, and is the one to call.
"""

import contextlib
import functools
import importlib.util
import math
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

__all__ = [
    "Isolation",
    "SandboxError",
    "Way",
    "compile_packages",
    "folder_for",
    "orders",
    "process",
    "ways",
]

NOBODY = 65534
LIBRARIES = 320 << 20  # bytes of memory that interpreter, numpy and scipy take for themselves


class Isolation(StrEnum):
    """How a student's process is kept apart; the module says what each level holds."""

    NAMESPACES = "namespaces"
    LIMITS = "limits"


class SandboxError(RuntimeError):
    """The sandbox itself does not work here: nobody's answer is to blame."""


@dataclass(frozen=True)
class Way:
    """How a level is reached on this machine."""

    isolation: Isolation
    user: int = 0  # becomes this user; 0: stays
    kernel: bool = True  # whether the kernel refuses calls
    paths: bool = True  # whether it refuses files


def ways(isolation: Isolation) -> list[Way]:
    """Return the ways to try, the strongest first."""
    users = (NOBODY, 0) if os.geteuid() == 0 else (0,)
    helps = [(True, True), (True, False), (False, False)]
    return [
        Way(isolation, user, kernel, paths)
        for kernel, paths in (helps if sys.platform == "linux" else helps[-1:])
        for user in users
    ]


@functools.cache
def compile_packages() -> None:
    """Import once outside what cells import inside, where the compiled form cannot be kept."""
    spec = importlib.util.find_spec("scipy.stats")
    compiled = spec and spec.origin and Path(importlib.util.cache_from_source(spec.origin))
    if compiled and not compiled.exists():
        code = "from scipy import integrate, linalg, optimize, sparse, special, stats"
        subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)


@contextlib.contextmanager
def folder_for(uses: Sequence[str]) -> Iterator[Path]:
    """Make a folder with the modules of this library that the process imports, and no others."""
    with tempfile.TemporaryDirectory(prefix="answer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for directory in ("empty", "packages"):
            (folder / directory).mkdir()
        for package, path in _packages().items():
            (folder / "packages" / package).symlink_to(path)
        for module in ("iclkit.classroom.child", "iclkit.classroom.confine", *uses):
            _copy_module(module, folder)
        yield folder


def _copy_module(module: str, folder: Path) -> None:
    """Copy a module or package of this library, and what the packages above it start with."""
    top, *inner = module.split(".")
    if top != "iclkit" or not inner:
        raise ValueError(f"uses must name modules of iclkit such as 'iclkit.rng', got {module!r}")
    library = Path(__file__).parent.parent
    for depth in range(len(inner)):
        _copy_file(library.joinpath(*inner[:depth], "__init__.py"), library, folder)
    source = library.joinpath(*inner)
    files = sorted(source.glob("*.py")) if source.is_dir() else [source.with_suffix(".py")]
    for file in (*files, library / "_checks.py"):
        _copy_file(file, library, folder)


def _copy_file(file: Path, library: Path, folder: Path) -> None:
    target = folder / "iclkit" / file.relative_to(library)
    if not file.exists():
        raise ValueError(f"uses names a module that this library does not have: {file.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def orders(way: Way, folder: Path, *, seconds: float, megabytes: int) -> dict[str, Any]:
    """Return what the process is told about its confinement."""
    inside = way.isolation is Isolation.NAMESPACES
    home = "/answer" if inside else str(folder)
    roots, files = _interpreter_files()
    path = [home, "/packages" if inside else f"{home}/packages"]
    return {
        "path": path,
        "roots": [*path, *roots],
        "files": [*files, _standard_library()],
        "open": []
        if inside or not way.paths
        else [*path, *roots, *files, *_packages().values(), *_libraries()],
        "listed": [_standard_library()],
        "kernel": way.kernel,
        "parent": 0 if inside or sys.platform != "linux" else os.getpid(),
        "user": way.user if inside else 0,
        "seconds": math.ceil(seconds) + 1,
        "bytes": (megabytes << 20) + LIBRARIES,
    }


@contextlib.contextmanager
def process(way: Way, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process, and end it with all that it started."""
    inside = way.isolation is Isolation.NAMESPACES
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*(_bwrap(way, folder) if inside else ()), *_program("/answer" if inside else str(folder))],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=folder,
        env=ENVIRONMENT,
        start_new_session=True,
        **({} if inside else _as_user(way.user)),
    ) as started:
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(started.pid, signal.SIGKILL)
            started.kill()


ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",
    "PYTHONHASHSEED": "0",  # the order of sets is the same in each grading
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def _as_user(user: int) -> dict[str, Any]:
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def _program(home: str) -> list[str]:
    """Return the command: no installed packages, no variables, no compiled files written."""
    start = "from iclkit.classroom import child; child.main()"
    code = f"import sys; sys.path.append({home!r}); {start}"
    return [_interpreter(), "-s", "-P", "-S", "-B", "-c", code]


def _bwrap(way: Way, folder: Path) -> list[str]:
    """Return the command that makes the namespaces, in which only listed paths exist."""
    command = [shutil.which("bwrap") or "bwrap", "--die-with-parent", "--new-session", *_user(way)]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", *_system()]
    for path in _hidden():
        command += ["--ro-bind", str(folder / "empty"), path]
    for name, package in _packages().items():
        command += ["--ro-bind", package, f"/packages/{name}"]
    for device in ("/dev/null", "/dev/urandom"):
        command += ["--dev-bind", device, device]
    command += ["--ro-bind", str(folder), "/answer", "--chdir", "/answer"]
    return [*command, "--remount-ro", "/"]


def _user(way: Way) -> list[str]:
    """Return the options for who runs in there: nobody, by a change of user or by a mapping."""
    if not way.user:
        return ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    options = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    for path in _above(("/packages/numpy", *_system_paths())):  # else only root may enter them
        options += ["--perms", "0755", "--dir", path]
    return options


@functools.cache
def _system() -> tuple[str, ...]:
    """Return the options that show the system's libraries and the interpreter."""
    options = ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for path in map(Path, _system_paths()):
        link = path.is_symlink()
        options += ["--symlink", str(path.readlink())] if link else ["--ro-bind", str(path)]
        options += [str(path)]
    return tuple(options)


# ------------------------------------------------------------------ what an interpreter needs


@functools.cache
def _interpreter() -> str:
    """Return the interpreter itself, not an environment's link to it."""
    return os.path.realpath(sys.executable)


@functools.cache
def _packages() -> dict[str, str]:
    """Return the folders that numpy and scipy consist of."""
    found: dict[str, Path] = {}
    for name in ("numpy", "scipy"):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise SandboxError(f"{name} is not installed as a folder of files")
        folder = Path(spec.submodule_search_locations[0]).resolve()
        found |= {path.name: path for path in (folder, folder.with_name(f"{name}.libs"))}
    return {name: str(path) for name, path in found.items() if path.is_dir()}


@functools.cache
def _standard_library() -> str:
    return os.path.realpath(sysconfig.get_path("stdlib"))


@functools.cache
def _interpreter_files() -> tuple[list[str], list[str]]:
    """Return the folders and the files of the standard library, without installed packages."""
    entries = [e for e in Path(_standard_library()).iterdir() if "-packages" not in e.name]
    return [str(e) for e in entries if e.is_dir()], [str(e) for e in entries if e.is_file()]


LIBRARY_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


@functools.cache
def _libraries() -> list[str]:
    """Return where the system's shared libraries are, and those beside the interpreter."""
    folders = [*map(Path, LIBRARY_FOLDERS), Path(_standard_library()).parent]
    entries = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    return ["/etc/ld.so.cache", *(str(e) for e in entries if not e.name.startswith("python"))]


@functools.cache
def _system_paths() -> tuple[str, ...]:
    """Return what the namespaces show of the system."""
    own = (str(Path(_standard_library()).parent), _interpreter())
    system = tuple(path for path in LIBRARY_FOLDERS if Path(path).exists())
    return tuple(dict.fromkeys((*system, *own)))


def _above(paths: Iterable[str]) -> list[str]:
    """Return the folders above `paths`, from the top down, without the root."""
    return sorted({str(folder) for path in paths for folder in Path(path).parents} - {"/"})


@functools.cache
def _hidden() -> tuple[str, ...]:
    """Return the folders of installed packages within what is shown."""
    shown = [Path(path) for path in _system_paths()]
    roots = [path for path in shown if path.is_dir() and not path.is_symlink()]
    return tuple(str(found) for root in roots for found in root.glob("python*/*-packages"))
