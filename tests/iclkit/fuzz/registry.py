"""What a valid call of each public name looks like, and the few promises that names break."""

import inspect
from typing import Any

from tests.iclkit.fuzz.block_arguments import BLOCK, BLOCK_CALLS, BLOCK_SELVES
from tests.iclkit.fuzz.dual_arguments import DUAL, DUAL_CALLS, DUAL_SELVES
from tests.iclkit.fuzz.hostile import Variant
from tests.iclkit.fuzz.mixing_arguments import MIXING, MIXING_CALLS, MIXING_SELVES
from tests.iclkit.fuzz.public import Call, calls
from tests.iclkit.fuzz.shared_arguments import COMMON, SHARED, SHARED_CALLS, SHARED_SELVES
from tests.iclkit.fuzz.world import Make, World

SECTIONS: dict[str, dict[str, Make]] = {
    **SHARED,
    "linear_block": BLOCK,
    "dual_kernel": DUAL,
    "data_mixing": MIXING,
}
OVERRIDES = SHARED_CALLS | BLOCK_CALLS | DUAL_CALLS | MIXING_CALLS
SELVES = SHARED_SELVES | BLOCK_SELVES | DUAL_SELVES | MIXING_SELVES


FREE = {
    ("rng.stream", "name"),  # any plain value names a stream
    ("hermite.activation", "function"),  # a function is returned unseen
    ("hermite.checked", "function"),
    ("hermite.derivative", "function"),
    ("hermite.activation", "name"),  # what a message says
    ("hermite.checked", "name"),
    ("hermite.derivative", "name"),
    ("moments.positive_array", "name"),
}
ALLOWED = {  # seeds have no largest value; some work grows with a size while the memory does not
    ("rng.stream", "seed", "beyond"),
    ("risk.monte_carlo_risk", "n_prompts", "1e+15"),
    ("linear_block.bayes_risk", "n_draws", "1e+15"),
    ("linear_block.gap_ratio_search", "n", "1e+15"),
    ("linear_block.pretraining_constant", "n_draws", "1e+15"),
}
SLOW = {  # a tenth of a second and more
    f"linear_block.{name}"
    for name in (
        "best_heads",
        "best_scratchpad",
        "block_flow",
        "gap_ratio_search",
        "heads_gap",
        "search_weights",
    )
}
QUICK = [key for key in calls() if key not in SLOW]
COMPANIONS = ("weights",)  # have a default that fits one source only


def maker(call: Call, parameter: str) -> Make | None:
    """Return what makes an argument of a call, or None if nobody said."""
    for place in (OVERRIDES.get(call.key, {}), SECTIONS.get(call.section, {}), COMMON):
        if parameter in place:
            return place[parameter]
    return None


def missing(call: Call) -> list[str]:
    """Return the parameters that nobody makes."""
    lost = [name for name in call.parameters if maker(call, name) is None]
    owner = call.key.rpartition(".")[0]
    return lost + (["self"] if call.method and owner not in SELVES else [])


def valid(call: Call, world: World, *, options: bool = True) -> dict[str, Any]:
    """Return arguments that fit, without the optional ones if so wished."""
    made = {}
    for name, parameter in call.parameters.items():
        make = maker(call, name)
        needed = parameter.default is inspect.Parameter.empty and parameter.kind < 4
        if make is not None and (needed or options or name in COMPANIONS):
            made[name] = make(world)
    return {name: value for name, value in made.items() if value is not None}


def owner(call: Call, world: World) -> Any:
    """Return the object whose method is called, None for a function."""
    return SELVES[call.key.rpartition(".")[0]](world) if call.method else None


def allowed(call: Call, name: str, variant: Variant) -> bool:
    """Return whether a variant is not hostile here, or not to be tried."""
    default = variant.value is None and call.parameters[name].default is None
    free = (call.key, name) in FREE and variant.outcome != "same"
    return default or free or (call.key, name, variant.label) in ALLOWED
