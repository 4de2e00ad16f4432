"""Encoders by name: `family:name,option=value`."""

from amr.extract.encoders.base import Encoder, EncoderInfo, Prepare, build_encoder, families, list_encoders
from amr.extract.encoders.spec import Spec

__all__ = ["Encoder", "EncoderInfo", "Prepare", "Spec", "build_encoder", "families", "list_encoders"]
