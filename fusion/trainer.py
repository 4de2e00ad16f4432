"""The one trainer: a group of runs of one shape, together along a leading run axis; a single fit is a group of one.

All chance belongs to seeds, never to places in the group: runs of one seed start from the same weights and see the
same batches, alone or together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from amr.fusion.attribution import mean_share
from amr.fusion.attributor import Attributor
from amr.fusion.clips import Clips, predict_logits, predict_shares
from amr.fusion.methods.base import LossFunction, Method, Setting, cross_entropy, methods
from amr.fusion.model import Batch, FusionModel, ModelShape
from amr.fusion.regularizer import regularization
from amr.fusion.stacked import Noise, of_runs
from amr.fusion.threads import threads_for

Progress = Callable[[int, int], None]
DIVERGED = "Pass a smaller --lr."


@dataclass(frozen=True)
class Recipe:
    """What the runs of a group have in common."""

    shape: ModelShape
    method: type[Method]
    options: Any
    attributor: Attributor
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    weight_decay: float
    amr_optimizer: str
    select: str


@dataclass(frozen=True)
class Member:
    """What a run of a group has of its own.

    Args:
        seed: of weights, batches and noise.
        ratio: target shares, summing to 1; None: no AMR.
        amr_weight: 0: no AMR.
    """

    seed: int
    ratio: tuple[float, ...] | None = None
    amr_weight: float = 0.0

    @property
    def weight(self) -> float:
        """Of the regularizer; 0 where no ratio was asked for."""
        return 0.0 if self.ratio is None else self.amr_weight


@dataclass(frozen=True)
class Fitted:
    """A trained group.

    Args:
        model: each run's weights of its chosen epoch.
        best_epoch: `(run,)`, counted from 1.
        history: name to `(epochs, run)`, or `(epochs, run, modalities)` for shares.
        diverged: bool `(run,)`: training did not stay finite; the weights are of no use.
    """

    model: FusionModel
    best_epoch: Tensor
    history: dict[str, Tensor]
    diverged: Tensor

    def of_best(self, name: str) -> Tensor:
        """`(run,)`: what the history says of each run's chosen epoch."""
        return self.history[name][self.best_epoch - 1, torch.arange(len(self.best_epoch))]


def train_group(
    recipe: Recipe, members: Sequence[Member], train: Clips, val: Clips, progress: Progress | None = None
) -> Fitted:
    """Train every member on `train` and keep each one's best epoch by `val`.

    Without val clips, the last epoch is kept.
    """
    model = FusionModel(recipe.shape, [member.seed for member in members]).to(train.target.device)
    with threads_for(model.num_parameters() * len(members) * recipe.batch_size):
        method = recipe.method(recipe.options, _setting(recipe, members, model, train, val))
        if method.assemble():
            return _assembled(recipe, members, model, train, val, progress)
        return _train(recipe, members, model, method, val, progress)


def _train(
    recipe: Recipe,
    members: Sequence[Member],
    model: FusionModel,
    method: Method,
    val: Clips,
    progress: Progress | None,
) -> Fitted:
    train = method.train_clips()
    step = _Step(recipe, members, model, method.loss, method)
    best = _Best(model, recipe.select if len(val) > 0 else "last", step.weight)
    order = Noise([member.seed for member in members], train.target.device, "batches")
    history: list[dict[str, Tensor]] = []
    diverged = torch.zeros(len(members), dtype=torch.bool, device=train.target.device)
    for epoch in range(1, recipe.epochs + 1):
        method.begin_epoch(epoch)
        step.set_lr(epoch)
        record = _epoch(step, train, order, recipe.batch_size)
        record |= _validate(model, val, recipe.attributor, step.ratio) | method.record()
        diverged |= ~_finite(record, model, len(val) > 0)
        best.update(epoch, record, ~diverged)
        history.append(record)
        if diverged.all():
            break
        if progress is not None:
            progress(epoch, recipe.epochs)
    best.restore(model)
    stacked = {name: torch.stack([h[name] for h in history]).cpu() for name in history[0]}
    return Fitted(model, best.epoch, stacked, diverged.cpu())


def _finite(record: Mapping[str, Tensor], model: FusionModel, has_val: bool) -> Tensor:
    """Bool `(run,)`: the losses of the epoch are finite, and so is each weight that it left."""
    finite = torch.isfinite(record["train_loss"])
    if has_val:
        finite = finite & torch.isfinite(record["val_loss"])
    for parameter in model.parameters():
        finite = finite & torch.isfinite(parameter.detach()).flatten(1).all(1)
    return finite


def _assembled(
    recipe: Recipe,
    members: Sequence[Member],
    model: FusionModel,
    train: Clips,
    val: Clips,
    progress: Progress | None,
) -> Fitted:
    """A model that was put together from trained parts has one epoch: the one in which it is measured."""
    ratio = _ratios(members, model)
    losses = cross_entropy(predict_logits(model, train), train.target.expand(len(members), -1))
    record = {"train_loss": losses, "regularization": torch.zeros_like(losses)}
    record |= _validate(model, val, recipe.attributor, ratio)
    if progress is not None:
        progress(recipe.epochs, recipe.epochs)
    history = {name: value[None].cpu() for name, value in record.items()}
    return Fitted(
        model, torch.ones(len(members), dtype=torch.long), history, torch.zeros(len(members), dtype=torch.bool)
    )


def _ratios(members: Sequence[Member], model: FusionModel) -> Tensor:
    """`(run, modalities)`: even shares stand in for runs without a ratio."""
    even = (1 / len(model.modalities),) * len(model.modalities)
    return torch.tensor([member.ratio or even for member in members], device=next(model.parameters()).device)


def _epoch(step: _Step, train: Clips, order: Noise, batch_size: int) -> dict[str, Tensor]:
    """One pass over the train clips; the mean loss and R of each run."""
    index = order.shuffles(len(train))  # (run, clips), or (seed, clips) where runs of one seed share them
    num_runs = len(step.weight)
    totals = torch.zeros(2, num_runs, device=index.device)
    for start in range(0, len(train), batch_size):
        batch_index = index[:, start : start + batch_size]
        totals += step(train.gather(batch_index, num_runs)) * batch_index.shape[1]
    return dict(zip(("train_loss", "regularization"), totals / max(len(train), 1), strict=True))


def _setting(recipe: Recipe, members: Sequence[Member], model: FusionModel, train: Clips, val: Clips) -> Setting:
    seeds = [member.seed for member in members]
    device = train.target.device

    def fit_alone(modality: str) -> Fitted:
        """Runs of one seed are one run; each member gets its seed's. A modality no clip has stays untrained."""
        shape = ModelShape.of(
            {modality: recipe.shape.embed_dims[modality]},
            recipe.shape.head_shape.num_classes,
            head=str(methods["unimodal"].head),
            hidden=0,
            adapter=recipe.shape.adapter,
            adapter_dim=recipe.shape.head_shape.embed_dims[modality],
        )
        alone = replace(recipe, shape=shape, method=methods["unimodal"], options=None, attributor=Attributor())
        distinct = sorted(set(seeds))
        train_alone, val_alone = (clips.alone(modality).averaged() for clips in (train, val))
        fitted = train_group(alone, [Member(seed) for seed in distinct], train_alone, val_alone)
        if fitted.diverged.any():
            raise RuntimeError(f"training on {modality} alone must stay finite, got a loss that did not. {DIVERGED}")
        return _select(fitted, [distinct.index(seed) for seed in seeds], seeds)

    def rehearse(loss: LossFunction, epochs: int, clips: Clips) -> FusionModel:
        copy = deepcopy(model)
        step = _Step(replace(recipe, amr_optimizer="shared"), [Member(seed) for seed in seeds], copy, loss)
        order = Noise(seeds, device, "rehearsal")
        for _ in range(epochs):
            _epoch(step, clips, order, recipe.batch_size)
        return copy

    return Setting(model, train, val, recipe.epochs, Noise(seeds, device, "noise"), fit_alone, rehearse)


def _select(fitted: Fitted, rows: Sequence[int], seeds: Sequence[int]) -> Fitted:
    """The runs of `rows`, which may repeat."""
    model = FusionModel(fitted.model.shape, seeds).to(next(fitted.model.parameters()).device)
    model.load_state_dict({name: value[list(rows)] for name, value in fitted.model.state_dict().items()})
    history = {name: values[:, list(rows)] for name, values in fitted.history.items()}
    return Fitted(model, fitted.best_epoch[list(rows)], history, fitted.diverged[list(rows)])


class _Step:
    """One optimizer step of every run: task + amr_weight * R, or R by an optimizer of its own."""

    def __init__(
        self,
        recipe: Recipe,
        members: Sequence[Member],
        model: FusionModel,
        loss: LossFunction,
        method: Method | None = None,
    ) -> None:
        device = next(model.parameters()).device
        self.recipe, self.model, self.loss, self.method = recipe, model, loss, method
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = [*model.parameters(), *(method.parameters() if method is not None else [])]
        self.head_parameters = list(model.head.parameters())
        self.optimizer = _optimizer(recipe, self.parameters, recipe.lr, recipe.weight_decay)
        weights = [member.weight for member in members]
        self.amr = any(weight > 0 for weight in weights)
        self.weight = torch.tensor(weights, device=device)  # (run,)
        self.ratio = _ratios(members, model)
        self.separate = self.amr and recipe.amr_optimizer == "separate"
        self.optimizers = {self.optimizer: recipe.lr}
        if self.separate:
            if len(set(weights)) > 1:
                raise ValueError(f"amr_weight must be one for all members with a separate optimizer, got {weights}.")
            # Adam would cancel a weight on the loss, so the weight scales the learning rate
            self.amr_optimizer = _optimizer(recipe, self.head_parameters, recipe.lr * weights[0], 0.0)
            self.optimizers[self.amr_optimizer] = recipe.lr * weights[0]

    def set_lr(self, epoch: int) -> None:
        """The method's step decay."""
        if self.recipe.method.lr_step is not None:
            every, factor = self.recipe.method.lr_step
            for optimizer, lr in self.optimizers.items():
                optimizer.param_groups[0]["lr"] = lr * factor ** ((epoch - 1) // every)

    def __call__(self, batch: Batch) -> Tensor:
        """Train on a batch; the loss and R of each run, `(2, run)`."""
        z = self.model.encode(batch)
        joint = self.method is not None and self.method.joint
        if self.method is not None and joint and self.amr and not self.model.adapters:
            # z is a constant here, so that the forward pass of the attribution serves the task, too
            logits, share, counted = self._shares(batch, z)
            return self._pulled(self.method.joint_loss(logits, batch), share, counted)
        if self.method is not None and joint:
            loss = self.method.joint_loss(self.model.head(z, batch.present), batch)
        else:
            loss = self.loss(self.model, batch, {m: of_runs(value, len(self.weight)) for m, value in z.items()})
        if not self.amr:
            self._descend(self.optimizer, self.parameters, loss.sum())
            return torch.stack([loss.detach(), torch.zeros_like(loss)])
        _, share, counted = self._shares(batch, z)
        return self._pulled(loss, share, counted)

    def _shares(self, batch: Batch, z: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return self.recipe.attributor.shares(self.model.head, z, batch.present, create_graph=True)

    def _pulled(self, loss: Tensor, share: Tensor, counted: Tensor) -> Tensor:
        distance = regularization(share, counted, self.ratio)
        if self.separate:
            pull = torch.autograd.grad(distance.sum(), self.head_parameters, retain_graph=True, materialize_grads=True)
            self._descend(self.optimizer, self.parameters, loss.sum())
            self._assign(self.head_parameters, pull)
            self.amr_optimizer.step()
        else:
            self._descend(self.optimizer, self.parameters, (loss + self.weight * distance).sum())
        return torch.stack([loss.detach(), distance.detach()])

    def _descend(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], total: Tensor) -> None:
        gradients = torch.autograd.grad(total, parameters, materialize_grads=True)
        if self.method is not None:
            adjusted = self.method.adjust(dict(zip(self.names, gradients, strict=False)))
            gradients = (*(adjusted[name] for name in self.names), *gradients[len(self.names) :])
        if self.recipe.method.clip_norm is not None:
            # apart, so that R, which takes part in the head's norm, does not reach adapters through it
            num_adapters = sum(name.startswith("adapters.") for name in self.names)  # they come first
            most = self.recipe.method.clip_norm
            gradients = (*_clipped(gradients[:num_adapters], most), *_clipped(gradients[num_adapters:], most))
        self._assign(parameters, gradients)
        optimizer.step()

    @staticmethod
    def _assign(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # fused AdamW reads gradients by the layout of parameters


def _clipped(gradients: Sequence[Tensor], most: float) -> list[Tensor]:
    """Gradients with each run's L2 norm over all of them at most `most`."""
    if len(gradients) == 0:
        return []
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]).norm(dim=0)  # (run,)
    scale = (most / norms.clamp_min(1e-12)).clamp_max(1)
    return [g * scale.view(-1, *[1] * (g.ndim - 1)) for g in gradients]


def _optimizer(recipe: Recipe, parameters: Sequence[Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)
    if recipe.optimizer == "adamax":
        return torch.optim.Adamax(parameters, lr=lr, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def _validate(model: FusionModel, val: Clips, attributor: Attributor, ratio: Tensor) -> dict[str, Tensor]:
    """Loss, accuracy, R and mean shares of each run on the val clips; NaN where there are none."""
    num_runs = next(model.parameters()).shape[0]
    if len(val) == 0:
        none = torch.full((num_runs,), torch.nan, device=val.target.device)
        share = none[:, None].expand(-1, len(model.modalities))
        return {"val_loss": none, "val_accuracy": none, "val_regularization": none, "val_share": share}
    logits, share, counted = predict_shares(model, val, attributor)
    target = val.target.expand(num_runs, -1)
    return {
        "val_loss": cross_entropy(logits, target),
        "val_accuracy": (logits.argmax(-1) == target).float().mean(-1),
        "val_regularization": regularization(share, counted, ratio),
        "val_share": mean_share(share, counted),
    }


class _Best:
    """Each run's weights at its best epoch so far, by what it trains for: a gain on val less amr_weight * R on val.

    The gain is the accuracy, the lower loss breaking ties, or minus the loss. A choice by accuracy alone would keep
    early epochs, before the shares have moved (docs/decisions/0003).
    """

    def __init__(self, model: FusionModel, select: str, weight: Tensor) -> None:
        self.select, self.weight = select, weight
        self._model = model
        self._score = torch.full_like(weight, -torch.inf)
        self._loss = torch.full_like(weight, torch.inf)
        self._epoch = torch.zeros_like(weight, dtype=torch.long)
        self._weights = [parameter.detach().clone() for parameter in model.parameters()]
        self.epoch = self._epoch.cpu()

    def update(self, epoch: int, record: dict[str, Tensor], finite: Tensor) -> None:
        loss = record["val_loss"]
        score = (-loss if self.select == "loss" else record["val_accuracy"]) - self.weight * record[
            "val_regularization"
        ]
        if self.select == "last":
            better = torch.ones_like(self._epoch, dtype=torch.bool)
        else:
            better = (score > self._score) | ((score == self._score) & (loss < self._loss))
        better = better & finite
        self._score = torch.where(better, score, self._score)
        self._loss = torch.where(better, loss, self._loss)
        self._epoch = torch.where(better, epoch, self._epoch)
        for kept, parameter in zip(self._weights, self._model.parameters(), strict=True):
            kept.copy_(torch.where(better.view(-1, *[1] * (kept.ndim - 1)), parameter.detach(), kept))

    def restore(self, model: FusionModel) -> None:
        with torch.no_grad():
            for kept, parameter in zip(self._weights, model.parameters(), strict=True):
                parameter.copy_(kept)
        self.epoch = self._epoch.cpu()
