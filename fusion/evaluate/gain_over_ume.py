"""Gain over UME, the average of the uni-modal heads' softmaxes: what joint training must beat (Du et al. 2023)."""

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
from amr.fusion.train.trainer import train_group

# what a fit and its UME have in common
_CLIPS = ("cache", "modalities", "normalize", "label", "split_policy", "keep_flagged", "folds", "split_seed")
_SHARED = (*_CLIPS, "adapter", "adapter_dim", "epochs", "batch_size", "select", "seed")


class Ensembles:
    """The UME of every run: the sweep's own of that seed and those settings where there is one, else trained here.

    Args:
        runs: all runs of the folder.
        sources: their caches.
    """

    def __init__(self, runs: Sequence[Run], opened: OpenedCaches) -> None:
        self._runs = {ume_config(run.config): run for run in runs if run.config.method == "ume"}
        self._sources = opened
        self._right: dict[FitConfig, np.ndarray] = {}

    def right(self, group: RunGroup) -> np.ndarray | None:
        """`(run, clips)`: 1 where each run's UME answers right; None for the methods that it would be compared with."""
        method = methods[group.runs[0].config.method]
        if method.single_modality or group.runs[0].config.method == "ume" or len(group.runs[0].modalities) < 2:
            return None
        asked = [ume_config(run.config) for run in group.runs]
        data = self._sources.pooled(group.runs[0])
        wanted = [config for config in dict.fromkeys(asked) if config not in self._right]
        there = [config for config in wanted if config in self._runs]
        if there:
            self._keep(there, _fitted([self._runs[config] for config in there], data))
        absent = [config for config in wanted if config not in self._runs]
        for base in dict.fromkeys(replace(config, seed=0) for config in absent):
            alike = [config for config in absent if replace(config, seed=0) == base]
            self._keep(alike, _trained(alike, data))
        return np.stack([self._right[config] for config in asked])

    def _keep(self, configs: Sequence[FitConfig], right: np.ndarray) -> None:
        self._right.update(zip(configs, right, strict=True))


def ume_config(config: FitConfig) -> FitConfig:
    """The UME that a fit is compared with: the same clips, adapter, passes and seed.

    What the fit's optimizer has of its method's own defaults is UME's own here, as in a sweep over both.
    """
    method = methods[config.method]
    return replace(
        FitConfig(),
        method="ume",
        lr=None if config.lr == method.lr else config.lr,
        optimizer=None if config.optimizer == method.optimizer else config.optimizer,
        weight_decay=None if config.weight_decay == method.weight_decay else config.weight_decay,
        **{name: getattr(config, name) for name in _SHARED},
    )


def _fitted(runs: Sequence[Run], data: TrainingData) -> np.ndarray:
    group = RunGroup(tuple(runs), data)
    return _right([group.model(k) for k in range(len(data.folds))], data)


def _trained(configs: Sequence[FitConfig], data: TrainingData) -> np.ndarray:
    records = [record_of(resolve(config, data.dataset), data) for config in configs]
    members = [member_of(record) for record in records]
    recipe = recipe_of(records[0])
    return _right([train_group(recipe, members, fold.train, fold.val).model for fold in data.folds], data)


def _right(models: Sequence[FusionModel], data: TrainingData) -> np.ndarray:
    """`(run, clips)` of each fold's models on its test clips, one fold behind the other."""
    parts = []
    for model, fold in zip(models, data.folds, strict=True):
        answer = predict_logits(model, fold.test).argmax(-1)
        parts.append((answer == fold.test.target).float().cpu())
    return torch.cat(parts, dim=1).numpy()
