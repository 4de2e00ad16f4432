"""Uni-modal heads of the same clips, settings and seed as a run: those of the sweep's own UME, else trained here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amr.fusion.config import FitConfig
from amr.fusion.data.clips import Clips
from amr.fusion.data.folds import Fold, TrainingData
from amr.fusion.evaluate.groups import OpenedCaches, RunGroup
from amr.fusion.evaluate.perturb import Subject
from amr.fusion.methods import methods
from amr.fusion.model import FusionModel, ModelShape, predict_logits
from amr.fusion.resolve import member_of, recipe_of, record_of, resolve, schedule
from amr.fusion.runs.read import Run
from amr.fusion.train.graphs import graphed_step
from amr.fusion.train.trainer import train_group

# settings that a fit and its UME have in common
_LABELS = ("label", "task", "label_separator", "split_policy", "keep_flagged", "folds", "split_seed")
_CLIPS = ("cache", "modalities", "normalize", *_LABELS)
_COMMON = (*_CLIPS, "adapter", "adapter_dim", "epochs", "batch_size", "select", "seed", "embedding_noise")


@dataclass(frozen=True)
class Initial:
    """Weights before training, of a run group and of its uni-modal heads.

    Args:
        alone: Modality to the uni-modal heads.
        own: Models of the runs, one per seed.
        own_row: Index of each run's model in `own`, `(run,)`.
    """

    alone: Mapping[str, FusionModel]
    own: FusionModel
    own_row: Tensor


@dataclass(frozen=True)
class Reference:
    """Uni-modal heads of a run group on one fold. Several runs may share one, such as those of one seed.

    Args:
        model: UME: the adapter and the classifier of each modality, each trained alone, one run per uni-modal head.
        row: Index of each run's heads, `(run,)`.
        fold: Clips that they were trained on: those of the runs, averaged over steps, or encoded by encoders that were
            trained alone.
        own: Clips of the runs.
        initial: All of these models before training; None if encoders were trained, whose initial weights are not kept.
    """

    model: FusionModel
    row: Tensor
    fold: Fold
    own: Fold
    initial: Initial | None = None


@dataclass(frozen=True)
class ComparedSubject(Subject):
    """Subject with the uni-modal heads that its runs are compared with; None if there are none."""

    reference: Reference | None = None


class UnimodalHeads:
    """Uni-modal heads of all runs of a folder; each setting and seed is trained once.

    Args:
        runs: All runs of the folder.
        caches: Their caches.
    """

    def __init__(self, runs: Sequence[Run], caches: OpenedCaches) -> None:
        plain = [run for run in runs if run.config.method == "ume" and not run.config.method_option]  # no weights
        self._runs = {ume_config(run.config): run for run in plain}
        self._caches = caches
        self._shapes: dict[FitConfig, ModelShape] = {}
        self._states: dict[FitConfig, list[dict[str, Tensor]]] = {}  # of each fold

    def of(self, group: RunGroup) -> Callable[[int], Reference] | None:
        """Function of a fold's number that returns its reference; None if the runs have one modality."""
        if len(group.runs[0].modalities) < 2:
            return None
        configs = [ume_config(run.config) for run in group.runs]
        data = self._caches.pooled(group.runs[0])
        self._find(configs, data)
        distinct = list(dict.fromkeys(configs))
        seeds = list(dict.fromkeys(run.seed for run in group.runs))

        def of_fold(k: int) -> Reference:
            shape, states = self._shapes[distinct[0]], [self._states[config][k] for config in distinct]
            device = data.folds[k].test.target.device
            model = FusionModel(shape, [config.seed for config in distinct])
            model.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
            initial = Initial(
                {m: initial_alone(shape, m, [config.seed for config in distinct]).to(device) for m in shape.embed_dims},
                FusionModel(group.shape, seeds).to(device).eval(),
                torch.tensor([seeds.index(run.seed) for run in group.runs], device=device),
            )
            return Reference(
                model.to(device).eval(),
                torch.tensor([distinct.index(config) for config in configs], device=device),
                data.folds[k],
                group.folds[k],
                initial,
            )

        return of_fold

    def _find(self, configs: Sequence[FitConfig], data: TrainingData) -> None:
        """Read the heads of the sweep's own UME, and train those that it lacks."""
        new = [config for config in dict.fromkeys(configs) if config not in self._states]
        in_sweep = [config for config in new if config in self._runs]
        if in_sweep:
            group = RunGroup(tuple(self._runs[config] for config in in_sweep), data)
            self._store(in_sweep, [group.model(k) for k in range(len(data.folds))])
        to_train = [config for config in new if config not in self._runs]
        for setting in dict.fromkeys(replace(config, seed=0) for config in to_train):
            members = [config for config in to_train if replace(config, seed=0) == setting]
            self._store(members, _trained(members, data))

    def _store(self, configs: Sequence[FitConfig], models: Sequence[FusionModel]) -> None:
        for i, config in enumerate(configs):
            self._shapes[config] = models[0].shape
            self._states[config] = [model.run_state(i) for model in models]


def ume_config(config: FitConfig) -> FitConfig:
    """Config of the UME that a fit is compared with: the same clips, adapter, epochs and seed.

    Optimizer options at the defaults of the fit's method become UME's defaults, as in a sweep over both.
    """
    method = methods[config.method]
    optimizer = None if config.optimizer == method.optimizer else config.optimizer
    same_schedule = (config.lr_step, config.lr_factor) == schedule(
        replace(config, lr_step=None, lr_factor=None), method
    )
    return replace(
        FitConfig(),
        method="ume",
        lr=None if config.lr == method.lr else config.lr,
        optimizer=optimizer,
        momentum=None if optimizer is None else config.momentum,
        lr_step=None if same_schedule else config.lr_step,
        lr_factor=None if same_schedule else config.lr_factor,
        weight_decay=None if config.weight_decay == method.weight_decay else config.weight_decay,
        **{name: getattr(config, name) for name in _COMMON},
    )


def _trained(configs: Sequence[FitConfig], data: TrainingData) -> list[FusionModel]:
    """UME of each fold."""
    records = [record_of(resolve(config, data.dataset), data) for config in configs]
    members = [member_of(record) for record in records]
    recipe = recipe_of(records[0])
    return [train_group(recipe, members, fold.train, fold.val, make_step=graphed_step).model for fold in data.folds]


def initial_alone(shape: ModelShape, modality: str, seeds: Sequence[int]) -> FusionModel:
    """Uni-modal heads of a modality before training."""
    alone = ModelShape.of(
        {modality: shape.embed_dims[modality]},
        shape.head_shape.num_classes,
        head=str(methods["unimodal"].head),
        hidden=0,
        adapter=shape.adapter,
        adapter_dim=shape.head_shape.embed_dims[modality],
    )
    return FusionModel(alone, seeds).eval()


def num_runs_of(model: FusionModel) -> int:
    """Number of runs that a model holds."""
    return len(next(model.parameters()))


def logits_of(model: FusionModel, clips: Clips) -> Tensor:
    """Logits of every run, `(run, clips, classes)`, for a split that may have no clips."""
    if len(clips) == 0:
        return _no_logits(model)
    return predict_logits(model, clips)


@torch.no_grad()
def each_alone(model: FusionModel, clips: Clips) -> dict[str, Tensor]:
    """Modality to the logits of its own classifier in UME, `(run, clips, classes)`."""
    num_runs = num_runs_of(model)
    chunks = clips.chunks(num_runs)
    batches = [model.encode(clips.slice(start, start + chunks.step, num_runs)) for start in chunks]
    classifiers = {m: model.head.get_submodule(f"classifiers.{m}") for m in model.modalities}
    return {
        m: torch.cat([classifier(z[m]) for z in batches], dim=1) if batches else _no_logits(model)
        for m, classifier in classifiers.items()
    }


def _no_logits(model: FusionModel) -> Tensor:
    parameter = next(model.parameters())
    return parameter.new_zeros(len(parameter), 0, model.shape.head_shape.num_classes)
