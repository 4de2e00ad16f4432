"""Data remixing (Ma et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import keep_modalities, least_sure_modality, modality_losses, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.methods.measure import of_its_clips, over_clips
from amr.fusion.methods.stages import warm_up_epochs
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import of_runs


@dataclass(frozen=True)
class RemixOptions:
    """Settings of data remixing.

    Args:
        warm_up: Share of the epochs with all modalities, before the clips are divided among them; 1 never divides.
        unimodal: Weight of the losses of the modalities in the warm-up.
    """

    warm_up: float = 1 / 6
    unimodal: float = 0.5

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 <= self.warm_up <= 1:
            raise ValueError(f"--method-option warm_up must be from 0 to 1, got {self.warm_up}. Pass warm_up=0.2.")
        check_finite(self, "unimodal")


@methods.register("remix")
class Remix(Method):
    """Each clip shows the modality that is least sure of it, in batches of one modality (Ma et al. 2025).

        warm-up:  loss = L + unimodal sum_m L_m
        then:     m_i  = arg min over m of KL(p_m,i || uniform),  p_m = softmax(out_m), at the start of each epoch
                  loss = CE( f({m_i}), y )                        all modalities but m_i zero and absent

    So the modalities share the clips out among them, the hard ones to each, and a batch has no gradients of different
    modalities to settle. Train clips are measured in evaluation mode. out_m are the uni-modal logits of the head
    (`unimodal_logits`), and L_m their losses; only modalities that a clip has are compared.

    The warm-up is 10 of 60 epochs in the source; here, that share of the training. The authors' code trains on all
    batches of video and then on all of audio, so that an epoch ends on one modality; here the batches are shuffled, and
    where one modality's clips end within a batch, the next one's fill it up. It also adds the loss of the modality's
    own classifier, which is CE of nearly the same logits, and it chooses the epoch on test. Its KL holds for six
    classes; the choice is the same for any number. With a warm-up of 1 and a weight of 0, it is naive training.

    On a cache it needs no adapters, since the head learns from each modality alone.
    """

    summary = "each clip shows only the modality that is least sure of it, in batches of one modality"
    citation = "Ma et al. 2025, Improving Multimodal Learning Balance and Sufficiency through Data Remixing"
    Options = RemixOptions
    needs_classes = True

    def __init__(self, options: RemixOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = options.warm_up == 1 and options.unimodal == 0
        self.graph_safe = options.warm_up == 1
        self.shown: Tensor | None = None  # number of the modality that each clip shows, (run, train clips)

    @classmethod
    def plans_ahead(cls, options: RemixOptions) -> bool:
        """Whether there is a warm-up, which is a share of the training."""
        return options.warm_up > 0

    def begin_epoch(self, epoch: int) -> None:
        """Divide the train clips among the modalities, after the warm-up."""
        context = self.context
        if epoch > warm_up_epochs(self.options.warm_up, context.epochs):
            (self.shown,) = over_clips(context.model, context.train, partial(least_sure_of_batch, context.model))

    def arrange(self, order: Tensor, batch_size: int) -> Tensor:
        """Order of the clips by the modality that they show, its full batches shuffled, `(run, clips)`."""
        if self.shown is None:
            return order
        order = of_runs(order, len(self.shown))
        by_modality = self.shown.to(order.device).gather(1, order).argsort(stable=True, dim=-1)
        order = order.gather(1, by_modality)
        num_full = order.shape[1] // batch_size
        full, rest = order.split([num_full * batch_size, order.shape[1] - num_full * batch_size], dim=1)
        batches = full.unflatten(1, (num_full, batch_size))
        drawn = self.context.noise.uniform(num_full).argsort(-1).to(order.device)
        return torch.cat([batches.gather(1, drawn.unsqueeze(-1).expand_as(batches)).flatten(1), rest], dim=1)

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Loss on the modality that each clip shows; in the warm-up, joint and uni-modal losses, `(run,)`."""
        if self.shown is not None:
            kept = batch.present & modality_mask(of_its_clips(self.shown, batch), batch.present.shape[-1])
            return self.joint_loss(model.head(keep_modalities(z, kept), kept), batch)
        joint = super().loss(model, batch, z)
        if self.options.unimodal == 0:
            return joint
        out = unimodal_logits(model.head, z, batch.present)
        each = modality_losses(out, batch.target, batch.present, self.context.task)
        return joint + self.options.unimodal * each.sum(0)

    def epoch_values(self) -> dict[str, Tensor]:
        """Share of the train clips that show each modality; 1 in the warm-up, in which they show all."""
        model = self.context.model
        if self.shown is None:
            shares = torch.ones(len(model.modalities), len(next(model.parameters())))
            shares = shares.to(self.context.train.target.device)
        else:
            shares = modality_mask(self.shown, len(model.modalities)).float().mean(1).movedim(-1, 0)
        return {f"shown_{m}": share for m, share in zip(model.modalities, shares, strict=True)}


def least_sure_of_batch(model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> tuple[Tensor]:
    """Number of the least sure modality of each clip of a batch, `(run, batch)`."""
    return (least_sure_modality(unimodal_logits(model.head, z, batch.present), batch.present),)


def modality_mask(shown: Tensor, num_modalities: int) -> Tensor:
    """Modality numbers `(run, clips)` as a mask, bool `(run, clips, modalities)`."""
    return shown.unsqueeze(-1) == torch.arange(num_modalities, device=shown.device)
