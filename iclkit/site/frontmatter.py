"""The front matter of a notebook: the table under its title, read once and checked.

Readers of the bare notebook see the table; the book shows a card in its place. Which rows a page
must have depends on its place in the table of contents.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from iclkit.site.pages import BuildError

__all__ = ["CHAPTER", "INTRODUCTION", "SECTION", "FrontMatter", "Place", "places", "read"]

CHAPTER, SECTION, INTRODUCTION = "chapter", "section", "introduction"
PAPER, AUTHORS, VENUE = "Paper", "Authors", "Venue"
IDENTIFIERS, CODE = "Identifiers", "Official code"
GOALS, BEFORE, READING = "You will learn to", "Before you start", "Reading time"
PARENTS: Final = ("Belongs to", "Builds on")
STATUS = "Status"

#: Rows that a page of each kind must have.
REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    CHAPTER: (PAPER, AUTHORS, VENUE, IDENTIFIERS, CODE, GOALS, BEFORE, READING),
    SECTION: (GOALS, BEFORE),
    INTRODUCTION: (),
}
KNOWN: Final = (*REQUIRED[CHAPTER], *PARENTS, STATUS)

HEADING = re.compile(r"^# +(.+)$", re.MULTILINE)
TABLE = re.compile(r"\n*((?:^[ \t]*\|.*(?:\n|\Z))+)", re.MULTILINE)
RULE = re.compile(r"\s*:?-+:?\s*")
BARE_PIPE = re.compile(r"(?<!\\)\|")
CITED = re.compile(r"\{cite:?[a-z]*\}`([\w:-]+)`")
VERB = re.compile(r"\*\*([^*]+)\*\*")
WORD = re.compile(r"[A-Za-z]{2,}")
WORDS_A_MINUTE = 75  # what the reading times that authors gave come to, formulas and code included


@dataclass(frozen=True)
class Place:
    """Where a notebook stands in the table of contents: its kind, and its chapter's notebook."""

    kind: str
    chapter: str


@dataclass(frozen=True)
class FrontMatter:
    """A page's title and the rows of its table, in MyST Markdown."""

    name: str
    place: Place
    title: str
    fields: Mapping[str, str]

    @property
    def goals(self) -> tuple[str, ...]:
        """The learning goals, each with its verbs in bold."""
        given = self.fields.get(GOALS, "")
        return tuple(goal.strip() for goal in given.split(";") if goal.strip())

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs of the learning goals, in order, each once."""
        return tuple(dict.fromkeys(verb for goal in self.goals for verb in VERB.findall(goal)))

    @property
    def key(self) -> str | None:
        """The first key that the table cites, the paper's, or None."""
        found = CITED.search(" ".join(self.fields.values()))
        return found[1] if found else None

    @property
    def parent(self) -> str | None:
        """What the page belongs to or builds on, in words, or None."""
        return next((self.fields[row] for row in PARENTS if row in self.fields), None)


def places(toc: Mapping[str, Any], with_claims: set[str]) -> dict[str, Place]:
    """Return the place of every notebook in the table of contents.

    Parameters
    ----------
    toc : dict
        The parsed ``_toc.yml``.
    with_claims : set of str
        Notebooks with claims of a paper: among the chapters these follow a paper, the others
        introduce.
    """
    chapters = [entry for part in toc.get("parts", [toc]) for entry in part.get("chapters", [])]
    found = {}
    for entry in chapters:
        chapter = stem(entry)
        kind = CHAPTER if chapter in with_claims else INTRODUCTION
        found[chapter] = Place(kind, chapter)
        found |= {stem(below): Place(SECTION, chapter) for below in descendants(entry)}
    return found


def stem(entry: Mapping[str, Any]) -> str:
    """Return the name of a page from its entry in the table of contents."""
    return str(entry.get("file", "")).rpartition("/")[2]


def descendants(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the entries below one of the table of contents."""
    for below in entry.get("sections", []):
        yield below
        yield from descendants(below)


def read(name: str, text: str, place: Place) -> tuple[FrontMatter, str, str]:
    """Return the front matter of a page, and what stands before and after its table.

    Parameters
    ----------
    name : str
        The notebook's name, for messages.
    text : str
        The source of its title cell.
    place : Place
        Where the page stands.

    Raises
    ------
    BuildError
        When there is no title, a row is unknown, doubled, broken or missing, or a learning goal
        has no verb.
    """
    heading = HEADING.search(text)
    if heading is None:
        raise BuildError(f"{name}: the first Markdown cell must begin with a title, '# ...'")
    table = TABLE.match(text, heading.end())
    rows = rows_of(name, table[1]) if table else {}
    front = FrontMatter(name, place, heading[1].strip(), rows)
    if found := problem(front):
        raise BuildError(f"{name}: {found}")
    return front, text[: heading.end()], text[table.end() if table else heading.end() :]


def rows_of(name: str, table: str) -> dict[str, str]:
    """Return the rows of a table of two columns; raise BuildError for any other."""
    rows: dict[str, str] = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in BARE_PIPE.split(line.strip().strip("|"))]
        if all(RULE.fullmatch(cell) for cell in cells):
            continue
        if len(cells) != 2:
            raise BuildError(
                rf"{name}: a row of its table must have 2 cells (write a pipe as \|), got {line!r}"
            )
        key, value = (cell.replace(r"\|", "|") for cell in cells)
        if key in rows:
            raise BuildError(f"{name}: its table has two rows {key!r}; keep one")
        rows[key] = value
    return rows


def problem(front: FrontMatter) -> str | None:
    """Return the first thing that is wrong with a page's table, or None."""
    kind, given = front.place.kind, front.fields
    if odd := ", ".join(row for row in given if row not in KNOWN):
        return f"its table has unknown rows: {odd}; known are {', '.join(KNOWN)}"
    if missing := ", ".join(row for row in REQUIRED[kind] if not given.get(row)):
        return f"a {kind} needs these rows in the table under its title: {missing}"
    if kind == SECTION and front.parent is None and PAPER not in given:
        return f"a section needs one of the rows {', '.join(PARENTS)} and {PAPER}"
    if dull := next((goal for goal in front.goals if not VERB.search(goal)), None):
        return f"each goal (up to a semicolon) needs its **verb** in bold, got {dull!r}"
    return None


def reading_time(texts: list[str]) -> str:
    """Return the estimated reading time of Markdown cells, exercises and solutions left out."""
    prose = [t for t in texts if "{exercise" not in t and "{solution" not in t]
    minutes = sum(len(WORD.findall(text)) for text in prose) / WORDS_A_MINUTE
    return f"about {max(5, 5 * round(minutes / 5))} minutes, without the exercises"
