"""The whole pipeline on rendered clips: `amr demo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from amr.data_manifests.synthetic import SyntheticConfig, best_accuracy, render
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.config import SweepConfig
from amr.fusion.sweep.plots import plot_ratios
from amr.fusion.sweep.sweep import sweep

RATIOS = (None, "9:1", "3:1", "1:1", "1:3", "1:9")
NUM_SEEDS = 3
MODALITIES = ("audio", "video")


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Args:
        cache: File with the extracted embeddings.
        picture: File with the picture of accuracy and shares over the ratios.
        best: Best reachable accuracy with audio, video and both.
        rows: Test results, one row per ratio, mean over seeds.
    """

    cache: Path
    picture: Path
    best: dict[str, float]
    rows: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Document of `amr demo --json`."""
        return {
            "cache": str(self.cache),
            "picture": str(self.picture),
            "best_accuracy": self.best,
            "rows": list(self.rows),
            "reading": self.reading(),
        }

    def to_text(self) -> str:
        """Table, its reading in two sentences, and the path of the picture."""
        table = pd.DataFrame(
            {
                "ratio": [row["amr_ratio"] for row in self.rows],
                "accuracy": [f"{row['accuracy']:.3f}" for row in self.rows],
                **{
                    f"{title} {m}": [f"{row[key][m]:.3f}" for row in self.rows]
                    for title, key in (("share", "share"), ("permuting costs,", "perceptual"))
                    for m in MODALITIES
                },
            }
        )
        return f"{table.to_string(index=False)}\n\n{self.reading()}\nThe picture is {self.picture}."

    def reading(self) -> str:
        """The results in two sentences."""
        by_ratio = {row["amr_ratio"]: row for row in self.rows}
        plain, even = by_ratio["none"], by_ratio["1:1"]
        audio_most, audio_least = by_ratio["9:1"], by_ratio["1:9"]
        return (
            f"Without AMR, audio has {plain['share']['audio']:.0%} of the attribution. With the ratio 1:1 it has "
            f"{even['share']['audio']:.0%}, and accuracy goes from {plain['accuracy']:.3f} to {even['accuracy']:.3f} "
            f"(best reachable: {self.best['both']:.3f}).\n"
            f"From 9:1 to 1:9, audio's share goes from {audio_most['share']['audio']:.2f} to "
            f"{audio_least['share']['audio']:.2f}, and the accuracy lost by permuting audio from "
            f"{audio_most['perceptual']['audio']:.2f} to {audio_least['perceptual']['audio']:.2f}. A share is not use, "
            "so every result reports both."
        )


def demo(
    folder: Path, seed: int = 0, say: Callable[[str], None] = lambda text: None, device: str = "auto"
) -> DemoResult:
    """Render clips, extract embeddings, fit heads over a range of ratios, and plot the results.

    Args:
        folder: Folder of clips, cache, runs and picture. Existing results in it are used again.
        seed: Seed of the clips, and first seed of the fits.
        say: Function that is called with a sentence at each stage.
        device: Device: auto, cpu or cuda.
    """
    config = SyntheticConfig(num_clips=480, seed=seed)
    say(f"rendering {config.num_clips} clips of {config.num_classes} classes into {folder / 'media'}")
    manifest = render(config, folder / "media")
    say("extracting log-mel bands and gray frames")
    cache = folder / "caches" / "synthetic.h5"
    extracted = extract_embeddings(
        ExtractConfig(
            manifest=str(manifest.root / "manifest.csv"),
            out=str(cache),
            encoder=("audio=logmel", "video=frames"),
            device=device,
        )
    )
    say(f"{extracted.clips} clips in {extracted.seconds:.1f} s; fitting {len(RATIOS)} ratios x {NUM_SEEDS} seeds")
    rows = _sweep(folder, cache, seed, device)
    picture = folder / "demo.png"
    best = best_accuracy(config)
    plot_ratios(
        picture,
        [row["amr_ratio"] for row in rows],
        [row["accuracy"] for row in rows],
        {m: [row["share"][m] for row in rows] for m in MODALITIES},
        {m: [None if r is None else parse_ratio(r, MODALITIES)[i] for r in RATIOS] for i, m in enumerate(MODALITIES)},
        title=f"{config.num_classes} classes, linear concat head, mean of {NUM_SEEDS} seeds",
        best_accuracy=best["both"],
    )
    return DemoResult(cache, picture, best, rows)


def _sweep(folder: Path, cache: Path, seed: int, device: str) -> tuple[dict[str, Any], ...]:
    """Fit every ratio with every seed; one row per ratio, the mean over seeds on test."""
    swept = {
        "amr_ratio": ",".join(ratio or "none" for ratio in RATIOS),
        "seed": ",".join(str(seed + i) for i in range(NUM_SEEDS)),
    }
    out = folder / "runs" / f"sweep_seed{seed}"
    config = SweepConfig.parse(swept=swept, cache=str(cache), out=str(out), device=device)
    runs = sweep(config).table
    test = runs[runs["part"] == "test"]
    rows: list[dict[str, Any]] = []
    for ratio in (r or "none" for r in RATIOS):
        of_ratio = test[test["amr_ratio"] == ratio]
        row: dict[str, Any] = {"amr_ratio": ratio, "accuracy": float(of_ratio["accuracy"].mean())}
        for key in ("share", "share_logit", "perceptual"):
            row[key] = {m: float(of_ratio[f"{key}_{m}"].mean()) for m in MODALITIES}
        rows.append(row)
    return tuple(rows)
