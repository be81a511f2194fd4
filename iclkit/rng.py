"""Random streams that belong to names, for everything that draws.

A stream depends on the seed and on its name alone: adding a cell, a grid point or a worker
changes no other number.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from iclkit._checks import count, shown

__all__ = ["stream"]

_BEYOND = 10**4300  # Python writes out no longer integer


def stream(seed: int, *name: object) -> np.random.Generator:
    """Return the generator that belongs to `name` under `seed`.

    Parameters
    ----------
    seed : int
        The run's only seed, >= 0.
    *name : str, number, bool, None, or list, tuple, dict of these
        What the stream is for. Equal values make equal names: ``1``, ``1.0`` and
        ``np.float64(1)`` are one name, and a dict's order does not matter.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    TypeError
        If `seed` is not an integer, or a part of `name` is of another type.
    ValueError
        If `seed` is negative or a part of `name` is NaN, which equals nothing, or an
        integer of more than 4300 digits.

    Notes
    -----
    128 bits of a hash of the name's sorted JSON become the spawn key of a
    `numpy.random.SeedSequence`.

    Examples
    --------
    >>> import numpy as np
    >>> first = stream(0, "pretrain", {"d": 20, "tau": 0.5}).normal()
    >>> again = stream(0, "pretrain", {"tau": np.float64(0.5), "d": 20}).normal()
    >>> first == again, first == stream(0, "test", {"d": 20, "tau": 0.5}).normal()
    (True, False)
    """
    seed = count("seed", seed, low=0, high=np.inf)  # seeds have no largest value
    text = json.dumps([_plain(part) for part in name], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    words = np.frombuffer(digest, dtype="<u4")
    key = tuple(int(word) for word in words)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _plain(part: object) -> object:
    """Reduce a part of a name to JSON types, one form per value."""
    if isinstance(part, np.ndarray | np.generic):
        part = part.tolist()
    if isinstance(part, dict):
        return {_key(key): _plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_plain(value) for value in part]
    if isinstance(part, float):
        return _plain_float(part)
    if isinstance(part, int) and abs(part) >= _BEYOND:
        raise ValueError("a stream's name must hold integers of at most 4300 digits, got a longer")
    if part is None or isinstance(part, str | bool | int):
        return part
    raise TypeError(f"a stream's name must be made of plain values, got {type(part).__name__}")


def _plain_float(part: float) -> float | int:
    if np.isnan(part):
        raise ValueError("a stream's name must not contain NaN, which equals nothing")
    return int(part) if part.is_integer() else part


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys in a stream's name must be strings, got {shown(key)}")
    return key
