"""Encoder families: one file per family. Register it in `amr.extract.encoders.registry`."""

from amr.common.moved import moved_modules, moved_names

moved_modules({f"{__name__}.{each}": (f"{__name__}.weightless.{each}",) for each in ("frames", "logmel")})
__getattr__ = moved_names(__name__, ("amr.extract.encoders.registry",))
