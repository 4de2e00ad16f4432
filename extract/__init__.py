"""Media to embeddings: decode each clip once, run every encoder over it, keep the result in one HDF5 cache."""
