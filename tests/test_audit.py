"""The audit: silence is no clean bill, exceptions have reasons and end, no place leaks."""

import json
import subprocess
from datetime import date

import pytest

from tools import audit, lock
from tools.audit import Finding, Part

TODAY = date(2026, 6, 1)
HIT = {
    "name": "toy",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}],
}
CLEAN = {"name": "six", "version": "1.17.0", "vulns": []}
SKIPPED = {"name": "six", "skip_reason": "Dependency not found on PyPI"}


def exception(**changes):
    entry = {"id": "PYSEC-1", "package": "toy", "why": "unused", "until": date(2026, 7, 1)}
    return {"advisory": [entry | changes]}


# ------------------------------------------------------------------ advisories


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """What each service says, in turn; the calls are kept."""
    called = []

    def say(*texts):
        left = iter(texts)

        def run(*arguments):
            called.append(arguments)
            return subprocess.CompletedProcess([], 1, next(left), "")

        monkeypatch.setattr(audit, "run", run)
        monkeypatch.setattr(audit, "BUILD", tmp_path)
        return called

    return say


def said(*entries):
    return json.dumps({"dependencies": entries, "fixes": []})


def test_an_index_without_advisories_is_not_a_clean_bill(answers):
    answers(said(SKIPPED), said(SKIPPED))
    assert audit.ask({"six": "1.17.0"}) == []
    assert "NOT looked for" in audit.report([], [], [])


def test_no_network_is_not_a_clean_bill(answers):
    answers("", "")
    assert audit.ask({"six": "1.17.0"}) == []


def test_the_second_service_is_asked_where_the_first_knows_nothing(answers):
    called = answers(said(SKIPPED), said(CLEAN))
    assert audit.ask({"six": "1.17.0"}) == [CLEAN]
    assert [call[call.index("-s") + 1] for call in called] == list(audit.SERVICES)


def test_every_pin_of_every_set_up_is_asked_for(answers, tmp_path):
    answers(said(CLEAN))
    audit.ask(audit.pinned())
    asked = (tmp_path / "audited.txt").read_text().splitlines()
    for name in ("numpy", "torch", "triton", "textblob", "aiohttp", "pywinpty"):
        assert any(line.startswith(f"{name}==") for line in asked), name
    assert not any(";" in line for line in asked)


def test_a_known_vulnerability_is_found_with_its_remedy():
    assert audit.vulnerable([CLEAN, HIT], {}, TODAY) == [
        Finding("toy", "1.0", "PYSEC-1", "fixed in 1.1")
    ]


def test_what_cannot_be_asked_for_is_found():
    (row,) = audit.vulnerable([CLEAN, SKIPPED], {}, TODAY)
    assert row.what == "no advisories can be read"


def test_an_exception_holds_until_its_day():
    assert audit.vulnerable([HIT], exception(until=TODAY), TODAY) == []
    assert len(audit.vulnerable([HIT], exception(until=date(2026, 5, 31)), TODAY)) == 1


@pytest.mark.parametrize("other", [{"id": "PYSEC-2"}, {"package": "six"}])
def test_an_exception_is_for_one_advisory_of_one_package(other):
    assert len(audit.vulnerable([HIT], exception(**other), TODAY)) == 1


def test_every_exception_has_a_reason():
    rules = audit.tomllib.loads(audit.RULES.read_text(encoding="utf-8"))
    assert set(rules) <= {"advisory", "licence"}
    for entry in rules["licence"] + rules.get("advisory", []):
        assert len(entry["why"].split()) > 3, entry
    assert all(isinstance(entry["until"], date) for entry in rules.get("advisory", []))


# ------------------------------------------------------------------ licences, provenance


@pytest.mark.parametrize(
    ("licences", "found"),
    [
        (("MIT",), False),
        (("MIT", "BSD License"), False),
        (("Apache-2.0 OR GPL-3.0-only",), False),
        (("MIT AND GPL-3.0-only",), True),
        (("MIT OR Apache-2.0 AND GPL-3.0-only",), True),
        (("MIT", "GNU General Public License (GPL)"), True),
        (("Mine",), True),
        ((), True),
    ],
)
def test_licences(licences, found):
    assert bool(audit.unlicensed([Part("toy", "1.0", licences)], {})) == found


def test_a_licence_that_changes_ends_its_exception():
    rules = {"licence": [{"package": "toy", "licence": "MPL-2.0", "why": "a tool"}]}
    assert audit.unlicensed([Part("toy", "1.0", ("MPL-2.0",))], rules) == []
    assert len(audit.unlicensed([Part("toy", "1.1", ("GPL-3.0-only",))], rules)) == 1
    assert len(audit.unlicensed([Part("other", "1.0", ("MPL-2.0",))], rules)) == 1


def test_a_package_that_no_hash_vouches_for_is_found():
    parts = [Part("six", "1.17.0", ()), Part("six", "1.16.0", ()), Part("alien", "1", ())]
    found = audit.unlocked(
        [*parts, Part("torch", "2.13.0+cpu", ())], {"six": "1.17.0", "torch": "2.13.0"}
    )
    assert [(row.package, row.version) for row in found] == [("six", "1.16.0"), ("alien", "1")]


def test_the_table_says_from_where_each_package_comes(tmp_path):
    parts = [
        Part("six", "1.17.0", ("MIT",), "pkg:pypi/six@1.17.0", "https://example.org/six"),
        Part("torch", "2.13.0+cpu", ("BSD",)),
        Part("alien", "1", ()),
    ]
    files = {("six", "1.17.0"): "hashes/lock.txt", ("torch", "2.13.0"): "hashes/torch-cpu.txt"}
    audit.write_packages(parts, files, tmp_path / "packages.tsv")
    head, *rows = (
        line.split("\t") for line in (tmp_path / "packages.tsv").read_text().splitlines()
    )
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert found[0]["source"] == "pkg:pypi/six@1.17.0"
    assert found[0]["project"] == "https://example.org/six"
    assert [row["hashes"] for row in found] == ["hashes/lock.txt", "hashes/torch-cpu.txt", "none"]


def test_every_package_of_this_environment_has_a_source_and_hashes(tmp_path):
    files, parts = audit.hash_files(), audit.parts_of(audit.write_bill(tmp_path))
    assert [part.name for part in parts if not part.source.startswith("pkg:pypi/")] == []
    hashed = [part for part in parts if audit.release(part) in files]
    assert len(hashed) > 0.9 * len(parts), "a person may add packages; run.py audit names those"


def test_table_has_a_row_for_each_finding():
    rows = audit.table([Finding("toy", "1.0", "PYSEC-1", "fixed in 1.1")])
    assert [row.split()[0] for row in rows] == ["package", "toy"]
    assert audit.table([]) == ["nothing found that is not explained"]


@pytest.mark.parametrize(
    ("answered", "found", "code"), [([CLEAN], [], 0), ([CLEAN], [HIT], 1), ([], [], 2)]
)
def test_exit_code(monkeypatch, tmp_path, answered, found, code):
    monkeypatch.setattr(audit, "BUILD", tmp_path)
    monkeypatch.setattr(audit, "write_bill", lambda _: {"components": []})
    monkeypatch.setattr(audit, "ask", lambda _: answered + found)
    assert audit.main() == code


# ------------------------------------------------------------------ the bill of materials


def test_bill_lists_what_is_installed_and_is_the_same_again(tmp_path):
    parts = {part.name: part for part in audit.parts_of(audit.write_bill(tmp_path / "one"))}
    assert parts["numpy"].version == lock.locked_versions(lock.LOCK.read_text())["numpy"]
    assert parts["click"].licence == "BSD-3-Clause"
    assert audit.OURS not in parts
    audit.write_bill(tmp_path / "two")
    text = (tmp_path / "one" / "sbom.json").read_text()
    assert text == (tmp_path / "two" / "sbom.json").read_text()
    assert "serialNumber" not in text
    assert "timestamp" not in text
    assert str(lock.ROOT) not in text


@pytest.mark.parametrize("content", [None, b"\xff", b"x = ["])
def test_rules_that_cannot_be_read_are_one_line(tmp_path, content):
    path = tmp_path / "audit.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"^run.py: [^\n]*audit.toml cannot be read: [^\n]+$"):
        audit.read_rules(path)
