"""Late fusion: a classifier per modality, logits added (Peng et al. 2022, OGM-GE: summation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.closed_form import linear_magnitudes
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


@heads.register("sum")
class SumHead(Head):
    """One linear layer per modality, with or without a hidden ReLU layer before it; logits are added.

        logits = sum_m W_m h_m + b_m,    h_m = z_m,    or h_m = relu(V_m z_m + c_m)

    The fused representation is the concatenation of the h_m. The gradient of a cotangent u with respect to z_m is
    u W_m, or ((u W_m) * [h_m > 0]) V_m with a hidden layer.
    """

    summary = "one layer per modality, logits added; --hidden N puts a ReLU layer before each"
    closed_form = True
    shares_inputs = True

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self._sizes = [shape.hidden or dim for dim in shape.embed_dims.values()]
        self.num_features = sum(self._sizes)
        self.hidden_layers = nn.ModuleList(
            StackedLinear(dim, shape.hidden, draws) for dim in shape.embed_dims.values() if shape.hidden
        )
        self.classifiers = nn.ModuleList(StackedLinear(size, shape.num_classes, draws) for size in self._sizes)

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to the concatenated h_m, `(run, batch, num_features)`."""
        inputs = [z[modality] for modality in self.modalities]
        if self.hidden_layers:
            inputs = [layer(x).relu() for layer, x in zip(self.hidden_layers, inputs, strict=True)]
        return torch.cat(inputs, dim=-1)

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        hidden = features.split(self._sizes, dim=-1)
        return torch.stack([layer(h) for layer, h in zip(self.classifiers, hidden, strict=True)]).sum(0)

    def modality_logits(self, z: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Logits of each modality's own classifier, `(run, batch, classes)`."""
        hidden = self.fuse(z, present=torch.empty(0)).split(self._sizes, dim=-1)
        layers = zip(self.modalities, self.classifiers, hidden, strict=True)
        return {m: layer(h) for m, layer, h in layers}

    def scale_modalities(self, factors: Sequence[float]) -> bool:
        """Multiply the weights of each modality's classifier."""
        layers = cast("list[StackedLinear]", self.classifiers)
        with torch.no_grad():
            for layer, factor in zip(layers, factors, strict=True):
                layer.weight.mul_(factor)
        return True

    def input_gradient(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """Cotangent `(run, batch, classes)` to the gradient of each z, `(run, batch, dim)`."""
        outer, inner = (cast("list[StackedLinear]", layers) for layers in (self.classifiers, self.hidden_layers))
        gradients = [layer.input_gradient(cotangent) for layer in outer]
        if self.hidden_layers:
            hidden = features.split(self._sizes, dim=-1)
            triples = zip(inner, gradients, hidden, strict=True)
            gradients = [layer.input_gradient(g * (h > 0)) for layer, g, h in triples]
        return dict(zip(self.modalities, gradients, strict=True))

    def magnitudes(self, z: Mapping[str, Tensor], features: Tensor, cotangent: Tensor, pooling: str) -> Tensor:
        """Norms of gradient x input, `(run, batch, modalities)`; L2 by `linear_magnitudes`."""
        if pooling != "l2":
            return super().magnitudes(z, features, cotangent, pooling)
        outer, inner = (cast("list[StackedLinear]", layers) for layers in (self.classifiers, self.hidden_layers))
        inputs = [z[m] for m in self.modalities]
        if not self.hidden_layers:
            weight = torch.cat([layer.weight for layer in outer], dim=-1)
            return linear_magnitudes(inputs, weight, cotangent)
        cotangents = [
            layer.input_gradient(cotangent) * (h > 0)
            for layer, h in zip(outer, features.split(self._sizes, dim=-1), strict=True)
        ]
        triples = zip(inputs, inner, cotangents, strict=True)
        return torch.cat([linear_magnitudes([x], layer.weight, c) for x, layer, c in triples], dim=-1)
