"""The ledger says what other seeds gave: a failure plainly, a stale number never."""

from dataclasses import replace

import pytest

from iclkit.bench import drift
from iclkit.bench.cache import Manifest, Run
from iclkit.bench.claims import Claim, Entry, Ledger
from iclkit.bench.drift import Trial, record_of
from iclkit.site import book, pages
from iclkit.site.swept import listed, notebooks, seeds_line, seeds_part

CLAIM = Claim(
    "T-1", "01_toy", "a toy", "One is $1$.", "new here", check="close", tolerance=0.1, why="a toy"
)
STEADY = replace(CLAIM, id="T-2")


def row(claim, measured):
    return Ledger("01_toy", "book", (claim,)).check(claim.id, measured=measured, expected=1.0)


def trial(seed, measured, threads=1, problem=""):
    made = Manifest("01_toy", "k", "book", seed, "abc", f"2026-01-0{1 + seed}", 1, 1, "2 cores", {})
    rows = () if problem else (row(CLAIM, measured), row(STEADY, 1.0))
    return Trial(replace(made, threads=threads), rows, problem)


def record(*measured, more=()):
    trials = [trial(seed, value) for seed, value in enumerate(measured)]
    return record_of([*trials, *more], [CLAIM, STEADY])


ENTRY, CALM = Entry(CLAIM, row(CLAIM, 1.0)), Entry(STEADY, row(STEADY, 1.0))
GOOD = record(1.0, 1.02, 1.05, more=[trial(0, 1.0, threads=2)])
BAD = record(1.0, 1.02, 1.5, more=[trial(0, 1.3, threads=2)])


class TestLine:
    def test_spread_and_count(self):
        assert seeds_line(ENTRY, GOOD) == (
            "*At 3 seeds.* Holds in all 3 runs and in 1 with 2 threads; score 0 to 0.05 relative, "
            "median 0.02, limit 0.1."
        )

    def test_a_failure_stands_first_and_in_bold(self):
        where = "at seed 2, at seed 0 with 2 threads"
        start = f"*At 3 seeds.* **\u2717 Fails in 2 of 4 runs**, {where}; score 0 to 0.5"
        assert seeds_line(ENTRY, BAD).startswith(start)

    def test_a_deviation_is_counted_by_its_own_word(self):
        claim = replace(CLAIM, expect="differs", note="it does")
        made = trial(0, 1.0).made
        trials = [Trial(replace(made, seed=s), (row(claim, 2.0 + s),)) for s in (0, 1)]
        line = seeds_line(Entry(claim, row(claim, 2.0)), record_of(trials, [claim]))
        assert "Differs in all 2 runs" in line

    def test_a_score_that_no_seed_moves_needs_no_line(self):
        assert seeds_line(CALM, GOOD) is None

    def test_a_run_without_result_is_told_even_then(self):
        lost = record(1.0, 1.0, more=[trial(2, 0.0, problem="time-out")])
        assert "no result at seed 2" in seeds_line(CALM, lost)

    def test_a_run_from_before_the_claim_is_told(self):
        known = record(1.0, 1.05)
        early = dict(known.runs[0]) | {"threads": 2}
        line = seeds_line(ENTRY, replace(known, runs=(*known.runs, early)))
        assert "Holds in all 2 runs; not measured at seed 0 with 2 threads; score" in line

    def test_a_range_that_rounding_hides(self):
        line = seeds_line(ENTRY, record(1.05, 1.05 + 1e-9))
        assert line.endswith("score 0.05 relative to three digits, limit 0.1.")

    def test_nan_is_no_spread(self):
        assert "not a number at every seed" in seeds_line(ENTRY, record(1.0, float("nan")))

    def test_a_changed_claim_is_not_swept(self):
        changed = Entry(replace(CLAIM, tolerance=0.2), ENTRY.row)
        assert "Not swept since" in seeds_line(changed, GOOD)
        assert "0.05" not in seeds_line(changed, GOOD)

    def test_silence_without_a_sweep_and_without_a_row(self):
        assert seeds_line(ENTRY, None) is None
        assert seeds_line(Entry(CLAIM), GOOD) is None


class TestPart:
    def test_how_it_was_made(self):
        text = seeds_part([ENTRY, CALM], GOOD)
        words = "1 notebook was run at seeds 0 to 2 and at seed 0 with 2 threads, with profile"
        assert f"So {words} `book`" in text
        assert "(commit `abc`; 2026-01-01 to 2026-01-03; 2 cores)" in text
        assert "Scores that depend on the seed: 1 of 2." in text

    def test_all_came_out(self):
        text = seeds_part([ENTRY, CALM], GOOD)
        assert "Every swept claim came out as it says in every run." in text
        assert "\u2717" not in text

    def test_what_did_not_come_out_is_listed(self):
        text = seeds_part([ENTRY, CALM], BAD)
        assert "- [T-1](#ledger-t-1): **\u2717 Fails in 2 of 4 runs**, at seed 2" in text
        assert "T-2" not in text
        assert "came out as it says in every run" not in text

    def test_what_was_not_swept_is_counted_and_named(self):
        text = seeds_part([ENTRY, Entry(replace(STEADY, text="Two."), CALM.row)], GOOD)
        assert "Claims of this build that were not swept: 1 ([T-2](#ledger-t-2))." in text

    @pytest.mark.parametrize("swept", [None, record(1.0)])
    def test_no_sweep(self, swept):
        stale = [Entry(replace(CLAIM, text="Two."), ENTRY.row)]
        assert "not swept over seeds" in seeds_part(stale, swept)


def test_the_book_shows_a_sweep_of_today_s_numbers_only(tmp_path):
    runs = [Run(tmp_path, trial(1, 1.0).made, fresh=False)]  # a build at seed 1
    assert book.swept(tmp_path, {"01_toy": [ENTRY.row]}, runs) is None
    place = tmp_path / drift.PLACE
    place.parent.mkdir(parents=True)
    place.write_text(drift.as_text(GOOD))
    same, other = row(CLAIM, 1.02), row(CLAIM, 1.05)
    assert "T-1" in book.swept(tmp_path, {"01_toy": [same, CALM.row]}, runs).claims
    assert list(book.swept(tmp_path, {"01_toy": [other, CALM.row]}, runs).claims) == ["T-2"]


def runs_of(name, *places):
    return [{"notebook": name, "seed": seed, "threads": threads} for seed, threads in places]


class TestNotebooks:
    """Which notebooks were run at which seeds is counted, not hinted at."""

    SEEDS = ((0, 1), (1, 1), (2, 1))

    def words(self, *runs, pages=("a", "b")):
        record = drift.Record("book", tuple(run for some in runs for run in some), {})
        return notebooks(record, set(pages))

    def test_all_alike(self):
        runs = [runs_of(name, *self.SEEDS, (0, 2)) for name in "ab"]
        where = "at seeds 0 to 2 and at seed 0 with 2 threads"
        assert self.words(*runs) == f"all 2 notebooks were run {where}"
        assert self.words(*runs, pages="abc") == f"2 notebooks were run {where}", "c is missing"

    def test_some_with_more_threads(self):
        runs = [runs_of("a", *self.SEEDS, (0, 2)), runs_of("b", *self.SEEDS)]
        where = "at seeds 0 to 2, 1 of them also at seed 0 with 2 threads"
        assert self.words(*runs) == f"all 2 notebooks were run {where}"

    def test_other_seeds_for_some(self):
        runs = [runs_of("a", *self.SEEDS), runs_of("b", *self.SEEDS), runs_of("c", (0, 1), (4, 1))]
        where = "2 at seeds 0 to 2, 1 at seeds 0, 4"
        assert self.words(*runs) == f"all 3 notebooks were run: {where}"


def test_seeds_in_words():
    assert listed([0, 1, 2, 4]) == "seeds 0, 1, 2, 4"
    assert listed([3, 4]) == "seeds 3, 4"


def test_the_ledger_page_has_the_part_and_the_lines(monkeypatch):
    monkeypatch.setattr(pages, "entries_of", lambda _: [ENTRY, CALM])
    page = pages.ledger_page({}, swept=BAD)
    assert page.index("## At other seeds") < page.index("## 1 Toy")
    assert page.count("*At 3 seeds.*") == 1
    assert page.index("(ledger-t-1)=") < page.index("*At 3 seeds.*") < page.index("(ledger-t-2)=")
    assert "not swept over seeds" in pages.ledger_page({})
