"""The interactive figure of the dual kernel model: its JavaScript computes as the library does."""

import json
import re

import numpy as np
import pytest
from py_mini_racer import JSEvalException, mini_racer
from scipy.stats import kstest

from iclkit.papers import dual_kernel as dk
from iclkit.papers.dual_kernel.errors import output_variance, relative_variance
from iclkit.papers.dual_kernel.maps import feature_attention, feature_map
from tests.book.figures import DUAL, built, numbers, run, style
from tests.tolerances import IDENTITY, KS_P, ROOT, SIGMAS

FIGURE, THEORY = DUAL, DUAL.theory
KINDS = ("positive", "hyperbolic", "trigonometric")
N_DRAWS = 20
# One wrong sign, factor, branch or argument each.
PLANTED = [
    ("Math.exp(s - most)", "Math.exp(s)**1.001"),
    ("share: sum(weights.slice(0, demos))", "share: sum(weights.slice(0, demos - 1))"),
    ("zero: dot(weights.slice(demos), values", "zero: dot(weights.slice(1), values"),
    ("dot(rest, values) / sum(rest)", "dot(rest, values)"),
    ("Math.abs(now - target)]", "Math.abs(target)]"),
    ("distances.push(Math.abs(now - target))", "distances.push(now - target)"),
    ("now += weights[i]", "now += weights[i + 1]"),
    ("f: Math.cosh, sign: 1", "f: Math.cosh, sign: -1"),
    ("covariance: Math.expm1", "covariance: Math.exp"),
    ("f: Math.cos, sign: -1, covariance: (s) => 2", "f: Math.cos, sign: -1, covariance: (s) => 1"),
    ("f: Math.cosh, sign: 1, covariance: (s) => 2", "f: Math.cosh, sign: 1, covariance: (s) => 1"),
    ("add(mean, query, KINDS[kind].sign)", "add(mean, query)"),
    ("Math.exp(-sign * dot(z, z) / 2)", "Math.exp(-dot(z, z) / 2)"),
    ("const by = normalised ? normaliser : 1;", "const by = normaliser;"),
    ("(normalised ? output : 0)", "0"),
    ("covariance(dot(z1, z2))", "covariance(dot(z1, z1))"),
    ("attend(prompt).weights);", "attend(prompt).weights.slice(1));"),
]
PLANTED_DRAWS = [
    ("0x9e3779b9", "0x9e3779b8"),
    ("seed ^ (seed >>> 15)", "seed ^ (seed >> 15)"),
    ("Math.sqrt(-2 * Math.log(uniform()))", "Math.sqrt(-Math.log(uniform()))"),
    ("2 * Math.PI * uniform()", "Math.PI * uniform()"),
]


def close(got, want, relative, absolute):
    """Whether numbers agree; what is no number comes as None and agrees with nothing."""
    return np.allclose(np.array(got, dtype=float), want, rtol=relative, atol=absolute)


# ------------------------------------------------------------------ the theory


def random_lookups(rng, n=12):
    """Prompts over all that the sliders reach, and generic ones of several query tokens."""
    found = []
    for i in range(n):
        n_demo, n_query = int(rng.integers(2, 13)), int(i % 3)
        scale = 10 ** rng.uniform(-0.5, 0.8)
        points = scale * rng.standard_normal((2, n_demo + n_query + 1)) / 1.5
        keys = points[:, : n_demo + n_query]
        values = rng.uniform(-1, 1, (1, n_demo + n_query))
        query = keys[:, -1] if i % 2 else points[:, -1]
        found.append(dk.Lookup(query, keys, values, n_demo))
    return found


def prompt(lookup):
    """A lookup as the script takes it."""
    return {
        "query": lookup.query.tolist(),
        "keys": lookup.keys.T.tolist(),
        "values": lookup.values[0].tolist(),
        "demos": lookup.n_demo,
    }


def distances(lookup):
    """Norms after 0 to N demonstrations: what the later ones would still add."""
    parts = (dk.attend(lookup).weights * lookup.values)[0, : lookup.n_demo]
    return [abs(parts[t:].sum()) for t in range(lookup.n_demo + 1)]


def wanted(lookup):
    found = dk.attend(lookup)
    return {
        "weights": found.weights,
        "output": found.output[0],
        "share": found.demo_share,
        "zero": dk.zero_shot_model(lookup)(lookup.query)[0],
        "without": dk.leave_one_out(lookup)[0],
        "steps": distances(lookup),
    }


EXACT = """p => { const e = dualTheory.attend(p); return { ...e,
  without: dualTheory.leaveOneOut(e.weights, p.values, p.demos),
  steps: dualTheory.tokenByToken(e.weights, p.values, p.demos, e.output) }; }"""


def exact_agrees(engine, lookups):
    rows = run(engine, f"{json.dumps([prompt(lookup) for lookup in lookups])}.map({EXACT})")
    for lookup, got in zip(lookups, rows, strict=True):
        for name, want in wanted(lookup).items():
            if not close(got[name], want, IDENTITY, IDENTITY):
                return False
    return True


def test_attention_and_dual_model_equal_those_of_the_library(js, rng):
    assert exact_agrees(js, random_lookups(rng, 40))


def shift_of(kind, lookup):
    """The shift that centres x + y, or x - y for trigonometric features."""
    sign = -1 if kind == "trigonometric" else 1
    return lookup.keys.mean(axis=1) + sign * lookup.query


def test_centring_changes_no_weight_and_centres_what_features_see(js, rng):
    for lookup in random_lookups(rng, 6):
        for kind in KINDS:
            got = run(js, f'dualTheory.centred("{kind}", {json.dumps(prompt(lookup))})')
            keys = np.transpose(got.pop("keys"))
            assert keys == pytest.approx(lookup.keys - shift_of(kind, lookup)[:, None])
            assert dk.attend(lookup._replace(keys=keys)).weights == pytest.approx(
                dk.attend(lookup).weights
            )
            assert got == {k: v for k, v in prompt(lookup).items() if k != "keys"}


def feature_weights(kind, lookup, projections, normalised):
    """Weights that features give, one token at a time: outputs for values that pick one token."""
    options = {"feature_map": feature_map(kind, projections)}
    options["normaliser"] = "features" if normalised else "exact"
    tokens = np.eye(lookup.keys.shape[1])
    return feature_attention(lookup.query, lookup.keys, tokens, **options)


def features_agree(engine, lookups, projections):
    for lookup in lookups:
        for kind in KINDS:
            exact = feature_weights(kind, lookup, projections, False)
            for normalised in (True, False):
                at = f'"{kind}", {json.dumps(projections.tolist())}, {json.dumps(prompt(lookup))}'
                code = f"dualTheory.featureWeights({at}, {json.dumps(normalised)})"
                got = run(engine, code)
                want = exact / exact.sum() if normalised else exact
                rounding = ROOT * np.abs(want).max()
                if not close(got["weights"], want, ROOT, rounding):
                    return False
                if not close(got["normaliser"], exact.sum(), ROOT, rounding):
                    return False
    return True


def test_features_equal_those_of_the_library(js, rng):
    assert features_agree(js, random_lookups(rng), rng.standard_normal((30, 2)))


def variances_agree(engine, lookups):
    for lookup in lookups:
        at, parts = json.dumps(prompt(lookup)), (lookup.query, lookup.keys, lookup.values)
        ones = np.ones_like(lookup.values)
        for kind in KINDS:
            got = run(
                engine,
                f"[true, false].map((n) => dualTheory.outputVariance('{kind}', {at}, n))"
                f".concat(dualTheory.normaliserVariance('{kind}', {at}))",
            )
            want = [output_variance(kind, *parts, normalised=n) for n in (True, False)]
            want.append(output_variance(kind, *parts[:2], ones, normalised=False))
            terms = np.abs(relative_variance(kind, lookup.query, lookup.keys)).max()
            if not close(got, want, ROOT, IDENTITY * terms):
                return False
    return True


def test_predicted_errors_equal_those_of_the_library(js, rng):
    assert variances_agree(js, random_lookups(rng))


@pytest.mark.parametrize(("right", "wrong"), PLANTED)
def test_comparison_sees_a_planted_error(source, rng, right, wrong):
    assert source[THEORY].count(right) == 1
    lookups = random_lookups(rng, 6)
    with mini_racer() as engine:
        engine.eval(source[THEORY].replace(right, wrong))
        try:
            agreed = exact_agrees(engine, lookups) and variances_agree(engine, lookups)
            agreed = agreed and features_agree(engine, lookups, rng.standard_normal((5, 2)))
            for lookup in lookups if agreed else []:
                code = f'dualTheory.centred("trigonometric", {json.dumps(prompt(lookup))}).keys'
                shift = shift_of("trigonometric", lookup)[:, None]
                agreed &= np.allclose(np.transpose(run(engine, code)), lookup.keys - shift)
        except JSEvalException:
            agreed = False
    assert not agreed


# ------------------------------------------------------------------ the draws


def uniforms(draw, count):
    """The generator again, in whole numbers without limit: 32 bits are kept by hand."""

    def multiply(a, b):
        return (a * b) & 0xFFFFFFFF

    seed = multiply(draw, 0x9E3779B9)
    for _ in range(count):
        seed = (seed + 0x6D2B79F5) & 0xFFFFFFFF
        t = multiply(seed ^ (seed >> 15), seed | 1)
        t ^= (t + multiply(t ^ (t >> 7), t | 61)) & 0xFFFFFFFF
        yield ((t ^ (t >> 14)) + 0.5) / 2**32


def projections(draw, count):
    radius, angle = np.array(list(uniforms(draw, 2 * count))).reshape(count, 2).T
    radius = np.sqrt(-2 * np.log(radius))
    return np.transpose([radius * np.cos(2 * np.pi * angle), radius * np.sin(2 * np.pi * angle)])


def test_draws_are_those_of_the_generator(js):
    for draw in range(1, N_DRAWS + 1):
        got = run(js, f"dualTheory.projections(40, {draw})")
        assert got == pytest.approx(projections(draw, 40), abs=IDENTITY)
    assert run(js, "dualTheory.projections(7, 3)") == got_first(js, 7)


def got_first(engine, count):
    return run(engine, f"dualTheory.projections(1024, 3).slice(0, {count})")


def all_draws(engine):
    code = f"Array.from({{ length: {N_DRAWS} }}, (_, i) => dualTheory.projections(1024, i + 1))"
    return np.array(run(engine, code))


def look_normal(draws):
    """Law of the entries; first and second moments; no dependence of draws or of neighbours."""
    flat = draws.reshape(-1)
    moments = [draws.mean((0, 1)), (draws**2).mean((0, 1)) - 1, (draws[..., 0] * draws[..., 1])]
    deviations = [
        *np.ravel(moments[0]) * np.sqrt(flat.size / 2),
        *np.ravel(moments[1]) * np.sqrt(flat.size / 4),
        moments[2].mean() * np.sqrt(flat.size / 2),
        (flat[1:] * flat[:-1]).mean() * np.sqrt(flat.size),
        *((draws[1:] * draws[:-1]).mean((1, 2)) * np.sqrt(draws[0].size)),
    ]
    return kstest(flat, "norm").pvalue > KS_P and max(np.abs(deviations)) < SIGMAS


def test_draws_look_like_independent_normals(js):
    assert look_normal(all_draws(js))


@pytest.mark.parametrize(("right", "wrong"), PLANTED_DRAWS)
def test_draws_show_a_planted_error(source, right, wrong):
    assert source[THEORY].count(right) == 1
    with mini_racer() as engine:
        engine.eval(source[THEORY].replace(right, wrong))
        got = run(engine, "dualTheory.projections(40, 2)")
        assert not np.allclose(got, projections(2, 40), atol=IDENTITY)


# ------------------------------------------------------------------ the widget


HOMES = [35, -102, 120, -17, -155, 68, -70, 153, 15, -122, 100, -37]
SETTINGS = [
    {},
    {"query": -102, "demos": 12, "labels": "odd"},
    {"query": 7.5, "temperature": 0.3, "sees": "demos", "kind": "positive", "keys": "centred"},
    {"temperature": 8, "own": -0.35, "kind": "hyperbolic", "normaliser": "exact", "draw": 7},
    {"labels": "levels", "demos": 3, "count": 1024, "keys": "centred", "query": -180},
]
DEFAULT = {
    "query": 90, "temperature": 1.41, "demos": 6, "own": 0.5, "left": 0, "count": 64, "draw": 1,
    "labels": "wave", "sees": "all", "kind": "trigonometric", "keys": "raw",
    "normaliser": "features",
}  # fmt: skip


def described(setting):
    """What the page says that it computes, by the layer itself: matrices and tokens."""
    angles = np.radians([*HOMES[: setting["demos"]], setting["query"]])
    labels = np.sin(angles)
    if setting["labels"] == "levels":
        labels = 0.8 * np.sign(labels)
    if setting["labels"] == "odd":
        labels[1] *= -1
    labels[-1] = setting["own"]
    tokens = np.array([np.cos(angles), np.sin(angles), labels])
    W = 2 * np.sqrt(np.sqrt(2) / setting["temperature"]) * np.eye(2, 3)
    found = dk.look_up(tokens[:, :-1], tokens[:, -1], W, W, [[0, 0, 1]])
    if setting["sees"] == "demos":
        kept = slice(0, found.n_demo)
        return found._replace(keys=found.keys[:, kept], values=found.values[:, kept])
    return found


def feature_output(setting, lookup, draw):
    weights = feature_weights(setting["kind"], lookup, projections(draw, setting["count"]), False)
    if setting["normaliser"] == "features":
        weights = weights / weights.sum()
    return float(lookup.values[0] @ weights)


@pytest.mark.parametrize("changes", SETTINGS)
def test_numbers_of_the_page_are_those_of_the_library(source, changes):
    setting = DEFAULT | changes
    address = "#dual:" + "&".join(f"{name}={value}" for name, value in setting.items())
    with mini_racer() as engine:
        FIGURE.start(engine, source, address)
        found = numbers(engine)
    lookup = described(setting)
    exact = wanted(lookup)
    if setting["keys"] == "centred":
        shift = shift_of(setting["kind"], lookup)[:, None]
        lookup = lookup._replace(keys=lookup.keys - shift)
    outputs = [feature_output(setting, lookup, draw) for draw in range(1, N_DRAWS + 1)]
    variance = output_variance(
        setting["kind"], *lookup[:3], normalised=setting["normaliser"] == "features"
    )
    want = {
        "output, after the step": exact["output"],
        "zero-shot part, before it": exact["zero"],
        "weight of the demonstrations \u03bb": exact["share"],
        "output with features": outputs[setting["draw"] - 1],
        "its error": outputs[setting["draw"] - 1] - exact["output"],
        "predicted error": np.sqrt(variance / setting["count"]),
        "error in 20 draws": np.sqrt(np.mean((np.array(outputs) - exact["output"]) ** 2)),
        "projections for an error of 0.05": max(1, np.ceil(variance / 0.05**2)),
    }
    for name, value in want.items():
        assert found[name] == pytest.approx(value, rel=6e-4, abs=1e-12), name
    assert len(found) == len(want) + 2


def test_predicted_error_is_that_of_the_draws_where_it_holds(source):
    """A mean of 20 squares of normals has a relative error of 0.32, its root one of 0.16."""
    for changes in ({}, {"kind": "positive", "keys": "centred"}, {"temperature": 10}):
        address = "&".join(f"{k}={v}" for k, v in ({"count": 1024} | changes).items())
        with mini_racer() as engine:
            FIGURE.start(engine, source, f"#dual:{address}")
            found = numbers(engine)
        assert 0.5 < found["error in 20 draws"] / found["predicted error"] < 1.5


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("Nearest neighbour", "Nearest neighbour.</strong> Demonstration 6 has 92 %"),
        ("Plain average", "An average.</strong> No token has more than 19 %"),
        ("One odd label", "Without demonstration 2, which matters most"),
        ("Positive features", "Too few projections for the prediction"),
        ("Keys centred", "These features do well here."),
        ("Reset", "A smoother.</strong> The largest weight, that of the query itself, has 35 %"),
    ],
)
def test_presets_say_what_they_are_named_after(page, preset, words):
    page.eval(f'page.draws = true; page.press("{preset}")')
    assert words in page.eval('page.find(".pd-verdict").innerHTML')
    drawn = "".join(page.eval(f'page.find(".dd-{name}").innerHTML') for name in PANELS)
    assert not re.search("NaN|Infinity|undefined", drawn)


PANELS = ("model", "weights", "leave", "steps")


def test_extreme_settings_stay_finite(source, rng):
    """At the coldest temperature features fail, but with numbers."""
    for kind in KINDS:
        for changes in ("count=1", "count=2&keys=centred", "normaliser=exact", "sees=demos"):
            address = f"#dual:temperature=0.1&demos=12&kind={kind}&{changes}"
            with mini_racer() as engine:
                FIGURE.start(engine, source, address)
                engine.eval('page.draws = true; page.slide("demos", 0)')
                said = engine.eval('page.find(".pd-live").textContent')
                text = said + engine.eval('page.find(".pd-table").innerHTML')
                drawn = "".join(engine.eval(f'page.find(".dd-{n}").innerHTML') for n in PANELS)
            assert not re.search("NaN|Infinity|\u221e|undefined", text + drawn)


def test_the_verdict_says_when_features_break(source):
    """Trigonometric features can give a negative sum of weights."""
    with mini_racer() as engine:
        FIGURE.start(engine, source, "#dual:temperature=0.1&count=1&sees=demos")
        for draw in range(N_DRAWS):
            engine.eval(f'page.slide("draw", {draw})')
            negative = numbers(engine)["normaliser, features / exact"] <= 0
            said = engine.eval('page.find(".pd-live").textContent')
            assert ("normaliser of the features is negative" in said) == negative
            if negative:
                return
    raise AssertionError("no draw had a negative normaliser")


def test_curves_follow_the_sliders_and_the_choices(page):
    """The curves are kept while only the query moves, and made anew otherwise."""

    def paths():
        return re.findall(
            r'<path class="(?:zero|after|features|band|without)" d="(.*?)"', page.eval(
                'page.find(".dd-model").innerHTML')
        )  # fmt: skip

    page.eval("page.draws = true")
    page.eval('page.slide("query", 3)')
    before = paths()
    page.eval('page.slide("query", 100)')
    assert paths() == before
    for move in ('slide("temperature", 3)', 'slide("own", 2)', 'slide("demos", 9)',
                 'slide("draw", 4)', 'choose("kind", "positive")', 'choose("labels", "odd")',
                 'choose("sees", "demos")', 'slide("left", 2)'):  # fmt: skip
        page.eval(f"page.{move}")
        assert paths() != before, move
        before = paths()
    assert len(before) == 5
    page.eval('page.slide("left", 12)')  # not among the ten that are there
    assert len(paths()) == 4


def test_a_click_on_the_curve_sets_the_query(page):
    page.eval('page.click(".dd-model", 48)')
    assert page.eval("location.hash").startswith("#dual:query=-180&")
    page.eval('page.click(".dd-model", 340)')
    assert page.eval("location.hash").startswith("#dual:query=180&")


def test_screen_readers_hear_the_numbers(page):
    assert 'role="status" aria-live="polite"' in built(page)
    page.eval('page.draws = true; page.press("One odd label")')
    said = page.eval('page.find(".pd-live").textContent')
    assert "output, after the step: \u22120.0" in said
    assert "Without demonstration 2, which matters most" in said
    assert page.eval('page.find("#pd-demos").attributes["aria-valuetext"]') == "12"
    table = page.eval('page.find(".pd-table").innerHTML')
    assert table.count('<th scope="row">demonstration ') == 12
    assert re.search("demonstration 2 at \u2212102\u00b0<td>label 0.978; weight 0.2", table)
    assert "<td>label 0.5; weight" in table.split("query token")[1]
    for name in PANELS:
        assert f'<svg class="pd-curves dd-{name}" role="img">' in built(page)
        label = page.eval(f'page.find(".dd-{name}").attributes["aria-label"]')
        assert label.endswith("values are in the text and the table below.")


def test_curves_are_told_apart_without_colour(page, root):
    dashes = dict(
        re.findall(r"\.dual-diagram path\.(\w+) \{.*?stroke-dasharray: ([\d ]+);", style(root))
    )
    assert sorted(dashes) == ["band", "features", "without", "zero"]
    assert len(set(dashes.values())) == 4  # attention is the solid one
    page.eval('page.draws = true; page.press("Plain average")')
    assert page.eval('page.find(".dd-model").innerHTML').count('r="8"') == 6
    for token in "123456q":
        assert f">{token}</text>" in page.eval('page.find(".dd-weights").innerHTML')
