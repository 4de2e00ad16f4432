"""Encoders trained on clips of one's own."""
