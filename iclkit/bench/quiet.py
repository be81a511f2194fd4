"""What a run may see of the machine: a folder of its own and variables that change no number.

A user's shell, settings and other installations do not reach it: no start-up file, no search path,
no profile, no kernel of another Python, no other number of threads.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iclkit.bench.backends import CELL_THREADS
from iclkit.bench.sweep import CLUSTER

__all__ = ["environment", "private_folder"]

# Beginnings of the variables that can change what a run computes: none reaches it but our own.
CHANGE_NUMBERS = (
    *("PYTHON", "IPYTHON", "JUPYTER", "MATPLOTLIB", "MPLBACKEND", "OMP_", "OPENBLAS_", "MKL_"),
    *("BLIS_", "GOTO_", "KMP_", "VECLIB_", "NUMEXPR_", "NUMBA_", "NPY_", "TORCH_", "NVIDIA_TF32_"),
)


def environment(place: Path, root: Path, count: int = 1) -> dict[str, str]:
    """Return the variables of a run: its own Jupyter folders, its threads, this repository."""
    folders = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")
    own = {name: str(place / name.lower()) for name in folders}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(root), "PYTHONUTF8": "1"}
    made = {"JUPYTER_PATH": str(kernel_folder(place)), "MATPLOTLIBRC": str(empty_file(place))}
    kept = {"ICLKIT_CACHE": str(root / "_build" / "corpora"), "MPLCONFIGDIR": fonts_folder(place)}
    others = {k: v for k, v in os.environ.items() if not k.startswith(CHANGE_NUMBERS)}
    if count > 1:
        others.pop(CLUSTER, None)  # whose workers have one thread
    if others.get(CLUSTER, "").endswith(".json"):  # a run has a folder of its own
        others[CLUSTER] = str(Path(others[CLUSTER]).absolute())
    return others | own | dict.fromkeys((*threads, CELL_THREADS), str(count)) | fixed | made | kept


def kernel_folder(place: Path) -> Path:
    """Return a Jupyter folder whose kernel ``python3`` is this Python, whatever others say."""
    folder = place / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": start, "display_name": "Python 3", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(kernel))
    return place / "jupyter"


def empty_file(place: Path) -> Path:
    """Return a file of settings that says nothing."""
    (place / "settings").touch()
    return place / "settings"


def fonts_folder(place: Path) -> str:
    """Return where matplotlib can keep its list of fonts, which takes seconds to make."""
    asked = os.environ.get("MPLCONFIGDIR") or Path(sys.prefix) / "cache" / "matplotlib"
    with contextlib.suppress(OSError):
        Path(asked).mkdir(parents=True, exist_ok=True)
    return str(asked if os.access(asked, os.W_OK) else place / "matplotlib")


@contextlib.contextmanager
def private_folder(cache: Path) -> Iterator[Path]:
    """Give an empty folder that is deleted afterwards; its name tells whose it is."""
    options: dict[str, Any] = {"prefix": f"run-{os.getpid()}-", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(dir=cache, **options) as folder:
        yield Path(folder)
