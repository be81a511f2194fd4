"""How many examples a fuzz test takes, and which.

On a push the examples are the same every time (`derandomize`): a red test then means that the
change broke something, not that luck found an old fault. Luck has its turn at night:
``ICLKIT_FUZZ=nightly`` draws other examples at every run, and forty times as many.
"""

import os

from hypothesis import HealthCheck, settings

NIGHTLY = os.environ.get("ICLKIT_FUZZ", "") == "nightly"
_ALL = (HealthCheck.too_slow, HealthCheck.data_too_large)
_TIMES = 40  # examples of a night for one of a push


def examples(count: int) -> settings:
    """Return the settings of a test that takes `count` examples on a push."""
    return settings(
        max_examples=_TIMES * count if NIGHTLY else count,
        derandomize=not NIGHTLY,
        database=None,
        deadline=None,  # one machine's second is another one's minute; see contract.SECONDS
        suppress_health_check=_ALL,
    )
