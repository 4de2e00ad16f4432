"""Adaptive gradient modulation (Li et al. 2023, AGM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import agm_coefficients, agm_logits, agm_losses, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class AGMOptions:
    """Settings of AGM.

    Args:
        alpha: Strength of the modulation; 0 is naive training.
        cap: Largest tau_m - r_m, so that no factor is above exp(alpha cap). The source has 10 on CREMA-D, and none on
            AV-MNIST and MOSEI.
    """

    alpha: float = 1.0
    cap: float = 10.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "alpha")
        check_finite(self, "cap", above=0)


@methods.register("agm")
class AGM(Method):
    """The gradient into each modality's part of the logits is scaled by how far it is ahead (Li et al. 2023).

        s_m     = mean cross-entropy of out_m over the clips of the batch that have m;  lower is stronger
        r_m     = exp(mean of the other modalities' s - s_m)
        tau_m   = the same of the means of s over all batches before; 1 at the first batch
        kappa_m = exp(alpha min(tau_m - r_m, cap))
        loss    = CE(sum_m kappa_m out_m + (1 - kappa_m) sg(out_m), y),    sg: as a constant

    The loss has the value of naive training; its gradient through out_m is kappa_m times as large. out_m are the
    uni-modal logits (`unimodal_logits`), which for two modalities are the source's (f(a, v) - f(0, v) + f(a, 0)) / 2.
    So any head works, and not only adapters but also the head learns at these speeds, as in the source. A modality
    that no clip of the batch has is not compared with others. The gradient of the regularizer is not scaled.

    Alpha is 1, the default of the authors' code; their issues name 1.5 for CREMA-D, 2.5 for AV-MNIST and 4 for
    UR-Funny, over 800 to 1,500 epochs. Their code limits the gradient's norm to 1 if an element of the head's gradient
    is larger than 1; here the norms of adapters and of the rest are
    always limited, each to 1. The learning rate is that of `ogm`, for the same reason. Adam
    cancels a constant scale of the gradient, so the default is SGD. BalanceBenchmark has r the wrong way round, so that
    the stronger modality is sped up, and leaves f(none) out of out_m.

    The factors act on the head, and on adapters (on a cache) or encoders (`amr train-encoders`).
    """

    summary = "the gradient through each modality's part of the logits is scaled, the leading one's down"
    citation = "Li et al. 2023, Boosting Multi-modal Model Performance with Adaptive Gradient Modulation"
    Options = AGMOptions
    optimizer = "sgd"
    lr = 1e-2
    weight_decay = 1e-4
    lr_step = (70, 0.9)
    clip_norm: float | None = 1.0

    def __init__(self, options: AGMOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = self.graph_safe = options.alpha == 0
        if self.joint:
            self.clip_norm = None  # as in naive training
        model = context.model
        shape = len(model.modalities), len(next(model.parameters()))
        self.total = torch.zeros(shape, device=context.train.target.device)  # of s over the batches, (modalities, run)
        self.num_batches = torch.zeros_like(self.total)  # in which the modality occurred
        self.seen: list[Tensor] = []  # the coefficients of each batch of the epoch

    @classmethod
    def notes(cls, options: AGMOptions, optimizer: str, epochs: int, modalities: Sequence[str]) -> list[str]:
        """Warn about Adam, which undoes the method."""
        if optimizer == "sgd":
            return []
        return [f"{optimizer} cancels a constant scale of the gradient, which is what this method sets; use sgd"]

    def state(self) -> dict[str, Tensor]:
        """Sums and counts of the running means."""
        return {"total": self.total, "num_batches": self.num_batches}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the running means."""
        self.total, self.num_batches = (state[k].to(self.total.device) for k in ("total", "num_batches"))

    def begin_epoch(self, epoch: int) -> None:
        """Forget the coefficients of the last epoch; the running means stay."""
        self.seen = []

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss, `(run,)`, whose gradient through each modality's logits is scaled."""
        if self.joint:
            return super().loss(model, batch, z)
        out = unimodal_logits(model.head, z, batch.present)  # (modalities, run, batch, classes)
        losses = agm_losses(out, batch.target, batch.present, self.context.task)
        coefficients = agm_coefficients(losses, self.total / self.num_batches, self.options.alpha, self.options.cap)
        self.seen.append(coefficients)
        self.total = self.total + losses.nan_to_num()
        self.num_batches = self.num_batches + ~losses.isnan()
        return self.joint_loss(agm_logits(out, coefficients), batch)

    def epoch_values(self) -> dict[str, Tensor]:
        """Mean coefficient of each modality over the epoch; 1 if the method does not act."""
        means = torch.stack(self.seen).mean(0) if self.seen else torch.ones_like(self.total)
        return {f"coefficient_{m}": mean for m, mean in zip(self.context.model.modalities, means, strict=True)}
