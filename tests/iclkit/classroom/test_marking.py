import copy
import re
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.special import chdtr, chdtrc

from iclkit.classroom.course import Course, course_of
from iclkit.classroom.marking import (
    Reply,
    calls,
    given,
    here,
    limit,
    marks,
    replies_of,
    unfit_calls,
)
from iclkit.classroom.sandbox import Call
from iclkit.classroom.source import assignment, executed, solved
from iclkit.classroom.spec import Estimate, Exercise, Holds, Mistake, Values
from tests.toy_assignment import written

COURSE = course_of(2**100)
WHO = {"course": COURSE, "student": "ada", "assignment": "toy"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return assignment(written(tmp_path_factory.mktemp("toy")))


def right(item, **who):
    who = WHO | who
    names = given(item, course=who["course"], student=who["student"])
    return replies_of(item, calls(item, **who), names.get("numbers", {}))


def points(item, replies, **who):
    return [mark.points for mark in marks(item, replies, **(WHO | who))]


def made(answer, *tests, mistakes=()):
    """Return an item of an answer's source and tests."""
    return SimpleItem(answer=answer, tests=Exercise(tests=tests, mistakes=mistakes))


def once(cases):
    """Return the cases of a test that draws nothing."""

    def drawn(rng):
        return copy.deepcopy(cases)

    return drawn


class SimpleItem(SimpleNamespace):
    key, setup = "key", "import numpy as np"
    __hash__ = object.__hash__


class TestCalls:
    def test_all_tests_in_order(self, toy):
        names = [call.name for call in calls(toy.item("power"), **WHO)]
        assert names == ["answer", "power"]
        assert [call.arguments is None for call in calls(toy.item("power"), **WHO)] == [True, False]

    def test_inputs_belong_to_course_assignment_and_exercise_alone(self, toy):
        share = toy.item("share")

        def first(**who):
            return calls(share, **(WHO | who))[0].arguments[0]

        assert first() == first(student="bob") == first(student="")
        others = [first(course=course_of(2**100 + 1)), first(assignment="other")]
        assert len({first(), *others}) == 3

    def test_an_estimate_gets_a_seed_last(self, toy):
        *_, seed = calls(toy.item("mean-square"), **WHO)[0].arguments
        assert type(seed) is int

    def test_only_the_number_depends_on_the_student(self, toy):
        power = toy.item("power")
        students = [f"s{i}" for i in range(30)]
        own = {str(given(power, course=COURSE, student=name)) for name in students}
        assert len(own) > 8
        for name in students:
            assert points(power, right(power, student=name), student=name) == [2, 1]

    def test_a_students_number_is_wrong_for_another(self, toy):
        power = toy.item("power")
        ada, *others = (given(power, course=COURSE, student=s) for s in ("ada", "x", "z"))
        assert ada not in others
        assert points(power, right(power, student="x")) == [0, 1]

    def test_arguments_that_cannot_travel_are_found(self):
        fine = Call("f", (1, 2.0, "a", [1, None], np.zeros(2), (True,)))
        assert unfit_calls([fine, Call("f", None)]) == []
        for bad in (np.float64(1), {1}, np.array([1j]), [np.int64(1)], np.array(["a"])):
            assert len(unfit_calls([fine, Call("f", (bad,))])) == 1


class TestHere:
    def test_arguments_are_copies(self):
        names = {"f": lambda a: a.__iadd__(1)}
        array = np.zeros(2)
        replies = here(names, [Call("f", (array,))] * 2)
        assert [reply.value.tolist() for reply in replies] == [[1, 1], [1, 1]]
        assert not array.any()

    def test_what_fails_is_a_problem(self):
        names = {"f": lambda: 1 / 0, "x": 3}
        f, x, y = here(names, [Call("f", ()), Call("x", None), Call("y", None)])
        assert "raises ZeroDivisionError" in f.problem
        assert (x.value, x.problem) == (3, "")
        assert "not defined" in y.problem

    def test_warnings_are_no_matter(self):
        names = {"f": lambda: np.log(np.zeros(1)) * np.inf}
        assert here(names, [Call("f", ())])[0].problem == ""


class TestMarks:
    @pytest.mark.parametrize("key", ["share", "power", "mean-square"])
    def test_the_reference_has_all_points_under_50_seeds(self, toy, key):
        item = toy.item(key)
        for seed in range(50):
            who = WHO | {"course": Course(seed, f"salt{seed}"), "student": f"s{seed}"}
            got = marks(item, right(item, **who), **who)
            assert all(mark.points == mark.out_of and not mark.hint for mark in got)

    @pytest.mark.parametrize("key", ["share", "power", "mean-square"])
    def test_mistakes_lose_their_points_and_get_their_hints(self, toy, key):
        item = toy.item(key)
        numbers = given(item, course=COURSE, student="ada").get("numbers", {})
        for mistake in item.tests.mistakes:
            replies = replies_of(item, calls(item, **WHO), numbers, mistake=mistake)
            got = [mark for mark in marks(item, replies, **WHO) if not mark.points]
            assert sum(mark.out_of for mark in got) == mistake.loses
            assert {(mark.mistake, mark.hint) for mark in got} == {(mistake.name, mistake.hint)}

    def test_other_clothes_of_right_values_are_right(self, toy):
        item = toy.item("share")
        for wear in (list, tuple, np.array, lambda a: a.tolist(), lambda a: a.astype("longdouble")):
            assert points(item, [Reply(wear(r.value)) for r in right(item)]) == [3, 2]
        item = toy.item("power")
        for wear in (np.array, np.float64, lambda x: np.asarray(x)[()]):
            assert points(item, [Reply(wear(r.value)) for r in right(item)]) == [2, 1]
        item = toy.item("mean-square")
        for wear in (list, np.array, lambda pair: [np.array(pair[0]), pair[1]]):
            assert points(item, [Reply(wear(r.value)) for r in right(item)]) == [4, 1]

    def test_missing_replies_are_failed_calls(self, toy):
        item = toy.item("share")
        assert points(item, right(item)[:3]) == [3, 0]
        assert points(item, []) == [0, 0]

    def test_more_replies_than_calls_change_nothing(self, toy):
        item = toy.item("share")
        assert points(item, [*right(item), Reply(3.0)]) == [3, 2]

    def test_one_wrong_call_fails_its_test_alone(self, toy):
        item = toy.item("share")
        replies = right(item)
        replies[1] = Reply(replies[1].value * (1 + 1e-5))
        assert points(item, replies) == [0, 2]

    def test_replies_are_not_written_to(self, toy):
        item = toy.item("share")
        replies = right(item)
        before = copy.deepcopy(replies)
        marks(item, replies, **WHO)
        for one, other in zip(before, replies, strict=True):
            np.testing.assert_array_equal(one.value, other.value)

    def test_a_test_without_cases_is_refused(self):
        item = made("def f(x):\n    return x", Values("f", once([]), 1))
        with pytest.raises(ValueError, match="no case: every answer would pass"):
            calls(item, **WHO)

    def test_a_failing_reference_is_the_instructors_matter(self):
        item = made("def f(x):\n    return 1 / x", Values("f", once([(0,)]), 1))
        with pytest.raises(ValueError, match="the reference fails"):
            calls(item, **WHO)


HOSTILE = [
    None,
    float("nan"),
    [float("nan")] * 4,
    np.full(4, np.nan),
    float("inf"),
    -1.7e308,
    1.7e308,
    5e-324,
    10**400,
    "100 points",
    "",
    b"1",
    {},
    {"points": 5},
    set(),
    object(),
    [],
    [[]],
    (),
    np.array([]),
    np.zeros((0, 3)),
    np.zeros((4, 0)),
    np.zeros(10**6),
    [None] * 300_000,
    True,
    1j,
    np.array([1j, 1j]),
    np.array(["a", "b"]),
    np.array([None, 1.0], dtype=object),
    np.array("2020", dtype="datetime64[Y]"),
    ["a", 1.0],
    [1.0, [2.0, [3.0, ["x"]]]],
    [[[[[[[[[[1.0]]]]]]]]]],
    np.array([2**63], dtype=np.uint64),
    np.float16(6e4),
]


class TestHostileReplies:
    @pytest.mark.parametrize("index", range(len(HOSTILE)))
    @pytest.mark.parametrize("key", ["share", "power", "mean-square"])
    def test_score_nothing_and_get_one_line(self, toy, key, index):
        item = toy.item(key)
        got = marks(item, [Reply(HOSTILE[index])] * len(calls(item, **WHO)), **WHO)
        assert sum(mark.points for mark in got) == 0
        assert all(mark.hint and "\n" not in mark.hint and len(mark.hint) < 200 for mark in got)

    @pytest.mark.parametrize("index", range(len(HOSTILE)))
    def test_no_property_holds_for_them(self, index):
        """Not even one that is always true: an answer must have the reference's build first."""
        always = Holds("f", once([(1.0,)]), bool, 1, "holds", "It does not.")
        item = made("def f(x):\n    return np.array([x, 2.0, 3.0])", always)
        assert points(item, right(item)) == [1]
        assert points(item, [Reply(HOSTILE[index])]) == [0]

    @hypothesis.settings(max_examples=100, deadline=None)
    @hypothesis.given(
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=4),
            max_leaves=8,
        )
    )
    def test_no_json_value_breaks_the_marking(self, toy, value):
        for item in toy.items:
            got = marks(item, [Reply(value)] * len(calls(item, **WHO)), **WHO)
            assert len(got) == 2
            assert all(mark.points in (0, mark.out_of) for mark in got)


class TestHints:
    def wrong(self, item, change):
        replies = [Reply(change(reply.value)) for reply in right(item)]
        return [mark.hint for mark in marks(item, replies, **WHO)]

    def test_a_kind_of_difference_is_named(self, toy):
        item = toy.item("share")
        for change, word in [
            (lambda a: -a, "sign"),
            (lambda a: 2 * a, "factor"),
            (lambda a: a[None], "shape (1, 2)"),
            (lambda a: a[:-1], "shape"),
            (lambda a: a.sum(), "one number"),
            (lambda a: a * np.nan, "NaN"),
            (lambda a: list(map(str, a)), "list"),
        ]:
            assert word in self.wrong(item, change)[0]

    def test_a_property_has_its_own_hint(self, toy):
        assert self.wrong(toy.item("share"), np.sqrt)[1] == ""  # it still holds
        assert "nothing is shrunk" in self.wrong(toy.item("share"), lambda a: a / 2)[1]

    def test_no_hint_holds_a_number_of_the_answer(self, toy):
        changes = [np.negative, lambda a: 2 * a, lambda a: a + 1, np.exp, lambda a: a * (1 + 1e-5)]
        for item in toy.items:
            for change in changes:
                hints = self.wrong(item, lambda v, c=change: c(np.asarray(v)))
                assert not any(re.search(r"\d", hint) for hint in hints)

    def test_two_mistakes_at_once_are_not_called_one(self, toy):
        item = toy.item("share")
        first, second = item.tests.mistakes[0], item.tests.mistakes[1]
        source = item.answer.replace(first.old, first.new).replace(second.old, second.new)
        names = executed([item.setup, source], {})
        got = marks(item, here(names, calls(item, **WHO)), **WHO)
        assert got[0].points == 0
        assert got[0].mistake == ""

    def test_the_mistake_with_more_tests_in_common_is_named(self):
        item = made(
            "def f(x):\n    a = 1\n    return x + a\ndef g(x):\n    return 1.0",
            Values("f", once([(2.0,)]), 1),
            Values("g", once([(2.0,)]), 1),
            mistakes=[
                Mistake("both", "a = 1\n    return x + a\ndef g(x):\n    return 1.0",
                        "return x\ndef g(x):\n    return 2.0", 2, "Both."),
                Mistake("one", "a = 1", "a = 0", 1, "One."),
            ],
        )  # fmt: skip
        wanted = calls(item, **WHO)
        one = marks(item, here({"f": lambda x: x, "g": np.ones_like}, wanted), **WHO)
        both = marks(item, here({"f": lambda x: x, "g": lambda x: 2 + 0 * x}, wanted), **WHO)
        assert [mark.hint for mark in one] == ["One.", ""]
        assert [mark.hint for mark in both] == ["Both.", "Both."]

    def test_a_mistake_is_named_only_where_it_fails(self):
        """Here its outputs are the answer's up to rounding, and only the answer fails."""
        holds = Holds(
            "f", once([(2.0,)]), lambda pairs: pairs[0][1] == 2.0, 1, "holds", "Own hint."
        )
        mistake = Mistake("other", "return 1.0", "return 3.0", 1, "Other hint.")
        answer = "def f(x):\n    return x\ndef g(x):\n    return 1.0"
        item = made(answer, holds, Values("g", once([(1.0,)]), 1), mistakes=[mistake])
        got = marks(item, [Reply(2.0 + 1e-9), Reply(3.0)], **WHO)
        assert [mark.hint for mark in got] == ["Own hint.", "Other hint."]

    @pytest.mark.parametrize(
        "reply", [Reply(None), Reply(problem="`f` returns nothing (None); numbers can be graded")]
    )
    def test_returning_nothing_is_one_mistake_in_both_processes(self, reply):
        mistake = Mistake("forgotten", "return x", "x", 1, "What does it return?")
        item = made("def f(x):\n    return x", Values("f", once([(1.0,)]), 1), mistakes=[mistake])
        assert marks(item, [reply], **WHO)[0].hint == "What does it return?"

    def test_the_same_exception_is_the_same_mistake(self):
        mistake = Mistake("empty", "x + 1", "x[5]", 1, "How long is it?")
        values = Values("f", once([(np.arange(3.0),)]), 1)
        item = made("def f(x):\n    return x + 1", values, mistakes=[mistake])
        for problem, hint in [
            ("`f` raises IndexError in line 2: `return x[5]`", "How long is it?"),
            ("`f` raises ValueError in line 2: `x`", "`f` raises ValueError in line 2: `x`"),
            ("not finished within 20 s", "not finished within 20 s"),
        ]:
            assert marks(item, [Reply(problem=problem)], **WHO)[0].hint == hint


class TestProperties:
    def item(self, verdict, answer="return np.array([x, 2 * x])"):
        holds = Holds("f", once([(1.0,), (2.0,)]), verdict, 1, "holds", "It does not hold.")
        return made(f"def f(x):\n    {answer}", holds)

    def test_the_verdict_sees_arguments_and_arrays(self):
        seen = []
        item = self.item(lambda pairs: seen.append(pairs) or True)
        assert points(item, [Reply([1, 2]), Reply((2, 4))]) == [1]
        ((x,), out), _ = seen[0]
        assert (x, type(x)) == (1.0, float)
        assert out.dtype == np.float64

    def test_numbers_come_as_floats_and_tuples_as_tuples(self):
        item = self.item(
            lambda pairs: all(type(a) is float and b.shape == (2,) for _, (a, b) in pairs),
            "return x, np.zeros(2)",
        )
        assert points(item, [Reply([np.array(1), [0, 0]])] * 2) == [1]

    def test_a_verdict_that_cannot_read_the_answer_says_no(self):
        def fails(pairs):
            raise ZeroDivisionError

        got = marks(self.item(fails), [Reply([1.0, 2.0])] * 2, **WHO)
        assert got[0].hint == "It does not hold."

    def test_a_verdict_is_never_asked_about_nan_or_another_shape(self):
        item = self.item(lambda pairs: not any((out > 5).any() for _, out in pairs))
        for bad in ([np.nan, 1.0], [], [1.0], [[1.0, 2.0]], None):
            assert points(item, [Reply([1.0, 2.0]), Reply(bad)]) == [0]

    def test_a_verdict_cannot_spoil_the_next_grading(self):
        def spoils(pairs):
            for (x,), out in pairs:
                x[:] = 7
                out[:] = 7
            return True

        holds = Holds("f", once([(np.ones(2),)]), spoils, 1, "holds", "No.")
        item = made("def f(x):\n    return x", holds, Values("f", once([(np.ones(2),)]), 1))
        for _ in range(2):
            assert calls(item, **WHO)[0].arguments[0].tolist() == [1, 1]
            assert points(item, [Reply([1.0, 1.0])] * 2) == [1, 1]


class TestEstimates:
    def item(self, **changes):
        options = {"points": 1, "slack": 1.5} | changes
        estimate = Estimate("f", once([(1.0,), (2.0,)]), lambda m: (m, 0.1 * m), **options)
        return made("def f(m, seed):\n    return m, 0.1 * m", estimate)

    @pytest.mark.parametrize(
        ("mean", "error", "score"),
        [
            (1.0, 0.1, 1),
            (1.5, 0.1, 1),  # five standard errors
            (1.65, 0.1, 0),
            (0.35, 0.1, 0),
            (1.65, 0.2, 0),  # a large reported error helps nothing
            (1.0, 0.14, 1),
            (1.0, 0.16, 0),
            (1.0, 0.07, 1),
            (1.0, 0.06, 0),
            (1.0, 0.0, 0),
            (1.0, -0.1, 0),
            (1.0, np.inf, 0),
            (np.nan, 0.1, 0),
            (1.0, np.nan, 0),
        ],
    )
    def test_mean_and_error_are_both_judged(self, mean, error, score):
        item = self.item()
        assert points(item, [Reply((mean, error)), Reply((2.0, 0.2))]) == [score]
        assert points(item, [Reply((2.0, 0.2)), Reply((mean, error))]) == [0]

    def test_without_variance_the_mean_is_exact(self):
        estimate = Estimate("f", once([(3.0,)]), lambda m: (m, 0.0), 1)
        item = made("def f(m, seed):\n    return m, 0.0", estimate)
        assert points(item, [Reply((3.0 + 1e-12, 1e-13))]) == [1]
        assert points(item, [Reply((3.0 + 1e-6, 0.0))]) == [0]
        assert points(item, [Reply((3.0, 1e-6))]) == [0]

    @pytest.mark.parametrize("got", [1.0, (1.0,), (1.0, 0.1, 2.0), [[1.0, 0.1]], "1.0", None])
    def test_anything_but_two_numbers_says_so(self, got):
        (mark,) = marks(self.item(), [Reply(got)] * 2, **WHO)
        assert mark.hint == "`f` must return two numbers: the mean and its standard error."

    @pytest.mark.parametrize("n", [100, 400, 10_000])
    @pytest.mark.parametrize("cases", [1, 4])
    def test_right_means_of_skewed_draws_fail_as_rarely_as_stated(self, n, cases):
        """The law of means of squared Gaussians is known; half of the budget is the mean's."""
        failure = 1e-5
        bound = limit(failure, cases) * np.sqrt(2 / n)
        tails = chdtrc(n, n * (1 + bound)) + chdtr(n, n * max(1 - bound, 0))
        assert cases * tails < failure / 2

    def test_reported_errors_of_gaussian_draws_are_within_the_slack(self):
        """The error of n Gaussian draws, of which 120 are enough for a factor of 1.5."""
        n, slack = 120, 1.5
        tails = chdtrc(n - 1, (n - 1) * slack**2) + chdtr(n - 1, (n - 1) / slack**2)
        assert tails < 1e-5 / 2

    def test_the_limit_grows_with_the_number_of_cases(self):
        assert 5.7 < limit(1e-5, 1) < limit(1e-5, 10) < 6.3

    def test_a_mistake_is_known_by_its_mean_with_other_draws(self, toy):
        item = toy.item("mean-square")
        names = solved(item, {})

        def shifted(scale, n, seed):
            mean, error = names["mean"](scale, n, seed + 1)
            return mean + 1, error

        got = marks(item, here({"mean": shifted}, calls(item, **WHO)), **WHO)
        assert [mark.mistake for mark in got] == ["shift", "shift"]

    def test_thousand_right_gradings_have_no_false_failure(self, toy):
        item = toy.item("mean-square")
        names = solved(item, {})
        for seed in range(1000):
            who = WHO | {"course": Course(seed, "salt")}
            assert points(item, here(names, calls(item, **who)), **who) == [4, 1]
