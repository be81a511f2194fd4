"""What a number depends on, as far as can be known: a name that changes when the number may.

For the store of finished cells. A function's name covers its instructions, the defaults, the
closure and the globals that it reads, and so on through the functions that those call and the
modules of your own that it imports; a library's functions count by name and version, and ours by a
digest of the whole package's sources. Comments do not count in functions. What a function opens or
fetches while it runs cannot be known.
"""

import builtins
import dis
import functools
import hashlib
import importlib.util
import json
import operator
import platform
import sys
import sysconfig
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import psutil

import iclkit

__all__ = ["borrowed", "describe", "edited", "fingerprint", "in_module", "versions"]

PACKAGE = Path(iclkit.__file__).parent
APART = {"bench", "site", "classroom", "data"}  # what no cell computes with
NUMERIC = ("numpy", "scipy", "torch", "scikit-learn")
INSTALLED = tuple(
    {str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib", "stdlib")}
)
SLACK = 2.0  # seconds by which the time that a process began at may be wrong
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


def in_module(module: str, names: Sequence[str]) -> str:
    """Return a digest of what a loaded module holds under some names, dots in them allowed.

    What has no fingerprint counts by its code or its type: a message to another process must not
    fail where the calls themselves could go on.
    """
    return fingerprint(_held(sys.modules[module], names, frozenset()))


def borrowed(value: Any, *, by_name: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the user's modules, and the names there, that another process loads for a value.

    Parameters
    ----------
    value : function or class
    by_name : bool
        Whether it is sent as a name only; else a function is sent with what it reads, but for the
        modules.
    """
    home = sys.modules.get(_home(value))
    if by_name and home is not None and _own(home):
        yield home.__name__, (value.__qualname__,)
    elif not by_name and isinstance(value, types.FunctionType):
        found = _modules_of(value)
        yield from ((module.__name__, names) for module, names in found if _own(module))


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
    return ["module", value.__name__, _files(value)] if _own(value) else _named(value)


def _files(module: types.ModuleType) -> dict[str, str]:
    """Return digests of the user's files that a module is made of: its own and what it imports."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        module = waiting.pop()
        if module.__name__ in found or not _own(module):
            continue
        file = getattr(module, "__file__", None)
        found[module.__name__] = _digest(Path(file).read_bytes()) if file else ""
        homes = [sys.modules.get(_home(part)) for part in vars(module).values()]
        waiting += [home for home in homes if home is not None]
    return dict(sorted(found.items()))


def _held(module: types.ModuleType, names: Sequence[str], seen: Seen) -> dict[str, Any]:
    """Describe what a module holds now; its file may be newer than what was loaded."""
    held: dict[str, Any] = {}
    for name in names:
        try:
            part = operator.attrgetter(name)(module)
        except AttributeError:  # the name belongs to something else
            continue
        if isinstance(part, types.ModuleType) and _own(part) and id(part) not in seen:
            held[name] = [_module(part, seen), _held(part, names, seen | {id(part)})]
        else:
            held[name] = _leniently(part, seen)
    return held


def _leniently(part: Any, seen: Seen) -> Any:
    try:
        return describe(part, seen)
    except TypeError:
        code = getattr(part, "__code__", None)
        return describe(code, seen) if code else ["kind", type(part).__qualname__]


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
    parts["modules"] = [
        [_module(module, seen), _held(module, names, seen | {id(module)}) if _own(module) else []]
        for module, names in _modules_of(value)
    ]
    return ["function", value.__qualname__, _code(value.__code__, seen), parts]


def _reached(name: str, part: Any, seen: Seen) -> Any:
    try:
        return describe(part, seen)
    except TypeError as error:
        raise TypeError(f"{error}, read by {name}") from None


def _globals_of(function: types.FunctionType) -> list[str]:
    """Return the names that the function and those inside it look up in its module, sorted."""
    looks = ("LOAD_GLOBAL", "LOAD_NAME")
    steps = [step for code in _codes(function) for step in dis.get_instructions(code)]
    names = {step.argval for step in steps if step.opname in looks}
    return sorted(name for name in names if name in function.__globals__)


def _codes(function: types.FunctionType) -> Iterator[types.CodeType]:
    """Yield the code of the function and of those inside it."""
    waiting = [function.__code__]
    while waiting:
        yield (code := waiting.pop())
        waiting += [part for part in code.co_consts if isinstance(part, types.CodeType)]


def _modules_of(function: types.FunctionType) -> list[tuple[types.ModuleType, tuple[str, ...]]]:
    """Return the modules that a function reads or imports, and the names that it may read there."""
    space = function.__globals__
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    values = [*(space[name] for name in _globals_of(function)), *closure, *_imports(function)]
    modules = {part.__name__: part for part in values if isinstance(part, types.ModuleType)}
    names = {name for code in _codes(function) for name in code.co_names if "." not in name}
    return [(modules[name], tuple(sorted(names))) for name in sorted(modules)]


def _imports(function: types.FunctionType) -> Iterator[types.ModuleType]:
    """Yield the user's modules that a function imports when it runs, loaded as it would."""
    for code in _codes(function):
        steps = list(dis.get_instructions(code))
        for i, step in enumerate(steps):
            if step.opname == "IMPORT_NAME":
                level, wanted = steps[i - 2].argval, steps[i - 1].argval
                yield from _import(function.__globals__, step.argval, wanted, level)


def _import(
    space: dict[str, Any], name: str, wanted: tuple[str, ...] | None, level: int
) -> Iterator[types.ModuleType]:
    """Import as the statement does, but no library: that counts by the name in the code."""
    try:
        top = (space["__package__"] if level else name).partition(".")[0]
        spec = importlib.util.find_spec(top)
        if spec and not _installed(next(iter(spec.submodule_search_locations or ()), spec.origin)):
            yield __import__(name, space, None, wanted or (), level)
    except Exception:  # the cell itself says what is wrong, or does without
        return


def _code(code: types.CodeType, seen: Seen) -> list[Any]:
    constants = [describe(part, seen) for part in code.co_consts]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    steps = [code.co_code.hex(), code.co_exceptiontable.hex()]
    return [*steps, constants, [list(part) for part in names], code.co_flags]


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
    return ["name", module, name, _release(module.partition(".")[0])]


@functools.cache
def _release(top: str) -> str:
    """Return the version of an installed package; that of Python covers what comes with it."""
    if top in sys.stdlib_module_names:
        return ""
    if version := getattr(sys.modules.get(top), "__version__", None):
        return str(version)
    return " ".join(f"{n} {_version(n)}" for n in sorted(set(_distributions().get(top, ()))))


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _library(value: Any) -> bool:
    """Whether the value is a function, class or module of Python, a package, or this package."""
    if not isinstance(value, type | types.ModuleType) and not callable(value):
        return False
    if not hasattr(value, "__qualname__") and not hasattr(value, "__name__"):
        return False
    module = sys.modules.get(_module_of(value))
    if module is None or module.__name__ == "__main__":
        return False
    folder = next(iter(getattr(module, "__path__", ())), None)  # all that a namespace has
    return _installed(getattr(module, "__file__", None) or folder)


def _installed(file: str | None) -> bool:
    """Whether a module's file is of Python, a package or this package, or there is none."""
    if not file or file in ("built-in", "frozen"):
        return True
    place = Path(file).resolve()
    return str(place).startswith(INSTALLED) or PACKAGE in (place, *place.parents)


def _own(module: types.ModuleType) -> bool:
    """Whether a module is of the user's own files, to be imported by its name."""
    return module.__name__ != "__main__" and not _library(module)


def _home(value: Any) -> str:
    """Return the name of the module that a value is, or comes from."""
    home = value.__name__ if isinstance(value, types.ModuleType) else None
    home = home or getattr(value, "__module__", None)
    return home if isinstance(home, str) else ""


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
    text = [[name, _digest(path.read_bytes())] for name, path in sorted(_covered().items())]
    return _digest(json.dumps(text).encode())


def _covered() -> dict[str, Path]:
    """Return the sources that cells compute with, by their names in the package."""
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    return {n: path for n, path in files.items() if n.split("/")[0] not in APART | {"cli.py"}}


def _outdated() -> bool:
    """Whether a source that was loaded before this module may have been edited since.

    When a module was loaded nobody knows, so an edit between the start of Python and that counts,
    too: to start Python again is little work. An editor, a copy or another machine may give a file
    any time of its edit, past or to come; the system's own note of a change (on Windows it is of
    the creation) cannot be set, so a change that it dates after the start counts in any case,
    of the file's permissions too.
    """
    start = psutil.Process().create_time() + SLACK
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    loaded = {Path(file) for file in files if isinstance(file, str)}
    files_now = [path.stat() for path in loaded.intersection(_covered().values())]
    if any(start < found.st_ctime for found in files_now):
        return True
    # the clock of whoever wrote a file may have been ahead
    return any(start < found.st_mtime < time.time() for found in files_now)


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

# Of the sources as they were when this process imported them
LOADED = "unknown" if _outdated() else _sources()
