"""Old names warn for one minor release, then they go; no public name goes without that."""

import contextlib
import inspect
import warnings
from importlib import import_module

import pytest

from iclkit import __version__, rng
from iclkit._deprecation import (
    OLD_ARGUMENTS,
    RENAMED,
    RenamedWarning,
    old_arguments,
    old_names,
    overdue,
    removal,
)
from tools import released

TABLE = {"iclkit.rng.flow": ("iclkit.rng.stream", "0.4.2")}


@pytest.fixture
def module(monkeypatch):
    """A module that used to have a name."""
    monkeypatch.setattr(rng, "__getattr__", old_names("iclkit.rng", TABLE), raising=False)


def test_an_old_name_is_the_new_one_with_one_line_of_warning(module):
    words = "iclkit.rng.flow is now iclkit.rng.stream; the old name goes in 0.5.0"
    with pytest.warns(RenamedWarning) as seen:
        assert rng.flow is rng.stream
    assert [str(one.message) for one in seen] == [words]
    assert seen[0].filename == __file__, "it points to the line that uses the old name"


def test_an_import_of_an_old_name_warns_too(module):
    with pytest.warns(RenamedWarning) as seen:
        from iclkit.rng import flow
    assert flow is rng.stream
    assert seen[0].filename == __file__


def test_other_names_are_missing_as_ever(module):
    with pytest.raises(AttributeError, match=r"module 'iclkit.rng' has no attribute 'river'"):
        _ = rng.river
    assert rng.stream


def test_people_see_it_without_asking():
    """Python hides a DeprecationWarning of a library from the users of the users."""
    assert issubclass(RenamedWarning, FutureWarning)
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        warnings.simplefilter("default")
        old_names("iclkit.rng", TABLE)("flow")
    assert len(seen) == 1


@pytest.fixture
def total(monkeypatch):
    """A function with two arguments that used to have other names."""
    monkeypatch.setattr("iclkit._deprecation.OLD_ARGUMENTS", OLD_ARGUMENTS.copy())

    @old_arguments("0.4.2", step="eta", runs="n")
    def total(eta, *, n=1):
        """Return the way."""
        return eta * n

    return total


def test_an_old_argument_is_the_new_one_with_a_line_of_warning(total):
    with pytest.warns(RenamedWarning, match=r"total\.runs is now n; .* goes in 0\.5\.0") as seen:
        assert total(2.0, runs=3) == 6
    assert [one.filename for one in seen] == [__file__]
    with pytest.warns(RenamedWarning) as seen:
        assert total(step=2.0, runs=3) == 6
    assert len(seen) == 2


def test_new_arguments_and_help_are_as_ever(total):
    assert total(2.0, n=3) == total(eta=2.0, n=3) == 6
    assert (total.__name__, total.__doc__) == ("total", "Return the way.")
    assert list(inspect.signature(total).parameters) == ["eta", "n"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'm'"):
        total(2.0, m=3)


def test_an_argument_by_both_names_is_refused(total):
    with pytest.raises(TypeError, match="n must be given once, got it as runs too, its old name"):
        total(2.0, n=3, runs=3)


@pytest.mark.parametrize(("since", "goes"), [("0.1.0", "0.2.0"), ("0.9.3", "0.10.0")])
def test_one_minor_release(since, goes):
    assert removal(since) == goes


@pytest.mark.parametrize(
    ("version", "late"),
    [("0.4.2", []), ("0.4.9", []), ("0.5.0", list(TABLE)), ("1.0.0", list(TABLE))],
)
def test_a_name_is_overdue_once_its_release_is_there(version, late):
    assert overdue(version, TABLE) == late


class TestTable:
    def test_nothing_is_overdue(self, root):
        assert overdue(__version__) == [], "take these names out of RENAMED and of their modules"
        for name in released.public_names(released.sources_now(root)):
            with contextlib.suppress(ModuleNotFoundError):  # of an extra that is not installed
                import_module(name.rpartition(".")[0])
        assert overdue(__version__, OLD_ARGUMENTS) == [], "take them out of `old_arguments`"

    def test_every_entry_works(self):
        for old, (new, _) in RENAMED.items():
            place, _, name = old.rpartition(".")
            target = new.rpartition(".")
            with pytest.warns(RenamedWarning):
                found = getattr(import_module(place), name)
            assert found is getattr(import_module(target[0]), target[2])
            assert name not in getattr(import_module(place), "__all__", ())


class TestPublicNames:
    def test_names_are_those_that_modules_offer(self):
        texts = {
            "iclkit/a.py": '__all__ = ["f", "g"]',
            "iclkit/b/__init__.py": '__all__ = ["h"]',
            "iclkit/_c.py": '__all__ = ["i"]',
            "iclkit/d.py": "x = 1",
        }
        assert released.public_names(texts) == {"iclkit.a.f", "iclkit.a.g", "iclkit.b.h"}

    def test_arguments_are_those_that_have_names(self):
        text = "__all__ = ['f']\ndef f(a, /, b, *c, d=1, **e): ...\ndef g(h): ..."
        found = released.public_arguments({"iclkit/m.py": text})
        assert found == {"iclkit.m.f.b", "iclkit.m.f.d"}

    def test_a_name_that_went_is_seen_unless_it_warns(self):
        before, now = {"iclkit.rng.flow", "iclkit.rng.stream", "iclkit.x.y"}, {"iclkit.rng.stream"}
        assert released.vanished(before, now, TABLE) == ["iclkit.x.y"]

    def test_the_table_can_be_read_from_a_release(self, root):
        text = (root / "iclkit/_deprecation.py").read_text()
        assert released.literal(text, "RENAMED") == RENAMED

    def test_today_s_library_offers_names(self, root):
        names = released.public_names(released.sources_now(root))
        assert {"iclkit.rng.stream", "iclkit.bench.sweep.sweep"} <= names
        for name in names:
            place, _, last = name.rpartition(".")
            try:
                module = import_module(place)
            except ModuleNotFoundError as error:  # torch, or a program of the classroom
                if error.name.startswith("iclkit"):
                    raise
            else:
                assert hasattr(module, last), name

    def test_no_name_of_the_last_release_vanished(self, root):
        try:
            tag = released.last_release(root)
        except ValueError as error:  # a copy without history; the workflow has it
            pytest.skip(str(error))
        if tag is None:
            pytest.skip("there is no release yet")
        before = released.sources_at(root, tag)
        now = released.public_names(released.sources_now(root))
        assert released.vanished(released.public_names(before), now, RENAMED) == []
        arguments = released.public_arguments(released.sources_now(root))
        gone = released.vanished(released.public_arguments(before), arguments, OLD_ARGUMENTS)
        assert [name for name in gone if name.rpartition(".")[0] in now] == []
        warned = released.literal(before.get("iclkit/_deprecation.py", ""), "RENAMED") or {}
        assert [old for old in warned if old not in RENAMED] == overdue(__version__, warned)
