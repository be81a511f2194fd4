"""One build at a time in a checkout: a lock that the system frees however its holder ends."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: two builds at once must be avoided by hand
    fcntl = None  # type: ignore[assignment]  # asked for before each use

__all__ = ["BusyError", "alone"]

NOT_FOR_US = (errno.EROFS, errno.EACCES, errno.EPERM)  # nothing here may be written


class BusyError(RuntimeError):
    """Another process builds in this checkout; the message names it."""


@contextlib.contextmanager
def alone(root: Path, name: str = "lock") -> Iterator[None]:
    """Let no other process build in a checkout meanwhile.

    Parameters
    ----------
    root : Path
        The repository. The lock is a file in ``_build``; it may stay, only a living holder counts.
    name : str
        Of the file, for what can be built beside the rest.

    Raises
    ------
    BusyError
        If another process builds.
    OSError
        If something else than a file has the lock's name.

    Notes
    -----
    Where nothing can be written, as in a read-only checkout, nothing needs a lock: what is in the
    cache can be read, and the first thing to be written ends with a line of its own. There is no
    lock on Windows and on disks that know none.
    """
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            hold(root / "_build" / name, stack)
        yield


def hold(place: Path, stack: contextlib.ExitStack) -> None:
    """Lock a file until the stack is left; a file that `clean` deleted meanwhile does not count."""
    while True:
        file = opened(place)
        if file is None:
            return
        stack.enter_context(file)
        take(file)
        if is_there(place, file):
            sign(file)
            return


def opened(place: Path) -> IO[str] | None:
    """Return the lock's file, opened for writing or else for reading, or None without one."""
    if place.is_fifo():  # to open it would wait for ever
        raise OSError(errno.EISDIR, "Is a pipe", str(place))
    try:
        place.parent.mkdir(exist_ok=True)
        return place.open("a+", encoding="utf-8")
    except OSError as error:
        if error.errno not in NOT_FOR_US:
            raise
    try:
        return place.open(encoding="utf-8")
    except OSError:
        return None


def take(file: IO[str]) -> None:
    """Lock an open file, or raise BusyError with the words that its holder left in it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(200).strip() or "another process"
        line = f"{holder} builds in this checkout; wait until it ends, or end it"
        raise BusyError(line) from error
    except OSError:  # a disk that knows no locks
        return


def is_there(place: Path, file: IO[str]) -> bool:
    """Return whether the path still names the open file."""
    try:
        return os.path.samestat(place.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def sign(file: IO[str]) -> None:
    """Write into the lock who holds it; a full disk does not matter."""
    words = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:150]
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(f"process {os.getpid()} ({words})")
        file.flush()
