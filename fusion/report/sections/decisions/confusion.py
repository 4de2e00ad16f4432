"""Confusion matrix of the best run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from amr.fusion.report.plots.marks import INK, SURFACE, label
from amr.fusion.report.plots.picture import Picture, plot
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import Setting, best_run, of_best_run
from amr.fusion.report.tables import make_table

MAX_CLASSES = 30
MAX_LETTERS = 28  # of all names of classes side by side
MAX_WRITTEN = 16  # most classes whose counts fit into the cells


@sections.register("confusion")
def confusion(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Confusion matrix of the run that is best on val; None if a clip is not of one class."""
    decisions = results.decisions
    if decisions is None or decisions.task != "multiclass":
        return None
    run = best_run(settings)
    mine = decisions.of([run.name])
    if not mine.runs:
        return None
    num_classes = len(results.classes)
    counts = np.zeros((num_classes, num_classes), int)
    known = mine.tested[0]
    np.add.at(counts, (mine.target[known], mine.preds[0][known]), 1)
    wrong = counts - np.diag(np.diag(counts))
    selected = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:MAX_CLASSES])
    few = "" if num_classes <= MAX_CLASSES else f" Of {num_classes} classes, the {MAX_CLASSES} most confused are shown."
    names = [results.classes[c] for c in selected]
    worst = [(wrong[i, j], i, j) for i, j in zip(*np.nonzero(wrong), strict=True)]
    worst.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    listed = [f"{results.classes[i]} predicted as {results.classes[j]} {n} times" for n, i, j in worst[:3]]
    rows = [
        [results.classes[i], results.classes[j], int(n)]
        for i, j in zip(*np.nonzero(counts), strict=True)
        for n in [counts[i, j]]
    ]
    return Picture(
        "confusion",
        "Confusions",
        f"Test clips{of_best_run(settings)}: rows are classes, columns are "
        "predictions. Color is the fraction of the row, numbers are clips." + few,
        f"Confusion matrix of {num_classes} classes, {int(np.diag(counts).sum())} of {int(counts.sum())} clips on the "
        f"diagonal. Most frequent: {'; '.join(listed) or 'no confusions'}.",
        {"": _matrix(counts[np.ix_(selected, selected)], counts[selected].sum(1), names)},
        make_table(
            "confusion-data", "Clips by class and prediction, pairs that occur.", ["class", "prediction", "clips"], rows
        ),
    )


def _matrix(counts: np.ndarray, totals: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    parts = counts / np.maximum(totals, 1)[:, None]
    figure = go.Figure(
        go.Heatmap(
            z=parts.round(4).tolist(),
            x=[label(name) for name in names],
            y=[label(name) for name in names],
            text=counts.tolist(),
            texttemplate="%{text}" if len(names) <= MAX_WRITTEN else "",
            textfont={"color": INK},
            colorscale=[[0, SURFACE], [1, "var(--heat)"]],
            zmin=0,
            zmax=1,
            xgap=1,
            ygap=1,
            showscale=False,
            hovertemplate="%{y} predicted as %{x}<br>%{text} clips, %{z:.3f} of the row<extra></extra>",
        )
    )
    angle = -90 if len(names) * max(map(len, names)) > MAX_LETTERS else 0  # upright names need less width
    figure.update_xaxes(title={"text": "prediction"}, type="category", side="bottom", showgrid=False, tickangle=angle)
    figure.update_yaxes(title={"text": "class"}, type="category", autorange="reversed", showgrid=False)
    return plot(figure, min(760, 150 + 44 * len(names)))
