"""Uni-modal teachers (Du et al. 2021, Improving Multi-Modal Learning with Uni-Modal Teachers)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, MethodContext, mean_over, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class UMTOptions:
    """Settings of UMT.

    Args:
        weight: Weight of the distance to the teachers; 0 is naive training.
    """

    weight: float = 50.0

    def __post_init__(self) -> None:
        """Check the weight."""
        if not 0 <= self.weight < inf:
            raise ValueError(f"--method-option weight must be 0 or more, got {self.weight}. Pass weight=50.")


@methods.register("umt")
class UniModalTeachers(Method):
    """Each modality's encoding is pulled to that of a teacher, trained on this modality only (Du et al. 2021).

        loss = task + weight sum_m MSE(z^m, t^m),    t^m = adapter of the trained uni-modal run, frozen

    MSE is the mean over dimensions and over the clips that have m. Teachers are trained first, with the same settings
    and seed, and used at their best epoch by val. The weight is 50, as in the source (BalanceBenchmark has 10). From 1
    to 50, val accuracies on CREMA-D embeddings and on synthetic clips differ no more than between seeds, and the weaker
    modality gains most at 50.

    On a cache, unlike in `amr train-encoders`, teacher and student share the frozen encoder and differ in the adapter
    only. So a teacher can only keep the joint loss from turning the adapter away from what one modality needs.
    """

    summary = "joint training with each adapter pulled to one that was trained on its modality only"
    citation = "Du et al. 2021, Uni-Modal Teacher"
    Options = UMTOptions
    needs_adapter = True
    fits_unimodal = True
    graph_safe = True

    def __init__(self, options: UMTOptions, context: MethodContext) -> None:
        super().__init__(options, context)
        modalities = context.model.modalities if options.weight > 0 else ()
        self.teachers = {m: context.fit_unimodal(m).model.eval().requires_grad_(False) for m in modalities}

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """Task loss plus the weighted distance to the teachers, `(run,)`."""
        loss = super().loss(model, batch, z)
        for i, (m, teacher) in enumerate(self.teachers.items()):
            distance = (z[m] - teacher.encode(batch.only(m))[m]).square()  # (run, batch, [steps,] dim)
            loss = loss + self.options.weight * mean_over(_per_clip(distance), batch.present[..., i])
        return loss


def _per_clip(values: Tensor) -> Tensor:
    """Mean over all other axes: `(run, batch, ...)` to `(run, batch)`."""
    return torch.flatten(values, 2).mean(-1)
