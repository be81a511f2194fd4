"""One dual model for all queries: demonstrations stream in, and can be taken out again.

With targets ``(v; 1)`` the normaliser becomes one more output of the model, and nothing in its
loss depends on the query any more. For the chapter's main page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from iclkit._checks import border, count, finite_array, locked
from iclkit.papers.dual_kernel.attention import attention_output
from iclkit.papers.dual_kernel.dual import DualModel
from iclkit.papers.dual_kernel.maps import FeatureMap

__all__ = ["ExactStream", "FeatureStream", "exact_stream", "feature_stream"]

Floats = NDArray[np.float64]

_MOST = 1e12  # of `cancellation`: answers keep four digits
_SAME = 1e-9  # relative difference of two logarithms that are equal but for rounding


class ExactStream(NamedTuple):
    """Attention as one trained model: it remembers its tokens and serves every query.

    Attributes
    ----------
    keys : (d_k, n) array
        Scaled keys of the tokens learned so far.
    values : (d_v, n) array

    Notes
    -----
    One gradient step from zero, at rate 1, on ``-sum_i <(v_i; 1), W phi(y_i)>`` gives
    ``W = sum_i (v_i; 1) phi(y_i)^T``. Its first d_v outputs over its last one are softmax
    attention, for any query. One more token is one more step; a token less is a term less.

    References
    ----------
    New here. Targets ``(v; 1)`` are the normaliser of Katharopoulos et al. 2020.

    Examples
    --------
    >>> stream = exact_stream([[0, 1]], [[1, 3]]).learn([[2]], [[5]])
    >>> stream([[0, 1]]).round(3), stream.forget(2)([[0, 1]]).round(3)
    (array([[3.  , 4.15]]), array([[2.   , 2.462]]))
    """

    keys: Floats
    values: Floats

    @border
    def learn(self, keys: ArrayLike, values: ArrayLike) -> ExactStream:
        """Return the stream after further tokens: one step for each."""
        keys, values = _pairs(keys, values)
        _check_rows(keys, values, len(self.keys), len(self.values))
        both = (self.keys, keys), (self.values, values)
        return ExactStream(*(np.concatenate(parts, axis=1) for parts in both))

    @border
    def forget(self, index: int) -> ExactStream:
        """Return the stream as if token `index`, counted from 0, had never come."""
        index = count("index", index, low=0)
        if index >= self.keys.shape[1]:
            raise ValueError(f"index must be < {self.keys.shape[1]} tokens, got {index}")
        return ExactStream(np.delete(self.keys, index, 1), np.delete(self.values, index, 1))

    @property
    def model(self) -> DualModel:
        """The trained model itself, with d_v + 1 outputs."""
        return DualModel(self.keys, _targets(self.values))

    @border
    def __call__(self, queries: ArrayLike) -> Floats:
        """Return the attention outputs (d_v, n_queries) of scaled queries (d_k, n_queries)."""
        if self.keys.shape[1] == 0:
            raise ValueError("the stream must have learned a token before it is asked, got none")
        return attention_output(queries, self.keys, self.values)


@border
def exact_stream(keys: ArrayLike, values: ArrayLike) -> ExactStream:
    """Return the stream that has learned some tokens, in function space.

    Parameters
    ----------
    keys : (d_k, n) array_like
        Scaled keys, as in a `Lookup`.
    values : (d_v, n) array_like

    Returns
    -------
    ExactStream

    Raises
    ------
    ValueError
        If shapes do not fit together or an entry is not finite.
    """
    return ExactStream(*map(locked, _pairs(keys, values)))


# ------------------------------------------------------------------ with features


@dataclass(frozen=True, eq=False)
class FeatureStream:
    """Attention with positive features as one trained model of fixed size; see `feature_stream`.

    Parameters
    ----------
    feature_map : FeatureMap
        Positive or hyperbolic.
    sums : (d_v + 1, m) array
        ``sum_i (v_i; 1) phi(y_i)^T``, column r divided by ``exp(log_shift[r])``.
    log_shift : (m,) array
        Logarithm of the largest value of each feature so far.
    moved : (m,) array
        Sum of the features of everything learned or forgotten, in the same units.

    Notes
    -----
    Memory ``m (d_v + 3)`` however many tokens there were. To forget a token is a gradient step
    uphill on its term: subtract ``(v; 1) phi(y)^T``. The sums then hold what is left, up to the
    rounding of what there was; see `cancellation`.

    References
    ----------
    The recurrent form is that of Katharopoulos et al. 2020; forgetting and its error are new here.
    """

    feature_map: FeatureMap
    sums: Floats
    log_shift: Floats
    moved: Floats

    @border
    def learn(self, keys: ArrayLike, values: ArrayLike) -> FeatureStream:
        """Return the stream after further tokens: one gradient step for each."""
        logs, targets = self._terms(keys, values)
        shift = np.maximum(self.log_shift, logs.max(axis=1))
        shrink = np.exp(self.log_shift - shift)
        grown = replace(self, sums=self.sums * shrink, moved=self.moved * shrink, log_shift=shift)
        return grown._stepped(logs, targets)

    @border
    def forget(self, keys: ArrayLike, values: ArrayLike) -> FeatureStream:
        """Return the stream after one step uphill for each token, which takes it out again.

        Raises
        ------
        ValueError
            If shapes do not fit, or a key has features beyond all that was learned.
        """
        logs, targets = self._terms(keys, values)
        if (logs > self.log_shift[:, None] + _SAME * (1.0 + np.abs(logs))).any():
            raise ValueError("tokens to forget must have been learned, got a key beyond all others")
        return self._stepped(logs, -targets)

    @border
    def cancellation(self, queries: ArrayLike) -> Floats:
        """Return all that was learned or forgotten over what is left, (n_queries,).

        The rounding error of the answers is about 1e-16 times this, times the largest value that
        was ever learned; it is 1 until something is forgotten.
        """
        features = self._read(queries)
        with np.errstate(divide="ignore"):
            return (self.moved @ features) / np.abs(self.sums[-1] @ features)

    @border
    def __call__(self, queries: ArrayLike) -> Floats:
        """Return the outputs (d_v, n_queries) for scaled queries (d_k, n_queries).

        Raises
        ------
        ValueError
            If shapes do not fit, or so much was forgotten that only rounding is left.
        """
        if not (self.cancellation(queries) < _MOST).all():
            raise ValueError(
                "the stream must keep more than rounding of what it has learned; "
                "rebuild it from the remaining tokens"
            )
        outputs = self.sums @ self._read(queries)
        return outputs[:-1] / outputs[-1]

    def _terms(self, keys: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
        """Return the log features (m, n) and the targets (d_v + 1, n) of tokens."""
        keys, values = _pairs(keys, values)
        _check_rows(keys, values, len(keys), len(self.sums) - 1)
        return self.feature_map.log_features(keys), _targets(values)

    def _stepped(self, logs: Floats, targets: Floats) -> FeatureStream:
        features = np.exp(logs - self.log_shift[:, None])
        moved = self.moved + features.sum(axis=1)
        return replace(self, sums=self.sums + targets @ features.T, moved=moved)

    def _read(self, queries: ArrayLike) -> Floats:
        """Return the queries' features in the units of the sums, each query up to a factor."""
        queries = finite_array("queries", queries, ndim=2)
        logs = self.feature_map.log_features(queries) + self.log_shift[:, None]
        return np.exp(logs - logs.max(axis=0))


@border
def feature_stream(feature_map: FeatureMap, keys: ArrayLike, values: ArrayLike) -> FeatureStream:
    """Return the stream that has learned some tokens, with features.

    Parameters
    ----------
    feature_map : FeatureMap
        Positive or hyperbolic: other features can be negative, and so can their normaliser.
    keys : (d_k, n) array_like
        Scaled keys, as in a `Lookup`.
    values : (d_v, n) array_like

    Returns
    -------
    FeatureStream

    Raises
    ------
    TypeError
        If `feature_map` is none.
    ValueError
        If the map is trigonometric, shapes do not fit together or an entry is not finite.

    Notes
    -----
    Each feature has a shift of its own in logarithms, as in `feature_attention`, which moves when
    a larger key arrives; so long keys neither overflow nor vanish.

    Examples
    --------
    >>> from iclkit.papers.dual_kernel.maps import feature_map
    >>> phi = feature_map("positive", [[1.0], [-1.0], [0.5]])
    >>> stream = feature_stream(phi, [[0, 1]], [[1, 3]])
    >>> longer = stream.learn([[40]], [[5]])
    >>> longer([[2]]).round(3), longer.learn([[1]], [[9]]).forget([[1]], [[9]])([[2]]).round(3)
    (array([[2.186]]), array([[2.186]]))
    """
    if not isinstance(feature_map, FeatureMap):
        raise TypeError(f"feature_map must be a FeatureMap, got {type(feature_map).__name__}")
    values = finite_array("values", values, ndim=2)
    m = feature_map.n_features
    empty = np.zeros((len(values) + 1, m)), np.full(m, -np.inf), np.zeros(m)
    return FeatureStream(feature_map, *empty).learn(keys, values)


def _pairs(keys: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    keys, values = finite_array("keys", keys, ndim=2), finite_array("values", values, ndim=2)
    if keys.shape[1] != values.shape[1]:
        raise ValueError(
            f"keys and values must have as many columns, got {keys.shape} and {values.shape}"
        )
    return keys, values


def _check_rows(keys: Floats, values: Floats, d_k: int, d_v: int) -> None:
    if (len(keys), len(values)) != (d_k, d_v):
        raise ValueError(
            f"keys and values must have {d_k} and {d_v} rows like those before, "
            f"got {len(keys)} and {len(values)}"
        )


def _targets(values: Floats) -> Floats:
    """Return ``(v; 1)``."""
    return np.concatenate([values, np.ones((1, values.shape[1]))])
