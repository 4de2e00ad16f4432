"""The mean or the weighted pool of uni-modal classifiers, assembled by `--method ume` (Du et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amr.fusion.attribution.ratio import parse_ratio
from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws

_NAME = "--method-option weights"


@dataclass(frozen=True)
class EnsembleOptions:
    """Options of UME.

    Args:
        weights: Weight of each modality, such as 3:1 or audio=3:video=1; 0 leaves one out. None for the mean of
            softmaxes.
    """

    weights: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the modalities."""
        if self.weights is not None:
            parse_ratio(self.weights, name=_NAME)


@heads.register("ume")
class EnsembleHead(Head):
    """One linear classifier per modality, and log-probabilities as logits. Without weights, the mean of the softmaxes:

        p(y | x) = 1/|P| sum over m in P of softmax(W_m z^m + b_m)_y,    P = the modalities that the clip has

    With weights, the logarithmic opinion pool (Genest & Zidek 1986, Combining Probability Distributions):

        log p(y | x) = sum over m in P of w_m log softmax(W_m z^m + b_m)_y - log Z,    sum over m in P of w_m = 1

    A modality of weight 0 is never in P. If P is empty, all classifiers count, at z = 0.
    """

    summary = "the mean or weighted pool of uni-modal softmaxes; --method ume makes it"
    Options = EnsembleOptions
    listed = False

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.num_features = shape.num_classes
        self.classifiers = nn.ModuleDict(
            {m: StackedLinear(dim, shape.num_classes, draws) for m, dim in shape.embed_dims.items()}
        )
        weights = self.options.weights
        parsed = None if weights is None else torch.tensor(parse_ratio(weights, self.modalities, name=_NAME))
        self.register_buffer("weights", parsed, persistent=False)  # (modalities,); the settings have it

    @classmethod
    def check(cls, hidden: int, modalities: Sequence[str], options: EnsembleOptions) -> None:
        """Check that the weights are those of the modalities."""
        if options.weights is not None:
            parse_ratio(options.weights, modalities, name=_NAME)

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to log-probabilities `(run, batch, classes)`."""
        log_p = torch.stack([self.classifiers[m](z[m]).log_softmax(-1) for m in self.modalities], dim=-2)
        if isinstance(self.weights, Tensor):
            return _pool(log_p, present, self.weights)
        counted = present | ~present.any(-1, keepdim=True)  # (run, batch, modalities)
        total = log_p.masked_fill(~counted.unsqueeze(-1), -math.inf).logsumexp(-2)
        return total - counted.sum(-1, keepdim=True).log()

    def classify(self, features: Tensor) -> Tensor:
        """Return the log-probabilities as logits."""
        return features


def _pool(log_p: Tensor, present: Tensor, weights: Tensor) -> Tensor:
    """Log-opinion pool of `(run, batch, modalities, classes)` over the present modalities, `(run, batch, classes)`."""
    counted = weights * present  # (run, batch, modalities)
    counted = torch.where(counted.sum(-1, keepdim=True) > 0, counted, weights)
    counted = counted / counted.sum(-1, keepdim=True)
    return (counted.unsqueeze(-1) * log_p).sum(-2).log_softmax(-1)
