"""Slow and obvious versions of what the library computes, for comparison.

Nothing here shares code with the library.
"""

from decimal import Decimal, localcontext

import numpy as np
from scipy.optimize import brentq


def features_by_loops(x, y):
    """Features (h, s) of one context, as the definition reads."""
    n_context, dim = x.shape
    h, s = np.zeros(dim), 0.0
    for i in range(n_context):
        h += dim / n_context * y[i] * x[i]
        s += y[i] ** 2 / n_context
    return np.append(h, s)


def sample_features_brute(tasks, *, n_context, noise_var, rng):
    """Features of contexts that are drawn in full."""
    out = np.empty((len(tasks), tasks.shape[1] + 1))
    for row, task in enumerate(tasks):
        x = rng.standard_normal((n_context, len(task))) / np.sqrt(len(task))
        y = x @ task + np.sqrt(noise_var) * rng.standard_normal(n_context)
        out[row, :-1] = x.T @ y * (len(task) / n_context)
        out[row, -1] = y @ y / n_context
    return out


def feature_matrix(x_query, v):
    """All products of query and features, one prompt per column, (d m, n)."""
    return np.einsum("ni,nj->ijn", x_query, v).reshape(-1, len(v))


def bilinear_ridge_obvious(x_query, v, y, penalty):
    """Ridge pretraining as one would first write it: features, Gram matrix, LU."""
    H = feature_matrix(x_query, v)
    gram = H @ H.T
    gram[np.diag_indices_from(gram)] += penalty
    return np.linalg.solve(gram, H @ y).reshape(x_query.shape[1], v.shape[1])


def bilinear_min_norm(x_query, v, y):
    """Least-squares weights of the smallest norm, by the singular value decomposition."""
    H = feature_matrix(x_query, v)
    return np.linalg.lstsq(H.T, y, rcond=1e-12)[0].reshape(x_query.shape[1], v.shape[1])


def ridge_obvious(x, y, penalty):
    """Ridge weights of one data set, as least squares with d more rows."""
    dim = x.shape[1]
    rows = np.vstack([x, np.sqrt(penalty) * np.eye(dim)])
    return np.linalg.lstsq(rows, np.append(y, np.zeros(dim)), rcond=None)[0]


def pool_posterior_by_loops(x, y, tasks, noise_var):
    """Posterior probabilities of the tasks given one context, by Bayes' rule."""
    weights = []
    for task in tasks:
        likelihood = 1.0
        for x_i, y_i in zip(x, y, strict=True):
            likelihood *= np.exp(-((y_i - x_i @ task) ** 2) / (2 * noise_var))
        weights.append(likelihood)
    return np.array(weights) / sum(weights)


# ------------------------------------------------------------------ phase_transition


def linear_attention_readout(tokens, value, key, query):
    """The last entry of Z + V Z (K Z)^T (Q Z) / l, with all matrices written out."""
    n_context = tokens.shape[1] - 1
    keys, queries = key @ tokens, query @ tokens
    return (tokens + value @ tokens @ keys.T @ queries / n_context)[-1, -1]


def exact_curve(alpha, kappa, tau, rho, penalty):
    """Effective ridge, ICL and IDG error from the textbook sums in 60-digit arithmetic."""
    with localcontext() as context:
        context.prec = 60
        alpha, kappa, tau, rho, penalty = (Decimal(v) for v in (alpha, kappa, tau, rho, penalty))
        x = (1 + rho) / alpha
        xi = _exact_ridge(x, kappa, tau, penalty)
        nu = x + xi
        m = _exact_resolvent(nu, kappa)
        slope = -(m**2) / (1 - kappa * m**2 / (kappa + m) ** 2)
        t1 = 1 - nu * m
        t2 = 1 - 2 * nu * m - nu**2 * slope
        s2 = 1 - 2 * xi * m - xi**2 * slope
        idg = tau * (rho + x * t1 + xi * (t1 - t2)) / (tau - s2)
        icl = 1 + rho - 2 * t1 + (1 + x) * t2 + (1 + x) * idg / tau * (m + xi * slope)
        return float(xi), float(icl), float(idg)


def _exact_resolvent(z, kappa):
    b = z + 1 - 1 / kappa
    return 2 / (b + (b * b + 4 * z / kappa).sqrt())


def _exact_ridge(x, kappa, tau, penalty):
    """The root by bisection on a logarithmic scale, for any penalty."""

    def residual(xi):
        return 1 - tau + tau * penalty / xi - xi * _exact_resolvent(xi + x, kappa)

    if penalty == 0 and tau >= 1:
        return Decimal(0)
    low, high = Decimal("1e-40"), Decimal("1e40")
    for _ in range(220):
        middle = (low * high).sqrt()
        low, high = (middle, high) if residual(middle) > 0 else (low, middle)
    return middle


def effective_ridge_scalar(alpha, kappa, tau, rho, penalty):
    """Effective ridge at one point: a root search on the self-consistency equation."""
    x = (1 + rho) / alpha

    def resolvent(z):
        b = z + 1 - 1 / kappa
        root = np.sqrt(b**2 + 4 * z / kappa)
        return 2 / (b + root) if b > 0 else kappa * (root - b) / (2 * z)

    def excess(xi):
        return 1 - tau + tau * penalty / xi - xi * resolvent(xi + x)

    b, c = (1 - tau) * (1 + x) + tau * penalty, tau * penalty * (1 + x)
    high = (b + np.sqrt(b**2 + 4 * tau * c)) / (2 * tau)  # the root for a fresh task per prompt
    return brentq(excess, penalty / 2, 2 * high + penalty, xtol=1e-300, rtol=1e-14)
