"""The hot kernels, and the sizes that they are measured at."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from benchmarks import work
from benchmarks.work import Call, Size, Work


@dataclass(frozen=True)
class Axis:
    """Sizes along which the growth is measured, and the exponent that theory gives.

    Parameters
    ----------
    letter : str
        What grows.
    values : tuple of int
        How large it is.
    theory : float
        Exponent of the time in what grows, as it goes to infinity.
    other : callable
        The other size, which follows from a value.
    held : str
        What happens to the other size.
    """

    letter: str
    values: tuple[int, ...]
    theory: float
    other: Callable[[int], int]
    held: str

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Both sizes, for each value."""
        return tuple(self.at(value) for value in self.values)

    def at(self, value: int) -> Size:
        """Return both sizes."""
        other = self.other(value)
        return Size(value, other) if self.letter == "d" else Size(other, value)


@dataclass(frozen=True)
class Kernel:
    """One hot kernel. `work` says how many operations and bytes a size needs.

    Parameters
    ----------
    name : str
    counted : str
        The count of operations in words, as the page prints it.
    prepare : callable
        Size -> call.
    work : callable
        Size -> Work.
    at : Size
        Where the rate is measured.
    axes : tuple of Axis
    threaded : bool
        Whether more threads help: then the rate is measured on all, too.
    """

    name: str
    counted: str
    prepare: Callable[[Size], Call]
    work: Callable[[Size], Work]
    at: Size
    axes: tuple[Axis, ...]
    threaded: bool = False


def in_d(
    values: tuple[int, ...], theory: float, n: int | Callable[[int], int], held: str = ""
) -> Axis:
    """Return an axis along d; n stays, or follows as `held` says."""
    if callable(n):
        return Axis("d", values, theory, n, held)
    return Axis("d", values, theory, lambda _: n, held or f"n = {n:,}")


def in_n(values: tuple[int, ...], theory: float, d: int) -> Axis:
    """Return an axis along n, d stays."""
    return Axis("n", values, theory, lambda _: d, f"d = {d}")


def kernels() -> tuple[Kernel, ...]:
    """Return every hot kernel."""
    return (*ridge_kernels(), *exact_kernels(), *attention_kernels(), *trained_kernels())


def ridge_kernels() -> tuple[Kernel, ...]:
    """Return the three routes of ridge pretraining."""
    return (
        Kernel(
            "ridge, fewer prompts than parameters",
            "n^3/3 + 2 n^2 d",
            partial(work.ridge_call, "dual"),
            work.dual_work,
            Size(80, 3200),
            (
                in_d((28, 36, 48, 64, 80), 6, lambda d: d * d // 2, "n = d^2/2"),
                in_n((600, 1000, 1800, 3200), 3, 80),
            ),
            threaded=True,
        ),
        Kernel(
            "ridge, as many prompts as parameters",
            "n d^4/2 + d^6/3",
            partial(work.ridge_call, "primal"),
            work.primal_work,
            Size(28, 812),
            (
                in_d((12, 16, 20, 24, 28), 6, lambda d: d * (d + 1), "n = d(d+1)"),
                in_n((4000, 8000, 16_000, 32_000), 1, 16),
            ),
            threaded=True,
        ),
        Kernel(
            "ridge, more prompts: a step of the iteration",
            "4 n d^2, float32",
            work.hessian_call,
            work.hessian_work,
            Size(80, 64_000),
            (
                in_d((48, 80, 128, 192, 288), 2, 16_000),
                in_n((8000, 16_000, 32_000, 64_000), 1, 80),
            ),
            threaded=True,
        ),
    )


def exact_kernels() -> tuple[Kernel, ...]:
    """Return what stands in for simulations: sampler, asymptotic errors, exact risks."""
    return (
        Kernel(
            "features of random contexts",
            "n d normal numbers",
            work.sampler_call,
            work.sampler_work,
            Size(80, 32_000),
            (in_d((32, 64, 128, 256, 512), 1, 4000), in_n((4000, 8000, 16_000, 32_000), 1, 80)),
        ),
        Kernel(
            "asymptotic errors",
            "600 n array operations",
            work.theory_call,
            work.theory_work,
            Size(1, 200_000),
            (replace(in_n((10_000, 30_000, 100_000, 300_000), 1, 1), held="no dimension"),),
        ),
        Kernel(
            "exact risk of a block and its gradient",
            "24 d^3",
            work.gradient_call,
            work.gradient_work,
            Size(400, 1),
            (in_d((64, 128, 256, 512, 768), 3, 1, "no prompts"),),
            threaded=True,
        ),
    )


def attention_kernels() -> tuple[Kernel, ...]:
    """Return attention, exact and by features."""
    return (
        Kernel(
            "exact attention",
            "2 n^2 d and n^2 exponentials",
            work.exact_call,
            work.exact_work,
            Size(16, 3000),
            (in_d((64, 128, 256, 512, 1024), 1, 1000), in_n((500, 1000, 2000, 4000), 2, 16)),
        ),
        Kernel(
            f"attention by {work.FEATURES} random features",
            f"{4 * work.FEATURES} n d and {2 * work.FEATURES} n exponentials",
            work.features_call,
            work.features_work,
            Size(16, 16_000),
            (in_d((64, 128, 256, 512, 1024), 1, 2000), in_n((2000, 4000, 8000, 16_000), 1, 16)),
        ),
    )


def trained_kernels() -> tuple[Kernel, ...]:
    """Return what training needs: Gram matrices, an MLP head, the gradient of a network."""
    return (
        Kernel(
            "Gram matrix of attention features",
            "4 n^2 d",
            work.gram_call,
            work.gram_work,
            Size(80, 3000),
            (in_d((64, 128, 256, 384), 1, 1000), in_n((500, 1000, 2000, 4000), 2, 48)),
            threaded=True,
        ),
        Kernel(
            "MLP head, one gradient step",
            "4 n^2 d^2 + 2 n^3",
            work.head_call,
            work.head_work,
            Size(48, 1152),
            (
                in_d((20, 28, 36, 48), 6, lambda d: d * d // 2, "n = d^2/2"),
                in_n((256, 512, 1024, 2048), 3, 20),
            ),
            threaded=True,
        ),
        Kernel(
            "gradient of trained linear attention",
            "24 n d^2",
            work.training_call,
            work.training_work,
            Size(64, 2048),
            (in_d((16, 32, 64, 96, 128), 2, 512), in_n((512, 1024, 2048, 4096), 1, 32)),
        ),
    )


def small(hot: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
    """Return the kernels at sizes that only try the code: each axis four times at its smallest."""

    def short(axis: Axis) -> Axis:
        return replace(axis, values=tuple(axis.values[0] + more for more in range(4)))

    return tuple(replace(k, at=k.axes[0].sizes[0], axes=tuple(map(short, k.axes))) for k in hot)
