"""The mean of uni-modal classifiers, assembled by `--method ume` (Du et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


@heads.register("ume")
class EnsembleHead(Head):
    """One linear classifier per modality; the logits are the log of the mean softmax over the present modalities.

        logits = log 1/|P| sum over m in P of softmax(W_m z^m + b_m),    P = the modalities that the clip has

    For a clip without any modality, all classifiers count, at z = 0.
    """

    summary = "the mean of uni-modal softmaxes; --method ume makes it"
    listed = False

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.num_features = shape.num_classes
        self.classifiers = nn.ModuleDict(
            {m: StackedLinear(dim, shape.num_classes, draws) for m, dim in shape.embed_dims.items()}
        )

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to log-probabilities `(run, batch, classes)`."""
        log_p = torch.stack([self.classifiers[m](z[m]).log_softmax(-1) for m in self.modalities], dim=-2)
        counted = present | ~present.any(-1, keepdim=True)  # (run, batch, modalities)
        total = log_p.masked_fill(~counted.unsqueeze(-1), -math.inf).logsumexp(-2)
        return total - counted.sum(-1, keepdim=True).log()

    def classify(self, features: Tensor) -> Tensor:
        """Return the log-probabilities as logits."""
        return features
