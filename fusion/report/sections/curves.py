"""Curves: training, absent modalities, noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from amr.fusion.report.plots.bars import grouped_bars
from amr.fusion.report.plots.marks import MUTED, label, setting_area, setting_color, setting_marker
from amr.fusion.report.plots.picture import Picture, fraction_axis, of_all, plot, wide_enough
from amr.fusion.report.read import ResultFolder
from amr.fusion.report.sections.base import sections
from amr.fusion.report.settings import MAX_SHOWN, Setting, over_seeds, shown
from amr.fusion.report.tables import Table, fraction, make_table

GAP = 0.16  # between panels, as a part of their height
MAX_COLUMNS = 3  # modalities whose bars stand side by side
MAX_EPOCHS = 100  # rows of a setting in the table of training
BASELINES = {"mean": "their train mean", "zero": "zero", "permutation": "those of another clip"}


@sections.register("training")
def training(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """Loss, score and shares over the epochs of every setting, a few in each plot; means over seeds, and bands."""
    by_style = sorted(settings, key=lambda setting: setting.style)  # neighbors differ in color
    tables = {s.label: [h.set_index("epoch") for run in s.runs if (h := run.history()) is not None] for s in by_style}
    drawn = [setting for setting in by_style if tables[setting.label]]
    without = [setting.label for setting in by_style if not tables[setting.label]]
    score = results.score
    panels = {"loss": "val_loss", f"{score.words} on val": f"val_{score.name}"}
    panels |= {f"share of {m} on val": f"val_share_{m}" for m in _shared(results, drawn)}
    panels = {title: name for title, name in panels.items() if any(_complete(name, tables[s.label]) for s in drawn)}
    if not panels:
        return None
    plots = {}
    for start in range(0, len(drawn), MAX_SHOWN):
        members = drawn[start : start + MAX_SHOWN]
        name = "" if len(drawn) <= MAX_SHOWN else f"{members[0].label} to {members[-1].label}"
        plots[name] = plot(_curves([(s, tables[s.label]) for s in members], panels), 200 * len(panels) + 90)
    names = [n for n in ("train_loss", *panels.values()) if any(_complete(n, tables[s.label]) for s in drawn)]
    means = {
        s.label: {
            n: _by_seed(n, tables[s.label]).mean(axis=1) if _complete(n, tables[s.label]) else None for n in names
        }
        for s in drawn
    }
    last = [
        f"{text} {fraction(float(series.iloc[-1]))}"
        for text, of_setting in means.items()
        if (series := of_setting.get(f"val_{score.name}")) is not None
    ]
    by_own = len({run.config.attribution for setting in drawn for run in setting.runs}) > 1
    return Picture(
        "training",
        "Training curves",
        "Mean over seeds (and folds); bands go from the lowest to the highest seed. Solid loss curves are val, dashed "
        "ones train. A run keeps its best epoch on val, not its last, unless --select is last."
        + " The share is by the attribution of each setting." * by_own
        + f" All {len(drawn)} settings are here, {MAX_SHOWN} at a time." * (len(plots) > 1)
        + (f" Without curves: {', '.join(without)}." if without else ""),
        f"Curves over epochs of {len(drawn)} settings. {score.title} on val in the last epoch: {'; '.join(last)}.",
        plots,
        _training_table(means, names),
        "Settings" if len(plots) > 1 else "",
    )


def _shared(results: ResultFolder, drawn: Sequence[Setting]) -> Sequence[str]:
    """Modalities whose shares are drawn: of two, the first; none if nothing is shared."""
    if all(len(setting.modalities) == 1 for setting in drawn):
        return ()
    return results.modalities[:1] if len(results.modalities) == 2 else results.modalities


def _training_table(means: Mapping[str, Mapping[str, pd.Series | None]], names: Sequence[str]) -> Table:
    """Means over seeds; of long trainings, every epoch of which the number divides into `MAX_EPOCHS`."""
    rows: list[list[object]] = []
    for text, of_setting in means.items():
        epochs = next(series.index for series in of_setting.values() if series is not None)
        kept = epochs[:: -(-len(epochs) // MAX_EPOCHS)]
        rows += [
            [text, int(epoch), *(None if s is None else float(s[epoch]) for s in of_setting.values())] for epoch in kept
        ]
    return make_table("training-data", "Means over seeds, per epoch.", ["setting", "epoch", *names], rows)


def _curves(tables: Sequence[tuple[Setting, Sequence[pd.DataFrame]]], panels: Mapping[str, str]) -> go.Figure:
    """One panel per quantity, one curve per setting."""
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=GAP / len(panels))
    for row, (title, name) in enumerate(panels.items(), start=1):
        for setting, of_setting in tables:
            if _complete(name, of_setting):
                _band(figure, _by_seed(name, of_setting), setting, row)
            if name == "val_loss" and _complete("train_loss", of_setting):
                mean = _by_seed("train_loss", of_setting).mean(axis=1)
                _curve(figure, mean, setting, f"{setting.label}, train", row, dash="dash", legend=False)
        axis = {"title": {"text": label(title)}} if name == "val_loss" else fraction_axis(label(title))
        if name.startswith("val_share"):
            axis |= {"range": [0, 1]}
            num = max(len(setting.modalities) for setting, _ in tables)
            figure.add_hline(y=1 / num, line={"color": MUTED, "dash": "dash", "width": 1}, row=row, col=1)
        figure.update_yaxes(**axis, row=row, col=1)
    figure.update_xaxes(title={"text": "epoch"}, row=len(panels), col=1)
    return figure


def _complete(name: str, tables: Sequence[pd.DataFrame]) -> bool:
    return bool(tables) and all(name in table and bool(table[name].notna().all()) for table in tables)


def _by_seed(name: str, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Values of one column, `(epochs, seeds)`."""
    return pd.concat([table[name] for table in tables], axis=1)


def _band(figure: go.Figure, values: pd.DataFrame, setting: Setting, row: int) -> None:
    low, high = values.min(axis=1), values.max(axis=1)
    if bool((high > low).any()):
        figure.add_scatter(
            x=[*values.index, *values.index[::-1]],
            y=[*high, *low[::-1]],
            mode="lines",  # of few epochs, Plotly would add markers
            fill="toself",
            fillcolor=setting_area(setting),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            row=row,
            col=1,
        )
    _curve(figure, values.mean(axis=1), setting, setting.label, row, legend=row == 1)


def _curve(
    figure: go.Figure,
    mean: pd.Series,
    setting: Setting,
    name: str,
    row: int,
    *,
    legend: bool,
    dash: str = "solid",
) -> None:
    figure.add_scatter(
        x=list(mean.index),
        y=[float(f"{value:.5g}") for value in mean],
        mode="lines",
        name=label(name),
        showlegend=legend,
        line={"color": setting_color(setting), "width": 2, "dash": dash},
        hovertemplate=f"{label(name)}<br>epoch %{{x}}: %{{y:.3f}}<extra></extra>",
        row=row,
        col=1,
    )


@sections.register("missing")
def missing(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """The score with only some of the modalities, for every kind of replacement."""
    measured = [setting for setting in settings if any(name.startswith("missing.") for name in setting.names)]
    selected = [setting for setting in shown(settings) if setting in measured]
    if not selected:
        return None
    score = results.score
    plots: dict[str, dict[str, Any]] = {}
    rows: list[tuple[str, str, str, float | None, float | None]] = []
    num = len(results.modalities)
    for baseline, words in BASELINES.items():
        prefix = f"missing.{baseline}."
        subsets = sorted(
            {n.removeprefix(prefix) for g in selected for n in g.names if n.startswith(prefix)},
            key=lambda subset: (subset.count("+"), subset),
        )
        if not subsets:
            continue
        for setting in selected:
            values = [(setting.mean(prefix + each), setting.half_width(prefix + each)) for each in subsets]
            rows += [(setting.label, baseline, each, *pair) for each, pair in zip(subsets, values, strict=True)]
        drawn = [each for each in subsets if each.count("+") + 1 in (1, num - 1, num)]  # of many, the others are many
        plots[words] = _bars_of_subsets(selected, drawn, prefix, num)
    first_baseline = rows[0][1]
    first = selected[0].label
    listed = [f"{row[2]} {fraction(row[3])}" for row in rows if row[0] == first and row[1] == first_baseline]
    return Picture(
        "missing",
        "When a modality is missing",
        f"{score.title} if only the named modalities are kept and the others are replaced. If a single one does "
        "nearly as well as all together, the others add little. If it does no better than guessing, they are needed."
        + " The picture has single modalities, all but one, and all; the table has every subset." * (num > MAX_COLUMNS)
        + of_all(selected, measured),
        f"Bars of {score.words} by kept modalities, for {len(selected)} settings. {first}: {'; '.join(listed)}.",
        plots,
        make_table(
            "missing-data",
            f"{score.title} by the kept modalities and the replacement of the others.",
            ["setting", "replaced by", "kept", score.words, "± (95 %)"],
            rows,
        ),
        "Others are replaced by" if len(plots) > 1 else "",
    )


def _bars_of_subsets(
    selected: Sequence[Setting], subsets: Sequence[str], prefix: str, num_modalities: int
) -> dict[str, Any]:
    """Columns of two or three modalities, else rows, whose names have room."""
    texts = [_subset_words(subset, prefix, num_modalities, subsets) for subset in subsets]
    return grouped_bars(
        texts,
        [(setting, [prefix + subset for subset in subsets]) for setting in selected],
        selected[0].score.words,
        in_rows=num_modalities > MAX_COLUMNS,
        bounds=selected[0].score.bounds,
    )


def _subset_words(subset: str, prefix: str, num_modalities: int, subsets: Sequence[str]) -> str:
    kept = subset.split("+")
    if len(kept) == 1:
        return subset + _alone(prefix.split(".")[1])
    if num_modalities > MAX_COLUMNS:
        whole = max((each.split("+") for each in subsets), key=len)
        without = [m for m in whole if m not in kept]
        return "all" if not without else f"all but {without[0]}"
    return subset.replace("+", " + ")


def _alone(baseline: str) -> str:
    """Words for a modality without the others: "alone" is the measure of that name."""
    return " alone" if baseline == "mean" else " only"


@sections.register("noise")
def noise(results: ResultFolder, settings: Sequence[Setting]) -> Picture | None:
    """The score over noise in one modality, one panel per modality."""
    measured = [setting for setting in settings if any("noise" in run.nested for run in setting.runs)]
    selected = [setting for setting in shown(settings) if setting in measured]
    if results.evaluation is None or not selected:
        return None
    score = results.score
    levels = [float(level) for level in results.evaluation["settings"]["noise_levels"]]
    modalities = [m for m in results.modalities if any(_noise_curves(setting, m) for setting in selected)]
    if not modalities:
        return None
    figure = make_subplots(
        rows=len(modalities), cols=1, shared_xaxes=True, shared_yaxes="all", vertical_spacing=GAP / len(modalities)
    )
    rows: list[list[Any]] = []
    for row, m in enumerate(modalities, start=1):
        for setting in selected:
            curves = _noise_curves(setting, m)
            if not curves:
                continue
            mean = [float(value) for value in np.mean(curves, axis=0)]
            rows.append([setting.label, m, *mean, setting.mean(f"robustness.{m}")])
            figure.add_scatter(
                x=levels,
                y=mean,
                mode="lines+markers",
                name=label(setting.label),
                legendgroup=setting.label,
                showlegend=m == next(each for each in modalities if _noise_curves(setting, each)),
                line={"color": setting_color(setting), "width": 2},
                marker=setting_marker(setting, 8),
                cliponaxis=False,  # a marker at 1 is whole
                hovertemplate=f"{label(setting.label)}<br>noise %{{x}} in {label(m)}: %{{y:.3f}}<extra></extra>",
                row=row,
                col=1,
            )
        figure.update_yaxes(**fraction_axis(f"{score.words}, noise in {m}"), row=row, col=1)
    figure.update_yaxes(range=wide_enough([value for row in rows for value in row[2:-1]], bounds=score.bounds))
    figure.update_xaxes(title={"text": "noise (standard deviations)"}, row=len(modalities), col=1)
    parts = ["a curve", f"the clean {score.words}"]
    falls = [
        f"{m} {fraction(_at_level(selected[0], m, 0))} to {fraction(_at_level(selected[0], m, -1))}" for m in modalities
    ]
    return Picture(
        "noise",
        "Noise",
        f"{score.title} with noise added to one modality's embeddings and the others clean{over_seeds(selected)}. The "
        "steeper a curve, the more the head depends on that modality. Robustness is the area under "
        + " divided by ".join(parts[::-1] if score.least_is_best else parts)
        + ": a ratio, 1 if noise costs nothing."
        + of_all(selected, measured),
        f"Curves of {score.words} over noise. {selected[0].label}, from no noise to the most: "
        + "; ".join(falls)
        + ".",
        {"": plot(figure, 230 * len(modalities) + 90)},
        make_table(
            "noise-data",
            f"{score.title} at noise of some standard deviations (sd), and robustness, a ratio to the clean "
            f"{score.words}.",
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
