"""Closed-form moments: reference values, sampled prompts, limits, clear errors."""

import numpy as np
import pytest
from scipy import integrate

from iclkit.papers import data_mixing as dm
from tests.tolerances import IDENTITY, PRINTED, ROOT, SIGMAS

AXES = np.eye(4)
TILTED = np.array([3.0, 4.0, 0.0, 0.0]) / 5

#: Mixtures of dimension 4 that cover every branch: shared, orthogonal and tilted spikes, other
#: links and noises, a task mean, input spikes with isotropic and with aligned tasks.
MIXTURES = {
    "shared": ([dm.Source(4), dm.Source(4, theta_xi=9.0, noise=0.3)], [0.4, 0.6]),
    "orthogonal": (
        [dm.Source(4, theta_xi=5.0), dm.Source(4, theta_xi=9.0, gamma_xi=AXES[1], link="tanh")],
        [0.5, 0.5],
    ),
    "tilted": (
        [dm.Source(4, theta_xi=20.0), dm.Source(4, theta_xi=20.0, gamma_xi=TILTED)],
        [0.3, 0.7],
    ),
    "task mean": (
        [dm.Source(4, mu_xi=[1.0, 2.0, 0, 0], theta_xi=3.0), dm.Source(4, noise=0.5)],
        [0.5, 0.5],
    ),
    "input spike": ([dm.Source(4), dm.Source(4, theta_x=3.0, link="sigmoid")], [0.5, 0.5]),
    "both spikes": (
        [
            dm.Source(4, theta_x=3.0, theta_xi=6.0, gamma_x=TILTED, gamma_xi=-TILTED),
            dm.Source(4, theta_xi=9.0, gamma_xi=AXES[2], link="tanh", noise=0.4),
        ],
        [0.6, 0.4],
    ),
}


@pytest.mark.parametrize(
    ("theta", "d", "overlap"),
    [
        (10, 20, 0.271896278394),
        (20, 20, 0.368980514957),
        (80, 80, 0.350394518546),
        (400, 20, 0.772162607941),
        (6400, 80, 0.872728436785),
        (1000, 30, 0.8145830341),
    ],
)
def test_spike_overlap_has_its_reference_values(theta, d, overlap):
    assert dm.spike_overlap(theta, d) == pytest.approx(overlap, rel=PRINTED)


@pytest.mark.parametrize("d", [2, 3, 17])
@pytest.mark.parametrize("theta", [0.3, 40.0, 1e6])
def test_spike_overlap_is_a_mean_over_angles(theta, d):  # the same, without the Laplace integral
    def density(angle):
        return np.sin(angle) ** (d - 2)

    def ratio(angle):
        # a Gaussian direction with polar angle t, stretched along the axis by sqrt(1 + theta)
        c2 = (1 + theta) * np.cos(angle) ** 2
        return c2 / (c2 + np.sin(angle) ** 2)

    sharp = [np.pi / 2 - 1 / np.sqrt(1 + theta)]
    inside = {"points": sharp, "epsabs": 0, "epsrel": 1e-12, "limit": 400}
    top = integrate.quad(lambda a: ratio(a) * density(a), 0, np.pi / 2, **inside)[0]
    bottom = integrate.quad(density, 0, np.pi / 2, **inside)[0]
    assert dm.spike_overlap(theta, d) == pytest.approx(top / bottom, rel=ROOT)


def test_spike_overlap_in_limits():
    assert dm.spike_overlap(0, 7) == pytest.approx(1 / 7, rel=IDENTITY)
    assert dm.spike_overlap([0, 5], 1).tolist() == [1, 1]
    # close to one for a huge spike, and never above
    assert 0.999 < dm.spike_overlap(1e9, 5) < 1
    assert np.all(np.diff(dm.spike_overlap(np.logspace(-3, 6, 30), 9)) > 0)


@pytest.mark.parametrize(
    ("source", "n_context", "trace", "eigenvalues", "signal", "best"),
    [
        (
            dm.Source(20, noise=0.2, theta_xi=20),
            40,
            17.2736,
            [0.1126635134, 0.02242560456, 0.32493],
            [0.09224512874, 0.008302887961],
            0.4060653743,
        ),
        (
            dm.Source(20, link="tanh", noise=0.1, theta_xi=400),
            30,
            16.07073168,
            [0.2966823348, 0.01787458054, 0.1672372189],
            [0.2832903724, 0.004399410106],
            0.1132181529,
        ),
    ],
)
def test_moments_of_one_source(source, n_context, trace, eigenvalues, signal, best):
    law = dm.moments(source, n_context=n_context)
    assert law.trace == pytest.approx(trace, rel=1e-9)
    assert law.eigenvalues == pytest.approx(eigenvalues, rel=1e-9)
    assert [float(c.targets[0, 0, 0]) for c in law.cells[:2]] == pytest.approx(signal, rel=1e-9)
    assert law.best_linear == pytest.approx(best, rel=1e-9)
    assert law.multiplicities.tolist() == [20, 380, 20]


def test_moments_of_isotropic_and_linear_sources():
    isotropic = dm.moments(dm.Source(20), n_context=20)
    assert isotropic.trace == pytest.approx(22.00420022, rel=PRINTED)
    assert isotropic.best_linear == pytest.approx(0.4207449975, rel=PRINTED)
    assert isotropic.eigenvalues[0] == pytest.approx(isotropic.eigenvalues[1], rel=IDENTITY)
    linear = dm.moments(dm.Source(30, link="linear", noise=0.1, theta_xi=30), n_context=60)
    assert linear.trace == pytest.approx(77.2731, rel=PRINTED)
    assert linear.best_linear == pytest.approx(0.3116884259, rel=PRINTED)


def test_moments_of_the_mixture_at_paper_scale():
    law = dm.moments([dm.Source(80), dm.Source(80, theta_xi=6400)], [0.5, 0.5], n_context=80)
    assert law.trace == pytest.approx(82.01620082, rel=PRINTED)
    assert law.eigenvalues == pytest.approx([0.1210543129, 0.00808127452, 0.2657275103], rel=1e-9)
    assert law.energies == pytest.approx([0.1011464098, 0.03041479112, 0], rel=1e-9, abs=1e-16)
    assert law.best_linear == pytest.approx(0.368538799, rel=PRINTED)


def pair_statistics(law):
    """What moments say of independent prompts: traces, squares of traces, signals."""
    first = [np.einsum("sii->s", c.seconds) * c.multiplicity for c in law.cells]
    second = [np.einsum("sij,uji->su", c.seconds, c.seconds) * c.multiplicity for c in law.cells]
    signal = [np.einsum("srj,urj->su", c.targets, c.targets) * c.copies for c in law.cells]
    bent = [
        np.einsum("sri,uij,srj->su", c.targets, c.seconds, c.targets) * c.copies for c in law.cells
    ]
    return sum(first), sum(second), sum(signal), sum(bent)


@pytest.mark.parametrize("name", MIXTURES)
def test_moments_are_those_of_sampled_prompts(name, rng):
    sources, weights = MIXTURES[name]
    law = dm.moments(sources, weights, n_context=3)
    trace, overlap, signal, bent = pair_statistics(law)
    drawn = [[source.sample(100_000, 3, rng=rng) for _ in range(3)] for source in sources]
    found, expected = [], []
    for s, (one, two, _) in enumerate(drawn):
        found += [dm.squared_norms(one), one.y, one.y**2]
        expected += [trace[s], law.label_means[s], law.label_squares[s]]
        for u, (_, other, third) in enumerate(drawn):
            cross = np.einsum("nd,nd->n", one.x, other.x) * np.einsum("nd,nd->n", one.b, other.b)
            found += [cross**2, one.y * other.y * cross]
            expected += [overlap[s, u], signal[s, u]]
            left = np.einsum("nd,nd->n", one.x, third.x) * np.einsum("nd,nd->n", one.b, third.b)
            right = np.einsum("nd,nd->n", two.x, third.x) * np.einsum("nd,nd->n", two.b, third.b)
            found += [one.y * two.y * left * right]
            expected += [bent[s, u]]
    values = np.array(found)
    z = (values.mean(axis=1) - expected) / (values.std(axis=1) / np.sqrt(values.shape[1]))
    assert np.abs(z).max() < SIGMAS


@pytest.mark.parametrize("name", MIXTURES)
def test_summary_fields_agree_with_the_cells(name):
    sources, weights = MIXTURES[name]
    law = dm.moments(sources, weights, n_context=3)
    assert law.multiplicities.sum() == 4 * 5
    assert law.source_traces @ law.weights == pytest.approx(law.trace, rel=IDENTITY)
    for cell in law.cells:
        mixed = np.einsum("s,sij->ij", law.weights, cell.seconds)
        assert mixed == pytest.approx(np.diag(cell.eigenvalues), abs=IDENTITY)
    assert 0 < law.best_linear < law.weights @ law.label_squares
    assert np.all(law.energies >= 0)


def test_best_linear_error_in_the_limit():  # exercise: ReLU without noise, one example per axis
    errors = [dm.moments(dm.Source(d, noise=0), n_context=d).best_linear for d in (10**4, 10**6)]
    assert errors[1] == pytest.approx(5 / 12, rel=1e-5)
    assert abs(errors[1] - 5 / 12) < abs(errors[0] - 5 / 12)
    assert dm.moments(dm.Source(50, noise=0), n_context=10**9).best_linear == pytest.approx(0.25)


def test_label_moments_of_linear_labels():  # y = u + noise
    law = dm.label_moments("linear", 0.5, scale=[1, 2])
    scale = np.array([1, 4.0])
    assert law.square == pytest.approx(scale + 0.25, rel=IDENTITY)
    assert law.fourth == pytest.approx(3 * (scale + 0.25) ** 2, rel=IDENTITY)
    assert law.slope == pytest.approx([1, 1], rel=IDENTITY)
    assert law.curvature == pytest.approx([2, 2], rel=IDENTITY)
    assert law.third_slope == pytest.approx(3 * (scale + 0.25), rel=IDENTITY)
    assert law.mean == pytest.approx([0, 0], abs=IDENTITY)


def test_an_input_spike_shrinks_labels():
    law = dm.moments(dm.Source(28, theta_x=28), n_context=28)
    # the argument has variance (1 + theta p)/(1 + theta) with p of mean 1/d: 2/29 here
    assert law.label_squares[0] == pytest.approx(1 / 29 + 1e-4, rel=1e-9)


def test_one_dimension():
    law = dm.moments(dm.Source(1, link="linear", noise=0), n_context=10)
    assert law.multiplicities.tolist() == [1, 1]
    assert law.eigenvalues[0] == pytest.approx(1 + 2 / 10, rel=IDENTITY)
    assert law.best_linear == pytest.approx(1 - 1 / 1.2, rel=IDENTITY)


def test_a_task_mean_changes_nothing_when_it_is_tiny():
    plain = dm.moments(dm.Source(6, theta_xi=3.0), n_context=5)
    moved = dm.moments(dm.Source(6, theta_xi=3.0, mu_xi=1e-9 * np.eye(6)[2]), n_context=5)
    assert moved.trace == pytest.approx(plain.trace, rel=IDENTITY)
    assert moved.best_linear == pytest.approx(plain.best_linear, rel=IDENTITY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dm.spike_overlap(-1, 3), "theta must be >= 0"),
        (lambda: dm.spike_overlap(np.nan, 3), "theta must be finite"),
        (lambda: dm.spike_overlap(1, 0), "d must be >= 1"),
        (lambda: dm.moments(dm.Source(3), n_context=0), "n_context must be >= 1"),
        (lambda: dm.moments(dm.Source(3), [0.5], n_context=2), "weights must be >= 0 and sum"),
        (lambda: dm.moments(dm.Source(3), [0.5, 0.5], n_context=2), "one entry per source"),
        (lambda: dm.moments(dm.Source(3, mu_x=[1, 0, 0]), n_context=2), "mu_x must be zero"),
        (
            lambda: dm.moments(dm.Source(3, mu_xi=[1, 0, 0], theta_x=1.0), n_context=2),
            "mu_xi must be zero",
        ),
        (
            lambda: dm.moments(
                dm.Source(3, theta_x=1.0, theta_xi=1.0, gamma_x=[0, 1, 0]), n_context=2
            ),
            "gamma_xi must be parallel",
        ),
        (lambda: dm.moments(dm.Source(3, link=np.zeros_like, noise=0), n_context=2), "vanishes"),
        (lambda: dm.label_moments("relu", -0.1), "noise must be"),
        (lambda: dm.label_moments("relu", 0.1, scale=0.0), "scale must be > 0"),
    ],
)
def test_mistakes_have_clear_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mixtures_with_an_input_spike_integrate_over_the_overlap_once():
    asked = []

    def link(z):
        asked.append(z.size)
        return np.maximum(z, 0)

    pair = [dm.Source(3, theta_x=4.0, link=link), dm.Source(3)]
    first = dm.moments(pair, [0.5, 0.5], n_context=4)
    once = len(asked)
    second = dm.moments(pair, [1, 0], n_context=4)
    assert len(asked) == once
    assert second.label_squares == pytest.approx(first.label_squares, rel=IDENTITY)


@pytest.mark.parametrize("theta", [0.0, 1.0, 15.0, 1e12])
def test_overlap_in_two_dimensions_is_elementary(theta):
    root = np.sqrt(1 + theta)
    assert dm.spike_overlap(theta, 2) == pytest.approx(root / (1 + root), rel=ROOT)
    assert dm.spike_overlap(theta, 1) == 1
