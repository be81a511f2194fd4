"""Random priors and random weights for the tests of chapter 2."""

import numpy as np

from iclkit.papers.linear_block import RegressionPrior, Weights


def random_prior(rng, dim, n_context, *, noise_var=0.3, ranks=None):
    """A prior with dense covariances, of the given ranks (input, task) where asked."""
    factors = [rng.standard_normal((dim, rank)) for rank in ranks or (dim, dim)]
    input_cov, task_cov = (factor @ factor.T / dim for factor in factors)
    return RegressionPrior(
        input_cov, rng.standard_normal(dim), task_cov, noise_var=noise_var, n_context=n_context
    )


def random_weights(rng, dim, *, mlp=True, widths=(2, 3, 4), scale=0.7):
    """Weights with different widths of value, key and perceptron."""
    rows = np.repeat(widths, 2)[: 6 if mlp else 4]
    return Weights(*(scale * rng.standard_normal((row, dim + 1)) for row in rows))
