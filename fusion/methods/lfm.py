"""Learning the modality gap (Yang et al. 2024, LFM)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import disagreement, unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.model import FusionModel

FITTED = (0.2046, 3.355e-3, 1.230e-4, -2.929e-6, 2.238e-8, -5.397e-11)  # of t^0, t^1, ...
FITTED_EPOCHS = 200


@dataclass(frozen=True)
class LFMOptions:
    """Settings of LFM.

    Args:
        align: Weight of the divergence between the modalities; 0 is naive training.
        schedule: Part of the two terms in the loss: even; or fitted, in which the divergence comes first.
    """

    align: float = 1.0
    schedule: str = "even"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_finite(self, "align")
        if self.schedule not in ("even", "fitted"):
            raise ValueError(
                f"--method-option schedule must be even or fitted, got {self.schedule!r}. Pass schedule=fitted."
            )


@methods.register("lfm")
class LFM(Method):
    """The modalities are to predict the same (Yang et al. 2024, dynamically learning the modality gap).

        loss = 2 [ a L + (1 - a) align sum over m < n of JS(p_m, p_n) ],    p_m = softmax(out_m)

    JS is the mean Jensen-Shannon divergence over the clips that have both modalities, in nats; for tasks without
    classes, the divergence of the task. out_m are the uni-modal logits of the head (`unimodal_logits`), so that any
    head works; the source has late fusion, the mean of a linear layer per modality. a is 1/2 throughout, or with
    `schedule=fitted` the polynomial that the source fits to its learned values, in the epoch as a share of the
    training, times 200:

        a(t) = .2046 + 3.355e-3 t + 1.230e-4 t^2 - 2.929e-6 t^3 + 2.238e-8 t^4 - 5.397e-11 t^5

    The authors' code has (KL(m || p) + KL(m || q)) / 2 in place of JS, with the arguments of both KLs exchanged; here
    it is JS, as in the paper. The source also learns a by the loss of a held-out batch of 16 clips; that is left out,
    because its code uses the mean over the first parameter only. Its optimizer is SGD with learning rate 1e-2, which
    `--optimizer` and `--lr` set.

    On a cache it needs no adapters, since out_m depend on the head.
    """

    summary = "the modalities' predictions are pulled to each other, beside the joint loss"
    citation = "Yang et al. 2024, Facilitating Multimodal Classification via Dynamically Learning Modality Gap"
    Options = LFMOptions

    def __init__(self, options: LFMOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = options.align == 0
        self.graph_safe = self.joint or options.schedule == "even"
        self.part = 0.5

    @classmethod
    def plans_ahead(cls, options: LFMOptions) -> bool:
        """Whether a follows the training."""
        return options.schedule == "fitted"

    def begin_epoch(self, epoch: int) -> None:
        """Set the part of the joint loss in this epoch."""
        if self.options.schedule == "fitted":
            self.part = fitted_part((epoch - 1) / self.context.epochs)

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss and divergence between the modalities, `(run,)`."""
        joint = super().loss(model, batch, z)
        if self.joint:
            return joint
        out = unimodal_logits(model.head, z, batch.present)
        apart = disagreement(out, batch.present, self.context.task)
        return 2 * (self.part * joint + (1 - self.part) * self.options.align * apart)


def fitted_part(progress: float) -> float:
    """Part of the joint loss, a(t), after a share of the training, from 0 to 1.

    >>> [round(fitted_part(progress), 3) for progress in (0.0, 0.5, 1.0)]
    [0.205, 0.539, 0.901]
    """
    t = progress * FITTED_EPOCHS
    return sum(coefficient * t**power for power, coefficient in enumerate(FITTED))
