"""The exact Bayes risk where all task variances are equal, for the curves that need no sampling.

The Bayes excess is ``phi E tr z (W + z)^{-1}`` with ``z = noise_var/phi`` and W a real Wishart
matrix of M degrees of freedom: one integral over the mean density of its eigenvalues, the Laguerre
orthogonal ensemble. With ``n = min(d, M)``, ``a = |d - M|``, the Laguerre functions ``psi_k``
orthonormal for the weight ``x^a e^-x`` and ``s_k = sqrt(k (k + a))`` it is ::

    sum_{k < n-1} psi_k(x)^2 + psi_{n-1}(x)/sqrt(x) * [c_n - s_{n-1}/2 * B_{n-2}(x)]

where ``c_n`` is ``1 / int psi_{n-1}/sqrt(x)`` for odd n, else 0, and ``B_k`` is a primitive of
``psi_k/sqrt(x)`` with ``s_{k+1} B_{k+1} = s_k B_{k-1} + 2 sqrt(x) psi_k``. The density is recalled
from Adler, Forrester, Nagao and van Moerbeke (2000); the recurrence was derived here, and the
tests compare the result with moments, with quadrature over all eigenvalues and with sampling.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from iclkit._checks import border
from iclkit.papers.linear_block.arrays import checked_prior
from iclkit.papers.linear_block.prior import RegressionPrior, whiten

__all__ = ["bayes_exact"]

Floats = NDArray[np.float64]

_EQUAL = 1e-10  # task variances that differ by less than this share are one


@border
def bayes_exact(prior: RegressionPrior) -> float:
    """Return the exact Bayes risk where all task variances are equal.

    Parameters
    ----------
    prior : RegressionPrior
        Whose ``H^{1/2} Psi H^{1/2}`` has one positive eigenvalue, of any multiplicity; or whose
        `noise_var` is 0 while ``n_context >= rank``.

    Returns
    -------
    float
        Noise included.

    Raises
    ------
    ValueError
        If the task variances differ and no closed form is known.

    Notes
    -----
    ``noise_var + phi E tr z (W + z)^{-1}`` with ``z = noise_var/phi`` and W a real Wishart matrix,
    integrated over the mean density of its eigenvalues by the trapezoid rule in t, where
    ``sqrt(x) = log(1 + e^t)``. The relative error is about 1e-11.

    References
    ----------
    New here; the density is recalled from Adler, Forrester, Nagao and van Moerbeke 2000, "Classical
    skew orthogonal polynomials and random matrices".

    Examples
    --------
    >>> from iclkit.papers.linear_block import isotropic_prior
    >>> round(bayes_exact(isotropic_prior(10, n_context=100, noise_var=10)), 9)
    10.998895791
    """
    white = whiten(checked_prior(prior))
    phi, noise_var = white.values[white.values > 0], white.noise_var
    rank, length = len(phi), white.n_context
    if not rank or (noise_var == 0 and length >= rank):
        return noise_var
    if phi.max() - phi.min() > _EQUAL * phi.max():
        raise ValueError(
            f"task variances must be equal, got {phi.min():.6g} to {phi.max():.6g}; "
            "use bayes_risk or bayes_equivalent"
        )
    value, seen = float(phi.mean()), min(rank, length)
    if noise_var == 0:
        return value * (rank - length)
    z = noise_var / value
    x, weight = _eigenvalue_density(seen, abs(rank - length), z)
    return noise_var + value * (rank - seen + float(np.sum(weight * (z / (x + z)))))


def _eigenvalue_density(n: int, extra: int, detail: float) -> tuple[Floats, Floats]:
    """Return nodes and weights of the mean density of a Wishart matrix of size n.

    The matrix has ``n + extra`` degrees of freedom; weights add up to n. Nodes
    resolve functions of ``x / detail`` near 0.
    """
    y, width, low, primitive = _nodes(n, extra, detail)
    scale = np.sqrt(np.arange(n + 1.0) * (np.arange(n + 1.0) + extra))
    old, now, square = np.zeros_like(y), low, np.zeros_like(y)
    for k in range(n - 1):  # Laguerre functions 0 to n - 1
        square += now**2
        if (n - k) % 2 and k < n - 2:
            primitive = (scale[k] * primitive + 2 * y * now) / scale[k + 1]
        old, now = now, ((2 * k + 1 + extra - y**2) * now - scale[k] * old) / scale[k + 1]
    last = now * width
    constant = 1 / last.sum() if n % 2 else 0.0
    return y**2, square * y * width + last * (constant - 0.5 * scale[n - 1] * primitive)


def _nodes(n: int, extra: int, detail: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Return sqrt(x), dx/sqrt(x), the ground state and its primitive (for even n, else 0)."""
    step, edge, reach = min(0.1, 0.25 / np.sqrt(n)), np.sqrt(n + extra), np.sqrt(n) + 9
    zero = min(1.0, np.sqrt(detail)) * np.exp(-40 / (extra + 1))
    ends = np.array([max(edge - reach, zero), edge + reach])
    first, last = ends + np.log(-np.expm1(-ends))
    t = np.arange(first, last, step)
    y, width, low = _ground(t, step, extra, edge)
    norm = np.sqrt(np.sum(low**2 * y * width))
    if n % 2:
        return y, width, low / norm, np.zeros_like(y)
    node, weight = np.polynomial.legendre.leggauss(3)
    _, slope, inner = _ground(t[:-1, None] + step * (1 + node) / 2, step, extra, edge)
    area = np.append(0.0, np.cumsum((slope * inner) @ weight / 2)) / norm
    return y, width, low / norm, area - area[-1] / 2


def _ground(t: Floats, step: float, extra: int, edge: float) -> tuple[Floats, Floats, Floats]:
    """Return sqrt(x), dx/sqrt(x) and the lowest Laguerre function, not normalised."""
    y = np.logaddexp(0, t)
    return y, 2 * step / (1 + np.exp(-t)), np.exp(extra * np.log(y / edge) - (y**2 - edge**2) / 2)
