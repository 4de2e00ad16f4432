"""A loss of each modality beside the joint one: the control that many balancing methods contain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import modality_losses
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.methods.own_classifiers import OwnClassifiers, unimodal_outputs
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class MultiLossOptions:
    """Settings of multi-loss.

    Args:
        weight: Weight of the losses of the modalities; 0 is naive training.
        own: Whether each modality has a linear classifier of its own on z; by default, the loss is of its part of the
            head's logits.
    """

    weight: float = 1.0
    own: bool = False

    def __post_init__(self) -> None:
        """Check the weight."""
        check_finite(self, "weight")


@methods.register("multi-loss")
class MultiLoss(Method):
    """Joint training with a loss of each modality.

        loss = L + weight sum_m L_m

    L_m is the mean loss of out_m over the clips that have m. out_m are the uni-modal logits of the head
    (`unimodal_logits`), so that any head works and no parameters are added, also without adapters. With `own`, they are
    W_m z^m + b_m of a classifier that is discarded after training, as in the papers; only adapters or encoders then
    feel L_m.

    MMPareto, DGL, ARL, InfoReg and G2D contain this loss. What they gain over it is what they are about.
    """

    summary = "joint loss plus a loss of each modality; the control of many methods"
    citation = "the part that MMPareto (Wei and Hu 2024), DGL (Wei et al. 2025) and others share"
    Options = MultiLossOptions
    for_any_task = ("own=true",)

    def __init__(self, options: MultiLossOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        acts = options.weight > 0
        self.own = OwnClassifiers(context) if options.own and acts else None
        self.joint = not acts
        self.graph_safe = True

    @classmethod
    def trains_parts(cls, options: MultiLossOptions) -> bool:
        """Whether there are losses of the modalities, and not of classifiers of their own."""
        return options.weight > 0 and not options.own

    def parameters(self) -> list[Tensor]:
        """Weights of the modalities' own classifiers."""
        return [] if self.own is None else list(self.own.parameters())

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss plus the weighted losses of the modalities, `(run,)`."""
        joint = super().loss(model, batch, z)
        if self.joint:
            return joint
        out = unimodal_outputs(self.own, model, batch, z)
        each = modality_losses(out, batch.target, batch.present, self.context.task)
        return joint + self.options.weight * each.sum(0)
