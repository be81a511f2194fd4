"""Say what is installed, under which licence, from where, and what is known against it.

    python3 run.py audit

Prints findings, and writes the bill of materials (CycloneDX) to _build/sbom.json, and licence,
source and hashes of every package to _build/packages.tsv. Exit code 1: something was found that
tools/audit.toml does not explain. Exit code 2: no advisories could be read, and nothing else was
found.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from datetime import date
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import click

from iclkit.site import materials
from iclkit.site.pages import BuildError
from tools import lock

BUILD = lock.ROOT / "_build"
RULES = Path(__file__).with_suffix(".toml")
OURS = "iclkit"
SERVICES = ("pypi", "osv")
# Licences that ask for no more than their text and a name.
ALLOWED = {
    "0BSD",
    "Apache Software License",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "ISC License (ISCL)",
    "MIT",
    "MIT License",
    "MIT-0",
    "MIT-CMU",
    "PSF-2.0",
    "Python Software Foundation License",
    "Python-2.0",
    "Unlicense",
    "Zlib",
}
UNSTATED = "none stated"
BLIND = (
    "advisories cannot be read from here (no network, or an index without them): "
    "known vulnerabilities were NOT looked for"
)


class Finding(NamedTuple):
    """One row of the table: what is wrong with which package."""

    package: str
    version: str
    what: str
    mend: str


class Part(NamedTuple):
    """An installed package as the bill of materials describes it."""

    name: str
    version: str
    licences: tuple[str, ...]
    source: str = ""  # as a package URL, such as pkg:pypi/six@1.17.0
    project: str = ""  # where it says that it is at home

    @property
    def licence(self) -> str:
        """Return all that the package states."""
        return "; ".join(self.licences) or UNSTATED


def main() -> int:
    """Print the audit and return its exit code."""
    rules = read_rules(RULES)
    parts = parts_of(write_bill(BUILD))
    write_packages(parts, hash_files(), BUILD / "packages.tsv")
    answers = ask(pinned())
    found = [*unlicensed(parts, rules), *unlocked(parts, pinned())]
    found += vulnerable(answers, rules, date.today()) if answers else []
    click.echo(report(parts, found, answers))
    return 1 if found else 0 if answers else 2


def read_rules(path: Path) -> dict[str, Any]:
    """Return what the audit passes by; stop with one line where it cannot be read."""
    try:
        return tomllib.loads(lock.text_of(path))
    except tomllib.TOMLDecodeError as error:
        raise SystemExit(f"run.py: {path} cannot be read: {error}; restore it") from error


def write_bill(place: Path) -> dict[str, Any]:
    """Write the bill of materials of this environment and return it; same packages, same bytes."""
    place.mkdir(exist_ok=True)
    try:
        text = materials.bill_of_materials(lock.ROOT)
    except BuildError as error:
        raise SystemExit(f"run.py audit: {error}") from error
    (place / materials.FILE).write_text(text, encoding="utf-8")
    return json.loads(text)


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return what a program of this environment says."""
    call = [sys.executable, "-m", module, *arguments]
    return subprocess.run(call, capture_output=True, text=True)


def parts_of(bill: dict[str, Any]) -> list[Part]:
    """Return the packages of a bill of materials, without this project."""
    entries = ((lock.canonical(entry["name"]), entry) for entry in bill["components"])
    return sorted(
        Part(
            name,
            entry["version"],
            tuple(stated(each) for each in entry.get("licenses", [])),
            entry.get("purl", ""),
            home(entry.get("externalReferences", [])),
        )
        for name, entry in entries
        if name != OURS
    )


def home(links: list[dict[str, str]]) -> str:
    """Return the address of a project's code, or else of its pages.

    Examples
    --------
    >>> home([{"type": "website", "url": "a"}, {"type": "vcs", "url": "b"}]), home([])
    ('b', '')
    """
    by_kind = {link["type"]: link["url"] for link in reversed(links)}
    return next((by_kind[kind] for kind in ("vcs", "website", "other") if kind in by_kind), "")


def stated(entry: dict[str, Any]) -> str:
    """Return a licence as an SPDX expression or by its name.

    Examples
    --------
    >>> stated({"license": {"name": "License :: OSI Approved :: BSD License"}})
    'BSD License'
    """
    if "expression" in entry:
        return entry["expression"]
    named = entry["license"]
    return named.get("id") or named["name"].rpartition(" :: ")[2]


def write_packages(parts: list[Part], vouched: dict[tuple[str, str], str], place: Path) -> None:
    """Write the table of packages: licence, source, project, and the file whose hashes they fit."""
    rows = [("package", "version", "licence", "source", "project", "hashes")]
    rows += [
        (*part[:2], part.licence, *part[3:], vouched.get(release(part), "none")) for part in parts
    ]
    place.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def release(part: Part) -> tuple[str, str]:
    """Return name and version of a package, without the name of a build such as +cpu."""
    return part.name, part.version.partition("+")[0]


def hash_files() -> dict[tuple[str, str], str]:
    """Return the file of ours that holds the hashes of each release."""
    files = {}
    for path in (lock.CPU_HASHES, lock.HASHES, lock.CUDA_HASHES, lock.DATA):
        where = path.relative_to(lock.ROOT).as_posix()
        hashed = [pin.line for pin in lock.read_pins(path) if pin.hashes]
        for name, version in lock.locked_versions("\n".join(hashed)).items():
            files.setdefault((name, version.partition("+")[0]), where)
    return files


def unlicensed(parts: list[Part], rules: dict[str, Any]) -> list[Finding]:
    """Return the packages whose licence is unknown or asks for more than we looked at."""
    known = rules.get("licence", [])
    return [
        Finding(part.name, part.version, f"licence: {part.licence}", "look at it")
        for part in parts
        if not (part.licences and all(map(allowed, part.licences)))
        and not any(explains(rule, part) for rule in known)
    ]


def allowed(expression: str) -> bool:
    """Return whether a licence, or one offered by an expression, is in the list.

    Examples
    --------
    >>> allowed("MIT OR GPL-3.0-only"), allowed("MIT AND GPL-3.0-only"), allowed("(MIT)")
    (True, False, True)
    """
    enough = any if " OR " in expression and " AND " not in expression else all
    return enough(each.strip("() ") in ALLOWED for each in re.split(" AND | OR ", expression))


def explains(rule: dict[str, Any], part: Part) -> bool:
    """Return whether an exception is meant for a package and its licence."""
    return fnmatchcase(part.name, rule["package"]) and fnmatchcase(part.licence, rule["licence"])


def pinned() -> dict[str, str]:
    """Return the version of every package that any set-up of ours may install."""
    files = (lock.HASHES, lock.CUDA_HASHES, lock.DATA)
    lines = chain.from_iterable(lock.read_pins(path) for path in files)
    return lock.locked_versions("\n".join(pin.line for pin in lines))


def unlocked(parts: list[Part], versions: dict[str, str]) -> list[Finding]:
    """Return the installed packages that no hash of ours vouches for."""
    return [
        Finding(part.name, part.version, "not from the lock", "delete .venv and run again")
        for part in parts
        if versions.get(part.name) != part.version.partition("+")[0]
    ]


def ask(versions: dict[str, str]) -> list[dict[str, Any]]:
    """Return what the advisories say of each package; empty where none can be read.

    An index without advisories answers "not found" for every package, which is no clean bill.
    """
    BUILD.mkdir(exist_ok=True)
    asked = BUILD / "audited.txt"
    asked.write_text("".join(f"{name}=={pin}\n" for name, pin in versions.items()))
    offline = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--desc", "off"]
    for service in SERVICES:
        done = run("pip_audit", "-r", str(asked), "-f", "json", "-s", service, *offline)
        answers = json.loads(done.stdout)["dependencies"] if done.stdout.strip() else []
        if any("vulns" in answer for answer in answers):
            return answers
    return []


def vulnerable(answers: list[dict[str, Any]], rules: dict[str, Any], day: date) -> list[Finding]:
    """Return the known vulnerabilities that no exception explains on a day."""
    known = {(rule["id"], rule["package"]): rule["until"] for rule in rules.get("advisory", [])}
    found = list(chain.from_iterable(findings(answer) for answer in answers))
    return [row for row in found if known.get((row.what, row.package), date.min) < day]


def findings(answer: dict[str, Any]) -> Iterable[Finding]:
    """Yield what the advisories say of one package."""
    if "skip_reason" in answer:
        yield Finding(answer["name"], "", "no advisories can be read", answer["skip_reason"])
    for each in answer.get("vulns", []):
        fixed = ", ".join(each["fix_versions"]) or "no version yet"
        yield Finding(answer["name"], answer["version"], each["id"], f"fixed in {fixed}")


def report(parts: list[Part], found: list[Finding], answers: list[dict[str, Any]]) -> str:
    """Return the audit as text."""
    counted = Counter(part.licence for part in parts).most_common()
    licences = ", ".join(f"{name} {n}" for name, n in counted if n > 1)
    lines = [
        f"{len(parts)} packages installed; _build/sbom.json, _build/packages.tsv",
        f"licences: {licences}, {sum(n == 1 for _, n in counted)} others once",
        f"advisories: {len(answers)} packages asked" if answers else f"advisories: {BLIND}",
    ]
    return "\n".join([*lines, *table(found)])


def table(found: list[Finding]) -> list[str]:
    """Return the lines of a table of findings."""
    if not found:
        return ["nothing found that is not explained"]
    rows = [("package", "version", "found", "remedy"), *found]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return ["  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
