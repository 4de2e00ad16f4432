"""What each setting of a frontier reaches on val and test: accuracy, use, and Shapley values of the accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from amr.fusion.attribution.shapley import shapley_split
from amr.fusion.config import FitConfig
from amr.fusion.data.normalization import train_statistics
from amr.fusion.evaluate.groups import OpenedCaches, RunGroup, run_groups
from amr.fusion.evaluate.measures.missing import LEAST, of_baseline
from amr.fusion.evaluate.per_clip import map_folds
from amr.fusion.evaluate.perturb import Subject
from amr.fusion.evaluate.references.scaling import gain_and_use, is_scalable, scaled_model, unit_of
from amr.fusion.frontier.settings import Setting
from amr.fusion.resolve import resolve
from amr.fusion.runs.read import Run
from amr.fusion.tasks import tasks


@dataclass(frozen=True)
class Values:
    """Measures of a setting on one split.

    Args:
        gain: Accuracy, or the score of another task with the sign in which more is better, `(seeds, folds)`.
        use: Accuracy lost if a modality is permuted, `(seeds, folds, modalities)`.
    """

    gain: np.ndarray
    use: np.ndarray

    @property
    def use_share(self) -> np.ndarray:
        """Use shares, `(seeds, folds, modalities)`; their mean over folds is the share of the mean uses."""
        return shares(np.where(self.use.mean(1, keepdims=True) > 0, self.use, 0))


@dataclass(frozen=True)
class Measured:
    """A setting with its measures.

    Args:
        setting: The setting.
        modalities: Modalities of its heads, in order.
        seeds: Seeds of its runs that did not diverge.
        runs: Its runs, one per seed; empty for modality scaling, which has none.
        val, test: Measures of each split.
        shapley: Shapley values of the test accuracy, `(seeds, folds, modalities)`.
    """

    setting: Setting
    modalities: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    val: Values
    test: Values
    shapley: np.ndarray


def shares(parts: np.ndarray) -> np.ndarray:
    """Share of each modality in the mean over folds, as one value per fold, `(seeds, folds, modalities)`.

    A share is a ratio of means over folds. The values of single folds are its linear part (the delta method): their
    mean is the share, and their deviation gives its interval. A ratio per fold would be noise where use is small.

    >>> shares(np.array([[[0.3, 0.1], [0.1, 0.1]]])).mean(1).round(6).tolist()
    [[0.666667, 0.333333]]
    """
    total = parts.mean(1, keepdims=True).sum(-1, keepdims=True)
    total = np.where(total > LEAST, total, np.nan)
    share = parts.mean(1, keepdims=True) / total
    linear: np.ndarray = share + (parts - share * parts.sum(-1, keepdims=True)) / total
    return linear


def measure(settings: Sequence[Setting], runs: Sequence[Run], caches: OpenedCaches) -> list[Measured]:
    """Measure every setting that has a finished run; the others are left out.

    Args:
        settings: Settings, the plain one first.
        runs: Finished runs of the sweep.
        caches: Their caches.
    """
    dataset = caches.data(runs[0]).dataset
    found = {_comparable(run.config): run for run in runs}
    seeds = sorted({run.seed for run in runs})
    groups = run_groups(runs, caches.data)
    shapley = shapley_of(groups)
    measured = []
    for setting in settings:
        if setting.config is None:
            continue
        keys = [_comparable(resolve(replace(setting.config, seed=seed), dataset)) for seed in seeds]
        of_setting = tuple(found[key] for key in keys if key in found)
        if of_setting:
            measured.append(_measured(setting, of_setting, shapley))
    if measured and measured[0].setting is settings[0]:
        plain = RunGroup(measured[0].runs, caches.data(measured[0].runs[0]))
        measured += _scaled(plain, [setting for setting in settings if setting.config is None])
    return measured


def measured_runs(setting: Setting, runs: tuple[Run, ...], groups: Iterable[RunGroup]) -> Measured:
    """Measure the runs of one setting, one per seed.

    Args:
        setting: The setting.
        runs: Its runs.
        groups: The same runs with their clips, read one by one.
    """
    return _measured(setting, runs, shapley_of(groups))


def shapley_of(groups: Iterable[RunGroup]) -> dict[Path, np.ndarray]:
    """Folder of each run to its Shapley values of the test accuracy by permutation, `(folds, modalities)`."""
    return {run.folder: values for group in groups for run, values in zip(group.runs, _shapley(group), strict=True)}


def _measured(setting: Setting, runs: tuple[Run, ...], shapley: Mapping[Path, np.ndarray]) -> Measured:
    val, test = (_saved(runs, split) for split in ("val", "test"))
    of_runs = np.stack([shapley[run.folder] for run in runs])
    return Measured(setting, runs[0].modalities, tuple(run.seed for run in runs), runs, val, test, of_runs)


def _comparable(config: FitConfig) -> FitConfig:
    """Config without what does not change the numbers."""
    return replace(config, out=None, device="auto", cache=None, logger=None)


def _saved(runs: Sequence[Run], split: str) -> Values:
    """Measures of a split as the fit saved them."""
    folds = [[fold[split] for fold in run.folds] for run in runs]
    score = runs[0].score
    return Values(
        np.array([[score.gain(fold[score.name]) for fold in of_run] for of_run in folds]),
        np.array([[[fold["perceptual"][m] for m in runs[0].modalities] for fold in of_run] for of_run in folds]),
    )


def _shapley(group: RunGroup, setting: Setting | None = None) -> np.ndarray:
    """Shapley values of the test accuracy by permutation, `(run, folds, modalities)`."""

    def of_fold(k: int) -> Tensor:
        fold = group.folds[k]
        model = group.model(k) if setting is None else scaled_model(group, k, setting.factors)
        task, unit = tasks[group.runs[0].config.task], unit_of(fold)
        subject = Subject(model, fold.test, *train_statistics(fold.train), task=task, unit=unit)
        subsets = [values.mean(-1) for values in of_baseline(subject, "permutation").values()]
        return shapley_split(torch.stack([*subsets, subject.clean.correct.mean(-1)])).T  # (run, modalities)

    return torch.stack(map_folds(group, of_fold), dim=1).numpy()


def _scaled(plain: RunGroup, settings: Sequence[Setting]) -> list[Measured]:
    """Measure plain heads whose modalities are scaled after training; empty if the head's logits are no sum."""
    if not is_scalable(plain):
        return []
    modalities = plain.runs[0].modalities
    seeds = tuple(run.seed for run in plain.runs)
    measured = []
    for setting in settings:

        def of_fold(k: int, setting: Setting = setting) -> list[tuple[Tensor, Tensor]]:
            model, fold = scaled_model(plain, k, setting.factors), plain.folds[k]
            task, unit = tasks[plain.runs[0].config.task], unit_of(fold)
            return [gain_and_use(model, clips, task, unit) for clips in (fold.val, fold.test)]

        splits = zip(*map_folds(plain, of_fold), strict=True)
        val, test = (Values(*(torch.stack(each, dim=1).numpy() for each in zip(*of, strict=True))) for of in splits)
        measured.append(Measured(setting, modalities, seeds, (), val, test, _shapley(plain, setting)))
    return measured
