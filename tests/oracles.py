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


# ------------------------------------------------------------------ linear_block


def bayes_by_conditioning(prior, x, y, x_query):
    """Conditional mean of the query's label given the context's: one joint normal vector."""
    points = np.vstack([x, x_query])
    cov = points @ prior.task_cov @ points.T
    seen = cov[:-1, :-1] + prior.noise_var * np.eye(len(y))
    surprise = y - x @ prior.task_mean
    return x_query @ prior.task_mean + cov[-1, :-1] @ np.linalg.inv(seen) @ surprise


def block_by_loops(W_P, W_V, W_K, W_Q, W_1, W_2, tokens):
    """The answer of a linear block to one prompt, sum by sum; W_1 and W_2 may be None."""
    size, n_context = tokens.shape[1], len(tokens) - 1  # the last token is the query

    def image(W, z):
        return [sum(W[k][j] * z[j] for j in range(size)) for k in range(len(W))]

    def back(W, s):
        return [sum(W[k][j] * s[k] for k in range(len(W))) for j in range(size)]

    query, out = image(W_Q, tokens[-1]), list(tokens[-1])
    for i in range(n_context):
        key = image(W_K, tokens[i])
        score = sum(key[k] * query[k] for k in range(len(key))) / n_context
        value = back(W_P, image(W_V, tokens[i]))
        out = [out[j] + score * value[j] for j in range(size)]
    return out[-1] if W_1 is None else back(W_2, image(W_1, out))[-1]


def block_risk_by_cubature(prior, W_P, W_V, W_K, W_Q, W_1=None, W_2=None):
    """Exact risk of the literal network: tensor Gauss-Hermite nodes for every Gaussian variable.

    Squared answers have degree 4 in each variable of task, inputs and noise and 2 in the query,
    so 3 and 2 nodes integrate exactly.
    """
    dim, M = len(prior.task_mean), prior.n_context
    orders = [3] * (dim + M * dim + M) + [2] * dim
    z, weight = _tensor_nodes(orders)
    g, x, eps, query = np.split(z, np.cumsum([dim, M * dim, M]), axis=1)
    roots = [_symmetric_root(prior.task_cov), _symmetric_root(prior.input_cov)]
    task = prior.task_mean + g @ roots[0]
    x, query = x.reshape(-1, M, dim) @ roots[1], query @ roots[1]
    y = np.einsum("nij,nj->ni", x, task) + np.sqrt(prior.noise_var) * eps
    E = np.zeros((len(z), dim + 1, M + 1))
    E[:, :dim, :M], E[:, dim, :M], E[:, :dim, M] = x.swapaxes(1, 2), y, query
    scores = E[:, :, :M].swapaxes(1, 2) @ (W_K.T @ W_Q) @ E
    out = E + (W_P.T @ W_V) @ E[:, :, :M] @ scores / M
    out = out if W_1 is None else (W_2.T @ W_1) @ out
    error = out[:, -1, -1] - np.einsum("nj,nj->n", query, task)
    return prior.noise_var + weight @ error**2


def heads_risk_by_cubature(prior, heads, *, scratchpad=False):
    """Exact risk of a literal sum of heads, each a pair of matrices `(W_P^T W_V, W_K^T W_Q)`.

    The nodes of `block_risk_by_cubature`; with a scratchpad tokens are (x, 1, y).
    """
    dim, M = len(prior.task_mean), prior.n_context
    z, weight = _tensor_nodes([3] * (dim + M * dim + M) + [2] * dim)
    g, x, eps, query = np.split(z, np.cumsum([dim, M * dim, M]), axis=1)
    root = _symmetric_root(prior.input_cov)
    task = prior.task_mean + g @ _symmetric_root(prior.task_cov)
    x, query = x.reshape(-1, M, dim) @ root, query @ root
    y = np.einsum("nij,nj->ni", x, task) + np.sqrt(prior.noise_var) * eps
    ones = np.ones((len(z), M + 1, int(scratchpad)))
    x, y = np.concatenate([x, query[:, None]], axis=1), np.pad(y, ((0, 0), (0, 1)))
    E = np.concatenate([x, ones, y[..., None]], axis=2).swapaxes(1, 2)
    keys = E[:, :, :M]  # the query is not a key
    out = E + sum(PV @ keys @ (keys.swapaxes(1, 2) @ KQ @ E) / M for PV, KQ in heads)
    error = out[:, -1, -1] - np.einsum("nj,nj->n", query, task)
    return prior.noise_var + weight @ error**2


def _tensor_nodes(orders):
    rules = [np.polynomial.hermite_e.hermegauss(order) for order in orders]
    z = np.stack(np.meshgrid(*(nodes for nodes, _ in rules), indexing="ij"), axis=-1)
    weight = np.ones(1)
    for _, weights in rules:
        weight = np.multiply.outer(weight, weights / weights.sum()).ravel()
    return z.reshape(-1, len(orders)), weight


def _symmetric_root(cov):
    values, vectors = np.linalg.eigh(cov)
    return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T


def flow_velocity_as_printed(prior, beta, gamma):
    """Velocity of (beta, gamma) under half the negative gradient, as the paper's appendix reads."""
    H, Psi, m = prior.input_cov, prior.task_cov, prior.n_context
    e = beta - prior.task_mean
    kappa = np.trace(H @ Psi) + prior.noise_var
    rest = np.eye(len(e)) - gamma @ H
    H_gamma = rest.T @ H @ rest + H @ gamma.T @ H @ gamma @ H / m
    H_gamma = H_gamma + np.trace(H @ gamma.T @ H @ gamma) / m * H
    W_0 = (m + 1) / m * H @ Psi @ H + kappa / m * H
    outer = np.outer(e, e)
    slope = H @ gamma @ W_0 - H @ Psi @ H + (m + 1) / m * H @ gamma @ H @ outer @ H
    slope = slope + (e @ H @ e) / m * H @ gamma @ H - H @ outer @ H
    return -H_gamma @ e, -slope


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


def linear_block_by_matrices(weights, tokens):
    """The bottom-right entry of the linear block's output, by the paper's matrices."""
    E = tokens.T
    keys = E[:, :-1]  # the query is not a key
    scores = keys.T @ weights["W_K"].T @ weights["W_Q"] @ E / keys.shape[1]
    out = E + weights["W_P"].T @ weights["W_V"] @ keys @ scores
    return (weights["W_2"].T @ weights["W_1"] @ out if "W_1" in weights else out)[-1, -1]


def basic_transformer_by_tokens(weights, tokens, *, layers, residual=True, query_as_key=False):
    """The answer of softmax layers with ReLU MLPs to one prompt: every token of every layer."""
    normed = "scale0" in weights
    hidden = [_dense(weights["embed"], z) if "embed" in weights else z for z in tokens]
    for layer in range(layers):
        own = {name[:-1]: w for name, w in weights.items() if name.endswith(str(layer))}
        norms = list(zip(own["scale"], own["shift"], strict=True)) if normed else [None, None]
        seen = [_maybe_norm(u, norms[0]) for u in hidden]
        keys = seen if query_as_key else seen[:-1]
        hidden = [u + _heads(own, s, keys) for u, s in zip(hidden, seen, strict=True)]
        if "W_1_" in own:
            more = [_relu_mlp(own, _maybe_norm(u, norms[1])) for u in hidden]
            hidden = [u + m if residual else m for u, m in zip(hidden, more, strict=True)]
    if "readout" not in weights:
        return hidden[-1][-1]
    last = (weights["scale"][0], weights["shift"][0]) if normed else None
    return weights["readout"] @ _maybe_norm(hidden[-1], last)


def _maybe_norm(u, scale_and_shift):
    return u if scale_and_shift is None else _layer_norm(u, *scale_and_shift)


def _heads(own, query, keys):
    """What the heads of a layer add to one token."""
    added = 0
    for K, Q, V, P in zip(own["K"], own["Q"], own["V"], own["P"], strict=True):
        shares = [np.e ** ((K @ u) @ (Q @ query) / len(K) ** 0.5) for u in keys]
        mixed = sum(share * (V @ u) for share, u in zip(shares, keys, strict=True))
        added = added + P.T @ (mixed / sum(shares))
    return added


def _relu_mlp(own, u):
    units = _dense(own["W_1_"], u)
    return own["W_2_"].T @ ((abs(units) + units) / 2)


def attention_profile_dense(phi, mean, noise_var, n_context, b, u0):
    """Least excess risk of linear attention for given value weights: one dense linear solve."""
    M, kappa, square, d = n_context, sum(phi) + noise_var, phi @ phi, len(phi)
    more, power = 1 + 1 / M, b @ b + u0**2 * kappa
    K = more * (u0**2 * np.diag(phi) + np.outer(b, b)) + power / M * np.eye(d)
    n = u0 * (more * kappa + (1 + 3 / M) * phi) * b
    R = u0 * np.diag(phi) + np.outer(b, mean)
    p = u0 * kappa * mean + phi * b - R.T @ np.linalg.solve(K, n)
    rho = more * (u0**2 * kappa**2 + b @ (phi * b) + 2 * u0**2 * square)
    rho += (kappa * power + 2 * u0**2 * square) / M - n @ np.linalg.solve(K, n)
    return mean @ mean + sum(phi) - np.trace(R.T @ np.linalg.solve(K, R)) - p @ p / rho


LINKS = {
    "relu": lambda u: u * (u > 0),
    "tanh": np.tanh,
    "linear": lambda u: u,
}


def prompts_in_full(source, n_prompts, n_context, *, rng):
    """Prompts of chapter 3 drawn with every input: (x, y, x_query, y_query)."""
    eye = np.eye(source.d)
    tasks = eye + source.theta_xi * np.outer(source.gamma_xi, source.gamma_xi)
    inputs = eye + source.theta_x * np.outer(source.gamma_x, source.gamma_x)
    xi = rng.multivariate_normal(source.mu_xi, tasks, size=n_prompts)
    x = rng.multivariate_normal(source.mu_x, inputs, size=(n_prompts, n_context + 1))
    length = np.sqrt((xi**2).sum(axis=1, keepdims=True))
    u = np.einsum("nd,nld->nl", xi, x) / length / np.sqrt(np.linalg.norm(inputs, 2))
    y = LINKS[source.link](u) + source.noise * rng.standard_normal(u.shape)
    return x[:, :-1], y[:, :-1], x[:, -1], y[:, -1]


def population_ridge_errors(truth, shares, n, width, ridge, *, intercept, rng):
    """Return errors per population of ridge regression on drawn features, exact given the draw.

    Features are Gaussian with the diagonal covariances `spectra`, or `width` random combinations
    of them plus noise of variance `tails`; labels are linear in them, with mean and noise.
    """
    spectra, slopes, noises, tails, means = truth
    which = rng.choice(len(shares), size=n, p=shares)
    h = rng.standard_normal((n, spectra.shape[1])) * np.sqrt(spectra[which])
    y = np.sum(slopes[which] * h, axis=1) + means[which]
    y += noises[which] * rng.standard_normal(n)
    mixing = np.eye(spectra.shape[1])
    if np.isfinite(width):
        mixing = rng.standard_normal((spectra.shape[1], int(width))) / np.sqrt(width)
    design = h @ mixing
    if tails.any():
        rough = rng.standard_normal(design.shape) * np.sqrt(tails[which] / width)[:, None]
        design = design + rough
    if intercept:
        design = np.column_stack([design, np.ones(n)])
    penalty = n * ridge * np.eye(design.shape[1])
    if intercept:
        penalty[-1, -1] = 0
    weights = np.linalg.solve(design.T @ design + penalty, design.T @ y)
    constant = weights[-1] if intercept else 0.0
    weights = weights[: mixing.shape[1]]
    missed = slopes - mixing @ weights
    errors = np.sum(spectra * missed**2, axis=1) + noises**2 + (means - constant) ** 2
    return errors + (tails / width * np.sum(weights**2) if tails.any() else 0.0)
