"""Pictures of a sweep's results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amr.common.colors import COLORS
from amr.common.files import replacing
from amr.fusion.attribution.ratio import named_ratio

METRICS = {"map": "mAP", "f1": "F1"}


def plot_ratios(
    file: Path,
    ratios: Sequence[str],
    accuracy: Sequence[float],
    shares: dict[str, Sequence[float]],
    targets: dict[str, Sequence[float | None]],
    *,
    title: str,
    best_accuracy: float | None = None,
) -> None:
    """Plot accuracy (top) and each modality's share (bottom) over the requested ratios.

    Args:
        file: Picture to write, .png or .svg.
        ratios: Labels of the axis, in order.
        accuracy: Accuracy on test at each ratio.
        shares: Modality to its share on test at each ratio.
        targets: Modality to its requested share at each ratio; None without AMR.
        title: Title of the picture.
        best_accuracy: Best reachable accuracy, shown as a line; None if unknown.
    """
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.3])
    positions = list(range(len(ratios)))
    _line(top, positions, accuracy, targets, color="#333333")
    if best_accuracy is not None:
        top.axhline(best_accuracy, linestyle=":", color="#333333", linewidth=1)
        top.annotate(
            "best reachable", (len(ratios) - 1, best_accuracy), ha="right", va="bottom", fontsize=8, color="#333333"
        )
    top.set_ylabel("accuracy on test")
    top.set_ylim(0, 1)
    top.set_title(title, loc="left", fontsize=10)
    for i, (modality, values) in enumerate(shares.items()):
        color = COLORS[i % len(COLORS)]
        _line(bottom, positions, values, targets, color=color, label=f"share of {modality}")
        requested = [(x, y) for x, y in zip(positions, targets[modality], strict=True) if y is not None]
        bottom.plot(*zip(*requested, strict=True), "_", color=color, markersize=16, label=f"{modality}, asked for")
    bottom.set_ylabel("share on test")
    bottom.set_ylim(0, 1)
    bottom.set_xticks(positions, ratios)
    bottom.set_xlabel(f"ratio asked for, {':'.join(shares)}")
    figure.legend(*bottom.get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center", frameon=False)
    for axes in (top, bottom):
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)


def _line(
    axes: Axes,
    positions: Sequence[int],
    values: Sequence[float],
    targets: Mapping[str, Sequence[float | None]],
    **style: Any,
) -> None:
    """Plot a line over the ratios, and values without AMR as hollow points that are not joined to it."""
    requested = [target is not None for target in next(iter(targets.values()))]
    line = [value if amr else math.nan for value, amr in zip(values, requested, strict=True)]
    axes.plot(positions, line, marker="o", **style)
    plain = [(x, y) for x, y, amr in zip(positions, values, requested, strict=True) if not amr]
    if plain:
        axes.plot(*zip(*plain, strict=True), "o", markerfacecolor="white", markeredgecolor=style["color"])


def plot_shares(file: Path, table: pd.DataFrame, modality: str, *, metric: str = "accuracy") -> None:
    """Plot a metric on test against a modality's share: one line per method and head, over the ratios.

    Points are means over seeds, at the weight and learning rate that are best on val. If there are several
    ratios, they are named beside them.

    Args:
        file: Picture to write, .png or .svg.
        table: Results of a sweep, one row per run and split.
        modality: Modality whose share is the horizontal axis.
        metric: Column of the table.
    """
    share = f"share_{modality}"
    test = table[(table["part"] == "test") & table[share].notna()]
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    names: set[str] = set()
    for i, ((method, head), runs) in enumerate(test.groupby(["method", "head"], sort=False)):
        if runs["modalities"].nunique() > 1 or "," not in str(runs["modalities"].iloc[0]):
            continue  # the share of a single modality is always 1
        runs = _best_setting(runs, table)
        means = runs.groupby("amr_ratio", sort=False)[[share, metric]].mean().sort_values(share)
        color = COLORS[i % len(COLORS)]
        regularized = means[means.index != "none"]
        axes.plot(regularized[share], regularized[metric], marker="o", color=color, label=f"{method}, {head}")
        axes.plot(*means.loc[["none"]].T.to_numpy() if "none" in means.index else ((), ()), "o", mfc="white", mec=color)
        modalities = runs["modalities"].iloc[0].split(",")
        for ratio, point in regularized.iterrows() if len(regularized) > 1 else ():
            _name_point(axes, named_ratio(str(ratio), modalities), (point[share], point[metric]))
        names |= {named_ratio(str(ratio), modalities) for ratio in regularized.index}
    filled = f"filled: AMR {names.pop()}, " if len(names) == 1 else ""
    axes.set_title(f"{filled}hollow: no AMR", loc="left", fontsize=8)
    axes.set_xlabel(f"share of {modality} on test")
    axes.set_ylabel(f"{METRICS.get(metric, metric)} on test")
    axes.set_xlim(0, 1)
    low, high = axes.get_ylim()
    margin = max(0.0, 0.2 - (high - low)) / 2  # at least 0.2 high, so that small differences look small
    axes.set_ylim(low - margin, high + margin)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=8, ncols=3, loc="outside lower center", frameon=False)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)


def _name_point(axes: Axes, name: str, point: tuple[float, float]) -> None:
    """Write a name beside a point, slanting so that the names of neighbors do not touch."""
    axes.annotate(
        name,
        point,
        fontsize=7,
        rotation=60,
        rotation_mode="anchor",
        textcoords="offset points",
        xytext=(4, 5),
    )


def _best_setting(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Select, for each ratio, the runs of the weight and learning rate with the best mean accuracy on val."""
    selected = []
    for _, of_ratio in runs.groupby("amr_ratio", sort=False):
        settings = [group for _, group in of_ratio.groupby(["amr_weight", "lr"], dropna=False, sort=False)]
        val = table[table["part"] == "val"].set_index("run")["accuracy"]
        selected.append(max(settings, key=lambda group: val.reindex(group["run"]).mean()))
    return pd.concat(selected)
