"""The predicted number on an axis, with all modalities and without each."""

from __future__ import annotations

from functools import cached_property

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from amr.fusion.explain.number import NumberExplanation
from amr.fusion.explain.panels.base import OTHER, PREDICTED, PanelsBeside, rows_of
from amr.fusion.explain.words import cut

DEVIATIONS = 2  # of the train clips around their mean that the axis shows at least
LETTER = 0.07  # width of a letter, in inches
MAX_NAME = 48  # letters of the column's name


class NumberPanels(PanelsBeside[NumberExplanation]):
    """Panels of a predicted number."""

    @cached_property
    def rows(self) -> list[tuple[str, float]]:
        """The number with all modalities, then without each modality by each baseline."""
        return [("with everything", self.e.value), *((name, removed.value) for name, removed in rows_of(self.e))]

    @property
    def num_rows(self) -> float:
        """A little more than one per number."""
        return len(self.rows) * 1.3

    @property
    def heading(self) -> str:
        """What the dots and the lines are."""
        truth = "" if self.e.true_value is None else f"solid: true, {self.e.number(self.e.true_value)}; "
        return f"{cut(self.e.column, MAX_NAME)}\n{truth}dotted: mean of train clips"

    @cached_property
    def texts(self) -> list[str]:
        """The number of each row, and its difference from the number with all modalities."""
        number, whole = self.e.number, self.e.value
        changes = [f"{number(value)} ({_signed(number(value - whole))})" for _, value in self.rows[1:]]
        return [number(whole), *changes]

    @property
    def right(self) -> float:
        """Space for texts to the right of the decisions, in inches."""
        return 0.3 + LETTER * max(map(len, self.texts))

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the axis: every number that is shown, and at least two deviations of the train clips."""
        e = self.e
        shown = [value for _, value in self.rows] + ([] if e.true_value is None else [e.true_value])
        shown += [e.train_mean - DEVIATIONS * e.train_std, e.train_mean + DEVIATIONS * e.train_std]
        margin = 0.04 * (max(shown) - min(shown))
        return min(shown) - margin, max(shown) + margin

    def draw_decisions(self, axes: Axes) -> None:
        """One dot per row, with a line from the number with all modalities."""
        e = self.e
        axes.axvline(e.train_mean, color=OTHER, linewidth=1, linestyle=":")
        if e.true_value is not None:
            axes.axvline(e.true_value, color="#000000", linewidth=1)
        for row, (_, value) in enumerate(self.rows):
            axes.plot([e.value, value], [row, row], color=OTHER, linewidth=3, solid_capstyle="butt", zorder=2.5)
            axes.plot(value, row, "o", color=PREDICTED, markersize=9 if row == 0 else 6.5, zorder=3)
            axes.text(1.04, row, self.texts[row], transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        axes.set_yticks(range(len(self.rows)), [name for name, _ in self.rows], fontsize=8.5)
        axes.set_ylim(len(self.rows) - 0.5, -0.5)
        axes.set_xlim(*self.limits)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(axis="x", labelsize=8)


def _signed(text: str) -> str:
    """Text of a change, with its sign."""
    return text if text.startswith("-") else f"+{text}"
