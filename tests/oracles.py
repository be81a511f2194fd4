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


# ------------------------------------------------------------------ trained networks
#
# These use operators alone, so that they take NumPy arrays as well as tensors with gradients.


def _dense(weight, z):
    """An affine map of one token; the first column of the weight is the bias."""
    return weight[:, 0] + weight[:, 1:] @ z


def linear_network_by_tokens(weights, tokens):
    """The answer of full linear attention with biases to one prompt, token by token."""
    query = _dense(weights["query"], tokens[-1])
    attended = 0
    for token in tokens:
        score = _dense(weights["key"], token) @ query / len(query) ** 0.5
        attended = attended + score * _dense(weights["value"], token)
    return weights["readout"][0] + weights["readout"][1:] @ attended


def linear_network_without_biases(weights, tokens):
    """The same without biases."""
    query = weights["query"] @ tokens[-1]
    attended = 0
    for token in tokens:
        score = (weights["key"] @ token) @ query / len(query) ** 0.5
        attended = attended + score * (weights["value"] @ token)
    return weights["readout"] @ attended


def linear_network_all_tokens(weights, tokens):
    """The same with biases, as one would first write it: every token of a batch asks all others."""
    query, key, value = (
        tokens @ weights[name][:, 1:].T + weights[name][:, 0] for name in ("query", "key", "value")
    )
    scores = query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5
    return (scores @ value @ weights["readout"][1:] + weights["readout"][0])[:, -1]


def softmax_network_by_tokens(weights, blocks, tokens):
    """The answer of softmax blocks to one prompt: every token of every block, causal."""
    hidden = [_dense(weights["embed"], token) for token in tokens]
    for block in range(blocks):
        own = {name[:-1]: w for name, w in weights.items() if name.endswith(str(block))}
        hidden = [_softmax_position(own, hidden[: i + 1]) for i in range(len(hidden))]
    return weights["readout"][0] + weights["readout"][1:] @ hidden[-1]


def _softmax_position(own, past):
    """One block's output at the last of the hidden tokens it may look at."""
    query = own["query"] @ past[-1]
    shares = [np.e ** ((own["key"] @ u) @ query / len(query) ** 0.5) for u in past]
    mixed = sum(share * (own["value"] @ u) for share, u in zip(shares, past, strict=True))
    normed = _layer_norm(past[-1] + mixed / sum(shares), own["scale"][0], own["shift"][0])
    more = _dense(own["mlp"], normed) if "mlp" in own else normed
    return _layer_norm(normed + more, own["scale"][1], own["shift"][1])


def _layer_norm(u, scale, shift):
    mean = sum(u) / len(u)
    spread = sum((u - mean) ** 2) / len(u)
    return (u - mean) / (spread + 1e-6) ** 0.5 * scale + shift
