"""Hand out calls in small batches, go on after the death of a worker, and name the guilty call.

Few batches are in flight at any time and each takes about a tenth of a second (or one call), so
that little is lost when the driver dies. Which worker runs which batch is the executor's matter.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field
from typing import Any

from iclkit.bench.backends import Pool, SweepError

__all__ = ["outcomes"]

BATCH_SECONDS = 0.1
MAX_BATCH = 500
ALONE = 2  # deaths of workers after which a call runs alone, so that it alone can be to blame
Finished = list[tuple[int, Any]]


def outcomes(
    pool: Pool, function: Callable[[Any], Any], arguments: Sequence[Any]
) -> Iterator[Finished]:
    """Yield lists of (index, result) of ``function(argument)``, as they come.

    Parameters
    ----------
    pool : Pool
        See `iclkit.bench.backends.pool_of`.
    function : callable
        Called once with each argument, and again only where a worker died that held it.
    arguments : sequence
        What `function` takes; a message names a call by the text of its argument.

    Raises
    ------
    SweepError
        If a call killed its worker three times, the last time alone, or on a cluster twice as
        often as its scheduler lets it try again; or the cluster is lost.
    Exception
        Whatever `function` raises.
    """
    call = pool.prepare(function)
    work = _Work(arguments, deque(range(len(arguments))))
    flying: dict[Future[Any], list[int]] = {}
    try:
        while work.waiting or flying:
            while batch := work.take(flying.values(), pool.width()):
                flying[pool.submit(_run, call, [arguments[i] for i in batch])] = batch
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                yield work.settle(future, flying.pop(future))
    finally:
        if flying:
            pool.stop()


@dataclass(frozen=True)
class _Work:
    """The calls that wait for a worker, and what was learnt of them."""

    arguments: Sequence[Any]
    waiting: deque[int]
    deaths: Counter[int] = field(default_factory=Counter)
    pace: list[float] = field(default_factory=lambda: [BATCH_SECONDS])  # seconds of a call

    def take(self, flying: Iterable[list[int]], width: int) -> list[int]:
        """Return the next batch; none while enough are in flight, or a suspect is alone."""
        held = list(flying)
        if not self.waiting or len(held) >= width or any(map(self._suspect, held)):
            return []
        if self.deaths[self.waiting[0]]:
            return [] if held and self._suspect(self.waiting) else [self.waiting.popleft()]
        fair = -(-len(self.waiting) // width)
        size = max(1, min(int(BATCH_SECONDS / self.pace[0]), fair, MAX_BATCH))
        return [self.waiting.popleft() for _ in range(size)]

    def settle(self, future: "Future[Any]", batch: list[int]) -> Finished:
        """Return the results of a batch; calls without one wait again."""
        try:
            results, seconds = future.result()
        except Exception as error:  # all but the death of a worker is raised again
            _check_package(error)
            if not (deaths := _deaths(error)):
                raise
            self._blame(batch, deaths)
            return []
        self.pace[0] = max(seconds / len(results), 1e-6)
        self.waiting.extendleft(reversed(batch[len(results) :]))
        return list(zip(batch, results, strict=False))

    def _suspect(self, batch: Sequence[int]) -> bool:
        return self.deaths[batch[0]] >= ALONE

    def _blame(self, batch: list[int], deaths: int) -> None:
        """Count deaths of workers; two in turn may be chance, another one alone is not."""
        alone = self._suspect(batch)
        self.deaths.update(dict.fromkeys(batch, deaths))
        self.waiting.extendleft(reversed(batch))
        if alone:
            guilty = f"{self.arguments[batch[0]]} killed its worker {self.deaths[batch[0]]} times"
            raise SweepError(f"{guilty}; it may need more memory than there is") from None


def _deaths(error: Exception) -> int:
    """Return how many workers were lost; a cluster's error is known by its name, not imported."""
    if type(error).__name__ == "KilledWorker":  # raised once the scheduler tried as often as it may
        return getattr(error, "allowed_failures", 0) + 1
    return int(isinstance(error, BrokenExecutor))


def _check_package(error: Exception) -> None:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("iclkit"):
        remedy = "install this version of iclkit on all workers"
        raise SweepError(f"a worker has no {error.name}; {remedy}") from None


def _run(call: Callable[[Any], Any], given: list[Any]) -> tuple[list[Any], float]:
    """Return results and seconds; a batch that turns out long ends early."""
    start = time.perf_counter()
    results = [call(given[0])]
    for argument in given[1:]:
        if time.perf_counter() - start > 2 * BATCH_SECONDS:
            break
        results.append(call(argument))
    return results, time.perf_counter() - start
