"""Bars of several settings side by side, as columns or, where names need room, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from amr.fusion.report.plots.marks import INK, label, setting_bar
from amr.fusion.report.plots.picture import fraction_axis, plot, rows_height, tick, whiskers
from amr.fusion.report.settings import Setting
from amr.fusion.runs.statistics import FRACTION

COLUMNS_HEIGHT = 400


def grouped_bars(
    texts: Sequence[str],
    settings: Sequence[tuple[Setting, Sequence[str]]],
    axis: str,
    *,
    in_rows: bool,
    bounds: tuple[float, float] = FRACTION,
) -> dict[str, Any]:
    """One group per text, one bar per setting, with 95 % intervals.

    Args:
        texts: Names of the groups.
        settings: Settings, each with the names of its measures, one per group.
        axis: Title of the axis of values.
        in_rows: Whether bars lie, one group below the other.
        bounds: Lowest and highest value of the measures.
    """
    figure = go.Figure()
    groups = [tick(text) for text in texts] if in_rows else [label(text).replace("\n", "<br>") for text in texts]
    across, along = ("y", "x") if in_rows else ("x", "y")
    for setting, names in settings:
        means = [setting.mean(name) for name in names]
        halves = [setting.half_width(name) for name in names]
        figure.add_bar(
            **{across: groups, along: means, f"error_{along}": whiskers(halves, INK, means=means, bounds=bounds)},
            orientation="h" if in_rows else "v",
            name=label(setting.label),
            marker=setting_bar(setting),
            hovertemplate=f"{label(setting.label)}<br>%{{{across}}}: %{{{along}:.3f}}<extra></extra>",
        )
    values = fraction_axis(axis, rangemode="tozero")
    if in_rows:
        figure.update_xaxes(**values)
        figure.update_yaxes(autorange="reversed", type="category")
        return plot(figure, rows_height(groups, len(settings)), barmode="group", bargap=0.25)
    figure.update_yaxes(**values)
    return plot(figure, COLUMNS_HEIGHT, barmode="group", bargap=0.25)
