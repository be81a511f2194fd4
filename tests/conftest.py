"""Shared set-up of the tests: one BLAS thread, named streams, numerical errors raised."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy starts its threads; the tests run in parallel

from pathlib import Path

import pytest

from iclkit.rng import stream


@pytest.fixture
def root():
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def rng(request):
    """A generator of the test's own: adding a test changes no other."""
    return stream(0, request.node.nodeid)
