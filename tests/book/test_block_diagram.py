"""The interactive figure of the linear block: its JavaScript computes what the library computes."""

import json
import re

import numpy as np
import pytest
from py_mini_racer import mini_racer
from scipy.integrate import dblquad, quad

from iclkit.papers.linear_block import (
    RegressionPrior,
    bayes_equivalent,
    bayes_exact,
    bayes_risk,
    gd_zero,
    isotropic_prior,
    optimal_gd,
    whiten,
)
from iclkit.papers.linear_block.attention import attention_minima, optimal_attention
from iclkit.papers.linear_block.gap import gap_bounds
from tests.book.figures import BLOCK, built, numbers, style
from tests.instances import PRIORS
from tests.tolerances import IDENTITY, PRINTED, ROOT, SIGMAS

FIGURE, THEORY = BLOCK, BLOCK.theory
TWO_MINIMA = RegressionPrior(np.eye(2), [2, 0], np.diag([0.2, 1]), 1, 4)
# One wrong sign, factor, branch or argument each.
PLANTED = [
    ("(prior.context + 1) * value + kappa", "prior.context * value + kappa"),
    ("const level = nothing + prior.noise;", "const level = nothing;"),
    ("(c * twice) / (1 + once)", "(c * twice) / (1 - once)"),
    ("1 + 3 / context", "1 + 2 / context"),
    ("1 + grow * q", "1 + q"),
    ("vv - grow * shrink * vb", "vv + grow * shrink * vb"),
    ("(2 * u0 * wv + norm2 * q)", "(u0 * wv + norm2 * q)"),
    ("count * value * value) / spring", "value * value) / spring"),
    ("push(value) - grow * bn", "push(value) + grow * bn"),
    ("u0 * kappa - bn", "u0 * kappa + bn"),
    ("kappa * kappa + 2 * square", "kappa * kappa + square"),
    ("(2 * u0 * u0 * square) / context", "(u0 * u0 * square) / context"),
    ("norm2 / (context + 1)", "norm2 / context"),
    ("kappa / (context + 1)", "kappa / context"),
    ("upper: nothing - best", "upper: nothing"),
    ("(noise + k * sum) / context", "(noise + sum) / context"),
]
PLANTED_DENSITY = [
    ("0.5 * s(n - 1)", "0.50001 * s(n - 1)"),
    ("1 / mass - ", "-"),
    ("(n - k) % 2 && k < n - 2", "k < n - 2"),
    ("before - half", "before"),
    ("2 * k + 1 + a", "2 * k + a"),
    ("k * (k + a)", "k * (k - a)"),
]


# ------------------------------------------------------------------ excess risks


def levels_of(prior):
    """The prior as the script takes it: one level for each distinct task variance."""
    white = whiten(prior)
    levels = []
    for value in np.unique(white.values.round(12)):
        same = np.isclose(white.values, value, rtol=1e-9)
        mean = float(np.linalg.norm(white.mean[same]))
        levels.append({"value": float(value), "count": int(same.sum()), "mean": mean})
    return {"levels": levels, "noise": prior.noise_var, "context": prior.n_context}


def run(engine, function, priors):
    points = json.dumps([levels_of(prior) for prior in priors])
    return json.loads(engine.eval(f"JSON.stringify({points}.map({function}))"))


def expected(prior):
    """What the script should say of a prior, but for the Bayes risk."""
    best, attention, bounds = optimal_gd(prior).risk, optimal_attention(prior), gap_bounds(prior)
    return {
        "block": best - prior.noise_var,
        "attention": attention.risk - prior.noise_var,
        "zero": gd_zero(prior).risk - prior.noise_var,
        "gap": attention.gap,
        "lower": bounds.corrected,
        "printed": bounds.second_as_printed,
        "upper": bounds.upper_trivial,
        "equivalent": bayes_equivalent(prior) - prior.noise_var,
    }


def agrees(engine, priors):
    """Up to rounding: the library subtracts the noise from risks, the script a risk for the gap."""
    wide = "p => ({ ...blockTheory.errors(p), equivalent: blockTheory.equivalent(p) })"
    for prior, got in zip(priors, run(engine, wide, priors), strict=True):
        for name, want in expected(prior).items():
            rounding = ROOT * (prior.noise_var + got["nothing"])
            if not abs(got[name] - want) <= ROOT * abs(want) + 1e-4 * rounding:
                return False
    return True


def random_priors(rng, n=12):
    """Priors over all that the sliders reach: one task variance or two, any share of the mean."""
    priors = []
    for i in range(n):
        dim, n_context = int(rng.integers(1, 21)), int(10 ** rng.uniform(0, 3))
        variances = np.r_[1, np.full(dim - 1, 10 ** rng.uniform(-2, 0) if i % 2 else 1.0)]
        mean = rng.standard_normal(dim) * np.r_[i % 3 != 1, np.full(dim - 1, i % 3 != 2)]
        mean *= 10 ** rng.uniform(-1, 2) / max(np.linalg.norm(mean), 1e-9)
        noise = 10 ** rng.uniform(-3, 3) if i % 4 else 0.0
        priors.append(RegressionPrior(np.eye(dim), mean, np.diag(variances), noise, n_context))
    return priors


def test_excess_risks_equal_those_of_the_library(js, rng):
    assert agrees(js, random_priors(rng))


@pytest.mark.parametrize(("right", "wrong"), PLANTED)
def test_comparison_sees_a_planted_error(source, rng, right, wrong):
    assert source[THEORY].count(right) == 1
    with mini_racer() as engine:
        engine.eval(source[THEORY].replace(right, wrong))
        assert not agrees(engine, random_priors(rng, 6))


REFERENCE = {  # attention
    "FIG1": 4.556578645264,
    "TAB1": 114.1497348,
    "DIAG4": 3.270779307028,
    "GEN3": 2.584327550220,
    "RANKDEF": 1.219083369912,
}


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_values(js, name):
    """Also where the prior is not in white coordinates, singular, or has three variances."""
    prior = PRIORS[name]
    (got,) = run(js, "blockTheory.errors", [prior])
    risk = got["attention"] + prior.noise_var
    assert risk == pytest.approx(REFERENCE[name], rel=PRINTED)
    assert got["block"] + prior.noise_var == pytest.approx(optimal_gd(prior).risk, rel=IDENTITY)
    assert got["zero"] + prior.noise_var == pytest.approx(gd_zero(prior).risk, rel=IDENTITY)


GAPS = [
    ((5, 5, 0, 0.01), 0.364204),
    ((5, 5, 0, 500), 0.288812),
    ((2, 5, 5, 4), 0.255502),
    ((20, 4, 0, 1e4), 0.333586),
    ((10, 1000, 1, 10), 0.010113),
    ((1, 1, 10, 1), 0.561238),
    ((1, 1, 0, 1), 2 / 3),  # attained only in the limit u0 -> 0
]


@pytest.mark.parametrize(("setting", "ratio"), GAPS)
def test_reference_gaps(js, setting, ratio):
    dim, n_context, noise, norm2 = setting
    mean = np.sqrt(norm2 / dim)
    prior = isotropic_prior(dim, n_context=n_context, mean=mean, noise_var=noise)
    (got,) = run(js, "blockTheory.errors", [prior])
    assert got["gap"] / norm2 == pytest.approx(ratio, abs=5e-7)
    assert got["lower"] <= got["gap"] <= got["upper"]


def test_both_minima_are_found(js):
    (found,) = run(js, "blockTheory.minima", [TWO_MINIMA])
    want = [weights.risk - 1 for weights in attention_minima(TWO_MINIMA)]
    assert [point["value"] for point in found] == pytest.approx(want, rel=ROOT)
    assert [point["value"] for point in found] == pytest.approx([1.9777777778, 2.1279484698])
    assert [point["u0"] > 0.1 for point in found] == [False, True]
    assert run(js, "p => blockTheory.errors(p).fixed", [TWO_MINIMA, PRIORS["FIG1"]]) == [
        True,
        False,
    ]


def test_no_random_value_weights_do_better(js, rng):
    code = """p => {
      const f = blockTheory.profile(p), best = blockTheory.minima(p)[0].value;
      return [best, ...STARTS.map((a) => f(a.slice(0, p.levels.length + 1)))];
    }"""
    starts = rng.standard_normal((1000, 3)) * 10 ** rng.uniform(-2, 2, (1000, 3))
    priors = [*random_priors(rng, 6), TWO_MINIMA]
    for best, *others in run(js, code.replace("STARTS", json.dumps(starts.tolist())), priors):
        assert min(others) >= best * (1 - IDENTITY)


# ------------------------------------------------------------------ the Bayes risk


def moments(engine, n, a, powers):
    """Sums of powers of the eigenvalues of a Wishart matrix by the density of the script."""
    code = f"blockTheory.spectrum({n}, {a}).map(({{ x, weight }}) => [x, weight])"
    x, weight = np.array(json.loads(engine.eval(f"JSON.stringify({code})")), dtype=float).T
    return np.array([weight @ x ** float(power) for power in powers])


def wishart_moments(n, p):
    """Mean traces of powers 0, 1, 2, 3 of an n by n real Wishart matrix of p degrees."""
    cube = n * p * (p**2 + n**2 + 3 * n * p + 3 * p + 3 * n + 4)
    return np.array([n, n * p, n * p * (n + p + 1), cube])


SHAPES = [(1, 0), (1, 5), (2, 0), (2, 1), (3, 0), (3, 4), (4, 2), (5, 1), (6, 30), (19, 3), (20, 0)]


def density_agrees(engine):
    shapes = [*SHAPES, (20, 980)]
    got = [moments(engine, n, a, range(4)) for n, a in shapes]
    want = [wishart_moments(n, n + a) for n, a in shapes]
    return np.allclose(got, want, rtol=ROOT, atol=0)


def test_density_has_the_moments_of_a_wishart_matrix(js):
    assert density_agrees(js)
    for n, a in ((4, 5), (5, 8), (20, 40)):  # the mean inverse
        assert moments(js, n, a, [-1]) == pytest.approx(n / (a - 1), rel=ROOT)


@pytest.mark.parametrize(("right", "wrong"), PLANTED_DENSITY)
def test_moments_see_a_planted_error(source, right, wrong):
    assert source[THEORY].count(right) == 1
    with mini_racer() as engine:
        engine.eval(source[THEORY].replace(right, wrong))
        assert not density_agrees(engine)


def bayes(engine, dim, n_context, noise, value=1.0):
    level = f"{{ value: {value}, count: {dim} }}"
    return engine.eval(f"1 * blockTheory.bayes({level}, {noise!r}, {n_context})")


@pytest.mark.parametrize(("n_context", "noise"), [(1, 0.3), (2, 1e-3), (9, 10.0)])
def test_bayes_in_one_dimension(js, n_context, noise):
    """The square of a label's signal is chi-squared."""

    def density(y, power=0.0):
        return y ** (n_context - 1) * np.exp(-(y**2) / 2) * (noise / (y**2 + noise)) ** power

    top, below = (
        quad(density, 0, 40, args=(power,), points=[0.03, 0.3, 3], limit=200, epsabs=0)[0]
        for power in (1.0, 0.0)
    )
    assert bayes(js, 1, n_context, noise) == pytest.approx(top / below, rel=ROOT)


@pytest.mark.parametrize(("n_context", "noise"), [(2, 0.5), (7, 2.0)])
def test_bayes_in_two_dimensions(js, n_context, noise):
    """The law of both eigenvalues, u^2 > v^2, integrated by brute force."""

    def density(v, u):
        return (u * u - v * v) * (u * v) ** (n_context - 2) * np.exp(-(u * u + v * v) / 2)

    def both(v, u):
        return density(v, u) * (noise / (u * u + noise) + noise / (v * v + noise))

    top, below = (
        dblquad(f, 0, 20, 0, lambda u: u, epsabs=1e-12, epsrel=1e-11)[0] for f in (both, density)
    )
    assert bayes(js, 2, n_context, noise) == pytest.approx(top / below, rel=1e-9)


@pytest.mark.parametrize("setting", [(3, 2, 0.5), (4, 5, 0.01), (7, 7, 1.0), (10, 40, 10.0)])
def test_bayes_against_sampled_contexts(js, rng, setting):
    dim, n_context, noise = setting
    prior = isotropic_prior(dim, n_context=n_context, noise_var=noise, task_var=2.0)
    sampled = bayes_risk(prior, n_draws=20_000, rng=rng)
    exact = bayes(js, dim, n_context, noise, value=2.0) + noise
    assert abs(exact - sampled.value) <= SIGMAS * sampled.stderr


def test_bayes_is_that_of_the_library(js, rng):
    for _ in range(60):
        dim, n_context = int(rng.integers(1, 21)), int(10 ** rng.uniform(0, 3))
        noise = float(10 ** rng.uniform(-3, 3))
        prior = isotropic_prior(dim, n_context=n_context, noise_var=noise)
        expected = bayes_exact(prior) - noise
        assert bayes(js, dim, n_context, noise) == pytest.approx(expected, rel=1e-9)


def test_bayes_without_noise(js):
    assert bayes(js, 5, 2, 0, value=3.0) == 9.0
    assert bayes(js, 5, 5, 0) == 0.0


def test_bayes_is_continuous_at_small_and_large_noise(js):
    assert bayes(js, 6, 4, 1e-9) == pytest.approx(2, rel=1e-6)
    assert bayes(js, 6, 4, 1e9) == pytest.approx(6, rel=1e-6)


def test_approximate_bayes_is_labelled_and_errs_as_the_page_says(js):
    """For two task variances and noise; the page gives the error for equal ones."""
    two = {"levels": [{"value": 1, "count": 1, "mean": 1}, {"value": 0.5, "count": 2, "mean": 1}]}
    for noise, context, exact in ((1, 5, False), (0, 5, True), (0, 2, False)):
        prior = json.dumps({**two, "noise": noise, "context": context})
        assert js.eval(f"blockTheory.errors({prior}).exact") is exact
    ratio = """(d, s, M) => blockTheory.equivalent({ levels: [{ value: 1, count: d, mean: 0 }],
      noise: s, context: M }) / blockTheory.bayes({ value: 1, count: d }, s, M)"""
    dims, lengths = [2, 3, 5, 10, 20], [1, 2, 3, 4, 5, 7, 10, 20, 50, 300]
    at = f"(s) => {dims}.flatMap((d) => {lengths}.map((M) => ({ratio})(d, s, M)))"
    found = {s: json.loads(js.eval(f"JSON.stringify(({at})({s}))")) for s in (0.001, 1, 10)}
    low, high = {s: min(ratios) for s, ratios in found.items()}, max(found[1])
    assert 0.30 <= low[0.001] < 0.32
    assert 0.88 <= low[1] < 0.90
    assert low[10] > low[1]
    assert high < 1


# ------------------------------------------------------------------ the widget


def test_numbers_follow_presets_sliders_and_exact_entry(page):
    page.eval('page.press("Figure 1")')
    found = numbers(page)
    risks = [found[name] for name in ("block", "attention", "one step from zero, GD-0", "gap")]
    assert risks == [2.727, 4.557, 4.837, 1.829]
    assert (found["Bayes"], found["predicting zero"]) == (0, 10)
    page.eval('page.press("Two minima")')
    assert numbers(page)["attention"] == 1.978
    assert "recites" in page.eval('page.find(".pd-verdict").innerHTML')
    assert "Bayes, approximate, too low" in numbers(page)
    page.eval('page.press("Loud noise")')
    assert "trivial bound" in page.eval('page.find(".pd-verdict").innerHTML')
    page.eval('page.press("No mean")')
    assert numbers(page)["gap"] == 0
    page.eval('page.press("Figure 1"); page.slide("dim", 0)')
    assert numbers(page)["predicting zero"] == 6
    assert page.eval('page.type("context", "1")') == ""
    assert numbers(page)["trivial upper bound"] == pytest.approx(6 - 2 / 3, abs=1e-3)


def test_a_click_on_a_plot_sets_the_context(page):
    page.eval('page.click(".bd-risk", 48)')
    assert page.eval("location.hash").startswith("#block:context=1&")
    page.eval('page.click(".bd-gap", 340)')
    assert page.eval("location.hash").startswith("#block:context=1000&")


def test_screen_readers_hear_the_numbers(page):
    assert 'role="status" aria-live="polite"' in built(page)
    page.eval('page.press("Figure 1")')
    said = page.eval('page.find(".pd-live").textContent')
    assert "block: 2.727, attention: 4.557" in said
    assert "40 %" in said
    assert page.eval('page.find("#pd-norm2").attributes["aria-valuetext"]') == "5"
    table = page.eval('page.find(".pd-table").innerHTML')
    assert '<th scope="row">risk of attention, noise included<td>4.556578645' in table
    for name in ("risk", "gap"):
        assert f'<svg class="pd-curves bd-{name}" role="img">' in built(page)
        label = page.eval(f'page.find(".bd-{name}").attributes["aria-label"]')
        assert label.endswith("values are in the text below.")


def test_curves_are_told_apart_by_dashes_and_labels(page, root):
    plot = page.eval('page.find(".bd-risk").innerHTML')
    for label in ("Bayes", "block", "attention", "GD-0"):
        assert f">{label}</text>" in plot
    dashes = re.findall(
        r"\.block-diagram path:is\(\.(\w+), \.(\w+)\) \{ stroke-dasharray: ", style(root)
    )
    assert sorted(sum(dashes, ())) == ["attention", "bayes", "lower", "printed", "upper", "zero"]
    assert "NaN" not in plot + page.eval('page.find(".bd-gap").innerHTML')
