"""Fusion heads: from each modality's z to logits. One file per head."""

from amr.fusion.heads import (
    attention,
    bilinear,
    concat,
    cosine,
    cross_attention,
    ensemble,
    film,
    gated,
    multiplicative,
    sum,
    tensor,
)
from amr.fusion.heads.base import Head, HeadShape, head_options, heads

__all__ = [
    "Head",
    "HeadShape",
    "attention",
    "bilinear",
    "concat",
    "cosine",
    "cross_attention",
    "ensemble",
    "film",
    "gated",
    "head_options",
    "heads",
    "multiplicative",
    "sum",
    "tensor",
]
