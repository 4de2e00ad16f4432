"""Heads compared with people: which channel they follow if voice and face disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from amr.fusion.evaluate.people.tables import people_tables
from amr.fusion.report.plots.marks import kind_bar, label
from amr.fusion.report.plots.picture import Picture, fraction_axis, plot, rows_height, tick
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, over_seeds, shown
from amr.fusion.report.tables import Table, fraction, label_of, make_table


@sections.register("people")
def followed(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """How often each of two channels is followed if their majorities differ, by people and by heads."""
    bars: dict[str, dict[str, float]] = {}
    num_clips = 0
    for setting in shown(settings):
        found = [conflict for run in setting.runs if (conflict := _conflict(run.nested)) is not None]
        if not found:
            continue
        num_clips = found[0]["num_clips"]
        if found[0].get("people") and "people, with both" not in bars:
            bars["people, with both"] = {k: v for k, v in found[0]["people"].items() if v is not None}
        names = found[0]["head"]
        bars[setting.label] = {k: float(np.mean([f["head"][k] for f in found])) for k in names if names[k] is not None}
    if not bars:
        return None
    kinds = list(dict.fromkeys(kind for values in bars.values() for kind in values))
    figure = go.Figure()
    for index, kind in enumerate(kinds):
        figure.add_bar(
            y=[tick(name) for name in bars],
            x=[values.get(kind) for values in bars.values()],
            orientation="h",
            name=label(kind),
            marker=kind_bar(index),
            hovertemplate=f"%{{y}}<br>{kind}: %{{x:.3f}}<extra></extra>",
        )
    figure.update_xaxes(**fraction_axis("fraction of these clips", range=[0, 1]))
    figure.update_yaxes(autorange="reversed", type="category")
    listed = [
        f"{name}: " + ", ".join(f"{kind} {fraction(v)}" for kind, v in values.items()) for name, values in bars.items()
    ]
    return Picture(
        "people",
        "Which channel heads follow, and which people follow",
        f"On the {num_clips} clips for which most people chose one class from one channel and another class from the "
        "other: how often the prediction with both is that of each channel.",
        f"Stacked bars. {'; '.join(listed)}.",
        {"": plot(figure, rows_height([tick(name) for name in bars]), barmode="stack", bargap=0.25)},
        make_table(
            "people-data",
            "How often each channel is followed.",
            ["who", *kinds],
            [[name, *(values.get(kind) for kind in kinds)] for name, values in bars.items()],
        ),
    )


def _conflict(nested: Mapping[str, Any]) -> Mapping[str, Any] | None:
    votes = (nested.get("people") or {}).get("votes") or {}
    conflict = votes.get("conflict")
    return conflict if conflict and "head" in conflict and conflict["num_clips"] > 0 else None


def against_people(results: ResultFolder, settings: Sequence[Setting]) -> list[Table]:
    """The tables of `amr evaluate --against people`; empty if there are none."""
    if results.evaluation is None:
        return []
    tables = people_tables(results.evaluation, lambda entry: label_of(entry, settings))
    return [
        make_table(
            f"people-{i}",
            f"{t.title[0].upper()}{t.title[1:]}. Fractions of 1{over_seeds(settings)}.",
            t.columns,
            t.rows,
        )
        for i, t in enumerate(tables, start=1)
    ]
