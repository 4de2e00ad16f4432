"""Pictures of results."""

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
    """Accuracy above, each modality's share below, over the ratios that were asked for.

    Args:
        file: picture to write, .png or .svg.
        ratios: labels of the axis, in order.
        accuracy: test accuracy at each ratio.
        shares: modality to its share at each ratio.
        targets: modality to the share that was asked for; None where none was.
        title: what is shown.
        best_accuracy: drawn as a line where the best reachable accuracy is known.
    """
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.3])
    places = list(range(len(ratios)))
    _line(top, places, accuracy, targets, color="#333333")
    if best_accuracy is not None:
        top.axhline(best_accuracy, linestyle=":", color="#333333", linewidth=1)
        top.annotate(
            "best reachable", (len(ratios) - 1, best_accuracy), ha="right", va="bottom", fontsize=8, color="#333333"
        )
    top.set_ylabel("test accuracy")
    top.set_ylim(0, 1)
    top.set_title(title, loc="left", fontsize=10)
    for i, (modality, values) in enumerate(shares.items()):
        colour = COLORS[i % len(COLORS)]
        _line(bottom, places, values, targets, color=colour, label=f"{modality}, on test")
        asked = [(x, y) for x, y in zip(places, targets[modality], strict=True) if y is not None]
        bottom.plot(*zip(*asked, strict=True), "_", color=colour, markersize=16, label=f"{modality}, asked for")
    bottom.set_ylabel("share of the decision")
    bottom.set_ylim(0, 1)
    bottom.set_xticks(places, ratios)
    bottom.set_xlabel(f"ratio asked for, {':'.join(shares)}")
    figure.legend(*bottom.get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center", frameon=False)
    for axes in (top, bottom):
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)


def _line(
    axes: Axes,
    places: Sequence[int],
    values: Sequence[float],
    targets: Mapping[str, Sequence[float | None]],
    **style: Any,
) -> None:
    """A line over the ratios; where none was asked for, a hollow point apart from it."""
    asked = [target is not None for target in next(iter(targets.values()))]
    line = [value if there else math.nan for value, there in zip(values, asked, strict=True)]
    axes.plot(places, line, marker="o", **style)
    alone = [(x, y) for x, y, there in zip(places, values, asked, strict=True) if not there]
    if alone:
        axes.plot(*zip(*alone, strict=True), "o", markerfacecolor="white", markeredgecolor=style["color"])


def plot_shares(file: Path, table: pd.DataFrame, modality: str, *, metric: str = "accuracy") -> None:
    """A metric on test against a modality's share: a line a method and head over the ratios, mean over seeds, with the
    weight and learning rate that are best on val.

    Args:
        file: picture to write, .png or .svg.
        table: results of a sweep, a row a run and part.
        modality: whose share is the axis.
        metric: a column of the table.
    """
    share = f"share_{modality}"
    test = table[(table["part"] == "test") & table[share].notna()]
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for i, ((method, head), runs) in enumerate(test.groupby(["method", "head"], sort=False)):
        if runs["modalities"].nunique() > 1 or "," not in str(runs["modalities"].iloc[0]):
            continue  # one modality alone has no dominance
        runs = _best_setting(runs, table)
        means = runs.groupby("amr_ratio", sort=False)[[share, metric]].mean().sort_values(share)
        colour = COLORS[i % len(COLORS)]
        asked = means[means.index != "none"]
        axes.plot(asked[share], asked[metric], marker="o", color=colour, label=f"{method}, {head}")
        axes.plot(
            *means.loc[["none"]].T.to_numpy() if "none" in means.index else ((), ()), "o", mfc="white", mec=colour
        )
        for ratio, point in means.iterrows():
            axes.annotate(
                str(ratio), (point[share], point[metric]), fontsize=7, textcoords="offset points", xytext=(4, 4)
            )
    axes.set_xlabel(f"share of {modality} on test")
    axes.set_ylabel(f"{metric} on test")
    axes.set_xlim(0, 1)
    low, high = axes.get_ylim()
    room = max(0.0, 0.2 - (high - low)) / 2  # a point of accuracy is not to look like a cliff
    axes.set_ylim(low - room, high + room)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=8, ncols=3, loc="outside lower center", frameon=False)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)


def _best_setting(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Of each ratio, the runs of the weight and learning rate with the best mean accuracy on val."""
    kept = []
    for _, of_ratio in runs.groupby("amr_ratio", sort=False):
        settings = [group for _, group in of_ratio.groupby(["amr_weight", "lr"], dropna=False, sort=False)]
        val = table[table["part"] == "val"].set_index("run")["accuracy"]
        kept.append(max(settings, key=lambda group: val.reindex(group["run"]).mean()))
    return pd.concat(kept)
