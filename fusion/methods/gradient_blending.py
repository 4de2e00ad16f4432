"""Gradient blending (Wang et al. 2020, What Makes Training Multi-Modal Classification Networks Hard?)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from amr.fusion.balance import gradient_blending_weights
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.methods.measure import over_clips
from amr.fusion.methods.own_classifiers import OwnClassifiers, unimodal_outputs
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.seeds import generator
from amr.fusion.tasks import Task
from amr.fusion.tasks.base import mean_of_sums

ONLINE_SUPER_EPOCH = 10  # epochs, if none are requested


@dataclass(frozen=True)
class BlendingOptions:
    """Settings of gradient blending.

    Args:
        mode: Schedule of the measurements: offline, once at the start; online, before each super-epoch.
        super_epoch: Number of epochs over which generalization and overfitting are measured; 0 for all epochs offline,
            and 10 online.
        held_out: Fraction of the train clips on which they are measured.
        own: Whether each modality has a linear classifier of its own on z; by default, its loss is of its part of the
            head's logits.
    """

    mode: str = "offline"
    super_epoch: int = 0
    held_out: float = 0.2
    own: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.mode not in ("offline", "online"):
            raise ValueError(f"--method-option mode must be offline or online, got {self.mode!r}. Pass mode=online.")
        if self.super_epoch < 0:
            raise ValueError(
                f"--method-option super_epoch must be 0 or more, got {self.super_epoch}. "
                "Pass super_epoch=0 for all epochs offline, and 10 online."
            )
        if not 0 < self.held_out < 1:
            raise ValueError(
                f"--method-option held_out must be above 0 and below 1, got {self.held_out}. Pass held_out=0.2."
            )


@methods.register("gradient-blending")
class GradientBlending(Method):
    """Losses are weighted by generalization over overfitting (Wang et al. 2020, section 3).

        loss = sum_k w_k L_k                              k: each modality, by its uni-modal logits, and the joint head
        O_k = L_k^val - L_k^train,    dO_k its increase, dG_k the decrease of L_k^val, over a super-epoch on L_k only
        w_k = dG_k / dO_k^2, normalized to sum 1 (proposition 1)

    dG is clamped at 0 and dO^2 floored at 1e-8; if no dG is above 0, the weights are even. L_k is the mean over the
    clips that have k. For each k, a copy of the model is trained on L_k only for a super-epoch: without AMR, with a new
    optimizer, and with the learning rates of these epochs. "val" is held out of train (the same clips for all seeds).
    It is not the val split, which selects the epoch. Offline measures once, over as many epochs as the training has,
    and then trains on all of train. Online measures before each super-epoch of 10 epochs, also in a training of fewer,
    and never trains on the held-out clips, so that the next measurement is on unseen clips.

    The window decides the weights: on CREMA-D embeddings, the joint head had .13 after 10 epochs, .24 after 20 and .70
    after 60; after 2, weights differ between seeds more than between losses. Offline costs M + 1 trainings more.

    On a cache, unlike in `amr train-encoders`, encoders neither learn nor overfit, so only adapters and head are
    measured. The source has a separate classifier for each modality, which is `own`; it is discarded after training,
    and L_m then reaches adapters alone. By default, the uni-modal logits come from the joint head (`unimodal_logits`),
    so that every head works and no parameters are added. Without adapters, the source's method could not change the
    joint head. Ours does, as L_m trains the head on clips without the other modalities, close to modality dropout.
    """

    summary = "uni-modal and joint losses, weighted by generalization over overfitting"
    citation = "Wang et al. 2020, proposition 1, offline and online G-Blend"
    Options = BlendingOptions
    for_any_task = ("own=true",)

    def __init__(self, options: BlendingOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.fit_clips, self.held_out_clips = hold_out(context.train, options.held_out)
        self.names = (*context.model.modalities, "joint")
        self.own = OwnClassifiers(context) if options.own else None
        self.loss_weights = torch.empty(0)  # (losses, run)

    @classmethod
    def trains_parts(cls, options: BlendingOptions) -> bool:
        """Whether no classifiers of their own do."""
        return not options.own

    @classmethod
    def plans_ahead(cls, options: BlendingOptions) -> bool:
        """Whether a measurement is as long as the training."""
        return options.mode == "offline" and options.super_epoch == 0

    @classmethod
    def notes(cls, options: BlendingOptions, optimizer: str, epochs: int, modalities: Sequence[str]) -> list[str]:
        """Warn about too few epochs to measure twice online."""
        length = options.super_epoch or ONLINE_SUPER_EPOCH
        if options.mode == "offline" or epochs > length:
            return []
        return [f"--epochs {epochs} is one super-epoch of {length}: weights are measured once, as with mode=offline"]

    @property
    def super_epoch(self) -> int:
        """Number of epochs of a measurement."""
        whole = self.context.epochs if self.options.mode == "offline" else ONLINE_SUPER_EPOCH
        return self.options.super_epoch or whole

    def parameters(self) -> list[Tensor]:
        """Weights of the modalities' own classifiers."""
        return [] if self.own is None else list(self.own.parameters())

    def train_clips(self) -> Clips:
        """All train clips; with online measurements, without those held out."""
        return self.fit_clips if self.options.mode == "online" else self.context.train

    def begin_epoch(self, epoch: int) -> None:
        """Measure the weights, if a measurement is due."""
        if epoch == 1 or (self.options.mode == "online" and (epoch - 1) % self.super_epoch == 0):
            self.loss_weights = self.measure(epoch)

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the losses, `(run,)`."""
        return (self.loss_weights * losses(self.context.task, self.own, model, batch, z)).sum(0)

    def epoch_values(self) -> dict[str, Tensor]:
        """Weight of each loss in this epoch."""
        return {f"weight_{name}": weight for name, weight in zip(self.names, self.loss_weights, strict=True)}

    def state(self) -> dict[str, Tensor]:
        """The measured weights."""
        return {"loss_weights": self.loss_weights}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the measured weights."""
        self.loss_weights = state["loss_weights"].to(self.context.train.target.device)

    def measure(self, epoch: int) -> Tensor:
        """Weights from the present state of the model, `(losses, run)`, by training from this epoch on."""
        train, val = self._measured(self.context.model, self.own)
        after = []
        for k in range(len(self.names)):
            own, task = deepcopy(self.own), self.context.task
            trained = self.context.rehearse(
                partial(one_loss, k, task, own),
                range(epoch, epoch + self.super_epoch),
                self.fit_clips,
                [] if own is None else list(own.parameters()),
            )
            after.append([values[k] for values in self._measured(trained, own)])
        train_after, val_after = (torch.stack(values) for values in zip(*after, strict=True))
        return gradient_blending_weights(val - val_after, (val_after - train_after) - (val - train))

    def _measured(self, model: FusionModel, own: OwnClassifiers | None) -> tuple[Tensor, Tensor]:
        """Mean losses on the fitting clips and on the held-out clips, each `(losses, run)`."""
        clips = self.fit_clips, self.held_out_clips
        of_fit, of_held_out = (mean_losses(self.context.task, own, model, each) for each in clips)
        return of_fit, of_held_out


def hold_out(train: Clips, fraction: float) -> tuple[Clips, Clips]:
    """Split the train clips at random into those to fit and those to hold out, at least one of each.

    Raises:
        ValueError: There are fewer than two clips.
    """
    if len(train) < 2:
        raise ValueError(
            f"--method gradient-blending must have at least two train clips, one to hold out, got {len(train)}. "
            "Choose another method."
        )
    order = torch.randperm(len(train), generator=generator(0, "held out")).to(train.target.device)
    num_held_out = min(max(1, round(fraction * len(train))), len(train) - 1)
    return train.take(order[num_held_out:]), train.take(order[:num_held_out])


def loss_sums(
    task: Task, own: OwnClassifiers | None, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Sums over the clips that have k, of L_k and of the weights of the clips, both `(losses, run)`."""
    out = unimodal_outputs(own, model, batch, z)
    logits = torch.cat([out, model.head(z, batch.present).unsqueeze(0)])  # (losses, run, batch, classes)
    present = batch.present.movedim(-1, 0)
    counts = torch.cat([present, torch.ones_like(present[:1])])
    return task.loss_sums(logits, batch.target, counts)


def losses(task: Task, own: OwnClassifiers | None, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
    """L_k on a batch, `(losses, run)`."""
    return mean_of_sums(*loss_sums(task, own, model, batch, z))


def one_loss(
    k: int, task: Task, own: OwnClassifiers | None, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]
) -> Tensor:
    """L_k of one k on a batch, `(run,)`."""
    return losses(task, own, model, batch, z)[k]


def mean_losses(task: Task, own: OwnClassifiers | None, model: FusionModel, clips: Clips) -> Tensor:
    """L_k over all clips, `(losses, run)`, in evaluation mode."""

    def of_batch(batch: Batch, z: Mapping[str, Tensor]) -> list[Tensor]:
        return [each.unsqueeze(-1) for each in loss_sums(task, own, model, batch, z)]

    return mean_of_sums(*(each.sum(-1) for each in over_clips(model, clips, of_batch)))
