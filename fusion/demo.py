"""The whole pipeline on rendered clips: `amr demo`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amr.common.devices import choose_device
from amr.data_manifests.synthetic import SyntheticConfig, best_accuracy, render
from amr.extract.config import ExtractConfig
from amr.extract.run import extract_embeddings
from amr.fusion.attribution.ratio import named_ratio, parse_ratio
from amr.fusion.config import FitConfig, SweepConfig
from amr.fusion.sweep.plots import plot_ratios
from amr.fusion.sweep.sweep import sweep

RATIOS = (None, "9:1", "3:1", "1:1", "1:3", "1:9")
NUM_SEEDS = 3
MODALITIES = ("audio", "video")
SHOWN = {"share": "share", "perceptual": "use"}  # measures to their words


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Args:
        cache: File with the extracted embeddings.
        picture: File with the picture of accuracy and shares over the ratios.
        sweep: Folder of the runs.
        best: Best reachable accuracy with audio, video and both.
        rows: Test results, one row per ratio, mean over seeds.
    """

    cache: Path
    picture: Path
    sweep: Path
    best: dict[str, float]
    rows: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Document of `amr demo --json`."""
        return {
            "cache": str(self.cache),
            "picture": str(self.picture),
            "sweep": str(self.sweep),
            "best_accuracy": self.best,
            "rows": list(self.rows),
            "reading": self.reading(),
        }

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows of the results as text."""
        names = "/".join(MODALITIES)
        pairs = [{key: "/".join(f"{row[key][m]:.2f}" for m in MODALITIES) for key in SHOWN} for row in self.rows]
        return ["AMR", "accuracy", *(f"{word} {names}" for word in SHOWN.values())], [
            [_ratio_text(row["amr_ratio"]), f"{row['accuracy']:.3f}", *pair.values()]
            for row, pair in zip(self.rows, pairs, strict=True)
        ]

    def reading(self) -> str:
        """The results in a few sentences."""
        by_ratio = {row["amr_ratio"]: row for row in self.rows}
        plain, even, most, least = (by_ratio[ratio] for ratio in (None, "1:1", "9:1", "1:9"))
        share = {name: row["share"]["audio"] for name, row in (("most", most), ("least", least))}
        use = {name: row["perceptual"]["audio"] for name, row in (("most", most), ("least", least))}
        return (
            f"Without AMR, audio's share is {plain['share']['audio']:.2f}. With the ratio audio=1:video=1 it is "
            f"{even['share']['audio']:.2f}, and accuracy goes from {plain['accuracy']:.3f} to {even['accuracy']:.3f} "
            f"(best reachable: {self.best['both']:.3f}).\n"
            f"From 9:1 to 1:9, audio's share goes from {share['most']:.2f} to {share['least']:.2f}. Its use, the "
            f"accuracy lost when audio is permuted between clips, goes from {use['most']:.2f} to {use['least']:.2f}. "
            "A share is not use, so every result reports both."
        )


def _ratio_text(ratio: str | None) -> str:
    return "none" if ratio is None else named_ratio(ratio, MODALITIES)


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
    choose_device(device)  # refused before clips are rendered
    if seed < 0:
        raise ValueError(f"--seed must be 0 or more, got {seed}. The default is 0.")
    config = SyntheticConfig(num_clips=480, seed=seed)
    is_rendered = (folder / "media" / "manifest.csv").is_file()
    done = "using the" if is_rendered else "rendering"
    say(f"{done} {config.num_clips} clips of {config.num_classes} classes in {folder / 'media'}")
    manifest = render(config, folder / "media")
    say("extracting log-mel bands and gray frames, where that is not done")
    cache = folder / "caches" / "synthetic.h5"
    extracted = extract_embeddings(
        ExtractConfig(
            manifest=str(manifest.root / "manifest.csv"),
            out=str(cache),
            encoder=("audio=logmel", "video=frames"),
            device=device,
        )
    )
    say(f"{extracted.extracted} clips in {extracted.seconds:.1f} s; fitting {len(RATIOS)} ratios x {NUM_SEEDS} seeds")
    runs = folder / "runs" / f"sweep_seed{seed}"
    rows = _sweep(runs, cache, seed, device)
    picture = folder / "demo.png"
    best = best_accuracy(config)
    plot_ratios(
        picture,
        [row["amr_ratio"] or "none" for row in rows],
        [row["accuracy"] for row in rows],
        {m: [row["share"][m] for row in rows] for m in MODALITIES},
        {m: [None if r is None else parse_ratio(r, MODALITIES)[i] for r in RATIOS] for i, m in enumerate(MODALITIES)},
        title=f"{config.num_classes} classes, linear concat head, mean of {NUM_SEEDS} seeds",
        best_accuracy=best["both"],
    )
    return DemoResult(cache, picture, runs, best, rows)


def _sweep(out: Path, cache: Path, seed: int, device: str) -> tuple[dict[str, Any], ...]:
    """Fit every ratio with every seed; one row per ratio, the mean over seeds on test."""
    base = FitConfig(cache=str(cache), out=str(out), device=device)
    config = SweepConfig(base, amr_ratio=RATIOS, seed=tuple(range(seed, seed + NUM_SEEDS)))
    runs = sweep(config, overwrite=True).table  # another version may have left a sweep of other settings
    test = runs[runs["part"] == "test"]
    rows: list[dict[str, Any]] = []
    for ratio in RATIOS:
        of_ratio = test[test["amr_ratio"] == (ratio or "none")]
        row: dict[str, Any] = {"amr_ratio": ratio, "accuracy": float(of_ratio["accuracy"].mean())}
        for key in ("share", "share_logit", "perceptual"):
            row[key] = {m: float(of_ratio[f"{key}_{m}"].mean()) for m in MODALITIES}
        rows.append(row)
    return tuple(rows)
