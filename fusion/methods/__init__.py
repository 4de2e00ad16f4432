"""How training treats the modalities: one file a method."""

from amr.fusion.methods import naive, unimodal
from amr.fusion.methods.base import Method, methods, parse_options

__all__ = ["Method", "methods", "naive", "parse_options", "unimodal"]
