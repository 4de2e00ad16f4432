"""The one trainer: a group of runs of one shape, together along a leading run axis; a single fit is a group of one.

All chance belongs to seeds, never to places in the group: runs of one seed start from the same weights and see the
same batches, alone or together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from amr.fusion.attribution.attributor import Attributor
from amr.fusion.attribution.gradients import mean_share
from amr.fusion.attribution.regularizer import regularization
from amr.fusion.data.clips import Clips, predict_logits, predict_shares
from amr.fusion.methods.base import LossFunction, Method, Setting, cross_entropy, methods
from amr.fusion.model import FusionModel, ModelShape
from amr.fusion.run_axis.layers import Noise
from amr.fusion.threads import threads_for
from amr.fusion.train.best import Best
from amr.fusion.train.graphs import trainer_of
from amr.fusion.train.recipe import Fitted, Member, Recipe, ratios
from amr.fusion.train.step import Step

Progress = Callable[[int, int], None]
DIVERGED = "Pass a smaller --lr."


class Watcher(Protocol):
    """Sees a training at the end of each epoch, and may make it go on from an earlier one."""

    def resume(self) -> dict[str, Any] | None:
        """The state of the last epoch that was kept; None: start anew."""

    def epoch(self, record: Mapping[str, Tensor], state: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """An epoch is over: what the history says of it, and what a training that goes on from here must know."""


class Unwatched:
    """Nobody looks."""

    def resume(self) -> dict[str, Any] | None:
        """Always anew."""
        return None

    def epoch(self, record: Mapping[str, Tensor], state: Callable[[], dict[str, Any]], *, last: bool) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Ends:
    """What training encoders end to end has of its own; by default, heads are trained on embeddings.

    Args:
        build: the group's model, from its shape and seeds.
        fit_alone: modality to its uni-modal runs, one a member; None: trained here, on embeddings.
        watcher: sees each epoch.
        reuse: at how many places of a clip a weight acts, roughly; a step's work grows with it.
    """

    build: Callable[[ModelShape, Sequence[int]], FusionModel] = FusionModel
    fit_alone: Callable[[str], Fitted] | None = None
    watcher: Watcher = field(default_factory=Unwatched)
    reuse: int = 1


def train_group(
    recipe: Recipe,
    members: Sequence[Member],
    train: Clips,
    val: Clips,
    progress: Progress | None = None,
    ends: Ends | None = None,
) -> Fitted:
    """Train every member on `train` and keep each one's best epoch by `val`.

    Without val clips, the last epoch is kept.
    """
    ends = ends or Ends()
    model = ends.build(recipe.shape, [member.seed for member in members]).to(train.target.device)
    with threads_for(model.num_parameters() * len(members) * recipe.batch_size * ends.reuse):
        setting = _setting(recipe, members, model, train, val)
        if ends.fit_alone is not None:
            setting = replace(setting, fit_alone=ends.fit_alone)
        method = recipe.method(recipe.options, setting)
        if method.assemble():
            return _assembled(recipe, members, model, train, val, progress)
        return _train(recipe, members, model, method, val, progress, ends.watcher)


def _train(
    recipe: Recipe,
    members: Sequence[Member],
    model: FusionModel,
    method: Method,
    val: Clips,
    progress: Progress | None,
    watcher: Watcher,
) -> Fitted:
    train = method.train_clips()
    state = _State(recipe, members, model, method, len(val) > 0, train.target.device)
    state.load(watcher.resume())
    train_on = trainer_of(state.step, train)
    while not state.over(recipe):
        epoch = state.epoch + 1
        method.begin_epoch(epoch)
        state.step.set_lr(epoch)
        model.train()
        record = _epoch(train_on, state.step, train, state.order, recipe.batch_size)
        model.eval()
        record |= _validate(model, val, recipe.attributor, state.step.ratio) | method.record()
        state.add(record, _finite(record, model, len(val) > 0))
        watcher.epoch(record, state.dump, last=state.over(recipe))
        if progress is not None:
            progress(epoch, recipe.epochs)
    state.best.restore(model)
    stacked = {name: torch.stack([h[name] for h in state.history]).cpu() for name in state.history[0]}
    return Fitted(model, state.best.epoch.cpu(), stacked, state.diverged.cpu())


class _State:
    """Where a training stands after an epoch: all that the next one depends on."""

    def __init__(
        self,
        recipe: Recipe,
        members: Sequence[Member],
        model: FusionModel,
        method: Method,
        has_val: bool,
        device: torch.device,
    ) -> None:
        self.model, self.method = model, method
        self.step = Step(recipe, members, model, method.loss, method)
        self.best = Best(model, recipe.select if has_val else "last", self.step.weight)
        self.order = Noise([member.seed for member in members], device, "batches")
        self.diverged = torch.zeros(len(members), dtype=torch.bool, device=device)
        self.history: list[dict[str, Tensor]] = []

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return len(self.history)

    def over(self, recipe: Recipe) -> bool:
        """Nothing is left to train."""
        patience = recipe.patience
        waited = patience is not None and self.epoch - int(self.best.epoch.max()) >= patience
        return self.epoch >= recipe.epochs or bool(self.diverged.all()) or (self.epoch > 0 and waited)

    def add(self, record: dict[str, Tensor], finite: Tensor) -> None:
        """Take note of an epoch."""
        self.diverged |= ~finite
        self.history.append(record)
        self.best.update(self.epoch, record, ~self.diverged)

    def dump(self) -> dict[str, Any]:
        """Everything, for `load`; what the method trains beside the model must come back with its making."""
        return {
            "model": self.model.state_dict(),
            "method": [parameter.detach() for parameter in self.method.parameters()],
            "optimizers": [optimizer.state_dict() for optimizer in self.step.optimizers],
            "best": self.best.state(),
            "order": self.order.state(),
            "noise": self.method.setting.noise.state(),
            "diverged": self.diverged,
            "history": self.history,
        }

    def load(self, state: dict[str, Any] | None) -> None:
        """Stand where `dump` was called; None: at the start."""
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            for parameter, value in zip(self.method.parameters(), state["method"], strict=True):
                parameter.copy_(value)
        for optimizer, value in zip(self.step.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(value)
        self.best.load(state["best"])
        self.order.load(state["order"])
        self.method.setting.noise.load(state["noise"])
        self.diverged = state["diverged"].to(self.diverged.device)
        self.history = [{k: v.to(self.diverged.device) for k, v in h.items()} for h in state["history"]]


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
    ratio = ratios(members, model)
    losses = cross_entropy(predict_logits(model, train), train.target.expand(len(members), -1))
    record = {"train_loss": losses, "regularization": torch.zeros_like(losses)}
    record |= _validate(model, val, recipe.attributor, ratio)
    if progress is not None:
        progress(recipe.epochs, recipe.epochs)
    history = {name: value[None].cpu() for name, value in record.items()}
    return Fitted(
        model, torch.ones(len(members), dtype=torch.long), history, torch.zeros(len(members), dtype=torch.bool)
    )


def _epoch(
    train_on: Callable[[Tensor], Tensor], step: Step, train: Clips, order: Noise, batch_size: int
) -> dict[str, Tensor]:
    """One pass over the train clips; the mean loss and R of each run."""
    index = order.shuffles(len(train))  # (run, clips), or (seed, clips) where runs of one seed share them
    totals = torch.zeros(2, len(step.weight), device=index.device)
    for start in range(0, len(train), batch_size):
        batch_index = index[:, start : start + batch_size]
        totals += train_on(batch_index) * batch_index.shape[1]
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
        step = Step(replace(recipe, amr_optimizer="shared"), [Member(seed) for seed in seeds], copy, loss)
        order = Noise(seeds, device, "rehearsal")
        for _ in range(epochs):
            _epoch(trainer_of(step, clips), step, clips, order, recipe.batch_size)
        return copy

    return Setting(model, train, val, recipe.epochs, Noise(seeds, device, "noise"), fit_alone, rehearse)


def _select(fitted: Fitted, rows: Sequence[int], seeds: Sequence[int]) -> Fitted:
    """The runs of `rows`, which may repeat."""
    model = FusionModel(fitted.model.shape, seeds).to(next(fitted.model.parameters()).device)
    model.load_state_dict({name: value[list(rows)] for name, value in fitted.model.state_dict().items()})
    history = {name: values[:, list(rows)] for name, values in fitted.history.items()}
    return Fitted(model, fitted.best_epoch[list(rows)], history, fitted.diverged[list(rows)])


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
