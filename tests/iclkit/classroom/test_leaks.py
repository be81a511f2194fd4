"""What must not be published is found wherever it is planted, and common code is no alarm."""

import base64
import gzip
import html
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from iclkit.classroom import leaks
from iclkit.site import downloads
from tests.iclkit.classroom import toy_course

ROOT = Path(__file__).resolve().parents[3]
SDIST = "import sys; from flit_core.buildapi import build_sdist; print(build_sdist(sys.argv[1]))"
PROJECT = """\
[build-system]
requires = ["flit_core>=3.12,<4"]
build-backend = "flit_core.buildapi"

[project]
name = "iclkit"
version = "0"
description = "A toy."
"""
# What must be found, by the cell that it is of.
PLANTED = {
    "ridge-slope-answer": toy_course.open_solutions(toy_course.SLOPE),
    "noise-share-answer": toy_course.open_solutions(toy_course.SHARE),
    "long-context-answer": toy_course.open_solutions(toy_course.LIMIT),
    "long-context-derivation": toy_course.open_solutions(toy_course.LIMIT_TEXT),
    "ridge-slope-tests": toy_course.SLOPE_TESTS,
    "noise-share-tests": toy_course.SHARE_TESTS,
    "long-context-tests": toy_course.LIMIT_TESTS,
}
# What every other page of a book on regression may hold.
COMMON = [
    "return x",
    "import numpy as np\nx, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)\n",
    "for _ in range(3):\n    rng.normal(size=8), rng.uniform(1, 3)\n",
    "from iclkit.classroom.spec import *\n\nexercise = Exercise(tests=[Values(",
    "Where does the penalty enter? Check the sign of the penalty. A sum became a mean.",
    json.dumps({"alpha": [1.5, 2.5, 3.0, 4.0, 5.0], "rho": [0.05, 0.1, 0.2, 0.3, 0.4]}),
]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    root = tmp_path_factory.mktemp("course")
    toy_course.write(root)
    return root


@pytest.fixture(scope="module")
def secrets(course):
    return leaks.secrets_of(course)


def notebook_of(text):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "source": [text]}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def lines_of(text):
    """A notebook as tools store it: a line of source per string."""
    book = json.loads(notebook_of(""))
    book["cells"][0]["source"] = text.splitlines(keepends=True)
    return json.dumps(book, indent=1)


def packed(text):
    content = json.dumps({"exercises": {"a": {"hints": [text]}}})
    one = base64.b85encode(zlib.compress(content.encode())).decode()
    pieces = "\n".join(f'    "{one[i : i + 88]}"' for i in range(0, len(one), 88))
    return lines_of(f"desk = Desk(\n{pieces},\n    student,\n)")


def page(text):
    return f"<html><body>{highlight(text, PythonLexer(), HtmlFormatter())}</body></html>"


def zipped(name, text, depth=1):
    data = text.encode()
    for _ in range(depth):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        name, data = "inner.zip", file.getvalue()
    return data


def tarred(name, text):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(text.encode())
        archive.addfile(entry, io.BytesIO(text.encode()))
    return file.getvalue()


# How a text can stand in a published file.
CARRIERS = {
    "page.html": page,
    "quoted.html": lambda text: f'<p title="{html.escape(text)}">words</p>',
    "source.md.txt": lambda text: f"# A page\n\n```python\n{text}\n```\n",
    "book.ipynb": notebook_of,
    "lines.ipynb": lines_of,
    "packed.ipynb": packed,
    "script.py": lambda text: f"# %%\n{text}",
    "one-line.js": lambda text: f"const x = {json.dumps(text)};",
    "facts.json": lambda text: json.dumps({"a": [1, {"b": text}]}),
    "bundle.zip": lambda text: zipped("a/b.ipynb", lines_of(text)),
    "twice.zip": lambda text: zipped("a/b.py", text, depth=2),
    "library-1-py3-none-any.whl": lambda text: zipped("library/a.py", text),
    "library-1.tar.gz": lambda text: tarred("library/a.py", text),
}


def put(place, name, content):
    path = place / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("cell", PLANTED)
def test_planted_secret_is_found(course, tmp_path, carrier, cell):
    put(tmp_path, carrier, CARRIERS[carrier](PLANTED[cell]))
    found = leaks.problems(course, tmp_path)
    assert any(f"0_toy/{cell}" in line and carrier in line for line in found), found


@pytest.mark.parametrize("carrier", CARRIERS)
def test_common_code_and_public_hints_are_no_secret(course, tmp_path, carrier):
    for text in COMMON:
        put(tmp_path, carrier, CARRIERS[carrier](text))
        assert leaks.problems(course, tmp_path) == [], text


def test_message_names_file_and_cell_but_gives_nothing_away(course, tmp_path):
    put(tmp_path, "page.html", page(PLANTED["ridge-slope-answer"]))
    (line,) = leaks.problems(course, tmp_path)
    name = f"{tmp_path.name}/page.html"
    assert line == f"{name}: holds a piece of 0_toy/ridge-slope-answer"


def test_half_a_solution_is_found(secrets):
    half = " ".join(PLANTED["ridge-slope-answer"].splitlines()[-2:])
    assert secrets.found(half) == {"0_toy/ridge-slope-answer"}


def test_layout_and_punctuation_do_not_hide_a_solution(secrets):
    text = PLANTED["ridge-slope-answer"].replace("(", "\n(\n  ").replace(",", " ,\n")
    assert secrets.found(text) == {"0_toy/ridge-slope-answer"}


def test_mistakes_and_criteria_alone_are_secrets():
    source = 'Mistake("a", "one two three", "four five", 1, "the hint")\n'
    source += 'Criterion(2, "given for this", not_for="not for that")\n'
    texts = set(leaks.hidden_texts(source))
    assert {"one two three", "four five", "given for this", "not for that"} <= texts
    assert not any("hint" in text for text in texts)


def test_practice_and_numbers_are_public():
    source = 'exercise = Exercise(tests=[f(1)], practice=[("f", (2.5,))], numbers={"a": (7, 8)})'
    assert (
        "".join(leaks.hidden_texts(source))
        == "exercise = Exercise(tests=[f(1)], practice=, numbers=)"
    )


def test_solution_in_a_public_statement_is_found(tmp_path):
    cells = toy_course.notebook()
    statement = next(c for c in cells["cells"] if c["id"] == "ridge-slope")
    statement["source"] += "\n\n" + PLANTED["ridge-slope-answer"]
    path = toy_course.write(tmp_path)
    path.write_text(json.dumps(cells))
    out = tmp_path / "student"
    out.mkdir()
    put(out, "0_toy.ipynb", notebook_of(statement["source"]))
    assert leaks.problems(tmp_path, out)


def test_instructor_s_notebook_is_known_by_its_marks(course, tmp_path):
    put(tmp_path, "any.ipynb", notebook_of("### BEGIN SOLUTION\nx = 1\n### END SOLUTION"))
    assert leaks.problems(course, tmp_path) == [
        f"{tmp_path.name}/any.ipynb: holds an instructor's mark"
    ]


# ------------------------------------------------------------------ the search index


def index(*texts):
    """A search index as Sphinx writes it: stemmed words, and for each the pages."""
    terms = {}
    for number, text in enumerate(texts):
        for word in {word.lower().removesuffix("s") for word in leaks.words(text)}:
            terms.setdefault(word, []).append(number)
    terms = {word: at if len(at) > 1 else at[0] for word, at in terms.items()}
    content = {"docnames": [f"page{i}" for i in range(len(texts))], "terms": terms}
    return f"Search.setIndex({json.dumps(content | {'titleterms': {}})})"


def test_words_of_hidden_tests_are_found_in_the_search_index(course, tmp_path):
    other = "The penalty of a slope, drawn and sorted on another page."
    for cell in ("ridge-slope-tests", "noise-share-tests", "long-context-tests"):
        put(tmp_path, "searchindex.js", index(other, f"Words before. {PLANTED[cell]}"))
        found = leaks.problems(course, tmp_path)
        assert [line for line in found if f"0_toy/{cell} (page page1)" in line], found


def test_words_scattered_over_pages_are_no_leak(course, tmp_path):
    words = leaks.words(PLANTED["ridge-slope-tests"])
    put(tmp_path, "searchindex.js", index(" ".join(words[::2]), " ".join(words[1::2])))
    assert leaks.problems(course, tmp_path) == []


# ------------------------------------------------------------------ fails closed


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("0_toy.ipynb", "{"),
        ("0_toy.ipynb", '{"cells": [{}]}'),
        ("0_toy.ipynb", json.dumps({"cells": "none"})),
    ],
)
def test_without_readable_secrets_nothing_can_be_said(tmp_path, name, content):
    toy_course.write(tmp_path).with_name(name).write_text(content)
    with pytest.raises(ValueError, match=r"0_toy\.ipynb cannot be searched for secrets"):
        leaks.secrets_of(tmp_path)


def test_hidden_tests_that_are_no_python_are_named(tmp_path):
    path = toy_course.write(tmp_path)
    path.write_text(path.read_text().replace("exercise = Exercise(", "exercise = = ("))
    with pytest.raises(ValueError, match="0_toy/ridge-slope-tests cannot be searched"):
        leaks.secrets_of(tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "a.whl", "a.tar.gz"])
def test_an_archive_that_does_not_open_is_no_clean_one(course, tmp_path, name):
    put(tmp_path, name, gzip.compress(b"no archive"))
    with pytest.raises(ValueError, match=f"{name} cannot be searched for secrets"):
        leaks.problems(course, tmp_path)


# ------------------------------------------------------------------ packages


def project(place):
    """A small project with the layout of the real one."""
    toy_course.write(place)
    (place / "pyproject.toml").write_text(PROJECT)
    (place / "iclkit").mkdir()
    (place / "iclkit/__init__.py").write_text('"""A toy."""\n')
    return place


def packages(root, out):
    """The wheel and the sdist of a project."""
    out.mkdir()
    made = downloads.wheel(root)
    put(out, made.name, made.data)
    env = os.environ | {"SOURCE_DATE_EPOCH": str(downloads.EPOCH)}
    subprocess.run([sys.executable, "-c", SDIST, str(out)], cwd=root, check=True, env=env)
    return sorted(out.iterdir())


def test_secret_planted_into_wheel_and_sdist_is_found(tmp_path):
    place = project(tmp_path)
    assert leaks.problems(place, *packages(place, tmp_path / "clean")) == []
    (place / "iclkit/solved.py").write_text(PLANTED["ridge-slope-answer"])
    (place / "iclkit/data.ipynb").write_text(json.dumps(toy_course.notebook()))
    found = leaks.problems(place, *packages(place, tmp_path / "dist"))
    for end in (".whl/iclkit/solved.py", "-0/iclkit/solved.py", "-0/iclkit/data.ipynb"):
        assert [line for line in found if f"{end}: holds" in line], (end, found)


def test_real_packages_hold_no_solution(tmp_path):
    made = packages(ROOT, tmp_path / "dist")
    assert {path.suffix for path in made} == {".whl", ".gz"}
    assert leaks.problems(ROOT, *made) == []


def test_package_of_all_tracked_files_leaves_the_instructors_notebooks_out():
    from flit_core.sdist import SdistBuilder

    files = ["pyproject.toml", "LICENSE", "README.md", "iclkit/__init__.py", "run.py"]
    builder = SdistBuilder.from_ini_path(ROOT / "pyproject.toml")
    chosen = builder.apply_includes_excludes([*files, "notebooks/assignments/0_warm_up.ipynb"])
    assert set(chosen) == set(files)


# ------------------------------------------------------------------ the real assignments


@pytest.fixture(scope="module")
def real():
    return leaks.secrets_of(ROOT)


REAL = sorted((ROOT / leaks.FOLDER).glob("*.ipynb"))


@pytest.mark.parametrize("path", REAL, ids=lambda p: p.stem)
def test_every_real_secret_would_be_found(real, path):
    for cell in leaks.cells_of(path):
        data = leaks.grade(cell)
        if data.get("solution") or data.get("grade"):
            name = f"{path.stem}/{data['grade_id']}"
            assert name in real.found(leaks.MARK.sub("", cell["source"])), name


def test_built_book_and_library_hold_no_solution():
    places = [ROOT / "iclkit", ROOT / "book", ROOT / "_build" / "html"]
    zips = sorted((ROOT / "_build").glob("*.zip"))
    assert leaks.problems(ROOT, *[place for place in places if place.exists()], *zips) == []
