"""Encoder families: one file per family. Register it in `amr.extract.encoders.registry`."""

from amr.common.moved import moved_names

__getattr__ = moved_names(__name__, ("amr.extract.encoders.registry",))
