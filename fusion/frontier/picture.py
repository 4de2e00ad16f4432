"""The picture of a frontier: accuracy against the use share, one curve per kind of setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amr.common.colors import COLORS, SETTING_COLORS
from amr.common.files import replacing
from amr.fusion.choices import Score, score_of
from amr.fusion.frontier.curves import Curve, curves_of, front_of, interval_of_change
from amr.fusion.runs.statistics import FRACTION, interval_inside

GRAY, INK = "#888888", "#333333"
OF_CURVES = (*COLORS, *(light for light, _ in SETTING_COLORS))  # that of the plain head is INK
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
    numbers = {name: i for i, name in enumerate(dict.fromkeys(["plain", *_names(document)]))}
    for curve in curves_of(document):
        _curve(axes, curve, numbers[curve.name], score_of(document))
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
    title += "\nwhiskers: 95 % intervals of the paired change from plain" * has_intervals
    return title + _left_out(document)


def _names(document: Mapping[str, Any]) -> list[str]:
    """Curve of each setting, also of those that are not drawn: a curve keeps its color without them."""
    return [entry["curve"] for entry in document["settings"]]


def _left_out(document: Mapping[str, Any]) -> str:
    """Line of the title on the settings that have no place in the picture; empty if all have."""
    useless = [entry for entry in document["settings"] if entry["distance"] is None]
    if not useless:
        return ""
    plain = ", plain among them" * any(entry["kind"] == "plain" for entry in useless)
    return f"\nnot drawn: {len(useless)} of {len(document['settings'])} settings use no modality on test{plain}"


def _curve(axes: Axes, curve: Curve, number: int, score: Score) -> None:
    """Plot a curve: solid for regularizers, dashed for controls; points only, where they have no order."""
    points, is_control = curve.points, curve.is_control
    color = INK if number == 0 else OF_CURVES[(number - 1) % len(OF_CURVES)]
    line = "--" if is_control else "-"
    axes.errorbar(
        [point.x for point in points],
        [point.y for point in points],
        xerr=_lengths([(point.x, point.x_half) for point in points], FRACTION),
        yerr=_lengths([(point.y, point.y_half) for point in points], score.bounds),
        fmt=MARKERS[number % len(MARKERS)],
        linestyle=line if curve.is_ordered else "none",
        color=color,
        ecolor=color + "55",
        elinewidth=1,
        markersize=5,
        linewidth=1.2,
        label=curve.name,
    )


def _lengths(
    ends: Sequence[tuple[float, float | None]], bounds: tuple[float, float]
) -> tuple[list[float], list[float]] | None:
    """Lengths of the whiskers below and above means, which end at the bounds; None if all are unknown."""
    if all(half is None for _, half in ends):
        return None
    inside = [(mean, interval_inside(mean, half, bounds) or (mean, mean)) for mean, half in ends]
    below = [mean - low for mean, (low, _) in inside]
    above = [high - mean for mean, (_, high) in inside]
    return below, above
