"""The sections of the page. Add one as a file that registers a function, imported here.

`ORDER` is their order on the page. `decisions/` holds those about the decisions on clips, `amr.fusion.report.plots` the
tools of all of them.
"""

from amr.fusion.report.sections import (
    balance,
    curves,
    decisions,
    encoders,
    frontier,
    fusion,
    methods,
    people,
    references,
    runs,
)
from amr.fusion.report.sections.base import sections

# The first of these that a folder has is the picture of the verdict, before everything else.
LEAD = ("frontier", "verdict", "use")
# The order answers: what does the head rely on, and did balance help? Others come last.
ORDER = (
    *("frontier", "verdict", "methods", "share", "use", "missing", "fusion", "information", "noise"),
    *("classes", "recognized", "confusion", "numbers"),
    *("reliability", "training", "encoders", "overfitting", "people", "runs"),
)

__all__ = [
    "LEAD",
    "ORDER",
    "balance",
    "curves",
    "decisions",
    "encoders",
    "frontier",
    "fusion",
    "methods",
    "people",
    "references",
    "runs",
    "sections",
]
