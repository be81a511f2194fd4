"""Records keep what they were given: who writes into an array later changes no record."""

import dataclasses
import json

import numpy as np
import pytest

from iclkit import nets, prompts
from iclkit.papers import data_mixing, dual_kernel, linear_block

ONES = {
    "vector": (3,),
    "columns": (3, 4),
    "prompts": (2, 4, 3),
    "labels": (2, 4),
    "queries": (2, 3),
}


def made(name, arrays):
    """Return a record made of arrays that the caller still holds."""
    vector = arrays["vector"]
    match name:
        case "Source":
            return data_mixing.Source(3, link="tanh", gamma_x=vector, mu_x=vector, mu_xi=vector)
        case "Contexts":
            b, source = np.ones((2, 4)), np.array([0, 1])
            arrays |= {"b": b, "source": source}
            return data_mixing.Contexts(arrays["queries"], b, arrays["answers"], source)
        case "summarise":
            labels, answers = arrays["labels"], arrays["answers"]
            return data_mixing.summarise(arrays["prompts"], labels, arrays["queries"], answers)
        case "moments":
            sources = [data_mixing.Source(3, link="tanh"), data_mixing.Source(3, link="relu")]
            return data_mixing.moments(sources, n_context=4, weights=arrays["answers"])
        case "exact_stream":
            return dual_kernel.exact_stream(arrays["columns"], arrays["columns"])
        case "gradient_flow":
            prior = linear_block.isotropic_prior(3, n_context=4, mean=1)
            return linear_block.gradient_flow(prior, arrays["times"])
    return prompts.TaskPool(arrays["queries"])


def printed(record):
    fields = getattr(record, "_fields", None) or [f.name for f in dataclasses.fields(record)]
    return {name: np.array(getattr(record, name), dtype=object).tolist() for name in fields}


@pytest.mark.parametrize(
    "name",
    ["Source", "Contexts", "summarise", "moments", "exact_stream", "gradient_flow", "TaskPool"],
)
def test_a_record_does_not_follow_the_callers_arrays(name):
    arrays = {key: np.ones(shape) for key, shape in ONES.items()}
    arrays |= {"answers": np.array([0.5, 0.5]), "times": np.array([0.0, 1.0, 2.0])}
    record = made(name, arrays)
    before = printed(record)
    for array in arrays.values():
        array *= 3
    assert printed(record) == before


@pytest.mark.parametrize(
    "record",
    [
        nets.Recipe(np.int64(5), np.float32(0.5), np.int8(3)),
        nets.BasicTransformer(np.int16(3), layers=np.uint8(2), norm=np.True_),
        nets.SoftmaxHeads(np.int64(3), heads=np.int32(2), spread=np.float32(0.5)),
        nets.LinearBlock(np.int64(3), mlp_width=np.int64(4)),
        data_mixing.Plan(np.int64(4), np.int64(5), np.int64(6)),
    ],
)
def test_numpy_numbers_in_records_become_plain_ones(record):
    """Keys of checkpoints are JSON, which knows no NumPy."""
    assert json.loads(json.dumps(dataclasses.asdict(record))) == dataclasses.asdict(record)
