"""Trained attention models: a whole sweep at once, for the figures that no formula covers.

The only package that needs PyTorch. Every weight has a leading model axis, so that all models of a
sweep take a training step together; no model influences another. The architectures are those of
the experiments of Lu et al. 2025 (`networks`) and of Zhang, Wu and Bartlett 2024 (`blocks`);
`data`, `training`, `trained` and `rank` serve them all.
"""

from iclkit.nets.blocks import BasicTransformer, LinearBlock
from iclkit.nets.gradient import gradient_step
from iclkit.nets.heads import SoftmaxHeads
from iclkit.nets.networks import (
    Architecture,
    Network,
    init_weights,
    linear_attention,
    n_parameters,
    predict,
    softmax_block,
    transformer,
)
from iclkit.nets.rank import JacobianRank, jacobian_rank
from iclkit.nets.trained import ModelErrors, Trained, TrainedPredictor
from iclkit.nets.training import Recipe, train

__all__ = [
    "Architecture",
    "BasicTransformer",
    "JacobianRank",
    "LinearBlock",
    "ModelErrors",
    "Network",
    "Recipe",
    "SoftmaxHeads",
    "Trained",
    "TrainedPredictor",
    "gradient_step",
    "init_weights",
    "jacobian_rank",
    "linear_attention",
    "n_parameters",
    "predict",
    "softmax_block",
    "train",
    "transformer",
]
