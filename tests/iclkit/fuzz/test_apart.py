"""The corpora and the bench: one clear line, or the same answer, whatever an argument is.

What these modules do beside that (files, processes, notebooks) has tests of its own.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit import corpora
from iclkit.bench import claims, kept, plots
from iclkit.bench.checks import Data, family_limit, perform
from iclkit.bench.sweep import grid, summarize, sweep
from tests.iclkit.fuzz.contract import BrokenPromiseError, check_refusal, outcome_of
from tests.iclkit.fuzz.hostile import variants
from tests.iclkit.fuzz.profile import examples
from tests.iclkit.fuzz.public import Call, apart
from tests.iclkit.fuzz.world import World

WORLDS = st.builds(World, seed=st.integers(0, 10**6), d=st.integers(2, 3), n=st.integers(4, 5))
X = np.array([1.0, 2.0, 4.0, 8.0])
NOT_FUZZED = {  # by key or module; the reason for each
    "bench.checks.Kind.powerless": "is given the resolution that perform computed",
    "corpora.SentenceEncoder.__call__": "needs the model; embed checks what is given to it",
    "corpora.available": "reads 40 MB a call; its archives are checked in corpora/test_reviews",
    "corpora.best_tier": "has no argument",
    "corpora.problems": "reads 40 MB a call; its archives are checked in corpora/test_reviews",
    "bench.alone": "a lock of the runner",
    "bench.archive": "keeps runs of the runner",
    "bench.backends": "starts processes; sweep checks what is given to it",
    "bench.batches": "called by sweep alone",
    "bench.cache": "files of the runner",
    "bench.claims.Claim": "errors of entries are in bench/test_claims",
    "bench.claims.Claim.limit_in": "profiles are fuzzed with Ledger.load",
    "bench.claims.Ledger": "is made by Ledger.load, which is fuzzed",
    "bench.claims.Ledger.check": "is fuzzed as `check`",
    "bench.claims.Ledger.skip": "is fuzzed as `skip`",
    "bench.plots.show": "displays what figure_bundle gives",
    "bench.claims.Ledger.close": "has no argument",
    "bench.claims.Row.bundle": "is given the text of a claim",
    "bench.claims.Row.to_html": "is given the text of a claim",
    "bench.claims.Row.to_json": "has no argument",
    "bench.drift": "records of the runner",
    "bench.fingerprint": "takes any value; the kinds are in bench/test_fingerprint",
    "bench.kept.kept_folders": "has no argument",
    "bench.memory": "measures this machine",
    "bench.origin": "asks git and this machine",
    "bench.plots.style": "has no argument",
    "bench.quiet": "the environment of the runner",
    "bench.runner": "runs notebooks; its errors are in bench/test_runner",
    "bench.seeds": "runs notebooks; its errors are in bench/test_seeds",
    "bench.sources": "reads notebooks of the repository",
    "bench.store": "files; damage is in bench/test_store",
}


def cell(*, d, tau, rng):
    """Return something that depends on all it is given."""
    return {"value": tau + rng.normal(size=d).sum()}


class Lengths:
    """An encoder that needs no model."""

    name, size = "lengths", 2

    def __call__(self, texts):
        """Return two numbers for each text."""
        return np.array([[len(text), 1.0] for text in texts])


def swept(cells, seed, replicates, n_jobs=None, shared=()):
    """Return a sweep in this process."""
    return sweep(cell, cells, seed=seed, replicates=replicates, n_jobs=n_jobs, shared=shared)


def close(measured, expected, tolerance, stderr=None, replicates=None):
    """Return whether two sets of numbers agree."""
    return perform("close", tolerance, Data(measured, expected, stderr, replicates=replicates))


def limit(measured, expected, stderr, size):
    """Return whether a limit is the expected one."""
    return perform("limit", "family", Data(measured, expected, stderr, size=size))


def order(measured, x, stderr=None):
    """Return whether values increase."""
    return perform("order", 2, Data(measured, "increasing", stderr, x=x))


def peak(measured, x, at):
    """Return whether a curve has its maximum at a place."""
    return perform("peak", 0.5, Data(measured, x=x, at=at))


def slope(measured, expected, x):
    """Return whether a curve is a power law."""
    return perform("slope", 0.1, Data(measured, expected, x=x))


def table(w):
    """Return what a sweep returns."""
    return sweep(cell, grid(d=[2, 3], tau=w.number("tau")), seed=w.seed, replicates=2, n_jobs=1)


def checked(function, make):
    """Return a kind of check as a call, and its arguments."""
    return Call("bench.checks", f"perform {function.__name__}", function), make


NOTEBOOK = "04_phase_transition"
ENTRY = ("T-1", "toy", "nowhere", "One.", "new here")
CLAIM = claims.Claim(*ENTRY, check="close", tolerance=1e-12, why="rounding")
NEEDY = dataclasses.replace(CLAIM, needs="a GPU")
CURVE = pd.DataFrame({"tau": X, "error": 1 / X, "error_stderr": 0.1, "alpha": [1, 1, 2, 2]})
MAP = pd.DataFrame({"a": [0, 0, 1, 1], "b": [0, 1, 0, 1], "height": X, "sign": X - 3})
WORDS = {
    "name": "a-figure",
    "caption": "Error against `tau`.",
    "alt": "One curve falls from the left to the right.",
}


def check_claim(id, also=None):  # noqa: A002  # as there
    """Return the row of a claim."""
    return claims.Ledger("toy", "quick", (CLAIM,)).check(id, measured=1, expected=1, also=also)


def skip_claim(id, reason):  # noqa: A002  # as there
    """Return the row of a claim that needs what no machine has."""
    return claims.Ledger("toy", "quick", (NEEDY,)).skip(id, reason)


def axes():
    """Return axes to draw into."""
    return plots.panels(lambda _: None).axes[0]


def bench_call(module, name, make):
    """Return what a module of the bench calls by a name, and its arguments."""
    function = getattr(module, name)
    return f"bench.{module.__name__.split('.')[-1]}.{name}", (
        Call(module.__name__.removeprefix("iclkit."), name, function),
        make,
    )


DRAWN = dict(
    [
        bench_call(plots, "curves", lambda _: {"theory": CURVE, "x": "tau", "y": "error"}),
        bench_call(
            plots,
            "draw_curves",
            lambda _: {
                "axes": axes(),
                "theory": CURVE,
                "x": "tau",
                "y": "error",
                "hue": "alpha",
                "xlabel": "load",
                "logx": True,
                "ylim": (0.0, 2.0),
                "labels": ("formula",),
            },
        ),
        bench_call(plots, "heatmap", lambda _: {"table": MAP, "x": "a", "y": "b", "value": "sign"}),
        bench_call(
            plots,
            "draw_heatmap",
            lambda _: {
                "axes": axes(),
                "table": MAP,
                "x": "a",
                "y": "b",
                "value": "height",
                "title": "map",
                "log": True,
                "vline": 0.5,
                "points": {"A": (0.5, 0.5)},
            },
        ),
        bench_call(
            plots,
            "draw_contours",
            lambda _: {
                "axes": axes(),
                "table": MAP,
                "paths": MAP.head(2),
                "x": "a",
                "y": "b",
                "value": "height",
                "hue": "a",
                "shade": "sign",
                "levels": [1.0, 3.0],
                "points": {"A": (0.5, 0.5)},
            },
        ),
        bench_call(plots, "panel", lambda _: {"draw": plots.draw_curves}),
        bench_call(plots, "panels", lambda _: {"parts": _nothing, "ncols": 2, "height": 2.0}),
        bench_call(
            plots,
            "figure_bundle",
            lambda _: {"fig": plots.panels(_nothing), **WORDS, "data": {"theory": CURVE}},
        ),
        bench_call(kept, "kept_points", lambda _: {"figure": "a-b", "profile": "book"}),
        bench_call(claims, "not_claimed", lambda _: {"notebook": NOTEBOOK}),
        bench_call(claims, "profile_slice", lambda _: {"notebook": NOTEBOOK, "profile": "book"}),
        bench_call(
            claims,
            "load_claims",
            lambda _: {"path": Path(claims.__file__).parents[1] / "data/claims.toml"},
        ),
        bench_call(claims, "merge", lambda _: {"rows": []}),
        bench_call(
            claims,
            "collect",
            lambda _: {"notebook": "toy", "executed": {"cells": []}, "profile": "book"},
        ),
    ]
)


def _nothing(_):
    pass


PLAIN = DRAWN | {  # what is called, and valid arguments of one world
    "bench.sweep.sweep": (
        Call("bench.sweep", "sweep", swept),
        lambda w: {
            "cells": grid(d=[2, 3], tau=w.number("tau")),
            "seed": w.seed,
            "replicates": 2,
            "n_jobs": 1,
            "shared": ("tau",),
        },
    ),
    "bench.sweep.summarize": (
        Call("bench.sweep", "summarize", summarize),
        lambda w: {"table": table(w), "by": "d"},
    ),
    "bench.checks.family_limit": (
        Call("bench.checks", "family_limit", family_limit),
        lambda w: {"comparisons": w.n, "level": 0.01, "replicates": w.n},
    ),
    "bench.checks.perform": (
        Call("bench.checks", "perform", perform),
        lambda w: {"kind": "close", "tolerance": 0.1, "data": Data(1.0, expected=w.number("e"))},
    ),
    "load": (
        Call("bench.claims", "Ledger.load", claims.Ledger.load),
        lambda _: {"notebook": NOTEBOOK, "profile": "quick"},
    ),
    "check": (
        Call("bench.claims", "check", check_claim),
        lambda _: {"id": "T-1", "also": {"more": 0.5}},
    ),
    "skip": (
        Call("bench.claims", "skip", skip_claim),
        lambda _: {"id": "T-1", "reason": "no GPU"},
    ),
    "perform close": checked(
        close,
        lambda w: {
            "measured": 1 + 1e-3 * w.normal("m", w.n),
            "expected": np.ones(w.n),
            "stderr": np.full(w.n, 1e-3),
            "replicates": np.full(w.n, 9),
            "tolerance": 0.1,
        },
    ),
    "perform limit": checked(
        limit,
        lambda w: {
            "measured": 2 + w.number("b") / X,
            "expected": np.array(2.0),
            "stderr": np.full(4, 1e-2),
            "size": X,
        },
    ),
    "perform order": checked(
        order, lambda w: {"measured": X + w.number("b"), "stderr": np.full(4, 1e-2), "x": X}
    ),
    "perform peak": checked(
        peak, lambda _: {"measured": -((X - 3.9) ** 2), "x": X, "at": np.array(4.0)}
    ),
    "perform slope": checked(
        slope, lambda w: {"measured": w.number("a") / X, "expected": np.array(-1.0), "x": X}
    ),
    "corpora.cache_folder": (
        Call("corpora", "cache_folder", corpora.cache_folder),
        lambda _: {"cache": "/nonexistent/folder"},
    ),
    "corpora.digits": (
        Call("corpora", "digits", corpora.digits),
        lambda w: {"rng": w.rng("noise"), "noise_std": 2.0},
    ),
    "corpora.embed": (
        Call("corpora", "embed", corpora.embed),
        lambda _: {"texts": ["a", "bc"], "encoder": Lengths(), "cache": "/dev/null/none"},
    ),
    "corpora.load_sentiment": (
        Call("corpora", "load_sentiment", corpora.load_sentiment),
        lambda _: {
            "source": "labmt",
            "languages": ("english", "german"),
            "n_per_language": 3,
            "shared": "first",
        },
    ),
}
NEED_DATA = {"corpora.digits", "corpora.load_sentiment"}  # only what is refused before they read
ANY_TEXT = ("text", "long text", "two lines", "empty")
TAKES_ANY_TEXT = (
    ("bench.claims.collect", "notebook"),
    ("bench.claims.not_claimed", "notebook"),
    ("bench.claims.profile_slice", "notebook"),
    ("bench.plots.draw_curves", "xlabel"),
    ("bench.plots.draw_heatmap", "title"),
    ("bench.plots.figure_bundle", "caption"),
    ("corpora.cache_folder", "cache"),
    ("corpora.embed", "cache"),
    ("skip", "reason"),
)
DRAWS = (("bench.plots.panel", "draw"), ("bench.plots.panels", "parts"))
NOT_TRIED = {  # variants that are valid here, or start processes
    *(("bench.sweep.sweep", "n_jobs", v) for v in ("vast", "1e+15", "4.61e+18", "9.22e+18", "-1")),
    ("bench.sweep.sweep", "seed", "beyond"),  # seeds have no largest value
    ("bench.sweep.sweep", "replicates", "1e+15"),
    ("bench.sweep.summarize", "by", "list"),
    ("bench.sweep.sweep", "cells", "first: values"),  # None is a value of a parameter
    ("bench.checks.family_limit", "replicates", "array"),
    ("bench.checks.family_limit", "replicates", "half"),
    ("bench.checks.family_limit", "replicates", "nan"),
    *((*place, v) for place in TAKES_ANY_TEXT for v in ANY_TEXT),
    *(
        (*place, f"to {v}")
        for place in DRAWS
        for v in ("text", "none", "nan", "complex", "a longer")
    ),
    ("bench.claims.merge", "rows", "nones"),  # no rows, so none of them
    ("bench.plots.curves", "y", "list"),
    ("bench.plots.draw_contours", "levels", "number"),
    ("bench.plots.draw_contours", "levels", "first: true"),  # an array of numbers, as everywhere
    ("bench.plots.heatmap", "value", "list"),
    *(("bench.plots.figure_bundle", "name", v) for v in ("text", "long text")),
    *(("bench.kept.kept_points", "figure", v) for v in ("text", "long text")),
    *(("bench.plots.draw_curves", "labels", f"first: {v}") for v in ANY_TEXT),
    *(
        ("corpora.embed", "texts", v)
        for v in ("dict", "first: long text", "first: text", "first: two lines", "first: empty")
    ),
}


def found_by(key, arguments, call):
    """Return the hostile variants of arguments, by name."""
    for name, value in arguments.items():
        for variant in variants(value):
            default = variant.value is None and call.parameters[name].default is None
            wanted = key not in NEED_DATA or variant.outcome == "error"
            if wanted and not default and (key, name, variant.label) not in NOT_TRIED:
                yield name, variant


@pytest.mark.parametrize("key", PLAIN)
@examples(12)
@given(world=WORLDS, data=st.data())
def test_a_hostile_argument(key, world, data):
    call, make = PLAIN[key]
    found = [pair for pair in found_by(key, make(world), call) if pair[1].outcome != "same"]
    check(key, world, *data.draw(st.sampled_from(found)))


@pytest.mark.parametrize("key", sorted(PLAIN.keys() - NEED_DATA))
def test_another_container_changes_nothing(key):
    call, make = PLAIN[key]
    for name, variant in found_by(key, make(World(3)), call):
        if variant.outcome == "same":
            check(key, World(3), name, variant)


def check(key, world, name, variant):
    """Raise unless a call with one argument changed keeps its promises."""
    call, make = PLAIN[key]
    changed = make(world) | {name: variant.value}
    outcome = outcome_of(call, changed)
    if outcome.refusal is not None:
        check_refusal(call, outcome.refusal, changed)
        if variant.outcome == "same":
            raise BrokenPromiseError(f"{name} is fine as {variant.label}: {outcome.refusal}")
    elif variant.outcome == "error" and getattr(outcome.value, "passed", True):
        raise BrokenPromiseError(f"{name} is accepted as {variant.label}")  # NaN may fail a check
    elif variant.outcome == "same":
        like = {} if variant.like is None else {name: variant.like}
        same(outcome_of(call, make(world) | like).value, outcome.value)


def same(one, other):
    """Fail unless two results are the same to the bit."""
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    else:
        assert repr(one) == repr(other)


@pytest.mark.parametrize("key", PLAIN)
def test_the_valid_arguments_are_valid(key):
    call, make = PLAIN[key]
    outcome = outcome_of(call, make(World(0)))
    assert outcome.refusal is None or isinstance(outcome.refusal, corpora.CorpusError)
    assert getattr(outcome.value, "passed", True) or key == "bench.checks.perform"


AXES = st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.lists(st.integers()))


@examples(50)
@given(axes=st.dictionaries(st.sampled_from("abc"), AXES))
def test_a_grid_has_every_combination_or_names_the_empty_axis(axes):
    sizes = [len(axis) if isinstance(axis, list) else 1 for axis in axes.values()]
    if 0 in sizes:
        with pytest.raises(ValueError, match=r"^[abc] must have at least one value"):
            grid(**axes)
    else:
        found = grid(**axes)
        assert len(found) == np.prod(sizes, dtype=int)
        assert all(list(point) == list(axes) for point in found)


def test_every_public_call_is_fuzzed_or_says_why_not():
    tried = {*PLAIN, "bench.sweep.grid"}
    excused = {key for key in apart() if key in NOT_FUZZED or key_module(key) in NOT_FUZZED}
    assert not set(apart()) - tried - excused, "fuzz it here or say why not in NOT_FUZZED"
    assert not tried & excused
    known = set(apart()) | {key_module(key) for key in apart()}
    assert set(NOT_FUZZED) <= known


def key_module(key):
    """Return "bench.sweep" of "bench.sweep.grid"."""
    return ".".join(key.split(".")[:2])
