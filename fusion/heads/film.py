"""Feature-wise linear modulation: one modality scales and shifts the others (Perez et al. 2018, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amr.common.registry import unknown
from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.layers import StackedLinear
from amr.fusion.run_axis.seeds import Draws


@dataclass(frozen=True)
class FilmOptions:
    """Options of FiLM.

    Args:
        condition: Modality that conditions the others; None for the first.
    """

    condition: str | None = None


@heads.register("film")
class FilmHead(Head):
    """The conditioning modality c modulates the projections of all others; then a linear layer.

        h_m          = P_m z_m + b_m                          for each m except c
        dgamma, beta = linear in z_c                          one pair for each m except c
        h           = relu(sum_m (1 + dgamma_m) * h_m + beta_m)      (run, batch, width)

    gamma = 1 + dgamma, as in the paper (section 7.2), because factors around 0 would switch features off at the start.
    A ReLU follows the modulation, as in the paper's residual block. The film heads of OGM-GE and BalanceBenchmark have
    neither, and need two modalities of the same size. With a single modality, h = relu(h_m). An absent modality is
    z_m = 0; if the conditioning one is absent, gamma and beta are their biases.
    """

    summary = "one modality, by default the first, scales and shifts the others; --hidden N is its width"
    Options = FilmOptions

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        self.num_features = shape.width
        self.condition = self.options.condition or self.modalities[0]
        others = [m for m in self.modalities if m != self.condition]
        self.modulated = tuple(others or [self.condition])
        self.projections = nn.ModuleList(StackedLinear(shape.embed_dims[m], shape.width, draws) for m in self.modulated)
        factors = 2 * len(others) * shape.width
        self.film = StackedLinear(shape.embed_dims[self.condition], factors, draws) if others else None
        self.classifier = StackedLinear(shape.width, shape.num_classes, draws)

    @classmethod
    def check(cls, hidden: int, modalities: Sequence[str], options: FilmOptions) -> None:
        """Check that the condition is one of the modalities."""
        if options.condition is not None and options.condition not in modalities:
            raise unknown("--head-option condition", options.condition, modalities)

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to features `(run, batch, width)`."""
        projected = [layer(z[m]) for layer, m in zip(self.projections, self.modulated, strict=True)]
        hidden = torch.stack(projected, dim=-2)  # (run, batch, modulated, width)
        if self.film is not None:
            dgamma, beta = self.film(z[self.condition]).unflatten(-1, (2, *hidden.shape[-2:])).unbind(-3)
            hidden = (1 + dgamma) * hidden + beta
        return hidden.sum(-2).relu()

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, width)` to logits `(run, batch, classes)`."""
        return self.classifier(features)
