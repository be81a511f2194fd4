"""Softmax attention of one query: scaling, stability, shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclkit.papers import dual_kernel as dk
from iclkit.rng import stream
from tests.instances import tokens_and_weights
from tests.tolerances import IDENTITY, PRINTED


def plain_attention(demo, query, W_Q, W_K, W_V):
    """Attention by the definition, token by token."""
    asked = W_Q @ query[:, -1]
    total, output = 0.0, np.zeros(len(W_V))
    for token in np.concatenate([demo, query], axis=1).T:
        weight = np.exp((W_K @ token) @ asked / np.sqrt(len(W_K)))
        total, output = total + weight, output + weight * (W_V @ token)
    return output / total


def random_case(seed):
    rng = stream(seed, "attention case")
    dim, d_k, d_v, n_demo, n_query = rng.integers(1, 12, 5)
    shapes = [(dim, n_demo), (dim, n_query), (d_k, dim), (d_k, dim), (d_v, dim)]
    return [rng.standard_normal(shape) for shape in shapes]


def test_reference_values_of_attention():
    found = dk.attend(dk.look_up(*tokens_and_weights()))
    weights = [
        *(0.04770556316, 0.06415591201, 0.142034556, 0.2625457055),
        *(0.2562994231, 0.06965870737, 0.1576001329),
    ]
    assert found.output == pytest.approx([0.949349607, -0.6804009251], rel=PRINTED)
    assert found.weights == pytest.approx(weights, rel=PRINTED)
    assert np.exp(found.log_normaliser) == pytest.approx(8.190568789, rel=PRINTED)
    assert found.demo_share == pytest.approx(0.7727411597, rel=PRINTED)


@pytest.mark.parametrize("seed", range(20))
def test_attention_is_its_definition(seed):
    case = random_case(seed)
    assert dk.attend(dk.look_up(*case)).output == pytest.approx(
        plain_attention(*case), rel=IDENTITY, abs=IDENTITY
    )


@given(st.floats(-300, 300))
def test_a_shift_of_all_keys_changes_no_weight(shift):
    lookup = dk.look_up(*tokens_and_weights())
    moved = lookup._replace(keys=lookup.keys + shift * np.array([[1.0], [0.5], [-2.0]]))
    assert dk.attend(moved).weights == pytest.approx(dk.attend(lookup).weights, rel=1e-9)


def test_many_queries_are_queries_one_by_one():
    rng = stream(0, "many queries")
    keys, values = rng.standard_normal((3, 9)), rng.standard_normal((2, 9))
    queries = rng.standard_normal((3, 2500))
    at_once = dk.attention_output(queries, keys, values)
    for column in (0, 1023, 1024, 2499):
        lookup = dk.Lookup(queries[:, column], keys, values, 9)
        assert at_once[:, column] == pytest.approx(dk.attend(lookup).output, rel=IDENTITY)


@pytest.mark.parametrize("square", [1, 100, 500, 2000])
def test_float32_is_stable_where_the_plain_form_overflows(square):
    rng = stream(square, "large keys")
    x, y = (draw / np.linalg.norm(draw, axis=0) for draw in rng.standard_normal((2, 8, 40)))
    queries, keys = np.sqrt(square) * x, np.sqrt(square) * y
    values = rng.standard_normal((3, 40))
    single = dk.attention_output(*(a.astype(np.float32) for a in (queries, keys, values)))
    double = dk.attention_output(queries, keys, values)
    assert single.dtype == np.float32
    # a score of `square` carries square * 6e-8, the rounding of its float32 factors
    assert np.abs(single - double).max() < 4e-7 * max(square, 1)


def test_mixed_precision_is_double():
    one = np.ones((1, 1))
    assert dk.attention_output(one.astype(np.float32), one, one).dtype == np.float64


def test_integers_and_one_query_vector_are_welcome():
    demo, query = [[1, 0], [0, 1]], [2, 1]
    weights = [[1, 0]], [[0, 1]], [[1, 1]]
    as_column = dk.look_up(demo, [[2], [1]], *weights)
    for one, other in zip(dk.look_up(demo, query, *weights), as_column, strict=True):
        assert np.array_equal(one, other)


BAD = [
    ({"demo": np.ones((3, 2))}, "demo and query must have tokens of one length"),
    ({"demo": np.empty((4, 0))}, "demo must not be empty"),
    ({"query": [np.nan] * 4}, "query must be finite"),
    ({"W_Q": np.ones((2, 4))}, "W_Q and W_K must have one shape"),
    ({"W_V": np.ones((2, 3))}, "W_V must have one column per token coordinate, 4"),
    ({"key_view": lambda keys: keys[:1]}, r"key_view must keep the shape \(3, 7\)"),
    ({"value_view": lambda values: np.nan * values}, "result of value_view must be finite"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_gets_one_clear_line(change, message):
    names = ("demo", "query", "W_Q", "W_K", "W_V")
    arguments = dict(zip(names, tokens_and_weights(), strict=True)) | change
    with pytest.raises(ValueError, match=message) as caught:
        dk.look_up(**arguments)
    assert "\n" not in str(caught.value)


def test_a_view_must_be_a_function():
    with pytest.raises(TypeError, match="value_view must be a function or None, got float"):
        dk.look_up(*tokens_and_weights(), value_view=0.5)


def test_an_overflowing_score_is_an_error():
    lookup = dk.look_up(*tokens_and_weights(scale=1e200))
    with pytest.raises(ValueError, match="scores must be finite"):
        dk.attend(lookup)


def test_shapes_of_parts_must_fit():
    with pytest.raises(ValueError, match="queries and keys must have one length"):
        dk.attention_output(np.ones((2, 1)), np.ones((3, 4)), np.ones((1, 4)))
    with pytest.raises(ValueError, match="as many columns"):
        dk.attention_output(np.ones((2, 1)), np.ones((2, 4)), np.ones((1, 3)))
