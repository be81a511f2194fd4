"""The health page: sums, shares and differences, from manifests alone."""

import json
from dataclasses import replace

from iclkit.bench.archive import KeptRun
from iclkit.site import health
from tests.toy_page import ENTRIES, FRONT, MADE, PAGE

OTHER = replace(
    PAGE,
    front=replace(FRONT, name="05_other"),
    manifest=replace(MADE, notebook="05_other", seconds=660, peak_memory_mb=300, date="2026-01-05"),
    entries=(),
    chapter_entries=(),
)
PAGES = [PAGE, OTHER]


def test_sums():
    text = health.health_page(PAGES, ENTRIES, [])
    assert "all 2 ran to the end" in text
    assert "2 of 5 hold" in text
    assert "**Time** 14 min, summed; notebooks may run side by side\n" in text
    assert " alone" not in text, "two may run at once"
    assert "**Memory** 1.0 GB at the most" in text
    assert "2026-01-02 to 2026-01-05" in text


def test_row_of_a_run():
    row = health.run_row(PAGE)
    assert row[:4] == ["{doc}`4 Name </notebooks/04_name>`", "\u2713 ran", "208 s (35%)", "1.0 GB"]
    assert row[4] == "\u2713 2, \u2260 1, \u25cb 2"
    assert row[5] == "2026-01-02 `abc+changes`"


def test_a_run_over_its_budget_is_called_slow():
    row = health.run_row(OTHER)
    assert row[1:3] == ["\u2260 slow", "660 s (110%)"]
    assert row[4] == "none"


def test_versions_are_told_apart_only_where_they_differ():
    odd = replace(OTHER, manifest=replace(OTHER.manifest, versions={"numpy": "2.1", "torch": "2"}))
    assert "| numpy | 2.0 |" in health.environment(PAGES)
    text = health.environment([PAGE, odd])
    assert "| numpy | 2.0 (04_name); 2.1 (05_other) |" in text
    assert "| torch | not there (04_name); 2 (05_other) |" in text
    assert "| machine | 2 cores |" in text


def test_kept_runs_have_a_table_of_their_own():
    assert "None." in health.kept_table(PAGES, [])
    made = {"notebook": "04_name", "seed": 3, "seconds": 6000.0, "peak_memory_mb": 2000}
    made |= {"date": "2026-01-01", "commit": "abc", "machine": "m"}
    rows = tuple(entry.row for entry in ENTRIES if entry.row)
    page = replace(PAGE, place="https://x.org/a")
    text = health.kept_table([page, OTHER], [KeptRun(made, rows)])
    commit = "[`abc`](https://x.org/a/commit/abc)"
    assert f"| 3 | \u2713 2, \u2260 1 | 100 min | 2.0 GB | 2026-01-01 {commit} |\n" in text
    assert text.count("All on m.") == 1
    assert "Machine" not in text
    assert text.endswith(
        "\nWithout such a run: {doc}`5 Other </notebooks/05_other>`; {doc}`running` says why.\n"
    )
    assert "Without" not in health.kept_table([page], [KeptRun(made, rows)])


def test_kept_runs_of_several_machines_and_of_older_sources_say_so():
    made = {"notebook": "04_name", "seed": 3, "seconds": 1.0, "peak_memory_mb": 1}
    made |= {"date": "2026-01-01", "commit": "abc", "machine": "m"}
    since = "edited since"
    runs = [KeptRun(made, (), since), KeptRun(made | {"machine": "another"}, ())]
    text = health.kept_table(PAGES, runs)
    assert f"2026-01-01 `abc`; {since} | m |\n" in text
    assert "2026-01-01 `abc` | another |\n" in text
    assert "All on" not in text


def test_facts_for_programs():
    facts = json.loads(health.site_facts(PAGES, ENTRIES, "abc"))
    assert facts["commit"] == "abc"
    assert facts["pages"][0]["claims"] == {"holds": 2, "differs": 1, "not attempted": 2}
    assert facts["pages"][1]["run"]["seconds"] == 660
    assert [claim["verdict"] for claim in facts["claims"]] == [entry.verdict for entry in ENTRIES]
    assert facts["claims"][0]["ledger"] == "book/ledger.html#ledger-t-0"
    assert facts["claims"][-1]["result"] is None
