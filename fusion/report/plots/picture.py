"""Pictures of the page: a plot that the browser draws, a text alternative, and the data as a table."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from amr.fusion.report.plots.marks import GRID, INK, MUTED, SURFACE, KeyItem, key_of, label
from amr.fusion.report.settings import Setting, reference_of
from amr.fusion.report.tables import Table
from amr.fusion.runs.statistics import FRACTION, interval_inside

LINE_PIXELS, ROW_PIXELS = 15, 13  # of a line of a tick label, and around it
TICK_LETTERS = 20  # in a line of a tick label: the picture beside it needs room on a phone


@dataclass(frozen=True)
class Picture:
    """Figure of the report page, with its text and its table.

    Args:
        name: Name, unique within its section.
        title: Heading of the picture.
        caption: Explanation below the picture.
        alt: Description in words, for those who do not see it.
        plots: Name to Plotly's data and layout; several if the reader can choose between them.
        table: Table of the same numbers.
        choice: Label of the choice between several plots.
        filters: Columns of the table that its rows, and the lines of the plot, can be filtered by.
    """

    name: str
    title: str
    caption: str
    alt: str
    plots: Mapping[str, Mapping[str, Any]]
    table: Table
    choice: str = ""
    filters: tuple[str, ...] = ()

    @property
    def keys(self) -> list[list[KeyItem]]:
        """Key of each plot: its names with their colors and symbols."""
        return [key_of(each) for each in self.plots.values()]


def plot(figure: go.Figure, height: int = 380, **layout: Any) -> dict[str, Any]:
    """Convert a figure to Plotly's JSON, in the style of the page."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 12, "b": 8},
        paper_bgcolor=SURFACE,
        plot_bgcolor=SURFACE,
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        showlegend=False,  # the key is below the picture; a downloaded picture gets this legend
        legend={"orientation": "h", "x": 0, "y": -0.15, "yanchor": "top", "traceorder": "normal"},
        hoverlabel={"bgcolor": SURFACE, "bordercolor": MUTED, "font": {"color": INK}},
        dragmode=False,
        **layout,
    )
    lines = {"gridcolor": GRID, "zeroline": False, "linecolor": MUTED, "automargin": True, "fixedrange": True}
    lines |= {"title_font_size": 13, "title_standoff": 8}
    figure.update_xaxes(**lines)
    figure.update_yaxes(**lines)
    document: dict[str, Any] = figure.to_plotly_json()
    document["layout"].pop("template", None)  # Plotly's default style, which the page replaces
    return document


def tick(text: str) -> str:
    """Tick label of a setting or class, escaped, and broken into short lines.

    >>> tick("AMR audio=1:video=3 · weight 0.3")
    'AMR audio=1:<br>video=3 · weight 0.3'
    """
    pieces = textwrap.wrap(text.replace(":", ":\u200b "), TICK_LETTERS, break_long_words=True)
    return "<br>".join(label(piece.replace("\u200b ", "").replace("\u200b", "")) for piece in pieces)


def rows_height(ticks: Sequence[str], rows_each: int = 1) -> int:
    """Height of a plot with one row per tick label.

    Args:
        ticks: Tick labels.
        rows_each: Number of bars side by side in a row.
    """
    lines = [max(LINE_PIXELS * (text.count("<br>") + 1), LINE_PIXELS * rows_each) + ROW_PIXELS for text in ticks]
    return 80 + max(lines, default=0) * len(lines)


def of_all(drawn: Sequence[Setting], known: Sequence[Setting]) -> str:
    """Sentence for a caption that says which settings a picture of `shown` has; empty if it has all with a joint head.

    Args:
        drawn: Settings that the picture has.
        known: Settings that it could have.
    """
    joint = [setting for setting in known if setting.fuses] or known
    if len(drawn) >= len(joint):
        return ""
    reference = reference_of(known)
    others = [setting for setting in drawn if setting is not reference]
    named = f"{reference.label} and " if reference is not None and len(others) < len(drawn) else ""
    return f" Of {len(joint)} settings with a joint head, the picture has {named}the {len(others)} best on val."


def fraction_axis(title: str, **more: Any) -> dict[str, Any]:
    """Options of an axis of fractions of 1."""
    return {"title": {"text": title}, "tickformat": ".3~f", **more}


def whiskers(
    halves: Sequence[float | None],
    color: str = MUTED,
    *,
    means: Sequence[float | None] | None = None,
    bounds: tuple[float, float] = FRACTION,
) -> dict[str, Any]:
    """Options of error bars; no bar where a half width is None.

    Args:
        halves: Half the width of each interval.
        color: Color of the bars.
        means: Means that the intervals are of: bars then end at the bounds.
        bounds: Lowest and highest value of the measure.
    """
    bars = {"visible": any(halves), "thickness": 1, "width": 3, "color": color}
    if means is None:
        return bars | {"array": list(halves)}
    ends = [interval_inside(mean, half, bounds) for mean, half in zip(means, halves, strict=True)]
    up = [None if end is None or mean is None else end[1] - mean for mean, end in zip(means, ends, strict=True)]
    down = [None if end is None or mean is None else mean - end[0] for mean, end in zip(means, ends, strict=True)]
    return bars | {"symmetric": False, "array": up, "arrayminus": down}


def wide_enough(values: Sequence[float], least: float = 0.2, bounds: tuple[float, float] = FRACTION) -> list[float]:
    """Axis range around values, wide enough that small differences look small.

    Args:
        values: Values to show.
        least: Least width; of a measure without a highest value, a part of the largest value.
        bounds: Lowest and highest value of the measure.

    >>> wide_enough([0.5, 0.5]), wide_enough([20.0], bounds=(0.0, math.inf))
    ([0.4, 0.6], [18.0, 22.0])
    """
    low, high = min(values), max(values)
    if math.isinf(bounds[1]):
        least *= max(abs(low), abs(high))
    room = max(0.06 * (high - low), (least - (high - low)) / 2)
    return [max(bounds[0], round(low - room, 6)), min(bounds[1], round(high + room, 6))]
