"""The one trainer: a group of runs of one shape, together along a leading run axis; a single fit is a group of one.

All chance belongs to seeds, never to places in the group: runs of one seed start from the same weights and see the
same batches, alone or together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.fusion.attribution import mean_share
from amr.fusion.attributor import Attributor
from amr.fusion.clips import Clips, predict_shares
from amr.fusion.methods.base import Method, cross_entropy
from amr.fusion.model import Batch, FusionModel, ModelShape
from amr.fusion.regularizer import regularization
from amr.fusion.stacked import generator
from amr.fusion.threads import threads_for

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Recipe:
    """What the runs of a group have in common."""

    shape: ModelShape
    method: Method
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


@dataclass(frozen=True)
class Fitted:
    """A trained group.

    Args:
        model: each run's weights of its chosen epoch.
        best_epoch: `(run,)`, counted from 1.
        history: name to `(epochs, run)`, or `(epochs, run, modalities)` for shares.
    """

    model: FusionModel
    best_epoch: Tensor
    history: dict[str, Tensor]


def train_group(
    recipe: Recipe, members: Sequence[Member], train: Clips, val: Clips, progress: Progress | None = None
) -> Fitted:
    """Train every member on `train` and keep each one's best epoch by `val`.

    Without val clips, the last epoch is kept.

    Raises:
        RuntimeError: the loss of a run is no longer finite.
    """
    model = FusionModel(recipe.shape, [member.seed for member in members]).to(train.target.device)
    with threads_for(model.num_parameters() * len(members) * recipe.batch_size):
        return _train(recipe, members, model, train, val, progress)


def _train(
    recipe: Recipe,
    members: Sequence[Member],
    model: FusionModel,
    train: Clips,
    val: Clips,
    progress: Progress | None,
) -> Fitted:
    device = train.target.device
    step = _Step(recipe, model, members)
    order = _Order(members, len(train), device)
    best = _Best(model, recipe.select if len(val) > 0 else "last", step.weight)
    history: list[dict[str, Tensor]] = []
    for epoch in range(1, recipe.epochs + 1):
        index = order.next_epoch()  # (run, clips)
        totals = torch.zeros(2, len(members), device=device)
        for start in range(0, len(train), recipe.batch_size):
            batch_index = index[:, start : start + recipe.batch_size]
            totals += step(train.gather(batch_index)) * batch_index.shape[1]
        record = dict(zip(("train_loss", "regularization"), totals / len(train), strict=True))
        record |= _validate(model, val, recipe.attributor, step.ratio)
        best.update(epoch, record)
        history.append(record)
        if not torch.isfinite(record["train_loss"]).all():
            runs = (~torch.isfinite(record["train_loss"])).nonzero().flatten().tolist()
            raise RuntimeError(f"the loss stopped being finite in epoch {epoch} (members {runs}). Pass a smaller --lr.")
        if progress is not None:
            progress(epoch, recipe.epochs)
    best.restore(model)
    return Fitted(model, best.epoch, {name: torch.stack([h[name] for h in history]).cpu() for name in history[0]})


class _Order:
    """The order of the train clips in each epoch: one shuffle a seed, shared by the runs of that seed."""

    def __init__(self, members: Sequence[Member], num_clips: int, device: torch.device) -> None:
        seeds = sorted({member.seed for member in members})
        self._generators = [generator(seed, "batches") for seed in seeds]
        self._rows = torch.tensor([seeds.index(member.seed) for member in members])
        self._num_clips, self._device = num_clips, device

    def next_epoch(self) -> Tensor:
        shuffles = torch.stack([torch.randperm(self._num_clips, generator=g) for g in self._generators])
        return shuffles[self._rows].to(self._device)


class _Step:
    """One optimizer step of every run: task + amr_weight * R, or R by an optimizer of its own."""

    def __init__(self, recipe: Recipe, model: FusionModel, members: Sequence[Member]) -> None:
        device = next(model.parameters()).device
        num_modalities = len(model.modalities)
        self.recipe, self.model = recipe, model
        self.parameters = list(model.parameters())
        self.head_parameters = list(model.head.parameters())
        self.optimizer = _optimizer(recipe, self.parameters, recipe.lr, recipe.weight_decay)
        weights = [m.amr_weight if m.ratio is not None else 0.0 for m in members]
        self.amr = any(weight > 0 for weight in weights)
        self.weight = torch.tensor(weights, device=device)  # (run,)
        even = (1 / num_modalities,) * num_modalities  # stands in for runs whose weight is 0
        self.ratio = torch.tensor([m.ratio or even for m in members], device=device)  # (run, modalities)
        self.separate = self.amr and recipe.amr_optimizer == "separate"
        if self.separate:
            if len(set(weights)) > 1:
                raise ValueError(f"amr_weight must be one for all members with a separate optimizer, got {weights}.")
            # Adam would cancel a weight on the loss, so the weight scales the learning rate
            self.amr_optimizer = _optimizer(recipe, self.head_parameters, recipe.lr * weights[0], 0.0)

    def __call__(self, batch: Batch) -> Tensor:
        """Train on a batch; the loss and R of each run, `(2, run)`."""
        z = self.model.encode(batch)
        outcome = self.recipe.method.loss(self.model, batch, z)
        if not self.amr:
            self._assign(self.parameters, torch.autograd.grad(outcome.loss.sum(), self.parameters))
            self.optimizer.step()
            return torch.stack([outcome.loss.detach(), torch.zeros_like(outcome.loss)])
        _, share, counted = self.recipe.attributor.shares(self.model.head, z, batch.present, create_graph=True)
        distance = regularization(share, counted, self.ratio)
        if self.separate:
            task = torch.autograd.grad(outcome.loss.sum(), self.parameters)
            pull = torch.autograd.grad(distance.sum(), self.head_parameters, materialize_grads=True)
            self._assign(self.parameters, task)
            self.optimizer.step()
            self._assign(self.head_parameters, pull)
            self.amr_optimizer.step()
        else:
            total = (outcome.loss + self.weight * distance).sum()
            self._assign(self.parameters, torch.autograd.grad(total, self.parameters))
            self.optimizer.step()
        return torch.stack([outcome.loss.detach(), distance.detach()])

    @staticmethod
    def _assign(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()  # fused AdamW reads gradients by the layout of parameters


def _optimizer(recipe: Recipe, parameters: Sequence[Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)
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

    def update(self, epoch: int, record: dict[str, Tensor]) -> None:
        loss = record["val_loss"]
        score = (-loss if self.select == "loss" else record["val_accuracy"]) - self.weight * record[
            "val_regularization"
        ]
        if self.select == "last":
            better = torch.ones_like(self._epoch, dtype=torch.bool)
        else:
            better = (score > self._score) | ((score == self._score) & (loss < self._loss))
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
