"""What a child process gives up before it runs a stranger's cells. Standard library only.

Four layers, each for what the others leave open; what a system lacks is skipped, and the levels of
:mod:`iclkit.classroom.sandbox` say what then remains.

- *Limits of the system*: memory, processor time, processes, open files, size of files.
- *Closed paths* (Landlock, Linux from 5.13): files outside a list cannot be opened by any means.
- *Closed calls* (seccomp, Linux on x86-64 and ARM): the kernel refuses all but some seventy calls;
  no sockets, no new processes or threads, no signals, no opening for writing.
- *A watch* (Python's audit hook): a refused operation ends the process with a line that says why.
  Native code gets past a watch; it is the layer that speaks, and the only one on macOS.
"""

import contextlib
import ctypes
import os
import signal
import struct
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["close_calls", "close_paths", "follow_parent", "limit", "take_user", "watch"]

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _kernel(number: int, *arguments: Any) -> int:
    """Call the kernel; OSError says what it refuses."""
    result = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), zero, zero, zero):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def limit(seconds: int, size: int) -> None:
    """Limit processor time in seconds and memory in bytes; no files, no further processes."""
    import resource

    wanted = {
        "RLIMIT_CPU": seconds,
        "RLIMIT_AS": size,
        "RLIMIT_NPROC": 0,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_STACK": 8 << 20,
        "RLIMIT_MSGQUEUE": 0,
    }
    for name, most in wanted.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):  # macOS knows not all
            resource.setrlimit(getattr(resource, name), (most, most))


def take_user(user: int) -> None:
    """Become the user with number `user`, who owns nothing. Only root may."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def follow_parent(parent: int) -> None:
    """End this process when its parent ends, however that happens. Linux."""
    _prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != parent:
        os._exit(1)


# ------------------------------------------------------------------ closed paths

_READ_FILE, _READ_DIR = 4, 8
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # by version: how many rights over files it handles


def close_paths(readable: Iterable[str], listed: Iterable[str]) -> None:
    """Close all files but those at and below `readable`, which stay open for reading. Linux.

    Of folders that are `listed`, the names of the entries can be read, too.
    """
    version = _kernel(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    network, scope = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    parts = [rights, network, scope][: 1 + (version >= 4) + (version >= 6)]
    asked = struct.pack(f"{len(parts)}Q", *parts)
    ruleset = _kernel(444, asked, ctypes.c_size_t(len(asked)), ctypes.c_uint32(0))
    for path in readable:
        _open_path(ruleset, path, _READ_FILE | _READ_DIR)
    for path in listed:
        _open_path(ruleset, path, _READ_DIR)
    _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    _kernel(446, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _open_path(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # what cannot be reached stays closed
        return
    if not os.path.isdir(path):  # noqa: PTH112  (fast start)
        rights &= _READ_FILE
    rule = struct.pack("=Qi", rights, place)
    _kernel(445, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
    os.close(place)


# ------------------------------------------------------------------ closed calls

# number of each call on x86-64 and on 64-bit ARM (-1: has none)
_CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, -1), "fstat": (5, 80),
    "lstat": (6, -1), "poll": (7, -1), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66),
    "access": (21, -1), "select": (23, -1), "sched_yield": (24, 124), "mremap": (25, 216),
    "madvise": (28, 233), "dup": (32, 23), "dup2": (33, -1), "nanosleep": (35, 101),
    "getitimer": (36, 102), "alarm": (37, -1), "setitimer": (38, 103), "getpid": (39, 172),
    "exit": (60, 93), "uname": (63, 160), "getdents": (78, -1),
    "getcwd": (79, 17), "readlink": (89, -1), "gettimeofday": (96, 169), "getrusage": (98, 165),
    "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176),
    "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173), "getgroups": (115, 158),
    "sigaltstack": (131, 132), "arch_prctl": (158, -1), "gettid": (186, 178), "time": (201, -1),
    "futex": (202, 98), "sched_getaffinity": (204, 123), "getdents64": (217, 61),
    "set_tid_address": (218, 96), "restart_syscall": (219, 128), "fadvise64": (221, 223),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "exit_group": (231, 94), "newfstatat": (262, 79), "readlinkat": (267, 78),
    "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99),
    "dup3": (292, 24), "getcpu": (309, 168), "getrandom": (318, 278), "membarrier": (324, 283),
    "statx": (332, 291), "rseq": (334, 293), "faccessat2": (439, 439),
}  # fmt: skip
_OPEN, _OPENAT, _PRLIMIT, _FCNTL = (2, -1), (257, 56), (302, 261), (72, 25)
_COMMANDS = (0, 1, 2, 3, 1030)  # of fcntl: copy, and read flags; others signal other processes
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # the second one answers EPERM


def close_calls() -> None:
    """Leave this process the calls of `_CALLS`, opening for reading, and reading its limits."""
    code = _filter(*_MACHINES[os.uname().machine])
    data = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(data))
    _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    number = (317, 277)[_MACHINES[os.uname().machine][0]]
    _kernel(number, ctypes.c_uint(1), ctypes.c_uint(0), program)


def _filter(column: int, machine: int) -> bytes:
    """Return the program that the kernel runs at each call: what is not listed is refused."""
    load, equal, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    steps = [(load, 0, 0, 4), (equal, 1, 0, machine), (answer, 0, 0, _REFUSE), (load, 0, 0, 0)]
    for call, argument in ((_OPEN, 1), (_OPENAT, 2)):
        if call[column] >= 0:  # opening: allowed unless its flags ask for writing
            steps += [(equal, 0, 4, call[column]), (load, 0, 0, 16 + 8 * argument)]
            steps += [(any_bit, 0, 1, WRITING), (answer, 0, 0, _REFUSE), (answer, 0, 0, _ALLOW)]
    steps += [(equal, 0, 5, _PRLIMIT[column])]  # limits: allowed without new ones
    steps += [(load, 0, 0, 32), (equal, 0, 2, 0), (load, 0, 0, 36), (equal, 1, 0, 0)]
    steps += [(answer, 0, 0, _REFUSE), (load, 0, 0, 0), (equal, 0, 1, _PRLIMIT[column])]
    steps += [(answer, 0, 0, _ALLOW)]
    n = len(_COMMANDS)
    steps += [(equal, 0, n + 3, _FCNTL[column]), (load, 0, 0, 24)]
    steps += [(equal, n - k, 0, command) for k, command in enumerate(_COMMANDS)]
    steps += [(answer, 0, 0, _REFUSE), (answer, 0, 0, _ALLOW)]
    for numbers in _CALLS.values():
        if numbers[column] >= 0:
            steps += [(equal, 0, 1, numbers[column]), (answer, 0, 0, _ALLOW)]
    steps += [(answer, 0, 0, _REFUSE)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


# ------------------------------------------------------------------ the watch

# Events whose names begin so, and what the answer tries there. The first line that fits decides.
_EVENTS = (
    (("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.putenv", "os.unsetenv"), ""),
    (("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill"), "processes"),
    (("subprocess.", "pty.", "signal.pthread_kill", "os.startfile"), "processes"),
    (("socket.", "syslog.", "urllib.", "ftplib.", "smtplib.", "http."), "network"),
    (("os.", "shutil.", "tempfile.", "sqlite3.", "fcntl.", "dbm."), "files"),
    (("sys.addaudithook", "cpython.PyInterpreterState_New", "resource."), "machinery"),
    (("gc.get_objects", "gc.get_referrers", "setopencodehook"), "machinery"),
    (("ctypes.",), "machinery"),
)
# Modules that open files or start processes without an event.
_NAMES = """readline _dbm _gdbm _sqlite3 _curses _tkinter spwd nis crypt _posixsubprocess
_posixshmem _xxsubinterpreters _interpreters _testcapi _testinternalcapi _testmultiphase
_testsinglephase _ctypes_test"""
_UNWATCHED = frozenset(_NAMES.split())
# Functions that do harm without an event; Python keeps others, see `sandbox` on what this holds.
_SILENT = ("mkfifo", "mknod", "memfd_create", "pidfd_open", "pidfd_send_signal", "setpriority")


def watch(roots: Sequence[str], files: Sequence[str], answers: int) -> None:
    """End the process at the first operation that an answer has no business with.

    The descriptor `answers` is told which kind it was. Only `files` and what lies below `roots` can
    be opened, for reading.
    """
    processes = types.ModuleType("_posixsubprocess")
    processes.fork_exec = None  # type: ignore[attr-defined]  # scipy imports subprocess: let it
    sys.modules["_posixsubprocess"] = processes
    for name in _SILENT:
        for module in (os, sys.modules["posix"], signal, sys.modules["_signal"]):
            vars(module).pop(name, None)
    below = tuple(os.path.join(root, "") for root in roots)  # noqa: PTH118  (fast start)
    sys.addaudithook(_hook(below, frozenset(["", ".", *roots, *files]), answers))


def _hook(below: tuple[str, ...], exact: frozenset[str], answers: int) -> Callable[..., None]:  # noqa: C901
    """Return the hook.

    It never raises by intention, since whoever catches an exception gets the frames that it passed.
    Even so, and although the answer shares its builtins, nothing there can be changed: all that the
    hook needs is an immutable default, and it calls no function of Python.
    """

    def hook(  # noqa: C901  (one piece by intention)
        event: str,
        arguments: tuple[Any, ...],
        *,
        below: tuple[str, ...] = below,
        exact: frozenset[str] = exact,
        answers: int = answers,
        events: tuple[tuple[tuple[str, ...], str], ...] = _EVENTS,
        unwatched: frozenset[str] = _UNWATCHED,
        writing: int = WRITING,
        of: Callable[[Any], type] = type,
        text: type[str] = str,
        whole: type[int] = int,
        begins: Callable[..., bool] = str.startswith,
        parts: Callable[..., tuple[str, ...]] = str.rpartition,
        write: Callable[[int, bytes], int] = os.write,
        leave: Callable[[int], Any] = os._exit,
    ) -> None:
        refused, path = "", None
        if event == "open":
            path, _, flags = arguments
            if of(flags) is whole and flags & writing:
                refused = "files"
        elif event == "import":
            name = arguments[0]
            if of(name) is not text or parts(name, ".")[2] in unwatched:
                refused = "machinery"
        elif event == "ctypes.dlopen" and arguments[0] is None:  # scipy's imports do it
            pass
        else:
            for names, kind in events:
                if begins(event, names):
                    refused = kind
                    break
            if event in ("os.listdir", "os.scandir", "os.walk", "os.fwalk"):
                path = arguments[0]
        if path is not None and of(path) is not whole and path not in exact:
            if of(path) is not text or "/../" in "/" + path + "/":
                refused = "files"
            if not refused and begins(path, "/") and not begins(path, below):
                refused = "files"  # one without leading / lies in the own folder
        if refused:
            write(answers, b'{"refused": "' + text.encode(refused) + b'"}\n')
            leave(3)

    return hook
