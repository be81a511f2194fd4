"""The interactive mixing curve: its JavaScript computes what the library computes."""

import itertools
import json
import re

import numpy as np
import pytest
from py_mini_racer import mini_racer

from iclkit.papers import data_mixing as dm
from tests.book.figures import MIXING, drawn, number, presets, run, shown, sliders, style
from tests.tolerances import MINIMUM, PRINTED, ROOT

FIGURE, THEORY = MIXING, MIXING.theory
HEADS = ("linear", "intercept", "relu")
WIDTH = 1600  # of the ReLU head
DIM = 40
START = {
    "spike": 1600, "noise0": 0.01, "noise1": 0.5, "context": 80, "prompts": 3200,
    "penalty": 0.02, "head": "linear",
}  # fmt: skip
# The ends of the sliders.
ENDS = {
    "spike": (0, 1e4), "noise0": (0, 2), "noise1": (0, 2), "context": (10, 1000),
    "prompts": (100, 1e5), "penalty": (1e-6, 1),
}  # fmt: skip
# One wrong sign, factor, branch or argument each.
PLANTED = [
    ("-1.5 * Math.log1p", "-1.4999 * Math.log1p"),
    ("((dim - 1) / 2) * Math.log1p", "(dim / 2) * Math.log1p"),
    ("3 * noise ** 2 + 3 * noise ** 4", "3 * noise ** 2 + noise ** 4"),
    ("(1 - along) / (dim - 1)", "(1 - along) / dim"),
    ("(1 / context + (1 - 1 / context) / 4)", "((1 - 1 / context) / 4)"),
    ("(1 - 1 / context) * power ** 2", "power ** 2"),
    ("dim * (values[0]", "(values[0]"),
    ("Math.sqrt(s.size / size)", "1"),
    ("[dim * (dim - 1), dim - 1]", "[dim * dim, dim - 1]"),
    ("if (intercept) mean([1, 1], 0)", "if (intercept) mean([1, 1], 1)"),
    ("r * r * (0.25 - MEAN ** 2)", "0.25 - MEAN ** 2"),
    ("share / (1 + d[s]));", "share / (1 + d[0]));"),
    ("squares += count * (kept * r) ** 2", "squares += count * kept * r"),
    ("m / (1 + d[s])", "m"),
    ("(g * g * v) / (width - squares)", "(g * g * v) / (width + squares)"),
    ("m.load[s] + moves[s]", "m.load[s]"),
    ("- 2 * m.pull[s])", "- m.pull[s])"),
    ("v + pulls[s] * moves[u]", "v + pulls[s] * moves[s]"),
    ("dot([0.5, 0.5], errors)", "dot(shares, errors)"),
]


# ------------------------------------------------------------------ the theory


def setting_of(changes):
    """What the script takes for the state of the figure."""
    state = START | changes
    width, intercept = WIDTH * (state["head"] == "relu"), state["head"] == "intercept"
    return state | {"dim": DIM, "width": width, "intercept": intercept}


def computed(engine, settings, shares):
    """What the script finds, one row of shares per setting."""
    points = json.dumps([[setting_of(setting), shares] for setting in settings])
    code = f"{points}.map(([s, shares]) => shares.map(mixingTheory.mixture(s)))"
    return run(engine, code)


def sources(state):
    noisy = dm.Source(DIM, noise=state["noise1"], theta_xi=state["spike"])
    return [dm.Source(DIM, noise=state["noise0"]), noisy]


def expected(changes, share):
    """What the library finds, with the sources kept apart."""
    state = START | changes
    pair, weights = sources(state), [1 - share, share]
    sizes = {"n_context": state["context"], "n_prompts": state["prompts"]}
    sizes |= {"ridge": state["penalty"], "resolved": True}
    if state["head"] == "relu":
        return dm.random_mlp_equivalent(pair, weights, width=WIDTH, **sizes)
    return dm.linear_equivalent(pair, weights, intercept=state["head"] == "intercept", **sizes)


def random_settings(rng, n):
    """Settings over all that the sliders reach, every head and also without a spike."""

    def powers(low, high):
        return float(10 ** rng.uniform(low, high))

    return [
        {
            "spike": powers(-1, 4) if i % 5 else 0,
            "noise0": float(rng.uniform(0, 2)),
            "noise1": float(rng.uniform(0, 2)),
            "context": int(powers(1, 3)),
            "prompts": int(powers(2, 5)),
            "penalty": powers(-6, 0),
            "head": HEADS[i % 3],
        }
        for i in range(n)
    ]


def agrees(engine, settings, shares):
    for setting, row in zip(settings, computed(engine, settings, shares), strict=True):
        for share, got in zip(shares, row, strict=True):
            want = expected(setting, share)
            errors = np.array([got["error"], *got["errors"]], dtype=float)
            if not np.allclose(errors, [want.error, *want.source_errors], rtol=ROOT, atol=0):
                return False
    return True


def test_errors_equal_those_of_the_library(js, rng):
    shares = [0, 1, *rng.uniform(0, 1, 2)]
    assert agrees(js, random_settings(rng, 150), shares)


def test_errors_near_the_peaks_equal_those_of_the_library(js):
    """As many prompts as parameters, 1,640, or as neurons, 1,600, and hardly a ridge."""
    near = [
        {"prompts": n, "penalty": 1e-6, "head": head}
        for n, head in itertools.product((1590, 1600, 1639, 1640, 1641, 1700), HEADS)
    ]
    assert agrees(js, near, [0, 0.3, 1])


@pytest.mark.parametrize(("right", "wrong"), PLANTED)
def test_comparison_sees_a_planted_error(source, rng, right, wrong):
    assert source[THEORY].count(right) == 1
    with mini_racer() as engine:
        engine.eval(source[THEORY].replace(right, wrong))
        assert not agrees(engine, random_settings(rng, 6), [0.4])


@pytest.mark.parametrize(
    ("spike", "dim", "value"),
    [
        (10, 20, 0.271896278394),
        (80, 80, 0.350394518546),
        (400, 20, 0.772162607941),
        (6400, 80, 0.872728436785),
        (1000, 30, 0.8145830341),
    ],
)
def test_overlap(js, spike, dim, value):
    found = js.eval(f"mixingTheory.overlap({spike}, {dim})")
    assert found == pytest.approx(value, rel=PRINTED)
    assert found == pytest.approx(float(dm.spike_overlap(spike, dim)), rel=ROOT)


def test_moments(js):
    found = run(js, "mixingTheory.source({ dim: 20, context: 40 }, 20, 0.2)")
    known = [0.1126635134, 0.02242560456, 0.32493, 0.09224512874, 0.008302887961, 0, 17.2736]
    assert [*found["values"], *found["pulls"], found["size"]] == pytest.approx(known, rel=PRINTED)


def test_one_source_alone_is_the_known_equivalent(js):
    """Without mixture nothing is averaged, and the textbook formula holds."""
    clean = {"noise1": 0.01, "context": 80, "prompts": 3200, "penalty": 5e-3, "spike": 6400}
    at = setting_of(clean) | {"dim": 80}
    found = run(js, f"[0, 1].map(mixingTheory.mixture({json.dumps(at)}))")
    assert found[0]["errors"] == pytest.approx([0.61517326, 0.61517326], rel=1e-7)  # as printed
    assert found[1]["errors"] == pytest.approx([0.60701403, 0.38616548], rel=1e-7)


# ------------------------------------------------------------------ the optimum


def found_best(engine, settings):
    """Best shares, the reach of the first, and errors on a grid."""
    code = """(s) => {
      const errorsAt = mixingTheory.mixture(s);
      const best = mixingTheory.optima(errorsAt);
      const error = (share) => errorsAt(share).error;
      const least = error(best[0]);
      const near = mixingTheory.around(error, best[0], 1.01 * least);
      const grid = Array.from({ length: 201 }, (_, i) => errorsAt(i / 200));
      const curves = grid.map((e) => [e.error, ...e.errors]);
      return { best, least, near, curves, lowest: best.map((share, i) =>
        [errorsAt(share).error, ...errorsAt(share).errors][i]) };
    }"""
    states = json.dumps([setting_of(setting) for setting in settings])
    return run(engine, f"{states}.map({code})")


def test_no_other_share_is_better_and_the_reach_is_right(js, rng):
    shares = np.arange(201) / 200
    for found in found_best(js, random_settings(rng, 60)):
        curves = np.array(found["curves"])
        assert np.all(found["lowest"] <= curves.min(axis=0) * (1 + ROOT))
        low, high = found["near"]
        assert low <= found["best"][0] <= high
        inside = (shares >= low) & (shares <= high)
        assert np.all(curves[inside, 0] <= 1.01 * found["least"] * (1 + ROOT))
        beside = (np.abs(shares - low) < 0.005) | (np.abs(shares - high) < 0.005)
        assert np.all(curves[~inside & beside, 0] >= 1.01 * found["least"] * (1 - ROOT))


def test_reach_stops_at_the_first_bump(js):
    """Two minima at 0.1 and 0.7, and 1 between them."""
    well = "(x) => Math.min(1, 100 * (x - 0.1) ** 2, 100 * (x - 0.7) ** 2)"
    assert run(js, f"mixingTheory.around({well}, 0.1, 0.25)") == pytest.approx([0.05, 0.15])
    assert run(js, f"mixingTheory.around({well}, 0.7, 0.25)") == pytest.approx([0.65, 0.75])
    assert run(js, f"mixingTheory.around({well}, 0.1, 1)") == [0, 1]


def test_best_share_is_that_of_the_library(js, rng):
    for setting, found in zip(CASES, found_best(js, CASES), strict=True):
        state = START | setting
        sizes = {"n_context": state["context"], "n_prompts": state["prompts"]}
        sizes |= {"ridge": state["penalty"], "intercept": state["head"] == "intercept"}
        sizes["width"] = WIDTH if state["head"] == "relu" else None
        want = dm.best_mixture(sources(state), **sizes, resolved=True)
        assert found["best"][0] == pytest.approx(want.weights[1], abs=MINIMUM)
        assert found["least"] == pytest.approx(want.error, rel=ROOT)


CASES = [
    {},
    {"noise1": 0.01},
    {"prompts": 400},
    {"head": "intercept", "noise0": 0.3},
    {"head": "relu", "penalty": 1e-4},
]


# ------------------------------------------------------------------ hostile settings


@pytest.mark.parametrize("head", HEADS)
def test_all_corners_of_the_sliders_have_errors(js, head):
    corners = [dict(zip(ENDS, at, strict=True)) for at in itertools.product(*ENDS.values())]
    settings = [corner | {"head": head} for corner in corners]
    for setting, row in zip(settings, computed(js, settings, [0, 0.5, 1]), strict=True):
        for found in row:
            errors = np.array([*found["errors"], found["inflation"]], dtype=float)
            floors = [setting["noise0"] ** 2, setting["noise1"] ** 2, 1]
            assert np.all(np.isfinite(errors))
            assert np.all(errors > np.array(floors) * (1 - ROOT))


# ------------------------------------------------------------------ the widget


@pytest.mark.parametrize("changes", [{"share": 0.25}, *CASES])
def test_numbers_of_the_page_are_those_of_the_library(source, changes):
    address = "#mixing:" + "&".join(f"{name}={value}" for name, value in changes.items())
    with mini_racer() as engine:
        FIGURE.start(engine, source, address)
        found = shown(engine)
        table = engine.eval('page.find(".pd-table").innerHTML')
    state = START | changes
    want = expected(changes, changes.get("share", 0.5))
    noise = (state["noise0"] ** 2 + state["noise1"] ** 2) / 2
    values = {
        "error, both sources": want.error,
        "error, source 0": want.source_errors[0],
        "error, source 1": want.source_errors[1],
        "best constant": 0.5 + noise - 1 / (2 * np.pi),
    }
    for name, value in values.items():
        assert number(found[name]) == pytest.approx(value, rel=6e-4), name
    assert len(found) == 8
    row = re.search("errors at \u03c1 = 0.3<td>(.*?)(?=<tr|$)", table)[1]
    listed = [float(v) for v in re.findall(r"(?:sources|source \d) ([\d.]+)", row)]
    want = expected(changes, 0.3)
    assert listed == pytest.approx([want.error, *want.source_errors], rel=6e-6)


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("Both clean", "Mix.</strong> Pretraining on source 1 alone costs 1.7 % more"),
        ("Noises swapped", "Source 1 alone.</strong> No mixture does visibly better"),
        ("Few prompts", "equal shares cost 1.7 % more"),
        ("Little ridge", "Mix.</strong> Pretraining on source 0 alone costs 4.8 % more"),
        ("Intercept", "with the best share, 0.367"),
        ("ReLU head", "Shares from 0.319 to 1 cost at most 1 % more"),
        ("Only noise", "Even the best constant answer costs less than any mixture."),
        ("Reset", "with the best share, 0.395, and equal shares 0.12 % more"),
    ],
)
def test_presets_say_what_they_are_named_after(page, preset, words):
    assert preset in presets(page)
    page.eval(f'page.press("{preset}")')
    assert words in page.eval('page.find(".pd-verdict").innerHTML')


def test_the_verdict_says_when_nothing_can_be_told_apart(source):
    for address, words in (
        ("spike=0&noise1=0.01", "All the same."),
        ("spike=0.1&noise1=0.02", "Yet it hardly matters"),
        ("prompts=1640&penalty=0.000001", "the interpolation peak is near"),
    ):
        with mini_racer() as engine:
            FIGURE.start(engine, source, f"#mixing:{address}")
            assert words in engine.eval('page.find(".pd-verdict").innerHTML')


def test_a_click_on_a_plot_sets_what_lies_across(page):
    for place, share in ((48, "0"), (48 + 276 / 2, "0.5"), (340, "1")):
        page.eval(f'page.click(".md-errors", {place})')
        assert page.eval("location.hash").startswith(f"#mixing:share={share}&")
    page.eval('page.click(".md-shares", 48)')
    assert "&noise1=0&" in page.eval("location.hash")
    page.eval('page.choose("over", "prompts"); page.click(".md-shares", 340)')
    assert "&prompts=100000&" in page.eval("location.hash")
    assert "&noise1=0&" in page.eval("location.hash")


def test_a_head_brings_a_ridge_that_suits_it(page):
    page.eval('page.choose("head", "relu")')
    assert "&penalty=0.0001&head=relu&" in page.eval("location.hash")
    page.eval('page.choose("head", "intercept")')
    assert "&penalty=0.02&head=intercept&" in page.eval("location.hash")


def test_curves_follow_what_they_show_and_nothing_else(page):
    """The right plot is kept while the share or the number across moves."""

    def paths(plot):
        text = page.eval(f'page.find(".md-{plot}").innerHTML')
        return re.findall(r'<path class="(?:both|first|second)" d="(.*?)"', text)

    page.eval('page.draws = true; page.slide("share", 3)')
    left, right = paths("errors"), paths("shares")
    assert len(left) == len(right) == 3
    page.eval('page.slide("share", 90)')
    assert (paths("errors"), paths("shares")) == (left, right)
    page.eval('page.slide("noise1", 20)')
    assert paths("errors") != left
    assert paths("shares") == right
    for name in ("noise0", "spike", "context", "prompts", "penalty"):
        page.eval('page.press("Reset")')
        before = paths("errors"), paths("shares")
        page.eval(f'page.slide("{name}", 35)')
        assert paths("errors") != before[0]
        assert paths("shares") != before[1]


def test_the_optimum_is_marked_where_it_is(page):
    page.eval('page.draws = true; page.press("Reset")')
    best = numbers_but_range(page)["best share \u03c1*"]
    for plot, at in (("errors", "x"), ("shares", "y")):
        text = page.eval(f'page.find(".md-{plot}").innerHTML')
        corner = re.search(r'<rect class="both" x="([\d.]+)" y="([\d.]+)"', text)
        x, y = (float(v) + 5 for v in corner.groups())
        place = (x - 48) / 276 if at == "x" else 1.1 * (262 - y) / 254 - 0.05
        assert place == pytest.approx(best, abs=6e-4)
    assert "\u03c1* = 0.395" in page.eval('page.find(".md-errors").innerHTML')


def numbers_but_range(page):
    return {name: number(text) for name, text in shown(page).items() if " to " not in text}


def test_the_figure_reads_without_colour(page, root):
    dashes = dict(re.findall(r"\.mixing-diagram path\.(\w+) \{.*?array: ([\d ]+);", style(root)))
    assert sorted(dashes) == ["first", "null", "second"]
    assert len(set(dashes.values())) == 3  # that for both sources is the solid one
    page.eval('page.draws = true; page.press("Intercept")')
    text = page.eval('page.find(".md-errors").innerHTML')
    for kind in ("both", "first", "second"):
        assert f'<circle class="{kind}"' in text  # at the share
        assert f'<rect class="{kind}"' in text  # at the best one
    assert '<path class="null"' in text
    assert '<rect class="near"' in drawn(page)


def test_sliders_reach_the_ends_that_are_tested(page):
    for name, ends in ENDS.items():
        for step, end in zip((0, sliders(page)[name]), ends, strict=True):
            page.eval(f'page.slide("{name}", {step})')
            assert re.search(rf"&{name}=([^&]*)", page.eval("location.hash"))[1] == as_text(end)


def as_text(value):
    """A number as JavaScript writes it."""
    return "0.000001" if value == 1e-6 else f"{value:.0f}"
