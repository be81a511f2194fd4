"""Trainings on every device and in every precision at hand: speed, and what it does to the errors.

``python -m benchmarks.devices`` prints the table with the names of the devices and writes
``_build/devices.json``; where there is a graphics card it is in the table without further ado.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from threadpoolctl import threadpool_limits

from benchmarks import record
from benchmarks.rows import RATIO, Case, Row
from iclkit import nets
from iclkit.prompts import Gaussian, IsotropicLinear, Law
from iclkit.rng import stream

OUTPUT = Path("_build/devices.json")
DTYPES = ("float64", "float32", "bfloat16")
REFERENCE = ("cpu", "float64")
FIRST = 50  # steps that warm up and are not timed; training reports every so many
N_TESTS = 4_000


class Training(NamedTuple):
    """What is trained: so many transformers of dimension d, on batches of some size."""

    name: str
    dim: int
    models: int
    batch: int
    steps: int

    @property
    def label(self) -> str:
        """Words for a table."""
        return f"{self.models} transformers, d = {self.dim}, batch {self.batch}"


FULL = (Training("small", 8, 4, 64, 250), Training("large", 32, 2, 256, 75))
QUICK = (Training("small", 4, 2, 16, 100), Training("large", 8, 2, 32, 100))


@dataclass(frozen=True)
class Measured:
    """One training on one device in one precision.

    Parameters
    ----------
    training, device, hardware, dtype : str
    steps_per_second : float
        Processor time on the CPU with one thread, time on the wall elsewhere.
    error, stderr : float
        Mean over the models of the error on new tasks after all steps, and its standard error
        over test prompts.
    """

    training: str
    device: str
    hardware: str
    dtype: str
    steps_per_second: float
    error: float
    stderr: float


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.devices", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file to write")
    options = parser.parse_args(arguments)
    found = list(measure(QUICK if options.quick else FULL))
    sys.stdout.write("\n".join(lines(found)) + "\n")
    content = {"machine": record.machine(), "torch": torch.__version__}
    record.write(options.output, content | {"rows": [asdict(one) for one in found]})
    return 0


def measure(trainings: tuple[Training, ...] = FULL) -> Iterator[Measured]:
    """Yield every training on every device and in every precision at hand."""
    for training in trainings:
        for device in devices():
            yield from (trained(training, device, dtype) for dtype in DTYPES)


def device_cases(*, quick: bool = False) -> Iterator[Case]:
    """Yield cases for the table of benchmarks: ratios to float64 on the CPU, without targets."""
    for training in QUICK if quick else FULL:
        for device in devices():
            for dtype in DTYPES:
                if (device, dtype) != REFERENCE:
                    yield partial(compare, training, device, dtype)


def compare(training: Training, device: str, dtype: str) -> Row:
    """Return the row of a device and a precision against float64 on the CPU, step by step."""
    ours, obvious = (trained(training, *at) for at in ((device, dtype), REFERENCE))
    seconds = 1 / ours.steps_per_second, 1 / obvious.steps_per_second
    label = f"step of {training.label}, {device}, {dtype}"
    ratio = seconds[1] / seconds[0]
    return Row(label, 1, *seconds, ratio, RATIO, against="float64 on the CPU")


def devices() -> tuple[str, ...]:
    """Return the names of the devices at hand."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def hardware(device: str) -> str:
    """Return what a device calls itself."""
    return torch.cuda.get_device_name() if device == "cuda" else record.cpu_model()


def trained(training: Training, device: str, dtype: str) -> Measured:
    """Train, timed without the first steps, and look at the errors."""
    times: list[float] = []
    clock = time.process_time if device == "cpu" else time.perf_counter
    with threadpool_limits(1):
        errors = final_errors(training, device, dtype, lambda *_: times.append(clock()))
    return Measured(
        training=training.name,
        device=device,
        hardware=hardware(device),
        dtype=dtype,
        steps_per_second=(training.steps - FIRST) / (times[-1] - times[0]),
        error=float(errors.value.mean()),
        stderr=float(math.hypot(*errors.stderr) / len(errors.stderr)),
    )


def final_errors(
    training: Training, device: str, dtype: str, progress: Callable[..., object]
) -> nets.ModelErrors:
    """Return the errors on new tasks; draws are the same on all devices and in all precisions."""
    d, law = training.dim, IsotropicLinear(Gaussian(training.dim), noise_var=0.01)
    models = nets.train(
        nets.transformer(d),
        law,
        [4 * d**2] * training.models,
        n_context=d,
        recipe=nets.Recipe(training.steps, 0.01, training.batch),
        rng=stream(0, "devices", training.name),
        device=device,
        dtype=dtype,
        progress=progress,
    )
    return models.errors(law, n_context=d, n_prompts=N_TESTS, rng=stream(1, "devices"))


def seconds_per_step(
    network: nets.Architecture,
    law: Law,
    recipe: nets.Recipe,
    *,
    n_context: int,
    n_prompts: int | None = None,
    models: int = 2,
    device: str = "cpu",
    dtype: str = "float32",
) -> float:
    """Return the seconds that one model takes for a step, from a probe of a few steps.

    Times models and steps it is the time of a training: no model is faster in company. The sets
    may be smaller than those of the training; only batches cost time.
    """
    times: list[float] = []
    clock = time.process_time if device == "cpu" else time.perf_counter
    with threadpool_limits(1):
        nets.train(
            network,
            [law] * models,
            n_prompts,
            n_context=n_context,
            recipe=replace(recipe, steps=FIRST + 10),
            rng=stream(0, "probe"),
            device=device,
            dtype=dtype,
            progress=lambda *_: times.append(clock()),
        )
    return (times[-1] - times[0]) / 10 / models


def lines(found: list[Measured]) -> Iterator[str]:
    """Yield the table, and below it the hardware."""
    slow = {one.training: one for one in found if (one.device, one.dtype) == REFERENCE}
    head = ("training", "device", "dtype", "steps/s", "ratio", "error", "stderr")
    yield "".join(name.ljust(10) for name in head).rstrip()
    for one in found:
        ratio = one.steps_per_second / slow[one.training].steps_per_second
        numbers = (
            f"{one.steps_per_second:.4g}",
            f"{ratio:.2f}",
            f"{one.error:.4f}",
            f"{one.stderr:.4f}",
        )
        cells = (one.training, one.device, one.dtype, *numbers)
        yield "".join(cell.ljust(10) for cell in cells).rstrip()
    for device, name in {one.device: one.hardware for one in found}.items():
        yield f"{device}: {name}"


if __name__ == "__main__":
    sys.exit(main())
