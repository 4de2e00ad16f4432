"""Decode media files into sound and frames."""
