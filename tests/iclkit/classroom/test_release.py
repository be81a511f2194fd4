"""What is handed out: it runs from the top, says what is missing, and gives nothing away."""

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner
from nbclient import NotebookClient

from iclkit import __version__, cli
from iclkit.classroom import course, handout, leaks, release, source
from iclkit.site import downloads
from tests.iclkit.classroom import toy_course

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).resolve().parents[3]
SEED = 2**100 + 7
STUDENT = "ada"
FOREIGN = ["scipy", "nbformat", "nbgrader", "click", "matplotlib", "pandas"]
WHEEL = ("iclkit-9-py3-none-any.whl", b"PK\x05\x06" + bytes(18))  # an empty archive


def course_in(place):
    """A repository with the toy's assignment, and the folder that was handed out."""
    toy_course.write(place)
    given = course.course_of(SEED)
    return release.hand_out(place, place / "_build" / "assignments", course=given, library=WHEEL)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return course_in(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def assignment(out):
    return source.assignment(out.parents[1] / "notebooks/assignments/0_toy.ipynb")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def student_cells(out, name="0_toy"):
    return {cell["id"]: cell for cell in read(out / "student" / f"{name}.ipynb")["cells"]}


def text(cell):
    return "".join(cell["source"])


def run(notebook, folder):
    """What each code cell of a notebook prints in a fresh kernel; an error ends the test."""
    book = nbformat.from_dict(notebook)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(book, timeout=120, kernel_name="python3", resources=resources).execute()
    return {
        cell["id"]: "".join(output.get("text", "") for output in cell["outputs"]).strip()
        for cell in book["cells"]
        if cell["cell_type"] == "code"
    }


def with_more(notebook, cells):
    """A notebook with cells that the student adds at its end."""
    more = [handout.plain(name, words) for name, words in cells.items()]
    return notebook | {"cells": [*notebook["cells"], *more]}


# ------------------------------------------------------------------ the student's notebook


def test_folders(out):
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {
        "student/0_toy.ipynb",
        f"student/{WHEEL[0]}",
        "student/README.txt",
        "solutions/0_toy.ipynb",
        "solutions/0_toy.html",
        "rubrics/0_toy.md",
        "rubrics/0_toy.html",
        "autograder/source/0_toy/0_toy.ipynb",
        "autograder/release/0_toy/0_toy.ipynb",
        "autograder/gradebook.db",
        "autograder/nbgrader_config.py",
    } <= found
    assert WHEEL[0] in (out / "student/README.txt").read_text()
    released = (out / "autograder/release/0_toy/0_toy.ipynb").read_bytes()
    assert released == (out / "student/0_toy.ipynb").read_bytes()


def test_cells_stand_in_the_order_of_work(out):
    names = list(student_cells(out))
    assert names[:6] == ["title", "how", "install", "setup", "student", "desk"]
    at = names.index("noise-share")
    parts = ["noise-share", *(f"noise-share-{p}" for p in ("numbers", "answer", "check", "tests"))]
    assert names[at : at + 5] == parts
    assert "long-context-derivation" in names


def test_solutions_and_tests_are_gone(out):
    cells = student_cells(out)
    for key in toy_course.EXERCISES:
        assert text(cells[f"{key}-tests"]).strip() == handout.TESTS
    assert handout.STUB in text(cells["ridge-slope-answer"])
    assert text(cells["ridge-slope-answer"]).startswith("def ridge_slope(x, y, penalty):\n")
    assert text(cells["noise-share-answer"]).strip() == handout.STUB_OUTSIDE
    assert text(cells["long-context-derivation"]).strip() == handout.STUB_TEXT
    assert leaks.problems(out.parents[1], out / "student") == []
    assert leaks.problems(out.parents[1], out / "solutions")


def test_what_is_not_to_be_changed_is_locked(out):
    for name, cell in student_cells(out).items():
        free = name.endswith(("-answer", "-derivation")) or name in ("title", "install", "student")
        assert cell["metadata"].get("editable", True) is free, name


def test_badge_and_help_stand_in_the_statement(out):
    statement = text(student_cells(out)["long-context"])
    for words in ("easy", "importance 2 of 3", "about 10 minutes", "6 points", "3 of them"):
        assert f"{words}" in statement
    assert statement.count("<details>") == 2
    assert statement.startswith("## Long contexts\n\n**easy**")
    assert "15 points, about 30 minutes" in text(student_cells(out)["how"])


def test_untouched_notebook_runs_and_says_that_nothing_is_there(out, tmp_path):
    printed = run(read(out / "student/0_toy.ipynb"), tmp_path)
    assert "Write your own id" in printed["desk"]
    for key in toy_course.EXERCISES:
        assert printed[f"{key}-check"].startswith(f"{key}: ")
        assert "\n" not in printed[f"{key}-check"]
    assert printed["ridge-slope-check"] == "ridge-slope: not answered yet."


# ------------------------------------------------------------------ a student's way through it


def filled(out, answers):
    notebook = read(out / "student/0_toy.ipynb")
    for cell in notebook["cells"]:
        cell["source"] = answers.get(cell["id"], text(cell))
        if cell["id"] == "student":
            cell["source"] = f'student = "{STUDENT}"'
    return notebook


def test_right_answers_are_called_right(out, tmp_path):
    printed = run(filled(out, toy_course.reference()), tmp_path)
    for key in toy_course.EXERCISES:
        assert "right on the practice call" in printed[f"{key}-check"], printed


def test_a_typical_wrong_answer_gets_its_hint_and_the_next_one_is_right(out, assignment, tmp_path):
    item = assignment.item("ridge-slope")
    mistake = next(m for m in item.tests.mistakes if m.name == "no-penalty")
    wrong = toy_course.with_mistake(item.key, mistake)
    more = {
        "again": toy_course.reference()["ridge-slope-answer"],
        "again-check": 'desk.check("ridge-slope", globals())',
    }
    printed = run(with_more(filled(out, wrong), more), tmp_path)
    assert printed["ridge-slope-check"] == f"ridge-slope: {mistake.hint}"
    assert "right on" in printed["again-check"]


def test_numbers_are_the_student_s_own(out, assignment, tmp_path):
    cells = {"show": "print(sorted(numbers.items()))"}
    printed = run(with_more(filled(out, {}), cells), tmp_path)
    salt, choices = course.course_of(SEED).salt, assignment.item("noise-share").tests.numbers
    own = course.numbers(choices, salt=salt, student=STUDENT, exercise="noise-share")
    assert printed["show"] == str(sorted(own.items()))


def test_the_seed_is_in_nothing_that_is_handed_out(out):
    for path in (out / "student").iterdir():
        for name, data in leaks.members(path.name, path.read_bytes()):
            views = leaks.views(name, data.decode("utf-8", "replace"))
            assert not any(str(SEED) in view for view in views), path


class TestInstallCell:
    """The first cell, with the magic that calls pip recorded instead of run."""

    @pytest.fixture
    def install(self, out, monkeypatch, tmp_path):
        def call(address=None):
            assignment = source.assignment(out.parents[1] / "notebooks/assignments/0_toy.ipynb")
            book = handout.for_nbgrader(assignment, "packed", address=address)
            code = next(cell["source"] for cell in book["cells"] if cell["id"] == "install")
            code = re.sub(r"%pip (.*)", r"said.append(f'\1')", code)
            said = []
            monkeypatch.chdir(tmp_path)
            monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "iclkit" or None)
            exec(code, {"said": said})  # noqa: S102 - the cell under test
            return said

        return call

    def test_takes_the_wheel_beside_the_notebook_and_keeps_numpy(self, install, tmp_path):
        import numpy

        (tmp_path / WHEEL[0]).touch()
        (line,) = install()
        assert f"iclkit @ {(tmp_path / WHEEL[0]).as_uri()}" in line
        assert f"numpy=={numpy.__version__}" in line

    def test_takes_the_public_repository_where_there_is_one(self, install):
        assert (
            f'"iclkit @ git+https://example.org/book@v{__version__}"'
            in install("https://example.org/book")[0]
        )

    def test_says_what_to_do_where_there_is_neither(self, install):
        with pytest.raises(FileNotFoundError, match="beside this notebook"):
            install()


def test_desk_runs_from_the_wheel_with_numpy_alone(out, tmp_path):
    made = downloads.wheel(ROOT)
    (tmp_path / made.name).write_bytes(made.data)
    cells = student_cells(out)
    lines = [f"import sys; sys.path.insert(0, {str(tmp_path / made.name)!r})"]
    lines += [f"for name in {FOREIGN}: sys.modules[name] = None"]
    lines += [text(cells[name]) for name in ("student", "desk", "noise-share-numbers")]
    lines += [text(cells["noise-share-check"]), "import iclkit; print(iclkit.__file__)"]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert made.name in done.stdout.splitlines()[-1]


# ------------------------------------------------------------------ the command


class TestCommand:
    @pytest.fixture
    def called(self, tmp_path, monkeypatch):
        """The command in a repository; what it would hand out."""
        root = tmp_path / "repository"
        (root / "notebooks").mkdir(parents=True)
        (root / "_config.yml").touch()
        given = {}

        def hand_out(*places, **options):
            given.update(places=places, **options)
            return places[1]

        monkeypatch.chdir(root)
        monkeypatch.setattr(cli, "hand_out", hand_out)
        monkeypatch.setattr(cli, "wheel", lambda _: WHEEL)
        monkeypatch.setattr(cli, "address", lambda _: None)
        return given

    def test_self_study_into_the_usual_folder(self, called, tmp_path):
        done = CliRunner().invoke(cli.main, ["assignments"])
        assert done.exit_code == 0, done.output
        root = tmp_path / "repository"
        assert called["places"] == (root, root / "_build" / "assignments")
        assert called["course"] == course.OPEN
        assert called["library"] == WHEEL

    def test_course_of_a_seed_that_is_kept_elsewhere(self, called, tmp_path):
        (tmp_path / "seed").write_text(f"{SEED}\n")
        options = ["--seed", str(tmp_path / "seed"), "--out", str(tmp_path / "out")]
        done = CliRunner().invoke(cli.main, ["assignments", *options])
        assert done.exit_code == 0, done.output
        assert called["course"] == course.course_of(SEED)
        assert called["places"][1] == tmp_path / "out"

    def test_seed_in_the_repository_is_refused_in_one_line(self, called, tmp_path):
        (tmp_path / "repository/seed").write_text(f"{SEED}\n")
        done = CliRunner().invoke(cli.main, ["assignments", "--seed", "seed"])
        assert done.exit_code == 1
        assert "outside the repository" in done.output
        assert not called


# ------------------------------------------------------------------ for those who teach


def test_solution_sheet_runs_and_has_no_hidden_tests(out, tmp_path):
    sheet = read(out / "solutions/0_toy.ipynb")
    words = json.dumps(sheet)
    assert "BEGIN" not in words
    assert "Exercise(" not in words
    assert "np.sum(x**2) + penalty" in words
    values = next(text(cell) for cell in sheet["cells"] if cell["id"] == "noise-share-values")
    assert values == "Here `practice` is 0.166667, `answer` is 0.031746, `rest` is 0.968254."
    cells = {"show": "print(ridge_slope([1.0], [2.0], 1.0), share(2.0, 0.5))"}
    assert run(with_more(sheet, cells), tmp_path)["show"].startswith("1.0 0.16")


def test_pages_need_nothing_else(out):
    for path in out.rglob("*.html"):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        assert not page.find_all(["script", "link", "img"])
        assert page.find("h1")
        assert page.find("html")["lang"] == "en"


def test_rubric_names_points_criteria_mistakes_and_hints(out, assignment):
    rubric = (out / "rubrics/0_toy.md").read_text(encoding="utf-8")
    assert f"{toy_course.POINTS} points" in rubric
    for item in assignment.items:
        for criterion in item.tests.rubric:
            assert criterion.given_for in rubric
        for mistake in item.tests.mistakes:
            assert f"| {mistake.name} | {mistake.loses} | {mistake.hint} |" in rubric


def test_gradebook_knows_all_points(out):
    with sqlite3.connect(out / "autograder/gradebook.db") as book:
        (points,) = book.execute("select sum(max_score) from grade_cells").fetchone()
    assert points == toy_course.POINTS


def test_a_pipe_in_a_text_does_not_break_a_table():
    assert handout.row("a|b", 1) == "| a\\|b | 1 |"


# ------------------------------------------------------------------ what is refused


@pytest.fixture
def quick(monkeypatch):
    """Release the sources as they are: these tests are not about what nbgrader does."""

    def generate(folder, names):
        for name in names:
            (folder / "release" / name).mkdir(parents=True)
            book = read(folder / "source" / name / f"{name}.ipynb")
            for cell in book["cells"]:
                for words in (source.BEGIN, source.HIDDEN_BEGIN):
                    cell["source"] = text(cell).partition(words)[0]
            (folder / "release" / name / f"{name}.ipynb").write_text(json.dumps(book))

    monkeypatch.setattr(release, "generate", generate)


@pytest.mark.usefixtures("quick")
def test_second_time_replaces_the_first(tmp_path):
    out = course_in(tmp_path)
    (out / "student/left.txt").write_text("old")
    (out / "mine.txt").write_text("notes")
    course_in(tmp_path)
    assert not (out / "student/left.txt").exists()
    assert {path.name for path in out.iterdir()} == {*release.FOLDERS, "mine.txt"}
    (out / "autograder/submitted/ada").mkdir(parents=True)
    with pytest.raises(ValueError, match="submitted"):
        course_in(tmp_path)


@pytest.mark.usefixtures("quick")
def test_folder_of_somebody_else_is_not_replaced(tmp_path):
    toy_course.write(tmp_path)
    (tmp_path / "out/solutions").mkdir(parents=True)
    (tmp_path / "out/solutions/mine.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not from here"):
        release.hand_out(tmp_path, tmp_path / "out")
    assert (tmp_path / "out/solutions/mine.txt").exists()


def test_place_that_cannot_be_written_is_one_line(tmp_path):
    toy_course.write(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot be written: .*\n?") as caught:
        release.hand_out(tmp_path, tmp_path / "file" / "out")
    assert "\n" not in str(caught.value)


def test_no_assignment_is_said_so(tmp_path):
    with pytest.raises(ValueError, match="no assignment in"):
        release.hand_out(tmp_path, tmp_path / "out")


@pytest.mark.usefixtures("quick")
def test_solution_in_a_statement_is_not_handed_out(tmp_path):
    path = toy_course.write(tmp_path)
    book = read(path)
    statement = next(cell for cell in book["cells"] if cell["id"] == "ridge-slope")
    statement["source"] += toy_course.open_solutions(toy_course.SLOPE)
    path.write_text(json.dumps(book))
    with pytest.raises(ValueError, match="0_toy/ridge-slope-answer"):
        release.hand_out(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_nbgrader_refuses_is_one_line(tmp_path, monkeypatch):
    toy_course.write(tmp_path)
    monkeypatch.setattr(handout, "TESTS", "### BEGIN HIDDEN TESTS")
    with pytest.raises(ValueError, match=r"^nbgrader stopped: .*hidden tests") as caught:
        release.hand_out(tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ the real assignments


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return release.hand_out(ROOT, tmp_path_factory.mktemp("real") / "assignments")


REAL = sorted(path.stem for path in (ROOT / source.FOLDER).glob("*.ipynb"))


def tried(item):
    """Cells of a student who makes a documented mistake, reads the hint, and gets it right."""
    mistake = item.tests.mistakes[0]
    check = f'desk.check("{item.key}", globals())'
    numbers = f'numbers = desk.numbers("{item.key}")'
    return {
        f"{item.key}-wrong": f"{numbers}\n{source.changed(item.answer, mistake)}",
        f"{item.key}-hint": check,
        f"{item.key}-right": f"{numbers}\n{item.answer}",
        f"{item.key}-praise": check,
    }


@pytest.mark.parametrize("name", REAL)
def test_real_assignment_untouched_then_wrong_then_right(real, name, tmp_path):
    assignment = source.assignment(ROOT / source.FOLDER / f"{name}.ipynb")
    cells = {k: v for item in assignment.items for k, v in tried(item).items()}
    printed = run(with_more(read(real / "student" / f"{name}.ipynb"), cells), tmp_path)
    for item in assignment.items:
        lines = [printed[f"{item.key}-{part}"] for part in ("check", "hint", "praise")]
        assert all(line.startswith(f"{item.key}: ") and "\n" not in line for line in lines)
        assert "right on" not in lines[0], lines
        assert "right on" in lines[2], lines


@pytest.mark.parametrize("name", REAL)
def test_real_sheets_are_typeset(real, name):
    for folder in ("solutions", "rubrics"):
        text = (real / folder / f"{name}.html").read_text(encoding="utf-8")
        page = BeautifulSoup(text, "html.parser")
        for code in page.find_all(["pre", "code", "math"]):
            code.decompose()
        assert not re.search(r"\\[a-z]+|\$", page.find("main").get_text()), folder


def test_every_answer_and_argument_of_the_real_solution_sheets_would_be_found(real):
    found = leaks.problems(ROOT, real / "solutions")
    for name in REAL:
        assignment = source.assignment(ROOT / source.FOLDER / f"{name}.ipynb")
        for item in assignment.items:
            cells = [f"{item.key}-answer"]
            cells += [f"{item.key}-derivation"] if item.derivation else []
            for file in (f"{name}.ipynb", f"{name}.html"):
                for cell in cells:
                    assert f"solutions/{file}: holds a piece of {name}/{cell}" in found
