"""Timing that is fair on a busy machine: warm, in turn, the least of several.

Other work on a machine can only add time, so the least time of several is the one to trust. A
call on one thread is timed by the processor time of this process, which does not count the time
that others had the processor; a call on more threads needs the clock on the wall, because threads
that wait for each other burn processor time, too.
"""

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

LEAST = 5e-3  # seconds that one measurement lasts: shorter calls are repeated within it
MOST_CALLS = 1_000  # within one measurement
TURNS = 5  # measurements in a round of a call that is at least as many times shorter

TRIMMED_ABOVE, NO_MAPPED = -1, -4  # options of the allocator, as malloc.h numbers them

Clock = Callable[[], float]
Calls = dict[str, Callable[[], Any]]


class Timed(NamedTuple):
    """Least seconds of a call, and what it returned last."""

    seconds: float
    result: Any


def clock(threads: int) -> Clock:
    """Return the clock for calls on so many threads: of the processor for one, else of the wall."""
    return time.process_time if threads == 1 else time.perf_counter


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_memory() -> bool:
    """Let this process keep freed memory, and return whether its system can.

    Otherwise each call asks the kernel anew for the pages of its large arrays. What that costs
    depends on what else the machine does, up to several times the call itself.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # not the allocator of Linux
        return False
    return bool(mallopt(NO_MAPPED, 0) and mallopt(TRIMMED_ABOVE, 2**31 - 1))


def interleaved(
    calls: Calls, *, repeats: int, warm_up: Callable[[], Any], threads: int = 1
) -> dict[str, Timed]:
    """Return the least time of each call, taken in turn after a warm-up.

    Parameters
    ----------
    calls : dict of callables
    repeats : int
        Rounds; in each of them every call is measured once.
    warm_up : callable
        Called before the first round.
    threads : int
        How many threads the calls may use, see `clock`.
    """
    warm_up()
    now, best = clock(threads), dict[str, Timed]()
    for _ in range(repeats):
        for name, call in calls.items():
            for _ in range(_turns(name, best)):
                best[name] = _better(call, now, best.get(name))
    return best


def _turns(name: str, best: dict[str, Timed]) -> int:
    """Return how often a call is measured in a round: more often where that costs next to nothing.

    The longer a call, the more it averages over what else the machine does by itself.
    """
    if name not in best:
        return 1
    return TURNS if TURNS * best[name].seconds < max(t.seconds for t in best.values()) else 1


def _better(call: Callable[[], Any], now: Clock, known: Timed | None) -> Timed:
    """Return a new measurement of a call, or the known seconds where they were fewer."""
    fresh = _measured(call, now, None if known is None else known.seconds)
    return fresh if known is None else Timed(min(fresh.seconds, known.seconds), fresh.result)


def _measured(call: Callable[[], Any], now: Clock, expected: float | None) -> Timed:
    """Return the mean time of as many calls as make `LEAST`, by what one is expected to take."""
    number = 1 if expected is None else min(MOST_CALLS, round(LEAST / max(expected, 1e-9)) or 1)
    start = now()
    for _ in range(number):
        result = call()
    return Timed((now() - start) / number, result)
