"""The start page: its four figures show what the library computes, and say it to everyone."""

import re
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from py_mini_racer import mini_racer

from iclkit.papers import data_mixing as dm
from iclkit.papers import dual_kernel as dk
from iclkit.papers import linear_block as lb
from iclkit.papers import phase_transition as pt
from tests.book.figures import FIGURES, STATIC, built, number, run, style
from tools import home_figures

NAMES = home_figures.NAMES
SCRIPT = "home.js"
MAX_BYTES = 62_000  # of all scripts of the page
SHOWN = 6e-4  # the page shows four digits
DRAWN = 1.5e-3  # of the height of a plot; lines are drawn to a tenth of a pixel
LEFT, TOP, RIGHT, BOTTOM = 48, 8, 324, 262  # of a plot on the page that stands in for a browser
WORDS = 60  # that a result may take
INFINITE = "\u221e"


class Home(NamedTuple):
    """The page without a browser, with one of its figures on it."""

    engine: object
    name: str

    def sliders(self):
        found = re.findall(r'max="(\d+)"\ndata-slider="(\w+)"', built(self.engine))
        return {slider: int(last) for last, slider in found}

    def slide(self, **steps):
        """Move sliders; return the values that they show."""
        for slider, step in steps.items():
            self.engine.eval(f'page.slide("{slider}", {step})')
        return self.state()

    def state(self):
        boxes = [f'page.find("#home-{self.name}-{slider}")' for slider in self.sliders()]
        texts = [self.engine.eval(f'{box}.attributes["aria-valuetext"]') for box in boxes]
        values = [np.inf if text == INFINITE else number(text) for text in texts]
        return dict(zip(self.sliders(), values, strict=True))

    def inside(self, selector, part="innerHTML"):
        return self.engine.eval(f"page.find({selector!r}).{part}")

    def rows(self):
        found = re.findall(r'<th scope="row">(.*?)<td>([^<]*)', self.inside(".home-rows"))
        return {row: np.inf if text == "diverges" else number(text) for row, text in found}

    def curve(self, kind):
        """Positions of a curve on its axes, from 0 to 1."""
        path = re.search(rf'<path class="{kind}" d="M([^"]*)"', self.inside(".home-plot"))[1]
        x, y = np.array([part.split() for part in path.split("L")], dtype=float).T
        return (x - LEFT) / (RIGHT - LEFT), (BOTTOM - y) / (BOTTOM - TOP)


def opened(engine, root, name, scripts=home_figures.SCRIPTS):
    engine.eval((root / "tests/book/page.js").read_text("utf-8"))
    engine.eval(f'page.widget = ".home-{name}"; page.draws = true')
    engine.eval('root.innerHTML = "a picture"')
    for script in scripts:
        engine.eval((root / STATIC / script).read_text("ascii"))
    return Home(engine, name)


@pytest.fixture(params=NAMES)
def home(request, root):
    with mini_racer() as engine:
        page = opened(engine, root, request.param)
        assert engine.eval("page.said.join()") == ""
        yield page


def only(name):
    return pytest.mark.parametrize("home", [name], indirect=True)


def corners(home):
    """Every end of every slider, and where they start."""
    yield home.state()
    for steps in product(*((0, last) for last in home.sliders().values())):
        yield home.slide(**dict(zip(home.sliders(), steps, strict=True)))


def check_rows(home, expected):
    got = home.rows()
    assert list(got) == list(expected)
    for row, value in expected.items():
        # a difference of numbers may be zero up to rounding
        assert got[row] == pytest.approx(value, rel=SHOWN, abs=1e-13), row


# ------------------------------------------------------------------ what the figures show


def on_circle(angles, temperature):
    angles = np.deg2rad(angles)
    return 2 / np.sqrt(temperature) * np.array([np.cos(angles), np.sin(angles)])


def attended(angle, temperature):
    homes = np.array([90, -90, 30, -150, 150, -30])
    labels = np.sin(np.deg2rad(homes))
    keys = on_circle(homes, temperature)
    return dk.attend(dk.Lookup(on_circle(angle, temperature), keys, labels[None], 6)), labels


@only("dual")
def test_dual(home):
    for state in corners(home):
        seen = int(state["seen"])
        here, labels = attended(-60, state["temperature"])
        model, answer = here.weights[:seen] @ labels[:seen], here.output[0]
        rows = [model, answer, abs(answer - model), here.weights.max()]
        names = ["kernel model at \u221260\u00b0", "attention at \u221260\u00b0"]
        check_rows(home, dict(zip([*names, "distance", "largest weight"], rows, strict=True)))
        x, up = home.curve("two")
        for i in (0, 20, 51):
            wanted = attended(-180 + 360 * x[i], state["temperature"])[0].output[0]
            assert (wanted + 1.25) / 2.5 == pytest.approx(up[i], abs=2 * DRAWN)


@only("dual")
def test_dual_ends_at_attention_exactly(home):
    home.slide(seen=6)
    assert home.rows()["distance"] < 1e-15
    assert "exactly" in home.inside(".home-says")
    assert np.allclose(home.curve("one"), home.curve("two"), atol=DRAWN)


def block_prior(norm2, context):
    return lb.isotropic_prior(5, mean=np.sqrt(norm2 / 5), noise_var=1, n_context=context)


@only("block")
def test_block(home):
    for state in corners(home):
        prior = block_prior(state["norm2"], int(state["context"]))
        block, attention = lb.optimal_gd(prior).risk - 1, lb.optimal_attention(prior)
        bayes, bound = lb.bayes_exact(prior) - 1, state["norm2"] / (state["context"] + 1)
        rows = [block, attention.risk - 1, bayes, attention.gap, bound]
        names = ["attention with MLP", "attention alone", "Bayes", "gap", "proved lower bound"]
        check_rows(home, dict(zip(names, rows, strict=True)))
        x, up = home.curve("two")
        prior = block_prior(state["norm2"], round(10 ** (3 * x[6])))
        wanted = (np.log10(lb.optimal_attention(prior).risk - 1) + 2) / 4
        assert wanted == pytest.approx(up[6], abs=DRAWN)


def mixed(state, share):
    pair = [dm.Source(40), dm.Source(40, noise=state["noise1"], theta_xi=1600)]
    at = {"n_context": 80, "n_prompts": int(state["prompts"]), "ridge": 0.02, "resolved": True}
    return dm.linear_equivalent(pair, [1 - share, share], **at)


@only("mixing")
def test_mixing(home):
    for state in corners(home):
        best = home.rows()["best share"]
        least = mixed(state, best).error
        alone = [mixed(state, share).error for share in (0, 1)]
        names = ["error there", "plain source alone", "structured source alone"]
        check_rows(home, {"best share": best} | dict(zip(names, [least, *alone], strict=True)))
        around = [mixed(state, min(max(best + step, 0), 1)).error for step in (-0.02, 0.02)]
        assert least <= min(around) * (1 + 1e-12)
        x, up = home.curve("two")
        plain = np.array([mixed(state, share).source_errors[0] for share in x[::10]])
        slope, start = np.polyfit(plain, up[::10], 1)
        assert slope > 0
        assert slope * plain + start == pytest.approx(up[::10], abs=DRAWN)


@only("phase")
def test_phase(home):
    for state in corners(home):
        ratios = {"alpha": 10, "kappa": state["kappa"], "rho": 0.01, "penalty": state["penalty"]}
        end = pt.learning_curve(tau=10, **ratios)
        peak = pt.learning_curve(tau=1, **ratios).icl if state["penalty"] else np.inf
        names = ["new tasks, \u03c4 = 1", "new tasks, \u03c4 = 10", "known tasks, \u03c4 = 10"]
        check_rows(home, dict(zip(names, [peak, end.icl, end.idg], strict=True)))
        x, up = home.curve("two")
        wanted = (np.log10(pt.learning_curve(tau=10 ** (2 * x[:40] - 1), **ratios).idg) + 2) / 3
        assert wanted == pytest.approx(up[:40], abs=2 * DRAWN)


@only("phase")
def test_phase_names_what_the_model_does(home):
    last, most = home.sliders().values()
    for kappa, penalty in product(range(last + 1), range(most + 1)):
        home.slide(kappa=kappa, penalty=penalty)
        assert re.search(r": [a-z ,]*(memorised|learned)[a-z ,]*\.$", home.inside(".home-says"))
    home.slide(penalty=0)
    for step, words in ((0, "memorised, and a longer"), (last, "learned in context.")):
        home.slide(kappa=step)
        assert words in home.inside(".home-says")


# ------------------------------------------------------------------ for everyone


def test_every_stop_is_reached_and_said(home):
    for slider, last in home.sliders().items():
        box = f"#home-{home.name}-{slider}"
        seen = set()
        for step in range(last + 1):
            home.slide(**{slider: step})
            assert int(home.inside(box, "value")) == step
            seen.add(home.state()[slider])
            said = home.inside(".pd-live", "textContent")
            assert re.match(r"[A-Z0-9].*\.", said)
            drawn = home.inside(".home-plot") + said + home.inside(".home-rows")
            assert not re.search(r"NaN|Infinity|undefined|null", drawn)
        assert len(seen) == last + 1 >= 7


def test_every_control_has_a_name_of_its_own(root):
    names = []
    for name in NAMES:
        with mini_racer() as engine:
            page = opened(engine, root, name)
            text = built(engine)
            own = re.findall(r'<input id="([\w-]+)"', text)
            assert len(own) == len(page.sliders()) == 2
            assert all(f'<label for="{one}">' in text for one in own)
            assert "in the text below" in page.inside(".home-plot", 'attributes["aria-label"]')
            names += own
    assert len(set(names)) == len(names) == 8


def test_the_whole_figure_takes_the_state_over(home, root):
    figure = next(other for other in FIGURES if other.name == home.name)
    home.slide(**dict.fromkeys(home.sliders(), 1))
    assert f'class="home-whole" href="../notebooks/{figure.page}.html"' in built(home.engine)
    assert (root / "notebooks" / f"{figure.page}.ipynb").exists()
    home.engine.eval("globalThis.setTimeout = (f) => { page.after = f; }")
    home.engine.eval("const link = { href: 'here', matches: (s) => s === '.home-whole' }")
    home.engine.eval("root.listeners.click({ target: link })")
    fragment = home.engine.eval("link.href").removeprefix("here#")
    home.engine.eval("page.after()")
    assert home.engine.eval("link.href") == "here"
    with mini_racer() as engine:
        figure.start(engine, figure.read(root), f"#{fragment}")
        taken = figure.choose_again(engine)
    assert fragment.startswith(f"{figure.prefix}:")
    assert set(fragment.partition(":")[2].split("&")) <= set(taken.partition(":")[2].split("&"))


def test_the_picture_stays_when_the_figure_fails(root):
    for name in NAMES:
        with mini_racer() as engine:
            opened(engine, root, name, scripts=("figure_kit.js", SCRIPT))
            assert built(engine) == "a picture"
            assert "not defined" in engine.eval("page.said.join()")


# ------------------------------------------------------------------ scripts, pictures, page


def test_scripts_are_small_alone_and_need_no_network(root):
    texts = {name: (root / STATIC / name).read_text("ascii") for name in home_figures.SCRIPTS}
    assert sum(map(len, texts.values())) < MAX_BYTES
    assert not re.search(
        r"https?:|\bimport\b|\bfetch\b|\beval\b|\bexport\b|setInterval|animate", texts[SCRIPT]
    )
    with mini_racer() as engine:
        engine.eval("const document = { querySelector: () => null }; globalThis.setTimeout = 0")
        for name in home_figures.SCRIPTS[:-1]:
            engine.eval(texts[name])
        before = run(engine, "Object.keys(globalThis)")
        engine.eval(texts[SCRIPT])
        assert run(engine, "Object.keys(globalThis)") == before


def test_still_pictures_are_current():
    for name in NAMES:
        stored = home_figures.picture_of(name).read_text(encoding="ascii")
        assert stored == home_figures.drawing(name)


@pytest.fixture
def start_page(root):
    return (root / "book" / "index.md").read_text(encoding="utf-8")


def test_only_the_start_page_has_the_figures(start_page, root):
    places = [start_page.index(f'<script src="../_static/{s}">') for s in home_figures.SCRIPTS]
    assert places == sorted(places)
    others = [*(root / "book").glob("*.md"), *(root / "notebooks").glob("*.ipynb")]
    assert [p.name for p in others if SCRIPT in p.read_text("utf-8")] == ["index.md"]
    for name in NAMES:
        assert start_page.count(f"{{container}} home-figure home-{name}\n") == 1
        assert start_page.count(f"_static/home_{name}.svg\n:alt: ") == 1


def test_each_result_is_short_and_has_both_sides(start_page):
    found = re.findall(r"^:+\{container\} home-words\n(.*?)<!-- score", start_page, re.S | re.M)
    assert len(found) == len(NAMES)
    for text in found:
        assert len(text.split()) <= WORDS
        assert re.match(r"\*\{cite:t\}`\w+` found:\*", text)
        assert "*On checking:*" in text


def test_a_picture_looks_like_the_live_figure(root):
    for rule in ("path.two", "path.three", "circle.seen"):
        assert f".home-figure {rule} {{" in style(root)
        assert f"{rule}{{" in home_figures.LOOK
