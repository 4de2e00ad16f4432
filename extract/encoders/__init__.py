"""Encoders by name: `family:model,option=value`."""

from amr.extract.encoders.base import Encoder, Prepare
from amr.extract.encoders.registry import EncoderInfo, Family, build_encoder, build_requested, families, list_encoders
from amr.extract.encoders.spec import Spec

__all__ = [
    "Encoder",
    "EncoderInfo",
    "Family",
    "Prepare",
    "Spec",
    "build_encoder",
    "build_requested",
    "families",
    "list_encoders",
]
