"""Heads beside people: whom they follow where voice and face disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.figure import ROW_PIXELS, Figure, colour, fraction_axis, plot
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import Table, make_table, percent


def followed(results: ResultFolder, settings: Sequence[Setting]) -> Figure | None:
    """Where the majorities of two sources differ: how often each is followed, by people and by heads."""
    bars: dict[str, dict[str, float]] = {}
    num_clips = 0
    for setting in shown(settings):
        found = [conflict for run in setting.runs if (conflict := _conflict(run.nested)) is not None]
        if not found:
            continue
        num_clips = found[0]["num_clips"]
        if found[0].get("people") and "people" not in bars:
            bars["people, with both"] = {k: v for k, v in found[0]["people"].items() if v is not None}
        names = found[0]["head"]
        bars[setting.label] = {k: float(np.mean([f["head"][k] for f in found])) for k in names if names[k] is not None}
    if not bars:
        return None
    kinds = list(dict.fromkeys(kind for values in bars.values() for kind in values))
    figure = go.Figure()
    for place, kind in enumerate(kinds):
        figure.add_bar(
            y=list(bars),
            x=[values.get(kind) for values in bars.values()],
            orientation="h",
            name=kind,
            marker={"color": colour(place)},
            hovertemplate=f"%{{y}}<br>{kind}: %{{x:.1%}}<extra></extra>",
        )
    figure.update_xaxes(**fraction_axis("of these clips", range=[0, 1]))
    figure.update_yaxes(autorange="reversed", type="category")
    told = "; ".join(f"{who}: " + ", ".join(f"{k} {percent(v, 0)}" for k, v in of.items()) for who, of in bars.items())
    return Figure(
        "people",
        "Whom the head follows, and whom people did",
        f"On the {num_clips} clips where most people chose one class from one results alone and another from the other: "
        "whose answer is given with both.",
        f"Stacked bars. {told}.",
        {"": plot(figure, 130 + ROW_PIXELS * len(bars), barmode="stack", bargap=0.25)},
        make_table(
            "people-data",
            "How often each results is followed.",
            ["who", *kinds],
            [[who, *(values.get(kind) for kind in kinds)] for who, values in bars.items()],
        ),
    )


def _conflict(nested: Mapping[str, Any]) -> Mapping[str, Any] | None:
    votes = (nested.get("people") or {}).get("votes") or {}
    conflict = votes.get("conflict")
    return conflict if conflict and "head" in conflict and conflict["num_clips"] > 0 else None


def people_table(settings: Sequence[Setting]) -> Table | None:
    """Every measure against people, a row a setting and measure, mean over seeds."""
    names = dict.fromkeys(name for setting in settings for name in setting.names if name.startswith("people."))
    rows = [
        [
            name.removeprefix("people.").replace(".", ", ").replace("num_", "").replace("_", " "),
            *(setting.mean(name) for setting in shown(settings)),
        ]
        for name in names
    ]
    rows = [row for row in rows if any(value is not None for value in row[1:])]
    if not rows:
        return None
    caption = "Heads measured against people's votes or tags, mean over seeds."
    return make_table("against-people", caption, ["measure", *(setting.label for setting in shown(settings))], rows)
