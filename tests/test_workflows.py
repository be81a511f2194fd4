"""The workflows: each job says how long it may take and what it may write."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Whatever a job may do besides reading the repository.
MORE = {("pages", "publish"): {"pages": "write", "id-token": "write"}}


def jobs(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_jobs_end_and_may_do_no_more_than_they_need(path):
    for name, job in jobs(path):
        assert 0 < job["timeout-minutes"] <= 90, name
        assert job.get("permissions", {}) == MORE.get((path.stem, name), {}), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_no_two_runs_at_once(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["concurrency"]["group"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_no_job_that_runs_our_code_may_write(path):
    for name, job in jobs(path):
        if (path.stem, name) in MORE:
            assert not any("run" in step for step in job["steps"]), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_nothing_from_outside_becomes_a_command(path):
    trusted = ("github.run_number", "matrix.", "github.ref", "steps.deployment.outputs.page_url")
    for _, job in jobs(path):
        for step in job["steps"]:
            filled = step.get("run", "").split("${{")[1:]
            assert all(part.strip().startswith(trusted[:2]) for part in filled), step


def test_every_night_asks_for_advisories_and_other_versions():
    nightly = (ROOT / ".github" / "workflows" / "nightly.yml").read_text(encoding="utf-8")
    assert "python3 run.py audit" in nightly
    assert "python3 run.py versions" in nightly


def test_every_test_with_more_examples_at_night_has_its_night():
    nightly = WORKFLOWS[[path.stem for path in WORKFLOWS].index("nightly")]
    (command,) = [s["run"] for s in dict(jobs(nightly))["fuzz"]["steps"] if "run" in s]
    places = [ROOT / word for word in command.split() if word.startswith("tests/")]
    for path in (ROOT / "tests").rglob("test_*.py"):
        if "\nfrom tests.iclkit.fuzz.profile import" in path.read_text(encoding="utf-8"):
            assert any(path.is_relative_to(place) for place in places), path


def test_pushes_are_tested_with_the_releases_before_them():
    """Without them, a public name that vanished would not be missed."""
    for _, job in jobs(ROOT / ".github" / "workflows" / "check.yml"):
        (checkout,) = [s for s in job["steps"] if s.get("uses", "").startswith("actions/checkout@")]
        assert checkout["with"]["fetch-depth"] == 0


def test_there_is_a_way_to_report_a_hole():
    assert "Report a vulnerability" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
