"""What a number depends on, as far as can be known: a name that changes when the number may.

For the store of finished cells. A function's name covers its instructions, the defaults, the
closure and the globals that it reads, and so on through the functions that those call; a library's
functions count by name and version, and ours by a digest of the whole package's sources. Comments
do not count. What a function opens or fetches while it runs cannot be known.
"""

import builtins
import dis
import functools
import hashlib
import json
import platform
import sys
import sysconfig
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import numpy as np

import iclkit

__all__ = ["describe", "edited", "fingerprint", "versions"]

PACKAGE = Path(iclkit.__file__).parent
APART = {"bench", "site", "classroom", "data"}  # what no cell computes with
NUMERIC = ("numpy", "scipy", "torch", "scikit-learn")
INSTALLED = tuple(
    {str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib", "stdlib")}
)
Seen = frozenset[int]


def fingerprint(value: Any, *more: Any) -> str:
    """Return 20 hexadecimal digits that stand for what the values are.

    Parameters
    ----------
    value, *more : object
        Functions, numbers, text, arrays, containers, dataclasses, or what can be pickled.

    Raises
    ------
    TypeError
        If a value is none of these.

    Examples
    --------
    >>> fingerprint(1) == fingerprint(1), fingerprint(1) == fingerprint(1.0)
    (True, False)
    """
    text = json.dumps([describe(part) for part in (value, *more)])
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that numbers depend on, with a digest of this package's sources."""
    found = {name: _version(name) for name in NUMERIC}
    ours = {"iclkit": f"{iclkit.__version__} ({LOADED})", "python": platform.python_version()}
    return ours | {name: version for name, version in found.items() if version}


def edited() -> bool:
    """Return whether a source was edited since this process began: nobody knows then what runs."""
    return _sources() != LOADED


def describe(value: Any, seen: Seen = frozenset()) -> Any:
    """Return JSON that is equal for two values only if they are the same, types included.

    Parameters
    ----------
    value : object
        See `fingerprint`.
    seen : frozenset of int
        Identities of what is being described around it; a loop ends there.

    Raises
    ------
    TypeError
        If the value has no description.
    """
    if value is None or isinstance(value, str) or type(value) in (bool, int, float):
        return value
    if id(value) in seen:
        return ["again"]
    for kind, describer in _KINDS:
        if isinstance(value, kind):
            return describer(value, seen | {id(value)})
    if is_dataclass(value):
        return _dataclass(value, seen | {id(value)})
    return _named(value) if _library(value) else _other(value)


def _scalar(value: np.generic, _seen: Seen) -> list[Any]:
    return [value.dtype.str, value.tobytes().hex() if value.dtype.kind != "O" else repr(value)]


def _array(value: np.ndarray, _seen: Seen) -> list[Any]:
    return ["array", joblib.hash(value)]


def _mapping(value: Mapping[Any, Any], seen: Seen) -> list[Any]:
    pairs = [[describe(key, seen), describe(part, seen)] for key, part in value.items()]
    return [type(value).__name__, pairs]


def _sequence(value: Any, seen: Seen) -> list[Any]:
    return [type(value).__name__, *(describe(part, seen) for part in value)]


def _set(value: Any, seen: Seen) -> list[Any]:
    return ["set", *sorted((describe(part, seen) for part in value), key=json.dumps)]


def _dataclass(value: Any, seen: Seen) -> list[Any]:
    parts = {field.name: getattr(value, field.name) for field in fields(value)}
    return [describe(type(value), seen), _mapping(parts, seen)]


def _module(value: types.ModuleType, _seen: Seen) -> list[Any]:
    file = getattr(value, "__file__", None)
    if file is None or _library(value):
        return _named(value)
    return ["module", value.__name__, _digest(Path(file).read_bytes())]


def _class(value: type, seen: Seen) -> list[Any]:
    if _library(value):
        return _named(value)
    own = {k: v for k, v in vars(value).items() if callable(v) or not k.startswith("__")}
    bases = [describe(base, seen) for base in value.__bases__]
    plain = {k: v for k, v in own.items() if not isinstance(v, types.GetSetDescriptorType)}
    return ["class", value.__qualname__, bases, _mapping(plain, seen)]


def _function(value: types.FunctionType, seen: Seen) -> list[Any]:
    if _library(value):
        return _named(value)
    closure = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
    given = {
        "defaults": [value.__defaults__, value.__kwdefaults__],
        "closure": {name: cell.cell_contents for name, cell in closure.items()},
        "globals": {name: value.__globals__[name] for name in _globals_of(value)},
    }
    parts = {name: _reached(value.__qualname__, part, seen) for name, part in given.items()}
    return ["function", value.__qualname__, _code(value.__code__, seen), parts]


def _reached(name: str, part: Any, seen: Seen) -> Any:
    try:
        return describe(part, seen)
    except TypeError as error:
        raise TypeError(f"{error}, read by {name}") from None


def _globals_of(function: types.FunctionType) -> list[str]:
    """Return the names that the function and those inside it look up in its module, sorted."""
    names: set[str] = set()
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        steps = dis.get_instructions(code)
        names |= {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        waiting += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return sorted(name for name in names if name in function.__globals__)


def _code(code: types.CodeType, seen: Seen) -> list[Any]:
    constants = [describe(part, seen) for part in code.co_consts]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    return [code.co_code.hex(), constants, [list(part) for part in names], code.co_flags]


def _partial(value: functools.partial, seen: Seen) -> list[Any]:
    return ["partial", *(describe(p, seen) for p in (value.func, value.args, value.keywords))]


def _method(value: types.MethodType, seen: Seen) -> list[Any]:
    return ["method", describe(value.__self__, seen), describe(value.__func__, seen)]


def _wrapper(value: Any, seen: Seen) -> list[Any]:
    return [type(value).__name__, describe(getattr(value, "__func__", value.__wrapped__), seen)]


def _property(value: property, seen: Seen) -> list[Any]:
    return ["property", *(describe(part, seen) for part in (value.fget, value.fset))]


def _other(value: Any) -> list[Any]:
    """Describe an object by its pickle, which joblib makes independent of hashes of text."""
    kind = type(value)
    try:
        return [describe(kind), joblib.hash(value)]
    except Exception as error:  # whatever the object's own pickling raises
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} has no fingerprint") from error


def _named(value: Any) -> list[Any]:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", repr(value))
    module = _module_of(value)
    top = sys.modules.get(module.partition(".")[0])
    return ["name", module, name, str(getattr(top, "__version__", ""))]


def _library(value: Any) -> bool:
    """Whether the value is a function, class or module of Python, a package, or this package."""
    if not isinstance(value, type | types.ModuleType) and not callable(value):
        return False
    if not hasattr(value, "__qualname__") and not hasattr(value, "__name__"):
        return False
    module = sys.modules.get(_module_of(value))
    if module is None or module.__name__ == "__main__":
        return False
    file = getattr(module, "__file__", None)
    place = str(Path(file).resolve()) if file else ""
    return not file or place.startswith(INSTALLED) or PACKAGE in Path(place).parents


def _module_of(value: Any) -> str:
    if isinstance(value, types.ModuleType):
        return value.__name__
    return getattr(value, "__module__", None) or builtins.__name__


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=10).hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _sources() -> str:
    """Return a digest of the sources that cells compute with, the same on every machine."""
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    kept = sorted(name for name in files if name.split("/")[0] not in APART | {"cli.py"})
    text = [[name, _digest(files[name].read_bytes())] for name in kept]
    return _digest(json.dumps(text).encode())


_KINDS: tuple[tuple[Any, Callable[[Any, Seen], list[Any]]], ...] = (
    (np.generic, _scalar),
    (np.ndarray, _array),
    (Mapping, _mapping),
    ((list, tuple), _sequence),
    ((set, frozenset), _set),
    (types.ModuleType, _module),
    (type, _class),
    (types.FunctionType, _function),
    (types.CodeType, _code),
    (functools.partial, _partial),
    (types.MethodType, _method),
    ((staticmethod, classmethod, functools._lru_cache_wrapper), _wrapper),
    (property, _property),
)

LOADED = _sources()  # as they were when this process imported them
