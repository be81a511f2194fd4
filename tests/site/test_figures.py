"""The interactive figures in a browser: hand, keyboard and address move them; numbers are right."""

import numpy as np
import pytest

from iclkit.papers.linear_block import RegressionPrior, optimal_gd
from iclkit.papers.linear_block.attention import optimal_attention
from iclkit.papers.phase_transition import learning_curve
from tests.book import test_dual_diagram as dual
from tests.book import test_mixing_diagram as mixing
from tests.book.figures import BLOCK, DUAL, FIGURES, MIXING, PHASE, number
from tests.site import checks
from tests.site.watching import from_both

PHONE = {"viewport": checks.NARROW, "has_touch": True, "is_mobile": True}
PAUSE = 600  # milliseconds; the address follows when the reader pauses
SHOWN = 6e-4  # relative: four digits are shown, half a unit in the last is 5e-4 of the smallest
PLOTS = {"phase": ".pd-curves", "block": ".bd-risk", "dual": ".dd-model", "mixing": ".md-errors"}
N_SETTINGS = 4
NAMED = """(all) => all.map((one) => {
  const written = one.querySelector("b").textContent;
  return [one.textContent.slice(0, -written.length).trim(), written];
})"""


@pytest.fixture(params=FIGURES, ids=lambda figure: figure.name)
def figure(request):
    return request.param


def root(page, figure):
    return page.locator(f".{figure.name}-diagram")


def go(page, site_url, figure, setting=None):
    """Open the page of a figure at a setting; return the figure."""
    state = "&".join(f"{name}={value}" for name, value in (setting or {}).items())
    address = f"#{figure.prefix}:{state}" if state else ""
    page.goto(f"{site_url}notebooks/{figure.page}.html{address}")
    found = root(page, figure)
    found.scroll_into_view_if_needed()
    found.locator(".pd-numbers b").first.wait_for()
    return found


def texts(found):
    """The numbers under the plots as they are written, by name."""
    return dict(found.locator(".pd-numbers span").evaluate_all(NAMED))


def everything(found):
    """What a figure says and draws."""
    said = [found.locator(part).inner_text() for part in (".pd-verdict", ".pd-numbers")]
    return "\n".join(said), found.locator(".pd-curves").first.inner_html()


@from_both
def test_sliders_move_by_keyboard(page, site_url, figure):
    found = go(page, site_url, figure)
    before = everything(found)
    slider = found.locator("input[type=range]").first
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(PAUSE)
    assert everything(found) != before
    assert page.url.partition("#")[2].startswith(figure.prefix + ":")
    page.keyboard.press("Home")
    assert slider.input_value() == "0"


def test_presets_and_reset(page, site_url, figure):
    found = go(page, site_url, figure)
    buttons = found.locator(".pd-presets button")
    states = []
    for i in range(buttons.count()):
        buttons.nth(i).focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        states.append(everything(found)[0])
    assert len(set(states)) == len(states) > 2


def test_a_finger_moves_the_point(open_page, site_url, figure):
    page = open_page(**PHONE)
    found = go(page, site_url, figure)
    plot = found.locator(PLOTS[figure.name] if figure is not PHASE else ".pd-map svg")
    before = everything(found)[0]
    box = plot.bounding_box()
    plot.tap(position={"x": 0.7 * box["width"], "y": 0.3 * box["height"]})
    page.wait_for_timeout(PAUSE)
    assert everything(found)[0] != before


def test_an_address_leads_to_its_state(open_page, site_url, figure):
    """What one reader shares, another one sees."""
    page = open_page()
    found = go(page, site_url, figure)
    found.locator(".pd-presets button").nth(1).click()
    page.wait_for_timeout(PAUSE)
    shared, seen = page.url, everything(found)[0]
    other = open_page()
    other.goto(shared)
    there = root(other, figure)
    there.locator(".pd-numbers b").first.wait_for()
    assert everything(there)[0] == seen


def test_a_figure_comes_to_life_without_a_reader_who_is_near(page, site_url, figure):
    page.goto(f"{site_url}notebooks/{figure.page}.html")
    found = root(page, figure)
    assert found.locator("input, select, button").count() == 0, "controls delay the page"
    found.locator(".pd-numbers b").first.wait_for(timeout=10_000)


def test_exact_entry(page, site_url, figure):
    found = go(page, site_url, figure)
    found.locator("summary").last.click()
    box = found.locator("[data-exact]").first
    before = box.input_value()
    box.fill("-5e9")
    box.press("Enter")
    assert box.evaluate("(e) => e.validationMessage") != ""
    assert box.evaluate("(e) => e.checkValidity()") is False
    box.fill(before)
    box.press("Enter")
    assert box.evaluate("(e) => e.checkValidity()")


def test_nothing_moves_for_readers_who_ask_for_that(open_page, site_url, figure):
    page = open_page(reduced_motion="reduce")
    found = go(page, site_url, figure)
    found.locator(".pd-presets button").nth(1).click()
    page.wait_for_timeout(100)
    assert page.evaluate("document.getAnimations().length") == 0
    assert found.locator(".pd-numbers b").count() > 0


def test_without_javascript_a_text_stands_there(open_page, site_url, figure):
    page = open_page(java_script_enabled=False)
    page.goto(site_url + f"notebooks/{figure.page}.html")
    assert len(root(page, figure).text_content().strip()) > 40


# ------------------------------------------------------------------ the numbers are the library's


def powers(rng, low, high):
    """A number between two powers of ten, with three digits, as the sliders have it."""
    return float(f"{10 ** rng.uniform(low, high):.3g}")


def phase_case(rng):
    setting = {"alpha": powers(rng, -2, 4), "kappa": powers(rng, -1.3, 1.69)}
    setting |= {"tau": powers(rng, -1.3, 2), "rho": powers(rng, -3, 0.3)}
    setting["penalty"] = powers(rng, -6, 1)
    curve = learning_curve(*setting.values())
    return setting, {
        "task gap": curve.icl - curve.idg,
        "error on new tasks": curve.icl,
        "error on pool tasks": curve.idg,
        "training error": curve.train,
    }


def block_case(rng):
    setting = {"dim": int(rng.integers(1, 21)), "norm2": powers(rng, -1, 4)}
    setting |= {"noise": powers(rng, -2, 3), "context": int(rng.integers(1, 1001))}
    mean = np.zeros(setting["dim"])
    mean[0] = setting["norm2"] ** 0.5
    unit = np.eye(setting["dim"])
    prior = RegressionPrior(unit, mean, unit, setting["noise"], setting["context"])
    attention = optimal_attention(prior)
    return setting, {
        "block": optimal_gd(prior).risk - prior.noise_var,
        "attention": attention.risk - prior.noise_var,
        "gap": attention.gap,
    }


def dual_case(rng):
    setting = dual.DEFAULT | {
        "demos": int(rng.integers(2, 13)),
        "sees": str(rng.choice(["all", "demos"])),
    }
    setting |= {"query": int(rng.integers(-180, 181)), "temperature": powers(rng, -1, 1)}
    exact = dual.wanted(dual.described(setting))
    return setting, {
        "output, after the step": exact["output"],
        "zero-shot part, before it": exact["zero"],
        "weight of the demonstrations \u03bb": exact["share"],
    }


def mixing_case(rng):
    [setting] = mixing.random_settings(rng, 1)
    share = round(float(rng.uniform()), 2)
    want = mixing.expected(setting, share)
    return setting | {"share": share}, {
        "error, both sources": want.error,
        "error, source 0": want.source_errors[0],
        "error, source 1": want.source_errors[1],
    }


CASES = {PHASE: phase_case, BLOCK: block_case, DUAL: dual_case, MIXING: mixing_case}


@pytest.mark.parametrize("case", range(N_SETTINGS))
def test_numbers_are_those_of_the_library(page, site_url, rng, figure, case):
    setting, wanted = CASES[figure](rng)
    shown = texts(go(page, site_url, figure, setting))
    for name, value in wanted.items():
        assert number(shown[name]) == pytest.approx(value, rel=SHOWN, abs=1e-9), (name, setting)
