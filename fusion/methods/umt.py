"""Uni-modal teachers (Du et al. 2021, Improving Multi-Modal Learning with Uni-Modal Teachers)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import Method, Setting, mean_over, methods
from amr.fusion.model import FusionModel


@dataclass(frozen=True)
class UMTOptions:
    """Settings of UMT.

    Args:
        weight: of the distance to the teachers; 0 is naive training.
    """

    weight: float = 50.0

    def __post_init__(self) -> None:
        """A weight."""
        if not 0 <= self.weight < inf:
            raise ValueError(f"--method-option weight must be 0 or more, got {self.weight}. Pass weight=50.")


@methods.register("umt")
class UniModalTeachers(Method):
    """Each modality's encoding is kept near that of a teacher that learned from it alone (Du et al. 2021).

        loss = task + weight sum_m MSE(z^m, t^m),    t^m = adapter of the trained uni-modal run, frozen

    MSE is the mean over dimensions and over the clips that have m. Teachers are trained first, with the same settings
    and seed, and kept at their best epoch by val. The weight is the source's 50 (BalanceBenchmark takes 10): from 1
    to 50 the val accuracies on CREMA-D embeddings and on synthetic clips do not differ beyond seeds, and the weaker
    modality's part gains most at 50.

    Against end-to-end training, teacher and student share the frozen encoder and differ in its adapter alone, so a
    teacher can only keep the joint loss from turning the adapter away from what one modality's classes need.
    """

    summary = "joint training with each adapter kept near one that was trained alone"
    citation = "Du et al. 2021, Uni-Modal Teacher"
    end_to_end = True
    Options = UMTOptions
    needs_adapter = True
    graph_safe = True

    def __init__(self, options: UMTOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        taught = setting.model.modalities if options.weight > 0 else ()
        self.teachers = {m: setting.fit_unimodal(m).model.eval().requires_grad_(False) for m in taught}

    def loss(self, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
        """The task's loss and the distance to the teachers."""
        loss = super().loss(model, batch, z)
        for i, (m, teacher) in enumerate(self.teachers.items()):
            there = batch.present[..., i]
            alone = Batch({m: batch.embeddings[m]}, there.unsqueeze(-1), batch.target)
            distance = (z[m] - teacher.encode(alone)[m]).square()  # (run, batch, [steps,] dim)
            loss = loss + self.options.weight * mean_over(_per_clip(distance), there)
        return loss


def _per_clip(values: Tensor) -> Tensor:
    """`(run, batch, ...)` to `(run, batch)`: the mean over the rest."""
    return torch.flatten(values, 2).mean(-1)
