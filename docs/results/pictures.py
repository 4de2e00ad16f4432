"""The picture of accuracy and use under noise."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from noise import LEVELS, UnderNoise
from tables import short

from amr.common.colors import COLORS

GRAY, INK = "#dddddd", "#333333"
MARKERS = "osD^vPX<>"
SHIFT = 0.02  # deviations between the whiskers of two settings, so that none hides another


def draw_noise(file: Path, title: str, measured: UnderNoise) -> None:
    """Draw accuracy (above) and use (below) over the noise, one column per modality that gets it.

    Args:
        file: Picture to write.
        title: Name of the data set.
        measured: Measures under noise.
    """
    modalities, settings = measured.modalities, [*measured.accuracy]
    figure = Figure(figsize=(max(8.0, 2.2 * len(modalities)), 6.4), layout="constrained")
    panels = figure.subplots(2, len(modalities), sharex=True, sharey="row", squeeze=False)
    for row, name in zip(panels, ("accuracy", "use"), strict=True):
        for panel, modality in zip(row, modalities, strict=True):
            for number, setting in enumerate(settings):
                _curve(panel, measured, name, setting, modality, number)
            panel.set_title(f"noise in {modality}" if name == "accuracy" else f"use of {modality}", fontsize=9)
            panel.grid(color=GRAY, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(f"{name} on test")
    for panel in panels[1]:
        panel.set_xlabel("noise, in deviations", fontsize=9)
    _, seeds, folds = measured.accuracy["plain"][modalities[0]].shape
    means = f"means of {seeds} seeds" + (f" x {folds} folds" if folds > 1 else "")
    figure.suptitle(
        f"{title}\n{means}; whiskers: 95 % interval of the difference from plain", fontsize=10, x=0.01, ha="left"
    )
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(file, dpi=110)


def _curve(panel: Axes, measured: UnderNoise, name: str, setting: str, modality: str, number: int) -> None:
    """Draw one setting: black if plain, dashed if a control."""
    is_plain, is_control = setting == "plain", setting.startswith(("embedding", "weight"))
    means = getattr(measured, name)[setting][modality].mean((1, 2))
    intervals = [measured.difference(name, setting, modality, level).interval for level in range(len(LEVELS))]
    color = INK if is_plain else COLORS[(number - 1) % len(COLORS)]
    panel.errorbar(
        [level + SHIFT * (number - 4) for level in LEVELS],
        means,
        [0.0 if interval is None else (interval[1] - interval[0]) / 2 for interval in intervals],
        fmt=MARKERS[number],
        linestyle="--" if is_control else "-",
        color=color,
        ecolor=color + "77",
        elinewidth=1,
        markersize=4,
        linewidth=1.8 if is_plain else 1.2,
        label=short(setting, measured.modalities),
    )
