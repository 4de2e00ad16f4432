"""The picture of a frontier: accuracy against the use share, one curve per kind of setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amr.common.colors import COLORS
from amr.common.files import replacing
from amr.fusion.choices import score_of
from amr.fusion.frontier.curves import Curve, curves_of, front_of, interval_of_change

GRAY, INK = "#888888", "#333333"
MARKERS = "osD^vP*X"


def plot_frontier(file: Path, document: Mapping[str, Any]) -> None:
    """Plot accuracy on test over the use share of the first modality; with more than two, over the distance.

    Args:
        file: Picture to write, .png or .svg.
        document: Content of frontier.json.
    """
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    axes = figure.subplots()
    first, *others = document["modalities"]
    two = len(others) == 1
    for number, curve in enumerate(curves_of(document)):
        _curve(axes, curve, number)
    front = front_of(document)
    axes.plot(
        [x for x, _ in front],
        [y for _, y in front],
        "o:",
        color=INK,
        markersize=13,
        markerfacecolor="none",
        linewidth=1,
        label="Pareto front, chosen on val",
    )
    target = document["target"][first] if two else 0.0
    axes.axvline(target, color=GRAY, linestyle="--", linewidth=1)
    x_title = f"use share of {first}" if two else "use that would have to move to reach the target"
    axes.set_xlim(right=min(axes.get_xlim()[1], 1.02))  # intervals may pass 1, shares do not
    axes.set_xlabel(f"{x_title}, on test (dashed: the target)")
    axes.set_ylabel(f"{score_of(document).words} on test")
    axes.set_title(_title(document), loc="left", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=8, ncols=3, loc="outside lower center", frameon=False)
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)


def _title(document: Mapping[str, Any]) -> str:
    seeds = max(len(entry["seeds"]) for entry in document["settings"])
    folds = f" x {document['folds']} folds" if document["folds"] else ""
    mean = f"mean of {seeds} seeds{folds}" if seeds > 1 else f"1 seed{folds}"
    runs = document.get("config", {}).get("runs")  # each of their trainings may have a cache of its own
    title = f"{Path(document['cache']).stem if runs is None else Path(runs).name}, {document['label']}: {mean}"
    has_intervals = any(interval_of_change(entry, score_of(document)) is not None for entry in document["settings"])
    return title + "\nwhiskers: 95 % intervals of the paired change from plain" * has_intervals


def _curve(axes: Axes, curve: Curve, number: int) -> None:
    """Plot a curve: solid for regularizers, dashed for controls; points only, where they have no order."""
    points, is_control = curve.points, curve.is_control
    color = INK if number == 0 else COLORS[(number - 1) % len(COLORS)]
    line = "--" if is_control else "-"
    axes.errorbar(
        [point.x for point in points],
        [point.y for point in points],
        xerr=_lengths([point.x_half for point in points]),
        yerr=_lengths([point.y_half for point in points]),
        fmt=MARKERS[number % len(MARKERS)],
        linestyle=line if curve.is_ordered else "none",
        color=color,
        ecolor=color + "55",
        elinewidth=1,
        markersize=5,
        linewidth=1.2,
        label=curve.name,
    )


def _lengths(halves: Sequence[float | None]) -> list[float] | None:
    """Lengths of the whiskers; None if all are unknown."""
    return None if all(half is None for half in halves) else [half or 0.0 for half in halves]
