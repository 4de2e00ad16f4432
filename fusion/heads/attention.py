"""A transformer over modality tokens, and over steps of embeddings that have them (Vaswani et al. 2017, section 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from amr.fusion.heads.base import DEFAULT_WIDTH, Head, HeadShape, heads
from amr.fusion.run_axis.axes import step_mask
from amr.fusion.run_axis.layers import StackedLayerNorm, StackedLinear
from amr.fusion.run_axis.seeds import Draws


@dataclass(frozen=True)
class AttentionOptions:
    """Options of the heads attention and cross-attention.

    Args:
        num_heads: Number of attention heads; it must divide the width.
    """

    num_heads: int = 4

    def __post_init__(self) -> None:
        """Check the number."""
        if self.num_heads < 1:
            raise ValueError(f"--head-option num_heads must be 1 or more, got {self.num_heads}. Pass num_heads=4.")


def check_width(head: str, hidden: int, options: AttentionOptions) -> None:
    """Raise ValueError for a width that the attention heads do not divide.

    Args:
        head: Name of the head.
        hidden: --hidden; 0 for the default width.
        options: Its options.
    """
    num_heads, width = options.num_heads, hidden or DEFAULT_WIDTH
    if width % num_heads != 0:
        nearest = num_heads * max(1, round(width / num_heads))
        raise ValueError(f"--hidden must be a multiple of {num_heads} for --head {head}, got {width}. Pass {nearest}.")


@heads.register("attention")
class AttentionHead(Head):
    """One pre-norm transformer layer (Xiong et al. 2020), read at a learned class token c; then a linear layer.

        tokens  x = c, then for each m: P_m z_m + e_m, (batch, dim) -> 1 token; (batch, steps, dim) -> one per step,
                    plus the sinusoids of its position
        x      <- x + O softmax(Q n(x) (K n(x))^T / sqrt(head_dim)) V n(x)       4 heads, n = layer norm
        x      <- x + B gelu(A n(x))                                             4 * width units
        h       = n(c)                                                           (run, batch, width)

    e_m, the embedding of a modality, is the bias of its projection. With one layer, the outputs of the other tokens are
    never used, so only the class token is computed: the same logits at a fraction of the cost.

    Absent modalities and padded steps get no attention, regardless of their values. A clip without any modality has the
    class token only. Steps whose every dimension is 0 are padding (`step_mask`).
    """

    summary = (
        "a transformer layer over modality tokens and their steps; absent ones are masked; --hidden N is its width"
    )
    Options = AttentionOptions
    takes_steps = True

    def __init__(self, shape: HeadShape, draws: Draws) -> None:
        super().__init__(shape, draws)
        width = self.num_features = shape.width
        self.class_token = draws.normal(width, std=0.02)
        self.projections = nn.ModuleList(StackedLinear(dim, width, draws) for dim in shape.embed_dims.values())
        self.attention_norm = StackedLayerNorm(width, draws)
        self.query = StackedLinear(width, width, draws)
        self.key_value = StackedLinear(width, 2 * width, draws)
        self.out = StackedLinear(width, width, draws)
        self.mlp_norm = StackedLayerNorm(width, draws)
        self.mlp = nn.Sequential(
            StackedLinear(width, 4 * width, draws), nn.GELU(), StackedLinear(4 * width, width, draws)
        )
        self.norm = StackedLayerNorm(width, draws)
        self.classifier = StackedLinear(width, shape.num_classes, draws)

    @classmethod
    def check(cls, hidden: int, modalities: Sequence[str], options: AttentionOptions) -> None:
        """The width must be a multiple of the number of attention heads."""
        check_width("attention", hidden, options)

    def fuse(self, z: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """Fuse each z `(run, batch, dim)` or `(run, batch, steps, dim)` to features `(run, batch, width)`."""
        tokens, mask = self._tokens(z, present)
        token = self.class_token[:, None].expand(-1, tokens.shape[1], -1)  # (run, batch, width)
        tokens = self.attention_norm(torch.cat([token[:, :, None], tokens], dim=2))
        token = token + self._attend(tokens, functional.pad(mask, (1, 0), value=True))
        token = token + self.mlp(self.mlp_norm(token))
        return self.norm(token)

    def classify(self, features: Tensor) -> Tensor:
        """`(run, batch, width)` to logits `(run, batch, classes)`."""
        return self.classifier(features)

    def _tokens(self, z: Mapping[str, Tensor], present: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of every modality, `(run, batch, tokens, width)`, and which are valid, bool `(run, batch, tokens)`."""
        tokens, masks = [], []
        for i, (m, projection) in enumerate(zip(self.modalities, self.projections, strict=True)):
            x, valid = projection(z[m]), present[..., i, None]
            if x.ndim == 3:
                tokens.append(x.unsqueeze(2))
                masks.append(valid)
            else:
                tokens.append(x + sinusoids(x.shape[2], x.shape[3], x.device).to(x.dtype))
                masks.append(valid & step_mask(z[m]))
        return torch.cat(tokens, dim=2), torch.cat(masks, dim=2)

    def _attend(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Attention of the first token to all: `(run, batch, tokens, width)` to `(run, batch, width)`."""
        num_heads = self.options.num_heads
        query = self.query(tokens[:, :1, :1]).unflatten(-1, (num_heads, -1))  # the same for every clip
        key, value = self.key_value(tokens).unflatten(-1, (2, num_heads, -1)).unbind(3)  # (..., heads, head_dim)
        scores = (query * key).sum(-1) / math.sqrt(key.shape[-1])  # (run, batch, tokens, heads)
        weights = scores.masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(2)
        return self.out((weights.unsqueeze(-1) * value).sum(2).flatten(-2))


def sinusoids(num_steps: int, width: int, device: torch.device) -> Tensor:
    """Sines, then cosines, of each position, `(num_steps, width)`, with wavelengths from 2 pi to 20,000 pi."""
    num_rates = (width + 1) // 2  # of an odd width, the last cosine is left out
    rates = torch.exp(torch.arange(num_rates, device=device) * (-math.log(10_000) / num_rates))
    angles = torch.arange(num_steps, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]
