"""Sums of heads: exact risk against the literal network, searches, and the closed forms."""

import numpy as np
import pytest

from iclkit.papers.linear_block import RegressionPrior, isotropic_prior, optimal_gd, whiten
from iclkit.papers.linear_block.heads import (
    best_heads,
    context_moments,
    enough_heads,
    heads_gap,
    heads_risk,
    unlimited_heads_gap,
)
from iclkit.papers.linear_block.network import reduced_risk
from tests.instances import PRIORS
from tests.oracles import heads_risk_by_cubature
from tests.tolerances import IDENTITY, MINIMUM, PRINTED, ROOT

SMALL = [
    RegressionPrior([[1.3]], [0.7], [[0.4]], 0.3, 1),
    RegressionPrior([[1.5, 0.4], [0.4, 0.8]], [1, -2], [[0.7, -0.2], [-0.2, 1.1]], 0.25, 2),
    RegressionPrior([[1, 1], [1, 1]], [1, -2], [[0.7, 0], [0, 0]], 0.0, 2),
]


def random_heads(prior, n_heads, rng, *, scratchpad=False):
    tokens = prior.dim + 1 + scratchpad
    return rng.normal(size=(n_heads, tokens)), rng.normal(size=(n_heads, tokens, prior.dim))


def spectrum_prior(values, mean, *, noise_var, n_context):
    return RegressionPrior(np.eye(len(values)), mean, np.diag(values), noise_var, n_context)


def random_prior(rng, dim):
    values, mean = np.exp(rng.normal(size=dim)), np.exp(rng.normal()) * rng.normal(size=dim)
    noise_var, n_context = np.exp(rng.normal()), int(rng.integers(1, 20))
    return spectrum_prior(values, mean, noise_var=noise_var, n_context=n_context)


def gap_by_regression(prior, *, scratchpad=False):
    """Gap of the best linear map of G, as one least-squares problem for all entries of G."""
    moments = context_moments(whiten(prior), scratchpad=scratchpad)
    i, j = np.triu_indices(len(moments.second))
    gram, cross = moments.second[i, j][:, i, j], moments.cross[i, j]
    explained = np.sum(cross * np.linalg.lstsq(gram, cross, rcond=1e-13)[0])
    return prior.noise_var + moments.power - explained - optimal_gd(prior).risk


# ------------------------------------------------------------------ given heads


@pytest.mark.parametrize("scratchpad", [False, True])
@pytest.mark.parametrize("prior", SMALL, ids=["line", "plane", "singular"])
def test_risk_is_that_of_the_literal_network(prior, scratchpad, rng):
    values, keys = random_heads(prior, 2, rng, scratchpad=scratchpad)
    literal = []
    for a, B in zip(values, keys, strict=True):
        PV, KQ = rng.normal(size=(2, len(a), len(a)))  # other entries do not matter, but for
        PV[-1], KQ[:, : prior.dim] = a, B  # those that read the query's own constant
        KQ[:, prior.dim] = KQ[:, prior.dim] if not scratchpad else 0.0
        literal.append((PV, KQ))
    expected = heads_risk_by_cubature(prior, literal, scratchpad=scratchpad)
    assert heads_risk(prior, values, keys, scratchpad=scratchpad) == pytest.approx(
        expected, rel=IDENTITY
    )


@pytest.mark.parametrize("name", ["FIG1", "GEN3", "RANKDEF"])
def test_one_head_is_linear_attention(name, rng):
    prior = PRIORS[name]
    (a,), (B,) = random_heads(prior, 1, rng)
    expected = reduced_risk(prior, u=a[:-1], u0=a[-1], U=B[:-1], v=B[-1])
    assert heads_risk(prior, [a], [B]) == pytest.approx(expected, rel=IDENTITY)


def test_a_sum_of_equal_heads_is_one_head(rng):
    prior = PRIORS["GEN3"]
    (a,), (B,) = random_heads(prior, 1, rng)
    one, two = heads_risk(prior, [a], [B]), heads_risk(prior, [a, a], [B / 4, 3 * B / 4])
    assert two == pytest.approx(one, rel=IDENTITY)


@pytest.mark.parametrize("shape", [((1, 3), (1, 4, 3)), ((1, 4), (2, 4, 3)), ((1, 4), (1, 4, 4))])
def test_wrong_shapes_say_so(shape):
    with pytest.raises(ValueError, match=r"values and keys must have shapes \(n_heads, 4\)"):
        heads_risk(PRIORS["GEN3"], np.ones(shape[0]), np.ones(shape[1]))


def test_integers_are_numbers_and_nan_is_not():
    prior = isotropic_prior(1, n_context=2)
    assert heads_risk(prior, [[0, 1]], [[[0], [0]]]) == 1.0
    with pytest.raises(ValueError, match="values must be finite"):
        heads_risk(prior, [[0, np.nan]], [[[0], [0]]])


# ------------------------------------------------------------------ the search


@pytest.mark.parametrize(
    ("prior", "gaps"),
    [
        (isotropic_prior(3, n_context=10, mean=3**0.5), [2.01445036, 0.931185, 0.5625, 0.5625]),
        (
            isotropic_prior(3, n_context=4, mean=(4 / 3) ** 0.5, noise_var=0.3),
            [1.578096, 0.876844, 0.570862, 0.570862],
        ),
    ],
    ids=["no noise", "noise"],
)
def test_gaps_of_one_to_four_heads(prior, gaps, rng):  # ZH-MH
    found = [heads_gap(prior, n_heads, n_starts=4, rng=rng) for n_heads in (1, 2, 3, 4)]
    assert found == pytest.approx(gaps, abs=MINIMUM)
    assert found[2] == pytest.approx(found[3], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "risk"),
    [
        ("FIG1", 4.556578645264),
        ("DIAG4", 3.270779307028),
        ("GEN3", 2.584327550220),
        ("RANKDEF", 1.219083369912),
    ],
)
def test_the_best_single_head_is_the_best_attention(name, risk, rng):
    found = best_heads(PRIORS[name], 1, rng=rng)
    assert found.risk == pytest.approx(risk, rel=PRINTED)
    assert heads_risk(PRIORS[name], *found[:2]) == pytest.approx(risk, rel=PRINTED)


@pytest.mark.parametrize("scratchpad", [False, True])
@pytest.mark.parametrize("n_heads", [1, 2, 9])
@pytest.mark.parametrize("name", ["GEN3", "RANKDEF"])
def test_the_weights_found_have_the_risk_found(name, n_heads, scratchpad, rng):
    prior = PRIORS[name]
    best = best_heads(prior, n_heads, scratchpad=scratchpad, n_starts=2, rng=rng)
    again = heads_risk(prior, best.values, best.keys, scratchpad=scratchpad)
    assert again == pytest.approx(best.risk, rel=ROOT)
    assert len(best.values) == n_heads


def test_more_heads_never_hurt_and_more_still_never_beat_the_bound(rng):
    prior = random_prior(rng, 4)
    gaps = [heads_gap(prior, n_heads, n_starts=6, rng=rng) for n_heads in (1, 2, 3, 4, 5, 6)]
    assert np.all(np.diff(gaps) < 1e-9)
    assert gaps[-1] == pytest.approx(unlimited_heads_gap(prior), rel=ROOT)


@pytest.mark.parametrize("name", ["FIG1", "GEN3", "RANKDEF"])
def test_two_heads_with_a_scratchpad_are_a_block(name, rng):  # ZH-X11
    assert heads_gap(PRIORS[name], 2, scratchpad=True, n_starts=4, rng=rng) == pytest.approx(
        0.0, abs=1e-9
    )


def test_the_slope_of_the_search_is_the_derivative(rng):
    from iclkit.papers.linear_block.heads import _excess_and_slope

    moments, values = context_moments(whiten(PRIORS["GEN3"])), rng.normal(size=(2, 4))
    direction, step = rng.normal(size=(2, 4)), 1e-5
    ends = [_excess_and_slope(moments, values + s * step * direction)[0] for s in (-1, 1)]
    slope = _excess_and_slope(moments, values)[1] @ direction.ravel()
    assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    "prior",
    [
        isotropic_prior(1, n_context=1),
        isotropic_prior(2, n_context=1, mean=1, task_var=0),
        isotropic_prior(2, n_context=1, mean=1, task_var=0, noise_var=1),
        RegressionPrior(np.zeros((2, 2)), [1, 2], np.eye(2), 0.5, 3),
    ],
    ids=["one example", "known task", "known task, noise", "no inputs"],
)
def test_degenerate_priors_work(prior, rng):
    best = best_heads(prior, 2, n_starts=2, rng=rng)
    gap = best.risk - optimal_gd(prior).risk
    assert gap >= unlimited_heads_gap(prior) - 1e-12
    assert np.isfinite(best.values).all()
    assert np.isfinite(best.keys).all()
    assert 1 <= enough_heads(prior) <= 3


@pytest.mark.parametrize("option", [{"n_heads": 0}, {"n_heads": 1, "n_starts": 0}])
def test_no_heads_and_no_starts_say_so(option, rng):
    with pytest.raises(ValueError, match="must be >= 1, got 0"):
        best_heads(PRIORS["GEN3"], **option, rng=rng)


# ------------------------------------------------------------------ unlimited heads


@pytest.mark.parametrize(
    ("name", "risk"), [("FIG1", 3.097643097643), ("DIAG4", 2.377150006), ("GEN3", 1.815176433)]
)
def test_unlimited_heads_at_the_reference_values(name, risk):
    found = optimal_gd(PRIORS[name]).risk + unlimited_heads_gap(PRIORS[name])
    assert found == pytest.approx(risk, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_unlimited_heads_are_the_best_linear_map(seed):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, int(rng.integers(1, 6)))
    assert unlimited_heads_gap(prior) == pytest.approx(gap_by_regression(prior), rel=1e-8)


@pytest.mark.parametrize("n_context", [1, 4, 100])
@pytest.mark.parametrize("values", [[1.0], [3.0, 1.0, 0.01], [2.0, 0.0]])
def test_without_noise_the_gap_depends_on_rank_and_length_alone(values, n_context):
    mean = np.ones(len(values))
    prior = spectrum_prior(values, mean, noise_var=0.0, n_context=n_context)
    expected = 2 * len(values) / (len(values) * n_context + 2)
    assert unlimited_heads_gap(prior) == pytest.approx(expected, rel=IDENTITY)


def test_a_scratchpad_and_unlimited_heads_leave_no_gap():
    gap = gap_by_regression(PRIORS["DIAG4"], scratchpad=True)
    assert gap == pytest.approx(0.0, abs=1e-10)


# ------------------------------------------------------------------ how many are enough


@pytest.mark.parametrize(("norm2", "enough"), [(4.0, 3), (55.0, 3), (80.0, 4), (400.0, 4)])
def test_enough_heads_is_what_the_search_finds(norm2, enough, rng):  # ZH-X12
    prior = isotropic_prior(3, n_context=4, mean=(norm2 / 3) ** 0.5, noise_var=0.3)
    least = unlimited_heads_gap(prior)
    gaps = [heads_gap(prior, n, n_starts=6, rng=rng) for n in (enough - 1, enough)]
    assert enough_heads(prior) == enough
    assert gaps[1] == pytest.approx(least, rel=1e-8)
    assert gaps[0] > least * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_enough_heads_for_random_spectra(seed):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, 3)
    least, enough = unlimited_heads_gap(prior), enough_heads(prior)
    gaps = [heads_gap(prior, n, n_starts=16, rng=rng) for n in (enough - 1, enough)]
    assert gaps[1] == pytest.approx(least, rel=1e-7)
    assert gaps[0] > least * (1 + 1e-7)


@pytest.mark.parametrize("phi", [[1.0, 1.0], [3.0, 0.5, 0.2]])
def test_the_norm_where_one_more_head_is_needed(phi):
    noise_var, M, phi = 2.0, 3, np.array(phi)
    direction, kappa = np.linspace(1, -2, len(phi)), phi.sum() + noise_var
    cov = np.diag(np.append(2 / M + 0 * phi, 2 / M * (kappa**2 + 2 * phi @ phi) + 2 * phi @ phi))
    cov[:-1, -1] = cov[-1, :-1] = 2 / M * phi
    means = np.append(1 + 0 * phi, kappa)
    *inputs, label = np.linalg.solve(cov + np.outer(means, means), means)
    omega = ((M + 1) * phi + kappa) / M
    edge = 1 / np.sqrt(4 * label * np.sum(inputs * (direction * omega / phi) ** 2))
    law = {"noise_var": noise_var, "n_context": M}
    for scale, more in ((0.999, 0), (1.001, 1)):
        prior = spectrum_prior(phi, scale * edge * direction, **law)
        assert enough_heads(prior) == len(phi) + more


def test_one_dimension_and_much_noise_need_two_heads():
    prior = isotropic_prior(1, n_context=1, mean=1.0, noise_var=10.0)
    assert enough_heads(prior) == 2
    assert unlimited_heads_gap(prior) < 0.561238 - 0.03  # what one head loses


@pytest.mark.parametrize(
    ("mean", "noise_var", "enough"),
    [([1, 1], 0.3, 3), ([1, 1], 0.0, 2), ([0, 1], 0.3, 3), ([1, 0], 0.3, 2), ([9, 0], 0.3, 3)],
)
def test_a_known_direction_of_the_task_needs_one_head_more(mean, noise_var, enough, rng):
    prior = spectrum_prior([1.0, 0.0], mean, noise_var=noise_var, n_context=4)
    least = unlimited_heads_gap(prior)
    gaps = [heads_gap(prior, n, n_starts=6, rng=rng) for n in (enough - 1, enough)]
    assert enough_heads(prior) == enough
    assert gaps[1] == pytest.approx(least, rel=1e-8)
    assert gaps[0] > least * (1 + 1e-6)


@pytest.mark.parametrize("function", [enough_heads, unlimited_heads_gap])
def test_no_prior_says_so(function):
    with pytest.raises(TypeError, match="prior must be a RegressionPrior, got NoneType"):
        function(None)


def test_without_noise_as_many_heads_as_dimensions_are_enough():
    assert enough_heads(isotropic_prior(6, n_context=3, mean=100.0)) == 6
    assert enough_heads(isotropic_prior(6, n_context=3, noise_var=1.0)) == 1  # no mean
