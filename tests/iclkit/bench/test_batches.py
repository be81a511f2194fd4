"""Batches: every call has one result, whatever dies; a call that kills its worker is named."""

from collections import Counter
from concurrent.futures import BrokenExecutor, Future

import pytest

from iclkit.bench import batches
from iclkit.bench.backends import Pool, SweepError, check_versions, pool_of
from iclkit.bench.batches import outcomes

KilledWorker = type("KilledWorker", (Exception,), {})  # what a cluster raises, by name


UNFINISHED = "unfinished"


class Flaky:
    """An executor that runs a batch when it is asked for, unless the batch is doomed."""

    def __init__(self, doomed=lambda _batch, _sent: None, width=3):
        self.doomed, self.sent, self.stopped = doomed, [], 0
        self.pool = Pool(self.submit, lambda: width, lambda function: function, self.stop)

    def submit(self, run, call, given):
        self.sent.append(list(given))
        future = Future()
        if error := self.doomed(given, len(self.sent)):
            if error is not UNFINISHED:
                future.set_exception(error)
            return future
        try:
            future.set_result(run(call, given))
        except Exception as raised:
            future.set_exception(raised)
        return future

    def stop(self):
        self.stopped += 1


def collected(flaky, n=50):
    found = {}
    for finished in outcomes(flaky.pool, lambda i: i**2, range(n)):
        assert not found.keys() & dict(finished).keys()
        found |= dict(finished)
    return found


def squares(n=50):
    return {i: i**2 for i in range(n)}


def test_every_call_has_its_result_and_runs_once():
    flaky = Flaky()
    assert collected(flaky) == squares()
    assert Counter(i for batch in flaky.sent for i in batch) == Counter(range(50))
    assert flaky.stopped == 0


def test_quick_calls_travel_in_batches():
    flaky = Flaky()
    collected(flaky, 2000)
    assert len(flaky.sent) < 100
    assert max(map(len, flaky.sent)) <= batches.MAX_BATCH


def test_a_batch_that_turns_out_long_ends_early(monkeypatch):
    monkeypatch.setattr(batches, "BATCH_SECONDS", -1.0)
    results, _ = batches._run(lambda i: i, [3, 4, 5])
    assert results == [3]


def test_what_a_long_batch_leaves_runs_later():
    work = batches._Work(range(9), batches.deque([5, 6]))
    future = Future()
    future.set_result(([10], 1.0))
    assert work.settle(future, [1, 2, 3]) == [(1, 10)]
    assert list(work.waiting) == [2, 3, 5, 6]


@pytest.mark.parametrize("error", [BrokenExecutor, KilledWorker])
def test_a_worker_that_dies_costs_no_result(error):
    flaky = Flaky(lambda _batch, sent: error() if sent in (2, 3, 7) else None)
    assert collected(flaky) == squares()


@pytest.mark.parametrize("error", [BrokenExecutor, KilledWorker])
def test_a_call_that_kills_its_worker_is_named(error):
    flaky = Flaky(lambda batch, _sent: error() if 17 in batch else None)
    with pytest.raises(SweepError, match=r"^17 killed its worker 3 times; it may need"):
        collected(flaky)
    guilty = [batch for batch in flaky.sent if 17 in batch]
    assert len(guilty) == batches.ALONE + 1
    assert guilty[-1] == [17]


def test_deaths_that_a_scheduler_counted_are_counted_once():
    error = KilledWorker()
    error.allowed_failures = 3
    flaky = Flaky(lambda batch, _sent: error if 17 in batch else None)
    with pytest.raises(SweepError, match=r"^17 killed its worker 8 times; it may need"):
        collected(flaky)
    guilty = [batch for batch in flaky.sent if 17 in batch]
    assert len(guilty) == 2
    assert guilty[-1] == [17]


def test_a_suspect_runs_alone():
    work = batches._Work(range(50), batches.deque([17, 18]))
    work.deaths[17] = batches.ALONE
    assert work.take([[3]], 4) == []
    assert work.take([], 4) == [17]
    assert work.take([[17]], 4) == []


def test_a_suspect_that_is_innocent_costs_no_result():
    deaths = iter([BrokenExecutor(), BrokenExecutor()])
    flaky = Flaky(lambda batch, _sent: next(deaths, None) if 17 in batch else None)
    assert collected(flaky) == squares()


def test_when_all_workers_die_it_ends_soon():
    flaky = Flaky(lambda _batch, _sent: BrokenExecutor())
    with pytest.raises(SweepError, match="killed its worker"):
        collected(flaky, 10_000)
    assert len(flaky.sent) < 20


def test_an_error_of_the_call_passes_and_the_rest_is_stopped():
    fate = {1: UNFINISHED, 2: ZeroDivisionError("here")}
    flaky = Flaky(lambda _batch, sent: fate.get(sent))
    with pytest.raises(ZeroDivisionError, match="here"):
        collected(flaky)
    assert flaky.stopped == 1


def test_a_worker_without_the_package_is_one_line():
    error = ModuleNotFoundError("No module named 'iclkit.bench'", name="iclkit.bench")
    with pytest.raises(SweepError, match=r"a worker has no iclkit\.bench; install this version"):
        collected(Flaky(lambda _batch, _sent: error))


def test_versions_must_agree_where_both_have_one():
    check_versions({"numpy": "2.4", "torch": "2.13"}, {"numpy": "2.4", "scipy": "1.17"})
    with pytest.raises(SweepError, match=r"has numpy 2\.3, the driver 2\.4; install the same"):
        check_versions({"numpy": "2.4"}, {"numpy": "2.3"})


def test_a_pool_needs_workers():
    with pytest.raises(ValueError, match=r"n_jobs must be >= 1, .* got 0"), pool_of(0):
        pass


def test_what_cannot_be_sent_is_said(tmp_path):
    said = pytest.raises(TypeError, match=r"cannot be sent to workers.*use n_jobs=1")
    with (tmp_path / "file").open("w") as file, pool_of(2) as pool, said:
        list(outcomes(pool, file.write, ["1"]))
