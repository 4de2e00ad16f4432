"""Sections about the decisions on test clips: by class or label, confusions, numbers, and how sure they are."""

from amr.fusion.report.sections.decisions import by_class, confusion, numbers, recognized, reliability

__all__ = ["by_class", "confusion", "numbers", "recognized", "reliability"]
