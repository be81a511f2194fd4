"""Simulated points of paper-size runs, to be drawn beside what a build measures.

A run at the papers' own sizes takes too long for every build. Its points and its rows of the ledger
are small; they stay under ``iclkit/data/paper``, one folder per notebook. `iclkit.bench.archive`
writes them there and tells what they found.
"""

import io
import re
from importlib import resources
from importlib.resources.abc import Traversable

import pandas as pd

from iclkit._checks import choice, instance, shown
from iclkit.bench.claims import PROFILES
from iclkit.bench.records import FIGURE_NAME

__all__ = ["PROFILE", "kept_folders", "kept_points"]

PROFILE = "paper"
LONGEST = 200  # characters of a figure's name; no file system has longer ones


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

    Raises
    ------
    TypeError
        If a name is no text.
    ValueError
        If the profile is unknown, or no figure can have the name.
    """
    choice("profile", profile, PROFILES)
    instance("figure", figure, str, "give the name that plots.show got")
    if not re.fullmatch(FIGURE_NAME, figure) or len(figure) > LONGEST:
        rule = f"lower-case words joined by hyphens, {LONGEST} characters at most"
        raise ValueError(f"figure must be {rule}, got {shown(figure)}")
    if table is not None:
        instance("table", table, str, "name one of the figure's tables")
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
