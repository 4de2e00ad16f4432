"""Calibrating multimodal learning (Ma et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.common.options import check_finite
from amr.fusion.balance import confidence_drops, keep_modalities, nested_subsets
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class CMLOptions:
    """Settings of CML.

    Args:
        weight: Weight of the penalty on confidence that falls where a modality is added; 0 is naive training.
    """

    weight: float = 0.1

    def __post_init__(self) -> None:
        """Check the weight."""
        check_finite(self, "weight")


@methods.register("cml")
class CML(Method):
    """Confidence must not rise when a modality is taken away (Ma et al. 2023, Calibrating Multimodal Learning).

        S_1 < S_2 < ... < all           a chain of subsets of the modalities, in random order, drawn for each batch
        pen_i = sum_k relu( max softmax f_i(S_k) - max softmax f_i(S_k+1) )
        loss  = L + weight mean_i pen_i

    A link of the chain is left out where S_k is right and S_k+1 is wrong, because less confidence is then as it should
    be, and where the clip has no modality of S_k. Modalities outside S are zero and absent to the head. It calibrates
    predictions from fewer modalities; it does not balance what the modalities are used for.

    The authors' repository has this loss for other models than classifiers with a fusion head. BalanceBenchmark draws
    one order per epoch and takes relu of the sum over the batch, so that one clip's fall hides another's rise; here it
    is of each clip, as in the paper. BalanceBenchmark's weight of 0.1 is the default; up to 1 is in use.

    On a cache it needs no adapters. On CREMA-D embeddings, accuracy with a weight of 1 differs from that of naive
    training no more than between seeds.
    """

    summary = "confidence must not rise when a modality is taken away"
    citation = "Ma et al. 2023, Calibrating Multimodal Learning"
    Options = CMLOptions
    needs_classes = True

    def __init__(self, options: CMLOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        self.joint = self.graph_safe = options.weight == 0

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Joint loss plus the weighted penalty, `(run,)`."""
        if self.joint:
            return super().loss(model, batch, z)
        chain = nested_subsets(self.context.noise.uniform(batch.present.shape[-1]))  # (subsets, run, modalities)
        kept = chain.unsqueeze(-2) & batch.present  # (subsets, run, batch, modalities)
        fewer = [model.head(keep_modalities(z, each), each) for each in kept[:-1]]
        logits = torch.stack([*fewer, model.head(z, batch.present)])
        penalty = confidence_drops(logits, batch.target, kept.any(-1)).mean(-1)
        return self.joint_loss(logits[-1], batch) + self.options.weight * penalty
