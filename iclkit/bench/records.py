"""Names of the records that a run leaves in its notebook's outputs.

A notebook writes no files: checks and figures travel as private mime types beside what the
reader sees, and the book is assembled from them. This module imports nothing.
"""

__all__ = ["CAPTION_MIME", "CLAIM_MIME", "FIGURE_MIME", "FIGURE_NAME", "MIN_ALT"]

#: Payload: one ledger row, see `iclkit.bench.claims.Row.to_json`.
CLAIM_MIME = "application/vnd.iclkit.claim+json"

#: Payload: ``{"name", "caption", "alt", "csv"}`` of one figure; ``csv`` is None without data.
FIGURE_MIME = "application/vnd.iclkit.figure+json"

#: Payload: ``{"name"}``. Marks the caption shown under a figure in a live notebook, so that a
#: page that sets its own caption can drop this output.
CAPTION_MIME = "application/vnd.iclkit.caption+json"

#: Pattern of a figure's name: lower-case words joined by hyphens.
FIGURE_NAME = r"[a-z0-9]+(-[a-z0-9]+)*"

#: Characters that the alternative text of a figure has at least.
MIN_ALT = 30
