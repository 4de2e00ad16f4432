"""Pictures of a sweep's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from amr.common.colors import COLORS
from amr.common.files import replacing
from amr.fusion.attribution.ratio import named_ratio
from amr.fusion.choices import SCORES, Score
from amr.fusion.runs.read import OF_AMR, SETTINGS, setting_details
from amr.fusion.runs.statistics import mean_interval

GRAY = "#333333"
METRICS = {"map": "mAP", "f1": "F1"}
MANY_LINES = 12  # from which on settings are numbers
LEAST_SPAN = 0.2  # of an axis
NO_AMR, NO_HEAD = ", no AMR", "-"
CHOSEN = ("amr_weight", "lr")  # settings of which a point has those that are best on val
# Places of a name around its point, in points: near ones first.
PLACES = [
    (x * far, y * far)
    for far in (6, 12, 20, 30, 44)
    for x, y in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
]


def plot_ratios(
    file: Path,
    ratios: Sequence[str],
    targets: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[pd.Series]]],
    plain: Mapping[str, pd.Series],
    *,
    title: str,
    axis: str,
    best_accuracy: float | None = None,
) -> None:
    """Plot accuracy (top) and one modality's shares (bottom) over the requested ratios, one column per panel.

    Points are means over seeds, bars their 95 % intervals.

    Args:
        file: Picture to write, .png or .svg.
        ratios: Labels of the axis, in order.
        targets: Share requested at each ratio.
        panels: Title of each column to its values on test: "accuracy" first, then shares by the words of the legend,
            one series over seeds per ratio.
        plain: The same values without AMR, one series over seeds each.
        title: Title of the picture.
        axis: Label of the horizontal axes.
        best_accuracy: Best reachable accuracy, shown as a line; None if unknown.
    """
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    rows = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[1, 1.9])
    for (top, bottom), (name, values) in zip(rows.T, panels.items(), strict=True):
        bottom.plot(targets, "_", color=GRAY, markersize=22, label="ratio asked for")
        for i, (measure, of_ratios) in enumerate(values.items()):
            axes, color = (top, GRAY) if i == 0 else (bottom, COLORS[i - 1])
            axes.axhline(plain[measure].mean(), linestyle="--", color=color, linewidth=1)
            means, halves = zip(*(mean_interval(seeds.dropna().to_numpy()) for seeds in of_ratios), strict=True)
            bars = [0 if half is None else half for half in halves]
            axes.errorbar(range(len(ratios)), means, bars, marker="o", color=color, capsize=3, label=measure)
        if best_accuracy is not None:
            top.axhline(best_accuracy, linestyle=":", color=GRAY, linewidth=1)
            top.annotate("best reachable", (len(ratios) - 1, best_accuracy), ha="right", va="bottom", fontsize=8)
        top.set_title(name, loc="left", fontsize=10)
        bottom.set_xticks(range(len(ratios)), ratios)
        bottom.set_xlabel(axis)
        for axes in (top, bottom):
            axes.set_ylim(0, 1)
            axes.margins(x=0.15)
            axes.grid(axis="y", color="#dddddd", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
    top, bottom = rows[:, 0]
    top.set_yticks([0, 0.5, 1])
    top.set_ylabel("accuracy on test")
    bottom.set_ylabel("share and use share on test")
    bottom.plot([], linestyle="--", color=GRAY, linewidth=1, label="without AMR")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.legend(*bottom.get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center", frameon=False)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)


def plot_shares(
    file: Path, table: pd.DataFrame, modality: str, *, metric: str | None = None, score: Score = SCORES["multiclass"]
) -> None:
    """Plot a metric on test against a modality's share: a line over the ratios per setting of everything else.

    Points are means over seeds, at the weight and learning rate that are best on val. If there are several
    ratios, they are named beside them, where there is room.

    Args:
        file: Picture to write, .png or .svg.
        table: Results of a sweep, one row per run and split.
        modality: Modality whose share is the horizontal axis.
        metric: Column of the table; by default that of the score.
        score: Score of the task, by which settings are chosen.
    """
    metric = metric or score.name
    share = f"share_{modality}"
    test = table[(table["part"] == "test") & table[share].notna()]
    test = test[test["modalities"].str.contains(",")]  # the share of a single modality is always 1
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    names: list[tuple[str, tuple[float, float]]] = []
    ratios: set[str] = set()
    lines = _lines(test)
    numbers = _numbers(lines)
    for i, (label, runs) in enumerate(lines):
        means = _best_setting(runs, table, score).groupby("amr_ratio", sort=False)[[share, metric]].mean()
        means = means.sort_values(share)
        is_plain = [*means.index] == ["none"]
        marks = _marks(i, numbers.get(_pair(label)), is_plain=is_plain)
        axes.plot(means[share], means[metric], label=label, **marks)
        modalities = runs["modalities"].iloc[0].split(",")
        named = {} if is_plain else {named_ratio(str(r), modalities): tuple(point) for r, point in means.iterrows()}
        names += named.items()
        ratios |= {*named}
    with_amr, without = ("colored", "gray") if numbers else ("filled", "hollow")
    of_ratio = f"{with_amr}: AMR {next(iter(ratios))}, " if len(ratios) == 1 else ""
    axes.set_title(f"{of_ratio}{without}: no AMR", loc="left", fontsize=8)
    axes.set_xlabel(f"share of {modality} on test")
    axes.set_ylabel(f"{METRICS.get(metric, score.measures.get(metric, metric))} on test")
    axes.set_xlim(*(_at_least(axes.get_xlim(), LEAST_SPAN) if numbers else (0, 1)))
    axes.set_ylim(*_at_least(axes.get_ylim(), LEAST_SPAN / 2 if numbers else LEAST_SPAN))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _add_key(figure, axes, numbers)
    if len(ratios) > 1 and not numbers:
        _name_points(figure, axes, names)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)


def _numbers(lines: Sequence[tuple[str, pd.DataFrame]]) -> dict[str, int]:
    """Number of each setting, with and without AMR the same, where lines are too many for colors; else nothing."""
    if len(lines) <= MANY_LINES:
        return {}
    return {label: i for i, label in enumerate(dict.fromkeys(_pair(label) for label, _ in lines), start=1)}


def _marks(line: int, number: int | None, *, is_plain: bool) -> dict[str, Any]:
    """Options of a line and its points: the number of its setting if there is one, else the next color."""
    if number is None:
        return {"marker": "o", "color": COLORS[line % len(COLORS)], "mfc": "white" if is_plain else None}
    return {**_number_mark(number), "color": GRAY if is_plain else COLORS[0], "lw": 0.6}


def _number_mark(number: int) -> dict[str, Any]:
    """Options of a point that is a number, with digits as high as in any other."""
    return {"marker": f"${number}$", "markersize": 6 if number < 10 else 9, "mew": 0}


def _add_key(figure: Figure, axes: Axes, numbers: Mapping[str, int]) -> None:
    """Name the lines below the picture."""
    handles, labels = axes.get_legend_handles_labels()
    if numbers:
        figure.set_size_inches(6.4, 4.6 + 0.17 * -(-len(numbers) // 3))
        handles = [Line2D([], [], linestyle="", color=GRAY, **_number_mark(n)) for n in numbers.values()]
        labels = [*numbers]
    if handles:  # else all runs are uni-modal: nothing has a share
        figure.legend(handles, labels, fontsize=8, ncols=3, loc="outside lower center", frameon=False)


def _pair(label: str) -> str:
    """Label of a setting without AMR as of the one with it."""
    return label.replace(NO_AMR, "")


def _at_least(limits: tuple[float, float], span: float) -> tuple[float, float]:
    """Limits that are so far apart, so that small differences look small."""
    margin = max(0.0, span - (limits[1] - limits[0])) / 2
    return limits[0] - margin, limits[1] + margin


def _lines(test: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Lines of the picture, each with its label and its runs: those that differ in ratio, weight and rate alone.

    A setting without AMR is a line of its own: it is the counterpart of every attribution.
    """
    known = [name for name in SETTINGS if name in test and name not in (*CHOSEN, "amr_ratio")]
    always = ["method", "head"]
    lines = []
    for is_plain, part in test.groupby(test["amr_ratio"] == "none", sort=False):
        keys = [name for name in known if not (is_plain and name in OF_AMR)]
        # within a method: its own defaults are no choice
        most = part.groupby("method")[keys].nunique().max()
        varied = [name for name in keys if most[name] > 1 and name not in always]
        for _, runs in part.groupby(keys, sort=False, dropna=False):
            first = {name: None if pd.isna(runs[name].iloc[0]) else runs[name].iloc[0] for name in keys}
            words = [str(first[name]) for name in always if first[name] != NO_HEAD]
            words += [NO_AMR.lstrip(", ")] * bool(is_plain)
            words += [str(first["modalities"]).replace(",", "+")] * ("modalities" in varied)
            lines.append((", ".join(words + setting_details(first, varied)), runs))
    return lines


def _name_points(figure: Figure, axes: Axes, names: Sequence[tuple[str, tuple[float, float]]]) -> None:
    """Write each name at a free place near its point; a name without one is left out."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    frame = axes.get_window_extent(renderer)
    spots = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for points in spots for x, y in points]
    for name, point in names:
        for x, y in PLACES:
            text = axes.annotate(
                name,
                point,
                (x, y),
                textcoords="offset points",
                fontsize=7,
                ha="center" if x == 0 else "left" if x > 0 else "right",
                va="center" if y == 0 else "bottom" if y > 0 else "top",
                arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#999999"},
            )
            text.set_in_layout(False)  # the axes stay where they are
            text.update_positions(renderer)
            area = Text.get_window_extent(text, renderer)  # without its line
            if frame.containsx(area.x0) and frame.containsx(area.x1) and not area.count_overlaps(taken):
                taken.append(area)
                break
            text.remove()


def _best_setting(runs: pd.DataFrame, table: pd.DataFrame, score: Score) -> pd.DataFrame:
    """Select, for each ratio, the runs of the weight and learning rate with the best mean score on val."""
    selected = []
    for _, of_ratio in runs.groupby("amr_ratio", sort=False):
        settings = [group for _, group in of_ratio.groupby(["amr_weight", "lr"], dropna=False, sort=False)]
        val = table[table["part"] == "val"].set_index("run")[score.name]
        selected.append(max(settings, key=lambda group: score.gain(val.reindex(group["run"]).mean())))
    return pd.concat(selected)
