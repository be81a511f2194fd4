"""Speed of the library against the obvious methods, measured side by side in one run.

``python -m benchmarks`` from the root of the repository prints the table.
"""
