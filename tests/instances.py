"""The priors at which the reference values of chapter 2 are known, by name."""

import numpy as np

from iclkit.papers.linear_block.prior import RegressionPrior, isotropic_prior

POWER = np.diag(np.arange(1.0, 21.0) ** -1.5)

PRIORS = {
    "FIG1": isotropic_prior(5, n_context=5, mean=1.0),
    "TAB1": isotropic_prior(20, n_context=40, mean=10.0),
    "DIAG4": RegressionPrior(
        np.diag([2, 1, 0.5, 0.25]), [1, -1, 2, 0], np.diag([0.5, 1, 1, 2]), 1.0, 10
    ),
    "GEN3": RegressionPrior(
        [[2, 0.5, 0], [0.5, 1, 0.2], [0, 0.2, 0.5]],
        [1, -2, 0.5],
        [[1, -0.3, 0], [-0.3, 0.6, 0.1], [0, 0.1, 0.8]],
        0.5,
        7,
    ),
    "RANKDEF": RegressionPrior(np.diag([1, 0.5, 0]), [1, 1, 5], np.eye(3), 0.25, 6),
    "POW20": RegressionPrior(POWER, np.ones(20), np.eye(20), 1.0, 20),
}
