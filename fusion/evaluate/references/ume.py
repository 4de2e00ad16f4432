"""Gain over UME, the mean of the uni-modal heads' softmaxes, which joint training must beat (Du et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from amr.fusion.config import FitConfig
from amr.fusion.data.folds import TrainingData
from amr.fusion.evaluate.groups import OpenedCaches, RunGroup
from amr.fusion.methods import methods
from amr.fusion.model import FusionModel, predict_logits
from amr.fusion.resolve import member_of, recipe_of, record_of, resolve
from amr.fusion.runs.read import Run
from amr.fusion.train.graphs import graphed_step
from amr.fusion.train.trainer import train_group

# settings that a fit and its UME have in common
_CLIPS = ("cache", "modalities", "normalize", "label", "split_policy", "keep_flagged", "folds", "split_seed")
_COMMON = (*_CLIPS, "adapter", "adapter_dim", "epochs", "batch_size", "select", "seed", "embedding_noise")


class Ensembles:
    """UME of every run: the sweep's own of the same seed and settings if it has one, else trained here.

    Args:
        runs: All runs of the folder.
        caches: Their caches.
    """

    def __init__(self, runs: Sequence[Run], caches: OpenedCaches) -> None:
        plain = [run for run in runs if run.config.method == "ume" and not run.config.method_option]  # no weights
        self._runs = {ume_config(run.config): run for run in plain}
        self._caches = caches
        self._correct: dict[FitConfig, np.ndarray] = {}

    def correct(self, group: RunGroup) -> np.ndarray | None:
        """`(run, clips)`, 1 if the run's UME is correct; None if the runs are baselines themselves (unimodal, UME)."""
        method = methods[group.runs[0].config.method]
        if method.single_modality or group.runs[0].config.method == "ume" or len(group.runs[0].modalities) < 2:
            return None
        configs = [ume_config(run.config) for run in group.runs]
        data = self._caches.pooled(group.runs[0])
        new = [config for config in dict.fromkeys(configs) if config not in self._correct]
        in_sweep = [config for config in new if config in self._runs]
        if in_sweep:
            self._store(in_sweep, _fitted([self._runs[config] for config in in_sweep], data))
        to_train = [config for config in new if config not in self._runs]
        for setting in dict.fromkeys(replace(config, seed=0) for config in to_train):
            members = [config for config in to_train if replace(config, seed=0) == setting]
            self._store(members, _trained(members, data))
        return np.stack([self._correct[config] for config in configs])

    def _store(self, configs: Sequence[FitConfig], correct: np.ndarray) -> None:
        self._correct.update(zip(configs, correct, strict=True))


def ume_config(config: FitConfig) -> FitConfig:
    """Config of the UME that a fit is compared with: the same clips, adapter, epochs and seed.

    Optimizer options at the defaults of the fit's method become UME's defaults, as in a sweep over both.
    """
    method = methods[config.method]
    return replace(
        FitConfig(),
        method="ume",
        lr=None if config.lr == method.lr else config.lr,
        optimizer=None if config.optimizer == method.optimizer else config.optimizer,
        weight_decay=None if config.weight_decay == method.weight_decay else config.weight_decay,
        **{name: getattr(config, name) for name in _COMMON},
    )


def _fitted(runs: Sequence[Run], data: TrainingData) -> np.ndarray:
    group = RunGroup(tuple(runs), data)
    return _correct([group.model(k) for k in range(len(data.folds))], data)


def _trained(configs: Sequence[FitConfig], data: TrainingData) -> np.ndarray:
    records = [record_of(resolve(config, data.dataset), data) for config in configs]
    members = [member_of(record) for record in records]
    recipe = recipe_of(records[0])
    return _correct(
        [train_group(recipe, members, fold.train, fold.val, make_step=graphed_step).model for fold in data.folds], data
    )


def _correct(models: Sequence[FusionModel], data: TrainingData) -> np.ndarray:
    """Correctness of each fold's models on its test clips, folds concatenated: `(run, clips)`."""
    by_fold = []
    for model, fold in zip(models, data.folds, strict=True):
        predicted = predict_logits(model, fold.test).argmax(-1)
        by_fold.append((predicted == fold.test.target).float().cpu())
    return torch.cat(by_fold, dim=1).numpy()
