"""What the sandbox brings back from honest answers, and what it says of broken ones."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from iclkit.classroom import child, isolation, sandbox
from iclkit.classroom.isolation import Isolation, SandboxError, Way
from iclkit.classroom.sandbox import Call, Limits, Reply, run

LIMITS = Limits(seconds=20, megabytes=300)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs Linux or macOS")


@pytest.fixture(params=Isolation, scope="module")
def level(request):
    why = sandbox.problem(request.param)
    if why:
        pytest.skip(f"{request.param}: {why}")
    return request.param


def ask(cell, *calls, level=Isolation.LIMITS, setup="", limits=LIMITS, numbers=None, uses=()):
    given = {} if numbers is None else {"numbers": numbers}
    return run([setup, cell], calls, given=given, uses=uses, limits=limits, isolation=level)


def test_a_level_works_here():
    """Without this, a sandbox that is broken everywhere would only skip tests."""
    assert sandbox.problem(Isolation.LIMITS) == ""
    assert sandbox.strongest() in Isolation


# ------------------------------------------------------------------ values


def test_functions_and_variables(level):
    setup = "import numpy as np"
    cell = "scale = numbers['alpha']\ndef f(x, y=0):\n    return np.asarray(x) * scale + y"
    calls = [Call("f", (2.0,)), Call("f", ([1, 2], 0.5)), Call("scale"), Call("f", (np.eye(2),))]
    a, b, c, d = (
        r.value for r in ask(cell, *calls, level=level, setup=setup, numbers={"alpha": 3})
    )
    assert a == 6.0
    assert c == 3
    assert (b == [3.5, 6.5]).all()
    assert (d == 3 * np.eye(2)).all()


def test_scipy_in_all_its_parts(level):
    """Also what starts threads or opens files in other places."""
    cell = """
import numpy as np, scipy
from scipy import fft, integrate, interpolate, linalg, optimize, sparse, special, stats
import scipy.sparse.linalg
def f():
    x = np.random.default_rng(0).normal(size=(50, 50))
    return [
        linalg.solve(x @ x.T + np.eye(50), x)[0, 0],
        optimize.linprog([1, 2], A_ub=[[-1, -1]], b_ub=[-1]).fun,
        optimize.brentq(lambda t: t - 0.5, 0, 1),
        optimize.minimize(lambda t: (t[0] - 2) ** 2, [0.0]).x[0],
        integrate.quad(lambda t: t, 0, 1)[0],
        special.erf(0.0), stats.norm.cdf(0.0), fft.fft(np.ones(4), workers=2)[0].real,
        sparse.linalg.cg(sparse.eye(3), np.ones(3))[0][0],
        interpolate.interp1d([0, 1], [0, 1])(0.25)[()],
    ]
"""
    (reply,) = ask(cell, Call("f", ()), level=level, limits=Limits(60, 600))
    assert reply.problem == ""
    assert np.allclose(reply.value[1:], [1, 0.5, 2, 0.5, 0, 0.5, 4, 1, 0.25])


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text("abc"), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(PLAIN)
def test_coding_keeps_plain_values(value):
    back = child.decode(child.encode(value))
    assert back == value
    assert type(back) is type(value)


@given(
    arrays.arrays(
        st.sampled_from(["f8", "f4", "i4", "i8", "u2", "?", ">f8"]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
    )
)
def test_coding_keeps_arrays(array):
    back = child.decode(child.encode(array))
    assert back.shape == array.shape
    assert back.dtype in (np.float64, np.int64, np.bool_)
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tuple", "dict", "array", "dtype", "shape", "scalar"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(JSON | st.fixed_dictionaries(dict.fromkeys(("array", "dtype", "shape", "scalar"), JSON)))
def test_anything_else_is_no_value(coded):
    """Whatever a child writes, one kind of error or a plain value comes out of it."""
    reply = sandbox._judged({"value": coded}, Call("f", ()), "", ["x"], LIMITS)
    assert reply.problem or isinstance(
        reply.value, bool | int | float | str | list | tuple | np.ndarray
    )


@pytest.mark.parametrize("scalar", [np.float64(1.5), np.int64(3), np.True_, np.float32(0.5)])
def test_scalars_of_numpy_stay_so(scalar):
    back = child.decode(child.encode(scalar))
    assert back == scalar
    assert isinstance(back, np.generic)


def test_large_arguments_and_replies_pass():
    big = np.arange(1_000_000.0)
    (reply,) = ask("def f(x):\n    return x + 1", Call("f", (big,)))
    assert (reply.value == big + 1).all()


def test_an_argument_that_was_changed_comes_new_next_time():
    cell = "def f(x):\n    x.append(1)\n    return len(x)"
    assert [r.value for r in ask(cell, Call("f", ([],)), Call("f", ([],)))] == [1, 1]


def test_an_argument_that_cannot_be_sent_is_the_instructor_s_mistake():
    with pytest.raises(child.Unfit, match="set"):
        ask("def f(x):\n    return 1", Call("f", ({1},)))


def test_two_runs_agree_also_on_the_order_of_sets():
    cell = "def f():\n    return list({'a', 'b', 'c', 'd', 'e', 'f'})"
    assert ask(cell, Call("f", ())) == ask(cell, Call("f", ()))


# ------------------------------------------------------------------ what a student is told


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("x = 1", "`f` is not defined"),
        ("x = (", "your cell raises SyntaxError in line 1: '(' was never closed"),
        ("\nx = 1 / 0", "your cell raises ZeroDivisionError in line 2: division by zero"),
        ("def f():\n    return g()", "`f` raises NameError in line 2: `return g()`"),
        ("f = 3", "`f` raises TypeError"),
        ("def f(x):\n    return x", "`f` raises TypeError"),
        ("def f():\n    return {1}", "`f` returns a set; numbers, text, lists and arrays can be "),
        ("def f():\n    return [{1}]", "`f` returns a set; "),
        ("def f():\n    return {}", "`f` returns a dict; "),
        ("def f():\n    pass", "`f` returns nothing (None); is a `return` missing?"),
        ("def f():\n    return 1j", "`f` returns a complex number; "),
        ("import numpy as np\ndef f():\n    return np.ones(2) * 1j", "`f` returns complex numbers"),
        (
            "import numpy as np\ndef f():\n    return np.array([{}])",
            "`f` returns an array of objects",
        ),
        ("def f():\n    return f", "`f` returns a function; "),
        ("def f():\n    return 2**70", "`f` returns an integer of more than 64 bits"),
        ("class A: pass\ndef f():\n    return A()", "`f` returns an object; "),
        ("def f():\n    raise SystemExit", "`f` raises SystemExit in line 2"),
        ("def f():\n    return open('/etc/hosts')", "your answer opens, changes or lists files"),
        (
            "import pandas",
            "your cell raises ModuleNotFoundError in line 1: No module named 'pandas'",
        ),
        ("import iclkit.solvers", "your cell raises ModuleNotFoundError"),
        ("def f():\n    return bytearray(400 << 20)", ""),
        ("def f():\n    return len(bytearray(900 << 20))", "`f` needs more than 300 MB of memory"),
        ("x = bytearray(900 << 20)", "your answer needs more than 300 MB of memory"),
        ("import os; os._exit(0)", "the Python process that runs your answer ends"),
        (
            "raise ValueError('a\\nb\\x00<b>' * 99)",
            "your cell raises ValueError in line 1: a b?<b>a b",
        ),
        ("raise KeyError('\\ud800')", "your cell raises KeyError in line 1: '\\ud800'"),
        ("class E(ValueError): pass\nraise E", "your cell raises ValueError in line 2"),
        (
            "import numpy as np\nnp.linalg.inv(np.zeros((2, 2)))",
            "your cell raises LinAlgError in lin",
        ),
        ("def f():\n    return 'x' * (60 << 20)", "your answer returns more than 50 MB"),
    ],
)
def test_one_line_says_what_is_wrong(cell, told):
    (reply,) = ask(cell, Call("f", ()))
    assert reply.value is None
    assert reply.problem.startswith(told)
    assert "\n" not in reply.problem


def test_a_variable_that_holds_nothing():
    assert ask("x = None", Call("x"))[0].problem.startswith("`x` is nothing (None); numbers, ")


def test_what_stands_before_a_mistake_still_counts():
    cell = "def f():\n    return 1\nplot(f)\ndef g():\n    return 2"
    one, two = ask(cell, Call("f", ()), Call("g", ()))
    assert one == Reply(1)
    assert two.problem == "your cell raises NameError in line 3: name 'plot' is not defined"


def test_a_mistake_of_the_setup_is_not_called_the_student_s():
    (reply,) = ask("def f():\n    return x", Call("f", ()), setup="1 / 0")
    assert reply.problem == "the setup raises ZeroDivisionError in line 1: division by zero"


def test_lines_for_notebooks_are_passed_over():
    cell = (
        "%matplotlib inline\n!pip install x\nx = 3\ndisplay(x)\nif x:\n    %time y = 1\n    z = 5"
    )
    assert ask(cell, Call("x"), Call("z")) == [Reply(3), Reply(5)]


def test_printing_and_warning_cost_nothing():
    cell = "import warnings\ndef f():\n    print('x' * 10**6)\n    warnings.warn('x')\n    return 1"
    assert ask(cell, Call("f", ())) == [Reply(1)]


def test_input_finds_nobody():
    assert "EOFError" in ask("def f():\n    return input()", Call("f", ()))[0].problem


# ------------------------------------------------------------------ time, ends, processes


def test_replies_before_a_hang_are_kept(level):
    cell = "def f(x):\n    while x == 2:\n        pass\n    return x"
    calls = [Call("f", (float(x),)) for x in (1, 2, 3)]
    replies = ask(cell, *calls, level=level, limits=Limits(seconds=0.5))
    hangs = Reply(problem="your answer does not finish within 0.5 s")
    assert replies == [Reply(1.0), hangs, hangs]


def test_calls_after_an_end_get_a_new_process(level):
    cell = "import os\ndef f(x):\n    if x == 2:\n        os._exit(0)\n    return x"
    replies = ask(cell, *(Call("f", (x,)) for x in (1, 2, 3, 2, 5)), level=level)
    ended = Reply(problem="the Python process that runs your answer ends")
    assert replies == [Reply(1), ended, Reply(3), ended, Reply(5)]


def test_new_processes_are_few(monkeypatch):
    monkeypatch.setattr(sandbox, "RESTARTS", 1)
    replies = ask("import os\ndef f():\n    os._exit(0)", *[Call("f", ())] * 9)
    assert len(replies) == 9
    assert all(reply.problem for reply in replies)


def test_time_is_for_all_calls_together():
    cell = "import time\ndef f():\n    time.sleep(0.6)\n    return 1"
    replies = ask(cell, *[Call("f", ())] * 4, limits=Limits(seconds=0.5))
    assert replies[0] == Reply(1), "waiting is not computing"
    assert "does not finish within 0.5 s" in replies[-1].problem


def test_computing_ends_by_the_clock_of_the_processor(level, monkeypatch):
    monkeypatch.setattr(sandbox, "WAITING", 1000)
    cell = "def f():\n    while True:\n        pass"
    start = time.monotonic()
    (reply,) = ask(cell, Call("f", ()), level=level, limits=Limits(seconds=1))
    assert reply.problem == "your answer does not finish within 1 s"
    assert time.monotonic() - start < 60


def test_a_dribble_does_not_win_time():
    """Each byte is an event; the clock must count nevertheless."""
    cell = """
import os, time
def f():
    while True:
        for place in range(3, 12):
            try:
                os.write(place, b" ")
            except OSError:
                pass
"""
    start = time.process_time()
    (reply,) = ask(cell, Call("f", ()), limits=Limits(seconds=0.5, output_megabytes=500))
    assert "does not finish" in reply.problem
    assert time.process_time() - start < 10


def test_no_calls_need_no_process(monkeypatch):
    monkeypatch.setattr(sandbox, "process", None)
    assert ask("x = 1") == []


def test_many_at_once(level):
    cell = "import os\ndef f(x):\n    return x if x % 4 else os._exit(1)"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: ask(cell, Call("f", (x,)), level=level)[0].value, range(8)))
    assert found == [None, 1, 2, 3, None, 5, 6, 7]


def test_nothing_is_left(level, tmp_path, monkeypatch):
    monkeypatch.setattr(isolation.tempfile, "tempdir", str(tmp_path))
    before = threads_and_files()
    ask("while True: pass", Call("f", ()), level=level, limits=Limits(seconds=0.3))
    assert list(tmp_path.iterdir()) == []
    assert threads_and_files() == before


def threads_and_files():
    files = Path("/proc/self/fd")
    return threading.active_count(), len(list(files.iterdir())) if LINUX else 0


LINUX = sys.platform == "linux"


@pytest.mark.skipif(not LINUX, reason="elsewhere the system has no way to say it")
def test_the_process_ends_with_its_parent(level, root, tmp_path):
    """Grading that is killed leaves no endless loop behind."""
    program = f"""
from iclkit.classroom import isolation, sandbox
isolation.ENVIRONMENT["MARK"] = {str(tmp_path)!r}
level = sandbox.Isolation({str(level)!r})
print(sandbox.problem(level), flush=True)
sandbox.run(["while True: pass"], [sandbox.Call("f")], given={{}}, uses=[], isolation=level)
"""
    done = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=root,
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # its folder stays behind when it is killed
    )
    assert done.stdout.readline() == b"\n"
    wait_for(lambda: marked(tmp_path), 20)
    done.send_signal(signal.SIGKILL)
    done.communicate()
    wait_for(lambda: not marked(tmp_path), 10)


def wait_for(true, seconds):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def marked(mark):
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"MARK={mark}".encode() in (place / "environ").read_bytes():
                found.append(place)
    return found


# ------------------------------------------------------------------ what is there


def test_named_modules_of_the_library_are_there_and_no_others(level):
    cell = """
from iclkit.rng import stream
def f():
    return stream(1, "x").normal()
def g():
    import iclkit.solvers
def h():
    import iclkit
    return iclkit.__version__
"""
    calls = Call("f", ()), Call("g", ()), Call("h", ())
    number, other, version = ask(cell, *calls, level=level, uses=["iclkit.rng"])
    assert type(number.value) is float
    assert other.problem == "`g` raises ModuleNotFoundError in line 6: `import iclkit.solvers`"
    assert version.problem == ""


def test_a_paper_s_package_can_be_named(level):
    cell = "from iclkit.papers.phase_transition import *\ndef f():\n    return 1"
    uses = ["iclkit.papers.phase_transition", "iclkit.features", "iclkit.solvers", "iclkit.moments"]
    uses += ["iclkit.prompts", "iclkit.predictors", "iclkit.risk", "iclkit.rng", "iclkit.hermite"]
    assert ask(cell, Call("f", ()), level=level, uses=uses) == [Reply(1)]


@pytest.mark.parametrize("name", ["numpy", "iclkit", "iclkit.no_such", "os"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"^uses (must )?names? .*modules?"):
        ask("", Call("f"), uses=[name])


def test_the_environment_is_empty(level, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "1")
    cell = "import os\ndef f():\n    return sorted(os.environ)"
    (reply,) = ask(cell, Call("f", ()), level=level)
    assert set(reply.value) <= {*isolation.ENVIRONMENT, "PWD", "LC_CTYPE"}


def test_the_user_is_nobody(level):
    cell = "import os\ndef f():\n    return [os.getuid(), os.getgid()]"
    (reply,) = ask(cell, Call("f", ()), level=level)
    if level is Isolation.NAMESPACES:
        assert reply.value == [isolation.NOBODY, isolation.NOBODY]


# ------------------------------------------------------------------ levels


def test_without_bubblewrap_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.way_of.cache_clear()
    try:
        assert sandbox.problem(Isolation.NAMESPACES) == "bubblewrap (bwrap) is not installed"
        assert sandbox.strongest() is Isolation.LIMITS
        with pytest.raises(SandboxError, match=r"namespaces does not work here: bubblewrap"):
            ask("", Call("f"), level=Isolation.NAMESPACES)
    finally:
        sandbox.way_of.cache_clear()


def test_bubblewrap_that_does_not_work_is_found_by_trying(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sandbox.way_of.cache_clear()
    try:
        assert "No permissions to create a namespace" in sandbox.problem(Isolation.NAMESPACES)
    finally:
        sandbox.way_of.cache_clear()


def test_where_nothing_works_one_line_says_why(monkeypatch):
    monkeypatch.setattr(sandbox, "way_of", lambda level: f"no {level}")
    with pytest.raises(SandboxError, match=r"^namespaces: no namespaces; limits: no limits$"):
        sandbox.strongest()


def test_what_a_level_cannot_hold_is_said_in_one_line(monkeypatch):
    assert sandbox.remark(Isolation.NAMESPACES) == ""
    for paths, words in ((True, "which files and processes exist"), (False, "people you trust")):
        monkeypatch.setattr(sandbox, "way_of", lambda level, p=paths: Way(level, paths=p))
        assert words in sandbox.remark(Isolation.LIMITS)
        assert "\n" not in sandbox.remark(Isolation.LIMITS)


def test_calls_of_linux_are_not_made_elsewhere(monkeypatch):
    monkeypatch.setattr(isolation.sys, "platform", "darwin")
    assert not any(way.kernel or way.paths for way in isolation.ways(Isolation.LIMITS))


def test_each_help_of_the_kernel_is_tried_without_the_other():
    """An old kernel, or a container, may refuse calls and know nothing of closed paths."""
    ways = isolation.ways(Isolation.LIMITS)
    assert (ways[0].kernel, ways[0].paths) == ((True, True) if LINUX else (False, False))
    assert not ways[-1].kernel
    for way in {replace(way, user=0) for way in ways}:
        assert sandbox._failure(way) == ""


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap (bwrap) is not installed")
def test_the_namespaces_hold_no_file_but_the_interpreter_s(root):
    """Seen with the watch and the kernel's refusals off: it is the namespaces that hide."""
    way = sandbox.way_of(Isolation.NAMESPACES)
    if isinstance(way, str):
        pytest.skip(way)
    with isolation.folder_for(()) as folder:
        command = isolation._bwrap(way, folder)
        look = "import os; print([d for d in os.listdir('/') if d not in ('lib64', 'lib')])"
        look += (
            f"; print(os.path.exists({str(root)!r}), os.listdir('/packages'), os.listdir('/dev'))"
        )
        done = subprocess.run(
            [*command, isolation._interpreter(), "-S", "-c", look],
            env=isolation.ENVIRONMENT,
            capture_output=True,
            text=True,
            check=True,
        )
    top, rest = done.stdout.splitlines()
    assert {"home", "tmp", "proc", "sys", "var", "work"}.isdisjoint(eval(top))  # noqa: S307
    assert (
        rest.startswith("False ['numpy', 'numpy.libs', 'scipy', 'scipy.libs']") or "numpy" in rest
    )
