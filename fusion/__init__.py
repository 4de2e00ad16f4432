"""Cached embeddings to fitted heads: attribution, regularizer, methods, one trainer."""
