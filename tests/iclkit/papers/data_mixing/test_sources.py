import numpy as np
import pytest
from scipy import stats

from iclkit.papers.data_mixing import (
    Contexts,
    Source,
    draw_mixture,
    draw_pools,
    join,
    mixture_weights,
    summarise,
)
from iclkit.rng import stream
from tests.oracles import prompts_in_full
from tests.tolerances import IDENTITY, KS_P

DRAWS = 20_000
SOURCES = {
    "isotropic": Source(4),
    "task spike": Source(4, theta_xi=9.0, gamma_xi=[0, 1, 1, 0], link="tanh", noise=0.5),
    "input spike": Source(4, theta_x=5.0, gamma_x=[1, 0, 0, 2], noise=0.0),
    "means": Source(4, mu_x=[1, 0, 0, 0], mu_xi=[0, 2, 0, 0], theta_x=2.0, link="linear"),
}


def views(prompts):
    """Projections in which a wrong sampler would show."""
    x, b, y = prompts.x, prompts.b, prompts.y
    return {
        "y": y,
        "last": b[:, -1],
        "first": b[:, 0],
        "second": b[:, 1],
        "length": (b[:, :-1] ** 2).sum(axis=1),
        "match": y * np.einsum("nd,nd->n", x, b[:, :-1]),
        "mixed": b[:, 0] * b[:, 3] + b[:, -1],
        "spike": b[:, 1] * b[:, 2],
        "query": x[:, 0] * x[:, 3],
        "share": (b[:, :-1] ** 2).sum(axis=1) / (1e-9 + b[:, -1]),
    }


def smallest_p(one, other):
    return min(stats.ks_2samp(one[key], other[key]).pvalue for key in one)


@pytest.mark.parametrize("n_context", [1, 3, 12])
@pytest.mark.parametrize("name", SOURCES)
def test_sampler_has_the_law_of_prompts_drawn_in_full(name, n_context, rng):
    source = SOURCES[name]
    fast = source.sample(DRAWS, n_context, rng=rng)
    slow = summarise(*prompts_in_full(source, DRAWS, n_context, rng=rng))
    assert smallest_p(views(fast), views(slow)) > KS_P


@pytest.mark.parametrize(
    "wrong",
    [
        Source(4, theta_xi=5.0, gamma_xi=[0, 1, 1, 0], link="tanh", noise=0.5),
        Source(4, theta_xi=9.0, gamma_xi=[0, 1, 1, 0], link="tanh", noise=0.55),
        Source(4, theta_xi=9.0, gamma_xi=[0, 1, 1, 0], link="linear", noise=0.5),
        Source(4, theta_xi=9.0, theta_x=0.5, gamma_xi=[0, 1, 1, 0], link="tanh", noise=0.5),
    ],
)
def test_the_comparison_sees_a_wrong_law(wrong, rng):
    fast = wrong.sample(DRAWS, 3, rng=rng)
    slow = summarise(*prompts_in_full(SOURCES["task spike"], DRAWS, 3, rng=rng))
    assert smallest_p(views(fast), views(slow)) < KS_P


def test_summary_is_the_definition(rng):
    x, y = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5))
    prompts = summarise(x, y, x[:, 0], y[:, 0], source=1)
    for row in range(2):
        first = sum(y[row, i] * x[row, i] for i in range(5)) / 5
        np.testing.assert_allclose(prompts.b[row, :3], first, rtol=IDENTITY)
        assert prompts.b[row, 3] == pytest.approx((y[row] ** 2).mean(), rel=IDENTITY)
    assert prompts.source.tolist() == [1, 1]


def test_labels_shrink_under_an_input_spike(rng):
    spiked = Source(20, theta_x=400.0, noise=0.0).sample(4000, 2, rng=rng)
    assert spiked.y.var() < 0.2 * Source(20, noise=0.0).sample(4000, 2, rng=rng).y.var()


def test_mixtures_share_their_random_numbers(rng):
    pools = draw_pools([Source(3), Source(3, theta_xi=9.0)], 400, 4, rng=rng)
    one, other = pools.mix([0.5, 0.5]), pools.mix([0.4, 0.6])
    changed = one.source != other.source
    assert changed.mean() == pytest.approx(0.1, abs=0.07)
    assert (other.source[changed] == 1).all()
    np.testing.assert_array_equal(one.b[~changed], other.b[~changed])


@pytest.mark.parametrize(("weights", "source"), [([1, 0], 0), ([0, 1], 1)])
def test_pure_mixtures_are_their_source(weights, source, rng):
    sources = [Source(3), Source(3, theta_xi=9.0)]
    pools = draw_pools(sources, 50, 4, rng=rng)
    np.testing.assert_array_equal(pools.mix(weights).x, pools.pools[source].x)
    assert set(draw_mixture(sources, weights, 50, 4, rng=rng).source) == {source}


def test_drawn_mixture_has_its_shares(rng):
    sources = [Source(2), Source(2, noise=3.0), Source(2)]
    prompts = draw_mixture(sources, [0.2, 0.5, 0.3], 6000, 3, rng=rng)
    found = np.bincount(prompts.source, minlength=3) / 6000
    np.testing.assert_allclose(found, [0.2, 0.5, 0.3], atol=0.03)
    by_noise = [prompts.y[prompts.source == s].var() for s in range(3)]
    assert by_noise[1] > 5 * max(by_noise[0], by_noise[2])


def test_one_seed_gives_one_draw():
    one, other = (Source(3).sample(5, 4, rng=stream(0, "same")) for _ in range(2))
    np.testing.assert_array_equal(one.b, other.b)


def test_join_and_take(rng):
    one = Source(3).sample(4, 2, rng=rng, marked=7)
    both = join([one, one])
    assert len(both) == 8
    np.testing.assert_array_equal(both.take(both.source == 7).x[4:], one.x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Source(0), ValueError, "d must be >= 1"),
        (lambda: Source(3, noise=-1), ValueError, "noise must be finite and >= 0"),
        (lambda: Source(3, theta_xi=np.nan), ValueError, "theta_xi must be finite"),
        (lambda: Source(3, theta_x=-0.5), ValueError, "theta_x must be finite and >= 0"),
        (lambda: Source(3, gamma_xi=[1, 0]), ValueError, "gamma_xi must have the source's dim"),
        (lambda: Source(3, gamma_x=[0, 0, 0]), ValueError, "gamma_x must not be zero"),
        (lambda: Source(3, mu_x="a"), TypeError, "mu_x must hold real numbers"),
        (lambda: Source(3, link="cube"), ValueError, "link must be one of"),
        (lambda: join([]), ValueError, "parts must share one dimension, got no part"),
        (lambda: mixture_weights([0.5, 0.6], 2), ValueError, "sum to 1"),
        (lambda: mixture_weights([1.5, -0.5], 2), ValueError, "weights must be >= 0"),
        (lambda: mixture_weights([1.0], 2), ValueError, "one entry per source, 2, got 1"),
        (
            lambda: draw_pools([Source(2), Source(3)], 2, 2, rng=stream(0, "x")),
            ValueError,
            "share one dimension d",
        ),
        (lambda: draw_pools([3], 2, 2, rng=stream(0, "x")), TypeError, "make one with Source"),
        (lambda: Source(2).sample(2, 0, rng=stream(0, "x")), ValueError, "n_context must be >= 1"),
        (lambda: Source(2).sample(2, 2, rng=0), TypeError, "rng must be"),
        (
            lambda: summarise(np.ones((2, 3, 4)), np.ones((2, 3)), np.ones((2, 5)), np.ones(2)),
            ValueError,
            "x must be",
        ),
        (lambda: Source(10**9), ValueError, "d must be at most 10000000"),
        (lambda: Source(3, noise=1e200), ValueError, "noise must be at most 1e.15, got 1e.200"),
        (lambda: Source(3, mu_xi=[1e99, 0, 0]), ValueError, "largest entry of mu_xi"),
        (lambda: Source(3, link=lambda _: None), TypeError, "values of link must hold real"),
        (lambda: Source(3, link=lambda z: z[:2]), ValueError, "link must keep the shape"),
        (lambda: Source(3, link=lambda z: z * np.nan), ValueError, "values of link must be finite"),
        (lambda: draw_pools(None, 2, 2, rng=stream(0, "x")), TypeError, "sources must be a seq"),
        (lambda: mixture_weights([1e308, 1e308], 2), ValueError, "sum to 1"),
        (lambda: join(None), TypeError, "parts must be a Contexts, got NoneType"),
        (lambda: Source(2).sample(2, 2, rng=stream(0, "x"), marked=-1), ValueError, "marked must"),
        (
            lambda: summarise(np.ones((1, 1, 1)), [[1e200]], [[1]], [0]),
            ValueError,
            "b must be finite",
        ),
        (
            lambda: Contexts(np.ones((2, 3)), np.ones((2, 3)), np.ones(2), np.zeros(2, int)),
            ValueError,
            "contexts must have x",
        ),
        (lambda: Contexts([[np.nan]], [[1, 1]], [1], [0]), ValueError, "x must be finite"),
        (lambda: Contexts([[1]], [[1, 1]], [1], [0.5]), TypeError, "source must hold integers"),
        (lambda: Contexts([[1e99]], [[1, 1]], [1], [0]), ValueError, "largest entry of x"),
    ],
)
def test_bad_input_gets_one_clear_line(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_only_the_direction_of_a_spike_matters():
    for size in (1e-300, 1.0, 1e300):
        np.testing.assert_allclose(Source(2, gamma_xi=[3 * size, 4 * size]).gamma_xi, [0.6, 0.8])


def test_lists_of_integers_make_contexts_of_floats():
    contexts = Contexts([[1, 2]], [[1, 2, 3]], [1], [0])
    assert contexts.x.dtype == contexts.b.dtype == contexts.y.dtype == np.float64
    assert len(contexts.take([])) == 0
