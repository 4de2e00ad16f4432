"""What every picture of the page is: a plot that the browser draws, a text alternative, and its data as a table.

Colours are names of the style sheet (`var(--ink)`): the page puts in those of the theme that is on.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from amr.common.colors import COLORS
from amr.fusion.report.settings import SYMBOLS
from amr.fusion.report.tables import Table

INK, MUTED, GRID, SURFACE = "var(--ink)", "var(--muted)", "var(--grid)", "var(--surface)"
ROW_PIXELS = 26


@dataclass(frozen=True)
class Figure:
    """One picture.

    Args:
        name: unique within its section.
        title: its heading.
        caption: how to read it.
        alt: what it shows, in words, for those who do not see it.
        plots: Plotly's data and layout; several where a choice switches between them.
        table: the same numbers.
        choice: what the plots differ in, as the label of the choice.
    """

    name: str
    title: str
    caption: str
    alt: str
    plots: Mapping[str, Mapping[str, Any]]
    table: Table
    choice: str = ""


def label(text: str) -> str:
    """A name that users gave, so that Plotly does not read markup into it.

    >>> label("<b>meow")
    '&lt;b&gt;meow'
    """
    return html.escape(text, quote=False)


def colour(place: int) -> str:
    """The colour of the `place`-th thing."""
    return f"var(--c{place % len(COLORS)})"


def symbol(place: int) -> str:
    """Its symbol: colour is never all that tells two things apart."""
    return SYMBOLS[place % len(SYMBOLS)]


def translucent(place: int) -> str:
    """The colour of an area behind lines."""
    return f"var(--c{place % len(COLORS)}-soft)"


def plot(figure: go.Figure, height: int = 380, **layout: Any) -> dict[str, Any]:
    """Plotly's JSON of a figure, in the look of the page."""
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
    document["layout"].pop("template", None)  # Plotly's own look, which the page does not want
    return document


def fraction_axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis of fractions, printed as percents."""
    return {"title": {"text": title}, "tickformat": ".0%", **more}


def wide_enough(values: Sequence[float], least: float = 0.2) -> list[float]:
    """A range that a point of accuracy does not fill.

    >>> wide_enough([0.5, 0.5])
    [0.4, 0.6]
    """
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), (least - (high - low)) / 2)
    return [max(0.0, round(low - room, 6)), min(1.0, round(high + room, 6))]
