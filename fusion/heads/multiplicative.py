"""Multiplicative interactions: a bilinear form of every two modalities (Jayakumar et al. 2020, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.layers import StackedLinear, StackedProjection
from amr.fusion.run_axis.seeds import Draws


@dataclass(frozen=True)
class MultiplicativeOptions:
    """Options of the multiplicative head.

    Args:
        reduced_dim: Size to which each modality is reduced before it is multiplied with others; the linear terms are
            not reduced.
    """

    reduced_dim: int = 16

    def __post_init__(self) -> None:
        """Check the size."""
        if self.reduced_dim < 1:
            raise ValueError(
                f"--head-option reduced_dim must be 1 or more, got {self.reduced_dim}. Pass reduced_dim=16."
            )


@heads.register("multiplicative")
class MultiplicativeHead(Head):
    """The paper's layer of two inputs x and z, for any number of modalities, as logits or before a hidden ReLU layer.

        f(x, z) = z^T W x + z^T U + V x + b                                  (paper, equation 1; W a 3D tensor)
        f       = sum_{m<n} r_m^T W_mn r_n + sum_m V_m z_m + b,    r_m = P_m z_m       (run, batch, units)
        logits  = f,    or, with a hidden layer of --hidden units,    C relu(f) + c

    For two modalities, f is the paper's with a W of low rank, P_m^T W_mn P_n: a whole one would have 512 * 512 weights
    per unit. It is `concat` plus what every two modalities say together, so a modality that another one gates, scales
    or inverts can be learned by one layer. An absent modality is z_m = 0: its products and its linear term are 0.
    """

    summary = "one layer over the embeddings and the products of every two; --hidden N makes it a ReLU layer"
    Options = MultiplicativeOptions

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        dims, reduced_dim = shape.embed_dims.values(), self.options.reduced_dim
        self._pairs = list(combinations(range(len(dims)), 2))
        num_inputs = sum(dims) + len(self._pairs) * reduced_dim**2
        self.num_features = shape.hidden or num_inputs
        self.projections = nn.ModuleList(StackedProjection(dim, reduced_dim, draws) for dim in dims)
        self.fusion = StackedLinear(num_inputs, shape.hidden, draws) if shape.hidden else None
        self.classifier = StackedLinear(self.num_features, shape.num_classes, draws)

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` to features `(run, batch, num_features)`."""
        inputs = [z[m] for m in self.modalities]
        reduced = [projection(x) for projection, x in zip(self.projections, inputs, strict=True)]
        products = [(reduced[m].unsqueeze(-1) * reduced[n].unsqueeze(-2)).flatten(-2) for m, n in self._pairs]
        terms = torch.cat([*inputs, *products], dim=-1)  # the V_m and the W_mn are the columns of one layer
        return terms if self.fusion is None else self.fusion(terms).relu()

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        return self.classifier(features)
