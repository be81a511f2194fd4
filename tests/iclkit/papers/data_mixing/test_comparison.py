"""Exact label moments, paired differences and fair errors of the data-mixing chapter."""

import dataclasses

import numpy as np
import pytest

from iclkit.papers.data_mixing.comparison import (
    fair_errors,
    label_variance,
    paired_difference,
    relative_gain,
)
from iclkit.papers.data_mixing.head import features, first_gradient, norm_scale
from iclkit.papers.data_mixing.simulation import Setup, draw
from iclkit.papers.data_mixing.sources import Source
from iclkit.rng import stream
from tests.tolerances import IDENTITY, ROUTES, SIGMAS

LINKS = ("relu", "tanh", "linear", "sigmoid", "abs")
SPIKES = (
    {},
    {"theta_xi": 9.0},
    {"theta_x": 5.0},
    {"theta_x": 5.0, "theta_xi": 9.0},
    {"theta_x": 5.0, "theta_xi": 9.0, "gamma_x": [0, 0, 1], "gamma_xi": [0, 0, -2]},
)


def sampled_labels(source, n):
    """Return labels drawn from the definition of a source, one per task."""
    rng = stream(0, "labels", source.theta_x, source.theta_xi)
    tasks = source.tasks(n, rng=rng)
    u = np.sum(tasks * source.inputs(n, rng=rng), axis=1) / np.sqrt(1 + source.theta_x)
    links = {"relu": lambda v: np.maximum(v, 0), "linear": lambda v: v, "abs": np.abs}
    links |= {"tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v))}
    return links[source.link](u) + source.noise * rng.standard_normal(n)


class TestLabelVariance:
    @pytest.mark.parametrize("link", LINKS)
    @pytest.mark.parametrize("spikes", SPIKES)
    def test_sampled_labels_have_it(self, link, spikes):
        source = Source(3, link=link, noise=0.3, **spikes)
        y = sampled_labels(source, 40_000)
        squares = (y - y.mean()) ** 2
        assert abs(squares.mean() - label_variance(source)) < SIGMAS * squares.std() / 200

    def test_without_input_spike_it_is_that_of_the_link(self):
        for source in (
            Source(5),
            Source(5, theta_xi=100.0),
            Source(1),
            Source(5, mu_xi=np.ones(5)),
        ):
            want = 0.5 - 0.5 / np.pi + 1e-4
            assert np.isclose(label_variance(source), want, rtol=IDENTITY)

    @pytest.mark.parametrize("d", [2, 3, 40])
    @pytest.mark.parametrize("theta", [0.5, 40.0, 6400.0])
    def test_linear_labels_shrink_as_the_formula_says(self, d, theta):
        source = Source(d, link="linear", noise=0.5, theta_x=theta)
        shrunk = (1 + theta / d) / (1 + theta) + 0.25
        assert np.isclose(label_variance(source), shrunk, rtol=1e-9)

    def test_one_dimension_has_nothing_to_shrink(self):
        source = Source(1, link="linear", noise=0.0, theta_x=7.0)
        assert np.isclose(label_variance(source), 1, rtol=IDENTITY)

    def test_a_strong_aligned_task_undoes_the_shrinking(self):
        source = Source(6, link="linear", noise=0.0, theta_x=7.0, theta_xi=1e12)
        assert np.isclose(label_variance(source), 1, atol=1e-4)

    def test_a_callable_link(self):
        named, called = (
            Source(4, theta_x=3.0),
            Source(4, link=lambda u: np.maximum(u, 0), theta_x=3.0),
        )
        assert np.allclose(label_variance(named), label_variance(called), rtol=IDENTITY)

    @pytest.mark.parametrize(
        ("spikes", "name"),
        [
            ({"mu_x": [1, 0]}, "mu_x"),
            ({"theta_x": 1, "mu_xi": [1, 0]}, "mu_xi"),
            ({"theta_x": 1, "theta_xi": 1, "gamma_xi": [1, 1]}, "gamma_xi"),
        ],
    )
    def test_refuses_what_it_cannot_do(self, spikes, name):
        with pytest.raises(ValueError, match=name):
            label_variance(Source(2, **spikes))

    def test_refuses_what_is_no_source(self):
        with pytest.raises(TypeError, match="source must be a Source"):
            label_variance("relu")


class TestPairs:
    first, second = [3, 4, 6, 7], [2, 4, 5, 5]

    def test_difference_by_hand(self):
        found = paired_difference(self.first, self.second)
        assert np.isclose(found.value, 1.0)
        assert np.isclose(found.stderr, np.sqrt(2 / 3) / 2)

    def test_gain_by_hand(self):
        found = relative_gain(self.second, self.first)
        assert np.isclose(found.value, 1 - 16 / 20)
        rest = np.array(self.second) - 0.8 * np.array(self.first)
        assert np.isclose(found.stderr, np.std(rest, ddof=1) / 2 / 5)

    def test_a_proportional_gain_has_no_error(self):
        assert relative_gain([1, 2, 3], [2, 4, 6]) == (0.5, 0.0)

    def test_the_error_of_a_gain_is_that_of_many_repetitions(self):
        rng = stream(0, "gains")
        before = 1 + 0.1 * rng.standard_normal((4000, 20))
        after = 0.7 * before + 0.05 * rng.standard_normal((4000, 20))
        found = [relative_gain(a, b) for a, b in zip(after, before, strict=True)]
        values, errors = np.array(found).T
        assert abs(values.mean() - 0.3) < SIGMAS * values.std() / np.sqrt(4000)
        assert abs(np.mean(errors**2) / values.var() - 1) < SIGMAS * np.sqrt(
            2 / 4000 * (1 + 1 / 19)
        )

    @pytest.mark.parametrize("compare", [paired_difference, relative_gain])
    @pytest.mark.parametrize(
        ("pair", "word"),
        [
            (([1.0], [2.0]), "n_seeds"),
            (([1.0, 2.0], [1.0]), "(first|after) 2, (second|before) 1"),
            (([1.0, np.nan], [1.0, 2.0]), "(first|after) must be finite"),
        ],
    )
    def test_refuses(self, compare, pair, word):
        with pytest.raises(ValueError, match=word):
            compare(*pair)

    def test_a_gain_needs_something_to_lose(self):
        with pytest.raises(ValueError, match="before must have a positive mean"):
            relative_gain([1.0, 2.0], [0.0, 0.0])


class TestFairErrors:
    ridges = (1e-3, 1e-1, 10.0)
    steps = (0.0, 40.0)

    def drawn(self, n_test=40, seed=0):
        sources = [Source(4), Source(4, theta_xi=9.0, noise=0.3)]
        setup = Setup(sources, 6, 30, 12, "relu", n_test)
        return draw(setup, rng=stream(seed, "fair"))

    def ridge_errors(self, train, parts, y, *, intercept):
        """Return the errors (ridges, parts, sources) of ridge regression: normal equations."""
        n, errors = len(y), []
        design = np.column_stack([train, np.ones(n)]) if intercept else train
        for ridge in self.ridges:
            penalty = n * ridge * np.eye(design.shape[1])
            penalty[train.shape[1] :, train.shape[1] :] = 0
            w = np.linalg.solve(design.T @ design + penalty, design.T @ y)
            constant = w[-1] if intercept else 0
            missed = [(part.y - h @ w[: train.shape[1]] - constant) ** 2 for h, part in parts]
            by_source = [
                [m[p.source == s].mean() for s in (0, 1)]
                for m, (_, p) in zip(missed, parts, strict=True)
            ]
            errors.append(by_source)
        return np.array(errors)

    def halves(self, test):
        """Return validation and test prompts: the odd and the even ones."""
        odd = np.arange(len(test)) % 2 == 1
        return test.take(odd), test.take(~odd)

    @staticmethod
    def chosen(errors):
        return errors[np.argmin(errors[:, 0].mean(axis=1)), 1]

    def test_linear_models_agree_with_the_normal_equations(self):
        drawn = self.drawn()
        found = fair_errors(drawn, [0.5, 0.5], step_sizes=self.steps, ridges=self.ridges)
        train = drawn.train.mix([0.5, 0.5])
        parts = [(features(part), part) for part in self.halves(drawn.test)]
        for value, intercept in ((found.linear_intercept, True), (found.linear, False)):
            errors = self.ridge_errors(features(train), parts, train.y, intercept=intercept)
            assert np.allclose(value, self.chosen(errors), rtol=ROUTES)

    def test_network_agrees_with_explicit_weights(self):
        drawn = self.drawn()
        found = fair_errors(drawn, [0.5, 0.5], step_sizes=self.steps, ridges=self.ridges)
        one, train = drawn.stage_one.mix([0.5, 0.5]), drawn.train.mix([0.5, 0.5])
        start = drawn.head.hidden / np.sqrt(norm_scale(one))
        gradient = first_gradient(start, drawn.head.readout, one, "relu")
        for step, value in zip(self.steps, found.network, strict=True):
            hidden = start + step * gradient

            def neurons(part, hidden=hidden):
                return np.maximum(features(part) @ hidden.T, 0) / np.sqrt(12)

            parts = [(neurons(part), part) for part in self.halves(drawn.test)]
            errors = self.ridge_errors(neurons(train), parts, train.y, intercept=True)
            assert np.allclose(value, self.chosen(errors), rtol=ROUTES)

    def test_constant(self):
        drawn = self.drawn()
        found = fair_errors(drawn, [0.0, 1.0], step_sizes=[0.0], ridges=[1.0])
        train, (_, test) = drawn.train.mix([0.0, 1.0]), self.halves(drawn.test)
        missed = (test.y - train.y.mean()) ** 2
        by_source = [missed[test.source == s].mean() for s in (0, 1)]
        assert np.allclose(found.constant, by_source, rtol=IDENTITY)

    def test_a_huge_ridge_leaves_the_constant(self):
        found = fair_errors(self.drawn(), [0.5, 0.5], step_sizes=[40.0], ridges=[1e12])
        assert np.allclose(found.linear_intercept, found.constant, rtol=1e-6)
        assert np.allclose(found.network, [found.constant], rtol=1e-6)

    def test_validation_prompts_choose_and_test_prompts_do_not(self):
        setup = Setup([Source(2, link="linear", noise=0.0)], 20, 60, 12, "relu", 40)
        drawn = draw(setup, rng=stream(0, "fair"))
        labels = drawn.test.y.copy()
        labels[::2] = drawn.train.mix([1.0]).y.mean()  # the constant is best on test prompts
        drawn = drawn._replace(test=dataclasses.replace(drawn.test, y=labels))
        alone = [
            fair_errors(drawn, [1.0], step_sizes=[0.0], ridges=[r]).linear for r in self.ridges
        ]
        found = fair_errors(drawn, [1.0], step_sizes=[0.0], ridges=self.ridges).linear
        assert np.argmin(alone) == 2
        assert found[0] > min(alone)[0]

    @pytest.mark.parametrize(
        ("change", "kind", "word"),
        [
            ({"drawn": None}, TypeError, "drawn must be a Draw"),
            ({"weights": [0.5, 0.6]}, ValueError, "weights"),
            ({"step_sizes": [np.nan]}, ValueError, "step_sizes"),
            ({"ridges": [0.0]}, ValueError, "ridges"),
        ],
    )
    def test_refuses(self, change, kind, word):
        given = {"drawn": self.drawn(), "weights": [0.5, 0.5]}
        given |= {"step_sizes": [0.0], "ridges": [1.0]} | change
        first = [given.pop(name) for name in ("drawn", "weights")]
        with pytest.raises(kind, match=word):
            fair_errors(*first, **given)

    def test_one_test_prompt_cannot_choose(self):
        with pytest.raises(ValueError, match="n_test must be >= 2"):
            fair_errors(self.drawn(n_test=1), [0.5, 0.5], step_sizes=[0.0], ridges=[1.0])
