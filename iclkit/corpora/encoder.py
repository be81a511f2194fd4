"""Sentence embeddings: the multilingual encoder, and a cache that cannot lie.

For the loaders of this package. Importing this module loads no model.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from iclkit.corpora.origins import ENCODER
from iclkit.corpora.packages import CorpusError, verify

__all__ = ["Encoder", "SentenceEncoder", "cache_folder", "embed"]

Half = NDArray[np.float16]
Single = NDArray[np.float32]

CACHE_VARIABLE: Final = "ICLKIT_CACHE"
_LAYOUT: Final = "iclkit embeddings 1"  # part of every key; raise it when files change meaning
_LONGEST: Final = 2000  # characters of a text that are embedded
_SLACK: Final = 4096  # bytes of a cache file beside its numbers


class Encoder(Protocol):
    """What turns texts into vectors. Its name is part of the cache's key."""

    @property
    def name(self) -> str:
        """Name and version: another name, other embeddings."""

    @property
    def size(self) -> int:
        """Length of a vector."""

    def __call__(self, texts: Sequence[str]) -> NDArray[Any]:
        """Return the (n, size) embeddings of n texts."""


@dataclass(frozen=True)
class SentenceEncoder:
    """Google's multilingual Universal Sentence Encoder, on one thread: (n, 512), unit rows.

    Parameters
    ----------
    name : str
    size : int

    Raises
    ------
    CorpusError
        On first use, if the package is missing or one of its files is not the pinned one.

    Notes
    -----
    Texts are cut at 2,000 characters. About 1,000 words a second.
    """

    name: str = f"{ENCODER.requirement} {ENCODER.files['resources/weights.npz']}"
    size: int = 512

    def __call__(self, texts: Sequence[str]) -> NDArray[Any]:
        """Return the embeddings of some texts."""
        return np.asarray(self._model.encode([text[:_LONGEST] for text in texts]))

    @cached_property
    def _model(self) -> Any:
        verify(ENCODER)
        return importlib.import_module(ENCODER.module).USE(threads=1)


def embed(
    texts: Sequence[str], encoder: Encoder, *, cache: str | os.PathLike[str] | None = None
) -> Single:
    """Return the embeddings of some texts, from the cache where it holds them.

    Parameters
    ----------
    texts : sequence of n str
    encoder : Encoder
    cache : path, optional
        Folder of the cache; else the environment variable ICLKIT_CACHE; else a folder of this
        user. See `cache_folder`.

    Returns
    -------
    (n, size) ndarray of float32
        Rounded to float16, whether computed or read, so that both give the same numbers.

    Raises
    ------
    CorpusError
        If the encoder is missing or altered, or what it returns is not (n, size) finite numbers
        within the range of float16.
    TypeError
        If `texts` is not a sequence of strings, or `encoder` has no name, size or call.
    ValueError
        If `cache` exists and is not a folder.

    Notes
    -----
    A file of the cache is named by a checksum of the texts and the encoder, and holds a checksum
    of its own numbers. A file that is cut short, altered or of another origin is not used: its
    embeddings are computed again and it is replaced. Files appear by renaming, so two processes
    at once never see half of one. Where the folder cannot be written, nothing is kept and the
    result is the same.
    """
    _check_request(texts, encoder)
    folder = cache_folder(cache)
    key = _key(texts, encoder)
    rows = _stored(folder, key, (len(texts), encoder.size))
    if rows is None:
        rows = _computed(texts, encoder)
        _store(folder, key, rows)
    return rows.astype(np.float32)


def _check_request(texts: Sequence[str], encoder: Encoder) -> None:
    if isinstance(texts, str | bytes) or not hasattr(texts, "__len__"):
        raise TypeError(f"texts must be a sequence of str, got {type(texts).__name__}")
    if other := {type(text).__name__ for text in texts if not isinstance(text, str)}:
        raise TypeError(f"texts must hold str, got {', '.join(sorted(other))}")
    if not (callable(encoder) and hasattr(encoder, "name") and hasattr(encoder, "size")):
        raise TypeError(
            f"encoder must be a callable with name and size, got {type(encoder).__name__}; "
            "leave it out for the tier's own"
        )


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder in which embeddings are kept, None if there is no place for it.

    Parameters
    ----------
    cache : path, optional
        Used if given; else the environment variable ICLKIT_CACHE, if it is set and not empty;
        else ``iclkit`` in the folder that the system has for a user's caches.

    Returns
    -------
    pathlib.Path or None
        It need not exist.

    Raises
    ------
    TypeError
        If `cache` is not a path.
    ValueError
        If what was asked for exists and is not a folder.
    """
    if cache is not None and not isinstance(cache, str | os.PathLike):
        raise TypeError(f"cache must be a path, got {type(cache).__name__}")
    asked = cache or os.environ.get(CACHE_VARIABLE) or None
    if asked is None:
        return _user_folder()
    folder = Path(asked)
    if _is_file(folder):
        raise ValueError(f"cache must be a folder, got the file {folder}")
    return folder


def _is_file(path: Path) -> bool:
    """Say whether there is something that is not a folder; no, where one may not look."""
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return False


def _user_folder() -> Path | None:
    """Return this user's cache folder of this library."""
    try:
        home = Path.home()
    except RuntimeError:  # an account without a home
        return None
    by_system = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}
    variable, usual = by_system.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    return Path(os.environ.get(variable) or home / usual) / "iclkit"


def _key(texts: Sequence[str], encoder: Encoder) -> str:
    """Return the checksum of texts and encoder; lengths keep ("ab", "c") from ("a", "bc")."""
    digest = hashlib.sha256(repr((_LAYOUT, encoder.name, encoder.size, len(texts))).encode())
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()


def _computed(texts: Sequence[str], encoder: Encoder) -> Half:
    """Return fresh embeddings."""
    rows = _numbers(encoder(texts), encoder.name)
    shape = (len(texts), encoder.size)
    limit = float(np.finfo(np.float16).max)
    if rows.shape != shape or not (np.abs(rows) <= limit).all():  # NaN fails as well
        raise CorpusError(
            f"encoder {encoder.name}: must return finite numbers of shape {shape} for float16, "
            f"got shape {rows.shape}, largest {np.abs(rows).max(initial=0)}"
        )
    return rows.astype(np.float16)


def _numbers(returned: Any, name: str) -> NDArray[Any]:
    """Return what an encoder returned as an array of real numbers."""
    try:
        rows = np.asarray(returned)
    except ValueError:
        raise CorpusError(f"encoder {name}: must return rows of one length, got others") from None
    if rows.dtype.kind not in "biuf":
        raise CorpusError(f"encoder {name}: must return real numbers, got dtype {rows.dtype}")
    return rows


def _seal(key: str, rows: Half) -> NDArray[np.uint8]:
    """Return the checksum that a file carries: of its numbers and its name."""
    return np.frombuffer(hashlib.sha256(key.encode() + rows.tobytes()).digest(), np.uint8)


def _stored(folder: Path | None, key: str, shape: tuple[int, int]) -> Half | None:
    """Return the embeddings of a key if a sound file holds them."""
    if folder is None:
        return None
    try:
        with (folder / f"{key}.npz").open("rb") as file:
            content = file.read(2 * shape[0] * shape[1] + _SLACK)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            rows, seal = arrays["rows"], arrays["seal"]
    except Exception:  # whatever is wrong with a cache, the answer is to compute again
        return None
    sound = rows.dtype == np.float16 and rows.shape == shape
    return rows if sound and np.array_equal(seal, _seal(key, rows)) else None


def _store(folder: Path | None, key: str, rows: Half) -> None:
    """Keep embeddings, if the folder allows it."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{key[:8]}-", suffix=".part", dir=folder)
    except (OSError, ValueError):  # no such place, no permission, no name of a file
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, rows=rows, seal=_seal(key, rows))
        Path(name).replace(folder / f"{key}.npz")
    except OSError:
        Path(name).unlink(missing_ok=True)
