"""The cache: one HDF5 file. Only this folder reads and writes HDF5."""

from amr.common.moved import moved_names

__getattr__ = moved_names(__name__, ("amr.extract.cache.reader",))
