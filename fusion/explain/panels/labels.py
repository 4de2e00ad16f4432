"""Probabilities of labels, with all modalities and without each, in columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import ceil
from typing import ClassVar

from matplotlib.axes import Axes

from amr.fusion.choices import HALF
from amr.fusion.explain.labels import LabelsExplanation
from amr.fusion.explain.panels.base import OTHER, PREDICTED, Panels
from amr.fusion.explain.panels.sheet import (
    BELOW,
    FOOT_LINE,
    LEFT,
    MARGIN,
    RIGHT,
    ROW,
    WIDTH,
    Sheet,
    bare,
    ink,
    unit_axis,
)
from amr.fusion.explain.words import cut, is_wide, width_of

NAME, LETTER, LETTERS = 8.0, 0.078, 34  # size of names in points, width of a letter in inches, letters in a line
CHECK = "\N{CHECK MARK}"
TRUE = 0.3  # width of the column of true labels, in inches
SPACE = 0.22  # between columns, in inches
COLUMNS = 7  # in a row
WIDE = 1.25  # width of a column from which its name has two words in a line, in inches
TITLE_LINE = 0.15  # height of a line in the name of a column, in inches
BELOW_LABELS = 0.45  # space below the columns, in inches
INSIDE = 0.72  # probability from which the number stands inside the bar

Column = tuple[tuple[str, ...], Mapping[str, float]]  # words of its name, and label to probability


class LabelsPanels(Panels[LabelsExplanation]):
    """Panels of predicted labels: below the shares, because there may be many, with long names."""

    legend_columns: ClassVar[int] = 4

    @cached_property
    def names(self) -> list[str]:
        """Names of the labels, on one or two lines."""
        return [_wrapped(name) for name in self.e.shown]

    @cached_property
    def blocks(self) -> list[list[Column]]:
        """Columns with all modalities, then without each by each baseline, in blocks that stand below each other."""
        columns: list[Column] = [(("with", "everything"), self.e.probabilities)]
        for m in next(iter(self.e.removed.values())):
            for baseline, removed in self.e.baselines.items():
                columns.append((("without", m, baseline), removed[m].probabilities))
        count = ceil(len(columns) / COLUMNS)
        return [columns[i * len(columns) // count : (i + 1) * len(columns) // count] for i in range(count)]

    @property
    def heading(self) -> str:
        """What dark bars and check marks say, and what is not shown."""
        text = "probability of each label; dark: above one half, so it is predicted"
        if self.e.true_labels is not None:
            text += f"; {CHECK}: true"
        if hidden := len(self.e.probabilities) - len(self.e.shown):
            text += f"\nnot shown: {hidden} labels with probabilities of {self.e.largest_hidden:.2f} at most"
        return text

    @property
    def _below_shares(self) -> float:
        """Space below the shares, for their axis and legend, in inches."""
        return BELOW + FOOT_LINE * ceil(len(self.colors) / self.legend_columns) - 0.05

    @property
    def _rows_height(self) -> float:
        """Height of all labels; names on two lines need more."""
        return ROW * len(self.names) * (1.15 if any("\n" in name for name in self.names) else 0.9)

    @property
    def _space(self) -> float:
        """Width of the column of true labels, in inches."""
        return 0.0 if self.e.true_labels is None else TRUE

    @property
    def _left(self) -> float:
        """Left end of the first column, in inches."""
        return max(LEFT, MARGIN + LETTER * _longest(self.names) + self._space)

    @property
    def _width(self) -> float:
        """Width of a column, in inches."""
        count = max(map(len, self.blocks))
        return (WIDTH - self._left - RIGHT - SPACE * (count - 1)) / count

    def _title(self, parts: Sequence[str]) -> str:
        """Name of a column, on as many lines as its width takes."""
        if self._width >= WIDE:
            return f"{parts[0]} " + "\n".join(parts[1:])
        shown = parts if len(self.e.baselines) > 1 else parts[:2]  # the notes name the only one
        letters = int((self._width + SPACE / 2) / LETTER)
        return "\n".join(cut(part, letters) for part in shown)

    @property
    def _titles_height(self) -> float:
        return (
            TITLE_LINE * max(self._title(parts).count("\n") + 1 for block in self.blocks for parts, _ in block) + 0.08
        )

    @property
    def _heading_height(self) -> float:
        return FOOT_LINE * (1 + self.heading.count("\n")) + 0.08

    @property
    def height(self) -> float:
        """Height of all, with the axes below, in inches."""
        of_block = self._titles_height + self._rows_height + BELOW_LABELS
        return self.shares_height + self._below_shares + self._heading_height + len(self.blocks) * of_block

    def draw(self, sheet: Sheet) -> None:
        """Draw the shares, and below them the labels."""
        self.draw_shares(sheet.axes(LEFT, WIDTH - LEFT - RIGHT, self.shares_height))
        sheet.skip(self.shares_height + self._below_shares)
        y = 1 - sheet.y / sheet.height
        sheet.figure.text(MARGIN / WIDTH, y, self.heading, fontsize=9.5, va="top", linespacing=1.3)
        sheet.skip(self._heading_height)
        for block in self.blocks:
            sheet.skip(self._titles_height)
            for i, (parts, probabilities) in enumerate(block):
                axes = sheet.axes(self._left + i * (self._width + SPACE), self._width, self._rows_height)
                self._draw_column(axes, probabilities)
                axes.set_title(self._title(parts), loc="left", fontsize=8.5, pad=4)
                if i == 0:
                    self._draw_names(axes)
            sheet.skip(self._rows_height + BELOW_LABELS)

    def _draw_column(self, axes: Axes, probabilities: Mapping[str, float]) -> None:
        """One bar per label."""
        for row, label in enumerate(self.e.shown):
            p = probabilities[label]
            color = PREDICTED if p > HALF else OTHER
            axes.barh(row, p, height=0.68, color=color)
            inside = p > INSIDE
            axes.text(
                p + (-0.03 if inside else 0.03),
                row,
                f"{p:.2f}",
                ha="right" if inside else "left",
                va="center",
                fontsize=7.5,
                color=ink(color) if inside else "#000000",
                bbox=None if inside else {"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
        axes.axvline(HALF, color="#000000", linewidth=0.8, linestyle=":", zorder=0)
        axes.set_yticks([])
        axes.set_ylim(len(self.e.shown) - 0.5, -0.5)
        unit_axis(axes)
        bare(axes)

    def _draw_names(self, axes: Axes) -> None:
        """Names beside the first column: bold ones are predicted, those with a check mark are true."""
        space, gap = self._space / self._width, 0.08 / self._width
        place = axes.get_yaxis_transform()
        for row, (label, name) in enumerate(zip(self.e.shown, self.names, strict=True)):
            weight = "bold" if label in self.e.labels else "normal"
            axes.text(-space - gap, row, name, transform=place, fontsize=NAME, weight=weight, ha="right", va="center")
            if label in (self.e.true_labels or ()):
                axes.text(-space / 2 - gap, row, CHECK, transform=place, fontsize=10, ha="center", va="center")


def _wrapped(name: str) -> str:
    """Name of a label on one line, or on two of about the same length."""
    letters = LETTERS // 2 if is_wide(name) else LETTERS
    if width_of(name) <= LETTERS:
        return name
    for width in range(min(letters, len(name) // 2), letters):
        if len(lines := textwrap.wrap(name, width)) <= 2:
            return "\n".join(lines)
    return "\n".join(textwrap.wrap(name, letters, max_lines=2, placeholder="..."))


def _longest(names: Sequence[str]) -> int:
    """Width of the longest line, in letters."""
    return max(width_of(line) for name in names for line in name.split("\n"))
