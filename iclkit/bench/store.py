"""Finished cells on disk: an append-only file per function, code, versions and seed.

Each line is a record with a checksum of its own. A line that is cut short or altered is skipped,
never read as a number. One process writes a file at a time, and the system lets go of the lock
however that process ends.
"""

import base64
import contextlib
import hashlib
import json
import math
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from iclkit.bench.fingerprint import edited, fingerprint, versions

__all__ = ["FOLDER", "Store", "StoreError", "check_unedited", "kept_file", "opened"]

FOLDER = "ICLKIT_STORE"  # environment variable that names the folder of finished work
SYNC_SECONDS = 2.0  # what a power failure can cost; a killed process loses nothing written
LONGEST = 100  # characters of a name before it is cut
SHORT = 40  # of what a cut leaves
DIGEST = 16  # hexadecimal digits of a record's checksum
Values = Mapping[str, Any]


class StoreError(RuntimeError):
    """Finished cells cannot be kept; the message says why and what to do."""


@dataclass(frozen=True)
class Store:
    """An open file of finished cells; see `opened`."""

    path: Path
    descriptor: int
    records: dict[str, dict[str, Any]]
    synced: list[float] = field(default_factory=lambda: [time.monotonic()])

    def add(self, finished: Iterable[tuple[str, Values]]) -> None:
        """Write records at the end of the file, all of them or none.

        Parameters
        ----------
        finished : iterable of (str, dict)
            Keys and values: numbers, text, or arrays of numbers.

        Raises
        ------
        StoreError
            If the disk is full or gone; the file keeps its whole records.
        TypeError
            If a value is of another kind.
        """
        new = dict(finished)
        lines = b"".join(_line([key, _encoded(values)]) for key, values in new.items())
        end = os.lseek(self.descriptor, 0, os.SEEK_END)
        try:
            _write(self.descriptor, lines)
            self._sync()
        except OSError as error:
            with contextlib.suppress(OSError):  # a torn line is skipped when read
                os.ftruncate(self.descriptor, end)
            raise StoreError(self._lost(error)) from None
        self.records.update((key, dict(values)) for key, values in new.items())

    def _sync(self) -> None:
        if time.monotonic() - self.synced[0] >= SYNC_SECONDS:
            os.fsync(self.descriptor)
            self.synced[0] = time.monotonic()

    def _lost(self, error: OSError) -> str:
        kept = f"{len(self.records)} cells are kept in {self.path.parent}"
        return f"cannot write finished cells: {error.strerror}; {kept}; make room and run it again"


def kept_file(name: str) -> Path | None:
    """Return where a long computation keeps its own state, for example a training.

    Parameters
    ----------
    name : str
        Of the file. A fingerprint is put before its ending: of the name, of the sources of the
        library and of the versions, so that after an edit the computation starts afresh.

    Returns
    -------
    Path or None
        In the folder that ``ICLKIT_STORE`` of the environment names; None where it names none.
        The book's runner names one for each run of a notebook, and removes it when the run ends.

    Raises
    ------
    StoreError
        If the library was edited since it was imported.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    check_unedited()
    place = Path(_stem(name))
    digest = fingerprint(name, versions())
    return Path(folder) / f"{place.stem[:SHORT]}-{digest}{place.suffix[:SHORT]}"


def check_unedited() -> None:
    """Raise StoreError if what is loaded is not what the files say: nobody knows what runs."""
    if edited():
        raise StoreError("iclkit was edited since it was imported; start Python again")


@contextlib.contextmanager
def opened(folder: Path, name: str, about: Mapping[str, Any]) -> Iterator[Store]:
    """Open the file of finished cells `name` for this process alone.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    name : str
        Stem of the file.
    about : dict
        What the numbers depend on, for a person who reads the file.

    Yields
    ------
    Store
        With the whole records of earlier runs; what an end by force cut short is removed.

    Raises
    ------
    StoreError
        If the folder cannot be written, or another run holds the file.
    """
    path = folder / f"{_stem(name)}.jsonl"
    descriptor = _open(path)
    try:
        _lock(descriptor, path)
        yield Store(path, descriptor, _prepared(descriptor, path, about))
    finally:
        os.close(descriptor)


def _stem(name: str) -> str:
    """Return a name as every file system takes it; a long one ends in its digest."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    if len(plain) <= LONGEST:
        return plain
    return f"{plain[:SHORT]}-{_digest(name.encode()).decode()}"


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        remedy = "name a folder that can be written"
        raise StoreError(f"store {path.parent}: {error.strerror}; {remedy}") from None


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows, where two runs with one store must be avoided by hand
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        remedy = "wait for it, or name another store"
        raise StoreError(f"another run is writing {path}; {remedy}") from None
    except OSError as error:
        raise StoreError(f"store {path.parent} cannot be locked: {error.strerror}") from None


def _prepared(descriptor: int, path: Path, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the whole records, with the file cut after its last whole line."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    records = dict(_records(content[:whole]))
    try:
        os.ftruncate(descriptor, whole)
        if not whole:
            _write(descriptor, _line([None, dict(about)]))
    except OSError as error:
        os.ftruncate(descriptor, whole)
        raise StoreError(f"store {path.parent}: {error.strerror}; make room") from None
    return records


def _records(content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in content.splitlines():
        digest, _, text = line.partition(b" ")
        if digest != _digest(text):
            continue
        key, values = json.loads(text)
        if key is not None:
            yield key, {name: _decoded(value) for name, value in values.items()}


def _line(record: list[Any]) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%s %s\n" % (_digest(text), text)


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=DIGEST // 2).hexdigest().encode()


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _encoded(values: Values) -> dict[str, Any]:
    return {name: _exact(name, value) for name, value in values.items()}


def _exact(name: str, value: Any) -> Any:
    """Return JSON that keeps the value's type and every bit of it."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return ["nan", struct.pack("<d", value).hex()] if math.isnan(value) else value
    if isinstance(value, np.float64) and not np.isnan(value):
        return ["float64", float(value)]
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufcUSMm":
        array = np.asarray(value, order="C")
        content = base64.b64encode(array.tobytes()).decode()
        shape = list(array.shape) if isinstance(value, np.ndarray) else None
        return [array.dtype.str, shape, content]
    kind = type(value).__name__
    raise TypeError(f"{name} must be a number, text or an array to be stored, got {kind}")


def _decoded(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    if value[0] == "nan":
        return struct.unpack("<d", bytes.fromhex(value[1]))[0]
    if value[0] == "float64":
        return np.float64(value[1])
    array = np.frombuffer(base64.b64decode(value[2]), dtype=value[0])
    return array[0] if value[1] is None else array.reshape(value[1]).copy()
