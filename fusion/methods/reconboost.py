"""ReconBoost (Hua et al. 2024, Boosting Can Achieve Modality Reconcilement)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import cast

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import alignment_losses, reconcile_losses
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, mean_over, methods
from amr.fusion.model import FusionModel

LONGEST_STAGE = 4  # epochs, as in the source


@dataclass(frozen=True)
class ReconBoostOptions:
    """Settings of ReconBoost.

    Args:
        alpha: Weight of the distance to the modality that learned before.
        w1: Weight of agreement with the target.
        w2: Weight of what the other modalities know; from 0 to w1.
        stage_epochs: Number of epochs of a stage; 0 for as many as let each modality learn twice, from 1 to 4.
        rectify: Whether a stage of all modalities follows each stage of one.
    """

    alpha: float = 0.5
    w1: float = 5.0
    w2: float = 1.0
    stage_epochs: int = 0
    rectify: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "alpha")
        check_finite(self, "w1", above=0)
        if not 0 <= self.w2 <= self.w1:
            raise ValueError(f"--method-option w2 must be from 0 to w1={self.w1}, got {self.w2}. Pass w2=1.")
        if self.stage_epochs < 0:
            raise ValueError(
                f"--method-option stage_epochs must be 0 or more, got {self.stage_epochs}. Pass stage_epochs=4."
            )


@methods.register("reconboost")
class ReconBoost(Method):
    """Modalities learn in turn, each what the others do not know yet (Hua et al. 2024).

        f      = sum_m f_m,    f_m = W_m z^m + b_m                         the head `sum`
        stage of m: f_m learns alone, all others are frozen, on
            CE(f_m, y) (w1 - w2 softmax(F)_y) / C + alpha MSE( softmax f_m, softmax f_p )
            F = sum_{j != m} f_j,    p the modality that learned before m, if any
        then, with `rectify`, a stage of all on CE(f, y)

    Losses of m are means over the clips that have m; the alignment over those that have p, too. Frozen parameters are
    not touched, by momentum or weight decay either. Modalities learn in their order, and again from the first.

    w1 is 5 on CREMA-D and 4 on AVE and ModelNet40; a stage has 4 epochs. By default it is shorter in a short training.
    In the public code the alignment has no gradient, because both of its sides are detached; here f_m learns from it.
    The code multiplies f by a learned number, which W_m can take in; here there is none. Its f_m are MLPs, which are
    `--adapter mlp` here. The code starts from trained uni-modal models and chooses the epoch on test.

    By default the code's last MLP is one for all modalities, so that a stage of m also moves the classifiers of the
    others, and each stage has a new optimizer; here classifiers are apart, and momentum is kept.

    A training of fewer epochs than there are stages ends before the last modalities had theirs; with `rectify` they
    then learn in the stages of all, of which there is none in 1 epoch.

    AMR acts in every stage, on the classifiers that learn in it.
    """

    summary = "modalities learn in turn what the others do not know yet, then all together; the head is sum"
    citation = "Hua et al. 2024, ReconBoost"
    Options = ReconBoostOptions
    head = "sum"
    needs_classes = True
    optimizer = "sgd"
    lr = 1e-2
    weight_decay = 5e-4

    def __init__(self, options: ReconBoostOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.stage_epochs = stage_length(options, context.epochs, len(context.model.modalities))
        self.learner: int | None = None  # None: all
        self.previous: int | None = None

    @classmethod
    def plans_ahead(cls, options: ReconBoostOptions) -> bool:
        """Whether stages are as long as fit the training."""
        return options.stage_epochs == 0

    @classmethod
    def notes(cls, options: ReconBoostOptions, optimizer: str, epochs: int, modalities: Sequence[str]) -> list[str]:
        """Warn about epochs that end before each modality had a stage."""
        length = stage_length(options, epochs, len(modalities))
        stages = ceil(epochs / length)
        waiting = modalities[ceil(stages / 2) if options.rectify else stages :]
        if not waiting:
            return []
        does = "leaves no stage of its own to" if options.rectify and stages > 1 else "never trains"
        return [f"--epochs {epochs} in stages of {length} {does} {', '.join(waiting)}; pass more --epochs"]

    def begin_epoch(self, epoch: int) -> None:
        """Set which modality learns."""
        stage, num_modalities = (epoch - 1) // self.stage_epochs, len(self.context.model.modalities)
        number = stage // 2 if self.options.rectify else stage  # of the stage of one modality
        rectifies = self.options.rectify and stage % 2 == 1
        self.learner = None if rectifies else number % num_modalities
        self.previous = (number - 1) % num_modalities if number > 0 and num_modalities > 1 else None

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Loss of the modality whose stage it is, or of all, `(run,)`."""
        m = self.learner
        if m is None:
            return super().loss(model, batch, z)
        o = self.options
        out = torch.stack([*cast("dict[str, Tensor]", model.head.modality_logits(z)).values()])
        others = out.sum(0) - out[m]
        loss = mean_over(reconcile_losses(out[m], others, batch.target, o.w1, o.w2), batch.present[..., m])
        if self.previous is None or o.alpha == 0:
            return loss
        both = batch.present[..., m] & batch.present[..., self.previous]
        return loss + o.alpha * mean_over(alignment_losses(out[m], out[self.previous]), both)

    def adjust(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Leave out the parameters that are frozen."""
        if self.learner is None:
            return gradients
        names, m = self.context.model.modalities, self.learner
        learns = (f"adapters.{names[m]}.", f"head.classifiers.{m}.", f"head.hidden_layers.{m}.")
        return {name: g for name, g in gradients.items() if name.startswith(learns)}

    def epoch_values(self) -> dict[str, Tensor]:
        """1 for the modalities that learned in this epoch, 0 for the others."""
        first = next(self.context.model.parameters())
        names = enumerate(self.context.model.modalities)
        return {f"learns_{m}": first.new_full((len(first),), float(self.learner in (None, i))) for i, m in names}


def stage_length(options: ReconBoostOptions, epochs: int, num_modalities: int) -> int:
    """Number of epochs of a stage.

    >>> stage_length(ReconBoostOptions(), 60, 2), stage_length(ReconBoostOptions(stage_epochs=5), 60, 2)
    (4, 5)
    """
    fitting = epochs // (2 * num_modalities * (2 if options.rectify else 1))
    return options.stage_epochs or max(1, min(LONGEST_STAGE, fitting))
