"""Datasets whose official lists do not ship: they are read from the user's own copy."""
