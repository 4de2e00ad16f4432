"""Synthetic clips, rendered on demand: real mp4 files with a known amount of information in each modality.

A clip of class c shows a bright shape that moves around c's own place in the picture, and plays a tone of c's own
pitch. Each modality's cue is correct with a set probability; if it fails, it is absent (an empty picture, only noise)
or shows another class. So the best reachable accuracy of each modality and of both is known exactly.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from amr.common.files import check_writable, write_json
from amr.common.files.lock import lock
from amr.common.options import coerce_fields
from amr.data_manifests.coverage import ManifestReport, report_on
from amr.data_manifests.dataset import ANY_CONTENT, WEIGHTLESS, Dataset, datasets
from amr.data_manifests.manifest import Manifest, read_manifest, write_manifest
from amr.data_manifests.synthetic_media import render_frames, render_waveform, write_clip

MODALITIES = ("audio", "video")


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of the synthetic clips.

    Args:
        num_classes: Number of classes, 2 to 16.
        num_clips: Number of clips, at least one per class and split.
        p_audio, p_video: Probability that the modality's cue shows the clip's class.
        misleading: Fraction of the wrong cues that show another class, uniformly at random; the other wrong cues are
            absent. At 0 the modalities complement each other; at 1 the weaker one adds nothing.
        train_share, val_share: Fractions of the clips; the rest is test.
        duration_seconds, frame_rate_hz, sample_rate_hz, size: Format of the files; frames are size x size pixels.
        seed: Seed of everything random.

    Raises:
        ValueError: A value is out of its range.
    """

    num_classes: int = 6
    num_clips: int = 240
    p_audio: float = 0.8
    p_video: float = 0.6
    misleading: float = 0.25
    train_share: float = 0.6
    val_share: float = 0.15
    duration_seconds: float = 1.0
    frame_rate_hz: int = 10
    sample_rate_hz: int = 16000
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        coerce_fields(self)
        for name, low, high in (
            ("num_classes", 2, 16),
            ("p_audio", 0.0, 1.0),
            ("p_video", 0.0, 1.0),
            ("misleading", 0.0, 1.0),
            ("train_share", 0.0, 1.0),
            ("val_share", 0.0, 1.0),
            ("duration_seconds", 0.1, 60.0),
            ("frame_rate_hz", 1, 60),
            ("sample_rate_hz", 16000, 48000),
            ("size", 32, 512),
            ("seed", 0, math.inf),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}, got {value}. Change it in SyntheticConfig.")
        if self.size % 2:
            raise ValueError(f"size must be even for H.264, got {self.size}. Pass {self.size + 1}.")
        if min(self.split_sizes().values()) < self.num_classes:
            raise ValueError(
                f"num_clips must give every split a clip per class, got {self.num_clips} clips as {self.split_sizes()} "
                f"for {self.num_classes} classes. Pass more clips."
            )

    def split_sizes(self) -> dict[str, int]:
        """Number of clips of each split."""
        train = round(self.num_clips * self.train_share)
        val = round(self.num_clips * self.val_share)
        return {"train": train, "val": val, "test": self.num_clips - train - val}

    def cue_probabilities(self, modality: str) -> np.ndarray:
        """Probability of each cue given the class, `(class, cue)`; the last cue is "none"."""
        right = self.p_audio if modality == "audio" else self.p_video
        wrong = (1 - right) * self.misleading / (self.num_classes - 1)
        table = np.full((self.num_classes, self.num_classes + 1), wrong)
        np.fill_diagonal(table, right)
        table[:, -1] = (1 - right) * (1 - self.misleading)
        return table


def best_accuracy(config: SyntheticConfig) -> dict[str, float]:
    """Accuracy of the Bayes-optimal classifier, by enumeration of every pair of cues.

    Classes are equally likely and cues independent given the class, so the best decision for cues (a, v) has
    probability max_c P(a | c) P(v | c) / num_classes.

    Returns:
        Accuracies of "audio", "video" and "both", as fractions of 1.
    """
    audio, video = (config.cue_probabilities(modality) for modality in MODALITIES)
    both = sum((audio[:, a] * video[:, v]).max() for a, v in itertools.product(range(config.num_classes + 1), repeat=2))
    return {
        "audio": float(audio.max(axis=0).sum() / config.num_classes),
        "video": float(video.max(axis=0).sum() / config.num_classes),
        "both": float(both / config.num_classes),
    }


def build(root: str | os.PathLike[str]) -> tuple[Manifest, ManifestReport]:
    """Read the clips in a folder; render them first if it has none.

    They are rendered with the config that the folder was begun with, if any, else with the default config.
    """
    root = Path(root)
    if not (root / "manifest.csv").is_file():
        check_writable(root, "--root", "Pass --root with another folder.")
        render(read_config(root) or SyntheticConfig(), root)
    listed = read_manifest(root / "manifest.csv")
    manifest = Manifest("synthetic", listed.root, listed.table)
    notes = []
    config = read_config(root)
    if config is not None:
        best = best_accuracy(config)
        notes.append(
            "best reachable accuracy: "
            + ", ".join(f"{name} {value:.3f}" for name, value in best.items())
            + f" ({config.num_classes} classes, cue right with p_audio={config.p_audio}, p_video={config.p_video})"
        )
    return manifest, report_on(manifest, modalities=MODALITIES, notes=notes)


def read_config(root: str | os.PathLike[str]) -> SyntheticConfig | None:
    """Config that a folder was rendered with, or None."""
    path = Path(root) / "synthetic.json"
    return SyntheticConfig(**json.loads(path.read_text())) if path.is_file() else None


def render(config: SyntheticConfig, root: str | os.PathLike[str]) -> Manifest:
    """Write `clips/*.mp4`, `synthetic.json` and, last, `manifest.csv` into a folder.

    The same config gives the same bytes (with the same version of FFmpeg). A folder that was already rendered with it
    is left unchanged; an interrupted one is rendered again.

    Raises:
        ValueError: The folder holds clips of another config.
    """
    root = Path(root)
    saved = read_config(root)
    if saved is not None and saved != config:
        raise ValueError(f"--root must be rendered with one config, got {str(root)!r} with another. Pass a new folder.")
    if saved is None and (root / "manifest.csv").is_file():
        raise ValueError(f"--root must be a new folder, got {str(root)!r} with a manifest. Pass another.")
    if (root / "manifest.csv").is_file():
        return read_manifest(root / "manifest.csv")
    (root / "clips").mkdir(parents=True, exist_ok=True)
    with lock(root / "manifest.csv", "--root", "rendering", on_wait=lambda: None):  # shards may begin side by side
        return _render(config, root)


def _render(config: SyntheticConfig, root: Path) -> Manifest:
    if (root / "manifest.csv").is_file():  # another process has rendered it meanwhile
        return read_manifest(root / "manifest.csv")
    clips = draw_clips(config)
    write_json(root / "synthetic.json", asdict(config))
    # FFmpeg releases the GIL, so threads are enough.
    manifest = Manifest("synthetic", Path(os.path.abspath(root)), clips)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda row: _render_clip(config, manifest, row), range(len(manifest))))
    write_manifest(manifest, root / "manifest.csv")
    return manifest


def draw_clips(config: SyntheticConfig) -> pd.DataFrame:
    """Table of the manifest: label, split, and the cue that each modality shows ("" for none).

    Within each split classes are balanced, and the number of correct cues is as near to its probability as a whole
    number allows. So even small splits agree well with `best_accuracy`.
    """
    rng = np.random.default_rng([config.seed, 0])
    rows: list[dict[str, str]] = []
    for split, num_clips in config.split_sizes().items():
        labels = rng.permutation(np.arange(num_clips) % config.num_classes)
        cues = {modality: _draw_cues(rng, config, modality, labels) for modality in MODALITIES}
        for row, label in enumerate(labels):
            clip = f"{len(rows):05d}"
            rows.append(
                {"id": clip, "label": _class_name(label), "split": split, "group": "", "path": f"clips/{clip}.mp4"}
                | {f"{modality}_cue": _class_name(cues[modality][row]) for modality in MODALITIES}
            )
    return pd.DataFrame(rows, dtype=str)


def _class_name(cue: int) -> str:
    """Name of a class; "" for -1, no cue."""
    return f"class-{cue:02d}" if cue >= 0 else ""


def _draw_cues(rng: np.random.Generator, config: SyntheticConfig, modality: str, labels: np.ndarray) -> np.ndarray:
    """Class that each clip's cue shows, `(clips,)`, -1 for none; drawn by stratified sampling."""
    right = config.p_audio if modality == "audio" else config.p_video
    none = (1 - right) * (1 - config.misleading)
    num_clips = len(labels)
    # One point in each of num_clips equal strata of [0, 1), in random order.
    point = (rng.permutation(num_clips) + rng.random(num_clips)) / num_clips
    other = (labels + rng.integers(1, config.num_classes, num_clips)) % config.num_classes
    return np.where(point < right, labels, np.where(point < right + none, -1, other))


def _render_clip(config: SyntheticConfig, manifest: Manifest, row: int) -> None:
    """Render one clip with its own generator, so that the order of rendering does not matter."""
    rng = np.random.default_rng([config.seed, 1, row])
    audio, video = (
        int(name.removeprefix("class-")) if (name := manifest.value(row, f"{modality}_cue")) else None
        for modality in MODALITIES
    )
    num_frames = max(1, round(config.duration_seconds * config.frame_rate_hz))
    num_samples = round(config.duration_seconds * config.sample_rate_hz)
    write_clip(
        manifest.root / manifest.value(row, "path"),
        frames=render_frames(rng, video, config.num_classes, num_frames, config.size),
        frame_rate_hz=config.frame_rate_hz,
        waveform=render_waveform(rng, audio, config.num_classes, num_samples, config.sample_rate_hz),
        sample_rate_hz=config.sample_rate_hz,
    )


datasets.register("synthetic")(
    Dataset(
        name="synthetic",
        summary="clips rendered on the spot: shapes and tones with a known amount of information in each",
        licence="MIT, as this package",
        homepage="",
        modalities=MODALITIES,
        build=build,
        presets={
            "weightless": WEIGHTLESS,
            "pretrained": ANY_CONTENT,
        },
    )
)
