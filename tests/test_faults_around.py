"""Whatever the machine and the user's shell are like: a correct result, or one clear line."""

import ast
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote

import psutil
import pytest

from iclkit.bench import memory, origin
from iclkit.bench.quiet import environment
from iclkit.bench.runner import BUDGETS, Budget, RunError, fitting, read_notebook, run_notebooks
from iclkit.rng import stream
from tests import faulty, toy

pytestmark = pytest.mark.pipeline
NOWHERE = "/nonexistent/folder"
QUICK = ("--profile", "quick")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return faulty.finished(tmp_path_factory.mktemp("built"))


@pytest.fixture
def place(built, tmp_path):
    return faulty.copy_of(built, tmp_path / "c\u00f6py of it")


def cached(place, before):
    """Return the one result of the second notebook that was not there before."""
    (path,) = set(results(place)) - set(before)
    return path


def results(place):
    return list((place / "_build/cache").glob("02_other-*.ipynb"))


def shown(path):
    """Return what the last cell of an executed notebook displayed."""
    outputs = [o for c in read_notebook(path)["cells"] for o in c.get("outputs", ())]
    return "".join(outputs[-1]["data"]["text/plain"])


def fail_of(place, code, **options):
    faulty.other(place, code)
    with pytest.raises(RunError) as caught:
        run_notebooks(["02_other"], root=place, profile="quick", **options)
    return str(caught.value)


# ------------------------------------------------------------------ what cannot be written or read


class TestReadOnly:
    def test_what_is_built_can_be_read(self, place):
        code, out, told = faulty.iclkit(place, "ledger", *QUICK, inside=frozen(place))
        assert (code, told) == (0, ["01_toy: unchanged (quick, seed 0)", OTHER_SAME])
        assert "TOY-1    holds" in out

    def test_what_must_run_ends_in_one_line(self, place):
        faulty.other(place, "1")
        code, _, told = faulty.iclkit(place, "run", *QUICK, inside=frozen(place))
        assert code == 1
        assert told[-1].startswith("iclkit: Read-only file system: ")
        assert told[-1].endswith("it must be writable; use a copy of the repository that is")
        assert not [line for line in told if "Traceback" in line]

    def test_nothing_built_yet(self, place):
        shutil.rmtree(place / "_build")
        _, _, told = faulty.iclkit(place, "run", "02_other", *QUICK, inside=frozen(place))
        assert told[-1].startswith("iclkit: Read-only file system: ")
        assert len(told) == 2

    def test_clean_says_what_it_could_not_delete(self, place):
        line = faulty.one_line(faulty.iclkit(place, "clean", inside=frozen(place)))
        assert line.startswith("iclkit: Read-only file system: ")


OTHER_SAME = "02_other: unchanged (quick, seed 0)"


def frozen(place):
    return faulty.bwrap("--ro-bind", str(place), str(place))


class TestPermissions:
    """Without the capabilities of root, permissions bind root as well."""

    def test_unreadable_notebook(self, place):
        (place / "notebooks/02_other.ipynb").chmod(0)
        line = faulty.one_line(faulty.iclkit(place, "run", "02_other", *QUICK, inside=bound()))
        assert line.startswith("iclkit: 02_other.ipynb is not a readable notebook: PermissionError")

    def test_result_that_cannot_be_kept(self, place):
        faulty.other(place, "1")
        (place / "_build/cache").chmod(0o555)
        code, _, told = faulty.iclkit(place, "run", "02_other", *QUICK, inside=bound())
        (place / "_build/cache").chmod(0o755)
        assert (code, len(told)) == (1, 2), told
        assert told[-1].startswith("iclkit: Permission denied: ")
        assert told[-1].endswith("it must be writable; use a copy of the repository that is")

    def test_lock_that_cannot_be_made(self, place):
        (place / "_build/lock").unlink(missing_ok=True)
        (place / "_build").chmod(0o555)
        code, _, told = faulty.iclkit(place, "run", "02_other", *QUICK, inside=bound())
        (place / "_build").chmod(0o755)
        assert (code, told) == (0, [OTHER_SAME])

    @pytest.mark.parametrize("which", [0, 1])
    def test_unreadable_result_is_not_used(self, place, which):
        (path,) = results(place)
        [path, path.with_suffix(".json")][which].chmod(0)
        call = [*bound(), sys.executable, "-c", LOAD, str(path)]
        done = subprocess.run(call, cwd=place, capture_output=True, text=True)
        assert done.stderr.splitlines()[-1].startswith("iclkit.bench.cache.DamagedError: 02_other-")
        assert done.stderr.endswith(": Permission denied\n")


LOAD = "import sys, pathlib, iclkit.bench.cache as c; c.load_run(pathlib.Path(sys.argv[1]), {})"


def bound():
    return faulty.bwrap("--cap-drop", "ALL")


def test_full_disk_ends_in_one_line_and_keeps_nothing_half(place):
    faulty.other(place, "'x' * 3_000_000")
    full = faulty.bwrap("--size", "2000000", "--tmpfs", str(place / "_build"))
    listed = f"{quote(sys.executable)} -m iclkit.cli run 02_other --profile quick; ls _build/cache"
    done = subprocess.run([*full, "sh", "-c", listed], cwd=place, capture_output=True, text=True)
    assert done.stdout == ""
    line = "iclkit: 02_other, cell 3 (draw): cannot write into _build: No space left on device; "
    assert line + "mend that and run it again" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ the user's shell

LOOK = """import builtins, os, sys
import matplotlib, numpy
from iclkit import rng

[sys.executable, rng.__file__, matplotlib.rcParams["lines.linewidth"], sys.flags.optimize,
 hasattr(builtins, "planted"), hasattr(numpy, "planted"), os.environ["OMP_NUM_THREADS"],
 os.environ["ICLKIT_CACHE"], sys.flags.utf8_mode, float(rng.stream(0, "a").normal())]"""


def test_no_variable_or_setting_of_the_user_reaches_a_run(place, tmp_path):
    before = results(place)
    faulty.other(place, LOOK)
    code, _, told = faulty.iclkit(place, "run", "02_other", *QUICK, extra=hostile(tmp_path))
    assert code == 0, told
    own = [sys.executable, str(place / "iclkit/rng.py"), 1.5, 0, False, False, "1"]
    own += [str(place / "_build/corpora"), 1, float(stream(0, "a").normal())]
    assert ast.literal_eval(shown(cached(place, before))) == own


def hostile(folder):
    """Return variables and settings that would change a run, each in a way that it would see."""
    plant = "import builtins\nbuiltins.planted = True\n"
    for name in ("ipython/profile_default/startup", "path/iclkit", "path/numpy", "jupyter/kernels"):
        (folder / name).mkdir(parents=True)
    (folder / "ipython/profile_default/startup/00.py").write_text(plant)
    (folder / "startup.py").write_text(plant)
    (folder / "path/sitecustomize.py").write_text(plant)
    (folder / "path/iclkit/__init__.py").write_text("raise SystemExit('stray')")
    (folder / "path/numpy/__init__.py").write_text("planted = True")
    (folder / "matplotlibrc").write_text("lines.linewidth: 9\n")
    (folder / "jupyter/kernels/python3").mkdir()
    kernel = {"argv": ["/bin/false"], "display_name": "x", "language": "python"}
    (folder / "jupyter/kernels/python3/kernel.json").write_text(json.dumps(kernel))
    return {
        "PYTHONSTARTUP": str(folder / "startup.py"),
        "PYTHONOPTIMIZE": "2",
        "PYTHONWARNINGS": "ignore",
        "PYTHONIOENCODING": "ascii",
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "JUPYTER_CONFIG_DIR": NOWHERE,
        "MPLCONFIGDIR": str(folder),
        "MATPLOTLIBRC": str(folder / "matplotlibrc"),
        "MPLBACKEND": "tkagg",
        "OMP_NUM_THREADS": "7",
        "OPENBLAS_NUM_THREADS": "7",
        "ICLKIT_CELL_THREADS": "7",
        "NPY_DISABLE_CPU_FEATURES": "AVX2",
        "ICLKIT_CACHE": "/dev/null",
        "GIT_DIR": NOWHERE,
    }


def test_search_path_of_the_user_does_not_reach_a_run(place, tmp_path):
    """By itself: the command line is Python too, and would not start with it."""
    (tmp_path / "own").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", NOWHERE)
        patch.setenv("PYTHONHOME", NOWHERE)
        found = environment(tmp_path / "own", place)
    assert found["PYTHONPATH"] == str(place)
    assert "PYTHONHOME" not in found


def test_neither_home_nor_locale_nor_network_nor_kernel_nor_git_is_needed(place, tmp_path):
    """Nor a user with a name, a folder for temporary files, or a path of plain letters."""
    before = results(place)
    faulty.other(place, "import matplotlib.font_manager\n\n1234")
    kernels = Path(sys.prefix) / "share/jupyter/kernels"
    away = ["--unshare-net", "--unshare-user", "--uid", "12345", "--tmpfs", str(kernels)]
    odd = {"LC_ALL": "C", "PYTHONIOENCODING": "iso8859-5", "TMPDIR": NOWHERE}
    odd["PATH"] = str(tmp_path)
    inside = faulty.bwrap(*away, "--unsetenv", "HOME", "--unsetenv", "MPLCONFIGDIR")
    inside[0] = shutil.which("bwrap")
    code, out, told = faulty.iclkit(place, "ledger", *QUICK, inside=inside, extra=odd)
    assert code == 0, told
    assert "measured 1 ? 0.1" in out, "a terminal without the sign for plus or minus"
    assert shown(cached(place, before)) == "1234"
    assert '"commit": "unknown"' in cached(place, before).with_suffix(".json").read_text()


# ------------------------------------------------------------------ clocks


def test_edit_that_no_clock_shows_is_run(place):
    """Python takes compiled code for that of a source of the same second and size."""
    module = place / "iclkit/number.py"
    faulty.other(place, "from iclkit.number import NUMBER\n\nNUMBER")
    for number in "12":
        module.write_text(f"NUMBER = {number}\n")
        os.utime(module, (0, 0))
        if number == "1":
            py_compile.compile(str(module), doraise=True)
    (run,) = run_notebooks(["02_other"], root=place, profile="quick")
    assert shown(run.path) == "2"


def test_times_of_files_decide_nothing(place):
    for path in [*place.rglob("*")]:
        os.utime(path, (0, 0) if len(path.name) % 2 else (4_000_000_000, 4_000_000_000))
    runs = run_notebooks(faulty.KEPT, root=place, profile="quick")
    assert not any(run.fresh for run in runs)


BENCH = sorted(path.stem for path in (Path(__file__).parents[1] / "iclkit/bench").glob("*.py"))
CLOCKS = {"time", "st_mtime", "st_ctime", "getmtime", "perf_counter", "create_time", "now"}
MAY_READ = {
    "runner": {"now"},  # the date of a run, which decides nothing
    "batches": {"perf_counter"},  # how many cells go together, of which no number depends
    # Whether a source was edited since Python began: that refuses a store and computes nothing.
    # What the system dates counts whatever a file says; see the tests of early edits.
    "fingerprint": {"time", "st_mtime", "st_ctime", "create_time"},
}


@pytest.mark.parametrize("name", BENCH)
def test_only_the_date_of_a_run_is_read_from_the_clock(name, root):
    """A clock that is set back cannot end a run early or make it last for ever."""
    text = (root / "iclkit/bench" / f"{name}.py").read_text()
    used = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
    assert used & CLOCKS == MAY_READ.get(name, set())


# ------------------------------------------------------------------ memory


class TestMemory:
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others do not bind it")
    def test_too_little_is_told_with_cell_and_need(self, place):
        faulty.other(place, "len(bytearray(10**10))")
        shell = ["sh", "-c", 'ulimit -v 2600000; exec "$@"', "sh"]
        code, _, told = faulty.iclkit(place, "run", *QUICK, inside=shell)
        assert code == 1
        assert re.fullmatch(
            r"memory: [\d.]+ GB are free and a notebook at quick takes up to 1.5 GB; 1 at once",
            told[0],
        )
        (line,) = [line for line in told if line.startswith("iclkit: ")]
        assert re.fullmatch(
            r"iclkit: 02_other, cell 3 \(draw\): MemoryError: .*; profile quick takes up to 1.5 GB "
            r"a notebook, [\d.]+ GB are free; make room or use --jobs 1",
            line,
        )

    @pytest.mark.parametrize("whom", ["getpid", "getppid"])
    def test_killed_kernel_or_papermill_is_told_with_cell_and_need(self, place, whom):
        code = f"import os, time\nos.kill(os.{whom}(), 9)\ntime.sleep(100)"
        problem = fail_of(place, code).splitlines()[0]
        where = "02_other, cell 3 (draw): its process was killed, by hand or for want of memory; "
        assert problem.startswith(f"{where}profile quick takes up to 1.5 GB a notebook, ")
        running = [p.info["cwd"] or "" for p in psutil.process_iter(["cwd"])]
        assert not [folder for folder in running if folder.startswith(str(place))]

    def test_stated_peak_is_below_the_end_and_grows_with_the_profile(self):
        peaks = [budget.peak_gb for budget in BUDGETS.values()]
        assert peaks == sorted(peaks)
        assert all(budget.peak_gb < budget.memory_gb for budget in BUDGETS.values())

    @pytest.mark.parametrize(
        ("free", "jobs", "told"), [(9.0, 4, 0), (8.0, 4, 0), (7.9, 3, 1), (2.0, 1, 1), (0.5, 1, 1)]
    )
    def test_fewer_at_once_where_less_is_free(self, monkeypatch, free, jobs, told):
        lines = []
        monkeypatch.setattr(memory, "free_gb", lambda: free)
        assert fitting(4, Budget(1, peak_gb=2.0), "quick", lines.append) == jobs
        assert len(lines) == told

    @pytest.mark.parametrize("version", [0, 1])
    def test_limit_of_a_container_counts(self, tmp_path, version):
        limit, used, given_back = memory.GROUP_FILES[version]
        (tmp_path / limit).write_text("3000000000\n")
        (tmp_path / used).write_text("2000000000\n")
        (tmp_path / "memory.stat").write_text(f"anon 5\n{given_back} 500000000\n")
        assert memory.left_in(tmp_path, limit, used, given_back) == 1.5e9

    def test_no_limit_is_no_limit(self, tmp_path):
        assert list(memory.groups_left(tmp_path)) == [float("inf")]
        assert 0 < memory.free_gb() < 1e6


# ------------------------------------------------------------------ git


@pytest.fixture
def repository(tmp_path):
    """A repository of its own: the tests may run in a copy without history."""
    git(tmp_path, "init", "-q")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    return tmp_path


def git(place, *words):
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(place), *who, *words], check=True)


class TestCommit:
    @pytest.mark.parametrize(
        ("path", "edited"),
        [
            ("iclkit/untracked.py", True),
            ("iclkit/data/more.csv", True),
            ("notebooks/05_new.ipynb", True),
            ("constraints.txt", True),
            ("iclkit/data/paper/01_toy/run.json", False),
            (origin.RECORD, False),
            ("iclkit/__pycache__/a.pyc", False),
            ("notes.txt", False),
        ],
    )
    def test_a_file_that_git_does_not_know(self, repository, path, edited):
        file = repository / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("new")
        assert origin.commit(repository).endswith("+changes") is edited

    def test_no_git(self, repository, monkeypatch):
        assert len(origin.commit(repository)) == 10
        monkeypatch.setenv("PATH", NOWHERE)
        assert origin.commit(repository) == "unknown"

    def test_commit_of_another_repository_around_is_not_ours(self, repository):
        place = toy.make(repository / "inside")
        assert origin.commit(place) == "unknown"
        git(repository, "add", ".")
        assert origin.commit(place).endswith("+changes"), "a folder of a larger repository"

    def test_a_record_that_grows_is_no_edit_of_sources(self, repository):
        record = repository / origin.RECORD
        record.parent.mkdir(parents=True)
        record.write_text("{}")
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", "a record")
        record.write_text("{ }")
        assert len(origin.commit(repository)) == 10
        (repository / "pyproject.toml").write_text("edited")
        assert origin.commit(repository).endswith("+changes")

    def test_variables_of_a_hook_do_not_count(self, repository, monkeypatch):
        before = origin.commit(repository)
        monkeypatch.setenv("GIT_DIR", NOWHERE)
        assert origin.commit(repository) == before != "unknown"
