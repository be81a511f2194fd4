"""The equivalent of a neuron around what it has learned: it does not end at large steps.

For the page past the paper. A gradient step moves each neuron's pre-activation by an amount that
varies smoothly from prompt to prompt; the rest stays Gaussian. The polynomial equivalent expands
the activation around zero, in powers of both, and must fail once the shift is not small. Here it
is expanded around the shift, in Hermite polynomials of the Gaussian part alone. How fast the
polynomial equivalent fails is a ratio of second moments.
"""

from __future__ import annotations

from math import factorial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from iclkit import hermite
from iclkit._checks import border, count, finite_array, generator, instance, scalar
from iclkit.hermite import Function
from iclkit.papers.data_mixing.head import PreActivations
from iclkit.papers.data_mixing.sources import magnitude
from iclkit.papers.data_mixing.surrogate import Expansion, expansion

__all__ = ["ShiftedExpansion", "conditional_features", "inflation", "shifted_expansion"]

Floats = NDArray[Any]
_STEP, _HALF = 0.25, 35  # nodes of the quadrature: from -8.75 to 8.75


class ShiftedExpansion(NamedTuple):
    """Expansion of an activation of ``s + r g``, g ~ N(0, 1), in Hermite polynomials of g.

    Attributes
    ----------
    coefficients : (degree + 1, m, k) array
        ``c_j = E sigma(s + r g) He_j(g)``.
    residual : (m, k) array
        Standard deviation of what the polynomial leaves out.
    """

    coefficients: Floats
    residual: Floats


@border
def shifted_expansion(
    shift: ArrayLike, radius: ArrayLike, degree: int, *, activation: str | Function = "relu"
) -> ShiftedExpansion:
    """Return the Hermite expansion of an activation around shifted arguments.

    Parameters
    ----------
    shift : (m, k) array_like
    radius : (m,) array_like
        Standard deviations of the Gaussian part, >= 0, one per row.
    degree : int
        From 0 to 20.
    activation : str or callable
        As in `iclkit.hermite.activation`; other than ``relu`` and ``abs`` it must be smooth.

    Returns
    -------
    ShiftedExpansion

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, a radius is negative or the activation is not known.

    Notes
    -----
    ``E f(u + g) He_j(g)`` is the j-th derivative of ``R(u) = E f(u + g)``. For relu with
    ``u = s / r`` and the normal density f, ``R = f(u) + u Phi(u)``, ``R' = Phi(u)`` and
    ``R^(j) = (-1)^j He_{j-2}(u) f(u)`` beyond, so ``c_j = r R^(j)(u)``; abs is relu of both signs.
    Otherwise the trapezoidal rule
    with 71 nodes: exact to rounding for entire functions, to 1e-8 for tanh up to radius 2.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> at_zero = shifted_expansion([[0.0]], [1.0], 2)  # the coefficients of relu, as without shift
    >>> at_zero.coefficients.ravel().round(6), at_zero.residual.round(6)
    (array([0.398942, 0.5     , 0.398942]), array([[0.106149]]))
    """
    shift = finite_array("shift", shift, ndim=2, single=True)
    radius = finite_array("radius", radius, ndim=1)
    if len(shift) != len(radius):
        raise ValueError(f"radius must hold one value per row, {len(shift)}, got {len(radius)}")
    if (radius < 0).any():
        raise ValueError(f"radius must be >= 0, got {radius.min():g}")
    degree = count("degree", degree, low=0, high=20)
    hermite.activation(activation)
    column = radius.astype(shift.dtype)[:, None]
    table, square = _expanded(shift, column, degree, activation)
    explained = sum(c * c / factorial(j) for j, c in enumerate(table))
    return ShiftedExpansion(table, np.sqrt(np.maximum(square - explained, 0)))


def _expanded(
    shift: Floats, radius: Floats, degree: int, activation: str | Function
) -> tuple[Floats, Floats]:
    """Return coefficients (degree + 1, m, k) and the mean square (m, k)."""
    if activation == "relu":
        return _relu(shift, radius, degree)
    if activation == "abs":
        up, down = _relu(shift, radius, degree), _relu(-shift, radius, degree)
        signs = (-1.0) ** np.arange(degree + 1).astype(shift.dtype)[:, None, None]
        return up[0] + signs * down[0], up[1] + down[1]
    return _by_quadrature(shift, radius, degree, activation)


def _relu(shift: Floats, radius: Floats, degree: int) -> tuple[Floats, Floats]:
    u = np.divide(shift, radius, out=40 * np.sign(shift), where=radius > 0)
    below = ndtr(u)
    density = np.exp(-u * u / 2) * u.dtype.type(1 / np.sqrt(2 * np.pi))
    mean = radius * density + shift * below
    table = np.empty((degree + 1, *shift.shape), dtype=shift.dtype)
    table[0] = mean
    if degree >= 1:
        table[1] = radius * below
    if degree >= 2:
        signs = (-1.0) ** np.arange(degree - 1).astype(shift.dtype)[:, None, None]
        table[2:] = signs * hermite.polynomials(u, degree - 2) * (radius * density)
    return table, radius * radius * below + shift * mean


def _by_quadrature(
    shift: Floats, radius: Floats, degree: int, activation: str | Function
) -> tuple[Floats, Floats]:
    sigma = hermite.checked(activation)
    nodes = _STEP * np.arange(-_HALF, _HALF + 1)
    weights = _STEP * np.exp(-nodes * nodes / 2) / np.sqrt(2 * np.pi)
    factors = hermite.polynomials(nodes, degree) * weights
    table = np.zeros((degree + 1, *shift.shape), dtype=shift.dtype)
    square = np.zeros_like(shift)
    for z, factor in zip(nodes.astype(shift.dtype), factors.T.astype(shift.dtype), strict=True):
        values = sigma(shift + radius * z)
        for row, f in zip(table, factor, strict=True):
            row += f * values
        square += factor[0] * values * values
    return table, square


@border
def conditional_features(
    moved: PreActivations,
    step_size: float,
    degree: int,
    *,
    rng: np.random.Generator,
    activation: str | Function = "relu",
) -> Floats:
    """Return features of the equivalent around the shifts, for ``sigma(start + eta shift)``.

    Parameters
    ----------
    moved : PreActivations
        From `take_step`.
    step_size : float
        eta, >= 0.
    degree : int
        Of the polynomial in the Gaussian part, from 0 to 20. One resolves what is linear in the
        attention feature.
    rng : numpy.random.Generator
        For the noise, fresh per neuron and prompt.
    activation : str or callable
        As in `shifted_expansion`.

    Returns
    -------
    (m, k) array

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it.

    Notes
    -----
    ``sum_j (c_j / j!) He_j(start / r) + residual zeta`` with the expansion at shift ``eta shift``
    and radius r. Whatever the step, its argument stays standard normal over the neurons, so its
    degree need not grow with the step and nothing explodes.

    References
    ----------
    New here: the conditional equivalence of Demir and Dogan 2025, Theorem D.2, made into a
    model. Their Theorem 4.12 expands the shift, too.

    Examples
    --------
    >>> from iclkit.rng import stream
    >>> moved = PreActivations(np.ones((1, 2)), np.ones((1, 2)), np.ones(1))
    >>> rng = stream(0, "example")
    >>> conditional_features(moved, 3.0, 1, rng=rng, activation="linear").round(12)
    array([[4., 4.]])
    """
    instance("moved", moved, PreActivations, "make it with take_step")
    eta = moved.start.dtype.type(magnitude("step_size", step_size))
    parts = shifted_expansion(eta * moved.shift, moved.radius, degree, activation=activation)
    tiny = np.finfo(moved.start.dtype).tiny
    unit = moved.start / np.maximum(moved.radius, tiny).astype(moved.start.dtype)[:, None]
    features = generator(rng).standard_normal(unit.shape, dtype=unit.dtype.type)
    features *= parts.residual
    for j, (c, he) in enumerate(
        zip(parts.coefficients, hermite.polynomials(unit, degree), strict=True)
    ):
        features += c * he / factorial(j)
    return features


@border
def inflation(
    degree: int,
    variances: ArrayLike,
    *,
    activation: str | Function = "relu",
    radius: float = 1.0,
) -> Floats:
    """Return how many times too much power the polynomial equivalent of a neuron has.

    Parameters
    ----------
    degree : int
        Degree p of the polynomial, from 0 to 60.
    variances : (m,) array_like
        Variance of what a prompt's neurons receive, in units of its value before the gradient
        step, >= 1 as a rule.
    activation : str or callable
        As in `iclkit.hermite.activation`.
    radius : float
        The standard deviation before the step, > 0; for relu it does not matter.

    Returns
    -------
    (m,) array
        ``(E P(r tau g)^2 + c*_p(r)^2) / E sigma(r tau g)^2``: 1 at variance ``tau^2 = 1``, and
        growing like ``tau^(2 p - 2)`` for relu and even p >= 2.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; the message names it.

    Notes
    -----
    P is the expansion of sigma at radius r to degree p. It is the best polynomial for a Gaussian
    of that radius, and for no other.

    References
    ----------
    New here.

    Examples
    --------
    >>> inflation(4, [1.0, 1.5, 4.0]).round(3)
    array([1.   , 1.   , 1.661])
    """
    degree = count("degree", degree, low=0, high=60)
    tau = np.sqrt(_at_least_zero("variances", variances))
    magnitude("variances", float(tau.max()) ** 2)
    radius = magnitude("radius", scalar("radius", radius, open_=True))
    parts = expansion(activation, degree, [radius])
    sigma = hermite.checked(activation)
    return np.array([_power_ratio(parts, sigma, radius, t) for t in tau])


def _at_least_zero(name: str, values: ArrayLike) -> Floats:
    checked = finite_array(name, values, ndim=1)
    if (checked < 0).any():
        raise ValueError(f"{name} must be >= 0, got {checked.min():g}")
    return checked


def _power_ratio(parts: Expansion, sigma: Function, radius: float, tau: float) -> float:
    polynomial, noise = parts.polynomial[0], parts.residual[0]
    held = hermite.gaussian_mean(
        lambda z: np.polynomial.hermite_e.hermeval(tau * z, polynomial) ** 2
    )
    true = hermite.gaussian_mean(lambda z: sigma(radius * tau * z) ** 2)
    if not true > 0:
        raise ValueError("variances must be > 0 where the activation vanishes at zero, got 0")
    return (held + noise**2) / true
