"""Where the cells of a sweep run: in this process, on local cores, or on a Dask cluster.

All three take batches of calls and give futures, so that one loop serves them all. A worker uses
one BLAS thread, gets the function once, and ends when the process that started it is gone. Only to
see whether more threads change a number, the runner asks for more in the workers of this machine.
"""

import contextlib
import functools
import importlib
import io
import json
import logging
import os
import pickle
import re
import socket
import sys
import threading
import time
import types
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits

from iclkit._checks import count, instance, shown
from iclkit.bench.fingerprint import borrowed, in_module, versions

__all__ = ["Pool", "SweepError", "pool_of"]

CONNECT_SECONDS = 10
IDLE_SECONDS = 300  # until an idle local worker ends
FOLLOW_SECONDS = 0.1  # until a local worker notices that its driver is gone
LOOK_SECONDS = 0.5  # between looks how many workers a cluster has
MAX_BYTES = 8 * 2**20  # of a function with its closure: a cluster gets it with every batch
THREADS = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "BLIS_NUM", "VECLIB_MAXIMUM", "NUMEXPR_NUM")
ONE_THREAD = {f"{name}_THREADS": "1" for name in THREADS}
CELL_THREADS = "ICLKIT_CELL_THREADS"  # for a sweep of seeds, which looks whether they matter
LOST = "the connection to the Dask scheduler was lost"
Function = Callable[[Any], Any]
Loaded = tuple[tuple[str, tuple[str, ...]], str]  # a module and names in it, and their digest


class SweepError(RuntimeError):
    """A sweep cannot begin or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Pool:
    """Somewhere to run, see `pool_of`.

    Parameters
    ----------
    submit : callable
        ``submit(function, *arguments)`` returns a future.
    width : callable
        Returns how many batches to keep in flight.
    prepare : callable
        Returns what to send in place of a function.
    stop : callable
        Ends what still runs, after a failure.
    """

    submit: Callable[..., "Future[Any]"]
    width: Callable[[], int]
    prepare: Callable[[Function], Function]
    stop: Callable[[], object]


@contextlib.contextmanager
def pool_of(n_jobs: int | None, cluster: Any = None) -> Iterator[Pool]:
    """Open the place that the arguments name, for a ``with`` statement.

    Parameters
    ----------
    n_jobs : int or None
        Local processes: 1 stays in this one, None takes all cores, -2 all but one.
    cluster : str, Path or distributed.Client, optional
        Address of a Dask scheduler, its scheduler file, or a client. It wins over `n_jobs`.

    Yields
    ------
    Pool

    Raises
    ------
    SweepError
        If the cluster does not answer, or ``distributed`` is not installed.
    ValueError
        If `n_jobs` is 0.
    TypeError
        If `n_jobs` is no integer.
    """
    if cluster is not None:
        place: contextlib.AbstractContextManager[Pool] = _cluster(cluster)
    elif (jobs := _jobs(n_jobs)) == 1:
        place = _here()
    else:
        place = contextlib.nullcontext(_local(jobs))
    with place as pool:
        yield pool


def _jobs(n_jobs: int | None) -> int:
    cores = joblib.cpu_count()
    if n_jobs is None:
        return max(1, cores // cell_threads())
    n_jobs = count("n_jobs", n_jobs, low=-(10**6))
    if n_jobs == 0:
        raise ValueError("n_jobs must be >= 1, or negative to leave cores free, got 0")
    return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)


def cell_threads() -> int:
    """Return how many BLAS threads a cell has on this machine: one, but for the runner's wish."""
    wish = os.environ.get(CELL_THREADS, "1")
    if not re.fullmatch("[1-9][0-9]{,2}", wish):
        raise SweepError(f"{CELL_THREADS} must be from 1 to 999, got {shown(wish)}; unset it")
    return int(wish)


@contextlib.contextmanager
def _here() -> Iterator[Pool]:
    threads = cell_threads()
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    # for a library that a cell is the first to load
    os.environ.update(dict.fromkeys(ONE_THREAD, str(threads)))
    try:
        with threadpool_limits(threads):
            yield Pool(_now, lambda: 1, lambda function: function, lambda: None)
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _now(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_result(function(*arguments))
    return future


def _local(jobs: int) -> Pool:
    """Return the pool of local processes, which outlive a sweep and serve the next."""
    threads = dict.fromkeys(ONE_THREAD, str(cell_threads()))
    start = {"initializer": _follow, "initargs": (os.getpid(),), "env": threads}
    executor = functools.partial(get_reusable_executor, jobs, timeout=IDLE_SECONDS, **start)

    def submit(function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        return executor().submit(function, *arguments)  # a new one if a worker's death broke it

    def stop() -> None:
        executor().shutdown(wait=True, kill_workers=True)

    return Pool(submit, lambda: jobs + 2, _packed, stop)


def _follow(driver: int) -> None:
    """End this worker soon after its driver, even one that was killed."""

    def look() -> None:
        while os.getppid() == driver:
            time.sleep(FOLLOW_SECONDS)
        os._exit(1)

    if os.getppid() == driver:
        threading.Thread(target=look, daemon=True).start()


@contextlib.contextmanager
def _cluster(cluster: Any) -> Iterator[Pool]:
    try:
        import distributed
    except ImportError:
        remedy = "in the repository's folder: python -m pip install -e '.[bench,cluster]'"
        raise SweepError(f"a sweep on a cluster needs distributed; {remedy}") from None
    given = isinstance(cluster, distributed.Client)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quietly("distributed.client"))
        client = cluster if given else _client(distributed, cluster)
        if not given:
            stack.callback(client.close)
        sent: weakref.WeakSet[Any] = weakref.WeakSet()
        submit = functools.partial(_submit, client, sent)
        stop = functools.partial(_cancel, client, sent)
        yield Pool(submit, _twice_the_threads(client), _packed_small, stop)


@dataclass(frozen=True)
class _Deed:
    """Pickles to the result of a call: who unpickles it, makes the call."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def _submit(client: Any, sent: Any, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
    """Send a call as bytes: what a worker lacks then fails the call and does not end the worker."""
    code = cloudpickle.dumps(_Deed(function, arguments))
    near: Future[Any] = Future()
    with _lost_in_a_line():
        far = client.submit(pickle.loads, code, key=f"sweep-{uuid.uuid4().hex}")
        sent.add(far)
        client.loop.add_callback(_carry, client, far, near)
    return near


async def _carry(client: Any, far: Any, near: "Future[Any]") -> None:
    """Bring the result here; whatever goes wrong on the way must end the wait for it."""
    try:
        near.set_result(await client.gather(far, asynchronous=True))
    except BaseException as error:
        near.set_exception(error if far.status == "error" else SweepError(LOST))


def _cancel(client: Any, sent: Any) -> None:
    with contextlib.suppress(SweepError), _lost_in_a_line():  # where it is lost, nothing runs
        client.cancel(list(sent))


@contextlib.contextmanager
def _lost_in_a_line() -> Iterator[None]:
    """Say in a line what a client raises in several ways once its scheduler is gone."""
    try:
        yield
    except Exception as error:  # of several classes; each stays as the cause
        raise SweepError(LOST) from error


@contextlib.contextmanager
def _quietly(name: str) -> Iterator[None]:
    """Keep a logger from telling at length what this module says in a line, or mends."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _client(distributed: Any, cluster: str | Path) -> Any:
    """Return a client of the scheduler at an address, or in a file that it wrote."""
    address, where = _address(cluster)
    try:
        distributed.comm.resolve_address(address)  # a client that fails here ends noisily and late
        return distributed.Client(address, set_as_default=False, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        remedy = "start one with `dask scheduler`, or correct the address"
        raise SweepError(f"no Dask scheduler answers at {where}; {remedy}") from error


def _address(cluster: str | Path) -> tuple[str, str]:
    """Return a scheduler's address, and what to call it in a message."""
    if not isinstance(cluster, str | Path):
        kinds = "an address, a scheduler file or a client"
        raise TypeError(f"cluster must be {kinds}, got {shown(cluster)}")
    if isinstance(cluster, str) and not cluster.endswith(".json"):
        return cluster, shown(cluster)
    file = Path(cluster)
    if not file.is_file():
        raise SweepError(f"cluster must name a scheduler file that exists, got {file}")
    try:
        address = instance("address", json.loads(file.read_text("utf-8"))["address"], str, "")
    except (OSError, ValueError, TypeError, KeyError) as error:
        remedy = "let `dask scheduler --scheduler-file` write it anew"
        raise SweepError(f"cluster: {file} is no scheduler file; {remedy}") from error
    return address, f"{shown(address)}, which {file} names"


def _twice_the_threads(client: Any) -> Callable[[], int]:
    """Return a function that looks from time to time how many threads the workers have."""

    @functools.lru_cache(maxsize=1)
    def look(_moment: int) -> int:
        with _lost_in_a_line():
            return max(2, 2 * sum(client.nthreads().values()))

    return lambda: look(int(time.monotonic() / LOOK_SECONDS))


@dataclass(frozen=True)
class _Packed:
    """A function on its way to workers: pickled once, unpickled once in each."""

    code: bytes
    versions: tuple[tuple[str, str], ...]
    loaded: tuple[Loaded, ...]  # what a worker takes from its own files
    far: bool  # whether somebody else started the worker, with any library and threads

    def __call__(self, argument: Any) -> Any:
        if self.far:
            _limit(len(sys.modules))
        return _unpacked(self)(argument)


def _packed(function: Function, *, far: bool = False) -> _Packed:
    try:
        noting = _Noting(content := io.BytesIO())
        noting.dump(function)
        loaded = tuple((place, in_module(*place)) for place in sorted(noting.places))
        return _Packed(content.getvalue(), tuple(versions().items()), loaded, far)
    except Exception as error:  # whatever an object in its closure raises
        remedy = "make it inside the cell, or use n_jobs=1"
        raise TypeError(f"the cell cannot be sent to workers: {error}; {remedy}") from error


class _Noting(cloudpickle.Pickler):
    """Notes what it sends as a name only: a worker takes that from the user's file."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.places: set[tuple[str, tuple[str, ...]]] = set()

    def reducer_override(self, obj: Any) -> Any:
        """Return what cloudpickle returns."""
        reduced = super().reducer_override(obj)
        if isinstance(obj, type | types.FunctionType):
            self.places.update(borrowed(obj, by_name=reduced is NotImplemented))
        return reduced


def _packed_small(function: Function) -> _Packed:
    packed = _packed(function, far=True)
    if (size := len(packed.code)) > MAX_BYTES:
        most = f"at most {MAX_BYTES >> 20} MB of data with it, got {size >> 20} MB"
        raise SweepError(f"a cell on a cluster must take {most}; load or make them in the cell")
    return packed


@functools.lru_cache(maxsize=8)
def _unpacked(packed: _Packed) -> Function:
    if packed.far:
        check_versions(dict(packed.versions), versions())
    elif dict(packed.versions) != versions():
        raise SweepError("iclkit was edited since it was imported; start Python again")
    try:
        function = cloudpickle.loads(packed.code)
        for (name, _), _ in packed.loaded:
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        remedy = "install it on all, or define the cell in the script or notebook itself"
        where = f"the worker on {socket.gethostname()}"
        raise SweepError(f"{where} has no {error.name}, which the cell needs; {remedy}") from None
    _check_loaded(packed)
    return function


def _check_loaded(packed: _Packed) -> None:
    """Raise SweepError if this worker took something else from the user's files than the driver."""
    _served.add(hash(packed))
    for (module, names), digest in packed.loaded:
        if _at_first(module, names) == digest:
            continue
        if not packed.far and len(_served) > 1:
            os._exit(1)  # it holds what an earlier sweep used; a new worker loads the file anew
        name = f"{module}.{names[0]}" if len(names) == 1 else module
        if packed.far:
            where = f"the worker on {socket.gethostname()} has another {name} than the driver"
            raise SweepError(f"{where}; give all the same file and start them again")
        cause = "it, or what it reads, was changed since it was imported"
        raise SweepError(f"a worker loads another {name}: {cause}; start Python again")


_served: set[int] = set()  # the functions that this worker was given
_at_first = functools.cache(in_module)  # what a cell remembers from call to call is no edit


def check_versions(asked: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise SweepError if this worker could compute other numbers than the driver's machine."""
    for name in asked.keys() & found.keys():
        if asked[name] != found[name]:
            worker = f"the worker on {socket.gethostname()} has {name} {found[name]}"
            remedy = "install the same on all, so that all compute the same numbers"
            raise SweepError(f"{worker}, the driver {asked[name]}; {remedy}")


@functools.lru_cache(maxsize=1)
def _limit(_n_modules: int) -> None:
    """Take one thread in a worker that somebody else started; more modules bring more libraries."""
    os.environ.update(ONE_THREAD)
    threadpool_limits(1)
