"""Media to embeddings: decode each clip once, run every encoder over it, write the results to one HDF5 cache."""
