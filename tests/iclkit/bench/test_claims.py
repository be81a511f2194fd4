"""The ledger fails closed; its rows survive the way through a notebook; its texts are in order."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest

from iclkit.bench.checks import KINDS
from iclkit.bench.claims import (
    ICONS,
    PROFILES,
    Claim,
    Ledger,
    LedgerError,
    Row,
    collect,
    load_claims,
    merge,
    not_claimed,
    profile_slice,
)

FILE = """
[T-1]
notebook = "demo"
source = "nowhere"
origin = "new here"
text = 'A number $x < 2$ is one & only one.'
check = "close"
tolerance = { quick = 0.1, book = 0.01, paper = 0.001 }
why = "because"

[T-2]
notebook = "demo"
source = "nowhere"
origin = "recalled"
text = "Another number is two."
check = "sigmas"
expect = "differs"
note = "It is three."

[T-3]
notebook = "demo"
source = "nowhere"
origin = "recalled"
text = "Nobody can check this."
expect = "not attempted"
note = "Too large."

[U-1]
notebook = "other"
source = "nowhere"
origin = "recalled"
text = "Somewhere else."
check = "sigmas"

[not_claimed]
demo = ["Everything else."]
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "claims.toml"
    file.write_text(FILE)
    return file


@pytest.fixture
def ledger(path):
    return Ledger.load("demo", "quick", path=path)


def fill(ledger, *, one=1.05, two=3.0, error=0.1):
    ledger.check("T-1", measured=one, expected=1.0)
    ledger.check("T-2", measured=two, expected=2.0, stderr=error)
    return ledger


def claim(**changes):
    fields = {
        "id": "T-1",
        "notebook": "demo",
        "source": "nowhere",
        "text": "One is one.",
        "origin": "new here",
        "check": "close",
        "tolerance": 0.1,
        "why": "because",
    }
    return Claim(**{**fields, **changes})


@pytest.fixture
def needy(path):
    text = FILE.replace('why = "because"', 'why = "because"\nneeds = "a package of data"')
    path.write_text(text)
    return path


def executed(rows):
    outputs = [{"output_type": "display_data", "data": row.bundle("text")} for row in rows]
    return {"cells": [{"cell_type": "code", "outputs": outputs}, {"cell_type": "markdown"}]}


def test_a_full_ledger_closes(ledger):
    table = fill(ledger).close()
    assert [row.verdict for row in table.rows] == ["holds", "differs"]
    assert "T-1 holds" in repr(table)
    assert table._repr_html_().count("<tr") == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"one": 1.2}, "T-1: out of its limit"),
        ({"one": math.nan}, "T-1: the score is not a finite number"),
        ({"two": 2.0}, "T-2: entered as differing, but it holds now"),
        ({"two": math.nan}, "T-2: the score is not a finite number"),
        ({"two": math.inf}, "T-2: the score is not a finite number"),
        ({"error": 5.0}, "T-2: powerless: .*more repetitions"),
    ],
)
def test_a_claim_that_comes_out_otherwise_fails(ledger, values, message):
    with pytest.raises(LedgerError, match=message):
        fill(ledger, **values).close()


def test_every_problem_has_its_line(ledger):
    for _ in range(2):
        ledger.check("T-1", measured=9.0, expected=1.0)
    with pytest.raises(LedgerError) as caught:
        ledger.close()
    lines = str(caught.value).splitlines()
    assert lines[0] == "T-2: not checked"
    assert lines[1] == "T-1: checked 2 times; restart and run all"
    assert sum("out of its limit" in line for line in lines) == 2


@pytest.mark.parametrize("name", ["T-9", "U-1", "T-3"])
def test_unknown_foreign_and_not_attempted_claims_are_refused(ledger, name):
    with pytest.raises(LedgerError, match=name):
        ledger.check(name, measured=1.0, expected=1.0)
    assert ledger.rows == []


def test_a_claim_that_needs_something_may_be_skipped_with_a_reason(needy):
    ledger = Ledger.load("demo", "quick", path=needy)
    row = ledger.skip("T-1", "the package is not installed")
    ledger.check("T-2", measured=3.0, expected=2.0, stderr=0.1)
    assert [r.verdict for r in ledger.close().rows] == ["not attempted", "differs"]
    assert row.detail == "not attempted in this run: the package is not installed"
    assert 'class="iclkit-claim not-attempted"' in row.to_html("text")
    assert 'class="iclkit-claim not-attempted"' in ledger.close()._repr_html_()
    back = collect("demo", executed(ledger.rows), profile="quick", path=needy)
    assert [(r.verdict, r.reason) for r in back] == [
        ("not attempted", "the package is not installed"),
        ("differs", ""),
    ]
    assert [e.verdict for e in merge(back, path=needy)][:2] == ["not attempted", "differs"]


def test_a_claim_that_needs_nothing_cannot_be_skipped(ledger, path, needy):
    with pytest.raises(LedgerError, match="T-1: its entry names nothing that it needs; check it"):
        ledger.skip("T-1", "no time")
    allowed = Ledger.load("demo", "quick", path=needy)
    allowed.skip("T-1", "no package")
    path.write_text(FILE)
    with pytest.raises(LedgerError, match="T-1: skipped, but its entry names nothing"):
        collect("demo", executed(allowed.rows), profile="quick", path=path)


@pytest.mark.parametrize("name", ["T-9", "U-1", "T-3"])
def test_foreign_claims_cannot_be_skipped(ledger, name):
    with pytest.raises(LedgerError, match=name):
        ledger.skip(name, "a reason")


def test_a_skip_needs_a_reason_and_counts_once(needy):
    ledger = Ledger.load("demo", "quick", path=needy)
    with pytest.raises(ValueError, match="T-1: reason must not be empty"):
        ledger.skip("T-1", "")
    assert ledger.rows == []
    ledger.skip("T-1", "no package")
    ledger.check("T-1", measured=1.0, expected=1.0)
    ledger.check("T-2", measured=3.0, expected=2.0, stderr=0.1)
    with pytest.raises(LedgerError, match="T-1: checked 2 times"):
        ledger.close()


def test_whether_a_claim_may_be_skipped_changes_the_cache_key(path):
    before = profile_slice("demo", "quick", path)
    path.write_text(FILE.replace('why = "because"', 'why = "because"\nneeds = "a package"'))
    one = profile_slice("demo", "quick", path)
    path.write_text(FILE.replace('why = "because"', 'why = "because"\nneeds = "another"'))
    assert before != one == profile_slice("demo", "quick", path)


def test_arguments_that_do_not_fit_leave_no_row(ledger):
    with pytest.raises(ValueError, match="does not use size"):
        ledger.check("T-1", measured=1.0, expected=1.0, size=3)
    assert ledger.rows == []


def test_tolerances_belong_to_profiles(path):
    limits = [Ledger.load("demo", p, path=path).claims[0].limit_in(p) for p in PROFILES]
    assert limits == [0.1, 0.01, 0.001]


def test_sigmas_are_limited_by_the_family_of_comparisons(ledger):
    row = ledger.check("T-2", measured=[3.0] * 50, expected=2.0, stderr=0.1)
    assert row.limit == pytest.approx(4.26, abs=0.005)
    assert row.comparisons == 50
    assert row.resolution == pytest.approx(row.limit * 0.1 / 2)


@pytest.mark.parametrize("measured", [1.0, 5.0, 500.0])
def test_a_powerless_check_fails_whatever_it_measured(path, measured):
    ledger = Ledger.load("demo", "quick", path=path)
    row = ledger.check("T-1", measured=[measured, 1.0], expected=1.0, stderr=[3.0, 0.001])
    assert row.verdict == "fails"
    assert f"resolution {100 * row.resolution:.4g} %" in row.detail
    with pytest.raises(LedgerError, match="T-1: powerless: it would excuse an error as large"):
        ledger.close()


@pytest.mark.parametrize("two", [2.0, 5.0, 500.0])
def test_a_powerless_check_is_no_evidence_of_a_difference(ledger, two):
    row = ledger.check("T-2", measured=two, expected=2.0, stderr=5.0)
    assert row.verdict == "fails"


def test_the_limit_is_students_where_errors_come_from_few_replicates(ledger):
    known = ledger.check("T-2", measured=3.0, expected=2.0, stderr=0.1)
    few = ledger.check("T-2", measured=3.0, expected=2.0, stderr=0.1, replicates=4)
    assert (known.verdict, few.verdict) == ("differs", "fails")
    assert few.limit == pytest.approx(12.92, abs=0.005)


def test_unknown_profiles_and_notebooks_are_refused(path):
    with pytest.raises(ValueError, match="profile must be one of quick, book, paper, got 'fast'"):
        Ledger.load("demo", "fast", path=path)
    with pytest.raises(LedgerError, match="no claim belongs to the notebook 'missing'"):
        Ledger.load("missing", "quick", path=path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"why": ""}, "a tolerance needs a why"),
        ({"tolerance": None}, "close needs a tolerance"),
        ({"tolerance": {"quick": 0.1, "book": 0.1}}, "exactly the profiles"),
        ({"tolerance": -1.0}, "tolerance must be a number >= 0"),
        ({"tolerance": math.nan}, "tolerance must be a number >= 0"),
        ({"tolerance": "wide"}, "tolerance must be a number >= 0"),
        ({"check": "about"}, "check must be one of close"),
        ({"check": None}, "check must be one of close"),
        ({"expect": "maybe"}, "expect must be holds, differs or not attempted, got 'maybe'"),
        ({"expect": "differs"}, "needs a note"),
        ({"expect": "not attempted"}, "needs a note"),
        ({"origin": "heard"}, "origin must be one of"),
        ({"text": ""}, "must not be empty"),
    ],
)
def test_claims_out_of_order_do_not_load(changes, message):
    with pytest.raises(ValueError, match=f"claim T-1: .*{message}"):
        claim(**changes)


def test_unknown_and_missing_fields_are_named(path):
    path.write_text(FILE.replace('check = "close"', 'check = "close"\ncolour = "red"'))
    with pytest.raises(ValueError, match=r"claim T-1: .*'colour'"):
        load_claims(path)
    path.write_text(FILE.replace('text = "Another number is two."\n', ""))
    with pytest.raises(ValueError, match=r"claim T-2: .*'text'"):
        load_claims(path)


def test_rows_survive_json(ledger):
    row = fill(ledger).rows[0]
    assert Row.from_json(json.loads(json.dumps(row.to_json()))) == row


def test_numbers_that_do_not_exist_travel_as_null(ledger):
    row = ledger.check("T-1", measured=math.nan, expected=1.0, also={"z": math.inf})
    record = json.loads(json.dumps(row.to_json(), allow_nan=False))
    assert record["score"] is None
    back = Row.from_json(record)
    assert math.isnan(back.score)
    assert math.isnan(back.also["z"])
    assert back.verdict == "fails"


def test_rows_written_before_there_were_reasons_are_read(ledger):
    record = fill(ledger).rows[0].to_json()
    assert "reason" not in record
    assert Row.from_json(record).reason == ""


def test_rows_of_another_shape_are_refused(ledger):
    record = fill(ledger).rows[0].to_json()
    del record["limit"]
    with pytest.raises(LedgerError, match=r"T-1: .*limit"):
        Row.from_json(record)


def test_the_badge_has_icon_word_class_and_no_colour(ledger, path):
    row = fill(ledger).rows[0]
    badge = row.to_html(load_claims(path)[0].text)
    assert 'class="iclkit-claim holds"' in badge
    assert 'id="claim-t-1"' in badge
    assert "\N{CHECK MARK}" in badge
    assert "T-1 holds" in badge
    assert r"\(x &lt; 2\) is one &amp; only one" in badge
    assert "style=" not in badge
    assert "#" not in badge


def test_every_verdict_has_a_character_and_no_two_results_share_one():
    assert set(ICONS) == {"holds", "differs", "fails", "not attempted", "not run"}
    assert all(len(icon) == 1 for icon in ICONS.values())
    assert len({ICONS[verdict] for verdict in ("holds", "differs", "fails", "not run")}) == 4


def test_the_detail_says_error_limit_and_resolution(ledger):
    row = ledger.check("T-2", measured=3.0, expected=2.0, stderr=0.1, also={"z": 1.25})
    start = "measured 3 \N{PLUS-MINUS SIGN} 0.1, expected 2; score 10 standard errors"
    assert row.detail.startswith(start)
    assert "resolution 16 %" in row.detail
    assert row.detail.endswith("z 1.25")


@pytest.mark.parametrize(
    ("check", "tolerance", "stderr", "tail"),
    [
        ("below", 0.0, None, ""),
        ("below", 0.5, None, "score -0.75 relative, limit -0.5; resolution 50 %"),
        ("below", 0.0, 0.25, "score -3 standard errors, limit 0"),
        ("below", 2.0, 0.25, "score -3 standard errors, limit -2; resolution 50 %"),
        ("close", 0.0, None, "score 0.75 relative, limit 0"),
    ],
)
def test_an_ordering_shows_its_limit_unless_the_numbers_say_it(check, tolerance, stderr, tail):
    ledger = Ledger("demo", "quick", (claim(check=check, tolerance=tolerance),))
    row = ledger.check("T-1", measured=0.25, expected=1.0, stderr=stderr)
    assert row.detail.partition("; ")[2] == tail


def test_collect_reads_back_what_was_shown(ledger, path):
    rows = fill(ledger).rows
    assert collect("demo", executed(rows), profile="quick", path=path) == rows


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        (lambda rows: rows[:1], "T-2: not checked"),
        (lambda rows: [*rows, rows[0]], "T-1: checked 2 times"),
        (lambda rows: rows[:0], "T-1: not checked\nT-2: not checked"),
    ],
)
def test_collect_wants_every_claim_once(ledger, path, pick, message):
    with pytest.raises(LedgerError, match=message):
        collect("demo", executed(pick(fill(ledger).rows)), profile="quick", path=path)


def test_collect_refuses_failures_and_foreign_rows(ledger, path):
    rows = fill(ledger, one=5.0).rows
    with pytest.raises(LedgerError, match="T-1: out of its limit"):
        collect("demo", executed(rows), profile="quick", path=path)
    with pytest.raises(LedgerError, match="T-1: not a claim to run in other"):
        collect("other", executed(rows[:1]), profile="quick", path=path)


@pytest.mark.parametrize("profile", ["book", "paper"])
def test_collect_refuses_rows_of_another_profile(ledger, path, profile):
    found = executed(fill(ledger).rows)
    message = f"T-1: checked as quick of demo in a {profile} run of demo; load the ledger"
    with pytest.raises(LedgerError, match=message):
        collect("demo", found, profile=profile, path=path)
    with pytest.raises(ValueError, match="profile must be one of"):
        collect("demo", found, profile="fast", path=path)


def test_collect_refuses_rows_that_another_notebook_wrote(ledger, path):
    rows = [replace(row, notebook="other") for row in fill(ledger).rows]
    with pytest.raises(LedgerError, match="T-2: checked as quick of other in a quick run of demo"):
        collect("demo", executed(rows), profile="quick", path=path)


def test_collect_of_a_notebook_without_claims_is_empty(path):
    assert collect("primer", executed([]), profile="quick", path=path) == []


def test_merge_joins_every_claim_with_its_row(ledger, path):
    rows = fill(ledger).rows
    entries = merge(rows, path=path)
    verdicts = {entry.claim.id: entry.verdict for entry in entries}
    assert verdicts == {
        "T-1": "holds",
        "T-2": "differs",
        "T-3": "not attempted",
        "U-1": "not run",
    }
    with pytest.raises(LedgerError, match="T-1: 2 rows"):
        merge([*rows, rows[0]], path=path)


def test_texts_do_not_change_the_cache_key(path):
    before = {profile: profile_slice("demo", profile, path) for profile in PROFILES}
    prose = FILE.replace("is two", "is 2").replace("because", "so").replace("three", "3")
    path.write_text(prose.replace("recalled", "new here").replace("nowhere", "somewhere"))
    assert {profile: profile_slice("demo", profile, path) for profile in PROFILES} == before
    assert set(json.loads(before["quick"])) == {"T-1", "T-2", "T-3"}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("quick = 0.1", "quick = 0.2", {"quick"}),
        ("paper = 0.001", "paper = 0.002", {"paper"}),
        ('check = "close"', 'check = "ratio"', set(PROFILES)),
        ('expect = "differs"', 'expect = "not attempted"', set(PROFILES)),
    ],
)
def test_checks_change_the_cache_key_of_their_profile(path, old, new, changed):
    before = {profile: profile_slice("demo", profile, path) for profile in PROFILES}
    path.write_text(FILE.replace(old, new))
    after = {profile: profile_slice("demo", profile, path) for profile in PROFILES}
    assert {profile for profile in PROFILES if after[profile] != before[profile]} == changed
    with pytest.raises(ValueError, match="profile must be one of"):
        profile_slice("demo", "fast", path)


def test_what_is_not_claimed(path):
    assert not_claimed("demo", path) == ("Everything else.",)
    assert not_claimed("other", path) == ()


def test_a_row_as_last_expression_is_not_shown_twice(ledger):
    IPython = pytest.importorskip("IPython.core.formatters")
    row = fill(ledger).rows[0]
    assert IPython.DisplayFormatter().format(row) == ({}, {})


def test_claims_import_neither_tables_nor_figures():
    code = (
        "import sys, iclkit.bench.claims;"
        "sys.exit(bool({'pandas', 'matplotlib', 'scipy', 'IPython'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


X_ROWS = [f"X{i}" for i in range(1, 20)]  # what chapter 2 adds to its paper


class TestPackagedClaims:
    """The claims file in the package."""

    claims = load_claims()

    def test_ids_are_words_and_texts_are_sentences(self):
        for c in self.claims:
            assert c.id.replace("-", "").isalnum()
            assert c.text[0].isupper() or c.text[0] == "$"
            assert c.text.endswith(".")
            assert c.text.count("$") % 2 == 0
            assert c.text.isascii()
            assert not c.note or c.note.endswith(".")

    def test_chapter_four_is_complete(self):
        groups = {"A": 4, "T": 5, "S": 7, "N": 4, "P": 4, "B": 3, "F": 7, "X": 9}
        expected = {f"LU-{g}{i}" for g, n in groups.items() for i in range(1, n + 1)}
        own = [c for c in self.claims if c.notebook.startswith("04_")]
        assert {c.id for c in own} == expected
        assert all(c.runnable for c in own)

    def test_chapter_one_is_complete_but_for_the_table_of_language_models(self):
        paper = "T1 T1b T1c T1d S1 S2 F1 F2 F3 F4 F4b G1 G2 G3 L1 L2 K1 M1 M2 M3 E1 E2 E3 E4 Q1"
        new = ["X9b", *(f"X{i}" for i in range(1, 27))]
        own = {c.id: c for c in self.claims if c.notebook.startswith("01_")}
        assert set(own) == {f"RE-{name}" for name in (*paper.split(), *new)}
        assert [name for name, c in own.items() if not c.runnable] == ["RE-Q1"]
        differing = {name for name, c in own.items() if c.expect == "differs"}
        assert differing == {"RE-S2", "RE-E1", "RE-E2", "RE-E3"}

    def test_chapter_two_is_complete_but_for_the_table_of_large_models(self):
        paper = "P1 L51 L51b T52 T52b T53 T53b T41a T41b T41c LSA LSA2 GD0 LIM1 LIM2 L61 C62 C62b"
        paper += " T63a T63b T63c T63d T63e F1 TAB1 TAB1b J MH"
        own = {c.id: c for c in self.claims if c.notebook.startswith("02_")}
        assert set(own) == {f"ZH-{name}" for name in (*paper.split(), *X_ROWS)}
        assert [name for name, c in own.items() if not c.runnable] == ["ZH-TAB1b"]
        assert [name for name, c in own.items() if c.expect == "differs"] == ["ZH-T41b"]

    def test_chapter_three_is_complete_but_for_the_papers_own_reviews(self):
        paper = "T1 T2 T3 T4 T5 T6 L1 L2 L3 B1 B2 B3 B4 P1 M1 M2 M3 M4 M5 M6 F1 F2 F3 F4 F5 F6 E1"
        paper += " R1 R2 R3 R4 R5 R6 R7 R8 R9"
        new = [f"X{i}" for i in range(1, 53)]
        own = {c.id: c for c in self.claims if c.notebook.startswith("03_")}
        assert set(own) == {f"D-{name}" for name in (*paper.split(), *new)}
        assert [name for name, c in own.items() if not c.runnable] == ["D-R9"]

    def test_every_kind_of_check_is_known_and_larger_profiles_are_not_coarser(self):
        for c in self.claims:
            if c.runnable:
                assert c.check in KINDS
                limits = [c.limit_in(profile) for profile in PROFILES]
                numbers = [limit for limit in limits if limit != "family"]
                margin = c.check in ("below", "above")  # a larger margin demands more
                assert numbers == sorted(numbers, reverse=not margin)
