"""What an instructor looks at after a grading: distributions, frequent hints, what needs a look."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from iclkit.classroom.feedback import link
from iclkit.classroom.layout import page
from iclkit.classroom.results import EMPTY, Part, Result, plain

__all__ = ["Exercise", "Overview", "discrimination", "overview", "summary"]

ENOUGH: Final = 8  # students; a correlation of fewer says nothing
LOW: Final = 0.2  # item-rest correlation below which an exercise hardly separates
MOST_HINTS: Final = 12
BINS: Final = 10
WIDTH, HEIGHT, BOTTOM, LEFT = 340, 170, 34, 20  # of the plot of totals, in its own units

TEMPLATE: Final = """\
{% extends "frame" %}
{% macro histogram(one, number) %}
<figure>
<svg viewBox="0 0 {{ one.plot.width }} {{ one.plot.height }}" role="img"
 aria-labelledby="plot-{{ number }}" style="max-width: 36rem; width: 100%">
<title id="plot-{{ number }}">{{ one.plot.words }}</title>
{% for bar in one.plot.bars %}
<rect class="fill" x="{{ bar.x }}" y="{{ bar.y }}" width="{{ bar.width }}"
 height="{{ bar.height }}"/>
{% if bar.count %}
<text x="{{ bar.x + bar.width / 2 }}" y="{{ bar.y - 4 }}"
 text-anchor="middle">{{ bar.count }}</text>
{% endif %}
{% endfor %}
<line class="axis" x1="{{ one.plot.left }}" x2="{{ one.plot.width - one.plot.left }}"
 y1="{{ one.plot.base }}" y2="{{ one.plot.base }}"/>
{% for tick in one.plot.ticks %}
<text x="{{ tick.x }}" y="{{ one.plot.base + 24 }}" text-anchor="middle">{{ tick.label }}</text>
{% endfor %}
<path class="mean" d="M {{ one.plot.mean }} {{ one.plot.base + 1 }} l 5 8 h -10 z"/>
</svg>
<figcaption>Students by share of the points, in per cent. The triangle is the mean.</figcaption>
</figure>
{% endmacro %}
{% macro strip(exercise) %}
<svg width="110" height="30" viewBox="0 0 110 30" role="img" aria-label="{{ exercise.words }}">
<line class="axis" x1="0" x2="110" y1="29.5" y2="29.5"/>
{% for bar in exercise.bars %}
<rect class="fill" x="{{ bar.x }}" y="{{ bar.y }}" width="{{ bar.width }}"
 height="{{ bar.height }}"/>
{% endfor %}
</svg>
{% endmacro %}
{% block title %}Summary of the grading{% endblock %}
{% block main %}
<h1>Summary of the grading</h1>
<p class="muted">For instructors: it names students. The points are those of
<a href="grades.csv">grades.csv</a>.</p>
{% for note in notes %}
<p class="card note">{{ note | coded }}</p>
{% endfor %}
{% for one in overviews %}
<section aria-labelledby="assignment-{{ one.name }}">
<h2 id="assignment-{{ one.name }}">{{ one.title }}</h2>
<p>{{ one.students }} graded
{%- if one.without %}, {{ one.without }} without a readable notebook{% endif %}.
{% if one.students %}
Mean {{ one.mean }}, median {{ one.median }} of {{ one.out_of }} points.
{% endif %}
{% if one.pending %}
<span class="open">{{ one.pending }} texts wait for a person.</span>
{% endif %}
</p>
{% if one.students %}
{{ histogram(one, loop.index) }}
<div class="wide" role="region" aria-label="Exercises of {{ one.title }}" tabindex="0">
<table>
<caption>Points of the tests, per exercise</caption>
<thead><tr><th scope="col">Exercise</th><th scope="col">Distribution</th>
<th scope="col" class="number">Mean</th><th scope="col" class="number">All points</th>
<th scope="col" class="number">None</th><th scope="col" class="number">Separates</th>
<th scope="col">Text, mean</th></tr></thead>
<tbody>
{% for exercise in one.exercises %}
<tr><th scope="row">{{ exercise.title }}{% if exercise.note %}
<br><span class="open">{{ exercise.note }}</span>{% endif %}</th>
<td>{{ strip(exercise) }}</td>
<td class="number">{{ exercise.mean }} of {{ exercise.out_of }}</td>
<td class="number">{{ exercise.full }}</td><td class="number">{{ exercise.none }}</td>
<td class="number">{{ exercise.separates }}</td><td>{{ exercise.text }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="muted">"Separates" is the correlation of an exercise's points with the points of all the
others: near 0, who does well elsewhere does no better here, and the exercise may be unclear.</p>
{% if one.hints %}
<div class="wide" role="region" aria-label="Hints for {{ one.title }}" tabindex="0">
<table>
<caption>Frequent hints, to take up in class</caption>
<thead><tr><th scope="col" class="number">Students</th><th scope="col">Exercise</th>
<th scope="col">Hint</th></tr></thead>
<tbody>
{% for hint in one.hints %}
<tr><td class="number">{{ hint.count }}</td><th scope="row">{{ hint.title }}</th>
<td class="words-column">{{ hint.text | coded }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% endif %}
{% endif %}
</section>
{% endfor %}
{% if looks %}
<section aria-labelledby="looks">
<h2 id="looks">Worth a look</h2>
<div class="wide" role="region" aria-label="Remarks" tabindex="0">
<table>
<caption>Submissions with a remark</caption>
<thead><tr><th scope="col">Student</th><th scope="col">Assignment</th><th scope="col">Remark</th>
</tr></thead>
<tbody>
{% for result in looks %}
<tr><th scope="row">{{ result.student | visible }}</th><td>{{ result.assignment | visible }}</td>
<td class="words-column">{{ result.remarks | join("; ") | coded }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
</section>
{% endif %}
<section aria-labelledby="students">
<h2 id="students">Students</h2>
<div class="wide" role="region" aria-label="Points and feedback" tabindex="0">
<table>
<caption>Points and feedback</caption>
<thead><tr><th scope="col">Student</th><th scope="col">Assignment</th>
<th scope="col" class="number">Points</th><th scope="col" class="number">To be read</th>
<th scope="col">Feedback</th></tr></thead>
<tbody>
{% for result in results %}
<tr><th scope="row">{{ result.student | visible }}</th><td>{{ result.assignment | visible }}</td>
<td class="number">
{%- if result.parts %}{{ result.points | points }} of {{ result.out_of }}{% endif %}</td>
<td class="number">{{ result.pending or "" }}</td>
<td>{% if result.parts %}<a href="{{ link(result.student, result.assignment) }}"
 aria-label="Open the feedback for {{ result.student | visible }}">open</a>{% endif %}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
</section>
{% endblock %}
"""


@dataclass(frozen=True)
class Bar:
    """A bar of a plot, in the plot's own units, and how many students it stands for."""

    x: float
    y: float
    width: float
    height: float
    count: int


@dataclass(frozen=True)
class Tick:
    """A label under an axis."""

    x: float
    label: str


@dataclass(frozen=True)
class Plot:
    """The distribution of the shares that students reached; `words` says it in text."""

    bars: tuple[Bar, ...]
    mean: float
    words: str
    ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    base: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Exercise:
    """How a class did in one exercise."""

    title: str
    out_of: int
    mean: str
    full: int
    none: int
    separates: str
    note: str
    text: str
    bars: tuple[Bar, ...]
    words: str


@dataclass(frozen=True)
class Hint:
    """A hint and how many students got it."""

    count: int
    title: str
    text: str


@dataclass(frozen=True)
class Overview:
    """How a class did in one assignment."""

    name: str
    title: str
    students: int
    without: int
    out_of: int
    pending: int
    mean: str
    median: str
    plot: Plot
    exercises: tuple[Exercise, ...]
    hints: tuple[Hint, ...]


def summary(results: Sequence[Result], titles: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """Return the summary of a grading as a page.

    Parameters
    ----------
    results : sequence of Result
    titles : mapping of str to str
        Of the assignments, by name; in this order they appear.
    notes : sequence of str
        What concerns the whole class.
    """
    named = [name for name in titles if any(one.assignment == name for one in results)]
    return page(
        TEMPLATE,
        overviews=[overview(_of(results, name), titles[name]) for name in named],
        looks=[result for result in results if result.remarks],
        results=results,
        notes=notes,
        link=link,
    )


def _of(results: Sequence[Result], name: str) -> list[Result]:
    return [result for result in results if result.assignment == name]


def overview(results: Sequence[Result], title: str) -> Overview:
    """Return how a class did in one assignment; notebooks that could not be read are left out."""
    done = [result for result in results if result.graded and result.parts]
    totals = np.array([result.points for result in done])
    out_of = done[0].out_of if done else 0
    return Overview(
        name=results[0].assignment,
        title=title,
        students=len(done),
        without=len(results) - len(done),
        out_of=out_of,
        pending=sum(part.pending > 0 for result in done for part in result.parts),
        mean=plain(round(float(totals.mean()), 1)) if done else "",
        median=plain(round(float(np.median(totals)), 1)) if done else "",
        plot=_plot(totals / max(out_of, 1)),
        exercises=_exercises(done),
        hints=_hints(done),
    )


# ------------------------------------------------------------------ exercises


def _exercises(done: Sequence[Result]) -> tuple[Exercise, ...]:
    if not done:
        return ()
    points = np.array([[part.tested for part in result.parts] for result in done])
    return tuple(
        _exercise([result.parts[i] for result in done], points, i) for i in range(points.shape[1])
    )


def _exercise(parts: Sequence[Part], points: NDArray[np.float64], index: int) -> Exercise:
    own, first = points[:, index], parts[0]
    value = discrimination(own, points.sum(axis=1) - own)
    counts = [int((np.round(own) == score).sum()) for score in range(first.out_of + 1)]
    return Exercise(
        title=first.title,
        out_of=first.out_of,
        mean=plain(round(float(own.mean()), 1)),
        full=int((own == first.out_of).sum()),
        none=int((own == 0).sum()),
        separates="-" if np.isnan(value) else f"{value:.2f}",
        note=_note(own, first.out_of, value),
        text=_read(parts),
        bars=_bars(counts, width=110.0, height=29.0),
        words="; ".join(f"{score} points: {count}" for score, count in enumerate(counts) if count),
    )


def discrimination(own: NDArray[np.float64], rest: NDArray[np.float64]) -> float:
    """Return the correlation of an exercise's points with those of all others, or NaN.

    Notes
    -----
    NaN with fewer than eight students, and where everybody has the same points. The exercise
    itself is left out of the total, with which it would correlate by itself.

    Examples
    --------
    >>> import numpy as np
    >>> round(discrimination(np.arange(8.0), np.arange(8.0) ** 2), 2)
    0.96
    """
    if len(own) < ENOUGH or np.ptp(own) == 0 or np.ptp(rest) == 0:
        return float("nan")
    return float(np.corrcoef(own, rest)[0, 1])


def _note(own: NDArray[np.float64], out_of: int, value: float) -> str:
    if len(own) < ENOUGH:
        return ""
    if np.ptp(own) == 0:
        return "everybody has the same points"
    if value < LOW:
        return "hardly separates: is it clear?"
    return "nobody has all points" if own.max() < out_of else ""


def _read(parts: Sequence[Part]) -> str:
    """Return the mean of the points that a person gave so far."""
    read = [part.by_hand for part in parts if part.by_hand is not None]
    if not parts[0].by_hand_of:
        return "-"
    if not read:
        return "not read yet"
    return f"{plain(round(sum(read) / len(read), 1))} of {parts[0].by_hand_of} ({len(read)} read)"


def _hints(done: Sequence[Result]) -> tuple[Hint, ...]:
    if not done:
        return ()
    found = Counter(hint for result in done for hint in dict.fromkeys(_pairs(result)))
    order = {part.title: number for number, part in enumerate(done[0].parts)}
    often = sorted(found.items(), key=lambda one: (-one[1], order[one[0][0]], one[0][1]))
    return tuple(Hint(count, title, text) for (title, text), count in often[:MOST_HINTS])


def _pairs(result: Result) -> Iterator[tuple[str, str]]:
    """Yield exercise and hint; of a problem only its kind, which students share."""
    for part in result.parts:
        kind = part.problem.partition(": ")[0]
        for mark in part.marks:
            if mark.hint not in ("", EMPTY):
                yield part.title, mark.hint if mark.hint != part.problem else kind


# ------------------------------------------------------------------ plots


def _plot(shares: NDArray[np.float64]) -> Plot:
    """Return the histogram of shares from 0 to 1; the last bar holds full marks."""
    counts = np.bincount(
        np.minimum((shares * BINS + 1e-9).astype(int), BINS - 1), minlength=BINS
    ).tolist()
    base, width = HEIGHT - BOTTOM, WIDTH - 2 * LEFT
    bars = _bars(counts, width=width, height=base - 30)
    placed = tuple(Bar(b.x + LEFT, b.y + 30, b.width, b.height, b.count) for b in bars)
    ticks = tuple(Tick(LEFT + width * i / 5, f"{20 * i}") for i in range(6))
    mean = float(shares.mean()) if shares.size else 0.0
    return Plot(placed, round(LEFT + width * mean, 2), _in_words(counts), ticks)


def _bars(counts: Sequence[int], *, width: float, height: float) -> tuple[Bar, ...]:
    step, most = width / len(counts), max([*counts, 1])
    return tuple(
        Bar(
            x=round(i * step + 0.08 * step, 2),
            y=round(height - height * count / most, 2),
            width=round(0.84 * step, 2),
            height=round(height * count / most, 2),
            count=count,
        )
        for i, count in enumerate(counts)
    )


def _in_words(counts: Sequence[int]) -> str:
    size = 100 // BINS
    said = [f"{i * size} to {(i + 1) * size} per cent: {n}" for i, n in enumerate(counts) if n]
    return "Students by share of the points. " + "; ".join(said)
