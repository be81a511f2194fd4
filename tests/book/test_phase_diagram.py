"""The interactive phase diagram: its JavaScript computes what the library computes."""

import json
import re

import numpy as np
import pytest
from matplotlib import colormaps, colors
from py_mini_racer import mini_racer

from iclkit.papers.phase_transition import effective_ridge, learning_curve
from tests.book.figures import KIT, PHASE
from tests.iclkit.papers.phase_transition.test_theory import REFERENCE
from tests.tolerances import IDENTITY, PRINTED, ROOT

FIGURE, THEORY = PHASE, PHASE.theory
NAMES = ["alpha", "kappa", "tau", "rho", "penalty"]
NAMED = ("STEPS", "STRIP")  # numbers that the axes of the widget are made of
# One wrong sign, factor, branch or argument each.
PLANTED = [
    ("b >= 0 ? large : c / large", "b >= 0 ? large : large"),
    ("(kappa - 1) / kappa", "(kappa + 1) / kappa"),
    ("g * (g + 2 * c)", "g * (g + c)"),
    ("1 + c * mixed * shrunk ** 2", "1 - c * mixed * shrunk ** 2"),
    ("resolvent(x, kappa / tau)", "resolvent(x, kappa)"),
    ("paid - tau + signal + x / g", "paid - tau + signal - x / g"),
    ("Math.max(0, 1 - 1 / tau)", "Math.max(0, 1 - tau)"),
    ("rho + x * signal", "rho + 1.00001 * x * signal"),
    ("c * (2 - g - c)", "c * (1 - g - c)"),
    ("idg * kept ** 2", "idg * kept"),
]


def literal(values):
    """An array of numbers as JavaScript writes it."""
    return "[" + ", ".join(map(repr, map(float, values))).replace("inf", "Infinity") + "]"


def run(engine, function, points):
    """Apply a function of a point in JavaScript to the rows of an array, through text."""
    rows = ", ".join(map(literal, points))
    make = f"({{{', '.join(NAMES)}}})"
    code = f"[{rows}].map(([{', '.join(NAMES)}]) => ({function})({make}))"
    return json.loads(engine.eval(f"JSON.stringify({code})"))


def computed(engine, points):
    """Effective ridge and errors by JavaScript, one row per quantity."""
    one = "p => Object.values(phaseTheory.learningCurve(p)).map(String)"
    xi, icl, idg, gap, train, inflation = np.array(run(engine, one, points), dtype=float).T
    return {"xi": xi, "icl": icl, "idg": idg, "gap": gap, "train": train, "inflation": inflation}


def expected(points):
    curve = learning_curve(*points.T)
    gap = curve.icl - curve.idg
    return curve._asdict() | {"xi": effective_ridge(*points.T), "gap": gap}


def agrees(engine, points):
    got, want = computed(engine, points), expected(points)
    close = [
        got[name] == pytest.approx(want[name], rel=ROOT) for name in ("xi", "icl", "idg", "train")
    ]
    return all(close) and np.allclose(got["gap"], want["gap"], rtol=0, atol=ROOT * want["icl"])


def random_points(rng, n=20):
    """Points over all that the sliders reach: both sides of tau = 1, with and without ridge."""
    spans = [(-2, 4), (np.log10(0.05), np.log10(50)), (np.log10(0.05), 2), (-3, 0.3), (-6, 1)]
    points = np.array([10 ** rng.uniform(low, high, n) for low, high in spans]).T
    points[::4, 1] = np.inf
    points[::2, 4] = 0.0
    points[: n // 2, 2] = rng.uniform(0.05, 0.99, n // 2)
    return points


@pytest.mark.parametrize(("ratios", "ridge", "icl", "idg"), REFERENCE)
def test_reference_values(js, ratios, ridge, icl, idg):
    got = computed(js, [ratios])
    found = [got[name][0] for name in ("xi", "icl", "idg", "gap")]
    assert found == pytest.approx([ridge, icl, idg, icl - idg], rel=PRINTED, abs=PRINTED)


def test_errors_equal_those_of_the_library(js, rng):
    assert agrees(js, random_points(rng))


def test_errors_close_to_the_threshold_equal_those_of_the_library(js):
    points = [[10, 0.5, 1 + s, 0.01, p] for s in (-1e-3, 1e-6, 1e-3) for p in (0, 1e-6, 1e-2)]
    assert agrees(js, np.array([*points, [10, 0.5, 1, 0.01, 1e-6]]))


def test_ridges_that_newton_alone_would_miss_equal_those_of_the_library(js):
    """Long contexts, few tasks and little ridge: steps that leave the bracket, on either side."""
    points = [[8700, 0.086, 0.25, 0.096, 6.6e-4], [14, 0.058, 0.29, 0.0024, 1e-6]]
    assert agrees(js, np.array([*points, [2900, 0.066, 0.11, 0.004, 2.7e-6]]))


@pytest.mark.parametrize(("right", "wrong"), PLANTED)
def test_comparison_sees_a_planted_error(source, rng, right, wrong):
    assert source[THEORY].count(right) == 1
    with mini_racer() as engine:
        engine.eval(source[THEORY].replace(right, wrong))
        assert not agrees(engine, random_points(rng))


def test_resolvent(js):
    known = {(0.5, 0.101): 5.37202708423, (2, 0.101): 1.47987314677, (1, 1e-6): 999.500125}
    for (kappa, z), value in known.items():
        assert js.eval(f"phaseTheory.resolvent({z}, {kappa})") == pytest.approx(value, rel=PRINTED)
    assert js.eval("phaseTheory.resolvent(0.25, Infinity)") == pytest.approx(0.8, rel=IDENTITY)


def test_gap_keeps_its_digits(js):
    """Subtracted errors would leave 2 of 16 digits of the gap at tau = infinity."""
    x = 1.01e-4
    got = computed(js, [[1e4, 50, 1e12, 0.01, 0], [10, np.inf, 0.5, 0.01, 0.1]])["gap"]
    assert got[0] == pytest.approx(x**2 * ((50 / 49) ** 3 - 50 / 49), rel=1e-3)  # to order x^3
    assert got[1] == 0


def test_pole_is_infinite_not_undefined(js):
    got = computed(js, [[10, 0.5, 1, 0.01, 0], [10, np.inf, 1, 0.01, 0]])
    assert all(got[name][0] == np.inf for name in ("icl", "idg", "gap", "inflation"))
    assert (got["icl"][1], got["gap"][1], got["train"][1], got["xi"][1]) == (np.inf, 0, 0, 0)


REGIMES = [
    ((10, 0.5, 1, 0.01, 0), "pole"),
    ((10, 0.5, 1.15, 0.01, 0), "peak"),
    ((10, 0.5, 1.15, 0.01, 0.1), "memorising"),
    ((1e4, 0.31, 0.3, 0.01, 0), "pool peak"),
    ((100, 0.25, 20, 0.5, 0), "too long"),
    ((2, 0.25, 20, 0.5, 0), "memorising"),
    ((0.05, 2, 20, 0.01, 0), "nothing"),
    ((10, 1, 100, 0.5, 0), "between"),
    ((5500, 1.2, 4.9, 1.8, 5e-4), "between"),  # longer is worse, but not for want of tasks
    ((100, 10, 20, 0.01, 0), "learning"),
    ((5900, np.inf, 0.19, 0.003, 0), "learning"),  # 0.81 of predicting zero
    ((10, np.inf, 0.749, 0.01, 0), "learning"),
    ((10, np.inf, 0.751, 0.01, 0), "peak"),
    ((10, np.inf, 1.333, 0.01, 0), "peak"),
    ((10, np.inf, 1.334, 0.01, 0), "learning"),
]


@pytest.mark.parametrize(("ratios", "word"), REGIMES)
def test_regime(js, ratios, word):
    assert run(js, "phaseTheory.regime", [ratios]) == [word]


def test_every_regime_has_its_sentence(source):
    sentences = source[FIGURE.widget].split("const VERDICTS = {")[1].split("};")[0]
    named = re.findall(r'^ {4}"?([a-z ]+)"?:', sentences, flags=re.MULTILINE)
    assert set(named) == {word for _, word in REGIMES}


def test_pool_errors_peak_at_as_many_prompts_as_the_pool_can_use():
    """In long contexts, tau = kappa; this is what "pool peak" says."""
    tau = np.linspace(0.1, 0.7, 601)
    assert tau[learning_curve(1e6, 0.3, tau, 0.01).idg.argmax()] == pytest.approx(0.3, abs=2e-3)


def test_every_stop_of_a_slider_survives_in_the_address(js, source):
    """Also what a click on the map sets: numbers are rounded, and ends may be rounded up.

    The mark on the map stands where the click was.
    """
    steps, strip = (re.search(rf"const {n} = ([\d.]+);", source[FIGURE.widget])[1] for n in NAMED)
    part = source[FIGURE.widget].split("\n  const axis")[1].split("\n  const NAMES")[0]
    js.eval(source[KIT])
    js.eval("const { clamp, round, format, decades } = figureKit")
    js.eval(f"const STEPS = {steps}, STRIP = {strip}; const axis{part}")
    stops = "Array.from({ length: a.max + 1 }, (_, i) => i)"
    clicks = "Array.from({ length: 1001 }, (_, i) => round(a.raw(i / 1000)))"
    wrong = f"{stops}.filter((i) => !a.holds(a.at(i)) || a.index(a.at(i)) !== i).length"
    lost = f"{clicks}.filter((v) => !a.holds(v) || round(a.raw(a.unit(v))) !== v).length"
    found = js.eval(f"JSON.stringify(Object.values(AXES).map((a) => [a.max, {wrong}, {lost}]))")
    assert [row[1:] for row in json.loads(found)] == [[0, 0]] * len(NAMES)
    assert min(row[0] for row in json.loads(found)) > 100


def test_colours_are_those_of_cividis(source):
    stops = source[FIGURE.widget].split('"00224e')[1].split('"')[0].split()
    stops = ["00224e", *stops]
    map_ = colormaps["cividis"](np.linspace(0, 1, len(stops)))
    assert stops == [colors.to_hex(stop)[1:] for stop in map_]
