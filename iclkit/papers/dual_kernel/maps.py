"""Random features of the softmax kernel, and attention computed with them, in stable form.

Keys, queries and values are columns, and keys and queries are scaled so that the kernel is
``exp(<x, y>)`` (see `attention`). The number m counts projections; hyperbolic and trigonometric
maps make two features of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from iclkit._checks import border, choice, count, finite_array, instance, keep, locked, scalar

__all__ = [
    "KINDS",
    "FeatureMap",
    "centre",
    "feature_attention",
    "feature_map",
    "kernel_ratios",
    "sampled_attention",
]

Floats = NDArray[np.float64]

#: Kinds of `feature_map`.
KINDS = ("positive", "hyperbolic", "trigonometric")

_NORMALISERS = ("features", "exact")


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Random features phi with ``E <phi(x), phi(y)> = exp(<x, y>)``; see `feature_map`.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
    projections : (m, d_k) array_like
        One standard normal vector per row.
    rho : float
        Concentration of the map, > 0; 1 is the plain map.

    Raises
    ------
    TypeError
        If a projection is not a real number.
    ValueError
        If the kind is unknown, the projections are no matrix, or rho is not positive.
    """

    kind: str
    projections: Floats
    rho: float = 1.0

    def __post_init__(self) -> None:
        rows = finite_array("projections", self.projections, ndim=2, single=True)
        rho = scalar("rho", self.rho, open_=True)
        keep(self, kind=checked_kind(self.kind), projections=locked(rows), rho=rho)

    @property
    def n_projections(self) -> int:
        """Number m of projections."""
        return len(self.projections)

    @property
    def n_features(self) -> int:
        """Number of features: m, or 2m for hyperbolic and trigonometric maps."""
        return self.n_projections * (1 if self.kind == "positive" else 2)

    @border
    def __call__(self, points: ArrayLike) -> Floats:
        """Return the features of points, plainly: they under- or overflow for long points.

        Parameters
        ----------
        points : (d_k,) or (d_k, n) array_like
            Scaled keys or queries, one per column.

        Returns
        -------
        (n_features,) or (n_features, n) array
        """
        logs, factors = self._parts(self._checked(points))
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(factors == 0, factors, np.exp(logs) * factors)

    @border
    def log_features(self, points: ArrayLike) -> Floats:
        """Return the logarithms of the features of points; they cannot under- or overflow.

        Parameters
        ----------
        points : (d_k,) or (d_k, n) array_like

        Returns
        -------
        (n_features,) or (n_features, n) array

        Raises
        ------
        ValueError
            If the map is trigonometric: its features can be negative.
        """
        if self.kind == "trigonometric":
            raise ValueError(
                "kind must be positive or hyperbolic to have logarithms, got trigonometric"
            )
        return self._parts(self._checked(points))[0]

    def _checked(self, points: ArrayLike) -> Floats:
        """Return points as an array that fits the projections, of their precision at least."""
        columns = _points("points", points)
        if len(columns) != self.projections.shape[1]:
            raise ValueError(
                f"points must have {self.projections.shape[1]} rows like the projections, "
                f"got shape {columns.shape}"
            )
        return columns

    def _parts(self, points: Floats) -> tuple[Floats, Floats]:
        """Return logs and factors of the features, ``phi = exp(logs) * factors``."""
        with np.errstate(over="ignore", invalid="ignore"):
            logs, factors = self._unchecked_parts(points)
        if not (np.isfinite(logs).all() and np.isfinite(factors).all()):
            raise ValueError(
                "points must have squared norms that are numbers, got an overflow; "
                "scale queries and keys down"
            )
        return logs, factors

    def _unchecked_parts(self, points: Floats) -> tuple[Floats, Floats]:
        """Return `_parts`, which may overflow.

        Squared norms are summed in float64: they can be long where their differences count.
        """
        angles = np.sqrt(1.0 - 4.0 * self.exponent, dtype=points.dtype) * (
            self.projections @ points
        )
        norms = 0.5 * np.sum(np.square(points, dtype=np.float64), axis=0)
        heights = self._heights().reshape(-1, *(1,) * (points.ndim - 1))
        if self.kind == "trigonometric":
            logs = np.concatenate([heights + norms] * 2)
            return logs.astype(angles.dtype), np.concatenate([np.cos(angles), np.sin(angles)])
        if self.kind == "hyperbolic":
            heights = np.concatenate([heights] * 2) - 0.5 * np.log(2.0)
            angles = np.concatenate([angles, -angles])
        return (angles + (heights - norms)).astype(angles.dtype), np.ones(1, angles.dtype)

    @property
    def exponent(self) -> float:
        """The constant ``A = (1 - 1/rho) / 8`` of the Gaussian factor ``exp(A |omega|^2)``."""
        return (1.0 - 1.0 / self.rho) / 8.0

    def _heights(self) -> Floats:
        """Return what the log features share over all points, one number per projection."""
        m, dim = self.projections.shape
        squares = np.sum(np.square(self.projections, dtype=np.float64), axis=1)
        heights: Floats = self.exponent * squares + 0.25 * dim * np.log1p(-4.0 * self.exponent)
        return heights - 0.5 * np.log(m)


@border
def feature_map(kind: str, projections: ArrayLike, *, rho: float = 1.0) -> FeatureMap:
    """Return a map whose inner products estimate the softmax kernel.

    Parameters
    ----------
    kind : {"positive", "hyperbolic", "trigonometric"}
    projections : (m, d_k) array_like
        One standard normal vector omega per row, see `projections`; float32 is kept.
    rho : float
        Concentration, > 0. Below 1 it tames long keys and queries, see
        `optimal_positive`; 1 is the plain map.

    Returns
    -------
    FeatureMap
        Callable: ``(d_k,) -> (n_features,)``, ``(d_k, n) -> (n_features, n)``.

    Raises
    ------
    TypeError
        If a projection is not a real number.
    ValueError
        If the kind is unknown, the projections are no matrix, or rho is not positive.

    Notes
    -----
    With m projections and ``rho = 1``::

        positive        m^(-1/2)    exp(-|x|^2/2) (exp(<omega_r, x>))
        hyperbolic      (2m)^(-1/2) exp(-|x|^2/2) (exp(<omega_r, x>), exp(-<omega_r, x>))
        trigonometric   m^(-1/2)    exp(+|x|^2/2) (cos <omega_r, x>, sin <omega_r, x>)

    For other rho every feature gets the factor ``(1 - 4A)^(d_k/4) exp(A |omega_r|^2)``, and
    ``omega_r`` is multiplied by ``sqrt(1 - 4A)``, with ``A = (1 - 1/rho)/8``. This is importance
    sampling: projections from a normal law of variance ``(1 + rho)/(2 rho)``, weighted back.

    References
    ----------
    Trigonometric: Rahimi and Recht 2007. Positive and hyperbolic: Choromanski et al. 2021. The
    factor with rho, for positive features: Likhosherstov et al. 2022. Formulas derived and checked
    here.

    Examples
    --------
    >>> import numpy as np
    >>> phi = feature_map("hyperbolic", [[1, 0], [0, 1], [1, -1]])
    >>> phi([1, 2]).shape, phi([[1, 0], [2, 0]]).shape
    ((6,), (6, 2))
    >>> bool(np.isclose(phi([0, 0]) @ phi([0, 0]), 1))
    True
    """
    rows = finite_array("projections", projections, ndim=2, single=True)
    return FeatureMap(kind, rows, rho)


@border
def feature_attention(
    queries: ArrayLike,
    keys: ArrayLike,
    values: ArrayLike,
    *,
    feature_map: FeatureMap,
    normaliser: str = "features",
    shift: ArrayLike | None = None,
) -> Floats:
    """Return attention outputs computed with features, in time linear in keys plus queries.

    Parameters
    ----------
    queries : (d_k,) or (d_k, n_queries) array_like
        Scaled queries.
    keys : (d_k, n) array_like
        Scaled keys.
    values : (d_v, n) array_like
    feature_map : FeatureMap
    normaliser : {"features", "exact"}
        Divide by the sum that the features give, or by the exact one (which costs as much as exact
        attention; it is there to be compared with).
    shift : (d_k,) array_like, optional
        Vector subtracted from all keys first, see `centre`. It changes the features but not
        attention.

    Returns
    -------
    (d_v,) or (d_v, n_queries) array
        In float32 if all arrays and the projections are, else in float64.

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite, a name is unknown, or the sum over features
        is not positive, which can happen with trigonometric features only.

    Notes
    -----
    ``h = [V Phi(Y)^T] phi(x) / <sum_j phi(y_j), phi(x)>``, where the bracket is formed once. The
    largest logarithm of each feature over the keys is moved from the keys to the query, and the
    largest one of the query is dropped: these factors cancel in the ratio, and what remains can
    neither overflow nor lose its denominator. So the error in float32 is that of the logarithms,
    6e-8 times their size.

    References
    ----------
    Performer attention of Choromanski et al. 2021; the stable form is derived here.

    Examples
    --------
    >>> phi = feature_map("positive", [[1.0], [-1.0], [0.5]])
    >>> feature_attention([2.0], [[40.0, 40.0]], [[1.0, 3.0]], feature_map=phi)
    array([2.])
    """
    normaliser = choice("normaliser", normaliser, _NORMALISERS)
    x, y, v = checked_parts(queries, keys, values)
    y = y if shift is None else y - checked_shift(shift, y)
    columns = x[:, None] if x.ndim == 1 else x
    numerator, denominator, logs = _sums(checked_map(feature_map), columns, y, v)
    if normaliser == "exact":
        output = _rescaled(numerator, logs - logsumexp(y.T @ columns, axis=0))
    else:
        output = numerator / _positive(denominator)
    return output[:, 0] if x.ndim == 1 else output


def _sums(phi: FeatureMap, x: Floats, y: Floats, v: Floats) -> tuple[Floats, Floats, Floats]:
    """Return sums over keys: values, and ones, each less a factor per query, and its logarithm."""
    key_features, query_features, top = balanced(phi, x, y)
    numerator = (v @ key_features.T) @ query_features
    return numerator, key_features.sum(axis=1) @ query_features, top


def balanced(phi: FeatureMap, x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return features of keys y and of queries x, less a factor per query, and its logarithm.

    The largest logarithm of each feature over the keys is moved to the queries, so that nothing
    overflows and the sum over all keys keeps its largest term.
    """
    key_logs, key_factors = phi._parts(phi._checked(y))
    query_logs, query_factors = phi._parts(phi._checked(x))
    height = key_logs.max(axis=1, keepdims=True)
    key_features = np.exp(key_logs - height) * key_factors
    query_logs = query_logs + height
    top = query_logs.max(axis=0)
    return key_features, np.exp(query_logs - top) * query_factors, top


def _rescaled(numerator: Floats, logs: Floats) -> Floats:
    """Return ``numerator exp(logs)``; a `ValueError` if it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        output = numerator * np.exp(logs)
    if not np.isfinite(output).all():
        raise ValueError(
            "the estimate must be finite, got an overflow; use normaliser='features' or another map"
        )
    return np.asarray(output)


def _positive(denominator: Floats) -> Floats:
    """Return the denominators, or say how many of them are not positive."""
    bad = np.count_nonzero(~(denominator > 0))
    if bad:
        raise ValueError(
            f"the sum over features must be > 0 for every query, got {bad} of {denominator.size} "
            "that are not; take more projections or a positive map"
        )
    return denominator


@border
def centre(queries: ArrayLike, keys: ArrayLike) -> Floats:
    """Return the shift of keys that centres what features see: mean query plus mean key.

    Parameters
    ----------
    queries : (d_k,) or (d_k, n_queries) array_like
    keys : (d_k, n) array_like

    Returns
    -------
    (d_k,) array
        ``c``; with keys ``y_j - c`` the mean of ``x + y_j - c`` is 0.

    Raises
    ------
    ValueError
        If the lengths differ or an entry is not finite.

    Notes
    -----
    Softmax does not change when one vector is subtracted from all keys; the error of features
    does. For one query it is best to centre about that query, but then the features of the keys
    belong to this query alone, and computing them costs more than exact attention: for use, take
    one shift for all queries. `best_shift` finds the best one.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> centre([1, 1], [[0, 2], [4, 0]])
    array([2., 3.])
    """
    x, y = checked_pair("queries", queries, "keys", finite_array("keys", keys, ndim=2))
    mean: Floats = x.reshape(len(x), -1).mean(axis=1, dtype=np.float64) + y.mean(axis=1)
    return mean


@border
def kernel_ratios(feature_map: FeatureMap, query: ArrayLike, keys: ArrayLike) -> Floats:
    """Return what each projection alone estimates, over the exact kernel.

    Parameters
    ----------
    feature_map : FeatureMap
    query : (d_k,) array_like
    keys : (d_k, n) array_like

    Returns
    -------
    (m, n) array
        Row r holds ``m <phi_r(x), phi_r(y_j)> / exp(<x, y_j>)`` for the features phi_r of
        projection r: the mean over all standard normal projections is 1.

    Raises
    ------
    ValueError
        If shapes do not fit or an entry is not finite.

    Notes
    -----
    What exceeds float64 is infinite.

    For simulations: rows of one large map can be grouped into many small ones, and the estimate of
    a group is the mean of its rows. With ``z = x + y`` and ``u = x - y``, positive maps have
    ``exp(<omega, z> - |z|^2/2)``, hyperbolic ones ``cosh <omega, z> exp(-|z|^2/2)``,
    trigonometric ones ``cos <omega, u> exp(|u|^2/2)``.

    References
    ----------
    Derived here.

    Examples
    --------
    >>> phi = feature_map("positive", [[1.0], [2.0]])
    >>> kernel_ratios(phi, [1.0], [[-1.0, 0.0]]).round(4)
    array([[1.    , 1.6487],
           [1.    , 4.4817]])
    """
    x, y = finite_array("query", query, ndim=1), finite_array("keys", keys, ndim=2)
    x, y = checked_map(feature_map)._checked(x), feature_map._checked(y)
    with np.errstate(over="ignore"):
        return _ratios(feature_map, paired(feature_map.kind, x, y))


def _ratios(feature_map: FeatureMap, points: Floats) -> Floats:
    """Return `kernel_ratios` from columns z or u; they may be infinite."""
    squares = 0.5 * squared_norms(points)
    angles = np.sqrt(1.0 - 4.0 * feature_map.exponent) * (feature_map.projections @ points)
    heights = 2.0 * feature_map._heights()[:, None] + np.log(feature_map.n_projections)
    if feature_map.kind == "trigonometric":
        return np.exp(heights + squares) * np.cos(angles)
    if feature_map.kind == "positive":
        return np.exp(heights + angles - squares)
    sides = heights - squares + np.abs(angles)
    return 0.5 * np.exp(sides) * (1.0 + np.exp(-2.0 * np.abs(angles)))


@border
def sampled_attention(
    feature_map: FeatureMap, queries: ArrayLike, keys: ArrayLike, *, n_draws: int = 1
) -> Floats:
    """Return attention matrices that several small maps give, cut from one large map.

    Parameters
    ----------
    feature_map : FeatureMap
        Its projections are split into `n_draws` groups of consecutive rows.
    queries : (d_k, n_queries) array_like
    keys : (d_k, n) array_like
    n_draws : int
        Must divide the number of projections.

    Returns
    -------
    (n_draws, n_queries, n) array
        Row by row divided by its sum; with values V the outputs are ``weights @ V.T``.

    Raises
    ------
    ValueError
        If shapes do not fit, an entry is not finite, or n_draws does not divide.

    Notes
    -----
    For simulations. Rows of trigonometric maps can have negative entries, and sums near 0.

    References
    ----------
    Derived here; each matrix is what `feature_attention` multiplies values with.

    Examples
    --------
    >>> phi = feature_map("positive", [[1.0], [2.0]])
    >>> sampled_attention(phi, [[1.0]], [[0.0, 1.0]], n_draws=2).round(3)
    array([[[0.378, 0.622]],
    <BLANKLINE>
           [[0.182, 0.818]]])
    """
    x, y = finite_array("queries", queries, ndim=2), finite_array("keys", keys, ndim=2)
    n_draws = count("n_draws", n_draws)
    if checked_map(feature_map).n_projections % n_draws:
        raise ValueError(
            f"n_draws must divide the number of projections, {feature_map.n_projections}, "
            f"got {n_draws}"
        )
    key_logs, key_factors = _by_draw(feature_map, y, n_draws)
    query_logs, query_factors = _by_draw(feature_map, x, n_draws)
    height = key_logs.max(axis=2, keepdims=True)
    query_logs = query_logs + height
    top = query_logs.max(axis=1, keepdims=True)
    key_features = np.exp(key_logs - height) * key_factors
    query_features = np.exp(query_logs - top) * query_factors
    kernel = np.swapaxes(query_features, 1, 2) @ key_features
    return kernel / kernel.sum(axis=2, keepdims=True)


def _by_draw(phi: FeatureMap, points: Floats, n_draws: int) -> tuple[Floats, Floats]:
    """Return logs and factors of the features, (n_draws, features of one draw, n)."""
    n = points.shape[1]
    parts = phi._parts(phi._checked(points))
    groups = [np.broadcast_to(part, (phi.n_features, n)) for part in parts]
    groups = [part.reshape(-1, n_draws, phi.n_projections // n_draws, n) for part in groups]
    logs, factors = (np.swapaxes(part, 0, 1).reshape(n_draws, -1, n) for part in groups)
    return logs, factors


# ------------------------------------------------------------------ arguments, for this package


def checked_kind(kind: str) -> str:
    """Return the kind, or say which there are."""
    return choice("kind", kind, KINDS)


def checked_map(feature_map: FeatureMap) -> FeatureMap:
    """Return `feature_map` if it is one."""
    return instance("feature_map", feature_map, FeatureMap, "make one with feature_map")


def checked_parts(
    queries: ArrayLike, keys: ArrayLike, values: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Return queries (d_k,) or (d_k, Q), keys (d_k, n) and values (d_v, n) of one precision."""
    x, y = checked_pair("queries", queries, "keys", finite_array("keys", keys, ndim=2, single=True))
    v = finite_array("values", values, ndim=2, single=True)
    if y.shape[1] != v.shape[1]:
        raise ValueError(f"keys and values must have as many columns, got {y.shape} and {v.shape}")
    dtype = np.result_type(x, y, v)
    return x.astype(dtype, copy=False), y.astype(dtype, copy=False), v.astype(dtype, copy=False)


def checked_pair(first: str, x: ArrayLike, second: str, y: ArrayLike) -> tuple[Floats, Floats]:
    """Return two arrays of vectors (d_k,) or columns (d_k, n) of one length."""
    left, right = _points(first, x), _points(second, y)
    if len(left) != len(right):
        raise ValueError(
            f"{first} and {second} must have one length, got shapes {left.shape} and {right.shape}"
        )
    return left, right


def checked_shift(shift: ArrayLike, keys: Floats) -> Floats:
    """Return a shift of keys as a column."""
    vector = finite_array("shift", shift, ndim=1)
    if len(vector) != len(keys):
        raise ValueError(f"shift must have length {len(keys)} like the keys, got {len(vector)}")
    return vector.astype(keys.dtype)[:, None]


def squared_norms(columns: Floats) -> Floats:
    """Return the squared norms of columns, (d_k, ...) to (...); a `ValueError` if one overflows."""
    with np.errstate(over="ignore"):
        squares = np.sum(columns**2, axis=0)
    if not np.isfinite(squares).all():
        raise ValueError(
            "queries plus keys must have squared norms that are numbers, got an overflow; "
            "scale queries and keys down"
        )
    return np.asarray(squares)


def paired(kind: str, queries: Floats, keys: Floats) -> Floats:
    """Return what the error of an entry depends on: ``x + y``, or ``x - y`` if trigonometric.

    Queries (d_k,) give (d_k, n); queries (d_k, Q) give (d_k, Q, n).
    """
    sign = -1.0 if kind == "trigonometric" else 1.0
    return queries[..., None] + sign * (keys if queries.ndim == 1 else keys[:, None])


def _points(name: str, points: ArrayLike) -> Floats:
    """Return one point (d_k,) or several as columns (d_k, n)."""
    array = finite_array(name, points, ndim=None, single=True)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must be a vector or a matrix of columns, got shape {array.shape}")
    return array
