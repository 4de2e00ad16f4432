"""Fusion heads: from each modality's z to logits. One file a head."""

from amr.fusion.heads import concat
from amr.fusion.heads.base import Head, HeadShape, heads

__all__ = ["Head", "HeadShape", "concat", "heads"]
