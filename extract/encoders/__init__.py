"""Encoders by name: `family:name,option=value`."""
