"""What every public call promises, whatever it is given."""

import dataclasses
import inspect
import re
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from iclkit.bench.backends import SweepError
from iclkit.bench.claims import LedgerError
from iclkit.corpora import CorpusError
from iclkit.solvers import ConvergenceError
from tests.iclkit.fuzz.public import Call
from tests.tolerances import ROUTES

LONGEST = 250  # characters of a message
SECONDS = 10.0  # of CPU, for one call; small input is a matter of milliseconds
FOREIGN = (  # of messages that come out of NumPy or Python
    "operands could not",
    "ufunc",
    "einsum",
    "einstein",
    "dimension(s)",
    "-dimensional",
    "core dimension",
    "inhomogeneous",
    "truth value",
    "object is not",
    "has no len",
    "unsupported operand",
    "not subscriptable",
    "indices must",
    "argument must",
    "could not convert",
    "concatenat",
    "Exceeds the limit",
    "array is too big",
    "unpack",
    "positional argument",
)
REFUSALS = (ValueError, TypeError, ConvergenceError, CorpusError, LedgerError, SweepError)


class Outcome(NamedTuple):
    """What a call gave: a value, or the error that refused it."""

    value: Any = None
    refusal: Exception | None = None


class BrokenPromiseError(AssertionError):
    """A call did what no public call may do."""


@contextmanager
def _watch(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise BrokenPromiseError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def outcome_of(call: Call, arguments: Mapping[str, Any], owner: Any = None) -> Outcome:
    """Return what a call gives; raise `BrokenPromiseError` for whatever no call may do."""
    kept = _print(arguments), _print(owner)
    given = bound(call, arguments, owner)
    with warnings.catch_warnings(), _watch(SECONDS):
        warnings.simplefilter("error")
        try:
            outcome = Outcome(call.target(*given.args, **given.kwargs))
        except REFUSALS as error:
            outcome = Outcome(refusal=error)
        except BrokenPromiseError:
            raise
        except BaseException as error:
            raise BrokenPromiseError(f"{type(error).__name__}: {error!s:.200}") from error
    if (_print(arguments), _print(owner)) != kept:
        raise BrokenPromiseError("changed its input")
    return outcome


def bound(call: Call, arguments: Mapping[str, Any], owner: Any) -> inspect.BoundArguments:
    """Return arguments as the signature wants them; one `*name` takes one value."""
    given = inspect.signature(call.target).bind_partial()
    if call.method:
        given.arguments["self"] = owner
    for name, value in arguments.items():
        many = call.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        given.arguments[name] = (value,) if many else value
    return given


def _print(value: Any) -> Any:
    """Return something that differs if an array inside has changed."""
    return [leaf.tobytes() for leaf in leaves(value) if isinstance(leaf, np.ndarray)]


def leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    """Return the numbers and arrays inside a result."""
    if depth > 6:
        return
    inner: list[Any] = []
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple):
        inner = list(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        yield value
    for part in inner:
        yield from leaves(part, depth + 1)


def check_refusal(
    call: Call, error: Exception, arguments: Mapping[str, Any], owner: Any = None
) -> None:
    """Raise unless an error is one short line that names an argument."""
    text = str(error)
    if "\n" in text:
        raise BrokenPromiseError(f"more than one line: {text!r:.200}")
    if not 0 < len(text) <= LONGEST:
        raise BrokenPromiseError(f"{len(text)} characters: {text:.100}")
    if not any(
        re.search(rf"\b{re.escape(name)}\b", text) for name in names_of(call, arguments, owner)
    ):
        raise BrokenPromiseError(f"names no argument: {text}")


def names_of(call: Call, arguments: Mapping[str, Any], owner: Any = None) -> set[str]:
    """Return what a message may name: parameters, and fields of the records among them."""
    names = set(call.parameters)
    for value in (*arguments.values(), owner):
        plain = isinstance(value, list | tuple) and not hasattr(value, "_fields")
        for part in value if plain else [value]:
            names.update(getattr(part, "_fields", ()))
            if dataclasses.is_dataclass(part):
                names.update(field.name for field in dataclasses.fields(part))
    return names


def check_value(call: Call, value: Any) -> None:
    """Raise if a result holds NaN or infinity where the documentation does not speak of it."""
    doc = f"{call.target.__doc__} {type(value).__doc__}".lower()
    for leaf in leaves(value):
        if not isinstance(leaf, float | np.ndarray | np.generic):
            continue
        if np.asarray(leaf).dtype.kind not in "fc":
            continue
        if np.isnan(leaf).any() and "nan" not in doc:
            raise BrokenPromiseError("NaN in the result")
        if np.isinf(leaf).any() and "infin" not in doc and "inf`" not in doc:
            raise BrokenPromiseError("infinity in the result")


def check_same(wanted: Any, found: Any) -> None:
    """Raise unless two results are the same, kinds included; a kind of float or text will do."""
    for one, other in zip(leaves(wanted), leaves(found), strict=True):
        if not isinstance(other, type(one)) or isinstance(one, bool) != isinstance(other, bool):
            raise BrokenPromiseError(f"{one!r:.60} became {other!r:.60}")
        if isinstance(one, int | str):
            assert one == other
        if isinstance(one, float | np.ndarray | np.generic):
            _check_close(np.asarray(one), np.asarray(other))


def _check_close(one: np.ndarray, other: np.ndarray) -> None:
    if one.dtype != other.dtype:
        raise BrokenPromiseError(f"{one.dtype} became {other.dtype}")
    if one.dtype.kind == "f":
        size = float(np.abs(one)[np.isfinite(one)].max(initial=0))
        np.testing.assert_allclose(other, one, rtol=ROUTES, atol=ROUTES * min(size, 1e300))
    else:
        np.testing.assert_array_equal(other, one)
