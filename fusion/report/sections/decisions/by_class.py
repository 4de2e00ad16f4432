"""Shares of each class or label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from amr.fusion.report.plots.marks import INK, label, modality_bar
from amr.fusion.report.plots.picture import Picture, fraction_axis, plot, rows_height, tick
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.sections.decisions.recognized import recalls, words_of
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import fraction, make_table

MAX_CLASSES = 30
MAX_LISTED = 12


@sections.register("classes")
def per_class(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Mean share of each modality for each class or label, for each of the settings shown; None of a number."""
    decisions = results.decisions
    if decisions is None or decisions.task == "regression":
        return None
    one, several, recall = words_of(decisions)
    of = "with" if one == "label" else "of"
    plots: dict[str, dict[str, Any]] = {}
    rows: list[list[object]] = []
    first_alt = ""
    classes = decisions.known(len(results.classes))
    names = [results.classes[c] for c in classes]
    for setting in shown(settings):
        mine = decisions.of([run.name for run in setting.runs])
        if not setting.fuses or not mine.runs or len(setting.modalities) != mine.shares.shape[-1]:
            continue
        if not np.isfinite(mine.shares).any():  # by permutation, a single clip has no share
            continue
        share = np.array([_mean(mine.shares[:, mine.has(c)].reshape(-1, mine.shares.shape[-1])) for c in classes])
        found = recalls(mine, classes)
        for name, shares, right in zip(names, share, found, strict=True):
            rows.append([setting.label, name, *(float(s) if np.isfinite(s) else None for s in shares), right])
        selected = np.argsort(-np.nan_to_num(np.abs(share - 1 / share.shape[1]).max(1)), kind="stable")[:MAX_CLASSES]
        selected = np.sort(selected)
        plots[setting.label] = _bars(
            results, [names[i] for i in selected], share[selected], [found[i] for i in selected], recall
        )
        if not first_alt:
            listed = [f"{names[i]} {fraction(float(share[i, 0]))}" for i in selected[:MAX_LISTED]]
            first_alt = f"Share of {setting.modalities[0]} in {setting.label}, {one} by {one}: {', '.join(listed)}."
    if not plots:
        return None
    few = f" Of {len(results.classes)} {several}, the {MAX_CLASSES} furthest from balance are shown."
    return Picture(
        "classes",
        f"Shares, {one} by {one}",
        f"Mean share (part of the decision) of each modality over the test clips {of} a {one}, all seeds together. "
        f"Dotted: where bars would end if all parts were equal. {several.title()} that are recognized by ear or by eye "
        "stand out." + few * (len(results.classes) > MAX_CLASSES),
        first_alt,
        plots,
        make_table(
            "classes-data",
            f"Shares and {recall}, {one} by {one}.",
            ["setting", one, *(f"share {m}" for m in results.modalities), recall],
            [row for row in rows if len(row) == 3 + len(results.modalities)],
        ),
        "Setting" if len(plots) > 1 else "",
    )


def _mean(values: np.ndarray) -> np.ndarray:
    valid = values[np.isfinite(values).all(-1)]
    return valid.mean(0) if len(valid) else np.full(values.shape[-1], np.nan)


def _bars(
    results: ResultFolder, names: Sequence[str], share: np.ndarray, recalls: Sequence[float], recall: str
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
            customdata=list(recalls),
            hovertemplate=f"%{{y}}<br>{label(m)} %{{x:.3f}}<br>{recall} %{{customdata:.3f}}<extra></extra>",
        )
        if index > 0:
            figure.add_vline(x=index / len(modalities), line={"color": INK, "dash": "dot", "width": 1})
    figure.update_xaxes(**fraction_axis("share", range=[0, 1]))
    figure.update_yaxes(autorange="reversed", type="category")
    return plot(figure, rows_height(ticks), barmode="stack", bargap=0.25)
