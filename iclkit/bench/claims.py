"""The claims ledger: sentences of the papers, checked by the notebooks, failing closed.

The text of every claim lives once, in ``iclkit/data/claims.toml``. A notebook loads its part,
checks each claim exactly once, and closes the ledger; the rows travel in the notebook's outputs.
How a claim is compared with numbers is the business of `iclkit.bench.checks`.
"""

import html
import json
import math
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from iclkit._checks import choice, instance, real_array, shown
from iclkit.bench.checks import FAMILY, KINDS, Data, Outcome, perform
from iclkit.bench.records import CLAIM_MIME

__all__ = [
    "DIFFERS",
    "FAILS",
    "HOLDS",
    "ICONS",
    "NOT_ATTEMPTED",
    "NOT_RUN",
    "PROFILES",
    "Claim",
    "Entry",
    "Ledger",
    "LedgerError",
    "Row",
    "Table",
    "collect",
    "load_claims",
    "merge",
    "not_claimed",
    "profile_slice",
]

PROFILES: Final = ("quick", "book", "paper")
HOLDS, DIFFERS, FAILS = "holds", "differs", "fails"
NOT_ATTEMPTED, NOT_RUN = "not attempted", "not run"

#: A character for each verdict, so that no verdict is told by colour alone.
ICONS: Final[dict[str, str]] = {
    HOLDS: "\N{CHECK MARK}",
    DIFFERS: "\N{NOT EQUAL TO}",
    FAILS: "\N{BALLOT X}",
    NOT_ATTEMPTED: "\N{WHITE CIRCLE}",
    NOT_RUN: "\N{WHITE CIRCLE}",
}

_ORIGINS: Final = ("released code", "released data", "derived here", "new here", "recalled")
_NOT_CLAIMED: Final = "not_claimed"
MOST_NAMED: Final = 60  # characters of a file's name in a message
SAY: Final = "say what is missing"
_RELATIONS: Final = {"below": "below", "above": "above", "order": "after"}


class LedgerError(RuntimeError):
    """The ledger does not add up; one line per problem."""


@dataclass(frozen=True)
class Claim:
    """One sentence that a computer can check, as written in the claims file.

    Parameters
    ----------
    id, notebook, source, text : str
        Name, the chapter that checks it, where the paper says it, and the sentence.
    origin : str
        Where our knowledge of it comes from: ``"released code"`` or ``"released data"`` of the
        authors, ``"derived here"`` (and checked), ``"new here"``, or ``"recalled"`` (unverified).
    expect : str
        ``"holds"``, ``"differs"`` or ``"not attempted"``; the last two need a `note`.
    check : str, optional
        The kind of check, a key of `iclkit.bench.checks.KINDS`.
    tolerance : float, "family" or dict of these by profile, optional
        The limit of the score; ``sigmas`` and ``limit`` default to ``"family"``.
    why : str
        The reason for the tolerance; required with one.
    note : str
        What was tried and why it came out so, or why it was not attempted.
    needs : str
        What a machine may lack, such as a package with data; only a claim that says so may be
        skipped by a run, see `Ledger.skip`.

    Raises
    ------
    ValueError
        If a field is missing, unknown in value, or a tolerance has no reason.
    """

    id: str
    notebook: str
    source: str
    text: str
    origin: str
    expect: str = HOLDS
    check: str | None = None
    tolerance: float | str | Mapping[str, float | str] | None = None
    why: str = ""
    note: str = ""
    needs: str = ""

    def __post_init__(self) -> None:
        if problem := _claim_problem(self):
            raise ValueError(f"claim {self.id}: {problem}")

    @property
    def runnable(self) -> bool:
        """Whether a run has to check this claim."""
        return self.expect != NOT_ATTEMPTED

    def limit_in(self, profile: str) -> float | str:
        """Return the tolerance in `profile`.

        Raises
        ------
        ValueError
            If the profile is unknown.
        """
        _profile(profile)
        if isinstance(self.tolerance, Mapping):
            return self.tolerance[profile]
        return FAMILY if self.tolerance is None else self.tolerance


@dataclass(frozen=True)
class Row:
    """One checked claim: the worst of its comparisons, the limit, the verdict.

    `verdict` is ``"holds"``, ``"differs"`` (a documented deviation, still there), ``"fails"``, or
    ``"not attempted"`` with the `reason` of a run that skipped the claim.
    Numbers that do not exist or are not finite are NaN here and null in JSON. `also` holds
    further numbers worth showing; they decide nothing.
    """

    id: str
    notebook: str
    profile: str
    check: str
    verdict: str
    score: float
    limit: float
    unit: str
    resolution: float
    comparisons: int
    measured: float
    expected: float
    stderr: float
    also: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def __repr__(self) -> str:
        return f"{self.id} {self.verdict}: {self.detail}"

    @property
    def detail(self) -> str:
        """What was measured, or why nothing was, in one line."""
        if self.verdict == NOT_ATTEMPTED:
            return f"not attempted in this run: {self.reason}"
        worst = "" if self.comparisons == 1 else f" (worst of {self.comparisons})"
        parts = [f"{self._measured()}{worst}"]
        parts += [] if self._obvious() else [self._score()]
        if self.resolution != 0:  # counts and strict orderings have none
            parts.append(f"resolution {_percent(self.resolution)}")
        parts += [f"{name} {_number(value)}" for name, value in self.also.items()]
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the row as a dict of JSON values; the reason only where there is one."""
        record = _without_nan(asdict(self))
        return record if self.reason else {k: v for k, v in record.items() if k != "reason"}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Row":
        """Return the row that `to_json` wrote.

        Raises
        ------
        LedgerError
            If a field is missing or not known.
        """
        names = {f.name for f in fields(cls)}
        if odd := ", ".join(sorted((record.keys() | {"reason"}) ^ names)):
            raise LedgerError(f"{record.get('id', '?')}: the row's fields do not fit: {odd}")
        return cls(**{name: _with_nan(name, value) for name, value in record.items()})

    def to_html(self, text: str) -> str:
        """Return a badge for the claim's `text`: icon, word, sentence, numbers; no colours."""
        return (
            f'<div class="{_css(self)}" id="claim-{self.id.lower()}" role="note">'
            f'<span class="iclkit-icon" aria-hidden="true">{ICONS[self.verdict]}</span> '
            f"<strong>{self.id} {self.verdict}.</strong> "
            f'<span class="iclkit-text tex2jax_process mathjax_process">{_math(text)}</span> '
            f'<span class="iclkit-detail">{html.escape(self.detail)}</span></div>'
        )

    def bundle(self, text: str) -> dict[str, Any]:
        """Return the mime bundle that a notebook shows and a build reads.

        The claim's sentence is in the badge only: pages take it from the claims file, so that
        editing a sentence reruns nothing.
        """
        return {
            "text/plain": repr(self),
            "text/html": self.to_html(text),
            CLAIM_MIME: self.to_json(),
        }

    def _ipython_display_(self) -> None:
        """Show nothing: `Ledger.check` has shown the row, and a second copy would count twice."""

    def _measured(self) -> str:
        error = f" \N{PLUS-MINUS SIGN} {_number(self.stderr)}" if self.stderr > 0 else ""
        word = _RELATIONS.get(self.check, "expected")
        return f"measured {_number(self.measured)}{error}, {word} {_number(self.expected)}"

    def _obvious(self) -> bool:
        """Whether the two numbers say by themselves how the comparison comes out."""
        return self.check in ("above", "below") and self.limit == 0 and self.unit == "relative"

    def _score(self) -> str:
        return f"score {_number(self.score)} {self.unit}, limit {_number(self.limit)}"


@dataclass(frozen=True)
class Entry:
    """A claim beside its row, if a run has one."""

    claim: Claim
    row: Row | None = None

    @property
    def verdict(self) -> str:
        """The row's verdict, or ``"not attempted"``, or ``"not run"``."""
        if self.row is not None:
            return self.row.verdict
        return NOT_RUN if self.claim.runnable else NOT_ATTEMPTED


@dataclass(frozen=True)
class Table:
    """Rows to look at, in the notebook as HTML and elsewhere as text."""

    rows: tuple[Row, ...]

    def __repr__(self) -> str:
        return "\n".join(repr(row) for row in self.rows)

    def _repr_html_(self) -> str:
        heads = "".join(f'<th scope="col">{h}</th>' for h in ("claim", "verdict", "result"))
        body = "".join(_table_row(row) for row in self.rows)
        return (
            f'<table class="iclkit-ledger"><thead><tr>{heads}</tr></thead>'
            f"<tbody>{body}</tbody></table>"
        )


@dataclass(frozen=True)
class Ledger:
    """The claims of one notebook in one profile, and the rows checked so far.

    Examples
    --------
    >>> claim = Claim("T-1", "demo", "nowhere", "One is one.", "new here", check="close",
    ...               tolerance=1e-12, why="rounding")
    >>> ledger = Ledger("demo", "quick", (claim,))
    >>> ledger.check("T-1", measured=1.0, expected=1.0).verdict
    'holds'
    >>> len(ledger.close().rows)
    1
    """

    notebook: str
    profile: str
    claims: tuple[Claim, ...]
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        _profile(self.profile)

    @classmethod
    def load(cls, notebook: str, profile: str, *, path: Path | None = None) -> "Ledger":
        """Return the empty ledger of `notebook`.

        Parameters
        ----------
        notebook : str
            Name without suffix, for example ``"04_phase_transition"``.
        profile : {"quick", "book", "paper"}
        path : Path, optional
            Another claims file than the one in the package.

        Raises
        ------
        LedgerError
            If the file has no claim of this notebook.
        ValueError
            If the profile is unknown or the file is not in order.
        TypeError
            If the notebook's name is no text.
        """
        profile, notebook = _profile(profile), _notebook(notebook)
        claims = tuple(_claims_of(notebook, path))
        if not claims:
            raise LedgerError(f"no claim belongs to the notebook {shown(notebook)}")
        return cls(notebook, profile, claims)

    def check(
        self,
        id: str,  # noqa: A002  # the name in the claims file
        *,
        measured: Any,
        expected: Any = None,
        stderr: Any = None,
        size: Any = None,
        x: Any = None,
        at: Any = None,
        replicates: Any = None,
        also: Mapping[str, float] | None = None,
    ) -> Row:
        """Compare numbers with the claim `id`, note the row and show it.

        Parameters
        ----------
        id : str
            A claim of this notebook that is meant to be run.
        measured, expected, stderr, size, x, at : optional
            Scalars or arrays; which are needed depends on the kind of check, see
            `iclkit.bench.checks`.
        replicates : int or array of int, optional
            How many repetitions each `stderr` is estimated from; the smallest counts. Needed
            wherever there are few, because an error estimated from few is often too small.
        also : dict of float, optional
            Further numbers to show beside the result; they decide nothing.

        Returns
        -------
        Row
            Its verdict may be ``"fails"``; `close` raises then.

        Raises
        ------
        LedgerError
            If the claim is unknown here or is not meant to be run.
        ValueError
            If the arguments do not fit the kind of check.
        TypeError
            If an argument is of no such kind at all.
        """
        claim, also = self._claim(id), _also(also)
        data = Data(measured, expected, stderr, size, x, at, replicates)
        outcome = perform(str(claim.check), claim.limit_in(self.profile), data)
        row = _row(claim, self.profile, outcome, also)
        self.rows.append(row)
        _show(row, claim.text)
        return row

    def skip(self, id: str, reason: str) -> Row:  # noqa: A002  # as in `check`
        """Note that this run cannot check the claim `id`, and show why; in the place of a check.

        Parameters
        ----------
        id : str
            A claim of this notebook whose entry says what it `needs`.
        reason : str
            What this machine lacks, for the reader.

        Returns
        -------
        Row
            Its verdict is ``"not attempted"``.

        Raises
        ------
        LedgerError
            If the claim is unknown here, is not meant to be run, or needs nothing special: then
            it must be checked.
        ValueError
            If there is no reason.
        """
        claim = self._claim(id)
        if not claim.needs:
            raise LedgerError(f"{id}: its entry names nothing that it needs; check it")
        if not instance("reason", reason, str, SAY):
            raise ValueError(f"{id}: reason must not be empty; {SAY}")
        row = _skipped(claim, self.profile, reason)
        self.rows.append(row)
        _show(row, claim.text)
        return row

    def close(self) -> Table:
        """Return the rows, after checking that every claim was checked once and as expected.

        A claim that may be skipped may have been, once.

        Raises
        ------
        LedgerError
            Naming each claim that was not checked, checked more than once, or failed.
        """
        if problems := _problems(self.notebook, self.claims, self.rows):
            raise LedgerError("\n".join(problems))
        return Table(tuple(self.rows))

    def _claim(self, claim_id: str) -> Claim:
        instance("id", claim_id, str, "take it from the claims file")
        found = [claim for claim in self.claims if claim.id == claim_id]
        if not found:
            raise LedgerError(f"id {shown(claim_id)}: not a claim of {self.notebook}")
        if not found[0].runnable:
            raise LedgerError(f"{claim_id}: entered as not attempted; change expect to check it")
        return found[0]


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Return every claim of the claims file, in its order.

    Parameters
    ----------
    path : Path, optional
        Default: the file in the package.

    Raises
    ------
    ValueError
        If a table has a missing or unknown field, or a claim is not in order.
    """
    tables = _read(path)
    return tuple(_claim(name, table) for name, table in tables.items() if name != _NOT_CLAIMED)


def not_claimed(notebook: str, path: Path | None = None) -> tuple[str, ...]:
    """Return the sentences that readers often infer and the notebook's paper does not say."""
    table = _read(path).get(_NOT_CLAIMED, {})
    if not isinstance(table, Mapping):
        found = shown(table)
        raise ValueError(f"{_NOT_CLAIMED} must be a table of lists of sentences, got {found}")
    return tuple(table.get(_notebook(notebook), ()))


def profile_slice(notebook: str, profile: str, path: Path | None = None) -> str:
    """Return what of the claims file can change a run of `notebook`, as canonical JSON.

    Parameters
    ----------
    notebook : str
        Name without suffix.
    profile : {"quick", "book", "paper"}
        The run's profile; tolerances of the others are left out.
    path : Path, optional
        Another claims file than the one in the package.

    Raises
    ------
    ValueError
        If the profile is unknown or the file is not in order.

    Notes
    -----
    These are the fields ``check`` and ``expect`` of its claims, their tolerances in `profile` and
    whether they may be skipped; texts, sources and notes are not among them.
    """
    _profile(profile)
    claims = _claims_of(notebook, path)
    kept = {c.id: [c.check, c.expect, c.limit_in(profile), bool(c.needs)] for c in claims}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def collect(
    notebook: str, executed: Mapping[str, Any], *, profile: str, path: Path | None = None
) -> list[Row]:
    """Return the rows that an executed notebook left in its outputs.

    Parameters
    ----------
    notebook : str
        Name without suffix.
    executed : dict
        The notebook, parsed from JSON.
    profile : {"quick", "book", "paper"}
        The profile of the run: rows of another one do not count.
    path : Path, optional
        Another claims file than the one in the package.

    Raises
    ------
    LedgerError
        Unless each runnable claim of the notebook is there exactly once, as expected, and every
        row is of this notebook and this profile.
    """
    _profile(profile)
    claims, rows = _claims_of(notebook, path), _rows_in(executed)
    problems = _strangers(notebook, profile, rows) + _problems(notebook, claims, rows)
    if problems:
        raise LedgerError("\n".join(problems))
    return rows


def merge(rows: Iterable[Row], *, path: Path | None = None) -> list[Entry]:
    """Return every claim of the file beside its row, in the file's order.

    Raises
    ------
    LedgerError
        If two rows have the same claim, or a row has none.
    """
    claims = load_claims(path)
    if not isinstance(rows, Iterable):
        raise TypeError(f"rows must be a list of rows, got {shown(rows)}")
    rows = [instance("rows", row, Row, "get them from collect") for row in rows]
    known = {claim.id for claim in claims}
    problems = [f"{row.id}: not in the claims file" for row in rows if row.id not in known]
    problems += [f"{name}: {n} rows" for name, n in Counter(r.id for r in rows).items() if n > 1]
    if problems:
        raise LedgerError("\n".join(problems))
    by_id = {row.id: row for row in rows}
    return [Entry(claim, by_id.get(claim.id)) for claim in claims]


def _read(path: Path | None) -> dict[str, Any]:
    source = files("iclkit") / "data" / "claims.toml" if path is None else _path(path)
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        name = " ".join(source.name.split())[:MOST_NAMED]
        remedy = "restore it or correct the path"
        raise ValueError(f"{name} cannot be read: {why}; {remedy}") from error


def _path(path: Path | str) -> Path:
    if not isinstance(path, Path | str):
        raise TypeError(f"path must name a claims file, got {shown(path)}")
    return Path(path)


def _claims_of(notebook: str, path: Path | None) -> list[Claim]:
    name = _notebook(notebook)
    return [claim for claim in load_claims(path) if claim.notebook == name]


def _notebook(name: str) -> str:
    return str(instance("notebook", name, str, "give its name without suffix"))


def _rows_in(executed: Mapping[str, Any]) -> list[Row]:
    if not isinstance(executed, Mapping) or not isinstance(executed.get("cells"), list):
        raise TypeError(f"executed must be a notebook read from JSON, got {shown(executed)}")
    outputs = [output for cell in executed["cells"] for output in cell.get("outputs", ())]
    bundles = [output.get("data", {}) for output in outputs]
    return [Row.from_json(bundle[CLAIM_MIME]) for bundle in bundles if CLAIM_MIME in bundle]


def _also(also: Mapping[str, float] | None) -> dict[str, float]:
    """Return further numbers to show; NaN is one that does not exist."""
    if not isinstance(also, Mapping | None):
        raise TypeError(f"also must be a dict of numbers, got {shown(also)}")
    found = {name: real_array("also", value) for name, value in (also or {}).items()}
    if many := [name for name, value in found.items() if value.ndim]:
        raise ValueError(f"also must hold one number per name, got several for {shown(many[0])}")
    return {name: float(value) for name, value in found.items()}


def _claim(name: str, table: Mapping[str, Any]) -> Claim:
    if not isinstance(table, Mapping):
        raise ValueError(f"claim {name}: must be a table, got {shown(table)}")
    try:
        return Claim(id=name, **table)
    except TypeError as error:
        raise ValueError(f"claim {name}: {str(error).split('__init__() ')[-1]}") from error


def _claim_problem(claim: Claim) -> str | None:
    """Return the first thing that is wrong with the claim, or None."""
    others = {f.name: getattr(claim, f.name) for f in fields(claim) if f.name != "tolerance"}
    for name, value in others.items():
        if not isinstance(value, str) and (name, value) != ("check", None):
            return f"{name} must be text, got {shown(value)}"
    tests = {
        f"origin must be one of {_ORIGINS}, got {shown(claim.origin)}": (
            claim.origin not in _ORIGINS
        ),
        "text, source and notebook must not be empty": not all(
            (claim.text, claim.source, claim.notebook)
        ),
        f"expect must be holds, differs or not attempted, got {shown(claim.expect)}": (
            claim.expect not in (HOLDS, DIFFERS, NOT_ATTEMPTED)
        ),
        f"expect = {claim.expect!r} needs a note": claim.expect != HOLDS and not claim.note,
    }
    general = next((line for line, wrong in tests.items() if wrong), None)
    return general or (_check_problem(claim) if claim.runnable else None)


def _check_problem(claim: Claim) -> str | None:
    if claim.check not in KINDS:
        return f"check must be one of {', '.join(KINDS)}, got {shown(claim.check)}"
    if claim.tolerance is None:
        return None if KINDS[claim.check].in_sigmas else f"{claim.check} needs a tolerance"
    if not claim.why:
        return "a tolerance needs a why"
    given = claim.tolerance
    if isinstance(given, Mapping) and set(given) != set(PROFILES):
        return f"tolerance must have exactly the profiles {', '.join(PROFILES)}"
    values = given.values() if isinstance(given, Mapping) else [given]
    return next((line for value in values if (line := _tolerance_problem(value))), None)


def _tolerance_problem(value: Any) -> str | None:
    if isinstance(value, str) and value == FAMILY:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and value >= 0:
        return None
    return f'tolerance must be a number >= 0 or "family", got {shown(value)}'


def _profile(profile: str) -> str:
    return str(choice("profile", profile, PROFILES))


def _row(claim: Claim, profile: str, outcome: Outcome, also: Mapping[str, float]) -> Row:
    numbers = outcome._asdict()
    passed = numbers.pop("passed")
    return Row(
        id=claim.id,
        notebook=claim.notebook,
        profile=profile,
        check=str(claim.check),
        verdict=_verdict(claim, passed, _decisive(claim, outcome.score, outcome.resolution)),
        also=also,
        **numbers,
    )


def _skipped(claim: Claim, profile: str, reason: str) -> Row:
    kind = str(claim.check)
    return Row(
        id=claim.id,
        notebook=claim.notebook,
        profile=profile,
        check=kind,
        verdict=NOT_ATTEMPTED,
        score=math.nan,
        limit=math.nan,
        unit=KINDS[kind].unit,
        resolution=math.nan,
        comparisons=0,
        measured=math.nan,
        expected=math.nan,
        stderr=math.nan,
        reason=reason,
    )


def _decisive(claim: Claim, score: float, resolution: float) -> bool:
    """Return whether the numbers can say anything about the claim, for or against it."""
    return math.isfinite(score) and not KINDS[str(claim.check)].powerless(resolution)


def _verdict(claim: Claim, passed: bool, decisive: bool) -> str:
    return claim.expect if decisive and passed == (claim.expect == HOLDS) else FAILS


def _problems(notebook: str, claims: Sequence[Claim], rows: Sequence[Row]) -> list[str]:
    """Return one line for each claim that is not there exactly once and as expected."""
    due = {claim.id: claim for claim in claims if claim.runnable}
    count = Counter(row.id for row in rows)
    lines = [f"{name}: not checked" for name in due if not count[name]]
    lines += [
        f"{name}: checked {n} times; restart and run all" for name, n in count.items() if n > 1
    ]
    lines += [f"{name}: not a claim to run in {notebook}" for name in count if name not in due]
    lines += [
        f"{row.id}: skipped, but its entry names nothing that it needs"
        for row in rows
        if row.verdict == NOT_ATTEMPTED and row.id in due and not due[row.id].needs
    ]
    return lines + [
        _failure(row, due[row.id]) for row in rows if row.verdict == FAILS and row.id in due
    ]


def _strangers(notebook: str, profile: str, rows: Iterable[Row]) -> list[str]:
    """Return one line for each row that a ledger of another notebook or profile has written."""
    return [
        f"{row.id}: checked as {row.profile} of {row.notebook} in a {profile} run of {notebook}; "
        "load the ledger with the notebook's own name and profile"
        for row in rows
        if (row.notebook, row.profile) != (notebook, profile)
    ]


def _failure(row: Row, claim: Claim) -> str:
    if not math.isfinite(row.score):
        return f"{row.id}: the score is not a finite number; {row.detail}"
    if not _decisive(claim, row.score, row.resolution):
        return (
            f"{row.id}: powerless: it would excuse an error as large as the expectation; give it "
            f"more repetitions or a smaller tolerance; {row.detail}"
        )
    if claim.expect == DIFFERS:
        return f"{row.id}: entered as differing, but it holds now; {row.detail}"
    return f"{row.id}: out of its limit; {row.detail}"


def _show(row: Row, text: str) -> None:
    """Display the row where IPython runs."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display(row.bundle(text), raw=True)


def _css(row: Row) -> str:
    return f"iclkit-claim {row.verdict.replace(' ', '-')}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _percent(value: float) -> str:
    if value >= 1:
        return f"{_number(100 * value)} %"
    return f"{100 * value:.2g} %" if value >= 1e-4 else f"{value:.1g}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(name: str, value: Any) -> Any:
    if name == "also":
        return {key: _with_nan(key, entry) for key, entry in value.items()}
    return math.nan if value is None else value


def _math(text: str) -> str:
    """Escape `text` for HTML and mark its formulas the way every MathJax set-up reads."""
    return re.sub(r"\$([^$]+)\$", r"\\(\1\\)", html.escape(text))


def _table_row(row: Row) -> str:
    return (
        f'<tr class="{_css(row)}"><th scope="row">{row.id}</th>'
        f"<td>{ICONS[row.verdict]} {row.verdict}</td><td>{html.escape(row.detail)}</td></tr>"
    )
