"""The ledger page: what was measured comes first, and nothing claims a check that did not run."""

from dataclasses import replace

import pytest

from iclkit.bench.archive import KeptRun
from iclkit.bench.claims import Claim, Entry, Ledger, Row
from iclkit.site import pages

NUMBERS = {"score": 0.0, "limit": 1.0, "resolution": 0.1, "comparisons": 1}


def entry(name, notebook, *, measured):
    kind = {"check": "close", "tolerance": 1.0, "why": "a reason"} if measured else {}
    state = {} if measured else {"expect": "not attempted", "note": "Not yet."}
    claim = Claim(name, notebook, "Section 1", "One is $1$.", "derived here", **kind, **state)
    values = {"unit": "relative", "measured": 1.0, "expected": 1.0, "stderr": 0.0}
    row = Row(name, notebook, "quick", "close", "holds", **NUMBERS, **values) if measured else None
    return Entry(claim, row)


ENTRIES = [entry("A-1", "01_first", measured=False), entry("B-1", "02_second", measured=True)]


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setattr(pages, "entries_of", lambda _: ENTRIES)
    return pages.ledger_page({})


def test_measured_chapters_come_first(page):
    assert page.index("## 2 Second") < page.index("## 1 First")


def test_pages_of_a_chapter_keep_the_order_of_their_claims():
    names = ["02_z", "02_a", "01_b", "01_z"]
    entries = [entry(f"N-{i}", name, measured=True) for i, name in enumerate(names)]
    assert pages.in_order(entries) == ["01_b", "01_z", "02_z", "02_a"]
    assert pages.in_order(entries, ["01_z", "02_a", "02_z"]) == ["01_z", "01_b", "02_a", "02_z"]


def test_score_table_counts_the_verdicts(page):
    assert "| [2 Second](#ledger-chapter-02-second) | 1 | 0 | 1 |" in page
    assert "| [1 First](#ledger-chapter-01-first) | 0 | 1 | 1 |" in page
    assert "| **The book** | 1 | 1 | 2 |" in page
    assert "all pages" not in page


def test_a_chapter_of_several_pages_has_a_sum():
    names = ["01_a", "01_b", "02_c"]
    entries = [entry(f"N-{i}", name, measured=True) for i, name in enumerate(names)]
    table = pages.score_table(entries, [pages.Chapter(name) for name in names], ["holds"])
    assert table.count("all pages") == 1
    assert table.index("1 B]") < table.index("| **1 all pages** | 2 | 2 |") < table.index("2 C]")


def test_what_does_not_hold_is_listed_before_the_rest(page):
    first = page[: page.index("## 2 Second")]
    assert "[A-1](#ledger-a-1) not attempted: One is $1$." in first
    assert "#ledger-b-1" not in first
    assert "does not hold" not in pages.exceptions(ENTRIES[1:])


def test_a_chapter_begins_with_links_to_its_claims(page):
    index = page[page.index("## 2 Second") : page.index("(ledger-b-1)=")]
    assert "\u2713 [B-1](#ledger-b-1)\n" in index
    assert "A-1" not in index


def test_filters_offer_what_is_there(page):
    assert 'value="holds" checked' in page
    assert 'value="not-attempted" checked' in page
    assert 'value="fails"' not in page
    assert 'value="chapter-02-second" checked' in page


def test_an_unattempted_claim_is_not_called_checked(page):
    first = page[page.index("## 1 First") :]
    assert "its check is not in the book yet" in first
    assert "derived and checked here" not in first


def test_a_skipped_claim_says_why_and_is_not_called_checked(monkeypatch):
    claim = ENTRIES[1].claim
    ledger = Ledger(claim.notebook, "quick", (replace(claim, needs="data"),))
    skipped = Entry(claim, ledger.skip("B-1", "the data are not installed"))
    monkeypatch.setattr(pages, "entries_of", lambda _: [skipped])
    page = pages.ledger_page({})
    assert "Not attempted in this run: the data are not installed." in page
    assert "its check is not in this build" in page
    assert 'value="not-attempted" checked' in page
    assert "2 Second](#ledger-chapter-02-second) | 1 | 1 |" in page


def test_paper_size_stands_beside_its_claim(monkeypatch):
    made = {"notebook": "02_second", "key": "", "profile": "paper", "seed": 3, "commit": "abc"}
    made |= {"date": "today", "seconds": 9.0, "peak_memory_mb": 1, "machine": "m", "versions": {}}
    monkeypatch.setattr(pages, "entries_of", lambda _: ENTRIES)
    page = pages.ledger_page({}, [KeptRun(made, (ENTRIES[1].row,))])
    assert page.count("*At paper size.* Holds: measured 1") == 1
    assert "(seed 3, commit `abc`, today, m)" in page
    since = KeptRun(made, (ENTRIES[1].row,), "edited since")
    assert "today, m; edited since)." in pages.ledger_page({}, [since])


def test_each_claim_has_one_target_for_links(page):
    assert page.count("```{claim} A-1") == 1
    assert "```{claim} B-1" not in page, "it stands in the chapter"
    assert "{claim}`B-1 in the chapter <B-1>`" in page
    assert page.count("(ledger-b-1)=") == 1


def test_chapter_cell_links_to_the_ledger():
    cell = pages.claim_cell(ENTRIES[1])
    assert cell["source"].startswith("```{claim} B-1")
    assert "[B-1 in the ledger](#ledger-b-1)" in cell["source"]
    assert "Limit: a reason." in cell["source"]


def test_each_chapter_has_one_target_for_cards(page):
    assert page.count("(ledger-chapter-02-second)=\n## 2 Second") == 1


def test_terminal_ledger_counts(monkeypatch):
    monkeypatch.setattr(pages, "entries_of", lambda _: ENTRIES)
    lines = pages.ledger_text({}).splitlines()
    assert lines[-1] == "1 holds, 1 not attempted"
    assert len(lines) == 3
