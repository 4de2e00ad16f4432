"""One linear layer over the concatenated z, with or without a hidden layer (paper, table 1: used in every row)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.closed_form import linear_magnitudes
from amr.fusion.run_axis.layers import StackedLinear, stacked_linear
from amr.fusion.run_axis.seeds import Draws


@heads.register("concat")
class ConcatHead(Head):
    """A linear layer over the concatenated z, with or without a hidden ReLU layer before it.

        logits = W z + b,    z = [z_1, ..., z_M]              or, with a hidden layer,
        logits = V h + c,    h = relu(W z + b)

    The gradient of a cotangent u with respect to z is u W, or ((u V) * [h > 0]) W with a hidden layer.
    """

    summary = "one layer over the concatenated embeddings; --hidden N puts a ReLU layer before it"
    closed_form = True
    shares_inputs = True

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        joined = sum(shape.embed_dims.values())
        self.num_features = shape.hidden or joined
        self.fusion = StackedLinear(joined, shape.hidden, draws) if shape.hidden else None
        self.classifier = StackedLinear(self.num_features, shape.num_classes, draws)

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to features `(run, batch, num_features)`."""
        joined = torch.cat([z[modality] for modality in self.modalities], dim=-1)
        return joined if self.fusion is None else self.fusion(joined).relu()

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        return self.classifier(features)

    def modality_logits(self, z: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """W_m z^m + b / M, `(run, batch, classes)`; None with a hidden layer."""
        if self.fusion is not None:
            return None
        weights = self.classifier.weight.split(list(self.shape.embed_dims.values()), dim=-1)
        bias = self.classifier.bias / len(weights)
        return {m: stacked_linear(z[m], weight, bias) for m, weight in zip(self.modalities, weights, strict=True)}

    def scale_modalities(self, factors: Sequence[float]) -> bool:
        """Multiply the columns of W of each modality; False with a hidden layer."""
        if self.fusion is not None:
            return False
        with torch.no_grad():
            weights = self.classifier.weight.split(list(self.shape.embed_dims.values()), dim=-1)
            for weight, factor in zip(weights, factors, strict=True):
                weight.mul_(factor)
        return True

    def input_gradient(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """Cotangent `(run, batch, classes)` to the gradient of each z, `(run, batch, dim)`."""
        gradient = self.classifier.input_gradient(cotangent)
        if self.fusion is not None:
            gradient = self.fusion.input_gradient(gradient * (features > 0))
        gradients = gradient.split(list(self.shape.embed_dims.values()), dim=-1)
        return dict(zip(self.modalities, gradients, strict=True))

    def magnitudes(self, z: Mapping[str, Tensor], features: Tensor, cotangent: Tensor, pooling: str) -> Tensor:
        """Norms of gradient x input, `(run, batch, modalities)`; L2 by `linear_magnitudes`."""
        if pooling != "l2":
            return super().magnitudes(z, features, cotangent, pooling)
        first = self.classifier
        if self.fusion is not None:
            cotangent, first = self.classifier.input_gradient(cotangent) * (features > 0), self.fusion
        return linear_magnitudes([z[m] for m in self.modalities], first.weight, cotangent)
