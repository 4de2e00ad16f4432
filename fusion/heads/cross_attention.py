"""Directional cross-modal attention, over steps of embeddings that have them (Tsai et al. 2019, MulT, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor, nn

from amr.fusion.heads.attention import AttentionOptions, check_width, sinusoids
from amr.fusion.heads.base import Head, HeadShape, heads
from amr.fusion.run_axis.axes import step_mask
from amr.fusion.run_axis.layers import StackedLayerNorm, StackedLinear
from amr.fusion.run_axis.seeds import Draws


class CrossModalLayer(nn.Module):
    """One pre-norm transformer layer, in which the steps of a target attend to those of a source (paper, equation 3).

    y  = x_target + O softmax(Q n(x_target) (K n(x_source))^T / sqrt(head_dim)) V n(x_source)     n = layer norm
    y <- n(y + B relu(A n(y)))                                                               4 * width units
    """

    def __init__(self, width: int, num_heads: int, draws: Draws) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = StackedLayerNorm(width, draws)
        self.query = StackedLinear(width, width, draws)
        self.key_value = StackedLinear(width, 2 * width, draws)
        self.out = StackedLinear(width, width, draws)
        self.mlp_norm = StackedLayerNorm(width, draws)
        self.mlp = nn.Sequential(
            StackedLinear(width, 4 * width, draws), nn.ReLU(), StackedLinear(4 * width, width, draws)
        )
        self.norm = StackedLayerNorm(width, draws)

    def forward(self, target: Tensor, source: Tensor, valid: Tensor) -> Tensor:
        """Target `(run, batch, steps, width)`, as changed by the source.

        Args:
            target: Steps of the target.
            source: Steps of the source, `(run, batch, source_steps, width)`.
            valid: Bool `(run, batch, source_steps)`: the steps that the source has; if none, nothing is attended to.
        """
        target = target + self._attend(target, source, valid)
        return self.norm(target + self.mlp(self.mlp_norm(target)))

    def _attend(self, target: Tensor, source: Tensor, valid: Tensor) -> Tensor:
        query = self._heads(self.query(self.attention_norm(target)))  # (run, batch, heads, steps, head_dim)
        key, value = map(self._heads, self.key_value(self.attention_norm(source)).chunk(2, dim=-1))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        some = valid.any(-1)[..., None, None]  # (run, batch, 1, 1)
        attended_to = valid[..., None, None, :] | ~some.unsqueeze(-1)  # softmax over no step is not defined
        weights = scores.masked_fill(~attended_to, -torch.inf).softmax(-1)
        joined = (weights @ value).transpose(-2, -3).flatten(-2)  # (run, batch, steps, width)
        return self.out(joined) * some.to(joined.dtype)

    def _heads(self, x: Tensor) -> Tensor:
        """`(run, batch, steps, width)` to `(run, batch, heads, steps, head_dim)`."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)


@heads.register("cross-attention")
class CrossAttentionHead(Head):
    """Every modality attends to each other one, by a layer of its own; the means over its steps; then a linear layer.

        x_m     = P_m z_m + p_m, plus sinusoids of the position if z_m has steps         (run, batch, steps, width)
        y_{n>m} = CrossModalLayer(x_m, x_n)                                   for each ordered pair of n and m
        h       = the means of all y_{n>m} over the steps of m                (run, batch, M (M - 1) width)

    In the paper, convolutions over steps make x_m, several layers follow each other, and the y of each m go through a
    transformer of their own, read at the last step. One layer and the mean are enough for embeddings of encoders, and
    the mean is defined for any number of steps. Parameters grow with the square of the number of modalities.

    Padded steps (`step_mask`) and absent modalities get no attention and have no part in means, regardless of their
    values: an absent target has h = 0, and with an absent source y is x_m after the feed-forward layer. A modality
    without steps is one step. A single modality attends to itself.
    """

    summary = "each modality attends to the steps of each other one; absent ones are masked; --hidden N is its width"
    Options = AttentionOptions
    takes_steps = True

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        width, count = shape.width, len(self.modalities)
        self._pairs = list(permutations(range(count), 2)) or [(0, 0)]  # target, source
        self.num_features = len(self._pairs) * width
        self.projections = nn.ModuleList(StackedLinear(dim, width, draws) for dim in shape.embed_dims.values())
        self.layers = nn.ModuleList(CrossModalLayer(width, self.options.num_heads, draws) for _ in self._pairs)
        self.classifier = StackedLinear(self.num_features, shape.num_classes, draws)

    @classmethod
    def check(cls, hidden: int, modalities: Sequence[str], options: AttentionOptions) -> None:
        """The width must be a multiple of the number of attention heads."""
        check_width("cross-attention", hidden, options)

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` or `(run, batch, steps, dim)` to features `(run, batch, num_features)`."""
        steps, valid = zip(*(self._steps(i, z[m], present[..., i]) for i, m in enumerate(self.modalities)), strict=True)
        means = []
        for (target, source), layer in zip(self._pairs, self.layers, strict=True):
            y, has = layer(steps[target], steps[source], valid[source]), valid[target].unsqueeze(-1)
            means.append(y.masked_fill(~has, 0).sum(2) / has.sum(2).clamp_min(1))
        return torch.cat(means, dim=-1)

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, num_features)` to logits `(run, batch, classes)`."""
        return self.classifier(features)

    def _steps(self, i: int, z: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Steps of a modality, `(run, batch, steps, width)`, and which are valid, bool `(run, batch, steps)`."""
        x, valid = self.projections[i](z), present.unsqueeze(-1)
        if x.ndim == 3:
            return x.unsqueeze(2), valid
        return x + sinusoids(x.shape[2], x.shape[3], x.device).to(x.dtype), valid & step_mask(z)
