"""The score of a chapter's claims, where a page of prose asks for it.

A line ``<!-- score: 04 -->`` of a page turns into the score of all claims of chapter 4.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from iclkit.bench.claims import Entry
from iclkit.site.cards import score
from iclkit.site.pages import BuildError, Chapter

__all__ = ["put_scores", "with_scores"]

ASKED = re.compile(r"^<!--\s*score\b(.*?)-->$", re.MULTILINE)


def put_scores(folder: Path, entries: Sequence[Entry]) -> None:
    """Write the scores into the pages of a folder that ask for them.

    Parameters
    ----------
    folder : Path
        Where pages in Markdown lie; those that ask for nothing are left alone.
    entries : sequence of Entry
        Every claim.

    Raises
    ------
    BuildError
        As `with_scores`; the message names the page.
    """
    for page in sorted(folder.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if ASKED.search(text):
            page.write_text(with_scores(text, entries, page.name), encoding="utf-8")


def with_scores(text: str, entries: Sequence[Entry], page: str = "a page") -> str:
    """Return a page with the scores that it asks for.

    Parameters
    ----------
    text : str
        Markdown.
    entries : sequence of Entry
        Every claim.
    page : str
        Its name, for messages.

    Raises
    ------
    BuildError
        If it asks for a chapter that has no claims.
    """

    def line(found: re.Match[str]) -> str:
        chapter = found[1].strip(": ")
        own = [e for e in entries if e.claim.notebook.partition("_")[0] == chapter]
        if not own:
            raise BuildError(
                f"{page}: score must name a chapter with claims, such as 04, got {chapter!r}"
            )
        return f"[Ledger](#{Chapter(own[0].claim.notebook).label}): {score(own)}."

    return ASKED.sub(line, text)
