"""The polynomial equivalent of a neuron: as printed, and adapted to the norm of each prompt.

For the pages on the equivalence. A *feature map* turns the pre-activations of a batch of prompts
into features. The network applies its activation; its equivalents keep a Hermite polynomial of
low degree and put fresh noise in the place of the rest.
"""

from __future__ import annotations

from functools import lru_cache
from math import factorial
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.hermite_e import hermeval
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from iclkit import hermite
from iclkit._checks import border, count, finite_array, generator
from iclkit.papers.data_mixing.simulation import FeatureMap

__all__ = ["Expansion", "adapted", "expansion", "plain"]

Floats = NDArray[Any]  # float64, or float32 where the pre-activations are

_KNOTS = np.linspace(0.0, 4.5, 181)  # radii beyond are rare and done by quadrature
_TINY = 1e-300  # a radius of zero has pre-activations of zero


class Expansion(NamedTuple):
    """Coefficients ``c_j(r) / j!`` (m, degree + 1) and residuals ``c*_p(r)`` (m,) at m radii."""

    polynomial: Floats
    residual: Floats


@border
def plain(
    activation: str | hermite.Function, degree: int, *, rng: np.random.Generator
) -> FeatureMap:
    """Return the feature map of the equivalent as the theorem states it.

    Parameters
    ----------
    activation : str or callable
        A name (see `iclkit.hermite.activation`) or a function of arrays.
    degree : int
        Degree p of the polynomial, from 0 to 60.
    rng : numpy.random.Generator
        Source of the noise, which every call of the map draws anew.

    Returns
    -------
    callable
        ``(z, radius) -> features``; the radius is checked and otherwise not used.

    Raises
    ------
    ValueError, TypeError
        If the activation is not known or an argument is out of range; by the map, if shapes
        disagree or a radius is negative.

    Notes
    -----
    ``sum_{j<=p} (c_j / j!) He_j(z) + c*_p zeta`` with one standard normal zeta per neuron and
    prompt. The polynomials are orthogonal for a standard normal z only; with the heavier tails
    that z has at small dimension the high degrees explode, see `adapted`.

    References
    ----------
    Demir and Dogan 2025, Theorem 4.12; the printed formula was not available and is rebuilt from
    the inline definitions of its parts.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> line = plain("linear", 1, rng=stream(0, "example"))
    >>> line(np.array([[1.0, -2.0]]), np.ones(1)).round(8)
    array([[ 1., -2.]])
    """
    at_one = _exact(activation, _degree(degree), np.ones(1))
    noise = generator(rng)

    def feature_map(z: Floats, radius: Floats) -> Floats:
        z, _ = _checked(z, radius)
        return _features(z, at_one, noise)

    return feature_map


@border
def adapted(
    activation: str | hermite.Function, degree: int, *, rng: np.random.Generator
) -> FeatureMap:
    """Return the feature map of the equivalent that knows the norm of each prompt.

    Parameters
    ----------
    activation, degree, rng
        As in `plain`.

    Returns
    -------
    callable
        ``(z, radius) -> features``.

    Raises
    ------
    ValueError, TypeError
        As in `plain`.

    Notes
    -----
    Before the step the pre-activations of a prompt of radius r are exactly N(0, r^2) over the
    draw of the hidden weights. So the activation is expanded at that scale,
    ``sum_{j<=p} (c_j(r) / j!) He_j(z / r) + c*_p(r) zeta`` with
    ``c_j(r) = E sigma(r z) He_j(z)``. As the dimension grows all radii tend to 1, and the map to
    that of `plain`. For the coefficients see `expansion`.

    References
    ----------
    New here; it refines the equivalent of Demir and Dogan 2025, Theorem 4.12.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> square = adapted(np.square, 2, rng=stream(0, "example"))
    >>> square(np.array([[3.0], [0.5]]), np.array([2.0, 0.5])).round(8)
    array([[9.  ],
           [0.25]])
    """
    degree, noise = _degree(degree), generator(rng)
    hermite.activation(activation)  # an unknown name is an error now, not at the first call

    def feature_map(z: Floats, radius: Floats) -> Floats:
        z, radius = _checked(z, radius)
        unit = z / np.maximum(radius, _TINY).astype(z.dtype)[:, None]
        return _features(unit, expansion(activation, degree, radius), noise)

    return feature_map


@border
def expansion(activation: str | hermite.Function, degree: int, radii: ArrayLike) -> Expansion:
    """Return the polynomial and the residual of an activation at several scales of its argument.

    Parameters
    ----------
    activation : str or callable
    degree : int
        From 0 to 60.
    radii : (m,) array_like
        Standard deviations of the argument, >= 0.

    Returns
    -------
    polynomial : (m, degree + 1) ndarray
        Factors ``c_j(r) / j!`` of ``He_j(z / r)``.
    residual : (m,) ndarray
        Standard deviation ``c*_p(r)`` of what the polynomial leaves out.

    Raises
    ------
    ValueError, TypeError
        If the activation is not known, the degree is out of range, or a radius is negative.

    Notes
    -----
    Up to radius 4.5 by cubic splines, which for the named activations err by less than 1e-6; beyond
    by quadrature.

    References
    ----------
    New here.

    Examples
    --------
    >>> expansion("relu", 1, [1.0, 2.0]).polynomial.round(6)
    array([[0.398942, 0.5     ],
           [0.797885, 1.      ]])
    """
    radii, degree = _radii(radii), _degree(degree)
    inside = radii <= _KNOTS[-1]
    table = np.empty((radii.size, degree + 2))
    table[inside] = _splines(activation, degree)(radii[inside])
    if not inside.all():
        table[~inside] = np.column_stack(_exact(activation, degree, radii[~inside]))
    return Expansion(table[:, :-1], np.maximum(table[:, -1], 0.0))


@lru_cache(maxsize=32)
def _splines(activation: str | hermite.Function, degree: int) -> CubicSpline:
    """Return the splines of all coefficients and, last, of the residual."""
    return CubicSpline(_KNOTS, np.column_stack(_exact(activation, degree, _KNOTS)))


def _exact(activation: str | hermite.Function, degree: int, radii: Floats) -> Expansion:
    scale = np.array([float(factorial(j)) for j in range(degree + 1)])
    polynomial = hermite.scaled_coefficients(activation, radii, degree) / scale
    return Expansion(polynomial, hermite.scaled_residual(activation, radii, degree))


def _features(z: Floats, parts: Expansion, rng: np.random.Generator) -> Floats:
    """Return polynomial plus noise, (m, k), in the precision of z."""
    single: Any = np.float32 if z.dtype == np.float32 else np.float64
    weights: Floats = parts.polynomial.T[..., None].astype(single)  # (degree + 1, m or 1, 1)
    features = rng.standard_normal(z.shape, dtype=single)
    features *= parts.residual[:, None].astype(single)
    features += hermeval(z, weights, tensor=False)
    return features


def _degree(degree: int) -> int:
    return count("degree", degree, low=0, high=60)


def _radii(radii: ArrayLike) -> Floats:
    radii = finite_array("radius", radii, ndim=1)
    if (radii < 0).any():
        raise ValueError(f"radius must be >= 0, got {radii.min():g}")
    return radii


def _checked(z: ArrayLike, radius: ArrayLike) -> tuple[Floats, Floats]:
    z, radii = finite_array("z", z, ndim=2, single=True), _radii(radius)
    if len(z) != len(radii):
        raise ValueError(f"radius must hold one value per row of z, {len(z)}, got {len(radii)}")
    return z, radii
