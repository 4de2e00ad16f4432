"""Upper panels of the picture: shares of a decision, and the decision with and without each modality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from amr.fusion.explain.explanation import NAMES, Explanation, W
from amr.fusion.explain.panels.sheet import (
    BELOW,
    FOOT_LINE,
    LEFT,
    ROW,
    WIDTH,
    Sheet,
    bare,
    heading,
    inches,
    ink,
    unit_axis,
)
from amr.fusion.explain.words import cut

SHARES, SHARES_WIDTH = 2.0, 2.75  # largest height, and width beside another panel
BESIDE = LEFT + SHARES_WIDTH + 1.9  # left end of the panel beside the shares
MAX_NAME = 18  # letters of a modality
NUMBER = 0.3  # width of a number in a bar, in inches
PREDICTED, OTHER = "#333333", "#b0b0b0"

E = TypeVar("E", bound=Explanation[Any])


class Panels(ABC, Generic[E]):
    """The upper panels of the picture of one task.

    Args:
        e: Numbers to show.
        colors: Modality to color.

    Attributes:
        legend_columns: Modalities side by side in the legend.
    """

    legend_columns: ClassVar[int] = 3

    def __init__(self, e: E, colors: Mapping[str, str]) -> None:
        self.e = e
        self.colors = colors

    @property
    @abstractmethod
    def height(self) -> float:
        """Height of all, in inches."""

    @abstractmethod
    def draw(self, sheet: Sheet) -> None:
        """Draw the panels, and move down by their height."""

    @property
    def space_above(self) -> float:
        """Space above for a heading of more than one line, in inches."""
        return 0.0

    @property
    def shares_height(self) -> float:
        """Height of the panel of shares, in inches."""
        return ROW * (len(self.e.share) * 1.3)

    def draw_shares(self, axes: Axes) -> None:
        """One bar per attribution, divided among the modalities."""
        e, colors = self.e, self.colors
        width, height = inches(axes)
        for row, shares in enumerate(e.share.values()):
            left = 0.0
            for m, share in shares.items():
                if share is None:
                    continue
                axes.barh(row, share, left=left, height=0.62, color=colors[m], edgecolor="white", linewidth=0.8)
                if share * width >= NUMBER:
                    middle = left + share / 2
                    axes.text(middle, row, f"{share:.2f}", ha="center", va="center", fontsize=8, color=ink(colors[m]))
                left += share
            if left == 0:
                axes.text(0.5, row, "fewer than two modalities", ha="center", va="center", fontsize=8, color="#777777")
        axes.set_yticks(range(len(e.share)), [NAMES[name] for name in e.share], fontsize=8.5)
        axes.set_ylim(len(e.share) - 0.5, -0.5)
        unit_axis(axes)
        bare(axes)
        heading(axes, f"share of {e.attributed}, by")
        handles = [Patch(color=color, label=m) for m, color in colors.items()]
        axes.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0, -0.3 / height),
            ncols=min(self.legend_columns, len(handles)),
            fontsize=8,
            frameon=False,
            borderaxespad=0,
            handlelength=1,
            handleheight=1,
            columnspacing=1.2,
        )


class PanelsBeside(Panels[E]):
    """Shares, and beside them one row per decision: with all modalities, then without each by each baseline."""

    @property
    @abstractmethod
    def heading(self) -> str:
        """Heading of the rows, with its line breaks."""

    @property
    @abstractmethod
    def num_rows(self) -> float:
        """Height of the decisions, in rows."""

    @abstractmethod
    def draw_decisions(self, axes: Axes) -> None:
        """Draw the decisions."""

    @property
    def space_above(self) -> float:
        """Height of the lines of the heading but one, in inches."""
        return FOOT_LINE * self.heading.count("\n")

    @property
    def right(self) -> float:
        """Space for texts to the right of the decisions, in inches."""
        return 0.95

    @property
    def panel_height(self) -> float:
        """Height of the higher panel, in inches."""
        return max(ROW * self.num_rows, self.shares_height)

    @property
    def height(self) -> float:
        """Height of all, with the axes below, in inches."""
        return self.panel_height + BELOW

    def draw(self, sheet: Sheet) -> None:
        """Draw the shares, and beside them the decisions."""
        self.draw_shares(sheet.axes(LEFT, SHARES_WIDTH, min(self.panel_height, SHARES)))
        axes = sheet.axes(BESIDE, WIDTH - BESIDE - self.right, self.panel_height)
        self.draw_decisions(axes)
        bare(axes)
        heading(axes, self.heading)
        sheet.skip(self.height)


def rows_of(e: Explanation[W]) -> list[tuple[str, W]]:
    """Name and prediction without each modality by each baseline."""
    rows = []
    for m in next(iter(e.removed.values())):
        for baseline, by_modality in e.baselines.items():
            separator = "\n" if " or " in baseline else ": "
            rows.append((f"without {cut(m, MAX_NAME)}{separator}{baseline}", by_modality[m]))
    return rows
