"""The sections of the page. Add one as a file that registers a function, imported here.

`balance`, `curves`, `decisions` and `people` hold sections. `picture` and `clips` are tools. `ORDER` is the order of
the sections on the page.
"""

from amr.fusion.report.sections import balance, curves, decisions, people
from amr.fusion.report.sections.picture import sections

# The order answers: what does the head rely on, and did balance help? Others come last.
ORDER = ("share", "use", "missing", "noise", "classes", "confusion", "training", "people")

__all__ = ["ORDER", "balance", "curves", "decisions", "people", "sections"]
