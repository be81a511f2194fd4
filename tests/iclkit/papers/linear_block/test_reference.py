"""Reference values of chapter 2: optimal blocks, steps from zero, the polynomial, other contexts.

They were derived and checked by exact cubature and by minimisation before this package existed.
"""

import dataclasses

import numpy as np
import pytest

from iclkit.papers.linear_block import (
    RegressionPrior,
    gd_risk,
    gd_to_block,
    gd_zero,
    isotropic_prior,
    network_risk,
    optimal_gd,
    reduced_risk,
)
from tests.instances import PRIORS
from tests.tolerances import PRINTED

RISKS = {  # best block, best step from zero
    "FIG1": (2.727272727273, 4.836956521739),
    "TAB1": (6.885245901639, 114.347702875),
    "DIAG4": (2.140350877193, 3.410333414178),
    "GEN3": (1.491866984204, 2.665475048599),
    "RANKDEF": (0.778571428571, 1.240972507181),
    "POW20": (1.845049276818, 2.246467875711),
}
STEP_SIZES = {
    "FIG1": 0.4545454545 * np.eye(5),
    "TAB1": 0.6557377049 * np.eye(20),
    "DIAG4": np.diag([0.3333333333, 0.6666666667, 1.0526315789, 2.1052631579]),
    "GEN3": [
        [0.4035976626, -0.1671029599, 0.0282022866],
        [-0.1671029599, 0.5540585712, -0.0584243400],
        [0.0282022866, -0.0584243400, 0.8651881383],
    ],
}
ISOTROPIC = [  # noise_var, n_context, excess of the best step at d = 10
    (1, 10, 5.4545454545),
    (10, 10, 6.7741935484),
    (10, 100, 1.7355371901),
]
CONTEXTS = {  # n_context at test: excess of the step for 10 examples, of the best step
    2: (4.479794143, 2.690663332),
    5: (2.110191338, 1.910078782),
    10: (1.320323737, 1.320323737),
    20: (0.925389936, 0.837131100),
    40: (0.727923036, 0.494062546),
    1000: (0.538354812, 0.025232140),
}
MISMATCH = RegressionPrior(np.eye(5), np.ones(5), np.diag([2, 1, 0.5, 0.25, 0.1]), 0.5, 10)


@pytest.mark.parametrize("name", RISKS)
def test_optimal_risks(name):
    prior, (block, from_zero) = PRIORS[name], RISKS[name]
    best = optimal_gd(prior)
    assert best.risk == pytest.approx(block, rel=PRINTED)
    assert gd_zero(prior).risk == pytest.approx(from_zero, rel=PRINTED)
    matrices = gd_to_block(best.beta, best.gamma)
    assert network_risk(prior, *matrices) == pytest.approx(block, rel=PRINTED)


@pytest.mark.parametrize("name", STEP_SIZES)
def test_step_sizes(name):
    found = optimal_gd(PRIORS[name]).gamma
    np.testing.assert_allclose(found, STEP_SIZES[name], rtol=0, atol=PRINTED)


def test_step_sizes_on_the_range_of_the_inputs():
    found = optimal_gd(PRIORS["RANKDEF"]).gamma[:2, :2]
    np.testing.assert_allclose(found, np.diag([0.6857142857, 1.1428571429]), atol=PRINTED)
    found = optimal_gd(PRIORS["POW20"]).gamma[0, 0]
    assert found == pytest.approx(0.8274487224, rel=PRINTED)


def test_figure_1_by_hand():
    best = optimal_gd(PRIORS["FIG1"])
    assert best.risk == pytest.approx(30 / 11, rel=1e-14)
    np.testing.assert_allclose(best.gamma, 5 / 11 * np.eye(5), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("noise_var", "n_context", "excess"), ISOTROPIC)
def test_isotropic_excess(noise_var, n_context, excess):
    prior = isotropic_prior(10, n_context=n_context, noise_var=noise_var)
    assert optimal_gd(prior).risk - noise_var == pytest.approx(excess, rel=PRINTED)


@pytest.mark.parametrize(("gamma", "risk"), [((0.9, -1.5), 2.56298276), (None, 3.17455676)])
def test_the_polynomial(gamma, risk):
    prior = RegressionPrior([[1.5, 0.4], [0.4, 0.8]], [1, -2], [[0.7, -0.2], [-0.2, 1.1]], 0.25, 3)
    found = reduced_risk(
        prior, u=[0.3, -0.1], u0=0.6, U=[[0.5, 0.1], [-0.2, 0.7]], v=[0.05, -0.1], gamma=gamma
    )
    assert found == pytest.approx(risk, rel=PRINTED)


@pytest.mark.parametrize("n_context", CONTEXTS)
def test_other_contexts(n_context):
    fixed, best = CONTEXTS[n_context]
    beta, gamma, _ = optimal_gd(MISMATCH)
    assert gd_risk(MISMATCH, beta, gamma, n_context) - 0.5 == pytest.approx(fixed, rel=PRINTED)
    there = dataclasses.replace(MISMATCH, n_context=n_context)
    # the value at 1000 is printed with eight digits
    assert optimal_gd(there).risk - 0.5 == pytest.approx(best, rel=PRINTED, abs=5e-10)


def test_the_floor_of_a_fixed_step():
    beta, gamma, _ = optimal_gd(MISMATCH)
    assert gd_risk(MISMATCH, beta, gamma, np.inf) - 0.5 == pytest.approx(0.530456, abs=5e-7)
