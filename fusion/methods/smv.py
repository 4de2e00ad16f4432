"""Sample-level modality valuation (Wei et al. 2024, SMV)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from amr.common.options import check_finite, check_used
from amr.fusion.attribution.shapley import subset_logits
from amr.fusion.balance import cooperation_values, keep_modalities, num_copies, share_without
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.methods.measure import of_its_clips, over_clips
from amr.fusion.methods.stages import warm_up_epochs
from amr.fusion.model import FusionModel
from amr.fusion.tasks.base import mean_of_sums

GROWTHS = ("linear", "tanh", "power")


@dataclass(frozen=True)
class SMVOptions:
    """Settings of SMV.

    Args:
        level: Whether clips are valued one by one (sample) or modalities over all clips (modality).
        warm_up: Share of the epochs that are naive training, before anything is valued; 1 is naive training.
        strength: Factor of the share of the clips that are trained again; at the level of modalities.
        growth: Dependence of this share on the gap between modalities: linear, tanh, or power 1.5.
    """

    level: str = "sample"
    warm_up: float = 1 / 12
    strength: float = 1.0
    growth: str = "linear"

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.level not in ("sample", "modality"):
            raise ValueError(
                f"--method-option level must be sample or modality, got {self.level!r}. Pass level=sample."
            )
        if not 0 <= self.warm_up <= 1:
            raise ValueError(f"--method-option warm_up must be from 0 to 1, got {self.warm_up}. Pass warm_up=0.1.")
        check_finite(self, "strength")
        if self.growth not in GROWTHS:
            raise ValueError(
                f"--method-option growth must be one of {', '.join(GROWTHS)}, got {self.growth!r}. Pass growth=linear."
            )
        check_used(self, ["strength", "growth"], "level=modality", on=self.level == "modality")


@methods.register("smv")
class SampleValuation(Method):
    """Clips to which a modality contributes too little are trained again with this modality only (Wei et al. 2024).

        v_i(S) = |S| if the answer on clip i from the modalities S alone is right, else 0
        phi_i  = its Shapley values;    1 for each modality if all of them know the answer

    After a warm-up, all train clips are valued at the start of each epoch, in evaluation mode. Then clip i gets

        sample:    n(phi_i^m) copies with only modality m; n is 0 from phi = 1 on, 1 from .4, 2 from -.1, else 3
        modality:  one copy without the modality of most value, with probability P = strength g(2/3 gap);
                   gap: mean phi of this modality minus that of the others

        loss = sum of CE over the clips of the batch and their copies, over their number

    The source puts copies elsewhere in the epoch; here they are in the batch of their clip, so that an epoch has as
    many steps as any other. At the level of modalities, it takes phi from a random fifth of the clips, here from all.
    Its warm-up of 5 of 60 epochs is a share of the training here. A clip with only one modality is not copied.
    BalanceBenchmark uses the right or wrong answer in place of |S|, keeps the values of the first batch for all, and
    stops at an attribute that does not exist.

    On a cache, unlike in `amr train-encoders`, only adapters and head learn from the copies.
    """

    summary = "clips on which a modality contributes little are trained again with this modality only"
    citation = "Wei et al. 2024, Enhancing Multimodal Cooperation via Sample-level Modality Valuation"
    Options = SMVOptions
    needs_classes = True

    def __init__(self, options: SMVOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        size = len(context.model.modalities)
        each = torch.eye(size, dtype=torch.bool, device=context.train.target.device)
        self.kept = each if options.level == "sample" else ~each  # (copies, modalities)
        self.copies: Tensor | None = None  # number of copies of each kind, (copies, run, train clips)

    @classmethod
    def plans_ahead(cls, options: SMVOptions) -> bool:
        """Whether there is a warm-up, which is a share of the training."""
        return options.warm_up > 0

    @torch.no_grad()
    def begin_epoch(self, epoch: int) -> None:
        """Value the train clips, and decide on their copies."""
        context = self.context
        if epoch <= warm_up_epochs(self.options.warm_up, context.epochs):
            return
        of_batch = partial(values_of_batch, context.model)
        (phi,) = over_clips(context.model, context.train, of_batch)  # (modalities, run, clips)
        if self.options.level == "sample":
            copies = num_copies(phi)
        else:
            has = context.train.present.movedim(-1, 0).unsqueeze(1)  # (modalities, 1, clips)
            share = share_without((phi * has).sum(-1) / has.sum(-1), self.options.strength, self.options.growth)
            copies = (context.noise.uniform(len(context.train)) < share.unsqueeze(-1)).to(phi.dtype)
        self.copies = copies * can_copy(self.kept, context.train.present)

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Mean cross-entropy over the clips and their copies, `(run,)`."""
        if self.copies is None:
            return super().loss(model, batch, z)
        task, copies = self.context.task, of_its_clips(self.copies, batch)
        once = torch.ones_like(copies[0])
        sums = [task.loss_sums(model.head(z, batch.present), batch.target, once)]
        for number, kept in zip(copies, self.kept, strict=True):
            shown = batch.present & kept
            sums.append(task.loss_sums(model.head(keep_modalities(z, shown), shown), batch.target, number))
        return mean_of_sums(*(torch.stack(each).sum(0) for each in zip(*sums, strict=True)))

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean number of copies of a clip with only, or at the level of modalities without, each modality."""
        model = self.context.model
        none = torch.zeros(len(self.kept), len(next(model.parameters())), device=self.kept.device)
        word = "only" if self.options.level == "sample" else "without"
        numbers = none if self.copies is None else self.copies.mean(-1)
        return {f"copies_{word}_{m}": number for m, number in zip(model.modalities, numbers, strict=True)}


def values_of_batch(model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> tuple[Tensor]:
    """Value of each modality on each clip of a batch, `(modalities, run, batch)`."""
    return (cooperation_values(subset_logits(model.head, z, batch.present), batch.target, batch.present),)


def can_copy(kept: Tensor, present: Tensor) -> Tensor:
    """Whether a copy of a clip has some but not all of its modalities, bool `(copies, 1, clips)`.

    Args:
        kept: Modalities of each kind of copy, bool `(copies, modalities)`.
        present: Bool `(clips, modalities)`.
    """
    shown = kept[:, None, None] & present
    return shown.any(-1) & (shown.sum(-1) < present.sum(-1))
