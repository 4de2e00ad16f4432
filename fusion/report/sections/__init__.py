"""The sections of the page. Add one as a file that registers a function, imported here.

`picture` and `clips` are tools; the other files hold sections. `ORDER` is the order of the sections on the page.
"""

from amr.fusion.report.sections import balance, curves, decisions, encoders, frontier, fusion, people, references
from amr.fusion.report.sections.picture import sections

# The order answers: what does the head rely on, and did balance help? Others come last.
ORDER = (
    *("frontier", "share", "use", "missing", "fusion", "information", "noise", "classes", "confusion"),
    *("training", "encoders", "overfitting", "people"),
)

__all__ = [
    "ORDER",
    "balance",
    "curves",
    "decisions",
    "encoders",
    "frontier",
    "fusion",
    "people",
    "references",
    "sections",
]
