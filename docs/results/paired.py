"""Settings of a sweep, from the metrics of their runs, with differences paired by seed and fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amr.common.files import read_json
from amr.fusion.frontier.measure import Values
from amr.fusion.runs.read import Run, read_runs, with_evaluation
from amr.fusion.runs.statistics import PairedTest, paired_test


@dataclass(frozen=True)
class Setting:
    """Runs that differ by their seed only.

    Args:
        runs: One run per seed, at least one.
    """

    runs: tuple[Run, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the heads."""
        return self.runs[0].modalities

    @property
    def values(self) -> Values:
        """Accuracy and use on test."""
        return Values(self.of_folds("accuracy"), self.of_modalities("perceptual"))

    def of_folds(self, name: str) -> np.ndarray:
        """A measure of test clips, `(seeds, folds)`."""
        return np.array([[fold["test"][name] for fold in run.folds] for run in self.runs], float)

    def of_modalities(self, name: str) -> np.ndarray:
        """A measure of each modality, `(seeds, folds, modalities)`."""
        values = [[[fold["test"][name][m] for m in self.modalities] for fold in run.folds] for run in self.runs]
        return np.array(values, float)

    @property
    def use_share(self) -> dict[str, float]:
        """Mean use share of each modality."""
        return dict(zip(self.modalities, self.values.use_share.mean((0, 1)).tolist(), strict=True))

    def means(self, name: str) -> dict[str, float]:
        """Mean of a measure of each modality over seeds and folds."""
        return dict(zip(self.modalities, self.of_modalities(name).mean((0, 1)).tolist(), strict=True))


def settings_of(folder: Path) -> list[Setting]:
    """Settings of a sweep, in the order of its runs, with their evaluation if there is one."""
    found: dict[str, list[Run]] = {}
    for run in with_evaluation(read_runs(folder), read_json(folder / "evaluation.json")):
        found.setdefault(run.name.rpartition("_seed")[0], []).append(run)
    return [Setting(tuple(sorted(runs, key=lambda run: run.seed))) for runs in found.values()]


def find(settings: Sequence[Setting], accepts: Callable[[Run], bool]) -> Setting:
    """The first setting whose runs are accepted."""
    return next(setting for setting in settings if accepts(setting.runs[0]))


def difference(ours: np.ndarray, theirs: np.ndarray, overlap: float) -> PairedTest:
    """Difference of two settings, each `(seeds, folds)`, over the seeds that both have."""
    seeds = min(len(ours), len(theirs))
    return paired_test((ours[:seeds] - theirs[:seeds]).ravel(), overlap)


def variance_cut(with_amr: Setting, without: Setting, overlap: float) -> PairedTest:
    """Part of the variance of a clip's shares over the clips that AMR removes: 0 if none, 1 if all.

    1 - sum_m spread_m^2 with AMR / sum_m spread_m^2 without, for each pair of seed and fold.
    """
    ours, theirs = ((each.of_modalities("share_spread") ** 2).sum(-1) for each in (with_amr, without))
    seeds = min(len(ours), len(theirs))
    return paired_test((1 - ours[:seeds] / theirs[:seeds]).ravel(), overlap)
