"""Encoders without weights: one file per family."""
