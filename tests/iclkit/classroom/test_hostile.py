"""Answers that attack the grader get no marks, learn nothing, and leave nothing behind."""

import contextlib
import os
import re
import signal
import socket
import sys
import textwrap
import threading
import time
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from iclkit.classroom import confine, isolation, sandbox
from iclkit.classroom.isolation import Isolation, Way
from iclkit.classroom.sandbox import Call, Limits, run
from tests.iclkit.classroom import hostile

SMALL = Limits(seconds=0.5, megabytes=200, output_megabytes=50)
SHORT = Limits(seconds=2, megabytes=200)
ENOUGH = Limits(seconds=60, megabytes=200, output_megabytes=50)
SECRET = "KEY = 'the-seed-is-271828'\n"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs Linux or macOS")
ASKED = (1.5, 2.0)  # 3.0 and 4.0 would be right


# Each level, and alone what the kernel and what the watch inside Python hold of it.
LAYERS = (
    "namespaces",
    "limits",
    "namespaces without watch",
    "limits without watch",
    "watch alone",
)


@pytest.fixture(params=LAYERS)
def layer(request, monkeypatch):
    """The level at which attacks run; one that does not work here is skipped with the reason."""
    level = Isolation.NAMESPACES if "namespaces" in request.param else Isolation.LIMITS
    way = sandbox.way_of(level)
    if isinstance(way, str):
        pytest.skip(f"{level}: {way}")
    if "without" in request.param and not (way.kernel and way.paths):
        pytest.skip("this kernel cannot refuse files and calls")
    if request.param == "watch alone":
        way = Way(Isolation.LIMITS, way.user, kernel=False)
    if "without" in request.param:
        monkeypatch.setattr(sandbox, "folder_for", blind)
    monkeypatch.setattr(sandbox, "way_of", lambda _: way)
    return request.param


@contextlib.contextmanager
def blind(uses):
    """The child's folder, with a watch that sees nothing."""
    with isolation.folder_for(uses) as folder:
        with (folder / "iclkit" / "classroom" / "confine.py").open("a") as file:
            file.write("\n\ndef watch(*_):\n    pass\n")
        yield folder


@pytest.fixture
def world(tmp_path, root, monkeypatch):
    """What an attack is after: a secret, a folder, a port, the parent; what it did is known."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "kept").write_text("kept")
    secret = tmp_path / "secret_key.py"
    secret.write_text(SECRET)
    monkeypatch.setenv("SECRET_OF_THE_PARENT", SECRET)
    heard = []
    monkeypatch.setitem(isolation.ENVIRONMENT, "MARK", str(tmp_path))
    before = signal.signal(signal.SIGURG, lambda *_: heard.append("signal"))
    with listening(heard) as port:
        yield World(scratch, secret, root, port, heard)
    signal.signal(signal.SIGURG, before)


class World(NamedTuple):
    scratch: Path
    secret: Path
    library: Path
    port: int
    heard: list

    def place(self, text):
        names = {
            "SCRATCHNAME": f"harm-{os.getpid()}",
            "SCRATCH": str(self.scratch),
            "SECRET": str(self.secret),
            "LIBRARY": str(self.library),
            "PORT": str(self.port),
        }
        return re.sub("|".join(names), lambda found: names[found[0]], text)


@contextlib.contextmanager
def listening(heard):
    """A port of the loopback interface, TCP and UDP; who comes is noted."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as packets:
        stream.bind(("127.0.0.1", 0))
        packets.bind(stream.getsockname())
        stream.listen()
        ends = threading.Event()
        takes = lambda: stream.accept()[0].close(), lambda: packets.recv(9)
        for each, take in zip((stream, packets), takes, strict=True):
            each.settimeout(0.05)
            threading.Thread(target=note, args=(take, heard, ends), daemon=True).start()
        yield stream.getsockname()[1]
        ends.set()
        time.sleep(0.06)


def note(take, heard, ends):
    while not ends.is_set():
        with contextlib.suppress(TimeoutError, OSError):
            take()
            heard.append("network")


def attack(cell, world, *, calls=("double", "double"), limits=SMALL):
    """The replies to an attack, after which the world is as before."""
    asked = [Call(name, (number,)) for name, number in zip(calls, cycle(ASKED), strict=False)]
    source = world.place(textwrap.dedent(cell))
    level = Isolation.LIMITS  # the fixture `layer` decides
    replies = run([source], asked, given={}, uses=[], limits=limits, isolation=level)
    assert len(replies) == len(asked)
    assert tree(world.scratch) == {"kept": "kept"}
    assert world.secret.read_text() == SECRET
    assert not Path(f"/tmp/harm-{os.getpid()}").exists()
    assert not Path(f"/dev/shm/harm-{os.getpid()}").exists()
    assert left_behind(world) == []
    assert world.heard == []
    for reply in replies:
        assert "271828" not in repr(reply)
        assert "\n" not in reply.problem
        assert len(reply.problem) < 300
    return replies


def tree(folder):
    return {file.name: file.read_text() if file.is_file() else "" for file in folder.iterdir()}


def left_behind(world, patience=2.0):
    """Processes of an attack that are still there after a moment."""
    until = time.monotonic() + patience
    while (found := processes_of(world)) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def processes_of(world):
    mark = f"MARK={world.scratch.parent}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append((place / "cmdline").read_bytes())
    return found


def wins_nothing(replies):
    """No reply is right: each says what is wrong, or is plain data that differs."""
    for reply, number in zip(replies, ASKED, strict=True):
        assert type(reply.value) in (type(None), bool, int, float, str, list, np.ndarray, *SCALARS)
        assert reply.problem or not np.array_equal(reply.value, 2 * number)


SCALARS = (np.float64, np.int64, np.bool_)


# ------------------------------------------------------------------ what comes back


@pytest.mark.parametrize("layer", ["limits"], indirect=True)
@pytest.mark.parametrize("name", hostile.PRETENDING)
def test_pretending_wins_nothing(name, layer, world):
    wins_nothing(attack(hostile.PRETENDING[name], world))


@pytest.mark.parametrize("layer", ["limits"], indirect=True)
@pytest.mark.parametrize("name", hostile.FRAMES)
def test_forged_frames_are_answers_like_any_other(name, layer, world):
    replies = attack(hostile.forged(hostile.FRAMES[name]), world)
    if name == "right answers":  # the second one is right: nobody can forbid to guess
        assert replies == [sandbox.Reply(4.0), sandbox.Reply(4.0)]
        return
    wins_nothing(replies)
    assert not any(sign in reply.problem for reply in replies for sign in ("<", "hello"))


@pytest.mark.parametrize("layer", ["namespaces", "limits"], indirect=True)
@pytest.mark.parametrize("name", hostile.ENDING)
def test_ends_are_told(name, layer, world):
    assert all(reply.problem for reply in attack(hostile.ENDING[name], world, limits=SHORT))


@pytest.mark.parametrize("layer", ["namespaces", "limits"], indirect=True)
@pytest.mark.parametrize("name", hostile.ENDLESS)
def test_time_is_bounded(name, layer, world):
    start = time.monotonic()
    replies = attack(hostile.ENDLESS[name], world, limits=SMALL)
    assert time.monotonic() - start < SMALL.seconds + sandbox.START
    assert {reply.problem for reply in replies} == {"your answer does not finish within 0.5 s"}


@pytest.mark.parametrize("layer", ["namespaces", "limits"], indirect=True)
@pytest.mark.parametrize("name", hostile.LARGE)
def test_size_is_bounded(name, layer, world):
    replies = attack(hostile.LARGE[name], world, limits=ENOUGH)
    wins_nothing(replies)
    said = hostile.SAID[name]
    assert all(said in reply.problem for reply in replies)


# ------------------------------------------------------------------ what is reached


def reached(actions, world, monkeypatch, **found):
    """Those actions that came to something, with what they brought."""
    monkeypatch.setattr(sandbox, "RESTARTS", len(actions))  # a refusal ends the process
    calls = [f"action_{number}" for number in range(len(actions))]
    replies = attack(hostile.cell_of(actions, **found), world, calls=calls, limits=ENOUGH)
    assert not any("does not finish" in reply.problem for reply in replies)
    pairs = zip(actions, replies, strict=True)
    return {name: r for name, r in pairs if not r.problem and r.value not in (-1.0, "")}


@pytest.mark.parametrize("group", ["PROCESSES", "WRITING", "NETWORK", "READING"])
def test_nothing_is_reached(group, layer, world, monkeypatch):
    actions = getattr(hostile, group)
    if layer in (
        "namespaces",
        "limits",
    ):  # both layers together: a sample shows that both are there
        actions = dict(list(actions.items())[::5])
    done = {"otherwise": "done"} if group in ("PROCESSES", "WRITING") else {}
    assert reached(actions, world, monkeypatch, **done) == {}


REAL = [
    ("READING", "open"),
    ("READING", "map of numpy"),
    ("READING", "library by import"),
    ("WRITING", "remove"),
    ("WRITING", "link"),
    ("NETWORK", "connect"),
    ("PROCESSES", "kill the parent"),
    ("PROCESSES", "handle of the parent"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="some of these need Linux")
@pytest.mark.parametrize(("group", "name"), REAL)
def test_the_attacks_are_real(group, name, world, monkeypatch):
    """With neither watch nor kernel they reach what they are after, and this is noticed."""
    monkeypatch.setattr(sandbox, "way_of", lambda level: Way(level, kernel=False))
    monkeypatch.setattr(sandbox, "folder_for", blind)
    reach = {name: getattr(hostile, group)[name]}
    if name == "library by import":
        reach = {name: f"sys.path.insert(0, 'LIBRARY'); del sys.modules['iclkit']; {reach[name]}"}
    with pytest.raises(AssertionError):
        assert reached(reach, world, monkeypatch) == {}


@pytest.mark.parametrize("layer", LAYERS[2:], indirect=True)
@pytest.mark.parametrize("name", hostile.MACHINERY)
def test_nothing_is_reached_around_the_watch(name, layer, world):
    cell = hostile.cell_of({name: hostile.MACHINERY[name]})
    (reply,) = attack(cell, world, calls=["action_0"], limits=SHORT)
    assert reply.problem or reply.value in (-1.0, "")


WITHOUT = ["namespaces without watch", "limits without watch"]


@pytest.mark.parametrize("layer", WITHOUT, indirect=True)
def test_native_code_reaches_nothing(layer, world, monkeypatch):
    assert reached(hostile.native(hostile.NATIVE), world, monkeypatch) == {}


PARTLY = confine._OPEN, confine._OPENAT, confine._PRLIMIT, confine._FCNTL


@pytest.mark.parametrize("layer", WITHOUT, indirect=True)
def test_the_kernel_refuses_every_call_that_is_not_listed(layer, world):
    column = confine._MACHINES[os.uname().machine][0]
    listed = {numbers[column] for numbers in confine._CALLS.values()}
    listed |= {call[column] for call in PARTLY}
    if column == 0:
        listed |= {335, 336}  # the kernel itself ends a process that calls these two
    cell = f"""
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        calls = [*range(600), *range(1 << 30, (1 << 30) + 600)]
        def refused(number):
            ctypes.set_errno(0)
            return libc.syscall(number, *[0] * 6) == -1 and ctypes.get_errno() in (1, 38)
        def double(x):
            return [n for n in calls if n not in {sorted(listed)} and not refused(n)]
        """
    replies = attack(cell, world, limits=ENOUGH)
    assert replies == [sandbox.Reply([]), sandbox.Reply([])]


def test_the_hidden_inputs_are_not_told_by_what_is_raised(world):
    """An exception's own words, names and types could carry an input to the student's feedback."""
    cell = """
        def double(x):
            raise type(f"Secret{x}", (ValueError,), {})(f"the input is {x}")
        def kind(x):
            return type(f"Secret{x}", (), {})()
        def place(x):
            exec(compile("1/0", "<cell 0>", "exec"))
        def far(x):
            exec(compile("\\n" * int(x * 1000) + "1/0", "<cell 0>", "exec"))
        """
    calls = ("double", "kind", "far")
    said = [reply.problem for reply in attack(cell, world, calls=calls, limits=ENOUGH)]
    assert said[0].startswith("`double` raises ValueError in line 3: `raise type(")
    assert said[1] == "`kind` returns an object; numbers, text, lists and arrays can be graded"
    assert said[2] == "`far` raises ZeroDivisionError"
