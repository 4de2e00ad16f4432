"""Gradient blending (Wang et al. 2020, What Makes Training Multi-Modal Classification Networks Hard?)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from amr.fusion.attribution.shapley import unimodal_logits
from amr.fusion.data.clips import Batch, Clips
from amr.fusion.methods.base import Method, Setting, mean_over, methods
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.seeds import generator

SMALLEST = 1e-8  # of squared overfitting, so that a loss that did not overfit at all does not get everything


@dataclass(frozen=True)
class BlendingOptions:
    """Settings of gradient blending.

    Args:
        mode: offline, the weights are measured once, at the start; or online, before each super-epoch.
        super_epoch: epochs over which generalization and overfitting are measured.
        held_out: share of the train clips that they are measured on.
    """

    mode: str = "offline"
    super_epoch: int = 10
    held_out: float = 0.2

    def __post_init__(self) -> None:
        """A mode, a length and a share."""
        if self.mode not in ("offline", "online"):
            raise ValueError(f"--method-option mode must be offline or online, got {self.mode!r}. Pass mode=online.")
        if self.super_epoch < 1:
            raise ValueError(
                f"--method-option super_epoch must be 1 or more, got {self.super_epoch}. Pass super_epoch=10."
            )
        if not 0 < self.held_out < 1:
            raise ValueError(
                f"--method-option held_out must be above 0 and below 1, got {self.held_out}. Pass held_out=0.2."
            )


@methods.register("gradient-blending")
class GradientBlending(Method):
    """Losses are weighed by how much each generalizes for how much it overfits (Wang et al. 2020, section 3).

        loss = sum_k w_k L_k                              k: each modality alone, on out_k, and the joint head
        O_k = L_k^val - L_k^train,    dO_k its growth, dG_k the fall of L_k^val, over a super-epoch of L_k alone
        w_k = dG_k / dO_k^2, then to sum 1 (proposition 1)

    dG is clamped at 0 and dO^2 floored at 1e-8; where no dG is above 0, weights are even. L_k is the mean over the
    clips that have k. For each k a copy of the model is trained on L_k alone for a super-epoch, and "val" is a part
    held out of train (the same for all seeds), never the val part, which chooses the epoch, nor test. Offline
    measures once and then trains on all of train; online measures before each super-epoch and never trains on the
    part, or the next measurement would not be of unseen clips.

    Against end-to-end training, encoders neither learn nor overfit; what is left to measure is that of adapters and
    head. out_k is k's part of the joint logits (`unimodal_logits`) where the source has a classifier of its own for
    each modality, so that every head will do and no weights are added.
    """

    summary = "uni-modal and joint losses, weighed by generalization over overfitting"
    citation = "Wang et al. 2020, proposition 1, offline and online G-Blend"
    Options = BlendingOptions

    def __init__(self, options: BlendingOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.kept, self.held_out = hold_out(setting.train, options.held_out)
        self.names = (*setting.model.modalities, "joint")
        self.weights = torch.empty(0)  # (losses, run)

    def train_clips(self) -> Clips:
        """Online measurements need clips that were not trained on."""
        return self.kept if self.options.mode == "online" else self.setting.train

    def begin_epoch(self, epoch: int) -> None:
        """Measure the weights when it is time to."""
        if epoch == 1 or (self.options.mode == "online" and (epoch - 1) % self.options.super_epoch == 0):
            self.weights = self.measure()

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """The weighed sum of the losses."""
        return (self.weights * losses(model, batch, z)).sum(0)

    def epoch_values(self) -> dict[str, Tensor]:
        """The weights of the epoch."""
        return {f"weight_{name}": weight for name, weight in zip(self.names, self.weights, strict=True)}

    def measure(self) -> Tensor:
        """`(losses, run)`: the weights from where the model is now."""
        train, val = self._measured(self.setting.model)
        after = []
        for k in range(len(self.names)):
            trained = self.setting.rehearse(partial(one_loss, k), self.options.super_epoch, self.kept)
            after.append([part[k] for part in self._measured(trained)])
        train_after, val_after = (torch.stack(part) for part in zip(*after, strict=True))
        return blend(val - val_after, (val_after - train_after) - (val - train))

    def _measured(self, model: FusionModel) -> tuple[Tensor, Tensor]:
        """`(losses, run)` on what is trained on and on what is held out."""
        return mean_losses(model, self.kept), mean_losses(model, self.held_out)


def blend(generalization: Tensor, overfitting: Tensor) -> Tensor:
    """w_k = dG_k / dO_k^2, to sum 1: both `(losses, run)`."""
    weights = generalization.clamp_min(0) / overfitting.square().clamp_min(SMALLEST)
    total = weights.sum(0)
    return torch.where(total > 0, weights / total.where(total > 0, 1), 1 / len(weights))


def hold_out(train: Clips, share: float) -> tuple[Clips, Clips]:
    """The train clips in two, at random, at least one in each.

    Raises:
        ValueError: there are not two.
    """
    if len(train) < 2:
        raise ValueError(
            f"--method gradient-blending must have at least two train clips, one to hold out, got {len(train)}. "
            "Choose another method."
        )
    order = torch.randperm(len(train), generator=generator(0, "held out")).to(train.target.device)
    num_held_out = min(max(1, round(share * len(train))), len(train) - 1)
    return train.take(order[num_held_out:]), train.take(order[:num_held_out])


def clip_losses(model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The cross-entropy of every clip by every modality alone and jointly, and which count.

    Returns:
        `(losses, run, batch)` and bool `(losses, run, batch)`.
    """
    out = unimodal_logits(model.head, z, batch.present)
    logits = torch.cat([out, model.head(z, batch.present).unsqueeze(0)])  # (losses, run, batch, classes)
    target = batch.target.expand(len(logits), -1, -1).unsqueeze(-1)
    values = -logits.log_softmax(-1).gather(-1, target).squeeze(-1)
    there = batch.present.movedim(-1, 0)
    return values, torch.cat([there, torch.ones_like(there[:1])])


def losses(model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
    """L_k, `(losses, run)`."""
    return mean_over(*clip_losses(model, batch, z))


def one_loss(k: int, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
    """L_k alone, `(run,)`."""
    return losses(model, batch, z)[k]


@torch.no_grad()
def mean_losses(model: FusionModel, clips: Clips) -> Tensor:
    """L_k over all clips, `(losses, run)`."""
    num_runs = len(next(model.parameters()))
    steps = clips.chunks(num_runs)
    batches = [clips.slice(start, start + steps.step, num_runs) for start in steps]
    parts = [clip_losses(model, batch, model.encode(batch)) for batch in batches]
    values, there = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
    return mean_over(values, there)
