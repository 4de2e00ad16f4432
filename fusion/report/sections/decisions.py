"""Pictures of decisions by class: shares and accuracy of each class, and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.marks import INK, SURFACE, label, modality_bar
from amr.fusion.report.sections.picture import Picture, fraction_axis, plot, rows_height, sections, tick
from amr.fusion.report.settings import Setting, best_run, shown
from amr.fusion.report.tables import fraction, make_table

MAX_CLASSES = 30
MAX_LETTERS = 28  # of all names of classes side by side
MAX_WRITTEN = 16  # most classes whose counts fit into the cells


@sections.register("classes")
def per_class(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Mean share of each modality for each class, for each of the settings shown."""
    decisions = results.decisions
    if decisions is None:
        return None
    plots: dict[str, dict[str, Any]] = {}
    rows: list[list[object]] = []
    first_alt = ""
    for setting in shown(settings):
        mine = decisions.of([run.name for run in setting.runs])
        if not setting.fuses or not mine.runs or len(setting.modalities) != mine.shares.shape[-1]:
            continue
        if not np.isfinite(mine.shares).any():  # by permutation, a single clip has no share
            continue
        classes = [c for c in range(len(results.classes)) if (decisions.target == c).any()]
        share = np.array(
            [_mean(mine.shares[:, decisions.target == c].reshape(-1, mine.shares.shape[-1])) for c in classes]
        )
        accuracies = [float((mine.preds[:, decisions.target == c] == c).mean()) for c in classes]
        names = [results.classes[c] for c in classes]
        for name, shares, accuracy in zip(names, share, accuracies, strict=True):
            rows.append([setting.label, name, *(float(s) if np.isfinite(s) else None for s in shares), accuracy])
        selected = np.argsort(-np.nan_to_num(np.abs(share - 1 / share.shape[1]).max(1)), kind="stable")[:MAX_CLASSES]
        selected = np.sort(selected)
        plots[setting.label] = _bars(
            results, [names[i] for i in selected], share[selected], [accuracies[i] for i in selected]
        )
        if not first_alt:
            listed = [f"{names[i]} {fraction(float(share[i, 0]))}" for i in selected[:12]]
            first_alt = f"Share of {setting.modalities[0]} in {setting.label}, class by class: {', '.join(listed)}."
    if not plots:
        return None
    few = f" Of {len(results.classes)} classes, the {MAX_CLASSES} furthest from balance are shown."
    return Picture(
        "classes",
        "Shares, class by class",
        "Mean share (part of the decision) of each modality over the test clips of a class, all seeds together. "
        "Dotted: where bars would end if all parts were equal. Classes that are recognized by ear or by eye stand out."
        + few
        * (len(results.classes) > MAX_CLASSES),
        first_alt,
        plots,
        make_table(
            "classes-data",
            "Shares and accuracy, class by class.",
            ["setting", "class", *(f"share {m}" for m in results.modalities), "accuracy"],
            [row for row in rows if len(row) == 3 + len(results.modalities)],
        ),
        "Setting" if len(plots) > 1 else "",
    )


def _mean(values: np.ndarray) -> np.ndarray:
    valid = values[np.isfinite(values).all(-1)]
    return valid.mean(0) if len(valid) else np.full(values.shape[-1], np.nan)


def _bars(
    results: ResultFolder, names: Sequence[str], share: np.ndarray, accuracies: Sequence[float]
) -> dict[str, Any]:
    figure = go.Figure()
    ticks = [tick(name) for name in names]
    modalities = results.modalities
    for index, m in enumerate(modalities):
        figure.add_bar(
            y=ticks,
            x=[float(s) if np.isfinite(s) else None for s in share[:, index]],
            orientation="h",
            name=label(m),
            marker=modality_bar(results, m),
            customdata=list(accuracies),
            hovertemplate=f"%{{y}}<br>{label(m)} %{{x:.3f}}<br>accuracy %{{customdata:.3f}}<extra></extra>",
        )
        if index > 0:
            figure.add_vline(x=index / len(modalities), line={"color": INK, "dash": "dot", "width": 1})
    figure.update_xaxes(**fraction_axis("share", range=[0, 1]))
    figure.update_yaxes(autorange="reversed", type="category")
    return plot(figure, rows_height(ticks), barmode="stack", bargap=0.25)


@sections.register("confusion")
def confusion(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Confusion matrix of the run that is best on val."""
    decisions = results.decisions
    if decisions is None:
        return None
    run = best_run(settings)
    mine = decisions.of([run.name])
    if not mine.runs:
        return None
    setting = next(setting for setting in settings if any(member is run for member in setting.runs))
    num_classes = len(results.classes)
    counts = np.zeros((num_classes, num_classes), int)
    known = (mine.target >= 0) & (mine.preds[0] >= 0)
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
        f"Test clips of the run that is best on val ({setting.label}, seed {run.seed}): rows are classes, columns are "
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
