"""Run a student's cells in a process of their own, and bring back what their functions return.

One process runs one exercise of one student. It gets the cells, the student's own parameters, and,
one at a time, the calls; it gets no expected value, no seed, no file of the repository. What it
writes back is data to be judged: numbers, text, lists and arrays, checked entry by entry. Whatever
else happens in there ends as one line in a `Reply`.

Two levels of isolation:

``namespaces``
    Linux with bubblewrap (``bwrap``). The process sees the interpreter, numpy, scipy and the
    system's libraries, all read-only, and no other file; it has no network, sees no other process,
    owns nothing, and ends with its parent. This is the level for strangers' code.
``limits``
    No bubblewrap. The process starts in an empty folder with limits on memory and time. On Linux
    from 5.13 on x86-64 or ARM the kernel refuses it, as in the other level, files outside the
    interpreter, sockets, processes, signals and writing. Where that is missing (older Linux,
    macOS), only a watch inside Python refuses them, and native code gets past a watch: numpy's
    ``as_strided`` reaches all memory of the process. There this level stops accidents and the
    tricks that students find, not a determined attacker, who could read and change whatever the
    instructor can; and macOS does not limit memory. In no case does this level hide the names of
    processes and of files. :func:`remark` says the part that holds here in one line.

Both levels protect the marks alike against forged replies: a forged reply is an answer like any
other, and it is compared with values that the process never had. Neither level can stop a process
from using its allowed seconds of one core, nor a bug in the kernel itself. Nothing can be written
anywhere, so an answer that saves a file fails. On Windows neither level works.
"""

import builtins
import contextlib
import functools
import json
import math
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iclkit.classroom.child import decode, encode
from iclkit.classroom.isolation import (
    Isolation,
    SandboxError,
    Way,
    compile_packages,
    folder_for,
    orders,
    process,
    ways,
)

__all__ = [
    "Call",
    "Isolation",
    "Limits",
    "Reply",
    "SandboxError",
    "problem",
    "remark",
    "run",
    "strongest",
]

START = 60.0  # seconds until the process must be ready: generous, since no student code runs yet
RESTARTS = 5  # of a process that ended in a call, for the calls after it
WAITING = 3  # times the limit, until a process that sleeps is ended
MOST_PARTS = 500_000  # numbers and lists in one reply outside of arrays


@dataclass(frozen=True)
class Call:
    """A function to call with arguments, or, without arguments, a variable to read."""

    name: str
    arguments: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Reply:
    """What a call brought: a value, or one line that tells the student why there is none."""

    value: Any = None
    problem: str = ""


@dataclass(frozen=True)
class Limits:
    """What one exercise may use: memory, size of replies, and seconds for all calls together.

    The seconds are those of the processor, so that a busy machine changes no mark. Who sleeps is
    ended after three times as many.
    """

    seconds: float = 20
    megabytes: int = 1024
    output_megabytes: int = 50


def run(
    cells: Sequence[str],
    calls: Sequence[Call],
    *,
    given: Mapping[str, Any],
    uses: Sequence[str],
    limits: Limits = Limits(),
    isolation: Isolation,
) -> list[Reply]:
    r"""Return one reply per call, in order, whatever the cells do.

    Parameters
    ----------
    cells : sequence of str
        Sources that run in turn in one namespace; the student's is the last one.
    calls : sequence of Call
        They reach the process one at a time, each after the reply to the one before.
    given : mapping
        Variables that the cells find: the student's own parameters.
    uses : sequence of str
        Modules of ``iclkit`` that the cells may import; the others do not exist there.
    limits : Limits
    isolation : Isolation

    Returns
    -------
    list of Reply
        A call that hangs or ends the process keeps the replies before it. After a call that ended
        the process, the calls that follow get a new one, a few times.

    Raises
    ------
    SandboxError
        If the sandbox itself does not start.

    Examples
    --------
    >>> cell = "def half(x):\n    return x / 2"
    >>> calls = [Call("half", (3.0,)), Call("half", ("a",))]
    >>> for reply in run([cell], calls, given={}, uses=[], isolation=strongest()):
    ...     print(reply)
    Reply(value=1.5, problem='')
    Reply(value=None, problem='`half` raises TypeError in line 2: `return x / 2`')
    """
    if not calls:
        return []
    with folder_for(uses) as folder:
        task = {"cells": list(cells), "given": encode(dict(given))}
        return _run(task, calls, _Budget(limits), _working(isolation), folder)


def strongest() -> Isolation:
    """Return the strongest level that works here; SandboxError with one line where none does."""
    problems = {level: problem(level) for level in Isolation}
    for level, why in problems.items():
        if not why:
            return level
    raise SandboxError("; ".join(f"{level}: {why}" for level, why in problems.items()))


def problem(isolation: Isolation) -> str:
    """Return why a level does not work here, or "" where it does: it is tried, once."""
    way = way_of(isolation)
    return way if isinstance(way, str) else ""


def remark(isolation: Isolation) -> str:
    """Return one line to print before grading at this level, or "" if it holds strangers' code."""
    if isolation is Isolation.NAMESPACES:
        return ""
    if _working(isolation).paths:
        return "without bubblewrap (bwrap), answers can see which files and processes exist"
    return (
        "without bubblewrap (bwrap), only a watch inside Python guards this machine's files: "
        "grade code of people you trust, or on Linux with bwrap"
    )


# ------------------------------------------------------------------ talking to the process


class _Gone(Exception):  # noqa: N818  (not an error of the program)
    """No further reply will come; the text says why."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final  # a new process would bring no more


class _Budget:
    """What is left of the limits, over all processes of one run."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.seconds = float(WAITING * limits.seconds)
        self.started = math.inf
        self.bytes = limits.output_megabytes << 20

    def read(self, count: int) -> None:
        self.bytes -= count
        if self.bytes < 0:
            megabytes = self.limits.output_megabytes
            raise _Gone(f"your answer returns more than {megabytes} MB", final=True)

    @contextlib.contextmanager
    def clock(self) -> Iterator[float]:
        """Give the time until which the process may go on, and take what it needed."""
        self.started = time.monotonic()
        yield self.started + self.seconds
        self.seconds -= time.monotonic() - self.started

    def end(self) -> _Gone:
        """Return why a process ended: before its seconds can be over, it was its own doing."""
        if time.monotonic() - self.started < self.limits.seconds:
            return _Gone("the Python process that runs your answer ends")
        return self.over()

    def over(self) -> _Gone:
        """Return that the time is over."""
        return _Gone(f"your answer does not finish within {self.limits.seconds:g} s", final=True)


class _Channel:
    """Lines to a process and back; the process may do with its ends whatever it likes."""

    def __init__(self, child: subprocess.Popen[bytes], budget: _Budget) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self._write, self._read = child.stdin.fileno(), child.stdout.fileno()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)
        self._budget = budget
        self._heard = bytearray()

    def ask(self, question: Mapping[str, Any] | None, until: float) -> dict[str, Any]:
        """Send a question, if any, and return the next line that comes, as a dict."""
        rest = memoryview(b"" if question is None else json.dumps(question).encode() + b"\n")
        searched, end = 0, -1
        while end < 0:
            if not rest:
                end = self._heard.find(b"\n", searched)
                searched = len(self._heard)
            if end < 0:
                rest = self._exchange(rest, until)
        line = bytes(self._heard[:end])
        del self._heard[: end + 1]
        return _parsed(line)

    def _exchange(self, rest: memoryview, until: float) -> memoryview:
        """Wait for one side to be ready; return what is still to be sent."""
        left = until - time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._read, selectors.EVENT_READ)
            if rest:
                selector.register(self._write, selectors.EVENT_WRITE)
            ready = {key.fd for key, _ in selector.select(left)} if left > 0 else set()
        if not ready:
            raise self._budget.over()
        if self._read in ready:
            self._hear()
        return rest[self._send(rest) :] if self._write in ready else rest

    def _hear(self) -> None:
        piece = os.read(self._read, 1 << 20)
        if not piece:
            raise self._budget.end()
        self._budget.read(len(piece))
        self._heard += piece

    def _send(self, rest: memoryview) -> int:
        try:
            return os.write(self._write, rest)
        except BrokenPipeError:  # the reason follows from what can still be read
            return len(rest)


def _parsed(line: bytes) -> dict[str, Any]:
    """Return the dict of one line; an empty one if it is not from an honest process."""
    if sum(map(line.count, (b",", b"[", b"{"))) > MOST_PARTS:
        return {"large": True}
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError, MemoryError):
        return {}
    if not isinstance(reply, dict):
        return {}
    if "refused" in reply:
        raise _Gone(REFUSED.get(str(reply["refused"]), REFUSED["machinery"]))
    return reply


REFUSED = {
    "files": "your answer opens, changes or lists files; in grading there are none",
    "network": "your answer uses the network; in grading there is none",
    "processes": "your answer starts or signals a process; in grading it may not",
    "machinery": "your answer reaches into Python's machinery; in grading it may not",
}


def _run(
    task: dict[str, Any], calls: Sequence[Call], budget: _Budget, way: Way, folder: Path
) -> list[Reply]:
    """Return the replies to all calls, from a new process where one ended."""
    replies: list[Reply] = []
    for _ in range(1 + RESTARTS):
        if len(replies) == len(calls):
            break
        session, final = _session(task, calls[len(replies) :], budget, way, folder)
        replies += session
        if final:
            break
    return replies + replies[-1:] * (len(calls) - len(replies))


def _session(
    task: dict[str, Any], calls: Sequence[Call], budget: _Budget, way: Way, folder: Path
) -> tuple[list[Reply], bool]:
    """Return the replies of one process, and whether a new one would bring no more."""
    replies: list[Reply] = []
    with process(way, folder) as child:
        channel = _Channel(child, budget)
        limits = budget.limits
        told = orders(way, folder, seconds=limits.seconds, megabytes=limits.megabytes)
        _start(channel, task | told, child)
        with budget.clock() as until:
            try:
                trouble = _cells_trouble(channel.ask(None, until), task["cells"], budget.limits)
            except _Gone as gone:
                return [Reply(problem=str(gone))], True
            for call in calls:
                try:
                    reply = channel.ask(_coded(call), until)
                except _Gone as gone:
                    return [*replies, Reply(problem=str(gone))], gone.final
                replies.append(_judged(reply, call, trouble, task["cells"], budget.limits))
    return replies, False


def _start(channel: _Channel, task: Mapping[str, Any], child: subprocess.Popen[bytes]) -> None:
    """Hand over the task; until the process says that it is ready, it runs only our own code."""
    said = ""
    try:
        reply = channel.ask(task, time.monotonic() + START)
        if reply == {"ready": True}:
            return
        said = str(reply.get("broken"))
    except _Gone:
        child.kill()
        assert child.stderr is not None
        said = _one_line(child.stderr.read(4000).decode(errors="replace")[-200:])
    raise SandboxError("the sandbox does not start: " + (said or "no reason given"))


def _coded(call: Call) -> dict[str, Any]:
    return {"name": call.name, "arguments": encode_arguments(call.arguments)}


def encode_arguments(arguments: tuple[Any, ...] | None) -> Any:
    """Return the arguments of a call in terms of JSON."""
    return None if arguments is None else encode(list(arguments))


# ------------------------------------------------------------------ what the student is told

KNOWN = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
) | {"LinAlgError", "AxisError", "ArpackNoConvergence"}
KINDS = {  # of values, by the names of their types; other names are the student's own
    "set": "a set",
    "function": "a function",
    "generator": "a generator",
    "complex": "a complex number",
    "complex numbers": "complex numbers",
    "array of objects": "an array of objects",
    "array of text": "an array of text",
    "deep": "lists nested too deeply",
}
NOTHING = "nothing (None)"
FIT = "numbers, text, lists and arrays can be graded"


def _cells_trouble(reply: Mapping[str, Any], cells: Sequence[str], limits: Limits) -> str:
    """Return what stopped a cell, in one line, or ""; no hidden input is in the process yet."""
    error = reply.get("cells")
    if not isinstance(error, dict):
        return ""
    where, cell, _ = _where(error, cells)
    if error.get("type") == "MemoryError":
        return f"your answer needs more than {limits.megabytes} MB of memory"
    owner = "the setup" if 0 <= cell < len(cells) - 1 else "your cell"
    message = _one_line(error.get("message", ""))
    if error.get("type") == "ModuleNotFoundError":
        message += "; in grading there are only Python's own modules, numpy and scipy"
    return f"{owner} raises {_known(error)}{where}" + (f": {message}" if message else "")


def _judged(
    reply: Mapping[str, Any], call: Call, trouble: str, cells: Sequence[str], limits: Limits
) -> Reply:
    """Return what one line from the process says, its value checked entry by entry."""
    if "value" in reply:
        try:
            value = decode(reply["value"])
        except OverflowError:
            return Reply(problem=_returned(call, "an integer of more than 64 bits"))
        except Exception:  # whatever was forged
            return Reply(problem="what your answer returns cannot be read")
        unfit = _unfit(value)
        return Reply(problem=_returned(call, unfit)) if unfit else Reply(value)
    return Reply(problem=_excuse(reply, call, trouble, cells, limits))


def _excuse(
    reply: Mapping[str, Any], call: Call, trouble: str, cells: Sequence[str], limits: Limits
) -> str:
    """Return why there is no value, in our own words: the process knows hidden inputs by now."""
    if "missing" in reply:
        return trouble or f"`{call.name}` is not defined"
    if "unfit" in reply:
        return _returned(call, KINDS.get(str(reply["unfit"]), "an object"))
    if "large" in reply:
        return _returned(call, "very long lists", "return arrays")
    error = reply.get("error")
    if not isinstance(error, dict):
        return "what your answer returns cannot be read"
    if error.get("type") == "MemoryError":
        return f"`{call.name}` needs more than {limits.megabytes} MB of memory"
    where, _, source = _where(error, cells)
    return f"`{call.name}` raises {_known(error)}{where}" + (f": `{source}`" if source else "")


def _returned(call: Call, what: str, advice: str = FIT) -> str:
    if call.arguments is None:
        return f"`{call.name}` is {what}; {advice}"
    if what == NOTHING:
        advice = "is a `return` missing?"
    return f"`{call.name}` returns {what}; {advice}"


def _unfit(value: Any) -> str:
    """Return what is not gradable in a decoded value, in words, or ""."""
    if value is None:
        return NOTHING
    if isinstance(value, dict):
        return "a dict"
    if isinstance(value, list | tuple):
        return next(filter(None, map(_unfit, value)), "")
    return ""


def _known(error: Mapping[str, Any]) -> str:
    name = error.get("type")
    return name if isinstance(name, str) and name in KNOWN else "an exception"


def _where(error: Mapping[str, Any], cells: Sequence[str]) -> tuple[str, int, str]:
    """Return " in line 4", the number of the cell, and the text of that line."""
    cell, line = error.get("cell"), error.get("line")
    if type(cell) is not int or type(line) is not int or not 0 <= cell < len(cells):
        return "", -1, ""
    lines = cells[cell].split("\n")
    if not 1 <= line <= len(lines):
        return "", cell, ""
    return f" in line {line}", cell, _one_line(lines[line - 1])


def _one_line(text: Any, most: int = 120) -> str:
    """Return text as one printable line of bounded length."""
    words = " ".join(str(text)[: 10 * most].split())
    plain = "".join(c if c.isprintable() else "?" for c in words)
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def _working(isolation: Isolation) -> Way:
    """Return the way that works; SandboxError with one line where none does."""
    way = way_of(Isolation(isolation))
    if isinstance(way, str):
        raise SandboxError(f"isolation by {isolation} does not work here: {way}")
    return way


@functools.cache
def way_of(isolation: Isolation) -> Way | str:
    """Return the first way that works when tried, or why none does."""
    if os.name != "posix":
        return "needs Linux or macOS (on Windows: the Linux subsystem)"
    if isolation is Isolation.NAMESPACES and not shutil.which("bwrap"):
        return "bubblewrap (bwrap) is not installed"
    compile_packages()
    why = ""
    for way in ways(isolation):
        why = _failure(way)
        if not why:
            return way
    return why


def _failure(way: Way) -> str:
    """Try a way; return what goes wrong, or ""."""
    task = {"cells": [TRIAL], "given": encode({"x": 2.0})}
    try:
        with folder_for(()) as folder:
            reply = _run(task, [Call("double", (3.0,))], _Budget(Limits()), way, folder)[0]
    except (SandboxError, OSError) as error:
        return str(error)
    return "" if reply.value == 6 else f"a trial failed: {reply.problem}"


TRIAL = """
import numpy as np
import scipy
def double(y):
    return float(np.array([x]) @ np.array([y]))
"""
