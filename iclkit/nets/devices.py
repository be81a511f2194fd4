"""Where a run computes and in which precision: one clear line where a device cannot do it.

Everything random is drawn on the CPU in float64 and moved, so that a run has the same prompts,
starting weights and batches on every device and in every precision.

The tests compare every architecture in float32 and bfloat16 with float64, on a CPU and, where there
is one, on a CUDA device. No CUDA device was at hand so far: what is said of speed is said of CPUs,
where bfloat16 pays for large products only.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclkit._checks import choice, shown

__all__ = ["DTYPES", "Place"]

#: What a run can compute in, and what its weights, optimiser and data are kept in.
DTYPES = {"bfloat16": torch.float32, "float32": torch.float32, "float64": torch.float64}


class Place(NamedTuple):
    """A device, and the precisions of a run on it.

    Attributes
    ----------
    device : torch.device
    kept : torch.dtype
        Of data, weights, gradients, losses and the optimiser's moments.
    low : bool
        Whether matrix products, forward and backward, are in bfloat16.
    """

    device: torch.device
    kept: torch.dtype
    low: bool

    @classmethod
    def at(cls, device: str | torch.device, dtype: str) -> Place:
        """Return the place of these names, or say what cannot be done.

        Parameters
        ----------
        device : str or torch.device
        dtype : {"bfloat16", "float32", "float64"}

        Returns
        -------
        Place

        Raises
        ------
        ValueError
            If there is no such device or dtype, or the device cannot compute in it.
        """
        kept = DTYPES[choice("dtype", dtype, sorted(DTYPES))]
        place = cls(_device(device), kept, low=dtype == "bfloat16")
        try:
            place._try()
        except (AssertionError, RuntimeError, TypeError, UserWarning) as error:
            raise ValueError(
                f'dtype {dtype} cannot be trained in on device {place.device}; take "float32"'
            ) from error
        return place

    @property
    def name(self) -> str:
        """The dtype as asked for, as torch prints it."""
        return str(torch.bfloat16 if self.low else self.kept)

    def put(self, tensor: Tensor) -> Tensor:
        """Return a tensor at this place, in the dtype that things are kept in."""
        return tensor.to(device=self.device, dtype=self.kept)

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.low else nullcontext()

    def _try(self) -> None:
        """Differentiate one small product, or raise what torch raises."""
        matrix = torch.ones((1, 2, 2), device=self.device, dtype=self.kept, requires_grad=True)
        with warnings.catch_warnings(), self.arithmetic():
            warnings.simplefilter("error")  # autocast warns where it does nothing
            product = torch.baddbmm(matrix, matrix, matrix)
        if self.low and product.dtype != torch.bfloat16:
            raise RuntimeError("autocast did nothing")
        torch.autograd.grad(product.sum(), matrix)[0].cpu()


def _device(device: str | torch.device) -> torch.device:
    """Return a device on which tensors can be made, and from which they can be fetched."""
    if not isinstance(device, str | torch.device):
        raise TypeError(f'device must be a name such as "cpu", got {type(device).__name__}')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns of names that it gives up
            found = torch.device(device)
    except (RuntimeError, UserWarning) as error:
        raise ValueError(
            f'device must be one such as "cpu" or "cuda", got {shown(device)}'
        ) from error
    try:
        if found.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("no CUDA")
        torch.zeros(1, device=found).cpu()
    except (AssertionError, ImportError, RuntimeError) as error:
        raise ValueError(f'device {found} is not available here; take "cpu"') from error
    return found
