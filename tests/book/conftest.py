"""Each test file of a figure names it, FIGURE; here are its scripts, and engines that run them."""

import pytest
from py_mini_racer import mini_racer


@pytest.fixture
def figure(request):
    return request.module.FIGURE


@pytest.fixture
def source(figure, root):
    return figure.read(root)


@pytest.fixture
def js(figure, source):
    """The formulas alone."""
    with mini_racer() as engine:
        engine.eval(source[figure.theory])
        yield engine


@pytest.fixture
def page(figure, source):
    """The figure on a page without a browser."""
    with mini_racer() as engine:
        figure.start(engine, source)
        yield engine
