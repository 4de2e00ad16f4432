"""Registry of the sections of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amr.common.registry import Registry
from amr.fusion.report.plots.picture import Picture
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import Setting

Section = Callable[[ResultFolder, Sequence[Setting]], Picture | None]
sections: Registry[Section] = Registry("section")
