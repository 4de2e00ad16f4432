"""What each encoder learned in a joint training, against an encoder that was trained alone."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from amr.fusion.evaluate.tables import LEARNED
from amr.fusion.report.plots.marks import MUTED, kind_marker, label
from amr.fusion.report.plots.picture import (
    Picture,
    fraction_axis,
    of_all,
    plot,
    rows_height,
    tick,
    wide_enough,
)
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import Cell, fraction, make_table, signed

MAX_ROWS = 14
DRAWN = ("trained jointly", "trained alone")


@sections.register("encoders")
def encoders(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy of a linear probe on z of each encoder, trained jointly and alone; None if no encoder was trained."""
    trained = [s for s in settings if any(run.evaluated.get("encoders_alone") for run in s.runs)]
    every = trained
    trained = every if len(every) <= MAX_ROWS else shown(every, MAX_ROWS)
    if not trained:
        return None
    rows, listed = [], []
    for m in results.modalities:
        for setting in trained:
            values = {title: setting.mean(name.format(m)) for title, name in LEARNED.items()}
            gap, half = values["gap"], setting.half_width(LEARNED["gap"].format(m))
            rows.append([setting.label, m, *(values[title] for title in DRAWN), Cell(signed(gap), gap, True), half])
            listed.append(f"{m} in {setting.label} {', '.join(f'{t} {fraction(values[t])}' for t in DRAWN)}")
    height = rows_height([tick(s.label) for s in trained] * len(results.modalities)) + 30 * len(results.modalities)
    return Picture(
        "encoders",
        "What each encoder learned",
        "Accuracy of a linear probe (ridge) on z of each encoder, fitted on the train clips and tested on the test "
        "clips: of the encoder trained jointly, and of the same encoder trained alone. Where the first is lower, the "
        "encoder learned less in joint training than it can: modality failure (Du et al. 2021)."
        + of_all(trained, every),
        f"Dots of probe accuracy. {'; '.join(listed)}.",
        {"": plot(_dumbbells(trained, results.modalities), height)},
        make_table(
            "encoders-data",
            "Accuracy of linear probes on z, trained jointly and alone, and their gap.",
            ["setting", "modality", *DRAWN, "gap", "± (95 %)"],
            rows,
        ),
    )


def _dumbbells(settings: Sequence[Setting], modalities: Sequence[str]) -> go.Figure:
    """One panel per modality; one row per setting: a dot for each encoder, and the gap as a line."""
    figure = make_subplots(rows=len(modalities), cols=1, shared_xaxes=True, vertical_spacing=0.08)
    names = [tick(setting.label) for setting in settings]
    known: list[float] = []
    for row, m in enumerate(modalities, start=1):
        marks = {title: [setting.mean(LEARNED[title].format(m)) for setting in settings] for title in DRAWN}
        known += [value for values in marks.values() for value in values if value is not None]
        line = {"color": MUTED, "width": 2}
        for name, *ends in zip(names, *marks.values(), strict=True):
            hidden = {"mode": "lines", "hoverinfo": "skip", "showlegend": False, "cliponaxis": False}
            figure.add_scatter(x=ends, y=[name, name], line=line, **hidden, row=row, col=1)
        for index, (title, values) in enumerate(marks.items()):
            figure.add_scatter(
                x=values,
                y=names,
                mode="markers",
                name=title,
                legendgroup=title,
                showlegend=row == 1,
                cliponaxis=False,
                marker=kind_marker(1 - index),
                hovertemplate=f"%{{y}}<br>{label(m)}, {title}: %{{x:.3f}}<extra></extra>",
                row=row,
                col=1,
            )
        figure.update_yaxes(title={"text": label(m)}, row=row, col=1)
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(range=wide_enough(known))
    figure.update_xaxes(**fraction_axis("probe accuracy"), row=len(modalities), col=1)
    return figure
