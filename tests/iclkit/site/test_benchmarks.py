"""The page of the benchmarks: filled from a record, honest without one."""

import json

import pytest

from iclkit.site import benchmarks
from iclkit.site.benchmarks import Here, benchmarks_page, counted, plain, put_benchmarks, short
from iclkit.site.pages import BuildError

ROW = {"case": "ridge", "against": "LU", "threads": 2, "ours": 0.0123, "obvious": 90.0}
ROW |= {"value": 7317.0, "unit": "x", "target": 10.0, "difference": 2e-9, "sigmas": None}
AMOUNT = ROW | {"case": "large", "value": 4.25, "unit": "GB peak", "obvious": None, "target": 9.0}
RECORD = {
    "schema": 1,
    "commit": "abc",
    "date": "2026-01-02",
    "seconds": 90.0,
    "share": 0.97,
    "machine": {"cpu": "A|B *9*", "cores": 2, "architecture": "x86_64", "system": "Linux"},
    "versions": {"numpy": "2.0"},
    "rows": [ROW, AMOUNT],
    "rates": [
        {
            "threads": 1,
            "flops": 5e10,
            "single_flops": 1e11,
            "bytes": 2e10,
            "normals": 1e8,
            "exps": 1e9,
        }
    ],
    "limits": [
        {
            "kernel": "head",
            "counted": "2 n^3",
            "d": 8,
            "n": 3200,
            "threads": 1,
            "seconds": 0.5,
            "flops": 2e10,
            "bytes": 1e9,
            "bound": "memory",
            "share": 0.654,
        }
    ],
    "growth": [
        {
            "kernel": "head",
            "letter": "n",
            "held": "d = 8",
            "sizes": [100, 200, 400, 3200],
            "seconds": [1e-5, 1e-3, 0.1, 1.5],
            "exponent": 2.804,
            "stderr": 0.013,
            "last": 2.9,
            "counted": 2.9,
            "theory": 3,
        }
    ],
}
MARKS = "".join(f"<!-- bench: {name} -->\n\n" for name in benchmarks.PARTS)
TEXT = f"# Title\n\nIntroduction.\n\n{MARKS}End.\n"


@pytest.fixture
def kept(tmp_path):
    """Return a function that writes a record and returns its path."""

    def write(text):
        path = tmp_path / "benchmarks" / "last.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_every_part_is_filled(kept):
    path = kept(json.dumps(RECORD))
    page = benchmarks_page(TEXT, path, Here(path.parent, "https://x.org/a"))
    assert "<!--" not in page
    assert "- **Machine** A\\|B \\*9\\*, 2 cores, x86\\_64, Linux" in page
    assert "2026-01-02, **commit** [`abc`](https://x.org/a/commit/abc)" in page
    assert "1.5 minutes; one thread got 97%" in page
    assert "| ridge | **7,320** | 10 | 2e-09 | 2 | 12 ms | 2 min | LU |" in page
    assert "| large | 4.25 GB peak | below 9 GB peak |" in page
    assert "| 1 | 50 GFlop/s | 100 GFlop/s | 20 GB/s | 100 M/s | 1,000 M/s |" in page
    assert "| head | **65%** | memory | 1 | 500 ms | 40 | 2 | 8 | 3,200 | 2 n\u00b3 |" in page
    assert (
        "| head | n | **2.80** \u00b1 0.01 | 2.90 | 3 "
        "| 100 to 3,200 | 10 \u00b5s to 1.5 s | d = 8 |" in page
    )


def test_the_figure_of_growth_stands_beside_the_page(kept):
    path = kept(json.dumps(RECORD))
    page = benchmarks_page(TEXT, path, Here(path.parent))
    assert "```{figure} benchmark-growth.svg\n" in page
    assert (path.parent / "benchmark-growth.svg").read_text().count("<svg ") == 1


def test_a_run_without_growth_has_no_figure(kept):
    path = kept(json.dumps(RECORD | {"growth": []}))
    assert "{figure}" not in benchmarks_page(TEXT, path, Here(path.parent))
    assert list(path.parent.iterdir()) == [path]


def test_random_answers_are_told_in_standard_errors(kept, tmp_path):
    random = RECORD | {"rows": [ROW | {"difference": None, "sigmas": 1.26}]}
    assert "| 1.3 s.e. |" in benchmarks_page(TEXT, kept(json.dumps(random)), Here(tmp_path))
    unchecked = RECORD | {"rows": [ROW | {"difference": None, "target": None}]}
    page = benchmarks_page(TEXT, kept(json.dumps(unchecked)), Here(tmp_path))
    assert "**7,320** |  |  |" in page


def test_without_a_record_the_page_says_so(tmp_path):
    page = benchmarks_page(TEXT, tmp_path / "no.json", Here(tmp_path))
    assert page.startswith("# Title\n\nIntroduction.\n\nNo run is kept yet: `python3 run.py bench")
    assert "End." not in page


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        json.dumps(RECORD)[:-30],
        json.dumps(RECORD | {"schema": 2}),
        json.dumps(RECORD | {"rows": None}),
        json.dumps(RECORD | {"rows": [ROW | {"value": "fast"}]}),
        json.dumps(RECORD | {"rows": [{"unit": "x"}]}),
        json.dumps(RECORD | {"share": None}),
        json.dumps(RECORD | {"limits": [RECORD["limits"][0] | {"seconds": 0}]}),
        json.dumps(RECORD | {"growth": [RECORD["growth"][0] | {"sizes": []}]}),
        json.dumps(RECORD | {"growth": [RECORD["growth"][0] | {"seconds": [1.0, 2.0]}]}),
        json.dumps(RECORD | {"growth": [RECORD["growth"][0] | {"letter": "q"}]}),
        json.dumps({k: v for k, v in RECORD.items() if k != "machine"}),
    ],
)
def test_a_damaged_record_leaves_a_page_that_says_so(text, kept, tmp_path):
    page = benchmarks_page(TEXT, kept(text), Here(tmp_path))
    assert "`benchmarks/last.json`, cannot be read" in page
    assert "|" not in page


def test_a_folder_in_place_of_the_record_is_told(tmp_path):
    assert "cannot be read" in benchmarks_page(TEXT, tmp_path, Here(tmp_path))


def test_a_part_that_does_not_exist_stops_the_build(tmp_path):
    with pytest.raises(BuildError, match=r"bench must be one of facts, .*, got 'speed'"):
        benchmarks_page("<!-- bench: speed -->", tmp_path / "no.json", Here(tmp_path))


def test_the_staged_page_is_filled_in_place(kept, tmp_path):
    kept(json.dumps(RECORD))
    put_benchmarks(tmp_path, tmp_path, None)  # a book without the page
    (tmp_path / "book").mkdir()
    page = tmp_path / "book" / "benchmarks.md"
    page.write_text(TEXT)
    put_benchmarks(tmp_path, tmp_path, None)
    assert "**7,320**" in page.read_text()
    assert (tmp_path / "book" / "benchmark-growth.svg").exists()


def test_the_page_of_the_book_is_filled_from_the_kept_record(root, tmp_path):
    text = (root / "book/benchmarks.md").read_text()
    assert set(benchmarks.ASKED.findall(text)) == set(benchmarks.PARTS)
    page = benchmarks_page(text, root / benchmarks.RECORD, Here(tmp_path))
    assert "bench: " not in page
    assert page.count("plain-table") == 5
    assert page.count("{figure}") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.34e-7, "0.23 \u00b5s"),
        (1.26e-5, "13 \u00b5s"),
        (0.00099, "990 \u00b5s"),
        (0.386, "390 ms"),
        (7.04, "7 s"),
        (59.0, "59 s"),
        (1900.0, "32 min"),
        (90000.0, "1,500 min"),
    ],
)
def test_times_have_two_digits(seconds, text):
    assert short(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.934, "0.93"),
        (9.83, "9.8"),
        (25.3, "25"),
        (459.7, "460"),
        (73331, "73,300"),
        (3_106_000, "3,110,000"),
    ],
)
def test_ratios_have_two_or_three_digits(ratio, text):
    assert counted(ratio) == text


def test_powers_are_raised():
    assert plain("d^6/24") == "d\u2076/24"
