"""The key of a run follows what is installed, not only what the lock asks for."""

import pytest

from iclkit.bench import sources
from tests import toy

PINNED = "2.13.0"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["toy-package"]\n')
    (tmp_path / "constraints.txt").write_text(
        f"another==1.0\ntoy-package=={PINNED} ; os_name != 'none'\n"
    )
    return tmp_path


@pytest.mark.parametrize("there", [PINNED, f"{PINNED}+cpu"])
def test_a_package_as_the_lock_has_it_is_its_line(place, monkeypatch, there):
    monkeypatch.setattr(sources, "installed_version", lambda _: there)
    assert sources.pins(place) == [f"toy-package=={PINNED} ; os_name != 'none'"]


@pytest.mark.parametrize("there", ["2.12.9", "2.13.0.1", None])
def test_another_version_by_hand_is_said(place, monkeypatch, there):
    monkeypatch.setattr(sources, "installed_version", lambda _: there)
    (line,) = sources.pins(place)
    assert line.endswith(f" ({there} is installed)")


def test_another_version_has_another_key(tmp_path, monkeypatch):
    place, cell = toy.make(tmp_path), toy.cell("sum", "1 + 1")
    asked = ("01_toy", {"cells": [cell]}, {"profile": "quick", "seed": 0}, place)
    before = sources.cache_key(*asked)
    assert sources.cache_key(*asked) == before
    known = sources.installed_version
    by_hand = {"numpy": "0.1"}
    monkeypatch.setattr(sources, "installed_version", lambda name: by_hand.get(name) or known(name))
    assert sources.cache_key(*asked) != before
