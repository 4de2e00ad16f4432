"""Extraction in shards: by hand, on several devices, on a cluster."""
