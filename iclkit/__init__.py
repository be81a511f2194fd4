"""Derive, rerun and check theory papers on in-context learning.

The package imports nothing by itself: take what you need from its modules,
for example ``from iclkit.papers import phase_transition``.
"""

__version__ = "0.1.0"
