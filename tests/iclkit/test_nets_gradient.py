"""One step by automatic differentiation."""

import numpy as np
import pytest

from iclkit.nets import gradient_step


def test_a_quadratic_loss_has_the_gradient_that_everyone_knows():
    curvature = np.array([[2.0, 0.5], [0.5, 1.0]])
    start = np.array([1, -1])
    stepped = gradient_step(lambda w, a: 0.5 * w @ a @ w, start, curvature, rate=0.1)
    assert stepped == pytest.approx(start - 0.1 * curvature @ start)
    assert stepped.dtype == np.float64


def test_the_caller_keeps_its_arrays():
    start = np.ones(2)
    gradient_step(lambda w: (w**2).sum(), start, rate=0.5)[:] = 7
    assert start.tolist() == [1, 1]


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match="loss must return a real scalar tensor"):
        gradient_step(lambda w: w, [1.0, 2.0], rate=1)
    with pytest.raises(ValueError, match="rate must be"):
        gradient_step(lambda w: w.sum(), [1.0], rate=0)
    with pytest.raises(ValueError, match="start must be finite"):
        gradient_step(lambda w: w.sum(), [np.nan], rate=1)


@pytest.mark.parametrize("loss", ["loss", lambda w: w.detach().sum(), lambda _: 3.0])
def test_a_loss_that_cannot_be_differentiated(loss):
    with pytest.raises(TypeError, match=r"^loss must "):
        gradient_step(loss, [1.0, 2.0], rate=0.1)


def test_a_gradient_that_is_no_number():
    with pytest.raises(ValueError, match="the gradient must be finite"):
        gradient_step(lambda w: w.sqrt().sum(), [0.0], rate=0.1)
