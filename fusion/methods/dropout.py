"""Dropout over the fused units (Hinton et al. 2012)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class DropoutOptions:
    """Settings of dropout.

    Args:
        p: Probability that a unit is dropped; 0 is naive training.
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        """Check the probability."""
        if not 0 <= self.p < 1:
            raise ValueError(f"--method-option p must be at least 0 and below 1, got {self.p}. Pass p=0.5.")


@methods.register("dropout")
class Dropout(Method):
    """Each fused unit h_j is dropped with probability p, and the rest is rescaled (Hinton et al. 2012).

        h = fuse(z),    h'_j = h_j b_j / (1 - p),  b_j ~ Bernoulli(1 - p),    logits = classify(h')

    Units are scaled in training, as in every library, instead of weights in testing. Attribution and test use all of h.

    On a cache, unlike in `amr train-encoders`, only the fused units are dropped. The hidden layers of encoders, from
    which the gain in the source comes, are frozen. For a linear concat head the fused units are the z themselves.
    """

    summary = "joint training with dropout over the fused units"
    citation = "Hinton et al. 2012"
    Options = DropoutOptions

    def __init__(self, options: DropoutOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = self.graph_safe = options.p == 0  # p = 0 must be naive training, bit for bit

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the joint logits from the units that are kept, `(run,)`."""
        p = self.options.p
        features = model.head.fuse(z, batch.present)  # (run, batch, num_features)
        kept = self.context.noise.uniform(*features.shape[1:]) >= p
        return self.joint_loss(model.head.classify(features * kept / (1 - p)), batch)
