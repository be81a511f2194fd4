"""Trained models: their errors on fresh prompts, their weights, and each as a predictor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from iclkit._checks import count, finite_array, generator, instance
from iclkit.nets.data import law_list, sample_inputs, squared_errors, token_array
from iclkit.nets.networks import Architecture, Floats, Weights, n_models, predict
from iclkit.prompts import Law, Prompts

__all__ = ["ModelErrors", "Trained", "TrainedPredictor", "to_array"]

_TEST_BLOCK = 2048  # test prompts drawn at once


class ModelErrors(NamedTuple):
    """Mean squared errors on fresh prompts, one per model.

    Attributes
    ----------
    value, stderr : (models,) array
        Means and their standard errors over the test prompts.
    """

    value: Floats
    stderr: Floats


@dataclass(frozen=True, eq=False)
class Trained:
    """Models of one architecture after training; see `iclkit.nets.train`.

    Parameters
    ----------
    network : Architecture
    weights : dict of str to tensor
        With a leading model axis.
    train_loss : (models,) array
        Mean squared error of each model on its whole pretraining set, at the end; with fresh
        prompts in every step, the last row of the history.
    history : (records, models) array
        Mean loss on the batches since the record before, during training.
    history_steps : (records,) array
        The step at which each record was taken.
    watched : (looks, models, ...) array
        What `train` was asked to watch, at the start, now and then, and at the end.
    watched_steps : (looks,) array
        The steps of these looks.
    """

    network: Architecture
    weights: Weights = field(repr=False)
    train_loss: Floats = field(repr=False)
    history: Floats = field(repr=False)
    history_steps: NDArray[np.int64] = field(repr=False)
    watched: Floats = field(repr=False)
    watched_steps: NDArray[np.int64] = field(repr=False)

    @property
    def n_models(self) -> int:
        """Number of models."""
        return len(self.train_loss)

    def errors(
        self, laws: Law | Sequence[Law], *, n_context: int, n_prompts: int, rng: np.random.Generator
    ) -> ModelErrors:
        """Return each model's mean squared error on fresh prompts, with its standard error.

        Parameters
        ----------
        laws : Law or sequence of Law
            One for all, and then all models answer the same prompts; or one per model.
        n_context : int
            Labelled examples in each prompt.
        n_prompts : int
            Test prompts per model, >= 2.
        rng : numpy.random.Generator

        Returns
        -------
        ModelErrors

        Raises
        ------
        ValueError
            If the number or the dimension of the laws does not fit, or an error overflows.
        TypeError
            If a law cannot sample.
        """
        laws = law_list(laws)
        if len(laws) not in (1, self.n_models):
            raise ValueError(f"laws must be one or {self.n_models}, got {len(laws)}")
        n_prompts, rng = count("n_prompts", n_prompts, low=2), generator(rng)
        losses = []
        for start in range(0, n_prompts, _TEST_BLOCK):
            size = min(_TEST_BLOCK, n_prompts - start)
            drawn = [sample_inputs(self.network, law, size, n_context, rng) for law in laws]
            losses.append(self._losses(drawn))
        loss = _finite("laws", np.concatenate(losses, axis=1))
        return ModelErrors(loss.mean(axis=1), loss.std(axis=1, ddof=1) / math.sqrt(n_prompts))

    def losses(self, prompts: Prompts, *, models: slice = slice(None)) -> Floats:
        """Return squared errors on given prompts, for comparisons that are paired.

        Parameters
        ----------
        prompts : Prompts
            The same for all models.
        models : slice
            Which models answer. Default: all.

        Returns
        -------
        (models, batch) array

        Raises
        ------
        ValueError
            If the prompts do not have the network's dimension, a number is not finite or so large
            that an error overflows, or no model is chosen.
        TypeError
            If there are no prompts or no slice.
        """
        instance("prompts", prompts, Prompts, "sample some from a law")
        tokens = _tokens(prompts.x, prompts.y, prompts.x_query)
        answers = finite_array("y_query", prompts.y_query, ndim=1)
        if len(answers) != len(tokens):
            raise ValueError(f"prompts must have {len(tokens)} y_query, got {len(answers)}")
        if tokens.shape[2] != self.network.dim + 1:
            raise ValueError(
                f"the models are for dimension {self.network.dim}, got x of {prompts.x.shape}"
            )
        chosen = self._chosen(models)
        weights = {name: weight[chosen] for name, weight in self.weights.items()}
        like = next(iter(weights.values()))
        if not len(like):
            raise ValueError(f"models must choose some of {self.n_models}, got {models}")
        inputs = self.network.inputs(torch.from_numpy(tokens)[None].to(like))
        target = torch.from_numpy(answers)[None].to(like)
        return _finite("prompts", squared_errors(self.network, weights, inputs, target))

    def _chosen(self, models: slice) -> list[int]:
        """Return the places of the models that a slice chooses."""
        try:
            return list(range(self.n_models))[instance("models", models, slice, "as slice(2)")]
        except (TypeError, ValueError):
            raise TypeError(f"models must be a slice of whole numbers, got {models!r}") from None

    def _losses(self, drawn: list[tuple[tuple[Tensor, ...], Tensor]]) -> Floats:
        like = next(iter(self.weights.values()))
        inputs = zip(*(inputs for inputs, _ in drawn), strict=True)
        stacked = tuple(torch.stack(parts).to(like) for parts in inputs)
        target = torch.stack([target for _, target in drawn]).to(like)
        return squared_errors(self.network, self.weights, stacked, target)

    def predictor(self, model: int) -> TrainedPredictor:
        """Return one of the models as a predictor.

        Parameters
        ----------
        model : int
            Its place in the sweep, 0 to ``n_models - 1``.

        Returns
        -------
        TrainedPredictor
            For `iclkit.risk.monte_carlo_risk` and every other use of a predictor.
        """
        return TrainedPredictor(self.network, self._one(model))

    def arrays(self, model: int) -> dict[str, Floats]:
        """Return the weights of one of the models as arrays, for a formula that takes them.

        Parameters
        ----------
        model : int
            Its place in the sweep, 0 to ``n_models - 1``.

        Returns
        -------
        dict of str to array
            In float64, without the model axis.
        """
        return {name: to_array(weight[0]) for name, weight in self._one(model).items()}

    def _one(self, model: int) -> Weights:
        if count("model", model, low=0) >= self.n_models:
            raise ValueError(f"model must be < {self.n_models}, got {model}")
        return {name: weight[model : model + 1] for name, weight in self.weights.items()}


@dataclass(frozen=True, eq=False)
class TrainedPredictor:
    """A trained model as an `iclkit.predictors.Predictor`.

    Parameters
    ----------
    network : Architecture
    weights : dict of str to tensor
        With a leading model axis of length one.
    """

    network: Architecture
    weights: Weights = field(repr=False)

    def __post_init__(self) -> None:
        if (models := n_models(self.network, self.weights)) != 1:
            raise ValueError(f"weights must be those of one model, got {models}")
        if not all(bool(weight.isfinite().all()) for weight in self.weights.values()):
            raise ValueError("weights must be finite, got NaN or infinity")

    def __call__(self, x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
        """Return predictions, (batch,); see `iclkit.predictors.Predictor`."""
        tokens = _tokens(x, y, x_query)
        if tokens.shape[2] != self.network.dim + 1:
            raise ValueError(
                f"the model is for dimension {self.network.dim}, got x of {np.shape(x)}"
            )
        stacked = torch.as_tensor(tokens[None]).to(next(iter(self.weights.values())))
        with torch.no_grad():
            answers = predict(self.network, self.weights, stacked)[0]
        return _finite("x, y, x_query", answers.double().cpu().numpy())


def _tokens(x: ArrayLike, y: ArrayLike, x_query: ArrayLike) -> Floats:
    """Return the tokens of finite prompts; see `iclkit.nets.data.token_array`."""
    return token_array(
        finite_array("x", x, ndim=3),
        finite_array("y", y, ndim=2),
        finite_array("x_query", x_query, ndim=2),
    )


def _finite(name: str, values: Floats) -> Floats:
    """Return numbers that did not overflow in the models' precision."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be of moderate size, got an answer that is not finite")
    return values


def to_array(tensor: Tensor) -> Floats:
    """Return a copy of a tensor's numbers as a float64 array, away from devices and gradients."""
    return tensor.detach().double().cpu().numpy().copy()
