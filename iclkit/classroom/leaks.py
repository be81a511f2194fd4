"""Search what is published for pieces of solutions, hidden tests, arguments and rubrics.

A secret is a run of words: what stands between an instructor's marks, in the notebook as stored;
nothing is executed. A published file holds a secret if it holds some `WINDOW` words of it in a
row, however they are set: as text, as HTML, in JSON, in an archive, or packed for the desk. Words
alone are compared, so that markup, line ends and punctuation do not matter.

What students get anyway is no secret: hints, practice calls, choices of numbers.
"""

import ast
import base64
import binascii
import html
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Secrets", "problems", "secrets_of"]

#: Words in a row that are a piece of a secret by themselves.
LONG: Final = 16
#: Shorter secrets count whole from so many words on, but then two of one cell are needed.
SHORT: Final = 8
#: Different words that a piece needs: `for i in range(n)` twice is no secret.
VARIED: Final = 6
#: Share of a cell's own words that a search index must have for one page, how many there must be,
#: and how many of them no other page may have.
INDEXED: Final = 0.9
INDEX_WORDS: Final = 4
INDEX_RARE: Final = 2

FOLDER = Path("notebooks") / "assignments"
WORD = re.compile(r"[^\W_]\w*|\d+")
TAG = re.compile(r"<[^<>]*>")
FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$]+\$", re.DOTALL)
SOLUTION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)
HIDDEN = re.compile(r"### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS", re.DOTALL)
MARK = re.compile(r"^\s*### BEGIN (SOLUTION|HIDDEN TESTS)\s*$", re.MULTILINE)
INDEX = re.compile(r"Search\.setIndex\((\{.*\})\)", re.DOTALL)
PACKED = re.compile(r"[!#-&(-+\-0-9;-Z^-z{-~]{60,}")  # runs of base85's signs, base64's among them
MARKUP = (".html", ".htm", ".svg", ".xml")
JOINT = re.compile(r'"\s*\n\s*"')
PUBLIC_PARTS = ("practice", "numbers", "seconds", "megabytes", "uses", "rubric")
DEEPEST = 3
SEED = 20_240  # of the hash's factors, which only have to be fixed
Words = tuple[str, ...]


class Secret(NamedTuple):
    """A run of words that must not be published, and the cell that it is of."""

    of: str
    words: Words


class Piece(NamedTuple):
    """A part of a secret that is looked for: the cell, and the number of the run if it is short."""

    of: str
    short: int = -1


@dataclass(frozen=True)
class Secrets:
    """Everything that must not be published, ready to be searched for.

    Parameters
    ----------
    vocabulary : dict of str to int
        The words, numbered from one.
    pieces : dict of int to dict
        By length: the pieces, by their hash.
    needed : dict of str to int
        How many different short runs of a cell tell that it leaked.
    own : dict of str to frozenset
        The words of each cell that are public in no assignment.
    """

    vocabulary: Mapping[str, int]
    pieces: Mapping[int, Mapping[int, Piece]]
    needed: Mapping[str, int]
    own: Mapping[str, frozenset[str]]

    def found(self, text: str) -> set[str]:
        """Return the cells of which a text holds a piece."""
        numbers = np.array([self.vocabulary.get(word, 0) for word in WORD.findall(text)], np.uint64)
        hits = {piece for length in self.pieces for piece in self._found(numbers, length)}
        short = Counter(piece.of for piece in hits if piece.short >= 0)
        long = {piece.of for piece in hits if piece.short < 0}
        return long | {name for name, count in short.items() if count >= self.needed[name]}

    def _found(self, numbers: NDArray[np.uint64], length: int) -> Iterator[Piece]:
        known = self.pieces[length]
        unknown = np.cumsum(np.concatenate([[0], numbers == 0]))
        whole = np.flatnonzero(unknown[length:] == unknown[:-length])  # no other word in between
        made = hashes(numbers, length)[whole] if len(whole) else ()
        yield from (known[number] for number in map(int, made) if number in known)

    def indexed(self, terms: Mapping[str, Any], pages: Sequence[str]) -> Iterator[str]:
        """Yield the cells whose own words a search index has for one page."""
        where = {term: set(at if isinstance(at, list) else [at]) for term, at in terms.items()}
        for name, own in self.own.items():
            places = [set().union(*(where.get(s, ()) for s in stems(word))) for word in own]
            for page in range(len(pages)):
                here = [place for place in places if page in place]
                rare = sum(len(place) == 1 for place in here)
                enough = len(here) >= INDEXED * len(own) and rare >= INDEX_RARE
                if len(own) >= INDEX_WORDS and enough:
                    yield f"{name} (page {pages[page]})"


def hashes(numbers: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Return a hash of every run of so many words."""
    count = len(numbers) - length + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    factors = np.random.default_rng(SEED).integers(1, 2**63, length, np.uint64) * 2 + 1
    total = np.zeros(count, np.uint64)
    for i in range(length):
        total += numbers[i : i + count] * factors[i]  # modulo 2**64
    return total


# ------------------------------------------------------------------ what is secret


def secrets_of(root: Path) -> Secrets:
    """Return the secrets of all assignments of a repository.

    Raises
    ------
    ValueError
        When a notebook cannot be read: then nothing can be said about leaks.
    """
    notebooks = {path.stem: cells_of(path) for path in sorted((root / FOLDER).glob("*.ipynb"))}
    secrets = [one for name, cells in notebooks.items() for one in secret_runs(name, cells)]
    public = [run for cells in notebooks.values() for run in public_runs(cells)]
    pieces = [
        (Piece(one.of, -1 if len(one.words) >= LONG else number), words)
        for number, one in enumerate(secrets)
        for words in pieces_of(one.words)
    ]
    vocabulary = {word: i for i, word in enumerate(sorted({w for _, p in pieces for w in p}), 1)}
    long = {piece.of for piece, _ in pieces if piece.short < 0}
    short = Counter(piece.of for piece, _ in pieces if piece.short >= 0)
    needed = {name: 2 if name in long else min(2, count) for name, count in short.items()}
    return Secrets(vocabulary, by_length(pieces, vocabulary), needed, own_words(secrets, public))


def cells_of(path: Path) -> list[dict[str, Any]]:
    """Return the cells of an instructor's notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [cell | {"source": "".join(cell["source"])} for cell in cells]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} cannot be searched for secrets: {error!r}") from error


def grade(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what nbgrader knows of a cell."""
    return cell.get("metadata", {}).get("nbgrader", {})


def secret_runs(name: str, cells: Iterable[Mapping[str, Any]]) -> Iterator[Secret]:
    """Yield the secrets of a notebook: solutions, arguments, hidden tests, mistakes, rubrics."""
    for cell in cells:
        where = f"{name}/{grade(cell).get('grade_id', cell.get('id'))}"
        hidden = HIDDEN.findall(cell["source"])
        try:
            parts = [run for text in hidden for run in hidden_texts(text)]
        except SyntaxError as error:
            raise ValueError(f"{where} cannot be searched for secrets: {error}") from error
        solutions = SOLUTION.findall(cell["source"])
        if grade(cell).get("solution") and not solutions:
            solutions = [cell["source"]]  # nbgrader takes the whole cell out
        if cell["cell_type"] == "markdown":
            solutions += [part for text in solutions for part in FORMULA.split(text)]
        yield from (Secret(where, words(text)) for text in [*solutions, *parts])


def hidden_texts(source: str) -> Iterator[str]:
    """Yield the secret pieces of hidden tests: code between texts, mistakes' texts, criteria."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    named = [(getattr(call.func, "id", ""), call) for call in calls]
    public = [k.value for n, c in named if n == "Exercise" for k in c.keywords if is_public(k)]
    strings = [node for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)]
    texts = [node for node in strings if isinstance(getattr(node, "value", ""), str)]
    yield from cut(source, [*public, *texts])
    for name, call in named:
        if name in ("Mistake", "Criterion"):
            yield from mistake_texts(name, call)


def is_public(keyword: ast.keyword) -> bool:
    """Return whether students get this part of an exercise."""
    return keyword.arg in PUBLIC_PARTS


def mistake_texts(name: str, call: ast.Call) -> Iterator[str]:
    """Yield the texts of a documented mistake, or of a criterion, that are for teachers only."""
    given = dict(enumerate(call.args)) | {keyword.arg: keyword.value for keyword in call.keywords}
    secret = (1, 2, "old", "new") if name == "Mistake" else (1, 2, "given_for", "not_for")
    nodes = [given[key] for key in secret if key in given]
    yield from (str(n.value) for n in nodes if isinstance(n, ast.Constant))


def cut(source: str, nodes: Iterable[ast.expr]) -> list[str]:
    """Return the pieces of a source between some of its nodes."""
    lines = source.encode().splitlines(keepends=True)
    begin = np.cumsum([0, *map(len, lines)])
    kept = bytearray(b"".join(lines))
    for node in nodes:
        first = begin[node.lineno - 1] + node.col_offset
        last = begin[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        kept[first:last] = bytes(last - first)
    return [part for part in kept.decode().split("\0") if part]


def public_runs(cells: Iterable[Mapping[str, Any]]) -> Iterator[Words]:
    """Yield what students get of a notebook."""
    for cell in cells:
        if not (grade(cell).get("solution") and not SOLUTION.search(cell["source"])):
            yield from map(words, SOLUTION.sub("\0", HIDDEN.sub("\0", cell["source"])).split("\0"))
        yield from map(words, cell["metadata"].get("exercise", {}).get("help", ()))


def words(text: str) -> Words:
    """Return the words of a text, in order.

    Examples
    --------
    >>> words("return np.sum(x_1 * y) / 2.5e-3")
    ('return', 'np', 'sum', 'x_1', 'y', '2', '5e', '3')
    """
    return tuple(WORD.findall(text))


def windows(run: Words, length: int) -> Iterator[Words]:
    """Yield all pieces of one length."""
    return (run[i : i + length] for i in range(len(run) - length + 1))


def pieces_of(run: Words) -> list[Words]:
    """Return the pieces of a secret that tell enough."""
    made = windows(run, min(len(run), LONG)) if len(run) >= SHORT else ()
    return [piece for piece in made if len(set(piece)) >= VARIED]


def by_length(
    pieces: Iterable[tuple[Piece, Words]], vocabulary: Mapping[str, int]
) -> dict[int, dict[int, Piece]]:
    """Return the pieces' hashes by length."""
    made: dict[int, dict[int, Piece]] = {}
    for piece, run in pieces:
        numbers = np.array([vocabulary[word] for word in run], np.uint64)
        made.setdefault(len(run), {})[int(hashes(numbers, len(run))[0])] = piece
    return made


def own_words(secrets: Iterable[Secret], public: Iterable[Words]) -> dict[str, frozenset[str]]:
    """Return the words that only the secrets of a cell have, as a search index keeps words."""
    known = {word.lower() for run in public for word in run}
    made: dict[str, set[str]] = {}
    for one in secrets:
        found = {word.lower() for word in one.words if len(word) > 3 and word[0].isalpha()}
        made.setdefault(one.of, set()).update(found - known)
    return {name: frozenset(found) for name, found in made.items()}


def stems(word: str) -> set[str]:
    """Return the forms in which a search index may keep a word.

    Examples
    --------
    >>> sorted(stems("query"))
    ['qu', 'que', 'quer', 'queri', 'query']
    """
    return {word[: len(word) - cut] for cut in range(4)} | {word[:-1] + "i"}


# ------------------------------------------------------------------ where it is searched for


def problems(root: Path, *places: Path) -> list[str]:
    """Return one line per file that holds something secret.

    Parameters
    ----------
    root : Path
        The repository, with the instructors' notebooks.
    *places : Path
        Folders and files that are published; archives are opened.
    """
    secrets, known = secrets_of(root), {}
    lines = []
    for name, data in (one for place in places for one in files_of(place)):
        content = (Path(name).suffix, data)  # the same file often stands in many places
        if content not in known:
            known[content] = sorted(held(name, data, secrets))
        lines += [f"{name}: {what}" for what in known[content]]
    return lines


def files_of(place: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder, or one file; those in archives one by one."""
    for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if path.is_file():
            yield from members(path.relative_to(place.parent).as_posix(), path.read_bytes())


def members(name: str, data: bytes, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield a file, or the files in it if it is an archive."""
    kinds = [opened for ends, opened in ARCHIVES.items() if name.endswith(ends)]
    if not kinds or depth == DEEPEST:
        yield name, data
        return
    try:
        inner = kinds[0](io.BytesIO(data))
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{name} cannot be searched for secrets: {error!r}") from error
    for below, content in inner:
        yield from members(f"{name}/{below}", content, depth + 1)


def unzipped(file: io.BytesIO) -> list[tuple[str, bytes]]:
    """Return the files of a zip archive."""
    with zipfile.ZipFile(file) as archive:
        return [(e.filename, archive.read(e)) for e in archive.infolist() if not e.is_dir()]


def untarred(file: io.BytesIO) -> list[tuple[str, bytes]]:
    """Return the files of a tar archive."""
    with tarfile.open(fileobj=file) as archive:
        files = [(entry.name, archive.extractfile(entry)) for entry in archive if entry.isfile()]
        return [(name, opened.read()) for name, opened in files if opened is not None]


ARCHIVES: Final = {(".zip", ".whl"): unzipped, (".tar.gz", ".tgz", ".tar"): untarred}


def held(name: str, data: bytes, secrets: Secrets) -> set[str]:
    """Return what is secret in a file."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return set()
    seen = list(views(name, text))
    found = {f"holds a piece of {what}" for view in seen for what in secrets.found(view)}
    if name.endswith(".ipynb") and any(MARK.search(view) for view in seen):
        found.add("holds an instructor's mark")
    if index := INDEX.search(text):
        known = json.loads(index[1])
        terms = known.get("terms", {}) | known.get("titleterms", {})
        found |= {f"holds the words of {x}" for x in secrets.indexed(terms, known["docnames"])}
    return found


def views(name: str, text: str) -> Iterator[str]:
    """Yield a text as it stands, as it reads, and what is packed in it."""
    plain = readable(name, text)
    yield text
    if plain != text:
        yield plain
    for packed in PACKED.findall(JOINT.sub("", plain)):
        yield from unpacked(packed)


def readable(name: str, text: str) -> str:
    """Return a text without its markup and its escapes."""
    if name.endswith((".json", ".ipynb")):
        text = "\n".join(strings(text))
    elif not name.endswith(MARKUP) and "\\n" in text:
        text = text.replace("\\n", "\n").replace('\\"', '"')
    return html.unescape(TAG.sub(" ", text)) if "</" in text else text


def strings(text: str) -> Iterator[str]:
    """Yield all strings of a JSON text; lines of a list belong together."""
    try:
        found = json.loads(text)
    except ValueError:
        return
    stack = [found]
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list) and all(isinstance(part, str) for part in one):
            yield "".join(one)
        elif isinstance(one, list | dict):
            stack += one.values() if isinstance(one, dict) else one


def unpacked(packed: str) -> Iterator[str]:
    """Yield what a run of signs holds, if it is a text packed with zlib."""
    for decode in (base64.b85decode, base64.b64decode):
        try:
            data = decode(packed)
            yield readable("packed.json", zlib.decompress(data).decode("utf-8"))
        except (ValueError, binascii.Error, zlib.error):
            continue
