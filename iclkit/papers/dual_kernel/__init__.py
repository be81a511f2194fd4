"""Softmax attention as one gradient step of a kernel model (Ren and Liu 2024).

For chapter 1. Tokens are columns; keys and queries are scaled so that the kernel is
``exp(<x, y>)`` (`attention`). The dual model lives in function space (`dual`).
"""

from iclkit.papers.dual_kernel.attention import (
    Attended,
    Lookup,
    attend,
    attention_output,
    look_up,
)
from iclkit.papers.dual_kernel.dual import (
    DualModel,
    contrasted,
    descend,
    dual_gradient,
    dual_loss,
    dual_output,
    inner,
    leave_one_out,
    negative_samples,
    task_update,
    token_by_token,
    zero_shot_model,
)
from iclkit.papers.dual_kernel.tokens import CubeRegression, prompt_tokens, random_layer

__all__ = [
    "Attended",
    "CubeRegression",
    "DualModel",
    "Lookup",
    "attend",
    "attention_output",
    "contrasted",
    "descend",
    "dual_gradient",
    "dual_loss",
    "dual_output",
    "inner",
    "leave_one_out",
    "look_up",
    "negative_samples",
    "prompt_tokens",
    "random_layer",
    "task_update",
    "token_by_token",
    "zero_shot_model",
]
