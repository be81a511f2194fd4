"""The profile of linear attention, linear in the dimension, against a dense solve."""

import numpy as np

from benchmarks.timing import Calls
from iclkit.papers.linear_block.profile import Spectrum, block_excess, gap_and_slope
from iclkit.rng import stream
from tests.oracles import attention_profile_dense


def profile_against_dense(dim: int, batch: int) -> Calls:
    """Return the profile at a batch of value weights by both ways; ours adds its slope."""
    rng = stream(0, "profile", dim)
    phi, mean, n_context, noise_var = rng.gamma(1.0, size=dim), rng.standard_normal(dim), dim, 0.5
    b, u0 = rng.standard_normal((batch, dim)), rng.standard_normal(batch)
    law = Spectrum(phi, mean, np.zeros(dim), noise_var, n_context)
    excess = block_excess(phi, law.level, n_context)

    def dense() -> np.ndarray:
        rows = zip(b, u0, strict=True)
        return np.array(
            [attention_profile_dense(phi, mean, noise_var, n_context, *row) for row in rows]
        )

    return {"ours": lambda: gap_and_slope(law, b, u0[:, None])[0] + excess, "obvious": dense}
