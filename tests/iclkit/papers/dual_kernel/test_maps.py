"""Feature maps and attention with them: the definitions, the stable form, float32, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclkit.papers.dual_kernel import maps
from iclkit.papers.dual_kernel.attention import attend, attention_output, look_up
from iclkit.papers.dual_kernel.maps import (
    centre,
    feature_attention,
    feature_map,
    kernel_ratios,
    sampled_attention,
)
from iclkit.papers.dual_kernel.projections import normal_projections
from iclkit.rng import stream
from tests.instances import quasi_projections, tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED, SIGMAS

CORE = look_up(*tokens_and_weights())
MAPS = {kind: feature_map(kind, quasi_projections(64, 3)) for kind in maps.KINDS}
#: Outputs of `core` with 64 deterministic projections.
REFERENCE = {
    ("positive", "features"): [0.8433211263, -0.5294896216],
    ("positive", "exact"): [0.9005471159, -0.5654196685],
    ("hyperbolic", "features"): [0.8999971253, -0.6321339405],
    ("hyperbolic", "exact"): [0.8739536875, -0.6138417254],
    ("trigonometric", "features"): [0.9513512035, -0.6878858207],
    ("trigonometric", "exact"): [0.9535149244, -0.6894503248],
}
# Squared norms up to 2,500 and scores alike: logs of features up to some thousand, each rounded to
# 6e-8 of its size, that is an absolute 2e-4, on outputs of order 1.
SINGLE = 1e-3


def features_by_definition(kind, projections, x, rho=1.0):
    """One point, one projection at a time, with plain exponentials."""
    m, dim = projections.shape
    A = (1 - 1 / rho) / 8
    found = []
    for omega in projections:
        angle = np.sqrt(1 - 4 * A) * (omega @ x)
        scale = (1 - 4 * A) ** (dim / 4) * np.exp(A * (omega @ omega)) / np.sqrt(m)
        small = scale * np.exp(-(x @ x) / 2)
        large = scale * np.exp(x @ x / 2)
        found.append(
            {
                "positive": [small * np.exp(angle)],
                "hyperbolic": [s * small / np.sqrt(2) for s in (np.exp(angle), np.exp(-angle))],
                "trigonometric": [large * np.cos(angle), large * np.sin(angle)],
            }[kind]
        )
    return np.concatenate(np.transpose(found))


@pytest.mark.parametrize("kind", maps.KINDS)
@pytest.mark.parametrize("rho", [1.0, 0.4, 1.7])
def test_features_by_definition(kind, rho):
    phi = feature_map(kind, quasi_projections(5, 3), rho=rho)
    by_hand = features_by_definition(kind, phi.projections, CORE.query, rho)
    assert np.allclose(phi(CORE.query), by_hand, rtol=IDENTITY)
    assert np.allclose(phi(CORE.keys)[:, 2], phi(CORE.keys[:, 2]), rtol=IDENTITY)
    assert phi(CORE.query).shape == (phi.n_features,)
    assert phi.n_projections == 5


@pytest.mark.parametrize("kind", ["positive", "hyperbolic"])
def test_log_features(kind):
    phi = feature_map(kind, quasi_projections(5, 3), rho=0.7)
    assert np.allclose(np.exp(phi.log_features(CORE.keys)), phi(CORE.keys), rtol=IDENTITY)
    far = phi.log_features(1e4 * CORE.keys)
    assert np.isfinite(far).all()


def test_trigonometric_features_have_no_logarithm():
    with pytest.raises(ValueError, match="kind must be positive or hyperbolic"):
        MAPS["trigonometric"].log_features(CORE.keys)


@pytest.mark.parametrize("normaliser", ["features", "exact"])
@pytest.mark.parametrize("kind", maps.KINDS)
def test_reference_values(kind, normaliser):
    found = feature_attention(*CORE[:3], feature_map=MAPS[kind], normaliser=normaliser)
    assert np.allclose(found, REFERENCE[kind, normaliser], rtol=PRINTED)


@pytest.mark.parametrize("kind", maps.KINDS)
def test_attention_is_what_its_features_say(kind):
    phi = feature_map(kind, quasi_projections(40, 3), rho=0.8)
    queries = 0.5 * CORE.keys[:, :4]
    shift = np.array([0.3, -0.2, 0.1])
    kernel = phi(queries).T @ phi(CORE.keys - shift[:, None])  # (Q, n)
    plain = CORE.values @ kernel.T / kernel.sum(axis=1)
    found = feature_attention(queries, *CORE[1:3], feature_map=phi, shift=shift)
    assert np.allclose(found, plain, rtol=IDENTITY)
    alone = feature_attention(queries[:, 1], *CORE[1:3], feature_map=phi, shift=shift)
    assert np.allclose(alone, found[:, 1], rtol=IDENTITY)
    known = CORE.values @ kernel.T / np.exp(queries.T @ (CORE.keys - shift[:, None])).sum(axis=1)
    exact = {"feature_map": phi, "shift": shift, "normaliser": "exact"}
    assert np.allclose(feature_attention(queries, *CORE[1:3], **exact), known, rtol=IDENTITY)


@pytest.mark.parametrize("kind", maps.KINDS)
@pytest.mark.parametrize("rho", [1.0, 0.5])
def test_ratios_are_those_of_the_features(kind, rho):
    phi = feature_map(kind, quasi_projections(6, 3), rho=rho)
    x, keys = CORE.query, CORE.keys
    ratios = kernel_ratios(phi, x, keys)
    entries = phi(x) @ phi(keys) / np.exp(x @ keys)
    assert np.allclose(ratios.mean(axis=0), entries, rtol=IDENTITY)
    alone = feature_map(kind, phi.projections[2:3], rho=rho)
    assert np.allclose(ratios[2], alone(x) @ alone(keys) / np.exp(x @ keys), rtol=IDENTITY)


@pytest.mark.parametrize("kind", maps.KINDS)
def test_sampled_attention_is_that_of_each_group(kind):
    rows, queries = quasi_projections(60, 3), 0.5 * CORE.keys[:, :4]
    found = sampled_attention(feature_map(kind, rows, rho=0.8), queries, CORE.keys, n_draws=3)
    for draw, group in enumerate(rows.reshape(3, 20, 3)):
        phi = feature_map(kind, group, rho=0.8)
        outputs = feature_attention(queries, CORE.keys, np.eye(7), feature_map=phi)
        assert np.allclose(found[draw], outputs.T, rtol=1e-9, atol=IDENTITY)


def test_sampled_attention_of_long_tokens(rng):
    x, y, _ = long_tokens(2000, rng, np.float64)
    phi = feature_map("positive", normal_projections(40, 16, rng=rng))
    weights = sampled_attention(phi, x, y, n_draws=4)
    assert np.allclose(weights.sum(axis=2), 1)


def test_sampled_attention_rejects():
    phi = feature_map("positive", np.ones((6, 3)))
    with pytest.raises(ValueError, match="n_draws must divide the number of projections, 6, got 4"):
        sampled_attention(phi, CORE.keys, CORE.keys, n_draws=4)
    with pytest.raises(ValueError, match="points must have 3 rows like the projections"):
        sampled_attention(phi, np.ones((2, 2)), np.ones((2, 2)))


@pytest.mark.parametrize("kind", maps.KINDS)
@pytest.mark.parametrize("rho", [1.0, 0.7, 1.2])
def test_features_are_unbiased(kind, rho, rng):
    phi = feature_map(kind, normal_projections(400_000, 3, rng=rng), rho=rho)
    ratios = kernel_ratios(phi, 0.5 * CORE.query, 0.5 * CORE.keys)
    error = ratios.std(axis=0) / np.sqrt(len(ratios))
    assert np.all(np.abs(ratios.mean(axis=0) - 1) < SIGMAS * error)


def test_many_features_approach_attention(rng):
    phi = feature_map("positive", normal_projections(1_000_000, 3, rng=rng))
    found = feature_attention(*CORE[:3], feature_map=phi)
    error = np.sqrt(1.8935 / 1e6)  # root mean square, see `output_variance`
    assert np.linalg.norm(found - attend(CORE).output) < SIGMAS * error


# ------------------------------------------------------------------ long keys and queries


def long_tokens(squared_norm, rng, dtype=np.float32):
    x, y = rng.standard_normal((16, 6)), rng.standard_normal((16, 30))
    x, y = (np.sqrt(squared_norm) * a / np.linalg.norm(a, axis=0) for a in (x, y))
    return [a.astype(dtype) for a in (x, y, rng.standard_normal((3, 30)))]


@pytest.mark.parametrize("kind", ["positive", "hyperbolic"])
@pytest.mark.parametrize("squared_norm", [1, 100, 400, 1000, 2000, 2500])
def test_single_precision_is_stable(kind, squared_norm, rng):
    tokens = long_tokens(squared_norm, rng)
    rows = normal_projections(128, 16, rng=rng).astype(np.float32)
    found = feature_attention(*tokens, feature_map=feature_map(kind, rows))
    assert found.dtype == np.float32
    double = [a.astype(np.float64) for a in tokens]
    exact = feature_attention(*double, feature_map=feature_map(kind, rows.astype(np.float64)))
    assert np.all(np.abs(found - exact) < SINGLE)
    outputs = double[2]
    assert np.all(found.max(axis=1) <= outputs.max(axis=1) * (1 + 1e-6))  # still an average


def test_plain_features_break_where_ours_do_not(rng):
    """All features of all keys vanish in float32: the plain ratio is 0 over 0."""
    x, y, _ = long_tokens(1000, rng)
    phi = feature_map("positive", normal_projections(128, 16, rng=rng).astype(np.float32))
    assert phi(y).dtype == np.float32
    assert not phi(y).any()
    assert not (phi(y).T @ phi(x)).any()
    assert np.isfinite(phi.log_features(y)).all()


def test_exact_normaliser_of_long_tokens(rng):
    """Where one key takes all the weight, its own ratio is what remains."""
    x, y, v = long_tokens(400, rng, np.float64)
    y[:, 0] = x[:, 0]
    phi = feature_map("positive", normal_projections(50, 16, rng=rng))
    found = feature_attention(x[:, 0], y, v, feature_map=phi, normaliser="exact")
    ratios = kernel_ratios(phi, x[:, 0], y).mean(axis=0)
    weights = np.exp(x[:, 0] @ y - 400)
    assert np.allclose(found, v @ (ratios * weights) / weights.sum(), rtol=1e-9, atol=1e-300)


def test_mixed_precision_is_double(rng):
    x, y, v = long_tokens(1, rng)
    rows = normal_projections(8, 16, rng=rng)
    assert feature_attention(x, y, v, feature_map=feature_map("positive", rows)).dtype == float
    single = feature_map("positive", rows.astype(np.float32))
    assert feature_attention(x, y, v.astype(float), feature_map=single).dtype == float


def test_integers_work():
    phi = feature_map("positive", [[1, 0], [0, 1]])
    found = feature_attention([1, 0], [[0, 1], [1, 0]], [[3, 3]], feature_map=phi)
    assert found == pytest.approx([3.0])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["positive", "hyperbolic"]),
    scale=st.floats(0, 60),
    rho=st.floats(0.1, 3),
    seed=st.integers(0, 10_000),
)
def test_positive_outputs_are_averages_of_the_values(kind, scale, rho, seed):
    draw = stream(seed, "property")
    x, y, v = scale * draw.normal(size=(4, 2)), scale * draw.normal(size=(4, 5)), np.eye(5)
    phi = feature_map(kind, draw.normal(size=(7, 4)), rho=rho)
    weights = feature_attention(x, y, v, feature_map=phi)
    assert np.all(weights >= 0)
    assert np.allclose(weights.sum(axis=0), 1)


# ------------------------------------------------------------------ negative weights, shifts


def test_trigonometric_sums_can_fail():
    phi = feature_map("trigonometric", [[np.pi]])
    with pytest.raises(ValueError, match=r"must be > 0 for every query, got 1 of 2 that are not"):
        feature_attention([[1.0, 0.0]], [[0.0]], [[1.0]], feature_map=phi)


def test_centre():
    assert np.allclose(centre(CORE.query, CORE.keys), CORE.query + CORE.keys.mean(axis=1))
    queries = CORE.keys[:, :3]
    assert np.allclose(centre(queries, CORE.keys), queries.mean(axis=1) + CORE.keys.mean(axis=1))


def test_a_shift_leaves_attention_alone():
    shift = centre(CORE.query, CORE.keys)
    moved = attention_output(CORE.query[:, None], CORE.keys - shift[:, None], CORE.values)
    assert np.allclose(moved[:, 0], attend(CORE).output, rtol=IDENTITY)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("relu", [[1.0]]), "kind must be one of positive, hyperbolic, trigonometric, got 'relu'"),
        (("positive", [1.0]), "projections must have 2 axes"),
        (("positive", [[np.nan]]), "projections must be finite"),
        (("positive", np.ones((0, 2))), "projections must not be empty"),
    ],
)
def test_map_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        feature_map(*arguments)


@pytest.mark.parametrize("rho", [0, -1, np.nan, np.inf])
def test_map_rejects_rho(rho):
    with pytest.raises(ValueError, match="rho must be finite and > 0"):
        feature_map("positive", [[1.0]], rho=rho)


def test_map_rejects_text():
    with pytest.raises(TypeError, match="projections must hold real numbers"):
        feature_map("positive", [["a"]])


def test_projections_cannot_change():
    rows = np.ones((2, 2))
    phi = feature_map("positive", rows)
    rows[0] = 5
    assert phi.projections[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        phi.projections[0, 0] = 2


PHI = feature_map("positive", np.ones((3, 2)))
GOOD = {"queries": [1.0, 2.0], "keys": np.ones((2, 4)), "values": np.ones((1, 4))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": [1.0, 2.0, 3.0]}, "queries and keys must have one length"),
        ({"queries": np.ones((1, 1, 1))}, "queries must be a vector or a matrix of columns"),
        ({"queries": [np.nan, 0.0]}, "queries must be finite"),
        ({"values": np.ones((1, 3))}, "keys and values must have as many columns"),
        ({"keys": np.ones(2)}, "keys must have 2 axes"),
        ({"keys": np.ones((3, 4)), "queries": np.ones(3)}, "points must have 2 rows like the proj"),
        ({"normaliser": "softmax"}, "normaliser must be one of features, exact, got 'softmax'"),
        ({"shift": [1.0]}, "shift must have length 2 like the keys, got 1"),
    ],
)
def test_attention_rejects(change, message):
    with pytest.raises(ValueError, match=message):
        feature_attention(**{**GOOD, **change}, feature_map=PHI)


def test_centre_rejects():
    with pytest.raises(ValueError, match="queries and keys must have one length"):
        centre([1.0], [[1.0], [2.0]])
