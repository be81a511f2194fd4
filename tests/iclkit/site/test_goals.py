"""Every learning goal is taught, trained and tested; an empty cell has a name."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from iclkit.bench.claims import load_claims
from iclkit.bench.runner import notebook_names
from iclkit.classroom.source import assignments
from iclkit.site import frontmatter, goals
from iclkit.site.catalogue import title_cell
from iclkit.site.pages import BuildError
from iclkit.site.selfchecks import parse_questions

ROOT = Path(__file__).resolve().parents[3]
FRONT = frontmatter.FrontMatter(
    "04_toy",
    frontmatter.Place(frontmatter.CHAPTER, "04_toy"),
    "A toy",
    {"You will learn to": "**add** $|x|$; **draw**"},
)
ADD = """## Adding

<!-- goals: 1 -->

```{prf:theorem} Sums
:label: toy-sum
```

### A detail"""
DRAW = """## Drawing

<!-- goals: 2 -->

Look.

## Exercises

````{exercise} A half
:label: toy-ex-half

*Easy, 10 minutes; prepares {prf:ref}`toy-sum`; trains goal 1.*
````"""
QUESTION = (
    "- {id: sum, question: 'One plus one, {prf:ref}`toy-sum`?', answer: 2, tolerance: 0.1, "
    "because: So.}"
)


def cell(source, kind="markdown"):
    return {"cell_type": kind, "id": "x", "metadata": {}, "source": source}


def cells():
    return [cell(ADD), cell('ledger.check("TOY-1", measured=1)', "code"), cell(DRAW)]


def item(page="04_toy", number=2):
    about = {"goals": [[page, number]], "minutes": 20, "kind": "code", "difficulty": "hard"}
    tests = SimpleNamespace(tests=(1, 2), rubric=(), points=5)
    return SimpleNamespace(key="sketch", title="A sketch", about=about, tests=tests)


def assignment(*items):
    return SimpleNamespace(name="4_toy", title="Toys", items=items)


def rows(*, found=None, given=None):
    given = [assignment(item())] if given is None else given
    return goals.rows_of(FRONT, found or cells(), parse_questions(QUESTION), given)


class TestRows:
    def test_section_holds_what_stands_below_its_mark(self):
        first, second = rows()
        assert first.taught == ("{ref}`taught-04_toy-0`",)
        assert second.taught == ("{ref}`taught-04_toy-1`",)

    def test_exercises_are_those_of_the_page_and_of_the_assignments(self):
        first, second = rows()
        assert first.exercises == ("{ref}`toy-ex-half`",)
        assert second.exercises == ("*A sketch* ({ref}`assignment 4 <student-notebooks>`)",)

    def test_claims_below_a_subheading_and_questions_count(self):
        first, second = rows()
        assert first.tests == ("{claim}`TOY-1`", "{ref}`question <selfcheck-04_toy>` 1")
        assert second.tests == ("2 hidden tests",)

    def test_next_heading_of_the_same_depth_ends_a_section(self):
        moved = [*cells(), cell('ledger.check("TOY-2", measured=1)', "code")]
        assert not any("TOY-2" in test for row in rows(found=moved) for test in row.tests)

    @pytest.mark.parametrize("old", ["goals: 2", "goal 1"])
    def test_number_without_a_goal_is_refused(self, old):
        source = DRAW.replace(old, f"{old[:-1]}3")
        with pytest.raises(BuildError, match=r"04_toy has 2 learning goals, but .* names goal 3"):
            rows(found=[cell(ADD), cell(source)])

    def test_several_goals_of_one_exercise(self):
        assert goals.trains("Easy, 5 minutes; prepares Step 2; trains goals 1 and 3.") == {1, 3}
        assert goals.trains("Easy, 5 minutes; prepares Step 2.") == set()


class TestEmptyCell:
    def test_full_rows_pass(self):
        goals.refuse_empty(rows())

    @pytest.mark.parametrize("column", ["taught", "exercises", "tests"])
    def test_has_one_line_that_names_it(self, column):
        row = replace(rows()[1], **{column: ()})
        with pytest.raises(BuildError) as caught:
            goals.refuse_empty([rows()[0], row])
        assert "goal 2 of 04_toy (**draw**) has no " in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_is_what_a_goal_without_assignment_has_here(self):
        with pytest.raises(BuildError, match=r"goal 2 .* has no exercise"):
            goals.refuse_empty(rows(given=[]))


class TestAnchors:
    def test_mark_becomes_a_target_above_its_heading(self):
        found = cells()
        goals.with_anchors("04_toy", found)
        assert found[0]["source"].startswith("(taught-04_toy-0)=\n## Adding\n\n```{prf:theorem}")
        assert "(taught-04_toy-1)=\n## Drawing" in found[2]["source"]
        assert "goals:" not in "".join(c["source"] for c in found)

    def test_mark_elsewhere_is_refused(self):
        with pytest.raises(BuildError, match="04_toy, cell x: write"):
            goals.with_anchors("04_toy", [cell("Text.\n\n<!-- goals: 1 -->")])


class TestPage:
    def offer(self, folder, *items):
        for name in ("book/selfchecks", "notebooks", "src/book"):
            (folder / name).mkdir(parents=True)
        (folder / "src/book/goals.md").write_text(f"# Goals\n\n{goals.PLACE}\n")
        stored = {"cells": cells(), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (folder / "notebooks/04_toy.ipynb").write_text(json.dumps(stored))
        goals.offer(folder, folder / "src", [FRONT], [assignment(*items)])
        return (folder / "src/book/goals.md").read_text()

    def test_has_a_row_for_every_goal(self, tmp_path):
        text = self.offer(tmp_path, item())
        assert "## A toy\n" in text
        assert r"| 1. **add** $\|x\|$ | {ref}`taught-04_toy-0` | {ref}`toy-ex-half` |" in text
        assert "| 2. **draw** |" in text

    def test_assignment_for_a_goal_that_is_not_there(self, tmp_path):
        with pytest.raises(BuildError, match="the exercise sketch trains goal 1 of 05_none"):
            self.offer(tmp_path, item(), item("05_none", 1))

    def test_without_the_line_nothing_is_read(self, tmp_path):
        (tmp_path / "src/book").mkdir(parents=True)
        goals.offer(tmp_path, tmp_path / "src", [FRONT], [assignment(item("05_none", 1))])


def front_of(name):
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
    place = frontmatter.places(toc, {c.notebook for c in load_claims()})[name]
    text = "".join(title_cell(name, goals.stored(ROOT, name)[0])["source"])
    return frontmatter.read(name, text, place)[0]


@pytest.fixture(scope="module")
def given():
    return assignments(ROOT)


class TestBook:
    @pytest.mark.parametrize("name", notebook_names(ROOT))
    def test_no_cell_is_empty(self, name, given):
        found = goals.rows_of(front_of(name), *goals.stored(ROOT, name), given)
        assert found
        goals.refuse_empty(found)

    @pytest.mark.parametrize("name", notebook_names(ROOT))
    def test_every_exercise_trains_a_goal(self, name):
        found = goals.exercises_of(goals.stored(ROOT, name)[0])
        assert found
        assert [label for label, own in found.items() if not own] == []

    def test_assignments_name_goals_of_the_book(self, given):
        known = {name: len(front_of(name).goals) for name in notebook_names(ROOT)}
        named = [goal for one in given for _, goal in goals.trained(one)]
        assert named
        assert [(page, n) for page, n in named if n > known.get(page, 0)] == []
