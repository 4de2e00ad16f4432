"""Cosines between each modality's z and the weights of the classes, added (Xu et al. 2023, MMCosine)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from amr.common.options import check_finite
from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.axes import of_runs
from amr.fusion.run_axis.layers import StackedProjection, stacked_linear
from amr.fusion.run_axis.seeds import Draws


@dataclass(frozen=True)
class CosineOptions:
    """Options of the cosine head.

    Args:
        scale: Factor of the cosines, s in the paper: 10 on CREMA-D in the authors' repository, 15 in BalanceBenchmark.
    """

    scale: float = 10.0

    def __post_init__(self) -> None:
        """Check the scale."""
        check_finite(self, "scale", above=0, of="--head-option")


@heads.register("cosine")
class CosineHead(Head):
    """The summed cosines of each z_m, or of a hidden ReLU layer of it, with a weight vector per class.

        logits = s sum_m cos(h_m, W_mc),    h_m = z_m,    or h_m = relu(V_m z_m)

    Neither the length of h_m nor that of W_mc counts, so no modality leads because its embeddings or weights are long:
    each has at most s to add. There are no biases, so an absent modality, z_m = 0, adds 0 (the cosine with 0 is 0).

    With n = h_m / |h_m| and v = s sum_c u_c W_mc / |W_mc|, a cotangent u has the gradient (v - n (n . v)) / |h_m| with
    respect to h_m. It is orthogonal to h_m: gradients x inputs add up to 0, their norms, of which shares are made, do
    not. Logits are the same all along the line from 0 to z, so integrated gradients from 0 have these shares, too.
    """

    summary = "cosines of each embedding with the weights of a class, added; --hidden N puts a ReLU layer before each"
    Options = CosineOptions
    closed_form = True
    shares_inputs = True
    scales: Tensor

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self._sizes = [shape.hidden or dim for dim in shape.embed_dims.values()]
        self.num_features = sum(self._sizes)
        self.hidden_layers = nn.ModuleList(
            StackedProjection(dim, shape.hidden, draws) for dim in shape.embed_dims.values() if shape.hidden
        )
        self.classifiers = nn.ModuleList(StackedProjection(size, shape.num_classes, draws) for size in self._sizes)
        scales = torch.full((len(self._sizes),), float(self.options.scale))
        self.register_buffer("scales", scales, persistent=False)  # (modalities,); the settings have it

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to the concatenated h_m, `(run, batch, num_features)`."""
        return torch.cat(self._hidden(z), dim=-1)

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        return torch.stack(self._cosines(features.split(self._sizes, dim=-1))).sum(0)

    def modality_logits(self, z: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """s cos(h_m, W_mc) of each modality, `(run, batch, classes)`."""
        return dict(zip(self.modalities, self._cosines(self._hidden(z)), strict=True))

    def scale_modalities(self, factors: Sequence[float]) -> bool:
        """Multiply s of each modality."""
        self.scales.mul_(self.scales.new_tensor(factors))
        return True

    def input_gradient(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """Cotangent `(run, batch, classes)` to the gradient of each z, `(run, batch, dim)`."""
        hidden, gradients = features.split(self._sizes, dim=-1), []
        for h, weight in zip(hidden, self._weights(), strict=True):
            v = torch.bmm(cotangent, weight)
            unit, length = (of_runs(x, len(v)) for x in _direction(h))
            gradients.append((v - unit * (unit * v).sum(-1, keepdim=True)) / length)
        if self.hidden_layers:
            layers = cast("list[StackedProjection]", self.hidden_layers)
            triples = zip(layers, gradients, hidden, strict=True)
            gradients = [layer.input_gradient(g * (h > 0)) for layer, g, h in triples]
        return dict(zip(self.modalities, gradients, strict=True))

    def _hidden(self, z: Mapping[str, Tensor]) -> list[Tensor]:
        """h_m of each modality."""
        inputs = [z[m] for m in self.modalities]
        if not self.hidden_layers:
            return inputs
        return [layer(x).relu() for layer, x in zip(self.hidden_layers, inputs, strict=True)]

    def _cosines(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        """s cos(h_m, W_mc) of each modality, `(run, batch, classes)`."""
        return [stacked_linear(_direction(h)[0], w) for h, w in zip(hidden, self._weights(), strict=True)]

    def _weights(self) -> list[Tensor]:
        """s W_mc / |W_mc| of each modality, `(run, classes, size)`."""
        layers = cast("list[StackedProjection]", self.classifiers)
        return [scale * _direction(layer.weight)[0] for scale, layer in zip(self.scales, layers, strict=True)]


def _direction(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / |x| over the last axis, and |x|; 0 and 1 for x = 0."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    length = length.masked_fill(length == 0, 1)
    return x / length, length
