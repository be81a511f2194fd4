"""Simulated points of paper-size runs, to be drawn beside what a build measures.

A run at the papers' own sizes takes too long for every build. Its points and its rows of the ledger
are small; they stay under ``iclkit/data/paper``, one folder per notebook. `iclkit.bench.archive`
writes them there and tells what they found.
"""

import io
from importlib import resources
from importlib.resources.abc import Traversable

import pandas as pd

__all__ = ["PROFILE", "kept_folders", "kept_points"]

PROFILE = "paper"


def kept_points(figure: str, profile: str, table: str | None = None) -> pd.DataFrame | None:
    """Return the points that a paper-size run simulated for a figure, or None without such a run.

    Parameters
    ----------
    figure : str
        The figure's name, as in ``plots.show(..., name=figure)``.
    profile : str
        The profile of the asking run: a run at paper size draws its own points, so it gets None.
    table : str, optional
        Only the points of this one of the figure's tables.
    """
    if profile == PROFILE:
        return None
    for folder in kept_folders():
        file = folder / f"{figure}.csv"
        if file.is_file():
            points = pd.read_csv(io.StringIO(file.read_text(encoding="utf-8")))
            return points if table is None else points[points["table"] == table]
    return None


def kept_folders() -> list[Traversable]:
    """Return the folders of the kept runs, in the order of the notebooks."""
    place = resources.files("iclkit") / "data" / PROFILE
    if not place.is_dir():
        return []
    return sorted(
        (f for f in place.iterdir() if f.is_dir() and f.name[0] != "."),
        key=lambda folder: folder.name,
    )
