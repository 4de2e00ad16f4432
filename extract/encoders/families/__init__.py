"""Encoder families: one file per family."""
