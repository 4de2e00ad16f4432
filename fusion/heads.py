"""Fusion heads: from each modality's z to logits, for a group of runs of one shape.

A head is two steps, `fuse` to `(run, batch, num_features)` and `classify` to logits, so that dropout over the fused
units has its place. A head that can write its gradient by hand also gives `pullback`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amr.data_manifests.registry import Registry
from amr.fusion.stacked import Draws, StackedLinear


@dataclass(frozen=True)
class HeadShape:
    """What a head is built for.

    Args:
        embed_dims: modality to size of its z, in the order of the modalities.
        num_classes: at least 2.
        hidden: units of a hidden layer; 0 for none.
    """

    embed_dims: Mapping[str, int]
    num_classes: int
    hidden: int = 0


class Head(nn.Module):
    """What the trainer, the methods and the attribution ask of a head.

    Attributes:
        num_features: size of the fused representation.
        has_pullback: whether `pullback` is there; else gradients are autograd's.
    """

    summary = ""
    has_pullback = False
    num_features: int

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__()
        self.shape = shape
        self.modalities = tuple(shape.embed_dims)

    @classmethod
    def check(cls, hidden: int) -> None:
        """Refuse settings that the head cannot use."""

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Each `(run, batch, dim)` to `(run, batch, num_features)`."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        raise NotImplementedError

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Each `(run, batch, dim)` to logits `(run, batch, classes)`."""
        return self.classify(self.fuse(z))

    def pullback(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """`(run, batch, classes)` at the fused `features` to the gradient of each z, as ordinary matrix products."""
        raise NotImplementedError


heads: Registry[type[Head]] = Registry("--head")


@heads.register("concat")
class ConcatHead(Head):
    """One linear layer over the joined z, or one hidden ReLU layer and a linear one.

    The gradient of a cotangent u is u W for the linear head and ((u V) * [h > 0]) W for the hidden layer.
    """

    summary = "one layer over the joined embeddings; --hidden N puts a ReLU layer before it"
    has_pullback = True

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        joined = sum(shape.embed_dims.values())
        self.num_features = shape.hidden or joined
        self.fusion = StackedLinear(joined, shape.hidden, draws) if shape.hidden else None
        self.classifier = StackedLinear(self.num_features, shape.num_classes, draws)

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Each `(run, batch, dim)` to `(run, batch, num_features)`."""
        joined = torch.cat([z[modality] for modality in self.modalities], dim=-1)
        return joined if self.fusion is None else self.fusion(joined).relu()

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        return self.classifier(features)

    def pullback(self, features: Tensor, cotangent: Tensor) -> dict[str, Tensor]:
        """`(run, batch, classes)` to each `(run, batch, dim)`."""
        gradient = self.classifier.pullback(cotangent)
        if self.fusion is not None:
            gradient = self.fusion.pullback(gradient * (features > 0))
        parts = gradient.split(list(self.shape.embed_dims.values()), dim=-1)
        return dict(zip(self.modalities, parts, strict=True))
