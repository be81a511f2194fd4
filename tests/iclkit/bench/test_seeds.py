"""A sweep over seeds goes past failures, keeps them, and runs nothing twice."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
from click.testing import CliRunner

from iclkit import cli
from iclkit.bench import drift, seeds
from iclkit.bench.cache import Manifest, store_run
from iclkit.bench.claims import Ledger, load_claims
from iclkit.bench.records import CLAIM_MIME
from iclkit.bench.runner import RunError, Task
from iclkit.bench.seeds import sweep_seeds
from iclkit.bench.sources import cache_key, data_read
from tests import toy

pytestmark = pytest.mark.pipeline

FAILS_AT_1 = {
    "imports": "import os\n\nfrom iclkit.bench import claims",
    "figure": "1",
    "claim": 'ledger = claims.Ledger.load("01_toy", profile)\n'
    'threads = float(os.environ["OMP_NUM_THREADS"])\n'
    'also = {"threads": threads}\n'
    'ledger.check("TOY-1", measured=1 + 2.0 * (seed == 1), expected=1.0, also=also)',
}
DIES_AT_1 = {"draw": 'assert seed != 1, "a cell that dies"'}
NAMES = ["01_toy", "02_other"]


def sweep(place, **options):
    lines = []
    options = {"seeds": (0, 1), "threads": 2} | options
    found = sweep_seeds(NAMES, root=place, profile="quick", report=lines.append, **options)
    return found, lines


def ran(lines):
    return [line for line in lines if "running" in line]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    place = toy.make(tmp_path_factory.mktemp("sweep"))
    toy.write(place, "01_toy", toy.TOY | FAILS_AT_1)
    toy.write(place, "02_other", toy.OTHER | DIES_AT_1)
    return place, *sweep(place)


def test_every_notebook_at_every_seed_and_once_with_more_threads(swept):
    _, found, _ = swept
    count = Counter((t.made.notebook, t.made.seed, t.made.threads) for t in found)
    assert count == Counter((n, s, t) for n in NAMES for s, t in [(0, 1), (1, 1), (0, 2)])


def test_a_claim_that_fails_is_a_result(swept):
    _, found, _ = swept
    rows = {(t.made.seed, t.made.threads): t.rows for t in found if t.made.notebook == "01_toy"}
    verdicts = {asked: row.verdict for asked, (row,) in rows.items()}
    assert verdicts == {(0, 1): "holds", (1, 1): "fails", (0, 2): "holds"}
    failed = next(t for t in found if not t.sound)
    assert failed.problem == ""
    assert failed.made.seconds > 0.5
    assert failed.made.peak_memory_mb > 20
    assert failed.rows[0].score == 2.0


def test_threads_reach_the_notebook(swept):
    _, found, _ = swept
    seen = {t.made.threads: t.rows[0].also["threads"] for t in found if t.rows}
    assert seen == {1: 1.0, 2: 2.0}


def test_threads_do_not_wait_for_processors(monkeypatch, tmp_path):
    asked = []

    def note(_, **options):
        asked.append((options["threads"], options["jobs"]))
        return []

    monkeypatch.setattr(seeds, "run_notebooks", note)
    sweep_seeds([], root=tmp_path, seeds=(0,), threads=4, jobs=8)
    sweep_seeds([], root=tmp_path, seeds=(0,), threads=4, jobs=2)
    assert asked == [(1, 8), (4, 2), (1, 2), (4, 1)]


def test_a_cell_that_dies_is_told_and_the_rest_goes_on(swept):
    _, found, _ = swept
    (dead,) = [trial for trial in found if trial.problem]
    assert (dead.made.notebook, dead.made.seed, dead.rows) == ("02_other", 1, ())
    assert dead.problem == "02_other, cell 3 (draw): AssertionError: a cell that dies"


def test_nothing_that_gave_a_result_runs_again(swept):
    place, first, _ = swept
    again, lines = sweep(place)
    assert ran(lines) == ["02_other: running (quick, seed 1) ..."]
    assert "01_toy: failed before (quick, seed 1)" in lines
    assert [trial.rows for trial in again] == [trial.rows for trial in first]


def test_an_edit_forgets_the_failure(swept, tmp_path):
    place, *_ = swept
    about = (place, "quick", 1, 1, 1, str)
    assert seeds.Round(*about).failed_before("01_toy")
    claims = place / "iclkit/data/claims.toml"
    before = claims.read_text()
    claims.write_text(before.replace("1e-12", "1e-11"))
    assert seeds.Round(*about).failed_before("01_toy") is None
    claims.write_text(before)


def test_a_failure_that_is_damaged_is_no_result(swept):
    place, *_ = swept
    lines = []
    before = seeds.Round(place, "quick", 1, 1, 1, lines.append)
    (path,) = (place / "_build/drift").glob("*.ipynb")
    whole = path.read_text()
    path.write_text(whole.replace("fails", "holds"))
    assert before.failed_before("01_toy") is None
    assert lines == [
        "01_toy: what failed before is damaged, its checksum does not fit; it runs again"
    ]
    path.write_text(whole)
    assert before.failed_before("01_toy")


def test_the_command_keeps_the_record_and_ends_with_an_error(swept, monkeypatch):
    place, *_ = swept
    monkeypatch.chdir(place)
    monkeypatch.setattr(cli, "PACKAGE", place / "iclkit")
    (place / drift.PLACE).unlink(missing_ok=True)
    options = ["--seed", "0", "--seed", "1", "--threads", "1", "--profile", "quick"]
    done = CliRunner().invoke(cli.main, ["drift", "01_toy", *options])
    assert done.exit_code == 1
    assert "TOY-1: fails at seed 1, score 2 relative, limit 1e-12\n" in done.output
    assert "iclkit: not every claim came out at every seed" in done.output
    record = drift.read_record(place)
    assert [result.verdict for result in record.claims["TOY-1"].results] == ["holds", "fails"]


def test_the_command_ends_well_when_all_came_out(swept, monkeypatch):
    place, *_ = swept
    monkeypatch.chdir(place)
    monkeypatch.setattr(cli, "PACKAGE", place / "iclkit")
    (place / drift.PLACE).unlink(missing_ok=True)
    monkeypatch.setattr(cli, "load_claims", lambda: load_claims(place / "iclkit/data/claims.toml"))
    options = ["--no-keep", "--seed", "0", "--threads", "1", "--profile", "quick"]
    done = CliRunner().invoke(cli.main, ["drift", *options])
    assert not (place / drift.PLACE).exists()
    assert done.exit_code == 0
    last = "0 of 1 scores depend on the seed; runs: 2, results that fail: 0\n"
    assert last in done.output


def test_the_command_refuses_to_lose_another_profile_before_it_runs(swept, monkeypatch):
    place, found, _ = swept
    monkeypatch.chdir(place)
    monkeypatch.setattr(cli, "PACKAGE", place / "iclkit")
    claims = load_claims(place / "iclkit/data/claims.toml")
    record = drift.as_text(drift.record_of([t for t in found if t.rows], claims))
    (place / drift.PLACE).write_text(record.replace('"quick"', '"book"'))
    before = (place / drift.PLACE).read_bytes()
    monkeypatch.setattr(cli, "sweep_seeds", lambda *_, **__: pytest.fail("it ran"))
    done = CliRunner().invoke(cli.main, ["drift", "01_toy", "--profile", "quick", "--seed", "0"])
    assert done.exit_code == 1
    assert done.output.startswith("iclkit: profile must be book, got quick: ")
    assert done.output.endswith("add --no-keep to leave them, or --replace to drop them\n")
    assert (place / drift.PLACE).read_bytes() == before
    monkeypatch.setattr(cli, "sweep_seeds", lambda *_, **__: found)
    again = ["drift", "--profile", "quick", "--seed", "0", "--replace"]
    assert "runs of profile book are dropped" in CliRunner().invoke(cli.main, again).output
    assert drift.read_record(place).profile == "quick"


def test_a_notebook_that_cannot_begin_ends_the_sweep(tmp_path):
    place = toy.make(tmp_path)
    toy.write(place, "01_toy", toy.TOY | {"parameters": "seed = 0"})
    with pytest.raises(RunError, match="must assign profile and seed"):
        sweep(place)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": ()}, "seeds must not be empty"),
        ({"seeds": (-1,)}, "seed must be >= 0, got -1"),
        ({"seeds": (0, -1)}, "seed must be >= 0, got -1"),
        ({"seeds": (0,), "threads": 0}, "threads must be >= 1, got 0"),
    ],
)
def test_wrong_requests(tmp_path, monkeypatch, options, words):
    monkeypatch.setattr(Task, "run", lambda _: pytest.fail("nothing should run"))
    with pytest.raises(ValueError, match=words):
        sweep_seeds(["01_toy"], root=toy.make(tmp_path), **options)


class TestCrash:
    """A crash after a claim that fails says nothing of the claims after it."""

    ENDED = RunError("01_toy, cell 6 (late): its process was killed\n  partial output: x")

    @pytest.fixture
    def turn(self, tmp_path):
        place = toy.make(tmp_path)
        claims = place / "iclkit/data/claims.toml"
        claims.write_text(toy.CLAIM + toy.CLAIM.replace("TOY-1", "TOY-2"))
        return seeds.Round(place, "quick", 1, 1, 1, str)

    def left(self, turn, *names):
        """Leave the partial copy of a run whose claims of these names fail; return its manifest."""
        ledger = Ledger.load("01_toy", "quick", path=turn.root / "iclkit/data/claims.toml")
        rows = [ledger.check(name, measured=3.0, expected=1.0) for name in names]
        cells = [toy.cell(row.id, "1") for row in rows]
        for cell, row in zip(cells, rows, strict=True):
            data = {CLAIM_MIME: row.to_json()}
            cell["outputs"] = [{"output_type": "display_data", "data": data}]
        made = Manifest("01_toy", turn.key("01_toy"), "quick", 1, "a", "today", 1, 1, "m", {})
        partial = turn.partial("01_toy")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({"cells": cells}))
        partial.with_suffix(".json").write_text(json.dumps(asdict(made)))
        return made

    def test_it_is_a_problem_and_runs_again(self, turn):
        made = self.left(turn, "TOY-1")
        trial = turn.failure("01_toy", self.ENDED)
        assert trial.problem == "01_toy, cell 6 (late): its process was killed"
        assert trial.rows == ()
        assert not (turn.root / "_build/drift").exists()
        kept = turn.kept("01_toy", made.key)
        kept.parent.mkdir()
        store_run(turn.partial("01_toy"), made, kept)  # as sweeps once did
        assert turn.failed_before("01_toy") is None

    def test_with_a_row_for_every_claim_it_is_a_result(self, turn):
        self.left(turn, "TOY-1", "TOY-2")
        trial = turn.failure("01_toy", self.ENDED)
        assert [row.verdict for row in trial.rows] == ["fails", "fails"]
        assert trial.problem == ""
        assert turn.failed_before("01_toy").rows == trial.rows

    def test_a_copy_that_is_half_written_ends_no_sweep(self, turn):
        self.left(turn, "TOY-1", "TOY-2")
        turn.partial("01_toy").write_text('{"cells": [')
        assert turn.failure("01_toy", self.ENDED).problem.endswith("its process was killed")


class TestKey:
    @pytest.fixture
    def place(self, tmp_path):
        return toy.make(tmp_path)

    def key(self, place, threads, name="01_toy"):
        return seeds.Round(place, "quick", 0, threads, 1, str).key(name)

    def test_threads_have_keys_of_their_own_and_one_thread_has_that_of_before(self, place):
        task = Task("01_toy", "quick", 0, place, None, str, None)
        asked = {"profile": "quick", "seed": 0}
        assert self.key(place, 1) == cache_key("01_toy", task.notebook, asked, place)
        assert len({self.key(place, threads) for threads in (1, 2, 3)}) == 3

    def test_records_rerun_nothing(self, place):
        (place / drift.PLACE).unlink(missing_ok=True)
        before, bench = self.key(place, 1), place / "iclkit/bench"
        verdicts = place / "iclkit/data/paper/01_toy/run.json"
        verdicts.parent.mkdir(parents=True)
        for record in (place / drift.PLACE, verdicts):
            record.write_text("{}")
        assert self.key(place, 1) == before
        points = verdicts.with_name("toy-figure.csv")
        points.write_text("x,n\n")
        assert data_read([bench / "claims.py"], place) == []
        assert points in data_read([bench / "kept.py", bench / "claims.py"], place)
        (place / "iclkit/other.py").write_text("from importlib import resources")
        others = data_read([place / "iclkit/other.py"], place)
        assert {path.name for path in others} == {"lu2025_published.csv"}
