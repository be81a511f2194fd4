"""The cross-covariance with explicit features: slow, obvious, no kernel trick, for tests alone."""

from itertools import product

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss

from tests.instances import det

W_K, W_V = 0.35 * det(3, 4, 3), det(2, 4, 4)  # the instance `gen`
TOKENS = det(4, 16, 5)
SHORT = 0.6 * W_K  # so short that the squared gap of Gaussian tokens has a variance


def taylor_features(key, degree=10):
    """Features whose inner products are the Taylor polynomial of exp(<k, k'>), one token."""
    parts, power = [np.ones(1)], np.ones(1)
    for n in range(1, degree + 1):
        power = np.kron(power, key) / np.sqrt(n)
        parts.append(power)
    return np.concatenate(parts)


def explicit_terms(tokens, W_K, W_V, degree=10):
    """Matrices v phi(k)^T, one per token."""
    keys = W_K @ tokens / len(W_K) ** 0.25
    features = [taylor_features(key, degree) for key in keys.T]
    return [np.outer(v, phi) for v, phi in zip((W_V @ tokens).T, features, strict=True)]


def token_rule(law, dim, n_nodes):
    """Tokens and weights of a product rule for the law."""
    x, w = leggauss(n_nodes) if law == "uniform" else hermegauss(n_nodes)
    tokens = np.array(list(product(x, repeat=dim))).T
    weights = np.prod(np.array(list(product(w / w.sum(), repeat=dim))), axis=1)
    return tokens, weights
