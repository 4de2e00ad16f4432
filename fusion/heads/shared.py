"""One classifier of all modalities, trained by `--method mla` (Zhang et al. 2024, MLA)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from amr.fusion.balance.projection import entropy_weights
from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


@dataclass(frozen=True)
class MLAOptions:
    """Settings of MLA.

    Args:
        answer: Weight of the modalities in an answer: entropy, by how sure each is of the clip, or even.
        projection: Whether gradients of the shared classifier are projected away from earlier inputs.
    """

    answer: str = "entropy"
    projection: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.answer not in ("entropy", "even"):
            raise ValueError(
                f"--method-option answer must be entropy or even, got {self.answer!r}. Pass answer=entropy."
            )


@heads.register("mla")
class SharedHead(Head):
    """One linear classifier reads every modality, and the answers are averaged:

        out_m  = W z^m + b,    the same W and b for all modalities
        logits = sum over m in P of w_m out_m,    sum over m in P of w_m = 1,    P = the modalities that the clip has

    w_m is even, or exp(-H_m) normalized, with H_m the entropy of softmax(out_m) (`entropy_weights`). If P is empty, all
    modalities count, at z = 0.
    """

    summary = "one linear classifier of all modalities, their logits averaged; --method mla trains it"
    Options = MLAOptions
    listed = False

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        sizes = set(shape.embed_dims.values())
        if len(sizes) > 1:
            found = ", ".join(f"{m} {dim}" for m, dim in shape.embed_dims.items())
            raise ValueError(
                "--method mla must have encodings of one size, as one classifier reads all modalities, "
                f"got {found}. Choose another --method, or encoders of the same size."
            )
        self.num_features = shape.num_classes
        self.classifier = StackedLinear(sizes.pop(), shape.num_classes, draws)

    def outputs(self, z: Mapping[str, Tensor]) -> Tensor:
        """Logits of each modality, `(modalities, run, batch, classes)`."""
        return torch.stack([self.classifier(z[m]) for m in self.modalities])

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to the weighted mean of the logits, `(run, batch, classes)`."""
        out = self.outputs(z)
        if self.options.answer == "entropy":
            weights = entropy_weights(out, present)
        else:
            counted = (present | ~present.any(-1, keepdim=True)).movedim(-1, 0)
            weights = counted / counted.sum(0)
        return (weights.unsqueeze(-1) * out).sum(0)

    def classify(self, features: Tensor) -> Tensor:
        """Return the weighted mean as logits."""
        return features
