"""Gated Multimodal Unit: a gate for each modality that depends on all (Arevalo et al. 2017, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


@heads.register("gated")
class GatedHead(Head):
    """The unit for any number of modalities (figure 2a of the paper), then a linear layer.

        h_m = tanh(W_m z_m + b_m)
        g_m = sigmoid(G_m [z_1, ..., z_M] + a_m)
        h   = sum_m g_m * h_m                      (run, batch, width)

    The paper ties the gates of two modalities (g and 1 - g; figure 2b). Here each modality has its own gate, so two
    modalities are no special case. An absent modality is z_m = 0: its bias remains, as in any linear layer.
    """

    summary = "gated multimodal unit: tanh layers, each times a sigmoid gate of all; --hidden N is its width"

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        dims = shape.embed_dims.values()
        self.num_features = shape.width
        self.layers = nn.ModuleList(StackedLinear(dim, shape.width, draws) for dim in dims)
        self.gates = StackedLinear(sum(dims), len(dims) * shape.width, draws)
        self.classifier = StackedLinear(shape.width, shape.num_classes, draws)

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to features `(run, batch, width)`."""
        inputs = [z[modality] for modality in self.modalities]
        gates = self.gates(torch.cat(inputs, dim=-1)).sigmoid()  # (run, batch, modalities * width)
        hidden = [layer(x).tanh() for layer, x in zip(self.layers, inputs, strict=True)]
        return (gates * torch.cat(hidden, dim=-1)).unflatten(-1, (len(hidden), -1)).sum(-2)

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, width)` to logits `(run, batch, classes)`."""
        return self.classifier(features)
