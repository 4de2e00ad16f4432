"""Joint training with one loss (paper, table 1: naive fusion)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from amr.fusion.methods.base import Method, cross_entropy, methods
from amr.fusion.model import Batch, FusionModel


@methods.register("naive")
class Naive(Method):
    """loss = cross-entropy of the joint logits.

    Against end-to-end training, the encoders do not move: what the joint loss would have done to them it does to
    adapters, where there are any.
    """

    summary = "joint training with one loss"
    source = "paper, table 1"
    joint = True

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the joint logits."""
        return self.joint_loss(model.head(z, batch.present), batch)

    def joint_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the joint logits."""
        return cross_entropy(logits, batch.target)
