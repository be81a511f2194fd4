"""The linear transformer block against linear attention (Zhang, Wu and Bartlett 2024).

For chapter 2, exact throughout: the law of the prompts (`prior`). Names follow the paper where it
is read beside them: H is the input covariance, Psi the task covariance, M the context length.
"""

from iclkit.papers.linear_block.prior import (
    RegressionPrior,
    Whitened,
    isotropic_prior,
    whiten,
)

__all__ = [
    "RegressionPrior",
    "Whitened",
    "isotropic_prior",
    "whiten",
]
