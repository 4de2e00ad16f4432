"""Probability of the predicted class, and of the true class if it is another."""

from __future__ import annotations

import textwrap
from functools import cached_property

from matplotlib.axes import Axes

from amr.fusion.explain.classes import ClassExplanation, Removed, class_text
from amr.fusion.explain.panels.base import OTHER, PREDICTED, PanelsBeside, rows_of
from amr.fusion.explain.panels.sheet import unit_axis


class ClassPanels(PanelsBeside[ClassExplanation]):
    """Panels of a predicted class."""

    @cached_property
    def rows(self) -> list[tuple[str, Removed]]:
        """Predictions with all modalities, then without each modality by each baseline."""
        return [("with everything", self.e.everything), *rows_of(self.e)]

    @property
    def num_rows(self) -> float:
        """Two bars per row if there are two classes."""
        return len(self.rows) * (2 if self.e.is_wrong else 1.3)

    @property
    def heading(self) -> str:
        """Which classes the bars are of."""
        text = f"probability of {_short_class(self.e.pred)}"
        if self.e.is_wrong:
            text += f" (dark) and {_short_class(self.e.true)} (light)"
        return textwrap.fill(text, 50)

    def draw_decisions(self, axes: Axes) -> None:
        """One bar per class in each row."""
        both = self.e.is_wrong
        height = 0.36 if both else 0.62
        for row, (_, removed) in enumerate(self.rows):
            bars = [(removed.probability, PREDICTED)]
            if both and removed.true_probability is not None:
                bars.append((removed.true_probability, OTHER))
            for i, (value, color) in enumerate(bars):
                y = row + (i - (len(bars) - 1) / 2) * height
                axes.barh(y, value, height=height, color=color)
                other = ""
                if removed.pred != self.e.pred and i == 0:
                    other = f"   now {_short_class(removed.pred, 14)}: {removed.pred_probability:.2f}"
                axes.text(value + 0.015, y, f"{value:.2f}{other}", va="center", fontsize=8)
        axes.set_yticks(range(len(self.rows)), [name for name, _ in self.rows], fontsize=8.5)
        axes.set_ylim(len(self.rows) - 0.5, -0.5)
        unit_axis(axes)


def _short_class(name: str | None, most: int = 20) -> str:
    """Shorten the name of a class."""
    return class_text(textwrap.shorten(name or "", most, placeholder="..."))
