"""What a student gets back: points, hints and the own words, and nothing of the tests' insides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from iclkit.classroom.handout import STUB_TEXT
from iclkit.classroom.layout import page
from iclkit.classroom.results import Part, Result

__all__ = ["feedback", "link", "place"]

ALONE: Final = (
    "Only the notebook's first code cell and this cell are run: a name from another cell is not "
    "there. Define it here."
)
TEMPLATE: Final = """\
{% extends "frame" %}
{% from "macros" import bar %}
{% block title %}Feedback on {{ title }}{% endblock %}
{% block main %}
<header>
<h1>{{ title }}</h1>
<p class="muted">Feedback for {{ result.student | visible }}
{%- if result.handed_in %}, handed in {{ result.handed_in | visible }}{% endif %}</p>
{% if result.parts %}
<p class="big">{{ result.points | points }} of {{ result.out_of }} points</p>
{{ bar(result.points, result.out_of) }}
{% if result.pending %}
<p>{{ result.pending }} more points wait for a person who reads your text.</p>
{% endif %}
{% endif %}
</header>
{% if result.remarks %}
<section class="card note" aria-labelledby="remarks">
<h2 id="remarks">Please note</h2>
<ul>
{% for remark in result.remarks %}
<li>{{ remark | coded }}</li>
{% endfor %}
</ul>
</section>
{% endif %}
{% if result.parts %}
<div class="wide" role="region" aria-label="Points by exercise" tabindex="0">
<table>
<caption>Points by exercise</caption>
<thead><tr><th scope="col">Exercise</th><th scope="col" class="number">Tests</th>
<th scope="col" class="number">Text</th><th scope="col" class="number">Points</th></tr></thead>
<tbody>
{% for part in result.parts %}
<tr><th scope="row"><a href="#{{ part.key }}">{{ part.title }}</a></th>
<td class="number">{{ tested(part) | points }} of {{ part.out_of }}</td>
<td class="number">{{ words(part) }}</td>
<td class="number">{{ part.points | points }} of {{ part.out_of + part.by_hand_of }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% endif %}
{% for part in result.parts %}
<section class="card" id="{{ part.key }}" aria-labelledby="{{ part.key }}-title">
<h2 id="{{ part.key }}-title">{{ part.title }}</h2>
<p>{{ part.points | points }} of {{ part.out_of + part.by_hand_of }} points
{%- if part.pending %}; {{ part.pending }} wait for a person{% endif %}</p>
{% if part.problem %}
<p><span class="open">Not run to the end:</span> {{ part.problem | coded }}.</p>
{% if "NameError" in part.problem or "is not defined" in part.problem %}
<p>{{ alone }}</p>
{% endif %}
{% endif %}
{% if part.changed is not none %}
<p>A person has set the points of the tests to {{ part.changed | points }}.</p>
{% endif %}
{% if part.marks %}
<div class="wide" role="region" aria-label="Tests of {{ part.title }}" tabindex="0">
<table>
<caption>What was tested</caption>
<thead><tr><th scope="col">Your answer</th><th scope="col">Result</th>
<th scope="col" class="number">Points</th></tr></thead>
<tbody>
{% set seen = [part.problem] %}
{% for mark in part.marks %}
<tr><th scope="row">{{ mark.about | coded }}
{%- if mark.hint and mark.hint in seen %}
<br><span class="muted">The hint above holds here, too.</span>
{%- elif mark.hint %}<br><span class="muted">Hint:</span> {{ mark.hint | coded }}
{%- set _ = seen.append(mark.hint) %}{% endif %}</th>
<td class="whole">{% if mark.points == mark.out_of %}<span class="good">passed</span>{% else %}
<span class="open">not yet</span>{% endif %}</td>
<td class="number">{{ mark.points | points }} of {{ mark.out_of }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% endif %}
{% for comment in part.comments %}
<h3>Comment from your grader</h3>
<blockquote>{{ comment | visible }}</blockquote>
{% endfor %}
{% if own(part, "derivation") %}
<h3>Your text</h3>
<pre class="words">{{ own(part, "derivation") | visible }}</pre>
{% endif %}
{% if own(part, "answer") %}
<details>
<summary>Your code</summary>
<pre tabindex="0" aria-label="Your code for {{ part.title }}"><code>
{{- own(part, "answer") | visible }}</code></pre>
</details>
{% endif %}
</section>
{% endfor %}
<p class="muted">The tests call your functions with inputs that nobody has seen before. A hint names
the likely mistake; it never shows a result.</p>
{% endblock %}
"""


def feedback(result: Result, title: str, sources: Mapping[str, str]) -> str:
    """Return the page for one student and assignment.

    Parameters
    ----------
    result : Result
    title : str
        The assignment's.
    sources : mapping of str to str
        The student's cells by id.
    """

    def own(part: Part, kind: str) -> str:
        return sources.get(f"{part.key}-{kind}", "").replace(STUB_TEXT, "").strip("\n")

    content = {"result": result, "title": title, "alone": ALONE}
    return page(TEMPLATE, **content, own=own, tested=_tested, words=_words)


def _tested(part: Part) -> float:
    return part.tested if part.changed is None else part.changed


def _words(part: Part) -> str:
    """Return the points of the text that a person reads, in words."""
    if not part.by_hand_of:
        return "-"
    if part.pending:
        return f"waits ({part.by_hand_of})"
    return f"{part.by_hand or 0:g} of {part.by_hand_of}"


def place(student: str, assignment: str) -> Path:
    """Return where a student's page lies, seen from the results' folder."""
    return Path("feedback") / student / f"{assignment}.html"


def link(student: str, assignment: str) -> str:
    """Return the address of a student's page, seen from the results' folder."""
    return quote(place(student, assignment).as_posix(), errors="surrogateescape")
