"""The sections of the page. Add one as a file that registers a function, imported here."""

from amr.fusion.report.sections import balance, curves, decisions, people
from amr.fusion.report.sections.picture import sections

# In an order that answers: what does the head rely on, and did balance help? Others come last.
ORDER = ("share", "use", "missing", "noise", "classes", "confusion", "training", "people")

__all__ = ["ORDER", "balance", "curves", "decisions", "people", "sections"]
