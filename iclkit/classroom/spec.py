"""What an exercise is: what is asked, how an answer is tested, what goes wrong how.

An instructor's notebook describes each exercise once, in the cell of its hidden tests, with the
names of this module. Everything else is made from that: the student's notebook, the public checks,
the rubric, the grades, and the tests of the exercise itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = [
    "Criterion",
    "Estimate",
    "Exercise",
    "Holds",
    "Mistake",
    "Number",
    "Test",
    "Values",
]

Arguments = tuple[Any, ...]
Cases = Callable[[np.random.Generator], Sequence[Arguments]]


@dataclass(frozen=True)
class Values:
    """The student's function returns what the reference returns, on hidden inputs.

    Parameters
    ----------
    name : str
        The function, in the student's and in the reference solution.
    cases : callable
        From a generator to the lists of arguments; arrays, numbers, text, and lists of these.
    points : int
    rtol, atol : float
        Largest deviation from the reference, relative to the largest entry, and absolute.
    about : str
        What is tested, for the feedback: "agrees with the formula on random inputs".
    """

    name: str
    cases: Cases
    points: int
    rtol: float = 1e-6
    atol: float = 1e-12
    about: str = "agrees with the definition on inputs that you have not seen"


@dataclass(frozen=True)
class Holds:
    """The student's function has a property: a limit, a symmetry, a scaling.

    `verdict` gets the list of (arguments, output) of all cases, and returns whether it holds. The
    outputs have the build of the reference's on the same arguments (checked before: same shapes,
    finite where the reference is), as floats, float64 arrays, text, and tuples of these.
    """

    name: str
    cases: Cases
    verdict: Callable[[list[tuple[Arguments, Any]]], bool]
    points: int
    about: str
    hint: str


@dataclass(frozen=True)
class Number:
    """The student's variable is the number that belongs to the student's own parameters.

    `expected` gets the student's parameters: one choice of each row of `Exercise.numbers`.
    """

    name: str
    expected: Callable[[Mapping[str, Any]], Any]
    points: int
    rtol: float = 1e-4
    atol: float = 1e-12
    about: str = "is the value for your own parameters"


@dataclass(frozen=True)
class Estimate:
    """The student's function returns a Monte Carlo mean, near the exact one, and its error.

    The function is called with the arguments of a case and, last, an integer seed; it returns the
    mean and its standard error. `expected` gives the exact mean of a case and the standard error
    that an honest estimate has there; the reported one must be within a factor `slack` of it. A
    right answer fails with probability at most `failure` over all cases of one grading.

    Notes
    -----
    The mean may be off by 5.7 standard errors with one case and the usual `failure`, 6 with four:
    a thousandth of the budget for a Gaussian's tails, so that the longer tails of a mean of 100
    squared Gaussians stay within half of it. The reported error of n Gaussian draws varies by a
    factor of about exp(+-1/sqrt(2 n)), which must fit six times into the slack: 1.5 needs 110
    draws, 1.1 needs 2,000. The tests of the assignments measure both on each exercise.
    """

    name: str
    cases: Cases
    expected: Callable[..., tuple[float, float]]
    points: int
    slack: float = 1.5
    failure: float = 1e-5
    about: str = "lies within its own error of the exact value"


Test = Values | Holds | Number | Estimate


@dataclass(frozen=True)
class Criterion:
    """One line of a rubric, for what a person reads: points, and when they are given."""

    points: int
    given_for: str
    not_for: str = ""


@dataclass(frozen=True)
class Mistake:
    """A documented wrong solution: the reference with one piece of text changed.

    Parameters
    ----------
    name : str
        Short, with dashes: "transposed-covariance".
    old, new : str
        The piece of the reference solution, which occurs there once, and what takes its place.
    loses : int
        The points that this answer loses, exactly.
    hint : str
        One sentence that names the mistake without giving the answer.
    """

    name: str
    old: str
    new: str
    loses: int
    hint: str


@dataclass(frozen=True)
class Exercise:
    """All that grades one exercise.

    Parameters
    ----------
    tests : sequence of Values, Holds, Number, Estimate
    mistakes : sequence of Mistake
        At least five.
    practice : sequence of (name, arguments)
        Calls of the student's function that the public check compares, by fingerprint; an empty
        tuple of arguments and the name of a variable for a number.
    numbers : mapping of str to sequence
        Parameters that differ between students: the plain numbers that each may take. The student
        finds the own choice in the variable ``numbers``, a dict.
    uses : sequence of str
        Modules of ``iclkit`` that an answer may import; all others are out of reach.
    rubric : sequence of Criterion
        For the part that a person reads, with the points of that part.
    seconds, megabytes : float
        Limits of one grading of this exercise.
    """

    tests: Sequence[Test]
    mistakes: Sequence[Mistake]
    practice: Sequence[tuple[str, Arguments]] = ()
    numbers: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    uses: Sequence[str] = ()
    rubric: Sequence[Criterion] = field(default=())
    seconds: float = 20.0
    megabytes: int = 1024

    @property
    def points(self) -> int:
        """All points of the exercise, those of the rubric included."""
        return sum(part.points for part in (*self.tests, *self.rubric))
