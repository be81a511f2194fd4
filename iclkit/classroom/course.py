"""A course: its seed, which only the instructor holds, and what follows from it for a student.

The salt is made from the seed and may be public: it decides which numbers a student gets, and
tells nothing of the hidden inputs, which need the seed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "OPEN",
    "Course",
    "course_of",
    "make_seed",
    "new_seed",
    "numbers",
    "read_seed",
    "student_id",
]

#: Smaller seeds could be found by trying, from the public salt.
LEAST_SEED = 2**96
LONGEST_ID = 64
ID_SIGNS = " ._-@+"


@dataclass(frozen=True)
class Course:
    """A course's seed, and the salt that follows from it."""

    seed: int
    salt: str

    def __repr__(self) -> str:
        """Show the salt alone: the seed must not end up in a log."""
        return f"Course(salt={self.salt!r})"


#: Self-study: everything is public, and anybody can grade.
OPEN = Course(seed=0, salt="open")


def new_seed() -> str:
    """Return the text of a new seed file."""
    return f"{LEAST_SEED + secrets.randbits(127)}\n"


def make_seed(path: Path | str, root: Path | str) -> bool:
    """Make a seed file that only its owner can read, and return True; False if it is there already.

    Raises
    ------
    ValueError
        If the file would be inside the repository, or cannot be written.
    """
    path = _outside(path, root)
    try:
        place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise ValueError(f"no seed could be written to {path}: {error.strerror}") from None
    with os.fdopen(place, "w", encoding="ascii") as file:
        file.write(new_seed())
    return True


def course_of(seed: int) -> Course:
    """Return the course of a seed."""
    digest = hashlib.blake2b(b"salt of a course", key=_bytes(seed), digest_size=12)
    return Course(seed, digest.hexdigest())


def _bytes(seed: int) -> bytes:
    return hashlib.blake2b(str(seed).encode(), digest_size=32).digest()


def read_seed(path: Path | str, root: Path | str) -> Course:
    """Return the course whose seed a file holds: one whole number of at least 30 digits.

    Parameters
    ----------
    path : path
        Outside of the repository, which is public.
    root : path
        The repository.

    Raises
    ------
    ValueError
        If the file is inside the repository, is missing, or holds anything else.
    """
    path = _outside(path, root)
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"no seed could be read from {path}; {_REMEDY}") from None
    if not (text.isdigit() and len(text) <= 200):
        raise ValueError(f"{path} must hold one whole number and nothing else; {_REMEDY}")
    if int(text) < LEAST_SEED:
        raise ValueError(f"the seed in {path} is too short to stay secret; {_REMEDY}")
    return course_of(int(text))


def _outside(path: Path | str, root: Path | str) -> Path:
    """Return the full path of a seed file, outside of the repository."""
    path, root = Path(path).expanduser().resolve(), Path(root).resolve()
    if path.is_relative_to(root):
        raise ValueError(f"the seed must lie outside the repository, which is public; move {path}")
    return path


_REMEDY = "`python3 run.py assignments --seed FILE` makes a new one where FILE is not there yet"


def student_id(text: str) -> str:
    """Return a student's id in its one form: NFKC, lower case, single spaces.

    Raises
    ------
    ValueError
        If it is empty, too long, or holds other signs than letters, digits and ``._-@+``.

    Examples
    --------
    >>> student_id("  Ada.Lovelace ")
    'ada.lovelace'
    """
    name = " ".join(unicodedata.normalize("NFKC", str(text)).lower().split())
    name = unicodedata.normalize("NFKC", name)
    fine = all(unicodedata.category(sign)[0] in "LMN" or sign in ID_SIGNS for sign in name)
    if not name or not fine or len(name) > LONGEST_ID or not name[0].isalnum():
        rule = f"1 to {LONGEST_ID} letters, digits, spaces or ._-@+, a letter or digit first"
        raise ValueError(f"a student id must be {rule}, got {text!r}")
    return name


def numbers(
    choices: Mapping[str, Sequence[Any]], *, salt: str, student: str, exercise: str
) -> dict[str, Any]:
    """Return a student's own choice of each number.

    Examples
    --------
    >>> numbers({"rho": (0.1, 0.2)}, salt="open", student="ada", exercise="ridge").keys()
    dict_keys(['rho'])
    """
    name = student_id(student) if choices else ""
    return {
        word: values[_draw([salt, name, exercise, word]) % len(values)]
        for word, values in choices.items()
    }


def _draw(name: list[str]) -> int:
    digest = hashlib.blake2b(json.dumps(name).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")
