"""Classifiers of z of each modality, which a method trains beside the head and then discards."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amr.fusion.balance import unimodal_logits
from amr.fusion.data.clips import Batch
from amr.fusion.methods.base import MethodContext
from amr.fusion.model import FusionModel
from amr.fusion.run_axis.axes import mean_over_steps
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


class OwnClassifiers(nn.Module):
    """One linear classifier per modality, `(run, batch, dim)` to `(run, batch, classes)`; of steps, on their mean.

    Args:
        context: Context of the method.
    """

    def __init__(self, context: MethodContext) -> None:
        super().__init__()
        shape, draws = context.model.shape.head_shape, Draws(context.seeds, "own classifiers")
        layers = {m: StackedLinear(dim, shape.num_classes, draws) for m, dim in shape.embed_dims.items()}
        self.layers = nn.ModuleList(layers.values()).to(context.train.target.device)
        self.modalities = tuple(layers)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Logits of each modality, `(modalities, run, batch, classes)`."""
        return torch.stack(
            [layer(mean_over_steps(z[m])) for m, layer in zip(self.modalities, self.layers, strict=True)]
        )


def unimodal_outputs(own: OwnClassifiers | None, model: FusionModel, batch: Batch, z: Mapping[str, Tensor]) -> Tensor:
    """Logits of each modality, `(modalities, run, batch, classes)`: its own classifier's, or its part of the head's."""
    return unimodal_logits(model.head, z, batch.present) if own is None else own(z)
