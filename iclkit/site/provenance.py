"""Where each figure comes from: the folded line under it, its files, and the list of figures.

What is said is read from the run, not typed: the library calls, the settings and a program that
makes the figure alone are cut from the notebook's code by `iclkit.site.slices`; times, seed and
commit stand in the run's records. Everything is MyST Markdown between the tags of a ``details``
element, so that links, formulas and search work, with JavaScript or without.
"""

import ast
import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from iclkit import __version__
from iclkit.bench.records import FIGURE_MIME
from iclkit.bench.runner import Manifest, Run, read_notebook
from iclkit.site.pages import Chapter, markdown_cell
from iclkit.site.slices import Call, Code, Show, Statement, library_calls, shows, statements

__all__ = ["FigurePage", "figures_page", "origin", "program", "under_figures"]

#: Formulas of the interactive figures: what the tests compare each script with.
LIVE = {
    "dual": (
        "iclkit.papers.dual_kernel",
        ("attend", "zero_shot_model", "leave_one_out", "feature_attention", "output_variance"),
    ),
    "block": (
        "iclkit.papers.linear_block",
        ("optimal_attention", "gap_bounds", "gd_zero", "bayes_exact", "bayes_equivalent"),
    ),
    "mixing": (
        "iclkit.papers.data_mixing",
        ("linear_equivalent", "random_mlp_equivalent", "best_mixture"),
    ),
    "phase": ("iclkit.papers.phase_transition", ("learning_curve", "effective_ridge")),
}
LIVE_ROOT = re.compile(r'<div class="(\w+)-diagram">')
NOT_DATA = ("iclkit.bench.plots.", "iclkit.bench.claims.")  # they draw and check
WORDS = {"name", "caption", "alt"}  # what `plots.show` gets beside figure and data
ENDINGS = ("csv", "svg", "py")
FILES = ("data (CSV)", "figure (SVG)", "program (Python)")
FILES_SHORT = ("data", "SVG", "program")
WIDEST = 88  # characters of code in one entry
MOST = 12  # settings in one list
CLAUSE = re.compile(r"(?:\$[^$]*\$|`[^`]*`|[^.:$`]|[.:](?! |$))*")
SENTENCE = re.compile(r"(?:\$[^$]*\$|`[^`]*`|[^.$`]|\.(?! |$))*\.?")
OPEN = """\
```{{raw}} html
<details class="provenance" id="{anchor}"><summary>Provenance of <code>{name}</code></summary>
```

"""
CLOSE = """
```{raw} html
</details>
```
"""
SCRIPT = '```{raw} html\n<script src="../_static/report.js"></script>\n```\n'
PROGRAM = '''\
"""Figure {name} of "In-Context Learning, Reproduced", made alone.

Cut from notebooks/{page}.ipynb by the build of the book: profile {profile}, seed {seed},
iclkit {version}, commit {commit}. Needs iclkit with its extra "bench".
Writes {files} into the current folder.
"""

'''
FIGURES_HEAD = """\
# Figures

Every figure of the book with what it repeats or that it is new, and three files of each: the
plotted numbers, the figure as SVG, ready for slides, and a program that makes both with the
library alone.
The line *Provenance* under each figure says which library calls made it, with which settings,
in how many seconds.

"""


class Place(NamedTuple):
    """What all figures of a page share: its run, API names, the repository's address."""

    manifest: Manifest
    documented: frozenset[str] = frozenset()
    address: str | None = None

    @property
    def page(self) -> str:
        """The notebook's name."""
        return self.manifest.notebook


@dataclass(frozen=True)
class Figure:
    """One figure: its record, its picture, its cell, and the code that it needs."""

    record: Mapping[str, Any]
    svg: str
    cell: str
    code: Code
    show: Show | None

    @property
    def name(self) -> str:
        """The id, which is also the anchor on the page."""
        return str(self.record["name"])

    @cached_property
    def data_nodes(self) -> list[ast.AST]:
        """What of the call that shows it carries the picture and the numbers."""
        if self.show is None:
            return []
        words = [k.value for k in self.show.call.keywords if k.arg not in WORDS]
        return [*self.show.call.args, *words]

    @cached_property
    def places(self) -> list[int]:
        """The statements that make its picture and numbers, without the one that shows it."""
        return self.slice(self.data_nodes)

    @cached_property
    def numbers(self) -> list[Statement]:
        """The statements that make its numbers alone."""
        words = self.show.call.keywords if self.show else []
        data = [k.value for k in words if k.arg == "data"]
        return [self.code.statements[p] for p in self.slice(data or self.data_nodes)]

    def slice(self, nodes: Iterable[ast.AST]) -> list[int]:
        """Return the statements behind expressions of the call that shows it."""
        names = {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}
        return self.code.slice(names, self.show.at) if self.show else []

    @cached_property
    def calls(self) -> list[Call]:
        """The library calls behind its numbers."""
        nodes = [*(self.code.statements[p].node for p in self.places), *self.data_nodes]
        found = library_calls(nodes, self.code)
        return [call for call in dict.fromkeys(found) if not call.name.startswith(NOT_DATA)]

    @cached_property
    def cells(self) -> list[str]:
        """Its cell, then the other cells that hold statements that it needs."""
        chosen = [self.code.statements[place] for place in self.places]
        used = [s.cell for s in chosen if not isinstance(s.node, ast.Import | ast.ImportFrom)]
        return list(dict.fromkeys([self.cell, *used]))


@dataclass(frozen=True)
class FigurePage:
    """The figures of one executed notebook."""

    place: Place
    figures: tuple[Figure, ...]
    live: tuple[str, ...]
    seconds: Mapping[str, float]

    @classmethod
    def of(
        cls, cells: Sequence[Mapping[str, Any]], executed: Mapping[str, Any], place: Place
    ) -> "FigurePage":
        """Return the figures of a page from its cells, which have outputs, and the run's copy."""
        code = statements(cells)
        shown = {show.name: show for show in shows(code)}
        found = tuple(
            Figure(r, svg, cell, code, shown.get(r["name"])) for r, svg, cell in records(cells)
        )
        live = tuple(name for cell in cells for name in live_figures(cell))
        return cls(place, found, live, seconds_of(executed))


def records(
    cells: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """Yield record, picture and cell of every figure in the outputs."""
    for cell in cells:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {})
            if FIGURE_MIME in bundle:
                yield bundle[FIGURE_MIME], "".join(bundle.get("image/svg+xml", "")), cell["id"]


def seconds_of(executed: Mapping[str, Any]) -> dict[str, float]:
    """Return how long each cell of an executed notebook took, where papermill says so."""
    times = {c["id"]: c["metadata"].get("papermill", {}).get("duration") for c in executed["cells"]}
    return {cell: float(time) for cell, time in times.items() if time is not None}


def under_figures(
    cells: Sequence[Mapping[str, Any]],
    executed: Mapping[str, Any],
    place: Place,
    folder: Path,
) -> dict[str, list[dict[str, Any]]]:
    """Return the cells that follow the figures of a page, by the id of the figure's cell.

    Parameters
    ----------
    cells : list of dict
        The cells of the page with their outputs, figure records included.
    executed : dict
        The notebook that ran, with papermill's times.
    place : Place
        Its run, what the API pages document, the repository's address.
    folder : pathlib.Path
        Where data, picture and program of each figure are written; links lead to
        ``data/<its name>/`` beside the page.
    """
    page = FigurePage.of(cells, executed, place)
    below: dict[str, list[dict[str, Any]]] = {}
    for figure in page.figures:
        write_files(figure, page, folder)
        text = figure_text(figure, page)
        below.setdefault(figure.cell, []).append(markdown_cell(text, f"made-{figure.name}"))
    for cell in cells:
        for name in live_figures(cell):
            text = live_text(name, place)
            below.setdefault(cell["id"], []).append(markdown_cell(text, f"made-live-{name}"))
    if below:
        below[list(below)[-1]].append(markdown_cell(SCRIPT, "report-script"))
    return below


def live_figures(cell: Mapping[str, Any]) -> list[str]:
    """Return the names of the interactive figures in a cell."""
    found = LIVE_ROOT.findall("".join(cell["source"])) if cell["cell_type"] == "markdown" else []
    return [name for name in found if name in LIVE]


def write_files(figure: Figure, page: FigurePage, folder: Path) -> None:
    """Write the plotted numbers, the picture and the program of a figure."""
    texts = {
        "csv": figure.record.get("csv"),
        "svg": figure.svg,
        "py": program(figure, page.place) if figure.show else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for ending, text in texts.items():
        if text:
            (folder / f"{figure.name}.{ending}").write_text(text, encoding="utf-8", newline="")


def program(figure: Figure, place: Place) -> str:
    """Return a program that writes the picture and the data of a figure, and nothing else."""
    show, code, made = figure.show, figure.code, place.manifest
    if show is None:
        raise ValueError(f"figure must be shown by plots.show, {figure.name} is not")
    statement = code.statements[show.at]
    places = code.slice(statement.names.reads, show.at)
    files = [f"{figure.name}.{e}" for e in ("svg", *(["csv"] if figure.record.get("csv") else []))]
    head = PROGRAM.format(
        name=figure.name,
        page=place.page,
        profile=made.profile,
        seed=made.seed,
        version=__version__,
        commit=made.commit,
        files=" and ".join(files),
    )
    needed = "from pathlib import Path\nfrom iclkit.bench.records import FIGURE_MIME\n"
    shown = statement.text.replace("plots.show(", "bundle = plots.figure_bundle(", 1)
    return head + needed + code.program(places) + f"\n\n{shown}\n" + writes(files)


def writes(files: Sequence[str]) -> str:
    """Return the statements that write a figure's files."""
    parts = {"svg": 'bundle["image/svg+xml"]', "csv": 'bundle[FIGURE_MIME]["csv"]'}
    line = 'Path("{}").write_text({}, encoding="utf-8", newline="")\n'
    return "".join(line.format(file, parts[file.rpartition(".")[2]]) for file in files)


def figure_text(figure: Figure, page: FigurePage) -> str:
    """Return what stands under a figure, as MyST Markdown."""
    place = page.place
    fields = {
        "Figure": f"{{numref}}`{figure.name}`, at the address `#{figure.name}` of this page.",
        "Shows": sentence(origin(figure.record["caption"])),
        "Library calls": listed(calls_text(figure.calls, place.documented)),
        "Settings": listed(settings(figure, place.manifest.profile)),
        "Run": f"{run_text(place.manifest)} {seconds_text(figure, page.seconds)}",
        "Files": downloads(figure, f"data/{place.page}/") + ".",
    }
    return details(figure.name, figure.name, fields, place)


def live_text(name: str, place: Place) -> str:
    """Return what stands under an interactive figure."""
    module, functions = LIVE[name]
    calls = [Call(f"{module}.{function}", None) for function in functions]
    script = f"{{download}}`{name}_theory.js <../book/_static/{name}_theory.js>`"
    fields = {
        "Figure": "Interactive; nothing in it was computed beforehand.",
        "Formulas": f"{script}, run in your browser. The tests of this book compare it with:",
        "Library": listed(calls_text(calls, place.documented)),
        "Settings": "The sliders; the address of the page keeps them.",
        "Version": f"iclkit {__version__}, commit `{place.manifest.commit}`.",
    }
    return details(f"live-{name}", f"{name}-diagram", fields, place)


def details(anchor: str, name: str, fields: Mapping[str, str], place: Place) -> str:
    """Return fields and the report of a figure between the tags of a ``details`` element."""
    body = "".join(f":{key}: {text}\n" for key, text in fields.items() if text)
    opened = OPEN.format(anchor=f"{anchor}-provenance", name=name)
    return opened + body + "\n" + report(name, place) + CLOSE


def report(name: str, place: Place) -> str:
    """Return the link or the lines with which a reader reports a problem with a figure."""
    lines = report_lines(name, place)
    if place.address:
        query = urlencode({"title": f"Figure {name}", "body": "\n".join(lines)}, quote_via=quote)
        inner = f'<a href="{place.address}/issues/new?{html.escape(query)}">{REPORT}</a>'
    else:
        inner = f"<span>{REPORT}; these lines belong into it:</span>"
    text = html.escape("\n".join(lines))
    block = f'<div class="figure-report"><p>{inner}</p>\n<pre>{text}</pre></div>'
    return f"```{{raw}} html\n{block}\n```\n"


REPORT = "Report a problem with this figure"


def report_lines(name: str, place: Place) -> list[str]:
    """Return what a report must say for others to see the same figure."""
    made = place.manifest
    return [
        f"Figure: {name}",
        f"Page: notebooks/{place.page}",
        f"Version: iclkit {__version__}, commit {made.commit}",
        f"Run: profile {made.profile}, seed {made.seed}, {made.date}, {made.machine}",
        "Problem: ",
    ]


def origin(caption: str) -> str:
    r"""Return what a figure repeats, or that it is new or an illustration; empty if unsaid.

    Parameters
    ----------
    caption : str
        It says so in its first words, up to a colon or full stop.

    Examples
    --------
    >>> origin(r"Figure 1 C of the paper: a fresh task, $\alpha=10$. Lines: theory.")
    'Figure 1 C of the paper'
    >>> origin("New here: the gap.")
    'New here'
    >>> origin("A line.")
    ''
    """
    found = CLAUSE.match(caption)
    clause = found[0] if found else ""
    if clause.startswith(("New here", "Illustration")):
        return clause
    if "of the paper" in clause or "the paper's" in clause:
        return clause + (", as an illustration" if "Illustration." in caption else "")
    return ""


def kind(caption: str) -> str:
    """Return the kind of a figure by its caption: one of `KINDS`."""
    said = origin(caption).lower()
    if "new here" in said.partition("(the")[0]:
        return "new here"
    return "illustration" if "illustration" in said or not said else "of the paper"


KINDS = ("of the paper", "new here", "illustration")


def sentence(text: str) -> str:
    """Return `text` with a full stop, if there is any."""
    return f"{text}." if text else ""


def listed(entries: Sequence[str]) -> str:
    """Return entries as the body of a field: one line, or a list."""
    if len(entries) < 2:
        return "".join(entries)
    return "\n" + "\n".join(f"  - {entry}" for entry in entries)


def calls_text(calls: Iterable[Call], documented: frozenset[str]) -> list[str]:
    """Return one entry for each function: its name, linked, and how it is called."""
    by_name: dict[str, list[str]] = {}
    for call in calls:
        name = shortened(call.name, documented)
        if name in documented or call.arguments is not None:
            entry = by_name.setdefault(name, [])
            entry += [call.arguments] if call.arguments else []
    return [call_text(name, found, name in documented) for name, found in by_name.items()]


def shortened(name: str, documented: frozenset[str]) -> str:
    """Return the documented function or class that a dotted name begins with, or the name."""
    parts = name.split(".")
    heads = (".".join(parts[:n]) for n in range(len(parts), 1, -1))
    return next((head for head in heads if head in documented), name)


def call_text(name: str, arguments: Sequence[str], linked: bool) -> str:
    """Return a function, linked to its description, with the arguments of its first call."""
    short = name.rpartition(".")[2]
    shown = f"{{py:obj}}`{short} <{name}>`" if linked else f"`{short}`"
    more = len(dict.fromkeys(arguments)) - 1
    with_arguments = f" {code(f'({arguments[0]})')}" if arguments else ""
    return shown + with_arguments + (f" and {more} more" if more > 0 else "")


def code(text: str) -> str:
    """Return a line of code as Markdown, cut to a readable length."""
    line = " ".join(text.split())
    line = line if len(line) <= WIDEST else f"{line[: WIDEST - 4]} ..."
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def settings(figure: Figure, profile: str) -> list[str]:
    """Return the assignments that carry the numbers of a figure: sizes, grids, parameters."""
    entries = [*sizes_used(figure, profile), *plain_numbers(figure)]
    lines = [code(entry) for entry in dict.fromkeys(entries)]
    more = len(lines) - MOST
    return lines[:MOST] + ([f"and {more} more in the program"] if more > 0 else [])


def plain_numbers(figure: Figure) -> Iterator[str]:
    """Yield assignments of numbers that no library call computes."""
    for statement in figure.numbers:
        node = statement.node
        if not isinstance(node, ast.Assign) or library_calls([node], figure.code):
            continue
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if has_number(node.value) and not names & {"sizes", "profile", "seed"}:
            yield ast.unparse(node) if "#" in statement.text else statement.text


def has_number(node: ast.expr) -> bool:
    """Return whether an expression holds a number that is no index."""
    inside = {id(n.slice) for n in ast.walk(node) if isinstance(n, ast.Subscript)}
    return any(
        isinstance(n, ast.Constant) and type(n.value) in (int, float) and id(n) not in inside
        for n in ast.walk(node)
    )


def sizes_used(figure: Figure, profile: str) -> Iterator[str]:
    """Yield the sizes of the profile that a figure reads."""
    chosen = sizes_of(figure.code, profile)
    for statement in figure.numbers:
        for part in ast.walk(statement.node):
            if isinstance(part, ast.Subscript) and ast.unparse(part.value) == "size":
                key = getattr(part.slice, "value", None)
                if key in chosen:
                    yield f"size[{key!r}] = {chosen[key]}"


def sizes_of(code: Code, profile: str) -> dict[str, str]:
    """Return the sizes of a profile as the notebook writes them, by name.

    Notebooks write ``sizes = {name: {profile: value}}`` or ``size = {profile: {name: value}}``.
    """
    for statement in code.statements:
        node = statement.node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("size", "sizes"):
            value = node.value.value if isinstance(node.value, ast.Subscript) else node.value
            table = {k: entries(v) for k, v in entries(value).items()}
            turned = {k: v[profile] for k, v in table.items() if profile in v}
            chosen = table.get(profile, turned)
            return {key: ast.unparse(value) for key, value in chosen.items()}
    return {}


def entries(node: ast.expr) -> dict[str, ast.expr]:
    """Return the entries of a dict display by their literal keys."""
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    return {str(k.value): v for k, v in pairs if isinstance(k, ast.Constant)}


def run_text(made: Manifest) -> str:
    """Return profile, seed, version and commit of a run."""
    return (
        f"Profile `{made.profile}`, seed {made.seed}, iclkit {__version__}, commit `{made.commit}`."
    )


def seconds_text(figure: Figure, seconds: Mapping[str, float]) -> str:
    """Return how long a figure's cell took, and the cells that it needs."""
    own, *others = (seconds.get(cell) for cell in figure.cells)
    if own is None:
        return ""
    known = [time for time in others if time is not None]
    before = {1: "the earlier cell"}.get(len(known), f"the {len(known)} earlier cells")
    needs = f", {before} that it needs {told(sum(known))}" if known else ""
    return f"Its cell took {told(own)}{needs}."


def told(seconds: float) -> str:
    """Return a time in seconds with two digits, at least to a tenth."""
    if seconds < 0.05:
        return "under 0.1 s"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def downloads(figure: Figure, folder: str, words: Sequence[str] = FILES) -> str:
    """Return the links to the files of a figure below `folder`, named by `words`."""
    there = (bool(figure.record.get("csv")), bool(figure.svg), figure.show is not None)
    links = [
        f"{{download}}`{word} <{folder}{figure.name}.{ending}>`"
        for word, ending, found in zip(words, ENDINGS, there, strict=True)
        if found
    ]
    return ", ".join(links)


def documented(root: Path) -> frozenset[str]:
    """Return the functions and classes that the API pages of a repository describe."""
    pages = [p.read_text(encoding="utf-8") for p in sorted((root / "book").glob("api*.md"))]
    modules = [name for page in pages for name in re.findall(r"automodule:: ([\w.]+)", page)]
    return frozenset(f"{module}.{name}" for module in modules for name in callables(root, module))


def callables(root: Path, module: str) -> list[str]:
    """Return the public functions and classes of a module, read from its files."""
    place = root.joinpath(*module.split("."))
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    head = texts[place / "__init__.py" if place.is_dir() else place.with_suffix(".py")]
    listed = re.search(r"^__all__ = (\[.*?\])", head, re.DOTALL | re.MULTILINE)
    made = {n for t in texts.values() for n in re.findall(r"^(?:def|class) (\w+)", t, re.MULTILINE)}
    return [name for name in ast.literal_eval(listed[1]) if name in made] if listed else []


def figures_page(runs: Iterable[Run]) -> str:
    """Return the page that lists all figures, as MyST Markdown."""
    pages = [FigurePage.of(nb["cells"], nb, Place(run.manifest)) for run, nb in read(runs)]
    shown = [page for page in pages if page.figures]
    return FIGURES_HEAD + counts_table(shown) + "".join(map(page_section, shown))


def read(runs: Iterable[Run]) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Yield runs with their notebooks."""
    for run in runs:
        yield run, read_notebook(run.path)


def counts_table(pages: Sequence[FigurePage]) -> str:
    """Return the table of kinds of figures by page, with the sum."""
    rows = {link(page): Counter(kind(f.record["caption"]) for f in page.figures) for page in pages}
    rows["all"] = sum(rows.values(), Counter())
    head = "| Page | repeats or follows the paper | new here | illustration |\n"
    body = [
        f"| {name} | " + " | ".join(str(row[k]) for k in KINDS) + " |\n"
        for name, row in rows.items()
    ]
    return head + "| --- | ---: | ---: | ---: |\n" + "".join(body) + "\n"


def link(page: FigurePage) -> str:
    """Return a link to a page by its title."""
    return f"{{doc}}`../notebooks/{page.place.page}`"


def page_section(page: FigurePage) -> str:
    """Return the figures of one page."""
    title = Chapter(page.place.page).title
    items = [item(figure, page.place.page) for figure in page.figures]
    items += [f"Interactive: the {name} diagram in {link(page)}." for name in page.live]
    return f"## {title}\n\n" + "".join(f"- {text}\n" for text in items) + "\n"


def item(figure: Figure, page: str) -> str:
    """Return one figure of the list: number, first sentence, files."""
    first = SENTENCE.match(figure.record["caption"])
    files = downloads(figure, f"../notebooks/data/{page}/", FILES_SHORT)
    return f"{{numref}}`{figure.name}`. {first[0] if first else ''} {files}"
