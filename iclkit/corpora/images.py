"""Handwritten digits in two dialects: the stand-in for real data that needs no encoder.

The file lies in scikit-learn, which is opened as a folder and never imported.
"""

from __future__ import annotations

import gzip
import zlib

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import generator, scalar
from iclkit.corpora.origins import SOURCES
from iclkit.corpora.packages import CorpusError, read
from iclkit.corpora.sentiment import Embedded

__all__ = ["digits", "parse_digits"]

_SIDE = 8
_FILE = "datasets/data/digits.csv.gz"


def digits(*, rng: np.random.Generator, noise_std: float = 6.0) -> dict[str, Embedded]:
    """Return pixels and labels of 1,797 digits, transposed with noise and clean.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the noise.
    noise_std : float
        Standard deviation of the noise of each pixel, >= 0; pixels run from 0 to 16.

    Returns
    -------
    dict of str to Embedded
        Source 0, "transposed", and source 1, "clean": ``E`` (1797, 64) pixels, ``y`` the label
        ``(digit - 4.5)/4.5``. Row i of both shows the same image: split the rows once, for both
        sources, into training and test images.

    Raises
    ------
    CorpusError
        If scikit-learn is missing or its file is not the pinned one.

    Notes
    -----
    New here: the sources differ in their task (pixels change places) and in their quality.
    """
    generator(rng)
    noise_std = scalar("noise_std", noise_std)
    pixels, digit = parse_digits(read(SOURCES["digits"], _FILE))
    turned = pixels.reshape(-1, _SIDE, _SIDE).transpose(0, 2, 1).reshape(pixels.shape)
    noisy = turned + noise_std * rng.standard_normal(pixels.shape)
    y = (digit - 4.5) / 4.5
    return {"transposed": Embedded(noisy, y), "clean": Embedded(pixels, y.copy())}


def parse_digits(content: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pixels (n, 64) and digits (n,) of the table of digits.

    Parameters
    ----------
    content : bytes
        Gzip-compressed comma-separated rows of 64 pixels, 0 to 16, and the digit.

    Returns
    -------
    pixels : (n, 64) ndarray
    digit : (n,) ndarray

    Raises
    ------
    CorpusError
        If the content does not read so.
    """
    try:
        lines = gzip.decompress(content).decode("ascii").split()
        table = np.array([line.split(",") for line in lines], dtype=np.float64)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _broken(str(error)) from None
    if table.ndim != 2 or table.shape[1] != _SIDE**2 + 1:
        raise _broken(f"shape {table.shape}")
    pixels, digit = table[:, :-1], table[:, -1]
    if not (np.isin(digit, range(10)).all() and ((pixels >= 0) & (pixels <= 16)).all()):
        raise _broken("other numbers")
    return pixels, digit


def _broken(found: str) -> CorpusError:
    """Return the one line about the content of the file."""
    origin = SOURCES["digits"]
    return CorpusError(
        f"{origin.name}: {_FILE} must be rows of 64 pixels from 0 to 16 and a digit, "
        f"got {found}; {origin.remedy}"
    )
