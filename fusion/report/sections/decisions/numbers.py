"""Predicted numbers against true ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from amr.fusion.report.plots.marks import MUTED, label, setting_marker
from amr.fusion.report.plots.picture import Picture, plot
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, best_run, of_best_run, setting_with
from amr.fusion.report.tables import fraction, make_table

MAX_POINTS = 3000  # that a browser draws at once
NUM_BINS = 5  # parts of the clips, from the lowest to the highest true number


@sections.register("numbers")
def numbers(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """One point per test clip of the run that is best on val; None if classes or labels are predicted."""
    decisions = results.decisions
    if decisions is None or decisions.task != "regression":
        return None
    run = best_run(settings)
    mine = decisions.of([run.name])
    if not mine.runs or not mine.tested.any():
        return None
    tested = mine.tested[0]
    target, preds, ids = mine.target[tested], mine.preds[0, tested], mine.ids[tested]
    drawn = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), MAX_POINTS)).round().astype(int))
    parts = [part for part in np.array_split(np.argsort(target, kind="stable"), NUM_BINS) if len(part)]
    rows = [
        [
            f"{target[part].min():.3f} to {target[part].max():.3f}",
            len(part),
            *map(float, (target[part].mean(), preds[part].mean(), np.abs(preds[part] - target[part]).mean())),
        ]
        for part in parts
    ]
    few = f" The picture has {len(drawn)} of {len(ids)} clips." if len(drawn) < len(ids) else ""
    name = results.record.config.label
    return Picture(
        "numbers",
        "Predicted against true numbers",
        f"One point per test clip{of_best_run(settings)}. On the "
        "dashed line, predictions are right. The table has the clips in parts of about equal size, from the lowest to "
        f"the highest {name!r}.{few}",
        f"Scatter of predicted over true {name!r} for {len(drawn)} clips. "
        + " ".join(f"True {row[0]}: mean prediction {fraction(float(str(row[3])))}." for row in rows),
        {"": _points(target[drawn], preds[drawn], ids[drawn], name, setting_with(run, settings))},
        make_table(
            "numbers-data",
            "Clips from the lowest to the highest true number.",
            ["true", "clips", "mean true", "mean predicted", "MAE"],
            rows,
        ),
    )


def _points(target: np.ndarray, preds: np.ndarray, ids: np.ndarray, name: str, setting: Setting) -> dict[str, object]:
    ends = [float(min(target.min(), preds.min())), float(max(target.max(), preds.max()))]
    room = 0.04 * (ends[1] - ends[0]) if ends[1] > ends[0] else 1.0
    figure = go.Figure()
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="right", line={"color": MUTED, "dash": "dash", "width": 1}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=[float(f"{value:.5g}") for value in target],
        y=[float(f"{value:.5g}") for value in preds],
        mode="markers",
        name=label(setting.label),
        marker=setting_marker(setting, 6) | {"opacity": 0.6},
        customdata=[label(each) for each in ids],
        hovertemplate="%{customdata}<br>true %{x:.3f}<br>predicted %{y:.3f}<extra></extra>",
    )
    around = [ends[0] - room, ends[1] + room]
    figure.update_xaxes(title={"text": label(f"true {name}")}, range=around)
    figure.update_yaxes(title={"text": label(f"predicted {name}")}, range=around)
    return plot(figure, 420)
