"""The far side of the sandbox: run the cells, answer the calls, believe nothing about the parent.

`sandbox` starts :func:`main` as a program of its own. One line of JSON comes in for each call, one
line goes out. By the time a student's cell runs, the process has given up all that `confine` takes;
what the cell does to this module from within, it does to its own answers.

The same encoding serves both sides: numbers, text, lists, tuples, dicts and arrays become JSON with
base64 for the entries of arrays, and nothing else does.
"""

import base64
import builtins
import json
import os
import sys
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Unfit", "decode", "encode", "main"]

MODULES = ("numpy", "scipy", "iclkit")  # whose exceptions are told by their own names
MESSAGE = 300  # characters of an exception's message that are kept
DEPTH = 20  # of lists in lists


class Unfit(Exception):  # noqa: N818  (not an error of the program)
    """A value that cannot be graded; the text says what it is: "a set"."""


def encode(value: Any, depth: int = DEPTH) -> Any:
    """Return `value` in terms of JSON; `Unfit` for what is neither number, text, list nor array."""
    if value is None or isinstance(value, bool | str):
        return value
    if type(value) in (int, float):
        return value
    if isinstance(value, list | tuple):
        if not depth:
            raise Unfit("deep")
        inner = [encode(part, depth - 1) for part in value]
        return inner if isinstance(value, list) else {"tuple": inner}
    if isinstance(value, dict):
        return {"dict": [[str(key), encode(part, depth - 1)] for key, part in value.items()]}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        return _encode_array(numpy, value)
    raise Unfit(type(value).__name__)


def _encode_array(numpy: Any, value: Any) -> Any:
    array = numpy.asarray(value)
    kind = {"b": "|b1", "i": "<i8", "f": "<f8"}.get(array.dtype.kind)
    if array.dtype.kind == "u":
        kind = "<i8" if not array.size or array.max() < 2**63 else "<f8"
    if kind is None:
        kinds = {"c": "complex numbers", "U": "array of text"}
        raise Unfit(kinds.get(array.dtype.kind, "array of objects"))
    data = base64.b64encode(numpy.ascontiguousarray(array, dtype=kind).tobytes()).decode()
    scalar = isinstance(value, numpy.generic)
    return {"array": data, "dtype": kind, "shape": list(array.shape), "scalar": scalar}


def decode(coded: Any, depth: int = DEPTH + 2) -> Any:
    """Return the value that :func:`encode` coded; an error for anything else."""
    if coded is None or isinstance(coded, bool | float):
        return coded
    if isinstance(coded, int):
        return _within(coded, 2**63)
    if isinstance(coded, str):
        return coded.encode("utf-8", "replace").decode("utf-8")
    if not depth:
        raise ValueError("nested too deeply")
    if isinstance(coded, list):
        return [decode(part, depth - 1) for part in coded]
    return _decode_marked(coded, depth - 1)


def _decode_marked(coded: dict[str, Any], depth: int) -> Any:
    kinds = set(coded)
    if kinds == {"tuple"}:
        return tuple(decode(list(coded["tuple"]), depth))
    if kinds == {"dict"}:
        return {str(key): decode(part, depth) for key, part in coded["dict"]}
    if kinds == {"array", "dtype", "shape", "scalar"}:
        return _decode_array(**coded)
    raise ValueError("not a coded value")


def _within(number: int, most: int) -> int:
    if not -most <= number < most:
        raise OverflowError("integer of more than 64 bits")
    return number


def _decode_array(array: Any, dtype: Any, shape: Any, scalar: Any) -> Any:
    import numpy as np  # only where there are arrays: it costs 0.1 s

    if dtype not in ("|b1", "<i8", "<f8"):
        raise ValueError("not a type of entries that can be graded")
    if not all(type(n) is int and 0 <= n < 2**31 for n in shape) or len(shape) > 32:
        raise ValueError("not a shape")
    entries = np.frombuffer(base64.b64decode(array, validate=True), dtype)
    if dtype == "|b1":
        entries = np.frombuffer(entries.tobytes(), np.uint8) != 0  # other bytes than 0, 1 mislead
    whole = entries.reshape(tuple(shape)).copy()
    return whole[()] if scalar is True and whole.ndim == 0 else whole


# ------------------------------------------------------------------ the program


def main() -> None:
    """Read what to do, give up all rights, and answer calls until the parent has no more."""
    questions, answers = open(os.dup(0), "rb"), os.dup(1)  # noqa: PTH123, SIM115  (until the end)
    task = json.loads(questions.readline())
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    sys.path[:] = [path for path in sys.path if os.path.isdir(path)]  # noqa: PTH112  (fast start)
    sys.path.extend(task["path"])
    try:
        _confine(task, answers)
    except Exception as error:
        _say(answers, {"broken": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _say(answers, {"ready": True})
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = module.__dict__
    namespace.update(decode(task["given"]), display=lambda *_, **__: None)
    _say(answers, {"cells": _run_cells(task["cells"], namespace)})
    for line in iter(questions.readline, b""):
        _say(answers, _answer(json.loads(line), namespace))
    os._exit(0)


def _confine(task: Mapping[str, Any], answers: int) -> None:
    from iclkit.classroom import confine

    if task["user"]:
        confine.take_user(task["user"])
    if task["parent"]:  # after that, since a new user forgets it
        confine.follow_parent(task["parent"])
    confine.limit(int(time.process_time()) + task["seconds"], task["bytes"])
    if task["kernel"] and task["open"]:
        confine.close_paths(task["open"], task["listed"])
    if task["kernel"]:
        confine.close_calls()
    confine.watch(task["roots"], task["files"], answers)


def _say(answers: int, reply: Mapping[str, Any]) -> None:
    """Send one line, all of it."""
    rest = memoryview(json.dumps(reply).encode() + b"\n")
    while rest:
        rest = rest[os.write(answers, rest) :]


def _run_cells(cells: Sequence[str], namespace: dict[str, Any]) -> dict[str, Any] | None:
    """Run the cells in turn; return what the first failing one raised, or None."""
    for number, cell in enumerate(cells):
        name = _cell_name(number)
        try:
            exec(_compiled(cell, name), namespace)  # noqa: S102  (what all this is for)
        except BaseException as error:
            return _described(error, message=True)
    return None


def _cell_name(number: int) -> str:
    return f"<cell {number}>"


def _compiled(cell: str, name: str) -> types.CodeType:
    """Compile a cell; where that fails, without the lines that only a notebook understands."""
    try:
        return compile(cell, name, "exec")
    except SyntaxError:
        lines = ["" if line.lstrip()[:1] in ("%", "!") else line for line in cell.split("\n")]
        return compile("\n".join(lines), name, "exec")


def _answer(call: Mapping[str, Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
    try:
        if call["name"] not in namespace:
            return {"missing": True}
        value = namespace[call["name"]]
        if call["arguments"] is not None:
            value = value(*decode(call["arguments"]))
        return {"value": encode(value)}
    except Unfit as error:
        return {"unfit": str(error)}
    except BaseException as error:
        return {"error": _described(error, message=False)}


def _described(error: BaseException, *, message: bool) -> dict[str, Any]:
    """Return the name of an exception and the line of the cell that it came from."""
    try:
        cell, line = _place(error)
        text = str(error)[:MESSAGE] if message else ""
        return {"type": _known_name(type(error)), "cell": cell, "line": line, "message": text}
    except BaseException:
        return {"type": "Exception", "cell": -1, "line": 0, "message": ""}


def _place(error: BaseException) -> tuple[int, int]:
    """Return the cell and the line in it that an exception came from last, or (-1, 0)."""
    if isinstance(error, SyntaxError) and str(error.filename).startswith("<cell "):
        return int(error.filename[6:-1]), int(error.lineno or 0)  # type: ignore[index]
    found, trace = (-1, 0), error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith("<cell "):
            found = int(file[6:-1]), trace.tb_lineno
        trace = trace.tb_next
    return found


def _known_name(kind: type) -> str:
    """Return the name of the first base of an exception that is not the student's own."""
    for base in kind.__mro__:
        if base.__module__.split(".")[0] in MODULES or hasattr(builtins, base.__name__):
            return base.__name__
    return "Exception"
