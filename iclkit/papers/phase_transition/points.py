"""Numbers that the authors of Lu et al. 2025 published, as cited data points."""

from __future__ import annotations

import csv
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import border, choice

__all__ = ["published"]

_TEXT = ("figure", "model", "source", "note")


@border
def published(figure: str) -> dict[str, NDArray[np.float64] | NDArray[np.str_]]:
    """Return the authors' published numbers for one figure, column by column.

    Parameters
    ----------
    figure : str
        ``"figure1"``: simulations at d = 100 behind panels A and B, from the authors' run logs.
        ``"figure1_demo"``, ``"figure4_demo"``: demonstration rows of their released code at
        small d, which are not the data of the printed figures.
        ``"figure5a"``: trained full linear attention at d = 20 and 40.

    Returns
    -------
    dict of arrays
        ``d, alpha, kappa, tau, rho, penalty, repetitions`` (kappa is infinite for fresh tasks);
        ``icl, idg, gap`` with ``*_std``, the spread over repetitions as published (ddof = 0),
        and ``*_stderr``; text columns ``figure, model, source, note``. NaN where a row does
        not have a number.

    Raises
    ------
    ValueError
        If there are no numbers under that name.

    Notes
    -----
    ``stderr = std / sqrt(repetitions - 1)``, the usual estimate written for ddof = 0.

    References
    ----------
    Public repositories Pehlevan-Group/icl-asymptotic and
    Pehlevan-Group/incontext-asymptotics-experiments, both MIT.

    Examples
    --------
    >>> points = published("figure1")
    >>> len(points["icl"]), float(points["icl"][0])
    (18, 1.04656736)
    """
    path = resources.files("iclkit") / "data" / "lu2025_published.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    figure = choice("figure", figure, sorted({row["figure"] for row in rows}))
    chosen = [row for row in rows if row["figure"] == figure]
    table = {name: _column(name, [row[name] for row in chosen]) for name in rows[0]}
    root = np.sqrt(table["repetitions"] - 1.0)
    return table | {f"{name}_stderr": table[f"{name}_std"] / root for name in ("icl", "idg", "gap")}


def _column(name: str, cells: list[str]) -> NDArray:
    """Return a column as text or as numbers, NaN for empty cells."""
    return np.array(cells) if name in _TEXT else np.array([float(cell or "nan") for cell in cells])
