"""Curves: training, absent modalities, noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.picture import (
    INK,
    Picture,
    color,
    fraction_axis,
    plot,
    sections,
    symbol,
    translucent,
    whiskers,
    wide_enough,
)
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import fraction, make_table

BASELINES = {"mean": "their train mean", "zero": "zero", "permutation": "those of another clip"}
MAX_CURVES = 4


@sections.register("training")
def training(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Loss, accuracy and shares over the epochs: means over seeds, with bands from the lowest to the highest seed."""
    histories: dict[str, list[pd.DataFrame]] = {}
    drawn = shown(settings, MAX_CURVES)
    for setting in drawn:
        tables = [history.set_index("epoch") for run in setting.runs if (history := run.history()) is not None]
        if tables:
            histories[setting.label] = tables
    first = results.modalities[0]
    panels = {"loss": "val_loss", "accuracy on val": "val_accuracy", f"share of {first} on val": f"val_share_{first}"}
    by_own = len({run.config.attribution for setting in drawn for run in setting.runs}) > 1
    if all(len(setting.modalities) == 1 for setting in drawn):
        del panels[f"share of {first} on val"]
    panels = {
        title: name for title, name in panels.items() if any(_complete(name, tables) for tables in histories.values())
    }
    if not panels:
        return None
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for index, (label, tables) in enumerate(histories.items()):
        for row, (title, name) in enumerate(panels.items(), start=1):
            if _complete(name, tables):
                _band(figure, _by_seed(name, tables), index, label, row)
            if name == "val_loss" and _complete("train_loss", tables):
                mean = _by_seed("train_loss", tables).mean(axis=1)
                _curve(figure, mean, index, f"{label}, train", row, dash="dash", legend=False)
            axis = {"title": {"text": title}} if name == "val_loss" else fraction_axis(title)
            axis |= {"range": [0, 1]} if name.startswith("val_share") else {}
            figure.update_yaxes(**axis, row=row, col=1)
    figure.update_xaxes(title={"text": "epoch"}, row=len(panels), col=1)
    names = [n for n in ("train_loss", *panels.values()) if all(_complete(n, tables) for tables in histories.values())]
    means = {
        label: pd.DataFrame({n: _by_seed(n, tables).mean(axis=1) for n in names}) for label, tables in histories.items()
    }
    cells = [
        [label, epoch, *map(float, values)] for label, mean in means.items() for epoch, *values in mean.itertuples()
    ]
    last = [
        f"{label} {fraction(float(m['val_accuracy'].iloc[-1]))}" for label, m in means.items() if "val_accuracy" in m
    ]
    return Picture(
        "training",
        "Training curves",
        "Mean over seeds (and folds); bands go from the lowest to the highest seed. Solid loss curves are val, dashed "
        "ones train. A run keeps its best epoch on val, not its last, unless --select is last."
        + " The share is by the attribution of each setting."
        * by_own,
        f"Curves over epochs of {len(histories)} settings. Accuracy on val in the last epoch: {'; '.join(last)}.",
        {"": plot(figure, 210 * len(panels) + 90)},
        make_table("training-data", "Means over seeds, per epoch.", ["setting", "epoch", *names], cells),
    )


def _complete(name: str, tables: Sequence[pd.DataFrame]) -> bool:
    return all(name in table and bool(table[name].notna().all()) for table in tables)


def _by_seed(name: str, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Values of one column, `(epochs, seeds)`."""
    return pd.concat([table[name] for table in tables], axis=1)


def _band(figure: go.Figure, values: pd.DataFrame, index: int, label: str, row: int) -> None:
    low, high = values.min(axis=1), values.max(axis=1)
    if bool((high > low).any()):
        figure.add_scatter(
            x=[*values.index, *values.index[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            fillcolor=translucent(index),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
            row=row,
            col=1,
        )
    _curve(figure, values.mean(axis=1), index, label, row, legend=row == 1)


def _curve(
    figure: go.Figure, mean: pd.Series, index: int, name: str, row: int, *, dash: str = "solid", legend: bool
) -> None:
    figure.add_scatter(
        x=list(mean.index),
        y=[float(value) for value in mean],
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=legend,
        line={"color": color(index), "width": 2, "dash": dash},
        hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.3f}}<extra></extra>",
        row=row,
        col=1,
    )


@sections.register("missing")
def missing(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy with only some of the modalities, for every kind of replacement."""
    selected = [setting for setting in shown(settings) if any(name.startswith("missing.") for name in setting.names)]
    if not selected:
        return None
    plots: dict[str, dict[str, Any]] = {}
    rows: list[tuple[str, str, str, float | None, float | None]] = []
    for baseline, words in BASELINES.items():
        prefix = f"missing.{baseline}."
        subsets = sorted(
            {n.removeprefix(prefix) for g in selected for n in g.names if n.startswith(prefix)},
            key=lambda subset: (subset.count("+"), subset),
        )
        if not subsets:
            continue
        figure = go.Figure()
        texts = [subset.replace("+", " + ") + _alone(baseline) * ("+" not in subset) for subset in subsets]
        for index, setting in enumerate(selected):
            means = [setting.mean(prefix + subset) for subset in subsets]
            halves = [setting.half_width(prefix + subset) for subset in subsets]
            figure.add_bar(
                x=texts,
                y=means,
                name=setting.label,
                error_y=whiskers(halves, INK),
                marker={"color": color(index)},
                hovertemplate=f"{setting.label}<br>%{{x}}: %{{y:.3f}}<extra></extra>",
            )
            rows += [(setting.label, baseline, *values) for values in zip(subsets, means, halves, strict=True)]
        figure.update_yaxes(**fraction_axis("accuracy", rangemode="tozero"))
        plots[words] = plot(figure, 400, barmode="group", bargap=0.25)
    first_baseline = rows[0][1]
    label = selected[0].label
    listed = [f"{row[2]} {fraction(row[3])}" for row in rows if row[0] == label and row[1] == first_baseline]
    return Picture(
        "missing",
        "When a modality is missing",
        "Accuracy if only the named modalities are kept and the others are replaced. If a single one does nearly as "
        "well as all together, the others add little. If accuracy falls to that of guessing, they are needed.",
        f"Bars of accuracy by kept modalities, for {len(selected)} settings. {label}: {'; '.join(listed)}.",
        plots,
        make_table(
            "missing-data",
            "Accuracy by the kept modalities and the replacement of the others.",
            ["setting", "replaced by", "kept", "accuracy", "± (95 %)"],
            rows,
        ),
        "Others are replaced by" if len(plots) > 1 else "",
    )


def _alone(baseline: str) -> str:
    """Words for a modality without the others: "alone" is the measure of that name."""
    return " alone" if baseline == "mean" else " only"


@sections.register("noise")
def noise(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Accuracy over noise in one modality, one panel per modality."""
    selected = [setting for setting in shown(settings) if any("noise" in run.nested for run in setting.runs)]
    if results.evaluation is None or not selected:
        return None
    levels = [float(level) for level in results.evaluation["settings"]["noise_levels"]]
    modalities = [m for m in results.modalities if any(_noise_curves(setting, m) for setting in selected)]
    if not modalities:
        return None
    figure = make_subplots(rows=len(modalities), cols=1, shared_xaxes=True, shared_yaxes="all", vertical_spacing=0.08)
    rows: list[list[Any]] = []
    for row, m in enumerate(modalities, start=1):
        for index, setting in enumerate(selected):
            curves = _noise_curves(setting, m)
            if not curves:
                continue
            mean = [float(value) for value in np.mean(curves, axis=0)]
            rows.append([setting.label, m, *mean, setting.mean(f"robustness.{m}")])
            figure.add_scatter(
                x=levels,
                y=mean,
                mode="lines+markers",
                name=setting.label,
                legendgroup=setting.label,
                showlegend=m == next(each for each in modalities if _noise_curves(setting, each)),
                line={"color": color(index), "width": 2},
                marker={"symbol": symbol(index), "size": 8},
                hovertemplate=f"{setting.label}<br>noise %{{x}} in {m}: %{{y:.3f}}<extra></extra>",
                row=row,
                col=1,
            )
        figure.update_yaxes(**fraction_axis(f"accuracy, noise in {m}"), row=row, col=1)
    figure.update_yaxes(range=wide_enough([value for row in rows for value in row[2:-1]]))
    figure.update_xaxes(title={"text": "noise (standard deviations)"}, row=len(modalities), col=1)
    falls = [
        f"{m} {fraction(_at_level(selected[0], m, 0))} to {fraction(_at_level(selected[0], m, -1))}" for m in modalities
    ]
    return Picture(
        "noise",
        "Noise",
        "Accuracy with noise added to one modality's embeddings and the others clean, mean over seeds. The steeper a "
        "curve, the more the head depends on that modality. Robustness is the area under a curve divided by the clean "
        "accuracy: a ratio, 1 if noise costs nothing.",
        f"Curves of accuracy over noise. {selected[0].label}, from no noise to the most: " + "; ".join(falls) + ".",
        {"": plot(figure, 230 * len(modalities) + 90)},
        make_table(
            "noise-data",
            "Accuracy at noise of some standard deviations (sd), and robustness, a ratio to the clean accuracy.",
            ["setting", "noise in", *(f"{level:g} sd" for level in levels), "robustness"],
            rows,
        ),
    )


def _noise_curves(setting: Setting, modality: str) -> list[Sequence[float]]:
    by_run: list[Mapping[str, Sequence[float]]] = [run.nested.get("noise") or {} for run in setting.runs]
    return [curves[modality] for curves in by_run if curves.get(modality)]


def _at_level(setting: Setting, modality: str, index: int) -> float | None:
    curves = _noise_curves(setting, modality)
    return float(np.mean(curves, axis=0)[index]) if curves else None
