"""Pictures of the page: a plot that the browser draws, a text alternative, and the data as a table.

Colors are variables of the style sheet (`var(--ink)`); the page replaces them by those of the current theme.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from amr.common.colors import COLORS
from amr.common.registry import Registry
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.settings import SYMBOLS, Setting
from amr.fusion.report.tables import Table

INK, MUTED, GRID, SURFACE = "var(--ink)", "var(--muted)", "var(--grid)", "var(--surface)"
ROW_PIXELS = 26


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
    """

    name: str
    title: str
    caption: str
    alt: str
    plots: Mapping[str, Mapping[str, Any]]
    table: Table
    choice: str = ""


def label(text: str) -> str:
    """Escape a user's name, so that Plotly finds no markup in it.

    >>> label("<b>meow")
    '&lt;b&gt;meow'
    """
    return html.escape(text, quote=False)


def color(index: int) -> str:
    """Color of the `index`-th item."""
    return f"var(--c{index % len(COLORS)})"


def symbol(index: int) -> str:
    """Symbol of the `index`-th item, so that items differ in more than color."""
    return SYMBOLS[index % len(SYMBOLS)]


def translucent(index: int) -> str:
    """Color of an area behind lines."""
    return f"var(--c{index % len(COLORS)}-soft)"


def plot(figure: go.Figure, height: int = 380, **layout: Any) -> dict[str, Any]:
    """Convert a figure to Plotly's JSON, in the style of the page."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        paper_bgcolor=SURFACE,
        plot_bgcolor=SURFACE,
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12},
            "traceorder": "normal",
        },
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


def fraction_axis(title: str, **more: Any) -> dict[str, Any]:
    """Options of an axis of fractions of 1."""
    return {"title": {"text": title}, "tickformat": ".2f", **more}


def whiskers(halves: Sequence[float | None], color: str = MUTED) -> dict[str, Any]:
    """Options of error bars; no bar where a half width is None."""
    return {"array": list(halves), "visible": any(halves), "thickness": 1, "width": 3, "color": color}


def wide_enough(values: Sequence[float], least: float = 0.2) -> list[float]:
    """Axis range around values, wide enough that small differences look small.

    >>> wide_enough([0.5, 0.5])
    [0.4, 0.6]
    """
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), (least - (high - low)) / 2)
    return [max(0.0, round(low - room, 6)), min(1.0, round(high + room, 6))]


Section = Callable[[ResultFolder, Sequence[Setting]], Picture | None]
sections: Registry[Section] = Registry("section")
