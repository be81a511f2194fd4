"""Checkpoints: a file that holds a whole state or none, and that never yields a wrong number.

A file is a digest of its content, and then the content as torch stores it: torch itself does not
see a flipped bit in the numbers of its files. A new state is written beside the old one, forced
to the disk and put in its place at once, so that a kill or a full disk leaves the old one.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from pathlib import Path
from typing import Any

import torch

__all__ = ["prepare", "read", "write"]

_DIGEST = 16  # bytes


def prepare(path: str | Path) -> Path:
    """Return the path of a checkpoint whose folder exists.

    Raises
    ------
    ValueError
        If it is a folder itself, or its folder cannot be made: now, not after an hour's work.
    TypeError
        If it is no path.
    """
    if not isinstance(path, str | Path):
        raise TypeError(f"checkpoint must be a path, got {type(path).__name__}")
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = path.is_dir()
    except (OSError, ValueError) as error:  # a name may hold a null
        raise ValueError(
            f"checkpoint must be in a folder that can be made, got {str(path)!r}"
        ) from error
    if folder:
        raise ValueError(f"checkpoint must be a file, got the folder {path}")
    return path


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a state, whole or not at all.

    Raises
    ------
    OSError
        If the disk does not take it; what was there before stays.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")  # two runs may write at once
    try:
        with part.open("xb") as file:
            file.write(_digest(content) + content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        reason = f"checkpoint {path} cannot be written: {error.strerror}; an older one stays"
        raise OSError(error.errno, reason) from error
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> Any:
    """Return a state, on the CPU.

    Raises
    ------
    ValueError
        If the file is damaged, or was written before files had digests.
    OSError
        If it may not be read.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        reason = f"checkpoint {path} cannot be read: {error.strerror}"
        raise OSError(error.errno, reason) from error
    if _digest(stored[_DIGEST:]) != stored[:_DIGEST]:
        raise ValueError(f"checkpoint {path} is damaged; delete it to start anew")
    return torch.load(io.BytesIO(stored[_DIGEST:]), map_location="cpu", weights_only=True)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()
