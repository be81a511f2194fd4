"""A small toy repository for faults, and commands in a world that lacks or adds something."""

import os
import shutil
import subprocess
import sys

import pytest

from iclkit.bench.runner import run_notebooks
from tests import toy

CLAIM_CELLS = {
    "title": "# A toy",
    "parameters": 'profile = "quick"\nseed = 0',
    "claim": 'from iclkit.bench import claims\n\nledger = claims.Ledger.load("01_toy", profile)\n'
    'ledger.check("TOY-1", measured=0.5 + 0.5, expected=1.0, stderr=0.1)',
    "close": "ledger.close()",
}
KEPT = ("01_toy", "02_other")


def make(place):
    """Lay out the toy repository in `place`, its first notebook without a figure: it is quick."""
    toy.make(place)
    toy.write(place, "01_toy", CLAIM_CELLS)
    return place


def other(place, code):
    """Let the second notebook run some code."""
    toy.write(place, "02_other", toy.OTHER | {"draw": code})


def finished(folder):
    """Return a toy repository under `folder` whose notebooks ran; tests change only copies."""
    place = make(folder / "an odd pl\u00e4ce")
    run_notebooks(KEPT, root=place, profile="quick")
    return place


def copy_of(place, target):
    """Return a copy of a repository with all that was built."""
    return shutil.copytree(place, target, symlinks=True)


def iclkit(place, *words, inside=(), extra=None, **options):
    """Run the command line in `place`; return exit code, output and the lines of stderr."""
    command = [*inside, sys.executable, "-m", "iclkit.cli", *words]
    env = {k: v for k, v in os.environ.items() if k != "HOME"} | (extra or {})
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr.splitlines()


def one_line(result):
    """Return the one line that a command ended with; it said nothing else and failed cleanly."""
    code, out, told = result
    assert (code, out) == (1, ""), told
    assert len(told) == 1, told
    return told[0]


def bwrap(*words):
    """Return the beginning of a command that runs in a world with changes; skip where it cannot."""
    command = ["bwrap", "--dev-bind", "/", "/", "--die-with-parent", *words]
    if not shutil.which("bwrap") or subprocess.run([*command, "true"], stderr=-3).returncode:
        pytest.skip("bubblewrap (bwrap) is not there or not allowed here")
    return command
