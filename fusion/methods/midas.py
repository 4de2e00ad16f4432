"""Misaligned clips as training data (Hwang et al. 2025, MIDAS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.attribution.permutation import of_partners, partners_with
from amr.fusion.balance import misalign, misaligned_losses, modality_losses, similarity, weak_modality_step
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.methods.own_classifiers import OwnClassifiers, unimodal_outputs
from amr.fusion.methods.stages import warm_up_epochs
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import mean_over_steps


@dataclass(frozen=True)
class MIDASOptions:
    """Settings of MIDAS.

    Args:
        weight: Weight of the loss of misaligned clips, lambda in the paper.
        unimodal: Weight of the losses of the modalities; 0 also leaves out the warm-up.
        warm_up: Share of the epochs on the losses of the modalities alone.
        step: Step size of the weight of the least confident modality, eta in the paper; 0 leaves it at 1.
        hard: Whether misaligned clips are weighted by how alike the two clips are in the swapped modality.
        own: Whether each modality has a linear classifier of its own on z, as in the paper; by default, its part of the
            head's logits.
    """

    weight: float = 1.0
    unimodal: float = 1.0
    warm_up: float = 0.1
    step: float = 0.05
    hard: bool = True
    own: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "weight", "unimodal", "step")
        if not 0 <= self.warm_up < 1:
            raise ValueError(
                f"--method-option warm_up must be from 0 to below 1, got {self.warm_up}. Pass warm_up=0.1."
            )


@methods.register("midas")
class MIDAS(Method):
    """Clips of which one modality is from another class, with soft labels (Hwang et al. 2025, sections 3.2 to 3.6).

        x~     = clip i with modality m of clip j, y_i != y_j;  y^n: the class of the clip that modality n is from
        c_n    = p_n[y^n] / sum_k p_k[y^k],  p_n = softmax(out_n)                   the soft label: c_n on class y^n
        s      = max(0, cos(z^m_i, z^m_j))                                                       hard-sample weight
        L_mis  = -s sum_n alpha_n c_n log p~[y^n],  p~ = softmax f(x~)
        loss   = L + unimodal sum_n L_n + weight mean L_mis;     in the warm-up, unimodal sum_n L_n alone
        alpha  = 1 at the start of an epoch; of the modality with the least mean c in a batch, after it
                 alpha <- max(1, alpha + step mean(c - p~[y] / sum_k p~[y^k]))

    Clip j is drawn from the batch; each of the M modalities is swapped, and pairs of one class, or of clips that lack
    the modality, are left out. No gradient flows through c, s and alpha. out_n are the uni-modal logits of the head
    (`unimodal_logits`), or with `own` those of linear classifiers that are discarded after training, as in the paper.

    The paper's cosine is of features after a ReLU, which are not negative; on standardized embeddings it may be, and a
    negative weight would reward errors, so it is at least 0. The paper does not state the length of the warm-up. Its
    weight is 1, and 5 on Kinetics-Sounds. With `weight` and `unimodal` 0 it is naive training.

    On a cache it needs no adapters. Soft labels for misaligned clips are close to what a linear head gives anyway.
    """

    summary = "clips of which one modality is from another class, with soft labels"
    citation = "Hwang et al. 2025, MIDAS: Misalignment-based Data Augmentation Strategy"
    Options = MIDASOptions
    needs_classes = True

    def __init__(self, options: MIDASOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = options.weight == options.unimodal == 0
        self.graph_safe = self.joint
        self.own = OwnClassifiers(context) if options.own and not self.joint else None
        self.warms_up = False
        shape = len(context.model.modalities), len(next(context.model.parameters()))
        self.weak = torch.ones(shape, device=context.train.target.device)  # alpha, (modalities, run)

    @classmethod
    def plans_ahead(cls, options: MIDASOptions) -> bool:
        """Whether there is a warm-up, which is a share of the training."""
        return options.unimodal > 0 and options.warm_up > 0

    def parameters(self) -> list[Tensor]:
        """Weights of the modalities' own classifiers."""
        return [] if self.own is None else list(self.own.parameters())

    def begin_epoch(self, epoch: int) -> None:
        """Reset the weights of the modalities."""
        o = self.options
        self.warms_up = o.unimodal > 0 and epoch <= warm_up_epochs(o.warm_up, self.context.epochs)
        self.weak = torch.ones_like(self.weak)

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint, uni-modal and misaligned losses, `(run,)`; in the warm-up, the uni-modal ones alone."""
        o = self.options
        if self.joint:
            return super().loss(model, batch, z)
        out = unimodal_outputs(self.own, model, batch, z)
        alone = o.unimodal * modality_losses(out, batch.target, batch.present, self.context.task).sum(0)
        if self.warms_up:
            return alone
        loss = super().loss(model, batch, z) + alone
        return loss + o.weight * self._misaligned(model, batch, z, out) if o.weight > 0 else loss

    def _misaligned(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor], out: Tensor) -> Tensor:
        """Mean loss of the misaligned clips of a batch, `(run,)`; also updates the weights of the modalities."""
        order = self.context.noise.uniform(batch.present.shape[1]).argsort(-1)
        mixed = misalign(out, batch.target, order, batch.present)
        logits = []
        for i, (m, value) in enumerate(z.items()):
            own = partners_with(batch.present[..., i], order)
            logits.append(model.head({**z, m: of_partners(value, own)}, batch.present))
        joint = torch.stack(logits)  # (swapped, run, batch, classes)
        losses = misaligned_losses(joint, mixed, self.weak)
        if self.options.hard:
            losses = losses * similarity({m: mean_over_steps(value) for m, value in z.items()}, order)
        change = weak_modality_step(joint, mixed)
        self.weak = torch.where(change != 0, (self.weak + self.options.step * change).clamp_min(1), self.weak)
        return losses.masked_fill(~mixed.valid, 0).sum((0, -1)) / mixed.valid.sum((0, -1)).clamp_min(1)

    def epoch_values(self) -> dict[str, Tensor]:
        """Weight of each modality at the end of the epoch."""
        return {f"weight_{m}": weight for m, weight in zip(self.context.model.modalities, self.weak, strict=True)}
