"""Accuracy and use of a frontier's heads under noise of 0 to 2 deviations in one modality."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amr.common.files import write_json
from amr.fusion.attribution.ratio import named_ratio
from amr.fusion.data.clips import Clips
from amr.fusion.data.normalization import train_statistics
from amr.fusion.evaluate.groups import OpenedCaches, RunGroup, map_folds, run_groups
from amr.fusion.evaluate.perturb import noisy
from amr.fusion.model import predict_logits
from amr.fusion.run_axis.seeds import generator
from amr.fusion.runs.measure import perceptual_scores
from amr.fusion.runs.read import read_runs
from amr.fusion.runs.statistics import PairedTest, paired_test
from amr.fusion.tasks.metrics import accuracy

LEVELS = (0.0, 0.5, 1.0, 1.5, 2.0)  # deviations of each dimension over the train clips
DRAWS = 5  # noise draws of each level; use is measured with the first


def settings(modalities: Sequence[str]) -> list[str]:
    """Labels of the compared settings, as in frontier.json: plain, regularized heads, controls.

    >>> settings(["audio", "video"])[1]
    'grad_x_input audio=4:video=1 weight 1'
    """
    even = ":".join("1" * len(modalities))
    ratios = ("4:1", even, "1:4") if len(modalities) == 2 else (even,)
    return [
        "plain",
        *(f"grad_x_input {named_ratio(ratio, modalities)} weight 1" for ratio in ratios),
        f"permutation {named_ratio(ratios[-1], modalities)} weight 0.3",
        "embedding noise 2",
        "weight decay 10",
        *(f"weighted UME {named_ratio(ratio, modalities)}" for ratio in dict.fromkeys([ratios[0], ratios[-1]])),
    ]


@dataclass(frozen=True)
class UnderNoise:
    """Measures of some settings under noise.

    Args:
        modalities: Modalities that get the noise, one at a time.
        overlap: Number of test clips over number of training clips, if there are folds; else 0.
        accuracy: Setting and modality to `(levels, seeds, folds)`.
        use: Use of the noisy modality, in the same shape.
    """

    modalities: tuple[str, ...]
    overlap: float
    accuracy: Mapping[str, Mapping[str, np.ndarray]]
    use: Mapping[str, Mapping[str, np.ndarray]]

    def difference(self, name: str, setting: str, modality: str, level: int) -> PairedTest:
        """Difference from the plain heads, paired by seed and fold.

        Args:
            name: `accuracy` or `use`.
            setting: Label of the setting.
            modality: Modality with noise.
            level: Index of the level.
        """
        values = getattr(self, name)
        return paired_test((values[setting][modality] - values["plain"][modality])[level].ravel(), self.overlap)


def under_noise(file: Path, frontier: Path) -> UnderNoise:
    """Read the measures, or measure the heads of a frontier and write them.

    Args:
        file: JSON file of the measures.
        frontier: Folder of the frontier.
    """
    if not file.is_file():
        write_json(file, _measured(frontier))
    document = json.loads(file.read_text(encoding="utf-8"))

    def arrays(name: str) -> dict[str, dict[str, np.ndarray]]:
        values = document[name].items()
        return {setting: {m: np.array(value) for m, value in of_setting.items()} for setting, of_setting in values}

    return UnderNoise(tuple(document["modalities"]), document["overlap"], arrays("accuracy"), arrays("use"))


def _measured(frontier: Path) -> dict[str, Any]:
    """Content of the file: `(levels, seeds, folds)` of each measure, setting and modality."""
    entries = json.loads((frontier / "frontier.json").read_text(encoding="utf-8"))
    of_entries = {entry["setting"]: entry["runs"] for entry in entries["settings"]}
    names = {setting: of_entries[setting] for setting in settings(entries["modalities"])}
    chosen = {name for of_setting in names.values() for name in of_setting}
    runs = [run for run in read_runs(frontier) if run.name in chosen]
    caches = OpenedCaches("auto")
    found: dict[str, np.ndarray] = {}
    for group in run_groups(runs, caches.data):
        values = torch.stack(map_folds(group, lambda k, group=group: _of_fold(group, k)), -1).cpu().numpy()
        found |= dict(zip((run.name for run in group.runs), np.moveaxis(values, 3, 0), strict=True))
    overlap = caches.data(runs[0]).overlap
    result: dict[str, Any] = {"modalities": entries["modalities"], "levels": LEVELS, "overlap": overlap}
    for i, measure in enumerate(("accuracy", "use")):
        result[measure] = {
            setting: {
                m: np.stack([found[name][i, j] for name in of_setting], 1).tolist()
                for j, m in enumerate(entries["modalities"])
            }
            for setting, of_setting in names.items()
        }
    return result


def _of_fold(group: RunGroup, k: int) -> torch.Tensor:
    """Accuracy, and use of the noisy modality: `(2, modalities, levels, run)`."""
    model, fold = group.model(k), group.folds[k]
    _, std = train_statistics(fold.train)
    result = []
    for index, modality in enumerate(model.modalities):
        draws = _draws(fold.test, modality, std[modality])
        for level in LEVELS:
            noisy_clips = [_with_noise(fold.test, modality, level * draw) for draw in (draws if level else draws[:1])]
            accuracies = [accuracy(predict_logits(model, clips), clips.target) for clips in noisy_clips]
            use = perceptual_scores(model, noisy_clips[0], accuracies[0])[:, index]
            result.append(torch.stack([torch.stack(accuracies).mean(0), use]))
    return torch.stack(result, 1).unflatten(1, (len(model.modalities), len(LEVELS)))


def _draws(clips: Clips, modality: str, std: torch.Tensor) -> list[torch.Tensor]:
    """Noise of one deviation, as `amr evaluate` draws it with seed 0."""
    draws, embedding = generator(0, f"noise {modality}"), clips.embeddings[modality]
    unit = (torch.randn(embedding.shape, generator=draws) for _ in range(DRAWS))
    return [(noise * std.cpu()).to(clips.target.device) for noise in unit]


def _with_noise(clips: Clips, modality: str, noise: torch.Tensor) -> Clips:
    """Clips with noise in one modality, which keep it when they are permuted."""
    changed = noisy(clips.slice(0, len(clips), 1), modality, noise).embeddings[modality][0]
    return replace(clips, embeddings={**clips.embeddings, modality: changed})
