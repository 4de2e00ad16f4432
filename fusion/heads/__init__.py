"""Fusion heads: from each modality's z to logits. One file per head."""

from amr.fusion.heads import (
    attention,
    bilinear,
    concat,
    cosine,
    cross_attention,
    ensemble,
    experts,
    film,
    gated,
    multiplicative,
    shared,
    sum,
    tensor,
)
from amr.fusion.heads.base import Head, HeadShape, head_options, heads
from amr.fusion.heads.experts import build_head

__all__ = [
    "Head",
    "HeadShape",
    "attention",
    "bilinear",
    "build_head",
    "concat",
    "cosine",
    "cross_attention",
    "ensemble",
    "experts",
    "film",
    "gated",
    "head_options",
    "heads",
    "multiplicative",
    "shared",
    "sum",
    "tensor",
]
