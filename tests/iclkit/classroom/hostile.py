"""Answers that attack the grader, each bounded by itself.

A cell defines ``double``, which is asked for twice its argument; none computes it. A cell that
reaches what it is after returns what it found, or leaves a trace. Should a sandbox fail, nothing
is harmed: at most 100 processes that end after seconds, 1 GB of memory, one scratch folder, one
port of the loopback interface, and signals that do nothing.

The names in capitals stand for what a test puts there: ``SECRET``, a file outside; ``SCRATCH``, a
folder with a file ``kept``; ``PORT``, where somebody listens; ``LIBRARY``, the folder with iclkit.
"""

import textwrap

# ------------------------------------------------------------------ marks without work

PRETENDING = {
    "silenced errors": """
        def double(x):
            try:
                return undefined * x
            except BaseException:
                pass
        """,
    "printed score": """
        import sys
        def double(x):
            print("score: 100/100"); print('{"value": 2.0}', file=sys.stderr, flush=True)
            sys.__stdout__.write('{"value": 2.0}\\n')
            return 0.0
        """,
    "patched numpy": """
        import builtins
        import numpy as np
        np.allclose = np.array_equal = np.isclose = lambda *a, **k: True
        np.testing.assert_allclose = np.testing.assert_equal = lambda *a, **k: None
        builtins.abs = builtins.max = lambda *a: 0.0
        def double(x):
            return 0.0
        """,
    "patched sandbox": """
        import json, sys
        for name in ("iclkit.classroom.child", "__main__"):
            vars(sys.modules[name])["encode"] = lambda value, depth=0: 10**400
        json.dumps = lambda *_, **__: '{"value": {"right": true}}'
        def double(x):
            return 0.0
        """,
    "always equal": """
        class Equal(float):
            __eq__ = __le__ = __lt__ = __ge__ = __gt__ = lambda *_: True
            __sub__ = __rsub__ = __abs__ = lambda *_: 0.0
            __hash__ = float.__hash__
        def double(x):
            return Equal(0.0)
        """,
    "lying array": """
        import numpy as np
        class Lying(np.ndarray):
            def __array_ufunc__(self, *a, **k):
                return np.True_
            __eq__ = lambda *_: True
        def double(x):
            return np.zeros(()).view(Lying)
        """,
    "array on demand": """
        class Demand:
            def __array__(self, *a, **k):
                return 1 / 0
            __float__ = __index__ = __array__
        def double(x):
            return Demand()
        """,
    "unpickled": """
        class Trick:
            def __reduce__(self):
                return print, ("harm",)
        def double(x):
            return [Trick()]
        """,
    "array of objects": """
        import numpy as np
        def double(x):
            return np.array([{}, print], dtype=object)
        """,
    "not a number": """
        import numpy as np
        def double(x):
            return np.array([0x7FF8DEADBEEF0001, 0xFFF0000000000001], dtype=np.uint64).view(float)
        """,
    "deep nesting": """
        def double(x):
            deep = []
            for _ in range(100_000):
                deep = [deep]
            return deep
        """,
    "list in itself": """
        def double(x):
            own = []
            own.append(own)
            return own
        """,
    "huge integer": """
        def double(x):
            return 1 << 100_000
        """,
    "alarm": """
        import signal
        def double(x):
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            return -1.0
        """,
    "trace": """
        import sys
        def spy(frame, event, argument):
            frame.f_trace_opcodes = True
            return spy
        sys.settrace(spy); sys.setprofile(spy)
        def double(x):
            return 0.0
        """,
    "seeks in frames": """
        import sys
        def double(x):
            frame, seen = sys._getframe(), []
            while frame:
                seen += [frame.f_locals, frame.f_globals]
                frame = frame.f_back
            for names in seen:
                for name, value in list(names.items()):
                    if name in ("expected", "reference", "seed", "tests"):
                        return value
            return -1.0
        """,
}

# ------------------------------------------------------------------ forged replies


def _array(entries: str, dtype: str, shape: str) -> str:
    coded = f'"array": "{entries}", "dtype": "{dtype}", "shape": {shape}, "scalar": true'
    return f'{{"value": {{{coded}}}}}\\n'


FRAMES = {
    "right answers": '{"value": 4.0}\\n' * 5,
    "not json": "{]\\n" * 100,
    "nothing": "\\n" * 100_000,
    "a list": "[1, 2]\\n",
    "invalid utf-8": "\\xff\\xfe\\n",
    "lone surrogate": '{"value": "\\\\ud800"}\\n',
    "deep": '{"value": ' + "[" * 50_000 + "]" * 50_000 + "}\\n",
    "many parts": '{"value": [' + "[]," * 600_000 + "0]}\\n",
    "many digits": '{"value": ' + "9" * 10_000 + "}\\n",
    "large integer": '{"value": 99999999999999999999}\\n',
    "infinite": '{"value": [NaN, Infinity, 1e999]}\\n',
    "unknown mark": '{"value": {"object": "os.system"}}\\n',
    "object entries": _array("AAAA", "O", "[1]"),
    "too few entries": _array("", "<f8", "[9]"),
    "negative shape": _array("", "<f8", "[-1]"),
    "huge shape": _array("", "<f8", "[0, 1e30]"),
    "shape of text": _array("", "<f8", '"ab"'),
    "not base64": _array("?", "<f8", "[]"),
    "false truths": _array("Bw==", "|b1", "[]"),
    "odd dict": '{"value": {"dict": [[1, 2, 3]]}}\\n',
    "odd tuple": '{"value": {"tuple": 5}}\\n',
    "ready again": '{"ready": true}\\n{"cells": {"type": 5, "line": "x"}}\\n',
    "own words": '{"error": {"type": "<script>", "line": -3, "cell": 7, "message": "hello"}}\\n',
    "own refusal": '{"refused": "<script>"}\\n',
    "own kind": '{"unfit": "<b>bold</b>"}\\n',
}


def forged(text: str) -> str:
    """Return a cell that writes `text`, an escaped literal, wherever it can before it answers."""
    return f"""
import os
TEXT = b'''{text}'''
def double(x):
    for place in range(3, 30):
        try:
            os.write(place, TEXT)
        except OSError:
            pass
    return -1.0
"""


# ------------------------------------------------------------------ ends

ENDING = {
    "exit at once": """
        import os
        def double(x):
            os._exit(0)
        """,
    "exit in the cell": """
        import os
        os._exit(0)
        """,
    "system exit": """
        import sys
        def double(x):
            sys.exit(0)
        """,
    "keyboard interrupt": """
        def double(x):
            raise KeyboardInterrupt
        """,
    "closed descriptors": """
        import os
        def double(x):
            os.closerange(0, 64)
            return 1.0
        """,
    "stack overflow": """
        import sys
        sys.setrecursionlimit(10**9)
        def double(x):
            return double(x)
        """,
    "deep repr": """
        import sys
        sys.setrecursionlimit(10**9)
        def double(x):
            deep = ()
            for _ in range(10**6):
                deep = (deep,)
            return str(hash(deep))
        """,
    "wild read": """
        import numpy as np
        def double(x):
            beyond = np.lib.stride_tricks.as_strided(np.zeros(1), (10,), (1 << 44,))
            return float(beyond.sum())
        """,
    "abort": """
        import os
        def double(x):
            os.abort()
        """,
    "at exit": """
        import atexit, time, weakref
        atexit.register(time.sleep, 60)
        class Late:
            def __del__(self):
                time.sleep(60)
        late = Late()
        weakref.finalize(late, time.sleep, 60)
        def double(x):
            raise SystemExit
        """,
}

# ------------------------------------------------------------------ too much of something

ENDLESS = {
    "endless loop": """
        def double(x):
            while True:
                pass
        """,
    "endless loop in the cell": """
        while True:
            pass
        """,
    "sleep": """
        import time
        def double(x):
            time.sleep(1000)
        """,
    "loop that swallows everything": """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        def double(x):
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    continue
        """,
    "reads the next question": """
        import os
        def double(x):
            for place in range(3, 30):
                try:
                    os.read(place, 1 << 20)
                except OSError:
                    pass
        """,
}

LARGE = {
    "memory": """
        def double(x):
            kept = []
            for _ in range(100):
                kept.append(bytearray(10 << 20))
            return float(len(kept)) * 0
        """,
    "memory of numpy": """
        import numpy as np
        def double(x):
            return float(np.ones(120 << 20).sum())
        """,
    "large text": """
        def double(x):
            return "x" * (60 << 20)
        """,
    "large array": """
        import numpy as np
        def double(x):
            return np.zeros(60 << 17)
        """,
    "large list": """
        def double(x):
            return [0] * 1_000_000
        """,
    "large flood": """
        import os
        def double(x):
            for place in range(3, 30):
                try:
                    for _ in range(60):
                        os.write(place, b"x" * (1 << 20))
                except OSError:
                    pass
        """,
    "large print": """
        def double(x):
            for _ in range(50):
                print("x" * (1 << 20))
            return -1.0
        """,
    "large message": """
        raise ValueError("x" * (60 << 20))
        """,
}

SAID = {
    "memory": "more than 200 MB of memory",
    "memory of numpy": "more than 200 MB of memory",
    "large text": "returns more than 50 MB",
    "large array": "returns more than 50 MB",
    "large list": "very long lists; return arrays",
    "large flood": "returns more than 50 MB",
    "large print": "",
    "large message": "your cell raises ValueError in line 2: xxx",
}

# ------------------------------------------------------------------ processes

PROCESSES = {
    "fork": "pid = os.fork()\nif pid == 0:\n    time.sleep(3); os._exit(0)",
    "fork bomb": """
first = os.getpid()
for _ in range(6):  # 63 processes
    os.fork()
time.sleep(2)
if os.getpid() != first:
    os._exit(0)""",
    "fork of a terminal": "import pty\nif pty.fork()[0] == 0:\n    time.sleep(3); os._exit(0)",
    "spawn": "os.posix_spawn('/bin/sleep', ['sleep', '3'], {})",
    "execute": "os.execv('/bin/sleep', ['sleep', '3'])",
    "system": "assert os.system('touch SCRATCH/touched') == 0",
    "popen": "os.popen('touch SCRATCH/touched').read()",
    "subprocess": "import subprocess; subprocess.run(['touch', 'SCRATCH/touched'], check=True)",
    "below subprocess": """
import importlib.util, sys
sys.modules.pop('_posixsubprocess', None)
import _posixsubprocess
r, w = os.pipe()
_posixsubprocess.fork_exec([b'touch', b'SCRATCH/touched'], [b'/usr/bin/touch'], True, (w,), None,
    None, -1, -1, -1, -1, -1, -1, r, w, True, False, -1, None, None, None, -1, None, False)
time.sleep(1)""",
    "multiprocessing": """
import multiprocessing
multiprocessing.get_context('fork').Process(target=time.sleep, args=(3,)).start()""",
    "kill the parent": "os.kill(os.getppid(), signal.SIGURG)",
    "kill the group": "os.killpg(os.getpgid(os.getppid()), signal.SIGURG)",
    "handle of the parent": """
signal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGURG)""",
    "priority of the parent": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\nfound = 'set'",
    "other session": "os.setsid()\nif os.fork() == 0:\n    time.sleep(3); os._exit(0)",
}

# ------------------------------------------------------------------ files and network

WRITING = {
    "open": "open('SCRATCH/new', 'w').write('x')",
    "open for both": "open('SCRATCH/kept', 'r+').write('x')",
    "descriptor": "os.write(os.open('SCRATCH/new', os.O_CREAT | os.O_WRONLY), b'x')",
    "truncate": "os.truncate('SCRATCH/kept', 0)",
    "remove": "os.remove('SCRATCH/kept')",
    "remove all": "import shutil; shutil.rmtree('SCRATCH')",
    "rename": "os.rename('SCRATCH/kept', 'SCRATCH/new')",
    "folder": "os.mkdir('SCRATCH/new')",
    "link": "os.symlink('SECRET', 'SCRATCH/new')",
    "second name": "os.link('SCRATCH/kept', 'SCRATCH/new')",
    "fifo": "os.mkfifo('SCRATCH/new')",
    "node": "os.mknod('SCRATCH/new')",
    "rights": "os.chmod('SCRATCH/kept', 0o777)",
    "time": "os.utime('SCRATCH/kept', (0, 0))",
    "numpy": "import numpy as np; np.save('SCRATCH/new', np.zeros(3))",
    "map": "import numpy as np; np.memmap('SCRATCH/new', mode='w+', shape=3)[:] = 1",
    "raw": "import numpy as np; np.zeros(3).tofile('SCRATCH/new')",
    "database": "import sqlite3; sqlite3.connect('SCRATCH/new').execute('create table t(x)')",
    "other database": "import dbm.gnu as d; d.open('SCRATCH/new', 'c')['x'] = 'y'",
    "oldest database": "import dbm.ndbm as d; d.open('SCRATCH/new', 'c')['x'] = 'y'",
    "history": "import readline; readline.write_history_file('SCRATCH/new')",
    "temporary": "import tempfile; tempfile.NamedTemporaryFile(dir='SCRATCH', delete=False)",
    "attribute": "os.setxattr('SCRATCH/kept', 'user.x', b'y')",
    "own folder": "open('new', 'w').write('x' * 100); found = open('new').read()",
    "temporary folder": "open('/tmp/SCRATCHNAME', 'w').write('x'); found = 'written'",
    "shared memory": "open('/dev/shm/SCRATCHNAME', 'w').write('x'); found = 'written'",
    "memory file": "os.write(os.memfd_create('x'), b'x' * 1000); found = 'written'",
}

NETWORK = {
    "connect": "import socket; socket.create_connection(('127.0.0.1', PORT), 1); found = 'there'",
    "below socket": """
import _socket
_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).connect(('127.0.0.1', PORT))
found = 'there'""",
    "page": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:PORT', timeout=1)",
    "listen": """
import socket
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); found = 'listening'""",
    "packet": """
import socket
socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT)); found = 'sent'""",
    "loop": """
import asyncio
asyncio.run(asyncio.wait_for(asyncio.open_connection('127.0.0.1', PORT), 1))
found = 'there'""",
    "names": "import socket; found = socket.gethostbyname('localhost')",
    "local": "import socket; s = socket.socketpair(); found = 'paired'",
}

READING = {
    "open": "found = open('SECRET').read()",
    "bytes": "found = open(b'SECRET').read()",
    "path": "import pathlib; found = pathlib.Path('SECRET').read_text()",
    "text of a liar": """
class Liar(str):
    startswith = lambda *_: True
found = open(Liar('SECRET')).read()""",
    "changing path": """
class Changing:
    paths = iter(['kept', 'SECRET'] * 9)
    def __fspath__(self):
        return next(self.paths)
found = open(Changing()).read() + open(Changing()).read()""",
    "code": "import io; found = io.open_code('SECRET').read().decode()",
    "descriptor": "found = os.read(os.open('SECRET', os.O_RDONLY), 99).decode()",
    "relative": "found = open('/'.join(['..'] * 9) + 'SECRET').read()",
    "through packages": """
import numpy
home = os.path.dirname(numpy.__file__)
found = open(home + '/' + '../' * 12 + 'SECRET').read()""",
    "folder first": """
import os
folder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)
found = os.read(os.open('../' * 12 + 'SECRET', os.O_RDONLY, dir_fd=folder), 99).decode()""",
    "change folder": "os.chdir('/'); found = open('SECRET'[1:]).read()",
    "numpy": "import numpy as np; found = np.fromfile('SECRET', np.uint8).tobytes().decode()",
    "map of numpy": "import numpy as np; found = bytes(np.memmap('SECRET', mode='r')).decode()",
    "text of numpy": "import numpy as np; found = str(np.genfromtxt('SECRET', dtype=str))",
    "map": """
import mmap
found = mmap.mmap(os.open('SECRET', os.O_RDONLY), 0, prot=mmap.PROT_READ).read().decode()""",
    "lines": "import linecache; found = ''.join(linecache.getlines('SECRET'))",
    "loader": """
import importlib.machinery as m
found = m.SourceFileLoader('x', 'SECRET').get_data('SECRET').decode()""",
    "run": "import runpy; found = str(runpy.run_path('SECRET'))",
    "import": """
sys.path.insert(0, os.path.dirname('SECRET')); import secret_key; found = secret_key.KEY""",
    "history": """
import readline
readline.read_history_file('SECRET'); found = readline.get_history_item(1)""",
    "compiler": """
try:
    exec(compile('(', 'SECRET', 'exec'))
except SyntaxError as error:
    found = error.text if 'KEY' in str(error.text) else found""",
    "warning": """
import warnings, io
sys.stderr = out = io.StringIO()
warnings.showwarning('x', UserWarning, 'SECRET', 1)
found = out.getvalue() if 'KEY' in out.getvalue() else found""",
    "traceback": """
import traceback
try:
    exec(compile('1/0', 'SECRET', 'exec'))
except ZeroDivisionError:
    found = traceback.format_exc() if 'KEY' in traceback.format_exc() else found""",
    "certificate": "import ssl; ssl.create_default_context(cafile='SECRET'); found = 'read'",
    "database": """
import sqlite3
read = sqlite3.connect('file:SECRET?mode=ro', uri=True)
found = str(read.execute('pragma page_count').fetchall())""",
    "root of the process": "found = open('/proc/self/root' + 'SECRET').read()",
    "environment of the parent": "found = open(f'/proc/{os.getppid()}/environ').read()",
    "command of the parent": "found = open(f'/proc/{os.getppid()}/cmdline').read()",
    "processes": "found = ' '.join(name for name in os.listdir('/proc') if name.isdigit())",
    "memory of the process": "found = str(open('/proc/self/mem', 'rb'))",
    "accounts": "found = open('/etc/passwd').read()",
    "home": "found = str(os.listdir(os.path.expanduser('~root')))",
    "folders": "found = str(os.listdir(os.path.dirname('SECRET')))",
    "walk": "found = str(next(os.walk(os.path.dirname('SECRET')), ''))",
    "library": "found = open('LIBRARY/iclkit/solvers.py').read()[:99]",
    "library's tests": "found = open('LIBRARY/tests/oracles.py').read()[:99]",
    "library by import": "from iclkit.solvers import ridge; found = str(ridge)",
    "library from its folder": """
sys.path.insert(0, 'LIBRARY'); sys.modules.pop('iclkit'); sys.path_importer_cache.clear()
from iclkit.solvers import ridge; found = str(ridge)""",
    "marking by import": "from iclkit.classroom import marking; found = str(marking)",
    "other package": "import pytest; found = str(pytest)",
    "program": "found = open('/bin/sh', 'rb').read(4).hex()",
}

# ------------------------------------------------------------------ around the watch inside Python

MACHINERY = {
    "own hook": "sys.addaudithook(lambda *_: None); found = open('SECRET').read()",
    "find the hook": """
import gc
for thing in gc.get_objects():
    if getattr(thing, '__name__', '') == 'hook':
        thing.__code__ = (lambda event, arguments, **_: None).__code__
found = open('SECRET').read()""",
    "referrers": """
import gc
for thing in gc.get_referrers(os._exit):
    if isinstance(thing, dict):
        thing.update(leave=print, write=print)
found = open('SECRET').read()""",
    "changed builtins": """
import builtins
builtins.str = builtins.type = builtins.int = lambda *_: str
os.write = os._exit = os.path.join = lambda *_: None
sys.modules['iclkit.classroom.confine'].__dict__.clear()
found = open('SECRET').read()""",
    "little stack": """
def deep(n):
    try:
        deep(n + 1)
    except RecursionError as error:
        try:
            open('SECRET')
        except BaseException as again:
            trace = again.__traceback__
            while trace:
                for value in list(trace.tb_frame.f_locals.values()):
                    if hasattr(value, 'clear'):
                        value.clear()
                trace = trace.tb_next
        raise
try:
    deep(0)
except RecursionError:
    pass
found = open('SECRET').read()""",
    "subinterpreter": """
import _xxsubinterpreters as inner
r, w = os.pipe()
number = inner.create(isolated=False)
inner.run_string(number, f"import os; os.write({w}, open('SECRET', 'rb').read())")
found = os.read(r, 99).decode()""",
    "interrupted hook": """
import signal
signal.signal(signal.SIGALRM, lambda number, frame: frame.f_locals.update(refused=''))
signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-5)
for _ in range(200):
    try:
        found = open('SECRET').read()
    except Exception:
        pass""",
    "native library": """
import ctypes
libc = ctypes.CDLL(None)
place = libc.open(b'SECRET', 0)
text = ctypes.create_string_buffer(99)
libc.read(place, text, 99); found = text.value.decode()""",
    "library of the system": """
import ctypes
place = ctypes.CDLL('libc.so.6').open(b'SECRET', 0)
found = found if place < 0 else 'opened'""",
    "library of numpy": """
import ctypes.util, numpy.ctypeslib as n
place = n.load_library('libc.so.6', '/usr/lib').open(b'SECRET', 0)
found = found if place < 0 else 'opened'""",
    "python's own interface": """
import ctypes
ctypes.pythonapi.PySys_AddAuditHook(None, None)
found = open('SECRET').read()""",
    "limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); found = 'raised'",
}

# ------------------------------------------------------------------ past the watch, to the kernel

NATIVE = {
    "fork": "libc.fork() or libc._exit(0)",
    "signal": "libc.kill(os.getppid(), signal.SIGURG)",
    "signal by a pipe": "libc.fcntl(3, 8, os.getppid())",
    "signal of a pipe": "libc.fcntl(3, 10, signal.SIGURG)",
    "trace": "libc.ptrace(16, os.getppid(), 0, 0)",
    "memory of the parent": """
text = ctypes.create_string_buffer(8)
piece = (ctypes.c_void_p * 2)(ctypes.addressof(text), 8)
libc.process_vm_readv(os.getppid(), piece, 1, (ctypes.c_void_p * 2)(id(0), 8), 1, 0)""",
    "socket": "libc.socket(2, 1, 0)",
    "open for writing": "libc.open(b'SCRATCH/kept', os.O_RDWR)",
    "create": "libc.creat(b'SCRATCH/new', 0o600)",
    "remove": "libc.unlink(b'SCRATCH/kept')",
    "memory file": "libc.memfd_create(b'x', 0)",
    "limits": "libc.setrlimit(9, (ctypes.c_ulong * 2)(1 << 40, 1 << 40))",
    "other limits": "libc.prlimit(0, 9, (ctypes.c_ulong * 2)(1 << 40, 1 << 40), None)",
    "another user": "libc.setresuid(1, 1, 1)",
    "namespaces": "libc.unshare(0x10000000)",
    "mount": "libc.mount(b'none', b'/', b'tmpfs', 0, None)",
    "change root": "libc.chroot(b'/')",
    "program": "libc.execl(b'/bin/true', b'true', None)",
    "outlive the parent": "libc.prctl(1, 0, 0, 0, 0)",
    "thread": "libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.getpid, None) and -1",
}


def cell_of(actions: dict[str, str], *, otherwise: object = -1.0) -> str:
    """Return a cell with one function per action, which returns what it leaves in ``found``.

    An action that comes to its end without finding anything returns `otherwise`.
    """
    return "import os, signal, sys, time\n" + "\n".join(
        f"def action_{number}(x):\n    found = {otherwise!r}\n{_indented(action)}\n    return found"
        for number, action in enumerate(actions.values())
    )


def native(actions: dict[str, str]) -> dict[str, str]:
    """Return actions whose last line is what the C library answers: -1 if the kernel refuses."""
    head = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    parts = {name: action.strip().rpartition("\n") for name, action in actions.items()}
    return {name: f"{head}{a}{b}found = float({c})" for name, (a, b, c) in parts.items()}


def _indented(action: str) -> str:
    return textwrap.indent(action.strip(), "    ")
