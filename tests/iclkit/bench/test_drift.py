"""A sweep's record: what it says of a claim, what it forgets, what it refuses to show."""

import json
import math
from dataclasses import asdict, replace

import pytest

from iclkit.bench import drift
from iclkit.bench.cache import Manifest
from iclkit.bench.claims import Claim, Ledger
from iclkit.bench.drift import Result, Swept, Trial
from tests import toy

CLAIM = Claim(
    "TOY-1", "01_toy", "a toy", "One is $1$.", "new here", check="close", tolerance=0.1, why="a toy"
)
DIFFERS = replace(CLAIM, id="TOY-2", expect="differs", note="it is not")
NEEDY = replace(CLAIM, id="TOY-3", needs="data")


def trial(seed=0, *, threads=1, measured=1.0, claims=(CLAIM,), problem="", **more):
    made = Manifest("01_toy", "k", "book", seed, "abc", "2026-01-02", 1.5, 20, "2 cores", {})
    ledger = Ledger("01_toy", "book", claims)
    rows = [] if problem else [ledger.check(c.id, measured=measured, expected=1.0) for c in claims]
    return Trial(replace(made, threads=threads, **more), tuple(rows), problem)


def swept(*scores, limit=4.0, verdict="holds"):
    results = (Result(seed, 1, verdict, score, limit, "") for seed, score in enumerate(scores))
    return Swept("01_toy", "", tuple(results))


class TestStatistics:
    def test_spread_of_the_scores(self):
        assert swept(3.0, 1.0, 2.5, 2.0, 9.0).quartet == (1.0, 2.5, 9.0, 4.0)

    def test_runs_with_more_threads_count_as_runs_and_not_as_seeds(self):
        one = swept(1.0, 2.0)
        one = replace(one, results=(*one.results, Result(0, 2, "fails", 9.0, 4.0, "")))
        assert one.quartet[:3] == (1.0, 1.5, 2.0)
        assert [r.threads for r in one.failed] == [2]
        assert one.came_out == 2

    @pytest.mark.parametrize(
        ("scores", "stochastic"),
        [((1.0, 1.0), False), ((1.0, 1.0 + 1e-15), True), ((1.0,), False)],
    )
    def test_a_claim_is_stochastic_when_seeds_tell_its_scores_apart(self, scores, stochastic):
        assert swept(*scores).stochastic is stochastic

    def test_a_score_that_is_no_number_spoils_the_spread_and_is_no_chance(self):
        assert all(math.isnan(number) for number in swept(1.0, math.nan).quartet[:3])
        assert swept(1.0, math.nan).stochastic
        assert not swept(math.nan, float("nan")).stochastic

    @pytest.mark.parametrize(
        ("one", "used"),
        [
            (swept(1.0, 3.0), 0.75),
            (swept(5.0, 8.0, verdict="differs"), 0.8),
            (swept(5.0, 3.0, verdict="fails"), math.nan),
            (swept(-5.0, limit=-3.0), math.nan),
        ],
    )
    def test_share_of_the_limit(self, one, used):
        assert one.used == used or (math.isnan(one.used) and math.isnan(used))

    def test_a_skipped_claim_was_not_tried(self):
        row = Ledger("01_toy", "book", (NEEDY,)).skip("TOY-3", "no data")
        record = drift.record_of([Trial(trial(s).made, (row,)) for s in (0, 1)], [NEEDY])
        assert record.claims["TOY-3"].tried == ()
        assert record.of(NEEDY) is None


class TestRecord:
    def test_what_came_out(self):
        trials = [trial(1, measured=1.2), trial(0, threads=2), trial(0)]
        record = drift.record_of(trials, [CLAIM])
        found = [(r.seed, r.threads, r.verdict) for r in record.claims["TOY-1"].results]
        assert found == [(0, 1, "holds"), (1, 1, "fails"), (0, 2, "holds")]
        assert [run["seed"] for run in record.runs] == [0, 1, 0]

    def test_a_deviation_that_stops_is_a_failure(self):
        record = drift.record_of([trial(claims=(DIFFERS,))], [DIFFERS])
        assert len(record.claims["TOY-2"].failed) == 1

    def test_a_run_without_result_leaves_its_problem(self):
        record = drift.record_of([trial(0), trial(1, problem="time-out")], [CLAIM])
        assert [run["problem"] for run in record.runs] == ["", "time-out"]
        assert len(record.claims["TOY-1"].results) == 1

    def test_one_profile(self):
        with pytest.raises(ValueError, match=r"one profile, got \['book', 'quick'\]"):
            drift.record_of([trial(), trial(profile="quick")], [CLAIM])
        with pytest.raises(ValueError, match=r"one profile, got \[\]"):
            drift.record_of([], [CLAIM])

    @pytest.mark.parametrize(
        "change",
        [
            {"text": "One is not $1$."},
            {"tolerance": 0.2},
            {"check": "ratio"},
            {"expect": "differs", "note": "n"},
        ],
    )
    def test_a_claim_that_changed_is_not_swept(self, change):
        record = drift.record_of([trial(0), trial(1)], [CLAIM])
        assert record.of(CLAIM) == record.claims["TOY-1"]
        assert record.of(replace(CLAIM, **change)) is None

    def test_one_run_is_no_sweep(self):
        assert drift.record_of([trial(0)], [CLAIM]).of(CLAIM) is None

    def test_reasons_and_other_profiles_may_change(self):
        record = drift.record_of([trial(0), trial(1)], [CLAIM])
        kept = {"quick": 9.0, "book": 0.1, "paper": 9.0}
        assert record.of(replace(CLAIM, why="another", tolerance=kept)) is not None

    def test_a_claim_that_is_not_attempted_has_nothing(self):
        record = drift.record_of([trial(0), trial(1)], [CLAIM])
        assert record.of(replace(CLAIM, expect="not attempted", note="n")) is None


class TestMoved:
    """Numbers of another experiment than today's are not shown."""

    SWEPT = (trial(0, measured=1.05), trial(1, measured=1.02), trial(0, threads=2, measured=1.051))

    def kept(self, measured, *, seed=0, claim=CLAIM, profile="book"):
        record = drift.record_of(self.SWEPT, [CLAIM])
        row = Ledger("01_toy", profile, (claim,)).check("TOY-1", measured=measured, expected=1.0)
        return "TOY-1" in record.without_moved([row], seed).claims

    @pytest.mark.parametrize(
        ("measured", "kept"), [(1.05, True), (1.0505, True), (1.06, True), (1.065, False)]
    )
    def test_what_threads_change_measures_rounding(self, measured, kept):
        assert self.kept(measured) is kept

    def test_without_such_a_change_a_hundredth_counts(self):
        assert self.kept(1.0209, seed=1)
        assert not self.kept(1.022, seed=1)

    def test_a_limit_that_moved_is_another_check(self):
        assert not self.kept(1.05, claim=replace(CLAIM, tolerance=0.102))
        assert self.kept(1.05, claim=replace(CLAIM, tolerance=0.1001))

    def test_another_seed_or_profile_says_nothing(self):
        assert self.kept(1.09, seed=7)
        assert self.kept(1.09, profile="quick")

    def test_nan_is_a_change(self):
        assert not self.kept(math.nan)

    def test_a_skipped_claim_says_nothing(self):
        row = Ledger("01_toy", "book", (NEEDY,)).skip("TOY-3", "no data")
        record = drift.record_of(self.SWEPT, [CLAIM])
        assert record.without_moved([replace(row, id="TOY-1")], 0).claims == record.claims


class TestFile:
    @pytest.fixture
    def place(self, tmp_path):
        (tmp_path / "iclkit/data").mkdir(parents=True)
        (tmp_path / "iclkit/data/claims.toml").write_text(toy.CLAIM)
        return tmp_path

    def test_there_and_back(self, place):
        trials = [trial(0), trial(1, measured=math.nan), trial(2, problem="time-out")]
        kept = drift.keep_record(trials, place)
        text = (place / drift.PLACE).read_text()
        assert "NaN" not in text
        back = drift.read_record(place)
        assert repr(back) == repr(kept), "NaN equals nothing but by its name"
        made = asdict(trial(0).made)
        del made["checksum"]
        assert back.runs[0] == made | {"problem": ""}
        assert len(text.splitlines()) == 3 + len(trials) + 2 + 1 + 2

    def test_other_notebooks_stay(self, place):
        other = trial(0, notebook="02_other")
        drift.keep_record([trial(0), trial(1), other], place)
        record = drift.keep_record([trial(5)], place)
        found = {(run["notebook"], run["seed"]) for run in record.runs}
        assert found == {("01_toy", 5), ("02_other", 0)}
        assert [r.seed for r in record.claims["TOY-1"].results] == [5]

    def test_further_seeds_join_those_that_are_there(self, place):
        drift.keep_record([trial(0), trial(1), trial(0, threads=2)], place)
        record = drift.keep_record([trial(0, measured=1.0005), trial(3)], place)
        runs = [(run["threads"], run["seed"]) for run in record.runs]
        assert runs == [(1, 0), (1, 1), (1, 3), (2, 0)]
        results = record.claims["TOY-1"].results
        assert [(r.threads, r.seed) for r in results] == runs
        assert results[0].score == pytest.approx(0.0005)  # the newer one
        assert drift.read_record(place) == record

    @pytest.mark.parametrize(
        "new",
        [
            [trial(3)],
            [trial(0, measured=1.01)],
            [trial(0, threads=2), trial(3)],
            [trial(0, problem="time-out"), trial(3)],
        ],
        ids=["no run in common", "another number", "threads alone in common", "no result"],
    )
    def test_what_cannot_be_known_to_hold_still_goes(self, place, new):
        drift.keep_record([trial(0), trial(1), trial(0, threads=2)], place)
        record = drift.keep_record(new, place)
        assert len(record.runs) == len(new)
        assert len(record.claims["TOY-1"].results) == len([one for one in new if one.rows])

    def test_results_of_a_claim_that_changed_go(self, place):
        drift.keep_record([trial(0), trial(1)], place)
        path = place / "iclkit/data/claims.toml"
        path.write_text(path.read_text().replace("tolerance = ", "tolerance = 1"))
        assert len(drift.keep_record([trial(0)], place).runs) == 1

    def test_a_claim_that_went_goes(self, place):
        drift.keep_record([trial(0)], place)
        (place / "iclkit/data/claims.toml").write_text(toy.CLAIM.replace("TOY-1", "TOY-9"))
        assert drift.keep_record([trial(0)], place).claims == {}

    def test_another_profile_is_refused_unless_asked_for(self, place):
        drift.keep_record([trial(0), trial(0, notebook="02_other")], place)
        before, lines = (place / drift.PLACE).read_text(), []
        words = "profile must be book, got quick: 2 runs of profile book are kept; add --no-keep"
        with pytest.raises(ValueError, match=words):
            drift.keep_record([trial(0, profile="quick")], place)
        assert (place / drift.PLACE).read_text() == before
        quick = [trial(0, profile="quick")]
        record = drift.keep_record(quick, place, replacing=True, report=lines.append)
        assert {run["profile"] for run in record.runs} == {"quick"}
        assert lines == [f"2 runs of profile book are dropped; {drift.UNDO}"]

    @pytest.mark.parametrize(
        ("new", "words"),
        [
            (trial(7), "drops 2 of its kept runs, no seed of theirs ran again with a result; add"),
            (trial(0, measured=1.01), "drops 1 of its kept runs, their numbers or claims are"),
        ],
        ids=["no seed in common", "another number"],
    )
    def test_what_goes_is_told(self, place, new, words):
        lines = []
        drift.keep_record([trial(0), trial(1)], place, report=lines.append)
        assert lines == []
        drift.keep_record([new], place, report=lines.append)
        assert len(lines) == 1
        assert lines[0].startswith(f"01_toy: {words}")
        assert lines[0].endswith("`git restore iclkit/data/drift.json` takes them back")

    def test_what_goes_on_is_not_worth_a_line(self, place):
        lines = []
        drift.keep_record([trial(0), trial(1)], place)
        drift.keep_record([trial(0), trial(2)], place, report=lines.append)
        assert lines == []

    def test_a_run_without_result_takes_no_place(self, place):
        lines = []
        before = drift.keep_record([trial(0), trial(1), trial(0, threads=2)], place)
        ended = [trial(0, problem="time-out"), trial(0, threads=2, problem="killed")]
        assert drift.keep_record(ended, place, report=lines.append) == before
        assert lines == [
            "01_toy at seed 0: time-out; the kept result stays",
            "01_toy at seed 0 with 2 threads: killed; the kept result stays",
        ]
        record = drift.keep_record([trial(5, problem="time-out")], place)
        assert record.claims == before.claims
        assert [run["problem"] for run in record.runs] == ["", "", "time-out", ""]
        assert [r["problem"] for r in drift.keep_record([trial(0), trial(5)], place).runs] == [
            ""
        ] * 4

    def test_none_is_none(self, place):
        assert drift.read_record(place) is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{}",
            "[]",
            '{"profile": "book", "runs": 3, "claims": {}}',
            '{"profile": "book", "runs": [], "claims": []}',
            '{"profile": "book", "runs": {"a": 1}, "claims": {}}',
            '{"profile": "book", "runs": [{"notebook": "01_toy"}], "claims": {}}',
            '{"profile": "book", "runs": ["x"], "claims": {}}',
            '{"profile": "huge", "runs": [], "claims": {}}',
            '{"profile": "book", "runs": [], "claims": {"A": 3}}',
            '{"profile": "book", "runs": [], "claims": {"A": {"notebook": "n", "digest": "d"}}}',
            '{"profile": "book", "runs": [], "claims": {"A": {"notebook": "n", "digest": "d", '
            '"results": [["0", 1, "holds", 0.0, 1.0, ""]]}}}',
            '{"profile": "book", "runs": [], "claims": {"A": {"notebook": "n", "digest": "d", '
            '"results": [[0, 1, "holds", "0", 1.0, ""]]}}}',
        ],
    )
    def test_damage_is_one_line(self, place, text):
        (place / drift.PLACE).write_text(text)
        with pytest.raises(
            ValueError, match=r"drift\.json is damaged \(.*\); take it from"
        ) as caught:
            drift.read_record(place)
        assert "\n" not in str(caught.value)


def test_report_names_what_a_person_must_see():
    trials = [trial(0, measured=1.09), trial(1, problem="time-out"), trial(2, measured=1.0)]
    lines = drift.report_lines(drift.record_of(trials, [CLAIM]))
    assert lines == [
        "01_toy at seed 1: time-out",
        "TOY-1: close, uses 90% of its limit",
        "1 of 1 scores depend on the seed; runs: 3, results that fail: 0",
    ]
    failed = drift.report_lines(drift.record_of([trial(3, measured=1.5, threads=2)], [CLAIM]))
    assert failed[0] == "TOY-1: fails at seed 3 with 2 threads, score 0.5 relative, limit 0.1"


def test_the_record_of_the_book_can_be_read(root):
    record = drift.read_record(root)
    if record is None:
        pytest.skip("no sweep is kept")
    assert json.loads((root / drift.PLACE).read_text())["profile"] == record.profile
    assert {one.notebook for one in record.claims.values()} <= {r["notebook"] for r in record.runs}
    for name, one in record.claims.items():
        seeds = {result.seed for result in one.results if result.threads == 1}
        assert len(seeds) >= 5, name
        assert any(result.threads > 1 for result in one.results), name
