"""Fusion heads: from each modality's z to logits. One file per head."""

from amr.fusion.heads import attention, bilinear, concat, ensemble, film, gated, shared, sum
from amr.fusion.heads.base import Head, HeadShape, head_options, heads

__all__ = [
    "Head",
    "HeadShape",
    "attention",
    "bilinear",
    "concat",
    "ensemble",
    "film",
    "gated",
    "head_options",
    "heads",
    "shared",
    "sum",
]
