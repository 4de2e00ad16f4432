"""The cache, one HDF5 file: the only folder that reads and writes HDF5."""
