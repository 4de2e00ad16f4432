"""Panels of the picture of `amr explain`."""
