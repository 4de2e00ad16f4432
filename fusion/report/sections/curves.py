"""Curves: training, absent modalities, noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.figure import INK, Figure, colour, fraction_axis, plot, symbol, translucent, wide_enough
from amr.fusion.report.settings import Setting, shown
from amr.fusion.report.tables import make_table, percent

BASELINES = {"mean": "its mean over train", "zero": "zero", "permutation": "that of another clip"}
MAX_CURVES = 4


def training(results: ResultFolder, settings: Sequence[Setting]) -> Figure | None:
    """Loss, accuracy and shares over the epochs: the mean over seeds, and the band from lowest to highest."""
    histories: dict[str, list[pd.DataFrame]] = {}
    for setting in shown(settings, MAX_CURVES):
        tables = [history.set_index("epoch") for run in setting.runs if (history := run.history()) is not None]
        if tables:
            histories[setting.label] = tables
    first = results.modalities[0]
    panels = {"loss": "val_loss", "accuracy on val": "val_accuracy", f"share of {first} on val": f"val_share_{first}"}
    panels = {title: name for title, name in panels.items() if any(_there(name, of) for of in histories.values())}
    if not panels:
        return None
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for place, (label, tables) in enumerate(histories.items()):
        for row, (title, name) in enumerate(panels.items(), start=1):
            if _there(name, tables):
                _band(figure, _by_seed(name, tables), place, label, row)
            if name == "val_loss" and _there("train_loss", tables):
                mean = _by_seed("train_loss", tables).mean(axis=1)
                _curve(figure, mean, place, f"{label}, train", row, dash="dash", legend=False)
            axis = {"title": {"text": title}} if name == "val_loss" else fraction_axis(title)
            axis |= {"range": [0, 1]} if name.startswith("val_share") else {}
            figure.update_yaxes(**axis, row=row, col=1)
    figure.update_xaxes(title={"text": "epoch"}, row=len(panels), col=1)
    names = [name for name in ("train_loss", *panels.values()) if all(_there(name, of) for of in histories.values())]
    means = {label: pd.DataFrame({n: _by_seed(n, of).mean(axis=1) for n in names}) for label, of in histories.items()}
    cells = [[label, epoch, *map(float, of)] for label, mean in means.items() for epoch, *of in mean.itertuples()]
    last = [
        f"{label} {percent(float(m['val_accuracy'].iloc[-1]))}" for label, m in means.items() if "val_accuracy" in m
    ]
    return Figure(
        "training",
        "Training curves",
        "Mean over seeds (and folds); bands go from the lowest to the highest seed. Of the loss, the full line is val "
        "and the dashed one is train. Each run keeps its best epoch on val, not its last.",
        f"Curves over epochs of {len(histories)} settings. Accuracy on val in the last epoch: {'; '.join(last)}.",
        {"": plot(figure, 210 * len(panels) + 90)},
        make_table("training-data", "Means over seeds, epoch by epoch.", ["setting", "epoch", *names], cells),
    )


def _there(name: str, tables: Sequence[pd.DataFrame]) -> bool:
    return all(name in table and bool(table[name].notna().all()) for table in tables)


def _by_seed(name: str, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """(epochs, seeds)."""
    return pd.concat([table[name] for table in tables], axis=1)


def _band(figure: go.Figure, values: pd.DataFrame, place: int, label: str, row: int) -> None:
    low, high = values.min(axis=1), values.max(axis=1)
    if bool((high > low).any()):
        figure.add_scatter(
            x=[*values.index, *values.index[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            fillcolor=translucent(place),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
            row=row,
            col=1,
        )
    _curve(figure, values.mean(axis=1), place, label, row, legend=row == 1)


def _curve(
    figure: go.Figure, mean: pd.Series, place: int, name: str, row: int, *, dash: str = "solid", legend: bool
) -> None:
    figure.add_scatter(
        x=list(mean.index),
        y=[float(value) for value in mean],
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=legend,
        line={"color": colour(place), "width": 2, "dash": dash},
        hovertemplate=f"{name}<br>epoch %{{x}}: %{{y:.3f}}<extra></extra>",
        row=row,
        col=1,
    )


def missing(results: ResultFolder, settings: Sequence[Setting]) -> Figure | None:
    """Accuracy where only some of the modalities are kept, for every kind of replacement."""
    kept = [setting for setting in shown(settings) if any(name.startswith("missing.") for name in setting.names)]
    if not kept:
        return None
    plots: dict[str, dict[str, Any]] = {}
    rows: list[tuple[str, str, str, float | None, float | None]] = []
    for baseline, words in BASELINES.items():
        before = f"missing.{baseline}."
        subsets = sorted(
            {n.removeprefix(before) for g in kept for n in g.names if n.startswith(before)},
            key=lambda subset: (subset.count("+"), subset),
        )
        if not subsets:
            continue
        figure = go.Figure()
        texts = [subset.replace("+", " + ") + (" only" if "+" not in subset else "") for subset in subsets]
        for place, setting in enumerate(kept):
            means = [setting.mean(before + subset) for subset in subsets]
            halves = [setting.half_width(before + subset) for subset in subsets]
            figure.add_bar(
                x=texts,
                y=means,
                name=setting.label,
                error_y={"array": [half or 0 for half in halves], "thickness": 1, "width": 3, "color": INK},
                marker={"color": colour(place)},
                hovertemplate=f"{setting.label}<br>%{{x}}: %{{y:.1%}}<extra></extra>",
            )
            rows += [(setting.label, baseline, *of) for of in zip(subsets, means, halves, strict=True)]
        figure.update_yaxes(**fraction_axis("accuracy", rangemode="tozero"))
        plots[words] = plot(figure, 400, barmode="group", bargap=0.25)
    first_baseline = rows[0][1]
    told = [f"{row[2]} {percent(row[3])}" for row in rows if row[0] == kept[0].label and row[1] == first_baseline]
    return Figure(
        "missing",
        "When a modality is missing",
        "Accuracy when only the named modalities are kept and the others are replaced. Where one alone does nearly as "
        "well as all together, the rest adds little; where it falls to chance, the head cannot do without.",
        f"Bars of accuracy by what is kept, for {len(kept)} settings. {kept[0].label}: {'; '.join(told)}.",
        plots,
        make_table(
            "missing-data",
            "Accuracy by what is kept and what stands in for the rest.",
            ["setting", "replaced by", "kept", "accuracy", "± (95 %)"],
            rows,
        ),
        "What is absent is replaced by" if len(plots) > 1 else "",
    )


def noise(results: ResultFolder, settings: Sequence[Setting]) -> Figure | None:
    """Accuracy over noise in one modality, a panel each."""
    kept = [setting for setting in shown(settings) if any("noise" in run.nested for run in setting.runs)]
    if results.evaluation is None or not kept:
        return None
    levels = [float(level) for level in results.evaluation["settings"]["noise_levels"]]
    modalities = [m for m in results.modalities if any(_noise_curves(setting, m) for setting in kept)]
    if not modalities:
        return None
    figure = make_subplots(rows=len(modalities), cols=1, shared_xaxes=True, shared_yaxes="all", vertical_spacing=0.08)
    rows: list[tuple[str, str, float, float]] = []
    for row, m in enumerate(modalities, start=1):
        for place, setting in enumerate(kept):
            curves = _noise_curves(setting, m)
            if not curves:
                continue
            mean = [float(value) for value in np.mean(curves, axis=0)]
            rows += [(setting.label, m, level, value) for level, value in zip(levels, mean, strict=True)]
            figure.add_scatter(
                x=levels,
                y=mean,
                mode="lines+markers",
                name=setting.label,
                legendgroup=setting.label,
                showlegend=row == 1,
                line={"color": colour(place), "width": 2},
                marker={"symbol": symbol(place), "size": 8},
                hovertemplate=f"{setting.label}<br>noise %{{x}} in {m}: %{{y:.1%}}<extra></extra>",
                row=row,
                col=1,
            )
        figure.update_yaxes(**fraction_axis(f"accuracy, noise in {m}"), row=row, col=1)
    figure.update_yaxes(range=wide_enough([value for *_, value in rows]))
    figure.update_xaxes(title={"text": "noise (standard deviations)"}, row=len(modalities), col=1)
    falls = [
        f"{m} {percent(_first_and_last(kept[0], m, 0))} to {percent(_first_and_last(kept[0], m, -1))}"
        for m in modalities
    ]
    return Figure(
        "noise",
        "Noise",
        "Accuracy as noise is added to one modality's embeddings and the others stay clean, mean over seeds. The "
        "steeper a curve, the more the head depends on that modality.",
        f"Curves of accuracy over noise. {kept[0].label}, from no noise to the most: " + "; ".join(falls) + ".",
        {"": plot(figure, 230 * len(modalities) + 90)},
        make_table(
            "noise-data", "Accuracy under noise.", ["setting", "noise in", "standard deviations", "accuracy"], rows
        ),
    )


def _noise_curves(setting: Setting, modality: str) -> list[Sequence[float]]:
    of_runs: list[Mapping[str, Sequence[float]]] = [run.nested.get("noise") or {} for run in setting.runs]
    return [curves[modality] for curves in of_runs if curves.get(modality)]


def _first_and_last(setting: Setting, modality: str, place: int) -> float | None:
    curves = _noise_curves(setting, modality)
    return float(np.mean(curves, axis=0)[place]) if curves else None
