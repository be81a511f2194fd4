"""What the pages of a book share, and the making of each page's card from it.

Read once per build: the table of contents, the references, the citation, the library's wheel, and
what git knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from iclkit import __version__
from iclkit.bench.archive import KeptRun
from iclkit.bench.claims import Entry
from iclkit.bench.runner import Manifest, commit
from iclkit.site import cards, downloads, frontmatter, history
from iclkit.site.cards import Citation, Page
from iclkit.site.frontmatter import FrontMatter, Place
from iclkit.site.history import Log
from iclkit.site.pages import BuildError

__all__ = ["Catalogue", "put_card", "title_cell"]

NOTEBOOKS = "notebooks"


@dataclass(frozen=True)
class Catalogue:
    """What the pages of a book share.

    Parameters
    ----------
    root, staging : Path
        The repository, and the folder in which the book is laid out.
    entries : tuple of Entry
        Every claim.
    kept : tuple of KeptRun
        Runs at paper size.
    places : dict of Place
        By notebook.
    library : Wheel
    references : str
        The BibTeX file.
    citation : Citation
        How to cite the book.
    place : str, optional
        The public address of the repository.
    commit : str
        What the pages are made from.
    log : Log
        The changes of the notebooks.
    ref : str, optional
        Under which others find the notebooks `public`; None without an address.
    public : frozenset of str
    """

    root: Path
    staging: Path
    entries: tuple[Entry, ...]
    kept: tuple[KeptRun, ...]
    places: Mapping[str, Place]
    library: downloads.Wheel
    references: str
    citation: Citation
    place: str | None
    commit: str
    log: Log
    ref: str | None
    public: frozenset[str]

    @classmethod
    def of(
        cls, root: Path, staging: Path, entries: Sequence[Entry], kept: Sequence[KeptRun]
    ) -> "Catalogue":
        """Return the catalogue of the repository as it is now.

        Raises
        ------
        BuildError
            When the citation is not in order or the library cannot be built.
        """
        toc = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
        with_claims = {entry.claim.notebook for entry in entries}
        place = history.address(root)
        ref = history.launch_ref(root, __version__) if place else None
        return cls(
            root=root,
            staging=staging,
            entries=tuple(entries),
            kept=tuple(kept),
            places=frontmatter.places(toc, with_claims),
            library=downloads.wheel(root),
            references=(root / "book" / "references.bib").read_text(encoding="utf-8"),
            citation=Citation.of(root),
            place=place,
            commit=commit(root),
            log=history.read_log(root, NOTEBOOKS),
            ref=ref,
            public=history.paths_at(root, ref, NOTEBOOKS) if ref else frozenset(),
        )

    def page(self, manifest: Manifest, source: Mapping[str, Any]) -> Page:
        """Return what is known of a page, and write its downloads; its data must be there.

        Raises
        ------
        BuildError
            When its front matter is not in order.
        """
        name = manifest.notebook
        front = self.front(name, source)
        path = f"{NOTEBOOKS}/{name}.ipynb"
        texts = ["".join(c["source"]) for c in source["cells"] if c["cell_type"] == "markdown"]
        offered = downloads.offer(self.root, name, self.staging, self.library, front.title)
        return Page(
            front=front,
            manifest=manifest,
            entries=self.claims_of({name}),
            chapter_entries=self.claims_of(self.chapter_of(front)),
            reading=frontmatter.reading_time(texts),
            at_paper_size=self.at_paper_size(name),
            downloads=tuple(offered),
            launch=self.launch(name, source),
            history=self.log.of(path),
            place=self.place,
            bibtex=self.bibtex(front),
        )

    def launch(self, name: str, source: Mapping[str, Any]) -> dict[str, str]:
        """Return the links that open a notebook as others find it, where they do."""
        ref = self.ref if f"{NOTEBOOKS}/{name}.ipynb" in self.public else None
        return cards.launch_links(self.place, ref, name, alone=installs(source, self.place, ref))

    def rank(self, name: str) -> int:
        """Return the place of a notebook in the table of contents."""
        if name not in self.places:
            raise BuildError(f"notebooks/{name} is not in the table of contents, book/_toc.yml")
        return list(self.places).index(name)

    def front(self, name: str, source: Mapping[str, Any]) -> FrontMatter:
        """Return the front matter of a notebook."""
        text = "".join(title_cell(name, source["cells"])["source"])
        return frontmatter.read(name, text, self.places[name])[0]

    def chapter_of(self, front: FrontMatter) -> set[str]:
        """Return the notebooks of a chapter, or the section alone: its chapter has the sum."""
        if front.place.kind == frontmatter.SECTION:
            return {front.name}
        return {name for name, at in self.places.items() if at.chapter == front.name}

    def claims_of(self, names: set[str]) -> tuple[Entry, ...]:
        """Return the claims of some notebooks."""
        return tuple(entry for entry in self.entries if entry.claim.notebook in names)

    def at_paper_size(self, name: str) -> Mapping[str, Any] | None:
        """Return the manifest of a notebook's kept run, or None."""
        return next((k.manifest for k in self.kept if k.manifest["notebook"] == name), None)

    def bibtex(self, front: FrontMatter) -> tuple[str, ...]:
        """Return the entries to cite: of the paper where the page has one, and of the page."""
        paper = [cards.paper_entry(self.references, front.key)] if front.key else []
        return (*paper, cards.page_entry(front, self.citation, self.commit, self.place))


def installs(notebook: Mapping[str, Any], place: str | None, ref: str | None) -> bool:
    """Return whether a notebook alone installs the library that stands at `ref` of `place`."""
    return f'"git+{place}@{ref}"' in "".join(notebook["cells"][0]["source"])


def title_cell(name: str, cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the first Markdown cell, which holds the title; raise BuildError without one."""
    found = next((cell for cell in cells if cell["cell_type"] == "markdown"), None)
    if found is None:
        raise BuildError(f"{name}: has no Markdown cell, so it has no title")
    return found


def put_card(cells: Sequence[dict[str, Any]], page: Page) -> None:
    """Put the card in the place of the table in the title cell, which is changed."""
    cell = title_cell(page.name, cells)
    _, before, after = frontmatter.read(page.name, "".join(cell["source"]), page.front.place)
    cell["source"] = f"{before}\n\n{cards.card(page)}\n\n{after.lstrip()}"
