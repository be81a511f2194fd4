"""When the gradient sees the tasks: reference values, the eigenvalue equation, samples."""

import numpy as np
import pytest
from scipy import optimize

from iclkit.papers import data_mixing as dm
from iclkit.rng import stream
from tests.tolerances import IDENTITY, PRINTED, ROOT, SIGMAS


@pytest.mark.parametrize(
    ("link", "noise", "d", "n_prompts", "n_context", "theta", "overlap"),
    [
        ("relu", 0.01, 64, 2048, 64, 6, 0.6998566133),
        ("relu", 0.01, 64, 2048, 64, 40, 0.9305035938),
        ("relu", 0.01, 48, 4608, 96, 9, 0.9372690038),
        ("linear", 0.1, 64, 4096, 64, 5, 0.894156272),
    ],
)
def test_alignment_has_its_reference_values(link, noise, d, n_prompts, n_context, theta, overlap):
    source = dm.Source(d, link=link, noise=noise, theta_xi=theta)
    found = dm.alignment(source, n_context=n_context, n_prompts=n_prompts)
    assert found.overlap_squared == pytest.approx(overlap, rel=PRINTED)
    assert found.detected


@pytest.mark.parametrize(
    ("link", "noise", "prompt_ratio", "context_ratio", "threshold"),
    [
        ("relu", 0.01, 0.5, 1, 1.73966078),
        ("relu", 0.01, 2, 2, 0.8001119989),
        ("linear", 0.1, 1, 1, 0.8055972212),
    ],
)
def test_threshold_has_its_reference_values(link, noise, prompt_ratio, context_ratio, threshold):
    found = dm.alignment_threshold(link, noise, prompt_ratio, context_ratio)
    assert found == pytest.approx(threshold, rel=2e-9)


def test_finite_threshold_has_its_reference_value_and_its_limit():
    found = dm.finite_threshold(dm.Source(64), n_context=64, n_prompts=2048)
    assert found == pytest.approx(1.8262606, rel=2e-8)
    limit = dm.alignment_threshold("relu", 0.01, 0.5, 1)
    gaps = [
        dm.finite_threshold(dm.Source(d), n_context=d, n_prompts=d**2 // 2) - limit
        for d in (1000, 10_000)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("theta", [3.0, 30.0, 3000.0])
def test_alignment_solves_the_eigenvalue_equation(theta):
    found = dm.alignment(dm.Source(30, theta_xi=theta), n_context=20, n_prompts=900)
    v, edge = found.bulk_variance, 2 * np.sqrt(found.bulk_variance)
    off = found.edge - edge

    def transform(place):
        return (place - np.sqrt(place**2 - 4 * v)) / (2 * v)

    def missing(place):
        return place - found.signal - found.row_variance * transform(place)

    place = optimize.brentq(missing, edge * (1 + 1e-9), 1.0, xtol=1e-15)
    step = 1e-6 * place
    slope = (transform(place + step) - transform(place - step)) / (2 * step)
    assert found.eigenvalue - off == pytest.approx(place, rel=ROOT)
    assert found.overlap_squared == pytest.approx(1 / (1 - found.row_variance * slope), rel=1e-7)


def test_overlap_starts_at_the_threshold_and_grows():
    source = dm.Source(64)
    start = dm.finite_threshold(source, n_context=64, n_prompts=2048)
    sizes = {"n_context": 64, "n_prompts": 2048}
    below = dm.alignment(dm.Source(64, theta_xi=start * (1 - 1e-6)), **sizes)
    above = dm.alignment(dm.Source(64, theta_xi=start * (1 + 1e-6)), **sizes)
    assert (below.overlap_squared, below.detected, below.eigenvalue) == (0, False, below.edge)
    assert 0 < above.overlap_squared < 1e-4
    assert above.detected
    overlaps = [
        dm.alignment(dm.Source(64, theta_xi=theta), **sizes).overlap_squared
        for theta in np.geomspace(2, 1e5, 20)
    ]
    assert np.all(np.diff(overlaps) > 0)
    assert overlaps[-1] < 1


def test_alignment_tends_to_its_curve():
    theta = np.array([0.5, 2.0, 4.0, 16.0])
    limit = dm.alignment_curve(theta, "relu", 0.2, prompt_ratio=0.5, context_ratio=1.0)
    for d, gap in ((10**4, 2e-3), (10**6, 2e-5)):
        sizes = {"n_context": d, "n_prompts": d**2 // 2}
        found = [
            dm.alignment(dm.Source(d, noise=0.2, theta_xi=t), **sizes).overlap_squared
            for t in theta
        ]
        assert np.abs(found - limit).max() < gap
    threshold = dm.alignment_threshold("relu", 0.2, 0.5, 1.0)
    near = dm.alignment_curve(
        [0.0, threshold, threshold * (1 + 1e-7)], "relu", 0.2, prompt_ratio=0.5, context_ratio=1.0
    )
    assert near[:2].tolist() == [0, 0]
    assert 0 < near[2] < 1e-6


def test_mixtures_average_signal_and_noise():
    sizes = {"n_context": 64, "n_prompts": 2048}
    spiked = dm.Source(64, theta_xi=40.0)
    alone = dm.alignment(spiked, **sizes)
    same = dm.alignment([spiked, spiked], [0.3, 0.7], **sizes)
    assert same.overlap_squared == pytest.approx(alone.overlap_squared, rel=IDENTITY)
    diluted = dm.alignment([spiked, dm.Source(64)], [0.3, 0.7], **sizes)
    assert diluted.signal == pytest.approx(0.3 * alone.signal, rel=1e-9)
    assert diluted.overlap_squared < alone.overlap_squared
    axes = np.eye(64)
    pair = [spiked, dm.Source(64, theta_xi=40.0, gamma_xi=axes[5])]
    one = dm.alignment(pair, [0.5, 0.5], **sizes)
    two = dm.alignment(pair, [0.5, 0.5], direction=axes[5], **sizes)
    assert one.overlap_squared == pytest.approx(two.overlap_squared, rel=IDENTITY)


def test_measured_overlaps_are_the_predicted_ones():  # the claim D-F5 has more of them
    sizes = {"n_context": 64, "n_prompts": 2048}
    for theta in (14.0, 80.0):
        source = dm.Source(64, theta_xi=theta)
        found = [
            dm.measured_alignment(
                source.sample(2048, 64, rng=stream(0, "alignment", theta, k)), source.gamma_xi
            )
            for k in range(8)
        ]
        predicted = dm.alignment(source, **sizes).overlap_squared
        error = np.std(found, ddof=1) / np.sqrt(8)
        # the prediction itself has an error of order 1/d
        assert abs(np.mean(found) - predicted) < SIGMAS * error + 1 / 64


def test_gradient_matrix_by_loops(rng):
    prompts = dm.Source(3).sample(5, 4, rng=rng)
    total = np.zeros((3, 3))
    for x, b, y in zip(prompts.x, prompts.b, prompts.y, strict=True):
        total += y * (np.outer(x, b[:3]) + np.outer(b[:3], x)) / 10
    assert dm.gradient_matrix(prompts) == pytest.approx(total, rel=IDENTITY)


def test_measured_alignment_of_all_eigenvectors_is_one(rng):
    prompts = dm.Source(3).sample(5, 4, rng=rng)
    assert dm.measured_alignment(prompts, [1, 2, 3], rank=3) == pytest.approx(1, rel=IDENTITY)
    parts = [dm.measured_alignment(prompts, [1, 2, 3], rank=k) for k in (1, 2, 3)]
    assert np.all(np.diff(parts) >= 0)


def test_one_dimension_is_aligned():
    assert dm.alignment(dm.Source(1), n_context=3, n_prompts=3).overlap_squared == 1


def test_a_task_that_is_too_noisy_is_never_seen():
    source = dm.Source(5, noise=50.0)
    assert dm.finite_threshold(source, n_context=2, n_prompts=2) == np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dm.alignment_threshold("abs", 0.1, 1, 1), "link must have a linear part"),
        (lambda: dm.alignment_threshold("relu", 0.1, 0, 1), "prompt_ratio must be"),
        (lambda: dm.alignment_threshold("relu", 0.1, 1, -1), "context_ratio must be"),
        (lambda: dm.alignment_threshold("relu", np.nan, 1, 1), "noise must be"),
        (
            lambda: dm.alignment_curve(-1, "relu", 0.1, prompt_ratio=1, context_ratio=1),
            "theta must be >= 0",
        ),
        (lambda: dm.alignment(dm.Source(3, theta_x=1.0), n_context=2, n_prompts=2), "isotropic"),
        (
            lambda: dm.alignment(
                dm.Source(3, theta_xi=1.0), n_context=2, n_prompts=2, direction=[1, 1, 0]
            ),
            "direction must be along",
        ),
        (
            lambda: dm.alignment(dm.Source(3), n_context=2, n_prompts=2, direction=[0, 0, 0]),
            "direction must be a vector",
        ),
        (lambda: dm.alignment(dm.Source(3), n_context=2, n_prompts=0), "n_prompts must be >= 1"),
        (
            lambda: dm.measured_alignment(
                dm.Source(3).sample(2, 2, rng=stream(0)), [1, 0, 0], rank=4
            ),
            "rank must be at most 3",
        ),
    ],
)
def test_mistakes_have_clear_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
