"""One gradient step by automatic differentiation, to check gradients that were derived by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from iclkit._checks import border, finite_array, function_of, scalar

__all__ = ["gradient_step"]


@border
def gradient_step(
    loss: Callable[..., Tensor], start: ArrayLike, *data: ArrayLike, rate: float
) -> NDArray[np.float64]:
    """Return weights after one step of gradient descent, differentiated by PyTorch.

    Parameters
    ----------
    loss : callable
        ``loss(weights, *data)`` in tensor operations; returns a scalar tensor.
    start : array_like
        Weights before the step, of any shape.
    *data : array_like
        Further arguments of the loss, passed on as float64 tensors.
    rate : float
        Learning rate, > 0.

    Returns
    -------
    array
        ``start - rate * gradient``, in float64.

    Raises
    ------
    TypeError
        If the loss is no function, or returns no scalar tensor that depends on the weights.
    ValueError
        If an array is empty or not finite, the rate is out of range, or the gradient or the
        weights after the step are not finite.

    Examples
    --------
    >>> gradient_step(lambda w, x: (w * x).sum(), [1, 2], [3, 4], rate=0.5)
    array([-0.5,  0. ])
    """
    rate = scalar("rate", rate, open_=True)
    weights = torch.from_numpy(finite_array("start", start, ndim=None).copy()).requires_grad_()
    parts = [torch.from_numpy(finite_array("data", part, ndim=None).copy()) for part in data]
    value = function_of("loss", loss)(weights, *parts)
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        raise TypeError(f"loss must return a real scalar tensor, got {type(value).__name__}")
    slope = _slope(value, weights)
    if not torch.isfinite(slope).all():
        raise ValueError("the gradient must be finite, got NaN or infinity; check the loss")
    stepped = (weights - rate * slope).detach()
    if not torch.isfinite(stepped).all():
        raise ValueError(f"rate must be smaller, got {rate:g}: the step leaves float64")
    return stepped.numpy()


def _slope(value: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient; a `TypeError` if the value does not depend on the weights."""
    slope = None
    if value.requires_grad:
        (slope,) = torch.autograd.grad(value.sum(), weights, allow_unused=True)
    if slope is None:
        raise TypeError("loss must depend on the weights through tensors, got a constant")
    return slope
