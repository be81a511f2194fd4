"""Draw the picture of the start page and the README: theory and the authors' published points.

It needs no simulation, so it is stored; a test draws it again and compares.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from iclkit.bench import plots
from iclkit.papers import phase_transition as pt

PICTURE = Path(__file__).resolve().parents[1] / "book" / "_static" / "headline.svg"
ALPHAS = (1.0, 10.0, 100.0)
KAPPA, RHO = 0.5, 0.01


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(headline(), encoding="utf-8")


def headline() -> str:
    """Return the picture as SVG: double descent of the error on new tasks."""
    fig = plots.curves(
        theory(),
        published=points(),
        x="tau",
        y="icl",
        hue="alpha",
        xlabel=r"pretraining prompts / $d^2$  ($\tau$)",
        ylabel="error on new tasks",
        hue_label=r"$\ell / d$",
        labels=("theory", "simulation", "authors, d = 100"),
        ylim=(0, 8),
    )
    words = "The error on new tasks against the amount of pretraining data: double descent."
    bundle = plots.figure_bundle(fig, name="headline", caption=words, alt=words)
    return str(bundle["image/svg+xml"])


def theory() -> pd.DataFrame:
    """Return the asymptotic curves, with a gap at the divergence."""
    tau = np.concatenate([np.linspace(0.05, 0.97, 93), [np.nan], np.linspace(1.03, 2.2, 118)])
    rows = [pd.DataFrame({"alpha": a, "tau": tau, "icl": errors(a, tau)}) for a in ALPHAS]
    return pd.concat(rows, ignore_index=True)


def errors(alpha: float, tau: np.ndarray) -> np.ndarray:
    """Return the ridgeless error on new tasks, NaN where `tau` is."""
    known = np.isfinite(tau)
    icl = np.full_like(tau, np.nan)
    icl[known] = pt.learning_curve(alpha, KAPPA, tau[known], RHO).icl
    return icl


def points() -> pd.DataFrame:
    """Return the authors' points of the same setting."""
    table = pd.DataFrame(pt.published("figure1"))
    return table[["alpha", "tau", "icl", "icl_stderr"]]


if __name__ == "__main__":
    main()
