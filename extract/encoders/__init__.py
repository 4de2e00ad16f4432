"""Encoders by name: `family:model,option=value`."""

from amr.extract.encoders.base import Encoder, Prepare
from amr.extract.encoders.registry import EncoderInfo, Family, build_encoder, families, list_encoders
from amr.extract.encoders.spec import Spec

__all__ = ["Encoder", "EncoderInfo", "Family", "Prepare", "Spec", "build_encoder", "families", "list_encoders"]
