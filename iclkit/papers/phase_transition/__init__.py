"""The phase transition of in-context learning by linear attention (Lu et al. 2025).

For chapter 4: asymptotic errors (`theory`), their limits (`limits`) and optima (`optima`),
finite-size risk and simulation (`finite`), Bayes baselines (`bayes`) and the authors' published
numbers (`points`). Past the paper: test-time context (`context`), estimates from pretraining
data (`leaveout`) and order parameters (`alignment`). All ratios are those of the paper:
alpha = n_context/d, kappa = n_tasks/d, tau = n_prompts/d^2; rho is the label noise, penalty the
paper's lambda.
"""

from iclkit.papers.phase_transition.alignment import (
    Alignment,
    alignment,
    alignment_curve,
    finite_alignment,
)
from iclkit.papers.phase_transition.bayes import gaussian_bayes, pool_bayes
from iclkit.papers.phase_transition.context import (
    ContextLine,
    context_line,
    context_transfer,
    simulate_contexts,
)
from iclkit.papers.phase_transition.finite import (
    FiniteErrors,
    Pretrained,
    ReadoutLaw,
    Sizes,
    finite_readout,
    finite_size,
    population_error,
    pretrain,
    reduce_attention,
    simulate,
    sizes,
)
from iclkit.papers.phase_transition.leaveout import LeftOut, leave_out
from iclkit.papers.phase_transition.limits import (
    Errors,
    LongContext,
    authors_ridgeless,
    fresh_task_dip,
    fresh_task_error,
    fresh_task_penalty,
    infinite_data,
    long_context,
    long_context_gap,
    peak_amplitude,
    short_context,
    task_gap,
    task_gap_scaling,
)
from iclkit.papers.phase_transition.optima import (
    BestContext,
    BestPenalty,
    best_context,
    best_penalty,
    best_training,
    context_map,
)
from iclkit.papers.phase_transition.points import published
from iclkit.papers.phase_transition.theory import (
    LearningCurve,
    effective_ridge,
    learning_curve,
)

__all__ = [
    "Alignment",
    "BestContext",
    "BestPenalty",
    "ContextLine",
    "Errors",
    "FiniteErrors",
    "LearningCurve",
    "LeftOut",
    "LongContext",
    "Pretrained",
    "ReadoutLaw",
    "Sizes",
    "alignment",
    "alignment_curve",
    "authors_ridgeless",
    "best_context",
    "best_penalty",
    "best_training",
    "context_line",
    "context_map",
    "context_transfer",
    "effective_ridge",
    "finite_alignment",
    "finite_readout",
    "finite_size",
    "fresh_task_dip",
    "fresh_task_error",
    "fresh_task_penalty",
    "gaussian_bayes",
    "infinite_data",
    "learning_curve",
    "leave_out",
    "long_context",
    "long_context_gap",
    "peak_amplitude",
    "pool_bayes",
    "population_error",
    "pretrain",
    "published",
    "reduce_attention",
    "short_context",
    "simulate",
    "simulate_contexts",
    "sizes",
    "task_gap",
    "task_gap_scaling",
]
